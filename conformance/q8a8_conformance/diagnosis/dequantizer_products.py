"""What a dequantizer makes of the scales and codes that it read, where it is not their product."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from q8a8_conformance.diagnosis.dequantizer_effects import PRODUCTS, rounded
from q8a8_conformance.diagnosis.dequantizer_model import (
    CODES,
    F32,
    FINITE,
    bits_of,
    read_right,
    single_mistakes,
)
from q8a8_conformance.diagnosis.facts import Difference, words
from q8a8_conformance.faults import steps

if TYPE_CHECKING:
    from q8a8_conformance.diagnosis.dequantizer_model import Dequantizer

Array = NDArray[Any]

VALUE = "Q8A8-DEQ-1"

WHOLE = {
    "bfloat16": "product",
    "bfloat16-cut": "product",
    "code-zero": "zero-sign",
    "scale-zero": "zero-sign",
    "negative-code-zero": "zero-sign",
    "negative-scale-zero": "zero-sign",
}
"""Products that are tried before values are read, which would be wrong ones, and the fact that each is."""

PAIRS = 64
"""Products that are wrong by themselves, at most."""


def as_known(fact: str, slug: str, name: str, right: Any) -> Difference:  # noqa: ANN401 - a field's value
    """Return the difference that a mistake of the catalogue is."""
    return Difference(fact, {"as": slug}, *words(cause=slug), partial(replace, **{name: right}))


def of_whole(h: Array, q: Array, bits: Array) -> list[Difference]:
    """Return that every product is another one, which the values of scales alone would show as well."""
    right, codes = read_right()
    finite = FINITE[h]
    d, values, got = right[h[finite]], codes[q[finite]], bits[finite]
    if (bits_of(steps.value(d, values)) == got).all():
        return []
    for name, fact in WHOLE.items():
        what, product = PRODUCTS[name]
        if (bits_of(product(d, values)) == got).all():
            fix = "Multiply in float32: the product is exact, and a zero has the sign of its factors."
            named = words(f"A product of scale and code {what}.", rule=VALUE, fix=fix)
            return [Difference(fact, {"as": name}, *named, partial(replace, product=steps.value))]
    return []


def of_products(
    model: Dequantizer, h: Array, q: Array, bits: Array, wrong: Array
) -> tuple[list[Difference], Dequantizer]:
    """Return what is made of scales and codes where it is not their product."""
    d, codes = model.scales[h], model.codes[q]
    for slug, changes in single_mistakes().items():
        with np.errstate(all="ignore"):
            if "product" in changes and (bits_of(changes["product"](d, codes)) == bits).all():
                return [as_known("product", slug, "product", steps.value)], replace(model, **changes)
    for precision in range(4, 24):
        product = partial(rounded, bits=precision)
        with np.errstate(all="ignore"):
            if (bits_of(product(d, codes)) == bits).all():
                named = words(
                    f"Scale times code is rounded to {precision} significant bits.",
                    rule=VALUE,
                    fix="Multiply in float32: the product is exact.",
                )
                undo = partial(replace, product=steps.value)
                found = Difference("product", {"bits": precision}, *named, undo)
                return [found], replace(model, product=product)
    block, lane = np.nonzero(wrong)
    pairs = sorted(
        {*zip(h[block].tolist(), q[block, lane].tolist(), bits[block, lane].tolist(), strict=True)}
    )
    if len(pairs) > PAIRS:
        return [], model  # Nothing regular.
    half, code, value = pairs[0]
    where = {"pairs": [[half, int(CODES[code])] for half, code, _ in pairs]}
    got = f"{np.uint32(value).view(F32):g}"
    named = words(
        f"The scale 0x{half:04x} times the code {CODES[code]} is {got}; {len(pairs)} products are wrong.",
        rule=VALUE,
        fix="Multiply every scale and code alike.",
    )
    found = Difference("product-of-some-values", where, *named, partial(replace, pairs=()))
    return [found], replace(model, pairs=tuple(pairs))
