"""The activation quantizer: one scale for any number of elements."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8_conformance.inputs import blocks as data
from q8a8_conformance.inputs import calls
from q8a8_conformance.inputs.dot_rows import generator
from q8a8_conformance.suite.quantizer_checks import judge_activation, judge_alike

if TYPE_CHECKING:
    from q8a8_conformance.suite.judge import Judge

SIZES = (
    0,
    1,
    2,
    3,
    4,
    5,
    7,
    8,
    15,
    16,
    17,
    31,
    32,
    33,
    47,
    63,
    64,
    65,
    100,
    127,
    128,
    129,
    255,
    256,
    257,
    1000,
    4096,
)
VALUE_SETS = (
    "gaussian",
    "bf16",
    "ties",
    "near-ties",
    "half-edges",
    "vanishing",
    "huge",
    "peaks",
    "zeros",
    "exact-codes",
)
ROWS = 48


@pytest.mark.rule("Q8A8-QNT-9")
@pytest.mark.parametrize("size", [pytest.param(size, id=f"activation/size-{size}") for size in SIZES])
def test_size(judge: Judge, size: int) -> None:
    """Quantize vectors of one size, the largest element first, last and anywhere."""
    judge.require(calls.ACTIVATION)
    rng = generator("activation", size)
    for place in dict.fromkeys((0, size - 1, size // 2, size // 3)):
        x = rng.uniform(-1, 1, size).astype(np.float32)
        if size:
            # (Of all bits: a long vector may have a path of its own, whose amax has fewer.)
            x[place] = rng.choice([-1, 1]) * rng.uniform(2, 4)
        judge_activation(judge, calls.activation(x))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, id=f"activation/{name}", marks=pytest.mark.rule("Q8A8-QNT-9", *data.SETS[name][1]))
        for name in VALUE_SETS
    ],
)
def test_values(judge: Judge, name: str) -> None:
    """Quantize vectors of 32 from a data set for blocks."""
    judge.require(calls.ACTIVATION)
    rows = data.SETS[name][0]()
    for row in rows[:: max(1, len(rows) // ROWS)]:
        judge_activation(judge, calls.activation(row))


@pytest.mark.rule("Q8A8-QNT-9", "Q8A8-QNT-4")
@pytest.mark.parametrize(
    "size", [pytest.param(size, id=f"activation/long-ties/{size}") for size in (96, 333, 2000)]
)
def test_long_ties(judge: Judge, size: int) -> None:
    """Quantize long vectors of exact ties under one scale."""
    judge.require(calls.ACTIVATION)
    rng = generator("long-ties", size)
    x = (rng.integers(0, 127, size) + 0.5) * rng.choice([-1.0, 1.0], size)
    x[size - 1] = -127
    judge_activation(judge, calls.activation(x.astype(np.float32)))


@pytest.mark.rule("Q8A8-QNT-10")
@pytest.mark.parametrize(
    "function", [pytest.param(f, id=f"activation/as-block/{f}") for f in calls.QUANTIZERS]
)
def test_as_block(judge: Judge, function: str) -> None:
    """Quantize 32 elements with the activation quantizer and a row quantizer: the same scale and codes."""
    judge.require(calls.ACTIVATION)
    judge.require(function)
    if judge.recipes.of(calls.ACTIVATION) != judge.recipes.of(function):
        return
    rows = np.concatenate([data.gaussian(16), data.ties(16), data.near_ties(32), data.half_edges(96)])
    whole = calls.quantize(function, rows.reshape(-1))
    blocks = judge.run(whole)["y"]
    right = judge.recipes.rows(function, rows.reshape(-1), blocks)
    for number, call in enumerate(judge.ahead(map(calls.activation, rows), lambda call: call)):
        place = slice(34 * number, 34 * number + 34)
        made = judge.run(call)
        results = [(call, made["scale"] + made["output"]), (whole, blocks[place])]
        judge_alike(judge, results, right[place], "the two functions give another scale or other codes")
