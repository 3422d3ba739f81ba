"""Elements on which ways to quantize differ: chosen values, not random ones.

Of the blocks of a model a few in a million show the difference between two ways to compute the inverse. Here
all of them do: for an amax, `keen_values` are the floats next to a tie between two codes on which at least
one of the ways in `RIVALS` gives another code than the specification.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from q8a8.recipe import RECIPES, Recipe, apply_recipe, scale_of
from q8a8.recipe_steps import INVERSES, ROUNDINGS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from q8a8_conformance.inputs.arrays import Array

F32 = np.float32
DESIGN = RECIPES["design"]

RIVALS: tuple[Recipe, ...] = (
    *(
        replace(DESIGN, inverse=inverse)
        for inverse in (
            *("1/d", "1/half", "x/d", "127*(1/amax)", "127/amax-truncated", "127/amax-ulp-low"),
            *("127/amax-ulp-high", "127/amax-in-double", "127/amax-estimated"),
        )
    ),
    *(
        replace(DESIGN, rounding=rounding)
        for rounding in ("half-even", "half-up", "half-down", "half-toward-zero")
    ),
    replace(DESIGN, product="float64"),
)
"""Ways to quantize that hardly differ from the specification."""

KEEN = 48
"""Values of amax with values at which the rivals differ."""


@lru_cache(maxsize=1)
def keen_values() -> tuple[tuple[float, Array], ...]:
    """Return pairs of an amax and the elements, float32 [m], m >= 40, on which the rivals show, mixed.

    The amax with the most rivals come first; each has elements of both signs.
    """
    rng = np.random.default_rng(127)
    amax = np.exp2(rng.uniform(-8, 8, 2 * KEEN)).astype(F32)
    ties = np.concatenate([np.arange(127) + 0.5] * 2).astype(np.float64)
    x = (ties * amax[:, np.newaxis] / 127).astype(F32)
    x = (x.view(np.int32) + rng.integers(-2, 3, x.shape, dtype=np.int32)).view(F32)
    x[:, 127:] *= -1
    differ = _differ(x, amax, DESIGN, RIVALS)
    chosen = np.argsort(-(differ.any(axis=2).sum(axis=0)), kind="stable")[:KEEN]
    return tuple((float(amax[i]), _mixed(x[i], differ[:, i], rng)) for i in chosen)


def _differ(x: Array, amax: Array, recipe: Recipe, rivals: Iterable[Recipe]) -> Array:
    """Return where each rival gives another code than a recipe: bool [rivals, *x.shape]."""
    right = apply_recipe(x, recipe, amax)[1]
    return np.array([apply_recipe(x, rival, amax)[1] != right for rival in rivals])


def _mixed(x: Array, differ: Array, rng: np.random.Generator) -> Array:
    """Return elements on which a rival differs: of each rival first one, then another."""
    order: dict[int, None] = {}
    found = [rng.permutation(np.flatnonzero(of)).tolist() for of in differ]
    while any(found):
        for of in found:
            if of and (place := of.pop()) not in order:
                order[place] = None
    return x[list(order)]


def keen_values_of(recipe: Recipe) -> list[tuple[float, Array]]:
    """Return as `keen_values` elements on which other steps differ from those of a recipe that was measured.

    They are the floats beside ties and beside integers of its own products.
    """
    rivals = [replace(recipe, inverse=inverse) for inverse in INVERSES]
    rivals += [replace(recipe, rounding=rounding) for rounding in ROUNDINGS]
    rivals += [replace(recipe, product=product) for product in ("float32", "float64")]
    rivals += [replace(recipe, multiplier=multiplier) for multiplier in {127.0, recipe.divisor}]
    rng = np.random.default_rng(128)
    amax = np.exp2(rng.uniform(-8, 8, KEEN // 3)).astype(F32)
    _, h = scale_of(amax, recipe)
    by_half = np.divide(1, h.astype(np.float64), where=h > 0, out=np.ones(len(amax)))
    products = np.concatenate([np.arange(127) + 0.5, np.arange(1, 127)])
    x = np.concatenate(
        [
            products / inverse[:, np.newaxis]
            for inverse in (recipe.multiplier / amax, recipe.divisor / amax, by_half)
        ],
        axis=1,
    ).astype(F32)
    x = (x.view(np.int32) + rng.integers(-2, 3, x.shape, dtype=np.int32)).view(F32)
    x *= rng.choice([F32(-1), F32(1)], x.shape)
    x = np.where(np.abs(x) < amax[:, np.newaxis], x, F32(0))
    differ = _differ(x, amax, recipe, rivals)
    found = ((float(a), _mixed(x[i], differ[:, i], rng)) for i, a in enumerate(amax))
    return [(a, values) for a, values in found if values.size]


@lru_cache(maxsize=1)
def keen_blocks() -> Array:
    """Return blocks [48, 32] of `keen_values`: neighbours differ in amax, and every rival shows in most."""
    blocks = np.empty((KEEN, 32), F32)
    for number, (amax, values) in enumerate(keen_values()):
        block = np.resize(values[:30], 31)
        blocks[number] = np.insert(block, number * 11 % 32, amax if number % 2 else -amax)
    blocks.setflags(write=False)
    return blocks


def tie_values() -> Iterator[tuple[float, Array]]:
    """Yield pairs of an amax = 127 · 2^e, under which inverses are exact, and elements at or beside a tie."""
    ties = np.arange(-126.5, 127).astype(F32)
    ties = ties[ties != 0]
    for exponent, side in ((0, None), (-9, 1), (6, -1), (3, None)):
        values = ties if side is None else np.nextafter(ties, F32(side * np.inf))
        yield float(127 * 2.0**exponent), np.ldexp(values, exponent).astype(F32)


def scale_amaxes() -> Array:
    """Return values of amax at which ways to compute a scale differ: float32 [m]."""
    rng = np.random.default_rng(11)
    low = np.concatenate(
        [
            np.arange(12),
            rng.integers(12, 0x400, 24),
            np.arange(0x3FD, 0x403),
            rng.integers(0x400, 0x7BFF, 80),
            np.arange(0x7BF0, 0x7BFF),
            np.arange(0x7AFC, 0x7B04),
            np.arange(0x0FFF, 0x7800, 0x0C00),  # (The next half has another exponent.)
        ]
    )
    halves = low.astype(np.uint16).view(np.float16).astype(np.float64)
    above = (low + 1).astype(np.uint16).view(np.float16).astype(np.float64)
    middle = ((halves + above) / 2 * 127).astype(F32)
    sides = [(middle.view(np.int32) + step).view(F32) for step in (0, 1, -1)]
    inside = (halves * 127 + (above - halves) * rng.uniform(0, 127, low.size)).astype(F32)
    exact = np.array([6, 127, 448, 1e-3, 65504 * 127, 2.0**-23 * 127, 57344 * 127], F32)
    every = np.concatenate([*sides, inside, exact])
    return every[every < F32(65520 * 127)]


def tiny_amaxes() -> Array:
    """Return values of amax about the size at which zero tests differ, down to the smallest: float32 [m]."""
    edge = F32(127 * 2.0**-25).view(np.int32) + np.arange(-3, 4, dtype=np.int32)
    small = np.array([2.0**-24 * 64, 1e-8, 1e-12, 1e-20, 1e-30, 3e-37, 1e-38, 1e-42], F32)
    counts = np.array([1, 2, 63, 64, 65, 100, 127, 190, 191, 5000], np.int32)
    return np.concatenate([edge.view(F32), small, counts.view(F32)])
