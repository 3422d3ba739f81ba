"""Plot for docs/methods/dynamic.md: what granularity does to the error, layer by layer, on the real model.

``python -m q8a8_lab.evaluation.plots.dynamic``
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from q8a8.llama.linear import Q8A8Linear
from q8a8.methods.dynamic import DynamicLinear
from q8a8_lab.evaluation.plots.figure import FOLDER, drawn, table
from q8a8_lab.evaluation.plots.inputs import observe, relative_error

if TYPE_CHECKING:
    from pathlib import Path

    from q8a8_lab.evaluation.plots.inputs import Layers

KINDS = {"attn_q": "input of q: after a norm", "ffn_down": "input of down: after SwiGLU"}
CHOICES = {
    "tensor / tensor": ("tensor", "tensor"),
    "tensor / channel": ("tensor", "channel"),
    "token / tensor": ("token", "tensor"),
    "token / channel": ("token", "channel"),
}
BLOCKS = "Q8_A8, blocks of 32"

Errors = dict[str, dict[str, list[float]]]


def measure(layers: Layers) -> Errors:
    """Give the relative error of each layer's output, by kind of operator and by granularity of X / W."""
    errors: Errors = {}
    for kind in KINDS:
        lines = errors[kind] = {name: [] for name in (*CHOICES, BLOCKS)}
        for name in layers.of(kind):
            x, w = layers.inputs[name], layers.weights[name]
            exact = x.astype(np.float64) @ w.astype(np.float64).T
            for choice, (activations, weights) in CHOICES.items():
                layer = DynamicLinear(w, activations=activations, weights=weights)
                lines[choice].append(relative_error(layer(x), exact))
            lines[BLOCKS].append(relative_error(Q8A8Linear(w)(x), exact))
    return errors


def draw(errors: Errors, path: Path) -> None:
    """Draw a panel a kind of operator, a line a granularity."""
    with drawn(path, len(errors), share_y=True) as (figure, axes):
        for axis, (kind, lines) in zip(axes, errors.items(), strict=True):
            for name, values in lines.items():
                axis.plot(range(len(values)), values, "o:" if name == BLOCKS else "o-", label=name)
            axis.set(title=KINDS[kind], xlabel="layer", yscale="log")
        axes[0].set_ylabel("relative error of the output")
        figure.legend(
            *axes[0].get_legend_handles_labels(), title="scales of X / W", loc="outside right upper"
        )


def main() -> None:
    """Measure on the real model, print a table and write the plot."""
    errors = measure(observe())
    rows = [
        (kind, name, float(np.median(values)), max(values), int(np.argmax(values)))
        for kind, lines in errors.items()
        for name, values in lines.items()
    ]
    table(("operator", "scales of X / W", "median error", "largest", "in layer"), rows)
    draw(errors, FOLDER / "dynamic.svg")


if __name__ == "__main__":
    main()
