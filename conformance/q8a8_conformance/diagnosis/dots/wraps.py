"""Offsets and counters that are too narrow: from some block on, rows are read from their start again.

A narrow byte offset reads blocks across the borders of others: what it gives is no block's sum, so that rows
of known blocks show nothing. Here the failed rows themselves are predicted, for each width.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.diagnosis.dots.model import Model, matches
from q8a8_conformance.diagnosis.dots.row_terms import Row, greatest_code

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from q8a8_conformance.diagnosis.dots.bench import Bench, Measured
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.results.observations import CallResult

    Step = Any

TRIED = 6
"""Failed lengths that each width must give, and rows that are made to check it."""

INDEX_BITS = (8, *range(9, 15), 15, 16)
"""Widths of a block number: a counter's, or those of tiles whose start is forgotten."""


SIGNED = {"elements": 32, "length": 1}
"""Signed lengths of a row: of elements, 32 to a block, and of blocks."""


@dataclass(frozen=True)
class Wrap:
    """An offset in `bits` bits: of bytes, or of blocks; of one row (`side`) or of both; a signed length.

    `part` is "scale" or "codes" where it is the offset of these alone.
    """

    unit: str
    bits: int
    side: str
    changes: Mapping[str, Step]
    part: str = ""

    def first(self, size: int) -> int:
        """Return the first block that is read elsewhere, or not at all, for blocks of so many bytes."""
        end = 1 << self.bits
        if self.unit in SIGNED:
            return (end >> 1) // SIGNED[self.unit] - 1
        return end if self.unit == "blocks" else -(-end // size)


def _wraps(size: int) -> Iterator[Wrap]:
    for part, bits, side in itertools.product(("", "scale", "codes"), INDEX_BITS, ("xy", "y", "x")):
        yield Wrap("blocks", bits, side, {"blocks": _by_index(bits, side, part)}, part)
    for unit, bits in (("elements", 16), ("length", 16), ("length", 8)):
        yield Wrap(unit, bits, "xy", {"blocks": _by_length(SIGNED[unit], bits)})
    for bits in (16, 15, 14, 13, 12):
        yield Wrap("bytes", bits, "xy", {"read_at": _by_bytes(bits, size)})


def _by_index(bits: int, side: str, part: str) -> Step:
    def blocks(nb: int, row: int, column: int) -> tuple[Array, ...]:
        every = np.arange(nb)
        own = every + row * nb, every + column * nb
        less = every - every % 2**bits
        wrapped = tuple(of - less * (name in side) for name, of in zip("xy", own, strict=True))
        codes, scales = (own if part == other else wrapped for other in ("scale", "codes"))
        return *codes, *scales

    return blocks


def _by_length(unit: int, bits: int) -> Step:
    def blocks(nb: int, row: int, column: int) -> tuple[Array, Array]:
        half = 1 << (bits - 1)
        kept = (unit * nb + half) % (2 * half) - half
        every = np.arange(max(kept, 0) // unit)
        return every + row * nb, every + column * nb

    return blocks


def _by_bytes(bits: int, size: int) -> Step:
    def read_at(_side: str, nb: int, _at: int) -> tuple[Array, Array]:
        starts = np.arange(nb) * size
        return starts % 2**bits - starts, starts % 2**bits - starts

    return read_at


THOSE = {"is": "that", "are": "those"}


def wraps(bench: Bench, failed: Sequence[CallResult]) -> Iterator[Measured]:
    """Find the width in which an offset into a row wraps."""
    ordered = sorted(failed, key=lambda one: one.call.n)
    shortest = ordered[0].call.n // 32
    for wrap in _wraps(bench.size):
        first = wrap.first(bench.size)
        if shortest <= first or not all(matches(Model(**wrap.changes), one) for one in _spread(ordered)):
            continue
        lengths = (first, first + 1, first + 3, 2 * first + 1)
        long = [Row(bench, nb) for nb in lengths if greatest_code(bench, nb) > 1]
        made = [bench.answer(row.calls()[0]) for row in long]
        if not all(matches(Model(**wrap.changes), one) for one in made):
            continue
        yield bench.measured(
            "offset-wraps",
            {"unit": wrap.unit, "bits": wrap.bits, "rows": wrap.side, "from": first}
            | ({"part": wrap.part} if wrap.part else {}),
            _sentence(wrap, first),
            like="count-of-sixteen-bits",
            rule="Q8A8-DOT-3" if wrap.part == "scale" else "",
            fix=""
            if wrap.bits in {8, 16} or wrap.unit in SIGNED
            else "Go on with both rows where the tile before has ended.",
            evidence=[bench.evidence(made[1].call, f"{first + 1} blocks") for _ in made[1:2]],
            changes=wrap.changes,
        )
        return


def _spread(ordered: Sequence[CallResult]) -> list[CallResult]:
    """Return a few of the failed calls, short and long ones."""
    return [*ordered[: TRIED // 2], *ordered[TRIED // 2 :][-(TRIED // 2) :]]


def _sentence(wrap: Wrap, first: int) -> str:
    if wrap.unit in SIGNED:
        unit = "n" if wrap.unit == "elements" else "the number of blocks"
        return (
            f"{unit} is kept in int{wrap.bits}_t: rows of {first + 1} blocks and more count as other lengths."
        )
    rows = {"xy": "both rows", "x": "x", "y": "y"}[wrap.side]
    if wrap.unit == "bytes":
        return f"The byte offset of a block wraps at 2^{wrap.bits}: blocks from {first} on are others."
    if wrap.part:
        are = "is" if wrap.part == "scale" and len(wrap.side) == 1 else "are"
        part = "scales" if wrap.part == "scale" and are == "are" else wrap.part
        return f"From block {first} on, the {part} of {rows} {are} {THOSE[are]} of block b mod {first}."
    return f"From block {first} on, block b of {rows} is block b mod {first}."
