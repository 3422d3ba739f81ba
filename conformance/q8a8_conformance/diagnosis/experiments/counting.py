"""Which blocks of a row are counted, how often, with which block of the other row; at which lengths.

A dot product is linear in the codes of x, and in those of y. Rows of positive codes of which some are zero
show whether the others are counted once: a sum of 0 where none is, twice the sum where all are twice. So a
few calls of each length find the segments of a row that are treated otherwise, and which block meets which.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.diagnosis.experiments.bench import UNUSED, Bench, Measured, NoAnswerError, model_of
from q8a8_conformance.diagnosis.experiments.lengths import Lengths, fit, formula
from q8a8_conformance.diagnosis.experiments.model import matches
from q8a8_conformance.faults.catalogue import MUTANTS
from q8a8_conformance.inputs import calls, dot_rows
from q8a8_conformance.results.observations import CallResult

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from q8a8_conformance.protocol.messages import Call

    Array = NDArray[Any]

EVERY = 300
"""Lengths up to which each one is tried."""

SOME = 40
"""The same, where no row of up to `EVERY` blocks has failed."""

POWERS = tuple(2**k + d for k in range(9, 17) for d in (0, 1))
"""Longer ones, tried up to the longest that failed."""

REFITS, CHECKED = 5, 12
"""How often a condition is fitted again, and lengths that are tried to check it."""

LONG = 8
"""Failed lengths that are tried, where only long rows fail."""

FEW = 3
"""Ways to meet other blocks that are tried for further ones."""

IRREGULAR = 3
"""Lengths that may be wrong without a rule that they have in common."""

EXPLICIT = 6
"""Failed lengths that are looked into where the formulas of the others do not give them."""

SEGMENTS, REPRESENTATIVES = 24, 2
"""Segments of one row that are told apart at most, and lengths that are looked into."""

OTHER_FIELD = 3
"""The factor of a block that takes the version 2 scale that it must not: `UNUSED` is 3.0."""


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
    """

    start: int
    stop: int
    row: int = 0
    column: int = 0
    times: float = 0
    shift: int | None = None
    x_row: int | None = None
    y_row: int | None = None


def greatest_code(bench: Bench, nb: int) -> int:
    """Return the largest code of rows of a length whose sums do not round; none where it is less than 2."""
    return min(bench.greatest, math.isqrt(2 ** (bench.bits - 1) // max(nb, 1)))


NAMED = (
    *range(300),
    511,
    513,
    767,
    1000,
    1024,
    1025,
    1027,
    2048,
    2049,
    2051,
    4097,
    5000,
    32767,
    32768,
    32769,
)
"""Lengths at which a mistake of the catalogue must count the same blocks to be named."""


class Counted:
    """Rows of one length with small codes, and their results with any of the blocks at zero."""

    def __init__(self, bench: Bench, nb: int) -> None:
        rng = dot_rows.generator("counted", nb)
        self.bench, self.nb = bench, nb
        self._partners: list[Segment] = []
        largest = greatest_code(bench, nb)
        self.x, self.y = (rng.integers(1, largest + 1, bench.nrc * nb) for _ in "xy")

    def call(self, x: Array, y: Array) -> Call:
        """Return the call on codes of all rows, one after the other."""
        bench = self.bench
        if bench.nrc == 1:
            return bench.call(bench.row(x), bench.full(y))
        rows = [
            np.stack([make(part) for part in np.split(codes, 2)])
            for make, codes in ((bench.row, x), (bench.full, y))
        ]
        return calls.dot_pair(rows[0], rows[1], bs=3)

    def results(self, x: Array, y: Array) -> Array:
        """Return the results [nrc · nrc], the row of x the faster."""
        s = np.frombuffer(self.bench.outputs(self.call(x, y))[0], "<f4").astype(np.float64)
        return (s[[0]] if self.bench.nrc == 1 else s[[0, 1, 3, 4]]) / self.bench.factor

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
            self._look(number, 0, self.nb, found)
            if len(found) > SEGMENTS:
                return None
        return _joined(found)

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
        if times in (0, 2, OTHER_FIELD, 4) and self._meets_its_own(number, x, mask, times):
            other = self._other_row(number, start, stop) if not times else None
            found.append(Segment(start, stop, row, column, int(times), x_row=other))
        elif known := self._shifted(number, start, stop, float(value)):
            found.append(known)
        elif stop - start == 1:
            found.append(self._partner(number, start, x))
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

    def _meets_its_own(self, number: int, x: Array, mask: Array, times: float) -> bool:
        """Return whether blocks are counted so often under other codes of y, too."""
        del mask
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
        if not math.isfinite(value):
            raise NoAnswerError
        other, shift = low // self.nb, low % self.nb - block
        times = round(float(value / code), 3)
        return Segment(block, block + 1, row, column, times, shift, None, None if other == column else other)


def _joined(found: Sequence[Segment]) -> list[Segment]:
    """Join neighbours that are alike."""
    joined: list[Segment] = []
    for one in sorted(found, key=lambda s: (s.column, s.row, s.start)):
        last = joined[-1] if joined else None
        if last and last.stop == one.start and _alike(last, one):
            joined[-1] = Segment(last.start, one.stop, one.row, one.column, one.times, one.shift)
        else:
            joined.append(one)
    return joined


def _alike(a: Segment, b: Segment) -> bool:
    return _what(a) == _what(b)


def _what(one: Segment) -> tuple[object, ...]:
    """Return what happens to the blocks of a segment, wherever it is."""
    return one.row, one.column, one.times, one.shift, one.x_row, one.y_row


def counted(bench: Bench, failed: Sequence[CallResult]) -> Iterator[Measured]:
    """Find at which lengths which blocks are not counted once, with their own block of the other row."""
    failing = sorted({f.call.n // 32 for f in failed})
    longest = failing[-1]
    every = range(1, min(EVERY, 2 * longest + 40) if failing[0] <= EVERY else SOME)
    long = {nb for nb in failing if nb > EVERY}
    if min(failing) > EVERY:
        long = {*sorted(long)[:LONG], longest, *(nb for nb in POWERS if nb <= longest)}
    else:
        long = {*sorted(long)[:2], *sorted(long)[-1:]}
    tried = [nb for nb in (*every, *sorted(long)) if greatest_code(bench, nb) > 1]
    verdicts: dict[int, bool] = {}
    for nb in tried:
        verdicts[nb] = Counted(bench, nb).is_right()
        if sum(not right for right in verdicts.values()) > 40 and nb > EVERY:
            break
    wrong = [nb for nb, right in verdicts.items() if not right]
    if not wrong:
        return
    where = _condition(bench, verdicts)
    if where is None and len(wrong) > IRREGULAR:
        return  # Loops lose blocks at lengths that have a rule; sums that round go wrong anywhere.
    wrong = sorted({*(nb for nb, right in verdicts.items() if not right), *([where.least] if where else [])})
    segments = {nb: Counted(bench, nb).segments() for nb in _representatives(wrong)}
    known = {nb: found for nb, found in segments.items() if found}
    if not known:
        return
    found = _fact(bench, where, known, wrong)
    others = {
        nb: parts
        for nb in [nb for nb in failing if nb not in known and not _agrees(bench, found, nb)][:EXPLICIT]
        if (parts := Counted(bench, nb).segments())
    }
    if others:
        # Formulas of short rows need not be those of long ones: fit them to both.
        found = _fact(bench, where, known | others, wrong)
        if not found.changes or not all(_agrees(bench, found, nb) for nb in others):
            found = _fact(bench, where, known, wrong, others)
    yield found


def _agrees(bench: Bench, found: Measured, nb: int) -> bool:
    """Return whether a row of a length is counted as a fact has it."""
    if not found.changes:
        return True
    counted = Counted(bench, nb)
    call = counted.call(counted.x, counted.y)
    return matches(model_of([found]), CallResult(call, bench.outputs(call))) or bench.factor != 1


def _condition(bench: Bench, verdicts: dict[int, bool]) -> Lengths | None:
    """Fit a condition to lengths that are right and wrong; try others that it is about, until they agree."""
    for _ in range(REFITS):
        wrong = [nb for nb, right in verdicts.items() if not right]
        where = fit(wrong, [nb for nb, right in verdicts.items() if right])
        if where is None or where.most == where.least:
            return where
        where = _least(bench, where, verdicts)
        last = where.most or max(*wrong, where.least + 40)
        others = [nb for nb in _others(where) if nb <= last and nb not in verdicts]
        for nb in others[:CHECKED]:
            verdicts[nb] = Counted(bench, nb).is_right()
        if not any(verdicts[nb] == where.holds(nb) for nb in others[:CHECKED]):
            return where
    return None


def _others(where: Lengths) -> list[int]:
    """Return lengths near the first one of a condition, and some of its remainders a few moduli on."""
    near = [where.least + k for k in range(1, 5)]
    far = [where.least + where.modulus * k for k in (1, 2, 3, 5)]
    start = where.least // where.modulus * where.modulus
    multiples = [start + where.modulus * 2**k for k in range(8)] if where.modulus > 1 else []
    return [*multiples, *far, *near, 2 * where.least + 1, where.least + where.least // 2]


def _representatives(wrong: Sequence[int]) -> list[int]:
    """Choose lengths to look into: the shortest ones, and the longest."""
    short = [nb for nb in wrong if nb < EVERY]
    chosen = {*wrong[:REPRESENTATIVES], wrong[len(wrong) // 2], *short[-1:]}
    return sorted(nb for nb in chosen if nb <= max(2 * wrong[0], EVERY))


def _least(bench: Bench, where: Lengths, verdicts: dict[int, bool]) -> Lengths:
    """Find the first length of a condition by bisection: between the last right one before it and its own."""
    if where.most == where.least:
        return where
    step = where.modulus
    met = [
        nb
        for nb, right in verdicts.items()
        if right and nb < where.least and where.low <= nb % step <= where.high
    ]
    low, high = max(met, default=0), where.least
    if high - low <= step or high <= EVERY:
        return where
    while high - low > step:
        middle = (low + high) // 2
        middle -= (middle - high) % step  # of the same remainder as the wrong one
        if middle <= low:
            break
        if Counted(bench, middle).is_right():
            low = middle
        else:
            high = middle
    return Lengths(high, step, where.low, where.high, where.most)


def _fact(
    bench: Bench,
    where: Lengths | None,
    known: dict[int, list[Segment]],
    wrong: Sequence[int],
    others: Mapping[int, list[Segment]] = MappingProxyType({}),
) -> Measured:
    """Return the fact about the segments of some lengths; at the others they are no formulas' values."""
    nb = min(known, default=wrong[0])
    first = known.get(nb, [])
    seen = {length: found for length, found in known.items() if found and len(found) == len(first)}
    general = _general(seen) if first else None
    lengths = where or Lengths(wrong[0], most=wrong[-1])
    singles = [all(found[k].stop - found[k].start == 1 for found in seen.values()) for k in range(len(first))]
    kind, what = _kind(bench, first, singles, general[0] if general and not others else None)
    blocks = [
        {"from": name[0], "to": name[1], **_json(one)}
        for name, one in zip(general[0], first, strict=True)
    ] if general else [
        {"from": one.start, "to": one.stop, **_json(one)}
        for one in first
    ]  # fmt: skip
    rule, fix, slug = _named(bench, kind, first, nb)
    call = Counted(bench, nb)
    text = (
        f"nb = {nb}: " + "; ".join(_words_at(one, bench.nrc) for one in first[:3]) if first else f"nb = {nb}"
    )
    evidence = [bench.evidence(call.call(call.x, call.y), text)]
    found = {
        "lengths": lengths.to_json() if where else sorted(wrong)[:16],
        "at": nb,
        "blocks": blocks,
    }
    condition = (
        str(lengths) if where else f"nb = {', '.join(map(str, sorted(wrong)[:6]))}{', …' * (len(wrong) > 6)}"
    )
    sentence = f"Where {condition}, {f'blocks are miscounted: at nb = {nb}, ' if others else ''}{what}."
    if general is not None and where is not None and kind != "version-2-field":
        step = _blocks(general[1], first, lengths, bench.nrc, others)
        slug = slug or (_cause(step, sorted(known)) if bench.nrc == 1 else "")
        return bench.measured(
            kind,
            found,
            rule,
            sentence,
            fix,
            evidence=evidence,
            cause=slug,
            changes={"blocks": step},
        )
    measured = set(wrong)

    def when(result: CallResult) -> bool:
        length = result.call.n // 32
        return length in measured or bool(where and where.holds(length))

    return bench.measured(kind, found, rule, sentence, fix, evidence=evidence, cause=slug, when=when)


def _json(one: Segment) -> dict[str, Any]:
    """Return what happens to the blocks of a segment as JSON data."""
    return {
        "times": one.times,
        "shift": one.shift,
        "row": one.row,
        "column": one.column,
        "x_row": one.x_row,
        "y_row": one.y_row,
    }


def _general(seen: dict[int, list[Segment]]) -> tuple[list[tuple[str, str]], list[tuple[Any, Any]]] | None:
    """Return the ends of the segments as formulas of the length, names and functions; None without."""
    names, functions = [], []
    for number in range(len(next(iter(seen.values())))):
        ones = {nb: found[number] for nb, found in seen.items()}
        if len({_what(one) for one in ones.values()}) > 1:
            return None
        start = formula({nb: one.start for nb, one in ones.items()})
        stop = formula({nb: one.stop for nb, one in ones.items()})
        if start is None or stop is None:
            return None
        names.append((start[0], stop[0]))
        functions.append((start[1], stop[1]))
    return names, functions


def _blocks(
    functions: list[tuple[Any, Any]],
    first: Sequence[Segment],
    lengths: Lengths,
    nrc: int,
    others: Mapping[int, list[Segment]],
) -> Any:  # noqa: ANN401
    """Return the step of a model that counts blocks so."""

    def blocks(nb: int, row: int, column: int) -> tuple[Array, Array]:
        ix, iy = (np.arange(nb) + r * nb for r in (row, column))
        if nb not in others and not lengths.holds(nb):
            return ix, iy
        x, y = [ix], [iy]
        keep = np.ones(nb, bool)
        ends = [(start(nb), stop(nb)) for start, stop in functions]
        segments = others.get(nb, first)
        if nb in others:
            ends = [(one.start, one.stop) for one in segments]
        for (begin, b), one in zip(ends, segments, strict=True):
            if nrc == 2 and (one.row, one.column) != (row, column):
                continue
            a = max(begin, 0)
            keep[a:b] = False
            others_x = ix if one.x_row is None else np.arange(nb) + one.x_row * nb
            others_y = iy if one.y_row is None else np.arange(nb) + one.y_row * nb
            for _ in range(int(one.times) + (one.x_row is not None)):
                x.append(others_x[a:b])
                y.append(others_y[a:b] + (one.shift or 0))
        x[0], y[0] = ix[keep], iy[keep]
        return np.concatenate(x), np.concatenate(y)

    return blocks


def _kind(
    bench: Bench,
    segments: Sequence[Segment],
    singles: Sequence[bool],
    names: Sequence[tuple[str, str]] | None,
) -> tuple[str, str]:
    """Return the fact, and what happens to the blocks."""
    ends = names or [(str(one.start), str(one.stop)) for one in segments]
    words = "; ".join(
        dict.fromkeys(
            _words(one, bench.nrc, single, end)
            for one, single, end in zip(segments[:3], singles, ends, strict=False)
        )
    )
    if not segments:
        return "blocks-miscounted", "blocks are miscounted"
    one = segments[0]
    if one.shift is not None or one.x_row is not None:
        return "block-meets-another", words
    if one.times == OTHER_FIELD and bench.function == calls.DOT_REAL and bench.unused == UNUSED:
        return "version-2-field", words.replace(" 3 times", " with the scale of the other role")
    if one.times:
        return "block-counted-twice", words
    return "block-not-counted", words


def _words(one: Segment, nrc: int, single: bool, ends: tuple[str, str]) -> str:
    """Describe a segment, a single block at every length or not, its ends by name."""
    start, stop = ends
    blocks = (
        f"block {start}"
        if single
        else f"the blocks from {start} on"
        if stop == "nb"
        else (f"the blocks from {start} to {stop}, exclusive,")
    )
    of = f" of x{one.row}·y{one.column}" if nrc == 2 else ""
    if one.x_row is not None:
        return f"{blocks}{of} {'is' if single else 'are'} taken from x{one.x_row}"
    if one.y_row is not None and not one.shift:
        return f"{blocks}{of} meet{'s' * single} y{one.y_row}'s"
    if one.shift is not None:
        other = f"{one.shift:+d}".replace("-", "- ").replace("+", "+ ")
        return f"{blocks} of x{of} meet{'s' * single} block b {other} of y"
    times = {0: "not counted", 2: "counted twice"}.get(int(one.times), f"counted {one.times:g} times")
    return f"{blocks}{of} {'is' if single else 'are'} {times}"


def _words_at(one: Segment, nrc: int) -> str:
    """Describe a segment of one length, its ends by number."""
    return _words(one, nrc, one.stop - one.start == 1, (str(one.start), str(one.stop)))


def _cause(step: Any, lengths: Sequence[int]) -> str:  # noqa: ANN401 - a step
    """Return the catalogue's mistake that counts the same blocks, at these lengths and all short ones."""
    for mutant in MUTANTS.values():
        if "visited" in mutant.changes and calls.DOT in mutant.functions:
            visited = mutant.changes["visited"]
            if all(_same(step(nb, 0, 0), visited(nb)) for nb in (*NAMED, *lengths)):
                return mutant.slug
    return ""


def _same(meeting: tuple[Array, Array], visited: Array) -> bool:
    """Return whether the same blocks are counted as often."""
    return all(np.array_equal(np.sort(side), np.sort(visited)) for side in meeting)


def _named(bench: Bench, kind: str, segments: Sequence[Segment], nb: int) -> tuple[str, str, str]:
    """Return the rule, the fix, and the catalogue's slug."""
    del nb, segments
    if kind == "version-2-field":
        return "DOT-9", MUTANTS["v2-weight-scale-of-both"].fix, ""
    if bench.nrc == 2:
        return "DOT-6", "Treat the rows of both x and y alike, every block once.", ""
    return "DOT-10", MUTANTS["odd-block-lost"].fix, ""
