"""The plot of the page about SmoothQuant: its numbers, and the same bytes from the same numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from q8a8.llama.families import LLAMA
from q8a8.methods.calibration import Calibration, Statistics
from q8a8.methods.smoothquant import make_smoothing
from q8a8_lab.evaluation.plots import smoothquant

if TYPE_CHECKING:
    from pathlib import Path


class Shape:
    """A model of twelve layers: the last has the group that is drawn."""

    n_layers = 12
    linears: tuple[str, ...] = LLAMA.linears


def test_plot(tmp_path: Path) -> None:
    """One channel of a hundred times the others: with α = 1/2 a tenth of that remains, in every group."""
    rng = np.random.default_rng(2)
    shapes = {"attn_q": (32, 32), "attn_k": (8, 32), "attn_v": (8, 32)}
    shapes |= {"ffn_gate": (48, 32), "ffn_up": (48, 32), "ffn_down": (32, 48)}
    weights, statistics = {}, {}
    for layer in range(Shape.n_layers):
        for name, shape in shapes.items():
            weights[f"blk.{layer}.{name}.weight"] = rng.choice([-1, 1], shape).astype(np.float32)
            maximum = np.ones(shape[1], np.float32)
            maximum[7] = 100
            statistics[f"blk.{layer}.{name}.weight"] = Statistics(maximum, maximum.astype(float), 1)
    calibration = Calibration("m", (), statistics, np.empty(0, np.uint64), {})
    smoothing = make_smoothing(weights, Shape(), calibration, fold_down=True)
    found = smoothquant.measure(weights, calibration, smoothing)
    assert len(found) == 3 * Shape.n_layers
    for name, maxima in found.items():
        assert smoothquant.outlier(maxima.x) == 100
        assert smoothquant.outlier(maxima.smooth_x) == 10
        assert maxima.w.tolist() == [1] * len(maxima.x)
        # The largest of gate and up is gate's: up's row 7 alone was divided, by 10.
        assert smoothquant.outlier(maxima.smooth_w) == 10, name
    texts = []
    for _ in range(2):
        smoothquant.draw(found, tmp_path / "plot.svg")
        texts.append((tmp_path / "plot.svg").read_text("utf-8"))
    assert texts[0] == texts[1]
    assert "blk.11.ffn_down" in texts[0]
    assert "dc:date" not in texts[0]
