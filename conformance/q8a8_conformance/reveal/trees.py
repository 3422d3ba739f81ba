"""Trees of additions: found by the size of the smallest subtree of two terms, compared, and read.

A tree of n terms is `q8a8.order.Additions`: the k-th sum, number n + k, adds two earlier numbers. Lists, not
nested tuples, so that a chain of thousands of additions is no deep recursion.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

from q8a8_conformance.reveal.asking import NoTreeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from q8a8.order import Additions, Fold


class Sums:
    """Collects additions of so many terms."""

    def __init__(self, terms: int) -> None:
        self._terms = terms
        self.additions: list[tuple[int, int]] = []

    def add(self, left: int, right: int) -> int:
        """Add two numbers and return the sum's; a term alone stands on the right, where it may be fused."""
        if left < self._terms <= right:
            left, right = right, left
        self.additions.append((left, right))
        return self._terms + len(self.additions) - 1

    def graft(self, start: int, count: int, additions: Additions) -> int:
        """Add a span of terms as a tree of so many does, and return the sum's number."""
        numbers = list(range(start, start + count))
        for left, right in additions:
            numbers.append(self.add(numbers[left], numbers[right]))
        return numbers[-1]

    def chain(self, numbers: Iterable[int]) -> int:
        """Add numbers, one at least, one after the other."""
        return reduce(self.add, numbers)


def reveal_tree(terms: int, size: Callable[[int, int], int]) -> Additions:
    """Find the tree of additions of so many terms.

    Take one term, the pivot. The sizes of the smallest subtrees that hold it and each other term grow along
    its way to the root; terms with the same size form one subtree, which joins there, and is found in the
    same way. A chain takes one size for each of its terms, a balanced tree n log n of them.

    Parameters
    ----------
    terms
        How many there are.
    size
        Returns the terms of the smallest subtree that holds two terms.

    Raises
    ------
    NoTreeError
        The sizes contradict each other.
    """
    sums = Sums(terms)

    def grow(group: list[int]) -> int:
        if len(group) == 1:
            return group[0]
        for pivot in _pivots(group):
            sizes = {other: size(pivot, other) for other in group if other != pivot}
            if len(set(sizes.values())) > 1:
                break
        found, covered = pivot, 1
        for each in sorted(set(sizes.values())):
            part = [other for other, of in sizes.items() if of == each]
            covered += len(part)
            if covered != each:
                raise NoTreeError(
                    f"the smallest sum that holds terms {pivot} and {part[0]} has {each} terms by one "
                    f"experiment, {covered} by others"
                )
            subtree = grow(part)
            # (Of two terms, the later one stands on the right.)
            found = sums.add(*sorted((found, subtree)) if max(found, subtree) < terms else (found, subtree))
        return found

    if terms:
        grow(list(range(terms)))
    return tuple(sums.additions)


def _pivots(group: Sequence[int]) -> list[int]:
    """Return the terms to start from, the best guesses first: a term that joins last tells nothing."""
    return list(dict.fromkeys((group[0], group[-1], group[len(group) // 2], group[0])))


def members(terms: int, additions: Additions) -> list[int]:
    """Return the terms under each number, as bits of an integer."""
    held = [1 << term for term in range(terms)]
    for left, right in additions:
        held.append(held[left] | held[right])
    return held


def same(terms: int, one: Additions, other: Additions) -> bool:
    """Return whether two trees add the same, whatever the sequence of their additions, and left and right."""
    return set(members(terms, one)) == set(members(terms, other))


def nested(terms: int, additions: Additions) -> Any:  # noqa: ANN401 (arrays in arrays)
    """Return a tree as nested arrays of its terms' numbers; an empty one for no terms."""
    held: list[Any] = list(range(terms))
    for left, right in additions:
        held.append([held[left], held[right]])
    return held[-1] if held else []


def as_fold(terms: int, additions: Additions) -> Fold:
    """Return a tree, of one term at least, as a fold."""
    held: list[Fold] = list(range(terms))
    for left, right in additions:
        held.append((held[left], held[right]))
    return held[-1]


def parents(terms: int, additions: Additions) -> dict[int, int]:
    """Return the number of the sum that each number is added to."""
    return {number: terms + k for k, pair in enumerate(additions) for number in pair}


def pruned(terms: int, additions: Additions, kept: dict[int, int]) -> Additions:
    """Return the tree of the terms that are `kept`, under new numbers: 0 to len(kept) - 1, each once."""
    numbers: list[int | None] = [kept.get(term) for term in range(terms)]
    sums: list[tuple[int, int]] = []
    for left, right in additions:
        a, b = numbers[left], numbers[right]
        if a is None or b is None:
            numbers.append(b if a is None else a)
        else:
            sums.append((a, b))
            numbers.append(len(kept) + len(sums) - 1)
    return tuple(sums)


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


def accumulators(nb: int, additions: Additions) -> Accumulators | None:
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
