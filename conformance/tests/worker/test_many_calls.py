"""Many calls in a row: results that change, memory that stays, and systems that do not count it."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import TYPE_CHECKING

from q8a8_conformance.worker.many_calls import ManyCalls
from q8a8_conformance.worker.memory import Memory, Placement

if TYPE_CHECKING:
    import pytest


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
