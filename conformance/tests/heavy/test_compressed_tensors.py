"""Rules of compressed-tensors (vLLM's format): int8 and int4, scales, zero points, codes, packed words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.quantization.lifecycle.forward import dequantize as their_dequantize
from compressed_tensors.quantization.lifecycle.forward import quantize as their_quantize
from compressed_tensors.quantization.utils import calculate_qparams

from q8a8.methods import weight_only
from q8a8.methods.affine import dequantize, quantize
from q8a8.methods.nibbles import pack_nibbles

if TYPE_CHECKING:
    from numpy.typing import NDArray


def theirs(
    groups: NDArray[np.float32], args: QuantizationArgs
) -> tuple[NDArray[np.float32], NDArray[np.int8], NDArray[np.int8], NDArray[np.float32]]:
    """Return compressed-tensors' scales, zero points, codes and values of `[n, g]`, one scale a row."""
    x = torch.from_numpy(groups)
    scale, zero = calculate_qparams(x.amin(1, keepdim=True), x.amax(1, keepdim=True), args)
    codes = their_quantize(x, scale, zero, args, dtype=torch.int8)
    numbers = their_dequantize(codes, scale, zero, args)
    return scale.numpy()[:, 0], zero.numpy()[:, 0], codes.numpy(), numbers.numpy()


@pytest.mark.parametrize(
    ("bits", "symmetric", "rule"),
    [
        (8, True, "compressed-tensors"),
        (4, True, "int4-compressed-tensors"),
        (4, False, "int4-compressed-tensors-asymmetric"),
    ],
)
@pytest.mark.parametrize("half", [False, True])
def test_codes(hard_matrix: NDArray[np.float32], bits: int, symmetric: bool, rule: str, half: bool) -> None:
    """DYN-1 to DYN-5, WON-3: difficult rows, subnormals included; with float16 scales too."""
    largest = np.abs(hard_matrix).max(axis=1)
    # float16 scales saturate there at 65504; here rows beyond are refused.
    rows = hard_matrix[largest < (65504 * 7 if half else 1e38)]
    args = QuantizationArgs(
        num_bits=bits, symmetric=symmetric, strategy="channel", scale_dtype=torch.float16 if half else None
    )
    scale, zero, codes, numbers = theirs(rows, args)
    mine = quantize(rows, rule, half_scale=half)
    assert np.array_equal(mine.scale.view(np.uint32), scale.view(np.uint32))
    some = rows.any(axis=1)
    assert (~some).sum() == 2
    if mine.zero is not None:
        # Their zero point of a zero row is a converted NaN; its values are 0 nevertheless.
        assert np.array_equal(mine.zero[some], zero[some])
        assert not numbers[~some].any()
    assert np.array_equal(mine.q[some], codes[some])
    assert np.array_equal(dequantize(mine), numbers)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("group", weight_only.GROUPS)
def test_groups(group: int, symmetric: bool) -> None:
    """WON-1 to WON-3: a weight in groups, as stored: words, zero points along the rows, and numbers."""
    w = np.random.default_rng(group).standard_normal((24, 384)).astype(np.float32)
    args = QuantizationArgs(
        num_bits=4, symmetric=symmetric, strategy="group", group_size=group, scale_dtype=torch.float16
    )
    grouped = torch.from_numpy(w.reshape(24, -1, group))
    scale, zero = calculate_qparams(grouped.amin(2), grouped.amax(2), args)
    codes = their_quantize(torch.from_numpy(w), scale, zero, args, dtype=torch.int8)
    numbers = their_dequantize(codes, scale, zero, args)
    stored = weight_only.Int4GroupLinear(w, group=group, symmetric=symmetric).weight
    assert np.array_equal(stored.scale.astype(np.float32), scale.numpy())
    words = pack_to_int32(codes, 4).numpy().view(np.uint8)
    assert np.array_equal(stored.packed, words)
    if stored.zero is not None:
        assert np.array_equal(stored.zero, pack_nibbles(zero.numpy()))
    assert np.array_equal(weight_only.dequantize_int4(stored), numbers.numpy())
