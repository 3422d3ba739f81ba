"""Where a command's text goes, and what becomes of it where nobody reads it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, TextIO

from q8a8.atomic import is_standard_output

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def text_stream(files: Iterable[Path | None]) -> TextIO:
    """Return the stream for text: standard error where a file goes to standard output, for a program."""
    return sys.stderr if any(path is not None and is_standard_output(path) for path in files) else sys.stdout


def write_to(stream: TextIO, text: str) -> str:
    """Write text to standard output or error; return why it could not be written, empty where it was.

    That a pipe's reader has closed it is no reason: it has read what it wanted.
    """
    try:
        stream.write(_encodable(text, stream))
        stream.flush()
    except BrokenPipeError:
        _discard(stream)
    except OSError as error:
        _discard(stream)
        return str(error)
    return ""


def _encodable(text: str, stream: TextIO) -> str:
    """Replace what the stream's encoding does not have: an arrow, in a terminal of ASCII."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)


def _discard(stream: TextIO) -> None:
    """Send the rest of a stream nowhere: at its end Python would try again to write it, and fail."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
