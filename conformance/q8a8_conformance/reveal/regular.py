"""From experiments to an `Order`: lanes, accumulators, fold and tail of a kernel that keeps to a step.

The experiments, each on rows as short as will do:

1. the tree of element 0 of all blocks shows the accumulators and the step of the loop;
2. in rows of two steps the masks are in the first step's blocks and the units in the second's, one for each
   accumulator and lane, so that every pair of registers can be compared: that shows the lanes, then the fold;
3. the tree of element 0 of a row with the most blocks left over shows the tail, and one experiment across two
   lanes whether it takes these blocks whole.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from q8a8.order import WHOLE, Order, Tail, fold_leaves
from q8a8_conformance.reveal.asking import NoTreeError
from q8a8_conformance.reveal.masks import UNIT, Masks
from q8a8_conformance.reveal.trees import accumulators, as_fold, members, periods, reveal_tree

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from q8a8.order import Additions, Fold, Lanes
    from q8a8_conformance.reveal.asking import Dot
    from q8a8_conformance.reveal.trees import Accumulators

REVEALED = "revealed"
"""The name, and the source, of an order that was found by experiments."""

LENGTHS = (16, 48, 140)
"""Blocks of rows in which a step is looked for: a step of up to half of them is found."""

SHORTER = (11, 7)
"""The same for kernels that add short rows alone so."""


def block_tree(dot: Dot, nb: int, unit: int = UNIT) -> Additions:
    """Find the tree of element 0 of all blocks of a row.

    Raises
    ------
    NoTreeError
        There is none.
    """
    if nb < 3:
        return reveal_tree(nb, lambda _one, _other: nb)
    masks = Masks(dot, nb, [(b, 0) for b in range(nb)], unit)
    return reveal_tree(nb, lambda one, other: 2 + masks.absorbed((one, 0), (other, 0)))


@dataclass(frozen=True)
class Steps:
    """A loop's step, with the first two blocks that each accumulator takes.

    Attributes
    ----------
    body
        The accumulator of each block of a step.
    least
        Blocks of the shortest row that is added so.
    """

    body: tuple[int, ...]
    least: int = 0

    @property
    def nb(self) -> int:
        """Blocks of the shortest row of whole steps, two at least."""
        return max(2, -(-self.least // len(self.body))) * len(self.body)

    @property
    def firsts(self) -> list[int]:
        """The first block of each accumulator."""
        return [self.body.index(a) for a in range(max(self.body) + 1)]

    @property
    def seconds(self) -> list[int]:
        """The second block of each accumulator, in rows of two steps."""
        twice = self.body * 2
        return [twice.index(a, first + 1) for a, first in enumerate(self.firsts)]


def reveal_order(dot: Dot, unit: int = UNIT, least: int = 0) -> Iterator[Order]:
    """Yield the regular orders that fit a kernel's trees, unfused; none where the kernel keeps to no step.

    `unit` is log2 of the masks' unit; `least` the blocks of the shortest row, for an order of long rows.

    Raises
    ------
    NoTreeError
        The experiments contradict each other.
    """
    seen: tuple[int, ...] = ()
    for nb in (least, 2 * least + LENGTHS[0]) if least else (*LENGTHS, *SHORTER):
        if seen and nb not in SHORTER:
            continue
        found = accumulators(nb, block_tree(dot, nb, unit))
        body = next(periods(nb, found), ()) if found else ()
        if not body or body == seen:
            continue
        seen = seen or body
        steps = Steps(body, least)
        lanes = find_lanes(dot, steps, unit)
        fold = _find_fold(dot, steps, lanes, unit)
        order = Order(REVEALED, lanes, body, fold, False, "body", False, dot.nrc, REVEALED)
        yield from _with_tail(dot, order, unit, least)


def find_lanes(dot: Dot, steps: Steps, unit: int = UNIT) -> Lanes:
    """Find the elements of a block that are summed before anything is rounded: the lanes.

    The masks are at two elements of one block. In one lane their sum is zero at once, and no unit is lost; in
    two, they meet in the fold alone, and the units of both lanes in the first step are.
    """
    where = steps.seconds[0]
    units = [(block, element) for block in steps.firsts for element in range(32)]
    masks = Masks(dot, steps.nb, units, unit)
    lanes: list[tuple[int, ...]] = []

    def split(group: list[int]) -> None:
        one, *others = group
        lost = {other: masks.absorbed((where, one), (where, other)) for other in others}
        lanes.append((one, *(other for other in others if lost[other] == 0)))
        for count in sorted(set(lost.values()) - {0}):
            split([other for other in others if lost[other] == count])

    split(list(range(32)))
    return tuple(sorted(lanes))


def _find_fold(dot: Dot, steps: Steps, lanes: Lanes, unit: int) -> Fold:
    """Find how the registers are added: masks in the first step, a unit for each register in the second."""
    leads = [lane[0] for lane in lanes]
    units = [(block, element) for block in steps.seconds for element in leads]
    places = [(block, element) for block in steps.firsts for element in leads]
    masks = Masks(dot, steps.nb, units, unit)
    size = len(places)
    return as_fold(size, reveal_tree(size, lambda one, other: masks.absorbed(places[one], places[other])))


def _with_tail(dot: Dot, order: Order, unit: int, least: int) -> Iterator[Order]:
    """Yield the order with the tails that fit the blocks left over by the last step."""
    step = len(order.body)
    if step == 1:
        yield order
        return
    nb = Steps(order.body, least).nb + step - 1
    left = range(nb - step + 1, nb)
    additions = block_tree(dot, nb, unit)
    found = accumulators(nb, additions)
    if found is None:
        return
    taker = {block: a for a, chain in enumerate(found.chains) for block in chain if chain[0] < step}
    taken = tuple(taker.get(block, -1) for block in left)
    registers: tuple[Fold, ...] = tuple(range(order.registers))
    if taken == order.body[: step - 1]:
        yield order
    elif -1 not in taken:
        yield replace(order, tail=Tail(order.lanes, registers, taken))
    elif set(taken) == {-1}:
        yield from _with_joined_tail(dot, order, unit, left, additions, found)


def _with_joined_tail(
    dot: Dot,
    order: Order,
    unit: int,
    left: Sequence[int],
    additions: Additions,
    found: Accumulators,
) -> Iterator[Order]:
    """Yield the order with a tail that joins the folded accumulators, by lanes or by whole blocks."""
    body = (1 << left[0]) - 1
    before = {block: held for block, held in found.alone if block in left}
    of_lanes = split_fold(order, by_lane=True) if len(order.lanes) > 1 else None
    vector = of_lanes is not None and not _crosses_lanes(dot, order, left[0], unit)
    if all(before.get(block) == body | ((1 << block) - (1 << left[0])) for block in left):
        if vector and of_lanes:
            yield replace(order, fold=of_lanes[1], tail=Tail(order.lanes, of_lanes[0], (0,)))
        else:
            yield replace(order, tail="scalar")
    elif len(left) > 1 and body in members(left[-1] + 1, additions):
        apart = accumulators(left[-1] + 1, additions)
        if apart and tuple(left) in apart.chains:
            yield replace(order, fold=(0, 1), tail=Tail(WHOLE, (order.fold, None), (1,)))


def _crosses_lanes(dot: Dot, order: Order, tail_block: int, unit: int) -> bool:
    """Return whether a block of the tail meets one lane of the body after another lane did."""
    nb = tail_block + 1
    steps = Steps(order.body)
    (here, *_), (other, *_) = order.lanes[:2]
    masks = Masks(dot, nb, [(steps.seconds[0], other)], unit)
    return masks.absorbed((steps.firsts[0], here), (tail_block, here)) > 0


def split_fold(order: Order, *, by_lane: bool) -> tuple[tuple[Fold, ...], Fold] | None:
    """Split a fold of registers in two stages; None where it is none.

    The first stage adds the accumulators, lane by lane, or else the lanes of each accumulator.

    Returns
    -------
    The folds of the first stage, by lane or by accumulator, and the fold of their sums.
    """
    lanes = len(order.lanes)
    of = {r: r % lanes if by_lane else r // lanes for r in range(order.registers)}
    starts: dict[int, Fold] = {}

    def outer(fold: Fold) -> Fold:
        registers = {register for register, _ in fold_leaves(fold)}
        (group, *others) = {of[r] for r in registers}
        if not others and registers == {r for r in of if of[r] == group}:
            starts[group] = fold
            return group
        if isinstance(fold, int):
            raise NoTreeError
        return outer(fold[0]), outer(fold[1])

    try:
        fold = outer(order.fold)
    except NoTreeError:
        return None
    return tuple(starts[group] for group in range(len(starts))), fold
