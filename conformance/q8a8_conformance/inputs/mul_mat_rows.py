"""Matrices for the matrix product: exact by construction, one-hot, and as a model has them.

*Exact by construction* holds here for any recipe and any order: a block of x holds integers times a power of
two, the largest of them 127, so that every recipe finds these integers and this power of two; and no sum of
products needs more than 24 bits (Q8A8-DOT-4).
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.inputs import blocks, dot_rows
from q8a8_conformance.inputs.arrays import read_only

if TYPE_CHECKING:
    from q8a8_conformance.inputs.arrays import Array

SATURATING = 8
"""Blocks of a row of w that are full of -128, 127 and -127."""

PERIOD = 1021
"""Rows after which those of very large matrices repeat: a prime, so that no tile has the rows of another."""


@lru_cache(256)
@read_only
def exact(m: int, n: int, nb: int, seed: int = 0) -> tuple[Array, Array]:
    """Generate w, blocks [m, nb], and x, float32 [n, 32·nb], whose products no order can round.

    The w of one seed and the x of another have such products, too: which scales belong together depends on nb
    alone. Scales differ from block to block and from row to row, signs from block to block. So a scale or a
    code that is taken from another block or another row shows.
    """
    if max(m, n) > PERIOD:
        w, x = exact(min(m, PERIOD), min(n, PERIOD), nb, seed)
        return w[np.arange(m) % len(w)], x[np.arange(n) % len(x)]
    rng = dot_rows.generator("exact-matrices", m, n, nb, seed)
    exponents = dot_rows.generator("exact-exponents", nb).integers(-5, 6, nb)
    codes = rng.integers(1, 5, (m, nb, 32)) * rng.choice([-1, 1], (m, nb, 32))
    edges = np.unique([*rng.integers(0, nb, SATURATING - 2), 0, nb - 1]) if nb else np.zeros(0, int)
    codes[:, edges] = rng.choice([-128, -128, 127, -127], (m, edges.size, 32))
    signs = rng.choice([-1.0, 1.0], (m, nb))
    w = dot_rows.blocks(np.ldexp(signs, rng.integers(-3, 4, (m, 1)) - exponents), codes)
    return w, _exact_rows(rng, n, exponents)


@cache
@read_only
def saturating(m: int, n: int, nb: int) -> tuple[Array, Array]:
    """Generate matrices as `exact`, of codes -128 and 127 by ±127: sums of three products pass int16."""
    rng = dot_rows.generator("saturating-matrices", m, n, nb)
    w = dot_rows.blocks(1.0, rng.choice([-128, -128, 127], (m, nb, 1)) * np.ones(32, np.int64))
    x = 127 * np.repeat(rng.choice([-1.0, 1.0], (n, nb)), 32, axis=1)
    return w, np.asarray(x, np.float32)


def full_mantissas(m: int, n: int) -> tuple[Array, Array]:
    """Generate w, blocks [m, 1], and x, float32 [n, 32], of scales of eleven bits, with exact products.

    A row of w has a single ±1, where x has ±1, ±2 or ±4 times its scale: an output is a product of scales.
    """
    rng = dot_rows.generator("full-mantissas", m, n)
    halves = [
        np.ldexp(rng.integers(512, 1024, count) * 2.0 + 1, rng.integers(-14, -7, count)) for count in (m, n)
    ]
    codes = np.zeros((m, 1, 32), np.int8)
    codes[np.arange(m), 0, 1 + np.arange(m) % 31] = rng.choice([-1, 1], m)
    x = rng.choice([-4.0, -2.0, -1.0, 1.0, 2.0, 4.0], (n, 32))
    x[:, 0] = 127
    w = dot_rows.blocks(halves[0][:, np.newaxis], codes)
    return w, np.asarray(x * halves[1][:, np.newaxis], np.float32)


def _exact_rows(rng: np.random.Generator, n: int, exponents: Array) -> Array:
    """Generate rows of x, float32 [n, 32·nb]: in each block small integers and one of 127, times 2^e."""
    nb = exponents.size
    x = rng.integers(1, 5, (n, nb, 32)) * rng.choice([-1.0, 1.0], (n, nb, 32))
    largest = rng.integers(0, 32, (n, nb, 1))
    np.put_along_axis(x, largest, 127 * rng.choice([-1.0, 1.0], (n, nb, 1)), axis=2)
    scaled = np.ldexp(x, (rng.integers(-3, 4, (n, 1)) + exponents)[:, :, np.newaxis])
    return np.asarray(scaled.reshape(n, 32 * nb), np.float32)


@cache
@read_only
def one_hot(nb: int) -> Array:
    """Return w, blocks [32·nb, nb], each row with a single 1 under a scale of 1: the product is x, quantized.

    Of the blocks without a 1 the scale is 1, too.
    """
    return dot_rows.blocks(1.0, np.eye(32 * nb, dtype=np.int8).reshape(-1, nb, 32))


@cache
@read_only
def edges() -> Array:
    """Return blocks of x, float32 [n, 32], at the edges of quantization: ties, halves, any scale."""
    sets = (
        blocks.near_ties(600), blocks.half_edges(500), blocks.ties(200), blocks.vanishing(150),
        blocks.gaussian(300), blocks.huge(60), blocks.peaks(), blocks.neighbours(),
    )  # fmt: skip
    x = np.concatenate(sets)
    return np.asarray(x[dot_rows.generator("matrix-edges").permutation(len(x))], np.float32)


@cache
@read_only
def short_ties() -> Array:
    """Return blocks of x, float32 [n, 32]: ties between codes and their neighbours, scales of four bits.

    Quantized, their elements are exact in half precision: what sums them in another precision is right here.
    """
    rng = dot_rows.generator("short-ties")
    scale = np.ldexp(rng.integers(8, 16, (40, 1)) / 8.0, rng.integers(-8, 7, (40, 1)))
    x = np.asarray((rng.integers(0, 127, (40, 32)) + 0.5) * scale, np.float32)
    x = (x.view(np.int32) + rng.integers(-2, 3, x.shape, dtype=np.int32)).view(np.float32)
    x *= rng.choice([-1, 1], x.shape).astype(np.float32)
    x[:, 7] = 127 * scale[:, 0]
    return x


def picked(m: int, n: int, nb: int) -> tuple[Array, Array]:
    """Generate w, blocks [m, nb], and x, float32 [n, 32·nb], at the edges of quantization.

    A row of w has a single ±1 at a place of its own, under a scale of any power of two, subnormal ones too:
    an output is a quantized element times that. Some other scales are zero; the first block's is positive,
    so that no order gives -0. Every seventh row of x, and every fifth block, is zero.
    """
    rng = dot_rows.generator("picked", m, n, nb)
    codes = np.zeros((m, nb, 32), np.int8)
    places = rng.permutation(np.arange(max(m, 32 * nb)) % (32 * nb))[:m]
    codes.reshape(m, -1)[np.arange(m), places] = rng.choice([-1, 1], m)
    x = np.concatenate([edges(), short_ties()])
    x = x[rng.integers(0, len(x), (n, nb))]
    x.reshape(-1, 32)[3::5], x[3::7] = 0, 0
    scales = np.ldexp(rng.choice([-1.0, 1.0], (m, nb)), rng.integers(-24, 4, (m, nb)))
    scales[:, 0] = np.abs(scales[:, 0])
    scales[:, 1:][rng.random((m, nb - 1)) < 1 / 8] = 0
    return dot_rows.blocks(scales, codes), x.reshape(n, 32 * nb)


@lru_cache(16)
@read_only
def integers(m: int, n: int) -> tuple[Array, Array]:
    """Generate w, blocks [m, 4], and x, float32 [n, 128], whose products are codes times 2^e.

    A row of w has a single 1 in its first block, a row of x integers, one of them 127, times a power of two.
    """
    rng = dot_rows.generator("integer-rows", n)
    x = rng.integers(-126, 127, (n, 128))
    x[:, ::32] = 127
    x = np.ldexp(x, rng.integers(-3, 4, (n, 1)))
    codes = np.zeros((m, 4, 32), np.int8)
    codes[np.arange(m), 0, 1 + np.arange(m) % 31] = 1
    return dot_rows.blocks(1.0, codes), np.asarray(x, np.float32)


@lru_cache(64)
@read_only
def one_scale(nb: int, *, exact_sums: bool) -> tuple[Array, Array]:
    """Generate one row of w, blocks [nb], and one of x, float32 [32·nb], that every recipe quantizes alike.

    All blocks of x are integers, one of them 127, times one scale: it does not matter either which of them
    share it. Where sums are to be exact, all scales of w are one power of two, and that of x is another.
    """
    (w,), (x,) = exact(1, 1, nb, seed=1)
    w, x = w.copy(), x.reshape(nb, 32) / np.abs(x.reshape(nb, 32)).max(axis=1, keepdims=True) * 127
    if exact_sums:
        w["weight_scale"] = 0.25
    else:
        w["weight_scale"] *= dot_rows.generator("one-scale").integers(1024, 2048, nb) / 1024.0
    return w, np.asarray(x.reshape(-1) * (1.0 if exact_sums else 1029 / 1024), np.float32)


@lru_cache(64)
@read_only
def model(m: int, n: int, nb: int, seed: int = 0) -> tuple[Array, Array]:
    """Generate w, blocks [m, nb], and x, float32 [n, 32·nb], as a model has them: some columns of x large."""
    rng = dot_rows.generator("model-matrices", m, n, nb, seed)
    scales = rng.uniform(0.5, 1.5, (m, nb)) * 2.0**-9
    w = dot_rows.blocks(scales, np.clip(np.rint(44 * rng.standard_normal((m, nb, 32))), -127, 127))
    columns = np.where(rng.random(32 * nb) < 1 / 64, 12.0, 1.0)
    return w, (columns * rng.standard_normal((n, 32 * nb))).astype(np.float32)


def large(m: int, n: int, nb: int) -> tuple[Array, Array]:
    """Generate matrices as `model`, all positive and so large that sums pass 65504, the largest half."""
    w, x = (each.copy() for each in model(m, n, nb, 1))
    w["weight_qs"] = np.abs(w["weight_qs"])
    w["weight_scale"] *= np.float16(16)
    return w, 64 * np.abs(x)


def cancelling(m: int, n: int, nb: int) -> tuple[Array, Array]:
    """Generate matrices as `model`, whose second half takes away most of what the first half adds up to."""
    w, x = (each.copy() for each in model(m, n, nb, 2))
    half = nb // 2
    x[:, 32 * half : 64 * half] = x[:, : 32 * half]
    w[:, half : 2 * half] = w[:, :half]
    w["weight_scale"][:, half : 2 * half] *= np.float16(-1)
    return w, x


def absorbing(m: int, n: int, nb: int) -> tuple[Array, Array]:
    """Generate matrices whose first block's terms are some thousand times all others, which a half loses."""
    w, x = (each.copy() for each in model(m, n, nb, 3))
    w["weight_scale"][:, 0] = 2.0
    x[:, 0] = 900.0
    w["weight_qs"][:, 0, 0] = 100
    return w, x
