"""What a call may do besides its result: the rule that each side effect breaks, in words."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from q8a8_conformance.protocol.messages import Fault

if TYPE_CHECKING:
    from collections.abc import Mapping


class SideEffect(NamedTuple):
    """What a fault of a call means.

    Attributes
    ----------
    rule
        The full id of the rule that is broken.
    happened
        What happened, in one call: "an input was written to".
    fact, happens, fix
        The slug of the fact, what a kernel does, and what to change; empty where one call does not show it.
    """

    rule: str
    happened: str
    fact: str = ""
    happens: str = ""
    fix: str = ""


_RESTORED = "Save it first, and put it back before every return."

SIDE_EFFECTS: Mapping[Fault, SideEffect] = MappingProxyType(
    {
        Fault.INPUT_WRITTEN: SideEffect(
            "Q8A8-MEM-3",
            "an input was written to",
            "input-written",
            "An input is written to",
            "Write to the outputs alone: work on a copy.",
        ),
        Fault.WROTE_OUTSIDE: SideEffect(
            "Q8A8-MEM-2",
            "bytes outside the buffers were written",
            "written-outside",
            "Bytes outside the buffers are written",
            "Write the outputs' bytes alone: handle what a vector leaves over.",
        ),
        Fault.READ_OUTSIDE: SideEffect(
            "Q8A8-MEM-1",
            "bytes outside the buffers were read",
            "read-outside",
            "Bytes outside the buffers are read, unless they lie on another page,",
            "Read the inputs' bytes alone: that they lie on the same page does not make others the call's.",
        ),
        Fault.ROUNDING_MODE_CHANGED: SideEffect(
            "Q8A8-ENV-1",
            "the rounding mode was left changed",
            "rounding-mode-changed",
            "The rounding mode is left changed",
            _RESTORED,
        ),
        Fault.FLUSH_MODE_CHANGED: SideEffect(
            "Q8A8-ENV-1",
            "the flush-to-zero or denormals-are-zero bits were left changed",
            "flush-mode-changed",
            "The flush-to-zero or denormals-are-zero bits are left changed",
            _RESTORED,
        ),
        Fault.TRAP_MASK_CHANGED: SideEffect(
            "Q8A8-ENV-1",
            "the exception masks were left changed",
            "trap-mask-changed",
            "The exception masks are left changed",
            _RESTORED,
        ),
        Fault.RESULT_VARIES: SideEffect("Q8A8-ENV-2", "the same call gave other bytes"),
        Fault.THREAD_RESULT_VARIES: SideEffect(
            "Q8A8-ENV-3", "calls from several threads at once gave other bytes"
        ),
        Fault.CONVENTION_BROKEN: SideEffect(
            "Q8A8-ENV-5",
            "the calling convention was broken",
            "convention-broken",
            "The calling convention is broken",
            "Save what belongs to the caller, and restore it before every return.",
        ),
        Fault.PROCESS_CHANGED: SideEffect(
            "Q8A8-ENV-6",
            "the process was left changed",
            "process-changed",
            "The process is left changed",
            _RESTORED,
        ),
        Fault.RESOURCES_KEPT: SideEffect(
            "Q8A8-ENV-7",
            "resources are kept, more with each call",
            "resources-kept",
            "Resources are kept",
            "Free what a call takes before every return.",
        ),
        Fault.STACK_EXCEEDED: SideEffect(
            "Q8A8-ENV-8",
            "more stack was used than a call may use",
            "stack-exceeded",
            "More stack is used than a call may use",
            "Work block by block, with scratch memory of a fixed size.",
        ),
        Fault.OUTPUT_OR_THREAD: SideEffect(
            "Q8A8-ENV-10",
            "output was written, or a thread was left",
            "output-or-thread",
            "Output is written, or a thread is left",
            "Print nothing, and end every thread that a call starts.",
        ),
    }
)
"""Each fault's meaning."""
