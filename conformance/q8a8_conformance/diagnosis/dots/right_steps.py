"""The specification's steps of a dot product as functions: what a `Model` has unless one is measured."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from q8a8 import layout

if TYPE_CHECKING:
    from q8a8_conformance.inputs.arrays import Array

SIZES = {1: layout.BLOCK_Q8_A8.itemsize, 2: layout.BLOCK_Q8_A8_V2.itemsize}
"""Bytes of a block, by version."""


def unpack(data: bytes, nb: int, version: int) -> tuple[Array, Array, Array]:
    """Return weight scales, activation scales (halves [nb]) and codes [nb, 32]; missing bytes are zeros."""
    dtype = layout.BLOCK_Q8_A8 if version == 1 else layout.BLOCK_Q8_A8_V2
    size = nb * dtype.itemsize
    blocks = np.frombuffer(data[:size].ljust(size, b"\0"), dtype)
    second = "weight_scale" if version == 1 else "activation_scale"
    return blocks["weight_scale"], blocks[second], blocks["weight_qs"]


def unpack_at(
    data: bytes, start: int, nb: int, version: int, far: tuple[Array, Array]
) -> tuple[Array, Array, Array]:
    """Return what `unpack` does from a byte on, with scales and codes so many bytes from their own places."""
    most = max(int(np.abs(part).max(initial=0)) for part in far)
    size, of_codes = SIZES[version], SIZES[version] - 32
    held = np.frombuffer(bytes(most) + data + bytes(most + nb * size), np.uint8)
    begins = most + start + size * np.arange(nb)

    def of(first: Array, count: int) -> Array:
        return np.ascontiguousarray(held[first[:, np.newaxis] + np.arange(count)])

    scales = [of(begins + far[0] + at, 2).view(np.float16)[:, 0] for at in (0, 2 * (version == 2))]
    return scales[0], scales[1], of(begins + far[1] + of_codes, 32).view(np.int8)


def pick(x_weight: Array, _x_activation: Array, _y_weight: Array, y_activation: Array) -> tuple[Array, Array]:
    """Take x's weight_scale and y's activation_scale (Q8A8-DOT-9); version 1 has one scale in both roles."""
    return x_weight, y_activation


def blocks(nb: int, row: int, column: int) -> tuple[Array, Array]:
    """Take each block of row `row` of x with the one of row `column` of y; rows follow each other."""
    every = np.arange(nb)
    return every + row * nb, every + column * nb


def strides(_nb: int, bx: int, by: int) -> tuple[int, int]:
    """Take the strides as they are."""
    return bx, by


def places(bs: int) -> tuple[int, int, int, int]:
    """Return where x0·y0, x1·y0, x0·y1 and x1·y1 go, in floats (Q8A8-DOT-6)."""
    return 0, 1, bs, bs + 1


def widen(h: Array) -> Array:
    """Take a half's value (Q8A8-HLF-3)."""
    return np.asarray(h, np.float64)


def products(qx: Array, qy: Array) -> Array:
    """Multiply the codes (Q8A8-DOT-1)."""
    return qx.astype(np.int64) * qy


def correction(qx: Array, _qy: Array) -> Array:
    """Add nothing beside the products (Q8A8-DOT-1)."""
    return np.zeros(len(qx), np.int64)


def block_sum(of: Array) -> Array:
    """Add up each block (Q8A8-DOT-1)."""
    return np.asarray(of.sum(axis=-1))


def scale_product(dx: Array, dy: Array) -> Array:
    """Multiply the scales (Q8A8-DOT-2)."""
    return np.asarray((dx * dy).astype(np.float32), np.float64)


def term(terms: Array) -> Array:
    """Leave a block's term as it is."""
    return terms


def total(terms: Array) -> float:
    """Add up the terms without a rounding."""
    return math.fsum(terms.tolist())


def store(_held: float, result: float, _nb: int) -> float | None:
    """Overwrite (Q8A8-DOT-7); None is for a place that keeps its bytes."""
    return result
