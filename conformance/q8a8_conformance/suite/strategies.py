"""What Hypothesis draws from: rows for quantizers and pairs of rows for dot products, rich in boundary values.

A row is drawn as a filling and a few single places in it, or as bytes: both are quick to draw, and shrink to
rows that are zero but for one or two places.
"""

from __future__ import annotations

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


def elements(size: int) -> st.SearchStrategy[Array]:
    """Draw float32 [size], all inside the domain: filled and sprinkled, or multiples of half a step."""
    if not size:
        return st.just(np.empty(0, np.float32))

    def sprinkled(filling: float, places: list[tuple[int, float]], factor: float) -> Array:
        x = np.full(size, filling)
        for place, value in places:
            x[place] = value
        return np.clip(x * factor, -_LIMIT, _LIMIT).astype(np.float32)

    def halves(steps: bytes, factor: float) -> Array:
        x = np.frombuffer(steps, np.int8) / 2.0
        return np.clip(x * factor, -_LIMIT, _LIMIT).astype(np.float32)

    places = st.lists(st.tuples(st.integers(0, size - 1), ELEMENTS), max_size=8)
    return st.one_of(
        st.builds(sprinkled, ELEMENTS, places, _FACTORS),
        st.builds(halves, st.binary(min_size=size, max_size=size), _FACTORS),
    )


def block_rows(largest: int = 3) -> st.SearchStrategy[Array]:
    """Draw float32 [k], one to `largest` blocks."""
    return st.integers(1, largest).flatmap(lambda nb: elements(32 * nb))


def vectors(largest: int = 80) -> st.SearchStrategy[Array]:
    """Draw float32 [size] of any size up to `largest`."""
    return st.integers(0, largest).flatmap(elements)


CODES = st.one_of(st.sampled_from(rows.EDGES), st.integers(-128, 127))
SCALES = st.one_of(
    st.sampled_from([1.0, -1.0, 0.0, 0.5, 2.0**-24, 65504.0]),
    st.floats(-65504, 65504, width=16),
    st.floats(-1, 1, width=16),
)


def _codes(nb: int) -> st.SearchStrategy[Array]:
    """Draw int8 [nb, 32], -128 among them."""
    size = 32 * nb
    if not nb:
        return st.just(np.empty((0, 32), np.int8))

    def sprinkled(filling: int, places: list[tuple[int, int]]) -> Array:
        codes = np.full(size, filling, np.int8)
        for place, code in places:
            codes[place] = code
        return codes.reshape(nb, 32)

    return st.one_of(
        st.builds(sprinkled, CODES, st.lists(st.tuples(st.integers(0, size - 1), CODES), max_size=8)),
        st.binary(min_size=size, max_size=size).map(lambda raw: np.frombuffer(raw, np.int8).reshape(nb, 32)),
    )


def _row_of(nb: int) -> st.SearchStrategy[Array]:
    scales = st.lists(SCALES, min_size=nb, max_size=nb).map(lambda values: np.array(values, np.float16))
    return st.builds(rows.blocks, scales, _codes(nb))


def block_row(largest: int = 4) -> st.SearchStrategy[Array]:
    """Draw blocks [nb], one to `largest`, with any code and any finite scale."""
    return st.integers(1, largest).flatmap(_row_of)


def pairs(largest: int = 9) -> st.SearchStrategy[rows.Pair]:
    """Draw two rows of blocks [nb] of one length, none to `largest`, with any finite scale and no code of -128."""

    def without_lowest(row: Array) -> Array:
        row["weight_qs"] = np.maximum(row["weight_qs"], -127)
        return row

    def of(nb: int) -> st.SearchStrategy[rows.Pair]:
        row = _row_of(nb).map(without_lowest)
        return st.tuples(row, row)

    return st.integers(0, largest).flatmap(of)


def exact_pairs(largest: int = 9) -> st.SearchStrategy[rows.Pair]:
    """Draw two rows of blocks [nb] that are exact by construction: one scale each, a power of two."""

    def of(nb: int) -> st.SearchStrategy[rows.Pair]:
        row = st.builds(rows.blocks, st.integers(-14, 8).map(lambda e: 2.0**e), _codes(nb))
        return st.tuples(row, row)

    return st.integers(0, largest).flatmap(of)
