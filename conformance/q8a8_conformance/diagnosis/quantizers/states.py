"""What calls say about an effect: where it is seen, and where it would be and is not.

A unit is a scale, or a code: bool [n, 1 + s] for the blocks of a call, the scale first. A law is an effect
with a condition. Where another law gives what is seen, a unit says nothing about this one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.diagnosis.quantizers.cases import Case, same_units

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from q8a8_conformance.diagnosis.quantizers.effect import Effect
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.reveal.quantizers.calls import QuantizerCalls

CHANCE = 0.01
"""How many units may be right, or as an effect gives them, by chance, for each that it gives."""

OPEN = 0.1
"""How many units may be neither right nor an effect's, where it holds, for each that it gives."""


@dataclass(frozen=True)
class Condition:
    """Where an effect holds.

    Attributes
    ----------
    text
        Its words, which follow those of the effect; empty for everywhere.
    data
        Its parameters.
    holds
        Returns for a call's blocks, and for their elements, where: bool [n, s].
    of_scales
        Whether scales are among what it is about.
    cost
        How much it says, where its parameters do not tell.
    is_open
        Whether a few units that it is about may be something else than right or its effect's.
    """

    text: str = ""
    data: dict[str, Any] = field(default_factory=dict)
    holds: Callable[[Case], Array] = lambda case: np.ones(case.x.shape, np.bool_)
    of_scales: bool = True
    cost: int = 0
    is_open: bool = False

    @property
    def complexity(self) -> int:
        """How much it says: words of a place count for more than those of a value."""
        place = 1 + len(self.data.get("length", ())) if "position" in self.data else 0
        return self.cost or len(self.data) + place

    def units(self, case: Case) -> Array:
        """Return the units of a call's blocks that it is about: bool [n, 1 + s]."""
        elements = self.holds(case)
        scales = elements.any(axis=1, keepdims=True) & self.of_scales
        return np.concatenate([scales, elements], axis=1)


def both(one: Condition, other: Condition) -> Condition:
    """Return that two conditions hold."""
    if not (one.text and other.text):
        return one if one.text else other
    are_where = all(text.startswith("where ") for text in (one.text, other.text))
    joined = f" and {other.text.removeprefix('where ')}" if are_where else f", {other.text}"
    return Condition(
        f"{one.text}{joined}",
        {**one.data, **{f"and-{name}" if name in one.data else name: v for name, v in other.data.items()}},
        lambda case: one.holds(case) & other.holds(case),
        of_scales=one.of_scales and other.of_scales,
        cost=one.complexity + other.complexity,
        is_open=one.is_open or other.is_open,
    )


@dataclass(frozen=True)
class State:
    """What a call says about an effect: units [n, 1 + s] that it gives, that it would change, and others."""

    case: Case
    hit: Array
    missed: Array
    bad: Array

    @property
    def is_mixed(self) -> bool:
        """Whether a block has both: then it is no matter of whole blocks."""
        return bool((self.hit.any(axis=1) & self.missed.any(axis=1)).any())

    def against(self, *, is_open: bool) -> Array:
        """Return what contradicts the effect: bool [n, 1 + s].

        If that is open, nothing does in blocks with something that is neither right nor the effect's.
        """
        return self.missed & ~self.bad.any(axis=1, keepdims=True) if is_open else self.missed | self.bad

    @property
    def hit_blocks(self) -> Array:
        """The blocks in which it is seen: bool [n]."""
        return np.asarray(self.hit.any(axis=1))

    @property
    def missed_blocks(self) -> Array:
        """The blocks in which it would be seen, and is not: bool [n]."""
        return np.asarray(self.missed.any(axis=1))


def known_units(known: Array) -> Array:
    """Return of bytes that are known [n, 2 + s] which units are: bool [n, 1 + s]."""
    return np.concatenate([known[:, :2].all(axis=1, keepdims=True), known[:, 2:]], axis=1)


def given(effect: Effect, case: Case) -> tuple[Array, Array, Array]:
    """Return where an effect gives a call's units, where it changes what is right, and where it is known."""
    data, known = case.over(effect.gives) if case.mixed else effect.gives(case)
    units = known_units(known)
    units[:, 1:] &= case.defined[:, np.newaxis]
    return same_units(case.got, data), ~same_units(data, case.right), units


@dataclass(frozen=True)
class Question:
    """Where an effect holds, beside others.

    Attributes
    ----------
    calls
        The quantizer.
    effect
        What is seen somewhere.
    others
        Laws, or effects whose condition is not known (None), that give some of what is seen.
    among
        Conditions that are known to hold where it does.
    is_apart
        Whether blocks whose scale is wrong tell nothing of an effect on codes alone.
    made
        Calls that were made.
    kept, left
        What the effect gives for them, and what the others leave open, once it has been computed.
    """

    calls: QuantizerCalls
    effect: Effect
    made: tuple[Case, ...] = ()
    others: tuple[tuple[Effect, Condition | None], ...] = ()
    among: tuple[Condition, ...] = ()
    is_apart: bool = False
    kept: dict[int, tuple[Array, Array, Array]] = field(default_factory=dict)
    left: dict[int, Array] = field(default_factory=dict)

    def based(self, case: Case) -> Case:
        """Return a call with what is right for the calls that were made."""
        return case.with_base(self.made[0].base, self.made[0].mixed)

    def state(self, case: Case) -> State:
        """Compare what a call gave with what it gives with the effect, and without."""
        same, changes, known = self._given(case)
        told = known & changes & self.open(case)
        for condition in self.among:
            told &= condition.units(case)
        if self.is_apart and not changes[:, 0].any():
            told &= ~case.wrong[:, :1]
        wrong = case.wrong
        return State(case, hit=wrong & same & told, missed=~wrong & told, bad=wrong & ~same & told)

    def _given(self, case: Case) -> tuple[Array, Array, Array]:
        """Return what the effect gives for a call; that of the calls that were made is kept."""
        if not any(case is one for one in self.made):
            return given(self.effect, case)
        if id(case) not in self.kept:
            self.kept[id(case)] = given(self.effect, case)
        return self.kept[id(case)]

    def shows(self, case: Case) -> int:
        """Return how many units of a call the effect would change."""
        _, changes, known = given(self.effect, case)
        return int((changes & known).sum())

    def open(self, case: Case) -> Array:
        """Return the units that no other law changes: bool [n, 1 + s]."""
        if id(case) in self.left:
            return self.left[id(case)]
        left = np.ones(case.wrong.shape, np.bool_)
        for effect, condition in self.others:
            same, changes, known = given(effect, case)
            if condition is None:
                left &= ~(case.wrong & (same | ~known))
            else:
                left &= ~((changes | ~known) & condition.units(case))
        if any(case is one for one in self.made):
            self.left[id(case)] = left
        return left

    def states(self) -> list[State]:
        """Return what all calls say."""
        return [self.state(case) for case in self.made]

    def within(self, condition: Condition) -> Question:
        """Ask where it holds among what a condition is about."""
        return replace(self, among=(*self.among, condition))

    def fits(self, condition: Condition, states: Sequence[State]) -> bool:
        """Return whether a condition holds wherever the effect is seen, and nowhere where it is not."""
        found = [(condition.units(state.case), state) for state in states]
        lost = sum(int((s.hit & ~held).sum()) for held, s in found)
        hits = sum(int(s.hit.sum()) for _, s in found)
        against = sum(int((s.against(is_open=condition.is_open) & held).sum()) for held, s in found)
        if max(lost, against) > (CHANCE * hits if condition.is_open else 0):
            return False
        both = sum(int(((s.missed | s.bad) & held).sum()) for held, s in found)
        return both <= OPEN * hits
