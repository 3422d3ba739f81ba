"""The laws of a quantizer: effects with a condition each that give what the calls gave, together.

Units that are wrong are covered one law at a time: of the effects that give most of what no law gives yet,
the one with the simplest condition that no call contradicts. Where that leaves something open, pairs of
effects are tried that give all of it together: each one's condition is looked for where the other does not
give what is seen.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.diagnosis.quantizers import cases as cases_of
from q8a8_conformance.diagnosis.quantizers.cases import Case, case_of, merged, same_units
from q8a8_conformance.diagnosis.quantizers.codes import precision_effects
from q8a8_conformance.diagnosis.quantizers.conditions import condition_of, of_lanes
from q8a8_conformance.diagnosis.quantizers.counted import counted_effects
from q8a8_conformance.diagnosis.quantizers.counted_blocks import counted_in_blocks
from q8a8_conformance.diagnosis.quantizers.effect import DESIGN, together
from q8a8_conformance.diagnosis.quantizers.effects import changed_effects, effects, recipe_effects, recipes
from q8a8_conformance.diagnosis.quantizers.indices import index_effects
from q8a8_conformance.diagnosis.quantizers.ratios import ratio_effects
from q8a8_conformance.diagnosis.quantizers.sources import measured_effects, placed_effects
from q8a8_conformance.diagnosis.quantizers.states import Condition, Question, given, known_units
from q8a8_conformance.diagnosis.quantizers.twice import twice_effects
from q8a8_conformance.reveal.asking import NoAnswerError
from q8a8_conformance.reveal.quantizers.calls import BLOCK

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from q8a8.recipe import Recipe
    from q8a8_conformance.diagnosis.quantizers.effect import Effect
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.deadline import Deadline
    from q8a8_conformance.results.observations import Failure
    from q8a8_conformance.reveal.quantizers.calls import QuantizerCalls

FAILED = 48
"""Failed calls that laws must give, of those that there are."""

SAMPLE = 20
"""Calls on which effects are tried first."""

LONG = 1 << 16
"""Elements of the longest failed call that is among them."""

ROUNDS, TRIED = 3, 24
"""Laws that are found one after another, and effects whose condition is looked for, for each."""

FIRST, PAIRS = 16, 24
"""Effects that are the first of a pair, and pairs that are tried."""

ASKED = 44
"""Effects whose condition is looked for in one search."""

MOST = 24_000
"""Elements of the calls on which effects are tried first."""

OF_A_KIND = 6
"""Effects of one kind without a condition after which others are looked at."""

SAME = 0.98
"""The part of the most units that an effect must give for its condition to be compared."""

APART = 0.2
"""The part of the blocks with wrong codes that have a right scale, where wrong ones are left out."""

LEFT = 1e-3
"""The part of the wrong units that open laws may leave open."""

NEAR = 8
"""Effects that give as many units but for an eighth of a power of two stand side by side."""

ALIKE = 3
"""Effects of one kind that the sample does not tell apart of which the calls decide."""

NEARLY = 0.8
"""The part of what an effect would change that it gives where it is the main mistake."""

ENOUGH = 10
"""Wrong units that a law must give, where others stay open."""


@dataclass(frozen=True)
class Law:
    """What happens, and where."""

    effect: Effect
    condition: Condition

    @property
    def sentence(self) -> str:
        """It in words."""
        text = self.condition.text
        return f"{self.effect.what}{', ' if text else ''}{text}."


def gives(laws: Sequence[Law], case: Case) -> Array:
    """Return the units of a call that laws give or leave open, or that are right as they are: [n, 1 + s]."""
    same_as_one = np.zeros(case.wrong.shape, np.bool_)
    touched = np.zeros(case.wrong.shape, np.int8)
    for law in laws:
        same, changes, known = given(law.effect, case)
        held = law.condition.units(case)
        same_as_one |= held & (same | ~known)
        touched += held & changes & known
    undefined = np.zeros(case.wrong.shape, np.bool_)
    undefined[:, 1:] = ~case.defined[:, np.newaxis]
    # (What two of them change is neither's.)
    found = np.asarray(same_as_one | (~case.wrong & (touched == 0)) | (touched > 1) | undefined)
    for one, other in itertools.permutations(laws, 2) if not found.all() else ():
        found |= same_units(case.got, _after(other, case.with_right(_after(one, case))))
    for one, other in itertools.combinations(laws, 2):
        if (both := together(one.effect, other.effect, case)) is not None:
            held = one.condition.units(case) & other.condition.units(case)
            same, known = same_units(case.got, both[0]), known_units(both[1])
            found = np.where(held & known & ~undefined, same, found)
    return found


def _after(law: Law, case: Case) -> Array:
    """Return the bytes of a call where one law alone holds."""
    data, known = law.effect.gives(case)
    units = law.condition.units(case)
    held = np.concatenate([np.repeat(units[:, :1], 2, axis=1), units[:, 1:]], axis=1)
    return np.where(held & known, data, case.right)


@dataclass(frozen=True)
class _Tried:
    """An effect, and which wrong units of the sample it gives, and which of them surely: bool [wrong].

    `missed` counts those that it would change and that are right, in elements in which it happens: it happens
    in few of its places.
    """

    number: int
    effect: Effect
    surely: Array
    maybe: Array
    missed: int


def _ranked(pairs: Sequence[tuple[int, _Tried]]) -> list[tuple[int, _Tried]]:
    """Return effects by how many units each gives; of those that give about as many one of each kind."""

    def near(count: int) -> int:
        return -int(NEAR * math.log2(count))

    found = []
    places: Counter[tuple[int, str, int]] = Counter()
    for count, one in sorted(pairs, key=lambda pair: (int(math.log2(1 + pair[1].missed)), pair[1].number)):
        key = near(count), *_kind(one.effect)
        found.append((near(count), places[key], one.number, (count, one)))
        places[key] += 1
    return [pair for *_, pair in sorted(found, key=lambda one: one[:3])]


def _kind(effect: Effect) -> tuple[str, int]:
    """Return the kind of an effect: recipes with as many steps are one."""
    return effect.fact, len(effect.data.get("steps", ()))


def check_time(deadline: Deadline) -> None:
    """Raise :class:`NoAnswerError` where a search's time is up."""
    if deadline.has_passed:
        raise NoAnswerError("the time is up")


class Search:
    """A search for laws among the calls of a quantizer, and failed ones.

    Attributes
    ----------
    made
        The calls, as few ones.
    """

    def __init__(self, calls: QuantizerCalls, failed: Sequence[Failure], deadline: Deadline) -> None:
        self._calls = calls
        self._deadline = deadline
        usable = [one for one in failed if 0 < one.call.n <= LONG]
        some = [case_of(one) for one in usable[:: max(len(usable) // FAILED, 1)]]
        some = [case for case in some if np.isfinite(case.x).all()]
        self._all = [*some, *cases_of.values(calls), *cases_of.places(calls)]
        self._base: Recipe | None = None

    def laws(self, base: Recipe, known: Sequence[Law] = ()) -> tuple[Law, ...]:
        """Return the laws by which the calls differ from a recipe, besides known ones; maybe none."""
        mixed = tuple((law.effect.steps, law.condition.units) for law in known)
        cases = [case.with_base(base, mixed) for case in self._all]
        laws = _Round(self._calls, cases, self._deadline).laws()
        return (*known, *laws)

    def everywhere(self, base: Recipe) -> Iterator[Law]:
        """Yield numbers of fewer bits, and second roundings, that alone give all calls, as laws."""
        cases = _Round(self._calls, [case.with_base(base) for case in self._all], self._deadline)
        for effect in itertools.chain(twice_effects(cases.made), precision_effects()):
            check_time(self._deadline)
            law = Law(effect, Condition())
            if all(gives([law], case).all() for case in (*cases.sample, *cases.made)):
                yield law

    def nearly(self, base: Recipe) -> Iterator[Law]:
        """Yield a step that gives nearly all of what is wrong in some elements of rows, as a law.

        What another mistake does there, too, may hide the rest.
        """
        best: tuple[int, Effect, Array] | None = None
        cases = merged([case.with_base(base) for case in self._all if case.is_row])
        for effect in recipe_effects(recipes(base), base) if cases else ():
            counts = np.zeros((2, BLOCK), np.int64)
            for case in cases if len(effect.steps) == 1 else ():
                same, changes, known = given(effect, case)
                told = changes & known
                counts += [(told & of)[:, 1:].sum(axis=0) for of in (same & case.wrong, np.True_)]
            lanes = counts[0] > NEARLY * counts[1]
            found = int(counts[0, lanes].sum())
            if found >= ENOUGH and (best is None or found > best[0]):
                best = found, effect, lanes
        if best is not None:
            lanes = np.flatnonzero(best[2]).tolist()
            yield Law(best[1], of_lanes(lanes) if len(lanes) < BLOCK else Condition())

    def left(self, base: Recipe, laws: Sequence[Law]) -> int:
        """Count the units of the calls that laws beside a recipe do not give."""
        return sum(int((~gives(laws, case.with_base(base))).sum()) for case in merged(self._all))

    def undoes(self, base: Recipe, laws: Sequence[Law]) -> bool:
        """Return whether one of the laws gives back what the specification's recipe gives, in most places."""
        if base == DESIGN:
            return False
        cases = merged([case.with_base(base) for case in self._all])
        for law in laws:
            seen = back = 0
            for case in cases:
                same, changes, _ = given(law.effect, case)
                hit = same & changes & law.condition.units(case)
                seen += int(hit.sum())
                back += int((hit & ~case.with_base(DESIGN).wrong).sum())
            if back > seen / 2:
                return True
        return False


class _Round:
    """The search for laws beside one recipe."""

    def __init__(self, calls: QuantizerCalls, every: Sequence[Case], deadline: Deadline) -> None:
        self._calls = calls
        self._deadline = deadline
        self.made = tuple(merged(every))
        wrong = sorted((case for case in every if case.wrong.any()), key=lambda case: case.x.size)
        # (Vectors of many sizes are as many calls.)
        count = SAMPLE if calls.is_row else SAMPLE // 3
        step = max(len(wrong) // count, 1)
        some = [*wrong[: count // 2], *wrong[count // 2 :: step]][: 2 * count]
        sizes = np.cumsum([case.x.size for case in some])
        self.sample = merged(
            [case for case, size in zip(some, sizes, strict=True) if size <= MOST] or some[:1]
        )
        self._left = ASKED

    @cached_property
    def _fresh(self) -> tuple[Case, ...]:
        """Calls that no law was found by."""
        first = self.made[0]
        made = [case.with_base(first.base, first.mixed) for case in cases_of.fresh(self._calls)]
        return tuple(merged(made))

    @cached_property
    def _is_apart(self) -> bool:
        """Whether many blocks have wrong codes and a right scale."""
        codes = np.concatenate([case.wrong[:, 1:].any(axis=1) for case in self.made])
        scales = np.concatenate([case.wrong[:, 0] for case in self.made])
        return bool((codes & ~scales).sum() > APART * codes.sum())

    @cached_property
    def _tried(self) -> list[_Tried]:
        """The effects that give some of what is wrong in the sample."""
        found: list[_Tried] = []
        alike: Counter[tuple[str, int, bytes]] = Counter()
        for number, effect in enumerate(self._effects()):
            check_time(self._deadline)
            surely, maybe, key = [], [], []
            missed = 0
            for case in self.sample:
                same, changes, known = given(effect, case)
                surely.append((same & known)[case.wrong])
                maybe.append((same | ~known)[case.wrong])
                not_there = changes & known & ~case.wrong
                if self._calls.is_row:
                    # (Elements of a block in which it never happens may be what its condition leaves out.)
                    not_there = not_there & (same & known & case.wrong).any(axis=0)
                missed += int(not_there.sum())
                key.append(np.packbits((changes | ~known) & ~case.wrong).tobytes())
            one = _Tried(number, effect, np.concatenate(surely), np.concatenate(maybe), missed)
            name = b"".join([*key, np.packbits(one.surely).tobytes(), np.packbits(one.maybe).tobytes()])
            alike[*_kind(effect), name] += 1
            if one.surely.any() and alike[*_kind(effect), name] <= ALIKE:
                found.append(one)
        return found

    def _effects(self) -> Iterator[Effect]:
        is_row = self._calls.is_row
        zeros = [case.got[case.amax == 0, :2].copy().view(np.float16) for case in self.made]
        scales = np.unique(np.concatenate([of[:, 0] for of in zeros if len(of)] or [np.zeros(1, np.float16)]))
        h = scales[0] if scales.size == 1 and 0 < scales[0] < np.inf else np.float16(0)
        below, above = (float(np.nextafter(h, np.float16(end))) for end in (-np.inf, np.inf))
        yield from changed_effects((float(h) + below) / 2, (float(h) + above) / 2)
        yield from effects(is_row=is_row, base=self.made[0].base)
        yield from placed_effects(is_row=is_row)
        if is_row:
            yield from counted_in_blocks(self._calls, self.made)
        yield from twice_effects(self.made)
        yield from measured_effects(self.made, is_row=is_row)
        yield from ratio_effects(self.made)
        if not is_row:
            yield from index_effects(self._calls, self.made)
            if any(case.wrong[:, 0].any() for case in self.made):
                yield from counted_effects(self._calls)

    def laws(self) -> tuple[Law, ...]:
        """Return the laws that were found, the one that gives most first."""
        if not any(case.wrong.any() for case in self.made):
            return ()
        laws: list[Law] = []
        for _ in range(ROUNDS):
            law = self._next(laws)
            if law is None:
                break
            laws.append(law)
            if self._is_all(laws):
                return self._needed(tuple(laws))
        return self._pair() or tuple(law for law in laws if self._is_enough(law))

    def _needed(self, laws: tuple[Law, ...]) -> tuple[Law, ...]:
        """Return laws without those without which the others give as much."""
        for law in laws if len(laws) > 1 else ():
            rest = tuple(one for one in laws if one is not law)
            if (self._open(rest) <= self._open(laws)).all():
                return self._needed(rest)
        return laws

    def _open(self, laws: Sequence[Law]) -> Array:
        """Count the units that laws do not give: scales, and all of them."""
        left = [~gives(laws, case) for case in self.made]
        return np.asarray([sum(of[:, 0].sum() for of in left), sum(of.sum() for of in left)])

    def _is_all(self, laws: Sequence[Law]) -> bool:
        """Return whether laws give every call; of open ones, but for what may be a chance, of scales too."""
        left = self._open(laws)
        if not any(law.condition.is_open for law in laws):
            return not left.any()
        wrong = np.sum([(case.wrong[:, 0].sum(), case.wrong.sum()) for case in self.made], axis=0)
        return bool((left <= LEFT * wrong).all())

    def _is_enough(self, law: Law) -> bool:
        return sum(int((gives([law], case) & case.wrong).sum()) for case in self.made) >= ENOUGH

    def _gives_most(self, law: Law, others: Sequence[Law]) -> bool:
        """Return whether a law gives most of what is wrong where it holds, and others leave open."""
        given_ = wrong = 0
        for case in self.made:
            left = case.wrong & law.condition.units(case) & ~gives(others, case)
            changes = given(law.effect, case)[1]
            left[:, 0] &= changes[:, 0].any()
            left[:, 1:] &= changes[:, 1:].any()
            given_ += int((gives([law], case) & left).sum())
            wrong += int(left.sum())
        return given_ > wrong / 2

    def _next(self, laws: Sequence[Law]) -> Law | None:
        """Return the law that gives most of what others leave open, the simplest of those."""
        left = np.concatenate([~gives(laws, case)[case.wrong] for case in self.sample])
        every = [(self._credit(one, left), one) for one in self._tried]
        ranked = _ranked([pair for pair in every if pair[0]])
        best: list[tuple[bool, int, int, Law]] = []
        most = 0
        failed: Counter[tuple[str, int]] = Counter()
        asked = self._left
        for count, one in ranked:
            if count < SAME * most or failed[_kind(one.effect)] >= OF_A_KIND:
                continue
            if asked - self._left > TRIED:
                break
            law = self._law(one.effect, [(law.effect, law.condition) for law in laws])
            if law is None or not self._gives_most(law, laws):
                failed[_kind(one.effect)] += 1
                continue
            if not law.condition.text and self._is_all([*laws, law]):
                return law
            most = max(most, count)
            best.append((law.condition.is_open, law.condition.complexity, one.number, law))
        return min(best, key=lambda one: one[:3])[3] if best else None

    @cached_property
    def _blocks(self) -> Array:
        """The numbers of the sample's blocks in which its wrong units are: int [wrong]."""
        starts = np.cumsum([0, *(len(case.x) for case in self.sample)])
        found = [at + np.nonzero(case.wrong)[0] for at, case in zip(starts, self.sample, strict=False)]
        return np.concatenate(found)

    def _credit(self, one: _Tried, left: Array) -> int:
        """Count the wrong units that an effect gives, or leaves open beside some that it gives."""
        seen = np.unique(self._blocks[one.surely & left])
        return int((one.maybe & left & np.isin(self._blocks, seen)).sum())

    def _law(self, effect: Effect, others: Sequence[tuple[Effect, Condition | None]]) -> Law | None:
        """Return an effect with its condition, where it has one that no call contradicts."""
        check_time(self._deadline)
        self._left -= 1
        if self._left < 0:
            return None
        question = Question(self._calls, effect, self.made, tuple(others), is_apart=self._is_apart)
        condition = condition_of(question)
        if condition is None or (effect.is_limit and "values" in condition.data):
            return None
        if not condition.of_scales and any(given(effect, case)[1][:, 0].any() for case in self.sample):
            # (What changes scales, too, is not seen in codes alone.)
            return None
        fresh = [question.state(case) for case in self._fresh]
        if condition.is_open:
            fresh += question.states()
        return Law(effect, condition) if question.fits(condition, fresh) else None

    def _pair(self) -> tuple[Law, ...]:
        """Return two laws that give every call together."""
        every = np.ones(self._blocks.shape, np.bool_)
        ranked = sorted(self._tried, key=lambda one: (-self._credit(one, every), one.missed))
        pairs = [
            (one, other)
            for one, other in itertools.product(ranked[:FIRST], ranked)
            if one is not other and (one.maybe | other.maybe).all()
        ]
        pairs.sort(key=lambda pair: pair[0].missed + pair[1].missed)
        for one, other in pairs[:PAIRS]:
            first = self._law(one.effect, [(other.effect, None)])
            second = self._law(other.effect, [(first.effect, first.condition)]) if first else None
            if first and second and self._is_all([first, second]):
                return first, second
        return ()
