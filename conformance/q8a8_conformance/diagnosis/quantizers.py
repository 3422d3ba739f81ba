"""Which recipe a quantizer's bytes match."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from q8a8.recipe import defined, quantize_blocks
from q8a8_conformance.diagnosis.causes import DIFFERENCES, QUANTIZATIONS, UNEXPLAINED, Quantization
from q8a8_conformance.results.run import Finding

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from q8a8_conformance.results.observations import QuantizerResult

Array = NDArray[Any]


@dataclass(frozen=True)
class Score:
    """How many results a candidate reproduces, of those that it is defined for."""

    candidate: Quantization
    explained: int
    of: int

    @property
    def missed(self) -> int:
        """Results that it gets wrong."""
        return self.of - self.explained


def explain(
    function: str, results: Sequence[QuantizerResult], accepted: Collection[tuple[str, str]]
) -> list[Finding]:
    """Name the recipes that reproduce all results of one function, or report how far the nearest one gets.

    Parameters
    ----------
    function
        The quantizer.
    results
        What it gave.
    accepted
        As in `diagnose`.

    Returns
    -------
    list of Finding
        One for each candidate that reproduces every result (the specification's alone if it is among them);
        else one, the cause ``unexplained``. Empty where there is no result with an element in it.
    """
    held = _by_size(results)
    # The specification first: where it fits, nobody asks for the others.
    scores = [_score(QUANTIZATIONS[0], held)]
    if not scores[0].of or scores[0].missed:
        scores += [_score(candidate, held) for candidate in QUANTIZATIONS[1:]]
    if not any(score.of for score in scores):
        return []
    fitting = [score for score in scores if score.of and not score.missed]
    if not fitting:
        best = min(scores, key=lambda score: (score.missed, -score.explained))
        detail = f"nearest: {best.candidate.cause}"
        return [Finding(function, UNEXPLAINED, best.explained, best.of, detail=detail)]
    return [
        Finding(
            function,
            score.candidate.cause,
            score.explained,
            score.of,
            fix="" if (function, score.candidate.recipe.name) in accepted else score.candidate.fix,
            detail=DIFFERENCES.get(score.candidate.cause, ""),
        )
        for score in fitting
    ]


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


def _score(candidate: Quantization, held: Sequence[tuple[Array, Array, Array]]) -> Score:
    explained = of = 0
    for x, got_scale, got_codes in held:
        known = defined(x, candidate.recipe)
        scale, codes = quantize_blocks(x[known], candidate.recipe)
        same = (scale.view(np.uint16) == got_scale[known]) & (codes == got_codes[known]).all(axis=1)
        explained += int(same.sum())
        of += len(same)
    return Score(candidate, explained, of)
