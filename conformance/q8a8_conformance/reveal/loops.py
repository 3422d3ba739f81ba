"""From the program of one row to those of all: what repeats from step to step of a loop, and its words.

Blocks are named by their place: in the head, in a step of the loop, or in the tail. A sum that grows by the
same with each step, as acc = acc + x, acc = acc + (x + y) or acc = fma(x, fma(y, acc)), is a `Chain`: what it
starts with, and what one step does to it. A program of a few steps in which each sum of blocks of several
steps is a chain, or adds chains, is a loop, and can be written for any number of steps. No step's blocks are
anywhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from q8a8.order import WHOLE
from q8a8_conformance.results.record import count
from q8a8_conformance.reveal.programs import Writer, terms_of
from q8a8_conformance.reveal.quantizers.words import ranges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from q8a8.order import Lanes, Program


Where: TypeAlias = "tuple[str, int]"
"""("head", b), block b of the row; ("step", b), of a step; or ("tail", b), of those after the last step."""

STEPS = 3
"""Steps of a program from which a loop is read: two show the same, the first shows what it starts with."""

SHORT, SPARE = 4, 1
"""Blocks of a short step, and steps more that are read of it."""


class NoLoopError(Exception):
    """Raised where a program is no loop."""


@dataclass(frozen=True)
class Term:
    """A term: the place of its block, and the bytes that it sums."""

    where: Where
    own: tuple[int, ...]


@dataclass(frozen=True)
class Sum:
    """The sum of two expressions; the right one is a term that is fused, if one is."""

    left: Expression
    right: Expression
    fused: bool


@dataclass(frozen=True)
class Chain:
    """What grows by the same with each step.

    Attributes
    ----------
    start
        The sum before the first step; None for +0.
    added
        What one step adds, one after the other, and whether it is a term that is fused.
    backwards
        Whether the last step of the row comes first.
    """

    start: Expression | None
    added: tuple[tuple[Expression, bool], ...]
    backwards: bool


Expression: TypeAlias = "Term | Sum | Chain"


@dataclass(frozen=True)
class Blocks:
    """How a row is divided.

    Attributes
    ----------
    step
        Blocks of a step.
    head, tail
        Blocks before the first step, and after the last.
    apart
        Whether the blocks of a step are apart from each other: step k takes the k-th of each equal part of
        the row.
    """

    step: int
    head: int
    tail: int
    apart: bool = False

    def steps(self, nb: int) -> int:
        """Return how many steps a row has."""
        return (nb - self.head - self.tail) // self.step

    def where(self, nb: int, block: int) -> tuple[Where, int]:
        """Return the place of a block, and its step; -1 for none."""
        steps, inner = self.steps(nb), block - self.head
        if inner < 0:
            return ("head", block), -1
        if inner >= steps * self.step:
            return ("tail", inner - steps * self.step), -1
        number, offset = divmod(inner, self.step) if not self.apart else divmod(inner, steps)[::-1]
        return ("step", offset), number

    def block(self, nb: int, where: Where, number: int) -> int:
        """Return the block at a place."""
        kind, offset = where
        if kind == "head":
            return offset
        steps = self.steps(nb)
        if kind == "tail":
            return self.head + steps * self.step + offset
        return self.head + (offset * steps + number if self.apart else number * self.step + offset)


@dataclass(frozen=True)
class Loop:
    """Additions by rule, for rows that are divided in one way.

    Attributes
    ----------
    blocks
        How the rows are divided.
    total
        What is added; None for nothing.
    """

    blocks: Blocks
    total: Expression | None

    def program(self, nb: int) -> Program:
        """Write the program of a row."""
        return _LoopWriter(self, nb).program

    def without_last(self) -> Iterator[Loop]:
        """Yield what is left where the last block of the tail, or of the head, is none of the row."""
        for kind in ("tail", "head"):
            count = getattr(self.blocks, kind)
            if count:
                tail, head = self.blocks.tail - (kind == "tail"), self.blocks.head - (kind == "head")
                blocks = Blocks(self.blocks.step, head, tail, self.blocks.apart)
                yield Loop(blocks, _without(self.total, (kind, count - 1)))

    @property
    def least(self) -> int:
        """Blocks of the shortest row."""
        return self.blocks.head + self.blocks.tail

    def parts(self) -> Iterator[Expression]:
        """Yield all expressions."""
        yield from _parts(self.total)

    @property
    def lanes(self) -> dict[Where, Lanes]:
        """The lanes of the blocks at each place."""
        owns: dict[Where, list[tuple[int, ...]]] = {}
        for part in self.parts():
            if isinstance(part, Term):
                owns.setdefault(part.where, []).append(part.own)
        return {where: tuple(sorted(own)) for where, own in owns.items()}


def _parts(of: Expression | None) -> Iterator[Expression]:
    if of:
        yield of
    inner: tuple[Expression | None, ...] = ()
    if isinstance(of, Sum):
        inner = of.left, of.right
    elif isinstance(of, Chain):
        inner = of.start, *(each for each, _ in of.added)
    for each in inner:
        yield from _parts(each)


def _without(of: Expression | None, where: Where) -> Expression | None:
    if of is None or (isinstance(of, Term) and of.where == where):
        return None
    if isinstance(of, Term):
        return of
    if isinstance(of, Chain):
        return Chain(_without(of.start, where), of.added, of.backwards)
    left, right = _without(of.left, where), _without(of.right, where)
    return Sum(left, right, of.fused) if left and right else left or right


class _LoopWriter(Writer):
    """Writes the program of a row."""

    def __init__(self, loop: Loop, nb: int) -> None:
        self._blocks, self._nb = loop.blocks, nb
        of = loop.lanes
        super().__init__(tuple(of[loop.blocks.where(nb, block)[0]] for block in range(nb)))
        self._numbers = {term: number for number, term in enumerate(terms_of(self._lanes))}
        self._write(loop.total, 0)

    def _write(self, of: Expression | None, number: int) -> int | None:
        if of is None:
            return None
        if isinstance(of, Term):
            return self._numbers[self._blocks.block(self._nb, of.where, number), of.own]
        if isinstance(of, Sum):
            return self.add(self._write(of.left, number), self._write(of.right, number), fused=of.fused)
        total = self._write(of.start, number)
        steps = range(self._blocks.steps(self._nb))
        for step in reversed(steps) if of.backwards else steps:
            for each, fused in of.added:
                total = self.add(total, self._write(each, step), fused=fused)
        return total


class _Reader:
    """Reads a loop from a program: numbers are those of its terms and sums."""

    def __init__(self, program: Program, blocks: Blocks) -> None:
        nb = len(program.lanes)
        terms = terms_of(program.lanes)
        self._program, self._terms = program, len(terms)
        self._steps = blocks.steps(nb)
        self._of: list[Term] = []
        # The steps under each number, as bits; bit 0 for blocks that are in none.
        self._held: list[int] = []
        # A number for what is added, whatever the step: equal expressions have equal ones.
        self._meaning: list[int] = []
        self._known: dict[object, int] = {}
        for block, own in terms:
            where, step = blocks.where(nb, block)
            self._of.append(Term(where, own))
            self._held.append(1 << (step + 1))
            self._meaning.append(self._name((where, own)))
        for (left, right), fused in zip(program.additions, program.fused, strict=True):
            self._held.append(self._held[left] | self._held[right])
            self._meaning.append(self._sum(self._meaning[left], self._meaning[right], fused=fused))

    def _name(self, key: object) -> int:
        return self._known.setdefault(key, len(self._known))

    def _sum(self, left: int, right: int, *, fused: bool) -> int:
        return self._name((fused, left, right) if fused else (fused, *sorted((left, right))))

    def read(self, number: int) -> Expression:
        """Read a sum.

        Raises
        ------
        NoLoopError
            Blocks of a step are in no chain.
        """
        if self._held[number] != 1:
            chain = self._chain(number, backwards=False) or self._chain(number, backwards=True)
            if chain:
                return chain
            if number < self._terms:
                raise NoLoopError
        return self._plain(number, self.read)

    def _plain(self, number: int, of: Callable[[int], Expression] | None = None) -> Expression:
        """Return what is added under a number, as it is, or its two sides by another reading."""
        if number < self._terms:
            return self._of[number]
        of = of or self._plain
        left, right = self._program.additions[number - self._terms]
        return Sum(of(left), of(right), self._program.fused[number - self._terms])

    def _chain(self, number: int, *, backwards: bool) -> Chain | None:
        """Return a sum as a chain; None where it is none."""
        order = range(self._steps)
        last, *others, first = order if backwards else order[::-1]
        taken, here = self._taken(number, last)
        if not taken:
            return None
        key = [(self._meaning[part], fused) for part, fused in taken]
        for step in others:
            more, here = self._taken(here, step, len(taken))
            if [(self._meaning[part], fused) for part, fused in more] != key:
                return None
        added = tuple((self._plain(part), fused) for part, fused in reversed(taken))
        # Without a start, the first of what the first step adds is the sum itself.
        alone, *rest = reversed(key)
        meaning = alone[0]
        for part, fused in rest:
            meaning = self._sum(meaning, part, fused=fused)
        if self._meaning[here] == meaning and self._held[here] == 1 << (first + 1):
            return Chain(None, added, backwards)
        more, here = self._taken(here, first, len(taken))
        if [(self._meaning[part], fused) for part, fused in more] != key:
            return None
        return Chain(self.read(here), added, backwards)

    def _taken(self, number: int, step: int, most: int = 0) -> tuple[list[tuple[int, bool]], int]:
        """Return what one step added last to a sum, the last first, and the sum before it."""
        taken: list[tuple[int, bool]] = []
        while number >= self._terms and (not most or len(taken) < most):
            pair = self._program.additions[number - self._terms]
            fused = self._program.fused[number - self._terms]
            parts = [part for part in pair if self._held[part] == 1 << (step + 1)]
            if len(parts) != 1:
                break
            taken.append((parts[0], fused and parts[0] == pair[1]))
            number = pair[0] if parts[0] == pair[1] else pair[1]
        return taken, number


def read_loop(program: Program, blocks: Blocks) -> Loop | None:
    """Return a program as a loop; None where it is none."""
    try:
        terms = sum(map(len, program.lanes))
        return Loop(blocks, _Reader(program, blocks).read(terms + len(program.additions) - 1))
    except NoLoopError:
        return None


def divisions(step: int, nb: int) -> Iterator[Blocks]:
    """Yield the ways to divide a row into steps of so many blocks, with few blocks in no step first."""
    for left in range(nb % step, nb - STEPS * step + 1, step):
        for head in (*range(min(left, 1) + 1), *range(2, left + 1)):
            for apart in (False, True)[: 1 + (step > 1)]:
                yield Blocks(step, head, left - head, apart)


def length(step: int, left: int, least: int) -> int:
    """Return the blocks of a row from which a loop is read, with so many blocks left over.

    Short steps: a row in which whole steps may be in no loop, too.
    """
    return max(STEPS + (SPARE if step <= SHORT else 0), -(-least // step)) * step + left


def lanes_words(lanes: Lanes) -> str:
    """Describe lanes: how many, and which codes they sum."""
    if lanes == WHOLE:
        return "whole blocks summed in integers"
    each = len(lanes[0])
    if each == 1:
        return f"{len(lanes)} lanes, one for each code"
    consecutive = all(lane == tuple(range(lane[0], lane[0] + each)) for lane in lanes)
    which = (
        f"each {each} consecutive codes"
        if consecutive
        else f"each {each} codes (the first {ranges(lanes[0], '-')})"
    )
    return f"{len(lanes)} lanes, {which}"


def loop_words(loop: Loop, *, alone: str = "") -> str:
    """Describe a loop: its steps, its sums, and the lanes of the blocks that are in no step."""
    blocks, lanes = loop.blocks, loop.lanes
    parts = [f"steps of {count(blocks.step, 'block')}"]
    if blocks.apart:
        parts[0] += f", one of each of {blocks.step} equal parts of the row"
    chains = [each for each in loop.parts() if isinstance(each, Chain)]
    if any(chain.backwards for chain in chains):
        parts[0] += ", from the last to the first"
    parts.append(count(len(chains), "sum"))
    of_steps = dict.fromkeys(own for (kind, _), own in lanes.items() if kind == "step")
    parts.append(" and ".join(map(lanes_words, of_steps)))
    fused = {fused for each in chains for part, fused in each.added if isinstance(part, Term)}
    parts.append({(True,): "fused", (False, True): "some fused"}.get(tuple(sorted(fused)), "not fused"))
    for kind, words in (("head", "the first blocks"), ("tail", "blocks left over")):
        apart = dict.fromkeys(own for (where, _), own in lanes.items() if where == kind)
        if apart:
            joined = " and ".join(map(lanes_words, apart)) if apart != of_steps else "the same lanes"
            parts.append(f"{words}: {joined}")
    if alone:
        parts.append(f"rows of {alone} blocks otherwise")
    return ", ".join(parts)
