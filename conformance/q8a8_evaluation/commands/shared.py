"""What the commands about models share."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from q8a8.errors import Q8A8Error
from q8a8_conformance.files.arrays import FileError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["positive", "progress_bar", "reporting", "require_folder"]


def positive(text: str) -> int:
    """Convert an option's text to a positive number."""
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def reporting(command: Callable[[argparse.Namespace], None]) -> Callable[[argparse.Namespace], int]:
    """Wrap a command: what it refuses goes to standard error, and the exit status is then 1."""

    def run(options: argparse.Namespace) -> int:
        try:
            command(options)
        except (FileError, Q8A8Error) as error:
            sys.stderr.write(f"q8a8: {error}\n")
            return 1
        except OSError as error:
            sys.stderr.write(f"q8a8: {options.output}: {error.strerror or error}\n")
            return 1
        return 0

    return run


def require_folder(path: Path) -> None:
    """Refuse, before any work, a result that there is no folder for."""
    if not path.parent.is_dir():
        raise FileError(path, "there is no such folder")


@contextmanager
def progress_bar(unit: str, total: int) -> Iterator[Callable[[int], None] | None]:
    """Show progress on a terminal; elsewhere, and without tqdm, yield None."""
    if not sys.stderr.isatty():
        yield None
        return
    try:
        tqdm: Any = import_module("tqdm").tqdm
    except ImportError:
        yield None
        return
    with tqdm(total=total, unit=f" {unit}", leave=False) as bar:
        yield lambda done: bar.update(done - bar.n)
