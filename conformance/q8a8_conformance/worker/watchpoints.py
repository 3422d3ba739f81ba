"""Accesses next to buffers that neither fault nor change a byte, counted by the processor's watchpoints.

A kernel may read beyond a row wherever that crosses no page, or store what it has loaded beside an output: no
guard page and no canary shows it. The four watchpoints of an x86-64 processor count accesses to up to eight
bytes each; Linux gives them to an unprivileged process (`perf_event_open`) where it may count its own events.

A masked load touches no byte that its mask leaves out, and yet some processors (AMD's, for AVX2's) count it.
Reads are therefore judged by two calls alike but for the pages: what is read in the middle of a page, and not
where a page begins there, is chosen by the address, and read in truth. Masked stores are counted nowhere.
"""

from __future__ import annotations

import ctypes
import os
import struct
from contextlib import ExitStack, suppress
from functools import cache
from typing import TYPE_CHECKING

from q8a8_conformance.protocol.messages import Fault, Result
from q8a8_conformance.worker.caller import Findings, call_in_environment
from q8a8_conformance.worker.memory import Placement, border_offset

if TYPE_CHECKING:
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.worker.fenv import FloatingPoint
    from q8a8_conformance.worker.memory import GuardedBuffer
    from q8a8_conformance.worker.placing import Placer

WATCHED = 4
"""Watchpoints of a processor."""

_PERF_EVENT_OPEN = 298
_BREAKPOINT, _EXCLUDE_KERNEL, _WRITES, _ACCESSES = 5, 0x20, 2, 3
_ATTRIBUTES = struct.Struct("<II4QQIIQQ")  # of version 1, 72 bytes
_HALF_PAGE = os.sysconf("SC_PAGESIZE") // 2
_LIBC = ctypes.PyDLL(None, use_errno=True)


class Watchpoint:
    """Counts what this thread does to the bytes at an address, from now on.

    Parameters
    ----------
    address, length : int
        The bytes: 1, 2, 4 or 8, at a multiple of their number.
    writes : bool
        Whether writes alone count, or reads too.

    Raises
    ------
    OSError
        The system gives no watchpoint.
    """

    def __init__(self, address: int, length: int, *, writes: bool) -> None:
        kind = _WRITES if writes else _ACCESSES
        attributes = ctypes.create_string_buffer(
            _ATTRIBUTES.pack(
                *(_BREAKPOINT, _ATTRIBUTES.size, 0, 0, 0, 0, _EXCLUDE_KERNEL), 0, kind, address, length
            )
        )
        arguments = (_PERF_EVENT_OPEN, ctypes.addressof(attributes), 0, -1, -1, 0)
        self._descriptor = _LIBC.syscall(*map(ctypes.c_long, arguments))
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "perf_event_open")

    def count(self) -> int:
        """Return how many accesses there were."""
        return int.from_bytes(os.read(self._descriptor, 8), "little")

    def close(self) -> None:
        """Give the watchpoint back."""
        os.close(self._descriptor)


@cache
def available() -> bool:
    """Return whether accesses are counted here: a read of a byte is, and one of the byte before is not."""
    if os.uname().machine != "x86_64":
        return False
    data = ctypes.create_string_buffer(16)
    watched = ctypes.addressof(data) + 8
    with suppress(OSError):
        found = []
        for place in (watched - 1, watched):
            point = Watchpoint(watched, 1, writes=False)
            ctypes.string_at(place, 1)
            found.append(point.count())
            point.close()
        return found[0] == 0 < found[1]
    return False


class WatchedCalls:
    """Makes calls while the bytes next to their buffers are watched.

    Parameters
    ----------
    placer : Placer
        Of the target; its memory is released after the call.
    floating_point : FloatingPoint or None
        Access to the floating-point environment.
    """

    def __init__(self, placer: Placer, floating_point: FloatingPoint | None) -> None:
        self._placer = placer
        self._floating_point = floating_point

    def run(self, call: Call) -> Result:
        """Make a call four times: where each buffer ends, or begins, with a page, and in a page's middle.

        Raises
        ------
        CannotCall
            The system gives no watchpoint, or a Python kernel raised an exception.
        """
        findings = Findings()
        outputs: tuple[bytes, ...] = ()
        for behind in (True, False):
            at_page, inside = (
                self._accesses(call, findings, behind=behind, shift=s) for s in (0, _HALF_PAGE)
            )
            outputs = outputs or inside[1]
            for (name, side, writes), count in inside[0].items():
                at_border = at_page[0][name, side, writes]
                if writes and (count or at_border):
                    text = f"bytes next to {name} were written, with what they held, {side}"
                    findings.note(Fault.WROTE_OUTSIDE, text)
                elif count and not at_border:
                    text = f"bytes next to {name} were read, {side}, where that crosses no page"
                    findings.note(Fault.READ_OUTSIDE, text)
        return Result(findings.faults, findings.detail, outputs)

    def _accesses(
        self, call: Call, findings: Findings, *, behind: bool, shift: int
    ) -> tuple[dict[tuple[str, str, bool], int], tuple[bytes, ...]]:
        """Make a call; return the accesses by buffer, side and whether they are writes, and its outputs."""
        memory = self._placer.memory
        buffers = []
        for spec, given in zip(call.spec.buffers, call.buffers, strict=True):
            offset = border_offset(len(given.data) if behind else 0) + shift
            buffers.append(memory.place(spec.name, given.data, Placement.ALIGNED, offset))
        outputs = [buffers[index] for index in call.spec.outputs]
        sides = [(each, behind) for each in buffers]
        sides.append((outputs[-1 if not behind else 0], not behind))
        step = self._placer.target.bind(call, buffers)
        with ExitStack() as stack:
            points = {}
            for buffer, after in sides[:WATCHED]:
                writes = buffer in outputs
                point = _beside(buffer, after=after, writes=writes)
                stack.callback(point.close)
                points[buffer.name, "after its end" if after else "before its start", writes] = point
            changed = call_in_environment(step, self._floating_point)
            counts = {key: point.count() for key, point in points.items()}
        findings.note(*changed)
        findings.add_inputs([buffers[index] for index in call.spec.inputs])
        findings.add_outputs(outputs)
        found = tuple(buffer.read() for buffer in outputs)
        memory.release()
        return counts, found


def _beside(buffer: GuardedBuffer, *, after: bool, writes: bool) -> Watchpoint:
    """Watch the bytes next to a buffer: as many as its border is aligned to, up to 8."""
    border = buffer.address + (buffer.length if after else 0)
    length = min(border & -border, 8)
    return Watchpoint(border if after else border - length, length, writes=writes)
