"""The pages about GPTQ and AWQ: notes that code cites, plots that are the same from the same numbers."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from q8a8.schemes.statistics import SeenInput
from q8a8_lab.evaluation.plots import awq, gptq, inputs

ROOT = Path(__file__).parents[3]
PAGES = {"GPT": "gptq", "AWQ": "awq"}


@pytest.fixture(scope="module")
def layers() -> inputs.Layers:
    """Return four small layers with inputs whose channels are correlated and of different size."""
    rng = np.random.default_rng(2)
    weights, seen = {}, {}
    for layer in range(4):
        for kind in ("attn_q", "ffn_down", "ffn_gate"):
            name = f"blk.{layer}.{kind}.weight"
            mixed = rng.standard_normal((64, 64)) * np.exp(rng.standard_normal(64))
            weights[name] = rng.standard_normal((32, 64), np.float32)
            seen[name] = (rng.standard_normal((200, 64)) @ mixed).astype(np.float32)
    return inputs.Layers(weights, seen)


@pytest.mark.parametrize("prefix", PAGES)
def test_notes_are_cited(prefix: str) -> None:
    """The notes of the page are numbered from 1, each is cited by the code, and the code cites no other."""
    page = (ROOT / "docs" / "methods" / f"{PAGES[prefix]}.md").read_text("utf-8")
    notes = re.findall(rf"^### {prefix}-(\d+): .* {{ #{prefix.lower()}-(\d+) }}$", page, re.MULTILINE)
    assert notes == [(str(number), str(number)) for number in range(1, len(notes) + 1)]
    code = "".join(
        path.read_text("utf-8")
        for path in (ROOT / "refimpl" / "q8a8" / "methods").glob(f"{PAGES[prefix]}*.py")
    )
    assert set(re.findall(rf"{prefix}-(\d+)", code)) == {number for number, _ in notes}


def test_gptq_plot(layers: inputs.Layers, tmp_path: Path) -> None:
    """On the inputs that H is of GPTQ has the smaller error; the plot is the same twice."""
    seen = {name: SeenInput(64, histogram=False) for name in layers.inputs}
    for name, x in layers.inputs.items():
        seen[name].update(x)
    by_text, by_variant = gptq.measure(layers, seen)
    assert all(len(values) == 2 for values in by_text.values())
    assert max(by_text["q, calibration text"]) < 1
    assert by_variant.keys() == gptq.VARIANTS.keys()
    texts = []
    for _ in range(2):
        gptq.draw(by_text, by_variant, tmp_path / "gptq.svg")
        texts.append((tmp_path / "gptq.svg").read_text("utf-8"))
    assert texts[0] == texts[1]


def test_awq_plot(layers: inputs.Layers, tmp_path: Path) -> None:
    """Ratio 0 is what losses are over; the plot is the same twice."""
    losses, errors = awq.measure(layers)
    assert {values[0] for values in losses.values()} == {1.0}
    assert all(len(values) == 2 for values in errors.values())
    texts = []
    for _ in range(2):
        awq.draw(losses, errors, tmp_path / "awq.svg")
        texts.append((tmp_path / "awq.svg").read_text("utf-8"))
    assert texts[0] == texts[1]
