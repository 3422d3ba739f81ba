"""Calls that are wrong by turns: every nth call of a process is wrong, and the others are right.

One call is made many times in a row. Where the wrong ones come at equal distances, experiments go on in the
calls whose turn it is: before each of them as many others are made as lie between.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from q8a8_conformance.diagnosis.dots.conditions import is_right, plain
from q8a8_conformance.diagnosis.facts import Evidence, Fact, only
from q8a8_conformance.protocol.deadline import Deadline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from q8a8_conformance.diagnosis.dots.bench import Probe
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.results.observations import Failure

CALLS, SECONDS = 600, 1.0
"""How often a call is made in a row, and for how long at most."""

SEEN = 3
"""Wrong calls at equal distances that are needed."""

TRIED = 3
"""Failed calls that are tried."""


@dataclass
class Turn:
    """Every nth call is wrong.

    Parameters
    ----------
    every
        n.
    one
        The call that was made in a row, and a wrong result of it.
    probe
        Makes a call, of whatever turn.
    """

    every: int
    one: Failure
    probe: Probe
    _since: int = 0

    def make(self, call: Call) -> tuple[bytes, ...] | None:
        """Make a call when it is its turn."""
        between = self.every - 1 - self._since
        if between > 0:
            self.probe(replace(plain(self.one.call), repeat=between))
        self._since = 0
        return self.probe(call)

    @property
    def words(self) -> str:
        """The condition, before a sentence."""
        return f"In every {ordinal(self.every)} call of a process"

    def fact(self, failures: Sequence[Failure]) -> Fact:
        """Return the fact that calls are wrong by turns, which explains all that failed."""
        return Fact(
            "wrong-by-turns",
            {"every": self.every},
            "Q8A8-ENV-2",
            f"{self.words} the result is wrong, and right in the others.",
            "Count no calls: let nothing but the inputs decide.",
            "",
            function=self.one.call.function,
            evidence=(Evidence(self.one.call, self.one.expected, self.one.outputs, "made many times"),),
            nrc=self.one.call.nrc,
            explains=only(failures),
        )

    def of_fact(self, fact: Fact) -> Fact:
        """Return a fact that experiments of this turn found, with the condition."""
        sentence = f"{self.words}: {fact.sentence}"
        return replace(fact, where={**fact.where, "every": self.every}, sentence=sentence, rule="Q8A8-ENV-2")


def every_nth(failures: Sequence[Failure], probe: Probe) -> Turn | None:
    """Find that every nth call is wrong; None where wrong ones come at no equal distances."""
    for one in sorted(failures, key=lambda each: each.call.n)[:TRIED]:
        wrong: list[int] = []
        deadline = Deadline(SECONDS)
        for number in range(CALLS):
            if deadline.has_passed:
                return None
            outputs = probe(plain(one.call))
            if outputs is None:
                return None
            if not is_right(one, outputs):
                wrong.append(number)
            distances = {after - before for before, after in pairwise(wrong)}
            if len(distances) > 1 or distances == {1}:
                return None
            if len(wrong) > SEEN and (every := distances.pop()) > 1:
                return Turn(every, replace(one, call=plain(one.call)), probe)
    return None


def ordinal(number: int) -> str:
    """Return a number as an ordinal: 2nd, 3rd, 16th."""
    teens = number % 100 // 10 == 1
    return f"{number}{'th' if teens else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"
