"""Float products, sums and functions of the model path: the machine's, or in an order of our own.

NumPy leaves products to a BLAS, whose kernels add in another order on every kind of processor, and its exp,
log and tanh differ by processor as well. Within `own_order()` everything here has the same bits on every
machine with IEEE 754 arithmetic::

    product    each element is its exact sum, rounded to float32 once. A float64 BLAS has it, off by no more
               than a proven bound (docs/proofs.md#products-rounded-once); where both ends of it round to
               different float32, which is seldom, the element is summed exactly (`math.fsum`)
    sum        halves are added elementwise, then their halves: one tree for each length
    functions  float64 polynomials, one NumPy operation for each product and sum; never fused

NumPy rounds each elementwise product, sum, quotient and square root correctly; that is all it is asked for.
Results are rounded to float32 once. float64 arguments (a model that is evaluated in float64) go the machine's
way, and so does what uses LAPACK.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    Float = NDArray[Any]
    F64 = NDArray[np.float64]

__all__ = ["cos_sin", "exp", "is_own", "log", "matmul", "own_order", "power", "row_sums", "tanh"]

_own: ContextVar[bool] = ContextVar("own", default=False)

_CHUNK = 1 << 15
"""Elements that a polynomial is evaluated on at a time: they stay in the cache."""

_COLUMNS = 1 << 10
"""Columns of a second factor that are multiplied at a time, so that their sums stay in the cache."""

_LARGEST = 2.0**300
"""Greater than any product of norms of float32 numbers; the product of two is finite."""

_MANY = 1 << 10
"""Elements of a product from which on it is worth the time to look for the unit of their sums."""

_TERMS = 192
"""Terms that a BLAS adds at a time: the bound grows with them, and with it what is summed exactly."""


@contextmanager
def own_order() -> Iterator[None]:
    """Compute in an order of our own until the context is left."""
    token = _own.set(True)
    try:
        yield
    finally:
        _own.reset(token)


def is_own() -> bool:
    """Return whether the order is our own."""
    return _own.get()


def _machine(*arrays: Float) -> bool:
    """Return whether arrays go the machine's way."""
    return not _own.get() or any(array.dtype != np.float32 for array in arrays)


def matmul(a: Float, b: Float, *, wide: bool = False) -> Float:
    """Multiply matrices: `[..., t, k]` by `[..., k, m]`.

    Parameters
    ----------
    a, b
        float32, or float64 both.
    wide
        Return float64 whatever the arguments are, computed the machine's way.
    """
    if wide:
        return a.astype(np.float64) @ b
    if _machine(a, b) or not (np.isfinite(a).all() and np.isfinite(b).all()):
        product: Float = a @ b
        return product
    left = a.astype(np.float64)
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    result = np.empty((*batch, a.shape[-2], b.shape[-1]), np.float32)
    for start in range(0, b.shape[-1], _COLUMNS):
        # Every column is by itself.
        part = slice(start, start + _COLUMNS)
        result[..., part] = _rounded_once(left, b[..., part].astype(np.float64))
    return result


def _rounded_once(a: F64, b: F64) -> NDArray[np.float32]:
    """Multiply matrices of float32 numbers, held as float64; each element is the exact one, rounded once."""
    k = a.shape[-1]
    sums = a[..., :_TERMS] @ b[..., :_TERMS, :]
    for start in range(_TERMS, k, _TERMS):
        sums += a[..., start : start + _TERMS] @ b[..., start : start + _TERMS, :]
    roundings = min(k, _TERMS) + k // _TERMS + 8
    share = roundings * 2.0**-53 * (1 + (k + 8) * 2.0**-50)
    longest = np.sqrt(np.einsum("...ij,...ij->...j", b, b).max(axis=-1, initial=0)) * share
    off = (np.sqrt(np.einsum("...ij,...ij->...i", a, a)) * longest[..., None])[..., None]
    with np.errstate(over="ignore", under="ignore"):
        rounded: NDArray[np.float32] = (sums + off).astype(np.float32)
        sums -= off
        near = rounded != sums.astype(np.float32)
    if near.sum() > _MANY:
        # Sums of numbers of few bits often lie on a tie. They are multiples of a unit, and where the error is
        # less than half of it, the nearest multiple is the sum.
        units = _units(a)[..., None] * _units(np.swapaxes(b, -1, -2))[..., None, :]
        sums += off
        known = near & (4 * off < units)
        rounded[known] = (np.rint(sums[known] / units[known]) * units[known]).astype(np.float32)
        near &= ~known
    a = np.broadcast_to(a, (*near.shape[:-2], *a.shape[-2:]))
    b = np.broadcast_to(b, (*near.shape[:-2], *b.shape[-2:]))
    for *batch, i, j in zip(*np.unravel_index(np.flatnonzero(near), near.shape), strict=True):
        where = tuple(batch)
        # (24 times 24 bits: every product is exact.)
        rounded[(*where, i, j)] = _exact_sum((a[where][i] * b[where][:, j]).tolist())
    # Which zero a sum cancels to is the order's.
    rounded += np.float32(0)
    return rounded


def _units(x: F64) -> F64:
    """Return a power of two that all numbers of a row `[..., k]` are multiples of, the greatest: `[...]`.

    Of zeros, which are multiples of all, it is `_LARGEST`.
    """
    fractions, exponents = np.frexp(x)
    integers = np.ldexp(fractions, 53).astype(np.int64)
    units = np.ldexp((integers & -integers).astype(np.float64), exponents - 53)
    least: F64 = np.where(x != 0, units, _LARGEST).min(axis=-1, initial=_LARGEST)
    return least


def _exact_sum(terms: list[float]) -> np.float32:
    """Sum float64 numbers exactly, and round once to float32: through the odd neighbour, as `fma32` does."""
    total = math.fsum(terms)
    with np.errstate(over="ignore", under="ignore"):
        if np.float32(math.nextafter(total, -math.inf)) != np.float32(math.nextafter(total, math.inf)):
            rest = math.fsum([*terms, -total])
            if rest and not np.float64(total).view(np.int64) & 1:
                total = math.nextafter(total, math.copysign(math.inf, rest))
        return np.float32(total)


def row_sums(x: Float) -> Float:
    """Sum along the last axis, which is kept with length 1."""
    if not _own.get():
        total: Float = x.sum(axis=-1, keepdims=True)
        return total
    return _tree(x.astype(np.float64)).astype(x.dtype)


def _tree(x: F64) -> F64:
    """Add the second half to the first until one element is left; an odd one waits."""
    if not x.shape[-1]:
        return np.zeros((*x.shape[:-1], 1))
    while (n := x.shape[-1]) > 1:
        half = (n + 1) // 2
        added = x[..., :half].copy()
        added[..., : n - half] += x[..., half:]
        x = added
    return x


def exp(x: Float) -> Float:
    """Compute e^x."""
    if not _own.get():
        result: Float = np.exp(x)
        return result
    return _by_chunks(_exp, x)


def log(x: Float) -> Float:
    """Compute ln x of numbers of 0 and more."""
    if not _own.get():
        result: Float = np.log(x)
        return result
    return _by_chunks(_log, x)


def tanh(x: Float) -> Float:
    """Compute tanh x."""
    if not _own.get():
        result: Float = np.tanh(x)
        return result
    # Above 20 it is 1 in float64 too.
    return _by_chunks(lambda z: 1 - 2 / (_exp(2 * np.clip(z, -20, 20)) + 1), x)


def power(x: Float, y: float) -> Float:
    """Compute x^y of numbers of 0 and more."""
    if not _own.get():
        result: Float = x**y
        return result
    if y == 0:
        return np.ones_like(x)
    return _by_chunks(lambda z: _exp(y * _log(z)), x)


def cos_sin(angles: F64) -> tuple[F64, F64]:
    """Compute cosine and sine of angles below 2^20, float64."""
    if not _own.get():
        return np.cos(angles), np.sin(angles)
    # Cody and Waite: the quarter's three parts have 33 bits, so that their multiples are exact.
    quarters = np.rint(angles * (2 / np.pi))
    r = angles - quarters * 1.57079632673412561417
    r -= quarters * 6.07710050630396597660e-11
    r -= quarters * 2.02226624879595063154e-21
    z = r * r
    sine = r + r * z * _horner(z, _SINE)
    cosine = 1 - z / 2 + z * z * _horner(z, _COSINE)
    turn = quarters.astype(np.int64) % 4
    swapped = turn % 2 == 1
    c, s = np.where(swapped, sine, cosine), np.where(swapped, cosine, sine)
    return np.where((turn == 1) | (turn == 2), -c, c), np.where(turn >= 2, -s, s)


_SINE = (
    -1.66666666666666324348e-01,
    8.33333333332248946124e-03,
    -1.98412698298579493134e-04,
    2.75573137070700676789e-06,
    -2.50507602534068634195e-08,
    1.58969099521155010221e-10,
)
_COSINE = (
    4.16666666666666019037e-02,
    -1.38888888888741095749e-03,
    2.48015872894767294178e-05,
    -2.75573143513906633035e-07,
    2.08757232129817482790e-09,
    -1.13596475577881948265e-11,
)
"""Coefficients of z, z², ... of fdlibm (k_sin.c, k_cos.c), for |r| <= pi/4."""

_TAYLOR = (
    1.0,
    1.0,
    1 / 2,
    1 / 6,
    1 / 24,
    1 / 120,
    1 / 720,
    1 / 5040,
    1 / 40320,
    1 / 362880,
    1 / 3628800,
    1 / 39916800,
    1 / 479001600,
    1 / 6227020800,
)
"""1/n!: for |r| <= ln(2)/2 the next term is below 2^-57."""

_ATANH = tuple(1 / (2 * n + 1) for n in range(12))
"""artanh(s) = s + s³/3 + ...: for |s| <= 0.172 the next term is below 2^-65 of s."""

_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
"""ln 2 in two parts, the first of 32 bits."""


def _horner(x: F64, coefficients: tuple[float, ...]) -> F64:
    """Evaluate a polynomial, the constant first."""
    total = np.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total *= x
        total += coefficient
    return total


def _exp(x: F64) -> F64:
    """Compute e^x in float64: e^r · 2^n."""
    x = np.clip(x, -746.0, 710.0)
    n = np.rint(x * 1.4426950408889634)
    r = x - n * _LN2_HIGH
    r -= n * _LN2_LOW
    with np.errstate(over="ignore", under="ignore"):
        return np.ldexp(_horner(r, _TAYLOR), n.astype(np.int32))


def _log(x: F64) -> F64:
    """Compute ln x in float64: ln m + n · ln 2, m within a root of 2 of 1."""
    m, n = np.frexp(x)
    small = m < 0.7071067811865476
    m, n = np.where(small, 2 * m, m), n - small
    s = (m - 1) / (m + 1)
    with np.errstate(invalid="ignore"):
        found = n * _LN2_HIGH + (2 * s * _horner(s * s, _ATANH) + n * _LN2_LOW)
    return np.where(x > 0, found, -np.inf)


def _by_chunks(function: Callable[[F64], F64], x: Float) -> Float:
    """Apply a function of float64 to an array, and round to its type."""
    x = np.asarray(x)
    flat, out = np.ascontiguousarray(x).reshape(-1), np.empty(x.size, x.dtype)
    with np.errstate(over="ignore"):
        for start in range(0, x.size, _CHUNK):
            out[start : start + _CHUNK] = function(flat[start : start + _CHUNK].astype(np.float64))
    return out.reshape(x.shape)
