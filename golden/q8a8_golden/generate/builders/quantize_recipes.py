"""Blocks on which two recipes give different codes: for every pair of recipes, several."""

from __future__ import annotations

from itertools import combinations
from typing import Final

from q8a8_golden import oracle
from q8a8_golden.generate.draft import Draft, quantize_row, rules
from q8a8_golden.generate.numbers import Stream, first_at_least, minus, near
from q8a8_golden.oracle import F32

__all__ = ["TOPIC", "drafts"]

TOPIC: Final = "quantize/recipes"

_BLOCKS: Final = 4
# The boundaries at which recipes are compared: small and large codes, odd and even.
_CODES: Final = (0, 1, 2, 5, 8, 17, 30, 41, 52, 63, 64, 71, 90, 101, 112, 119, 124, 126)


def drafts() -> list[Draft]:
    """Give one case for each pair of recipes: blocks in which they round some elements apart."""
    return [_pair(one, other, seed) for seed, (one, other) in enumerate(combinations(oracle.RECIPES, 2))]


def _pair(one: str, other: str, seed: int) -> Draft:
    stream = Stream(1000 + seed)
    row: list[int] = []
    while len(row) < 32 * _BLOCKS:
        # Significands of 24 bits, then of 8 as in bfloat16 weights; scales around those of real weights.
        amax = stream.between(0x3C000000, 0x40FFFFFF) & (0xFFFFFFFF if len(row) < 64 else 0xFFFF0000)
        between = [x for k in _CODES for x in _between(amax, k, one, other)]
        if len(between) >= 2:
            row += _block(amax, between, stream)
    kinds = "these elements lie between the two, where one rounds up and the other does not"
    return quantize_row(
        f"{TOPIC}/{one}-or-{other}",
        f"The recipes {one} and {other} put some rounding boundaries an ULP apart: {kinds}.",
        rules("QNT-3", "QNT-4"),
        row,
    )


def _between(amax: int, k: int, one: str, other: str) -> list[int]:
    """Give the x at which only one recipe gives the code k + 1 already; none if they agree."""
    first, second = (_first_above(amax, k, recipe) for recipe in (one, other))
    return [] if first == second else [min(first, second)]


def _first_above(amax: int, k: int, recipe: str) -> int:
    def above(x: int) -> bool:
        result = oracle.quantize((amax, x), recipe)
        return result is not None and result.codes[1] > k

    # Whatever the recipe, its boundary is within a few ULPs of the exact one.
    exact = near(oracle.value(amax, F32) * (2 * k + 1) / 254)
    low, high = exact - 16, min(exact + 16, amax)
    if above(low) or not above(high):
        raise ValueError(f"{recipe}: the boundary {k} + 0.5 of amax {amax:#x} is far from where it should be")
    return first_at_least(above, low, high)


def _block(amax: int, between: list[int], stream: Stream) -> list[int]:
    """Lay out a block: amax somewhere, the separating elements with either sign, small ones in the rest."""
    chosen = between[:31]
    block = [minus(x) if stream.word() & 1 else x for x in chosen]
    block += [(amax & 0xFF800000) - (stream.between(1, 6) << 23) for _ in range(31 - len(chosen))]
    block.insert(stream.between(0, 31), amax)
    return block
