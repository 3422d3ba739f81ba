"""The search over α: the error against a plain computation, who wins, and ties."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8.errors import ShapeError
from q8a8.llama.families import LLAMA
from q8a8.methods.calibration import Calibration, Source, Statistics
from q8a8.methods.smooth_search import GRID, Candidate, reconstruction_error, search
from q8a8.methods.smoothquant import make_smoothing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    F32 = NDArray[np.float32]


def half(x: float) -> float:
    """Round to half precision, by Python's own struct."""
    value: float = struct.unpack("<e", struct.pack("<e", x))[0]
    return value


def single(x: float) -> float:
    """Round to single precision, by Python's own struct."""
    value: float = struct.unpack("<f", struct.pack("<f", x))[0]
    return value


def away(x: float) -> int:
    """Round to an integer, halves away from zero."""
    return int(math.copysign(math.floor(abs(x) + 0.5), x))


def quantized(values: Sequence[float]) -> list[tuple[float, list[int]]]:
    """Quantize a row as the specification's pseudocode says, number by number: scales and integers."""
    blocks = []
    for start in range(0, len(values), 32):
        block = [single(v) for v in values[start : start + 32]]
        amax = max(abs(v) for v in block)
        h = half(single(amax / 127))
        inverse = single(127 / amax) if h else 0.0
        blocks.append((h, [away(single(v * inverse)) for v in block]))
    return blocks


def plain_error(weights: Sequence[F32], rows: F32, s: F32) -> float:
    """Compute the error number by number: an oracle that shares no line with the reference."""
    total = 0.0
    for weight in weights:
        wrong = size = 0.0
        w_blocks = [
            quantized([single(v * f) for v, f in zip(row, s, strict=True)]) for row in weight.tolist()
        ]
        for x in rows.tolist():
            x_blocks = quantized([single(v / f) for v, f in zip(x, s, strict=True)])
            for w, blocks in zip(weight.tolist(), w_blocks, strict=True):
                got = 0.0
                for (dx, qx), (dw, qw) in zip(x_blocks, blocks, strict=True):
                    sumi = sum(a * b for a, b in zip(qx, qw, strict=True))
                    got = single(got + single(sumi * single(dx * dw)))
                wanted = math.fsum(a * b for a, b in zip(x, w, strict=True))
                wrong += (got - wanted) ** 2
                size += wanted**2
        total += wrong / size
    return total


def _data(seed: int) -> tuple[list[F32], F32]:
    rng = np.random.default_rng(seed)
    weights = [rng.standard_normal((rows, 64)).astype(np.float32) for rows in (3, 2)]
    x = rng.standard_normal((5, 64)).astype(np.float32)
    x[:, 11] *= 40
    return weights, x


@pytest.mark.parametrize("seed", [1, 2])
def test_error_by_hand(seed: int) -> None:
    """The error is the formula's, to what sums in another order in float64 can differ."""
    weights, rows = _data(seed)
    for s in (np.ones(64, np.float32), np.exp(np.linspace(-2, 2, 64)).astype(np.float32)):
        wanted = plain_error(weights, rows, s)
        # Relative: 64 terms of an exact output, 15 squares; the outputs' own cancellation is some 2^-50 of
        # their size, against an error of 2^-8 of it.
        assert reconstruction_error(weights, rows, s) == pytest.approx(wanted, rel=2.0**-36)


def test_the_oracle_tells_the_order() -> None:
    """The plain computation sees factors that are turned over, and another weight."""
    weights, rows = _data(1)
    s = np.exp(np.linspace(-2, 2, 64)).astype(np.float32)
    right = plain_error(weights, rows, s)
    assert reconstruction_error(weights, rows, np.reciprocal(s)) != pytest.approx(right, rel=1e-3)
    assert reconstruction_error(weights[:1], rows, s) != pytest.approx(right, rel=1e-3)


def test_exact_operators_have_no_error() -> None:
    """Integers with a largest of 127 quantize exactly, and a weight without outputs adds nothing."""
    rows = np.tile(np.arange(-64, 64, 4, dtype=np.float32), (3, 1))
    rows[:, 0] = 127
    zero = np.zeros((4, 32), np.float32)
    assert reconstruction_error([rows], rows, np.ones(32, np.float32)) == 0
    assert reconstruction_error([zero, rows], rows, np.ones(32, np.float32)) == 0
    assert reconstruction_error([zero], rows, np.ones(32, np.float32)) == 0


def test_least_error_wins() -> None:
    """Of all candidates the one of least error is taken, as an exhaustive comparison finds it."""
    weights, rows = _data(3)
    rng = np.random.default_rng(0)
    candidates = [Candidate(i / 10, np.exp(rng.normal(0, 1, 64)).astype(np.float32)) for i in range(6)]
    errors = [plain_error(weights, rows, candidate.factors) for candidate in candidates]
    assert search(weights, rows, candidates) is candidates[int(np.argmin(errors))]


def test_first_of_equals() -> None:
    """Ties go to the candidate that came first."""
    weights, rows = _data(3)
    same = [Candidate(alpha, np.full(64, 2.0, np.float32)) for alpha in (0.1, 0.2)]
    assert search(weights, rows, same) is same[0]


def test_no_rows() -> None:
    """Without rows there is nothing to compare."""
    weights, rows = _data(3)
    with pytest.raises(ShapeError, match="it kept none"):
        search(weights, rows[:0], [])


class Shape:
    """A model of one layer."""

    n_layers = 1
    linears: tuple[str, ...] = LLAMA.linears


def _model(rows: F32, weight: F32) -> tuple[dict[str, F32], Calibration]:
    names = ("attn_q", "attn_k", "attn_v", "ffn_gate", "ffn_up")
    weights = {f"blk.0.{name}.weight": weight for name in names}
    maximum = np.abs(rows).max(axis=0)
    statistics = {name: Statistics(maximum, maximum.astype(float), len(rows)) for name in weights}
    samples = {f"blk.0.{name}.weight": rows for name in ("attn_q", "ffn_gate")}
    numbers = np.arange(len(rows), dtype=np.uint64)
    return weights, Calibration("m", (Source("t", len(rows), 0, 1),), statistics, numbers, samples)


def test_a_model_that_needs_no_smoothing() -> None:
    """Where nothing is gained, nothing is smoothed: exact operators keep factors of 1, and have no α."""
    rows = np.tile(np.arange(-64, 64, 4, dtype=np.float32), (3, 1))
    rows[:, 0] = 127
    weights, calibration = _model(rows, rows)
    smoothing = make_smoothing(weights, Shape(), calibration, alpha="search")
    assert [group.alpha for group in smoothing.groups] == [None, None]
    assert all((group.factors == 1).all() for group in smoothing.groups)
    assert smoothing.provenance["grid"] == list(GRID)
    assert smoothing.provenance["rows"] == 3


def test_alpha_of_a_model() -> None:
    """The α found is the grid's best by the plain computation; the grid's order does not matter."""
    weights, rows = _data(4)
    model, calibration = _model(rows, weights[0])
    grid = (0.9, 0.2, 0.55)
    smoothing = make_smoothing(model, Shape(), calibration, alpha="search", grid=grid)
    x, w = np.abs(rows).max(axis=0).astype(float), np.abs(weights[0]).max(axis=0).astype(float)
    errors: dict[float | None, float] = {None: plain_error(weights[:1], rows, np.ones(64, np.float32))}
    errors |= {a: plain_error(weights[:1], rows, (x**a / w ** (1 - a)).astype(np.float32)) for a in grid}
    assert {group.alpha for group in smoothing.groups} == {min(errors, key=lambda a: errors[a])}
    assert smoothing.groups[0].alpha is not None


def test_ties_go_to_the_smaller_alpha() -> None:
    """Where max|X_j| max|W_j| = 1 for all j, every α gives the same factors: the smallest α wins."""
    rng = np.random.default_rng(6)
    power = 2.0 ** rng.integers(-6, 7, 32)
    rows = (rng.integers(-127, 128, (4, 32)) / 128 * power).astype(np.float32)
    rows[0] = power
    weight = (rng.standard_normal((4, 32)).clip(-1, 1) / power).astype(np.float32)
    weight[1] = 1 / power
    model, calibration = _model(rows, weight)
    smoothing = make_smoothing(model, Shape(), calibration, alpha="search", grid=(0.75, 0.25, 0.5))
    assert [group.alpha for group in smoothing.groups] == [0.25, 0.25]
