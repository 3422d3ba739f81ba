"""Calls of a quantizer on blocks of every size and content, and in rows of many lengths, with their results.

A law (`quantizer_laws`) says what happens, and where. It is read off these calls: blocks whose amax runs from
zero to the largest, in no order, on elements on which ways to quantize differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from q8a8.recipe import RECIPES, apply_recipe
from q8a8_conformance.inputs.calls import ACTIVATION
from q8a8_conformance.reveal import quantizer_probes as probes
from q8a8_conformance.reveal.quantizer_calls import BLOCK, FILLS, blocks_of, elements_of, written

if TYPE_CHECKING:
    from collections.abc import Iterator

    from q8a8_conformance.results.observations import CallResult
    from q8a8_conformance.reveal.quantizer_calls import QuantizerCalls

Array = NDArray[Any]

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

VECTOR, VECTORS = 40, 160
"""Elements of the vectors of every amax, and how many of them are made."""


@dataclass(frozen=True)
class Case:
    """What one call gave.

    Attributes
    ----------
    x
        Elements that share a scale, float32 [n, s].
    before, got
        The blocks' bytes before and after it, uint8 [n, 2 + s].
    is_row
        Whether it holds blocks of 32, or else one vector.
    """

    x: Array
    before: Array
    got: Array
    is_row: bool

    @cached_property
    def amax(self) -> Array:
        """The largest magnitudes, float32 [n]."""
        return np.asarray(np.abs(self.x).max(axis=1, initial=F32(0)))

    @cached_property
    def right(self) -> Array:
        """The bytes that are right."""
        h, q, _ = apply_recipe(self.x, DESIGN, self.amax)
        return blocks_of(h, q).data

    @cached_property
    def scales(self) -> Array:
        """The right scales' bits, uint16 [n]."""
        return np.ascontiguousarray(self.right[:, :2]).view("<u2")[:, 0]

    @property
    def size(self) -> int:
        """The blocks of a row, or the elements of a vector."""
        return len(self.x) if self.is_row else self.x.shape[1]


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
    every = np.concatenate([many, some, even, zeros]).astype(F32)
    blocks = every[rng.permutation(len(every))]
    blocks.setflags(write=False)
    return np.asarray(blocks)


@lru_cache(maxsize=1)
def _rows() -> tuple[Array, ...]:
    return tuple(np.split(pool(), range(ROW, len(pool()), ROW)))


@lru_cache(maxsize=64)
def row_of(n: int) -> Array:
    """Return a row of n blocks in which every way to quantize shows in most."""
    rng = np.random.default_rng(n)
    ordinary = pool()[np.abs(pool()).max(axis=1) > F32(2.0**-16)]
    return np.asarray(ordinary[rng.integers(0, len(ordinary), n)])


@lru_cache(maxsize=128)
def vector_of(n: int) -> Array:
    """Return a vector [1, n] on which every way to quantize shows, of no sign more than of the other."""
    rng = np.random.default_rng(n)
    amax, values = probes.keen_values()[n % probes.KEEN]
    if n % 3 == 0:
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


def at(calls: QuantizerCalls, n: int) -> Case:
    """Make a call on the row, or the vector, of one length."""
    return make_case(calls, row_of(n) if calls.is_row else vector_of(n))
