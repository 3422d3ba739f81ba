"""Single outputs of products as dot products: a zero block and its row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from q8a8 import layout
from q8a8.abi import Reference
from q8a8.matmul import mul_mat
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


class Part(Reference):
    """A kernel that makes some outputs by a step of a dot product's mutant.

    Parameters
    ----------
    step
        Returns the dot products [n, m] of rows of blocks w [m, nb] and x [n, nb].
    where
        Returns in which outputs, by m and n: bool [n, m].
    """

    def __init__(self, step: Callable[[Array, Array], Array], where: Callable[[int, int], Array]) -> None:
        super().__init__()
        self._step, self._where = step, where

    def mul_mat_q8_a8(self, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
        """Multiply, some outputs otherwise."""
        super().mul_mat_q8_a8(m, n, k, w, x, out)
        if not k:
            return
        blocks, rows = layout.as_blocks(w[: m * k // 32 * 34]), quantize_row(x[: n * k].reshape(n, k))
        other = self._step(blocks.reshape(m, -1), rows.reshape(n, -1))
        out[: m * n] = np.where(self._where(m, n), other, out[: m * n].reshape(n, m)).reshape(-1)


def _by_products(products: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    """Return the dot products whose products of codes are these."""

    def step(w: Array, x: Array) -> Array:
        out = np.zeros((len(x), len(w)))
        for i, j in np.ndindex(out.shape):
            sums = products(w[j]["weight_qs"], x[i]["weight_qs"]).sum(axis=1)
            out[i, j] = (sums * _scales(w[j]) * _scales(x[i])).sum()
        return out

    return step


def _scales(rows: Array) -> Array:
    return np.asarray(rows["weight_scale"].astype(np.float64))


def _signs_of_x(w: Array, x: Array) -> Array:
    """Return |x| times w with x's sign, in int8."""
    return np.asarray(np.abs(x.astype(int)) * (w * np.sign(x)).astype(np.int8))


def _unsigned_w(w: Array, x: Array) -> Array:
    return np.asarray(w.view(np.uint8).astype(int) * x)


def _scale_product_as_half(w: Array, x: Array) -> Array:
    sums = np.einsum("mbe,nbe->nmb", w["weight_qs"].astype(np.int64), x["weight_qs"].astype(np.int64))
    with np.errstate(over="ignore"):
        scales = (_scales(x)[:, np.newaxis] * _scales(w)).astype(np.float16).astype(np.float64)
    return np.asarray((sums * scales).sum(axis=2))


SIGN = "|x| is multiplied by w with x's sign, and -128 negated in int8 stays -128 (a code of w)."


@pytest.mark.parametrize(
    ("step", "where", "sentence"),
    [
        (
            _by_products(_signs_of_x),
            lambda m, n: np.full((n, m), n == 1),
            f"In all outputs where n = 1: {SIGN}",
        ),
        (
            _by_products(_unsigned_w),
            lambda m, n: np.zeros((n, m)) + np.arange(m) >= m // 4 * 4,
            "In outputs in the columns beyond a multiple of 4: w's codes are read as unsigned.",
        ),
        (
            _scale_product_as_half,
            lambda m, n: np.full((n, m), n < 4),
            "In all outputs where n <= 3: the product of the scales is rounded to a half.",
        ),
    ],
)
def test_how_some_outputs_are_made(
    step: Callable[[Array, Array], Array], where: Callable[[int, int], Array], sentence: str
) -> None:
    """A step that some outputs make otherwise is found as that of a dot product is."""
    session, failures = InProcessSession(lambda: Part(step, where), [MUL_MAT]), []
    for m, n, nb in ((5, 1, 1), (3, 1, 4), (9, 3, 2), (7, 5, 3)):
        rng = np.random.default_rng(m)
        codes = rng.choice([-128, 127, 5, -90], (m, nb, 32)).astype(np.int8)
        x = rng.integers(-127, 128, (n, nb, 32)).astype(np.float32)
        x[..., 0] = 127
        x *= 2.0 ** -rng.integers(8, 11, (n, nb, 1))
        w = layout.pack((1365 * 2.0 ** -rng.integers(18, 21, (m, nb))).astype(np.float16), codes)
        call = product_call(w, x.reshape(n, -1))
        got = tuple(bytes(out) for out in session.call(call).outputs)
        expected = (mul_mat(w, x.reshape(n, -1)).astype("<f4").tobytes(),)
        if got != expected:
            failures.append(Failure(call, got, expected))
    (fact,) = dot_facts_of_products(session, failures)
    assert (fact.sentence, fact.rule) == (sentence, "Q8A8-MUL-5")
    assert fact.explained(failures) == failures


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
