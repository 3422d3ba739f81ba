"""Single values that are wrong: a product of two codes, a half. All of them are tried, many in a row.

A wrong row is halved until one block is left, then one element: a table with one wrong entry shows it so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.diagnosis.dots import halves
from q8a8_conformance.inputs import dot_rows, every_value
from q8a8_conformance.inputs.known_calls import exact_sum
from q8a8_conformance.reveal.quantizers.words import ranges

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from q8a8_conformance.diagnosis.dots.bench import Bench, Measured
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.results.observations import CallResult

LONGEST_ROW = 64
"""Blocks of a failed row up to which entries are tried in rows of its length."""

FOUND = 4
"""Wrong entries that are looked for at most."""


def entries(bench: Bench, failed: Sequence[CallResult]) -> Iterator[Measured]:
    """Find wrong halves, then wrong products of two codes at any place in a block."""
    yield from halves.halves(bench, failed)
    yield from _products(bench)


def _is_right(bench: Bench, x: Array, y: Array) -> bool:
    """Return whether the result of two exact rows is right."""
    return bench.value(x, y) == exact_sum(x, y)


def _wrong_blocks(bench: Bench, x: Array, y: Array) -> list[int]:
    """Return the blocks of a wrong row that are wrong beside blocks whose codes are zero."""
    found: list[int] = []
    left = [(0, len(x))]
    while left and len(found) < FOUND:
        start, stop = left.pop()
        part = x.copy()
        part["weight_qs"][:start] = part["weight_qs"][stop:] = 0
        if _is_right(bench, part, y):
            continue
        if stop - start == 1:
            found.append(start)
        else:
            middle = (start + stop) // 2
            left += [(middle, stop), (start, middle)]
    return found


def _products(bench: Bench) -> Iterator[Measured]:
    """Find products of two codes that are wrong, and at which places of a block."""
    found: list[tuple[int, int, int, float]] = []
    fruitless = 0
    for x, y in every_value.pairs_at_every_place():
        if len(found) >= FOUND or fruitless >= FOUND:
            break
        if _is_right(bench, x, y):
            continue
        fruitless += not found
        for block in _wrong_blocks(bench, x, y):
            qx, qy = x["weight_qs"][block].astype(int), y["weight_qs"][block].astype(int)
            for place in range(32):
                value = bench.value(*_single(bench, place, qx[place], qy[place]))
                if value != qx[place] * qy[place]:
                    found.append((place, int(qx[place]), int(qy[place]), value))
    if not found:
        return
    place, a, b, value = found[0]
    wrong = value - a * b
    places = [p for p in range(32) if bench.value(*_single(bench, p, a, b)) != a * b]
    pairs = {(a, b) for _, a, b, _ in found}

    def products(qx: Array, qy: Array) -> Array:
        of = qx.astype(np.int64) * qy
        of[:, places] += ((qx == a) & (qy == b))[:, places] * int(wrong)
        return of

    plural = "s" * (len(places) > 1)
    at = "" if len(places) == 32 else f" in element{plural} {ranges(places)} of a block"
    more = f" ({len(pairs)} such products were found)" if len(pairs) > 1 else ""
    yield bench.measured(
        "product-wrong",
        {"x": a, "y": b, "value": value, "places": places},
        f"({a}) · ({b}) gives {value:g}{at}, not {a * b}{more}.",
        cause="product-table-entry" if (a, b) == (-77, 113) and len(places) == 32 else "",
        like="product-table-entry",
        evidence=[bench.shown(*_single(bench, place, a, b), f"({a}) · ({b}) in element {place}")],
        changes={"products": products},
    )


def _single(bench: Bench, place: int, a: int, b: int) -> tuple[Array, Array]:
    """Return rows with one product at a place of a block."""
    x, y = dot_rows.one_product(place, a, b)
    return bench.padded(x), bench.padded(y)
