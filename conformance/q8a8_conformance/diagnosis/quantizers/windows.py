"""Blocks of a row that are quantized from other elements than their own 32.

A block begins some elements too early or too late: for its codes, or for its amax, too.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.diagnosis.quantizers.effect import Effect, Given, quantized
from q8a8_conformance.reveal.quantizers.calls import BLOCK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from q8a8_conformance.diagnosis.quantizers.cases import Case
    from q8a8_conformance.inputs.arrays import Array

F32 = np.float32

SHIFTS = (1, -1, 2, -2, 4, -4, 8, -8, 16, -16, 32, -32)

OWN = "Take each block's amax and codes from its own 32 elements."


def window_effects() -> Iterator[Effect]:
    """Yield blocks that are quantized from elements of their neighbours."""
    for s in SHIFTS:
        many = f"{abs(s)} element{'s' if abs(s) > 1 else ''} {'too late' if s > 0 else 'too early'}"
        for what, noun in (("codes", "Codes are those of a block that begins"),
                           ("block", "A block is quantized from elements that begin")):  # fmt: skip
            gives = partial(_windowed, s=s, what=what)
            where = {"of-block": "window", "offset": s, "what": what}
            yield Effect("value-of-block", where, f"{noun} {many}", "Q8A8-QNT-7", OWN, gives)


def _windowed(case: Case, s: int, what: str) -> Given:
    moved = np.zeros_like(case.x)
    inside: Array = np.zeros(case.x.shape, np.bool_)
    for where, n in case.rows:
        flat, at = case.x[where].reshape(-1), np.arange(n * BLOCK) + s
        held = (at >= 0) & (at < flat.size)
        moved[where] = np.where(held, flat[np.clip(at, 0, flat.size - 1)], 0).reshape(-1, BLOCK)
        inside[where] = held.reshape(-1, BLOCK)
    other = replace(case, x=moved, kept={})
    data, known = quantized(other, case.amax if what == "codes" else other.amax)
    known[:, 2:] &= inside
    return data, known & (inside.all(axis=1, keepdims=True) | (what == "codes"))
