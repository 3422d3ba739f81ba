"""Memory that shows what a kernel touches: guard pages, canaries, read-only inputs, any alignment.

An arena is a run of accessible pages between two inaccessible ones::

    | guard page | canary … | the buffer's bytes | … canary | guard page |
      PROT_NONE    0xA5                            0xA5       PROT_NONE

A buffer lies at the end of its arena, at its start, or ``offset`` bytes after a 64-byte boundary inside it.
An access beyond the canaries is a fault at that instruction; a write among the canaries is found afterwards.
"""

from __future__ import annotations

import ctypes
import mmap
from enum import Enum
from typing import TYPE_CHECKING

from q8a8_conformance.protocol.messages import Option

if TYPE_CHECKING:
    from q8a8_conformance.protocol.messages import BytesLike

CANARY = 0xA5
MAX_OFFSET = 4096
"""The largest offset from a 64-byte boundary that is served, in bytes."""
_LINE = 64
_LEAD = 256
"""Canary bytes before and after a buffer that has no guard page at its border; a multiple of `_LINE`."""
_PAGE = mmap.PAGESIZE
_KEEP = 2**29
"""Bytes of arenas kept for the next call."""
_PROT_NONE, _PROT_READ, _PROT_WRITE = 0, 1, 2
_CANARIES = ctypes.create_string_buffer(bytes([CANARY]) * (_LEAD + MAX_OFFSET + 2 * _PAGE))

# PyDLL keeps the interpreter lock: these calls are too short to let it go.
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
    """Whether ``count`` bytes at two addresses are equal."""
    return bool(_LIBC.memcmp(left, right, count) == 0)


def first_difference(left: int, right: int, count: int) -> int | None:
    """Return the place of the first differing byte of two runs of bytes, None if they are equal."""
    for start in range(0, count, _PAGE):
        size = min(_PAGE, count - start)
        if not same_bytes(left + start, right + start, size):
            pairs = zip(
                ctypes.string_at(left + start, size), ctypes.string_at(right + start, size), strict=True
            )
            return start + next(i for i, (a, b) in enumerate(pairs) if a != b)
    return None


def address_of(data: BytesLike) -> int:
    """Return the address of the bytes of a writable buffer; 0 for an empty one."""
    return ctypes.addressof(ctypes.c_char.from_buffer(data)) if len(data) else 0


class Placement(Enum):
    """Where a buffer lies in its arena."""

    AT_END = "a guard page behind it"
    AT_START = "a guard page before it"
    ALIGNED = "an offset from a 64-byte boundary"

    @classmethod
    def of(cls, options: Option) -> Placement:
        """Return the placement that a call's options ask for."""
        if options & Option.GUARD_AFTER:
            return cls.AT_END
        return cls.AT_START if options & Option.GUARD_BEFORE else cls.ALIGNED


class Arena:
    """Accessible pages between two guard pages.

    Parameters
    ----------
    pages : int
        Accessible pages.

    Raises
    ------
    MemoryError
        The system has no such mapping to give.
    """

    def __init__(self, pages: int) -> None:
        self.pages = pages
        self.size = pages * _PAGE
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        mapping = _LIBC.mmap(None, self.size + 2 * _PAGE, _PROT_NONE, flags, -1, 0)
        _check(mapping == ctypes.c_void_p(-1).value, "mmap")
        self.start = int(mapping) + _PAGE
        self.end = self.start + self.size
        self.protect(writable=True)

    def protect(self, *, writable: bool) -> None:
        """Make the pages readable and, if asked for, writable."""
        protection = _PROT_READ | (_PROT_WRITE if writable else 0)
        _check(_LIBC.mprotect(self.start, self.size, protection) != 0, "mprotect")

    def unmap(self) -> None:
        """Give the pages back."""
        _check(_LIBC.munmap(self.start - _PAGE, self.size + 2 * _PAGE) != 0, "munmap")

    def covers(self, address: int) -> bool:
        """Whether an address lies in the pages or in the guard pages around them."""
        return self.start - _PAGE <= address < self.end + _PAGE


class GuardedBuffer:
    """One buffer of a call, in an arena of its own.

    Parameters
    ----------
    name : str
        What the messages call it.
    arena : Arena
        Where it lies; large enough.
    data : writable bytes-like
        Its bytes before the call. They stay where they are, and are what `changed` compares with.
    placement : Placement
        Where in the arena it lies.
    offset : int
        Bytes from a 64-byte boundary, for `Placement.ALIGNED`.
    """

    def __init__(
        self, name: str, arena: Arena, data: BytesLike, placement: Placement, offset: int = 0
    ) -> None:
        self.name = name
        self.arena = arena
        self.length = len(data)
        self._data = data  # keeps the given bytes alive
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
        """Put the given bytes back. The canaries stay as they are."""
        ctypes.memmove(self.address, self._given, self.length)

    def make_read_only(self) -> None:
        """Let the next write to any of the arena's pages be a fault."""
        self.arena.protect(writable=False)
        self._read_only = True

    def make_writable(self) -> None:
        """Undo `make_read_only`."""
        if self._read_only:
            self.arena.protect(writable=True)
            self._read_only = False

    def read(self) -> bytes:
        """Return the bytes that the buffer holds now."""
        return ctypes.string_at(self.address, self.length)

    def changed(self) -> str:
        """Say which byte differs from the given ones; empty if none does."""
        if same_bytes(self.address, self._given, self.length):
            return ""
        place = first_difference(self.address, self._given, self.length)
        return f"byte {place} of {self.name} was written"

    def damage(self) -> str:
        """Say which canary was written; empty if none was."""
        places = []
        if not same_bytes(self.arena.start, ctypes.addressof(_CANARIES), self._before):
            # From the buffer outwards: its nearest damaged byte says most.
            before = ctypes.string_at(self.arena.start, self._before)
            intact = self._before - len(before.rstrip(bytes([CANARY])))
            places.append(f"{intact + 1} bytes before its start")
        behind = self.address + self.length
        if not same_bytes(behind, ctypes.addressof(_CANARIES), self._after):
            place = first_difference(behind, ctypes.addressof(_CANARIES), self._after)
            places.append(f"{place} bytes after its end")
        return f"memory next to {self.name} was written, {' and '.join(places)}" if places else ""

    def locate(self, address: int) -> str:
        """Say where an address lies relative to the buffer; empty if it is not near it."""
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
    """The arenas of a worker; they are reused from call to call."""

    def __init__(self) -> None:
        self._free: dict[int, list[Arena]] = {}
        self._used: list[GuardedBuffer] = []
        self._mapped = 0

    @property
    def buffers(self) -> tuple[GuardedBuffer, ...]:
        """The buffers of the present call."""
        return tuple(self._used)

    def place(self, name: str, data: BytesLike, placement: Placement, offset: int = 0) -> GuardedBuffer:
        """Return a buffer that holds the given bytes; see `GuardedBuffer`.

        Raises
        ------
        MemoryError
            The system does not have the memory.
        """
        room = len(data) + (2 * _LEAD + offset if placement is Placement.ALIGNED else 0)
        pages = max(1, -(-room // _PAGE))
        free = self._free.get(pages)
        if free:
            arena = free.pop()
        else:
            arena = Arena(pages)
            self._mapped += arena.size
        buffer = GuardedBuffer(name, arena, data, placement, offset)
        self._used.append(buffer)
        return buffer

    def release(self) -> None:
        """Take all buffers back."""
        for buffer in self._used:
            buffer.make_writable()
            self._free.setdefault(buffer.arena.pages, []).append(buffer.arena)
        self._used.clear()
        if self._mapped > _KEEP:
            for arenas in self._free.values():
                for arena in arenas:
                    arena.unmap()
            self._free.clear()
            self._mapped = 0
