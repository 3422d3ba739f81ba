"""The cache's groups against optimum-quanto's affine quantizer, which transformers' quantized cache uses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from optimum import quanto  # noqa: F401  # registers its operators
from optimum.quanto.tensor.optimizers import MaxOptimizer
from optimum.quanto.tensor.qtype import qint4, qint8

from q8a8.methods.kv_cache import dequantize, quantize
from q8a8.rounding import f16_to_f32


@pytest.mark.parametrize(("bits", "kind"), [(4, qint4), (8, qint8)], ids=["int4", "int8"])
def test_groups(bits: int, kind: object) -> None:
    """KVC-2 to KVC-4: with the same float16 scale and low, codes and values are bit-equal, ties included."""
    rng = np.random.default_rng(7)
    gaussian = rng.standard_normal((512, 32)) * np.exp2(rng.integers(-9, 9, (512, 1)))
    ties = rng.integers(0, 2 * (2**bits - 1) + 1, (64, 32)) / 2
    ties[:, :2] = 0, 2**bits - 1
    x = np.concatenate([gaussian, ties]).astype(np.float32)
    codes, scale, low = quantize(x, bits)
    base = torch.from_numpy(x)
    s, shift = torch.from_numpy(f16_to_f32(scale)), -torch.from_numpy(f16_to_f32(low))
    theirs = torch.ops.quanto.quantize_affine(base, bits, 0, 32, s, shift)
    assert np.array_equal(codes, theirs.numpy())
    values = theirs.to(torch.float32) * s - shift
    assert np.array_equal(dequantize(codes, scale, low), values.numpy())
    # The scales are quanto's, rounded to half precision.
    own, own_shift = MaxOptimizer().optimize(base, kind, 0)
    assert np.array_equal(own.numpy().astype(np.float16), scale)
    assert np.array_equal((-own_shift.numpy()).astype(np.float16), low)
