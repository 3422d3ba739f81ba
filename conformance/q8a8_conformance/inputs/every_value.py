"""Inputs that go through a finite set: every pair of codes, every half as a scale, every end of a scale.

All dot products here are exact by construction. Wrong tables have one wrong entry; it shows alone.
"""

from __future__ import annotations

from functools import cache
from itertools import accumulate, cycle, pairwise, takewhile
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.inputs import dot_rows
from q8a8_conformance.inputs.blocks import OVERFLOW

if TYPE_CHECKING:
    from collections.abc import Iterator

    from q8a8_conformance.inputs.arrays import Array

F32 = np.float32

PAIRS = 1 << 16
"""Pairs of codes: all int8 by all int8."""

BINADES = 31
"""Exponents of the finite halves, that of the subnormal ones first."""

INFINITE = 0x7C00
"""Bits of the first half that is not finite."""


def pairs_at_every_place() -> Iterator[dot_rows.Pair]:
    """Yield rows of about 110 blocks in which each of 32 places meets every pair of codes once."""
    rng = dot_rows.generator("pairs-at-every-place")
    numbers = rng.permuted(np.tile(np.arange(PAIRS, dtype=np.uint16), (32, 1)), axis=1).T
    return _rows_of_pairs(np.ascontiguousarray(numbers))


def pairs_once(seed: int) -> Iterator[dot_rows.Pair]:
    """Yield rows of about 110 blocks in which every pair of codes comes once, at any place."""
    numbers = dot_rows.generator("pairs-once", seed).permutation(PAIRS).astype(np.uint16)
    return _rows_of_pairs(numbers.reshape(-1, 32))


def _rows_of_pairs(numbers: Array) -> Iterator[dot_rows.Pair]:
    """Cut pairs of codes [blocks, 32] into rows of other lengths, for tails of all kinds; scales are 1.

    All products of a row of 112 blocks are 3584 magnitudes of 4096 on average: below 2^24 in all, so that
    no order rounds (the tests add them up).
    """
    x = dot_rows.blocks(1.0, (numbers & 255).astype(np.uint8).view(np.int8))
    y = dot_rows.blocks(1.0, (numbers >> 8).astype(np.uint8).view(np.int8))
    stops = takewhile(lambda stop: stop < len(x), accumulate(cycle(range(105, 113)), initial=0))
    for start, stop in pairwise((*stops, len(x))):
        yield x[start:stop], y[start:stop]


def halves_of_binade(binade: int) -> tuple[dot_rows.Pair, dot_rows.Pair]:
    """Generate two rows of x and two of y whose scales are all halves of one exponent, of both signs.

    x0 and y1 have these scales, each with one code; y0 and x1 have ones in the same places. Products of
    neighbouring halves alternate in sign, so that partial sums stay small and an error of a scale is not
    rounded away. Of x0·y0 and x1·y1 every term is a multiple of the binade's ULP g, and 2048 magnitudes
    are below 2^22 g: exact by construction. The codes of x0 and y1, and of x1 and y0, are in different
    places; in the last block alone all meet, so that no result is a zero.
    """
    # (Zeros are left out: what a zero scale does to its row is another matter.)
    bits = np.maximum(np.arange(1024, dtype=np.uint16) | np.uint16(binade << 10), np.uint16(1))
    scales = np.append(np.concatenate([bits, bits | np.uint16(0x8000)]).view(np.float16), np.float16(1))
    scales[-1] = np.ldexp(1.0, max(binade, 1) - 15)
    number = np.arange(scales.size - 1)
    sign = np.where((number + number // 1024) % 2, -1, 1)
    codes = np.zeros((2, 2, scales.size, 32), np.int8)
    codes[0, 0, number, number % 32], codes[1, 0, number, number % 32] = 1, sign
    codes[0, 1, number, (number + 1) % 32], codes[1, 1, number, (number + 1) % 32] = sign, 1
    codes[:, :, -1] = 1
    return (
        (dot_rows.blocks(scales, codes[0, 0]), dot_rows.blocks(1.0, codes[0, 1])),
        (dot_rows.blocks(1.0, codes[1, 0]), dot_rows.blocks(scales, codes[1, 1])),
    )


BESIDE_TIES = 1 << 15
"""Blocks with another fraction of amax each: approximations of an inverse are wrong for some in 10,000."""

HUGE_STEPS = 1 << 12
"""Parts of a binade of huge numbers, each of which has an amax."""


@cache
def every_amax() -> Array:
    """Return largest magnitudes, float32 [n]: where each scale begins and ends, and the usual numbers.

    These are: for every two neighbouring halves the float 127 times their middle, which is exact, with both
    its neighbours; every finite half; every bfloat16 of the domain from the first one with a scale on; and
    above the largest half, where some kernels take another path, one of each 4096th of a binade.
    """
    halves = np.arange(INFINITE, dtype=np.uint16).view(np.float16).astype(np.float64)
    middles = _amax_of_ties()
    near = [np.nextafter(middles, F32(side)) for side in (0, np.inf)]
    bfloat16 = (np.arange(0x3400, 0x4B00, dtype=np.uint32) << 16).view(F32)
    steps = np.arange(HUGE_STEPS) + dot_rows.generator("huge-amax").uniform(0, 1, (7, HUGE_STEPS))
    huge = np.ldexp(1 + steps / HUGE_STEPS, np.arange(16, 23)[:, np.newaxis]).astype(F32).reshape(-1)
    found = np.concatenate([middles, *near, halves[1:].astype(F32), bfloat16, huge])
    return found[found < OVERFLOW]


def _amax_of_ties() -> Array:
    """Return 127 times the middle of every two neighbouring halves, float32 [n]: each is exact."""
    halves = np.arange(INFINITE, dtype=np.uint16).view(np.float16).astype(np.float64)
    return np.asarray((halves + np.append(halves[1:], 65536)) / 2 * 127, F32)


USUAL_AMAX = np.unique(
    np.concatenate(
        [
            np.arange(1, 257),
            [448, 480, 511, 512, 1000, 1023, 1024, 2047, 2048, 57344, 65504, 65535],
            np.exp2(np.arange(-20, 23)),
            127 * np.exp2(np.arange(-20, 16)),
        ]
    )
).astype(F32)
"""Largest magnitudes that data really have: integers, ends of small formats, powers of two."""


def blocks_of_amax(amax: Array, size: int = 32) -> tuple[Array, Array, Array]:
    """Return blocks [n, size] with these largest magnitudes, their scales f16 [n] and codes int8 [n, size].

    A block's elements are fixed parts of its amax, another one at each place from block to block. Wherever
    the scale is not zero, their codes are the same for all amax: each part is a fifth of a step or more away
    from a tie. Where it is zero, so are the codes (QNT-6).
    """
    codes = np.resize([127, -32, 101, 1, -3, 64, -127, 90, -17, 2, 55, 126, -77, 8, 0, 113], size)
    codes[16:] = np.resize([25, -119, 43, -6, 12, -95, 70, 84, -48, 33, 5, -61, 106, -2, 19, 38], size)[16:]
    number = np.arange(amax.size)
    shifts = (np.arange(size)[:, np.newaxis] + np.arange(size)) % size
    patterns = np.concatenate([codes[shifts], -codes[shifts]]).astype(np.int8)
    # 127 and -127 are the largest magnitude itself; others lie up to 0.3 of a step beside their codes.
    off = np.where(np.abs(patterns) == 127, 0, 0.3 * (-1.0) ** np.arange(size))
    which = number % size + size * (number // size % 2)
    x = ((patterns + off) / 127)[which] * amax[:, np.newaxis].astype(np.float64)
    scale = (amax / F32(127)).astype(np.float16)
    found = patterns[which]
    found[scale == 0] = 0
    return x.astype(F32), scale, found


def beside_ties(rows: int, seed: int, size: int = 32) -> Array:
    """Generate blocks, float32 [rows, size], whose elements times the inverse are a tie, or just below one.

    A block's amax has any fraction. Of each half number of steps there are the first float that is rounded
    up and the last one that is rounded down, with the design's inverse: an inverse of the next float gives
    other codes.
    """
    rng = dot_rows.generator("beside-ties", seed)
    amax = np.ldexp(rng.integers(1 << 23, 1 << 24, (rows, 1)), rng.integers(-30, -17, (rows, 1))).astype(F32)
    inverse = F32(127) / amax
    ties = (rng.integers(40, 126, (rows, size)) + 0.5).astype(F32)
    x = ties / inverse
    for _ in range(2):
        x = np.where(x * inverse < ties, np.nextafter(x, F32(np.inf)), x)
        below = np.nextafter(x, F32(0))
        x = np.where(below * inverse >= ties, below, x)
    x = np.where(rng.random((rows, size)) < 1 / 2, x, np.nextafter(x, F32(0)))
    x *= rng.choice([-1, 1], (rows, size)).astype(F32)
    x[np.arange(rows), np.arange(rows) % size] = amax[:, 0]
    return x


def rows_beside_ties() -> tuple[Array, Array]:
    """Return w, blocks [1, 1] of ones, and x, float32 [n, 32], the magnitudes of `beside_ties`.

    A product is the sum of a row's codes, times the scale of x.
    """
    x = np.abs(beside_ties(BESIDE_TIES, 0))
    return dot_rows.filled(1, 1)[np.newaxis], x


def codes_by_codes() -> tuple[Array, Array]:
    """Return w, blocks [256, 9], and x, float32 [9, 288], whose products meet every pair of codes.

    Row a of w has one code throughout, another one in each row; row i of x goes through all codes that a
    quantized element may have, from -127 to 127, from another one on, with a 127 in each block: so every
    recipe finds these codes under a scale of 1, and no sum has more than 24 bits.
    """
    codes = np.arange(-128, 128)
    w = dot_rows.blocks(1.0, np.broadcast_to(codes[:, np.newaxis, np.newaxis], (256, 9, 32)))
    x = np.full((9, 9, 32), 127)
    for row in range(9):
        x[row, :, 1:] = ((np.arange(9 * 31) + 31 * row) % 255 - 127).reshape(9, 31)
    return w, x.reshape(9, 288).astype(F32)


def halves_of_rows() -> tuple[Array, Array]:
    """Return w, blocks [n, 1], with every finite half but zero as a scale, and x, float32 [1, 32].

    The elements of x are 127 and -127. Each product is 32 · 127 times the scale, to the bit.
    """
    bits = np.arange(1, INFINITE, dtype=np.uint16)
    scales = np.concatenate([bits, bits | np.uint16(0x8000)]).view(np.float16)
    codes = np.where(np.arange(32) % 3, 1, -1)
    w = dot_rows.blocks(scales, np.broadcast_to(codes, (scales.size, 32)))[:, np.newaxis]
    return w, (127 * codes).astype(F32)[np.newaxis]


def rows_of_amax() -> tuple[Array, Array]:
    """Return w, blocks [1, 1] of ones, and x, float32 [n, 32], whose rows have the usual and other amax.

    These are `USUAL_AMAX`, those of every tie between two scales, and every third of `every_amax` by size. A
    product is the sum of a row's codes, which is no zero, times the scale of x.
    """
    ties = _amax_of_ties()
    amax = np.unique(np.concatenate([USUAL_AMAX, ties[ties < OVERFLOW], np.unique(every_amax())[::3]]))
    return dot_rows.filled(1, 1)[np.newaxis], blocks_of_amax(amax)[0]
