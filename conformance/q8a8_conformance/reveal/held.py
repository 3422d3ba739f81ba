"""The truth test: a revealed order, run by the reference's interpreter, must give the kernel's bits."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from q8a8.dot import dot_rows as add_rows
from q8a8.order import ORDERS, TreeOrder
from q8a8_conformance.inputs import dot_rows
from q8a8_conformance.inputs.calls import MUL_MAT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from q8a8.order import AnyOrder
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.reveal.asking import Dot

Total: TypeAlias = "Callable[[AnyOrder, Array, Array, Array], Array]"

SCALAR = ORDERS["scalar"]


@dataclass
class HeldRows:
    """Pairs of rows of one length with the kernel's results.

    Attributes
    ----------
    dx, dy
        Scales of the two rows, float32 [pairs, nb].
    qx, qy
        Their codes, int8 [pairs, nb, 32].
    bits
        Of the results, uint32 [pairs].
    """

    dx: Array
    dy: Array
    qx: Array
    qy: Array
    bits: Array
    _known: dict[int, tuple[AnyOrder, Array]] = field(default_factory=dict, init=False)

    @property
    def nb(self) -> int:
        """Blocks of a row."""
        return int(self.dx.shape[-1])

    @property
    def count(self) -> int:
        """How many results there are."""
        return int(self.bits.size)

    @cached_property
    def ordinary(self) -> Array:
        """For each pair whether neighbouring blocks have other scales: bool [pairs]."""
        equal = (self.dx[:, 1:] == self.dx[:, :-1]) & (self.dy[:, 1:] == self.dy[:, :-1])
        return np.asarray(~equal.any(axis=1))

    def wrong(self, order: AnyOrder, *, ordinary: bool = False) -> int:
        """Count the results, of all rows or of the ordinary ones, whose bits an order does not give."""
        if isinstance(order, TreeOrder) and self.nb not in order.programs:
            return self.count
        if id(order) not in self._known:
            first = None if order.scales == "product" else (self.dx if order.scales == "x" else self.dy)
            d = self.dx * self.dy if first is None else (self.dy if order.scales == "x" else self.dx)
            with np.errstate(over="ignore", invalid="ignore"):
                differ = self._differ(add_rows(order, self.qx, self.qy, d, first))
            self._known[id(order)] = order, differ  # The order is kept, so that its id stays its own.
        differ = self._known[id(order)][1]
        return int((differ[self.ordinary] if ordinary else differ).sum())

    def wrong_by(self, order: AnyOrder, total: Total) -> int:
        """Count the results whose bits another way to add in an order does not give."""
        with np.errstate(over="ignore", invalid="ignore"):
            return int(self._differ(total(order, self.qx, self.qy, self.dx * self.dy)).sum())

    def _differ(self, results: Array) -> Array:
        return np.asarray(np.asarray(results, "<f4").view(np.uint32) != self.bits)


def _equal_scales(nb: int, *, seed: int) -> dot_rows.Pair:
    """Generate random rows whose blocks all have the same scales."""
    x, y = dot_rows.random_pair(nb, seed=seed)
    return dot_rows.with_scales(x, x["weight_scale"][:1]), dot_rows.with_scales(y, y["weight_scale"][:1])


KINDS: dict[str, Callable[..., dot_rows.Pair]] = {
    "random": dot_rows.random_pair,
    "cancelling": dot_rows.cancelling_pair,
    "wide": dot_rows.wide_pair,
    "equal scales": _equal_scales,
}
"""Rows of these kinds by turns: an order that depends on the values differs in some."""


LOWEST = -128
"""A code that known kernels multiply wrongly, whatever their order; no quantizer makes it."""


def ask_rows(dot: Dot, nb: int, calls: int, kinds: Iterable[str] = KINDS, seed: int = 0) -> HeldRows:
    """Call the kernel on random rows of one length, so many times for each kind."""
    pairs = [
        [KINDS[kind](nb, seed=7_000_000 + 1000 * seed + dot.nrc * k + r) for r in range(dot.nrc)]
        for kind in kinds
        for k in range(calls)
    ]
    x, y = (np.stack([np.stack([pair[side] for pair in rows]) for rows in pairs]) for side in (0, 1))
    for rows in (x, y):
        np.maximum(rows["weight_qs"], LOWEST + 1, out=rows["weight_qs"])
    if dot.function == MUL_MAT:
        # A product's quantizer leaves a block with the code 127 as it is.
        y["weight_qs"][..., 0] = -LOWEST - 1
    bits = np.stack([dot.results(a, b) for a, b in zip(x, y, strict=True)]).view(np.uint32)
    x, y = np.broadcast_arrays(x[:, np.newaxis, :, :], y[:, :, np.newaxis, :])
    x, y = x.reshape(-1, nb), y.reshape(-1, nb)
    dx, dy = x["weight_scale"].astype(np.float32), y["weight_scale"].astype(np.float32)
    return HeldRows(dx, dy, x["weight_qs"], y["weight_qs"], bits.ravel())


def first_wrong(rows: Iterable[HeldRows], order: AnyOrder) -> HeldRows | None:
    """Return the first rows whose ordinary ones an order does not explain."""
    return next((each for each in rows if each.wrong(order, ordinary=True)), None)
