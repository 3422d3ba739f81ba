"""What facts about a dot product explain together, and which of them are needed for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from q8a8_conformance.diagnosis.dots.bench import model_of
from q8a8_conformance.diagnosis.dots.model import SHARE, Model, Predictions
from q8a8_conformance.diagnosis.facts import remembered

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from q8a8_conformance.diagnosis.dots.bench import Measured
    from q8a8_conformance.results.observations import CallResult

SAMPLED = 80
"""Failed calls by which it is seen that a fact says nothing more than others."""


class Together:
    """What facts explain together: each call is predicted once by a model."""

    def __init__(self, found: Sequence[Measured], right: Predictions | None = None) -> None:
        self._found = found
        self._model, self._plain = Predictions(model_of(found)), right or Predictions(Model())

    def is_explained(self, result: CallResult) -> bool:
        """Return whether a failed call's outputs are what the facts together give."""
        if any(one.when is not None and one.when(result) for one in self._found):
            return True
        return self._model.match(result) or _is_nearer(self._model, self._plain, result)

    def explains(self, one: Measured) -> Callable[[CallResult], bool]:
        """Return whether a failed call needs a fact: with it its outputs are right, not without."""
        others = [other for other in self._found if other is not one]
        without = Predictions(model_of(others)) if others else self._plain

        def explains(result: CallResult) -> bool:
            if one.when is not None:
                return one.when(result) and not self._model.match(result)
            if self._model.match(result):
                return not without.match(result)
            nearer = _is_nearer(self._model, without, result)
            return nearer and not self._plain.match(result, SHARE)

        return remembered(explains)


def all_explained(found: Sequence[Measured], failed: Sequence[CallResult]) -> bool:
    """Return whether there are facts, and every failed call is what they give together."""
    together = Together(found)
    return bool(found) and all(together.is_explained(one) for one in failed)


def needed(found: list[Measured], wrong: Sequence[CallResult]) -> list[Measured]:
    """Return the facts without those that explain nothing beside the others.

    What two rows show may be what one has shown; what rows of one block show may be so in these alone.
    """
    some = wrong[:: max(len(wrong) // SAMPLED, 1)]

    def count(facts: Sequence[Measured]) -> int:
        return sum(map(Together(facts).is_explained, some))

    explained = count(found) if len(found) > 1 else 0
    while len(found) > 1:
        fewer = [[other for other in found if other is not one] for one in reversed(found)]
        best = max(fewer, key=count)
        if count(best) < explained:
            break
        found, explained = best, count(best)
    return found


def _is_nearer(model: Predictions, other: Predictions, result: CallResult) -> bool:
    """Return whether a call's outputs are within the bound of one model, and not of another.

    Rows that are made to lose what can be lost reach the bound: no tolerance below it holds for them.
    """
    return model.match(result, SHARE) and not other.match(result, SHARE)
