"""The model: tokens in, logits out.

Touvron et al., "LLaMA: Open and Efficient Foundation Language Models" (2023), section 2.2. One layer::

    h = x + post(W_o · attention(rotate(W_q n), rotate(W_k n), W_v n))    n = rms_norm(x)
    y = h + post(W_down · (gate(W_gate m) · W_up m))                      m = rms_norm(h)

and around the layers an embedding, a last RMSNorm, and the head, whose weights are the embedding's where the
file has no others. Every product with a weight is a `Linear`, which a caller can replace by another one.

What Llama's relatives have besides (`q8a8.llama.families`): biases, norms of each head before it is rotated,
norms of what is added (`post`, nothing in Llama), another gate, a scale on the embedding, layers that see a
window only, soft caps, and matrices that are stored as one.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8.arithmetic import cos_sin, is_own
from q8a8.errors import DomainError, DtypeError
from q8a8.llama.config import EMBEDDING, HEAD, linear_names
from q8a8.llama.errors import ModelError
from q8a8.llama.layers import attention, geglu, rms_norm, soft_cap, swiglu
from q8a8.llama.linear import FloatLinear
from q8a8.llama.rope import rope_angles, rotate
from q8a8.llama.tensors import check_shapes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import ArrayLike, NDArray

    from q8a8.llama.cache import KVCache
    from q8a8.llama.config import Config
    from q8a8.llama.linear import Linear

    Float = NDArray[Any]
    Observer = Callable[[str, Float], None]

__all__ = ["Model", "NotFinite"]


@dataclass(frozen=True)
class NotFinite:
    """A result of a matrix product that is NaN or an infinity.

    Attributes
    ----------
    tensor
        The name of the weight.
    token, row
        The row of x, and of the weight, that were multiplied.
    value
        The result.
    is_given
        Whether that row of x was not finite already.
    """

    tensor: str
    token: int
    row: int
    value: float
    is_given: bool

    @property
    def text(self) -> str:
        """Describe it in words."""
        whose = "of an input that is not finite" if self.is_given else "of a finite input"
        return f"{self.tensor}: token {self.token}, row {self.row}: the product is {self.value}, {whose}"


class Model:
    """A model of one of the families.

    Parameters
    ----------
    config
        Its shape.
    weights
        Arrays by GGUF name, matrices `[out, in]`; all float32, or all float64 (the whole model is then
        evaluated in float64, to measure the error of float32). Weights that `linears` replaces may be
        missing.
    linears
        Linear operators by the name of the weight that they replace: those of `linear_names(config)`, and
        "output.weight" for the head, which is otherwise a float product, also where it is tied.

    Raises
    ------
    ModelError
        for a tensor that is missing or unknown, and for a name among `linears` that is not a linear operator
        of this model.
    ShapeError, DtypeError
        for a tensor of another shape or dtype, naming it.
    """

    def __init__(
        self, config: Config, weights: Mapping[str, Float], *, linears: Mapping[str, Linear] | None = None
    ) -> None:
        replaced = dict(linears or {})
        names = linear_names(config)
        _check(config, weights, replaced, {*names, HEAD})
        self.config = config
        self.dtype: np.dtype[Any] = weights[EMBEDDING].dtype
        head = weights.get(HEAD, weights[EMBEDDING])
        self.linears: dict[str, Linear] = {
            **{name: FloatLinear(weights[name]) for name in names if name not in replaced},
            **({} if HEAD in replaced else {HEAD: FloatLinear(head)}),
            **replaced,
        }
        self._weights = weights

    def forward(
        self,
        tokens: ArrayLike,
        cache: KVCache | None = None,
        observe: Observer | None = None,
        *,
        logits_from: int = 0,
    ) -> Float:
        """Compute the logits after each token.

        Parameters
        ----------
        tokens
            Integers `[t]`. With a cache they are the positions after those that it holds.
        cache
            Holds the keys and values of earlier positions, and takes those of these. After an error that an
            operator raised, its layers may hold different numbers of positions: begin a new one.
        observe
            Called as ``observe(name, x)`` with the input `[t, in]` of every linear operator, under the name
            of its weight, before it is applied; x must not be written to.
        logits_from
            The first of the t positions to return logits for, counted from the end if negative: −1 gives
            the last one alone. From t on there are none, and the head is neither applied nor observed.

        Returns
        -------
        numpy.ndarray
            `[t, n_vocab]`, fewer rows with `logits_from`, of the weights' dtype.

        Raises
        ------
        ModelError
            for no tokens, a token that is not in the vocabulary, or a position outside the model's context.
        DomainError
            that an operator raises for its input, naming the weight.
        """
        config = self.config
        start = len(cache) if cache is not None else 0
        ids = self._checked(tokens, start)
        positions = np.arange(start, start + len(ids))
        # Local layers come in some families; the angles of the others are computed once as well.
        turn = self._turn(positions)
        local_turn = self._local_turn(positions) if config.window else turn
        x = self._embedded(ids)
        for layer in range(config.n_layers):
            block, local = f"blk.{layer}", config.local(layer)
            # x + post(W_o · attention(rotate(W_q n), rotate(W_k n), W_v n))
            q, k, v = self._queries_keys_values(block, self._norm(f"{block}.attn_norm", x), observe)
            q, k = (
                rotate(heads, local_turn if local else turn, pairs=config.family.pairs) for heads in (q, k)
            )
            keys, values = (k, v) if cache is None else cache.append(layer, k, v)
            attended = attention(
                q,
                keys,
                values,
                width=config.score_width,
                cap=config.score_cap,
                window=config.window if local else None,
            )
            attended = self._linear(f"{block}.attn_output", attended, observe)
            x = x + self._post_norm(f"{block}.post_attention_norm", attended)
            # h + post(W_down · (gate(W_gate m) · W_up m))
            gate, up = self._gate_up(block, self._norm(f"{block}.ffn_norm", x), observe)
            down = self._linear(f"{block}.ffn_down", self._gated(gate, up), observe)
            x = x + self._post_norm(f"{block}.post_ffw_norm", down)
        x = x[logits_from:]
        if not len(x):
            return np.empty((0, config.n_vocab), self.dtype)
        return soft_cap(self._linear("output", self._norm("output_norm", x), observe), config.logit_cap)

    def _embedded(self, ids: NDArray[np.integer]) -> Float:
        """Look the tokens up: `[t, d_model]`."""
        x: Float = self._weights[EMBEDDING][ids]
        if not self.config.family.scaled_embedding:
            return x
        # llama.cpp: ggml_scale by sqrtf(n_embd).
        scaled: Float = x * self.dtype.type(np.sqrt(np.float32(self.config.d_model)))
        return scaled

    def first_not_finite(self, tokens: ArrayLike) -> NotFinite | None:
        """Run the model once more, and return its first product with a result that is not finite.

        Parameters
        ----------
        tokens
            As `forward` takes them; there is no cache.
        """
        found: list[NotFinite] = []
        watched = copy.copy(self)
        watched.linears = {name: _Watched(name, each, found) for name, each in self.linears.items()}
        with np.errstate(all="ignore"):
            watched.forward(tokens)
        return found[0] if found else None

    def _norm(self, name: str, x: Float) -> Float:
        return rms_norm(x, self._weights[f"{name}.weight"], self.config.eps)

    def _post_norm(self, name: str, x: Float) -> Float:
        """Norm what is about to be added, in families that do."""
        return self._norm(name, x) if self.config.family.post_norms else x

    def _linear(self, name: str, x: Float, observe: Observer | None) -> Float:
        """Apply the operator of this name to `[t, in]`, and add its bias."""
        if observe is not None:
            observe(f"{name}.weight", x)
        try:
            y = self.linears[f"{name}.weight"](x)
        except DomainError as error:
            # Its row is the token.
            raise error.named(f"{name}.weight: {error.array}") from None
        bias = self._weights.get(f"{name}.bias")
        return y if bias is None else y + bias

    def _heads(self, name: str, x: Float, observe: Observer | None) -> Float:
        """Project to heads: `[t, d_model]` to `[t, heads, d_head]`."""
        return self._linear(name, x, observe).reshape(len(x), -1, self.config.d_head)

    def _queries_keys_values(
        self, block: str, x: Float, observe: Observer | None
    ) -> tuple[Float, Float, Float]:
        """Project to heads `[t, heads, d_head]`, with one matrix or three; norm those of queries and keys."""
        config = self.config
        if "attn_qkv" in config.family.linears:
            heads = self._heads(f"{block}.attn_qkv", x, observe)
            q, k, v = np.split(heads, (config.n_heads, config.n_heads + config.n_kv_heads), axis=1)
        else:
            q, k, v = (self._heads(f"{block}.attn_{kind}", x, observe) for kind in "qkv")
        if config.family.head_norms:
            q, k = self._norm(f"{block}.attn_q_norm", q), self._norm(f"{block}.attn_k_norm", k)
        return q, k, v

    def _gate_up(self, block: str, x: Float, observe: Observer | None) -> tuple[Float, Float]:
        """Project to both parts `[t, d_ff]` of the feed-forward layer, with one matrix or two."""
        if "ffn_gate" not in self.config.family.linears:
            gate, up = np.split(self._linear(f"{block}.ffn_up", x, observe), 2, axis=1)
            return gate, up
        return (
            self._linear(f"{block}.ffn_gate", x, observe),
            self._linear(f"{block}.ffn_up", x, observe),
        )

    def _gated(self, gate: Float, up: Float) -> Float:
        """Gate one part by the other."""
        return (swiglu if self.config.family.gate == "silu" else geglu)(gate, up)

    def _turn(self, positions: NDArray[np.integer]) -> NDArray[np.complexfloating[Any]]:
        """Compute gain · e^(i·angle) `[t, rope_dims / 2]` of these positions."""
        config = self.config
        tensors = config.family.rope_tensors
        # Of two sets of divisors, the first is for contexts longer than the model was first trained for.
        short = len(tensors) > 1 and config.context <= config.rope_context
        factors = self._weights.get(tensors[short]) if tensors else None
        angles = rope_angles(
            positions,
            config.rope_dims,
            config.rope_base,
            scale=config.rope_scale,
            factors=factors,
            yarn=config.yarn,
        )
        return self._complex(angles, config.rope_gain)

    def _local_turn(self, positions: NDArray[np.integer]) -> NDArray[np.complexfloating[Any]]:
        """Compute the same for local layers."""
        config = self.config
        angles = rope_angles(positions, config.rope_dims, config.local_base, scale=config.local_scale)
        return self._complex(angles, 1.0)

    def _complex(self, angles: NDArray[np.float64], gain: float) -> NDArray[np.complexfloating[Any]]:
        """Turn angles into complex numbers of the model's precision."""
        turn: NDArray[np.complexfloating[Any]] = gain * np.exp(1j * angles)
        if is_own():
            turn = np.empty(angles.shape, np.complex128)
            turn.real, turn.imag = (gain * part for part in cos_sin(angles))
        # float32 has complex64, float64 complex128.
        return turn.astype(np.result_type(self.dtype, np.complex64))

    def _checked(self, tokens: ArrayLike, start: int) -> NDArray[np.integer]:
        """Check token ids and their number."""
        ids = np.asarray(tokens)
        if ids.ndim != 1 or not ids.size or not np.issubdtype(ids.dtype, np.integer):
            raise ModelError(
                f"tokens: expected one or more integers in one axis, got {ids.dtype} of shape {ids.shape}"
            )
        outside = np.flatnonzero((ids < 0) | (ids >= self.config.n_vocab))
        if outside.size:
            place = int(outside[0])
            raise ModelError(f"tokens: expected 0 to {self.config.n_vocab - 1}, got {ids[place]} at {place}")
        if start + len(ids) > self.config.context:
            raise ModelError(
                f"tokens: position {start + len(ids) - 1} is outside the context of {self.config.context}"
            )
        return ids


class _Watched:
    """A linear operator that keeps the first of its results that is not finite."""

    def __init__(self, name: str, linear: Linear, found: list[NotFinite]) -> None:
        self._name, self._linear, self._found = name, linear, found
        self.weight_bytes, self.activation_bits = linear.weight_bytes, linear.activation_bits

    def __call__(self, x: Float) -> Float:
        """Multiply: `[t, in]` to `[t, out]`."""
        product = self._linear(x)
        wrong = ~np.isfinite(product)
        if wrong.any():
            token, row = (int(i) for i in np.argwhere(wrong)[0])
            given = not np.isfinite(x[token]).all()
            self._found.append(NotFinite(self._name, token, row, float(product[token, row]), given))
        return product


def _check(
    config: Config, weights: Mapping[str, Float], replaced: Mapping[str, Linear], known: set[str]
) -> None:
    """Refuse weights that are not this model's."""
    for name in replaced:
        if name not in known:
            raise ModelError(f"linears: {name!r} is not a linear operator of this model")
    check_shapes(config, {name: weight.shape for name, weight in weights.items()}, without=replaced)
    dtype = weights[EMBEDDING].dtype
    if dtype not in (np.float32, np.float64):
        raise DtypeError(f"{EMBEDDING}: expected float32 or float64, got {dtype}")
    for name, weight in weights.items():
        if weight.dtype != dtype:
            raise DtypeError(f"{name}: expected {dtype}, as {EMBEDDING} has, got {weight.dtype}")
