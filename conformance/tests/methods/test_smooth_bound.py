"""Folding leaves a float model's output alone: the proven bound, from both sides, and a real model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8.llama.config import Config, linear_names
from q8a8.llama.layers import rms_norm, swiglu
from q8a8.llama.load import load
from q8a8.llama.model import Model
from q8a8.llama.tensors import expected_shapes
from q8a8.methods.calibration import Source, calibrate
from q8a8.methods.smooth_bound import down_fraction, gamma, norm_fraction
from q8a8.methods.smoothquant import make_smoothing
from q8a8_evaluation.text import read_text, windows

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

    from q8a8.methods.calibration import Calibration
    from q8a8.methods.smoothing import Smoothing

    F32 = NDArray[np.float32]
    Weights = dict[str, F32]

ULP = 2.0**-23


def test_gamma() -> None:
    """γ(n) is n u / (1 − n u), and bounds any n factors 1 ± u, above or below the line."""
    u = Fraction(1, 1 << 24)
    for n in (1, 4, 6, 1000):
        assert gamma(n) == pytest.approx(float(n * u / (1 - n * u)), rel=1e-15)
        assert (1 + u) ** n - 1 < n * u / (1 - n * u)
        assert 1 / (1 - u) ** n - 1 <= n * u / (1 - n * u)


def _moved(steps: int) -> float:
    """Return the fraction where one weight of one term is moved by so many of float32's steps at 1."""
    one = np.ones((1, 1), np.float32)
    return norm_fraction(one, one, one + np.float32(steps * ULP), one)


def test_the_check_is_sharp() -> None:
    """One term that is off by 4 u is inside, by the least more it is outside; no difference is inside."""
    # 2 steps of 2^-23 are 4 u < γ(4), 3 are 6 u.
    assert 0.999 < _moved(2) <= 1
    assert _moved(3) > 1.499
    zero, one = np.zeros((1, 1), np.float32), np.ones((1, 1), np.float32)
    assert norm_fraction(zero, zero, zero, zero) == 0
    assert norm_fraction(one, zero, one, one) > 1e40
    assert norm_fraction(zero, zero, zero, one) == 0
    assert norm_fraction(one[:0], one, one[:0], one) == 0


def test_the_check_of_down_is_sharp() -> None:
    """The same for down: 6 u inside, 8 u outside, with terms of one product each."""
    one = np.ones((1, 1), np.float32)

    def moved(steps: int) -> float:
        return down_fraction(one, one, (one, one), (one, one + np.float32(steps * ULP)))

    assert 0.999 < moved(3) <= 1
    assert moved(4) > 1.333
    assert down_fraction(one, one, (one, one), (one, one)) == 0
    assert down_fraction(one, one * 0, (one, one), (one, one * 2)) == 0


def test_underflow() -> None:
    """An activation that underflows is inside by what underflow adds, and no further."""
    one, tiny = np.ones((1, 1), np.float32), np.full((1, 1), 2.0**-149, np.float32)
    # x = 2^-149, x / 2 is between 0 and 2^-149: 2^-150 away from either.
    assert norm_fraction(one, tiny, 2 * one, tiny * 0) <= 1
    assert norm_fraction(one, tiny, one, 8 * tiny) > 1


CONFIG = Config(
    n_layers=2, n_heads=4, n_kv_heads=2, d_model=64, d_head=16, d_ff=96, n_vocab=50, eps=1e-5, context=64
)


def _small(seed: int) -> tuple[Weights, Calibration, NDArray[np.int64]]:
    """Make a random model with outliers in some channels, calibrated on random tokens."""
    rng = np.random.default_rng(seed)
    weights: Weights = {}
    for name, shape in expected_shapes(CONFIG).items():
        scale = 1.0 if len(shape) == 1 else shape[-1] ** -0.5
        weights[name] = (rng.standard_normal(shape) * scale).astype(np.float32)
    for layer in range(CONFIG.n_layers):
        weights[f"blk.{layer}.attn_norm.weight"][5] *= 100
        weights[f"blk.{layer}.ffn_up.weight"][17] *= 300
        # Dead channels: one that is never active, one without weights.
        weights[f"blk.{layer}.attn_norm.weight"][9] = 0
        weights[f"blk.{layer}.ffn_down.weight"][:, 20] = 0
    tokens = rng.integers(0, CONFIG.n_vocab, 24)
    calibration = calibrate(
        Model(CONFIG, weights), [tokens], linear_names(CONFIG), Source("t", 24, 0, 1), model_sha256="m"
    )
    return weights, calibration, tokens


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("fold_down", [False, True])
def test_powers_of_two_keep_every_bit(seed: int, *, fold_down: bool) -> None:
    """With factors that are powers of two nothing rounds: the logits are the same bits."""
    weights, calibration, tokens = _small(seed)
    smoothing = make_smoothing(weights, CONFIG, calibration, fold_down=fold_down, rounding="power-of-two")
    before = Model(CONFIG, weights).forward(tokens)
    folded = smoothing.fold(weights)
    assert np.array_equal(Model(CONFIG, folded).forward(tokens), before)
    # And a fold that misses a tensor shows.
    folded["blk.1.attn_k.weight"] = weights["blk.1.attn_k.weight"]
    assert not np.array_equal(Model(CONFIG, folded).forward(tokens), before)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_dead_channels_stay_finite(alpha: float) -> None:
    """With dead channels of both kinds the smoothed model computes what the model computed."""
    weights, calibration, tokens = _small(3)
    smoothing = make_smoothing(weights, CONFIG, calibration, alpha=alpha, fold_down=True)
    folded = smoothing.fold(weights)
    assert all(np.isfinite(array).all() for array in folded.values())
    # In float64 the rounding of the folds is all that differs: some 2^-24 each, through two layers.
    before, after = (
        Model(CONFIG, {name: array.astype(float) for name, array in each.items()}).forward(tokens)
        for each in (weights, folded)
    )
    assert np.abs(after - before).max() <= 2.0**-18 * np.abs(before).max()


def _inputs(model: Model, tokens: Any) -> dict[str, F32]:  # noqa: ANN401 (tokens of any integer type)
    """Run over tokens, and keep the input of every operator."""
    seen: dict[str, F32] = {}
    model.forward(tokens, observe=seen.__setitem__, logits_from=len(tokens))
    return seen


def _norm_fractions(
    weights: Weights, folded: Weights, inputs: dict[str, F32], layer: int
) -> dict[str, float]:
    """Check both norms' groups of a layer: the same normalized rows, through the weights before and after."""
    fractions = {}
    groups = {"attn_norm": ("attn_q", "attn_k", "attn_v"), "ffn_norm": ("ffn_gate", "ffn_up")}
    for norm, operators in groups.items():
        x = inputs[f"blk.{layer}.{operators[0]}.weight"]
        gain, new = (each[f"blk.{layer}.{norm}.weight"] for each in (weights, folded))
        # Any rows do: these are the model's own but for a rounding.
        rows = np.divide(x, gain, out=np.zeros_like(x), where=gain != 0)
        for operator in operators:
            name = f"blk.{layer}.{operator}.weight"
            fractions[name] = norm_fraction(weights[name], rows * gain, folded[name], rows * new)
    return fractions


def _down_fraction(weights: Weights, folded: Weights, inputs: dict[str, F32], layer: int) -> float:
    """Check the down projection of a layer whose norms are not folded."""
    x = inputs[f"blk.{layer}.ffn_up.weight"]
    gate = x @ weights[f"blk.{layer}.ffn_gate.weight"].T
    pairs = [
        (each[f"blk.{layer}.ffn_up.weight"], each[f"blk.{layer}.ffn_down.weight"])
        for each in (weights, folded)
    ]
    return down_fraction(x, swiglu(gate, np.ones_like(gate)), *pairs)


def _down_alone(smoothing: Smoothing) -> Smoothing:
    """Leave the factors of the down projections alone."""
    downs = tuple(s for s in smoothing.groups if s.group.name.endswith("ffn_down"))
    return type(smoothing)(downs, smoothing.provenance)


@pytest.mark.parametrize("alpha", [0.3, 0.5, 1.0])
def test_bounds_of_a_small_model(alpha: float) -> None:
    """Every group of a random model obeys its bound; one that was folded wrong does not."""
    weights, calibration, tokens = _small(4)
    inputs = _inputs(Model(CONFIG, weights), tokens)
    folded = make_smoothing(weights, CONFIG, calibration, alpha=alpha).fold(weights)
    smoothing = make_smoothing(weights, CONFIG, calibration, alpha=alpha, fold_down=True)
    down = _down_alone(smoothing).fold(weights)
    for layer in range(CONFIG.n_layers):
        assert max(_norm_fractions(weights, folded, inputs, layer).values()) <= 1
        assert _down_fraction(weights, down, inputs, layer) <= 1
    missed = folded | {"blk.0.attn_k.weight": weights["blk.0.attn_k.weight"]}
    fractions = _norm_fractions(weights, missed, inputs, 0)
    assert fractions["blk.0.attn_k.weight"] > 1000
    assert fractions["blk.0.attn_q.weight"] <= 1
    missed = down | {"blk.0.ffn_up.weight": weights["blk.0.ffn_up.weight"]}
    assert _down_fraction(weights, missed, inputs, 0) > 1000


def test_normalized_rows_do_not_see_the_weight() -> None:
    """What the proof takes of RMSNorm: its weight is multiplied last, once, onto rows it is no part of."""
    rng = np.random.default_rng(8)
    x, gain = rng.standard_normal((5, 64)).astype(np.float32), rng.standard_normal(64).astype(np.float32)
    assert np.array_equal(rms_norm(x, gain, 1e-5), rms_norm(x, np.ones_like(gain), 1e-5) * gain)


@dataclass(frozen=True)
class Real:
    """Part of a real model, with a calibration and tokens to try it on."""

    config: Config
    weights: Weights
    calibration: Calibration
    tokens: NDArray[np.int64]

    @property
    def model(self) -> Model:
        """The model before it is smoothed."""
        return Model(self.config, self.weights)


@pytest.fixture(scope="module")
def real(real_model: Path, news: Path) -> Real:
    """Take SmolLM2's first twelve layers, and of its vocabulary the tokens of some news.

    The twelfth layer has the largest outlier of all. Calibrated on two short windows; the tokens to try are
    those that follow.
    """
    loaded = load(real_model)
    used, tokens = np.unique(loaded.tokenizer.encode(read_text(news))[:144], return_inverse=True)
    config = replace(loaded.config, n_layers=12, n_vocab=len(used))
    weights = {name: loaded.weights[name] for name in expected_shapes(config)}
    weights["token_embd.weight"] = weights["token_embd.weight"][used]
    calibration = calibrate(
        Model(config, weights),
        windows(tokens, 48, 2),
        linear_names(config),
        Source("news", 48, 0, 2),
        model_sha256="part",
    )
    return Real(config, weights, calibration, tokens[96:])


def test_real_model(real: Real) -> None:
    """In SmolLM2 every group obeys its bound, on tokens not calibrated on; a missed k_proj does not."""
    inputs = _inputs(real.model, real.tokens)
    smoothing = make_smoothing(real.weights, real.config, real.calibration)
    folded = smoothing.fold(real.weights)
    with_down = make_smoothing(real.weights, real.config, real.calibration, fold_down=True)
    down = _down_alone(with_down).fold(real.weights)
    for layer in (0, 11):
        assert max(_norm_fractions(real.weights, folded, inputs, layer).values()) <= 1
        assert _down_fraction(real.weights, down, inputs, layer) <= 1
    missed = folded | {"blk.11.attn_k.weight": real.weights["blk.11.attn_k.weight"]}
    assert _norm_fractions(real.weights, missed, inputs, 11)["blk.11.attn_k.weight"] > 1e5


def test_real_logits(real: Real) -> None:
    """Folded, SmolLM2's logits move less than float32 itself moves them; a missed k_proj moves them far."""
    smoothing = make_smoothing(real.weights, real.config, real.calibration, fold_down=True)

    def logits(weights: Weights, dtype: type) -> NDArray[Any]:
        wide: Weights = {name: array.astype(dtype, copy=False) for name, array in weights.items()}
        return Model(real.config, wide).forward(real.tokens)

    def size(difference: NDArray[Any]) -> float:
        return float(np.sqrt(np.square(difference, dtype=np.float64).mean()))

    folded = smoothing.fold(real.weights)
    single, double = logits(real.weights, np.float32), logits(real.weights, np.float64)
    noise = size(single - double)
    # Measured: a tenth (docs/methods/smoothquant.md).
    assert size(logits(folded, np.float64) - double) <= noise
    missed = folded | {"blk.11.attn_k.weight": real.weights["blk.11.attn_k.weight"]}
    assert size(logits(missed, np.float32) - single) > 1000 * noise


def test_real_logits_with_powers_of_two(real: Real) -> None:
    """With powers of two SmolLM2's logits are the same bits before and after."""
    smoothing = make_smoothing(
        real.weights, real.config, real.calibration, fold_down=True, rounding="power-of-two"
    )
    folded = Model(real.config, smoothing.fold(real.weights))
    assert np.array_equal(folded.forward(real.tokens), real.model.forward(real.tokens))
