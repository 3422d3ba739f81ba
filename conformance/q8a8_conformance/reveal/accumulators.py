"""Accumulators, read off a tree of blocks: which one takes which block, and where the blocks left over go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from q8a8_conformance.reveal.trees import members, parents

if TYPE_CHECKING:
    from collections.abc import Iterator

    from q8a8.order import Additions


@dataclass(frozen=True)
class Accumulators:
    """The chains of a tree of blocks.

    Attributes
    ----------
    chains
        The blocks that each accumulator takes, two at least, in order; sorted by their first blocks.
    alone
        The blocks in no chain, each with the blocks (bits of an integer) of the sum it joins.
    """

    chains: tuple[tuple[int, ...], ...]
    alone: tuple[tuple[int, int], ...]


def find(nb: int, additions: Additions) -> Accumulators | None:
    """Return the chains of a tree of at least two blocks; None where one takes blocks out of turn."""
    held, above = members(nb, additions), parents(nb, additions)
    blocks: dict[int, tuple[int, ...]] = {}
    for number, (left, right) in enumerate(additions, start=nb):
        if right < nb and left < nb:
            blocks[number] = (left, right)
        elif right < nb and left in blocks:
            blocks[number] = (*blocks[left], right)
    whole = [chain for number, chain in blocks.items() if above.get(number) not in blocks]
    if any(list(chain) != sorted(chain) for chain in whole):
        return None
    used = {block for chain in whole for block in chain}
    alone = [(block, held[left]) for left, block in additions if block < nb and block not in used]
    return Accumulators(tuple(sorted(whole)), tuple(sorted(alone)))


def periods(nb: int, found: Accumulators) -> Iterator[tuple[int, ...]]:
    """Yield the bodies of loops that could take a row's blocks so, the shortest first.

    A body is the accumulator of each block of one step. The row must hold two steps at least.
    """
    taker = {block: a for a, chain in enumerate(found.chains) for block in chain}
    for step in range(1, nb // 2 + 1):
        body = tuple(taker.get(b, -1) for b in range(step))
        whole = nb - nb % step
        if -1 not in body and all(taker.get(b) == body[b % step] for b in range(whole)):
            names = list(dict.fromkeys(body))
            if names == list(range(len(names))):
                yield body
