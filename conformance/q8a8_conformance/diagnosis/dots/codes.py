"""How codes are read: for each code of x and of y, by the sign of the other one, what it is taken for.

A product of two codes is that of what each is taken for, which may depend on the sign of the other one, as in
the sign trick |x| · (y with the sign of x). So the products with 1 and with -1 show all others. Places of a
block that some products do not tell apart are alike, and of each kind of them all 256 codes are tried. Other
pairs must then come out so, or nothing is said.

In words it is which codes, by a condition that has a name, are taken for which numbers.
"""

from __future__ import annotations

import itertools
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.diagnosis.dots.candidates import Candidate
from q8a8_conformance.diagnosis.dots.elements import elements_words
from q8a8_conformance.inputs import dot_rows
from q8a8_conformance.reveal.grids import significant
from q8a8_conformance.reveal.quantizers.words import ranges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from q8a8_conformance.inputs.arrays import Array

    Product = Callable[[int, int, int], float]


ALIKE = ((-128, -128), *((a, b) for a in (-128, -100, -37, 37, 127) for b in (1, -1)))
"""Products, these and with x and y exchanged, that tell places apart."""

UNITS = (1, 64)
"""Codes whose products with the others are looked at, with their negatives: -1 may be read as 0."""

CONTROLS = 60
"""Pairs of codes that must come out so."""

KINDS = 4
"""Kinds of places of which all codes are tried."""


def read_codes(product: Product) -> Iterator[Candidate]:
    """Find places of a block whose codes are taken for others: at most one candidate.

    Parameters
    ----------
    product
        (place, code of x, code of y) -> the result of one block, under scales of 1.
    """
    kinds: dict[tuple[float, ...], list[int]] = {}
    for place in range(32):
        both = (pair for a, b in ALIKE for pair in ((a, b), (b, a)))
        kinds.setdefault(tuple(product(place, a, b) for a, b in both), []).append(place)
    right = [*itertools.chain.from_iterable(((a * b,) * 2 for a, b in ALIKE))]
    wrong = {places[0]: places for given, places in kinds.items() if given != tuple(right)}
    if 0 < len(wrong) <= KINDS:
        found = filter(None, (_read_beside(product, unit, list(wrong.values())) for unit in UNITS))
        yield from itertools.islice(found, 1)


def _read_beside(product: Product, unit: int, kinds: Sequence[Sequence[int]]) -> Candidate | None:
    """Find the same from the products with a code and its negative, which may be read wrongly themselves."""
    table = np.zeros((32, 2, 2, 256))  # by place, x or y, and whether the other code is negative
    table[:] = CODES * np.array([1, -1])[:, np.newaxis]
    for places in kinds:
        for negative, other in enumerate((unit, -unit)):
            table[places, 0, negative] = [product(places[0], c, other) / unit for c in CODES.tolist()]
            table[places, 1, negative] = [product(places[0], other, c) / unit for c in CODES.tolist()]
    # The unit and its negative of x, beside those of y.
    units = table[:, 0][:, :, [128 + unit, 128 - unit]] / unit
    if not np.isfinite(table).all() or not units.all():
        return None
    step = partial(_products, table=table, units=units)
    rng = dot_rows.generator("codes")
    pairs = np.zeros((2, CONTROLS, 32), np.int8)
    wrong = [place for places in kinds for place in places]
    at_random = [wrong[k % len(wrong)] if k % 2 else int(rng.integers(0, 32)) for k in range(CONTROLS)]
    codes = rng.integers(-128, 128, (2, CONTROLS))
    pairs[:, np.arange(CONTROLS), at_random] = codes
    given = [product(place, int(a), int(b)) for place, a, b in zip(at_random, *codes, strict=True)]
    if not np.array_equal(step(*pairs).sum(axis=1), given):
        return None
    read = {_at(places): _kind_words(table[places[0]]) for places in kinds}
    where, *more = read.values()
    sentence = "; ".join(f"{name}'s {words}{at}" for at, of in read.items() for name, words in of.items())
    return Candidate(
        "products",
        {"elements": sorted(wrong), "read": where, **({"others": more} if more else {})},
        "Q8A8-DOT-1",
        f"{sentence}.",
        "Sign-extend each code, and let each sign count once.",
        "codes-unsigned" if set(where.values()) == {UNSIGNED} and len(wrong) == 32 and not more else "",
        {"products": step},
    )  # fmt: skip


def _products(qx: Array, qy: Array, table: Array, units: Array) -> Array:
    x, y, place = qx.astype(int), qy.astype(int), np.arange(32)
    taken = table[place, 0, 1 * (y < 0), x + 128] * table[place, 1, 1 * (x < 0), y + 128]
    return np.asarray(np.rint(taken / units[place, 1 * (y < 0), 1 * (x < 0)]).astype(np.int64))


def _kind_words(table: Array) -> dict[str, str]:
    """Say what codes are taken for, of x and of y, at one place: [x or y, beside a negative one, 256]."""
    taken = {name: table[side] * [[1], [-1]] for side, name in enumerate("xy")}
    read = {name: words for name, (plain, _) in taken.items() if (words := taken_words(plain))}
    return read or {
        name: f"{words} beside negative ones of {other}"
        for (name, (_, beside)), other in zip(taken.items(), "yx", strict=True)
        if (words := taken_words(beside))
    }


def _at(places: Sequence[int]) -> str:
    if len(places) == 32:
        return ""
    words = elements_words(places)
    return f" in {words}{' of a block' * (words.startswith('element') and ' j ' not in words)}"


CODES = np.arange(-128, 128)

UNSIGNED = "codes are read as unsigned"

FEW = 3
"""Codes that are named one by one at most."""


def taken_words(taken: Array) -> str:
    """Say what codes [256], from -128 on, are taken for; nothing where they are right."""
    wrong = taken != CODES
    if not wrong.any():
        return ""
    if wrong.sum() == 1 or (wrong.sum() <= FEW and len(set(taken[wrong])) > 1):
        return " and ".join(f"code {c} is taken for {taken[c + 128]:g}" for c in CODES[wrong])
    for as_words, of in _effects(taken, wrong):
        for words, some in (*_sets(), *_limits(wrong)):
            if (some | ~wrong).all() and np.array_equal(np.where(some, of, CODES), taken):
                return f"{words} are {as_words}"
    first = int(CODES[wrong][0])
    more = f", and {int(wrong.sum()) - 1} more codes for others" if wrong.sum() > 1 else ""
    return f"code {first} is taken for {taken[first + 128]:g}{more}"


def _effects(taken: Array, wrong: Array) -> Iterator[tuple[str, Array]]:
    """Yield what codes may be taken for, with a verb's participle."""
    given = taken[wrong]
    yield "read as unsigned", CODES % 256
    yield "read without their sign", np.abs(CODES)
    yield "read with the other sign", -CODES
    if (given == given[0]).all():
        yield f"read as {given[0]:g}", np.full(256, given[0])
    by = given - CODES[wrong]
    if (by == by[0]).all():
        number = {1: "one", -1: "one"}.get(int(by[0]), f"{abs(by[0]):g}")
        yield f"read as {number} {'more' if by[0] > 0 else 'less'}", CODES + by[0]
    yield "read as their one's complement", ~CODES
    yield "read as sign and magnitude", np.where(CODES < 0, -(CODES & 127), CODES)
    yield "read with their sign bit lost", CODES & 127
    yield "read as bytes less 128", CODES % 256 - 128
    yield "read with their halves exchanged", ((CODES >> 4 & 15) | CODES << 4).astype(np.int8).astype(int)
    for bits in range(1, 8):
        low = (1 << bits) - 1
        yield f"read without their low {_bits(bits)}", CODES & ~low
        yield f"cut off to multiples of {low + 1}", np.trunc(CODES / (low + 1)) * (low + 1)
        yield f"rounded to multiples of {low + 1}", np.rint(CODES / (low + 1)) * (low + 1)
        yield f"rounded up to multiples of {low + 1}", np.ceil(CODES / (low + 1)) * (low + 1)
        yield f"read as their low {_bits(bits)}", CODES & low
        yield f"read as their low {bits} bits, signed", (CODES & low) - ((CODES & (low + 1) // 2) << 1)
        yield f"read with bit {bits - 1} set", CODES | (low + 1) // 2
        yield f"read with bit {bits - 1} lost", CODES & ~((low + 1) // 2)
        yield f"shifted right by {bits}", CODES >> bits
    for times in (0.5, 2, 3, 4, 1.5):
        yield f"read as {times:g} times as large", CODES * times
    for bits in range(3, 8):
        yield f"rounded to {bits} significant bits", significant(CODES, bits, np.rint)


def _bits(count: int) -> str:
    return "bit" if count == 1 else f"{count} bits"


@cache
def _sets() -> tuple[tuple[str, Array], ...]:
    """Return sets of codes with their words, the plainest first."""
    odd = CODES % 2 == 1
    found = [("codes", CODES > -256)]
    found += [("negative codes", CODES < 0), ("positive codes", CODES > 0), ("odd codes", odd)]
    found += [("even codes", ~odd), ("negative odd codes", odd & (CODES < 0))]
    found += [("positive odd codes", odd & (CODES > 0)), ("negative even codes", ~odd & (CODES < 0))]
    for bits in range(2, 8):
        unit = 1 << bits
        rest = CODES % unit != 0
        for words, some, signs in (
            (f"codes that are no multiple of {unit}", rest, 3),
            (f"multiples of {unit}", ~rest, 2),
            (f"codes whose bit {bits - 1} is set", CODES & unit // 2 != 0, 3),
            (f"codes whose bit {bits - 1} is not set", CODES & unit // 2 == 0, 2),
        ):
            negative, positive = (f"{sign} {words}" for sign in ("negative", "positive"))
            both = (words, some), (negative, some & (CODES < 0)), (positive, some & (CODES > 0))
            found += both[:signs]
    return tuple(found)


def _limits(wrong: Array) -> Iterator[tuple[str, Array]]:
    """Yield sets that begin or end with wrong codes, and the list of these."""
    some = CODES[wrong]
    low, high = int(some[0]), int(some[-1])
    least, most = int(np.abs(some).min()), int(np.abs(some).max())
    if some.size <= FEW:
        yield f"codes {' and '.join(map(str, some))}", wrong
    yield f"codes from {low} on", low <= CODES
    yield f"codes up to {high}", high >= CODES
    yield f"codes of magnitude {least} and more", np.abs(CODES) >= least
    yield f"codes of magnitude {most} and less", np.abs(CODES) <= most
    yield f"codes from {low} to {high}", (low <= CODES) & (high >= CODES)
    yield f"codes {ranges(some.tolist())}", wrong
