"""Reports: one finished run, written as text, JSON, JUnit XML, Markdown, HTML, a badge or a statement.

Each format is one function from a :class:`~q8a8_conformance.results.run.Run` to a string; none computes
anything of its own. Files appear whole or not at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from q8a8.atomic import write_text
from q8a8_conformance.report import badge, htmlpage, jsondoc, junit, markdown, statement, text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from q8a8_conformance.results.run import Run


@dataclass(frozen=True)
class Writer:
    """A format that goes into files: how it is rendered, and what the help of its option calls it."""

    render: Callable[[Run], str]
    about: str


WRITERS: Mapping[str, Writer] = MappingProxyType(
    {
        "json": Writer(jsondoc.render, "the report as JSON"),
        "junitxml": Writer(junit.render, "the report as JUnit XML"),
        "markdown": Writer(markdown.render, "the report as Markdown, for the summary of a CI job"),
        "html": Writer(htmlpage.render, "the report as one HTML file, with plots"),
        "badge": Writer(badge.render, "the verdict as an SVG badge"),
        "statement": Writer(statement.render, "a statement of conformance, as Markdown"),
    }
)
"""The formats that go into files, by the name of their option."""

JUDGEMENTS = ("badge", "statement")
"""Those that certify a verdict on the kernel: a run without one has none of them."""


def render(run: Run, kind: str, *, colour: bool = False, detail: text.Detail = text.NORMAL) -> str:
    """Return a run as ``text`` (with terminal colours or without) or as one of :data:`WRITERS`."""
    return text.render(run, colour=colour, detail=detail) if kind == "text" else WRITERS[kind].render(run)


def write(run: Run, kind: str, path: Path) -> None:
    """Write a run to a file as `q8a8.atomic.writing` does: whole or not at all; ``-`` is standard output.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    # A path on the command line may hold bytes that are no text.
    write_text(render(run, kind).encode("utf-8", "replace").decode(), path)
