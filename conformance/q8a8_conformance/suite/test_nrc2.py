"""Two rows at a time: ``nrc = 2``.

Only kernels that take two rows owe these results: the traits say two with MATMUL_INT8, one otherwise. A
kernel that refuses, or gives what it gives for nrc = 1, computes one row at a time; its cases here are not
run.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8_conformance.inputs import calls, dot_rows
from q8a8_conformance.inputs.known_calls import known_pair, known_products, square_rows, subnormal_rows
from q8a8_conformance.inputs.versions import versions
from q8a8_conformance.results.expected_dot import expected_dot
from q8a8_conformance.suite import thread_checks
from q8a8_conformance.suite.dot_checks import judge_dot, judge_pair
from q8a8_conformance.suite.matrix_checks import judge_again
from q8a8_conformance.suite.two_rows import require_two_rows

if TYPE_CHECKING:
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.suite.judge import Judge

PERIOD, SLOW_PERIOD = 65_536, 200
"""Calls after which a count of sixteen bits repeats; calls in a row of a slow kernel."""
COUNTS = (1, 2, 3, 4, 5, 7, 8, 15, 16, 33, 255, 256, 257)
SHAPES = (
    {"bs": 2, "x_gap": 0, "y_gap": 0},
    {"bs": 3, "x_gap": 34, "y_gap": 0},
    {"bs": 7, "x_gap": 2, "y_gap": 68},
    {"bs": 64, "x_gap": 98, "y_gap": 2},
)
FAR = (
    (127, 16_382, 34),
    (128, 0, 32_768),
    (129, 32_766, 66),
    (255, 2, 65_536),
    (256, 65_534, 0),
    (257, 65_570, 65_502),
    (32_769, 34, 131_072),
    (65_535, 131_074, 2),
    (65_537, 262_142, 262_178),
    (131_074, 2**21 + 2, 2**20 - 34),
)
"""``bs`` and gaps on either side of what 8, 15, 16 and 17 bits count; gaps of whole blocks, and others."""


def stack(pairs: list[dot_rows.Pair]) -> tuple[Array, Array]:
    """Return two rows of x and two of y, blocks [2, nb], out of two pairs of rows."""
    return np.stack([x for x, _ in pairs]), np.stack([y for _, y in pairs])


@pytest.mark.rule("Q8A8-DOT-6")
@pytest.mark.parametrize("nb", [pytest.param(nb, id=f"nrc2/exact/blocks-{nb}") for nb in COUNTS])
def test_exact(judge: Judge, nb: int) -> None:
    """Compute four dot products at once, exact by construction, with every kind of stride."""
    require_two_rows(judge)
    # Rows of one seed share their scales' range, so each of the four pairs is exact.
    x, y = dot_rows.exact_pair(2 * nb, seed=nb)
    for shape in SHAPES:
        judge_pair(judge, x.reshape(2, nb), y.reshape(2, nb), exact=True, **shape)


@pytest.mark.rule("Q8A8-DOT-6", "Q8A8-DOT-5")
def test_empty(judge: Judge) -> None:
    """Compute four dot products of no blocks: four times +0, nothing else is written."""
    require_two_rows(judge)
    empty = np.stack([dot_rows.filled(0, 1)] * 2)
    judge_pair(judge, empty, empty, exact=True, bs=5)


@pytest.mark.rule("Q8A8-DOT-1")
def test_edges(judge: Judge) -> None:
    """Compute four dot products of rows full of -128 and 127."""
    require_two_rows(judge)
    for nb in (1, 2, *dot_rows.LONG_EDGES):
        # (Of -128 and 127 all products but that of 127 and 127 keep long rows exact.)
        every = (-128,) if nb in dot_rows.LONG_EDGES[1:] else dot_rows.EDGES
        for number, a in enumerate(every):
            x, y = stack(
                [
                    (dot_rows.filled(nb, a), dot_rows.filled(nb, -128)),
                    (dot_rows.filled(nb, 127), dot_rows.filled(nb, a)),
                ]
            )
            judge_pair(judge, x, y, exact=True, **SHAPES[(nb + number) % len(SHAPES)])


@pytest.mark.rule("Q8A8-DOT-6", "Q8A8-HLF-3", "Q8A8-DOT-8")
def test_subnormal(judge: Judge) -> None:
    """Compute four dot products of rows with subnormal scales, with every kind of stride."""
    require_two_rows(judge)
    for nb, seed in product((*range(1, 10), 16, 17, 33), range(3)):
        x, y = subnormal_rows(nb, 2, seed)
        judge_pair(judge, x, y, exact=True, **SHAPES[(nb + seed) % len(SHAPES)])


@pytest.mark.rule("Q8A8-ORD-2", "Q8A8-DOT-3", "Q8A8-DOT-6")
@pytest.mark.parametrize("nb", [pytest.param(nb, id=f"nrc2/bound/blocks-{nb}") for nb in COUNTS])
def test_bound(judge: Judge, nb: int) -> None:
    """Compute four dot products at once of rows as a model has them."""
    require_two_rows(judge)
    for seed in range(3):
        pairs = [dot_rows.random_pair(nb, seed=100 + seed), dot_rows.random_pair(nb, seed=200 + seed)]
        judge_pair(judge, *stack(pairs), exact=False, bs=2 + seed)


@pytest.mark.rule("Q8A8-DOT-11")
@pytest.mark.parametrize("nb", [pytest.param(nb, id=f"nrc2/as-single/blocks-{nb}") for nb in (*COUNTS, 4101)])
def test_as_single(judge: Judge, nb: int) -> None:
    """Compute four dot products at once and one by one: the same bits, if those one by one are legal."""
    require_two_rows(judge)
    for seed in range(2):
        x, y = stack([dot_rows.random_pair(nb, seed=300 + seed), dot_rows.random_pair(nb, seed=400 + seed)])
        call = calls.dot_pair(x, y)
        products = [expected_dot(x[i], y[j], 4 * (2 * j + i)) for j in (0, 1) for i in (0, 1)]
        together = judge.run(call)["s"]
        single = b"".join(judge.run(calls.dot(x[i], y[j]))["s"] for j in (0, 1) for i in (0, 1))
        # What is expected must itself be right; other cases judge it where it is not.
        if all(item.holds(single[item.offset : item.offset + 4]) for item in products):
            judge.compare(call, {"s": together}, {"s": single}, message="other bits than with nrc = 1")


@pytest.mark.rule("Q8A8-DOT-6")
@pytest.mark.parametrize(
    ("bs", "x_gap", "y_gap"),
    [pytest.param(*shape, id=f"nrc2/strides/{'-'.join(map(str, shape))}") for shape in FAR],
)
def test_far(judge: Judge, bs: int, x_gap: int, y_gap: int) -> None:
    """Compute four dot products of rows and to results that are far apart."""
    require_two_rows(judge)
    for nb in (1, 5, 8):
        x, y = dot_rows.exact_pair(2 * nb, seed=nb)
        judge_pair(judge, x.reshape(2, nb), y.reshape(2, nb), exact=True, bs=bs, x_gap=x_gap, y_gap=y_gap)


@pytest.mark.rule("Q8A8-DOT-6")
@pytest.mark.parametrize("nb", [pytest.param(nb, id=f"nrc2/related/blocks-{nb}") for nb in (1, 2, 5, 8, 33)])
def test_related(judge: Judge, nb: int) -> None:
    """Compute four dot products with arguments that are equal, or multiples of each other."""
    require_two_rows(judge)
    row = 34 * nb
    equal = [(2 + number, gap, gap) for number, gap in enumerate((2, 34, 66, row))]
    doubled = [(2, 6, row + 12), (3, row + 68, 34)]
    of_results = [(bs, 34, 68) for bs in (nb, 32 * nb, row + 34, row + 68) if bs > 1] + [(row + 2, 2, 2)]
    x, y = dot_rows.exact_pair(2 * nb, seed=nb)
    for bs, x_gap, y_gap in (*equal, *doubled, *of_results):
        judge_pair(judge, x.reshape(2, nb), y.reshape(2, nb), exact=True, bs=bs, x_gap=x_gap, y_gap=y_gap)


@pytest.mark.rule("Q8A8-DOT-6")
@pytest.mark.parametrize("nb", [pytest.param(nb, id=f"nrc2/zero-scales/blocks-{nb}") for nb in (2, 7, 33)])
def test_zero_scales(judge: Judge, nb: int) -> None:
    """Compute four dot products of rows in which other blocks have a scale of zero in each."""
    require_two_rows(judge)
    x, y = (side.reshape(2, nb).copy() for side in dot_rows.exact_pair(2 * nb, seed=nb))
    for number, row in enumerate((x[0], x[1], y[0], y[1])):
        row["weight_scale"][number % nb :: 4] = 0.0 if number % 2 else -0.0
    judge_pair(judge, x, y, exact=True, bs=3)


@pytest.mark.rule("Q8A8-DOT-6", "Q8A8-ENV-2")
@pytest.mark.parametrize("nb", [pytest.param(nb, id=f"nrc2/by-turns/blocks-{nb}") for nb in (2, 9, 40)])
def test_by_turns(judge: Judge, nb: int) -> None:
    """Compute one and four dot products by turns, in buffers of the same length: nothing is kept."""
    require_two_rows(judge)
    for seed in range(4):
        x, y = dot_rows.exact_pair(2 * nb, seed=10 + seed)
        judge_dot(judge, x, y, exact=True)
        judge_pair(judge, x.reshape(2, nb), y.reshape(2, nb), exact=True)
        # The same x, other scales and codes of y.
        other = dot_rows.exact_pair(2 * nb, seed=20 + seed)[1]
        judge_pair(judge, x.reshape(2, nb), other.reshape(2, nb), exact=True)
        judge_dot(judge, x[:nb], other[:nb], exact=True)


@pytest.mark.rule("Q8A8-ENV-2")
def test_changed(judge: Judge) -> None:
    """Change rows in place, by a byte or an exchange: nothing is remembered by address, nor by a sample."""
    require_two_rows(judge)
    for nb in (9, 70):
        rows = [square_rows(2, nb, seed) for seed in (1, 2)]
        for side in (0, 1):
            for data in versions(rows[side].tobytes(), 34, 4 * 34, str(side)):
                rows[side] = np.frombuffer(data, rows[side].dtype).reshape(2, nb)
                each = known_products(calls.dot_pair(*rows), *rows)
                if not judge_again(judge, each, each.call, "depends on the calls before"):
                    return


@pytest.mark.rule("Q8A8-ENV-2")
def test_soak(judge: Judge) -> None:
    """Compute four products so often that a count of sixteen bits ends: the same bytes before and after."""
    require_two_rows(judge)
    judge.require(calls.DOT, "repeat")
    short, long = known_pair(1), known_pair(33)
    period = SLOW_PERIOD if thread_checks.is_slow(judge, short.call) else PERIOD
    judge.run(calls.with_zeros(long.call))
    for each in (replace(short.call, repeat=period - 1), long.call):
        known = long if each is long.call else short
        if not judge_again(judge, known, each, f"differs after {period} calls"):
            return
