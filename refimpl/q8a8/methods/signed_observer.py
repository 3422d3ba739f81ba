"""An observer of both ends of a tensor, for static quantization with zero points (OBS-11)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from q8a8.methods.finite import require_finite
from q8a8.methods.observers import Observer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from q8a8.methods.observers import Method

__all__ = ["SignedObserver"]


class SignedObserver:
    """Two observers, of what is above 0 and of what is below: for scales with zero points (OBS-11).

    Each counts every element, those of the other side as 0, so that a percentile is one of the tensor.

    Parameters
    ----------
    bins
        Of each histogram.
    """

    def __init__(self, bins: int = 4096) -> None:
        self.above, self.below = Observer(bins), Observer(bins)

    def observe(self, x: NDArray[np.float32], *, samples: int = 1) -> None:
        """Count an array; parameters and errors as `Observer.observe`."""
        x = np.asarray(x)
        require_finite(x, "x")
        self.above.observe(np.maximum(x, np.float32(0)), samples=samples)
        self.below.observe(np.maximum(-x, np.float32(0)), samples=samples)

    def merge(self, other: SignedObserver) -> None:
        """Merge another one; errors as `Observer.merge`."""
        self.above.merge(other.above)
        self.below.merge(other.below)

    def ends(self, method: str | Method = "absmax") -> tuple[float, float]:
        """Find the smallest and the largest number that get a code; errors as `Observer.threshold`."""
        return -self.below.threshold(method), self.above.threshold(method)
