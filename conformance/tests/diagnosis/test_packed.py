"""Two of the four results share an integer: how the lower sum runs into the higher one is found."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8_conformance.diagnosis.dots import dot_facts
from q8a8_conformance.faults.kernel import DOT
from q8a8_conformance.inputs import calls, dot_rows

from .dot_calls import SECONDS, FourResults, failed, probe_of, scale

if TYPE_CHECKING:
    from q8a8_conformance.diagnosis.facts import Fact
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.results.observations import Failure


def _sums(x: Array, y: Array) -> Array:
    return np.asarray((x["weight_qs"].astype(np.int64) * y["weight_qs"]).sum(axis=-1))


def _packed(nrc: int, number: int, rows: list[Array], *, side: int, bits: int, is_signed: bool) -> float:
    """Return a result whose sums were in an integer with those of another one, by x (0) or y (1)."""
    own, other = list(rows), list(rows)
    if nrc == 2:
        (other[0], other[1]) = (rows[1], rows[0]) if side == 0 else (rows[0], rows[1])
        (other[2], other[3]) = (rows[3], rows[2]) if side == 1 else (rows[2], rows[3])
    x, y = own[number % 2], own[2 + number // 2]
    mine, its = _sums(x, y), _sums(other[number % 2], other[2 + number // 2])
    is_low = (number % 2 if side == 0 else number // 2) == 0
    if nrc == 2:
        low, high = (mine, its) if is_low else (its, mine)
        held = (high << bits) + low
        low = held & ((1 << bits) - 1)
        low = np.where(low >> (bits - 1), low - (1 << bits), low) if is_signed else low
        mine = low if is_low else (held - low if is_signed else held) >> bits
    return float((mine * (scale(x) * scale(y))).sum())


def _facts_about(kernel: FourResults) -> tuple[list[Fact], list[Failure]]:
    """Return the facts about rows of codes of many sizes, with sums as large as they can be among them."""
    rng, made = dot_rows.generator("packed"), []
    for number in range(40):
        size, nb = (5, 60, 120, 128)[number % 4], (1, 2, 3, 5)[number // 4 % 4]
        codes = np.clip(rng.integers(size // 2, size + 1, (4, nb, 32)), 0, 127)
        codes *= rng.choice([-1, 1], (4, nb, 1))
        rows = [dot_rows.blocks(np.ldexp(1.0, rng.integers(-3, 4, nb)), each) for each in codes]
        made.append(calls.dot_pair(np.stack(rows[:2]), np.stack(rows[2:]), bs=3))
    probe = probe_of(kernel)
    failures = failed(iter(made), probe)
    return dot_facts(DOT, {2: failures}, probe, SECONDS), failures


@pytest.mark.parametrize(("side", "bits", "is_signed"), [(0, 19, True), (1, 16, True), (0, 20, False)])
def test_a_lower_sum_that_does_not_fit(side: int, bits: int, is_signed: bool) -> None:
    """The bits of the lower sum are measured, and which results share an integer."""
    kernel = FourResults(partial(_packed, side=side, bits=bits, is_signed=is_signed))
    facts, failures = _facts_about(kernel)
    assert [(fact.fact, fact.rule, fact.nrc) for fact in facts] == [("sums-packed", "Q8A8-DOT-6", 2)]
    where = facts[0].where
    assert (where["packed"], where["bits"]) == ("xy"[side], bits)
    assert where["as"] == ("signed" if is_signed else "unsigned")
    assert len(facts[0].explained(failures)) == len(failures) > 0


def _without_borrow(nrc: int, number: int, rows: list[Array]) -> float:
    x, y = rows[number % 2], rows[2 + number // 2]
    sums = _sums(x, y)
    if nrc == 2 and number % 2:
        sums = sums - (_sums(rows[0], y) < 0)
    return float((sums * (scale(x) * scale(y))).sum())


def test_a_borrow_that_is_not_given_back() -> None:
    """A negative lower sum leaves the higher one too low by one."""
    facts, failures = _facts_about(FourResults(_without_borrow))
    assert [(fact.fact, fact.where["as"]) for fact in facts] == [("sums-packed", "borrow")]
    assert "where the first is negative, the second is 1 too low" in facts[0].sentence
    assert len(facts[0].explained(failures)) == len(failures) > 0
