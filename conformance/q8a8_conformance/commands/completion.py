"""``q8a8 completion SHELL``: the script with which a shell completes the command's words; shtab writes it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from q8a8.install import how_to_install
from q8a8_conformance.commands.options import OK, print_lines, usage_error

if TYPE_CHECKING:
    import argparse

    from q8a8_conformance.commands.options import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    """Add ``completion`` to the command line."""
    parser = subparsers.add_parser(
        "completion",
        help="print the completion script for a shell",
        description="Print the script with which a shell completes commands and options.",
    )
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"), metavar="SHELL", help="bash, zsh or tcsh")
    parser.set_defaults(func=command)


def command(options: argparse.Namespace) -> int:
    """Print the script; 2 where shtab is not installed."""
    try:
        shtab = import_module("shtab")
    except ImportError:
        return usage_error(f"completion needs the package shtab: {how_to_install('completion')}")
    print_lines((shtab.complete(options.build_whole_parser(), shell=options.shell),))
    return OK
