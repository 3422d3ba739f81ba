"""How far a quantized model's predictions are from the float model's, prediction by prediction.

::

    KL        Σ_v p_v · (ln p_v − ln q_v)       p: float, q: quantized; nats, 0 where they agree
    same top  whether both give the largest logit to the same token, of equal ones the first
    Δp        q_t − p_t                          t: the token that follows in the text

These are the numbers of llama-perplexity's ``--kl-divergence`` (llama.cpp, tools/perplexity/perplexity.cpp,
`log_softmax` with `kl_divergence_result`), in float64 and without its two shortcuts: it keeps ln p in 16 bits
between the largest one and 16 below, and leaves tokens with ln p of −16 and less out of the sum.

All three are means over predictions, and their errors are over windows, as those of perplexity are
(`q8a8_evaluation.statistics`): each is of a difference already, so the windows' own difficulty is not in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from q8a8.arithmetic import exp, log, row_sums
from q8a8.errors import ShapeError
from q8a8_evaluation.statistics import ratio_of_sums

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from q8a8_evaluation.statistics import Estimate

    F32 = NDArray[np.float32]
    F64 = NDArray[np.float64]
    Tokens = NDArray[np.integer]

__all__ = ["Divergence", "divergences", "summarize"]

_ROWS = 64
"""Rows of logits that are widened to float64 at a time."""


def divergences(logits: F32, base: F32, targets: Tokens) -> F64:
    """Compare two models' logits.

    Parameters
    ----------
    logits, base
        float32 `[n, n_vocab]`, finite: the quantized and the float model's.
    targets
        Token ids `[n]`.

    Returns
    -------
    float64 `[3, n]`: KL in nats, same top (0 or 1), Δp.

    Raises
    ------
    ShapeError
        for other shapes.
    """
    if logits.ndim != 2 or base.shape != logits.shape or targets.shape != logits.shape[:1]:
        raise ShapeError(f"logits, base, targets: shapes {logits.shape}, {base.shape} and {targets.shape}")
    out = np.empty((3, len(logits)))
    for start in range(0, len(logits), _ROWS):
        rows = slice(start, start + _ROWS)
        q, p = _log_softmax(logits[rows]), _log_softmax(base[rows])
        shares = exp(p)
        out[0, rows] = row_sums(shares * (p - q))[:, 0]
        out[1, rows] = logits[rows].argmax(axis=1) == base[rows].argmax(axis=1)
        chosen = np.asarray(targets[rows])[:, None]
        out[2, rows] = (
            exp(np.take_along_axis(q, chosen, axis=1)) - np.take_along_axis(shares, chosen, axis=1)
        )[:, 0]
    return out


def _log_softmax(logits: F32) -> F64:
    """Return the logarithms of the probabilities, float64 `[n, n_vocab]`."""
    z = logits.astype(np.float64)
    z -= z.max(axis=1, keepdims=True)
    z -= log(row_sums(exp(z)))
    return z


@dataclass(frozen=True)
class Divergence:
    """The divergence of a scheme over all windows.

    Attributes
    ----------
    kl
        Mean KL divergence in nats, and its standard error over windows.
    largest_kl
        Of one prediction.
    same_top
        Share of predictions with the same most probable token, in percent.
    change
        Mean Δp in percent.
    largest_drop
        The most that the probability of a token of the text fell by, in percent: one number of one token, so
        that it has no error.
    """

    kl: Estimate
    largest_kl: float
    same_top: Estimate
    change: Estimate
    largest_drop: float


def summarize(windows: Sequence[F64]) -> Divergence:
    """Summarize `divergences` of each window, float64 `[3, n_w]`; errors as `ratio_of_sums`."""
    counts = [each.shape[1] for each in windows]
    kl, same, change = (
        ratio_of_sums([scale * float(each[row].sum()) for each in windows], counts)
        for row, scale in ((0, 1.0), (1, 100.0), (2, 100.0))
    )
    everything = np.concatenate(windows, axis=1)
    drop = -100 * min(float(everything[2].min()), 0.0)
    return Divergence(kl, float(everything[0].max()), same, change, abs(drop))
