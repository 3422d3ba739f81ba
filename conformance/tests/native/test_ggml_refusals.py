"""What ggml's devices cannot do, refused with its name by the harness and by the suite's own worker.

`native_check/tests/fake_ggml.c` is a device that does on demand what a real one does seldom.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.inputs import calls
from q8a8_conformance.protocol.session import CallRefused, Session, WorkerUnusable
from q8a8_conformance.protocol.sut import parse_sut
from q8a8_conformance.reveal.products.shapes import activations, weights

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Start = Callable[[str], Session]

QUANTIZE, DEQUANTIZE, MUL_MAT = "quantize_row_q8_a8", "dequantize_row_q8_a8", "mul_mat_q8_a8"


@pytest.fixture(params=["harness", "suite"])
def start(
    request: pytest.FixtureRequest, harness: Callable[..., list[str]], built: Callable[[str], Path]
) -> Start:
    """Return a function that starts the fake device in either worker, with an option NAME=VALUE or none."""
    library = built("native") / "lib" / "libq8a8-fake-ggml.so"

    def go(option: str = "") -> Session:
        if request.param == "suite":
            return parse_sut(f"ggml:{library}{':' if option else ''}{option}").session()
        name, _, value = option.partition("=")
        return Session([*harness(f"--ggml {library}"), *([f"--{name}", value] if option else [])])

    return go


@pytest.mark.parametrize(
    ("fault", "option", "message"),
    [
        ("no-backend", "", "the device FAKE cannot be initialized"),
        ("", "buffer=repack", "the device FAKE has no buffer repack"),
    ],
)
def test_devices_that_do_not_start(
    fault: str, option: str, message: str, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that cannot be initialized, or lacks a kind of buffer, is named."""
    monkeypatch.setenv("FAKE_GGML", fault)
    with pytest.raises(WorkerUnusable, match=message), start(option) as session:
        assert not session.hello.functions


@pytest.mark.parametrize(
    ("fault", "message"), [("no-memory", "has not enough memory"), ("fails", r"the device( FAKE)? failed")]
)
def test_calls_that_a_device_cannot_make(
    fault: str, message: str, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call is refused with the reason, and the worker goes on."""
    monkeypatch.setenv("FAKE_GGML", fault)
    w, x = weights(7, 64), activations(3, 64)
    with start("") as session:
        assert session.hello.functions == (QUANTIZE, DEQUANTIZE, MUL_MAT)
        for call in (calls.mul_mat(w, x), calls.quantize(QUANTIZE, x[0]), calls.dequantize(w[0])):
            with pytest.raises(CallRefused, match=message):
                session.call(call)
        # Without elements there is nothing for the device to do.
        assert not any(session.call(calls.mul_mat(w[:, :0], x[:, :0])).outputs[0])


@pytest.mark.parametrize(
    ("fault", "option", "functions"),
    [("no-op", "", ()), ("no-repack", "buffer=repack", (QUANTIZE, DEQUANTIZE))],
)
def test_functions_that_are_not_offered(
    fault: str, option: str, functions: tuple[str, ...], start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the device does not support, and a product whose weights have no place, is not offered."""
    monkeypatch.setenv("FAKE_GGML", fault)
    with start(option) as session:
        assert session.hello.functions == functions
