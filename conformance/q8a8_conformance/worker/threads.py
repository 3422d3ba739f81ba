"""A call from several threads: which calls they make, and what shows in them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from q8a8_conformance.protocol.messages import Fault, Option, Overlap, Result, Together
from q8a8_conformance.worker.caller import Findings, difference, run_concurrently
from q8a8_conformance.worker.native_calls import available
from q8a8_conformance.worker.together import CALLS_OF_A_BATCH, ROUNDS, ConcurrentCalls, Tally, overlap_of

if TYPE_CHECKING:
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.worker.caller import PreparedCall
    from q8a8_conformance.worker.placing import Placer

_MIN_ROUNDS = 2 * ROUNDS
_MAX_SECONDS = 3.0
_MAX_OUTPUT_BYTES = 2**26
"""The most memory for the outputs of a batch, in bytes; calls with more of them are made one by one."""

_MAX_STEPPED_BYTES = 2**14
"""The most bytes of calls that are stopped after each of some instructions: these are many."""


class ThreadCalls:
    """Makes calls from several threads.

    Parameters
    ----------
    placer : Placer
        Places their buffers.
    """

    def __init__(self, placer: Placer) -> None:
        self._placer = placer
        self._chains = ConcurrentCalls() if placer.target.is_native and available() else None
        self._blocking: dict[tuple[str, int, int], bool] = {}

    def run(self, call: Call, delay_ns: int | None) -> Result:
        """Make a call; with a delay as the first one of the process, whose first thread is stopped."""
        return _Threads(self._placer, self._chains, call, self._blocking).run(delay_ns)


class _Threads:
    """One call from several threads."""

    def __init__(
        self,
        placer: Placer,
        chains: ConcurrentCalls | None,
        call: Call,
        blocking: dict[tuple[str, int, int], bool],
    ) -> None:
        self._placer = placer
        self._blocking = blocking
        self._call = call
        self._together = call.together or Together()
        other = self._together.other
        # Shared state shows only if the threads compute different results.
        self._versions = (
            (call, placer.inputs(call)),
            (other, placer.inputs(other)) if other else (call, placer.zeros(call)),
        )
        for version, inputs in self._versions:
            placer.protect(version, inputs.values())
        self._firsts: list[list[bytes] | None] = [None, None]
        self._findings = Findings()
        self._tally = Tally()
        size = max(sum(len(each.buffers[i].data) for i in each.spec.outputs) for each, _ in self._versions)
        fits = size * call.threads * CALLS_OF_A_BATCH <= _MAX_OUTPUT_BYTES
        self._chains = chains if fits and not call.options & Option.FLUSH else None

    def run(self, delay_ns: int | None) -> Result:
        """Make the calls, and collect what shows in them."""
        if self._chains and delay_ns is not None:
            self._run_first(self._chains, delay_ns)
        elif self._chains and (self._call.together or self._call.repeat > 1):
            self._run_batches(self._chains)
        self._run_one_by_one()
        for _, inputs in self._versions:
            self._findings.add_inputs(inputs.values())
        overlap = None
        if self._call.together:
            others = tuple(self._firsts[1] or ()) if self._together.other else ()
            overlap = Overlap(overlap_of(self._tally.spans), self._tally.stops, others=others)
        return Result(self._findings.faults, self._findings.detail, tuple(self._firsts[0] or ()), overlap)

    def _run_first(self, chains: ConcurrentCalls, delay_ns: int) -> None:
        kept = len(self._placer.memory.buffers)
        lanes = chains.run_first(self._call.threads, self._prepare, delay_ns, self._tally)
        self._compare([lane.prepared for lane in lanes])
        self._placer.memory.release(kept)

    def _run_batches(self, chains: ConcurrentCalls) -> None:
        """Call alone, then in batches until there were enough of them."""
        typical = self._call_alone()
        if typical * self._call.threads * CALLS_OF_A_BATCH > _MAX_SECONDS * 1e9:
            return  # the runner would not wait for so many calls
        closes = not any(self._blocks_stops(chains, number) for number in range(2))
        started = time.monotonic()
        calls = 0
        while (
            calls < self._call.repeat * (not self._call.together)
            or (self._call.together and self._tally.rounds < _MIN_ROUNDS)
            or time.monotonic() - started < self._together.milliseconds / 1000
        ) and time.monotonic() - started < _MAX_SECONDS:
            kept = len(self._placer.memory.buffers)
            lanes = chains.run_batch(
                self._call.threads, self._prepare, self._tally.rounds, typical, self._tally, closes=closes
            )
            calls += CALLS_OF_A_BATCH
            self._compare([lane.prepared for lane in lanes])
            self._placer.memory.release(kept)
        if closes and self._counts_instructions():
            kept = len(self._placer.memory.buffers)
            if chains.survives_steps(self._prepare):
                self._compare([lane.prepared for lane in chains.run_steps(self._prepare, self._tally)])
            self._placer.memory.release(kept)

    def _counts_instructions(self) -> bool:
        """Return whether to stop calls after some instructions: short ones, of two lengths and of values."""
        call, other = (version for version, _ in self._versions)
        sizes = (sum(len(each.data) for each in version.buffers) for version in (call, other))
        return call.function == other.function and call.n != other.n and max(sizes) <= _MAX_STEPPED_BYTES

    def _blocks_stops(self, chains: ConcurrentCalls, number: int) -> bool:
        """Return whether a function blocks the signals of stops, as its first call of a shape has shown."""
        call = self._versions[number][0]
        kind = call.function, call.bs, call.bx
        if kind not in self._blocking:
            kept = len(self._placer.memory.buffers)
            self._blocking[kind] = chains.blocks_stops(self._prepare, number)
            self._placer.memory.release(kept)
        return self._blocking[kind]

    def _call_alone(self) -> int:
        """Call from this thread, before there are others; return the time of a call in nanoseconds."""
        times = []
        for number in range(2):
            caller = self._placer.caller(*self._versions[number], self._name(number))
            caller.run(2)
            self._findings.add_caller(caller)
            self._firsts[number] = caller.first
            times += [end - start for start, end in caller.spans]
        return min(times)

    def _run_one_by_one(self) -> None:
        """Call from Python in all threads, with a look at the floating-point environment."""
        repeat, seconds = 1, 0.0
        if not self._chains:
            seconds = self._together.milliseconds / 1000
            repeat = 2 if seconds else self._call.repeat
        callers = [
            self._placer.caller(*self._versions[number % 2], self._name(number))
            for number in range(self._call.threads)
        ]
        run_concurrently(callers, repeat, seconds)
        for number, caller in enumerate(callers):
            self._findings.add_caller(caller, Fault.THREAD_RESULT_VARIES)
            self._tally.spans += caller.spans
            first = self._firsts[number % 2]
            if first is None:
                self._firsts[number % 2] = caller.first
            elif caller.first != first:
                text = difference(caller.outputs, first, caller.first)
                self._findings.note(Fault.THREAD_RESULT_VARIES, text)

    def _prepare(self, number: int, place: int | None) -> PreparedCall:
        """Prepare a call of a thread; a number decides on the buffer and the place of a border of pages."""
        call, inputs = self._versions[number % 2]
        border = None
        if place is not None:
            count = len(call.spec.buffers)
            border = (place % count, (place // count + 1) * 0.6180339887498949 % 1.0)
        return self._placer.prepare(call, inputs, self._name(number), border)

    def _name(self, number: int) -> str:
        """Return a thread's name in messages."""
        function = self._versions[number % 2][0].function
        return f"thread {number}" + (f" ({function})" if function != self._call.function else "")

    def _compare(self, calls: list[list[PreparedCall]]) -> None:
        """Compare all results with the first of their version, and look at the memory."""
        for number, prepared in enumerate(calls):
            differs = False
            for index, one in enumerate(prepared):
                found = [output.read() for output in one.outputs]
                first = self._firsts[number % 2]
                if first is None:
                    self._firsts[number % 2] = found
                elif found != first and not differs:
                    differs = True
                    text = difference(one.outputs, first, found) + f" in call {index + 1}"
                    self._findings.note(Fault.THREAD_RESULT_VARIES, text)
                self._findings.add_inputs(one.inputs)
                self._findings.add_outputs(one.outputs)
