"""Mistakes with two rows at a time: those of one row, too, and those of some of the four results alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8 import layout
from q8a8_conformance.faults.kernel import DOT, Kernel
from q8a8_conformance.inputs import calls, dot_rows

from .dot_calls import facts_about, failed, probe_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8_conformance.inputs.calls import Array

    # Of a result (of both numbers of rows at a time), and blocks of x0, x1, y0, y1: what is added up.
    Result = Callable[[int, int, list[Array]], float]


def term(x: Array, y: Array) -> Array:
    """Return the terms of blocks [nb]."""
    return np.asarray((x["weight_qs"].astype(int) * y["weight_qs"]).sum(axis=-1) * (scale(x) * scale(y)))


def scale(blocks: Array) -> Array:
    """Return scales as float64 [nb]."""
    return np.asarray(blocks["weight_scale"], np.float64)


class FourResults(Kernel):
    """Computes each result by a function."""

    def __init__(self, result: Result) -> None:
        super().__init__()
        self._result = result

    def ggml_vec_dot_q8_a8_q8_a8(
        self, n: int, s: Array, bs: int, vx: Array, bx: int, vy: Array, by: int, nrc: int
    ) -> None:
        """Take the rows apart, and store the results."""
        size = n // 32 * 34
        rows = [layout.as_blocks(v[step:][:size].tobytes(), layout.BLOCK_Q8_A8)
                for v, b in ((vx, bx), (vy, by)) for step in (0, b if nrc == 2 else 0)]  # fmt: skip
        for number, place in enumerate((0, 1, bs, bs + 1)[: nrc * nrc]):
            s[place] = self._result(nrc, number, rows)


def own(number: int, rows: list[Array]) -> tuple[Array, Array]:
    """Return the rows of a result."""
    return rows[number % 2], rows[2 + number // 2]


def stale_codes(_nrc: int, number: int, rows: list[Array]) -> float:
    """Take x's codes of the blocks left over after groups of 8 from the group before."""
    x, y = own(number, rows)
    x, nb = x.copy(), len(x)
    if nb > 8 and nb % 8:
        x["weight_qs"][nb // 8 * 8 :] = x["weight_qs"][nb // 8 * 8 - 8 : nb - 8]
    return float(term(x, y).sum())


def kept_scale(_nrc: int, number: int, rows: list[Array]) -> float:
    """Keep y's scale while x's is the same."""
    x, y = own(number, rows)
    y = y.copy()
    for b in range(1, len(x)):
        if x["weight_scale"][b] == x["weight_scale"][b - 1]:
            y["weight_scale"][b] = y["weight_scale"][b - 1]
    return float(term(x, y).sum())


def last_chunk_alone(nrc: int, number: int, rows: list[Array]) -> float:
    """Store the last chunk of 16 blocks where the sum of all belongs."""
    terms = term(*own(number, rows))
    return float(terms[(len(terms) - 1) // 16 * 16 :].sum() if nrc == 2 and number == 3 else terms.sum())


OWN = "under the scales of their own blocks"

KERNELS = {
    "stale-codes": (
        stale_codes,
        f"Where nb >= 9, the blocks beyond a multiple of 8 of y meet block b - 8 of x, {OWN}.",
    ),
    "kept-scale": (
        kept_scale,
        "The scale of y is kept from the block before where x's is the same as there.",
    ),
    "last-chunk-alone": (
        last_chunk_alone,
        "Every block before the last group of 16 or fewer of x1·y1 is not counted.",
    ),
}
"""What a kernel computes, and the one fact about it."""


@pytest.mark.parametrize("name", KERNELS)
def test_one_fact(name: str) -> None:
    """One fact explains every failed call, of one row and of two rows at a time."""
    result, sentence = KERNELS[name]
    kernel = FourResults(result)
    facts, failures = facts_about(DOT, kernel)
    x, y = dot_rows.random_pair(4, seed=4)
    x["weight_scale"] = 1
    failures += failed(
        iter([calls.dot_pair(np.stack([x, x]), np.stack([y, y[::-1]]), bs=2)]), probe_of(kernel)
    )
    assert [fact.sentence for fact in facts] == [sentence]
    assert facts[0].explained(failures) == failures
