"""What happens to a quantizer's blocks, and where, as facts: laws that give every byte of the calls.

A law is an effect (`effects`) with a condition (`conditions`); `search` finds
one, or two or three that hold together. Besides them steps of the arithmetic may be others everywhere, as
`q8a8_conformance.reveal.quantizers.revealed` measured them.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8.recipe import RECIPES, Recipe
from q8a8_conformance.diagnosis.facts import Fact, remembered
from q8a8_conformance.diagnosis.quantizers.cases import case_of
from q8a8_conformance.diagnosis.quantizers.conditions import of_lanes, placed
from q8a8_conformance.diagnosis.quantizers.effects import recipe_effects
from q8a8_conformance.diagnosis.quantizers.evidence import shortest
from q8a8_conformance.diagnosis.quantizers.search import Law, Search, gives
from q8a8_conformance.diagnosis.quantizers.states import Condition, both
from q8a8_conformance.inputs.calls import ACTIVATION
from q8a8_conformance.protocol.deadline import Deadline
from q8a8_conformance.reveal.asking import NoAnswerError
from q8a8_conformance.reveal.quantizers.arithmetic import differences, named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from q8a8_conformance.diagnosis.facts import Difference, Statement
    from q8a8_conformance.results.observations import CallResult, Failure
    from q8a8_conformance.reveal.quantizers.calls import QuantizerCalls
    from q8a8_conformance.reveal.quantizers.model import QuantizerModel

    Steps = Callable[[Recipe], Iterable[Difference]]

DESIGN = RECIPES["design"]
ZEROS = ("zero-scale", "zero", "tiny", "small-scale", "subnormal-scale")
"""Conditions on values under which a block of zeros, or the test for one, is what is wrong."""


SECONDS, SHORT = 8.0, 2.5
"""Seconds of an idle machine that the search may take; and where another fact explains all calls."""

MANY = 10
"""Failed calls of which a law must give more than one, if it is about one length alone."""

LIMITED = ("amax", "the scale")
"""What limits are about below which a block is small."""


@dataclass(frozen=True)
class Arithmetic:
    """What a quantizer computes: a recipe, and the laws by which it differs from it."""

    function: str
    recipe: Recipe
    laws: tuple[Law, ...]

    def gives(self, result: CallResult) -> bool:
        """Return whether a call's bytes are what it gives, but for those that it leaves open."""
        if result.call.function != self.function or not result.call.n:
            return False
        case = case_of(result).with_base(self.recipe)
        return bool(np.isfinite(case.x).all() and gives(self.laws, case).all())


def law_facts(
    calls: QuantizerCalls,
    failed: Sequence[Failure],
    model: QuantizerModel,
    steps: Steps,
    seconds: float = SECONDS,
) -> list[Fact]:
    """Return the laws that give most calls, as facts; none where there are none.

    `model` is what was measured; `steps` yields in what a recipe differs, in words. Those beside recipes that
    were not looked into after so many seconds of an idle machine are left out.
    """
    recipe, known = model.recipe, tuple(_known(model))
    tried: list[tuple[Recipe, tuple[Law, ...]]] = [(recipe, known)] if known else []
    tried += [(DESIGN, ()), (recipe, ())] if differences(recipe) else [(DESIGN, ())]
    best: list[Fact] = []
    most = 0
    try:
        search = Search(calls, failed, Deadline(seconds))
        for law in search.everywhere(DESIGN):
            facts = _facts(Arithmetic(calls.function, DESIGN, (law,)), failed, steps)
            if all(any(fact.explains(one) for fact in facts) for one in failed):
                return facts
        nearly = ((DESIGN, (law,)) for law in search.nearly(DESIGN))
        for base, laws in itertools.chain(tried, nearly):
            found = _needed(Arithmetic(calls.function, base, search.laws(base, laws)), search, failed)
            facts = _facts(found, failed, steps)
            count = len({id(one) for fact in facts for one in fact.explained(failed)})
            if found.laws and count > most and not search.undoes(base, found.laws):
                best, most = facts, count
            if most == len(failed):
                break
    except NoAnswerError:
        return best
    return best


def _known(model: QuantizerModel) -> Iterator[Law]:
    """Yield the recipes that were measured at some places alone, as laws."""
    for part in model.parts:
        for effect in recipe_effects([part.recipe], model.recipe) if part.recipe else ():
            where = placed(part.rule, is_row=model.is_row)
            where = Condition() if part.rule.is_any and not part.rule.length else where
            yield Law(effect, both(of_lanes(part.lanes), where) if part.lanes else where)


def _needed(found: Arithmetic, search: Search, failed: Sequence[Failure]) -> Arithmetic:
    """Return it without steps of its recipe that laws need not: what they give without one is no less."""

    def left(one: Arithmetic) -> tuple[int, int]:
        return search.left(one.recipe, one.laws), sum(not one.gives(failure) for failure in failed)

    for step in differences(found.recipe) if found.laws else ():
        bare = replace(found, recipe=named(replace(found.recipe, **{step: getattr(DESIGN, step)})))
        if all(a <= b for a, b in zip(left(bare), left(found), strict=True)):
            return _needed(bare, search, failed)
    return found


def _facts(found: Arithmetic, failed: Sequence[Failure], steps: Steps) -> list[Fact]:
    """Return laws, and the steps that differ everywhere, as facts: those that explain most first."""
    facts = []
    by_chance: set[int] = set()
    given = remembered(found.gives)
    bare = [
        Arithmetic(found.function, found.recipe, tuple(one for one in found.laws if one is not law))
        for law in found.laws
    ]
    without = [remembered(one.gives) for one in bare]
    for law, one in zip(found.laws, without, strict=True):
        effect = law.effect
        where = {**effect.data, **law.condition.data}
        fact = effect.fact.replace("value-", "place-") if "position" in where else effect.fact
        named = (fact, where, _rule(law, found.function), law.sentence, effect.fix, effect.cause)
        facts.append(_fact(named, found.function, failed, partial(_explains, given, one, without)))
        if any(each["kind"] == "is" for each in law.condition.data.get("length", ())):
            by_chance.add(id(facts[-1]))
    for difference in steps(found.recipe) if differences(found.recipe) else ():
        right = Arithmetic(found.function, DESIGN, found.laws)
        facts.append(
            _fact(
                _named(difference),
                found.function,
                failed,
                partial(_explains, given, remembered(right.gives), ()),
            )
        )
    counted = [(len(fact.explained(failed)), fact) for fact in facts]
    # (Of many failed calls one of one length is anything's.)
    least = [2 if id(fact) in by_chance and len(failed) >= MANY else 1 for fact in facts]
    some = [pair for pair, most in zip(counted, least, strict=True) if pair[0] >= most]
    return [fact for _, fact in sorted(some, key=lambda one: -one[0])]


def _rule(law: Law, function: str) -> str:
    """Return the rule that a law breaks: what is lost at places is no matter of blocks of zeros."""
    is_lost = law.effect.fact in {"value-unwritten", "value-zero"}
    values = str(law.condition.data.get("values", ""))
    if not is_lost or values in ZEROS or values.startswith(LIMITED) or "zero" in law.condition.data:
        return law.effect.rule
    if law.effect.rule == "Q8A8-QNT-3":
        return "Q8A8-QNT-4"
    return "Q8A8-QNT-9" if function == ACTIVATION else "Q8A8-LAY-2"


def _named(one: Statement) -> tuple[str, Any, str, str, str, str]:
    return one.fact, one.where, one.rule, one.sentence, one.fix, one.cause


def _fact(
    named: tuple[str, Any, str, str, str, str],
    function: str,
    failed: Sequence[Failure],
    explains: Callable[[CallResult], bool],
) -> Fact:
    explained = remembered(explains)
    return Fact(*named, function=function, evidence=shortest(explained, failed), explains=explained)


def _explains(
    given: Callable[[CallResult], bool],
    without: Callable[[CallResult], bool],
    others: Sequence[Callable[[CallResult], bool]],
    result: CallResult,
) -> bool:
    """Return whether all together give a call, and do not without one; where each alone would do, all do."""
    return given(result) and (not without(result) or all(other(result) for other in others))
