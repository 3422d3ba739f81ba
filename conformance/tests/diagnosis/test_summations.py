"""Ways to add that are no order of additions are named, on independent kernels in C."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8.order import WHOLE, Program, TreeOrder, get_order
from q8a8_conformance.diagnosis import diagnose
from q8a8_conformance.inputs import dot_rows
from q8a8_conformance.protocol.sut import parse_sut
from q8a8_conformance.results.record import Recorder, Status
from q8a8_conformance.reveal import summations
from q8a8_conformance.suite.accepted_recipes import Recipes
from q8a8_conformance.suite.judge import CaseOver, Judge
from q8a8_conformance.suite.target import NotRunError, Target
from q8a8_lab.mutation import judging

if TYPE_CHECKING:
    from collections.abc import Callable

SOURCE = Path(__file__).with_name("summing.c")
CASES = ("dot/bound", "dot/exact", "dot/cancelling", "dot/wide")


@pytest.fixture
def build(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that builds the kernel that adds in one way."""
    compiler = shutil.which("cc")
    if compiler is None:
        if os.environ.get("CI"):
            pytest.fail("no C compiler")
        pytest.skip("no C compiler")

    def build(way: str) -> Path:
        library = tmp_path / f"lib{way.lower()}.so"
        flags = ["-O1", "-ffp-contract=off", "-frounding-math", f"-DWAY={way}", "-shared", "-fPIC"]
        command = [compiler, *flags, "-o", str(library), str(SOURCE), "-lm"]
        subprocess.run(command, check=True, timeout=60)
        return library

    return build


ROUNDED = [
    way for way in summations.SUMMATIONS if way.cause in {"sums-toward-zero", "sums-upward", "sums-downward"}
]


@pytest.mark.parametrize("way", ROUNDED, ids=lambda way: way.cause)
def test_a_fused_term_of_a_tree_is_rounded_once(way: summations.Summation) -> None:
    """A chain of additions, as a tree and as an order by rule, gives the same bits, fused or not."""
    rng = dot_rows.generator("fused chain")
    qx, qy = rng.integers(-127, 128, (2, 300, 5, 32)).astype(np.int8)
    d = np.prod(rng.uniform(0.01, 3, (2, 300, 5)).astype(np.float16).astype(np.float32), axis=0)
    totals = {}
    for fused in (False, True):
        program = Program.of_blocks(5, WHOLE, ((0, 1), (5, 2), (6, 3), (7, 4)), fused=fused)
        by_rule = replace(get_order("scalar"), fused=fused, tail_fused=fused)
        totals[fused] = way.total(TreeOrder("chain", {5: program}, "a test"), qx, qy, d)
        assert np.array_equal(totals[fused], way.total(by_rule, qx, qy, d))
    assert (totals[True] != totals[False]).any()


@pytest.mark.parametrize(
    ("way", "cause", "detail"),
    [
        ("TOWARD_ZERO", "sums-toward-zero", "in the order scalar"),
        ("TOWARD_ZERO_IN_LANES", "sums-toward-zero", "in the order order:avx2"),
        ("UPWARD", "sums-upward", "in the order scalar"),
        ("DOWNWARD", "sums-downward", "in the order scalar"),
        ("IN_DOUBLE", "sums-in-double", "in the order scalar"),
        ("EXACT", "exact-sum", ""),
        ("KAHAN", "compensated-sum", ""),
        ("NEUMAIER", "compensated-at-the-end", ""),
    ],
)
def test_a_way_to_add_is_named(build: Callable[[str], Path], way: str, cause: str, detail: str) -> None:
    """It passes within the bound, and every one of its results is explained by the one cause."""
    with parse_sut(f"lib:{build(way)}").session(10.0) as session:
        target = Target(session, "kernel", 10.0)
        recorder, recipes = Recorder(), Recipes(target)
        for case in judging.cases():
            if case.name.startswith(CASES):
                judge = Judge(target, recipes, recorder, case.name, case.rules)
                case.check(judge=judge, **case.parameters)
                judge.finish()
        (found,) = diagnose(target.observations, target.ask_dot, (), target.probe)
    assert {record.status for record in recorder} == {Status.PASS}
    assert found.cause == cause
    assert found.explained == found.of > 200
    assert found.detail.startswith(detail)
    assert not found.fix


def test_under_the_profile_exact_the_way_to_add_is_what_fails(build: Callable[[str], Path]) -> None:
    """Under the profile exact the failure is attributed to the way to add, and to no mistake."""
    with parse_sut(f"lib:{build('IN_DOUBLE')}").session(10.0) as session:
        target = Target(session, "exact", 10.0)
        recorder, recipes = Recorder(), Recipes(target)
        for case in judging.cases():
            if case.name.startswith(CASES):
                judge = Judge(target, recipes, recorder, case.name, case.rules)
                try:
                    case.check(judge=judge, **case.parameters)
                except (CaseOver, NotRunError):
                    continue
                judge.finish()
        found = diagnose(target.observations, target.ask_dot, (), target.probe)
    assert {record.rule for record in recorder if record.status is Status.FAIL} == {"Q8A8-DOT-3"}
    assert [finding.cause for finding in found] == ["sums-in-double"]


def test_rounding_to_odd_is_followed_by_a_right_rounding() -> None:
    """A sum rounded to odd in float64 and then to float32 in a direction is the exact sum rounded once."""
    rng = dot_rows.generator("to-odd")
    a = np.ldexp(rng.integers(-(2**24), 2**24, 400).astype(np.float64), rng.integers(-40, 10, 400))
    b = np.ldexp(rng.integers(-(2**42), 2**42, 400).astype(np.float64), rng.integers(-60, 0, 400))
    a[:20], b[:20] = 1.0, np.ldexp(1.0, -np.arange(20) * 4)
    a[20:40], b[20:40] = -(2.0**23) - 0.5, np.ldexp(1.0, -np.arange(20) * 3)
    for direction in ("zero", "up", "down"):
        given = summations._add_directed(direction, a, b)
        for first, second, result in zip(a.tolist(), b.tolist(), given.tolist(), strict=True):
            assert result == rounded(Fraction(first) + Fraction(second), direction)


def rounded(exact: Fraction, direction: str) -> float:
    """Round a number to 24 significant bits in a direction, with integers."""
    if exact == 0:
        return 0.0
    size = abs(exact)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    while Fraction(2) ** exponent > size:
        exponent -= 1
    unit = Fraction(2) ** (exponent - 23)
    whole, left = divmod(size, unit)
    away = left and (direction == ("up" if exact > 0 else "down"))
    return float((whole + (1 if away else 0)) * unit) * (1 if exact > 0 else -1)
