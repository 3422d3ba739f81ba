"""The exact sums that a dot product would have if one step of it were wrong: hypotheses about a wrong result.

A hypothesis changes how blocks, scales, their product or the integer sums are read; the changes are those of
`q8a8_conformance.faults`. Its sum, taken without rounding, either is the kernel's result (exactly on inputs
that are exact by construction, within a part of the bound of Q8A8-ORD-2 elsewhere) or is not. A change that
leaves the right sum as it is explains nothing.

Sums are integers in units of 2^-48, the least product of two halves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from q8a8 import layout
from q8a8.bound import LANE_FOLD_ROUNDINGS
from q8a8_conformance.faults import steps
from q8a8_conformance.faults.catalogue import MUTANTS
from q8a8_conformance.faults.layout import swapped_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from q8a8_conformance.faults.kernel import Step

Array = NDArray[Any]

UNIT_EXPONENT: Final = 48
UNIT: Final = 1 << UNIT_EXPONENT
U: Final = Fraction(1, 1 << 24)
SHARE: Final = 8
"""The bound is for the worst data and order; kernels use less of it than one part in this many."""

SIGNS: Final = "Q8A8-DOT-8"
_V2 = "Q8A8-LAY-3"


def _of(step: str, *slugs: str) -> tuple[tuple[str, Step], ...]:
    """Return the rule of each mutant, and what it puts in place of a step."""
    return tuple((MUTANTS[slug].rule, MUTANTS[slug].changes[step]) for slug in slugs)


def _forms(slug: str) -> tuple[tuple[str, Step], ...]:
    """Return the rule of a mutant with each form of its multiplication."""
    return tuple((MUTANTS[slug].rule, form["products"]) for form in MUTANTS[slug].forms.values())


READINGS: Final[tuple[tuple[str, Callable[[Array], Array]], ...]] = _of(
    "widen",
    "half-flushed-on-read",
    "half-subnormals-misread",
    "half-bit-lost",
    "half-read-as-bfloat16",
    "half-infinite-on-read",
    "negative-scales-clamped",
)
"""Wrong values of a scale, with the rule that each breaks."""

PRODUCTS: Final = _of(
    "scale_product",
    "fp16-scale-product",
    "bf16-scale-product",
    "scale-product-underflows",
    "scale-product-capped",
    "negative-scales-lost",
    "zero-scale-ends-row",
)
"""Wrong products of the scales: rounded, capped, without signs, none from the first zero on."""

MULTIPLICATIONS: Final = (
    *_forms("minus-128-sign"),
    *_forms("minus-128-clamped"),
    *_of("products", "minus-128-clamped", "pairs-saturate", "pairs-wrap"),
)
"""Wrong integer products of a block."""


@dataclass(frozen=True)
class Terms:
    """A dot product's parts: `hx`, `hy` halves [nb], `qx`, `qy` int8 [nb, 32]."""

    hx: Array
    hy: Array
    qx: Array
    qy: Array

    def integer_sums(self) -> Array:
        """Return the integer sum of each block: int64 [nb] (Q8A8-DOT-1)."""
        return np.asarray(steps.products(self.qx, self.qy).sum(axis=1))

    def magnitudes(self) -> Array:
        """Return the sum of the products' magnitudes of each block: int64 [nb]."""
        return np.asarray(np.abs(steps.products(self.qx, self.qy)).sum(axis=1))


class Hypotheses:
    """The hypotheses about one dot product of two rows of blocks [nb] of one version.

    Parameters
    ----------
    x, y
        Blocks, as the call had them.
    in_bound
        Whether the result may be anywhere within the bound; otherwise the inputs leave nothing to round.
    """

    def __init__(self, x: Array, y: Array, *, in_bound: bool) -> None:
        self._x, self._y = x, y
        second = "weight_scale" if x.dtype == layout.BLOCK_Q8_A8 else "activation_scale"
        self._terms = Terms(x["weight_scale"], y[second], x["weight_qs"], y["weight_qs"])
        with np.errstate(invalid="ignore"):
            self._d = _wide(self._terms.hx) * _wide(self._terms.hy)
        units = _units(self._d) or []
        self._sums = [u * int(s) for u, s in zip(units, self._terms.integer_sums(), strict=False)]
        magnitude = sum(abs(u) * int(s) for u, s in zip(units, self._terms.magnitudes(), strict=False))
        growth = (1 + U) ** (len(x) + LANE_FOLD_ROUNDINGS) - 1
        self._margin = growth * magnitude / SHARE if in_bound else Fraction(0)

    def broken(self, result: float) -> set[str]:
        """Return the rules of the hypotheses that give this float; empty where none does.

        Other layouts come last: nearly any sum can be had by reading the wrong bytes.
        """
        with np.errstate(invalid="ignore", over="ignore"):  # wrong readings give infinities, and 0 times them
            found = {rule for rule, total in self._candidates() if self._is(result, total)}
        return found or self.misread(result)

    def misread(self, result: float) -> set[str]:
        """Return the rule of layout, where another layout gives this float; a zero is no sign of one."""
        if not result or not math.isfinite(result):
            return set()
        with np.errstate(invalid="ignore", over="ignore"):
            return {rule for rule, total in self._misread() if self._is(result, total)}

    def _is(self, result: float, total: int | None) -> bool:
        """Return whether a float is a wrong sum; None is one that is not finite."""
        if total is None or not math.isfinite(result):
            return total is None and not math.isfinite(result)
        if total == sum(self._sums):
            return False
        if not self._margin:
            return result == float(np.float32(Fraction(total, UNIT)))
        return abs(Fraction(result) * UNIT - total) <= self._margin

    def _candidates(self) -> Iterator[tuple[str, int | None]]:
        """Yield each wrong reading's rule and sum."""
        terms, sums = self._terms, self._terms.integer_sums()
        for rule, read in READINGS:
            yield rule, _total(_wide(read(terms.hx)) * _wide(read(terms.hy)), sums)
        for rule, multiply in PRODUCTS:
            yield rule, _total(multiply(steps.widen(terms.hx), steps.widen(terms.hy)), sums)
        for rule, products in MULTIPLICATIONS:
            yield rule, _total(self._d, products(terms.qx, terms.qy).sum(axis=1))

    def _misread(self) -> Iterator[tuple[str, int | None]]:
        """Yield each wrong layout's rule and sum."""
        for rule, other in self._layouts():
            yield rule, _total(_wide(other.hx) * _wide(other.hy), other.integer_sums())

    def _layouts(self) -> Iterator[tuple[str, Terms]]:
        """Yield the parts as other layouts have them."""
        nb = len(self._x)
        x, y = (np.frombuffer(row.tobytes(), np.uint8) for row in (self._x, self._y))
        if self._x.dtype == layout.BLOCK_Q8_A8:
            for rule, unpack in _of("unpack", "scale-read-big-endian", "scale-read-last", "block-padded"):
                (hx, qx), (hy, qy) = unpack(x, nb), unpack(y, nb)
                yield rule, Terms(hx, hy, qx, qy)
            return
        t = self._terms
        yield _V2, Terms(swapped_bytes(t.hx), swapped_bytes(t.hy), t.qx, t.qy)
        for rule, unpack in _of("unpack_v2", "v2-codes-early", "v2-blocks-of-34"):
            (hx, _, qx), (_, hy, qy) = unpack(x, nb), unpack(y, nb)
            yield rule, Terms(hx, hy, qx, qy)


def _wide(h: Array) -> Array:
    return np.asarray(h.astype(np.float64))


def _units(d: Array) -> list[int] | None:
    """Return products of scales as integers times 2^-48; None where one is not finite."""
    if not np.isfinite(d).all():
        return None
    return [int(v) for v in np.ldexp(d.astype(np.float64), UNIT_EXPONENT).tolist()]


def _total(d: Array, sums: Array) -> int | None:
    """Add up blocks without rounding; None where a product of scales is not finite."""
    units = _units(d)
    if units is None:
        return None
    return sum(u * int(s) for u, s in zip(units, sums, strict=True))
