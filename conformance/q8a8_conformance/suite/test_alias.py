"""Dot products of rows of one matrix: both inputs in one block of memory, where they overlap or are the same.

Inputs are only read, so nothing depends on whether they are copies. Some kernels compute a square where both
pointers are equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8_conformance.inputs import calls as requests
from q8a8_conformance.inputs import dot_rows
from q8a8_conformance.inputs.known_calls import Known, exact_sum, known_products, square_rows
from q8a8_conformance.protocol.messages import Option
from q8a8_conformance.suite.known_checks import judge_known
from q8a8_conformance.suite.two_rows import require_two_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.suite.judge import Judge

COUNTS = (0, 1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 32, 33, 34, 65, 129, 257)
PAIRED = (1, 2, 3, 4, 8, 9, 17, 33, 34, 65, 130)

BETWEEN = 1
"""A block between rows, for strides that are no multiple of a row."""
# Where x0, x1, y0 and y1 lie, in rows and blocks.
PAIRS = (
    ((0, 0), (1, 0), (0, 0), (1, 0)),
    ((0, 0), (1, 0), (0, 0), (2, 0)),
    ((0, 0), (2, 0), (0, 0), (1, 0)),
    ((0, 0), (1, 0), (1, 0), (2, 0)),
    ((1, 0), (2, 0), (0, 0), (1, 0)),
    ((0, 0), (1, 0), (2, 0), (3, 0)),
    ((0, 0), (2, 0), (1, 0), (3, 0)),
    ((0, 0), (1, 0), (0, 0), (1, 1)),
    ((0, 0), (1, 1), (0, 1), (1, 2)),
)


def places_of(nb: int) -> list[tuple[int, int]]:
    """Return where x and y begin, in blocks: the same (twice), overlapping, and one after the other."""
    steps = dict.fromkeys(step for step in (1, 2, nb // 2, nb - 1, nb) if 0 < step <= nb)
    return [(0, 0), (0, 0), *((0, step) for step in steps), *((step, 0) for step in steps)]


def judge_shared(judge: Judge, number: int, known: Known, together: Call) -> bool:
    """Judge a call on shared rows, every other one read-only and before an inaccessible page."""
    if number % 2:
        for capability, option in (("guard", Option.GUARD_AFTER), ("readonly", Option.READONLY)):
            if capability in judge.target.hello.capabilities:
                together = requests.with_options(together, together.options | option)
    return judge_known(judge, known, together)


def single_rows(function: str, nb: int) -> Iterator[tuple[Known, Call]]:
    """Yield calls of one row by one, and the same with shared inputs; the same place gets other bytes."""
    for number, (x_at, y_at) in enumerate(places_of(nb)):
        rows = square_rows(1, 2 * nb + 1, number % 3)[0].copy()
        if number == 1:
            rows["weight_scale"] *= np.float16(2.0**-24)
        x, y = rows[x_at : x_at + nb], rows[y_at : y_at + nb]
        matrix, wide = rows, 34
        if function == requests.DOT_REAL:
            matrix, wide = dot_rows.in_both_roles(rows), 36
            y = dot_rows.with_scales(y, matrix["activation_scale"][y_at : y_at + nb])
        expected = {"s": requests.float_bytes(exact_sum(x, y))}
        apart, together = requests.shared_rows(function, matrix.tobytes(), 32 * nb, wide * x_at, wide * y_at)
        yield Known(apart, expected), together


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(requests.DOT, id="alias/single", marks=pytest.mark.rule("Q8A8-DOT-4")),
        pytest.param(requests.DOT_REAL, id="alias/v2", marks=pytest.mark.rule("Q8A8-DOT-9")),
    ],
)
def test_single(judge: Judge, function: str) -> None:
    """Multiply a row by itself, by one that overlaps it, and by its neighbour."""
    judge.require(function, "shared")
    for number, nb in enumerate(COUNTS):
        for known, together in single_rows(function, nb):
            if not judge_shared(judge, number, known, together):
                return


@pytest.mark.rule("Q8A8-DOT-6")
def test_pairs(judge: Judge) -> None:
    """Multiply two rows of a matrix by two rows of it, some of them the same, others that begin alike."""
    require_two_rows(judge)
    judge.require(requests.DOT, "shared")
    for nb in PAIRED:
        matrix = square_rows(4, nb + BETWEEN, nb).reshape(-1)
        for number, places in enumerate(PAIRS):
            starts = [row * nb + extra for row, extra in places]
            x0, x1, y0, y1 = (matrix[start : start + nb] for start in starts)
            bytes_at = [34 * start for start in starts]
            apart, together = requests.shared_rows(
                requests.DOT, matrix.tobytes(), 32 * nb, bytes_at[0], bytes_at[2],
                bs=2 + number % 4, bx=bytes_at[1] - bytes_at[0], by=bytes_at[3] - bytes_at[2],
            )  # fmt: skip
            known = known_products(apart, np.stack([x0, x1]), np.stack([y0, y1]))
            if not judge_shared(judge, number, known, together):
                return
