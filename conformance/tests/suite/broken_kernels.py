"""Kernels that are wrong in one way each, as Python objects under test: ``py:broken_kernels:half_even``.

`Kernel` is right; each of the others changes one step of it. They are made for the tests of the suite, and
are as simple as they can be.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from q8a8 import layout
from q8a8.abi import Reference
from q8a8.recipe import defined, quantize_blocks
from q8a8.rounding import round_half_away

Array = NDArray[Any]
F32 = np.float32


class DotCall(NamedTuple):
    """Arguments of a dot product, by their C names."""

    n: int
    s: Array
    bs: int
    vx: Array
    bx: int
    vy: Array
    by: int
    nrc: int


class Kernel(Reference):
    """The specification, step by step, so that a step can be changed."""

    def quantize_row_q8_a8(self, x: Array, y: Array, k: int) -> None:
        """Quantize rows with the steps below."""
        h, q = self.quantize(x[:k].reshape(-1, 32))
        y[: k // 32 * 34] = layout.pack(h, q).view(np.uint8).reshape(-1)

    def quantize_activation_q8_a8(  # the C parameter's name
        self,
        input: Array,  # noqa: A002
        output: Array,
        scale: Array,
        size: int,
    ) -> None:
        """Quantize one vector with the steps below."""
        h, q = self.quantize(input[:size].reshape(1, -1))
        output[:size] = q[0]
        scale[:1] = h.view(np.uint16)

    def quantize(self, x: Array) -> tuple[Array, Array]:
        """Quantize blocks [n, s]."""
        with np.errstate(all="ignore"):
            amax = self.largest(x)
            d = (amax / F32(127)).astype(F32)
            h = self.to_half(d)
            codes = self.to_codes((x * self.inverse(amax, d, h)[:, np.newaxis]).astype(F32))
            return h, np.where(np.isfinite(codes), codes, 0).astype(np.int8)

    def largest(self, x: Array) -> Array:
        """Give the largest magnitude of each block."""
        return np.asarray(np.abs(x).max(axis=1, initial=0), F32)

    def to_half(self, d: Array) -> Array:
        """Round a scale to f16."""
        return d.astype(np.float16)

    def inverse(self, amax: Array, d: Array, h: Array) -> Array:
        """Give what elements are multiplied by."""
        del d
        return np.where(h != 0, F32(127) / amax, F32(0)).astype(F32)

    def to_codes(self, scaled: Array) -> Array:
        """Round to integers."""
        return round_half_away(scaled)

    def ggml_vec_dot_q8_a8_q8_a8(
        self, n: int, s: Array, bs: int, vx: Array, bx: int, vy: Array, by: int, nrc: int
    ) -> None:
        """Take one or four dot products."""
        self.dots(DotCall(n, s, bs, vx, bx, vy, by, nrc))

    def dots(self, c: DotCall) -> None:
        """Take one or four dot products with the steps below."""
        size = c.n // 32 * 34
        for j, i in itertools.product(range(c.nrc), range(c.nrc)):
            x = c.vx[i * c.bx : i * c.bx + size].view(layout.BLOCK_Q8_A8)
            y = c.vy[j * c.by : j * c.by + size].view(layout.BLOCK_Q8_A8)
            c.s[j * c.bs + i] = self.dot(x["weight_scale"], y["weight_scale"], x["weight_qs"], y["weight_qs"])

    def ggml_vec_dot_q8_a8_q8_a8_real(self, n: int, s: Array, vx: Array, vy: Array) -> None:
        """Take one dot product of v2 blocks with the steps below."""
        x, y = (v[: n // 32 * 36].view(layout.BLOCK_Q8_A8_V2) for v in (vx, vy))
        s[0] = self.dot(x["weight_scale"], y["activation_scale"], x["weight_qs"], y["weight_qs"])

    def dot(self, dx: Array, dy: Array, qx: Array, qy: Array) -> np.floating[Any]:
        """Add up the blocks in order."""
        total: np.floating[Any] = F32(0)
        with np.errstate(all="ignore"):
            for d, products in zip(self.scale(dx, dy), self.products(qx, qy), strict=True):
                total = self.add(total, F32(F32(products.sum()) * d))
        return total

    def scale(self, dx: Array, dy: Array) -> Array:
        """Multiply the scales [nb]."""
        return dx.astype(F32) * dy.astype(F32)

    def products(self, qx: Array, qy: Array) -> Array:
        """Multiply the codes [nb, 32]."""
        return qx.astype(np.int32) * qy

    def add(self, total: np.floating[Any], term: np.floating[Any]) -> np.floating[Any]:
        """Add one block's term."""
        return F32(total + term)


class Following(Kernel):
    """Follows a recipe of the catalogue; where that is undefined, gives zeros."""

    def __init__(self, recipe: str) -> None:
        super().__init__(recipe)

    def quantize(self, x: Array) -> tuple[Array, Array]:
        """Quantize blocks [n, s] by the recipe."""
        known = defined(x, self.recipe)
        h, q = np.zeros(len(x), np.float16), np.zeros(x.shape, np.int8)
        h[known], q[known] = quantize_blocks(x[known], self.recipe)
        return h, q


class HalfEven(Kernel):
    """Rounds halves to even."""

    def to_codes(self, scaled: Array) -> Array:
        """Round as rintf does."""
        return np.rint(scaled)


class OneOverD(Kernel):
    """Multiplies by 1/d."""

    def inverse(self, amax: Array, d: Array, h: Array) -> Array:
        """Give f32(1/d), zero where d is."""
        del amax, h
        return np.where(d != 0, F32(1) / d, F32(0)).astype(F32)


class TruncatingHalf(Kernel):
    """Cuts the scale to f16 instead of rounding it."""

    def to_half(self, d: Array) -> Array:
        """Round towards zero."""
        h = d.astype(np.float16)
        above = h.astype(F32) > d
        return np.where(above, np.nextafter(h, np.float16(0)), h).astype(np.float16)


class FlushedHalf(Kernel):
    """Stores subnormal halves as zero."""

    def to_half(self, d: Array) -> Array:
        """Flush what is below 2^-14, but keep the codes."""
        h = d.astype(np.float16)
        return np.where(np.abs(h) < np.float16(2.0**-14), np.float16(0), h).astype(np.float16)

    def inverse(self, amax: Array, d: Array, h: Array) -> Array:
        """Give the inverse that the unflushed half would have."""
        del h
        return super().inverse(amax, d, d.astype(np.float16))


class FlushedDequantize(Kernel):
    """Reads subnormal halves as zero."""

    def dequantize_row_q8_a8(self, x: Array, y: Array, k: int) -> None:
        """Flush scales below 2^-14 when reading."""
        blocks = x[: k // 32 * 34].view(layout.BLOCK_Q8_A8).copy()
        blocks["weight_scale"][np.abs(blocks["weight_scale"]) < np.float16(2.0**-14)] = 0
        super().dequantize_row_q8_a8(blocks.view(np.uint8), y, k)


class SignedLargest(Kernel):
    """Takes the largest element for the largest magnitude."""

    def largest(self, x: Array) -> Array:
        """Give max x, without the magnitude."""
        return np.asarray(np.maximum(x.max(axis=1, initial=0), 0), F32)


class LastSkipped(Kernel):
    """Leaves the last element out of the largest magnitude."""

    def largest(self, x: Array) -> Array:
        """Look at all elements but the last."""
        return np.minimum(np.asarray(np.abs(x[:, :-1]).max(axis=1, initial=0), F32), F32(8e6))

    def to_codes(self, scaled: Array) -> Array:
        """Clip what the wrong inverse made too large."""
        return np.clip(super().to_codes(scaled), -127, 127)


class WholeRow(Kernel):
    """Takes one largest magnitude for the whole row."""

    def largest(self, x: Array) -> Array:
        """Give every block the row's largest magnitude."""
        return np.full(len(x), super().largest(x).max(initial=0), F32)


class ZeroTestOnD(Kernel):
    """Tests d for zero, not the stored half."""

    def inverse(self, amax: Array, d: Array, h: Array) -> Array:
        """Give 127/amax, zero only where d is zero."""
        del h
        return super().inverse(amax, d, d)


class LowestCode(Kernel):
    """Uses the code -128."""

    def to_codes(self, scaled: Array) -> Array:
        """Turn -127 into -128."""
        codes = super().to_codes(scaled)
        return np.where(codes == -127, -128, codes)


class DifferentFunctions(HalfEven):
    """Rounds halves to even in the fast quantizer alone."""

    def quantize_row_q8_a8_ref(self, x: Array, y: Array, k: int) -> None:
        """Quantize as the specification says."""
        Reference.quantize_row_q8_a8(self, x, y, k)


class ActivationRemainder(Kernel):
    """Forgets the last `size % 4` elements of an activation in its largest magnitude."""

    def largest(self, x: Array) -> Array:
        """Look at whole groups of four."""
        return super().largest(x[:, : x.shape[1] // 4 * 4])

    def to_codes(self, scaled: Array) -> Array:
        """Clip what the wrong inverse made too large."""
        return np.clip(super().to_codes(scaled), -127, 127)


class SignTrick(Kernel):
    """Multiplies as ggml's AVX2 kernel does: -128 keeps its sign under a negative factor."""

    def products(self, qx: Array, qy: Array) -> Array:
        """Multiply |x| by y with x's sign, in int8."""
        with np.errstate(all="ignore"):
            signed = np.where(qx < 0, np.negative(qy), np.where(qx == 0, 0, qy)).astype(np.int8)
        return np.abs(qx.astype(np.int32)) * signed


class HalfScale(Kernel):
    """Multiplies the scales in f16."""

    def scale(self, dx: Array, dy: Array) -> Array:
        """Round dx · dy to f16."""
        return (dx * dy).astype(F32)


class HalfSum(Kernel):
    """Adds up in f16."""

    def add(self, total: np.floating[Any], term: np.floating[Any]) -> np.floating[Any]:
        """Round the running sum to f16."""
        return F32(np.float16(total + term))


class UnsignedScale(Kernel):
    """Drops the sign of a scale."""

    def scale(self, dx: Array, dy: Array) -> Array:
        """Multiply magnitudes."""
        return np.abs(super().scale(dx, dy))


class OddBlockDropped(Kernel):
    """Leaves out the last block of an odd number of them."""

    def products(self, qx: Array, qy: Array) -> Array:
        """Clear the last block."""
        products = super().products(qx, qy)
        if len(products) % 2:
            products[-1] = 0
        return products


class LanesSwapped(Kernel):
    """Exchanges the two off-diagonal results of nrc = 2."""

    def dots(self, c: DotCall) -> None:
        """Compute, then exchange."""
        super().dots(c)
        if c.nrc == 2:
            c.s[1], c.s[c.bs] = c.s[c.bs], c.s[1]


class StridesIgnored(Kernel):
    """Takes the second rows right behind the first."""

    def dots(self, c: DotCall) -> None:
        """Compute with the least strides."""
        super().dots(c._replace(bx=c.n // 32 * 34, by=c.n // 32 * 34))


class Accumulated(Kernel):
    """Adds to what the result held."""

    def dots(self, c: DotCall) -> None:
        """Compute, and add the finite part of what was there."""
        held = c.s[0]
        super().dots(c)
        if np.isfinite(held) and abs(held) < 10:
            c.s[0] += held


class StrideRead(Kernel):
    """Uses bs where nrc is 1."""

    def dots(self, c: DotCall) -> None:
        """Clear the result where bs is 7."""
        super().dots(c)
        if c.nrc == 1 and c.bs == 7:
            c.s[0] = 0


class FieldsSwapped(Kernel):
    """Reads the other scale of v2 blocks."""

    def ggml_vec_dot_q8_a8_q8_a8_real(self, n: int, s: Array, vx: Array, vy: Array) -> None:
        """Take x's activation_scale and y's weight_scale."""
        x, y = (v[: n // 32 * 36].view(layout.BLOCK_Q8_A8_V2) for v in (vx, vy))
        s[0] = self.dot(x["activation_scale"], y["weight_scale"], x["weight_qs"], y["weight_qs"])


class Varying(Kernel):
    """Gives another result in every fourth call."""

    def __init__(self) -> None:
        super().__init__()
        self._calls = itertools.count(1)

    def dot(self, dx: Array, dy: Array, qx: Array, qy: Array) -> np.floating[Any]:
        """Forget the last block now and then."""
        if next(self._calls) % 4 == 0:
            dx = np.concatenate([dx[:-1], dx[-1:] * 0])
        return super().dot(dx, dy, qx, qy)


class OneRowKernel(Kernel):
    """Takes one row at a time."""

    def dots(self, c: DotCall) -> None:
        """Write s[0] alone."""
        super().dots(c._replace(nrc=1))


class OneRow:
    """Offers the dot product alone, one row at a time."""

    ggml_vec_dot_q8_a8_q8_a8 = staticmethod(OneRowKernel().ggml_vec_dot_q8_a8_q8_a8)


def __getattr__(name: str) -> object:
    """Make a kernel of any recipe or order: ``recipe_ggml_ref``, ``order_neon_dotprod``."""
    kind, _, rest = name.partition("_")
    if kind == "recipe":
        return Following(rest.replace("_", "-"))
    if kind == "order":
        return Reference(order=rest.replace("_", "-"))
    raise AttributeError(name)
