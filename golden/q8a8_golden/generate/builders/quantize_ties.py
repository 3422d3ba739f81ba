"""Ties: products that are k + 0.5 exactly, made exact by a power of two or made so by the rounding to f32."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Final

from q8a8_golden import oracle
from q8a8_golden.generate.builders.quantize_boundaries import crossing, spread
from q8a8_golden.generate.draft import Draft, quantize_row, rules
from q8a8_golden.generate.numbers import down, f32, minus, near, power
from q8a8_golden.oracle import F32

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["TOPIC", "drafts"]

TOPIC: Final = "quantize/ties"

_ABOUT: Final = rules("QNT-4")

# amax = 127 * 2^e makes inv = 2^-e: from the smallest scale that there is to the largest power of two.
_EXPONENTS: Final = (-24, -20, -15, -14, -3, -1, 0, 1, 7, 15)


def drafts() -> list[Draft]:
    """Give exact ties at several scales, ties that a rounding makes, and the number just below one half."""
    return [*_exact(), *_rounded(), _below_half(), _codes_exactly()]


def _both_signs(xs: Iterable[int]) -> list[int]:
    return [signed for x in xs for signed in (x, minus(x))]


def _exact() -> list[Draft]:
    made = []
    for e in _EXPONENTS:
        xs = _both_signs(f32(Fraction(2 * k + 1, 2) * power(e)) for k in range(127))
        name = f"scale-2-to-{'minus-' if e < 0 else ''}{abs(e)}"
        why = (
            "Every tie is exact, with both signs: half to even gives even codes, half up other negative ones."
        )
        made.append(quantize_row(f"{TOPIC}/{name}", why, _ABOUT, spread(f32(127 * power(e)), xs)))
    return made


def _rounded() -> list[Draft]:
    """Find x with x * inv < k + 0.5 < the next f32: the rounding of the product makes the tie."""
    made = []
    sources = (
        ("third", f32(3)),
        ("tenth", near(Fraction(1, 10))),
        ("bfloat16", 0x3FB70000),
        ("large", near(77777)),
    )
    for name, amax in sources:
        inverse = oracle.value(near(127 / oracle.value(amax, F32)), F32)
        xs = []
        for k in range(127):
            x = crossing(amax, k)
            if oracle.value(x, F32) * inverse < Fraction(2 * k + 1, 2):
                xs.append(x)
        why = (
            "f32 rounds these products up to k + 0.5: in double, or fused with an addition, they stay below."
        )
        made.append(
            quantize_row(f"{TOPIC}/made-by-rounding-{name}", why, _ABOUT, spread(amax, _both_signs(xs)))
        )
    return made


def _below_half() -> Draft:
    below = [down(f32(Fraction(2 * k + 1, 2))) for k in (0, 1, 2, 3, 7, 8, 63, 64, 126)]
    why = "Truncating x + 0.5 in f32 turns 0.49999997 into 1: the sum is a tie and rounds up to 1.0."
    return quantize_row(f"{TOPIC}/just-below-half", why, _ABOUT, spread(f32(127), _both_signs(below)))


def _codes_exactly() -> Draft:
    xs = _both_signs(f32(Fraction(k, 4)) for k in range(127))
    why = "With a scale of 1/4 every code comes from an input that needs no rounding: each must come back."
    return quantize_row(
        f"{TOPIC}/whole-codes", why, rules("QNT-5", "LAY-1", "LAY-2"), spread(f32(Fraction(127, 4)), xs)
    )
