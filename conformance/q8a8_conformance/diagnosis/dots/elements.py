"""Elements of a block in words: spans of them, or those of some remainder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from q8a8_conformance.reveal.quantizers.words import ranges

if TYPE_CHECKING:
    from collections.abc import Sequence

SPANS = 3
"""Elements in more spans than these have a remainder, if any."""


def elements_words(elements: Sequence[int]) -> str:
    """Name elements of a block: "element 3", "elements 16 to 31", "odd elements"; ascending numbers."""
    some = set(elements)
    spans = sum(place - 1 not in some for place in some)
    if spans > SPANS or (spans > 1 and len(some) == spans):
        for modulus in (2, 4, 8, 16):
            rests = sorted({place % modulus for place in some})
            for low, high in ((0, 32), (16, 32), (0, 16)):
                if some == {place for place in range(low, high) if place % modulus in rests}:
                    within = "" if high - low == 32 else f" from {low} to {high - 1}"
                    return f"{_remainders(modulus, rests)}{within}"
    return f"element{'s' * (len(some) > 1)} {ranges(list(elements))}"


def _remainders(modulus: int, rests: Sequence[int]) -> str:
    if modulus == 2:
        return "odd elements" if rests[0] else "even elements"
    return f"elements j where j mod {modulus} is {' or '.join(map(str, rests))}"
