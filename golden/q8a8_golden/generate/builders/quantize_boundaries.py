"""Rounding boundaries: for every k, the f32 at which f32(x * inv) reaches k + 0.5, and the one before it."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Final

from q8a8_golden import oracle
from q8a8_golden.generate.draft import Draft, quantize_row, rules
from q8a8_golden.generate.numbers import down, f32, first_at_least, minus, near, power
from q8a8_golden.oracle import F32

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["TOPIC", "crossing", "drafts", "spread"]

TOPIC: Final = "quantize/boundaries"

_AMAX: Final[Mapping[str, tuple[int, str]]] = {
    "inverse-is-one": (f32(127), "x * inv is x itself, so nothing but the rounding decides"),
    "inverse-is-127": (f32(1), "every product is rounded"),
    "inverse-rounds-down": (f32(3), "127 / 3 is not an f32, and 1 / f32(3 / 127) is another one"),
    "below-a-power-of-two": (down(f32(2)), "amax has all bits of its significand set"),
    "above-a-power-of-two": (f32(1) + 1, "amax is one ULP above a power of two"),
    "bfloat16": (0x3E4D0000, "amax and many x of real weights have eight significant bits"),
    "decimal": (near(Fraction(1, 10)), "amax is no short binary number"),
    "around-pi": (near(Fraction(355, 113)), "amax is no short binary number"),
    "small-scale": (near(Fraction(127, 30000)), "the stored scale is small but normal"),
    "subnormal-scale": (
        near(Fraction(5, 3) * power(-13)),
        "the stored scale is an f16 subnormal: inv must not use it",
    ),
    "smallest-scale": (
        near(Fraction(127 * 6, 10) * power(-24)),
        "the stored scale is 2^-24, far from amax / 127",
    ),
    "large-scale": (near(Fraction(6000001)), "the stored scale is in the largest binade of f16"),
}


def drafts() -> list[Draft]:
    """Give one case for each amax: all 127 boundaries, one ULP either side, both signs."""
    return [
        quantize_row(
            f"{TOPIC}/{name}",
            f"Another rounding, or another inverse, moves some boundary k + 0.5 by an ULP; here {reason}.",
            rules("QNT-3", "QNT-4"),
            spread(amax, _elements(amax)),
        )
        for name, (amax, reason) in _AMAX.items()
    ]


def crossing(amax: int, k: int) -> int:
    """Give the smallest x > 0 for which f32(x * inv) >= k + 0.5, inv = f32(127 / amax), by the oracle."""
    inverse = oracle.value(near(127 / oracle.value(amax, F32)), F32)
    tie = Fraction(2 * k + 1, 2)

    def reached(x: int) -> bool:
        return oracle.value(near(oracle.value(x, F32) * inverse), F32) >= tie

    return first_at_least(reached, 0, amax)


def _elements(amax: int) -> list[int]:
    xs = []
    for k in range(127):
        x = crossing(amax, k)
        xs += [down(x), x, minus(x), minus(down(x))]
    return xs


def spread(amax: int, xs: Sequence[int]) -> list[int]:
    """Put elements into blocks, 31 in each; amax takes another place and sign in each block."""
    row: list[int] = []
    for number, first in enumerate(range(0, len(xs), 31)):
        block = list(xs[first : first + 31])
        block += [0] * (31 - len(block))
        block.insert(5 * number % 32, minus(amax) if number % 2 else amax)
        row += block
    return row
