"""The segments of a row of one length that are not counted once, each block with its own of the other row.

A dot product is linear in the codes of x, and in those of y. Rows of positive codes of which some are zero
show whether the others are counted once: a sum of 0 where none is, twice the sum where all are twice. So a
few calls find the segments that are treated otherwise, and which block meets which.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.diagnosis.experiments.bench import Bench, with_s
from q8a8_conformance.inputs import calls, dot_rows
from q8a8_conformance.reveal.asking import NoAnswerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from q8a8_conformance.protocol.messages import Call

    Array = NDArray[Any]

FEW = 3
"""Ways to meet other blocks that are tried for further ones."""

SEGMENTS = 24
"""Segments of one result that are told apart at most, before neighbours are joined."""

BETWEEN = 3
"""The value of bs with two rows at a time."""

OTHER_FIELD = 3
"""The factor of a block that takes the version 2 scale that it must not: `UNUSED` is 3.0."""


MOST_OFTEN = 32
"""How often a block may be counted: what gives more than that is no count."""


@dataclass(frozen=True)
class Segment:
    """Blocks start <= b < stop of a row of x that are not counted once with their own block of y.

    Attributes
    ----------
    row, column
        Rows of x and y of the result.
    times
        How often each is counted; with another block only, 0 would be wrong and `shift` is set.
    shift
        Which block of y is met instead: b + shift; None where it is its own.
    x_row, y_row
        The row of x whose block is taken instead, and that of y; None for its own.
    own_scale
        Whether the scale is its own block's of y all the same, where codes are another's.
    exchanged
        Whether x and y change places in all of this: these are blocks of y.
    """

    start: int
    stop: int
    row: int = 0
    column: int = 0
    times: float = 0
    shift: int | None = None
    x_row: int | None = None
    y_row: int | None = None
    own_scale: bool = False
    exchanged: bool = False

    @property
    def treatment(self) -> tuple[object, ...]:
        """What happens to its blocks, wherever it is."""
        rows = self.row, self.column, self.x_row, self.y_row
        return *rows, self.times, self.shift, self.own_scale, self.exchanged

    def to_json(self) -> dict[str, Any]:
        """Return what happens to its blocks as JSON data."""
        names = ("times", "shift", "row", "column", "x_row", "y_row", "own_scale", "exchanged")
        return {name: getattr(self, name) for name in names}

    def words(self, nrc: int, ends: tuple[str, ...] = (), *, single: bool | None = None) -> str:
        """Describe it, a single block at every length or not; its ends and what it meets may have names."""
        start, stop, *met = ends or (str(self.start), str(self.stop))
        single = self.stop - self.start == 1 if single is None else single
        blocks = f"block {start}" if single else f"the blocks from {start} to {stop}, exclusive,"
        if not single and stop == "nb":
            blocks = f"the blocks from {start} on"
        of = f" of x{self.row}·y{self.column}" if nrc == 2 else ""
        other = (met[0] if single else f"b - {start} + {met[0]}") if any(met) else ""
        return f"{blocks}{self.of(of)} {self.predicate(single=single, other=other)}"

    def of(self, result: str = "") -> str:
        """Return which row's blocks it is about, behind "blocks"; a result has a name of its own."""
        side = f" of {'y' if self.exchanged else 'x'}" if self._meets_another else ""
        return f"{side}{result}"

    @property
    def _meets_another(self) -> bool:
        return self.x_row is None and bool(self.shift)

    def predicate(self, *, single: bool, other: str = "") -> str:
        """Say what happens to one block, or to some: the number of the one that it meets may have a name."""
        verb, meet = ("is", "meets") if single else ("are", "meet")
        if self.x_row is not None:
            return f"{verb} taken from x{self.x_row}"
        if self._meets_another:
            other = other or "b " + f"{self.shift:+d}".replace("-", "- ").replace("+", "+ ")
            own = ("its own block" if single else "their own blocks") if self.own_scale else ""
            scale = f", under the scale{'s' * (not single)} of {own}" if own else ""
            return f"{meet} block {other} of {'x' if self.exchanged else 'y'}{scale}"
        if self.y_row is not None:
            return f"{meet} y{self.y_row}'s"
        times = {0: "not counted", 2: "counted twice"}.get(int(self.times), f"counted {self.times:g} times")
        return f"{verb} {times}"


def meeting(nb: int, row: int, column: int, placed: Iterable[tuple[Array, Segment]]) -> tuple[Array, ...]:
    """Return the blocks of x and of y that meet, and those whose scales they take: a step of a model.

    `placed` has numbers of blocks, and what happens to them in the rows of x and of y.
    """
    keep = np.ones(nb, bool)
    parts: list[tuple[Array, ...]] = []
    for of, one in placed:
        keep[of] = False
        rows = (column, row) if one.exchanged else (row, column)
        x, y = (
            of + nb * (own if other is None else other)
            for own, other in zip(rows, (one.x_row, one.y_row), strict=True)
        )
        met = y + (one.shift or 0)
        scale = y if one.own_scale else met
        part = (met, x, scale, x) if one.exchanged else (x, met, x, scale)
        parts += [part] * (int(one.times) + (one.x_row is not None))
    left = np.flatnonzero(keep)
    x, y = left + row * nb, left + column * nb
    ix, iy, sx, sy = (np.concatenate(side) for side in zip((x, y, x, y), *parts, strict=True))
    return ix, iy, sx, sy


def greatest_code(bench: Bench, nb: int) -> int:
    """Return the largest code of rows of a length whose sums do not round; none where it is less than 2."""
    return min(bench.greatest, math.isqrt(2 ** (bench.bits - 1) // max(nb, 1)))


class Counted:
    """Rows of one length with small codes, and their results with any of the blocks at zero.

    With `exchanged`, which takes one row at a time, x and y change places in all that is found.
    """

    def __init__(self, bench: Bench, nb: int, codes: str = "counted", *, exchanged: bool = False) -> None:
        rng = dot_rows.generator(codes, nb)
        self.bench, self.nb, self.exchanged = bench, nb, exchanged
        self._partners: list[Segment] = []
        self._meets_several = False
        largest = greatest_code(bench, nb)
        self.x, self.y = (rng.integers(1, largest + 1, bench.nrc * nb) for _ in "xy")

    def is_alike(self, scales: tuple[float, float]) -> bool:
        """Return whether results are the same ones under other scales of all blocks."""
        if self.bench.nrc == 2:
            return True
        dx, dy = scales
        own, other = self.results(self.x, self.y), self.results(self.x, self.y, dy, dx)
        return bool((own * (dx * dy) == other).all())

    def call(self, x: Array, y: Array, dy: Array | float = 1.0, dx: float = 1.0) -> Call:
        """Return the call on codes of all rows, one after the other, under scales of single rows."""
        bench = self.bench
        if bench.nrc == 1:
            one, other = bench.row(x, dx), bench.full(y, dy)
            return bench.call(other, one) if self.exchanged else bench.call(one, other)
        rows = [
            np.stack([bench.encode(make(part)) for part in np.split(codes, 2)])
            for make, codes in ((bench.row, x), (bench.full, y))
        ]
        return with_s(calls.dot_pair(rows[0], rows[1], bs=BETWEEN), bytes(4 * BETWEEN + 8))

    def results(self, x: Array, y: Array, dy: Array | float = 1.0, dx: float = 1.0) -> Array:
        """Return the results [nrc · nrc], the row of x the faster."""
        s = np.frombuffer(self.bench.outputs(self.call(x, y, dy, dx))[0], "<f4").astype(np.float64)
        return s[list(self.bench.places(BETWEEN))[: self.bench.nrc**2]] / self.bench.factor

    def expected(self, x: Array, y: Array) -> Array:
        """Return the right results."""
        nrc = self.bench.nrc
        rows, columns = np.split(x, nrc), np.split(y, nrc)
        return np.array([float(row @ column) for column in columns for row in rows])

    def is_right(self) -> bool:
        """Return whether all results are right."""
        return bool((self.results(self.x, self.y) == self.expected(self.x, self.y)).all())

    def segments(self) -> list[Segment] | None:
        """Return what is not counted once; None where there are more segments than can be told apart."""
        found: list[Segment] = []
        got, expected = self.results(self.x, self.y), self.expected(self.x, self.y)
        for number in np.flatnonzero(got != expected).tolist():
            parts = self._like(number, found, float(got[number]))
            if not parts:
                self._look(number, 0, self.nb, parts)
            if len(parts) > SEGMENTS:
                return None
            found += parts
        if self.bench.nrc == 1 and not self.exchanged and self._meets_several:
            # A block that meets several: it is blocks of y that meet another one of x.
            return Counted(self.bench, self.nb, exchanged=True).segments()
        return _joined([replace(one, exchanged=self.exchanged) for one in found])

    def _like(self, number: int, found: Sequence[Segment], value: float) -> list[Segment]:
        """Return the segments of the first result for another one, where they give its value."""
        row, column = number % self.bench.nrc, number // self.bench.nrc
        if not found or any(one.x_row is not None or one.y_row is not None for one in found):
            return []
        first = found[0].row, found[0].column
        parts = [replace(one, row=row, column=column) for one in found if (one.row, one.column) == first]
        x, y = (
            rows[r * self.nb :][: self.nb].astype(np.float64) for rows, r in ((self.x, row), (self.y, column))
        )
        given = float(x @ y)
        for one in parts:
            own, met = (
                slice(one.start, one.stop),
                slice(one.start + (one.shift or 0), one.stop + (one.shift or 0)),
            )
            given += one.times * float(x[own] @ y[met]) - float(x[own] @ y[own])
        return parts if given == value else []

    def _look(self, number: int, start: int, stop: int, found: list[Segment]) -> None:
        """Add the segments between two blocks of a row of x."""
        nrc = self.bench.nrc
        row, column = number % nrc, number // nrc
        mask = np.zeros(nrc * self.nb, np.int64)
        mask[row * self.nb + start : row * self.nb + stop] = 1
        x = self.x * mask
        value, right = self.results(x, self.y)[number], self.expected(x, self.y)[number]
        if value == right or len(found) > SEGMENTS:
            return
        times = value / right
        if times in (0, 2, OTHER_FIELD, 4) and self._meets_its_own(number, x, times):
            other = self._other_row(number, start, stop) if not times else None
            found.append(Segment(start, stop, row, column, int(times), x_row=other))
        elif known := self._shifted(number, start, stop, float(value)):
            found.append(known)
        elif stop - start == 1:
            found.append(self._partner(number, start, x))
            met = found[-1]
            own = start + (met.shift or 0) + self.nb * (column if met.y_row is None else met.y_row)
            self._meets_several |= value != met.times * (x.sum() * self.y[own])
            self._partners = list(dict.fromkeys([*self._partners, found[-1]]))[-FEW:]
        else:
            middle = (start + stop) // 2
            self._look(number, start, middle, found)
            self._look(number, middle, stop, found)

    def _shifted(self, number: int, start: int, stop: int, value: float) -> Segment | None:
        """Return blocks that all meet blocks of y as far away as one of those did that were looked into."""
        row, column = number % self.bench.nrc, number // self.bench.nrc
        for one in self._partners:
            own = column if one.y_row is None else one.y_row
            first = start + (one.shift or 0)
            if (one.row, one.column) != (row, column) or not 0 <= first <= self.nb - (stop - start):
                continue
            x = self.x[row * self.nb + start : row * self.nb + stop]
            y = self.y[own * self.nb + first : own * self.nb + first + stop - start]
            if value == one.times * (x @ y):
                return replace(one, start=start, stop=stop)
        return None

    def _other_row(self, number: int, start: int, stop: int) -> int | None:
        """Return the row of x whose blocks are counted in the place of those that are not."""
        if self.bench.nrc == 1:
            return None
        row, column = 1 - number % 2, number // 2
        x = np.zeros_like(self.x)
        place = slice(row * self.nb + start, row * self.nb + stop)
        x[place] = self.x[place]
        right = self.x[place] @ self.y[column * self.nb + start : column * self.nb + stop]
        return row if self.results(x, self.y)[number] == right else None

    def _meets_its_own(self, number: int, x: Array, times: float) -> bool:
        """Return whether blocks are counted so often under other codes of y, too."""
        other = self.y[::-1].copy()
        if not times:
            return bool(self.results(x, other)[number] == 0)
        right = self.expected(x, other)[number]
        return bool(self.results(x, other)[number] == times * right)

    def _partner(self, number: int, block: int, x: Array) -> Segment:
        """Return which block of y one block of x meets."""
        nrc = self.bench.nrc
        row, column = number % nrc, number // nrc
        low, high = 0, nrc * self.nb
        y = self.y
        while high - low > 1:
            middle = (low + high) // 2
            half = np.zeros_like(y)
            half[low:middle] = y[low:middle]
            if self.results(x, half)[number]:
                high = middle
            else:
                low = middle
        half = np.zeros_like(y)
        half[low] = y[low]
        value = self.results(x, half)[number]
        code = float(x[row * self.nb + block] * y[low])
        times = round(float(value / code), 3) if math.isfinite(value) else math.inf
        if abs(times) > MOST_OFTEN or (times == 1 and value != code):
            raise NoAnswerError
        other, shift = low // self.nb, low % self.nb - block
        own_scale = False
        if nrc == 1 and shift:
            doubled = np.where(np.arange(self.nb) == block, 2.0, 1.0)
            own_scale = bool(self.results(x, half, doubled)[number] == 2 * value)
        own_row = None if other == column else other
        return Segment(block, block + 1, row, column, times, shift, None, own_row, own_scale)


def _joined(found: Sequence[Segment]) -> list[Segment]:
    """Join neighbours that are alike."""
    joined: list[Segment] = []
    for one in sorted(found, key=lambda s: (s.column, s.row, s.start)):
        last = joined[-1] if joined else None
        if last and last.stop == one.start and _alike(last, one):
            joined[-1] = replace(last, stop=one.stop)
        else:
            joined.append(one)
    return joined


def _alike(a: Segment, b: Segment) -> bool:
    return a.treatment == b.treatment
