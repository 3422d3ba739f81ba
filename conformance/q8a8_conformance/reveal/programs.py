"""An order at one length as a program: its terms, and the additions in their sequence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from q8a8.order import Program, TreeOrder
from q8a8_conformance.reveal.trees import members

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from q8a8.order import AnyOrder, Fold, Lanes, Order


def terms_of(lanes: Sequence[Lanes]) -> list[tuple[int, tuple[int, ...]]]:
    """Return each term of blocks with lanes: its block, and the bytes of it that are summed in integers."""
    return [(block, own) for block, of in enumerate(lanes) for own in of]


def meaning(program: Program) -> Hashable:
    """Return a key that is equal for programs with the same bits by construction."""
    names = [(block, tuple(sorted(own))) for block, own in terms_of(program.lanes)]
    held = members(len(names), program.additions)
    ranks = {name: rank for rank, name in enumerate(sorted(names))}
    bits = [1 << ranks[name] for name in names]

    def renamed(mask: int) -> int:
        return sum(bit for k, bit in enumerate(bits) if mask >> k & 1)

    sums = frozenset(
        (renamed(held[len(names) + k]), renamed(held[pair[1]]) if fused else 0)
        for k, (pair, fused) in enumerate(zip(program.additions, program.fused, strict=True))
    )
    return tuple(sorted(names)), sums


def program(order: AnyOrder, nb: int) -> Program:
    """Return the program of an order for rows of nb blocks."""
    return order.programs[nb] if isinstance(order, TreeOrder) else _OrderWriter(order, nb).program


class Writer:
    """Writes a program of so many lanes by block; a sum that still is +0 is None."""

    def __init__(self, lanes: tuple[Lanes, ...]) -> None:
        self._lanes = lanes
        self._terms = sum(map(len, lanes))
        self._additions: list[tuple[int, int]] = []
        self._fused: list[bool] = []

    @property
    def program(self) -> Program:
        """What was written."""
        return Program(self._lanes, tuple(self._additions), tuple(self._fused))

    def add(self, left: int | None, right: int | None, *, fused: bool = False) -> int | None:
        """Add two numbers and return the sum's; only a term can be fused, on the right."""
        if left is None or right is None:
            return right if left is None else left
        self._additions.append((left, right))
        self._fused.append(fused and right < self._terms)
        return self._terms + len(self._additions) - 1


class _OrderWriter(Writer):
    """Follows an `Order` and writes down what it adds."""

    def __init__(self, order: Order, nb: int) -> None:
        registers: list[int | None] = [None] * order.registers
        if order.tail == "body":
            super().__init__((order.lanes,) * nb)
            self._take(registers, order.lanes, order.body, range(nb), fused=order.fused)
            self._fold(order.fold, registers)
            return
        left = nb - nb % len(order.body)
        tail, fold = order.remainder
        super().__init__((order.lanes,) * left + (tail.lanes,) * (nb - left))
        self._take(registers, order.lanes, order.body, range(left), fused=order.fused)
        registers = [None if start is None else self._fold(start, registers) for start in tail.start]
        first = left * len(order.lanes)
        self._take(registers, tail.lanes, tail.body, range(nb - left), first, fused=order.tail_fused)
        self._fold(fold, registers)

    def _take(
        self,
        registers: list[int | None],
        lanes: Lanes,
        body: tuple[int, ...],
        blocks: range,
        first: int = 0,
        *,
        fused: bool,
    ) -> None:
        """Add the terms of blocks, from number `first` on, to their registers."""
        for k in blocks:
            for lane in range(len(lanes)):
                register = body[k % len(body)] * len(lanes) + lane
                term = first + k * len(lanes) + lane
                registers[register] = self.add(registers[register], term, fused=fused)

    def _fold(self, fold: Fold, registers: list[int | None]) -> int | None:
        if isinstance(fold, int):
            return registers[fold]
        return self.add(self._fold(fold[0], registers), self._fold(fold[1], registers))
