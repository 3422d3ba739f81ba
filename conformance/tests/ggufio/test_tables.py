"""The tables of types, against gguf-py's."""

from __future__ import annotations

import gguf
import numpy as np
import pytest

from q8a8.ggufio.floats import NATIVE, WITHOUT_A_READER, readable
from q8a8.ggufio.model import PART
from q8a8.ggufio.select import is_linear
from q8a8.ggufio.tensor_types import DESIGN_Q8_A8, SCALARS, TENSOR_TYPES, VALUE_NAMES


def test_tensor_types() -> None:
    """Ids, names and sizes are those of gguf-py; a later gguf-py may have more."""
    theirs = {kind.value: (kind.name, *gguf.GGML_QUANT_SIZES[kind]) for kind in gguf.GGMLQuantizationType}
    ours = {kind.id: (kind.name, kind.block, kind.size) for kind in TENSOR_TYPES.values()}
    assert ours.items() <= theirs.items()
    assert [kind.id for kind in TENSOR_TYPES.values()] == sorted(TENSOR_TYPES)
    assert not any(PART % kind.block for kind in TENSOR_TYPES.values())


def test_types_of_metadata() -> None:
    """So are the types of metadata, and the sizes of numbers."""
    assert {kind.value: kind.name.lower() for kind in gguf.GGUFValueType} == VALUE_NAMES
    theirs = gguf.GGUFReader.gguf_scalar_to_np
    assert {kind.value: np.dtype(dtype) for kind, dtype in theirs.items()} == {
        type_id: np.dtype(name) for type_id, name in SCALARS.items()
    }


@pytest.mark.parametrize("kind", TENSOR_TYPES.values(), ids=lambda kind: kind.name)
def test_what_can_be_read(kind: object) -> None:
    """gguf-py dequantizes exactly the types of which we say so."""
    assert isinstance(kind, type(DESIGN_Q8_A8))
    assert readable(kind, ">") == (kind.name in NATIVE)
    try:
        gguf.quants.dequantize(np.zeros((1, kind.size), np.uint8), gguf.GGMLQuantizationType(kind.id))
    except NotImplementedError:
        assert kind.name in WITHOUT_A_READER
        assert not readable(kind, "<")
    else:
        assert readable(kind, "<")


@pytest.mark.parametrize(
    ("name", "linear"),
    [
        *((f"blk.{i}.{part}.weight", True) for i in (0, 7, 123) for part in ("attn_q", "attn_k", "attn_v")),
        *((f"blk.0.{part}.weight", True) for part in ("attn_output", "ffn_gate", "ffn_up", "ffn_down")),
        ("output.weight", True),
        ("token_embd.weight", False),
        ("output_norm.weight", False),
        ("blk.0.attn_norm.weight", False),
        ("blk.0.attn_q.bias", False),
        ("blk.x.attn_q.weight", False),
        ("blk.0.ffn_gate_exps.weight", False),
        ("xoutput.weight", False),
        ("output.weight\n", False),
        ("v.blk.0.attn_q.weight", False),
    ],
)
def test_linear_weights(name: str, linear: bool) -> None:
    """The weights of linear layers are told by their whole names."""
    assert is_linear(name) == linear
