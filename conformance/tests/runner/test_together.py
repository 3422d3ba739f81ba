"""Calls strung together in C run in order, on one stack, at the same time as other threads' calls."""

from __future__ import annotations

import ctypes
import signal
import threading
import time

import pytest

from q8a8_conformance.worker.preempt import Preemption
from q8a8_conformance.worker.together import MAX_CALLS, Chain, NativeCall, Together, available

pytestmark = pytest.mark.skipif(not available(), reason="this C library has no makecontext")
LIBRARY = ctypes.CDLL(None)


def native(name: str, *arguments: int) -> NativeCall:
    """Return a call of a function of the C library."""
    return NativeCall(ctypes.cast(getattr(LIBRARY, name), ctypes.c_void_p).value or 0, arguments)


def test_calls_run_in_order() -> None:
    """Each call sees what the one before did, up to the longest chain, and a chain can run again."""
    text = ctypes.create_string_buffer(200)
    letters = ctypes.create_string_buffer(bytes(range(65, 65 + MAX_CALLS)))
    address, first = ctypes.addressof(text), ctypes.addressof(letters)
    chain = Chain()
    for count in (1, 2, MAX_CALLS):
        text.value = b""
        chain.run([native("strncat", address, first + index, 1) for index in range(count)])
        assert text.value == letters.value[:count]


def test_many_arguments_arrive() -> None:
    """More arguments than fit in registers come in their places."""
    text = ctypes.create_string_buffer(200)
    pattern = ctypes.create_string_buffer(b"%d %d %d %d %d")
    arguments = (ctypes.addressof(text), 200, ctypes.addressof(pattern), 4, 5, 6, 7, 8)
    Chain().run([native("snprintf", *arguments), native("strlen", arguments[0])])
    assert text.value == b"4 5 6 7 8"


def test_threads_wait_for_each_other() -> None:
    """No thread's calls start before every thread is there."""
    text = ctypes.create_string_buffer(10)
    address = ctypes.addressof(text)
    together = Together()
    for _ in range(3):
        ctypes.memset(address, 0, 10)
        with together.meeting(3) as run:
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


def test_preemption_interrupts_only_those_who_ask() -> None:
    """While it lasts, signals come many times a millisecond, to admitted threads alone, and then stop."""
    counts = {"before": 0, "during": 0, "after": 0}
    preemption = Preemption()
    info = ctypes.create_string_buffer(128)
    mask = (ctypes.c_uint64 * 16)(1 << (preemption._signal - 1))
    # A machine may stand still for longer than the twenty milliseconds in which none must come.
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
