"""A conforming kernel whose order is in no catalogue is explained by the order that experiments show."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from q8a8.dot import dot_rows as add_rows
from q8a8.order import Order
from q8a8_conformance.diagnosis import Observations
from q8a8_conformance.diagnosis.dots import orders
from q8a8_conformance.faults.kernel import DOT
from q8a8_conformance.inputs import dot_rows
from q8a8_conformance.reveal.summations import SUMMATIONS

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8_conformance.diagnosis import Finding

    Total = Callable[[NDArray[Any], NDArray[Any], NDArray[Any]], Any]

Array = NDArray[Any]

pytestmark = pytest.mark.rule("Q8A8-ORD-1")


def _own() -> Order:
    """Return an order of three accumulators of two lanes that no table has."""
    lanes = (tuple(range(0, 32, 2)), tuple(range(1, 32, 2)))
    return Order("own", lanes, (0, 1, 2), (((0, 3), (4, 1)), (2, 5)), True, "scalar", False, 1, "")


def multiply(total: Total, x: Array, y: Array) -> Array:
    """Multiply rows [..., nb] with a function of codes and scales."""
    shape = np.broadcast_shapes(x.shape, y.shape)
    x, y = (np.broadcast_to(rows, shape).reshape(-1, shape[-1]) for rows in (x, y))
    d = x["weight_scale"].astype(np.float32) * y["weight_scale"].astype(np.float32)
    return np.asarray(total(x["weight_qs"], y["weight_qs"], d), "<f4").reshape(shape[:-1])


def explained(one: Total, two: Total | None = None, *, experiments: bool = True) -> list[Finding]:
    """Diagnose results of random rows, -128 among their codes, computed one or two rows at a time."""
    totals = {1: one} | ({2: two} if two else {})
    seen = Observations()
    for nb in (1, 2, 3, 4, 5, 7, 8, 11, 16, 19):
        for seed in range(6):
            x, y = dot_rows.random_pair(nb, seed=seed, low=-127 if seed else -128)
            for nrc, total in totals.items():
                seen.add_dot(DOT, nrc, x, y, multiply(total, x, y).tobytes())

    def ask(_function: str, nrc: int, x: Array, y: Array) -> bytes:
        if nrc == 2:
            x, y = x[np.newaxis, :, :], y[:, np.newaxis, :]
        return multiply(totals[nrc], x, y).tobytes()

    return orders.explain(DOT, {nrc: seen.dots[DOT, nrc] for nrc in totals}, ask, experiments=experiments)


def in_order(order: Order) -> Total:
    """Return the reference's sum in an order."""
    return lambda qx, qy, d: add_rows(order, qx, qy, d)


def test_an_order_of_its_own() -> None:
    """The order is revealed, with its tree, for one row and for two at a time."""
    (finding,) = explained(in_order(_own()), in_order(_own()))
    assert (finding.cause, finding.fix) == ("order:revealed", "")
    assert finding.explained == finding.of == 120
    assert finding.detail.startswith("order not in the catalogue (legal), revealed as: 2 lanes")
    assert finding.revealed is not None
    assert finding.revealed["kind"] == "tree"
    assert finding.revealed["tree"]
    assert finding.revealed["calls"] < 200


def test_two_rows_in_another_order() -> None:
    """An order of two rows at a time that differs from that of one is a line of its own."""
    found = explained(in_order(_own()), in_order(replace(_own(), fused=False)))
    assert [(f.cause, f.nrc) for f in found] == [("order:revealed", 1), ("order:revealed", 2)]
    assert found[1].detail.startswith("nrc = 2; ")


@pytest.mark.parametrize("cause", ["sums-in-double", "compensated-sum"])
def test_another_sum(cause: str) -> None:
    """Ways to add that are no order are named, whether or not an order goes with them."""
    (way,) = (each for each in SUMMATIONS if each.cause == cause)
    (finding,) = explained(lambda qx, qy, d: way.total(_own(), qx, qy, d))
    assert finding.cause == cause
    assert ("in the order 2 lanes" in finding.detail) == way.any_order


def test_a_mistake_in_an_order_of_its_own() -> None:
    """A mistake leaves the results unexplained; without experiments nothing is said about the order."""

    def total(qx: Array, qy: Array, d: Array) -> Array:
        return add_rows(_own(), np.where(qx == -128, 7, qx), qy, d)

    (finding,) = explained(total)
    assert finding.cause == "unexplained"
    assert explained(total, experiments=False) == []


def test_too_many_roundings() -> None:
    """An order that rounds each product of two codes is no legal one: the fix says how many are too many."""

    def total(qx: Array, qy: Array, d: Array) -> Array:
        terms = (qx.astype(np.float32) * qy * d[..., np.newaxis]).reshape(len(d), -1)
        return np.asarray(np.add.accumulate(terms, axis=1)[:, -1])

    (finding,) = explained(total)
    assert finding.cause == "order:revealed"
    assert finding.fix == "round fewer times: 608 roundings for 19 blocks, of which 83 are legal"
    assert "1 sum, 32 lanes, one for each code" in finding.detail
    assert "(legal)" not in finding.detail
