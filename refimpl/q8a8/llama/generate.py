"""Text generation, one token after the other, with a cache of keys and values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8.errors import ArgumentError
from q8a8.llama.cache import FloatCache

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from q8a8.llama.cache import KVCache
    from q8a8.llama.model import Model

__all__ = ["generate", "probabilities", "sample"]


def probabilities(
    logits: NDArray[Any], *, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> NDArray[np.float64]:
    """Turn the logits of one position into the distribution that the next token is sampled from.

    ::

        p = softmax(logits / temperature)
        top k:  the k most probable tokens
        top p:  of those, the fewest most probable ones that together have at least p

    each time made a distribution again. Top k: Fan et al., "Hierarchical Neural Story Generation" (2018),
    section 5.4; top p: Holtzman et al., "The Curious Case of Neural Text Degeneration" (2020), section 3.1.
    Among equal logits the smaller token comes first.

    Parameters
    ----------
    logits
        `[n_vocab]`.
    temperature
        Above 0; below 1 it sharpens, above 1 it flattens.
    top_k, top_p
        At least 1; above 0 and at most 1. None: no limit.

    Returns
    -------
    numpy.ndarray
        float64 `[n_vocab]`, sums to 1.

    Raises
    ------
    ArgumentError
        for a limit or a temperature outside its range, or a logit that is NaN or infinite, naming the token.
    """
    if not 0 < temperature < float("inf"):
        raise ArgumentError(f"temperature: expected a number above 0, got {temperature}")
    if top_k is not None and top_k < 1:
        raise ArgumentError(f"top_k: expected at least 1, got {top_k}")
    if top_p is not None and not 0 < top_p <= 1:
        raise ArgumentError(f"top_p: expected above 0 and at most 1, got {top_p}")
    _require_finite(logits)
    # The differences first: a small temperature cannot make an infinity of the largest logit then.
    weights = np.exp((logits.astype(np.float64) - np.max(logits)) / temperature)
    order = np.argsort(-weights, kind="stable")
    kept = order[:top_k]
    if top_p is not None:
        cumulated = np.cumsum(weights[kept])
        # As many as are needed to reach top_p, and no more.
        kept = kept[: np.searchsorted(cumulated, top_p * cumulated[-1]) + 1]
    chosen = np.zeros_like(weights)
    chosen[kept] = weights[kept]
    distribution: NDArray[np.float64] = chosen / chosen.sum()
    return distribution


def generate(
    model: Model,
    tokens: Sequence[int],
    n: int,
    *,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
    cache: KVCache | None = None,
) -> Iterator[int]:
    """Generate tokens, each as soon as it is sampled.

    Parameters
    ----------
    model
        The model.
    tokens
        The text so far, at least one token.
    n
        How many to generate; a caller may stop earlier, at the end of a text.
    temperature
        0: the most probable token each time (greedy; of equal ones the smallest). Above 0: sampled from
        `probabilities`.
    top_k, top_p
        Limits of the sampling.
    seed
        For NumPy's `default_rng`: one seed, one text. None: another text each time.
    cache
        Holds the positions before `tokens`, and takes those of this text; a float32 cache by default.

    Yields
    ------
    int
        The next token.

    Raises
    ------
    ArgumentError
        as `probabilities`; logits are checked at every temperature.
    ModelError
        as `Model.forward`.
    """
    random = np.random.default_rng(seed)
    if cache is None:
        cache = FloatCache(model.config, len(tokens) + n, model.dtype)
    fresh: Sequence[int] = tokens
    for _ in range(n):
        logits = model.forward(fresh, cache, logits_from=-1)[0]
        if temperature == 0:
            _require_finite(logits)
            token = int(np.argmax(logits))
        else:
            distribution = probabilities(logits, temperature=temperature, top_k=top_k, top_p=top_p)
            token = sample(distribution, random.random())
        yield token
        fresh = [token]


def _require_finite(logits: NDArray[Any]) -> None:
    """Refuse logits that are not finite, as after a NaN in a model's weights."""
    if not np.isfinite(logits).all():
        token = int(np.argmin(np.isfinite(logits)))
        raise ArgumentError(f"logits: that of token {token} is {logits[token]}")


def sample(distribution: NDArray[np.float64], u: float) -> int:
    """Sample a token by inverse transform: the one whose share of [0, 1) holds u.

    Parameters
    ----------
    distribution
        float64 `[n_vocab]`, as from `probabilities`.
    u
        A uniform random number in [0, 1).
    """
    shares = np.cumsum(distribution)
    # The sum of the shares is 1 but for rounding: u is scaled, so that it lies below the last one that is not
    # empty.
    return int(np.searchsorted(shares, u * shares[-1], side="right"))
