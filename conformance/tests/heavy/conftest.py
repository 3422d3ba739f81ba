"""Tests against packages that need PyTorch: without them nothing here is collected, and a CI run fails.

They form a leg of their own, for importing them alone takes ten seconds.
"""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from numpy.typing import NDArray

PACKAGES = ("torch", "torchao", "bitsandbytes", "optimum.quanto", "compressed_tensors", "transformers")


def _missing() -> list[str]:
    missing = []
    for name in PACKAGES:
        try:
            found = importlib.util.find_spec(name)
        except ModuleNotFoundError:  # the parent of a dotted name
            found = None
        if found is None:
            missing.append(name)
    return missing


MISSING = _missing()
# In CI every leg must run: there the tests are collected, and their imports fail.
collect_ignore_glob = ["test_*.py"] if MISSING and not os.environ.get("CI") else []

if "torch" not in MISSING:
    import torch

    # Results must not depend on how many cores a machine has, and small products are faster on one.
    torch.set_num_threads(1)


def pytest_report_header() -> str | None:
    """Report why nothing was collected."""
    return f"heavy tests left out: no {', '.join(MISSING)}" if collect_ignore_glob else None


@pytest.fixture(scope="session")
def hard_matrix() -> NDArray[np.float32]:
    """Return rows of 64 that distinguish arithmetics: ties, neighbours, tiny and huge numbers, outliers.

    No row has an amax so small that a scale underflows: there peers divide by zero, each in its own way.
    """
    rng = np.random.default_rng(31)
    ties = (np.arange(64, dtype=np.float32) - 32) + np.float32(0.5)
    rows = []
    for end in (127, -127, 127.5, -127.5, 255, -200.5, 63.5, 1000):
        row = ties.copy()
        row[9] = end
        rows += [row, np.nextafter(row, np.float32(np.inf)), np.nextafter(row, np.float32(-np.inf))]
        rows += [row * np.float32(scale) for scale in (0.1, 3.0, 2.0**-24, 2.0**-100, 2.0**100, 1e-30)]
    # int4's ties, one sign, zeros of both signs.
    small = np.tile(np.array([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 7.5, -7.5], np.float32), 8)
    rows += [small, small + np.float32(5), np.abs(small), -np.abs(small), np.where(small > 7, 7, small)]
    rows += [np.zeros(64, np.float32), np.full(64, -0.0, np.float32), np.full(64, 3, np.float32)]
    # Subnormal numbers whose scale is a subnormal number, too.
    rows += [
        rng.integers(-m, m + 1, 64).astype(np.float32) * np.float32(2.0**-149) for m in (300, 5000, 10**6)
    ]
    outliers = rng.standard_normal((16, 64)).astype(np.float32)
    outliers[np.arange(16), np.arange(16)] *= np.float32(2000)
    gaussian = rng.standard_normal((64, 64)).astype(np.float32) * np.exp(rng.normal(0, 4, (64, 1))).astype(
        "f4"
    )
    return np.concatenate([np.array(rows, np.float32), outliers, gaussian.astype(np.float32)])
