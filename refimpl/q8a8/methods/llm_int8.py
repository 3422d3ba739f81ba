"""LLM.int8(): int8 for most columns, float16 for the few with outliers.

::

    A        = f16(X)                                                      [t, k]
    out      = |A| >= threshold                                            element by element
    O        = columns with any such element, over all rows of the call
    sx_i     = max |a_ij| over the elements that are not outliers          f32, one a row
    qx_ij    = round(f32(a_ij · f32(127 · f32(1 / sx_i)))),   0 in O       halves to even
    sw_o, qw = the same of f16(W), without a threshold
    acc      = qx · qw^T                                                   int32, exact
    Y        = f32(f32(f32(acc) · f32(sx_i · sw_o)) · c)  +  A[:, O] · W'[:, O]^T,      c = f32(1/127²)
    W'       = f16(f32(f32(qw · sw) · f32(1/127)))                         the columns O of the weight

::

              k columns                     O        the columns O are zero in Xint,
        +----------|------|----+          +---+      and multiplied in float16 apart
      t |   int8   | 0000 | 0  |   plus   |f16| t
        +----------|------|----+          +---+

Sources: T. Dettmers, M. Lewis, Y. Belkada, L. Zettlemoyer, "LLM.int8(): 8-bit Matrix Multiplication for
Transformers at Scale", NeurIPS 2022, sections 3.1 and 3.2; the authors' code, bitsandbytes 0.50:
backends/default/ops.py (`int8_vectorwise_quant`, `int8_mm_dequant`, `int8_mixed_scaled_mm`), _ops.py
(`int8_vectorwise_dequant`), autograd/_functions.py (`MatMul8bitLt`), csrc (`kInt8VectorQuant`,
`kdequant_mm_int32_fp16`). Where paper and code differ, the rules LI8-1 to LI8-8 of docs/methods/llm-int8.md
name the one that is followed.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import numpy as np

from q8a8.arithmetic import matmul
from q8a8.errors import ArgumentError, DtypeError, UnknownNameError
from q8a8.methods.finite import require_matrix
from q8a8.methods.integer import int_matmul
from q8a8.methods.weight_only import round_to_half

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    F16 = NDArray[np.float16]
    F32 = NDArray[np.float32]

__all__ = [
    "DEQUANTIZATIONS",
    "THRESHOLD",
    "Dequantization",
    "LlmInt8Linear",
    "Vectorwise",
    "dequantize_columns",
    "dequantize_sums",
    "outlier_columns",
    "vectorwise_quantize",
]

THRESHOLD = 6.0
"""The paper's: an element of this magnitude or more is an outlier (section 3.2 and appendix)."""


@dataclass(frozen=True)
class Dequantization:
    """One way from integer sums to numbers.

    Parameters
    ----------
    name
        Its name in the table.
    constant
        The factor 1/127², as it is written.
    order
        Whether the two statistics are multiplied first: "acc*(row*column)", or "(acc*row)*column".
    source
        The software that does so.
    """

    name: str
    constant: np.float32
    order: Literal["acc*(row*column)", "(acc*row)*column"]
    source: str


DEQUANTIZATIONS: Mapping[str, Dequantization] = MappingProxyType(
    {
        each.name: each
        for each in (
            Dequantization("exact", np.float32(1 / 127**2), "acc*(row*column)", "the paper, equation 8"),
            Dequantization(
                "bitsandbytes-cpu",
                # Meant was 6.2000124e-05: a zero is missing, and results are 1.8e-5 too large.
                np.float32(6.200124e-05),
                "acc*(row*column)",
                "bitsandbytes 0.50, backends/default/ops.py: int8_mm_dequant",
            ),
            Dequantization(
                "bitsandbytes-cuda",
                np.float32(6.200012e-05),
                "(acc*row)*column",
                "bitsandbytes 0.50, csrc: kdequant_mm_int32_fp16",
            ),
        )
    }
)
"""Every way that the reference can follow, by name (LI8-6)."""

WEIGHT_CONSTANT = np.float32(7.874015718698502e-3)
"""The authors' 1/127 for weight columns."""


@dataclass(frozen=True)
class Vectorwise:
    """A matrix in int8, with the largest magnitude of each row.

    Parameters
    ----------
    q
        int8 `[t, k]`, -127 to 127; 0 in the outlier columns.
    absmax
        float32 `[t]`: not a scale; that is absmax/127.
    columns
        int64 `[c]`, ascending: the columns with an outlier.
    """

    q: NDArray[np.int8]
    absmax: F32
    columns: NDArray[np.int64]


def outlier_columns(a: F16, threshold: float = THRESHOLD) -> NDArray[np.int64]:
    """Find the columns with an element of `threshold` or more in magnitude, in any row (LI8-1).

    Parameters
    ----------
    a
        float16 `[t, k]`, finite.
    threshold
        Rounded to float16 before it is compared; 0: no column is one.

    Returns
    -------
    int64 `[c]`, ascending.

    Raises
    ------
    DtypeError, ShapeError, DomainError
        for another dtype, no matrix, NaN and infinities.
    ArgumentError
        for a threshold that is negative or a NaN.
    """
    return np.flatnonzero(_outliers(a, threshold).any(axis=0))


def _outliers(a: F16, threshold: float) -> NDArray[np.bool_]:
    """Return for each element whether it is an outlier; check both arguments."""
    if a.dtype != np.float16:
        raise DtypeError(f"a: expected float16, got {a.dtype}")
    require_matrix(a.astype(np.float32), "a")
    if not threshold >= 0:
        raise ArgumentError(f"threshold: expected 0 or more, got {threshold}")
    with np.errstate(over="ignore"):
        limit = np.float16(threshold)
    return np.abs(a) >= limit if threshold > 0 else np.zeros(a.shape, np.bool_)


def vectorwise_quantize(a: F16, threshold: float = 0.0) -> Vectorwise:
    """Quantize rows to int8, outliers left out (LI8-1 to LI8-4).

    Parameters
    ----------
    a
        float16 `[t, k]`, finite.
    threshold
        As `outlier_columns`; 0, as for weights: every element counts.

    Returns
    -------
    Vectorwise

    Raises
    ------
    DtypeError, ShapeError, DomainError, ArgumentError
        as `outlier_columns`.
    """
    outliers = _outliers(a, threshold)
    columns = np.flatnonzero(outliers.any(axis=0))
    # LI8-2: only the outliers themselves are left out of the row's statistic; the other elements of their
    # columns count, though their codes will be 0.
    rest = np.where(outliers, np.float16(0), a).astype(np.float32)
    absmax = np.abs(rest).max(axis=1, initial=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        # LI8-4: PyTorch computes 127 / absmax as f32(f32(1 / absmax) · 127).
        scaled = rest * (np.float32(127) * (np.float32(1) / absmax))[:, None]
    # LI8-3: a row of zeros has the codes 0 (0 · inf is a NaN, which the authors' code converts to 0).
    scaled[absmax == 0] = 0
    q = np.rint(scaled).astype(np.int8)
    q[:, columns] = 0
    return Vectorwise(q, absmax, columns)


def dequantize_sums(
    acc: NDArray[np.int32], rows: F32, columns: F32, way: str | Dequantization = "exact"
) -> F32:
    """Turn integer sums into numbers: f32(f32(f32(acc) · f32(row · column)) · c), or another way (LI8-6).

    Parameters
    ----------
    acc
        int32 `[t, m]`.
    rows, columns
        float32 `[t]` and `[m]`: the largest magnitudes of X's and W's rows.
    way
        A `Dequantization`, or its name.

    Returns
    -------
    float32 `[t, m]`.

    Raises
    ------
    UnknownNameError
        listing the ways.
    """
    way = _get_dequantization(way)
    sums = acc.astype(np.float32)
    if way.order == "acc*(row*column)":
        sums *= rows[:, None] * columns
    else:
        sums = (sums * rows[:, None]) * columns
    return sums * way.constant


def _get_dequantization(way: str | Dequantization) -> Dequantization:
    """Look a way up by name."""
    if isinstance(way, Dequantization):
        return way
    if way not in DEQUANTIZATIONS:
        raise UnknownNameError("dequantization", way, DEQUANTIZATIONS)
    return DEQUANTIZATIONS[way]


def dequantize_columns(weight: Vectorwise, columns: NDArray[np.int64]) -> F16:
    """Return columns of a quantized weight in float16: f16(f32(f32(q · absmax) · f32(1/127))) (LI8-5).

    Parameters
    ----------
    weight
        `[m, k]`.
    columns
        int64 `[c]`.

    Returns
    -------
    float16 `[m, c]`.
    """
    numbers = weight.q[:, columns].astype(np.float32) * weight.absmax[:, None] * WEIGHT_CONSTANT
    return numbers.astype(np.float16)


class LlmInt8Linear:
    """A linear layer of LLM.int8().

    Which columns are outliers depends on all rows of a call: a token's result depends on the batch (LI8-7).

    Parameters
    ----------
    weight
        float32 `[out, in]`, rounded to float16 first.
    threshold
        See `outlier_columns`; 0 turns the decomposition off.
    way
        How sums become numbers: a `Dequantization`, or its name.
    outlier_weights
        What outlier columns are multiplied by (LI8-5): "int8", the dequantized codes, as in the authors'
        code; "f16", the float16 weights themselves, as in the paper, which then are stored besides.

    Attributes
    ----------
    weight
        The codes and largest magnitudes.
    weight_bytes
        in · out + 4 · out, and 2 · in · out more with float16 weights.
    activation_bits
        8, and 8 more for the share of columns that were outliers in the calls so far.

    Raises
    ------
    DtypeError, ShapeError, DomainError
        for another dtype, no matrix, a value that float16 cannot hold.
    ArgumentError, UnknownNameError
        for a negative threshold, an unknown dequantization or kind of outlier weights.
    """

    def __init__(
        self,
        weight: F32,
        *,
        threshold: float = THRESHOLD,
        way: str | Dequantization = "exact",
        outlier_weights: str = "int8",
    ) -> None:
        if outlier_weights not in ("int8", "f16"):
            raise UnknownNameError("kind of outlier weights", outlier_weights, ("int8", "f16"))
        if not threshold >= 0:
            raise ArgumentError(f"threshold: expected 0 or more, got {threshold}")
        half = round_to_half(weight, "weight").astype(np.float16)
        self.threshold = threshold
        self.way = _get_dequantization(way)
        self.weight = vectorwise_quantize(half)
        self.halves = half if outlier_weights == "f16" else None
        self.weight_bytes = self.weight.q.nbytes + self.weight.absmax.nbytes
        if self.halves is not None:
            self.weight_bytes += self.halves.nbytes
        self._columns = self._outliers = 0

    @property
    def activation_bits(self) -> float:
        """Bits of an element of the input, on average over the calls so far."""
        return 8.0 + 8.0 * self._outliers / max(self._columns, 1)

    def __call__(self, x: F32) -> F32:
        """Multiply: float32 `[t, in]` to float32 `[t, out]` (LI8-8: the result is not rounded to float16).

        Raises
        ------
        DtypeError, ShapeError, DomainError
            as `round_to_half`; rows of another length than the weight's.
        """
        require_matrix(x, "x", self.weight.q.shape[1])
        a = round_to_half(x).astype(np.float16)
        quantized = vectorwise_quantize(a, self.threshold)
        self._columns += x.size
        self._outliers += len(x) * len(quantized.columns)
        acc = int_matmul(quantized.q, self.weight.q)
        y = dequantize_sums(acc, quantized.absmax, self.weight.absmax, self.way)
        if quantized.columns.size:
            y += matmul(
                a[:, quantized.columns].astype(np.float32), self._outlier_weights(quantized.columns).T
            )
        return y

    def _outlier_weights(self, columns: NDArray[np.int64]) -> F32:
        """Return columns of the weight as float32 numbers that float16 holds."""
        if self.halves is not None:
            return self.halves[:, columns].astype(np.float32)
        return dequantize_columns(self.weight, columns).astype(np.float32)
