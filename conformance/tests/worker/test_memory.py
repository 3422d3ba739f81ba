"""Guarded buffers are placed as requested, and writes beside them are detected."""

from __future__ import annotations

import ctypes
import faulthandler
import mmap
import os
import signal
from itertools import pairwise

import pytest

from q8a8_conformance.protocol.messages import NO_OPTIONS, Option
from q8a8_conformance.worker.arenas import Arena
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
    """Return an empty memory."""
    return Memory()


def data_of(size: int) -> bytearray:
    """Return bytes that differ from the canary and from their neighbours."""
    return bytearray((7 * i) % 97 for i in range(size))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("placement", Placement)
def test_bytes_and_place(memory: Memory, placement: Placement, size: int) -> None:
    """A buffer has its bytes and its placement, surrounded by canaries."""
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
    """Floats and blocks that end at a page border keep their alignment."""
    assert memory.place("x", data_of(4 * 33), Placement.AT_END).address % 4 == 0
    assert memory.place("x", data_of(34 * 3), Placement.AT_END).address % 2 == 0


@pytest.mark.parametrize("placement", Placement)
def test_damage_is_located(memory: Memory, placement: Placement) -> None:
    """A byte written before or after a buffer is reported with its distance."""
    for distance in (0, 1, 40, 255):
        for side in ("before", "after"):
            buffer = memory.place("x", data_of(34), placement)
            outside = buffer.address - 1 - distance if side == "before" else buffer.address + 34 + distance
            if not buffer.arena.start <= outside < buffer.arena.end:
                continue
            ctypes.memset(outside, CANARY ^ 1, 1)
            message = (
                f"{distance + 1} byte{'' if distance == 0 else 's'} before its start"
                if side == "before"
                else f"{distance} byte{'' if distance == 1 else 's'} after"
            )
            assert message in buffer.damage()
            assert buffer.changed() == ""


def test_changes_and_refill(memory: Memory) -> None:
    """A changed byte is reported; a refill restores the bytes but not the canaries."""
    buffer = memory.place("x", data_of(9000), Placement.AT_END)
    ctypes.memset(buffer.address + 8999, 255, 1)
    ctypes.memset(buffer.address - 1, 0, 1)
    assert buffer.changed() == "byte 8999 of x was written"
    buffer.refill()
    assert buffer.changed() == ""
    assert "1 byte before" in buffer.damage()


def test_arenas_are_reused_clean(memory: Memory) -> None:
    """The next call reuses the pages, writable and with fresh canaries."""
    first = memory.place("x", data_of(100), Placement.AT_END)
    ctypes.memset(first.arena.start, 0, first.arena.size)
    first.make_read_only()
    memory.release()
    second = memory.place("y", data_of(60), Placement.AT_START)
    assert second.arena is first.arena
    assert second.read() == data_of(60)
    assert second.damage() == ""


def test_arenas_do_not_share_guard_pages(memory: Memory) -> None:
    """Two buffers of a call share neither a page nor a guard page."""
    one, two = (memory.place("x", data_of(10), Placement.AT_END) for _ in range(2))
    assert (
        one.arena.end + mmap.PAGESIZE <= two.arena.start or two.arena.end + mmap.PAGESIZE <= one.arena.start
    )
    assert memory.buffers == (one, two)


def test_excess_memory_is_unmapped(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arenas over the limit are unmapped after the call."""
    monkeypatch.setattr("q8a8_conformance.worker.memory._KEEP", 10_000)
    memory.place("x", data_of(100_000), Placement.AT_END)
    memory.release()
    assert (memory._free, memory._mapped) == ({}, 0)


def test_addresses_are_described(memory: Memory) -> None:
    """An address is described relative to a buffer in or near which it lies."""
    buffer = memory.place("vx", data_of(68), Placement.AT_END)
    assert buffer.locate(buffer.address + 3) == "vx (68 bytes): byte 3"
    assert buffer.locate(buffer.address + 68) == "vx (68 bytes): 0 bytes after its end"
    assert buffer.locate(buffer.address - 1) == "vx (68 bytes): 1 byte before its start"
    assert buffer.locate(8) == ""
    buffer.make_read_only()
    assert buffer.locate(buffer.address) == "vx (68 bytes): byte 0, mapped read-only"
    memory.release()


def test_placements_of_options() -> None:
    """The guard options choose the placement; other options do not affect it."""
    assert Placement.of(Option.GUARD_AFTER | Option.READONLY) is Placement.AT_END
    assert Placement.of(Option.GUARD_BEFORE) is Placement.AT_START
    assert Placement.of(NO_OPTIONS) is Placement.of(Option.FLUSH) is Placement.ALIGNED


def test_comparing_bytes() -> None:
    """The first difference is found at any index, and None if there is none."""
    left, right = data_of(10_000), data_of(10_000)
    a, b = address_of(left), address_of(right)
    assert same_bytes(a, b, 10_000)
    assert first_difference(a, b, 10_000) is None
    for place in (9999, 4096, 4095, 0):
        right[place] ^= 128
        assert first_difference(a, b, 10_000) == place
    assert address_of(bytearray()) == 0


def test_largest_offset_fits(memory: Memory) -> None:
    """The largest offset leaves space for canaries."""
    buffer = memory.place("x", data_of(10), Placement.ALIGNED, MAX_OFFSET)
    assert buffer.address + 10 + 200 < buffer.arena.end
    assert buffer.damage() == ""


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("placement", Placement)
def test_read_only_inputs(memory: Memory, placement: Placement, size: int) -> None:
    """An input mapped read-only lies where a writable one would, has a name, and is filled anew."""
    given = data_of(size)
    for number in range(3):
        writable = memory.place("x", given, placement, 6)
        buffer = memory.place_read_only("x", given, placement, 6)
        assert buffer is not None
        assert ctypes.string_at(buffer.address, size) == given
        assert (buffer.address - writable.address) % mmap.PAGESIZE == 0
        around = ctypes.string_at(buffer.arena.start, buffer.arena.size)
        before = buffer.address - buffer.arena.start
        assert set(around[:before] + around[before + size :]) <= {CANARY}
        assert memory.buffers == (writable, buffer)
        assert buffer.locate(buffer.arena.start - mmap.PAGESIZE - 1) == ""
        assert ("mapped read-only" in buffer.locate(buffer.address)) == (size > 0)
        memory.release()
        given[:1] = bytes([number])[:size]


def test_a_write_to_a_read_only_input_faults() -> None:
    """The process that writes to it is killed."""
    buffer = Memory().place_read_only("x", data_of(34), Placement.ALIGNED)
    assert buffer is not None
    child = os.fork()
    if child == 0:
        try:
            faulthandler.disable()
            ctypes.memset(buffer.address + 33, 0, 1)
        finally:
            os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) in (signal.SIGSEGV, signal.SIGBUS)


def test_systems_that_map_nothing_twice(monkeypatch: pytest.MonkeyPatch, memory: Memory) -> None:
    """Without memory files no input is placed so."""

    def refuse(name: str) -> int:
        raise OSError(name)

    monkeypatch.setattr(os, "memfd_create", refuse)
    assert memory.place_read_only("x", data_of(4), Placement.ALIGNED) is None
    assert memory.place_read_only("x", data_of(4), Placement.ALIGNED) is None


def test_buffers_lie_far_apart() -> None:
    """No difference between addresses in two arenas fits in 32 bits, where the system grants the places."""
    arenas = [Arena(1) for _ in range(4)]
    starts = sorted(arena.start for arena in arenas)
    assert all(after - before > 2**32 for before, after in pairwise(starts))
