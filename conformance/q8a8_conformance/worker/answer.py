"""The answers to calls: what `Invoker` finds, and what a call broke besides memory and modes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from q8a8_conformance.protocol.messages import NO_FAULTS, Option
from q8a8_conformance.worker.library import LibraryTarget
from q8a8_conformance.worker.process_state import ProcessState, few_descriptors, make_unusual

if TYPE_CHECKING:
    from q8a8_conformance.protocol.messages import Call, Result
    from q8a8_conformance.worker.invoke import Invoker, Target

DESCRIPTORS = 64
"""How many descriptors a kernel can open in calls with `Option.STATE`."""


_STATE = int(Option.STATE)


class Answerer:
    """Answers the calls of one target.

    Parameters
    ----------
    target, invoker
        The target, and what calls it.
    """

    def __init__(self, target: Target, invoker: Invoker) -> None:
        self._target = target
        self._invoker = invoker
        if isinstance(target, LibraryTarget):
            make_unusual()  # A kernel may put back what is usual, and not what there was.
        self._last = ProcessState.read()

    def answer(self, call: Call) -> Result:
        """Make a call, and compare the process before and after where the call asks for it.

        Raises
        ------
        CannotCall
            The call cannot be made, or gave no result.
        """
        if not int(call.options) & _STATE:
            return self._checked(call, None)
        with few_descriptors(DESCRIPTORS):
            return self._checked(call, ProcessState.read())

    def _checked(self, call: Call, before: ProcessState | None) -> Result:
        result = self._invoker.invoke(call)
        faults, texts = (
            self._target.take_faults() if isinstance(self._target, LibraryTarget) else (NO_FAULTS, [])
        )
        if call.threads > 1:
            self._last = ProcessState.read()  # threads use signals of the worker's own
        elif before:
            after = ProcessState.read()
            for more, details in (
                self._last.earlier_faults(before),
                before.faults(after, call.repeat * call.threads),
            ):
                faults |= more
                texts += details
            self._last = after
        if not faults:
            return result
        detail = "\n".join((*result.detail.splitlines(), *texts))
        return replace(result, faults=result.faults | faults, detail=detail)
