"""Outputs that a value outside the domain in another row spoils: which row, by a formula."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from q8a8 import layout
from q8a8.abi import Reference
from q8a8_conformance.diagnosis.products.spoiled import spoiled_facts
from q8a8_conformance.faults.in_process import InProcessSession
from q8a8_conformance.inputs import mul_mat_rows
from q8a8_conformance.inputs.calls import MUL_MAT
from q8a8_conformance.inputs.calls import mul_mat as product_call
from q8a8_conformance.results.observations import Failure

Array = NDArray[Any]
LARGE = 1e30
NAN = "are NaN where"
ANY = "NaN, infinity or 3e38"


class Spoiled(Reference):
    """A kernel in which a row outside the domain makes outputs NaN: its own."""

    def of_x(self, row: int) -> slice:
        """Return the rows of x that a row of x spoils."""
        return slice(row, row + 1)

    def of_w(self, row: int) -> slice:
        """Return the rows of w that a row of w spoils."""
        return slice(row, row + 1)

    def mul_mat_q8_a8(self, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
        """Multiply what is finite, and spoil."""
        rows, blocks = x[: n * k].reshape(n, k), layout.as_blocks(w[: m * k // 32 * 34]).reshape(m, -1).copy()
        right_x, right_w = (
            np.asarray((np.abs(rows) < LARGE).all(axis=1)),
            np.isfinite(blocks["weight_scale"]).all(axis=1),
        )
        blocks["weight_scale"][~right_w] = 0
        given = np.where(right_x[:, np.newaxis], rows, np.float32(0)).reshape(-1)
        super().mul_mat_q8_a8(m, n, k, blocks.view(np.uint8).reshape(-1), given, out)
        outputs = out[: m * n].reshape(n, m)
        for row in np.flatnonzero(~right_x).tolist():
            outputs[self.of_x(row)] = np.nan
        for row in np.flatnonzero(~right_w).tolist():
            outputs[:, self.of_w(row)] = np.nan


class Fours(Spoiled):
    """A kernel in which a row of x spoils its group of four."""

    def of_x(self, row: int) -> slice:
        """Return the group."""
        return slice(row // 4 * 4, row // 4 * 4 + 4)


class After(Spoiled):
    """A kernel in which a row of w spoils those after it."""

    def of_w(self, row: int) -> slice:
        """Return them."""
        return slice(row, None)


@pytest.mark.parametrize(
    ("kernel", "side", "sentences"),
    [
        (
            Fours,
            "x",
            [f"Outputs of row i of x {NAN} another of rows i - i % 4 to i - i % 4 + 3 of x has {ANY}."],
        ),
        (
            After,
            "w",
            [f"Outputs of row j of w {NAN} a row before row j of w has a scale that is NaN or infinity."],
        ),
        (Spoiled, "x", []),
    ],
)
def test_spoiled_rows(kernel: type[Reference], side: str, sentences: list[str]) -> None:
    """The formula for the rows that spoil others is found, on both sides."""
    w, x = (each.copy() for each in mul_mat_rows.exact(6, 9, 2))
    if side == "x":
        x[1, 3] = np.nan
    else:
        w["weight_scale"][1, 1] = np.nan
    call = product_call(w, x)
    failure = Failure(call, (b"\xff" * 4 * 54,), (bytes(4 * 54),))
    facts = spoiled_facts(InProcessSession(kernel, [MUL_MAT]), [failure])
    assert [fact.sentence for fact in facts] == sentences
    assert all(fact.explains(failure) and fact.evidence for fact in facts)
