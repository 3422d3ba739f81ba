"""Pictures for the HTML report, as inline SVG: no script, nothing loaded, colours from the page's style.

- :func:`bound` shows where in the bound of Q8A8-ORD-2 the results of a function lie: the whole bound, and
  below it the part that was used, enlarged.
- :func:`bits` shows two numbers bit by bit, in boxes for sign, exponent and mantissa; where they differ is
  marked.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from q8a8_conformance.results.bound_use import BoundUse

WIDTH, LEFT, RIGHT = 720, 40, 40
_SPAN = WIDTH - LEFT - RIGHT
BINS = 60
"""Bars of the enlarged part."""
_HEIGHT = 90
"""Pixels of the highest bar."""

FIELDS = {
    "float": (("sign", 1), ("exponent", 8), ("mantissa", 23)),
    "half": (("sign", 1), ("exponent", 5), ("mantissa", 10)),
    "int8": (("sign", 1), ("value", 7)),
}
"""How the bits of a number are divided, highest first."""

_BOX = 17
"""Pixels of a bit's box."""
_GAP = 10


def bound(use: BoundUse) -> str:
    """Draw where in the bound the results of one function lie.

    Above, the bound from -1 to 1 with the part between the least and the largest fraction filled; below, that
    part enlarged, as a histogram. Results outside of the bound are counted, not drawn: they may be anywhere.
    """
    if use.largest_fraction is None or use.least is None or use.largest is None:
        return ""
    reach = use.largest_fraction or 1.0
    words = (
        f"{use.function}: {use.results} results use at most {use.largest_fraction:.2%} of the bound, "
        f"in {use.worst}; {use.outside} lie outside"
    )
    parts = [
        f'<svg class="plot" viewBox="0 0 {WIDTH} 232" role="img" aria-label="{escape(words)}">',
        *_whole(use.least, use.largest, reach),
        *_enlarged(use.fractions, reach),
        "</svg>",
    ]
    return "".join(parts)


def _x(fraction: float, reach: float = 1.0) -> float:
    return round(LEFT + (fraction / reach + 1) / 2 * _SPAN, 2)


def _whole(least: float, largest: float, reach: float) -> Iterator[str]:
    """Draw the whole bound as a bar with what was used of it, and the lines to the enlargement."""
    yield f'<rect class="room" x="{LEFT}" y="24" width="{_SPAN}" height="16"/>'
    low, high = _x(min(least, 0.0)), _x(max(largest, 0.0))
    yield f'<rect class="used" x="{low}" y="24" width="{max(high - low, 1):.2f}" height="16"/>'
    for place, words in ((-1, "−bound"), (0, "exact"), (1, "+bound")):
        yield f'<line class="axis" x1="{_x(place)}" x2="{_x(place)}" y1="20" y2="44"/>'
        yield f'<text x="{_x(place)}" y="14">{words}</text>'
    for place in (-1, 1):
        yield f'<path class="lead" d="M{_x(place * reach)} 44 L{_x(place)} 92"/>'


def _enlarged(fractions: tuple[float, ...], reach: float) -> Iterator[str]:
    """Draw the histogram of the fractions from -reach to reach."""
    counts = [0] * BINS
    for fraction in fractions:
        counts[min(int((fraction / reach + 1) / 2 * BINS), BINS - 1)] += 1
    most, width = max(counts, default=0) or 1, _SPAN / BINS
    base = 100 + _HEIGHT
    for place, count in enumerate(counts):
        if count:
            height = max(count / most * _HEIGHT, 1.5)
            yield (
                f'<rect class="bar" x="{LEFT + place * width + 0.5:.2f}" y="{base - height:.2f}" '
                f'width="{width - 1:.2f}" height="{height:.2f}"><title>{count}</title></rect>'
            )
    yield f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>'
    for tick in (-1.0, -0.5, 0.0, 0.5, 1.0):
        x, words = _x(tick), _percent(tick * reach)
        yield f'<line class="axis" x1="{x}" x2="{x}" y1="{base}" y2="{base + 5}"/>'
        yield f'<text x="{x}" y="{base + 20}">{words}</text>'
    below = f'y="{base + 38}"'
    yield f'<text class="dim" x="{LEFT}" {below} text-anchor="start">(computed − exact) / bound</text>'
    yield (
        f'<text class="dim" x="{WIDTH - RIGHT}" {below} text-anchor="end">'
        f"highest bar: {most} of {len(fractions)} results</text>"
    )


def _percent(fraction: float) -> str:
    return f"{fraction:+.2%}".replace("-", "−") if fraction else "0"


def bits(kind: str, want: bytes, got: bytes) -> str:
    """Draw two numbers bit by bit.

    Parameters
    ----------
    kind
        A key of :data:`FIELDS`.
    want, got
        Their little-endian bytes.
    """
    fields = FIELDS[kind]
    size = sum(width for _, width in fields)
    rows = [int.from_bytes(data, "little") for data in (want, got)]
    differ = rows[0] ^ rows[1]
    left = 52
    width = left + size * _BOX + (len(fields) - 1) * _GAP + 4
    places = list(_places(fields, left))
    digits = size // 4 + 2
    label = f"want {rows[0]:#0{digits}x}, got {rows[1]:#0{digits}x}: {differ.bit_count()} bits differ"
    size_of = f'viewBox="0 0 {width} 76" style="max-width:{width}px"'
    parts = [f'<svg class="bits" {size_of} role="img" aria-label="{label}">']
    start = 0
    for name, count in fields:
        middle = (places[start] + places[start + count - 1] + _BOX) / 2
        words = name if count > 2 else name[:4]
        parts.append(f'<text class="dim" x="{middle:g}" y="12">{words}</text>')
        start += count
    for row, (word, value) in enumerate(zip(("want", "got"), rows, strict=True)):
        y = 20 + row * 28
        parts.append(f'<text x="0" y="{y + 15}" text-anchor="start">{word}</text>')
        for place, x in enumerate(places):
            shift = size - 1 - place
            style, ink = ("bit differs", ' class="on-differs"') if differ >> shift & 1 else ("bit", "")
            parts.append(f'<rect class="{style}" x="{x}" y="{y}" width="{_BOX - 2}" height="22" rx="2"/>')
            parts.append(f'<text{ink} x="{x + _BOX / 2 - 1:g}" y="{y + 15}">{value >> shift & 1}</text>')
    return "".join([*parts, "</svg>"])


def _places(fields: tuple[tuple[str, int], ...], left: int) -> Iterator[int]:
    """Yield where each bit's box begins."""
    for _, width in fields:
        yield from (left + _BOX * place for place in range(width))
        left += _BOX * width + _GAP
