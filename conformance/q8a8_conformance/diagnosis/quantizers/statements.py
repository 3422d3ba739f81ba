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

Numbers = Callable[["Case"], Array]

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
    of, is_of = partial(_number, is_row=is_row), not is_row
    yield Statement(
        "first",
        lambda c: of(c) == 0,
        flag("first", f"in the first {noun}", f"in every {noun} but the first"),
        is_of,
    )
    yield Statement(
        "last",
        lambda c: _left(c, is_row=is_row) == 0,
        flag("last", f"in the last {noun}", f"in every {noun} but the last"),
        is_of,
    )
    for m in GROUPS:
        yield Statement(
            f"whole-{m}", partial(_whole, m=m, is_row=is_row),
            flag(
                f"whole-{m}", f"in whole groups of {m} {noun}s", f"in the {noun}s beyond a multiple of {m}"
            ), is_of,
        )  # fmt: skip
    for m in MODULI:
        yield Statement(
            "length", _length, remainders("length", lambda m, rests: f"where {length} % {m} is {rests}", m)
        )
        yield Statement(
            "number", of,
            remainders("number", lambda m, rests: f"in {noun}s whose number modulo {m} is {rests}", m),
            is_of,
        )  # fmt: skip
    yield Statement("length", _length, limits("length", f"where {length} {{}}"))
    words = (f"in {noun} {{}}", f"in every {noun} from {noun} {{}} on", f"in every {noun} up to {noun} {{}}")
    yield Statement("number", of, ends("number", words, 0), is_of)
    words = (
        f"in the {noun} {{}} before the last", f"in every {noun} but the last {{}}",
        f"in the last {{}} {noun}s",
    )  # fmt: skip
    yield Statement("left", partial(_left, is_row=is_row), ends("left", words, 1), is_of)
    for m in (2, 4, 8, 16, 32):
        yield Statement(
            f"tile-{m}", partial(_tile, m=m, is_row=is_row),
            flag(
                f"tile-{m}", f"in every second group of {m} {noun}s",
                f"in every first of two groups of {m} {noun}s",
            ), is_of,
        )  # fmt: skip


def _tile(case: Case, *, m: int, is_row: bool) -> Array:
    return np.asarray(_number(case, is_row=is_row) // m % 2)


def _largest_in_whole(case: Case, *, m: int) -> Array:
    return np.asarray(largest_at(case)[:, np.newaxis] < case.size - case.size % m)


def _number(case: Case, *, is_row: bool) -> Array:
    if not is_row:
        return np.arange(case.size)[np.newaxis]
    return np.concatenate([np.arange(n) for _, n in case.rows])[:, np.newaxis]


def _left(case: Case, *, is_row: bool) -> Array:
    if not is_row:
        return np.arange(case.size)[np.newaxis, ::-1]
    return np.concatenate([np.arange(n)[::-1] for _, n in case.rows])[:, np.newaxis]


def _length(case: Case) -> Array:
    if not case.is_row:
        return np.full((1, 1), case.size)
    return np.concatenate([np.full(n, n) for _, n in case.rows])[:, np.newaxis]


def _whole(case: Case, *, m: int, is_row: bool) -> Array:
    n = _length(case)
    return np.asarray(_number(case, is_row=is_row) < n - n % m)


# Values of blocks.


def _of_values(*, is_row: bool) -> Iterator[Statement]:
    for one in NAMED:
        name = one.data["values"]
        yield Statement(name, one.holds, flag(name, one.text))
    yield Statement(
        "first-element", lambda c: np.sign(c.x[:, :1]), signs("first-element", "the first element")
    )
    yield Statement("last-element", lambda c: np.sign(c.x[:, -1:]), signs("last-element", "the last element"))
    if not is_row:
        for m in GROUPS:
            yield Statement(
                f"largest-whole-{m}", partial(_largest_in_whole, m=m),
                flag(f"largest-whole-{m}", f"where the largest element is in whole groups of {m}",
                      f"where the largest element is beyond a multiple of {m}"),
            )  # fmt: skip
        return
    for m in (2, 4, 8, 16):
        yield Statement(
            "largest-at", lambda c: largest_at(c)[:, np.newaxis],
            remainders(
                "largest-at", lambda m, rests: f"where the largest element's number modulo {m} is {rests}", m
            ),
        )  # fmt: skip
    yield Statement(
        "largest-at",
        lambda c: largest_at(c)[:, np.newaxis],
        limits("largest-at", "where the largest element's number {}"),
    )
    for name, noun, number in (
        ("scale", "the scale", lambda c: c.scales.view(np.float16)),
        ("quotient", "amax / 127", lambda c: c.amax / F32(127)),
    ):
        of = partial(_exponent_of, number=number)
        yield Statement(f"{name}-exponent", of, partial(powers, name, noun))
    yield Statement(
        "zero-so-far",
        _zero_so_far,
        flag("zero-so-far", "where a block before it in the row has the scale 0"),
    )
    for offset, noun in ((-1, "the block before"), (1, "the block after")):
        yield Statement(
            f"amax-{offset}", partial(_compared, offset=offset),
            compared(f"amax-{offset}", f"where the amax of {noun} is"),
        )  # fmt: skip
        yield Statement(
            f"scale-{offset}", partial(_compared_scales, offset=offset),
            compared(f"scale-{offset}", f"where the scale of {noun} is"),
        )  # fmt: skip
        yield Statement(
            f"zero-{offset}", partial(_zero_beside, offset=offset),
            flag(f"zero-{offset}", f"where the scale of {noun} is 0", f"where the scale of {noun} is not 0"),
        )  # fmt: skip


def _exponent_of(case: Case, number: Numbers) -> Array:
    numbers = np.asarray(number(case), np.float64)
    with np.errstate(divide="ignore"):
        return np.maximum(np.floor(np.log2(numbers)), LEAST_EXPONENT)[:, np.newaxis]


def _beside(case: Case, values: Array, offset: int) -> Array:
    """Return the values of the blocks beside others; NONE where a row has none there."""

    def of(row: Array) -> Array:
        moved = np.roll(row, -offset)
        moved[-1 if offset > 0 else 0] = NONE
        return moved

    return case.by_row(of, values)


def _compared(case: Case, offset: int) -> Array:
    beside = _beside(case, case.amax.astype(np.float64), offset)
    none = _beside(case, np.zeros(len(case.x)), offset) == NONE
    return np.where(none, NONE, np.sign(beside - case.amax))[:, np.newaxis].astype(np.int64)


def _zero_so_far(case: Case) -> Array:
    zero = case.by_row(np.cumsum, (case.scales == 0).astype(np.int64))
    return np.asarray(((zero - (case.scales == 0)) > 0)[:, np.newaxis], np.int64)


def _zero_beside(case: Case, offset: int) -> Array:
    return _beside(case, (case.scales == 0).astype(np.int64), offset)[:, np.newaxis]


def _compared_scales(case: Case, offset: int) -> Array:
    own = case.scales.astype(np.int64)
    none = _beside(case, np.zeros_like(own), offset) == NONE
    return np.where(none, NONE, np.sign(_beside(case, own, offset) - own))[:, np.newaxis]


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
    text = "where the product is rounded {} in magnitude"
    rounded = flag("rounded", text.format("up"), text.format("down"))
    yield Statement("rounded", _rounded_up, rounded, of_element=True)
    for m in (4, 8, 16):
        words = partial("where the code's magnitude modulo {} is {}".format)
        rests = remainders("magnitudes", words, m)
        yield Statement("magnitudes", lambda c: np.abs(c.codes), rests, of_element=True)
    yield Statement(
        "odd", lambda c: c.codes % 2, flag("odd", "of odd codes", "of even codes"), of_element=True
    )
    yield Statement("codes", lambda c: c.codes, limits("codes", "where the code {}"), of_element=True)
    yield Statement(
        "magnitudes",
        lambda c: np.abs(c.codes),
        limits("magnitudes", "where the code's magnitude {}"),
        of_element=True,
    )
    for number, (noun, of) in enumerate(NEIGHBOURS):
        name = f"neighbour-{number}"
        yield Statement(name, partial(_neighbour, of=of), signs(name, f"the code of {noun}"), of_element=True)
        yield Statement(
            f"{name}-odd",
            partial(_neighbour, of=of, odd=True),
            flag(f"{name}-odd", f"where the code of {noun} is odd", f"where the code of {noun} is even"),
            of_element=True,
        )


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
