"""A model so small that plain loops can check it, and what the tests of the real one share."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import gguf
import numpy as np
import pytest

from q8a8.llama import Config
from q8a8.llama.tensors import expected_shapes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    F32 = NDArray[np.float32]
    Weights: TypeAlias = dict[str, F32]
    WriteTiny: TypeAlias = Callable[..., dict[str, np.ndarray]]
    Oracle: TypeAlias = Callable[[Config, Mapping[str, F32], Sequence[int]], NDArray[np.float64]]

CONFIG = Config(
    n_layers=2,
    n_heads=6,
    n_kv_heads=2,
    d_model=64,
    d_head=16,  # 6 heads of 16 are 96 channels: not the model's 64
    d_ff=96,
    n_vocab=300,
    eps=1e-5,
    rope_base=10000.0,
    context=64,
)


@dataclass(frozen=True)
class Tiny:
    """A random model.

    Attributes
    ----------
    config, weights
        As `q8a8.llama.Model` takes them.
    tokens
        A text.
    """

    config: Config
    weights: Weights
    tokens: list[int]

    def but(self, **changes: F32) -> Weights:
        """Return the weights with some others; dots in names are written as two underscores."""
        return self.weights | {name.replace("__", "."): weight for name, weight in changes.items()}

    def config_but(self, **changes: float) -> Config:
        """Return the shape with some other numbers."""
        return replace(self.config, **changes)  # type: ignore[arg-type]  # the names are the caller's


@pytest.fixture(scope="session")
def tiny() -> Tiny:
    """Return a random model of two layers; weights are never written to."""
    rng = np.random.default_rng(20260)
    weights = {}
    for name, shape in expected_shapes(CONFIG).items():
        weight = rng.normal(size=shape) / math.sqrt(shape[-1])
        # Norms are near one, and the embedding is large enough for attention to choose.
        weights[name] = (1 + weight if len(shape) == 1 else 2 * weight).astype(np.float32)
        weights[name].flags.writeable = False
    # Repeats, the first and the last token of the vocabulary.
    return Tiny(CONFIG, weights, [7, 299, 0, 7, 7, 123, 42, 8, 250, 31, 5])


# GPT-2's characters of bytes: those of Latin-1 that print, then U+0100 and up.
BYTES = [*map(chr, [*range(33, 127), *range(161, 173), *range(174, 256)]), *map(chr, range(256, 324))]

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

TYPES = (gguf.GGMLQuantizationType.F16, gguf.GGMLQuantizationType.BF16, gguf.GGMLQuantizationType.Q8_0)


def write_model(
    path: Path,
    tiny: Tiny,
    *,
    architecture: str = "llama",
    pre: str = "smollm",
    types: Sequence[gguf.GGMLQuantizationType] = TYPES,
    scaling: float | None = None,
) -> dict[str, np.ndarray]:
    """Write a model with gguf-py, matrices in each of `types` in turn; give what gguf-py reads of them."""
    config = tiny.config
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(config.n_layers)
    writer.add_context_length(config.context)
    writer.add_embedding_length(config.d_model)
    writer.add_feed_forward_length(config.d_ff)
    writer.add_head_count(config.n_heads)
    writer.add_head_count_kv(config.n_kv_heads)
    writer.add_key_length(config.d_head)
    writer.add_value_length(config.d_head)
    writer.add_rope_dimension_count(config.d_head)
    writer.add_layer_norm_rms_eps(config.eps)
    writer.add_rope_freq_base(config.rope_base)
    if scaling is not None:
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(scaling)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    tokens = [*BYTES, "Ġt", "he", "<|im_start|>", "<|im_end|>"]
    tokens += [f"<|unused{i}|>" for i in range(config.n_vocab - len(tokens))]
    writer.add_token_list(tokens)
    writer.add_token_types([1] * 258 + [3] * (config.n_vocab - 258))
    writer.add_token_merges(["Ġ t", "h e"])
    writer.add_bos_token_id(tokens.index("<|im_start|>"))
    writer.add_eos_token_id(tokens.index("<|im_end|>"))
    writer.add_chat_template(CHATML)
    read = {}
    for i, (name, weight) in enumerate(tiny.weights.items()):
        kind = types[i % len(types)] if weight.ndim == 2 else gguf.GGMLQuantizationType.F32
        raw = gguf.quants.quantize(weight, kind)
        read[name] = gguf.quants.dequantize(raw, kind)
        writer.add_tensor(name, raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return read


@pytest.fixture(scope="session")
def write_tiny() -> WriteTiny:
    """Return a function that writes a model with gguf-py, and gives what gguf-py reads of its weights."""
    return write_model


@pytest.fixture(scope="session")
def oracle() -> Oracle:
    """Return another implementation: lists, loops and `math`, nothing of the one under test."""
    return oracle_logits


def dot(a: Sequence[float], b: Sequence[float]) -> float:
    """Multiply two vectors; the sum is exactly rounded."""
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def product(weight: Sequence[Sequence[float]], x: Sequence[float]) -> list[float]:
    """Multiply a matrix, given by its rows, with a vector."""
    return [dot(row, x) for row in weight]


def norm(x: Sequence[float], weight: Sequence[float], eps: float) -> list[float]:
    """Divide by the root mean square."""
    root = math.sqrt(dot(x, x) / len(x) + eps)
    return [value / root * scale for value, scale in zip(x, weight, strict=True)]


def turned(head: Sequence[float], position: int, config: Config, factors: Sequence[float]) -> list[float]:
    """Turn each pair of neighbours of one head."""
    out: list[float] = []
    for pair in range(config.d_head // 2):
        angle = position * config.rope_scale / config.rope_base ** (2 * pair / config.d_head) / factors[pair]
        a, b = head[2 * pair], head[2 * pair + 1]
        out += [a * math.cos(angle) - b * math.sin(angle), a * math.sin(angle) + b * math.cos(angle)]
    return out


def heads(x: Sequence[float], size: int) -> list[list[float]]:
    """Cut a vector into heads."""
    return [list(x[start : start + size]) for start in range(0, len(x), size)]


def oracle_logits(config: Config, weights: Mapping[str, F32], tokens: Sequence[int]) -> NDArray[np.float64]:
    """Compute all logits, token by token, in the order of the paper's formulas."""
    w = {name: weight.astype(np.float64).tolist() for name, weight in weights.items()}
    factors = w.get("rope_freqs.weight", [1.0] * (config.d_head // 2))
    past: list[list[tuple[list[list[float]], list[list[float]]]]] = [[] for _ in range(config.n_layers)]
    logits = []
    for position, token in enumerate(tokens):
        x = w["token_embd.weight"][token]
        for layer in range(config.n_layers):
            of = {name: w[f"blk.{layer}.{name}.weight"] for name in BLOCK}
            n = norm(x, of["attn_norm"], config.eps)
            q, k, v = (heads(product(of[name], n), config.d_head) for name in ("attn_q", "attn_k", "attn_v"))
            q = [turned(head, position, config, factors) for head in q]
            past[layer].append(([turned(head, position, config, factors) for head in k], v))
            joined: list[float] = []
            for h, head in enumerate(q):
                shared = h * config.n_kv_heads // config.n_heads
                scores = [dot(head, keys[shared]) / math.sqrt(config.d_head) for keys, _ in past[layer]]
                shares = [math.exp(score - max(scores)) for score in scores]
                for channel in range(config.d_head):
                    column = [values[shared][channel] for _, values in past[layer]]
                    joined.append(dot(shares, column) / math.fsum(shares))
            x = [a + b for a, b in zip(x, product(of["attn_output"], joined), strict=True)]
            m = norm(x, of["ffn_norm"], config.eps)
            gate, up = product(of["ffn_gate"], m), product(of["ffn_up"], m)
            hidden = [g / (1 + math.exp(-g)) * u for g, u in zip(gate, up, strict=True)]
            x = [a + b for a, b in zip(x, product(of["ffn_down"], hidden), strict=True)]
        last = norm(x, w["output_norm.weight"], config.eps)
        logits.append(product(w.get("output.weight", w["token_embd.weight"]), last))
    return np.array(logits)


BLOCK = (
    "attn_norm",
    "attn_q",
    "attn_k",
    "attn_v",
    "attn_output",
    "ffn_norm",
    "ffn_gate",
    "ffn_up",
    "ffn_down",
)
