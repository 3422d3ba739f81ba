"""AWQ: weights quantized after each input channel is scaled by how active it is.

Lin, Tang, Tang, Yang, Dang, Han: "AWQ: Activation-aware Weight Quantization for LLM Compression and
Acceleration" (2023), section 3, and the authors' code (mit-han-lab/llm-awq: `awq/quantize/quantizer.py`
pseudo_quantize_tensor, `auto_scale.py` get_act_scale and _search_module_scale, `auto_clip.py`
auto_clip_layer). A product stays the same when a channel of W is multiplied and that of x divided by s_j:

    y = Q(W · diag(s)) · diag(s)⁻¹ x

A channel that is scaled up loses less in Q. s is searched on a grid of 20 ratios a = 0, 0.05, ..., 0.95::

    s_j = max(mean |x_j|^a, 1e-4),   s := s / sqrt(max s · min s)
    the a with the least mean squared difference of the layer's output; of equal ones the first

and then, group by group, how far the largest weights are clipped: to 1, 0.95, ..., 0.55 of their maximum.

What an implementation must choose (docs/methods/awq.md, AWQ-1 to AWQ-6). Document 003 writes W/s where W·s is
meant: a salient channel is scaled up, not down.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from q8a8.arithmetic import matmul, power
from q8a8.errors import ArgumentError, DomainError, ShapeError
from q8a8.methods.finite import require_finite, require_matrix
from q8a8.rounding import round_to_half_bits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    F32 = NDArray[np.float32]
    F64 = NDArray[np.float64]

__all__ = [
    "AwqGrid",
    "AwqLinear",
    "AwqWeight",
    "ScaleSearch",
    "channel_scales",
    "clip_limits",
    "dequantize",
    "quantize",
    "search_scales",
]

RATIOS = 20
"""Points of the grid of ratios, of which the last is 0.95."""
CLIP_STEPS, CLIP_GRID = 10, 20
"""Tried are 1 − i/20 of a group's maximum for i below 10."""
SMALLEST_RANGE = np.float32(1e-5)
SMALLEST_SCALE = np.float32(1e-4)


@dataclass(frozen=True)
class AwqGrid:
    """The numbers that a group of weights may become.

    The authors' `pseudo_quantize_tensor`, in float32, halves to even (AWQ-1)::

        zero point:   scale = max(max w − min w, 1e-5) / (2^bits − 1)
                      zero  = clamp(−round(min w / scale), 0, 2^bits − 1)
                      code  = clamp(round(w / scale) + zero, 0, 2^bits − 1)
        symmetric:    scale = max(max |w|, 1e-5) / (2^(bits − 1) − 1)
                      code  = clamp(round(w / scale), −2^(bits − 1), 2^(bits − 1) − 1)
        number      = (code − zero) · scale

    The range is that of the weights, 0 is not put into it. Where a group lies on one side of 0, and further
    from it than it is wide, the zero point is clamped and the codes saturate: the hazard of AWQ-2.

    Parameters
    ----------
    bits
        2 to 8.
    group
        Columns of a group, which must divide the row.
    zero_point
        Whether a group has a zero point.
    """

    bits: int = 4
    group: int = 128
    zero_point: bool = True

    def __post_init__(self) -> None:
        """Refuse grids that are none."""
        if not 2 <= self.bits <= 8:
            raise ArgumentError(f"bits: expected 2 to 8, got {self.bits}")
        if self.group < 1:
            raise ArgumentError(f"group: expected at least 1, got {self.group}")

    @property
    def lowest(self) -> int:
        """The smallest code."""
        return 0 if self.zero_point else -(1 << (self.bits - 1))

    @property
    def highest(self) -> int:
        """The largest code."""
        return self.lowest + (1 << self.bits) - 1


@dataclass(frozen=True)
class AwqWeight:
    """A matrix as it is stored.

    Parameters
    ----------
    grid
        The grid.
    codes
        int16 `[m, k]`, `lowest` to `highest` of the grid.
    scale
        float32 `[m, k / group]`.
    zero
        int16 `[m, k / group]`; 0 in symmetric grids, which store none.
    """

    grid: AwqGrid
    codes: NDArray[np.int16]
    scale: F32
    zero: NDArray[np.int16]

    @property
    def nbytes(self) -> int:
        """Bytes that are stored: codes and zero points of `bits` bits packed, scales as float16 (AWQ-6)."""
        zeros = self.zero.size if self.grid.zero_point else 0
        return _packed(self.codes.size, self.grid.bits) + _packed(zeros, self.grid.bits) + 2 * self.scale.size


def _packed(count: int, bits: int) -> int:
    return -(-count * bits // 8)


def _grouped(weight: F32, grid: AwqGrid) -> F32:
    """Return the groups of a matrix: `[m, k / group, group]`."""
    m, k = weight.shape
    if k % grid.group:
        raise ShapeError(f"weight: rows of {k} elements are not a multiple of the group of {grid.group}")
    return weight.reshape(m, k // grid.group, grid.group)


def quantize(weight: F32, grid: AwqGrid, scale_bits: int | None = None) -> AwqWeight:
    """Quantize a matrix to a grid (AWQ-1, AWQ-2).

    Parameters
    ----------
    weight
        float32 `[m, k]`.
    grid
        The grid.
    scale_bits
        Round scales to float16 with so many significant bits before codes are made; None keeps float32.

    Raises
    ------
    ShapeError, DtypeError, DomainError
        No matrix, a k that is not a multiple of the group, another dtype, NaN or infinity, a range that
        float32 cannot hold.
    """
    require_matrix(weight, "weight")
    groups = _grouped(weight, grid)
    scale, zero = _parameters(groups, grid)
    if scale_bits is not None:
        # 1e-5 / 255 is below float16's smallest number: no scale vanishes.
        scale = np.maximum(round_to_half_bits(scale, scale_bits), np.float32(2.0**-24))
    codes = _codes(groups, scale, zero, grid)
    return AwqWeight(grid, codes.reshape(weight.shape).astype(np.int16), scale, zero.astype(np.int16))


def _parameters(groups: F32, grid: AwqGrid) -> tuple[F32, F32]:
    """Fit scale and zero point `[m, groups]` to the groups `[m, groups, group]`."""
    lo, hi = groups.min(axis=-1), groups.max(axis=-1)
    if not grid.zero_point:
        scale = np.maximum(np.maximum(-lo, hi), SMALLEST_RANGE) / np.float32(grid.highest)
        return scale, np.zeros_like(scale)
    with np.errstate(over="ignore"):
        span = hi - lo
    if np.isinf(span).any():
        row, group = (int(i) for i in np.unravel_index(int(np.argmax(np.isinf(span))), span.shape))
        element = int(np.argmax(np.abs(groups[row, group])))
        raise DomainError(
            "its group's range is too large: the scale would be infinite",
            array="weight",
            row=(row,),
            block=group,
            element=element,
            value=float(groups[row, group, element]),
        )
    scale = np.maximum(span, SMALLEST_RANGE) / np.float32(grid.highest)
    # 0 − round, not −round: a zero point of +0.
    return scale, np.clip(0 - np.rint(lo / scale), grid.lowest, grid.highest)


def _codes(groups: F32, scale: F32, zero: F32, grid: AwqGrid) -> F32:
    codes: F32 = np.rint(groups / scale[..., None]) + zero[..., None]
    return codes.clip(grid.lowest, grid.highest)


def dequantize(stored: AwqWeight) -> F32:
    """Turn codes into numbers: f32((code − zero) · scale), `[m, k]`."""
    codes = _grouped(stored.codes.astype(np.float32), stored.grid)
    zero, scale = stored.zero.astype(np.float32)[..., None], stored.scale[..., None]
    numbers: F32 = ((codes - zero) * scale).reshape(stored.codes.shape)
    return numbers


def channel_scales(mean: F64, ratio: float) -> F32:
    """Compute s for a ratio: float32 `[k]` from the mean of |x_j|, `[k]` (AWQ-3).

    A channel that was never active has the scale of one that is active at 1e-4, before all are normalized.

    Raises
    ------
    DomainError, ArgumentError
        A mean that is NaN or infinite, or below 0.
    """
    narrow = mean.astype(np.float32)
    require_finite(narrow, "mean")
    if (mean < 0).any():
        raise ArgumentError(f"mean: element {int(np.argmax(mean < 0))} is negative")
    s = np.maximum(power(narrow, float(np.float32(ratio))), SMALLEST_SCALE)
    normalized: F32 = s / np.sqrt(s.max(initial=SMALLEST_SCALE) * s.min(initial=np.float32(np.inf)))
    return normalized


@dataclass(frozen=True)
class ScaleSearch:
    """The result of a search.

    Parameters
    ----------
    scales
        float32 `[k]`.
    ratio
        The best one.
    losses
        The mean squared difference for each ratio of the grid.
    """

    scales: F32
    ratio: float
    losses: tuple[float, ...]


def search_scales(weights: Sequence[F32], mean: F64, rows: F32, grid: AwqGrid) -> ScaleSearch:
    """Search the scales of the matrices that share an input, as q, k and v do (AWQ-3, AWQ-4).

    Parameters
    ----------
    weights
        float32 `[m, k]` each, m as it may be.
    mean
        The mean of |x_j| over the calibration text, `[k]`.
    rows
        A sample of inputs, float32 `[t, k]`, that outputs are compared on.
    grid
        The grid of the codes.

    Returns
    -------
    ScaleSearch

    Raises
    ------
    ShapeError, DtypeError, DomainError, ArgumentError
        Arrays that do not fit each other, and as `quantize` and `channel_scales`.
    """
    if not weights:
        raise ArgumentError("weights: expected at least one matrix, got none")
    k = len(mean)
    for weight in weights:
        require_matrix(weight, "weight", k)
    require_matrix(rows, "rows", k)
    whole = np.concatenate(list(weights))
    losses = []
    best: tuple[float, float, F32] | None = None
    for step in range(RATIOS):
        scales = channel_scales(mean, step / RATIOS)
        numbers = dequantize(quantize(whole * scales, grid)) / scales
        # Mean over all elements of all outputs; float64, so that equal losses are equal (AWQ-4).
        loss = float(np.mean(matmul(rows, (numbers - whole).T).astype(np.float64) ** 2)) if rows.size else 0.0
        losses.append(loss)
        # Strictly less: of equal losses the smaller ratio stays.
        if best is None or loss < best[0]:
            best = (loss, step / RATIOS, scales)
    assert best is not None  # noqa: S101 - the grid has points
    return ScaleSearch(best[2], best[1], tuple(losses))


def clip_limits(weight: F32, rows: F32, grid: AwqGrid) -> F32:
    """Search how far each group's weights are clipped (AWQ-5).

    For each row of the matrix and each group, the part of the output that the group adds is compared on the
    sample; of limits with equal errors the largest is kept.

    Parameters
    ----------
    weight
        float32 `[m, k]`.
    rows
        float32 `[t, k]`, t at least 1.
    grid
        The grid of the codes.

    Returns
    -------
    float32 `[m, k / group]`: the largest magnitude that is left.

    Raises
    ------
    ShapeError, DtypeError, DomainError
        as `quantize`; rows of another length, or none.
    """
    require_matrix(weight, "weight")
    require_matrix(rows, "rows", weight.shape[1])
    if not len(rows):
        raise ShapeError("rows: expected at least one row, got none")
    groups = _grouped(weight, grid)
    inputs = rows.reshape(len(rows), -1, grid.group)
    largest = np.abs(groups).max(axis=-1)
    best: F32 = largest.copy()
    least = np.full(largest.shape, np.inf)
    for step in range(CLIP_STEPS):
        limit = largest * np.float32(1 - step / CLIP_GRID)
        clipped = np.clip(groups, -limit[..., None], limit[..., None])
        scale, zero = _parameters(clipped, grid)
        numbers = (_codes(clipped, scale, zero, grid) - zero[..., None]) * scale[..., None]
        difference = numbers - groups
        # [groups, t, group] by [groups, group, m] to the mean over t: [m, groups].
        outputs = matmul(inputs.transpose(1, 0, 2), difference.transpose(1, 2, 0))
        error = np.mean(outputs.astype(np.float64) ** 2, axis=1).T
        better = error < least
        best, least = np.where(better, limit, best), np.where(better, error, least)
    return best


class AwqLinear:
    """A linear layer with AWQ weights; activations stay float.

    The scales are kept beside the weights and x is divided by them at run time, where the authors fold them
    into the layer before, which has the same values up to rounding (AWQ-3).

    Parameters
    ----------
    weight
        float32 `[out, in]`.
    mean
        The mean of |x_j| over the calibration text, `[in]`.
    rows
        A sample of inputs, float32 `[t, in]`.
    grid
        The grid of the codes.
    clip
        Whether clipping is searched too. The authors clip neither q nor k.

    Attributes
    ----------
    weight
        The stored weight.
    search
        The scales, and how they were found.
    weight_bytes
        Bytes of codes, zero points, scales of the groups, and scales of the channels as float16.
    activation_bits
        32.

    Raises
    ------
    ShapeError, DtypeError, DomainError, ArgumentError
        as `search_scales` and `clip_limits`.
    """

    activation_bits = 32.0

    def __init__(self, weight: F32, mean: F64, rows: F32, grid: AwqGrid, *, clip: bool = True) -> None:
        self.search = search_scales([weight], mean, rows, grid)
        scaled = weight * self.search.scales
        if clip:
            limits = np.repeat(clip_limits(scaled, rows / self.search.scales, grid), grid.group, axis=1)
            scaled = np.clip(scaled, -limits, limits)
        self.weight = quantize(scaled, grid)
        self.weight_bytes: int = self.weight.nbytes + 2 * weight.shape[1]
        self._dense = dequantize(self.weight)

    def __call__(self, x: F32) -> F32:
        """Multiply: float32 `[t, in]` to float32 `[t, out]`.

        Raises
        ------
        ShapeError, DtypeError, DomainError
            Rows of another length, another dtype, NaN or infinity.
        """
        require_matrix(x, "x", self._dense.shape[1])
        return np.asarray(matmul(x / self.search.scales, self._dense.T), np.float32)
