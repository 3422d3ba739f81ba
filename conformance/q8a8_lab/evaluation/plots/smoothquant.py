"""Plot for docs/methods/smoothquant.md: the largest activations of each channel, before and after smoothing.

``python -m q8a8_lab.evaluation.plots.smoothquant``
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from q8a8.llama.load import load
from q8a8.methods.smoothquant import column_maxima, make_smoothing
from q8a8_evaluation.calibration import WINDOW, calibrate_model
from q8a8_lab.evaluation import assets
from q8a8_lab.evaluation.plots.figure import FOLDER, drawn, table

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from q8a8.methods.calibration import Calibration
    from q8a8.methods.smoothing import Smoothing

    F32 = NDArray[np.float32]

WINDOWS = 8
"""Of the news corpus."""

SHOWN = "blk.11.ffn_down"
"""The group that is drawn: the one with the largest outlier."""

KINDS = {"attn_norm": "q, k, v", "ffn_norm": "gate, up", "ffn_down": "down"}


@dataclass(frozen=True)
class Maxima:
    """The largest magnitudes of a group's channels.

    Attributes
    ----------
    x, smooth_x
        Of the input, before and after.
    w, smooth_w
        Of the weights, before and after.
    """

    x: F32
    smooth_x: F32
    w: F32
    smooth_w: F32


def measure(weights: Mapping[str, F32], calibration: Calibration, smoothing: Smoothing) -> dict[str, Maxima]:
    """Give the maxima of every group, by its name."""
    found = {}
    for smoothed in smoothing.groups:
        x = calibration[smoothed.group.multiplied[0]].maximum
        before = [weights[name] for name in smoothed.group.multiplied]
        after = [smoothing.fold_tensor(name, weights[name]) for name in smoothed.group.multiplied]
        found[smoothed.group.name] = Maxima(
            x, x / smoothed.factors, column_maxima(before), column_maxima(after)
        )
    return found


def outlier(maxima: F32) -> float:
    """Give how many times the median channel the largest is."""
    return float(maxima.max() / np.median(maxima))


def draw(found: Mapping[str, Maxima], path: Path) -> None:
    """Draw one group channel by channel, and the outlier of every group by layer."""
    with drawn(path, 2) as (_, (left, right)):
        shown = found[SHOWN]
        order = np.argsort(shown.x)
        # Neighbours on the axis share a pixel: the largest of each six channels is drawn.
        starts = np.arange(0, len(order), 6)
        for label, maxima, color in (
            ("activations", shown.x, "C0"),
            ("weights", shown.w, "C7"),
            # With α = 1/2 these are equal, channel by channel.
            ("either, smoothed", shown.smooth_x, "C2"),
        ):
            left.plot(
                starts, np.maximum.reduceat(maxima[order], starts), color=color, label=label, linewidth=1
            )
        left.set(title=f"{SHOWN}: largest magnitudes", xlabel="input channels, by size before", yscale="log")
        left.legend(fontsize=7)
        for number, (kind, label) in enumerate(KINDS.items()):
            groups = [maxima for name, maxima in found.items() if name.endswith(kind)]
            before, after = ([outlier(m.x) for m in groups], [outlier(m.smooth_x) for m in groups])
            layers = range(len(groups))
            right.plot(layers, before, "o-", color=f"C{number}", label=label)
            right.plot(layers, after, "o:", color=f"C{number}", label=f"{label}, smoothed")
        right.set(title="largest channel / median channel", xlabel="layer", yscale="log")
        right.legend(title="input of", fontsize=7, loc="upper left", bbox_to_anchor=(0.42, 1.0))


def main() -> None:
    """Measure on the real model, print tables and write the plot."""
    loaded = load(assets.model())
    calibration = calibrate_model(loaded, assets.news(), tokens=WINDOWS * WINDOW)
    smoothing = make_smoothing(loaded.weights, loaded.config, calibration, fold_down=True)
    found = measure(loaded.weights, calibration, smoothing)
    rows: list[tuple[object, ...]] = []
    for kind, label in KINDS.items():
        before = {name: outlier(maxima.x) for name, maxima in found.items() if name.endswith(kind)}
        after = [outlier(found[name].smooth_x) for name in before]
        worst = max(before, key=lambda name: before[name])
        rows.append(
            (
                label,
                float(np.median([*before.values()])),
                float(np.median(after)),
                worst,
                int(found[worst].x.argmax()),
                before[worst],
                outlier(found[worst].smooth_x),
            )
        )
    table(("input of", "median", "smoothed", "largest in", "channel", "there", "smoothed"), rows)
    rows = []
    for layer in range(loaded.config.n_layers):
        maxima = [found[f"blk.{layer}.{kind}"] for kind in KINDS]
        cells = (f"{int(m.x.argmax())}: {outlier(m.x):.3g} → {outlier(m.smooth_x):.3g}" for m in maxima)
        rows.append((layer, *cells))
    table(("layer", *KINDS.values()), rows)
    draw(found, FOLDER / "smoothquant.svg")


if __name__ == "__main__":
    main()
