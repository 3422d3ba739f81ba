"""The buffers of a call in memory, and the call itself as a function of the target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from q8a8_conformance.protocol.messages import Option
from q8a8_conformance.worker.caller import Caller, CannotCall, PreparedCall
from q8a8_conformance.worker.memory import CANARY, LINE, Memory, Placement, border_offset

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.worker.fenv import FloatingPoint
    from q8a8_conformance.worker.memory import GuardedBuffer, PlacedBuffer
    from q8a8_conformance.worker.native_calls import NativeCall


class Target(Protocol):
    """The target under test: a library or a Python object."""

    @property
    def functions(self) -> Collection[str]:
        """The ABI names offered."""

    def bind(self, call: Call, buffers: Sequence[PlacedBuffer]) -> Callable[[], object]:
        """Return a function without parameters that makes the call with these buffers."""

    @property
    def is_native(self) -> bool:
        """True where the functions are C functions, so that `native` returns calls."""

    def native(self, call: Call, buffers: Sequence[PlacedBuffer]) -> NativeCall | None:
        """Return the same call as a C function's address and arguments; None for Python functions."""


class Placer:
    """Places the buffers of calls of one target.

    Parameters
    ----------
    target : Target
        The target to call.
    floating_point : FloatingPoint or None
        Access to the floating-point environment, where its layout is known.

    Attributes
    ----------
    target : Target
        The target.
    memory : Memory
        The memory of the buffers, to be released after the call.
    """

    def __init__(self, target: Target, floating_point: FloatingPoint | None) -> None:
        self.target = target
        self.memory = Memory()
        self._floating_point = floating_point

    def inputs(self, call: Call) -> dict[int, GuardedBuffer]:
        """Place the inputs of a call."""
        return {index: self._place(call, index) for index in call.spec.inputs}

    def shared_inputs(self, call: Call) -> tuple[dict[int, GuardedBuffer], GuardedBuffer]:
        """Place all inputs in one block of memory (`Option.SHARED_INPUTS`): each by index, and the block."""
        given = {call.spec.buffers[index].name: call.buffers[index] for index in call.spec.inputs}
        start = min(buffer.offset for buffer in given.values())
        end = max(buffer.offset + len(buffer.data) for buffer in given.values())
        data = bytearray([CANARY]) * (end - start)
        places = [slice(one.offset - start, one.offset - start + len(one.data)) for one in given.values()]
        for place, buffer in zip(places, given.values(), strict=True):
            data[place] = buffer.data
        if any(data[place] != buffer.data for place, buffer in zip(places, given.values(), strict=True)):
            raise CannotCall("SHARED_INPUTS: the inputs differ where they overlap")
        whole = self.memory.place(" and ".join(given), data, Placement.of(call.options), start)
        parts = [
            whole.window(name, place.start, buffer.data)
            for (name, buffer), place in zip(given.items(), places, strict=True)
        ]
        return dict(zip(call.spec.inputs, parts, strict=True)), whole

    def zeros(self, call: Call) -> dict[int, GuardedBuffer]:
        """Place zeros, which are legal inputs of every function, instead of the inputs of a call."""
        placed = {}
        for index in call.spec.inputs:
            given = call.buffers[index]
            name = f"zeros for {call.spec.buffers[index].name}"
            data = bytearray(len(given.data))
            placed[index] = self.memory.place(name, data, Placement.of(call.options), given.offset)
        return placed

    def protect(self, call: Call, inputs: Iterable[GuardedBuffer]) -> None:
        """Make inputs read-only if the call demands it."""
        if Option.READONLY in call.options:
            for buffer in inputs:
                buffer.make_read_only()

    def prepare(
        self,
        call: Call,
        inputs: Mapping[int, GuardedBuffer],
        thread: str | None,
        border: tuple[int, float] | None = None,
    ) -> PreparedCall:
        """Prepare a call with outputs of its own.

        Parameters
        ----------
        call : Call
            The call.
        inputs : mapping
            Its inputs, by index.
        thread : str or None
            The name of its thread, for the outputs' names; None without threads.
        border : tuple of int and float or None
            The index of a buffer and a fraction of its length: there a page begins that can be closed. An
            input is copied for this.
        """
        suffix = "" if thread is None else f" of {thread}"
        place = None if border is None else _place_of(call, *border)
        own = dict(inputs)
        copies: list[GuardedBuffer] = []
        outputs = []
        for index, spec in enumerate(call.spec.buffers):
            here = place if border and border[0] == index else None
            if spec.role == "output":
                own[index] = self._place(call, index, suffix, here)
                outputs.append(own[index])
            elif here is not None:
                own[index] = self._copy(call, index, inputs[index], here)
                copies.append(own[index])
        self.protect(call, copies)
        buffers = [own[index] for index in range(len(call.spec.buffers))]
        closed = own[border[0]].address + place if border and place is not None else 0
        return PreparedCall(
            outputs,
            self.target.bind(call, buffers),
            self.target.native(call, buffers) if thread is not None else None,
            tuple(copies),
            closed,
            closed_writable=not (copies and Option.READONLY in call.options),
        )

    def caller(self, call: Call, inputs: Mapping[int, GuardedBuffer], thread: str | None) -> Caller:
        """Prepare a thread's calls that are made one by one."""
        prepared = self.prepare(call, inputs, thread)
        return Caller(
            prepared,
            self._floating_point,
            flush=Option.FLUSH in call.options,
            with_errno=Option.STATE in call.options,
            own_threads=Option.OWN_THREAD in call.options,
        )

    def _place(self, call: Call, index: int, suffix: str = "", border: int | None = None) -> GuardedBuffer:
        """Place one buffer of the call."""
        name = call.spec.buffers[index].name + suffix
        offset = self._offset(call, index, border)
        return self.memory.place(name, call.buffers[index].data, Placement.of(call.options), offset)

    def _copy(self, call: Call, index: int, given: GuardedBuffer, border: int) -> GuardedBuffer:
        """Place another copy of an input, with a border of pages in it."""
        offset = self._offset(call, index, border)
        return self.memory.place(given.name, given.given, Placement.of(call.options), offset)

    def _offset(self, call: Call, index: int, border: int | None) -> int:
        return call.buffers[index].offset if border is None else border_offset(border)


def _place_of(call: Call, index: int, fraction: float) -> int | None:
    """Return the place at a fraction of a buffer; None in an empty one.

    It keeps the buffer on a boundary of `LINE` bytes: what alignment a kernel needs is no matter of threads.
    """
    length = len(call.buffers[index].data)
    return int(fraction * ((length - 1) // LINE + 1)) * LINE if length else None
