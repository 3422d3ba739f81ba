r"""The exact results of monotonic functions on every float32, as the inputs at which they change.

Three steps of the specification map a magnitude to one of few results, and never decrease as the magnitude
grows, because every rounding in them is monotonic:

* h = f16(x), 31,745 results for all non-negative x;
* h = f16(f32(amax / 127)), the same results;
* q = roundf(f32(x · inv)), 128 results for 0 <= x <= amax, for one given amax.

So each is a list of *steps*: for each result, the smallest float32 that reaches it. Non-negative float32
patterns order like their values, and the result is constant between two steps::

    pattern   0 ..... step 1 ..... step 2 ..... step 3 ..... up to 2^31
    result       0       |    1       |    2       |    3

Each step is computed exactly, in fractions (`oracle`), from the boundary between two results: a value reaches
pattern P of the rounded format if it lies beyond the midpoint of P - 1 and P, or on it if P is even (ties to
even). Nothing here is computed in floating point.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from q8a8_golden import oracle
from q8a8_golden.oracle import F16, F32

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from q8a8_golden.oracle import Binary

    Steps = NDArray[np.int64]

LIMIT = oracle.nearest(Fraction(65520 * 127), F32)
"""The first pattern outside the quantizers' domain, 65520 · 127 (Q8A8-QNT-11)."""
INFINITY = F32.infinity


class Boundary(NamedTuple):
    """The boundary of a result: numbers above `number` reach it, and `number` itself if `inclusive`."""

    number: Fraction
    inclusive: bool


def rounding_boundary(bits: int, fmt: Binary) -> Boundary:
    """Return the boundary of the numbers that round to this positive pattern of a format, or a larger one."""
    below = oracle.value(bits - 1, fmt)
    # Overflow rounds as if infinity were the next number, with an unbounded exponent.
    above = oracle.value(bits, fmt) if bits < fmt.infinity else 2 * below - oracle.value(bits - 2, fmt)
    return Boundary((below + above) / 2, bits % 2 == 0)


def first_pattern(boundary: Boundary) -> int:
    """Return the smallest non-negative float32 pattern that reaches a boundary."""
    bits = oracle.nearest(boundary.number, F32)
    while bits and _reaches(bits - 1, boundary):
        bits -= 1
    while not _reaches(bits, boundary):
        bits += 1
    return bits


def _reaches(bits: int, boundary: Boundary) -> bool:
    if bits >= INFINITY:
        return True
    number = oracle.value(bits, F32)
    return number > boundary.number or (boundary.inclusive and number == boundary.number)


@lru_cache(maxsize=1)
def half_steps() -> Steps:
    """Return the x at which f16(x) reaches 1, 2, ... 0x7C00: patterns, int64 [31744] (Q8A8-HLF-1)."""
    steps = [first_pattern(rounding_boundary(half, F16)) for half in range(1, F16.infinity + 1)]
    return np.array(steps, np.int64)


@lru_cache(maxsize=1)
def scale_steps() -> Steps:
    """Return the amax at which f16(f32(amax / 127)) reaches 1, 2, ... 0x7C00: patterns, int64 [31744]."""
    # d = f32(amax / 127) reaches a pattern where amax / 127 reaches its boundary b, so amax reaches 127 b.
    boundaries = [rounding_boundary(int(d), F32) for d in half_steps()]
    return np.array([first_pattern(Boundary(127 * b.number, b.inclusive)) for b in boundaries], np.int64)


def scale_of(amax: int) -> int:
    """Return the stored scale of a block, f16 bits, for the pattern of its amax."""
    return int(np.searchsorted(scale_steps(), amax, side="right"))


@lru_cache(maxsize=16)
def code_steps(amax: int) -> Steps:
    """Return the |x| at which an element's code reaches 1, 2, ... 127 in a block with this amax.

    Parameters
    ----------
    amax
        A float32 pattern below `LIMIT`.

    Returns
    -------
    int64 [127], patterns of |x|; empty where the stored scale is zero and every code with it (Q8A8-QNT-6).
    """
    if scale_of(amax) == 0:
        return np.empty(0, np.int64)
    # Q8A8-QNT-3: inv = f32(127 / amax)
    inverse = oracle.value(oracle.nearest(127 / oracle.value(amax, F32), F32), F32)
    steps = []
    for code in range(1, 128):
        # Q8A8-QNT-4: roundf(p) >= code from p = code - 1/2 on; p = f32(x · inv)
        product = rounding_boundary(oracle.nearest(Fraction(2 * code - 1, 2), F32), F32)
        steps.append(first_pattern(Boundary(product.number / inverse, product.inclusive)))
    return np.array(steps, np.int64)


def results(steps: Steps, start: int, stop: int) -> NDArray[np.int32]:
    """Return the result for each pattern in [start, stop): int32 [stop - start]."""
    low, high = np.searchsorted(steps, [start, stop - 1], side="right")
    boundaries = np.concatenate(([start], steps[low:high], [stop]))
    return np.repeat(np.arange(low, high + 1, dtype=np.int32), np.diff(boundaries))


BIT_LENGTH = np.zeros(1 << 20, np.int64)
"""The number of bits of each integer below 2^20."""
for _bits in range(1, 21):
    BIT_LENGTH[1 << (_bits - 1) : 1 << _bits] = _bits


def float_bits(number: NDArray[np.int64], exponent: NDArray[np.int64] | int) -> NDArray[np.uint32]:
    """Return the float32 patterns of number · 2^exponent, which is exact; 0 gives +0.

    Parameters
    ----------
    number
        int64 [...], below 2^20 in magnitude.
    exponent
        int64 [...], or one integer; the results must be normal numbers.
    """
    magnitude = np.abs(number)
    length = BIT_LENGTH[magnitude]
    # The leading bit has the weight 2^(exponent + length - 1); the others fill the fraction from the top.
    bits = ((exponent + length - 1 + 127) << 23) + ((magnitude << (24 - length)) & 0x7FFFFF)
    return (np.where(magnitude == 0, 0, bits) | np.where(number < 0, 1 << 31, 0)).astype(np.uint32)
