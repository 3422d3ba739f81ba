"""Blocks of a row that are quantized from other elements than their own 32.

windows
    A block begins some elements too early or too late: for amax, for its codes, or for both.
parts
    Some lanes of the block before take part in amax, beside the block's own ones or in their place.
crossed
    Codes of a pair of blocks stand in each other's block: which, is measured.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from q8a8_conformance.diagnosis.quantizers.effect import LARGEST_CODE, Effect, Given, quantized
from q8a8_conformance.reveal.quantizers.calls import BLOCK
from q8a8_conformance.reveal.quantizers.words import ranges, runs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from q8a8_conformance.diagnosis.quantizers.cases import Case

Array = NDArray[Any]

F32 = np.float32

SHIFTS = (1, -1, 2, -2, 4, -4, 8, -8, 16, -16)
LANES = np.arange(BLOCK)

PARTS: tuple[tuple[str, Array], ...] = tuple(
    (f"elements {ranges(lanes)}", np.isin(LANES, lanes))
    for lanes in (
        range(16), range(16, 32), *(range(8 * k, 8 * k + 8) for k in range(4)), range(0, 32, 8),
        range(7, 32, 8),
    )
)  # fmt: skip
"""Lanes of vector registers, in words: bool [32]."""

LEAST = 8
"""Wrong blocks that tell where codes come from."""

SURE = 0.3
"""The part of them in which they must."""

OWN = "Take each block's amax and codes from its own 32 elements."


def window_effects() -> Iterator[Effect]:
    """Yield blocks that are quantized from elements of their neighbours."""
    for s in SHIFTS:
        many = f"{abs(s)} element{'s' if abs(s) > 1 else ''} {'too late' if s > 0 else 'too early'}"
        for part, noun in (("amax", "Amax is taken"), ("codes", "Codes are those of a block that begins"),
                           ("", "A block is quantized from elements that begin")):  # fmt: skip
            text = f"{noun} from elements that begin {many}" if part == "amax" else f"{noun} {many}"
            gives = partial(_windowed, s=s, part=part)
            where = {"of-block": "window", "offset": s, "what": part or "block"}
            yield Effect("value-of-block", where, text, "Q8A8-QNT-7", OWN, gives)
    for name, lanes in PARTS:
        for how, text in (
            ("instead", f"Of the block before, not of its own, {name} count in a block's amax"),
            ("beside", f"Besides a block's own elements, {name} of the block before count in its amax"),
        ):
            gives = partial(_with_part_before, lanes=lanes, how=how)
            where = {"blocks": "part-before", "elements": np.flatnonzero(lanes).tolist(), "how": how}
            yield Effect("amax-of", where, text, "Q8A8-QNT-7", OWN, gives)


def _windowed(case: Case, s: int, part: str) -> Given:
    moved = np.zeros_like(case.x)
    inside: Array = np.zeros(case.x.shape, np.bool_)
    for where, n in case.rows:
        flat, at = case.x[where].reshape(-1), np.arange(n * BLOCK) + s
        held = (at >= 0) & (at < flat.size)
        moved[where] = np.where(held, flat[np.clip(at, 0, flat.size - 1)], 0).reshape(-1, BLOCK)
        inside[where] = held.reshape(-1, BLOCK)
    whole: Array = np.asarray(inside.all(axis=1))
    amax = np.abs(moved).max(axis=1)
    if part == "amax":
        data, known = quantized(case, np.asarray(amax, F32))
        return data, known & whole[:, np.newaxis]
    other = type(case)(moved, case.before, case.got, case.is_row, case.base, case.lengths)
    data, known = quantized(other, case.amax if part else other.amax)
    known[:, 2:] &= inside
    if not part:
        known &= whole[:, np.newaxis]
    return data, known


def _with_part_before(case: Case, lanes: Array, how: str) -> Given:
    part = np.abs(case.x[:, lanes]).max(axis=1)
    before = case.by_row(lambda values: np.concatenate([values[:0], [F32(-1)], values[:-1]]), part)
    rest = np.abs(case.x[:, ~lanes] if how == "instead" else case.x).max(axis=1)
    return quantized(case, np.where(before < 0, case.amax, np.maximum(rest, before)).astype(F32))


# Codes of pairs.


def crossed_effects(made: Sequence[Case]) -> Iterator[Effect]:
    """Yield codes that stand in the neighbour's block, as measured in even blocks, and in odd ones."""
    (case,) = made
    number = np.concatenate([np.arange(n) for _, n in case.rows])
    left = np.concatenate([np.arange(n)[::-1] for _, n in case.rows])
    wrong = case.wrong[:, 1:].any(axis=1) & (np.ptp(case.codes, axis=1) > LARGEST_CODE)
    for offset, inside in ((1, left > 0), (-1, number > 0)):
        blocks = np.flatnonzero(wrong & inside & (number % 2 == (offset < 0)))
        if blocks.size < LEAST:
            continue
        got, own, other = case.got[blocks, 2:], case.right[blocks, 2:], case.right[blocks + offset, 2:]
        source = np.arange(BLOCK)
        for j in range(BLOCK):
            every = np.concatenate([own, other], axis=1)
            counts = (got[:, j, np.newaxis] == every).sum(axis=0).tolist()
            count, _, k = max((count, k == j, k) for k, count in enumerate(counts))
            source[j] = k if count >= max(LEAST, SURE * blocks.size) else j
        if (source >= BLOCK).any():
            gives = partial(_crossed, source=source, offset=offset)
            where = {"of-block": "crossed", "offset": offset, "codes": source.tolist()}
            yield Effect("value-of-block", where, _crossed_text(source, offset), "Q8A8-LAY-2", OWN, gives)


def _crossed(case: Case, source: Array, offset: int) -> Given:
    data = case.right.copy()
    known = np.ones(data.shape, np.bool_)
    for where, _ in case.rows:
        right = case.right[where, 2:]
        other = np.roll(right, -offset, axis=0)
        data[where, 2:] = np.concatenate([right, other], axis=1)[:, source]
        known[where.stop - 1 if offset > 0 else where.start, 2:] = False
    return data, known


def _crossed_text(source: Array, offset: int) -> str:
    name = "after" if offset > 0 else "before"
    texts = []
    for places in _runs(source):
        first, last = int(source[places[0]]), int(source[places[-1]])
        of = f" of the block {name}" if first >= BLOCK else ""
        numbers = ranges([places[0], *range(places[0] + 1, places[-1] + 1)])
        from_ = ranges(list(range(first % BLOCK, last % BLOCK + 1)))
        texts.append(f"at codes {numbers} stand codes {from_}{of}")
    text = "; ".join(texts)
    return f"{text[0].upper()}{text[1:]}"


def _runs(source: Array) -> Iterator[list[int]]:
    """Yield places that do not hold their own code, those together whose codes follow each other."""
    moved = np.flatnonzero(source != np.arange(source.size)).tolist()
    for run in runs(moved):
        start = 0
        for i in range(1, len(run) + 1):
            if i == len(run) or source[run[i]] != source[run[i - 1]] + 1 or source[run[i]] == BLOCK:
                yield list(run[start:i])
                start = i
