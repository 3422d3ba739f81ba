"""The finite domains: the inputs of each point and the expected results.

===============  ==============  ========================================================================
domain           points          a point is
===============  ==============  ========================================================================
`widen`          2^16            a half, converted to float32
`half`           2^32            a float32, converted to half
`dequantize`     63,488 · 2^8    a finite scale and a code
`products`       2^16 · 32       two codes in one lane, all other codes 0
`products-nrc2`  2^16 · 32       the same, four products a call
`products-v2`    2^16 · 32       the same, of version 2 blocks
`scale`          1,258,156,064   an amax: every magnitude of the quantizers' domain
`codes:AMAX`     2 · AMAX + 2    a float32 up to this amax (its pattern, in hex), as a block's element
===============  ==============  ========================================================================

Infinite and NaN scales and inputs outside the quantizers' domain are left out: their results are unspecified.
`scale` and `codes` have forms for `quantize_row_q8_a8_ref`: `scale-ref`, `codes-ref:AMAX`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.certify import steps
from q8a8_conformance.certify.functions import NARROW, WIDEN

if TYPE_CHECKING:
    from q8a8_conformance.certify.functions import Functions
    from q8a8_conformance.inputs.arrays import Array

SIGN, INFINITY = 0x80000000, 0x7F800000
FINITE_HALVES = 2 * 0x7C00


@dataclass(frozen=True)
class Mismatch:
    """The first point with a wrong result.

    Attributes
    ----------
    point
        The point's number in the domain.
    given
        The input, as text.
    expected, got
        The results' bits in hex.
    """

    point: int
    given: str
    expected: str
    got: str


class Domain(ABC):
    """A finite set of inputs of one function.

    Attributes
    ----------
    name
        Its name on the command line.
    size
        The number of points.
    chunk, grain
        The number of points of a piece; a piece starts at a multiple of `grain`.
    rules
        Ids of the rules that are checked.
    functions
        The kernel must have one of these; the first that it has is called.
    """

    name: str
    size: int
    chunk: int
    grain: int = 1
    rules: tuple[str, ...]
    functions: tuple[str, ...]

    @abstractmethod
    def evaluate(self, kernel: Functions, start: int, stop: int) -> Array:
        """Return the kernel's results for these points."""

    @abstractmethod
    def expected(self, start: int, stop: int) -> Array:
        """Return the expected results, in the form of `evaluate`."""

    @abstractmethod
    def given(self, point: int) -> str:
        """Describe the input of one point."""

    def normalize(self, got: Array, _expected: Array) -> Array:
        """Normalize results of which more than one form is right."""
        return got

    def check(self, start: int, stop: int, answer: bytes) -> Mismatch | None:
        """Compare the results' bytes with the expected ones; ValueError if the lengths differ."""
        right = self.expected(start, stop)
        if len(answer) != right.nbytes:
            raise ValueError(f"got {len(answer)} bytes, expected {right.nbytes}")
        got = self.normalize(np.frombuffer(answer, right.dtype).reshape(right.shape), right)
        if np.array_equal(got, right):
            return None
        index = tuple(int(i) for i in np.argwhere(got != right)[0])
        return self.mismatch(start, index, got, right)

    def mismatch(self, start: int, index: tuple[int, ...], got: Array, right: Array) -> Mismatch:
        """Describe the first difference."""
        point = start + int(np.ravel_multi_index(index, right.shape))
        return Mismatch(point, self.given(point), _hex(right[index]), _hex(got[index]))

    def offered(self, names: tuple[str, ...]) -> bool:
        """Return whether a kernel with these functions has this domain."""
        return any(name in names for name in self.functions)


def _hex(value: Any) -> str:  # noqa: ANN401 -- a NumPy scalar of any integer type
    width = np.asarray(value).itemsize * 2
    return f"0x{int(value) & ((1 << (4 * width)) - 1):0{width}x}"


class Half(Domain):
    """Every float32 to half precision."""

    name, size, chunk = "half", 1 << 32, 1 << 22
    rules = ("Q8A8-HLF-1", "Q8A8-HLF-2", "Q8A8-HLF-4")
    functions = (NARROW,)

    def evaluate(self, kernel: Functions, start: int, stop: int) -> Array:
        """See `Domain`."""
        return kernel.convert(NARROW, np.arange(start, stop, dtype=np.int64).astype(np.uint32))

    def expected(self, start: int, stop: int) -> Array:
        """See `Domain`; one NaN represents all NaNs."""
        parts = []
        for sign in (0, SIGN):
            low, high = max(start, sign), min(stop, sign + SIGN)
            if low < high:
                halves = steps.results(steps.half_steps(), low - sign, high - sign)
                if high - sign > INFINITY:
                    halves[max(0, INFINITY + 1 - (low - sign)) :] = 0x7E00
                parts.append((halves | sign >> 16).astype(np.uint16))
        return np.concatenate(parts)

    def normalize(self, got: Array, expected: Array) -> Array:
        """Replace any NaN, whatever its sign and payload, by the expected one."""
        nan = ((expected & 0x7FFF) > 0x7C00) & ((got & 0x7FFF) > 0x7C00)
        return np.where(nan, expected, got) if nan.any() else got

    def given(self, point: int) -> str:
        """See `Domain`."""
        return f"x = {float_text(point)}"


class Widen(Domain):
    """Every half to float32."""

    name, size, chunk = "widen", 1 << 16, 1 << 16
    rules = ("Q8A8-HLF-2", "Q8A8-HLF-3")
    functions = (WIDEN,)

    def evaluate(self, kernel: Functions, start: int, stop: int) -> Array:
        """See `Domain`."""
        return kernel.convert(WIDEN, np.arange(start, stop).astype(np.uint16))

    def expected(self, start: int, stop: int) -> Array:
        """See `Domain`; one NaN represents all NaNs."""
        return _widened()[start:stop]

    def normalize(self, got: Array, expected: Array) -> Array:
        """Replace any NaN by the expected one."""
        nan = ((expected & 0x7FFFFFFF) > INFINITY) & ((got & 0x7FFFFFFF) > INFINITY)
        return np.where(nan, expected, got)

    def given(self, point: int) -> str:
        """See `Domain`."""
        return f"h = {point:#06x}"


@lru_cache(maxsize=1)
def _widened() -> Array:
    """Return the float32 pattern of every half: uint32 [65536]."""
    half = np.arange(1 << 16)
    significand, exponent = _half_parts(half)
    bits = steps.float_bits(significand, exponent).astype(np.int64)
    bits[half & 0x7FFF >= 0x7C00] = INFINITY
    bits[half & 0x7FFF > 0x7C00] = 0x7FC00000
    return (bits | (half >> 15) << 31).astype(np.uint32)


def _half_parts(half: Array) -> tuple[Array, Array]:
    """Split halves into magnitudes: significand and exponent, m · 2^e."""
    field = half >> 10 & 0x1F
    return (half & 0x3FF) | (field > 0) << 10, np.maximum(field, 1) - 25


class Dequantize(Domain):
    """Every finite scale with every code.

    Point h·256 + s: half number h, element s of its eight blocks. From one half to the next the codes are
    rotated by one element, so that every code occurs in every lane.
    """

    name, size, chunk, grain = "dequantize", FINITE_HALVES * 256, 1 << 19, 32
    rules = ("Q8A8-DEQ-1", "Q8A8-DEQ-2", "Q8A8-HLF-2", "Q8A8-HLF-3")
    functions = ("dequantize_row_q8_a8",)

    @staticmethod
    def _inputs(start: int, stop: int) -> tuple[Array, Array]:
        """Return the half and the code of each point, int64."""
        point = np.arange(start, stop)
        number = point >> 8
        return number + 0x400 * (number >= 0x7C00), ((point + number) & 0xFF) - 128

    def evaluate(self, kernel: Functions, start: int, stop: int) -> Array:
        """See `Domain`."""
        half, code = self._inputs(start, stop)
        blocks = np.empty(((stop - start) // 32, 34), np.uint8)
        blocks[:, 0], blocks[:, 1] = half[::32] & 0xFF, half[::32] >> 8
        blocks[:, 2:] = code.reshape(-1, 32) & 0xFF
        return kernel.dequantize(blocks.reshape(-1))

    def expected(self, start: int, stop: int) -> Array:
        """See `Domain`: an integer of at most 19 bits times a power of two, with the product's sign."""
        half, code = self._inputs(start, stop)
        significand, exponent = _half_parts(half)
        bits = steps.float_bits(significand * np.abs(code), exponent)
        return bits | ((half >> 15) ^ (code < 0)).astype(np.uint32) << np.uint32(31)

    def given(self, point: int) -> str:
        """See `Domain`."""
        half, code = (int(part[0]) for part in self._inputs(point, point + 1))
        return f"scale {half:#06x}, code {code}, lane {point % 32}"


def float_text(bits: int) -> str:
    """Return a float32 pattern in hex, with its value."""
    value = np.array(bits, np.uint32).view(np.float32)
    return f"{bits:#010x} ({float(value)!r})"
