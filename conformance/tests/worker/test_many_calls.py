"""Many calls in a row: results that change, memory that stays, and systems that do not count it."""

from __future__ import annotations

import ctypes
import gc
import os
from pathlib import Path

import pytest

from q8a8_conformance.protocol.messages import Fault
from q8a8_conformance.worker.convention import trampoline
from q8a8_conformance.worker.many_calls import ManyCalls
from q8a8_conformance.worker.memory import Memory, Placement

SIZES = (("s", 5), ("nothing", 0), ("y", 300))


def calls_that(change_at: int) -> ManyCalls:
    """Return calls of which one gives another byte."""
    output = Memory().place("y", bytearray(4), Placement.ALIGNED)
    made = 0

    def step() -> None:
        nonlocal made
        made += 1
        ctypes.memset(output.address, 2 if made == change_at else 1, 4)

    return ManyCalls(step, [output], [b"\1\1\1\1"])


def test_every_result_is_compared() -> None:
    """A single call with another result is found and numbered; no call is made after it."""
    many = calls_that(700)
    many.run(1000)
    assert (many.done, many.differs) == (700, True)
    many = calls_that(0)
    many.run(1000)
    assert (many.done, many.differs, many.kept) == (1000, False, "")


def test_memory_that_is_kept() -> None:
    """Memory that grows with the calls is reported."""
    kept = []
    output = Memory().place("y", bytearray(0), Placement.ALIGNED)
    many = ManyCalls(lambda: kept.append(ctypes.create_string_buffer(1000)), [output], [b""])
    many.run(1000)
    assert "memory grows by" in many.kept


def test_memory_that_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where neither the C library nor the system counts memory, none is reported."""

    def refuse(path: Path, **_: str) -> str:
        raise OSError(path)

    monkeypatch.setattr(ctypes, "PyDLL", lambda _: object())
    monkeypatch.setattr(Path, "read_text", refuse)
    kept = []
    many = ManyCalls(lambda: kept.append(ctypes.create_string_buffer(1000)), [], [])
    many.run(1000)
    assert (many.done, many.kept) == (1000, "")


def test_many_calls_in_machine_code() -> None:
    """The loop of machine code refills every output, and finds and numbers the one result that differs."""
    machine = trampoline()
    if machine is None:
        assert os.uname().machine != "x86_64"
        return
    memory = Memory()
    first, empty, last = (memory.place(name, bytearray(size), Placement.ALIGNED) for name, size in SIZES)
    made, change_at, seen = 0, 0, set()

    def kernel(one: int, other: int) -> None:
        nonlocal made
        made += 1
        seen.add(ctypes.string_at(one, 5) + ctypes.string_at(other, 300))
        ctypes.memset(one, 1, 5)
        ctypes.memset(other, 2, 300)
        if made == change_at:
            ctypes.memset(other + 299, 3, 1)

    function = ctypes.CFUNCTYPE(None, ctypes.c_size_t, ctypes.c_size_t)(kernel)
    address = ctypes.cast(function, ctypes.c_void_p).value or 0
    for place, expected in ((0, (1000, False)), (1, (1, True)), (700, (700, True)), (1000, (1000, True))):
        made, change_at = 0, place
        step = machine.bind(address, (first.address, last.address), measured=False)
        many = ManyCalls(step, [first, empty, last], [b"\1" * 5, b"", b"\2" * 300])
        many.run(1000)
        assert (many.done, many.differs) == expected
        assert made == many.done
        assert seen == {bytes(305)}
        assert machine.take_faults() == (Fault(0), [])


@pytest.mark.parametrize("size", [*range(1, 26), 64])
def test_each_byte_is_compared(size: int) -> None:
    """A difference in any byte of an output is found, in whole words and behind them."""
    machine = trampoline()
    if machine is None:
        assert os.uname().machine != "x86_64"
        return
    source, target = (ctypes.create_string_buffer(bytes(range(1, size + 1)), size) for _ in range(2))
    copy = ctypes.cast(ctypes.CDLL(None).memcpy, ctypes.c_void_p).value or 0
    step = machine.bind(copy, (ctypes.addressof(target), ctypes.addressof(source), size), measured=False)
    outputs = [(ctypes.addressof(target), bytes(size), source.raw)]
    assert step.many(outputs, 5) == 5
    for place in range(size):
        wrong = bytearray(source.raw)
        wrong[place] ^= 0x80
        assert step.many([(*outputs[0][:2], bytes(wrong))], 5) == -1


@pytest.mark.parametrize("in_threads", [True, False])
def test_what_the_interpreter_will_collect_is_no_growth_of_a_kernel(in_threads: bool) -> None:
    """Each thread that has ended leaves some with it until its next collection; other calls leave nothing."""

    def step() -> None:
        held: list[object] = [bytearray(4096)]
        held.append(held)

    many = ManyCalls(step, [], [], in_threads=in_threads)
    gc.disable()
    try:
        many.run(400)
    finally:
        gc.enable()
        gc.collect()
    assert bool(many.kept) is not in_threads
