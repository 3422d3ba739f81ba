"""``q8a8 rules``: list the numbered rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from q8a8_conformance.commands.options import OK, print_lines, usage_error
from q8a8_conformance.results.record import full_id, rule_matches, short_id
from q8a8_conformance.spec.rules import load_rules
from q8a8_conformance.spec.suggest import did_you_mean

if TYPE_CHECKING:
    import argparse

    from q8a8_conformance.commands.options import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    """Add ``rules`` to the command line."""
    parser = subparsers.add_parser("rules", help="list the rules")
    parser.add_argument("glob", nargs="?", default="*", metavar="GLOB", help="only these: 'QNT-*'")
    parser.set_defaults(func=command)


def command(options: argparse.Namespace) -> int:
    """List the rules that match a pattern, and return the exit status."""
    chosen = [rule for rule in load_rules() if rule_matches(rule.id, options.glob.upper())]
    if not chosen:
        return usage_error(no_rule_matches(options.glob))
    print_lines(
        f"{rule.id:<12} {rule.level:<6} {rule.kind:<11} {rule.subject:<9} {rule.title}" for rule in chosen
    )
    return OK


def no_rule_matches(pattern: str) -> str:
    """Return what to say of a pattern that no rule matches, with the rule that was probably meant."""
    names = (short_id(rule.id) for rule in load_rules())
    return f"no rule matches {pattern!r}{did_you_mean(short_id(full_id(pattern.upper())), names)}"
