"""Codes of four bits, two a byte (docs/methods/weight-only.md, WON-2).

A code q of -8 to 7 is stored as c = q + 8, the even columns in the low nibble::

    column          0    1    2    3    4    5          k-2  k-1
                  +----+----+----+----+----+----+- -+----+----+
    code  c       | c0 | c1 | c2 | c3 | c4 | c5 |   |ck-2|ck-1|      0 .. 15
                  +----+----+----+----+----+----+- -+----+----+
    byte            c1 c0   c3 c2   c5 c4            ck-1 ck-2       high nibble, low nibble
                      0       1       2               (k-1)/2        an odd k: the last high nibble is 0

Four bytes of a row, read as a little-endian uint32, are one word of compressed-tensors' `pack_to_int32`. Each
row starts on a byte of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from q8a8.errors import BufferSizeError, DomainError, ShapeError, require_dtype

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["pack_nibbles", "unpack_nibbles"]


def pack_nibbles(q: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Pack codes of -8 to 7 two a byte, the even columns low: the module's drawing (WON-2).

    Parameters
    ----------
    q
        int8 `[..., k]`.

    Returns
    -------
    uint8 `[..., ceil(k/2)]`.

    Raises
    ------
    DtypeError, ShapeError
        for another dtype, or an array without axes.
    DomainError
        for a code that four bits cannot hold.
    """
    require_dtype(q, np.int8, "q")
    if q.ndim == 0:
        raise ShapeError("q: expected at least one axis, got none")
    outside = (q < -8) | (q > 7)
    if outside.any():
        *row, element = (int(i) for i in np.unravel_index(int(np.argmax(outside)), q.shape))
        raise DomainError(
            "four bits hold -8 to 7",
            array="q",
            row=tuple(row),
            block=0,
            element=element,
            value=float(q[(*row, element)]),
        )
    k = q.shape[-1]
    c = np.zeros((*q.shape[:-1], k + k % 2), np.uint8)
    c[..., :k] = q + np.int8(8)
    packed: NDArray[np.uint8] = c[..., 0::2] | (c[..., 1::2] << np.uint8(4))
    return packed


def unpack_nibbles(packed: NDArray[np.uint8], k: int) -> NDArray[np.int8]:
    """Undo `pack_nibbles`.

    Parameters
    ----------
    packed
        uint8 `[..., ceil(k/2)]`.
    k
        How many codes a row has.

    Returns
    -------
    int8 `[..., k]`, -8 to 7.

    Raises
    ------
    DtypeError
        for another dtype.
    BufferSizeError
        for another number of bytes.
    """
    require_dtype(packed, np.uint8, "packed")
    if k < 0 or packed.ndim == 0 or packed.shape[-1] != (k + 1) // 2:
        raise BufferSizeError(
            f"packed: expected {(k + 1) // 2} bytes for rows of {k} codes, got shape {packed.shape}"
        )
    c = np.stack((packed & np.uint8(15), packed >> np.uint8(4)), axis=-1)
    return (c.reshape(*packed.shape[:-1], k + k % 2)[..., :k]).astype(np.int8) - np.int8(8)
