"""A call that is the first one of a process, several times: each in a copy of the worker (`fork`).

Each copy is stopped at another moment of its first call. A process that has threads of its own already is
not copied: they would be missing in the copy.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from q8a8_conformance.protocol.codec import decode_reply, encode_error, encode_result
from q8a8_conformance.protocol.messages import Error, Fault, Overlap, ProtocolError, Result
from q8a8_conformance.worker.caller import CannotCall

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8_conformance.protocol.messages import Call

DELAYS_NS = tuple(1000 * delay for delay in (200, 1000, 50, 5000, 20000, 0, 500, 10))
"""When the first call is stopped: initializations take from a few to many thousand microseconds."""
EXIT_FAILED = 1
"""Exit status of a copy that failed by an error of its own."""
_NAP_SECONDS = 2e-4
_PATIENCE = 60
"""How many times as long as it may compute a copy may take that does not compute at all."""
_MAX_SECONDS = 1.5
"""After so long no further copy is made."""


def can_copy() -> bool:
    """Return whether this process has a single thread, as far as the system says."""
    try:
        return len(list(Path("/proc/self/task").iterdir())) == 1
    except OSError:
        return False


def run_copies(call: Call, run: Callable[[Call, int], Result]) -> Result:
    """Make a call in copies of this process; return the result of the first in which something is wrong.

    Parameters
    ----------
    call : Call
        Its `together.fresh` is the number of copies.
    run : callable
        Makes the call, whose first one is stopped after so many nanoseconds.

    Raises
    ------
    CannotCall
        A copy could not make the call.
    """
    first: Result | None = None
    overlap = Overlap()
    started = time.monotonic()
    for number in range(call.together.fresh if call.together else 1):
        if first and time.monotonic() - started > _MAX_SECONDS:
            break
        result = _run_copy(call, run, DELAYS_NS[number % len(DELAYS_NS)])
        found = result.overlap or Overlap()
        overlap = Overlap(
            overlap.nanoseconds + found.nanoseconds, overlap.stops + found.stops, number + 1, found.others
        )
        result = replace(result, overlap=overlap)
        if result.faults:
            return result
        if first is None:
            first = result
        elif (first.outputs, first.overlap and first.overlap.others) != (result.outputs, found.others):
            detail = "the first calls of two processes differ"
            fault = Fault.THREAD_RESULT_VARIES if call.threads > 1 else Fault.RESULT_VARIES
            return replace(result, faults=fault, detail=detail)
    if first is None:
        raise CannotCall("no copy was made")
    return replace(first, overlap=overlap)


def survives(attempt: Callable[[], object], seconds: float) -> bool:
    """Return whether a copy of this process can attempt something, and ends before it has computed so long.

    Who waits for a copy that will not go on computes meanwhile. What others have the processor for does not
    count: on a busy machine an ordinary copy may take any time.
    """
    child = os.fork()
    if child == 0:
        status = EXIT_FAILED
        try:
            attempt()
            status = 0
        finally:
            os._exit(status)
    deadline = time.monotonic() + _PATIENCE * seconds
    while time.monotonic() < deadline and _computed(child) < seconds:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status == 0
        time.sleep(_NAP_SECONDS)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def _computed(process: int) -> float:
    """Return the seconds that a process has computed; 0 where the system does not say."""
    try:
        text = Path(f"/proc/{process}/stat").read_bytes()
    except OSError:
        return 0.0
    user, system = text[text.rfind(b")") + 2 :].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _run_copy(call: Call, run: Callable[[Call, int], Result], delay_ns: int) -> Result:
    """Make the call in a copy of this process; end as the copy does where it does not answer."""
    source, sink = os.pipe()
    child = os.fork()
    if child == 0:
        _answer(sink, call, run, delay_ns)
    os.close(sink)
    with os.fdopen(source, "rb") as pipe:
        payload = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        with suppress(OSError, ValueError):
            signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    if os.WEXITSTATUS(status) or not payload:
        os._exit(os.WEXITSTATUS(status))  # the kernel has ended the process
    try:
        reply = decode_reply(payload, call, 0)
    except ProtocolError as error:
        raise CannotCall(f"a copy of the worker failed: {error}") from None
    if isinstance(reply, Error):
        raise CannotCall(reply.text)
    return reply


def _answer(sink: int, call: Call, run: Callable[[Call, int], Result], delay_ns: int) -> None:
    """Make the call, write the answer and end this process, a copy, whatever happens."""
    status = EXIT_FAILED
    try:
        try:
            payload = encode_result(run(call, delay_ns), 0)
        except CannotCall as refusal:
            payload = encode_error(Error(str(refusal)), 0)
        with os.fdopen(sink, "wb") as pipe:
            pipe.write(payload)
        status = 0
    finally:
        os._exit(status)
