"""The plots of the pages about methods: measured on small layers, the same bytes from the same numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8_lab.evaluation.plots import dynamic, figure, inputs, llm_int8, weight_only

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def layers() -> inputs.Layers:
    """Return two small layers, whose inputs have one outlier channel, and tokens of many sizes."""
    rng = np.random.default_rng(1)
    weights, seen = {}, {}
    for layer in range(2):
        for kind in llm_int8.KINDS:
            name = f"blk.{layer}.{kind}.weight"
            weights[name] = rng.standard_normal((32, 64), np.float32)
            seen[name] = rng.standard_normal((20, 64), np.float32)
            seen[name][:, 5] *= 100
            seen[name] *= np.exp(np.linspace(-3, 0, 20, dtype=np.float32))[:, None]
    return inputs.Layers(weights, seen)


def drawn_twice(draw: object, path: Path) -> str:
    """Draw a plot twice and return it, once it is known to be the same both times, without a date."""
    assert callable(draw)
    texts = []
    for _ in range(2):
        draw(path)
        texts.append(path.read_text("utf-8"))
    assert texts[0] == texts[1]
    assert "dc:date" not in texts[0]
    return texts[0]


def test_dynamic(layers: inputs.Layers, tmp_path: Path) -> None:
    """Blocks of 32 beat a scale a token, which beats one scale for all, where channels differ."""
    errors = dynamic.measure(layers)
    for lines in errors.values():
        assert all(len(values) == 2 for values in lines.values())
        for blocks, token, tensor in zip(
            lines[dynamic.BLOCKS], lines["token / channel"], lines["tensor / tensor"], strict=True
        ):
            assert blocks < token < tensor
    text = drawn_twice(lambda path: dynamic.draw(errors, path), tmp_path / "new" / "dynamic.svg")
    assert all(name in text for name in dynamic.CHOICES)


def test_weight_only(layers: inputs.Layers, tmp_path: Path) -> None:
    """Smaller groups cost bits and save error; int8 is far below int4."""
    points = weight_only.measure(list(layers.weights.values()))
    for lines in points.values():
        (_, bits, error), *_ = lines[weight_only.INT8]
        assert bits == 8.5
        for name, marks in lines.items():
            if name != weight_only.INT8:
                assert [bits for _, bits, _ in marks] == sorted((bits for _, bits, _ in marks), reverse=True)
                assert [error for _, _, error in marks] == sorted(error for _, _, error in marks)
                assert error * 5 < marks[0][2]
    assert "g 128" in drawn_twice(lambda path: weight_only.draw(points, path), tmp_path / "weight_only.svg")


def test_llm_int8(layers: inputs.Layers, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The one outlier channel of 64 is found in every layer, and leaving it out helps."""
    shares, errors = llm_int8.measure(layers)
    assert all(values == [1 / 64, 1 / 64] for values in shares.values())
    plain, mixed = errors.values()
    assert all(less < more for less, more in zip(mixed, plain, strict=True))
    drawn_twice(lambda path: llm_int8.draw(shares, errors, path), tmp_path / "llm_int8.svg")
    figure.table(("a", "b"), [(1, 0.12345), ("x", 2.0)])
    assert capsys.readouterr().out == "| a | b |\n| --- | --- |\n| 1 | 0.123 |\n| x | 2 |\n"
