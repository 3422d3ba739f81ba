"""Why a kernel's results are what they are: the recipe, order or known mistake behind their bits.

The checks keep every judged result (`observations`). Afterwards each known arithmetic is run over the same
inputs; what reproduces the results bit for bit is named, with how many it explains of how many. Candidates
are data, tried in this order, so that the smallest explanation wins:

1. the reference's recipes and orders, other ways to add (`summations`), and mistakes in the products of a dot
   product (`causes`);
2. every mistake of `q8a8_conformance.mutants`, replayed on whole calls (`mistakes`);
3. two mistakes at once.

Where nothing explains a function, its smallest failing input is found with the kernel itself (`shrink`).

`python -m q8a8_lab.pages.causes --markdown FILE` writes the table of causes.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from q8a8_conformance.diagnosis import dots, mistakes, quantizers, shrink
from q8a8_conformance.diagnosis.causes import CRASH, FIXES, UNEXPLAINED
from q8a8_conformance.diagnosis.dots import AskDot
from q8a8_conformance.diagnosis.experiments import dot_facts
from q8a8_conformance.diagnosis.product_facts import product_facts, product_orders
from q8a8_conformance.diagnosis.quantizer_facts import quantizer_facts
from q8a8_conformance.diagnosis.replay import differing, replay
from q8a8_conformance.faults.catalogue import LEGAL, MUTANTS, make
from q8a8_conformance.faults.kernel import DOTS
from q8a8_conformance.inputs.calls import ACTIVATION, MUL_MAT, QUANTIZERS
from q8a8_conformance.protocol.messages import NO_FAULTS, Hello, Result
from q8a8_conformance.protocol.session import CallRefused
from q8a8_conformance.results.observations import Death, Observations
from q8a8_conformance.results.run import Finding, Smallest
from q8a8_conformance.reveal import summations

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from q8a8_conformance.diagnosis.facts import Evidence, Fact
    from q8a8_conformance.faults.mutant import Change
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.results.observations import Failure

    Probe = Callable[[Call], tuple[bytes, ...] | None]

__all__ = ["AskDot", "Finding", "Observations", "diagnose"]

TRIED = 3
"""Failed calls that are shrunk for one function."""

SLOW = 0.3
"""Seconds; where a call took longer to die, with the start of the next process, it is not made again."""

SEARCH_SECONDS, SHRINK_SECONDS = 4.0, 3.0
"""Seconds for all searches of mistakes, of processor time, and for making all inputs smaller."""

FACT_SECONDS = 5.0
"""Seconds of processor time for the experiments on a quantizer."""

STOPPED = "the search was stopped: its time was up"


class Limits:
    """What is left of the time for the diagnosis of one run, and the facts that were found."""

    def __init__(self, facts: list[Fact]) -> None:
        self.facts = facts
        self._end = time.process_time() + SEARCH_SECONDS
        self._shrink = SHRINK_SECONDS

    def search_deadline(self) -> float:
        """Return when the search for a function's mistake stops, on the clock of `time.process_time`."""
        return min(time.process_time() + mistakes.SECONDS, self._end)

    @contextmanager
    def shrinking(self, seconds: float = shrink.SECONDS) -> Iterator[float]:
        """Yield how long an input may be made smaller, and subtract what it took."""
        started = time.monotonic()
        yield max(min(seconds, self._shrink), 0.0)
        self._shrink -= time.monotonic() - started


def diagnose(
    observations: Observations,
    ask: AskDot,
    accepted: Collection[tuple[str, str]] = (),
    probe: Probe | None = None,
    progress: Callable[[str], object] = lambda _: None,
    facts: list[Fact] | None = None,
) -> tuple[Finding, ...]:
    """Explain all results of a run.

    Parameters
    ----------
    observations
        What the checks kept.
    ask
        Makes one more dot product; used only where the results so far fit several orders.
    accepted
        Pairs of function and recipe that the profile accepts: named, but nothing to fix.
    probe
        Makes a call: its output buffers, or None where it did not return. Without it nothing is shrunk.
    progress
        Called with the name of each function before its results are explained.
    facts
        Where given, the facts that experiments find are added to it.

    Returns
    -------
    tuple of Finding
        At least one for each function with results, the quantizers first; one for each function that died.
    """
    findings: list[Finding] = []
    limits = Limits([] if facts is None else facts)
    for function, results in observations.quantizers.items():
        progress(function)
        named = quantizers.explain(function, results, accepted)
        findings += _look_further(observations, function, named, probe, limits)
    functions = [name for name, _ in (*observations.dots, *observations.failures)]
    for function in dict.fromkeys(name for name in functions if name not in observations.quantizers):
        progress(function)
        named = []
        by_nrc = {nrc: held for (name, nrc), held in observations.dots.items() if name == function}
        if by_nrc:
            named = dots.explain(function, by_nrc, ask)
        if function == MUL_MAT and not observations.failures.get((function, 1)):
            named = _with_orders(named, probe)
        findings += _look_further(observations, function, named, probe, limits)
    for function, deaths in observations.deaths.items():
        progress(function)
        findings.append(_death(function, deaths, probe, limits))
    return tuple(findings)


def _look_further(
    observations: Observations, function: str, named: list[Finding], probe: Probe | None, limits: Limits
) -> list[Finding]:
    """Explain the failed calls of a function that recipes and orders leave unexplained."""
    groups = {nrc: held for (name, nrc), held in observations.failures.items() if name == function and held}
    causes = {finding.cause for finding in named}
    fixed = {finding.cause for finding in named if finding.cause == dots.REVEALED and finding.fix}
    if function not in DOTS:
        fixed |= FIXES.keys()
    if not groups or (causes & fixed and UNEXPLAINED not in causes):
        return named
    near = [name for finding in named for name in finding.orders]
    legal = [finding for finding in named if not finding.fix and finding.cause != UNEXPLAINED]
    if function in DOTS and probe is not None:
        groups = {
            nrc: failures
            for nrc, failures in groups.items()
            if not any(_is_all(_calls(observations, function, nrc, limits), finding) for finding in legal)
        }
        measured = _measured(observations, function, groups, probe, limits, named) if groups else ()
        return [*measured, *legal]
    found: list[Finding] = []
    parts: tuple[Change, ...] = ()
    for nrc in sorted(groups):
        calls = _calls(observations, function, nrc, limits)
        if any(_is_all(calls, finding) for finding in legal):
            continue
        explanation = mistakes.search(function, calls, near, parts)
        if explanation is not None:
            parts = explanation.parts
            _merge(found, _as_findings(function, nrc, explanation))
        elif held := [f for f in named if f.fix and f.nrc == nrc]:
            _merge(found, held)
        elif facts := _of_experiments(function, calls.failures, probe):
            _merge(found, facts)
        else:
            near_miss = next(
                (f for f in named if f.cause == UNEXPLAINED), Finding(function, UNEXPLAINED, 0, 0)
            )
            detail = "; ".join(filter(None, (near_miss.detail, STOPPED if calls.late else "")))
            smallest = _smallest(calls.failures, probe, limits)
            unexplained = replace(near_miss, explained=0, of=calls.wrong(), detail=detail, smallest=smallest)
            _merge(found, [unexplained])
    return [*found, *legal] if found else named


def _calls(observations: Observations, function: str, nrc: int, limits: Limits) -> mistakes.FunctionCalls:
    """Return the calls of a function with so many rows at a time."""
    key = function, nrc
    return mistakes.FunctionCalls(
        observations.failures[key], observations.calls.get(key, ()), limits.search_deadline()
    )


def _measured(
    observations: Observations,
    function: str,
    groups: Mapping[int, Sequence[Failure]],
    probe: Probe,
    limits: Limits,
    named: Sequence[Finding],
) -> list[Finding]:
    """Return the facts that experiments find about a dot product, and what they leave unexplained."""
    every = [failure for _, failures in sorted(groups.items()) for failure in failures]
    of = _count(every)
    findings, left = [], every
    found = dot_facts(function, groups, probe)
    limits.facts += found
    order = ""
    if found and all(fact.cause in MUTANTS for fact in found):
        near = [name for finding in named for name in finding.orders]
        calls = _calls(observations, function, min(groups), limits)
        order = mistakes.order_under(calls, [fact.cause for fact in found], near)
    names = (dots.ORDER_OF_CAUSE[order].name,) if order else ()
    for fact in found:
        # (With an order, mistakes of the catalogue give every byte.)
        explained = every if order else fact.explained(every)
        left = [failure for failure in left if not any(failure is one for one in explained)]
        finding = _of_fact(fact, _count(explained), of)
        if order:
            finding = replace(finding, detail=f"{finding.detail}; on top of {order}", orders=names)
        findings.append(finding)
    if left:
        detail = next((f.detail for f in named if f.cause == UNEXPLAINED), "") if not found else ""
        missed = _count(left)
        smallest = _smallest(sorted(left, key=lambda one: one.call.n), probe, limits)
        findings.append(Finding(function, UNEXPLAINED, 0, missed, detail=detail, smallest=smallest))
    return findings


def _of_fact(fact: Fact, explained: int, of: int) -> Finding:
    """Return the finding that a fact is."""
    evidence = tuple(_shown(one) for one in fact.evidence)
    return Finding(
        fact.function,
        fact.slug,
        explained,
        of,
        fact.fix,
        fact.sentence.rstrip("."),
        fact.nrc,
        smallest=evidence[0] if evidence else None,
        fact=fact.fact,
        where=fact.where,
        rule=fact.rule,
        sentence=fact.sentence,
        evidence=evidence,
    )


class _Probing:
    """The kernel as a session for experiments, for a limited time."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self._end = time.process_time() + FACT_SECONDS
        self.is_late = False

    def call(self, call: Call, timeout: float | None = None) -> Result:
        """Make a call.

        Raises
        ------
        CallRefused
            It does not return, or the time is up.
        """
        del timeout
        self.is_late = self.is_late or time.process_time() > self._end
        outputs = None if self.is_late else self._probe(call)
        if outputs is None:
            raise CallRefused(STOPPED if self.is_late else "the call does not return")
        return Result(NO_FAULTS, "", outputs)


def _with_orders(named: list[Finding], probe: Probe | None) -> list[Finding]:
    """Return the orders of a right product by shape, where no single one of the catalogue explains it."""
    if probe is None or all(finding.cause != UNEXPLAINED for finding in named):
        return named
    found = product_orders(_Probing(probe))
    return [Finding(MUL_MAT, cause, of, of, detail=detail) for cause, detail, of in found] or named


def _of_experiments(function: str, failures: Sequence[Failure], probe: Probe | None) -> list[Finding]:
    """Return the facts that experiments find about a function that no mistake of the catalogue explains."""
    if probe is None or function not in (*QUANTIZERS, ACTIVATION, MUL_MAT):
        return []
    session = _Probing(probe)
    if function == MUL_MAT:
        facts = product_facts(session, failures)
    else:
        facts = quantizer_facts(session, Hello("", functions=(function,)), failures)
    if session.is_late:
        return []
    counts = [(fact, _count(fact.explained(failures))) for fact in facts]
    return [_of_fact(fact, explained, _count(failures)) for fact, explained in counts if explained]


def _count(failures: Sequence[Failure]) -> int:
    """Count the wrong results of failed calls."""
    return sum(len(differing(one.call.function, one.outputs, one.expected)) for one in failures)


def _shown(evidence: Evidence) -> Smallest:
    """Return the call of a fact as reports show it."""
    return replace(shrink.as_smallest(evidence.call, evidence.actual, evidence.expected), text=evidence.text)


def _is_all(calls: mistakes.FunctionCalls, finding: Finding) -> bool:
    """Return whether a legal kernel that was named explains the failed calls too: then nothing else is wrong.

    (The profile ``exact`` fails every order but the scalar one.)
    """
    if finding.cause in {*summations.CAUSES, dots.REVEALED}:
        return finding.explained == finding.of
    order = dots.ORDER_OF_CAUSE.get(finding.cause)
    if order is None:
        return False
    kernel = LEGAL.get(f"order-{order.name}")
    if kernel is None and order != summations.SCALAR:
        return False
    return calls.allows(*([kernel] if kernel else []))


def _as_findings(function: str, nrc: int, explanation: mistakes.Explanation) -> list[Finding]:
    """Return a finding for each mistake, on top of the order that explains the rest."""
    parts = explanation.parts
    order = mistakes.order_of(explanation) if explanation.order is not None else ""
    on_top = f"on top of {order}" if order else ""
    orders = (dots.ORDER_OF_CAUSE[order].name,) if order else ()
    findings = []
    for part in parts:
        others = [f"together with {other.slug}" for other in parts if other is not part]
        if explanation.equal:
            others.append(
                f"or {', '.join(other.slug for other in explanation.equal)}, which gives the same here"
            )
        detail = "; ".join(filter(None, (*others, on_top)))
        counts = explanation.explained, explanation.of
        fix = mistakes.fix_of(part)
        findings.append(Finding(function, part.slug, *counts, fix, detail, nrc, orders))
    return findings


def _merge(findings: list[Finding], more: Sequence[Finding]) -> None:
    """Add findings; what one and two rows at a time share is one finding."""
    for finding in more:
        for place, held in enumerate(findings):
            if (held.cause, held.function) == (finding.cause, finding.function):
                findings[place] = replace(
                    held,
                    explained=held.explained + finding.explained,
                    of=held.of + finding.of,
                    smallest=held.smallest or finding.smallest,
                )
                break
        else:
            findings.append(finding)


def _smallest(failures: Sequence[Failure], probe: Probe | None, limits: Limits) -> Smallest | None:
    """Shrink some failed calls, and return the smallest result."""
    if probe is None:
        return None
    tried = []
    for failure in failures[:TRIED]:
        with limits.shrinking(shrink.SECONDS / TRIED) as seconds:
            tried.append(shrink.smallest(failure.call, probe, seconds=seconds))
    best = min(tried, key=shrink.size, default=None)
    if best is None:
        return None
    same = next((f for f in failures if f.call is best), None)
    outputs, expected = (same.outputs, same.expected) if same else (probe(best), replay(make(), best))
    return shrink.as_smallest(best, outputs, expected)


def _death(function: str, deaths: Sequence[Death], probe: Probe | None, limits: Limits) -> Finding:
    """Return the finding of a function that dies, with the smallest call on which it does."""
    first = min(deaths, key=lambda death: shrink.weight(death.call))
    call = first.call
    if probe is not None and first.seconds < SLOW:
        with limits.shrinking() as seconds:
            call = shrink.smallest(call, probe, dies=True, seconds=seconds)
    smallest = shrink.as_smallest(call, None, ())
    return Finding(function, CRASH, len(deaths), len(deaths), FIXES[CRASH], smallest=smallest)
