"""Operations on blocks besides the products (Q8A8-OPS).

Q8A8-OPS-1, clamp::       quantize(min(max(dequantize(x), lo), hi))      by the recipe `design`
Q8A8-OPS-2, get_rows::    dequantize(x[i])                               for each index i
Q8A8-OPS-3, cpy::         f32 -> q8_a8 quantizes, q8_a8 -> f32 dequantizes, and a type to itself copies
Q8A8-OPS-4::              any other operation is refused by name

None of these is done on the quants in place: a block has one scale, and a clamped block has another one.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8.errors import ArgumentError, DtypeError, ShapeError, UnsupportedOperationError
from q8a8.layout import BLOCK_Q8_A8, require_blocks
from q8a8.matmul import mul_mat
from q8a8.quantize import dequantize_row, quantize_row

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import ArrayLike, NDArray

    from q8a8.layout import Blocks

__all__ = ["OPERATIONS", "clamp", "cpy", "forward", "get_rows"]

TYPES: Mapping[str, np.dtype[Any]] = MappingProxyType({"f32": np.dtype(np.float32), "q8_a8": BLOCK_Q8_A8})
"""The types that `cpy` converts between, by name."""


def clamp(blocks: Blocks, lo: float, hi: float) -> Blocks:
    """Limit every element to [lo, hi], and quantize the result anew (Q8A8-OPS-1).

    Parameters
    ----------
    blocks
        `BLOCK_Q8_A8` `[..., nb]`.
    lo, hi
        The limits, rounded to float32; lo <= hi, infinities allowed.

    Returns
    -------
    `BLOCK_Q8_A8` `[..., nb]`, new.

    Raises
    ------
    DtypeError, ShapeError
        for anything else than rows of blocks.
    ArgumentError
        where lo <= hi does not hold.
    DomainError
        for a scale that is not finite, or a limit so far from zero that the clamped block has no scale.
    """
    require_blocks(blocks, "blocks", BLOCK_Q8_A8)
    low, high = np.float32(lo), np.float32(hi)
    if not low <= high:
        raise ArgumentError(f"lo, hi: expected lo <= hi, got {lo!r} and {hi!r}")
    values = dequantize_row(blocks)
    np.clip(values, low, high, out=values)
    return quantize_row(values)


def get_rows(blocks: Blocks, indices: ArrayLike) -> NDArray[np.float32]:
    """Dequantize the rows that the indices name (Q8A8-OPS-2).

    Parameters
    ----------
    blocks
        `BLOCK_Q8_A8` `[rows, nb]`.
    indices
        Integers `[...]` in 0 .. rows - 1; a row may be named more than once.

    Returns
    -------
    float32 `[..., 32·nb]`.

    Raises
    ------
    DtypeError, ShapeError
        for anything else than rows of blocks and integers.
    ArgumentError
        for an index that names no row.
    DomainError
        for a scale that is not finite.
    """
    require_blocks(blocks, "blocks", BLOCK_Q8_A8)
    if blocks.ndim != 2:
        raise ShapeError(f"blocks: expected two axes, got shape {blocks.shape}")
    index = np.asarray(indices)
    if index.size == 0:
        index = index.astype(np.intp)
    if not np.issubdtype(index.dtype, np.integer):
        raise DtypeError(f"indices: expected integers, got {index.dtype}")
    outside = (index < 0) | (index >= len(blocks))
    if outside.any():
        raise ArgumentError(f"indices: {index[outside][0]} is out of range for {len(blocks)} rows")
    return dequantize_row(blocks[index])


def cpy(src: NDArray[Any], dst_type: str) -> NDArray[Any]:
    """Copy to another type, or to the same one (Q8A8-OPS-3).

    Parameters
    ----------
    src
        float32 `[..., k]` or `BLOCK_Q8_A8` `[..., k/32]`.
    dst_type
        "f32" or "q8_a8".

    Returns
    -------
    A new array of that type: float32 `[..., k]` or `BLOCK_Q8_A8` `[..., k/32]`.

    Raises
    ------
    UnsupportedOperationError
        for any other pair of types, naming both.
    ShapeError, DomainError
        as the quantizer and the dequantizer do.
    """
    names = {dtype: name for name, dtype in TYPES.items()}
    src_type = names.get(src.dtype)
    if src_type is None or dst_type not in TYPES:
        raise UnsupportedOperationError(
            f"cpy: {src_type or src.dtype} to {dst_type} is not defined; the types are {', '.join(TYPES)}"
        )
    if src_type == dst_type:
        return src.copy()
    return quantize_row(src) if dst_type == "q8_a8" else dequantize_row(src)


OPERATIONS: Mapping[str, Callable[..., NDArray[Any]]] = MappingProxyType(
    {"clamp": clamp, "get_rows": get_rows, "cpy": cpy, "mul_mat": mul_mat}
)
"""The operations that the format defines, by ggml's names in lower case."""


def forward(op: str, *args: object) -> NDArray[Any]:
    """Call an operation by name; refuse one that is not defined on blocks (Q8A8-OPS-4).

    Parameters
    ----------
    op
        A name in `OPERATIONS`, in any case.
    args
        The operation's arguments.

    Returns
    -------
    The operation's result.

    Raises
    ------
    UnsupportedOperationError
        for any other operation, naming it and those that there are.
    """
    function = OPERATIONS.get(op.lower())
    if function is None:
        raise UnsupportedOperationError(
            f"operation {op} is not defined on q8_a8; there are {', '.join(OPERATIONS)}"
        )
    return function(*args)
