"""Search over α for the smoothing factors that leave the least error in a quantized group.

For the weights W of a group and rows X of their input, from a calibration::

    error(s) = sum_W ‖Q(X/s) · Q(W s)ᵀ − X Wᵀ‖² / ‖X Wᵀ‖²        Q: quantized to Q8_A8, block by block

The product on the left is the format's own (Q8A8-MUL, `q8a8.mul_mat`): it is the one of run
time, and every bit of it is defined; the one on the right is in float64. Each weight's error is relative to
its own output: query, key and value, or gate and up, count alike, however large they are.

The least error wins; of equals the first, and candidates come in ascending α.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from q8a8.errors import ShapeError
from q8a8.matmul import mul_mat
from q8a8.quantize import quantize_row

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    F32 = NDArray[np.float32]

__all__ = ["GRID", "Candidate", "reconstruction_error", "search"]

GRID = tuple(i / 20 for i in range(21))
"""α = 0, 0.05, ... 1."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """Factors to try.

    Attributes
    ----------
    alpha
        Their α; None for no smoothing.
    factors
        float32 `[in]`.
    """

    alpha: float | None
    factors: F32


def reconstruction_error(weights: Sequence[F32], rows: F32, factors: F32) -> float:
    """Compute error(s) of a group.

    Parameters
    ----------
    weights
        float32 `[out, in]`, `in` a multiple of 32.
    rows
        float32 `[k, in]` of their input.
    factors
        float32 `[in]`, positive.

    Returns
    -------
    0 or more; a weight whose exact outputs are all zero adds nothing.

    Raises
    ------
    DomainError, DtypeError, ShapeError
        as `q8a8.mul_mat`.
    """
    return _error([(weight, _product(rows, weight)) for weight in weights], rows, factors)


def search(weights: Sequence[F32], rows: F32, candidates: Iterable[Candidate]) -> Candidate:
    """Return the candidate of least error, the first of equals.

    Parameters
    ----------
    weights, rows
        as `reconstruction_error`.
    candidates
        One at least.

    Raises
    ------
    ShapeError
        No rows: every candidate would be as good.
    DomainError, DtypeError, ShapeError
        as `reconstruction_error`.
    """
    if not len(rows):
        raise ShapeError("rows: a search needs rows of the calibration; it kept none")
    exact = [(weight, _product(rows, weight)) for weight in weights]
    return min(candidates, key=lambda candidate: _error(exact, rows, candidate.factors))


def _product(rows: F32, weight: F32) -> NDArray[np.float64]:
    """Return X Wᵀ in float64."""
    product: NDArray[np.float64] = rows.astype(np.float64) @ weight.astype(np.float64).T
    return product


def _error(exact: Sequence[tuple[F32, NDArray[np.float64]]], rows: F32, factors: F32) -> float:
    """Sum the relative squared errors of the weights, whose exact outputs are known."""
    x = rows / factors
    total = 0.0
    for weight, wanted in exact:
        got = mul_mat(quantize_row(weight * factors), x)
        size = float(np.square(wanted).sum())
        total += float(np.square(got - wanted).sum()) / size if size else 0.0
    return total
