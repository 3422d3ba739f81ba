"""Plot for docs/methods/weight-only.md: error against stored bits a weight, int8 and int4 in groups.

``python -m q8a8_lab.evaluation.plots.weight_only``
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from q8a8.llama.load import load
from q8a8.methods.affine import dequantize
from q8a8.methods.weight_only import GROUPS, ChannelInt8Linear, Int4GroupLinear, dequantize_int4
from q8a8_lab.evaluation import assets
from q8a8_lab.evaluation.plots.figure import FOLDER, drawn, table

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    F32 = NDArray[np.float32]

INT8 = "int8 a channel"
NAMES = {
    INT8: None,
    "int4, symmetric": True,
    "int4, with zero points": False,
}

Points = dict[str, dict[str, list[tuple[str, float, float]]]]
"""By source of the weights and by method: label, stored bits a weight, relative error."""


def point(weights: Iterable[F32], group: int | None, *, symmetric: bool) -> tuple[float, float]:
    """Give stored bits a weight, and the relative error of all weights together."""
    bits = count = 0
    wrong = size = 0.0
    for w in weights:
        if group is None:
            layer = ChannelInt8Linear(w)
            again = dequantize(layer.weight)
            bits += 8 * layer.weight_bytes
        else:
            grouped = Int4GroupLinear(w, group=group, symmetric=symmetric, tail="short")
            again = dequantize_int4(grouped.weight)
            bits += 8 * grouped.weight_bytes
        count += w.size
        wrong += float(np.sum((again - w).astype(np.float64) ** 2))
        size += float(np.sum(w.astype(np.float64) ** 2))
    return bits / count, float(np.sqrt(wrong / size))


def measure(real: list[F32], seed: int = 0) -> Points:
    """Measure on the model's weights, and on normal ones of the same shapes."""
    rng = np.random.default_rng(seed)
    sources = {
        "SmolLM2's weights, from a 4-bit file": real,
        "normal weights of the same shapes": [rng.standard_normal(w.shape, np.float32) for w in real],
    }
    points: Points = {}
    for source, weights in sources.items():
        lines = points[source] = {INT8: [("", *point(weights, None, symmetric=True))]}
        for name, symmetric in NAMES.items():
            if symmetric is not None:
                lines[name] = [(f"g {g}", *point(weights, g, symmetric=symmetric)) for g in GROUPS]
    return points


def draw(points: Points, path: Path) -> None:
    """Draw a panel a source, a line a kind of int4, a point a group size; int8, far off, as words."""
    with drawn(path, len(points), share_y=True) as (_, axes):
        for axis, (source, lines) in zip(axes, points.items(), strict=True):
            ((_, bits, error),) = lines[INT8]
            axis.text(0.03, 0.05, f"{INT8}: {100 * error:.2f} % at {bits:.2f} bits", transform=axis.transAxes)
            for name, marks in lines.items():
                if name == INT8:
                    continue
                axis.plot(
                    [bits for _, bits, _ in marks], [100 * error for _, _, error in marks], "o-", label=name
                )
                for label, bits, error in marks:
                    axis.annotate(label, (bits, 100 * error), xytext=(5, 3), textcoords="offset points")
            axis.set(title=source, xlabel="stored bits a weight, scales included")
            axis.margins(x=0.15, y=0.2)
        axes[0].set_ylabel("relative error of the weights, %")
        axes[0].legend(loc="upper right")


def main() -> None:
    """Measure on the real model, print a table and write the plot."""
    loaded = load(assets.model())
    kinds = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    real = [w for name, w in loaded.weights.items() if name.split(".")[-2] in kinds]
    points = measure(real)
    rows = [
        (source, name, label, f"{bits:.4f}", error)
        for source, lines in points.items()
        for name, marks in lines.items()
        for label, bits, error in marks
    ]
    table(("weights", "method", "group", "bits a weight", "relative error"), rows)
    draw(points, FOLDER / "weight_only.svg")


if __name__ == "__main__":
    main()
