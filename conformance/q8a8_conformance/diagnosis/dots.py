"""Which order of additions a dot product's bits match: one of the catalogue, another way to add, its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from q8a8.bound import LANE_FOLD_ROUNDINGS, roundings
from q8a8.dot import dot_rows
from q8a8.order import ORDERS, Order
from q8a8_conformance.diagnosis.causes import UNEXPLAINED, order_cause
from q8a8_conformance.inputs import dot_rows as rows
from q8a8_conformance.inputs.calls import DOT_REAL, MUL_MAT
from q8a8_conformance.results.run import Finding
from q8a8_conformance.reveal.describe import words_of
from q8a8_conformance.reveal.dots import Revealed, reveal_dot
from q8a8_conformance.reveal.held import HeldRows
from q8a8_conformance.reveal.summations import SCALAR, SUMMATIONS, Summation

if TYPE_CHECKING:
    from q8a8_conformance.results.observations import DotResult

Array = NDArray[Any]

AskDot = Callable[[str, int, Array, Array], "bytes | None"]
"""Makes a dot product: function, nrc, blocks x and y ([nb], or [2, nb] for nrc = 2); ``s``, or None."""

SHORT = 17
"""Blocks of a row up to which every candidate is tried; the best alone are tried on longer rows."""

SEVERAL = 4
"""Blocks of a row from which most orders differ."""

ORDER_OF_CAUSE = {order_cause(order.name): order for order in ORDERS.values()}
"""The accumulation order that a cause names."""

ROUNDS = 40
"""Limit of further dot products that distinguish the orders that fit so far."""

REVEALED = "order:revealed"
"""The cause of results whose order is in no catalogue, and was found by experiments."""

NOT_IN_CATALOGUE = "order not in the catalogue (legal), revealed as"
ILLEGAL = "order with more roundings than the bound allows (Q8A8-ORD-2), revealed as"

MOST = 0.75
"""The part of all results that a mistake leaves right, if the order that explains them is to be named."""

ENOUGH = 0.5
"""The share of results that an order must explain to be worth a mention as the nearest."""


@dataclass(frozen=True)
class Candidate:
    """An order, and another way to add, or None."""

    order: Order
    summation: Summation | None = None

    def bits(self, d: Array, qx: Array, qy: Array) -> Array:
        """Return the result bits, uint32 [rows], for d [rows, nb] and codes [rows, nb, 32]."""
        # Another way to add may overflow, and then meet its own infinities.
        with np.errstate(over="ignore", invalid="ignore"):
            if self.summation is not None:
                return self.summation.total(self.order, qx, qy, d).astype("<f4").view(np.uint32)
            return dot_rows(self.order, qx, qy, d).astype("<f4").view(np.uint32)


class Results:
    """Results of one function and nrc, stacked by the number of blocks."""

    def __init__(self, results: Sequence[DotResult]) -> None:
        self._by_count: dict[int, list[DotResult]] = {}
        for result in results:
            self._by_count.setdefault(result.d.size, []).append(result)
        self._stacked: dict[int, tuple[Array, Array, Array, Array]] = {}

    def stacks(self, low: int, high: int) -> Iterator[tuple[Array, Array, Array, Array]]:
        """Yield (d, qx, qy, bits) for each count of blocks in low <= nb < high."""
        for count, held in self._by_count.items():
            if low <= count < high:
                if count not in self._stacked:
                    d, qx, qy = (np.array([getattr(r, name) for r in held]) for name in ("d", "qx", "qy"))
                    self._stacked[count] = d, qx, qy, np.array([r.bits for r in held], np.uint32)
                yield self._stacked[count]

    def explained(self, candidate: Candidate, low: int = 0, high: int = 1 << 40) -> int:
        """Count the results in a range of lengths that a candidate reproduces."""
        return sum(
            int((candidate.bits(d, qx, qy) == bits).sum()) for d, qx, qy, bits in self.stacks(low, high)
        )

    def all_from(self, candidate: Candidate) -> bool:
        """Return whether a candidate reproduces all results; stop at the first length that it does not."""
        # Rows of some blocks tell orders apart, and few of them are soon computed.
        by_work = sorted(
            self._by_count, key=lambda count: (count < SEVERAL, count * len(self._by_count[count]))
        )
        return all(
            (candidate.bits(d, qx, qy) == bits).all()
            for count in by_work
            for d, qx, qy, bits in self.stacks(count, count + 1)
        )

    def held(self) -> list[HeldRows]:
        """Return all results, to try a revealed order on."""
        groups = [held for count, held in self._by_count.items() if count]

        def stacked(name: str, held: list[DotResult]) -> Array:
            return np.array([getattr(result, name) for result in held])

        return [
            HeldRows(
                stacked("dx", held),
                stacked("dy", held),
                stacked("qx", held),
                stacked("qy", held),
                stacked("bits", held).astype(np.uint32),
            )
            for held in groups
        ]

    def count(self, low: int = 0, high: int = 1 << 40) -> int:
        """Count the results in a range of lengths."""
        return sum(len(held) for count, held in self._by_count.items() if low <= count < high)

    def best(self, candidates: Sequence[Candidate]) -> tuple[list[Candidate], int]:
        """Return the candidates that explain most results, and how many; only the best try long rows."""
        perfect = [candidate for candidate in candidates if self.all_from(candidate)]
        if perfect:
            return perfect, self.count()
        scored = [(self.explained(c, high=SHORT), c) for c in self._promising(candidates)]
        most = max(score for score, _ in scored)
        finalists = [candidate for score, candidate in scored if score == most]
        scored = [(most + self.explained(candidate, low=SHORT), candidate) for candidate in finalists]
        most = max(score for score, _ in scored)
        return [candidate for score, candidate in scored if score == most], most

    def _promising(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        """Leave out candidates that explain less than half as many results of two lengths as the best does.

        Where none explains a tenth of them, the kernel does none of this, and any one shows it.
        """
        lengths = [n for n in self._by_count if 1 < n < SHORT]
        chosen = sorted(lengths, key=lambda n: len(self._by_count[n]), reverse=True)[:2]
        if not chosen:
            return candidates
        scores = [sum(self.explained(c, n, n + 1) for n in chosen) for c in candidates]
        most = max(scores)
        if 10 * most < sum(len(self._by_count[n]) for n in chosen):
            return [candidates[scores.index(most)]]
        return [c for c, score in zip(candidates, scores, strict=True) if 2 * score >= most]


def explain(
    function: str, by_nrc: Mapping[int, Sequence[DotResult]], ask: AskDot, *, experiments: bool = True
) -> list[Finding]:
    """Name what reproduces all results of one function, for one row at a time and for two.

    Parameters
    ----------
    function
        The dot product.
    by_nrc
        What it gave, by nrc.
    ask
        Makes one more dot product.
    experiments
        Whether to look for an order that is in no catalogue: not in a kernel that is wrong in a known way.

    Returns
    -------
    list of Finding
        The orders that fit, all that could not be distinguished; or ``unexplained``. Where two rows at a
        time agree with one, that is one finding. Without experiments only what fits the catalogue.
    """
    findings: list[Finding] = []
    for nrc, held in sorted(by_nrc.items()):
        for finding in _explain(function, nrc, Results(held), ask, experiments=experiments):
            same = next((f for f in findings if _means(f) == _means(finding)), None)
            if same is None:
                findings.append(finding)
            else:
                findings[findings.index(same)] = replace(
                    same, explained=same.explained + finding.explained, of=same.of + finding.of
                )
    return findings


def _explain(function: str, nrc: int, results: Results, ask: AskDot, *, experiments: bool) -> list[Finding]:
    of = results.count()
    note = "nrc = 2" if nrc == 2 else ""
    orders = [Candidate(order) for order in distinct_orders(nrc)]
    plain, most = results.best(orders)
    if most == of:
        left = _separate(function, nrc, plain, ask)
        return [_as_order(function, c.order, nrc, of, detail=_same_bits(note, c.order, nrc)) for c in left]
    if added := [c for c in _summed(orders) if results.all_from(c)]:
        return [_as_added(function, nrc, _separate(function, nrc, added, ask), of, note)]
    if not experiments:
        # (With something else wrong, the order that most results have.)
        likely = plain if most >= MOST * of else []
        return [replace(_as_order(function, c.order, nrc, of, note), explained=most) for c in likely[:1]]
    # (A matrix product quantizes by itself: it cannot be asked about rows of blocks.)
    found = Revealed(function, nrc)
    if function != MUL_MAT:
        found = reveal_dot(ask, function, nrc, results.held())
    if revealed := _as_revealed(found, results, note):
        return [revealed]
    nearest = (plain[0].order.name,) if most >= ENOUGH * of else ()
    detail = _joined(note, *found.notes, *(f"nearest: {order_cause(name)}" for name in nearest))
    return [Finding(function, UNEXPLAINED, most, of, detail=detail, nrc=nrc, orders=nearest)]


def _as_revealed(found: Revealed, results: Results, note: str) -> Finding | None:
    """Return the finding of an order that experiments show, if it explains all."""
    of = results.count()
    if found.summation:
        return _as_other_sum(found, results, note)
    every = results.held()
    if not found.is_tree or not found.pieces or not found.pieces[0].found or found.wrong(every):
        return None
    fix = _too_many_roundings(found, max(rows.nb for rows in every))
    detail = _joined(note, f"{ILLEGAL if fix else NOT_IN_CATALOGUE}: {found.words}")
    revealed = found.to_json()
    return Finding(found.function, REVEALED, of, of, fix, detail, found.nrc, revealed=revealed)


def _too_many_roundings(found: Revealed, longest: int) -> str:
    """Return what to do about an order with more roundings than Q8A8-ORD-2 allows; empty for a legal one."""
    for piece in found.pieces:
        nb = min(piece.last or longest, longest)
        if piece.found and (count := roundings(piece.found.at(nb), nb)) > nb + LANE_FOLD_ROUNDINGS:
            legal = nb + LANE_FOLD_ROUNDINGS
            return f"round fewer times: {count} roundings for {nb} blocks, of which {legal} are legal"
    return ""


def _as_other_sum(found: Revealed, results: Results, note: str) -> Finding | None:
    """Return the finding of a way to add that is no order, in an order that experiments show."""
    way, of = found.summation, results.count()
    first = found.pieces[0].found if found.pieces and way and way.any_order else None
    order = first.order if first else SCALAR
    if way is None or any(rows.wrong_by(order, way.total) for rows in results.held()):
        return None
    detail = _joined(note, f"in the order: {words_of(first)}" if first else "", way.advice)
    return Finding(found.function, way.cause, of, of, detail=detail, nrc=found.nrc)


def _summed(orders: Sequence[Candidate]) -> Iterator[Candidate]:
    """Yield the ways to add that are no orders, with each order that they go with."""
    for summation in SUMMATIONS:
        for candidate in orders:
            if summation.any_order or candidate.order.name == SCALAR.name:
                yield Candidate(candidate.order, summation=summation)


def _as_order(function: str, order: Order, nrc: int, of: int, detail: str) -> Finding:
    """Return the finding of an order, with those of two rows at a time that have the same bits."""
    names = (order.name, *_others(order, nrc))
    return Finding(function, order_cause(order.name), of, of, detail=detail, nrc=nrc, orders=names)


def _as_added(function: str, nrc: int, left: Sequence[Candidate], of: int, note: str) -> Finding:
    """Return the finding of another way to add; it has no fix, since it conforms within the bound."""
    causes = list(dict.fromkeys(c.summation.cause for c in left if c.summation))
    first = next(s for s in SUMMATIONS if s.cause == causes[0])
    names = tuple(c.order.name for c in left if c.summation is first and first.any_order)
    order = f"in the order {', '.join(map(order_cause, names))}" if names else ""
    others = f"or {', '.join(causes[1:])}, which gives the same here" if causes[1:] else ""
    detail = _joined(note, order, others, first.advice)
    return Finding(function, first.cause, of, of, detail=detail, nrc=nrc, orders=names)


def _means(finding: Finding) -> tuple[str, str]:
    """Return a key that is equal for findings that are one; orders with the same bits are one."""
    if finding.revealed is not None:
        return str(finding.revealed["orders"]), ""
    order = ORDER_OF_CAUSE.get(finding.cause)
    return (equal_orders(order)[0] if order else finding.cause), finding.fix


def _others(order: Order, nrc: int) -> list[str]:
    """Name the other orders that have the same bits, where two rows are taken at a time."""
    return [name for name in equal_orders(order) if name != order.name and nrc == 2]


def _same_bits(note: str, order: Order, nrc: int) -> str:
    """Add to a note which other orders have the same bits."""
    others = _others(order, nrc)
    return _joined(note, f"the same bits as {', '.join(map(order_cause, others))}" if others else "")


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


def _separate(function: str, nrc: int, candidates: list[Candidate], ask: AskDot) -> list[Candidate]:
    """Make dot products on which the candidates differ, until one is left or none distinguishes more.

    Each round makes rows of several kinds, and calls the kernel on those with the most different predictions.
    """
    left = candidates
    for seed in range(ROUNDS):
        if len(left) < 2:
            break
        tried = [(_predicted(left, *pair), pair) for pair in _rows(seed)]
        predicted, pair = max(tried, key=lambda one: len(set(one[0])))
        if len(set(predicted)) == 1:
            continue
        pairs = [pair, rows.random_pair(len(pair[0]), seed=seed)][:nrc]
        got = ask(function, nrc, *_as_asked(function, nrc, pairs))
        if got is None:
            break
        bits = int.from_bytes(got[:4], "little")
        left = [c for c, p in zip(left, predicted, strict=True) if p == bits] or left
    return left


def _rows(seed: int) -> tuple[rows.Pair, ...]:
    """Return rows of one length and several kinds, to distinguish orders."""
    nb = _length(seed)
    return (
        rows.random_pair(nb, seed=(1 + seed) * 1000),
        rows.cancelling_pair(nb, seed=(1 + seed) * 1000),
        rows.wide_pair(nb, seed=(1 + seed) * 1000),
        _decided_by_little(nb),
    )


def _decided_by_little(nb: int) -> rows.Pair:
    """Return rows [nb], 3 at least, of 2^30 + 2^6 + 2^-48: a tie in float32 and float64, but for the last."""
    codes = np.zeros((nb, 32), np.int8)
    codes[:3, 0] = 1
    scales = np.zeros((2, nb))
    scales[:, :3] = np.exp2([[15, 3, -24], [15, 3, -24]])
    return rows.blocks(scales[0], codes), rows.blocks(scales[1], codes)


def _predicted(candidates: Sequence[Candidate], x: Array, y: Array) -> list[int]:
    """Return each candidate's result bits for two rows [nb]."""
    d = (x["weight_scale"].astype(np.float32) * y["weight_scale"].astype(np.float32))[np.newaxis]
    return [int(c.bits(d, x["weight_qs"][np.newaxis], y["weight_qs"][np.newaxis])[0]) for c in candidates]


def _length(seed: int) -> int:
    """Return a row length: odd, even, 4k + 3, short and long ones by turns."""
    return (7, 8, 5, 11, 4, 3, 16, 33, 6, 31)[seed % 10]


def _as_asked(function: str, nrc: int, pairs: list[rows.Pair]) -> rows.Pair:
    if nrc == 2:
        return np.stack([x for x, _ in pairs]), np.stack([y for _, y in pairs])
    return rows.to_v2(*pairs[0]) if function == DOT_REAL else pairs[0]
