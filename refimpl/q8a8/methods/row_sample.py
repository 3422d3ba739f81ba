"""A uniform sample of the tokens of a text, whose rows are kept.

Every token has a number, a hash of its text and of its place in it, and the k tokens with the smallest
numbers are kept. So the sample is uniform, the same in every run and however the text is split, and the
samples of two texts merge into the sample of both: the k smallest numbers of the two.

Source: bottom-k sketches, E. Cohen, H. Kaplan, "Summarizing data using bottom-k sketches", PODC 2007.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from q8a8.errors import ArgumentError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    F32 = NDArray[np.float32]
    Numbers = NDArray[np.uint64]

__all__ = ["RowSample", "smallest", "token_numbers"]


def token_numbers(text_sha256: str, first: int, count: int) -> Numbers:
    """Return the numbers of some tokens of a text: uint64 `[count]`, all different within a text.

    The n-th place's number is SplitMix64's n-th output from a seed that is a hash of the text. Source:
    G. Steele, D. Lea, C. Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014; the golden
    gamma and the finalizer of java.util.SplittableRandom (D. Stafford's variant 13).

    Parameters
    ----------
    text_sha256
        Names the text.
    first, count
        The first token's place, and how many.
    """
    seed = np.frombuffer(hashlib.sha256(text_sha256.encode()).digest()[:8], "<u8")
    places = np.arange(first + 1, first + count + 1, dtype=np.uint64)
    # All arithmetic is modulo 2^64; every step is a bijection.
    z = seed + places * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    numbers: Numbers = z ^ (z >> np.uint64(31))
    return numbers


def smallest(a: Numbers, b: Numbers, size: int) -> tuple[Numbers, NDArray[np.intp]]:
    """Return the `size` smallest numbers of two lists, ascending, and their places in the concatenation."""
    joined = np.concatenate([a, b])
    places = np.argsort(joined)[:size]
    return joined[places], places


class RowSample:
    """The rows of the sampled tokens, for several arrays that have a row for each token.

    ``begin`` announces tokens, then ``update`` gives their rows in each array.

    Parameters
    ----------
    size
        Tokens in the sample, at most.
    text_sha256
        Names the text.

    Attributes
    ----------
    numbers
        uint64 `[k]`, ascending.
    rows
        float32 `[k, in]`, in the same order, by the array's name.

    Raises
    ------
    ArgumentError
        for a negative size.
    """

    def __init__(self, size: int, text_sha256: str) -> None:
        if size < 0:
            raise ArgumentError(f"rows: expected 0 or more, got {size}")
        self.numbers: Numbers = np.empty(0, np.uint64)
        self.rows: dict[str, F32] = {}
        self._size, self._text = size, text_sha256
        self._places: NDArray[np.intp] = np.empty(0, np.intp)

    def begin(self, first: int, count: int) -> None:
        """Choose among the rows kept so far and the next `count` tokens, which start at place `first`."""
        new = token_numbers(self._text, first, count)
        self.numbers, self._places = smallest(self.numbers, new, self._size)

    def update(self, name: str, x: F32) -> None:
        """Keep the rows that were chosen, of `x` `[count, in]`."""
        held = self.rows.get(name, x[:0])
        self.rows[name] = np.concatenate([held, x])[self._places]
