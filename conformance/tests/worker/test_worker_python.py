"""The `py` and `ref` workers with the same checks, the adapter, and the minimal worker."""

from __future__ import annotations

import importlib.util
import os
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.protocol.messages import NO_OPTIONS, Buffer, Call, Fault, Option
from q8a8_conformance.protocol.session import CallRefused, Session, WorkerCrashed, WorkerUnusable
from q8a8_conformance.spec.abi import NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WORKER = (sys.executable, "-m", "q8a8_conformance.worker")
MINIMAL = Path(__file__).parents[3] / "docs" / "examples" / "minimal_worker.py"

KERNELS = '''
"""Python kernels for the tests of the worker."""
import ctypes, sys
import numpy as np

class Good:
    """Checks the types of its arguments."""
    version = "1.2"
    def quantize_activation_q8_a8(self, input, output, scale, size):
        assert (input.dtype, output.dtype, scale.dtype) == (np.float32, np.int8, np.uint16)
        assert not input.flags.writeable and type(size) is int
        output[:] = input
        scale[0] = 0x3C00
    def ggml_vec_dot_q8_a8_q8_a8(self, n, s, bs, vx, bx, vy, by, nrc):
        assert vx.dtype == vy.dtype == np.uint8
        s[:7] = n, bs, bx, by, nrc, vx[0], vy[0]
    def quantize_row_q8_a8(self, x, y, k):
        pass

class Bad:
    """Functions with one fault each."""
    def quantize_row_q8_a8(self, x, y, k):
        x[0] = 1
    def quantize_row_q8_a8_ref(self, x, y, k):
        ctypes.c_char.from_address(y.ctypes.data + y.size).value = b"x"
    def dequantize_row_q8_a8(self, x, y, k):
        print("printed"); sys.stdout.flush()
        ctypes.c_char.from_address(x.ctypes.data).value = b"x"
    quantize_activation_q8_a8 = "not a method"

class Holder:
    inner = Good()
'''
NINE = struct.pack("<9f", *range(9))
ACTIVATION = Call("quantize_activation_q8_a8", 9, (Buffer(NINE), Buffer(bytes(9)), Buffer(bytes(2))))
ROWS = (Buffer(bytes(128)), Buffer(bytes(34)))


@pytest.fixture
def python_kernel(tmp_path: Path) -> Iterator[Callable[[str], Session]]:
    """Return a function that creates sessions with an object of the module above."""
    (tmp_path / "kernels_under_test.py").write_text(KERNELS)
    sessions = []

    def make(name: str) -> Session:
        argv = [*WORKER, "py", f"kernels_under_test:{name}"]
        path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
        sessions.append(Session(argv, timeout=5, env={**os.environ, "PYTHONPATH": path}))
        return sessions[-1]

    yield make
    for session in sessions:
        session.close()


@pytest.mark.parametrize("name", ["Good", "Holder.inner"])
def test_arguments(python_kernel: Callable[[str], Session], name: str) -> None:
    """A class is instantiated, an object used as it is; methods get typed arrays in C order."""
    session = python_kernel(name)
    assert session.hello.functions == tuple(
        name
        for name in NAMES
        if name in ("quantize_row_q8_a8", ACTIVATION.function, "ggml_vec_dot_q8_a8_q8_a8")
    )
    assert session.hello.version == "1.2"
    for options in (NO_OPTIONS, Option.GUARD_AFTER | Option.READONLY, Option.GUARD_BEFORE, Option.FLUSH):
        call = Call(ACTIVATION.function, 9, ACTIVATION.buffers, options=options, threads=2, repeat=3)
        reply = session.call(call)
        assert (reply.faults, reply.outputs) == (0, (bytes(range(9)), b"\x00\x3c"))
    rows = (Buffer(bytes([11]) * 200), Buffer(bytes([13]) * 200))
    call = Call("ggml_vec_dot_q8_a8_q8_a8", 64, (Buffer(bytes(40)), *rows), bs=4, bx=68, by=70, nrc=2)
    assert struct.unpack("<7f", session.call(call).outputs[0][:28]) == (64, 4, 68, 70, 2, 11, 13)
    assert session.call(Call("quantize_row_q8_a8", 0, (Buffer(b""), Buffer(b"")))).outputs == (b"",)


def test_python_kernels_are_checked(python_kernel: Callable[[str], Session]) -> None:
    """Writes beside a buffer and into an input are detected; standard output is redirected."""
    session = python_kernel("Bad")
    with pytest.raises(CallRefused, match="ValueError: assignment destination is read-only"):
        session.call(Call("quantize_row_q8_a8", 32, ROWS))
    reply = session.call(Call("quantize_row_q8_a8_ref", 32, ROWS))
    assert reply.faults == Fault.WROTE_OUTSIDE
    reply = session.call(Call("dequantize_row_q8_a8", 32, ROWS[::-1]))
    assert reply.faults == Fault.INPUT_WRITTEN
    with pytest.raises(CallRefused, match="not offered"):
        session.call(ACTIVATION)
    assert session.starts == 1
    with pytest.raises(WorkerCrashed, match="SIGSEGV"):
        session.call(Call("quantize_row_q8_a8_ref", 32, ROWS, options=Option.GUARD_AFTER))
    with pytest.raises(WorkerCrashed, match="mapped read-only"):
        session.call(Call("dequantize_row_q8_a8", 32, ROWS[::-1], options=Option.READONLY))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module:kernel", "cannot import no_such_module: ModuleNotFoundError"),
        ("json:kernel", "there is no kernel in <module 'json'"),
        ("json", "write MODULE:OBJECT"),
    ],
)
def test_unusable_objects(name: str, message: str) -> None:
    """A missing module or object is reported."""
    with Session([*WORKER, "py", name]) as session, pytest.raises(WorkerUnusable, match=message):
        _ = session.hello


def test_reference() -> None:
    """`ref` offers all functions, reports its version and hash, and computes."""
    with Session([*WORKER, "ref"], timeout=30) as session:
        assert session.hello.functions == NAMES
        assert session.hello.name == "q8a8 reference"
        assert session.hello.kernel is not None
        assert len(session.hello.kernel.sha256) == 64
        # amax 8, d = 8/127: each j is its code's eighth of 127, rounded.
        codes = bytes(int(j * 127 / 8 + 0.5) for j in range(9))
        reply = session.call(ACTIVATION)
        assert (reply.faults, reply.outputs) == (0, (codes, struct.pack("<e", 8 / 127)))


def test_reference_recipes_and_orders() -> None:
    """Recipes and orders can be chosen, and an unknown one is refused."""
    with Session([*WORKER, "ref", "--recipe", "ggml-ref", "--order", "neon"]) as session:
        assert session.hello.name == "q8a8 reference (recipe ggml-ref, order neon)"
    for flag in ("--recipe", "--order"):
        with (
            Session([*WORKER, "ref", flag, "fastest"]) as session,
            pytest.raises(WorkerUnusable, match="fastest"),
        ):
            _ = session.hello


def test_gguf_py_adapter(need: Callable[[object, str], None]) -> None:
    """The adapter quantizes and dequantizes with gguf-py; other functions are not offered."""
    need(importlib.util.find_spec("gguf"), "gguf is not installed")
    values = struct.pack("<32f", *range(1, 32), 127.0)
    block = struct.pack("<e32b", 1.0, *range(1, 32), 127)
    with Session([*WORKER, "py", "q8a8_conformance.adapters.gguf_py:kernel"], timeout=30) as session:
        assert session.hello.functions == NAMES[:3]
        for name in NAMES[:2]:
            call = Call(name, 32, (Buffer(values), Buffer(bytes(40))), options=Option.READONLY)
            assert session.call(call).outputs == (block + bytes(6),)
            assert session.call(Call(name, 0, (Buffer(b""), Buffer(b"ab")))).outputs == (b"ab",)
        call = Call(NAMES[2], 32, (Buffer(block), Buffer(bytes(132))))
        assert session.call(call).outputs == (values + bytes(4),)
        assert session.call(Call(NAMES[2], 0, (Buffer(b""), Buffer(b"")))).outputs == (b"",)
        with pytest.raises(CallRefused, match="libraries alone"):
            session.call(Call(NAMES[2], 0, (Buffer(b""), Buffer(b"")), options=Option.ROWS))


def test_minimal_worker() -> None:
    """It implements the protocol, computes the specified results, and refuses other functions."""
    one = struct.pack("<e32b", 0.5, *range(-128, -96))
    two = struct.pack("<e32b", -2.0, *[3] * 32)
    with Session([sys.executable, str(MINIMAL)], timeout=30) as session:
        assert session.hello.functions == ("dequantize_row_q8_a8", "ggml_vec_dot_q8_a8_q8_a8")
        assert session.hello.capabilities == ()
        reply = session.call(Call("dequantize_row_q8_a8", 32, (Buffer(one), Buffer(bytes(130)))))
        expected = struct.pack("<32f", *(q * 0.5 for q in range(-128, -96)))
        assert (reply.faults, reply.outputs) == (0, (expected + bytes(2),))
        buffers = (Buffer(bytes(4)), Buffer(one * 2), Buffer(two * 2))
        (output,) = session.call(Call("ggml_vec_dot_q8_a8_q8_a8", 64, buffers)).outputs
        assert struct.unpack("<f", output) == (2 * -1.0 * 3 * sum(range(-128, -96)),)
        with pytest.raises(CallRefused, match="not offered"):
            session.call(ACTIVATION)
        assert session.starts == 1
