"""The domains of the quantizers: every amax, and every element under one amax."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Final

import numpy as np

from q8a8_conformance.certify import steps
from q8a8_conformance.certify.domains import SIGN, Domain, Mismatch, float_text

if TYPE_CHECKING:
    from q8a8_conformance.certify.functions import Functions
    from q8a8_conformance.inputs.arrays import Array

QUANTIZE, QUANTIZE_REF = "quantize_row_q8_a8", "quantize_row_q8_a8_ref"
CALL: Final = 1 << 13
"""Blocks in one call: 1 MiB of floats."""
OTHERS: Final = 31
"""Elements of a block other than amax."""


class _Quantizer(Domain):
    functions: tuple[str, ...] = (QUANTIZE, QUANTIZE_REF)

    def __init__(self, *, ref: bool) -> None:
        if ref:
            self.functions = (QUANTIZE_REF,)

    def evaluate(self, kernel: Functions, start: int, stop: int) -> Array:
        """See `Domain`: quantize with the first function offered, in calls that fit in a cache."""
        function = next(name for name in self.functions if name in kernel.names)
        step = CALL * self.grain
        parts = [
            kernel.quantize(function, self.inputs(first, min(first + step, stop)).reshape(-1))
            for first in range(start, stop, step)
        ]
        return np.concatenate(parts)

    @abstractmethod
    def inputs(self, start: int, stop: int) -> Array:
        """Return the blocks to quantize: float32 patterns uint32 [blocks, 32]."""


class Scale(_Quantizer):
    """Every magnitude below 65520 · 127 as a block's amax.

    Point a: a block with one element other than zero, of magnitude a, in lane a mod 32; its sign changes
    every 32 points. Where the scale is not zero the code is 127: 127 (1 - 2^-24)^2 > 126.5, and amax is
    normal, being above 2^-25 · 127.
    """

    size, chunk = steps.LIMIT, 1 << 17
    rules = ("Q8A8-QNT-1", "Q8A8-QNT-2", "Q8A8-QNT-3", "Q8A8-QNT-6", "Q8A8-HLF-1", "Q8A8-HLF-4")

    def __init__(self, *, ref: bool = False) -> None:
        super().__init__(ref=ref)
        self.name = "scale-ref" if ref else "scale"

    def inputs(self, start: int, stop: int) -> Array:
        """See `_Quantizer`."""
        amax = np.arange(start, stop)
        x = np.zeros((stop - start, 32), np.uint32)
        x[np.arange(stop - start), amax & 31] = amax | (amax >> 5 & 1) << 31
        return x

    def expected(self, start: int, stop: int) -> Array:
        """See `Domain`."""
        amax = np.arange(start, stop)
        scale = steps.results(steps.scale_steps(), start, stop)
        blocks = np.zeros((stop - start, 34), np.uint8)
        blocks[:, 0], blocks[:, 1] = scale & 0xFF, scale >> 8
        code = np.where(scale == 0, 0, np.where(amax >> 5 & 1, -127, 127))
        blocks[np.arange(stop - start), 2 + (amax & 31)] = code & 0xFF
        return blocks

    def mismatch(self, start: int, index: tuple[int, ...], got: Array, right: Array) -> Mismatch:
        """Describe the first block that differs, with all its bytes."""
        row = index[0]
        return Mismatch(
            start + row, self.given(start + row), right[row].tobytes().hex(), got[row].tobytes().hex()
        )

    def given(self, point: int) -> str:
        """See `Domain`."""
        return (
            f"amax {float_text(point)}, sign {'-' if point >> 5 & 1 else '+'}, lane {point & 31}, others +0"
        )


class Codes(_Quantizer):
    """Every float32 of magnitude up to an amax as an element of a block.

    Points 0 to amax are the patterns from +0 up; the points after them are the same with a minus sign. Each
    block holds 31 of them, in order, and +amax itself in lane (block mod 32)::

        block 0   | amax |  0 |  1 |  2 | ...  30 |
        block 1   |  31  | amax | 32 | 33 | ... 61 |
    """

    grain = OTHERS
    chunk = OTHERS << 17
    rules = ("Q8A8-QNT-3", "Q8A8-QNT-4", "Q8A8-QNT-5", "Q8A8-QNT-6")

    def __init__(self, amax: int, *, ref: bool = False) -> None:
        super().__init__(ref=ref)
        self.name = f"codes{'-ref' if ref else ''}:{amax:08x}"
        self.amax = amax
        self.size = 2 * (amax + 1)

    def inputs(self, start: int, stop: int) -> Array:
        """See `_Quantizer`."""
        point = np.arange(start, stop)
        pattern = np.where(point > self.amax, point - (self.amax + 1) + SIGN, point).astype(np.uint32)
        return _blocks(pattern, self.amax, start)

    def expected(self, start: int, stop: int) -> Array:
        """See `Domain`."""
        table = steps.code_steps(self.amax)
        parts = []
        for sign, first in ((1, 0), (-1, self.amax + 1)):
            low, high = max(start, first), min(stop, first + self.amax + 1)
            if low < high:
                parts.append((sign * steps.results(table, low - first, high - first)).astype(np.int8))
        code = _blocks(np.concatenate(parts), 127 if len(table) else 0, start)
        scale = steps.scale_of(self.amax)
        blocks = np.empty((len(code), 34), np.uint8)
        blocks[:, 0], blocks[:, 1] = scale & 0xFF, scale >> 8
        blocks[:, 2:] = code.view(np.uint8)
        return blocks

    def mismatch(self, start: int, index: tuple[int, ...], got: Array, right: Array) -> Mismatch:
        """Describe the first byte that differs, as the element's code or as the block's scale."""
        row, byte = index
        first = start + row * OTHERS
        block = first // OTHERS
        own = block % 32
        lane = max(byte - 2, 0)
        point = min(first + (lane if lane < own else lane - 1 if lane > own else 0), self.size - 1)
        if byte < 2:
            what, width = "the scale", slice(0, 2)
        elif lane == own:
            what, width = "the element amax itself", slice(byte, byte + 1)
        else:
            what, width = self.given(point), slice(byte, byte + 1)
        where = f"{what}, block {block} of amax {float_text(self.amax)}, lane {lane}"
        return Mismatch(point, where, right[row, width].tobytes().hex(), got[row, width].tobytes().hex())

    def given(self, point: int) -> str:
        """See `Domain`."""
        pattern = point - (self.amax + 1) + SIGN if point > self.amax else point
        return f"x = {float_text(pattern)}"


def _blocks(values: Array, largest: int, start: int) -> Array:
    """Place values, 31 a block, around one `largest` in each: [blocks, 32]; the rest is 0."""
    rows = -(-len(values) // OTHERS)
    padded = np.zeros(rows * OTHERS, values.dtype)
    padded[: len(values)] = values
    others = padded.reshape(rows, OTHERS)
    blocks = np.empty((rows, 32), values.dtype)
    first = start // OTHERS
    for lane in range(32):
        here = slice((lane - first) % 32, None, 32)
        blocks[here, :lane] = others[here, :lane]
        blocks[here, lane] = largest
        blocks[here, lane + 1 :] = others[here, lane:]
    return blocks
