"""Memory-mapped inputs: pages that were read are given back to the system.

The pages of a mapped file count as resident memory of the process from when they are read until something
unmaps them. Walking once through a mapped array of many gigabytes would so make a process look, and be
counted by limits, as large as the file, although its own working memory is a chunk. `ReadPages` gives the
pages back as the walk goes on: the file's cache in the system is not touched, and a later access to one of
these pages reads it from there again.
"""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ReadPages"]

BATCH = 1 << 22
"""Bytes that are read before their pages are given back."""


class ReadPages:
    """The resident pages behind an array that is a read-only `np.memmap`, or a view of one.

    For any other array nothing is done: pages of memory, or of a mapping that may hold changes, are not ours
    to drop.

    Parameters
    ----------
    array
        Any array.
    """

    def __init__(self, array: NDArray[Any]) -> None:
        self._memory = _mapping(array)
        self._unreleased = 0

    def count(self, size: int) -> None:
        """Note that `size` more bytes were read, and now and then give the pages back."""
        self._unreleased += size
        if self._memory is not None and self._unreleased >= BATCH:
            self._memory.madvise(mmap.MADV_DONTNEED)
            self._unreleased = 0


def _mapping(array: NDArray[Any]) -> mmap.mmap | None:
    """Find the read-only mapping at the end of an array's chain of bases."""
    base: object = array
    mode = None
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap):
            mode = base.mode
        base = base.base
    return base if isinstance(base, mmap.mmap) and mode == "r" else None
