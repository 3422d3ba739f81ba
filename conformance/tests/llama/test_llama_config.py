"""The shape of a model out of metadata: what is read, what a missing key means, what is refused by name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from q8a8.llama import Config, ModelError
from q8a8.llama.families import FAMILIES
from q8a8.llama.keys import Keys
from q8a8.llama.rope import Yarn
from q8a8.llama.tensors import check_shapes, expected_shapes

METADATA: dict[str, Any] = {
    "general.architecture": "llama",
    "llama.block_count": 30,
    "llama.context_length": 8192,
    "llama.embedding_length": 576,
    "llama.feed_forward_length": 1536,
    "llama.attention.head_count": 9,
    "llama.attention.head_count_kv": 3,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "llama.rope.freq_base": 100000.0,
    "llama.rope.dimension_count": 64,
    "llama.vocab_size": 49152,
}


def read(**changes: object) -> Config:
    """Read the metadata with changes: two underscores are a dot, None takes a key away."""
    changed = METADATA | {f"llama.{key.replace('__', '.')}": value for key, value in changes.items()}
    return Config.from_metadata({key: value for key, value in changed.items() if value is not None})


def test_every_key_is_read() -> None:
    """The metadata of SmolLM2-135M."""
    assert read() == Config(
        n_layers=30,
        n_heads=9,
        n_kv_heads=3,
        d_model=576,
        d_head=64,
        d_ff=1536,
        n_vocab=49152,
        eps=1e-5,
        rope_base=100000.0,
        rope_scale=1.0,
        context=8192,
    )


def test_what_missing_keys_mean() -> None:
    """As in llama.cpp: as many key-value heads as heads, base 10000, as many tokens as are listed."""
    missing = dict.fromkeys(
        ("attention__head_count_kv", "rope__freq_base", "rope__dimension_count", "vocab_size")
    )
    config = Config.from_metadata(
        {
            key: value
            for key, value in METADATA.items()
            if key.removeprefix("llama.").replace(".", "__") not in missing
        }
        | {"tokenizer.ggml.tokens": ["a", "b", "c"]}
    )
    assert (config.n_kv_heads, config.rope_base, config.n_vocab, config.d_head) == (9, 10000.0, 3, 64)


def test_head_size_of_its_own() -> None:
    """A key may say that heads are not d_model / n_heads channels."""
    sizes = {"attention__key_length": 128, "attention__value_length": 128, "rope__dimension_count": 128}
    assert read(**sizes).d_head == 128


@pytest.mark.parametrize(
    ("keys", "scale"),
    [
        ({"rope__scaling__factor": 4.0}, 0.25),
        ({"rope__scaling__type": "linear", "rope__scaling__factor": 8.0}, 0.125),
        ({"rope__scaling__type": "none", "rope__scaling__factor": 8.0}, 1.0),
        ({"rope__scaling__type": "linear"}, 1.0),
        ({"rope__scaling__factor": 0.0}, 1.0),
        ({"rope__scale_linear": 2.0}, 0.5),
        ({"rope__scale_linear": 2.0, "rope__scaling__factor": 4.0}, 0.25),
    ],
)
def test_linear_scaling(keys: dict[str, object], scale: float) -> None:
    """The factor divides positions; without a type it is linear, zero is none, the newer key wins."""
    assert read(**keys).rope_scale == scale


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"block_count": None}, "llama.block_count: the key is missing"),
        ({"block_count": "30"}, "llama.block_count: expected one integer, got '30'"),
        ({"block_count": True}, "llama.block_count: expected one integer, got True"),
        ({"block_count": 0}, "n_layers: expected 1 to 512, got 0"),
        ({"attention__head_count": 0}, "llama.attention.head_count: expected at least 1, got 0"),
        ({"attention__head_count": np.arange(40)}, "attention.head_count: expected one integer"),
        ({"attention__head_count_kv": 2}, "9 query heads cannot share 2 heads evenly"),
        ({"attention__layer_norm_rms_epsilon": None}, "layer_norm_rms_epsilon: the key is missing"),
        ({"attention__layer_norm_rms_epsilon": "x"}, "layer_norm_rms_epsilon: expected a number"),
        ({"attention__layer_norm_rms_epsilon": True}, "layer_norm_rms_epsilon: expected a number"),
        ({"attention__layer_norm_rms_epsilon": -1e-5}, "eps: expected 0 or more, got -1e-05"),
        ({"attention__layer_norm_rms_epsilon": float("nan")}, "eps: expected 0 or more, got nan"),
        ({"attention__value_length": 32}, "attention.value_length: expected 64, got 32"),
        ({"rope__dimension_count": 32}, "all channels of a head must be rotated"),
        ({"rope__freq_base": 0.0}, "rope_base: expected a positive number, got 0.0"),
        ({"rope__freq_base": float("inf")}, "rope_base: expected a positive number, got inf"),
        ({"rope__scaling__factor": float("nan")}, "rope_scale: expected a positive number, got nan"),
        ({"rope__scaling__type": "dynamic"}, "llama.rope.scaling.type: 'dynamic' is not supported"),
        ({"rope__scaling__type": "y" * 99}, "yyy… is not supported"),
        ({"block_count": 2**31}, "n_layers: expected 1 to 512, got 2147483648"),
        ({"block_count": 513}, "n_layers: expected 1 to 512, got 513"),
        ({"embedding_length": 577, "rope__dimension_count": 64}, "577 channels are no whole heads of 9"),
        ({"rope__scaling__type": "yarn", "rope__freq_base": 1.0}, "YaRN expects more than 1, got 1.0"),
        (
            {"rope__scaling__type": "yarn", "rope__scaling__yarn_beta_fast": 0.5},
            "expected 0 < slow < fast turns, got 1.0 and 0.5",
        ),
        ({"rope__scaling__yarn_ext_factor": 0.5}, "yarn_ext_factor: expected 1.0, got 0.5"),
        ({"rope__scaling__original_context_length": 0, "rope__scaling__type": "yarn"}, "original context"),
        ({"rope__dimension_count": 10**400}, "llama.rope.dimension_count"),
        ({"rope__scaling__factor": 10**400}, "rope.scaling.factor: expected a number"),
        ({"rope__scaling__attn_factor": float("nan")}, "rope_gain: expected 1e-6 to 1e6, got nan"),
        ({"attention__sliding_window": -5}, "window: expected 0 to 2147483647, got -5"),
        ({"attn_logit_softcapping": float("inf")}, "score_cap: expected 0 or more, got inf"),
        ({"expert_count": 8}, "mixtures of experts are not supported"),
        ({"attention__key_length": 63, "attention__value_length": 63, "rope__dimension_count": 63}, "is odd"),
    ],
)
def test_what_is_refused(keys: dict[str, object], message: str) -> None:
    """Each with the key's or the attribute's name."""
    with pytest.raises(ModelError) as caught:
        read(**keys)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rotated": 66}, "rope_dims: expected 2 to 64 of a head, got 66"),
        ({"yarn": Yarn(64, fast=1.0, slow=32.0)}, "yarn: expected 0 < slow < fast turns, got 32.0 and 1.0"),
    ],
)
def test_shapes_that_are_none(changes: dict[str, Any], message: str) -> None:
    """A shape that is no file's is checked as well."""
    with pytest.raises(ModelError) as caught:
        replace(read(), **changes)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (513, "expected 0 to 512, got 513"),
        (-1, "expected 0 to 512, got -1"),
        ([], "a period or a list"),
        ("x", "got 'x'"),
    ],
)
def test_patterns_of_local_layers(pattern: object, message: str) -> None:
    """A period that no model has, or no list of layers."""
    name = "attention.sliding_window_pattern"
    with pytest.raises(ModelError) as caught:
        Keys({f"gemma3.{name}": pattern}, "gemma3").local_layers((True,))
    assert f"gemma3.{name}: expected" in str(caught.value)
    assert message in str(caught.value)


def test_tables_of_positions_go_together() -> None:
    """Phi-3's factors are for short and for long contexts: one table alone is refused."""
    config = replace(read(), family=FAMILIES["phi3"])
    shapes = {**expected_shapes(config), "rope_factors_long.weight": (32,)}
    with pytest.raises(
        ModelError, match=r"rope_factors_long\.weight and rope_factors_short\.weight go together"
    ):
        check_shapes(config, shapes)


@pytest.mark.parametrize("name", ["gpt2", "llama4", None, 3])
def test_other_architectures_are_refused(name: object) -> None:
    """By what the file calls them."""
    with pytest.raises(ModelError, match=f"expected one of llama, qwen2, .*, got {name!r}"):
        Config.from_metadata(METADATA | {"general.architecture": name})


def test_tokens_are_a_list() -> None:
    """A number in their place is refused."""
    with pytest.raises(ModelError, match=r"tokenizer.ggml.tokens: expected a list"):
        Config.from_metadata(METADATA | {"tokenizer.ggml.tokens": 3})
