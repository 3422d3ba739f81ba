"""Calls that are sent ahead of the answer to the one before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.protocol.messages import Buffer, Call
from q8a8_conformance.protocol.session import (
    ProtocolViolation,
    Session,
    WorkerCrashed,
)

if TYPE_CHECKING:
    from collections.abc import Callable


CALL = Call("dequantize_row_q8_a8", 32, (Buffer(bytes(34)), Buffer(bytes(128))))


AHEAD = 'hello(capabilities=["ahead"])\n'
OTHER = Call("dequantize_row_q8_a8", 0, (Buffer(bytes(34)), Buffer(bytes(128))))
"""Another call than `CALL`; scripted workers answer both alike."""


def test_an_announced_call_is_sent_ahead(scripted: Callable[..., Session]) -> None:
    """A worker with the capability may read the next call before it answers this one."""
    both = "first, second = receive(), receive()\nsend(result(first)); send(result(second, detail=b'2'))\n"
    session = scripted(AHEAD + both + "send(result(receive(), detail=b'3'))\nreceive()")
    _ = session.hello
    session.announce(OTHER)
    assert session.call(CALL).detail == ""
    assert session.call(OTHER).detail == "2"
    assert session.call(OTHER).detail == "3"


def test_without_the_capability_no_call_is_sent_ahead(scripted: Callable[..., Session]) -> None:
    """Other workers get one call at a time."""
    session = scripted(
        "hello()\ncall = receive()\nos.set_blocking(0, False)\nearly = inp.raw.read(1)\n"
        "send(result(call, detail=str(early).encode()))\ntime.sleep(60)"
    )
    _ = session.hello
    session.announce(OTHER)
    assert session.call(CALL).detail == "None"


def test_answers_that_arrive_together(scripted: Callable[..., Session]) -> None:
    """The beginning of the next answer may arrive with this one; a further one is a violation."""
    one = "both = [result(call) for call in (receive(), receive())]\n"
    two = (
        "out.write(b''.join(struct.pack('<I', len(each)) + each for each in both + both[1:]))\nout.flush()\n"
    )
    session = scripted(AHEAD + one + two + "time.sleep(60)")
    _ = session.hello
    session.announce(OTHER)
    assert session.call(CALL).outputs == (bytes(128),)
    with pytest.raises(ProtocolViolation, match=r"bytes or more after the answer|answer to call 2, expected"):
        session.call(OTHER)


@pytest.mark.parametrize("end", ["sys.exit(3)", "time.sleep(60)", "os.write(1, bytes(4))"])
def test_an_announced_call_need_not_be_made(scripted: Callable[..., Session], end: str) -> None:
    """Whatever a call does that was announced and is not made, the next one has a worker and its time."""
    session = scripted(
        f"{AHEAD}numbers = []\nwhile True:\n    numbers.append(receive())\n"
        f"    if numbers == [1, 2]: {end}\n    send(result(numbers[-1]))",
        timeout=0.6,
    )
    _ = session.hello
    session.announce(OTHER)
    for _ in range(2):
        assert session.call(CALL).outputs == (bytes(128),)
    assert session.starts == 2
    assert (session.crashes, session.hangs, session.violations) == (0, 0, 0)


def test_an_announced_call_is_sent_again(scripted: Callable[..., Session]) -> None:
    """What was sent ahead to a worker that died is sent to the next one, though only part of it was sent."""
    large = Call("dequantize_row_q8_a8", 2**20, (Buffer(bytes(34 * 2**15)), Buffer(bytes(2**22))))
    session = scripted(
        f"{AHEAD}call = receive()\nif call == 1: sys.exit(3)\nsend(result(call, bytes(2**22)))\nreceive()"
    )
    _ = session.hello
    session.announce(large)
    with pytest.raises(WorkerCrashed):
        session.call(CALL)
    assert session.call(large).outputs == (bytes(2**22),)
    assert session.starts == 2


def test_a_large_call_ahead(scripted: Callable[..., Session]) -> None:
    """A call that the pipe does not take at once is written while earlier answers are received."""
    large = Call("dequantize_row_q8_a8", 2**20, (Buffer(bytes(34 * 2**15)), Buffer(bytes(2**22))))
    session = scripted(
        f"{AHEAD}while True:\n    call = receive()\n    send(result(call, bytes(128 if call % 2 else 2**22)))"
    )
    _ = session.hello
    for _ in range(2):
        session.announce(large)
        assert session.call(CALL).outputs == (bytes(128),)
        session.announce(CALL)
        assert session.call(large).outputs == (bytes(2**22),)
    session.announce(Call("dequantize_row_q8_a8", 32, (Buffer(bytes(34)), Buffer(bytes(2**28)))))
    assert session.call(CALL).outputs == (bytes(128),)
    assert session.starts == 1


def test_an_interrupt_while_an_answer_is_dropped(
    scripted: Callable[..., Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker ends, so that the next call cannot read the answer."""
    session = scripted(AHEAD + "while True: send(result(receive()))")
    _ = session.hello
    session.announce(OTHER)
    session.call(CALL)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("q8a8_conformance.protocol.process.WorkerProcess.receive", interrupt)
        with pytest.raises(KeyboardInterrupt):
            session.call(CALL)
    assert not session.is_running
    assert session.call(CALL).outputs == (bytes(128),)
