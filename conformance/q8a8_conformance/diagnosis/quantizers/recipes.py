"""Which of the recipes that a quantizer may have its bytes match."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from q8a8.recipe import RECIPES, defined, quantize_blocks
from q8a8_conformance.diagnosis.causes import DIFFERENCES, UNEXPLAINED
from q8a8_conformance.results.run import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from q8a8.recipe import Recipe
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.results.observations import QuantizerResult


def explain(function: str, results: Sequence[QuantizerResult], accepted: Iterable[str]) -> list[Finding]:
    """Name the recipe that a quantizer may have, and has by all of its results: the specification's first.

    Recipes of the names `accepted` are right besides that one.

    Returns
    -------
    list of Finding
        One: the recipe, or else the cause ``unexplained`` with what the specification's gives. Empty where
        there is no result with an element in it.
    """
    held = _by_size(results)
    legal = [RECIPES["design"], *(RECIPES[name] for name in accepted)]
    findings = []
    for recipe in legal:
        cause = f"recipe:{recipe.name}"
        explained, of = _score(recipe, held)
        if of and explained == of:
            return [Finding(function, cause, explained, of, detail=DIFFERENCES.get(cause, ""))]
        if of:
            findings.append(Finding(function, UNEXPLAINED, explained, of))
    return findings[:1]


def _by_size(results: Sequence[QuantizerResult]) -> list[tuple[Array, Array, Array]]:
    """Return elements float32 [n, size], scales' bits uint16 [n] and codes int8 [n, size], for each size."""
    by_size: dict[int, list[QuantizerResult]] = {}
    for result in results:
        if result.x.size:
            by_size.setdefault(result.x.size, []).append(result)
    return [
        (
            np.array([result.x for result in held]),
            np.array([result.scale for result in held], np.uint16),
            np.array([result.codes for result in held]),
        )
        for held in by_size.values()
    ]


def _score(recipe: Recipe, held: Sequence[tuple[Array, Array, Array]]) -> tuple[int, int]:
    """Return how many results a recipe gives, of those that it is defined for."""
    explained = of = 0
    for x, got_scale, got_codes in held:
        known = defined(x, recipe)
        scale, codes = quantize_blocks(x[known], recipe)
        same = (scale.view(np.uint16) == got_scale[known]) & (codes == got_codes[known]).all(axis=1)
        explained += int(same.sum())
        of += len(same)
    return explained, of
