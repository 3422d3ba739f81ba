"""One call of a kernel with all its checks.

`Invoker` places the buffers, makes the call (repeatedly, from one or several threads) and reports the
kernel's side effects: see `q8a8_conformance.protocol.messages` for the options and faults.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from q8a8_conformance.protocol.messages import Call, Fault, Option, Result
from q8a8_conformance.spec.abi import buffer_sizes
from q8a8_conformance.worker.caller import Caller, PreparedCall, difference, run_concurrently
from q8a8_conformance.worker.memory import CANARY, MAX_OFFSET, GuardedBuffer, Memory, Placement
from q8a8_conformance.worker.native_calls import MAX_CALLS, ConcurrentChains, NativeCall, available

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from q8a8_conformance.worker.fenv import FloatingPoint

_INTEGER_RANGE = {"int": (-(2**31), 2**31), "int64_t": (-(2**63), 2**63), "size_t": (0, 2**63)}
_CHAIN_OUTPUT_BYTES = 2**26
"""The most memory for the outputs of chained calls, in bytes."""
_BOTH_GUARDS = Option.GUARD_AFTER | Option.GUARD_BEFORE


class CannotCall(Exception):  # noqa: N818 -- an answer to the runner, not an error of the worker
    """The call cannot be made, or gave no result; the message is the worker's refusal."""


class Target(Protocol):
    """The target under test: a library or a Python object."""

    @property
    def functions(self) -> Collection[str]:
        """The ABI names offered."""

    def bind(self, call: Call, buffers: Sequence[GuardedBuffer]) -> Callable[[], object]:
        """Return a function without parameters that makes the call with these buffers."""

    @property
    def is_native(self) -> bool:
        """True where the functions are C functions, so that `native` returns calls."""

    def native(self, call: Call, buffers: Sequence[GuardedBuffer]) -> NativeCall | None:
        """Return the same call as a C function's address and arguments; None for Python functions."""


class Invoker:
    """Makes calls of one target.

    Parameters
    ----------
    target : Target
        The target to call.
    floating_point : FloatingPoint or None
        Access to the floating-point environment, where its layout is known.
    """

    def __init__(self, target: Target, floating_point: FloatingPoint | None) -> None:
        self._target = target
        self._floating_point = floating_point
        self._memory = Memory()
        self._function = "no call"
        self._chains = ConcurrentChains() if target.is_native and available() else None

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
        try:
            inputs, shared = self._place_inputs(call)
            # Shared state shows only if the threads compute different results: every other one gets zeros.
            zeros = {index: self._zeros(call, index) for index in call.spec.inputs if call.threads > 1}
            callers = [
                self._caller(call, zeros if number % 2 else inputs, number) for number in range(call.threads)
            ]
            shared += zeros.values()
            if call.options & Option.READONLY:
                for buffer in shared:
                    buffer.make_read_only()
            self._run(callers, call.repeat)
            return _inspect(callers, shared)
        except MemoryError as error:
            raise CannotCall(f"out of memory: {error}") from None
        finally:
            self._memory.release()

    def explain(self, address: int) -> str:
        """Describe the current call, and where an address lies relative to its buffers."""
        near = [text for buffer in self._memory.buffers if (text := buffer.locate(address))]
        return f"in {self._function}, {near[0] if near else f'address {address:#x}'}"

    def _place(self, call: Call, index: int, suffix: str = "") -> GuardedBuffer:
        """Place one buffer of the call."""
        given = call.buffers[index]
        name = call.spec.buffers[index].name + suffix
        return self._memory.place(name, given.data, Placement.of(call.options), given.offset)

    def _place_inputs(self, call: Call) -> tuple[dict[int, GuardedBuffer], list[GuardedBuffer]]:
        """Place the inputs: each of them by its index, and the buffers that hold them."""
        if not call.options & Option.SHARED_INPUTS:
            inputs = {index: self._place(call, index) for index in call.spec.inputs}
            return inputs, [*inputs.values()]
        given = {call.spec.buffers[index].name: call.buffers[index] for index in call.spec.inputs}
        start = min(buffer.offset for buffer in given.values())
        end = max(buffer.offset + len(buffer.data) for buffer in given.values())
        data = bytearray([CANARY]) * (end - start)
        places = [slice(one.offset - start, one.offset - start + len(one.data)) for one in given.values()]
        for place, buffer in zip(places, given.values(), strict=True):
            data[place] = buffer.data
        if any(data[place] != buffer.data for place, buffer in zip(places, given.values(), strict=True)):
            raise CannotCall("SHARED_INPUTS: the inputs differ where they overlap")
        whole = self._memory.place(" and ".join(given), data, Placement.of(call.options), start)
        parts = [
            whole.window(name, place.start, buffer.data)
            for (name, buffer), place in zip(given.items(), places, strict=True)
        ]
        return dict(zip(call.spec.inputs, parts, strict=True)), [whole]

    def _zeros(self, call: Call, index: int) -> GuardedBuffer:
        """Place zeros, which are legal inputs of every function, instead of one buffer of the call."""
        given = call.buffers[index]
        name = f"zeros for {call.spec.buffers[index].name}"
        data = bytearray(len(given.data))
        return self._memory.place(name, data, Placement.of(call.options), given.offset)

    def _caller(self, call: Call, inputs: dict[int, GuardedBuffer], number: int) -> Caller:
        """Prepare a thread's calls: output buffers for each call of a chain."""
        suffix = f" of thread {number}" if call.threads > 1 else ""
        count = 1
        if self._chains and call.threads > 1:
            size = sum(len(call.buffers[index].data) for index in call.spec.outputs) * call.threads
            count = max(1, min(call.repeat - 1, MAX_CALLS, _CHAIN_OUTPUT_BYTES // max(size, 1)))
        prepared = []
        for _ in range(count):
            outputs = {index: self._place(call, index, suffix) for index in call.spec.outputs}
            buffers = [both for _, both in sorted((inputs | outputs).items())]
            step, native = self._target.bind(call, buffers), self._target.native(call, buffers)
            prepared.append(PreparedCall(list(outputs.values()), step, native))
        return Caller(prepared, self._floating_point, flush=bool(call.options & Option.FLUSH))

    def _run(self, callers: list[Caller], repeat: int) -> None:
        """Make all calls, concurrently if there are several callers."""
        if len(callers) == 1:
            callers[0].run(repeat)
        else:
            run_concurrently(callers, repeat, self._chains)
        for caller in callers:
            if caller.error:
                raise CannotCall(f"the kernel raised {type(caller.error).__name__}: {caller.error}")

    def _check(self, call: Call) -> None:
        """Refuse calls that a conforming kernel may crash on, or that cannot be placed."""
        if call.function not in self._target.functions:
            raise CannotCall(f"{call.function} is not offered")
        if call.options & Option.FLUSH and not self._floating_point:
            raise CannotCall("FLUSH: this machine's floating-point environment is not known")
        if call.options & _BOTH_GUARDS == _BOTH_GUARDS:
            raise CannotCall("GUARD_AFTER and GUARD_BEFORE exclude each other")
        if call.options & Option.SHARED_INPUTS and call.threads > 1:
            raise CannotCall("SHARED_INPUTS goes with one thread")
        _check_integers(call)
        _check_buffers(call)


def _check_integers(call: Call) -> None:
    """Refuse integers that do not fit their C types, and invalid counts."""
    for parameter in call.spec.parameters:
        if parameter.element is None:
            low, high = _INTEGER_RANGE[parameter.ctype]
            value = getattr(call, parameter.field)
            if not low <= value < high:
                raise CannotCall(f"{parameter.name} = {value} does not fit in {parameter.ctype}")
    if call.n < 0 or call.nrc < 1:
        raise CannotCall(f"n = {call.n}, nrc = {call.nrc}")


def _check_buffers(call: Call) -> None:
    """Refuse too few buffers, too short ones, and offsets that cannot be placed."""
    specs = call.spec.buffers
    if len(call.buffers) != len(specs):
        raise CannotCall(f"{len(call.buffers)} buffers, {call.function} takes {len(specs)}")
    sizes = buffer_sizes(call.function, call.n, bs=call.bs, bx=call.bx, by=call.by, nrc=call.nrc)
    for spec, buffer, size in zip(specs, call.buffers, sizes, strict=True):
        if len(buffer.data) < size:
            raise CannotCall(f"{spec.name} has {len(buffer.data)} bytes, the call needs {size}")
        if buffer.offset > MAX_OFFSET:
            raise CannotCall(f"{spec.name}: offset {buffer.offset} is over {MAX_OFFSET}")


def _inspect(callers: list[Caller], inputs: list[GuardedBuffer]) -> Result:
    """Collect the callers' faults, and check the memory that they shared."""
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
    varies = Fault.THREAD_RESULT_VARIES if len(callers) > 1 else Fault.RESULT_VARIES
    for number, caller in enumerate(callers):
        for output in caller.outputs:
            note(Fault.WROTE_OUTSIDE, output.damage())
        for text in caller.details:
            note(caller.faults, text)
        note(varies, caller.varies)
        twin = callers[number % 2]  # a caller with the same inputs
        if caller.first != twin.first:
            note(varies, difference(caller.outputs, twin.first, caller.first))
    return Result(faults, "\n".join(details), tuple(callers[0].first))
