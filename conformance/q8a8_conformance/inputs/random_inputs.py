"""Random inputs for property tests, rich in edge values: rows, vectors, blocks and pairs of rows.

A row is generated as one value with a few single elements changed, or as bytes. Its numbers come from a
`Source`. `Random` is a seeded generator: quick, so every run tries many rows. The other source is Hypothesis
(`q8a8_conformance.suite.minimize`): slow, but it can shrink a row that fails to one that is zero but for an
element or two. So it is used only where a row has failed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from q8a8_conformance.inputs import dot_rows
from q8a8_conformance.inputs.blocks import OVERFLOW

if TYPE_CHECKING:
    from collections.abc import Sequence

    from q8a8_conformance.inputs.arrays import Array

Item = TypeVar("Item")

LIMIT = float(np.nextafter(OVERFLOW, np.float32(0)))
"""The largest element inside the domain."""

_ROW_BLOCKS, _VECTOR, _BLOCKS, _PAIR_BLOCKS = 3, 80, 4, 9
"""The most blocks to quantize, elements of a vector, blocks to dequantize, blocks of a dot product."""


class Source(Protocol):
    """Where numbers come from."""

    def integer(self, low: int, high: int) -> int:
        """Generate an integer, both ends included."""

    def number(self, low: float, high: float, width: int) -> float:
        """Generate a finite float of 16 or 32 bits, ends included; zeros of both signs, subnormals too."""

    def pick(self, items: Sequence[Item]) -> Item:
        """Choose one of these."""

    def raw(self, size: int) -> bytes:
        """Generate so many bytes."""


class Random:
    """Numbers from a seeded generator.

    Parameters
    ----------
    key
        What the numbers are for; the same key gives the same numbers.
    """

    def __init__(self, *key: object) -> None:
        self._rng = dot_rows.generator("draws", *key)

    def integer(self, low: int, high: int) -> int:
        """Generate an integer; one in eight is an end or the number nearest to zero."""
        if self._rng.random() < 0.125:
            return int(self._rng.choice([low, high, min(max(0, low), high)]))
        return int(self._rng.integers(low, high + 1))

    def number(self, low: float, high: float, width: int) -> float:
        """Generate a float: an end or a zero, one of any exponent, or one from an even spread, by turns."""
        kind = self._rng.integers(0, 4)
        if kind == 0:
            return float(self._rng.choice([low, high, 0.0, -0.0 if low <= 0 else low]))
        if kind == 1:
            return _as_width(self._rng.uniform(low, high), width)
        bits = self._rng.integers(0, 1 << width)
        value = float(np.array([bits], f"<u{width // 8}").view(f"<f{width // 8}")[0])
        return value if low <= value <= high else _as_width(self._rng.uniform(low, high), width)

    def pick(self, items: Sequence[Item]) -> Item:
        """Choose one of these, each as likely as another."""
        return items[int(self._rng.integers(0, len(items)))]

    def raw(self, size: int) -> bytes:
        """Generate bytes, each as likely as another."""
        return self._rng.bytes(size)


def _as_width(value: float, width: int) -> float:
    return float(np.array([value], f"<f{width // 8}")[0])


# Elements and scales.

_SIMPLE = (0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, 63.5, -126.5, 127.0, -127.0)
_SCALES = (1.0, -1.0, 0.0, 0.5, 2.0**-24, 65504.0)


def element(source: Source) -> float:
    """Generate an element of a row: small and simple, an exact tie, or any finite value inside the domain."""
    kind = source.integer(0, 4)
    if kind == 0:
        return source.pick(_SIMPLE)
    if kind == 1:
        return source.integer(-254, 254) / 2
    largest = (256.0, LIMIT, 2.0**-14)[kind - 2]
    return source.number(-largest, largest, 32)


def _factor(source: Source) -> float:
    kind = source.integer(0, 2)
    if kind == 0:
        return 1.0
    return 2.0 ** source.integer(-30, 10) if kind == 1 else source.number(2.0**-20, 2.0**20, 32)


def _scale(source: Source) -> float:
    kind = source.integer(0, 2)
    largest = (0.0, 65504.0, 1.0)[kind]
    return source.number(-largest, largest, 16) if kind else source.pick(_SCALES)


def _code(source: Source) -> int:
    return source.pick(dot_rows.EDGES) if source.integer(0, 1) else source.integer(-128, 127)


# Rows.


def _vector(source: Source, size: int) -> Array:
    """Generate float32 [size] inside the domain: one value with a few others, or multiples of half a step."""
    if source.integer(0, 1):
        x = np.frombuffer(source.raw(size), np.int8) / 2.0
    else:
        x = np.full(size, element(source))
        for _ in range(source.integer(0, 8)):
            place, value = source.integer(0, max(size, 1) - 1), element(source)
            if place < size:
                x[place] = value
    return np.clip(x * _factor(source), -LIMIT, LIMIT).astype(np.float32)


def block_row(source: Source) -> Array:
    """Generate elements for a row quantizer: float32 [k], one block or a few."""
    return _vector(source, 32 * source.integer(1, _ROW_BLOCKS))


def vector(source: Source) -> Array:
    """Generate elements for the activation quantizer: float32 [size], none or some."""
    return _vector(source, source.integer(0, _VECTOR))


def _codes(source: Source, nb: int) -> Array:
    """Generate int8 [nb, 32], -128 among them."""
    if source.integer(0, 1):
        return np.frombuffer(source.raw(32 * nb), np.int8).reshape(nb, 32)
    codes = np.full(32 * nb, _code(source), np.int8)
    for _ in range(source.integer(0, 8)):
        place, code = source.integer(0, max(32 * nb, 1) - 1), _code(source)
        codes[place : place + 1] = code
    return codes.reshape(nb, 32)


def _blocks(source: Source, nb: int) -> Array:
    """Generate blocks [nb] with any code, and any finite scales, which repeat after a few."""
    scales = [_scale(source) for _ in range(source.integer(1, 4))]
    return dot_rows.blocks(np.resize(np.array(scales, np.float16), nb), _codes(source, nb))


def blocks(source: Source) -> Array:
    """Generate blocks to dequantize, one or a few, with any code and any finite scale."""
    return _blocks(source, source.integer(1, _BLOCKS))


def pair(source: Source) -> dot_rows.Pair:
    """Generate two rows of blocks [nb], none or some, with any finite scales and no code of -128."""
    nb = source.integer(0, _PAIR_BLOCKS)
    x, y = _blocks(source, nb), _blocks(source, nb)
    for row in (x, y):
        row["weight_qs"] = np.maximum(row["weight_qs"], -127)
    return x, y


def exact_pair(source: Source) -> dot_rows.Pair:
    """Generate two rows of blocks [nb] that are exact by construction: one scale each, a power of two."""
    nb = source.integer(0, _PAIR_BLOCKS)
    first, second = (2.0 ** source.integer(-14, 8) for _ in "xy")
    return dot_rows.blocks(first, _codes(source, nb)), dot_rows.blocks(second, _codes(source, nb))
