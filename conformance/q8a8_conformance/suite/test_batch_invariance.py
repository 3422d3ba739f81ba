"""Whether the bits of a matrix product's output depend on its two rows alone (Q8A8-MUL-9, a SHOULD).

Each output of a product is compared with the same output of other products: of one row of x, of one row of
w, of some rows of each, with the rows in another order or beside other rows, later, and where the environment
asks for another number of threads. Outputs that are quite wrong are left to other cases.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8_conformance.inputs import calls, dot_rows, mul_mat_rows
from q8a8_conformance.results.expected_product import ExpectedProduct, outputs_of
from q8a8_conformance.suite import thread_checks
from q8a8_conformance.suite.wrong_outputs import places

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.suite.judge import Judge

SHAPES = ((24, 17, 9), (9, 33, 33), (65, 5, 128))
"""m, n and blocks of a row of the products that others are compared with."""

SLUG = "batch-invariance"

AGAIN, MORE = 2, 9
"""Times that a product is made again before larger ones are, and what these have more of rows and blocks."""

CASES = {
    "n": "the number of rows of x",
    "m": "the number of rows of w",
    "i": "the place of its row in x",
    "j": "the place of its row in w",
    "others": "the other rows of x and w",
    "calls": "the call: the same one gives other bits",
}
"""What an output may depend on by the cases' names."""


def variants(what: str, m: int, n: int) -> Iterator[tuple[Array, Array]]:
    """Yield which rows of w and of x another product has."""
    all_w, all_x = np.arange(m), np.arange(n)
    if what == "n":
        for count in (1, 2, 3, 4, 7, 8, 9, 16):
            yield all_w, all_x[:count]
    elif what == "m":
        for count in (1, 2, 3, 4, 7, 8, 16):
            yield all_w[:count], all_x
    elif what == "i":
        yield all_w, all_x[::-1]
        yield all_w, np.roll(all_x, 3)
    elif what == "j":
        yield all_w[::-1], all_x
        yield np.roll(all_w, 3), all_x
    else:
        yield all_w, all_x


@pytest.mark.rule("Q8A8-MUL-9")
@pytest.mark.parametrize("what", [pytest.param(name, id=f"mul-mat/invariant/{name}") for name in CASES])
def test_invariant(judge: Judge, what: str) -> None:
    """Make an output again in another product: with other numbers of rows, elsewhere, beside others."""
    judge.require(calls.MUL_MAT)
    for m, n, nb in SHAPES:
        w, x = mul_mat_rows.model(m, n, nb)
        whole = _product(judge, w, x)
        for ws, xs in variants(what, m, n):
            other_w, other_x, same = (beside if what == "others" else alike)(w[ws], x[xs])
            found = _product(judge, other_w, other_x)
            differs = _differing(judge, (other_w, other_x), found, whole[np.ix_(xs, ws)], same)
            if not differs.any():
                continue
            if what == "calls" or not _varies(judge, [(w, x, whole), (other_w, other_x, found)]):
                _record(judge, CASES[what], (other_w, other_x), (found, whole[np.ix_(xs, ws)]), differs)
            return


@pytest.mark.rule("Q8A8-MUL-9")
@pytest.mark.parametrize(
    "threads", [pytest.param(n, id=f"mul-mat/invariant/threads-{n}") for n in thread_checks.ELSEWHERE]
)
def test_threads(judge: Judge, threads: int) -> None:
    """Make a product in a process whose environment asks for another number of threads."""
    judge.require(calls.MUL_MAT)
    for m, n, nb in SHAPES:
        w, x = mul_mat_rows.model(m, n, nb)
        whole, call = _product(judge, w, x), calls.mul_mat(w, x)
        elsewhere = thread_checks.run_elsewhere(judge, threads, call)
        if elsewhere is None:
            return
        found = outputs_of(call, elsewhere["out"])
        differs = _differing(judge, (w, x), found, whole, np.ones(found.shape, bool))
        if differs.any():
            if not _varies(judge, [(w, x, whole)]):
                what = f"the number of threads, {threads} by the environment"
                _record(judge, what, (w, x), (found, whole), differs)
            return


def alike(w: Array, x: Array) -> tuple[Array, Array, Array]:
    """Return matrices as they are, and that all of their outputs stay what they are."""
    return w, x, np.ones((len(x), len(w)), bool)


def beside(w: Array, x: Array) -> tuple[Array, Array, Array]:
    """Return matrices with other values in half of the rows, and which outputs stay what they are."""
    w, x, same = w.copy(), x.copy(), np.ones((len(x), len(w)), bool)
    rows = dot_rows.generator("beside", same.shape).permutation(len(x))[: len(x) // 2]
    x[rows] *= -3
    w["weight_qs"][: len(w) // 2] ^= 1
    same[rows] = False
    same[:, : len(w) // 2] = False
    return w, x, same


def _product(judge: Judge, w: Array, x: Array) -> Array:
    """Return the kernel's outputs [n, m], of matrices that lie where those of every other product do."""
    call = calls.mul_mat(w, x)
    return outputs_of(call, judge.run(call, at=call)["out"])


def _varies(judge: Judge, made: Sequence[tuple[Array, Array, Array]]) -> bool:
    """Return whether a product gives other bits when it is made again, or after one of larger matrices."""
    for number, (w, x, outputs) in itertools.product(range(3), made):
        if number == AGAIN:
            # (What a buffer holds of it, beyond what a call writes, may have been counted.)
            _product(judge, *mul_mat_rows.model(len(w) + MORE, len(x) + MORE, w.shape[1] + MORE))
        if _product(judge, w, x).tobytes() != outputs.tobytes():
            return True
    return False


def _differing(
    judge: Judge, matrices: tuple[Array, Array], found: Array, before: Array, same: Array
) -> Array:
    """Return which outputs [n, m] of the same rows have other bits, both being right, or nearly."""
    differs = same & (np.ascontiguousarray(found) != np.ascontiguousarray(before))
    if differs.any():
        w, x = matrices
        product = ExpectedProduct(w, judge.recipes.matrix(x)[0])
        is_near = product.nearly(found) and product.nearly(before)
        both = product.holds(found), product.holds(before)
        # (Of two, one of which is right, the other one is wrong, and no other order.)
        differs &= both[0] == both[1] if is_near else both[0] & both[1]
    return np.asarray(differs)


def _record(
    judge: Judge, what: str, matrices: tuple[Array, Array], both: tuple[Array, Array], differs: Array
) -> None:
    """Record that outputs [n, m] differ from what they are in another product, as a failure and a warning."""
    (w, x), (found, before) = matrices, both
    i, j = np.argwhere(differs)[0].tolist()
    message = (
        f"an output's bits depend on {what}: with m = {len(w)}, n = {len(x)}, k = {x.shape[1]} "
        f"{differs.sum()} of {differs.size} outputs differ, "
        f"{places(differs)}; "
        f"out[{i} * m + {j}] is {found[i, j]:.9g}, else {before[i, j]:.9g}"
    )
    expected, actual = ({"out": np.ascontiguousarray(side).tobytes()} for side in (before, found))
    judge.fail(("Q8A8-MUL-9",), message, calls.mul_mat(w, x), expected=expected, actual=actual)
    judge.target.warn(f"{SLUG}:{judge.case.rpartition('/')[2]}", calls.MUL_MAT, judge.case, message)
