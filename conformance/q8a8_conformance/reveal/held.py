"""The truth test: a revealed order, run by the reference's interpreter, must give the kernel's bits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from q8a8.dot import vec_dot
from q8a8.order import ORDERS, TreeOrder
from q8a8_conformance.inputs import dot_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from q8a8.order import AnyOrder
    from q8a8_conformance.reveal.asking import Dot


Array = NDArray[Any]
Total: TypeAlias = "Callable[[AnyOrder, Array, Array, Array], Array]"

SCALAR = ORDERS["scalar"]


@dataclass
class HeldRows:
    """Rows of one length with the kernel's results.

    Attributes
    ----------
    x, y
        Blocks [calls, nrc, nb].
    bits
        Of the results, uint32 [calls, nrc²].
    ordinary
        For each call whether no two blocks have scales in common by design: bool [calls].
    """

    x: Array
    y: Array
    bits: Array
    ordinary: Array
    _known: dict[int, tuple[AnyOrder, Array]] = field(default_factory=dict)

    @property
    def nb(self) -> int:
        """Blocks of a row."""
        return int(self.x.shape[-1])

    @property
    def count(self) -> int:
        """How many results there are."""
        return int(self.bits.size)

    def wrong(self, order: AnyOrder, *, ordinary: bool = False) -> int:
        """Count the results, of all rows or of the ordinary ones, whose bits an order does not give."""
        if isinstance(order, TreeOrder) and self.nb not in order.trees:
            return self.count
        if id(order) not in self._known:
            x, y = self.x[:, np.newaxis, :, :], self.y[:, :, np.newaxis, :]
            with np.errstate(over="ignore", invalid="ignore"):
                differ = self._differ(vec_dot(x, y, order))
            self._known[id(order)] = order, differ  # The order is kept, so that its id stays its own.
        differ = self._known[id(order)][1]
        return int((differ[self.ordinary] if ordinary else differ).sum())

    def wrong_by(self, order: AnyOrder, total: Total) -> int:
        """Count the results whose bits another way to add in an order does not give."""
        pairs = np.broadcast_arrays(self.x[:, np.newaxis, :, :], self.y[:, :, np.newaxis, :])
        x, y = (rows.reshape(-1, self.nb) for rows in pairs)
        d = x["weight_scale"].astype(np.float32) * y["weight_scale"].astype(np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            return int(self._differ(total(order, x["weight_qs"], y["weight_qs"], d)).sum())

    def _differ(self, expected: Array) -> Array:
        return np.asarray(np.asarray(expected, "<f4").view(np.uint32).reshape(self.bits.shape) != self.bits)


def _equal_scales(nb: int, *, seed: int) -> dot_rows.Pair:
    """Generate random rows whose blocks all have the same scales."""
    x, y = dot_rows.random_pair(nb, seed=seed)
    return dot_rows.with_scales(x, x["weight_scale"][:1]), dot_rows.with_scales(y, y["weight_scale"][:1])


EQUAL = "equal scales"

KINDS: dict[str, Callable[..., dot_rows.Pair]] = {
    "random": dot_rows.random_pair,
    "cancelling": dot_rows.cancelling_pair,
    "wide": dot_rows.wide_pair,
    EQUAL: _equal_scales,
}
"""Rows of these kinds by turns: an order that depends on the values differs in some."""


def ask_rows(dot: Dot, nb: int, calls: int, kinds: Iterable[str] = KINDS, seed: int = 0) -> HeldRows:
    """Call the kernel on random rows of one length, so many times for each kind."""
    pairs = [
        [KINDS[kind](nb, seed=7_000_000 + 1000 * seed + dot.nrc * k + r) for r in range(dot.nrc)]
        for kind in kinds
        for k in range(calls)
    ]
    x, y = (np.stack([np.stack([pair[side] for pair in rows]) for rows in pairs]) for side in (0, 1))
    bits = np.stack([dot.results(a, b) for a, b in zip(x, y, strict=True)]).view(np.uint32)
    return HeldRows(x, y, bits, np.repeat([kind != EQUAL for kind in kinds], calls))


def first_wrong(rows: Iterable[HeldRows], order: AnyOrder) -> HeldRows | None:
    """Return the first rows whose ordinary ones an order does not explain."""
    return next((each for each in rows if each.wrong(order, ordinary=True)), None)
