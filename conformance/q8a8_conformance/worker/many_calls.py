"""Many equal calls in a row: each result is compared with the first one's, and allocated memory counted."""

from __future__ import annotations

import ctypes
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
_ARENA_MAX = -8
"""Of glibc's ``malloc.h``: the most arenas."""
_FIELDS = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks")


class _Statistics(ctypes.Structure):
    """The C library's `struct mallinfo2`."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in (*_FIELDS, "keepcost"))


def use_one_arena() -> None:
    """Have all threads of this process allocate where `mallinfo2` counts: in the C library's main arena."""
    with suppress(AttributeError):  # (Another C library has neither.)
        ctypes.PyDLL(None).mallopt(_ARENA_MAX, 1)


def _allocated() -> int:
    """Return the bytes in use by `malloc`; 0 where the C library does not count them."""
    function = getattr(ctypes.PyDLL(None), "mallinfo2", None)
    if function is None:
        return 0
    function.restype = _Statistics
    found = function()
    return int(found.uordblks + found.hblkhd)


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
    ) -> None:
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
            before = (_allocated(), _mapped())
            if not self._run(part):
                return
            grown.append([now - old for now, old in zip((_allocated(), _mapped()), before, strict=True)])
        allocated = _LEAST_ALLOCATED if calls >= _ENOUGH_CALLS else _LEAST_GROWTH
        limits = {"allocated": allocated, "mapped": _LEAST_GROWTH}
        for (name, least), *growth in zip(limits.items(), *grown, strict=True):
            if min(growth) >= max(least, _KEPT_BYTES * each):
                self.kept = f"{name} memory grows by {sum(growth) / calls:.0f} bytes a call, in {calls} calls"
                return

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
