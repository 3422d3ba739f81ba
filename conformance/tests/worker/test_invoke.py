"""The invoker, with Python targets: calls that a well-behaved runner never makes."""

from __future__ import annotations

import ctypes
import sys
from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.protocol.messages import Buffer, Call, Fault, Option
from q8a8_conformance.worker.fenv import floating_point
from q8a8_conformance.worker.invoke import CannotCall, Invoker
from q8a8_conformance.worker.memory import GuardedBuffer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from q8a8_conformance.worker.memory import PlacedBuffer


class Target:
    """A target whose functions run a given step."""

    functions = ("dequantize_row_q8_a8", "ggml_vec_dot_q8_a8_q8_a8")

    is_native = False

    def __init__(self, step: Callable[[], object] = lambda: None) -> None:
        self.step = step

    def bind(self, call: Call, buffers: Sequence[PlacedBuffer]) -> Callable[[], object]:
        """Return the step, whatever the call."""
        assert len(buffers) == len(call.buffers)
        return self.step

    def native(self, call: Call, buffers: Sequence[PlacedBuffer]) -> None:
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


def shared_call(places: tuple[int, int], options: Option = Option.SHARED_INPUTS, threads: int = 1) -> Call:
    """Return a dot product of two of four blocks in one block of memory."""
    rows = bytes(range(4 * 34))
    parts = (Buffer(bytearray(rows[place : place + 34]), place) for place in places)
    buffers = (Buffer(bytearray(4)), *parts)
    return Call("ggml_vec_dot_q8_a8_q8_a8", 32, buffers, options=options, threads=threads)


@pytest.mark.parametrize("places", [(0, 0), (0, 34), (34, 0), (10, 28), (102, 2)])
@pytest.mark.parametrize("guard", [Option(0), Option.GUARD_AFTER | Option.READONLY, Option.GUARD_BEFORE])
def test_shared_inputs_lie_in_one_block(places: tuple[int, int], guard: Option) -> None:
    """Inputs that share memory are as far apart as their offsets, and hold their bytes."""
    seen: list[tuple[str, int, bytes]] = []

    class Watched(Target):
        def bind(self, call: Call, buffers: Sequence[PlacedBuffer]) -> Callable[[], object]:
            del call
            return lambda: seen.extend(
                (each.name, each.address, ctypes.string_at(each.address, each.length)) for each in buffers
            )

    call = shared_call(places, Option.SHARED_INPUTS | guard)
    result = Invoker(Watched(), None).invoke(call)
    assert not result.faults
    (_, x, x_bytes), (_, y, y_bytes) = seen[1:]
    assert y - x == places[1] - places[0]
    assert (x_bytes, y_bytes) == (bytes(call.buffers[1].data), bytes(call.buffers[2].data))
    if not guard:
        assert (x % 64, y % 64) == (places[0] % 64, places[1] % 64)


def test_a_write_to_shared_inputs_is_found() -> None:
    """A write to either input is reported for the block of memory that holds both."""
    invoker = Invoker(
        Target(lambda: ctypes.memset(invoker._placer.memory.buffers[0].address + 40, 7, 1)), None
    )
    result = invoker.invoke(shared_call((0, 34)))
    assert result.faults == Fault.INPUT_WRITTEN
    assert result.detail == "byte 40 of vx and vy was written"


def test_shared_inputs_that_cannot_be_placed_are_refused() -> None:
    """Inputs that differ where they overlap are refused, and so are several threads."""
    call = shared_call((0, 2))
    call.buffers[2].data[0] ^= 1  # type: ignore[index]  # a bytearray
    with pytest.raises(CannotCall, match="the inputs differ where they overlap"):
        Invoker(Target(), None).invoke(call)
    with pytest.raises(CannotCall, match="SHARED_INPUTS goes with one thread"):
        Invoker(Target(), None).invoke(shared_call((0, 0), threads=2))


def buffer_of(invoker: Invoker) -> GuardedBuffer:
    """Return the output buffer of the current call."""
    found = next(buffer for buffer in invoker._placer.memory.buffers if buffer.name == "y")
    assert isinstance(found, GuardedBuffer)
    return found
