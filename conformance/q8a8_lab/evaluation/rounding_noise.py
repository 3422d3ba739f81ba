"""How far the rounding of float32 moves the logits of a model, and whether two evaluations agree within it.

Two programs that evaluate one model in float32 round in different places, so their logits differ; how much
they may differ is derived here rather than guessed. A product of k terms in float32, summed in any order, is
off by at most λ·sqrt(k)·u·|W|·|x|, u = 2^−24, with probability at least 1 − 2·exp(−λ²/2), for rounding errors
that are independent and have mean zero (Higham and Mary, "A New Approach to Probabilistic Rounding Error
Analysis", SIAM J. Sci. Comput. 41, 2019, theorem 2.4 and section 3.2). Kernels that sum in lanes and blocks
stay far below it.

So the model is evaluated in float64, where rounding does not matter, once as it is and once with every
product of every layer and of the head moved by that much, λ = 1, up or down at random::

    bound = max |logits with every product moved − logits|

Everything else that a layer computes (norms, angles, softmax, sums of two) rounds to a few u, where a product
is moved by sqrt(k) = 24 to 39 of them: it is not moved. One exception is the gate of Gemma, which ggml
looks up in a table by the number rounded to half precision, and whose entries are rounded so (`HalfGelu`):
where that is asked for, both are moved by 2^−11 of their size. The bound is a sample of a distribution and
not a worst case, which through thirty layers would allow anything; what it rejects is measured and tested.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8.llama import HEAD, Model, linear_names
from q8a8.llama.config import EMBEDDING
from q8a8.llama.layers import geglu

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from q8a8.llama import Config

    F64 = NDArray[np.float64]

__all__ = ["HALF", "Agreement", "HalfGelu", "Noise", "agreement", "logit_noise"]

U = 2.0**-24
"""The unit roundoff of float32."""

HALF = 2.0**-11
"""The unit roundoff of half precision."""


@dataclass(frozen=True)
class Noise:
    """What float32 may do to the logits of some tokens.

    Attributes
    ----------
    reference
        The logits in float64, `[t, n_vocab]`.
    bound
        How far a float32 evaluation may be off.
    rms
        The root mean square of the moves that the bound is the largest of.
    """

    reference: F64
    bound: float
    rms: float


@dataclass(frozen=True)
class Agreement:
    """How one evaluation lies to the reference.

    Attributes
    ----------
    largest, rms
        Of the differences.
    bound
        Of the largest.
    decided
        Positions where the two largest logits are further apart than two evaluations can be, twice the bound.
    same
        Of those, the positions with the same largest logit.
    """

    largest: float
    rms: float
    bound: float
    decided: int
    same: int

    @property
    def holds(self) -> bool:
        """Whether the logits are within the bound, and the largest is the same wherever it is decided."""
        # NaN is no agreement: the comparison is false then.
        return self.largest <= self.bound and self.same == self.decided


class _Moved:
    """x Wᵀ in float64, each number moved by λ·sqrt(k)·u·|W||x| up or down, λ = 1."""

    activation_bits = 64.0

    def __init__(self, weight: F64, random: np.random.Generator) -> None:
        self._weight, self._random = weight, random
        # How far a number is moved need not be known in float64.
        self._magnitude = np.abs(weight).astype(np.float32) * np.float32(np.sqrt(weight.shape[1]) * U)
        self.weight_bytes: int = weight.nbytes

    def __call__(self, x: NDArray[Any]) -> NDArray[Any]:
        """Multiply: `[t, in]` to `[t, out]`."""
        size = np.abs(x).astype(np.float32) @ self._magnitude.T
        up = self._random.integers(0, 2, size.shape, np.int8) == 1
        moved: NDArray[Any] = x @ self._weight.T + np.where(up, size, -size)
        return moved


class HalfGelu(Model):
    """The model with ggml's gelu: of the gate rounded to half precision, and rounded so itself.

    ggml-cpu/vec.h, `ggml_vec_geglu_f32` with `GGML_GELU_FP16`: the table is computed once, in float32; from
    10 on gelu is the number itself, up to −10 it is zero.
    """

    def _gated(self, gate: NDArray[Any], up: NDArray[Any]) -> NDArray[Any]:
        """Gate one part by the other."""
        with np.errstate(over="ignore"):
            half = gate.astype(np.float16)
        table = geglu(half.astype(np.float32), np.ones(1, np.float32)).astype(np.float16).astype(gate.dtype)
        looked_up: NDArray[Any] = np.where(gate >= 10, gate, np.where(gate <= -10, 0, table)) * up
        return looked_up


class _MovedGelu(Model):
    """The model with the gate, and its gelu, moved by 2^−11 of their size up or down."""

    random: np.random.Generator

    def _gated(self, gate: NDArray[Any], up: NDArray[Any]) -> NDArray[Any]:
        """Gate one part by the other."""
        before, after = (1 + HALF * self.random.choice((-1.0, 1.0), gate.shape) for _ in range(2))
        moved: NDArray[Any] = geglu(gate * before, up) * after
        return moved


def logit_noise(
    config: Config,
    weights: Mapping[str, NDArray[np.float32]],
    tokens: Sequence[int],
    *,
    seed: int = 0,
    half_gelu: bool = False,
) -> Noise:
    """Evaluate a model in float64, and find how far float32 may be off.

    Parameters
    ----------
    config, weights
        The model, as for `q8a8.llama.Model`.
    tokens
        At least one; with n_vocab they say how much memory is needed.
    seed
        Of the directions.
    half_gelu
        Whether the gate is looked up as ggml does it.
    """
    exact = {name: weight.astype(np.float64) for name, weight in weights.items()}
    reference = Model(config, exact).forward(tokens)
    random = np.random.default_rng(seed)
    products = {name: exact[name] for name in linear_names(config)}
    products[HEAD] = exact.get(HEAD, exact[EMBEDDING])
    linears = {name: _Moved(weight, random) for name, weight in products.items()}
    moved = (_MovedGelu if half_gelu else Model)(config, exact, linears=linears)
    if isinstance(moved, _MovedGelu):
        moved.random = random
    moves = moved.forward(tokens) - reference
    return Noise(reference, float(np.abs(moves).max()), float(np.sqrt(np.mean(np.square(moves)))))


def agreement(logits: NDArray[np.floating[Any]], noise: Noise) -> Agreement:
    """Hold an evaluation in float32, `[t, n_vocab]`, against the reference."""
    difference = np.abs(logits - noise.reference)
    second, first = np.partition(noise.reference, -2, axis=-1)[:, -2:].T
    decided = first - second > 2 * noise.bound
    same = logits.argmax(axis=-1) == noise.reference.argmax(axis=-1)
    return Agreement(
        largest=float(difference.max()),
        rms=float(np.sqrt(np.mean(np.square(difference)))),
        bound=noise.bound,
        decided=int(decided.sum()),
        same=int((same & decided).sum()),
    )
