"""Uniform quantization with a scale and a zero point: the field's arithmetics as data, one interpreter.

Every rule here has the shape (docs/methods/dynamic.md, DYN-1 to DYN-5)::

    lo    = min(0, min x_j),   hi = max(0, max x_j)             f32
    s     = f32(max(-lo, hi) / levels)                          symmetric
    s     = f32(f32(hi - lo) / levels)                          asymmetric
    z     = 0, or the code that the real 0 has                  asymmetric: low - lo/s, rounded and clamped
    q_j   = clamp(round(x_j / s) + z, low, high)                halves to even
    y_j   = f32(s · (q_j - z))                                  dequantized

The libraries differ in `levels` (127, or 127.5 = 255/2), in the treatment of a scale that is too small, in
whether x is divided by s or multiplied by f32(1/s), and in the order of round, clamp and "+ z". Each of
these is a field of `Rule`, each library one entry of `RULES`.

Subnormal numbers are kept. Where the stored scale is 0 (nothing but zeros, or amax too small for its rule)
every code is z, and the values come back as +0 (DYN-4).
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from q8a8.errors import DomainError, ShapeError, UnknownNameError
from q8a8.methods.finite import require_finite
from q8a8.rounding import HALF_BITS, round_to_half_bits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    F32 = NDArray[np.float32]
    Codes = NDArray[np.integer[Any]]

__all__ = ["RULES", "Quantized", "Rule", "dequantize", "get_rule", "quantize"]

EPS_F32 = 2.0**-23
"""float32's machine epsilon."""
EPS_F16 = 2.0**-10
"""float16's machine epsilon."""
TINY_F32 = 2.0**-126
"""float32's smallest normal number."""


@dataclass(frozen=True)
class Rule:
    """One arithmetic of uniform quantization.

    Parameters
    ----------
    name
        Its name in the tables.
    levels
        The divisor of the range, which is from 0 to amax if symmetric, else from lo to hi.
    low, high
        The smallest and largest code; they are kept in int8, or in uint8 where no code is negative.
    small
        Treatment of a small scale: "keep" it; "at-least": no smaller than `floor`;
        "replace-zero": a scale of 0 becomes the machine epsilon of the type that scales are stored in;
        "one-if-empty": 1 where lo = hi = 0.
    inverse
        How an element is scaled: "x/s", or "x*(1/s)" with 1/s rounded to float32.
    zero
        The zero point: "none" (symmetric), "clamp-round": round(clamp(low - lo/s)), "round-clamp":
        clamp(low - round(lo/s)).
    add
        Whether z is added "after" x/s is rounded, or "before", as one more float32 sum.
    source
        The library: package, file, function.
    floor
        See `small`.
    """

    name: str
    levels: float
    low: int
    high: int
    small: Literal["keep", "at-least", "replace-zero", "one-if-empty"]
    inverse: Literal["x/s", "x*(1/s)"]
    zero: Literal["none", "clamp-round", "round-clamp"]
    add: Literal["after", "before"]
    source: str
    floor: float = 0.0

    @property
    def symmetric(self) -> bool:
        """Whether the number 0 has the code 0, and no zero point is stored."""
        return self.zero == "none"


_TORCHAO = "torchao 0.18, quantization/quant_primitives.py: choose_qparams_affine, quantize_affine"
_COMPRESSED = "compressed-tensors 0.20, quantization/utils/helpers.py: calculate_qparams; lifecycle: quantize"

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        rule.name: rule
        for rule in (
            Rule(
                name="absmax-127",
                levels=127.0,
                low=-128,
                high=127,
                small="keep",
                inverse="x/s",
                zero="none",
                add="after",
                source="the textbook; optimum-quanto 0.2, AbsmaxOptimizer and quanto::quantize_symmetric",
            ),
            Rule(
                name="torchao",
                levels=127.5,
                low=-128,
                high=127,
                small="at-least",
                floor=EPS_F32,
                inverse="x*(1/s)",
                zero="none",
                add="after",
                source=f"{_TORCHAO}; Int8Tensor.from_hp",
            ),
            Rule(
                name="torchao-asymmetric",
                levels=255.0,
                low=-128,
                high=127,
                small="at-least",
                floor=EPS_F32,
                inverse="x*(1/s)",
                zero="round-clamp",
                add="after",
                source=f"{_TORCHAO}; Int8Tensor.from_hp with MappingType.ASYMMETRIC",
            ),
            Rule(
                name="compressed-tensors",
                levels=127.5,
                low=-128,
                high=127,
                small="replace-zero",
                inverse="x/s",
                zero="none",
                add="before",
                source=_COMPRESSED,
            ),
            Rule(
                name="onnx",
                levels=255.0,
                low=0,
                high=255,
                small="one-if-empty",
                inverse="x/s",
                zero="clamp-round",
                add="after",
                source="ONNX operator DynamicQuantizeLinear, opset 11; onnxruntime 1.31",
            ),
            Rule(
                name="int4-torchao",
                levels=7.5,
                low=-8,
                high=7,
                small="at-least",
                floor=TINY_F32,
                inverse="x*(1/s)",
                zero="none",
                add="after",
                source=f"{_TORCHAO}; IntxUnpackedToInt8Tensor.from_hp",
            ),
            Rule(
                name="int4-torchao-asymmetric",
                levels=15.0,
                low=-8,
                high=7,
                small="at-least",
                floor=TINY_F32,
                inverse="x*(1/s)",
                zero="round-clamp",
                add="after",
                source=f"{_TORCHAO}; IntxUnpackedToInt8Tensor.from_hp with MappingType.ASYMMETRIC",
            ),
            Rule(
                name="int4-compressed-tensors",
                levels=7.5,
                low=-8,
                high=7,
                small="replace-zero",
                inverse="x/s",
                zero="none",
                add="before",
                source=_COMPRESSED,
            ),
            Rule(
                name="int4-compressed-tensors-asymmetric",
                levels=15.0,
                low=-8,
                high=7,
                small="replace-zero",
                inverse="x/s",
                zero="clamp-round",
                add="before",
                source=_COMPRESSED,
            ),
        )
    }
)
"""Every rule that the reference can follow, by name."""


def get_rule(rule: str | Rule) -> Rule:
    """Look a rule up by name; a `Rule` is returned as it is.

    Raises
    ------
    UnknownNameError
        listing the names.
    """
    if isinstance(rule, Rule):
        return rule
    if rule not in RULES:
        raise UnknownNameError("rule", rule, RULES)
    return RULES[rule]


@dataclass(frozen=True)
class Quantized:
    """Codes with the scale and zero point of their last axis.

    Parameters
    ----------
    q
        int8 or uint8 `[..., k]`.
    scale
        float32 `[...]` (a float16's value where scales are stored in float16).
    zero
        As `q`, `[...]`; None for symmetric rules, whose zero point is 0.
    """

    q: Codes
    scale: F32
    zero: Codes | None


def quantize(
    x: F32, rule: str | Rule, *, half_scale: bool = False, scale_bits: int = HALF_BITS, name: str = "x"
) -> Quantized:
    """Quantize with one scale for the last axis (DYN-1 to DYN-5).

    Parameters
    ----------
    x
        float32 `[..., k]`, any k (0 too).
    rule
        The arithmetic, or its name.
    half_scale
        Whether the scale is rounded to float16 before the codes are computed (WON-3). The zero point comes
        from the scale before that rounding, as in compressed-tensors.
    scale_bits
        The significant bits that are left of a float16 scale: 11 are all, with 7 its products with integers
        of 4 bits are float16 numbers too (WON-3).
    name
        The name of the caller's parameter, for errors.

    Returns
    -------
    Quantized
        q `[..., k]`, scale and zero `[...]`.

    Raises
    ------
    DtypeError, ShapeError, UnknownNameError, ArgumentError
        for another dtype, an array without axes, an unknown rule, other bits.
    DomainError
        for NaN and infinities, for a range hi - lo that float32 cannot hold, and for a scale that float16
        cannot hold.
    """
    rule, x = get_rule(rule), np.asarray(x)
    if x.ndim == 0:
        raise ShapeError(f"{name}: expected at least one axis, got none")
    require_finite(x, name)
    lo, hi = x.min(axis=-1, initial=0), x.max(axis=-1, initial=0)
    with np.errstate(all="ignore"):
        s = _scale(rule, lo, hi)
        z = _zero_point(rule, lo, s)
        if half_scale:
            # WON-3: rounded as it is stored, after the zero point is known.
            s = round_to_half_bits(s, scale_bits)
        s = _replace_zero(rule, s, EPS_F16 if half_scale else EPS_F32)
        _require_finite_scale(x, s, name)
        q = _round(rule, x, s[..., None], z[..., None])
    return Quantized(_as_codes(q, rule), s, None if rule.symmetric else _as_codes(z, rule))


def _scale(rule: Rule, lo: F32, hi: F32) -> F32:
    """Compute s from the range, float32 (DYN-1), no smaller than the rule allows (DYN-2)."""
    # DYN-1: s = range / levels, levels = 127, 127.5, 255, ... (amax of zeros of any sign is +0.)
    extent: F32 = np.maximum(np.abs(lo), np.abs(hi)) if rule.symmetric else hi - lo
    s: F32 = extent / np.float32(rule.levels)
    # DYN-2: scales that are too small.
    if rule.small == "at-least":
        return np.maximum(s, np.float32(rule.floor))
    if rule.small == "one-if-empty":
        return np.where(lo == hi, np.float32(1), s)
    return s


def _replace_zero(rule: Rule, s: F32, epsilon: float) -> F32:
    """Replace scales of 0 by the epsilon of the type that stores them, where the rule does (DYN-2)."""
    return np.where(s == 0, np.float32(epsilon), s) if rule.small == "replace-zero" else s


def _zero_point(rule: Rule, lo: F32, s: F32) -> F32:
    """Compute z = low - lo/s, rounded and clamped, as whole float32 numbers (DYN-3)."""
    if rule.symmetric:
        return np.zeros_like(s)
    # 0/0, of a scale that is 0, counts as 0.
    quotient = np.nan_to_num(lo / s, nan=0, neginf=-np.inf)
    if rule.zero == "clamp-round":
        z = np.rint(np.clip(rule.low - quotient, rule.low, rule.high))
    else:
        z = np.clip(rule.low - np.rint(quotient), rule.low, rule.high)
    codes: F32 = z.astype(np.float32)
    return codes


def _round(rule: Rule, x: F32, s: F32, z: F32) -> F32:
    """Compute q_j = clamp(round(x_j / s) + z) in the rule's order of operations (DYN-5)."""
    v = x / s if rule.inverse == "x/s" else x * (np.float32(1) / s)
    if rule.add == "before":
        q = np.rint(np.clip(v + z, rule.low, rule.high))
    else:
        q = np.clip(np.rint(v) + z, rule.low, rule.high)
    # DYN-4: with a scale of 0 every code is z.
    return np.where(s == 0, z, q)


def _as_codes(numbers: F32, rule: Rule) -> Codes:
    """Convert integers that lie in the rule's range to its type."""
    return numbers.astype(np.int8) if rule.low < 0 else numbers.astype(np.uint8)


def _require_finite_scale(x: F32, s: F32, name: str) -> None:
    """Refuse an infinite scale, by the largest element of its group."""
    if np.isfinite(s).all():
        return
    place = tuple(int(i) for i in np.unravel_index(int(np.argmin(np.isfinite(s))), s.shape))
    group = x[place]
    element = int(np.argmax(np.abs(group)))
    # Of three axes and more the one before the last counts the groups of a row.
    row, block = (place[:-1], place[-1]) if x.ndim > 2 else (place, 0)
    raise DomainError(
        "its range is too large: the scale would be infinite",
        array=name,
        row=row,
        block=block,
        element=element,
        value=float(group[element]),
    )


def dequantize(quantized: Quantized) -> F32:
    """Turn codes into numbers again: y = f32(s · (q - z)), one rounding.

    Parameters
    ----------
    quantized
        Codes `[..., k]`.

    Returns
    -------
    float32 `[..., k]`.
    """
    q = quantized.q.astype(np.float32)
    if quantized.zero is not None:
        q -= quantized.zero[..., None].astype(np.float32)
    return q * quantized.scale[..., None]
