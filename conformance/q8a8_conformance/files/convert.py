"""Files of floats to files of blocks, and back.

::

    q8a8 quantize   weights.npy weights.q8.npy     float32 or float16 [..., k] -> blocks [..., k/32]
    q8a8 dequantize weights.q8.npy again.npy       blocks [..., nb] -> float32 [..., 32·nb]

Files stream through in parts of 16 MiB of floats, whatever their size; `q8a8_conformance.files.arrays` says
what the suffixes mean and how a result appears only when it is complete. A part is given to the reference as
blocks, and an error about a place in a part is told as the place in the file.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from q8a8 import (
    BLOCK_Q8_A8,
    BLOCK_Q8_A8_V2,
    QK8_A8,
    DomainError,
    dequantize_row,
    quantize_row,
    quantize_row_v2,
)
from q8a8_conformance.files.arrays import (
    FLOATS,
    Mapped,
    Shape,
    block_parts,
    float_parts,
    float_shape,
    open_array,
    open_blocks,
    require_distinct,
    used_scale,
    writing,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["dequantize_file", "quantize_file"]


def quantize_file(
    source: Path,
    target: Path,
    *,
    recipe: str = "design",
    scale_field: str | None = None,
    shape: Shape | None = None,
) -> None:
    """Quantize a file of floats to a file of blocks.

    Parameters
    ----------
    source
        `.npy` of float32 or float16 `[..., k]` in either byte order (float16 is widened, exactly), or `.f32`.
    target
        `.npy` or `.bin`.
    recipe
        The arithmetic.
    scale_field
        The field for the scale of version 2 blocks; None writes version 1.
    shape
        Elements `[..., k]` of an `.f32` source.

    Raises
    ------
    FileError
        naming the file, and where it is about a value, row, block, element and value. The target then is what
        it was before.
    """
    require_distinct(source, target)
    mapped = open_array(source, blocks=BLOCK_Q8_A8, shape=shape)
    shape = float_shape(mapped)
    blocks = (*shape[:-1], shape[-1] // QK8_A8)
    dtype = BLOCK_Q8_A8 if scale_field is None else BLOCK_Q8_A8_V2
    with writing(target, dtype, blocks) as writer:
        for first, part in float_parts(mapped):
            with _named(mapped, first, blocks):
                if scale_field is None:
                    writer.write(quantize_row(part, recipe))
                else:
                    writer.write(quantize_row_v2(part, scale_field, recipe))


def dequantize_file(
    source: Path,
    target: Path,
    *,
    version: int = 1,
    scale_field: str | None = None,
    shape: Shape | None = None,
) -> None:
    """Turn a file of blocks into a file of float32.

    Parameters
    ----------
    source
        `.npy` of blocks, or `.bin`.
    target
        `.npy` or `.f32`.
    version
        The version of the blocks in a `.bin` source.
    scale_field
        The scale to use of version 2 blocks; by default the one that is not zero everywhere.
    shape
        Elements `[..., k]` of a `.bin` source.

    Raises
    ------
    FileError
        as `quantize_file`.
    """
    require_distinct(source, target)
    mapped = open_blocks(source, version, shape)
    blocks = mapped.array.shape
    name = scale_field or used_scale(mapped)
    with writing(target, FLOATS, (*blocks[:-1], blocks[-1] * QK8_A8)) as writer:
        for first, part in block_parts(mapped):
            with _named(mapped, first, blocks):
                writer.write(dequantize_row(part, field=name))


@contextmanager
def _named(mapped: Mapped, first: int, blocks: Shape) -> Iterator[None]:
    """Tell an error about a place in a part, `first` blocks into the file, as the place in the file."""
    try:
        yield
    except DomainError as error:
        *row, block = np.unravel_index(first + error.row[0], blocks)
        raise DomainError(
            error.reason,
            array=str(mapped.path),
            row=tuple(int(i) for i in row),
            block=int(block),
            element=error.element,
            value=error.value,
        ) from None
