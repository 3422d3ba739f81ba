"""The coverage of a case: its features, shapes and classes of values that some kernels handle separately.

A feature is derived from the case's bytes, never from its name, and describes what a plausible kernel may get
wrong separately: a number of blocks that another loop handles, a lane, a tie between two halves, a subnormal
scale. With the rules and the function it is a coverage *point* (`points`); `q8a8_golden.generate.minimal`
keeps every case that is the only one with some point.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

from q8a8_golden import oracle
from q8a8_golden.cases import Bound, Unspecified
from q8a8_golden.generate.coverage_classes import half_class, size_class
from q8a8_golden.generate.coverage_dot import dot_features, sum_features
from q8a8_golden.generate.coverage_quantize import quantizer_features, unspecified_features
from q8a8_golden.generate.implementations import product_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from q8a8_golden.cases import Case

__all__ = ["features", "points", "recipes_apart"]


def points(case: Case) -> frozenset[str]:
    """Return the coverage points of a case: (function, rules, feature) for each of its features.

    The rules are taken together: a failed case of one rule identifies the broken rule, a case of two rules
    does not. Two rows at a time count as a separate function, as kernels have separate code for them.
    """
    function = f"{case.function}{', two rows' if case.args.get('nrc') == 2 else ''}"
    return frozenset(f"{function}, {' and '.join(case.rules)}: {feature}" for feature in features(case))


def features(case: Case) -> frozenset[str]:
    """Return the features of a case: shapes and classes of values."""
    if isinstance(case.outcome, Unspecified):
        return frozenset(unspecified_features(case))
    if case.function.startswith("quantize"):
        return frozenset(quantizer_features(case))
    if case.function.startswith("dequantize"):
        return frozenset(_dequantizer_features(case))
    if case.function == "mul_mat_q8_a8":
        return frozenset(_product_features(case))
    return frozenset(dot_features(case))


def recipes_apart(case: Case) -> frozenset[str]:
    """Return the pairs of recipes whose bytes differ in the case of a quantizer or a product."""
    if isinstance(case.outcome, Unspecified) or not case.function.startswith(("quantize", "mul_mat")):
        return frozenset()
    results = {recipe: case.written(f"recipe:{recipe}") for recipe in oracle.RECIPES}
    return frozenset(
        f"{one} or {other}"
        for one, other in combinations(oracle.RECIPES, 2)
        if results[one] != results[other]
    )


def _product_features(case: Case) -> Iterator[str]:
    """Yield the shape, what the outputs hold before the call, and how much of rounded sums cancels."""
    rounded = ", bound" if isinstance(case.outcome, Bound) else ""
    yield f"{size_class(case.args['m'], 'rows of w')}, {size_class(case.args['n'], 'rows of x')}{rounded}"
    yield f"{size_class(case.args['k'] // 32, 'blocks')}{rounded}"
    if rounded:
        for w, x in product_rows(case) or []:
            yield from sum_features(w, x, v2=False)
    if case.before:
        yield "outputs that hold numbers"


def _dequantizer_features(case: Case) -> Iterator[str]:
    """Yield the number of blocks, each class of scale with each class of code, and every binade."""
    blocks = oracle.parse(case.inputs["x"][: case.args["k"] // 32 * 34])
    yield size_class(len(blocks), "blocks")
    for block in blocks:
        scale = half_class(block.scale)
        for code in set(block.codes):
            kind = "zero" if code == 0 else "-128" if code == -128 else "negative" if code < 0 else "positive"
            yield f"code {kind}, scale {scale}"
        yield f"scale {'-' if block.scale & oracle.F16.sign else '+'}2^{(block.scale >> 10 & 31) - 15}"
    if len({code for block in blocks for code in block.codes}) == 256:
        yield f"all codes, scale {half_class(blocks[0].scale)}"
