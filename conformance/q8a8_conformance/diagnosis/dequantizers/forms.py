"""What may become of elements that are dequantized: a bank of forms.

A form says nothing of where it holds: `conditions` finds that out. Forms whose numbers are
measured are in `measured`, those of fewer bits in `narrowed`.
"""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.diagnosis.dequantizers.kept import kept
from q8a8_conformance.diagnosis.dequantizers.model import (
    CODES,
    F32,
    HALVES,
    Form,
    bits_of,
    of_read,
    read_right,
)
from q8a8_conformance.diagnosis.dequantizers.narrowed import LARGEST, as_half
from q8a8_conformance.faults.catalogue import MUTANTS
from q8a8_conformance.inputs.calls import DEQUANTIZE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from q8a8_conformance.inputs.arrays import Array

    Change = Callable[..., Any]

NAMED = "dequantize-"
"""What the names of the catalogue's mistakes begin with."""

OTHER = 4
"""The cost of values that are listed, which anything simpler is better than."""


@cache
def bank() -> tuple[Form, ...]:
    """Return the forms that need no measurement, the likeliest ones first."""
    known = [m for m in MUTANTS.values() if "widen" in m.changes and DEQUANTIZE in m.functions]
    tables = [
        (
            f"{m.sentence[0].lower()}{m.sentence[1:-1]}",
            lambda h, _d, widen=m.changes["widen"]: _table(widen)[h],
            m.slug,
        )
        for m in known
        if "in-dequantize" not in m.slug
    ]
    codes = [
        (what, partial(lambda table, q, _v: table[q], change(NUMBERS).astype(F32)), *slug)
        for what, change, *slug in _CODES
    ]
    plain = tuple(
        Form(stage, fact, what, of_read(stage, gives), cause=slug[0] if slug else "")
        for stage, fact, some in (
            ("store", "place-unwritten", [("nothing is written", lambda _bits, before: before)]),
            ("store", "output-constant", _CONSTANTS),
            ("store", "output-added", _STORED),
            ("scale", "scale-read", [*_SCALES, *tables, *_less_scales()]),
            ("code", "code-read", codes),
            ("product", "product", [*_PRODUCTS, *_integer_products()]),
        )
        for what, gives, *slug in some
    )  # fmt: skip
    return (*plain, *kept())


_CONSTANTS: tuple[tuple[str, Change], ...] = (
    ("+0 is written", lambda bits, _before: np.zeros_like(bits)),
    ("-0 is written", lambda bits, _before: np.full_like(bits, 0x80000000)),
)


def _floats(change: Change) -> Change:
    def gives(bits: Array, before: Array) -> Array:
        held = before.view(F32)
        # (Processors hand on the NaN that was there.)
        return np.where(np.isnan(held), before, bits_of(change(bits.view(F32), held)))

    return gives


_STORED: tuple[tuple[str, Change], ...] = (
    ("the product is added to what was there", _floats(lambda y, held: held + y)),
    ("the product is subtracted from what was there", _floats(lambda y, held: held - y)),
    ("the product is multiplied by what was there", _floats(lambda y, held: held * y)),
)

# Values of scales: from a half h and its value d.


@cache
def _table(widen: Change) -> Array:
    with np.errstate(all="ignore"):
        return np.asarray(widen(HALVES.view(np.float16)), F32)


def _bits(change: Change) -> Change:
    """Return a change of a half's bits as one of its value."""
    return lambda h, _d: read_right()[0][np.asarray(change(h.astype(np.int64)), np.int64) & 0xFFFF]


def _cut(h: Array, bits: int) -> Array:
    return h & ~((1 << bits) - 1)


def _added_signed(h: Array) -> Array:
    return np.asarray(h - (h & 0x80) * 2)


_SCALES: tuple[tuple[Any, ...], ...] = (
    ("the sign of the scale is lost", lambda _h, d: np.abs(d), f"{NAMED}scale-magnitude"),
    ("negative scales are read as zero", lambda _h, d: np.maximum(d, F32(0)), f"{NAMED}negative-clamped"),
    ("a zero scale is taken for 1", lambda _h, d: np.where(d == 0, F32(1), d), f"{NAMED}zero-scale"),
    ("the scale's bytes are exchanged", _bits(lambda h: h >> 8 | h << 8), "scale-read-big-endian"),
    ("the scale is read as a zero of its sign", lambda _h, d: d * F32(0)),
    ("the scale is read as +0", lambda _h, d: np.abs(d * F32(0))),
    ("the scale is read as negative", lambda _h, d: -np.abs(d)),
    ("the scale is taken for 1", lambda _h, d: np.ones_like(d)),
    ("the scale is read as infinite", lambda _h, d: np.copysign(F32(np.inf), d)),
    ("the scale is limited to 65504", lambda _h, d: np.copysign(F32(65504), d)),
    ("the reciprocal of the scale is taken", lambda _h, d: F32(1) / d),
    ("the scale's square root is taken", lambda _h, d: np.sqrt(d)),
    ("the scale's bits are taken for an unsigned integer", lambda h, _d: h.astype(F32)),
    ("the scale's bits are taken for a signed integer", lambda h, _d: h.view(np.int16).astype(F32)),
    ("the scale is read without its fraction, as a power of two", _bits(partial(_cut, bits=10))),
    ("the scale is read without the hidden bit", lambda h, d: d - _power(h, d)),
    ("the scale is read as a normal half", lambda h, d: _power(h, d) * (1 + (h & 0x3FF) / F32(1024))),
    ("the scale's low byte is sign-extended into the high one", _bits(lambda h: h | (h & 0x80) * 0x1FE)),
    ("the scale's low byte is added to the high one as a signed number", _bits(_added_signed)),
    ("the scale's low byte is taken for 0", _bits(partial(_cut, bits=8))),
    ("the scale's high byte is taken for 0", _bits(lambda h: h & 0xFF)),
    ("the highest bit of the scale's exponent is lost", _bits(lambda h: h & ~0x4000)),
    ("scales are read as infinities and NaNs", lambda h, d: d * np.where(h & 1023, F32(np.nan), F32(np.inf))),
    ("the half above the scale's is taken", _bits(lambda h: h + 1)),
    ("the half below the scale's is taken", _bits(lambda h: h - 1)),
)  # fmt: skip


def _power(h: Array, d: Array) -> Array:
    """Return 2^(e - 15) with the scale's sign, whatever its exponent field e."""
    return np.asarray(np.copysign(np.ldexp(F32(1), (h.astype(np.int32) >> 10 & 31) - 15), d))


def _less_scales() -> Iterator[tuple[str, Change]]:
    """Yield scales of fewer bits, and those that are off by a power of two."""
    for bits in range(2, 10):
        yield f"the lowest {bits} bits of the scale are lost", _bits(partial(_cut, bits=bits))
    for bit in range(14):
        yield f"bit {bit} of the scale is lost", _bits(lambda h, bit=bit: h & ~(1 << bit))
        yield f"bit {bit} of the scale is set", _bits(lambda h, bit=bit: h | 1 << bit)
    for by in (1, 2, 8, 13, 15, 16, 112):
        power = f"2^{by}" if by > 1 else "2"
        yield f"the scale is multiplied by {power}", lambda _h, d, by=by: d * F32(2.0**by)
        yield f"the scale is divided by {power}", lambda _h, d, by=by: d * F32(2.0**-by)


# Values of codes.

NUMBERS = CODES.astype(np.int64)


def _int8(v: Array) -> Array:
    return v.astype(np.int8).astype(np.int64)


_CODES: tuple[tuple[Any, ...], ...] = (
    ("codes are read as unsigned", lambda q: q % 256, f"{NAMED}unsigned"),
    ("-128 is taken for -127", lambda q: np.maximum(q, -127), f"{NAMED}minus-128"),
    ("-128 is taken for 128", lambda q: np.where(q == -128, 128, q)),
    ("codes are read without a sign", np.abs),
    ("codes are read without a sign, -128 as itself", lambda q: _int8(np.abs(q))),
    ("codes are read with the other sign", np.negative),
    ("codes are read with the other sign, -128 as itself", lambda q: _int8(-q)),
    ("codes are read as negative", lambda q: -np.abs(q)),
    ("codes are read as zeros", lambda q: q * 0),
    ("codes are read as 1", lambda q: q * 0 + 1),
    ("negative codes are read as zeros", lambda q: np.maximum(q, 0)),
    ("positive codes are read as zeros", lambda q: np.minimum(q, 0)),
    ("codes are read as their one's complement", lambda q: ~q),
    ("codes are read as one's complement numbers", lambda q: np.where(q < 0, q + 1, q)),
    ("codes are read as one's complement numbers, -1 as -0", lambda q: np.where(q < 0, -(~q).astype(F32), q)),
    ("codes are read as sign and magnitude", lambda q: np.where(q < 0, -(q & 127), q)),
    ("codes are read as bytes less 128", lambda q: q % 256 - 128),
    ("codes are read as bytes less 127", lambda q: q % 256 - 127),
    ("codes are read with 128 added", lambda q: q + 128),
    ("codes are read with 128 subtracted", lambda q: q - 128),
    ("codes are read one greater", lambda q: q + 1),
    ("codes are read one greater, 127 as -128", lambda q: _int8(q + 1)),
    ("codes are read one smaller", lambda q: q - 1),
    ("codes are read one smaller, -128 as 127", lambda q: _int8(q - 1)),
    ("the halves of a code's byte are exchanged", lambda q: _int8((q >> 4 & 15) | q << 4)),
    ("the low four bits of codes are taken for a signed number", lambda q: q - (q & 8) * 2),
    ("the high four bits of codes are lost", lambda q: q & 15),
    ("codes are read as their low four bits, signed", lambda q: (q & 7) - (q & 8)),
    ("codes are read as their high four bits", lambda q: q >> 4),
    ("the sign bit of codes is lost", lambda q: q & 127),
    ("codes are read as signed numbers of seven bits", lambda q: (q & 63) - (q & 64)),
    ("the bits of codes are reversed", lambda q: _int8(sum((q >> i & 1) << (7 - i) for i in range(8)))),
    ("codes are read twice as large", lambda q: q * 2),
    ("codes are read twice as large, in a byte", lambda q: _int8(q * 2)),
    ("codes are shifted by one bit", lambda q: q >> 1),
    ("codes are halved, towards zero", lambda q: np.trunc(q / 2)),
    ("codes are squared", lambda q: q * q),
    ("codes are limited to 126 in magnitude", lambda q: np.clip(q, -126, 126)),
    ("codes are limited to 63 and -64", lambda q: np.clip(q, -64, 63)),
    ("codes are read as their signs", np.sign),
    ("the lowest bit of codes is lost", lambda q: q & ~1),
    *((f"the lowest {bits} bits of codes are lost", partial(_cut, bits=bits)) for bits in range(2, 7)),
    *(
        (f"codes are cut off to multiples of {unit}", lambda q, unit=unit: np.trunc(q / unit) * unit)
        for unit in (2, 4, 8, 16, 32)
    ),
)  # fmt: skip

# What is made of them: from a scale d, a code's value v, and their product y.


def _significands(change: Change, *, signed: bool = False) -> Change:
    """Return a change of the product, int64, of a code and the bits of a scale, maybe with its sign."""

    def gives(d: Array, v: Array, _y: Array) -> Array:
        exponent = np.maximum(np.frexp(np.abs(d))[1] - 11, -24)
        sign = np.copysign(F32(1), d)
        whole = np.asarray(np.ldexp(d if signed else np.abs(d), -exponent) * v, np.int64)
        return np.asarray((F32(1) if signed else sign) * np.ldexp(change(whole).astype(F32), exponent), F32)

    return gives


def _integer_products() -> Iterator[tuple[str, Change]]:
    """Yield products of code and significand that are formed in few bits."""
    for signed, noun in ((False, "significand"), (True, "significand, with the scale's sign,")):
        for bits in range(19, 7, -1):
            most = 1 << (bits - 1)
            for what, change in (
                (f"wraps in {bits} bits", lambda p, most=most: (p + most) % (2 * most) - most),
                (f"is limited to {bits} bits", partial(np.clip, a_min=-most, a_max=most - 1)),
                (f"wraps in {bits} bits without a sign", lambda p, most=most: p % (2 * most)),
            ):
                yield f"{noun} times code {what}", _significands(change, signed=signed)
        for bits in range(1, 12):
            for how, change in (
                ("shifted down", lambda p, bits=bits: p >> bits << bits),
                ("cut off", lambda p, bits=bits: np.trunc(p / (1 << bits)) * (1 << bits)),
                ("rounded", lambda p, bits=bits: np.floor(p / (1 << bits) + 0.5) * (1 << bits)),
            ):
                words = f"{noun} times code is {how} by {bits} bit{'s' * (bits > 1)}"
                yield words, _significands(change, signed=signed)


def _exponents_added(d: Array, v: Array) -> Array:
    """Return the code's float with the exponent of a scale added to its own; the product for others."""
    fraction, exponent = np.frexp(d)
    added = (bits_of(v).view(np.int32) + ((exponent - 1) << 23)) ^ (bits_of(d) & 0x80000000).view(np.int32)
    return np.where(np.abs(fraction) == F32(0.5), added.view(F32), d * v)


_PRODUCTS: tuple[tuple[Any, ...], ...] = (
    ("scale and code are multiplied in half precision", lambda _d, _v, y: as_half(y), f"{NAMED}in-half"),
    ("zeros come out as +0", lambda _d, _v, y: np.where(y == 0, F32(0), y), f"{NAMED}zero-unsigned"),
    ("the product has the other sign", lambda _d, _v, y: -y),
    ("the product has no sign", lambda _d, _v, y: np.abs(y)),
    ("the product is negative", lambda _d, _v, y: -np.abs(y)),
    ("negative products become zeros", lambda _d, _v, y: np.maximum(y, F32(0))),
    ("the product is a zero of its sign", lambda _d, _v, y: np.copysign(F32(0), y)),
    ("the product is multiplied by its scale once more", lambda d, _v, y: y * d),
    ("the product is multiplied by its code once more", lambda _d, v, y: y * v),
    ("the code is not multiplied by its scale", lambda d, v, _y: v + 0 * np.abs(d)),
    ("the scale alone is written", lambda d, v, _y: d + 0 * np.abs(v)),
    ("the code is divided by its scale", lambda d, v, _y: v / d),
    ("the scale is divided by its code", lambda d, v, _y: d / v),
    ("scale and code are added", lambda d, v, _y: d + v),
    ("the scale is added to the product", lambda d, _v, y: y + d),
    ("the scale is subtracted from the product", lambda d, _v, y: y - d),
    ("the code is added to the product", lambda _d, v, y: y + v),
    ("f32(127 · scale) is multiplied by f32(code / 127)", lambda d, v, _y: d * F32(127) * (v / F32(127))),
    ("f32(scale / 127) is multiplied by f32(127 · code)", lambda d, v, _y: d / F32(127) * (v * F32(127))),
    ("the product is divided by 127 and multiplied by it", lambda _d, _v, y: y / F32(127) * F32(127)),
    ("the code is divided by f32(1 / scale)", lambda d, v, _y: v / (F32(1) / d)),
    (
        "the exponent of a scale that is a power of two is added to that of the code, though that is 0",
        lambda d, v, _y: _exponents_added(d, v),
    ),
    ("the product is infinite", lambda _d, _v, y: np.copysign(F32(np.inf), y)),
    ("the product is limited to 32767 and -32768", lambda _d, _v, y: np.clip(y, F32(-32768), F32(32767))),
    ("the product is limited to 65504", lambda _d, _v, y: np.clip(y, -LARGEST, LARGEST)),
    ("the product is limited to 127 and -128", lambda _d, _v, y: np.clip(y, F32(-128), F32(127))),
    ("the product is the float above it in magnitude", lambda _d, _v, y: (bits_of(y) + 1).view(F32)),
    ("the product is the float below it in magnitude", lambda _d, _v, y: (bits_of(y) - 1).view(F32)),
)  # fmt: skip
