"""Measuring where the outputs of products come from, shape by shape.

Blocks are numbered: of the products that are multiplied here every output shows a digit of the number of the
block of x, or of w, that meets one block of the other; or the exponent of the row whose scale it has. All of
this is exact, whatever the recipe and the order. A first product whose blocks all have different numbers and
scales shows whether anything is wrong with a shape.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from q8a8 import layout
from q8a8_conformance.diagnosis.products.sources import right, weights
from q8a8_conformance.inputs import calls
from q8a8_conformance.results.expected_product import outputs_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from q8a8_conformance.diagnosis.products.rules import Shape
    from q8a8_conformance.diagnosis.products.sources import Sources
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.reveal.quantizers.calls import AnySession


HELD = 2.0**22
"""What outputs hold before: more than any of them is, and less than 2^24, so that sums with it are exact."""

EXPONENTS = 7
"""Scales that are a digit of a row's number: 2^0 to 2^12."""

LENGTHS = 96
"""Numbers of blocks that are looked at."""

EVERY, ENDS = 24, 8
"""Blocks of a row that are all counted; at the ends of longer ones so many are."""

FEW = 12
"""Rows of x, at most, of which it is seen whose amax has an influence on which."""

SHORT = 32
"""Blocks of a row, at most, whose numbers may have six bits with exact sums; else they have three."""

BRIEF, PRODUCTS = 4, 3
"""Blocks of a row, at most, of which some may be alike by chance, and so many products are made."""


class Measuring:
    """Finds out where the outputs of products come from, shape by shape.

    Parameters
    ----------
    session
        With the kernel.
    """

    def __init__(self, session: AnySession) -> None:
        self._session = session
        self._known: dict[Shape, Sources] = {}
        self._counts: dict[int, dict[int, float]] = {}
        self._uneven: dict[int, list[dict[int, float]]] = {}

    def __call__(self, shape: Shape) -> Sources:
        """Measure a shape; the next time it is known."""
        if shape not in self._known:
            self._known[shape] = self._measure(shape)
        return self._known[shape]

    def amax(self, shape: Shape) -> Sources:
        """Measure whose amax decides the codes of which rows alone; none for rows of which it is not seen."""
        sources = right(shape)
        sources.amax = self._read_amax(sources)
        return sources

    def shapes(self) -> list[Shape]:
        """Return the shapes that were measured and have blocks."""
        return [shape for shape in self._known if shape[2]]

    def _measure(self, shape: Shape) -> Sources:
        (sources, own), nb = (right(shape), right(shape)), shape[2]
        if nb and self._is_right(sources):
            return sources
        outputs = self.multiply(sources, np.ones(nb), np.ones(nb))
        sources.kept, sources.added = outputs == HELD, outputs > HELD
        if not nb:
            return sources
        sources.totals = np.where(sources.kept, nb, outputs - np.where(sources.added, HELD, 0))
        whole = ~sources.kept & ~sources.added & (sources.totals == nb)
        any_beyond = self._read_starts(sources, whole)
        if any((of != own.starts[side])[of >= 0].any() for side, of in sources.starts.items()):
            whole &= sources.starts["x"] % nb + sources.starts["w"] % nb == 0
        elif any_beyond:
            return sources
        else:
            self._read_counts(sources, whole)
        if not sources.mixed.any() and not any(sources.periods):
            self._read_scales(sources, whole & ~sources.counted)
        return sources

    def multiply(
        self, sources: Sources, x: Array, w: Array, x_exponents: Array | int = 0, w_exponents: Array | int = 0
    ) -> Array:
        """Multiply rows with numbers in their blocks into outputs that hold `HELD`: float32 [n, m].

        x is [n, nb] and w [m, nb], or [nb] for rows that are all alike. The numbers stand beside 127 in each
        block of x. Blocks are multiplied by 2^exponents, of the same shapes.
        """
        m, n, nb = sources.shape
        elements, codes = np.zeros((n, nb, 32), np.float32), np.zeros((m, nb, 32), np.int8)
        elements[:, :, 0] = 127
        elements[:, :, 1], codes[:, :, 1] = x, w
        elements *= np.exp2(np.broadcast_to(x_exponents, (n, nb)))[..., np.newaxis].astype(np.float32)
        scales = np.exp2(np.broadcast_to(w_exponents, (m, nb))).astype(np.float16)
        return self.make(sources, layout.pack(scales, codes), elements.reshape(n, 32 * nb))

    def make(self, sources: Sources, w: Array, x: Array) -> Array:
        """Multiply w, blocks [m, nb], by x, float32 [n, 32·nb]: float32 [n, m]."""
        call = calls.mul_mat(w, x, out=calls.float_bytes(HELD) * (len(w) * len(x)))
        outputs = tuple(bytes(out) for out in self._session.call(call).outputs)
        sources.made.append((call, outputs))
        return outputs_of(call, outputs[0])

    def _is_right(self, sources: Sources) -> bool:
        """Return whether products of blocks that have other numbers and other scales are right."""
        n, nb = sources.shape[1:]
        for number in range(PRODUCTS if nb <= BRIEF else 1):
            (x, of_x), (w, of_w) = (
                _different(size, nb, number, side) for side, size in enumerate((n, sources.shape[0]))
            )
            right = np.ldexp(x, of_x) @ np.ldexp(w, of_w).T
            if not np.array_equal(self.multiply(sources, x, w, of_x, of_w), right):
                return False
        return True

    def _read_starts(self, sources: Sources, whole: Array) -> bool:
        """Read which blocks meet the first, and the last one, of each row of the other side.

        Return whether some rows begin elsewhere and end beyond the matrix.
        """
        nb, any_beyond = sources.shape[2], False
        for side in "xw":
            own = sources.rows if side == "x" else sources.columns
            first, valid = self.meeting(sources, side, 0)
            last, is_last = first + nb - 1, valid & self._meets(sources, side, first + nb - 1)
            if not is_last[whole].all():
                last, is_last = self.meeting(sources, side, nb - 1)
            sure = valid & is_last & whole & (last - first == nb - 1)
            # (What begins elsewhere may end beyond the matrix; sums of several numbers may be one.)
            beyond = valid & (first != own * nb) & (sources.totals < nb)
            is_seen = (whole | beyond | (sources.totals == 0)) & ~sources.kept & ~sources.added
            sources.starts[side] = np.where(is_seen, np.where(sure, first, -1), own * nb)
            any_beyond |= bool(beyond.any())
            taken = np.where(sure & (first % nb == 0), first // nb, own)
            # Blocks of one row that come again.
            again = whole & valid & is_last & (last - first != nb - 1) & (last // nb == first // nb)
            if again.any() and nb > 1 and not any(sources.periods):
                sources.periods = wraps(partial(self._numbered, sources), nb)
                taken = np.where(again, first // nb, taken)
            if side == "x":
                sources.rows, sources.scales = taken, taken
            else:
                sources.columns, sources.weight_scales = taken, taken
        return any_beyond

    def meeting(self, sources: Sources, side: str, block: int) -> tuple[Array, Array]:
        """Return which block of a side meets one of each row of the other, int [n, m], and where one does."""
        size = sources.shape["wx".index(side)] * sources.shape[2]
        return read_numbers(size, partial(self._beside, sources, side, block))

    def _beside(self, sources: Sources, side: str, block: int, digits: Array) -> Array:
        """Return the digits, of int [blocks], that come out beside one block alone."""
        nb = sources.shape[2]
        numbers, alone = digits.reshape(-1, nb) + 1, (np.arange(nb) == block).astype(int)
        return self.multiply(sources, *((numbers, alone) if side == "x" else (alone, numbers))) - 1

    def _meets(self, sources: Sources, side: str, blocks: Array) -> Array:
        """Return whether blocks, int [n, m], may be those that meet the last one of the other's row."""
        nb = sources.shape[2]
        if nb == 1:
            return np.ones(blocks.shape, bool)
        digits = np.arange(sources.shape["wx".index(side)] * nb) * 37 // 3 % BASE
        shown = self._beside(sources, side, nb - 1, digits)
        return np.asarray((blocks < len(digits)) & (digits[np.minimum(blocks, len(digits) - 1)] == shown))

    def _read_counts(self, sources: Sources, whole: Array) -> None:
        """Find the blocks that are not counted once, and the outputs with terms of other rows."""
        m, n, nb = sources.shape
        plain = ~sources.kept & ~sources.added
        other = plain & ~whole
        if other.any():
            x, w = weights(n), weights(m)
            ones = np.ones(nb)
            sources.weighted = {
                "x": self.multiply(sources, np.outer(x, ones), ones),
                "w": self.multiply(sources, ones, np.outer(w, ones)),
            }
            own = sources.weighted["x"] == sources.totals * x[:, np.newaxis]
            own &= sources.weighted["w"] == sources.totals * w
            sources.mixed = other & ~own & (sources.totals > nb)
            other &= own
            if other.any():
                values, times = np.unique(sources.totals[other], return_counts=True)
                sources.counted = other & (sources.totals == values[times.argmax()])
                sources.counts = self._counts_of(sources)
            return
        is_new = nb > 1 and nb not in self._counts and len(self._counts) < LENGTHS
        if is_new and plain.any() and not any(sources.periods):
            self._counts[nb] = {}
            if (self._of_numbers(sources, plain) != _numbers(nb).sum(axis=1)[:, np.newaxis]).any():
                self._counts[nb] = self._count_blocks(sources, plain)
        if any(times != 1 for times in self._counts.get(nb, {}).values()):
            sources.counts, sources.counted = self._counts[nb], plain

    def _of_numbers(self, sources: Sources, where: Array) -> Array:
        """Return some outputs of two products of numbered blocks of w: [2, outputs]."""
        ones = np.ones(sources.shape[2])
        return np.stack([self.multiply(sources, ones, each)[where] for each in _numbers(len(ones))])

    def _counts_of(self, sources: Sources) -> dict[int, float]:
        """Return how often blocks are counted where `counted` is; what a length had before is tried first."""
        nb, where = sources.shape[2], sources.counted
        if not sources.totals[where].any():
            return {0: 0.0}
        known = self._uneven.setdefault(nb, [])
        outputs = self._of_numbers(sources, where)
        for counts in (*known, *_ends(nb, int(sources.totals[where][0]))):
            every = replace(sources, counts=counts).every_count()
            if (outputs == (_numbers(nb) @ every)[:, np.newaxis]).all():
                return counts
        known.append(self._count_blocks(sources, where))
        return known[-1]

    def _count_blocks(self, sources: Sources, where: Array) -> dict[int, float]:
        """Return how often blocks are counted: some of them, and where that changes between two."""
        nb = sources.shape[2]
        ends = nb if nb <= EVERY else ENDS
        middles = (nb * part // 4 for part in range(4))
        powers = (2**e for e in range(3, 16) if 2**e < nb)
        near = (b + step for b in middles for step in (-1, 0, 1) if 0 <= b + step < nb)
        places = sorted({*range(ends), *powers, *near, *range(nb - ends, nb)})
        found = {b: self._count(sources, where, b) for b in places}
        for pair in pairwise(places):
            low, high = pair
            while found[low] != found[high] and high - low > 1:
                middle = (low + high) // 2
                found[middle] = self._count(sources, where, middle)
                low, high = (middle, high) if found[middle] == found[low] else (low, middle)
        return found

    def _count(self, sources: Sources, where: Array, block: int) -> float:
        """Return how often a block is counted, as most of some outputs have it."""
        nb = sources.shape[2]
        outputs = self.multiply(sources, np.ones(nb), np.arange(nb) == block)[where]
        values, times = np.unique(outputs[outputs < HELD], return_counts=True)
        return float(values[times.argmax()]) if values.size else 1.0

    def _numbered(self, sources: Sources, w: Array, x: Array) -> float:
        """Return the output that is written first of rows with these numbers, [blocks] each."""
        written = self.multiply(sources, x, w)[~sources.kept]
        return float(written[0]) if written.size and np.isfinite(written[0]) else -1.0

    def _read_scales(self, sources: Sources, whole: Array) -> None:
        """Read which rows' scales outputs have, and whose amax decides the codes of x."""
        m, n, nb = sources.shape
        last = (np.arange(nb) == nb - 1).astype(int)

        def show(side: str, digits: Array) -> Array:
            # (Each one apart by two: beside the next amax a code of one is none.)
            exponents = np.broadcast_to(2 * digits[:, np.newaxis], (len(digits), nb))
            of_x, of_w = (exponents, 0) if side == "x" else (0, exponents)
            with np.errstate(divide="ignore", invalid="ignore"):
                return np.asarray(np.log2(self.multiply(sources, last, last, of_x, of_w)) / 2)

        of_x, of_w = (
            read_numbers(size, partial(show, side), EXPONENTS) for side, size in (("x", n), ("w", m))
        )
        sources.weight_scales = np.where(of_w[1] & whole, of_w[0], sources.columns)
        wrong = whole & ~(of_x[1] & (of_x[0] == sources.rows))
        if (wrong.any() or not any(sources.kinds())) and 1 < n <= FEW:
            sources.amax = self._read_amax(sources)
            is_known = sources.amax.any(axis=1, keepdims=True)
            if ((sources.amax != np.eye(n, dtype=bool)) & is_known).any():
                return
        elif wrong.any() and not of_x[1][wrong].all():
            return
        sources.scales = np.where(of_x[1] & whole, of_x[0], sources.rows)

    def _read_amax(self, sources: Sources) -> Array:
        """Return whose amax decides the codes of which row of x: bool [n, n], the second of the first."""
        _, n, nb = sources.shape
        ones, found = np.ones(nb), []
        # (What is 0 anyhow, or another row's, tells nothing.)
        own = 2.0 * np.arange(n)[:, np.newaxis] + 33
        shows = self.multiply(sources, own * ones, ones) == own * nb
        for row in range(n):
            # A code of 64 is 0 beside an amax 2^10 times as large.
            numbers, elements = np.full((n, nb), 64.0), np.arange(n)[:, np.newaxis] == row
            numbers = np.where(elements, numbers / 2.0**10, numbers)
            outputs = self.multiply(sources, numbers, ones, np.where(elements, 10, 0) + np.zeros(nb))
            found.append(((outputs == 0) & shows).any(axis=1))
        return np.array(found).T


def _different(size: int, nb: int, number: int, side: int) -> tuple[Array, Array]:
    """Return numbers and exponents of blocks, float64 and int [size, nb], that differ where blocks do."""
    if nb > BRIEF:
        rng = np.random.default_rng([size, nb, side])
        most, exponents = (32, 4) if nb <= SHORT else (4, 2)
        numbers = rng.integers(0, most, (size, nb))
        return 2.0 * numbers + 1, rng.integers(0, exponents, (size, nb))
    row, flat = np.arange(size)[:, np.newaxis], np.arange(size * nb).reshape(size, nb)
    numbers = ((11, 7)[side] * flat + flat // 32 * number + 3 * side) // 32 ** (number // 2) % 32
    return 2.0 * numbers + 1, ((row, 3 - row, row // 4)[number] + np.arange(nb)) % 4


def _ends(nb: int, total: int) -> Iterator[dict[int, float]]:
    """Yield counts of blocks with a total: the last ones, or the first, are not counted, or twice."""
    other, times = abs(total - nb), 2.0 if total > nb else 0.0
    if other <= nb:
        yield {0: 1.0, nb - other: times}
        yield {0: times, other: 1.0}


def _numbers(nb: int) -> Array:
    """Return two numbers for each block of a row, int [2, nb]: few blocks have the same two."""
    return np.random.default_rng(nb).integers(1, 128, (2, nb))


BASE = 100
"""Of the digits of a number; a digit d is shown as d + 1, so that nothing is no digit."""


def read_numbers(size: int, show: Callable[[Array], Array], base: int = BASE) -> tuple[Array, Array]:
    """Return which of the numbers below `size` are shown, and where one is.

    `show` is given a digit of each number, [size], and returns the digits that come out, of any shape.
    """
    total, valid, unit = np.zeros((), int), np.ones((), bool), 1
    while True:
        digit = show(np.arange(size) // unit % base)
        valid = valid & (digit >= 0) & (digit < base) & (digit == np.rint(digit))
        total = total + np.where(valid, digit, 0).astype(int) * unit
        unit *= base
        if size <= unit or not valid.any():
            return total, valid & (total < size)


def wraps(multiply: Callable[[Array, Array], float], nb: int) -> tuple[int, int]:
    """Return the number of blocks after which those of w, and those of x, come again; 0 where they do not.

    `multiply` returns an output of rows of w and x with these numbers, int [nb] each, in their blocks.
    """
    of_w = _period(lambda block, numbers: multiply(numbers, np.arange(nb) == block), nb)
    of_x = _period(lambda block, numbers: multiply(np.arange(nb) == block, numbers), nb)
    return of_w, of_x


def _period(show: Callable[[int, Array], float], nb: int) -> int:
    """Return the period of the blocks that meet each block of the other row."""
    last = _met(show, nb - 1, nb)
    if last in (-1, nb - 1) or _met(show, 0, nb):
        return 0
    low, high = 0, nb - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _met(show, middle, nb) == middle else (low, middle)
    checked = (high, (high + nb) // 2, nb - 1)
    return high if all(_met(show, block, nb) == block % high for block in checked) else 0


def _met(show: Callable[[int, Array], float], block: int, nb: int) -> int:
    """Return the number of the one block that meets another row's; -1 for none, or several."""
    number, valid = read_numbers(nb, lambda digits: np.asarray(show(block, digits + 1) - 1))
    return int(number) if valid else -1
