"""Log-likelihoods of tokens: against decimal arithmetic, and which predictions of a window count."""

from __future__ import annotations

from decimal import Decimal, localcontext
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from q8a8.errors import DomainError, ShapeError
from q8a8_evaluation.likelihood import (
    CHUNK,
    Count,
    first_counted,
    negative_log_likelihoods,
    window_likelihoods,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def _exact(row: Sequence[float], target: int) -> float:
    """Compute ln Σ exp(z) − z_target with 120 digits."""
    with localcontext() as context:
        context.prec = 120
        numbers = [Decimal(float(z)) for z in row]
        # Exact with so many digits; exp alone would leave Decimal's range.
        largest = max(numbers)
        return float(sum(((z - largest).exp() for z in numbers), Decimal(0)).ln() + largest - numbers[target])


@pytest.mark.parametrize(
    "row",
    [
        [0.0, 0.0, 0.0, 0.0],
        [1.0, -2.5, 3.25, 0.5],
        [88.7, 88.7, -88.7, 0.0],
        [3.0e38, -3.0e38, 0.0, 3.0e38],
        [-700.0, -701.0, -703.0, -700.5],
        [1e-40, -0.0, 0.0, -1e-40],
    ],
)
def test_against_decimal(row: list[float]) -> None:
    """Every target of rows large and small, to 8 units of float64's last place.

    Shifted numbers are exact or vanish beside the others; exp and log are within one unit each, a sum of four
    within three, so that 8 · 2^-53 of max(nll, 1) is more than all of them together.
    """
    logits = np.array([row] * 4, np.float32)
    found = negative_log_likelihoods(logits, np.arange(4))
    for target in range(4):
        exact = _exact(logits[0].tolist(), target)
        assert abs(found[target] - exact) <= 8 * 2.0**-53 * max(abs(exact), 1.0)


def test_more_rows_than_are_widened_at_once() -> None:
    """130 rows give what each gives alone: places are kept across slices."""
    logits = np.random.default_rng(4).normal(size=(130, 7)).astype(np.float32)
    targets = np.arange(130) % 7
    alone = [negative_log_likelihoods(logits[i : i + 1], targets[i : i + 1])[0] for i in range(130)]
    assert negative_log_likelihoods(logits, targets).tolist() == alone


def test_refuses_other_shapes_and_what_is_not_finite() -> None:
    """A target is missing; a logit is NaN in a later slice: its row and token are named."""
    logits = np.zeros((70, 3), np.float32)
    with pytest.raises(ShapeError, match="logits, targets"):
        negative_log_likelihoods(logits, np.zeros(69, np.int64))
    logits[66, 2] = np.nan
    with pytest.raises(DomainError, match="logits: row 66, block 0, element 2: value nan"):
        negative_log_likelihoods(logits, np.zeros(70, np.int64))


class _Echo:
    """A model whose logit of token p + 1 at position p is p: it tells which positions were asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int, int]] = []

    def forward(
        self, tokens: NDArray[np.int64], cache: list[int] | None, *, logits_from: int
    ) -> NDArray[np.float32]:
        start = 0 if cache is None else len(cache)
        if cache is not None:
            cache += tokens.tolist()
        self.calls.append((start, len(tokens), logits_from))
        logits = np.full((len(tokens), 80), -50.0, np.float32)
        for row in range(len(tokens)):
            logits[row, (start + row + 1) % 80] = start + row
        return logits[logits_from:]


def _built(model: _Echo, *, cached: bool) -> Any:  # noqa: ANN401 (two attributes are all that is asked of it)
    return SimpleNamespace(model=model, new_cache=lambda _capacity: [] if cached else None)


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("size", [2, 3, 31, 32, 33, 34, 64, 65, 66, 75])
@pytest.mark.parametrize("count", ["all", "second-half"])
def test_which_predictions_count(count: Count, size: int, cached: bool) -> None:
    """All but the last position, from 0 or from half on, in order, at once or in steps through a cache."""
    model = _Echo()
    first = 0 if count == "all" else size // 2
    if first >= size - 1:
        with pytest.raises(ShapeError, match=f"a window of {size} has no prediction"):
            window_likelihoods(_built(model, cached=cached), np.arange(size), count)
        return
    found = window_likelihoods(_built(model, cached=cached), np.arange(size), count)
    logits = np.full((size - 1 - first, 80), -50.0, np.float32)
    for row, position in enumerate(range(first, size - 1)):
        logits[row, position + 1] = position
    assert found.tolist() == negative_log_likelihoods(logits, np.arange(first + 1, size)).tolist()
    lengths = [call[1] for call in model.calls]
    assert sum(lengths) == size
    assert max(lengths) == (min(size, CHUNK) if cached else size)


def test_first_counted() -> None:
    """Half of 512 is llama-perplexity's 256: predictions at 256 to 510, 255 of them."""
    assert first_counted(512, "second-half") == 256
    assert first_counted(512, "all") == 0
