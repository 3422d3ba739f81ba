"""The same picture in a quarter of the text: an SVG of matplotlib's, rewritten so that it can be committed.

Coordinates are rounded to a tenth of a point, and lines written relative to their last point; styles become
classes; groups and names that nothing refers to are dropped. matplotlib draws a disc at every point of a line
by a ``<use>`` each: a path of round-capped lines of no length is the same picture.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

__all__ = ["compact"]

_SVG = "{http://www.w3.org/2000/svg}"
_HREF = "{http://www.w3.org/1999/xlink}href"
_GROUP, _PATH, _USE = f"{_SVG}g", f"{_SVG}path", f"{_SVG}use"
_REFERENCE = re.compile(r"#([\w-]+)")
_NUMBER = re.compile(r"-?\d+\.\d+")

_ALIKE = {"LineCollection": "line2d", "text": "patch"}
"""Kinds of elements that alternate: error bars and their points, annotations and their arrows."""


def compact(text: str) -> str:
    """Rewrite a figure that matplotlib saved as SVG.

    Parameters
    ----------
    text
        What `Figure.savefig` wrote, with text as text (``svg.fonttype: none``).

    Returns
    -------
    str
        SVG of the same picture, a line of text for each kind of element in a row.
    """
    root = ET.fromstring(text)  # noqa: S314 (this project's own plot)
    _merge_discs(root)
    _break_lines(root)
    names = {each.get("id"): each for each in root.iter()}
    referred = dict.fromkeys(
        name
        for each in root.iter()
        for key in (_HREF, "clip-path")
        for name in _REFERENCE.findall(each.get(key, ""))
        if name in names
    )
    short = {name: f"i{number}" for number, name in enumerate(referred)}
    classes: dict[str, str] = {}
    for each in root.iter():
        _shorten(each, short, classes)
    _flatten(root)
    style = next(root.iter(f"{_SVG}style"))
    style.text = "".join((style.text or "", *(f".{name}{{{rules}}}" for rules, name in classes.items())))
    ET.register_namespace("", _SVG[1:-1])
    return ET.tostring(root, encoding="unicode").replace(" />", "/>") + "\n"


def _merge_discs(root: ET.Element) -> None:
    """Replace the marks of each group by one path, where all are the same disc in one colour."""
    shapes = {f"#{each.get('id')}": each.get("d", "") for each in root.iter(_PATH)}
    for group in list(root.iter(_GROUP)):
        marks = group.findall(_USE)
        if len({(mark.get(_HREF), mark.get("style")) for mark in marks}) != 1:
            continue
        disc = re.match(r"M 0 ([\d.]+)\s+C ", shapes[marks[0].get(_HREF, "")])
        colour = re.fullmatch(r"fill: (#\w+); stroke: \1", marks[0].get("style", ""))
        if not disc or not colour:
            continue
        for mark in marks:
            group.remove(mark)
        points = " ".join(f"M {mark.get('x')} {mark.get('y')} h 0" for mark in marks)
        # Half of the edge, 1 point wide, lies outside of the disc.
        width = 2 * float(disc[1]) + 1
        ET.SubElement(
            group,
            _PATH,
            d=points,
            style=f"stroke: {colour[1]}; stroke-width: {width:g}; stroke-linecap: round",
        )


def _break_lines(root: ET.Element) -> None:
    """Drop the layout of the text; begin a line where elements of another kind begin."""
    for each in root.iter():
        each.text, each.tail = (each.text or "").strip(), ""
    for parent in root.iter(_GROUP):
        if parent.get("id", "").startswith(("figure", "axes")):
            kinds = [each.get("id", "").partition("_")[0] for each in parent]
            kinds = [_ALIKE.get(kind, kind) for kind in kinds]
            for each, kind, following in zip(parent, kinds, [*kinds[1:], ""], strict=True):
                each.tail = "\n" if kind != following else ""


def _shorten(element: ET.Element, short: dict[str, str], classes: dict[str, str]) -> None:
    """Round an element's numbers, shorten its name and its references, and turn its style into a class."""
    found = dict(element.attrib)
    element.attrib.clear()
    rules = [found.pop("style", "")]
    if found.get("id") in short:
        element.set("id", short[found["id"]])
    if _HREF in found:
        element.set("href", f"#{short[found[_HREF][1:]]}")
    if "clip-path" in found:
        rules.append(_REFERENCE.sub(lambda name: f"#{short[name[1]]}", f"clip-path: {found['clip-path']}"))
    for key in ("xmlns", "viewBox", "width", "height", "type", "x", "y", "transform"):
        # A text that is not turned is turned by 0 degrees.
        if key in found and not found[key].startswith("rotate(-0 "):
            element.set(key, _NUMBER.sub(lambda number: _tenth(float(number[0])), found[key]))
    if "d" in found:
        element.set("d", _path(found["d"]))
    style = "; ".join(filter(None, rules)).replace("; ", ";").replace(": ", ":")
    if style:
        element.set("class", classes.setdefault(style, f"c{len(classes)}"))


def _path(text: str) -> str:
    """Write a path in tenths of a point, straight lines relative to the last point, as it was rounded."""
    found, last = "", [0.0, 0.0]
    for letter, numbers in re.findall(r"([A-Za-z])([^A-Za-z]*)", text):
        values = [round(float(number), 1) for number in numbers.split()]
        shown = values
        if letter == "L":
            shown = [value - origin for value, origin in zip(values, last, strict=True)]
        found += (letter.lower() if letter == "L" else letter) + " ".join(map(_tenth, shown))
        if letter in "MLCQ":
            last = values[-2:]
    return found.replace(" -", "-")


def _tenth(value: float) -> str:
    return f"{round(value, 1) + 0.0:g}"


def _flatten(element: ET.Element) -> None:
    """Put what is in groups that do nothing in their place."""
    children: list[ET.Element] = []
    for child in element:
        _flatten(child)
        if child.tag == f"{_SVG}metadata" or (child.tag == _GROUP and not len(child)):
            continue
        if child.tag == _GROUP and not child.attrib:
            child[-1].tail = child.tail or child[-1].tail
            children += child
        else:
            children.append(child)
    element[:] = children
