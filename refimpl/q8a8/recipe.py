"""The arithmetics of quantization: recipes as data, and the one interpreter of them (Q8A8-QNT).

For a block x of s float32 elements (s = 32, but for `quantize_activation`), `f32` and `f16` being one
rounding each, to nearest, ties to even::

    amax = max |x_j|                          Q8A8-QNT-1
    d    = f32(amax / 127)                    Q8A8-QNT-2
    h    = f16(d)                             the scale that is stored
    inv  = f32(127 / amax), 0 where h = 0     Q8A8-QNT-3   (recipe: inverse, zero test)
    q_j  = round(f32(x_j · inv))              Q8A8-QNT-4   (recipe: rounding, conversion)

That is the recipe `design`: the only one that conforms. Kernels in the field differ from it in four places,
and a `Recipe` says in which (Q8A8-QNT-13)::

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
* `ggml-avx2`: below amax = 127 · 2^-128 the inverse is infinite just so, but the conversion is still
  defined: the processor turns infinities and NaNs into INT32_MIN, and the saturating pack that into -128.
* `division`: d = 0 (amax <= 63 · 2^-149) gives 0/0 or x/0. For a subnormal d, which may be far from
  amax/127, the quotient is undefined where it rounds to more than int8 holds (amax = 190 · 2^-149: d =
  2^-149, q = 190).

An infinite h (amax >= 65520 · 127) is a defined result of every recipe, and outside the domain of `design`
(Q8A8-QNT-11): `finite_scale` says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NoReturn

import numpy as np

from q8a8.errors import DomainError, ShapeError, UnknownNameError, require_dtype
from q8a8.rounding import HALF_OVERFLOW, f32_to_f16, round_half_away_in_place

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["RECIPES", "Recipe", "Scratch", "defined", "get_recipe", "quantize_blocks", "refuse", "run"]

SMALLEST_NORMAL = np.finfo(np.float32).smallest_normal


@dataclass(frozen=True)
class Recipe:
    """One arithmetic of quantization.

    Parameters
    ----------
    name
        What the suite and the command line call it.
    inverse
        What an element is scaled by: "127/amax" or "1/d" (multiplied, each rounded to float32), or "x/d"
        (divided).
    zero_test
        Which number decides that the inverse is 0: the stored "half", the float32 "d", "amax", or "none".
    rounding
        "half-away" or "half-even".
    conversion
        What becomes of a rounded element that int8 cannot hold: "undefined" (a C conversion), or "saturate"
        (x86: infinities and NaNs to -128).
    finite_scale
        Whether an infinite stored scale is outside the recipe's domain.
    source
        Who does it.
    """

    name: str
    inverse: Literal["127/amax", "1/d", "x/d"]
    zero_test: Literal["half", "d", "amax", "none"]
    rounding: Literal["half-away", "half-even"]
    conversion: Literal["undefined", "saturate"]
    finite_scale: bool
    source: str


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


class Scratch:
    """Working memory of the interpreter for up to `blocks` blocks of `size` elements: 8 bytes an element."""

    def __init__(self, blocks: int, size: int) -> None:
        self.work = np.empty((blocks, size), np.float32)
        self.offset = np.empty((blocks, size), np.float32)
        self.amax = np.empty(blocks, np.float32)
        self.scale = np.empty(blocks, np.float32)
        self.inverse = np.empty(blocks, np.float32)


def run(
    x: NDArray[np.float32], recipe: Recipe, h: NDArray[np.float16], q: NDArray[np.int8], scratch: Scratch
) -> NDArray[np.bool_] | None:
    """Quantize blocks: the interpreter of every recipe, in place and without an allocation an element.

    Parameters
    ----------
    x
        float32 `[n, s]`, any strides.
    recipe
        The arithmetic.
    h, q
        float16 `[n]` and int8 `[n, s]`, any strides: where the result goes.
    scratch
        Working memory for at least n blocks of s elements; what it holds afterwards is of no use.

    Returns
    -------
    None where every block lies in the recipe's domain; otherwise bool `[n]`, True where it does. What `h` and
    `q` hold for the other blocks has no meaning.
    """
    n = len(x)
    work, offset = scratch.work[:n], scratch.offset[:n]
    amax, d, inv = scratch.amax[:n], scratch.scale[:n], scratch.inverse[:n]
    with np.errstate(all="ignore"):
        # Q8A8-QNT-1: amax = max |x_j|.
        np.abs(x, out=work)
        _block_max(work, offset, amax)
        # Q8A8-QNT-2: d = f32(amax / 127), h = f16(d).
        np.divide(amax, np.float32(127), out=d)
        half = f32_to_f16(d)
        h[...] = half
        # Q8A8-QNT-3: inv, zero where the recipe's test says so.
        if recipe.inverse == "127/amax":
            np.divide(np.float32(127), amax, out=inv)
        else:
            np.divide(np.float32(1), d, out=inv)
        if recipe.zero_test != "none":
            # (A stored half is never negative: it is zero where its bits are.)
            tested = {"half": half.view(np.uint16), "d": d, "amax": amax}[recipe.zero_test]
            inv[tested == 0] = 0
        # Q8A8-QNT-4: q_j = round(f32(x_j · inv)).
        if recipe.inverse == "x/d":
            np.divide(x, d[:, None], out=work)
        else:
            np.multiply(x, inv[:, None], out=work)
        if recipe.rounding == "half-away":
            round_half_away_in_place(work, offset)
        else:
            np.rint(work, out=work)
        domain = _judge(recipe, amax, d, work)
        np.copyto(q, work, casting="unsafe")
    return None if domain.all() else domain


def _block_max(
    magnitudes: NDArray[np.float32], scratch: NDArray[np.float32], largest: NDArray[np.float32]
) -> None:
    """Find the largest of each row's magnitudes; a NaN among them makes a NaN of it.

    Magnitudes are compared as unsigned integers: without the sign bit, float32 patterns order like the
    numbers, and the NaNs come last. Neighbours are folded while the rows have an even length, 32 to 16 to 8
    to 4 to 2 to 1, in long loops over all rows at once, which takes a third of the time of one short loop a
    row.

    Parameters
    ----------
    magnitudes, scratch
        float32 `[n, s]`, overwritten.
    largest
        float32 `[n]`, for the result; +0 where s = 0.
    """
    length = magnitudes.shape[1]
    source, target = magnitudes.reshape(-1).view(np.uint32), scratch.reshape(-1).view(np.uint32)
    while length and length % 2 == 0:
        folded = target[: source.size // 2]
        np.maximum(source[0::2], source[1::2], out=folded)
        source, target = folded, source
        length //= 2
    if length == 1:
        largest.view(np.uint32)[...] = source
    else:
        np.max(source.reshape(len(largest), length), axis=1, out=largest.view(np.uint32), initial=0)


def _judge(
    recipe: Recipe,
    amax: NDArray[np.float32],
    d: NDArray[np.float32],
    rounded: NDArray[np.float32],
) -> NDArray[np.bool_]:
    """Say which blocks lie in the recipe's domain, and saturate those that a recipe saturates.

    With a normal d every recipe stays below 127 (1 + 2^-23)^3 < 127.5 in magnitude and no element needs a
    look; that leaves the blocks of subnormal or zero d.
    """
    # f16(d) is finite where d < 65520; the comparison is false for NaNs.
    domain = d < HALF_OVERFLOW if recipe.finite_scale else np.isfinite(amax)
    tiny = np.flatnonzero(d < SMALLEST_NORMAL)
    if tiny.size:
        values = rounded[tiny]
        if recipe.conversion == "saturate":
            rounded[tiny] = np.where(np.isfinite(values), np.clip(values, -128, 127), np.float32(-128))
        else:
            domain[tiny] &= ((values >= -128) & (values <= 127)).all(axis=1)
    return domain


def refuse(
    x: NDArray[np.float32],
    domain: NDArray[np.bool_],
    recipe: Recipe,
    *,
    array: str,
    blocks: tuple[int, ...],
    first: int,
) -> NoReturn:
    """Raise the error for the first block outside the domain (Q8A8-QNT-12).

    Parameters
    ----------
    x, domain
        The blocks `[n, s]` and `run`'s answer for them `[n]`.
    recipe
        The arithmetic that does not take them.
    array
        What the caller's parameter is called.
    blocks, first
        The shape `[..., nb]` of all blocks in the caller's array, and where in it, counted flat, x starts.

    Raises
    ------
    DomainError
        always.
    """
    index = int(np.argmin(domain))
    block = x[index]
    *row, number = np.unravel_index(first + index, blocks) if blocks else (0,)
    odd = ~np.isfinite(block)
    # The block's fate hangs on its largest element, unless one of them is no number at all.
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


def _run_all(
    x: NDArray[np.float32], recipe: Recipe
) -> tuple[NDArray[np.float32], NDArray[np.float16], NDArray[np.int8], NDArray[np.bool_] | None]:
    """Run the interpreter on blocks of any leading shape, with scratch of their size."""
    require_dtype(x, np.float32, "x")
    if x.ndim == 0:
        raise ShapeError("x: a block has at least one axis; this array has none")
    flat = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    h = np.empty(len(flat), np.float16)
    q = np.empty(flat.shape, np.int8)
    return flat, h, q, run(flat, recipe, h, q, Scratch(*flat.shape))


def quantize_blocks(
    x: NDArray[np.float32], recipe: str | Recipe = "design"
) -> tuple[NDArray[np.float16], NDArray[np.int8]]:
    """Quantize blocks of any one length: one scale for the last axis.

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
    x, recipe = np.asarray(x), get_recipe(recipe)
    flat, h, q, domain = _run_all(x, recipe)
    if domain is not None:
        refuse(flat, domain, recipe, array="x", blocks=x.shape[:-1], first=0)
    return h.reshape(x.shape[:-1]), q.reshape(x.shape)


def defined(x: NDArray[np.float32], recipe: str | Recipe = "design") -> NDArray[np.bool_]:
    """Say for each block whether it lies in the recipe's domain (the module's text derives the limits).

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
    x = np.asarray(x)
    flat, _, _, domain = _run_all(x, get_recipe(recipe))
    return (np.ones(len(flat), np.bool_) if domain is None else domain).reshape(x.shape[:-1])
