"""Activations that a product quantizes by another recipe everywhere, and what else is wrong beside that.

Rows of w with a single 1 give back the codes of a row of x. Where they are those of another recipe, the
failed calls are judged again by it. What is left is wrong for another reason, which experiments find.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from q8a8 import layout
from q8a8_conformance.diagnosis.facts import Fact, only
from q8a8_conformance.diagnosis.products.judged import (
    ROUNDING,
    Requantized,
    quantized,
    shown,
    wrong_outputs,
)
from q8a8_conformance.diagnosis.products.law_words import law_json, law_kind, law_words
from q8a8_conformance.diagnosis.products.recipes import DESIGN, Recipe, recipe_effects
from q8a8_conformance.diagnosis.products.rules import EVERYWHERE
from q8a8_conformance.diagnosis.products.sources import sums
from q8a8_conformance.diagnosis.products.terms import Law
from q8a8_conformance.inputs import calls
from q8a8_conformance.results.expected_product import matrices_of, outputs_of
from q8a8_conformance.reveal.products.activations import Activations
from q8a8_conformance.reveal.products.shapes import telling_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from q8a8_conformance.diagnosis.products.effects import Effect
    from q8a8_conformance.diagnosis.products.judged import Made
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.results.observations import CallResult, Failure
    from q8a8_conformance.reveal.quantizers.calls import AnySession

    FactsOf = Callable[[AnySession, Sequence[Failure]], list[Fact]]

READ, MORE = 60, 8
"""Blocks of x that are read in rows of one block, and of those that tell, in others."""

FIRST = ((1, 1, 0), (1, 4, 1), (1, 2, 0))
"""Products in which they are read, until a recipe gives all: rows of x, the blocks of each, and the block."""

OTHERS = (*FIRST, (1, 9, 4), (1, 33, 20), (4, 1, 0), (4, 3, 1))
"""Products in which they must not be those of the specification."""

SAID = ("recipe:", "activations", "round-half-even")
"""How the facts begin that say what activations become."""


def requantized_facts(session: AnySession, failures: Sequence[Failure], facts_of: FactsOf) -> list[Fact]:
    """Find another recipe of all activations, and by `facts_of` what else is wrong.

    None where there is no such recipe, or where nothing else is wrong: then it shows by itself.
    """
    made: list[Made] = []
    found = _recipe(session, made)
    if found is None:
        return []
    effect, kept = found
    again = {id(one): judged for one in failures if (judged := _judged(kept, one))}
    left = [judged for judged in again.values() if wrong_outputs(judged).any()]
    if not left:
        return []
    others = [
        replace(
            fact,
            explains=partial(_explains, again, fact),
            outputs=None if fact.outputs is None else partial(_accounts, again, fact),
        )
        for fact in facts_of(session, left)
        if not fact.fact.startswith(SAID)
    ]
    explained = [
        one
        for one in failures
        if id(one) in again and _differs(one, again[id(one)])
        # (The rest of its outputs are what something else makes of these codes.)
        if not wrong_outputs(again[id(one)]).any() or any(fact.explains(one) for fact in others)
    ]
    law = Law(effect, EVERYWHERE, EVERYWHERE, EVERYWHERE)
    rule, sentence, fix, _ = law_words(law)
    fact = Fact(
        *(law_kind(law), law_json(law), rule, sentence, fix, ""),
        function=calls.MUL_MAT,
        evidence=shown(made),
        explains=only(explained),
    )
    return [fact, *others]


def _explains(again: Mapping[int, Failure], fact: Fact, result: CallResult) -> bool:
    return id(result) in again and fact.explains(again[id(result)])


def _accounts(again: Mapping[int, Failure], fact: Fact, result: Failure) -> Array:
    of = again.get(id(result))
    return wrong_outputs(result) & (fact.outputs is not None and of is not None and fact.outputs(of))


def _recipe(session: AnySession, made: list[Made]) -> tuple[Effect, Recipe] | None:
    """Return the recipe by which activations are quantized in every product that is made, if it is another.

    The products are added to those made.
    """
    blocks = telling_blocks()[:READ]
    own = _values(Recipe(Activations("int8", DESIGN)), blocks)
    for first in FIRST:
        came = _read(session, made, first, blocks)
        if np.array_equal(came, own):
            return None
        for effect, kept in _recipes():
            if not np.array_equal(came, values := _values(kept, blocks)):
                continue
            telling = np.flatnonzero((values != own).any(axis=1))[:MORE]
            # (What is neither is wrong for another reason.)
            others = (_read(session, made, place, blocks[telling]) for place in OTHERS if place != first)
            is_own = any(np.array_equal(each, own[telling]) for each in others)
            return None if is_own else (effect, kept)
    return None


def _recipes() -> Iterator[tuple[Effect, Recipe]]:
    """Yield the recipes of blocks, whose scales are halves."""
    for effect in recipe_effects():
        kept = effect.kept
        if isinstance(kept, Recipe) and kept.of.recipe and kept.of.half and kept.of.sharing == "block":
            yield effect, kept


def _values(kept: Recipe, blocks: Array) -> Array:
    """Return what elements of blocks, float32 [r, 32], are under a weight of 1: float64."""
    codes, scales = kept.codes(blocks)
    return np.asarray((codes * scales[..., np.newaxis]).reshape(len(blocks), 32))


def _read(session: AnySession, made: list[Made], place: tuple[int, int, int], blocks: Array) -> Array:
    """Return the same as they come out of products: of n rows of nb blocks each, in one of the blocks."""
    n, nb, block = place
    codes = np.zeros((32, nb, 32), np.int8)
    codes[:, block] = np.eye(32)
    w, found = layout.pack(np.ones((32, nb), np.float16), codes), []
    for at in range(0, len(blocks), n):
        rows = np.resize(blocks[at : at + n], (n, 32))
        x = np.repeat(rows[:, np.newaxis], nb, axis=1)
        call = calls.mul_mat(w, np.ascontiguousarray(x.reshape(n, -1), np.float32))
        outputs = tuple(bytes(out) for out in session.call(call).outputs)
        made.append((call, outputs))
        found.append(outputs_of(call, outputs[0]).astype(np.float64))
    return np.concatenate(found)[: len(blocks)]


def _judged(kept: Recipe, failure: Failure) -> Requantized | None:
    """Return a failed call beside what the recipe makes of x; None where x has no codes."""
    if (operands := quantized(failure)) is None:
        return None
    w, x = operands[0], matrices_of(failure.call)[1]
    codes, scales = kept.codes(x)
    blocks = layout.pack(scales.astype(np.float16), codes.astype(np.int8))
    total, magnitude = sums(w, blocks)
    got = outputs_of(failure.call, bytes(failure.outputs[0]))
    near = np.abs(got - total) <= ROUNDING * (magnitude + np.abs(total))
    expected = np.where(near, got, total.astype(np.float32)).astype("<f4").tobytes()
    every = (expected + bytes(failure.outputs[0])[len(expected) :], *failure.outputs[1:])
    return Requantized(failure.call, failure.outputs, every, blocks=blocks)


def _differs(failure: Failure, judged: Requantized) -> bool:
    """Return whether the recipe makes other blocks of x."""
    own = quantized(failure)
    return own is not None and own[1].tobytes() != judged.blocks.tobytes()
