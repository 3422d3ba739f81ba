"""SmoothQuant's factors against exact roots, their folding, and which groups of weights they go into."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8.errors import ArgumentError, DomainError, DtypeError, ShapeError, UnknownNameError
from q8a8.llama.families import FAMILIES, LLAMA
from q8a8.methods.calibration import Calibration, CalibrationError, Source, Statistics
from q8a8.methods.smoothing import SmoothingError
from q8a8.methods.smoothquant import (
    FLOOR,
    SmoothedGroup,
    column_maxima,
    fold_groups,
    make_smoothing,
    smoothing_factors,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    F32 = NDArray[np.float32]

ALPHAS = [(p, 4) for p in range(5)] + [(3, 10), (17, 20)]
"""α as fractions p / q."""


def f32(*values: float) -> F32:
    """Make a float32 vector."""
    return np.array(values, np.float32)


def is_nearest(s: float, x: float, w: float, p: int, q: int) -> bool:
    """Return whether s is (x^(p/q) / w^(1 − p/q)) rounded to float32, decided in exact fractions.

    s is nearest to the root r if it is between the middles to its neighbours, lower <= r <= upper, that is
    lower^q <= x^p / w^(q−p) <= upper^q. The middles are moved out by 2^-25 of the gap between neighbours,
    which is at least 2^-24 of s. That makes 2^-49, sixteen of float64's roundings, for two powers, whose
    exponents are rounded themselves, and a quotient.
    """
    here = np.float32(s)
    below, above = (Fraction(float(np.nextafter(here, np.float32(to)))) for to in (0, np.inf))
    exact, slack = Fraction(s), Fraction(1, 1 << 25)
    lower = exact - (exact - below) * (Fraction(1, 2) + slack)
    upper = exact + (above - exact) * (Fraction(1, 2) + slack)
    power = Fraction(x) ** p / max(Fraction(w), Fraction(FLOOR)) ** (q - p)
    return lower**q <= power <= upper**q


def chosen_maxima() -> tuple[F32, F32]:
    """Return pairs of maxima: ordinary and equal ones, powers of two, and both ends of each other's range."""
    rng = np.random.default_rng(4)
    x = np.exp(rng.uniform(-6, 8, 200)).astype(np.float32)
    w = np.exp(rng.uniform(-6, 3, 200)).astype(np.float32)
    edges = f32(1, 1, 4, 0.25, 3390, 2.0**-20, 1e-3, 65504, 1.1754944e-38)
    pairs = f32(1, 4, 1, 1e-5, 0.01, 2.0**10, 1e-3, 0.5, 3e38)
    return np.concatenate([x, edges]), np.concatenate([w, pairs])


@pytest.mark.parametrize(("p", "q"), ALPHAS)
def test_factors_are_the_formula(p: int, q: int) -> None:
    """s_j = max|X_j|^α / max|W_j|^(1−α), clamped, is the nearest float32, by exact fractions."""
    x, w = chosen_maxima()
    s = smoothing_factors(x, w, p / q)
    assert s.dtype == np.float32
    for j, factor in enumerate(s.tolist()):
        if factor == np.float32(FLOOR):
            assert Fraction(float(x[j])) ** p / max(Fraction(float(w[j])), Fraction(FLOOR)) ** (
                q - p
            ) <= Fraction(FLOOR) ** q * (1 + Fraction(q, 1 << 24))
        else:
            assert is_nearest(factor, float(x[j]), float(w[j]), p, q), (x[j], w[j])


def test_the_oracle_rejects_neighbours() -> None:
    """The check of the formula rejects the next float32 on either side, and the formula turned over."""
    assert is_nearest(float(np.float32(2**0.5)), 2, 1, 1, 2)
    for to in (0, 9):
        assert not is_nearest(float(np.nextafter(np.float32(2**0.5), np.float32(to))), 2, 1, 1, 2)
    assert not is_nearest(float(np.float32(0.5**0.5)), 2, 1, 1, 2)
    assert is_nearest(8.0, 4, 0.25, 3, 4) is False
    assert is_nearest(4.0, 4, 0.25, 3, 4)  # 4^(3/4) / 4^(−1/4)


def test_by_hand() -> None:
    """Square roots that come out even, as the paper's figure 5 has them: X 16 and 9 over W 1 and 4."""
    assert smoothing_factors(f32(16, 9, 2), f32(1, 4, 8), 0.5).tolist() == [4, 1.5, 0.5]
    assert smoothing_factors(f32(16, 9), f32(2, 4), 1.0).tolist() == [16, 9]
    assert smoothing_factors(f32(16, 9), f32(2, 4), 0.0).tolist() == [0.5, 0.25]


def test_clamps() -> None:
    """max|W_j| and s_j are at least 10⁻⁵, as in the authors' code."""
    floor = float(np.float32(1e-5))
    # A weight below the clamp counts as 10⁻⁵: 1 / 10⁻⁵.
    assert smoothing_factors(f32(1, 1, 1), f32(0, 1e-30, 9e-6), 0.0).tolist() == [float(np.float32(1e5))] * 3
    # An activation that is nearly dead: 10⁻¹² to the power of 1/2 is 10⁻⁶.
    assert smoothing_factors(f32(1e-12, 1e-38), f32(1, 1), 0.5).tolist() == [floor, floor]
    assert smoothing_factors(f32(1e-6), f32(1), 1.0).tolist() == [floor]


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_dead_channels(alpha: float) -> None:
    """A channel that no token used keeps its weights; one without weights has a finite factor."""
    assert smoothing_factors(f32(0, 0, -0.0), f32(1, 0, 3e38), alpha).tolist() == [1, 1, 1]
    s = smoothing_factors(f32(3.4e38, 4), f32(0, 0), alpha)
    assert np.isfinite(s).all()
    assert (s > 0).all()


def test_power_of_two() -> None:
    """Factors become the nearest power of two by ratio; exactly between, at √2, the larger."""
    s = smoothing_factors(
        f32(1, 1.41, 1.42, 2, 2.82, 2.83, 0, 1e-9), f32(*[1] * 8), 1.0, rounding="power-of-two"
    )
    assert s.tolist() == [1, 1, 2, 2, 2, 4, 1, 2.0**-17]
    nearest = smoothing_factors(*chosen_maxima(), 0.5)
    rounded = smoothing_factors(*chosen_maxima(), 0.5, rounding="power-of-two")
    mantissas, _ = np.frexp(rounded)
    assert (mantissas == 0.5).all()
    assert np.abs(np.log2(rounded.astype(float) / nearest)).max() <= 0.5 + 2.0**-20


def test_outliers_meet_in_the_middle() -> None:
    """With α = 1/2 the largest activation and weight of each channel become equal (the paper's section 4)."""
    x, w = chosen_maxima()
    s = smoothing_factors(x, w, 0.5).astype(float)
    clamped = (w < FLOOR) | (s <= np.float32(FLOOR))
    # x / s and w · s differ by what is rounded of s, twice: 2^-23 of them.
    assert (np.abs(x / s - w * s) <= 2.0**-22 * (w * s))[~clamped].all()


@pytest.mark.parametrize(
    ("x", "w", "alpha", "error", "message"),
    [
        (f32(1), f32(1), 1.1, ArgumentError, "alpha: expected 0 to 1, got 1.1"),
        (f32(1), f32(1), -0.1, ArgumentError, "alpha: expected 0 to 1, got -0.1"),
        (f32(1), f32(1), float("nan"), ArgumentError, "alpha: expected 0 to 1, got nan"),
        (f32(1), f32(1, 2), 0.5, ShapeError, r"got shapes \(1,\), \(2,\)"),
        (f32(1)[None], f32(1)[None], 0.5, ShapeError, "vectors of one length"),
        (np.ones(1), f32(1), 0.5, DtypeError, "x_max: expected float32, got float64"),
        (f32(1), np.ones(1), 0.5, DtypeError, "w_max: expected float32, got float64"),
        (f32(1, np.nan), f32(1, 1), 0.5, DomainError, "x_max: row 0, block 0, element 1"),
        (f32(1, 1), f32(np.inf, 1), 0.5, DomainError, "w_max: row 0, block 0, element 0"),
        (f32(1, -1), f32(1, 1), 0.5, ArgumentError, "x_max: channel 1: expected 0 or more, got -1.0"),
        (f32(1, 1), f32(-2, 1), 0.5, ArgumentError, "w_max: channel 0: expected 0 or more, got -2.0"),
    ],
)
def test_factors_refused(x: F32, w: F32, alpha: float, error: type[Exception], message: str) -> None:
    """What is no α and what are no maxima is refused, with the place."""
    with pytest.raises(error, match=message):
        smoothing_factors(x, w, alpha)


def test_unknown_rounding() -> None:
    """Another rounding is refused with the two that there are."""
    with pytest.raises(UnknownNameError, match="'up'; there are nearest, power-of-two"):
        smoothing_factors(f32(1), f32(1), 0.5, rounding="up")  # type: ignore[arg-type] # that is the test


def test_column_maxima() -> None:
    """The joint maximum is over all rows of all weights, of either sign, for each input channel."""
    q = np.array([[1, -5, 0, -0.0], [-2, 3, 0, 0]], np.float32)
    k = np.array([[-7, 4, 0, 0.0]], np.float32)
    assert column_maxima([q, k]).tolist() == [7, 5, 0, 0]
    assert column_maxima([q]).tolist() == [2, 5, 0, 0]
    assert column_maxima([k, np.empty((0, 4), np.float32)]).tolist() == [7, 4, 0, 0]


def test_column_maxima_refused() -> None:
    """No weights, weights of different width, and NaN are refused."""
    with pytest.raises(ShapeError, match="at least one"):
        column_maxima([])
    with pytest.raises(ShapeError, match=r"expected shape \[n, 3\], got \(2, 4\)"):
        column_maxima([np.ones((2, 3), np.float32), np.ones((2, 4), np.float32)])
    with pytest.raises(DomainError, match="row 1, block 0, element 2"):
        column_maxima([np.array([[1, 1, 1], [1, 1, np.nan]], np.float32)])


def test_the_documents_axis_is_wrong() -> None:
    """The snippet of document 000 reduces over channels: one number a token, which is no factor at all."""
    x = np.array([[1, 100, -300], [2, 50, 10]], np.float32)
    per_channel = np.abs(x).max(axis=0)
    assert per_channel.tolist() == [2, 100, 300]
    assert x.max(axis=-1).tolist() == [100, 50]  # has as many entries as there are tokens, and no magnitudes
    weight = np.ones((4, 3), np.float32)
    with pytest.raises(ShapeError):
        smoothing_factors(x.max(axis=-1), column_maxima([weight]), 0.5)


def test_groups() -> None:
    """Which weights share factors, where those go, and down before the up that it changes."""
    attention, forward = fold_groups(1)
    assert attention.name == "blk.0.attn_norm"
    assert attention.multiplied == tuple(f"blk.0.attn_{n}.weight" for n in "qkv")
    assert attention.divided == ("blk.0.attn_norm.weight", "blk.0.attn_norm.bias")
    assert forward.name == "blk.0.ffn_norm"
    assert forward.multiplied == ("blk.0.ffn_gate.weight", "blk.0.ffn_up.weight")
    assert forward.divided == ("blk.0.ffn_norm.weight", "blk.0.ffn_norm.bias")
    names = [group.name for group in fold_groups(2, fold_down=True)]
    assert names == [f"blk.{i}.{n}" for i in (0, 1) for n in ("ffn_down", "attn_norm", "ffn_norm")]
    down = fold_groups(1, fold_down=True)[0]
    assert down.multiplied == ("blk.0.ffn_down.weight",)
    assert down.divided == ("blk.0.ffn_up.weight", "blk.0.ffn_up.bias")
    with pytest.raises(SmoothingError, match="fold_down: gate and up are one matrix"):
        fold_groups(1, fold_down=True, linears=FAMILIES["phi3"].linears)


class Shape:
    """A model of one layer."""

    n_layers = 1
    linears: tuple[str, ...] = LLAMA.linears


def small_model(rng: np.random.Generator) -> dict[str, F32]:
    """Make the weights of one layer, 64 channels and 96 between gate and down."""
    shapes = {"attn_q": (64, 64), "attn_k": (32, 64), "attn_v": (32, 64), "attn_output": (64, 64)}
    shapes |= {"ffn_gate": (96, 64), "ffn_up": (96, 64), "ffn_down": (64, 96)}
    weights = {
        f"blk.0.{name}.weight": rng.standard_normal(shape).astype(np.float32)
        for name, shape in shapes.items()
    }
    for name in ("attn_norm", "ffn_norm"):
        weights[f"blk.0.{name}.weight"] = rng.uniform(0.5, 2, 64).astype(np.float32)
    return weights


def small_calibration(rng: np.random.Generator, rows: int = 16) -> Calibration:
    """Make the calibration of such a layer, with an outlier in every input."""
    samples = {}
    for name, width in (("attn_q", 64), ("attn_output", 64), ("ffn_gate", 64), ("ffn_down", 96)):
        x = rng.standard_normal((rows, width)).astype(np.float32)
        x[:, 7] *= 50
        samples[f"blk.0.{name}.weight"] = x
    same = {"attn_k": "attn_q", "attn_v": "attn_q", "ffn_up": "ffn_gate"}
    statistics = {}
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        x = np.abs(samples[f"blk.0.{same.get(name, name)}.weight"])
        statistics[f"blk.0.{name}.weight"] = Statistics(x.max(axis=0), x.sum(axis=0, dtype=float), rows)
    numbers = np.arange(rows, dtype=np.uint64)
    return Calibration("sha", (Source("text", rows, 0, 1),), statistics, numbers, samples)


def test_whole_model() -> None:
    """The factors of a model are the formula's, from joint maxima; gate's and up's see the divided up."""
    rng = np.random.default_rng(5)
    weights, calibration = small_model(rng), small_calibration(rng)
    seen: list[SmoothedGroup] = []
    smoothing = make_smoothing(
        weights, Shape(), calibration, alpha=0.75, fold_down=True, progress=seen.append
    )
    down, attention, forward = smoothing.groups
    assert seen == [down, attention, forward]
    assert [group.alpha for group in smoothing.groups] == [0.75] * 3
    w = {name.split(".")[2]: np.abs(weight.astype(float)) for name, weight in weights.items()}
    x = {name.split(".")[2]: calibration[name].maximum.astype(float) for name in calibration.names}
    s_down = x["ffn_down"] ** 0.75 / w["ffn_down"].max(axis=0) ** 0.25
    joint = np.vstack([w["attn_q"], w["attn_k"], w["attn_v"]]).max(axis=0)
    s_attention = x["attn_q"] ** 0.75 / joint**0.25
    joint = np.vstack([w["ffn_gate"], w["ffn_up"] / s_down[:, None]]).max(axis=0)
    s_forward = x["ffn_gate"] ** 0.75 / joint**0.25
    for group, wanted in ((down, s_down), (attention, s_attention), (forward, s_forward)):
        # One rounding of the factor; in s_forward two more, of s_down and the quotient, to the power of 1/4.
        assert (np.abs(group.factors - wanted) <= 2.0**-23 * wanted).all()
    assert smoothing.provenance == {
        "model_sha256": "sha",
        "alpha": 0.75,
        "fold_down": True,
        "rounding": "nearest",
        "texts": ["text"],
        "tokens": 16,
    }


def test_weights_are_read_once() -> None:
    """Each weight is asked for once, group by group: a file's tensors can be read one after the other."""

    class Reader(dict[str, "F32"]):
        """Record the names that are looked up."""

        asked: list[str] = []  # noqa: RUF012 (one reader, one list)

        def __getitem__(self, name: str) -> F32:
            self.asked.append(name.split(".")[2])
            return super().__getitem__(name)

    rng = np.random.default_rng(5)
    reader = Reader(small_model(rng))
    make_smoothing(reader, Shape(), small_calibration(rng), fold_down=True)
    assert reader.asked == ["ffn_down", "attn_q", "attn_k", "attn_v", "ffn_gate", "ffn_up"]


def test_search_needs_rows_and_operators() -> None:
    """A search without rows, and any smoothing of an unknown operator, are refused."""
    rng = np.random.default_rng(5)
    weights, calibration = small_model(rng), small_calibration(rng, rows=4)
    empty = {name: rows[:0] for name, rows in calibration.samples.items()}
    bare = Calibration("sha", calibration.sources, calibration.statistics, calibration.numbers[:0], empty)
    with pytest.raises(ShapeError, match="rows: a search needs rows"):
        make_smoothing(weights, Shape(), bare, alpha="search")
    unknown = Calibration("sha", (), {}, calibration.numbers, {})
    with pytest.raises(CalibrationError, match=r"input of 'blk\.0\.attn_q\.weight'"):
        make_smoothing(weights, Shape(), unknown)
