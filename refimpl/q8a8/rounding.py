r"""Rounding: to integers, to half precision, and of a fused multiply-add.

All functions work element by element on arrays of any shape, keep the sign of zeros, and raise no
floating-point warnings: overflow to an infinity is part of their definition, and NaNs pass through.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from q8a8.errors import ArgumentError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "BELOW_HALF",
    "HALF_BITS",
    "HALF_OVERFLOW",
    "f16_to_f32",
    "f32_to_f16",
    "fma32",
    "fma32_steps",
    "round_half_away",
    "round_half_even",
    "round_to_half_bits",
]

HALF_OVERFLOW = 65520.0
"""The smallest magnitude that rounds to a float16 infinity (Q8A8-HLF-4); 65504 is the largest finite half."""

HALF_BITS = 11
"""Significant bits of half precision."""

_TIE, _BELOW = np.int64(1 << 28), np.int64((1 << 29) - 1)
"""The bits of a float64 that float32 has no room for, and what they are half-way between two float32."""

_SUBNORMAL = 2.0**-126
"""Below it float32 has less room than `_BELOW` says."""

BELOW_HALF = np.float32(float.fromhex("0x1.fffffep-2"))
"""The float32 just below 1/2: 1/2 - 2^-25."""


def round_half_away(x: ArrayLike) -> NDArray[np.float32]:
    """Round to the nearest integer, halves away from zero: C's `roundf` (Q8A8-QNT-4).

    The formula is `trunc(f32(|x| + c))` with the sign of x put back, where c = 1/2 - 2^-25 is the float32
    just below 1/2. (With c = 1/2 it would be wrong: f32(0.49999997 + 1/2) = 1, and f32(8388609 + 1/2) =
    8388610.)

    Proof, for x >= 0 with n = floor(x); a rounding never crosses a float32 number.

    * n <= x < n + 1/2, n = 0: x <= 1/2 - 2^-25, so x + c <= 1 - 2^-24, a float32. Truncated: 0.
    * n <= x < n + 1/2, 1 <= n < 2^23: float32 numbers in the binade of n are g <= 1/2 apart, and x, n + 1/2
      and n + 1 are multiples of g. So x <= n + 1/2 - g and x + c < n + 1 - g, a float32. Truncated: n.
    * n + 1/2 <= x < n + 1, n < 2^23: x + c >= n + 1 - 2^-25. The float32 just below n + 1 is at least 2^-24
      away from it, so n + 1 is the nearest (x = 1/2 is a tie between 1 - 2^-24 and 1, and 1 is the even one).
      As x + c < n + 3/2, the sum does not reach n + 2 either. Truncated: n + 1.
    * x >= 2^23: x is an integer, its neighbours are 1 or more away, and c < 1/2 does not move it.

    Parameters
    ----------
    x
        float32 `[...]`; anything else is converted to float32 first.

    Returns
    -------
    float32 `[...]`, integers; infinities and NaNs as they were.
    """
    x = np.asarray(x, np.float32)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.copysign(np.trunc(np.abs(x) + BELOW_HALF), x))


def round_half_even(x: ArrayLike) -> NDArray[np.float32]:
    """Round to the nearest integer, halves to the even one: C's `rintf`, Arm's `vcvtnq`.

    Parameters
    ----------
    x
        float32 `[...]`; anything else is converted to float32 first.

    Returns
    -------
    float32 `[...]`, integers; infinities and NaNs as they were.
    """
    with np.errstate(invalid="ignore"):
        return np.rint(np.asarray(x, np.float32))


def f32_to_f16(x: ArrayLike) -> NDArray[np.float16]:
    """Round float32 to half precision, ties to even (Q8A8-HLF-1, Q8A8-HLF-2, Q8A8-HLF-4).

    Subnormal halves (multiples of 2^-24) are kept; magnitudes of 65520 and more become infinities.

    Parameters
    ----------
    x
        float32 `[...]`; anything else is converted to float32 first.

    Returns
    -------
    float16 `[...]`.
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return np.asarray(x, np.float32).astype(np.float16)


def round_to_half_bits(x: ArrayLike, bits: int = 11) -> NDArray[np.float32]:
    """Round to half precision with fewer significant bits, ties to even.

    With 11 bits it is half precision itself. With 7, the product of a result and an integer of 4 bits has 11
    bits at most: it is a half too, unless it overflows.

    Parameters
    ----------
    x
        float32 `[...]`; anything else is converted to float32 first.
    bits
        1 to 11.

    Returns
    -------
    float32 `[...]`; infinite where half precision overflows.

    Raises
    ------
    ArgumentError
        for other bits.
    """
    if not 1 <= bits <= HALF_BITS:
        raise ArgumentError(f"bits: expected 1 to {HALF_BITS}, got {bits}")
    x = np.asarray(x, np.float32)
    if bits < HALF_BITS:
        # Rounded once: below 2^-14 the distance of halves, 2^-24, is the distance of the results as well.
        exponent = np.maximum(np.frexp(x)[1] - bits, -24)
        x = np.ldexp(np.rint(np.ldexp(x, -exponent)), exponent)
    return f16_to_f32(f32_to_f16(x))


def f16_to_f32(h: ArrayLike) -> NDArray[np.float32]:
    """Widen half precision to float32: exact for every finite half (Q8A8-HLF-3).

    Parameters
    ----------
    h
        float16 `[...]`.

    Returns
    -------
    float32 `[...]`.
    """
    with np.errstate(invalid="ignore"):
        return np.asarray(h, np.float16).astype(np.float32)


def fma32(a: ArrayLike, b: ArrayLike, c: ArrayLike) -> NDArray[np.float32]:
    """Compute a·b + c, a fused multiply-add, rounded once to float32 (nearest, ties to even).

    NumPy has no such operation, and `f32(f64(a)*f64(b) + f64(c))` rounds twice: the sum to float64, then to
    float32. Where the first rounding lands on a tie of the second, the result may be the wrong neighbour.

    Method (S. Boldo and G. Melquiond, "Emulation of FMA and correctly rounded sums: proved algorithms using
    rounding to odd", IEEE Transactions on Computers 57(4), 2008), all of it in float64::

        p     = a · b
        s, e  = TwoSum(p, c)          s = f64(p + c),  s + e = p + c exactly
        odd   = s                     if e = 0, or the last bit of s is 1
                s's neighbour on e's side          otherwise
        result = f32(odd)

    Proof that the result is f32(a·b + c).

    * p is exact: the product of two 24-bit significands has at most 48 <= 53 bits, and its last bit is worth
      2^-298 or more and its magnitude is below 2^256, both well inside float64's range, so nothing
      underflows or overflows.
    * TwoSum (Knuth) gives the rounding error of a float64 sum exactly, as long as no step overflows; none
      does.
    * `odd` is p + c rounded to odd: the exact value itself where it is a float64, and otherwise, of the two
      neighbouring float64 that enclose it, the one whose last bit is 1. (s is one of the two, since it is
      the nearer one. Neighbours have adjacent bit patterns, and so last bits that differ: if s is even the
      other one is odd. It lies on the side that e points to.)
    * Rounding to odd and then to float32 is the same as rounding to float32 at once. The float32 numbers
      around p + c, and the midpoints between them, are float64 numbers with an even last bit: a midpoint of
      normal float32 numbers has 25 significant bits, one of subnormal float32 numbers is a multiple of
      2^-150, and float64 has at least two more bits below that, 2^-150 being far above its own subnormals.
      If p + c is such a number, it is exact, `odd` is p + c, and one rounding is left. If it is not, it
      lies strictly between two of them, so does `odd` (enclosed by neighbours, and not an even one of
      them), and rounding to nearest sends everything strictly between them to the same float32. This covers
      subnormal results, the threshold of overflow (a midpoint too), and tiny sums that vanish to zero with
      their sign.
    * Zeros: where p + c is an exact zero, s is the zero that IEEE-754 prescribes for the sum, and for the
      fused operation too. Infinities and NaNs: s is the result.

    Parameters
    ----------
    a, b, c
        float32, shapes that broadcast; anything else is converted to float32 first.

    Returns
    -------
    float32, in the broadcast shape.
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        a, b, c = (np.asarray(v, np.float32).astype(np.float64) for v in (a, b, c))
        p = a * b
        s = np.asarray(p + c)
        # TwoSum: the part of each operand that reached s, and the rest of each.
        from_c = s - p
        from_p = s - from_c
        e = np.asarray((p - from_p) + (c - from_c))
        bits = s.view(np.int64)
        # An infinity has an even last bit too, and its e is a NaN: comparing with 0 is false for both signs.
        even = (bits & 1) == 0
        outwards = even & np.where(s > 0, e > 0, e < 0)
        inwards = even & np.where(s > 0, e < 0, e > 0)
        bits = bits + outwards - inwards
        return np.asarray(bits.view(np.float64).astype(np.float32))


def fma32_steps(
    total: NDArray[np.float32], a: NDArray[np.float32], b: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Take one fused step after the other: total = fma32(a_i, b_i, total).

    Each step is taken in float64, where a·b is exact, and rounded to float32. The sum was rounded before, to
    float64, and two roundings are one unless the first was inexact and lands half-way between two float32.
    Whether any did is seen afterwards, for all steps at once: those totals, few if any, take their steps
    again by `fma32`.

    Parameters
    ----------
    total
        float32 `[...]`.
    a, b
        float32 `[steps, ...]`, shapes of one step that broadcast to that of `total`.

    Returns
    -------
    float32 `[...]`.
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        products = np.broadcast_to(a.astype(np.float64) * b, (len(a), *total.shape))
        sums = np.empty_like(products, order="C")
        before = np.empty(products.shape, np.float32)
        last = total
        for product, added, held in zip(products, sums, before, strict=True):
            held[...] = last
            np.add(product, held, out=added)
            last = added.astype(np.float32)
        # TwoSum, as in `fma32`
        from_held = sums - products
        error = (products - (sums - from_held)) + (before - from_held)
        near = ((sums.view(np.int64) & _BELOW) == _TIE) | (np.abs(sums) < _SUBNORMAL)
        again = (near & (error != 0)).any(axis=0)
    if again.any():
        a, b = (np.broadcast_to(each, products.shape)[:, again] for each in (a, b))
        slow = total[again]
        for a_step, b_step in zip(a, b, strict=True):
            slow = fma32(a_step, b_step, slow)
        last = last.copy()
        last[again] = slow
    return np.asarray(last)
