"""Options, exit statuses and messages that the commands share."""

from __future__ import annotations

import argparse
import errno
import sys
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "BROKEN",
    "EXIT_STATUS",
    "INTERRUPTED",
    "OK",
    "SUT_OPTIONS",
    "UNWRITTEN",
    "USAGE",
    "Option",
    "Subparsers",
    "add_sut",
    "complain",
    "positive",
    "print_lines",
    "refuse",
    "seconds",
    "usage_error",
]

OK, USAGE = 0, 2
UNWRITTEN = 6
"""A report could not be written, whatever the verdict is."""
BROKEN = 70
"""The program itself broke: EX_SOFTWARE of sysexits.h."""
INTERRUPTED = 130
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}

EXIT_STATUS = (
    "exit status: 0 conforms, 1 does not, 2 usage, 3 the kernel crashed or hung, 4 nothing ran, 5 the kernel "
    "was not reached, 6 a report could not be written, 70 the suite itself broke, 130 interrupted"
)

# argparse has no public name for what add_subparsers() returns.
Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 (as said)


class Option:
    """The declaration of an option, for any parser.

    Parameters
    ----------
    flag
        ``--rules``; without the hyphens for a positional argument.
    in_pytest
        Its flag in pytest's command line, where it has another one there.
    **keywords
        As `argparse.ArgumentParser.add_argument` takes them; pytest takes the same.
    """

    def __init__(self, flag: str, *, in_pytest: str = "", **keywords: Any) -> None:  # noqa: ANN401 (argparse's)
        self.flag = flag
        self.in_pytest = in_pytest
        self.keywords = keywords

    @property
    def name(self) -> str:
        """The name of its value."""
        return self.flag.lstrip("-").replace("-", "_")

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Declare it to a parser."""
        # A positional argument may be missing: the project's kernel takes its place.
        optional: dict[str, Any] = {} if self.flag.startswith("-") else {"nargs": "?"}
        parser.add_argument(self.flag, **optional, **self.keywords)


SUT_OPTIONS = (
    Option(
        "sut",
        in_pytest="--sut",
        metavar="SUT",
        help="ref, lib:PATH, py:MODULE:OBJECT, ggml:PATH or exec:COMMAND",
    ),
    Option(
        "--symbol",
        action="append",
        default=[],
        metavar="ABI_NAME=EXPORTED_NAME",
        help="a function's name in the library, where it is another; may be repeated",
    ),
    Option("--init", metavar="SYMBOL", help="a void f(void) in the library, called once after loading"),
)
"""What names a system under test."""


def add_sut(parser: argparse.ArgumentParser) -> None:
    """Add what names a system under test: ``SUT``, ``--symbol`` and ``--init``."""
    for option in SUT_OPTIONS:
        option.add_to(parser)


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


def positive(text: str) -> int:
    """Convert an option's text to a whole number of at least 1.

    Raises
    ------
    argparse.ArgumentTypeError
        for anything else.
    """
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return value


def print_lines(lines: Iterable[str]) -> None:
    """Write lines to standard output."""
    sys.stdout.writelines(f"{line}\n" for line in lines)


def usage_error(message: str) -> int:
    """Write what is wrong with the command line to standard error, and return the exit status of that."""
    return complain(message, USAGE)


def refuse(error: Exception) -> int:
    """Write why a command cannot do what it was asked, and return the exit status.

    It is that of a wrong command line, which names what is not there, cannot be read or is refused; of a full
    disk, that of a file that could not be written.
    """
    message, cause = str(error), error.__cause__
    if isinstance(error, OSError):
        cause = error
        message = f"{error.filename}: {error.strerror}" if error.filename else message
    full = isinstance(cause, OSError) and cause.errno in _FULL
    return complain(message, UNWRITTEN if full else USAGE)


def complain(message: str, status: int) -> int:
    """Write a message to standard error, and return the exit status."""
    sys.stderr.write(f"q8a8: {message}\n")
    return status
