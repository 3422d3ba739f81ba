"""The thresholds against NVIDIA's calibrator: nvidia-modelopt, the successor of pytorch-quantization."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8.methods.observers import Observer

if TYPE_CHECKING:
    from collections.abc import Callable


def data() -> list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    """Generate calibration data: gaussian, heavy-tailed, with outliers, one-sided."""
    rng = np.random.default_rng(3)
    gaussian = rng.standard_normal(20_011)
    arrays = [gaussian, rng.laplace(size=20_011), np.append(gaussian, [60.0, -75.0]), np.maximum(gaussian, 0)]
    return [array.astype(np.float32) for array in arrays]


# Both modelopt and torch emit warnings on import and use.
@pytest.mark.filterwarnings("ignore")
def test_thresholds(need: Callable[[object, str], None]) -> None:
    """OBS-5, OBS-7: the entropy threshold is NVIDIA's, bit for bit; the percentile's is a bin above theirs.

    (Its mse calibrator quantizes on a GPU; without one it returns no meaningful numbers.)
    """
    need(importlib.util.find_spec("modelopt"), "nvidia-modelopt is not installed")
    peer = importlib.import_module("modelopt.torch.quantization.calib.histogram")
    for x in data():
        observer = Observer(512)
        observer.observe(x)
        seen = observer.histogram
        counts, edges = seen.counts[: seen.used], np.arange(seen.used + 1) * seen.width
        theirs = float(peer._compute_amax_entropy(counts.copy(), edges, 8, unsigned=False))
        assert observer.threshold("entropy") == min(theirs, seen.amax)
        # 20 011 and 20 013 elements: no rank p/100·N is an integer that float64 could miss.
        lower = float(peer._compute_amax_percentile(counts.copy(), edges, 99.9))
        assert observer.threshold("percentile-99.9") == lower + seen.width
