"""Calls through machine code, and machines where there is none."""

from __future__ import annotations

import ctypes
import mmap
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING

from q8a8_conformance.protocol.messages import Fault
from q8a8_conformance.worker.convention import trampoline

if TYPE_CHECKING:
    import pytest


def test_eight_arguments_arrive() -> None:
    """All eight arguments reach the function, on either stack, and a good function leaves no fault."""
    calls = trampoline()
    if calls is None:
        assert os.uname().machine != "x86_64"
        return
    seen: list[tuple[int, ...]] = []
    kind = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 8)
    function = kind(lambda *arguments: seen.append(arguments))
    address = ctypes.cast(function, ctypes.c_void_p).value or 0
    arguments = (1, -2, 3, 4, 5, 6, 2**40, -8)
    for measured in (False, True):
        calls.bind(address, arguments, measured=measured)()
        assert calls.take_faults() == (Fault(0), [])
    assert seen == [arguments, arguments]


def test_other_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    """On another architecture, or where no page may be executable, nothing is checked."""
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="riscv64"))
    assert trampoline() is None
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="x86_64"))

    def refuse(*_: int) -> None:
        raise PermissionError("no executable memory")

    monkeypatch.setattr(mmap, "mmap", refuse)
    assert trampoline() is None
