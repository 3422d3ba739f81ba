"""Row quantizers on generated data: blocks where recipes, roundings and conversions part."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8_conformance.inputs import blocks, calls
from q8a8_conformance.suite.quantizer_checks import judge_alike, judge_row

if TYPE_CHECKING:
    from q8a8_conformance.suite.judge import Judge

BOTH = calls.QUANTIZERS
REF, FAST = BOTH


def sets() -> list[object]:
    """Return each (data set, function) as a parameter with the set's rules."""
    return [
        pytest.param(name, function, id=f"quantize/{name}/{function}", marks=pytest.mark.rule(*rules))
        for name, (_, rules) in blocks.SETS.items()
        for function in BOTH
    ]


@pytest.mark.parametrize(("name", "function"), sets())
def test_set(judge: Judge, name: str, function: str) -> None:
    """Quantize a whole data set as one row."""
    judge.require(function)
    make, _ = blocks.SETS[name]
    judge_row(judge, calls.quantize(function, make().reshape(-1)))


@pytest.mark.rule("Q8A8-QNT-7")
@pytest.mark.parametrize("function", [pytest.param(f, id=f"quantize/empty/{f}") for f in BOTH])
def test_empty(judge: Judge, function: str) -> None:
    """Quantize no elements: nothing is written."""
    judge.require(function)
    judge.exact(calls.quantize(function, np.empty(0, np.float32)), {"y": b""})


@pytest.mark.rule("Q8A8-QNT-7")
@pytest.mark.parametrize("function", [pytest.param(f, id=f"quantize/alone/{f}") for f in BOTH])
def test_alone(judge: Judge, function: str) -> None:
    """Quantize blocks one by one: each comes out as it does beside others."""
    judge.require(function)
    rows = blocks.neighbours()[:24]
    call = calls.quantize(function, rows.reshape(-1))
    together = judge.run(call)["y"][: 34 * len(rows)]
    right = judge.recipes.rows(function, rows.reshape(-1), together)
    for number, row in enumerate(rows):
        single, place = calls.quantize(function, row), slice(34 * number, 34 * number + 34)
        alone = judge.run(single)["y"][:34]
        if alone == together[place]:
            continue
        # (Which of the two is wrong says by which rule.)
        wrong, got, want = call, together, right
        if together[place] == right[place]:
            wrong, got, want = single, alone, right[place]
        message = "the block differs alone and beside others"
        judge.compare(wrong, {"y": got}, {"y": want}, message=message)
        break


@pytest.mark.rule("Q8A8-QNT-5")
@pytest.mark.parametrize("function", [pytest.param(f, id=f"quantize/lowest-code/{f}") for f in BOTH])
def test_lowest_code(judge: Judge, function: str) -> None:
    """Quantize blocks whose largest element is negative: the lowest code is -127."""
    judge.require(function)
    x = np.concatenate([blocks.peaks(), blocks.half_edges(), blocks.near_ties(200), blocks.huge()])
    largest = np.abs(x).max(axis=1, keepdims=True)
    x = np.where(np.abs(x) == largest, -largest, x)
    judge.run(calls.quantize(function, x.reshape(-1)))


@pytest.mark.rule("Q8A8-QNT-8")
@pytest.mark.parametrize("name", [pytest.param(name, id=f"quantize/same/{name}") for name in blocks.SETS])
def test_same(judge: Judge, name: str) -> None:
    """Quantize a data set with both functions: the same bytes (but where ``ggml`` accepts two recipes)."""
    for function in BOTH:
        judge.require(function)
    x = blocks.SETS[name][0]().reshape(-1)
    if judge.recipes.of(REF) != judge.recipes.of(FAST):
        judge_row(judge, calls.quantize(REF, x))
        judge_row(judge, calls.quantize(FAST, x))
        return
    results = [(call, judge.run(call)["y"]) for call in (calls.quantize(name, x) for name in BOTH)]
    right = judge.recipes.rows(REF, x, results[0][1])
    judge_alike(judge, results, right, "the two functions give other bytes")
