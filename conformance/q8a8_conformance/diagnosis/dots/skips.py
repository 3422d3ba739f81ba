"""Blocks that are not counted for what their codes are: on which condition on the codes of x, of y, or both.

Blocks of many kinds come out right or as zero. The simplest condition is chosen that tells these apart
(`code_conditions`). Then blocks are made on both sides of it: such as differ in one code from one on the
other side, and, of numbers, such as lie between the greatest that is left out and the least that is not.
Where one of these is otherwise, the condition is chosen anew.
"""

from __future__ import annotations

import itertools
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.diagnosis.dots.bench import result
from q8a8_conformance.diagnosis.dots.block_values import Trigger, of_codes
from q8a8_conformance.diagnosis.dots.code_conditions import conditions
from q8a8_conformance.diagnosis.dots.model import Model, matches
from q8a8_conformance.diagnosis.dots.row_effects import Effect, Kind
from q8a8_conformance.inputs import dot_rows
from q8a8_conformance.reveal.asking import NoAnswerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from q8a8_conformance.diagnosis.dots.bench import Bench, Measured
    from q8a8_conformance.diagnosis.dots.block_values import Values
    from q8a8_conformance.diagnosis.dots.code_conditions import Skip
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.results.observations import CallResult

BLOCKS, ROUNDS = 260, 14
"""Blocks that are tried at first, and conditions that are chosen until one holds."""

MUTANTS, SIDES = 3000, 40
"""Blocks made of others by a few codes, and how many of each side of a condition are tried."""

WIDTHS = (32, 16, 8, 4)
"""Elements of a block that may be left out together."""

MOST = 32 * 300
"""Elements of a row whose blocks are asked for one by one."""

LEAST = 2
"""Blocks that must be left out, and counted."""

FIX = "Count every block; one whose codes are all zero adds nothing."


def skipped(bench: Bench) -> Iterator[Measured]:
    """Find that blocks are not counted where their codes meet a condition, and which others are not, too."""
    for width in WIDTHS:
        tried = _Tried(bench, width)
        if not tried.is_of_skips():
            continue
        if tried.is_of_sign():
            return  # (A sum that is clamped is no matter of codes.)
        found = tried.condition()
        if width < 32:
            yield from _of_parts(bench, tried, found) if found else ()
        elif found:
            yield from _of_blocks(bench, tried, found)
        else:
            yield _of_unknown(bench, tried)
        return


def _of_blocks(bench: Bench, tried: _Tried, found: Skip) -> Iterator[Measured]:
    """Yield that whole blocks are not counted, and which blocks after or before them are not."""
    counted, left_out = tried.sides()

    def put(of: tuple[Array, Array], values: Values, block: int) -> None:
        number = block % len(of[0])
        values[2][block], values[3][block] = of[0][number], of[1][number]

    trigger = Trigger(
        "codes",
        f"{found.words} in block b",
        lambda values, block: put(left_out, values, block),
        lambda values: found.holds(values[2].astype(np.int64), values[3].astype(np.int64)),
        lambda values, block: put(counted, values, block),
        is_base=True,
    )
    if (reached := of_codes(bench, trigger)) is None:
        return
    fact, is_plain = reached
    if is_plain:
        words = f"A block is not counted where {found.words}."
        fact = replace(fact, fact="block-skipped", where=found.where, sentence=words)
    yield replace(fact, where={**fact.where, **found.where}, rule="Q8A8-DOT-1", fix=FIX)


def _of_parts(bench: Bench, tried: _Tried, found: Skip) -> Iterator[Measured]:
    """Yield that some elements of a block that are taken together are not counted."""
    width = tried.width

    def products(qx: Array, qy: Array) -> Array:
        x, y = (q.astype(np.int64).reshape(-1, width) for q in (qx, qy))
        return np.asarray(np.where(found.holds(x, y)[:, np.newaxis], 0, x * y)).reshape(-1, 32)

    made = [bench.answer(tried.call(*codes)) for codes in zip(*_pool(tried.rng, 2 * SIDES), strict=True)]
    model = Model(products=products)
    if not all(matches(model, one) for one in made):
        return
    shown = next((one for one in made if not matches(Model(), one)), made[0])
    yield bench.measured(
        "block-skipped",
        {**found.where, "of_every": width},
        f"Of every {width} elements of a block none is counted where, of these {width}, {found.words}.",
        rule="Q8A8-DOT-1",
        fix=FIX,
        evidence=[bench.evidence(shown.call, "one block")],
        changes={"products": products},
    )


def _of_unknown(bench: Bench, tried: _Tried) -> Measured:
    """Return that blocks are not counted for what their codes are, which is all that is known."""
    (_, (x, y)), known = tried.sides(), dict[bytes, bool]()

    def is_left_out(qx: Array, qy: Array) -> bool:
        key = qx.tobytes() + qy.tobytes()
        if key not in known:
            known[key] = result(bench.outputs(tried.call(qx, qy))) == 0
        return known[key]

    def holds(values: Values) -> Array:
        return np.array([is_left_out(*pair) for pair in zip(*values[2:], strict=True)], np.bool_)

    def explains(one: CallResult) -> bool:
        with suppress(NoAnswerError):
            model = Model(placed=((_Left(holds), Effect(Kind(0))),))
            return one.call.n <= MOST and matches(model, one)
        return False

    return bench.measured(
        "block-skipped",
        {"by": "codes"},
        "Some blocks are not counted: which ones depends on their codes, by no condition that was found.",
        rule="Q8A8-DOT-1",
        fix=FIX,
        evidence=[bench.evidence(tried.call(x[0], y[0]), "a block that is not counted")],
        when=explains,
    )


@dataclass(frozen=True)
class _Left:
    """Places of a row: see `model.Places`."""

    holds: Callable[[Values], Array]


class _Tried:
    """Blocks that came out right, or as zero.

    Parameters
    ----------
    bench
        Makes the calls.
    width
        How many first elements of a block have codes; the others are zero.

    Attributes
    ----------
    width, rng
        See above; and for more such blocks.
    """

    def __init__(self, bench: Bench, width: int) -> None:
        self.width = width
        self.rng = dot_rows.generator("skips")
        self._bench = bench
        self._x, self._y = np.zeros((2, 0, width), np.int64)
        self._out = np.zeros(0, np.bool_)

    def sides(self) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        """Return codes of x and of y of blocks that are counted, and of those that are left out."""
        small = np.argsort(np.abs(self._x).max(axis=1) + np.abs(self._y).max(axis=1), kind="stable")
        counted, left_out = (small[self._out[small] == is_so][:20] for is_so in (False, True))
        return (self._x[counted], self._y[counted]), (self._x[left_out], self._y[left_out])

    def call(self, x: Array, y: Array) -> Call:
        """Return the call on one block with codes [width, or 32]."""
        rows = (np.pad(q, (0, 32 - len(q)))[np.newaxis] for q in (x, y))
        return self._bench.call(*(self._bench.padded(dot_rows.blocks(1.0, row)) for row in rows))

    def is_of_skips(self) -> bool:
        """Return whether blocks come out right, or as zero, and enough of both."""
        is_so = self._try(*_first_pool())
        return is_so and min(self._out.sum(), (~self._out).sum()) >= LEAST

    def is_of_sign(self) -> bool:
        """Return whether blocks are left out whose products add up to less, or more, than zero."""
        is_negative = (self._x * self._y).sum(axis=1) < 0
        return np.array_equal(is_negative, self._out) or np.array_equal(~is_negative, self._out)

    def condition(self) -> Skip | None:
        """Return the condition on which blocks are left out; None where none holds of all that are made."""
        for _ in range(ROUNDS):
            found = next(filter(self._fits, conditions(self._x, self._y, self._out)), None)
            if found is None:
                return None
            before = len(self._out)
            x, y, *more = self._near(found)
            if not (self._try(x, y) and self._try(*more)):
                return None
            if np.array_equal(found.holds(self._x, self._y)[before:], self._out[before:]):
                return found
        return None

    def _fits(self, one: Skip) -> bool:
        return np.array_equal(one.holds(self._x, self._y), self._out)

    def _try(self, x: Array, y: Array) -> bool:
        """Make calls on blocks; return whether each came out right, or as zero."""
        x, y = x[:, : self.width], y[:, : self.width]
        right = (x * y).sum(axis=1)
        x, y, right = x[right != 0], y[right != 0], right[right != 0]
        out: list[bool] = []
        for at, sum_ in enumerate(right.tolist()):
            value = result(self._bench.outputs(self.call(x[at], y[at])))
            if value not in {0, sum_}:
                return False
            out.append(value == 0)
        self._x, self._y = np.concatenate([self._x, x]), np.concatenate([self._y, y])
        self._out = np.concatenate([self._out, np.array(out, np.bool_)])
        return True

    def _near(self, one: Skip) -> tuple[Array, ...]:
        """Return blocks on both sides of a condition, and between those of which its number is known."""
        rng = self.rng
        parents = rng.integers(0, len(self._out), MUTANTS)
        x, y = self._x[parents].copy(), self._y[parents].copy()
        for codes in (x, y):
            for times in (1, 2):
                which = np.flatnonzero(rng.random(MUTANTS) < 1 / times)
                places = rng.integers(0, self.width, which.size)
                edges = rng.choice([-128, -127, -16, -2, -1, 0, 0, 1, 2, 16, 127], which.size)
                own = codes[which, places] + rng.integers(-9, 10, which.size)
                any_code = rng.integers(-128, 128, which.size)
                kind = rng.integers(0, 3, which.size)
                codes[which, places] = np.clip(np.choose(kind, [edges, own, any_code]), -128, 127)
        holds, before = one.holds(x, y), self._out[parents]
        chosen = [np.flatnonzero(holds & ~before), np.flatnonzero(~holds & before)]
        chosen += [np.flatnonzero(holds & before), np.flatnonzero(~holds & ~before)]
        chosen = [some[:SIDES] for some in chosen]
        if one.number is not None:
            known = one.number(self._x, self._y)
            numbers = one.number(x, y)
            new = ~np.isin(numbers, known)
            for edge in _edges(known, self._out):
                near = np.flatnonzero(new)[np.argsort(np.abs(numbers[new] - edge), kind="stable")]
                chosen.append(near[: SIDES // 4])
        every = np.unique(np.concatenate(chosen))
        more = _pool(rng, SIDES)
        return x[every], y[every], *(of[:, : self.width] for of in more)


def _edges(known: Array, out: Array) -> list[int]:
    """Return the middles of the spans of a number in which it is not known whether blocks are left out."""
    numbers = np.unique(known)
    state = np.array([out[known == number].any() for number in numbers.tolist()])
    turns = np.flatnonzero(state[1:] != state[:-1])
    return [(int(numbers[at]) + int(numbers[at + 1])) // 2 for at in turns.tolist()[:4]]


@cache
def _first_pool() -> tuple[Array, Array]:
    """Return the first blocks that are tried: int64 [BLOCKS, 32] each."""
    return _pool(dot_rows.generator("first skips"), BLOCKS)


def _pool(rng: np.random.Generator, count: int) -> tuple[Array, Array]:
    """Return codes of x and y of blocks of many kinds: int64 [count, 32] each."""
    kinds = itertools.cycle(range(11))
    sides = []
    for shift in (0, 4):
        rows = np.array([_codes(rng, (next(kinds) + number // 11 * shift) % 11) for number in range(count)])
        sides.append(rows)
    x, y = sides[0], sides[1][rng.permutation(count)]
    for number in range(0, count, 9):
        # (Some are alike, or but for one code.)
        y[number] = np.clip(rng.choice([-1, 1]) * x[number], -128, 127)
        y[number, rng.integers(32)] += 1 - 2 * (y[number, 0] > 0) if number % 2 else 0
    return x, np.clip(y, -128, 127)


def _codes(rng: np.random.Generator, kind: int) -> Array:
    """Return a block's codes of a kind: int64 [32]."""
    most = int(rng.choice([1, 2, 5, 11, 30, 64, 100, 127]))
    q = rng.integers(-most, most + 1, 32)
    here = np.arange(32) == int(rng.choice([0, 31, *rng.integers(0, 32, 2)]))
    unit = 2 ** int(rng.integers(1, 8))
    half = np.arange(32) // int(rng.choice([1, 4, 8, 16])) % 2 == rng.integers(2)
    kinds: tuple[Array, ...] = (
        *(q, np.abs(q), -np.abs(q)),
        *(most * here, -most * here, np.where(here, -most, np.maximum(np.abs(q), 1))),
        np.full(32, rng.choice([-128, -1, 1, 127, most, -most])),
        np.where(half, 0, q),
        rng.permutation(np.concatenate([q[:16], -q[:16]])),
        rng.integers(-128, 128, 32) // unit * unit,
        np.where(here, 0, np.where(q == 0, most, q)),
    )
    return kinds[kind]
