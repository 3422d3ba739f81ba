"""Classes of sizes and halves, from which the features of `q8a8_golden.generate.coverage` are formed."""

from __future__ import annotations

from typing import Final

from q8a8_golden import oracle
from q8a8_golden.oracle import F16

__all__ = ["half_class", "size_class"]

_SMALL: Final = 9
"""Sizes up to this one are classes of their own: unrolled loops and their tails."""

_HALVES: Final = {
    0x0000: "0",
    0x0001: "the smallest",
    0x03FF: "the largest subnormal",
    0x0400: "the smallest normal",
    0x7BFF: "the largest",
    0x7C00: "an infinity",
}


def size_class(size: int, what: str) -> str:
    """Return the class of a number of blocks or elements.

    Small sizes and those next to a power of two are classes of their own. The others are classified by the
    power of two below them and the remainder by four: loops are unrolled twice or four times, and counters
    wrap at powers of two.
    """
    power = size.bit_length() - 1
    if size <= _SMALL or any(abs(size - edge) <= 1 for edge in (1 << power, 2 << power)):
        return f"{size} {what}"
    return f"over 2^{power} {what}, {size % 4} beyond a multiple of four"


def half_class(bits: int) -> str:
    """Return the class of an f16: its sign and kind."""
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
