"""A KV cache in int8 or int4: keys by channel, values by token, the newest in float (rules KVC-1 to KVC-9).

Keys have outlier *channels*: a few of a head's channels are large at every position. Values have fewer. So
keys share a scale along the tokens of one channel, and values along the channels of one token (KVC-1)::

          keys of one head                          values of one head
          channel 0   1   2  ...  d-1               channel 0 .. g-1   g .. 2g-1  ...
    token 0     |   |   |       |             token 0     [  scale  ] [  scale   ]
    token 1     | s | s |       | s           token 1     [  scale  ] [  scale   ]
     ...        | c | c |       | c            ...
    token G-1   | a | a |       | a           token G-1   [  scale  ] [  scale   ]

A group x_1 .. x_g is quantized with its minimum and maximum, levels = 2^bits - 1 (KVC-2 to KVC-4)::

    low   = f16(min x_j)
    scale = f16(f32(f32(max x_j - min x_j) / levels))
    q_j   = clamp(round(f32(f32(x_j - low) / scale)), 0, levels)     halves to even; 0 where scale is 0
    x'_j  = f32(f32(scale · q_j) + low)

The last `residual` positions at least stay in float. As soon as `residual + group` of them are there, the
oldest `group` become one block of codes (KVC-5), so that the stored codes depend on the positions alone,
not on how many were added at a time (KVC-6)::

    position  0 ............ G-1 | G .......... 2G-1 | 2G ................. T-1
              codes, block 0     | codes, block 1    | float, residual to residual+G-1

Source: Z. Liu et al., "KIVI: A Tuning-Free Asymmetric 2bit Quantization for KV Cache", arXiv:2402.02750,
section 3; the authors' quant/new_pack.py. They differ in three places: a constant group is 0/0 there (KVC-3),
all arithmetic is in half precision, and the prompt attends to unquantized keys (KVC-7). Keys are quantized
after their rotary positions (KVC-8).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from q8a8.errors import ArgumentError, DomainError, require_dtype
from q8a8.methods.finite import require_finite
from q8a8.rounding import HALF_OVERFLOW, f16_to_f32, f32_to_f16

if TYPE_CHECKING:
    from numpy.typing import NDArray

    F16 = NDArray[np.float16]
    F32 = NDArray[np.float32]
    U8 = NDArray[np.uint8]

__all__ = ["dequantize", "largest_code", "pack_nibbles", "quantize", "require_halves", "unpack_nibbles"]


def quantize(x: F32, bits: int, axis: int = -1) -> tuple[U8, F16, F16]:
    """Quantize groups that lie along one axis (KVC-2 to KVC-4).

    Parameters
    ----------
    x
        float32 `[..., g, ...]`, finite and below 65520 in magnitude, g >= 1 elements along `axis`.
    bits
        8 or 4.
    axis
        The groups' axis.

    Returns
    -------
    codes, scale, low
        uint8 of x's shape, 0 to 2^bits - 1, one code a byte; float16 of x's shape with 1 along `axis`, twice.

    Raises
    ------
    ArgumentError
        for other bits.
    DtypeError, DomainError
        for other arrays, naming the first element outside the domain.
    """
    levels = np.float32(largest_code(bits))
    require_halves(x, "x")
    smallest, largest = x.min(axis=axis, keepdims=True), x.max(axis=axis, keepdims=True)
    # KVC-2: low and scale are rounded to half precision first, and the codes follow from the rounded ones.
    low, scale = f32_to_f16(smallest), f32_to_f16((largest - smallest) / levels)
    with np.errstate(divide="ignore", invalid="ignore", under="ignore"):
        position = (x - f16_to_f32(low)) / f16_to_f32(scale)
    # KVC-3: a scale of zero (a constant group, or nearly) means the code 0, and not 0/0.
    position[np.broadcast_to(scale == 0, x.shape)] = 0
    # KVC-4.
    return np.clip(np.rint(position), 0, levels).astype(np.uint8), scale, low


def dequantize(codes: U8, scale: F16, low: F16) -> F32:
    """Turn codes into numbers: f32(f32(scale · q) + low), of which only the sum can round (KVC-4).

    Parameters
    ----------
    codes, scale, low
        As from `quantize`; shapes that broadcast.

    Returns
    -------
    float32, in the codes' shape.
    """
    return np.asarray(codes.astype(np.float32) * f16_to_f32(scale) + f16_to_f32(low))


def pack_nibbles(codes: U8) -> U8:
    """Put two codes of 4 bits in a byte, along the last axis: the first in the low half (KVC-5).

    Parameters
    ----------
    codes
        uint8 `[..., d]`, 0 to 15. For an odd d the last high half is 0.

    Returns
    -------
    uint8 `[..., ceil(d/2)]`.
    """
    packed = codes[..., ::2].copy()
    packed[..., : codes.shape[-1] // 2] |= codes[..., 1::2] << 4
    return packed


def unpack_nibbles(packed: U8, d: int) -> U8:
    """Undo `pack_nibbles`: uint8 `[..., d]`."""
    codes = np.empty((*packed.shape[:-1], d), np.uint8)
    codes[..., ::2] = packed & 15
    codes[..., 1::2] = packed[..., : d // 2] >> 4
    return codes


def largest_code(bits: int) -> int:
    """Return the largest code of 4 or 8 bits (KVC-3)."""
    if bits not in (4, 8):
        raise ArgumentError(f"bits: expected 4 or 8, got {bits}")
    return (1 << bits) - 1


def require_halves(array: F32, name: str) -> None:
    """Refuse values that half precision cannot hold: the low ends of groups are stored in it (KVC-2)."""
    require_dtype(array, np.float32, name)
    require_finite(array, name)
    fits = np.abs(array) < HALF_OVERFLOW
    if not fits.all():
        place = [int(i) for i in np.unravel_index(int(np.argmin(fits)), array.shape)]
        raise DomainError(
            "its group's low end would be infinite in half precision",
            array=name,
            row=tuple(place[:-1]),
            block=0,
            element=place[-1],
            value=float(array[tuple(place)]),
        )
