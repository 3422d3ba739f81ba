"""Every family as a small random model: NumPy's logits are llama.cpp's, within what float32 rounds."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import pytest

from q8a8.ggufio import quantize_model
from q8a8.llama import Model, load
from q8a8.llama.config import HEAD, Config
from q8a8.llama.families import FAMILIES
from q8a8.llama.rope import Yarn, ntk_base
from q8a8.llama.tensors import expected_shapes, optional_shapes
from q8a8_evaluation import llamacpp
from q8a8_evaluation.llamacpp import LlamaCpp, LlamaCppUnavailableError
from q8a8_lab.evaluation.rounding_noise import HalfGelu, agreement, logit_noise

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    Weights = dict[str, NDArray[np.float32]]

SIZES: dict[str, int] = {"d_model": 64, "d_head": 16, "d_ff": 96, "n_heads": 6, "n_kv_heads": 2}
VOCABULARY = 300
TOKENS = np.random.default_rng(41).integers(0, VOCABULARY, 90).tolist()


@dataclass(frozen=True)
class Case:
    """A model to compare.

    Attributes
    ----------
    family
        Its architecture.
    keys
        Metadata besides the sizes, without the architecture's name.
    layers
        How many.
    optional
        The optional tensors that it has, by the end of their names.
    sizes
        Sizes other than `SIZES`.
    matters
        Changes of the read `Config`, each of which makes another model.
    opened
        Positions that the run is opened for, in llama.cpp too; None: what the model was trained for.
    given
        Parameters that llama.cpp is given.
    """

    family: str
    keys: Mapping[str, Any] = field(default_factory=dict)
    layers: int = 2
    optional: tuple[str, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    matters: tuple[Mapping[str, Any], ...] = ()
    opened: int | None = None
    given: Mapping[str, float] = field(default_factory=dict)


ADD: dict[type, str] = {str: "add_string", float: "add_float32", int: "add_uint32"}
"""gguf-py's method for a key, by the type of its value."""

YARN = {
    "rope.scaling.type": "yarn",
    "rope.scaling.factor": 4.0,
    "rope.scaling.original_context_length": 64,
}
LONG = ("rope_factors_long.weight", "rope_factors_short.weight")

CASES = {
    "llama": Case("llama", matters=({"rope_base": 10100.0},)),
    "llama-biases": Case("llama", optional=("bias", HEAD)),
    # Mistral 7B: groups of four, a head of its own, another base; its files are of the architecture llama.
    "mistral": Case(
        "llama",
        {"rope.freq_base": 1e6, "attention.sliding_window": 4096},
        optional=(HEAD,),
        sizes={"n_heads": 8},
        matters=({"rope_base": 1.01e6},),
    ),
    "llama-yarn": Case(
        "llama", YARN, matters=({"yarn": None}, {"rope_gain": 1.0}, {"yarn": Yarn(64, slow=2.0)})
    ),
    # llama.cpp reads these keys for other architectures only: it is given them as parameters.
    "llama-yarn-betas": Case(
        "llama",
        {**YARN, "rope.scaling.yarn_beta_fast": 8.0, "rope.scaling.yarn_beta_slow": 2.0},
        matters=({"yarn": Yarn(64)}, {"yarn": Yarn(64, 8.0)}),
        given={"yarn_beta_fast": 8.0, "yarn_beta_slow": 2.0},
    ),
    "llama-ntk": Case(
        "llama", {"rope.freq_base": ntk_base(10000.0, 4.0, 16)}, matters=({"rope_base": 10000.0},)
    ),
    "llama-3": Case("llama", optional=("rope_freqs.weight",)),
    "qwen2": Case("qwen2", sizes={"n_heads": 4}, matters=({"rope_scale": 1.001},)),
    "qwen2-yarn": Case("qwen2", YARN, optional=(HEAD,), sizes={"n_heads": 4}, matters=({"yarn": None},)),
    "qwen3": Case(
        "qwen3", {"rope.freq_base": 1e6}, optional=(HEAD,), matters=({"eps": 2e-5}, {"rope_base": 1.1e6})
    ),
    "gemma": Case("gemma", {"rope.freq_base": 9000.0}, matters=({"rope_base": 10000.0}, {"eps": 1e-3})),
    "gemma2": Case(
        "gemma2",
        {"attention.sliding_window": 13, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 5.0},
        layers=3,
        matters=({"window": 12}, {"score_cap": 3.0}, {"logit_cap": 6.0}, {"local_layers": (False, True)}),
    ),
    "gemma2-27b": Case(
        "gemma2", layers=46, matters=({"family": dataclasses.replace(FAMILIES["gemma2"], wide_layers=0)},)
    ),
    "gemma3": Case(
        "gemma3",
        {"attention.sliding_window": 17, "rope.freq_base": 1e6, "rope.scaling.factor": 8.0},
        layers=7,
        matters=(
            {"window": 18},
            {"local_base": 1e5},
            {"rope_base": 1e5},
            {"rope_scale": 0.25},
            {"local_scale": 0.5},
        ),
    ),
    "gemma3-whole": Case(
        "gemma3", optional=(HEAD,), matters=({"window": 17, "local_layers": (True, False)},)
    ),
    "phi3": Case("phi3", {"attention.sliding_window": 2047}, sizes={"n_heads": 4, "n_kv_heads": 4}),
    "phi3-groups": Case("phi3", {"rope.dimension_count": 12}, optional=(HEAD,), sizes={"n_heads": 4}),
    "phi3-short": Case(
        "phi3",
        {"rope.scaling.original_context_length": 512, "rope.scaling.attn_factor": 1.2},
        optional=LONG,
        sizes={"n_heads": 4},
        matters=({"rope_context": 511}, {"rope_gain": 1.201}),
    ),
    "phi3-long": Case(
        "phi3",
        {"rope.scaling.original_context_length": 64, "rope.scaling.type": "longrope"},
        optional=LONG,
        sizes={"n_heads": 4},
        matters=({"rope_context": 512},),
    ),
    # A model for long texts in a run that is opened for fewer positions than its first context.
    "phi3-opened": Case(
        "phi3",
        {"rope.scaling.original_context_length": 256, "rope.scaling.type": "longrope"},
        optional=LONG,
        sizes={"n_heads": 4},
        matters=({"context": 512},),
        opened=256,
    ),
}


@pytest.fixture(scope="module", autouse=True)
def real_llama(need: Callable[[object, str], None]) -> None:
    """Need a real llama.cpp."""
    try:
        llamacpp.library()
    except LlamaCppUnavailableError as error:
        need(False, str(error))


def random_weights(config: Config, optional: tuple[str, ...]) -> Weights:
    """Make a model's tensors: norms near one, biases that matter, divisors of frequencies from 1 to 8."""
    rng = np.random.default_rng(20261)
    shapes = expected_shapes(config)
    shapes |= {name: s for name, s in optional_shapes(config).items() if optional and name.endswith(optional)}
    weights = {}
    for name, shape in shapes.items():
        weight = rng.normal(size=shape)
        if name.startswith("rope_"):
            weight = np.linspace(1, 3 if "short" in name else 8, shape[0])
        elif "norm" in name:
            weight = 1 + weight / 8
        elif len(shape) == 2:
            weight = 2 * weight / math.sqrt(shape[-1])
        weights[name] = weight.astype(np.float32)
    # Gemma's embedding is multiplied by sqrt(d_model).
    if config.family.scaled_embedding:
        weights["token_embd.weight"] /= np.float32(8)
    return weights


def write(path: Path, case: Case, *, context: int = 512) -> Config:
    """Write a model with gguf-py in float32."""
    sizes: dict[str, Any] = {**SIZES, **case.sizes}
    config = Config(
        n_layers=case.layers, n_vocab=VOCABULARY, eps=1e-5, **sizes, family=FAMILIES[case.family],
        rotated=case.keys.get("rope.dimension_count"),
    )  # fmt: skip
    writer = gguf.GGUFWriter(path, case.family)
    writer.add_block_count(case.layers)
    writer.add_context_length(context)
    writer.add_embedding_length(sizes["d_model"])
    writer.add_feed_forward_length(sizes["d_ff"])
    writer.add_head_count(sizes["n_heads"])
    writer.add_head_count_kv(sizes["n_kv_heads"])
    writer.add_key_length(sizes["d_head"])
    writer.add_value_length(sizes["d_head"])
    writer.add_layer_norm_rms_eps(config.eps)
    for key, value in case.keys.items():
        getattr(writer, ADD[type(value)])(f"{case.family}.{key}", value)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list([f"t{i}" for i in range(VOCABULARY - 1)] + ["Ċ"])
    writer.add_token_types([1] * VOCABULARY)
    writer.add_token_merges(["t 1"])
    for name, weight in random_weights(config, case.optional).items():
        writer.add_tensor(name, weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return config


@pytest.mark.parametrize("name", CASES)
def test_family_is_llama_cpps(name: str, tmp_path: Path) -> None:
    """Both within the bound, ours and llama.cpp's; and each number that was read matters."""
    case = CASES[name]
    path = tmp_path / "model.gguf"
    write(path, case)
    loaded = load(path)
    if case.opened is not None:
        assert loaded.config.opened(512) is loaded.config
        loaded = loaded.opened(case.opened)
    gelu = loaded.config.family.gate == "gelu"
    noise = logit_noise(loaded.config, loaded.weights, TOKENS)
    wide = logit_noise(loaded.config, loaded.weights, TOKENS, half_gelu=True) if gelu else noise
    with LlamaCpp(path, n_ctx=256, rope=case.given) as llama:
        logits = llama.logits(TOKENS)
    assert agreement(loaded.model().forward(TOKENS), noise).holds
    found = agreement(logits, wide)
    assert found.holds, found
    if gelu:
        exact = {name: weight.astype(np.float64) for name, weight in loaded.weights.items()}
        half = HalfGelu(loaded.config, exact).forward(TOKENS)
        assert np.sqrt(np.mean(np.square(logits - half))) < found.rms / 4
    for change in case.matters:
        other = dataclasses.replace(loaded.config, **change)
        assert not agreement(Model(other, loaded.weights).forward(TOKENS), wide).holds, change


def test_llama_cpp_reads_our_parts(tmp_path: Path) -> None:
    """A model that was quantized in parts is, by the first one's name, the one that was quantized whole."""
    source = tmp_path / "model.gguf"
    write(source, CASES["mistral"])
    quantize_model(source, tmp_path / "whole.gguf")
    first = quantize_model(source, tmp_path / "parts.gguf", split=30_000).target
    assert first.name.startswith("parts-00001-of-0000")
    logits = []
    for path in (tmp_path / "whole.gguf", first):
        with LlamaCpp(path, n_ctx=256) as llama:
            logits.append(llama.logits(TOKENS[:8]))
    np.testing.assert_array_equal(logits[1], logits[0])
