"""Reveal a dot product: the order of its additions and its arithmetic, as the length of the rows goes.

An order is found at the shortest rows, and tried on random rows of many lengths. Where it stops to explain
them, the length at which the kernel changes is found by bisection, and the order that it has from there on.
"""

from __future__ import annotations

import itertools
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8.order import ORDERS
from q8a8_conformance.inputs import dot_rows
from q8a8_conformance.report.trees import tree_svg
from q8a8_conformance.results.record import count, lengths
from q8a8_conformance.reveal import arithmetic, describe, held
from q8a8_conformance.reveal.asking import Dot, NoAnswerError, NoTreeError
from q8a8_conformance.reveal.candidates import Candidate, as_found, by_loop, candidates
from q8a8_conformance.reveal.masks import SMALL_UNIT, UNIT
from q8a8_conformance.reveal.summations import SUMMATIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from q8a8_conformance.reveal.asking import AskDot
    from q8a8_conformance.reveal.held import HeldRows
    from q8a8_conformance.reveal.summations import Summation

FLOAT = 24
"""Bits of float32."""

SHORT = tuple(range(1, 41))
LONG = (
    48, 63, 64, 65, 96, 127, 128, 129, 255, 256, 257, 300, 513, 1024, 1025, 1500, 2049, 4097, 8193,
)  # fmt: skip
"""Blocks of the random rows on which a revealed order is tried."""

ENOUGH = 3
"""Lengths of rows above two blocks that an order must explain to be one."""

MAX_PIECES = 5
"""Orders of one function at most: a kernel with more of them has none that is worth a name."""


@dataclass(frozen=True)
class Piece:
    """What a kernel computes in rows of a range of lengths.

    Attributes
    ----------
    first, last
        Blocks of the shortest and the longest row that were seen to be computed so; last is None at the end.
    found
        The order with its words; None where it could not be found.
    why
        Why it could not.
    """

    first: int
    last: int | None
    found: Candidate | None
    why: str = ""

    def holds(self, nb: int) -> bool:
        """Return whether rows of nb blocks are computed so."""
        return self.first <= nb and (self.last is None or nb <= self.last)


@dataclass
class Revealed:
    """What was found about one dot product.

    Attributes
    ----------
    function, nrc
        The ABI function, and rows at a time.
    bits, rounding
        What sums keep (`arithmetic.sum_bits`), and how they are rounded to float32; empty where not measured.
    pieces
        The orders by length.
    summation
        A way to add that is no tree and explains all results, or None.
    of, unexplained
        Random results that the orders were tried on, and how many of them they do not give.
    notes
        What depends on more than a row's length.
    calls
        Calls of the kernel.
    died
        Why the experiments ended early: a call did not return. It is a note, too.
    fitting
        The orders that fit the experiments, whether or not they explain random rows.
    """

    function: str
    nrc: int
    bits: int = 0
    rounding: str = ""
    pieces: list[Piece] = field(default_factory=list)
    summation: Summation | None = None
    of: int = 0
    unexplained: int = 0
    notes: list[str] = field(default_factory=list)
    calls: int = 0
    died: str = ""
    fitting: list[Candidate] = field(default_factory=list, repr=False)

    @property
    def is_tree(self) -> bool:
        """Whether orders were found that explain every result."""
        found = bool(self.pieces) and all(piece.found for piece in self.pieces)
        return found and not self.unexplained and not self.summation

    @property
    def words(self) -> str:
        """The orders in words, by length where there are several."""
        return "; ".join(self._span(p) + describe.words_of(p.found) for p in self.pieces if p.found)

    def wrong(self, rows: Iterable[HeldRows]) -> int:
        """Count the results that the orders do not give."""
        return sum(_wrong(self.pieces, each) for each in rows)

    def piece_of(self, nb: int) -> Piece | None:
        """Return the order of rows of nb blocks."""
        return next((piece for piece in self.pieces if piece.holds(nb)), None)

    def to_json(self, blocks: int | None = None) -> dict[str, Any]:
        """Return what was found as JSON data; the trees for rows of so many blocks where they are used."""
        orders = []
        for piece in self.pieces:
            entry: dict[str, Any] = {"first": piece.first, "last": piece.last}
            if piece.found is None:
                entry["why"] = piece.why
            else:
                entry |= describe.order_json(piece.found, self._shown(piece, blocks))
            orders.append(entry)
        shown = self.piece_of(blocks or 1)
        first = orders[self.pieces.index(shown)] if shown else {}
        return {
            "function": self.function,
            "nrc": self.nrc,
            "kind": self.kind,
            **{
                key: first.get(key)
                for key in ("name", "description", "blocks", "tree", "lanes", "fused", "scales")
            },
            "precision": {"bits": self.bits or None, "rounding": self.rounding or None},
            "orders": orders,
            "summation": self.summation.cause if self.summation else None,
            "notes": self.notes,
            "rows": self.of,
            "unexplained": self.unexplained,
            "calls": self.calls,
            "died": self.died or None,
        }

    @property
    def kind(self) -> str:
        """What it is: ``tree``, ``other-sum`` (a way to add that is no tree of floats), or ``unknown``."""
        if self.is_tree:
            return "tree"
        return "other-sum" if self.summation else "unknown"

    def text(self) -> str:
        """Return what was found as lines of text."""
        head = self.function + (", nrc = 2" if self.nrc == 2 else "")
        lines = [head]
        if self.summation:
            lines.append(f"  no tree of float32 sums: {self.summation.symptom}")
        for piece in self.pieces:
            span = self._span(piece)
            if piece.found is None:
                lines.append(f"  {span}no order: {piece.why}")
                continue
            names = f"{' = '.join(piece.found.names)}: " if piece.found.names else "not in the catalogue: "
            lines.append(f"  {span}{names}{describe.words_of(piece.found)}")
        lines += [f"  {note}" for note in self.notes]
        if self.bits:
            lost = self.bits < arithmetic.EXACT
            lines.append(f"  sums keep {self.bits} bits" if lost else "  sums keep every bit")
        if self.rounding:
            lines.append(f"  results are rounded {self.rounding}")
        if self.of:
            lines.append(
                f"  {self.of - self.unexplained} of {self.of} results of random rows have these bits"
            )
        lines.append(f"  {count(self.calls, 'call')}")
        return "\n".join(lines) + "\n"

    def svg(self, blocks: int | None = None, *, alone: bool = False) -> str:
        """Draw the tree of the blocks of a row; empty where there is none."""
        piece = self.piece_of(blocks or 1)
        if piece is None or piece.found is None:
            return ""
        nb = self._shown(piece, blocks)
        if nb > describe.LARGEST_TREE:
            return ""
        return tree_svg(
            nb,
            describe.block_tree_of(piece.found.order, nb),
            f"{self.function}: the additions of {count(nb, 'block')}",
            lambda term: f"b{term}",
            alone=alone,
        )

    def _shown(self, piece: Piece, blocks: int | None) -> int:
        """Return the blocks of the tree that shows an order."""
        if blocks and self.piece_of(blocks) == piece:
            return blocks
        return describe.blocks_shown(piece.found, piece.first)

    def _span(self, piece: Piece) -> str:
        if len(self.pieces) == 1:
            return ""
        return lengths(piece.first, piece.last) + ": "


def reveal_dot(
    ask: AskDot, function: str, nrc: int = 1, tried: Sequence[HeldRows] = (), calls: int = 12
) -> Revealed:
    """Reveal a dot product.

    An order is tried on the results that are known already, `tried`, or on random ones: so many calls for
    each kind of rows and each length up to 40, fewer for longer ones.
    """
    dot = Dot(ask, function, nrc)
    result = Revealed(function, nrc)
    try:
        _reveal(dot, result, tried, calls)
    except NoAnswerError as error:
        result.died = f"not measured to the end: {error}"
        result.notes.append(result.died)
    result.calls = dot.calls
    return result


def _reveal(dot: Dot, result: Revealed, known: Sequence[HeldRows], calls: int) -> None:
    if _varies(dot):
        result.notes.append("the same call gives other bits each time: there is no order to reveal")
        return
    why = ""
    try:
        result.rounding = arithmetic.rounding(dot)
        result.bits = arithmetic.sum_bits(dot)
    except NoTreeError as error:
        why = str(error)
    tried = sorted(known or _held(dot, calls), key=lambda rows: rows.nb)
    if why:
        result.pieces.append(Piece(1, None, None, why))
    else:
        unit = UNIT if result.bits <= FLOAT else SMALL_UNIT
        _find_pieces(dot, result, tried, unit)
        if result.bits <= FLOAT and _unexplained(result.pieces, tried):
            _find_trees(dot, result, tried, each=not known)
    _explain(result, tried)


def _varies(dot: Dot) -> bool:
    """Return whether the same call gives other bits."""
    x, y = (
        np.stack(rows)
        for rows in zip(*(dot_rows.random_pair(67, seed=s) for s in range(dot.nrc)), strict=True)
    )
    return len({dot.results(x, y).tobytes() for _ in range(4)}) > 1


def _held(dot: Dot, calls: int) -> Iterator[HeldRows]:
    """Yield random rows with the kernel's results."""
    for nb in (*SHORT, *LONG):
        yield held.ask_rows(dot, nb, calls if nb <= SHORT[-1] else max(1, calls // 6))


def _find_pieces(dot: Dot, result: Revealed, tried: list[HeldRows], unit: int) -> None:
    lengths = sorted({each.nb for each in tried})
    start = 0
    while len(result.pieces) < MAX_PIECES:
        here = [each for each in tried if each.nb >= start]
        found, why = None, "no order that was tried explains the rows of this length"
        try:
            before = result.pieces[-1].found if result.pieces else None
            tried_here = _noted(candidates(dot, unit, tried, start, before), result.fitting)
            found = next(tried_here, None) if result.bits > FLOAT else _best(tried_here, here)
        except NoTreeError as error:
            why = str(error)
        first = start or 1
        if found is None:
            result.pieces.append(Piece(first, None, None, why))
            return
        if found.limit:
            result.notes.append(
                f"tried on rows of up to {count(found.limit, 'block')}: longer ones take long to compute"
            )
            tried[:] = _within(tried, found)
            here = _within(here, found)
        bad = held.first_wrong(here, found.order)
        if result.pieces and held.first_wrong(tried, found.order) is bad:
            result.pieces.clear()
            first = 1
        if bad is None or result.bits > FLOAT:
            result.pieces.append(Piece(first, None, found))
            return
        good = max((nb for nb in lengths if start <= nb < bad.nb), default=start)
        change = _change(dot, found, good, bad.nb)
        result.pieces.append(Piece(first, change - 1, found))
        start = change


def _find_trees(dot: Dot, result: Revealed, tried: list[HeldRows], *, each: bool) -> None:
    """Put a loop with short rows of their own, if it explains all, or each length's tree, if it is better."""
    others = as_found(dot, [rows.nb for rows in tried]) if each else ()
    with suppress(NoTreeError):
        for found in itertools.chain(by_loop(dot, tried, alone=True), others):
            pieces = [Piece(1, None, found)]
            left = _unexplained(pieces, _within(tried, found))
            if not left or (each and left < _unexplained(result.pieces, tried)):
                result.pieces = pieces
                tried[:] = _within(tried, found)
            if not left:
                return


def _noted(found: Iterator[Candidate], seen: list[Candidate]) -> Iterator[Candidate]:
    for candidate in found:
        seen.append(candidate)
        yield candidate


def _unexplained(pieces: list[Piece], tried: list[HeldRows]) -> int:
    """Count the ordinary results that the orders do not give."""
    return sum(_wrong(pieces, each, ordinary=True) for each in tried)


def _best(tried: Iterator[Candidate], here: list[HeldRows]) -> Candidate | None:
    """Return the first candidate that explains all rows; else the one that explains the most lengths."""
    some, longest = None, 0
    for candidate in tried:
        bad = held.first_wrong(_within(here, candidate), candidate.order)
        if bad is None:
            return candidate
        # Rows of two blocks have the same bits in any order.
        if bad.nb > longest and sum(2 < each.nb < bad.nb for each in here) >= ENOUGH:
            some, longest = candidate, bad.nb
    return some


def _within(rows: list[HeldRows], candidate: Candidate) -> list[HeldRows]:
    """Return the rows that a candidate can be tried on."""
    return [each for each in rows if not candidate.limit or each.nb <= candidate.limit]


def _change(dot: Dot, found: Candidate, good: int, bad: int) -> int:
    """Return the blocks of the shortest row, above a good length, that an order does not explain."""
    while bad - good > 1:
        middle = (good + bad) // 2
        rows = held.ask_rows(dot, middle, 8, ("random", "wide"), seed=1)
        if rows.wrong(found.order) == 0:
            good = middle
        else:
            bad = middle
    return bad


def _explain(result: Revealed, tried: list[HeldRows]) -> None:
    """Count what the orders leave unexplained, and look for a way to add that is no tree."""
    result.of = sum(each.count for each in tried)
    wrong = [each for each in tried if _wrong(result.pieces, each)]
    result.unexplained = sum(_wrong(result.pieces, each) for each in wrong)
    if result.unexplained == 0:
        return
    if not _unexplained(result.pieces, tried):
        result.notes.append(
            "the order depends on the values: in rows whose blocks have the same scales "
            f"{count(result.unexplained, 'result')} with other bits"
        )
        return
    first = result.pieces[0].found if result.pieces else None
    # (Experiments show no tree where sums are rounded in one direction: the catalogue's are tried.)
    catalogue = [Candidate(order, (order.name,)) for order in ORDERS.values()]
    orders = [first] if first else result.fitting or catalogue
    # (What loses no bit at all is no sum in double, though both may agree on these rows.)
    exact_first = sorted(SUMMATIONS, key=lambda way: way.any_order)
    for summation in exact_first if result.bits >= arithmetic.EXACT else SUMMATIONS:
        for candidate in orders if summation.any_order else [Candidate(held.SCALAR)]:
            if all(each.wrong_by(candidate.order, summation.total) == 0 for each in tried):
                result.summation, result.unexplained = summation, 0
                if summation.any_order:
                    result.pieces = [Piece(1, None, candidate)]
                return


def _wrong(pieces: Sequence[Piece], rows: HeldRows, *, ordinary: bool = False) -> int:
    """Count the results of rows of one length that the order of this length does not give."""
    found = next((piece.found for piece in pieces if piece.holds(rows.nb)), None)
    return rows.count if found is None else rows.wrong(found.order, ordinary=ordinary)
