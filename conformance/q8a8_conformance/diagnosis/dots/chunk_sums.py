"""Sums of some blocks of a row that have fewer bits than the sum of all: of chunks, or of lanes.

A large term and a small one of two blocks are exact together, unless something that holds both has too few
bits. So each block is tried beside the first one; and where a third term takes the large one off again, the
small one is left if the sum of the three is rounded once, when it is whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.diagnosis.dots.model import Model, matches, merged
from q8a8_conformance.diagnosis.dots.precision import HALF
from q8a8_conformance.diagnosis.dots.row_effects import Partial
from q8a8_conformance.reveal.places import Seen, find_rule

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from q8a8_conformance.diagnosis.dots.bench import Bench, Measured
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.results.observations import CallResult

LENGTHS = (*range(2, 41), 48, 63, 64, 65, 66, 96, 127, 128, 129, 130, 256, 257)
"""Blocks of rows in which it is tried whether the first two share a sum of few bits."""

LONGEST, LONG = 300, (40, 130)
"""Blocks of the longest row of which each block is tried, and of rows that are besides failed ones."""

LARGE = 64
"""A code: of its square, in one block, terms are multiples."""

FORMATS = {11: "halves", 8: "bfloat16"}


def _value(bench: Bench, nb: int, terms: Mapping[int, float]) -> float:
    """Return the sum of terms that are powers of two, by their blocks, in units of 2^12."""
    x, dx, dy = np.zeros(nb, np.int64), np.ones(nb), np.ones(nb)
    for block, term in terms.items():
        exponent = round(np.log2(abs(term)))
        x[block] = LARGE if term > 0 else -LARGE
        dx[block], dy[block] = 2.0 ** (exponent // 2), 2.0 ** (exponent - exponent // 2)
    return bench.value(bench.row(x, dx), bench.full(np.full(nb, LARGE), dy)) / LARGE**2


def _is_lost(bench: Bench, nb: int, one: int, other: int, bits: int) -> bool:
    """Return whether 2^-bits, which is right alone, is lost beside 1 in another block."""
    small = 2.0**-bits
    return (
        _value(bench, nb, {one: 1.0, other: small}) != 1 + small
        and _value(bench, nb, {other: small}) == small
    )


def chunk_sums(bench: Bench, failed: Sequence[CallResult]) -> Iterator[Measured]:
    """Find sums of chunks, or of lanes, that have fewer bits than a float32."""
    lengths = sorted({one.call.n // 32 for one in failed} & {*range(2, LONGEST)})
    for nb in dict.fromkeys((*lengths[:1], *(LONG if lengths else ()), *lengths[-1:])):
        bits = next((p for p in range(4, 24) if _is_lost(bench, nb, 0, 1, p)), 0)
        lanes = [k for k in (2, 4, 8, 16) if not bits and k < nb and _is_lost(bench, nb, 0, k, 20)]
        if lanes:
            bits = next((p for p in range(4, 24) if _is_lost(bench, nb, 0, lanes[0], p)), 0)
        if bits < 5:
            continue
        group = [block for block in range(1, nb) if _is_lost(bench, nb, 0, block, bits)]
        size = lanes[0] if lanes else len(group) + 1
        expected = [*range(size, nb, size)] if lanes else [*range(1, size)]
        if group != expected or (not lanes and size == nb):
            continue
        other = lanes[0] if lanes else 1
        rows = {n: np.full(n, n > other and _is_lost(bench, n, 0, other, bits)) for n in {*LENGTHS, nb}}

        def ask(n: int, other: int = other, bits: int = bits) -> tuple[Array, None]:
            return np.full(n, n > other and _is_lost(bench, n, 0, other, bits)), None

        shown = {n: np.full(n, n > other) for n in rows}
        rule = find_rule(Seen(rows, shown), ask, LONGEST)
        if rule is None or not rule.is_any:
            continue
        yield _fact(bench, Partial(size, bool(lanes), bits, rule), nb, group)
        return


def _fact(bench: Bench, partial: Partial, nb: int, group: Sequence[int]) -> Measured:
    """Return the fact that partial sums are rounded: once each, or again and again."""
    small = 2.0**-partial.bits
    once = len(group) < 2 or _value(bench, nb, {0: 1.0, group[0]: small, group[1]: -1.0}) == small
    form = FORMATS.get(partial.bits, f"{partial.bits} significant bits")
    what = f"every {partial.size} blocks"
    if partial.is_lane:
        what = f"the blocks of each remainder modulo {partial.size}"
    where = " and ".join(c.text("nb", of_length=True) for c in partial.where.length)
    verb = f"are rounded to {form} before they are added up" if once else f"are kept in {form}"
    sentence = f"the sums of {what} {verb}."
    sentence = f"Where {where}, {sentence}" if where else f"T{sentence[1:]}"
    row = bench.row(LARGE * np.isin(np.arange(nb), [0, group[0]]), np.where(np.arange(nb), small, 1.0))
    data = {"size": partial.size, "lanes": partial.is_lane, "bits": partial.bits, "once": once}
    text = f"2^{partial.bits} and 1 in blocks 0 and {group[0]}"
    shown = bench.shown(row, bench.full(np.full(nb, LARGE)), text)
    running = merged(Model(), [{"bits": partial.bits}, HALF if partial.bits == 11 else {}])
    return bench.measured(
        "chunk-sums",
        {**data, "rows": partial.where.to_json()},
        sentence,
        rule="Q8A8-ORD-2",
        fix="Keep every partial sum in float32.",
        evidence=[shown],
        changes={"partial": partial} if once else {},
        when=None if once else lambda one: partial.where.takes(one.call.n // 32) and matches(running, one),
    )
