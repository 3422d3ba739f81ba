"""Options and messages that the commands about models share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from q8a8.atomic import unwritable
from q8a8.errors import Q8A8Error
from q8a8_conformance.commands.options import refuse
from q8a8_conformance.files.arrays import FileError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["positive", "reporting", "require_writable"]


def positive(text: str) -> int:
    """Convert an option's text to a positive number."""
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def reporting(command: Callable[[argparse.Namespace], None]) -> Callable[[argparse.Namespace], int]:
    """Wrap a command: what it refuses goes to standard error, with the exit status of `refuse`."""

    def run(options: argparse.Namespace) -> int:
        try:
            command(options)
        except (FileError, Q8A8Error, OSError) as error:
            return refuse(error)
        return 0

    return run


def require_writable(path: Path) -> None:
    """Refuse, before any work, a result that could not be written."""
    if reason := unwritable(path):
        raise FileError(path, reason)
