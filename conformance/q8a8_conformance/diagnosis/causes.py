"""The causes that the diagnosis names, as data: slug, arithmetic, and the sentence that mends it.

Mistakes, with their arithmetic and fixes, come from the catalogue, `q8a8_conformance.faults`.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from q8a8.recipe import RECIPES, Recipe
from q8a8_conformance.faults.catalogue import MUTANTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from q8a8_conformance.faults.kernel import Step

Array = NDArray[Any]

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


@dataclass(frozen=True)
class WrongProduct:
    """A mistake in the products of a dot product, under any order of adding them.

    Attributes
    ----------
    cause, fix
        Slug, and the sentence that mends it.
    detail
        Which form of the mistake.
    step, wrong
        The step that the mistake changes, ``products`` or ``scale_product``, and what takes its place.
    """

    cause: str
    fix: str
    detail: str
    step: str
    wrong: Step

    def apply(self, d: Array, qx: Array, qy: Array) -> tuple[Array, Array, Array]:
        """Return the inputs from which a correct kernel would compute the wrong result.

        Parameters
        ----------
        d
            Products of scales, float32 [rows, nb].
        qx, qy
            Codes, int8 [rows, nb, 32].
        """
        if self.step == "scale_product":
            with np.errstate(over="ignore"):
                return self.wrong(d, np.ones_like(d)), qx, qy
        # Whole products stand in for x, ones for y: at most 2^14, exact.
        return d, self.wrong(qx, qy).astype(np.int32), np.ones_like(qy)


def _wrong_products(step: str, slug: str) -> tuple[WrongProduct, ...]:
    """Return a mutant's forms; itself where it has only one."""
    mutant = MUTANTS[slug]
    forms = mutant.forms or {"": mutant.changes}
    return tuple(WrongProduct(slug, mutant.fix, form, step, of[step]) for form, of in forms.items())


WRONG_PRODUCTS: tuple[WrongProduct, ...] = (
    *_wrong_products("products", "minus-128-sign"),
    *_wrong_products("scale_product", "fp16-scale-product"),
)

_BARE = ("scalar", "scalar-fma")


def order_cause(name: str) -> str:
    """Return the slug of an order: the two scalar ones bare, the others as ``order:NAME``."""
    return name if name in _BARE else f"order:{name}"


FIXES: Mapping[str, str] = MappingProxyType(
    {
        **{q.cause: q.fix for q in QUANTIZATIONS if q.fix},
        **{w.cause: w.fix for w in WRONG_PRODUCTS},
        CRASH: "return from every legal call: the smallest one found that does not is shown",
    }
)
"""Every cause that is a mistake, with the sentence that mends it."""
