"""Blocks of a row that are quantized from other elements than their own 32.

windows
    A block begins some elements too early or too late: for amax, for its codes, or for both.
parts
    Some lanes of the block before take part in amax, beside the block's own ones or in their place.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.diagnosis.quantizers.effect import Effect, Given, quantized
from q8a8_conformance.reveal.quantizers.calls import BLOCK
from q8a8_conformance.reveal.quantizers.words import ranges

if TYPE_CHECKING:
    from collections.abc import Iterator

    from q8a8_conformance.diagnosis.quantizers.cases import Case
    from q8a8_conformance.inputs.arrays import Array

F32 = np.float32

SHIFTS = (1, -1, 2, -2, 4, -4, 8, -8, 16, -16, 32, -32)
LANES = np.arange(BLOCK)

PARTS: tuple[tuple[str, Array], ...] = tuple(
    (f"elements {ranges(lanes)}", np.isin(LANES, lanes))
    for lanes in (
        range(16), range(16, 32), *(range(8 * k, 8 * k + 8) for k in range(4)), range(0, 32, 8),
        range(7, 32, 8),
    )
)  # fmt: skip
"""Lanes of vector registers, in words: bool [32]."""

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
