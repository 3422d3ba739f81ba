"""What an experiment found a function to do wrong: a fact, the calls that show it, the failures it explains.

A fact is measured, not looked up: `fact` and `where` are for programs (a slug, and its parameters: positions,
remainders, thresholds), `sentence` and `fix` for the author of the kernel. `explains` decides which failed
calls have this cause: it computes what the faulty function would give for a call's inputs, and compares. A
cause is attached to the failures that it explains, and to no other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from q8a8_conformance.inputs.calls import arguments_of, inputs_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.results.observations import CallResult

    Explains: TypeAlias = Callable[[CallResult], bool]

HEX_LIMIT = 1 << 12
"""Bytes of a buffer that are written out in JSON; a longer one is shown by its length and its start."""


def explains_nothing(result: CallResult) -> bool:
    """Explain no call: of a fact whose effect on other calls is not known."""
    del result
    return False


@dataclass(frozen=True)
class Evidence:
    """A call that shows a fact.

    Attributes
    ----------
    call
        The call, as short as the fact allows.
    expected, actual
        Output buffers in the ABI's order: the right ones, and those that the kernel gave; `actual` is None
        where it did not return.
    text
        What the call asks and what comes, in one line.
    """

    call: Call
    expected: tuple[bytes, ...]
    actual: tuple[bytes, ...] | None
    text: str

    def to_json(self) -> dict[str, Any]:
        """Return the call as JSON data: integers by name, buffers as length and hex."""
        names = [self.call.spec.buffers[i].name for i in self.call.spec.outputs]
        return {
            "function": self.call.function,
            "args": arguments_of(self.call),
            "inputs": _buffers(inputs_of(self.call)),
            "expected": _buffers(dict(zip(names, self.expected, strict=True))),
            "actual": _buffers(dict(zip(names, self.actual or (), strict=False))),
            "text": self.text,
        }


@dataclass(frozen=True)
class Fact:
    """One thing that a function does wrong.

    Attributes
    ----------
    function
        The ABI function.
    fact
        What kind of thing: a slug, ``block-not-counted``.
    where
        Its parameters, for programs: JSON data by name.
    rule
        The full id of the rule that it breaks.
    sentence
        What the kernel does, in its author's terms.
    fix
        What to change, in one sentence.
    evidence
        One to three calls that show it, the smallest first.
    cause
        The slug that the catalogue of causes has for it; `fact` itself where it has none.
    nrc
        Rows at a time of the dot products that it is about; 1 for what one and two rows share.
    explains
        Decides whether a failed call's outputs are what this fault gives.
    """

    function: str
    fact: str
    where: Mapping[str, Any]
    rule: str
    sentence: str
    fix: str
    evidence: tuple[Evidence, ...] = ()
    cause: str = ""
    nrc: int = 1
    explains: Explains = field(default=explains_nothing, repr=False, compare=False)

    @property
    def slug(self) -> str:
        """The name that the diagnosis lists it under."""
        return self.cause or self.fact

    def explained(self, failures: Sequence[CallResult]) -> list[CallResult]:
        """Return the failed calls that this fact explains."""
        return [failure for failure in failures if self.explains(failure)]

    def to_json(self) -> dict[str, Any]:
        """Return the fact as JSON data."""
        return {
            "function": self.function,
            "nrc": self.nrc,
            "fact": self.fact,
            "where": dict(self.where),
            "rule": self.rule,
            "cause": self.slug,
            "sentence": self.sentence,
            "fix": self.fix,
            "evidence": [evidence.to_json() for evidence in self.evidence],
        }


def _buffers(buffers: Mapping[str, bytes]) -> dict[str, Any]:
    return {name: {"length": len(data), "hex": data[:HEX_LIMIT].hex()} for name, data in buffers.items()}
