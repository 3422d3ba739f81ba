"""An inverse that is a few units in the last place off: for which amax, by how much, and in which blocks.

Where the inverse is the float above f32(127 / amax), some product becomes a tie, and its code another one.
The elements of a block tell one such step from the next each: so one call shows the inverses of all its
blocks, whatever they were computed with. Those that are farther off than a few units are measured in greater
steps.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.diagnosis.facts import Fact, remembered
from q8a8_conformance.diagnosis.quantizers.cases import case_of
from q8a8_conformance.diagnosis.quantizers.evidence import shortest
from q8a8_conformance.diagnosis.quantizers.steps import STEP_FIXES
from q8a8_conformance.inputs.calls import ACTIVATION
from q8a8_conformance.reveal.asking import NoAnswerError
from q8a8_conformance.reveal.places import Seen, find_rule
from q8a8_conformance.reveal.quantizers.arithmetic import factors_of
from q8a8_conformance.reveal.quantizers.calls import BLOCK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from q8a8_conformance.diagnosis.quantizers.cases import Case
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.results.observations import CallResult, Failure
    from q8a8_conformance.reveal.places import Rule
    from q8a8_conformance.reveal.quantizers.calls import QuantizerCalls

F32 = np.float32
FARTHEST = 12
"""Units in the last place by which an inverse may be off."""

UNITS = np.arange(-FARTHEST, FARTHEST + 1)
STEPS = (1, 1 << 4, 1 << 8, 1 << 12, 1 << 15)
"""Units in the last place of which steps have so many, from fine to coarse."""

BEYOND = 0.1
"""The part of the wrong inverses that may be farther off than steps reach."""

PRECISION, LARGEST = 3e-7, float(np.finfo(F32).max)
"""What float32 numbers leave open of an inverse, as a part of it; and the largest of them."""

TIES = np.arange(20, 127) + F32(0.5)
HALF = 0.5

ROWS = (31, 23, 17, 15, 13, 11, 7, 5, 3, 2, 1)
"""Blocks of the rows in which values of amax are tried: with and without tails."""

LENGTHS = (*range(1, 18), 23, 24, 31, 32, 33, 40, 65)
"""Blocks of the rows, or elements of the vectors, in which the places are looked for."""

LONGEST = 300
SURE = 0.9
"""The part of the wrong blocks that an inverse so near must give."""

RULE = "Q8A8-QNT-3"


def ulp_facts(calls: QuantizerCalls, failed: Sequence[Failure]) -> list[Fact]:
    """Return that inverses are a few units in the last place off, and where, if failed calls show it."""
    if not _may_be(failed):
        return []
    try:
        amax = _amaxes()
        rows = np.split(amax, np.cumsum(ROWS)[:-1] if calls.is_row else range(1, amax.size))
        off, beyond = _units_off(calls, rows)
        wrong = amax[(off != 0) & ~beyond]
        if not wrong.size or beyond.sum() > BEYOND * (off != 0).sum():
            return []
        # (What is no inverse's is another part of the product at other codes.)
        if calls.is_row and not _is_alike(off, beyond, *_units_off(calls, rows, of_code=-1)):
            return []

        ask = partial(_where_off, calls, wrong, off[(off != 0) & ~beyond])
        made = {n: ask(n) for n in LENGTHS}
        seen = Seen({n: hit for n, (hit, _) in made.items()}, {n: known for n, (_, known) in made.items()})
        rule = find_rule(seen, ask, LONGEST)
    except NoAnswerError:
        return []
    if rule is None:
        return [] if calls.is_row else _facts(calls, failed, None, off[~beyond])
    held = np.concatenate([rule.holds(n) for n in ROWS]) if calls.is_row else ~beyond
    return _facts(calls, failed, rule, off[held & ~beyond])


def _where_off(calls: QuantizerCalls, wrong: Array, off: Array, n: int) -> tuple[Array, Array]:
    """Return which of n blocks, or elements, have another inverse, and of which that is known: bool [n]."""
    if calls.is_row:
        return _steps_off(calls, np.resize(wrong, n), 1) != 0, np.ones(n, np.bool_)
    found = zip(wrong.tolist(), off.tolist(), strict=True)
    told = ((amax, _telling(amax, 1)[FARTHEST - (units < 0)]) for amax, units in found)
    amax, element = next(((amax, x) for amax, x in told if x), (1.0, F32(0)))
    # (The element that is amax tells nothing: it is another one in the second call.)
    x = np.full((2, n), element, F32)
    x[[0, 1], [0, -1]] = amax
    codes, last = (calls(of).codes[0].astype(np.int64) for of in x)
    codes[0] = last[0]
    right = _rounded(np.asarray(element * (F32(127) / F32(amax))))
    known = np.full(n, n > 1)
    return (codes != right) & known, known


def _facts(calls: QuantizerCalls, failed: Sequence[Failure], rule: Rule | None, off: Array) -> list[Fact]:
    low, high = int(off.min()), int(off.max())
    slack = 1 + (high - low) // 2
    gives = partial(_explains, function=calls.function, rule=rule, low=low - slack, high=high + slack)
    explains = remembered(gives)
    evidence = shortest(explains, failed)
    if not evidence:
        return []
    rule = None if rule and rule.is_any and not rule.length else rule
    nouns = ("element", "size") if calls.function == ACTIVATION else ("block", "nb")
    place = f", in {rule.text(*nouns)}" if rule else ""
    units = f"{low:+d}" if low == high else f"{low:+d} to {high:+d}"
    sentence = (
        f"The inverse is not f32(127 / amax): of {off.size} values of amax {int((off != 0).sum())} have "
        f"another one, {units} units in the last place off, as an estimate gives{place}."
    )
    where = {"units": {"least": low, "greatest": high}, **(rule.to_json() if rule else {})}
    fact = "place-factor" if place else "factor"
    named = (fact, where, RULE, sentence, STEP_FIXES[RULE], "")
    return [Fact(*named, function=calls.function, evidence=evidence, explains=explains)]


# What the calls show.


@lru_cache(maxsize=1)
def _amaxes() -> Array:
    """Return values of amax of many fractions, float32 [128]."""
    n = sum(ROWS)
    rng = np.random.default_rng(127)
    fractions = 1 + (np.arange(n) + rng.random(n)) / (n)
    amax: Array = np.ldexp(fractions, rng.integers(-12, 9, n)).astype(F32)
    return rng.permutation(amax)


def _inverses(amax: Array, units: Array) -> Array:
    """Return f32(127 / amax) and the floats so many units beside it: float32 [n, units]."""
    bits = (F32(127) / amax).view(np.int32)[:, np.newaxis] + units
    return np.asarray(bits.astype(np.int32).view(F32))


@lru_cache(maxsize=256)
def _telling(amax: float, step: int, of_code: int = 0) -> Array:
    """Return elements [2 FARTHEST] whose code is another one between a float and the next as inverses.

    `of_code` is 0 for the smallest elements that there are, -1 for the largest ones.
    """
    inverses = _inverses(np.array([amax], F32), UNITS * step)[0]
    ties, numbers = np.meshgrid(TIES, inverses, indexing="ij")
    near = (ties / numbers).astype(F32).view(np.int32)[..., np.newaxis] + np.arange(-1, 2)
    x = np.unique(near.astype(np.int32).view(F32))
    codes = _rounded(x[:, np.newaxis] * inverses)
    steps = np.diff(codes, axis=1) != 0
    alone = steps.sum(axis=1) == 1
    found = [x[alone & steps[:, k]] for k in range(2 * FARTHEST)]
    return np.array([of[of_code] if of.size else 0 for of in found], F32)


def _rounded(v: Array) -> Array:
    return np.asarray(np.trunc(v + np.copysign(HALF, v.astype(np.float64))).astype(np.int64))


def _is_alike(off: Array, beyond: Array, other: Array, other_beyond: Array) -> bool:
    """Return whether inverses are off by about the same at other elements, for most values of amax."""
    seen = ~beyond & ~other_beyond
    steps = np.array(STEPS)[np.searchsorted(FARTHEST * np.array(STEPS[:-1]), np.abs(off), side="right")]
    same = np.abs(off - other) <= np.where(steps > 1, steps, 0)
    return bool(same[seen].mean() >= SURE) if seen.any() else False


def _units_off(calls: QuantizerCalls, rows: Sequence[Array], of_code: int = 0) -> tuple[Array, Array]:
    """Return by how many units inverses are off, in the finest steps that reach each, and which none do."""
    found = [np.zeros(row.size, np.int64) for row in rows]
    open_ = [np.ones(row.size, np.bool_) for row in rows]
    for step in STEPS:
        for row, off, left in zip(rows, found, open_, strict=True):
            if left.any():
                steps = _steps_off(calls, row, step, of_code)
                off[left] = steps[left] * step
                left[left] = steps[left] == FARTHEST + 1
    return np.concatenate(found), np.concatenate(open_)


def _steps_off(calls: QuantizerCalls, amax: Array, step: int, of_code: int = 0) -> Array:
    """Return by how many steps each block's inverse is off, int [n]; FARTHEST + 1 where that is not seen."""
    x = np.zeros((len(amax), BLOCK), F32)
    x[:, 0] = amax
    for block, value in zip(x, amax.tolist(), strict=True):
        block[1 : 1 + 2 * FARTHEST] = _telling(value, step, of_code)
    got = calls(x).codes.astype(np.int64)
    # (An element of 0 tells nothing: its step is missing.)
    codes = _rounded(x[:, :, np.newaxis] * _inverses(amax, UNITS * step)[:, np.newaxis, :])
    same = (codes == got[:, :, np.newaxis]).all(axis=1)
    nearest = np.argmax(np.where(same, 2 * FARTHEST - np.abs(UNITS), 0), axis=1)
    # (What is farther off looks like the last step.)
    is_seen = same.any(axis=1) & (np.abs(UNITS[nearest]) < FARTHEST)
    return np.where(is_seen, UNITS[nearest], FARTHEST + 1)


# What is explained.


def _fitting(case: Case, low: int, high: int, blocks: Array) -> Array:
    """Return which of some blocks have codes of an inverse from low to high units off: bool [k]."""
    amax = case.amax[blocks].astype(np.float64)
    least, greatest = factors_of(case.x[blocks], case.got[blocks, 2:].view(np.int8))
    with np.errstate(divide="ignore", invalid="ignore"):
        right = np.where(amax > 0, 127 / amax, 0)
        unit = np.spacing(np.minimum(right, LARGEST).astype(F32)).astype(np.float64)
    lowest, highest = right + low * unit, right + high * unit
    some = np.maximum(lowest, least * (1 - PRECISION)) <= np.minimum(highest, greatest * (1 + PRECISION))
    signs = np.sign(case.got[blocks, 2:].view(np.int8)) * np.sign(case.x[blocks]) >= 0
    return np.asarray(some & signs.all(axis=1) & ~case.wrong[blocks, 0])


def _may_be(failed: Sequence[Failure]) -> bool:
    """Return whether most wrong blocks have the codes of an inverse near the right one."""
    seen = fits = 0
    farthest = FARTHEST * STEPS[-1]
    for one in failed[:: max(len(failed) // 12, 1)]:
        case = case_of(one)
        if np.isfinite(case.x).all():
            blocks = np.flatnonzero(case.wrong.any(axis=1))[:BLOCK]
            seen += blocks.size
            fits += int(_fitting(case, -farthest, farthest, blocks).sum())
    return fits >= SURE * max(seen, 1)


def _explains(result: CallResult, function: str, rule: Rule | None, low: int, high: int) -> bool:
    if result.call.function != function or not result.call.n:
        return False
    case = case_of(result)
    if not np.isfinite(case.x).all():
        return False
    blocks = np.flatnonzero(case.wrong.any(axis=1))
    wrong = blocks if case.is_row else np.flatnonzero(case.wrong[0, 1:])
    is_there = rule is None or rule.holds(case.size)[wrong].all()
    return bool(is_there and _fitting(case, low, high, blocks).all())
