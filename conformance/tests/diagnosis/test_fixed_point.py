"""Dot products in fixed point: units, and what becomes of what is too large, whatever it comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8_conformance.faults.kernel import DOT

from .dot_calls import FourResults, facts_about, own, scale

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8_conformance.inputs.arrays import Array

    # Sums of blocks, scales of x and of y [nb] -> the result.
    Result = Callable[[Array, Array, Array], float]


def _kept(values: Array, bits: int, width: int) -> Array:
    """Return integers of some width, with some bits behind the point, that wrap."""
    size, kept = 2.0 ** (width - bits), np.rint(values * 2.0**bits) / 2.0**bits
    return np.asarray(kept - size * np.floor(kept / size + 0.5))


def _sum_of_32_bits(sums: Array, dx: Array, dy: Array) -> float:
    return float(_kept(_kept(sums * dx * dy, 24, 64).sum(), 24, 32))


def _sum_of_64_bits(sums: Array, dx: Array, dy: Array) -> float:
    total = sum(int(s) * int(np.ldexp(d, 48)) for s, d in zip(sums, dx * dy, strict=True))
    return ((total + 2**63) % 2**64 - 2**63) / 2**48


def _running_sum_saturates(sums: Array, dx: Array, dy: Array) -> float:
    total = 0.0
    for term in np.rint(sums * dx * dy * 2**16) / 2**16:
        total = float(np.clip(total + term, -(2.0**15), 2.0**15 - 2.0**-16))
    return total


def _scale_of_16_bits(sums: Array, dx: Array, dy: Array) -> float:
    return float((sums * _kept(dx, 15, 16) * dy).sum())


def _product_and_sum_of_32_bits(sums: Array, dx: Array, dy: Array) -> float:
    return float(_kept((sums * _kept(dx * dy, 16, 64)).sum(), 16, 32))


def _scales_and_high_half(sums: Array, dx: Array, dy: Array) -> float:
    of_x, of_y = (np.rint(d * 2**15) / 2**15 for d in (dx, dy))
    return float((np.floor(sums * of_x) * of_y).sum())


KERNELS: dict[str, tuple[Result, str]] = {
    "sum-of-32-bits": (
        _sum_of_32_bits,
        (
            "Each block's term is rounded to a multiple of 2^-24; "
            "the sum of the terms wraps from 2^7 on, as an integer of 32 bits does."
        ),
    ),
    "sum-of-64-bits": (_sum_of_64_bits, "The sum of the terms wraps from 2^15 on."),
    "running-sum-saturates": (
        _running_sum_saturates,
        (
            "Each block's term is rounded to a multiple of 2^-16; "
            "the sum of the terms saturates from 2^15 on, as an integer of 32 bits does."
        ),
    ),
    "scale-of-16-bits": (
        _scale_of_16_bits,
        "X's scale is rounded to a multiple of 2^-15 and wraps from 2^0 on, as an integer of 16 bits does.",
    ),
    "product-and-sum-of-32-bits": (
        _product_and_sum_of_32_bits,
        (
            "The product of the scales is rounded to a multiple of 2^-16; "
            "the sum of the terms wraps from 2^15 on, as an integer of 32 bits does."
        ),
    ),
    "scales-and-high-half": (
        _scales_and_high_half,
        (
            "X's scale is rounded to a multiple of 2^-15; y's scale is rounded to a multiple of 2^-15; "
            "a block's sum times x's scale is rounded down to an integer."
        ),
    ),
}


def _facts(result: Result) -> tuple[list[str], bool]:
    """Return what is said about a kernel, and whether it explains all failed calls."""

    def of(_nrc: int, number: int, rows: list[Array]) -> float:
        x, y = own(number, rows)
        sums = (x["weight_qs"].astype(np.int64) * y["weight_qs"]).sum(axis=1)
        return float(np.float32(result(sums, scale(x), scale(y))))

    facts, failures = facts_about(DOT, FourResults(of))
    return [one.sentence for one in facts], all(any(f.explains(one) for f in facts) for one in failures)


@pytest.mark.parametrize("name", KERNELS)
def test_units_and_limits_are_measured(name: str) -> None:
    """One fact says which numbers are in fixed point, and it gives every failed call."""
    result, sentence = KERNELS[name]
    assert _facts(result) == ([sentence], True)


def test_sums_of_16_bits_are_no_fixed_point() -> None:
    """What wraps by itself, whatever its scale is, is a block's sum."""
    said, _ = _facts(lambda sums, dx, dy: float((_kept(sums, 0, 16) * dx * dy).sum()))
    assert said == ["A block's sum is kept in int16 and wraps around."]
