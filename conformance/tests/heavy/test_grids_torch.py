"""The grids and the elimination of AWQ and GPTQ with PyTorch's arithmetic in place of NumPy's.

Neither method has a package of its own that installs here; these are the formulas of the papers' descriptions
in the operations that the authors' code is made of: torch's division, rounding, clamping, Cholesky factors.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from q8a8.methods import awq
from q8a8.methods.gptq import Hessian, gptq
from q8a8.methods.gptq_grid import Grid, dequantize


def weights(seed: int, rows: int = 64, columns: int = 128) -> np.ndarray:
    """Return weights with rows of many sizes, ties, zeros and one-sided groups among them."""
    rng = np.random.default_rng(seed)
    found = rng.standard_normal((rows, columns)) * np.exp(3 * rng.standard_normal((rows, 1)))
    found[0] = np.arange(columns) / 2
    found[1] = 0
    found[2] = np.abs(found[2]) + 5
    found[3] = -found[2]
    found[4] *= 2.0**-130
    return found.astype(np.float32)


@pytest.mark.parametrize("zero_point", [True, False])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_awq_grid(bits: int, *, zero_point: bool) -> None:
    """Every value equals torch's, bit for bit."""
    w = weights(bits)
    groups = torch.from_numpy(w.reshape(-1, 32))
    if zero_point:
        lo, hi = groups.amin(dim=1, keepdim=True), groups.amax(dim=1, keepdim=True)
        top, low = 2**bits - 1, 0
        scale = (hi - lo).clamp(min=1e-5) / top
        zero = (-torch.round(lo / scale)).clamp(0, top)
    else:
        top, low = 2 ** (bits - 1) - 1, -(2 ** (bits - 1))
        scale = groups.abs().amax(dim=1, keepdim=True).clamp(min=1e-5) / top
        zero = torch.zeros_like(scale)
    numbers = ((torch.round(groups / scale) + zero).clamp(low, top) - zero) * scale
    ours = awq.dequantize(awq.quantize(w, awq.AwqGrid(bits, 32, zero_point=zero_point)))
    np.testing.assert_array_equal(ours, numbers.numpy().reshape(w.shape))


@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize("symmetric", [False, True])
def test_gptq(*, symmetric: bool, act_order: bool) -> None:
    """Every code equals that of torch's factors, in blocks of 32 with groups of 16, stale as the authors'."""
    rng = np.random.default_rng(11)
    k, block, group = 96, 32, 16
    # Well conditioned: the two ways to factor H differ by its condition number times 2^-53, and where a scale
    # lies that close to the middle of two float32 numbers this decides (GPT-1).
    mixed = rng.standard_normal((k, k)) / 40 + np.eye(k)
    inputs = (rng.standard_normal((500, k)) @ mixed).astype(np.float32)
    w = weights(12, rows=24, columns=k)
    gathered = Hessian(k)
    gathered.update(inputs)
    grid = Grid(4, group, symmetric=symmetric, half_scale=False)
    ours = dequantize(gptq(w, gathered.matrix(), grid, block=block, act_order=act_order))

    rest, h = torch.from_numpy(w).double(), torch.from_numpy(gathered.matrix())
    order = torch.argsort(torch.diag(h), descending=True, stable=True) if act_order else torch.arange(k)
    rest, h = rest[:, order], h[order][:, order]
    h = h + 0.01 * torch.diag(h).mean() * torch.eye(k)
    u = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(h)), upper=True)
    out = torch.zeros_like(rest)
    for start in range(0, k, block):
        part, errors = rest[:, start : start + block].clone(), torch.zeros(len(w), block, dtype=h.dtype)
        for i in range(block):
            j = start + i
            if j % group == 0:
                seen = rest[:, j : j + group]
                lo, hi = seen.amin(dim=1).clamp(max=0), seen.amax(dim=1).clamp(min=0)
                if symmetric:
                    hi = torch.maximum(-lo, hi)
                    lo = torch.where(lo < 0, -hi, lo)
                empty = (lo == 0) & (hi == 0)
                lo, hi = torch.where(empty, -1.0, lo), torch.where(empty, 1.0, hi)
                scale = (hi - lo) / 15
                zero = torch.full_like(scale, 8) if symmetric else torch.round(-lo / scale)
                # Kept as float32; one that would vanish is the smallest (GPT-6).
                scale = scale.float().clamp(min=2.0**-149).double()
            codes = (torch.round(part[:, i] / scale) + zero).clamp(0, 15)
            rounded = scale * (codes - zero)
            out[:, order[j]] = rounded
            errors[:, i] = (part[:, i] - rounded) / u[j, j]
            part[:, i:] -= torch.outer(errors[:, i], u[j, j : start + block])
        rest[:, start + block :] -= errors @ u[start : start + block, start + block :]
    np.testing.assert_array_equal(ours, out.float().numpy())
