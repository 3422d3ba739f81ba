"""``q8a8 bench-model`` on a real model, and what it does with measurements, by hand."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

import pytest

from q8a8_evaluation.commands import bench_model
from q8a8_evaluation.memory_status import resident_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def parse(*words: str) -> argparse.Namespace:
    """Return the command's options."""
    parser = argparse.ArgumentParser()
    bench_model.add_parser(parser.add_subparsers())
    return parser.parse_args(["bench-model", *words])


def test_real_model(real_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Float comes first though it was not asked for; the bits are those of the format."""
    out = tmp_path / "figures.json"
    words = [str(real_model), "--prompt", "4", "--generate", "2", "--rounds", "1", "--json", str(out)]
    assert bench_model.run(parse(*words)) == 0
    figures = json.loads(out.read_text())
    assert [each["scheme"] for each in figures["schemes"]] == ["float", "q8_a8"]
    first, second = figures["schemes"]
    assert (first["prompt_ratio"], first["generate_ratio"]) == (1, 1)
    # 106,168,320 weights in the linear operators, 34 bytes for 32 of them; 4 bytes each in float.
    assert (first["weight_bytes"], second["weight_bytes"]) == (424_673_280, 112_803_840)
    assert second["weight_bits"] == 8.5
    # With the embedding as Q8_0, 49152 x 18 blocks, and the norms in float32.
    assert second["stored_bytes"] == 112_803_840 + 49152 * 18 * 34 + 61 * 576 * 4
    # Keys and values of 5 positions (the last token is not read), 30 layers, 3 heads of 64, float32.
    assert first["cache_bytes"] == 2 * 5 * 30 * 3 * 64 * 4
    assert first["resident_bytes"] > 424_673_280
    assert figures["file_bytes"] == 98_362_432
    printed = capsys.readouterr().out
    assert "q8_a8" in printed
    assert "143.0   8.5" in printed


def test_ratios_are_round_by_round() -> None:
    """A ratio is the median of the rounds' ratios, not the ratio of medians; by hand."""

    def rounds(*seconds: float) -> list[dict[str, float]]:
        return [
            {"first_token_seconds": s, "generate_seconds": 2 * s, "resident_bytes": 1, "cache_bytes": 2}
            for s in seconds
        ]

    figures = bench_model._figures(rounds(2, 10, 40), rounds(1, 10, 160), prompt=20, generate=5)
    assert figures["first_token_seconds"] == 10
    assert figures["prompt_tokens_per_second"] == 2
    assert figures["generate_tokens_per_second"] == 4 / 20
    assert figures["prompt_ratio"] == figures["generate_ratio"] == 1  # of 0.5, 1 and 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--scheme", "q9"], "no scheme is called 'q9'"),
        (["--scheme", "q8_a8+smooth"], "q8_a8+smooth: this scheme needs a calibration"),
    ],
)
def test_failures_are_told(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A scheme that cannot be run is refused before a model is loaded."""
    assert bench_model.run(parse(str(tmp_path / "none.gguf"), *words)) == 2
    assert said in capsys.readouterr().err


def test_child_failures_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a child says of a file that is no model is said by the parent, with the scheme's name."""
    path = tmp_path / "text.gguf"
    path.write_text("no model")
    assert bench_model.run(parse(str(path))) == 2
    told = capsys.readouterr().err
    assert "float: " in told
    assert "text.gguf" in told


def test_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model that is not there is named."""
    assert bench_model.run(parse(str(tmp_path / "none.gguf"))) == 2
    assert "none.gguf" in capsys.readouterr().err


@pytest.mark.parametrize("count", ["1", "-3", "x"])
def test_counts(count: str) -> None:
    """Fewer than two tokens have no speed of generation."""
    with pytest.raises(SystemExit):
        parse("m.gguf", "--generate", count)
    with pytest.raises(SystemExit):
        parse("m.gguf", "--rounds", "0")


def test_peer(real_model: Path, need: Callable[[object, str], None]) -> None:
    """A real llama.cpp takes its turns with the schemes."""
    try:
        import xllamacpp  # noqa: F401, PLC0415 - only to see whether it is there
    except ImportError:
        need(None, "no package xllamacpp")
    figures = bench_model.collect(real_model, ["float"], prompt=4, generate=2, rounds=1, llama_cpp=True)
    peer = figures["schemes"][-1]
    assert peer["scheme"] == "llama.cpp"
    assert peer["prompt_tokens_per_second"] > 0
    assert "llama.cpp" in bench_model.text(figures)


def test_no_status(tmp_path: Path) -> None:
    """Where the system has no status file, the memory is unknown; where it has one, its unit is counted."""
    assert resident_bytes(tmp_path / "none") is None
    status = tmp_path / "status"
    status.write_text("Name:\tx\nVmRSS:\t   12 kB\n")
    assert resident_bytes(status) == 12 * 1024
