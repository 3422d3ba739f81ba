"""Matrices that are exact by construction are so in every order and under every recipe."""

from __future__ import annotations

import numpy as np
import pytest

from q8a8 import RECIPES, mul_mat, quantize_row
from q8a8_conformance.inputs import dot_rows, mul_mat_rows


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 3, 2), (3, 4, 33), (2, 2, 2048)])
def test_exact(shape: tuple[int, int, int]) -> None:
    """No order rounds any output, also where w and x are of different seeds; all recipes quantize alike."""
    for seeds in ((0, 0), (0, 1), (2, 0)):
        w, x = mul_mat_rows.exact(*shape, seeds[0])[0], mul_mat_rows.exact(*shape, seeds[1])[1]
        quantized = {name: quantize_row(x, name).tobytes() for name in RECIPES}
        assert len(set(quantized.values())) == 1
        xq = quantize_row(x)
        assert all(dot_rows.is_exact(a, b) for a in w for b in xq)


def test_products_differ() -> None:
    """No two outputs of a larger product are the same: one in the place of another shows."""
    w, x = mul_mat_rows.exact(17, 9, 3)
    products = mul_mat(w, x)
    assert np.unique(products).size == products.size
