"""Which calls do not return: by the address of a buffer, by their length and shape, by what inputs hold.

A call that died is made again on buffers at 64-byte boundaries. If it returns there, each buffer is moved by
itself, to find the alignment that the kernel takes for granted. With the buffer at such an address, or where
it makes no difference, ordinary calls of many lengths and shapes say which of them die.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from q8a8_conformance.diagnosis.causes import CRASH, FIXES
from q8a8_conformance.diagnosis.dots.conditions import at_offset, plain
from q8a8_conformance.diagnosis.dots.side_effects import length_of, said_of_rows, where_it_dies
from q8a8_conformance.diagnosis.facts import Evidence, Fact
from q8a8_conformance.inputs.calls import ACTIVATION, MUL_MAT, weight
from q8a8_conformance.inputs.samples import call_of
from q8a8_conformance.protocol.deadline import Deadline
from q8a8_conformance.reveal.asking import NoAnswerError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from q8a8_conformance.protocol.messages import Call, Result
    from q8a8_conformance.results.observations import Death

    Ask = Callable[[Call], Result | None]
    Told = tuple[dict[str, Any], str]

DIES = "dies"

ALIGNMENT = "Q8A8-MEM-4"

ALIGNMENTS = (1, 2, 4, 8, 16, 32)
"""Offsets in bytes at which one buffer lies while the others are at 64-byte boundaries."""

SURVEYED = 65
"""Blocks, or elements of a vector, up to which calls are surveyed."""


def of_deaths(deaths: Sequence[Death], ask: Ask, seconds: float) -> Fact | None:
    """Find which calls of a function die, from some that did; None where that is not found.

    Parameters
    ----------
    deaths
        Calls of one function that did not return.
    ask
        Makes a call: what the worker says of it, or None where it did not return.
    seconds
        Time limit, on an idle machine.
    """
    call = min((death.call for death in deaths), key=weight)
    asking = _Asking(ask, Deadline(seconds))
    index, where, words = -1, {}, ""
    try:
        if not asking.dies(plain(call)):
            found = _address(call, asking)
            if found is None:
                return None
            index, modulus = found
            name = call.spec.buffers[index].name
            where, words = (
                {"buffer": name, "modulus": modulus},
                f"{name} is not at a multiple of {modulus} bytes",
            )
            offset = modulus // 2
            at = asking.at(lambda made: at_offset(made, index, offset))
        else:
            at = asking
        told = where_it_dies(plain(call), at.result) or _from_length(call, at)
    except NoAnswerError:
        return None
    smallest = asking.smallest
    if smallest is None or (told is None and index < 0):
        return None
    length, of_length = told or ({}, " in some calls")
    joined = of_length.replace(" where ", " and ", 1) if words else of_length
    words = f" where {words}{joined}" if words else of_length
    return Fact(
        DIES,
        {**where, **length},
        ALIGNMENT if index >= 0 else "",
        said_of_rows(call, "The call does not return", words),
        "Load and store without alignment: buffers have that of their elements."
        if index >= 0
        else FIXES[CRASH],
        CRASH,
        function=call.function,
        evidence=(Evidence(smallest, (), (), length_of(smallest)),),
        nrc=call.nrc,
    )


def _same(call: Call) -> Call:
    return call


@dataclass
class _Asking:
    """Calls that may die, made somewhere; `smallest` is the smallest one that did."""

    _ask: Ask
    _deadline: Deadline
    _placed: Callable[[Call], Call] = _same
    _died: list[Call] = field(default_factory=list)

    def at(self, placed: Callable[[Call], Call]) -> _Asking:
        """Return calls that are made elsewhere, and counted here."""
        return replace(self, _placed=placed)

    def result(self, call: Call) -> Result | None:
        """Make a call.

        Raises
        ------
        NoAnswerError
            The time is up.
        """
        if self._deadline.has_passed:
            raise NoAnswerError("the time is up")
        made = self._placed(call)
        if made in self._died:  # (To begin a process takes long.)
            return None
        result = self._ask(made)
        if result is None:
            self._died.append(made)
        return result

    def dies(self, call: Call) -> bool:
        """Return whether a call does not return."""
        return self.result(call) is None

    @property
    def smallest(self) -> Call | None:
        """The smallest call that died; None before one did."""
        return min(self._died, key=weight, default=None)


def _address(call: Call, ask: _Asking) -> tuple[int, int] | None:
    """Return the buffer that must not be moved, and the bytes of which its address must be a multiple."""
    quiet = plain(call)
    for index, buffer in enumerate(call.spec.buffers):
        died = [
            offset
            for offset in ALIGNMENTS
            if offset >= buffer.alignment and ask.dies(at_offset(quiet, index, offset))
        ]
        if died:
            return index, 2 * died[-1]
    return None


def _from_length(call: Call, ask: _Asking) -> Told | None:
    """Return the length from which rows die, where it is above those that are surveyed."""
    if call.function == MUL_MAT:
        return None
    unit, name = (1, "size") if call.function == ACTIVATION else (32, "nb")
    lives, dies = SURVEYED, call.n // unit

    def is_dead(n: int) -> bool:
        return ask.dies(call_of(call.function, n, call.nrc))

    if lives >= dies or not is_dead(dies):
        return None
    while dies - lives > 1:
        middle = (lives + dies) // 2
        lives, dies = (lives, middle) if is_dead(middle) else (middle, dies)
    if not all(is_dead(n) for n in (dies + 1, dies + 2, dies + 5, 2 * dies)):
        return None
    return {"length": [{"kind": "from", "least": dies}]}, f" where {name} >= {dies}"
