"""The options of a run of the suite, declared once: for ``q8a8 test``, and for pytest with the plugin."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from q8a8.atomic import unwritable
from q8a8_conformance import report
from q8a8_conformance.commands.options import SUT_OPTIONS, Option, positive, seconds
from q8a8_conformance.commands.rules import no_rule_matches
from q8a8_conformance.report.text import NORMAL, Detail
from q8a8_conformance.results.record import rule_matches
from q8a8_conformance.results.run import PROFILES, Request
from q8a8_conformance.results.verdict import read_known_failures
from q8a8_conformance.spec.rules import load_rules

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping

    from q8a8_conformance.results.verdict import KnownFailure

OPTIONS: tuple[Option, ...] = (
    *SUT_OPTIONS,
    Option(
        "--profile",
        choices=PROFILES,
        default="kernel",
        help="exact: every bit of the scalar semantics; kernel: dot products in any order, within the proven "
        "bound [default]; ggml: as kernel, with ggml's quantizer recipes accepted",
    ),
    Option("--rules", metavar="GLOB", help="only these rules: 'QNT-*', 'DOT-1,DOT-4'"),
    Option("--case", metavar="ID", help="only this case, or those that match a pattern"),
    Option(
        "--timeout",
        in_pytest="--call-timeout",
        type=seconds,
        metavar="S",
        help="seconds that one call may take [10]",
    ),
    Option(
        "--known-failures",
        type=Path,
        metavar="FILE",
        help="lines 'RULE CASE-ID-GLOB [# comment]' that do not count; one that no longer fails does",
    ),
    Option(
        "--write-known-failures",
        type=Path,
        metavar="FILE",
        help="write all failures of this run as such a file",
    ),
    *(
        Option(
            f"--{kind}",
            in_pytest=f"--report-{kind}",
            type=Path,
            metavar="FILE",
            help=f"write {writer.about}, too; - is standard output",
        )
        for kind, writer in report.WRITERS.items()
    ),
)

JOBS = 2
"""Processes that share the cases of a kernel on this machine, however many processors it has: so that the
same command makes the same calls in the same processes everywhere."""

_IN_PYTEST = "q8a8_"
"""What the names of our values begin with among pytest's own and other plugins'."""


class SettingsError(ValueError):
    """Options that cannot be followed; the text says which."""


@dataclass(frozen=True)
class Settings:
    """What the options of a run ask for.

    Attributes
    ----------
    request
        What is judged, and how.
    known_failures, write_known_failures
        The file with excused failures; the file that this run's failures go to.
    reports
        The files that reports go to, by kind (`q8a8_conformance.report.WRITERS`).
    exit_first
        Whether the run stops at the first failure.
    detail
        How much the text on standard output has.
    github
        Whether annotations for GitHub Actions follow, and its summary gets the report.
    jobs
        How many processes share the cases.
    """

    request: Request
    known_failures: Path | None
    write_known_failures: Path | None
    reports: Mapping[str, Path]
    exit_first: bool = False
    detail: Detail = NORMAL
    github: bool = False
    jobs: int = 1

    def check(self) -> None:
        """Check what can be checked before any time is spent.

        Raises
        ------
        SettingsError
            No rule matches, or a file cannot be written.
        """
        rules = self.request.rules
        if rules is not None and not any(rule_matches(rule.id, rules) for rule in load_rules()):
            raise SettingsError(f"{no_rule_matches(rules)}; q8a8 rules lists them")
        files = dict(self.reports)
        if self.write_known_failures is not None:
            files["write-known-failures"] = self.write_known_failures
        for name, path in files.items():
            if reason := unwritable(path):
                raise SettingsError(f"--{name} {path}: {reason}")

    def read_known_failures(self) -> tuple[KnownFailure, ...]:
        """Read the excused failures.

        Raises
        ------
        KnownFailuresError
            The file cannot be read, or a line is malformed.
        """
        return () if self.known_failures is None else read_known_failures(self.known_failures)


def add_to_command(parser: argparse.ArgumentParser) -> None:
    """Declare the options to ``q8a8 test``."""
    for option in OPTIONS:
        option.add_to(parser)
    parser.add_argument(
        "-x", "--exitfirst", action="store_true", help="stop at the first failure that counts"
    )
    parser.add_argument(
        "-j",
        "--jobs",
        type=positive,
        metavar="N",
        help="processes that share the cases, each with a worker of its own [2; 1 for exec: and ggml:, with "
        "--case, --rules and -x]",
    )
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("-q", "--quiet", action="store_true", help="print the verdict alone")
    amount.add_argument("-v", "--verbose", action="store_true", help="print every failure, not five")
    amount.add_argument("--only-failed", action="store_true", help="print only the rules that failed")
    parser.add_argument(
        "--output",
        choices=("text", "github"),
        default="text",
        help="github: annotations follow the text, and the step summary gets the report as Markdown",
    )


def add_to_pytest(add_option: Callable[..., None]) -> None:
    """Declare the options to pytest; `add_option` is the method of an option group."""
    for option in OPTIONS:
        add_option(option.in_pytest or option.flag, dest=_IN_PYTEST + option.name, **option.keywords)


def from_command(values: argparse.Namespace) -> Settings:
    """Return the settings out of the parsed options of ``q8a8 test``."""
    settings = _settings({option.name: getattr(values, option.name) for option in OPTIONS})
    return replace(
        settings,
        exit_first=values.exitfirst,
        detail=Detail(quiet=values.quiet, verbose=values.verbose, only_failed=values.only_failed),
        github=values.output == "github",
        jobs=1 if values.exitfirst else values.jobs or _usual_jobs(settings.request),
    )


def _usual_jobs(request: Request) -> int:
    """Return how many processes share the cases: one for few cases, or where a device may serve one alone."""
    form = request.sut.partition(":")[0]
    few = request.case is not None or request.rules is not None
    return 1 if few or form in ("exec", "ggml") else JOBS


def from_pytest(values: argparse.Namespace) -> Settings:
    """Return the settings out of pytest's parsed options, ``config.option``; ``-x`` is pytest's own."""
    return _settings({option.name: getattr(values, _IN_PYTEST + option.name) for option in OPTIONS})


def _settings(values: Mapping[str, Any]) -> Settings:
    return Settings(
        request=Request(
            sut=values["sut"],
            profile=values["profile"],
            symbols=tuple(values["symbol"]),
            init=values["init"],
            rules=values["rules"],
            case=values["case"],
            timeout=values["timeout"],
        ),
        known_failures=values["known_failures"],
        write_known_failures=values["write_known_failures"],
        reports={kind: values[kind] for kind in report.WRITERS if values[kind] is not None},
    )
