"""Zeros of both signs, and blocks so small that the stored scale is zero although d is not."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Final

from q8a8_golden.generate.draft import Draft, activation, quantize_row, rules
from q8a8_golden.generate.numbers import down, f32, minus, near, power, up
from q8a8_golden.oracle import F32

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["TOPIC", "drafts"]

TOPIC: Final = "quantize/zero"

_ABOUT: Final = rules("QNT-6")
_MINUS_ZERO: Final = F32.sign


def drafts() -> list[Draft]:
    """Give zero blocks, zeros in other blocks, and the edge where h becomes zero; rows and activations."""
    return [*_zeros(), *_vanishing(), *_empty()]


def _both(name: str, why: str, xs: Sequence[int], about: tuple[str, ...] = _ABOUT) -> list[Draft]:
    """Ask both quantizers: the block rows, and the activations with all elements under one scale."""
    return [
        quantize_row(f"{TOPIC}/{name}", why, about, xs),
        activation(f"{TOPIC}/{name}-activation", why, about, xs),
    ]


def _zeros() -> list[Draft]:
    one = f32(1)
    return [
        *_both(
            "all-plus",
            "Dividing by a zero scale gives 0 / 0 and a NaN, whose conversion is any integer.",
            [0] * 32,
        ),
        *_both(
            "all-minus",
            "A scale taken from the element itself is -0 here; the specification's is +0.",
            [_MINUS_ZERO] * 32,
        ),
        *_both(
            "both-signs",
            "A maximum found by comparing signed values may leave -0 as the scale.",
            [0, _MINUS_ZERO] * 16,
        ),
        *_both(
            "among-others",
            "Zeros of both signs quantize to 0; rounding by adding a signed 0.5 may turn -0 into -1.",
            [0, _MINUS_ZERO, one, minus(one)] * 8,
        ),
        quantize_row(
            f"{TOPIC}/between-blocks",
            "A zero block keeps the inverse of the one before, or gives its own to the one after.",
            rules("QNT-6", "QNT-7"),
            [*[one] * 32, *[0] * 32, *[minus(one)] * 32, *[_MINUS_ZERO] * 32, *[f32(3)] * 32],
        ),
        quantize_row(
            f"{TOPIC}/rows-of-zero-blocks",
            "A kernel that skips zero blocks leaves in the output what was there before.",
            rules("QNT-6"),
            [0] * 32 * 5,
        ),
    ]


def _vanishing() -> list[Draft]:
    """Blocks at both sides of amax / 127 = 2^-25, and down to the smallest f32."""
    edge = f32(127 * power(-25))
    made = []
    for name, amax, what in (
        (
            "scale-at-edge",
            edge,
            "d = 2^-25 is not zero but h is: a test of d, or of amax, keeps codes of up to 127",
        ),
        (
            "scale-below-edge",
            down(edge),
            "d is below 2^-25 and h is zero: a test of d keeps codes of up to 127",
        ),
        (
            "scale-above-edge",
            up(edge),
            "h is the smallest half, 2^-24, and the codes are those of amax, not of h",
        ),
        (
            "scale-far-below",
            near(Fraction(1, 10**12)),
            "d is a normal f32 and h is zero: a test of d keeps codes",
        ),
        (
            "smallest-normal",
            f32(power(-126)),
            "d is a subnormal f32, and h is zero: so is every code",
        ),
        (
            "inverse-overflows",
            f32(127 * power(-128)),
            "1 / d overflows to infinity, and an infinity times 0 is a NaN",
        ),
        ("subnormal", 0x00000190, "amax is a subnormal f32, and x / d gives a code beyond 127"),
        ("half-of-subnormal", 0x0000003F, "d rounds to zero in f32, and x / d divides by zero"),
        (
            "smallest-subnormal",
            0x00000001,
            "amax is the smallest f32 and d is zero, and 127 / amax overflows",
        ),
    ):
        exponent = amax >> 23
        smaller = amax - (2 << 23) if exponent > 2 else amax // 4
        xs = [smaller, minus(amax), 0, minus(smaller), amax, _MINUS_ZERO, *[smaller] * 26]
        made += _both(name, f"{what}.", xs, rules("QNT-3", "QNT-6"))
    return made


def _empty() -> list[Draft]:
    return [
        quantize_row(
            f"{TOPIC}/no-elements",
            "With k = 0 nothing is written: a loop that runs once before it tests writes a block.",
            rules("QNT-7"),
            [],
            spare=68,
        ),
        activation(
            f"{TOPIC}/no-activation",
            "With size = 0 the scale is +0 and no code is written; a maximum of nothing may be -infinity.",
            rules("QNT-9"),
            [],
            spare=32,
        ),
    ]
