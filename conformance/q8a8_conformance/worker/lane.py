"""The calls that one thread makes, and what is seen around them."""

from __future__ import annotations

import threading
import traceback
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from q8a8_conformance.protocol.messages import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from q8a8_conformance.worker.fenv import FloatingPoint
    from q8a8_conformance.worker.memory import GuardedBuffer
    from q8a8_conformance.worker.together import NativeCall, Together


@dataclass(frozen=True)
class Slot:
    """A set of output buffers, and the call that writes them: for Python, and for C if it can."""

    outputs: list[GuardedBuffer]
    step: Callable[[], object]
    native: NativeCall | None


class Lane:
    """One thread's calls.

    Parameters
    ----------
    slots : list of Slot
        At least one; as many calls can be strung together in C.
    floating_point : FloatingPoint or None
        Access to the floating-point environment, where there is one.
    flush : bool
        Whether to call with flush-to-zero set.

    Attributes
    ----------
    first : list of bytes
        The outputs of the first call.
    faults, details : Fault, list of str
        Changes of the floating-point environment.
    varies : str
        Where a later call's outputs differ from the first's; empty if nowhere.
    error : BaseException or None
        What a Python kernel raised.
    """

    def __init__(self, slots: list[Slot], floating_point: FloatingPoint | None, *, flush: bool) -> None:
        self._slots = slots
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
        return [output for slot in self._slots for output in slot.outputs]

    def run(self, repeat: int, in_c: Callable[[Sequence[NativeCall]], None] | None = None) -> None:
        """Call ``repeat`` times; an exception of a Python kernel is kept in `error`.

        The first call is made by itself, so that the floating-point environment around it is seen. The others
        go to ``in_c``, if there is such a thing, as many at a time as there are slots.
        """
        try:
            while self._done < repeat:
                slots = self._slots[:1]
                if in_c and self._done:
                    slots = self._slots[: repeat - self._done]
                    natives = [slot.native for slot in slots if slot.native]
                    step: Callable[[], object] = partial(in_c, natives)
                else:
                    step = slots[0].step
                self._refill(slots)
                self._watched(step)
                for slot in slots:
                    self._take(slot)
        except (Exception, SystemExit) as error:  # noqa: BLE001 -- a kernel may raise anything; the worker lives on
            traceback.print_exc()
            self.error = error

    def _refill(self, slots: list[Slot]) -> None:
        """Put the outputs back to what they held before the call."""
        if self._done:
            for slot in slots:
                for output in slot.outputs:
                    output.refill()

    def _take(self, slot: Slot) -> None:
        """Take a call's outputs: keep the first, compare the others with it."""
        found = [output.read() for output in slot.outputs]
        self._done += 1
        if self._done == 1:
            self.first = found
        elif found != self.first and not self.varies:
            self.varies = difference(slot.outputs, self.first, found) + f" in call {self._done}"

    def _watched(self, step: Callable[[], object]) -> None:
        """Take a step; compare the floating-point environment before and after, and put it back."""
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


def run_at_once(lanes: list[Lane], repeat: int, together: Together | None) -> None:
    """Let every lane make its calls in a thread of its own, all at the same time.

    Parameters
    ----------
    lanes : list of Lane
        Each with as many slots as the others.
    repeat : int
        Calls of each.
    together : Together or None
        None where calls cannot be made in C.
    """
    here = threading.Barrier(len(lanes))
    with together.meeting(len(lanes)) if together else nullcontext() as in_c:

        def start(number: int) -> None:
            here.wait()
            lanes[number].run(repeat, partial(in_c, number) if in_c else None)

        threads = [threading.Thread(target=start, args=(n,), daemon=True) for n in range(len(lanes))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def difference(buffers: list[GuardedBuffer], expected: list[bytes], found: list[bytes]) -> str:
    """Say in which byte of which output two results differ first."""
    for buffer, old, new in zip(buffers, expected, found, strict=False):  # more buffers than one call's
        if old != new:
            place = next(i for i, (a, b) in enumerate(zip(old, new, strict=True)) if a != b)
            return f"byte {place} of {buffer.name} varies: {old[place]:02x}, then {new[place]:02x}"
    return ""
