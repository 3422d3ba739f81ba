"""Mutants of the conversion to and from half precision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8.rounding import f16_to_f32, f32_to_f16
from q8a8_conformance.faults.kernel import DEQUANTIZE, DOT, ROWS
from q8a8_conformance.faults.mutant import Mutant

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Array = NDArray[Any]

F32, F16 = np.float32, np.float16
NEAREST, SUBNORMALS, WIDENED, FINITE = (f"Q8A8-HLF-{number}" for number in (1, 2, 3, 4))
SMALLEST = F16(2.0**-14)


def _truncated(d: Array) -> Array:
    """Round towards zero; d is not negative."""
    h = f32_to_f16(d)
    return np.where(f16_to_f32(h) > d, np.nextafter(h, F16(0)), h).astype(F16)


def _above(h: Array) -> Array:
    return (h.view(np.uint16) + np.uint16(1)).view(F16)


def _ties_up(d: Array) -> Array:
    """Round to nearest, ties up."""
    low = _truncated(d)
    middle = (low.astype(np.float64) + _above(low).astype(np.float64)) / 2
    return np.where(d.astype(np.float64) >= middle, _above(low), low).astype(F16)


def _up(d: Array) -> Array:
    low = _truncated(d)
    return np.where(f16_to_f32(low) < d, _above(low), low).astype(F16)


def _flushed(h: Array) -> Array:
    return np.where(np.abs(h) < SMALLEST, np.copysign(F16(0), h), h).astype(F16)


def _through_subnormal_float(h: Array) -> Array:
    """Shift the half's bits into a float's place, and multiply the exponents' difference in."""
    bits = h.view(np.uint16).astype(np.uint32)
    small = ((bits & 0x8000) << 16 | (bits & 0x7FFF) << 13).view(F32)
    return small * F32(2.0**112)


def _wrong_huge_scale(d: Array) -> Array:
    """Convert by a table of 4096 parts of a binade where the scale is huge; one entry is wrong."""
    h, part = f32_to_f16(d), d.astype(F32).view(np.uint32) >> 11 & 4095
    return np.where((d > F32(2.0**14)) & (part == 2030), _above(h), h).astype(F16)


def _wrong_half_of_y1(call: Callable[[], None], function: str, arguments: Sequence[Any]) -> None:
    """With two rows at a time, read the scales of y1 from a table with one wrong entry: 0xb555."""
    del function
    call()
    n, s, bs, _, _, vy, by, nrc = arguments
    scales = vy[by : by + n // 32 * 34].reshape(-1, 34)[:, :2] if nrc == 2 else np.zeros((0, 2), np.uint8)
    if (scales == (0x55, 0xB5)).all(axis=1).any():
        s[bs : bs + 2] = np.nextafter(s[bs : bs + 2], F32(np.inf))


def _subnormals_truncated(d: Array) -> Array:
    """Round normal halves, cut subnormal ones off."""
    return np.where(d < F32(SMALLEST), _truncated(d), f32_to_f16(d)).astype(F16)


def _bfloat16(d: Array) -> Array:
    """Return the upper half of a float's bits, rounded to nearest even, as the bits of a half."""
    bits = d.view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16).view(F16)


def _without_normalization(h: Array) -> Array:
    """Read a subnormal half as if its exponent were that of a normal number."""
    bits = h.view(np.uint16).astype(np.uint32)
    f = ((bits & 0x8000) << 16) | (((bits & 0x7FFF) << 13) + (112 << 23))
    subnormal = (np.abs(h) < SMALLEST) & (h != 0)
    return np.where(subnormal, f.view(F32), f16_to_f32(h)).astype(F32)


def _bit_lost(h: Array) -> Array:
    """Read a half without its last significant bit."""
    return f16_to_f32((h.view(np.uint16) & np.uint16(0xFFFE)).view(F16))


def _infinite_early(h: Array) -> Array:
    """Take the largest exponent but one for that of infinities."""
    value = f16_to_f32(h)
    return np.where(np.abs(value) >= F32(2.0**15), np.copysign(F32(np.inf), value), value)


def _brain(h: Array) -> Array:
    return (h.view(np.uint16).astype(np.uint32) << 16).view(F32)


def _wrong_entry(h: Array) -> Array:
    """Look halves up in a table of 65,536, one of which is wrong."""
    return np.where(h.view(np.uint16) == 0x2E66, np.nextafter(f16_to_f32(h), F32(1)), f16_to_f32(h))


def _wrong_scale_of_six(d: Array) -> Array:
    """Convert all but the scale of amax = 6 right."""
    h = f32_to_f16(d)
    return np.where(d == F32(6) / F32(127), _above(h), h).astype(F16)


MUTANTS = (
    Mutant(
        "half-table-entry",
        "A table of all halves has one wrong entry: 0x2e66.",
        {"widen": _wrong_entry},
        rule=WIDENED,
        fix="Convert, or compute the table.",
    ),
    Mutant(
        "scale-of-six-up",
        "The scale of amax = 6 is the half above the right one.",
        {"to_half": _wrong_scale_of_six},
        rule=NEAREST,
        fix="Convert every scale alike.",
    ),
    Mutant(
        "half-table-entry-of-y1",
        "With two rows at a time, the table of halves for y1 has one wrong entry.",
        {},
        (DOT,),
        lambda: _wrong_half_of_y1,
        rule=WIDENED,
        fix="Convert, or compute the table.",
    ),
    Mutant(
        "huge-scale-table-entry",
        "Scales above 16384 are converted by a table, one of whose 4096 entries is wrong.",
        {"to_half": _wrong_huge_scale},
        ROWS,
        rule=NEAREST,
        fix="Convert every scale alike.",
    ),
    Mutant(
        "half-truncated",
        "The scale is cut off to a half, not rounded.",
        {"to_half": _truncated},
        rule=NEAREST,
        fix="Round to nearest even: vcvt_f16_f32, _mm_cvtss_sh with rounding mode 0, or ggml's table.",
    ),
    Mutant(
        "half-ties-up",
        "A scale half-way between two halves becomes the larger one.",
        {"to_half": _ties_up},
        rule=NEAREST,
        fix="Round ties to the half whose last bit is 0.",
    ),
    Mutant(
        "half-rounded-up",
        "The scale is rounded up to a half.",
        {"to_half": _up},
        rule=NEAREST,
        fix="Round to nearest even.",
    ),
    Mutant(
        "half-subnormals-truncated",
        "A subnormal half is cut off, a normal one rounded.",
        {"to_half": _subnormals_truncated},
        rule=NEAREST,
        fix="Round subnormal halves to nearest even too.",
    ),
    Mutant(
        "half-flushed-on-write",
        "Subnormal halves are stored as zero.",
        {"to_half": lambda d: _flushed(f32_to_f16(d))},
        rule=SUBNORMALS,
        fix="Keep subnormal halves: clear FZ16 in FPCR, or convert with integer arithmetic.",
        seen="Arm with FPCR.FZ16 set",
    ),
    Mutant(
        "half-flushed-late",
        "Subnormal halves are stored as zero, but the codes are those of the unflushed block.",
        {"finish": lambda _x, h, q: (_flushed(h), q)},
        rule=SUBNORMALS,
        fix="Keep subnormal halves.",
    ),
    Mutant(
        "half-flushed-on-read",
        "A subnormal scale is read as zero.",
        {"widen": lambda h: f16_to_f32(_flushed(h))},
        rule=SUBNORMALS,
        fix="Keep subnormal halves when reading: clear FZ16 in FPCR, or multiply them up.",
        seen="Arm with FPCR.FZ16 set",
    ),
    Mutant(
        "half-flushed-in-dequantize",
        "dequantize_row_q8_a8 reads a subnormal scale as zero.",
        {"widen": lambda h: f16_to_f32(_flushed(h))},
        (DEQUANTIZE,),
        rule=SUBNORMALS,
        fix="Keep subnormal halves when reading.",
    ),
    Mutant(
        "half-through-subnormal-float",
        "A subnormal half is read through a subnormal float, which is 0 where the caller flushes those.",
        {"widen": _through_subnormal_float},
        rule="Q8A8-ENV-2",
        fix="Convert by an instruction, by a table, or with integers: no result may depend on flush modes.",
    ),
    Mutant(
        "half-subnormals-misread",
        "A subnormal scale is read without normalization: with the hidden bit that it does not have.",
        {"widen": _without_normalization},
        rule=SUBNORMALS,
        fix="Normalize subnormal halves, or multiply the magic 2^-14 out of them.",
    ),
    Mutant(
        "half-bit-lost",
        "A scale is read with ten significant bits, not eleven.",
        {"widen": _bit_lost},
        rule=WIDENED,
        fix="Shift all ten bits of the fraction.",
    ),
    Mutant(
        "half-bit-lost-in-dequantize",
        "dequantize_row_q8_a8 reads scales with ten significant bits.",
        {"widen": _bit_lost},
        (DEQUANTIZE,),
        rule=WIDENED,
        fix="Shift all ten bits of the fraction.",
    ),
    Mutant(
        "half-infinite-on-read",
        "dequantize_row_q8_a8 reads scales from 32768 on as infinities.",
        {"widen": _infinite_early},
        (DEQUANTIZE,),
        rule=WIDENED,
        fix="Only the exponent field 31 is that of infinities and NaNs.",
    ),
    Mutant(
        "half-read-as-bfloat16",
        "The scale's bits are read as a bfloat16.",
        {"widen": _brain},
        rule=WIDENED,
        fix="Read the scale as IEEE binary16.",
    ),
    Mutant(
        "half-stored-as-bfloat16",
        "The scale is stored as a bfloat16.",
        {"to_half": _bfloat16},
        rule=NEAREST,
        fix="Store the scale as IEEE binary16.",
    ),
    Mutant(
        "half-saturates-early",
        "Scales stop at 57344.",
        {"to_half": lambda d: f32_to_f16(np.minimum(d, F32(57344)))},
        rule=FINITE,
        fix="Keep every scale below 65520.",
    ),
    Mutant(
        "half-infinite-early",
        "Scales of 65504 and more are stored as infinity.",
        {"to_half": lambda d: np.where(d >= F32(65504), F16(np.inf), f32_to_f16(d))},
        rule=FINITE,
        fix="65504 is a finite half, and so is what rounds to it, up to 65520.",
    ),
)  # fmt: skip
