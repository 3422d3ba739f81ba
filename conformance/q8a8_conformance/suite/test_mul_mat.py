"""The matrix product: activations quantized by rows and blocks, outputs in place, whatever the shape."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8 import quantize_row
from q8a8_conformance.inputs import calls, mul_mat_rows
from q8a8_conformance.inputs.known_calls import Known, known_product
from q8a8_conformance.inputs.long_rows import WIDTHS
from q8a8_conformance.suite import absorbing_rows, thread_checks
from q8a8_conformance.suite.accepted_recipes import DESIGN
from q8a8_conformance.suite.matrix_checks import judge_product
from q8a8_conformance.suite.outside_calls import OutsideCalls

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.suite.judge import Judge

VALUES = tuple(f"Q8A8-MUL-{number}" for number in (4, 5, 6, 7))
"""What every product of some size shows, into outputs that hold poison."""

ROWS = "Q8A8-MUL-8"

SIDES = (1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65, 127, 129)
"""Numbers of rows around every power of two that tiles may have."""

SHAPES: dict[str, tuple[tuple[int, int, int], ...]] = {
    # m, n, nb; the other side goes through the sides in another order.
    "one-row": tuple((m, 1, 1 + m % 5) for m in SIDES),
    "one-column": tuple((1, n, 1 + n % 4) for n in SIDES),
    "rows": tuple((SIDES[5 * i % 13], n, 1 + i % 3) for i, n in enumerate(SIDES)),
    "columns": tuple((m, SIDES[7 * i % 13], 2 - i % 2) for i, m in enumerate(SIDES)),
    "blocks": tuple(
        (3 + i % 3, 2 + i % 4, nb)
        for i, nb in enumerate((*range(1, 18), 31, 32, 33, 63, 64, 65, 127, 128, 129, 257))
    ),
    # Whole tiles of up to 32 by 16 and what they leave over, with each tail of their loops over blocks.
    "tiles": tuple((32 + nb % 7, 16 + 3 * nb % 5, nb) for nb in (*range(4, 37), 47, 48, 49, 63, 64, 65, 97)),
    "row-tiles": tuple((8 + nb % 5, 1, nb) for nb in (*range(6, 37), 47, 48, 49, 63, 65, 96, 97)),
    "few-rows": tuple((16 + nb % 5, 2 + nb % 3, nb) for nb in (*range(5, 29), 31, 32, 33, 65)),
    # Two of m, n, k and the number of blocks are equal, or all three of m, n and k.
    "equal": (
        *((5, 5, 5), (32, 32, 1), (64, 64, 2), (7, 7, 2), (96, 2, 3), (2, 96, 3), (160, 9, 5), (9, 160, 5)),
        *((33, 33, 4), (128, 128, 4), (4, 9, 4), (9, 4, 4)),
    ),
    # Kernels share large products among threads, or pack w for them.
    "large": ((131, 129, 37), (259, 66, 17), (1027, 1, 65)),
    "long": (
        *((1, 1, 2048), (4, 3, 2048), (3, 4, 2047), (5, 2, 513), (2, 5, 1025), (2, 1, 8195), (1, 2, 3077)),
        *((5, 4, 3841), (4, 5, 3363)),
    ),
}
"""Shapes of products by what varies: m, n and blocks of a row. (3840 and 3360 are multiples of most tiles
that are no power of two.)"""

EVERY = 199
"""Up to this number of rows on either side each one comes."""

JOINT = (
    *((73, 17, 9), (145, 49, 17), (721, 241, 25), (241, 721, 9), (5041, 17, 9), (17, 5041, 9)),
    *((719, 239, 23), (6950, 40, 3), (448, 1216, 2)),
)
"""m, n and blocks of a row, one more or less than a multiple of most tiles: 720 and 5040 are of all to 10.

The last two have 109 and 133 tiles of 64 by 64, one more than usual graphics processors compute at a time.
"""

LARGE = ((515, 259, 17), (259, 515, 33), (4099, 1, 129), (1027, 7, 129), (33, 39, 16), (1, 4099, 129))
"""m, n and blocks of a row of products for which kernels take threads, other tiles or other instructions: of
2^18 to 2^27 multiplications."""

FAST_SECONDS, TRIAL = 1e-3, (65, 33, 4)
"""What a product of this shape takes at most with a kernel that is given large ones."""

MANY = ((1, 65_537, 1), (65_537, 1, 1), (300, 260, 2))
"""m, n and blocks of a row of products with many outputs."""

SATURATING = ((1, 1, 1), (3, 2, 2), (8, 5, 3), (17, 4, 7), (2, 9, 16), (1, 1, 16))

EMPTY = ((0, 0, 0), (3, 0, 0), (0, 3, 0), (3, 0, 2), (0, 3, 2), (1, 1, 0), (5, 3, 0), (17, 9, 0))
"""Shapes without elements; where m and n are positive and k is 0, every output is +0."""

HELD = (0.0, 1.5, -1e30, float("inf"), float("nan"))
MORE_HELD = (1.0, -2.0, 3e5, 1e-40, 1e-20, 7.0, 1e20, -float("inf"))

ALIKE = 64, 32
"""m and n of a product whose rows are all alike, so that it does not matter which output stands where: whole
tiles for most kernels."""
FEW_ALIKE, LONG = (8, 8), 100
"""The same for rows of so many blocks or more."""

NON_FINITE = (float("nan"), float("inf"), -float("inf"), 3e38)


@pytest.mark.rule(*VALUES)
@pytest.mark.parametrize(
    "shapes", [pytest.param(SHAPES[name], id=f"mul-mat/exact/{name}") for name in SHAPES]
)
def test_exact(judge: Judge, shapes: tuple[tuple[int, int, int], ...]) -> None:
    """Multiply matrices that no order and no recipe rounds, of many shapes."""
    judge.require(calls.MUL_MAT)
    for m, n, nb in shapes:
        judge_product(judge, *mul_mat_rows.exact(m, n, nb), exact=True)


@pytest.mark.rule(*VALUES)
def test_every_side(judge: Judge) -> None:
    """Multiply matrices with each number of rows, by as many less."""
    judge.require(calls.MUL_MAT)
    w, x = mul_mat_rows.exact(EVERY, EVERY, 1)
    right = np.frombuffer(known_product(w, x).expected["out"], "<f4").reshape(EVERY, EVERY)
    parts = (calls.mul_mat(w[:m], x[: EVERY + 1 - m]) for m in range(1, EVERY + 1))
    for call in judge.ahead(parts, lambda call: call):
        expected = {"out": right[: call.bx, : call.bs].tobytes()}
        if not judge.compare(call, judge.run(call), expected, message="the product differs"):
            return


@pytest.mark.rule(*VALUES)
def test_widths(judge: Judge) -> None:
    """Multiply two rows as wide as models have them: parts of long ones, whose sums no order rounds."""
    judge.require(calls.MUL_MAT)
    w, x = mul_mat_rows.exact(1, 1, max(WIDTHS))
    both = [(one["weight_scale"].astype(float), one["weight_qs"].astype(int)) for one in (w, quantize_row(x))]
    (dw, wq), (dx, xq) = both
    sums = np.cumsum(dw * dx * (wq * xq).sum(axis=-1)).astype("<f4")
    parts = (calls.mul_mat(w[:, :nb], x[:, : 32 * nb]) for nb in WIDTHS)
    for call in judge.ahead(parts, lambda call: call):
        expected = {"out": sums[call.n // 32 - 1].tobytes()}
        if not judge.compare(call, judge.run(call), expected, message="the product differs"):
            return


@pytest.mark.rule(*VALUES)
def test_joint(judge: Judge) -> None:
    """Multiply matrices of which every side leaves a tail of one behind the tiles, of a fast kernel."""
    judge.require(calls.MUL_MAT)
    for m, n, nb in JOINT[:2] if _is_slow(judge) else JOINT:
        if not judge_product(judge, *mul_mat_rows.exact(m, n, nb), exact=True):
            return


@pytest.mark.rule(*VALUES)
def test_picked(judge: Judge) -> None:
    """Multiply many rows at the edges of quantization by single ones, of a fast kernel in large products."""
    judge.require(calls.MUL_MAT)
    for m, n, nb in ((33, 39, 16),) if _is_slow(judge) else LARGE:
        if not judge_product(judge, *mul_mat_rows.picked(m, n, nb), exact=True):
            return


def _is_slow(judge: Judge) -> bool:
    """Return whether large products of a kernel would take long."""
    trial = calls.mul_mat(*mul_mat_rows.exact(*TRIAL))
    return thread_checks.is_slow(judge, trial, FAST_SECONDS, 3)


@pytest.mark.rule("Q8A8-MUL-5", "Q8A8-MUL-6")
def test_saturating(judge: Judge) -> None:
    """Multiply matrices of the largest codes: sums of three products pass what 16 bits hold."""
    judge.require(calls.MUL_MAT)
    for m, n, nb in SATURATING:
        judge_product(judge, *mul_mat_rows.saturating(m, n, nb), exact=True, out=bytes(4 * m * n))


@pytest.mark.rule("Q8A8-MUL-5")
def test_full_mantissas(judge: Judge) -> None:
    """Multiply matrices whose outputs are products of two scales of eleven bits each: none of 22 is lost."""
    judge.require(calls.MUL_MAT)
    for m, n in ((62, 33), (9, 1), (1, 12)):
        judge_product(judge, *mul_mat_rows.full_mantissas(m, n), exact=True)


@pytest.mark.rule("Q8A8-MUL-6")
@pytest.mark.parametrize("shapes", [pytest.param(MANY, id="mul-mat/exact/many")])
def test_many(judge: Judge, shapes: tuple[tuple[int, int, int], ...]) -> None:
    """Multiply matrices with more rows than sixteen bits count."""
    judge.require(calls.MUL_MAT)
    for m, n, nb in shapes:
        judge_product(judge, *mul_mat_rows.exact(m, n, nb), exact=True, out=bytes(4 * m * n))


@pytest.mark.rule("Q8A8-MUL-4", "Q8A8-MUL-5", "Q8A8-MUL-6")
@pytest.mark.parametrize("nb", [pytest.param(nb, id=f"mul-mat/activations/blocks-{nb}") for nb in (1, 2, 5)])
def test_activations(judge: Judge, nb: int) -> None:
    """Multiply rows at the edges of quantization by single ones: the outputs are their quantized elements."""
    judge.require(calls.MUL_MAT)
    x = mul_mat_rows.edges()
    rows = x[: len(x) // nb * nb].reshape(-1, 32 * nb)
    for some in (rows[:: max(1, nb - 1)], rows[:1]):
        out = bytes(4 * 32 * nb * len(some))
        judge_product(judge, mul_mat_rows.one_hot(nb), some, exact=True, out=out)


@pytest.mark.rule("Q8A8-MUL-4")
@pytest.mark.parametrize(
    ("nb", "part"),
    [pytest.param(nb, part, id=f"mul-mat/alike/ties-{nb}-{part}") for nb in (1, 4) for part in range(2)],
)
def test_activations_alike(judge: Judge, nb: int, part: int) -> None:
    """Multiply a row of ties between codes, many times, by a single one: always the same element."""
    judge.require(calls.MUL_MAT)
    for number, row in enumerate(mul_mat_rows.short_ties().reshape(-1, 32 * nb)[part::2]):
        _judge_alike(judge, mul_mat_rows.one_hot(nb)[5 * number % 32], row, exact=True)


@pytest.mark.rule("Q8A8-MUL-5")
@pytest.mark.parametrize(
    ("nb", "exact"),
    [
        pytest.param(nb, exact, id=f"mul-mat/alike/{'exact' if exact else 'bound'}-{nb}")
        for exact in (True, False)
        for nb in (1, 2, 3, 5, 8, 15, 16, 17, 33, 129, 2048)
    ],
)
def test_sums_alike(judge: Judge, nb: int, exact: bool) -> None:
    """Multiply two rows, many times, that every recipe quantizes alike: always the same sum."""
    judge.require(calls.MUL_MAT)
    _judge_alike(judge, *mul_mat_rows.one_scale(nb, exact_sums=exact), exact=exact)


@pytest.mark.rule("Q8A8-MUL-7")
@pytest.mark.parametrize(
    "held", [pytest.param(held, id=f"mul-mat/alike/held-{held}") for held in (*HELD[1:], *MORE_HELD)]
)
def test_overwritten_alike(judge: Judge, held: float) -> None:
    """Multiply two rows, many times, into outputs that held something."""
    judge.require(calls.MUL_MAT)
    x = np.arange(-28, 128, 5, dtype=np.float32)
    _judge_alike(judge, mul_mat_rows.one_hot(1)[7], x, exact=True, held=held)


@pytest.mark.rule("Q8A8-MUL-6")
@pytest.mark.parametrize(
    ("m", "n"),
    [
        pytest.param(m, n, id=f"mul-mat/places/{m}-by-{n}")
        for m, n in ((1, 129), (129, 1), (2, 33), (33, 2), (7, 5), (31, 17), (65, 63), (64, 64))
    ],
)
def test_places(judge: Judge, m: int, n: int) -> None:
    """Multiply rows of integers by single ones, into zeros: only the place of an output can be wrong."""
    judge.require(calls.MUL_MAT)
    w, x = mul_mat_rows.integers(m, n)
    judge_product(judge, w, x, exact=True, out=bytes(4 * m * n))


def _judge_alike(judge: Judge, w: Array, x: Array, *, exact: bool, held: float = 0.0) -> None:
    """Judge the product of one row and one row, repeated."""
    m, n = ALIKE if len(w) < LONG else FEW_ALIKE
    matrices = np.repeat(w[np.newaxis], m, axis=0), np.repeat(x[np.newaxis], n, axis=0)
    judge_product(judge, *matrices, exact=exact, out=calls.float_bytes(held) * (m * n))


def kinds() -> list[object]:
    """Return each kind of matrices on which sums round, with shapes."""
    makers: tuple[
        tuple[Callable[[int, int, int], tuple[Array, Array]], tuple[tuple[int, int, int], ...]], ...
    ]
    makers = (
        (mul_mat_rows.model, ((1, 1, 33), (40, 1, 9), (1, 24, 9), (17, 9, 33), (64, 40, 8), (5, 3, 128))),
        (mul_mat_rows.large, ((3, 1, 16), (9, 11, 33))),
        (mul_mat_rows.cancelling, ((3, 1, 16), (9, 11, 64))),
        (mul_mat_rows.absorbing, ((3, 1, 16), (9, 11, 33), (2, 2, 512))),
    )
    return [
        pytest.param(make, shapes, id=f"mul-mat/bound/{make.__name__.replace('_', '-')}")
        for make, shapes in makers
    ]


@pytest.mark.rule(*VALUES)
@pytest.mark.parametrize(("make", "shapes"), kinds())
def test_bound(
    judge: Judge,
    make: Callable[[int, int, int], tuple[Array, Array]],
    shapes: tuple[tuple[int, int, int], ...],
) -> None:
    """Multiply matrices on whose products orders differ: within the bound."""
    judge.require(calls.MUL_MAT)
    for m, n, nb in shapes:
        judge_product(judge, *make(m, n, nb), exact=False)


@pytest.mark.rule(*VALUES)
@pytest.mark.parametrize(
    "nb", [pytest.param(nb, id=f"mul-mat/absorbing/blocks-{nb}") for nb in absorbing_rows.LENGTHS]
)
def test_absorbing(judge: Judge, nb: int) -> None:
    """Multiply rows that lose something each time where more is rounded than the bound allows."""
    judge.require(calls.MUL_MAT)
    w, x = absorbing_rows.absorbing_matrices(nb)
    for rows in (x, x[:1], x[:3]):
        if not judge_product(judge, w, rows, exact=False):
            return


@pytest.mark.rule("Q8A8-MUL-7")
def test_empty(judge: Judge) -> None:
    """Multiply matrices without elements: +0 for every output that there is, and nothing else is written."""
    judge.require(calls.MUL_MAT)
    for m, n, nb in EMPTY:
        judge_product(judge, *mul_mat_rows.exact(m, n, nb), exact=True)


@pytest.mark.rule(*VALUES)
def test_overwritten(judge: Judge) -> None:
    """Multiply into outputs that held something: they are overwritten, not added to."""
    judge.require(calls.MUL_MAT)
    for held, (m, n, nb) in product(HELD, ((1, 1, 1), (5, 1, 2), (3, 4, 0), (9, 7, 3))):
        before = calls.float_bytes(held) * (m * n)
        judge_product(judge, *mul_mat_rows.exact(m, n, nb), exact=True, out=before)


@pytest.mark.rule("Q8A8-MUL-8")
def test_outside_x(judge: Judge) -> None:
    """Multiply rows of which one has a NaN, an infinity or a huge number: the others come out right."""
    judge.require(calls.MUL_MAT)
    outside = OutsideCalls(judge, ordinary_products(), (ROWS,))
    with_edges = judge.recipes.of(calls.MUL_MAT) == DESIGN
    shapes = ((5, 2, 1), (3, 4, 2), (8, 8, 3), (17, 9, 4), (4, 17, 2), (1, 5, 9), (33, 18, 5))
    for (m, n, nb), at_edges in product(shapes, (False, True) if with_edges else (False,)):
        w, x = mul_mat_rows.picked(m, n, nb) if at_edges else mul_mat_rows.exact(m, n, nb)
        inside = known_product(w, x)
        for number, (row, value) in enumerate(product(dict.fromkeys((0, n // 2, n - 1)), NON_FINITE)):
            spoiled = x.copy()
            place = (0, 32 * nb - 1, 17 * number)[(number + number // len(NON_FINITE)) % 3]
            spoiled[row, place % (32 * nb)] = value
            others = np.delete(np.arange(n), row)
            _compare_others(outside, inside, calls.mul_mat(w, spoiled), np.ix_(others, np.arange(m)))


@pytest.mark.rule("Q8A8-MUL-8")
def test_outside_w(judge: Judge) -> None:
    """Multiply by a matrix with a scale that is NaN or infinite in one row: the others come out right."""
    judge.require(calls.MUL_MAT)
    outside = OutsideCalls(judge, ordinary_products(), (ROWS,))
    for m, n, nb in ((2, 5, 1), (4, 3, 2), (8, 8, 3), (9, 17, 4), (17, 1, 2), (33, 5, 3)):
        w, x = mul_mat_rows.exact(m, n, nb)
        inside = known_product(w, x)
        for number, (column, value) in enumerate(product(dict.fromkeys((0, m // 2, m - 1)), NON_FINITE[:3])):
            spoiled = w.copy()
            spoiled["weight_scale"][column, number % nb] = value
            others = np.delete(np.arange(m), column)
            _compare_others(outside, inside, calls.mul_mat(spoiled, x), np.ix_(np.arange(n), others))


def ordinary_products() -> list[Known]:
    """Return ordinary products, of one row of x and of some."""
    return [known_product(*mul_mat_rows.exact(*shape)) for shape in ((9, 11, 2), (7, 1, 9), (1, 33, 3))]


def _compare_others(outside: OutsideCalls, inside: Known, call: Call, kept: tuple[Array, ...]) -> None:
    """Multiply spoiled matrices, and compare the outputs that do not depend on what is spoiled."""
    actual = outside.make(call, inside)
    if actual:
        shape = call.bx, call.bs
        right = np.frombuffer(inside.expected["out"], "<f4").reshape(shape)
        expected = np.frombuffer(actual["out"], "<f4").reshape(shape).copy()
        expected[kept] = right[kept]
        outside.compare(call, actual, {"out": expected.tobytes()}, inside, ROWS)
