"""Where a form holds: for some values of scales and codes, in some elements of blocks, at some places.

Elements that a form makes right are its hits, and those that it makes wrong are missed by it. A condition
takes in the hits and none of the missed ones. Values have named sets: those that hold all values of the hits,
and as few of the missed ones as a set can.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from q8a8_conformance.diagnosis.dequantizer_model import (
    BLOCK,
    CODES,
    F32,
    HALVES,
    Condition,
    Values,
    read_right,
)
from q8a8_conformance.diagnosis.quantizer_effects import plain_numbers
from q8a8_conformance.reveal.places import Seen, find_rule
from q8a8_conformance.reveal.quantizer_words import ranges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from q8a8_conformance.reveal.places import Rule

    Set = tuple[str, int, NDArray[Any]]

Array = NDArray[Any]

LONGEST = 5000
"""Blocks of the longest row that is asked for."""

RARE = 8
"""How many times as many elements of a block are missed as are hit by chance."""

LISTED = 6
"""The cost of many listed values."""

FEW = 4
"""Values that are listed."""

MAGNITUDES, NUMBERS = (HALVES & 0x7FFF).astype(np.int64), CODES.astype(np.int64)
"""Of all halves, and the codes by their bytes."""


@dataclass(frozen=True)
class State:
    """What some blocks say about a form.

    Attributes
    ----------
    n, b
        int [k]: the lengths of their rows, and their numbers.
    h, q
        uint16 [k, 1 or 32] and uint8 [k, 32]: what is read.
    hit, missed, bad
        bool [k, 32]: elements that the form makes right, that it makes wrong, and that are wrong with it and
        without.
    """

    n: Array
    b: Array
    h: Array
    q: Array
    hit: Array
    missed: Array
    bad: Array

    def cut(self, some: Array) -> State:
        """Return it for some elements: bool [k, 32]."""
        return State(self.n, self.b, self.h, self.q, self.hit & some, self.missed & some, self.bad & some)

    def among(self, values: Values | None) -> State:
        """Return it for some values."""
        return self.cut(values.holds(self.h, self.q)) if values else self


def find_condition(state: State, ask: Callable[[int], State]) -> Condition | None:
    """Return the simplest condition that takes in the hits, and nothing missed; None where none does."""
    for some in (_named(state), _exact(state)):
        tried = [(one, state.among(one)) for one in some]
        tried = [(one, among) for one, among in tried if among.hit.any()]
        for one, among in tried:
            if not among.missed.any():
                return Condition(values=one)
        for one, among in tried:
            lanes = _lanes(among)
            if lanes is not None and not among.missed[:, lanes].any():
                return Condition(lanes=lanes, values=one)
        for one, among in tried:
            lanes = _lanes(among)
            for of in dict.fromkeys((None, lanes)):
                if (rule := _rule(among, of, one, ask)) is not None:
                    return Condition(rule, of, one)
    return None


def _lanes(state: State) -> tuple[int, ...] | None:
    """Return the elements of blocks at which there are hits; None for all."""
    hit = state.hit.sum(axis=0)
    lanes = np.flatnonzero((hit > 0) & (hit >= state.bad.sum(axis=0)))
    return tuple(lanes.tolist()) if 0 < lanes.size < BLOCK else None


def _rule(
    state: State, lanes: tuple[int, ...] | None, values: Values | None, ask: Callable[[int], State]
) -> Rule | None:
    """Return the rule of the blocks that have hits, or None."""
    is_one_of_several = state.bad.any()

    def at(of: State) -> tuple[Array, Array]:
        """Return which blocks have hits, and in which there is something missed: bool [k]."""
        inside = of if lanes is None else of.cut(np.isin(np.arange(BLOCK), lanes))
        hit, missed, bad = (of.sum(axis=1) for of in (inside.hit, inside.missed, inside.bad))
        # (A few hits among many that are missed are those of another mistake; so are a few of these.)
        is_hit = np.asarray((hit > 0) & (hit >= bad) & (hit * RARE > missed))
        return is_hit, np.asarray((missed > 0) & ~(is_hit & (missed * RARE < hit) & is_one_of_several))

    def row(n: int, numbers: Array, kinds: tuple[Array, Array]) -> Array:
        """Return for a length at which places there are hits, and something missed: bool [2, n]."""
        which = np.zeros((2, n), np.bool_)
        for kind, of in enumerate(kinds):
            which[kind, numbers[of]] = True
        return which

    def more(n: int) -> tuple[Array, Array]:
        new = ask(n)
        which = row(n, new.b, at(new.among(values)))
        if n in seen.rows:
            which |= seen.rows[n], seen.known[n] & ~seen.rows[n]
        return which[0], np.asarray(which.any(axis=0))

    kinds = at(state)
    seen = Seen({}, {})
    for n in np.unique(state.n).tolist():
        here = state.n == n
        which = row(n, state.b[here], (kinds[0][here], kinds[1][here]))
        if which.all(axis=0).any():
            return None
        seen.rows[n], seen.known[n] = which[0], np.asarray(which.any(axis=0))
    return find_rule(seen, more, LONGEST) if kinds[0].any() and kinds[1].any() else None


# Values: sets of them have words, a cost, and members, bool [65536] or [256].


def _best(sets: list[Set], hit: Array, missed: Array) -> Set | None:
    """Return the set that holds all hit values, with the fewest missed; None where it leaves none out."""
    seen = np.flatnonzero(hit | (missed > 0))
    inside = np.array([of[2][seen] for of in sets])
    fits = np.flatnonzero((inside | ~hit[seen]).all(axis=1))
    left = inside[fits] @ missed[seen]
    return sets[fits[np.argmin(left)]] if fits.size and left.min() < missed.sum() else None


def _named(state: State) -> Iterator[Values | None]:
    """Yield conditions on values with names, the one without any first."""
    yield None
    yield from _of_sets(state, exact=(False, False))
    yield from _of_products(state)


def _exact(state: State) -> Iterator[Values]:
    """Yield conditions that give the values of the hits: limits, and lists."""
    for exact in ((True, True), (False, True), (True, False)):
        yield from _of_sets(state, exact=exact)


def _of_sets(state: State, exact: tuple[bool, bool]) -> Iterator[Values]:
    """Yield conditions on codes, on scales, and on both; whether by exact sets of scales, and of codes."""

    def best_half(of: State) -> Values | None:
        hit, missed = _counts(of, of.h, len(HALVES))
        best = _best(_half_limits(hit) if exact[0] else _half_sets(), hit, missed) if hit.any() else None
        return _values("scale", *best) if best else None

    hit, missed = _counts(state, state.q, len(CODES))
    best = _best(_code_limits(hit) if exact[1] else _code_sets(), hit, missed) if hit.any() else None
    code = _values("code", *best) if best else None
    if code:
        yield code
    if half := best_half(state):
        yield half
    if code and (half := best_half(state.among(code))):
        one, other = half.holds, code.holds

        def holds(h: Array, q: Array) -> Array:
            return np.asarray(one(h, q) & other(h, q))

        yield Values(f"{half.text} and {code.text}", {**half.data, **code.data}, holds, half.cost + code.cost)


def _values(noun: str, text: str, cost: int, member: Array) -> Values:
    is_code = noun == "code"
    holds = (lambda _h, q: member[q]) if is_code else (lambda h, _q: member[h])
    return Values(f"the {noun} is {text}", {f"{noun}s": text}, holds, cost)


def _counts(state: State, keys: Array, size: int) -> tuple[Array, Array]:
    """Return which keys have hits, most of what is wrong there: bool; and how many are missed: float."""
    kinds = (state.hit, state.missed, state.bad)
    if keys.shape[1] == 1:
        hit, missed, bad = (np.bincount(keys[:, 0], of.sum(axis=1), size) for of in kinds)
    else:
        keys = np.broadcast_to(keys, state.hit.shape)
        hit, missed, bad = (np.bincount(keys[of], np.ones(int(of.sum())), size) for of in kinds)
    return (hit > 0) & (hit >= bad), missed


def _of_products(state: State) -> Iterator[Values]:
    """Yield conditions on what is multiplied."""
    for text, holds in _PRODUCTS.items():
        held = holds(state.h, state.q)
        if held[state.hit].all() and not held[state.missed].all():
            yield Values(f"scale times code is {text}", {"product": text}, holds)
    y = _magnitudes(state.h, state.q)
    hit, missed = y[state.hit], y[state.missed]
    if not hit.size or not missed.size:
        return
    low, high = float(hit.min()), float(hit.max())
    if low > missed.min():
        below = np.nextafter(missed[missed < low].max(), F32(np.inf))
        least = (plain_numbers(float(below), low) or (low,))[0]
        text = f"{_number(least)} or more in magnitude"
        yield Values(
            f"scale times code is {text}", {"product": text}, lambda h, q: _magnitudes(h, q) >= least
        )
    if high < missed.max():
        above = float(missed[missed > high].min())
        most = (plain_numbers(float(np.nextafter(F32(high), F32(np.inf))), above) or (above,))[0]
        text = f"less than {_number(most)} in magnitude"
        yield Values(f"scale times code is {text}", {"product": text}, lambda h, q: _magnitudes(h, q) < most)


def _magnitudes(h: Array, q: Array) -> Array:
    with np.errstate(all="ignore"):
        return np.asarray(np.abs(read_right()[0][h] * read_right()[1][q]))


def _negative(h: Array, q: Array) -> Array:
    return np.asarray(((h >> 15 == 1) != (q >= len(CODES) // 2)) & (_magnitudes(h, q) > 0))


_PRODUCTS: dict[str, Callable[[Array, Array], Array]] = {
    "negative": _negative,
    "positive": lambda h, q: ~_negative(h, q) & (_magnitudes(h, q) > 0),
    "zero": lambda h, q: _magnitudes(h, q) == 0,
    "not zero": lambda h, q: _magnitudes(h, q) != 0,
}


def _number(number: float) -> str:
    fraction, exponent = np.frexp(number)
    short = f"{number:.9g}"
    return f"2^{exponent - 1}" if fraction == 1 / 2 and len(short) > 6 else short


@cache
def _half_sets() -> list[Set]:
    """Return named sets of halves, the plainest first."""
    fraction = HALVES & 0x3FF
    every, small, zero = (limit > MAGNITUDES for limit in (1 << 15, 0x400, 1))
    kinds: list[tuple[Array, tuple[str, str, str]]] = [
        (every, ("", "negative", "positive")),
        (zero, ("zero", "-0", "+0")),
        (~zero, ("not zero", "below 0", "above 0")),
        (small & ~zero, ("subnormal", "a negative subnormal", "a positive subnormal")),
        (small, ("subnormal or zero", "a negative subnormal or -0", "a positive subnormal or +0")),
    ]
    for which, text in (
        (~small, "normal"),
        ((fraction == 0) & ~small, "a power of two"),
        ((fraction != 0) & ~small, "normal and no power of two"),
        (HALVES & 1 == 1, "a half whose lowest bit is set"),
        (HALVES & 0x80 != 0, "a half whose low byte is 0x80 or more"),
        (HALVES & 0xFF == 0, "a half whose low byte is 0"),
        (HALVES & 0x200 != 0, "a half whose highest bit of the fraction is set"),
    ):
        kinds.append((which, (text, f"negative and {text}", f"positive and {text}")))
    signs = (every, HALVES >= 1 << 15, HALVES < 1 << 15)
    return [
        (text, 1 + (sign is not every and which is not every), which & sign)
        for which, texts in kinds
        for text, sign in zip(texts, signs, strict=True)
        if text
    ]


@cache
def _code_sets() -> list[Set]:
    """Return named sets of codes, the plainest first."""
    q = NUMBERS
    sets = [
        ("negative", q < 0), ("positive", q > 0), ("not 0", q != 0),
        ("not negative", q >= 0), ("not positive", q <= 0), ("odd", q % 2 == 1), ("even", q % 2 == 0),
        *((str(code), q == code) for code in (0, -128, 127, -127, 1, -1)),
        ("neither 0 nor -128", (q != 0) & (q != -128)), ("negative, but not -128", (q < 0) & (q > -128)),
        *((f"one whose bit {bit} is set", q >> bit & 1 == 1) for bit in range(1, 7)),
        *((f"one whose bit {bit} is not set", q >> bit & 1 == 0) for bit in range(1, 7)),
        ("odd and negative", (q % 2 == 1) & (q < 0)), ("one whose low four bits are not 0", q & 15 != 0),
    ]  # fmt: skip
    return [(text, 1, member) for text, member in sets]


def _half_limits(hit: Array) -> list[Set]:
    """Return the sets of halves that begin or end with those that are hit, and the list of these."""
    some = np.flatnonzero(hit)
    if some.size <= FEW:
        return [(" or ".join(f"0x{half:04x}" for half in some), some.size, hit)]
    low, high = MAGNITUDES[some].min(), MAGNITUDES[some].max()
    sign, signed = "", HALVES >= 0
    if len({*(some >> 15).tolist()}) == 1:
        sign, signed = ("positive and ", "negative and ")[int(some[0]) >> 15], some[0] >> 15 == HALVES >> 15
    least, most = (_number(float(read_right()[0][number])) for number in (low, high))
    from_low, to_high = signed & (low <= MAGNITUDES), signed & (high >= MAGNITUDES)
    return [
        (f"{sign}{least} or more in magnitude", 1 + bool(sign), from_low),
        (f"{sign}{most} or less in magnitude", 1 + bool(sign), to_high),
        (f"{sign}from {least} to {most} in magnitude", 2 + bool(sign), from_low & to_high),
    ]


def _code_limits(hit: Array) -> list[Set]:
    """Return the sets of codes that begin or end with those that are hit, and the list of these."""
    some, size = np.sort(NUMBERS[hit]), np.abs(NUMBERS)
    if some.size <= FEW:
        return [(" or ".join(map(str, some)), some.size, hit)]
    low, high, most, least = some[0], some[-1], np.abs(some).max(), np.abs(some).min()
    return [
        (f"{low} or more", 1, low <= NUMBERS),
        (f"{high} or less", 1, high >= NUMBERS),
        (f"{least} or more in magnitude", 1, size >= least),
        (f"{most} or less in magnitude", 1, size <= most),
        (f"from {low} to {high}", 2, (low <= NUMBERS) & (high >= NUMBERS)),
        (f"one of {ranges(some.tolist())}", 3 if some.size < 2 * FEW * FEW else LISTED, hit),
    ]
