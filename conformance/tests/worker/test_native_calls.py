"""Chains of C calls run in order, on one stack, at the same time as other threads' chains."""

from __future__ import annotations

import ctypes
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.worker.native_calls import MAX_CALLS, CallChain, ConcurrentChains, NativeCall, available
from q8a8_conformance.worker.preemption import Preemption

if TYPE_CHECKING:
    from collections.abc import Callable

LIBRARY = ctypes.CDLL(None)


@pytest.fixture(autouse=True)
def _chains_available(need: Callable[[object, str], None]) -> None:
    """Require a C library with makecontext."""
    need(available(), "this C library has no makecontext")


def native(name: str, *arguments: int) -> NativeCall:
    """Return a call of a C library function."""
    return NativeCall(ctypes.cast(getattr(LIBRARY, name), ctypes.c_void_p).value or 0, arguments)


def test_calls_run_in_order() -> None:
    """The calls of a chain run in order, up to the longest chain, and a chain can be reused."""
    text = ctypes.create_string_buffer(200)
    letters = ctypes.create_string_buffer(bytes(range(65, 65 + MAX_CALLS)))
    address, first = ctypes.addressof(text), ctypes.addressof(letters)
    chain = CallChain()
    for count in (1, 2, MAX_CALLS):
        text.value = b""
        chain.run([native("strncat", address, first + index, 1) for index in range(count)])
        assert text.value == letters.value[:count]


def test_many_arguments_arrive() -> None:
    """More arguments than fit in registers are passed correctly."""
    text = ctypes.create_string_buffer(200)
    pattern = ctypes.create_string_buffer(b"%d %d %d %d %d")
    arguments = (ctypes.addressof(text), 200, ctypes.addressof(pattern), 4, 5, 6, 7, 8)
    CallChain().run([native("snprintf", *arguments), native("strlen", arguments[0])])
    assert text.value == b"4 5 6 7 8"


def test_threads_wait_for_each_other() -> None:
    """No thread's calls start before all threads have reached the barrier."""
    text = ctypes.create_string_buffer(10)
    address = ctypes.addressof(text)
    chains = ConcurrentChains()
    for _ in range(3):
        ctypes.memset(address, 0, 10)
        with chains.barrier(3) as run:
            threads = [
                threading.Thread(target=run, args=(number, [native("memset", address + number, 65, 1)]))
                for number in range(3)
            ]
            for thread in threads[:2]:
                thread.start()
            time.sleep(0.05)
            assert text.raw == bytes(10)
            threads[2].start()
            for thread in threads:
                thread.join()
        assert text.raw == b"AAA" + bytes(7)


def test_preemption_signals() -> None:
    """Signals arrive many times a millisecond within the block, and not before or after it."""
    counts = {"before": 0, "during": 0, "after": 0}
    preemption = Preemption()
    info = ctypes.create_string_buffer(128)
    mask = (ctypes.c_uint64 * 16)(1 << (preemption._signal - 1))
    # None must arrive in 20 ms before and after; a busy machine may need longer than that for one to arrive.
    short, long = (ctypes.c_long * 2)(0, 20_000_000), (ctypes.c_long * 2)(10, 0)

    def wait_for_one(waits: ctypes.Array[ctypes.c_long] = short) -> bool:
        return bool(LIBRARY.sigtimedwait(mask, info, waits) == preemption._signal)

    signal.pthread_sigmask(signal.SIG_BLOCK, {preemption._signal})
    counts["before"] = sum(wait_for_one() for _ in range(2))
    with preemption:
        counts["during"] = sum(wait_for_one(long) for _ in range(20))
    wait_for_one()  # one may be on its way
    counts["after"] = sum(wait_for_one() for _ in range(2))
    assert counts == {"before": 0, "during": 20, "after": 0}
