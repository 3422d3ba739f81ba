"""Forms of dequantization that take a number off again which was added to the code: d · (q + m) - d · m.

A code becomes a float without a conversion where its bits are those of a number m + q. What that adds to the
product is subtracted, and is exact only where the factors' bits are few enough.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.diagnosis.dequantizers.model import F32, Form, of_read
from q8a8_conformance.reveal.grids import FORMATS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from q8a8_conformance.inputs.arrays import Array

    Change = Callable[[Array], Array]

NEAR = 128
"""What makes a code unsigned; beside a greater number, too."""

F64 = np.float64


def _half(v: Array) -> Array:
    return np.asarray(v.astype(np.float16), F32)


ROUNDED: dict[str, Change] = {
    "float32": lambda v: v.astype(F32),
    "half": _half,
    "bfloat16": lambda v: FORMATS["bfloat16"].nearest(v.astype(F64)).astype(F32),
}
"""What m · d is rounded to before it is subtracted."""


def offset_forms() -> Iterator[Form]:
    """Yield the forms of all numbers, the smallest first; those that subtract floats before others."""
    wide = [f * 2.0**k for k in range(15, 25) for f in (1, 1.5)]
    numbers = [NEAR - 1, NEAR, 2 * NEAR - 1, 2 * NEAR, *wide, *(m + NEAR for m in wide)]
    for name, number, is_fused in itertools.product(ROUNDED, sorted(numbers), (False, True)):
        yield _form(number, name, is_fused=is_fused)


def _form(number: float, name: str, *, is_fused: bool) -> Form:
    sum_ = f"{number:.0f} is added to the code, and {number:.0f} · scale, rounded to {name},"
    how = "in one rounding (fma)" if is_fused else "from the rounded product"
    what = f"{sum_} is subtracted {how}"
    gives = of_read("product", partial(_without, F32(number), ROUNDED[name], is_fused))
    return Form("product", "product", what, gives, {"added": float(number), "subtracted": name})


def _without(number: np.float32, rounded: Change, is_fused: bool, d: Array, v: Array, _y: Array) -> Array:
    subtracted = rounded(d * number)
    if is_fused:
        return np.asarray(d.astype(F64) * (v + number) - subtracted, F32)
    return np.asarray(d * (v + number) - subtracted)
