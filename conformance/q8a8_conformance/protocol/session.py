"""The runner's end of the worker protocol: `Session` makes calls, and survives any failure of the worker.

Each kind of failure has its exception, all derived from `SessionError`:

==================  ======================================================================================
`CallRefused`       the worker answered that it cannot make this call; it goes on
`WorkerCrashed`     it ended, by a signal or by exiting
`WorkerHung`        it did not answer in time; it was killed, with its process group
`ProtocolViolation` it sent bytes that are not a legal answer; it was killed
`WorkerUnsupported` it exited with 77: this machine's CPU lacks what the kernel needs
`WorkerUnusable`    it cannot be started, or failed so often that it is not restarted
==================  ======================================================================================

After `WorkerCrashed`, `WorkerHung` and `ProtocolViolation` the next call starts a new worker. The last two of
the table are final: every later call raises the same exception at once.
"""

# ruff: noqa: N818 -- each name describes the worker's failure; `SessionError` is the base class
from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TypeVar

from q8a8_conformance.protocol.codec import check_length, decode_reply, encode_call, reply_limit
from q8a8_conformance.protocol.hello import decode_hello
from q8a8_conformance.protocol.messages import (
    EXIT_UNSUPPORTED,
    EXIT_USAGE,
    MAX_HELLO,
    Call,
    Error,
    Hello,
    ProtocolError,
    Result,
)
from q8a8_conformance.protocol.process import DeadlineExceeded, ProcessEnded, WorkerProcess, describe_exit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

_T = TypeVar("_T")

MAX_FAILED_STARTS = 3
"""Consecutive failed starts after which the worker is not restarted."""
MAX_HANGS = 10
"""Hung calls after which the worker is not restarted: a bound on the time that a kernel can waste."""
_EXIT_GRACE_S = 1.0
"""Seconds that a worker whose output ended has to exit, so that its status is known."""


class SessionError(Exception):
    """A call gave no result.

    Parameters
    ----------
    what : str
        The failure, in one line.
    stderr : str
        The end of the worker's standard error.
    """

    def __init__(self, what: str, stderr: str = "") -> None:
        super().__init__(what, stderr)
        self.what = what
        self.stderr = stderr

    def __str__(self) -> str:
        """Return the failure, with the last lines of standard error."""
        lines = self.stderr.strip().splitlines()[-8:]
        return "\n    stderr: ".join([self.what, *lines])


class CallRefused(SessionError):
    """The worker refused the call: function not offered, bad buffers, or the kernel raised an exception."""


class WorkerCrashed(SessionError):
    """The worker ended.

    Attributes
    ----------
    how : str
        ``killed by SIGSEGV``, ``exit status 3``.
    """

    def __init__(self, what: str, stderr: str = "", how: str = "") -> None:
        super().__init__(what, stderr)
        self.how = how


class WorkerHung(SessionError):
    """The worker did not answer in time and was killed."""


class ProtocolViolation(SessionError):
    """The worker sent bytes that are not a legal answer, and was killed."""


class WorkerUnsupported(SessionError):
    """The CPU lacks a feature that the kernel needs; `stderr` names it."""


class WorkerUnusable(SessionError):
    """The worker cannot be started, or is not restarted."""


@dataclass(frozen=True)
class _Sent:
    """A call that was sent, and is not answered yet."""

    call: Call
    id: int
    process: WorkerProcess


class Session:
    """Calls of one kernel through a worker, which is started when needed.

    Parameters
    ----------
    argv : sequence of str
        The worker's command.
    timeout : float
        Seconds for one call, from the first byte sent to the last byte received.
    start_timeout : float
        Seconds from the start to the hello.
    cwd, env
        The worker's working directory and environment; the runner's by default.
    one_processor : bool
        Whether the worker may run on one processor only, where the system can limit it so.

    Attributes
    ----------
    starts, crashes, hangs, violations : int
        How often each has occurred so far.
    start_seconds : float
        From the last start to its hello, without what the worker waited for others to run: a busy machine
        makes no difference.
    ready_at : float
        When the last hello was received, on the clock of `time.monotonic`.
    max_hangs : int or None
        Hung calls after which the worker is not restarted; None for no limit.

    Examples
    --------
    >>> with Session([sys.executable, "-m", "q8a8_conformance.worker", "ref"]) as session:
    ...     session.hello.functions
    """

    def __init__(
        self,
        argv: Sequence[str],
        timeout: float = 10.0,
        *,
        start_timeout: float = 30.0,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        one_processor: bool = False,
    ) -> None:
        self.argv = tuple(argv)
        self.timeout = timeout
        self.start_timeout = start_timeout
        self.start_seconds = self.ready_at = 0.0
        self.max_hangs: int | None = MAX_HANGS
        self.starts = self.crashes = self.hangs = self.violations = 0
        self._cwd = cwd
        self._env = env
        self._one_processor = one_processor
        self._process: WorkerProcess | None = None
        self._hello: Hello | None = None
        self._final: SessionError | None = None
        self._failed_starts = 0
        self._last_id = 0
        self._tail = ""
        self._next: Call | None = None
        self._ahead: _Sent | None = None

    def __enter__(self) -> Self:
        """Return the session; the worker starts with the first use."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the worker."""
        self.close()

    @property
    def hello(self) -> Hello:
        """The worker's hello.

        Raises
        ------
        SessionError
            The worker could not be started; see the table above.
        """
        if self._hello is None:
            self._ready()
        if self._hello is None:  # pragma: no cover -- _ready returns only after a hello
            raise AssertionError
        return self._hello

    @property
    def is_running(self) -> bool:
        """Whether there is a worker: otherwise the next call starts one."""
        return self._process is not None

    @property
    def stderr_tail(self) -> str:
        """The end of the standard error of the current worker, or of the last one."""
        return self._process.stderr_tail if self._process else self._tail

    def call(self, call: Call, timeout: float | None = None) -> Result:
        """Make one call.

        Parameters
        ----------
        call : Call
            The function and its arguments.
        timeout : float, optional
            Seconds for this call; the session's by default.

        Raises
        ------
        SessionError
            See the table above.
        ValueError
            The call has a wrong number of buffers, or does not fit in a frame.
        """
        if len(call.buffers) != len(call.spec.buffers):
            expected = len(call.spec.buffers)
            raise ValueError(f"the call has {len(call.buffers)} buffers, {call.function} takes {expected}")
        ahead, following = self._ahead, self._next
        self._ahead = self._next = None
        limit = reply_limit(call)
        seconds = self.timeout if timeout is None else timeout
        if ahead is not None and (ahead.process is not self._process or ahead.call != call):
            self._discard(ahead, time.monotonic() + seconds)
            ahead = None
        deadline = time.monotonic() + seconds
        sent = ahead or self._send(call)
        if following is not None:
            with contextlib.suppress(ValueError):  # raised when it is made
                self._ahead = self._send(following)
        reply = self._guarded(
            lambda: decode_reply(sent.process.receive(limit, deadline), call, sent.id), call.function
        )
        if isinstance(reply, Error):
            raise CallRefused(reply.text, sent.process.stderr_tail)
        return reply

    def announce(self, call: Call) -> None:
        """Take the call after the next one: it is sent before the next one's result is awaited.

        So the worker computes while the runner judges. Nothing else changes: a call that is announced and
        not made has no effect on later ones, and one that is lost with its worker is sent again when it is
        made. A worker without the capability "ahead" gets one call at a time.
        """
        if self._hello is not None and "ahead" in self._hello.capabilities:
            self._next = call

    def _send(self, call: Call) -> _Sent:
        """Send a call to a worker, starting one if there is none."""
        process = self._ready()
        self._last_id = (self._last_id + 1) % 2**32
        payload = encode_call(call, self._last_id)
        try:
            check_length(len(payload))
        except ProtocolError as error:
            raise ValueError(f"the call is too large: {error}") from None
        self._guarded(lambda: process.send(payload), call.function)
        return _Sent(call, self._last_id, process)

    def _discard(self, ahead: _Sent, deadline: float) -> None:
        """Receive the answer to a call that was announced and is not made; what it does matters to nobody."""
        if ahead.process is self._process:
            try:
                ahead.process.receive(reply_limit(ahead.call), deadline)
            except (ProtocolError, DeadlineExceeded, ProcessEnded):
                self._stop(ahead.process)
            except BaseException:
                self._stop(ahead.process)  # an interrupt
                raise

    def sibling(self, environment: Mapping[str, str], *, one_processor: bool) -> Session:
        """Return a session with another worker of the same command, with more environment variables."""
        env = {**(os.environ if self._env is None else self._env), **environment}
        return Session(
            self.argv,
            self.timeout,
            start_timeout=self.start_timeout,
            cwd=self._cwd,
            env=env,
            one_processor=one_processor,
        )

    def close(self) -> None:
        """Ask the worker to quit, and kill what is left of its process group."""
        self._next = self._ahead = None
        if self._process:
            self._process.quit()
            self._tail = self._process.stderr_tail
            self._process = None

    def start(self) -> None:
        """Start a worker if there is none; raises as :attr:`hello`."""
        self._ready()

    def _ready(self) -> WorkerProcess:
        """Return a worker whose hello was received, starting one if there is none."""
        if self._final:
            raise self._final
        if self._process is None:
            self._start()
        if self._process is None:  # pragma: no cover -- _start returns only with a process
            raise AssertionError
        return self._process

    def _start(self) -> None:
        try:
            process = self._process = WorkerProcess(
                self.argv, cwd=self._cwd, env=self._env, one_processor=self._one_processor
            )
        except (OSError, ValueError) as error:
            self._final = WorkerUnusable(f"cannot start {self.argv[0]!r}: {error}")
            raise self._final from None
        self.starts += 1
        started = time.monotonic()
        deadline = started + self.start_timeout
        try:
            hello = self._guarded(lambda: decode_hello(process.receive(MAX_HELLO, deadline)), None)
        except SessionError as error:
            self._failed_starts += 1
            if self._failed_starts >= MAX_FAILED_STARTS and not self._final:
                what = f"the worker failed to start {self._failed_starts} times in a row; the last time: "
                self._final = WorkerUnusable(what + error.what, error.stderr)
                raise self._final from error
            raise
        self._failed_starts = 0
        self.ready_at = time.monotonic()
        self.start_seconds = max(0.0, self.ready_at - started - process.seconds_waiting)
        if self._hello and (hello.name, hello.functions) != (self._hello.name, self._hello.functions):
            self._stop(process)
            self._final = WorkerUnusable("a restarted worker reports another kernel")
            raise self._final
        self._hello = hello

    def _guarded(self, step: Callable[[], _T], function: str | None) -> _T:
        """Make one exchange with the worker; any failure ends the worker and raises a `SessionError`."""
        process = self._process
        if process is None:  # pragma: no cover -- callers have one
            raise AssertionError
        what = f"in {function}" if function else "before its hello"
        try:
            return step()
        except ProtocolError as error:
            self.violations += 1
            self._stop(process)
            raise ProtocolViolation(f"the worker broke the protocol {what}: {error}", self._tail) from None
        except DeadlineExceeded as error:
            self.hangs += 1
            self._stop(process)
            text = f"the worker hung {what}: {error} within the time limit"
            if self.max_hangs is not None and self.hangs >= self.max_hangs and function:
                self._final = WorkerUnusable(f"{self.hangs} calls hung, the worker is not restarted")
            raise WorkerHung(text, self._tail) from None
        except ProcessEnded as error:
            status = self._stop(process, grace=_EXIT_GRACE_S)
            raise self._ended(status, f"{what}: {error}", starting=function is None) from None
        except BaseException:
            self._stop(process)  # an interrupt in the middle of the exchange
            raise

    def _ended(self, status: int | None, where: str, *, starting: bool) -> SessionError:
        """Return the error for a worker that ended or closed its output."""
        if status is None:
            self.violations += 1
            return ProtocolViolation(f"the worker closed its output without exiting {where}", self._tail)
        if starting and status == EXIT_UNSUPPORTED:
            self._final = WorkerUnsupported("this machine cannot run the kernel", self._tail)
            return self._final
        if starting and status == EXIT_USAGE:
            self._final = WorkerUnusable("the worker cannot serve its command line", self._tail)
            return self._final
        self.crashes += 1
        how = describe_exit(status)
        return WorkerCrashed(f"the worker ended ({how}) {where}", self._tail, how)

    def _stop(self, process: WorkerProcess, grace: float = 0.0) -> int | None:
        status = process.end(grace)
        self._tail = process.stderr_tail
        self._process = None
        return status
