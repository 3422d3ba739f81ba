"""``q8a8 vectors``: the golden vectors' command, with the mutants that each case kills."""

from __future__ import annotations

from typing import TYPE_CHECKING

from q8a8_golden.generate import cli

if TYPE_CHECKING:
    from q8a8_conformance.commands.options import Subparsers
    from q8a8_conformance.faults.kills import MutantKiller


def add_parser(subparsers: Subparsers) -> None:
    """Add ``vectors`` to the command line."""
    cli.add_parser(subparsers, _mutants)


def _mutants() -> MutantKiller:
    """Return what runs the mutants; imported here alone, as its workers' parts need Linux."""
    from q8a8_conformance.faults.kills import MutantKiller  # noqa: PLC0415 -- slow to import

    return MutantKiller()
