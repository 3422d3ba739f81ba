"""A configuration in Hugging Face's layout: what each key becomes, and what is refused with its name."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from q8a8.ggufio.hf_config import HfError, config_fields, rope_tensors

from .hf_samples import configuration, gemma

if TYPE_CHECKING:
    from collections.abc import Mapping

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}


@pytest.mark.parametrize(
    ("config", "key", "value"),
    [
        (configuration("Phi3ForCausalLM", sliding_window=12), "phi3.attention.sliding_window", 12),
        (configuration("Phi3ForCausalLM", sliding_window=None), "phi3.attention.sliding_window", None),
        (configuration("MistralForCausalLM", sliding_window=12), "llama.attention.sliding_window", 12),
        (configuration("Qwen2ForCausalLM", sliding_window=12), "qwen2.attention.sliding_window", None),
        (
            configuration("Qwen3ForCausalLM", sliding_window=12, use_sliding_window=True),
            "qwen3.attention.sliding_window",
            12,
        ),
        (
            configuration("Qwen3ForCausalLM", sliding_window=12, layer_types=["sliding_attention"]),
            "qwen3.attention.sliding_window",
            12,
        ),
        (gemma("Gemma3ForCausalLM"), "gemma3.rope.freq_base", 1e6),
        (configuration(), "llama.rope.freq_base", 10000.0),
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
        (configuration(num_attention_heads=0), "num_attention_heads: expected at least 1, got 0"),
        (configuration(num_hidden_layers=-1), "block_count: expected 1 to 2147483647, got -1"),
        (configuration(num_attention_heads=-4), "num_attention_heads: expected at least 1, got -4"),
        (configuration(num_hidden_layers=True), "num_hidden_layers: expected an integer, got True"),
        (configuration(rms_norm_eps="1e-5"), "rms_norm_eps: expected a number, got '1e-5'"),
        (
            configuration(layer_types=["linear_attention"]),
            "layer_types: 'linear_attention' is not supported",
        ),
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
        (configuration(hidden_size=math.inf), "hidden_size: expected an integer, got inf"),
        (configuration(rope_parameters="none"), "a key is missing or wrong: AttributeError"),
        (
            gemma("Gemma3ForCausalLM") | {"sliding_window": None},
            "sliding_window: expected an integer, got none",
        ),
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
