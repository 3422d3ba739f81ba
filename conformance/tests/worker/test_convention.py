"""Calls through machine code, and machines where there is none."""

from __future__ import annotations

import ctypes
import mmap
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING

from q8a8_conformance.protocol.messages import Fault
from q8a8_conformance.worker.convention import UNDEFINED, trampoline
from q8a8_conformance.worker.machine import cpu_features

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


def test_nothing_is_zero_in_measured_calls() -> None:
    """The last vector register and the stack are full of other bits; the stack is aligned to 16 bytes."""
    calls = trampoline()
    if calls is None:
        assert os.uname().machine != "x86_64"
        return
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    page = mmap.mmap(-1, mmap.PAGESIZE, flags, mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    # [v]movups [rdi], register 15; mov [rdi + 32], rsp; mov rax, [rsp - 4096]; mov [rdi + 40], rax; ret
    avx = "avx" in cpu_features()
    store = "c5 7c 11 3f" if avx else "44 0f 11 3f"
    page.write(bytes.fromhex(store + "48 89 67 20 48 8b 84 24 00 f0 ff ff 48 89 47 28 c3"))
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    found = ctypes.create_string_buffer(48)
    for _ in range(2):
        calls.bind(address, (ctypes.addressof(found),), measured=True)()
        assert calls.take_faults() == (Fault(0), [])
    size = 32 if avx else 16
    assert found.raw[:size] == bytes([UNDEFINED]) * size
    assert found.raw[40:] == bytes([UNDEFINED]) * 8
    assert (int.from_bytes(found.raw[32:40], "little") + 8) % 32 == 16


def test_other_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    """On another architecture, or where no page may be executable, nothing is checked."""
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="riscv64"))
    assert trampoline() is None
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="x86_64"))

    def refuse(*_: int) -> None:
        raise PermissionError("no executable memory")

    monkeypatch.setattr(mmap, "mmap", refuse)
    assert trampoline() is None
