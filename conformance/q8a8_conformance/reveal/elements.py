"""Trees of single elements: kernels that round each product of two codes, and add them as floats.

The range of codes is too small for a mask and a unit in one block: 64 · 64 to 1. But a unit there need not be
lost to be seen, if it loses its last bit. With scales dx = dy = 1 + 2^-10, dx * dy = 1 + 2^-9 + 2^-20 has 21
bits, and so has a unit. Beside a mask of 2^12 units, where floats are 2^-11 apart, it becomes 1 + 2^-9, and
2^-20 is gone (no tie: half of 2^-11 is more). The mask itself, 2^12 + 2^3 + 2^-8, is exact. So the result, up
to 15 units in 24 bits, counts in its last bits the units that survive.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from q8a8 import layout
from q8a8.order import WHOLE, Additions, Order
from q8a8_conformance.reveal import accumulators
from q8a8_conformance.reveal.asking import NoTreeError
from q8a8_conformance.reveal.masks import Masks, Place
from q8a8_conformance.reveal.programs import program
from q8a8_conformance.reveal.trees import as_fold, members, reveal_tree

if TYPE_CHECKING:
    from collections.abc import Sequence

    from q8a8.order import Fold
    from q8a8_conformance.reveal.asking import Dot

Tree: TypeAlias = Callable[[int], Additions]

SIZE = len(WHOLE[0])
SINGLE = tuple((element,) for element in range(SIZE))
"""Lanes of one element each."""

COUNTED = 15
"""Units that one experiment counts."""

SCALE = 1 + 2.0**-10
LEFT, LOST = 1 + 2.0**-9, 2.0**-20
"""Of the unit: what is left beside a mask, and what is lost."""


def _lost_beside(dot: Dot, nb: int, plus: Place, minus: Place) -> int:
    """Return how many units in the masks' own blocks lose their last bit."""
    places = [(b, e) for b in sorted({plus[0], minus[0]}) for e in range(SIZE) if (b, e) not in {plus, minus}]
    lost = 0
    for start in range(0, len(places), COUNTED):
        part = places[start : start + COUNTED]
        x, y = (np.zeros((nb, SIZE), np.int8) for _ in "xy")
        for place in part:
            x[place] = y[place] = 1
        x[plus] = x[minus] = y[plus] = 64
        y[minus] = -64
        rows = (layout.pack(np.full(nb, SCALE, np.float16), codes) for codes in (x, y))
        kept = (dot.value(*rows) - len(part) * LEFT) / LOST
        if kept not in range(len(part) + 1):
            raise NoTreeError(f"of {len(part)} units beside two masks of their block, {kept:g} are left")
        lost += len(part) - int(kept)
    return lost


def element_tree(dot: Dot, nb: int) -> Additions:
    """Find the tree of all elements of a row: term 32 b + e is element e of block b.

    Raises
    ------
    NoTreeError
        There is none.
    """
    places = [divmod(term, SIZE) for term in range(SIZE * nb)]
    masks = Masks(dot, nb, places)

    def size(one: int, other: int) -> int:
        plus, minus = places[one], places[other]
        return 2 + masks.absorbed(plus, minus) + _lost_beside(dot, nb, plus, minus)

    return reveal_tree(len(places), size)


def element_rule(dot: Dot) -> tuple[str, Tree]:
    """Find the rule by which a kernel adds single elements: in words, and the tree of any number of blocks.

    Raises
    ------
    NoTreeError
        No rule fits the tree of three blocks.
    """
    nb = 3
    additions = element_tree(dot, nb)
    held = members(SIZE * nb, additions)
    block = (1 << SIZE) - 1
    if block in held and all(block << SIZE * b in held for b in range(nb)):
        inner = _part(SIZE, additions, held)
        return "the elements of each block in a tree, then the blocks from left to right", _in_blocks(inner)
    found = accumulators.find(SIZE * nb, additions)
    for body in accumulators.periods(SIZE * nb, found) if found else ():
        if SIZE % len(body) == 0 and found:
            fold = _fold_of_chains(SIZE * nb, additions, found)
            count = len(found.chains)
            words = f"{count} accumulators of elements" if count > 1 else "the elements from left to right"
            return words, _as_blocks(Order("elements", WHOLE, body, fold, False, "body", False, 1, ""))
    raise NoTreeError("the tree of the elements of three blocks follows no rule that is known")


def _as_blocks(order: Order) -> Tree:
    """Return the trees of elements that an order has where each is a block of its own."""
    return lambda nb: program(order, SIZE * nb).additions


def _part(terms: int, additions: Additions, held: Sequence[int]) -> Additions:
    """Return the subtree of the first terms."""
    below = (1 << terms) - 1
    all_terms = len(held) - len(additions)
    numbers = {term: term for term in range(terms)}
    part: list[tuple[int, int]] = []
    for number, (left, right) in enumerate(additions, start=all_terms):
        if held[number] | below == below:
            part.append((numbers[left], numbers[right]))
            numbers[number] = terms + len(part) - 1
    return tuple(part)


def _in_blocks(inner: Additions) -> Tree:
    """Return the trees that add the elements of each block so, and the blocks from left to right."""

    def tree(nb: int) -> Additions:
        additions: list[tuple[int, int]] = []
        total = -1
        for b in range(nb):
            numbers = list(range(SIZE * b, SIZE * (b + 1)))
            for left, right in inner:
                additions.append((numbers[left], numbers[right]))
                numbers.append(SIZE * nb + len(additions) - 1)
            if b:
                additions.append((total, numbers[-1]))
            total = SIZE * nb + len(additions) - 1
        return tuple(additions)

    return tree


def _fold_of_chains(terms: int, additions: Additions, found: accumulators.Accumulators) -> Fold:
    """Return how the chains are added, as a fold of their numbers."""
    held = members(terms, additions)
    whole = [sum(1 << term for term in chain) for chain in found.chains]
    count = len(whole)
    numbers = {held.index(mask): number for number, mask in enumerate(whole)}
    fold: list[tuple[int, int]] = []
    for number, (left, right) in enumerate(additions, start=terms):
        if left in numbers and right in numbers:
            fold.append((numbers[left], numbers[right]))
            numbers[number] = count + len(fold) - 1
    return as_fold(count, tuple(fold))
