"""The calls of one case: what does not return, and what every call must keep to, is recorded here.

Whatever a worker reports besides values (an input written, a rounding mode left changed) is recorded against
the rule it breaks, whichever case it came up in.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from q8a8_conformance.inputs import calls
from q8a8_conformance.protocol.messages import Call, Fault, Option, Result
from q8a8_conformance.protocol.session import WorkerHung
from q8a8_conformance.results.record import Status
from q8a8_conformance.results.side_effects import SIDE_EFFECTS
from q8a8_conformance.suite import placement
from q8a8_conformance.suite.accepted_recipes import DESIGN, Recipes
from q8a8_conformance.suite.target import KernelDiedError, NotRunError, RefusedError, Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from q8a8_conformance.suite.case_records import CaseRecords

OVER_WRITE = "Q8A8-MEM-2"

_MESSAGE_BYTES: Final = 2**18
"""Bytes of a message that makes many calls."""

LOWEST, NEAR_LARGEST = -128, np.float32(0.99)
"""The code that is none; the part of amax from which on an element's code is one of the largest."""

Item = TypeVar("Item")


class CaseOver(Exception):  # noqa: N818 (no error of the program: all there is to record is recorded)
    """Ends a case early; everything about it has been recorded."""


class KernelCalls:
    """Makes the calls of one case.

    Parameters
    ----------
    target
        The kernel under test.
    recipes
        What quantizers are compared with.
    records
        Of the case.

    """

    def __init__(self, target: Target, recipes: Recipes, records: CaseRecords) -> None:
        self._target = target
        self._recipes = recipes
        self._records = records
        self._message: Sequence[Call] = ()
        self._last: Result | None = None
        self._places = placement.is_placed(records.rules)

    def require(self, function: str, *capabilities: str) -> None:
        """Raise :class:`NotRunError` unless the kernel has the function and the worker the capabilities."""
        self._records.function = function
        self._target.require(function, *capabilities)

    def placed(self, call: Call) -> Call:
        """Return a call as :meth:`run` makes it: in a case about values, at the placement of its hash."""
        if not self._places or not self._target.is_placed(call.function):
            return call
        placed = placement.place(self._records.case, call, self._target.hello.capabilities)
        return placed if self._target.makes(placed) else call

    def ahead(self, items: Iterable[Item], call_of: Callable[[Item], Call]) -> Iterator[Item]:
        """Yield items of which each is to be made next: the kernel computes the one after it meanwhile.

        Parameters
        ----------
        items
            In order; some may be left out.
        call_of
            Returns the call that will be made of an item, placed where it is.
        """
        if "ahead" not in self._target.hello.capabilities:
            yield from items
            return
        waiting = iter(items)
        item = next(waiting, None)
        while item is not None:
            following = next(waiting, None)
            if following is not None:
                announced = self.placed(call_of(following))
                if self._target.makes(announced):  # One that is not made costs a worker where it dies.
                    self._target.session.announce(announced)
            yield item
            item = following

    def each(
        self, items: Iterable[Item], call_of: Callable[[Item], Call]
    ) -> Iterator[tuple[Item, dict[str, bytes]]]:
        """Make ordinary calls in turn, and yield items with their outputs: one message for many of one shape.

        That is for many short calls of cases that judge nothing but values: a message costs more than they
        do. The parts of the buffers that calls have lie one after another, at any alignment. Where the
        worker cannot do it, and where anything is wrong in a message, its calls are made by :meth:`run`.

        Parameters
        ----------
        items
            In order.
        call_of
            Returns the call to make of an item, the same one each time.
        """
        for _, same in groupby(items, lambda item: _shape(call_of(item))):
            waiting = list(same)
            size = max(1, _MESSAGE_BYTES // sum(len(each.data) for each in call_of(waiting[0]).buffers))
            for start in range(0, len(waiting), size):
                message = waiting[start : start + size]
                self._message = [call_of(item) for item in message]
                found = self._made_in_rows(self._message)
                if found is not None:
                    yield from zip(message, found, strict=True)
                    continue
                self._message = ()
                for item in self.ahead(message, call_of):
                    yield item, self.run(call_of(item))

    def alone(self, call: Call, actual: Mapping[str, bytes]) -> dict[str, bytes] | None:
        """Make a call by itself that was made by one message with others, and is wrong; None if it was not.

        Where it is right by itself, the cases about memory and state find what others do to it. That it is
        right or wrong by chance shows here alone.
        """
        place = next((i for i, each in enumerate(self._message) if each is call), None)
        if place is None:
            return None
        outputs = self.run(call)
        if outputs != actual:
            again = self._made_in_rows(self._message)
            if again is not None and again[place] != actual:
                self._records.add_varying(call)
        return outputs

    def _made_in_rows(self, made: Sequence[Call]) -> list[dict[str, bytes]] | None:
        """Make calls of one shape by one message; None where it did not return, or not without a fault."""
        if "rows" not in self._target.hello.capabilities or len(made) == 1 or self._records.failed:
            return None
        joined = calls.in_rows(made)
        try:
            result = self._target.call(joined)
            outputs = self._target.outputs(joined, result)
        except (KernelDiedError, RefusedError, NotRunError):
            return None
        if result.faults:
            return None
        self._records.function = joined.function
        self._records.executed = True
        parts = {name: len(data) // len(made) for name, data in outputs.items()}
        return [
            {name: data[parts[name] * i : parts[name] * (i + 1)] for name, data in outputs.items()}
            for i in range(len(made))
        ]

    def run(self, call: Call, *, legal: bool = True, at: Call | None = None) -> dict[str, bytes]:
        """Make a call that must return, and return its output buffers by ABI name.

        Where the call dies at a placement and returns without one, the rule about the placement is broken.

        Parameters
        ----------
        call
            The call.
        at
            The call as it is placed; as :meth:`placed` unless given.
        legal
            Whether the inputs are inside the domain. Outside it no value is wrong, and a worker may refuse
            (the buffers are then missing); the rest still holds.

        Raises
        ------
        CaseOver
            The kernel died or refused: recorded against the case's rules and Q8A8-ENV-4.
        NotRunError
            The function is not there.
        """
        self._records.function = call.function
        placed = at or (self.placed(call) if legal else call)
        try:
            result = self._made(call, placed)
            outputs = self._target.outputs(call, result)
        except KernelDiedError as error:
            self._records.add_no_result(Status.CRASHED, str(error), call)
            raise CaseOver from error
        except RefusedError as error:
            if not legal:
                # Outside the domain, to refuse is a way to return: Q8A8-QNT-12 asks it of the reference.
                self._records.executed = True
                return {}
            self._records.add_no_result(Status.FAIL, f"the kernel refused a legal call: {error}", call)
            raise CaseOver from error
        self._records.executed = True
        self._last = result
        # (What is counted beside buffers shows in such calls alone.)
        self.record_faults(placed if result.faults and Option.WATCHED in placed.options else call, result)
        if legal:
            self._check_lowest_code(call, outputs)
        return outputs

    def run_together(self, call: Call) -> tuple[dict[str, bytes], dict[str, bytes]]:
        """Make a call with `Call.together`; return its outputs and the other call's, as :meth:`run`.

        The latter are missing where there is no other call, or the worker has not made it.
        """
        outputs = self.run(call)
        overlap = self._last.overlap if self._last else None
        other = call.together.other if call.together else None
        if overlap is None or other is None:
            return outputs, {}
        named = [other.spec.buffers[place].name for place in other.spec.outputs]
        return outputs, dict(zip(named, overlap.others, strict=True))

    def _made(self, call: Call, placed: Call) -> Result:
        """Make a placed call; where it dies, make it plainly and record what it died of.

        Raises
        ------
        KernelDiedError
            It dies plainly as well, or not by its placement.
        """
        try:
            return self._target.call(placed)
        except NotRunError:
            if placed is call:
                raise
            return self._target.call(call)
        except (KernelDiedError, RefusedError) as error:
            if placed is call or isinstance(error.__cause__, WorkerHung):
                raise
            # Of the first death its property is found whatever that costs: it must be in the report.
            first = not self._target.has_failed_placed(call.function)
            self._target.add_placed_failure(call.function)
            result = self._target.call(call)
            self.record_faults(call, result)
            if not self._dies_of_a_property(call, placed, regardless=first):
                self._target.call(placed, regardless=first)  # Where it dies again, that is what is recorded.
                raise
            return result

    def _dies_of_a_property(self, call: Call, placed: Call, *, regardless: bool) -> bool:
        """Record the rules of those properties of a placement that a call dies of; return whether one was.

        `regardless` of what died before, or only where it has not died so often that this is recorded.
        """
        died = False
        for each in placement.properties(call, placed, self._target.hello.capabilities):
            try:
                self._target.call(each.call, regardless=regardless)
            except NotRunError:
                return True
            except (KernelDiedError, RefusedError) as error:
                died = True
                # A kernel that was just seen to write outside its buffers dies of that.
                outside = each.rule == placement.OVER_READ and self._records.has_failed(OVER_WRITE)
                rule = OVER_WRITE if outside else each.rule
                self._records.add(Status.CRASHED, (rule,), f"{each.meaning}: {error}", each.call)
                self._keep_reach(each.call, error)
                if each.rule == placement.ALIGNMENT:
                    break  # The end of a page is at the same address.
        return died

    def attempt(
        self,
        call: Call,
        rules: tuple[str, ...],
        message: str,
        *,
        legal: bool = True,
        plain: Call | None = None,
    ) -> Result | None:
        """Make a call under conditions that some rules promise to survive.

        Parameters
        ----------
        call
            A call that returns when made plainly.
        rules
            The rules broken if it dies now.
        message
            What a death means: "read or wrote past the end of a buffer".
        legal
            As in :meth:`run`.
        plain
            The call under ordinary conditions, where it is not known to return. If `call` dies, this is made,
            and one on zeros under the conditions of `call`: whatever they break is recorded instead.

        Returns
        -------
        Result or None
            None where it died or was refused; recorded.
        """
        self._records.function = call.function
        try:
            result = self._target.call(call)
        except KernelDiedError as error:
            if plain is not None:
                self.run(plain, legal=legal)
                if self._records.failed:
                    return None
                zeros, first = calls.with_zeros(plain), not self._target.has_failed_placed(call.function)
                if self._dies_of_a_property(zeros, calls.with_zeros(call), regardless=first):
                    return None
            self._records.add(Status.CRASHED, rules, f"{message}: {error}", call)
            self._keep_reach(call, error)
            return None
        except RefusedError as error:
            if legal:
                self._records.add(Status.FAIL, rules, f"{message}: refused: {error}", call)
            return None
        self._records.executed = True
        self.record_faults(call, result)
        return result

    def probe(self, call: Call) -> dict[str, bytes] | None:
        """Make a call that is no part of the case; None where it does not return."""
        try:
            return self._target.outputs(call, self._target.call(call))
        except (KernelDiedError, RefusedError, NotRunError):
            return None

    def _keep_reach(self, call: Call, error: Exception) -> None:
        """Keep a call that died beside an inaccessible page, or of an input's, for the diagnosis."""
        if call.options & placement.GUARDS:
            self._target.observations.add_reach(call, str(error))
        elif call.options & Option.READONLY:
            writable = calls.with_options(call, call.options & ~Option.READONLY)
            self._target.observations.add_side_effect(Fault.INPUT_WRITTEN, writable)

    def record_faults(self, call: Call, result: Result) -> None:
        """Record what a call did besides its results."""
        if not result.faults:
            return
        for fault, effect in SIDE_EFFECTS.items():
            if fault in result.faults:
                message = effect.happened + (f": {result.detail}" if result.detail else "")
                self._records.add(Status.FAIL, (effect.rule,), message, call)
                if effect.fact:
                    other = call.together.other if call.together else None
                    of_others = (f"in {other.function}: ", f"({other.function})") if other else ()
                    is_others = any(words in result.detail for words in of_others)
                    self._target.observations.add_side_effect(fault, other if other and is_others else call)
                if fault is Fault.THREAD_RESULT_VARIES:
                    self._target.observations.add_threads(call)
                if fault is Fault.OUTPUT_OR_THREAD:
                    self._target.warn("process:left", call.function, self._records.case, message)

    def _check_lowest_code(self, call: Call, outputs: Mapping[str, bytes]) -> None:
        """Check that no result holds -128 (Q8A8-QNT-5); under a recipe of ggml's it may."""
        if call.function not in (*calls.QUANTIZERS, calls.ACTIVATION):
            return
        if self._recipes.of(call.function) != DESIGN:
            return
        if not call.n or LOWEST & 0xFF not in outputs["output" if call.function == calls.ACTIVATION else "y"]:
            return
        x = np.abs(np.frombuffer(call.buffers[0].data, "<f4")[: call.n])
        if call.function in calls.QUANTIZERS:
            x = x.reshape(-1, 32)
            rows = np.frombuffer(outputs["y"][: call.n // 32 * 34], np.int8).reshape(-1, 34)
            codes, scales = rows[:, 2:], np.ascontiguousarray(rows[:, :2])
        else:
            x = x[np.newaxis]
            codes = np.frombuffer(outputs["output"][: call.n], np.int8)[np.newaxis]
            scales = np.frombuffer(outputs["scale"][:2], np.int8)[np.newaxis]
        with np.errstate(invalid="ignore"):  # (A scale of which the bytes change places may be any NaN.)
            amax, d = x.max(axis=1, keepdims=True), np.abs(scales.view("<f2").astype(np.float32)) * 127
        # (Else it is no matter of the range: bits are others, or stand elsewhere.)
        lowest = (codes == LOWEST) & (x >= NEAR_LARGEST * amax) & (d <= 2 * amax) & (2 * d >= amax) & (d > 0)
        if lowest.any():
            self._records.add(Status.FAIL, ("Q8A8-QNT-5",), "a code is -128", call, actual=outputs)


def _shape(call: Call) -> tuple[object, ...]:
    """Return what calls that one message makes have in common."""
    lengths = [len(buffer.data) for buffer in call.buffers]
    return (call.function, call.n, call.bs, call.bx, call.by, call.nrc, *lengths)
