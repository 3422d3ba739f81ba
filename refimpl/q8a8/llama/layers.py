"""The functions of a layer besides its linear operators and the rotary positions (`q8a8.llama.rope`).

Shapes: t positions are computed, T positions can be attended to; the axes of heads are `[positions, heads,
d_head]`. All functions keep the dtype of their input: float32, or float64 for a model that is evaluated in
float64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8.arithmetic import exp, matmul, row_sums, tanh

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float = NDArray[Any]
    """float32 or float64."""

__all__ = ["attention", "geglu", "rms_norm", "soft_cap", "swiglu"]

_TILE = 128
"""Queries that are computed at a time: the scores of all of them against all keys need not fit in memory."""


def rms_norm(x: Float, weight: Float, eps: float) -> Float:
    """Scale each row to a root mean square of one, and each channel by its weight.

    ::

        y = x / sqrt(mean(x²) + eps) · weight

    Zhang and Sennrich, "Root Mean Square Layer Normalization" (2019), equation 4; eps as in Llama
    (meta-llama/llama, model.py, `RMSNorm`) and ggml (`ggml_compute_forward_rms_norm_f32`).

    Parameters
    ----------
    x
        `[t, d]`.
    weight
        `[d]`.
    eps
        Keeps a row of zeros from dividing by zero.
    """
    mean = row_sums(np.square(x)) / x.dtype.type(x.shape[-1])
    scaled: Float = x / np.sqrt(mean + x.dtype.type(eps)) * weight
    return scaled


def swiglu(gate: Float, up: Float) -> Float:
    """Gate one projection by the other.

    ::

        y = silu(gate) · up,      silu(z) = z · sigmoid(z) = z / (1 + e^(−z))

    Shazeer, "GLU Variants Improve Transformer" (2020), equation 5 (SwiGLU with β = 1).

    Parameters
    ----------
    gate, up
        `[t, d_ff]`.
    """
    # e^(−z) is infinite for z < −88: the quotient is then −0, where the limit is.
    with np.errstate(over="ignore"):
        gated: Float = gate / (1 + exp(-gate)) * up
    return gated


def geglu(gate: Float, up: Float) -> Float:
    """Gate one projection by the other, as Gemma does.

    ::

        y = gelu(gate) · up,      gelu(z) = z/2 · (1 + tanh(sqrt(2/π) · (z + 0.044715 z³)))

    Shazeer, "GLU Variants Improve Transformer" (2020), equation 6, with the approximation of Hendrycks and
    Gimpel, "Gaussian Error Linear Units" (2016), section 2, which Gemma was trained with. ggml looks gelu up
    in a table of half-precision numbers (ggml-cpu/vec.h, `ggml_vec_gelu_f32`).

    Parameters
    ----------
    gate, up
        `[t, d_ff]`.
    """
    root, cube = gate.dtype.type(np.sqrt(2 / np.pi)), gate.dtype.type(0.044715)
    gated: Float = gate / 2 * (1 + tanh(root * gate * (1 + cube * np.square(gate)))) * up
    return gated


def soft_cap(x: Float, cap: float) -> Float:
    """Bend numbers to stay within ±cap: cap · tanh(x / cap); as they are with a cap of 0.

    Bello et al., "Neural Combinatorial Optimization" (2017), appendix A.1; Gemma Team, "Gemma 2" (2024),
    section 2.
    """
    if not cap:
        return x
    capped: Float = tanh(x / x.dtype.type(cap)) * x.dtype.type(cap)
    return capped


def attention(
    q: Float,
    keys: Float,
    values: Float,
    *,
    width: int | None = None,
    cap: float = 0.0,
    window: int | None = None,
) -> Float:
    """Attend causally: each position to itself and to all before it.

    ::

        o_h = softmax(soft_cap(q_h K_{h/g}ᵀ / sqrt(width))) V_{h/g}

    Vaswani et al., "Attention Is All You Need" (2017), equation 1; g query heads share one head of keys and
    values: Ainslie et al., "GQA" (2023), figure 2.

    The queries are the last t of T positions. The g heads that share keys are one matrix product, [g·t, d]
    by [d, T]. Softmax subtracts each row's largest score first, and divides by the sum after the product with
    V, where there are fewest numbers to divide.

    Parameters
    ----------
    q
        `[t, n_heads, d_head]`.
    keys, values
        `[T, n_kv_heads, d_head]`, T >= t.
    width
        Scores are divided by its root; d_head by default.
    cap
        Of the scores (`soft_cap`).
    window
        Positions that each one sees, itself among them; None: all before it. Beltagy et al., "Longformer"
        (2020), section 3.1.

    Returns
    -------
    numpy.ndarray
        `[t, n_heads · d_head]`.
    """
    t, n_heads, d_head = q.shape
    past, n_kv = len(keys) - t, keys.shape[1]
    groups = n_heads // n_kv
    # The scale is on q, and heads are sorted by the keys that they share.
    root = q.dtype.type(np.sqrt(d_head if width is None else width))
    q = (q / root).reshape(t, n_kv, groups, d_head).transpose(1, 2, 0, 3)
    keys, values = keys.transpose(1, 2, 0), values.transpose(1, 0, 2)
    out = np.empty((t, n_heads * d_head), q.dtype)
    for first in range(0, t, _TILE):
        rows = min(_TILE, t - first)
        stop = past + first + rows
        # The first key that the tile's first query sees.
        start = 0 if window is None else max(0, past + first + 1 - window)
        part = q[:, :, first : first + rows].reshape(n_kv, groups * rows, d_head)
        scores = matmul(part, keys[..., start:stop])
        scores = soft_cap(scores, cap).reshape(n_kv, groups, rows, stop - start)
        # Of the last `rows` keys, query i of the tile sees the first i + 1.
        scores[..., -rows:] += np.triu(np.full((rows, rows), -np.inf, q.dtype), 1)
        if window is not None:
            # Query i sees the keys after past + first + i - window.
            last = past + first - window - start + np.arange(rows)[:, np.newaxis]
            scores[..., np.arange(stop - start) <= last] = -np.inf
        scores -= scores.max(axis=-1, keepdims=True)
        scores = exp(scores)
        shares = scores.reshape(n_kv, groups * rows, stop - start)
        heads = matmul(shares, values[:, start:stop])
        heads /= row_sums(shares)
        out[first : first + rows] = (
            heads.reshape(n_kv, groups, rows, d_head).transpose(2, 0, 1, 3).reshape(rows, n_heads * d_head)
        )
    return out
