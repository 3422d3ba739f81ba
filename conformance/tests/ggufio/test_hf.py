"""Folders in Hugging Face's layout: which tensors are taken, and what is refused with its name."""

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
from q8a8.ggufio.safetensors import read_folder, read_json
from q8a8.ggufio.writer import field

from .hf_samples import byte_level, configuration, gemma

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

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
