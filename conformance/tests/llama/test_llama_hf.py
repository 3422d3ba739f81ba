"""Models in Hugging Face's layout: small ones of every family, written here by the package safetensors."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import safetensors.numpy
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from q8a8.ggufio import GgufError, open_model, quantize_model
from q8a8.ggufio.hf import convert_folder
from q8a8.llama import Config, Model, load
from q8a8.llama.families import FAMILIES
from q8a8.llama.tensors import expected_shapes
from q8a8_evaluation import llamacpp
from q8a8_evaluation.llamacpp import LlamaCpp, LlamaCppUnavailableError
from q8a8_lab.evaluation.rounding_noise import agreement, logit_noise
from tests.llama.conftest import BYTES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from tests.llama.conftest import Tiny

    F32 = NDArray[np.float32]

CLASSES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "gemma3": "Gemma3ForCausalLM",
    "phi3": "Phi3ForCausalLM",
}

NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_qkv": "self_attn.qkv_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
GEMMA = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}


def hf_rows(weight: F32, heads: int) -> F32:
    """Return the rows as Hugging Face has them: of each head the even channels first, then the odd ones."""
    size = len(weight) // heads
    order = [h * size + i for h in range(heads) for i in (*range(0, size, 2), *range(1, size, 2))]
    return np.ascontiguousarray(weight[order])


def hf_name(name: str, family: str) -> str:
    """Return a tensor's name in Hugging Face's layout."""
    if name == "token_embd.weight":
        return "model.embed_tokens.weight"
    if name == "output_norm.weight":
        return "model.norm.weight"
    _, layer, part, kind = name.split(".")
    names = NAMES | (GEMMA if family == "gemma3" else {})
    names |= {"ffn_up": "mlp.gate_up_proj"} if family == "phi3" else {}
    return f"model.layers.{layer}.{names[part]}.{kind}"


def configuration(config: Config, kind: str, **more: object) -> dict[str, Any]:
    """Return a `config.json`."""
    return {
        "architectures": [CLASSES[kind]],
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_kv_heads,
        "hidden_size": config.d_model,
        "head_dim": config.d_head,
        "intermediate_size": config.d_ff,
        "vocab_size": config.n_vocab,
        "max_position_embeddings": config.context,
        "rms_norm_eps": config.eps,
        "rope_theta": config.rope_base,
        "tie_word_embeddings": True,
        "bos_token_id": 256,
        "eos_token_id": [257, 256],
        **({"sliding_window": 8, "query_pre_attn_scalar": config.d_head} if kind == "gemma3" else {}),
        **({"sliding_window": None} if kind == "phi3" else {}),
        **more,
    }


def byte_level() -> tokenizers.Tokenizer:
    """Return a small byte-level tokenizer that splits words as Llama 3 does."""
    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    vocabulary = {text: i for i, text in enumerate([*BYTES, "<|begin|>", "<|end|>", "Ġt", "he", "Ġthe"])}
    merges = [("Ġ", "t"), ("h", "e"), ("Ġt", "he")]
    built = tokenizers.Tokenizer(models.BPE(vocabulary, merges))
    built.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    built.decoder = decoders.ByteLevel()
    built.post_processor = processors.TemplateProcessing(
        single="<|begin|> $A", special_tokens=[("<|begin|>", 256)]
    )
    built.add_special_tokens(["<|begin|>", "<|end|>"])
    return built


def pieces() -> tokenizers.Tokenizer:
    """Return a small tokenizer of SentencePiece's type, with tokens for bytes."""
    texts = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "t", "h", "e", "▁t"]
    texts += ["he", "the", "▁the"]
    merges = [("▁", "t"), ("h", "e"), ("t", "he"), ("▁t", "he")]
    vocabulary = {text: i for i, text in enumerate(texts)}
    built = tokenizers.Tokenizer(
        models.BPE(vocabulary, merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True)  # noqa: S106 - a token of a vocabulary
    )
    built.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    built.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    built.add_special_tokens(["<unk>", "<s>", "</s>"])
    return built


def model_of(tiny: Tiny, kind: str) -> tuple[Config, dict[str, F32]]:
    """Return a random model of a family."""
    family = FAMILIES["llama" if kind == "mistral" else kind]
    # llama.cpp reads these only where heads fill the model's channels.
    heads = 4 if kind in ("phi3", "qwen2") else tiny.config.n_heads
    config = dataclasses.replace(tiny.config, family=family, n_heads=heads)
    random = np.random.default_rng(17)
    weights = {
        name: (random.normal(size=shape) / 8 + (len(shape) == 1)).astype(np.float32)
        for name, shape in expected_shapes(config).items()
    }
    return config, weights


def write_folder(folder: Path, kind: str, config: Config, weights: dict[str, F32], parts: int = 1) -> None:
    """Write a model as Hugging Face's packages do, in one file or several."""
    folder.mkdir()
    tensors = {}
    for name, weight in weights.items():
        array = weight
        if kind in ("llama", "mistral") and (".attn_q." in name or ".attn_k." in name):
            array = hf_rows(weight, config.n_heads if ".attn_q." in name else config.n_kv_heads)
        if kind == "gemma3" and "norm" in name:
            array = weight - np.float32(1)
        tensors[hf_name(name, kind)] = array
    (folder / "config.json").write_text(json.dumps(configuration(config, kind)))
    if parts == 1:
        safetensors.numpy.save_file(tensors, folder / "model.safetensors")
        return
    names = [f"model-{part + 1:05}-of-{parts:05}.safetensors" for part in range(parts)]
    places = {tensor: names[i % parts] for i, tensor in enumerate(tensors)}
    for name in names:
        safetensors.numpy.save_file({t: tensors[t] for t in tensors if places[t] == name}, folder / name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))


@pytest.mark.parametrize("kind", CLASSES)
def test_a_folder_is_the_model(
    need: Callable[[object, str], None], tiny: Tiny, tmp_path: Path, kind: str
) -> None:
    """All weights are where they were, rotated channels too; a real llama.cpp computes the same."""
    try:
        llamacpp.library()
    except LlamaCppUnavailableError as error:
        need(False, str(error))
    config, weights = model_of(tiny, kind)
    write_folder(tmp_path / "m", kind, config, weights, parts=3 if kind == "qwen3" else 1)
    byte_level().save(str(tmp_path / "m" / "tokenizer.json"))
    loaded = load(tmp_path / "m")
    for name, weight in weights.items():
        tolerance = 2.0**-23 if kind == "gemma3" and "norm" in name else 0
        np.testing.assert_allclose(loaded.weights[name], weight, rtol=0, atol=tolerance)
    tokens = [*tiny.tokens, *range(30)]
    logits = loaded.model().forward(tokens)
    convert_folder(tmp_path / "m", tmp_path / "m.gguf")
    assert np.array_equal(load(tmp_path / "m.gguf").model().forward(tokens), logits)
    with LlamaCpp(tmp_path / "m.gguf") as llama:
        theirs = llama.logits(tokens)
        text = "the other THE they'll 12345 한국어 \n\n  <|end|>the\t"
        assert llama.tokenize(text) == loaded.tokenizer.encode(text)
    # ggml's table of GELU is in half precision.
    noise = logit_noise(loaded.config, loaded.weights, tokens, half_gelu=kind == "gemma3")
    assert agreement(theirs, noise).holds
    assert agreement(Model(loaded.config, loaded.weights).forward(tokens), noise).holds


TEXTS = ("the other the", " the\n\nthe 1234", "", "한국어 the", "\tthe's ü", "hehe  the")


@pytest.mark.parametrize(("kind", "make"), [("gpt2", byte_level), ("llama", pieces)])
def test_tokens_are_the_packages(
    tiny: Tiny, tmp_path: Path, kind: str, make: Callable[[], tokenizers.Tokenizer]
) -> None:
    """The ids of the package tokenizers, those of control tokens and of the beginning of a text included."""
    config, weights = model_of(tiny, "llama")
    write_folder(tmp_path / "m", "llama", config, weights)
    built = make()
    built.save(str(tmp_path / "m" / "tokenizer.json"))
    tokenizer = load(tmp_path / "m").tokenizer
    begin = {"gpt2": 256, "llama": 256}[kind]
    settings = {"gpt2": ("<|begin|>", 256), "llama": ("<s>", 1)}[kind]
    (tmp_path / "m" / "tokenizer_config.json").write_text(
        json.dumps({"bos_token": {"content": settings[0]}, "chat_template": "{{ messages }}"})
    )
    loaded = load(tmp_path / "m")
    assert tokenizer.bos == begin
    assert loaded.tokenizer.bos == settings[1]
    assert loaded.tokenizer.add_bos
    assert loaded.metadata["tokenizer.chat_template"] == "{{ messages }}"
    for text in TEXTS:
        assert tokenizer.encode(text) == built.encode(text, add_special_tokens=False).ids
    assert len(tokenizer) == config.n_vocab


def test_types_and_quantizing(tiny: Tiny, tmp_path: Path) -> None:
    """Half precision keeps its bytes, a head of its own is read, and a folder is quantized as a file is."""
    config, weights = model_of(tiny, "llama")
    weights["output.weight"] = weights["token_embd.weight"] * 2
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(configuration(config, "llama", tie_word_embeddings=False)))
    halves = {name: weight.astype(np.float16) for name, weight in weights.items()}
    head = {"lm_head.weight": halves.pop("output.weight")}
    tensors = {hf_name(name, "llama"): array for name, array in halves.items()}
    safetensors.numpy.save_file(tensors | head, folder / "model.safetensors")
    with open_model(folder) as model:
        assert model.tensors["blk.0.ffn_up.weight"].type_name == "F16"
        assert model.tensors["blk.0.ffn_norm.weight"].type_name == "F32"
        assert bytes(model.raw("output.weight")) == head["lm_head.weight"].tobytes()
    assert (
        "has no tokenizer.json: the file has no tokenizer"
        in quantize_model(folder, tmp_path / "a.gguf").notes[0]
    )
    convert_folder(folder, tmp_path / "whole.gguf")
    quantize_model(tmp_path / "whole.gguf", tmp_path / "b.gguf")
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()


def test_factors_of_llama_3(tiny: Tiny, tmp_path: Path) -> None:
    """By the formula of Meta's code, one frequency at a time."""
    config, weights = model_of(tiny, "llama")
    write_folder(tmp_path / "m", "llama", config, weights)
    scaling = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    (tmp_path / "m" / "config.json").write_text(
        json.dumps(configuration(config, "llama", rope_scaling=scaling))
    )
    found = load(tmp_path / "m").weights["rope_freqs.weight"]
    for i, factor in enumerate(found):
        frequency = config.rope_base ** (-2 * i / config.d_head)
        turns = 64 * frequency / (2 * np.pi)
        smooth = (turns - 1) / 3
        new = frequency if turns > 4 else frequency / 8 if turns < 1 else (1 - smooth) * frequency / 8
        new += smooth * frequency if 1 <= turns <= 4 else 0
        assert frequency / new == pytest.approx(factor, rel=1e-6)
    assert len(set(found.tolist())) > 2


def test_what_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    """Another architecture, tensors that are unknown, missing or broken, other tokenizers: with the name."""
    config, weights = model_of(tiny, "llama")
    folder = tmp_path / "m"
    write_folder(folder, "llama", config, weights)
    good = configuration(config, "llama")
    for change, message in (
        ({"architectures": ["T5ForConditionalGeneration"]}, "architectures: expected one of"),
        ({"hidden_act": "relu"}, "hidden_act: 'relu'"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_scaling: 'dynamic' is not supported"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"hidden_size": None}, "hidden_size: expected an integer, got none"),
        ({"tie_word_embeddings": False}, "there is no lm_head.weight, and tie_word_embeddings is false"),
        ({"num_attention_heads": 64, "head_dim": 3}, "are no pairs of channels of 64 heads"),
    ):
        (folder / "config.json").write_text(json.dumps(good | change))
        with pytest.raises(GgufError, match=message):
            open_model(folder)
    (folder / "config.json").write_text(json.dumps(good))
    built = tokenizers.Tokenizer(models.Unigram([("a", 0.0)]))
    built.save(str(folder / "tokenizer.json"))
    with pytest.raises(GgufError, match="a model of type 'Unigram'"):
        open_model(folder)
    built = byte_level()
    built.pre_tokenizer = pre_tokenizers.Whitespace()
    built.save(str(folder / "tokenizer.json"))
    with pytest.raises(GgufError, match="no name for this split into words"):
        open_model(folder)
    (folder / "tokenizer.json").unlink()
    for tensors, message in (
        (
            {"model.layers.0.strange.weight": np.zeros(3, np.float32)},
            "'model.layers.0.strange.weight' is none",
        ),
        ({"lm_head.weight": np.zeros((2, 2))}, "type 'F64' is not read"),
    ):
        safetensors.numpy.save_file(tensors, folder / "model.safetensors")
        with pytest.raises(GgufError, match=message):
            open_model(folder)
    header = json.dumps({"a": {"dtype": "F32", "shape": [2**40, 2**20], "data_offsets": [0, 8]}}).encode()
    for data, message in (
        (b"", "is empty"),
        (b"\xff" * 16, "a header of 18446744073709551615 bytes"),
        (len(header).to_bytes(8, "little") + header + bytes(8), "bytes 0 to 8 are not those of shape"),
        ((2).to_bytes(8, "little") + b"[]", "no JSON object"),
        ((7).to_bytes(8, "little") + b'{"a":5}', "its entry is not one of a tensor"),
    ):
        (folder / "model.safetensors").write_bytes(data)
        with pytest.raises(GgufError, match=message):
            open_model(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(GgufError, match=r"has neither model\.safetensors nor"):
        open_model(folder)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": "../other.safetensors"}}))
    with pytest.raises(GgufError, match="is no file of this folder"):
        open_model(folder)
    index.write_text(json.dumps({"weight_map": {"x": "other.safetensors"}}))
    with pytest.raises(GgufError, match=r"other\.safetensors: No such file"):
        open_model(folder)
