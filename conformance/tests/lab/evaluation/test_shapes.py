"""The sizes of models are those of their published tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from q8a8_lab.evaluation.shapes import MODELS, LlamaShape

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("name", "parameters"),
    # Counts that are published with the models' weights.
    [
        ("Llama-7B", 6_738_415_616),
        ("Llama-13B", 13_015_864_320),
        ("Llama-30B", 32_528_943_616),
        ("SmolLM2-135M", 134_515_008),
    ],
)
def test_parameters(name: str, parameters: int) -> None:
    """The shapes give the published number of parameters."""
    assert MODELS[name].parameters == parameters


def test_bytes_by_hand() -> None:
    """A model small enough to count by hand."""
    shape = LlamaShape("tiny", n_layers=1, d_model=64, d_ff=96, n_vocab=10, n_heads=2, n_kv_heads=1)
    # q and output 64 x 64, k and v 32 x 64, gate, up and down 96 x 64.
    assert shape.linear == 2 * 4096 + 2 * 2048 + 3 * 6144 == 30720
    assert shape.tables == 2 * 640
    assert shape.norms == 3 * 64
    assert shape.f16_bytes() == 2 * (30720 + 1280) + 4 * 192
    assert shape.q8_a8_bytes(tables=False) == 960 * 34 + 2 * 1280 + 4 * 192
    assert shape.q8_a8_bytes(tables=True) == 1000 * 34 + 4 * 192
    # 5 positions, one head of 32 elements, keys and values, 2 bytes each.
    assert shape.kv_cache_bytes(5) == 5 * 32 * 2 * 2
    assert shape.kv_cache_bytes(5, bits=8.5) == 340
    assert shape.activation_row_bytes() == 3 * 34


def test_rows_of_whole_blocks() -> None:
    """A width that is no multiple of 32 has no Q8_A8 form."""
    shape = LlamaShape("odd", n_layers=1, d_model=48, d_ff=96, n_vocab=10, n_heads=2, n_kv_heads=1)
    with pytest.raises(ValueError, match="odd: rows of 48 or 96"):
        shape.q8_a8_bytes(tables=False)


def test_the_real_model(real_model: Path) -> None:
    """The shape of SmolLM2 gives the elements that its file has."""
    gguf = pytest.importorskip("gguf")
    elements = sum(int(tensor.n_elements) for tensor in gguf.GGUFReader(real_model).tensors)
    assert elements == MODELS["SmolLM2-135M"].parameters
