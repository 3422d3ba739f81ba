"""Small models in Hugging Face's layout: what tests of configurations, tokenizers and folders begin with."""

from __future__ import annotations

from typing import Any

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}


def configuration(model: str = "LlamaForCausalLM", **more: object) -> dict[str, Any]:
    """Return a `config.json` of a small model."""
    return {
        "architectures": [model],
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "hidden_size": 16,
        "intermediate_size": 24,
        "vocab_size": 4,
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-6,
        **more,
    }


def gemma(model: str, **more: object) -> dict[str, Any]:
    """Return a `config.json` of a small Gemma 2 or 3."""
    return configuration(model, sliding_window=8, **more)


def byte_level(**more: object) -> dict[str, Any]:
    """Return a `tokenizer.json` of three tokens."""
    model = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}
    begin = {"id": 3, "content": "<s>", "special": True}
    return {"model": model, "added_tokens": [begin], "pre_tokenizer": BYTE_LEVEL, **more}
