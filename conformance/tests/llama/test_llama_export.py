"""AWQ, GPTQ and int4 as files for llama.cpp: exact folds, and what a real llama.cpp computes."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING

import gguf
import numpy as np
import pytest

from q8a8.errors import ArgumentError, ShapeError
from q8a8.llama import Config, Model, linear_names, load
from q8a8.llama.families import FAMILIES
from q8a8.llama.tensors import expected_shapes
from q8a8.methods import awq_fold
from q8a8.methods.awq import AwqGrid, AwqLinear, quantize
from q8a8.methods.gptq_grid import Grid
from q8a8.schemes.export import export_model
from q8a8.schemes.statistics import InputStatistics, gather_inputs
from q8a8.schemes.table import SCHEMES
from q8a8_evaluation import llamacpp
from q8a8_evaluation.commands import export
from q8a8_evaluation.llamacpp import LlamaCpp, LlamaCppUnavailableError
from q8a8_lab.evaluation.exported import with_rounded_inputs
from q8a8_lab.evaluation.rounding_noise import logit_noise

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from q8a8.methods.awq import AwqWeight
    from q8a8.schemes.scheme import Scheme
    from tests.llama.conftest import Tiny, WriteTiny

    F32 = NDArray[np.float32]

FEW_TOKENS, NEAR = 3, 2.0**-18
"""Tokens of a prompt, and the part of a number that may not lead to a tie: 32 units of its last place."""

F32_TYPE = (gguf.GGMLQuantizationType.F32,)


def inputs_of(config: Config, weights: dict[str, F32], tokens: list[int]) -> dict[str, F32]:
    """Run the float model, and keep the inputs of its operators."""
    seen: dict[str, F32] = {}
    Model(config, weights).forward(tokens, observe=lambda name, x: seen.update({name: x.copy()}))
    return seen


def wide_model(tiny: Tiny, family: str, kv_heads: int) -> tuple[Config, dict[str, F32]]:
    """Return a random model of a family, whose channels are as unequally active as AWQ expects."""
    config = dataclasses.replace(tiny.config, n_kv_heads=kv_heads, family=FAMILIES[family])
    random = np.random.default_rng(5)
    weights = {}
    for name, shape in expected_shapes(config).items():
        weight = random.normal(size=shape) / 8 + (len(shape) == 1)
        if name.endswith(("attn_norm.weight", "ffn_norm.weight")):
            weight *= np.exp(random.normal(size=shape))
        weights[name] = weight.astype(np.float32)
    return config, weights


@pytest.mark.parametrize(
    ("family", "kv_heads"),
    [("llama", 2), ("llama", 6), ("qwen2", 6), ("gemma3", 2), ("phi3", 6), ("phi3", 2)],
)
def test_folds_change_nothing(
    tiny: Tiny, family: str, kv_heads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for roundings to float32 the model stays what it was; without any one of the folds it does not."""
    config, weights = wide_model(tiny, family, kv_heads)
    grid = AwqGrid(bits=8, group=32)
    seen = inputs_of(config, weights, tiny.tokens)
    changed = dict(weights)
    names = iter(linear_names(config))

    def unrounded(weight: F32, grid: AwqGrid, _scale_bits: int) -> AwqWeight:
        changed[next(names)] = weight
        return quantize(weight, grid)

    monkeypatch.setattr(awq_fold, "_quantized", unrounded)
    monkeypatch.setattr(awq_fold, "_clipped", lambda _name, weight, _rows, _grid: weight)
    folded = awq_fold.fold_awq(
        weights,
        config.n_layers,
        lambda name: (np.abs(seen[name]).astype(np.float64).mean(axis=0), seen[name]),
        grid,
        shared_values=config.n_heads != config.n_kv_heads,
    )
    assert list(folded.weights) == list(linear_names(config))
    outputs = {name for name in linear_names(config) if "attn_output" in name}
    assert set(folded.unscaled) == (outputs if kv_heads == 2 else set())
    changed |= folded.floats
    expected = Model(config, weights).forward(tiny.tokens)
    found = Model(config, changed).forward(tiny.tokens)
    largest = np.abs(expected).max()
    assert np.abs(found - expected).max() < 2e-5 * largest
    folds = [n for n in changed if not np.array_equal(changed[n], weights[n]) and "bias" not in n]
    assert len(folds) == len(linear_names(config)) + 2 * config.n_layers - len(folded.unscaled)
    for name in folds:
        wrong = Model(config, changed | {name: weights[name]}).forward(tiny.tokens)
        assert np.abs(wrong - found).max() > 0.001 * largest


def narrow(scheme: Scheme) -> Scheme:
    """Return a scheme with groups of 32, which the tiny model's rows are made of."""
    options = dict(scheme.options)
    if "grid" in options:
        awq = scheme.linear is AwqLinear
        options["grid"] = AwqGrid(bits=4, group=32) if awq else Grid(bits=4, group=32)
    return dataclasses.replace(scheme, options=options)


@pytest.mark.parametrize(
    ("name", "short_scales"),
    [
        ("int4-g32", False),
        ("int4-g32-asym", False),
        ("int4-g32-asym", True),
        ("gptq-int4-g64-act", True),
        ("awq-int4-g64", False),
        ("awq-int4-g64", True),
    ],
)
def test_llamacpp_computes_our_model(
    need: Callable[[object, str], None],
    tiny: Tiny,
    write_tiny: WriteTiny,
    tmp_path: Path,
    name: str,
    short_scales: bool,
) -> None:
    """A real llama.cpp computes our model with activations rounded to 8 bits, but for float32's rounding."""
    try:
        llamacpp.library()
    except LlamaCppUnavailableError as error:
        need(False, str(error))
    source, target = tmp_path / "in.gguf", tmp_path / "out.gguf"
    write_tiny(source, tiny, types=F32_TYPE)
    loaded = load(source)
    seen = inputs_of(loaded.config, loaded.weights, tiny.tokens)
    statistics = InputStatistics(inputs=gather_inputs(loaded.model(), [np.array(tiny.tokens)]))
    scheme = narrow(SCHEMES[name])
    if name.startswith("awq"):
        statistics = _Seen(seen)  # type: ignore[assignment]  # what is asked of it, it has
    found = export_model(source, target, loaded, scheme, statistics, short_scales=short_scales)
    # Scales of 7 bits times zero points of 4 are float16 numbers: what Q4_1 needs of every block.
    assert {kind.name for kind in found.types.values()} <= {"Q4_0", "Q4_1" if short_scales else "Q5_0"}
    assert bool(found.folded) == name.startswith("awq")
    exported = load(target)
    model = with_rounded_inputs(exported)
    tokens = sure_tokens(model, tiny.config.n_vocab)
    ours, rounded = exported.model().forward(tokens), model.forward(tokens)
    with LlamaCpp(target) as llama:
        theirs = llama.logits(tokens)
    # Each is off by no more than what float32 rounds, as docs/model/llama.md derives it: both by twice that.
    bound = 2 * logit_noise(exported.config, exported.weights, tokens).bound
    apart = np.abs(rounded - ours).max()
    assert np.abs(theirs - rounded).max() < bound < apart / 100
    # That is little beside what the quantization of the weights has done.
    assert apart < np.abs(ours - loaded.model().forward(tokens)).max()


def sure_tokens(model: Model, n_vocab: int) -> list[int]:
    """Return tokens of which no input is so near to a tie that float32's roundings decide its code or scale.

    Another processor adds in another order: what is rounded to 8 bits would be another code there.
    """
    random = np.random.default_rng(11)
    for _ in range(1000):
        tokens: list[int] = random.integers(0, n_vocab, FEW_TOKENS).tolist()
        if min(_distances(model, tokens)) > NEAR:
            return tokens
    raise AssertionError("all tokens tried have inputs beside a tie")


def _distances(model: Model, tokens: list[int]) -> list[float]:
    """Return how far the input of each operator is from ties."""
    found: list[float] = []
    model.forward(tokens, observe=lambda _, x: found.append(_from_ties(x)))
    return found


def _from_ties(x: F32) -> float:
    """Return how far codes, scales and scaled sums of blocks are from ties: the least, by its magnitude."""
    blocks = x.astype(np.float64).reshape(len(x), -1, 32)
    d = np.abs(blocks).max(axis=2) / 127
    codes = blocks / d[..., np.newaxis]
    distances = [np.abs(codes - np.floor(codes) - 0.5).min() / 127]
    for stored in (d, d * np.abs(np.rint(codes).sum(axis=2))):
        halves = np.ldexp(stored, 11 - np.frexp(stored)[1])
        distances.append(np.abs(halves - np.floor(halves) - 0.5).min() / 2048)
    return float(min(distances))


class _Seen:
    """Means and samples of inputs."""

    def __init__(self, seen: dict[str, F32]) -> None:
        self._seen = seen

    def get(self, statistic: str, name: str, _who: str) -> NDArray[np.floating]:
        rows = self._seen[name]
        return np.abs(rows).astype(np.float64).mean(axis=0) if statistic == "mean" else rows


def test_int4_is_the_schemes_own(tiny: Tiny, write_tiny: WriteTiny, tmp_path: Path) -> None:
    """The file's weights are those that the scheme multiplies with, bit for bit; short last groups too."""
    source, target = tmp_path / "in.gguf", tmp_path / "out.gguf"
    write_tiny(source, tiny, types=F32_TYPE)
    loaded = load(source)
    for name in ("int4-g32", "int4-g64", "int4-g128-asym", "rtn-int3-g64"):
        scheme = SCHEMES[name]
        export_model(source, target, loaded, scheme, InputStatistics())
        exported = load(target)
        for weight in linear_names(loaded.config):
            linear = scheme.linear(loaded.weights[weight], **scheme.options)
            eye = np.eye(loaded.weights[weight].shape[1], dtype=np.float32)
            assert np.array_equal(exported.weights[weight], linear(eye).T)


@pytest.mark.parametrize("name", ["int4-g32-asym", "rtn-int4-g64", "awq-int4-g64"])
def test_short_scales(tiny: Tiny, write_tiny: WriteTiny, tmp_path: Path, name: str) -> None:
    """Scales change by less than 2^-7 of themselves, and every weight by less than a step and that."""
    source = tmp_path / "in.gguf"
    write_tiny(source, tiny, types=F32_TYPE)
    loaded = load(source)
    seen = _Seen(inputs_of(loaded.config, loaded.weights, tiny.tokens))
    files = {short: tmp_path / f"{short}.gguf" for short in (False, True)}
    for short, target in files.items():
        scheme = narrow(SCHEMES[name])
        found = export_model(source, target, loaded, scheme, seen, short_scales=short)  # type: ignore[arg-type]  # what is asked of it, it has
        kinds = {kind.name for kind in found.types.values()}
        assert kinds == {"Q4_1"} if short else "Q5_0" in kinds
    full, short_ones = (load(target).weights for target in files.values())
    for weight in linear_names(loaded.config):
        blocks, other = (each[weight].reshape(-1, 32) for each in (full, short_ones))
        # A scale is at least 1/15 of its block's range.
        step = (blocks.max(axis=1) - blocks.min(axis=1)) / 13
        assert (np.abs(blocks - other).max(axis=1) <= step * (1 + 16 * 2**-7)).all()
        assert not np.array_equal(blocks, other)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("q8_a8", "`q8a8 quantize` writes"), ("llm-int8", "ggml has no such type"), ("float", "no such type")],
)
def test_others_are_refused(
    tiny: Tiny, write_tiny: WriteTiny, tmp_path: Path, name: str, reason: str
) -> None:
    """With the reason, before anything is done."""
    source = tmp_path / "in.gguf"
    write_tiny(source, tiny, types=F32_TYPE)
    with pytest.raises(ArgumentError, match=reason):
        export_model(source, tmp_path / "out.gguf", load(source), SCHEMES[name], InputStatistics())
    # A block of 32 columns would have the scales of two groups of 24.
    odd = dataclasses.replace(SCHEMES["int4-g32"], options={"group": 24, "tail": "short"})
    with pytest.raises(ArgumentError, match="not whole blocks of 32"):
        export_model(source, tmp_path / "out.gguf", load(source), odd, InputStatistics())
    wide = dataclasses.replace(SCHEMES["int4-g32"], options={"group": 4096})
    with pytest.raises(
        ShapeError, match=r"tensor blk.0.attn_q.weight: .* not a multiple of the group of 4096"
    ):
        export_model(source, tmp_path / "out.gguf", load(source), wide, InputStatistics())
    assert not (tmp_path / "out.gguf").exists()
    with pytest.raises(ShapeError, match=r"tensor blk.0.attn_q.weight: rows of 48 elements .* group of 32"):
        awq_fold.fold_awq(
            {"blk.0.attn_q.weight": np.zeros((4, 48), np.float32)}, 1, lambda _name: pytest.fail("asked"),
            AwqGrid(4, 32), shared_values=False,
        )  # fmt: skip


def test_the_command(
    tiny: Tiny, write_tiny: WriteTiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says what became of the weights; calibrated schemes ask for a text."""
    parser = argparse.ArgumentParser()
    export.add_parser(parser.add_subparsers())
    source, target = tmp_path / "in.gguf", tmp_path / "out.gguf"
    write_tiny(source, tiny)
    for scheme, status in (("int4-g32", 0), ("awq-int4-g64", 2), ("fp8-e4m3-tensor", 2), ("nothing", 2)):
        options = parser.parse_args(["export", str(source), "--scheme", scheme, "-o", str(target)])
        assert options.func(options) == status
    captured = capsys.readouterr()
    assert f"{target}: 14 weights by int4-g32: 14 Q4_0" in captured.out
    assert "awq-int4-g64: this scheme needs --calibration" in captured.err
    assert "ggml has no such type" in captured.err
