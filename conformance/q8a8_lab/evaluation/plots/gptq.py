"""Plot for docs/methods/gptq.md: how much less a layer's output changes than with rounding to the nearest.

``python -m q8a8_lab.evaluation.plots.gptq``
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8.llama.load import load
from q8a8.methods.gptq import GptqLinear, layer_error
from q8a8.methods.gptq_grid import Grid, dequantize
from q8a8.schemes.statistics import gather_inputs
from q8a8_evaluation.text import read_text, windows
from q8a8_lab.evaluation import assets
from q8a8_lab.evaluation.plots.figure import FOLDER, drawn, table
from q8a8_lab.evaluation.plots.inputs import TOKENS, observe, relative_error

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from q8a8.schemes.statistics import SeenInput
    from q8a8_lab.evaluation.plots.inputs import Layers

KINDS = {"attn_q": "q", "ffn_down": "down"}
GRID = Grid(bits=4, group=64)
WINDOWS = 4
"""Windows of news that the Hessians are of."""
STEP = 3
"""Every third layer."""

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "stale groups\n(the authors')": {},
    "fresh groups": {"parameters": "fresh"},
    "static groups": {"parameters": "static"},
    "stale,\nact-order": {"act_order": True},
    "static,\nact-order": {"act_order": True, "parameters": "static"},
}

Ratios = dict[str, list[float]]


def hessians() -> dict[str, SeenInput]:
    """Run the float model on news, and gather what its operators are given."""
    loaded = load(assets.model())
    text = read_text(assets.news(), at_least=24 * TOKENS * WINDOWS)
    cut = windows(loaded.tokenizer.encode(text), TOKENS, WINDOWS)
    return gather_inputs(loaded.model(), cut, histogram=False)


def errors(
    layers: Layers, seen: Mapping[str, SeenInput], name: str, linear: GptqLinear
) -> tuple[float, float]:
    """Give the relative error of an operator's output: on the text that H is of, and on Wikipedia."""
    x, w = layers.inputs[name], layers.weights[name]
    gathered = seen[name].hessian
    assert gathered is not None  # noqa: S101 (it was asked for)
    h = gathered.matrix()
    on_seen = layer_error(w, dequantize(linear.weight), h).sum() / layer_error(w, np.zeros_like(w), h).sum()
    exact = x.astype(np.float64) @ w.astype(np.float64).T
    return float(np.sqrt(on_seen)), relative_error(linear(x), exact)


def measure(layers: Layers, seen: Mapping[str, SeenInput]) -> tuple[Ratios, Ratios]:
    """Give error over that of rounding to the nearest: by kind and text, and for q by variant."""

    def ratios(name: str, **options: Any) -> tuple[float, float]:  # noqa: ANN401 (gptq's own)
        gathered = seen[name].hessian
        assert gathered is not None  # noqa: S101 (it was asked for)
        w = layers.weights[name]
        ours = errors(layers, seen, name, GptqLinear(w, gathered.matrix(), GRID, **options))
        nearest = errors(layers, seen, name, GptqLinear(w, None, GRID))
        return ours[0] / nearest[0], ours[1] / nearest[1]

    by_text: Ratios = {}
    for kind, label in KINDS.items():
        found = [ratios(name) for name in layers.of(kind)[::STEP]]
        by_text[f"{label}, calibration text"] = [on_seen for on_seen, _ in found]
        by_text[f"{label}, another text"] = [on_other for _, on_other in found]
    names = layers.of("attn_q")[::STEP]
    by_variant = {
        label: [ratios(name, **options)[1] for name in names] for label, options in VARIANTS.items()
    }
    return by_text, by_variant


def draw(by_text: Ratios, by_variant: Ratios, path: Path) -> None:
    """Draw layers in one panel, variants in the other."""
    with drawn(path, 2, share_y=True) as (_, (left, right)):
        for number, (label, values) in enumerate(by_text.items()):
            line, color = "--" if number % 2 else "-", f"C{number // 2}"
            left.plot(
                range(0, STEP * len(values), STEP),
                values,
                marker="o",
                label=label,
                linestyle=line,
                color=color,
            )
        left.set(title="error of the output over rounding to nearest", xlabel="layer")
        left.legend(fontsize=7)
        places = range(len(by_variant))
        right.boxplot(list(by_variant.values()), positions=list(places), widths=0.5)
        right.set_xticks(list(places), list(by_variant), fontsize=7)
        right.set(title="q on another text, by choice")
        for axes in (left, right):
            axes.axhline(1, color="black", linewidth=0.8)


def main() -> None:
    """Measure on the real model, print tables and write the plot."""
    by_text, by_variant = measure(observe(), hessians())
    columns = ("median error over nearest", "smallest", "largest")
    for title, found in (("operator and text", by_text), ("choice, q on another text", by_variant)):
        rows = [(name.replace("\n", " "), float(np.median(v)), min(v), max(v)) for name, v in found.items()]
        table((title, *columns), rows)
    draw(by_text, by_variant, FOLDER / "gptq.svg")


if __name__ == "__main__":
    main()
