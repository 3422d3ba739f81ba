"""The blocks in memory: their layout, and views of it (Q8A8-LAY).

Q8A8-LAY-1: a block is 34 bytes, little-endian, without padding, and needs an alignment of 2::

    byte   0        1        2       3       4                   33
         +--------+--------+-------+-------+-------+-- ... --+-------+
         |  weight_scale   | qs[0] | qs[1] | qs[2] |         | qs[31]|
         |  float16, LE    | int8  | int8  | int8  |         | int8  |
         +--------+--------+-------+-------+-------+-- ... --+-------+

Q8A8-LAY-2: a row of k = 32·nb elements is nb blocks in a row; element j of block b is x[32·b + j]::

    row:  | block 0 (34) | block 1 (34) |  ...  | block nb-1 (34) |        34·nb bytes

Q8A8-LAY-3: a version 2 block is 36 bytes, with one scale for each of the two roles::

    byte   0        1        2        3        4       5                   35
         +--------+--------+--------+--------+-------+-------+-- ... --+-------+
         |  weight_scale   | activation_scale| qs[0] | qs[1] |         | qs[31]|
         +--------+--------+--------+--------+-------+-------+-- ... --+-------+

Q8A8-LAY-4, Q8A8-LAY-5: a weight block carries `weight_scale`, an activation block carries `activation_scale`;
a writer sets the field that it does not carry to +0, and a reader ignores that field.

8.5 bits an element. The 34 bytes are those of ggml's `block_q8_0`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from q8a8.errors import (
    BufferSizeError,
    DomainError,
    DtypeError,
    ShapeError,
    UnknownNameError,
    require_dtype,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "BLOCK_Q8_A8",
    "BLOCK_Q8_A8_V2",
    "QK8_A8",
    "SCALE_FIELDS",
    "Blocks",
    "as_blocks",
    "as_bytes",
    "pack",
    "pack_v2",
    "require_blocks",
    "require_field",
    "require_finite_scales",
    "unpack",
]

QK8_A8 = 32
"""Elements in a block."""

SCALE = np.dtype("<f2")
BLOCK_Q8_A8 = np.dtype([("weight_scale", SCALE), ("weight_qs", np.int8, (QK8_A8,))])
"""Q8A8-LAY-1, as a structured dtype of 34 bytes."""

BLOCK_Q8_A8_V2 = np.dtype(
    [("weight_scale", SCALE), ("activation_scale", SCALE), ("weight_qs", np.int8, (QK8_A8,))]
)
"""Q8A8-LAY-3, as a structured dtype of 36 bytes."""

SCALE_FIELDS = ("weight_scale", "activation_scale")
"""The scale fields of a version 2 block."""

# The elements of a structured array have no static type of their own.
Blocks: TypeAlias = "NDArray[Any]"
BytesLike: TypeAlias = "bytes | bytearray | memoryview | NDArray[np.uint8]"


def require_blocks(blocks: Blocks, name: str, *dtypes: np.dtype[Any]) -> None:
    """Refuse an array whose elements are none of these block types (by default: either version).

    Raises
    ------
    DtypeError
        naming the array and its dtype.
    """
    wanted = dtypes or (BLOCK_Q8_A8, BLOCK_Q8_A8_V2)
    if blocks.dtype not in wanted:
        sizes = " or ".join(str(dtype.itemsize) for dtype in wanted)
        raise DtypeError(f"{name}: expected blocks of {sizes} bytes, got {blocks.dtype}")


def require_field(field: str) -> None:
    """Refuse a name that is not one of the two scale fields.

    Raises
    ------
    UnknownNameError
        listing the fields.
    """
    if field not in SCALE_FIELDS:
        raise UnknownNameError("scale field", field, SCALE_FIELDS)


def require_finite_scales(
    scales: NDArray[np.float16],
    array: str,
    reason: str = "a scale must be finite",
    *,
    blocks: tuple[int, ...] | None = None,
    first: int = 0,
) -> None:
    """Refuse scales that are a NaN or an infinity (Q8A8-DOT-8, Q8A8-DEQ-2).

    Parameters
    ----------
    scales
        float16 `[..., nb]`.
    array, reason
        The name of the caller's array, and the reason in the error's text.
    blocks, first
        Where `scales` is a flat part of something larger: the shape of the whole, and where the part starts,
        counted flat.

    Raises
    ------
    DomainError
        for the first of them, naming row, block and value.
    """
    finite = np.isfinite(scales)
    if not finite.all():
        index = int(np.argmin(finite))
        *row, block = np.unravel_index(first + index, scales.shape if blocks is None else blocks)
        raise DomainError(
            reason,
            array=array,
            row=tuple(int(i) for i in row),
            block=int(block),
            element=None,
            value=float(scales.flat[index]),
        )


def _require_parts(scale: NDArray[np.float16], qs: NDArray[np.int8], name: str) -> None:
    """Refuse scales and quants that do not make blocks together."""
    require_dtype(scale, np.float16, name)
    require_dtype(qs, np.int8, "qs")
    if qs.ndim == 0 or qs.shape[-1] != QK8_A8 or scale.shape != qs.shape[:-1]:
        raise ShapeError(
            f"qs: expected shape {(*scale.shape, QK8_A8)} for {name} of shape {scale.shape}, got {qs.shape}"
        )


def pack(scale: NDArray[np.float16], qs: NDArray[np.int8]) -> Blocks:
    """Make blocks out of scales and quants (Q8A8-LAY-1).

    Parameters
    ----------
    scale
        float16 `[...]`.
    qs
        int8 `[..., 32]`.

    Returns
    -------
    `BLOCK_Q8_A8` `[...]`, a copy.

    Raises
    ------
    DtypeError, ShapeError
        where the parts are not of those types and shapes.
    """
    scale, qs = np.asarray(scale), np.asarray(qs)
    _require_parts(scale, qs, "scale")
    blocks = np.empty(scale.shape, BLOCK_Q8_A8)
    blocks["weight_scale"] = scale
    blocks["weight_qs"] = qs
    return blocks


def pack_v2(
    qs: NDArray[np.int8],
    *,
    weight_scale: NDArray[np.float16] | None = None,
    activation_scale: NDArray[np.float16] | None = None,
) -> Blocks:
    """Make version 2 blocks out of quants and the scale of one role (Q8A8-LAY-3, Q8A8-LAY-4).

    Parameters
    ----------
    qs
        int8 `[..., 32]`.
    weight_scale, activation_scale
        float16 `[...]`; exactly one of them. The other field becomes +0.

    Returns
    -------
    `BLOCK_Q8_A8_V2` `[...]`, a copy.

    Raises
    ------
    DtypeError, ShapeError
        where the parts are not of those types and shapes.
    UnknownNameError
        where none or both of the scales are given.
    """
    given = {"weight_scale": weight_scale, "activation_scale": activation_scale}
    fields = [(name, scale) for name, scale in given.items() if scale is not None]
    if len(fields) != 1:
        raise UnknownNameError("single scale", [name for name, _ in fields], SCALE_FIELDS)
    ((name, scale),) = fields
    scale, qs = np.asarray(scale), np.asarray(qs)
    _require_parts(scale, qs, name)
    # Q8A8-LAY-4: all bytes start as zero, and float16 +0 is two zero bytes.
    blocks = np.zeros(scale.shape, BLOCK_Q8_A8_V2)
    blocks[name] = scale
    blocks["weight_qs"] = qs
    return blocks


def unpack(blocks: Blocks, field: str = "weight_scale") -> tuple[NDArray[np.float16], NDArray[np.int8]]:
    """Look at the scales and the quants of blocks, without a copy.

    Parameters
    ----------
    blocks
        `BLOCK_Q8_A8` or `BLOCK_Q8_A8_V2` `[...]`.
    field
        Which scale of a version 2 block to look at.

    Returns
    -------
    scale, qs
        float16 `[...]` and int8 `[..., 32]`: views, writable where `blocks` is.

    Raises
    ------
    DtypeError
        where `blocks` holds no blocks.
    UnknownNameError
        where the blocks have no such field.
    """
    require_blocks(blocks, "blocks")
    names = blocks.dtype.names or ()
    if field not in names[:-1]:
        raise UnknownNameError("scale field", field, names[:-1])
    return blocks[field], blocks["weight_qs"]


def as_blocks(data: BytesLike, dtype: np.dtype[Any] = BLOCK_Q8_A8) -> Blocks:
    """Read bytes as rows of blocks, without a copy (Q8A8-LAY-2).

    Parameters
    ----------
    data
        Bytes, a bytearray, a memoryview, or a uint8 array `[..., nb·itemsize]`. No alignment is needed.
    dtype
        `BLOCK_Q8_A8` or `BLOCK_Q8_A8_V2`.

    Returns
    -------
    A view `[..., nb]` of blocks; read-only where `data` is.

    Raises
    ------
    DtypeError
        where an array is not uint8, or `dtype` is not a block type.
    ShapeError
        where the bytes of a row do not lie next to each other: a view of them does not exist.
    BufferSizeError
        where the last block of a row is truncated.
    """
    require_blocks(np.empty(0, dtype), "dtype")
    raw = data if isinstance(data, np.ndarray) else np.frombuffer(data, np.uint8)
    require_dtype(raw, np.uint8, "data")
    if raw.ndim == 0:
        raise ShapeError("data: a row of bytes has at least one axis; this array has none")
    length = raw.shape[-1]
    if length % dtype.itemsize:
        raise BufferSizeError(
            f"data: a row of {length} bytes ends inside block {length // dtype.itemsize}: "
            f"{length % dtype.itemsize} of its {dtype.itemsize} bytes are there"
        )
    if raw.size and raw.strides[-1] != 1:
        raise ShapeError(f"data: the bytes of a row are {raw.strides[-1]} bytes apart, not contiguous")
    return raw.view(dtype)


def as_bytes(blocks: Blocks) -> NDArray[np.uint8]:
    """Look at rows of blocks as bytes, without a copy (Q8A8-LAY-2).

    Parameters
    ----------
    blocks
        `BLOCK_Q8_A8` or `BLOCK_Q8_A8_V2` `[..., nb]`.

    Returns
    -------
    uint8 `[..., nb·itemsize]`, a view.

    Raises
    ------
    DtypeError
        where `blocks` holds no blocks.
    ShapeError
        where the blocks of a row do not lie next to each other.
    """
    require_blocks(blocks, "blocks")
    if blocks.ndim == 0:
        raise ShapeError("blocks: a row of blocks has at least one axis; this array has none")
    if blocks.size and blocks.shape[-1] > 1 and blocks.strides[-1] != blocks.dtype.itemsize:
        raise ShapeError(f"blocks: the blocks of a row are {blocks.strides[-1]} bytes apart, not contiguous")
    return blocks.view(np.uint8)
