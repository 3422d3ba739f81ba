"""What the tests of GGUF files share: a small model, written by gguf-py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gguf
import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a GGUF file with gguf-py.

    ``write(name, {tensor: (array, type)}, key=value...)``: an array of float32 is stored in that type by
    gguf-py, one of uint8 holds the stored bytes; `big` asks for big-endian order.
    """

    def write_file(
        name: str,
        tensors: Mapping[str, tuple[NDArray[np.generic], str]],
        *,
        big: bool = False,
        fields: Callable[[gguf.GGUFWriter], None] | None = None,
    ) -> Path:
        order = gguf.GGUFEndian.BIG if big else gguf.GGUFEndian.LITTLE
        writer = gguf.GGUFWriter(tmp_path / name, "llama", endianess=order)
        if fields is not None:
            fields(writer)
        for tensor, (array, kind) in tensors.items():
            stored = gguf.GGMLQuantizationType[kind]
            data = array if array.dtype == np.uint8 else gguf.quants.quantize(array, stored)
            writer.add_tensor(tensor, data, raw_dtype=stored)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return tmp_path / name

    return write_file


RNG = np.random.default_rng(41)


def weights(*shape: int) -> NDArray[np.float32]:
    """Draw numbers as weights are."""
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.fixture(scope="session")
def tensors() -> dict[str, tuple[NDArray[np.float32], str]]:
    """Return the tensors of a model of one layer, and the types that a file has them in."""
    return {
        "token_embd.weight": (weights(50, 64), "Q4_0"),
        "blk.0.attn_norm.weight": (weights(64), "F32"),
        "blk.0.attn_q.weight": (weights(64, 64), "F16"),
        "blk.0.attn_k.weight": (weights(32, 64), "BF16"),
        "blk.0.attn_v.weight": (weights(32, 64), "Q8_0"),
        "blk.0.attn_output.weight": (weights(64, 64), "Q4_1"),
        "blk.0.ffn_norm.weight": (weights(64), "F32"),
        "blk.0.ffn_gate.weight": (weights(96, 64), "Q5_0"),
        "blk.0.ffn_up.weight": (weights(96, 64), "F32"),
        "blk.0.ffn_down.weight": (weights(64, 96), "Q5_1"),
        "blk.0.attn_rot_embd.weight": (weights(3, 7), "F32"),
        "output_norm.weight": (weights(64), "F32"),
        "output.weight": (weights(50, 64), "F16"),
    }
