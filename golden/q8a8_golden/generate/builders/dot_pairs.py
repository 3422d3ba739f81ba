"""nrc = 2: two rows of x and two of y, with strides larger than necessary."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from q8a8_golden.generate.builders.dot_lanes import PRIMES
from q8a8_golden.generate.draft import Draft, dot_pairs, rules
from q8a8_golden.generate.numbers import Stream, block, half, power
from q8a8_golden.generate.words import blocks

__all__ = ["TOPIC", "drafts"]

TOPIC: Final = "dot/two-rows"

_ABOUT: Final = rules("DOT-6")
_ONE: Final = half(1)

# The bytes between rows are NaN scales and codes of -1 if they are read as a block.
_GAPS: Final = (0, 2, 6, 34, 58, 70)


def drafts() -> list[Draft]:
    """Build block counts, strides of s, x and y, lanes, extremes, and sums that round."""
    made = [
        dot_pairs(
            f"{TOPIC}/count-{nb}",
            f"{blocks(nb)}: s[1] = x1.y0 and s[bs] = x0.y1 exchanged, or a lost tail block, shows.",
            _ABOUT,
            _rows(nb, 1),
            _rows(nb, 2),
        )
        for nb in (1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 32, 33)
    ]
    made += [
        dot_pairs(
            f"{TOPIC}/bs-{bs}",
            "bs counts floats: taken for bytes, or for 2, it writes elsewhere, and over what lies between.",
            _ABOUT,
            _rows(3, 3),
            _rows(3, 4),
            bs=bs,
        )
        for bs in (2, 3, 4, 5, 16, 33)
    ]
    made += [
        dot_pairs(
            f"{TOPIC}/gap-{gap_x}-and-{gap_y}",
            "bx and by are bytes, each its own, and only even: a stride of whole blocks reads the gap.",
            _ABOUT,
            _rows(2, 5),
            _rows(2, 6),
            bs=3,
            gaps=(b"\xff" * gap_x, b"\xff" * gap_y),
        )
        for gap_x in _GAPS
        for gap_y in _GAPS
        if gap_x != gap_y or gap_x in {2, 34}
    ]
    return [*made, *_lanes(), *_extremes(), *_rounding(), _empty(), _numbers_in_s()]


def _rows(nb: int, seed: int) -> tuple[bytes, bytes]:
    """Return two rows of blocks with positive codes and different sums."""
    stream = Stream(100 + seed)

    def row(low: int, high: int) -> bytes:
        return b"".join(block(half(power(-stream.between(0, 1))), stream.codes(low, high)) for _ in range(nb))

    return row(1, 4), row(5, 8)


def _lanes() -> list[Draft]:
    made = []
    for lane in range(32):
        one, other = ([int(j == at) for j in range(32)] for at in (lane, 31 - lane))
        made.append(
            dot_pairs(
                f"{TOPIC}/lane-{lane}",
                f"x0 has only lane {lane}, x1 only its mirror: rows or halves mixed up within a vector show.",
                _ABOUT,
                (block(_ONE, one), block(_ONE, other)),
                (block(_ONE, PRIMES), block(_ONE, [-p for p in reversed(PRIMES)])),
            )
        )
    return made


def _extremes() -> list[Draft]:
    made = []
    for nb in (1, 2, 3):
        rows = tuple(block(_ONE, [q] * 32) * nb for q in (-128, 127))
        made.append(
            dot_pairs(
                f"{TOPIC}/minus-128-and-127-{nb}",
                "-128 and 127 in every lane, all four combinations: each pair of lanes overflows int16.",
                rules("DOT-1"),
                (rows[0], rows[1]),
                (rows[0], rows[1]),
            )
        )
    made.append(
        dot_pairs(
            f"{TOPIC}/four-scales",
            "Each row has scales of its own, one of them negative: a scale used for both rows shows.",
            _ABOUT,
            (block(0x3C00, PRIMES) + block(0x4400, PRIMES), block(0xC000, PRIMES) + block(0x3800, PRIMES)),
            (
                block(0x4000, [3] * 32) + block(0x3C00, [5] * 32),
                block(0x4800, [7] * 32) + block(0x4C00, [1] * 32),
            ),
            bs=4,
        )
    )
    return made


def _rounding() -> list[Draft]:
    """Build sums that are rounded; a kernel should give the same bits as four calls with nrc = 1."""
    made = []
    for nb in (2, 3, 16, 33):
        stream = Stream(200 + nb)
        rows = [
            b"".join(block(stream.scale(0x1800, 0x2FFF), stream.codes()) for _ in range(nb)) for _ in range(4)
        ]
        made.append(
            dot_pairs(
                f"{TOPIC}/rounding-{nb}",
                "Ordinary rows: each of the four sums is within its own bound, whatever the order.",
                rules("DOT-6", "ORD-2"),
                (rows[0], rows[1]),
                (rows[2], rows[3]),
                kind="bound",
                bs=5,
                gaps=(b"\xff" * 2, b"\xff" * 34),
            )
        )
    return made


def _empty() -> Draft:
    return dot_pairs(
        f"{TOPIC}/no-elements",
        "With n = 0 all four results are +0, and nothing else is written.",
        rules("DOT-5"),
        (b"", b""),
        (b"", b""),
        gaps=(b"\xff" * 34, b"\xff" * 34),
    )


def _numbers_in_s() -> Draft:
    """Build a case with numbers in s before the call; all sums are equal, to detect no other bug."""
    x, y = _rows(2, 7)[0], _rows(2, 8)[1]
    why = "s holds numbers before the call: what is added to them, and not written over them, shows."
    draft = dot_pairs(f"{TOPIC}/held", why, rules("DOT-7"), (x, x), (y, y))
    return replace(draft, before={"s": bytes.fromhex("0000803f000000c00000a0410000003f")})
