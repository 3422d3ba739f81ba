"""The known causes as data: what each is called, what it does to the arithmetic, and how to mend it."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from q8a8.recipe import RECIPES, Recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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
        "halves are rounded to even: use roundf or vcvtaq_s32_f32, not rintf or vcvtnq_s32_f32",
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
    apply
        Turns ``d`` float32 [rows, nb] and ``qx``, ``qy`` int8 [rows, nb, 32] into those that a correct kernel
        would need to get the wrong result.
    """

    cause: str
    fix: str
    detail: str
    apply: Callable[[Array, Array, Array], tuple[Array, Array, Array]]


def half_scale_product(d: Array, qx: Array, qy: Array) -> tuple[Array, Array, Array]:
    """Round dx · dy to f16, as a product of two halves does."""
    with np.errstate(over="ignore"):
        return d.astype(np.float16).astype(np.float32), qx, qy


def sign_trick(d: Array, qx: Array, qy: Array) -> tuple[Array, Array, Array]:
    """Multiply |x| by y with x's sign, as _mm256_sign_epi8 gives it: -(-128) is -128 in int8.

    |x| is taken as unsigned, so x = -128 is 128 and right; but y = -128 under a negative x stays -128, and
    the product has the wrong sign.
    """
    products = qx.astype(np.int32) * qy
    wrong = (qx < 0) & (qy == -128)
    # Whole products stand in for x, ones for y: at most 2^14, exact.
    return d, np.where(wrong, -products, products), np.ones_like(qy)


def sign_trick_swapped(d: Array, qx: Array, qy: Array) -> tuple[Array, Array, Array]:
    """Multiply |y| by x with y's sign: :func:`sign_trick` with the operands exchanged."""
    return sign_trick(d, qy, qx)


_SIGN_FIX = (
    "-128 loses its sign where the other factor is negative (_mm256_sign_epi8 cannot negate it): widen to "
    "int16 and use _mm256_madd_epi16, or a signed dot product instruction"
)

WRONG_PRODUCTS: tuple[WrongProduct, ...] = (
    WrongProduct("minus-128-sign", _SIGN_FIX, "a code of y", sign_trick),
    WrongProduct("minus-128-sign", _SIGN_FIX, "a code of x", sign_trick_swapped),
    WrongProduct(
        "fp16-scale-product",
        "the product of the two scales is rounded to f16: convert each scale to f32 before multiplying",
        "",
        half_scale_product,
    ),
)

_BARE = ("scalar", "scalar-fma")


def order_cause(name: str) -> str:
    """Give the slug of an order: the two scalar ones bare, the others as ``order:NAME``."""
    return name if name in _BARE else f"order:{name}"


FIXES: Mapping[str, str] = MappingProxyType(
    {
        **{q.cause: q.fix for q in QUANTIZATIONS if q.fix},
        **{w.cause: w.fix for w in WRONG_PRODUCTS},
        CRASH: "return from every legal call: the smallest one found that does not is shown",
    }
)
"""Every cause that is a mistake, with the sentence that mends it."""
