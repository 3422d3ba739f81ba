"""Stopping a thread in the middle of a C call, for as long as other threads need for theirs.

The place is the first access to a closed page of a buffer, which faults, the moment at which a timer runs
out, or, on x86-64, any of the call's instructions, of which the processor's trap flag counts so many. In each
case the signal's handler ends in the C function `pause`, which waits for another signal: no handler may run
Python here, because the call may be interrupted anywhere, in `malloc` too. Where a thread stands is read from
``/proc``.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import re
import signal
import struct
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

from q8a8_conformance.worker.native_calls import STOP_SIGNAL, NativeCall, address_of_function, library_call

_WAKE_SIGNAL = signal.SIGRTMAX - 4
_SA_RESTART = 0x1000_0000
_CLOCK_MONOTONIC = 1
_SIGEV_THREAD_ID = 4
_SYSCALLS = {
    "x86_64": {"timer_create": 222, "timer_settime": 223, "timer_delete": 226, "tgkill": 234},
    "aarch64": {"timer_create": 107, "timer_settime": 110, "timer_delete": 111, "tgkill": 131},
}
"""Numbers of system calls; before glibc 2.34 the timers' functions are in another library."""
_BLOCKED = re.compile(rb"^SigBlk:\s*([0-9a-f]+)$", re.MULTILINE)
_PROT_NONE, _PROT_READ, _PROT_WRITE = 0, 1, 2
_PAGE = os.sysconf("SC_PAGESIZE")


class _SigAction(ctypes.Structure):
    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_uint8 * 128),
        ("flags", ctypes.c_uint32),
        ("restorer", ctypes.c_void_p),
    )


class _SigEvent(ctypes.Structure):
    _fields_ = (
        ("value", ctypes.c_void_p),
        ("number", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("thread", ctypes.c_int),
        ("padding", ctypes.c_uint8 * 44),
    )


class Stepper:
    """Machine code that stops calls after a number of instructions, on x86-64.

    Raises
    ------
    OSError
        The system allows no executable page.
    """

    _HANDLER, _OFF, _FIRST = 16, 80, 128
    """Places on the page: of the handler, of what ends the counting, and of the first function's entry."""

    def __init__(self) -> None:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self._page = mmap.mmap(-1, _PAGE, flags, mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self._start = ctypes.addressof(ctypes.c_char.from_buffer(self._page))
        self._entries: dict[int, int] = {}
        self._put(
            self._HANDLER,  # void handler(int, siginfo_t *, ucontext_t * /* rdx */)
            b"\xff\x0d" + struct.pack("<i", -self._HANDLER - 6),  # dec dword [rip - ...]: the count
            bytes.fromhex("7f 22 7c 16"),  # jg out; jl over
            bytes.fromhex("81 a2 b0 00 00 00 ff fe ff ff"),  # and dword [rdx + 176], ~0x100: no more traps
            b"\x48\xb8" + struct.pack("<Q", address_of_function("pause")),  # mov rax, pause
            bytes.fromhex("ff e0"),  # jmp rax
            bytes.fromhex("81 a2 b0 00 00 00 ff fe ff ff"),  # over (a thread of the kernel's): the same and
            b"\xc3",  # out: ret
        )
        # pushfq; and dword [rsp], ~0x100; popfq; ret
        self._put(self._OFF, bytes.fromhex("9c 81 24 24 ff fe ff ff 9d c3"))

    def _put(self, place: int, *parts: bytes) -> None:
        code = b"".join(parts)
        self._page[place : place + len(code)] = code

    @property
    def handler(self) -> int:
        """The address of the handler of traps."""
        return self._start + self._HANDLER

    @property
    def off(self) -> NativeCall:
        """The call that ends the counting in its thread."""
        return NativeCall(self._start + self._OFF, ())

    def stop_after(self, instructions: int) -> None:
        """Have the next counted call stop after so many of its instructions."""
        self._page[:4] = struct.pack("<i", instructions + 2)  # (and two of the entry)

    def counted(self, call: NativeCall) -> NativeCall:
        """Return a call whose instructions count, until `off`."""
        if call.function not in self._entries:
            place = self._FIRST + 32 * len(self._entries)
            self._put(
                place,
                bytes.fromhex("9c 81 0c 24 00 01 00 00 9d"),  # pushfq; or dword [rsp], 0x100; popfq
                b"\x49\xbb" + struct.pack("<Q", call.function),  # mov r11, function
                bytes.fromhex("41 ff e3"),  # jmp r11
            )
            self._entries[call.function] = self._start + place
        return NativeCall(self._entries[call.function], call.arguments, call.stoppable)


class Stopper:
    """The signals, timers and closed pages by which threads are stopped; one in a process."""

    def __init__(self) -> None:
        self._library = ctypes.PyDLL(None, use_errno=True)
        self._numbers = _SYSCALLS[os.uname().machine]
        self._fault_action = _SigAction()
        self._page = 0
        self._times: list[ctypes.Array[ctypes.c_long]] = []
        self._stepper: Stepper | None = None
        if os.uname().machine == "x86_64":
            with suppress(OSError):
                self._stepper = Stepper()
        signal.pthread_sigmask(signal.SIG_BLOCK, {STOP_SIGNAL})
        self._install(STOP_SIGNAL, "pause", 0)
        self._install(_WAKE_SIGNAL, "sched_yield", _SA_RESTART)

    def _install(self, number: int, function: str, flags: int, old: _SigAction | None = None) -> None:
        action = _SigAction(address_of_function(function), flags=flags)
        if number == _WAKE_SIGNAL:  # a stop that began within its handler could not be ended
            action.mask[(STOP_SIGNAL - 1) // 8] = 1 << (STOP_SIGNAL - 1) % 8
        self._library.sigaction(number, ctypes.byref(action), ctypes.byref(old) if old else None)

    def close(self, address: int) -> None:
        """Close the page of an address: a thread that faults stops there. `open` ends it."""
        self._install(signal.SIGSEGV, "pause", 0, self._fault_action)
        self._page = address - address % _PAGE
        self._library.mprotect(ctypes.c_void_p(self._page), ctypes.c_size_t(_PAGE), _PROT_NONE)

    def open(self, *, writable: bool) -> None:
        """Open the page again, if one is closed, and leave faults to the handler from before.

        A thread that was stopped by another fault than the page's meets it again when it is woken.
        """
        if self._page:
            access = _PROT_READ | (_PROT_WRITE if writable else 0)
            self._library.mprotect(ctypes.c_void_p(self._page), ctypes.c_size_t(_PAGE), access)
            self._library.sigaction(signal.SIGSEGV, ctypes.byref(self._fault_action), None)
            self._page = 0

    @contextmanager
    def stepping(self) -> Iterator[Stepper | None]:
        """Yield what stops calls after some instructions, while traps are its; None where there is none."""
        if self._stepper is None:
            yield None
            return
        before = _SigAction()
        action = _SigAction(self._stepper.handler)
        self._library.sigaction(signal.SIGTRAP, ctypes.byref(action), ctypes.byref(before))
        try:
            yield self._stepper
        finally:
            self._library.sigaction(signal.SIGTRAP, ctypes.byref(before), None)

    def timer(self, thread: int) -> int:
        """Create a timer whose signal stops a thread; return its number, or -1 where there is none."""
        event = _SigEvent(number=STOP_SIGNAL, notify=_SIGEV_THREAD_ID, thread=thread)
        number = ctypes.c_int(-1)
        self._call("timer_create", _CLOCK_MONOTONIC, ctypes.addressof(event), ctypes.addressof(number))
        return number.value

    def delete_timer(self, timer: int) -> None:
        """Delete a timer."""
        self._call("timer_delete", timer)
        self._times.clear()

    def set_timer(self, timer: int, nanoseconds: int) -> NativeCall:
        """Return the call that sets a timer; 0 switches it off."""
        times = (ctypes.c_long * 4)(0, 0, *divmod(nanoseconds, 10**9))
        self._times.append(times)
        number = self._numbers["timer_settime"]
        return library_call("syscall", number, timer, 0, ctypes.addressof(times), 0)

    def wake(self, thread: int) -> None:
        """End a thread's stop; does nothing to one that is not stopped."""
        self._call("tgkill", os.getpid(), thread, _WAKE_SIGNAL)

    def wake_all(self) -> None:
        """End the stop of whatever thread: the kernel may have threads of its own."""
        with suppress(OSError):
            for entry in Path("/proc/self/task").iterdir():
                if int(entry.name) != os.getpid():
                    self.wake(int(entry.name))

    def _call(self, name: str, *arguments: int) -> None:
        words = [ctypes.c_long(word) for word in (self._numbers[name], *arguments)]
        self._library.syscall(*words)


def cannot_stop(threads: Iterable[int]) -> bool:
    """Return whether one of some threads now blocks a signal by which it would be stopped, or let go on.

    A fault that is blocked ends the process.
    """
    needed = 1 << (signal.SIGSEGV - 1) | 1 << (_WAKE_SIGNAL - 1)
    for thread in threads:
        with suppress(OSError):
            found = _BLOCKED.search(Path(f"/proc/self/task/{thread}/status").read_bytes())
            if found and int(found[1], 16) & needed:
                return True
    return False


def sleeps(thread: int) -> bool:
    """Return whether the system says that a thread sleeps; False where it says nothing."""
    try:
        text = Path(f"/proc/self/task/{thread}/stat").read_bytes()
    except OSError:
        return False
    return text[text.rfind(b")") + 2 :][:1] == b"S"
