"""Where something happens to a quantizer's blocks: by their values, elements, or places, or by two of them.

From the units at which an effect was seen, and those at which it would have shown and was not, the simplest
condition is chosen that tells them apart::

    values      the scale is 0, or subnormal; amax is 0; the largest element is negative, or is at some
                element; the largest magnitude comes twice; some elements are all zero; amax < t, amax >= t
    elements    the negative ones, the positive ones, some codes, some of the 32 of a block, those at some
                places of a vector
    places      by the rules of `q8a8_conformance.reveal.places`

A condition of elements may hold in some blocks alone, and one of values at some places alone.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.diagnosis.quantizers import cases as cases_of
from q8a8_conformance.diagnosis.quantizers.block_values import NAMED, largest, largest_at, of_blocks
from q8a8_conformance.diagnosis.quantizers.cases import Case, make_case
from q8a8_conformance.diagnosis.quantizers.learned import learned
from q8a8_conformance.diagnosis.quantizers.limits import limit_of, plainest
from q8a8_conformance.diagnosis.quantizers.states import Condition, both
from q8a8_conformance.reveal.places import Rule, Seen, find_rule
from q8a8_conformance.reveal.quantizers.calls import BLOCK
from q8a8_conformance.reveal.quantizers.words import listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from q8a8_conformance.diagnosis.quantizers.states import Question, State
    from q8a8_conformance.inputs.arrays import Array

F32 = np.float32
LONGEST = 2000
"""The longest row, or vector, that is asked for."""

ENOUGH = 4
"""Blocks in which an effect is seen that tell a set of elements."""

ROWS, VECTORS = 3, 12
"""Rows, and vectors, of one length of which the one is made in which the effect would show most."""

FURTHER = 5
"""The first conditions on elements that may hold at some places alone."""

NARROWED = 8
"""Times that the interval of a limit of elements is narrowed down."""

DEEP = 2
"""Conditions that may hold at once."""


def condition_of(question: Question, deep: int = DEEP) -> Condition | None:
    """Return the simplest condition of an effect that fits all calls; None where none fits."""
    states = question.states()
    if not any(state.hit.any() for state in states):
        return None
    everywhere = Condition()
    if question.fits(everywhere, states):
        return everywhere
    found = _of_elements if any(state.is_mixed for state in states) else _of_blocks
    plain = next((one for one in found(question, states, deep) if question.fits(one, states)), None)
    if plain is not None or deep < DEEP:
        return plain
    return learned(question, states)


# Values of blocks.


_CUTS = (
    "zero-scale",
    "not-zero-scale",
    "small-scale",
    "normal-scale",
    "negative-largest",
    "positive-largest",
)
"""Those that may hold together with others."""


def _of_blocks(question: Question, states: Sequence[State], deep: int) -> Iterator[Condition]:
    """Yield conditions on whole blocks that may fit."""
    yield from NAMED
    if (limit := limit_of(question, states)) is not None:
        yield limit
    if (placed := _of_places(question, states, by_elements=False)) is not None:
        yield placed
    if question.calls.is_row:
        yield from _of_zeros(question, states)
    if deep < DEEP:
        return
    for named in NAMED:
        if named.data["values"] in _CUTS and all((named.units(s.case) | ~s.hit).all() for s in states):
            other = condition_of(question.within(named), deep - 1)
            if other is not None and other.text:
                yield both(named, other)


def _of_zeros(question: Question, states: Sequence[State]) -> Iterator[Condition]:
    """Yield that some elements of a block are all zero: of those that may be, each is tried."""
    hit = [s.case.x[s.hit_blocks] != 0 for s in states]
    lanes = np.flatnonzero(~np.concatenate(hit).any(axis=0))
    if not 0 < lanes.size < BLOCK:
        return
    x = np.tile(np.linspace(-1, 1, BLOCK, dtype=F32), (lanes.size, 1))
    x[:, lanes] = 0
    x[np.arange(lanes.size), lanes] = F32(0.5)
    state = question.state(question.based(make_case(question.calls, x)))
    needed = lanes[~state.hit_blocks]
    one = needed.size == 1
    text = f"where element{'' if one else 's'} {listed(needed.tolist())} {'is' if one else 'are all'} zero"
    yield Condition(
        text, {"zero": needed.tolist()}, of_blocks(lambda case: (case.x[:, needed] == 0).all(axis=1))
    )


# Elements.


_SIGNS = tuple(
    Condition(noun, {"values": name}, of, of_scales=False)
    for name, noun, of in (
        ("negative", "of negative elements alone", lambda case: case.x < 0),
        ("positive", "of positive elements alone", lambda case: case.x > 0),
        ("lowest", "of elements that are -amax", lambda case: case.x == -case.amax[:, np.newaxis]),
        ("highest", "of elements that are amax", lambda case: case.x == case.amax[:, np.newaxis]),
        ("largest", "of the largest elements", largest),
        ("not-largest", "of all elements but the largest", lambda case: ~largest(case)),
        (
            "first-largest", "of the first of the largest elements",
            lambda case: np.arange(case.x.shape[1]) == largest_at(case)[:, np.newaxis],
        ),
        ("zero-elements", "of zeros", lambda case: case.x == 0),
        ("not-zero-elements", "of elements that are not zero", lambda case: case.x != 0),
        ("odd-codes", "of odd codes", lambda case: case.codes % 2 == 1),
        ("even-codes", "of even codes", lambda case: case.codes % 2 == 0),
    )
)  # fmt: skip
"""Conditions on the values of elements."""


def _of_elements(question: Question, states: Sequence[State], deep: int) -> Iterator[Condition]:
    """Yield conditions on elements."""
    yield Condition("in codes alone", {"units": "codes"}, of_scales=False)
    yield from _SIGNS
    yield from _size_limits(question, states)
    if question.calls.is_row:
        lanes = np.flatnonzero(np.any([s.hit[:, 1:].any(axis=0) for s in states], axis=0))
        if 0 < lanes.size < BLOCK:
            one = of_lanes(lanes.tolist())
            yield one
            yield from _further(question, one, deep)
    elif (placed := _of_places(question, states, by_elements=True)) is not None:
        yield placed
    for sign in reversed(_SIGNS[:FURTHER]):
        if all((sign.units(s.case) | ~s.hit).all() for s in states):
            yield from _further(question, sign, deep)


def of_lanes(lanes: Sequence[int]) -> Condition:
    """Return that elements are some of a block."""
    which = np.isin(np.arange(BLOCK), lanes)
    noun = f"in element{'' if len(lanes) == 1 else 's'} {listed(lanes)} of a block"
    return Condition(
        noun, {"elements": list(lanes)}, lambda case: np.broadcast_to(which, case.x.shape), of_scales=False
    )


def _further(question: Question, one: Condition, deep: int) -> Iterator[Condition]:
    """Yield a condition together with another one."""
    other = condition_of(question.within(one), deep - 1) if deep else None
    if other is not None and other.text:
        yield both(one, other)


def _size_limits(question: Question, states: Sequence[State]) -> Iterator[Condition]:
    """Yield that elements, or their products, are smaller than a number, or not, narrowed down by calls."""
    for name, noun, sizes_of, amax in (
        ("size", "elements whose magnitude", lambda case: np.abs(case.x), 0.0),
        # (Under an amax of 127 elements are their products.)
        ("product", "products whose magnitude", lambda case: np.abs(case.scaled), 127.0),
    ):
        low, high, is_below = _sides(question, states, sizes_of, amax)
        if not 0 < low < high:
            continue
        number, words = plainest(low, high)
        text = f"of {noun} is {'less than' if is_below else 'at least'} {words}"
        holds = partial(_beside, sizes_of=sizes_of, number=number, is_below=is_below)
        data = {"values": f"{name}-{'below' if is_below else 'from'}", "limit": number}
        yield Condition(text, data, holds, of_scales=False)
        return


def _beside(case: Case, sizes_of: Callable[[Case], Array], number: float, *, is_below: bool) -> Array:
    smaller = sizes_of(case) < F32(number)
    return np.asarray(smaller if is_below else ~smaller)


def _sides(
    question: Question, states: Sequence[State], sizes_of: Callable[[Case], Array], amax: float
) -> tuple[float, float, bool]:
    """Return between which numbers a limit is, and whether what is below is seen; 0 twice for no limit."""
    sizes = [sizes_of(s.case).astype(np.float64) for s in states]
    hit = np.concatenate([x[s.hit[:, 1:]] for x, s in zip(sizes, states, strict=True)])
    missed = np.concatenate([x[s.missed[:, 1:]] for x, s in zip(sizes, states, strict=True)])
    if min(np.unique(hit).size, np.unique(missed).size) < ENOUGH or any(s.hit[:, 0].any() for s in states):
        return 0.0, 0.0, False
    is_below = bool(hit.max() < missed.min())
    low, high = (hit.max(), missed.min()) if is_below else (missed.max(), hit.min())
    for _ in range(NARROWED if low < high else 0):
        x = np.geomspace(low, high, BLOCK + 1)[1:].astype(F32)
        x[-1] = F32(amax or 1.01 * high)
        state = question.state(question.based(make_case(question.calls, x[np.newaxis])))
        found = sizes_of(state.case)[0]
        seen, not_seen = (found[of[0, 1:]].tolist() for of in (state.hit, state.missed))
        below, above = (seen, not_seen) if is_below else (not_seen, seen)
        low, high = max([low, *below]), min([high, *above])
    return float(low), float(high), is_below


# Places.


def _of_places(question: Question, states: Sequence[State], *, by_elements: bool) -> Condition | None:
    """Return the blocks of a row, the sizes of a vector, or its elements, at which an effect is seen."""
    is_row = question.calls.is_row
    at = partial(_at_places, is_row=is_row, by_elements=by_elements)
    hits: dict[int, Array] = {}
    misses: dict[int, Array] = {}
    for state in states:
        for n, hit, missed in at(state):
            hits[n] = hits.get(n, np.zeros(n, np.bool_)) | hit
            misses[n] = misses.get(n, np.zeros(n, np.bool_)) | missed
    if not any(of.any() for of in hits.values()) or any((hits[n] & misses[n]).any() for n in hits):
        return None
    among = _blocks_among(question)

    def ask(n: int) -> tuple[Array, Array]:
        tried = cases_of.contents(n, ROWS if is_row else VECTORS, is_row=is_row, among=among)
        some = max(tried, key=lambda case: question.shows(question.based(case)))
        case = question.based(make_case(question.calls, some.x))
        ((_, hit, missed),) = at(question.state(case))
        return hit, hit | missed

    seen = Seen(hits, {n: hits[n] | misses[n] for n in hits})
    rule = find_rule(seen, ask, LONGEST)
    return None if rule is None else placed(rule, is_row=is_row, of_size=not (is_row or by_elements))


def _at_places(state: State, *, is_row: bool, by_elements: bool) -> Iterator[tuple[int, Array, Array]]:
    """Yield the lengths of rows, and their places at which an effect is seen, and at which it is not."""
    missed = state.missed | state.bad
    for where, n in state.case.rows:
        if is_row:
            yield n, np.asarray(state.hit[where].any(axis=1)), np.asarray(missed[where].any(axis=1))
        elif by_elements:
            yield n, state.hit[where][0, 1:], missed[where][0, 1:]
        else:
            # A vector as a whole stands for its first element.
            first = np.arange(n) == 0
            yield n, first & bool(state.hit[where].any()), first & bool(missed[where].any())


def _blocks_among(question: Question) -> Callable[[Case], Array] | None:
    """Return which blocks the conditions that are known to hold are about: bool [n]."""
    if not question.among:
        return None
    return lambda case: np.all([one.holds(case).any(axis=1) for one in question.among], axis=0)


def placed(rule: Rule, *, is_row: bool, of_size: bool = False) -> Condition:
    """Return a condition from a rule of places."""

    def holds(case: Case) -> Array:
        held = np.zeros(case.x.shape, np.bool_)
        for where, n in case.rows:
            if of_size:
                held[where] = n > 0 and bool(rule.holds(n)[0])
            else:
                places = rule.holds(n)
                held[where] = places[:, np.newaxis] if is_row else places
        return held

    text = rule.text(*(("block", "nb") if is_row else ("element", "size")))
    if of_size:
        text = text.partition(" where ")[2] or text
    return Condition(f"where {text}" if of_size else f"in {text}", rule.to_json(), holds)
