"""The blocks that quantizers are compared on: six families, each a seeded stream of a million blocks or more.

Random data hardly finds the places where two arithmetics of quantization differ (a few blocks in 100,000),
so three families are chosen to sit on them::

    gaussian    N(0, 1)
    uniform     U(-1, 1)
    bf16        N(0, 0.02) rounded to bfloat16: weights as they are published
    exact-tie   amax = 127 * 2^e, every other element an odd multiple of 2^(e-1): x * inv is exactly k + 1/2
    near-tie    any amax; elements at f32((k + 1/2) * d), or one ULP below or above it
    int8-grid   f32(q * d), q an int8 and d a half: a block that was quantized before

All are in the domain of every recipe: finite, 1/d finite, the stored scale neither zero nor infinite. The
same seed, family and chunk give the same blocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from q8a8.layout import QK8_A8

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["CHUNK", "FAMILIES", "chunks"]

F32: TypeAlias = NDArray[np.float32]

CHUNK = 1 << 15
"""Blocks at a time: 4 MiB of float32."""


def _gaussian(rng: np.random.Generator, n: int) -> F32:
    return rng.standard_normal((n, QK8_A8), np.float32)


def _uniform(rng: np.random.Generator, n: int) -> F32:
    return rng.random((n, QK8_A8), np.float32) * np.float32(2) - np.float32(1)


def _bf16(rng: np.random.Generator, n: int) -> F32:
    bits = (_gaussian(rng, n) * np.float32(0.02)).view(np.uint32)
    # To nearest, ties to even, of the upper 16 bits; nothing here is near the overflow.
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    out: F32 = (rounded & np.uint32(0xFFFF0000)).view(np.float32)
    return out


def _exact_tie(rng: np.random.Generator, n: int) -> F32:
    # d = 2^e is a half without rounding, so every recipe has the inverse 2^-e, without rounding too.
    half = rng.integers(-127, 127, (n, QK8_A8)).astype(np.float32) + np.float32(0.5)
    half[np.arange(n), rng.integers(0, QK8_A8, n)] = np.where(rng.random(n) < 0.5, -127, 127)
    out: F32 = np.ldexp(half, rng.integers(-24, 16, (n, 1)))
    return out


def _near_tie(rng: np.random.Generator, n: int) -> F32:
    amax = rng.uniform(1, 2, (n, 1)).astype(np.float32)
    amax = np.ldexp(amax, rng.integers(-16, 16, (n, 1)))
    k = rng.integers(-127, 127, (n, QK8_A8)) + 0.5
    # The product is exact in float64 but for the quotient's rounding, which is far below one float32 ULP.
    x = (k * (amax.astype(np.float64) / 127)).astype(np.float32)
    step = rng.integers(-1, 2, x.shape)
    x = np.where(step == 0, x, np.nextafter(x, np.copysign(np.float32(np.inf), step).astype(np.float32)))
    x[np.arange(n), rng.integers(0, QK8_A8, n)] = amax[:, 0]
    return x


def _int8_grid(rng: np.random.Generator, n: int) -> F32:
    # A half's bits: normal and subnormal, 2^-20 to 2^10.
    d = rng.integers(0x0010, 0x6400, (n, 1)).astype(np.uint16).view(np.float16).astype(np.float32)
    q = rng.integers(-127, 128, (n, QK8_A8)).astype(np.float32)
    # Every other block has an element at 127, so that its amax gives the same d again.
    q[::2, 0] = 127
    return q * d


FAMILIES: Mapping[str, Callable[[np.random.Generator, int], F32]] = {
    "gaussian": _gaussian,
    "uniform": _uniform,
    "bf16": _bf16,
    "exact-tie": _exact_tie,
    "near-tie": _near_tie,
    "int8-grid": _int8_grid,
}
"""Name to a function that makes float32 [n, 32] from a generator."""


def chunks(family: str, blocks: int, seed: int = 0) -> Iterator[F32]:
    """Yield `blocks` blocks of a family, float32 [n, 32] at a time.

    Chunk i is a stream of its own, seeded by (seed, family, i): a shorter run is a prefix of a longer one.

    Raises
    ------
    KeyError
        No such family.
    """
    make = FAMILIES[family]
    number = list(FAMILIES).index(family)
    for i, start in enumerate(range(0, blocks, CHUNK)):
        rng = np.random.Generator(np.random.PCG64([seed, number, i]))
        yield make(rng, CHUNK)[: min(CHUNK, blocks - start)]
