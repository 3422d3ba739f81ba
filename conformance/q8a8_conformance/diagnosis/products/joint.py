"""Failed products that several facts explain together: each accounts for some of the wrong outputs."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from q8a8_conformance.diagnosis.products.judged import wrong_outputs

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from q8a8_conformance.diagnosis.facts import Explains, Fact
    from q8a8_conformance.results.observations import CallResult, Failure


def jointly(facts: Sequence[Fact], failures: Sequence[Failure]) -> list[Fact]:
    """Return facts that explain, too, the calls each of whose wrong outputs one of them accounts for."""
    ids: dict[int, set[int]] = {}
    for one in failures:
        if any(fact.explains(one) for fact in facts):
            continue
        left, parts = wrong_outputs(one), []
        for number, fact in enumerate(facts):
            if fact.outputs is not None and (here := left & fact.outputs(one)).any():
                left = left & ~here
                parts.append(number)
        for number in parts if not left.any() else ():
            ids.setdefault(number, set()).add(id(one))
    return [
        replace(fact, explains=partial(_explains, fact.explains, ids[number])) if number in ids else fact
        for number, fact in enumerate(facts)
    ]


def _explains(alone: Explains, ids: Collection[int], result: CallResult) -> bool:
    return id(result) in ids or alone(result)
