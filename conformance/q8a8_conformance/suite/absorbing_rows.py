"""Rows on which a sum that is rounded more often than the bound allows loses a small term each time.

The first, middle or last block has one large product; all products of the others are equal and small. What
rounds to the large product's ULP then loses the same amount with each addition. The page "Proofs" has the
proof that such rows break no legal order, and how far outside of the bound the others are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.inputs import dot_rows
from q8a8_conformance.results.expected_dot import expected_dots

if TYPE_CHECKING:
    from collections.abc import Iterator

    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.results.expected_dot import ExpectedDot

LENGTHS = (40, 300, 700)
"""Blocks of a row: below usual thresholds, and long enough for two roundings a block to show."""

LARGE_CODE, LARGE_SCALE = 64, 64.0
"""The large product is 64 · 64 under scales whose product is 64 · 64: in all 2^24."""

HALF_ULP = 1.0
"""u = 2^-24 times the large product: half the distance to the next float."""

SHARES = (2.0, 4.0, 8.0, 16.0, 32.0)
"""A block's sum in half ULPs: what is added in so many equal parts is lost part by part."""

ALMOST = 2047 / 2048
"""A sum of two half ULPs times this is cut off where sums are truncated, and rounded up otherwise."""

PERIODS = (2, 4, 8)
"""One block of so many is added otherwise by a kernel whose loop is unrolled."""

GROUPS = (4, 8)
"""A tensor core aligns so many terms and the sum, to a float's bits of the greatest one and one bit more."""

SPLIT_CODES = (31, 23)
"""Codes 16 + 15 and 16 + 7: both nibbles' sums are lost where each is added on its own."""

SPLIT_SUM = 256 + 127
"""A sum of products whose upper and lower byte are lost alike."""


@dataclass(frozen=True)
class AbsorbingRows:
    """Rows of one length: pairs [n, nb], and what their dot products must be."""

    x: Array
    y: Array
    products: tuple[ExpectedDot, ...]


@cache
def absorbing(nb: int) -> AbsorbingRows:
    """Generate all rows of a length."""
    x, y = (np.stack(side) for side in zip(*_pairs(nb), strict=True))
    return AbsorbingRows(x, y, tuple(expected_dots(x, y)))


@cache
def absorbing_matrices(nb: int) -> tuple[Array, Array]:
    """Generate matrices whose products are `absorbing` rows: w, blocks [m, nb], and x, float32 [n, 32·nb].

    The last element of each block of x is 127 times its scale, so that every recipe gives the others their
    codes. No code of w counts there: it is added to the one before.
    """
    rows = absorbing(nb)
    w = rows.x.copy()
    codes = w["weight_qs"]
    codes[..., -2] += codes[..., -1]
    codes[..., -1] = 0
    y = np.stack([np.frombuffer(row, rows.y.dtype) for row in dict.fromkeys(row.tobytes() for row in rows.y)])
    x = y["weight_qs"].astype(np.float32)
    x[..., -2] = np.maximum(x[..., -2], x[..., -1])
    x[..., -1] = 127
    return w, (x * y["weight_scale"][..., np.newaxis]).astype(np.float32).reshape(len(y), -1)


def _pairs(nb: int) -> Iterator[dot_rows.Pair]:
    for number, (code, scale) in enumerate(_small_blocks()):
        for place in (0, nb // 2, nb - 1):
            x, y = dot_rows.filled(nb, code, scale), dot_rows.filled(nb, 1)
            _set_large(x, y, place, lane=(7 * number + place) % 32)
            yield x, y
    # In turn one block of some is cut off where its addition truncates, and the others are lost in any.
    for period in PERIODS:
        for turn in range(period):
            x, y = dot_rows.filled(nb, 1, HALF_ULP / 32), dot_rows.filled(nb, 1)
            x["weight_scale"][turn::period] = 2 * ALMOST * HALF_ULP / 32
            _set_large(x, y, 0, lane=(7 * turn + period) % 32)
            yield x, y
    # Of each group all terms lose nearly half an ULP where they are aligned, and their odd sum another half.
    for group in GROUPS:
        x, y = dot_rows.filled(nb, 1, 2 * ALMOST * HALF_ULP / 32), dot_rows.filled(nb, 1)
        x["weight_scale"][group - 1 :: group] = ALMOST * HALF_ULP / 32
        _set_large(x, y, 0, lane=group)
        yield x, y
    # The block's sum has an upper and a lower byte: 31 products of 12 and one of 11.
    x, y = dot_rows.filled(nb, 12, HALF_ULP / 256), dot_rows.filled(nb, 1)
    x["weight_qs"][:, -1] = SPLIT_SUM - 31 * 12
    _set_large(x, y, 0, lane=0)
    yield x, y


def _small_blocks() -> Iterator[tuple[int, float]]:
    """Yield the code of x and its scale, those of y are 1, for sums of so many half ULPs."""
    for share in SHARES:
        yield 1, share * HALF_ULP / 32
        yield 1, share * ALMOST * HALF_ULP / 32
    for code in SPLIT_CODES:
        yield code, HALF_ULP / (32 * 16)


def _set_large(x: Array, y: Array, place: int, lane: int) -> None:
    """Put the large product into a block, and nothing else."""
    for row in (x, y):
        row["weight_scale"][place] = LARGE_SCALE
        row["weight_qs"][place] = 0
        row["weight_qs"][place, lane] = LARGE_CODE


@cache
def offset(nb: int) -> AbsorbingRows:
    """Generate rows of a length with small codes on one side and large ones of one sign on the other.

    A kernel that adds 128 to the small codes, and takes 128 times the sum of the others away from a sum of
    its own, rounds numbers a hundred times larger than the result's magnitude.
    """
    rng = dot_rows.generator("offset", nb)
    x = dot_rows.blocks(rng.uniform(0.5, 1, (4, nb)), rng.choice([-1, 1], (4, nb, 32)))
    y = dot_rows.blocks(rng.uniform(0.5, 1, (4, nb)), rng.integers(100, 128, (4, nb, 32)))
    x[2:], y[2:] = y[2:].copy(), x[2:].copy()
    return AbsorbingRows(x, y, tuple(expected_dots(x, y)))


@cache
def tiny(nb: int) -> AbsorbingRows:
    """Generate rows of a length whose scales are all subnormal: what is kept in fixed point vanishes."""
    rng = dot_rows.generator("tiny", nb)
    x, y = (
        dot_rows.blocks(rng.integers(1, 64, (4, nb)) * 2.0**-24, rng.integers(-127, 128, (4, nb, 32)))
        for _ in "xy"
    )
    return AbsorbingRows(x, y, tuple(expected_dots(x, y)))
