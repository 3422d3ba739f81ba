"""The position of the largest magnitude: every lane, either sign, this block or its neighbour."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from q8a8_golden import oracle
from q8a8_golden.generate.draft import Draft, quantize_row, rules
from q8a8_golden.generate.numbers import Stream, f32, minus, near, power
from q8a8_golden.generate.words import blocks
from q8a8_golden.oracle import F32

if TYPE_CHECKING:
    from collections.abc import Sequence
    from fractions import Fraction

__all__ = ["TOPIC", "drafts"]

TOPIC: Final = "quantize/amax"

_ABOUT: Final = rules("QNT-1")


def drafts() -> list[Draft]:
    """Build blocks for which a wrong reduction over their elements gives wrong results."""
    one = f32(1)
    made = [
        _each_lane(
            "positive-in-each-lane",
            0,
            "A reduction that skips a lane, often the first or last, loses the maximum.",
        ),
        _each_lane(
            "negative-in-each-lane",
            F32.sign,
            "A maximum of signed values, without |x|, misses a negative element.",
        ),
        quantize_row(
            f"{TOPIC}/all-negative",
            "With no positive element a maximum of signed values is the smallest magnitude, or stays 0.",
            _ABOUT,
            [minus(f32(j + 1)) for j in range(32)],
        ),
        quantize_row(
            f"{TOPIC}/equal-magnitudes",
            "All elements have one magnitude: every code is 127 or -127, and -128 must not appear.",
            rules("QNT-5"),
            [one, minus(one)] * 16,
        ),
        quantize_row(
            f"{TOPIC}/growing-blocks",
            "Each block is sixteen times the one before: a maximum kept over blocks leaves no trace here.",
            rules("QNT-7"),
            _blocks([power(4 * b - 10) for b in range(8)]),
        ),
        quantize_row(
            f"{TOPIC}/shrinking-blocks",
            "Each block is a sixteenth of the one before: a maximum kept over blocks, or of a row, shows.",
            rules("QNT-1", "QNT-7"),
            _blocks([power(-4 * b) for b in range(5)]),
        ),
        quantize_row(
            f"{TOPIC}/large-neighbours",
            "A small block stands between large ones: an element read too far gives a neighbour's maximum.",
            _ABOUT,
            _neighbours(),
        ),
    ]
    for nb in (1, 2, 3, 5, 8, 31, 128):
        stream = Stream(nb)
        xs = [stream.normal() for _ in range(32 * min(nb, 5))]
        row = [xs[j % len(xs)] for j in range(32 * nb)]
        made.append(
            quantize_row(
                f"{TOPIC}/bell-{nb}-blocks",
                f"Ordinary weights, {blocks(nb)}: an unrolled loop forgets some, or mixes their scales.",
                rules("QNT-7", "QNT-8", "LAY-1" if nb == 1 else "LAY-2"),
                row,
            )
        )
    return [*made, *_trailing_bytes()]


def _trailing_bytes() -> list[Draft]:
    """Build short rows with trailing bytes, which must not change."""
    block = [f32(127), *(f32(4 * j + 1) for j in range(31))]
    return [
        quantize_row(
            f"{TOPIC}/room-behind-{nb}",
            f"{blocks(nb)} and trailing bytes: 34 bytes stored as whole vectors overwrite them.",
            rules("MEM-2"),
            block * nb,
            spare=64,
        )
        for nb in (1, 2, 3)
    ]


def _each_lane(name: str, sign: int, why: str) -> Draft:
    """Build 32 blocks: in block j, lane j has the largest magnitude, with this sign."""
    row = []
    stream = Stream(7)
    for lane in range(32):
        block: list[int] = []
        # Only the maximum is tested: blocks with elements that some recipe rounds differently are skipped.
        while not block or len({oracle.quantize(block, recipe) for recipe in oracle.RECIPES}) > 1:
            block = [near(stream.between(-900, 900) * power(-10)) for _ in range(32)]
            block[lane] = f32(1 + lane * power(-5)) ^ sign
        row += block
    return quantize_row(f"{TOPIC}/{name}", why, _ABOUT, row)


def _blocks(sizes: Sequence[Fraction]) -> list[int]:
    row = []
    for b, size in enumerate(sizes):
        row += [near((j * 7 + b * 5) % 32 * size / 31 * (1 - j % 2 * 2)) for j in range(32)]
    return row


def _neighbours() -> list[int]:
    """Return small blocks whose neighbours begin and end with a large element."""
    small = [f32((j + 1) * power(-6)) for j in range(32)]
    large = [f32(100), *[f32(1)] * 30, minus(f32(200))]
    return [*large, *small, *large, *reversed(small), *large]
