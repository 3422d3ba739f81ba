"""The crash report of a worker whose kernel faults: the function, and the byte of the buffer.

The handler runs Python inside a signal handler. That is sound only because the fault is raised by the
kernel's own instruction, not inside the interpreter. A kernel that has corrupted the heap may fault inside
`malloc`, where the handler would deadlock: so the signal's name is written first, and an alarm ends the
process if the rest does not finish. After a stack overflow the handler cannot run, and nothing is printed.
`abort` is not handled, because the C library calls it with locks held and prints its own message. The report
is for readers: the verdict depends on the exit status alone. After the handler returns, the instruction
faults again, with the default action.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

from q8a8_conformance.worker.native_calls import STOP_SIGNAL

if TYPE_CHECKING:
    from collections.abc import Callable

_SA_SIGINFO = 0x4
_SI_ADDR = 16
"""Offset of the faulting address in Linux's 64-bit `siginfo_t`."""
_X86_REG_ERR = 40 + 19 * 8
"""Offset of the page fault's error code in x86-64's `ucontext_t`."""
_X86_WRITE = 2
_REPORT_SECONDS = 2
"""Seconds that the report may take."""
_SIGNALS = (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)
_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


class _SigAction(ctypes.Structure):
    _fields_ = (
        ("handler", _HANDLER),
        ("mask", ctypes.c_uint8 * 128),
        ("flags", ctypes.c_uint32),
        ("restorer", ctypes.c_void_p),
    )


_keep: list[object] = []


def report_faults(explain: Callable[[int], str]) -> None:
    """Print one line to standard error when a fault ends this process.

    Parameters
    ----------
    explain : callable
        Takes the faulting address; returns text about the current call and the buffer at that address.
    """
    if not sys.platform.startswith("linux") or sys.maxsize < 2**32:
        return
    x86 = os.uname().machine == "x86_64"
    names = {int(number): number.name.encode() for number in _SIGNALS}
    libc = ctypes.CDLL(None)
    reporting = threading.Lock()

    def handler(number: int, info: int, context: int) -> None:
        libc.alarm(_REPORT_SECONDS)
        if not reporting.acquire(blocking=False):  # another thread faulted first and will end the process
            time.sleep(_REPORT_SECONDS)
            return
        try:
            report(number, info, context)
        finally:
            for other in _SIGNALS:
                libc.signal(other, None)  # None, a null pointer, is SIG_DFL

    def report(number: int, info: int, context: int) -> None:
        os.write(2, names[number])
        address = ctypes.c_uint64.from_address(info + _SI_ADDR).value
        access = ""
        if x86 and number == signal.SIGSEGV:
            error = ctypes.c_uint64.from_address(context + _X86_REG_ERR).value
            access = " (write)" if error & _X86_WRITE else " (read)"
        has_address = number in (signal.SIGSEGV, signal.SIGBUS)
        text = f"{access}: {explain(address if has_address else 0)}\n"
        os.write(2, text.encode("utf-8", "replace"))

    action = _SigAction(_HANDLER(handler), flags=_SA_SIGINFO)
    # A thread that stopped here would keep the interpreter lock (see q8a8_conformance.worker.stopping).
    action.mask[(STOP_SIGNAL - 1) // 8] = 1 << (STOP_SIGNAL - 1) % 8
    for number in _SIGNALS:
        libc.sigaction(number, ctypes.byref(action), None)
    _keep.append(action)
