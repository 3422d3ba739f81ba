"""Products with two mistakes at once, or one that looks otherwise in rows of one block: each is named."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from q8a8 import layout
from q8a8.abi import Reference
from q8a8.quantize import quantize_row
from q8a8_conformance.diagnosis.products.experiments import facts_of_products
from q8a8_conformance.diagnosis.products.terms import terms_of
from q8a8_conformance.faults.in_process import InProcessSession
from q8a8_conformance.inputs.calls import MUL_MAT

from .product_calls import failed_products

Array = NDArray[Any]

SHAPES = ((3, 6, 1), (5, 7, 1), (4, 9, 3), (7, 5, 2), (2, 3, 5), (8, 11, 4), (6, 2, 7), (1, 5, 3))


def _sides(k: int, w: Array, x: Array, m: int, n: int) -> tuple[tuple[Array, Array], ...]:
    blocks = layout.as_blocks(w).reshape(m, k // 32), quantize_row(x.reshape(n, k)).reshape(n, k // 32)
    of_w, of_x = ((side["weight_qs"], side["weight_scale"].astype(np.float64)) for side in blocks)
    return of_w, of_x


def _facts_of(kernel: type[Reference]) -> tuple[list[str], int, int]:
    """Return the sentences about a kernel, how many calls they explain, and how many have failed."""
    session = InProcessSession(kernel, [MUL_MAT])
    failures = failed_products(session, SHAPES)
    facts = facts_of_products(session, failures)
    explained = sum(any(fact.explains(one) for fact in facts) for one in failures)
    return [fact.sentence for fact in facts], explained, len(failures)


class TwoRemainders(Reference):
    """Leftover rows of w take x's scale of row i - i % 4; sums of leftover rows of x are not cleared."""

    def mul_mat_q8_a8(self, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
        """Multiply in blocks of 3 by 4."""
        of_w, of_x = _sides(k, w, x, m, n)
        i, j = np.arange(n), np.arange(m)
        sums = terms_of(of_w, of_x).sum(axis=2)
        first = np.where(i < n - n % 4, i - i % 4, i)
        other = terms_of(of_w, (of_x[0], of_x[1][first])).sum(axis=2)
        cleared = np.cumsum(np.where((i >= n - n % 4)[:, np.newaxis], sums, 0), axis=0)
        kept = np.where((i >= n - n % 4)[:, np.newaxis], cleared, sums)
        out[: m * n] = np.where(j < m - m % 3, kept, other).astype(np.float32).reshape(-1)


def test_two_mistakes_in_what_is_left_over() -> None:
    """Both are named with their rows and columns, and together they explain every call."""
    sentences, explained, of = _facts_of(TwoRemainders)
    scales = (
        "Outputs in the columns beyond a multiple of 3 and in the rows up to the last multiple of 4 take the "
        "scales of row i - i % 4 of x."
    )
    sums = (
        "Outputs in the columns up to the last multiple of 3 and in the rows beyond a multiple of 4 also "
        "contain the products of rows i - i % 4 to i - 1 of x."
    )
    assert sorted(sentences) == [scales, sums]
    assert explained == of > 4


class TwoBuffers(Reference):
    """Row i begins with what the last block of row i - 1 left in a buffer, where their number is odd."""

    def mul_mat_q8_a8(self, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
        """Multiply block by block, from two buffers."""
        of_w, (codes, scales) = _sides(k, w, x, m, n)
        codes, scales = codes.copy(), scales.copy()
        if k // 32 % 2:
            for i in range(1, n):
                codes[i, 0], scales[i, 0] = codes[i - 1, -1], scales[i - 1, -1]
        out[: m * n] = terms_of(of_w, (codes, scales)).sum(axis=2).astype(np.float32).reshape(-1)


def test_two_buffers_by_the_parity_of_a_block() -> None:
    """In rows of one block all are row 0's; the law is that of longer rows."""
    sentences, explained, of = _facts_of(TwoBuffers)
    assert sentences[0].startswith(
        "The first block where nb is odd takes block i * nb + b - 1 of all blocks of x, not i * nb + b"
    )
    assert explained == of > 4
