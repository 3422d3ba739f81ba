"""Schemes: every entry of the table builds a model that runs, and what is missing or unknown is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8.errors import ArgumentError, DomainError, ShapeError, UnknownNameError
from q8a8.llama import HEAD, Config, FloatCache, FloatLinear, Model, ModelError, Q8A8Linear, linear_names
from q8a8.llama.tensors import expected_shapes
from q8a8.methods.calibration import CalibrationError, Source, calibrate, input_of
from q8a8.schemes.scheme import Scheme, build, get_scheme
from q8a8.schemes.statistics import CALIBRATED, GATHERED, InputStatistics, SeenInput, gather_inputs
from q8a8.schemes.table import SCHEMES

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Channels that groups of 128, 64 and 32 fit into, and heads of 32; 64 rows are half a group of 128.
CONFIG = Config(
    n_layers=2, n_heads=4, n_kv_heads=2, d_model=128, d_head=32, d_ff=192, n_vocab=96, eps=1e-5, context=128
)
TOKENS = np.random.default_rng(20).integers(0, CONFIG.n_vocab, 80)


def _weights() -> dict[str, NDArray[np.float32]]:
    random = np.random.default_rng(21)
    return {
        name: (random.standard_normal(shape) * (0.08 if len(shape) == 2 else 1)).astype(np.float32)
        for name, shape in expected_shapes(CONFIG).items()
    }


WEIGHTS = _weights()
FLOAT = Model(CONFIG, WEIGHTS)


@pytest.fixture(scope="module")
def statistics() -> InputStatistics:
    """Return all that calibration can find, of one window."""
    windows = [np.random.default_rng(22).integers(0, CONFIG.n_vocab, 96)]
    calibration = calibrate(
        FLOAT, windows, linear_names(CONFIG), Source("0" * 64, 96, 0, 1), model_sha256="1" * 64
    )
    return InputStatistics(calibration, gather_inputs(FLOAT, windows))


@pytest.mark.parametrize("name", SCHEMES)
def test_runs_and_says_what_it_stores(name: str, statistics: InputStatistics) -> None:
    """Every scheme gives another model than the float one; its scales take at most a bit and a half."""
    scheme = SCHEMES[name]
    built = build(scheme, CONFIG, WEIGHTS, statistics)
    cache = built.new_cache(len(TOKENS))
    logits, float_logits = built.model.forward(TOKENS, cache), FLOAT.forward(TOKENS)
    assert np.isfinite(logits).all()
    assert np.array_equal(logits, float_logits) == (name == "float")
    assert set(built.replaced) == set(linear_names(CONFIG))
    assert built.weight_bytes == sum(built.model.linears[weight].weight_bytes for weight in built.replaced)
    assert scheme.weight_bits <= built.weight_bits <= scheme.weight_bits + 1.5
    assert scheme.activation_bits <= built.activation_bits <= scheme.activation_bits + 1.5
    assert (cache is None) == (scheme.cache_bits == 32)
    if cache is not None:
        whole = FloatCache(CONFIG, len(TOKENS))
        FLOAT.forward(TOKENS, whole)
        assert cache.nbytes < whole.nbytes


@pytest.mark.parametrize("name", SCHEMES)
def test_is_told_in_one_sentence(name: str) -> None:
    """A scheme's key is its name; its summary is one sentence, and its source is given."""
    scheme = SCHEMES[name]
    assert scheme.name == name == name.lower()
    assert scheme.summary.endswith(".")
    assert scheme.source
    assert set(scheme.statistics.values()) <= {*CALIBRATED, *GATHERED}


def test_says_what_it_needs() -> None:
    """Smoothing and AWQ need a calibration, GPTQ and static scales what is gathered, the others neither."""
    for name, scheme in SCHEMES.items():
        assert scheme.needs_calibration == ("+" in name or name.startswith("awq")), name
        assert scheme.needs_inputs == name.startswith(("gptq", "w8a8-static")), name


def test_bits_are_a_mean_over_products() -> None:
    """Bits are weighted by the sizes of the weights: 32 bits for one of them, 8.5 for the others."""
    built = build(SCHEMES["q8_a8"], CONFIG, WEIGHTS)
    name = "blk.0.ffn_up.weight"
    built.model.linears[name] = FloatLinear(WEIGHTS[name])
    sizes = {weight: WEIGHTS[weight].size for weight in linear_names(CONFIG)}
    total, one = sum(sizes.values()), sizes[name]
    expected = (32 * one + 8.5 * (total - one)) / total
    assert built.weight_bits == pytest.approx(expected, rel=1e-15)
    assert built.activation_bits == pytest.approx(expected, rel=1e-15)


def test_smoothing_leaves_the_weights_alone(statistics: InputStatistics) -> None:
    """Building a smoothed model changes no array that was given; the arrays that it runs on are others."""
    before = {name: array.copy() for name, array in WEIGHTS.items()}
    smoothed = build(SCHEMES["q8_a8+smooth-down"], CONFIG, WEIGHTS, statistics)
    assert all(np.array_equal(before[name], array) for name, array in WEIGHTS.items())
    plain = build(SCHEMES["q8_a8"], CONFIG, WEIGHTS)
    name = "blk.0.ffn_down.weight"
    ours, theirs = smoothed.model.linears[name], plain.model.linears[name]
    assert isinstance(ours, Q8A8Linear)
    assert isinstance(theirs, Q8A8Linear)
    assert ours.blocks.tobytes() != theirs.blocks.tobytes()


def test_weights_are_checked_before_they_are_replaced() -> None:
    """A missing one, and one of another shape, which its operator would multiply with in silence."""
    name = "blk.1.ffn_down.weight"
    without = {key: weight for key, weight in WEIGHTS.items() if key != name}
    with pytest.raises(ModelError, match=f"there is no {name}"):
        build(SCHEMES["q8_a8"], CONFIG, without)
    wrong = {**WEIGHTS, name: WEIGHTS[name][:64]}
    with pytest.raises(ShapeError, match=rf"{name}: expected shape \(128, 192\), got \(64, 192\)"):
        build(SCHEMES["q8_a8"], CONFIG, wrong)
    broken = {**WEIGHTS, name: WEIGHTS[name].copy()}
    broken[name][3, 40] = np.nan
    with pytest.raises(DomainError, match=rf"{name}.*: row 3, block 1, element 8"):
        build(SCHEMES["q8_a8"], CONFIG, broken)


@pytest.mark.parametrize("tied", [True, False])
def test_head(tied: bool) -> None:
    """The head is replaced when asked for, whether it has weights of its own or shares the embedding's."""
    weights = WEIGHTS if tied else {**WEIGHTS, HEAD: WEIGHTS["token_embd.weight"][::-1].copy()}
    done: list[int] = []
    built = build(SCHEMES["q8_a8"], CONFIG, weights, head=True, progress=done.append)
    head = built.model.linears[HEAD]
    assert isinstance(head, Q8A8Linear)
    expected = Q8A8Linear(weights.get(HEAD, weights["token_embd.weight"]))
    assert head.blocks.tobytes() == expected.blocks.tobytes()
    assert HEAD in built.replaced
    assert done == list(range(1, len(linear_names(CONFIG)) + 2))


def test_exceptions_are_for_one_operator(statistics: InputStatistics) -> None:
    """The options of `exceptions` reach the operators that they name, and no other."""
    seen: dict[int, bool] = {}

    def linear(weight: NDArray[np.float32], *, clip: bool) -> FloatLinear:
        seen[id(weight)] = clip
        return FloatLinear(weight)

    scheme = Scheme("x", "X.", "here", 32, 32, linear, {"clip": True}, exceptions={"attn_q": {"clip": False}})
    build(scheme, CONFIG, WEIGHTS, statistics)
    assert {name for name in linear_names(CONFIG) if not seen[id(WEIGHTS[name])]} == {
        "blk.0.attn_q.weight",
        "blk.1.attn_q.weight",
    }


def test_gathers_what_was_asked_for() -> None:
    """Hessian and histogram are those of the rows that came, each only if asked for, the head's as well."""
    window = TOKENS[:40]
    rows: dict[str, NDArray[np.float32]] = {}

    def keep(name: str, x: NDArray[np.float32]) -> None:
        rows[name] = x.copy()

    FLOAT.forward(window, observe=keep)
    done: list[int] = []
    seen = gather_inputs(FLOAT, [window], histogram=False, head=True, progress=done.append)
    assert done == [1]
    assert set(seen) == {input_of(name) for name in (*linear_names(CONFIG), HEAD)}
    for name, each in seen.items():
        x = rows[name].astype(np.float64)
        assert each.observer is None
        assert each.hessian is not None
        np.testing.assert_allclose(each.hessian.matrix(), 2 / 40 * x.T @ x, rtol=1e-12, atol=1e-12)
    name = "blk.1.ffn_down.weight"
    histogram = gather_inputs(FLOAT, [window], hessian=False)[name]
    assert histogram.hessian is None
    assert InputStatistics(inputs={name: histogram}).get("absmax", name, "x") == np.abs(rows[name]).max()


def test_calibrated_statistics(statistics: InputStatistics) -> None:
    """Maximum, mean and rows are the calibration's."""
    assert statistics.calibration is not None
    name = "blk.0.attn_v.weight"
    known = statistics.calibration[name]
    assert statistics.get("maximum", name, "x") is known.maximum
    assert np.array_equal(statistics.get("mean", name, "x"), known.mean)
    assert statistics.get("rows", name, "x") is statistics.calibration.rows(name)


def test_refuses_unknown_names(statistics: InputStatistics) -> None:
    """An unknown scheme or statistic is refused with those that there are."""
    assert get_scheme("q8_a8", SCHEMES) is SCHEMES["q8_a8"]
    with pytest.raises(UnknownNameError, match=r"no scheme is called 'q9'; there are float, w8a16, q8_a8"):
        get_scheme("q9", SCHEMES)
    with pytest.raises(UnknownNameError, match=r"no statistic is called 'median'"):
        statistics.get("median", "blk.0.attn_q.weight", "x")


@pytest.mark.parametrize("name", [name for name, scheme in SCHEMES.items() if scheme.needs_calibration])
def test_refuses_to_build_without_calibration(name: str) -> None:
    """A scheme that needs a calibration says so."""
    with pytest.raises(ArgumentError, match=f"{name.replace('+', '.')}: this scheme needs a calibration"):
        build(SCHEMES[name], CONFIG, WEIGHTS)


@pytest.mark.parametrize(
    ("inputs", "statistic"),
    [
        (None, "hessian"),
        ({}, "hessian"),
        ({"blk.0.attn_q.weight": SeenInput(128, hessian=False)}, "hessian"),
        ({"blk.0.attn_q.weight": SeenInput(128, histogram=False)}, "mse"),
    ],
)
def test_refuses_what_was_not_gathered(inputs: dict[str, SeenInput] | None, statistic: str) -> None:
    """A statistic that nobody gathered is named, with the scheme and the operator."""
    with pytest.raises(ArgumentError, match=rf"gptq: .* {statistic} of the input of blk.0.attn_k.weight"):
        InputStatistics(inputs=inputs).get(statistic, "blk.0.attn_k.weight", "gptq")


def test_refuses_a_threshold_without_a_histogram() -> None:
    """An input without a histogram has no threshold."""
    with pytest.raises(ArgumentError, match="no histogram was kept"):
        SeenInput(4, histogram=False).threshold("mse")


def test_a_threshold_is_that_of_all_rows_so_far() -> None:
    """A threshold that was asked for early is not kept when more rows come."""
    seen = SeenInput(2, hessian=False)
    seen.update(np.array([[1.0, -2.0]], np.float32))
    assert seen.threshold("absmax") == seen.threshold("absmax") == 2.0
    seen.update(np.array([[3.0, 0.0]], np.float32))
    assert seen.threshold("absmax") == 3.0


def test_refuses_an_operator_that_was_not_run(statistics: InputStatistics) -> None:
    """The head's input is not in a calibration of the layers."""
    with pytest.raises(CalibrationError, match=HEAD):
        build(SCHEMES["awq-int4-g64"], CONFIG, WEIGHTS, statistics, head=True)
