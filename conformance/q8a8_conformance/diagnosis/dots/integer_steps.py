"""Steps of a dot product whose numbers are integers of one unit, in a model and in words."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.diagnosis.dots.candidates import WAYS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from q8a8_conformance.inputs.arrays import Array

NAMES = {
    "x": "x's scale", "y": "y's scale", "product": "the product of the scales",
    "of_x": "a block's sum times x's scale", "of_y": "a block's sum times y's scale",
    "term": "each block's term", "sum": "the sum of the terms",
}  # fmt: skip
"""Steps, in their order."""

WIDTHS = (8, 16, 32, 40, 48, 64)
"""Bits of integers that kernels have."""

FACTS = {"x": "scale-read", "y": "scale-read", "product": "scale-product", "sum": "result-changed"}
RULES = {"x": "Q8A8-HLF-3", "y": "Q8A8-HLF-3", "product": "Q8A8-DOT-2"}


@dataclass(frozen=True)
class Integer:
    """How a number is kept.

    Attributes
    ----------
    bits
        Bits behind the point; None for all.
    way
        A number of `WAYS`.
    power, overflow
        From 2^power on it is too large, and "wraps", "saturates" or becomes the "least"; "" for no limit.
    most
        What positive ones saturate at; 0 for the greatest of the integers.
    """

    bits: int | None = None
    way: int = 0
    power: int = 0
    overflow: str = ""
    most: float = 0.0

    def of(self, v: Array) -> Array:
        """Return float64 values as they are kept."""
        if self.bits is not None:
            v = np.asarray(WAYS[self.way][1](np.asarray(v, np.float64) * 2.0**self.bits) / 2.0**self.bits)
        return self.limited(v)

    def limited(self, v: Array) -> Array:
        """Return what becomes of values that are too large."""
        limit = 2.0**self.power
        kind = self.overflow.split(" ")[0]
        if kind == "wraps":
            return np.asarray(v - 2 * limit * np.floor(v / (2 * limit) + 0.5))
        if kind == "saturates":
            unit = 0.0 if self.bits is None else 2.0**-self.bits
            return np.asarray(np.clip(v, -limit, self.most or limit - unit))
        return np.asarray(np.where((v < limit) & (v >= -limit), v, -limit)) if kind else v

    def total(self, terms: Array) -> float:
        """Return the sum of terms, one after the other."""
        if self.overflow == "saturates":
            sums = 0.0
            for one in terms.tolist():
                sums = float(self.limited(np.asarray(sums + one)))
            return sums
        return float(self.of(np.asarray(sum(terms.tolist()))))


def changes_of(steps: Mapping[str, Integer]) -> dict[str, Any]:
    """Return the fields of a model in which some steps are kept so."""
    changes: dict[str, Any] = {}
    for side in "xy":
        if side in steps:
            changes[f"widen_{side}"] = partial(_widened, steps[side])
        if (of := steps.get(f"of_{side}")) is not None:
            changes["scaled_sum"] = partial(_scaled, of, side)
    if "product" in steps:
        changes["scale_product"] = lambda dx, dy, of=steps["product"]: of.of(dx * dy)
    if "term" in steps:
        changes["term"] = steps["term"].of
    if "sum" in steps:
        changes["total"] = steps["sum"].total
    return changes


def _widened(of: Integer, h: Array) -> Array:
    return of.of(np.asarray(h, np.float64))


def _scaled(of: Integer, side: str, sums: Array, dx: Array, dy: Array) -> Array:
    one, other = (dx, dy) if side == "x" else (dy, dx)
    return np.asarray(of.of(sums * one) * other)


def data_of(of: Integer) -> dict[str, Any]:
    """Return how numbers are kept, as JSON data."""
    unit = {} if of.bits is None else {"unit": -of.bits, "by": WAYS[of.way][0]}
    return unit | ({"limit": of.power, "overflow": of.overflow} if of.overflow else {})


VERBS = {"wraps": "wraps", "saturates": "saturates", "least": "becomes the least integer"}


def words_of(steps: Mapping[str, Integer]) -> Iterator[str]:
    """Yield what becomes of each step's numbers."""
    finest = 0
    for name, of in steps.items():
        said = []
        if of.bits is not None:
            finest = max(finest, of.bits)
            said.append(
                f"is {WAYS[of.way][0]} to {f'a multiple of 2^-{of.bits}' if of.bits else 'an integer'}"
            )
        if of.overflow:
            kind, *at_end = of.overflow.split(" ")
            width = of.power + 1 + finest
            integer = f", as an integer of {width} bits does" if finest and width in WIDTHS else ""
            # (Modulo twice a power, it and its negative are the same.)
            is_either = name != "sum" and of.power == steps.get("sum", of).power and kind == "saturates"
            verb = "is limited" if is_either and "sum" in steps else VERBS[kind]
            said.append(f"{verb} from 2^{of.power} on{' when it is stored' * bool(at_end)}{integer}")
        yield f"{NAMES[name]} {' and '.join(said)}"
