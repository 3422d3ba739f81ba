"""A model out of a file that another package wrote."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import gguf
import numpy as np
import pytest

from q8a8.ggufio import GgufError
from q8a8.llama import FloatLinear, Int8WeightLinear, ModelError, load

if TYPE_CHECKING:
    from pathlib import Path

    from tests.llama.conftest import Tiny

TYPES = (gguf.GGMLQuantizationType.F16, gguf.GGMLQuantizationType.BF16, gguf.GGMLQuantizationType.Q8_0)


def write(path: Path, tiny: Tiny, architecture: str = "llama") -> dict[str, np.ndarray]:
    """Write a model with gguf-py, matrices in each of `TYPES` in turn; give what gguf-py reads of them."""
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
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list([f"{i:03}" for i in range(config.n_vocab)])
    writer.add_token_merges(["0 0"])
    read = {}
    for i, (name, weight) in enumerate(tiny.weights.items()):
        kind = TYPES[i % len(TYPES)] if weight.ndim == 2 else gguf.GGMLQuantizationType.F32
        raw = gguf.quants.quantize(weight, kind)
        read[name] = gguf.quants.dequantize(raw, kind)
        writer.add_tensor(name, raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return read


def test_file_is_read(tiny: Tiny, tmp_path: Path) -> None:
    """Shape, weights to the bit, metadata, hash; and the model runs."""
    path = tmp_path / "tiny.gguf"
    written = write(path, tiny)
    loaded = load(path)
    # float32 is what metadata have room for.
    assert loaded.config == tiny.config_but(eps=float(np.float32(tiny.config.eps)))
    assert list(loaded.weights) == list(written)
    for name, weight in written.items():
        assert loaded.weights[name].dtype == np.float32
        assert loaded.weights[name].shape == weight.shape
        assert loaded.weights[name].tobytes() == weight.astype(np.float32).tobytes()
    assert loaded.metadata["general.architecture"] == "llama"
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert loaded.model().forward(tiny.tokens).shape == (len(tiny.tokens), tiny.config.n_vocab)
    name = "blk.0.attn_q.weight"
    model = loaded.model(linears={name: Int8WeightLinear(loaded.weights[name])})
    assert isinstance(model.linears[name], Int8WeightLinear)
    assert isinstance(model.linears["blk.1.attn_q.weight"], FloatLinear)


def test_tokenizer_is_built_when_it_is_asked_for(tiny: Tiny, tmp_path: Path) -> None:
    """A model runs without one; this file's merges make tokens that it does not have."""
    path = tmp_path / "tiny.gguf"
    write(path, tiny)
    loaded = load(path)
    with pytest.raises(ModelError, match=r"tokenizer.ggml.merges: '0' '0': '0' is no token"):
        _ = loaded.tokenizer


def test_what_is_no_such_model(tiny: Tiny, tmp_path: Path) -> None:
    """Another architecture, no GGUF file at all, and none there."""
    path = tmp_path / "other.gguf"
    write(path, tiny, "qwen2")
    with pytest.raises(ModelError, match="the file has 'qwen2'"):
        load(path)
    path.write_bytes(b"nothing")
    with pytest.raises(GgufError, match=r"other\.gguf"):
        load(path)
    with pytest.raises(GgufError, match=r"gone\.gguf"):
        load(tmp_path / "gone.gguf")
