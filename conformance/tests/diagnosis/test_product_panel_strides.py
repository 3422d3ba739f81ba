"""Blocks of a panel that are written by one stride and read by another, where a panel is shorter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from q8a8 import layout
from q8a8.abi import Reference
from q8a8.quantize import quantize_row
from q8a8_conformance.diagnosis.products.experiments import facts_of_products
from q8a8_conformance.diagnosis.products.panel_strides import panel_stride_facts
from q8a8_conformance.faults.in_process import InProcessSession
from q8a8_conformance.inputs.calls import MUL_MAT

from .product_calls import failed_products

Array = NDArray[Any]

SHAPES = ((1, 3, 2), (3, 2, 5), (9, 7, 2), (6, 13, 5), (11, 10, 7), (5, 5, 9))
"""m, n and blocks of a row of the calls that are made."""


def of_panels(given: Array, rows: int, blocks: int, strides: tuple[int, int], *, by_row: bool) -> Array:
    """Return blocks [size, nb] as they come out of panels of some rows and blocks, 0 for all.

    Of two strides, as they are written and read, 0 is what is left.
    """
    size, nb = given.shape
    kc = blocks or nb
    panel, out = np.zeros(rows * kc, given.dtype), given.copy()
    for b in range(0, nb, kc):
        for first in range(0, size, rows):
            part = given[first : first + rows, b : b + kc]
            left = part.shape[by_row]
            (r, c), (written, read) = np.indices(part.shape), (stride or left for stride in strides)
            panel[r * written + c if by_row else c * written + r] = part
            out[first : first + rows, b : b + kc] = panel[r * read + c if by_row else c * read + r]
    return out


class Packs(Reference):
    """A kernel that packs the rows of one side in panels."""

    def __init__(self, side: str, rows: int, blocks: int, strides: tuple[int, int], *, by_row: bool) -> None:
        super().__init__()
        self._side, self._panel, self._by_row = side, (rows, blocks, strides), by_row

    def mul_mat_q8_a8(self, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
        """Multiply by what comes out of the panels."""
        nb = k // 32
        of = {
            "w": layout.as_blocks(w[: m * nb * 34]).reshape(m, nb),
            "x": quantize_row(x[: n * k].reshape(n, k)).reshape(n, nb),
        }
        of[self._side] = of_panels(of[self._side], *self._panel, by_row=self._by_row)
        sums = np.einsum("nbe,mbe->nmb", of["x"]["weight_qs"].astype(np.int64), of["w"]["weight_qs"])
        scales = of["x"]["weight_scale"].astype(np.float64)[:, np.newaxis] * of["w"]["weight_scale"]
        out[: m * n] = (sums * scales).sum(axis=2).astype(np.float32).reshape(-1)


LAST = "the last panels, which have fewer"
WHOLE, LEFT = "with as many as a whole one has", "with as many blocks to a row as are left"
FEWER = f"{LAST} rows, are written {WHOLE}, and read with as many rows to a block as are left."


@pytest.mark.parametrize(
    ("side", "packs", "panels"),
    [
        (
            "x",
            Packs("x", 8, 4, (0, 4), by_row=True),
            f"panels of 8 rows by 4 blocks, row by row; {LAST} blocks, are written {LEFT}, and read {WHOLE}.",
        ),
        (
            "w",
            Packs("w", 4, 4, (4, 0), by_row=False),
            f"panels of 4 rows by 4 blocks, block by block; {FEWER}",
        ),
        (
            "w",
            Packs("w", 8, 0, (8, 0), by_row=False),
            f"panels of 8 rows by all blocks, block by block; {FEWER}",
        ),
    ],
)
def test_two_strides(side: str, packs: Packs, panels: str) -> None:
    """The panel's rows and blocks, its order, and both strides are measured, what an older panel left too."""
    session = InProcessSession(lambda: packs, [MUL_MAT])
    failures = failed_products(session, SHAPES)
    (fact,) = facts_of_products(session, failures)
    assert (fact.fact, fact.sentence) == ("panel-strides", f"Rows of {side} are packed in {panels}")
    assert fact.explained(failures) == failures
    assert fact.evidence


def test_one_stride() -> None:
    """Panels that are read as they are written are none."""
    packs = Packs("x", 8, 4, (4, 4), by_row=True)
    session, wrong = InProcessSession(lambda: packs, [MUL_MAT]), Packs("w", 4, 0, (4, 0), by_row=False)
    failures = failed_products(InProcessSession(lambda: wrong, [MUL_MAT]), SHAPES)
    assert failures
    assert panel_stride_facts(session, failures) == []
