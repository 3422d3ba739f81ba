"""Mutants of the floating-point part of the dot product: the scales' product, and the sum."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.faults import steps
from q8a8_conformance.faults.mutant import Mutant

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[Any]
    Rounding = Callable[[Any], Any]

F32 = np.float32
PRODUCT, ORDER, EXACT, EMPTY, SIGNS, BOUND = (
    *(f"Q8A8-DOT-{number}" for number in (2, 3, 4, 5, 8)),
    "Q8A8-ORD-2",
)


def _half(v: Any) -> Any:  # noqa: ANN401 - arrays and scalars
    return F32(np.float16(v)) if np.ndim(v) == 0 else v.astype(np.float16).astype(F32)


def _bfloat16(v: Any) -> Any:  # noqa: ANN401 - arrays and scalars
    return (np.asarray(v, F32).view(np.uint32) & np.uint32(0xFFFF0000)).view(F32)


def _tf32(v: Any) -> Any:  # noqa: ANN401 - arrays and scalars
    return (np.asarray(v, F32).view(np.uint32) & np.uint32(0xFFFFE000)).view(F32)


def _summed(term: Rounding, total: Rounding) -> Callable[[Array, Array, Array], Any]:
    """Add in order, with a rounding of each term and of each partial sum."""

    def step(products: Array, sums: Array, d: Array) -> Any:  # noqa: ANN401 - a NumPy scalar
        del products
        result = F32(0)
        for each in term(sums * d):
            result = total(result + each)
        return F32(result)

    return step


def _as_it_is(v: Any) -> Any:  # noqa: ANN401 - arrays and scalars
    return v


def _one_scale(products: Array, sums: Array, d: Array) -> Any:  # noqa: ANN401 - a NumPy scalar
    """Add the integers of the whole row, and scale once."""
    return steps.total(products, sums.sum(keepdims=True), d[:1]) if len(d) else F32(0)


def _next_up(products: Array, sums: Array, d: Array) -> Any:  # noqa: ANN401 - a NumPy scalar
    """Return the float after the right one, as a last multiplication by an approximate 1 does."""
    right = steps.total(products, sums, d)
    return np.nextafter(right, F32(np.inf) * np.sign(right)) if right else right


def _sentinel(dx: Array, dy: Array) -> Array:
    """Let nothing count from the first block on whose scale is zero."""
    d = steps.scale_product(dx, dy)
    return np.where(np.cumsum(d == 0) > 0, F32(0), d)


def _low_part_misscaled(products: Array, sums: Array, d: Array) -> Any:  # noqa: ANN401 - a NumPy scalar
    """Keep what each addition rounds off in a second float, and add it 2^24 times too large at the end."""
    del products
    high, low = 0.0, 0.0
    for each in (sums * d).astype(np.float64):
        total = float(F32(high + each))
        low += high + each - total
        high = total
    return F32(high + low * 2.0**24)


def _minus_zero(products: Array, sums: Array, d: Array) -> Any:  # noqa: ANN401 - a NumPy scalar
    """Start from -0, so that the sum of nothing is -0."""
    return steps.total(products, sums, d) if len(d) else F32(-0.0)


def _underflowing(dx: Array, dy: Array) -> Array:
    """Drop products of scales that are no normal halves."""
    d = steps.scale_product(dx, dy)
    return np.where(np.abs(d) < F32(2.0**-14), F32(0), d)


def _capped(dx: Array, dy: Array) -> Array:
    return np.clip(steps.scale_product(dx, dy), F32(-65504), F32(65504))


def _float_products(products: Array, sums: Array, d: Array) -> Any:  # noqa: ANN401 - a NumPy scalar
    """Dequantize, and add the 32 products of each block one by one."""
    del sums
    terms = products.astype(F32) * d[:, np.newaxis]
    return np.add.accumulate(np.append(F32(0), terms))[-1]


def _truncating(products: Array, sums: Array, d: Array) -> Any:  # noqa: ANN401 - a NumPy scalar
    """Round sums towards zero."""
    del products
    result = F32(0)
    for each in (sums * d).astype(np.float64):
        exact = float(result) + each
        result = F32(exact)
        if abs(result) > abs(exact):
            result = np.nextafter(result, F32(0))
    return result


KEEP = "Keep the product of the scales in float32, where it is exact."
ADD = "Add in float32."

MUTANTS = (
    Mutant(
        "fp16-scale-product",
        "The product of the scales is rounded to a half.",
        {"scale_product": lambda dx, dy: _half(steps.scale_product(dx, dy))},
        rule=PRODUCT,
        fix=KEEP + " Convert both scales before multiplying: vmul_f16 rounds.",
    ),
    Mutant(
        "bf16-scale-product",
        "The product of the scales is cut to a bfloat16.",
        {"scale_product": lambda dx, dy: _bfloat16(steps.scale_product(dx, dy))},
        rule=PRODUCT,
        fix=KEEP,
    ),
    Mutant(
        "scale-product-underflows",
        "Products of scales below 2^-14 become zero.",
        {"scale_product": _underflowing},
        rule=PRODUCT,
        fix=KEEP,
    ),
    Mutant(
        "scale-product-capped",
        "Products of scales stop at 65504.",
        {"scale_product": _capped},
        rule=PRODUCT,
        fix=KEEP,
    ),
    Mutant(
        "fp16-accumulator",
        "The running sum is kept in half precision.",
        {"total": _summed(_as_it_is, _half)},
        rule=BOUND,
        fix=ADD,
    ),
    Mutant(
        "bf16-accumulator",
        "The running sum is kept in bfloat16.",
        {"total": _summed(_as_it_is, _bfloat16)},
        rule=BOUND,
        fix=ADD,
    ),
    Mutant(
        "tf32-terms",
        "Each block's term is cut to ten bits after the point, as tensor cores' TF32 is.",
        {"total": _summed(_tf32, _as_it_is)},
        rule=BOUND,
        fix="Multiply and add in float32: TF32 has 11 significant bits.",
    ),
    Mutant(
        "fp16-terms",
        "Each block's term is rounded to a half before it is added.",
        {"total": _summed(_half, _as_it_is)},
        rule=BOUND,
        fix=ADD,
    ),
    Mutant(
        "float-products",
        "Both rows are dequantized, and the 32 products of a block are added one by one.",
        {"total": _float_products},
        rule=BOUND,
        fix="Add the products of a block in integers, and scale their sum: one rounding a block.",
    ),
    Mutant(
        "truncating-accumulator",
        "Sums are rounded towards zero.",
        {"total": _truncating},
        rule=BOUND,
        fix="Add with rounding to nearest.",
    ),
    Mutant(
        "low-part-misscaled",
        "What the additions round off is kept in a second float, and added 2^24 times too large.",
        {"total": _low_part_misscaled},
        rule=BOUND,
        fix="Add the two floats in one unit.",
    ),
    Mutant(
        "x-scale-twice",
        "x's scale is used for y too.",
        {"scale_product": lambda dx, _dy: dx * dx},
        rule=ORDER,
        fix="Multiply x's scale by y's.",
    ),
    Mutant(
        "y-scale-unused",
        "y's scale is not used.",
        {"scale_product": lambda dx, _dy: dx},
        rule=ORDER,
        fix="Multiply x's scale by y's.",
    ),
    Mutant(
        "first-scale-for-all",
        "The scales of the first block are used for all.",
        {"total": _one_scale},
        rule=ORDER,
        fix="Scale each block's sum by its own scales.",
    ),
    Mutant(
        "scale-of-next-block",
        "x's codes meet the scale of the next block.",
        {"scale_product": lambda dx, dy: np.roll(dx, -1) * dy},
        rule=ORDER,
        fix="Scale each block's sum by its own scales.",
    ),
    Mutant(
        "result-one-up",
        "The result is the float after the right one.",
        {"total": _next_up},
        rule=EXACT,
        fix="Do nothing to the sum that rounds where nothing needs rounding.",
    ),
    Mutant(
        "negative-scales-lost",
        "The sign of the scales is lost.",
        {"scale_product": lambda dx, dy: np.abs(steps.scale_product(dx, dy))},
        rule=SIGNS,
        fix="Keep the scales' signs: no quantizer makes a negative one, but it is legal.",
    ),
    Mutant(
        "negative-scales-clamped",
        "Negative scales are read as zero.",
        {"widen": lambda h: np.maximum(steps.widen(h), 0)},
        ("ggml_vec_dot_q8_a8_q8_a8", "ggml_vec_dot_q8_a8_q8_a8_real"),
        rule=SIGNS,
        fix="Keep the scales' signs: no quantizer makes a negative one, but it is legal.",
    ),
    Mutant(
        "zero-scale-ends-row",
        "A block whose scale is zero ends the row.",
        {"scale_product": _sentinel},
        rule=SIGNS,
        fix="A zero scale is an ordinary one: skip the block if you must, not what follows.",
    ),
    Mutant(
        "empty-minus-zero",
        "The sum of no blocks is -0.",
        {"total": _minus_zero},
        ("ggml_vec_dot_q8_a8_q8_a8",),
        rule=EMPTY,
        fix="Start from +0.",
    ),
)  # fmt: skip
