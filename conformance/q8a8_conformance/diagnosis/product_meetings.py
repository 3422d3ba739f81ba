"""Which blocks of two rows meet in a matrix product, where the number of a block wraps on one side alone."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Callable

Array = NDArray[Any]

BASE = 100
"""Of the digits of a block's number; a digit d is shown as d + 1, so that nothing is no digit."""


def wraps(multiply: Callable[[Array, Array], float], nb: int) -> tuple[int, int]:
    """Return the number of blocks after which those of w, and those of x, come again; 0 where they do not.

    Parameters
    ----------
    multiply
        Returns an output of rows of w and x with these numbers, int [nb] each, in their blocks.
    nb
        Blocks of a row.
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
    number = 0
    for place in count():
        digit = show(block, np.arange(nb) // BASE**place % BASE + 1) - 1
        if not 0 <= digit < BASE or digit != int(digit):
            return -1
        number += int(digit) * BASE**place
        if nb <= BASE ** (place + 1):
            return number if number < nb else -1
    return -1
