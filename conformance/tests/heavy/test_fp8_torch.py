"""FP8 against PyTorch's types and torchao's quantizer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torchao.quantization import quant_primitives

from q8a8.methods.fp8 import decode, encode, quantize

if TYPE_CHECKING:
    from q8a8.methods.fp8 import Granularity

TYPES = {
    "e4m3fn": torch.float8_e4m3fn,
    "e5m2": torch.float8_e5m2,
    "e4m3fnuz": torch.float8_e4m3fnuz,
    "e5m2fnuz": torch.float8_e5m2fnuz,
}


@pytest.mark.parametrize("name", TYPES)
def test_every_code(name: str) -> None:
    """FP8-1, FP8-2: all 256 codes have the same value in torch, with the signs of zeros."""
    codes = np.arange(256, dtype=np.uint8)
    mine = decode(codes, name)
    theirs = torch.from_numpy(codes).view(TYPES[name]).to(torch.float32).numpy()
    number = ~np.isnan(mine)
    assert np.array_equal(number, ~np.isnan(theirs))
    assert np.array_equal(mine[number].view(np.uint32), theirs[number].view(np.uint32))


@pytest.mark.parametrize("name", TYPES)
def test_encoding(name: str) -> None:
    """FP8-3 to FP8-6: boundaries with their neighbours, and float32 of any bits; NaN stays NaN."""
    values = decode(np.arange(128, dtype=np.uint8), name)
    values = values[np.isfinite(values)]
    values = np.append(values, 2 * values[-1] - values[-2])
    points = np.concatenate([values, (values[1:] + values[:-1]) / 2])
    points = np.concatenate([np.nextafter(points, np.float32(d)) for d in (-np.inf, np.inf)] + [points])
    random = np.random.default_rng(5).integers(0, 2**32, 100_000, np.uint32).view(np.float32)
    x = np.concatenate([points, -points, random, np.array([np.inf, -np.inf, 0, -0.0], np.float32)])
    # torch saturates e4m3fn, infinities too, and none of the others.
    mine = encode(x, name, "saturating" if name == "e4m3fn" else "nonsaturating")
    theirs = torch.from_numpy(x).to(TYPES[name]).view(torch.uint8).numpy()
    meaning = decode(mine, name)
    number = ~np.isnan(meaning)
    assert np.array_equal(mine[number], theirs[number])
    assert np.isnan(decode(theirs, name)[~number]).all()


@pytest.mark.parametrize("granularity", ["tensor", "channel"])
@pytest.mark.parametrize("name", ["e4m3fn", "e5m2"])
def test_torchao(name: str, granularity: Granularity) -> None:
    """FP8-7, FP8-8: torchao's scales and codes, bit for bit."""
    x = np.random.default_rng(6).standard_normal((16, 96)).astype(np.float32)
    x[3] *= 1000
    mine = quantize(x, name, granularity)
    tensor = torch.from_numpy(x)
    block = list(x.shape) if granularity == "tensor" else [1, x.shape[1]]
    scale = quant_primitives._choose_scale_float8(tensor, block, TYPES[name])
    codes = quant_primitives._quantize_affine_float8(tensor, scale, TYPES[name])
    assert np.array_equal(mine.scales, scale.numpy().reshape(-1))
    assert np.array_equal(mine.codes, codes.view(torch.uint8).numpy())
