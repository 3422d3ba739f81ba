"""Many equal calls in a row: each result is compared with the first one's, and allocated memory counted."""

from __future__ import annotations

import ctypes
import gc
import mmap
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from q8a8_conformance.worker.convention import BoundCall

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from q8a8_conformance.worker.memory import GuardedBuffer

_KEPT_BYTES = 16
"""Bytes kept per call that count: the least that an allocation takes."""
_PARTS = 4
"""Memory must grow in each of so many parts of the calls: what the worker needs itself is there sooner."""
_LEAST_GROWTH = 2**16
"""Bytes that a part must keep at least: the system and the interpreter allocate a little too."""
_LEAST_ALLOCATED, _ENOUGH_CALLS = 2**11, 500
"""The same of `malloc` alone, of so many calls: of long rows few are made, but what each keeps adds up."""
_ENOUGH_THREADS = 150
"""The same, of calls in threads that end."""
_TOTALS = ('<total type="fast"', '<total type="rest"', '<total type="mmap"', '<system type="current"')
"""Elements of the C library's report: what is free, in two kinds; mapped; and taken from the system."""


def _allocated() -> int:
    """Return the bytes in use by `malloc`, in the arenas of all threads; 0 where there is no report."""
    library = ctypes.PyDLL(None)
    if not hasattr(library, "malloc_info"):
        return 0
    library.open_memstream.restype = ctypes.c_void_p
    text, length = ctypes.c_char_p(), ctypes.c_size_t()
    address = library.open_memstream(ctypes.byref(text), ctypes.byref(length))
    if not address:
        return 0
    stream = ctypes.c_void_p(address)
    library.malloc_info(0, stream)
    library.fclose(stream)
    fast, rest, mapped, taken = (_last_size(text.value or b"", begin.encode()) for begin in _TOTALS)
    library.free(text)
    return taken - fast - rest + mapped


def _last_size(report: bytes, begin: bytes) -> int:
    """Return the size in the last element that begins so: those of all arenas stand at the end."""
    return int(report.rpartition(begin)[2].partition(b'size="')[2].partition(b'"')[0] or 0)


def _mapped() -> int:
    """Return the bytes of address space in use; 0 where the system does not tell."""
    with suppress(OSError, ValueError):
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * mmap.PAGESIZE
    return 0


class ManyCalls:
    """Makes equal calls in a row.

    Parameters
    ----------
    step
        Makes one call.
    outputs
        Its output buffers.
    first
        Their bytes after the first call.
    between
        Makes another call, before each of them.
    in_threads
        Whether each call is one of a thread that ends.

    Attributes
    ----------
    done
        Calls made.
    differs
        Whether the last call's outputs differ from the first call's; none is made after it.
    kept
        What the calls keep allocated, as text; empty for nothing.
    """

    def __init__(
        self,
        step: Callable[[], object],
        outputs: Sequence[GuardedBuffer],
        first: Sequence[bytes],
        between: Callable[[], object] | None = None,
        *,
        in_threads: bool = False,
    ) -> None:
        self._in_threads = in_threads
        self._enough = _ENOUGH_THREADS if in_threads else _ENOUGH_CALLS
        self.done = 0
        self.differs = False
        self.kept = ""
        self._step = step
        self._between = between
        self._buffers = []
        for output, found in zip(outputs, first, strict=False):  # more buffers than one call's
            output.refill()
            if output.length:
                space = (ctypes.c_char * output.length).from_address(output.address)
                self._buffers.append((space, output.read(), found))

    def run(self, calls: int) -> None:
        """Make so many calls, in parts: what all parts allocate grows on and on."""
        grown = []
        each = calls // _PARTS
        for part in (*[each] * (_PARTS - 1), calls - each * (_PARTS - 1)):
            before = self._in_use()
            if not self._run(part):
                return
            grown.append([now - old for now, old in zip(self._in_use(), before, strict=True)])
        allocated = _LEAST_ALLOCATED if calls >= self._enough else _LEAST_GROWTH
        limits = {"allocated": allocated, "mapped": _LEAST_GROWTH}
        for (name, least), *growth in zip(limits.items(), *grown, strict=True):
            if min(growth) >= max(least, _KEPT_BYTES * each):
                self.kept = f"{name} memory grows by {sum(growth) / calls:.0f} bytes a call, in {calls} calls"
                return

    def _in_use(self) -> tuple[int, int]:
        """Return the bytes that are allocated, and mapped."""
        if self._in_threads:
            gc.collect()  # (What the interpreter keeps of a thread that has ended is some 35 bytes.)
        return _allocated(), _mapped()

    def _run(self, calls: int) -> bool:
        """Make so many calls; return False after one with another result."""
        if isinstance(self._step, BoundCall) and self._between is None:
            made = self._step.many([(ctypes.addressof(s), old, new) for s, old, new in self._buffers], calls)
            self.done += abs(made)
            self.differs = made < 0
            return not self.differs
        step, buffers = self._step, self._buffers
        for number in range(1, calls + 1):
            if self._between:
                self._between()
            for space, given, _ in buffers:
                space.raw = given
            step()
            for space, _, found in buffers:
                if space.raw != found:
                    self.done += number
                    self.differs = True
                    return False
        self.done += calls
        return True
