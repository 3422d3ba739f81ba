"""Other codes, and other scales, that a quantizer may store for the same elements.

codes
    Another code for every code: magnitudes, one's complement, a bias, nibbles exchanged, limits.
roundings
    Biases and magic numbers in the place of halves away from zero.
scales
    Another half for every half: bits lost or set, fewer bits, another exponent, bytes exchanged, other
    numbers than amax / 127.
precision
    A number on the way that has fewer bits: the elements, amax, its quotient, the inverse, the product.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from q8a8.recipe_steps import HALVES, ROUNDINGS, upper_bits
from q8a8_conformance.diagnosis.quantizers.effect import (
    LARGEST_CODE,
    Effect,
    Given,
    with_bytes,
    with_codes,
    with_scales,
)
from q8a8_conformance.diagnosis.quantizers.steps import STEP_FIXES, limits_rule, named_step
from q8a8_conformance.reveal.quantizers.calls import blocks_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from q8a8_conformance.diagnosis.quantizers.cases import Case
    from q8a8_conformance.inputs.arrays import Array

F32, F64 = np.float32, np.float64


# Another code for every code.


_CODES: tuple[tuple[str, str, Callable[[Array], Array]], ...] = (
    ("magnitude", "Codes are stored without their sign", np.abs),
    ("negated", "Codes are stored with the other sign", np.negative),
    ("lowest", "The code -127 is stored as -128", lambda q: np.where(q == -127, -128, q)),
    ("positive", "Negative codes are stored as 0", lambda q: np.maximum(q, 0)),
    ("negative", "Positive codes are stored as 0", lambda q: np.minimum(q, 0)),
    ("higher", "Codes are stored one greater", lambda q: q + 1),
    ("lower", "Codes are stored one smaller", lambda q: q - 1),
    ("toward-zero", "Codes are stored one nearer to zero", lambda q: q - np.sign(q)),
    ("away", "Codes are stored one farther from zero", lambda q: q + np.sign(q)),
    ("even", "The lowest bit of codes is lost", lambda q: q & ~1),
    ("seven-bits", "The highest bit of codes is lost", lambda q: q & 0x7F),
    ("biased", "Codes are stored with 128 added to them, as unsigned numbers", lambda q: q ^ 0x80),
    ("complement", "Codes are stored with all bits inverted", lambda q: ~q),
    ("ones-complement", "Negative codes are stored in one's complement", lambda q: np.where(q < 0, q - 1, q)),
    ("sign-magnitude", "Codes are stored as a sign bit and a magnitude",
     lambda q: np.where(q < 0, 0x80 | -q, q)),
    ("nibbles", "The two halves of a code's byte are exchanged", lambda q: (q << 4) | ((q >> 4) & 0xF)),
    ("bits", "The bits of codes are stored in the other order",
     lambda q: np.packbits(np.unpackbits(q.astype(np.uint8)[..., None], -1), -1, "little")[..., 0]),
    ("doubled", "Codes are stored shifted by one bit", lambda q: q << 1),
    ("halved", "Codes are stored shifted back by one bit", lambda q: q >> 1),
    ("halved-toward-zero", "Codes are stored halved", lambda q: np.trunc(q / 2)),
    ("signs", "Codes are 1, 0 or -1, by the element's sign", np.sign),
)  # fmt: skip


def code_effects() -> Iterator[Effect]:
    """Yield codes that are stored as others."""
    for name, text, change in _CODES:
        rule = "Q8A8-QNT-5" if name == "lowest" else "Q8A8-QNT-4"
        gives = partial(_changed_codes, change=change)
        # (They are rounded rightly, and stored wrongly.)
        yield Effect("value-codes", {"codes": name}, text, rule, STEP_FIXES["Q8A8-QNT-5"], gives)
    rule, text = "Q8A8-QNT-4", "Codes are 127 or -127, by the element's sign"
    yield Effect("value-codes", {"codes": "largest"}, text, rule, STEP_FIXES[rule], _by_sign)


def _by_sign(case: Case) -> Given:
    return with_codes(case, np.where(case.x < 0, -LARGEST_CODE, LARGEST_CODE))


def _changed_codes(case: Case, change: Callable[[Array], Array]) -> Given:
    codes = np.asarray(change(case.codes)).astype(np.int64).astype(np.int8)
    return with_bytes(case, codes.view(np.uint8))


def limit_effect(low: int, high: int) -> Effect:
    """Return that codes are clipped."""
    text = f"Codes are clipped to {low} to {high}"
    gives = partial(_changed_codes, change=lambda q: np.clip(q, low, high))
    where = {"codes": "clipped", "least": low, "greatest": high}
    rule = limits_rule(low, high)
    return Effect("value-codes", where, text, rule, STEP_FIXES["Q8A8-QNT-5"], gives)


def table_effect(pairs: tuple[tuple[int, int], ...]) -> Effect:
    """Return that some codes are stored as others."""
    text = "; ".join(f"the code {a} is stored as {b}" for a, b in pairs)
    table = np.arange(-128, 128)
    for a, b in pairs:
        table[a + 128] = b
    where = {"codes": "some", "pairs": [list(pair) for pair in pairs]}
    text = f"{text[0].upper()}{text[1:]}"
    gives = partial(_changed_codes, change=lambda q: table[q + 128])
    rule = "Q8A8-QNT-5" if min(b for _, b in pairs) < -LARGEST_CODE else "Q8A8-QNT-4"
    return Effect("value-codes", where, text, rule, STEP_FIXES["Q8A8-QNT-5"], gives)


# Roundings.

BIASES = (2, 4, 8, 16, 32, 64, 127, 128, 256, 512, 1024, 2048, 4096, 1 << 15, 1 << 16, 1 << 20)


def rounding_effects() -> Iterator[Effect]:
    """Yield other ways to round a product to an integer than those of recipes."""
    fix = STEP_FIXES["Q8A8-QNT-4"]
    for name, text, rounded in _roundings():
        gives = partial(_rounded, of=rounded)
        yield Effect("value-rounding", {"rounding": name}, text, "Q8A8-QNT-4", fix, gives)


def _rounded(case: Case, of: Callable[[Array], Array]) -> Given:
    with np.errstate(all="ignore"):
        return with_codes(case, of(case.scaled))


def _roundings() -> Iterator[tuple[str, str, Callable[..., Array]]]:
    yield (
        "ceil-minus-half", "Codes are the ceiling of the product - 0.5: halves are rounded down",
        lambda v: np.ceil(v - F32(0.5)),
    )  # fmt: skip
    yield (
        "to-odd", "Halves are rounded to the odd integer",
        lambda v: np.where(np.abs(v - np.trunc(v)) == F32(0.5), np.floor(v / 2) * 2 + 1, np.rint(v)),
    )  # fmt: skip
    yield (
        "away-from-zero", "Products are rounded away from zero to the next integer",
        lambda v: np.copysign(np.ceil(np.abs(v)), v),
    )  # fmt: skip
    yield (
        "magic-2^23",
        (
            "2^23 is added to products, and the low byte of the sum's bits is the code: negative products "
            "have twice the steps there"
        ),
        lambda v: (v + F32(2**23)).view(np.int32).astype(np.int8),
    )  # fmt: skip
    for bias in BIASES:
        yield (
            f"floor-bias-{bias}",
            (
                f"Codes are floor(x · inv + {bias + 0.5}) - {bias}, with the sum in float32: halves of "
                "negative products go up, and so does what the sum rounds up to a half"
            ),
            lambda v, bias=bias: np.floor(v + F32(bias + 0.5)) - bias,
        )
        yield (
            f"rint-bias-{bias}",
            f"{bias} is added to products, in float32, before they are rounded to the even integer",
            partial(_with_bias, bias=bias, rounding=np.rint),
        )
        yield (
            f"truncate-bias-{bias}", f"Codes are x · inv + {bias} without its fraction, minus {bias}",
            partial(_with_bias, bias=bias, rounding=np.trunc),
        )  # fmt: skip


def _with_bias(v: Array, bias: int, rounding: Callable[[Array], Array]) -> Array:
    return rounding(v + F32(bias)) - bias


# Scales.


def _float(bits: Array) -> Array:
    return np.asarray(bits, np.uint16).view(np.float16).astype(F32)


def _ties_down(d: Array, h: Array) -> Array:
    """Return the bits of halves, where ties go to the smaller one."""
    low = np.where(_float(h) > d, h - 1, h)
    middle = (_float(low).astype(F64) + _float(low + 1)) / 2
    return np.where(d == middle, low, h)


def _half(number: Array) -> Array:
    with np.errstate(all="ignore"):
        return np.asarray(number, F32).astype(np.float16).view(np.uint16).astype(np.int64)


_HALVES: tuple[tuple[str, str, Callable[[Array, Array], Array]], ...] = (
    ("ties-down", "A scale half-way between two halves becomes the smaller one", _ties_down),
    (
        "carry-kept", "A scale that is rounded up to a power of two becomes the half below it",
        lambda d, h: np.where((h & 0x3FF == 0) & (h > 0) & (d < _float(h)), h - 1, h),
    ),
    ("doubled", "The bits of the scale are shifted by one", lambda _d, h: h * 2),
    ("halved", "The bits of the scale are shifted back by one", lambda _d, h: h // 2),
    ("next", "The scale is the half above the nearest", lambda _d, h: h + 1),
    ("previous", "The scale is the half below the nearest", lambda _d, h: np.where(h > 0, h - 1, h)),
    ("infinite", "The scale is infinite", lambda _d, h: np.full_like(h, 0x7C00)),
    ("largest", "The scale is 65504", lambda _d, h: np.full_like(h, 0x7BFF)),
    ("least", "The scale is the smallest half", lambda _d, h: np.full_like(h, 1)),
    ("one", "The scale is 1", lambda _d, h: np.full_like(h, 0x3C00)),
    ("negative", "The scale has a negative sign", lambda _d, h: h | 0x8000),
    ("swapped", "The two bytes of the scale are exchanged", lambda _d, h: (h >> 8) | (h & 0xFF) << 8),
    ("low-byte", "The upper byte of the scale is zero", lambda _d, h: h & 0xFF),
    ("high-byte", "The lower byte of the scale is zero", lambda _d, h: h & 0xFF00),
    ("exponent-up", "The exponent of the scale is one too great", lambda _d, h: h + 0x400),
    ("exponent-down", "The exponent of the scale is one too small", lambda _d, h: np.maximum(h - 0x400, 0)),
    ("twice", "The scale is 2 · amax / 127", lambda d, _h: _half(d * 2)),
    ("half", "The scale is amax / 254", lambda d, _h: _half(d / 2)),
    ("amax", "The scale is amax, not amax / 127", lambda d, _h: _half(d * 127)),
    ("inverse", "The scale is 127 / amax, not amax / 127", lambda d, _h: _half(1 / d)),
    ("over-128", "The scale is amax / 128", lambda d, _h: _half(d * 127 / 128)),
    ("over-127.5", "The scale is amax / 127.5", lambda d, _h: _half(d * 127 / 127.5)),
    ("over-126", "The scale is amax / 126", lambda d, _h: _half(d * 127 / 126)),
    (
        "bfloat16-cut", "The scale is the upper sixteen bits of a float, bfloat16, and codes are right",
        lambda d, h: np.where(h == 0, 0, np.asarray(d, F32).view(np.uint32) >> 16).astype(np.int64),
    ),
    (
        "normal", "A subnormal half is the smallest normal one",
        lambda _d, h: np.where((h > 0) & (h < 0x400), 0x400, h),
    ),
    (
        "subnormal-lost", "A subnormal half is 0",
        lambda _d, h: np.where(h < 0x400, 0, h),
    ),
)  # fmt: skip


HALF_RULES = {"largest": "Q8A8-HLF-4", "infinite": "Q8A8-HLF-4", "normal": "Q8A8-HLF-2",
              "subnormal-lost": "Q8A8-HLF-2"}  # fmt: skip
QUOTIENTS = ("twice", "half", "amax", "inverse", "over-128", "over-127.5", "over-126", "negative", "one")
"""Rules of some of them: scales that are another number than amax / 127 before they are halves."""


def half_effects() -> Iterator[Effect]:
    """Yield scales that are other halves than the nearest."""
    text, where = (
        "The scale is negative, and codes have the other sign",
        {"half": "negative", "codes": "negated"},
    )
    yield Effect("value-half", where, text, "Q8A8-QNT-2", STEP_FIXES["Q8A8-QNT-2"], _negated)
    for name, text, of in _halves():
        for zero in ("half", "stored"):
            gives = partial(_by_half, of=of, zero=zero)
            where = {"half": name} | ({"codes": "zero where it is"} if zero == "stored" else {})
            rule = HALF_RULES.get(name, "Q8A8-QNT-2" if name in QUOTIENTS else "Q8A8-HLF-1")
            yield Effect("value-half", where, text, rule, STEP_FIXES[rule], gives)


def _negated(case: Case) -> Given:
    data, known = with_codes(case, -case.codes)
    data[:, 1] |= 0x80
    return data, known


def _halves() -> Iterator[tuple[str, str, Callable[..., Array]]]:
    yield from _HALVES
    for name, of in tuple(HALVES.items())[1:]:
        _, sentence, _, _ = named_step("half", name, "nearest-even")
        text = f"{sentence.rstrip('.')}; the codes are right"
        yield name, text, lambda d, _h, of=of: of(d).view(np.uint16).astype(np.int64)
    for bit in range(16):
        mask = 1 << bit
        yield f"lost-{bit}", f"Bit {bit} of the scale is lost", partial(_bits, kept=~mask)
        yield f"set-{bit}", f"Bit {bit} of the scale is always set", partial(_bits, set_=mask)
        yield f"flipped-{bit}", f"Bit {bit} of the scale is inverted", partial(_bits, flipped=mask)
    for bits in range(2, 10):
        text = f"The {bits} lowest bits of the scale are lost"
        yield f"cut-{bits}", text, partial(_bits, kept=-1 << bits)


def _bits(_d: Array, h: Array, kept: int = -1, set_: int = 0, flipped: int = 0) -> Array:
    return np.asarray((h & kept | set_) ^ flipped)


def _by_half(case: Case, of: Callable[[Array, Array], Array], zero: str) -> Given:
    with np.errstate(all="ignore"):
        bits = of(case.amax / F32(127), case.scales.astype(np.int64)).astype(np.uint16)
    data, known = with_scales(case, bits)
    if zero == "stored":
        data[bits == 0, 2:] = 0
    return data, known


# Fewer bits.


def _nearest(v: Array, bits: int) -> Array:
    """Round float32 to fewer bits of a fraction, ties to even."""
    raw = np.asarray(v, F32).view(np.uint32).astype(np.int64)
    cut = 23 - bits
    return np.asarray(
        ((raw + (1 << cut - 1) - 1 + (raw >> cut & 1)) >> cut << cut).astype(np.uint32).view(F32)
    )


def _cut(v: Array, bits: int) -> Array:
    return (np.asarray(v, F32).view(np.uint32) & np.uint32(0xFFFFFFFF << 23 - bits & 0xFFFFFFFF)).view(F32)


def _power_of_two(v: Array, rounding: Callable[[Array], Array]) -> Array:
    v = np.asarray(v, F32)
    powers = np.exp2(rounding(np.log2(np.abs(v, dtype=F64))))
    return np.copysign(np.where(v == 0, 0, powers), v).astype(F32)


def _as_half(v: Array) -> Array:
    with np.errstate(over="ignore"):
        return np.asarray(v, F32).astype(np.float16).astype(F32)


LARGEST_HALF = F32(65504)

FORMATS: tuple[tuple[str, str, Callable[[Array], Array]], ...] = (
    ("bfloat16", "rounded to bfloat16", partial(_nearest, bits=7)),
    ("bfloat16-cut", "cut off to bfloat16", upper_bits),
    ("half", "rounded to a half", _as_half),
    (
        "half-limited", "rounded to a half, up to 65504 in magnitude",
        lambda v: _as_half(np.clip(v, -LARGEST_HALF, LARGEST_HALF)),
    ),
    ("tf32", "rounded to ten bits of a fraction", partial(_nearest, bits=10)),
    ("tf32-cut", "cut off to ten bits of a fraction", partial(_cut, bits=10)),
    ("integer-cut", "cut off to an integer", np.trunc),
    ("integer", "rounded to an integer", np.rint),
    ("power-of-two-up", "rounded up to a power of two", partial(_power_of_two, rounding=np.ceil)),
    ("power-of-two-down", "rounded down to a power of two", partial(_power_of_two, rounding=np.floor)),
)  # fmt: skip

FRACTIONS = (9, *range(11, 23))
"""Bits of a fraction that numbers on the way may have besides those of formats."""

NUMBERS = {
    "x": "Elements are",
    "x-code": "Elements are, for their codes and not for amax,",
    "amax": "Amax is",
    "amax-scale": "Amax is, for the scale alone,",
    "amax-inverse": "Amax is, for the inverse alone,",
    "d": "The quotient amax / 127 is, before it is stored as a half,",
    "d-inverse": "The quotient amax / 127 is, for the scale and for the inverse 1/d,",
    "inverse": "The inverse 127 / amax is",
    "product": "The product x · inv is",
}
"""Numbers on the way to a code, in words."""


CUT = ("x", "amax", "d", "inverse", "product")
"""Those of which any number of bits is tried."""


MULTIPLES = (4, 6, 8, 10, 12, 14, 15, 16, 20, 24)
"""Bits of a fraction that elements and the inverse may have in fixed point."""


_TO_INTEGERS: tuple[tuple[str, str, Callable[[Array], Array]], ...] = (
    ("nearest", "rounded", np.rint),
    ("cut", "cut off", np.trunc),
    ("up", "rounded, with 0.5 added in float32,", lambda v: np.floor(v + F32(0.5))),
)


def _fixed_point() -> Iterator[tuple[str, str, Callable[[Array], Array]]]:
    for bits, (name, how, change) in itertools.product(MULTIPLES, _TO_INTEGERS):
        what = f"{how} to a multiple of 2^-{bits}"
        yield f"fixed-{bits}-{name}", what, partial(_multiple, one=F32(2.0**bits), change=change)


def _multiple(v: Array, one: np.float32, change: Callable[[Array], Array]) -> Array:
    return np.asarray(change(v * one) / one)


def _fractions() -> Iterator[tuple[str, str, Callable[[Array], Array]]]:
    for bits in FRACTIONS:
        yield f"cut-{bits}", f"cut off to {bits} bits of a fraction", partial(_cut, bits=bits)
        yield f"nearest-{bits}", f"rounded to {bits} bits of a fraction", partial(_nearest, bits=bits)


def precision_effects() -> Iterator[Effect]:
    """Yield numbers on the way that have fewer bits."""
    for number, noun in NUMBERS.items():
        for name, text, of in (
            *FORMATS,
            *(_fractions() if number in CUT else ()),
            *(_fixed_point() if number in {"x", "x-code", "inverse"} else ()),
        ):
            rule = "Q8A8-QNT-1" if number in ("x", "amax") else "Q8A8-QNT-3"
            rule = {"d": "Q8A8-QNT-2", "amax-scale": "Q8A8-QNT-2", "product": "Q8A8-QNT-4"}.get(number, rule)
            gives = partial(_with_fewer_bits, number=number, of=of)
            where = {"precision": name, "number": number}
            fix = "Compute with float32 numbers throughout; the scale alone becomes a half."
            yield Effect("value-precision", where, f"{noun} {text}", rule, fix, gives)


def _with_fewer_bits(case: Case, number: str, of: Callable[[Array], Array]) -> Given:
    def at(name: str, v: Array) -> Array:
        return of(v) if name == number else v

    with np.errstate(all="ignore"):
        x = at("x", case.x)
        amax = at("amax", np.abs(x).max(axis=1, initial=F32(0)))
        h = at("d", at("amax-scale", amax) / F32(127)).astype(np.float16)
        inverse = at("inverse", np.where(h == 0, F32(0), F32(127) / at("amax-inverse", amax)).astype(F32))
        if number == "d-inverse":
            d = of(amax / F32(127))
            h = d.astype(np.float16)
            inverse = np.where(h == 0, F32(0), F32(1) / d)
        v = at("product", at("x-code", x) * inverse[:, np.newaxis])
        q = ROUNDINGS["half-away"](v)
    data, known = with_codes(case, q)
    data[:, :2] = blocks_of(h, np.zeros((len(h), 0), np.int8)).data
    return data, known
