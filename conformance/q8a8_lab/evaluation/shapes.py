"""How large a Llama model is in memory, from the shapes of its tensors.

The shapes are those of the models' papers and published configurations: LLaMA (Touvron et al., 2023, table 2)
for the widths, heads and layers; the hidden sizes of the feed-forward layers and the vocabulary of 32,000
from the `config.json` and `params.json` that go with the weights.

Counted are tensors: no tokenizer, no metadata, no alignment (together about 1 MB of a GGUF file). GB is 10^9
bytes, GiB 2^30, as everywhere in this project.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MODELS", "LlamaShape"]

F32_BYTES, F16_BYTES = 4, 2
BLOCK, BLOCK_BYTES = 32, 34


@dataclass(frozen=True)
class LlamaShape:
    """What decides the sizes of a Llama model's tensors.

    Attributes
    ----------
    name
        What the model is called.
    n_layers, d_model, d_ff, n_vocab
        Layers, width, hidden width of the feed-forward part, tokens in the vocabulary.
    n_heads, n_kv_heads
        Heads of the queries, and of the keys and values.
    tied
        Whether the output matrix is the embedding.
    """

    name: str
    n_layers: int
    d_model: int
    d_ff: int
    n_vocab: int
    n_heads: int
    n_kv_heads: int
    tied: bool = False

    @property
    def d_head(self) -> int:
        """Elements of a head."""
        return self.d_model // self.n_heads

    @property
    def linear(self) -> int:
        """Weights of the seven matrices of every layer: what Q8_A8 is made for."""
        d_kv = self.n_kv_heads * self.d_head
        attention = 2 * self.d_model * self.d_model + 2 * self.d_model * d_kv
        return self.n_layers * (attention + 3 * self.d_model * self.d_ff)

    @property
    def tables(self) -> int:
        """Weights of the embedding, and of the output matrix if it is another."""
        return (1 if self.tied else 2) * self.n_vocab * self.d_model

    @property
    def norms(self) -> int:
        """Weights of the norms: two a layer, and the last."""
        return (2 * self.n_layers + 1) * self.d_model

    @property
    def parameters(self) -> int:
        """All weights."""
        return self.linear + self.tables + self.norms

    def f16_bytes(self) -> int:
        """Return the bytes with matrices in float16 and norms in float32, as llama.cpp writes them."""
        return F16_BYTES * (self.linear + self.tables) + F32_BYTES * self.norms

    def q8_a8_bytes(self, *, tables: bool) -> int:
        """Return the bytes with Q8_A8 matrices and norms in float32.

        Parameters
        ----------
        tables
            Whether embedding and output matrix are Q8_A8 too; else they stay float16.
        """
        blocks = self.linear + (self.tables if tables else 0)
        if self.d_model % BLOCK or self.d_ff % BLOCK:
            raise ValueError(f"{self.name}: rows of {self.d_model} or {self.d_ff} are not whole blocks")
        rest = 0 if tables else F16_BYTES * self.tables
        return blocks // BLOCK * BLOCK_BYTES + rest + F32_BYTES * self.norms

    def kv_cache_bytes(self, positions: int, bits: float = 16) -> int:
        """Return the bytes of keys and values; `bits` an element, its share of scales included."""
        elements = 2 * self.n_layers * positions * self.n_kv_heads * self.d_head
        return round(elements * bits / 8)

    def activation_row_bytes(self) -> int:
        """Return the bytes of the longest row of activations as blocks: what quantizing them needs more."""
        return max(self.d_model, self.d_ff) // BLOCK * BLOCK_BYTES


MODELS: Mapping[str, LlamaShape] = {
    shape.name: shape
    for shape in (
        LlamaShape("Llama-7B", 32, 4096, 11008, 32000, 32, 32),
        LlamaShape("Llama-13B", 40, 5120, 13824, 32000, 40, 40),
        LlamaShape("Llama-30B", 60, 6656, 17920, 32000, 52, 52),
        LlamaShape("SmolLM2-135M", 30, 576, 1536, 49152, 9, 3, tied=True),
    )
}
"""The models of document 001 (LLaMA's "30B" has 32.5 billion weights), and the one that is measured here."""
