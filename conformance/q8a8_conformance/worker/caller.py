"""The calls of one thread, with the checks around each."""

from __future__ import annotations

import threading
import traceback
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from q8a8_conformance.protocol.messages import Fault
from q8a8_conformance.worker.many_calls import ManyCalls
from q8a8_conformance.worker.process_state import MANY_CALLS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from q8a8_conformance.worker.fenv import FloatingPoint
    from q8a8_conformance.worker.memory import GuardedBuffer
    from q8a8_conformance.worker.native_calls import ConcurrentChains, NativeCall


@dataclass(frozen=True)
class PreparedCall:
    """A call with its output buffers: as a Python function, and as a C call if the target is native."""

    outputs: list[GuardedBuffer]
    step: Callable[[], object]
    native: NativeCall | None


class Caller:
    """Makes the calls of one thread.

    Parameters
    ----------
    prepared : list of PreparedCall
        At least one; the number is the length of a chain of C calls.
    floating_point : FloatingPoint or None
        Access to the floating-point environment, where its layout is known.
    flush : bool
        Whether to call with flush-to-zero set.

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
    """

    def __init__(
        self, prepared: list[PreparedCall], floating_point: FloatingPoint | None, *, flush: bool
    ) -> None:
        self._prepared = prepared
        self._floating_point = floating_point
        self._flush = flush
        self._done = 0
        self.first: list[bytes] = []
        self.faults = Fault(0)
        self.details: list[str] = []
        self.varies = ""
        self.error: BaseException | None = None

    @property
    def outputs(self) -> list[GuardedBuffer]:
        """All output buffers; the first call's come first."""
        return [output for one in self._prepared for output in one.outputs]

    def run(self, repeat: int, run_chain: Callable[[Sequence[NativeCall]], None] | None = None) -> None:
        """Make ``repeat`` calls; an exception of a Python kernel is kept in `error`.

        The first call is made alone, so that the floating-point environment around it is checked. The others
        are passed to ``run_chain``, if there is one, as many at a time as are prepared.
        """
        try:
            while self._done < repeat:
                prepared = self._prepared[:1]
                if self._done and run_chain is None and repeat >= MANY_CALLS:
                    self._run_many(repeat - self._done)
                    return
                if run_chain and self._done:
                    prepared = self._prepared[: repeat - self._done]
                    natives = [one.native for one in prepared if one.native]
                    step: Callable[[], object] = partial(run_chain, natives)
                else:
                    step = prepared[0].step
                self._refill(prepared)
                self._checked(step)
                for one in prepared:
                    self._record(one)
        except (Exception, SystemExit) as error:  # noqa: BLE001 -- a kernel may raise anything; the worker goes on
            traceback.print_exc()
            self.error = error

    def _run_many(self, calls: int) -> None:
        """Make the rest of many calls, with as little as possible around each."""
        many = ManyCalls(self._prepared[0].step, self.outputs, self.first)
        self._checked(partial(many.run, calls))
        if many.differs and not self.varies:
            found = [output.read() for output in self.outputs]
            self.varies = difference(self.outputs, self.first, found)
            self.varies += f" in call {self._done + many.done}"
        if many.kept and not self.faults & Fault.RESOURCES_KEPT:
            self.faults |= Fault.RESOURCES_KEPT
            self.details.append(many.kept)
        self._done += many.done

    def _refill(self, prepared: list[PreparedCall]) -> None:
        """Restore the outputs' contents before the call."""
        if self._done:
            for one in prepared:
                for output in one.outputs:
                    output.refill()

    def _record(self, one: PreparedCall) -> None:
        """Keep the first call's outputs; compare the others with them."""
        found = [output.read() for output in one.outputs]
        self._done += 1
        if self._done == 1:
            self.first = found
        elif found != self.first and not self.varies:
            self.varies = difference(one.outputs, self.first, found) + f" in call {self._done}"

    def _checked(self, step: Callable[[], object]) -> None:
        """Make a call; compare the floating-point environment before and after, and restore it."""
        if self._floating_point is None:
            step()
            return
        own = before = self._floating_point.save()
        if self._flush:
            before = self._floating_point.flushing(own)
            self._floating_point.restore(before)
        try:
            step()
        finally:
            after = self._floating_point.save()
            faults, text = self._floating_point.compare(before, after)
            if faults or self._flush:
                self._floating_point.restore(own)
        if faults & ~self.faults:
            self.faults |= faults
            self.details.append(text)


def run_concurrently(callers: list[Caller], repeat: int, chains: ConcurrentChains | None) -> None:
    """Run each caller in its own thread, all at the same time.

    Parameters
    ----------
    callers : list of Caller
        All with the same number of prepared calls.
    repeat : int
        Calls of each.
    chains : ConcurrentChains or None
        None where calls cannot be chained in C.
    """
    start = threading.Barrier(len(callers))
    with chains.barrier(len(callers)) if chains else nullcontext() as run_chain:

        def run(number: int) -> None:
            start.wait()
            callers[number].run(repeat, partial(run_chain, number) if run_chain else None)

        threads = [threading.Thread(target=run, args=(n,), daemon=True) for n in range(len(callers))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def difference(buffers: list[GuardedBuffer], expected: list[bytes], found: list[bytes]) -> str:
    """Describe the first byte in which two results differ; empty if they are equal."""
    for buffer, old, new in zip(buffers, expected, found, strict=False):  # more buffers than one call's
        if old != new:
            place = next(i for i, (a, b) in enumerate(zip(old, new, strict=True)) if a != b)
            return f"byte {place} of {buffer.name} varies: {old[place]:02x}, then {new[place]:02x}"
    return ""
