"""Codes of a product with an offset for which not the right number is taken off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from q8a8 import layout
from q8a8.abi import Reference
from q8a8.quantize import quantize_row
from q8a8_conformance.diagnosis.products.offsets import offset_facts
from q8a8_conformance.diagnosis.products.terms import terms_of
from q8a8_conformance.faults.in_process import InProcessSession
from q8a8_conformance.inputs import mul_mat_rows
from q8a8_conformance.inputs.calls import MUL_MAT, mul_mat
from q8a8_conformance.results.observations import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

Array = NDArray[Any]


def _failures(added: Callable[[Array, Array], Array]) -> tuple[InProcessSession, list[Failure]]:
    """Return a kernel that adds a function of the sums of both codes to block sums, and failed calls."""

    class Changed(Reference):
        def mul_mat_q8_a8(self, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
            rows = layout.as_blocks(w[: m * k // 32 * 34]).reshape(m, -1)
            sides = rows, quantize_row(x[: n * k].reshape(n, k)).reshape(n, -1)
            (of_w, dw), (of_x, dx) = (
                (one["weight_qs"].astype(np.int64), one["weight_scale"].astype(np.float64)) for one in sides
            )
            more = added(of_w.sum(axis=2), of_x.sum(axis=2)[:, np.newaxis]) * (dx[:, np.newaxis] * dw)
            out[: m * n] = (terms_of((of_w, dw), (of_x, dx)) + more).sum(axis=2).reshape(-1)

    session, right, failures = (
        InProcessSession(Changed, [MUL_MAT]),
        InProcessSession(Reference, [MUL_MAT]),
        [],
    )
    for shape in ((3, 4, 5), (2, 3, 9), (1, 2, 18)):
        w, x = (rows.copy() for rows in mul_mat_rows.exact(*shape))
        x[:, 1:] = 127 - np.arange(x.shape[1] - 1) % 32  # (Their sums need more than 16 bits.)
        call = mul_mat(w, x)
        got, expected = (tuple(bytes(out) for out in one.call(call).outputs) for one in (session, right))
        if got != expected:
            failures.append(Failure(call, got, expected))
    return session, failures


OF_W = "128 is added to the codes of w, and what is taken off for it, 128 times the sum of x's codes,"
OF_X = "128 is added to the codes of x, and what is taken off for it, 128 times the sum of w's codes,"

LEFT = "128 times the sum of w's codes is added."


@pytest.mark.parametrize(
    ("added", "sentence"),
    [
        (
            lambda _w, x: 128 * x - (128 * x).astype(np.int16),
            f"{OF_W} is kept in 16 bits and wraps.",
        ),
        (
            lambda w, _x: 128 * w - np.clip(128 * w, -32768, 32767),
            f"{OF_X} is kept in 16 bits and saturates.",
        ),
        (
            lambda w, x: 128 * (x - w),
            "128 is added to the codes of w, and 128 times the sum of w's codes is taken off, not of x's.",
        ),
        (
            lambda w, _x: 128 * w * (np.arange(w.shape[1]) >= w.shape[1] - w.shape[1] % 2),
            f"In the blocks beyond a multiple of 2, x's codes are taken for 128 more: {LEFT}",
        ),
    ],
)
def test_offsets(added: Callable[[Array, Array], Array], sentence: str) -> None:
    """What is taken off, of which side's codes, and how it is kept."""
    session, failures = _failures(added)
    (fact,) = offset_facts(session, failures)
    assert fact.sentence == sentence
    assert fact.explained(failures) == failures
    assert fact.evidence


def test_no_offset() -> None:
    """A right product has none, nor has one with another mistake."""
    session, _ = _failures(lambda w, _x: 0 * w)
    w, x = mul_mat_rows.exact(2, 2, 3)
    call = mul_mat(w, x)
    outputs = tuple(bytes(out) for out in session.call(call).outputs)
    assert offset_facts(session, [Failure(call, outputs, (bytes(16),))]) == []
