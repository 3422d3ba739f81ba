"""The steps of quantization, and what kernels do in their place, by name (Q8A8-QNT-13).

A `q8a8.recipe.Recipe` names one entry of each table; the first entry is the specification's. What a kernel
computes, once it has been measured, is a recipe of these steps too, and can be run::

    LARGEST      x [..., s]        -> amax [...]     Q8A8-QNT-1
    SCALES       amax, recipe      -> d              Q8A8-QNT-2
    HALVES       d, recipe         -> h              Q8A8-QNT-2, Q8A8-HLF-1
    ZERO_TESTS   amax, d, h        -> bool           Q8A8-QNT-3
    INVERSES     amax, d, h, n     -> float32 or float64     Q8A8-QNT-3
    ROUNDINGS    v                 -> integers       Q8A8-QNT-4
    CONVERSIONS  integers, x       -> int8           Q8A8-QNT-5

All of them work element by element on arrays of any shape and take any values.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8.rounding import f16_to_f32, f32_to_f16, round_half_away, round_half_even

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    Array = NDArray[Any]
    Table = Mapping[str, Callable[..., Any]]

__all__ = ["CONVERSIONS", "HALVES", "INVERSES", "LARGEST", "ROUNDINGS", "SCALES", "ZERO_TESTS"]

F16, F32, F64 = np.float16, np.float32, np.float64
MIN_NORMAL_BITS = 0x0400
SMALLEST_NORMAL = F16(2.0**-14)
UPPER_BITS = np.uint32(0xFFFF0000)


def upper_bits(v: Array) -> Array:
    """Return float32 numbers with the lower sixteen bits cut off: bfloat16, toward zero."""
    return (np.asarray(v, F32).view(np.uint32) & UPPER_BITS).view(F32)


# Q8A8-QNT-1: amax = max |x_j|

LARGEST: Table = MappingProxyType(
    {
        "magnitude": lambda x: np.abs(x).max(axis=-1, initial=F32(0)),
        "largest": lambda x: x.max(axis=-1, initial=F32(0)),
        "minus-smallest": lambda x: -x.min(axis=-1, initial=F32(0)),
        "upper-sixteen-bits": lambda x: upper_bits(np.abs(x).max(axis=-1, initial=F32(0))),
    }
)

# Q8A8-QNT-2: d = f32(amax / 127). n is the divisor; HLF-5 allows one rounding from the exact quotient.

SCALES: Table = MappingProxyType(
    {
        "amax/n": lambda amax, n: amax / F32(n),
        "amax*(1/n)": lambda amax, n: amax * F32(1 / n),
        "upper-sixteen-bits": lambda amax, n: upper_bits(amax / F32(n)),
    }
)


def truncated(d: Array) -> Array:
    """Round to a half toward zero; d is not negative."""
    h = f32_to_f16(d)
    return np.where(f16_to_f32(h) > d, np.nextafter(h, F16(0)), h).astype(F16)


def _above(h: Array) -> Array:
    return (h.view(np.uint16) + np.uint16(1)).view(F16)


def _ties_up(d: Array) -> Array:
    low = truncated(d)
    middle = (low.astype(F64) + _above(low).astype(F64)) / 2
    return np.where(np.asarray(d, F64) >= middle, _above(low), low).astype(F16)


def _up(d: Array) -> Array:
    low = truncated(d)
    return np.where(f16_to_f32(low) < d, _above(low), low).astype(F16)


def _carry_lost(d: Array) -> Array:
    """Round to nearest even, without the carry of the fraction into the exponent."""
    low, near = truncated(d), f32_to_f16(d)
    carried = (near.view(np.uint16) ^ low.view(np.uint16)) >= MIN_NORMAL_BITS
    return (
        np.where(carried, low.view(np.uint16) & ~np.uint16(MIN_NORMAL_BITS - 1), near.view(np.uint16))
        .astype(np.uint16)
        .view(F16)
    )


def flushed(h: Array) -> Array:
    """Return halves with subnormal ones as +0."""
    return np.where(np.abs(h) < SMALLEST_NORMAL, F16(0), h).astype(F16)


def _subnormals_truncated(d: Array) -> Array:
    return np.where(d < F32(SMALLEST_NORMAL), truncated(d), f32_to_f16(d)).astype(F16)


def _bfloat16(d: Array) -> Array:
    """Round to bfloat16, ties to even: its bits in the place of a half's."""
    bits = np.asarray(d, F32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16).view(F16)


def _integer(d: Array) -> Array:
    """Convert to an integer, whose bits stand in the place of a half's."""
    return np.asarray(np.clip(np.nan_to_num(d), 0, 65535), np.uint16).view(F16)


# Q8A8-QNT-2, Q8A8-HLF-1: h = f16(d)

HALVES: Table = MappingProxyType(
    {
        "nearest-even": f32_to_f16,
        "truncated": truncated,
        "ties-up": _ties_up,
        "up": _up,
        "carry-lost": _carry_lost,
        "subnormals-truncated": _subnormals_truncated,
        "subnormals-flushed": lambda d: flushed(f32_to_f16(d)),
        "bfloat16": _bfloat16,
        "integer": _integer,
    }
)

# Q8A8-QNT-3: where the inverse is 0

ZERO_TESTS: Table = MappingProxyType(
    {
        "half": lambda _amax, _d, h: np.abs(h) == 0,
        "rounded-d": lambda _amax, d, _h: f32_to_f16(d) == 0,
        "d": lambda _amax, d, _h: d == 0,
        "amax": lambda amax, _d, _h: amax == 0,
        "none": lambda _amax, _d, h: np.zeros_like(h, np.bool_),
    }
)


def _estimate(amax: Array, _d: Array, _h: Array, n: float) -> Array:
    """Refine an estimate of 1/amax, its upper eight bits, once: vrecpe and vrecps, or rcpps."""
    estimate = ((F32(1) / amax).view(np.uint32) & np.uint32(0xFFFF8000)).view(F32)
    return np.asarray(F32(n) * (estimate * (F32(2) - amax * estimate)))


def _toward_zero(amax: Array, _d: Array, _h: Array, n: float) -> Array:
    nearest = F32(n) / amax
    above = nearest.astype(F64) * amax.astype(F64) > n
    return np.where(above, np.nextafter(nearest, F32(0)), nearest).astype(F32)


# Q8A8-QNT-3: inv = f32(127 / amax). The two divisions are of each element, without an inverse.

INVERSES: Table = MappingProxyType(
    {
        "127/amax": lambda amax, _d, _h, n: F32(n) / amax,
        "1/d": lambda _amax, d, _h, _n: F32(1) / d,
        "1/half": lambda _amax, _d, h, _n: F32(1) / f16_to_f32(h),
        "127*(1/amax)": lambda amax, _d, _h, n: F32(n) * (F32(1) / amax),
        "127/amax-truncated": _toward_zero,
        "127/amax-ulp-low": lambda amax, _d, _h, n: np.nextafter(F32(n) / amax, F32(0)),
        "127/amax-ulp-high": lambda amax, _d, _h, n: np.nextafter(F32(n) / amax, F32(np.inf)),
        "127/amax-estimated": _estimate,
        "127/amax-in-half": lambda amax, _d, _h, n: f16_to_f32(f32_to_f16(F32(n) / amax)),
        "127/amax-in-double": lambda amax, _d, _h, n: n / amax.astype(F64),
        "x/d": lambda _amax, d, _h, _n: d,
        "x/half": lambda _amax, _d, h, _n: f16_to_f32(h),
    }
)

DIVISIONS = ("x/d", "x/half")
"""The inverses that elements are divided by."""


def _floor_plus_half(v: Array) -> Array:
    return np.floor(v.astype(F64) + 0.5)


# Q8A8-QNT-4: roundf, halves away from zero

ROUNDINGS: Table = MappingProxyType(
    {
        "half-away": lambda v: round_half_away(v) if v.dtype == F32 else np.trunc(v + np.copysign(0.5, v)),
        "half-even": lambda v: round_half_even(v) if v.dtype == F32 else np.rint(v),
        "half-up": _floor_plus_half,
        "half-down": lambda v: -_floor_plus_half(-v),
        "half-toward-zero": lambda v: np.copysign(np.ceil(np.abs(v.astype(F64)) - 0.5), v),
        "add-half": lambda v: np.trunc(v + np.copysign(F32(0.5), v)),
        "floor-add-half": lambda v: np.floor(v + F32(0.5)),
        "truncate-add-half": lambda v: np.trunc(v + F32(0.5)),
        "offset-add-half": lambda v: np.trunc(v + F32(128.5)) - F32(128),
        "truncate": np.trunc,
        "floor": np.floor,
        "ceil": np.ceil,
    }
)


def _wrapped(v: Array, _x: Array) -> Array:
    """Convert by way of int32, as C does: its low byte, and 0 for a NaN."""
    whole = np.clip(np.where(np.isnan(v), 0.0, v.astype(F64)), -(2.0**31), 2.0**31 - 1)
    return whole.astype(np.int64).astype(np.int8)


def _saturated(v: Array, _x: Array) -> Array:
    """Convert as x86 does: infinities and NaNs to INT32_MIN, and the pack saturates."""
    return np.where(np.isfinite(v), np.clip(np.nan_to_num(v), -128, 127), -128).astype(np.int8)


def _clipped(low: int) -> Callable[[Array, Array], Array]:
    return lambda v, _x: np.clip(np.nan_to_num(v), low, 127).astype(np.int8)


def _lowest(v: Array, x: Array) -> Array:
    q = _wrapped(v, x)
    return np.where((q == -127) & (x < 0), -128, q).astype(np.int8)


# Q8A8-QNT-5: nothing is outside int8. "undefined" gives what C mostly gives; its domain ends there.

CONVERSIONS: Table = MappingProxyType(
    {
        "undefined": _wrapped,
        "saturate": _saturated,
        "wrap": _wrapped,
        "clip-127": _clipped(-127),
        "clip-128": _clipped(-128),
        "lowest-128": _lowest,
        "magnitude": lambda v, x: np.abs(_wrapped(v, x)),
    }
)
