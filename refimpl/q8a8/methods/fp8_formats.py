"""FP8: eight-bit floating-point formats as data, and their one interpreter (rules FP8-1 to FP8-6).

A code is a sign S, an exponent E of e bits and a mantissa M of m bits, and its magnitude the number E·2^m + M
without the sign::

    | S | E ... E | M . M |     value = (-1)^S · 2^(E - bias) · (1 + M·2^-m)      E > 0       FP8-1
      7   6 ..  m   m-1 0               (-1)^S · 2^(1 - bias) · (    M·2^-m)      E = 0

The magnitudes are in the order of the values, so the next larger number is the next code. The formats differ
in the meaning of the largest magnitudes and of the code 0x80 (FP8-2), which a `Format` holds as data::

    format         e m bias  largest           infinity  NaN                 0x80
    e4m3fn         4 3    7  448    (0x7E)     none      0x7F                -0
    e4m3           4 3    7  240    (0x77)     0x78      0x79..0x7F          -0
    e5m2           5 2   15  57344  (0x7B)     0x7C      0x7D..0x7F          -0
    e4m3fnuz       4 3    8  240    (0x7F)     none      0x80                NaN
    e5m2fnuz       5 2   16  57344  (0x7F)     none      0x80                NaN
    e4m3b11fnuz    4 3   11  30     (0x7F)     none      0x80                NaN
    e3m4           3 4    3  15.5   (0x6F)     0x70      0x71..0x7F          -0

Sources: P. Micikevicius et al., "FP8 Formats for Deep Learning", arXiv:2209.05433, section 3 and table 1
(e4m3fn, e5m2); OCP 8-bit Floating Point Specification (OFP8) 1.0, sections 4 and 5 (the same, saturation);
B. Noune et al., "8-bit Numerical Formats for Deep Neural Networks", arXiv:2206.02915 (fnuz); the names are
those of ml_dtypes.

Encoding rounds once, from float32 to the nearest number of the format as if its exponent had no upper end,
ties to the even code (FP8-3); only then does `OVERFLOWS` decide about results that are too large (FP8-4).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import numpy as np

from q8a8.errors import UnknownNameError, require_dtype

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["FORMATS", "OVERFLOWS", "Format", "Overflow", "decode", "encode", "get_format"]


@dataclass(frozen=True)
class Format:
    """One eight-bit floating-point format (FP8-1, FP8-2).

    Parameters
    ----------
    name
        As in ml_dtypes, without its prefix `float8_`.
    exponent_bits, mantissa_bits
        Together 7.
    bias
        The bias of the stored exponent.
    largest_code
        The code of the largest finite number; magnitudes above are special.
    infinity_code
        The code of +infinity, or None where the format has none. All other magnitudes above `largest_code`
        are NaNs.
    nan_code
        The NaN that encoding gives, without its sign.
    negative_zero
        Whether 0x80 is -0. If not, it is the only NaN, and zeros have no sign.
    source
        The document that defines it.
    """

    name: str
    exponent_bits: int
    mantissa_bits: int
    bias: int
    largest_code: int
    infinity_code: int | None
    nan_code: int
    negative_zero: bool
    source: str

    @property
    def overflow_code(self) -> int:
        """The code of an overflow: +infinity, or where there is none, NaN."""
        return self.nan_code if self.infinity_code is None else self.infinity_code

    @property
    def largest(self) -> float:
        """The largest finite number; a float32, exactly."""
        return float(decode(np.array(self.largest_code, np.uint8), self))


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        entry.name: entry
        for entry in (
            Format("e4m3fn", 4, 3, 7, 0x7E, None, 0x7F, True, "OFP8 E4M3; NVIDIA, Intel, Arm"),
            Format("e4m3", 4, 3, 7, 0x77, 0x78, 0x7C, True, "IEEE-754's rules for 4 + 3 bits"),
            Format("e5m2", 5, 2, 15, 0x7B, 0x7C, 0x7E, True, "OFP8 E5M2: IEEE-754's rules for 5 + 2 bits"),
            Format("e4m3fnuz", 4, 3, 8, 0x7F, None, 0x80, False, "Graphcore, AMD (MI300)"),
            Format("e5m2fnuz", 5, 2, 16, 0x7F, None, 0x80, False, "Graphcore, AMD (MI300)"),
            Format("e4m3b11fnuz", 4, 3, 11, 0x7F, None, 0x80, False, "Google's HFP8 (TPU)"),
            Format("e3m4", 3, 4, 3, 0x6F, 0x70, 0x78, True, "IEEE-754's rules for 3 + 4 bits; Amazon"),
        )
    }
)
"""Every format, by name."""


@dataclass(frozen=True)
class Overflow:
    """The treatment of overflow (FP8-4, FP8-5).

    Parameters
    ----------
    name
        The name that callers pass.
    finite, infinite
        The result for a finite number that rounds beyond the largest one, and for an infinity: the
        "largest" finite number, or the "special" code: an infinity, or where the format has none, NaN.
    source
        The software that does so.
    """

    name: str
    finite: Literal["largest", "special"]
    infinite: Literal["largest", "special"]
    source: str


OVERFLOWS: Mapping[str, Overflow] = MappingProxyType(
    {
        entry.name: entry
        for entry in (
            Overflow("nonsaturating", "special", "special", "OFP8 without saturation; ml_dtypes"),
            Overflow("saturating", "largest", "largest", "OFP8 with saturation; gfloat's sat"),
            Overflow("saturating-finite", "largest", "special", "infinities stay visible; none of the peers"),
        )
    }
)
"""The three ways to overflow, by name. (torch 2.13 saturates e4m3fn, and none of its other formats.)"""


def get_format(name: str | Format) -> Format:
    """Look a format up by name; a `Format` is returned as it is.

    Raises
    ------
    UnknownNameError
        listing the names.
    """
    if isinstance(name, Format):
        return name
    if name not in FORMATS:
        raise UnknownNameError("FP8 format", name, FORMATS)
    return FORMATS[name]


def decode(codes: NDArray[np.uint8], format: str | Format) -> NDArray[np.float32]:  # noqa: A002  # the word of the field
    """Turn codes into float32: exact for every number (FP8-1, FP8-2).

    Parameters
    ----------
    codes
        uint8 `[...]`, any of the 256.
    format
        The format, or its name.

    Returns
    -------
    float32 `[...]`; NaN and infinities where the format has them.

    Raises
    ------
    DtypeError, UnknownNameError
        for other arrays, or an unknown format.
    """
    codes = np.asarray(codes)
    require_dtype(codes, np.uint8, "codes")
    return np.asarray(_values(get_format(format))[codes])


@cache
def _values(fmt: Format) -> NDArray[np.float32]:
    """List the values of all 256 codes; the array cannot be written to."""
    codes = np.arange(256)
    sign = np.where(codes < 128, np.float32(1), np.float32(-1))
    magnitude = codes & 0x7F
    exponent, mantissa = magnitude >> fmt.mantissa_bits, magnitude & ((1 << fmt.mantissa_bits) - 1)
    # FP8-1: (2^m·[E > 0] + M) · 2^(max(E, 1) - bias - m): at most 5 bits, exponents far inside float32's.
    significand = mantissa + np.where(exponent > 0, 1 << fmt.mantissa_bits, 0)
    quantum = np.maximum(exponent, 1) - fmt.bias - fmt.mantissa_bits
    values: NDArray[np.float32] = np.ldexp(significand.astype(np.float32), quantum)
    # FP8-2: what lies above the largest number.
    values[magnitude > fmt.largest_code] = np.nan
    if fmt.infinity_code is not None:
        values[magnitude == fmt.infinity_code] = np.inf
    values = np.copysign(values, sign)
    if not fmt.negative_zero:
        values[0x80] = np.nan
    values.flags.writeable = False
    return values


def encode(
    x: NDArray[np.float32],
    format: str | Format,  # noqa: A002  # the word of the field
    overflow: str | Overflow = "nonsaturating",
) -> NDArray[np.uint8]:
    """Round float32 to codes, once: to the nearest number, ties to the even code (FP8-3 to FP8-6).

    For 2^b <= |x| < 2^(b+1) the format's numbers are g = 2^(max(b, 1 - bias) - m) apart, subnormal ones
    included. |x| / g is exact in float32: g is a power of two; for a normal number of the format the quotient
    lies in [2^m, 2^(m+1)), and for smaller x g is at most 2^-6, so that dividing moves x upwards, away from
    float32's own subnormals. Rounding the quotient to an integer n, ties to even, is the only rounding, and::

        magnitude = (max(b, 1 - bias) - (1 - bias))·2^m + n

    is the code: below the normal numbers (b < 1 - bias) it is M = n; otherwise n = 2^m + M, whose leading bit
    adds the 1 that the exponent's field counts from. A carry, n = 2^(m+1), is the next binade's first number,
    and likewise n = 2^m of a subnormal. n is even where the code is, so ties go to the even code.

    Parameters
    ----------
    x
        float32 `[...]`: anything, NaN and infinities too.
    format
        The format, or its name.
    overflow
        The treatment of overflow, or its name.

    Returns
    -------
    uint8 `[...]`.

    Raises
    ------
    DtypeError, UnknownNameError
        for other arrays, or an unknown format or overflow.
    """
    x = np.asarray(x)
    require_dtype(x, np.float32, "x")
    fmt, policy = get_format(format), _get_overflow(overflow)
    m, lowest = fmt.mantissa_bits, 1 - fmt.bias
    finite = np.isfinite(x)
    magnitude = np.where(finite, np.abs(x), np.float32(0))
    # frexp: |x| = f·2^(b+1) with 1/2 <= f < 1; for 0 it gives no exponent, and any low one serves.
    binade = np.where(magnitude > 0, np.frexp(magnitude)[1] - 1, lowest)
    binade = np.maximum(binade, lowest)
    n = np.rint(np.ldexp(magnitude, m - binade))
    code = ((binade - lowest) << m) + n.astype(np.int32)
    # FP8-4: overflow is decided on the rounded number.
    largest, special = fmt.largest_code, fmt.overflow_code
    code = np.where(code > largest, largest if policy.finite == "largest" else special, code)
    # FP8-5: infinities, and NaN.
    code = np.where(np.isinf(x), largest if policy.infinite == "largest" else special, code)
    code = np.where(np.isnan(x), fmt.nan_code, code)
    # FP8-6: the sign, also of zeros and NaNs, unless the format has none for them.
    signed = np.signbit(x) if fmt.negative_zero else np.signbit(x) & (code > 0)
    return np.asarray(code | np.where(signed, 0x80, 0)).astype(np.uint8)


def _get_overflow(overflow: str | Overflow) -> Overflow:
    if isinstance(overflow, Overflow):
        return overflow
    if overflow not in OVERFLOWS:
        raise UnknownNameError("overflow", overflow, OVERFLOWS)
    return OVERFLOWS[overflow]
