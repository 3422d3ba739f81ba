"""Numbers that exact products show digit by digit: which row an output is of, which blocks meet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8_conformance.inputs.arrays import Array

BASE = 100
"""Of the digits of a number; a digit d is shown as d + 1, so that nothing is no digit."""


def read_numbers(size: int, show: Callable[[Array], Array], base: int = BASE) -> tuple[Array, Array]:
    """Return which of the numbers below `size` are shown, and where one is.

    `show` is given a digit of each number, [size], and returns the digits that come out, of any shape.
    """
    total, valid, unit = np.zeros((), int), np.ones((), bool), 1
    while True:
        digit = show(np.arange(size) // unit % base)
        valid = valid & (digit >= 0) & (digit < base) & (digit == np.rint(digit))
        total = total + np.where(valid, digit, 0).astype(int) * unit
        unit *= base
        if size <= unit or not valid.any():
            return total, valid & (total < size)


def wraps(multiply: Callable[[Array, Array], float], nb: int) -> tuple[int, int]:
    """Return the number of blocks after which those of w, and those of x, come again; 0 where they do not.

    `multiply` returns an output of rows of w and x with these numbers, int [nb] each, in their blocks.
    """
    of_w = _period(lambda block, numbers: multiply(numbers, np.arange(nb) == block), nb)
    of_x = _period(lambda block, numbers: multiply(np.arange(nb) == block, numbers), nb)
    return of_w, of_x


def _period(show: Callable[[int, Array], float], nb: int) -> int:
    """Return the period of the blocks that meet each block of the other row."""
    last = _met(show, nb - 1, nb)
    if last in (-1, nb - 1) or _met(show, 0, nb):
        return 0
    low, high = 0, nb - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _met(show, middle, nb) == middle else (low, middle)
    checked = (high, (high + nb) // 2, nb - 1)
    return high if all(_met(show, block, nb) == block % high for block in checked) else 0


def _met(show: Callable[[int, Array], float], block: int, nb: int) -> int:
    """Return the number of the one block that meets another row's; -1 for none, or several."""
    number, valid = read_numbers(nb, lambda digits: np.asarray(show(block, digits + 1) - 1))
    return int(number) if valid else -1
