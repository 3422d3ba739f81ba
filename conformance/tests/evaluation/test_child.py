"""Measuring processes: what they are asked, how they fail, and that they end with their parent."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from q8a8_evaluation.child import ONE_THREAD, Child, ChildError, read_message, write_message

MODULE = """
import os, sys, time
from q8a8_evaluation.child import ONE_THREAD, serve

def answer(request, body):
    match request["op"]:
        case "echo":
            print("printed by the library", flush=True)
            return {"length": len(body)}, body
        case "refuse":
            raise LookupError("not today")
        case "fail":
            raise ZeroDivisionError("a defect")
        case "flood":
            sys.stderr.write("x" * 1_000_000)
            return {}, b""
        case "hang":
            time.sleep(600)

def start(request):
    if request == "refuse":
        raise LookupError("cannot start")
    if request == "once":
        return {"threads": [os.environ[name] for name in ONE_THREAD]}, None
    return {"pid": os.getpid()}, answer

serve(start, LookupError)
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write the module that the processes run, and return its name."""
    (tmp_path / "measuring.py").write_text(MODULE, encoding="utf-8")
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    monkeypatch.setenv("PYTHONPATH", path)
    return "measuring"


def test_messages() -> None:
    """A message comes back as it was; at the end of the stream, or where it is cut, there is none."""
    stream = io.BytesIO()
    write_message(stream, {"op": "ü"}, b"\n\x00{")
    write_message(stream, {})
    data = stream.getvalue()
    reader = io.BytesIO(data)
    assert read_message(reader) == ({"op": "ü"}, b"\n\x00{")
    assert read_message(reader) == ({}, b"")
    assert read_message(reader) is None
    for cut in (1, data.index(b"\n") + 2):
        assert read_message(io.BytesIO(data[:cut])) is None


def test_one_answer(module: str) -> None:
    """A module without a handler answers once, with one thread for every BLAS, and ends."""
    with Child(module, "once") as child:
        assert child.read() == ({"threads": ["1"] * len(ONE_THREAD)}, b"")
        with pytest.raises(ChildError, match="exit status 0"):
            child.read()


def test_questions_and_answers(module: str) -> None:
    """JSON and bytes go both ways; what is printed, however much, does not get between."""
    with Child(module, None) as child:
        assert child.read()[0]["pid"] == child.pid
        for body in (b"", bytes(range(256)) * 4096):
            assert child.ask(body, op="echo") == ({"length": len(body)}, body)
        assert child.ask(op="flood") == ({}, b"")


def test_refusals(module: str) -> None:
    """An exception that the module names is a refusal, after which it goes on; at the start it is the end."""
    with Child(module, None) as child:
        child.read()
        child.ask(op="echo")
        with pytest.raises(ChildError) as caught:
            child.ask(op="refuse")
        assert (caught.value.reason, caught.value.printed) == ("not today", "printed by the library\n")
        assert child.ask(b"x", op="echo")[1] == b"x"
    with Child(module, "refuse") as child, pytest.raises(ChildError, match=r"^cannot start$"):
        child.read()


def test_failures(module: str) -> None:
    """Any other exception is reported with how the process ended and what it printed last."""
    with Child(module, None) as child:
        child.read()
        with pytest.raises(ChildError, match=r"(?s)^exit status 1\n.*ZeroDivisionError: a defect"):
            child.ask(op="fail")
    with Child("no_such_module", None) as child, pytest.raises(ChildError, match="No module named"):
        child.read()


def test_death_and_end(module: str) -> None:
    """A process that was killed is reported so; one that was closed cannot be asked."""
    child = Child(module, None)
    child.read()
    os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(ChildError, match="killed by SIGKILL"):
        child.ask(op="echo")
    child.close()
    with pytest.raises(ChildError, match="was ended"):
        child.ask(op="echo")


def test_it_ends_with_its_parent(module: str) -> None:
    """A parent that is killed takes along a process that is in the middle of measuring."""
    program = (
        "from q8a8_evaluation.child import Child\n"
        f"child = Child({module!r}, None)\n"
        "print(child.read()[0]['pid'], flush=True)\n"
        "child.ask(op='hang')\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        time.sleep(0.1)
        parent.kill()
    until = time.monotonic() + 20
    while running(pid):
        assert time.monotonic() < until, "the process goes on without its parent"
        time.sleep(0.02)


def running(pid: int) -> bool:
    """Return whether a process runs: it exists, and is no zombie that nobody waits for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
