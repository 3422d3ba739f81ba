"""The verdict as a badge: an SVG that needs no service to draw it, and no font to be right."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

from q8a8_conformance.results.verdict import Verdict

if TYPE_CHECKING:
    from q8a8_conformance.results.run import Run

LABEL = "Q8_A8"

_COLOURS = {
    Verdict.CONFORMS: "#1a7f37",
    Verdict.DOES_NOT_CONFORM: "#cf222e",
    Verdict.CRASHED: "#a40e26",
}
_GREY = "#6e7781"
"""The colour of a verdict that says nothing about the kernel."""
_CHARACTER = 6.6
"""Pixels of a character; ``textLength`` makes it so, whatever font there is."""
_PADDING = 6


def render(run: Run) -> str:
    """Return the badge: the label, the verdict, and how it came about where that is not the usual way."""
    return draw(LABEL, message(run), _COLOURS.get(run.judgement.verdict, _GREY))


def message(run: Run) -> str:
    """Return the verdict with what is unusual: another profile, a part of the suite, known failures."""
    words = run.judgement.words.replace("-", " ")
    notes = []
    if run.request.profile != "kernel":
        notes.append(run.request.profile)
    if run.request.rules is not None or run.request.case is not None or not run.complete:
        notes.append("in part")
    if run.judgement.known and run.judgement.verdict is not Verdict.CONFORMS:
        notes.append(f"{len(run.judgement.known)} known failures")
    return f"{words} ({', '.join(notes)})" if notes else words


def draw(label: str, words: str, colour: str) -> str:
    """Draw a badge of two fields: white words, the left on grey, the right on a colour."""
    left, right = (round(len(text) * _CHARACTER) + 2 * _PADDING for text in (label, words))
    title = quoteattr(f"{label}: {words}")
    fields = "".join(
        f'<text x="{x + width / 2:g}" y="14" textLength="{width - 2 * _PADDING}" '
        f'lengthAdjust="spacingAndGlyphs">{escape(text)}</text>'
        for x, width, text in ((0, left, label), (left, right, words))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20" role="img" '
        f"aria-label={title}>"
        f"<title>{escape(f'{label}: {words}')}</title>"
        f'<clipPath id="r"><rect width="{left + right}" height="20" rx="3"/></clipPath>'
        f'<g clip-path="url(#r)"><rect width="{left}" height="20" fill="#444c56"/>'
        f'<rect x="{left}" width="{right}" height="20" fill="{colour}"/></g>'
        f'<g fill="#fff" text-anchor="middle" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">'
        f"{fields}</g></svg>\n"
    )
