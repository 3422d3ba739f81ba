"""The factor of a quantizer's elements, measured where no step that has a name gives its codes.

A code changes where the product of an element and the factor crosses a tie, whatever the factor was computed
with. For values of amax of many sizes the element at which the code becomes 64 is looked for, a few hundred
at a time: the factor is a tie over it. In how far it differs from 127 / amax is the fact: everywhere by the
same part, by a number that was added to amax, or by the errors of an estimate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8.recipe import RECIPES, apply_recipe
from q8a8_conformance.diagnosis.facts import Fact, remembered
from q8a8_conformance.diagnosis.quantizers.evidence import shortest
from q8a8_conformance.reveal.asking import NoAnswerError
from q8a8_conformance.reveal.quantizers.arithmetic import factors_of
from q8a8_conformance.reveal.quantizers.calls import BLOCK, elements_of, written

if TYPE_CHECKING:
    from collections.abc import Sequence

    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.results.observations import CallResult, Failure
    from q8a8_conformance.reveal.quantizers.calls import QuantizerCalls

F32, F64 = np.float32, np.float64
DESIGN = RECIPES["design"]

CODE, OTHER = 64, 21
"""The code whose first element is looked for, with halves rounded to the nearest it begins at 63.5; and
another one, for which the factor must be the same."""

ROUNDS, ELEMENTS = 3, 8 * (BLOCK - 1)
"""Calls for a value of amax, and elements of each: every call narrows the factor down so many times."""

WIDEST = 0.4
"""The part of 127 / amax by which a factor is looked for on either side."""

PRECISION = 3e-7
"""What a division, a product and float32 elements leave open of a factor, as a part of it."""

SIZES = np.ldexp(1 + np.arange(12) / 12.5, np.array([[-17], [-12], [-5], [0], [8]])).astype(F32)
"""Values of amax, float32 [sizes, mantissas]."""

SURE = 0.99
"""The part of that beyond which a factor is not known."""

SHOWN = 0.5
"""The part of the failed calls that the measured factor must explain."""


@dataclass(frozen=True)
class Factor:
    """By how much factors differ from 127 / amax, as a part of it: from `low` to `high`, for an `amax` of 1.

    `added` is a number added to amax, of which both follow; else 0.
    """

    low: float
    high: float
    added: float = 0.0

    def bounds(self, amax: Array) -> tuple[Array, Array]:
        """Return the least and the greatest factor for values of amax, float64 [n]."""
        right = 127 / amax.astype(F64)
        if self.added:
            right = 127 / (amax.astype(F64) + self.added)
            return right * (1 - PRECISION), right * (1 + PRECISION)
        apart = PRECISION + (self.high - self.low) / 2
        return right * (1 + self.low - apart), right * (1 + self.high + apart)

    @property
    def sentence(self) -> str:
        """What the quantizer multiplies by."""
        if self.added:
            return f"Elements are multiplied by 127 / (amax + {self.added:.3g}), not by 127 / amax."
        if self.high - self.low < 2 * PRECISION:
            factor = 127 * (1 + (self.low + self.high) / 2)
            return f"Elements are multiplied by {factor:.7g} / amax, not by 127 / amax."
        return (
            f"The inverse is no division's: it differs from 127 / amax by {self.low:+.2g} to "
            f"{self.high:+.2g} of it, depending on amax, as an estimate does."
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {"low": self.low, "high": self.high, **({"added": self.added} if self.added else {})}


def inverse_facts(calls: QuantizerCalls, failed: Sequence[Failure]) -> list[Fact]:
    """Return that elements are multiplied by another factor, if that explains most failed calls."""
    try:
        errors = np.array([[_error(calls, amax, CODE) for amax in size] for size in SIZES])
        others = np.array([_error(calls, amax, OTHER) for amax in SIZES[-1]])
    except NoAnswerError:
        return []
    # (What is no factor's is another part of the product at another code.)
    alike = np.isclose(errors[-1], others, rtol=0.02, atol=2 * PRECISION)
    factor = _factor(errors) if alike.mean() > SHOWN else None
    if factor is None:
        return []

    explains = remembered(lambda of: of.call.function == calls.function and _gives(factor, of))
    if sum(map(explains, failed)) <= SHOWN * len(failed):
        return []
    fix = "Compute f32(127 / amax) with one division, and add nothing to amax."
    named = ("factor", factor.to_json(), "Q8A8-QNT-3", factor.sentence, fix, "")
    evidence = shortest(explains, failed)
    return [Fact(*named, function=calls.function, evidence=evidence, explains=explains)]


def _error(calls: QuantizerCalls, amax: Array, code: int) -> float:
    """Return by which part of 127 / amax the factor for an amax differs; NaN where codes follow no factor."""
    right = 127 / float(amax)
    low, high = right * (1 - WIDEST), right * (1 + WIDEST)
    for _ in range(ROUNDS):
        tried = np.linspace(low, high, ELEMENTS + 2)[1:-1]
        x = np.full((8, BLOCK), amax, F32)
        x[:, 1:] = ((code - 0.5) / tried).reshape(8, -1)
        codes = calls(x).codes.reshape(8, BLOCK)[:, 1:].reshape(-1)
        reached = codes >= code
        # A greater factor would reach the code from a smaller element: those that reach it come first.
        count = int(reached.sum())
        if not reached[:count].all():
            return float("nan")
        if count:
            low = float(tried[count - 1])
        if count < ELEMENTS:
            high = float(tried[count])
    return (low + high) / 2 / right - 1


def _factor(errors: Array) -> Factor | None:
    """Return what errors [sizes, mantissas] of factors show; None where there is none, or no factor."""
    largest = np.abs(errors).max()
    if not PRECISION <= largest < WIDEST * SURE:
        return None
    amax = SIZES.astype(F64)
    added = amax / (1 + errors) - amax
    least = float(np.median(added[0]))
    if least and np.allclose(127 / (amax + least) / (127 / amax) - 1, errors, rtol=0.02, atol=PRECISION):
        return Factor(float(errors.min()), float(errors.max()), least)
    return Factor(float(errors.min()), float(errors.max()))


def _gives(factor: Factor, result: CallResult) -> bool:
    """Return whether every block of a call has the right scale, and codes by one factor within the bounds."""
    call = result.call
    x = elements_of(call)[: call.n]
    got = written(call.function, call.n, result.outputs)
    if not x.size or not np.isfinite(x).all():
        return False
    x = x.reshape(len(got.data), -1)
    amax = np.abs(x).max(axis=1)
    h, codes, _ = apply_recipe(x, DESIGN, amax)
    also = apply_recipe(x, DESIGN, amax + F32(factor.added))[0]
    if ((h.view(np.uint16) != got.scales) & (also.view(np.uint16) != got.scales)).any():
        return False
    some = (codes != got.codes).any(axis=1)
    least, greatest = factors_of(x[some], got.codes[some])
    low, high = factor.bounds(amax[some])
    return bool(
        (np.sign(got.codes[some]) * np.sign(x[some]) >= 0).all()
        and (np.maximum(low, least * (1 - PRECISION)) <= np.minimum(high, greatest * (1 + PRECISION))).all()
    )
