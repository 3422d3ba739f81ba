"""Property tests on random inputs; where one fails a rule, Hypothesis finds the simplest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from q8a8 import dequantize_row
from q8a8_conformance.inputs import calls, dot_rows, random_inputs
from q8a8_conformance.suite.dot_checks import judge_dot
from q8a8_conformance.suite.examples import judge_examples
from q8a8_conformance.suite.quantizer_checks import judge_activation, judge_row

if TYPE_CHECKING:
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.suite.judge import Judge

QUANTIZING = ("Q8A8-QNT-1", "Q8A8-QNT-2", "Q8A8-QNT-3", "Q8A8-QNT-4", "Q8A8-QNT-5", "Q8A8-QNT-6")


@pytest.mark.rule(*QUANTIZING, "Q8A8-QNT-7")
@pytest.mark.parametrize(
    "function", [pytest.param(f, id=f"properties/quantize/{f}") for f in calls.QUANTIZERS]
)
def test_quantize(judge: Judge, function: str) -> None:
    """Rows of one to three blocks give the specification's bytes."""
    judge.require(function)
    judge_examples(judge, random_inputs.block_row, lambda x: judge_row(judge, calls.quantize(function, x)))


@pytest.mark.rule(*QUANTIZING, "Q8A8-QNT-9")
def test_activation(judge: Judge) -> None:
    """Vectors of any size give the specification's scale and codes."""
    judge.require(calls.ACTIVATION)
    judge_examples(judge, random_inputs.vector, lambda x: judge_activation(judge, calls.activation(x)))


@pytest.mark.rule("Q8A8-DEQ-1", "Q8A8-DEQ-2")
def test_dequantize(judge: Judge) -> None:
    """Blocks of any code and any finite scale give the exact products."""

    def check(blocks: Array) -> None:
        judge.exact(calls.dequantize(blocks), {"y": dequantize_row(blocks).astype("<f4").tobytes()})

    judge.require(calls.DEQUANTIZE)
    judge_examples(judge, random_inputs.blocks, check)


@pytest.mark.rule("Q8A8-DOT-1")
def test_dot_exact(judge: Judge) -> None:
    """Rows of any codes under one power of two give the exact sum."""
    judge.require(calls.DOT)
    judge_examples(judge, random_inputs.exact_pair, lambda pair: judge_dot(judge, *pair, exact=True))


@pytest.mark.rule("Q8A8-ORD-2", "Q8A8-DOT-2", "Q8A8-DOT-3", "Q8A8-DOT-8")
def test_dot_bound(judge: Judge) -> None:
    """Rows of any finite scales and any codes but -128 stay within the bound."""
    judge.require(calls.DOT)
    judge_examples(judge, random_inputs.pair, lambda pair: judge_dot(judge, *pair, exact=False))


@pytest.mark.rule("Q8A8-DOT-9")
def test_dot_v2(judge: Judge) -> None:
    """As :func:`test_dot_bound` over v2 blocks, with a NaN in each scale that is not read."""
    judge.require(calls.DOT_REAL)
    judge_examples(
        judge,
        random_inputs.pair,
        lambda pair: judge_dot(judge, *dot_rows.to_v2(*pair, unused=0x7E00), exact=False),
    )
