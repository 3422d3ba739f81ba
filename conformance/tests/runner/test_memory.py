"""Guarded buffers lie where they were asked for, and what is written beside them shows."""

from __future__ import annotations

import ctypes
import mmap

import pytest

from q8a8_conformance.protocol.messages import NO_OPTIONS, Option
from q8a8_conformance.worker.memory import (
    CANARY,
    MAX_OFFSET,
    Memory,
    Placement,
    address_of,
    first_difference,
    same_bytes,
)

SIZES = (0, 1, 34, 4095, 4096, 4097, 100_000)


@pytest.fixture
def memory() -> Memory:
    """Return memory of our own."""
    return Memory()


def data_of(size: int) -> bytearray:
    """Return bytes that differ from the canary and from their neighbours."""
    return bytearray((7 * i) % 97 for i in range(size))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("placement", Placement)
def test_bytes_and_place(memory: Memory, placement: Placement, size: int) -> None:
    """A buffer holds its bytes, at its page border or its alignment, among canaries."""
    given = data_of(size)
    buffer = memory.place("x", given, placement, 6)
    assert buffer.read() == given
    match placement:
        case Placement.AT_END:
            assert (buffer.address + size) % mmap.PAGESIZE == 0
            assert buffer.address + size == buffer.arena.end
        case Placement.AT_START:
            assert buffer.address % mmap.PAGESIZE == 0
            assert buffer.address == buffer.arena.start
        case Placement.ALIGNED:
            assert buffer.address % 64 == 6
    around = ctypes.string_at(buffer.arena.start, buffer.arena.size)
    before = buffer.address - buffer.arena.start
    assert set(around[:before] + around[before + size :]) <= {CANARY}
    assert (buffer.changed(), buffer.damage()) == ("", "")


def test_natural_alignment_at_the_guards(memory: Memory) -> None:
    """Whole floats and whole blocks end at a page border without losing their alignment."""
    assert memory.place("x", data_of(4 * 33), Placement.AT_END).address % 4 == 0
    assert memory.place("x", data_of(34 * 3), Placement.AT_END).address % 2 == 0


@pytest.mark.parametrize("placement", Placement)
def test_damage_is_seen_and_located(memory: Memory, placement: Placement) -> None:
    """A byte written beside a buffer is found, on either side, at its distance."""
    for distance in (0, 1, 40, 255):
        for side in ("before", "after"):
            buffer = memory.place("x", data_of(34), placement)
            outside = buffer.address - 1 - distance if side == "before" else buffer.address + 34 + distance
            if not buffer.arena.start <= outside < buffer.arena.end:
                continue
            ctypes.memset(outside, CANARY ^ 1, 1)
            said = f"{distance + 1} bytes before its start" if side == "before" else f"{distance} bytes after"
            assert said in buffer.damage()
            assert buffer.changed() == ""


def test_changes_are_seen_and_undone(memory: Memory) -> None:
    """A changed byte is named; a refill puts the given bytes back, and leaves damage for the end."""
    buffer = memory.place("x", data_of(9000), Placement.AT_END)
    ctypes.memset(buffer.address + 8999, 255, 1)
    ctypes.memset(buffer.address - 1, 0, 1)
    assert buffer.changed() == "byte 8999 of x was written"
    buffer.refill()
    assert buffer.changed() == ""
    assert "1 bytes before" in buffer.damage()


def test_arenas_are_reused_clean(memory: Memory) -> None:
    """The next call's buffer of the same size lies in the same pages, with fresh canaries, and writable."""
    first = memory.place("x", data_of(100), Placement.AT_END)
    ctypes.memset(first.arena.start, 0, first.arena.size)
    first.make_read_only()
    memory.release()
    second = memory.place("y", data_of(60), Placement.AT_START)
    assert second.arena is first.arena
    assert second.read() == data_of(60)
    assert second.damage() == ""


def test_arenas_of_one_call_are_apart(memory: Memory) -> None:
    """Two buffers never share a page, nor a guard page's side."""
    one, two = (memory.place("x", data_of(10), Placement.AT_END) for _ in range(2))
    assert (
        one.arena.end + mmap.PAGESIZE <= two.arena.start or two.arena.end + mmap.PAGESIZE <= one.arena.start
    )
    assert memory.buffers == (one, two)


def test_much_memory_is_given_back(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond what is kept, arenas are unmapped after the call."""
    monkeypatch.setattr("q8a8_conformance.worker.memory._KEEP", 10_000)
    memory.place("x", data_of(100_000), Placement.AT_END)
    memory.release()
    assert (memory._free, memory._mapped) == ({}, 0)


def test_addresses_are_told(memory: Memory) -> None:
    """An address is described by the buffer it lies in or next to."""
    buffer = memory.place("vx", data_of(68), Placement.AT_END)
    assert buffer.locate(buffer.address + 3) == "vx (68 bytes): byte 3"
    assert buffer.locate(buffer.address + 68) == "vx (68 bytes): 0 bytes after its end"
    assert buffer.locate(buffer.address - 1) == "vx (68 bytes): 1 bytes before its start"
    assert buffer.locate(8) == ""
    buffer.make_read_only()
    assert buffer.locate(buffer.address) == "vx (68 bytes): byte 0, mapped read-only"
    memory.release()


def test_placements_of_options() -> None:
    """Options choose the placement; other options do not matter to it."""
    assert Placement.of(Option.GUARD_AFTER | Option.READONLY) is Placement.AT_END
    assert Placement.of(Option.GUARD_BEFORE) is Placement.AT_START
    assert Placement.of(NO_OPTIONS) is Placement.of(Option.FLUSH) is Placement.ALIGNED


def test_comparing_bytes() -> None:
    """The first difference is found wherever it lies, and only if there is one."""
    left, right = data_of(10_000), data_of(10_000)
    a, b = address_of(left), address_of(right)
    assert same_bytes(a, b, 10_000)
    assert first_difference(a, b, 10_000) is None
    for place in (9999, 4096, 4095, 0):
        right[place] ^= 128
        assert first_difference(a, b, 10_000) == place
    assert address_of(bytearray()) == 0


def test_the_largest_offset_fits(memory: Memory) -> None:
    """The largest offset that a call may ask for still leaves room for canaries."""
    buffer = memory.place("x", data_of(10), Placement.ALIGNED, MAX_OFFSET)
    assert buffer.address + 10 + 200 < buffer.arena.end
    assert buffer.damage() == ""
