"""Plot for docs/methods/observers.md: thresholds of one real tensor, and the error that each of them causes.

``python -m q8a8_lab.evaluation.plots.observers``
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from q8a8.llama.load import load
from q8a8.llama.model import Model
from q8a8.llama.tensors import expected_shapes
from q8a8.methods.observers import SAMPLES, observe_model
from q8a8_evaluation.text import read_text, windows
from q8a8_lab.evaluation import assets
from q8a8_lab.evaluation.plots.figure import FOLDER, finish, panels, table

if TYPE_CHECKING:
    from pathlib import Path

    from q8a8.methods.observers import Observer

LAYERS = 12
"""The first layers are observed: up to the one with the largest outlier, 11."""

TOKENS = 16
"""Of a sample."""

SHOWN = ("blk.5.ffn_gate.weight", "blk.11.ffn_down.weight")
"""The tensors that are drawn: an ordinary one, and the one with the outlier."""

KINDS = ("attn_q", "attn_output", "ffn_gate", "ffn_down")
"""Of the operators; k and v have q's input, and up has gate's."""

DRAWN = ("absmax", "percentile-99.99", "mse", "entropy")


def observe() -> dict[str, Observer]:
    """Observe the inputs of the first layers over 512 samples of the Wikipedia text."""
    loaded = load(assets.model())
    text = read_text(assets.wikipedia(), at_least=12 * TOKENS * SAMPLES[0])
    samples = windows(loaded.tokenizer.encode(text), TOKENS, SAMPLES[0])
    config = dataclasses.replace(loaded.config, n_layers=LAYERS)
    model = Model(config, {name: loaded.weights[name] for name in expected_shapes(config)})
    names = {f"blk.{layer}.{kind}.weight" for layer in range(LAYERS) for kind in KINDS}
    return observe_model(model, samples, names=names)


def error(observer: Observer, threshold: float) -> float:
    """Return the relative error of the bins' centers in int8 with this threshold."""
    seen = observer.histogram
    centers = (np.arange(seen.bins) + 0.5) * seen.width
    step = threshold / 127
    wrong = np.minimum(np.rint(centers / step), 127) * step - centers
    return float(np.sqrt((seen.counts @ wrong**2) / (seen.counts @ centers**2)))


def draw(seen: dict[str, Observer], path: Path) -> None:
    """Draw the counts of two tensors, with their thresholds."""
    figure, axes = panels(len(SHOWN))
    for axis, name in zip(axes, SHOWN, strict=True):
        histogram = seen[name].histogram
        used = histogram.used
        # Sums of some neighbours: no more than 256 steps to draw.
        size = -(-used // 256)
        counts = np.add.reduceat(histogram.counts[:used], np.arange(0, used, size))
        edges = np.arange(0, used, size) * histogram.width
        axis.step(edges, np.where(counts > 0, counts, np.nan), where="post", color="grey", linewidth=0.8)
        for color, method in enumerate(DRAWN):
            threshold = seen[name].threshold(method)
            label = f"{method}: {threshold:.3g}, error {error(seen[name], threshold):.2g}"
            axis.axvline(threshold, color=f"C{color}", label=label)
        axis.set(title=f"input of {name}", xlabel="magnitude", yscale="log")
        axis.legend(fontsize=7, loc="upper right")
    axes[0].set_ylabel("elements")
    finish(figure, path)


def main() -> None:
    """Measure on the real model, print a table and write the plot."""
    seen = observe()
    rows = []
    for kind in KINDS:
        observers = [observer for name, observer in seen.items() if f".{kind}." in name]
        for method in DRAWN:
            thresholds = [observer.threshold(method) for observer in observers]
            shares = [t / observer.histogram.amax for t, observer in zip(thresholds, observers, strict=True)]
            errors = [error(observer, t) for t, observer in zip(thresholds, observers, strict=True)]
            rows.append((kind, method, float(np.mean(shares)), float(np.mean(errors)), float(max(errors))))
    table(("input of", "method", "T / amax, mean", "error in int8, mean", "largest"), rows)
    draw(seen, FOLDER / "observers.svg")


if __name__ == "__main__":
    main()
