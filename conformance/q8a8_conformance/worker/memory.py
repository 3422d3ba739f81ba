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
from copy import copy
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias

from q8a8_conformance.protocol.messages import Option
from q8a8_conformance.worker.arenas import Arena, ReadOnlyArena

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
_AFTER, _BEFORE = int(Option.GUARD_AFTER), int(Option.GUARD_BEFORE)
_CANARIES = ctypes.create_string_buffer(bytes([CANARY]) * (_LEAD + MAX_OFFSET + 2 * _PAGE))
_CANARIES_AT = ctypes.addressof(_CANARIES)

# PyDLL keeps the interpreter lock: these calls are too short to release it.
_LIBC = ctypes.PyDLL(None)
_LIBC.memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]


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
        # (Operations on flags take as long as placing a buffer; on integers they take nothing.)
        bits = int(options)
        if bits & _AFTER:
            return cls.AT_END
        return cls.AT_START if bits & _BEFORE else cls.ALIGNED


def border_offset(place: int) -> int:
    """Return the offset with which the byte at ``place`` of a buffer is the first one of a page."""
    return -(_LEAD + place) % _PAGE


class ReadOnlyInput:
    """An input of one call, mapped read-only: nothing can change in its arena.

    Parameters
    ----------
    name, arena, data, placement, offset
        As of `GuardedBuffer`.
    """

    def __init__(
        self, name: str, arena: ReadOnlyArena, data: BytesLike, placement: Placement, offset: int
    ) -> None:
        self.name = name
        self.arena = arena
        self.length = len(data)
        self.address = _address(arena, self.length, placement, offset)
        ctypes.memset(arena.filled_at, CANARY, arena.size)
        ctypes.memmove(arena.filled_at + self.address - arena.start, address_of(data), self.length)

    def locate(self, address: int) -> str:
        """Describe where an address lies relative to the buffer; empty if not in its arena."""
        return _locate(self, address, ", mapped read-only")


def _address(arena: Arena, length: int, placement: Placement, offset: int) -> int:
    """Return where a buffer of so many bytes lies in its arena."""
    if placement is Placement.AT_END:
        return arena.end - length
    return arena.start if placement is Placement.AT_START else arena.start + _LEAD + offset


def _bytes(number: int) -> str:
    return "1 byte" if number == 1 else f"{number} bytes"


def _locate(buffer: PlacedBuffer, address: int, inside: str) -> str:
    """Describe where an address lies relative to a buffer; empty if not in its arena."""
    if not buffer.arena.covers(address):
        return ""
    place = address - buffer.address
    if place < 0:
        where = f"{_bytes(-place)} before its start"
    elif place < buffer.length:
        where = f"byte {place}{inside}"
    else:
        where = f"{_bytes(place - buffer.length)} after its end"
    return f"{buffer.name} ({_bytes(buffer.length)}): {where}"


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
        self.address = _address(arena, self.length, placement, offset)
        self._before = self.address - arena.start
        self._after = arena.end - self.address - self.length
        self._read_only = False
        if self._before + self._after + self.length <= _PAGE:
            ctypes.memset(arena.start, CANARY, _PAGE)
        else:
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
        behind = self.address + self.length
        before_is_same = same_bytes(self.arena.start, _CANARIES_AT, self._before)
        behind_is_same = same_bytes(behind, _CANARIES_AT, self._after)
        if before_is_same and behind_is_same:
            return ""
        places = []
        if not before_is_same:
            # The written byte nearest to the buffer is the most informative.
            before = ctypes.string_at(self.arena.start, self._before)
            intact = self._before - len(before.rstrip(bytes([CANARY])))
            places.append(f"{_bytes(intact + 1)} before its start")
        if not behind_is_same:
            place = first_difference(behind, _CANARIES_AT, self._after)
            places.append(f"{_bytes(place or 0)} after its end")
        return f"memory next to {self.name} was written, {' and '.join(places)}"

    def locate(self, address: int) -> str:
        """Describe where an address lies relative to the buffer; empty if not in its arena."""
        return _locate(self, address, ", mapped read-only" if self._read_only else "")


PlacedBuffer: TypeAlias = GuardedBuffer | ReadOnlyInput
"""A buffer of a call, wherever it lies."""


class Memory:
    """The arenas of a worker, reused from call to call."""

    def __init__(self) -> None:
        self._free: dict[int, list[Arena]] = {}
        self._free_read_only: dict[int, list[ReadOnlyArena]] = {}
        self._used: list[GuardedBuffer] = []
        self._inputs: list[ReadOnlyInput] = []
        self._maps_twice = True
        self._mapped = 0

    @property
    def buffers(self) -> tuple[PlacedBuffer, ...]:
        """The buffers of the current call."""
        return *self._used, *self._inputs

    def place(self, name: str, data: BytesLike, placement: Placement, offset: int = 0) -> GuardedBuffer:
        """Return a buffer with these bytes; see `GuardedBuffer`.

        Raises
        ------
        MemoryError
            The system has not enough memory.
        """
        pages = _pages(len(data), placement, offset)
        free = self._free.get(pages)
        if free:
            arena = free.pop()
        else:
            arena = Arena(pages)
            self._mapped += arena.size
        buffer = GuardedBuffer(name, arena, data, placement, offset)
        self._used.append(buffer)
        return buffer

    def place_read_only(
        self, name: str, data: BytesLike, placement: Placement, offset: int = 0
    ) -> ReadOnlyInput | None:
        """Return an input with these bytes that is mapped read-only; None where pages cannot be mapped twice.

        A call's other buffers are placed first.
        """
        if not self._maps_twice:
            return None
        pages = _pages(len(data), placement, offset)
        free = self._free_read_only.get(pages)
        if free:
            arena = free.pop()
        else:
            try:
                arena = ReadOnlyArena(pages)
            except MemoryError:
                self._maps_twice = False
                return None
            self._mapped += arena.size
        placed = ReadOnlyInput(name, arena, data, placement, offset)
        self._inputs.append(placed)
        return placed

    def release(self, keep: int = 0) -> None:
        """Release all buffers but the first ``keep`` ones: the same call gets the same addresses again."""
        for buffer in reversed(self._used[keep:]):
            buffer.make_writable()
            self._free.setdefault(buffer.arena.pages, []).append(buffer.arena)
        del self._used[keep:]
        if keep:
            return
        for each in reversed(self._inputs):
            self._free_read_only.setdefault(each.arena.pages, []).append(each.arena)
        self._inputs.clear()
        if self._mapped > _KEEP:
            for free in (self._free, self._free_read_only):
                for arena in (arena for arenas in free.values() for arena in arenas):
                    arena.unmap()
                free.clear()
            self._mapped = 0


def _pages(length: int, placement: Placement, offset: int) -> int:
    """Return the pages of an arena for so many bytes."""
    size = length + (2 * _LEAD + offset if placement is Placement.ALIGNED else 0)
    return max(1, -(-size // _PAGE))
