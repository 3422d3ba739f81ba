"""The floating-point environment is saved, compared and restored."""

from __future__ import annotations

import ctypes
import os
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.protocol.messages import Buffer, Call, Fault, Option
from q8a8_conformance.worker.fenv import FloatingPoint, floating_point
from q8a8_conformance.worker.invoke import Invoker
from q8a8_conformance.worker.pyobject import ObjectTarget

if TYPE_CHECKING:
    from collections.abc import Callable

LIBM = ctypes.PyDLL(None)
UPWARD = {"x86_64": 0x800, "aarch64": 0x400000}


@pytest.fixture
def environment(need: Callable[[object, str], None]) -> FloatingPoint:
    """Return access to this machine's environment."""
    found = floating_point()
    need(found, "this machine's floating-point environment is not known")
    assert found is not None
    return found


def test_unchanged_environment(environment: FloatingPoint) -> None:
    """The same environment saved twice compares equal, whatever the sticky flags."""
    before = environment.save()
    assert 1.0 / 3.0 > 0.3  # raises the inexact flag
    assert environment.compare(before, environment.save()) == (Fault(0), "")


def test_rounding_mode_is_detected_and_restored(environment: FloatingPoint) -> None:
    """A changed rounding mode is a fault, and restoring undoes it."""
    before = environment.save()
    LIBM.fesetround(UPWARD[os.uname().machine])
    after = environment.save()
    environment.restore(before)
    faults, text = environment.compare(before, after)
    assert faults == Fault.ROUNDING_MODE_CHANGED
    assert "rounding mode changed" in text
    assert environment.compare(before, environment.save()) == (Fault(0), "")
    assert LIBM.fegetround() == 0


def test_flushing_flushes(environment: FloatingPoint) -> None:
    """A subnormal result is zero only in a flushing environment."""
    before = environment.save()
    tiny = 5e-324
    environment.restore(environment.flushing(before))
    flushed = tiny * 1.0
    after = environment.save()
    environment.restore(before)
    assert flushed == 0.0
    assert tiny * 1.0 != 0.0
    assert environment.compare(before, after)[0] == Fault.FLUSH_MODE_CHANGED


@pytest.mark.parametrize(
    ("word", "bit", "fault"),
    [
        (7, 0x8000, Fault.FLUSH_MODE_CHANGED),
        (7, 0x0040, Fault.FLUSH_MODE_CHANGED),
        (7, 0x2000, Fault.ROUNDING_MODE_CHANGED),
        (7, 0x0080, Fault.TRAP_MASK_CHANGED),
        (7, 0x0001, Fault(0)),  # a sticky flag
        (0, 0x0200, Fault.ROUNDING_MODE_CHANGED),  # x87 precision
        (0, 0x0001, Fault.TRAP_MASK_CHANGED),
        (1, 0x0001, Fault(0)),  # x87 status
    ],
)
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="names bits of x86-64")
def test_each_bit_has_its_fault(environment: FloatingPoint, word: int, bit: int, fault: Fault) -> None:
    """Each mode bit of MXCSR and of the x87 control word has its fault."""
    before, after = environment.save(), environment.save()
    after[word] ^= bit
    assert environment.compare(before, after)[0] == fault


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="names bits of x86-64")
def test_calls_take_turns_in_flush_modes(environment: FloatingPoint) -> None:
    """Repeated calls have both modes, then each alone; one more has another precision of the x87 unit."""
    seen = []

    def dequantize(*_: object) -> None:
        state = environment.save()
        seen.append((state[7] & 0x8040, state[0] & 0x0300))

    call = Call("dequantize_row_q8_a8", 0, (Buffer(bytearray()), Buffer(bytearray())), options=Option.FLUSH)
    target = ObjectTarget(SimpleNamespace(dequantize_row_q8_a8=dequantize))
    before = environment.save()
    for repeat in (1, 3):
        result = Invoker(target, environment).invoke(replace(call, repeat=repeat))
        assert result.faults == Fault(0), result.detail
    both, usual = (0x8040, 0x0300), (before[7] & 0x8040, before[0] & 0x0300)
    assert seen == [both, both, (0x8000, 0x0300), (0x0040, 0x0300), (usual[0], 0x0200)]
    assert environment.compare(before, environment.save()) == (Fault(0), "")


def test_unknown_machines_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no access on a machine whose layout is not known."""
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "h", "6", "1", "riscv64")))
    assert floating_point() is None
