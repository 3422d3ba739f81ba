"""The shape of a model, from the metadata of its GGUF file.

Keys are those of the GGUF specification (ggml, docs/gguf.md, "LLM"); missing keys have the defaults of
llama.cpp (src/llama-model.cpp, `llama_model_base::load_hparams`). A key that asks for something this model
lacks is refused by name, never ignored. What the families differ in is in `q8a8.llama.families`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from q8a8.llama.errors import ModelError
from q8a8.llama.families import FAMILIES, LLAMA, Family
from q8a8.llama.keys import Keys
from q8a8.llama.rope import Yarn

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["EMBEDDING", "HEAD", "MAX_LAYERS", "Config", "linear_names"]

HEAD = "output.weight"
"""The last linear operator, from a hidden state to logits. Without this tensor it is `EMBEDDING` (tied)."""

EMBEDDING = "token_embd.weight"

MAX_LAYERS = 512
"""llama.cpp, src/llama-hparams.h, `LLAMA_MAX_LAYERS`."""

YARN_KEYS = {
    "rope.scaling.yarn_ext_factor": 1.0,
    "rope.scaling.yarn_attn_factor": 1.0,
    "rope.scaling.yarn_log_multiplier": 0.0,
}
"""Keys of which a file may have only these values: llama.cpp reads them for other architectures alone."""

YARN_BETAS = (("fast", 32.0), ("slow", 1.0))
"""What GGUF's keys of YaRN's turns are without a value.

llama.cpp's converter writes them, and it reads them for other architectures alone: for these it takes
`--yarn-beta-fast` and `--yarn-beta-slow`. Here the file's values hold, as in Hugging Face's.
"""

_MOST = 2**31 - 1
"""Of any count: ggml's dimensions are counted in int32 in places."""

_TINY, _HUGE = 5e-324, sys.float_info.max
_LEAST_CAP = 1e-6

_RANGES: tuple[tuple[tuple[str, ...], float, float, str], ...] = (
    (("n_layers",), 1, MAX_LAYERS, f"1 to {MAX_LAYERS}"),
    (("n_heads", "n_kv_heads", "d_model", "d_head", "d_ff"), 1, _MOST, f"1 to {_MOST}"),
    (("n_vocab", "context"), 1, _MOST, f"1 to {_MOST}"),
    (("window", "rope_context"), 0, _MOST, f"0 to {_MOST}"),
    (("rope_base", "rope_scale"), _TINY, _HUGE, "a positive number"),
    (("rope_gain",), 1e-6, 1e6, "1e-6 to 1e6"),
    (("local_base", "local_scale"), _TINY, _HUGE, "a positive number"),
    (("eps", "score_cap", "logit_cap"), 0, _HUGE, "0 or more"),
)
"""Attributes, the least and the largest value, and both in words."""


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
        Of the rotary frequencies base^(−2i/rope_dims).
    rope_scale
        Factor on every position: 1, or the reciprocal of the factor of a scaling.
    context
        Positions that the model was trained for, with what was done to make them more; or fewer that a run
        is opened for (`opened`).
    family
        What it has beyond its sizes.
    rotated
        Channels of a head that are rotated, the first ones; None: all.
    yarn
        How positions are scaled pair by pair; None: all pairs alike.
    rope_gain
        Factor on rotated queries and keys.
    rope_context
        Positions up to which the divisors for short texts hold, where a model has two sets; 0: it has not.
    window
        Positions that local layers attend to; 0: all layers attend to everything.
    local_layers
        Which layers are local, as a cycle.
    local_base, local_scale
        `rope_base` and `rope_scale` of local layers.
    score_cap, logit_cap
        Soft caps of attention's scores and of logits; 0: none.
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
    family: Family = LLAMA
    rotated: int | None = None
    yarn: Yarn | None = None
    rope_gain: float = 1.0
    rope_context: int = 0
    window: int = 0
    local_layers: tuple[bool, ...] = ()
    local_base: float = 10000.0
    local_scale: float = 1.0
    score_cap: float = 0.0
    logit_cap: float = 0.0

    def __post_init__(self) -> None:
        """Refuse numbers that no model can have.

        Raises
        ------
        ModelError
            naming the attribute.
        """
        for names, low, high, wanted in _RANGES:
            for name in names:
                # NaN is in no range.
                if not low <= getattr(self, name) <= high:
                    raise ModelError(f"{name}: expected {wanted}, got {getattr(self, name)}")
        for name in ("score_cap", "logit_cap"):
            # Numbers are divided by it.
            if 0 < getattr(self, name) < _LEAST_CAP:
                raise ModelError(f"{name}: expected 0 or at least {_LEAST_CAP:g}, got {getattr(self, name)}")
        if self.n_heads % self.n_kv_heads:
            raise ModelError(
                f"n_kv_heads: {self.n_heads} query heads cannot share {self.n_kv_heads} heads evenly"
            )
        if self.rope_dims % 2:
            raise ModelError(f"rope_dims: channels are rotated in pairs, {self.rope_dims} is odd")
        if not 0 < self.rope_dims <= self.d_head:
            raise ModelError(f"rope_dims: expected 2 to {self.d_head} of a head, got {self.rope_dims}")
        if self.yarn is not None:
            self._check_yarn(self.yarn)

    def _check_yarn(self, yarn: Yarn) -> None:
        """Refuse numbers whose logarithms are none."""
        if self.rope_base <= 1:
            raise ModelError(f"rope_base: YaRN expects more than 1, got {self.rope_base}")
        if not 0 < yarn.slow < yarn.fast < float("inf"):
            raise ModelError(f"yarn: expected 0 < slow < fast turns, got {yarn.slow} and {yarn.fast}")
        if not 0 < yarn.context <= _MOST:
            raise ModelError(f"yarn: expected an original context of at least 1, got {yarn.context}")

    @property
    def rope_dims(self) -> int:
        """Channels of a head that are rotated."""
        return self.d_head if self.rotated is None else self.rotated

    @property
    def groups(self) -> int:
        """Query heads that share one key-value head."""
        return self.n_heads // self.n_kv_heads

    @property
    def linears(self) -> tuple[str, ...]:
        """The linear operators of a layer, in the order in which they are computed."""
        return self.family.linears

    @property
    def score_width(self) -> int:
        """Attention's scores are divided by its root."""
        wide = self.family.wide_layers and self.n_layers == self.family.wide_layers
        return self.d_model // self.n_heads if wide else self.d_head

    def local(self, layer: int) -> bool:
        """Return whether a layer attends to a window only."""
        return bool(self.window and self.local_layers) and self.local_layers[layer % len(self.local_layers)]

    def opened(self, positions: int) -> Config:
        """Return the shape for runs of at most so many positions.

        That changes the result for LongRoPE only, whose divisors for long texts belong to runs of more than
        `rope_context` positions: llama.cpp, `get_rope_factors`, goes by the context that is opened; Hugging
        Face's code by the length so far.
        """
        if not self.rope_context or positions >= self.context:
            return self
        return replace(self, context=max(positions, 1))

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, object]) -> Config:
        """Read the shape from a file's metadata, values by key.

        Raises
        ------
        ModelError
            for an architecture that is not in `FAMILIES`, naming it; for a key that is missing, is not such a
            number, or asks for something that this model lacks (experts, another scaling of the rotary
            positions, another number of heads in each layer).
        """
        architecture = metadata.get("general.architecture")
        if not isinstance(architecture, str) or architecture not in FAMILIES:
            known = ", ".join(FAMILIES)
            raise ModelError(f"general.architecture: expected one of {known}, got {architecture!r}")
        family = FAMILIES[architecture]
        keys = Keys(metadata, architecture)
        d_model, n_heads, d_head = _head_size(keys)
        keys.require("attention.value_length", d_head, "the heads of keys and values must have one size")
        keys.require("expert_count", 0, "mixtures of experts are not supported")
        rotated = keys.integer("rope.dimension_count", d_head)
        if not family.partial_rotation and rotated != d_head:
            keys.require("rope.dimension_count", d_head, "all channels of a head must be rotated")
        tokens = metadata.get("tokenizer.ggml.tokens", ())
        if not hasattr(tokens, "__len__"):
            raise ModelError("tokenizer.ggml.tokens: expected a list of tokens")
        base, scale = keys.number("rope.freq_base", 10000.0), keys.rope_scale()
        context = keys.integer("context_length")
        original = keys.integer("rope.scaling.original_context_length", context)
        fast, slow = (keys.number(f"rope.scaling.yarn_beta_{kind}", turns) for kind, turns in YARN_BETAS)
        yarn = Yarn(original, fast, slow) if keys.rope_scaling() == "yarn" else None
        for key, wanted in YARN_KEYS.items():
            keys.require_number(key, wanted, "llama.cpp reads no other for this architecture")
        gain = keys.number("rope.scaling.attn_factor", 1.0)
        if yarn is not None and 0 < scale < 1:
            gain *= Yarn.gain(scale)
        window = keys.integer("attention.sliding_window", family.window)
        if not family.local_layers and window > 0:
            # llama.cpp lets every layer attend to everything. Within the window that is the same.
            context, window = min(context, window), 0
        local_base, local_scale = (base, scale) if family.local_base is None else (family.local_base, 1.0)
        return cls(
            n_layers=keys.integer("block_count"),
            n_heads=n_heads,
            n_kv_heads=keys.integer("attention.head_count_kv", n_heads),
            d_model=d_model,
            d_head=d_head,
            d_ff=keys.integer("feed_forward_length"),
            n_vocab=keys.integer("vocab_size", len(tokens)),
            eps=keys.number("attention.layer_norm_rms_epsilon"),
            rope_base=base,
            rope_scale=scale,
            context=context,
            family=family,
            rotated=None if rotated == d_head else rotated,
            yarn=yarn,
            rope_gain=gain,
            rope_context=original if len(family.rope_tensors) > 1 else 0,
            window=window,
            local_layers=keys.local_layers(family.local_layers) if window > 0 else (),
            local_base=keys.number("rope.freq_base_swa", local_base) if window else 10000.0,
            local_scale=local_scale if window else 1.0,
            score_cap=keys.number("attn_logit_softcapping", family.score_cap),
            logit_cap=keys.number("final_logit_softcapping", family.logit_cap),
        )


def _head_size(keys: Keys) -> tuple[int, int, int]:
    """Return d_model, n_heads and d_head, which depend on each other."""
    n_heads, d_model = keys.integer("attention.head_count"), keys.integer("embedding_length")
    if n_heads < 1:
        raise ModelError(f"{keys.name('attention.head_count')}: expected at least 1, got {n_heads}")
    # llama.cpp: hparams.n_embd_head_k = n_embd / n_head unless the key says otherwise.
    d_head = keys.integer("attention.key_length", d_model // n_heads)
    if not keys.has("attention.key_length") and d_model % n_heads:
        raise ModelError(
            f"{keys.name('attention.head_count')}: {d_model} channels are no whole heads of {n_heads}"
        )
    return d_model, n_heads, d_head


def linear_names(config: Config) -> tuple[str, ...]:
    """Return the weights of every layer's linear operators, in the order in which they are computed.

    The head is not among them: it stays in float unless a caller replaces it (`q8a8.llama.model.Model`).
    """
    return tuple(
        f"blk.{layer}.{name}.weight" for layer in range(config.n_layers) for name in config.family.linears
    )
