"""Hostile metadata: a model that runs, or an error that names the file, in little time and memory."""

from __future__ import annotations

import json
import shutil
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from q8a8.errors import Q8A8Error
from q8a8.llama import Config, ModelError, load
from q8a8.llama.families import FAMILIES
from q8a8.llama.tensors import expected_shapes
from tests.llama.test_llama_hf import byte_level, configuration, hf_name

if TYPE_CHECKING:
    from pathlib import Path

KEYS: dict[str, Any] = {
    "block_count": 1,
    "context_length": 64,
    "embedding_length": 32,
    "feed_forward_length": 32,
    "attention.head_count": 2,
    "attention.head_count_kv": 1,
    "attention.key_length": 16,
    "attention.value_length": 16,
    "attention.layer_norm_rms_epsilon": 1e-5,
    "attention.sliding_window": 8,
    "attention.sliding_window_pattern": 2,
    "rope.dimension_count": 16,
    "rope.freq_base": 10000.0,
    "rope.freq_base_swa": 10000.0,
    "rope.scaling.type": "yarn",
    "rope.scaling.factor": 2.0,
    "rope.scaling.attn_factor": 1.0,
    "rope.scaling.original_context_length": 32,
    "rope.scaling.yarn_beta_fast": 32.0,
    "rope.scaling.yarn_beta_slow": 1.0,
    "rope.scale_linear": 1.0,
    "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0,
    "expert_count": 0,
    "vocab_size": 40,
}
"""Keys of the architecture that are read, with values that make a model."""

TOKENIZER: dict[str, Any] = {
    "model": "llama",
    "tokens": ["<unk>", "<s>", "</s>", *(chr(97 + i) for i in range(37))],
    "scores": [0.0] * 40,
    "token_type": [2, 3, 3, *[1] * 37],
    "bos_token_id": 1,
    "eos_token_id": 2,
    "add_space_prefix": False,
}

NUMBERS = st.one_of(
    st.sampled_from([0, 1, 2, 3, 7, 2**15, 2**31 - 1, 2**31, 2**32 - 1, -1, -(2**31), 2**63 - 1, -(2**63)]),
    st.integers(-40, 600),
    st.sampled_from([0.0, -0.0, 1.0, 0.5, -1.0, 1e-38, 1e38, float("inf"), float("-inf"), float("nan")]),
    st.booleans(),
)
VALUES = st.one_of(
    NUMBERS, st.sampled_from(["", "none", "linear", "longrope", "x" * 300]), st.lists(NUMBERS, max_size=3)
)


def write(path: Path, architecture: str, keys: dict[str, Any], tokenizer: dict[str, Any]) -> None:
    """Write a model of one layer with gguf-py."""
    writer = gguf.GGUFWriter(path, architecture)
    values = {f"{architecture}.{key}": value for key, value in keys.items()}
    values |= {f"tokenizer.ggml.{key}": value for key, value in tokenizer.items()}
    for key, value in values.items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, int):
            (writer.add_uint32 if 0 <= value < 2**32 else writer.add_int64)(key, value)
        elif len({type(each) for each in value}) == 1:
            # gguf-py writes integers as int32.
            writer.add_array(key, [each % 2**31 if isinstance(each, int) else each for each in value])
    config = Config(1, 2, 1, 32, 16, 32, 40, 1e-5, family=FAMILIES[architecture])
    rng = np.random.default_rng(1)
    for name, shape in expected_shapes(config).items():
        writer.add_tensor(name, rng.normal(size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def run(path: Path) -> str:
    """Load a model, read a text and run it; return the refusal, or ""."""
    tracemalloc.start()
    begun = time.process_time()
    try:
        loaded = load(path)
        tokens = loaded.tokenizer.encode("abc")[: loaded.config.context]
        loaded.model().forward(tokens)
    except Q8A8Error as error:
        return str(error)
    else:
        return ""
    finally:
        took, memory = time.process_time() - begun, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert took < 1
        assert memory < 200e6


@pytest.mark.parametrize("architecture", FAMILIES)
def test_the_model_itself_runs(architecture: str, tmp_path: Path) -> None:
    """Of every family, with all keys as they are."""
    path = tmp_path / "model.gguf"
    write(path, architecture, KEYS, TOKENIZER)
    assert run(path) == ""


@given(
    architecture=st.sampled_from(sorted(FAMILIES)),
    changes=st.dictionaries(st.sampled_from(sorted(KEYS)), VALUES, min_size=1, max_size=2),
    others=st.dictionaries(st.sampled_from(sorted(TOKENIZER)), VALUES, max_size=1),
)
@settings(
    max_examples=120,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_hostile_metadata(
    tmp_path: Path, architecture: str, changes: dict[str, Any], others: dict[str, Any]
) -> None:
    """Absurd numbers, other types, lists: it runs, or is refused by the project's own errors."""
    path = tmp_path / "model.gguf"
    write(path, architecture, KEYS | changes, TOKENIZER | others)
    run(path)


ROPES = st.builds(
    lambda kind, number, factors: {
        "rope_type": kind,
        "factor": number,
        "beta_fast": number,
        "low_freq_factor": 1.0,
        "high_freq_factor": number,
        "long_factor": factors,
        "short_factor": [1.0] * 8,
    },
    st.sampled_from(["yarn", "longrope", "llama3", "linear", "other", None]),
    NUMBERS,
    st.lists(NUMBERS, min_size=8, max_size=8),
)
JSON = st.one_of(
    VALUES, ROPES, st.sampled_from([None, {}, [None], "\ud800", "a b", 2**70, 1e300, ["sliding_attention"]])
)
ASKED = ("rope_scaling", "rope_parameters", "layer_types", "hidden_act", "partial_rotary_factor")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a folder in Hugging Face's layout."""
    path = tmp_path_factory.mktemp("hf")
    tokenizer = json.loads(byte_level().to_str())
    config = Config(1, 2, 1, 32, 16, 32, len(tokenizer["model"]["vocab"]), 1e-5, context=64)
    rng = np.random.default_rng(1)
    tensors = {
        hf_name(name, "llama"): rng.normal(size=shape).astype(np.float32)
        for name, shape in expected_shapes(config).items()
    }
    safetensors.numpy.save_file(tensors, path / "model.safetensors")
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    (path / "config.json").write_text(json.dumps(configuration(config, "llama")))
    return path


def test_the_folder_itself_runs(folder: Path) -> None:
    """As it is."""
    assert run(folder) == ""


@given(data=st.data())
@settings(
    max_examples=40,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_hostile_folders(folder: Path, tmp_path: Path, data: st.DataObject) -> None:
    """Any value at any place of the configuration and the tokenizer: it runs, or is refused."""
    config, tokenizer = (
        json.loads((folder / name).read_text()) for name in ("config.json", "tokenizer.json")
    )
    for key in data.draw(st.lists(st.sampled_from([*config, *ASKED]), min_size=1, max_size=2)):
        config[key] = data.draw(JSON)
    if data.draw(st.booleans()):
        place: Any = tokenizer
        while True:
            key = data.draw(
                st.sampled_from(list(place)[-8:] if isinstance(place, dict) else range(len(place)))
            )
            if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.integers(0, 3)) == 0:
                break
            place = place[key]
        place[key] = data.draw(JSON)
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    shutil.copy(folder / "model.safetensors", tmp_path)
    run(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"block_count": 2**31}, "n_layers: expected 1 to 512, got 2147483648"),
        ({"block_count": 2}, "weights: there is no blk.1.attn_norm.weight"),
        ({"attention.head_count": 0}, "llama.attention.head_count: expected at least 1, got 0"),
        ({"attention.head_count_kv": 0}, "n_kv_heads: expected 1 to 2147483647, got 0"),
        ({"attention.head_count": 3}, "blk.0.attn_q.weight: expected shape (48, 32), got (32, 32)"),
        ({"embedding_length": 2**30}, "token_embd.weight: expected shape (40, 1073741824), got (40, 32)"),
        ({"vocab_size": 41}, "token_embd.weight: expected shape (41, 32), got (40, 32)"),
        ({"attention.layer_norm_rms_epsilon": float("nan")}, "eps: expected 0 or more, got nan"),
        ({"rope.freq_base": -1.0}, "rope_base: expected a positive number, got -1.0"),
        ({"context_length": 0}, "context: expected 1 to 2147483647, got 0"),
        (
            {"rope.scaling.type": [1, 2]},
            "llama.rope.scaling.type: array([1, 2], dtype=int32) is not supported",
        ),
        ({"rope.scaling.attn_factor": 3e38}, "rope_gain: expected 1e-6 to 1e6, got 3"),
        ({"final_logit_softcapping": 1e-30}, "logit_cap: expected 0 or at least 1e-06, got 1"),
        ({"tokenizer.model": [1, 2]}, "tokenizer.ggml.model: expected gpt2 (byte-level BPE) or llama"),
        ({"tokenizer.add_bos_token": [True, False]}, "tokenizer.ggml.add_bos_token: expected true or false"),
        ({"tokenizer.bos_token_id": True}, "tokenizer.ggml.bos_token_id: expected 0 to 39, got True"),
    ],
)
def test_errors_name_file_key_and_value(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    """Each before any tensor is read."""
    path = tmp_path / "model.gguf"
    prefix = "tokenizer."
    tokenizer = {key.removeprefix(prefix): value for key, value in changes.items() if key.startswith(prefix)}
    others = {key: value for key, value in changes.items() if not key.startswith(prefix)}
    write(path, "llama", KEYS | others, TOKENIZER | tokenizer)
    found = run(path)
    assert found.startswith(f"{path}: ")
    assert message in found


def test_missing_and_unknown_tensors_are_named(tmp_path: Path) -> None:
    """Another family's tensors are not this one's."""
    path = tmp_path / "model.gguf"
    write(path, "gemma2", KEYS, TOKENIZER)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"post_ffw_norm.weight", b"post_ffw_norm.weighs"))
    with pytest.raises(ModelError, match=r"model\.gguf: weights: there is no blk\.0\.post_ffw_norm\.weight"):
        load(path)
