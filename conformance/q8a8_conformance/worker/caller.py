"""The calls of one thread, with the checks around each."""

from __future__ import annotations

import ctypes
import errno
import sys
import threading
import time
import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from q8a8_conformance.protocol.messages import NO_FAULTS, Fault
from q8a8_conformance.worker.many_calls import ManyCalls
from q8a8_conformance.worker.process_state import MANY_CALLS, join

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from q8a8_conformance.worker.fenv import FloatingPoint
    from q8a8_conformance.worker.memory import GuardedBuffer
    from q8a8_conformance.worker.native_calls import NativeCall


class CannotCall(Exception):  # noqa: N818 -- an answer to the runner, not an error of the worker
    """The call cannot be made, or gave no result; the message is the worker's refusal."""


@dataclass(frozen=True)
class PreparedCall:
    """A call with its buffers: as a Python function, and as a C call if the target is native.

    Parameters
    ----------
    inputs, outputs : list of GuardedBuffer
        Its inputs, where they are its own, and its outputs.
    step : callable
        Makes the call.
    native : NativeCall or None
        The same call in C.
    closed, closed_writable : int, bool
        An address on the page to be closed for it (0 for none), and whether the page is writable when open.
    """

    outputs: list[GuardedBuffer]
    step: Callable[[], object]
    native: NativeCall | None
    inputs: tuple[GuardedBuffer, ...] = ()
    closed: int = 0
    closed_writable: bool = True


class Caller:
    """Makes the calls of one thread.

    Parameters
    ----------
    prepared : PreparedCall
        The call.
    floating_point : FloatingPoint or None
        Access to the floating-point environment, where its layout is known.
    flush : bool
        Whether to call with flush-to-zero and denormals-are-zero set; where calls are repeated, by turns with
        both and with one of them, and once more with another precision of the x87 unit, whatever it gives.
    with_errno : bool
        Whether to call with an error in ``errno``, as a caller may: no result may depend on it.
    own_threads : bool
        Whether to make each call but the first in a thread of its own, which then ends.

    Attributes
    ----------
    first : list of bytes
        The outputs of the first call.
    faults, details : Fault, list of str
        Changes of the floating-point environment.
    varies : str
        Where a later call's outputs differ from the first call's; empty if they do not.
    error : BaseException or None
        The exception that a Python kernel raised.
    spans : list of tuple of int
        The start and the end of each call, in nanoseconds.
    """

    def __init__(
        self,
        prepared: PreparedCall,
        floating_point: FloatingPoint | None,
        *,
        flush: bool,
        with_errno: bool = False,
        own_threads: bool = False,
    ) -> None:
        self._prepared = prepared
        self._own_threads = own_threads
        self._with_errno = with_errno
        self._floating_point = floating_point
        self._flush = flush
        self._done = 0
        self.first: list[bytes] = []
        self.faults = NO_FAULTS
        self.details: list[str] = []
        self.varies = ""
        self.error: BaseException | None = None
        self.spans: list[tuple[int, int]] = []

    @property
    def outputs(self) -> list[GuardedBuffer]:
        """The output buffers."""
        return self._prepared.outputs

    def run(self, repeat: int, seconds: float = 0.0, between: Callable[[], object] | None = None) -> None:
        """Make at least ``repeat`` calls, for at least so long; an exception of a Python kernel is kept.

        Of many calls, ``between`` makes another one before each.
        """
        deadline = time.monotonic() + seconds
        try:
            if (repeat >= MANY_CALLS or self._own_threads) and not seconds:
                self._run_once()
                self._run_many(repeat - 1, between)
                return
            while self._done < repeat or (seconds and time.monotonic() < deadline):
                self._run_once()
            if self._flush and repeat > 1:
                self._checked(self._prepared.step, precise=False)
        except (Exception, SystemExit) as error:  # noqa: BLE001 -- a kernel may raise anything; the worker goes on
            sys.stderr.write(traceback.format_exc())  # in one piece: the runner wakes for each
            self.error = error

    def _run_once(self) -> None:
        """Make one call, with the outputs' contents restored before it."""
        if self._done:
            for output in self.outputs:
                output.refill()
        start = time.monotonic_ns()
        self._checked(self._prepared.step)
        self.spans.append((start, time.monotonic_ns()))
        self._record()

    def _run_many(self, calls: int, between: Callable[[], object] | None) -> None:
        """Make the rest of many calls, with as little as possible around each."""
        step = partial(_in_a_thread, self._prepared.step) if self._own_threads else self._prepared.step
        many = ManyCalls(step, self.outputs, self.first, between, in_threads=self._own_threads)
        self._checked(partial(many.run, calls))
        if many.differs and not self.varies:
            found = [output.read() for output in self.outputs]
            self.varies = difference(self.outputs, self.first, found)
            self.varies += f" in call {self._done + many.done}"
        if many.kept and not self.faults & Fault.RESOURCES_KEPT:
            self.faults |= Fault.RESOURCES_KEPT
            self.details.append(many.kept)
        self._done += many.done

    def _record(self) -> None:
        """Keep the first call's outputs; compare the others with them."""
        found = [output.read() for output in self.outputs]
        self._done += 1
        if self._done == 1:
            self.first = found
        elif found != self.first and not self.varies:
            self.varies = difference(self.outputs, self.first, found) + f" in call {self._done}"
            if self._flush:
                self.varies += ": one of the flush modes alone is set"

    def _checked(self, step: Callable[[], object], *, precise: bool = True) -> None:
        """Make a call; compare the floating-point environment before and after, and restore it."""
        if self._with_errno:
            _errno().value = errno.ERANGE
        try:
            self._in_environment(step, precise=precise)
        finally:
            if self._with_errno:
                _errno().value = 0

    def _in_environment(self, step: Callable[[], object], *, precise: bool) -> None:
        modes = self._floating_point
        if modes is None:
            step()
            return
        own = before = modes.save()
        if self._flush:
            before = modes.flushing(own, self._done) if precise else modes.imprecise(own)
            modes.restore(before)
        try:
            step()
        finally:
            after = modes.save()
            faults, text = modes.compare(before, after)
            if faults or self._flush:
                modes.restore(own)
        if faults and faults & ~self.faults:
            self.faults |= faults
            self.details.append(text)


def _in_a_thread(step: Callable[[], object]) -> None:
    """Make a call of a library in a new thread, and wait until that has ended."""
    thread = threading.Thread(target=step)
    thread.start()
    join(thread)


def call_in_environment(
    step: Callable[[], object], floating_point: FloatingPoint | None
) -> tuple[Fault, str]:
    """Make one call; return how it left the floating-point environment, which is restored.

    Raises
    ------
    CannotCall
        A Python kernel raised an exception.
    """
    before = floating_point.save() if floating_point else None
    try:
        step()
    except (Exception, SystemExit) as error:  # noqa: BLE001 -- a kernel may raise anything; the worker goes on
        sys.stderr.write(traceback.format_exc())
        if floating_point and before is not None:
            floating_point.restore(before)
        raise CannotCall(f"the kernel raised {type(error).__name__}: {error}") from None
    if floating_point is None or before is None:
        return NO_FAULTS, ""
    faults, text = floating_point.compare(before, floating_point.save())
    if faults:
        floating_point.restore(before)
    return faults, text


def error_number() -> int:
    """Return this thread's ``errno`` itself, not the copy that `ctypes` keeps."""
    return _errno().value


def _errno() -> ctypes.c_int:
    """Return this thread's ``errno``; a number of ours where the C library has it elsewhere."""
    find = getattr(ctypes.PyDLL(None), "__errno_location", None)
    if find is None:
        return ctypes.c_int()
    find.restype = ctypes.c_void_p
    return ctypes.c_int.from_address(find())


def run_concurrently(callers: list[Caller], repeat: int, seconds: float = 0.0) -> None:
    """Run each caller in its own thread, all at the same time.

    Parameters
    ----------
    callers : list of Caller
        One for each thread.
    repeat : int
        The least calls of each.
    seconds : float
        The least time for which they call.
    """
    start = threading.Barrier(len(callers))

    def run(caller: Caller) -> None:
        start.wait()
        caller.run(repeat, seconds)

    threads = [threading.Thread(target=run, args=(caller,), daemon=True) for caller in callers]
    with _frequent_switches():
        for thread in threads:
            thread.start()
        for thread in threads:
            join(thread)


@contextmanager
def _frequent_switches() -> Iterator[None]:
    """Let the interpreter switch threads in the middle of short calls."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


def difference(buffers: list[GuardedBuffer], expected: list[bytes], found: list[bytes]) -> str:
    """Describe the first byte in which two results differ; empty if they are equal."""
    for buffer, old, new in zip(buffers, expected, found, strict=False):  # more buffers than one call's
        if old != new:
            place = next(i for i, (a, b) in enumerate(zip(old, new, strict=True)) if a != b)
            return f"byte {place} of {buffer.name} varies: {old[place]:02x}, then {new[place]:02x}"
    return ""


class Findings:
    """The faults of a call so far, with a text about each.

    Attributes
    ----------
    faults : Fault
        The faults.
    """

    def __init__(self) -> None:
        self.faults = NO_FAULTS
        self._details: list[str] = []

    @property
    def detail(self) -> str:
        """The texts, in lines."""
        return "\n".join(self._details)

    def note(self, fault: Fault, text: str) -> None:
        """Record a fault, unless the text is empty."""
        if text:
            self.faults |= fault
            if text not in self._details:
                self._details.append(text)

    def add_inputs(self, buffers: Iterable[GuardedBuffer]) -> None:
        """Compare inputs, and the memory around them, with those before the call."""
        for buffer in buffers:
            self.note(Fault.INPUT_WRITTEN, buffer.changed())
            self.note(Fault.WROTE_OUTSIDE, buffer.damage())

    def add_outputs(self, buffers: Iterable[GuardedBuffer]) -> None:
        """Check the memory around outputs."""
        for buffer in buffers:
            self.note(Fault.WROTE_OUTSIDE, buffer.damage())

    def add_caller(self, caller: Caller, varies: Fault = Fault.RESULT_VARIES) -> None:
        """Add what a thread's calls have shown; raise `CannotCall` where one raised an exception."""
        if caller.error:
            raise CannotCall(f"the kernel raised {type(caller.error).__name__}: {caller.error}")
        self.add_outputs(caller.outputs)
        for text in caller.details:
            self.note(caller.faults, text)
        self.note(varies, caller.varies)
