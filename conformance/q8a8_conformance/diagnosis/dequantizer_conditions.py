"""Where a form holds: for some values of scales and codes, in some elements of blocks, at some places.

Elements that a form makes right are its hits, and those that it makes wrong are missed by it. A condition
takes in the hits and none of the missed ones. Values have named sets: those that hold all values of the hits,
and as few of the missed ones as a set can.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from q8a8_conformance.diagnosis.dequantizer_model import BLOCK, CODES, HALVES, Condition, Values, read_right
from q8a8_conformance.diagnosis.quantizer_effects import plain_numbers
from q8a8_conformance.reveal.places import Seen, find_rule
from q8a8_conformance.reveal.quantizer_words import ranges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Made = Callable[["Array", "Array"], "_Sets"]

Array = NDArray[Any]

LONGEST = 5000
"""Blocks of the longest row that is asked for."""

RARE = 8
"""How many times as many elements of a block are missed as are hit by chance."""

FEW = 4
"""Values that are listed."""

MAGNITUDES = (HALVES & 0x7FFF).astype(np.int64)
NUMBERS = CODES.astype(np.int64)
"""Codes by their bytes."""


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
) -> Any:  # noqa: ANN401 - a rule, or None
    """Return the rule of the blocks that have hits, or None."""
    is_one_of_two = state.bad.any()

    def at(of: State) -> tuple[Array, Array]:
        """Return which blocks have hits, and in which there is something missed."""
        inside = of if lanes is None else of.cut(np.isin(np.arange(BLOCK), lanes))
        hit, missed, bad = (of.sum(axis=1) for of in (inside.hit, inside.missed, inside.bad))
        # (A few hits among many that are missed are those of another mistake; so are a few of these.)
        is_hit = np.asarray((hit > 0) & (hit >= bad) & (hit * RARE > missed))
        return is_hit, np.asarray((missed > 0) & ~(is_hit & (missed * RARE < hit) & is_one_of_two))

    hit, missed = at(state)
    if (hit & missed).any() or not hit.any() or not missed.any():
        return None
    seen = Seen({}, {})
    for n in np.unique(state.n).tolist():
        rows = state.n == n
        which = np.zeros((2, n), np.bool_)
        for kind, of in enumerate((hit, missed)):
            which[kind, state.b[rows & of]] = True
        if which.all(axis=0).any():
            return None
        seen.rows[n], seen.known[n] = which[0], np.asarray(which.any(axis=0))

    def more(n: int) -> tuple[Array, Array]:
        new = ask(n)
        hit, missed = at(new.among(values))
        which = np.zeros((2, n), np.bool_)
        for kind, of in enumerate((hit, missed)):
            which[kind, new.b[of]] = True
        if n in seen.rows:
            which |= seen.rows[n], seen.known[n] & ~seen.rows[n]
        return which[0], np.asarray(which.any(axis=0))

    return find_rule(seen, more, LONGEST)


# Values.


class _Sets(NamedTuple):
    """Sets of values, with their words and costs: bool [s, values]."""

    texts: list[str]
    costs: list[int]
    members: Array

    @staticmethod
    def of(some: Sequence[tuple[str, int, Array]]) -> _Sets:
        return _Sets([one[0] for one in some], [one[1] for one in some], np.array([one[2] for one in some]))

    def best(self, hit: Array, missed: Array) -> int | None:
        """Return the set that holds all hit values, with the fewest missed; None where it leaves none out."""
        seen = np.flatnonzero(hit | (missed > 0))
        inside = self.members[:, seen]
        fits = np.flatnonzero((inside | ~hit[seen]).all(axis=1))
        left = inside[fits] @ missed[seen]
        if not fits.size or left.min() >= missed.sum():
            return None
        return int(fits[np.argmin(left)])


def _named(state: State) -> Iterator[Values | None]:
    """Yield conditions on values with names, the one without any first."""
    yield None
    yield from _of_sets(state, lambda *_: _half_sets(), lambda *_: _code_sets())
    yield from _of_products(state)


def _exact(state: State) -> Iterator[Values]:
    """Yield conditions that give the values of the hits: limits, and lists."""
    yield from _of_sets(state, _half_limits, _code_limits)
    yield from _of_sets(state, lambda *_: _half_sets(), _code_limits)
    yield from _of_sets(state, _half_limits, lambda *_: _code_sets())


def _of_sets(state: State, halves: Made, codes: Made) -> Iterator[Values]:
    """Yield conditions on codes, on scales, and on both, from the sets that are made of their hits."""
    by_code = _counts(state, state.q, len(CODES))
    by_half = _counts(state, state.h, len(HALVES))
    some, other = codes(*by_code), halves(*by_half)
    code, half = some.best(*by_code), other.best(*by_half)
    if code is not None:
        yield _of_codes(some, code)
    if half is not None:
        yield _of_halves(other, half)
    if code is not None:
        # Of the elements with such codes, which scales: less may be needed than without.
        inside = state.cut(some.members[code][state.q])
        by_half = _counts(inside, state.h, len(HALVES))
        half = halves(*by_half).best(*by_half)
        if half is not None:
            yield _of_both(_of_halves(halves(*by_half), half), _of_codes(some, code))


def _counts(state: State, keys: Array, size: int) -> tuple[Array, Array]:
    """Return which keys have hits, most of what is wrong there: bool; and how many are missed: float."""
    kinds = (state.hit, state.missed, state.bad)
    if keys.shape[1] == 1:
        hit, missed, bad = (np.bincount(keys[:, 0], of.sum(axis=1), size) for of in kinds)
    else:
        keys = np.broadcast_to(keys, state.hit.shape)
        hit, missed, bad = (np.bincount(keys[of], np.ones(int(of.sum())), size) for of in kinds)
    return (hit > 0) & (hit >= bad), missed


def _of_codes(sets: _Sets, number: int) -> Values:
    member = sets.members[number]
    text = f"the code is {sets.texts[number]}"
    return Values(text, {"codes": sets.texts[number]}, lambda _h, q: member[q], sets.costs[number])


def _of_halves(sets: _Sets, number: int) -> Values:
    member = sets.members[number]
    text = f"the scale is {sets.texts[number]}"
    return Values(text, {"scales": sets.texts[number]}, lambda h, _q: member[h], sets.costs[number])


def _of_both(one: Values, other: Values) -> Values:
    return Values(
        f"{one.text} and {other.text}", {**one.data, **other.data},
        lambda h, q: one.holds(h, q) & other.holds(h, q), one.cost + other.cost,
    )  # fmt: skip


def _of_products(state: State) -> Iterator[Values]:
    """Yield conditions on what is multiplied."""
    d, v = read_right()[0][state.h], read_right()[1][state.q]
    with np.errstate(all="ignore"):
        y = np.abs(d * v)
    signs = (np.signbit(d) != np.signbit(v)) & (y != 0)
    hit, missed = y[state.hit], y[state.missed]
    for text, of in (
        ("negative", signs), ("positive", ~signs & (y > 0)), ("zero", y == 0), ("not zero", y != 0),
    ):  # fmt: skip
        if of[state.hit].all() and not of[state.missed].all():
            yield Values(f"scale times code is {text}", {"product": text}, _PRODUCTS[text])
    if not hit.size or not missed.size:
        return
    low, high = (float(of(hit)) for of in (np.min, np.max))
    below, above = (
        float(missed[missed < low].max(initial=0)),
        float(missed[missed > high].min(initial=np.inf)),
    )
    if low > missed.min():
        limit = plain_numbers(float(np.nextafter(np.float32(below), np.float32(low))), low)[:1] or (low,)
        yield Values(
            f"scale times code is {_number(limit[0])} or more in magnitude",
            {"product": f">= {limit[0]:.9g}"},
            lambda h, q: _magnitudes(h, q) >= limit[0],
        )  # fmt: skip
    if high < missed.max():
        most = plain_numbers(float(np.nextafter(np.float32(high), np.float32(above))), above)[:1] or (above,)
        yield Values(
            f"scale times code is less than {_number(most[0])} in magnitude", {"product": f"< {most[0]:.9g}"},
            lambda h, q: _magnitudes(h, q) < most[0],
        )  # fmt: skip


def _magnitudes(h: Array, q: Array) -> Array:
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
def _half_sets() -> _Sets:
    """Return named sets of halves, the plainest first."""
    is_negative = HALVES >> 15 == 1
    fraction = HALVES & 0x3FF
    every = np.ones(len(HALVES), np.bool_)
    small = MAGNITUDES < 0x400
    zero = MAGNITUDES == 0
    kinds = (
        ("{}", every, ("", "negative", "positive")),
        ("zero", zero, ("zero", "-0", "+0")),
        ("", ~zero, ("not zero", "below 0", "above 0")),
        ("", small & ~zero, ("subnormal", "a negative subnormal", "a positive subnormal")),
        ("", small, ("subnormal or zero", "a negative subnormal or -0", "a positive subnormal or +0")),
        ("", ~small, ("normal", "negative and normal", "positive and normal")),
        *(
            ("", which, (f"{text}", f"negative and {text}", f"positive and {text}"))
            for which, text in (
                ((fraction == 0) & ~small, "a power of two"),
                ((fraction != 0) & ~small, "normal and no power of two"),
                (HALVES & 1 == 1, "a half whose lowest bit is set"),
                (HALVES & 0x80 != 0, "a half whose low byte is 0x80 or more"),
                (HALVES & 0xFF == 0, "a half whose low byte is 0"),
                (HALVES & 0x200 != 0, "a half whose highest bit of the fraction is set"),
            )
        ),
    )
    signs = (every, is_negative, ~is_negative)
    return _Sets.of(
        [
            (text, 1 + (sign is not every and which is not every), which & sign)
            for _, which, texts in kinds
            for text, sign in zip(texts, signs, strict=True)
            if text
        ]
    )


@cache
def _code_sets() -> _Sets:
    """Return named sets of codes, the plainest first."""
    q = NUMBERS
    sets = [
        ("negative", q < 0), ("positive", q > 0), ("not 0", q != 0),
        ("not negative", q >= 0), ("not positive", q <= 0),
        *((str(code), q == code) for code in (0, -128, 127, -127, 1, -1)),
        ("odd", q % 2 == 1), ("even", q % 2 == 0),
        ("neither 0 nor -128", (q != 0) & (q != -128)), ("negative, but not -128", (q < 0) & (q > -128)),
        *((f"one whose bit {bit} is set", q >> bit & 1 == 1) for bit in range(1, 7)),
        *((f"one whose bit {bit} is not set", q >> bit & 1 == 0) for bit in range(1, 7)),
        ("odd and negative", (q % 2 == 1) & (q < 0)),
        ("one whose low four bits are not 0", q & 15 != 0),
    ]  # fmt: skip
    return _Sets.of([(text, 1, member) for text, member in sets])


def _half_limits(hit: Array, _missed: Array) -> _Sets:
    """Return the sets of halves that begin or end with those that are hit, and the list of these."""
    some = np.flatnonzero(hit)
    if not some.size:
        return _half_sets()
    low, high = int(MAGNITUDES[some].min()), int(MAGNITUDES[some].max())
    sign = "negative and " if (some >= 1 << 15).all() else "positive and " if (some < 1 << 15).all() else ""
    signed = (HALVES >> 15 == 1) == (sign == "negative and ") if sign else np.ones(len(HALVES), np.bool_)
    values = read_right()[0]
    least, most = (_number(float(values[number])) for number in (low, high))
    sets = [
        (f"{sign}{least} or more in magnitude", 1 + bool(sign), signed & (low <= MAGNITUDES)),
        (f"{sign}{most} or less in magnitude", 1 + bool(sign), signed & (high >= MAGNITUDES)),
        (
            f"{sign}from {least} to {most} in magnitude", 2 + bool(sign),
            signed & (low <= MAGNITUDES) & (high >= MAGNITUDES),
        ),
    ]  # fmt: skip
    if some.size <= FEW:
        sets.insert(0, (" or ".join(f"0x{half:04x}" for half in some), some.size, hit))
    return _Sets.of(sets)


def _code_limits(hit: Array, _missed: Array) -> _Sets:
    """Return the sets of codes that begin or end with those that are hit, and the list of these."""
    some = np.sort(NUMBERS[hit])
    if not some.size:
        return _code_sets()
    low, high, most, least = some[0], some[-1], np.abs(some).max(), np.abs(some).min()
    sets = [
        (f"{low} or more", 1, low <= NUMBERS), (f"{high} or less", 1, high >= NUMBERS),
        (f"{least} or more in magnitude", 1, np.abs(NUMBERS) >= least),
        (f"{most} or less in magnitude", 1, np.abs(NUMBERS) <= most),
        (f"from {low} to {high}", 2, (low <= NUMBERS) & (high >= NUMBERS)),
    ]  # fmt: skip
    if some.size <= FEW:
        sets.insert(0, (" or ".join(map(str, some)), some.size, hit))
    elif some.size < 2 * FEW * FEW:
        sets.append((f"one of {ranges(some.tolist())}", 3, hit))
    return _Sets.of(sets)
