"""Mutants of the quantizers' arithmetic: rounding, inverse, zero test, d."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8.rounding import f16_to_f32
from q8a8_conformance.faults import steps
from q8a8_conformance.faults.kernel import ACTIVATION, ROW_REF
from q8a8_conformance.faults.mutant import Mutant

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

F32 = np.float32
INVERSE, ROUNDING, SCALE, ZERO, LOWEST = (f"Q8A8-QNT-{number}" for number in (3, 4, 2, 6, 5))
DIVIDE = "Compute the inverse as f32(127 / amax), one correctly rounded division."
ROUND = "Round halves away from zero: roundf, or vcvtaq_s32_f32."


def _of_inverse(to: float) -> Any:  # noqa: ANN401 - a step
    def step(amax: Array, d: Array, h: Array) -> Array:
        return np.nextafter(steps.inverse(amax, d, h), F32(to))

    return step


def _estimated(amax: Array, d: Array, h: Array) -> Array:
    """Take eight bits of 1/amax and refine them once, as vrecpeq_f32 and vrecpsq_f32 do."""
    del d, h
    estimate = ((F32(1) / amax).view(np.uint32) & np.uint32(0xFFFF8000)).view(F32)
    return F32(127) * (estimate * (F32(2) - amax * estimate))


def saturated(v: Array) -> Array:
    """Convert as x86 does: infinities and NaNs become INT32_MIN, and the pack saturates."""
    return np.where(np.isfinite(v), np.clip(np.nan_to_num(v), -128, 127), -128).astype(np.int8)


def _truncated_quotient(amax: Array, d: Array, h: Array) -> Array:
    """Divide towards zero."""
    nearest = steps.inverse(amax, d, h)
    above = nearest.astype(np.float64) * amax.astype(np.float64) > 127
    return np.where(above, np.nextafter(nearest, F32(0)), nearest)


def _at_most_eps(amax: Array) -> Array:
    return np.maximum(steps.scale(amax), F32(2.0**-23))


def _one_for_zero(x: Array, h: Array, q: Array) -> tuple[Array, Array]:
    """Store the scale 1 for all-zero blocks, by their bits: whether the caller flushes subnormals or not."""
    return np.where((np.abs(x).view(np.uint32) == 0).all(axis=1), np.float16(1), h), q


def _zero_keeps_sign(x: Array, h: Array, q: Array) -> tuple[Array, Array]:
    """Store -0 for a vanishing block whose first element is negative."""
    return np.where((h == 0) & np.signbit(x[:, :1]).any(axis=1), np.float16(-0.0), h), q


def _lowest(x: Array, h: Array, q: Array) -> tuple[Array, Array]:
    """Store -128 for the most negative elements."""
    return h, np.where((q == -127) & (x < 0), -128, q).astype(np.int8)


def _integer_half(d: Array) -> Array:
    """Store a float in an integer that is meant to hold the bits of a half."""
    return np.asarray(np.clip(np.nan_to_num(d), 0, 65535), np.uint16).view(np.float16)


MUTANTS = (
    Mutant(
        "round-half-even",
        "Halves are rounded to the even integer.",
        {"to_integer": np.rint},
        rule=ROUNDING,
        fix="Round halves away from zero: use roundf or vcvtaq_s32_f32, not rintf or vcvtnq_s32_f32; on x86 "
        "add copysign(c, v), c the float just below 0.5, and truncate.",
        seen="ggml, ggml-cpu/arch/arm/quants.c (vcvtnq_s32_f32) and arch/x86/quants.c (_mm256_round_ps)",
    ),
    Mutant(
        "round-half-up",
        "Halves are rounded towards plus infinity: floor(v + 0.5).",
        {"to_integer": lambda v: np.floor(v.astype(np.float64) + 0.5)},
        rule=ROUNDING,
        fix=ROUND,
    ),
    Mutant(
        "round-half-down",
        "Halves are rounded towards zero.",
        {"to_integer": lambda v: np.copysign(np.ceil(np.abs(v.astype(np.float64)) - 0.5), v)},
        rule=ROUNDING,
        fix=ROUND,
    ),
    Mutant(
        "round-add-half",
        "0.5 is added in float32 and the sum truncated, so 0.49999997 becomes 1.",
        {"to_integer": lambda v: np.trunc(v + np.copysign(F32(0.5), v))},
        rule=ROUNDING,
        fix="Add the float just below 0.5, not 0.5: f32(0.49999997 + 0.5) is 1.",
        seen="the classic faulty roundf: OpenJDK bug JDK-6430675 (Math.round of 0.49999999999999994 gave 1)",
    ),
    Mutant(
        "round-truncate",
        "Elements are truncated, not rounded: a C cast.",
        {"to_integer": np.trunc},
        rule=ROUNDING,
        fix="Round before the conversion; a cast and vcvtq_s32_f32 truncate.",
    ),
    Mutant(
        "round-floor",
        "Elements are rounded down.",
        {"to_integer": np.floor},
        rule=ROUNDING,
        fix=ROUND,
    ),
    Mutant(
        "product-in-double",
        "x · inv is formed in double and rounded to an integer from there, without the rounding to float32.",
        {"scaled": lambda x, inverse, _: x.astype(np.float64) * inverse.astype(np.float64)[:, np.newaxis],
         "to_integer": lambda v: np.trunc(v + np.copysign(0.5, v))},
        rule=ROUNDING,
        fix="Multiply in float32; a fused or a double product rounds near-ties the other way.",
    ),
    Mutant(
        "inverse-of-d",
        "Elements are multiplied by f32(1/d).",
        {"inverse": lambda _amax, d, _h: F32(1) / d},
        rule=INVERSE,
        fix=DIVIDE + " Not 1/d: d is rounded already.",
        seen="ggml, quantize_row_q8_0_ref in ggml-quants.c; gguf-py, gguf.quants.Q8_0",
    ),
    Mutant(
        "inverse-of-half",
        "Elements are multiplied by the inverse of the stored half.",
        {"inverse": lambda _amax, _d, h: F32(1) / f16_to_f32(h)},
        rule=INVERSE,
        fix=DIVIDE + " Not the inverse of the half.",
    ),
    Mutant(
        "division-by-d",
        "Elements are divided by d.",
        {"scaled": lambda x, inverse, d: np.where(inverse[:, np.newaxis] == 0, F32(0), x / d[:, np.newaxis])},
        rule=INVERSE,
        fix="Multiply by f32(127 / amax) instead of dividing by d.",
        seen="an early form of the Q8_A8 weight quantizer (errata, 6)",
    ),
    Mutant(
        "inverse-ulp-low",
        "The inverse is the float below the right one.",
        {"inverse": _of_inverse(0)},
        rule=INVERSE,
        fix=DIVIDE,
    ),
    Mutant(
        "inverse-ulp-high",
        "The inverse is the float above the right one.",
        {"inverse": _of_inverse(np.inf)},
        rule=INVERSE,
        fix=DIVIDE,
    ),
    Mutant(
        "inverse-truncated",
        "The quotient 127/amax is rounded towards zero.",
        {"inverse": _truncated_quotient},
        rule=INVERSE,
        fix=DIVIDE,
    ),
    Mutant(
        "inverse-estimated",
        "1/amax is an eight-bit estimate with one Newton step.",
        {"inverse": _estimated},
        rule=INVERSE,
        fix=DIVIDE + " vrecpeq_f32 and _mm_rcp_ps are estimates, and so is what -ffast-math makes.",
        seen="GCC and clang under -ffast-math or -mrecip turn divisions by a common divisor into this",
    ),
    Mutant(
        "inverse-in-two-steps",
        "The inverse is f32(127 · f32(1/amax)).",
        {"inverse": lambda amax, _d, _h: F32(127) * (F32(1) / amax)},
        rule=INVERSE,
        fix=DIVIDE + " 1/amax rounds once, the product again.",
        seen="compilers under -freciprocal-math",
    ),
    Mutant(
        "inverse-in-half",
        "The inverse is kept in half precision.",
        {"inverse": lambda amax, _d, _h: (F32(127) / amax).astype(np.float16).astype(F32)},
        rule=INVERSE,
        fix=DIVIDE + " It is no half.",
    ),
    Mutant(
        "inverse-in-double",
        "127/amax stays in double until it has been multiplied.",
        {"inverse": lambda amax, _d, _h: 127.0 / amax.astype(np.float64),
         "scaled": lambda x, inverse, _: (x.astype(np.float64) * inverse[:, np.newaxis]).astype(F32)},
        rule=INVERSE,
        fix="Round 127 / amax to float32 before multiplying.",
    ),
    Mutant(
        "zero-test-on-d",
        "The inverse is zero where d is, not where the stored half is.",
        {"vanishes": lambda _amax, d, _h: d == 0},
        rule=INVERSE,
        fix="Test the half: a block whose scale is stored as zero must be all zero.",
        seen="ggml, quantize_row_q8_0_ref: `id = d ? 1.0f/d : 0.0f`",
    ),
    Mutant(
        "zero-test-on-amax",
        "The inverse is zero where amax is, not where the stored half is.",
        {"vanishes": lambda amax, _d, _h: amax == 0},
        rule=INVERSE,
        fix="Test the half: a block whose scale is stored as zero must be all zero.",
        seen="ggml, ggml-cpu/arch/x86/quants.c: `maxScalar != 0.0f ? 127.f / maxScalar : 0.0f`",
    ),
    Mutant(
        "no-zero-test",
        "The inverse of an all-zero block is infinite, and what 0 · inf gives is packed with saturation.",
        {"vanishes": lambda _amax, _d, h: np.zeros_like(h, np.bool_), "to_int8": saturated},
        rule=ZERO,
        fix="Take inv = 0 where the stored half is zero.",
        seen="an early form of the Q8_A8 weight quantizer, which divides without a test (errata, 6)",
    ),
    Mutant(
        "zero-block-scale-one",
        "An all-zero block is stored with the scale 1.",
        {"finish": _one_for_zero},
        rule=ZERO,
        fix="Store the scale +0 for an all-zero block.",
    ),
    Mutant(
        "zero-scale-signed",
        "A vanishing block whose elements are negative gets the scale -0.",
        {"finish": _zero_keeps_sign},
        rule=ZERO,
        fix="Store +0: take the scale from magnitudes alone.",
    ),
    Mutant(
        "scale-floor",
        "d is at least 2^-23, against divisions by zero.",
        {"scale": _at_most_eps, "inverse": lambda _amax, d, _h: F32(1) / d},
        rule=ZERO,
        fix="Store f16(amax / 127), however small.",
        seen="torchao 0.18, prototype/smoothquant/core.py: scale = clamp(scale, min=finfo(float32).eps)",
    ),
    Mutant(
        "scale-reciprocal",
        "d is amax · f32(1/127).",
        {"scale": lambda amax: amax * F32(1 / 127)},
        rule=SCALE,
        fix="Divide by 127: the product with f32(1/127) is an ULP off now and then.",
        seen="GCC and clang under -ffast-math (-freciprocal-math) turn a division by a constant into this",
    ),
    Mutant(
        "scale-of-128",
        "d is amax / 128.",
        {"scale": lambda amax: amax / F32(128)},
        rule=SCALE,
        fix="Divide by 127.",
    ),
    Mutant(
        "scale-of-127-5",
        "d is amax / 127.5 and the inverse 127.5 / amax, clamped to int8.",
        {"scale": lambda amax: amax / F32(127.5), "inverse": lambda amax, _d, _h: F32(127.5) / amax,
         "to_int8": lambda v: np.clip(np.nan_to_num(v), -128, 127).astype(np.int8)},
        rule=SCALE,
        fix="Divide by 127, and scale by 127 / amax.",
        seen="torchao 0.18 (quant_primitives.py) and compressed-tensors 0.20 (calculate_qparams), symmetric "
        "int8: max |x| / ((127 + 128) / 2)",
    ),
    Mutant(
        "scale-through-bf16",
        "d is rounded to bfloat16 before it is stored.",
        {"scale": lambda amax: (steps.scale(amax).view(np.uint32) & np.uint32(0xFFFF0000)).view(F32)},
        rule=SCALE,
        fix="Keep d in float32 until it is stored as a half.",
    ),
    Mutant(
        "scale-as-integer",
        "The scale is assigned as a number to the integer that holds a half's bits.",
        {"to_half": _integer_half},
        (ACTIVATION,),
        rule=SCALE,
        fix="Convert d to a half and store its bits.",
        seen="the design's own listing, `*scale = amax / 127.0f` with ggml_half (errata, 1)",
    ),
    Mutant(
        "lowest-code",
        "The most negative element of a block becomes -128.",
        {"finish": _lowest},
        rule=LOWEST,
        fix="Keep codes in -127 .. 127.",
    ),
    Mutant(
        "ref-rounds-even",
        "quantize_row_q8_a8_ref rounds halves to even, quantize_row_q8_a8 does not.",
        {"to_integer": np.rint},
        (ROW_REF,),
        rule="Q8A8-QNT-8",
        fix="Let both functions share their arithmetic.",
        seen="ggml: quantize_row_q8_0_ref and quantize_row_q8_0 give different bytes on Arm and x86",
    ),
)  # fmt: skip
