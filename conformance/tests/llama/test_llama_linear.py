"""The linear operators of the format: what they store, and what they compute."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8 import BLOCK_Q8_A8, DomainError, ShapeError, quantize_row, vec_dot
from q8a8.llama import FloatLinear, Int8WeightLinear, Model, Q8A8Linear, linear_names

if TYPE_CHECKING:
    from tests.llama.conftest import Tiny

RNG = np.random.default_rng(21)
W = RNG.normal(size=(5, 96)).astype(np.float32)
X = RNG.normal(size=(7, 96)).astype(np.float32)
X[2, 32:64] = 0
W[3, :32] = -0.0


def test_float_linear_multiplies() -> None:
    """Integers, exactly; bytes and bits are those of float32."""
    linear = FloatLinear(np.array([[1, 2], [3, 4], [5, -6]], np.float32))
    assert linear(np.array([[1, 10]], np.float32)).tolist() == [[21, 43, -55]]
    assert (linear.weight_bytes, linear.activation_bits) == (24, 32)


def unpacked(weight: np.ndarray) -> np.ndarray:
    """Decode blocks with `struct`: scale times number, exact in float64 and in float32."""
    data = quantize_row(weight).tobytes()
    values = []
    for start in range(0, len(data), 34):
        scale, *numbers = struct.unpack_from("<e32b", data, start)
        values += [scale * number for number in numbers]
    return np.array(values, np.float32).reshape(weight.shape)


def test_int8_weights_are_dequantized() -> None:
    """The product is that of the weights that the blocks stand for, in every bit; 34 bytes a block."""
    for weight in (W, quantize_row(W)):
        linear = Int8WeightLinear(weight)
        assert (linear(X) == X @ unpacked(W).T).all()
        assert (linear.weight_bytes, linear.activation_bits) == (5 * 3 * 34, 32)


@pytest.mark.parametrize("threads", [1, 2])
def test_q8_a8_is_a_dot_product_each(threads: int) -> None:
    """Every result is the format's dot product of a row of weights and a quantized row, bit for bit."""
    for weight in (W, quantize_row(W)):
        linear = Q8A8Linear(weight, threads=threads)
        expected = [[vec_dot(quantize_row(w), quantize_row(x)) for w in W] for x in X]
        assert linear(X).tobytes() == np.array(expected, np.float32).tobytes()
        assert (linear.weight_bytes, linear.activation_bits) == (5 * 3 * 34, 8.5)


def test_recipe_is_used_on_both_sides() -> None:
    """A tie rounds to even in ggml's AVX2 recipe, in the weights and at run time."""
    row = np.zeros((1, 32), np.float32)
    row[0, :2] = 127, 0.5  # amax / 127 = 1, so that 0.5 is a tie
    assert Q8A8Linear(row)(row).tolist() == [[127.0 * 127 + 1]]
    assert Q8A8Linear(row, recipe="ggml-avx2")(row).tolist() == [[127.0 * 127]]
    assert Int8WeightLinear(row, recipe="ggml-avx2")(row).tolist() == [[127.0 * 127]]
    assert Int8WeightLinear(row)(row).tolist() == [[127.0 * 127 + 0.5]]


@pytest.mark.parametrize("kind", [Q8A8Linear, Int8WeightLinear])
def test_weights_are_checked(kind: type[Q8A8Linear | Int8WeightLinear]) -> None:
    """A vector, a row that is no whole number of blocks, and a NaN are refused, the last with its place."""
    with pytest.raises(ShapeError, match="expected a matrix"):
        kind(W[0])
    with pytest.raises(ShapeError, match="not a multiple of 32"):
        kind(W[:, :31])
    bad = W.copy()
    bad[4, 40] = np.nan
    with pytest.raises(DomainError, match="row 4, block 1, element 8"):
        kind(bad)


def test_models_of_blocks_run(tiny: Tiny) -> None:
    """A model with these operators runs, and is not the float model; every row of blocks fits."""
    logits = Model(tiny.config, tiny.weights).forward(tiny.tokens)
    for kind in (Int8WeightLinear, Q8A8Linear):
        linears = {name: kind(tiny.weights[name]) for name in linear_names(tiny.config)}
        quantized = Model(tiny.config, tiny.weights, linears=linears).forward(tiny.tokens)
        assert quantized.dtype == np.float32
        assert 0 < np.abs(quantized - logits).max() < np.abs(logits).max()
    assert quantize_row(tiny.weights["blk.0.ffn_down.weight"]).dtype == BLOCK_Q8_A8
