"""What a matrix product must be: the scalar order's bits, and which other outputs are within the bound.

The sums without rounding are taken in binary64 for all outputs at once. Where that is too coarse to decide,
`expected_dot` decides in integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from q8a8 import layout
from q8a8.bound import LANE_FOLD_ROUNDINGS
from q8a8.matmul import mul_mat_quantized
from q8a8.recipe import quantize_blocks
from q8a8_conformance.results.expected_dot import expected_dot

if TYPE_CHECKING:
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call

ROUNDINGS = 2.0**-6
"""What roundings leave of an output's magnitude at most: those of activations, weights and sums to halves."""

_TERMS = 1 << 20
"""Terms of outputs that are held at a time."""


def matrices_of(call: Call) -> tuple[Array, Array]:
    """Return a call's w, blocks [m, nb], and x, float32 [n, 32·nb]."""
    w, x = (call.buffers[index].data for index in call.spec.inputs)
    return (
        layout.as_blocks(bytes(w)).reshape(call.bs, call.n // layout.QK8_A8),
        np.frombuffer(x, "<f4").reshape(call.bx, call.n),
    )


def outputs_of(call: Call, out: bytes) -> Array:
    """Return a call's outputs, float32 [n, m]."""
    return np.frombuffer(out, "<f4").reshape(call.bx, call.bs)


def is_right(call: Call, out: bytes, recipe: str, *, in_bound: bool) -> bool:
    """Return whether all outputs of a product are right: to the bit, or where it may round, in the bound.

    Its activations, in the recipe's domain, are quantized by it.
    """
    w, x = matrices_of(call)
    scale, codes = quantize_blocks(x.reshape(-1, layout.QK8_A8), recipe)
    expected = ExpectedProduct(w, layout.pack(scale, codes).reshape(len(x), -1))
    actual = outputs_of(call, out)
    right = actual.view(np.uint32) == expected.outputs.view(np.uint32)
    return bool(right.all() or (in_bound and (right | expected.holds(actual)).all()))


@dataclass(frozen=True)
class ExpectedProduct:
    """A matrix product as it must be.

    Attributes
    ----------
    w
        Blocks [m, nb].
    xq
        The quantized rows of x, blocks [n, nb].
    """

    w: Array
    xq: Array

    @cached_property
    def outputs(self) -> Array:
        """The outputs that the specification's scalar order gives, float32 [n, m] (Q8A8-MUL-2)."""
        return mul_mat_quantized(self.w, self.xq)

    @cached_property
    def _sums(self) -> tuple[Array, Array]:
        """The sum of each output, rounded to binary64, and that of the terms' magnitudes, float64 [n, m]."""
        shape = len(self.xq), len(self.w)
        exact, magnitude = np.zeros(shape), np.zeros(shape)
        step = max(1, _TERMS // max(exact.size, 1))
        for start in range(0, self.w.shape[1], step):
            w, x = self.w[:, start : start + step], self.xq[:, start : start + step]
            # Integers of at most 2^19 in magnitude, exact in float32; d has 22 significant bits (Q8A8-ORD-2).
            qw, qx = (each["weight_qs"].swapaxes(0, 1).astype(np.float32) for each in (w, x))
            dw, dx = (each["weight_scale"].T.astype(np.float64) for each in (w, x))
            d = dx[:, :, np.newaxis] * dw[:, np.newaxis]
            exact += (np.matmul(qx, qw.swapaxes(1, 2)) * d).sum(axis=0)
            magnitude += (np.matmul(np.abs(qx), np.abs(qw).swapaxes(1, 2)) * np.abs(d)).sum(axis=0)
        return exact, magnitude

    @property
    def bound(self) -> Array:
        """The largest legal error of each output, float64 [n, m], nearly (Q8A8-ORD-2)."""
        m = self.w.shape[1] + LANE_FOLD_ROUNDINGS
        return np.asarray(np.expm1(m * np.log1p(2.0**-24)) * self._sums[1])

    def errors(self, outputs: Array) -> Array:
        """Return computed - exact of outputs [n, m], float64, nearly; NaN and infinities as they are."""
        with np.errstate(invalid="ignore"):
            return np.asarray(outputs.astype(np.float64) - self._sums[0])

    def nearly(self, outputs: Array) -> bool:
        """Return whether all outputs [n, m] are right but for roundings, of activations too."""
        return bool((np.abs(self.errors(outputs)) <= ROUNDINGS * self._sums[1]).all())

    def holds(self, outputs: Array) -> Array:
        """Return which outputs [n, m] are within the bound: bool [n, m]; NaN and infinities never are."""
        error, bound, magnitude = np.abs(self.errors(outputs)), self.bound, self._sums[1]
        # Of the sum in binary64 and of the bound: far less than the bound's 64 · 2^-24 of the magnitude.
        doubt = magnitude * (2.0 + self.w.shape[1]) * 2.0**-50
        held: Array = error <= bound - doubt
        near = ~held & (error <= bound + doubt)
        for i, j in np.argwhere(near):
            held[i, j] = expected_dot(self.w[j], self.xq[i]).holds(outputs[i, j].astype("<f4").tobytes())
        return held
