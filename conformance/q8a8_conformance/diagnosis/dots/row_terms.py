"""The terms of a row: which codes of x meet which of y, under whose scales, and how often.

A dot product is linear in the codes and in the scales of each block of both rows. So a row of right terms is
one whose sum is right under two choices of all of them, and a wrong one is halved until single blocks of x
are left whose terms are others. Of such a block it is measured which blocks of y it meets, and of which
blocks the scales are by which that is multiplied: each changed by itself. Codes are small, scales powers of
two, so that no sum rounds, in whatever order it is added.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from q8a8_conformance.inputs import dot_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from q8a8_conformance.diagnosis.dots.bench import Bench
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call

MOST_OFTEN, MOST, WRONG = 32, 8, 60
"""How often a term may be counted, how many a block may have a part in, and blocks that are measured."""

SPAN, LAST = 8, 2
"""Blocks that must be alike to be told together, and measured ones that others may be like."""

BASE = 7
"""Exponents of scales that are a digit of a block's number."""


SHORT, EXACT = 512, 22
"""Blocks of rows, and bits of sums, in which scales have four exponents."""


class Term(NamedTuple):
    """Blocks of a row: those of the scale of x and of y, and of the codes of x and of y."""

    x_scale: int
    y_scale: int
    x: int
    y: int


Shape = frozenset[tuple[Term, int]]
"""The terms that a block of x has a part in, by how far away their blocks are, with how often."""

OWN: Shape = frozenset({(Term(0, 0, 0, 0), 1)})
LOST: Shape = frozenset()
TWICE: Shape = frozenset({(Term(0, 0, 0, 0), 2)})


class Values(NamedTuple):
    """Codes of x and y, and exponents of the scales of x and of y, int [nb] each."""

    x: Array
    y: Array
    x_scale: Array
    y_scale: Array


class UnknownError(Exception):
    """A row's terms are no sum of products of a block's codes with others', under two scales."""


class Row:
    """A row of one length.

    Parameters
    ----------
    bench
        Makes the calls.
    nb
        Blocks.
    known
        Shapes of terms that blocks of other rows have; those that are found are added.
    """

    def __init__(self, bench: Bench, nb: int, known: dict[Shape, None] | None = None) -> None:
        self._bench, self.nb = bench, nb
        self._known = {} if known is None else known
        rng = dot_rows.generator("row terms", nb)
        most, base = greatest_code(bench, nb), _base(bench, nb)
        self._x = rng.integers(1, most + 1, nb)
        codes = (rng.integers(1, most + 1, (2, nb)) for _ in itertools.count())
        self._coarse = [Values(x, y, *of) for (x, y), of in zip(codes, _digits(nb, base), strict=False)]
        # (Of one block alone sums are small.)
        alone = _codes(nb, min(bench.greatest, 11))
        self._fine = [
            Values(np.full(nb, 3), y, dx - BASE // 2, dy - BASE // 2)
            for y, (dx, dy) in zip(alone, _digits(nb, BASE), strict=False)
        ]
        self._measured: list[tuple[int, Shape]] = []

    def calls(self) -> list[Call]:
        """Return the calls on the whole row: between them, all scales of near blocks differ."""
        return [self._bench.call(*self._rows(of)) for of in self._coarse]

    @property
    def is_right(self) -> bool:
        """Whether the sums of the whole row are right."""
        made = self._coarse[:-1]
        if self.nb <= BASE**2:
            made += [
                one._replace(x=rows.x % 3 + 1, y=rows.y % 3 + 1)
                for one, rows in zip(self._fine, made, strict=False)
            ]
        return all(self._value(one) == self._sum(one, OWN) for one in made)

    def shapes(self) -> dict[Shape, Array]:
        """Return the blocks of x whose terms are not their own alone, by the shapes of their terms: int [k].

        Raises
        ------
        UnknownError
            They are no such terms, or too many.
        """
        found: dict[Shape, list[Array]] = {}
        if self.nb <= BASE**2:
            for block in range(self.nb):
                self._look(block, block + 1, found)
        elif not self.is_right:
            self._look(0, self.nb, found)
        shapes = {shape: np.concatenate(parts) for shape, parts in found.items()}
        if not self._gives(shapes):
            raise UnknownError
        return shapes

    def _gives(self, shapes: dict[Shape, Array]) -> bool:
        """Return whether terms give the sums of the whole row."""
        where = {shape: np.isin(np.arange(self.nb), blocks) for shape, blocks in shapes.items()}
        own = ~np.any([np.zeros(self.nb, np.bool_), *where.values()], axis=0)
        return all(
            self._value(one)
            == sum(self._sum(one._replace(x=one.x * at), shape) for shape, at in ((OWN, own), *where.items()))
            for one in self._coarse
        )

    def _rows(self, of: Values) -> tuple[Array, Array]:
        of_x, of_y = (np.ldexp(1.0, exponents) for exponents in (of.x_scale, of.y_scale))
        return self._bench.row(of.x, of_x), self._bench.full(of.y, of_y)

    def _value(self, of: Values) -> float:
        return self._bench.value(*self._rows(of))

    def _sum(self, of: Values, shape: Shape) -> float:
        """Return what blocks whose codes of x are not zero add up to, each with terms of a shape.

        NaN where there are no such blocks.
        """
        total, blocks = 0.0, np.flatnonzero(of.x)
        for term, times in shape:
            at = [blocks + shift for shift in term]
            if any(((each < 0) | (each >= self.nb)).any() for each in at):
                return math.nan
            d = np.ldexp(1.0, of.x_scale[at[0]] + of.y_scale[at[1]])
            total += times * float((of.x[at[2]] * of.y[at[3]] * d).sum())
        return total

    def _look(self, start: int, stop: int, found: dict[Shape, list[Array]]) -> None:
        """Find the terms of the blocks of x between two."""
        single, blocks = stop - start == 1, np.arange(self.nb)
        here = (blocks >= start) & (blocks < stop)
        made = [one._replace(x=one.x * here) for one in (self._fine if single else self._coarse)]
        values: list[float] = []

        def is_given(shape: Shape) -> bool:
            for number, one in enumerate(made):
                if number == len(values):
                    values.append(self._value(one))
                if values[number] != self._sum(one, shape):
                    return False
            return True

        if is_given(OWN):
            return
        # (Of few blocks some may be alike by chance.)
        others = (LOST, TWICE, *(self._known if single or stop - start >= SPAN else ()))
        alike = self._as_before(start) if single else ()
        shape = next(filter(is_given, (*others, *alike)), None)
        if shape is None and single:
            shape = self._terms(start)
            if not is_given(shape):
                raise UnknownError
            self._known[shape] = None
            self._measured.append((start, shape))
        if shape is not None:
            found.setdefault(shape, []).append(np.arange(start, stop))
            return
        count, middle = sum(map(len, found.values())), (start + stop) // 2
        self._look(start, middle, found)
        self._look(middle, stop, found)
        if sum(map(len, found.values())) == count:
            raise UnknownError  # (Each half is right, the whole is not: sums round.)

    def _as_before(self, block: int) -> Iterator[Shape]:
        """Yield terms with parts of the same blocks as the last that were measured, or of mirrored ones."""
        for at, shape in self._measured[-LAST:]:
            for step in (1, 2):
                yield frozenset(
                    (Term(*(each and each + step * (at - block) for each in term)), times)
                    for term, times in shape
                )

    def _terms(self, block: int) -> Shape:
        """Measure the terms in which one block of x has a part."""
        if len(self._measured) > WRONG:
            raise UnknownError
        x = (np.arange(self.nb) == block).astype(np.int64)
        none = np.zeros(self.nb, np.int64)
        found: Counter[Term] = Counter()
        every_y = self._parts(lambda mask: self._value(Values(x, mask, none, none)), block)
        for y, times in every_y.items():
            code = (np.arange(self.nb) == y).astype(np.int64)

            def more(x_scale: Array, y_scale: Array, code: Array = code, times: int = times) -> float:
                return self._value(Values(x, code, x_scale, y_scale)) - times

            of_x = self._parts(partial(more, y_scale=none), block)
            of_y = self._parts(partial(more, none), block)
            if sum(of_x.values()) != times or sum(of_y.values()) != times:
                raise UnknownError
            for a, b in itertools.product(of_x, of_y):
                both = min(of_x[a], of_y[b])
                if min(len(of_x), len(of_y)) > 1:
                    one, other = (np.arange(self.nb) == each for each in (a, b))
                    both = round(more(one.astype(np.int64), other.astype(np.int64))) - of_x[a] - of_y[b]
                found[Term(a, b, block, y)] += both
        shifted = ((Term(*(each - block for each in term)), times) for term, times in found.items() if times)
        return frozenset(shifted)

    def _parts(self, measure: Callable[[Array], float], near: int) -> dict[int, int]:
        """Return of which blocks a number is the sum, and how much is of each.

        `measure` returns what some blocks, int [nb] of 0 and 1, have of it.
        """
        found: dict[int, int] = {}

        def look(blocks: Array) -> int:
            mask = np.zeros(self.nb, np.int64)
            mask[blocks] = 1
            value = measure(mask)
            if not abs(value) <= MOST_OFTEN or value != round(value) or len(found) > MOST:
                raise UnknownError
            if value and len(blocks) == 1:
                found[int(blocks[0])] = round(value)
            elif value:
                for half in np.array_split(blocks, 2):
                    look(half)
            return round(value)

        nearby = [b for b in (near, near - 1, near + 1) if 0 <= b < self.nb]
        left = round(self._whole(measure))
        for block in nearby:
            left -= look(np.array([block]))
            if not left:
                return found
        look(np.setdiff1d(np.arange(self.nb), nearby))
        return found

    def _whole(self, measure: Callable[[Array], float]) -> float:
        value = measure(np.ones(self.nb, np.int64))
        if not abs(value) <= MOST_OFTEN or value != round(value):
            raise UnknownError
        return value


def greatest_code(bench: Bench, nb: int) -> int:
    """Return the largest code of rows of a length whose sums do not round; none where it is less than 2."""
    largest = 4 ** (_base(bench, nb) - 1) * max(nb, 1)
    return min(bench.greatest, math.isqrt(2 ** (bench.bits - 1) // largest))


def _base(bench: Bench, nb: int) -> int:
    """Return how many exponents scales of rows of a length may have, to be exact."""
    return 4 if nb <= SHORT and bench.bits >= EXACT else 2


def _codes(nb: int, most: int) -> Iterator[Array]:
    """Yield codes, int [nb] from 1 to `most`, that differ where blocks are near each other."""
    blocks = np.arange(nb)
    for step in itertools.count(1):
        yield (step * blocks + blocks // most) % most + 1


def _digits(nb: int, base: int) -> Iterator[tuple[Array, Array]]:
    """Yield exponents of scales of x and y, int [nb] each, of which some differ where blocks do."""
    count = 2
    while base**count < nb:
        count += 1
    blocks = np.arange(nb)
    digits = [blocks // base**k % base for k in range(count)]
    for k in range(count):
        yield digits[k], digits[(k + 1) % count]
    # (Other scales may have the same product, or twice it, as if a term were counted twice.)
    yield base - 1 - digits[0], digits[1]
    yield base - 1 - digits[0], base - 1 - digits[1]


def terms_of(shapes: dict[Shape, Array], nb: int) -> tuple[Array, Sequence[Term]]:
    """Return how often each block's own term is counted, int [nb], and all other terms."""
    own, others = np.ones(nb, np.int64), list[Term]()
    for shape, blocks in shapes.items():
        own[blocks] = 0
        for shift, times in shape:
            if not any(shift):
                own[blocks] = times
                continue
            others += (Term(*(b + each for each in shift)) for b in blocks.tolist() for _ in range(times))
    return own, others
