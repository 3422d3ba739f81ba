"""The orders that fit a kernel's trees: regular ones, trees by rule, and trees as they were found."""

from __future__ import annotations

import itertools
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from q8a8.order import ORDERS, WHOLE, Order, Tail, TreeOrder
from q8a8_conformance.reveal import arithmetic
from q8a8_conformance.reveal.asking import NoTreeError
from q8a8_conformance.reveal.elements import SINGLE, element_rule
from q8a8_conformance.reveal.families import FORWARD, GROUPS, families, groups
from q8a8_conformance.reveal.programs import program
from q8a8_conformance.reveal.regular import REVEALED, Steps, block_tree, reveal_order
from q8a8_conformance.reveal.trees import members, same

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from q8a8.order import Additions, AnyOrder
    from q8a8_conformance.reveal.asking import Dot
    from q8a8_conformance.reveal.families import Family

LARGEST_TREE = 1200
"""Blocks of the longest row whose tree is looked for: it takes as many calls."""

LARGEST_FOUND = 130
"""Blocks of the longest row whose tree is kept as it was found, where no rule is known."""


LARGEST_BY_ELEMENT = 1025
"""Blocks of the longest row for which a tree of single elements is written."""


@dataclass(frozen=True)
class Candidate:
    """An order that fits.

    Attributes
    ----------
    order
        The order.
    names
        Names of the catalogue's orders with the same additions.
    words
        A rule in words, for a `TreeOrder` that has one.
    rule
        The tree of any number of blocks, where there is a rule.
    limit
        Blocks of the longest row that it is tried on; 0 for no limit.
    """

    order: AnyOrder
    names: tuple[str, ...] = ()
    words: str = ""
    rule: Callable[[int], Additions] | None = None
    limit: int = 0

    def at(self, nb: int) -> AnyOrder:
        """Return the order with a tree for this number of blocks, where there is a rule for it."""
        if isinstance(self.order, Order) or nb in self.order.trees or self.rule is None:
            return self.order
        return replace(self.order, trees={nb: self.rule(nb)})

    def tree(self, nb: int) -> Additions:
        """Return the additions of whole blocks, whatever the lanes of the order."""
        written = program(self.at(nb), nb)
        return written.additions if len(written.terms) == nb else FORWARD(nb)


def candidates(
    dot: Dot, unit: int, lengths: Sequence[int], least: int = 0, before: Candidate | None = None
) -> Iterator[Candidate]:
    """Yield the orders that fit what experiments show, the most regular first.

    Parameters
    ----------
    dot
        The dot product.
    unit
        log2 of the unit.
    lengths
        Blocks of the rows that a `TreeOrder` must have trees for.
    least
        Blocks of the shortest row to look at; 0 for an order from the shortest rows on.
    before
        The order of shorter rows.

    Raises
    ------
    NoTreeError
        The experiments contradict each other.
    """
    if least <= LARGEST_TREE:
        fits = False
        wrong: NoTreeError | None = None
        try:
            for order in reveal_order(dot, unit, least):
                try:
                    found = with_arithmetic(dot, order, least)
                except NoTreeError as error:
                    wrong = wrong or error  # lanes of rows of another length, perhaps: another step may fit
                    continue
                fits = True
                yield Candidate(found, names_of(found))
            if wrong and not fits:
                raise wrong
        except NoTreeError as error:
            # Single elements that are rounded fit no lanes, or no integer sum.
            if least and not fits:
                raise
            if not fits:
                yield from _by_element(dot, lengths, error)
    yield from _by_rule(dot, unit, lengths, least, before)


def as_found(dot: Dot, unit: int, lengths: Sequence[int]) -> Candidate:
    """Return an order of the trees that experiments show at each length up to `LARGEST_FOUND`."""
    trees = {nb: block_tree(dot, nb, unit) for nb in lengths if nb <= LARGEST_FOUND}
    return Candidate(_tree_order(dot, trees), words="a tree for each length")


def with_arithmetic(dot: Dot, order: Order, least: int) -> Order:
    """Return a regular order with what experiments show of fused products and of the scales' product."""
    steps, step = Steps(order.body, least), len(order.body)
    nb = steps.nb
    first, second, lead = steps.firsts[0], steps.seconds[0], order.lanes[0][0]
    fused = arithmetic.is_fused(dot, nb, second, first, lead)
    tail, tail_fused = order.tail, fused
    if isinstance(tail, Tail) and None in tail.start:
        if step > 2:
            # The first block left over is added to +0: the second one shows it.
            tail_fused = arithmetic.is_fused(dot, nb + 2, nb + 1, nb, lead)
    elif step > 1:
        # Added to what another block of the same accumulator left there.
        in_place = isinstance(tail, Tail) and len(tail.start) == order.registers
        taker = tail.body[0] if isinstance(tail, Tail) and in_place else order.body[0]
        tail_fused = arithmetic.is_fused(dot, nb + 1, nb, steps.firsts[taker], lead)
        if tail == "body" and tail_fused != fused:
            tail = Tail(order.lanes, tuple(range(order.registers)), order.body[:-1])
    scales = arithmetic.scales(dot, nb, order.lanes)
    if scales is None:
        raise NoTreeError("a block's term is not its integer sum times the scales, rounded once or twice")
    return replace(order, tail=tail, fused=fused, tail_fused=tail_fused, scales=scales)


COMPARED = (*range(1, 14), 17, 33)
"""Blocks of rows in which two orders are compared, addition by addition."""


def names_of(order: Order) -> tuple[str, ...]:
    """Name the catalogue's orders that have the same additions."""
    if order.scales != "product" or len(order.body) > max(len(each.body) for each in ORDERS.values()):
        return ()
    meaning = [program(order, nb).meaning() for nb in COMPARED]
    return tuple(
        name
        for name, other in ORDERS.items()
        if set(map(frozenset, other.lanes)) == set(map(frozenset, order.lanes))
        and all(program(other, nb).meaning() == of for nb, of in zip(COMPARED, meaning, strict=True))
    )


def _by_rule(
    dot: Dot, unit: int, lengths: Sequence[int], least: int, before: Candidate | None
) -> Iterator[Candidate]:
    """Yield the trees by rule that equal those of some lengths; for long rows, any that there are."""
    shown = [max(least, 3) + k for k in (0, 7, 10)] if least <= LARGEST_TREE else []
    seen = {nb: block_tree(dot, nb, unit) for nb in shown}
    known = families(least, before.tree if before else FORWARD)
    for family in known if least else itertools.chain(known, _grouped(dot, unit)):
        if all(same(nb, tree, family.tree(nb)) for nb, tree in seen.items()):
            trees = {nb: family.tree(nb) for nb in lengths}
            yield Candidate(_tree_order(dot, trees, least), words=family.words, rule=family.tree)


def _grouped(dot: Dot, unit: int) -> Iterator[Family]:
    """Yield the groups of blocks, each with the tree of a row of so many, while there are trees."""
    with suppress(NoTreeError):
        for size in GROUPS:
            yield groups(size, block_tree(dot, size, unit))


def _by_element(dot: Dot, lengths: Sequence[int], error: NoTreeError) -> Iterator[Candidate]:
    """Yield the trees of single elements, whose products are rounded one by one; else raise the error."""
    try:
        words, tree = element_rule(dot)
    except NoTreeError:
        raise error from None
    trees = {nb: tree(nb) for nb in lengths if nb <= LARGEST_BY_ELEMENT}
    for fused in (False, True):
        order = TreeOrder(REVEALED, SINGLE, trees, fused, REVEALED, nrc=dot.nrc)
        yield Candidate(order, words=words, rule=tree, limit=LARGEST_BY_ELEMENT)


def _tree_order(dot: Dot, trees: dict[int, Additions], least: int = 0) -> TreeOrder:
    """Return an order of whole blocks with what experiments show of fused products."""
    nb = next((nb for nb in trees if nb >= max(least, 5)), max(trees))
    held = members(nb, trees[nb])
    joins = [(left, right) for left, right in trees[nb] if right < nb]
    fused = any(
        arithmetic.is_fused(dot, nb, right, (held[left] & -held[left]).bit_length() - 1)
        for left, right in joins[-1:]
    )
    return TreeOrder(REVEALED, WHOLE, trees, fused, REVEALED, nrc=dot.nrc)
