"""Codes of a panel that are written in chunks of one size and read in chunks of another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from q8a8 import layout
from q8a8.abi import Reference
from q8a8.quantize import quantize_row
from q8a8_conformance.diagnosis.products.experiments import facts_of_products
from q8a8_conformance.diagnosis.products.interleaved import interleaved_facts
from q8a8_conformance.faults.in_process import InProcessSession
from q8a8_conformance.inputs.calls import MUL_MAT

from .product_calls import failed_products

Array = NDArray[Any]


def _repacked(codes: Array, panel: int, written: int, read: int) -> Array:
    """Return codes [rows, 32] as they come out of panels, the last of which is padded with zeros."""
    rows = len(codes)
    padded = np.zeros((-(-rows // panel) * panel, 32), codes.dtype)
    padded[:rows] = codes
    out = np.empty_like(padded)
    for start in range(0, len(padded), panel):
        of = padded[start : start + panel]
        packed = of.reshape(panel, 32 // written, written).transpose(1, 0, 2).reshape(-1)
        taken = packed.reshape(32 // read, panel, read).transpose(1, 0, 2).reshape(panel, 32)
        out[start : start + panel] = taken
    return out[:rows]


class Repacks(Reference):
    """A kernel that packs rows of one side in panels, the last one otherwise than it is read."""

    def __init__(self, side: str, panel: int, written: int, read: int, *, only_rest: bool) -> None:
        super().__init__()
        self._side, self._chunks, self._only_rest = side, (panel, written, read), only_rest

    def mul_mat_q8_a8(self, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
        """Multiply by what comes out of the panels."""
        nb = k // 32
        of_w = layout.as_blocks(w).reshape(m, nb).copy()
        of_x = quantize_row(x.reshape(n, k)).reshape(n, nb).copy()
        given = of_w if self._side == "w" else of_x
        start = len(given) - len(given) % self._chunks[0] if self._only_rest else 0
        for b in range(nb):
            given["weight_qs"][start:, b] = _repacked(given["weight_qs"][start:, b], *self._chunks)
        sums = np.einsum("nbe,mbe->nmb", of_x["weight_qs"].astype(np.int64), of_w["weight_qs"])
        scales = of_x["weight_scale"].astype(np.float64)[:, np.newaxis] * of_w["weight_scale"]
        out[: m * n] = (sums * scales).sum(axis=2).astype(np.float32).reshape(-1)


SHAPES = ((1, 1, 1), (3, 2, 2), (5, 3, 1), (4, 4, 3), (9, 7, 2), (6, 13, 4))
"""m, n and blocks of a row of the calls that are made."""


@pytest.mark.parametrize(
    ("side", "panel", "written", "read", "only_rest"),
    [("w", 4, 4, 8, True), ("w", 4, 8, 4, False), ("x", 4, 8, 4, False), ("w", 8, 4, 8, True)],
)
def test_chunks_of_two_sizes(side: str, panel: int, written: int, read: int, only_rest: bool) -> None:
    """Panel, chunks and rows are measured, and every failed call is explained."""
    kernel = Repacks(side, panel, written, read, only_rest=only_rest)
    session = InProcessSession(lambda: kernel, [MUL_MAT])
    failures = failed_products(session, SHAPES)
    (fact,) = facts_of_products(session, failures)
    where = {"side": side, "panel": panel, "written": written, "read": read}
    assert (fact.fact, fact.rule) == ("codes-interleaved", "Q8A8-MUL-6")
    assert {name: fact.where[name] for name in where} == where
    assert fact.where["where"] == ("rest" if only_rest else "all")
    assert len(fact.explained(failures)) == len(failures) > 2
    assert fact.evidence


def test_a_right_product_has_none() -> None:
    """Where every code stands in its own place nothing is said."""
    session = InProcessSession(Reference, [MUL_MAT])
    assert interleaved_facts(session, []) == []


class ScalesApart(Reference):
    """A kernel whose panels of rows of one side have their scales in an order in which they are not read."""

    def __init__(self, side: str, panel: int, order: str) -> None:
        super().__init__()
        self._side, self._panel, self._order = side, panel, order

    def mul_mat_q8_a8(self, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
        """Multiply with the scales that are read."""
        nb = k // 32
        of_w = layout.as_blocks(w[: m * nb * 34].tobytes()).reshape(m, nb).copy()
        of_x = quantize_row(x[: n * k].reshape(n, k)).reshape(n, nb).copy()
        given = of_w if self._side == "w" else of_x
        for start in range(0, len(given), self._panel):
            panel = given["weight_scale"][start : start + self._panel]
            rows = len(panel)
            written, read = np.zeros(nb * self._panel, np.float16), np.zeros((rows, nb), np.float16)
            for r, b in np.ndindex(rows, nb):
                written[r * nb + b if self._order == "by-block" else b * rows + r] = panel[r, b]
            for r, b in np.ndindex(rows, nb):
                by_row = self._order == "by-row"
                apart = self._panel if self._order == "last-panel" else rows
                read[r, b] = written[r * nb + b if by_row else b * apart + r]
            given["weight_scale"][start : start + rows] = read
        sums = np.einsum("nbe,mbe->nmb", of_x["weight_qs"].astype(np.int64), of_w["weight_qs"])
        scales = of_x["weight_scale"].astype(np.float64)[:, np.newaxis] * of_w["weight_scale"]
        out[: m * n] = (sums * scales).sum(axis=2).astype(np.float32).reshape(-1)


@pytest.mark.parametrize(
    ("side", "panel", "order"),
    [("w", 4, "last-panel"), ("x", 8, "last-panel"), ("w", 4, "by-row"), ("w", 8, "by-block")],
)
def test_scales_in_two_orders(side: str, panel: int, order: str) -> None:
    """Panel and order are measured, and every failed call is explained."""
    kernel = ScalesApart(side, panel, order)
    session = InProcessSession(lambda: kernel, [MUL_MAT])
    failures = failed_products(session, SHAPES)
    (fact,) = facts_of_products(session, failures)
    assert (fact.fact, fact.rule) == ("scales-interleaved", "Q8A8-MUL-6")
    assert fact.where == {"side": side, "panel": panel, "order": order}
    assert len(fact.explained(failures)) == len(failures) > 2
    assert fact.evidence
