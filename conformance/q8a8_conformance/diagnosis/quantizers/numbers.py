"""What numbers of units have in common: one number, a few, a limit, a remainder, a sign, with the words.

Each function takes words, and returns what yields the tests that given numbers [k] all pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from q8a8_conformance.inputs.arrays import Array
from q8a8_conformance.reveal.quantizers.calls import BLOCK
from q8a8_conformance.reveal.quantizers.words import either, listed

Holds = Callable[[Array], Array]
Tests = Callable[[Array], "Iterator[Test]"]

EVEN = 2
LISTED = 12
"""Elements that are listed where they follow no step."""

LEAST_EXPONENT = -40
"""What stands for the exponent of a zero."""


@dataclass(frozen=True)
class Test:
    """What numbers pass, `holds` of them: words that follow an effect's, parameters, and what it costs."""

    text: str
    data: dict[str, Any]
    cost: int
    holds: Holds


def flag(name: str, yes: str, no: str = "") -> Tests:
    """Return tests of what is so, or not: 1 or 0, with the words for both."""

    def tests(values: Array) -> Iterator[Test]:
        if (values == 1).all():
            yield Test(yes, {name: True}, 2, lambda of: np.asarray(of == 1))
        elif no and (values == 0).all():
            yield Test(no, {name: False}, 2, lambda of: np.asarray(of == 0))

    return tests


def ends(name: str, words: tuple[str, str, str], more: int) -> Tests:
    """Return tests of one number, of a least and of a greatest one; the last one's words have it and more.

    (What all numbers pass says nothing, and is left out elsewhere.)
    """

    def tests(values: Array) -> Iterator[Test]:
        low, high = int(values.min()), int(values.max())
        if low == high:
            yield Test(words[0].format(low), {name: low}, 3, lambda of: np.asarray(of == low))
            return
        text = words[1].format(low)
        yield Test(text, {name: {"least": low}}, 4, lambda of: np.asarray(of >= low))
        text = words[2].format(high + more)
        yield Test(text, {name: {"greatest": high}}, 4, lambda of: np.asarray(of <= high))

    return tests


def limits(name: str, words: str) -> Tests:
    """Return tests of one number, and of limits: `words` gives them for what follows a noun."""
    return ends(name, (words.format("is {}"), words.format(">= {}"), words.format("<= {}")), 0)


def remainders(name: str, words: Callable[[int, str], str], m: int) -> Tests:
    """Return tests of remainders by m: `words` gives them for m and what follows "is"."""

    def tests(values: Array) -> Iterator[Test]:
        rests = np.unique(values % m).tolist()
        if len(rests) <= m // 2 or len(rests) == m - 1:
            (other, *_) = {*range(m)} - {*rests}
            text = words(m, either(rests) if len(rests) <= m // 2 else f"not {other}")
            data = {name: {"modulus": m, "remainders": rests}}
            cost = 1 + min(len(rests), 2 + m - len(rests)) + (m > EVEN)
            yield Test(text, data, cost, lambda of: np.isin(of % m, rests))

    return tests


def signs(name: str, noun: str, *, cost: int = 3) -> Tests:
    """Return tests of the signs of what a noun is: -1, 0 or 1."""
    words = ("negative", "0", "positive", "0 or positive", "0 or negative", "not 0")
    return _of_sign(name, f"where {noun} is", words, cost)


def compared(name: str, noun: str) -> Tests:
    """Return tests of which of two numbers is greater: -1, 0 or 1."""
    words = ("smaller", "the same", "greater", "as great or greater", "as great or smaller", "another")
    return _of_sign(name, noun, words, 3)


def _of_sign(name: str, begun: str, words: tuple[str, ...], cost: int) -> Tests:
    """Return tests of -1, 0, 1, of two of them, with words for (-1), (0), (1), (0, 1), (-1, 0), (-1, 1)."""
    named = dict(zip(((-1,), (0,), (1,), (0, 1), (-1, 0), (-1, 1)), words, strict=True))

    def tests(values: Array) -> Iterator[Test]:
        found = tuple(np.unique(values).tolist())
        if text := named.get(found):
            data = {name: list(found)}
            yield Test(f"{begun} {text}", data, cost + len(found) - 1, lambda of: np.isin(of, found))

    return tests


def powers(name: str, noun: str, values: Array) -> Iterator[Test]:
    """Yield limits that are powers of two: of numbers whose exponents are given, LEAST_EXPONENT for zero."""
    low, high = int(values.min()), int(values.max())
    least, beyond = (f"{2.0**number:g}" for number in (low, high + 1))
    data = {f"{name}-from": least, f"{name}-below": beyond}
    if low > LEAST_EXPONENT:
        yield Test(f"where {noun} >= {least}", {f"{name}-from": least}, 3, lambda of: np.asarray(of >= low))
    yield Test(f"where {noun} < {beyond}", {f"{name}-below": beyond}, 3, lambda of: np.asarray(of <= high))
    if low > LEAST_EXPONENT:
        text = f"where {noun} >= {least} and < {beyond}"
        yield Test(text, data, 5, lambda of: np.asarray((of >= low) & (of <= high)))


def lanes(values: Array) -> Iterator[Test]:
    """Yield which elements of a block numbers are."""
    found = np.unique(values).tolist()
    steps = set(np.diff(found).tolist())
    if len(found) < BLOCK and (len(steps) <= 1 or len(found) <= LISTED):
        text = f"in element{'s' if len(found) > 1 else ''} {listed(found)} of a block"
        yield Test(text, {"elements": found}, 2 + (len(steps) > 1), lambda of: np.isin(of, found))
