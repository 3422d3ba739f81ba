"""Weight-only quantization: int8 a channel (W8A16), int4 in groups; activations stay float16.

::

    int8 a channel:  W'[o, i] = f32(s[o] · q[o, i])                          one scale a row
    int4 in groups:  W'[o, i] = f32(s[o, i/g] · (q[o, i] - z[o, i/g]))       one scale g columns of a row
    Y = f16(X) · W'^T                                                        products and sums in float32

Codes come from `q8a8.methods.affine`; int4 codes are stored two a byte (`q8a8.methods.nibbles`, WON-2)::

    row of the matrix:  | g codes | g codes | ... | rest |     k codes, nibbles
    scales:             |   s0    |   s1    | ... |  sl  |     ceil(k/g), float16 or float32
    zero points:        |   z0    |   z1    | ... |  zl  |     ceil(k/g), nibbles too: z + 8

All that is stored counts: with float16 scales 4 + 16/g bits a weight, 4 + 20/g with zero points; g = 128:
4.125 and 4.15625, g = 32: 4.5 and 4.625 (WON-4).

Sources: the design's lecture notes (int8 and int4 weight-only, groups of 128); torchao's Int8WeightOnlyConfig
and IntxWeightOnlyConfig; compressed-tensors' pack-quantized format. The rules WON-1 to WON-6 are in
docs/methods/weight-only.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from q8a8.arithmetic import matmul
from q8a8.errors import ArgumentError, DomainError, ShapeError, UnknownNameError
from q8a8.methods.affine import Quantized, dequantize, get_rule, quantize
from q8a8.methods.finite import require_matrix
from q8a8.methods.nibbles import pack_nibbles, unpack_nibbles
from q8a8.rounding import HALF_BITS, HALF_OVERFLOW, f16_to_f32, f32_to_f16

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from q8a8.methods.affine import Rule

    F32 = NDArray[np.float32]

__all__ = [
    "GROUPS",
    "ChannelInt8Linear",
    "Int4GroupLinear",
    "Int4Weight",
    "dequantize_int4",
    "quantize_int4",
    "round_to_half",
]

GROUPS = (32, 64, 128)
"""The usual group sizes; any other of at least 1 is taken."""

SYMMETRIC, ASYMMETRIC = "int4-compressed-tensors", "int4-compressed-tensors-asymmetric"


def round_to_half(x: F32, name: str = "x") -> F32:
    """Round a matrix to float16 and widen it again, as a layer with 16-bit activations reads it (WON-5).

    Parameters
    ----------
    x
        float32 `[t, k]`, finite.
    name
        The name of the caller's parameter, for errors.

    Returns
    -------
    float32 `[t, k]`, every value one of float16's.

    Raises
    ------
    DtypeError, ShapeError, DomainError
        for another dtype, no matrix, NaN, infinities and magnitudes of 65520 and more.
    """
    require_matrix(x, name)
    large = np.abs(x) >= HALF_OVERFLOW
    if large.any():
        row, element = (int(i) for i in np.unravel_index(int(np.argmax(large)), x.shape))
        raise DomainError(
            "float16 holds no magnitude of 65520 or more",
            array=name,
            row=(row,),
            block=0,
            element=element,
            value=float(x[row, element]),
        )
    return f16_to_f32(f32_to_f16(x))


class ChannelInt8Linear:
    """A linear layer with int8 weights, one float32 scale a channel, and float16 activations: W8A16.

    The scale is applied once a result: ``y = f32(s · sum_i f16(x_i) q_i)``, torchao's order; the sum is in
    float32, in the order that the BLAS likes (WON-6).

    Parameters
    ----------
    weight
        float32 `[out, in]`.
    rule
        The arithmetic of the codes, symmetric, or its name (WON-1).

    Attributes
    ----------
    weight
        The codes and scales.
    weight_bytes
        in · out + 4 · out.
    activation_bits
        16.

    Raises
    ------
    DtypeError, ShapeError, UnknownNameError, DomainError
        as `affine.quantize`.
    ArgumentError
        for an asymmetric rule.
    """

    activation_bits = 16.0

    def __init__(self, weight: F32, *, rule: str | Rule = "absmax-127") -> None:
        rule = get_rule(rule)
        if not rule.symmetric:
            raise ArgumentError(f"rule: expected a symmetric rule, got {rule.name}, which has zero points")
        require_matrix(weight, "weight")
        self.weight = quantize(weight, rule, name="weight")
        self.weight_bytes = self.weight.q.nbytes + self.weight.scale.nbytes

    def __call__(self, x: F32) -> F32:
        """Multiply: float32 `[t, in]` to float32 `[t, out]`.

        Raises
        ------
        DtypeError, ShapeError, DomainError
            as `round_to_half`; rows of another length than the weight's.
        """
        require_matrix(x, "x", self.weight.q.shape[1])
        return matmul(round_to_half(x), self.weight.q.astype(np.float32).T) * self.weight.scale


@dataclass(frozen=True)
class Int4Weight:
    """A matrix as it is stored: nibbles, scales, zero points.

    Parameters
    ----------
    packed
        uint8 `[m, ceil(k/2)]`.
    scale
        float16 or float32 `[m, ceil(k/group)]`.
    zero
        uint8 `[m, ceil(ceil(k/group)/2)]`, nibbles; None where every zero point is 0.
    shape
        (m, k).
    group
        Columns of a group; the last one of a row may be shorter.
    """

    packed: NDArray[np.uint8]
    scale: NDArray[np.float16] | F32
    zero: NDArray[np.uint8] | None
    shape: tuple[int, int]
    group: int

    @property
    def nbytes(self) -> int:
        """Bytes that are stored, all three arrays (WON-4)."""
        return self.packed.nbytes + self.scale.nbytes + (0 if self.zero is None else self.zero.nbytes)

    @property
    def bits_per_weight(self) -> float:
        """All stored bits over m·k."""
        return 8 * self.nbytes / (self.shape[0] * self.shape[1])


def quantize_int4(
    weight: F32,
    group: int,
    rule: str | Rule = SYMMETRIC,
    *,
    tail: str = "refuse",
    half_scale: bool = True,
    scale_bits: int = HALF_BITS,
) -> Int4Weight:
    """Quantize a matrix to int4 in groups of columns (WON-1 to WON-4).

    Parameters
    ----------
    weight
        float32 `[m, k]`.
    group
        Columns of a group: 32, 64 and 128 are usual.
    rule
        A rule of int4 codes, or its name.
    tail
        Where k is not a multiple of `group`: "refuse" it, or let the last group of each row be "short".
    half_scale
        Whether scales are stored as float16 (the codes are made with the rounded ones), or as float32.
    scale_bits
        Of a float16 scale, the significant bits that are used (WON-3).

    Returns
    -------
    Int4Weight

    Raises
    ------
    DtypeError, ShapeError, UnknownNameError, DomainError
        as `affine.quantize`; a k that is not a multiple of `group` where that is refused; another tail.
    ArgumentError
        for a group below 1, or a rule of other codes.
    """
    rule = get_rule(rule)
    require_matrix(weight, "weight")
    if (rule.low, rule.high) != (-8, 7):
        raise ArgumentError(f"rule: expected codes -8 to 7, got {rule.name} with {rule.low} to {rule.high}")
    if group < 1:
        raise ArgumentError(f"group: expected at least 1, got {group}")
    if tail not in ("refuse", "short"):
        raise UnknownNameError("tail", tail, ("refuse", "short"))
    m, k = weight.shape
    whole = k - k % group
    if k != whole and tail == "refuse":
        raise ShapeError(f"weight: rows of {k} elements are not a multiple of the group of {group}")
    # WON-3: full groups at once, then the short one, each with the same arithmetic.
    shapes = [(weight[:, :whole], (m, k // group, group)), (weight[:, whole:], (m, 1, k - whole))]
    parts = [
        quantize(part.reshape(shape), rule, half_scale=half_scale, scale_bits=scale_bits, name="weight")
        for part, shape in shapes
        if part.size
    ]
    q = _join([part.q.reshape(m, -1) for part in parts], m, np.int8)
    scale = _join([part.scale for part in parts], m, np.float32)
    zero = None if rule.symmetric else pack_nibbles(_join([p.zero for p in parts], m, np.int8))
    return Int4Weight(pack_nibbles(q), scale.astype(np.float16) if half_scale else scale, zero, (m, k), group)


def _join(parts: list[Any], m: int, dtype: type[np.generic]) -> NDArray[Any]:
    """Put the columns of full and short groups side by side; there may be none of either."""
    return np.concatenate([np.empty((m, 0), dtype), *parts], axis=1)


def dequantize_int4(stored: Int4Weight) -> F32:
    """Turn stored nibbles into numbers: f32(s · (q - z)), exact where scales are float16.

    Returns
    -------
    float32 `[m, k]`.
    """
    (m, k), group = stored.shape, stored.group
    groups = -(-k // group)
    # One scale a column, so that a short last group needs no care.
    columns = np.arange(k) // group
    scale = stored.scale.astype(np.float32)[:, columns]
    zero = None
    if stored.zero is not None:
        zero = unpack_nibbles(stored.zero, groups)[:, columns]
    q = unpack_nibbles(stored.packed, k)
    wide = Quantized(q[..., None], scale, zero)
    return dequantize(wide).reshape(m, k)


class Int4GroupLinear:
    """A linear layer with int4 weights in groups and float16 activations: W4A16.

    Weights are dequantized in every call, then multiplied in float32 (WON-6).

    Parameters
    ----------
    weight
        float32 `[out, in]`.
    group
        Columns of a group; "channel": a row of the matrix, "tensor": all of it.
    symmetric
        Whether without zero points; chooses compressed-tensors' rule where `rule` is not given.
    rule
        The arithmetic, or its name.
    tail, half_scale, scale_bits
        As `quantize_int4`.

    Attributes
    ----------
    weight
        The stored weight, an `Int4Weight`.
    weight_bytes
        Its bytes.
    activation_bits
        16.

    Raises
    ------
    DtypeError, ShapeError, UnknownNameError, DomainError, ArgumentError
        as `quantize_int4`.
    """

    activation_bits = 16.0

    def __init__(
        self,
        weight: F32,
        *,
        group: int | Literal["channel", "tensor"] = 128,
        symmetric: bool = True,
        rule: str | Rule | None = None,
        tail: str = "refuse",
        half_scale: bool = True,
        scale_bits: int = HALF_BITS,
    ) -> None:
        if rule is None:
            rule = SYMMETRIC if symmetric else ASYMMETRIC
        require_matrix(weight, "weight")
        self._shape = weight.shape
        # One scale for everything: one row, whose only group it is.
        rows = weight.reshape(1, -1) if group == "tensor" else weight
        columns = max(rows.shape[1], 1) if isinstance(group, str) else group
        self.weight = quantize_int4(
            rows, columns, rule, tail=tail, half_scale=half_scale, scale_bits=scale_bits
        )
        self.weight_bytes = self.weight.nbytes

    def __call__(self, x: F32) -> F32:
        """Multiply: float32 `[t, in]` to float32 `[t, out]`.

        Raises
        ------
        DtypeError, ShapeError, DomainError
            as `round_to_half`; rows of another length than the weight's.
        """
        require_matrix(x, "x", self._shape[1])
        return matmul(round_to_half(x), dequantize_int4(self.weight).reshape(self._shape).T)
