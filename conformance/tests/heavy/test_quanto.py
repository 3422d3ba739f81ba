"""Rule absmax-127 against optimum-quanto: scales and codes, per tensor and per channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from optimum.quanto import AbsmaxOptimizer, SymmetricOptimizer, qint8
from optimum.quanto.library import qbytes_mm

from q8a8.methods import weight_only
from q8a8.methods.affine import quantize

if TYPE_CHECKING:
    from numpy.typing import NDArray


def test_per_channel(hard_matrix: NDArray[np.float32]) -> None:
    """DYN-1, DYN-5: the textbook rule, bit for bit; zero rows have the scale 0 in both."""
    x = torch.from_numpy(hard_matrix)
    optimizer: SymmetricOptimizer = AbsmaxOptimizer()
    scale = optimizer(x, qint8, axis=0)
    codes = torch.ops.quanto.quantize_symmetric(x, torch.int8, 0, scale)
    mine = quantize(hard_matrix, "absmax-127")
    assert np.array_equal(mine.scale.view(np.uint32), scale.numpy().reshape(-1).view(np.uint32))
    # 0/0 of a zero row is a NaN, whose conversion to int8 is undefined in C.
    rows = mine.scale != 0
    assert (~rows).sum() == 2
    assert np.array_equal(mine.q[rows], codes.numpy()[rows])


def test_per_tensor(hard_matrix: NDArray[np.float32]) -> None:
    """DYN-1, DYN-5: one scale for a matrix."""
    for matrix in (hard_matrix, hard_matrix[:9], hard_matrix[-64:]):
        x = torch.from_numpy(matrix)
        scale = AbsmaxOptimizer()(x, qint8, axis=None)
        codes = torch.ops.quanto.quantize_symmetric(x, torch.int8, None, scale)
        mine = quantize(matrix.reshape(-1), "absmax-127")
        assert mine.scale == scale.numpy()
        assert np.array_equal(mine.q.reshape(matrix.shape), codes.numpy())


def test_underflow(hard_matrix: NDArray[np.float32]) -> None:
    """DYN-4: where amax/127 rounds to 0 quanto divides by it: its codes saturate, with values 0 too."""
    row = np.sign(hard_matrix[:2]) * np.float32(60 * 2.0**-149)
    scale = AbsmaxOptimizer()(torch.from_numpy(row), qint8, axis=0)
    codes = torch.ops.quanto.quantize_symmetric(torch.from_numpy(row), torch.int8, 0, scale)
    assert not scale.any()
    assert set(codes.numpy().reshape(-1).tolist()) == {-128, 127}
    assert not quantize(row, "absmax-127").q.any()


def test_integer_product() -> None:
    """WON-6: quanto, which scales the weights first, agrees within a bound."""
    rng = np.random.default_rng(6)
    w = rng.standard_normal((24, 300)).astype(np.float32)
    x = rng.integers(-50, 51, (5, 300)).astype(np.float32)
    layer = weight_only.ChannelInt8Linear(w)
    scale = torch.from_numpy(layer.weight.scale[:, None])
    theirs = qbytes_mm.qbytes_mm(torch.from_numpy(x), torch.from_numpy(layer.weight.q), scale).numpy()
    # quanto scales the weights first, one rounding each, and sums 300 rounded products in float32; here the
    # sum is exact and one rounding is left: gamma(302) times the sum of magnitudes covers both.
    magnitudes = np.abs(x).astype(np.float64) @ (
        np.abs(layer.weight.q).astype(np.float64).T * layer.weight.scale
    )
    gamma = 302 * 2.0**-24 / (1 - 302 * 2.0**-24)
    assert (np.abs(layer(x).astype(np.float64) - theirs) <= gamma * magnitudes).all()
    # A code that is off by one is outside the bound.
    off = np.abs(x[:, :1]) * layer.weight.scale
    assert (off > gamma * magnitudes)[np.abs(x[:, 0]) > 3].all()
