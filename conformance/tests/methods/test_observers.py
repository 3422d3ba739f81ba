"""Calibration observers: exact merging, thresholds against brute force and scipy, bounded memory."""

from __future__ import annotations

import json
import math
import tracemalloc
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats  # type: ignore[import-untyped]  # scipy comes without types

from q8a8 import errors
from q8a8.llama.config import Config
from q8a8.llama.model import Model
from q8a8.llama.tensors import expected_shapes
from q8a8.methods.archive import ArchiveError, write_archive
from q8a8.methods.histogram import Histogram
from q8a8.methods.observers import (
    METHODS,
    SAMPLES,
    Method,
    Observer,
    divergences,
    get_method,
    observe_model,
    squared_errors,
)

if TYPE_CHECKING:
    import random

    from numpy.typing import NDArray

    F32 = NDArray[np.float32]

VECTORS = json.loads((Path(__file__).parent / "vectors" / "observers.json").read_text("utf-8"))
FLOATS = st.integers(0, 0xFF7FFFFF).filter(lambda b: b & 0x7FFFFFFF < 0x7F800000)


def from_bits(patterns: list[int]) -> F32:
    """Make float32 numbers of their bits."""
    return np.array(patterns, np.uint32).view(np.float32)


def observed(x: F32, bins: int = 256) -> Histogram:
    """Make a histogram of an array."""
    histogram = Histogram(bins)
    histogram.observe(x)
    return histogram


def state(histogram: Histogram) -> tuple[int, float, list[int]]:
    """Return everything that a histogram knows."""
    return histogram.exponent, histogram.amax, histogram.counts.tolist()


def by_fractions(x: F32, bins: int) -> tuple[int, float, list[int]]:
    """Work out the state as OBS-1 and OBS-2 say, in fractions."""
    magnitudes = [abs(Fraction(v)) for v in x.reshape(-1).tolist()]
    amax = max(magnitudes, default=Fraction(0))
    exponent = -149
    while amax >= bins * Fraction(2) ** exponent:
        exponent += 1
    counts = [0] * bins
    for v in magnitudes:
        counts[math.floor(v / Fraction(2) ** exponent)] += 1
    return exponent, float(amax), counts


@pytest.mark.parametrize("bins", [256, 1024])
@given(patterns=st.lists(FLOATS, max_size=30))
def test_counts(patterns: list[int], bins: int) -> None:
    """OBS-1, OBS-2: float32 of any bits, in the bins that fractions put them in."""
    x = from_bits(patterns)
    assert state(observed(x, bins)) == by_fractions(x, bins)


def test_edges_of_bins() -> None:
    """OBS-1, OBS-2: multiples of the width and both neighbours, powers of two as amax, zeros, subnormals."""
    for top in (1.0, 127.99999, 128.0, 2.0**-126, 3 * 2.0**-149, 2.0**-149, 0.0, 3.4028234663852886e38):
        grid = (top * np.arange(257) / 256).astype(np.float32)
        x = np.concatenate([grid, np.nextafter(grid, np.float32(0)), -grid, [np.float32(-0.0)]])
        assert state(observed(x)) == by_fractions(x, 256)
        mine = observed(x)
        assert mine.used == int(np.flatnonzero(mine.counts)[-1]) + 1
        assert mine.width == 2.0**mine.exponent
        assert mine.elements == len(x)


@given(
    parts=st.lists(st.lists(FLOATS, max_size=8), min_size=1, max_size=6),
    order=st.randoms(use_true_random=False),
)
def test_merging(parts: list[list[int]], order: random.Random) -> None:
    """OBS-3: however data are cut, ordered and merged, the state is that of one pass over all."""
    arrays = [from_bits(part) for part in parts]
    whole = state(observed(np.concatenate(arrays)))
    streamed = Histogram(256)
    for x in arrays:
        streamed.observe(x)
    histograms = [observed(x) for x in arrays]
    order.shuffle(histograms)
    while len(histograms) > 1:
        last = histograms.pop()
        before = state(last)
        histograms[order.randrange(len(histograms))].merge(last)
        assert state(last) == before
    assert state(streamed) == whole == state(histograms[0])


def test_many_elements_at_once() -> None:
    """Arrays beyond the working memory's size, and strided ones, count as their parts do."""
    x = np.random.default_rng(1).standard_normal((3, 70_001)).astype(np.float32)
    parts = Histogram(512)
    for row in x:
        parts.merge(observed(row, 512))
    assert state(observed(x, 512)) == state(parts) == state(observed(x.T[::-1], 512))


@pytest.mark.parametrize("samples", SAMPLES)
def test_samples_in_bounded_memory(samples: int) -> None:
    """OBS-3, OBS-9: hundreds of samples take the memory of one, in one pass or merged."""
    rng = np.random.default_rng(2)
    scale = np.where(np.arange(576) % 97 == 0, 40, 1).astype(np.float32)

    def sample() -> F32:
        return np.asarray(rng.standard_normal((8, 576)).astype(np.float32) * scale)

    one, eight = Observer(), [Observer() for _ in range(8)]
    tracemalloc.start()
    for index in range(samples):
        x = sample()
        one.observe(x)
        eight[index % 8].observe(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Nine histograms, one of them twice while its bins grow, and some copies of one sample of 18 KB.
    assert peak < 10 * 8 * 4096 + 20 * 8 * 576 * 4
    for other in eight[1:]:
        eight[0].merge(other)
    assert one.samples == eight[0].samples == samples
    assert state(one.histogram) == state(eight[0].histogram)
    for method in METHODS:
        assert one.threshold(method) == eight[0].threshold(method)
    assert one.histogram.counts.nbytes == 8 * 4096


@pytest.mark.parametrize("vector", VECTORS["thresholds"], ids=lambda v: v["why"][:40])
def test_vectors(vector: dict[str, Any]) -> None:
    """Thresholds worked out by hand, each with its reason."""
    values = [np.full(count, value, np.float32) for value, count in vector["values"]]
    observer = Observer(vector["bins"])
    observer.observe(np.concatenate(values))
    assert observer.threshold(Method("own", **vector["method"])) == float.fromhex(vector["threshold"])


def distributions() -> list[F32]:
    """Make data: gaussian, heavy-tailed, one-sided, with outliers, on a grid, uniform, few values."""
    rng = np.random.default_rng(3)
    gaussian = rng.standard_normal(20_000)
    return [
        array.astype(np.float32)
        for array in (
            gaussian,
            rng.laplace(size=20_000),
            np.maximum(gaussian, 0),
            np.append(gaussian, [60.0, -75.0, 80.0]),
            rng.integers(-300, 301, 5000) / 64,
            rng.uniform(-1, 1, 20_000),
            rng.standard_t(2, 5000),
            np.array([1e-3, 1.0, 1.0, 0.5]),
        )
    ]


@pytest.mark.parametrize("percentile", ["50", "99", "99.9", "99.99", "100"])
def test_percentile(percentile: str) -> None:
    """OBS-5: T is the end of the bin of numpy's percentile, so at least p percent lie below or at it."""
    for x in distributions():
        observer = Observer(1024)
        observer.observe(x)
        t, width = (
            observer.threshold(Method("p", "percentile", percentile=percentile)),
            observer.histogram.width,
        )
        # (numpy's inverted_cdf is off by one element where float64 rounds p/100·N up: 99.9 percent of 20000.)
        exact = float(np.sort(np.abs(x))[math.ceil(Fraction(percentile) * len(x) / 100) - 1])
        assert t == min((math.floor(exact / width) + 1) * width, float(np.abs(x).max()))
        assert 100 * int((np.abs(x) <= t).sum()) >= Fraction(percentile) * len(x)


def brute_force_squares(counts: NDArray[np.int64], bits: int) -> list[int]:
    """Compute OBS-6 by trying every level for every bin, in Python's integers."""
    largest = (1 << (bits - 1)) - 1
    totals = []
    for i in range(largest + 1, len(counts) + 1):
        levels = 2 * i * np.arange(largest + 1)
        centers = largest * (2 * np.arange(len(counts)) + 1)
        nearest = np.abs(centers[:, None] - levels).min(axis=1)
        totals.append(sum(int(c) * int(e) ** 2 for c, e in zip(counts, nearest, strict=True)))
    return totals


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_squared_errors(bits: int) -> None:
    """OBS-6: exact sums, equal to those of trying every level; huge counts do not overflow."""
    method = Method("own", "mse", bits=bits)
    for x in distributions()[:5]:
        seen = observed(x)
        counts = seen.counts[: seen.used]
        totals = brute_force_squares(counts, bits)
        assert squared_errors(counts, method) == totals
        observer = Observer(256)
        observer.observe(x)
        last = len(totals) - 1 - totals[::-1].index(min(totals))
        wanted = (last + (1 << (bits - 1))) * seen.width
        assert observer.threshold(method) == min(wanted, seen.amax)
        assert squared_errors(counts << 40, method) == [total << 40 for total in totals]
    worst = np.full(4096, (1 << 59) + 12345, np.int64)
    first = squared_errors(worst, METHODS["mse"])[0]
    # By hand: candidate 128 has 127 levels of 256 units; the sum over centers is that over their distances.
    distances = [
        min(127 * 256, 256 * round(127 * (2 * j + 1) / 256)) - 127 * (2 * j + 1) for j in range(4096)
    ]
    assert first == ((1 << 59) + 12345) * sum(d * d for d in distances)


def test_mse_is_best_for_the_data() -> None:
    """OBS-6: on the data themselves, no candidate has a root mean square error smaller by more than a bin."""
    for x in distributions():
        observer = Observer(512)
        observer.observe(x)
        width, exact = observer.histogram.width, x.astype(np.float64)

        def error(t: float, exact: NDArray[np.float64] = exact) -> float:
            step = t / 127
            return math.sqrt(np.mean((np.clip(np.rint(exact / step), -127, 127) * step - exact) ** 2))

        best = min(error(i * width) for i in range(128, observer.histogram.used + 1))
        # min(.., amax) moves T by less than a bin, and each of its levels by no more.
        assert error(observer.threshold("mse")) <= best + 2 * width


def by_scipy(counts: NDArray[np.int64], bits: int, *, second: bool) -> list[tuple[float, float]]:
    """Compute OBS-7 as NVIDIA's calibrator is written, bin by bin, with scipy; and the size of each sum."""
    c = [int(v) for v in counts]
    if second:
        c[0] = c[1]
    levels, found = 1 << (bits - 1), []
    for i in range(levels, len(c) + 1):
        p = c[:i]
        p[-1] += sum(c[i:])
        members: dict[int, list[int]] = {}
        for j in range(i):
            if c[j]:
                members.setdefault(j * levels // i, []).append(j)
        q = np.zeros(i)
        for own in members.values():
            for j in own:
                q[j] = sum(c[k] for k in own) / len(own)
        with np.errstate(divide="ignore", invalid="ignore"):
            value = float(stats.entropy(p, q)) if q.any() else np.inf
            some = np.array(p) > 0
            share, other = np.array(p)[some] / sum(p), q[some] / max(q.sum(), 1)
            size = float(np.abs(share * np.log(share / other)).sum())
        found.append((value, size))
    return found


@pytest.mark.parametrize("second", [True, False], ids=["second", "counted"])
@pytest.mark.parametrize("bits", [4, 8])
def test_divergences(bits: int, second: bool) -> None:
    """OBS-7: scipy's divergences within the rounding of float64, and the same candidate."""
    method = Method("own", "entropy", bits=bits, first_bin="second" if second else "counted")
    for x in distributions():
        seen = observed(x)
        counts = seen.counts[: seen.used]
        mine, theirs = divergences(counts, method), by_scipy(counts, bits, second=second)
        for value, (other, size) in zip(mine, theirs, strict=True):
            assert within(value, other, size, len(counts))
        observer = Observer(256)
        observer.observe(x)
        values = [value for value, _ in theirs]
        last = len(values) - 1 - values[::-1].index(min(values))
        t = min((last + (1 << (bits - 1))) * seen.width, seen.amax)
        assert observer.threshold(method) == t


def within(value: float, other: float, size: float, n: int) -> bool:
    """Judge two float64 evaluations of a divergence: 2·(n + 8)·2^-53·(1 + sum of the terms' magnitudes)."""
    return value == other or abs(value - other) <= 2 * (n + 8) * 2.0**-53 * (1 + size)


def test_the_judge_of_divergences() -> None:
    """The bound on rounding accepts its edge and refuses what is just outside; infinities only equal ones."""
    edge = 2 * 16 * 2.0**-53 * 3
    assert within(0.0, edge, 2.0, 8)
    assert not within(0.0, np.nextafter(edge, 1), 2.0, 8)
    assert within(np.inf, np.inf, np.inf, 8)
    assert not within(1.0, np.inf, 1.0, 8)


def test_outliers_are_clipped() -> None:
    """What the methods are for: a few outliers do not set the scale of all but absmax."""
    x = distributions()[3]
    observer = Observer()
    observer.observe(x)
    t = {name: observer.threshold(name) for name in METHODS}
    assert t["absmax"] == t["percentile-99.999"] == 80
    assert max(t["percentile-99.9"], t["mse"], t["entropy"]) < 80


def test_almost_nothing() -> None:
    """OBS-8: a few subnormal steps leave no candidates: T is amax, of zeros 0; nothing at all is refused."""
    for value in (0.0, 2.0**-149, 100 * 2.0**-149):
        observer = Observer(256)
        observer.observe(np.array([value, -value], np.float32))
        for method in METHODS:
            assert observer.threshold(method) == value
    for fresh in (Observer(), Observer(256)):
        fresh.observe(np.zeros((0, 3), np.float32))
        with pytest.raises(errors.ArgumentError, match="nothing was observed"):
            fresh.threshold()


def test_observing_a_model() -> None:
    """OBS-9: every linear operator of a model is observed, a sample for each token sequence."""
    config = Config(1, 2, 1, 8, 4, 8, 16, 1e-5)
    rng = np.random.default_rng(4)
    weights = {k: rng.standard_normal(s).astype(np.float32) for k, s in expected_shapes(config).items()}
    model = Model(config, weights)
    inputs: dict[str, list[F32]] = {}
    samples = [rng.integers(0, 16, 5), rng.integers(0, 16, 3)]
    for tokens in samples:
        model.forward(tokens, observe=lambda name, x: inputs.setdefault(name, []).append(x.copy()))
    some = ["output.weight", "blk.0.ffn_up.weight"]
    assert sorted(observe_model(model, samples, names=some)) == sorted(some)
    assert list(observe_model(model, samples, names=some[1:])) == some[1:]
    seen = observe_model(model, samples, bins=512)
    assert [*seen, "output.weight"] == list(inputs)
    for name, observer in seen.items():
        assert observer.samples == 2
        assert state(observer.histogram) == state(observed(np.concatenate(inputs[name]), 512))


def test_parts_of_a_sample() -> None:
    """A sample may come in parts."""
    observer = Observer(256)
    observer.observe(np.ones((2, 3), np.float32))
    observer.observe(np.ones((2, 3), np.float32), samples=0)
    assert (observer.samples, observer.histogram.elements) == (1, 12)


def test_refusals() -> None:
    """NaN, infinities, other dtypes and bins, unknown methods, impossible numbers are refused by name."""
    observer = Observer(256)
    bad = np.ones((2, 3), np.float32)
    bad[1, 0] = np.inf
    with pytest.raises(errors.DomainError, match="x: row 1, block 0, element 0: value inf"):
        observer.observe(bad)
    with pytest.raises(errors.DtypeError, match="x: expected float32, got float64"):
        observer.observe(np.ones(3))  # type: ignore[arg-type]  # the mistake under test
    assert (observer.samples, observer.histogram.elements) == (0, 0)
    with pytest.raises(errors.ArgumentError, match="other: expected 256 bins, got 512"):
        observer.merge(Observer(512))
    for bins in (0, 300, 8192):
        with pytest.raises(errors.ArgumentError, match=f"bins: expected 256, .*, got {bins}"):
            Histogram(bins)
    with pytest.raises(
        errors.UnknownNameError, match="no calibration method is called 'max'; there are absmax"
    ):
        get_method("max")
    for bits in (1, 9):
        with pytest.raises(errors.ArgumentError, match=f"bits: expected 2 to 8, got {bits}"):
            Method("own", "mse", bits=bits)
    for percentile in ("0", "100.1", "-1"):
        with pytest.raises(errors.ArgumentError, match=f"at most 100, got {percentile}"):
            Method("own", "percentile", percentile=percentile)


def test_methods_are_data() -> None:
    """The table holds the methods under their own names, each with its source."""
    for name, method in METHODS.items():
        assert method.name == name
        assert method.source
        assert get_method(name) is get_method(method) is method


def test_saved_counts_are_the_same(tmp_path: Path) -> None:
    """OBS-3: saved and loaded observers merge into that of all data; numbers that do not fit are refused."""
    x = np.random.default_rng(3).standard_normal(4000).astype(np.float32)
    parts = [Observer(512), Observer(512), Observer(512)]
    for part, data in zip(parts, (x[:1000], 9 * x[1000:], np.zeros(0, np.float32)), strict=True):
        part.observe(data)
        part.save(tmp_path / "part.npz")
        loaded = Observer.load(tmp_path / "part.npz")
        assert np.array_equal(loaded.histogram.counts, part.histogram.counts)
        assert (loaded.histogram.exponent, loaded.histogram.amax) == (
            part.histogram.exponent,
            part.histogram.amax,
        )
        assert loaded.samples == part.samples
        if part is not parts[0]:
            parts[0].merge(loaded)
    whole = Observer(512)
    whole.observe(np.concatenate([x[:1000], 9 * x[1000:]]), samples=3)
    assert np.array_equal(parts[0].histogram.counts, whole.histogram.counts)
    for method in ("absmax", "mse", "entropy"):
        assert parts[0].threshold(method) == whole.threshold(method)
    good = {"exponent": whole.histogram.exponent, "amax": whole.histogram.amax, "samples": 3}
    counts = whole.histogram.counts
    for known, array in (
        (good | {"exponent": 3}, counts),
        (good | {"amax": good["amax"] * 8}, counts),
        (good | {"amax": 0.1}, counts),
        (good, -counts),
        (good, counts[:100]),
    ):
        write_archive(tmp_path / "bad.npz", "q8a8-histogram", 1, known, {"counts": array})
        with pytest.raises(ArchiveError, match="counts"):
            Observer.load(tmp_path / "bad.npz")
