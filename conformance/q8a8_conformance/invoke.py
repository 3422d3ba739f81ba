"""One call of a kernel, made as the runner asks and watched from all sides.

`Invoker` places the buffers, calls (again and again, from one thread or from several at once), and reports
what the kernel did besides computing: see `q8a8_conformance.protocol` for the options and faults.
"""

from __future__ import annotations

import threading
import traceback
from typing import TYPE_CHECKING, Protocol

from q8a8_conformance.abi_table import buffer_sizes
from q8a8_conformance.memory import MAX_OFFSET, GuardedBuffer, Memory, Placement
from q8a8_conformance.protocol import Call, Fault, Option, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from q8a8_conformance.fenv import FloatingPoint

_INTEGER_RANGE = {"int": (-(2**31), 2**31), "int64_t": (-(2**63), 2**63), "size_t": (0, 2**63)}
_BOTH_GUARDS = Option.GUARD_AFTER | Option.GUARD_BEFORE


class CannotCall(Exception):  # noqa: N818 -- an answer to the runner, not an error of the worker
    """The call cannot be made, or gave no result; the text is the worker's refusal."""


class Target(Protocol):
    """What is under test: a library, or a Python object."""

    @property
    def functions(self) -> Collection[str]:
        """The ABI names that it offers."""

    def bind(self, call: Call, buffers: Sequence[GuardedBuffer]) -> Callable[[], object]:
        """Return a function without parameters that makes the call in these buffers."""


class Invoker:
    """Makes calls of one target.

    Parameters
    ----------
    target : Target
        What to call.
    floating_point : FloatingPoint or None
        Access to the floating-point environment, where there is one.
    """

    def __init__(self, target: Target, floating_point: FloatingPoint | None) -> None:
        self._target = target
        self._floating_point = floating_point
        self._memory = Memory()
        self._function = "no call"

    def invoke(self, call: Call) -> Result:
        """Make a call.

        Parameters
        ----------
        call : Call
            Its buffers' data must be writable bytes-likes (views of a received payload).

        Raises
        ------
        CannotCall
            The function is not offered, the buffers do not fit it, or the kernel raised an exception.
        """
        self._check(call)
        self._function = call.function
        placement = Placement.of(call.options)

        def place(index: int, suffix: str = "") -> GuardedBuffer:
            given = call.buffers[index]
            name = call.spec.buffers[index].name + suffix
            return self._memory.place(name, given.data, placement, given.offset)

        try:
            inputs = {index: place(index) for index in call.spec.inputs}
            lanes = []
            for number in range(call.threads):
                suffix = f" of thread {number}" if call.threads > 1 else ""
                outputs = {index: place(index, suffix) for index in call.spec.outputs}
                buffers = [both for _, both in sorted((inputs | outputs).items())]
                lanes.append(self._lane(call, buffers, list(outputs.values())))
            if call.options & Option.READONLY:
                for buffer in inputs.values():
                    buffer.make_read_only()
            _run(lanes, call.repeat)
            return _inspect(lanes, list(inputs.values()))
        except MemoryError as error:
            raise CannotCall(f"out of memory: {error}") from None
        finally:
            self._memory.release()

    def explain(self, address: int) -> str:
        """Say what the worker is doing, and where an address lies among the buffers."""
        near = [text for buffer in self._memory.buffers if (text := buffer.locate(address))]
        return f"in {self._function}, {near[0] if near else f'address {address:#x}'}"

    def _lane(self, call: Call, buffers: list[GuardedBuffer], outputs: list[GuardedBuffer]) -> _Lane:
        step = self._target.bind(call, buffers)
        return _Lane(step, outputs, self._floating_point, flush=bool(call.options & Option.FLUSH))

    def _check(self, call: Call) -> None:
        """Refuse what a conforming kernel could not survive, or what cannot be placed."""
        if call.function not in self._target.functions:
            raise CannotCall(f"{call.function} is not offered")
        if call.options & Option.FLUSH and not self._floating_point:
            raise CannotCall("FLUSH: this machine's floating-point environment is not known")
        if call.options & _BOTH_GUARDS == _BOTH_GUARDS:
            raise CannotCall("GUARD_AFTER and GUARD_BEFORE exclude each other")
        _check_integers(call)
        _check_buffers(call)


def _check_integers(call: Call) -> None:
    """Refuse integers that the C types cannot hold, and counts that mean nothing."""
    for parameter in call.spec.parameters:
        if parameter.element is None:
            low, high = _INTEGER_RANGE[parameter.ctype]
            value = getattr(call, parameter.field)
            if not low <= value < high:
                raise CannotCall(f"{parameter.name} = {value} does not fit in {parameter.ctype}")
    if call.n < 0 or call.nrc < 1:
        raise CannotCall(f"n = {call.n}, nrc = {call.nrc}")


def _check_buffers(call: Call) -> None:
    """Refuse buffers that are too few, too short for what the integers say, or not placeable."""
    specs = call.spec.buffers
    if len(call.buffers) != len(specs):
        raise CannotCall(f"{len(call.buffers)} buffers, {call.function} takes {len(specs)}")
    sizes = buffer_sizes(call.function, call.n, bs=call.bs, bx=call.bx, by=call.by, nrc=call.nrc)
    for spec, buffer, size in zip(specs, call.buffers, sizes, strict=True):
        if len(buffer.data) < size:
            raise CannotCall(f"{spec.name} has {len(buffer.data)} bytes, the call needs {size}")
        if buffer.offset > MAX_OFFSET:
            raise CannotCall(f"{spec.name}: offset {buffer.offset} is over {MAX_OFFSET}")


class _Lane:
    """The calls of one thread, and what was seen around them."""

    def __init__(
        self,
        step: Callable[[], object],
        outputs: list[GuardedBuffer],
        floating_point: FloatingPoint | None,
        *,
        flush: bool,
    ) -> None:
        self._step = step
        self._floating_point = floating_point
        self._flush = flush
        self.outputs = outputs
        self.first: list[bytes] = []
        self.faults = Fault(0)
        self.details: list[str] = []
        self.varies = ""
        self.error: BaseException | None = None

    def run(self, repeat: int) -> None:
        """Call ``repeat`` times; an exception of a Python kernel is kept in `error`."""
        try:
            for turn in range(repeat):
                if turn:
                    for output in self.outputs:
                        output.refill()
                self._watched_step()
                found = [output.read() for output in self.outputs]
                if not turn:
                    self.first = found
                elif found != self.first and not self.varies:
                    self.varies = _difference(self.outputs, self.first, found) + f" in call {turn + 1}"
        except (Exception, SystemExit) as error:  # noqa: BLE001 -- a kernel may raise anything; the worker lives on
            traceback.print_exc()
            self.error = error

    def _watched_step(self) -> None:
        """Call once; compare the floating-point environment before and after, and put it back."""
        if self._floating_point is None:
            self._step()
            return
        own = before = self._floating_point.save()
        if self._flush:
            before = self._floating_point.flushing(own)
            self._floating_point.restore(before)
        try:
            self._step()
        finally:
            after = self._floating_point.save()
            faults, text = self._floating_point.compare(before, after)
            if faults or self._flush:
                self._floating_point.restore(own)
        if faults & ~self.faults:
            self.faults |= faults
            self.details.append(text)


def _run(lanes: list[_Lane], repeat: int) -> None:
    """Let every lane make its calls, all at once if they are several."""
    if len(lanes) == 1:
        lanes[0].run(repeat)
    else:
        together = threading.Barrier(len(lanes))

        def start(lane: _Lane) -> None:
            together.wait()
            lane.run(repeat)

        threads = [threading.Thread(target=start, args=(lane,), daemon=True) for lane in lanes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for lane in lanes:
        if lane.error:
            raise CannotCall(f"the kernel raised {type(lane.error).__name__}: {lane.error}")


def _inspect(lanes: list[_Lane], inputs: list[GuardedBuffer]) -> Result:
    """Gather what the lanes saw, and look at the memory that they shared."""
    faults = Fault(0)
    details: list[str] = []

    def note(fault: Fault, text: str) -> None:
        nonlocal faults
        if text:
            faults |= fault
            if text not in details:
                details.append(text)

    for buffer in inputs:
        note(Fault.INPUT_WRITTEN, buffer.changed())
        note(Fault.WROTE_OUTSIDE, buffer.damage())
    varies = Fault.THREAD_RESULT_VARIES if len(lanes) > 1 else Fault.RESULT_VARIES
    for lane in lanes:
        for output in lane.outputs:
            note(Fault.WROTE_OUTSIDE, output.damage())
        for text in lane.details:
            note(lane.faults, text)
        note(varies, lane.varies)
        if lane.first != lanes[0].first:
            note(varies, _difference(lane.outputs, lanes[0].first, lane.first))
    return Result(faults, "\n".join(details), tuple(lanes[0].first))


def _difference(buffers: list[GuardedBuffer], expected: list[bytes], found: list[bytes]) -> str:
    """Say in which byte of which output two results differ first."""
    for buffer, old, new in zip(buffers, expected, found, strict=True):
        if old != new:
            place = next(i for i, (a, b) in enumerate(zip(old, new, strict=True)) if a != b)
            return f"byte {place} of {buffer.name} varies: {old[place]:02x}, then {new[place]:02x}"
    return ""
