"""The whole model against plain loops in double precision, and what it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from q8a8.errors import DtypeError, ShapeError
from q8a8.llama import HEAD, Config, FloatCache, FloatLinear, Model, ModelError, linear_names
from q8a8_lab.evaluation.rounding_noise import Noise, logit_noise

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.llama.conftest import Oracle, Tiny

UNIT = 2.0**-24
SMALL = 2.0**-29
"""The unit roundoff of float64 over that of float32: what rounding does is proportional to it."""


@pytest.fixture(scope="module")
def noise(tiny: Tiny) -> Noise:
    """Return what float32 may do to the tiny model's logits."""
    return logit_noise(tiny.config, tiny.weights, tiny.tokens)


def double(weights: dict[str, Any]) -> dict[str, Any]:
    """Return weights in float64."""
    return {name: weight.astype(np.float64) for name, weight in weights.items()}


def test_model_is_the_oracle(tiny: Tiny, oracle: Oracle, noise: Noise) -> None:
    """In float64 and in float32, within what each one's rounding does; float32 is outside that of float64."""
    expected = oracle(tiny.config, tiny.weights, tiny.tokens)
    exact = Model(tiny.config, double(tiny.weights)).forward(tiny.tokens)
    assert exact.dtype == np.float64
    assert np.abs(exact - expected).max() <= noise.bound * SMALL
    rounded = Model(tiny.config, tiny.weights).forward(tiny.tokens)
    assert rounded.dtype == np.float32
    assert noise.bound * SMALL < np.abs(rounded - expected).max() <= noise.bound


def test_separate_head_scaled_and_divided_angles(tiny: Tiny, oracle: Oracle, noise: Noise) -> None:
    """A head of its own, linear scaling and Llama 3's frequency factors do what the oracle does."""
    rng = np.random.default_rng(11)
    weights = tiny.but(
        output__weight=rng.normal(size=(300, 64)).astype(np.float32),
        rope_freqs__weight=np.linspace(1, 32, 8, dtype=np.float32),
    )
    config = tiny.config_but(rope_scale=0.25)
    expected = oracle(config, weights, tiny.tokens)
    exact = Model(config, double(weights)).forward(tiny.tokens)
    # The head's rows are sqrt(64) / 2 times as long as those of the embedding that it stands in for.
    assert np.abs(exact - expected).max() <= 4 * noise.bound * SMALL


@pytest.mark.parametrize(
    "change",
    [
        {"rope_base": 10001.0},
        {"rope_scale": 1.0001},
        {"eps": 1.001e-5},
        {"n_kv_heads": 2, "n_heads": 6, "d_ff": 96},  # nothing: the control below
    ],
    ids=["base", "scale", "eps", "none"],
)
def test_oracle_sees_a_slightly_wrong_shape(
    tiny: Tiny, oracle: Oracle, noise: Noise, change: dict[str, float]
) -> None:
    """Numbers that are off by 0.01 to 0.1 % are outside the bound of float64; no change is inside."""
    expected = oracle(tiny.config, tiny.weights, tiny.tokens)
    wrong = Model(tiny.config_but(**change), double(tiny.weights)).forward(tiny.tokens)
    outside = np.abs(wrong - expected).max() > noise.bound * SMALL
    assert outside == any(getattr(tiny.config, name) != value for name, value in change.items())


def test_oracle_sees_each_wrong_tensor(tiny: Tiny, oracle: Oracle, noise: Noise) -> None:
    """One number of one tensor, off by 1 %, is outside the bound of float64: every tensor takes part."""
    tokens = tiny.tokens[:4]
    expected = oracle(tiny.config, tiny.weights, tokens)
    for name, weight in tiny.weights.items():
        wrong = double(tiny.weights)
        # A row of the embedding that is read: the first token's.
        place = (tokens[0], 3) if name == "token_embd.weight" else (0,) * weight.ndim
        wrong[name][place] *= 1.01
        difference = np.abs(Model(tiny.config, wrong).forward(tokens) - expected).max()
        assert difference > noise.bound * SMALL, name


def test_oracle_sees_the_other_pairing(tiny: Tiny, oracle: Oracle, noise: Noise) -> None:
    """Channels paired i with i + d/2, as Hugging Face stores them, are another model."""
    order = np.arange(16).reshape(8, 2).T.reshape(-1)
    rows = (np.arange(6)[:, None] * 16 + order).reshape(-1)
    weights = double(tiny.weights)
    weights["blk.0.attn_q.weight"] = weights["blk.0.attn_q.weight"][rows]
    weights["blk.0.attn_k.weight"] = weights["blk.0.attn_k.weight"][rows[:32]]
    expected = oracle(tiny.config, tiny.weights, tiny.tokens)
    # Queries and keys are permuted alike: only where a pair is taken from makes the difference.
    assert np.abs(Model(tiny.config, weights).forward(tiny.tokens) - expected).max() > noise.bound


@pytest.mark.parametrize("cut", [1, 4, 10])
def test_cache_gives_what_the_whole_text_gives(tiny: Tiny, oracle: Oracle, noise: Noise, cut: int) -> None:
    """In parts, or token by token, logits are those of the whole: the same sums, but not in the same order.

    A BLAS takes another kernel for a row than for a matrix, so no bits are promised: both are within the
    bound of the oracle.
    """
    expected = oracle(tiny.config, tiny.weights, tiny.tokens)
    for weights, bound in ((double(tiny.weights), noise.bound * SMALL), (tiny.weights, noise.bound)):
        model = Model(tiny.config, weights)
        cache = FloatCache(tiny.config, 32, model.dtype)
        parts = [model.forward(tiny.tokens[:cut], cache)]
        parts += [model.forward([token], cache) for token in tiny.tokens[cut:]]
        assert len(cache) == len(tiny.tokens)
        assert np.abs(np.concatenate(parts) - expected).max() <= bound


def test_cache_of_another_text_is_another_result(tiny: Tiny, noise: Noise) -> None:
    """What the cache holds matters, and its positions do."""
    model = Model(tiny.config, tiny.weights)
    logits = []
    for before in ([1, 2], [1, 3], [1], [1, 2]):
        cache = FloatCache(tiny.config, 8)
        model.forward(before, cache)
        logits.append(model.forward([9], cache)[0])
    assert np.abs(logits[0] - logits[1]).max() > noise.bound
    assert np.abs(logits[0] - logits[2]).max() > noise.bound
    assert (logits[0] == logits[3]).all()


def test_half_precision_cache_is_another_precision(tiny: Tiny, noise: Noise) -> None:
    """Keys and values in float16 move the logits further than float32 does, and not far."""
    model = Model(tiny.config, tiny.weights)
    rounded = model.forward(tiny.tokens, FloatCache(tiny.config, 16, np.float16))
    assert rounded.dtype == np.float32
    difference = np.abs(rounded - noise.reference).max()
    # Keys and values are off by at most 2^−11 of themselves; the bound moves each product by at least
    # sqrt(64)·2^−24 of |W||x|, which is no less than the product.
    assert noise.bound < difference <= noise.bound * 2.0**-11 / (8 * UNIT)


def test_logits_of_asked_positions(tiny: Tiny) -> None:
    """From the front, from the end, none at all: the head sees those rows alone."""
    model = Model(tiny.config, tiny.weights)
    every = model.forward(tiny.tokens)
    t = len(tiny.tokens)
    heads: list[int] = []

    def observe(name: str, x: np.ndarray[Any, Any]) -> None:
        if name == HEAD:
            heads.append(len(x))

    for start, rows in ((0, t), (4, t - 4), (-1, 1), (-t, t)):
        part = model.forward(tiny.tokens, None, observe, logits_from=start)
        assert part.shape == (rows, 300)
        # A product of fewer rows may be summed in another order: bits are promised for none.
        assert (part.argmax(-1) == every[start:].argmax(-1)).all()
    none = model.forward(tiny.tokens, None, observe, logits_from=t)
    assert none.shape == (0, 300)
    assert none.dtype == np.float32
    assert heads == [t, t - 4, 1, t]


def test_observer_sees_every_input(tiny: Tiny) -> None:
    """Once each, in order, with the rows that the operator is applied to; nothing changes by looking."""
    seen: list[str] = []
    inputs: dict[str, np.ndarray[Any, Any]] = {}
    model = Model(tiny.config, tiny.weights)

    def observe(name: str, x: np.ndarray[Any, Any]) -> None:
        seen.append(name)
        inputs[name] = x.copy()

    logits = model.forward(tiny.tokens, observe=observe)
    assert seen == [*linear_names(tiny.config), HEAD]
    assert (logits == model.forward(tiny.tokens)).all()
    assert (inputs[HEAD] @ tiny.weights["token_embd.weight"].T == logits).all()
    assert inputs["blk.1.ffn_down.weight"].shape == (len(tiny.tokens), 96)
    for shared in (("attn_q", "attn_k", "attn_v"), ("ffn_gate", "ffn_up")):
        first, *others = (inputs[f"blk.1.{name}.weight"] for name in shared)
        assert all((first == other).all() for other in others)


class Recording:
    """A linear operator that counts its calls."""

    activation_bits = 32.0
    weight_bytes = 0

    def __init__(self, weight: np.ndarray[Any, Any]) -> None:
        self.inner = FloatLinear(weight)
        self.calls = 0

    def __call__(self, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Count, and multiply."""
        self.calls += 1
        return self.inner(x)


def test_linears_replace_by_name(tiny: Tiny) -> None:
    """Each name takes its own operator, the head too; weights that are replaced may be gone."""
    names = [*linear_names(tiny.config), HEAD]
    head = tiny.weights["token_embd.weight"]
    linears = {name: Recording(tiny.weights.get(name, head)) for name in names}
    kept = {name: weight for name, weight in tiny.weights.items() if name not in linears}
    model = Model(tiny.config, kept, linears=linears)
    assert (model.forward(tiny.tokens) == Model(tiny.config, tiny.weights).forward(tiny.tokens)).all()
    assert {linear.calls for linear in linears.values()} == {1}


def test_linear_names(tiny: Tiny) -> None:
    """Seven a layer, in the order of their use."""
    names = linear_names(tiny.config)
    assert len(names) == 14
    assert names[0] == "blk.0.attn_q.weight"
    assert names[-1] == "blk.1.ffn_down.weight"


NORM, Q = "blk.0.attn_norm.weight", "blk.1.attn_q.weight"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda w: w.pop(NORM), ModelError, f"there is no {NORM}"),
        (lambda w: w.update({"blk.0.attn_norm.bias": w[NORM]}), ModelError, "attn_norm.bias is not a tensor"),
        (lambda w: w.update({"blk.0.attn_q.bias": w[NORM]}), ShapeError, r"bias: expected shape \(96,\)"),
        (
            lambda w: w.update({"blk.2.attn_norm.weight": w[NORM]}),
            ModelError,
            "blk.2.attn_norm.weight is not a tensor",
        ),
        (
            lambda w: w.update({Q: w[Q].T}),
            ShapeError,
            r"blk.1.attn_q.weight: expected shape \(96, 64\), got \(64, 96\)",
        ),
        (
            lambda w: w.update({HEAD: w[Q]}),
            ShapeError,
            r"output.weight: expected shape \(300, 64\), got \(96, 64\)",
        ),
        (
            lambda w: w.update({Q: w[Q].astype(np.float64)}),
            DtypeError,
            "blk.1.attn_q.weight: expected float32, .* got float64",
        ),
        (
            lambda w: w.update({n: v.astype(np.float16) for n, v in w.items()}),
            DtypeError,
            "expected float32 or float64, got float16",
        ),
    ],
    ids=["missing", "unknown", "bias", "layer", "transposed", "head", "mixed", "half"],
)
def test_weights_are_checked(
    tiny: Tiny, change: Callable[[dict[str, Any]], object], error: type[Exception], message: str
) -> None:
    """A tensor that is missing, has no place, or another shape or dtype is named."""
    weights = dict(tiny.weights)
    change(weights)
    with pytest.raises(error, match=message):
        Model(tiny.config, weights)


def test_linears_are_checked(tiny: Tiny) -> None:
    """A name that is not a linear operator is refused, whatever stands for it."""
    with pytest.raises(ModelError, match=r"'blk.9.attn_q.weight' is not a linear operator"):
        Model(tiny.config, tiny.weights, linears={"blk.9.attn_q.weight": FloatLinear(tiny.weights[Q])})
    with pytest.raises(ShapeError, match="expected a matrix"):
        FloatLinear(tiny.weights[NORM])


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([], "expected one or more integers in one axis, got float64 of shape (0,)"),
        ([[1, 2]], "got int64 of shape (1, 2)"),
        ([1.0], "got float64 of shape (1,)"),
        ([1, -1], "expected 0 to 299, got -1 at 1"),
        ([1, 2, 300, -5], "expected 0 to 299, got 300 at 2"),
        ([1] * 65, "position 64 is outside the context of 64"),
    ],
)
def test_tokens_are_checked(tiny: Tiny, tokens: list[Any], message: str) -> None:
    """What are no tokens is refused, with the first bad one and its place; the last position still fits."""
    model = Model(tiny.config, tiny.weights)
    with pytest.raises(ModelError) as caught:
        model.forward(tokens)
    assert message in str(caught.value)
    assert model.forward([299] * 64, logits_from=-1).shape == (1, 300)


def test_context_counts_what_the_cache_holds(tiny: Tiny) -> None:
    """The position after the last one is refused, also when it comes alone; the cache keeps what it had."""
    model = Model(tiny.config, tiny.weights)
    cache = FloatCache(tiny.config, 100)
    model.forward([1] * 63, cache, logits_from=-1)
    model.forward([1], cache)
    with pytest.raises(ModelError, match="position 64 is outside"):
        model.forward([1], cache)
    assert len(cache) == 64


def test_config_has_names_for_what_follows() -> None:
    """Rotated channels and heads a group follow from the others."""
    config = Config(1, 9, 3, 576, 64, 1536, 10, 1e-5)
    assert (config.rope_dims, config.groups) == (64, 3)
