"""The steps of a quantizer's arithmetic, each read off results that the steps before it cannot hide.

1. The scale: amax runs over values at and beside the middles of two halves, over subnormal, large and tiny
   ones. From (amax, stored half) follow the divisor, the least and the greatest scale, and how it is rounded.
2. The codes: under amax = 127 · 2^e every way to invert is exact, so only the rounding shows; under other
   amax the elements are those floats beside a tie on which inverses and products differ by an ULP
   (`probes`).
3. Zeros and the conversion to int8: blocks too small for a scale, and elements that do not count in amax.

Each step is chosen among those of `q8a8.recipe_steps`, in every combination; the first that explains most is
taken.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np

from q8a8.recipe import RECIPES, Recipe, apply_recipe, scale_of
from q8a8.recipe_steps import CONVERSIONS, HALVES, INVERSES, ROUNDINGS, SCALES, ZERO_TESTS, upper_bits

if TYPE_CHECKING:
    from collections.abc import Iterable

    from q8a8_conformance.inputs.arrays import Array

F32 = np.float32
DESIGN = RECIPES["design"]
ORDINARY = F32(2.0**-17)
"""An amax whose scale is far from the least half."""

MOST = 4000
"""Blocks that a recipe is fitted to at most."""

FEW, KEPT = 60, 24
"""Blocks that rule out all but so many combinations of steps."""

ENOUGH = 16
"""Large codes from which a multiplier is estimated."""

LARGEST_CODE = 127

UNDEFINED = ("undefined", "wrap")
"""Conversions that a C compiler may give for what int8 does not hold."""

SMALLER = 0.97
"""The part of an inverse that a block's codes must stay below to show that it is limited."""

ZERO_SCALES = ("zero", "one", "signed")

IDENTITY = ("name", "source", "finite_scale")
"""Fields of a recipe that are no step of it."""


@dataclass(frozen=True)
class Observed:
    """What a quantizer gave for blocks; a longer vector is several blocks with one amax and one scale.

    Attributes
    ----------
    x
        Elements, float32 [n, m]: 32, or those of a block that are looked at.
    amax
        The amax of which each scale was computed, as the kernel counts elements: float32 [n].
    scales
        The bits of the scales, uint16 [n].
    codes
        int8 [n, m].
    """

    x: Array
    amax: Array
    scales: Array
    codes: Array

    def __getitem__(self, chosen: Array | slice) -> Observed:
        """Return some of the blocks."""
        return Observed(self.x[chosen], self.amax[chosen], self.scales[chosen], self.codes[chosen])

    def with_more(self, other: Observed) -> Observed:
        """Return these blocks and others."""
        return Observed(
            *(np.concatenate([getattr(one, f.name) for one in (self, other)]) for f in fields(self))
        )

    def __len__(self) -> int:
        """Return the number of blocks."""
        return len(self.amax)

    def wrong_scales(self, recipe: Recipe) -> Array:
        """Return bool [n]: where a recipe gives another scale."""
        h, _, _ = apply_recipe(self.x, recipe, self.amax)
        return np.asarray(h.view(np.uint16) != self.scales)

    def wrong_codes(self, recipe: Recipe) -> Array:
        """Return bool [n, m]: where a recipe is defined and gives another code."""
        _, q, inside = apply_recipe(self.x, recipe, self.amax)
        return np.asarray((q != self.codes) & inside[:, np.newaxis])


@dataclass(frozen=True)
class Fit:
    """A recipe, and what it explains.

    Attributes
    ----------
    recipe
        The recipe.
    wrong_scales, wrong_codes
        bool [n] and [n, m]: the results that it does not give.
    """

    recipe: Recipe
    wrong_scales: Array
    wrong_codes: Array

    @property
    def missed(self) -> int:
        """Blocks with a result that it does not give."""
        return int((self.wrong_scales | self.wrong_codes.any(axis=1)).sum())


def differences(recipe: Recipe, base: Recipe = DESIGN) -> dict[str, object]:
    """Return the steps in which a recipe differs from another, the specification's, by field."""
    return {
        field.name: getattr(recipe, field.name)
        for field in fields(recipe)
        if field.name not in IDENTITY and getattr(recipe, field.name) != getattr(base, field.name)
    }


def named(recipe: Recipe) -> Recipe:
    """Return a recipe under the name that the reference has for its steps, or else one of its steps."""
    steps = differences(recipe)
    for known in RECIPES.values():
        if differences(known) == steps:
            return known
    name = "design with " + ", ".join(f"{field} = {value}" for field, value in steps.items())
    return replace(recipe, name=name, source="measured", finite_scale=False)


def fit(observed: Observed) -> Fit:
    """Find the recipe that explains most of what was observed at places where a quantizer computes alike."""
    recipe = DESIGN
    if len(observed) > MOST:
        few = fit(observed[:: len(observed) // MOST + 1]).recipe
        return Fit(few, observed.wrong_scales(few), observed.wrong_codes(few))
    if observed.wrong_scales(DESIGN).any() or observed.wrong_codes(DESIGN).any():
        recipe = _fit_scale(observed)
        cut = replace(observed, amax=upper_bits(observed.amax))
        if cut.wrong_scales(_fit_scale(cut)).sum() < observed.wrong_scales(recipe).sum():
            # amax itself was cut off.
            whole = _fit_steps(cut, _fit_scale(cut))
            recipe = named(replace(whole, amax="upper-sixteen-bits"))
            return Fit(recipe, cut.wrong_scales(recipe), cut.wrong_codes(recipe))
        recipe = named(_fit_steps(observed, recipe))
    elif not apply_recipe(observed.x, DESIGN, observed.amax)[2].all():
        recipe = named(fit_conversion(DESIGN, observed))
    return Fit(recipe, observed.wrong_scales(recipe), observed.wrong_codes(recipe))


def _fit_steps(observed: Observed, recipe: Recipe) -> Recipe:
    """Find the steps after the scale."""
    recipe = replace(recipe, inverse_limit=_inverse_limit(observed))
    vanishes = (observed.amax < ORDINARY) | (observed.scales & 0x7FFF == 0)
    # (Codes that are clipped tell nothing of the steps before.)
    clipped = replace(recipe, code_limits=_code_limits(observed) or recipe.code_limits)
    recipe = replace(_fit_codes(clipped, observed[~vanishes]), code_limits=recipe.code_limits)
    recipe = _fit_zeros(recipe, observed[vanishes])
    return fit_conversion(recipe, observed)


# The scale.


def _fit_scale(observed: Observed) -> Recipe:
    """Find how scales are computed."""
    chosen = observed.amax > 0
    amax, bits = observed.amax[chosen], observed.scales[chosen]
    best, best_score = DESIGN, -1
    for base in _numbers(amax, bits):
        for scale, half in itertools.product(SCALES, HALVES):
            recipe = replace(base, scale=scale, half=half)
            _, h = scale_of(amax, recipe)
            score = int((h.view(np.uint16) == bits).sum())
            if score > best_score:
                best, best_score = recipe, score
    return best


def _numbers(amax: Array, bits: Array) -> Iterable[Recipe]:
    """Yield recipes with the divisor, the least and the greatest scale that were measured."""
    yield DESIGN
    h = bits.view(np.float16).astype(np.float64)
    ordinary = (amax > 1) & (amax < 2.0**20) & np.isfinite(h) & (h > 0)
    divisor = 127.0
    if ordinary.any():
        ratio = float(np.median(amax[ordinary].astype(np.float64) / h[ordinary]))
        divisor = round(2 * ratio) / 2 if 1 <= ratio <= 1024 else 127.0
        yield replace(DESIGN, divisor=divisor)
    measured = replace(DESIGN, divisor=divisor)
    tiny = amax < 127 * 2.0**-26
    floor = float(h[tiny].min()) if tiny.any() else 0.0
    if np.isfinite(floor) and floor > 0:
        yield replace(measured, floor=floor)
    d = amax.astype(np.float64) / divisor
    infinite = np.isinf(h)
    if infinite.any():
        yield replace(measured, infinite_from=float(d[infinite].min()))
    elif h.size and 0 < h.max() < d.max() - 32:
        yield replace(measured, ceiling=float(h.max()))


# The codes.


def _fit_codes(scale: Recipe, observed: Observed) -> Recipe:
    """Find the inverse, the product and the rounding."""
    every = [
        replace(scale, inverse=inverse, multiplier=multiplier, product=product, rounding=rounding)
        for product, inverse, rounding, multiplier in itertools.product(
            ("float32", "float64"),
            INVERSES,
            ROUNDINGS,
            dict.fromkeys((127.0, scale.divisor, *_multipliers(observed))),
        )
    ]
    # A few blocks rule most combinations out. The largest element shows a conversion, if anything.
    step = max(len(observed) // FEW, 1)
    for part, kept in ((observed[::step], KEPT), (observed, 1)):
        inner = np.abs(part.x) < part.amax[:, np.newaxis]
        wrong = [part.wrong_codes(replace(recipe, conversion="wrap")) for recipe in every]
        missed = [(int((of & inner).sum()), int(of.sum())) for of in wrong]
        ranked = sorted(
            range(len(every)),
            key=lambda i: (
                missed[i][0],
                len(differences(every[i])),
                every[i].multiplier not in {127.0, scale.divisor},  # (An estimate.)
                missed[i][1],
                i,
            ),
        )
        every = [every[i] for i in ranked[:kept]]
    return every[0]


def _multipliers(observed: Observed) -> tuple[float, ...]:
    """Return what codes may be of amax, by large codes that no conversion changes: to a half, and whole.

    Each of them is within a half, so that a few tell nothing.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        share = observed.x.astype(np.float64) / observed.amax[:, np.newaxis]
        ratios = (observed.codes / share)[(np.abs(share) > 0.8) & (np.abs(share) < 0.97)]
    found = float(np.median(ratios)) if ratios.size >= ENOUGH else 0.0
    return (round(2 * found) / 2, float(round(found))) if 64 <= found <= 256 else ()


def factors_of(x: Array, codes: Array, more: float = 0.5) -> tuple[Array, Array]:
    """Return between which factors [n] those of blocks are, by their elements and codes, [n, m] each.

    A code q of an element x is of a factor from (|q| - 1/2) / |x| to (|q| + `more`) / |x|.
    """
    sizes, magnitudes = np.abs(x.astype(np.float64)), np.abs(codes.astype(np.float64))
    with np.errstate(divide="ignore", invalid="ignore"):
        least = np.where(sizes > 0, (magnitudes - 0.5) / sizes, 0).max(axis=1, initial=0)
        greatest = np.where(sizes > 0, (magnitudes + more) / sizes, np.inf).min(axis=1, initial=np.inf)
    return least, greatest


def _inverse_limit(observed: Observed) -> float:
    """Return the greatest inverse, where all blocks that would have a greater one share it; else infinity.

    A code q of an element x shows that the inverse lies between (|q| - 1/2) / |x| and (|q| + 1) / |x|, by
    any rounding.
    """
    seen = observed[(observed.scales & 0x7FFF != 0) & (observed.amax > 0)]
    least, greatest = factors_of(seen.x, seen.codes, 1)
    inverses = 127 / seen.amax.astype(np.float64)
    limited = greatest < SMALLER * inverses
    if not limited.any():
        return np.inf
    low, high = float(least[limited].max()), float(greatest[limited].min())
    if not 0 < low <= high or not limited[inverses > high / SMALLER**2].all():
        return np.inf
    rounded = (float(f"{(low + high) / 2:.{digits}e}") for digits in range(8))
    return next(
        (number for number in (2.0 ** np.rint(np.log2(low)), *rounded) if low <= number <= high), high
    )


def _fit_zeros(recipe: Recipe, observed: Observed) -> Recipe:
    """Find where zeros are tested, and what is stored for zeros, in blocks that may be taken for zeros."""
    every = [
        replace(recipe, zero_test=zero_test, zero_scale=zero_scale)
        for zero_test, zero_scale in itertools.product(ZERO_TESTS, ZERO_SCALES)
    ]
    return min(every, key=lambda tried: _missed(tried, observed))


def _missed(recipe: Recipe, observed: Observed) -> tuple[int, int]:
    """Return how many results a recipe does not give, and for how many codes it is not defined."""
    _, _, inside = apply_recipe(observed.x, recipe, observed.amax)
    wrong = observed.wrong_scales(recipe).sum() + observed.wrong_codes(recipe).sum()
    return int(wrong), int((~inside).sum())


def _code_limits(observed: Observed) -> tuple[int, int] | None:
    """Return the least and the greatest code, where the codes do not reach both ends; else None."""
    least, greatest = int(observed.codes.min(initial=127)), int(observed.codes.max(initial=-128))
    return (least, greatest) if least > -LARGEST_CODE or greatest < LARGEST_CODE else None


def fit_conversion(recipe: Recipe, observed: Observed) -> Recipe:
    """Find the conversion to int8; "undefined" where another one is not needed, or none fits."""
    every = [replace(recipe, conversion=conversion) for conversion in CONVERSIONS]
    if limits := _code_limits(observed):
        clipped = replace(recipe, code_limits=limits)
        if not observed.wrong_codes(clipped).any():
            return clipped if any(observed.wrong_codes(tried).any() for tried in every[:1]) else recipe
    outside = ~apply_recipe(observed.x, recipe, observed.amax)[2]
    missed = [int(observed.wrong_codes(tried).sum()) for tried in every]
    least = min(missed)
    for tried, count in zip(every, missed, strict=True):
        if tried.conversion == "undefined" and outside.any():
            # What is outside int8 is explained by a conversion, where one fits.
            fitting = [
                t for t, c in zip(every, missed, strict=True) if c == count and t.conversion not in UNDEFINED
            ]
            if count == least and fitting:
                return fitting[0]
        if count == least:
            return tried
    return recipe
