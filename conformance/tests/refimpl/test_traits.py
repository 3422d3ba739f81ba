"""The facts about the type, against the specification's table and gguf-py's."""

from __future__ import annotations

import dataclasses

import gguf
import numpy as np
import pytest

from q8a8 import GGUF, TRAITS, dequantize_row, errors, quantize_row, rows_at_a_time, vec_dot
from q8a8.traits import require_gguf_type


@pytest.mark.rule("Q8A8-TRT-1")
def test_traits() -> None:
    """The table of the specification, line by line."""
    assert dataclasses.asdict(TRAITS) == {
        "name": "q8_a8",
        "block_size": 32,
        "type_size": 34,
        "is_quantized": True,
        "to_float": dequantize_row,
        "from_float": quantize_row,
        "vec_dot": vec_dot,
        "vec_dot_type": "q8_a8",
        "dtype": np.dtype([("weight_scale", "<f2"), ("weight_qs", "i1", (32,))]),
    }


@pytest.mark.rule("Q8A8-TRT-1")
def test_traits_functions_convert() -> None:
    """What the table points to turns rows into that many bytes a block, and back."""
    x = np.full(64, 127, np.float32)
    blocks = TRAITS.from_float(x)
    assert blocks.nbytes == 64 // TRAITS.block_size * TRAITS.type_size
    assert TRAITS.to_float(blocks).tolist() == x.tolist()
    assert TRAITS.vec_dot(blocks, blocks) == 64 * 127 * 127


@pytest.mark.rule("Q8A8-TRT-1")
@pytest.mark.parametrize(
    ("features", "rows"),
    [
        ([], 1),
        (["neon", "dotprod", "sve"], 1),
        (["NEON", "MATMUL_INT8"], 2),
        ({"i8mm"}, 2),
        (("asimd", "I8MM"), 2),
        (["avx2"], 1),
    ],
)
def test_rows_at_a_time(features: list[str], rows: int) -> None:
    """Two rows where the CPU multiplies int8 matrices, by ggml's name for it or Linux's; else one."""
    assert rows_at_a_time(features) == rows


@pytest.mark.rule("Q8A8-TRT-2")
def test_gguf_ids_are_those_of_the_library() -> None:
    """Type 8 is Q8_0 with our sizes, 39 and 38 are taken by MXFP4, by gguf-py's own tables."""
    assert gguf.GGMLQuantizationType(GGUF.tensor_type).name == GGUF.tensor_type_name == "Q8_0"
    assert gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType.Q8_0] == (TRAITS.block_size, TRAITS.type_size)
    assert GGUF.file_type == gguf.LlamaFileType.MOSTLY_Q8_0
    assert (GGUF.design_tensor_type, GGUF.design_file_type) == (39, 38)
    assert gguf.GGMLQuantizationType(39).name in GGUF.taken[39]
    assert gguf.LlamaFileType(38).name.removeprefix("MOSTLY_") in GGUF.taken[38]


@pytest.mark.rule("Q8A8-TRT-2")
def test_gguf_metadata_names() -> None:
    """Every key of the format's own metadata starts with its prefix and says what it holds."""
    assert GGUF.metadata_prefix == "q8_a8."
    keys = ("version", "recipe", "smoothing", "smoothing.sha256", "smoothing.texts_sha256", "source_sha256")
    assert set(GGUF.metadata) == {f"q8_a8.{key}" for key in keys}
    assert all(GGUF.metadata.values())


@pytest.mark.rule("Q8A8-TRT-2")
def test_gguf_types() -> None:
    """Type 8 is read, 39 only by flag, anything else never."""
    require_gguf_type(8)
    require_gguf_type(8, design_ids=True)
    require_gguf_type(39, design_ids=True)
    with pytest.raises(
        errors.UnsupportedOperationError, match=r"type 39 is not read .* it is tensor type MXFP4"
    ):
        require_gguf_type(39)
    for type_id in (0, 2, 38, 40):
        with pytest.raises(errors.UnsupportedOperationError, match=f"type {type_id} is not read as q8_a8"):
            require_gguf_type(type_id, design_ids=True)
