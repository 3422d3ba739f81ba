"""Paired standard errors of differences of perplexity (derived in docs/model/perplexity.md).

Two schemes read the same tokens in the same windows, so their negative log-likelihoods are compared token by
token, and what makes one window harder than another cancels::

    perplexity        P = exp(S / N)                  S = Σ_w S_w     nats of the counted tokens of window w
    log of a ratio    L = ln(P_a / P_b) = D / N       D = Σ_w D_w     D_w = S_w(a) − S_w(b),  N = Σ_w n_w

Windows are the units of sampling: tokens of one window share their context and are not independent. L is a
ratio of two sums over windows; the delta method (Cochran, "Sampling Techniques" (1977), section 6.4) gives::

    SE(L)²  =  m / (m − 1) · Σ_w (D_w − L·n_w)² / N²                        m windows

and where all windows count the same number of tokens this is the standard error of the mean of m numbers,
s(D_w / n_w) / √m. Once more by the delta method, SE(P_a / P_b) = (P_a / P_b) · SE(L).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from q8a8.errors import DomainError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    F64 = NDArray[np.float64]

__all__ = ["Estimate", "Ratio", "compare", "perplexity", "ratio_of_sums"]


@dataclass(frozen=True)
class Estimate:
    """A number and its standard error.

    Attributes
    ----------
    value
        The number.
    error
        Its standard error; None for a single window, which has no scatter.
    """

    value: float
    error: float | None


@dataclass(frozen=True)
class Ratio:
    """How much worse one scheme's perplexity is than another's.

    Attributes
    ----------
    log
        ln(P_a / P_b), in nats a token, and its paired standard error over windows.
    token_error
        The standard error of the same number if every token were independent of the others: smaller than
        what is true where windows differ, and known even for one window.
    """

    log: Estimate
    token_error: float

    @property
    def percent(self) -> Estimate:
        """P_a / P_b − 1 in percent, with its error by the delta method."""
        ratio = math.exp(self.log.value)
        error = self.log.error
        return Estimate(100 * math.expm1(self.log.value), None if error is None else 100 * ratio * error)

    def bounds(self, errors: float = 2.0) -> tuple[float, float]:
        """Return P_a / P_b − 1 in percent at both ends of the error bar.

        The bar is symmetric in the logarithm. One window has no error: its bar is a point.

        Parameters
        ----------
        errors
            Standard errors to each side.
        """
        reach = errors * (self.log.error or 0.0)
        return 100 * math.expm1(self.log.value - reach), 100 * math.expm1(self.log.value + reach)


def ratio_of_sums(sums: Sequence[float] | F64, counts: Sequence[int] | NDArray[np.integer]) -> Estimate:
    """Estimate Σ sums / Σ counts and its standard error, one pair a window.

    Parameters
    ----------
    sums
        `[m]`, finite.
    counts
        Integers `[m]`, at least one of them positive.

    Raises
    ------
    ShapeError
        for no windows, lists of different length, or no counted token.
    DomainError
        for a sum that is NaN or infinite, naming the window.
    """
    y, n = np.asarray(sums, np.float64), np.asarray(counts, np.int64)
    if y.ndim != 1 or y.shape != n.shape or n.sum() < 1 or (n < 0).any():
        raise ShapeError(f"sums, counts: shapes {y.shape} and {n.shape}, {n.sum()} tokens counted")
    wrong = np.flatnonzero(~np.isfinite(y))
    if wrong.size:
        place = int(wrong[0])
        raise DomainError(
            "no finite log-likelihood",
            array="sums",
            row=(place,),
            block=0,
            element=None,
            value=float(y[place]),
        )
    m, total = len(y), int(n.sum())
    value = math.fsum(y) / total
    if m == 1:
        return Estimate(value, None)
    # m / (m − 1) · Σ (D_w − L·n_w)² / N²
    residues = math.fsum((y - value * n) ** 2)
    return Estimate(value, math.sqrt(m / (m - 1) * residues) / total)


def perplexity(windows: Sequence[F64]) -> Estimate:
    """Compute the perplexity of the counted tokens, and its own (not paired) standard error.

    Parameters
    ----------
    windows
        Negative log-likelihoods in nats, float64 `[n_w]` for each window.

    Raises
    ------
    ShapeError, DomainError
        as `ratio_of_sums`.
    """
    mean = ratio_of_sums([math.fsum(window) for window in windows], [len(window) for window in windows])
    value = math.exp(mean.value)
    return Estimate(value, None if mean.error is None else value * mean.error)


def compare(ours: Sequence[F64], theirs: Sequence[F64]) -> Ratio:
    """Compare two schemes on the same tokens.

    Parameters
    ----------
    ours, theirs
        Negative log-likelihoods in nats of the same tokens, float64 `[n_w]` for each window. The ratio is
        ours over theirs.

    Raises
    ------
    ShapeError
        where the windows are not the same.
    DomainError
        for a number that is NaN or infinite.
    """
    lengths = [len(window) for window in ours]
    if lengths != [len(window) for window in theirs]:
        raise ShapeError("ours, theirs: other windows, or windows of other lengths")
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    log = ratio_of_sums([math.fsum(window) for window in differences], lengths)
    tokens = np.concatenate(differences)
    count = len(tokens)
    scatter = float(np.std(tokens, ddof=1)) if count > 1 else 0.0
    return Ratio(log, scatter / math.sqrt(count))
