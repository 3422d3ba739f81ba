"""Plots as small SVG: the same picture as matplotlib's, and as committed."""

from __future__ import annotations

import re
from io import StringIO
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_svg import FigureCanvasSVG

from q8a8_lab.evaluation.plots.compact import compact
from q8a8_lab.evaluation.plots.figure import FOLDER, STYLE, panels

if TYPE_CHECKING:
    from pathlib import Path

SVG = "{http://www.w3.org/2000/svg}"
X = np.arange(200.0)
Y = np.exp2(np.random.default_rng(0).standard_normal(200))
COMMITTED = sorted((*FOLDER.glob("*.svg"), *FOLDER.parent.glob("*.svg")))


@pytest.fixture(scope="module")
def original() -> str:
    """Draw what our plots draw: lines with marks, error bars, bars, annotations, and a logarithmic axis."""
    text = StringIO()
    with mpl.rc_context(STYLE):
        figure, (left, right) = panels(2)
        left.plot(X, Y, "o-", label="marked <&>")
        left.plot(X, 2 * Y, "--", label="dashed")
        left.set(yscale="log", title="left", ylabel="turned")
        left.legend()
        right.errorbar(X[:9], Y[:9], yerr=0.1, fmt="o", capsize=2)
        right.barh(X[:9], Y[:9], alpha=0.35)
        right.plot(X[:3], Y[:3], "s", color="black")
        right.annotate("here", (1, 1), xytext=(5, 2), arrowprops={"arrowstyle": "-"})
        FigureCanvasSVG(figure)
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def points(root: ET.Element) -> list[tuple[float, float]]:
    """Follow all paths that are drawn in place, and return where they go, with marks and ticks; sorted."""
    found = [(float(mark.attrib["x"]), float(mark.attrib["y"])) for mark in root.iter(f"{SVG}use")]
    definitions = {id(path) for defs in root.iter(f"{SVG}defs") for path in defs.iter(f"{SVG}path")}
    for path in root.iter(f"{SVG}path"):
        if id(path) in definitions:
            continue
        at = (0.0, 0.0)
        for letter, numbers in re.findall(r"([A-Za-z])([^A-Za-z]*)", path.attrib["d"]):
            values = [float(number) for number in re.findall(r"-?[\d.]+", numbers)]
            if letter in "MLQ":
                at = (values[-2], values[-1])
            elif letter == "l":
                at = (at[0] + values[0], at[1] + values[1])
            else:
                assert letter in "zh"
                continue
            found.append(at)
    return sorted(found)


def test_nothing_moves(original: str) -> None:
    """Every point of every line, mark and tick is where it was, to the rounding: errors do not add up."""
    before, after = points(ET.fromstring(original)), points(ET.fromstring(compact(original)))  # noqa: S314
    assert len(before) == len(after) > 600
    assert np.allclose(sorted(y for _, y in before), sorted(y for _, y in after), rtol=0, atol=0.0501)
    assert np.allclose(sorted(x for x, _ in before), sorted(x for x, _ in after), rtol=0, atol=0.0501)


def test_text_stays(original: str) -> None:
    """All texts are there, in order, and those that are turned stay turned."""

    def texts(text: str) -> list[str]:
        root = ET.fromstring(text)  # noqa: S314 (our own)
        return ["".join(part.strip() for part in each.itertext()) for each in root.iter(f"{SVG}text")]

    small = compact(original)
    assert texts(small) == texts(original)
    assert "marked <&>" in texts(small)
    assert small.count("rotate(-90") == original.count("rotate(-90") == 1


def test_styles_stay(original: str) -> None:
    """Each element has the style that it had, as a class; marks have the width of the disc and its edge."""
    small = compact(original)
    rules = dict(re.findall(r"\.(c\d+)\{([^}]*)\}", small))
    used = set(re.findall(r'class="(\w+)"', small))
    assert used == rules.keys()
    plain = {rule.replace(" ", "") for rule in rules.values()}
    for style in set(re.findall(r'style="([^"]*)"', original)):
        if "fill: #1f77b4; stroke: #1f77b4" in style:
            continue
        assert any(rule.startswith(style.replace(" ", "")) for rule in plain), style
    assert any(rule.startswith("stroke:#1f77b4;stroke-width:4;stroke-linecap:round") for rule in plain)
    # Squares are no discs.
    assert small.count("<use") > 3


def test_references_resolve(original: str) -> None:
    """Everything that is referred to is there, once, and nothing else has a name."""
    small = compact(original)
    names = re.findall(r'id="(\w+)"', small)
    assert sorted(names) == sorted(set(re.findall(r'(?:href="|url\()#(\w+)', small)))


def test_it_is_small(original: str) -> None:
    """A third of the text is left, in a few lines."""
    small = compact(original)
    assert len(small) < len(original) / 3
    assert small.count("\n") < 20


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_committed_plots_are_small(path: Path) -> None:
    """A plot of the pages is one that `finish` wrote: at most 24 KiB, in a few dozen lines."""
    text = path.read_text(encoding="utf-8")
    assert len(text) < 24 << 10
    assert text.count("\n") < 36
    assert "metadata" not in text


def test_there_are_plots() -> None:
    """The test above looks at the pages' plots."""
    assert len(COMMITTED) >= 11
