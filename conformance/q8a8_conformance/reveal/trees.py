"""Trees of additions: found by the size of the smallest subtree of two terms, compared, read, and by rule.

A tree of n terms is `q8a8.order.Additions`: the k-th sum, number n + k, adds two earlier numbers. Lists, not
nested tuples, so that a chain of thousands of additions is no deep recursion. Trees by rule, for any number
of blocks, are those of kernels that keep to no step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

from q8a8.order import Additions
from q8a8_conformance.reveal.asking import NoTreeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from q8a8.order import Fold


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


Tree: TypeAlias = Callable[[int], Additions]
"""The additions of any number of blocks."""


def _chained(order: Callable[[int], Iterable[int]]) -> Tree:
    """Return the trees that add blocks one after the other, in this order of them."""

    def tree(nb: int) -> Additions:
        sums = Sums(nb)
        if nb:
            sums.chain(order(nb))
        return tuple(sums.additions)

    return tree


def _outside_in(nb: int) -> Iterator[int]:
    for b in range((nb + 1) // 2):
        yield b
        if nb - 1 - b > b:
            yield nb - 1 - b


def _halved(base: int, split: Callable[[int], int], leaf: Tree) -> Tree:
    """Return the trees that split rows in two, down to at most `base` blocks, which `leaf` adds."""

    def tree(nb: int) -> Additions:
        sums = Sums(nb)

        def part(start: int, count: int) -> int:
            first = split(count) if count > base else 0
            if not 0 < first < count:
                return sums.graft(start, count, leaf(count))
            return sums.add(part(start, first), part(start + first, count - first))

        if nb:
            part(0, nb)
        return tuple(sums.additions)

    return tree


def _neighbours(nb: int) -> Additions:
    """Add neighbours, then their sums; an odd one waits."""
    sums = Sums(nb)
    level = list(range(nb))
    while len(level) > 1:
        paired = [sums.add(*level[k : k + 2]) for k in range(0, len(level) - 1, 2)]
        level = paired + level[len(paired) * 2 :]
    return tuple(sums.additions)


def _tiles(size: int, leaf: Tree) -> Tree:
    """Return the trees that add tiles of so many blocks, each as `leaf` does, then their sums."""
    return lambda nb: _spans([(t, min(size, nb - t)) for t in range(0, nb, size)], nb, leaf)


def _parts(count: int, leaf: Tree) -> Tree:
    """Return the trees that add so many equal parts of a row, each as `leaf` does, then their sums."""

    def tree(nb: int) -> Additions:
        ends = [nb * k // count for k in range(count + 1)]
        return _spans([(a, b - a) for a, b in pairwise(ends) if b > a], nb, leaf)

    return tree


def _spans(spans: Sequence[tuple[int, int]], nb: int, leaf: Tree) -> Additions:
    """Return the tree that adds spans (start, count) of a row, then their sums from left to right."""
    sums = Sums(nb)
    if spans:
        sums.chain([sums.graft(start, count, leaf(count)) for start, count in spans])
    return tuple(sums.additions)


@dataclass(frozen=True)
class Family:
    """Trees by rule: a name, the rule in words, and the tree of a number of blocks."""

    name: str
    words: str
    tree: Tree


FORWARD = _chained(range)
"""From left to right."""

BASES = (1, 2, 4, 8, 16, 32, 64, 128)
TILES = (4, 8, 16, 32, 64)
PARTS = (2, 3, 4, 8)
MULTIPLES = (2, 4, 8, 16, 32)
"""Numbers of blocks that rows are divided by, and to multiples of which they are split."""


def families(switch: int = 0, leaf: Tree = FORWARD) -> Iterator[Family]:
    """Yield the families; of long rows, where rows of less than `switch` blocks are added by another tree.

    Long rows are then divided down to those, which `leaf` adds.
    """
    # A part of one or two blocks is added as if there were none: the order seems to change a little later.
    bases = (switch - 1, switch - 2, switch - 3)
    last = "each as shorter rows are" if switch else "each from left to right"
    outside_in = "the first block, the last, the second, the last but one, and so on"
    yield Family("outside-in", outside_in, _chained(_outside_in))
    yield Family("neighbours", "neighbouring blocks, then their sums, and so on", _neighbours)
    for size in bases if switch else TILES:
        yield Family("tiles", f"tiles of {size} blocks, {last}, then their sums", _tiles(size, leaf))
    for base in bases if switch else BASES:
        down = f"down to {base} blocks, {last}" if base > 1 else "down to one block"
        for words, split in _splits():
            yield Family("halves", f"{words}, {down}", _halved(base, split, leaf))
    for count in PARTS:
        yield Family("parts", f"{count} equal parts of the row, {last}, then their sums", _parts(count, leaf))


def _splits() -> Iterator[tuple[str, Callable[..., int]]]:
    """Yield how a row is split in two: in words, and the blocks of the first part."""
    yield "halves of the row, the first one the smaller", lambda count: count // 2
    yield "halves of the row, the first one the larger", lambda count: (count + 1) // 2
    yield (
        "the largest power of two of blocks, and the rest",
        lambda count: 1 << ((count - 1).bit_length() - 1),
    )
    for multiple in MULTIPLES:
        words = f"halves of the row, the first one down to a multiple of {multiple} blocks"
        yield words, lambda count, of=multiple: count // 2 - count // 2 % of
