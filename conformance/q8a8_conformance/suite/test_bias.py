"""Whether errors centre on zero: results within the bound that mostly have one direction get a warning.

The results are judged by the bound like any others; a bias does not change the verdict.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8_conformance.inputs import calls, dot_rows
from q8a8_conformance.results import bias
from q8a8_conformance.results.expected_dot import expected_dots
from q8a8_conformance.suite import bias_rows
from q8a8_conformance.suite.dot_checks import judge_products
from q8a8_conformance.suite.two_rows import require_two_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from q8a8_conformance.results.expected_dot import ExpectedDot
    from q8a8_conformance.suite.bias_rows import Sample
    from q8a8_conformance.suite.judge import Judge

RULES = ("Q8A8-ORD-2", "Q8A8-DOT-3")


def warn_of_bias(judge: Judge, function: str, given: Sequence[tuple[Sample, bytes]]) -> None:
    """Warn of a bias in independent results; results outside of the bound are failures instead."""
    deviations = []
    for sample, result in given:
        item = sample.product
        error = item.error(result)
        if error is None or abs(error) > item.bound:
            return
        deviations.append(bias.Deviation(error, item.magnitude, item.bound, sample.sign))
    judge.target.warnings.extend(bias.find_biases(function, judge.case, deviations))


@pytest.mark.rule(*RULES)
@pytest.mark.parametrize("kind", [pytest.param(kind, id=f"dot/bias/{kind}") for kind in bias_rows.KINDS])
def test_dot(judge: Judge, kind: str) -> None:
    """Compute many dot products of one sort."""
    judge.require(calls.DOT)
    given = []
    made = ((calls.dot(sample.x, sample.y), sample) for sample in bias_rows.samples(kind))
    for (call, sample), outputs in judge.each(made, itemgetter(0)):
        judge_products(judge, call, outputs["s"], [sample.product])
        given.append((sample, outputs["s"]))
    warn_of_bias(judge, calls.DOT, given)


@pytest.mark.rule("Q8A8-ORD-2", "Q8A8-DOT-9")
@pytest.mark.parametrize("kind", [pytest.param(kind, id=f"v2/bias/{kind}") for kind in bias_rows.KINDS])
def test_v2(judge: Judge, kind: str) -> None:
    """Compute many dot products over v2 blocks."""
    judge.require(calls.DOT_REAL)
    given = []
    samples = bias_rows.samples(kind, "v2")
    made = ((calls.dot_real(*dot_rows.to_v2(sample.x, sample.y)), sample) for sample in samples)
    for (call, sample), outputs in judge.each(made, itemgetter(0)):
        judge_products(judge, call, outputs["s"], [sample.product])
        given.append((sample, outputs["s"]))
    warn_of_bias(judge, calls.DOT_REAL, given)


def pairs_of_samples(kind: str) -> Iterator[tuple[Sample, Sample, ExpectedDot, ExpectedDot]]:
    """Yield two samples of one length, and what x1·y0 and x0·y1 must be."""
    for _, group in groupby(bias_rows.samples(kind, "nrc2"), lambda sample: sample.x.size):
        samples = tuple(group)
        first, second = samples[::2], samples[1::2]
        (x0, y0), (x1, y1) = (
            (np.stack([each.x for each in side]), np.stack([each.y for each in side]))
            for side in (first, second)
        )
        yield from zip(first, second, expected_dots(x1, y0, 4), expected_dots(x0, y1, 8), strict=True)


@pytest.mark.rule(*RULES, "Q8A8-DOT-6")
@pytest.mark.parametrize("kind", [pytest.param(kind, id=f"nrc2/bias/{kind}") for kind in bias_rows.KINDS])
def test_two_rows(judge: Judge, kind: str) -> None:
    """Compute many dot products two rows at a time; of each call x0·y0 and x1·y1 are independent."""
    require_two_rows(judge)
    given = []
    made = (
        (calls.dot_pair(np.stack([first.x, second.x]), np.stack([first.y, second.y])), first, second, between)
        for first, second, *between in pairs_of_samples(kind)
    )
    for (call, first, second, between), outputs in judge.each(made, itemgetter(0)):
        result = outputs["s"]
        products = [first.product, *between, replace(second.product, offset=12)]
        judge_products(judge, call, result, products)
        given += [(first, result[:4]), (second, result[12:16])]
    warn_of_bias(judge, calls.DOT, given)
