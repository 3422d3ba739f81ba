"""What a case covers: phrases, each a shape or a kind of value that some kernel treats apart from others.

A phrase is taken from the case's bytes, never from its name, and says what a plausible kernel may get wrong
by itself: a number of blocks that another loop handles, a lane, a half way between two halves, a scale that
is subnormal. Together with the rules and the function it makes a *point* (`points`);
`q8a8_golden.generate.minimal` keeps a case that has a point of its own.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

from q8a8_golden import oracle
from q8a8_golden.cases import Unspecified
from q8a8_golden.generate.coverage_dot import dot_phrases
from q8a8_golden.generate.coverage_quantize import quantizer_phrases, unspecified_phrases
from q8a8_golden.generate.coverage_words import half_word, size_word

if TYPE_CHECKING:
    from collections.abc import Iterator

    from q8a8_golden.cases import Case

__all__ = ["phrases", "points", "recipes_apart"]


def points(case: Case) -> frozenset[str]:
    """Give what a case covers: (function, rules, phrase), for each of its phrases.

    The rules count together: what fails a case about one rule alone says which rule is broken, which a case
    about two does not. Two rows at a time count as a function of their own: kernels have other code for them.
    """
    function = f"{case.function}{', two rows' if case.args.get('nrc') == 2 else ''}"
    return frozenset(f"{function}, {' and '.join(case.rules)}: {phrase}" for phrase in phrases(case))


def phrases(case: Case) -> frozenset[str]:
    """Give the shapes and kinds of values that a case has."""
    if isinstance(case.outcome, Unspecified):
        return frozenset(unspecified_phrases(case))
    if case.function.startswith("quantize"):
        return frozenset(quantizer_phrases(case))
    if case.function.startswith("dequantize"):
        return frozenset(_dequantizer_phrases(case))
    return frozenset(dot_phrases(case))


def recipes_apart(case: Case) -> frozenset[str]:
    """Give the pairs of recipes that a quantizer's case tells apart: their bytes differ."""
    if isinstance(case.outcome, Unspecified) or not case.function.startswith("quantize"):
        return frozenset()
    gives = {recipe: case.written(f"recipe:{recipe}") for recipe in oracle.RECIPES}
    return frozenset(
        f"{one} or {other}" for one, other in combinations(oracle.RECIPES, 2) if gives[one] != gives[other]
    )


def _dequantizer_phrases(case: Case) -> Iterator[str]:
    """Give the number of blocks, each kind of scale with each kind of code, and every binade."""
    blocks = oracle.parse(case.inputs["x"][: case.args["k"] // 32 * 34])
    yield size_word(len(blocks), "blocks")
    for block in blocks:
        scale = half_word(block.scale)
        for code in set(block.codes):
            kind = "zero" if code == 0 else "-128" if code == -128 else "negative" if code < 0 else "positive"
            yield f"code {kind}, scale {scale}"
        yield f"scale {'-' if block.scale & oracle.F16.sign else '+'}2^{(block.scale >> 10 & 31) - 15}"
    if len({code for block in blocks for code in block.codes}) == 256:
        yield f"all codes, scale {half_word(blocks[0].scale)}"
