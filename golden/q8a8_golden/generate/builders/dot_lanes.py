"""One lane at a time: x has one nonzero code, y has 32 different ones; and the other way round.

A lane that is paired with a wrong lane, counted twice or left out gives another sum.
"""

from __future__ import annotations

from typing import Final

from q8a8_golden.generate.draft import Draft, dot, dot_v2, rules
from q8a8_golden.generate.numbers import block, block_v2, half
from q8a8_golden.generate.words import blocks

__all__ = ["PRIMES", "TOPIC", "drafts"]

TOPIC: Final = "dot/lanes"

# One and the 31 primes below 128: no two lanes have the same code.
PRIMES: Final = (1, *(p for p in range(2, 128) if all(p % q for q in range(2, p))))

_ONE: Final = half(1)


def drafts() -> list[Draft]:
    """Build each lane of each side, in both layouts, and lanes of the last block."""
    made = []
    about = rules("DOT-1")
    for lane in range(32):
        hot = [int(j == lane) for j in range(32)]
        why = f"Only lane {lane} counts: paired with another lane, or left out, it gives another prime or 0."
        made.append(dot(f"{TOPIC}/x-lane-{lane}", why, about, block(_ONE, hot), block(_ONE, PRIMES)))
        made.append(dot(f"{TOPIC}/y-lane-{lane}", why, about, block(_ONE, PRIMES), block(_ONE, hot)))
        made.append(
            dot_v2(
                f"{TOPIC}/v2-lane-{lane}",
                why,
                rules("DOT-1", "DOT-9"),
                block_v2(_ONE, 0, hot),
                block_v2(0, _ONE, PRIMES),
            )
        )
    # The tail of a row is often handled by separate code.
    for nb in (2, 3, 4, 5):
        for lane in (0, 7, 8, 15, 16, 23, 24, 31):
            hot = [int(j == lane) for j in range(32)]
            vx = block(_ONE, [0] * 32) * (nb - 1) + block(_ONE, hot)
            vy = block(_ONE, [127] * 32) * (nb - 1) + block(_ONE, PRIMES)
            why = (
                f"Only lane {lane} of the last of {blocks(nb)} counts: the tail's code maps lanes on its own."
            )
            made.append(dot(f"{TOPIC}/block-{nb}-of-{nb}-lane-{lane}", why, about, vx, vy))
    return made
