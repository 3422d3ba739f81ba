"""How far predictions are from the float model's: against llama-perplexity's formulas, by plain loops."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8.errors import ShapeError
from q8a8_evaluation.divergence import divergences, summarize

if TYPE_CHECKING:
    from collections.abc import Sequence

CUTOFF = -16.0
"""llama-perplexity leaves out tokens whose ln p is not above this."""


def llama_perplexity(
    logits: Sequence[float], base: Sequence[float], token: int, cutoff: float
) -> tuple[float, bool, float]:
    """Compute what `log_softmax` of llama.cpp's perplexity.cpp adds for one prediction, in exact sums."""

    def log_softmax(row: Sequence[float]) -> list[float]:
        log_sum = math.log(math.fsum(math.exp(z - max(row)) for z in row))
        return [z - max(row) - log_sum for z in row]

    q, p = log_softmax(logits), log_softmax(base)
    kl = math.fsum(math.exp(a) * (a - b) for a, b in zip(p, q, strict=True) if a > cutoff)
    # Its loops keep the first of equal maxima.
    same = list(logits).index(max(logits)) == list(base).index(max(base))
    return kl, same, math.exp(q[token]) - math.exp(p[token])


@pytest.fixture(scope="module")
def rows() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return logits of 150 predictions, which is more than are widened at a time, some with equal maxima."""
    random = np.random.default_rng(8)
    base = (8 * random.standard_normal((150, 40))).astype(np.float32)
    logits = (base + random.standard_normal(base.shape)).astype(np.float32)
    base[::7, 3] = base[::7, 30] = base[::7].max(axis=1)
    logits[::11, 5] = logits[::11, 20] = logits[::11].max(axis=1)
    logits[4] = base[4]
    return logits, base, random.integers(0, 40, 150)


def test_formulas_of_llama_perplexity(rows: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """Each prediction's three numbers; llama.cpp's cutoff takes away what the tokens below it hold."""
    logits, base, targets = rows
    found = divergences(logits, base, targets)
    for row, (ours, theirs, target) in enumerate(zip(logits.tolist(), base.tolist(), targets, strict=True)):
        kl, same, change = llama_perplexity(ours, theirs, int(target), -math.inf)
        np.testing.assert_allclose(found[:, row], [kl, same, change], rtol=1e-12, atol=1e-14)
        cut = llama_perplexity(ours, theirs, int(target), CUTOFF)[0]
        # 40 tokens with p < e^-16, whose logarithms differ by less than 60 here.
        assert abs(kl - cut) < 40 * math.exp(CUTOFF) * 60
    assert found[0, 4] == 0
    assert found[1, 4] == 1
    assert (found[0] > -1e-12).all()
    assert 0 < found[1].mean() < 1


def test_summary(rows: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """Means over predictions, errors over windows of unequal length, the largest drop."""
    found = divergences(*rows)
    windows = [found[:, :40], found[:, 40:90], found[:, 90:]]
    summary = summarize(windows)
    counts = np.array([40, 50, 60])
    for estimate, row, scale in ((summary.kl, 0, 1), (summary.same_top, 1, 100), (summary.change, 2, 100)):
        mean = scale * found[row].mean()
        assert estimate.value == pytest.approx(mean, rel=1e-12)
        sums = np.array([scale * each[row].sum() for each in windows])
        expected = math.sqrt(3 / 2 * ((sums - mean * counts) ** 2).sum()) / 150
        assert estimate.error == pytest.approx(expected, rel=1e-12)
    assert summary.largest_kl == found[0].max()
    assert summary.largest_drop == -100 * found[2].min() > 0
    assert summarize([found[:, 4:5]]).largest_drop == 0
    assert summarize([found]).kl.error is None


def test_shapes() -> None:
    """Other shapes are refused."""
    x = np.zeros((2, 5), np.float32)
    for logits, base, targets in ((x, x[:1], [0, 0]), (x, x, [0]), (x[0], x[0], [0])):
        with pytest.raises(ShapeError):
            divergences(logits, base, np.array(targets))
