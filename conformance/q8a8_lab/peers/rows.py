"""The rows that kernels multiply, and what a known error makes of them.

Lengths from n = 32 to 8192, odd and even numbers of blocks, and those around a power of two: an order's steps
and tails all occur. Three kinds of rows::

    int8        any int8 but -128, any finite scale from a subnormal half up, of either sign
    quantized   gaussian numbers, quantized: the cancellation of real dot products
    int8-128    as int8, and -128 in one element of eight, of x or of y, never of both in the same place

The last kind is apart because ggml's x86 kernels get it wrong. Before AVX-VNNI-INT8 no instruction multiplies
two signed bytes, so they compute |x| * (y with x's sign); but -128 with its sign changed is -128 again in an
int8, and wherever x < 0 and y = -128 the product has the wrong sign (`sign_error` has it as data). A
quantizer never makes -128 (Q8A8-QNT-5); a kernel must still take it (Q8A8-DOT-1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from q8a8.layout import pack
from q8a8.quantize import quantize_row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from q8a8.layout import Blocks

__all__ = ["BLOCKS", "KINDS", "Batch", "batches", "minus_128_pairs", "sign_error"]

BLOCKS = (1, 2, 3, 4, 5, 6, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 191, 192, 254, 255, 256)
"""Blocks in a row: n = 32 to 8192."""

KINDS = ("int8", "quantized", "int8-128")


@dataclass(frozen=True)
class Batch:
    """Rows of one length and kind.

    Parameters
    ----------
    kind
        One of `KINDS`.
    x, y
        `BLOCK_Q8_A8` [rows, nb]; row i of x is multiplied with row i of y.
    """

    kind: str
    x: Blocks
    y: Blocks


def _scales(
    rng: np.random.Generator, shape: tuple[int, ...]
) -> np.ndarray[tuple[int, ...], np.dtype[np.float16]]:
    """Make halves from 2^-20 (subnormal) to 2^4, of either sign, uniform in their bits."""
    bits = rng.integers(0x0010, 0x4C00, shape) | np.where(rng.random(shape) < 0.25, 0x8000, 0)
    return bits.astype(np.uint16).view(np.float16)


def _pair(rng: np.random.Generator, kind: str, shape: tuple[int, int]) -> tuple[Blocks, Blocks]:
    if kind == "quantized":
        x = rng.standard_normal((shape[0], shape[1] * 32), np.float32)
        y = rng.standard_normal((shape[0], shape[1] * 32), np.float32)
        return quantize_row(x), quantize_row(y)
    qx, qy = (rng.integers(-127, 128, (*shape, 32), np.int8) for _ in range(2))
    if kind == "int8-128":
        which = rng.integers(0, 16, qx.shape)
        qx[which == 0] = -128
        qy[which == 1] = -128
    return pack(_scales(rng, shape), qx), pack(_scales(rng, shape), qy)


def batches(kind: str, rows: int, seed: int = 0) -> Iterator[Batch]:
    """Yield `rows` pairs of rows of a kind, or a few more, evenly over the lengths of `BLOCKS`.

    The number of rows in a batch is even, so that they can be multiplied with nrc = 2 as well.

    Raises
    ------
    ValueError
        No such kind.
    """
    number = KINDS.index(kind)
    each = -(-rows // (2 * len(BLOCKS))) * 2
    for nb in BLOCKS:
        rng = np.random.Generator(np.random.PCG64([seed, number, nb]))
        yield Batch(kind, *_pair(rng, kind, (each, nb)))


def sign_error(x: Blocks, y: Blocks, step: int = 1) -> tuple[Blocks, Blocks]:
    """Return rows whose right products are what ggml's x86 kernel makes of x and y.

    Where x < 0 and y = -128 it computes |x| * -128 instead of x * -128: x's sign is lost. For x = -128 no
    int8 says so, there being no +128; `minus_128_pairs` has that one.

    Parameters
    ----------
    x, y
        `BLOCK_Q8_A8` [..., nb].
    step
        Blocks of one step of the kernel. Those that fill no step are multiplied by C code, and right.

    Raises
    ------
    ValueError
        x and y have -128 in the same place.
    """
    lost = (x["weight_qs"] < 0) & (y["weight_qs"] == -128)
    lost[..., x.shape[-1] - x.shape[-1] % step :, :] = False
    if np.any(lost & (x["weight_qs"] == -128)):
        raise ValueError("x and y have -128 in the same place: no int8 is +128")
    flawed = x.copy()
    flawed["weight_qs"] = np.where(lost, -x["weight_qs"], x["weight_qs"])
    return flawed, y


def minus_128_pairs() -> tuple[Blocks, Blocks]:
    """Return every product with -128 in it, a row of two blocks each: x and y `BLOCK_Q8_A8` [511, 2].

    The product sits in element 0 of block 0, all others are 0, and the scales are 1: the dot product is the
    product. Two blocks, so that kernels that take two at a time do so.
    """
    values = np.arange(-128, 128)
    pairs = np.array([(a, b) for a in values for b in values if -128 in (a, b)], np.int8)
    q = np.zeros((2, len(pairs), 2, 32), np.int8)
    q[:, :, 0, 0] = pairs.T
    one = np.ones((len(pairs), 2), np.float16)
    return pack(one, q[0]), pack(one, q[1])
