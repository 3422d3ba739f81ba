"""Two reports compared.

What counts as a difference is the verdict, what became of a rule (its status, and the cases that failed), and
the causes that the diagnosis names. How much of the bound was used is shown, and does not count: it is a
measure, not a judgement.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from q8a8_conformance.results.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Comparison", "RuleChange", "Side", "compare"]

_RANK = {"pass": 0, "not-run": 1, "fail": 2, "crashed": 3}
"""How bad a status is: to lose a rule is worse than to pass it, to fail it worse still."""


@dataclass(frozen=True)
class Side:
    """One of the two reports: where it is from, and what it is about."""

    file: str
    sut: str
    profile: str
    verdict: str
    kernel: str
    sha256: str
    suite: str
    vectors_sha256: str


@dataclass(frozen=True)
class RuleChange:
    """A rule that came out differently.

    Attributes
    ----------
    id, change
        Full id; whether B is better, worse, or neither.
    a, b
        The statuses, empty where a report does not have the rule.
    failed_a, failed_b
        Failed cases.
    new_failures, mended
        Cases that fail in B alone, and in A alone.
    """

    id: str
    change: Literal["better", "worse", "other"]
    a: str
    b: str
    failed_a: int
    failed_b: int
    new_failures: tuple[str, ...]
    mended: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """Two reports, and where they differ.

    Attributes
    ----------
    a, b
        The sides.
    warnings
        Why the two may not be comparable.
    rules
        Those that differ, in A's order.
    diagnosis
        Causes in A and in B by function, where they differ.
    bound
        The largest fraction of the bound in A and in B by function; None where a report has none.
    """

    a: Side
    b: Side
    warnings: tuple[str, ...]
    rules: tuple[RuleChange, ...]
    diagnosis: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]
    bound: Mapping[str, tuple[float | None, float | None]]

    @property
    def same(self) -> bool:
        """Whether both judge their kernel, and verdict, rules and diagnosis agree."""
        if not (Verdict(self.a.verdict).is_judgement and Verdict(self.b.verdict).is_judgement):
            return False
        return self.a.verdict == self.b.verdict and not self.rules and not self.diagnosis


def compare(a: Mapping[str, Any], b: Mapping[str, Any], name_a: str = "A", name_b: str = "B") -> Comparison:
    """Compare two reports.

    Parameters
    ----------
    a, b
        JSON data as `report/schemas/report.json` describes it.
    name_a, name_b
        What the sides are called: their files.
    """
    return Comparison(
        a=_side(a, name_a),
        b=_side(b, name_b),
        warnings=tuple(_warnings(a, b)),
        rules=tuple(_rules(a, b)),
        diagnosis=_diagnosis(a, b),
        bound=_bound(a, b),
    )


def _side(report: Mapping[str, Any], name: str) -> Side:
    hello = report["kernel"]
    cpu = hello.get("cpu", {})
    emulated = "emulated" if hello.get("emulated") else ""
    words = (
        hello.get("name"),
        hello.get("version"),
        "on" if cpu.get("arch") else "",
        cpu.get("arch"),
        emulated,
    )
    return Side(
        file=name,
        sut=report["sut"],
        profile=report["profile"],
        verdict=report["verdict"],
        kernel=" ".join(word for word in words if word),
        sha256=(hello.get("kernel") or {}).get("sha256", ""),
        suite=report["suite"]["version"],
        vectors_sha256=report["suite"]["vectors_sha256"],
    )


def _warnings(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Return why the two may not be comparable."""
    found = [
        f"{name} does not judge its kernel: {report['verdict']}"
        for name, report in (("A", a), ("B", b))
        if not Verdict(report["verdict"]).is_judgement
    ]
    found += [
        f"{name} stopped before its end"
        for name, report in (("A", a), ("B", b))
        if not report.get("complete", True)
    ]
    if a["profile"] != b["profile"]:
        found.append(f"the profiles differ: {a['profile']} and {b['profile']}")
    if a["suite"]["version"] != b["suite"]["version"]:
        found.append(f"the suite differs: {a['suite']['version']} and {b['suite']['version']}")
    if a["suite"]["vectors_sha256"] != b["suite"]["vectors_sha256"]:
        found.append("the golden vectors differ")
    for word in ("rules", "case"):
        left, right = a["selection"][word], b["selection"][word]
        if left != right:
            found.append(f"other {word} were chosen: {left or 'all'} and {right or 'all'}")
    return found


def _rules(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[RuleChange]:
    left, right = ({rule["id"]: rule for rule in report["rules"]} for report in (a, b))
    # Where other rules were chosen, what only one side has says nothing (and is warned of).
    chosen = a["selection"] == b["selection"]
    names = [name for name in dict.fromkeys([*left, *right]) if chosen or (name in left and name in right)]
    failing_a, failing_b = _failing(a), _failing(b)
    changes = []
    for name in names:
        status_a, status_b = (side.get(name, {}).get("status", "") for side in (left, right))
        cases_a, cases_b = failing_a.get(name, set()), failing_b.get(name, set())
        if status_a == status_b and cases_a == cases_b:
            continue
        failed_a, failed_b = (side.get(name, {}).get("failed", 0) for side in (left, right))
        change = _direction(status_a, status_b, failed_a, failed_b)
        new, mended = tuple(sorted(cases_b - cases_a)), tuple(sorted(cases_a - cases_b))
        changes.append(RuleChange(name, change, status_a, status_b, failed_a, failed_b, new, mended))
    return changes


def _failing(report: Mapping[str, Any]) -> dict[str, set[str]]:
    """Return the failed cases by rule, those that are known to fail among them."""
    found: dict[str, set[str]] = {}
    for failure in (*report["failures"], *report["known_failures"]):
        found.setdefault(failure["rule"], set()).add(failure["case"])
    return found


def _direction(a: str, b: str, failed_a: int, failed_b: int) -> Literal["better", "worse", "other"]:
    if not a or not b:
        return "other"
    left, right = (_RANK[a], failed_a), (_RANK[b], failed_b)
    if left == right:
        return "other"
    return "worse" if right > left else "better"


def _diagnosis(
    a: Mapping[str, Any], b: Mapping[str, Any]
) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    left, right = _causes(a), _causes(b)
    return {
        name: (left.get(name, ()), right.get(name, ()))
        for name in dict.fromkeys([*left, *right])
        if left.get(name, ()) != right.get(name, ())
    }


def _causes(report: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for finding in report["diagnosis"]:
        name = finding["function"]
        found[name] = (*found.get(name, ()), finding["cause"])
    return found


def _bound(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[float | None, float | None]]:
    left, right = _used(a), _used(b)
    return {name: (left.get(name), right.get(name)) for name in dict.fromkeys([*left, *right])}


def _used(report: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the largest fraction of the bound by function, whatever its sign."""
    found: dict[str, float | None] = {}
    for use in report["bound"]:
        ends = [abs(use[end]) for end in ("least", "largest") if use[end] is not None]
        found[use["function"]] = max(ends, default=None)
    return found
