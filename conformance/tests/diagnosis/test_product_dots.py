"""Single outputs of products as dot products: a zero block and its row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from q8a8 import layout
from q8a8.abi import Reference
from q8a8.quantize import quantize_row
from q8a8_conformance.diagnosis.products.dots import dot_facts_of_products
from q8a8_conformance.diagnosis.products.judged import jointly
from q8a8_conformance.diagnosis.products.laws import law_facts
from q8a8_conformance.diagnosis.products.terms import terms_of
from q8a8_conformance.diagnosis.products.zero_rows import zero_row_facts
from q8a8_conformance.faults.in_process import InProcessSession
from q8a8_conformance.inputs import mul_mat_rows
from q8a8_conformance.inputs.calls import MUL_MAT, float_bytes
from q8a8_conformance.inputs.calls import mul_mat as product_call
from q8a8_conformance.results.observations import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8_conformance.diagnosis.facts import Fact

Array = NDArray[Any]

SHAPES = ((1, 3, 2), (3, 5, 4), (5, 7, 12), (2, 4, 19))
"""m, n and blocks of a row of the calls that are made."""


def facts_of(outputs: Callable[[Array, Array], Array]) -> tuple[list[Fact], list[Failure]]:
    """Return the facts about a kernel that makes outputs of terms and scales of x, and its failed calls."""

    class Changed(Reference):
        """A kernel that adds otherwise."""

        def mul_mat_q8_a8(self, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
            """Multiply, and add."""
            blocks, rows = layout.as_blocks(w[: m * k // 32 * 34]), quantize_row(x[: n * k].reshape(n, k))
            sides = [
                (side["weight_qs"], side["weight_scale"].astype(np.float64))
                for side in (blocks.reshape(m, -1), rows.reshape(n, -1))
            ]
            out[: m * n] = outputs(terms_of(*sides), sides[1][1]).reshape(-1)

    session, failures = InProcessSession(Changed, [MUL_MAT]), []
    for number, shape in enumerate(SHAPES):
        w, x = mul_mat_rows.exact(*shape)
        x = x.copy()
        x[number % len(x), : 32 * (1 + number % 2)] = 0
        rows = quantize_row(x).reshape(len(x), -1)
        sides = [(side["weight_qs"], side["weight_scale"].astype(np.float64)) for side in (w, rows)]
        call = product_call(w, x)
        expected = (terms_of(*sides).sum(axis=2).astype("<f4").tobytes(),)
        got = tuple(bytes(out) for out in session.call(call).outputs)
        if got != expected:
            failures.append(Failure(call, got, expected))
    return dot_facts_of_products(session, failures), failures


def _padding(terms: Array, scales: Array) -> Array:
    return np.where((scales[:, 0] == 0)[:, np.newaxis], 0, terms.sum(axis=2))


def _in_odd_rows(terms: Array, scales: Array) -> Array:
    odd = np.arange(len(scales)) % 2 == 1
    return np.where(odd[:, np.newaxis], _padding(terms, scales), terms.sum(axis=2))


ZERO = "here x's scale of block b is zero or x's codes of block b are all zero, in the first block, "
OUT = "it and every block after it are left out."


@pytest.mark.parametrize(
    ("outputs", "sentence"),
    [
        (_padding, f"W{ZERO}{OUT}"),
        (_in_odd_rows, f"In outputs in every odd row: w{ZERO}{OUT}"),
    ],
)
def test_what_one_output_adds_up(outputs: Callable[[Array, Array], Array], sentence: str) -> None:
    """One fact is found of one output, with the outputs that it holds for."""
    (fact,), failures = facts_of(outputs)
    assert (fact.sentence, fact.rule) == (sentence, "Q8A8-MUL-5")
    assert fact.explained(failures) == failures
    assert fact.evidence[0].actual != fact.evidence[0].expected


class _Skips(Reference):
    """Does not write the outputs of zero rows of x."""

    def mul_mat_q8_a8(self, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
        """Multiply, and put back what was there."""
        before = out.copy()
        super().mul_mat_q8_a8(m, n, k, w, x, out)
        zero = ~x[: n * k].reshape(n, k).any(axis=1)
        rows = out[: m * n].reshape(n, m)
        rows[zero] = before[: m * n].reshape(n, m)[zero]


class _SkipsAndLosesColumns(_Skips):
    """Does not write these either, and doubles the last column."""

    def mul_mat_q8_a8(self, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
        """Multiply, and double."""
        super().mul_mat_q8_a8(m, n, k, w, x, out)
        out[: m * n].reshape(n, m)[x[: n * k].reshape(n, k).any(axis=1), -1] *= 2


def test_two_mistakes_in_one_call() -> None:
    """What is wrong in one call for two reasons is explained by both."""
    session, failures = InProcessSession(_SkipsAndLosesColumns, [MUL_MAT]), []
    for zero in (0, 1):
        w, x = mul_mat_rows.exact(3, 4, 2)
        x = x * (np.arange(4) >= zero)[:, np.newaxis].astype(np.float32)
        call = product_call(w, x, out=float_bytes(5.0) * 12)
        right = tuple(bytes(out) for out in InProcessSession(Reference, [MUL_MAT]).call(call).outputs)
        failures.append(Failure(call, tuple(bytes(out) for out in session.call(call).outputs), right))
    facts = [*law_facts(session, failures), *zero_row_facts(session, failures)]
    assert not any(fact.explains(failures[1]) for fact in facts)
    assert all(fact.explains(failures[1]) for fact in jointly(facts, failures))


def test_zero_rows_that_are_not_written() -> None:
    """Outputs that are not written where a row of x is zero are said as such."""
    session = InProcessSession(_Skips, [MUL_MAT])
    w, x = mul_mat_rows.exact(3, 4, 2)
    x = x.copy()
    x[1] = 0
    call = product_call(w, x, out=float_bytes(5.0) * 12)
    right = tuple(bytes(out) for out in InProcessSession(Reference, [MUL_MAT]).call(call).outputs)
    failure = Failure(call, tuple(bytes(out) for out in session.call(call).outputs), right)
    (fact,) = zero_row_facts(session, [failure])
    assert fact.sentence == "Outputs of rows of x that are all zero are not written."
    assert fact.explained([failure]) == [failure]
