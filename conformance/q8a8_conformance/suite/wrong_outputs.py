"""Where a matrix product's outputs are wrong, in words: which rows and columns, and what they are instead."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.inputs.calls import poison

if TYPE_CHECKING:
    from collections.abc import Sequence

    from q8a8_conformance.inputs.arrays import Array

FARTHEST = 16
"""How far away an output is looked for that stands in another one's place."""
RUNS = 4
"""Runs of numbers that are listed."""

_POISON = np.frombuffer(poison(4), "<f4").view(np.uint32)[0]


def describe(actual: Array, expected: Array, wrong: Array) -> str:
    """Return where outputs [n, m] are wrong, the first of them, and what they are instead.

    Parameters
    ----------
    actual, expected
        float32 [n, m].
    wrong
        bool [n, m], at least one of them true.
    """
    n, m = wrong.shape
    i, j = np.argwhere(wrong)[0].tolist()
    parts = (
        f"{wrong.sum()} of {wrong.size} outputs, m = {m}, n = {n}: {places(wrong)}",
        f"out[{i} * m + {j}] is {actual[i, j]:.9g}, expected {expected[i, j]:.9g}",
        instead(actual, expected, wrong),
    )
    return "; ".join(filter(None, parts))


def places(wrong: Array) -> str:
    """Return which rows and columns of outputs have one that is true: ``i = 0 to 3, j = 8``."""
    rows, columns = (np.flatnonzero(wrong.any(axis=axis)).tolist() for axis in (1, 0))
    return f"i = {ranges(rows)}, j = {ranges(columns)}"


def ranges(numbers: Sequence[int]) -> str:
    """Return ascending numbers as text: ``0 to 3, 8``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    text = ", ".join(" to ".join(map(str, run)) for run in runs[:RUNS])
    return text + (" and more" if len(runs) > RUNS else "")


def instead(actual: Array, expected: Array, wrong: Array) -> str:
    """Return what the wrong outputs are if not what they should be; empty if nothing simple."""
    n, m = wrong.shape
    bits, right = (np.ascontiguousarray(each).view(np.uint32) for each in (actual, expected))
    if (bits[wrong] == _POISON).all():
        return "they were not written"
    if (bits[wrong] == right.T.reshape(n, m)[wrong]).all() and np.unique(right).size > 1:
        return "they are out[j * n + i]: the result is transposed"
    places = np.argwhere(wrong)
    low, high = places.min(axis=0), places.max(axis=0)
    steps = product(
        range(max(-low[0], 1 - FARTHEST), min(n - high[0], FARTHEST)),
        range(max(-low[1], 1 - FARTHEST), min(m - high[1], FARTHEST)),
    )
    i, j = places[0]
    for di, dj in sorted(steps, key=lambda step: abs(step[0]) + abs(step[1])):
        # (The first place rules out nearly all of them.)
        if bits[i, j] == right[i + di, j + dj] and (
            (bits[wrong] == right[places[:, 0] + di, places[:, 1] + dj]).all()
        ):
            return f"they are the outputs of {' and '.join(filter(None, (_at('i', di), _at('j', dj))))}"
    for row in range(min(n, FARTHEST)):
        if (bits[wrong] == right[row, places[:, 1]]).all():
            return f"they are the outputs of i = {row}"
    return ""


def _at(name: str, step: int) -> str:
    return f"{name} {'+' if step > 0 else '-'} {abs(step)}" if step else ""
