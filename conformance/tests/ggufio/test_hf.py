"""Folders in Hugging Face's layout: what each key becomes, and what is refused with its name."""

from __future__ import annotations

import json
import math
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import safetensors.numpy

from q8a8.ggufio import GgufError, open_model
from q8a8.ggufio.hf import convert_folder
from q8a8.ggufio.hf_config import HfError, config_fields, rope_tensors
from q8a8.ggufio.hf_tokenizer import tokenizer_fields
from q8a8.ggufio.safetensors import read_folder, read_json
from q8a8.ggufio.writer import field

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
SPLIT = r"\p{L}+|\p{N}|[^\s\p{L}\p{N}]+[\r\n]*"


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


@pytest.mark.parametrize(
    ("config", "key", "value"),
    [
        (configuration("Phi3ForCausalLM", sliding_window=12), "phi3.attention.sliding_window", 12),
        (configuration("Phi3ForCausalLM", sliding_window=None), "phi3.attention.sliding_window", None),
        (
            gemma("Gemma3ForCausalLM", layer_types=["sliding_attention", "full_attention"]),
            "gemma3.attention.sliding_window_pattern",
            [True, False],
        ),
        (gemma("Gemma2ForCausalLM", attn_logit_softcapping=50), "gemma2.attn_logit_softcapping", 50.0),
        (gemma("Gemma2ForCausalLM", attn_logit_softcapping=50), "gemma2.final_logit_softcapping", None),
        (gemma("Gemma2ForCausalLM", final_logit_softcapping=30), "gemma2.final_logit_softcapping", 30.0),
        (gemma("Gemma2ForCausalLM"), "gemma2.rope.freq_base_swa", None),
        (gemma("Gemma3ForCausalLM", rope_local_base_freq=500.0), "gemma3.rope.freq_base_swa", 500.0),
    ],
)
def test_windows_and_caps(config: Mapping[str, Any], key: str, value: object) -> None:
    """The local layers' width, which they are, their rotary base, and the soft caps."""
    assert config_fields(config).get(key) == value


def test_rotary_parameters_by_kind_of_layer() -> None:
    """As transformers 5 writes them for Gemma 3: the base of each kind of layers, the scaling of one."""
    rope = {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 2e4},
    }
    fields = config_fields(gemma("Gemma3ForCausalLM", rope_parameters=rope))
    assert fields["gemma3.rope.freq_base"] == 1e6
    assert fields["gemma3.rope.freq_base_swa"] == 2e4
    assert fields["gemma3.rope.scaling.type"] == "linear"
    assert fields["gemma3.rope.scaling.factor"] == 8.0


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        ({"type": "linear", "factor": 2}, {"type": "linear", "factor": 2.0}),
        (
            {"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 32},
            {"type": "yarn", "factor": 4.0, "original_context_length": 32},
        ),
        (
            {"rope_type": "yarn", "factor": math.e, "beta_fast": 8, "beta_slow": 2, "attention_factor": 1.1},
            {
                "type": "yarn",
                "factor": math.e,
                "original_context_length": 64,
                "yarn_beta_fast": 8.0,
                "yarn_beta_slow": 2.0,
            },
        ),
        (
            {"rope_type": "longrope", "original_max_position_embeddings": 8},
            # 64 is 2 to the sixth, 8 to the third: 1 + 3 / 3 under the root.
            {"original_context_length": 8, "attn_factor": math.sqrt(2)},
        ),
        ({"type": "su"}, {"original_context_length": 64, "attn_factor": 1.0}),
        (
            {"type": "su", "attention_factor": 1.25},
            {"original_context_length": 64, "attn_factor": 1.25},
        ),
    ],
)
def test_scaled_positions(scaling: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """The keys of each scaling, and no other."""
    start = "llama.rope.scaling."
    fields = config_fields(configuration(rope_scaling=scaling))
    found = {key.removeprefix(start): value for key, value in fields.items() if key.startswith(start)}
    assert found == pytest.approx(expected)


def test_factors_of_longrope() -> None:
    """Both lists become tensors."""
    scaling = {"type": "longrope", "long_factor": [1.0, 2.5], "short_factor": [1, 1.5]}
    found = rope_tensors(configuration("Phi3ForCausalLM", rope_scaling=scaling))
    assert {name: array.tolist() for name, array in found.items()} == {
        "rope_factors_long.weight": [1.0, 2.5],
        "rope_factors_short.weight": [1.0, 1.5],
    }
    assert all(array.dtype == np.float32 for array in found.values())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            gemma("Gemma2ForCausalLM", query_pre_attn_scalar=9),
            "query_pre_attn_scalar: expected 8, got 9",
        ),
        (
            gemma("Gemma2ForCausalLM", num_hidden_layers=46, head_dim=4, query_pre_attn_scalar=4),
            "query_pre_attn_scalar: expected 8, got 4",
        ),
        (configuration(num_attention_heads=0), "a key is missing or wrong: ZeroDivisionError"),
        (configuration(num_hidden_layers=-1), "block_count: expected 1 to 2147483647, got -1"),
        (configuration(num_attention_heads=-4), "attention.head_count: expected 1 to"),
        (configuration(vocab_size=2**40), "vocab_size: expected 1 to 2147483647, got 1099511627776"),
        (gemma("Gemma3ForCausalLM") | {"sliding_window": -2}, "attention.sliding_window: expected 1 to"),
        (
            configuration(rope_scaling={"type": "yarn", "factor": 4.0, "mscale": 1.0}),
            "rope_scaling: mscale, mscale_all_dim and truncate are not supported with yarn",
        ),
        (
            configuration(rope_scaling={"type": "yarn", "factor": math.e, "attention_factor": 1.0}),
            "rope_scaling: attention_factor: expected 1.100000 or none, got 1.0",
        ),
        (configuration(hidden_size=math.inf), "a key is missing or wrong: OverflowError"),
        (configuration(rope_parameters="none"), "a key is missing or wrong: AttributeError"),
        (gemma("Gemma3ForCausalLM") | {"sliding_window": None}, "a key is missing or wrong: TypeError"),
    ],
)
def test_configurations_that_are_refused(config: Mapping[str, Any], message: str) -> None:
    """Another divisor of the scores than the model computes with, and values that are no shape."""
    with pytest.raises(HfError) as caught:
        config_fields(config)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("scaling", "message"),
    [
        ({"rope_type": "longrope", "long_factor": [1.0]}, "rope_scaling: KeyError: 'short_factor'"),
        (
            {"rope_type": "longrope", "long_factor": [1.0, 1e300], "short_factor": [1.0, 1.0]},
            "rope_scaling: long_factor: expected a list of positive numbers",
        ),
        (
            {"rope_type": "longrope", "long_factor": [1.0], "short_factor": [0.0]},
            "rope_scaling: short_factor: expected a list of positive numbers",
        ),
        ({"rope_type": "llama3", "factor": 8.0}, "rope_scaling: KeyError: 'low_freq_factor'"),
        (LLAMA3 | {"factor": None}, "rope_scaling: TypeError"),
        (LLAMA3 | {"factor": "eight"}, "rope_scaling: ValueError"),
        (LLAMA3 | {"factor": 0}, "rope_scaling: expected factor > 0"),
        (LLAMA3 | {"low_freq_factor": 4.0}, "rope_scaling: expected factor > 0"),
        (LLAMA3 | {"high_freq_factor": 0.0}, "rope_scaling: expected factor > 0"),
    ],
)
def test_scalings_that_are_refused(scaling: Mapping[str, Any], message: str) -> None:
    """Factors that are missing, are no numbers, or divide by nought."""
    with pytest.raises(HfError) as caught:
        rope_tensors(configuration(rope_scaling=scaling))
    assert str(caught.value).startswith(message)


BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
NO_REGEX = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}


def sequence(*steps: Mapping[str, Any]) -> dict[str, Any]:
    """Return a pre-tokenizer of several steps."""
    return {"type": "Sequence", "pretokenizers": list(steps)}


def byte_level(**more: object) -> dict[str, Any]:
    """Return a `tokenizer.json` of three tokens."""
    model = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}
    begin = {"id": 3, "content": "<s>", "special": True}
    return {"model": model, "added_tokens": [begin], "pre_tokenizer": BYTE_LEVEL, **more}


def pieces(**more: object) -> dict[str, Any]:
    """Return a `tokenizer.json` of SentencePiece's type."""
    vocabulary = {"<unk>": 0, "<0x0A>": 1, "▁": 2, "a": 3, "▁a": 4}
    model = {"vocab": vocabulary, "merges": [["▁", "a"]], "byte_fallback": True, "unk_token": "<unk>"}
    return {"model": model, **more}


@pytest.mark.parametrize(
    ("step", "name"),
    [
        (BYTE_LEVEL, "gpt-2"),
        (sequence({"type": "Digits", "individual_digits": True}, BYTE_LEVEL), "smollm"),
        (sequence({"type": "Split", "pattern": {"Regex": SPLIT}}, NO_REGEX), "qwen2"),
        (
            sequence({"type": "Split", "pattern": {"Regex": SPLIT.replace("N}|", "N}{1,3}|", 1)}}, NO_REGEX),
            "llama-bpe",
        ),
    ],
)
def test_splits(step: Mapping[str, Any], name: str) -> None:
    """Every split that has a name gets it."""
    fields = tokenizer_fields(byte_level(pre_tokenizer=step), {}, configuration())
    assert fields["tokenizer.ggml.pre"] == name


@pytest.mark.parametrize(
    "step",
    [
        None,
        BYTE_LEVEL | {"add_prefix_space": True},
        sequence({"type": "Digits", "individual_digits": False}, BYTE_LEVEL),
        sequence({"type": "Split", "pattern": {"Regex": r"\p{L}+"}}, NO_REGEX),
        # Numbers one by one, and other words than Qwen's.
        sequence({"type": "Split", "pattern": {"Regex": r"\p{L}+|\p{N}|\s+"}}, NO_REGEX),
        sequence({"type": "Split", "pattern": {"String": " "}}, NO_REGEX),
    ],
)
def test_splits_without_a_name(step: Mapping[str, Any] | None) -> None:
    """Any other is refused, and shown."""
    with pytest.raises(HfError) as caught:
        tokenizer_fields(byte_level(pre_tokenizer=step), {}, configuration())
    assert str(caught.value) == (
        f"tokenizer: llama.cpp has no name for this split into words: {json.dumps(step)}"
    )


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, False),
        ({"normalizer": None, "pre_tokenizer": None}, False),
        ({"normalizer": {"type": "Prepend", "prepend": "▁"}}, True),
        ({"normalizer": {"type": "Replace"}}, False),
        ({"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Prepend"}]}}, True),
        ({"pre_tokenizer": {"type": "Metaspace", "prepend_scheme": "first"}}, True),
        ({"pre_tokenizer": {"type": "Metaspace", "prepend_scheme": "never"}}, False),
        ({"pre_tokenizer": {"type": "Metaspace", "add_prefix_space": True}}, True),
        ({"pre_tokenizer": {"type": "Metaspace", "add_prefix_space": False}}, False),
        ({"pre_tokenizer": sequence({"type": "Digits"}, {"type": "Metaspace", "add_prefix_space": 1})}, True),
    ],
)
def test_a_space_in_front(more: Mapping[str, Any], expected: bool) -> None:
    """By the normalizer, or by the Metaspace of either age."""
    fields = tokenizer_fields(pieces(**more), {}, configuration())
    assert fields["tokenizer.ggml.add_space_prefix"] is expected
    assert fields["tokenizer.ggml.token_type"].tolist() == [2, 6, 1, 1, 1]
    assert fields["tokenizer.ggml.scores"].tolist() == [-1, -1, -1, -1, 0]


BEGIN = {"single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}]}


@pytest.mark.parametrize(
    ("processor", "settings", "expected"),
    [
        (BEGIN, {"add_bos_token": False}, False),
        (None, {"add_bos_token": True}, True),
        (None, {}, False),
        (BEGIN, {}, True),
        ({"type": "Sequence", "processors": [{"type": "ByteLevel"}, BEGIN]}, {}, True),
        ({"single": [{"SpecialToken": {"id": "a"}}]}, {}, False),
        ({"single": ["<s>"]}, {}, False),
        (BEGIN, {"bos_token": None}, False),
    ],
)
def test_whether_a_text_begins_with_a_token(
    processor: Mapping[str, Any] | None,
    settings: Mapping[str, Any],
    expected: bool,
) -> None:
    """The settings say it, else the processor that puts that token first."""
    settings = {"bos_token": "<s>", **settings}
    fields = tokenizer_fields(byte_level(post_processor=processor), settings, configuration())
    assert fields["tokenizer.ggml.add_bos_token"] is expected


@pytest.mark.parametrize(
    ("tokenizer", "config", "message"),
    [
        ({}, configuration(), "tokenizer: a key is missing or wrong: KeyError: 'model'"),
        ({"model": []}, configuration(), "tokenizer: a key is missing or wrong: AttributeError"),
        (byte_level(), configuration(vocab_size=9999), "vocab_size: 9999 tokens, and the tokenizer has 4"),
        (
            byte_level() | {"added_tokens": [{"id": 900, "content": 7}]},
            configuration(),
            "tokenizer: token 900: expected a text and a number from 0, got 7",
        ),
        (
            byte_level() | {"added_tokens": [{"id": -1, "content": "<x>"}]},
            configuration(),
            "tokenizer: token -1: expected a text",
        ),
        (
            byte_level() | {"added_tokens": [{"id": math.inf, "content": "<x>"}]},
            configuration(),
            "tokenizer: a key is missing or wrong: OverflowError",
        ),
    ],
)
def test_tokenizers_that_are_refused(
    tokenizer: Mapping[str, Any], config: Mapping[str, Any], message: str
) -> None:
    """Keys that are missing, and far more rows of the embedding than tokens."""
    with pytest.raises(HfError) as caught:
        tokenizer_fields(tokenizer, {}, config)
    assert str(caught.value).startswith(message)


ZEROS = np.zeros((4, 16), np.float32)
NORM = np.arange(16, dtype=np.float32)


def write_folder(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Any]) -> Path:
    """Write a model of some tensors."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    safetensors.numpy.save_file(dict(tensors), folder / "model.safetensors")
    return folder


def test_tensors_that_are_left_out(tmp_path: Path) -> None:
    """Frequencies that follow from the shape, and a head that is the embedding again."""
    tensors = {
        "lm_head.weight": ZEROS,
        "model.embed_tokens.weight": ZEROS,
        "model.layers.0.self_attn.rotary_emb.inv_freq": NORM,
        "model.norm.weight": NORM,
    }
    both = ["token_embd.weight", "output_norm.weight"]
    for tied, names in ((True, both), (False, [*both, "output.weight"])):
        with open_model(write_folder(tmp_path, configuration(tie_word_embeddings=tied), tensors)) as model:
            assert sorted(model.tensors) == sorted(names)
            assert np.array_equal(model.read("output_norm.weight"), NORM)


def test_tensors_of_one_name(tmp_path: Path) -> None:
    """Two that would both be the norm before the feed-forward part are refused, outside Gemma."""
    first, second = (
        f"model.layers.0.{name}_layernorm.weight" for name in ("post_attention", "pre_feedforward")
    )
    write_folder(tmp_path, configuration(), {first: NORM, second: NORM})
    with pytest.raises(GgufError) as caught:
        convert_folder(tmp_path, tmp_path / "a.gguf")
    start, end = str(caught.value).split(": ", 1)
    assert start == str(tmp_path)
    assert first in end
    assert second in end
    assert end.endswith("are both blk.0.ffn_norm.weight")
    assert not (tmp_path / "a.gguf").exists()


def test_a_chat_template_of_its_own(tmp_path: Path) -> None:
    """The file beside the tokenizer goes before the settings; local layers are an array of bools."""
    layers = ["sliding_attention", "full_attention"]
    config = gemma("Gemma3ForCausalLM", layer_types=layers)
    write_folder(tmp_path, config, {"model.embed_tokens.weight": ZEROS})
    (tmp_path / "tokenizer.json").write_text(json.dumps(byte_level()))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": "old"}))
    with open_model(tmp_path) as model:
        assert model.metadata["tokenizer.chat_template"] == "old"
    (tmp_path / "chat_template.jinja").write_text("{{ 한 }}", encoding="utf-8")
    with open_model(tmp_path) as model:
        assert model.metadata["tokenizer.chat_template"] == "{{ 한 }}"
        pattern = np.asarray(model.metadata["gemma3.attention.sliding_window_pattern"])
        assert pattern.tolist() == [True, False]


def test_folders_that_are_refused(tmp_path: Path) -> None:
    """A template that is no UTF-8, and numbers that GGUF's types do not hold: with the file and the key."""
    write_folder(tmp_path, configuration(), {"model.embed_tokens.weight": ZEROS})
    (tmp_path / "tokenizer.json").write_text(json.dumps(byte_level()))
    (tmp_path / "chat_template.jinja").write_bytes(b"ok\xff")
    with pytest.raises(GgufError, match=r"chat_template\.jinja: byte 2: not UTF-8: invalid start byte"):
        convert_folder(tmp_path, tmp_path / "a.gguf")
    (tmp_path / "chat_template.jinja").unlink()
    write_folder(tmp_path, configuration(rms_norm_eps=1e300), {"model.embed_tokens.weight": ZEROS})
    with pytest.raises(GgufError, match=r"rms_epsilon: '1e\+300' has no place in GGUF: float too large"):
        convert_folder(tmp_path, tmp_path / "a.gguf")
    assert not (tmp_path / "a.gguf").exists()


def test_json_that_is_none(tmp_path: Path) -> None:
    """Broken text, bytes that are no text, and another value than an object: with the file's name."""
    path = tmp_path / "config.json"
    for data, message in (
        (b"{", "is no JSON: "),
        (b"\xff", "is no JSON: "),
        (b"[1]", "expected a JSON object"),
    ):
        path.write_bytes(data)
        with pytest.raises(GgufError) as caught:
            read_json(path)
        assert str(caught.value).startswith(f"{path}: {message}")


def test_indices_that_are_wrong(tmp_path: Path) -> None:
    """No map of names, and a tensor that is not where it should be."""
    write_folder(tmp_path, configuration(), {"there": NORM})
    index = tmp_path / "model.safetensors.index.json"
    wrong = f"{index}: weight_map: expected the names of files by those of tensors"
    for content, message in (
        ({}, wrong),
        ({"weight_map": {"there": 1}}, wrong),
        (
            {"weight_map": {"there": "model.safetensors", "not there": "model.safetensors"}},
            f"{tmp_path / 'model.safetensors'}: there is no tensor 'not there', which {index.name} puts here",
        ),
    ):
        index.write_text(json.dumps(content))
        with pytest.raises(GgufError) as caught:
            read_folder(tmp_path)
        assert str(caught.value) == message


@pytest.mark.parametrize(
    ("dtype", "shape", "message"),
    [
        ("F32", [], "tensor 'a': shape [] is not read"),
        ("F32", [0, 2], "tensor 'a': shape [0, 2] is not read"),
        ("F32", [1, 1, 1, 1, 2], "tensor 'a': shape [1, 1, 1, 1, 2] is not read"),
        ("F32", [3], "tensor 'a': bytes 0 to 8 are not those of shape [3]"),
        ("F32", [math.inf], "tensor 'a': its entry is not one of a tensor: "),
        (["F32"], [2], "tensor 'a': type \"['F32']\" is not read; F32, F16, BF16 are"),
    ],
)
def test_entries_that_are_refused(tmp_path: Path, dtype: object, shape: list[float], message: str) -> None:
    """Shapes that no file in GGUF has, or that the bytes do not fill, and a type that is none."""
    header = json.dumps({"a": {"dtype": dtype, "shape": shape, "data_offsets": [0, 8]}}).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(GgufError) as caught:
        read_folder(tmp_path)
    assert str(caught.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_field_of_bools(order: str) -> None:
    """An array (type 9) of bools (type 7): their type, their count, a byte for each."""
    made = field([True, False, True], order)
    assert made.type_id == 9
    assert made.raw == struct.pack(f"{order}IQ", 7, 3) + b"\x01\x00\x01"


@pytest.mark.parametrize(("value", "name"), [(None, "NoneType"), ((1, 2), "tuple"), ({"a": 1}, "dict")])
def test_a_field_of_another_type(value: object, name: str) -> None:
    """No type is guessed."""
    with pytest.raises(TypeError, match=f"^no metadata type holds {name}$"):
        field(value, "<")
