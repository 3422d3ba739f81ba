"""Plain statements about the units of a quantizer's calls, from which conditions are put together.

A statement is a number of each element, or of its block as a whole: a place, a remainder, a sign. From the
numbers at which something is seen follow the tests that all of them pass: one number, a few of them, a limit,
a remainder; each has words, and a cost: how much it says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.diagnosis.quantizers.block_values import NAMED, largest_at
from q8a8_conformance.diagnosis.quantizers.numbers import (
    EVEN,
    LEAST_EXPONENT,
    Test,
    compared,
    ends,
    flag,
    lanes,
    limits,
    powers,
    remainders,
    signs,
)
from q8a8_conformance.diagnosis.quantizers.states import Condition
from q8a8_conformance.inputs.arrays import Array

if TYPE_CHECKING:
    from q8a8_conformance.diagnosis.quantizers.cases import Case

Numbers = Callable[..., Array]

F32 = np.float32

NONE = 9
"""What stands for the number of a neighbour that there is not."""

MODULI = (EVEN, 3, 4, 5, 6, 8, 16, 32)
GROUPS = (2, 3, 4, 6, 8, 16, 32)


@dataclass(frozen=True)
class Statement:
    """A number of units.

    Attributes
    ----------
    name
        What it is.
    of
        Returns it for a call: int [n, s], or [n, 1] of blocks.
    tests
        Yields what given numbers [k] all pass, the plainest first.
    of_element
        Whether it is about elements, and says nothing of scales.
    """

    name: str
    of: Numbers
    tests: Callable[[Array], Iterator[Test]]
    of_element: bool = False

    def numbers(self, case: Case) -> Array:
        """Return the numbers of a call: int [n, s]."""
        if self.name not in case.kept:
            case.kept[self.name] = np.broadcast_to(np.asarray(self.of(case)), case.x.shape)
        return case.kept[self.name]

    def condition(self, test: Test) -> Condition:
        """Return a test as a condition."""
        return Condition(
            test.text, test.data, lambda case: test.holds(self.numbers(case)), not self.of_element, test.cost
        )


@cache
def statements(*, is_row: bool) -> tuple[Statement, ...]:
    """Return every statement."""
    return (*_places(is_row=is_row), *_of_values(is_row=is_row), *_of_elements(is_row=is_row))


# Places.


def _places(*, is_row: bool) -> Iterator[Statement]:
    noun, length = ("block", "nb") if is_row else ("element", "size")
    is_of = not is_row
    but = f"in every {noun} but the"
    yield _flag("first", lambda c: _number(c) == 0, f"in the first {noun}", f"{but} first", of_element=is_of)
    yield _flag("last", lambda c: _left(c) == 0, f"in the last {noun}", f"{but} last", of_element=is_of)
    for m in GROUPS:
        words = f"in whole groups of {m} {noun}s", f"in the {noun}s beyond a multiple of {m}"
        yield _flag(f"whole-{m}", partial(_whole, m=m), *words, of_element=is_of)
    for m in MODULI:
        yield Statement("length", _length, remainders("length", f"where {length} % {{}} is {{}}".format, m))
        rests = remainders("number", f"in {noun}s whose number modulo {{}} is {{}}".format, m)
        yield Statement("number", _number, rests, is_of)
    yield Statement("length", _length, limits("length", f"where {length} {{}}"))
    three = (f"in {noun} {{}}", f"in every {noun} from {noun} {{}} on", f"in every {noun} up to {noun} {{}}")
    yield Statement("number", _number, ends("number", three, 0), is_of)
    three = f"in the {noun} {{}} before the last", f"{but} last {{}}", f"in the last {{}} {noun}s"
    yield Statement("left", _left, ends("left", three, 1), is_of)
    for m in (2, 4, 8, 16, 32):
        words = f"in every second group of {m} {noun}s", f"in every first of two groups of {m} {noun}s"
        yield _flag(f"tile-{m}", partial(lambda m, c: _number(c) // m % 2, m), *words, of_element=is_of)


def _flag(name: str, of: Numbers, yes: str, no: str = "", *, of_element: bool = False) -> Statement:
    """Return a statement of what is so, or not: the words for both."""
    return Statement(name, of, flag(name, yes, no), of_element)


def _number(case: Case) -> Array:
    if not case.is_row:
        return np.arange(case.size)[np.newaxis]
    return np.concatenate([np.arange(n) for _, n in case.rows])[:, np.newaxis]


def _left(case: Case) -> Array:
    if not case.is_row:
        return np.arange(case.size)[np.newaxis, ::-1]
    return np.concatenate([np.arange(n)[::-1] for _, n in case.rows])[:, np.newaxis]


def _length(case: Case) -> Array:
    if not case.is_row:
        return np.full((1, 1), case.size)
    return np.concatenate([np.full(n, n) for _, n in case.rows])[:, np.newaxis]


def _whole(case: Case, m: int) -> Array:
    n = _length(case)
    return np.asarray(_number(case) < n - n % m)


# Values of blocks.


def _of_values(*, is_row: bool) -> Iterator[Statement]:
    for one in NAMED:
        yield _flag(one.data["values"], one.holds, one.text)
    for at, which in ((0, "first"), (-1, "last")):
        name = f"{which}-element"
        yield Statement(
            name, lambda case, at=at: np.sign(case.x[:, at, np.newaxis]), signs(name, f"the {which} element")
        )
    yield _flag(
        "scale-tie", lambda c: np.abs(_rounding(c)) == 1, "where amax / 127 is half-way between two halves"
    )
    for number, how in ((1, "up"), (-1, "down"), (0, "not at all")):
        words = f"where the scale is rounded {how}", "where the scale is rounded" if not number else ""
        yield _flag(f"scale-{how}", lambda c, number=number: np.sign(_rounding(c)) == number, *words)
    yield _flag("scale-power", lambda c: _bits(c, 0x3FF) == 0, "where the scale's fraction is 0")
    yield _flag(
        "scale-full", lambda c: _bits(c, 0x3FF) == 0x3FF, "where the bits of the scale's fraction are all set"
    )
    largest = "where the largest element"
    if not is_row:
        for m in GROUPS:
            words = f"{largest} is in whole groups of {m}", f"{largest} is beyond a multiple of {m}"
            yield _flag(
                f"largest-whole-{m}", lambda case, m=m: _largest(case) < case.size - case.size % m, *words
            )
        return
    for m in (2, 4, 8, 16):
        rests = remainders("largest-at", f"{largest}'s number modulo {{}} is {{}}".format, m)
        yield Statement("largest-at", _largest, rests)
    yield Statement("largest-at", _largest, limits("largest-at", f"{largest}'s number {{}}"))
    of_scale = partial(_exponent_of, number=lambda c: c.scales.view(np.float16))
    yield Statement("scale-exponent", of_scale, partial(powers, "scale", "the scale"))
    of_quotient = partial(_exponent_of, number=lambda c: c.amax / F32(127))
    yield Statement("quotient-exponent", of_quotient, partial(powers, "quotient", "amax / 127"))
    same = "where the first element is that of the block before"
    yield _flag("first-same", lambda c: _compared(c, lambda c: c.x[:, 0], -1) == 0, same)
    yield _flag("zero-so-far", _zero_so_far, "where a block before it in the row has the scale 0")
    for offset, noun in ((-1, "the block before"), (1, "the block after")):
        for what, of in (("amax", lambda c: c.amax), ("scale", lambda c: c.scales)):
            tests = compared(f"{what}-{offset}", f"where the {what} of {noun} is")
            yield Statement(f"{what}-{offset}", partial(_compared, of=of, offset=offset), tests)
        words = f"where the scale of {noun} is 0", f"where the scale of {noun} is not 0"
        yield _flag(f"zero-{offset}", partial(_zero_beside, offset=offset), *words)


def _rounding(case: Case) -> Array:
    """Return by how much the scale is above amax / 127: [n, 1], 1 for half of what is between halves."""
    h = case.scales.view(np.float16)
    d = (case.amax / F32(127)).astype(np.float64)
    with np.errstate(all="ignore"):
        above, below = (np.nextafter(h, np.float16(end)).astype(np.float64) for end in (np.inf, 0))
        h = h.astype(np.float64)
        apart = np.where(h < d, (h - d) / (above - h), (h - d) / (h - below))
    return np.asarray(np.nan_to_num(2 * apart))[:, np.newaxis]


def _bits(case: Case, mask: int) -> Array:
    return np.asarray(case.scales & mask)[:, np.newaxis]


def _largest(case: Case) -> Array:
    return largest_at(case)[:, np.newaxis]


def _exponent_of(case: Case, number: Numbers) -> Array:
    numbers = np.asarray(number(case), np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):  # (Numbers of what has none are NaN.)
        return np.fmax(np.floor(np.log2(numbers)), LEAST_EXPONENT)[:, np.newaxis]


def _beside(case: Case, values: Array, offset: int) -> Array:
    """Return the values of the blocks beside others; NONE where a row has none there."""

    def of(row: Array) -> Array:
        moved = np.roll(row, -offset)
        moved[-1 if offset > 0 else 0] = NONE
        return moved

    return case.by_row(of, values)


def _compared(case: Case, of: Numbers, offset: int) -> Array:
    """Return the sign of what the numbers of the blocks beside others are greater by."""
    own = of(case).astype(np.float64)
    none = _beside(case, np.zeros(len(case.x)), offset) == NONE
    return np.where(none, NONE, np.sign(_beside(case, own, offset) - own))[:, np.newaxis].astype(np.int64)


def _zero_so_far(case: Case) -> Array:
    zero = case.by_row(np.cumsum, (case.scales == 0).astype(np.int64))
    return np.asarray(((zero - (case.scales == 0)) > 0)[:, np.newaxis], np.int64)


def _zero_beside(case: Case, offset: int) -> Array:
    return _beside(case, (case.scales == 0).astype(np.int64), offset)[:, np.newaxis]


# Elements.

NEIGHBOURS: tuple[tuple[str, Callable[[Array], Array]], ...] = (
    ("the other element of its pair", lambda j: j ^ 1),
    ("the element before", lambda j: j - 1),
    ("the element after", lambda j: j + 1),
    ("the element two before", lambda j: j - 2),
    ("the element two after", lambda j: j + 2),
    ("the element 16 from it", lambda j: j ^ 16),
    ("the element 8 from it", lambda j: j ^ 8),
    ("the element 4 from it", lambda j: j ^ 4),
)


def _of_elements(*, is_row: bool) -> Iterator[Statement]:
    if is_row:
        yield Statement("elements", _element, lanes, of_element=True)
        for m in (4, 8, 16):
            words = "in elements whose number modulo {} is {}".format
            yield Statement("elements", _element, remainders("elements", words, m), of_element=True)
    yield Statement("sign", lambda c: np.sign(c.x), signs("sign", "the element", cost=2), of_element=True)
    yield Statement("code", lambda c: np.sign(c.codes), signs("code", "the code", cost=2), of_element=True)
    text = "where the product is rounded {} in magnitude".format
    yield _flag("rounded", _rounded_up, text("up"), text("down"), of_element=True)
    tie = "where the product is half-way between two integers"
    yield _flag("tie", lambda c: np.abs(c.scaled) % 1 == F32(0.5), tie, of_element=True)
    for m in (4, 8, 16):
        words = partial("where the code's magnitude modulo {} is {}".format)
        rests = remainders("magnitudes", words, m)
        yield Statement("magnitudes", lambda c: np.abs(c.codes), rests, of_element=True)
    yield _flag("odd", lambda c: c.codes % 2, "of odd codes", "of even codes", of_element=True)
    yield Statement("codes", lambda c: c.codes, limits("codes", "where the code {}"), of_element=True)
    sizes = limits("magnitudes", "where the code's magnitude {}")
    yield Statement("magnitudes", lambda c: np.abs(c.codes), sizes, of_element=True)
    for number, (noun, of) in enumerate(NEIGHBOURS):
        name = f"neighbour-{number}"
        yield Statement(name, partial(_neighbour, of=of), signs(name, f"the code of {noun}"), of_element=True)
        either = f"where the code of {noun} is odd", f"where the code of {noun} is even"
        yield _flag(f"{name}-odd", partial(_neighbour, of=of, odd=True), *either, of_element=True)


def _rounded_up(case: Case) -> Array:
    """Return whether a code is greater in magnitude than its product: 1, or 0; NONE where it is the same."""
    apart = np.abs(case.codes) - np.abs(case.scaled)
    return np.where(apart == 0, NONE, apart > 0)


def _element(case: Case) -> Array:
    return np.arange(case.x.shape[1])[np.newaxis]


def _neighbour(case: Case, of: Callable[[Array], Array], *, odd: bool = False) -> Array:
    numbers = np.arange(case.x.shape[1])
    at = of(numbers)
    inside = (at >= 0) & (at < numbers.size)
    values = case.codes % 2 if odd else np.sign(case.codes)
    return np.where(inside, values[:, np.where(inside, at, 0)], NONE).astype(np.int64)
