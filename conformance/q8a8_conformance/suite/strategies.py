"""What Hypothesis draws from: rows for quantizers, pairs of rows for dot products, rich in edge values.

A row is drawn as a filling and a few single places in it, or as bytes: both are quick to draw, and shrink to
rows that are zero but for one or two places.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import strategies as st

from q8a8_conformance.suite import rows
from q8a8_conformance.suite.data import OVERFLOW

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

_LIMIT = float(np.nextafter(OVERFLOW, np.float32(0)))

ELEMENTS = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, 63.5, -126.5, 127.0, -127.0]),
    st.integers(-254, 254).map(lambda k: k / 2),
    st.floats(-256, 256, width=32),
    st.floats(-_LIMIT, _LIMIT, width=32),
    st.floats(-(2.0**-14), 2.0**-14, width=32),
)
"""Elements of a row: small ones that shrink well, exact ties, and any finite value inside the domain."""

_FACTORS = st.one_of(
    st.just(1.0), st.integers(-30, 10).map(lambda e: 2.0**e), st.floats(2.0**-20, 2.0**20, width=32)
)


def _vectors(sizes: st.SearchStrategy[int], largest: int) -> st.SearchStrategy[Array]:
    """Draw float32 [size], all inside the domain: filled and sprinkled, or multiples of half a step."""

    def sprinkled(size: int, filling: float, places: list[tuple[int, float]], factor: float) -> Array:
        x = np.full(size, filling)
        for place, value in places:
            if place < size:
                x[place] = value
        return np.clip(x * factor, -_LIMIT, _LIMIT).astype(np.float32)

    def halves(size: int, steps: bytes, factor: float) -> Array:
        x = np.frombuffer(steps, np.int8)[:size] / 2.0
        return np.clip(x * factor, -_LIMIT, _LIMIT).astype(np.float32)

    places = st.lists(st.tuples(st.integers(0, largest - 1), ELEMENTS), max_size=8)
    return st.one_of(
        st.builds(sprinkled, sizes, ELEMENTS, places, _FACTORS),
        st.builds(halves, sizes, st.binary(min_size=largest, max_size=largest), _FACTORS),
    )


@cache
def block_rows(largest: int = 3) -> st.SearchStrategy[Array]:
    """Draw float32 [k], one to `largest` blocks."""
    return _vectors(st.integers(1, largest).map(lambda nb: 32 * nb), 32 * largest)


@cache
def vectors(largest: int = 80) -> st.SearchStrategy[Array]:
    """Draw float32 [size] of any size up to `largest`."""
    return _vectors(st.integers(0, largest), largest)


CODES = st.one_of(st.sampled_from(rows.EDGES), st.integers(-128, 127))
SCALES = st.one_of(
    st.sampled_from([1.0, -1.0, 0.0, 0.5, 2.0**-24, 65504.0]),
    st.floats(-65504, 65504, width=16),
    st.floats(-1, 1, width=16),
)


def _codes(largest: int) -> st.SearchStrategy[Array]:
    """Draw int8 [largest, 32], -128 among them."""
    size = 32 * largest

    def sprinkled(filling: int, places: list[tuple[int, int]]) -> Array:
        codes = np.full(size, filling, np.int8)
        for place, code in places:
            codes[place] = code
        return codes.reshape(largest, 32)

    def plain(raw: bytes) -> Array:
        return np.frombuffer(raw, np.int8).reshape(largest, 32)

    return st.one_of(
        st.builds(sprinkled, CODES, st.lists(st.tuples(st.integers(0, size - 1), CODES), max_size=8)),
        st.binary(min_size=size, max_size=size).map(plain),
    )


@cache
def _rows(largest: int) -> st.SearchStrategy[Array]:
    """Draw blocks [largest] with any code, and any finite scales, which repeat after a few."""

    def make(scales: list[float], codes: Array) -> Array:
        return rows.blocks(np.resize(np.array(scales, np.float16), largest), codes)

    return st.builds(make, st.lists(SCALES, min_size=1, max_size=4), _codes(largest))


@cache
def block_row(largest: int = 4) -> st.SearchStrategy[Array]:
    """Draw blocks [nb], one to `largest`, with any code and any finite scale."""
    return st.builds(lambda nb, row: row[:nb], st.integers(1, largest), _rows(largest))


@cache
def pairs(largest: int = 9) -> st.SearchStrategy[rows.Pair]:
    """Draw two rows of blocks [nb], none to `largest`, with any finite scales and no code of -128."""

    def make(nb: int, x: Array, y: Array) -> rows.Pair:
        for row in (x, y):
            row["weight_qs"] = np.maximum(row["weight_qs"], -127)
        return x[:nb], y[:nb]

    return st.builds(make, st.integers(0, largest), _rows(largest), _rows(largest))


@cache
def exact_pairs(largest: int = 9) -> st.SearchStrategy[rows.Pair]:
    """Draw two rows of blocks [nb] that are exact by construction: one scale each, a power of two."""

    def make(nb: int, scales: tuple[int, int], x: Array, y: Array) -> rows.Pair:
        return rows.blocks(2.0 ** scales[0], x[:nb]), rows.blocks(2.0 ** scales[1], y[:nb])

    exponents = st.tuples(st.integers(-14, 8), st.integers(-14, 8))
    return st.builds(make, st.integers(0, largest), exponents, _codes(largest), _codes(largest))
