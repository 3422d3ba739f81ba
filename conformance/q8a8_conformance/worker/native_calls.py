"""Chains of C calls that run without the interpreter.

Every return into Python waits for the interpreter lock, so the short calls of several Python threads hardly
ever overlap, and shared state in a kernel goes unnoticed. Here the calls of a thread are chained in C: each
has a context (`makecontext`) that is linked to the next, and one `swapcontext` runs them all while the lock
is released. Functions of the C library before and after the kernel's let it wait for other threads, and note
the time::

    swapcontext → sem_wait → clock_gettime → kernel(…) → clock_gettime → sem_post → … → back

The contexts of a chain share one stack. `makecontext` stores its data at the top of a context's stack, so the
tops rise from call to call: a running call does not reach the data of later ones. A context has a signal mask
of its own, so a signal can be admitted during the kernel's call alone. `swapcontext` restores the
floating-point environment, so changes of it are not detected here, but in calls made one by one.
"""

from __future__ import annotations

import ctypes
import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from q8a8_conformance.worker.arenas import Arena

if TYPE_CHECKING:
    from collections.abc import Sequence

_CONTEXT_SIZES = {"x86_64": 1024, "aarch64": 4608}
"""Space for a `ucontext_t`, which has 968 and 4560 bytes: the machines on which chains are known to work."""
_LINK, _STACK, _STACK_SIZE = 8, 16, 32
"""Offsets in glibc's `ucontext_t`: uc_link, uc_stack.ss_sp, uc_stack.ss_size."""
_RISE = 512
"""Bytes by which the top of the stack rises per call: a return address, a link and arguments."""
STACK_BYTES = 2**23
"""The stack that each call of a chain has at least."""
STOP_SIGNAL = signal.SIGRTMAX - 3
"""Blocked in all calls but those that are `stoppable`."""
_LIBRARY = ctypes.PyDLL(None)


@dataclass(frozen=True)
class NativeCall:
    """A C function and its arguments, at most 8, all integers or addresses."""

    function: int
    arguments: tuple[int, ...]
    stoppable: bool = False


def available() -> bool:
    """Return whether this machine and its C library support chains."""
    return os.uname().machine in _CONTEXT_SIZES and hasattr(ctypes.PyDLL(None), "makecontext")


def library_call(name: str, *arguments: int) -> NativeCall:
    """Return a call of a function of the C library."""
    return NativeCall(address_of_function(name), arguments)


def address_of_function(name: str) -> int:
    """Return the address of a function of the C library."""
    return ctypes.cast(getattr(_LIBRARY, name), ctypes.c_void_p).value or 0


class Stack:
    """The stack of a thread's chains, mapped as it is used, between two guard pages.

    Raises
    ------
    MemoryError
        The system has not enough memory.
    """

    def __init__(self, calls: int = 512) -> None:
        page = os.sysconf("SC_PAGESIZE")
        self.calls = calls
        self.arena = Arena((STACK_BYTES + _RISE * (calls + 8)) // page + 1)


class CallChain:
    """A chain of calls, to be run once by any thread.

    Parameters
    ----------
    calls : sequence of NativeCall
        At most as many as the stack is for.
    stack : Stack
        The stack, in use by no other thread.
    """

    def __init__(self, calls: Sequence[NativeCall], stack: Stack) -> None:
        if len(calls) > stack.calls:
            raise ValueError(f"{len(calls)} calls on a stack for {stack.calls}")
        self._stack = stack  # whose pages stay mapped as long as it is held
        self._swap = ctypes.CDLL(None).swapcontext  # CDLL: releases the interpreter lock
        self._size = _CONTEXT_SIZES[os.uname().machine]
        self._memory = ctypes.create_string_buffer((len(calls) + 1) * self._size + 16)
        base = ctypes.addressof(self._memory)
        self._base = base + -base % 16
        self._count = len(calls)
        top = stack.arena.size - _RISE * len(calls)
        for index, call in enumerate(calls):
            self._add(index, call, stack.arena.start, top + _RISE * index)

    def run(self) -> None:
        """Make the calls."""
        self._swap(ctypes.c_void_p(self._context(self._count)), ctypes.c_void_p(self._context(0)))

    def _add(self, index: int, call: NativeCall, bottom: int, size: int) -> None:
        """Make the context of one call; it takes over the signal mask that is set at this time."""
        context = self._context(index)
        signal.pthread_sigmask(signal.SIG_UNBLOCK if call.stoppable else signal.SIG_BLOCK, {STOP_SIGNAL})
        _LIBRARY.getcontext(ctypes.c_void_p(context))
        if call.stoppable:
            signal.pthread_sigmask(signal.SIG_BLOCK, {STOP_SIGNAL})
        link = self._context(index + 1)
        for offset, value in ((_LINK, link), (_STACK, bottom), (_STACK_SIZE, size)):
            ctypes.c_uint64.from_address(context + offset).value = value
        arguments = [ctypes.c_uint64(argument) for argument in call.arguments]
        _LIBRARY.makecontext(
            ctypes.c_void_p(context), ctypes.c_void_p(call.function), len(arguments), *arguments
        )

    def _context(self, index: int) -> int:
        return self._base + index * self._size
