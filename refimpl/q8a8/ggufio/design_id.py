"""The meaning of tensor type 39 in a file: MXFP4, or the Q8_A8 of the design's own fork (Q8A8-TRT-2).

Upstream ggml gave 39 to MXFP4, 17 bytes for 32 elements. The design of Q8_A8 had taken the same number for
its 34 bytes, and the file type 38, which upstream is MXFP4_MOE. The number alone cannot tell them apart, but
the bytes can: ggml writes tensors one after the other, each padded to the alignment, so that the distance
from one to the next gives its size::

    offset                       offset of the next tensor
      |<- n/32 blocks -><- padding ->|          17·n/32 or 34·n/32, rounded up to the alignment

A file without the flag is read as upstream means it, unless it is so laid out as only the fork would do it;
with the flag it is read as the fork means it, unless it is laid out as only upstream would. The last tensor
may go without padding.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import TYPE_CHECKING

from q8a8.ggufio.errors import GgufError, shown
from q8a8.ggufio.tensor_types import DESIGN_Q8_A8, TENSOR_TYPES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from q8a8.ggufio.tensor_types import TensorType

__all__ = ["settle"]

MXFP4 = TENSOR_TYPES[DESIGN_Q8_A8.id]


def settle(
    path: Path,
    claims: Mapping[str, tuple[tuple[int, ...], int, int]],
    size: int,
    alignment: int,
    *,
    allow_id_39: bool,
) -> TensorType:
    """Decide which type 39 is in a file.

    Parameters
    ----------
    path
        The file's name, for messages.
    claims
        Shape (outermost axis first), type id and offset of every tensor, by name.
    size
        Bytes of the data section.
    alignment
        Of the offsets.
    allow_id_39
        Whether the caller declares the file to be of the design's fork.

    Returns
    -------
    `MXFP4` or `DESIGN_Q8_A8`.

    Raises
    ------
    GgufError
        where the file's layout contradicts the caller, naming a tensor.
    """
    # A tensor without elements has no size to compare.
    disputed = {
        name: (math.prod(shape) // MXFP4.block, offset)
        for name, (shape, type_id, offset) in claims.items()
        if type_id == DESIGN_Q8_A8.id and math.prod(shape) > 0
    }
    offsets = sorted(offset for _, _, offset in claims.values())

    def all_fit(kind: TensorType) -> bool:
        """Return whether every disputed tensor is laid out as one of this type."""
        return all(
            _fits(blocks * kind.size, offset, offsets, size, alignment)
            for blocks, offset in disputed.values()
        )

    chosen, other = (DESIGN_Q8_A8, MXFP4) if allow_id_39 else (MXFP4, DESIGN_Q8_A8)
    if not disputed or not all_fit(other) or all_fit(chosen):
        return chosen
    raise GgufError(path, _contradiction(next(iter(disputed)), chosen, other))


def _fits(n_bytes: int, offset: int, offsets: list[int], size: int, alignment: int) -> bool:
    """Return whether the data after a tensor lie where they would after this many bytes."""
    end = offset + -(-n_bytes // alignment) * alignment
    following = bisect_right(offsets, offset)
    if following == len(offsets):
        return offset + n_bytes <= size <= end
    return offsets[following] == end


def _contradiction(name: str, chosen: TensorType, other: TensorType) -> str:
    """Describe a file that is laid out as the type that the caller did not choose."""
    laid_out = f"tensor {shown(name)}: type 39 is laid out with {other.size} bytes a block of 32"
    if other == MXFP4:
        return f"{laid_out}: that is upstream's MXFP4, not the design's Q8_A8; read it without the flag"
    return (
        f"{laid_out}, but 39 is MXFP4 in every ggml since 2025, with {chosen.size}. This looks like a file "
        "of the fork of the Q8_A8 design, where 39 was Q8_A8; if it is one, say so (--allow-id-39)"
    )
