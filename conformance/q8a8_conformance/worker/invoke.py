"""One call of a kernel with all its checks.

`Invoker` places the buffers, makes the call (repeatedly, from one or several threads) and reports the
kernel's side effects: see `q8a8_conformance.protocol.messages` for the options and faults.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import TYPE_CHECKING

from q8a8_conformance.protocol.messages import Call, Fault, Option, Overlap, Result
from q8a8_conformance.spec.abi import MATRIX_PRODUCT, buffer_sizes, get_function
from q8a8_conformance.worker.caller import CannotCall, Findings, call_in_environment
from q8a8_conformance.worker.fresh import DELAYS_NS, can_copy, run_copies
from q8a8_conformance.worker.library import LibraryTarget
from q8a8_conformance.worker.memory import MAX_OFFSET, Placement
from q8a8_conformance.worker.placing import Placer, Target
from q8a8_conformance.worker.threads import ThreadCalls
from q8a8_conformance.worker.watchpoints import WatchedCalls
from q8a8_conformance.worker.watchpoints import available as can_watch

if TYPE_CHECKING:
    from q8a8_conformance.spec.abi import Parameter
    from q8a8_conformance.worker.fenv import FloatingPoint
    from q8a8_conformance.worker.memory import GuardedBuffer, PlacedBuffer

__all__ = ["CannotCall", "Invoker", "Target"]

_INTEGER_RANGE = {"int": (-(2**31), 2**31), "int64_t": (-(2**63), 2**63), "size_t": (0, 2**63)}
_FITS = 2**31
"""Below this a number from 0 fits in every C type."""
# Operations on flags take as long as the rest of a check; on integers they take nothing.
_BOTH_GUARDS = int(Option.GUARD_AFTER | Option.GUARD_BEFORE)
_READONLY, _FLUSH, _SHARED = (int(each) for each in (Option.READONLY, Option.FLUSH, Option.SHARED_INPUTS))
_ROWS, _WATCHED = int(Option.ROWS), int(Option.WATCHED)
_PLACES = _BOTH_GUARDS | _READONLY
"""Options about nothing but places."""


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
        self._placer = Placer(target, floating_point)
        self._threads = ThreadCalls(self._placer)
        self._watched = WatchedCalls(self._placer, floating_point)
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
        if call.together and call.together.other:
            self._check(call.together.other)
        self._function = call.function
        if call.together and call.together.fresh:
            if can_copy():
                return run_copies(call, self._invoke)
            return self._invoke(call, DELAYS_NS[0])
        return self._invoke(call, None)

    def explain(self, address: int) -> str:
        """Describe the current call, and where an address lies relative to its buffers."""
        buffers = self._placer.memory.buffers
        near = [text for buffer in buffers if (text := buffer.locate(address))]
        return f"in {self._function}, {near[0] if near else f'address {address:#x}'}"

    def _invoke(self, call: Call, delay_ns: int | None) -> Result:
        """Make a call; with a delay as the first one of the process, whose first thread is stopped."""
        try:
            if int(call.options) & _ROWS:
                return self._once(call)
            if int(call.options) & _WATCHED:
                return self._watched.run(call)
            if call.threads > 1:
                return self._threads.run(call, delay_ns)
            if call.repeat == 1 and not call.together and not int(call.options) & ~_PLACES:
                return self._once(call)
            if Option.SHARED_INPUTS in call.options:
                inputs, whole = self._placer.shared_inputs(call)
                placed = [whole]
            else:
                inputs = self._placer.inputs(call)
                placed = [*inputs.values()]
            caller = self._placer.caller(call, inputs, None)
            self._placer.protect(call, placed)
            other = call.together.other if call.together else None
            other_name = other.function if other else ""
            between = self._placer.prepare(other, self._placer.inputs(other), None) if other else None
            caller.run(call.repeat, between=between.step if between else None)
            findings = Findings()
            findings.add_inputs(placed)
            findings.add_caller(caller)
            others = between.outputs if between else []
            for each in others:
                damage = each.damage()
                findings.note(Fault.WROTE_OUTSIDE, damage and f"in {other_name}: {damage}")
            overlap = Overlap(others=tuple(each.read() for each in others)) if call.together else None
            return Result(findings.faults, findings.detail, tuple(caller.first), overlap)
        except MemoryError as error:
            raise CannotCall(f"out of memory: {error}") from None
        finally:
            self._placer.memory.release()

    def _once(self, call: Call) -> Result:
        """Make a call, or one for each row, with only where its buffers lie to consider: as most are."""
        spec, memory, placement = call.spec, self._placer.memory, Placement.of(call.options)
        read_only = int(call.options) & _READONLY
        buffers: list[PlacedBuffer] = []
        inputs: list[GuardedBuffer] = []
        outputs: list[GuardedBuffer] = []
        for each, given in zip(spec.buffers, call.buffers, strict=True):
            if read_only and each.role == "input":
                fixed = memory.place_read_only(each.name, given.data, placement, given.offset)
                if fixed is not None:
                    buffers.append(fixed)
                    continue
            placed = memory.place(each.name, given.data, placement, given.offset)
            buffers.append(placed)
            (outputs if each.role == "output" else inputs).append(placed)
        if int(call.options) & _ROWS and isinstance(self._target, LibraryTarget):
            step = self._target.bind_rows(call, buffers)
        else:
            step = self._target.bind(call, buffers)
        if read_only:
            for placed in inputs:
                placed.make_read_only()
        changed = call_in_environment(step, self._floating_point)
        findings = Findings()
        findings.add_inputs(inputs)
        findings.add_outputs(outputs)
        findings.note(*changed)
        return Result(findings.faults, findings.detail, tuple([buffer.read() for buffer in outputs]))

    def _check(self, call: Call) -> None:
        """Refuse calls that a conforming kernel may crash on, or that cannot be placed."""
        if call.function not in self._target.functions:
            raise CannotCall(f"{call.function} is not offered")
        bits = int(call.options)
        if bits & _FLUSH and not self._floating_point:
            raise CannotCall("FLUSH: this machine's floating-point environment is not known")
        if bits & _BOTH_GUARDS == _BOTH_GUARDS:
            raise CannotCall("GUARD_AFTER and GUARD_BEFORE exclude each other")
        if bits & _SHARED and call.threads > 1:
            raise CannotCall("SHARED_INPUTS goes with one thread")
        least, most = min(call.n, call.bs, call.bx, call.by), max(call.n, call.bs, call.bx, call.by, call.nrc)
        if least < 0 or call.nrc < 1 or most >= _FITS:
            _check_integers(call)
        if bits & _ROWS and (call.threads > 1 or not isinstance(self._target, LibraryTarget)):
            raise CannotCall("ROWS goes with one thread, and with libraries alone")
        if bits & _WATCHED and (call.options != Option.WATCHED or call.threads > 1 or not can_watch()):
            raise CannotCall("WATCHED goes with one thread, no other option, and where there are watchpoints")
        _check_buffers(call)


def _check_integers(call: Call) -> None:
    """Refuse integers that do not fit their C types, and invalid counts."""
    for parameter, field, low, high in _integers(call.function):
        value = getattr(call, field)
        if not low <= value < high:
            raise CannotCall(f"{parameter.name} = {value} does not fit in {parameter.ctype}")
    if call.n < 0 or call.nrc < 1:
        raise CannotCall(f"n = {call.n}, nrc = {call.nrc}")
    if call.function == MATRIX_PRODUCT and min(call.bs, call.bx) < 0:
        raise CannotCall(f"m = {call.bs}, n = {call.bx}")


@lru_cache(1024)
def _sizes(function: str, n: int, bs: int, bx: int, by: int, nrc: int) -> tuple[int, ...]:
    return buffer_sizes(function, n, bs=bs, bx=bx, by=by, nrc=nrc)


@cache
def _integers(function: str) -> tuple[tuple[Parameter, str, int, int], ...]:
    """Return the integer parameters of a function, each with its field in a call and its range."""
    parameters = [each for each in get_function(function).parameters if each.element is None]
    return tuple((each, each.field, *_INTEGER_RANGE[each.ctype]) for each in parameters)


def _check_buffers(call: Call) -> None:
    """Refuse too few buffers, too short ones, and offsets that cannot be placed."""
    specs = call.spec.buffers
    if len(call.buffers) != len(specs):
        raise CannotCall(f"{len(call.buffers)} buffers, {call.function} takes {len(specs)}")
    sizes = _sizes(call.function, call.n, call.bs, call.bx, call.by, call.nrc)
    if int(call.options) & _ROWS:
        sizes = tuple(call.repeat * size for size in sizes)
    for spec, buffer, size in zip(specs, call.buffers, sizes, strict=True):
        if len(buffer.data) < size:
            raise CannotCall(f"{spec.name} has {len(buffer.data)} bytes, the call needs {size}")
        if buffer.offset > MAX_OFFSET:
            raise CannotCall(f"{spec.name}: offset {buffer.offset} is over {MAX_OFFSET}")
