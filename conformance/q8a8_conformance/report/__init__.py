"""Reports: one finished run, written as text, JSON, JUnit XML, Markdown or HTML.

Each format is one function from a :class:`~q8a8_conformance.report.model.Run` to a string; none computes
anything of its own. Files appear whole or not at all.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from q8a8_conformance.report import htmlpage, jsondoc, junit, markdown, text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from q8a8_conformance.report.model import Run

WRITERS: Mapping[str, Callable[[Run], str]] = MappingProxyType(
    {"json": jsondoc.render, "junitxml": junit.render, "markdown": markdown.render, "html": htmlpage.render}
)
"""The formats that go into files, by the name of their option."""


def render(run: Run, kind: str, *, colour: bool = False) -> str:
    """Give a run as ``text`` (with terminal colours or without) or as one of :data:`WRITERS`."""
    return text.render(run, colour=colour) if kind == "text" else WRITERS[kind](run)


def write(run: Run, kind: str, path: Path) -> None:
    """Write a run to a file: to a temporary one beside it, then renamed.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(render(run, kind))
        # A temporary file is private; a report is as readable as the umask lets any new file be.
        mask = os.umask(0)
        os.umask(mask)
        Path(name).chmod(0o666 & ~mask)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
