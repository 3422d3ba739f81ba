"""A function whose model was measured, and the facts that follow from where it differs from the right one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from q8a8_conformance.diagnosis.facts import Evidence, Fact, remembered
from q8a8_conformance.inputs.calls import ACTIVATION
from q8a8_conformance.reveal.asking import NoAnswerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from q8a8_conformance.diagnosis.facts import Difference
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.results.observations import CallResult

SAY_LESS = {"steps", "units", "low"}
"""Keys of facts that say no more than several steps do: of several steps, or of bounds of a factor."""

FEW_EXPLAINED = 0.5
"""The part of the failed calls, by elements, that several wrong steps must explain to be no chance fit."""

CHANCE = 0.01
"""The same of one wrong step."""

STRUCTURE = {"layout", "amax-of", "element-not-counted"}
"""Facts that are measured before the arithmetic, and do not depend on it."""

SAMPLED = 100
"""Failed calls that show whether a model gives any."""

UNIT = 4
"""Bytes of an output that are shown together."""


@dataclass(frozen=True)
class MeasuredFunction:
    """A function as a model of what it computes, from which the facts about it follow.

    Attributes
    ----------
    function
        The ABI function.
    model, right
        What it computes, and what it should.
    outputs
        Returns the output buffers that a model gives for a call.
    make
        Makes a call of the kernel; it may raise a `NoAnswerError`.
    show
        Describes the first difference between expected and actual outputs of a call.
    alike
        Returns whether a call's outputs are a model's but for what the model does not define.
    """

    function: str
    model: Any
    right: Any
    outputs: Callable[[Any, Call], tuple[bytes, ...]]
    make: Callable[[Call], tuple[bytes, ...]]
    show: Callable[[Call, tuple[bytes, ...], tuple[bytes, ...]], str]
    alike: Callable[[Any, CallResult, tuple[bytes, ...]], bool] = lambda *_: False

    def facts(
        self,
        differences: Sequence[Difference],
        candidates: Callable[[], Iterable[Call]],
        failures: Sequence[CallResult],
        others: Callable[[], list[Fact]],
        *,
        is_sure: bool = False,
        is_whole: bool = True,
    ) -> list[Fact]:
        """Return the differences as facts, with evidence: those that explain most failed calls first.

        Where none explains any, the facts are others; and where there are none, and the model is sure, those
        that have evidence. Others come first, if they explain as much, where the model is not whole.
        """
        without = [one.undo(self.model) for one in differences]
        explained_by = remembered(partial(self._explained_by, without))
        facts = [
            Fact(
                *(one.fact, one.where, one.rule, one.sentence, one.fix, one.cause),
                function=self.function,
                evidence=self._evidence(bare, candidates()),
                explains=partial(_is_among, explained_by, number),
            )
            for number, (one, bare) in enumerate(zip(differences, without, strict=True))
        ]
        # (Of thousands of failed calls a model that gives none of some gives next to none.)
        sample = failures[:: max(len(failures) // SAMPLED, 1)]
        judged = failures if any(map(explained_by, sample)) else sample
        explained = {id(fact): len(fact.explained(judged)) for fact in facts}
        some = sorted((f for f in facts if explained[id(f)]), key=lambda fact: -explained[id(fact)])
        share = _share(some, failures)
        # (Where bytes are, and which elements count, is seen by itself.)
        if share == 1 and is_whole and sum(fact.fact not in STRUCTURE for fact in some) <= 1:
            return some
        # What explains few may be a chance fit: so is what explains less than something else does.
        other = others()
        # One mistake may look like several steps; several steps in one fact say no more, nor does a factor
        # that is measured within bounds where the steps give every byte.
        is_one = len(other) < max(len(some), 2) and all(SAY_LESS.isdisjoint(one.where) for one in other)
        is_one = is_one or not is_whole
        if _share(other, failures) > share or (other and is_one and _share(other, failures) == share):
            return other
        if share == 1:
            return some
        if share <= CHANCE or (sum(fact.fact == "step" for fact in some) > 1 and share <= FEW_EXPLAINED):
            some = []
        return some or other or [fact for fact in facts if fact.evidence and is_sure and not failures]

    def _explained_by(self, without: Sequence[Any], result: CallResult) -> set[int]:
        """Return the numbers of the differences without which the model does not give the outputs.

        Where each of several would do, they are all.
        """
        if result.call.function != self.function or not (result.call.n or self.function == ACTIVATION):
            return set()
        given = self.outputs(self.model, result.call)
        if given != result.outputs and not self.alike(self.model, result, given):
            return set()
        found = {i for i, bare in enumerate(without) if self.outputs(bare, result.call) != given}
        is_right = not found and self.outputs(self.right, result.call) == given
        return found if found or is_right else {*range(len(without))}

    def _evidence(self, without: Any, candidates: Iterable[Call]) -> tuple[Evidence, ...]:  # noqa: ANN401 - a model
        """Return the first call that shows a difference, and nothing else if there is such a one."""
        showing = [
            (call, self.outputs(self.right, call), bare)
            for call in candidates
            if self.outputs(self.model, call) != (bare := self.outputs(without, call))
        ]
        for call, expected, bare in sorted(showing, key=lambda one: one[1] != one[2]):
            try:
                actual = self.make(call)
            except NoAnswerError:
                continue
            if actual != expected:
                # (What another mistake does before it is not what is to be seen.)
                parts = zip(expected, actual, bare, strict=True)
                alone = tuple(_from_difference(*part) for part in parts)
                shown = self.show(call, expected, actual if alone == expected else alone)
                return (Evidence(call, expected, actual, shown),)
        return ()


def _from_difference(expected: bytes, actual: bytes, bare: bytes) -> bytes:
    """Return an output that is the expected one up to where it differs from another one."""
    pairs = enumerate(zip(actual, bare, strict=True))
    first = next((i for i, (one, other) in pairs if one != other), len(actual))
    return expected[: first // UNIT * UNIT] + actual[first // UNIT * UNIT :]


def _is_among(explained_by: Callable[[CallResult], set[int]], number: int, result: CallResult) -> bool:
    return number in explained_by(result)


def _share(facts: Sequence[Fact], failures: Sequence[CallResult]) -> float:
    """Return the part of the failed calls that facts explain, by elements."""
    explained = {id(one): one.call.n for fact in facts for one in fact.explained(failures)}
    return sum(explained.values()) / max(sum(one.call.n for one in failures), 1)
