"""Judging matrix products: bits where no order rounds, the proven bound where orders may differ."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.inputs import calls
from q8a8_conformance.results.expected_product import ExpectedProduct, outputs_of
from q8a8_conformance.suite.case_records import VARIES
from q8a8_conformance.suite.wrong_outputs import describe

if TYPE_CHECKING:
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.inputs.known_calls import Known
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.suite.judge import Judge

SUMS = "Q8A8-MUL-5"
MARGINS = 500
"""Outputs of a call whose place in the bound is recorded at most."""
OBSERVED = 24
"""Outputs of a call that the diagnosis gets at most: they show the order of addition."""


def judge_product(judge: Judge, w: Array, x: Array, *, exact: bool, out: bytes | None = None) -> bool:
    """Judge one matrix product; return whether it is right.

    Parameters
    ----------
    judge
        Of the case.
    w, x
        Blocks [m, nb]; float32 [n, 32·nb], in the domain.
    exact
        Whether no order rounds: then bits count under every profile.
    out
        What the outputs hold before the call.
    """
    call = calls.mul_mat(w, x, out=out)
    outputs = judge.run(call)
    actual = outputs_of(call, outputs["out"])
    xq, known = judge.recipes.matrix(x)
    product = ExpectedProduct(w, xq)
    right = actual.view(np.uint32) == product.outputs.view(np.uint32)
    right |= ~known[:, np.newaxis]
    message = "the product differs"
    in_bound = not exact and judge.target.profile != "exact"
    if not exact:
        _record_margins(judge, product, actual)
        _observe(judge, product, actual)
    if in_bound:
        right |= product.holds(actual)
        message = "the product is outside the bound"
    if right.all():
        return True
    expected = np.where(right, actual, product.outputs)
    message = f"{message}: {describe(actual, product.outputs, ~right)}"
    # (Under the profile exact the bits of another order than the scalar one are wrong, and nothing else.)
    rules = None if exact or in_bound or not (right | product.holds(actual)).all() else (SUMS,)
    judge.compare(call, outputs, {"out": expected.tobytes()}, rules, message, in_bound=in_bound)
    return False


def judge_again(judge: Judge, known: Known, call: Call, message: str) -> bool:
    """Make a call that earlier ones may influence; return whether it is right, or wrong by itself.

    Where some were, no more processes are started to see whether others are.

    Parameters
    ----------
    judge
        Of the case.
    known
        The call, plain, and what it must give.
    call
        The call as it is made.
    message
        What it means if it is right only as the first one of a process: that breaks Q8A8-ENV-2.
    """
    actual = judge.run(call, at=call)
    if actual == known.expected or judge.target.is_known_wrong(call.function):
        return True
    judge.target.restart()
    if judge.run(known.call, at=known.call) != known.expected:
        judge.target.wrong_anew[call.function] += 1
        return True  # Cases about values find that.
    judge.fail((VARIES,), message, known.call, expected=known.expected, actual=actual)
    judge.target.observations.add_failure(known.call, actual, known.expected)
    return False


def _observe(judge: Judge, product: ExpectedProduct, actual: Array) -> None:
    """Keep some outputs for the diagnosis, as the dot products that they are."""
    for place in np.unique(np.linspace(0, actual.size - 1, min(actual.size, OBSERVED)).astype(int)).tolist():
        i, j = divmod(place, actual.shape[1])
        bits = actual[i, j].astype("<f4").tobytes()
        judge.target.observations.add_dot(calls.MUL_MAT, 1, product.w[j], product.xq[i], bits)


def _record_margins(judge: Judge, product: ExpectedProduct, actual: Array) -> None:
    """Record where in the bound outputs lie, of many some."""
    step = -(-actual.size // MARGINS)
    errors, bounds = (each.reshape(-1)[::step].tolist() for each in (product.errors(actual), product.bound))
    for error, bound in zip(errors, bounds, strict=True):
        judge.target.margins.add(calls.MUL_MAT, judge.case, error if math.isfinite(error) else None, bound)
