"""Rows of many lengths in which every block counts, and arguments that are unused with one row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from q8a8_golden.generate.draft import Draft, dot, dot_v2, rules
from q8a8_golden.generate.numbers import Stream, block, block_v2, half, power
from q8a8_golden.generate.words import blocks

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["TOPIC", "cycle", "drafts"]

TOPIC: Final = "dot/blocks"

_COUNTS: Final = (
    *range(1, 18), 19, 22, 23, 31, 32, 33, 34, 35, 63, 64, 65, 127, 128, 129, 254, 255, 256, 257, 258, 1023
)  # fmt: skip
_COUNTS_V2: Final = (1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 19, 27, 31, 32, 33, 127, 128, 255, 256, 257)
_ONE: Final = half(1)


def drafts() -> list[Draft]:
    """Build every block count, single blocks, and strides to be ignored."""
    made = []
    for nb in _COUNTS:
        why = f"{blocks(nb)}, all sums positive: a block left out makes less, one counted twice more."
        # One block tests its layout; a few, that they are adjacent and s is overwritten; more, that all
        # count.
        about = rules("LAY-1") if nb == 1 else rules("LAY-2", "DOT-7") if nb < 4 else rules("DOT-4", "DOT-10")
        made.append(dot(f"{TOPIC}/count-{nb}", why, about, cycle(nb, 7, 1, _v1), cycle(nb, 5, 2, _v1)))
    for nb in _COUNTS_V2:
        why = f"{blocks(nb)} of 36 bytes, all sums positive: a stride of 34, or a lost block, shows."
        about = rules("LAY-3", "DOT-9") if nb < 4 else rules("DOT-9", "DOT-10")
        vx, vy = cycle(nb, 7, 3, _v2_weight), cycle(nb, 5, 4, _v2_activation)
        made.append(dot_v2(f"{TOPIC}/v2-count-{nb}", why, about, vx, vy))
    for nb in (2, 3, 4, 5, 8, 9):
        for number in range(nb):
            why = (
                f"Only block {number} of {nb} is not zero: read from another place it meets another partner."
            )
            vx = b"".join(block(_ONE, [int(b == number)] * 32) for b in range(nb))
            vy = b"".join(block(half(power(b % 4)), [b + 1] * 32) for b in range(nb))
            about = rules("DOT-10")
            made.append(dot(f"{TOPIC}/only-{number}-of-{nb}", why, about, vx, vy))
    for name, strides in {
        "small": (1, 2, 6),
        "of-the-row": (2, 34 * 3, 34 * 3),
        "large": (1 << 40, (1 << 40) + 2, (1 << 41) + 6),
    }.items():
        why = "With one row of each, bs, bx and by mean nothing: used, they lead out of the buffers."
        about = rules("DOT-12")
        made.append(
            dot(
                f"{TOPIC}/strides-{name}",
                why,
                about,
                cycle(3, 7, 1, _v1),
                cycle(3, 5, 2, _v1),
                strides=strides,
            )
        )
    return made


def cycle(nb: int, length: int, seed: int, make: Callable[[int, list[int]], bytes]) -> bytes:
    """Return nb blocks, a repeated cycle of `length` different ones: codes of 1 to 7, scales of 1 and 1/2.

    With two such rows |dx dy qx qy| <= 49 and the smallest product of scales is 1/4: the sum of 1023 blocks
    of 32 is below 2^24 quarters, and so is exact in every order.
    """
    stream = Stream(seed)
    blocks = [make(half(power(-stream.between(0, 1))), stream.codes(1, 7)) for _ in range(length)]
    return b"".join(blocks[b % length] for b in range(nb))


def _v1(scale: int, codes: list[int]) -> bytes:
    return block(scale, codes)


def _v2_weight(scale: int, codes: list[int]) -> bytes:
    return block_v2(scale, 0, codes)


def _v2_activation(scale: int, codes: list[int]) -> bytes:
    return block_v2(0, scale, codes)
