"""Hard calls of each function, with the results that the specification gives.

They hold the values in which variants of a kernel differ: rounding edges for quantizers, saturating pairs and
-128 for dot products, scales of all sizes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from q8a8 import dequantize_row, layout, mul_mat
from q8a8.recipe import quantize_blocks
from q8a8_conformance.inputs import blocks, dot_rows
from q8a8_conformance.inputs import calls as requests
from q8a8_conformance.inputs.arrays import read_only

if TYPE_CHECKING:
    from collections.abc import Mapping

    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call

EVERY_COUNT = (*range(73), 95, 96, 97, 127, 128, 129, 255, 256, 257, 511, 512, 513, 1024, 1025, 4096, 4097)
"""Every short block count, and both sides of the powers of two where loops change."""

EVERY_SIZE = (*range(73), 96, 127, 128, 129, 255, 256, 257, 511, 513, 1000, 1024, 1025, 4096, 4097, 33000)
"""Every short size of an activation vector, and long ones."""

SATURATING = 16
"""Blocks of a row in which all products may be (-128)^2: 16 times 2^19 is half of what 24 bits hold."""


@dataclass(frozen=True)
class Known:
    """A call, and the output buffers by ABI name that it must give."""

    call: Call
    expected: Mapping[str, bytes]


def counts_of(function: str) -> tuple[int, ...]:
    """Return the lengths of a function's hard calls: block counts, or sizes of activation vectors."""
    return EVERY_SIZE if function == requests.ACTIVATION else EVERY_COUNT


@lru_cache(2048)
def known(function: str, count: int, seed: int = 0) -> Known:
    """Return a hard call of `count` blocks (elements for the activation quantizer), and what it must give."""
    if function in requests.QUANTIZERS:
        x, y = _quantized(count, seed)
        return Known(requests.quantize(function, x), {"y": y})
    if function == requests.ACTIVATION:
        return known_activation(_elements(count, seed))
    if function == requests.DEQUANTIZE:
        return known_dequantized(_readable(count, seed))
    return known_dot(function, *exact_rows(count, 1, seed))


@lru_cache(512)
def known_pair(nb: int, seed: int = 0) -> Known:
    """Return a hard ``nrc = 2`` call over rows of `nb` blocks, with strides, and what it must give."""
    x, y = exact_rows(nb, 2, seed)
    bs, x_gap, y_gap = 2 + seed % 3, 34 * (nb % 3) + 2 * (seed % 5), 2 * (nb % 7)
    call = requests.dot_pair(x, y, bs=bs, x_gap=x_gap, y_gap=y_gap)
    return known_products(call, x, y)


def known_products(call: Call, x: Array, y: Array) -> Known:
    """Return an ``nrc = 2`` call over exact rows [2, nb] with the four floats that it must give."""
    s = bytearray(requests.poison(4 * (call.bs + 2)))
    for j, i in ((0, 0), (0, 1), (1, 0), (1, 1)):
        place = 4 * (j * call.bs + i)
        s[place : place + 4] = requests.float_bytes(exact_sum(x[i], y[j]))
    return Known(call, {"s": bytes(s)})


def known_dot(function: str, x: Array, y: Array) -> Known:
    """Return a dot product of exact v1 rows [1, nb] by either dot function, and what it must give."""
    expected = {"s": requests.float_bytes(exact_sum(x[0], y[0]))}
    if function == requests.DOT:
        return Known(requests.dot(x[0], y[0]), expected)
    return Known(requests.dot_real(*dot_rows.to_v2(x[0], y[0], unused=0x7E00)), expected)


def known_activation(x: Array) -> Known:
    """Return the quantization of an activation vector [size] in the domain, and what it must give."""
    scale, codes = quantize_blocks(x[np.newaxis], "design")
    return Known(requests.activation(x), {"output": codes.tobytes(), "scale": scale.tobytes()})


def known_dequantized(row: Array) -> Known:
    """Return the dequantization of blocks [nb] with finite scales, and what it must give."""
    return Known(requests.dequantize(row), {"y": dequantize_row(row).astype("<f4").tobytes()})


def known_product(w: Array, x: Array) -> Known:
    """Return a product of matrices that no order and no recipe rounds, and what it must give."""
    return Known(requests.mul_mat(w, x), {"out": mul_mat(w, x).astype("<f4").tobytes()})


def exact_sum(x: Array, y: Array) -> float:
    """Return the dot product of two v1 rows [nb] that are exact by construction; +0 where it is zero."""
    sums = np.einsum("ij,ij->i", x["weight_qs"].astype(np.int64), y["weight_qs"].astype(np.int64))
    d = x["weight_scale"].astype(np.float64) * y["weight_scale"].astype(np.float64)
    return float((d * sums).sum()) + 0.0


def exact_rows(nb: int, rows: int, seed: int = 0) -> tuple[Array, Array]:
    """Generate x and y, [rows, nb] each, whose dot products no order can round, and none of which is zero.

    Up to `SATURATING` blocks, the last one among them, are full of -128, 127 and -127. The others have small
    codes, none of them zero. Scales are powers of two whose products are 1 or -1.
    """
    rng = dot_rows.generator("exact-rows", nb, rows, seed)
    codes = rng.integers(1, 5, (2, rows, nb, 32)) * rng.choice([-1, 1], (2, rows, nb, 32))
    if nb:
        edges = np.unique([*rng.integers(0, nb, SATURATING - 2), 0, nb - 1])
        kinds = rng.choice([-128, -128, 127, -127], (2, rows, edges.size, 32))
        # Every fourth of these blocks is one code throughout: pairs of equal products are what saturates.
        kinds[:, :, ::4] = rng.choice([-128, 127], (2, rows, kinds[:, :, ::4].shape[2], 1))
        codes[:, :, edges] = kinds
    exponents = rng.integers(-6, 7, nb)
    signs = rng.choice([-1.0, 1.0], (2, rows, nb))
    x = dot_rows.blocks(np.ldexp(signs[0], exponents), codes[0])
    y = dot_rows.blocks(np.ldexp(signs[1], -exponents), codes[1])
    while nb and any(exact_sum(one, other) == 0 for one in x for other in y):
        y["weight_qs"][:, rng.integers(nb), rng.integers(32)] ^= 1
    return x, y


def mixed(function: str, count: int, rows: int = 1) -> Known:
    """Return a hard call, as :func:`known`, that has subnormal scales among all others.

    Those of dot products, of one or two rows, meet scales by which a product is 1 or -1.
    """
    if function not in (requests.DOT, requests.DOT_REAL):
        return known(function, count)
    x, y = exact_rows(count, rows)
    for side, other, start in ((x, y, 0), (y, x, 2)):
        for each, exponent in ((side, -15), (other, 15)):
            scales = each["weight_scale"]
            scales[:, start::4] = np.copysign(2.0**exponent, scales[:, start::4])
    if rows == 2:
        return known_products(requests.dot_pair(x, y, bs=3, x_gap=34, y_gap=2), x, y)
    return known_dot(function, x, y)


@lru_cache(256)
@read_only
def square_rows(rows: int, nb: int, seed: int = 0) -> Array:
    """Generate rows [rows, nb] whose products with each other and themselves no order can round.

    All rows begin with the same block. Up to four blocks hold -128, 127 and -127; scales are 1, -1, 2, -2.
    """
    rng = dot_rows.generator("square-rows", rows, nb, seed)
    codes = rng.integers(1, 5, (rows, nb, 32)) * rng.choice([-1, 1], (rows, nb, 32))
    scales = rng.choice([-2.0, -1.0, 1.0, 2.0], (rows, nb))
    for place in {0, nb // 2, nb - 1, int(rng.integers(nb))}:
        codes[:, place] = rng.choice([-128, -128, 127, -127], (rows, 32))
        scales[:, place] = rng.choice([-1.0, 1.0], rows)
    codes[:, 0], scales[:, 0] = codes[0, 0], scales[0, 0]
    return dot_rows.blocks(scales, codes)


@cache
@read_only
def _pool() -> tuple[Array, Array]:
    """Return blocks at the edges of rounding [n, 32] in a random order, and their quantized bytes [n, 34]."""
    sets = (
        blocks.near_ties(1200), blocks.half_edges(1200), blocks.ties(400), blocks.vanishing(300),
        blocks.gaussian(600), blocks.huge(100), blocks.peaks(), blocks.neighbours(),
    )  # fmt: skip
    x = np.concatenate(sets)
    x = x[dot_rows.generator("pool").permutation(len(x))]
    y = np.frombuffer(_bytes_of(x), np.uint8).reshape(-1, 34)
    return x, y


def _window(nb: int, seed: int, of: int) -> Array:
    """Return which `nb` blocks of a pool a row is made of: consecutive ones, from a random one."""
    start = int(dot_rows.generator("window", nb, seed).integers(of))
    return (start + np.arange(nb)) % of


def _quantized(nb: int, seed: int) -> tuple[Array, bytes]:
    x, y = _pool()
    which = _window(nb, seed, len(x))
    return x[which].reshape(-1), y[which].tobytes()


def _elements(size: int, seed: int) -> Array:
    """Return an activation vector: ties under its scale, and near ties."""
    rng = dot_rows.generator("elements", size, seed)
    amax = np.exp2(rng.uniform(-10, 10)).astype(np.float32) if seed % 2 else np.float32(127)
    ties = (rng.integers(0, 127, size) + 0.5) * rng.choice([-1.0, 1.0], size)
    x: Array = (ties * float(amax) / 127).astype(np.float32)
    if size:
        x[rng.integers(size)] = amax
    return x


@cache
@read_only
def _readable_pool() -> Array:
    """Return blocks with scales of every size and sign, subnormal and zero ones too, and any code.

    Behind each zero comes one of the other sign, which is no other number.
    """
    rng = dot_rows.generator("readable")
    bits = rng.integers(0, 0x7C00, 4096) | rng.choice([0, 0x8000], 4096)
    bits[::8] &= 0x83FF
    bits[::64] &= 0x8000
    bits[1::64] = bits[::64] ^ 0x8000
    codes = rng.integers(-128, 128, (bits.size, 32))
    codes[:, ::7] = rng.choice([-128, 127, 0], codes[:, ::7].shape)
    return dot_rows.blocks(bits.astype(np.uint16).view(np.float16), codes)


def _readable(nb: int, seed: int) -> Array:
    pool = _readable_pool()
    return pool[_window(nb, seed, pool.size)]


@cache
def subnormal_scales(function: str, count: int, seed: int = 0) -> Known:
    """Return a call of `count` blocks (elements) whose scales are subnormal halves, and what it must give.

    Parameters
    ----------
    function
        ABI name.
    count
        Block count, or size of the activation vector.
    seed
        For dot products: 0, x's scales are subnormal; 1, y's; 2, both, and their products the smallest.
    """
    rng = dot_rows.generator("subnormal", function, count, seed)
    if function in requests.QUANTIZERS:
        x = np.concatenate([blocks.vanishing(), _small(2000)])[:: max(1, 2600 // max(count, 1))][:count]
        return Known(requests.quantize(function, x.reshape(-1)), {"y": _bytes_of(x)})
    if function == requests.ACTIVATION:
        amax = float(127 * rng.integers(1, 1024)) * 2.0**-24
        x = (rng.uniform(-1, 1, count) * amax).astype(np.float32)
        x[1::5] = rng.integers(0, 0x01000000, x[1::5].size, dtype=np.int32).view(np.float32)
        x[-1:] = amax
        return known_activation(x)
    if function == requests.DEQUANTIZE:
        bits = (rng.integers(0, 0x400, count) | rng.choice([0, 0x8000], count)).astype(np.uint16)
        return known_dequantized(dot_rows.blocks(bits.view(np.float16), rng.integers(-128, 128, (count, 32))))
    return known_dot(function, *subnormal_rows(count, 1, seed))


def subnormal_pair(nb: int, seed: int = 0) -> Known:
    """Return an ``nrc = 2`` call over rows with subnormal scales; `seed` as :func:`subnormal_scales`."""
    x, y = subnormal_rows(nb, 2, seed)
    return known_products(requests.dot_pair(x, y), x, y)


def subnormal_rows(nb: int, rows: int, seed: int) -> tuple[Array, Array]:
    """Generate x and y, [rows, nb] each, exact, with scales that are multiples of 2^-24."""
    rng = dot_rows.generator("subnormal-rows", nb, rows, seed)
    # Of products of scales, at most `most` times 2^-24 (2^-48), 32 * nb together must fit in 24 bits.
    most = 3 if seed == 2 else int(np.clip(2**24 // (32 * 16 * max(nb, 1)), 1, 1023))
    sizes = rng.integers(1, most + 1, (2, rows, nb))
    sizes[:, :, ::3] = most
    scales = sizes * rng.choice([-1.0, 1.0], sizes.shape) * 2.0**-24
    if seed < 2:
        scales[1 - seed] = rng.choice([-1.0, 1.0], (rows, nb))
    largest = int(np.clip(np.sqrt(2**24 // (32 * max(nb, 1) * most**2)), 1, 127)) if seed == 2 else 4
    codes = rng.integers(1, largest + 1, (2, rows, nb, 32)) * rng.choice([-1, 1], (2, rows, nb, 32))
    x, y = dot_rows.blocks(scales[0], codes[0]), dot_rows.blocks(scales[1], codes[1])
    while nb and any(exact_sum(one, other) == 0 for one in x for other in y):
        y["weight_qs"][:, rng.integers(nb), rng.integers(32)] = 0
    return x, y


def _small(count: int) -> Array:
    """Return blocks [count, 32] whose scales are subnormal halves."""
    rng = dot_rows.generator("small-blocks")
    amax = 127 * rng.uniform(0.5, 1024, (count, 1)) * 2.0**-24
    x = rng.uniform(-1, 1, (count, 32)) * amax
    x[np.arange(count), rng.integers(0, 32, count)] = amax[:, 0]
    return np.asarray(x, np.float32)


def _bytes_of(x: Array) -> bytes:
    """Return the quantized bytes of blocks [nb, 32]."""
    return bytes(layout.pack(*quantize_blocks(x, "design")).tobytes())
