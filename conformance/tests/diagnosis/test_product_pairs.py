"""Products with two mistakes at once, or one that looks otherwise in rows of one block: each is named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from q8a8 import layout
from q8a8.abi import Reference
from q8a8.quantize import quantize_row
from q8a8.recipe import RECIPES, apply_recipe
from q8a8_conformance.diagnosis.products.experiments import facts_of_products
from q8a8_conformance.diagnosis.products.terms import terms_of
from q8a8_conformance.faults.in_process import InProcessSession
from q8a8_conformance.inputs import calls
from q8a8_conformance.inputs.calls import MUL_MAT
from q8a8_conformance.results.observations import Failure
from q8a8_conformance.reveal.products.shapes import telling_blocks

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


def _rounded(x: Array, rounding: str) -> tuple[Array, Array]:
    """Return codes and scales of rows [n, k], quantized with another rounding."""
    recipe = replace(RECIPES["design"], name="another", rounding=rounding)
    scales, codes, _ = apply_recipe(np.ascontiguousarray(x.reshape(len(x), -1, 32)), recipe)
    return codes, scales.astype(np.float64)


class RoundedWithoutTail(Reference):
    """Halves go up in all activations, and blocks beyond a multiple of four are not counted."""

    rounding = "floor-add-half"

    def mul_mat_q8_a8(self, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
        """Multiply whole groups of four blocks; a few blocks as they are."""
        nb = k // 32
        of_w, _ = _sides(k, w, x, m, n)
        terms = terms_of(of_w, _rounded(x.reshape(n, k), self.rounding))
        out[: m * n] = terms[..., : nb - nb % 4 if nb > 4 else nb].sum(axis=2).astype(np.float32).reshape(-1)


class Offset(RoundedWithoutTail):
    """The same, of codes that are 128 more before they are cut off."""

    rounding = "offset-add-half"


class SingleRounded(RoundedWithoutTail):
    """Halves go up where there is a single row alone."""

    def mul_mat_q8_a8(self, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
        """Multiply, some rows otherwise."""
        self.rounding = "floor-add-half" if n == 1 else "half-away"
        super().mul_mat_q8_a8(m, n, k, w, x, out)


TIES = ((2, 1, 1), (2, 3, 1), (3, 2, 5), (4, 5, 7), (2, 4, 3), (1, 3, 8))
"""m, n and blocks of products of blocks near ties."""


def _of_ties(kernel: type[Reference]) -> tuple[InProcessSession, list[Failure]]:
    """Return a session with a kernel, and calls that it fails, near ties and exact ones."""
    session = InProcessSession(kernel, [MUL_MAT])
    failures, right = failed_products(session, SHAPES), InProcessSession(Reference, [MUL_MAT])
    for m, n, nb in TIES:
        w = layout.pack(np.ones((m, nb), np.float16), np.full((m, nb, 32), 3, np.int8))
        x = np.resize(telling_blocks()[:60], (n * nb, 32)).reshape(n, -1)
        call = calls.mul_mat(w, np.ascontiguousarray(x))
        got, expected = (tuple(bytes(out) for out in one.call(call).outputs) for one in (session, right))
        if got != expected:
            failures.append(Failure(call, got, expected))
    return session, failures


@pytest.mark.parametrize(
    ("kernel", "codes"),
    [
        (RoundedWithoutTail, "floor(x * inv + 0.5), with the sum in float32"),
        (Offset, "trunc(x * inv + 128.5) - 128, with the sum in float32"),
    ],
)
def test_a_rounding_beside_a_tail(kernel: type[RoundedWithoutTail], codes: str) -> None:
    """What all activations become is named, and what is wrong beside it; together they explain every call."""
    session, failures = _of_ties(kernel)
    facts = facts_of_products(session, failures)
    assert [fact.sentence for fact in facts] == [
        f"Codes of activations are {codes}: halves go up.",
        "The blocks beyond a multiple of 4 where nb >= 5 are not counted.",
    ]
    assert all(fact.evidence and fact.explained(failures) for fact in facts)
    assert all(any(fact.explains(one) for fact in facts) for one in failures)


def test_a_rounding_of_single_rows() -> None:
    """What is so in some rows alone is not said of all."""
    session, failures = _of_ties(SingleRounded)
    facts = facts_of_products(session, failures)
    assert not any(fact.sentence.startswith("Codes of activations are floor") for fact in facts)
