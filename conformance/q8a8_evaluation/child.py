"""Processes that measure: each starts with a BLAS of one thread."""

from __future__ import annotations

__all__ = ["ONE_THREAD"]

ONE_THREAD = dict.fromkeys(
    (
        "OPENBLAS_NUM_THREADS",
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "BLIS_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
    ),
    "1",
)
"""Every BLAS that NumPy is built with reads one of these when it is loaded."""
