"""Mutants of the integer part of the dot product: saturation, signs, narrow sums, lanes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.faults import steps
from q8a8_conformance.faults.mutant import Mutant

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[Any]

F32 = np.float32
INTEGER = "Q8A8-DOT-1"


def _pairs(products: Array, convert: Callable[[Array], Array]) -> Array:
    """Add neighbours and convert the sums; each stands in its pair's first place."""
    out = np.zeros_like(products)
    out[:, ::2] = convert(products[:, ::2] + products[:, 1::2])
    return out


def _saturate16(sums: Array) -> Array:
    return np.clip(sums, -(2**15), 2**15 - 1)


def _wrap16(sums: Array) -> Array:
    return sums.astype(np.int16).astype(np.int64)


def _sign_trick(qx: Array, qy: Array) -> Array:
    """Multiply |x| by y with the sign of x, negated in int8: -(-128) is -128."""
    signed = np.where(qx < 0, (-qy.astype(np.int64)).astype(np.int8), np.where(qx == 0, 0, qy))
    return np.abs(qx.astype(np.int64)) * signed.astype(np.int64)


def _absolute8(qx: Array, qy: Array) -> Array:
    """Multiply magnitudes taken in int8, |-128| = -128, and put the sign back."""
    sizes = [np.where(q < 0, (-q.astype(np.int64)).astype(np.int8), q).astype(np.int64) for q in (qx, qy)]
    return np.asarray(sizes[0] * sizes[1] * np.sign(qx.astype(np.int64)) * np.sign(qy.astype(np.int64)))


def _offset_saturates(qx: Array, qy: Array) -> Array:
    """Multiply x + 128 by y, add pairs with saturation, and take 128 y off again."""
    wide = qy.astype(np.int64)
    pairs = _pairs((qx.astype(np.int64) + 128) * wide, _saturate16)
    return pairs - 128 * wide


def _clamped(q: Array) -> Array:
    return np.maximum(q, -127)


def _swapped(step: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    """Exchange the operands of a multiplication."""
    return lambda qx, qy: step(qy, qx)


def _without(*lanes: int) -> Callable[[Array, Array], Array]:
    def step(qx: Array, qy: Array) -> Array:
        products = steps.products(qx, qy)
        products[:, list(lanes)] = 0
        return products

    return step


def _order_of_y(order: Array) -> Callable[[Array, Array], Array]:
    def step(qx: Array, qy: Array) -> Array:
        return steps.products(qx, qy[:, order])

    return step


def _wrong_entry(qx: Array, qy: Array) -> Array:
    """Look products up in a table of 65,536, one of which is wrong."""
    return np.asarray(steps.products(qx, qy) + ((qx == -77) & (qy == 113)))


MUTANTS = (
    Mutant(
        "product-table-entry",
        "A table of all products of two codes has one wrong entry: (-77) · 113.",
        {"products": _wrong_entry},
        rule=INTEGER,
        fix="Multiply, or compute the table.",
    ),
    Mutant(
        "minus-128-sign",
        "|x| is multiplied by y with x's sign, and -128 negated in int8 stays -128.",
        {"products": _sign_trick},
        rule=INTEGER,
        fix="Widen to int16 and use _mm256_madd_epi16, or a signed dot product instruction: _mm256_sign_epi8 "
        "negates -128 to -128.",
        forms={
            "a code of y": {"products": _sign_trick},
            "a code of x": {"products": _swapped(_sign_trick)},
        },
        seen="ggml, ggml-cpu/arch/x86/quants.c: mul_sum_i8_pairs_float with _mm256_sign_epi8",
    ),
    Mutant(
        "minus-128-absolute",
        "Magnitudes are taken in int8, where |-128| is -128.",
        {"products": _absolute8},
        rule=INTEGER,
        fix="Take magnitudes as unsigned, or multiply signed.",
    ),
    Mutant(
        "minus-128-clamped",
        "-128 is read as -127.",
        {"products": lambda qx, qy: steps.products(_clamped(qx), _clamped(qy))},
        rule=INTEGER,
        fix="Take every int8 as it is.",
        forms={
            "a code of x": {"products": lambda qx, qy: steps.products(_clamped(qx), qy)},
            "a code of y": {"products": lambda qx, qy: steps.products(qx, _clamped(qy))},
        },
    ),
    Mutant(
        "pairs-saturate",
        "Pairs of products are added in int16 with saturation.",
        {"products": lambda qx, qy: _pairs(steps.products(qx, qy), _saturate16)},
        rule=INTEGER,
        fix="2 · (-128)² is 32768: add pairs in int32.",
    ),
    Mutant(
        "pairs-wrap",
        "Pairs of products are added in int16 and wrap around.",
        {"products": lambda qx, qy: _pairs(steps.products(qx, qy), _wrap16)},
        rule=INTEGER,
        fix="2 · (-128)² is 32768: add pairs in int32, vpadalq_s16 on vmull_s8's single products.",
    ),
    Mutant(
        "maddubs-offset",
        "x + 128 is multiplied unsigned, and the pair sums saturate.",
        {"products": _offset_saturates},
        rule=INTEGER,
        fix="255 · 127 · 2 does not fit in int16: widen before adding, or use VNNI's vpdpbusd.",
        seen="oneDNN without VNNI: its s8/s8 GEMM leaves it to the user, its convolution halves the weights "
        "(doc/advanced/int8_computations.md)",
    ),
    Mutant(
        "offset-uncorrected",
        "x + 128 is multiplied unsigned, and 128 Σ y is not taken off.",
        {"products": lambda qx, qy: (qx.astype(np.int64) + 128) * qy},
        rule=INTEGER,
        fix="Take 128 · Σ y off, or use a signed by signed instruction.",
    ),
    Mutant(
        "codes-unsigned",
        "x's codes are read as unsigned.",
        {"products": lambda qx, qy: qx.view(np.uint8).astype(np.int64) * qy},
        rule=INTEGER,
        fix="Codes are int8; a plain char is unsigned on Arm.",
        seen="C's char: signed on x86, unsigned on Arm",
    ),
    Mutant(
        "products-in-int8",
        "Products are kept in int8.",
        {"products": lambda qx, qy: steps.products(qx, qy).astype(np.int8).astype(np.int64)},
        rule=INTEGER,
        fix="Widen: vmull_s8, not vmulq_s8.",
    ),
    Mutant(
        "block-in-int16",
        "A block's sum is kept in int16 and wraps around.",
        {"block_sum": lambda products: _wrap16(products.sum(axis=1)).astype(F32)},
        rule=INTEGER,
        fix="Add in int32: a block's sum reaches 2^19.",
    ),
    Mutant(
        "block-saturates",
        "A block's sum is kept in int16 with saturation.",
        {"block_sum": lambda products: _saturate16(products.sum(axis=1)).astype(F32)},
        rule=INTEGER,
        fix="Add in int32: a block's sum reaches 2^19.",
    ),
    Mutant(
        "block-in-half",
        "A block's sum is converted to a half.",
        {"block_sum": lambda products: products.sum(axis=1).astype(np.float16).astype(F32)},
        rule=INTEGER,
        fix="Convert the int32 sum to float32; a half has 11 bits and ends at 65504.",
    ),
    Mutant(
        "lane-lost",
        "The last element of each block is left out.",
        {"products": _without(31)},
        rule=INTEGER,
        fix="Add all 32 products.",
    ),
    Mutant(
        "upper-half-lost",
        "The upper sixteen elements of each block are left out.",
        {"products": _without(*range(16, 32))},
        rule=INTEGER,
        fix="Add both vectors of a block.",
    ),
    Mutant(
        "quarters-exchanged",
        "The second and the third quarter of y's codes change places.",
        {"products": _order_of_y(np.r_[0:8, 16:24, 8:16, 24:32])},
        rule=INTEGER,
        fix="Pair element j of x with element j of y: 256-bit unpack and pack work within 128-bit lanes.",
    ),
    Mutant(
        "neighbours-exchanged",
        "Neighbouring codes of y change places.",
        {"products": _order_of_y(np.arange(32).reshape(16, 2)[:, ::-1].reshape(-1))},
        rule=INTEGER,
        fix="Pair element j of x with element j of y.",
    ),
)  # fmt: skip
