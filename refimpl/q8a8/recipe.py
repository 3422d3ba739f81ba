"""The arithmetics of quantization: recipes as data, and the definition of what they compute (Q8A8-QNT).

For a block x of s float32 elements (s = 32, but for `quantize_activation`), `f32` and `f16` being one
rounding each, to nearest, ties to even::

    amax = max |x_j|                          Q8A8-QNT-1
    d    = f32(amax / 127)                    Q8A8-QNT-2
    h    = f16(d)                             the scale that is stored
    inv  = f32(127 / amax), 0 where h = 0     Q8A8-QNT-3   (recipe: inverse, zero test)
    q_j  = round(f32(x_j · inv))              Q8A8-QNT-4   (recipe: rounding, conversion)

That is the recipe `design`: the only one that conforms. Kernels in the field differ from it in four places
(Q8A8-QNT-13); `Recipe` has a field for each step, and `q8a8.recipe_steps` what can take the step's place::

    recipe      inverse     zero where   rounding    outside int8
    design      127/amax    h = 0        half away   (does not happen)
    ggml-ref    1/d         d = 0        half away   undefined
    ggml-neon   1/d         d = 0        half even   undefined
    ggml-avx2   127/amax    amax = 0     half even   saturates
    division    none: x/d   never        half away   undefined

Where a recipe's own arithmetic ends (`defined`), for finite x:

* `design` is total: the largest 127/amax, with h != 0, is below 2^25. |q_j| <= 127 (Q8A8-QNT-5), because
  |f32(x_j · inv)| <= 127 (1 + 2^-24)^2 < 127.5.
* `ggml-ref` and `ggml-neon`: for 0 < d <= 2^-128 (amax up to about 3.7e-37) 1/d is infinite, and x_j · inv an
  infinity, or 0 · inf = NaN, that no int8 can hold. Above that, |q_j| <= 127 holds as for `design`.
* `ggml-avx2`: below amax = 127 · 2^-128 the inverse is infinite as well, but the conversion is still
  defined: the processor turns infinities and NaNs into INT32_MIN, and the saturating pack that into -128.
* `division`: d = 0 (amax <= 63 · 2^-149) gives 0/0 or x/0. For a subnormal d, which may be far from
  amax/127, the quotient is undefined where it rounds to more than int8 holds (amax = 190 · 2^-149: d =
  2^-149, q = 190).

An infinite h (amax >= 65520 · 127) is a defined result of every recipe, and outside the domain of `design`
(Q8A8-QNT-11): that is the field `finite_scale`.

`apply_recipe` is these lines in plain NumPy. `q8a8.quantize.quantize_row` computes the same bits in chunks.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from q8a8.errors import DomainError, ShapeError, UnknownNameError, require_dtype
from q8a8.recipe_steps import (
    CONVERSIONS,
    DIVISIONS,
    HALVES,
    INVERSES,
    LARGEST,
    ROUNDINGS,
    SCALES,
    ZERO_TESTS,
)
from q8a8.rounding import HALF_OVERFLOW

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = [
    "RECIPES",
    "Recipe",
    "apply_recipe",
    "defined",
    "get_recipe",
    "quantize_blocks",
    "raise_domain_error",
]


@dataclass(frozen=True)
class Recipe:
    """One arithmetic of quantization: a step of each table of `q8a8.recipe_steps`, and some numbers.

    Parameters
    ----------
    name
        Its name in the suite and on the command line.
    inverse
        The factor of an element: "127/amax" or "1/d" (multiplied, each rounded to float32), or "x/d"
        (divided).
    zero_test
        The number that makes the inverse 0 where it is 0: the stored "half", the float32 "d", "amax", or
        "none".
    rounding
        "half-away" or "half-even".
    conversion
        The result for a rounded element outside int8: "undefined" (a C conversion), or "saturate" (x86:
        infinities and NaNs to -128).
    finite_scale
        Whether an infinite stored scale is outside the recipe's domain.
    source
        The software that quantizes so.
    amax, scale, half
        The steps before the inverse.
    divisor, multiplier
        The 127 of d and the 127 of the inverse.
    floor, ceiling
        The least d, and the greatest.
    infinite_from
        The least d that is stored as an infinity.
    product
        "float32", or "float64": the product is not rounded to float32.
    zero_scale
        The scale of a block without a nonzero element: "zero", "one", or "signed" (-0 where the first element
        is negative).
    inverse_limit
        The greatest inverse that a kernel multiplies by; infinite where it has none.
    code_limits
        The least and the greatest code; what lies outside becomes the nearer of them.
    """

    name: str
    inverse: str
    zero_test: str
    rounding: str
    conversion: str
    finite_scale: bool
    source: str
    amax: str = "magnitude"
    scale: str = "amax/n"
    half: str = "nearest-even"
    divisor: float = 127.0
    multiplier: float = 127.0
    floor: float = 0.0
    ceiling: float = np.inf
    infinite_from: float = HALF_OVERFLOW
    product: str = "float32"
    zero_scale: str = "zero"
    inverse_limit: float = np.inf
    code_limits: tuple[int, int] = (-128, 127)

    @property
    def is_plain(self) -> bool:
        """Whether only the four places of the specification's table (Q8A8-QNT-13) may differ from it."""
        return (
            self.inverse in ("127/amax", "1/d", "x/d")
            and self.zero_test in ("half", "d", "amax", "none")
            and self.rounding in ("half-away", "half-even")
            and self.conversion in ("undefined", "saturate")
            and all(getattr(self, field.name) == field.default for field in fields(self)[_PLACES:])
        )


_PLACES = 7
"""Fields of `Recipe` that every entry of the table gives."""


RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        recipe.name: recipe
        for recipe in (
            Recipe(
                name="design",
                inverse="127/amax",
                zero_test="half",
                rounding="half-away",
                conversion="undefined",
                finite_scale=True,
                source="this specification, Q8A8-QNT-1 to Q8A8-QNT-6",
            ),
            Recipe(
                name="ggml-ref",
                inverse="1/d",
                zero_test="d",
                rounding="half-away",
                conversion="undefined",
                finite_scale=False,
                source="ggml: quantize_row_q8_0_ref; gguf-py: gguf.quants.Q8_0",
            ),
            Recipe(
                name="ggml-neon",
                inverse="1/d",
                zero_test="d",
                rounding="half-even",
                conversion="undefined",
                finite_scale=False,
                source="ggml: quantize_row_q8_0 for Arm (vcvtnq_s32_f32)",
            ),
            Recipe(
                name="ggml-avx2",
                inverse="127/amax",
                zero_test="amax",
                rounding="half-even",
                conversion="saturate",
                finite_scale=False,
                source="ggml: quantize_row_q8_0 for x86 (AVX, AVX2; AVX-512 builds too)",
            ),
            Recipe(
                name="division",
                inverse="x/d",
                zero_test="none",
                rounding="half-away",
                conversion="undefined",
                finite_scale=False,
                source="an early form of the Q8_A8 weight quantizer",
            ),
        )
    }
)
"""Every recipe that the reference can follow, by name; `design` is the specification."""


def get_recipe(recipe: str | Recipe) -> Recipe:
    """Look a recipe up by name; a `Recipe` is returned as it is.

    Raises
    ------
    UnknownNameError
        listing the names.
    """
    if isinstance(recipe, Recipe):
        return recipe
    if recipe not in RECIPES:
        raise UnknownNameError("recipe", recipe, RECIPES)
    return RECIPES[recipe]


def apply_recipe(
    x: NDArray[np.float32], recipe: Recipe, amax: NDArray[np.float32] | None = None
) -> tuple[NDArray[np.float16], NDArray[np.int8], NDArray[np.bool_]]:
    """Quantize blocks by a recipe, in plain NumPy: the definition of every quantizer of this package.

    Parameters
    ----------
    x
        float32 `[..., s]`: blocks of s elements, any values.
    recipe
        The arithmetic.
    amax
        float32 `[...]`, for a kernel that takes other elements into account than the block's.

    Returns
    -------
    h, q, inside
        float16 `[...]`, int8 `[..., s]` and bool `[...]`: scales, integers, and whether the block lies in the
        recipe's domain. Outside it q is 0, and h has no meaning.
    """
    with np.errstate(all="ignore"):
        # Q8A8-QNT-1: amax = max |x_j|
        amax = LARGEST[recipe.amax](x) if amax is None else amax
        # Q8A8-QNT-2: d = f32(amax / 127), h = f16(d)
        d, h = scale_of(amax, recipe)
        # Q8A8-QNT-3: inv = f32(127 / amax), 0 where h = 0
        inv = INVERSES[recipe.inverse](amax, d, h, recipe.multiplier)
        if recipe.inverse_limit < np.inf and recipe.inverse not in DIVISIONS:
            inv = np.minimum(inv, np.float32(recipe.inverse_limit))
        zero = ZERO_TESTS[recipe.zero_test](amax, d, h)[..., np.newaxis]
        # Q8A8-QNT-4: q_j = round(f32(x_j · inv))
        if recipe.product == "float64":
            x, inv = x.astype(np.float64), inv.astype(np.float64)
        v = x / inv[..., np.newaxis] if recipe.inverse in DIVISIONS else x * inv[..., np.newaxis]
        if recipe.product == "float32":
            v = v.astype(np.float32)
        q = ROUNDINGS[recipe.rounding](np.where(zero, v.dtype.type(0), v))
        # Q8A8-QNT-11, Q8A8-QNT-13: where the recipe is defined, and its conversion to int8
        if recipe.code_limits != Recipe.code_limits:
            q = np.clip(q, *recipe.code_limits)
        inside = np.isfinite(h if recipe.finite_scale else amax)
        if recipe.conversion == "undefined":
            inside &= ((q >= -128) & (q <= 127)).all(axis=-1)
        q = CONVERSIONS[recipe.conversion](q, x)
        if recipe.zero_scale != "zero":
            h = _scale_of_zeros(x, h, recipe)
        return h, np.where(inside[..., np.newaxis], q, 0).astype(np.int8), np.asarray(inside)


def scale_of(amax: NDArray[np.float32], recipe: Recipe) -> tuple[NDArray[np.float32], NDArray[np.float16]]:
    """Return d and h of blocks: Q8A8-QNT-2, by a recipe.

    Parameters
    ----------
    amax
        float32 `[...]`.
    recipe
        The arithmetic.

    Returns
    -------
    d, h
        float32 and float16 `[...]`.
    """
    with np.errstate(all="ignore"):
        d = SCALES[recipe.scale](amax, recipe.divisor)
        d = np.minimum(np.maximum(d, np.float32(recipe.floor)), np.float32(recipe.ceiling))
        h = HALVES[recipe.half](d)
        return d, np.where(d >= recipe.infinite_from, np.float16(np.inf), h).astype(np.float16)


def _scale_of_zeros(x: NDArray[np.float32], h: NDArray[np.float16], recipe: Recipe) -> NDArray[np.float16]:
    """Return scales with those of vanishing blocks replaced."""
    if recipe.zero_scale == "one":
        return np.where((np.abs(x) == 0).all(axis=-1), np.float16(1), h).astype(np.float16)
    return np.where((h == 0) & np.signbit(x[..., :1]).any(axis=-1), np.float16(-0.0), h).astype(np.float16)


def quantize_blocks(
    x: NDArray[np.float32], recipe: str | Recipe = "design"
) -> tuple[NDArray[np.float16], NDArray[np.int8]]:
    """Quantize blocks of any one length: one scale for the last axis (Q8A8-QNT-9).

    Parameters
    ----------
    x
        float32 `[..., s]`.
    recipe
        The arithmetic, or its name.

    Returns
    -------
    h, q
        float16 `[...]` and int8 `[..., s]`.

    Raises
    ------
    DtypeError, ShapeError, UnknownNameError
        for another dtype, an array without axes, an unknown recipe.
    DomainError
        for a value outside the recipe's domain (`defined`), naming row, block, element and value.
    """
    recipe = get_recipe(recipe)
    x = _require_blocks(x)
    h, q, inside = apply_recipe(x, recipe)
    if not inside.all():
        flat = x.reshape(-1, x.shape[-1])
        raise_domain_error(flat, inside.reshape(-1), recipe, array="x", blocks=x.shape[:-1], first=0)
    return h, q


def defined(x: NDArray[np.float32], recipe: str | Recipe = "design") -> NDArray[np.bool_]:
    """Return for each block whether it lies in the recipe's domain (the module's text derives the limits).

    Parameters
    ----------
    x
        float32 `[..., s]`.
    recipe
        The arithmetic, or its name.

    Returns
    -------
    bool `[...]`.

    Raises
    ------
    DtypeError, ShapeError, UnknownNameError
        for another dtype, an array without axes, an unknown recipe.
    """
    recipe = get_recipe(recipe)
    _, _, inside = apply_recipe(_require_blocks(x), recipe)
    return inside


def _require_blocks(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Check that an array holds float32 blocks of any length."""
    x = np.asarray(x)
    require_dtype(x, np.float32, "x")
    if x.ndim == 0:
        raise ShapeError("x: a block has at least one axis; this array has none")
    return x


def raise_domain_error(
    x: NDArray[np.float32],
    inside: NDArray[np.bool_],
    recipe: Recipe,
    *,
    array: str,
    blocks: tuple[int, ...],
    first: int,
) -> NoReturn:
    """Raise the error for the first block outside the domain (Q8A8-QNT-12).

    Parameters
    ----------
    x, inside
        float32 `[n, s]` and bool `[n]`: blocks, and whether each lies in the recipe's domain.
    recipe
        The arithmetic that is not defined for them.
    array
        The name of the caller's parameter.
    blocks, first
        The shape `[..., nb]` of all blocks in the caller's array, and where in it, counted flat, x starts.

    Raises
    ------
    DomainError
        always.
    """
    index = int(np.argmin(inside))
    block = x[index]
    *row, number = np.unravel_index(first + index, blocks) if blocks else (0,)
    odd = ~np.isfinite(block)
    # The largest element decides, unless one of them is not finite.
    element = int(np.argmax(odd if odd.any() else np.abs(block)))
    value = float(block[element])
    if odd.any():
        reason = "only finite values can be quantized"
    elif recipe.finite_scale and abs(value) >= HALF_OVERFLOW * 127:
        limit = f"{HALF_OVERFLOW * 127:.0f} (= 65520 * 127)"
        reason = f"its block's scale would be infinite: magnitudes stay below {limit}"
    else:
        reason = f"recipe {recipe.name} is not defined for a block whose largest magnitude is that small"
    raise DomainError(
        reason, array=array, row=tuple(int(i) for i in row), block=int(number), element=element, value=value
    )
