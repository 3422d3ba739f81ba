"""Chains of C calls run in order, on one stack, without the interpreter; a call of one can be stopped."""

from __future__ import annotations

import ctypes
import threading
import time
from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.worker.native_calls import (
    STACK_BYTES,
    CallChain,
    NativeCall,
    Stack,
    available,
    library_call,
)
from q8a8_conformance.worker.stopping import Stopper, sleeps

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(autouse=True)
def _chains_available(need: Callable[[object, str], None]) -> None:
    """Require a C library with makecontext."""
    need(available(), "this C library has no makecontext")


def test_calls_run_in_order() -> None:
    """The calls of a chain run in order, up to the longest chain, and a stack can be reused."""
    text = ctypes.create_string_buffer(200)
    stack = Stack(100)
    letters = ctypes.create_string_buffer(bytes(range(27, 127)))
    address, first = ctypes.addressof(text), ctypes.addressof(letters)
    for count in (1, 2, 100):
        text.value = b""
        CallChain([library_call("strncat", address, first + index, 1) for index in range(count)], stack).run()
        assert text.value == letters.value[:count]
    with pytest.raises(ValueError, match="101 calls on a stack for 100"):
        CallChain([library_call("sched_yield")] * 101, stack)
    assert stack.arena.size > STACK_BYTES


def test_many_arguments_arrive() -> None:
    """More arguments than fit in registers are passed correctly."""
    text = ctypes.create_string_buffer(200)
    pattern = ctypes.create_string_buffer(b"%d %d %d %d %d")
    arguments = (ctypes.addressof(text), 200, ctypes.addressof(pattern), 4, 5, 6, 7, 8)
    CallChain([library_call("snprintf", *arguments), library_call("strlen", arguments[0])], Stack()).run()
    assert text.value == b"4 5 6 7 8"


def wait_until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_a_timer_stops_a_call() -> None:
    """A thread stops when its timer runs out within the stoppable call, until it is woken."""
    stopper = Stopper()
    count = ctypes.create_string_buffer(64)
    ctypes.PyDLL(None).sem_init(count, 0, 0)
    stack = Stack()
    chains: list[CallChain] = []
    ready = threading.Event()

    def run() -> None:
        ready.wait()
        chains[0].run()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    number = thread.native_id or 0
    timer = stopper.timer(number)
    address = library_call("sem_wait", ctypes.addressof(count))
    calls = [
        stopper.set_timer(timer, 1_000_000),
        NativeCall(address.function, address.arguments, stoppable=True),
        stopper.set_timer(timer, 0),
    ]
    chains.append(CallChain(calls, stack))
    ready.set()
    wait_until(lambda: sleeps(number))
    time.sleep(0.01)
    ctypes.PyDLL(None).sem_post(count)
    time.sleep(0.01)
    assert thread.is_alive()  # it would have ended, but for the stop

    def woken() -> bool:
        stopper.wake_all()
        return not thread.is_alive()

    wait_until(woken)
    stopper.delete_timer(timer)
    assert not sleeps(number)
