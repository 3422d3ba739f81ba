"""Weight-only layers: packing, groups, what is stored, and the arithmetic of the product."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from q8a8 import errors
from q8a8.methods import weight_only
from q8a8.methods.affine import dequantize, quantize
from q8a8.methods.nibbles import pack_nibbles, unpack_nibbles

if TYPE_CHECKING:
    from numpy.typing import NDArray

VECTORS: dict[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).parent / "vectors" / "weight_only.json").read_text("utf-8")
)
INT4_RULES = (
    "int4-compressed-tensors",
    "int4-compressed-tensors-asymmetric",
    "int4-torchao",
    "int4-torchao-asymmetric",
)


def name_of(case: dict[str, Any]) -> str:
    """Name a test by its vector."""
    return str(case["id"])


def normal(*shape: int) -> NDArray[np.float32]:
    """Return seeded random numbers."""
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


# ---- Nibbles ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", VECTORS["pack"], ids=name_of)
def test_pack_vectors(case: dict[str, Any]) -> None:
    """WON-2: the golden vectors, there and back."""
    q = np.array(case["q"], np.int8)
    packed = pack_nibbles(q)
    assert packed.tobytes() == bytes.fromhex(case["packed"])
    assert np.array_equal(unpack_nibbles(packed, q.size), q)


@given(q=arrays(np.int8, st.tuples(st.integers(0, 3), st.integers(0, 9)), elements=st.integers(-8, 7)))
def test_pack_round_trip(q: NDArray[np.int8]) -> None:
    """WON-2: any codes come back, rows of odd length too; each byte is low + 16 · high."""
    packed = pack_nibbles(q)
    assert packed.shape == (len(q), (q.shape[1] + 1) // 2)
    assert np.array_equal(unpack_nibbles(packed, q.shape[1]), q)
    for row, codes in zip(packed, q.tolist(), strict=True):
        padded = [*codes, -8][: 2 * len(row)]
        assert row.tolist() == [padded[i] + 8 + 16 * (padded[i + 1] + 8) for i in range(0, len(padded), 2)]


def test_pack_refusals() -> None:
    """WON-2: codes beyond four bits, other types, and other lengths are refused."""
    for value in (-9, 8):
        q = np.zeros((2, 5), np.int8)
        q[1, 3] = value
        with pytest.raises(
            errors.DomainError, match=rf"q: row 1, block 0, element 3: value {value}: four bits"
        ):
            pack_nibbles(q)
    with pytest.raises(errors.DtypeError, match="q: expected int8, got int64"):
        pack_nibbles(np.zeros(2, np.int64))
    with pytest.raises(errors.ShapeError, match="one axis"):
        pack_nibbles(np.array(1, np.int8))
    with pytest.raises(errors.DtypeError, match="packed: expected uint8, got int8"):
        unpack_nibbles(np.zeros(2, np.int8), 4)
    for packed, k in ((np.zeros(2, np.uint8), 5), (np.array(0, np.uint8), 2), (np.zeros(0, np.uint8), -1)):
        with pytest.raises(errors.BufferSizeError, match=f"rows of {k} codes"):
            unpack_nibbles(packed, k)


# ---- Groups ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", VECTORS["storage"], ids=name_of)
def test_storage_vectors(case: dict[str, Any]) -> None:
    """WON-4: the bytes of nibbles, scales and zero points, all counted."""
    m, k = case["shape"]
    stored = weight_only.quantize_int4(
        normal(m, k), case["group"], case["rule"], tail=case["tail"], half_scale=case["half"]
    )
    assert stored.nbytes == case["nbytes"]
    assert stored.bits_per_weight == 8 * case["nbytes"] / (m * k)
    layer = weight_only.Int4GroupLinear(
        normal(m, k), group=case["group"], rule=case["rule"], tail=case["tail"], half_scale=case["half"]
    )
    assert layer.weight_bytes == case["nbytes"]


@pytest.mark.parametrize("rule", INT4_RULES)
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("k", [96, 70, 20, 33])
def test_groups_are_quantized_alone(rule: str, half: bool, k: int) -> None:
    """WON-1, WON-3: each group, the short last one too, is what the rule makes of it alone."""
    w = normal(3, k)
    stored = weight_only.quantize_int4(w, 32, rule, tail="short", half_scale=half)
    assert stored.scale.dtype == (np.float16 if half else np.float32)
    numbers = weight_only.dequantize_int4(stored)
    for i in range(3):
        for group, first in enumerate(range(0, k, 32)):
            alone = quantize(w[i, first : first + 32], rule, half_scale=half)
            assert stored.scale[i, group] == alone.scale
            codes = unpack_nibbles(stored.packed[i], k)[first : first + 32]
            assert np.array_equal(codes, alone.q)
            if stored.zero is not None:
                assert unpack_nibbles(stored.zero[i], -(-k // 32))[group] == alone.zero
            assert np.array_equal(numbers[i, first : first + 32], dequantize(alone))


def test_usual_sizes() -> None:
    """WON-4: the figures of the page, by group: symmetric and asymmetric, scales in float16."""
    figures = {32: (4.5, 4.625), 64: (4.25, 4.3125), 128: (4.125, 4.15625)}
    assert set(figures) == set(weight_only.GROUPS)
    for group, bits in figures.items():
        for symmetric, expected in zip((True, False), bits, strict=True):
            layer = weight_only.Int4GroupLinear(normal(4, 256), group=group, symmetric=symmetric)
            assert layer.weight.bits_per_weight == expected
            assert (layer.weight.zero is None) == symmetric


def test_tail_by_choice() -> None:
    """WON-3: rows that are no multiple of the group are refused unless a short last group is asked for."""
    w = normal(2, 70)
    with pytest.raises(errors.ShapeError, match="rows of 70 elements are not a multiple of the group of 32"):
        weight_only.quantize_int4(w, 32)
    with pytest.raises(errors.UnknownNameError, match="tail is called 'pad'; there are refuse, short"):
        weight_only.quantize_int4(w, 32, tail="pad")
    assert weight_only.quantize_int4(w, 32, tail="short").scale.shape == (2, 3)
    assert weight_only.quantize_int4(w[:, :64], 32, tail="short").scale.shape == (2, 2)
    # A group longer than the row: one short group.
    assert weight_only.quantize_int4(w, 128, tail="short").scale.shape == (2, 1)


def test_int4_refusals() -> None:
    """Rules of other codes, groups of nothing, and numbers with their place."""
    w = normal(2, 64)
    with pytest.raises(errors.ArgumentError, match="expected codes -8 to 7, got absmax-127 with -128 to 127"):
        weight_only.quantize_int4(w, 32, "absmax-127")
    with pytest.raises(errors.ArgumentError, match="group: expected at least 1"):
        weight_only.quantize_int4(w, 0)
    w[1, 40] = np.inf
    with pytest.raises(errors.DomainError, match="weight: row 1, block 0, element 40: value inf"):
        weight_only.quantize_int4(w, 32)
    w[1, 40] = 1e6
    with pytest.raises(errors.DomainError, match="weight: row 1, block 1, element 8: value 1000000"):
        weight_only.quantize_int4(w, 32)
    with pytest.raises(errors.ShapeError, match="weight: expected shape"):
        weight_only.quantize_int4(w[0], 32)


# ---- Layers ---------------------------------------------------------------------------------------------


def exact_product_bound(x: NDArray[np.float32], w: NDArray[np.float32]) -> NDArray[np.float64]:
    """Bound a float32 product of k terms in any order: gamma(k) times the sum of magnitudes (WON-6)."""
    k = x.shape[1]
    gamma = k * 2.0**-24 / (1 - k * 2.0**-24)
    bound: NDArray[np.float64] = gamma * (np.abs(x.astype(np.float64)) @ np.abs(w.astype(np.float64)).T)
    return bound


@pytest.mark.parametrize("symmetric", [True, False])
def test_int4_layer(symmetric: bool) -> None:
    """WON-5, WON-6: rounded to float16, times the dequantized weight, within the bound of any order."""
    x, w = normal(5, 192), normal(7, 192)
    layer = weight_only.Int4GroupLinear(w, group=64, symmetric=symmetric)
    halves = x.astype(np.float16).astype(np.float32)
    weight = weight_only.dequantize_int4(layer.weight)
    exact = halves.astype(np.float64) @ weight.astype(np.float64).T
    bound = exact_product_bound(halves, weight)
    assert (np.abs(layer(x) - exact) <= bound).all()
    # The checker sees a wrong result: one weight's code off by one, in the largest group scale.
    wrong = weight.copy()
    wrong[:, 3] += layer.weight.scale[:, 0].astype(np.float32)
    off = np.abs(halves.astype(np.float64) @ wrong.astype(np.float64).T - exact)
    assert (off[np.abs(halves[:, 3]) > 0.1] > bound[np.abs(halves[:, 3]) > 0.1]).all()
    assert layer.activation_bits == 16


@pytest.mark.parametrize("rule", ["absmax-127", "torchao"])
def test_int8_layer(rule: str) -> None:
    """WON-5, WON-6: with integer activations the sum is exact, and one product with the scale is left."""
    w = normal(6, 200)
    x = np.random.default_rng(1).integers(-50, 51, (4, 200)).astype(np.float32)
    layer = weight_only.ChannelInt8Linear(w, rule=rule)
    alone = quantize(w, rule)
    # |sum| <= 200 · 50 · 128 < 2^24: exact.
    sums = (x.astype(np.int64) @ alone.q.astype(np.int64).T).astype(np.float32)
    assert np.array_equal(layer(x), sums * alone.scale)
    assert layer.weight_bytes == 6 * 200 + 6 * 4
    assert layer.activation_bits == 16


def test_activations_are_halves() -> None:
    """WON-5: X is rounded to float16, ties to even; what float16 cannot hold is refused with its place."""
    layer = weight_only.ChannelInt8Linear(np.full((1, 1), 127, np.float32))
    x = np.array([[1 + 2.0**-11], [1 + 3 * 2.0**-11], [2.0**-25], [65519]], np.float32)
    assert (layer(x) / 127).reshape(-1).tolist() == [1, 1 + 2.0**-9, 0, 65504]
    x[2] = -65520
    with pytest.raises(errors.DomainError, match="x: row 2, block 0, element 0: value -65520: float16 holds"):
        layer(x)
    with pytest.raises(errors.ShapeError, match=r"x: expected shape \[n, 1\], got \(2, 3\)"):
        layer(normal(2, 3))
    with pytest.raises(errors.ShapeError, match=r"x: expected shape \[n, 32\], got \(2, 3\)"):
        weight_only.Int4GroupLinear(normal(2, 32), group=32)(normal(2, 3))


def test_int8_refusals() -> None:
    """An asymmetric rule is none of this layer's; weights are refused as everywhere."""
    with pytest.raises(errors.ArgumentError, match="expected a symmetric rule, got onnx"):
        weight_only.ChannelInt8Linear(normal(2, 3), rule="onnx")
    with pytest.raises(errors.DtypeError, match="weight: expected float32, got float64"):
        weight_only.ChannelInt8Linear(np.zeros((2, 3)))  # type: ignore[arg-type] # another dtype
    with pytest.raises(errors.ShapeError, match="weight: expected shape"):
        weight_only.ChannelInt8Linear(normal(3))


def test_coarse_granularities() -> None:
    """One scale a row, and one for the matrix: those of the rule on a row and on everything."""
    weight = np.random.default_rng(8).standard_normal((6, 40)).astype(np.float32)
    eye = np.eye(40, dtype=np.float32)
    channel, tensor = (weight_only.Int4GroupLinear(weight, group=each) for each in ("channel", "tensor"))
    for found, rows in ((channel(eye).T, weight), (tensor(eye).T.reshape(1, -1), weight.reshape(1, -1))):
        scale = (np.abs(rows).max(axis=1) / np.float32(7.5)).astype(np.float16).astype(np.float32)
        codes = np.clip(np.rint(rows / scale[:, None]), -8, 7)
        assert np.array_equal(found, (codes * scale[:, None]).astype(np.float32))
    assert channel.weight_bytes == 6 * 20 + 6 * 2
    assert tensor.weight_bytes == 6 * 20 + 2
