"""quantize_activation_q8_a8: one scale over any number of elements."""

from __future__ import annotations

from typing import Final

from q8a8_golden.draft import Draft, activation, rules
from q8a8_golden.numbers import Stream, f32, minus, near, power

__all__ = ["TOPIC", "drafts"]

TOPIC: Final = "quantize/activation"

_SIZES: Final = (1, 2, 3, 4, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 255, 1000, 4096)

# 37 elements over and over: 37 shares no factor with a vector's width, so an element in the wrong lane shows.
_CYCLE: Final = 37


def drafts() -> list[Draft]:
    """Give each size with the largest magnitude first, in the middle, last; then single blocks."""
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
                    f"The {where} of {size} elements sets the scale: one for each 32, or a lost tail, shows.",
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
    return made


def _about(size: int) -> tuple[str, ...]:
    return rules("QNT-10" if size == 32 else "QNT-9")


def _elements(size: int) -> list[int]:
    cycle = [near((j * 23 % _CYCLE - 18) * power(-2) + power(-9) * (j + 1)) for j in range(_CYCLE)]
    return [cycle[j % _CYCLE] for j in range(size)]
