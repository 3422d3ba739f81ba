"""Weights of AWQ, GPTQ and int4 as ggml's types: every number exactly, read back by gguf-py."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import gguf
import numpy as np
import pytest

from q8a8 import DomainError, ShapeError
from q8a8.ggufio import GgufError, IntegerWeight, exact_blocks, open_model, replace_weights
from q8a8.methods import awq
from q8a8.methods.nibbles import unpack_nibbles
from q8a8.methods.weight_only import dequantize_int4, quantize_int4

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    Tensors: TypeAlias = dict[str, tuple[NDArray[np.float32], str]]

RNG = np.random.default_rng(29)
W = RNG.standard_normal((6, 128)).astype(np.float32)


def read(weight: IntegerWeight) -> tuple[str, NDArray[np.float32]]:
    """Return the type that a weight gets, and its numbers as gguf-py reads them."""
    kind, data = exact_blocks(weight, "w")
    return kind.name, gguf.quants.dequantize(data, gguf.GGMLQuantizationType(kind.id))


@pytest.mark.parametrize("group", [32, 64, 128])
def test_int4(group: int) -> None:
    """Symmetric int4 in groups is Q4_0; with zero points a wider type; the numbers stay as they are."""
    stored = quantize_int4(W, group)
    codes = unpack_nibbles(stored.packed, 128)
    kind, numbers = read(IntegerWeight(codes, stored.scale))
    assert kind == "Q4_0"
    assert np.array_equal(numbers, dequantize_int4(stored))
    stored = quantize_int4(W + 1, group, "int4-compressed-tensors-asymmetric")
    assert stored.zero is not None
    zero = unpack_nibbles(stored.zero, 128 // group)
    codes = unpack_nibbles(stored.packed, 128)
    kind, numbers = read(IntegerWeight(codes, stored.scale, zero))
    assert kind in {"Q4_1", "Q5_0"}
    assert np.array_equal(numbers, dequantize_int4(stored))


def test_awq() -> None:
    """AWQ's codes and zero points, with scales rounded to float16 as it stores them, come through."""
    weight = awq.quantize(W, awq.AwqGrid(group=64))
    half = weight.scale.astype(np.float16).astype(np.float32)
    kind, numbers = read(IntegerWeight(weight.codes, half, weight.zero))
    assert kind in {"Q4_0", "Q4_1", "Q5_0"}
    steps = (weight.codes - np.repeat(weight.zero, 64, axis=1)).astype(np.float32)
    assert np.array_equal(numbers, steps * np.repeat(half, 64, axis=1))


@pytest.mark.parametrize(
    ("zero", "scale", "kind"),
    [(-1, 0.5, "Q4_1"), (-40, 0.5, "Q4_1"), (3, 1 + 2**-10, "Q5_0"), (-90, 1 + 2**-10, "Q8_0")],
)
def test_the_narrowest_type(zero: int, scale: float, kind: str) -> None:
    """A type is as narrow as holds every number: an offset that is not float16 needs more bits."""
    codes = np.arange(64, dtype=np.int8).reshape(1, 64) % 16 - 8
    zeros, scales = np.full((1, 1), zero), np.full((1, 1), scale, np.float32)
    got, numbers = read(IntegerWeight(codes, scales, zeros))
    assert got == kind
    assert np.array_equal(numbers, (codes.astype(np.float32) - zero) * np.float32(scale))


def test_what_no_type_holds() -> None:
    """A scale beyond float16, integers beyond int8 and groups of other sizes are refused with the place."""
    codes, scale = np.zeros((2, 64), np.int16), np.ones((2, 1), np.float32)
    scale[1] = 1 + 2**-11
    with pytest.raises(
        DomainError, match=r"w: row 1, block 0, element 0: value 1\.00048828: the scale is not"
    ):
        exact_blocks(IntegerWeight(codes, scale), "w")
    codes[1, 33] = 128
    with pytest.raises(DomainError, match="w: row 1, block 1, element 1: value 128: no type holds"):
        exact_blocks(IntegerWeight(codes, np.ones((2, 1), np.float32)), "w")
    for shape in ((2, 4), (2, 3), (1, 1), (2, 0)):
        with pytest.raises(ShapeError, match="a group must be a multiple of 32 columns"):
            exact_blocks(IntegerWeight(codes, np.ones(shape, np.float32)), "w")


def test_a_model(write: Callable[..., Path], tensors: Tensors, tmp_path: Path) -> None:
    """The weights are replaced in the file, the other tensors keep their bytes, and gguf-py reads it."""
    source, out = write("in.gguf", tensors), tmp_path / "out.gguf"
    weights = {}
    for name in ("blk.0.attn_q.weight", "output.weight"):
        stored = quantize_int4(tensors[name][0], 32)
        weights[name] = IntegerWeight(unpack_nibbles(stored.packed, 64), stored.scale)
    types = replace_weights(source, out, weights, method="int4 group=32")
    assert {name: kind.name for name, kind in types.items()} == dict.fromkeys(weights, "Q4_0")
    before = {t.name: t for t in gguf.GGUFReader(source).tensors}
    for tensor in gguf.GGUFReader(out).tensors:
        if tensor.name in weights:
            expected = dequantize_int4(quantize_int4(tensors[tensor.name][0], 32))
            assert np.array_equal(gguf.quants.dequantize(tensor.data, tensor.tensor_type), expected)
        else:
            assert tensor.data.tobytes() == before[tensor.name].data.tobytes()
    with open_model(out) as model:
        assert model.metadata["q8_a8.method"] == "int4 group=32"
        assert "general.file_type" not in model.metadata
    alone = write("alone.gguf", {"output.weight": tensors["output.weight"]})
    replace_weights(alone, out, {"output.weight": weights["output.weight"]}, method="int4")
    with open_model(out) as model:
        assert model.metadata["general.file_type"] == 2


def test_wrong_models(write: Callable[..., Path], tensors: Tensors, tmp_path: Path) -> None:
    """A tensor of another name or shape, and a big-endian file, are refused; nothing is written."""
    source, out = write("in.gguf", tensors), tmp_path / "out.gguf"
    weight = IntegerWeight(np.zeros((2, 64), np.int8), np.ones((2, 1), np.float32))
    with pytest.raises(GgufError, match="there is no tensor 'x'"):
        replace_weights(source, out, {"x": weight}, method="int4")
    with pytest.raises(GgufError, match=r"'output.weight': expected codes \[50, 64\], got \[2, 64\]"):
        replace_weights(source, out, {"output.weight": weight}, method="int4")
    big = write("big.gguf", {"output.weight": (np.zeros((2, 256), np.uint8), "F32")}, big=True)
    with pytest.raises(GgufError, match="is big-endian"):
        replace_weights(big, out, {"output.weight": weight}, method="int4")
    assert not out.exists()
