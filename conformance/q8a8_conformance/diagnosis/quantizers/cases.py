"""Calls of a quantizer on blocks of every size and content, and in rows of many lengths, with their results.

A law (`laws`) says what happens, and where. It is read off these calls: blocks whose amax runs from
zero to the largest, in no order, on elements on which ways to quantize differ.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8.recipe import RECIPES, Recipe, apply_recipe
from q8a8.recipe_steps import LARGEST
from q8a8_conformance.inputs.arrays import read_only
from q8a8_conformance.inputs.calls import ACTIVATION
from q8a8_conformance.reveal.quantizers import probes
from q8a8_conformance.reveal.quantizers.calls import BLOCK, FILLS, blocks_of, elements_of, written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.results.observations import CallResult
    from q8a8_conformance.reveal.quantizers.calls import QuantizerCalls

    Mixed = tuple[tuple[dict[str, Any], Callable[["Case"], Array]], ...]

F32 = np.float32
DESIGN = RECIPES["design"]

ROW = 48
"""Blocks of the rows in which blocks of every size come."""

ROW_LENGTHS = (
    *range(1, 26), 31, 32, 33, 34, 35, 40, 47, 48, 49, 63, 64, 65, 66, 96, 97, 127, 128, 129, 130, 255, 256,
    257, 258,
)  # fmt: skip
"""Blocks of rows of which one each is made."""

SIZES = (
    *range(1, 42), 47, 48, 49, 63, 64, 65, 67, 95, 96, 97, 100, 127, 128, 129, 131, 160, 255, 256, 257, 263,
    300, 511, 512, 513, 600, 1000, 1023, 1024, 1025, 1031, 1500, 2048, 2049, 2500, 4096, 4097, 5001, 8193,
    10_000,
)  # fmt: skip
"""Elements of vectors of which one each is made."""

SHORT, TURNS = 9, 6
"""Blocks, or elements, of those of which several are made, and how many: they have few places to show all."""

VECTOR, VECTORS = 40, 160
"""Elements of the vectors of every amax, and how many of them are made."""


@dataclass(frozen=True)
class Case:
    """What one call gave, or several.

    Attributes
    ----------
    x
        Elements that share a scale, float32 [n, s].
    before, got
        The blocks' bytes before and after it, uint8 [n, 2 + s].
    is_row
        Whether it holds blocks of 32, or else vectors of s.
    base
        What is right, or what the quantizer computes but for the law that is looked for.
    mixed
        Steps of the base that are others in some units, and those units: bool [n, 1 + s] of a call.
    lengths
        Of rows: the blocks of each, one row after another.
    kept
        What was computed of it, by name.
    """

    x: Array
    before: Array
    got: Array
    is_row: bool
    base: Recipe = DESIGN
    mixed: Mixed = ()
    lengths: tuple[int, ...] = ()
    kept: dict[str, Array] = field(default_factory=dict, compare=False)

    @cached_property
    def amax(self) -> Array:
        """The largest magnitudes, float32 [n]."""
        return np.asarray(LARGEST[self.base.amax](self.x), F32)

    @cached_property
    def right(self) -> Array:
        """The bytes that are right."""
        if self.mixed:
            return self.over(lambda case: (case.right, case.right))[0]
        h, q, _ = apply_recipe(self.x, self.base, self.amax)
        return blocks_of(h, q).data

    @cached_property
    def defined(self) -> Array:
        """Where the base recipe is defined: bool [n]."""
        return apply_recipe(self.x, self.base, self.amax)[2]

    @cached_property
    def scales(self) -> Array:
        """The right scales' bits, uint16 [n]."""
        return np.ascontiguousarray(self.right[:, :2]).view("<u2")[:, 0]

    @cached_property
    def codes(self) -> Array:
        """The right codes, int16 [n, s]."""
        return self.right[:, 2:].view(np.int8).astype(np.int16)

    @cached_property
    def scaled(self) -> Array:
        """The products x · inv that are rounded, float32 [n, s]; 0 where the scale is."""
        with np.errstate(all="ignore"):
            inverse = np.where(self.scales == 0, F32(0), F32(127) / self.amax)
            return np.asarray(self.x * inverse[:, np.newaxis], F32)

    @cached_property
    def wrong(self) -> Array:
        """Where a scale, or a code, is not right: bool [n, 1 + s]."""
        return ~same_units(self.got, self.right)

    @property
    def size(self) -> int:
        """The blocks of a row, or the elements of a vector."""
        return len(self.x) if self.is_row else self.x.shape[1]

    @cached_property
    def rows(self) -> tuple[tuple[slice, int], ...]:
        """Of rows: which blocks each has, and how many; a vector is one of its own."""
        if not self.is_row:
            return tuple((slice(i, i + 1), self.size) for i in range(len(self.x)))
        ends = np.cumsum(self.lengths or (len(self.x),)).tolist()
        return tuple((slice(a, b), b - a) for a, b in zip([0, *ends], ends, strict=False))

    def by_row(self, of: Callable[[Array], Array], values: Array) -> Array:
        """Return what a function of the values [n] of one row gives for all rows."""
        return np.concatenate([of(values[where]) for where, _ in self.rows] or [values])

    def with_base(self, base: Recipe, mixed: Mixed = ()) -> Case:
        """Return it with another recipe as what is right, with other steps in some units."""
        return replace(self, base=base, mixed=mixed, kept={})

    def over(self, gives: Callable[[Case], tuple[Array, Array]]) -> tuple[Array, Array]:
        """Return what a function gives for each recipe, bytes [n, 2 + s] and more, where that is the base."""
        plain = self.with_base(self.base)
        found = gives(plain)
        for steps, where in self.mixed:
            held = where(plain)
            held = np.concatenate([held[:, :1], held], axis=1)
            other = gives(self.with_base(replace(self.base, **steps)))
            found = np.where(held, other[0], found[0]), np.where(held, other[1], found[1])
        return found

    def with_right(self, data: Array) -> Case:
        """Return it with other bytes as what is right: those of a law, of which another one follows."""
        other = replace(self, kept={})
        other.__dict__["right"] = data
        return other

    def where(self, blocks: Array) -> Case:
        """Return some of the vectors [n], or of the blocks as a row."""
        return replace(
            self, x=self.x[blocks], before=self.before[blocks], got=self.got[blocks], lengths=(), kept={}
        )


def same_units(one: Array, other: Array) -> Array:
    """Return of blocks [n, 2 + s] where the scale, and each code, is the same: bool [n, 1 + s]."""
    same = one == other
    return np.concatenate([same[:, :2].all(axis=1, keepdims=True), same[:, 2:]], axis=1)


def merged(cases: Sequence[Case]) -> list[Case]:
    """Return calls as few ones: all rows together, and vectors of one size."""
    groups: dict[tuple[int, bool], list[Case]] = {}
    for case in cases:
        groups.setdefault((case.x.shape[1], case.is_row), []).append(case)
    return [
        Case(
            np.concatenate([case.x for case in group]),
            np.concatenate([case.before for case in group]),
            np.concatenate([case.got for case in group]),
            is_row,
            group[0].base,
            group[0].mixed,
            tuple(n for case in group for _, n in case.rows) if is_row else (),
        )
        for (_, is_row), group in groups.items()
    ]


def case_of(result: CallResult) -> Case:
    """Return what a call gave, as far as it has whole blocks."""
    call = result.call
    got = written(call.function, call.n, result.outputs).data
    held = tuple(bytes(call.buffers[i].data) for i in call.spec.outputs)
    x = elements_of(call)[: call.n]
    before = written(call.function, call.n, held).data
    return Case(x.reshape(len(got), -1), before, got, call.function != ACTIVATION)


def make_case(calls: QuantizerCalls, x: Array, fill: int = FILLS[0]) -> Case:
    """Make a call on blocks float32 [n, s]."""
    got = calls(x, fill).data
    return Case(x, np.full(got.shape, fill, np.uint8), got, calls.is_row)


@lru_cache(maxsize=1)
@read_only
def pool() -> Array:
    """Return blocks [n, 32] of every amax, in no order: ties, neighbours of ties, zeros, largest ones."""
    rng = np.random.default_rng(77)
    keen = probes.keen_blocks()
    exponents = rng.integers(-34, 10, (20, len(keen), 1))
    many = np.ldexp(np.broadcast_to(keen, (20, *keen.shape)), exponents).reshape(-1, BLOCK)
    many *= rng.choice([F32(-1), F32(1)], (len(many), 1))
    amax = np.concatenate([probes.scale_amaxes(), probes.tiny_amaxes()])
    some = (rng.uniform(-1, 1, (amax.size, BLOCK)) * amax[:, np.newaxis]).astype(F32)
    some[np.arange(amax.size), rng.integers(0, BLOCK, amax.size)] = amax * rng.choice([-1, 1], amax.size)
    # (Under an amax of 127 · 2^e elements are their own products.)
    ties = rng.integers(-127, 127, (120, BLOCK)) + 0.5
    ties[np.arange(120), rng.integers(0, BLOCK, 120)] = 127 * rng.choice([-1, 1], 120)
    even = np.ldexp(ties, rng.integers(-30, 12, (120, 1)))
    zeros = np.copysign(np.zeros((60, BLOCK)), rng.choice([-1, 1], (60, BLOCK)))
    every = np.concatenate([many, some, even, zeros, _sparse(rng), _equals(rng)]).astype(F32)
    return np.asarray(every[rng.permutation(len(every))])


def _sparse(rng: np.random.Generator) -> Array:
    """Return blocks of which most elements are zero, or some lanes of a vector register."""
    lanes = np.arange(BLOCK)
    held = [lanes == j for j in range(BLOCK)]
    held += [lanes % t != r for t in (2, 4, 8, 16) for r in range(t)]
    held += [lanes // t % 2 == r for t in (1, 2, 4, 8, 16) for r in (0, 1)]
    held += [lanes // 8 == r for r in range(4)] + [lanes // 4 != r for r in range(8)]
    mask = np.array(held)
    return np.where(mask, rng.uniform(-1, 1, mask.shape) * np.exp2(rng.integers(-8, 8, (len(mask), 1))), 0)


def _equals(rng: np.random.Generator) -> Array:
    """Return blocks in which the largest magnitude comes several times, of one sign or of both."""
    blocks = rng.uniform(-1, 1, (40, BLOCK))
    for block in blocks:
        block[rng.permutation(BLOCK)[: rng.integers(2, 6)]] = rng.choice([-1, 1]) * 1.5
    blocks[::2] *= rng.choice([-1, 1], (20, BLOCK))
    return np.asarray(blocks)


@lru_cache(maxsize=1)
@read_only
def _rows() -> tuple[Array, ...]:
    return tuple(np.split(pool(), range(ROW, len(pool()), ROW)))


@lru_cache(maxsize=128)
@read_only
def row_of(n: int, turn: int = 0) -> Array:
    """Return a row of n blocks in which every way to quantize shows in most."""
    rng = np.random.default_rng([n, turn] if turn else n)
    ordinary = pool()[(np.abs(pool()).max(axis=1) > F32(2.0**-16)) & (pool() != 0).all(axis=1)]
    return np.asarray(ordinary[rng.integers(0, len(ordinary), n)])


@lru_cache(maxsize=192)
@read_only
def vector_of(n: int, turn: int = 0) -> Array:
    """Return a vector [1, n] on which every way to quantize shows, of no sign more than of the other."""
    rng = np.random.default_rng([n, turn] if turn else n)
    amax, values = probes.keen_values()[(n + 5 * turn) % probes.KEEN]
    if (n + turn) % 3 == 0:
        amax, values = 127.0, rng.integers(-127, 127, 64) + 0.5
    x = rng.choice(np.asarray(values, F32), n).astype(F32)
    x *= rng.choice([F32(-1), F32(1)], n)
    x[int(rng.integers(0, n))] = amax * (1 if n % 2 else -1)
    # (Where parts of a vector had their own amax, it showed.)
    if n > VECTOR:
        parts = np.arange(n) // 16
        x *= np.exp2(-rng.integers(0, 3, parts.max() + 1))[parts].astype(F32)
    return x[np.newaxis]


def values(calls: QuantizerCalls) -> Iterator[Case]:
    """Yield calls on blocks of every amax."""
    if calls.is_row:
        yield from (make_case(calls, x) for x in _rows())
    else:
        for block in pool()[:: len(pool()) // VECTORS]:
            yield make_case(calls, np.resize(block, VECTOR)[np.newaxis])


def places(calls: QuantizerCalls) -> Iterator[Case]:
    """Yield calls on rows, or vectors, of many lengths: one of each."""
    yield from (at(calls, n) for n in (ROW_LENGTHS if calls.is_row else SIZES))
    for n in range(1, SHORT + 1):
        yield from (at(calls, n, turn) for turn in range(1, TURNS))


def at(calls: QuantizerCalls, n: int, turn: int = 0) -> Case:
    """Make a call on the row, or the vector, of one length, in one of several turns."""
    return make_case(calls, row_of(n, turn) if calls.is_row else vector_of(n, turn))


def contents(
    n: int, turns: int, *, is_row: bool, among: Callable[[Case], Array] | None = None
) -> Iterator[Case]:
    """Yield rows, or vectors, of one length that are in no call yet; of blocks [n] `among` some, if given."""
    for turn in range(turns):
        x = row_of(n, turn) if is_row else vector_of(n, turn)
        if among is not None:
            blocks = pool() if is_row else np.array([np.resize(block, n) for block in pool()[turn::turns]])
            chosen = np.flatnonzero(among(_uncalled(blocks, is_row=is_row)))
            if chosen.size:
                some = np.random.default_rng([n, turn]).integers(0, chosen.size, n if is_row else 1)
                x = blocks[chosen[some]]
        yield _uncalled(x, is_row=is_row)


def _uncalled(x: Array, *, is_row: bool) -> Case:
    held = np.full((len(x), 2 + x.shape[1]), FILLS[0], np.uint8)
    return Case(x, held, held, is_row)


FRESH = ((5, 14, 23, 36, 53, 76), (3, 14, 23, 50, 77, 140, 300, 700))
"""Blocks of the rows, and elements of the vectors, on which laws are tried that other calls showed."""


def fresh(calls: QuantizerCalls) -> Iterator[Case]:
    """Yield calls on other blocks: elements of those of the pool, mixed, and random ones."""
    rng = np.random.default_rng(2718)
    for n in FRESH[not calls.is_row]:
        blocks = rng.permuted(pool()[rng.integers(0, len(pool()), n)], axis=1)
        if calls.is_row:
            blocks[::3] = rng.normal(size=blocks[::3].shape)
            yield make_case(calls, blocks)
        else:
            yield make_case(calls, np.resize(blocks[0], n)[np.newaxis])
            yield make_case(calls, rng.normal(size=(1, n)).astype(F32))
