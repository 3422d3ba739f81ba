"""The four functions of a Llama layer besides its linear operators.

Shapes: t positions are computed, T positions can be attended to; the axes of heads are `[positions, heads,
d_head]`. All functions keep the dtype of their input: float32, or float64 for a model that is evaluated in
float64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float = NDArray[Any]
    """float32 or float64."""

__all__ = ["attention", "rms_norm", "rope_angles", "rotate", "swiglu"]

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
    mean = np.mean(np.square(x), axis=-1, keepdims=True)
    scaled: Float = x / np.sqrt(mean + x.dtype.type(eps)) * weight
    return scaled


def rope_angles(
    positions: NDArray[np.integer],
    d_head: int,
    base: float,
    *,
    scale: float = 1.0,
    factors: Float | None = None,
) -> NDArray[np.float64]:
    """Compute the rotation angle of each pair of channels.

    ::

        angle[p, i] = p · scale · base^(−2i / d_head) / factor_i        i = 0 … d_head/2 − 1

    Su et al., "RoFormer" (2021), section 3.4.2, equation 15. `scale` is the position interpolation of Chen et
    al. (2023), `factors` are Llama 3's, as GGUF stores them (`rope_freqs.weight`).

    Computed in float64. ggml multiplies in float32 from pair to pair (ggml-cpu/ops.cpp,
    `ggml_rope_cache_init`); the difference grows with the position, and docs/model/llama.md measures it.

    Parameters
    ----------
    positions
        `[t]`, counted from 0.
    d_head
        Channels of a head.
    base, scale, factors
        As above; factors `[d_head / 2]`.

    Returns
    -------
    numpy.ndarray
        float64 `[t, d_head / 2]`, in radians.
    """
    frequencies = base ** (-2.0 * np.arange(d_head // 2) / d_head)
    if factors is not None:
        frequencies /= factors
    angles: NDArray[np.float64] = np.multiply.outer(positions * scale, frequencies)
    return angles


def rotate(x: Float, turn: NDArray[np.complexfloating[Any]]) -> Float:
    """Turn pairs of channels (2i, 2i+1) by the rotary angles.

    ::

        y[2i]   = x[2i] · cos − x[2i+1] · sin
        y[2i+1] = x[2i] · sin + x[2i+1] · cos

    RoFormer, equation 34, with neighbours as pairs. This is how Llama was trained and ggml's
    `LLAMA_ROPE_TYPE_NORM`; Hugging Face pairs i with i + d/2 instead and permutes the rows of W_q and W_k to
    match, which the conversion to GGUF undoes (llama.cpp, convert_hf_to_gguf.py, `LlamaModel.permute`).

    The formula is the product of complex numbers, (x[2i] + i·x[2i+1]) · e^(i·angle): NumPy multiplies them
    in just these four products and two sums.

    Parameters
    ----------
    x
        `[t, heads, d_head]`.
    turn
        e^(i·angle), complex `[t, d_head / 2]` of x's precision.
    """
    pairs = np.ascontiguousarray(x).view(turn.dtype)
    turned: Float = (pairs * turn[:, np.newaxis]).view(x.dtype)
    return turned


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
        gated: Float = gate / (1 + np.exp(-gate)) * up
    return gated


def attention(q: Float, keys: Float, values: Float) -> Float:
    """Attend causally: each position to itself and to all before it.

    ::

        o_h = softmax(q_h K_{h/g}ᵀ / sqrt(d_head)) V_{h/g}

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

    Returns
    -------
    numpy.ndarray
        `[t, n_heads · d_head]`.
    """
    t, n_heads, d_head = q.shape
    past, n_kv = len(keys) - t, keys.shape[1]
    groups = n_heads // n_kv
    # softmax(q · K / sqrt(d)): the scale is on q, and heads are sorted by the keys that they share.
    q = (q / q.dtype.type(np.sqrt(d_head))).reshape(t, n_kv, groups, d_head).transpose(1, 2, 0, 3)
    keys, values = keys.transpose(1, 2, 0), values.transpose(1, 0, 2)
    out = np.empty((t, n_heads * d_head), q.dtype)
    for first in range(0, t, _TILE):
        rows = min(_TILE, t - first)
        seen = past + first + rows
        scores = q[:, :, first : first + rows].reshape(n_kv, groups * rows, d_head) @ keys[..., :seen]
        # Of the last `rows` keys, query i of the tile sees the first i + 1.
        future = np.triu(np.full((rows, rows), -np.inf, q.dtype), 1)
        scores.reshape(n_kv, groups, rows, seen)[..., -rows:] += future
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        heads = scores @ values[:, :seen]
        heads /= scores.sum(axis=-1, keepdims=True)
        out[first : first + rows] = (
            heads.reshape(n_kv, groups, rows, d_head).transpose(2, 0, 1, 3).reshape(rows, n_heads * d_head)
        )
    return out
