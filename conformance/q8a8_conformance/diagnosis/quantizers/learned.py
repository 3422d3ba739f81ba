"""Conditions that are learned: the fewest plain statements that hold wherever an effect is seen, and no else.

Statements are about a block's place and its row's length, about the values of the block, of the blocks before
and after it, and about an element: its place, its value, and those of its neighbours. Those that hold for
all units at which an effect is seen are put together until none is left at which it is not; what other calls
contradict is added to the units, and they are put together again.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.diagnosis.quantizers.statements import statements
from q8a8_conformance.diagnosis.quantizers.states import Condition, both

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from q8a8_conformance.diagnosis.quantizers.cases import Case
    from q8a8_conformance.diagnosis.quantizers.statements import Statement
    from q8a8_conformance.diagnosis.quantizers.states import Question, State
    from q8a8_conformance.inputs.arrays import Array

UNITS = 3000
"""Units at which an effect is seen, and at which it is not, that are looked at first."""

ROUNDS = 4
"""Times that what contradicts a condition is added to them."""

LEAST = 6
"""Units at which an effect is seen that tell a condition."""

RARE = 200
"""Of so many hits one may be missed by chance, where a condition is open."""

FEW = 0.2
"""The part of the blocks in which an effect is seen, and would be seen elsewhere, that is a chance."""

CODES = 3
"""What it costs to say that scales are none of it."""

TOGETHER, TRIPLES = 60, 24
"""Statements that may hold in pairs, and in threes."""


class _Units:
    """Some units of calls, in the order of the calls.

    Parameters
    ----------
    units
        Call's number, block and column (0 for the scale) of each, int [k, 3].

    Attributes
    ----------
    of_scales
        Which ones are scales, bool [k].
    """

    def __init__(self, units: Array) -> None:
        ordered = units[np.argsort(units[:, 0], kind="stable")]
        self.of_scales = ordered[:, 2] == 0
        numbers, starts = np.unique(ordered[:, 0], return_index=True)
        # (A scale stands for its block.)
        self._parts = [
            (number, part[:, 1], np.maximum(part[:, 2] - 1, 0))
            for number, part in zip(numbers.tolist(), np.split(ordered, starts[1:]), strict=True)
        ]

    def numbers(self, one: Statement, cases: Sequence[Case]) -> Array:
        """Return a statement's numbers of them, int [k]."""
        found = [one.numbers(cases[number])[blocks, columns] for number, blocks, columns in self._parts]
        return np.concatenate(found) if found else np.zeros(0, np.int64)


def learned(question: Question, states: Sequence[State]) -> Condition | None:
    """Return a condition that what is seen fits, if one was found.

    What is neither right nor the effect's contradicts it; where that leaves no condition, it may be what two
    mistakes do together, if it is little.
    """
    return _learned(question, states, is_open=False) or _learned(question, states, is_open=True)


def _learned(question: Question, states: Sequence[State], *, is_open: bool) -> Condition | None:
    against = [s.against(is_open=is_open) for s in states]
    if is_open and not any(s.bad.any() for s in states):
        return None
    hits = [s.hit for s in states]
    mixed = [s.hit_blocks & s.missed_blocks for s in states]
    if is_open and sum(of.sum() for of in mixed) < FEW * sum(s.hit_blocks.sum() for s in states):
        # (What is seen in few blocks in which most is not is seen by chance.)
        hits = [of & ~chance[:, np.newaxis] for of, chance in zip(hits, mixed, strict=True)]
    hit, missed = _listed(hits), _listed(against)
    if len(hit) < LEAST or not len(missed):
        return None
    rng = np.random.default_rng(11)
    asked, others = _some(hit, rng), _some(missed, rng)
    cases = [s.case for s in states]
    for _ in range(ROUNDS):
        most = len(asked) // RARE if is_open else 0
        found = _together(cases, _Units(asked), _Units(others), most, is_row=question.calls.is_row)
        if found is None:
            return None
        held = [found.units(case) for case in cases]
        lost = _listed([of & ~h for of, h in zip(hits, held, strict=True)])
        wrong = _listed([of & h for of, h in zip(against, held, strict=True)])
        if not len(lost) and len(wrong) <= (len(hit) // RARE if is_open else 0):
            found = replace(found, is_open=is_open)
            return found if question.fits(found, states) else None
        asked = np.concatenate([asked, _some(lost, rng)])
        others = np.concatenate([others, _some(wrong, rng)])
    return None


def _listed(which: Sequence[Array]) -> Array:
    """Return the units that are set, int [k, 3]."""
    found = [np.argwhere(of) for of in which]
    return np.concatenate(
        [np.insert(at, 0, number, axis=1) for number, at in enumerate(found)] or [np.zeros((0, 3), np.int64)]
    )


def _some(units: Array, rng: np.random.Generator) -> Array:
    return units if len(units) <= UNITS else units[rng.choice(len(units), UNITS, replace=False)]


def _together(
    cases: Sequence[Case], hit: _Units, missed: _Units, most: int, *, is_row: bool
) -> Condition | None:
    """Return the plainest statements that hold for all hits, and together for no more that is missed."""
    # Of statements that admit the same the plainest one will do.
    kept: dict[int, tuple[int, int, Condition]] = {}
    for cost, admitted, one in sorted(_fitting(cases, hit, missed, is_row=is_row), key=lambda one: one[0]):
        bits = int.from_bytes(np.packbits(admitted).tobytes(), "big")
        kept.setdefault(bits, (cost, bits, one))
    for _, bits, one in kept.values():
        if bits.bit_count() <= most:
            return one
    some = list(kept.values())
    for count, tried in ((2, TOGETHER), (3, TRIPLES)):
        some = sorted(some, key=lambda one: (one[1].bit_count() * (1 + one[0] / 8), one[0]))[:tried]
        groups = [
            group
            for group in itertools.combinations(some, count)
            if reduce(int.__and__, (one[1] for one in group)).bit_count() <= most
        ]
        if groups:
            best = min(groups, key=lambda group: sum(one[0] for one in group))
            return reduce(both, sorted((one[2] for one in best), key=_order))
    return None


def _order(one: Condition) -> tuple[bool, bool]:
    """Return where a condition stands among others: places come first, elements before blocks."""
    return one.text.startswith("where"), one.of_scales


def _fitting(
    cases: Sequence[Case], hit: _Units, missed: _Units, *, is_row: bool
) -> Iterator[tuple[int, Array, Condition]]:
    """Yield statements that all hits pass: what they cost, which missed units do, and their conditions."""
    of_scales = bool(hit.of_scales.any())
    scales = missed.of_scales
    if not of_scales and scales.any():
        yield CODES, ~scales, Condition("in codes alone", {"units": "codes"}, of_scales=False, cost=CODES)
    for one in statements(is_row=is_row):
        if one.of_element and of_scales:
            continue
        numbers = None
        for test in one.tests(hit.numbers(one, cases)):
            numbers = missed.numbers(one, cases) if numbers is None else numbers
            admitted = test.holds(numbers) & ~(scales & one.of_element)
            if not admitted.all():
                yield test.cost, admitted, one.condition(test)
