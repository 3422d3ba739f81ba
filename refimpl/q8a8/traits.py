"""The facts about the type that a runtime needs, and its form in GGUF files (Q8A8-TRT).

Q8A8-TRT-1::

    name            q8_a8          to_float          dequantize_row
    block size      32 elements    from_float        quantize_row, recipe `design`
    type size       34 bytes       vec_dot           vec_dot, order `scalar`
    quantized       yes            vec_dot type      q8_a8
    rows at a time  2 where the CPU has MATMUL_INT8, else 1

Q8A8-TRT-2: in a GGUF file the tensors are of type 8 (Q8_0), whose bytes and meaning they share, and metadata
under `q8_a8.` describes how they were made. The ids of the design, tensor type 39 and file type 38, belong to
MXFP4 and MXFP4_MOE in every ggml since 2025: a file that used them would be misread. Tensors with id 39 are
read as Q8_A8 only where the caller passes a flag.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from q8a8.dot import vec_dot
from q8a8.errors import UnsupportedOperationError
from q8a8.layout import BLOCK_Q8_A8, QK8_A8
from q8a8.quantize import dequantize_row, quantize_row

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from q8a8.layout import Blocks

__all__ = ["GGUF", "TRAITS", "Gguf", "Traits", "require_gguf_type", "rows_at_a_time"]

MATMUL_INT8_NAMES = ("matmul_int8", "i8mm")
"""The feature's names in ggml and Linux."""


@dataclass(frozen=True)
class Traits:
    """The facts about a tensor type that a runtime keeps in a table.

    Parameters
    ----------
    name
        The type's name.
    block_size
        Elements in a block.
    type_size
        Bytes in a block.
    is_quantized
        Whether the bytes have to be converted before they are numbers.
    to_float, from_float
        The conversions of rows, blocks to float32 and back.
    vec_dot
        The dot product of two rows.
    vec_dot_type
        The type that the second row of `vec_dot` must have.
    dtype
        A block as a NumPy dtype.
    """

    name: str
    block_size: int
    type_size: int
    is_quantized: bool
    to_float: Callable[[Blocks], NDArray[np.float32]]
    from_float: Callable[[NDArray[np.float32]], Blocks]
    vec_dot: Callable[[Blocks, Blocks], NDArray[np.float32]]
    vec_dot_type: str
    dtype: np.dtype[Any]


TRAITS = Traits(
    name="q8_a8",
    block_size=QK8_A8,
    type_size=BLOCK_Q8_A8.itemsize,
    is_quantized=True,
    to_float=dequantize_row,
    from_float=quantize_row,
    vec_dot=vec_dot,
    vec_dot_type="q8_a8",
    dtype=BLOCK_Q8_A8,
)
"""Q8A8-TRT-1, as data."""


def rows_at_a_time(cpu_features: Collection[str]) -> int:
    """Return the largest nrc: how many rows of each matrix one call of a dot product takes (Q8A8-TRT-1).

    Parameters
    ----------
    cpu_features
        Names of features, in any case: ggml's ("MATMUL_INT8") or Linux's ("i8mm").

    Returns
    -------
    2 where the CPU multiplies int8 matrices, else 1.
    """
    return 2 if any(feature.lower() in MATMUL_INT8_NAMES for feature in cpu_features) else 1


@dataclass(frozen=True)
class Gguf:
    """How a GGUF file carries Q8_A8 tensors (Q8A8-TRT-2).

    Parameters
    ----------
    tensor_type, tensor_type_name
        The id and the name of the tensors' type in the file.
    file_type
        The value of `general.file_type`.
    metadata_prefix
        The prefix of this format's metadata keys.
    metadata
        Each metadata key, with a description of its value.
    design_tensor_type, design_file_type
        The ids in the design documents.
    taken
        The owners of these ids upstream.
    """

    tensor_type: int
    tensor_type_name: str
    file_type: int
    metadata_prefix: str
    metadata: Mapping[str, str]
    design_tensor_type: int
    design_file_type: int
    taken: Mapping[int, str]


GGUF = Gguf(
    tensor_type=8,
    tensor_type_name="Q8_0",
    file_type=7,
    metadata_prefix="q8_a8.",
    metadata=MappingProxyType(
        {
            "q8_a8.version": "version of the block layout, 1",
            "q8_a8.recipe": "name of the recipe that quantized the tensors",
            "q8_a8.smoothing": "how the weights were smoothed, absent where they were not",
            "q8_a8.smoothing.sha256": "SHA-256 of the smoothing factors, with them",
            "q8_a8.smoothing.texts_sha256": "SHA-256 of the texts that they were calibrated on, with them",
            "q8_a8.source_sha256": "SHA-256 of the file that was quantized",
        }
    ),
    design_tensor_type=39,
    design_file_type=38,
    taken=MappingProxyType({39: "tensor type MXFP4", 38: "file type MXFP4_MOE"}),
)
"""Q8A8-TRT-2, as data."""


def require_gguf_type(type_id: int, *, design_ids: bool = False) -> None:
    """Refuse a GGUF tensor that does not hold Q8_A8 blocks (Q8A8-TRT-2).

    Parameters
    ----------
    type_id
        The tensor's type in the file.
    design_ids
        Whether the file is known to come from the design's own fork, so that 39 means Q8_A8 there.

    Raises
    ------
    UnsupportedOperationError
        for any type but 8, and 39 with the flag, saying why.
    """
    if type_id == GGUF.tensor_type or (design_ids and type_id == GGUF.design_tensor_type):
        return
    why = ""
    if type_id == GGUF.design_tensor_type:
        why = f": it is {GGUF.taken[type_id]} everywhere but in files of the design's own fork (design_ids)"
    raise UnsupportedOperationError(
        f"GGUF tensor type {type_id} is not read as q8_a8, which is type {GGUF.tensor_type}{why}"
    )
