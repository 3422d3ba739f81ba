"""A model's shape in Hugging Face's `config.json`, as the metadata of a GGUF file.

As llama.cpp's converter writes it (convert_hf_to_gguf.py): keys that this project's model reads. What it
cannot say in GGUF, or does not know, is refused by name.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["ARCHITECTURES", "MOST", "HfError", "config_fields", "rope_tensors"]

ARCHITECTURES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "llama",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
    "GemmaForCausalLM": "gemma",
    "Gemma2ForCausalLM": "gemma2",
    "Gemma3ForCausalLM": "gemma3",
    "Phi3ForCausalLM": "phi3",
}
"""The architecture in GGUF, by the model's class."""

ACTIVATIONS = {"gemma": ("gelu_pytorch_tanh", "gelu"), "": ("silu",)}
MOST = 2**31 - 1
"""Of any size: ggml's dimensions are counted in int32 in places."""

SLIDING = "sliding_attention"
"""What `layer_types` calls a layer that attends to a window."""

BASES = {"gemma3": 1e6}
"""Rotary bases where a configuration has none, of classes whose default is not 10,000."""

YARN_KEYS = ("beta_fast", "beta_slow")
"""YaRN's parameters beyond its factor that have keys in GGUF."""


class HfError(ValueError):
    """A configuration that has no counterpart in GGUF; the message names the key."""


def _rope(config: Mapping[str, Any], layers: str = "full_attention") -> dict[str, Any]:
    """Return the parameters of the rotary positions: in one key since transformers 5, in two before."""
    found = config.get("rope_parameters") or {}
    if isinstance(found.get(layers), dict):
        found = found[layers]
    elif layers != "full_attention":
        found = {}
    old = config.get("rope_scaling") or {}
    if layers == "full_attention":
        theta = {"rope_theta": config["rope_theta"]} if "rope_theta" in config else {}
        found = {**theta, **old, **found}
    found.setdefault("rope_type", found.get("type", "default"))
    return dict(found)


def _integer(config: Mapping[str, Any], key: str) -> int:
    """Return an integer."""
    value = config.get(key)
    if type(value) is not int:
        raise HfError(f"{key}: expected an integer, got {_shown(value)}")
    return value


def _number(config: Mapping[str, Any], key: str) -> float:
    """Return a number."""
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise HfError(f"{key}: expected a number, got {_shown(value)}")
    return float(value)


def _shown(value: object) -> str:
    """Return a value for an error's text."""
    return "none" if value is None else repr(value)[:40]


def _heads(config: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return the heads of queries, those of keys, and channels of a head."""
    heads = _integer(config, "num_attention_heads")
    if heads < 1:
        raise HfError(f"num_attention_heads: expected at least 1, got {heads}")
    size = (
        _integer(config, "head_dim") if config.get("head_dim") else _integer(config, "hidden_size") // heads
    )
    return (
        heads,
        _integer(config, "num_key_value_heads") if config.get("num_key_value_heads") else heads,
        size,
    )


def config_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of a model's shape, by GGUF key.

    Raises
    ------
    HfError
        for a key that is missing or has no counterpart.
    """
    try:
        return _fields(config)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError) as error:
        if isinstance(error, HfError):
            raise
        raise HfError(f"a key is missing or wrong: {type(error).__name__}: {error}") from error


def _fields(config: Mapping[str, Any]) -> dict[str, Any]:
    names = config.get("architectures") or ["none"]
    if names[0] not in ARCHITECTURES:
        raise HfError(f"architectures: expected one of {', '.join(ARCHITECTURES)}, got {names[0]!r}")
    if config.get("quantization_config"):
        raise HfError("quantization_config: the weights are quantized already, in a form that is not read")
    arch = ARCHITECTURES[names[0]]
    gelu = arch.startswith("gemma")
    activation = config.get("hidden_activation") or config.get("hidden_act") or ("gelu" if gelu else "silu")
    if activation not in ACTIVATIONS["gemma" if gelu else ""]:
        raise HfError(f"hidden_act: {activation!r} is not what {arch} computes")
    heads, kv_heads, size = _heads(config)
    rope = _rope(config)
    # transformers 5 has the share of rotated channels among the rotary parameters.
    share = float(rope.get("partial_rotary_factor", config.get("partial_rotary_factor") or 1.0))
    fields: dict[str, Any] = {
        "block_count": _integer(config, "num_hidden_layers"),
        "context_length": _integer(config, "max_position_embeddings"),
        "embedding_length": _integer(config, "hidden_size"),
        "feed_forward_length": _integer(config, "intermediate_size"),
        "attention.head_count": heads,
        "attention.head_count_kv": kv_heads,
        "attention.key_length": size,
        "attention.value_length": size,
        "attention.layer_norm_rms_epsilon": _number(config, "rms_norm_eps"),
        "rope.dimension_count": int(size * share),
        "rope.freq_base": _number(rope, "rope_theta") if "rope_theta" in rope else BASES.get(arch, 10000.0),
        "vocab_size": _integer(config, "vocab_size"),
        **_scaling(config, rope),
    }
    if arch in ("gemma2", "gemma3"):
        fields |= _windows(config, arch)
    else:
        fields |= _window_of_all(config, names[0])
    for key, value in fields.items():
        if type(value) is int and not 0 < value <= MOST:
            raise HfError(f"{key}: expected 1 to {MOST}, got {value}")
    return {"general.architecture": arch} | {f"{arch}.{key}": value for key, value in fields.items()}


def _windows(config: Mapping[str, Any], arch: str) -> dict[str, Any]:
    """Return the keys of Gemma's local layers and soft caps."""
    fields: dict[str, Any] = {"attention.sliding_window": _integer(config, "sliding_window")}
    if config.get("layer_types"):
        fields["attention.sliding_window_pattern"] = [kind == SLIDING for kind in config["layer_types"]]
    for key, name in (
        ("attn_logit_softcapping", "attn_logit_softcapping"),
        ("final_logit_softcapping", "final_logit_softcapping"),
    ):
        if arch == "gemma2" and config.get(key):
            fields[name] = _number(config, key)
    if arch == "gemma3":
        local = _rope(config, SLIDING).get("rope_theta", config.get("rope_local_base_freq"))
        fields["rope.freq_base_swa"] = float(local or 10000.0)
    wanted = config.get("query_pre_attn_scalar")
    heads, _, size = _heads(config)
    # llama.cpp knows the models that divide by another number by their count of layers.
    wide = _integer(config, "num_hidden_layers") == {"gemma2": 46, "gemma3": 62}[arch]
    expected = _integer(config, "hidden_size") // heads if wide else size
    if wanted not in (None, expected):
        raise HfError(f"query_pre_attn_scalar: expected {expected}, got {wanted}")
    return fields


def _window_of_all(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the window of a family whose layers all attend to everything here: it limits the context.

    Within a window no layer sees less. Qwen's classes have a width that `use_sliding_window` switches on.
    """
    kinds = set(config.get("layer_types") or ())
    if unknown := sorted(map(str, kinds - {"full_attention", SLIDING})):
        raise HfError(f"layer_types: {unknown[0]!r} is not supported")
    always = name in ("MistralForCausalLM", "Phi3ForCausalLM")
    if config.get("sliding_window") and (always or config.get("use_sliding_window") or SLIDING in kinds):
        return {"attention.sliding_window": _integer(config, "sliding_window")}
    return {}


def _scaling(config: Mapping[str, Any], rope: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of scaled rotary positions; Llama 3's and LongRoPE's factors are tensors."""
    kind = rope["rope_type"]
    context = _integer(config, "max_position_embeddings")
    key = "original_max_position_embeddings"
    original = int(rope.get(key) or config.get(key) or context)
    if kind in ("default", "llama3"):
        return {}
    if kind == "linear":
        return {"rope.scaling.type": "linear", "rope.scaling.factor": _number(rope, "factor")}
    if kind == "yarn":
        # What the model multiplies by (`q8a8.llama.rope.Yarn.gain`); Hugging Face's other keys replace it.
        wanted = 0.1 * math.log(max(_number(rope, "factor"), 1.0)) + 1
        given = rope.get("attention_factor")
        if rope.get("mscale") or rope.get("mscale_all_dim") or rope.get("truncate") is False:
            raise HfError("rope_scaling: mscale, mscale_all_dim and truncate are not supported with yarn")
        if given is not None and abs(float(given) - wanted) > 1e-6:
            raise HfError(f"rope_scaling: attention_factor: expected {wanted:.6f} or none, got {given}")
        return {
            "rope.scaling.type": "yarn",
            "rope.scaling.factor": _number(rope, "factor"),
            "rope.scaling.original_context_length": original,
            **{f"rope.scaling.yarn_{name}": _number(rope, name) for name in YARN_KEYS if rope.get(name)},
        }
    if kind in ("longrope", "su"):
        gain = math.sqrt(1 + math.log(context / original) / math.log(original)) if context > original else 1.0
        return {
            "rope.scaling.original_context_length": original,
            "rope.scaling.attn_factor": float(rope.get("attention_factor") or gain),
        }
    raise HfError(f"rope_scaling: {kind!r} is not supported")


def _divisors(rope: Mapping[str, Any], name: str) -> NDArray[np.float32]:
    """Return LongRoPE's divisors for long or for short texts."""
    factors = np.asarray(rope[f"{name}_factor"], np.float64)
    # NaN is in no range.
    if factors.ndim != 1 or not np.all((factors > 1e-30) & (factors < 1e30)):
        raise HfError(f"rope_scaling: {name}_factor: expected a list of positive numbers")
    return factors.astype(np.float32)


def rope_tensors(config: Mapping[str, Any]) -> dict[str, NDArray[np.float32]]:
    """Return the divisors of the rotary frequencies that are tensors in GGUF, by name.

    Raises
    ------
    HfError
        for a key that is missing or wrong.
    """
    rope = _rope(config)
    try:
        if rope["rope_type"] in ("longrope", "su"):
            return {f"rope_factors_{name}.weight": _divisors(rope, name) for name in ("long", "short")}
        if rope["rope_type"] != "llama3":
            return {}
        _, _, size = _heads(config)
        factor, low, high = (float(rope[k]) for k in ("factor", "low_freq_factor", "high_freq_factor"))
        original = float(rope.get("original_max_position_embeddings", 8192))
        frequencies = 1.0 / float(rope.get("rope_theta", 10000.0)) ** (np.arange(0, size, 2) / size)
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        if isinstance(error, HfError):
            raise
        raise HfError(f"rope_scaling: {type(error).__name__}: {error}") from error
    if not (factor > 0 and high > low > 0):
        raise HfError("rope_scaling: expected factor > 0 and high_freq_factor > low_freq_factor > 0")
    # meta-llama/llama-models, `apply_scaling`: fast pairs stay, slow ones are divided, those between blended.
    waves = 2 * math.pi / frequencies
    blend = (original / waves - low) / (high - low)
    between = 1 / ((1 - blend) / factor + blend)
    factors = np.where(waves < original / high, 1.0, np.where(waves > original / low, factor, between))
    return {"rope_freqs.weight": factors.astype(np.float32)}
