"""The expected results equal the oracle's, computed one value at a time."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from q8a8_conformance.certify import steps
from q8a8_conformance.certify.catalogue import AMAXES, get_domain
from q8a8_golden import oracle

RNG = np.random.default_rng(20)


@pytest.mark.rule("Q8A8-HLF-1", "Q8A8-HLF-2", "Q8A8-HLF-4")
def test_half_steps() -> None:
    """Each half's step is exactly where the oracle's conversion changes."""
    table = steps.half_steps()
    assert len(table) == 0x7C00
    for half in (*range(1, 0x7C00, 29), 1, 2, 0x3FF, 0x400, 0x401, 0x7BFF, 0x7C00):
        first = int(table[half - 1])
        assert oracle.f16_from_f32(first) == half
        assert oracle.f16_from_f32(first - 1) == half - 1


@pytest.mark.rule("Q8A8-QNT-2", "Q8A8-HLF-4")
def test_scale_steps() -> None:
    """Each scale's step is the first amax for which the oracle's quantizer gives it."""
    table = steps.scale_steps()
    assert int(table[-1]) == steps.LIMIT
    for scale in (*range(1, 0x7C00, 53), 1, 0x3FF, 0x400, 0x7BFF):
        first = int(table[scale - 1])
        for amax, expected in ((first, scale), (first - 1, scale - 1)):
            assert oracle.quantize([amax]) == oracle.Quantized(expected, (127 if expected else 0,))


@pytest.mark.rule("Q8A8-QNT-3", "Q8A8-QNT-4")
@pytest.mark.parametrize("amax", [*AMAXES, 0x367E0000, 0x3F2AAAAB, 0x00000001, 0x447FFFFF])
def test_code_steps(amax: int) -> None:
    """Each code's step is exactly where the oracle's quantizer changes, with either sign."""
    table = steps.code_steps(amax)
    zero = oracle.quantize([amax]) == oracle.Quantized(0, (0,))
    assert len(table) == (0 if zero else 127)
    for code, first in enumerate(map(int, table), start=1):
        sign = 0x80000000
        done = oracle.quantize([amax, first, first - 1, first | sign, (first - 1) | sign])
        assert done is not None
        assert done.codes == (127, code, code - 1, -code, 1 - code)


def test_smallest_amax() -> None:
    """The catalogue's smallest amax is the first whose scale is not zero."""
    assert min(AMAXES) == int(steps.scale_steps()[0])


def test_results_of_partial_ranges() -> None:
    """A range of results equals that part of a longer range, whatever its ends."""
    table = np.array([3, 4, 9])
    whole = np.array([0, 0, 0, 1, 2, 2, 2, 2, 2, 3, 3, 3])
    for start in range(12):
        for stop in range(start + 1, 13):
            assert steps.results(table, start, stop).tolist() == whole[start:stop].tolist()


def test_float_bits() -> None:
    """The patterns of integers times powers of two equal the oracle's."""
    number = np.concatenate(([0, 1, -1, 2**20 - 1, 1 - 2**20, 2**19], RNG.integers(-(2**20) + 1, 2**20, 500)))
    exponent = RNG.integers(-48, 40, len(number))
    for n, e, bits in zip(number, exponent, steps.float_bits(number, exponent), strict=True):
        assert int(bits) == oracle.nearest(int(n) * Fraction(2) ** int(e), oracle.F32)


def _points(name: str, count: int) -> list[int]:
    size = get_domain(name).size
    return sorted({0, size - 1, *(int(point) for point in RNG.integers(0, size, count))})


@pytest.mark.rule("Q8A8-HLF-1")
def test_half_domain() -> None:
    """Random points have the oracle's half; NaNs give a NaN."""
    domain = get_domain("half")
    for point in _points("half", 300):
        (got,) = domain.expected(point, point + 1)
        if oracle.finite(point, oracle.F32):
            assert int(got) == oracle.f16_from_f32(point)
    whole = domain.expected(0x7F7FFFF0, 0x80000003)
    assert whole[:16].tolist() == [0x7C00] * 16
    assert int(whole[16]) == 0x7C00
    assert set(whole[17:-3].tolist()) == {0x7E00}
    assert whole[-3:].tolist() == [0x8000] * 3


@pytest.mark.rule("Q8A8-HLF-3")
def test_widen_domain() -> None:
    """Random halves have the oracle's float32."""
    right = get_domain("widen").expected(0, 1 << 16)
    for half in _points("widen", 2000):
        if oracle.finite(half, oracle.F16):
            assert int(right[half]) == oracle.f32_from_f16(half)
    assert [int(right[half]) for half in (0x7C00, 0xFC00)] == [0x7F800000, 0xFF800000]


@pytest.mark.rule("Q8A8-DEQ-1", "Q8A8-DEQ-2")
def test_dequantize_domain() -> None:
    """Random blocks have the oracle's results, from the same bytes that a kernel gets."""
    domain = get_domain("dequantize")

    class OracleFunctions:
        """Dequantization by the oracle."""

        names = ("dequantize_row_q8_a8",)

        def dequantize(self, blocks: np.ndarray) -> np.ndarray:
            """Dequantize with the oracle."""
            return np.array(oracle.dequantize(blocks.tobytes()), np.uint32)

    for point in _points("dequantize", 60):
        start = point // 32 * 32
        answer = domain.evaluate(OracleFunctions(), start, start + 32)  # type: ignore[arg-type]  # one function is enough
        assert domain.check(start, start + 32, answer.tobytes()) is None
