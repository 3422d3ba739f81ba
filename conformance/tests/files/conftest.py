"""What these tests share: a small model, written with gguf-py, and the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import pytest

from q8a8_conformance.cli import main
from q8a8_conformance.files import arrays

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

RNG = np.random.default_rng(3)
TENSORS: dict[str, tuple[NDArray[np.float32], str]] = {
    "token_embd.weight": (RNG.standard_normal((10, 64)).astype(np.float32), "F16"),
    "blk.0.attn_norm.weight": (RNG.standard_normal(64).astype(np.float32), "F32"),
    "blk.0.attn_q.weight": (RNG.standard_normal((64, 64)).astype(np.float32), "F32"),
    "blk.0.ffn_up.weight": (RNG.standard_normal((96, 64)).astype(np.float32), "Q4_0"),
}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut files into parts of a few blocks, so that small ones have many."""
    monkeypatch.setattr(arrays, "PART", 7 * 32)


def write(
    path: Path,
    tensors: dict[str, tuple[NDArray[Any], str]],
    fields: Callable[[gguf.GGUFWriter], None] | None = None,
) -> Path:
    """Write a model with gguf-py."""
    writer = gguf.GGUFWriter(path, "llama")
    if fields is not None:
        fields(writer)
    for name, (array, kind) in tensors.items():
        stored = gguf.GGMLQuantizationType[kind]
        data = array if array.dtype == np.uint8 else gguf.quants.quantize(array, stored)
        writer.add_tensor(name, data, raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Write a small model."""
    return write(tmp_path / "in.gguf", TENSORS, lambda writer: writer.add_name("small"))


def run(*words: object) -> int:
    """Run the command line."""
    return main([str(word) for word in words])
