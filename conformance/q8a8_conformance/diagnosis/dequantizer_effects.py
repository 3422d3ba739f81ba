"""What may become of a block that is dequantized: other products, and elements that are others of the block.

Each takes scales d float32 [n] and codes' values float32 [n, 32], and returns float32 [n, 32].
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from q8a8_conformance.diagnosis.dequantizer_model import BLOCK, F32

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Array = NDArray[Any]

COMPARED = 64
"""Blocks by which it is found which element another one is."""


def rounded(d: Array, q: Array, bits: int, *, cut: bool = False) -> Array:
    """Return products that are rounded, or cut off, to some significant bits."""
    exact = d.astype(np.float64)[:, np.newaxis] * q
    fraction, exponent = np.frexp(exact)
    whole = np.trunc if cut else np.rint
    return np.asarray(np.ldexp(whole(np.ldexp(fraction, bits)), exponent - bits), F32)


def _times(d: Array, q: Array, factor: float) -> Array:
    return np.asarray(d[:, np.newaxis] * q * F32(factor), F32)


PRODUCTS: Mapping[str, tuple[str, Callable[[Array, Array], Array]]] = {
    "bfloat16": ("is rounded to 8 significant bits", partial(rounded, bits=8)),
    "bfloat16-cut": ("is cut off to 8 significant bits", partial(rounded, bits=8, cut=True)),
    "negated": ("comes out with the other sign", partial(_times, factor=-1)),
    "twice": ("is multiplied by its scale twice", lambda d, q: d[:, np.newaxis] * q * d[:, np.newaxis]),
    "unscaled": ("is not multiplied by its scale", lambda _d, q: q),
    "doubled": ("comes out twice as large", partial(_times, factor=2)),
    "halved": ("comes out half as large", partial(_times, factor=0.5)),
    "scale": ("comes out as its scale alone", lambda d, q: d[:, np.newaxis] + 0 * q),
    "magnitude": ("comes out without a sign", lambda d, q: np.abs(d[:, np.newaxis] * q)),
    "code-magnitude": ("loses the sign of its code", lambda d, q: d[:, np.newaxis] * np.abs(q)),
    "scale-magnitude": ("loses the sign of its scale", lambda d, q: np.abs(d)[:, np.newaxis] * q),
    "negative-code-zero": (
        "is +0 for the code 0 under a scale below 0",
        lambda d, q: np.where((d < 0)[:, np.newaxis] & (q == 0), F32(0), d[:, np.newaxis] * q),
    ),
    "code-zero": (
        "is +0 for the code 0, whatever the sign of its scale",
        lambda d, q: np.where(q == 0, F32(0), d[:, np.newaxis] * q),
    ),
    "scale-zero": (
        "is +0 under a scale of zero, whatever the signs",
        lambda d, q: np.where(d[:, np.newaxis] == 0, F32(0), d[:, np.newaxis] * q),
    ),
    "negative-scale-zero": (
        "is +0 under the scale -0, whatever the code",
        lambda d, q: (
            np.where((d == 0) & np.signbit(d), F32(0), d)[:, np.newaxis]
            * np.where(((d == 0) & np.signbit(d))[:, np.newaxis], F32(1), q)
        ),
    ),
}
"""Products by name: what a block does, in words, and the product."""


def sources(got: Array, want: Array, wrong: Array) -> tuple[int, ...] | None:
    """Return which element of its block each one is, uint32 [n, 32], in blocks that are wrong; else None."""
    some = np.flatnonzero(wrong)[:COMPARED]
    same = (got[some][:, :, np.newaxis] == want[some][:, np.newaxis, :]).all(axis=0)
    own = np.eye(BLOCK, dtype=np.bool_)
    if not same.any(axis=1).all() or (same & own).any(axis=1).all():
        return None
    return tuple(np.where((same & own).any(axis=1), np.arange(BLOCK), same.argmax(axis=1)).tolist())


def lanes_of(got: Array, want: Array, wrong: Array) -> tuple[int, ...]:
    """Return the elements that differ in wrong blocks; none where every element does."""
    lanes = np.flatnonzero((got != want)[wrong].any(axis=0))
    return tuple(lanes.tolist()) if lanes.size < BLOCK else ()
