"""Which elements, of which blocks of a row, count in a block's amax, by their sign, measured.

In a call one element of every block is large, and larger from block to block: a block's scale tells the last
block of which that element counts in its amax. Where they grow the other way it tells the first one. Blocks
in which the same elements count, of blocks as far off, are one effect.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.diagnosis.quantizers.effect import Effect, Given, quantized
from q8a8_conformance.reveal.quantizers.calls import BLOCK
from q8a8_conformance.reveal.quantizers.structure import even_row
from q8a8_conformance.reveal.quantizers.words import listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from q8a8_conformance.diagnosis.quantizers.cases import Case
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.reveal.quantizers.calls import QuantizerCalls

F32 = np.float32
LONGEST = 300
"""Blocks of the longest row in which it is measured."""

OTHER = 0.005
"""By what part a scale is another one at least, where other elements count."""

SMALL, LARGE, STEP, STEPS = 2.0**-8, 2.0**-4, 1.2, 16
"""Scales of elements that are not large, and of large ones: they grow by a step so many times."""

NONE, UNKNOWN = 99, 98
"""In the place of a distance: the element of no block counts, or that is not known."""

ALIKE = 3
"""Effects that are made of what was measured, those of most blocks."""

FIX = "Take max |x_j| over the block's own 32 elements, and over all of them."


def counted_in_blocks(calls: QuantizerCalls, made: Sequence[Case]) -> Iterator[Effect]:
    """Yield which elements count in the amax of some blocks, in rows with scales that are far off."""
    (case,) = made
    h = np.ascontiguousarray(case.got[:, :2]).view(np.float16)[:, 0].astype(np.float64)
    with np.errstate(all="ignore"):
        far = case.wrong[:, 0] & (np.abs(h * 127 / case.amax - 1) > OTHER) & (case.scales >= 1 << 10)
    lengths = sorted({n for where, n in case.rows if n <= LONGEST and far[where].any()})
    if not lengths:
        return
    every = np.concatenate(
        [_measured(calls, n) for n in dict.fromkeys((lengths[0], lengths[len(lengths) // 2]))]
    )
    patterns, counts = np.unique(every, axis=0, return_counts=True)
    for number in np.argsort(-counts, kind="stable")[: 1 + ALIKE]:
        pattern = patterns[number]
        # (What is so of every element is a matter of whole blocks.)
        if (pattern != UNKNOWN).all() and (pattern != pattern[..., :1]).any():
            yield counted_effect(pattern)


def _measured(calls: QuantizerCalls, n: int) -> Array:
    """Return for the blocks of a row how far off the first and the last block are whose element counts.

    int [n, 2, 2, 32]: of the blocks of the row, first and last, positive and negative, the elements.
    """
    found = np.full((n, 2, 2, BLOCK), NONE)
    base = even_row(n * BLOCK).reshape(n, BLOCK) * F32(SMALL)
    numbers = np.arange(n)
    small = calls(base).scales
    least = small.view(np.float16).astype(np.float64) * (LARGE / SMALL)
    for last, sign, j in np.ndindex(2, 2, BLOCK):
        steps = numbers % STEPS if last else STEPS - 1 - numbers % STEPS
        x = base.copy()
        x[:, j] = (1 - 2 * sign) * 127 * LARGE * STEP ** steps.astype(float)
        got = calls(x).scales
        with np.errstate(all="ignore"):
            at = np.log(got.view(np.float16).astype(np.float64) / least) / np.log(STEP)
        step = np.rint(np.nan_to_num(at, nan=-1, posinf=-1, neginf=-1)).astype(int)
        source = step if last else STEPS - 1 - step
        off = (source - numbers + STEPS // 2) % STEPS - STEPS // 2
        known = (np.abs(at - step) < 0.2) & (step >= 0) & (step < STEPS)
        found[:, last, sign, j] = np.where(got == small, NONE, np.where(known, off, UNKNOWN))
    return found


def counted_effect(pattern: Array) -> Effect:
    """Return the effect that elements count by a pattern, as int [2, 2, 32] that was measured of a block."""
    counted = pattern[0] == 0
    where = {
        name: np.flatnonzero(~of).tolist() for name, of in zip(("positive", "negative"), counted, strict=True)
    }
    others = [int(o) for o in np.unique(pattern) if o not in (0, NONE)]
    gives = partial(_of_counted, pattern=pattern)
    if not others:
        text = uncounted_sentence(counted).rstrip(".")
        return Effect("element-not-counted", where, text, "Q8A8-QNT-1", FIX, gives)
    data = {str(o): np.flatnonzero((pattern == o).any(axis=(0, 1))).tolist() for o in others}
    return Effect("amax-of", {"blocks": "elements", **data}, _text(pattern, others), "Q8A8-QNT-7", FIX, gives)


def _of_counted(case: Case, pattern: Array) -> Given:
    amax, outside = np.zeros(len(case.x), F32), np.zeros(len(case.x), np.bool_)
    for o in np.unique(pattern[pattern != NONE]).tolist():
        counts = (pattern == o).any(axis=0)
        part = np.abs(np.where(np.where(case.x < 0, counts[1], counts[0]), case.x, F32(0))).max(axis=1)
        moved = case.by_row(partial(_moved, by=int(o)), part.astype(F32))
        outside |= moved < 0
        amax = np.maximum(amax, moved)
    data, known = quantized(case, amax)
    return data, known & ~outside[:, np.newaxis]


def _moved(values: Array, by: int) -> Array:
    """Return the values [n] of the blocks further on; -1 where a row has none there."""
    at = np.arange(len(values)) + by
    return np.where((at >= 0) & (at < len(values)), values[np.clip(at, 0, len(values) - 1)], F32(-1))


def _text(pattern: Array, others: Sequence[int]) -> str:
    """Say which elements count, some of them of other blocks."""
    alike = (pattern[:, 0] == pattern[:, 1]).all()
    if alike and (pattern[0] == pattern[1]).all() and len(others) == 1 and not (pattern == NONE).any():
        lanes = np.flatnonzero(pattern[0, 0])
        s, side = lanes.size, "late" if others == [1] else "early"
        if lanes.tolist() == {1: [*range(s)], -1: [*range(BLOCK - s, BLOCK)]}.get(others[0]):
            return f"Amax is taken from elements that begin {s} element{'s' * (s > 1)} too {side}"
    parts = []
    for sign, name in ((0, ""),) if alike else ((0, "positive "), (1, "negative ")):
        own, lost = (pattern[:, sign] == 0).any(axis=0), (pattern[:, sign] == NONE).all(axis=0)
        for o in others:
            here = (pattern[:, sign] == o).any(axis=0)
            block = {-1: "the block before", 1: "the block after"}.get(o, f"the block {o:+d} from it")
            for of, words in (
                (here & ~own, f"of {block}, if there is one, and not of its own, {{}} in a block's amax"),
                (
                    here & own,
                    f"of {block}, if there is one, besides a block's own elements, {{}} in its amax",
                ),
            ):
                if of.any():
                    parts.append(
                        words.replace(
                            "{}", f"{_elements(of, name)} {'counts' if of.sum() == 1 else 'count'}", 1
                        )
                    )
        if lost.any():
            parts.append(
                f"{_elements(lost, name)} {'does' if lost.sum() == 1 else 'do'} not count in a block's amax"
            )
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}"


def _elements(of: Array, sign: str) -> str:
    return f"{sign}element{'s' * int(of.sum() > 1)} {listed(np.flatnonzero(of).tolist())}"


def uncounted_sentence(counted: Array) -> str:
    """Say which elements of a block do not count in amax: bool [2, 32], positive and negative ones."""
    both = np.flatnonzero(~counted.any(axis=0)).tolist()
    parts = [
        (sign, np.flatnonzero(some).tolist())
        for sign, some in (
            ("", ~counted.any(axis=0)),
            ("positive", ~counted[0] & counted[1]),
            ("negative", ~counted[1] & counted[0]),
        )
    ]
    texts = [
        f"element {listed(of)} of a block{f', where it is {sign},' if sign else ''}"
        if len(of) == 1
        else f"{sign}{' ' if sign else ''}elements {listed(of)} of a block"
        for sign, of in parts
        if of
    ]
    is_one = len(texts) == 1 and len(both or parts[1][1] or parts[2][1]) == 1
    text = " and ".join(texts)
    return f"{text[0].upper()}{text[1:]} {'does' if is_one else 'do'} not count in its amax."
