"""The two plots of the evaluation's page, as SVG: the same numbers give the same bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure

from q8a8_conformance.evaluate.plots.figure import STYLE, finish

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["ERRORS", "LINEAR", "draw_bits", "draw_changes"]

ERRORS = 2.0
"""Standard errors to each side of a bar."""

LINEAR = 0.1
"""Percent around zero within which the axis of changes is linear; it is logarithmic beyond."""

# Matplotlib's stub wants the literal names of its parameters.
_STYLE: Any = STYLE

_COLOURS = {32: "#59636e", 16: "#0969da", 8: "#cf222e"}
"""By the bits of an activation, at most."""


def draw_changes(schemes: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the change of perplexity of every scheme but the first, with error bars.

    Parameters
    ----------
    schemes
        Those of the report, the float model first.
    path
        The SVG file.
    """
    shown = schemes[1:]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(8, 0.8 + 0.22 * len(shown)), layout="constrained")
        axis = figure.subplots()
        for place, each in enumerate(shown):
            colour = _colour(each)
            axis.barh(place, each["delta_percent"], color=colour, alpha=0.35, height=0.7)
            error = ERRORS * (each["delta_error_percent"] or 0.0)
            axis.errorbar(each["delta_percent"], place, xerr=error, color=colour, capsize=2, fmt="o")
        axis.axvline(0, color="black", linewidth=0.8)
        axis.set_xscale("symlog", linthresh=LINEAR)
        axis.set_yticks(range(len(shown)), [each["scheme"] for each in shown])
        axis.set_ylim(len(shown) - 0.4, -0.6)
        axis.set_xlabel("change of perplexity against float, % (linear within ±0.1), ± 2 standard errors")
        _legend(axis)
    finish(figure, path)


def draw_bits(schemes: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw perplexity against bits a weight, coloured by the bits of activations.

    Parameters
    ----------
    schemes, path
        As `draw_changes`. Schemes that leave weights in float and quantize the cache are at 32 bits.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(8, 5.5), layout="constrained")
        axis = figure.subplots()
        for each in schemes:
            colour = _colour(each)
            # The paired error: what moves all schemes together is no reason to doubt their order.
            error = ERRORS * (each["delta_error_percent"] or 0.0) / 100 * schemes[0]["perplexity"]
            x, y = each["weight_bits"], each["perplexity"]
            axis.errorbar(x, y, yerr=error, color=colour, capsize=2, fmt="o")
            axis.annotate(
                each["scheme"], (x, y), xytext=(4, 2), textcoords="offset points", fontsize=5.5, color=colour
            )
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        ticks = [3, 4, 5, 6, 8, 16, 32]
        axis.set_xticks(ticks, [str(tick) for tick in ticks])
        axis.minorticks_off()
        low = min(each["perplexity"] for each in schemes)
        high = max(each["perplexity"] for each in schemes)
        ticks = [
            tick
            for tick in (12, 14, 16, 18, 20, 22, 25, 30, 40, 50, 70, 100, 200, 500, 1000)
            if low <= tick <= high
        ]
        axis.set_yticks(ticks, [str(tick) for tick in ticks])
        axis.set_xlabel("bits a weight, scales included")
        axis.set_ylabel("perplexity, ± 2 paired standard errors")
        _legend(axis)
    finish(figure, path)


def _colour(each: Mapping[str, Any]) -> str:
    """Choose by the bits of activations: 8 and a little more for scales and outliers, 16, or more."""
    bits = each["activation_bits"]
    return _COLOURS[8 if bits < 12 else 16 if bits <= 16 else 32]


def _legend(axis: Any) -> None:  # noqa: ANN401 (Axes, whose methods are partly untyped)
    for bits, colour in _COLOURS.items():
        axis.plot(
            [], [], "o", color=colour, label=f"{bits}-bit activations" if bits < 32 else "float activations"
        )
    axis.legend(loc="best", fontsize=7)
