"""Single values that are wrong: a product of two codes, a half. All of them are tried, many in a row.

A wrong row is halved until one block is left, then one element: a table with one wrong entry shows it so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8 import layout
from q8a8_conformance.inputs import calls, dot_rows, every_value
from q8a8_conformance.reveal.quantizer_words import ranges

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from q8a8_conformance.diagnosis.experiments.bench import Bench, Measured
    from q8a8_conformance.diagnosis.experiments.model import Step
    from q8a8_conformance.results.observations import CallResult

    Array = NDArray[Any]

SHORTEST, TRIED = 8, 200
"""Failed calls whose scales are tried one by one, and how many of them."""

LONGEST_ROW = 64
"""Blocks of a failed row up to which entries are tried in rows of its length."""

FOUND = 4
"""Wrong entries that are looked for at most."""


def entries(bench: Bench, failed: Sequence[CallResult]) -> Iterator[Measured]:
    """Find wrong halves, then wrong products of two codes at any place in a block."""
    yield from _halves(bench, failed)
    yield from _products(bench)


def _is_right(bench: Bench, x: Array, y: Array) -> bool:
    """Return whether the result of two exact rows is right."""
    return bench.value(x, y) == _expected(x, y)


def _expected(x: Array, y: Array) -> float:
    d = x["weight_scale"].astype(np.float64) * y["weight_scale"].astype(np.float64)
    return float((d * (x["weight_qs"].astype(np.int64) * y["weight_qs"]).sum(axis=1)).sum())


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


def _halves(bench: Bench, failed: Sequence[CallResult]) -> Iterator[Measured]:
    """Find halves of x or y that are not taken for what they are.

    A sum of many halves rounds a small error away: those of failed calls are tried one by one.
    """
    wrong: dict[str, dict[int, float]] = {"x": {}, "y": {}}
    for binade in range(every_value.BINADES):
        rows_of_x, rows_of_y = every_value.halves_of_binade(binade)
        for side, x, y in zip("xy", rows_of_x, rows_of_y, strict=True):
            if len(wrong[side]) >= FOUND or _is_right(bench, x, y):
                continue
            blocks = (x if side == "x" else y)[_wrong_blocks(bench, x, y)]
            wrong[side] |= _misread(bench, side, blocks["weight_scale"])
    for side in "xy":
        if not wrong[side]:
            wrong[side] |= _misread(bench, side, _scales_of(failed, side))
    for side, held in wrong.items():
        if not held or (side == "y" and held == wrong["x"]):
            continue
        both = wrong["x"] == wrong["y"]
        first, value = next(iter(held.items()))
        step = _reading(held)
        right = float(np.uint16(first).view(np.float16))
        x, y = (bench.padded(_unit(bench, right if s == side else 1.0)) for s in "xy")
        values = {f"0x{h:04x}": v for h, v in held.items()}
        more = f"; and {len(held) - 1} more" if len(held) > 1 else ""
        of = "" if both else f" of {side}"
        yield bench.measured(
            "half-read",
            {"operand": "xy" if both else side, "values": values},
            f"The scale 0x{first:04x}{of} is read as {value!r}, not {right!r}{more}.",
            cause="half-table-entry" if list(held) == [0x2E66] else "",
            like="half-table-entry",
            evidence=[bench.shown(x, y, f"1 · 1 under {side}'s scale 0x{first:04x}")],
            changes={f"widen_{s}": step for s in ("xy" if both else side)},
        )


def _misread(bench: Bench, side: str, halves: Array) -> dict[int, float]:
    """Return which of some halves are not taken for what they are, with their values: a few of them."""
    found: dict[int, float] = {}
    for h in halves[:TRIED]:
        value = float(h)
        rows = [bench.padded(_unit(bench, value if s == side else 1.0)) for s in "xy"]
        got = bench.value(*rows)
        if got != value and len(found) < FOUND:
            found[int(h.view(np.uint16))] = got
    return found


def _scales_of(failed: Sequence[CallResult], side: str) -> Array:
    """Return the scales of x, or of y, in the shortest failed calls: finite, and not zero."""
    scales = []
    for one in sorted(failed, key=lambda f: f.call.n)[:SHORTEST]:
        dtype = layout.BLOCK_Q8_A8 if one.call.function == calls.DOT else layout.BLOCK_Q8_A8_V2
        data = calls.inputs_of(one.call)[f"v{side}"]
        field = "activation_scale" if side == "y" and dtype is layout.BLOCK_Q8_A8_V2 else "weight_scale"
        scales.append(layout.as_blocks(data[: one.call.n // 32 * dtype.itemsize], dtype)[field])
    every = np.unique(np.concatenate(scales))
    return np.asarray(every[np.isfinite(every) & (every != 0)])


def _unit(bench: Bench, scale: float) -> Array:
    codes = np.zeros((1, 32), np.int64)
    codes[0, bench.element] = 1
    return dot_rows.blocks(scale, codes)


def _reading(values: dict[int, float]) -> Step:
    """Return the step that reads some halves as other values."""

    def widen(h: Array) -> Array:
        bits = np.asarray(h, np.float16).view(np.uint16)
        wide = np.asarray(h, np.float64)
        for half, value in values.items():
            wide = np.where(bits == half, value, wide)
        return wide

    return widen


def _products(bench: Bench) -> Iterator[Measured]:
    """Find products of two codes that are wrong, and at which places of a block."""
    found: list[tuple[int, int, int, float]] = []
    for x, y in every_value.pairs_at_every_place():
        if len(found) >= FOUND:
            break
        if _is_right(bench, x, y):
            continue
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
