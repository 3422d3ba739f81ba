"""A histogram of magnitudes whose merging is exact (rules OBS-1 to OBS-3).

Of `bins` bins, a power of two, each is 2^e wide::

    counts[i] = how many x with  i·2^e <= |x| < (i+1)·2^e                                   OBS-1
    e         = the smallest integer, -149 at least, with  amax < bins·2^e                  OBS-2

When a larger amax comes, e grows by some k and 2^k neighbours become one bin: bin i goes to bin floor(i /
2^k), exactly, because both widths are powers of two and both grids start at 0::

    e      | 3 | 0 | 1 | 2 | 0 | 0 | 4 | 1 |
    e + 1  |   3   |   3   |   0   |   5   |   0   |   0   |   0   |   0   |

So the state is a function of the multiset of magnitudes alone. Neither the order of the data matters,
nor how they are cut into chunks, nor which observer saw which part: merging two histograms gives the one that
would have observed everything (OBS-3). The memory is `bins` integers, whatever is observed.

With a grid that depends on the data seen first (TensorRT's pytorch-quantization: amax of the first batch /
2048, and as many more bins as later batches need) none of these three holds.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from q8a8.errors import ArgumentError
from q8a8.methods.finite import require_finite

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Histogram"]

CHUNK = 1 << 16
"""Elements that are counted at a time: what bounds the working memory."""

LOWEST = -149
"""The exponent of float32's smallest number: no bin need be narrower."""


class Histogram:
    """Counts of magnitudes in bins whose width is a power of two (OBS-1 to OBS-3).

    Parameters
    ----------
    bins
        256, 512, 1024, 2048 or 4096. At least half of them lie below amax.

    Attributes
    ----------
    bins
        How many.
    exponent
        e: a bin is 2^e wide.
    counts
        int64 `[bins]`.
    amax
        The largest magnitude, a float32; 0 before any.

    Raises
    ------
    ArgumentError
        for another number of bins.
    """

    def __init__(self, bins: int = 4096) -> None:
        if bins not in (256, 512, 1024, 2048, 4096):
            raise ArgumentError(f"bins: expected 256, 512, 1024, 2048 or 4096, got {bins}")
        self.bins = bins
        self.exponent = LOWEST
        self.counts = np.zeros(bins, np.int64)
        self.amax = 0.0

    @property
    def width(self) -> float:
        """The width of a bin, 2^e."""
        return math.ldexp(1.0, self.exponent)

    @property
    def elements(self) -> int:
        """How many numbers were counted."""
        return int(self.counts.sum())

    @property
    def used(self) -> int:
        """How many bins reach up to the one that holds amax, that one included."""
        return int(self.amax / self.width) + 1

    def observe(self, x: NDArray[np.float32]) -> None:
        """Count the magnitudes of an array.

        Parameters
        ----------
        x
            float32 `[...]`, finite.

        Raises
        ------
        DtypeError, DomainError
            for anything else; the histogram is then as it was.
        """
        require_finite(x, "x")
        flat = x.reshape(-1)
        for first in range(0, flat.size, CHUNK):
            part = np.abs(flat[first : first + CHUNK])
            self.reach(float(part.max()))
            # |x| / 2^e is exact, but where it is so small that it vanishes: bin 0 either way.
            place = np.ldexp(part, -self.exponent).astype(np.int64)
            self.counts += np.bincount(place, minlength=self.bins)

    def merge(self, other: Histogram) -> None:
        """Add the counts of another histogram, which stays as it is.

        Raises
        ------
        ArgumentError
            where the numbers of bins differ.
        """
        if other.bins != self.bins:
            raise ArgumentError(f"other: expected {self.bins} bins, got {other.bins}")
        self.reach(other.amax)
        self.counts += _coarsen(other.counts, self.exponent - other.exponent)

    def reach(self, amax: float) -> None:
        """Widen the bins until amax lies in one (OBS-2)."""
        if amax > self.amax:
            self.amax = amax
            # frexp: 2^(k-1) <= amax < 2^k, so bins·2^e = 2^k is the least that will do.
            k = math.frexp(amax)[1]
            exponent = max(LOWEST, k - (self.bins.bit_length() - 1))
            self.counts = _coarsen(self.counts, exponent - self.exponent)
            self.exponent = exponent


def _coarsen(counts: NDArray[np.int64], steps: int) -> NDArray[np.int64]:
    """Join 2^steps neighbours into one bin; the upper bins become empty."""
    joined = np.zeros_like(counts)
    # Beyond this many steps everything is in bin 0 already.
    size = 1 << min(steps, len(counts).bit_length() - 1)
    sums = counts.reshape(-1, size).sum(axis=1)
    joined[: len(sums)] = sums
    return joined
