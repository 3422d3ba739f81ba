"""Conditions on values: of scales and codes, of what is beside them, of products, and on exact ones.

Values have named sets: those that hold all values of the hits, and as few of the missed ones as a set can.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from q8a8_conformance.diagnosis.dequantizers.model import (
    BLOCK,
    CODES,
    F32,
    FINITE,
    HALVES,
    LANES,
    NONE,
    Values,
    read_right,
)
from q8a8_conformance.diagnosis.quantizers.effects import plain_numbers
from q8a8_conformance.reveal.quantizers.words import ranges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from q8a8_conformance.diagnosis.dequantizers.model import Read
    from q8a8_conformance.inputs.arrays import Array

    Set = tuple[str, int, NDArray[Any]]

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
    read
        What is read for them.
    hit, missed, bad
        bool [k, 32]: elements that the form makes right, that it makes wrong, and that are wrong with it and
        without.
    """

    read: Read
    hit: Array
    missed: Array
    bad: Array

    def cut(self, some: Array) -> State:
        """Return it for some elements: bool [k, 32]."""
        return State(self.read, self.hit & some, self.missed & some, self.bad & some)

    def among(self, values: Values | None) -> State:
        """Return it for some values."""
        return self.cut(values.holds(self.read)) if values else self


# Values: sets of them have words, a cost, and members, bool [65536] or [256].


def named(state: State) -> Iterator[Values | None]:
    """Yield conditions on values with names, the one without any first."""
    yield None
    yield from _of_sets(state, exact_sets=(False, False))
    yield from _of_products(state)


def exact(state: State) -> Iterator[Values]:
    """Yield conditions that give the values of the hits: limits, and lists."""
    for exact_sets in ((True, True), (False, True), (True, False)):
        yield from _of_sets(state, exact_sets=exact_sets)


def _of_sets(state: State, exact_sets: tuple[bool, bool]) -> Iterator[Values]:
    """Yield conditions on codes, on scales, and on both; whether by exact sets of scales, and of codes."""
    code = _best(state, _CODE, _code_limits if exact_sets[1] else _code_sets)
    if code:
        yield code
    halves = _half_limits if exact_sets[0] else _half_sets
    if half := _best(state, _SCALE, halves):
        yield half
    if code and (half := _best(state.among(code), _SCALE, halves)):
        yield _both(half, code)


def of_context(state: State) -> Iterator[Values]:
    """Yield conditions on neighbouring codes, on neighbouring blocks, and on all codes of the block."""
    found = [_best(state, noun, _code_sets) for noun in _neighbours()]
    found += [_best(state, noun, _half_sets) for noun in _BESIDE]
    for text, holds in _RELATIONS.items():
        held = np.broadcast_to(holds(state.read), state.hit.shape)
        if held[state.hit].all() and not held[state.missed].all():
            found.append(Values(text, {"context": text}, holds, 2))
    values = [one for one in found if one]
    yield from values
    for one in values:
        among = state.among(one)
        for other in (_best(among, _CODE, _code_sets), _best(among, _SCALE, _half_sets)):
            if other:
                yield _both(other, one)


def _both(one: Values, other: Values) -> Values:
    """Return the condition that both hold."""

    def holds(read: Read) -> Array:
        return np.asarray(one.holds(read) & other.holds(read))

    return Values(f"{one.text} and {other.text}", {**one.data, **other.data}, holds, one.cost + other.cost)


class Noun(NamedTuple):
    """What has values that a condition is about: its words, its name in JSON, its values, and how many."""

    words: str
    name: str
    of: Callable[[Read], Array]
    size: int


def _best(state: State, noun: Noun, sets: Callable[[Array], list[Set]]) -> Values | None:
    """Return that a noun is in the set that holds all its hit values, with the fewest missed.

    None where it leaves none out.
    """
    if not state.hit.any():
        return None
    keys = noun.of(state.read)
    kinds = (state.hit, state.missed, state.bad)
    if keys.shape[1] == 1:
        hits, missed, bad = (np.bincount(keys[:, 0], of.sum(axis=1), noun.size) for of in kinds)
    else:
        keys = np.broadcast_to(keys, state.hit.shape)
        hits, missed, bad = (np.bincount(keys[of], np.ones(int(of.sum())), noun.size) for of in kinds)
    # (Values with hits, most of what is wrong there.)
    hit = (hits > 0) & (hits >= bad)
    if not hit.any():
        return None
    seen = np.flatnonzero(hit | (missed > 0))
    every = sets(hit[: 1 << 16])
    padded = [np.append(of[2], np.zeros(noun.size - len(of[2]), np.bool_)) for of in every]
    inside = np.array([member[seen] for member in padded])
    fits = np.flatnonzero((inside | ~hit[seen]).all(axis=1))
    left = inside[fits] @ missed[seen]
    if not fits.size or left.min() >= missed.sum():
        return None
    best = int(fits[np.argmin(left)])
    text, cost, _ = every[best]
    member = padded[best]
    more = int(noun not in {_CODE, _SCALE})
    data = {noun.name: text}
    return Values(f"{noun.words} is {text}", data, lambda read: member[noun.of(read)], cost + more)


def _of_products(state: State) -> Iterator[Values]:
    """Yield conditions on what is multiplied."""
    for text, holds in _PRODUCTS.items():
        held = holds(state.read)
        if held[state.hit].all() and not held[state.missed].all():
            yield Values(f"scale times code is {text}", {"product": text}, holds)
    y = _magnitudes(state.read)
    hit, missed = y[state.hit], y[state.missed]
    if not hit.size or not missed.size:
        return
    low, high = float(hit.min()), float(hit.max())
    if low > missed.min():
        below = np.nextafter(missed[missed < low].max(), F32(np.inf))
        least = (plain_numbers(float(below), low) or (low,))[0]
        text = f"{_number(least)} or more in magnitude"
        yield Values(
            f"scale times code is {text}", {"product": text}, lambda read: _magnitudes(read) >= least
        )
    if high < missed.max():
        above = float(missed[missed > high].min())
        most = (plain_numbers(float(np.nextafter(F32(high), F32(np.inf))), above) or (above,))[0]
        text = f"less than {_number(most)} in magnitude"
        yield Values(f"scale times code is {text}", {"product": text}, lambda read: _magnitudes(read) < most)


def _magnitudes(read: Read) -> Array:
    with np.errstate(all="ignore"):
        return np.asarray(np.abs(read_right()[0][read.h] * read_right()[1][read.q]))


def _negative(read: Read) -> Array:
    return np.asarray(((read.h >> 15 == 1) != (read.q >= len(CODES) // 2)) & (_magnitudes(read) > 0))


_PRODUCTS: dict[str, Callable[[Read], Array]] = {
    "negative": _negative,
    "positive": lambda read: ~_negative(read) & (_magnitudes(read) > 0),
    "zero": lambda read: _magnitudes(read) == 0,
    "not zero": lambda read: _magnitudes(read) != 0,
}

# What is beside an element.

_CODE = Noun("the code", "codes", lambda read: read.q, len(CODES))
_SCALE = Noun("the scale", "scales", lambda read: read.h, len(HALVES))
_BESIDE = (
    Noun("the scale of the block before", "before", lambda read: read.blocks.beside(read.at, -1), NONE + 1),
    Noun("the scale of the next block", "next", lambda read: read.blocks.beside(read.at, 1), NONE + 1),
)


@cache
def _neighbours() -> tuple[Noun, ...]:
    """Return the codes beside an element's, in its block."""
    places = {
        "the code before it": LANES - 1,
        "the next code": (LANES + 1) % BLOCK,
        "the other code of its two": LANES ^ 1,
        "the code 16 places off": LANES ^ 16,
        "the first code of the block": LANES * 0,
        "the last code of the block": LANES * 0 - 1,
    }
    return tuple(Noun(words, words, partial(_codes_at, lanes), len(CODES)) for words, lanes in places.items())


def _codes_at(lanes: Array, read: Read) -> Array:
    return np.asarray(read.q[:, lanes])


def _like_before(mask: int, other: int = 0) -> Callable[[Read], Array]:
    """Return whether some bits of the scale are those of the scale before, and some others are not."""

    def holds(read: Read) -> Array:
        before = read.blocks.beside(read.at, -1)
        differ = before ^ read.h.astype(np.int64)
        return np.asarray((before != NONE) & (differ & mask == 0) & ((differ & other != 0) | (not other)))

    return holds


def _all_so_far(read: Read, mask: int) -> Array:
    """Return whether some bits of the scales up to each in its row are 0: bool [k, 1]."""
    blocks, name = read.blocks, ("all so far", mask)
    if name not in blocks.kept:
        numbers = np.arange(len(blocks.h))
        last = np.maximum.accumulate(np.where(blocks.h & mask, numbers, -1))
        blocks.kept[name] = last < blocks.first
    return np.asarray(blocks.kept[name][read.at, np.newaxis] & (read.h & mask == 0))


def _of_all(of: Array) -> Array:
    return np.asarray(of.all(axis=1, keepdims=True))


def _codes_before(read: Read) -> Array:
    at = np.maximum(read.at - 1, 0)
    return _of_all(read.blocks.q[at] == read.q) & (read.own > 0)


_RELATIONS: dict[str, Callable[[Read], Array]] = {
    "the scale is that of the block before": _like_before(0xFFFF),
    "the scale is not that of the block before": lambda read: ~_like_before(0xFFFF)(read) & (read.own > 0),
    "the scale has the magnitude of that before, and the other sign": _like_before(0x7FFF, 0x8000),
    "the scale has the sign of that before": _like_before(0x8000),
    "the scale has another sign than that before": _like_before(0, 0x8000),
    "the scale has the exponent of that before": _like_before(0x7C00),
    "the scale and all before it in the row are +0": lambda read: _all_so_far(read, 0xFFFF),
    "the scale and all before it in the row are 0": lambda read: _all_so_far(read, 0x7FFF),
    "the codes are those of the block before": _codes_before,
    "all codes of the block are 0": lambda read: _of_all(read.q == 0),
    "all codes of the block are equal": lambda read: _of_all(read.q == read.q[:, :1]),
    "a code of the block is 0": lambda read: ~_of_all(read.q != 0),
    "a code of the block is -128": lambda read: ~_of_all(read.q != 128),
    "no code of the block is -128": lambda read: _of_all(read.q != 128),
    "no code of the block is negative": lambda read: _of_all(read.q < 128),
}


def _number(number: float) -> str:
    fraction, exponent = np.frexp(number)
    short = f"{number:.9g}"
    return f"2^{exponent - 1}" if fraction == 1 / 2 and len(short) > 6 else short


def _half_sets(_hit: Array) -> list[Set]:
    """Return named sets of halves, the plainest first."""
    return _named_halves()


def _code_sets(_hit: Array) -> list[Set]:
    """Return named sets of codes, the plainest first."""
    return _named_codes()


@cache
def _named_halves() -> list[Set]:
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
def _named_codes() -> list[Set]:
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
    by_bits = list(_of_exponents(hit))
    sign, signed = "", HALVES >= 0
    if len({*(some >> 15).tolist()}) == 1:
        sign, signed = ("positive and ", "negative and ")[int(some[0]) >> 15], some[0] >> 15 == HALVES >> 15
    least, most = (_number(float(read_right()[0][number])) for number in (low, high))
    above = float(read_right()[0][high + 1])
    limit = f"below {_number(above)}" if np.frexp(above)[0] == 1 / 2 else f"{most} or less"
    from_low, to_high = signed & (low <= MAGNITUDES), signed & (high >= MAGNITUDES)
    return [
        (f"{sign}{least} or more in magnitude", 1 + bool(sign), from_low),
        (f"{sign}{limit} in magnitude", 1 + bool(sign), to_high),
        (f"{sign}from {least} to {most} in magnitude", 2 + bool(sign), from_low & to_high),
        *by_bits,
    ]


def _of_exponents(hit: Array) -> Iterator[Set]:
    """Yield sets of halves of some kind, and some exponents, that hold all that are hit."""
    exponents = HALVES >> 10 & 31
    for text, cost, kind in _named_halves():
        if not cost or (hit & ~kind).any():
            continue
        held = np.unique(exponents[hit])
        others = np.setdiff1d(exponents[kind & FINITE], held)
        in_held = kind & np.isin(exponents, held)
        if 0 < others.size <= FEW:
            yield f"{text}, with another exponent field than {_or(others)}", cost + others.size, in_held
        elif others.size and held.size <= FEW:
            yield f"{text}, with the exponent field {_or(held)}", cost + held.size, in_held
        elif others.size and np.ptp(held) < held.size:
            yield f"{text}, with an exponent field from {held[0]} to {held[-1]}", cost + 2, in_held


def _or(numbers: Array) -> str:
    return " or ".join(map(str, numbers.tolist()))


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
