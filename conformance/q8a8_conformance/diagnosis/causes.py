"""The causes that the diagnosis names, as data: slug, arithmetic, and the sentence that mends it.

Mistakes, with their arithmetic and fixes, come from the catalogue, `q8a8_conformance.faults`.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from q8a8.recipe import RECIPES, Recipe
from q8a8_conformance.faults.catalogue import MUTANTS

if TYPE_CHECKING:
    from collections.abc import Mapping

UNEXPLAINED = "unexplained"
"""The cause of results that no known arithmetic reproduces."""

CRASH = "does-not-return"
"""The cause of calls that crashed or hung."""


@dataclass(frozen=True)
class Quantization:
    """A way to quantize that differs from the specification: a recipe with the sentence that mends it."""

    cause: str
    recipe: Recipe
    fix: str


_RECIPE_FIXES: Mapping[str, str] = {
    "ggml-ref": "multiply by f32(127/amax), not by 1/d, and by 0 where the stored half is 0",
    "ggml-neon": (
        "multiply by f32(127/amax), not by 1/d, and round halves away from zero: vcvtaq_s32_f32, "
        "not vcvtnq_s32_f32"
    ),
    "ggml-avx2": (
        "round halves away from zero, not to even, and take the inverse as 0 where the stored half "
        "is 0, not only where amax is"
    ),
    "division": "multiply by f32(127/amax) instead of dividing by d, and by 0 where the stored half is 0",
}

QUANTIZATIONS: tuple[Quantization, ...] = (
    Quantization("recipe:design", RECIPES["design"], ""),
    *(Quantization(f"recipe:{name}", RECIPES[name], fix) for name, fix in _RECIPE_FIXES.items()),
    Quantization(
        "round-half-even",
        Recipe(
            name="round-half-even",
            inverse="127/amax",
            zero_test="half",
            rounding="half-even",
            conversion="undefined",
            finite_scale=True,
            source="the specification's arithmetic with rintf, vcvtnq_s32_f32 or cvtps_epi32 for roundf",
        ),
        MUTANTS["round-half-even"].fix,
    ),
)
"""The specification first, then what differs from it."""

DIFFERENCES: Mapping[str, str] = MappingProxyType(
    {
        "recipe:ggml-ref": "the specification's but for 1/d in place of 127/amax, 0 where d is 0",
        "recipe:ggml-neon": "the specification's but for 1/d, 0 where d is 0, and halves to even",
        "recipe:ggml-avx2": "the specification's but for halves to even, and 0 only where amax is",
        "recipe:division": "the specification's but for x/d in place of x * 127/amax, without a test for 0",
        "round-half-even": "the specification's but for halves to even",
    }
)
"""The smallest difference from the specification, by cause."""


_BARE = ("scalar", "scalar-fma")


def order_cause(name: str) -> str:
    """Return the slug of an order: the two scalar ones bare, the others as ``order:NAME``."""
    return name if name in _BARE else f"order:{name}"


FIXES: Mapping[str, str] = MappingProxyType(
    {
        **{q.cause: q.fix for q in QUANTIZATIONS if q.fix},
        CRASH: "return from every legal call: the smallest one found that does not is shown",
    }
)
"""Every cause that is a mistake, with the sentence that mends it."""
