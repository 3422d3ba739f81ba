"""The golden cases: each is one call whose outcome three independent implementations agree on."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.inputs import calls
from q8a8_conformance.protocol.messages import Buffer, Call
from q8a8_conformance.results.expected_dot import ExpectedDot
from q8a8_conformance.spec.abi import MATRIX_PRODUCT, get_function
from q8a8_conformance.suite.dot_checks import judge_products
from q8a8_conformance.suite.judge import RETURNS
from q8a8_conformance.suite.quantizer_checks import judge_activation, judge_row
from q8a8_conformance.suite.two_rows import require_two_rows
from q8a8_golden.cases import Bound, Case, Exact
from q8a8_golden.load import load_cases

if TYPE_CHECKING:
    from q8a8_conformance.suite.judge import Judge

TERM = Fraction(1, 1 << 48)


def golden() -> list[object]:
    """Return every golden case as a parameter."""
    return [pytest.param(case, id=case.id, marks=pytest.mark.rule(*case.rules)) for case in load_cases()]


def call_of(case: Case) -> Call:
    """Return a golden case's call, with poison in its outputs."""
    held = {**case.inputs, **case.poisoned()}
    bs, bx, by, nrc = (case.args.get(name, int(name == "nrc")) for name in ("bs", "bx", "by", "nrc"))
    if case.function == MATRIX_PRODUCT:
        bs, bx = case.args["m"], case.args["n"]
    n = next(case.args[name] for name in ("k", "n", "size") if name in case.args)
    buffers = tuple(Buffer(held[buffer.name]) for buffer in get_function(case.function).buffers)
    return Call(case.function, n, buffers, bs, bx, by, nrc)


@pytest.mark.parametrize("case", golden())
def test_golden(judge: Judge, case: Case) -> None:
    """Judge one golden case by its outcome."""
    function = case.function
    judge.require(function)
    if case.args.get("nrc", 1) == 2:
        require_two_rows(judge)
    if isinstance(case.outcome, Exact) and function in calls.QUANTIZERS:
        judge_row(judge, call_of(case), case.expected())
    elif isinstance(case.outcome, Exact) and function == calls.ACTIVATION:
        judge_activation(judge, call_of(case), case.expected())
    elif isinstance(case.outcome, Exact) and function == MATRIX_PRODUCT:
        # (Where a recipe has no other bytes, these are the specification's.)
        judge.exact(call_of(case), case.expected(f"recipe:{judge.recipes.of(function)}"))
    elif isinstance(case.outcome, Exact):
        # A call that gives wrong values has returned.
        judge.exact(call_of(case), case.expected(), tuple(rule for rule in case.rules if rule != RETURNS))
    elif isinstance(case.outcome, Bound):
        call = call_of(case)
        products = [
            ExpectedDot(r.offset, r.bits.to_bytes(4, "little"), r.exact * TERM, r.magnitude * TERM, r.m)
            for r in case.outcome.results
        ]
        judge_products(judge, call, judge.run(call)[case.output], products)
    else:
        judge.run(call_of(case), legal=False)
