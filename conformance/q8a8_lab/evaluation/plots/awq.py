"""Plot for docs/methods/awq.md: the search over ratios, and what scaling and clipping buy.

``python -m q8a8_lab.evaluation.plots.awq``
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from q8a8.methods.awq import RATIOS, AwqGrid, AwqLinear, dequantize, quantize, search_scales
from q8a8_lab.evaluation.plots.figure import FOLDER, drawn, table
from q8a8_lab.evaluation.plots.inputs import observe, relative_error

if TYPE_CHECKING:
    from pathlib import Path

    from q8a8_lab.evaluation.plots.inputs import Layers

GRID = AwqGrid(bits=4, group=64)
SEARCHED = (0, 10, 20, 29)
"""Layers whose search is drawn."""
STEP = 3

Lines = dict[str, list[float]]


def measure(layers: Layers) -> tuple[Lines, Lines]:
    """Give the losses of the search over ratio 0's, and errors over rounding to nearest, of `ffn_gate`.

    The first half of the tokens is what is searched on, the second what errors are measured on.
    """
    losses: Lines = {}
    errors: Lines = {"scales": [], "scales and clipping": []}
    for layer, name in enumerate(layers.of("ffn_gate")):
        w, (rows, x) = layers.weights[name], np.split(layers.inputs[name], 2)
        mean = np.abs(rows.astype(np.float64)).mean(axis=0)
        if layer in SEARCHED:
            found = search_scales([w], mean, rows, GRID).losses
            losses[f"layer {layer}"] = [loss / found[0] for loss in found]
        if layer % STEP == 0:
            exact = x.astype(np.float64) @ w.astype(np.float64).T
            nearest = relative_error(x @ dequantize(quantize(w, GRID)).T, exact)
            for label, clip in (("scales", False), ("scales and clipping", True)):
                errors[label].append(
                    relative_error(AwqLinear(w, mean, rows, GRID, clip=clip)(x), exact) / nearest
                )
    return losses, errors


def draw(losses: Lines, errors: Lines, path: Path) -> None:
    """Draw the search in one panel, errors by layer in the other."""
    with drawn(path, 2) as (_, (left, right)):
        for label, values in losses.items():
            left.plot([step / RATIOS for step in range(RATIOS)], values, "o-", label=label)
        left.set(title="mean squared error over that of ratio 0", xlabel="ratio", yscale="log")
        left.legend(title="gate", fontsize=8)
        for label, values in errors.items():
            right.plot(range(0, STEP * len(values), STEP), values, "o-", label=label)
        right.axhline(1, color="black", linewidth=0.8)
        right.set(title="error of gate's output over rounding to nearest", xlabel="layer")
        right.legend(fontsize=8)


def main() -> None:
    """Measure on the real model, print tables and write the plot."""
    losses, errors = measure(observe())
    rows = [(label, float(np.argmin(values)) / RATIOS, min(values)) for label, values in losses.items()]
    table(("gate of", "best ratio", "its loss over ratio 0's"), rows)
    rows = [(label, float(np.median(values)), max(values)) for label, values in errors.items()]
    table(("what is searched", "median error over nearest", "largest"), rows)
    draw(losses, errors, FOLDER / "awq.svg")


if __name__ == "__main__":
    main()
