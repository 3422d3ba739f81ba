"""Forms of dequantization in which a scale or a product has fewer bits, whatever rounds them.

Formats of floats and of fixed point are tried in any number of bits, and with every rounding: so a slip in a
rounding is one form, and not a right rounding with exceptions. What such a form gives shows in most elements,
so that a few of them decide which forms are compared with all.
"""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.diagnosis.dequantizers.model import F32, Form, of_read
from q8a8_conformance.diagnosis.dequantizers.offsets import offset_forms
from q8a8_conformance.reveal.grids import away, significant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from q8a8_conformance.inputs.arrays import Array

    Change = Callable[..., Any]

F64 = np.float64

FORMATS = {8: " (bfloat16)"}
"""Formats by their significant bits, in words."""

LARGEST = F32(65504)
"""The largest half."""


def _toward(v: Array) -> Array:
    return np.asarray(np.copysign(np.ceil(np.abs(v) - 0.5), v))


ROUNDINGS: tuple[tuple[str, Change], ...] = (
    ("rounded", np.rint),
    ("cut off", np.trunc),
    ("rounded down", np.floor),
    ("rounded up", np.ceil),
    ("rounded, halves away from zero,", away),
    ("rounded, halves toward zero,", _toward),
    ("rounded away from zero", lambda v: np.copysign(np.ceil(np.abs(v)), v)),
)
"""How numbers of more bits become integers, in words."""

HALVES_UP = "rounded, halves up,", lambda v: np.floor(v.astype(F32) + F32(0.5))
"""How they do in fixed point besides."""

SPLIT: tuple[tuple[str, Change], ...] = (
    ("low four bits", lambda v: v % 16),
    ("low four bits, signed,", lambda v: (v + 8) % 16 - 8),
)
"""Parts of a code that are multiplied by themselves, and so is the rest."""


@cache
def narrow_forms() -> tuple[Form, ...]:
    """Return the forms, those of the fewest numbers first."""
    scales = narrowed("the scale", 10, (8, 10, 12, 14, 15, 16, 20))
    products = (
        *(
            (what, lambda _d, _v, y, change=change: change(y))
            for what, change in (*halves("the product"), *_products())
        ),
        *_in_parts(),
        *_of_integers(),
    )
    return (
        *(Form("scale", "scale-read", what, partial(_scale, change)) for what, change in scales),
        *(Form("product", "product", what, of_read("product", change)) for what, change in products),
        *offset_forms(),
    )


def _scale(change: Change, _read: object, d: Array) -> Array:
    return np.asarray(change(d))


def _products() -> Iterator[tuple[str, Change]]:
    for what, change in narrowed("the product", 23, (0, 8, 10, 14, 15, 16, 20, 24)):
        yield what, change
        if " multiple of " in what or what.endswith(" integer"):
            yield f"{what}, a zero being +0", lambda y, change=change: change(y) + F32(0)


def narrowed(noun: str, most: int, multiples: tuple[int, ...]) -> Iterator[tuple[str, Change]]:
    """Yield numbers that are rounded to so many significant bits or fewer, or to multiples of 2^-k: float32.

    Their words begin with a noun.
    """
    for how, change in ROUNDINGS:
        for bits in range(most, 0, -1):
            what = f"{noun} is {how} to {bits} significant bit{'s' * (bits > 1)}{FORMATS.get(bits, '')}"
            yield what, lambda v, bits=bits, how=change: significant(v, bits, how).astype(F32)
    for how, change in (*ROUNDINGS, HALVES_UP):
        for bits in multiples:
            what = f"{noun} is {how} to {f'a multiple of 2^-{bits}' if bits else 'an integer'}"
            yield what, partial(_fixed, bits, change)


def _fixed(bits: int, how: Change, v: Array) -> Array:
    return np.asarray(how(v * F32(2.0**bits)) / F32(2.0**bits), F32)


def halves(noun: str) -> Iterator[tuple[str, Change]]:
    """Yield numbers that are rounded to halves otherwise than the nearest: float32."""
    yield f"{noun} is rounded to a half, up to 65504", lambda v: as_half(np.clip(v, -LARGEST, LARGEST))
    for how, change in ROUNDINGS[1:]:
        yield f"{noun} is {how} to a half", partial(_half_by, change)
    for what, change in (("", as_half), (", up to 65504", lambda v: as_half(np.clip(v, -LARGEST, LARGEST)))):
        for zero in ("of its sign", "+0"):
            yield (
                f"{noun} is rounded to a half{what}, a subnormal one to a zero {zero}".replace(
                    "zero +0", "+0"
                ),
                partial(_flushed, change, zero == "+0"),
            )


def as_half(v: Array) -> Array:
    """Round float32 to the nearest half."""
    return np.asarray(v.astype(np.float16), F32)


def _half_by(how: Change, v: Array) -> Array:
    """Return halves, those of small numbers subnormal; what would be infinite is the largest one, if so."""
    exponent = np.maximum(np.frexp(v)[1] - 11, -24)
    number = np.ldexp(how(np.ldexp(v.astype(F64), -exponent)), exponent)
    most = LARGEST if how is np.trunc else F32(np.inf)
    return np.where(np.abs(number) > LARGEST, np.copysign(most, v), number).astype(F32)


def _flushed(change: Change, is_plus: bool, v: Array) -> Array:
    h = change(v)
    return np.where(np.abs(h) < 2.0**-14, F32(0) if is_plus else np.copysign(F32(0), h), h)


def _in_parts() -> Iterator[tuple[str, Change]]:
    """Yield sums of the rounded products with two parts of a code."""
    for part, of in SPLIT:
        for name, change in (("a half", as_half), ("bfloat16", lambda v: significant(v, 8, np.rint))):
            what = f"the products with a code's {part} and with the rest of it are each rounded to {name}"
            yield f"{what}, and then added", partial(_sum, of, change)


def _sum(of: Change, change: Change, d: Array, v: Array, _y: Array) -> Array:
    return np.asarray(change(d * of(v)) + change(d * (v - of(v))), F32)


def _of_integers() -> Iterator[tuple[str, Change]]:
    """Yield products of the code and a scale in fixed point, as integers: they have no -0, and may wrap."""
    for how, change in (ROUNDINGS[0], ROUNDINGS[1], HALVES_UP):
        for bits in (8, 10, 12, 14, 15, 16, 20, 24):
            for wraps in (False, True):
                what = f"the scale is {how} to a multiple of 2^-{bits}, and multiplied as an integer"
                yield f"{what}{', which wraps in 32 bits' * wraps}", partial(_integer, bits, change, wraps)


def _integer(bits: int, how: Change, wraps: bool, d: Array, v: Array, _y: Array) -> Array:
    whole = (how(d.astype(F64) * 2.0**bits) * v).astype(np.int64)
    number = whole.astype(np.int32) if wraps else whole
    return np.asarray(number.astype(F32) / F32(2.0**bits))
