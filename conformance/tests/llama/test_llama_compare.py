"""Two models side by side: perplexity, speed, size and memory in one report."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import gguf
import pytest

from q8a8_conformance.cli import main
from q8a8_conformance.report.schema import parse
from q8a8_evaluation.commands.compare_models import compare_models, is_model
from q8a8_evaluation.compare_measurements import as_json, text
from q8a8_evaluation.measure import Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from tests.llama.conftest import Tiny, WriteTiny

PROTOCOL = Protocol(window=16, windows=3, divergence=False)


@pytest.fixture
def story(tmp_path: Path) -> Path:
    """Return a text."""
    path = tmp_path / "story.txt"
    path.write_text("The quick brown fox jumps over the lazy dog, and then the dog gets up. " * 4)
    return path


def test_report_of_two_models(tiny: Tiny, write_tiny: WriteTiny, story: Path, tmp_path: Path) -> None:
    """A file in float32 and one in Q8_0: a smaller file, another perplexity; a file and itself: none."""
    a, b = tmp_path / "a.gguf", tmp_path / "b.gguf"
    write_tiny(a, tiny, types=[gguf.GGMLQuantizationType.F32])
    write_tiny(b, tiny, types=[gguf.GGMLQuantizationType.Q8_0])
    assert is_model(a)
    assert not is_model(story)
    found = compare_models(a, b, story, PROTOCOL, prompt=16, generate=4, rounds=1)
    assert found.sizes == (a.stat().st_size, b.stat().st_size)
    assert found.perplexities[0] != found.perplexities[1]
    assert found.error_percent is not None
    assert set(found.speeds) == {"pp16", "tg3"}
    rows = text(found)
    for what in ("perplexity", "pp16, tokens a second", "size", "resident memory"):
        assert what in rows
    document = as_json(found)
    parse(document.encode(), "report", "run-comparison")
    assert json.loads(document)["memory"]["a"] > 0
    assert any(", 1 thread," in note for note in found.notes)
    same = compare_models(a, a, story, PROTOCOL, prompt=16, generate=4, rounds=1, threads=2)
    assert any("2 threads" in note for note in same.notes)
    assert (same.change_percent, same.error_percent) == (0, 0)


def test_what_the_command_refuses(
    tiny: Tiny, write_tiny: WriteTiny, story: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model and something else; two models and no text; a model that cannot be read."""
    a = tmp_path / "a.gguf"
    write_tiny(a, dataclasses.replace(tiny))
    assert main(["compare", str(a), str(story), "--text", str(story)]) == 2
    assert "no GGUF file" in capsys.readouterr().err
    assert main(["compare", str(a), str(a)]) == 2
    assert "--text FILE" in capsys.readouterr().err
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(a.read_bytes()[:100])
    assert main(["compare", str(broken), str(a), "--text", str(story)]) == 2
    assert "broken.gguf" in capsys.readouterr().err
