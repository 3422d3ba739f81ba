"""Which order of additions a dot product has: experiments show it, and the catalogue names it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from q8a8.bound import LANE_FOLD_ROUNDINGS, roundings
from q8a8.dot import dot_rows
from q8a8.order import ORDERS, Order
from q8a8_conformance.diagnosis.causes import UNEXPLAINED, order_cause
from q8a8_conformance.inputs.calls import MUL_MAT
from q8a8_conformance.results.run import Finding
from q8a8_conformance.reveal.describe import words_of
from q8a8_conformance.reveal.dots import Revealed, reveal_dot
from q8a8_conformance.reveal.held import SCALAR, HeldRows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.results.observations import DotResult
    from q8a8_conformance.reveal.asking import AskDot

SHORT = 17
"""Blocks of a row up to which every order of the catalogue is tried; the best alone on longer rows."""

REVEALED = "order:revealed"
"""The cause of results whose order is in no catalogue, and was found by experiments."""

NOT_IN_CATALOGUE = "order not in the catalogue (legal), revealed as"
ILLEGAL = "order with more roundings than the bound allows (Q8A8-ORD-2), revealed as"

MOST = 0.95
"""The part of the results, of those that a mistake leaves right and that tell orders apart, that an order
must explain to be named."""

LONGEST = 64
"""Blocks of the longest rows on which it is decided whether an order is named beside a mistake."""

ENOUGH = 0.5
"""The share of results that an order must explain to be worth a mention: the nearest, or beside a mistake."""


def explain(
    function: str, by_nrc: Mapping[int, Sequence[DotResult]], ask: AskDot, *, experiments: bool = True
) -> list[Finding]:
    """Name what reproduces all results of one function, by rows at a time: an order, or another way to add.

    Else the cause is ``unexplained``. Where two rows at a time agree with one, that is one finding. Without
    experiments, for a kernel that is known to be wrong, it is the order of the catalogue that most results
    have, if any. `ask` makes one more dot product.
    """
    findings: list[Finding] = []
    for nrc, results in sorted(by_nrc.items()):
        for finding in _explain(function, nrc, results, ask, experiments=experiments):
            same = next((f for f in findings if _means(f) == _means(finding)), None)
            if same is None:
                findings.append(finding)
            else:
                findings[findings.index(same)] = replace(
                    same, explained=same.explained + finding.explained, of=same.of + finding.of
                )
    return findings


def _explain(
    function: str, nrc: int, results: Sequence[DotResult], ask: AskDot, *, experiments: bool
) -> Iterator[Finding]:
    rows, of = held_rows(results), len(results)
    note = "nrc = 2" if nrc == 2 else ""
    found = Revealed(function, nrc)
    # (A matrix product quantizes by itself: it cannot be asked about rows of blocks.)
    if experiments and function != MUL_MAT:
        found = reveal_dot(ask, function, nrc, rows)
        if finding := _as_other_sum(found, rows, of, note) or _as_order(found, rows, of, note):
            yield finding
            return
    if sum(_count_within_bound(each) for each in rows) < ENOUGH * of:
        # (An order is worth no mention where this many results are none's.)
        if experiments:
            yield Finding(function, UNEXPLAINED, 0, of, detail=_joined(note, *found.notes), nrc=nrc)
        return
    nearest, wrong = _nearest(nrc, rows)
    for order in nearest[: None if experiments else 1]:
        if not wrong or (not experiments and of - wrong >= ENOUGH * of and _is_told(order, nrc, rows)):
            yield replace(_named(function, nrc, equal_orders(order), of, note), explained=of - wrong)
    if experiments and wrong:
        names = (nearest[0].name,) if of - wrong >= ENOUGH * of else ()
        detail = _joined(note, *found.notes, *(f"nearest: {order_cause(name)}" for name in names))
        yield Finding(function, UNEXPLAINED, of - wrong, of, detail=detail, nrc=nrc, orders=names)


def held_rows(results: Sequence[DotResult]) -> list[HeldRows]:
    """Return results stacked by the length of their rows; those of no blocks are left out."""
    by_count: dict[int, list[DotResult]] = {}
    for result in results:
        if result.d.size:
            by_count.setdefault(result.d.size, []).append(result)
    names = ("dx", "dy", "qx", "qy", "bits")
    return [
        HeldRows(*(np.array([getattr(one, name) for one in held]) for name in names))
        for held in by_count.values()
    ]


def _nearest(nrc: int, rows: Sequence[HeldRows]) -> tuple[list[Order], int]:
    """Return the orders of the catalogue that fewest results contradict, and how many do."""
    left = distinct_orders(nrc)
    for part in ([each for each in rows if each.nb < SHORT], rows):
        wrong = [sum(each.wrong(order) for each in part) for order in left]
        left = [order for order, count in zip(left, wrong, strict=True) if count == min(wrong)]
    return left, min(wrong)


def _is_told(order: Order, nrc: int, rows: Sequence[HeldRows]) -> bool:
    """Return whether an order explains the results that tell orders apart, of those within the bound.

    Beside a mistake most results may be easy ones, which any order gives.
    """
    of = right = 0
    for each in (each for each in rows if each.nb <= LONGEST):
        d = each.dx * each.dy
        with np.errstate(over="ignore", invalid="ignore"):
            bits = [
                np.asarray(dot_rows(one, each.qx, each.qy, d), "<f4").view(np.uint32)
                for one in (order, *distinct_orders(nrc))
            ]
        differ = np.any([other != bits[0] for other in bits], axis=0) & _is_within_bound(each, d)
        of += int(differ.sum())
        right += int((bits[0] == each.bits)[differ].sum())
    return right >= MOST * of > 0


def _count_within_bound(rows: HeldRows) -> int:
    """Count the results that some order may have: the wrong ones that an order explains are none of them."""
    return int(_is_within_bound(rows, rows.dx * rows.dy).sum())


def _is_within_bound(rows: HeldRows, d: Array) -> Array:
    """Return which results, bool [pairs], are as near to the exact sums as some order's may be."""
    products = rows.qx.astype(np.int64) * rows.qy
    exact = (products.sum(axis=-1) * d.astype(np.float64)).sum(axis=-1)
    sizes = (np.abs(products).sum(axis=-1) * np.abs(d.astype(np.float64))).sum(axis=-1)
    got = rows.bits.astype(np.uint32).view(np.float32).astype(np.float64)
    share = (rows.nb + LANE_FOLD_ROUNDINGS) * 2.0**-24
    with np.errstate(invalid="ignore"):
        return np.asarray(np.abs(got - exact) <= share * sizes)


def _as_order(found: Revealed, rows: Sequence[HeldRows], of: int, note: str) -> Finding | None:
    """Return the finding of an order that experiments show, if it explains all."""
    first = found.pieces[0].found if found.pieces else None
    if not found.is_tree or first is None or found.wrong(rows):
        return None
    if len(found.pieces) == 1 and first.names:
        return _named(found.function, found.nrc, first.names, of, note)
    fix = _too_many_roundings(found, max(each.nb for each in rows))
    detail = _joined(note, f"{ILLEGAL if fix else NOT_IN_CATALOGUE}: {found.words}")
    revealed = found.to_json()
    return Finding(found.function, REVEALED, of, of, fix, detail, found.nrc, revealed=revealed)


def _too_many_roundings(found: Revealed, longest: int) -> str:
    """Return what to do about an order with more roundings than Q8A8-ORD-2 allows; empty for a legal one."""
    for piece in found.pieces:
        nb = min(piece.last or longest, longest)
        if piece.found and (count := roundings(piece.found.order, nb)) > nb + LANE_FOLD_ROUNDINGS:
            legal = nb + LANE_FOLD_ROUNDINGS
            return f"round fewer times: {count} roundings for {nb} blocks, of which {legal} are legal"
    return ""


def _as_other_sum(found: Revealed, rows: Sequence[HeldRows], of: int, note: str) -> Finding | None:
    """Return the finding of a way to add that is no order, in an order that experiments show."""
    way = found.summation
    first = found.pieces[0].found if found.pieces and way and way.any_order else None
    if way is None or any(each.wrong_by(first.order if first else SCALAR, way.total) for each in rows):
        return None
    names = first.names if first else ()
    words = ", ".join(map(order_cause, names)) or (words_of(first) if first else "")
    detail = _joined(note, f"in the order {words}" if first else "", way.advice)
    return Finding(found.function, way.cause, of, of, detail=detail, nrc=found.nrc, orders=names)


def _named(function: str, nrc: int, names: Sequence[str], of: int, note: str) -> Finding:
    """Return the finding of an order of the catalogue, by its names; those made for this nrc first."""
    names = sorted(names, key=lambda name: ORDERS[name].nrc != nrc)
    if nrc == 1:
        names = names[:1]
    same = f"the same bits as {', '.join(map(order_cause, names[1:]))}" if names[1:] else ""
    cause, detail = order_cause(names[0]), _joined(note, same)
    return Finding(function, cause, of, of, detail=detail, nrc=nrc, orders=tuple(names))


def _means(finding: Finding) -> tuple[object, str]:
    """Return a key that is equal for findings that are one; orders with the same bits are one."""
    if finding.revealed is not None:
        return str(finding.revealed["orders"]), ""
    same = {order_cause(name): tuple(equal_orders(order)) for name, order in ORDERS.items()}
    return same.get(finding.cause, finding.cause), finding.fix


def _joined(*parts: str) -> str:
    """Join the parts of a detail; empty ones are left out."""
    return "; ".join(filter(None, parts))


def _shape(order: Order) -> object:
    """Return an order's arithmetic, without its name."""
    return order.lanes, order.body, order.fold, order.fused, order.tail, order.tail_fused


def distinct_orders(nrc: int) -> list[Order]:
    """Return the orders that differ in more than their names; those made for this nrc before the others."""
    chosen: dict[object, Order] = {}
    for order in sorted(ORDERS.values(), key=lambda order: order.nrc != nrc):
        chosen.setdefault(_shape(order), order)
    return list(chosen.values())


def equal_orders(order: Order) -> list[str]:
    """Return the names of the orders with the same bits as this one, itself among them."""
    return [other.name for other in ORDERS.values() if _shape(other) == _shape(order)]
