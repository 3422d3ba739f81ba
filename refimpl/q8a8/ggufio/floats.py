"""The bytes of tensors as float32: the types that NumPy can read by itself, and gguf-py's for the others.

::

    F32             as it is
    F16             widened; exact
    BF16            the upper half of a float32: shifted; exact
    Q8_0, Q8_A8     h · q_j (Q8A8-DEQ-1); exact
    the others      `gguf.quants.dequantize`, gguf-py's own arithmetic

Of a file in big-endian order the first four are read. gguf-py's dequantizers take little-endian blocks alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from q8a8.errors import UnsupportedOperationError
from q8a8.ggufio.errors import import_gguf
from q8a8.ggufio.tensor_types import DESIGN_Q8_A8, Q8_0
from q8a8.layout import BLOCK_Q8_A8
from q8a8.quantize import dequantize_row

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from q8a8.ggufio.tensor_types import TensorType
    from q8a8.layout import Blocks

__all__ = ["is_q8_a8", "readable", "stored_blocks", "to_blocks", "to_floats"]

WIDE = 256
"""Blocks that are shown to gguf-py as one row: it works on 16 rows at a time."""

NATIVE = ("F32", "F16", "BF16", Q8_0.name, DESIGN_Q8_A8.name)
WITHOUT_A_READER = ("Q8_1", "Q8_K", "I8", "I16", "I32", "I64", "F64", "Q1_0")
"""gguf-py 0.19 has no dequantizer for these."""


def is_q8_a8(kind: TensorType) -> bool:
    """Return whether a type's bytes are blocks of Q8_A8."""
    return kind in (Q8_0, DESIGN_Q8_A8)


def readable(kind: TensorType, order: str) -> bool:
    """Return whether tensors of this type, in this byte order, can be turned into float32."""
    return kind.name in NATIVE or (kind.name not in WITHOUT_A_READER and order == "<")


def to_blocks(raw: NDArray[np.uint8], order: str) -> Blocks:
    """See the bytes of a Q8_0 or Q8_A8 tensor as blocks `[n]`; scales in big-endian order are turned."""
    blocks = raw.view(BLOCK_Q8_A8)
    if order == "<":
        return blocks
    turned = blocks.copy()
    turned["weight_scale"] = turned["weight_scale"].byteswap()
    return turned


def stored_blocks(blocks: Blocks, order: str) -> NDArray[np.uint8]:
    """Return the bytes of blocks in a file of this byte order: the inverse of `to_blocks`."""
    return to_blocks(blocks.reshape(-1).view(np.uint8), order).view(np.uint8)


def to_floats(raw: NDArray[np.uint8], kind: TensorType, order: str) -> NDArray[np.float32]:
    """Turn whole blocks of a tensor into numbers.

    Parameters
    ----------
    raw
        uint8 `[n·size]`: n blocks of the type's size, one or more.
    kind
        The type.
    order
        The file's byte order, "<" or ">".

    Returns
    -------
    float32 `[n·block]`, a new array unless it is the same bytes; infinities and NaNs as they come.

    Raises
    ------
    UnsupportedOperationError
        for a type without a dequantizer, and a big-endian file's blocks.
    MissingExtraError
        where gguf-py is needed and missing.
    DomainError
        for a Q8_0 block whose scale is not finite.
    """
    if not readable(kind, order):
        turned = " in a big-endian file" if kind.name not in WITHOUT_A_READER else ""
        raise UnsupportedOperationError(f"there is no dequantizer for the type {kind.name}{turned}")
    if is_q8_a8(kind):
        return dequantize_row(to_blocks(raw, order))
    if kind.name in ("F32", "F16"):
        return raw.view(f"{order}f{kind.size}").astype(np.float32, copy=False)
    if kind.name == "BF16":
        return (raw.view(f"{order}u2").astype(np.uint32) << 16).view(np.float32)
    quants = import_gguf(f"reading tensors of the type {kind.name}")
    gguf_type = quants.GGMLQuantizationType(kind.id)
    # Blocks are independent of rows: full rows of WIDE blocks, then the rest as one row.
    row = WIDE * kind.size
    full = raw.size // row * row
    pieces = ((raw[:full], row), (raw[full:], raw.size - full))
    # A scale of inf or NaN is the caller's to find, not NumPy's to warn about.
    with np.errstate(all="ignore"):
        floats = [
            quants.dequantize(piece.reshape(-1, width), gguf_type) for piece, width in pieces if piece.size
        ]
    return np.concatenate([each.reshape(-1) for each in floats])
