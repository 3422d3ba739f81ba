"""What every HTML page of the suite has: one file, no scripts, nothing loaded from elsewhere."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from q8a8_conformance.report.style import STYLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def page(title: str, body: Iterable[str]) -> str:
    """Return a document; `title` is plain text, `body` HTML."""
    head = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>"
    )
    return "\n".join([head, *body, "</body></html>"]) + "\n"


def table(head: Iterable[str], rows: Iterable[tuple[object, ...]]) -> Iterator[str]:
    """Make a table; cells are HTML, numbers are aligned right. A phone shows a row as a list."""
    names = tuple(head)
    yield "<table><thead><tr>" + "".join(f"<th>{name}</th>" for name in names) + "</tr></thead><tbody>"
    for row in rows:
        yield "<tr>"
        for name, cell in zip(names, row, strict=True):
            label = f' data-label="{escape(name, quote=True)}"'
            yield (
                f'<td class="number"{label}>{cell:,}</td>'
                if isinstance(cell, int)
                else f"<td{label}>{cell}</td>"
            )
        yield "</tr>"
    yield "</tbody></table>"


def facts(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Make a list of names and values, plain text; what has no value is left out."""
    yield "<dl>"
    for name, value in rows:
        if value:
            yield f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>"
    yield "</dl>"
