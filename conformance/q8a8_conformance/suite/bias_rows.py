"""Rows on which a legal kernel's errors have no direction: used to test for a bias.

*Plain* rows have products of one sign only, so that truncation in a product or in a sum, or a scale that is
slightly wrong, moves every result in the same direction. Legal errors do not: that is the usual model of
rounding (on dense data the digits rounded off are as likely above a half as below), and it is measured.

*Anchored* rows need no model. Their first blocks, the anchors, have the one product 3 · 2^11 everywhere and
one scale; the blocks after them are ordinary and small: in all less than 2^11 times the anchors' scale. A
coin decides whether the ordinary blocks are taken with their sign or the opposite one. Every intermediate
value of a legal kernel is then a multiple of the anchors' product plus or minus the same amount, in one
binade, and rounding to nearest is symmetric about it: the coin changes the sign of the error and not its
size. The proof is on the page "Proofs".

In both kinds another coin decides the sign of the whole result, so that "up" and "away from zero" differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.inputs import dot_rows
from q8a8_conformance.results.expected_dot import ExpectedDot, expected_dots

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from q8a8_conformance.inputs.arrays import Array

LENGTHS = (1, 2, 3, 4, 5, 6, 7, 8, 13, 24)
"""Blocks of a row, besides the anchors, by turns."""

ANCHORS = 8
"""Blocks of anchors: one for each of up to eight accumulators."""

ANCHOR_CODES = (96, 64)
ANCHOR_SCALE = 8.0
"""The anchors' products are 96 · 64 = 3 · 2^11, and their scale's is 2^6, which makes c = 3 · 2^17."""

PLAIN_RESULTS = 1040
ANCHORED_RESULTS = 280
"""Results of each kind. A bias of a third of the errors' size shows in 280: its t is sqrt(280) / 3 = 5.6."""


@dataclass(frozen=True)
class Sample:
    """Two rows of v1 blocks [nb], their expected dot product, and the sign of the exact result."""

    x: Array
    y: Array
    product: ExpectedDot
    sign: int


def plain_pairs(nb: int, count: int, rng: np.random.Generator) -> Array:
    """Return pairs of rows, blocks [count, 2, nb], of positive codes and scales."""
    made = [(rng.uniform(-9, -4, nb), rng.integers(1, 128, (nb, 32))) for _ in range(2 * count)]
    exponents, codes = (np.stack(side) for side in zip(*made, strict=True))
    return dot_rows.blocks(np.exp2(exponents), codes).reshape(count, 2, nb)


def anchored_pairs(nb: int, count: int, rng: np.random.Generator) -> Array:
    """Return pairs of rows, blocks [count, 2, ANCHORS + nb]: anchors, then a coin's blocks of either sign."""
    exponents, signs, codes = np.empty((count, 2, nb)), np.empty((count, 2, nb)), np.empty((count, 2, nb, 32))
    for pair in range(count):
        exponents[pair] = rng.uniform(-9, -4, (2, nb))
        signs[pair] = rng.choice([1.0, 1.0, 1.0, -1.0], (2, nb))
        codes[pair] = rng.integers(-127, 128, (2, nb, 32))
        signs[pair, 1] *= rng.choice([-1.0, 1.0])
    anchors = np.stack([dot_rows.filled(ANCHORS, anchor, ANCHOR_SCALE) for anchor in ANCHOR_CODES])
    ordinary = dot_rows.blocks(np.exp2(exponents) * signs, codes)
    return np.concatenate([np.broadcast_to(anchors, (count, *anchors.shape)), ordinary], axis=2)


@lru_cache(maxsize=8)
def samples(kind: str, *key: object) -> tuple[Sample, ...]:
    """Return the samples of a kind in :data:`KINDS`, the same in every run.

    A key, for what is not the plain dot product, gives half as many, of other random numbers. Of each length
    there is an even number, in a row.
    """
    make, count = KINDS[kind]
    if key:
        count //= 2
    rng = dot_rows.generator("bias", kind, *key)
    found: list[Sample] = []
    for nb in LENGTHS:
        pairs = make(nb, count // len(LENGTHS), rng)
        signs = rng.choice([-1, 1], len(pairs))
        x, y = pairs[:, 0].copy(), pairs[:, 1].copy()
        y["weight_scale"] *= signs[:, np.newaxis].astype(np.float16)
        products = expected_dots(x, y)
        found += [Sample(*each) for each in zip(x, y, products, (int(sign) for sign in signs), strict=True)]
    return tuple(found)


KINDS: Mapping[str, tuple[Callable[[int, int, np.random.Generator], Array], int]] = MappingProxyType(
    {"plain": (plain_pairs, PLAIN_RESULTS), "anchored": (anchored_pairs, ANCHORED_RESULTS)}
)
"""How each kind of rows is made, and how many results are taken of it."""
