"""A Llama model in the arithmetic of ggml for x86 with AVX2 and FMA, operator by operator and bit by bit.

llama.cpp computes what the formulas of `q8a8.llama.layers` say, and rounds in other places. Here are its
places, each a function; together they are a model whose logits have the bits of llama.cpp's
(docs/model/in-llama-cpp.md). As of ggml 0.26; file and function stand above each::

    operator    what is another than in `q8a8.llama`                                    here
    product     activations by recipe ggml-avx2; eight lanes, fused, folded             `ordered_product`
    norm        the mean summed in float64; one factor, f32(1 / sqrt)                   `norm`
    rotation    angles multiplied up in float32; one of two products fused              `turns`, `rotate`
    SwiGLU      e^x is a polynomial in fused steps, up to 2 ulp off                     `exp`, `swiglu`
    attention   sums in lanes, fused, folded; shares divided before they meet V         `attention`

llama.cpp given several tokens at a time takes other kernels where it can (tinyBLAS of llamafile,
`ggml-cpu/llamafile/sgemm.cpp`). For Q8_0 they add in the same order; for the product of shares and values in
attention, in another one: `batch` chooses it.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from typing import TYPE_CHECKING

import numpy as np

from q8a8 import quantize_row
from q8a8.llama import Model, layers, rope
from q8a8.llama.config import EMBEDDING
from q8a8.rounding import fma32

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from q8a8.layout import Blocks
    from q8a8.llama import Config, Linear
    from q8a8.recipe import Recipe

    F32 = NDArray[np.float32]
    Observer = Callable[[str, F32], None]

__all__ = [
    "PARTS",
    "GgmlModel",
    "OrderedLinear",
    "attention",
    "exp",
    "float_dot",
    "norm",
    "ordered_product",
    "rotate",
    "swiglu",
    "turns",
]

LANES = 8
"""float32 numbers of a vector."""

ACCUMULATORS = 4
"""Of `ggml_vec_dot_f32`."""

PARTS = ("norm", "rotation", "swiglu", "attention")
"""Of a model, besides its linear operators, where ggml rounds in places of its own."""

_TILE = 4096
"""Results that are computed at a time: their eight lanes stay in the cache."""

_TIE, _BELOW = np.int64(1 << 28), np.int64((1 << 29) - 1)
"""The bits of a float64 that float32 has no room for, and what they are half-way between two float32."""


def ordered_product(w: Blocks, x: Blocks) -> F32:
    """Multiply quantized rows in the order `avx2`: what `q8a8.vec_dot` gives, many rows at a time.

    ::

        lane k:   r_k = fma(s_k, d, r_k)      s_k = sum of bytes 4k … 4k+3, exact; d = dx·dy, exact
        sum:      ((r0 + r4) + (r2 + r6)) + ((r1 + r5) + (r3 + r7))

    ggml-cpu/arch/x86/quants.c, `ggml_vec_dot_q8_0_q8_0`; and llamafile/sgemm.cpp, `tinyBLAS_Q0_AVX`.

    The fused step is taken in float64, where s·d (39 bits at most) is exact, and then rounded to float32. The
    sum was rounded before, to float64, and two roundings are one unless the first lands half-way between
    two float32: those few numbers are computed again by `fma32`. (Nothing is subnormal here: `q8a8.dot`.)

    Parameters
    ----------
    w, x
        `BLOCK_Q8_A8` `[m, nb]` and `[t, nb]`.

    Returns
    -------
    float32 `[t, m]`.
    """
    t, nb = x.shape
    out = np.empty((t, len(w)), np.float32)
    # [nb, lanes, t, 4]: every lane is a matrix product of its own.
    x_lanes = x["weight_qs"].reshape(t, nb, LANES, 4).transpose(1, 2, 0, 3).astype(np.float32, order="C")
    dx = x["weight_scale"].astype(np.float64)
    width = max(1, _TILE // max(1, t))
    for start in range(0, len(w), width):
        part = w[start : start + width]
        m = len(part)
        w_lanes = (
            part["weight_qs"].reshape(m, nb, LANES, 4).transpose(1, 2, 3, 0).astype(np.float32, order="C")
        )
        dw = part["weight_scale"].astype(np.float64)
        registers = np.zeros((LANES, t, m), np.float32)
        for b in range(nb):
            sums = np.matmul(x_lanes[b], w_lanes[b])
            d = np.multiply.outer(dx[:, b], dw[:, b])
            added = sums * d
            added += registers
            ties = np.flatnonzero((added.view(np.int64) & _BELOW) == _TIE)
            before = registers.reshape(-1)[ties]
            registers[...] = added
            if ties.size:
                scales = np.broadcast_to(d, added.shape).reshape(-1)[ties]
                registers.reshape(-1)[ties] = fma32(sums.reshape(-1)[ties], scales, before)
        half = registers[:4] + registers[4:]
        half = half[:2] + half[2:]
        out[:, start : start + m] = half[0] + half[1]
    return out


class OrderedLinear:
    """Q8_A8 on both sides in ggml's order and with its recipe for activations.

    Parameters
    ----------
    blocks
        Weights, `BLOCK_Q8_A8` `[out, in / 32]`.
    recipe
        The arithmetic that quantizes activations.
    """

    activation_bits = 8.5

    def __init__(self, blocks: Blocks, recipe: str | Recipe = "ggml-avx2") -> None:
        self.blocks, self.recipe = blocks, recipe
        self.weight_bytes: int = blocks.nbytes

    def __call__(self, x: F32) -> F32:
        """Multiply: float32 `[t, in]` to float32 `[t, out]`."""
        return ordered_product(self.blocks, quantize_row(np.ascontiguousarray(x), self.recipe))


def norm(x: F32, weight: F32, eps: float) -> F32:
    """Normalize each row.

    ::

        scale = f32(1 / f32(sqrt(f32(f32(sum / n) + eps))))      sum of f32(x²) in float64, from left to right
        y     = f32(f32(x · scale) · weight)

    ggml-cpu/ops.cpp, `ggml_compute_forward_rms_norm_f32`, with the product by the weight fused into it.
    """
    total = np.add.accumulate((x * x).astype(np.float64), axis=-1)[..., -1:]
    mean = (total / x.shape[-1]).astype(np.float32)
    scale = np.float32(1) / np.sqrt(mean + np.float32(eps))
    y: F32 = x * scale * weight
    return y


def turns(positions: NDArray[np.integer], config: Config) -> tuple[F32, F32]:
    """Compute cosine and sine of the angles, each `[t, d_head / 2]`.

    ::

        theta_0 = p,      theta_(i+1) = f32(theta_i · f32(base^(−2/d_head)))

    ggml-cpu/ops.cpp, `ggml_rope_cache_init`, without scaling or frequency factors. cosf and sinf are the C
    library's, as in ggml: in glibc about one in a hundred is not the correctly rounded one.
    """
    step = np.float32(float(config.rope_base) ** (-2.0 / config.d_head))
    angle = positions.astype(np.float32)
    angles = []
    for _ in range(config.d_head // 2):
        angles.append(angle)
        angle = angle * step
    table = np.stack(angles, axis=1)
    return _each("cosf", table), _each("sinf", table)


def _each(name: str, x: F32) -> F32:
    """Call a function of C's float, element by element."""
    function = getattr(ctypes.CDLL(ctypes.util.find_library("m")), name)
    function.argtypes, function.restype = (ctypes.c_float,), ctypes.c_float
    return np.array([function(value) for value in x.ravel().tolist()], np.float32).reshape(x.shape)


def rotate(x: F32, cos: F32, sin: F32) -> F32:
    """Turn pairs of channels; the compiler has fused one of each two products into the sum.

    ::

        y[2i]   = fma(x[2i], cos, −f32(x[2i+1] · sin))
        y[2i+1] = fma(x[2i], sin, f32(x[2i+1] · cos))

    ggml-cpu/ops.cpp, `ggml_compute_forward_rope_flt`.
    """
    cos, sin = cos[:, np.newaxis], sin[:, np.newaxis]
    even, odd = x[..., 0::2], x[..., 1::2]
    y = np.empty_like(x)
    y[..., 0::2] = fma32(even, cos, -(odd * sin))
    y[..., 1::2] = fma32(even, sin, odd * cos)
    return y


_ROUND = np.float32(float.fromhex("0x1.8p23"))
_LOG2E = np.float32(float.fromhex("0x1.715476p+0"))
_LN2_HIGH = np.float32(float.fromhex("0x1.62e4p-1"))
_LN2_LOW = np.float32(float.fromhex("0x1.7f7d1cp-20"))
_C1, _C2, _C3, _C4, _C5 = (
    np.float32(float.fromhex(digits))
    for digits in ("0x1.ffffecp-1", "0x1.fffdb6p-2", "0x1.555e66p-3", "0x1.573e2ep-5", "0x1.0e4020p-7")
)


def exp(x: F32) -> F32:
    """Compute e^x as `ggml_v_expf` does (ggml-cpu/vec.h, after Arm's optimized routines).

    ::

        n = x·log2(e), rounded to an integer        b = x − n·ln 2, |b| <= ln 2 / 2
        e^x = 2^n + 2^n·j                           j = c1·b + b²·((c2 + c3·b) + b²·(c4 + c5·b))

    each step fused. Beyond |n| = 126, where 2^n·(1 + j) may be no normal number, 2^n is two factors there:
    here the same numbers come from float64, rounded once, and −inf gives 0.
    """
    with np.errstate(all="ignore"):
        z = fma32(x, _LOG2E, _ROUND)
        n = z - _ROUND
        b = fma32(-n, _LN2_LOW, fma32(-n, _LN2_HIGH, x))
        u = b * b
        inner = fma32(fma32(_C5, b, _C4), u, fma32(_C3, b, _C2))
        j = fma32(inner, u, _C1 * b)
        k = np.ldexp(np.float32(1), np.clip(np.nan_to_num(n), -126, 126).astype(np.int32))
        near: F32 = fma32(k, j, k)
        # One more rounding, of 1 + j, before the scale.
        far = (np.float32(1) + j).astype(np.float64) * np.exp2(n.astype(np.float64))
        out: F32 = np.where(np.abs(n) <= 126, near, far.astype(np.float32))
        out[n > 192] = np.inf
        out[n < -192] = 0
        return out


def swiglu(gate: F32, up: F32) -> F32:
    """Gate one projection by the other: f32(f32(gate / f32(1 + e^−gate)) · up), as `ggml_vec_swiglu_f32`."""
    y: F32 = gate / (np.float32(1) + exp(-gate)) * up
    return y


def float_dot(x: F32, y: F32, *, batch: bool = False) -> F32:
    """Multiply rows of float32, `[..., n]` with `[..., n]`, n a multiple of 32.

    Four accumulators of eight lanes, fused; folded a0 + a2, a1 + a3, their sum; then lane k + 4 onto k, and
    neighbours (ggml-cpu/vec.cpp, `ggml_vec_dot_f32`; simd-mappings.h, `GGML_F32x8_REDUCE`).

    In a batch: one accumulator, its lanes folded k + 4 onto k, k + 2 onto k, 1 onto 0
    (llamafile/sgemm.cpp, `tinyBLAS`, `hsum`).
    """
    x, y = np.broadcast_arrays(x, y)
    accumulators = 1 if batch else ACCUMULATORS
    shape = (*x.shape[:-1], -1, accumulators, LANES)
    x, y = x.reshape(shape), y.reshape(shape)
    registers = np.zeros((*x.shape[:-3], accumulators, LANES), np.float32)
    for i in range(x.shape[-3]):
        registers = fma32(x[..., i, :, :], y[..., i, :, :], registers)
    total: F32
    if batch:
        four = registers[..., 0, :4] + registers[..., 0, 4:]
        two = four[..., :2] + four[..., 2:]
        total = two[..., 0] + two[..., 1]
        return total
    pair = registers[..., :2, :] + registers[..., 2:, :]
    lanes = pair[..., 0, :] + pair[..., 1, :]
    four = lanes[..., :4] + lanes[..., 4:]
    total = (four[..., 0] + four[..., 1]) + (four[..., 2] + four[..., 3])
    return total


def attention(q: F32, keys: F32, values: F32, *, batch: bool = False) -> F32:
    """Attend causally, all positions of a text to themselves and to those before.

    ::

        share = e^(f32(score · scale) − max) · f32(1 / sum)       rounded after each step
        out   = share · V

    llama-graph.cpp, `build_attn_mha`, without flash attention; ggml-cpu/ops.cpp,
    `ggml_compute_forward_soft_max_f32`.

    Parameters
    ----------
    q
        `[t, n_heads, d_head]`.
    keys, values
        `[t, n_kv_heads, d_head]`.
    batch
        Whether the tokens come several at a time.

    Returns
    -------
    float32 `[t, n_heads · d_head]`.
    """
    t, n_heads, d_head = q.shape
    groups = n_heads // keys.shape[1]
    scale = np.float32(1 / np.sqrt(np.float32(d_head)))
    padded = -(-t // (ACCUMULATORS * LANES)) * ACCUMULATORS * LANES
    out = np.empty((t, n_heads, d_head), np.float32)
    # Positions that are masked, or not there, take part with a share of zero.
    column = np.zeros((d_head, padded), np.float32)
    for head in range(n_heads):
        shared = head // groups
        column[:, :t] = values[:, shared].T
        scores = np.full((t, padded), -np.inf, np.float32)
        products = float_dot(keys[np.newaxis, :, shared], q[:, np.newaxis, head]) * scale
        scores[:, :t] = np.where(np.tri(t, dtype=bool), products, np.float32(-np.inf))
        shares = exp(scores - scores.max(axis=-1, keepdims=True))
        shares *= _reciprocal_of_sum(shares)
        for row in range(t):
            out[row, head] = float_dot(column, shares[row], batch=batch)
    return out.reshape(t, -1)


def _reciprocal_of_sum(shares: F32) -> F32:
    """Add each row's vectors up in float32, the vectors in float64; `ggml_vec_soft_max_f32`."""
    vectors = shares.reshape(len(shares), -1, LANES)
    four = vectors[..., :4] + vectors[..., 4:]
    two = four[..., :2] + four[..., 2:]
    sums = (two[..., 0] + two[..., 1]).astype(np.float64)
    total = np.add.accumulate(sums, axis=-1)[:, -1:]
    reciprocal: F32 = (1.0 / total).astype(np.float32)
    return reciprocal


class GgmlModel(Model):
    """The model with some of its parts, or all, in ggml's arithmetic.

    Parameters
    ----------
    config, weights, linears
        As `q8a8.llama.Model`.
    parts
        Those in ggml's arithmetic, of `PARTS`; the others are `q8a8.llama.layers`'.
    batch
        As `attention`.
    """

    def __init__(
        self,
        config: Config,
        weights: Mapping[str, F32],
        *,
        linears: Mapping[str, Linear] | None = None,
        parts: Collection[str] = PARTS,
        batch: bool = False,
    ) -> None:
        super().__init__(config, weights, linears=linears)
        self.parts, self.batch = frozenset(parts), batch

    def forward_text(self, tokens: Sequence[int], observe: Observer | None = None) -> F32:
        """Compute the logits that follow each token of a text: `Model.forward`, part by part.

        The whole text is computed at once, and every number is what it would be token by token.
        """
        config = self.config
        ids = np.asarray(tokens)
        positions = np.arange(len(ids))
        x: F32 = self._weights[EMBEDDING][ids]
        for layer in range(config.n_layers):
            of = f"blk.{layer}"
            n = self._norm(f"{of}.attn_norm", x)
            q = self._rotated(self._heads(f"{of}.attn_q", n, observe), positions)
            k = self._rotated(self._heads(f"{of}.attn_k", n, observe), positions)
            v = self._heads(f"{of}.attn_v", n, observe)
            if "attention" in self.parts:
                attended = attention(q, k, v, batch=self.batch)
            else:
                attended = layers.attention(q, k, v)
            x = x + self._linear(f"{of}.attn_output", attended, observe)
            n = self._norm(f"{of}.ffn_norm", x)
            gate, up = (self._linear(f"{of}.{name}", n, observe) for name in ("ffn_gate", "ffn_up"))
            gated = swiglu(gate, up) if "swiglu" in self.parts else layers.swiglu(gate, up)
            x = x + self._linear(f"{of}.ffn_down", gated, observe)
        logits: F32 = self._linear("output", self._norm("output_norm", x), observe)
        return logits

    def _norm(self, name: str, x: F32) -> F32:
        weight = self._weights[f"{name}.weight"]
        return (norm if "norm" in self.parts else layers.rms_norm)(x, weight, self.config.eps)

    def _rotated(self, x: F32, positions: NDArray[np.integer]) -> F32:
        if "rotation" in self.parts:
            return rotate(x, *turns(positions, self.config))
        return rope.rotate(x, self._turn(positions))
