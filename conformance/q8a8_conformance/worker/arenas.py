"""Runs of accessible pages between two inaccessible ones, mapped once, or twice to be filled elsewhere."""

from __future__ import annotations

import ctypes
import itertools
import mmap
import os
import sys
import weakref

_PAGE = mmap.PAGESIZE
_MAP_FIXED = 0x10
_PROT_NONE, _PROT_READ, _PROT_WRITE = 0, 1, 2

_FIRST, _APART, _PLACES = 1 << 44, 5 << 30, 4096
"""Where arenas are asked for: an address, their distance in bytes, after how many the first comes again."""
_NUMBERS = itertools.count()

# PyDLL keeps the interpreter lock: these calls are too short to release it.
_LIBC = ctypes.PyDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_LIBC.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def _check(failed: bool, what: str) -> None:
    if failed:
        errno = ctypes.get_errno()
        raise MemoryError(f"{what} failed with errno {errno}")


def _unmap(start: int, size: int) -> None:
    _check(_LIBC.munmap(start, size) != 0, "munmap")


def _far() -> int:
    """Return an address for the next mapping, which the system need not take: far from the last ones.

    No difference of two buffers' addresses then fits in 32 bits, as some kernels expect.
    """
    return _FIRST + next(_NUMBERS) % _PLACES * _APART if sys.maxsize > 2**32 else 0


class Arena:
    """Accessible pages between two guard pages.

    Parameters
    ----------
    pages : int
        The number of accessible pages.

    Raises
    ------
    MemoryError
        The system cannot map the pages.
    """

    def __init__(self, pages: int) -> None:
        self.pages = pages
        self.size = pages * _PAGE
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        mapping = _LIBC.mmap(_far(), self.size + 2 * _PAGE, _PROT_NONE, flags, -1, 0)
        _check(mapping == ctypes.c_void_p(-1).value, "mmap")
        self.start = int(mapping) + _PAGE
        self.end = self.start + self.size
        # In a process that judges many kernels, one after another, the arenas of earlier ones must not stay.
        self._unmapping = weakref.finalize(self, _unmap, mapping, self.size + 2 * _PAGE)
        self._unmapping.atexit = False
        self.protect(writable=True)

    def protect(self, *, writable: bool) -> None:
        """Make the pages readable, and writable if `writable`."""
        protection = _PROT_READ | (_PROT_WRITE if writable else 0)
        _check(_LIBC.mprotect(self.start, self.size, protection) != 0, "mprotect")

    def unmap(self) -> None:
        """Unmap the pages, as the collection of the arena would."""
        self._unmapping()

    def covers(self, address: int) -> bool:
        """Return whether an address lies in the pages or in the guard pages around them."""
        return self.start - _PAGE <= address < self.end + _PAGE


class ReadOnlyArena(Arena):
    """Pages that are mapped twice, at `start` read-only between guard pages: to fill them changes no mapping.

    Attributes
    ----------
    filled_at
        Where the same pages are writable.

    Raises
    ------
    MemoryError
        The system cannot map the pages, or not twice.
    """

    def __init__(self, pages: int) -> None:
        super().__init__(pages)
        try:
            shared = os.memfd_create("inputs")
        except (AttributeError, OSError) as error:
            raise MemoryError(f"memfd_create: {error}") from None
        try:
            os.ftruncate(shared, self.size)
            flags = mmap.MAP_SHARED | _MAP_FIXED
            again = _LIBC.mmap(self.start, self.size, _PROT_READ, flags, shared, 0)
            _check(again != self.start, "mmap")
            both = _PROT_READ | _PROT_WRITE
            filled_at = _LIBC.mmap(None, self.size, both, mmap.MAP_SHARED, shared, 0)
            _check(filled_at == ctypes.c_void_p(-1).value, "mmap")
        finally:
            os.close(shared)
        self.filled_at = int(filled_at)
        self._unmapping_filled = weakref.finalize(self, _unmap, self.filled_at, self.size)
        self._unmapping_filled.atexit = False

    def unmap(self) -> None:
        """Unmap the pages at both places."""
        super().unmap()
        self._unmapping_filled()
