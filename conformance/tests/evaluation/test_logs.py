"""What llama.cpp's tools print is read; anything else is refused.

The files in `logs/` are real outputs: llama-perplexity and llama-bench of the llama.cpp in llama-cpp-python
0.3.36, built with GCC 12.2, on SmolLM2-135M in F16 and Q8_0.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from q8a8_evaluation.llamacpp_logs import (
    BenchRow,
    LogError,
    is_bench_output,
    is_perplexity_log,
    parse_bench,
    parse_perplexity,
)

LOGS = Path(__file__).parent / "logs"
PERPLEXITY = ["perplexity-f16.log", "perplexity-q8_0.log"]
BENCH = ["bench-f16.md", "bench-q8_0.md", "bench-q8_0.json", "bench-q8_0.jsonl", "bench-q8_0.csv"]


def log(name: str) -> str:
    """Return the text of a real output."""
    return (LOGS / name).read_text(encoding="utf-8")


def test_perplexity() -> None:
    """The estimate, its error, and the chunks, read off the file by eye."""
    read = parse_perplexity(log("perplexity-q8_0.log"), "q8")
    assert (read.perplexity, read.error, read.n_ctx) == (30.8409, 2.97161, 512)
    assert read.running == (20.2108, 28.7728, 27.8133, 30.8409)


def test_chunks_are_recovered() -> None:
    """The chunks' means have the estimates as the exponentials of their running means."""
    read = parse_perplexity(log("perplexity-f16.log"), "f16")
    chunks = read.chunk_log_likelihoods()
    assert chunks[0] == math.log(20.1478)
    assert math.exp(sum(chunks[:2]) / 2) == pytest.approx(28.7271, rel=1e-12)
    assert math.exp(sum(chunks) / 4) == pytest.approx(30.7747, rel=1e-12)


def test_perplexity_without_times() -> None:
    """Older versions print the same without a time in front, and all on the standard output."""
    text = "perplexity: calculating perplexity over 2 chunks, n_ctx=128, batch_size=512, n_seq=4\n"
    text += "[1]5.5000,[2]6.0000,\nFinal estimate: PPL = 6.0000 +/- 0.12345\n"
    assert parse_perplexity(text, "old").running == (5.5, 6.0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "0 lines `Final estimate"),
        ("perplexity: 5.68", "0 lines `Final estimate"),
        ("Final estimate: PPL = nan +/- 0.1", "the final estimate is nan"),
        ("Final estimate: PPL = 5 +/- inf", "the final estimate is 5 +/- inf"),
        ("Final estimate: PPL = 0 +/- 0.1", "the final estimate is 0"),
        ("Final estimate: PPL = 5 +/- 1\nFinal estimate: PPL = 5 +/- 1", "2 lines `Final estimate"),
        ("[1]4.0,[3]5.0,Final estimate: PPL = 5 +/- 1", "2 chunks are numbered 1, 3, of 2"),
        ("[1]4.0,[2]5.0,Final estimate: PPL = 6 +/- 1", "the last chunk says 5.0, the final estimate 6.0"),
        (
            "calculating perplexity over 3 chunks, n_ctx=512\n[1]4.0,[2]5.0,Final estimate: PPL = 5 +/- 1",
            "2 chunks are numbered 1, 2, of 3",
        ),
    ],
)
def test_no_perplexity(text: str, words: str) -> None:
    """What is not the tool's whole output is refused, with the file and what was looked for."""
    with pytest.raises(LogError, match=r"^some\.log: " + re.escape(words)):
        parse_perplexity(text, "some.log")


def test_standard_output_alone() -> None:
    """The redirection of document 002 loses the estimate; the error says how to keep it."""
    with pytest.raises(LogError, match=re.escape("4 chunks and no `Final estimate: PPL = …`")) as caught:
        parse_perplexity(log("perplexity-f16-stdout.log"), "fp16_ppl.txt")
    assert "2>&1" in str(caught.value)


@pytest.mark.parametrize("name", BENCH)
def test_bench_forms(name: str) -> None:
    """Each form has the two tests that were run, of the one model."""
    rows = parse_bench(log(name), name)
    assert [row.test[:2] for row in rows] == ["pp", "tg"]
    assert {row.backend for row in rows} == {"CPU"}
    assert {row.threads for row in rows} == {2}


def test_bench_values() -> None:
    """A row of the table and one of the JSON, read off the files by eye."""
    assert parse_bench(log("bench-f16.md"), "f16")[0] == BenchRow(
        model="llama 256M F16",
        size=269_096_059,  # 256.63 MiB
        parameters=134_520_000,
        backend="CPU",
        threads=2,
        test="pp64",
        tokens_per_second=84.87,
        deviation=26.64,
    )
    assert parse_bench(log("bench-q8_0.json"), "q8")[1] == BenchRow(
        model="llama 256M Q8_0",
        size=169_567_488,
        parameters=134_515_008,
        backend="CPU",
        threads=2,
        test="tg16",
        tokens_per_second=2.952953,
        deviation=1.201042,
    )


def test_depth_and_mixed_tests() -> None:
    """A prompt and generation in one test, and tests behind a filled cache, have names of their own."""
    text = log("bench-q8_0.jsonl").splitlines()[0]
    mixed = text.replace('"n_gen": 0', '"n_gen": 4')
    deep = text.replace('"n_depth": 0', '"n_depth": 32')
    assert [row.test for row in parse_bench(f"{mixed}\n{deep}\n", "x")] == ["pp8+tg4", "pp8 @ d32"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no column model, size, params, backend, test, t/s"),
        ("12.5 tokens/s", "no column model"),
        ("| model | size |\n", "no column params, backend, test, t/s"),
        ("[]", "no row of llama-bench's"),
        ("[1]", "not the output of llama-bench"),
        ('[{"build_commit": "x"}]', "KeyError: 'n_prompt'"),
        ('{"build_commit": ', "not the output of llama-bench"),
        (log("bench-f16.md").replace("84.87 ± 26.64", "None"), "not the output of llama-bench"),
        (log("bench-f16.md").replace("| CPU        |", "|"), "6 cells under 7 columns"),
        (log("bench-f16.md").replace("84.87", "nan"), "pp64 of llama 256M F16: nan tokens a second"),
        (log("bench-q8_0.json").replace("2.952953", "-1"), "tg16 of llama 256M Q8_0: -1.0 tokens"),
    ],
)
def test_no_bench(text: str, words: str) -> None:
    """What is not the tool's output is refused, with the file and what is wrong."""
    with pytest.raises(LogError, match=re.escape(words)) as caught:
        parse_bench(text, "some.md")
    assert str(caught.value).startswith("some.md: ")


def test_kinds_are_told_apart() -> None:
    """Each real output is known for what it is, and a report is neither."""
    for name in [*PERPLEXITY, "perplexity-f16-stdout.log"]:
        assert is_perplexity_log(log(name))
        assert not is_bench_output(log(name))
    for name in BENCH:
        assert is_bench_output(log(name))
        assert not is_perplexity_log(log(name))
    assert not is_bench_output('{"verdict": "conforms"}')
    assert not is_perplexity_log('{"verdict": "conforms"}')


def test_the_script_of_document_002() -> None:
    """As the document redirects the output, its patterns find nothing; with both streams, a wrong number."""
    perplexity, speed = r"perplexity:\s+([\d.]+)", r"([\d.]+)\s+tokens/s"
    assert re.search(perplexity, log("perplexity-f16-stdout.log")) is None
    assert all(re.search(speed, log(name)) is None for name in BENCH)
    found = re.search(perplexity, log("perplexity-q8_0.log"))
    assert found is not None
    assert found[1] == "16.78"  # the seconds that a pass took
