"""What a dequantizer does otherwise: for some values, in some elements, at some places; and pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8_conformance.faults.kernel import Kernel, Steps
from q8a8_conformance.inputs.calls import DEQUANTIZE

from .test_quantizer_facts import facts_about

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from q8a8_conformance.inputs.arrays import Array

    Change: TypeAlias = Callable[[Array, Array, Array, Array], Array]

F32 = np.float32
LANES = np.arange(32)


class _Changed(Kernel):
    """Changes the elements y of blocks, by their scales d [n, 1], codes q, and numbers b [n, 1]."""

    def __init__(self, change: Change) -> None:
        super().__init__({DEQUANTIZE: Steps(value=self._value)})
        self._change = change

    def _value(self, d: Array, q: Array) -> Array:
        b = np.arange(len(q))[:, np.newaxis]
        q = q.astype(F32)
        return np.asarray(self._change(d[:, np.newaxis] * q, d[:, np.newaxis], q, b), F32)


def _last(b: Array) -> Array:
    return np.asarray(b == len(b) - 1)


def _first_of_run(keys: Array) -> Array:
    """Return where the runs of equal keys [n, 1] begin that blocks are in."""
    numbers = np.arange(len(keys))
    return np.asarray(np.maximum.accumulate(np.where(keys[:, 0] != np.roll(keys[:, 0], 1), numbers, 0)))


def _last_with(some: Array) -> Array:
    """Return the last blocks up to each that are some, bool [n, 1]; the own one where none is."""
    numbers = np.arange(len(some))
    last = np.maximum.accumulate(np.where(some[:, 0], numbers, -1))
    return np.where(last < 0, numbers, last)


def _borrowed(d: Array) -> Array:
    """Return scales of which 0x100 is taken off the bits where the low byte is negative as an int8."""
    bits = d.astype(np.float16).view(np.uint16)
    return np.asarray((bits - (bits & 0x80) * 2).view(np.float16), F32)


def _early(d: Array, q: Array) -> Array:
    """Return what is read where the codes are read two bytes too early, from the scales on."""
    halves = d.astype(np.float16).view(np.int8)
    return np.concatenate([halves, q.astype(np.int8)[:, :-2]], axis=1).astype(F32)


def _late(d: Array, q: Array) -> Array:
    """Return what is read where the codes are read one byte too late, the last one of a row excepted."""
    following = np.append(d[1:].astype(np.float16).view(np.int8).reshape(-1, 2)[:, 0], q[-1, -1])
    return np.concatenate([q[:, 1:], following[:, np.newaxis].astype(F32)], axis=1)


def _significand(d: Array, q: Array, dtype: type) -> Array:
    """Return products in which significand times code has a type of too few bits."""
    exponent = np.maximum(np.frexp(d)[1] - 11, -24)
    product = (np.ldexp(np.abs(d), -exponent) * q).astype(np.int64).astype(dtype)
    return np.asarray(np.ldexp(np.copysign(F32(1), d) * product.astype(F32), exponent))


def _mixed(d: Array, q: Array) -> Array:
    """Return numbers without any order in scales and codes."""
    mixed = (d * q * F32(0.37)).view(np.uint32).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return np.asarray(mixed >> np.uint64(40))


def _no_number(d: Array) -> Array:
    return np.where(d.astype(np.float16).view(np.uint16) & 1023, F32(np.nan), F32(np.inf))


def _half(y: Array) -> Array:
    return np.asarray(y.astype(np.float16), F32)


_BIAS = F32(2**23 + 128)
"""What turns a byte into a float by its bits."""


def _upper(v: Array, added: int = 0) -> Array:
    """Return the upper sixteen bits of floats, to whose bits something was added."""
    return ((v.view(np.uint32) + np.uint32(added)) & np.uint32(0xFFFF0000)).view(F32)


def _half_below(v: Array) -> Array:
    with np.errstate(over="ignore"):
        h = v.astype(np.float16)
    return np.asarray((h.view(np.uint16) - (np.abs(h.astype(F32)) > np.abs(v))).view(np.float16), F32)


def _small(d: Array) -> Array:
    return np.asarray(np.abs(d) < 2.0**-14)


def _power(d: Array) -> Array:
    return np.asarray((np.abs(np.frexp(d)[0]) == F32(0.5)) & ~_small(d))


def _exponent_alone(d: Array) -> Array:
    bits = (np.frexp(d)[1] - 1) << 23
    return (bits.astype(np.uint32) ^ (d.view(np.uint32) & 0x80000000)).view(F32)


FOUND: dict[str, tuple[Change, dict[str, str]]] = {
    "exchanged": (
        lambda y, _d, _q, b: np.where(b % 4 == 3, y[:, np.r_[0:8, 16:24, 8:16, 24:32]], y),
        {"place-elements": "In the last block of every 4: the codes of a block come out in groups of 8"},
    ),
    "zero extended in a tail": (
        lambda y, d, q, b: np.where(_last(b) & (len(b) % 2 == 1) & (LANES >= 16), d * (q % 256), y),
        {"code-read": "In elements 16 to 31 of the last block where nb is odd: codes are read as unsigned."},
    ),
    "half in groups": (
        lambda y, _d, _q, b: np.where(b < len(b) // 8 * 8, _half(y), y),
        {"product": "In the blocks up to the last multiple of 8: scale and code are multiplied in half"},
    ),
    "subnormal sign": (
        lambda y, d, q, _b: np.where(_small(d), np.abs(d) * q, y),
        {"scale-read": "Where the scale is subnormal or zero: the sign of the scale is lost."},
    ),
    "scales in a buffer, and -128": (
        lambda _y, d, q, b: d[b[:, 0] % 32] * np.where(q == -128, F32(128), q),
        {
            "place-scale-of": "The scale is that of the block whose number is its own modulo 32.",
            "code-read": "-128 is taken for 128.",
        },
    ),
    "an element lost, and odd subnormals": (
        lambda y, d, q, b: np.where(
            _last(b) & (LANES == 31), F32(0), np.where((b % 2 == 1) & _small(d), d * 0 * q, y)
        ),
        {
            "output-constant": "In element 31 of the last block: +0 is written.",
            "scale-read": "In every odd block: a subnormal scale is read as zero.",
        },
    ),
    "a scale of the next block, and +0": (
        lambda y, d, q, b: np.where(
            q == 0, 0, np.where((b % 4 == 2) & (LANES >= 16), np.append(d[1:], d[-1:], 0) * q, y)
        ),
        {
            "place-scale-of": "In elements 16 to 31 of every block whose number modulo 4 is 2",
            "output-constant": "Where the code is 0: +0 is written.",
        },
    ),
    "added": (
        lambda y, _d, _q, _b: y + F32(0.125), {"product": "0.125 is added to the product."},
    ),
    "overflow": (
        lambda y, _d, _q, _b: np.where(np.abs(y) >= 65520, np.copysign(F32(np.inf), y), y),
        {"product": "Where scale times code is 65520 or more in magnitude: "},
    ),
    "some codes": (
        lambda y, d, q, _b: np.where((q > 5) & (q < 9), d * 77, y),
        {"code-read": "The codes 6 to 8 are read as 77."},
    ),
    "three": (
        lambda _y, d, q, b: np.where(LANES == 5, 0, np.where(b % 2 == 1, np.abs(d), d) * np.minimum(q, 100)),
        {
            "output-constant": "In element 5 of every block: +0 is written.",
            "code-read": "The codes 101 to 127 are read as 100.",
            "scale-read": "In every odd block: the sign of the scale is lost.",
        },
    ),
    "some halves": (
        lambda y, d, q, _b: np.where((d == 3) | (d == 5), d * 7 * q, y),
        {"product": "Where the scale is 0x4200 or 0x4500: the product is multiplied by 7."},
    ),
    "one product": (
        lambda y, d, q, _b: np.where((d == 1) & (q == 2), F32(9), y),
        {"product": "Where the scale is 0x3c00 and the code is 2: the product is multiplied by 4.5."},
    ),
    "a table by magnitude": (
        lambda _y, d, q, _b: d[_first_of_run(np.abs(d))] * q,
        {"place-scale-of": "The scale is that of the first of adjacent blocks with a scale of the same mag"},
    ),
    "codes early": (
        lambda y, d, q, b: np.where(b % 2 == 1, d * _early(d, q), y),
        {"layout": "In every odd block: the codes are read 2 bytes too early."},
    ),
    "sixteen bits": (
        lambda y, d, q, _b: np.where(d == 0, y, _significand(d, q, np.int16)),
        {"product": "Where the scale is not zero: significand times code wraps in 16 bits."},
    ),
    "an exponent's end, and a lost element": (
        lambda y, d, _q, b: np.where(
            (b >= len(b) // 4 * 4) & (LANES == 31), 0, y * np.where(np.abs(d) < 32768, F32(1), _no_number(d))
        ),
        {
            "output-constant": "In element 31 of the blocks beyond a multiple of 4: +0 is written.",
            "scale-read": "Where the scale is 32768 or more in magnitude: scales are read as infinities an",
        },
    ),
    "a zero scale": (
        lambda y, d, q, _b: np.where(d == 0, d[_last_with(d != 0)] * q, y),
        {"place-scale-of": "The scale is that of the last block up to it whose scale is not 0"},
    ),
    "a byte late, and +0": (
        lambda _y, d, q, b: d * np.where((b % 4 == 3) & (LANES >= 16), _late(d, q), q) + F32(0),
        {
            "layout": "In elements 16 to 31 of the last block of every 4: the codes are read 1 byte too",
            "product": "Zeros come out as +0",
        },
    ),
    "signs of the first": (
        lambda _y, d, q, _b: np.copysign(d, d[:1]) * q,
        {"place-scale-of": "The scale has the sign of that of the first block."},
    ),
    "no form": (
        lambda y, d, _q, b: np.where((b % 4 == 1) & (LANES // 4 == 2), np.sin(y + d) + F32(3), y),
        {"place-other": "In elements 8 to 11 of every block whose number modulo 4 is 1: something else"},
    ),
    "no condition": (
        lambda y, d, q, _b: np.where(_mixed(d, q) % 16 == 3, y * F32(1.5) + d, y),
        {"product": "Wherever they stand, some scales and codes do not give their product: an element"},
    ),
    "exponent": (
        lambda y, d, q, _b: np.where(_power(d) & (q == 0), _exponent_alone(d), y),
        {"product": "Where the scale is normal: the exponent of a scale that is a power of two is added to"},
    ),
    "powers of two": (
        lambda y, d, q, b: np.where(_power(d) & (np.abs(d) != 1) & (q == 0), np.sin(LANES + b), y),
        {"place-other": "Where the scale is a power of two, with another exponent field than 15 and the"},
    ),
    "a low byte with its sign": (
        lambda _y, d, q, _b: _borrowed(d) * q,
        {"scale-read": "The scale's low byte is added to the high one as a signed number."},
    ),
    "a scale in bfloat16": (
        lambda _y, d, q, _b: _upper(d) * q,
        {"scale-read": "The scale is cut off to 8 significant bits (bfloat16)."},
    ),
    "bfloat16 with its ties down": (
        lambda y, _d, _q, _b: _upper(y, 0x7FFF),
        {"product": "The product is rounded, halves toward zero, to 8 significant bits (bfloat16)."},
    ),
    "a half cut off": (
        lambda y, _d, _q, _b: _half_below(y), {"product": "The product is cut off to a half."},
    ),
    "a scale in fixed point": (
        lambda _y, d, q, _b: np.rint(d * F32(2.0**16)) * q / F32(2.0**16) + F32(0),
        {"product": "The scale is rounded to a multiple of 2^-16, and multiplied as an integer."},
    ),
    "a number added to codes": (
        lambda _y, d, q, _b: d.astype(np.float64) * (q + _BIAS) - d * _BIAS,
        {"product": "8388736 is added to the code, and 8388736 · scale, rounded to float32, is subtracted"},
    ),
    "a number that is taken off exactly": (
        lambda _y, d, q, _b: d * (q + F32(128)) - d * F32(128), {"product": "Zeros come out as +0, whatever"},
    ),
    "a table by twelve bits": (
        lambda _y, d, q, _b: d[_first_of_run(d.astype(np.float16).view(np.uint16) & 0xFFF)] * q,
        {"place-scale-of": "The scale is that of the first of adjacent blocks with scales of the same bits"},
    ),
    "a table of zeros first": (
        lambda y, d, _q, _b: np.where(np.logical_and.accumulate(d == 0), F32(0), y),
        {"output-constant": "Where the scale and all before it in the row are 0: +0 is written."},
    ),
    "a borrow": (
        lambda _y, d, q, _b: d * (q - np.where(LANES % 4 == 0, 0, np.roll(q, 1, axis=1) < 0)),
        {"code-read": "In elements 1 to 3, 5 to 7, 9 to 11, 13 to 15, 17 to 19, 21 to 23, 25 to 27, 29 to"},
    ),
}  # fmt: skip
"""What is done otherwise, and the facts with what their sentences begin with."""


@pytest.mark.parametrize("name", FOUND)
def test_what_is_otherwise(name: str) -> None:
    """The effects and their conditions are the only facts, and explain every failed call."""
    change, expected = FOUND[name]
    facts, failed = facts_about(DEQUANTIZE, lambda: _Changed(change))
    assert {fact.fact for fact in facts} == set(expected)
    for fact in facts:
        assert fact.sentence.startswith(expected[fact.fact])
        assert fact.evidence
    assert failed
    assert all(any(fact.explains(failure) for fact in facts) for failure in failed)


class _Keeping(_Changed):
    """Keeps the last scale, over calls too, while a key of the scale is the same."""

    def __init__(self, key: Callable[[Array], Array]) -> None:
        super().__init__(lambda _y, d, q, _b: self._of(d) * q)
        self._key = key
        self._kept = np.zeros((1, 1), F32)

    def _of(self, d: Array) -> Array:
        every = np.concatenate([self._kept, d])
        used = every[_first_of_run(self._key(every))]
        self._kept = used[-1:]
        return used[1:]


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (lambda d: d.astype(np.float16).view(np.uint16) & 0xFF, "a scale of the same low byte"),
        (lambda d: d, "an equal scale"),
        (np.abs, "a scale of the same magnitude"),
    ],
)
def test_what_goes_on_in_the_next_call(key: Callable[[Array], Array], words: str) -> None:
    """A scale that is kept while something of it is the same is found, and that calls do not end it."""
    (fact,), failed = facts_about(DEQUANTIZE, lambda: _Keeping(key))
    assert fact.sentence == (
        f"The scale is that of the first of adjacent blocks with {words}; the last block of the call "
        "before is one of them."
    )
    assert (fact.where["over_calls"], fact.rule) == (True, "Q8A8-ENV-2")
    assert len(fact.explained(failed)) == len(failed) > 0
