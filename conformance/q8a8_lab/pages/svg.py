"""Parts of drawings, as SVG that takes the colours of the page's theme.

The fragments are included in the pages, not linked: so they follow the theme switch. A drawing is 340 units
wide, for a phone's column; on a desk several stand side by side.
"""

from __future__ import annotations

from html import escape

WIDTH = 340


def text(x: float, y: float, words: str, style: str = "") -> str:
    """Return a line of text."""
    return f'<text x="{x}" y="{y}" class="{style}">{escape(words)}</text>'


def card(title: str, height: int, *parts: str) -> str:
    """Return a drawing with a title above a frame."""
    frame = f'<rect x="1" y="26" width="{WIDTH - 2}" height="{height - 27}" rx="4" class="frame"/>'
    inside = "".join((text(1, 16, title, "title"), frame, *parts))
    return (
        f'<svg class="drawing" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"{inside}</svg>"
    )


def box(x: float, y: float, width: float, words: str, style: str = "") -> str:
    """Return a box of 26 units' height with a word in its middle."""
    frame = f'<rect x="{x}" y="{y}" width="{width}" height="26" class="{style}"/>'
    return frame + text(x + width / 2, y + 18, words, "code middle")


def arrow(x: float, y: float, to_x: float, to_y: float) -> str:
    """Return an arrow downwards from one place to another."""
    return f'<path d="M{x} {y} L{to_x} {to_y} m-4 -7 l4 7 l4 -7" class="arrow"/>'


def cards(*drawings: str) -> str:
    """Return drawings side by side, as far as the column is wide enough."""
    return f'<div class="cards">{"".join(drawings)}</div>\n'
