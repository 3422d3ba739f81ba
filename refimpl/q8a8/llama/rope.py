"""Rotary positions: which angle each pair of channels is turned by, and the turning.

::

    angle[p, i] = p · frequency_i            frequency_i = base^(−2i / dims) · scale / factor_i

Su et al., "RoFormer" (2021), section 3.4.2, equation 15. Longer texts than a model was trained on:

===========  ===========================================================================================
linear       `scale` is 1 / factor: Chen et al., "Extending Context Window of Large Language Models via
             Positional Interpolation" (2023)
NTK          another base and nothing else: `ntk_base`. GGUF files carry the new base
YaRN         between both, pair by pair, and all angles' turns a little longer: `Yarn`
Llama 3      a divisor a pair, in the tensor `rope_freqs.weight`
LongRoPE     a divisor a pair as well, one set for short texts and one for long ones (Phi-3)
===========  ===========================================================================================

Computed in float64. ggml multiplies in float32 from pair to pair (ggml-cpu/ops.cpp, `ggml_rope_cache_init`);
the difference grows with the position, and docs/model/llama.md measures it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from q8a8.arithmetic import exp, is_own, log

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float = NDArray[Any]
    """float32 or float64."""

__all__ = ["Yarn", "ntk_base", "rope_angles", "rotate"]


@dataclass(frozen=True)
class Yarn:
    """YaRN: pairs that turn often keep their angles, slow ones are interpolated, those between are blended.

    ::

        pair(n)     = dims · ln(context / (2π n)) / (2 ln base)       the pair that turns n times in `context`
        first, last = floor(pair(fast)), ceil(pair(slow))             within 0 … dims − 1
        kept_i      = 1 − clamp((i − first) / max(0.001, last − first), 0, 1)
        frequency_i = base^(−2i / dims) · (kept_i + (1 − kept_i) · scale)
        gain        = 1 + 0.1 ln(1 / scale)

    Peng et al., "YaRN: Efficient Context Window Extension of Large Language Models" (2023), sections 3.2
    and 3.4; rounding and clamps as in ggml (`ggml_rope_yarn_corr_dims`, `rope_yarn`).

    Attributes
    ----------
    context
        Positions that the model was first trained for.
    fast, slow
        Turns within `context` from which on, and up to which, a pair is kept or interpolated.
    """

    context: int
    fast: float = 32.0
    slow: float = 1.0

    def kept(self, dims: int, base: float) -> NDArray[np.float64]:
        """Return the share of each pair's own angle: float64 `[dims / 2]`."""
        first, last = (
            dims * math.log(self.context / (turns * 2 * math.pi)) / (2 * math.log(base))
            for turns in (self.fast, self.slow)
        )
        low, high = max(0.0, math.floor(first)), min(dims - 1.0, math.ceil(last))
        ramp = (np.arange(dims // 2) - low) / max(0.001, high - low)
        shares: NDArray[np.float64] = 1 - np.clip(ramp, 0, 1)
        return shares

    @staticmethod
    def gain(scale: float) -> float:
        """Return what queries and keys are multiplied by."""
        return 1 + 0.1 * math.log(1 / scale)


def ntk_base(base: float, factor: float, dims: int) -> float:
    """Return the base with which the slowest pair turns `factor` times slower, the fastest as before.

    ::

        base · factor^(dims / (dims − 2))

    "NTK-aware" scaling; Peng et al., "YaRN" (2023), section 3.1, equation 16.
    """
    return float(base * factor ** (dims / (dims - 2)))


def rope_angles(
    positions: NDArray[np.integer],
    dims: int,
    base: float,
    *,
    scale: float = 1.0,
    factors: Float | None = None,
    yarn: Yarn | None = None,
) -> NDArray[np.float64]:
    """Compute the rotation angle of each pair of channels.

    Parameters
    ----------
    positions
        `[t]`, counted from 0.
    dims
        Channels of a head that are rotated.
    base, scale, factors, yarn
        As above; factors `[dims / 2]`.

    Returns
    -------
    numpy.ndarray
        float64 `[t, dims / 2]`, in radians.
    """
    frequencies = (
        exp(-2.0 * np.arange(dims // 2) / dims * log(np.array(base)))
        if is_own()
        else (base ** (-2.0 * np.arange(dims // 2) / dims))
    )
    if factors is not None:
        frequencies /= factors
    if yarn is not None:
        kept = yarn.kept(dims, base)
        frequencies *= kept + (1 - kept) * scale
        scale = 1.0
    angles: NDArray[np.float64] = np.multiply.outer(positions * scale, frequencies)
    return angles


def rotate(
    x: Float,
    turn: NDArray[np.complexfloating[Any]],
    *,
    pairs: Literal["neighbours", "halves"] = "neighbours",
) -> Float:
    """Turn pairs of channels by the rotary angles; channels beyond the last pair stay.

    ::

        y[a] = x[a] · cos − x[b] · sin        a, b = 2i, 2i+1       neighbours
        y[b] = x[a] · sin + x[b] · cos               i, i + dims/2  halves

    RoFormer, equation 34, with neighbours as pairs. This is how Llama was trained and ggml's
    `LLAMA_ROPE_TYPE_NORM`; Hugging Face pairs i with i + d/2 instead and permutes the rows of W_q and W_k to
    match, which the conversion to GGUF undoes for Llama (llama.cpp, convert_hf_to_gguf.py,
    `LlamaModel.permute`) and leaves for its relatives (`LLAMA_ROPE_TYPE_NEOX`).

    The formula is the product of complex numbers, (x[a] + i·x[b]) · e^(i·angle): NumPy multiplies them
    in just these four products and two sums.

    Parameters
    ----------
    x
        `[t, heads, d_head]`.
    turn
        e^(i·angle), complex `[t, dims / 2]` of x's precision.
    pairs
        Which channels belong together.
    """
    half = turn.shape[-1]
    if is_own():
        return _rotate(x, turn, pairs)
    if pairs == "neighbours":
        z = np.ascontiguousarray(x[..., : 2 * half]).view(turn.dtype)
        turned: Float = (z * turn[:, np.newaxis]).view(x.dtype)
    else:
        z = (x[..., :half] + 1j * x[..., half : 2 * half]).astype(turn.dtype, copy=False)
        z = z * turn[:, np.newaxis]
        turned = np.concatenate((z.real, z.imag), axis=-1)
    if x.shape[-1] == 2 * half:
        return turned
    return np.concatenate((turned, x[..., 2 * half :]), axis=-1)


def _rotate(
    x: Float, turn: NDArray[np.complexfloating[Any]], pairs: Literal["neighbours", "halves"]
) -> Float:
    """Turn pairs by real products and sums, each rounded; NumPy may fuse those of complex numbers."""
    half = turn.shape[-1]
    step = 2 if pairs == "neighbours" else 1
    a = slice(0, 2 * half, 2) if step == 2 else slice(0, half)
    b = slice(1, 2 * half, 2) if step == 2 else slice(half, 2 * half)
    cos, sin = turn.real[:, np.newaxis], turn.imag[:, np.newaxis]
    turned = x.copy()
    turned[..., a] = x[..., a] * cos - x[..., b] * sin
    turned[..., b] = x[..., a] * sin + x[..., b] * cos
    return turned
