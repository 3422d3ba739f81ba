"""Rows of up to 65,537 blocks in which every block counts, with the results of each function.

A row is a part of one long row per function, and its expected value a part of one long expected value. The
long row repeats `PERIOD` blocks, a prime number: blocks any power of two apart differ, so that a kernel that
loses, repeats or exchanges blocks anywhere, a tile or a counter's range apart, gives another result.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from q8a8 import dequantize_row, layout
from q8a8.recipe import quantize_blocks
from q8a8_conformance.inputs import calls, dot_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call

LONGEST = 65_537
"""Blocks of the longest row: one more than 16 bits count."""

PERIOD = 4099
"""Blocks after which the long rows repeat: a prime just over a usual tile."""

REPEATS = 17
"""Periods of a long row: `LONGEST` blocks may start anywhere in the first one."""

PEAK = np.float32(127 / 32)
"""The largest magnitude of the activation vectors; the others are below 1. A step is 1/32."""

VECTOR_REPEATS = 33
"""Periods of the long activation vector: over 2^22 elements."""

MATRIX = 4096 * 4096 // 32 + 3
"""Blocks of a row that is a whole matrix, and some: more groups of eight than 16 bits count."""

UNUSED = 0x4200
"""Bits of the scale that ``_real`` must not use: 3.0, no power of two."""


def _around(tiles: tuple[int, ...], tails: range | tuple[int, ...]) -> set[int]:
    return {tile + tail for tile in tiles for tail in tails}


_WIDTHS = (
    *(576, 640, 768, 896, 960, 1024, 1152, 1280, 1408, 1536, 1600, 1792, 2048, 2304, 2560, 2816, 3072, 3200),
    *(3456, 3584, 3840, 4096, 4480, 4544, 4608, 4864, 5120, 5376, 5504, 5632, 6144, 6400, 6656, 6912, 7168),
    *(7680, 8192, 8640, 8960, 9216, 9728, 10_240, 11_008, 11_264, 12_288, 13_312, 13_696, 13_824, 14_336),
    *(14_848, 15_360, 16_384, 17_408, 17_920, 18_176, 18_432, 18_944, 20_480, 21_504, 22_016, 24_576),
    *(25_600, 27_392, 27_648, 28_672, 29_568, 32_768, 36_864, 49_152, 53_248),
)
"""Hidden and feed-forward sizes of published language models (``config.json`` of the families BERT, GPT,
Llama, Qwen, Gemma, Phi, Falcon, DeepSeek, ChatGLM, SmolLM): kernels are specialized for some of them."""

WIDTHS = tuple(size // 32 for size in _WIDTHS)
"""These sizes in blocks."""

MANY_DIVISORS = (53_760, 60_000, 61_440)
"""Block counts that are multiples of nearly every tile that is no power of two: of 3, 5 or 15 times a power
of two up to 4096, of 7 times one up to 512, and of round numbers up to 30,000. With a tail of a few blocks
each of them shows what a kernel does with a short tail behind any of these tiles."""

RANGES: Mapping[str, tuple[int, ...]] = {
    "0-130": tuple(range(131)),
    "131-1040": tuple(
        sorted(
            _around((256, 512, 1024), range(-1, 17))
            | _around((144, 160, 192, 224, 300, 320, 384, 640, 768, 1000), range(-1, 2))
        )
    ),
    # (1820 and 1927 blocks of 36 and 34 bytes are the last ones below 65,536 bytes.)
    "1041-8200": tuple(
        sorted(
            _around((2048, 8192), range(-1, 9))
            | _around((4096,), range(-1, 17))
            | _around((1500, 1821, 1928, 3000, 5000), range(-1, 2))
        )
    ),
    "widths": WIDTHS,
    "8201-65537": tuple(
        sorted(
            {16383, 16384, 16385, 16387, 32767, 32768, 32769, 32771, 65535, 65536, 65537}
            | _around(MANY_DIVISORS, (1, 3))
        )
    ),
}
"""Block counts by range: every one up to 130, then around powers of two and other usual tiles, with short
tails: every remainder of a loop unrolled 8 or 16 times."""

LARGE: Mapping[str, tuple[int, ...]] = {
    **RANGES,
    "8201-65537": tuple(sorted({16385, 32768, 32771, 65537} | _around(MANY_DIVISORS, (3,)))),
}
"""The same with fewer of the longest rows, for calls of more bytes."""


def _tiled(one: Array) -> Array:
    """Repeat one period along the first axis."""
    return np.concatenate([one] * REPEATS)


def start_of(nb: int) -> int:
    """Return the block of the long row at which a row of `nb` blocks starts: another for each length."""
    return nb * 7 % PERIOD


@dataclass(frozen=True)
class DotRows:
    """The long rows of the dot products.

    Attributes
    ----------
    x, y
        Two rows of each side, as bytes of v1 blocks.
    x_v2, y_v2
        The first row of each side, as bytes of v2 blocks.
    sums
        int64 [2, 2, blocks + 1] by row of x and row of y: what the blocks before one give in all.
    """

    x: tuple[bytes, bytes]
    y: tuple[bytes, bytes]
    x_v2: bytes
    y_v2: bytes
    sums: Array

    def call(self, nb: int) -> Call:
        """Return the dot product of rows of `nb` blocks."""
        rows = {"vx": self._row(self.x[0], nb), "vy": self._row(self.y[0], nb)}
        return calls.build(calls.DOT, 32 * nb, rows)

    def call_v2(self, nb: int) -> Call:
        """Return the dot product of rows of `nb` v2 blocks."""
        rows = {"vx": self._row(self.x_v2, nb, 36), "vy": self._row(self.y_v2, nb, 36)}
        return calls.build(calls.DOT_REAL, 32 * nb, rows)

    def call_pair(self, nb: int, *, bs: int, x_gap: int, y_gap: int) -> Call:
        """Return the four dot products of rows of `nb` blocks."""
        x, y = ((self._row(side[0], nb), self._row(side[1], nb)) for side in (self.x, self.y))
        return calls.pair_of_bytes(nb, x, y, bs=bs, x_gap=x_gap, y_gap=y_gap)

    def result(self, nb: int, i: int = 0, j: int = 0) -> bytes:
        """Return the float's bytes for row i of x and row j of y: exact, so of any order."""
        start, sums = start_of(nb), self.sums[i, j]
        return calls.float_bytes(float(sums[start + nb] - sums[start]))

    def results(self, call: Call, nb: int) -> bytes:
        """Return what ``s`` of an ``nrc = 2`` call must hold."""
        expected = bytearray(calls.poison(4 * (call.bs + 2)))
        for i, j in product((0, 1), (0, 1)):
            place = 4 * (j * call.bs + i)
            expected[place : place + 4] = self.result(nb, i, j)
        return bytes(expected)

    def of_matrix(self, function: str) -> tuple[Call, bytes]:
        """Return the dot product of rows of `MATRIX` blocks, of which the last `LONGEST` count."""
        first, size = (self.x_v2, self.y_v2), 36
        if function == calls.DOT:
            first, size = (self.x[0], self.y[0]), 34
        leading = (MATRIX - LONGEST) * bytes(size)
        x, y = (leading + self._row(row, LONGEST, size) for row in first)
        return calls.build(function, 32 * MATRIX, {"vx": x, "vy": y}), self.result(LONGEST)

    @staticmethod
    def _row(data: bytes, nb: int, size: int = 34) -> bytes:
        start = size * start_of(nb)
        return data[start : start + size * nb]


@cache
def dots() -> DotRows:
    """Generate the rows of dot products: exact by construction, whatever part of them is taken.

    Codes of x are 1, 2 or 3, those of y 1 to 6, so every product counts and none can cancel another. The
    scales of block b are ±2^e(b) for x0 and twice that for x1, ±2^-e(b) for y0 and four times that for y1,
    with the same sign: a scale of another block or row shows. Every term of x_i·y_j is then an integer in
    units of g = 2^i · 4^j. A block has 224 units on average, and `LONGEST` blocks at most 2^24 wherever they
    start (the tests count them): by "Inputs exact by construction" on the page "Proofs" no order can round.
    """
    rng = dot_rows.generator("long-dots")
    scales = np.ldexp(rng.choice([-1.0, 1.0], PERIOD), rng.integers(-6, 7, PERIOD))
    codes_x, codes_y = rng.integers(1, 4, (2, PERIOD, 32)), rng.integers(1, 7, (2, PERIOD, 32))
    x = [dot_rows.blocks(scales * 2**i, codes_x[i]) for i in (0, 1)]
    y = [dot_rows.blocks(4**j / scales, codes_y[j]) for j in (0, 1)]
    sums = np.zeros((2, 2, REPEATS * PERIOD + 1), np.int64)
    for i, j in product((0, 1), (0, 1)):
        of_blocks = (codes_x[i] * codes_y[j]).sum(axis=1) * (2**i * 4**j)
        np.cumsum(_tiled(of_blocks), out=sums[i, j, 1:])
    x_v2, y_v2 = dot_rows.to_v2(x[0], y[0], unused=UNUSED)
    first, second = ([row.tobytes() * REPEATS for row in side] for side in (x, y))
    return DotRows(
        (first[0], first[1]),
        (second[0], second[1]),
        x_v2.tobytes() * REPEATS,
        y_v2.tobytes() * REPEATS,
        sums,
    )


@dataclass(frozen=True)
class BlockRows:
    """A long row of a function that treats each block alone, and what it must give."""

    data: bytes
    expected: bytes

    def part(self, nb: int) -> tuple[bytes, bytes]:
        """Return a row of `nb` blocks, and its result."""
        start, stop = start_of(nb), start_of(nb) + nb
        data, expected = self.data, self.expected
        size, width = (len(each) // (REPEATS * PERIOD) for each in (data, expected))
        if stop > REPEATS * PERIOD:
            more = stop // PERIOD + 1
            data, expected = (each[: len(each) // REPEATS] * more for each in (data, expected))
        return data[size * start : size * stop], expected[width * start : width * stop]


@cache
def elements(recipe: str = "design") -> BlockRows:
    """Generate the long row of the row quantizers, and its blocks by a recipe: of any size, no two alike.

    Every second block has ties between two codes, beside an amax of 127 steps.
    """
    rng = dot_rows.generator("long-elements")
    x = rng.uniform(-1, 1, (PERIOD, 32))
    x[::2] = (rng.integers(-126, 126, x[::2].shape) + 0.5) / 128
    x[::2, 5] = rng.choice([-127.0, 127.0], len(x[::2])) / 128
    x *= np.exp2(rng.integers(-8, 9, (PERIOD, 1)))
    rows = x.astype(np.float32)
    blocks = layout.pack(*quantize_blocks(rows, recipe))
    return BlockRows(rows.tobytes() * REPEATS, blocks.tobytes() * REPEATS)


@cache
def quantized() -> BlockRows:
    """Generate the long row for dequantization: any codes, scales of either sign and of full precision.

    Every seventh scale and the next are subnormal halves or zeros, of either sign: zeros stand side by side.
    """
    rng = dot_rows.generator("long-blocks")
    scales = rng.uniform(-2, 2, PERIOD)
    places = np.arange(PERIOD) % 7 < 2
    small = np.ldexp(rng.integers(0, 1024, PERIOD) * (rng.random(PERIOD) < 0.5), -24)
    scales[places] = np.copysign(small, scales)[places]
    blocks = dot_rows.blocks(scales, rng.integers(-128, 128, (PERIOD, 32)))
    return BlockRows(blocks.tobytes() * REPEATS, dequantize_row(blocks).astype("<f4").tobytes() * REPEATS)


@dataclass(frozen=True)
class LongVector:
    """A long activation vector without its peak: elements, and their codes and scale beside a peak."""

    x: Array
    codes: Array
    scale: bytes

    def call(self, size: int, place: int) -> tuple[Call, dict[str, bytes]]:
        """Return the call for so many elements with the peak at a place, and its result."""
        x, codes = self.x[:size].copy(), self.codes[:size].copy()
        if not size:
            return calls.activation(x), {"output": b"", "scale": bytes(2)}
        sign = 1 if place % 2 else -1
        x[place], codes[place] = sign * PEAK, sign * 127
        return calls.activation(x), {"output": codes.tobytes(), "scale": self.scale}


@cache
def vector(recipe: str = "design") -> LongVector:
    """Generate the long activation vector: its largest magnitude is the peak's, wherever that is."""
    rng = dot_rows.generator("long-vector")
    x = rng.uniform(-1, 1, 32 * PERIOD).astype(np.float32)
    x[1::3] = (rng.integers(-31, 31, x[1::3].size) + 0.5) / 32  # ties between two codes
    scale, codes = quantize_blocks(np.append(x, PEAK)[np.newaxis], recipe)
    return LongVector(np.tile(x, VECTOR_REPEATS), np.tile(codes[0, :-1], VECTOR_REPEATS), scale.tobytes())
