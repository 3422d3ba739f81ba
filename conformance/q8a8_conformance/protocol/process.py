"""A worker process: send messages and receive their answers in order, whatever the process does.

Everything is bounded: time by a deadline for the whole exchange (single bytes do not extend it), memory by
the longest legal answer and by the kept tail of standard error. Both of the process's output pipes are read
while its input is written, so that no order of reading and writing deadlocks. Its exit is detected even while
a child of it keeps the pipes open, and the whole process group is killed at the end.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import subprocess
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from q8a8_conformance.protocol import deadline as clocks
from q8a8_conformance.protocol.codec import LENGTH, check_length
from q8a8_conformance.protocol.messages import BytesLike, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

STDERR_TAIL = 8192
"""Bytes of standard error that are kept."""
_CHUNK = 2**16
_PIPE_SIZE = 2**20
"""Size of the pipes where the system allows it; a large call then needs fewer context switches."""
_POLL_S = 0.1
"""Seconds between checks for the process's exit while its pipes are silent."""
_GRACE_S = 1.0
"""Seconds that a process has to exit after it closed its output or was asked to quit."""
_PATIENCE = 3.0
"""How many times its time limit a process may be late because others ran instead of it."""


class ProcessEnded(Exception):  # noqa: N818 -- an event, not an error; the session decides
    """The process exited, or closed its output, before it answered."""


class DeadlineExceeded(Exception):  # noqa: N818 -- an event, not an error; the session decides
    """The deadline passed before the answer was complete."""


def describe_exit(status: int) -> str:
    """Describe a return code of `subprocess`; shells add 128 to a signal's number."""
    for number, reporter in ((-status, ""), (status - 128, f"exit status {status}: ")):
        with contextlib.suppress(ValueError):
            return f"{reporter}killed by {signal.Signals(number).name}"
    return f"exit status {status}"


class WorkerProcess:
    """A running worker.

    Parameters
    ----------
    argv : sequence of str
        The command.
    cwd : path, optional
        Its working directory.
    env : mapping, optional
        Its environment; the runner's by default.
    one_processor : bool
        Whether it may run on one processor only, where the system can limit it so.

    Raises
    ------
    OSError
        The command cannot be started.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        one_processor: bool = False,
    ) -> None:
        # A new session: the whole process group can be killed, and Ctrl-C reaches only the runner.
        with _no_core_files(), _on_one_processor() if one_processor else contextlib.nullcontext():
            self._process = subprocess.Popen(
                list(argv),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
                cwd=cwd,
                env=env,
            )
        pipes = (self._process.stdin, self._process.stdout, self._process.stderr)
        self._stdin, self._stdout, self._stderr = (pipe.fileno() for pipe in pipes if pipe is not None)
        self._poll = select.poll()  # of so few descriptors, cheaper than the classes of `selectors`
        self._stderr_is_open = True
        for descriptor in (self._stdin, self._stdout, self._stderr):
            os.set_blocking(descriptor, False)
            _enlarge_pipe(descriptor)
        self._poll.register(self._stdout, select.POLLIN)
        self._poll.register(self._stderr, select.POLLIN)
        self._tail = b""
        self._outbox: list[memoryview] = []  # what the pipe has not taken yet
        self._sent = 0
        self._ends: deque[int] = deque()  # of `_sent`, at the end of each message without an answer
        self._rest = b""  # the beginning of the next answer, read with the one before
        clocks.begin(self)

    @property
    def pid(self) -> int:
        """The id of the process and of its group."""
        return self._process.pid

    @property
    def seconds_waiting(self) -> float:
        """Seconds that the process was ready to run while others ran; 0 where the system does not say.

        Of several threads, those of the one that has waited most.
        """
        return clocks.seconds_waiting(Path(f"/proc/{self.pid}/task").glob("*"))

    @property
    def stderr_tail(self) -> str:
        """The end of the process's standard error, at most `STDERR_TAIL` bytes."""
        return self._tail.decode("utf-8", "replace")

    def send(self, payload: BytesLike) -> None:
        """Send one payload: as much of it as the pipe takes now, the rest while answers are received.

        Raises
        ------
        ProtocolError
            The payload is too long, or the process sent bytes before the message.
        ProcessEnded
            It exited or closed its output.
        """
        if not self._ends:
            self._check_no_output()
        head = LENGTH.pack(check_length(len(payload)))
        self._sent += len(head) + len(payload)
        self._ends.append(self._sent)
        self._write([memoryview(head), memoryview(payload)])

    def receive(self, limit: int, deadline: float) -> bytes:
        """Receive one payload: the answer to the first message that has none, or what is sent unasked.

        Parameters
        ----------
        limit : int
            The longest payload accepted; a longer one is refused before it is stored.
        deadline : float
            The time limit, on the clock of `time.monotonic`. What the process waits meanwhile for others to
            run does not count, up to `_PATIENCE` times what is left now: a busy machine is no hang.

        Raises
        ------
        ProtocolError
            The process sent an illegal length, or more answers than it got messages, or it answered before
            it had read the whole message.
        ProcessEnded
            It exited or closed its output.
        DeadlineExceeded
            The deadline passed.
        """
        inbox = _Inbox(limit, self._rest)
        self._rest = b""
        self._transfer(inbox, deadline)
        if self._ends and self._ends.popleft() > self._sent - sum(map(len, self._outbox)):
            raise ProtocolError("the worker answered before it had read the whole call")
        if inbox.rest and not self._ends:
            raise ProtocolError(f"{len(inbox.rest)} bytes or more after the answer")
        self._rest = inbox.rest
        return bytes(inbox.payload)

    def exchange(self, payload: BytesLike, limit: int, deadline: float) -> bytes:
        """Send one payload and receive the answer: :meth:`send` and :meth:`receive`."""
        self.send(payload)
        return self.receive(limit, deadline)

    def _check_no_output(self) -> None:
        try:
            extra = os.read(self._stdout, _CHUNK)
        except BlockingIOError:
            return
        if extra:
            raise ProtocolError(f"the worker sent {len(extra)} bytes or more without a call")
        raise ProcessEnded("after its last answer")

    def _transfer(self, inbox: _Inbox, deadline: float) -> None:
        """Write what is left of the messages and read a payload, as the pipes allow, until it is complete."""
        writing = bool(self._outbox)
        if writing:
            self._poll.register(self._stdin, select.POLLOUT)
        exited = False
        patience = _Patience(self, deadline)
        try:
            while not inbox.complete:
                left = patience.left()
                if left <= 0:
                    raise DeadlineExceeded(inbox.progress)
                milliseconds = 0 if exited else math.ceil(1000 * min(left, _POLL_S))
                ready = [descriptor for descriptor, _ in self._poll.poll(milliseconds)]
                if not ready:
                    patience.begin()
                    if exited:  # and all that it had written has been read
                        raise ProcessEnded(inbox.progress)
                    exited = self._exited()
                self._serve(ready, inbox)
                if writing and not self._outbox:
                    writing = False
                    self._poll.unregister(self._stdin)
        finally:
            if writing:
                self._poll.unregister(self._stdin)

    def _serve(self, ready: Sequence[int], inbox: _Inbox) -> None:
        """Read or write each ready pipe once."""
        if self._stderr in ready:
            self._read_stderr()
        if self._stdin in ready:
            self._write()
        if self._stdout in ready and not inbox.read(self._stdout):
            raise ProcessEnded(inbox.progress)

    def _write(self, message: Iterable[memoryview] = ()) -> None:
        """Write what the pipe takes of the messages that are left, and of one more."""
        self._outbox += message
        while self._outbox:
            try:
                written = os.writev(self._stdin, self._outbox)
            except BlockingIOError:
                return
            except BrokenPipeError:
                self._outbox.clear()  # its answer or its exit is found on its output
                return
            while self._outbox and written >= len(self._outbox[0]):
                written -= len(self._outbox.pop(0))
            if self._outbox:
                self._outbox[0] = self._outbox[0][written:]

    def _read_stderr(self) -> bool:
        """Read a chunk of standard error; return False if there is none now."""
        try:
            chunk = os.read(self._stderr, _CHUNK)
        except BlockingIOError:
            return False
        if not chunk and self._stderr_is_open:
            self._poll.unregister(self._stderr)
            self._stderr_is_open = False
        self._tail = (self._tail + chunk)[-STDERR_TAIL:]
        return bool(chunk)

    def _exited(self) -> bool:
        """Return whether the process has exited. It is not reaped, so that its group's id is not reused."""
        if self._process.returncode is not None:
            return True
        if not hasattr(os, "waitid"):  # pragma: no cover -- macOS before Python 3.13
            return self._process.poll() is not None
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def end(self, grace: float = 0.0) -> int | None:
        """Kill the process group, close the pipes and return the process's exit status.

        Parameters
        ----------
        grace : float
            Seconds that the process has to exit by itself first.

        Returns
        -------
        int or None
            As in `subprocess`: negative for a signal. None if the process had to be killed.
        """
        if self._process.returncode is not None:
            return self._process.returncode
        deadline = time.monotonic() + grace
        while not (exited := self._exited()) and time.monotonic() < deadline:
            self._read_stderr()
            time.sleep(0.002)
        clocks.end(self)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        for _ in range(_PIPE_SIZE // _CHUNK + 1):
            if not self._read_stderr():
                break
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE_S)  # only an uninterruptible system call delays SIGKILL
        return self._process.returncode if exited else None

    def quit(self) -> None:
        """Ask the process to quit, then kill it if it does not."""
        if self._process.returncode is None:
            self._write([memoryview(LENGTH.pack(1) + b"Q")])
        self.end(_GRACE_S)


class _Patience:
    """A time limit that moves by what a process waits for others to run, up to `_PATIENCE` times itself."""

    def __init__(self, process: WorkerProcess, deadline: float) -> None:
        self._process = process
        self._deadline = deadline
        self._most = _PATIENCE * max(0.0, deadline - time.monotonic())
        self._before: float | None = None

    def begin(self) -> None:
        """Count from here on: the process has been silent for a moment, which most are not."""
        if self._before is None:
            self._before = self._process.seconds_waiting

    def left(self) -> float:
        """Return the seconds that are left."""
        left = self._deadline - time.monotonic()
        if left > 0 or self._before is None:
            return left
        return left + min(self._process.seconds_waiting - self._before, self._most)


class _Inbox:
    """One payload being received.

    Parameters
    ----------
    limit : int
        The longest payload accepted.
    start : bytes
        Of the payload with its length: what has been read of it already.

    Attributes
    ----------
    payload : bytearray
        As much as was received.
    complete : bool
        Whether that is all.
    rest : bytes
        What was read beyond it.
    """

    def __init__(self, limit: int, start: bytes = b"") -> None:
        self.payload = bytearray()
        self.complete = False
        self.rest = b""
        self._limit = limit
        self._head = b""
        self._at = 0
        self._length: int | None = None
        if start:
            self._start(start)
            self.complete = self._at == self._length

    @property
    def progress(self) -> str:
        """A description of the bytes received so far."""
        if self._length is None:
            if not self._head:
                return "no answer received"
            return f"{len(self._head)} of an answer's 4 length bytes received"
        return f"{self._at} of the answer's {self._length} bytes received"

    def read(self, descriptor: int) -> bool:
        """Read once; return False at the end of the stream."""
        try:
            if self._length is not None:
                count = os.readv(descriptor, [memoryview(self.payload)[self._at :]])
                self._at += count
            else:
                chunk = os.read(descriptor, _CHUNK)
                count = len(chunk)
                self._start(self._head + chunk)
        except BlockingIOError:
            return True
        self.complete = self._at == self._length
        return count > 0

    def _start(self, data: bytes) -> None:
        """Read the length, once it is complete, and the bytes after it."""
        if len(data) < LENGTH.size:
            self._head = data
            return
        self._length = check_length(LENGTH.unpack_from(data)[0], self._limit)
        end = LENGTH.size + self._length
        self.payload = bytearray(self._length)
        self._at = min(len(data), end) - LENGTH.size
        self.payload[: self._at] = data[LENGTH.size : end]
        self.rest = data[end:]


@contextlib.contextmanager
def _on_one_processor() -> Iterator[None]:
    """Limit this thread, and processes that it starts, to one processor."""
    if not hasattr(os, "sched_setaffinity"):  # pragma: no cover -- not on every system
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


@contextlib.contextmanager
def _no_core_files() -> Iterator[None]:
    """Start processes that leave no core file where they crash: in the user's folder."""
    try:
        import resource  # noqa: PLC0415 -- not on every system

        before = resource.getrlimit(resource.RLIMIT_CORE)
        resource.setrlimit(resource.RLIMIT_CORE, (0, before[1]))
    except (ImportError, OSError):  # pragma: no cover -- a core file is no harm to the verdict
        yield
        return
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)


def _enlarge_pipe(descriptor: int) -> None:
    try:
        import fcntl  # noqa: PLC0415 -- not on every system

        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
    except (ImportError, AttributeError, OSError):  # pragma: no cover -- only slower
        return
