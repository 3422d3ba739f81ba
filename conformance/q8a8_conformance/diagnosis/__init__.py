"""Why a kernel's results are what they are: the recipe, the order, or what it does wrong.

The checks keep every judged result (`observations`). What a kernel does wrong is measured, by experiments on
it: of dot products (`dots`), quantizers (`quantizers`), dequantization (`dequantizers`) and matrix products
(`products`). The order of a right dot product (`dots.orders`) and the recipe of a right quantizer
(`quantizers.recipes`) are named by their bits, or measured too.

Where nothing explains a function, its smallest failing input is found with the kernel itself (`shrink`).

`python -m q8a8_lab.pages.causes --markdown FILE` writes the table of causes.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from q8a8_conformance.diagnosis import shrink
from q8a8_conformance.diagnosis.causes import CRASH, FIXES, UNEXPLAINED
from q8a8_conformance.diagnosis.deaths import of_deaths
from q8a8_conformance.diagnosis.dequantizers.facts import dequantizer_facts
from q8a8_conformance.diagnosis.dots import dot_facts, kept_facts, orders, where_aligned
from q8a8_conformance.diagnosis.dots.conditions import of_alignment
from q8a8_conformance.diagnosis.dots.model import Model, Predictions
from q8a8_conformance.diagnosis.dots.placed import KEPT, placed_facts
from q8a8_conformance.diagnosis.dots.side_effects import of_reach, of_side_effect
from q8a8_conformance.diagnosis.dots.threads import of_threads
from q8a8_conformance.diagnosis.dots.turns import every_nth
from q8a8_conformance.diagnosis.facts import left_of
from q8a8_conformance.diagnosis.limits import Limits, Probing
from q8a8_conformance.diagnosis.products.experiments import facts_of_products
from q8a8_conformance.diagnosis.products.facts import product_orders
from q8a8_conformance.diagnosis.products.spoiled import spoiled_facts
from q8a8_conformance.diagnosis.products.state import state_of_products
from q8a8_conformance.diagnosis.products.varying import VARIES, varying_facts
from q8a8_conformance.diagnosis.quantizers import recipes
from q8a8_conformance.diagnosis.quantizers.facts import facts_of_other, quantizer_facts
from q8a8_conformance.diagnosis.replay import differing, replay
from q8a8_conformance.faults.catalogue import make
from q8a8_conformance.faults.kernel import DOTS
from q8a8_conformance.inputs.calls import ACTIVATION, DEQUANTIZE, MUL_MAT, QUANTIZERS, weight
from q8a8_conformance.protocol.session import CallRefused
from q8a8_conformance.results.observations import Death, Observations
from q8a8_conformance.results.run import Finding, Smallest
from q8a8_conformance.reveal.asking import AskDot, NoAnswerError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from q8a8_conformance.diagnosis.facts import Evidence, Fact
    from q8a8_conformance.protocol.messages import Call, Result
    from q8a8_conformance.results.observations import Failure

    Probe = Callable[[Call], tuple[bytes, ...] | None]
    Asking = Callable[[Call], Result | None]
    Watch = Callable[[str], AbstractContextManager[object]]

__all__ = ["AskDot", "Finding", "Observations", "diagnose"]

TRIED = 3
"""Failed calls that are shrunk for one function."""

SLOW = 0.3
"""Seconds; where a call took longer to die, with the start of the next process, it is not made again."""

_TAKES = {name: 1 + place for place, name in enumerate((*DOTS, MUL_MAT, *QUANTIZERS, ACTIVATION))}
"""How long experiments on functions take, by rank."""

STATES = {KEPT, VARIES}
"""Facts about what comes before a call, or beside it: addresses are no matter of them."""

CHANCE = 0.01
"""The part of the wrong results that a fact explains at least, where most are not explained."""


def diagnose(
    observations: Observations,
    ask: AskDot,
    accepted: Collection[tuple[str, str]] = (),
    probe: Probe | None = None,
    watch: Watch = nullcontext,
    ask_threads: Asking | None = None,
    limits: Limits | None = None,
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
    watch
        Called with what is looked into next, such as the name of a function: the context in which this is
        done. One that suppresses an exception makes the diagnosis go on with the rest.
    ask_threads
        Makes a call, of several threads too, and returns all that is known of it; without it what is wrong
        in threads, and what calls do besides their results, is not looked into.
    limits
        How much time there is, and how the kernel's process is ended; facts that are found are added to it.

    Returns
    -------
    tuple of Finding
        At least one for each function with results: what is wrong first, and then what right ones compute.
    """
    limits = limits or Limits()
    kept = (*observations.dots, *observations.failures, *observations.placed)
    functions = dict.fromkeys((*observations.quantizers, *(name for name, _ in kept)))
    of_function: dict[str, list[Finding]] = {function: [] for function in functions}
    wrong = {name for name, _ in (*observations.failures, *observations.placed)}
    pending = len(wrong)
    # (What takes least comes first: it leaves the rest of its time to the others.)
    for function in sorted(functions, key=lambda name: _TAKES.get(name, 0)):
        limits.begin(max(pending, 1))
        pending -= function in wrong
        with watch(function):
            if function in DOTS:
                of_function[function] += _of_dot(observations, function, ask, probe, limits)
            else:
                of_function[function] += _of_outputs(observations, function, ask, accepted, probe, limits)
    findings = [finding for found in of_function.values() for finding in found]
    with watch("rows beside values outside the domain"):
        findings += _of_spoiled(observations.outside.get(MUL_MAT, ()), probe, limits)
    if ask_threads:
        with watch("threads"):
            findings += _of_threads(observations, ask_threads, limits)
        with watch("side effects"):
            findings += _of_side_effects(observations, ask_threads, limits)
    for pending, (function, deaths) in enumerate(observations.deaths.items()):
        limits.begin(len(observations.deaths) - pending)
        with watch(f"calls of {function} that die"):
            findings.append(_death(function, deaths, probe, ask_threads, limits))
    return tuple(sorted(findings, key=lambda one: not one.fix and one.cause not in {UNEXPLAINED, CRASH}))


def _of_spoiled(spoiled: Sequence[Failure], probe: Probe | None, limits: Limits) -> list[Finding]:
    """Return which outputs of a product are spoiled by values outside the domain in other rows."""
    facts: list[Fact] = []
    with suppress(CallRefused):
        facts += spoiled_facts(Probing(probe), spoiled) if probe and spoiled else ()
    limits.facts += facts
    counts = [_count(fact.explained(spoiled)) for fact in facts]
    return [_of_fact(fact, count, count) for fact, count in zip(facts, counts, strict=True)]


def _of_threads(observations: Observations, ask: Asking, limits: Limits) -> Iterator[Finding]:
    """Yield what makes calls of several threads wrong: each fact once, whichever call showed it."""
    shared: dict[tuple[str, str], tuple[Fact, int]] = {}
    for called in observations.threads.values():
        fact = of_threads(called, ask, limits.restart)
        if fact and not any(_is_of_state(one, fact.function) for one in limits.facts):
            first, calls = shared.get(key := (fact.function, fact.fact), (fact, 0))
            shared[key] = (first, calls + len(called))
    for fact, calls in shared.values():
        limits.facts.append(fact)
        yield _of_fact(fact, calls, calls)


def _of_side_effects(observations: Observations, ask: Asking, limits: Limits) -> Iterator[Finding]:
    """Yield what calls do besides their results, and in which of them."""
    found = [(fact, len(died)) for died in observations.reaches.values() if (fact := of_reach(died, ask))]
    said = [(fact.function, fact.fact, fact.where["length"]) for fact, _ in found]
    for (function, fault), made in observations.side_effects.items():
        fact = of_side_effect(fault, made, ask)
        # (What died beside a page says more of the same.)
        if fact and (function, fact.fact, fact.where["length"]) not in said:
            found.append((fact, len(made)))
    for fact, count in found:
        limits.facts.append(fact)
        yield _of_fact(fact, count, count)


def _is_of_state(fact: Fact, function: str) -> bool:
    """Return whether a function is known to keep something from call to call: threads differ by it, too."""
    return fact.function == function and (
        fact.fact == KEPT or not {"every", "kept_under"}.isdisjoint(fact.where)
    )


def _of_dot(
    observations: Observations, function: str, ask: AskDot, probe: Probe | None, limits: Limits
) -> list[Finding]:
    """Return what a dot product does wrong, by experiments, and the order in which it adds."""
    groups, placed = (
        {nrc: kept for (name, nrc), kept in held.items() if name == function and kept}
        for held in (observations.failures, observations.placed)
    )
    plain, elsewhere = (
        [one for _, kept in sorted(held.items()) for one in kept] for held in (groups, placed)
    )
    facts: list[Fact] = []
    right = Predictions(Model())
    if probe and (turn := every_nth([one for one in plain if not right.match(one)], probe)):
        with suppress(NoAnswerError):
            facts = dot_facts(function, groups, turn.make, limits.experiments, right=right)
        facts = [turn.of_fact(fact) for fact in facts] or [turn.fact(plain)]
    elif probe and (plain or elsewhere):
        with suppress(NoAnswerError):
            facts = dot_facts(
                function,
                groups,
                probe,
                limits.experiments,
                placed=placed,
                restart=limits.restart,
                right=right,
            )
    failures = [
        *(one for one in plain if not right.match(one) or any(fact.explains(one) for fact in facts)),
        *(one for one in elsewhere if any(fact.explains(one) for fact in facts)),
    ]
    by_nrc = {nrc: held for (name, nrc), held in observations.dots.items() if name == function}
    named = orders.explain(function, by_nrc, ask, experiments=not facts)
    if not facts and any(finding.fix for finding in named):
        failures = []
    return _of_failures(function, facts, failures, named, probe, limits)


def _of_failures(
    function: str,
    facts: list[Fact],
    failures: Sequence[Failure],
    named: Sequence[Finding],
    probe: Probe | None,
    limits: Limits,
) -> list[Finding]:
    """Return the findings that facts are, that some failed calls are not explained, and what has a name."""
    facts = _without_chance(facts, failures)
    limits.facts += facts
    if not failures:
        return list(named)
    explained = [fact.explained(failures) for fact in facts]
    of = _count(failures)
    findings = [_of_fact(fact, _count(one), of) for fact, one in zip(facts, explained, strict=True)]
    seen = {id(failure) for one in explained for failure in one}
    if left := [failure for failure in failures if id(failure) not in seen]:
        near = next((f for f in named if f.cause == UNEXPLAINED), Finding(function, UNEXPLAINED, 0, 0))
        smallest = _smallest(sorted(left, key=lambda one: one.call.n), probe, limits)
        findings.append(replace(near, explained=0, of=_count(left), smallest=smallest))
    return [*findings, *(finding for finding in named if finding.cause != UNEXPLAINED)]


def _without_chance(facts: list[Fact], failures: Sequence[Failure]) -> list[Fact]:
    """Leave out facts that explain next to nothing where most is not explained: they fit by chance."""
    of, left = _count(failures), _count(left_of(failures, facts))
    if 2 * left <= of:
        return facts
    return [
        fact
        for fact in facts
        # (Calls without elements are few, and have nothing that fits by chance.)
        if _count(explained := fact.explained(failures)) >= CHANCE * of
        or not all(f.call.n for f in explained)
    ]


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


def _with_orders(named: list[Finding], probe: Probe | None) -> list[Finding]:
    """Return the orders of a right product by shape, where no single one of the catalogue explains it."""
    if probe is None or all(finding.cause != UNEXPLAINED for finding in named):
        return named
    found = product_orders(Probing(probe))
    return [Finding(MUL_MAT, cause, of, of, detail=detail) for cause, detail, of in found] or named


def _of_outputs(
    observations: Observations,
    function: str,
    ask: AskDot,
    accepted: Collection[tuple[str, str]],
    probe: Probe | None,
    limits: Limits,
) -> list[Finding]:
    """Return what a quantizer, dequantization or matrix product does wrong, and the name of a right one."""
    named: list[Finding] = []
    if function in (*QUANTIZERS, ACTIVATION):
        allowed = [recipe for name, recipe in accepted if name == function]
        named = recipes.explain(function, observations.quantizers.get(function, ()), allowed)
        facts_of: Callable[..., list[Fact]] = partial(quantizer_facts, function=function, accepted=allowed)
    elif function == DEQUANTIZE:
        facts_of = dequantizer_facts
    else:
        by_nrc = {nrc: held for (name, nrc), held in observations.dots.items() if name == function}
        named, facts_of = orders.explain(function, by_nrc, ask), facts_of_products
        if not observations.failures.get((function, 1)):
            named = _with_orders(named, probe)
    return _of_rows(observations, function, named, facts_of, probe, limits)


def _of_rows(
    observations: Observations,
    function: str,
    named: list[Finding],
    facts_of: Callable[..., list[Fact]],
    probe: Probe | None,
    limits: Limits,
) -> list[Finding]:
    """Return what a quantizer or dequantization does wrong, as measured, and a recipe that is no mistake."""
    failures, placed = (held.get((function, 1), []) for held in (observations.failures, observations.placed))
    if observations.writes_outside(function):
        # (Bytes behind the results are another finding.)
        failures = [one for one in failures if one.has_wrong_results]
    if not failures and not placed:
        return named
    facts: list[Fact] = []
    if known := [] if placed else facts_of_other(function, failures, limits.facts):
        facts = known
    elif probe is not None and (turn := every_nth(failures, probe)):
        session = Probing(turn.make, limits.experiments)
        with suppress(NoAnswerError, CallRefused):
            facts = [turn.of_fact(fact) for fact in facts_of(session, failures=failures)]
        facts = facts or [turn.fact(failures)]
    elif probe is not None and failures:
        session = Probing(probe, limits.experiments)
        with suppress(NoAnswerError, CallRefused):
            facts = varying_facts(session, failures) if function == MUL_MAT else []
            facts = facts or (state_of_products(session, failures) if function == MUL_MAT else [])
            facts = facts or kept_facts(function, failures, probe, limits.restart)
            facts = facts or facts_of(session, failures=failures)
        # (What a search that was stopped has found may fit some calls by chance.)
        is_half = session.is_late and function != MUL_MAT and bool(left_of(failures, facts))
        facts = [] if is_half else facts
        with suppress(NoAnswerError, CallRefused):
            is_state = all(fact.fact in STATES for fact in facts)
            if not is_state and (aligned := of_alignment(failures, probe)):
                facts = [where_aligned(fact, aligned) for fact in facts]

    def look(under: Probe, members: Sequence[Failure]) -> list[Fact]:
        with suppress(NoAnswerError, CallRefused):
            return facts_of(Probing(under, limits.experiments), failures=members)
        return []

    # (What is not the same each time is so at any address.)
    if probe is not None and placed and all(fact.fact != VARIES for fact in facts):
        facts += placed_facts(function, placed, probe, limits.restart, look)
        failures = [*failures, *placed]
    return _of_failures(function, facts, failures, named, probe, limits)


def _count(failures: Sequence[Failure]) -> int:
    """Count the wrong results of failed calls."""
    return sum(len(differing(one.call.function, one.outputs, one.expected)) for one in failures)


def _shown(evidence: Evidence) -> Smallest:
    """Return the call of a fact as reports show it."""
    return replace(shrink.as_smallest(evidence.call, evidence.actual, evidence.expected), text=evidence.text)


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


def _death(
    function: str, deaths: Sequence[Death], probe: Probe | None, ask: Asking | None, limits: Limits
) -> Finding:
    """Return the finding of a function that dies: which calls do, and the smallest one."""
    first = min(deaths, key=lambda death: weight(death.call))
    call = first.call
    if ask is not None and first.seconds < SLOW and (fact := of_deaths(deaths, ask, limits.experiments)):
        limits.facts.append(fact)
        return _of_fact(fact, len(deaths), len(deaths))
    if probe is not None and first.seconds < SLOW:
        with limits.shrinking() as seconds:
            call = shrink.smallest(call, probe, dies=True, seconds=seconds)
    smallest = shrink.as_smallest(call, None, ())
    return Finding(function, CRASH, len(deaths), len(deaths), FIXES[CRASH], smallest=smallest)
