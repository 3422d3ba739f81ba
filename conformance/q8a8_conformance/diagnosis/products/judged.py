"""Failed calls of a product beside what facts predict: which outputs are wrong, and which are given."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from q8a8.errors import Q8A8Error
from q8a8.matmul import mul_mat
from q8a8.quantize import quantize_row
from q8a8_conformance.diagnosis.facts import Evidence
from q8a8_conformance.diagnosis.replay import replay
from q8a8_conformance.faults.catalogue import MUTANTS, make
from q8a8_conformance.inputs import calls
from q8a8_conformance.results.expected_product import matrices_of, outputs_of
from q8a8_conformance.results.observations import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from q8a8_conformance.diagnosis.facts import Explains, Fact
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.results.observations import CallResult


Made = tuple["Call", tuple[bytes, ...]]

ROUNDING = 2.0**-20
"""What roundings leave of an output's terms, relative to their magnitude, where a prediction holds."""

FEW, CHANCE = 0.001, 0.01
"""The part of a call's wrong outputs that may be otherwise, and of all that may be right, in a prediction."""

REPEATED = 100
"""Calls with which a mistake of the catalogue must agree to give its name, spread over all that were made."""


class Given(NamedTuple):
    """The outputs that something predicts.

    Attributes
    ----------
    total, magnitude
        float64 [n, m]: the sums, and those of the magnitudes that their terms may have.
    kept, added, free
        bool [n, m]: outputs that are what they were, that are added to it, and that may be anything.
    """

    total: Array
    magnitude: Array
    kept: Array | bool = False
    added: Array | bool = False
    free: Array | bool = False


@dataclass(frozen=True)
class Requantized(Failure):
    """A failed call that was judged again by what another recipe makes of x.

    Attributes
    ----------
    blocks
        The blocks of x by that recipe, [n, nb].
    """

    blocks: Array = field(kw_only=True)


def quantized(failure: CallResult) -> tuple[Array, Array] | None:
    """Return the blocks of w [m, nb] and of the quantized x [n, nb]; None where x has no codes."""
    w, x = matrices_of(failure.call)
    if isinstance(failure, Requantized):
        return w, failure.blocks
    try:
        return w, quantize_row(x).reshape(len(x), -1)
    except Q8A8Error:
        return None


def wrong_outputs(failure: Failure) -> Array:
    """Return which outputs of a failed call are wrong: bool [n, m]."""
    got, want = (outputs_of(failure.call, bytes(of[0])) for of in (failure.outputs, failure.expected))
    return np.asarray(got.view(np.uint32) != want.view(np.uint32))


def confirmed(wrong: Array, fits: Array) -> Array:
    """Return which wrong outputs fit a prediction, bool [n, m]; none where right ones do not."""
    return np.asarray(wrong & fits & ((~wrong & ~fits).mean() <= CHANCE))


def agreeing(failure: Failure, given: Given) -> Array:
    """Return which wrong outputs of a failed call are those predicted, but for roundings: bool [n, m]."""
    call, total = failure.call, given.total
    actual, held = (outputs_of(call, bytes(side)) for side in (failure.outputs[0], call.buffers[2].data))
    with np.errstate(invalid="ignore"):
        total = np.where(given.added, total + held, total)
        near = np.abs(actual - total) <= ROUNDING * (given.magnitude + np.abs(total))
    near |= (actual == total) | (np.isnan(actual) & np.isnan(total))
    kept = actual.view(np.uint32) == held.view(np.uint32)
    return confirmed(wrong_outputs(failure), np.where(given.kept, kept, near) | given.free)


def accounts_for_all(accounts: Callable[[Failure], Array], result: CallResult) -> bool:
    """Return whether a call is a failed one, all of whose wrong outputs are accounted for."""
    if not isinstance(result, Failure):
        return False
    wrong = wrong_outputs(result)
    # (Of very many some are rounded twice.)
    return bool(wrong.any() and (wrong & ~accounts(result)).sum() <= FEW * wrong.sum())


def spread(items: Sequence[Any], most: int) -> list[Any]:
    """Return so many items at most, the first and the last among them."""
    return [items[at] for at in np.unique(np.linspace(0, len(items) - 1, min(most, len(items))).astype(int))]


def shown(made: Sequence[Made], where: Callable[[Call], Array] | None = None) -> tuple[Evidence, ...]:
    """Return the first call with a wrong output, of some outputs bool [n, m] if these are given."""
    for call, outputs in made:
        expected, actual = mul_mat(*matrices_of(call)).astype("<f4"), outputs_of(call, outputs[0])
        wrong = np.argwhere((actual != expected) & (True if where is None else where(call)))
        if len(wrong):
            i, j = wrong[0].tolist()
            text = f"out[{i} * m + {j}] is {actual[i, j]:.9g}, expected {expected[i, j]:.9g}"
            return (Evidence(call, (expected.tobytes(),), outputs, text),)
    return ()


def named(made: Sequence[Made], rule: str, first: str) -> str:
    """Return the catalogue's mistake, tried from `first` on, that gives the same outputs in calls made."""
    for mutant in (MUTANTS[first], *MUTANTS.values()):
        if mutant.rule == rule and mutant.functions == (calls.MUL_MAT,) and not mutant.separate_process:
            kernel = make(mutant.slug)
            if all(replay(kernel, call) == outputs for call, outputs in spread(made, REPEATED)):
                return mutant.slug
    return ""


def of_product(where: Mapping[str, Any], sentence: str) -> tuple[dict[str, Any], str]:
    """Return what is said of a dot product's rows x and y in the terms of a product: of w and x."""
    text = re.sub(r"\b[xyXY]\b", _own_side, sentence)
    return json.loads(re.sub(r"\b[xy](?=_|\b)", _own_side, json.dumps(dict(where)))), text[0].upper() + text[
        1:
    ]


def _own_side(found: re.Match[str]) -> str:
    return "wx"["xy".index(found[0].lower())]


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
