"""Negative log-likelihoods of the tokens of a text under a model's logits, window by window.

A window of W tokens t_0 .. t_(W−1) gives W − 1 predictions: that at position i has seen t_0 .. t_i::

    position      0     1    ...   W/2 − 1   W/2   ...   W − 2
    predicts     t_1   t_2   ...    t_(W/2)                t_(W−1)
    count
      all         x     x     x       x       x     x      x         W − 1 predictions
      second-half                             x     x      x         W − 1 − W/2: what llama-perplexity counts

    nll_i = ln Σ_v exp(z_iv) − z_i,t_(i+1)        in float64, from float32 logits z
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from q8a8.arithmetic import exp, log, row_sums
from q8a8.errors import DomainError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from q8a8.schemes.scheme import Built

    F32 = NDArray[np.float32]
    F64 = NDArray[np.float64]
    Tokens = NDArray[np.integer]

Count = Literal["all", "second-half"]

__all__ = [
    "CHUNK",
    "Count",
    "first_counted",
    "negative_log_likelihoods",
    "predicted_likelihoods",
    "window_likelihoods",
    "window_logits",
]

CHUNK = 32
"""Tokens that a scheme with a cache of its own takes at a time: most of them then read what is quantized."""

_ROWS = 64
"""Rows of logits that are widened to float64 at a time."""


def first_counted(window: int, count: Count) -> int:
    """Return the first position whose prediction counts."""
    return 0 if count == "all" else window // 2


def negative_log_likelihoods(logits: F32, targets: Tokens) -> F64:
    """Compute ln Σ exp(z) − z_target for every row.

    Parameters
    ----------
    logits
        float32 `[n, n_vocab]`.
    targets
        Token ids `[n]`.

    Returns
    -------
    float64 `[n]`, in nats.

    Raises
    ------
    ShapeError
        where there are not as many targets as rows.
    DomainError
        for a logit that is NaN or infinite, naming its row and token.
    """
    if logits.ndim != 2 or targets.shape != logits.shape[:1]:
        raise ShapeError(f"logits, targets: shapes {logits.shape} and {targets.shape}")
    out = np.empty(len(logits))
    for start in range(0, len(logits), _ROWS):
        rows = slice(start, start + _ROWS)
        z = logits[rows].astype(np.float64)
        if not np.isfinite(z).all():
            row, token = (int(i) for i in np.argwhere(~np.isfinite(z))[0])
            raise DomainError(
                "no finite logit",
                array="logits",
                row=(start + row,),
                block=0,
                element=token,
                value=float(z[row, token]),
            )
        # Shifting by the maximum leaves the difference as it is, and no exponential overflows.
        z -= z.max(axis=1, keepdims=True)
        chosen = np.take_along_axis(z, np.asarray(targets[rows])[:, None], axis=1)[:, 0]
        out[rows] = log(row_sums(exp(z)))[:, 0] - chosen
    return out


def window_likelihoods(built: Built, tokens: Tokens, count: Count = "all") -> F64:
    """Run one window through a model and give the log-likelihoods that count.

    Parameters
    ----------
    built
        The model.
    tokens
        Token ids `[W]`, at least two.
    count
        Which predictions count.

    Returns
    -------
    float64 `[W − 1 − first_counted(W, count)]`, in nats.

    Raises
    ------
    ShapeError
        for a window without a prediction that counts.
    DomainError
        as `negative_log_likelihoods`, naming the first product that is not finite, and `Model.forward`.
    ModelError
        as `Model.forward`.
    """
    return predicted_likelihoods(built, tokens, window_logits(built, tokens, count))


def predicted_likelihoods(built: Built, tokens: Tokens, predictions: Iterable[tuple[F32, Tokens]]) -> F64:
    """Give the log-likelihoods of a window's predictions, as `window_logits` yields them.

    Parameters
    ----------
    built, tokens
        The model and the window.
    predictions
        Logits and targets.

    Raises
    ------
    DomainError
        for a logit that is NaN or infinite, naming the first product of the model that is.
    """
    try:
        return np.concatenate([negative_log_likelihoods(*part) for part in predictions])
    except DomainError as error:
        # Logits do not say where it began: a product in some layer does.
        begun = built.model.first_not_finite(tokens) if error.array == "logits" else None
        raise (error.named(f"{begun.text}; {error.array}") if begun else error) from None


def window_logits(built: Built, tokens: Tokens, count: Count = "all") -> Iterator[tuple[F32, Tokens]]:
    """Run one window through a model and give the predictions that count.

    A scheme with a cache of its own is run in steps of `CHUNK` tokens, so that a token attends to earlier
    ones as the cache holds them; without one the window is run at once.

    Parameters
    ----------
    built, tokens, count
        As `window_likelihoods`; errors too.

    Yields
    ------
    logits, targets
        float32 `[n, n_vocab]`, and the tokens `[n]` that follow, in the order of the window.
    """
    first, last = first_counted(len(tokens), count), len(tokens) - 1
    if first >= last:
        raise ShapeError(f"tokens: a window of {len(tokens)} has no prediction that counts")
    cache = built.new_cache(len(tokens))
    step = len(tokens) if cache is None else CHUNK
    for start in range(0, len(tokens), step):
        part = tokens[start : start + step]
        # The last token of the window predicts what is not in it.
        wanted = slice(max(first - start, 0), min(last - start, len(part)))
        logits = built.model.forward(part, cache, logits_from=min(wanted.start, len(part)))
        targets = tokens[start + wanted.start + 1 : start + wanted.stop + 1]
        if len(targets):
            yield logits[: len(targets)], targets
