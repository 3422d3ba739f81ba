"""GGUF files of blocks to floats: the bytes, the file type, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import gguf
import numpy as np
import pytest

from q8a8 import BLOCK_Q8_A8, DomainError
from q8a8.ggufio import GgufError, dequantize_model, open_model, quantize_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    Tensors: TypeAlias = dict[str, tuple[NDArray[np.float32], str]]


def stored(path: Path) -> dict[str, tuple[str, NDArray[Any]]]:
    """Read type and bytes of every tensor with gguf-py."""
    return {t.name: (t.tensor_type.name, t.data) for t in gguf.GGUFReader(path).tensors}


@pytest.mark.parametrize(("kind", "type_id"), [("f32", 0), ("f16", 1)])
def test_dequantize(
    write: Callable[..., Path], tensors: Tensors, tmp_path: Path, kind: Literal["f32", "f16"], type_id: int
) -> None:
    """Quantized tensors become floats, the others keep their bytes; blocks are no longer spoken of."""
    write("in.gguf", tensors, fields=lambda writer: writer.add_file_type(1))
    quantize_model(tmp_path / "in.gguf", tmp_path / "q.gguf", keep=["*attn_q*", "*attn_k*", "*ffn_gate*"])
    summary = dequantize_model(tmp_path / "q.gguf", tmp_path / "out.gguf", kind=kind)
    blocks, floats = stored(tmp_path / "q.gguf"), stored(tmp_path / "out.gguf")
    dtype = np.float32 if kind == "f32" else np.float16
    for name, (before, data) in blocks.items():
        if before in ("F32", "F16", "BF16"):
            assert name in summary.kept
            assert floats[name][0] == before
            assert floats[name][1].tobytes() == data.tobytes()
        else:
            assert name in summary.converted
            wanted = gguf.quants.dequantize(data, gguf.GGMLQuantizationType[before]).astype(dtype)
            assert floats[name][0] == kind.upper()
            assert floats[name][1].tobytes() == wanted.tobytes()
    with open_model(tmp_path / "out.gguf") as model:
        assert model.metadata["general.file_type"] == type_id
        assert [key for key in model.metadata if key.startswith("q8_a8.")] == ["q8_a8.source_sha256"]


@pytest.mark.parametrize(("most", "wanted"), [("F32", 0), ("F16", 1), ("BF16", 32), ("I8", 0)])
def test_the_file_type_of_floats(write: Callable[..., Path], tmp_path: Path, most: str, wanted: int) -> None:
    """The file type is that of most elements, where one is meant for them; else of what was asked for."""
    stored = np.zeros((64, 64 * gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[most]][1]), np.uint8)
    source = write("in.gguf", {"a": (stored, most), "b": (np.ones((1, 32), np.float32), "Q8_0")})
    dequantize_model(source, tmp_path / "out.gguf")
    with open_model(tmp_path / "out.gguf") as model:
        assert model.metadata.get("general.file_type") == wanted


def test_nothing_to_dequantize(write: Callable[..., Path], tmp_path: Path) -> None:
    """A file of floats has nothing to turn into floats."""
    source = write("in.gguf", {"t": (np.ones(3, np.float32), "F32")})
    with pytest.raises(GgufError, match="nothing to dequantize: no tensor is of a quantized type"):
        dequantize_model(source, tmp_path / "out.gguf")


def test_values_beyond_float16(write: Callable[..., Path], tmp_path: Path) -> None:
    """A value that float16 would turn into an infinity is named; the largest that it rounds down is taken."""
    h = np.zeros((2, 3), np.float16)
    q = np.zeros((2, 3, 32), np.int8)
    h[1, 2], q[1, 2, 9] = 2048, 31
    h[0, 0], q[0, 0, 0] = 65504, 1
    blocks = np.zeros((2, 3), BLOCK_Q8_A8)
    blocks["weight_scale"], blocks["weight_qs"] = h, q
    source = write("in.gguf", {"t": (blocks.view(np.uint8).reshape(2, 102), "Q8_0")})
    dequantize_model(source, tmp_path / "out.gguf", kind="f16")
    blocks["weight_qs"][1, 2, 9] = -32
    source = write("in.gguf", {"t": (blocks.view(np.uint8).reshape(2, 102), "Q8_0")})
    with pytest.raises(DomainError) as caught:
        dequantize_model(source, tmp_path / "out.gguf", kind="f16")
    where = f"{source}: tensor 't': row 1, block 2, element 9: value -65536: float16 ends below 65520"
    assert str(caught.value) == where
