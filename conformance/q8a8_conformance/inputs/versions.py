"""A buffer that is changed in place, again and again, as little as a cache's key may fail to see.

Kernels that keep something of a row or a matrix look it up by its address and by some of its bytes: the first
ones, every 64th one, a sum or an exclusive or of them all. Each version differs from the one before by a byte
anywhere, or by an exchange that leaves such sums as they were.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from q8a8_conformance.inputs import dot_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

SINGLE = 9
"""Versions with another byte: a key that samples every second byte sees all of them with chance 1 in 512."""

FLOAT = 4
"""Bytes of a unit that is a float, not a block."""


def versions(data: bytes, unit: int, row: int, key: str = "") -> Iterator[bytes]:
    """Yield a buffer after one edit, after another one, and so on.

    Parameters
    ----------
    data
        The buffer: blocks of 34 or 36 bytes, or floats.
    unit
        Bytes of one of them.
    row
        Bytes of what is exchanged as a whole: a row of a matrix, or some blocks; a multiple of eight where
        sums of words are to stay as they are.
    key
        What the edits are for.

    Yields
    ------
    bytes
        Legal contents: of a float its sign is another, of a block the lowest bit of a code or the scale's
        sign. Exact products of rows stay exact but for exchanged blocks.
    """
    rng = dot_rows.generator("versions", key, len(data), unit)
    held, units = bytearray(data), len(data) // unit
    for number in range(SINGLE):
        start = unit * int(rng.integers(units))
        if unit == FLOAT:
            held[start + 3] ^= 0x80
        elif number % 4 == 3:
            held[start + unit - 33] ^= 0x80  # the scale that lies before the codes
        else:
            held[start + unit - 32 + int(rng.integers(32))] ^= 1
        yield bytes(held)
    yield from _exchanged(held, unit, row, rng)


def _exchanged(held: bytearray, unit: int, row: int, rng: np.random.Generator) -> Iterator[bytes]:
    """Yield a buffer after two elements of a block, and after two rows, have changed places; twice."""
    for number in range(2):
        base, size = (128, FLOAT) if unit == FLOAT else (unit, 1)
        start = base * int(rng.integers(len(held) // base)) + (0 if unit == FLOAT else unit - 32)
        pairs = ((i, j) for i in range(32) for j in range(i + 1, 32))
        for first, second in ((start + size * i, start + size * j) for i, j in pairs):
            a, b = held[first : first + size], held[second : second + size]
            if a != b:
                held[first : first + size], held[second : second + size] = b, a
                break
        yield bytes(held)
        rows = len(held) // row
        if rows > 1:
            one = row * int(rng.integers(rows - 1))
            other = one + row * (1 + number % (rows - one // row - 1) if rows - one // row > 2 else 1)
            a, b = held[one : one + row], held[other : other + row]
            held[one : one + row], held[other : other + row] = b, a
            yield bytes(held)
