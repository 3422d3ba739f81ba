"""Numbers that floats are rounded to where they are quantized: integers of some bits, or narrow floats.

A grid is a set of numbers times a scale, which a group of elements of a row shares. It says what a product
multiplies in the place of what it was given: weights that are quantized again, activations of another format.
The formats of narrow floats are those of the Open Compute Project, "Microscaling Formats (MX) Specification
1.0", section 5.3, and e4m3 of Micikevicius et al., arXiv:2209.05433.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from q8a8_conformance.inputs.arrays import Array

F16, F32, F64 = np.float16, np.float32, np.float64

BLOCK = 32

ROW, MATRIX = 0, -1
"""Groups that are no number of elements: a whole row, and all rows."""


@dataclass(frozen=True)
class Narrow:
    """A format of narrow floats.

    Attributes
    ----------
    mantissa
        Bits behind the point.
    least
        The exponent of the smallest normal number.
    largest
        The largest number.
    """

    mantissa: int
    least: int
    largest: float

    def nearest(self, v: Array) -> Array:
        """Round to the nearest number, ties to even; what is larger than the largest becomes that."""
        with np.errstate(divide="ignore"):
            exponent = np.maximum(np.floor(np.log2(np.abs(v))), self.least)
        step = np.exp2(exponent - self.mantissa)
        return np.asarray(np.clip(np.rint(v / step) * step, -self.largest, self.largest))


FORMATS: Final[Mapping[str, Narrow]] = {
    "e4m3": Narrow(3, -6, 448.0),
    "e5m2": Narrow(2, -14, 57344.0),
    "e2m1": Narrow(1, 0, 6.0),
    "e3m2": Narrow(2, -2, 28.0),
    "e2m3": Narrow(3, 0, 7.5),
    "float16": Narrow(10, -14, 65504.0),
    "bfloat16": Narrow(7, -126, float(np.finfo(F32).max)),
}
"""Narrow floats, by name."""


def _quotient(largest: Array, top: float) -> Array:
    return np.asarray((largest / F32(top)).astype(F32))


SCALES: Final[Mapping[str, Callable[[Array, float], Array]]] = {
    "float32": lambda largest, top: _quotient(largest, top).astype(F64),
    "float16": lambda largest, top: _quotient(largest, top).astype(F16).astype(F64),
    "e4m3": lambda largest, top: FORMATS["e4m3"].nearest(_quotient(largest, top)),
    "power of two": lambda largest, top: np.exp2(np.ceil(np.log2(largest / top))),
    "microscaling": lambda largest, top: np.exp2(np.floor(np.log2(largest)) - np.floor(np.log2(top))),
}
"""The scale of a group by its largest magnitude, and the largest number that this becomes."""


def away(v: Array) -> Array:
    """Round to integers, halves away from zero."""
    return np.asarray(np.trunc(v + np.copysign(0.5, v)))


def significant(v: Array, bits: int, to: Callable[[Array], Array]) -> Array:
    """Return numbers of so many significant bits, float64, whose fractions are rounded by a function."""
    fraction, exponent = np.frexp(np.asarray(v, np.float64))
    return np.asarray(np.ldexp(to(np.ldexp(fraction, bits)), exponent - bits))


ROUNDINGS: Final[Mapping[str, Callable[[Array], Array]]] = {
    "halves to even": np.rint,
    "halves away from zero": away,
    "halves up": lambda v: np.floor(v.astype(F32) + F32(0.5)),
    "toward zero": np.trunc,
    "down": np.floor,
}
"""How quotients become integers."""


@dataclass(frozen=True)
class Grid:
    """What elements become.

    Attributes
    ----------
    group
        Elements of a row that share a scale: a number, `ROW` or `MATRIX`; 1 where there is no scale.
    bits
        Of integers; 0 for narrow floats.
    divisor
        By which the largest magnitude is divided: the scale. Negative where that takes the sign of the
        element: the scale times `divisor` is the element itself. 0 for a range with a zero point.
    form
        Of narrow floats: a name of `FORMATS`.
    scale, rounding
        Names of `SCALES` and of `ROUNDINGS`.
    is_exact, is_inverse
        Whether elements are divided by the scale before that is rounded; whether they are multiplied by the
        inverse instead.
    zero
        Of a zero point: a name of `ZEROS`; "float" is the smallest element itself.
    table
        What each code becomes, -128 first, under any scale; of weights alone, and instead of all others.
    levels
        The numbers in which the largest magnitude is 1, as they were read, instead of all others.
    scale_of, blocks
        A name of `SCALES_OF`, and the blocks of which it is one: codes are kept, under another scale.
    of, unexplained
        Elements that were read, and those that become something else.
    """

    group: int
    bits: int = 0
    divisor: float = 0.0
    form: str = ""
    scale: str = "float32"
    rounding: str = "halves to even"
    is_exact: bool = False
    is_inverse: bool = False
    zero: str = ""
    table: tuple[float, ...] = ()
    levels: tuple[float, ...] = ()
    scale_of: str = ""
    blocks: int = 1
    of: int = 0
    unexplained: int = 0

    @property
    def name(self) -> str:
        """Its slug: int8-per-16, int4-per-row-zero-point, e4m3."""
        if self.table:
            return "zero-point" if self._offset else f"{len(set(self.table))}-levels"
        if self.scale_of:
            per = {0: "row"}.get(self.blocks, str(BLOCK * self.blocks))
            return f"scale-{self.scale_of}" if self.blocks == 1 else f"scale-per-{per}"
        of = {1: "", ROW: "-per-row", MATRIX: "-per-matrix"}.get(self.group, f"-per-{self.group}")
        numbers = f"{len(self.levels)}-levels" if self.levels else f"int{self.bits}"
        return f"{self.form or numbers}{of}{'-zero-point' if self.zero else ''}"

    @property
    def _offset(self) -> float:
        """What a table adds to every code, if it adds the same to all."""
        if not self.table:
            return 0.0
        added = np.array(self.table) - np.arange(-128, 128)
        return float(added[0]) if np.ptp(added) == 0 else 0.0

    @property
    def words(self) -> str:
        """What elements become, in words, behind the name of what becomes it."""
        if self._offset:
            return f"get {self._offset:+g} added to their codes: a zero point that no block has"
        if self.table:
            return f"have {len(set(self.table))} levels left of 256 codes"
        if self.scale_of and self.blocks == 1:
            return f"are multiplied under their scale as {self.scale_of}"
        if self.scale_of:
            of = f"{self.blocks} blocks" if self.blocks else "the row"
            return f"keep their codes under another scale: the {self.scale_of} of {of}"
        shared = {ROW: "a whole row", MATRIX: "all rows"}.get(self.group, f"{self.group} elements")
        to = self.form or f"integers of {self.bits} bits"
        if self.levels:
            to = f"{len(self.levels)} numbers"
        if self.group == 1:
            return f"are rounded to {to}, without a scale"
        point = " and a zero point" if self.zero else ""
        return f"are quantized to {to}, with a scale{point} for {shared}"

    def floats(self, v: Array, scales: Array | None = None) -> Array:
        """Return what elements become.

        Parameters
        ----------
        v
            The elements, float32 [r, k].
        scales
            Of weights: the scale of each element's block, [r, k].
        """
        if self.table and scales is not None:
            with np.errstate(divide="ignore", invalid="ignore"):
                codes = np.where(scales == 0, 0, v.astype(F64) / scales)
            return np.asarray(np.array(self.table)[np.rint(codes).astype(int) + 128] * scales)
        if self.scale_of and scales is not None:
            return np.asarray(v.astype(F64) / np.where(scales == 0, 1, scales) * self._other(scales))
        if self.group == 1 and self.form:
            return FORMATS[self.form].nearest(v.astype(F64))
        r, k = v.shape
        size = {ROW: k, MATRIX: r * k}.get(self.group, self.group)
        wide = v.reshape(1, -1) if self.group == MATRIX else np.pad(v, ((0, 0), (0, -k % size)))
        found = self._of_groups(wide.reshape(len(wide), -1, size).astype(F32))
        return np.asarray(
            found.reshape(len(wide), -1)[:, : k if self.group != MATRIX else r * k].reshape(r, k)
        )

    def _of_groups(self, v: Array) -> Array:
        """Return what groups of elements become, [r, groups, size]."""
        with np.errstate(all="ignore"):
            if self.zero:
                return self._of_ranges(v)
            if self.levels:
                return self._nearest_level(v)
            largest = self._largest(v)
            kept = SCALES[self.scale](largest, self._top)
            d = _quotient(largest, self._top) if self.is_exact else kept.astype(F32)
            q = np.nan_to_num(self._divided(v, d))
            if self.form:
                q = FORMATS[self.form].nearest(q)
            else:
                q = np.clip(ROUNDINGS[self.rounding](q), -(2 ** (self.bits - 1)), 2 ** (self.bits - 1) - 1)
            return np.asarray(np.nan_to_num(q * kept))

    def _divided(self, v: Array, d: Array) -> Array:
        return np.asarray((v * (1 / d).astype(F32) if self.is_inverse else v / d).astype(F32)).astype(F64)

    def _nearest_level(self, v: Array) -> Array:
        largest = np.abs(v).max(axis=2, keepdims=True).astype(F64)
        levels = np.array(self.levels)
        above = np.searchsorted((levels[1:] + levels[:-1]) / 2, np.nan_to_num(v / largest))
        return np.asarray(levels[above] * largest)

    def _other(self, scales: Array) -> Array:
        """Return the scales that take the place of those of each element's block, [r, k]."""
        own = scales[:, ::BLOCK].astype(F64)
        if self.blocks == 1:
            return np.repeat(ROUNDED[self.scale_of](own), BLOCK, axis=1)
        size = self.blocks or own.shape[1]
        parts = [SCALES_OF[self.scale_of](own[:, b : b + size]) for b in range(0, own.shape[1], size)]
        return np.repeat(np.stack(parts, axis=1), size * BLOCK, axis=1)[:, : scales.shape[1]]

    def _largest(self, v: Array) -> Array:
        """Return the elements of the largest magnitude of groups, or these magnitudes: [r, groups, 1]."""
        if self.divisor < 0:
            return np.take_along_axis(v, np.abs(v).argmax(axis=2)[..., np.newaxis], axis=2)
        return np.asarray(np.abs(v).max(axis=2, keepdims=True))

    @property
    def _top(self) -> float:
        return FORMATS[self.form].largest if self.form else self.divisor

    def _of_ranges(self, v: Array) -> Array:
        """Return what groups become that have a zero point."""
        low, high = v.min(axis=2, keepdims=True), v.max(axis=2, keepdims=True)
        if "with zero" in self.zero:
            low, high = np.minimum(low, 0), np.maximum(high, 0)
        top = 2**self.bits - 1
        nearest = ROUNDINGS[self.rounding]
        kept = SCALES[self.scale](high - low, top)
        d = _quotient(high - low, top) if self.is_exact else kept.astype(F32)
        if self.zero.startswith("float"):
            q = np.clip(nearest(np.nan_to_num(self._divided(v - low, d))), 0, top)
            return np.asarray(q * kept + (low.astype(F16) if self.scale == "float16" else low))
        point = nearest(np.nan_to_num(self._divided(-low, d)))
        q = np.clip(nearest(np.nan_to_num(self._divided(v, d))) + point, 0, top)
        return np.asarray(np.nan_to_num((q - point) * kept))


ZEROS: Final = ("integer, of a range with zero", "integer", "float", "float, of a range with zero")
"""Zero points: what they are, and whether zero belongs to the range in any case."""

ROUNDED: Final[Mapping[str, Callable[[Array], Array]]] = {
    "bfloat16": FORMATS["bfloat16"].nearest,
    "e4m3": FORMATS["e4m3"].nearest,
    "e5m2": FORMATS["e5m2"].nearest,
    "power-of-two": lambda v: np.copysign(np.exp2(np.rint(np.log2(np.abs(v)))), v),
    "power-of-two-above": lambda v: np.copysign(np.exp2(np.ceil(np.log2(np.abs(v)))), v),
    "power-of-two-below": lambda v: np.copysign(np.exp2(np.floor(np.log2(np.abs(v)))), v),
}
"""What scales of blocks may be rounded to."""

SCALES_OF: Final[Mapping[str, Callable[[Array], Array]]] = {
    "first scale": lambda v: v[:, 0],
    "last scale": lambda v: v[:, -1],
    "largest scale": lambda v: v.max(axis=1),
    "mean scale": lambda v: v.mean(axis=1),
}
"""The scale that several blocks may share."""


def candidates(group: int) -> Iterator[Grid]:
    """Yield the grids of a group, the most usual first."""
    if group == 1:
        yield from (Grid(1, form=form) for form in FORMATS)
        yield from (Grid(1, scale_of=name) for name in ROUNDED)
        yield from (Grid(1, scale_of=name, blocks=blocks) for name in SCALES_OF for blocks in (2, 4, 8, 0))
        # Under a power of two narrow floats stay as they are, so that nothing shows which elements share it.
        yield from (Grid(of, form=form, scale="microscaling") for of in (32, 16) for form in FORMATS)
        return
    for scale in SCALES:
        for bits in (8, 4, 7, 6, 5, 3, 2):
            top = 2 ** (bits - 1)
            divisors = (top - 1, top - 0.5, top, -top)
            yield from (Grid(group, bits, divisor, scale=scale) for divisor in divisors)
        yield from (Grid(group, form=form, scale=scale) for form in list(FORMATS)[:-2])
        yield from (Grid(group, bits, scale=scale, zero=zero) for bits in (8, 4, 2, 6) for zero in ZEROS)


def variants(grid: Grid) -> Iterator[Grid]:
    """Yield a grid, and those that differ from it in how elements are divided and rounded."""
    for is_exact, is_inverse, rounding in itertools.product((False, True), (False, True), ROUNDINGS):
        yield replace(grid, is_exact=is_exact, is_inverse=is_inverse, rounding=rounding)
