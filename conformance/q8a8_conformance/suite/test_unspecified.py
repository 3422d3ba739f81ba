"""Values outside the domain: any result is right, but the call returns and leaves no trace.

What does not depend on such a value is as specified: the other blocks of a row, the other products of a call
with ``nrc = 2``, and every call that follows.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8 import layout
from q8a8_conformance.inputs import blocks, calls, dot_rows, samples
from q8a8_conformance.inputs.known_calls import exact_rows, exact_sum, known, known_products, mixed
from q8a8_conformance.suite.known_checks import expected_of
from q8a8_conformance.suite.outside_calls import OutsideCalls
from q8a8_conformance.suite.specified import judge_plainly
from q8a8_conformance.suite.two_rows import require_two_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.inputs.known_calls import Known
    from q8a8_conformance.suite.judge import Judge

RULE = "Q8A8-QNT-11"
READS, RETURNS, VALUE, TWO_ROWS = "Q8A8-MEM-1", "Q8A8-ENV-4", "Q8A8-DEQ-1", "Q8A8-DOT-6"
HUGE = float(blocks.OVERFLOW)
CONTENTS = {
    "nan": (float("nan"),),
    "negative-nan": (-float("nan"),),
    "infinity": (float("inf"),),
    "negative-infinity": (float("-inf"),),
    "both-infinities": (float("inf"), float("-inf")),
    "nan-and-infinity": (float("nan"), float("inf")),
    "scale-overflow": (HUGE,),
    "largest-float": (float(np.finfo(np.float32).max), -1.0),
}
QUANTIZERS = (*calls.QUANTIZERS, calls.ACTIVATION)
PLACES = ((1, 0), (2, 0), (2, 1), (3, 1), (8, 0), (8, 7), (17, 15), (17, 16), (130, 64))
"""Block counts, and the block that is outside the domain."""

ORDINARY = (67, 3, 300)
"""Blocks, or elements, of the ordinary calls after others: one takes a loop over vectors, and a tail."""

NON_FINITE = (float("inf"), float("nan"))
LEAST = np.float16(2.0**-24)
"""The least scale, of rows whose other scales may be read otherwise beside one that is not finite."""

SIZES = (1, 2, 7, 31, 32, 33, 64, 100, 1025)
"""Sizes of activation vectors."""

SCALES = (0x7E00, 0xFE01, 0x7C01, 0x7C00, 0xFC00)
"""Bits of halves outside the domain: quiet and signalling NaNs, infinities."""


def ordinaries(judge: Judge, function: str) -> list[Known]:
    """Return ordinary calls of a function, and one of each other function that the kernel has."""
    others = [name for name in samples.functions() if name != function and judge.target.offers(name)]
    return [mixed(function, count) for count in ORDINARY] + [mixed(name, ORDINARY[0]) for name in others]


def half(bits: int) -> np.float16:
    """Return a half by its bits."""
    return np.uint16(bits).view(np.float16)


def parameters() -> list[object]:
    """Return each kind of content with each quantizer."""
    return [
        pytest.param(kind, function, id=f"unspecified/{kind}/{function}")
        for kind in CONTENTS
        for function in QUANTIZERS
    ]


@pytest.mark.rule("Q8A8-QNT-11")
@pytest.mark.parametrize(("kind", "function"), parameters())
def test_unspecified(judge: Judge, kind: str, function: str) -> None:
    """Quantize a row with such contents in one block, or throughout: the other blocks come out right."""
    judge.require(function)
    outside = OutsideCalls(judge, ordinaries(judge, function), (RULE,))
    contents = np.array(CONTENTS[kind], np.float32)
    if function == calls.ACTIVATION:
        for number, size in enumerate(SIZES):
            x = np.linspace(-1, 1, size, dtype=np.float32)
            # The last element, the first one, or any.
            x[(-1 - np.arange(contents.size) * (number % 3)) % size] = contents
            outside.make(calls.activation(x), known(function, size))
            outside.make(calls.activation(np.resize(contents, size)), known(function, size))
        return
    for number, (nb, place) in enumerate(PLACES):
        row = known(function, nb, number)
        x = np.frombuffer(row.call.buffers[0].data, np.float32).copy()
        x[32 * place + ((31, 0, 13)[number % 3] + np.arange(contents.size)) % 32] = contents
        call = calls.quantize(function, x)
        actual = outside.make(call, row)
        if actual:
            expected = bytearray(expected_of(judge, row, actual)["y"])
            expected[34 * place : 34 * place + 34] = actual["y"][34 * place : 34 * place + 34]
            outside.compare(call, actual, {"y": bytes(expected)}, row, RULE)
        outside.make(calls.quantize(function, np.resize(contents, 32 * nb)), row)


@pytest.mark.rule("Q8A8-ENV-2")
@pytest.mark.parametrize("function", [pytest.param(f, id=f"unspecified/next/{f}") for f in QUANTIZERS])
def test_next(judge: Judge, function: str) -> None:
    """Quantize an infinity or a NaN, then as usual, once and once more: as if it had never been."""
    judge.require(function)
    outside = OutsideCalls(judge, ordinaries(judge, function), (RULE,))
    elements = 1 if function == calls.ACTIVATION else 32
    for number, (value, count) in enumerate(product(NON_FINITE, (7, 33, 300, 1025))):
        x = np.linspace(-1, 1, elements * count, dtype=np.float32)
        x[(-1, 0, x.size // 2)[number % 3]] = value
        call = calls.activation(x) if function == calls.ACTIVATION else calls.quantize(function, x)
        inside = known(function, count)
        for after in (inside, None):
            outside.make(call, after)
            judge_plainly(judge, inside.call)
            if judge.records.failed:
                return


@pytest.mark.rule("Q8A8-ENV-4")
def test_dequantize(judge: Judge) -> None:
    """Dequantize a row with one scale that is NaN or infinite: the other blocks come out right."""
    judge.require(calls.DEQUANTIZE)
    outside = OutsideCalls(judge, ordinaries(judge, calls.DEQUANTIZE), (READS,))
    for (nb, place), bits in product(PLACES, SCALES):
        row = known(calls.DEQUANTIZE, nb)
        x = layout.as_blocks(row.call.buffers[0].data).copy()
        x["weight_scale"][place] = half(bits)
        call = calls.dequantize(x)
        actual = outside.make(call, row)
        if actual:
            expected = bytearray(row.expected["y"])
            expected[128 * place : 128 * place + 128] = actual["y"][128 * place : 128 * place + 128]
            outside.compare(call, actual, {"y": bytes(expected)}, row, VALUE)


def spoiled_rows() -> Iterator[tuple[Array, Array]]:
    """Yield exact rows [nb] with one scale of x or y that is NaN or infinite, the other sometimes 0."""
    for (nb, place), (number, bits), side in product(PLACES, enumerate(SCALES), (0, 1)):
        rows = [each[0].copy() for each in exact_rows(nb, 1)]
        rows[side]["weight_scale"][place] = half(bits)
        if (nb + number) % 3 == 0:
            rows[1 - side]["weight_scale"][place] = 0
        yield rows[0], rows[1]


@pytest.mark.rule("Q8A8-ENV-4")
@pytest.mark.parametrize(
    "function",
    [pytest.param(calls.DOT, id="unspecified/dot"), pytest.param(calls.DOT_REAL, id="unspecified/v2")],
)
def test_dot(judge: Judge, function: str) -> None:
    """Compute dot products with one scale that is NaN or infinite: any result."""
    judge.require(function)
    outside = OutsideCalls(judge, ordinaries(judge, function), (READS,))
    for x, y in spoiled_rows():
        outside.make(calls.dot(x, y) if function == calls.DOT else calls.dot_real(*dot_rows.to_v2(x, y)))


@pytest.mark.rule("Q8A8-ENV-4")
def test_two_rows(judge: Judge) -> None:
    """Compute four dot products, one row of which has such a scale: those without it come out right."""
    require_two_rows(judge)
    outside = OutsideCalls(judge, [mixed(calls.DOT, count, 2) for count in ORDINARY], (READS,))
    for (number, (nb, place)), least in product(enumerate(PLACES), (False, True)):
        rows = [side.copy() for side in exact_rows(nb, 2)]
        for side in rows if least else ():
            side["weight_scale"] = np.copysign(LEAST, side["weight_scale"])
        inside = known_products(calls.dot_pair(*rows, bs=2 + number % 2), *rows)
        for which in range(4):
            x, y = (side.copy() for side in rows)
            (x, y)[which // 2]["weight_scale"][which % 2, place] = half(
                SCALES[(number + which) % len(SCALES)]
            )
            call = calls.dot_pair(x, y, bs=2 + number % 2)
            actual = outside.make(call, inside)
            if not actual:
                continue
            expected = bytearray(actual["s"])
            for j, i in product(range(2), range(2)):
                if which != i and which != 2 + j:
                    at = 4 * (j * call.bs + i)
                    expected[at : at + 4] = calls.float_bytes(exact_sum(x[i], y[j]))
            outside.compare(call, actual, {"s": bytes(expected)}, inside, TWO_ROWS)
