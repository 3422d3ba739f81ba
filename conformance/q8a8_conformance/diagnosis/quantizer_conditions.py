"""Where something happens to a quantizer's blocks: by their values, places, or elements.

From the blocks at which an effect was seen, and those at which it would have shown and was not, the simplest
condition is chosen that tells them apart::

    values      the scale is 0, or subnormal; amax is 0; the largest element is negative; amax < t, amax >= t
    elements    the negative ones, the positive ones, some of the 32 of a block, those at some places
    places      by the rules of `q8a8_conformance.reveal.places`

A limit of amax is narrowed down by further calls, until a plain number stands out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from q8a8_conformance.diagnosis import quantizer_cases as cases_of
from q8a8_conformance.diagnosis.quantizer_cases import Case, make_case
from q8a8_conformance.diagnosis.quantizer_effects import plain_numbers
from q8a8_conformance.reveal.places import Rule, Seen, find_rule
from q8a8_conformance.reveal.quantizer_calls import BLOCK
from q8a8_conformance.reveal.quantizer_words import ranges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from q8a8_conformance.diagnosis.quantizer_effects import Effect
    from q8a8_conformance.reveal.quantizer_calls import QuantizerCalls

Array = NDArray[Any]

F32 = np.float32
LONGEST = 2000
"""The longest row, or vector, that is asked for."""

ENOUGH = 4
"""Blocks on either side of a limit that show that it is one."""

NARROWED, TRIED = 10, 48
"""Times that the interval of a limit is narrowed down, and blocks that are looked at for it."""

PLAIN = 5
"""Characters of a number that needs no other form."""


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
    """

    text: str = ""
    data: dict[str, Any] = field(default_factory=dict)
    holds: Callable[[Case], Array] = lambda case: np.ones(case.x.shape, np.bool_)
    of_scales: bool = True

    def bytes(self, case: Case) -> Array:
        """Return the bytes of a call's blocks that it is about: bool [n, 2 + s]."""
        elements = self.holds(case)
        scales = elements.any(axis=1, keepdims=True) & self.of_scales
        return np.concatenate([scales, scales, elements], axis=1)


@dataclass(frozen=True)
class State:
    """What a call says about an effect: bytes [n, 2 + s] that are its, those that would be, and others."""

    case: Case
    hit: Array
    missed: Array
    bad: Array

    @property
    def is_mixed(self) -> bool:
        """Whether a block has both: then it is no matter of whole blocks."""
        return bool((self.hit.any(axis=1) & self.missed.any(axis=1)).any())


def state_of(effect: Effect, case: Case) -> State:
    """Compare what a call gave with what it gives with the effect, and without."""
    data, known = effect.gives(case)
    same, right = case.got == data, case.got == case.right
    return State(
        case,
        hit=(same | ~known) & ~right,
        missed=right & ~same & known,
        bad=~(same | ~known | right),
    )


def _cut(state: State, some: Array) -> State:
    """Return what a call says about some of its blocks [n, 1], or of their bytes [2 + s]."""
    return State(state.case, state.hit & some, state.missed & some, state.bad & some)


def condition_of(calls: QuantizerCalls, effect: Effect, states: Sequence[State]) -> Condition | None:
    """Return the simplest condition of an effect that fits all calls; None where none fits."""
    if not any(state.missed.any() for state in states):
        return Condition()
    if any(state.is_mixed for state in states):
        fitting = (one for one in _of_elements(calls, effect, states) if _fits(one, states))
        return next(fitting, None)
    named = next((one for one in _NAMED if _fits(one, states)), None)
    return (
        named
        or _limit(calls, effect, states)
        or _limit(
            calls,
            effect,
            [_cut(state, (state.case.scales > 0)[:, np.newaxis]) for state in states],
            _NOT_ZERO,
        )
        or _of_places(calls, effect, states, by_elements=False)
    )


def _fits(condition: Condition, states: Sequence[State]) -> bool:
    """Return whether a condition holds wherever an effect is seen, and nowhere where it is not."""
    return all(_agrees(condition.bytes(state.case), state) for state in states)


def _agrees(held: Array, state: State) -> bool:
    return not ((state.hit & ~held).any() or (state.missed & held).any())


# Values of blocks.


def _blocks(of: Callable[[Case], Array]) -> Callable[[Case], Array]:
    """Return a condition on elements from one on blocks, bool [n]."""
    return lambda case: np.broadcast_to(of(case)[:, np.newaxis], case.x.shape)


def _largest_is_negative(case: Case) -> Array:
    first = np.argmax(np.abs(case.x) == case.amax[:, np.newaxis], axis=1)
    return np.asarray(case.x[np.arange(len(case.x)), first] < 0)


_NAMED = tuple(
    Condition(text, {"values": name}, _blocks(of))
    for name, text, of in (
        ("zero-scale", "where the scale is 0", lambda case: case.scales == 0),
        ("zero", "in a block of zeros alone", lambda case: case.amax == 0),
        ("tiny", "where the scale is 0 and amax is not", lambda case: (case.scales == 0) & (case.amax > 0)),
        ("small-scale", "where the scale is subnormal or 0", lambda case: case.scales < 0x400),
        (
            "subnormal-scale", "where the scale is subnormal",
            lambda case: (case.scales > 0) & (case.scales < 0x400),
        ),
        ("normal-scale", "where the scale is a normal half", lambda case: case.scales >= 0x400),
        ("not-zero-scale", "where the scale is not 0", lambda case: case.scales > 0),
        ("negative-largest", "where the largest element is negative", _largest_is_negative),
        ("positive-largest", "where the largest element is positive", lambda c: ~_largest_is_negative(c)),
    )
)  # fmt: skip
"""Conditions on the values of a block."""


_NOT_ZERO = next(one for one in _NAMED if one.data["values"] == "not-zero-scale")


def _limit(
    calls: QuantizerCalls, effect: Effect, states: Sequence[State], among: Condition | None = None
) -> Condition | None:
    """Return the limit of amax below which, or from which on, an effect is seen; maybe among some blocks."""
    hit = np.concatenate([s.case.amax[s.hit.any(axis=1)] for s in states]).astype(np.float64)
    missed = np.concatenate([s.case.amax[s.missed.any(axis=1)] for s in states]).astype(np.float64)
    if min(np.unique(hit).size, np.unique(missed).size) < ENOUGH:
        return None
    is_below = hit.max() < missed.min()
    if not is_below and missed.max() >= hit.min():
        return None
    low, high = (hit.max(), missed.min()) if is_below else (missed.max(), hit.min())
    for _ in range(NARROWED):
        seen = _seen_between(calls, effect, low, high)
        below, above = seen if is_below else seen[::-1]
        low, high = max([low, *below]), min([high, *above])
        if low >= high:
            return None
        if not below and not above:
            break
    unit, number, words = _plainest(low, high)
    sign = "<" if is_below else ">="

    def holds(case: Case) -> Array:
        numbers = _UNITS[unit](case)
        held = np.asarray(numbers < F32(number) if is_below else numbers >= F32(number))
        return held & among.holds(case)[:, 0] if among else held

    text = f"where {unit} {sign} {words}{among.text.replace('where', ' and') if among else ''}"
    data = {"values": f"{unit}-{'below' if is_below else 'from'}", "limit": number}
    data |= {"among": among.data["values"]} if among else {}
    return Condition(text, data, _blocks(holds))


_UNITS: dict[str, Callable[[Case], Array]] = {
    "amax": lambda case: case.amax,
    "amax / 127": lambda case: case.amax / F32(127),
    "the scale": lambda case: case.scales.view(np.float16).astype(F32),
}
"""Numbers of blocks that a limit may be about: float32 [n]."""


def _plainest(low: float, high: float) -> tuple[str, float, str]:
    """Return the plainest limit above an amax and up to another: of what it is, the number, and its words."""
    least, most = F32(low), F32(high)
    found = []
    for unit, (a, b) in {
        "amax": (least, most),
        "amax / 127": (least / F32(127), most / F32(127)),
        "the scale": tuple(np.array([least, most], F32).__truediv__(F32(127)).astype(np.float16).astype(F32)),
    }.items():
        if a < b:
            numbers = plain_numbers(float(np.nextafter(a, F32(np.inf))), float(b))
            found += [(len(_number(number)), unit, number) for number in numbers]
    order = list(_UNITS)
    _, unit, number = min(found, key=lambda one: (one[0], order.index(one[1])), default=(0, "amax", high))
    return unit, number, _number(number)


def _number(number: float) -> str:
    """Return a number as a programmer writes it: a power of two, or as few digits as it has."""
    fraction, exponent = np.frexp(number)
    short = f"{number:.9g}"
    return f"2^{exponent - 1}" if fraction == 1 / 2 and len(short) > PLAIN else short


def _seen_between(
    calls: QuantizerCalls, effect: Effect, low: float, high: float
) -> tuple[list[float], list[float]]:
    """Return values of amax between two: at which an effect is seen, and at which it would be and is not."""
    rng = np.random.default_rng(3)
    s = BLOCK if calls.is_row else cases_of.VECTOR
    amax = np.geomspace(max(low, high * 2.0**-40), high, TRIED + 2)[1:-1].astype(F32)
    amax = amax[(amax > low) & (amax < high)]
    blocks = (rng.integers(-126, 127, (amax.size, s)) + 0.5) * amax[:, np.newaxis] / 127
    x = blocks.astype(F32)
    x = (x.view(np.int32) + rng.integers(-2, 3, x.shape, dtype=np.int32)).view(F32)
    x[np.arange(amax.size), rng.integers(0, s, amax.size)] = amax * rng.choice([-1, 1], amax.size)
    made = [make_case(calls, x)] if calls.is_row else [make_case(calls, block[np.newaxis]) for block in x]
    states = [state_of(effect, case) for case in made] if amax.size else []
    hit = [float(a) for s in states for a in s.case.amax[s.hit.any(axis=1)]]
    return hit, [float(a) for s in states for a in s.case.amax[s.missed.any(axis=1)]]


# Elements and places.


def _of_elements(calls: QuantizerCalls, effect: Effect, states: Sequence[State]) -> Iterator[Condition]:
    """Yield conditions on elements."""
    for name, noun, of in (
        ("negative", "of negative elements alone", lambda case: case.x < 0),
        ("positive", "of positive elements alone", lambda case: case.x > 0),
        ("lowest", "of elements that are -amax", lambda case: case.x == -case.amax[:, np.newaxis]),
        ("highest", "of elements that are amax", lambda case: case.x == case.amax[:, np.newaxis]),
        ("largest", "of the largest elements", lambda case: np.abs(case.x) == case.amax[:, np.newaxis]),
    ):
        yield Condition(noun, {"values": name}, of, of_scales=False)
    if calls.is_row:
        lanes = np.flatnonzero(np.any([s.hit[:, 2:].any(axis=0) for s in states], axis=0))
        which = np.isin(np.arange(BLOCK), lanes)
        noun = f"in element{'' if lanes.size == 1 else 's'} {ranges(lanes.tolist())} of a block"
        if 0 < lanes.size < BLOCK:
            data = {"elements": lanes.tolist()}
            yield Condition(noun, data, lambda case: np.broadcast_to(which, case.x.shape), of_scales=False)
            inner = [_cut(state, np.concatenate([[False, False], which])) for state in states]
            if not any(state.is_mixed for state in inner):
                yield from _both(noun, data, which, condition_of(calls, effect, inner))
    elif placed := _of_places(calls, effect, states, by_elements=True):
        yield placed


def _both(noun: str, data: dict[str, Any], which: Array, other: Condition | None) -> Iterator[Condition]:
    if other is not None and other.text:
        text = f"{noun}, {other.text}"
        yield Condition(text, {**data, **other.data}, lambda c: other.holds(c) & which, of_scales=False)


def _of_places(
    calls: QuantizerCalls, effect: Effect, states: Sequence[State], *, by_elements: bool
) -> Condition | None:
    """Return the blocks of a row, the sizes of a vector, or its elements, at which an effect is seen."""
    of_size = not calls.is_row and not by_elements

    def at(state: State) -> tuple[Array, Array]:
        hit, missed = state.hit, state.missed
        if calls.is_row:
            return np.asarray(hit.any(axis=1)), np.asarray((hit | missed).any(axis=1))
        if by_elements:
            return hit[0, 2:], (hit | missed)[0, 2:]
        # A vector as a whole stands for its first element.
        first = np.arange(state.case.size) == 0
        return np.asarray(first & hit.any()), np.asarray(first & (hit | missed).any())

    seen = Seen({}, {})
    for state in states:
        n = state.case.size
        if n not in seen.rows or (not seen.rows[n].any() and state.hit.any()):
            seen.rows[n], seen.known[n] = at(state)

    def ask(n: int) -> tuple[Array, Array]:
        return at(state_of(effect, cases_of.at(calls, n)))

    rule = find_rule(seen, ask, LONGEST) if any(of.any() for of in seen.rows.values()) else None
    if rule is None:
        return None
    return _placed(rule, is_row=calls.is_row, of_size=of_size)


def _placed(rule: Rule, *, is_row: bool, of_size: bool) -> Condition:
    """Return a condition from a rule of places."""

    def holds(case: Case) -> Array:
        if of_size:
            return np.full(case.x.shape, case.size > 0 and bool(rule.holds(case.size)[0]))
        held = rule.holds(case.size)
        return np.broadcast_to(held[:, np.newaxis] if is_row else held, case.x.shape)

    text = rule.text(*(("block", "nb") if is_row else ("element", "size")))
    if of_size:
        text = text.partition(" where ")[2] or text
    return Condition(f"where {text}" if of_size else f"in {text}", rule.to_json(), holds)
