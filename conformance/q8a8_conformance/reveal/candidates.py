"""The orders that fit a kernel's trees: regular ones, trees by rule, and trees as they were found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from q8a8.order import ORDERS, WHOLE, Order, Program, Tail, TreeOrder
from q8a8_conformance.reveal import arithmetic
from q8a8_conformance.reveal.asking import NoTreeError
from q8a8_conformance.reveal.elements import reveal_program
from q8a8_conformance.reveal.loops import divisions, length, loop_words, read_loop
from q8a8_conformance.reveal.masks import UNIT
from q8a8_conformance.reveal.programs import meaning, program
from q8a8_conformance.reveal.quantizers.words import ranges
from q8a8_conformance.reveal.regular import REVEALED, Steps, block_tree, reveal_order
from q8a8_conformance.reveal.trees import FORWARD, families, members, same

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from q8a8.order import Additions, AnyOrder, Scales
    from q8a8_conformance.reveal.asking import Dot
    from q8a8_conformance.reveal.held import HeldRows
    from q8a8_conformance.reveal.loops import Loop

LARGEST_TREE = 1200
"""Blocks of the longest row whose tree is looked for: it takes as many calls."""

LARGEST_FOUND = 40
"""Blocks of the longest row whose program is kept as it was found, where no rule is known."""

STEPS = (1, 2, 3, 4, 5, 6, 7, 8, 12, 16)
"""Blocks of the steps of a loop of any kind."""

ALONE = 16
"""Blocks of the longest row that may be no row of a loop."""

LARGEST_PROGRAM = 640
"""Terms of the longest row whose program is looked for, to find a loop: it takes several calls for each."""

LARGEST_TERMS = 70_000
"""Terms of the longest row for which a program is written."""


class ByRule(Mapping[int, Program]):
    """The programs of a rule, for rows of any number of blocks."""

    def __init__(self, rule: Callable[[int], Program]) -> None:
        self._rule = rule

    def __getitem__(self, nb: int) -> Program:
        """Return the program of rows of nb blocks."""
        return self._rule(nb)

    def __contains__(self, nb: object) -> bool:
        """Return whether it is a number of blocks."""
        return isinstance(nb, int)

    def __iter__(self) -> Iterator[int]:
        """Return nothing: there are as many programs as numbers."""
        return iter(())

    def __len__(self) -> int:
        """Return 0: no program is kept."""
        return 0


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
        A `TreeOrder` in words.
    limit
        Blocks of the longest row that it is tried on; 0 for no limit.
    """

    order: AnyOrder
    names: tuple[str, ...] = ()
    words: str = ""
    limit: int = 0

    def tree(self, nb: int) -> Additions:
        """Return the additions of whole blocks, whatever the lanes of the order."""
        written = program(self.order, nb)
        return written.additions if set(written.lanes) <= {WHOLE} else FORWARD(nb)


def candidates(
    dot: Dot, unit: int, tried: Sequence[HeldRows], least: int = 0, before: Candidate | None = None
) -> Iterator[Candidate]:
    """Yield the orders that fit what experiments show, the most regular first.

    An order is one of rows of `least` blocks and more, 0 for all, where shorter ones are added as `before`;
    it must explain `tried`. `unit` is log2 of the unit of the masks.

    Raises
    ------
    NoTreeError
        The experiments contradict each other.
    """
    wrong: NoTreeError | None = None
    some = False
    if least <= LARGEST_TREE:
        try:
            for order in reveal_order(dot, unit, least):
                try:
                    found = with_arithmetic(dot, order, least)
                except NoTreeError as error:
                    wrong = wrong or error  # lanes of rows of another length, perhaps: another step may fit
                    continue
                some = True
                yield Candidate(found, names_of(found))
        except NoTreeError as error:
            wrong = wrong or error
    try:
        for candidate in _by_family(dot, unit, least, before):
            some = True
            yield candidate
        for candidate in by_loop(dot, tried, least) if unit == UNIT else ():
            some = True
            yield candidate
    except NoTreeError as error:
        wrong = wrong or error
    if wrong and not some:
        raise wrong


def as_found(dot: Dot, lengths: Sequence[int]) -> Iterator[Candidate]:
    """Yield an order of the programs that experiments show at each length up to `LARGEST_FOUND`."""
    programs = {nb: reveal_program(dot, nb) for nb in lengths if nb <= LARGEST_FOUND}
    order = TreeOrder(REVEALED, programs, REVEALED, _scales(dot), dot.nrc)
    yield Candidate(order, words="a tree for each length")


def with_arithmetic(dot: Dot, order: Order, least: int) -> Order:
    """Return a regular order with what experiments show of fused products and of the scales' product."""
    steps, step = Steps(order.body, least), len(order.body)
    nb = steps.nb
    first, second, lead = steps.firsts[0], steps.seconds[0], order.lanes[0][0]
    fused = arithmetic.is_fused(dot, nb, (second, lead), (first, lead))
    tail, tail_fused = order.tail, fused
    if isinstance(tail, Tail) and None in tail.start:
        if step > 2:
            # The first block left over is added to +0: the second one shows it.
            tail_fused = arithmetic.is_fused(dot, nb + 2, (nb + 1, lead), (nb, lead))
    elif step > 1:
        # Added to what another block of the same accumulator left there.
        in_place = isinstance(tail, Tail) and len(tail.start) == order.registers
        taker = tail.body[0] if isinstance(tail, Tail) and in_place else order.body[0]
        tail_fused = arithmetic.is_fused(dot, nb + 1, (nb, lead), (steps.firsts[taker], lead))
        if tail == "body" and tail_fused != fused:
            tail = Tail(order.lanes, tuple(range(order.registers)), order.body[:-1])
    scales = arithmetic.scales(dot, nb, order.lanes)
    return replace(order, tail=tail, fused=fused, tail_fused=tail_fused, scales=scales)


COMPARED = (*range(1, 14), 17, 33)
"""Blocks of rows in which two orders are compared, addition by addition."""


def names_of(order: Order) -> tuple[str, ...]:
    """Name the catalogue's orders that have the same additions."""
    if order.scales != "product" or len(order.body) > max(len(each.body) for each in ORDERS.values()):
        return ()
    own = [meaning(program(order, nb)) for nb in COMPARED]
    return tuple(
        name
        for name, other in ORDERS.items()
        if set(map(frozenset, other.lanes)) == set(map(frozenset, order.lanes))
        and all(meaning(program(other, nb)) == of for nb, of in zip(COMPARED, own, strict=True))
    )


def _by_family(dot: Dot, unit: int, least: int, before: Candidate | None) -> Iterator[Candidate]:
    """Yield the trees of blocks by rule that equal those of some lengths; for long rows, any."""
    shown = [max(least, 3) + k for k in (0, 7, 10)] if least <= LARGEST_TREE else []
    seen = {nb: block_tree(dot, nb, unit) for nb in shown}
    scales = _scales(dot)
    for family in families(least, before.tree if before else FORWARD):
        if all(same(nb, tree, family.tree(nb)) for nb, tree in seen.items()):
            fused = _is_fused(dot, *next(iter(seen.items()), (3, ((0, 1), (3, 2)))))
            programs = ByRule(partial(_whole, family.tree, fused=fused))
            words = f"{family.words}; {'fused' if fused else 'each product rounded first'}"
            yield Candidate(TreeOrder(REVEALED, programs, REVEALED, scales, dot.nrc), words=words)


def _whole(tree: Callable[[int], Additions], nb: int, *, fused: bool) -> Program:
    return Program.of_blocks(nb, WHOLE, tree(nb), fused=fused)


def _is_fused(dot: Dot, nb: int, additions: Additions) -> bool:
    """Return whether the last whole block that a tree adds to others is fused."""
    held = members(nb, additions)
    left, right = [pair for pair in additions if pair[1] < nb][-1]
    return arithmetic.is_fused(dot, nb, (right, 0), ((held[left] & -held[left]).bit_length() - 1, 0))


def by_loop(
    dot: Dot, tried: Sequence[HeldRows], least: int = 0, *, alone: bool = False
) -> Iterator[Candidate]:
    """Yield the loops that fit programs of a few lengths, of rows as those of `candidates`.

    With `alone`, short rows that a loop does not explain are given the programs that they have.

    Raises
    ------
    NoTreeError
        The experiments contradict each other.
    """
    scales = _scales(dot)
    found: list[int] = []
    for step in STEPS:
        if any(step % shorter == 0 for shorter in found):
            continue  # the same loop, some steps at once
        nb = length(step, step - 1, least)
        if nb * len(reveal_program(dot, 3).lanes[0]) > LARGEST_PROGRAM:
            return
        blocks = Program.of_blocks(nb, WHOLE, block_tree(dot, nb))
        if not any(read_loop(blocks, division) for division in divisions(step, nb)):
            continue
        loops = _loops_of(dot, step, tried, least, scales)
        if loops:
            found.append(step)
            short = [each for each in tried if alone and least <= each.nb <= ALONE]
            others = {
                each.nb: reveal_program(dot, each.nb)
                for each in short
                if not _fits(loops[each.nb % step], [each], scales)
            }
            order = TreeOrder(REVEALED, ByRule(partial(_written, loops, others)), REVEALED, scales, dot.nrc)
            limit = LARGEST_TERMS // max(
                len(lanes) for loop in loops.values() for lanes in loop.lanes.values()
            )
            words = loop_words(loops[step - 1], alone=ranges(sorted(others)))
            yield Candidate(order, words=words, limit=limit if limit < max(each.nb for each in tried) else 0)


def _scales(dot: Dot) -> Scales:
    return arithmetic.scales(dot, 3, reveal_program(dot, 3).lanes[0])


def _written(loops: Mapping[int, Loop], alone: Mapping[int, Program], nb: int) -> Program:
    loop = loops[nb % len(loops)]
    if nb < loop.least and nb not in alone:
        # (The loop has no such row. It is given an order, and the row's bits say whether it is that one.)
        return program(ORDERS["scalar"], nb)
    return alone[nb] if nb in alone else loop.program(nb)


def _loops_of(dot: Dot, step: int, tried: Sequence[HeldRows], least: int, scales: Scales) -> dict[int, Loop]:
    """Return the loop of rows that leave so many blocks over, for each number of them; {} for none.

    A row that leaves one block less over is mostly the same without that block, and is tried so first.
    """
    loops: dict[int, Loop] = {}
    for left in reversed(range(step)):
        nb = length(step, left, least)
        here = [each for each in tried if each.nb % step == left and nb <= each.nb <= 2 * nb]
        with_one_less = loops[left + 1].without_last() if loops else iter(())
        found = next((loop for loop in with_one_less if _fits(loop, here, scales)), None)
        if not found:
            seen = reveal_program(dot, nb)
            read = (read_loop(seen, division) for division in divisions(step, nb))
            found = next((loop for loop in read if loop and _fits(loop, here, scales)), None)
        if not found:
            return {}
        loops[left] = found
    return loops


def _fits(loop: Loop, rows: Sequence[HeldRows], scales: Scales) -> bool:
    """Return whether a loop explains rows."""
    order = TreeOrder(REVEALED, ByRule(loop.program), REVEALED, scales)
    return all(each.nb >= loop.least and not each.wrong(order, ordinary=True) for each in rows)
