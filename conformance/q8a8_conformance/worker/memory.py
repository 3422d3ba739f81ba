"""Memory that detects invalid accesses: guard pages, canaries, read-only inputs, any alignment.

An arena is a run of accessible pages between two inaccessible ones::

    | guard page | canary … | the buffer's bytes | … canary | guard page |
      PROT_NONE    0xA5                            0xA5       PROT_NONE

A buffer lies at the end of its arena, at its start, or ``offset`` bytes after a 64-byte boundary inside it.
An access beyond the canaries faults at that instruction; a write to the canaries is found after the call.
"""

from __future__ import annotations

import ctypes
import mmap
import weakref
from copy import copy
from enum import Enum
from typing import TYPE_CHECKING

from q8a8_conformance.protocol.messages import Option

if TYPE_CHECKING:
    from q8a8_conformance.protocol.messages import BytesLike

CANARY = 0xA5
MAX_OFFSET = 2**16
"""The largest supported offset from a 64-byte boundary, in bytes."""
LINE = 64
"""The boundary that offsets count from."""
_LEAD = 256
"""Canary bytes before and after a buffer without an adjacent guard page; a multiple of `LINE`."""
_PAGE = mmap.PAGESIZE
_KEEP = 2**29
"""Bytes of arenas kept for the next call."""
_PROT_NONE, _PROT_READ, _PROT_WRITE = 0, 1, 2
_CANARIES = ctypes.create_string_buffer(bytes([CANARY]) * (_LEAD + MAX_OFFSET + 2 * _PAGE))

# PyDLL keeps the interpreter lock: these calls are too short to release it.
_LIBC = ctypes.PyDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_LIBC.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_LIBC.memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]


def _check(failed: bool, what: str) -> None:
    if failed:
        errno = ctypes.get_errno()
        raise MemoryError(f"{what} failed with errno {errno}")


def same_bytes(left: int, right: int, count: int) -> bool:
    """Return whether ``count`` bytes at two addresses are equal."""
    return bool(_LIBC.memcmp(left, right, count) == 0)


def first_difference(left: int, right: int, count: int) -> int | None:
    """Return the index of the first byte that differs at two addresses, None if all are equal."""
    for start in range(0, count, _PAGE):
        size = min(_PAGE, count - start)
        if not same_bytes(left + start, right + start, size):
            pairs = zip(
                ctypes.string_at(left + start, size), ctypes.string_at(right + start, size), strict=True
            )
            return start + next(i for i, (a, b) in enumerate(pairs) if a != b)
    return None


def address_of(data: BytesLike) -> int:
    """Return the address of a writable buffer's bytes; 0 for an empty one."""
    return ctypes.addressof(ctypes.c_char.from_buffer(data)) if len(data) else 0


class Placement(Enum):
    """Where a buffer lies in its arena."""

    AT_END = "a guard page after it"
    AT_START = "a guard page before it"
    ALIGNED = "an offset from a 64-byte boundary"

    @classmethod
    def of(cls, options: Option) -> Placement:
        """Return the placement for a call's options."""
        if Option.GUARD_AFTER in options:
            return cls.AT_END
        return cls.AT_START if Option.GUARD_BEFORE in options else cls.ALIGNED


def border_offset(place: int) -> int:
    """Return the offset with which the byte at ``place`` of a buffer is the first one of a page."""
    return -(_LEAD + place) % _PAGE


def _unmap(start: int, size: int) -> None:
    _check(_LIBC.munmap(start, size) != 0, "munmap")


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
        mapping = _LIBC.mmap(None, self.size + 2 * _PAGE, _PROT_NONE, flags, -1, 0)
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


class GuardedBuffer:
    """One buffer of a call, in its own arena.

    Parameters
    ----------
    name : str
        Its name in messages.
    arena : Arena
        The arena; large enough.
    data : writable bytes-like
        Its bytes before the call; `changed` compares with them.
    placement : Placement
        Its place in the arena.
    offset : int
        Bytes from a 64-byte boundary, for `Placement.ALIGNED`.
    """

    def __init__(
        self, name: str, arena: Arena, data: BytesLike, placement: Placement, offset: int = 0
    ) -> None:
        self.name = name
        self.arena = arena
        self.length = len(data)
        self.given = data  # keeps the bytes alive
        self._given = address_of(data)
        if placement is Placement.AT_END:
            self.address = arena.end - self.length
        elif placement is Placement.AT_START:
            self.address = arena.start
        else:
            self.address = arena.start + _LEAD + offset
        self._before = self.address - arena.start
        self._after = arena.end - self.address - self.length
        self._read_only = False
        ctypes.memset(arena.start, CANARY, self._before)
        ctypes.memset(self.address + self.length, CANARY, self._after)
        self.refill()

    def refill(self) -> None:
        """Restore the bytes before the call; the canaries are not touched."""
        ctypes.memmove(self.address, self._given, self.length)

    def window(self, name: str, start: int, data: BytesLike) -> GuardedBuffer:
        """Return some of the buffer's bytes, from `start`, as a buffer under a name of their own.

        Its canaries are the whole buffer's: check those and the protection there.
        """
        part = copy(self)
        part.name, part.address, part.length = name, self.address + start, len(data)
        part.given, part._given = data, address_of(data)  # noqa: SLF001 (a copy of this object)
        return part

    def make_read_only(self) -> None:
        """Map the arena's pages read-only, so that a write faults."""
        self.arena.protect(writable=False)
        self._read_only = True

    def make_writable(self) -> None:
        """Undo `make_read_only`."""
        if self._read_only:
            self.arena.protect(writable=True)
            self._read_only = False

    def read(self) -> bytes:
        """Return the buffer's current bytes."""
        return ctypes.string_at(self.address, self.length)

    def changed(self) -> str:
        """Describe the first byte that differs from those before the call; empty if none does."""
        if same_bytes(self.address, self._given, self.length):
            return ""
        place = first_difference(self.address, self._given, self.length)
        return f"byte {place} of {self.name} was written"

    def damage(self) -> str:
        """Describe the canary bytes that were written; empty if none was."""
        places = []
        if not same_bytes(self.arena.start, ctypes.addressof(_CANARIES), self._before):
            # The written byte nearest to the buffer is the most informative.
            before = ctypes.string_at(self.arena.start, self._before)
            intact = self._before - len(before.rstrip(bytes([CANARY])))
            places.append(f"{intact + 1} bytes before its start")
        behind = self.address + self.length
        if not same_bytes(behind, ctypes.addressof(_CANARIES), self._after):
            place = first_difference(behind, ctypes.addressof(_CANARIES), self._after)
            places.append(f"{place} bytes after its end")
        return f"memory next to {self.name} was written, {' and '.join(places)}" if places else ""

    def locate(self, address: int) -> str:
        """Describe where an address lies relative to the buffer; empty if not in its arena."""
        if not self.arena.covers(address):
            return ""
        place = address - self.address
        if place < 0:
            where = f"{-place} bytes before its start"
        elif place < self.length:
            where = f"byte {place}" + (", mapped read-only" if self._read_only else "")
        else:
            where = f"{place - self.length} bytes after its end"
        return f"{self.name} ({self.length} bytes): {where}"


class Memory:
    """The arenas of a worker, reused from call to call."""

    def __init__(self) -> None:
        self._free: dict[int, list[Arena]] = {}
        self._used: list[GuardedBuffer] = []
        self._mapped = 0

    @property
    def buffers(self) -> tuple[GuardedBuffer, ...]:
        """The buffers of the current call."""
        return tuple(self._used)

    def place(self, name: str, data: BytesLike, placement: Placement, offset: int = 0) -> GuardedBuffer:
        """Return a buffer with these bytes; see `GuardedBuffer`.

        Raises
        ------
        MemoryError
            The system has not enough memory.
        """
        size = len(data) + (2 * _LEAD + offset if placement is Placement.ALIGNED else 0)
        pages = max(1, -(-size // _PAGE))
        free = self._free.get(pages)
        if free:
            arena = free.pop()
        else:
            arena = Arena(pages)
            self._mapped += arena.size
        buffer = GuardedBuffer(name, arena, data, placement, offset)
        self._used.append(buffer)
        return buffer

    def release(self, keep: int = 0) -> None:
        """Release all buffers but the first ``keep`` ones: the same call gets the same addresses again."""
        for buffer in reversed(self._used[keep:]):
            buffer.make_writable()
            self._free.setdefault(buffer.arena.pages, []).append(buffer.arena)
        del self._used[keep:]
        if keep:
            return
        if self._mapped > _KEEP:
            for arenas in self._free.values():
                for arena in arenas:
                    arena.unmap()
            self._free.clear()
            self._mapped = 0
