"""The two plots of the evaluation's page, as SVG: the same numbers give the same bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure

from q8a8_lab.evaluation.plots.figure import STYLE, finish

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["ERRORS", "LINEAR", "draw_bits", "draw_changes", "spread"]

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
        _changes(axis, "x")
        axis.set_yticks(range(len(shown)), [each["scheme"] for each in shown])
        axis.set_ylim(len(shown) - 0.4, -0.6)
        axis.set_xlabel("change of perplexity against float, % (linear within ±0.1), ± 2 standard errors")
        _legend(axis)
    finish(figure, path)


def draw_bits(schemes: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the change of perplexity against bits a weight, coloured by the bits of activations.

    Parameters
    ----------
    schemes, path
        As `draw_changes`. Schemes that leave weights in float and quantize the cache are at 32 bits.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(8, 7), layout="constrained")
        axis = figure.subplots()
        for each in schemes:
            error = ERRORS * (each["delta_error_percent"] or 0.0)
            x, y = each["weight_bits"], each["delta_percent"]
            axis.errorbar(x, y, yerr=error, color=_colour(each), capsize=2, fmt="o")
        axis.set_xscale("log", base=2)
        _changes(axis, "y")
        axis.set_xticks([3, 4, 5, 6, 8, 16, 32], ["3", "4", "5", "6", "8", "16", "32"])
        axis.minorticks_off()
        axis.set_xlim(2.8, 56)
        axis.set_xlabel("bits a weight, scales included")
        axis.set_ylabel("change of perplexity against float, %, ± 2 standard errors")
        _legend(axis)
        _label(axis, schemes)
    finish(figure, path)


def _changes(axis: Any, which: str) -> None:  # noqa: ANN401 (Axes, whose methods are partly untyped)
    """Make an axis of changes: linear around zero, logarithmic beyond, with plain numbers."""
    ticks = [0, 0.1, 1, 10, 100, 1000, 10000]
    low, high = getattr(axis, f"get_{which}lim")()
    getattr(axis, f"set_{which}scale")("symlog", linthresh=LINEAR)
    shown = [tick for tick in ticks if tick <= high]
    shown = [-tick for tick in reversed(ticks[1:]) if -tick >= low] + shown
    getattr(axis, f"set_{which}ticks")(shown, [f"{tick:g}" for tick in shown])
    # Limits as they are now: labels are placed by them.
    getattr(axis, f"set_{which}lim")(getattr(axis, f"get_{which}lim")())


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Move places apart, upwards, until neighbours have this gap; their order stays.

    Parameters
    ----------
    places
        In any order.
    gap
        What is wanted between two.
    """
    moved = list(places)
    last = -float("inf")
    for index in sorted(range(len(places)), key=places.__getitem__):
        last = moved[index] = max(places[index], last + gap)
    return moved


def _label(axis: Any, schemes: Sequence[Mapping[str, Any]]) -> None:  # noqa: ANN401 (as `_changes`)
    """Write the names in columns beside the points, none over another, each with a line to its point."""
    columns: dict[int, list[Mapping[str, Any]]] = {}
    for each in schemes:
        columns.setdefault(round(each["weight_bits"]), []).append(each)
    # From data to a fraction of the axes' height, in which a line of text takes 1.6 %.
    transform = axis.transData + axis.transAxes.inverted()
    for column in columns.values():
        right = max(each["weight_bits"] for each in column) * 1.06
        heights = [float(transform.transform((right, each["delta_percent"]))[1]) for each in column]
        for each, height in zip(column, spread(heights, 0.016), strict=True):
            axis.annotate(
                each["scheme"],
                (each["weight_bits"], each["delta_percent"]),
                xytext=(right, height),
                textcoords=axis.get_xaxis_transform(),
                fontsize=6,
                color=_colour(each),
                verticalalignment="center",
                arrowprops={
                    "arrowstyle": "-",
                    "linewidth": 0.3,
                    "color": _colour(each),
                    "relpos": (0, 0.5),
                    "shrinkA": 0,
                },
            )


def _colour(each: Mapping[str, Any]) -> str:
    """Choose by the bits of activations: 8 and a little more for scales and outliers, 16, or more."""
    bits = each["activation_bits"]
    return _COLOURS[8 if bits < 12 else 16 if bits <= 16 else 32]


def _legend(axis: Any) -> None:  # noqa: ANN401 (Axes, whose methods are partly untyped)
    for bits, colour in _COLOURS.items():
        axis.plot(
            [], [], "o", color=colour, label=f"{bits}-bit activations" if bits < 32 else "float activations"
        )
    axis.legend(loc="upper right", fontsize=7)
