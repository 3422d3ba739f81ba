"""Dequantization: exact for every scale and code, so every bit counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8 import dequantize_row
from q8a8_conformance.inputs import calls, dot_rows

if TYPE_CHECKING:
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.suite.judge import Judge


def judge_row(judge: Judge, blocks: Array) -> None:
    """Dequantize blocks [nb] and compare with the exact products, at 64-byte boundaries and elsewhere."""
    call, expected = calls.dequantize(blocks), {"y": dequantize_row(blocks).astype("<f4").tobytes()}
    judge.exact(call, expected)
    judge.exact(judge.aligned(call), expected)


@pytest.mark.rule("Q8A8-DEQ-1", "Q8A8-DEQ-2", "Q8A8-HLF-2", "Q8A8-HLF-3")
@pytest.mark.parametrize(
    "sign", [pytest.param(0, id="dequantize/all-halves/+"), pytest.param(1, id="dequantize/all-halves/-")]
)
def test_all_halves(judge: Judge, sign: int) -> None:
    """Dequantize one block for every finite half of one sign; all edges of int8 are in each."""
    judge.require(calls.DEQUANTIZE)
    scales = (np.arange(0x7C00) + 0x8000 * sign).astype(np.uint16).view(np.float16)
    codes = dot_rows.generator("all-halves", sign).integers(-128, 128, (len(scales), 32))
    codes[:, : len(dot_rows.EDGES)] = dot_rows.EDGES
    for start in range(0, len(scales), 8192):
        part = slice(start, start + 8192)
        judge_row(judge, dot_rows.blocks(scales[part], codes[part]))


@pytest.mark.rule("Q8A8-DEQ-1", "Q8A8-DEQ-2")
def test_all_codes(judge: Judge) -> None:
    """Dequantize all 256 codes under ordinary, negative, subnormal, zero and extreme scales."""
    judge.require(calls.DEQUANTIZE)
    codes = np.arange(-128, 128).reshape(8, 32)
    for scale in (0.0, 2.0**-24, 2.0**-23, 1023 * 2.0**-24, 2.0**-14, 0.1, 0.99951171875, 1.0, 65504.0):
        for sign in (1, -1):
            judge_row(judge, dot_rows.blocks(sign * scale, codes))


@pytest.mark.rule("Q8A8-LAY-1", "Q8A8-LAY-2", "Q8A8-DEQ-1")
def test_places(judge: Judge) -> None:
    """Dequantize blocks whose codes name their own place: element j of block b belongs at 32·b + j."""
    judge.require(calls.DEQUANTIZE)
    for nb in range(1, 34):
        codes = (np.arange(32) - 16 + np.arange(nb)[:, np.newaxis]) % 127
        judge_row(judge, dot_rows.blocks(np.exp2(np.arange(nb) % 16 - 8.0), codes))


@pytest.mark.rule("Q8A8-LAY-2", "Q8A8-DEQ-1")
def test_alike(judge: Judge) -> None:
    """Dequantize blocks beside others that have the same scale, the other sign, the same codes, or both."""
    judge.require(calls.DEQUANTIZE)
    rng = dot_rows.generator("alike")
    for nb in (2, 5, 16, 67):
        scales = rng.choice([0.3, 1.7], nb) * rng.choice([-1.0, 1.0], nb)
        codes = rng.integers(-128, 128, (2, 32))[rng.integers(0, 2, nb)]
        judge_row(judge, dot_rows.blocks(scales, codes))


@pytest.mark.rule("Q8A8-DEQ-3")
def test_empty(judge: Judge) -> None:
    """Dequantize no blocks: nothing is written."""
    judge.require(calls.DEQUANTIZE)
    judge.exact(calls.dequantize(dot_rows.filled(0, 1)), {"y": b""})
