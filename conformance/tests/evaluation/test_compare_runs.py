"""``q8a8 compare`` on measurements: ours, and real outputs of llama.cpp's tools."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from q8a8_conformance.cli import main
from q8a8_conformance.report.schema import ReportError, load_schema
from q8a8_evaluation.compare_measurements import (
    PerplexityRun,
    SpeedRun,
    as_json,
    compare_runs,
    markdown,
    read_run,
    text,
)
from q8a8_evaluation.llamacpp_logs import LogError

LOGS = Path(__file__).parent / "logs"
HASH = "0" * 64


def perplexity(*schemes: tuple[str, list[float]], **protocol: object) -> dict[str, Any]:
    """Return a report of ours on windows of 4 counted tokens."""
    return {
        "format": 1,
        "kind": "perplexity",
        "model": {"file": "m.gguf", "sha256": HASH},
        "text": {"file": "t.txt", "sha256": HASH},
        "protocol": {
            "window": 8,
            "windows": 2,
            "spread": False,
            "bos": False,
            "count": "second-half",
            "head": "float",
            "counted": [4, 4],
            **protocol,
        },
        "calibration": None,
        "schemes": [
            {
                "scheme": name,
                "summary": "",
                "source": "",
                "perplexity": math.exp(sum(sums) / 8),
                "perplexity_error": None,
                "delta_percent": 0.0,
                "delta_error_percent": None,
                "log_ratio": 0.0,
                "log_ratio_error": None,
                "log_ratio_token_error": 0.0,
                "weight_bits": 8.5,
                "weight_bytes": 34,
                "activation_bits": 8.5,
                "cache_bits": 32.0,
                "cache_bytes": 0,
                "window_nll": sums,
                "seconds": 1.0,
            }
            for name, sums in schemes
        ],
    }


def speed(**changes: object) -> dict[str, Any]:
    """Return a report of q8a8 bench-model."""
    entry = {
        "first_token_seconds": 0.1,
        "generate_tokens_per_second": 5.0,
        "prompt_ratio": 1.0,
        "generate_ratio": 1.0,
        "resident_bytes": None,
        "cache_bytes": None,
        "weight_bits": 8.5,
        "stored_bytes": 5000,
        "load_seconds": 1.0,
    }
    return {
        "format": 1,
        "kind": "bench-model",
        "model": "m.gguf",
        "file_bytes": 1,
        "prompt": 64,
        "generate": 17,
        "rounds": 1,
        "schemes": [
            {"scheme": "float", "prompt_tokens_per_second": 100.0, "weight_bytes": 4000, **entry},
            {"scheme": "q8_a8", "prompt_tokens_per_second": 50.0, "weight_bytes": 1000, **entry},
        ],
        **changes,
    }


def save(folder: Path, name: str, document: object) -> str:
    """Write a report, and return its path."""
    path = folder / name
    path.write_text(json.dumps(document))
    return str(path)


def read(word: str) -> PerplexityRun | SpeedRun:
    """Return a measurement that is one."""
    run = read_run(word)
    assert run is not None
    return run


def test_paired_error_by_hand(tmp_path: Path) -> None:
    """Two windows of 4 tokens differ by 0.4 and 0.8 nats: mean 0.15 a token, deviation 0.05·√2 over √2."""
    file = save(tmp_path, "p.json", perplexity(("float", [8.0, 12.0]), ("q8_a8", [8.4, 12.8])))
    found = compare_runs(read(f"{file}#float"), read(f"{file}#q8_a8"))
    ratio = math.exp(0.15)
    assert found.change_percent == pytest.approx(100 * (ratio - 1), rel=1e-12)
    assert found.error_percent == pytest.approx(100 * ratio * 0.05, rel=1e-9)
    assert found.notes == ()
    assert "perplexity" in text(found)
    # Without a scheme the only one but float is meant.
    assert read(file).name == f"{file}#q8_a8"


def test_llama_perplexity() -> None:
    """Real outputs for F16 and Q8_0: the change of the estimates, with a paired error."""
    found = compare_runs(read(str(LOGS / "perplexity-f16.log")), read(str(LOGS / "perplexity-q8_0.log")))
    assert found.perplexities == (30.7747, 30.8409)
    assert found.change_percent == pytest.approx(100 * (30.8409 / 30.7747 - 1))
    # By hand, from the chunks' means: differences 0.003122, 0.000056, ... of four chunks.
    assert found.error_percent is not None
    assert 0.01 < found.error_percent < 0.2
    # The error that the tool prints, which is not paired, is a hundred times as large.
    assert found.error_percent < 100 * 2.97 / 30.8 / 50


def test_llama_bench() -> None:
    """Real outputs of two forms: speeds test by test, and the sizes of the tensors."""
    found = compare_runs(read(str(LOGS / "bench-f16.md")), read(str(LOGS / "bench-q8_0.json")))
    assert found.speeds == {"pp64": (84.87, 86.626615), "tg16": (8.93, 2.952953)}
    assert found.sizes == (269_096_059, 169_567_488)
    assert "-37.0 %" in text(found)
    assert "| size | 269.1 MB | 169.6 MB | -37.0 % |" in markdown(found)


def test_ours_beside_llama_bench(tmp_path: Path) -> None:
    """Where sizes mean other things they are not compared, and what one side lacks is said."""
    file = save(tmp_path, "b.json", speed())
    found = compare_runs(read(f"{file}#float"), read(str(LOGS / "bench-f16.md")))
    assert found.sizes == ()
    assert set(found.speeds) == {"pp64", "tg16"}
    assert any("sizes are not of the same tensors" in note for note in found.notes)
    assert any("the threads differ: 1 and 2" in note for note in found.notes)
    other = save(tmp_path, "c.json", speed(generate=5))
    alone = compare_runs(read(file), read(other))
    assert alone.notes == (f"in {file}#q8_a8 alone: tg16", f"in {other}#q8_a8 alone: tg4")


@pytest.mark.parametrize("name", ["perplexity", "speed", "sizes"])
def test_json_fits_its_schema(name: str, tmp_path: Path) -> None:
    """What is written fits the published schema."""
    file = save(tmp_path, "p.json", perplexity(("float", [8.0, 12.0]), ("q8_a8", [8.4, 12.8])))
    bench = save(tmp_path, "b.json", speed())
    pair = {
        "perplexity": (f"{file}#float", file),
        "speed": (bench, str(LOGS / "bench-f16.md")),
        "sizes": (f"{bench}#float", bench),
    }[name]
    document = json.loads(as_json(compare_runs(*map(read, pair))))
    Draft202012Validator(load_schema("run-comparison")).validate(document)


def test_protocols_must_agree(tmp_path: Path) -> None:
    """Other windows, texts or rules of counting are refused by name; another head is noted."""
    file = save(tmp_path, "a.json", perplexity(("q8_a8", [8.0, 12.0])))
    other = save(tmp_path, "b.json", perplexity(("q8_a8", [8.0, 12.0]), bos=True))
    with pytest.raises(ReportError, match=r"the bos differs: False in .*a.json#q8_a8, True in"):
        compare_runs(read(file), read(other))
    with pytest.raises(ReportError, match=r"the windows? differs: "):
        compare_runs(read(file), read(str(LOGS / "perplexity-f16.log")))
    head = save(tmp_path, "c.json", perplexity(("q8_a8", [8.0, 12.0]), head="scheme"))
    assert compare_runs(read(file), read(head)).notes == ("the head differs: float and scheme",)
    short = save(tmp_path, "d.json", perplexity(("q8_a8", [8.0, 12.0]), counted=[4, 3]))
    found = compare_runs(read(file), read(short))
    assert found.error_percent is None
    assert found.notes == ("other tokens are counted: 8 and 7; no paired error can be given",)
    with pytest.raises(ReportError, match=r"has perplexities, .* has speeds"):
        compare_runs(read(file), read(str(LOGS / "bench-f16.md")))


def test_ours_beside_llama_perplexity(tmp_path: Path) -> None:
    """With the same windows ours and llama.cpp's can be set side by side; what is not known is said."""
    document = perplexity(("q8_a8", [900.0] * 4), window=512, windows=4, counted=[255] * 4)
    found = compare_runs(read(save(tmp_path, "p.json", document)), read(str(LOGS / "perplexity-q8_0.log")))
    assert found.error_percent is not None
    assert found.notes == ("not known to be the same: bos, count, spread, text",)


def test_refusals(tmp_path: Path) -> None:
    """What cannot be read is refused by file, scheme and reason; other kinds are left to the other reader."""
    file = save(tmp_path, "p.json", perplexity(("a", [8.0, 12.0]), ("b", [8.0, 12.0])))
    with pytest.raises(ReportError, match=r"2 schemes: say which, as .*p\.json#SCHEME: a, b"):
        read_run(file)
    with pytest.raises(ReportError, match="no scheme 'c' in it; there are a, b"):
        read_run(f"{file}#c")
    with pytest.raises(ReportError, match="no scheme 'x' in it: it is the output"):
        read_run(f"{LOGS / 'bench-f16.md'}#x")
    with pytest.raises(ReportError, match=r"none\.json: No such file"):
        read_run(str(tmp_path / "none.json"))
    with pytest.raises(ReportError, match="no bench-model of q8a8"):
        read_run(save(tmp_path, "b.json", speed(prompt="many")))
    two = tmp_path / "two.md"
    table = (LOGS / "bench-f16.md").read_text().splitlines()
    two.write_text("\n".join([*table[:3], table[2].replace("F16", "Q8_0")]))
    with pytest.raises(LogError, match="2 models in one file: llama 256M F16, llama 256M Q8_0"):
        read_run(str(two))
    two.write_text("\n".join([*table[:3], table[2]]))
    with pytest.raises(LogError, match="a test is there twice: pp64, pp64"):
        read_run(str(two))
    two.write_bytes(b"\xff")
    with pytest.raises(ReportError, match=r"two\.md: .*codec"):
        read_run(str(two))
    assert read_run(save(tmp_path, "r.json", {"verdict": "conforms"})) is None
    assert read_run(save(tmp_path, "l.json", [1])) is None
    two.write_text("text")
    assert read_run(str(two)) is None
    nothing = PerplexityRun("zero", 0.0, (), (), {})
    with pytest.raises(ReportError, match="zero: a perplexity or a speed is 0"):
        compare_runs(nothing, nothing)
    with pytest.raises(ReportError, match="no test is in both: pp1 in a, pp2 in b"):
        compare_runs(SpeedRun("a", {"pp1": 1.0}, None, {}), SpeedRun("b", {"pp2": 1.0}, None, {}))


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command compares, writes both files, and refuses with status 2."""
    a, b = str(LOGS / "perplexity-f16.log"), str(LOGS / "perplexity-q8_0.log")
    out, page, site = tmp_path / "c.json", tmp_path / "c.md", tmp_path / "c.html"
    assert main(["compare", a, b, "--json", str(out), "--markdown", str(page), "--html", str(site)]) == 0
    assert "+0.22 %" in capsys.readouterr().out
    assert json.loads(out.read_text())["kind"] == "run-comparison"
    assert "+0.22 %" in page.read_text()
    assert '<td data-label="B against A">+0.22 %' in site.read_text()
    assert main(["compare", str(LOGS / "perplexity-f16-stdout.log"), b]) == 2
    assert "Final estimate" in capsys.readouterr().err
    report = save(tmp_path, "r.json", {"verdict": "conforms"})
    assert main(["compare", a, report]) == 2
    assert "r.json" in capsys.readouterr().err


@pytest.mark.parametrize(("target", "status"), [("/dev/full", 6), ("/nowhere/c.json", 2)])
def test_a_comparison_that_cannot_be_written(
    target: str, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """A full disk, and a folder that is missing, are refused with the file's name: not written, and usage."""
    a = str(LOGS / "perplexity-f16.log")
    assert main(["compare", a, a, "--json", target]) == status
    assert target in capsys.readouterr().err
