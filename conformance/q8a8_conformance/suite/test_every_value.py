"""Finite sets as a whole: all pairs of codes, all halves as scales, all amax at which a scale begins."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8 import layout
from q8a8_conformance.inputs import calls, dot_rows, every_value
from q8a8_conformance.results.expected_dot import scalar_bits
from q8a8_conformance.suite.accepted_recipes import DESIGN
from q8a8_conformance.suite.matrix_checks import judge_product
from q8a8_conformance.suite.quantizer_checks import judge_activation, judge_activations
from q8a8_conformance.suite.two_rows import require_two_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.suite.judge import Judge

CHUNK = 1 << 13
"""Blocks of a call of a row quantizer."""

VECTOR = 33
"""Elements of an activation vector: a whole number of SIMD vectors, and a tail."""

SLOW_SECONDS, PROBE = 20e-6, 64
"""Seconds for one call of a slow activation quantizer, and calls that show it."""

FEW = 10
"""Rows of x, fewer of which are also multiplied one by one."""


def judge_until_wrong(judge: Judge, made: Iterable[tuple[Call, bytes]]) -> None:
    """Make dot products whose ``s`` must hold these bytes, until one is wrong: placed, then aligned."""
    placed = list(made)
    aligned = [(judge.aligned(call), expected) for call, expected in placed]
    for some in (placed, aligned):
        for (call, expected), outputs in judge.each(some, itemgetter(0)):
            if not judge.compare(call, outputs, {"s": expected}):
                return


def four(x: dot_rows.Pair, y: dot_rows.Pair) -> tuple[Call, bytes]:
    """Return the ``nrc = 2`` call of two rows each, and its result."""
    call = calls.dot_pair(np.stack(x), np.stack(y))
    return call, b"".join(scalar_bits(row, column) for column in y for row in x)


@pytest.mark.rule("Q8A8-DOT-1")
def test_code_pairs(judge: Judge) -> None:
    """Compute dot products that meet every pair of codes at every place of a block."""
    judge.require(calls.DOT)
    rows = every_value.pairs_at_every_place()
    judge_until_wrong(judge, ((calls.dot(x, y), scalar_bits(x, y)) for x, y in rows))


@pytest.mark.rule("Q8A8-DOT-1", "Q8A8-DOT-9")
def test_code_pairs_v2(judge: Judge) -> None:
    """Compute dot products of v2 blocks that meet every pair of codes twice."""
    judge.require(calls.DOT_REAL)
    rows = (pair for seed in (0, 1) for pair in every_value.pairs_once(seed))
    judge_until_wrong(judge, ((calls.dot_real(*dot_rows.to_v2(x, y)), scalar_bits(x, y)) for x, y in rows))


@pytest.mark.rule("Q8A8-DOT-1", "Q8A8-DOT-6")
def test_code_pairs_two_rows(judge: Judge) -> None:
    """Compute four dot products at once, of which the first and the last meet every pair of codes."""
    require_two_rows(judge)
    first, second = every_value.pairs_once(4), every_value.pairs_once(5)
    judge_until_wrong(judge, (four((a, c), (b, d)) for (a, b), (c, d) in zip(first, second, strict=True)))


@pytest.mark.rule("Q8A8-HLF-3", "Q8A8-DOT-8")
def test_halves(judge: Judge) -> None:
    """Compute dot products with every finite half as the scale of x, and of y."""
    judge.require(calls.DOT)
    judge_until_wrong(judge, ((calls.dot(x, y), scalar_bits(x, y)) for x, y in _halves()))


@pytest.mark.rule("Q8A8-HLF-3", "Q8A8-DOT-9")
def test_halves_v2(judge: Judge) -> None:
    """Compute dot products of v2 blocks with every finite half as the scale of x, and of y."""
    judge.require(calls.DOT_REAL)
    judge_until_wrong(
        judge, ((calls.dot_real(*dot_rows.to_v2(x, y)), scalar_bits(x, y)) for x, y in _halves())
    )


def _halves() -> Iterable[dot_rows.Pair]:
    for binade in range(every_value.BINADES):
        x, y = every_value.halves_of_binade(binade)
        yield x[0], y[0]
        yield x[1], y[1]


@pytest.mark.rule("Q8A8-HLF-3", "Q8A8-DOT-6")
def test_halves_two_rows(judge: Judge) -> None:
    """Compute four dot products at once, with every finite half as a scale of each of the four rows."""
    require_two_rows(judge)
    rows = (every_value.halves_of_binade(binade) for binade in range(every_value.BINADES))
    both = (pair for x, y in rows for pair in ((x, y), ((x[1], x[0]), (y[1], y[0]))))
    judge_until_wrong(judge, (four(x, y) for x, y in both))


@pytest.mark.rule("Q8A8-QNT-2", "Q8A8-HLF-1", "Q8A8-HLF-2", "Q8A8-HLF-5")
@pytest.mark.parametrize("function", [pytest.param(f, id=f"every-value/amax/{f}") for f in calls.QUANTIZERS])
def test_amax(judge: Judge, function: str) -> None:
    """Quantize blocks whose amax is, or is next to, the boundary between two scales; or a usual number."""
    judge.require(function)
    amax = every_value.every_amax()
    for start in range(0, amax.size, CHUNK):
        x, scale, codes = every_value.blocks_of_amax(amax[start : start + CHUNK])
        placed = calls.quantize(function, x)
        for call in (placed, judge.aligned(placed)):
            actual = judge.run(call)
            expected = layout.pack(scale, codes).tobytes()
            if judge.recipes.of(function) != DESIGN:
                expected = judge.recipes.rows(function, x.reshape(-1), actual["y"])
            if not judge.compare(call, actual, {"y": expected}):
                return


@pytest.mark.rule("Q8A8-QNT-3", "Q8A8-QNT-4")
@pytest.mark.parametrize(
    "function", [pytest.param(f, id=f"every-value/inverse/{f}") for f in calls.QUANTIZERS]
)
def test_inverse(judge: Judge, function: str) -> None:
    """Quantize blocks in which an inverse that is off by one ULP gives another code."""
    judge.require(function)
    x = every_value.beside_ties(every_value.BESIDE_TIES, calls.QUANTIZERS.index(function) + 1).reshape(-1)
    call = calls.quantize(function, x)
    actual = judge.run(call)
    judge.compare(call, actual, {"y": judge.recipes.rows(function, x, actual["y"])})


@pytest.mark.rule("Q8A8-QNT-9", "Q8A8-QNT-2", "Q8A8-HLF-1")
def test_amax_of_activation(judge: Judge) -> None:
    """Quantize activation vectors whose amax is a usual number, or as those of `test_amax`."""
    judge.require(calls.ACTIVATION)
    rng = dot_rows.generator("usual-amax")
    if "rows" in judge.target.hello.capabilities and not _is_slow(judge):
        amax = every_value.every_amax()
        for start in range(0, amax.size, CHUNK):
            vectors = every_value.blocks_of_amax(amax[start : start + CHUNK], VECTOR)
            if not judge_activations(judge, *vectors):
                return

    def made() -> Iterable[Call]:
        for number, amax in enumerate(every_value.USUAL_AMAX):
            x = (rng.uniform(-0.9, 0.9, 33) * amax).astype(np.float32)
            x[number % 33] = amax if number % 2 else -amax
            yield calls.activation(x)

    for call in judge.ahead(made(), lambda call: call):
        judge_activation(judge, call)


def _is_slow(judge: Judge) -> bool:
    """Return whether the activation quantizer takes long, by the fastest of a few measurements."""
    call = calls.activations(every_value.blocks_of_amax(np.ones(PROBE, np.float32), VECTOR)[0])
    seconds = []
    for _ in range(3):
        judge.run(call)
        seconds.append(judge.target.call_seconds_of_last / PROBE)
    return min(seconds) > SLOW_SECONDS


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(make, id=f"mul-mat/every-value/{name}", marks=pytest.mark.rule(rule))
        for name, make, rule in (
            ("codes", every_value.codes_by_codes, "Q8A8-MUL-5"),
            ("halves", every_value.halves_of_rows, "Q8A8-MUL-5"),
            ("amax", every_value.rows_of_amax, "Q8A8-MUL-4"),
            ("inverse", every_value.rows_beside_ties, "Q8A8-MUL-4"),
        )
    ],
)
def test_products(judge: Judge, make: Callable[[], tuple[Array, Array]]) -> None:
    """Multiply matrices that meet every pair of codes, every scale of w, and amax of x at many scales' ends.

    By all rows of x at once, and where they are few also one by one: that is another loop in most kernels.
    """
    judge.require(calls.MUL_MAT)
    w, x = make()
    for rows in (x, *(x[:, np.newaxis] if len(x) < FEW else ())):
        if not judge_product(judge, w, rows, exact=True):
            return
