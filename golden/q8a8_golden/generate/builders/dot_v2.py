"""36-byte blocks: x's weight scale and y's activation scale count; the other field is not looked at."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from q8a8_golden.generate.builders.dot_lanes import PRIMES
from q8a8_golden.generate.draft import Draft, dot_v2, rules
from q8a8_golden.generate.numbers import Stream, block_v2, half

__all__ = ["TOPIC", "drafts"]

TOPIC: Final = "dot/v2"

_ONE: Final = half(1)
_ABOUT: Final = rules("DOT-9")

_UNUSED: Final = {
    "zero": 0x0000,
    "minus-zero": 0x8000,
    "nan": 0x7E00,
    "nan-signalling": 0x7C01,
    "nan-all-ones": 0xFFFF,
    "infinity": 0x7C00,
    "minus-infinity": 0xFC00,
    "another-scale": 0x4200,
    "largest": 0x7BFF,
    "subnormal": 0x0001,
}


def drafts() -> list[Draft]:
    """Give every kind of unused field on either side, scales of every kind, -128, and sums that round."""
    made = []
    codes = [j - 11 for j in range(32)]
    for name, unused in _UNUSED.items():
        for side, other_x, other_y in (("x", unused, 0), ("y", 0, unused), ("both", unused, unused)):
            why = f"The unused field of {side} holds {unused:#06x}: read, added or multiplied, it shows."
            vx = block_v2(half(2), other_x, codes) + block_v2(half(4), other_x, PRIMES)
            vy = block_v2(other_y, half(8), PRIMES) + block_v2(other_y, _ONE, codes)
            about = rules("LAY-5") if unused else rules("LAY-3", "DOT-9")
            made.append(dot_v2(f"{TOPIC}/unused-{name}-in-{side}", why, about, vx, vy))
    made += [
        dot_v2(
            f"{TOPIC}/{name}",
            f"{why}.",
            rules(about),
            block_v2(dx, 0, x) * nb,
            block_v2(0, dy, y) * nb,
        )
        for name, about, nb, dx, dy, x, y, why in (
            (
                "minus-128-by-minus-128",
                "DOT-1",
                3,
                _ONE,
                _ONE,
                [-128] * 32,
                [-128] * 32,
                "-128 in every lane of both",
            ),
            (
                "minus-1-by-minus-128",
                "DOT-1",
                2,
                _ONE,
                _ONE,
                [-1] * 32,
                [-128] * 32,
                "-(-128) does not fit an int8",
            ),
            ("minus-128-by-127", "DOT-1", 1, _ONE, _ONE, [-128] * 32, [127] * 32, "The most negative sum"),
            ("negative-scales", "DOT-8", 2, 0xBC00, 0x4000, codes, PRIMES, "A scale may be negative"),
            (
                "subnormal-scales",
                "HLF-2",
                2,
                0x0002,
                0x8001,
                codes,
                PRIMES,
                "A flushed f16 subnormal gives 0",
            ),
            (
                "product-beyond-half",
                "DOT-2",
                2,
                0x7800,
                0x7800,
                codes,
                PRIMES,
                "A product formed in f16 is infinite",
            ),
            (
                "product-long",
                "DOT-2",
                1,
                0x3C01,
                0x3C01,
                [1, *[0] * 31],
                PRIMES,
                "A product rounded to f16 loses bits",
            ),
        )
    ]
    for name, held in (("one", "0000803f"), ("minus-five", "0000a0c0")):
        why = "s holds a number before the call: what is added to it, and not written over it, shows."
        vx, vy = block_v2(_ONE, 0, PRIMES) * 2, block_v2(0, _ONE, [2] * 32) * 2
        draft = dot_v2(f"{TOPIC}/held-{name}", why, rules("DOT-7"), vx, vy)
        made.append(replace(draft, before={"s": bytes.fromhex(held)}))
    for side in "xy":
        zero, then = [block_v2(0, 0, codes)], [block_v2(_ONE, 0, PRIMES)] * 2
        vx = b"".join([*(zero if side == "x" else [block_v2(_ONE, 0, codes)]), *then])
        vy = b"".join(
            [*(zero if side == "y" else [block_v2(0, _ONE, codes)]), *[block_v2(0, _ONE, PRIMES)] * 2]
        )
        why = "A block with a zero scale comes first: taken for the end of the row, it ends the sum at 0."
        made.append(dot_v2(f"{TOPIC}/zero-scale-first-in-{side}", why, rules("DOT-8"), vx, vy))
    made.append(dot_v2(f"{TOPIC}/no-elements", "With n = 0 the result is +0.", rules("DOT-5"), b"", b""))
    for nb in (1, 2, 3, 8, 31, 64):
        stream = Stream(300 + nb)
        vx = b"".join(block_v2(stream.scale(0x1800, 0x2FFF), 0, stream.codes()) for _ in range(nb))
        vy = b"".join(block_v2(0, stream.scale(0x1800, 0x2FFF), stream.codes()) for _ in range(nb))
        why = "Ordinary rows, rounded at every block: within the bound, whatever the order."
        made.append(dot_v2(f"{TOPIC}/rounding-{nb}", why, (*_ABOUT, *rules("ORD-2")), vx, vy, kind="bound"))
    return made
