"""Codes of which another element's has a part: bits that are not masked, signs, borrows."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.diagnosis.quantizers.effect import Effect, Given, with_bytes
from q8a8_conformance.diagnosis.quantizers.statements import NEIGHBOURS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from q8a8_conformance.diagnosis.quantizers.cases import Case
    from q8a8_conformance.inputs.arrays import Array

TOGETHER: tuple[tuple[str, str, Callable[[Array, Array], Array]], ...] = (
    ("or", "A code is the bitwise or of its own and that of {}", np.bitwise_or),
    ("and", "A code is the bitwise and of its own and that of {}", np.bitwise_and),
    ("xor", "A code is the bitwise exclusive or of its own and that of {}", np.bitwise_xor),
    ("sum", "A code is the sum of its own and that of {}", np.add),
    ("largest", "A code is the larger one of its own and that of {}", np.maximum),
    ("least", "A code is the smaller one of its own and that of {}", np.minimum),
    ("sign", "A code has the sign of that of {}", lambda q, other: np.where(other < 0, -1, 1) * np.abs(q)),
    ("magnitude", "A code has the magnitude of that of {}", lambda q, other: np.sign(q) * np.abs(other)),
    ("other", "A code is that of {}", lambda _q, other: other),
)
"""What a code becomes beside another one."""


def paired_effects() -> Iterator[Effect]:
    """Yield codes that are put together of their own and another element's."""
    fix = "Store each code as it is: widen, shift and mask so that no bit of a neighbour has a part in it."
    for noun, at in NEIGHBOURS:
        for name, text, of in TOGETHER:
            gives = partial(_together, at=at, of=of)
            where = {"codes": name, "with": noun}
            yield Effect("value-codes", where, text.format(noun), "Q8A8-QNT-4", fix, gives)


def _together(case: Case, at: Callable[[Array], Array], of: Callable[[Array, Array], Array]) -> Given:
    numbers = np.arange(case.x.shape[1])
    source = at(numbers)
    inside = (source >= 0) & (source < numbers.size)
    codes = case.codes.astype(np.int64)
    found = np.where(inside, of(codes, codes[:, np.where(inside, source, 0)]), codes)
    return with_bytes(case, found.astype(np.int8).view(np.uint8))
