"""The outcome of one case for one rule: the unit that every verdict and every report is made of.

A check of the suite runs one *case* (an id such as ``dot/exact/odd-blocks-3``) and leaves one :class:`Record`
for each rule that the case judges. Nothing else flows from the checks to the verdict, so everything in a
report can be traced to records.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

PREFIX = "Q8A8-"
"""Every rule's full id starts with it; on the command line it may be left out."""


class Status(StrEnum):
    """How a case, or a rule over all its cases, came out. The order of severity is that of :func:`worst`."""

    PASS = "pass"  # noqa: S105 (not a password: an outcome)
    FAIL = "fail"
    CRASHED = "crashed"
    NOT_RUN = "not-run"


_SEVERITY = (Status.NOT_RUN, Status.PASS, Status.FAIL, Status.CRASHED)


def worst(statuses: Iterable[Status]) -> Status:
    """Return the most severe of some outcomes: crashed, fail, pass, not-run (also for none at all)."""
    return max(statuses, key=_SEVERITY.index, default=Status.NOT_RUN)


@dataclass(frozen=True)
class CallData:
    """A call as its report shows it: arguments, inputs, what was expected and what came.

    Attributes
    ----------
    function
        The ABI function that was called.
    args
        Its scalar arguments by ABI name (``n``, ``k``, ``size``, ``bs``, ``bx``, ``by``, ``nrc``).
    inputs, expected, actual
        Buffers by ABI parameter name. ``expected`` is empty where the outcome is a bound or only a return;
        ``actual`` is empty where the kernel did not return.
    """

    function: str
    args: Mapping[str, int] = field(default_factory=dict)
    inputs: Mapping[str, bytes] = field(default_factory=dict)
    expected: Mapping[str, bytes] = field(default_factory=dict)
    actual: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """One case's outcome for one rule.

    Attributes
    ----------
    rule
        Full rule id, ``Q8A8-QNT-3``.
    case
        The case's id; ``q8a8 test SUT --case ID`` runs it again.
    function
        The ABI function judged, or an empty string where the case is about none in particular.
    status, message
        The outcome, and for anything but a pass the reason in one sentence.
    call
        For a failure, the call that showed it.
    offered
        False for a case that did not run because the kernel need not have what it is about (a function, two
        rows at a time) and does not. Any other case that did not run leaves its rule unjudged.
    tentative
        Whether the case has a wrong result and is about this rule: whether it breaks this one or another is
        decided at the end of the run.
    cause
        The sentence of the measured fact that explains the call, empty where none does; None where that is
        not known, for facts are about values.
    """

    rule: str
    case: str
    function: str
    status: Status
    message: str = ""
    call: CallData | None = None
    offered: bool = True
    tentative: bool = False
    cause: str | None = None


def count(number: int, noun: str) -> str:
    """Return a number of things in words: ``1 case``, ``2 cases``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def lengths(first: int, last: int | None) -> str:
    """Return which rows are meant, in blocks: ``1 to 16 blocks``, ``1 block``, ``from 17 blocks on``."""
    if not last:
        return f"from {count(first, 'block')} on"
    return count(first, "block") if first == last else f"{first} to {last} blocks"


def full_id(rule: str) -> str:
    """Return a rule's full id (``Q8A8-QNT-3``) for the full or the short form (``QNT-3``)."""
    return rule if rule.startswith(PREFIX) else PREFIX + rule


def short_id(rule: str) -> str:
    """Return a rule's id without the common prefix (``QNT-3``)."""
    return rule.removeprefix(PREFIX)


def rule_matches(rule: str, pattern: str) -> bool:
    """Return whether a rule's id matches one of several shell-style patterns, with or without ``Q8A8-``."""
    return any(fnmatchcase(short_id(rule), short_id(part.strip())) for part in pattern.split(","))


class Recorder:
    """Collects records, one per (rule, case): the most severe wins, the first of equals.

    A case may report on a rule more than once (each of its calls can reveal a fault); the count of cases of a
    rule must not grow by that.
    """

    def __init__(self) -> None:
        self._records: dict[tuple[str, str], Record] = {}

    def add(self, record: Record) -> None:
        """Add one record."""
        key = (record.rule, record.case)
        held = self._records.get(key)
        if held is None or worst((held.status, record.status)) is not held.status:
            self._records[key] = record

    def sort(self, cases: Iterable[str]) -> None:
        """Bring the records into the order of some cases, those of other cases first."""
        place = {case: number for number, case in enumerate(cases)}
        self._records = dict(sorted(self._records.items(), key=lambda item: place.get(item[0][1], -1)))

    def __iter__(self) -> Iterator[Record]:
        """Go through the records, one per (rule, case)."""
        return iter(self._records.values())

    def __len__(self) -> int:
        """Count the records."""
        return len(self._records)

    @property
    def by_key(self) -> Mapping[tuple[str, str], Record]:
        """The records by (rule, case), read-only."""
        return MappingProxyType(self._records)
