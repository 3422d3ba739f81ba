"""Products of integer matrices, exact in int32, at the speed of a float32 matrix product.

::

    acc[i, j] = sum_l a[i, l] · b[j, l]          int32

NumPy has no fast integer matrix product, but a float32 one is exact where every partial sum is an integer
that float32 holds. Proof for a chunk of c columns with |a| <= A and |b| <= B: each product is an integer of
at most A·B in magnitude, so whatever order a BLAS adds them in, fused or not, in however many accumulators,
every partial sum is an integer of at most c·A·B. float32 holds every integer up to 2^24. So a chunk of

    c = min(1024, floor(2^24 / (A·B)))

is exact: 1024 for int8 by int8 (1024·127·128 = 16 646 144 < 2^24, and even 1024·128·128 = 2^24 is held),
514 for uint8 by int8, 258 for codes of 8 bits less a zero point (|a|, |b| <= 255: 258·255² < 2^24). (An
algorithm of Strassen's kind would form sums of elements first; no BLAS in use for NumPy does.)

The chunks are added in int32, whose range k·A·B <= 2^31 - 1 bounds k: 131 071 columns for int8 by int8.
Longer rows are refused (DYN-6): a kernel's accumulator may wrap around on them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8.errors import DtypeError, ShapeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CHUNK", "LARGEST", "chunk_length", "int_matmul"]

CHUNK = 1024
"""Most columns of one float32 product."""

LARGEST = {"int8": 128, "uint8": 255, "int16": 255}
"""The magnitude that the elements of each type may have; int16 holds codes less their zero point."""


def chunk_length(a: np.dtype[Any], b: np.dtype[Any]) -> int:
    """Return the number of columns whose product is exact in float32: the module's text proves it.

    Parameters
    ----------
    a, b
        int8, uint8 or int16 (of at most 255 in magnitude).
    """
    return min(CHUNK, 2**24 // (LARGEST[a.name] * LARGEST[b.name]))


def int_matmul(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.int32]:
    """Multiply the rows of two integer matrices, exactly (DYN-6).

    Parameters
    ----------
    a, b
        int8, uint8, or int16 of at most 255 in magnitude, `[n, k]` and `[m, k]`.

    Returns
    -------
    int32 `[n, m]`.

    Raises
    ------
    DtypeError
        for other types, or int16 elements beyond 255.
    ShapeError
        for no matrices, rows of different length, or rows so long that int32 could overflow.
    """
    for array, name in ((a, "a"), (b, "b")):
        if array.dtype.name not in LARGEST:
            raise DtypeError(f"{name}: expected one of {', '.join(LARGEST)}, got {array.dtype}")
        if array.dtype == np.int16 and np.abs(array).max(initial=0) > LARGEST["int16"]:
            raise DtypeError(f"{name}: expected codes less a zero point, got an int16 element beyond 255")
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ShapeError(
            f"a, b: expected matrices with rows of one length, got shapes {a.shape} and {b.shape}"
        )
    longest = (2**31 - 1) // (LARGEST[a.dtype.name] * LARGEST[b.dtype.name])
    if a.shape[1] > longest:
        raise ShapeError(
            f"a, b: rows of {a.shape[1]} elements could overflow int32; at most {longest} are taken"
        )
    acc = np.zeros((len(a), len(b)), np.int32)
    step = chunk_length(a.dtype, b.dtype)
    for first in range(0, a.shape[1], step):
        columns = slice(first, first + step)
        # Exact: every partial sum is an integer of at most 2^24.
        product = a[:, columns].astype(np.float32) @ b[:, columns].astype(np.float32).T
        acc += product.astype(np.int32)
    return acc
