"""What a dequantizer does otherwise in some blocks, and of which products zeros or bits are others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from q8a8_conformance.faults.kernel import Kernel, Steps
from q8a8_conformance.inputs.calls import DEQUANTIZE

from .test_quantizer_facts import facts_about

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8_conformance.inputs.calls import Array

F32 = np.float32


def _value(change: Callable[[Array, Array, Array], Array]) -> Callable[[], Kernel]:
    """Return a maker of kernels that change elements y of blocks, by their scales d and codes q."""

    def value(d: Array, q: Array) -> Array:
        return np.asarray(change(d[:, np.newaxis] * q.astype(F32), d[:, np.newaxis], q), F32)

    return lambda: Kernel({DEQUANTIZE: Steps(value=value)})


def _numbers(y: Array) -> tuple[Array, int]:
    """Return the numbers of blocks [n, 1], and how many there are."""
    return np.arange(len(y))[:, np.newaxis], len(y)


def _exchanged(y: Array, _d: Array, _q: Array) -> Array:
    y[3::4] = y[3::4][:, np.r_[0:8, 16:24, 8:16, 24:32]]
    return y


def _twice(y: Array, d: Array, _q: Array) -> Array:
    b, n = _numbers(y)
    return np.where((b == n - 1) & (n % 4 != 0), y * d, y)


def _no_sign(y: Array, d: Array, q: Array) -> Array:
    return np.where(_numbers(y)[0] % 2 == 1, np.abs(d) * q, y)


def _bfloat16(y: Array, _d: Array, _q: Array) -> Array:
    return np.asarray((y.view(np.uint32) & np.uint32(0xFFFF0000)).view(F32))


def _zero_code(y: Array, _d: Array, q: Array) -> Array:
    return np.where(q == 0, F32(0), y)


def _end_lost(y: Array, _d: Array, _q: Array) -> Array:
    y[-1:, 28:] = 0
    return y


def _negated(y: Array, _d: Array, _q: Array) -> Array:
    return np.where(_numbers(y)[0] % 8 == 5, -y, y)


FOUND: dict[str, tuple[Callable[[Array, Array, Array], Array], str, dict[str, Any], str]] = {
    "exchanged": (
        _exchanged, "place-elements", {"position": {"kind": "last-of-tile", "tile": 4}},
        "element 8 is that of element 16",
    ),
    "twice": (
        _twice, "place-product", {"value": "twice"},
        "The last block where nb % 4 >= 1 is multiplied by its scale twice.",
    ),
    "no-sign": (
        _no_sign, "place-as", {"value": "dequantize-scale-magnitude"}, "The last block of every 2",
    ),
    "cut-off": (_bfloat16, "product", {"as": "bfloat16-cut"}, "is cut off to 8 significant bits"),
    "zero-code": (_zero_code, "zero-sign", {"as": "code-zero"}, "is +0 for the code 0"),
    "end-lost": (
        _end_lost, "place-zero", {"elements": [28, 29, 30, 31]},
        "Of the last block each of the elements 28 to 31 is zero.",
    ),
    "negated": (
        _negated, "place-product", {"value": "negated"},
        "Every block whose number modulo 8 is 5 comes out with the other sign.",
    ),
}  # fmt: skip
"""What is done otherwise: the fact, its parameters, and a part of its sentence."""


@pytest.mark.parametrize("name", FOUND)
def test_what_is_otherwise(name: str) -> None:
    """The effect and its places are the only fact, which explains every failed call."""
    change, slug, where, sentence = FOUND[name]
    (fact,), failed = facts_about(DEQUANTIZE, _value(change))
    assert fact.fact == slug
    assert where.items() <= fact.where.items()
    assert sentence in fact.sentence
    assert len(fact.explained(failed)) == len(failed) > 0
