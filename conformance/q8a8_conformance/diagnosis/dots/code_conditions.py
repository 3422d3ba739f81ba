"""Conditions on the codes of a block, of x, y or both, that tell some blocks from others.

all, any    codes of some elements are >= 0, <= 0, zero, one code, or multiples of a power of two
a number    the least or greatest code or magnitude, the sum, the span, the products' sum: it is at most,
at least, or exactly so much
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.diagnosis.dots.elements import elements_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from q8a8_conformance.inputs.arrays import Array

    Test = Callable[[Array], Array]

PAIR = 2
"""Elements of both rows at one place."""


def _is_multiple(of: int, q: Array) -> Array:
    return np.asarray(q % of == 0)


TESTS: dict[str, Test] = {
    "zero": lambda q: q == 0,
    "not zero": lambda q: q != 0,
    "0 or more": lambda q: q >= 0,
    "0 or less": lambda q: q <= 0,
    "positive": lambda q: q > 0,
    "negative": lambda q: q < 0,
    **{f"{code}": partial(np.equal, code) for code in (-128, -127, -1, 1, 127)},
    **{f"multiples of {2**k}": partial(_is_multiple, 2**k) for k in (1, 2, 3, 4, 5, 6, 7)},
}
"""Tests of single codes."""

NUMBERS: dict[str, Test] = {
    "the greatest magnitude of {of} codes": lambda q: np.abs(q).max(axis=1),
    "the greatest of {of} codes": lambda q: q.max(axis=1),
    "the least of {of} codes": lambda q: q.min(axis=1),
    "the sum of {of} codes": lambda q: q.sum(axis=1),
    "the sum of the magnitudes of {of} codes": lambda q: np.abs(q).sum(axis=1),
    "the number of {of} negative codes": lambda q: (q < 0).sum(axis=1),
    "the number of {of} positive codes": lambda q: (q > 0).sum(axis=1),
    "the number of {of} codes that are not zero": lambda q: np.count_nonzero(q, axis=1),
    "the difference of the greatest and the least of {of} codes": lambda q: np.ptp(q, axis=1),
    "the magnitude of the sum of {of} codes": lambda q: np.abs(q.sum(axis=1)),
    "the least magnitude of {of} codes": lambda q: np.abs(q).min(axis=1),
    "{of} first code": lambda q: q[:, 0],
    "{of} last code": lambda q: q[:, -1],
    "the low 8 bits of the sum of {of} codes": lambda q: q.sum(axis=1) & 255,
    "the bits that all of {of} codes have": lambda q: np.bitwise_and.reduce(q & 255, axis=1),
}
"""Numbers of the codes of a row's block."""

OF_BOTH: dict[str, Callable[[Array, Array], Array]] = {
    "the magnitude of the sum of the products": lambda x, y: np.abs((x * y).sum(axis=1)),
    "the greatest difference of x's and y's codes": lambda x, y: np.abs(x - y).max(axis=1),
    "the greatest magnitude of the sums of x's and y's codes": lambda x, y: np.abs(x + y).max(axis=1),
    "the greatest magnitude of the products": lambda x, y: np.abs(x * y).max(axis=1),
}
"""Numbers of the codes of a block of both rows."""


PLAIN = {
    "the sum of x's codes": "x's codes add up to zero",
    "the sum of y's codes": "y's codes add up to zero",
    "the difference of the greatest and the least of x's codes": "x's codes are all equal",
    "the difference of the greatest and the least of y's codes": "y's codes are all equal",
    "the bits that all of x's codes have": "no bit is set in all of x's codes",
    "the bits that all of y's codes have": "no bit is set in all of y's codes",
    "the greatest difference of x's and y's codes": "x's codes are those of y",
    "the greatest magnitude of the sums of x's and y's codes": "x's codes are those of y with the other sign",
}
"""What it means that a number is zero."""


@dataclass(frozen=True)
class Skip:
    """A condition on the codes of a block.

    Attributes
    ----------
    where, words
        As JSON data, and as a clause.
    holds
        (codes of x, of y: int64 [n, 32]) -> bool [n].
    number
        Where it is about a number, this, for codes like these: int64 [n].
    """

    where: Mapping[str, Any]
    words: str
    holds: Callable[[Array, Array], Array]
    number: Callable[[Array, Array], Array] | None = None


def conditions(x: Array, y: Array, out: Array) -> Iterator[Skip]:
    """Yield conditions that fit some blocks, the simplest first.

    Parameters
    ----------
    x, y
        Codes: int64 [n, width].
    out
        Which blocks meet the condition: bool [n].
    """
    rows = {side: _row(side, x, y) for side in ("x", "y", "xy", "products")}
    some = [one for side, q in rows.items() for one in _of_elements(side, q, out)]
    # (Such as hold for all elements of a row, or for few, are simplest.)
    yield from sorted(some, key=lambda one: _distance(len(one.where["elements"]), x.shape[1]))
    for side in "xy":
        for words, of in NUMBERS.items():

            def number(x: Array, y: Array, side: str = side, of: Test = of) -> Array:
                return of(x if side == "x" else y)

            yield from _of_number(words.format(of=f"{side}'s"), number, (x, y), out)
    for words, of_both in OF_BOTH.items():
        yield from _of_number(words, of_both, (x, y), out)


def _distance(count: int, width: int) -> int:
    return min(abs(width - count), abs(2 * width - count), count)


def _of_elements(side: str, q: Array, out: Array) -> Iterator[Skip]:
    """Yield that all codes of some elements, or any of them, pass a test, as in all hits or no misses."""
    for name, test in TESTS.items():
        passed = test(q)
        for quantifier, elements in (
            ("all", np.flatnonzero(passed[out].all(axis=0))),
            ("any", np.flatnonzero(~passed[~out].any(axis=0))),
        ):
            width = q.shape[1] // (1 + (side == "xy"))
            if not elements.size or (quantifier == "any" and elements.size == 1):
                continue
            of = (passed[:, elements]).all(axis=1) if quantifier == "all" else passed[:, elements].any(axis=1)
            if np.array_equal(of, out):
                yield _tested(side, elements, name, quantifier, width)


def _row(side: str, x: Array, y: Array) -> Array:
    """Return the codes of x, of y, of one behind the other, or their products: int64 [n, width or twice]."""
    return {"x": x, "y": y}.get(side, x * y if side == "products" else np.concatenate([x, y], axis=1))


def _tested(side: str, elements: Array, name: str, quantifier: str, width: int) -> Skip:
    test = TESTS[name]
    numbers = elements.tolist()

    def holds(x: Array, y: Array) -> Array:
        passed = test(_row(side, x, y))[:, numbers]
        return np.asarray(passed.all(axis=1) if quantifier == "all" else passed.any(axis=1))

    where = {"operand": side, "elements": numbers, "are": name, "quantifier": quantifier}
    return Skip(where, _tested_words(side, numbers, name, quantifier, width), holds)


def _tested_words(side: str, numbers: Sequence[int], name: str, quantifier: str, width: int) -> str:
    """Say which codes pass a test."""
    texts = [f"the products of {elements_words(numbers)}"] if side == "products" else []
    if side == "products" and len(numbers) == width:
        texts = ["the products of x's and y's codes"]
    if side == "xy" and [j - width for j in numbers if j >= width] == [j for j in numbers if j < width]:
        mine = numbers[: len(numbers) // 2]
        texts, side = [f"x's and y's {'codes' if len(mine) == width else elements_words(mine)}"], ""
    for own, first in zip(side if side != "products" else "", (0, width), strict=False):
        mine = [j - first for j in numbers if first <= j < first + width]
        if mine:
            texts.append(f"{own}'s codes" if len(mine) == width else f"{own}'s {elements_words(mine)}")
    one = len(numbers) == 1
    name = name.replace("multiples of", "a multiple of") if one or quantifier == "any" else name
    if quantifier == "any":
        return f"any of {' and '.join(texts)} is {name}"
    is_pair = not side and len(numbers) == PAIR
    return f"{' and '.join(texts)} {'is' if one else 'are' if is_pair else 'are all'} {name}"


def _of_number(
    words: str, number: Callable[[Array, Array], Array], rows: tuple[Array, Array], out: Array
) -> Iterator[Skip]:
    """Yield that a number is what it is in all blocks that are left out, at most the greatest, or more."""
    values = number(*rows)
    hit, missed = values[out], values[~out]
    ways: list[tuple[str, str, int, Test]] = []
    if hit.min() == hit.max():
        ways.append(("is", "is {}", int(hit[0]), lambda v: v == hit[0]))
    if hit.max() < missed.min():
        ways.append(("at_most", "is {} or less", int(hit.max()), lambda v: v <= hit.max()))
    if hit.min() > missed.max():
        ways.append(("at_least", "is {} or more", int(hit.min()), lambda v: v >= hit.min()))
    for key, text, limit, test in ways:

        def holds(x: Array, y: Array, test: Test = test) -> Array:
            return np.asarray(test(number(x, y)))

        said = PLAIN.get(words, "") if key == "is" and limit == 0 else ""
        yield Skip({"number": words, key: limit}, said or f"{words} {text.format(limit)}", holds, number)
