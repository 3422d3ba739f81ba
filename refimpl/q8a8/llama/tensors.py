"""The tensors that a model consists of: their names and shapes, checked before anything is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from q8a8.errors import ShapeError
from q8a8.llama.config import EMBEDDING, HEAD
from q8a8.llama.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from q8a8.llama.config import Config

    Shape = tuple[int, ...]

__all__ = ["check_shapes", "expected_shapes", "optional_shapes"]


def _linear_shapes(config: Config) -> dict[str, tuple[int, int]]:
    """Return `[out, in]` of each linear operator of a layer, of any family."""
    d, ff = config.d_model, config.d_ff
    q, kv = config.n_heads * config.d_head, config.n_kv_heads * config.d_head
    fused = "attn_qkv" in config.family.linears
    return {
        "attn_q": (q, d),
        "attn_k": (kv, d),
        "attn_v": (kv, d),
        "attn_qkv": (q + 2 * kv, d),
        "attn_output": (d, q),
        "ffn_gate": (ff, d),
        "ffn_up": (2 * ff if fused else ff, d),
        "ffn_down": (d, ff),
    }


def expected_shapes(config: Config) -> dict[str, Shape]:
    """Return the shape of every tensor that a model must have, by GGUF name; matrices are `[out, in]`."""
    d, family = config.d_model, config.family
    linears = _linear_shapes(config)
    block: dict[str, Shape] = {"attn_norm.weight": (d,)}
    block |= {f"{name}.weight": linears[name] for name in family.linears if name.startswith("attn")}
    if family.head_norms:
        block |= {"attn_q_norm.weight": (config.d_head,), "attn_k_norm.weight": (config.d_head,)}
    if family.post_norms:
        block["post_attention_norm.weight"] = (d,)
    block["ffn_norm.weight"] = (d,)
    block |= {f"{name}.weight": linears[name] for name in family.linears if name.startswith("ffn")}
    if family.post_norms:
        block["post_ffw_norm.weight"] = (d,)
    block |= {f"{name}.bias": linears[name][:1] for name in family.biases}
    shapes: dict[str, Shape] = {EMBEDDING: (config.n_vocab, d), "output_norm.weight": (d,)}
    for layer in range(config.n_layers):
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in block.items()}
    return shapes


def optional_shapes(config: Config) -> dict[str, Shape]:
    """Return the shape of every tensor that a model may have besides."""
    family, linears = config.family, _linear_shapes(config)
    shapes: dict[str, Shape] = {HEAD: (config.n_vocab, config.d_model)} if family.own_head else {}
    shapes |= dict.fromkeys(family.rope_tensors, (config.rope_dims // 2,))
    for layer in range(config.n_layers):
        shapes |= {f"blk.{layer}.{name}.bias": linears[name][:1] for name in family.optional_biases}
    return shapes


def check_shapes(config: Config, found: Mapping[str, Shape], *, without: Collection[str] = ()) -> None:
    """Refuse tensors that are not those of this model.

    Parameters
    ----------
    config
        The model's shape.
    found
        Shapes by GGUF name.
    without
        Names that may be missing.

    Raises
    ------
    ModelError
        for a tensor that is missing or unknown, naming it.
    ShapeError
        for one of another shape.
    """
    expected = expected_shapes(config)
    for name in expected:
        if name not in found and name not in without:
            raise ModelError(f"weights: there is no {name}")
    if len(config.family.rope_tensors) > 1:
        present = [name in found for name in config.family.rope_tensors]
        if any(present) and not all(present):
            raise ModelError(f"weights: {' and '.join(config.family.rope_tensors)} go together")
    known = expected | optional_shapes(config)
    for name, shape in found.items():
        if name not in known:
            raise ModelError(f"weights: {name} is not a tensor of this model")
        if shape != known[name]:
            raise ShapeError(f"{name}: expected shape {known[name]}, got {shape}")
