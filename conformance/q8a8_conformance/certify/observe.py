"""What the certifier sees of a kernel: its hello, and its answers to a domain's questions.

A library, a Python object and the reference are served by `q8a8_conformance.certify.child`; any other worker
(``exec:``) is asked over the worker protocol, call by call.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from q8a8_conformance.certify.ask import OverProtocol
from q8a8_conformance.protocol.hello import decode_hello
from q8a8_conformance.protocol.messages import MAX_FRAME, MAX_HELLO, Hello, ProtocolError
from q8a8_conformance.protocol.process import DeadlineExceeded, ProcessEnded, WorkerProcess, describe_exit
from q8a8_conformance.protocol.session import SessionError
from q8a8_conformance.worker import machine

if TYPE_CHECKING:
    from q8a8_conformance.certify.domains import Domain
    from q8a8_conformance.protocol.sut import Sut

_CHILD = "q8a8_conformance.certify.child"


class ObserverError(Exception):
    """The kernel did not answer: it crashed, hung, raised, or cannot be started."""


class Observer(Protocol):
    """A running kernel."""

    @property
    def hello(self) -> Hello:
        """What it says of itself."""

    @property
    def names(self) -> tuple[str, ...]:
        """The functions that it can be asked for."""

    def answer(self, domain: Domain, start: int, stop: int) -> bytes:
        """Return its results for a piece of a domain, or raise `ObserverError`."""

    def close(self) -> None:
        """End it."""


class InChild:
    """A kernel in a process that builds a domain's inputs by itself; it is started again after a crash."""

    def __init__(self, sut: Sut, timeout: float) -> None:
        arguments = sut.argv[sut.argv.index("q8a8_conformance.worker") + 1 :]
        self._argv = (sys.executable, "-m", _CHILD, *arguments)
        self._timeout = timeout
        self._process: WorkerProcess | None = None
        self.hello = self._start()
        self.names = (*self.hello.functions, *self.hello.extra.get("conversions", ()))

    def answer(self, domain: Domain, start: int, stop: int) -> bytes:
        """See `Observer`."""
        if self._process is None:
            self._start()
        question = {"domain": domain.name, "start": start, "stop": stop}
        reply = self._exchange(b"A" + json.dumps(question).encode(), MAX_FRAME, self._timeout)
        if reply[:1] != b"R":
            raise ObserverError(reply[1:].decode("utf-8", "replace"))
        return reply[1:]

    def close(self) -> None:
        """See `Observer`."""
        if self._process is not None:
            self._process.quit()
            self._process = None

    def _start(self) -> Hello:
        try:
            self._process = WorkerProcess(self._argv)
        except OSError as error:
            raise ObserverError(f"cannot start {self._argv[0]}: {error}") from None
        try:
            return decode_hello(self._exchange(None, MAX_HELLO, 60))
        except ProtocolError as error:
            self._end()
            raise ObserverError(str(error)) from None

    def _exchange(self, payload: bytes | None, limit: int, timeout: float) -> bytes:
        """Send a payload, if there is one, and read one; whatever goes wrong ends the process."""
        process = self._process
        if process is None:  # pragma: no cover -- callers have started it
            raise AssertionError
        deadline = time.monotonic() + timeout
        try:
            return (
                process.receive(limit, deadline)
                if payload is None
                else process.exchange(payload, limit, deadline)
            )
        except DeadlineExceeded:
            self._end()
            raise ObserverError(f"the kernel hung: no answer within {timeout:.0f} s") from None
        except ProtocolError as error:
            self._end()
            raise ObserverError(f"the kernel's process wrote to the certifier: {error}") from None
        except ProcessEnded:
            status, tail = self._end(grace=1.0)
            how = "closed its output" if status is None else describe_exit(status)
            raise ObserverError(f"the kernel's process ended ({how})\n{tail}".rstrip()) from None
        except BaseException:
            self._end()  # the exchange was left half-way: an interrupt
            raise

    def _end(self, grace: float = 0.0) -> tuple[int | None, str]:
        process, self._process = self._process, None
        if process is None:
            return None, ""
        status = process.end(grace)
        return status, process.stderr_tail


class InSession:
    """A worker of any kind, asked over the worker protocol."""

    def __init__(self, sut: Sut, timeout: float) -> None:
        self._session = sut.session(timeout)
        try:
            self.hello = self._session.hello
        except SessionError as error:
            raise ObserverError(str(error)) from None
        self.names = self.hello.functions
        self._functions = OverProtocol(self._session)

    def answer(self, domain: Domain, start: int, stop: int) -> bytes:
        """See `Observer`."""
        try:
            return np.ascontiguousarray(domain.ask(self._functions, start, stop)).tobytes()
        except SessionError as error:
            raise ObserverError(str(error)) from None

    def close(self) -> None:
        """See `Observer`."""
        self._session.close()


def observe(sut: Sut, timeout: float) -> InChild | InSession:
    """Start a kernel; ObserverError if that fails."""
    return InSession(sut, timeout) if sut.kind == "exec" else InChild(sut, timeout)


def identify(sut: Sut, hello: Hello) -> dict[str, str]:
    """Return the SHA-256 of each file that is certified, by a name that is the same on every machine.

    A library or a Python module is hashed here, the reference as its package's sources. Of a command, the
    files that it names are hashed, and what the worker says of its kernel is added.
    """
    if sut.kind == "ref":
        package = Path(_file_of("q8a8.abi")).parent
        return {"q8a8 (sources)": machine.sha256_of_sources(package)}
    if sut.kind == "lib":
        path = Path(sut.spec.partition(":")[2]).expanduser()
        return {path.name: machine.sha256_of(path)}
    if sut.kind == "py":
        path = Path(_file_of(sut.spec.split(":")[1]))
        return {path.name: machine.sha256_of(path)}
    files = {}
    for path in (Path(shutil.which(sut.argv[0]) or sut.argv[0]), *map(Path, sut.argv[1:])):
        if path.is_file():
            files[path.name] = machine.sha256_of(path)
    if hello.kernel is not None:
        files[f"{Path(hello.kernel.path).name} (as the worker says)"] = hello.kernel.sha256
    return files


def _file_of(module: str) -> str:
    """Return a module's file without running the module."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ObserverError(f"the module {module} has no file")
    return spec.origin


def digest(files: dict[str, str]) -> str:
    """Return one SHA-256 for all files: over their lines ``hash  name``, sorted."""
    lines = "".join(f"{sha}  {name}\n" for name, sha in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()
