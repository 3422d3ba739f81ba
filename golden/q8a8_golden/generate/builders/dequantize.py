"""Dequantization: every code with many scales, every kind of scale with some codes."""

from __future__ import annotations

from typing import Final

from q8a8_golden.generate.draft import Draft, dequantize, rules
from q8a8_golden.generate.numbers import block
from q8a8_golden.generate.words import blocks

__all__ = ["TOPIC", "drafts"]

TOPIC: Final = "dequantize/values"

_SCALES: Final = {
    "one": (0x3C00, "the product is the code itself"),
    "minus-one": (0xBC00, "a scale may be negative, and then a zero code gives -0"),
    "third": (
        0x3555,
        "the scale has eleven bits and the product nineteen: too many for f16",
    ),
    "largest": (0x7BFF, "the product is beyond every half: arithmetic in f16 overflows"),
    "minus-largest": (0xFBFF, "the product is beyond every half, with the other sign"),
    "smallest-normal": (0x0400, "the scale is the smallest normal half"),
    "largest-subnormal": (0x03FF, "the scale is a subnormal half: flushing it gives zeros"),
    "odd-subnormal": (0x0155, "the scale is a subnormal half with a long significand"),
    "smallest": (0x0001, "the scale is 2^-24: flushing it gives zeros"),
    "minus-smallest": (0x8001, "the scale is -2^-24: flushing it gives zeros"),
    "zero": (0x0000, "the sign of the zero is that of the code"),
    "minus-zero": (0x8000, "the sign of the zero is the opposite of that of the code"),
    "all-bits": (0x7BFE, "products have many bits, the largest exponent"),
    "just-above-one": (0x3C01, "an ULP above one is lost when the product is rounded to f16"),
}


def drafts() -> list[Draft]:
    """Build all 256 codes with each scale, then scales of every binade, and the empty row."""
    made = [
        dequantize(
            f"{TOPIC}/all-codes-scale-{name}",
            f"All 256 codes, -128 too: {why}.",
            rules("DEQ-2", "HLF-2") if 0 < scale & 0x7FFF < 0x400 else rules("DEQ-1", "DEQ-2"),
            b"".join(block(scale, range(first, first + 32)) for first in range(-128, 128, 32)),
        )
        for name, (scale, why) in _SCALES.items()
    ]
    normal = [e << 10 | f for e in range(1, 31) for f in (0, 1, 0x155, 0x2AA, 0x3FF)]
    subnormal = [1 << f for f in range(10)] + [0x003, 0x155, 0x2AA, 0x3FE, 0x3FF]
    for name, sign in (("positive", 0), ("negative", 0x8000)):
        for kind, halves, why in (
            (
                "normal",
                normal,
                "Scales of every binade: a conversion with a wrong bias or range fails in some",
            ),
            (
                "subnormal",
                subnormal,
                "Subnormal scales of every length: flushed, or not normalized, they fail",
            ),
        ):
            blocks = b"".join(block(sign | h, [1, -1, 127, -127, *[0] * 28]) for h in halves)
            about = rules("HLF-3" if kind == "normal" else "HLF-2")
            made.append(dequantize(f"{TOPIC}/every-{kind}-{name}", f"{why}.", about, blocks))
    lanes = b"".join(
        block(0x3C00 + 0x400 * b, [(37 * j + 11 * b) % 255 - 127 for j in range(32)]) for b in range(5)
    )
    return [
        *made,
        *_counts(),
        dequantize(
            f"{TOPIC}/lanes",
            "Neighbouring blocks differ in every code and in their scales: a swapped lane or block shows.",
            rules("LAY-1", "LAY-2"),
            lanes,
        ),
        dequantize(
            f"{TOPIC}/no-elements",
            "With k = 0 nothing is written: a loop that runs once before it tests writes a block.",
            rules("DEQ-3"),
            b"",
            spare=128,
        ),
    ]


def _counts() -> list[Draft]:
    """Build rows of many lengths: different blocks in short ones, one repeated block in long ones."""
    made = []
    for nb in (1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 33):
        row = b"".join(block(0x3C00 + 0x100 * (b % 7), _codes(b % 7)) for b in range(nb))
        why = f"{blocks(nb)}: a loop that is unrolled loses what is left over, or writes too much."
        made.append(dequantize(f"{TOPIC}/count-{nb}", why, rules("LAY-2"), row))
    for nb in (49, 50, 51, 63, 64, 127, 128, 255, 256, 257):
        why = f"{blocks(nb)}: a kernel with a table, or a path, for some lengths only gives up here."
        made.append(dequantize(f"{TOPIC}/long-{nb}", why, rules("ENV-4"), block(0x3C00, _codes(0)) * nb))
    for nb in (1, 2, 3):
        why = f"{blocks(nb)} and trailing bytes: a store of a byte or a vector too many overwrites them."
        row = block(0x3C00, _codes(3)) * nb
        made.append(dequantize(f"{TOPIC}/room-behind-{nb}", why, rules("MEM-2"), row, spare=64))
    return made


def _codes(number: int) -> list[int]:
    """Return 32 codes from 1 to 101, in a different order for each number."""
    return [(37 * j + 11 * number) % 101 + 1 for j in range(32)]
