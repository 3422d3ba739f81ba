"""quantize_activation_q8_a8: one scale over any number of elements."""

from __future__ import annotations

from fractions import Fraction
from typing import Final

from q8a8_golden.generate.builders.quantize_boundaries import crossing
from q8a8_golden.generate.draft import Draft, activation, rules
from q8a8_golden.generate.numbers import Stream, down, f32, minus, near, power
from q8a8_golden.generate.words import elements

__all__ = ["TOPIC", "drafts"]

TOPIC: Final = "quantize/activation"

_SIZES: Final = (1, 2, 3, 4, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 255, 1000, 4096)

# Repeated cycles of 37 elements: 37 is coprime to vector widths, so an element in a wrong lane is detected.
_CYCLE: Final = 37


def drafts() -> list[Draft]:
    """Build each size with the largest magnitude first, in the middle, last; then single blocks."""
    made = []
    for size in _SIZES:
        plain = _elements(size)
        for where, at in (("first", 0), ("middle", size // 2), ("last", size - 1)):
            if at == 0 and where != "first":
                continue
            xs = list(plain)
            xs[at] = minus(f32(9)) if where == "last" else f32(9)
            made.append(
                activation(
                    f"{TOPIC}/size-{size}-amax-{where}",
                    f"The {where} of {elements(size)} sets the scale: "
                    "one for each 32, or a lost tail, shows.",
                    _about(size),
                    xs,
                )
            )
    made.append(
        activation(
            f"{TOPIC}/scale-is-a-half",
            "Assigning the float to a half's integer type stores the integer 3, not the bits of 3.5.",
            rules("QNT-2", "QNT-9"),
            [minus(f32(7 * 127 * power(-1))), f32(7 * power(-1)), f32(100), 0, minus(f32(441))],
        )
    )
    stream = Stream(32)
    made += [
        activation(
            f"{TOPIC}/as-a-block-{number}",
            "32 elements give what the block quantizer gives: another rounding or inverse shows.",
            _about(32),
            [stream.normal(power(number - 3)) for _ in range(32)],
        )
        for number in range(6)
    ]
    return [*made, *_ties_of_a_block(), *_boundaries(), *_trailing_bytes()]


def _ties_of_a_block() -> list[Draft]:
    """Build 32 elements, most of them k + 0.5 scales with either sign, for three scales."""
    return [
        activation(
            f"{TOPIC}/as-a-block-ties-{name}",
            "32 elements, most of them ties: a fast path for one block that rounds to even shows.",
            rules("QNT-4", "QNT-10"),
            [f32(127 * scale), *(_tie(j, scale) for j in range(31))],
        )
        for name, scale in (("eighth", power(-3)), ("one", power(0)), ("large", power(7)))
    ]


def _tie(number: int, scale: Fraction) -> int:
    tie = f32(Fraction(2 * (number * 4 + number % 3) + 1, 2) * scale)
    return minus(tie) if number % 2 else tie


def _boundaries() -> list[Draft]:
    """Build both sides of every boundary k + 0.5 under one scale, as the rows' cases do."""
    made = []
    for name, amax in (("third", f32(3)), ("tenth", near(Fraction(1, 10))), ("large", near(77777))):
        xs = [x for k in range(127) for x in (crossing(amax, k), minus(down(crossing(amax, k))))]
        why = "Another rounding, or another inverse, moves some boundary k + 0.5 by an ULP."
        made.append(activation(f"{TOPIC}/boundaries-{name}", why, rules("QNT-3", "QNT-4"), [amax, *xs]))
    below = [down(f32(Fraction(2 * k + 1, 2))) for k in (0, 1, 2, 3, 7, 8, 63, 64, 126)]
    why = "Truncating x + 0.5 in f32 turns 0.49999997 into 1: the sum is a tie and rounds up to 1.0."
    signed = [x for each in below for x in (each, minus(each))]
    return [*made, activation(f"{TOPIC}/just-below-half", why, rules("QNT-4"), [f32(127), *signed])]


def _trailing_bytes() -> list[Draft]:
    """Build sizes that are not multiples of a vector, with trailing bytes that must not change."""
    return [
        activation(
            f"{TOPIC}/room-behind-{size}",
            f"{size} codes and trailing bytes: codes stored as whole vectors overwrite them.",
            rules("MEM-2"),
            [f32(127), *(f32(3 * j + 1) for j in range(size - 1))],
            spare=64,
        )
        for size in (1, 5, 13, 31)
    ]


def _about(size: int) -> tuple[str, ...]:
    return rules("QNT-10" if size == 32 else "QNT-9")


def _elements(size: int) -> list[int]:
    cycle = [near((j * 23 % _CYCLE - 18) * power(-2) + power(-9) * (j + 1)) for j in range(_CYCLE)]
    return [cycle[j % _CYCLE] for j in range(size)]
