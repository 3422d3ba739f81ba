"""Rows for quantizers: data sets that each aim at something, the same in every run.

Random data hardly ever finds a wrong quantizer: of a million gaussian blocks a handful differ between
recipes. So most sets here are made of the edges where recipes differ: exact ties, one ULP off a tie, halves
between two f16 values, the largest and the smallest scales.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from q8a8_conformance.inputs.arrays import Array

OVERFLOW = np.float32(65520 * 127)
"""The first largest magnitude whose scale would be infinite."""

F32 = np.float32


def _generator(name: str) -> np.random.Generator:
    return np.random.default_rng(list(name.encode()))


def gaussian(blocks: int = 2000) -> Array:
    """Generate blocks as weights have them, at magnitudes from 2^-12 to 2^12."""
    rng = _generator("gaussian")
    scale = np.exp2(rng.uniform(-12, 12, (blocks, 1)))
    return (rng.standard_normal((blocks, 32)) * scale).astype(F32)


def uniform(blocks: int = 1000) -> Array:
    """Generate elements spread evenly."""
    return _generator("uniform").uniform(-1, 1, (blocks, 32)).astype(F32)


def bf16(blocks: int = 2000) -> Array:
    """Generate gaussian weights that were stored as bf16, as most checkpoints are: many near-ties."""
    x = _generator("bf16").standard_normal((blocks, 32)).astype(F32)
    cut: Array = (x.view(np.uint32) & np.uint32(0xFFFF0000)).view(F32)
    return cut


def int8_grid(blocks: int = 500) -> Array:
    """Generate values that are integers times a power of two: weights that were quantized before."""
    rng = _generator("int8-grid")
    x = rng.integers(-127, 128, (blocks, 32)).astype(F32)
    return np.ldexp(x, rng.integers(-20, 10, (blocks, 1))).astype(F32)


def ties(blocks: int = 400) -> Array:
    """Generate ties of either sign, exactly between two codes, under amax = 127 · 2^e: x · inv is exact."""
    rng = _generator("ties")
    x = (rng.integers(0, 127, (blocks, 32)) + 0.5) * rng.choice([-1.0, 1.0], (blocks, 32))
    x[np.arange(blocks), rng.integers(0, 32, blocks)] = rng.choice([-127.0, 127.0], blocks)
    return np.asarray(np.ldexp(x, rng.integers(-12, 12, (blocks, 1))), F32)


def every_tie() -> Array:
    """Generate every tie between two codes, of either sign, and its neighbours, under amax = 127 · 2^e."""
    ties = np.arange(127, dtype=F32) + F32(0.5)
    values = np.concatenate([ties, *(np.nextafter(ties, F32(side)) for side in (0, 128))])
    values = np.concatenate([values, -values])
    rows = np.resize(values, (-(-values.size // 31), 31))
    rows = np.insert(rows, 31, 127, axis=1)
    return np.concatenate([np.ldexp(rows, e) for e in (-24, -14, -7, -1, 0, 1, 5, 15)]).astype(F32)


def near_ties(blocks: int = 3000) -> Array:
    """Generate elements within three ULP of a tie under any amax: where one rounding more or less shows."""
    rng = _generator("near-ties")
    amax = np.exp2(rng.uniform(-10, 10, (blocks, 1))).astype(F32)
    codes = (rng.integers(0, 127, (blocks, 32)) + 0.5).astype(np.float64)
    x = (codes * amax / 127).astype(F32)
    steps = rng.integers(-3, 4, (blocks, 32), dtype=np.int32)
    x = (x.view(np.int32) + steps).view(F32) * rng.choice([-1, 1], (blocks, 32)).astype(F32)
    x[:, 7] = amax[:, 0]
    return x.astype(F32)


def half_edges(blocks: int = 2000) -> Array:
    """Generate amax such that amax/127 is at, or up to two ULP beside, the middle of two neighbouring halves.

    All magnitudes of halves occur, subnormal ones and the overflow edge too: wrong ties, truncation,
    flushed subnormals and saturation show in the scale.
    """
    rng = _generator("half-edges")
    low = np.concatenate(
        [rng.integers(0, 0x7BFF, blocks - 64), np.arange(32), np.arange(0x7BFF - 32, 0x7BFF)]
    )
    halves = low.astype(np.uint16).view(np.float16).astype(np.float64)
    above = (low + 1).astype(np.uint16).view(np.float16).astype(np.float64)
    amax = ((halves + above) / 2 * 127).astype(F32)
    amax = (amax.view(np.int32) + rng.integers(-2, 3, len(amax), dtype=np.int32)).view(F32)
    amax = np.clip(amax, 0, np.nextafter(OVERFLOW, F32(0)))
    return _blocks_of_amax(rng, amax)


def vanishing(blocks: int = 600) -> Array:
    """Generate blocks about the size where the stored half becomes 0 (amax/127 = 2^-25), and far below."""
    rng = _generator("vanishing")
    third = blocks // 3
    edge = F32(127 * 2.0**-25)
    near = (edge.view(np.int32) + rng.integers(-6, 7, third, dtype=np.int32)).view(F32)
    small = np.exp2(rng.uniform(-40, -15, third)).astype(F32)
    tiny = rng.integers(0, 0x01000000, blocks - 2 * third, dtype=np.int32).view(F32)
    return _blocks_of_amax(rng, np.concatenate([near, small, tiny]))


def huge(blocks: int = 300) -> Array:
    """Generate blocks up to the last magnitude with a finite scale, at its very edge too."""
    rng = _generator("huge")
    last = np.nextafter(OVERFLOW, F32(0))
    amax = (last.view(np.int32) - rng.integers(0, 40, blocks, dtype=np.int32)).view(F32)
    amax[::2] = rng.uniform(1e5, float(last), len(amax[::2])).astype(F32)
    return _blocks_of_amax(rng, amax)


def peaks() -> Array:
    """Generate blocks with one large element at each place, of either sign: all count in amax."""
    rng = _generator("peaks")
    x = rng.uniform(-1, 1, (2, 32, 32)).astype(F32)
    place = np.arange(32)
    x[0, place, place], x[1, place, place] = 100, -100
    return x.reshape(64, 32)


def neighbours() -> Array:
    """Generate blocks of very different size side by side, some all zero: none may influence another."""
    rng = _generator("neighbours")
    scale = np.exp2(rng.choice([-20.0, -10.0, 0.0, 10.0, 18.0], (128, 1)))
    x = rng.standard_normal((128, 32)) * scale
    x[::5] = 0
    x[2::10] = -0.0
    return np.asarray(x, F32)


def zeros() -> Array:
    """Generate all-zero blocks of every mix of +0 and -0."""
    signs = _generator("zeros").choice([0.0, -0.0], (16, 32))
    signs[0], signs[1] = 0.0, -0.0
    return np.asarray(signs, F32)


def exact_codes() -> Array:
    """Generate blocks of integers with amax = 127/8: all recipes give the same bytes."""
    rng = _generator("exact-codes")
    x = rng.integers(-126, 127, (40, 32)).astype(F32)
    x[:, 0] = 127
    x[:, 1:] += (x[:, 1:] == 0).astype(F32)
    return np.ldexp(x, -3).astype(F32)


def _blocks_of_amax(rng: np.random.Generator, amax: Array) -> Array:
    """Fill blocks whose largest magnitudes are given [n], at a random place with a random sign."""
    n = len(amax)
    x = (rng.uniform(-1, 1, (n, 32)) * amax[:, np.newaxis].astype(np.float64)).astype(F32)
    sign = rng.choice([-1, 1], n).astype(F32)
    x[np.arange(n), rng.integers(0, 32, n)] = amax * sign
    return x


SETS: Mapping[str, tuple[Callable[[], Array], tuple[str, ...]]] = MappingProxyType(
    {
        "gaussian": (gaussian, ("Q8A8-QNT-1", "Q8A8-QNT-2", "Q8A8-QNT-3", "Q8A8-QNT-4", "Q8A8-HLF-1")),
        "uniform": (uniform, ("Q8A8-QNT-1", "Q8A8-QNT-2", "Q8A8-QNT-3", "Q8A8-QNT-4", "Q8A8-HLF-1")),
        "bf16": (bf16, ("Q8A8-QNT-3", "Q8A8-QNT-4")),
        "int8-grid": (int8_grid, ("Q8A8-QNT-3", "Q8A8-QNT-4")),
        "ties": (ties, ("Q8A8-QNT-4",)),
        "every-tie": (every_tie, ("Q8A8-QNT-4",)),
        "near-ties": (near_ties, ("Q8A8-QNT-3", "Q8A8-QNT-4")),
        "half-edges": (half_edges, ("Q8A8-QNT-2", "Q8A8-HLF-1", "Q8A8-HLF-2", "Q8A8-HLF-4", "Q8A8-HLF-5")),
        "vanishing": (vanishing, ("Q8A8-QNT-3", "Q8A8-QNT-6", "Q8A8-HLF-2")),
        "huge": (huge, ("Q8A8-HLF-4", "Q8A8-QNT-2")),
        "peaks": (peaks, ("Q8A8-QNT-1",)),
        "neighbours": (neighbours, ("Q8A8-QNT-7",)),
        "zeros": (zeros, ("Q8A8-QNT-6",)),
        "exact-codes": (exact_codes, ("Q8A8-LAY-1", "Q8A8-LAY-2")),
    }
)
"""Each set with the rules that it is about."""


def survey() -> Array:
    """Generate blocks [nb, 32] on which all recipes differ: they show which one a quantizer follows."""
    return np.concatenate(
        [ties(100), near_ties(400), bf16(200), half_edges(128), vanishing(120), gaussian(100), int8_grid(60)]
    )
