"""How the relatives of Llama differ from it: one table, and the model reads it.

Everything that all of them share is in `q8a8.llama.model`; what depends on a single file (sizes, bases, soft
caps) is in its metadata, `q8a8.llama.config`. Here is what a family is by its architecture's name, as
llama.cpp computes it (src/models/*.cpp; names of tensors: gguf-py, constants.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["FAMILIES", "LLAMA", "Family"]

SPLIT = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
"""The linear operators of one layer, as GGUF calls them, in the order in which they are computed."""

FUSED = ("attn_qkv", "attn_output", "ffn_up", "ffn_down")
"""The same, with q, k and v in one matrix and gate and up in another: q's rows first, gate's rows first."""

ATTENTION = ("attn_q", "attn_k", "attn_v")


@dataclass(frozen=True)
class Family:
    """What an architecture is, beyond its sizes.

    Attributes
    ----------
    name
        The architecture in GGUF.
    linears
        The linear operators of one layer, in the order in which they are computed.
    biases, optional_biases
        The operators with a bias, added to their outputs; and those that may have one.
    head_norms
        Whether each head of queries and of keys goes through an RMSNorm before it is rotated.
    post_norms
        Whether the outputs of attention and of the feed-forward part go through an RMSNorm before they are
        added.
    pairs
        Which channels of a head are rotated together: neighbours, 2i and 2i + 1, or halves, i and i + d/2.
    partial_rotation
        Whether the last channels of a head may be left unrotated.
    gate
        The function of the gate.
    scaled_embedding
        Whether a token's embedding is multiplied by sqrt(d_model).
    own_head
        Whether a file may have a head of its own; otherwise it is the embedding.
    local_layers
        A cycle of layers, each true where it attends to a window only; empty where none does.
    window
        Positions of that window where the file does not say; 0 for none.
    local_base
        Base of the rotary frequencies of those layers where the file does not say; None for that of the
        others. With a base of its own a local layer's positions are not scaled.
    wide_layers
        A count of layers with which scores are divided by sqrt(d_model / n_heads) instead of sqrt(d_head):
        how llama.cpp knows the 27-billion models.
    score_cap, logit_cap
        Soft caps of scores and of logits where the file does not say; 0 for none.
    rope_tensors
        Divisors of the rotary frequencies that a file may have: `rope_freqs`, or one tensor for texts longer
        than the model was trained for first, and one for shorter ones.
    """

    name: str
    linears: tuple[str, ...] = SPLIT
    biases: tuple[str, ...] = ()
    optional_biases: tuple[str, ...] = ()
    head_norms: bool = False
    post_norms: bool = False
    pairs: Literal["neighbours", "halves"] = "halves"
    partial_rotation: bool = True
    gate: Literal["silu", "gelu"] = "silu"
    scaled_embedding: bool = False
    own_head: bool = True
    local_layers: tuple[bool, ...] = ()
    window: int = 0
    local_base: float | None = None
    wide_layers: int = 0
    score_cap: float = 0.0
    logit_cap: float = 0.0
    rope_tensors: tuple[str, ...] = ()


def cycle(period: int) -> tuple[bool, ...]:
    """Return a cycle of layers of which the last one attends to everything."""
    return (*[True] * (period - 1), False)


LLAMA = Family(
    "llama",
    optional_biases=SPLIT,
    pairs="neighbours",
    partial_rotation=False,
    rope_tensors=("rope_freqs.weight",),
)
"""Llama 1 to 3, SmolLM2, and Mistral, which GGUF knows by no name of its own."""

FAMILIES = {
    family.name: family
    for family in (
        LLAMA,
        Family("qwen2", biases=ATTENTION, optional_biases=("attn_output",)),
        Family("qwen3", head_norms=True),
        Family("gemma", gate="gelu", scaled_embedding=True, own_head=False),
        Family(
            "gemma2",
            post_norms=True,
            gate="gelu",
            scaled_embedding=True,
            own_head=False,
            local_layers=cycle(2),
            window=4096,
            wide_layers=46,
            score_cap=50.0,
            logit_cap=30.0,
        ),
        Family(
            "gemma3",
            head_norms=True,
            post_norms=True,
            gate="gelu",
            scaled_embedding=True,
            local_layers=cycle(6),
            local_base=10000.0,
            wide_layers=62,
        ),
        Family(
            "phi3",
            linears=FUSED,
            rope_tensors=("rope_factors_long.weight", "rope_factors_short.weight"),
        ),
    )
}
"""By the architecture in GGUF."""
