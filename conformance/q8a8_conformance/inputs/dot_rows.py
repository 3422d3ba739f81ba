"""Rows for dot products: exact by construction, at the edges of integers and scales, and plainly random.

*Exact by construction* means that every partial sum of every order is a multiple of one power of two, and
below 2^24 times it: no addition can round, so every legal kernel gives the same bits. :func:`is_exact` checks
that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from q8a8 import layout
from q8a8_conformance.inputs.arrays import Array

if TYPE_CHECKING:
    from collections.abc import Iterator

Pair = tuple[Array, Array]

COUNTS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257)
"""Block counts: odd, even, 4k + 3, around every power of two that a loop may be unrolled by."""

EDGES = (-128, -127, -1, 0, 1, 126, 127)
"""Codes at the edges of int8."""

LONG_EDGES = (5, 9, 17, 33, 65, 130, 257, 514, 1025, 4097)
"""Blocks of long rows full of the ends of int8. Their products are multiples of 2^7, the sums exact."""


def generator(*key: object) -> np.random.Generator:
    """Return the random generator of one purpose, seeded the same in every run."""
    # As words of 32 bits, NumPy takes the seed as it is: a third of the time.
    return np.random.default_rng(np.frombuffer(repr(key).encode(), np.uint8).astype(np.uint32))


def blocks(scale: Array | float, codes: Array) -> Array:
    """Make v1 blocks [...] from scales [...] (or one for all) and codes [..., 32]."""
    shape = codes.shape[:-1]
    return layout.pack(np.broadcast_to(np.float16(scale), shape), codes.astype(np.int8))


def filled(nb: int, code: int, scale: float = 1.0) -> Array:
    """Generate a row [nb] of one code."""
    return blocks(scale, np.full((nb, 32), code))


def is_exact(x: Array, y: Array) -> bool:
    """Return whether no order of addition can round on two rows of v1 blocks [nb]."""
    d = x["weight_scale"].astype(np.float64) * y["weight_scale"].astype(np.float64)
    units = [int(v * 2.0**48) for v in d]
    products = np.abs(x["weight_qs"].astype(np.int64) * y["weight_qs"])
    sizes = products.sum(axis=-1).tolist()
    used = [abs(u) * s for u, s in zip(units, sizes, strict=True)]
    # The largest power of two that divides each product of a block.
    powers = np.bitwise_or.reduce(products, axis=-1).tolist()
    of_blocks = zip(map(abs, units), powers, strict=True)
    step = min(((u & -u) * (p & -p) for u, p in of_blocks if u and p), default=1)
    return bool(sum(used) < step << 24)


def exact_pair(nb: int, *, positive: bool = False, seed: int = 0) -> Pair:
    """Generate two random rows [nb] that are exact by construction.

    Scales are powers of two within a factor of four of each other, of both signs; codes as large as 24 bits
    allow. With `positive` every product is above zero, so that no block's sum can vanish or cancel another's.
    """
    rng = generator("exact", nb, positive, seed)
    largest = min(127, int(np.sqrt(2.0**24 / (16 * 32 * max(nb, 1)))))
    low = 1 if positive else -largest
    rows = []
    for _ in "xy":
        exponents = rng.integers(0, 3, nb) + rng.integers(-9, 7)
        signs = np.ones(nb) if positive else rng.choice([-1.0, 1.0], nb)
        rows.append(blocks(np.ldexp(signs, exponents), rng.integers(low, largest + 1, (nb, 32))))
    return rows[0], rows[1]


def one_block_of(nb: int, which: int) -> Pair:
    """Generate two rows [nb] of which one block alone is not zero: skipping it, or taking it twice, shows."""
    rng = generator("one-block", nb, which)
    codes = np.zeros((2, nb, 32), np.int64)
    codes[:, which] = rng.integers(1, 100, (2, 32))
    return blocks(0.5, codes[0]), blocks(0.25, codes[1])


def one_unit_beside(nb: int, which: int) -> Pair:
    """Generate two exact rows [nb] of which one block gives a single unit, the others nearly 2^24 of them.

    What is added in fewer than 24 bits, or not at all since it is so small, shows.
    """
    codes = np.full((2, nb, 32), 8)
    codes[:, which], codes[:, which, 5] = 0, 1
    scales = np.full(nb, np.exp2(np.floor(np.log2((2.0**24 - 1) / (32 * 8 * 8) / (nb - 1)))))
    scales[which] = 1
    return blocks(1.0, codes[0]), blocks(scales, codes[1])


def one_product(place: int, a: int, b: int) -> Pair:
    """Generate two rows of one block with a single product: code `a` times code `b` at one place."""
    codes = np.zeros((2, 1, 32), np.int64)
    codes[0, 0, place], codes[1, 0, place] = a, b
    return blocks(1.0, codes[0]), blocks(1.0, codes[1])


def full_mantissas() -> Iterator[Pair]:
    """Yield rows of one block whose scales have 11 significant bits: a half would round their product.

    The one product of codes is at most 3, so that the result fits in 24 bits: exact in every order.
    """
    rng = generator("mantissas")
    for place in range(32):
        mantissas = rng.integers(513, 1024, 2) * 2 + 1
        scales = np.ldexp(mantissas.astype(np.float64), rng.integers(-24, 4, 2))
        x, y = one_product(place, int(rng.choice([-3, -1, 1, 3])), 1)
        x["weight_scale"], y["weight_scale"] = scales[0], scales[1]
        yield x, y


def far_scales() -> Iterator[Pair]:
    """Yield exact rows whose product of scales no half could hold: too large, too small."""
    smallest, largest = 2.0**-24, 2.0**15
    for a, b in (
        (largest, largest), (smallest, smallest), (smallest, largest), (-largest, 2.0), (2.0**-20, 2.0**-14),
        (65504.0, 65504.0), (-(2.0**-24) * 1023, 65504.0), (2.0**-24 * 3, 2.0**-14),
    ):  # fmt: skip
        x, y = one_product(5, 1, 1)
        x["weight_scale"], y["weight_scale"] = a, b
        yield x, y


def signed_scales() -> Iterator[Pair]:
    """Yield exact rows with negative, zero (of both signs) and subnormal scales in each of five blocks."""
    rng = generator("signed-scales")
    for scale in (-1.0, 0.0, -0.0, -0.5):
        for place in range(5):
            x, y = blocks(1.0, rng.integers(-40, 41, (5, 32))), blocks(1.0, rng.integers(-40, 41, (5, 32)))
            x["weight_scale"][place] = scale
            yield x, y
            yield y, x
    for step in (1, 2, 4):
        x, y = exact_pair(3, seed=step)
        x["weight_scale"] = np.array([step, -step, 2 * step]) * 2.0**-24
        yield x, y


def minus_128_pairs() -> Iterator[Pair]:
    """Yield exact rows full of -128 and other edges of int8: every pair of them, one to three blocks.

    Those of the ends also in long rows, where a kernel may add integers in another way.
    """
    for a in EDGES:
        for b in EDGES:
            for nb in (1, 2, 3):
                yield filled(nb, a), filled(nb, b)
    for nb in LONG_EDGES:
        for a, b in ((-128, -128), (-128, 127), (127, -128)):
            yield filled(nb, a), filled(nb, b)
    rng = generator("minus-128")
    for nb in (1, 2, 3, 4, 7, 16, 31):
        codes = rng.choice(EDGES, (2, nb, 32))
        yield blocks(1.0, codes[0]), blocks(1.0, codes[1])


def random_pair(nb: int, *, seed: int = 0, low: int = -127) -> Pair:
    """Generate two rows [nb] like quantized weights and activations: random codes, scales of full precision.

    `low` is the lowest code: -128 is legal in a dot product, but no quantizer of ours makes it.
    """
    rng = generator("random", nb, seed, low)
    rows = []
    for _ in "xy":
        scales = np.exp2(rng.uniform(-9, -4, nb)) * rng.choice([1.0, 1.0, 1.0, -1.0], nb)
        rows.append(blocks(scales, rng.integers(low, 128, (nb, 32))))
    return rows[0], rows[1]


def wide_pair(nb: int, *, seed: int = 0) -> Pair:
    """Generate two random rows [nb] with scales over the whole range of halves, subnormal ones too."""
    rng = generator("wide", nb, seed)
    rows = []
    for _ in "xy":
        bits = rng.integers(0, 0x7C00, nb) | rng.choice([0, 0x8000], nb)
        rows.append(blocks(bits.astype(np.uint16).view(np.float16), rng.integers(-127, 128, (nb, 32))))
    return rows[0], rows[1]


def cancelling_pair(nb: int, *, seed: int = 0) -> Pair:
    """Generate two random rows [nb] whose second half cancels the first half's sum, but for the last code."""
    x, y = random_pair(nb, seed=seed)
    half = nb // 2
    if half:
        x[half : 2 * half], y[half : 2 * half] = x[:half], y[:half]
        y["weight_scale"][half : 2 * half] *= -1
        y["weight_qs"][-1, -1] ^= 1
    return x, y


def to_v2(x: Array, y: Array, *, unused: int = 0) -> Pair:
    """Return the rows as v2 blocks, x's a weight, y's an activation; `unused` f16 bits in the other field."""
    out = []
    for source, field, other in (
        (x, "weight_scale", "activation_scale"),
        (y, "activation_scale", "weight_scale"),
    ):
        row = np.zeros(source.shape, layout.BLOCK_Q8_A8_V2)
        row[field] = source["weight_scale"]
        row[other] = np.uint16(unused).view(np.float16)
        row["weight_qs"] = source["weight_qs"]
        out.append(row)
    return out[0], out[1]


def in_both_roles(row: Array) -> Array:
    """Return v1 blocks [nb] as v2 blocks whose activation scale is minus half the weight scale."""
    both = np.zeros(row.shape, layout.BLOCK_Q8_A8_V2)
    both["weight_scale"], both["activation_scale"] = (
        row["weight_scale"],
        row["weight_scale"] * np.float16(-0.5),
    )
    both["weight_qs"] = row["weight_qs"]
    return both


def with_scales(row: Array, scales: Array) -> Array:
    """Return v1 blocks [nb] with other scales."""
    changed = row.copy()
    changed["weight_scale"] = scales
    return changed
