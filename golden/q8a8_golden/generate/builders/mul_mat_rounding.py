"""Matrix products whose sums are rounded: any order is right within the bound, in every tile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from q8a8_golden.generate.draft import Draft, mul_mat, rules
from q8a8_golden.generate.numbers import Stream, block, f32, near, power
from q8a8_golden.generate.words import blocks, rows

if TYPE_CHECKING:
    from fractions import Fraction

__all__ = ["TOPIC", "drafts"]

TOPIC: Final = "mul-mat/rounding"

_ABOUT: Final = rules("MUL-5", "ORD-2")


def drafts() -> list[Draft]:
    """Build ordinary matrices, and sums that cancel, or that absorb small terms."""
    return [*_ordinary(), *_cancelling(), *_swallowing()]


def _ordinary() -> list[Draft]:
    """Build matrices like real ones; activations are floats that quantization rounds."""
    made = []
    for m, n, nb in (
        (1, 1, 33),
        (1, 3, 9),
        (4, 1, 17),
        (2, 2, 4),
        (5, 3, 2),
        (9, 2, 8),
        (3, 9, 5),
        (8, 4, 3),
    ):
        stream = Stream(900 + 100 * m + 10 * n + nb)
        ws = [
            b"".join(block(stream.scale(0x1400, 0x27FF), stream.codes()) for _ in range(nb)) for _ in range(m)
        ]
        xs = [[stream.normal() for _ in range(32 * nb)] for _ in range(n)]
        why = (
            f"{blocks(nb)} of {rows(m)} of w by {n} of x: a block lost, or floats kept, is outside the bound."
        )
        made.append(
            mul_mat(f"{TOPIC}/ordinary-{m}-by-{n}-{nb}", why, _ABOUT, ws, xs, k=32 * nb, kind="bound")
        )
    return made


def _block_of_x(stream: Stream, scale: Fraction) -> list[int]:
    """Return a block of floats: scale times integers, of which 127 is one."""
    return [f32(scale * code) for code in (127, *stream.codes()[1:])]


def _cancelling() -> list[Draft]:
    """Build rows of w whose second half cancels the first, except for one code in the last block."""
    made = []
    for m, n, nb in ((2, 2, 16), (1, 1, 40)):
        stream = Stream(1000 + nb)
        half = [_block_of_x(stream, power(stream.between(-6, 2))) for _ in range(nb // 2)]
        last = [f32(127 * power(-9)), *([f32(0)] * 31)]
        ws = []
        for _ in range(m):
            pairs = [(stream.scale(0x2C00, 0x3BFF), stream.codes()) for _ in range(nb // 2)]
            undo = [block(d, [-q for q in codes]) for d, codes in reversed(pairs)]
            ws.append(b"".join([*(block(*pair) for pair in pairs), *undo, block(0x1400, [1, *[0] * 31])]))
        row = [bits for each in [*half, *reversed(half), last] for bits in each]
        why = "Nearly all cancels: sums in half, or another rounding of the scales, are outside the bound."
        made.append(
            mul_mat(f"{TOPIC}/cancelling-{nb}", why, _ABOUT, ws, [row] * n, k=32 * (nb + 1), kind="bound")
        )
    return made


def _swallowing() -> list[Draft]:
    """Build sums in which a large term absorbs the following ones, and is cancelled at the end."""
    stream, nb = Stream(1100), 24
    large = [near(127 * power(12))] * 32
    small = [_block_of_x(stream, power(-4)) for _ in range(nb)]
    rows = [
        b"".join(
            [
                block(0x3C00, [127] * 32),
                *(block(stream.scale(0x2C00, 0x37FF), stream.codes(1, 9)) for _ in range(nb)),
                block(0x3C00, [-127] * 32),
            ]
        )
        for _ in range(3)
    ]
    xs = [bits for each in [large, *small, large] for bits in each]
    why = "One term is so large that others vanish in its last bit: orders differ, within the bound."
    return [
        mul_mat(f"{TOPIC}/swallowing", why, _ABOUT, rows, [xs, xs], k=32 * (nb + 2), kind="bound"),
    ]
