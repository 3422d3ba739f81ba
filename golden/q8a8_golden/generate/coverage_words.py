"""Words for sizes and halves, which the phrases of `q8a8_golden.generate.coverage` are made of."""

from __future__ import annotations

from typing import Final

from q8a8_golden import oracle
from q8a8_golden.oracle import F16

__all__ = ["half_word", "size_word"]

_SMALL: Final = 9
"""Sizes up to here are told apart one by one: unrolled loops and their tails."""

_HALVES: Final = {
    0x0000: "0",
    0x0001: "the smallest",
    0x03FF: "the largest subnormal",
    0x0400: "the smallest normal",
    0x7BFF: "the largest",
    0x7C00: "an infinity",
}


def size_word(size: int, what: str) -> str:
    """Name a number of blocks or elements: small ones and those beside a power of two by themselves.

    The others by the power of two below them and what four leaves over: loops are unrolled twice or four
    times, and counters wrap at powers of two.
    """
    power = size.bit_length() - 1
    if size <= _SMALL or any(abs(size - edge) <= 1 for edge in (1 << power, 2 << power)):
        return f"{size} {what}"
    return f"over 2^{power} {what}, {size % 4} beyond a multiple of four"


def half_word(bits: int) -> str:
    """Name an f16: its sign and what is special about it."""
    sign = "-" if bits & F16.sign else "+"
    size = bits & (F16.sign - 1)
    if size > F16.infinity:
        return (
            "a NaN that signals"
            if not size & 0x0200
            else "a NaN" + (" of all ones" if bits == 0xFFFF else "")
        )
    if size in _HALVES:
        return sign + _HALVES[size]
    if size < 0x0400:
        return f"{sign}subnormal"
    significand = oracle.value(size, F16).numerator
    return sign + ("a power of two" if significand & (significand - 1) == 0 else "normal")
