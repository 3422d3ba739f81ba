"""The shape of a Llama model, from the metadata of its GGUF file.

Keys are those of the GGUF specification (ggml, docs/gguf.md, "LLM"); missing keys have the defaults of
llama.cpp (src/llama-model.cpp, `llama_model_base::load_hparams`). A key that asks for something this model
lacks is refused by name, never ignored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from q8a8.llama.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["BLOCK_LINEARS", "HEAD", "Config", "expected_shapes", "linear_names"]

BLOCK_LINEARS = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
"""The linear operators of one layer, as GGUF calls them, in the order in which they are computed."""

HEAD = "output.weight"
"""The last linear operator, from a hidden state to logits. Without this tensor it is `EMBEDDING` (tied)."""

EMBEDDING = "token_embd.weight"

ROPE_FACTORS = "rope_freqs.weight"
"""Llama 3's divisors of the rotary frequencies, one a pair of channels; a tensor that may be absent."""


@dataclass(frozen=True)
class Config:
    """The shape of a model.

    Attributes
    ----------
    n_layers, n_heads, n_kv_heads
        Layers, query heads, and key-value heads, each of which serves n_heads / n_kv_heads query heads.
    d_model, d_head, d_ff
        Channels of the hidden state, of a head, and between gate or up and down.
    n_vocab
        Tokens.
    eps
        Added to the mean square in RMSNorm.
    rope_base
        Of the rotary frequencies base^(−2i/d_head).
    rope_dims
        Channels of a head that are rotated: all of them.
    rope_scale
        Factor on every position: 1, or the reciprocal of the factor of linear scaling.
    context
        Positions that the model was trained for.
    """

    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_model: int
    d_head: int
    d_ff: int
    n_vocab: int
    eps: float
    rope_base: float = 10000.0
    rope_scale: float = 1.0
    context: int = 2048

    def __post_init__(self) -> None:
        """Refuse numbers that no model can have.

        Raises
        ------
        ModelError
            naming the attribute.
        """
        for name in ("n_layers", "n_heads", "n_kv_heads", "d_model", "d_head", "d_ff", "n_vocab", "context"):
            if getattr(self, name) < 1:
                raise ModelError(f"{name}: expected at least 1, got {getattr(self, name)}")
        # NaN fails these as well.
        for name in ("rope_base", "rope_scale"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ModelError(f"{name}: expected a positive number, got {getattr(self, name)}")
        if not 0 <= self.eps < float("inf"):
            raise ModelError(f"eps: expected 0 or more, got {self.eps}")
        if self.n_heads % self.n_kv_heads:
            raise ModelError(
                f"n_kv_heads: {self.n_heads} query heads cannot share {self.n_kv_heads} heads evenly"
            )
        if self.d_head % 2:
            raise ModelError(f"d_head: channels are rotated in pairs, {self.d_head} is odd")

    @property
    def rope_dims(self) -> int:
        """Channels of a head that are rotated: all of them."""
        return self.d_head

    @property
    def groups(self) -> int:
        """Query heads that share one key-value head."""
        return self.n_heads // self.n_kv_heads

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, object]) -> Config:
        """Read the shape from a file's metadata, values by key.

        Raises
        ------
        ModelError
            for another architecture than llama, naming it; for a key that is missing, is not such a number,
            or asks for something that this model lacks (experts, another scaling of the rotary positions
            than linear, heads with rotated and unrotated channels, another number of heads in each layer).
        """
        keys = _Keys(metadata)
        architecture = metadata.get("general.architecture")
        if architecture != "llama":
            raise ModelError(f"general.architecture: expected llama, got {architecture!r}")
        n_heads = keys.integer("attention.head_count")
        d_model = keys.integer("embedding_length")
        # llama.cpp: hparams.n_embd_head_k = n_embd / n_head unless the key says otherwise.
        d_head = keys.integer("attention.key_length", d_model // max(n_heads, 1))
        keys.require("attention.value_length", d_head, "the heads of keys and values must have one size")
        keys.require("rope.dimension_count", d_head, "all channels of a head must be rotated")
        keys.require("expert_count", 0, "mixtures of experts are not supported")
        tokens = metadata.get("tokenizer.ggml.tokens", ())
        if not hasattr(tokens, "__len__"):
            raise ModelError("tokenizer.ggml.tokens: expected a list of tokens")
        return cls(
            n_layers=keys.integer("block_count"),
            n_heads=n_heads,
            n_kv_heads=keys.integer("attention.head_count_kv", n_heads),
            d_model=d_model,
            d_head=d_head,
            d_ff=keys.integer("feed_forward_length"),
            n_vocab=keys.integer("vocab_size", len(tokens)),
            eps=keys.number("attention.layer_norm_rms_epsilon"),
            rope_base=keys.number("rope.freq_base", 10000.0),
            rope_scale=keys.rope_scale(),
            context=keys.integer("context_length"),
        )


class _Keys:
    """The keys of the llama architecture, with their types checked."""

    def __init__(self, metadata: Mapping[str, object]) -> None:
        self._metadata = metadata

    def _get(self, key: str, default: object) -> tuple[str, object]:
        key = f"llama.{key}"
        value = self._metadata.get(key, default)
        if value is None:
            raise ModelError(f"{key}: the key is missing")
        return key, value

    def integer(self, key: str, default: int | None = None) -> int:
        """Return an integer."""
        key, value = self._get(key, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise ModelError(f"{key}: expected one integer, got {_short(value)}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """Return a number."""
        key, value = self._get(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ModelError(f"{key}: expected a number, got {_short(value)}")
        return float(value)

    def require(self, key: str, wanted: int, why: str) -> None:
        """Refuse any other value of a key that may be missing."""
        if self.integer(key, wanted) != wanted:
            raise ModelError(f"llama.{key}: expected {wanted}, got {self.integer(key, wanted)}: {why}")

    def rope_scale(self) -> float:
        """Return the factor on positions.

        llama.cpp: a missing type means linear, a factor of 0 means none, rope_freq_scale_train = 1 / factor;
        `rope.scale_linear` is the key's older name.
        """
        key, kind = self._get("rope.scaling.type", "linear")
        if kind not in {"none", "linear"}:
            raise ModelError(f"{key}: {_short(kind)} is not supported, only none and linear are")
        factor = self.number("rope.scaling.factor", self.number("rope.scale_linear", 0.0))
        return 1.0 if kind == "none" or factor == 0.0 else 1.0 / factor


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"


def linear_names(config: Config) -> tuple[str, ...]:
    """Return the weights of every layer's linear operators, in the order in which they are computed.

    The head is not among them: it stays in float unless a caller replaces it (`q8a8.llama.model.Model`).
    """
    return tuple(f"blk.{layer}.{name}.weight" for layer in range(config.n_layers) for name in BLOCK_LINEARS)


def expected_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor that a model must have, by GGUF name; matrices are `[out, in]`."""
    d, q, kv, ff = (
        config.d_model,
        config.n_heads * config.d_head,
        config.n_kv_heads * config.d_head,
        config.d_ff,
    )
    block: dict[str, tuple[int, ...]] = {
        "attn_norm": (d,),
        "attn_q": (q, d),
        "attn_k": (kv, d),
        "attn_v": (kv, d),
        "attn_output": (d, q),
        "ffn_norm": (d,),
        "ffn_gate": (ff, d),
        "ffn_up": (ff, d),
        "ffn_down": (d, ff),
    }
    shapes: dict[str, tuple[int, ...]] = {EMBEDDING: (config.n_vocab, d), "output_norm.weight": (d,)}
    for layer in range(config.n_layers):
        shapes |= {f"blk.{layer}.{name}.weight": shape for name, shape in block.items()}
    return shapes
