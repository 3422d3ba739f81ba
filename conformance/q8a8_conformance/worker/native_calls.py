"""Chains of C calls that run without the interpreter and start at the same time in several threads.

Every return into Python waits for the interpreter lock, so the short calls of several Python threads hardly
ever overlap, and shared state in a kernel goes unnoticed. Here the calls of a thread are chained in C: each
has a context (`makecontext`) that is linked to the next, the first waits at a barrier for the other threads,
and one `swapcontext` runs them all while the lock is released::

    swapcontext → pthread_barrier_wait → kernel(…) → kernel(…) → … → back

The contexts of a chain share one stack. `makecontext` stores its data at the top of a context's stack, so the
tops rise from call to call: a running call does not reach the data of later ones. `swapcontext` restores the
floating-point environment, so changes of it are not detected here, but in calls made one by one.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from q8a8_conformance.worker.memory import Arena
from q8a8_conformance.worker.preemption import Preemption

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_CONTEXT_SIZE = 8192
"""Space for a `ucontext_t`; aarch64's has 4560 bytes."""
_LINK, _STACK, _STACK_SIZE = 8, 16, 32
"""Offsets in glibc's `ucontext_t`: uc_link, uc_stack.ss_sp, uc_stack.ss_size."""
_RISE = 512
"""Bytes by which the top of the stack rises per call: a return address, a link and arguments."""
_STACK_PAGES = 512
_BARRIER_SIZE = 64
"""Space for a `pthread_barrier_t`; glibc's has 32 bytes."""
_MACHINES = ("x86_64", "aarch64")
MAX_CALLS = 64
"""The largest number of calls in a chain."""


@dataclass(frozen=True)
class NativeCall:
    """A C function and its arguments, at most 8, all integers or addresses."""

    function: int
    arguments: tuple[int, ...]


def available() -> bool:
    """Return whether this machine and its C library support chains."""
    return os.uname().machine in _MACHINES and hasattr(ctypes.PyDLL(None), "makecontext")


class CallChain:
    """The stack and contexts for one thread's chain of calls.

    Raises
    ------
    MemoryError
        The system has not enough memory for the stack.
    """

    def __init__(self) -> None:
        self._library = ctypes.PyDLL(None)
        self._swap = ctypes.CDLL(None).swapcontext  # CDLL: releases the interpreter lock
        self._stack = Arena(_STACK_PAGES)
        self._memory = ctypes.create_string_buffer((MAX_CALLS + 2) * _CONTEXT_SIZE + 16)
        base = ctypes.addressof(self._memory)
        self._base = base + -base % 16

    def run(self, calls: Sequence[NativeCall]) -> None:
        """Make the calls: at most `MAX_CALLS`, and the wait at the barrier before them."""
        home = self._context(len(calls))
        bottom = self._stack.start
        top = self._stack.size - _RISE * len(calls)
        for index, call in enumerate(calls):
            context = self._context(index)
            self._library.getcontext(ctypes.c_void_p(context))
            link = self._context(index + 1)
            for offset, value in ((_LINK, link), (_STACK, bottom), (_STACK_SIZE, top + _RISE * index)):
                ctypes.c_uint64.from_address(context + offset).value = value
            arguments = [ctypes.c_uint64(argument) for argument in call.arguments]
            self._library.makecontext(
                ctypes.c_void_p(context), ctypes.c_void_p(call.function), len(arguments), *arguments
            )
        self._swap(ctypes.c_void_p(home), ctypes.c_void_p(self._context(0)))

    def _context(self, index: int) -> int:
        return self._base + index * _CONTEXT_SIZE


class ConcurrentChains:
    """The chains of several threads, reused from call to call."""

    def __init__(self) -> None:
        self._library = ctypes.PyDLL(None)
        self._preemption = Preemption()
        self._chains: list[CallChain] = []

    @contextmanager
    def barrier(self, threads: int) -> Iterator[Callable[[int, Sequence[NativeCall]], None]]:
        """Yield a function that each of `threads` threads calls with its number and its chain of calls.

        Every thread must call it equally often: the chains start when all threads have called it.
        """
        self._chains += [CallChain() for _ in range(threads - len(self._chains))]
        barrier = ctypes.create_string_buffer(_BARRIER_SIZE)
        self._library.pthread_barrier_init(barrier, None, threads)
        address = ctypes.cast(self._library.pthread_barrier_wait, ctypes.c_void_p).value or 0
        wait = NativeCall(address, (ctypes.addressof(barrier),))

        def run(number: int, calls: Sequence[NativeCall]) -> None:
            self._preemption.admit()
            self._chains[number].run([wait, *calls])

        with self._preemption:
            yield run
        self._library.pthread_barrier_destroy(barrier)
