"""The invoker, with Python targets: calls that a well-behaved runner never makes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.protocol.messages import Buffer, Call, Option
from q8a8_conformance.worker.fenv import floating_point
from q8a8_conformance.worker.invoke import CannotCall, Invoker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from q8a8_conformance.worker.memory import GuardedBuffer


class Target:
    """A target whose functions run a given step."""

    functions = ("dequantize_row_q8_a8", "ggml_vec_dot_q8_a8_q8_a8")

    is_native = False

    def __init__(self, step: Callable[[], object] = lambda: None) -> None:
        self.step = step

    def bind(self, call: Call, buffers: Sequence[GuardedBuffer]) -> Callable[[], object]:
        """Return the step, whatever the call."""
        assert len(buffers) == len(call.buffers)
        return self.step

    def native(self, call: Call, buffers: Sequence[GuardedBuffer]) -> None:
        """Return None: the step is Python."""


def call_of(n: int = 32, threads: int = 1, options: int = 0) -> Call:
    """Return a call of the dequantizer."""
    buffers = (Buffer(bytearray(34)), Buffer(bytearray(128)))
    return Call("dequantize_row_q8_a8", n, buffers, threads=threads, options=Option(options))


def test_number_of_buffers_is_checked() -> None:
    """A call with too few buffers is refused before anything is placed."""
    call = Call("dequantize_row_q8_a8", 32, (Buffer(bytearray(34)),))
    with pytest.raises(CannotCall, match="1 buffers, dequantize_row_q8_a8 takes 2"):
        Invoker(Target(), None).invoke(call)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n": 2**31}, "n = 2147483648 does not fit in int"),
        ({"nrc": -(2**31) - 1}, "nrc = -2147483649 does not fit in int"),
        ({"bs": -1}, "bs = -1 does not fit in size_t"),
        ({"nrc": 0}, "nrc = 0"),
    ],
)
def test_integers_that_c_cannot_hold_are_refused(changes: dict[str, int], message: str) -> None:
    """An integer is never truncated to fit its C type."""
    arguments: dict[str, int] = {"n": 32, **changes}
    buffers = (Buffer(bytearray(4)), Buffer(bytearray(34)), Buffer(bytearray(34)))
    call = Call("ggml_vec_dot_q8_a8_q8_a8", buffers=buffers, **arguments)  # type: ignore[arg-type]  # only ints
    with pytest.raises(CannotCall, match=message):
        Invoker(Target(), None).invoke(call)


def test_flush_needs_an_environment() -> None:
    """FLUSH is refused where flush bits cannot be set."""
    with pytest.raises(CannotCall, match="FLUSH"):
        Invoker(Target(), None).invoke(call_of(options=8))


@pytest.mark.parametrize("threads", [1, 3])
def test_exception_is_a_refusal(threads: int, capsys: pytest.CaptureFixture[str]) -> None:
    """An exception of a Python kernel is a refusal, with the traceback on standard error."""

    def step() -> None:
        raise ZeroDivisionError("no scale")

    invoker = Invoker(Target(step), floating_point())
    with pytest.raises(CannotCall, match="raised ZeroDivisionError: no scale"):
        invoker.invoke(call_of(threads=threads))
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("threads", [1, 2])
def test_sys_exit_is_a_refusal(threads: int) -> None:
    """A Python kernel cannot end the worker by `sys.exit`."""
    with pytest.raises(CannotCall, match="raised SystemExit"):
        Invoker(Target(sys.exit), None).invoke(call_of(threads=threads))


def test_memory_is_released() -> None:
    """No buffers are in use after a result or an exception."""
    invoker = Invoker(Target(), None)
    invoker.invoke(call_of())
    assert invoker._placer.memory.buffers == ()
    invoker = Invoker(Target(lambda: 1 / 0), None)
    with pytest.raises(CannotCall):
        invoker.invoke(call_of(options=4))
    assert invoker._placer.memory.buffers == ()


def test_addresses_are_explained() -> None:
    """An address near a buffer of the call is described by that buffer, any other by its number."""
    seen = []
    invoker = Invoker(Target(lambda: seen.append(invoker.explain(buffer_of(invoker).address + 128))), None)
    invoker.invoke(call_of())
    assert seen == ["in dequantize_row_q8_a8, y (128 bytes): 0 bytes after its end"]
    assert invoker.explain(8) == "in dequantize_row_q8_a8, address 0x8"


def buffer_of(invoker: Invoker) -> GuardedBuffer:
    """Return the output buffer of the current call."""
    return next(buffer for buffer in invoker._placer.memory.buffers if buffer.name == "y")
