"""The types that a GGUF file can give to tensors and to metadata, as data.

A tensor type is a block of so many elements in so many bytes; rows are whole blocks. The ids and sizes are
those of ggml (`enum ggml_type` and `type_traits` in ggml.h and ggml.c) and of gguf-py 0.19
(`GGML_QUANT_SIZES`), against which the table is tested.

One id means two things. Upstream, 39 is MXFP4, with 17 bytes a block; the design of Q8_A8 gave the same id to
its own 34 bytes, and files with it exist (Q8A8-TRT-2). Which of the two a file means is settled where it is
opened, so that everywhere else a `TensorType` is unambiguous: `DESIGN_Q8_A8` is the second one.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from q8a8.layout import BLOCK_Q8_A8, QK8_A8
from q8a8.traits import GGUF

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "ARRAY",
    "BOOL",
    "DESIGN_Q8_A8",
    "F16",
    "F32",
    "FLOAT32",
    "Q4_0",
    "Q4_1",
    "Q5_0",
    "Q8_0",
    "SCALARS",
    "STRING",
    "TENSOR_TYPES",
    "UINT16",
    "UINT32",
    "VALUE_NAMES",
    "TensorType",
]


@dataclass(frozen=True)
class TensorType:
    """How the elements of a tensor are stored.

    Parameters
    ----------
    id
        The number in the file.
    name
        ggml's name.
    block
        Elements in a block.
    size
        Bytes in a block.
    """

    id: int
    name: str
    block: int
    size: int

    @property
    def is_block(self) -> bool:
        """Whether elements share bytes: the type is a quantized one."""
        return self.block > 1


_TYPES = """
     0 F32       1   4  |  10 Q2_K    256  84  |  20 IQ4_NL   32  18  |  30 BF16      1   2
     1 F16       1   2  |  11 Q3_K    256 110  |  21 IQ3_S   256 110  |  34 TQ1_0   256  54
     2 Q4_0     32  18  |  12 Q4_K    256 144  |  22 IQ2_S   256  82  |  35 TQ2_0   256  66
     3 Q4_1     32  20  |  13 Q5_K    256 176  |  23 IQ4_XS  256 136  |  39 MXFP4    32  17
     6 Q5_0     32  22  |  14 Q6_K    256 210  |  24 I8        1   1  |  40 NVFP4    64  36
     7 Q5_1     32  24  |  15 Q8_K    256 292  |  25 I16       1   2  |  41 Q1_0    128  18
     8 Q8_0     32  34  |  16 IQ2_XXS 256  66  |  26 I32       1   4  |
     9 Q8_1     32  40  |  17 IQ2_XS  256  74  |  27 I64       1   8  |
                        |  18 IQ3_XXS 256  98  |  28 F64       1   8  |
                        |  19 IQ1_S   256  50  |  29 IQ1_M   256  56  |
"""
"""Id, name, elements and bytes of a block."""


def _table(text: str) -> Mapping[int, TensorType]:
    """Read the table above, by id."""
    cells = [cell.split() for cell in text.replace("|", "\n").splitlines() if cell.strip()]
    types = (TensorType(int(i), name, int(block), int(size)) for i, name, block, size in cells)
    return MappingProxyType({each.id: each for each in sorted(types, key=lambda each: each.id)})


TENSOR_TYPES = _table(_TYPES)
"""Every known tensor type, by id."""

F32, F16, Q4_0, Q4_1, Q5_0, Q8_0, BF16 = (TENSOR_TYPES[i] for i in (0, 1, 2, 3, 6, GGUF.tensor_type, 30))
DESIGN_Q8_A8 = TensorType(GGUF.design_tensor_type, "Q8_A8", QK8_A8, BLOCK_Q8_A8.itemsize)
"""The meaning of id 39 in files of the design's own fork."""

SCALARS: Mapping[int, str] = MappingProxyType(
    {0: "u1", 1: "i1", 2: "u2", 3: "i2", 4: "u4", 5: "i4", 6: "f4", 7: "?", 10: "u8", 11: "i8", 12: "f8"}
)
"""NumPy's names, without the byte order, of the metadata types of a fixed size, by id (docs/gguf.md)."""

UINT16, UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY = 2, 4, 5, 6, 7, 8, 9

_NAMES = "uint8 int8 uint16 int16 uint32 int32 float32 bool string array uint64 int64 float64"
VALUE_NAMES: Mapping[int, str] = MappingProxyType(dict(enumerate(_NAMES.split())))
"""The names of metadata types, by id."""
