"""What may be so of the values of a quantizer's blocks, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.diagnosis.quantizers.states import Condition

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8_conformance.diagnosis.quantizers.cases import Case
    from q8a8_conformance.inputs.arrays import Array

F32 = np.float32


def of_blocks(of: Callable[[Case], Array]) -> Callable[[Case], Array]:
    """Return a condition on elements from one on blocks, bool [n]."""
    return lambda case: np.broadcast_to(of(case)[:, np.newaxis], case.x.shape)


def largest(case: Case) -> Array:
    """Return where the largest magnitude is: bool [n, s]."""
    return np.asarray(np.abs(case.x) == np.abs(case.x).max(axis=1, initial=F32(0), keepdims=True))


def largest_at(case: Case) -> Array:
    """Return at which element the largest magnitude is first: int [n]."""
    return np.asarray(np.argmax(largest(case), axis=1))


def _largest_is_negative(case: Case) -> Array:
    return np.asarray(case.x[np.arange(len(case.x)), largest_at(case)] < 0)


NAMED = tuple(
    Condition(text, {"values": name}, of_blocks(of))
    for name, text, of in (
        ("zero-scale", "where the scale is 0", lambda case: case.scales == 0),
        ("zero", "in a block of zeros alone", lambda case: case.amax == 0),
        ("tiny", "where the scale is 0 and amax is not", lambda case: (case.scales == 0) & (case.amax > 0)),
        ("small-scale", "where the scale is subnormal or 0", lambda case: case.scales < 0x400),
        (
            "subnormal-scale", "where the scale is subnormal",
            lambda case: (case.scales > 0) & (case.scales < 0x400),
        ),
        ("normal-scale", "where the scale is a normal half", lambda case: case.scales >= 0x400),
        ("not-zero-scale", "where the scale is not 0", lambda case: case.scales > 0),
        ("negative-largest", "where the largest element is negative", _largest_is_negative),
        ("positive-largest", "where the largest element is positive", lambda c: ~_largest_is_negative(c)),
        (
            "largest-again", "where the largest magnitude comes more than once",
            lambda case: largest(case).sum(axis=1) > 1,
        ),
        (
            "largest-once", "where the largest magnitude comes once",
            lambda case: largest(case).sum(axis=1) == 1,
        ),
        (
            "both-signs", "where the largest magnitude comes with both signs",
            lambda case: (case.x.max(axis=1) == case.amax) & (case.x.min(axis=1) == -case.amax),
        ),
        ("none-negative", "where no element is negative", lambda case: ~(case.x < 0).any(axis=1)),
        ("none-positive", "where no element is positive", lambda case: ~(case.x > 0).any(axis=1)),
        (
            "first-negative", "where the first element is negative",
            lambda case: (case.x[:, :1] < 0).any(axis=1),
        ),
        (
            "power-of-two", "where amax is a power of two",
            lambda case: (case.amax > 0) & (case.amax.view(np.uint32) & 0x7FFFFF == 0),
        ),
        ("odd-scale", "where the lowest bit of the scale is set", lambda case: case.scales & 1 == 1),
    )
)  # fmt: skip
"""Conditions on the values of a block."""
