"""What becomes of the terms of wrong products, and of which: one law for products of any shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from q8a8 import layout
from q8a8.abi import Reference
from q8a8.matmul import mul_mat
from q8a8.quantize import quantize_row
from q8a8_conformance.diagnosis.product_laws import law_facts
from q8a8_conformance.diagnosis.product_terms import terms_of
from q8a8_conformance.faults.in_process import InProcessSession
from q8a8_conformance.inputs import mul_mat_rows
from q8a8_conformance.inputs.calls import MUL_MAT, float_bytes
from q8a8_conformance.inputs.calls import mul_mat as product_call
from q8a8_conformance.results.observations import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8_conformance.diagnosis.facts import Fact

Array = NDArray[Any]
Side = tuple[Array, Array]

BEYOND = "beyond a multiple of"

SHAPES = ((1, 3, 2), (3, 1, 4), (5, 7, 1), (9, 17, 3), (17, 9, 5), (2, 4, 7), (12, 3, 6), (3, 2, 19))
"""m, n and blocks of a row of the calls that are made."""


def facts_of(change: Callable[[Array, Side, Side], Array]) -> tuple[list[Fact], list[Failure]]:
    """Return the laws of a kernel that adds other terms, and its failed calls.

    `change` gets the right terms, float64 [n, m, nb], and codes and scales of w and x, and returns others.
    """

    class Changed(Reference):
        """A kernel that adds other terms."""

        def mul_mat_q8_a8(self, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
            """Multiply, and add up what became of the terms."""
            blocks = layout.as_blocks(w[: m * k // 32 * 34]).reshape(m, -1)
            rows = quantize_row(x[: n * k].reshape(n, k).copy()).reshape(n, -1)
            of_w, of_x = (
                (side["weight_qs"], side["weight_scale"].astype(np.float64)) for side in (blocks, rows)
            )
            out[: m * n] = change(terms_of(of_w, of_x), of_w, of_x).sum(axis=2).reshape(-1)

    session, failures = InProcessSession(Changed, [MUL_MAT]), []
    for m, n, nb in SHAPES:
        w, x = mul_mat_rows.exact(m, n, nb)
        call = product_call(w, x, out=float_bytes(3.0) * (m * n))
        expected = (mul_mat(w, x).astype("<f4").tobytes(),)
        outputs = tuple(bytes(out) for out in session.call(call).outputs)
        if outputs != expected:
            failures.append(Failure(call, outputs, expected))
    return law_facts(session, failures), failures


def _overlapping(right: Array, _w: Side, _x: Side) -> Array:
    m = right.shape[1]
    if m > 8 and m % 8:
        right[:, m - 8 : m - m % 8] *= 2
    return right


def _block_before(right: Array, w: Side, x: Side) -> Array:
    m, nb = right.shape[1:]
    before = np.maximum(np.arange(nb) - 1, 0)
    other = terms_of(w, (x[0][:, before], x[1][:, before]))
    start = max(nb - nb % 4, 1)
    right[:, m - m % 4 :, start:] = other[:, m - m % 4 :, start:]
    return right


def _codes_before(right: Array, w: Side, x: Side) -> Array:
    before = np.maximum(np.arange(right.shape[2]) - 1, 0)
    return np.where(np.arange(right.shape[2]) % 2, terms_of((w[0][:, before], w[1]), x), right)


def _two_mistakes(right: Array, w: Side, x: Side) -> Array:
    m, nb = right.shape[1:]
    start = max(m - m % 8, 1)
    right[:, start:] = terms_of((w[0][start - 1 : -1], w[1][start - 1 : -1]), x)
    right[3::4, :, nb - 1 if nb > 2 else nb :] = 0
    return right


@pytest.mark.parametrize(
    ("change", "sentences"),
    [
        (
            _overlapping,
            ["Outputs in the columns from m - 8 to the last multiple of 8, exclusive are doubled."],
        ),
        (
            _block_before,
            [f"In outputs in the columns {BEYOND} 4, the blocks {BEYOND} 4 take block b - 1 of x."],
        ),
        (_codes_before, ["The last block of every 2 takes the codes of block b - 1 of w."]),
        (
            _two_mistakes,
            [
                "In outputs in the last row of every 4, the last block where nb >= 3 is not counted.",
                f"Outputs in the columns {BEYOND} 8 take row j - 1 of w.",
            ],
        ),
    ],
)
def test_one_law_for_all_shapes(change: Callable[[Array, Side, Side], Array], sentences: list[str]) -> None:
    """What becomes of terms is said of products of any shape, and predicts the failed calls."""
    facts, failures = facts_of(change)
    assert [fact.sentence for fact in facts] == sentences
    assert all(any(fact.explains(failure) for fact in facts) for failure in failures)
    assert all(fact.evidence and fact.explained(failures) for fact in facts)


def test_no_law() -> None:
    """What no effect gives has none."""
    facts, failures = facts_of(lambda right, _w, _x: right * (1 + np.arange(right.shape[2]) % 5 / 7))
    assert failures
    assert facts == []
