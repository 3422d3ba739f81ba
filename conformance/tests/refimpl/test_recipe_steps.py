"""The steps that kernels take in the place of the specification's: values worked out by hand."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import numpy as np
import pytest

from q8a8.recipe import RECIPES, Recipe, apply_recipe
from q8a8.recipe_steps import CONVERSIONS, HALVES, INVERSES, LARGEST, ROUNDINGS, SCALES

ULP, SUBNORMAL = 2.0**-10, 2.0**-24
TIE, ABOVE = 1 + ULP / 2, 1 + ULP / 2 + 2.0**-20


@pytest.mark.parametrize(
    ("step", "d", "half"),
    [
        ("nearest-even", TIE, 1),
        ("nearest-even", ABOVE, 1 + ULP),
        ("nearest-even", 1.5 * SUBNORMAL, 2 * SUBNORMAL),
        ("truncated", ABOVE, 1),
        ("truncated", 1, 1),
        ("ties-up", TIE, 1 + ULP),
        ("ties-up", TIE - 2.0**-20, 1),
        ("up", 1 + 2.0**-20, 1 + ULP),
        ("up", 1, 1),
        ("carry-lost", ABOVE, 1 + ULP),
        ("carry-lost", 2 - ULP / 4, 1),
        ("carry-lost", 1023.75 * SUBNORMAL, 0),
        ("subnormals-truncated", 1.5 * SUBNORMAL, SUBNORMAL),
        ("subnormals-truncated", ABOVE, 1 + ULP),
        ("subnormals-flushed", 1023 * SUBNORMAL, 0),
        ("subnormals-flushed", 1024 * SUBNORMAL, 1024 * SUBNORMAL),
    ],
)
def test_halves(step: str, d: float, half: float) -> None:
    """Ties, neighbours of ties, numbers that are halves, and the smallest normal half."""
    assert HALVES[step](np.array([d], np.float32)).tolist() == [half]


@pytest.mark.parametrize(
    ("step", "d", "bits"),
    [
        ("bfloat16", 1, 0x3F80),
        ("bfloat16", 1 + 2.0**-8, 0x3F80),
        ("bfloat16", 1 + 2.0**-8 + 2.0**-20, 0x3F81),
        ("integer", 3.7, 3),
        ("integer", 7e4, 65535),
        ("integer", np.nan, 0),
    ],
)
def test_bits_in_the_place_of_a_half(step: str, d: float, bits: int) -> None:
    """What is stored there is no half: a bfloat16, its ties to even, or an integer."""
    assert HALVES[step](np.array([d], np.float32)).view(np.uint16).tolist() == [bits]


def test_largest_and_scale() -> None:
    """The largest element, the smallest, and numbers of which sixteen bits are cut off."""
    x = np.array([[1, -(2 + 2.0**-6)], [3, 2]], np.float32)
    assert LARGEST["largest"](x).tolist() == [1, 3]
    assert LARGEST["minus-smallest"](x).tolist() == [2 + 2.0**-6, 0]
    assert LARGEST["upper-sixteen-bits"](x + np.float32(2.0**-9)).tolist() == [2, 3]
    assert SCALES["upper-sixteen-bits"](np.array([127 * (1 + 2.0**-8)], np.float32), 127.0).tolist() == [1]


def test_inverse_from_an_estimate() -> None:
    """Of 1/3 the estimate is 341/1024; refined once 349525/2^20, and 127 times that, rounded to 24 bits."""
    found = INVERSES["127/amax-estimated"](np.array([3], np.float32), None, None, 127.0)
    assert found.dtype == np.float32
    assert [Fraction(each) for each in found.tolist()] == [Fraction(44389676, 1 << 20)]


@pytest.mark.parametrize("amax", [3, 5, 7, 11, 0.1, 127])
def test_inverse_toward_zero(amax: float) -> None:
    """It is at most the quotient, and the next float is above it."""
    (found,) = INVERSES["127/amax-truncated"](np.array([amax], np.float32), None, None, 127.0)
    exact = 127 / Fraction(float(np.float32(amax)))
    assert Fraction(float(found)) <= exact < Fraction(float(np.nextafter(found, np.float32(np.inf))))


def test_the_least_code_of_negative_elements() -> None:
    """-127 becomes -128 where the element is negative, as a shift of codes without a sign has it."""
    v, x = (np.array(of, np.float32) for of in ([-127, -127, 5], [-1, 1, 2]))
    assert CONVERSIONS["lowest-128"](v, x).tolist() == [-128, -127, 5]


def test_rounding_of_doubles() -> None:
    """Halves of both signs, away from zero and to even, where a product was not rounded to float32."""
    v = np.array([0.5, 1.5, -0.5, -2.5])
    assert ROUNDINGS["half-away"](v).tolist() == [1, 2, -1, -3]
    assert ROUNDINGS["half-even"](v).tolist() == [0, 2, 0, -2]


def _like(name: str, **steps: str) -> Recipe:
    return dataclasses.replace(RECIPES["design"], name=name, **steps)  # type: ignore[arg-type]  # all are words


def test_product_in_double() -> None:
    """f32(127 / 5) * x is less than 1/2 by less than half an ULP: a tie of floats, no tie in float64."""
    inv, element = np.float32(127) / np.float32(5), np.float32(float.fromhex("0x1.42850ap-6"))
    assert 0 < Fraction(1, 2) - Fraction(float(inv)) * Fraction(float(element)) < Fraction(1, 1 << 26)
    x = np.zeros((1, 32), np.float32)
    x[0, :2] = 5, element
    assert apply_recipe(x, _like("single"))[1][0, 1] == 1
    assert apply_recipe(x, _like("double", product="float64"))[1][0, 1] == 0


def test_scale_of_zeros() -> None:
    """The scale of a block that vanishes: 1, or 0 with the sign of the first element."""
    x = np.zeros((3, 32), np.float32)
    x[1, 0], x[2] = -0.0, 127
    assert apply_recipe(x, _like("one", zero_scale="one"))[0].tolist() == [1, 1, 1]
    signs = np.signbit(apply_recipe(x, _like("signed", zero_scale="signed"))[0])
    assert signs.tolist() == [False, True, False]
