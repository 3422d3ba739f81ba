"""Sums of several blocks of a product that are rounded before all are added."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from q8a8 import layout
from q8a8.abi import Reference
from q8a8.quantize import quantize_row
from q8a8_conformance.diagnosis.products.segments import segment_facts
from q8a8_conformance.diagnosis.products.terms import terms_of
from q8a8_conformance.faults.in_process import InProcessSession
from q8a8_conformance.inputs import mul_mat_rows
from q8a8_conformance.inputs.calls import MUL_MAT
from q8a8_conformance.inputs.calls import mul_mat as product_call
from q8a8_conformance.results.observations import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

Array = NDArray[Any]

SHAPES = ((3, 4, 5), (2, 3, 9), (1, 2, 18), (5, 2, 20))
"""m, n and blocks of a row of the calls that are made."""

LARGE = 32
"""Scales of w, of which some sums of blocks are infinite in half precision, and some outputs NaNs."""


def _half(sums: Array) -> Array:
    with np.errstate(over="ignore"):
        return np.asarray(sums.astype(np.float32).astype(np.float16).astype(np.float64))


def _of_four(terms: Array) -> Array:
    return np.asarray(_half(np.add.reduceat(terms, range(0, terms.shape[2], 4), axis=2)).sum(axis=2))


def _of_quarters(terms: Array) -> Array:
    nb = terms.shape[2]
    found = terms.sum(axis=2)
    if nb >= 8:
        found = _half(np.add.reduceat(terms, [nb // 4 * part for part in range(4)], axis=2)).sum(axis=2)
    return np.asarray(found)


def _but_the_last(terms: Array) -> Array:
    found, n = terms.sum(axis=2), len(terms) // 2
    found[n:] = (_half(terms[..., :-1].sum(axis=2)) + terms[..., -1])[n:]
    return np.asarray(found)


def _running(terms: Array) -> Array:
    total = np.zeros(terms.shape[:2])
    for b in range(terms.shape[2]):
        total = _half(total + terms[..., b])
    return total


def _running_of_four(terms: Array) -> Array:
    total = np.zeros(terms.shape[:2])
    for b in range(terms.shape[2]):
        total = total + terms[..., b]
        total = _half(total) if b % 4 == 3 else total
    return total


HALF = "rounded to half precision (to nearest, ties to even, infinite past 65504) before"
NEW = "sums of blocks, a new one from"
FOUR = f"The {NEW} the first block of every 4 but the first on, are {HALF} all are"
QUARTERS = (
    f"Where nb >= 8, the {NEW} block nb / 4 (rounded down), each multiple of it up to 3 * it on, are {HALF} "
    "all are"
)
RUNNING = f"The running sum is {HALF.removesuffix(' before')} after every block."
RUNNING_OF_FOUR = (
    f"The running sum of the blocks up to the last multiple of 4 is {HALF} the first block of every 4 but "
    "the first, and at its end."
)
LAST = (
    "In outputs in every row from row n / 2 (rounded down) on, the sum of every block but the last is "
    f"{HALF} the rest is"
)


@pytest.mark.parametrize(
    ("add", "sentence"),
    [
        (_running, RUNNING),
        (_running_of_four, RUNNING_OF_FOUR),
        (_of_four, FOUR),
        (_of_quarters, QUARTERS),
        (_but_the_last, LAST),
    ],
)
def test_sums_of_blocks(add: Callable[[Array], Array], sentence: str) -> None:
    """Which blocks have one sum, in which outputs, and how it is rounded."""

    class Changed(Reference):
        """A kernel that rounds sums of blocks."""

        def mul_mat_q8_a8(self, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
            """Multiply, and add."""
            sides = (
                layout.as_blocks(w[: m * k // 32 * 34]).reshape(m, -1),
                quantize_row(x[: n * k].reshape(n, k)).reshape(n, -1),
            )
            terms = terms_of(*((one["weight_qs"], one["weight_scale"].astype(np.float64)) for one in sides))
            with np.errstate(invalid="ignore"):
                out[: m * n] = add(terms).reshape(-1)

    session, failures = InProcessSession(Changed, [MUL_MAT]), []
    for shape, size in (*((shape, 1) for shape in SHAPES), (SHAPES[-1], LARGE)):
        w, x = mul_mat_rows.exact(*shape)
        w = layout.pack(w["weight_scale"] * np.float16(size), w["weight_qs"])
        call, right = product_call(w, x), InProcessSession(Reference, [MUL_MAT])
        got, expected = (tuple(bytes(out) for out in one.call(call).outputs) for one in (session, right))
        if got != expected:
            failures.append(Failure(call, got, expected))
    (fact,) = segment_facts(session, failures)
    assert fact.sentence in (sentence, f"{sentence} added.")
    assert fact.explained(failures) == failures
    assert fact.evidence


def test_right_sums() -> None:
    """Sums that are not rounded are none."""
    w, x = mul_mat_rows.exact(2, 2, 3)
    call, session = product_call(w, x), InProcessSession(Reference, [MUL_MAT])
    outputs = tuple(bytes(out) for out in session.call(call).outputs)
    assert segment_facts(session, [Failure(call, outputs, (bytes(16),))]) == []
