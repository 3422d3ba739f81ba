"""An order at one length as a program: its terms, and the additions in their sequence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from q8a8.order import Program, TreeOrder
from q8a8_conformance.reveal.trees import members

if TYPE_CHECKING:
    from collections.abc import Hashable

    from q8a8.order import AnyOrder, Fold, Lanes, Order


def terms_of(program: Program) -> list[tuple[int, tuple[int, ...]]]:
    """Return each term of a program: its block, and the bytes of it that are summed in integers."""
    return [(block, own) for block, lanes in enumerate(program.lanes) for own in lanes]


def meaning(program: Program) -> Hashable:
    """Return a key that is equal for programs with the same bits by construction."""
    names = [(block, tuple(sorted(own))) for block, own in terms_of(program)]
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
    return order.programs[nb] if isinstance(order, TreeOrder) else _Writer(order, nb).program


class _Writer:
    """Follows an `Order` and writes down what it adds; registers that still hold +0 are None."""

    def __init__(self, order: Order, nb: int) -> None:
        self._lanes: list[Lanes] = []
        self._terms = 0
        # Sums are numbered from -1 downwards until all terms are known.
        self._additions: list[tuple[int, int]] = []
        self._fused: list[bool] = []
        step = len(order.body)
        left = nb if order.tail == "body" else nb - nb % step
        registers: list[int | None] = [None] * order.registers
        self._take(registers, order.lanes, order.body, range(left), fused=order.fused)
        if order.tail == "body":
            self._fold(order.fold, registers)
        else:
            tail, fold = order.remainder
            registers = [None if start is None else self._fold(start, registers) for start in tail.start]
            self._take(registers, tail.lanes, tail.body, range(left, nb), fused=order.tail_fused)
            self._fold(fold, registers)

    @property
    def program(self) -> Program:
        """What was written."""
        n = self._terms
        numbered = tuple(
            (left if left >= 0 else n - 1 - left, right if right >= 0 else n - 1 - right)
            for left, right in self._additions
        )
        return Program(tuple(self._lanes), numbered, tuple(self._fused))

    def _take(
        self, registers: list[int | None], lanes: Lanes, body: tuple[int, ...], blocks: range, *, fused: bool
    ) -> None:
        for k in range(len(blocks)):
            self._lanes.append(lanes)
            for lane in range(len(lanes)):
                register = body[k % len(body)] * len(lanes) + lane
                registers[register] = self._add(registers[register], self._terms, fused=fused)
                self._terms += 1

    def _fold(self, fold: Fold, registers: list[int | None]) -> int | None:
        if isinstance(fold, int):
            return registers[fold]
        return self._add(self._fold(fold[0], registers), self._fold(fold[1], registers), fused=False)

    def _add(self, left: int | None, right: int | None, *, fused: bool) -> int | None:
        if left is None or right is None:
            return right if left is None else left
        self._additions.append((left, right))
        self._fused.append(fused)
        return -len(self._additions)
