"""Processes that measure: started with a BLAS of one thread, asked by messages, ended with their parent.

The number of BLAS threads is fixed when NumPy is loaded, and resident memory is that of a whole process: so
each measurement has one of its own. A module that measures ends with ``serve(start)``; `Child` runs it::

    with Child("q8a8_evaluation.bench.speed", {"quick": True}) as child:
        figures, _ = child.read()           # what start(request) gave
        answer, data = child.ask(op="...")  # what its handler answers, where it gave one

A message is one line of JSON, whose ``bytes`` says how many bytes follow it. An answer that has an ``error``
is a refusal.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from queue import SimpleQueue
from threading import Thread
from typing import IO, TYPE_CHECKING, Any, NoReturn, Self, TypeAlias

from q8a8_conformance.protocol.process import describe_exit

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["ONE_THREAD", "Child", "ChildError", "read_message", "serve", "write_message"]

ONE_THREAD = dict.fromkeys(
    (
        "OPENBLAS_NUM_THREADS",
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "BLIS_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
    ),
    "1",
)
"""Every BLAS that NumPy is built with reads one of these when it is loaded."""

Message: TypeAlias = "tuple[dict[str, Any], bytes]"
Answer: TypeAlias = "tuple[dict[str, Any], bytes | memoryview]"

_TAIL = 2000
"""Characters of what a process printed that an error shows."""


class ChildError(RuntimeError):
    """A measuring process refused a request, or ended.

    Parameters
    ----------
    reason
        Its refusal, or how it ended.
    printed
        The end of what it wrote to standard error.
    """

    def __init__(self, reason: str, printed: str) -> None:
        super().__init__(f"{reason}\n{printed}".rstrip())
        self.reason, self.printed = reason, printed


class Child:
    """A running process; a context manager, which kills it.

    Parameters
    ----------
    module
        What it runs: a module that ends with `serve`.
    request
        What the module's `start` gets, for JSON.
    """

    def __init__(self, module: str, request: object) -> None:
        # A file: a pipe that nobody reads would stop a process that prints much.
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`)
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, json.dumps(request)],
            env=os.environ | ONE_THREAD,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._printed,
        )

    def __enter__(self) -> Self:
        """Return the child itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill the process."""
        self.close()

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def close(self) -> None:
        """Kill the process; nothing can be asked afterwards."""
        self._process.kill()
        self._process.communicate()
        self._printed.close()

    def read(self) -> Message:
        """Wait for one answer.

        Raises
        ------
        ChildError
            The process refused, or ended.
        """
        stream = self._process.stdout
        message = read_message(stream) if stream else None
        if message is None:
            raise ChildError(describe_exit(self._process.wait()), self._tail())
        if "error" in message[0]:
            raise ChildError(message[0]["error"], self._tail())
        return message

    def ask(self, body: bytes = b"", **request: object) -> Message:
        """Send a request, and wait for its answer; errors as `read`."""
        if self._printed.closed or self._process.stdin is None:
            raise ChildError("the process was ended", "")
        # Of a process that has died, `read` reports how.
        with contextlib.suppress(BrokenPipeError):
            write_message(self._process.stdin, request, body)
        return self.read()

    def _tail(self) -> str:
        self._printed.seek(0)
        return self._printed.read().decode("utf-8", "replace")[-_TAIL:]


def read_message(stream: IO[bytes]) -> Message | None:
    """Read a message; None at the end of the stream."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    head: dict[str, Any] = json.loads(line)
    size = head.pop("bytes")
    body = stream.read(size)
    return (head, body) if len(body) == size else None


def write_message(stream: IO[bytes], head: dict[str, Any], body: bytes | memoryview = b"") -> None:
    """Write a message."""
    stream.write(json.dumps(head | {"bytes": len(body)}).encode() + b"\n")
    stream.write(body)
    stream.flush()


def serve(
    start: Callable[[Any], tuple[dict[str, Any], Callable[[dict[str, Any], bytes], Answer] | None]],
    *refusals: type[Exception],
) -> NoReturn:
    """Be the process of a `Child`: start, answer, and end when standard input does.

    Parameters
    ----------
    start
        Turns the request into the first answer and what answers the others; None where there are none.
    *refusals
        Exceptions that are reported to the parent as a refusal. Any other ends the process, with a traceback.
    """
    # What a library prints must not get between the messages.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    requests: SimpleQueue[Message] = SimpleQueue()
    Thread(target=_receive, args=(requests,), daemon=True).start()
    handler = None
    try:
        first, handler = start(json.loads(sys.argv[1]))
        write_message(out, first)
    except refusals as error:
        write_message(out, {"error": str(error)})
    while handler is not None:
        try:
            write_message(out, *handler(*requests.get()))
        except refusals as error:
            write_message(out, {"error": str(error)})
    # The thread may be in the middle of a read, which Python would wait for.
    os._exit(0)


def _receive(requests: SimpleQueue[Message]) -> None:
    """Pass requests on; at the end of standard input the parent has gone, whatever is being measured."""
    with os.fdopen(os.dup(0), "rb") as stream:
        while message := read_message(stream):
            requests.put(message)
    os._exit(0)
