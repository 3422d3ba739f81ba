"""What a matrix product must be: bits of the scalar order, and the bound decided as the reference does."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from q8a8 import dot_bound, exact_dot, quantize_row, vec_dot, within_bound
from q8a8_conformance.inputs import dot_rows, mul_mat_rows
from q8a8_conformance.results.expected_product import ExpectedProduct


@pytest.mark.parametrize("make", [mul_mat_rows.model, mul_mat_rows.cancelling, mul_mat_rows.absorbing])
def test_the_bound_is_the_references(make: object) -> None:
    """Outputs on both sides of each bound are judged as integers judge them; no number is within."""
    w, x = make(3, 2, 9)  # type: ignore[operator]  # a maker of matrices
    xq = quantize_row(x)
    expected_product = ExpectedProduct(w, xq)
    assert expected_product.outputs.tobytes() == vec_dot(xq[:, np.newaxis], w[np.newaxis]).tobytes()
    assert expected_product.holds(expected_product.outputs).all()
    for sign in (-1, 1):
        edge = np.array([[float(exact_dot(b, a) + sign * dot_bound(b, a)) for b in w] for a in xq])
        for steps in range(-3, 4):
            outputs = edge.astype(np.float32)
            for _ in range(abs(steps)):
                outputs = np.nextafter(outputs, np.float32(np.copysign(np.inf, steps)))
            expected = [[within_bound(outputs[i, j], w[j], xq[i]) for j in range(3)] for i in range(2)]
            assert expected_product.holds(outputs).tolist() == expected
    for value in (np.nan, np.inf, -np.inf):
        assert not expected_product.holds(np.full((2, 3), value, np.float32)).any()


def test_what_binary64_cannot_decide() -> None:
    """Outputs closer to the bound than binary64 tells are judged in integers, on either side of it."""
    inside = set()
    for a, b in product(range(1, 128), range(1, 60)):
        codes = np.zeros((2, 1, 32), np.int8)
        codes[:, 0, 0], codes[0, 0, 1], codes[1, 0, 1] = (a, b), b, -a
        w, xq = dot_rows.blocks(1.0, codes)
        bound = dot_bound(w, xq)
        output = np.float32(float(bound))
        if abs(Fraction(float(output)) - bound) < 2 * a * b * Fraction(1, 2**46):
            held = ExpectedProduct(w[np.newaxis], xq[np.newaxis]).holds(np.array([[output]]))
            assert held[0, 0] == (Fraction(float(output)) <= bound)
            inside.add(bool(held[0, 0]))
    assert inside == {False, True}


def test_empty_products() -> None:
    """Products without rows or elements have outputs of their shape, all +0."""
    for m, n, nb in ((0, 3, 1), (3, 0, 1), (2, 3, 0)):
        w, x = mul_mat_rows.exact(m, n, nb)
        empty = ExpectedProduct(w, quantize_row(x))
        assert empty.outputs.shape == (n, m)
        assert not empty.outputs.any()
        assert empty.holds(empty.outputs).all()
