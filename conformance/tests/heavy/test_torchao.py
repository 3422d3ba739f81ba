"""Dynamic and weight-only int8, and int4 in groups, against torchao: scales, zero points, codes, results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torchao.quantization import granularity
from torchao.quantization.quant_primitives import MappingType
from torchao.quantization.quantize_.workflows.int8.int8_tensor import Int8Tensor, QuantizeTensorToInt8Kwargs
from torchao.quantization.quantize_.workflows.intx.intx_unpacked_to_int8_tensor import (
    IntxUnpackedToInt8Tensor,
)

from q8a8.methods import dynamic, weight_only
from q8a8.methods.affine import dequantize, quantize

if TYPE_CHECKING:
    from numpy.typing import NDArray

GRANULARITIES = {"token": granularity.PerRow(), "tensor": granularity.PerTensor()}


def same(mine: NDArray[np.float32], theirs: torch.Tensor) -> bool:
    """Compare bits; the shapes may differ by axes of length 1."""
    bits = theirs.detach().numpy().reshape(mine.shape).view(np.uint32)
    return np.array_equal(np.ascontiguousarray(mine).view(np.uint32), bits)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("name", GRANULARITIES)
def test_int8_codes(hard_matrix: NDArray[np.float32], name: str, symmetric: bool) -> None:
    """DYN-1 to DYN-5: difficult rows, zero rows and subnormals included, bit for bit, and dequantized."""
    # Asymmetric ranges over float32's largest number are outside the domain.
    x = hard_matrix if name == "token" else hard_matrix[np.abs(hard_matrix).max(axis=1) < 1e20]
    kind = MappingType.SYMMETRIC if symmetric else MappingType.ASYMMETRIC
    theirs = Int8Tensor.from_hp(torch.from_numpy(x), GRANULARITIES[name], mapping_type=kind)
    mine = dynamic.quantize_matrix(x, name, "torchao" if symmetric else "torchao-asymmetric")
    scale = mine.scale if name == "token" else mine.scale[:1]
    assert same(scale, theirs.scale)
    assert np.array_equal(mine.q, theirs.qdata.numpy())
    if mine.zero is not None:
        zero = mine.zero if name == "token" else mine.zero[:1]
        assert np.array_equal(zero, theirs.zero_point.numpy().reshape(-1))
    assert same(dequantize(mine), theirs.dequantize())


@pytest.mark.parametrize("activations", ["token", "tensor"])
@pytest.mark.parametrize("weights", ["channel", "tensor"])
@pytest.mark.parametrize("k", [64, 576, 1536])
def test_dynamic_linear(activations: str, weights: str, k: int) -> None:
    """DYN-6, DYN-7: the whole layer, float32 in and out, in the order (acc*sx)*sw."""
    rng = np.random.default_rng(k)
    x, w = (rng.standard_normal((n, k)).astype(np.float32) for n in (33, 48))
    x[3] *= 50
    x[5] = 0
    w[7, 11] = 30
    kwargs = QuantizeTensorToInt8Kwargs(granularity=GRANULARITIES[activations])
    kind: Any = {"channel": granularity.PerRow(), "tensor": granularity.PerTensor()}[weights]
    weight = Int8Tensor.from_hp(torch.from_numpy(w), kind, act_quant_kwargs=kwargs)
    theirs = torch.nn.functional.linear(torch.from_numpy(x), weight)
    layer = dynamic.DynamicLinear(
        w,
        activations=activations,
        weights=weights,
        rule="torchao",
        weight_rule="torchao",
        order="(acc*sx)*sw",
    )
    assert same(layer(x), theirs)


def test_weight_only_int8() -> None:
    """WON-6: with float32 activations that are small integers the sum is exact, then scaled."""
    rng = np.random.default_rng(4)
    w = rng.standard_normal((40, 512)).astype(np.float32)
    x = rng.integers(-60, 61, (9, 512)).astype(np.float32)
    theirs = torch.nn.functional.linear(
        torch.from_numpy(x), Int8Tensor.from_hp(torch.from_numpy(w), granularity.PerRow())
    )
    assert same(weight_only.ChannelInt8Linear(w, rule="torchao")(x), theirs)


@pytest.mark.parametrize("group", weight_only.GROUPS)
@pytest.mark.parametrize("symmetric", [True, False])
def test_int4_groups(hard_matrix: NDArray[np.float32], group: int, symmetric: bool) -> None:
    """WON-1: int4 in groups, scales in float32: scales, zero points, codes, numbers."""
    w = hard_matrix[: len(hard_matrix) // 2 * 2].reshape(-1, 128)
    rule = "int4-torchao" if symmetric else "int4-torchao-asymmetric"
    theirs = IntxUnpackedToInt8Tensor.from_hp(
        torch.from_numpy(w),
        (1, group),
        torch.int4,
        mapping_type=MappingType.SYMMETRIC if symmetric else MappingType.ASYMMETRIC,
    )
    stored = weight_only.quantize_int4(w, group, rule, half_scale=False)
    assert isinstance(stored.scale, np.ndarray)
    assert same(stored.scale.astype(np.float32), theirs.scale)
    grouped = quantize(w.reshape(len(w), -1, group), rule)
    assert np.array_equal(grouped.q.reshape(w.shape), theirs.qdata.numpy())
    if grouped.zero is not None:
        assert np.array_equal(grouped.zero, theirs.zero_point.numpy())
    assert same(weight_only.dequantize_int4(stored), theirs.dequantize())
