"""What the commands share: the words that name a kernel under test, exit statuses, and messages."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "EXIT_STATUS",
    "OK",
    "USAGE",
    "Subparsers",
    "add_sut",
    "print_lines",
    "seconds",
    "usage_error",
]

OK, USAGE = 0, 2

EXIT_STATUS = "exit status: 0 conforms, 1 does not, 2 usage, 3 the kernel crashed or hung, 4 nothing ran"

# argparse has no public name for what add_subparsers() returns.
Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 (as said)


def add_sut(parser: argparse.ArgumentParser) -> None:
    """Add what names a system under test: ``SUT``, ``--symbol`` and ``--init``."""
    parser.add_argument("sut", metavar="SUT", help="ref, lib:PATH, py:MODULE:OBJECT or exec:COMMAND")
    parser.add_argument(
        "--symbol",
        action="append",
        default=[],
        metavar="ABI_NAME=EXPORTED_NAME",
        help="a function's name in the library, where it is another; may be repeated",
    )
    parser.add_argument(
        "--init", metavar="SYMBOL", help="a void f(void) in the library, called once after loading"
    )


def seconds(text: str) -> float:
    """Convert an option's text to a positive number of seconds.

    Raises
    ------
    argparse.ArgumentTypeError
        for anything else.
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of seconds")
    return value


def print_lines(lines: Iterable[str]) -> None:
    """Write lines to standard output."""
    sys.stdout.writelines(f"{line}\n" for line in lines)


def usage_error(message: str) -> int:
    """Write what is wrong with the command line to standard error, and return the exit status of that."""
    sys.stderr.write(f"q8a8: {message}\n")
    return USAGE
