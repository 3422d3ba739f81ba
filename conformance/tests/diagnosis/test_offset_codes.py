"""Dot products that add 128 to the codes of one row, and round by itself what they take off for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8 import layout
from q8a8.abi import Reference
from q8a8_conformance.faults.kernel import DOT

from .dot_calls import facts_about

if TYPE_CHECKING:
    from q8a8_conformance.inputs.arrays import Array


class OffsetCodes(Reference):
    """Adds 128 to the codes of x, and subtracts 128 times y's codes in a sum of its own."""

    def ggml_vec_dot_q8_a8_q8_a8(
        self, n: int, s: Array, bs: int, vx: Array, bx: int, vy: Array, by: int, nrc: int
    ) -> None:
        """Add up both sums in float32."""
        if nrc == 2 or not n:
            super().ggml_vec_dot_q8_a8_q8_a8(n, s, bs, vx, bx, vy, by, nrc)
            return
        x, y = (layout.as_blocks(rows[: n // 32 * 34]) for rows in (vx, vy))
        d = x["weight_scale"].astype(np.float32) * y["weight_scale"].astype(np.float32)
        codes = x["weight_qs"].astype(np.int64) + 128, y["weight_qs"].astype(np.int64)
        sums = [np.float32(0), np.float32(0)]
        for b in range(n // 32):
            sums[0] += d[b] * np.float32((codes[0][b] * codes[1][b]).sum())
            sums[1] += d[b] * np.float32(128 * codes[1][b].sum())
        s[0] = sums[0] - sums[1]


def test_codes_that_are_offset() -> None:
    """Codes that are offset, and corrected in another sum, are found by a block that should add nothing."""
    facts, _ = facts_about(DOT, OffsetCodes())
    assert [(fact.fact, fact.where["operand"], fact.rule) for fact in facts] == [
        ("codes-offset", "x", "Q8A8-ORD-2")
    ]


class SumsAsHalves(Reference):
    """Adds 128 to the codes of one row, and takes 128 times the other's sum off: a half, as in Q8_1."""

    def __init__(self, operand: str) -> None:
        super().__init__()
        self._operand = operand

    def ggml_vec_dot_q8_a8_q8_a8(
        self, n: int, s: Array, bs: int, vx: Array, bx: int, vy: Array, by: int, nrc: int
    ) -> None:
        """Add up blocks, each with its correction, in float32."""
        if nrc == 2 or not n:
            super().ggml_vec_dot_q8_a8_q8_a8(n, s, bs, vx, bx, vy, by, nrc)
            return
        rows = [layout.as_blocks(row[: n // 32 * 34]) for row in (vx, vy)]
        own, other = rows if self._operand == "x" else rows[::-1]
        total = np.float32(0)
        with np.errstate(all="ignore"):
            for a, b in zip(own, other, strict=True):
                da, db = np.float32(a["weight_scale"]), np.float32(b["weight_scale"])
                codes = a["weight_qs"].astype(np.int64) + 128, b["weight_qs"].astype(np.int64)
                rest = np.float16(db * np.float32(codes[1].sum()))
                term = np.float32((codes[0] * codes[1]).sum()) * (da * db)
                total += term - np.float32(128) * da * np.float32(rest)
        s[0] = total


@pytest.mark.parametrize("operand", ["x", "y"])
def test_sums_of_codes_that_are_halves(operand: str) -> None:
    """The format of the sums is measured, with which the model gives every failed call."""
    facts, failures = facts_about(DOT, SumsAsHalves(operand))
    (fact,) = facts
    assert (fact.fact, dict(fact.where)) == ("codes-offset", {"operand": operand, "format": "half"})
    assert len(fact.explained(failures)) == len(failures) > 0
