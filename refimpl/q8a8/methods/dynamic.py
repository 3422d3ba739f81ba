"""Dynamic quantization: Y = Sx (Xint · Wint) Sw, with X quantized when it arrives.

::

    Xint, Sx = quantize(X)        per token (one scale a row) or per tensor (one scale)      at run time
    Wint, Sw = quantize(W)        per channel (one scale a row of W) or per tensor           once
    acc      = (Xint - Zx) · (Wint - Zw)^T                                                   int32, exact
    Y        = f32(f32(f32(acc) · Sx) · Sw)    or    f32(f32(acc) · f32(Sx · Sw))            a rescale order

::

                      k                          k                               m
              +---------------+          +---------------+   Sw          +---------------+
            n |     Xint      | Sx     m |     Wint      | one a row   n |      acc      |  · Sx[i] · Sw[j]
              +---------------+          +---------------+               +---------------+

Scales may vary along n and along m, never along k: the sum over k would mix them. So "per channel" belongs to
W's rows (output channels), and "per token" to X's.

The result may be quantized once more, for the next integer layer: `requantize` from the accumulator with one
multiplier Sx·Sw/Sy, `quantize_linear` from Y.

Sources: the design's lecture notes (Y = Sx (Xint · Wint) Sw); torchao, `Int8Tensor` (order `(acc*sx)*sw`);
ONNX operators DynamicQuantizeLinear, MatMulInteger, QuantizeLinear, QLinearMatMul and onnxruntime's
DynamicQuantizeMatMul (order `acc*(sx*sw)`). The rules of docs/methods/dynamic.md, DYN-1 to DYN-10, are
normative where these differ.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8.errors import ArgumentError, UnknownNameError
from q8a8.methods.affine import Quantized, get_rule, quantize
from q8a8.methods.finite import require_matrix
from q8a8.methods.integer import int_matmul

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import DTypeLike, NDArray

    from q8a8.methods.affine import Codes, Rule

    F32 = NDArray[np.float32]

__all__ = [
    "RESCALES",
    "DynamicLinear",
    "accumulate",
    "multiplier",
    "quantize_linear",
    "quantize_matrix",
    "requantize",
    "rescale",
    "round_to_bfloat16",
]

ROWS = ("token", "channel")
"""The granularities with one scale a row: the rows of X are tokens, those of W output channels."""

RESCALES: Mapping[str, str] = MappingProxyType(
    {
        "(acc*sx)*sw": "torchao: int_scaled_matmul, then * w_scales; rows are scaled as they are written",
        "acc*(sx*sw)": "onnxruntime: DynamicQuantizeMatMul, MatMulIntegerToFloat; one multiplier a result",
    }
)
"""The rescale orders, each with its user; they differ in the last bit of some results (DYN-7)."""


def quantize_matrix(
    x: F32, granularity: str, rule: str | Rule = "absmax-127", *, name: str = "x"
) -> Quantized:
    """Quantize a matrix with one scale a row, or one for all of it (DYN-1 to DYN-5).

    Parameters
    ----------
    x
        float32 `[n, k]`.
    granularity
        "token" or "channel": one scale a row. "tensor": one scale.
    rule
        The arithmetic, or its name.
    name
        The name of the caller's parameter, for errors.

    Returns
    -------
    Quantized
        q `[n, k]`; scale and zero `[n]`, all equal where there is one for the tensor.

    Raises
    ------
    DtypeError, ShapeError, UnknownNameError, DomainError
        as `affine.quantize`; an unknown granularity.
    """
    x = np.asarray(x)
    require_matrix(x, name)
    if granularity in ROWS:
        return quantize(x, rule, name=name)
    if granularity != "tensor":
        raise UnknownNameError("granularity", granularity, (*ROWS, "tensor"))
    whole = quantize(x.reshape(-1), rule, name=name)
    zero: Codes | None = None
    if whole.zero is not None:
        zero = np.full(len(x), whole.zero, whole.q.dtype)
    return Quantized(whole.q.reshape(x.shape), np.repeat(whole.scale[None], len(x)), zero)


def accumulate(x: Quantized, w: Quantized) -> NDArray[np.int32]:
    """Multiply the codes, less their zero points: exact in int32 (DYN-6).

    Parameters
    ----------
    x, w
        Codes `[n, k]` and `[m, k]`, with zero points `[n]` and `[m]` or none.

    Returns
    -------
    int32 `[n, m]`: ONNX's MatMulInteger.

    Raises
    ------
    ShapeError
        for rows of different length, or longer than int32 allows.
    """
    return int_matmul(_centred(x), _centred(w))


def _centred(x: Quantized) -> NDArray[np.integer[Any]]:
    """Return q - z, int16 where there are zero points."""
    if x.zero is None:
        return x.q
    return x.q.astype(np.int16) - x.zero[:, None].astype(np.int16)


OUTPUTS = ("float32", "bfloat16")
"""What results are rounded to: torchao's are of the activations' type."""


def round_to_bfloat16(x: F32) -> F32:
    """Round to bfloat16's 8 bits, ties to even, and widen again; infinities and NaNs stay what they are."""
    bits = np.asarray(x, np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)
    return np.where(np.isfinite(x), rounded.view(np.float32), x).astype(np.float32)


def rescale(
    acc: NDArray[np.int32], sx: F32, sw: F32, order: str = "(acc*sx)*sw", *, output: str = "float32"
) -> F32:
    """Turn integer sums into numbers (DYN-7).

    Parameters
    ----------
    acc
        int32 `[n, m]`; converted to float32 with one rounding, which matters beyond 2^24.
    sx, sw
        float32 `[n]` and `[m]`.
    order
        A key of `RESCALES`.
    output
        What each result is rounded to, once, when it is complete; bfloat16's values come as float32.

    Returns
    -------
    float32 `[n, m]`.

    Raises
    ------
    UnknownNameError
        listing the orders, or the outputs.
    """
    if order not in RESCALES:
        raise UnknownNameError("rescale order", order, RESCALES)
    if output not in OUTPUTS:
        raise UnknownNameError("output", output, OUTPUTS)
    with np.errstate(over="ignore", under="ignore"):
        if order == "(acc*sx)*sw":
            found: F32 = (acc.astype(np.float32) * sx[:, None]) * sw
        else:
            found = acc.astype(np.float32) * (sx[:, None] * sw)
    return round_to_bfloat16(found) if output == "bfloat16" else found


def multiplier(sx: F32, sw: F32, sy: float) -> F32:
    """Return the factor from sums to the output's codes: f32(f32(sx · sw) / sy) (DYN-8).

    Parameters
    ----------
    sx, sw
        float32 `[n]` and `[m]`.
    sy
        The output's scale, positive and finite.

    Returns
    -------
    float32 `[n, m]`.

    Raises
    ------
    ArgumentError
        for an output scale that is not positive and finite as float32.
    """
    scale = _output_scale(sy)
    with np.errstate(over="ignore", under="ignore"):
        return (sx[:, None] * sw) / scale


def requantize(acc: NDArray[np.int32], factor: F32, zero: int = 0, dtype: DTypeLike = np.int8) -> Codes:
    """Quantize sums without a detour through Y: ONNX's QLinearMatMul (DYN-8).

    ``q = clamp(round(f32(f32(acc) · factor)) + zero)``, halves to even.

    Parameters
    ----------
    acc
        int32 `[n, m]`.
    factor
        float32, from `multiplier`; broadcast against `acc`.
    zero
        The output's zero point, in the range of `dtype`.
    dtype
        int8 or uint8.

    Returns
    -------
    `dtype` `[n, m]`.

    Raises
    ------
    ArgumentError
        for a zero point outside the type.
    """
    with np.errstate(over="ignore", under="ignore"):
        return _to_codes(acc.astype(np.float32) * factor, zero, dtype)


def quantize_linear(y: F32, sy: float, zero: int = 0, dtype: DTypeLike = np.int8) -> Codes:
    """Quantize numbers with a given scale: ONNX's QuantizeLinear (DYN-9).

    ``q = clamp(round(f32(y / sy)) + zero)``, halves to even.

    Parameters
    ----------
    y
        float32 `[n, m]`, finite.
    sy
        The scale, positive and finite.
    zero, dtype
        As `requantize`.

    Returns
    -------
    `dtype` `[n, m]`.

    Raises
    ------
    ArgumentError
        for another scale, or a zero point outside the type.
    DtypeError, ShapeError, DomainError
        for another dtype, no matrix, or a NaN or infinity.
    """
    require_matrix(y, "y")
    scale = _output_scale(sy)
    with np.errstate(over="ignore", under="ignore"):
        return _to_codes(y / scale, zero, dtype)


def _output_scale(sy: float) -> np.float32:
    """Check the output's scale, and give it as float32."""
    with np.errstate(over="ignore", under="ignore"):
        scale = np.float32(sy)
    if not (np.isfinite(scale) and scale > 0):
        raise ArgumentError(f"sy: expected a positive and finite float32, got {sy}")
    return scale


def _to_codes(scaled: F32, zero: int, dtype: DTypeLike) -> Codes:
    """Round, clamp and shift: clamping before the shift keeps every sum exact, infinities included."""
    limits = np.iinfo(np.int8 if np.dtype(dtype) == np.int8 else np.uint8)
    if not limits.min <= zero <= limits.max:
        raise ArgumentError(f"zero: expected {limits.min} to {limits.max} ({limits.dtype}), got {zero}")
    shifted = np.clip(np.rint(scaled), limits.min - zero, limits.max - zero) + np.float32(zero)
    return shifted.astype(np.int8) if limits.min < 0 else shifted.astype(np.uint8)


class DynamicLinear:
    """A linear layer with int8 weights, whose input is quantized when it arrives.

    Parameters
    ----------
    weight
        float32 `[out, in]`.
    activations
        "token" or "tensor": the extent of one scale of the input. One scale for the tensor makes a token's
        result depend on the other tokens of the call (DYN-10).
    weights
        "channel" or "tensor".
    rule
        How X is quantized: the arithmetic or its name.
    weight_rule
        How W is quantized.
    order
        A key of `RESCALES`.

    Attributes
    ----------
    weight_bytes
        Bytes that are stored: the codes, and a float32 scale and a zero point a channel, or one for all.
    activation_bits
        8.

    Raises
    ------
    DtypeError, ShapeError, UnknownNameError, DomainError
        as `quantize_matrix` and `rescale`.
    """

    activation_bits = 8.0

    def __init__(
        self,
        weight: F32,
        *,
        activations: str = "token",
        weights: str = "channel",
        rule: str | Rule = "absmax-127",
        weight_rule: str | Rule = "absmax-127",
        order: str = "(acc*sx)*sw",
    ) -> None:
        if activations not in ("token", "tensor"):
            raise UnknownNameError("granularity of activations", activations, ("token", "tensor"))
        if weights not in ("channel", "tensor"):
            raise UnknownNameError("granularity of weights", weights, ("channel", "tensor"))
        if order not in RESCALES:
            raise UnknownNameError("rescale order", order, RESCALES)
        self.activations = activations
        self.rule = get_rule(rule)
        self.order = order
        self.weight = quantize_matrix(weight, weights, weight_rule, name="weight")
        scales = 1 if weights == "tensor" else len(self.weight.q)
        each = 4 if self.weight.zero is None else 5
        self.weight_bytes = self.weight.q.nbytes + scales * each

    def __call__(self, x: F32) -> F32:
        """Multiply: float32 `[t, in]` to float32 `[t, out]`.

        Raises
        ------
        DtypeError, ShapeError, DomainError
            as `quantize_matrix`; rows of another length than the weight's.
        """
        require_matrix(x, "x", self.weight.q.shape[1])
        quantized = quantize_matrix(x, self.activations, self.rule)
        acc = accumulate(quantized, self.weight)
        return rescale(acc, quantized.scale, self.weight.scale, self.order)
