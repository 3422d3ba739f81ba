"""The exact oracle: the specification in plain integers and fractions, with no floating point anywhere.

A number is either a bit pattern (an ``int`` of 16 or 32 bits) or a ``Fraction``. Every rounding is one call
of `nearest`, which rounds a fraction to a binary format; nothing is rounded by the machine. The module
imports neither NumPy nor other modules of this project, so that it is independent of both.

It is slow (some ten microseconds an element): it is written to be read and checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "F16",
    "F32",
    "F64",
    "LANE_FOLD_ROUNDINGS",
    "PRODUCT_UNIT",
    "RECIPES",
    "V1",
    "V2_ACTIVATION",
    "V2_WEIGHT",
    "Binary",
    "Layout",
    "Quantized",
    "Recipe",
    "amax",
    "block_sums",
    "dequantize",
    "dot",
    "exact_dot",
    "f16_from_f32",
    "f32_from_f16",
    "finite",
    "half_away",
    "half_even",
    "in_domain",
    "magnitude",
    "nearest",
    "order_independent",
    "parse",
    "quantize",
    "quantize_row",
    "value",
    "within_bound",
]


# ---- Binary formats -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Binary:
    """An IEEE-754 binary format: `width` bits, a significand of `precision` bits with the hidden one."""

    width: int
    precision: int

    @cached_property
    def fraction_bits(self) -> int:
        """The stored bits of the significand."""
        return self.precision - 1

    @cached_property
    def emin(self) -> int:
        """The exponent of the smallest normal number, which the subnormals share."""
        return 2 - (1 << (self.width - self.precision - 1))

    @cached_property
    def infinity(self) -> int:
        """The bits of +infinity: the exponent field full, the fraction empty."""
        return ((1 << (self.width - self.precision)) - 1) << self.fraction_bits

    @cached_property
    def sign(self) -> int:
        """The sign bit."""
        return 1 << (self.width - 1)

    @cached_property
    def max_finite(self) -> int:
        """The bits of the largest finite number."""
        return self.infinity - 1


F16 = Binary(16, 11)
F32 = Binary(32, 24)
F64 = Binary(64, 53)


def finite(bits: int, fmt: Binary) -> bool:
    """Return whether `bits` is neither an infinity nor a NaN."""
    return bits & (fmt.sign - 1) < fmt.infinity


@lru_cache(maxsize=1 << 16)
def value(bits: int, fmt: Binary) -> Fraction:
    """Return the exact value of a finite pattern; both zeros are 0. ValueError for an infinity or a NaN."""
    if not finite(bits, fmt):
        raise ValueError(f"{bits:#0{2 + fmt.width // 4}x} is not finite")
    exponent = (bits & (fmt.sign - 1)) >> fmt.fraction_bits
    significand = bits & ((1 << fmt.fraction_bits) - 1)
    if exponent:  # a normal number: the hidden bit is one, and exponent field 1 means emin
        significand |= 1 << fmt.fraction_bits
        exponent -= 1
    power = exponent + fmt.emin - fmt.fraction_bits
    if bits & fmt.sign:
        significand = -significand
    return Fraction(significand << power) if power >= 0 else Fraction(significand, 1 << -power)


def nearest(number: Fraction, fmt: Binary, *, negative_zero: bool = False) -> int:
    """Round to the nearest number of a format, ties to even, subnormals and overflow included.

    A zero or an underflow keeps the number's sign; a number that is 0 itself is +0 unless `negative_zero`.
    """
    sign = fmt.sign if number < 0 or (number == 0 and negative_zero) else 0
    top, bottom = abs(number.numerator), number.denominator
    if not top:
        return sign
    # exponent = floor(log2(top / bottom)), but at least emin: subnormals have the spacing of emin.
    exponent = top.bit_length() - bottom.bit_length()
    if top << max(-exponent, 0) < bottom << max(exponent, 0):
        exponent -= 1
    exponent = max(exponent, fmt.emin)
    power = exponent - fmt.fraction_bits
    significand = _divide_even(top << max(-power, 0), bottom << max(power, 0))
    # The hidden bit adds one to the exponent field; a carry out of the significand increments it correctly.
    bits = ((exponent - fmt.emin) << fmt.fraction_bits) + significand
    return sign | min(bits, fmt.infinity)


def _divide_even(top: int, bottom: int) -> int:
    """Round top / bottom (both positive) to an integer, ties to even."""
    quotient, rest = divmod(top, bottom)
    if 2 * rest > bottom or (2 * rest == bottom and quotient & 1):
        quotient += 1
    return quotient


def half_even(number: Fraction) -> int:
    """Round to the nearest integer, a tie to the even one."""
    rounded = _divide_even(abs(number.numerator), number.denominator)
    return -rounded if number < 0 else rounded


def half_away(number: Fraction) -> int:
    """Round to the nearest integer, a tie away from zero: C's ``roundf``."""
    rounded = (2 * abs(number.numerator) + number.denominator) // (2 * number.denominator)
    return -rounded if number < 0 else rounded


def f16_from_f32(bits: int) -> int:
    """Convert a finite f32 to f16, one rounding (Q8A8-HLF-1, Q8A8-HLF-2, Q8A8-HLF-4)."""
    return nearest(value(bits, F32), F16, negative_zero=bool(bits & F32.sign))


def f32_from_f16(bits: int) -> int:
    """Convert a finite f16 to f32, exactly (Q8A8-HLF-3)."""
    return nearest(value(bits, F16), F32, negative_zero=bool(bits & F16.sign))


# ---- Quantization ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recipe:
    """The arithmetic of a quantizer: the factor or divisor of x, the zero test, the rounding of codes."""

    inverse: Literal["127/amax", "1/d", "x/d"]
    zero_when: Literal["h", "d", "amax", "never"]
    rounding: Literal["away", "even"]
    saturating: bool = False  # x86: values outside int32 become its minimum, which packs to -128


RECIPES: Mapping[str, Recipe] = {
    "design": Recipe("127/amax", "h", "away"),
    "ggml-ref": Recipe("1/d", "d", "away"),
    "ggml-neon": Recipe("1/d", "d", "even"),
    "ggml-avx2": Recipe("127/amax", "amax", "even", saturating=True),
    "division": Recipe("x/d", "never", "away"),
}


@dataclass(frozen=True)
class Quantized:
    """A stored scale (f16 bits) and its codes (integers in the int8 range)."""

    scale: int
    codes: tuple[int, ...]


def amax(xs: Sequence[int]) -> int:
    """Return the bits of max |x| over f32 patterns, +0 for none. Magnitudes order as integers."""
    return max((x & (F32.sign - 1) for x in xs), default=0)


def in_domain(xs: Sequence[int]) -> bool:
    """Return whether the inputs are in the domain: all finite, and amax < 65520 * 127 (Q8A8-QNT-11)."""
    largest = amax(xs)
    return finite(largest, F32) and value(largest, F32) < 65520 * 127


def quantize(xs: Sequence[int], recipe: str = "design") -> Quantized | None:
    """Quantize any number of f32 patterns with one scale (Q8A8-QNT-1 to Q8A8-QNT-6, Q8A8-QNT-9).

    Return None where the recipe's arithmetic is undefined: 1 / d overflows, a division by zero, a code
    outside int8. The ``design`` recipe is defined on its whole domain.
    """
    rule = RECIPES[recipe]
    top = value(amax(xs), F32)
    d = value(nearest(Fraction(top, 127), F32), F32)  # d = f32(amax / 127)
    scale = nearest(d, F16)  # h = f16(d)
    if not finite(scale, F16):
        return None
    zero = {"h": value(scale, F16) == 0, "d": d == 0, "amax": top == 0, "never": False}[rule.zero_when]
    if zero:
        return Quantized(scale, (0,) * len(xs))
    divisor = top if rule.inverse == "127/amax" else d
    if divisor == 0 and xs:
        return None
    codes = _codes(xs, rule, divisor) if xs else ()
    return None if codes is None else Quantized(scale, codes)


def _codes(xs: Sequence[int], rule: Recipe, divisor: Fraction) -> tuple[int, ...] | None:
    """Scale and round each element; None if a step overflows f32 or a code is outside int8."""
    if rule.inverse == "x/d":
        factor = 1 / divisor  # exact: the one rounding is that of the quotient
    else:
        inverse = nearest((127 if rule.inverse == "127/amax" else 1) / divisor, F32)
        if not finite(inverse, F32):  # every product is then an infinity, or 0 * infinity = NaN
            return (-128,) * len(xs) if rule.saturating else None
        factor = value(inverse, F32)  # inv = f32(127 / amax), or f32(1 / d)
    to_integer = half_away if rule.rounding == "away" else half_even
    codes = []
    for x in xs:
        scaled = nearest(value(x, F32) * factor, F32)  # f32(x * inv), or f32(x / d)
        if not finite(scaled, F32):
            return None
        codes.append(to_integer(value(scaled, F32)))
    return tuple(codes) if all(-128 <= code <= 127 for code in codes) else None


def quantize_row(xs: Sequence[int], recipe: str = "design") -> bytes | None:
    """Quantize a row of 32 * nb f32 patterns to nb blocks (Q8A8-LAY-1, Q8A8-LAY-2); None as `quantize`."""
    if len(xs) % 32:
        raise ValueError(f"a row of {len(xs)} elements is not a whole number of blocks")
    row = bytearray()
    for first in range(0, len(xs), 32):
        block = quantize(xs[first : first + 32], recipe)
        if block is None:
            return None
        row += block.scale.to_bytes(2, "little") + bytes(code & 0xFF for code in block.codes)
    return bytes(row)


# ---- Blocks in memory -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Layout:
    """The offsets of a block's scale in use and of its 32 codes, and its size, in bytes."""

    size: int
    scale: int
    codes: int


V1 = Layout(size=34, scale=0, codes=2)
V2_WEIGHT = Layout(size=36, scale=0, codes=4)
V2_ACTIVATION = Layout(size=36, scale=2, codes=4)


def parse(data: bytes, layout: Layout = V1) -> list[Quantized]:
    """Split bytes into blocks (Q8A8-LAY-1 to -3); a v2 block's other scale is ignored (Q8A8-LAY-5)."""
    if len(data) % layout.size:
        raise ValueError(f"{len(data)} bytes are not a whole number of {layout.size}-byte blocks")
    blocks = []
    for start in range(0, len(data), layout.size):
        scale = int.from_bytes(data[start + layout.scale : start + layout.scale + 2], "little")
        raw = data[start + layout.codes : start + layout.codes + 32]
        blocks.append(Quantized(scale, tuple((byte ^ 0x80) - 0x80 for byte in raw)))
    return blocks


def dequantize(data: bytes, layout: Layout = V1) -> list[int]:
    """Return the f32 patterns of a row of blocks: y_j = f32(h) * q_j, exact (Q8A8-DEQ-1, Q8A8-DEQ-2)."""
    row = []
    for block in parse(data, layout):
        h = value(block.scale, F16)
        for code in block.codes:
            # A zero has the sign of the product, where the code 0 counts as +0.
            negative = bool(block.scale & F16.sign) != (code < 0)
            row.append(nearest(h * code, F32, negative_zero=negative))
    return row


# ---- Dot product ----------------------------------------------------------------------------------
# Every finite f16 is a whole multiple of 2^-24, so every product of two scales and every sum of products is
# a whole multiple of 2^-48. Rounded to 24 bits it still is one (nothing here is below f32's normal range), so
# the dot product is integer arithmetic in this unit.

PRODUCT_UNIT = Fraction(1, 1 << 48)

LANE_FOLD_ROUNDINGS = 64
"""The constant in Q8A8-ORD-2's m = nb + constant: folding up to 64 partial sums."""


def _scale_units(bits: int) -> int:
    """Return a finite f16 as a multiple of 2^-24."""
    return int(value(bits, F16) * (1 << 24))


def _to_24_bits(units: int) -> int:
    """Round an integer to 24 significant bits, ties to even: f32() of a multiple of 2^-48."""
    spare = max(abs(units).bit_length() - 24, 0)
    rounded = _divide_even(abs(units), 1 << spare) << spare
    return -rounded if units < 0 else rounded


def _pairs(vx: bytes, vy: bytes, *, v2: bool) -> list[tuple[int, Quantized, Quantized]]:
    """Return (dx * dy in 2^-48, x block, y block) for every block of two rows."""
    xs = parse(vx, V2_WEIGHT if v2 else V1)
    ys = parse(vy, V2_ACTIVATION if v2 else V1)
    return [(_scale_units(x.scale) * _scale_units(y.scale), x, y) for x, y in zip(xs, ys, strict=True)]


def block_sums(vx: bytes, vy: bytes, *, v2: bool = False) -> list[int]:
    """Return sumi of every block: the exact integer dot product of its codes (Q8A8-DOT-1)."""
    return [_sumi(x, y) for _, x, y in _pairs(vx, vy, v2=v2)]


def _sumi(x: Quantized, y: Quantized) -> int:
    return sum(qx * qy for qx, qy in zip(x.codes, y.codes, strict=True))


def dot(vx: bytes, vy: bytes, *, v2: bool = False) -> int:
    """Return the f32 bits of two rows' dot product in scalar order (Q8A8-DOT-2, Q8A8-DOT-3, Q8A8-DOT-9)."""
    total = 0
    for scales, x, y in _pairs(vx, vy, v2=v2):
        term = _to_24_bits(_sumi(x, y) * _to_24_bits(scales))  # f32(f32(sumi) * f32(dx * dy))
        total = _to_24_bits(total + term)  # sum = f32(sum + term)
    return nearest(total * PRODUCT_UNIT, F32)  # exact; a zero sum is +0, as +0 + -0 and a - a are


def exact_dot(vx: bytes, vy: bytes, *, v2: bool = False) -> int:
    """Return the dot product without any rounding, as a multiple of 2^-48."""
    return sum(scales * _sumi(x, y) for scales, x, y in _pairs(vx, vy, v2=v2))


def magnitude(vx: bytes, vy: bytes, *, v2: bool = False) -> int:
    """Return sum |dx dy| sum |qx qy|, to which Q8A8-ORD-2's bound is relative, as a multiple of 2^-48."""
    return sum(
        abs(scales) * sum(abs(qx * qy) for qx, qy in zip(x.codes, y.codes, strict=True))
        for scales, x, y in _pairs(vx, vy, v2=v2)
    )


def order_independent(vx: bytes, vy: bytes, *, v2: bool = False) -> bool:
    """Return whether every order, fused or not, must give the same bits (Q8A8-DOT-4): a sufficient condition.

    Let g be the largest power of two that divides every product dx * dy. Every partial sum, in any order and
    any lanes, is a multiple of g and at most `magnitude` in size. If magnitude <= 2^24 g each has 24 bits or
    fewer: nothing is rounded, and the result is exact (so are sumi * dx and sumi * dy).

    A zero result is excluded where a product of scales is negative, or -0: an accumulator that starts from
    its first term instead of +0 may then give -0.
    """
    pairs = _pairs(vx, vy, v2=v2)
    bits = 0
    for scales, _, _ in pairs:
        bits |= abs(scales)
    unit = bits & -bits
    if magnitude(vx, vy, v2=v2) > unit << 24:
        return False
    if exact_dot(vx, vy, v2=v2):
        return True
    return not any((x.scale ^ y.scale) & F16.sign for _, x, y in pairs)


def within_bound(bits: int, exact: int, size: int, m: int) -> bool:
    """Return whether |f32 - exact| <= ((1+u)^m - 1) * size, u = 2^-24, both in 2^-48 (Q8A8-ORD-2)."""
    if not finite(bits, F32):
        return False
    error = abs(value(bits, F32) - exact * PRODUCT_UNIT)
    factor = Fraction(((1 << 24) + 1) ** m, 1 << (24 * m)) - 1
    return error <= factor * size * PRODUCT_UNIT
