"""Trees by rule, for any number of blocks: what kernels do that keep to no step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

from q8a8.order import Additions
from q8a8_conformance.reveal.trees import Sums

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

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
