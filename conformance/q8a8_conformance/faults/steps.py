"""The specification's steps, which mutants change: `q8a8_conformance.faults.kernel.Steps` describes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8 import layout
from q8a8.rounding import f16_to_f32, f32_to_f16, round_half_away

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[Any]

F32 = np.float32


def visited(nb: int) -> Array:
    """Treat every block, in order."""
    return np.arange(nb)


def reach(size: int) -> tuple[int, int]:
    """Look at all elements, write all codes (Q8A8-QNT-9)."""
    return size, size


def amax(x: Array) -> Array:
    """Take the largest magnitude (Q8A8-QNT-1)."""
    return np.asarray(np.abs(x).max(axis=1, initial=F32(0)), F32)


def scale(largest: Array) -> Array:
    """Divide by 127 (Q8A8-QNT-2)."""
    return largest / F32(127)


def to_half(d: Array) -> Array:
    """Round to the nearest half, ties to even (Q8A8-HLF-1)."""
    return f32_to_f16(d)


def vanishes(largest: Array, d: Array, h: Array) -> Array:
    """Test the stored half (Q8A8-QNT-3)."""
    del largest, d
    return np.asarray(h == 0)


def inverse(largest: Array, d: Array, h: Array) -> Array:
    """Divide 127 by the largest magnitude (Q8A8-QNT-3)."""
    del d, h
    return F32(127) / largest


def scaled(x: Array, inv: Array, d: Array) -> Array:
    """Multiply in float32 (Q8A8-QNT-4)."""
    del d
    return x * inv[:, np.newaxis]


def to_integer(v: Array) -> Array:
    """Round halves away from zero (Q8A8-QNT-4)."""
    return round_half_away(v)


def to_int8(v: Array) -> Array:
    """Convert as C does by way of int32: the low byte of it, and 0 for a NaN."""
    # A NaN becomes -2^31, whose low byte is 0 too.
    whole = np.fmin(np.fmax(v.astype(np.float64), -(2.0**31)), 2.0**31 - 1)
    return whole.astype(np.int64).astype(np.int8)


def finish(x: Array, h: Array, q: Array) -> tuple[Array, Array]:
    """Leave the blocks as they are."""
    del x
    return h, q


def pack(h: Array, q: Array) -> Array:
    """Put the scale before the codes, little-endian (Q8A8-LAY-1)."""
    return layout.pack(h, q).view(np.uint8).reshape(len(h), 34)


def unpack(data: Array, nb: int) -> tuple[Array, Array]:
    """Read blocks of 34 bytes (Q8A8-LAY-1, Q8A8-LAY-2)."""
    blocks = data[: 34 * nb].view(layout.BLOCK_Q8_A8)
    return blocks["weight_scale"], blocks["weight_qs"]


def unpack_v2(data: Array, nb: int) -> tuple[Array, Array, Array]:
    """Read blocks of 36 bytes (Q8A8-LAY-3)."""
    blocks = data[: 36 * nb].view(layout.BLOCK_Q8_A8_V2)
    return blocks["weight_scale"], blocks["activation_scale"], blocks["weight_qs"]


def pick(x_weight: Array, x_activation: Array, y_weight: Array, y_activation: Array) -> tuple[Array, Array]:
    """Take x's weight_scale and y's activation_scale (Q8A8-DOT-9)."""
    del x_activation, y_weight
    return x_weight, y_activation


def widen(h: Array) -> Array:
    """Take a half's value (Q8A8-HLF-3)."""
    return f16_to_f32(h)


def value(d: Array, q: Array) -> Array:
    """Multiply scale and code (Q8A8-DEQ-1)."""
    return d[:, np.newaxis] * q.astype(F32)


def products(qx: Array, qy: Array) -> Array:
    """Multiply the codes (Q8A8-DOT-1)."""
    return qx.astype(np.int64) * qy


def block_sum(of: Array) -> Array:
    """Add up each block; float32 holds the sums (Q8A8-DOT-1)."""
    return np.asarray(of.sum(axis=1), F32)


def scale_product(dx: Array, dy: Array) -> Array:
    """Multiply the scales in float32, exactly (Q8A8-DOT-2)."""
    return dx * dy


def total(of: Array, sums: Array, d: Array) -> Any:  # noqa: ANN401 - a NumPy scalar
    """Add the blocks in order, product and sum rounded each (Q8A8-DOT-3); +0 for none (Q8A8-DOT-5)."""
    del of
    terms = np.zeros(len(sums) + 1, F32)
    np.multiply(sums, d, out=terms[1:])
    return np.add.accumulate(terms)[-1]


def strides(n: int, bx: int, by: int) -> tuple[int, int]:
    """Take the strides as they are, in bytes (Q8A8-DOT-6)."""
    del n
    return bx, by


def places(bs: int) -> tuple[int, int, int, int]:
    """Put the results for y1 bs floats behind those for y0 (Q8A8-DOT-6)."""
    return 0, 1, bs, bs + 1


def activations(x: Array) -> tuple[Array, Array]:
    """Quantize the blocks of rows [n, nb, 32] (Q8A8-MUL-4)."""
    return quantized(x, to_integer)


def quantized(x: Array, to_integers: Callable[[Array], Array]) -> tuple[Array, Array]:
    """Quantize blocks [n, nb, s], with a rounding to integers: scales [n, nb] and codes."""
    flat = x.reshape(-1, x.shape[2])
    largest = amax(flat)
    d = scale(largest)
    h = to_half(d)
    inv = np.where(vanishes(largest, d, h), F32(0), inverse(largest, d, h))
    q = to_int8(to_integers(scaled(flat, inv, d)))
    return h.reshape(x.shape[:2]), q.reshape(x.shape)


def terms_of_matrix(hx: Array, qx: Array, hw: Array, qw: Array) -> Array:
    """Multiply the blocks of each two rows, product and scale rounded once: f32 [nb, n, m] (Q8A8-DOT-2)."""
    sums = np.matmul(qx.swapaxes(0, 1).astype(F32), qw.transpose(1, 2, 0).astype(F32))
    return np.asarray(sums * (widen(hx).T[:, :, np.newaxis] * widen(hw).T[:, np.newaxis]), F32)


def matrix(hx: Array, qx: Array, hw: Array, qw: Array) -> Array:
    """Add each two rows' terms in order: f32 [n, m] (Q8A8-MUL-5)."""
    out = np.zeros((len(hx), len(hw)), F32)
    for term in terms_of_matrix(hx, qx, hw, qw):
        out += term
    return out


def deliver(out: Array, result: Array, nb: int) -> None:
    """Overwrite the outputs, row by row of x (Q8A8-MUL-6, Q8A8-MUL-7)."""
    del nb
    out[: result.size] = result.reshape(-1)


def store(s: Array, place: int, result: Any, nb: int) -> None:  # noqa: ANN401 - a NumPy scalar
    """Overwrite (Q8A8-DOT-7)."""
    del nb
    s[place] = result
