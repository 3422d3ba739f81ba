"""What a block that holds some value does to itself and to others: zeros, signs, what is as before.

In ordinary rows one block after the other holds such a value. Where a row is wrong then, and right without,
what comes is compared to what becomes of the block, of its neighbours or of the rest of the row.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.diagnosis.dots.bench import changes_of
from q8a8_conformance.diagnosis.dots.model import Model, joined, matches
from q8a8_conformance.diagnosis.dots.row_effects import Effect, Kind, shifted
from q8a8_conformance.inputs import dot_rows
from q8a8_conformance.reveal.asking import NoAnswerError
from q8a8_conformance.reveal.places import Seen, find_rule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from q8a8_conformance.diagnosis.dots.bench import Bench, Measured
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.results.observations import CallResult
    from q8a8_conformance.reveal.places import Rule

    # Scales of x and y [nb], codes of x and y [nb, 32].
    Values = tuple[Array, ...]
    # A value, at which places it matters, and a call that shows it.
    Triggered = tuple["Trigger", Rule | None, CallResult]


LENGTHS, LONGEST = (1, 2, 3, 4, 5, 8), 40
"""Blocks of the rows in which each block holds a value, and of the longest that is asked for."""

FIX = "Treat a block alike whatever it holds, and whatever the block before it holds."


@dataclass(frozen=True)
class Trigger:
    """A value that a block may hold.

    Attributes
    ----------
    name, words
        For programs, and for people, behind "where".
    put
        Puts it into a block of rows.
    holds
        Returns which blocks hold it: bool [nb].
    control
        Puts a value like it into a block that must be right, for one that matters to its own block.
    is_base
        Whether all other blocks of a row must hold such a one.
    """

    name: str
    words: str
    put: Callable[[Values, int], None]
    holds: Callable[[Values], Array]
    control: Callable[[Values, int], None] | None = None
    is_base: bool = False


def _constant(part: int, value: float) -> Callable[[Values, int], None]:
    def put(values: Values, block: int) -> None:
        values[part][block] = value

    return put


def _as_before(part: int) -> Callable[[Values, int], None]:
    def put(values: Values, block: int) -> None:
        values[part][block] = values[part][block - 1]

    return put


def _equal_before(of: Array) -> Array:
    rows = of.reshape(len(of), -1)
    return np.asarray(np.append(False, (rows[1:] == rows[:-1]).all(axis=1)))


def _of(part: int, test: Callable[[Array], Array]) -> Callable[[Values], Array]:
    return lambda values: test(values[part])


def _triggers() -> Iterator[Trigger]:
    of_scales = (
        ("zero-scale", "is +0", 0.0, lambda d: np.asarray((d == 0) & ~np.signbit(d))),
        ("minus-zero-scale", "is -0", -0.0, lambda d: np.asarray((d == 0) & np.signbit(d))),
        ("negative-scale", "is negative", -2.0, lambda d: np.asarray(d < 0)),
        (
            "subnormal-scale",
            "is subnormal",
            2.0**-15,
            lambda d: np.asarray((d != 0) & (np.abs(d) < 2.0**-14)),
        ),
    )
    for part, side in enumerate("xy"):
        scale, codes, of_codes = f"{side}'s scale of block b", f"{side}'s codes of block b", part + 2
        for name, words, value, test in of_scales:
            yield Trigger(f"{name}-of-{side}", f"{scale} {words}", _constant(part, value), _of(part, test))
        put, holds = _constant(of_codes, 0), _of(of_codes, lambda q: np.asarray(~q.any(axis=1)))
        yield Trigger(f"zero-codes-of-{side}", f"{codes} are all zero", put, holds)
        put, holds = _as_before(part), _of(part, _equal_before)
        yield Trigger(f"same-scale-of-{side}", f"{scale} is that of block b - 1", put, holds)
        put, holds = _as_before(of_codes), _of(of_codes, _equal_before)
        yield Trigger(f"same-codes-of-{side}", f"{codes} are those of block b - 1", put, holds)

    def equal(values: Values, block: int) -> None:
        values[1][block] = values[0][block]

    def zeros(values: Values, block: int) -> None:
        values[0][block] = values[1][block] = 0

    def both(values: Values) -> Array:
        return np.asarray((values[0] == 0) & (values[1] == 0))

    yield Trigger(
        "zero-sum",
        "the products of block b add up to zero",
        _with_orthogonal,
        lambda v: np.asarray((v[2].astype(np.int64) * v[3]).sum(axis=1) == 0),
    )
    yield Trigger("zero-scales", "both scales of block b are zero", zeros, both)
    yield Trigger("equal-scales", "both scales of block b are equal", equal, lambda v: v[0] == v[1])


def _with_orthogonal(values: Values, block: int) -> None:
    values[2][block], values[3][block] = 3, np.where(np.arange(32) % 2, -1, 1)


def _next(hit: Array) -> Array:
    return np.append(False, hit[:-1])


def _later(hit: Array) -> Array:
    return np.asarray(np.logical_or.accumulate(hit))


REACHES: dict[str, tuple[str, Callable[[Array], Array]]] = {
    "own": ("it", lambda hit: hit),
    "next": ("block b + 1", _next),
    "before": ("block b - 1", lambda hit: np.append(hit[1:], False)),
    "later": ("it and every block after it", _later),
    "after": ("every block after it", lambda hit: _next(_later(hit))),
    "earlier": ("every block before it", lambda hit: np.append(_later(hit[::-1])[::-1][1:], False)),
    "up-to": ("it and every block before it", lambda hit: _later(hit[::-1])[::-1]),
    "others": ("every other block", lambda hit: ~hit & hit.any()),
    "all": ("every block", lambda hit: hit | hit.any()),
}
"""Blocks that something may happen to, in words and by the blocks that hold a value."""


@dataclass(frozen=True)
class Valued:
    """Places of a row, by the values in it.

    Attributes
    ----------
    trigger, at
        What a block holds, and at which places that has an influence.
    reach
        A name of `REACHES`.
    """

    trigger: Trigger
    at: Rule | None
    reach: str

    def holds(self, values: Values) -> Array:
        """Return the places: bool [nb]."""
        hit = self.trigger.holds(values)
        if self.at is not None:
            hit = hit & self.at.holds(len(hit))
        return REACHES[self.reach][1](hit) if len(hit) else hit


def _effects() -> Iterator[tuple[str, Effect]]:
    """Yield what may happen to which blocks, the simplest first."""
    yield from ((reach, Effect(Kind(0))) for reach in REACHES)
    for reach in ("own", "next", "after"):
        yield reach, Effect(Kind(2))
        for step in (-1, 1):
            for parts in ((0,), (1,), (0, 1), (2,), (3,), (2, 3), (0, 2), (1, 3)):
                yield reach, Effect(Kind(0, (parts,)), (shifted(step),))
                if step < 0 and reach == "own":
                    yield reach, Effect(Kind(0, (parts,)), (shifted(step),), is_kept=True)


class _Survey:
    """Rows of which one block holds a value."""

    def __init__(self, bench: Bench, base: dict[str, Any], trigger: Trigger) -> None:
        self._bench, self._base, self._trigger = bench, base, trigger
        self._made: dict[int, list[CallResult]] = {}
        self._runs: list[CallResult] = []

    def is_controlled(self) -> bool:
        """Return whether rows in which a block holds a value like it are right."""
        model, put = Model(**self._base), self._trigger.control
        made = (self.call_on(nb, (nb - 1,), put) for nb in LENGTHS[:3])
        return put is not None and all(matches(model, one) for one in made)

    def calls(self, nb: int) -> list[CallResult]:
        """Return the calls on rows of a length, by the block that holds the value."""
        if nb not in self._made:
            self._made[nb] = [self.call_on(nb, (block,)) for block in range(nb)]
            self._runs += (self.call_on(nb, (block, block + 1)) for block in range(nb - 1))
        return self._made[nb]

    def call_on(
        self, nb: int, blocks: Sequence[int], put: Callable[[Values, int], None] | None = None
    ) -> CallResult:
        """Make the call on a row of which some blocks hold the value."""
        numbers, bench = np.arange(nb), self._bench
        one, full = bench.row(numbers % 5 + 1), bench.full((2 * numbers + numbers // 3) % 7 + 1)
        # (Neither the bits of a scale, nor their sums and the like, are those of the block before.)
        scales = [np.ldexp(1.0, numbers % 3), np.ldexp(1.0, np.array([4, 8, 5, 9])[numbers % 4])]
        values = *scales, one["weight_qs"].astype(np.int64), full["weight_qs"].astype(np.int64)
        if self._trigger.is_base and (control := self._trigger.control):
            for block in range(nb):
                control(values, block)
        for block in blocks:
            if block or "same" not in self._trigger.name:
                (put or self._trigger.put)(values, block)
        x, y = (dot_rows.blocks(values[side], values[side + 2]) for side in (0, 1))
        return bench.answer(bench.call(x, y))

    def wrong(self, nb: int) -> Array:
        """Return for which blocks a row is wrong: bool [nb]."""
        model = Model(**self._base)
        return np.array([not matches(model, one) for one in self.calls(nb)])

    def is_given(self, steps: dict[str, Any]) -> bool:
        """Return whether further steps give all rows."""
        model = Model(**joined([self._base, steps]))
        return all(matches(model, one) for made in (*self._made.values(), self._runs) for one in made)

    def first(self) -> CallResult:
        """Return the first call that is wrong."""
        return next(
            one for nb in LENGTHS for one, is_so in zip(self.calls(nb), self.wrong(nb), strict=True) if is_so
        )


def of_values(bench: Bench, found: Sequence[Measured]) -> Iterator[Measured]:
    """Find values that a block may hold which change how it, or others, are counted."""
    base = changes_of(found)
    if not _is_right_without(bench, base):
        return
    seen: dict[tuple[str, Effect, str], list[Triggered]] = {}
    for trigger in _triggers():
        with suppress(NoAnswerError):
            # (What a product's activations become is not anything.)
            if found_one := _of_trigger(_Survey(bench, base, trigger), trigger):
                reach, effect, text, one = found_one
                seen.setdefault((reach, effect, text), []).append(one)
    for (reach, effect, text), every in seen.items():
        # (What one zero scale does two do as well.)
        single = [one for one in every if one[0].name != "zero-scales"]
        some = single if any("zero-scale" in one[0].name for one in single) else every
        names = [one[0].name for one in some]
        yield _fact(bench, reach, effect, text, [one for one in some if not _is_implied(one[0].name, names)])


def _is_implied(name: str, names: Sequence[str]) -> bool:
    """Return whether a block that holds a value holds another one of some, too: the more general is said."""
    return name.startswith("zero-codes-of") and "zero-sum" in names


def _is_right_without(bench: Bench, base: dict[str, Any]) -> bool:
    """Return whether the rows are right in which no block holds a value."""
    survey = _Survey(bench, base, next(_triggers()))
    made = (survey.call_on(nb, ()) for nb in LENGTHS)
    return all(matches(Model(**base), one) for one in made)


def _of_trigger(survey: _Survey, trigger: Trigger) -> tuple[str, Effect, str, Triggered] | None:
    """Return what a value does to which blocks, and at which places, with the first call that shows it."""
    # (What is wrong with one block alone is no matter of others.)
    if (survey.wrong(1).any() and not survey.is_controlled()) or not np.any(
        [survey.wrong(nb).any() for nb in LENGTHS]
    ):
        return None
    rule = find_rule(Seen({nb: survey.wrong(nb) for nb in LENGTHS[1:]}), survey.wrong, LONGEST)
    for at in (None, rule) if rule else (None,):
        for reach, effect in _effects():
            if survey.is_given({"placed": ((Valued(trigger, at, reach), effect),)}):
                return reach, effect, at.text("block", "nb") if at else "", (trigger, at, survey.first())
    return None


def of_codes(bench: Bench, trigger: Trigger) -> tuple[Measured, bool] | None:
    """Return what some codes of a block do, and whether that is that this block alone is not counted."""
    survey = _Survey(bench, {}, trigger)
    if not all(matches(Model(), survey.call_on(nb, ())) for nb in LENGTHS):
        return None
    if (found := _of_trigger(survey, trigger)) is None:
        return None
    reach, effect, text, one = found
    return _fact(bench, reach, effect, text, [one]), (reach, effect, text) == ("own", Effect(Kind(0)), "")


def _fact(bench: Bench, reach: str, effect: Effect, text: str, some: Sequence[Triggered]) -> Measured:
    """Return the fact that some values have one effect."""
    names = [trigger.name for trigger, *_ in some]
    of_zero = all("zero-scale" in name for name in names)
    ends = of_zero and reach == "later" and effect.kind == Kind(0) and not text
    of = REACHES[reach][0]
    what = effect.words(plural=reach in ("later", "up-to"))
    # (Where one scale that is zero is enough, two are.)
    is_one = any(trigger.name in ("zero-scale-of-x", "zero-scale-of-y") for trigger, *_ in some)
    words = [trigger.words for trigger, *_ in some if not (is_one and trigger.name == "zero-scales")]
    for side in "xy":
        # (A zero of either sign is a zero.)
        zeros = [f"{side}'s scale of block b is {sign}0" for sign in "+-"]
        if {*zeros} <= {*words}:
            words.remove(zeros[1])
            words[words.index(zeros[0])] = f"{side}'s scale of block b is zero"
    at = next((at for _, at, _ in some if at), None)
    where = " or ".join(words) + (f", in {at.text('block', 'nb')}" if at else "")
    return bench.measured(
        "zero-scale-affects-others" if of_zero else "block-affects-others",
        {"values": names, "blocks": reach, "ends": ends, **effect.to_json()}
        | ({"at": some[0][1].to_json()} if some[0][1] else {}),
        "" if ends and len(words) == 2 else f"Where {where}, {of} {what}.",
        cause="zero-scale-ends-row" if ends and len(words) == 2 else "",
        like="zero-scale-ends-row",
        fix="" if of_zero else FIX,
        evidence=[bench.evidence(some[0][2].call, f"a row in which {some[0][0].words} for one block b")],
        changes={"placed": tuple((Valued(trigger, at, reach), effect) for trigger, at, _ in some)},
    )
