"""How codes are read: for each code of x and of y, by the sign of the other one, what it is taken for.

A product of two codes is that of what each is taken for, which may depend on the sign of the other one, as in
the sign trick |x| · (y with the sign of x). So the products with 1 and with -1 show all others, at each place
of a block. Other pairs must then come out so, or nothing is said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.diagnosis.experiments.candidates import Candidate
from q8a8_conformance.inputs import dot_rows
from q8a8_conformance.reveal.quantizer_words import ranges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    Array = NDArray[Any]
    Product = Callable[[int, int, int], float]

CODES = (-128, -127, -126, -100, -65, -64, -2, -1, 0, 1, 2, 63, 64, 100, 126, 127)
"""Codes that are tried; what lies between two of them is taken for what lies between."""

ALIKE = ((-128, -128), *((a, b) for a in (-128, -100, 100) for b in (1, -1)))
"""Products, these and with x and y exchanged, that tell places apart."""

UNITS = (1, 64)
"""Codes whose products with the others are looked at, with their negatives: -1 may be read as 0."""

CONTROLS = 60
"""Pairs of codes that must come out so."""


def read_codes(product: Product) -> Iterator[Candidate]:
    """Find places of a block whose codes are taken for others: at most one candidate.

    Parameters
    ----------
    product
        (place, code of x, code of y) -> the result of one block, under scales of 1.
    """
    for unit in UNITS:
        found = list(_read_beside(product, unit))
        if found:
            yield from found
            return


def _read_beside(product: Product, unit: int) -> Iterator[Candidate]:
    """Find the same from the products with a code and its negative, which may be read wrongly themselves."""
    every = np.arange(-128, 128)
    groups: dict[tuple[float, ...], list[int]] = {}
    for place in range(32):
        both = (pair for a, b in ALIKE for pair in ((a, b), (b, a)))
        groups.setdefault(tuple(product(place, a, b) for a, b in both), []).append(place)
    table = np.zeros((32, 2, 2, 256))  # by place, x or y, and whether the other code is negative
    for places in groups.values():
        for negative, other in enumerate((unit, -unit)):
            of_x = [product(places[0], code, other) / unit for code in CODES]
            of_y = [product(places[0], other, code) / unit for code in CODES]
            table[places, 0, negative] = np.interp(every, CODES, of_x)
            table[places, 1, negative] = np.interp(every, CODES, of_y)
    # The unit and its negative of x, beside those of y.
    units = table[:, 0][:, :, [128 + unit, 128 - unit]] / unit
    if not np.isfinite(table).all() or not units.all():
        return

    def products(qx: Array, qy: Array) -> Array:
        x, y, place = qx.astype(int), qy.astype(int), np.arange(32)
        taken = table[place, 0, 1 * (y < 0), x + 128] * table[place, 1, 1 * (x < 0), y + 128]
        return np.asarray(np.rint(taken / units[place, 1 * (y < 0), 1 * (x < 0)]).astype(np.int64))

    rng = dot_rows.generator("codes")
    pairs = np.zeros((2, CONTROLS, 32), np.int8)
    at_random, codes = rng.integers(0, 32, CONTROLS), rng.integers(-128, 128, (2, CONTROLS))
    pairs[:, np.arange(CONTROLS), at_random] = codes
    given = [product(int(place), int(a), int(b)) for place, a, b in zip(at_random, *codes, strict=True)]
    right = table[:, :, :1] == every
    wrong = np.flatnonzero(~(right.all(axis=(1, 2, 3)) & (table[:, :, 1:] == -every).all(axis=(1, 2, 3))))
    if not wrong.size or not np.array_equal(products(*pairs).sum(axis=1), given):
        return
    taken = {name: table[wrong[0], side] * [[1], [-1]] for side, name in enumerate("xy")}
    read = {name: words for name, (plain, _) in taken.items() if (words := _words(plain))} or {
        name: f"{words} beside negative ones of {other}"
        for (name, (_, beside)), other in zip(taken.items(), "yx", strict=True)
        if (words := _words(beside))
    }
    at = (
        "" if wrong.size == 32 else f" in element{'s' * (wrong.size > 1)} {ranges(wrong.tolist())} of a block"
    )
    yield Candidate(
        "products",
        {"elements": wrong.tolist(), "read": read},
        "Q8A8-DOT-1",
        "; ".join(f"{name}'s {words}" for name, words in read.items()) + f"{at}.",
        "Sign-extend each code, and let each sign count once.",
        "codes-unsigned" if set(read.values()) == {UNSIGNED} and wrong.size == 32 else "",
        {"products": products},
    )


UNSIGNED = "codes are read as unsigned"


def _words(taken: Array) -> str:
    """Say what codes [256] are taken for; nothing where they are right."""
    codes = np.arange(-128, 128)
    wrong = np.flatnonzero(taken != codes)
    if not wrong.size:
        return ""
    known = {
        UNSIGNED: codes % 256,
        "codes are read without their sign": np.abs(codes),
        "codes are read with the other sign": -codes,
        "negative codes are read as 0": np.maximum(codes, 0),
        "negative codes are read as one more": codes + (codes < 0),
        "negative codes are read as one less": codes - (codes < 0),
    }
    first = int(wrong[0])
    return next(
        (words for words, of in known.items() if np.array_equal(of, taken)),
        f"code {codes[first]} is taken for {taken[first]:g}",
    )
