"""Property tests: Hypothesis looks for an input that a rule fails on, and shrinks it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8 import BLOCK_Q8_A8, dequantize_row
from q8a8_conformance.suite import requests, rows
from q8a8_conformance.suite.products import judge_dot

if TYPE_CHECKING:
    from q8a8_conformance.suite.judge import Judge
    from q8a8_conformance.suite.requests import Array

QUANTIZING = ("Q8A8-QNT-1", "Q8A8-QNT-2", "Q8A8-QNT-3", "Q8A8-QNT-4", "Q8A8-QNT-5", "Q8A8-QNT-6")


@pytest.mark.rule(*QUANTIZING, "Q8A8-QNT-7")
@pytest.mark.parametrize(
    "function", [pytest.param(f, id=f"properties/quantize/{f}") for f in requests.QUANTIZERS]
)
def test_quantize(judge: Judge, function: str) -> None:
    """Rows of one to three blocks give the specification's bytes."""
    from q8a8_conformance.suite import strategies  # noqa: PLC0415 (Hypothesis is slow to import)

    judge.require(function)
    judge.examples(strategies.block_rows(), lambda x: judge.quantized_row(requests.quantize(function, x)))


@pytest.mark.rule(*QUANTIZING, "Q8A8-QNT-9")
def test_activation(judge: Judge) -> None:
    """Vectors of any size give the specification's scale and codes."""
    from q8a8_conformance.suite import strategies  # noqa: PLC0415

    judge.require(requests.ACTIVATION)
    judge.examples(strategies.vectors(), lambda x: judge.quantized_activation(requests.activation(x)))


@pytest.mark.rule("Q8A8-DEQ-1", "Q8A8-DEQ-2")
def test_dequantize(judge: Judge) -> None:
    """Blocks of any code and any finite scale give the exact products."""
    from q8a8_conformance.suite import strategies  # noqa: PLC0415

    def check(blocks: Array) -> None:
        judge.exact(requests.dequantize(blocks), {"y": dequantize_row(blocks).astype("<f4").tobytes()})

    judge.require(requests.DEQUANTIZE)
    judge.examples(strategies.block_row(), check)


@pytest.mark.rule("Q8A8-DOT-1")
def test_dot_exact(judge: Judge) -> None:
    """Rows of any codes under one power of two give the exact sum."""
    from q8a8_conformance.suite import strategies  # noqa: PLC0415

    judge.require(requests.DOT)
    judge.examples(strategies.exact_pairs(), lambda pair: judge_dot(judge, *pair, exact=True))


@pytest.mark.rule("Q8A8-ORD-2", "Q8A8-DOT-2", "Q8A8-DOT-3", "Q8A8-DOT-8")
def test_dot_bound(judge: Judge) -> None:
    """Rows of any finite scales and any codes but -128 stay within the bound."""
    from q8a8_conformance.suite import strategies  # noqa: PLC0415

    judge.require(requests.DOT)
    judge.examples(strategies.pairs(), lambda pair: judge_dot(judge, *pair, exact=False))


@pytest.mark.rule("Q8A8-DOT-9")
def test_dot_v2(judge: Judge) -> None:
    """As :func:`test_dot_bound` over v2 blocks, with a NaN in each scale that is not read."""
    from q8a8_conformance.suite import strategies  # noqa: PLC0415

    judge.require(requests.DOT_REAL)
    judge.examples(
        strategies.pairs(), lambda pair: judge_dot(judge, *rows.to_v2(*pair, unused=0x7E00), exact=False)
    )


@pytest.mark.rule("Q8A8-DEQ-1", "Q8A8-QNT-4")
@pytest.mark.parametrize(
    "function", [pytest.param(f, id=f"properties/round-trip/{f}") for f in requests.QUANTIZERS]
)
def test_round_trip(judge: Judge, function: str) -> None:
    """What is quantized and dequantized again is off by half a step and the scale's rounding at most."""
    from q8a8_conformance.suite import strategies  # noqa: PLC0415

    def check(x: Array) -> None:
        blocks = judge.run(requests.quantize(function, x))["y"]
        call = requests.dequantize(np.frombuffer(blocks, BLOCK_Q8_A8))
        y = np.frombuffer(judge.run(call)["y"], "<f4").reshape(-1, 32).astype(np.float64)
        rows_of_x = x.reshape(-1, 32).astype(np.float64)
        step = np.abs(rows_of_x).max(axis=1, keepdims=True) / 127
        # Half a step for the code, 127 times the rounding of the half (2^-11 of it, or 2^-25), some for f32.
        limit = 0.5001 * step + 127.1 * np.maximum(step * 2.0**-11, 2.0**-25)
        if (np.abs(y - rows_of_x) > limit).any():
            judge.fail(judge.rules, "quantizing and dequantizing moves an element too far", call)

    judge.require(function)
    judge.require(requests.DEQUANTIZE)
    judge.examples(strategies.block_rows(2), check, count=30)
