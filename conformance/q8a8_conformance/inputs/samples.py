"""A few ordinary calls of each function, for checks that are not about values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.inputs import calls as requests
from q8a8_conformance.inputs import dot_rows, mul_mat_rows
from q8a8_conformance.spec.abi import ROW_FUNCTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call

COUNTS = (0, 1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 33)
"""Block counts: none, odd, even, 4k + 3, and what a 2, 4, 8 or 16 times unrolled loop leaves over."""

SIZES = (0, 1, 3, 4, 5, 7, 8, 15, 16, 17, 31, 32, 33, 100, 257)
"""Sizes of activation vectors: what vectors of 4, 8, 16 and 32 elements leave over."""


def floats(size: int) -> Array:
    """Return `size` ordinary elements."""
    return dot_rows.generator("samples", size).standard_normal(size).astype(np.float32)


def _quantize(function: str, nb: int) -> Call:
    return requests.quantize(function, floats(32 * nb))


def _dot_real(nb: int) -> Call:
    return requests.dot_real(*dot_rows.to_v2(*dot_rows.random_pair(nb, seed=9)))


def pair(nb: int) -> Call:
    """Return an ``nrc = 2`` call over rows of `nb` blocks, with strides larger than the least."""
    x, y = (
        np.stack(both)
        for both in zip(dot_rows.random_pair(nb, seed=9), dot_rows.random_pair(nb, seed=8), strict=True)
    )
    return requests.dot_pair(x, y, bs=3, x_gap=34, y_gap=2)


_MAKERS: Mapping[str, Callable[[int], Call]] = {
    requests.QUANTIZERS[0]: lambda nb: _quantize(requests.QUANTIZERS[0], nb),
    requests.QUANTIZERS[1]: lambda nb: _quantize(requests.QUANTIZERS[1], nb),
    requests.DEQUANTIZE: lambda nb: requests.dequantize(dot_rows.random_pair(nb, seed=9, low=-128)[0]),
    requests.ACTIVATION: lambda size: requests.activation(floats(size)),
    requests.DOT: lambda nb: requests.dot(*dot_rows.random_pair(nb, seed=9)),
    requests.DOT_REAL: _dot_real,
}


def sample(function: str, count: int) -> Call:
    """Return one ordinary call: `count` blocks, or elements for the activation quantizer."""
    return _MAKERS[function](count)


def call_of(function: str, count: int, rows: int = 1) -> Call:
    """Return an ordinary call of `count` blocks (elements for an activation vector), of one or two rows."""
    return pair(count) if rows == 2 else sample(function, count)


def other_values(function: str, count: int, rows: int = 1) -> Call:
    """Return a call as :func:`call_of` with other, larger values."""
    if function in requests.QUANTIZERS:
        return requests.quantize(function, 4 * floats(32 * count)[::-1])
    if function == requests.ACTIVATION:
        return requests.activation(4 * floats(count)[::-1])
    if function == requests.DEQUANTIZE:
        return requests.dequantize(dot_rows.random_pair(count, seed=7, low=-128)[0])
    if function == requests.MUL_MAT:
        return requests.mul_mat(*mul_mat_rows.exact(17, 5, max(1, count // 10), 1))
    x, y = dot_rows.random_pair(count, seed=7)
    if rows == 2:
        return requests.dot_pair(np.stack([x, y]), np.stack([y[::-1], x]))
    return requests.dot_real(*dot_rows.to_v2(x, y)) if function == requests.DOT_REAL else requests.dot(x, y)


def beside(function: str, call: Call) -> Call:
    """Return a short call of a function, on the elements of another call where both take elements.

    Behind them comes a block of the largest: what a function keeps by a value that is the same, shows in the
    other.
    """
    given = next(
        (call.buffers[i].data for i in call.spec.inputs if call.spec.buffers[i].element == "f32"), b""
    )
    x = np.frombuffer(given, "<f4")
    if not x.size or function in (requests.DEQUANTIZE, requests.DOT, requests.DOT_REAL):
        return sample(function, 2) if function in _MAKERS else requests.mul_mat(*mul_mat_rows.exact(2, 3, 4))
    row = np.append(np.resize(x, -(-x.size // 32) * 32), np.full(32, np.abs(x).max(), np.float32))
    if function == requests.MUL_MAT:
        return requests.mul_mat(dot_rows.filled(row.size // 32, 1)[np.newaxis], row[np.newaxis])
    return requests.activation(row) if function == requests.ACTIVATION else requests.quantize(function, row)


def samples(function: str, *, two_rows: bool = False) -> list[Call]:
    """Return ordinary calls of a function of every awkward length, on request with ``nrc = 2`` ones."""
    counts = SIZES if function == requests.ACTIVATION else COUNTS
    calls = [sample(function, count) for count in counts]
    if two_rows and function == requests.DOT:
        calls += [pair(nb) for nb in COUNTS]
    return calls


def functions() -> tuple[str, ...]:
    """Return the ABI's functions of rows, as parameters of checks that go through all of them."""
    return ROW_FUNCTIONS
