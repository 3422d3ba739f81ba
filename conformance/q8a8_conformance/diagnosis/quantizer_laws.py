"""What happens to a quantizer's blocks, and where, as one law that gives every byte of every call.

An effect (`quantizer_effects`) with a condition (`quantizer_conditions`) is a law if it gives what all calls
of `quantizer_cases` gave, and all failed ones. What fits most of them is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from q8a8_conformance.diagnosis import quantizer_cases
from q8a8_conformance.diagnosis.facts import Evidence, Fact, remembered
from q8a8_conformance.diagnosis.quantizer_cases import Case, case_of
from q8a8_conformance.diagnosis.quantizer_conditions import Condition, condition_of, state_of
from q8a8_conformance.diagnosis.quantizer_effects import Effect, changed_effects, effects
from q8a8_conformance.diagnosis.quantizer_evidence import show
from q8a8_conformance.reveal.asking import NoAnswerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from q8a8_conformance.results.observations import CallResult, Failure
    from q8a8_conformance.reveal.quantizer_calls import QuantizerCalls

Array = NDArray[Any]

FAILED = 48
"""Failed calls that a law must give, of those that there are."""

TRIED = 10
"""Calls on which effects are tried first."""

LONG = 1 << 16
"""Elements of the longest failed call that is among them."""


@dataclass(frozen=True)
class Law:
    """What happens, and where."""

    effect: Effect
    condition: Condition

    def gives(self, case: Case) -> bool:
        """Return whether a call's bytes are what the law gives, but for those that it leaves open."""
        data, known = self.effect.gives(case)
        held = self.condition.bytes(case)
        want = np.where(held, data, case.right)
        return bool(((case.got == want) | (held & ~known)).all())

    @property
    def sentence(self) -> str:
        """It in words."""
        text = self.condition.text
        return f"{self.effect.what}{', ' if text else ''}{text}."


def law_facts(calls: QuantizerCalls, failed: Sequence[Failure]) -> list[Fact]:
    """Return the law that gives every call, as a fact; none where there is none."""
    try:
        law = find_law(calls, failed)
    except NoAnswerError:
        return []
    if law is None:
        return []
    explains = remembered(partial(_explains, law, calls.function))
    shown = min((one for one in failed if explains(one)), key=lambda one: one.call.n, default=None)
    if shown is None:
        return []
    effect = law.effect
    text = show(calls.function, shown.call, shown.expected, shown.outputs)
    evidence = (Evidence(shown.call, shown.expected, shown.outputs, text),)
    where = {**effect.data, **law.condition.data}
    fact = effect.fact.replace("value-", "place-") if "position" in where else effect.fact
    named = (fact, where, effect.rule, law.sentence, effect.fix, effect.cause)
    return [Fact(*named, function=calls.function, evidence=evidence, explains=explains)]


def _explains(law: Law, function: str, result: CallResult) -> bool:
    return result.call.function == function and result.call.n > 0 and law.gives(case_of(result))


def find_law(calls: QuantizerCalls, failed: Sequence[Failure]) -> Law | None:
    """Return the simplest law that gives every call."""
    usable = [one for one in failed if 0 < one.call.n <= LONG]
    some = [case_of(one) for one in usable[:: max(len(usable) // FAILED, 1)]]
    some = [case for case in some if np.isfinite(case.x).all()]
    made = [*some, *quantizer_cases.values(calls), *quantizer_cases.places(calls)]
    wrong = sorted((case for case in made if (case.got != case.right).any()), key=lambda case: case.x.size)
    if not wrong:
        return None
    first = [*wrong[: TRIED // 2], *wrong[TRIED // 2 :: max(len(wrong) // TRIED, 1)]][: 2 * TRIED]
    found: list[tuple[int, int, Law]] = []
    for number, effect in enumerate(_effects(calls, made)):
        tried = [state_of(effect, case) for case in first if not state_of(effect, case).bad.any()]
        if len(tried) < len(first):
            continue
        states = [state_of(effect, case) for case in made]
        if any(state.bad.any() for state in states) or not any(state.hit.any() for state in states):
            continue
        condition = condition_of(calls, effect, states)
        if condition is None or (effect.is_limit and "values" in condition.data):
            continue
        law = Law(effect, condition)
        if all(law.gives(case) for case in made):
            if not condition.text:
                return law
            found.append((_complexity(condition), number, law))
    return min(found, key=lambda one: one[:2])[2] if found else None


def _complexity(condition: Condition) -> int:
    """Return how much a condition says: words of a place count for more than those of a value."""
    return len(condition.data) + ("position" in condition.data) * (1 + len(condition.data.get("length", ())))


def _effects(calls: QuantizerCalls, made: Sequence[Case]) -> Iterator[Effect]:
    """Yield effects, those whose number is measured first."""
    zeros = [case.got[case.amax == 0, :2].copy().view(np.float16) for case in made]
    scales = np.unique(np.concatenate([of[:, 0] for of in zeros if len(of)] or [np.zeros(1, np.float16)]))
    h = scales[0] if scales.size == 1 and 0 < scales[0] < np.inf else np.float16(0)
    below, above = (float(np.nextafter(h, np.float16(end))) for end in (-np.inf, np.inf))
    yield from changed_effects((float(h) + below) / 2, (float(h) + above) / 2)
    yield from effects(is_row=calls.is_row)
