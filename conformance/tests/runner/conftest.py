"""What the runner's tests share: a library of faulty kernels, and hostile workers."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.protocol.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent

# What a worker written by hand needs; -S -E start Python in a third of the time.
PREAMBLE = """
import json, os, signal, struct, sys, time
out, inp = sys.stdout.buffer, sys.stdin.buffer
def send(payload):
    out.write(struct.pack("<I", len(payload)) + payload); out.flush()
def hello(**more):
    body = {"protocol": 1, "name": "t", "functions": ["dequantize_row_q8_a8"], **more}
    send(b"H" + json.dumps(body).encode())
def receive():
    head = inp.read(4)
    if not head: sys.exit(0)
    payload = inp.read(struct.unpack("<I", head)[0])
    if payload[:1] == b"Q": sys.exit(0)
    return struct.unpack_from("<I", payload, 1)[0]
def result(call, output=bytes(128), faults=0, detail=b""):
    return (b"R" + struct.pack("<III", call, faults, len(detail)) + detail
            + struct.pack("<BI", 1, len(output)) + output)
"""


@pytest.fixture(scope="session")
def faulty_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the library built from faulty.c."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    library = tmp_path_factory.mktemp("faulty") / "libfaulty.so"
    command = [compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(HERE / "faulty.c"), "-lm"]
    subprocess.run(command, check=True, timeout=60)  # noqa: S603 -- the compiler, on our own file
    return library


@pytest.fixture
def scripted() -> Iterator[Callable[..., Session]]:
    """Return a maker of sessions with a worker that runs the given Python lines."""
    sessions = []

    def make(body: str, timeout: float = 5.0, start_timeout: float = 10.0) -> Session:
        argv = [sys.executable, "-S", "-E", "-c", PREAMBLE + body]
        sessions.append(Session(argv, timeout, start_timeout=start_timeout))
        return sessions[-1]

    yield make
    for session in sessions:
        session.close()
