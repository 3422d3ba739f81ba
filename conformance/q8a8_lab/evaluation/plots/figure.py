"""How the plots look, and how they are saved: the same numbers give the same bytes."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from q8a8_conformance.files.atomic import write_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from matplotlib.axes import Axes

__all__ = ["FOLDER", "drawn", "finish", "panels", "table"]

FOLDER = Path(__file__).parents[4] / "docs" / "assets" / "methods"
"""Where the pages look for their plots, in a checkout."""

STYLE: dict[Any, Any] = {
    # Fixed ids in the file, and text as text: small, and the same in every run.
    "svg.hashsalt": "q8a8",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.titlesize": 9,
    "legend.title_fontsize": 9,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.markersize": 3,
    "legend.frameon": False,
}


def panels(count: int, *, share_y: bool = False) -> tuple[Figure, list[Axes]]:
    """Make a figure of some panels side by side, 8 inches wide."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8, 3.4), layout="constrained")
        axes = figure.subplots(1, count, squeeze=False, sharey=share_y)[0]
    return figure, list(axes)


def finish(figure: Figure, path: Path) -> None:
    """Save a figure as SVG, without a date; folders are made, and the file appears whole or not at all."""
    text = StringIO()
    with mpl.rc_context(STYLE):
        FigureCanvasSVG(figure)
        figure.savefig(text, format="svg", metadata={"Date": None})
    path.parent.mkdir(parents=True, exist_ok=True)
    # matplotlib leaves blanks at the ends of lines.
    write_text("".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines()), path)


@contextmanager
def drawn(path: Path, count: int, *, share_y: bool = False) -> Iterator[tuple[Figure, list[Axes]]]:
    """Give `panels` to draw in, small letters and marks included, and `finish` the figure in the end."""
    with mpl.rc_context(STYLE):
        figure, axes = panels(count, share_y=share_y)
        yield figure, axes
    finish(figure, path)


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Print what was drawn, as a table in Markdown; numbers with three significant digits."""
    lines = [list(head)]
    lines.append(["---"] * len(lines[0]))
    lines += [[f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    sys.stdout.write("".join("| " + " | ".join(line) + " |\n" for line in lines))
