"""FP8 for weights and activations: scales, codes, and the product (rules FP8-7 to FP8-10).

A matrix is quantized with one scale ("tensor") or one a row ("channel": an output channel of the weights, a
token of the activations)::

    s = f32(amax / largest)         1 where that is 0                                       FP8-7
    c = encode(f32(x / s))          saturating                                              FP8-8
    y = f32(f32(acc · sx) · sw)     acc = sum of the products of decoded codes, float32     FP8-9

`largest` is the format's largest finite number, 448 for e4m3fn: unlike integers, a floating-point format
gains no precision from a smaller scale, but loses its largest and smallest numbers by a wrong one.

Sources: P. Micikevicius et al., "FP8 Formats for Deep Learning", arXiv:2209.05433, section 3.2 (scales
outside the format, per tensor); torchao: `_choose_scale_float8` and `_quantize_affine_float8` in
quantization/quant_primitives.py (scale and codes, by tensor and by row). The formats are in `fp8_formats`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from q8a8.arithmetic import matmul as product
from q8a8.errors import ArgumentError, ShapeError, UnknownNameError
from q8a8.methods.finite import require_finite, require_matrix
from q8a8.methods.fp8_formats import (
    FORMATS,
    OVERFLOWS,
    Format,
    Overflow,
    decode,
    encode,
    get_format,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "FORMATS",
    "OVERFLOWS",
    "Format",
    "Fp8Linear",
    "Granularity",
    "Overflow",
    "Quantized",
    "decode",
    "encode",
    "get_format",
    "matmul",
    "quantize",
    "scale_of",
]

Granularity = Literal["tensor", "channel"]


@dataclass(frozen=True)
class Quantized:
    """A matrix as FP8 codes and scales: element j of row i is about `decode(codes[i, j]) · scales[i]`.

    Parameters
    ----------
    codes
        uint8 `[n, k]`.
    scales
        float32 `[n]` (channel), or `[1]` for all rows (tensor).
    format
        The format of the codes.
    """

    codes: NDArray[np.uint8]
    scales: NDArray[np.float32]
    format: Format

    @property
    def nbytes(self) -> int:
        """Stored bytes: one a code, four a scale."""
        return self.codes.nbytes + self.scales.nbytes


def scale_of(amax: NDArray[np.float32], fmt: Format) -> NDArray[np.float32]:
    """Compute scales: f32(amax / largest), and 1 where that is zero (FP8-7).

    Parameters
    ----------
    amax
        float32 `[...]`, finite, not negative.
    fmt
        The format.

    Returns
    -------
    float32 `[...]`, positive.
    """
    with np.errstate(under="ignore"):
        scale = np.asarray(amax, np.float32) / np.float32(fmt.largest)
    return np.asarray(np.where(scale == 0, np.float32(1), scale))


def quantize(
    x: NDArray[np.float32],
    format: str | Format,  # noqa: A002  # the word of the field
    granularity: Granularity = "channel",
    *,
    amax: float | None = None,
) -> Quantized:
    """Quantize a matrix to FP8 with one scale, or one a row (FP8-7, FP8-8).

    Parameters
    ----------
    x
        float32 `[n, k]`: weights by output channel, or activations by token.
    format
        The format, or its name.
    granularity
        "tensor": one scale; "channel": one a row, that is, an output channel or a token.
    amax
        A largest magnitude from calibration, to use instead of x's own; only with "tensor". What lies above
        it saturates.

    Returns
    -------
    Codes and scales.

    Raises
    ------
    ShapeError, DtypeError, DomainError
        for anything but a finite float32 matrix.
    UnknownNameError
        for an unknown format or granularity.
    ArgumentError
        for an `amax` that is negative, no finite float32, or given with "channel".
    """
    x = np.asarray(x)
    require_matrix(x, "x")
    fmt = get_format(format)
    if granularity not in ("tensor", "channel"):
        raise UnknownNameError("granularity", granularity, ("tensor", "channel"))
    if amax is not None:
        if granularity != "tensor":
            raise ArgumentError("amax: a calibrated magnitude goes with one scale, granularity 'tensor'")
        if not 0 <= amax <= float(np.finfo(np.float32).max):
            raise ArgumentError(f"amax: expected a finite magnitude of float32, got {amax}")
        largest = np.array([amax], np.float32)
    else:
        # FP8-7: amax of no elements is 0.
        largest = np.abs(x).max(axis=1 if granularity == "channel" else None, initial=0).reshape(-1)
    scales = scale_of(largest, fmt)
    with np.errstate(over="ignore", under="ignore"):
        # FP8-8: one float32 division, then one rounding to the format.
        codes = encode(x / scales[:, None], fmt, "saturating")
    return Quantized(codes, scales, fmt)


def matmul(
    x: Quantized, w: Quantized, *, accumulate: Literal["float32", "float64"] = "float32"
) -> NDArray[np.float32]:
    """Multiply activations by weights: x · wᵀ, rescaled (FP8-9).

    With decoded codes c, in float32::

        acc_ij = sum_l cx_il · cw_jl
        y_ij   = f32(f32(acc_ij · sx_i) · sw_j)

    A product of two decoded codes is exact in float32 (at most 5 + 5 significant bits). The float32 sum is in
    the order of the machine's BLAS, so its last bits differ between machines, within the bound of FP8-9. In
    float64 the sums of e4m3fn products are exact up to k = 2^17 (multiples of 2^-18 below 2^35), in any
    order, and so `accumulate="float64"` gives the same bits everywhere: f32 of the exact sum.

    Parameters
    ----------
    x
        Activations `[t, k]`.
    w
        Weights `[m, k]`.
    accumulate
        The type of the sum; a float64 sum is rounded to float32 before it is rescaled.

    Returns
    -------
    float32 `[t, m]`.

    Raises
    ------
    ShapeError, UnknownNameError
        where the k's differ, or for another type of the sum.
    """
    if x.codes.shape[1] != w.codes.shape[1]:
        raise ShapeError(f"x has rows of {x.codes.shape[1]} codes, w of {w.codes.shape[1]}")
    if accumulate not in ("float32", "float64"):
        raise UnknownNameError("type of the sum", accumulate, ("float32", "float64"))
    dtype = np.dtype(accumulate)
    acc = product(decode(x.codes, x.format).astype(dtype), decode(w.codes, w.format).astype(dtype).T)
    with np.errstate(over="ignore", under="ignore"):
        y = acc.astype(np.float32)
        y *= x.scales[:, None]
        y *= w.scales
    return y


class Fp8Linear:
    """A linear layer with weights and activations in FP8: y = x · weightᵀ (FP8-7 to FP8-10).

    Parameters
    ----------
    weight
        float32 `[out, in]`, finite.
    format
        The weights' format, or its name.
    granularity
        "channel": a scale for each output channel, and for each token at run time; "tensor": one for the
        weights and one for all tokens of a call.
    activation_format
        That of the activations; by default the weights'.
    input_amax
        A calibrated largest magnitude of the inputs: the activations then have this one, static scale,
        whatever the weights' granularity.

    Attributes
    ----------
    weight_bytes
        Stored bytes: codes and scales.
    activation_bits
        8.
    """

    activation_bits: float = 8.0

    def __init__(
        self,
        weight: NDArray[np.float32],
        *,
        format: str | Format = "e4m3fn",  # noqa: A002  # the word of the field
        granularity: Granularity = "channel",
        activation_format: str | Format | None = None,
        input_amax: float | None = None,
    ) -> None:
        require_finite(np.asarray(weight), "weight")
        self.weight = quantize(weight, format, granularity)
        self.activation_format = get_format(format if activation_format is None else activation_format)
        self.granularity: Granularity = granularity if input_amax is None else "tensor"
        self.input_amax = input_amax
        self.weight_bytes = self.weight.nbytes

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Apply the layer.

        Parameters
        ----------
        x
            float32 `[t, in]`, finite.

        Returns
        -------
        float32 `[t, out]`.

        Raises
        ------
        ShapeError, DtypeError, DomainError
            for anything else.
        """
        require_matrix(np.asarray(x), "x", self.weight.codes.shape[1])
        quantized = quantize(x, self.activation_format, self.granularity, amax=self.input_amax)
        return matmul(quantized, self.weight)
