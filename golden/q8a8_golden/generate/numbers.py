"""Numbers that the builders use, as bit patterns: exact ones, neighbours, and a reproducible stream."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from q8a8_golden import oracle
from q8a8_golden.oracle import F16, F32

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = [
    "Stream",
    "block",
    "block_v2",
    "down",
    "f32",
    "f32_bytes",
    "first_at_least",
    "half",
    "minus",
    "near",
    "power",
    "up",
]


def power(exponent: int) -> Fraction:
    """Give 2^exponent."""
    return Fraction(1 << exponent) if exponent >= 0 else Fraction(1, 1 << -exponent)


def f32(number: Fraction | int) -> int:
    """Give the f32 bits of a number that is one exactly."""
    bits = near(number)
    if oracle.value(bits, F32) != number:
        raise ValueError(f"{number} is not an f32")
    return bits


def near(number: Fraction | int) -> int:
    """Give the bits of the f32 nearest to a number."""
    return oracle.nearest(Fraction(number), F32)


def half(number: Fraction | int) -> int:
    """Give the f16 bits of a number that is one exactly."""
    bits = oracle.nearest(Fraction(number), F16)
    if not oracle.finite(bits, F16) or oracle.value(bits, F16) != number:
        raise ValueError(f"{number} is not an f16")
    return bits


def up(bits: int) -> int:
    """Give the next f32 away from zero."""
    return bits + 1


def down(bits: int) -> int:
    """Give the next f32 towards zero."""
    return bits - 1


def minus(bits: int) -> int:
    """Turn the sign of an f32."""
    return bits ^ F32.sign


def first_at_least(holds: Callable[[int], bool], low: int, high: int) -> int:
    """Give the smallest pattern in low..high for which `holds`, which is false at first and then true."""
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low


def f32_bytes(patterns: Iterable[int]) -> bytes:
    """Give the little-endian bytes of f32 patterns."""
    return b"".join(bits.to_bytes(4, "little") for bits in patterns)


def block(scale: int, codes: Sequence[int]) -> bytes:
    """Give a 34-byte block: f16 bits and 32 codes."""
    return scale.to_bytes(2, "little") + _codes(codes)


def block_v2(weight_scale: int, activation_scale: int, codes: Sequence[int]) -> bytes:
    """Give a 36-byte block: two f16 patterns and 32 codes."""
    return weight_scale.to_bytes(2, "little") + activation_scale.to_bytes(2, "little") + _codes(codes)


def _codes(codes: Sequence[int]) -> bytes:
    if len(codes) != 32:
        raise ValueError(f"{len(codes)} codes, a block has 32")
    return b"".join(code.to_bytes(1, "little", signed=True) for code in codes)


class Stream:
    """SplitMix64: the same integers from the same seed, in every version of every language."""

    def __init__(self, seed: int) -> None:
        self._state = seed

    def word(self) -> int:
        """Give the next 64 bits."""
        self._state = (self._state + 0x9E3779B97F4A7C15) % (1 << 64)
        z = self._state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % (1 << 64)
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % (1 << 64)
        return z ^ (z >> 31)

    def between(self, low: int, high: int) -> int:
        """Give an integer from low to high, both included."""
        return low + self.word() % (high - low + 1)

    def normal(self, scale: Fraction | int = 1) -> int:
        """Give an f32 pattern from a bell-shaped distribution: the sum of eight uniform integers."""
        total = sum(self.between(-(1 << 22), 1 << 22) for _ in range(8))
        return near(total * scale * power(-23))

    def codes(self, low: int = -127, high: int = 127) -> list[int]:
        """Give 32 codes."""
        return [self.between(low, high) for _ in range(32)]

    def scale(self, low: int, high: int) -> int:
        """Give positive f16 bits between two patterns: all binades between them are as likely."""
        return self.between(low, high)
