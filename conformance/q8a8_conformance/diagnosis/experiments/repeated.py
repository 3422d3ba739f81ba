"""Blocks that are treated otherwise at the same places of every few: a slip in an unrolled loop.

A loop that takes m blocks at a time and confuses two of them does so in every pass: such blocks are those of
some remainders modulo m, with or without the blocks that the loop leaves over.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.diagnosis.experiments.segments import Counted, Segment, meeting

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from q8a8_conformance.diagnosis.experiments.bench import Bench

    Array = NDArray[Any]

GROUPS = (2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 24, 32)
"""Blocks that an unrolled loop takes at a time."""

MISSED = 4
"""One block in so many may not be seen."""

LONGEST = 34
"""Blocks of the longest rows that are looked into: two groups of 16, and two left over."""


@dataclass(frozen=True)
class Repeated:
    """Blocks of some remainders, and what happens to them.

    Attributes
    ----------
    group, remainders
        The blocks b with b mod `group` among them.
    whole
        Whether those that are left over after whole groups are treated rightly.
    segment
        What happens; its ends mean nothing.
    """

    group: int
    remainders: tuple[int, ...]
    whole: bool
    segment: Segment

    def blocks(self, nb: int) -> Array:
        """Return the numbers of the blocks in a row of nb."""
        every = np.arange(nb // self.group * self.group if self.whole else nb)
        return every[np.isin(every % self.group, self.remainders)]

    def meeting(self, nb: int, row: int, column: int) -> tuple[Array, ...]:
        """Return which blocks meet: a step of a model."""
        return meeting(nb, row, column, [(self.blocks(nb), self.segment)])

    def to_json(self) -> dict[str, Any]:
        """Return the blocks as JSON data."""
        return {"modulus": self.group, "remainders": list(self.remainders), "whole": self.whole}

    @property
    def words(self) -> str:
        """The blocks in words, behind "block"."""
        first, last = self.remainders[0], self.remainders[-1]
        is_span = len(self.remainders) > 2 and last - first == len(self.remainders) - 1
        rests = f"{first} to {last}" if is_span else " or ".join(map(str, self.remainders))
        left = f" (not those left over after groups of {self.group})" if self.whole else ""
        return f"b where b mod {self.group} is {rests}{left}"


def find_repeated(bench: Bench, wrong: Sequence[int], right: Sequence[int]) -> Repeated | None:
    """Find blocks of the same remainders that are all treated otherwise alike; None where there are none.

    They are looked for in rows of the lengths, ascending, that are counted wrongly, one row at a time.
    """
    first = wrong[0]
    lengths = sorted({first, *(n for n in (2 * first, 2 * first + 1, 3 * first) if n in wrong)})
    if bench.nrc > 1 or first > LONGEST // 2:
        return None
    seen: dict[int, Array] = {}
    alike: set[Segment] = set()
    for nb in lengths:
        found = Counted(bench, nb).segments()
        if not found:
            return None
        seen[nb] = np.concatenate([np.arange(one.start, one.stop) for one in found])
        alike |= {replace(one, start=0, stop=0) for one in found}
        if len(alike) > 1:
            return None
    seen |= {nb: np.arange(0) for nb in right if nb <= LONGEST}
    return fit_repeated(seen, alike.pop())


def fit_repeated(seen: Mapping[int, Array], segment: Segment) -> Repeated | None:
    """Return the smallest group whose blocks are those of every length, in two passes of one at least.

    A block whose code happens to be that of the one it is taken for is not seen: few of them are.
    """
    longest = max(seen, key=lambda nb: seen[nb].size)
    for group in GROUPS:
        remainders = tuple(np.unique(seen[longest] % group).tolist())
        if len(remainders) == group or seen[longest].size <= len(remainders):
            continue
        for whole in (True, False):
            one = Repeated(group, remainders, whole, segment)
            missed = sum(np.setdiff1d(one.blocks(nb), blocks).size for nb, blocks in seen.items())
            inside = all(np.isin(blocks, one.blocks(nb)).all() for nb, blocks in seen.items())
            if inside and missed * MISSED <= sum(blocks.size for blocks in seen.values()):
                return one
    return None
