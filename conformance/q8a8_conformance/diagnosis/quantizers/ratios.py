"""Numbers of which scales and codes are multiples of others than they should be, measured.

Of each block that is wrong the scale, or the codes, leave an interval for the number that amax is divided by,
or that elements are multiplied by over amax. The plainest number that most intervals share is an effect.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.diagnosis.quantizers.effect import LARGEST_CODE, Effect, Given, quantized, with_scales
from q8a8_conformance.diagnosis.quantizers.limits import plainest
from q8a8_conformance.diagnosis.quantizers.steps import STEP_FIXES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from q8a8_conformance.diagnosis.quantizers.cases import Case
    from q8a8_conformance.inputs.arrays import Array

F32 = np.float32

LEAST, SURE = 6, 0.15
"""Blocks whose intervals share a number, and the part of those that are wrong."""

MANY = 20_000
"""Codes that are looked at."""

CERTAIN = 40
"""Codes from which on a code tells something of a factor."""

LARGEST_HALF = np.float16(65504)

ROUNDED = 2.0**-24
"""By which part a float32 quotient differs from the exact one."""


def ratio_effects(made: Sequence[Case]) -> Iterator[Effect]:
    """Yield that amax is divided by another number than 127, and that elements are multiplied by another."""
    for low, high in _refined(made, _shared(*_divisors(made, are_wrong=True))):
        for number, words, factor in _written(low, high):
            text = f"The scale is amax {words}, not amax / 127"
            where = {"factor" if factor else "divisor": number}
            gives = partial(_divided, number=number, factor=factor)
            yield Effect("value-half", where, text, "Q8A8-QNT-2", STEP_FIXES["Q8A8-QNT-2"], gives)
    every = (_shared(*_factors(made, of_blocks=of_blocks)) for of_blocks in (True, False))
    for low, high in itertools.chain(*every):
        number, words = plainest(low, high)
        text = f"Elements are multiplied by {words} / amax, not by 127 / amax"
        where = {"multiplier": number}
        gives = partial(_multiplied, factor=number)
        yield Effect("factor", where, text, "Q8A8-QNT-3", STEP_FIXES["Q8A8-QNT-3"], gives)


def _written(low: float, high: float) -> Iterator[tuple[float, str, bool]]:
    """Yield numbers of an interval as a programmer writes them: to divide by, or to multiply with."""
    found = [(*plainest(low, high), False), (*plainest(1 / high, 1 / low), True)]
    for number, words, factor in sorted(found, key=lambda one: (len(one[1]), not one[2])):
        yield number, f"{'·' if factor else '/'} {words}", factor


def _divided(case: Case, number: float, *, factor: bool) -> Given:
    with np.errstate(all="ignore"):
        d = case.amax * F32(number) if factor else case.amax / F32(number)
        return with_scales(case, d.astype(np.float16).view(np.uint16))


def _multiplied(case: Case, factor: float) -> Given:
    recipe = replace(case.base, multiplier=factor, conversion="saturate")
    data, known = quantized(case, case.amax, recipe)
    # (What lies beyond 127 is a matter of the conversion.)
    known[:, 2:] &= np.abs(case.x) * F32(factor) < case.amax[:, np.newaxis] * F32(LARGEST_CODE + 0.5)
    return data, known


def _refined(made: Sequence[Case], found: Iterator[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Yield intervals, and before each what blocks whose scale is right leave of it."""
    for low, high in found:
        lows, highs = _divisors(made, are_wrong=False)
        least, most = max(low, lows.max(initial=0)), min(high, highs.min(initial=np.inf))
        if least < most:
            yield float(least), float(most)
        yield low, high


def _divisors(made: Sequence[Case], *, are_wrong: bool) -> tuple[Array, Array]:
    """Return intervals [k] in which amax over the scale lies, of blocks whose scales are wrong, or right."""
    lows, highs = [], []
    for case in made:
        h = np.ascontiguousarray(case.got[:, :2]).view(np.float16)[:, 0]
        some = (case.wrong[:, 0] == are_wrong) & (h > 0) & (h < LARGEST_HALF)
        amax, h = case.amax[some].astype(np.float64), h[some]
        below, above = (np.nextafter(h, np.float16(end)).astype(np.float64) for end in (0, np.inf))
        h = h.astype(np.float64)
        some = (below > 0) & (amax > 0)
        lows.append(2 * amax[some] / (h + above)[some] * (1 - ROUNDED))
        highs.append(2 * amax[some] / (h + below)[some] * (1 + ROUNDED))
    return np.concatenate(lows), np.concatenate(highs)


def _factors(made: Sequence[Case], *, of_blocks: bool) -> tuple[Array, Array]:
    """Return the intervals [k] in which code · amax / element lies, of wrong codes below right scales.

    Those of blocks are what all codes of a block, right ones too, have in common.
    """
    lows, highs = [np.zeros(0)], [np.zeros(0)]
    for case in made:
        got = case.got[:, 2:].view(np.int8).astype(np.float64)
        tells = ~case.wrong[:, :1] & (np.abs(got) >= CERTAIN) & (np.abs(got) < LARGEST_CODE)
        tells &= (case.amax > 0)[:, np.newaxis] & (case.x * got > 0)
        with np.errstate(all="ignore"):
            share = np.abs(case.x.astype(np.float64)) / case.amax.astype(np.float64)[:, np.newaxis]
            low = np.where(tells, (np.abs(got) - 0.5) / share * (1 - 4 * ROUNDED), 0)
            high = np.where(tells, (np.abs(got) + 0.5) / share * (1 + 4 * ROUNDED), np.inf)
        if of_blocks:
            some = case.wrong[:, 1:].any(axis=1)
            low, high = low.max(axis=1)[some], high.min(axis=1)[some]
            some = (low > 0) & (low <= high) & ~((low <= LARGEST_CODE) & (high >= LARGEST_CODE))
        else:
            some = case.wrong[:, 1:] & tells
        lows.append(low[some])
        highs.append(high[some])
    low, high = np.concatenate(lows), np.concatenate(highs)
    step = max(len(low) // MANY, 1)
    return low[::step], high[::step]


def _shared(lows: Array, highs: Array) -> Iterator[tuple[float, float]]:
    """Yield what most intervals have in common, where many do and 127 is not in it."""
    if not lows.size:
        return
    ends = np.concatenate([lows, highs])
    steps = np.concatenate([np.ones(lows.size), -np.ones(highs.size)])
    order = np.lexsort((-steps, ends))
    depth = np.cumsum(steps[order])
    best = int(np.argmax(depth))
    low, high = (float(end) for end in ends[order][best : best + 2])
    is_shared = depth[best] >= max(LEAST, SURE * lows.size)
    if is_shared and 0 < low < high < np.inf and not low <= LARGEST_CODE <= high:
        yield low, high
