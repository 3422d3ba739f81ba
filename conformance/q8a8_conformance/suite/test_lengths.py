"""Every function at every length: rows of 0 to 65,537 blocks, matrices, vectors of over 2^22 elements.

The cases of a function go from short to long, and each ends with its first wrong result: it names the length.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.inputs import calls, long_rows
from q8a8_conformance.inputs.long_rows import LARGE, RANGES
from q8a8_conformance.suite import thread_checks
from q8a8_conformance.suite.judge import RETURNS
from q8a8_conformance.suite.two_rows import require_two_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.suite.judge import Judge

    Case = tuple[int, Call, Mapping[str, bytes]]
    """A length, a call of it, and its results."""

FAST_SECONDS = 0.06
"""What a call of the longest row, 8 MiB, takes at most with a kernel that is given a whole matrix."""

COUNT, PLACES, ALL_ELEMENTS = "Q8A8-DOT-10", "Q8A8-LAY-2", "Q8A8-QNT-9"
STRIDES = ((2, 0, 0), (3, 34, 2), (7, 2, 68), (300, 0, 34))
"""``bs`` and the gaps between the rows of x and of y, by turns."""

TILES = tuple(2**k for k in range(4, 20))
SIZES: Mapping[str, tuple[int, ...]] = {
    "0-130": tuple(range(131)),
    "131-16400": tuple(
        sorted(
            {tile + tail for tile in TILES if 256 <= tile <= 16384 for tail in (-1, 0, 1, 2, 3, 7, 8, 15, 16)}
            | {300, 500, 1000, 3000, 5000, 5001, 10000, 16384 + 1024 + 63}
        )
    ),
    "widths": tuple(32 * nb for nb in long_rows.WIDTHS),
    "16401-1048593": tuple(
        sorted(
            {32767, 32768, 32769, 65535, 65536, 65537, 65552, 100_000, 131_073, 2**20 - 1, 2**20 + 17}
            | {count + tail for count in long_rows.MANY_DIVISORS for tail in (1, 3)}
        )
    ),
    "4194305": (2**22 + 1,),
}
"""Elements of activation vectors, by range."""


def of_ranges(name: str, ranges: Mapping[str, tuple[int, ...]] = RANGES) -> list[object]:
    """Return each range as a parameter."""
    return [pytest.param(counts, id=f"lengths/{name}/{of}") for of, counts in ranges.items()]


def judge_each(judge: Judge, cases: Iterable[Case], unit: str = "blocks") -> None:
    """Make calls from short to long until a result is wrong."""
    right, rules = "", tuple(rule for rule in judge.rules if rule != RETURNS)
    for length, call, expected in judge.ahead(cases, itemgetter(1)):
        message = f"the result differs at {length} {unit}{right}"
        if not judge.compare(call, judge.run(call), expected, rules, message):
            return
        right = f"; the last right length tried is {length}"


@pytest.mark.rule(COUNT, RETURNS)
@pytest.mark.parametrize("counts", of_ranges("dot"))
def test_dot(judge: Judge, counts: tuple[int, ...]) -> None:
    """Compute dot products of rows in which every block counts."""
    judge.require(calls.DOT)
    rows = long_rows.dots()
    judge_each(judge, ((nb, rows.call(nb), {"s": rows.result(nb)}) for nb in counts))


@pytest.mark.rule("Q8A8-DOT-9", COUNT, RETURNS)
@pytest.mark.parametrize("counts", of_ranges("v2", LARGE))
def test_v2(judge: Judge, counts: tuple[int, ...]) -> None:
    """Compute dot products of rows of v2 blocks in which every block counts."""
    judge.require(calls.DOT_REAL)
    rows = long_rows.dots()
    judge_each(judge, ((nb, rows.call_v2(nb), {"s": rows.result(nb)}) for nb in counts))


@pytest.mark.rule(COUNT, RETURNS)
@pytest.mark.parametrize(
    "function",
    [
        pytest.param(calls.DOT, id="lengths/dot/matrix"),
        pytest.param(calls.DOT_REAL, id="lengths/v2/matrix"),
    ],
)
def test_whole_matrix(judge: Judge, function: str) -> None:
    """Compute dot products of rows as long as a matrix, with counters of more than 19 bits, at their end."""
    judge.require(function)
    rows = long_rows.dots()
    long = long_rows.LONGEST
    small = rows.call(long) if function == calls.DOT else rows.call_v2(long)
    cases = [(long, small, {"s": rows.result(long)})]
    if not thread_checks.is_slow(judge, small, FAST_SECONDS, 1):
        call, result = rows.of_matrix(function)
        cases.append((long_rows.MATRIX, call, {"s": result}))
    judge_each(judge, cases)


@pytest.mark.rule("Q8A8-DOT-6", COUNT, RETURNS)
@pytest.mark.parametrize("counts", of_ranges("nrc2", LARGE))
def test_two_rows(judge: Judge, counts: tuple[int, ...]) -> None:
    """Compute four dot products at once of rows in which every block counts, under several strides."""
    require_two_rows(judge)
    rows = long_rows.dots()

    def cases() -> Iterable[Case]:
        for number, nb in enumerate(counts):
            bs, x_gap, y_gap = STRIDES[number % len(STRIDES)]
            call = rows.call_pair(nb, bs=bs, x_gap=x_gap, y_gap=y_gap)
            yield nb, call, {"s": rows.results(call, nb)}

    judge_each(judge, cases())


@pytest.mark.rule(PLACES, "Q8A8-QNT-7", RETURNS)
@pytest.mark.parametrize(
    ("function", "counts"),
    [
        pytest.param(function, counts, id=f"lengths/{function}/{name}")
        for function in calls.QUANTIZERS
        for name, counts in LARGE.items()
    ],
)
def test_quantize(judge: Judge, function: str, counts: tuple[int, ...]) -> None:
    """Quantize rows of blocks of which no two are alike."""
    judge.require(function)
    judge_each(judge, ((nb, *_of_row(judge, function, nb)) for nb in counts))


def _of_row(judge: Judge, function: str, nb: int) -> tuple[Call, Mapping[str, bytes]]:
    x, expected = long_rows.elements(judge.recipes.of(function)).part(nb)
    return calls.build(function, 32 * nb, {"x": x}), {"y": expected}


@pytest.mark.rule(PLACES, "Q8A8-DEQ-1", RETURNS)
@pytest.mark.parametrize("counts", of_ranges("dequantize", LARGE))
def test_dequantize(judge: Judge, counts: tuple[int, ...]) -> None:
    """Dequantize rows of blocks of which no two are alike."""
    judge.require(calls.DEQUANTIZE)

    def cases() -> Iterable[Case]:
        for nb in counts:
            x, expected = long_rows.quantized().part(nb)
            yield nb, calls.build(calls.DEQUANTIZE, 32 * nb, {"x": x}), {"y": expected}

    judge_each(judge, cases())


@pytest.mark.rule(PLACES, RETURNS)
@pytest.mark.parametrize(
    "function",
    [
        pytest.param(calls.QUANTIZERS[0], id=f"lengths/{calls.QUANTIZERS[0]}/matrix"),
        pytest.param(calls.DEQUANTIZE, id="lengths/dequantize/matrix"),
    ],
)
def test_matrix(judge: Judge, function: str) -> None:
    """Quantize, or dequantize, a matrix of 4096 rows at once, as files of models are made and read.

    (Of a fast kernel alone. ggml's `quantize_q8_0` and `llama_tensor_dequantize_impl` do so.)
    """
    judge.require(function)

    def case(nb: int) -> Case:
        if function == calls.DEQUANTIZE:
            x, expected = long_rows.quantized().part(nb)
            return nb, calls.build(function, 32 * nb, {"x": x}), {"y": expected}
        return nb, *_of_row(judge, function, nb)

    _, small, _ = case(long_rows.LONGEST)
    lengths = (1,) if thread_checks.is_slow(judge, small, FAST_SECONDS, 1) else (1, long_rows.MATRIX)
    judge_each(judge, map(case, lengths))


@pytest.mark.rule(ALL_ELEMENTS, RETURNS)
@pytest.mark.parametrize("sizes", of_ranges("activation", SIZES))
def test_activation(judge: Judge, sizes: tuple[int, ...]) -> None:
    """Quantize activation vectors whose largest element is the last, or the first after a whole tile."""
    judge.require(calls.ACTIVATION)
    vector = long_rows.vector(judge.recipes.of(calls.ACTIVATION))
    judge_each(
        judge,
        ((size, *vector.call(size, place)) for size in sizes for place in _peaks(size)),
        "elements",
    )


def _peaks(size: int) -> tuple[int, ...]:
    if size > 2**22:
        return (size - 1,)
    tile = max((tile for tile in TILES if tile < size), default=0)
    return tuple(dict.fromkeys((max(size - 1, 0), tile))) if size > TILES[0] else (max(size - 1, 0),)


@pytest.mark.rule("Q8A8-QNT-1", ALL_ELEMENTS)
@pytest.mark.parametrize("size", [pytest.param(size, id=f"lengths/peaks/{size}") for size in (5000, 70_001)])
def test_peaks(judge: Judge, size: int) -> None:
    """Quantize activation vectors whose largest element is beside a tile's boundary, each in turn."""
    judge.require(calls.ACTIVATION)
    vector = long_rows.vector(judge.recipes.of(calls.ACTIVATION))
    places = sorted({edge + side for edge in _edges(size) for side in (-1, 0)})
    judge_each(judge, ((size, *vector.call(size, place)) for place in places), "elements")


def _edges(size: int) -> list[int]:
    """Return the ends of tiles in a vector: of every tile once, of the larger ones each time."""
    larger = [place for tile in (1024, 4096) for place in range(tile, min(size, 16 * tile), tile)]
    return [tile for tile in TILES if tile < size] + larger
