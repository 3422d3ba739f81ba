"""Dot products that are rounded: any result within the bound is right; the scalar bits are recorded too."""

from __future__ import annotations

from typing import Final

from q8a8_golden.generate.draft import Draft, dot, rules
from q8a8_golden.generate.numbers import Stream, block
from q8a8_golden.generate.words import blocks

__all__ = ["TOPIC", "drafts"]

TOPIC: Final = "dot/rounding"

_ABOUT: Final = rules("DOT-3", "ORD-2")
_COUNTS: Final = (
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    9,
    12,
    15,
    16,
    17,
    24,
    31,
    32,
    33,
    48,
    63,
    64,
    65,
    127,
    128,
    255,
    256,
    257,
)


def drafts() -> list[Draft]:
    """Build ordinary rows, scales of every binade, sums that cancel, and sums that absorb small terms."""
    return [*_ordinary(), *_wide(), *_cancelling(), *_swallowing(), *_long_products()]


def _ordinary() -> list[Draft]:
    """Build rows with scales like those of real weights and activations; long rows are cycles of blocks."""
    made = []
    for nb in _COUNTS:
        stream = Stream(400 + nb)
        vx = _cycle([block(stream.scale(0x1400, 0x27FF), stream.codes()) for _ in range(min(nb, 7))], nb)
        vy = _cycle([block(stream.scale(0x2000, 0x33FF), stream.codes()) for _ in range(min(nb, 5))], nb)
        why = f"{blocks(nb)} of ordinary rows: a block lost, or counted twice, is far outside the bound."
        made.append(dot(f"{TOPIC}/ordinary-{nb}", why, _ABOUT, vx, vy, kind="bound"))
    return made


def _cycle(blocks: list[bytes], nb: int) -> bytes:
    return b"".join(blocks[b % len(blocks)] for b in range(nb))


def _wide() -> list[Draft]:
    made = []
    for nb in (2, 9, 40):
        stream = Stream(500 + nb)
        rows = [
            b"".join(
                block(stream.scale(0x0001, 0x7BFF) | stream.word() & 0x8000, stream.codes())
                for _ in range(nb)
            )
            for _ in range(2)
        ]
        why = "Scales of every binade and sign: the largest terms decide, and none may overflow."
        made.append(dot(f"{TOPIC}/every-binade-{nb}", why, rules("DOT-8", "ORD-2"), *rows, kind="bound"))
        rows = [
            b"".join(block(stream.scale(0x0001, 0x03FF), stream.codes()) for _ in range(nb)) for _ in range(2)
        ]
        why = "All scales are subnormal halves: flushed to zero, the sum is 0 and outside the bound."
        made.append(
            dot(
                f"{TOPIC}/subnormal-scales-{nb}",
                why,
                rules("DOT-8", "HLF-2"),
                *rows,
                kind="bound",
            )
        )
    return made


def _cancelling() -> list[Draft]:
    """Build rows whose second half cancels the first, except for one code in the last block."""
    made = []
    for name, nb, mirrored in (("in-turn", 16, False), ("at-the-end", 16, True), ("long", 64, True)):
        stream = Stream(600 + nb + mirrored)
        pairs = [(stream.scale(0x2C00, 0x3BFF), stream.scale(0x2C00, 0x3BFF)) for _ in range(nb // 2)]
        codes = [(stream.codes(-127, 126), stream.codes()) for _ in range(nb // 2)]
        first = [(block(dx, x), block(dy, y)) for (dx, dy), (x, y) in zip(pairs, codes, strict=True)]
        undo = [
            (block(dx, [-q for q in x]), block(dy, y)) for (dx, dy), (x, y) in zip(pairs, codes, strict=True)
        ]
        if mirrored:
            order = [*first, *reversed(undo)]
        else:
            order = [each for pair in zip(first, undo, strict=True) for each in pair]
        last = (block(0x1400, [1, *[0] * 31]), block(0x1400, [1, *[0] * 31]))
        vx, vy = (b"".join(each[side] for each in [*order, last]) for side in (0, 1))
        why = (
            "Nearly all cancels: the relative error has no limit, the bound on the absolute one still holds."
        )
        made.append(dot(f"{TOPIC}/cancelling-{name}", why, _ABOUT, vx, vy, kind="bound"))
    return made


def _swallowing() -> list[Draft]:
    """Build sums in which a large term absorbs the following ones, in some rows cancelled at the end."""
    made = []
    for name, nb, undone in (("after", 40, False), ("until-undone", 40, True), ("odd", 41, True)):
        stream = Stream(700 + nb)
        big, small = (
            (0x7000, [127] * 32),
            [(stream.scale(0x0C00, 0x17FF), stream.codes(1, 9)) for _ in range(nb)],
        )
        rows_x = [big, *small, *([(0xF000, [127] * 32)] if undone else [])]
        rows_y = [(0x3C00, codes if b else [127] * 32) for b, (_, codes) in enumerate(rows_x)]
        vx = b"".join(block(scale, codes) for scale, codes in rows_x)
        vy = b"".join(block(scale, codes) for scale, codes in rows_y)
        why = "One term is so large that others vanish in its last bit: orders differ, within the bound."
        made.append(dot(f"{TOPIC}/swallowing-{name}", why, _ABOUT, vx, vy, kind="bound"))
    return made


def _long_products() -> list[Draft]:
    """Build products of long scales and sums, which arithmetic in f16 changes."""
    made = []
    for nb in (1, 2, 5, 16):
        stream = Stream(800 + nb)
        vx = b"".join(block(stream.scale(0x3C01, 0x3FFF) | 1, stream.codes(64, 127)) for _ in range(nb))
        vy = b"".join(block(stream.scale(0x3C01, 0x3FFF) | 1, stream.codes(64, 127)) for _ in range(nb))
        why = "dx * dy has 22 bits and all terms are positive: an f16 product is far outside the bound."
        made.append(dot(f"{TOPIC}/long-products-{nb}", why, rules("DOT-2"), vx, vy, kind="bound"))
    return made
