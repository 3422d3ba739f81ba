"""Mutants of the matrix product in which one value of a finite set is wrong, or one range under one mode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.faults import steps
from q8a8_conformance.faults.mutant import Mutant

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

F32, F16 = np.float32, np.float16
TILE = 4


def _wrong_product(hx: Array, qx: Array, hw: Array, qw: Array) -> Array:
    """Multiply with a table of all products of two codes, one of which is wrong: (-77) * 113."""
    wrong = np.matmul((qx == 113).swapaxes(0, 1).astype(F32), (qw == -77).transpose(1, 2, 0).astype(F32))
    scales = steps.widen(hx).T[:, :, np.newaxis] * steps.widen(hw).T[:, np.newaxis]
    out = np.zeros((len(hx), len(hw)), F32)
    for term, more in zip(steps.terms_of_matrix(hx, qx, hw, qw), wrong * scales, strict=True):
        out += term + more
    return out


def _wrong_half(hx: Array, qx: Array, hw: Array, qw: Array) -> Array:
    """Read the scales of w from a table of all halves, one of which is wrong: 0xb555."""
    bits = hw.view(np.uint16)
    return steps.matrix(hx, qx, np.where(bits == 0xB555, bits + 1, bits).astype(np.uint16).view(F16), qw)


def _wrong_scale(x: Array) -> tuple[Array, Array]:
    """Take the half above the right one for one scale of x: 0x2c31."""
    h, q = steps.activations(x)
    bits = h.view(np.uint16)
    return np.where(bits == 0x2C31, bits + 1, bits).astype(np.uint16).view(F16), q


def _flushed_in_tiles(hx: Array, qx: Array, hw: Array, qw: Array) -> Array:
    """Read scales of w through a float that may be subnormal, in whole tiles of four by four."""
    out = steps.matrix(hx, qx, hw, qw)
    n, m = (len(h) - len(h) % TILE for h in (hx, hw))
    bits = hw[:m].view(np.uint16).astype(np.uint32)
    small = ((bits & 0x8000) << 16 | (bits & 0x7FFF) << 13).view(F32) * F32(2.0**112)
    # (Where no mode flushes, these are the scales themselves.)
    out[:n, :m] = steps.matrix(hx[:n], qx[:n], small.astype(F16), qw[:m])
    return out


TABLE = "Multiply and convert, or compute the tables."

MUTANTS = (
    Mutant(
        "matrix-product-table-entry",
        "A table of all products of two codes has one wrong entry.",
        {"matrix": _wrong_product},
        rule="Q8A8-MUL-5",
        fix=TABLE,
    ),
    Mutant(
        "matrix-half-table-entry",
        "A table of all halves, for the scales of w, has one wrong entry.",
        {"matrix": _wrong_half},
        rule="Q8A8-MUL-5",
        fix=TABLE,
    ),
    Mutant(
        "matrix-scale-entry",
        "One scale of x is the half above the right one.",
        {"activations": _wrong_scale},
        rule="Q8A8-MUL-4",
        fix=TABLE,
    ),
    Mutant(
        "matrix-flush-in-tiles",
        "In whole tiles subnormal scales of w are read through a subnormal float: 0 where modes flush.",
        {"matrix": _flushed_in_tiles},
        rule="Q8A8-ENV-2",
        fix="Convert by an instruction, by a table, or with integers: no result may depend on flush modes.",
    ),
)
