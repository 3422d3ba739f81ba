"""``q8a8 vectors``: the golden vectors' own command, told how to find the mutants that each case kills."""

from __future__ import annotations

from typing import TYPE_CHECKING

from q8a8_conformance.faults.kills import MutantKiller
from q8a8_golden.generate import cli

if TYPE_CHECKING:
    from q8a8_conformance.commands.options import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    """Add ``vectors`` to the command line."""
    cli.add_parser(subparsers, MutantKiller)
