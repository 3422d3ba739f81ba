"""SmoothQuant: move the difficulty of quantization from the activations to the weights.

For a linear operator Y = X Wᵀ and any s > 0, one factor an input channel j::

    Y = (X diag(s)⁻¹) (W diag(s))ᵀ                                           the same Y

    s_j = max|X_j|^α / max|W_j|^(1−α)          0 <= α <= 1

X diag(s)⁻¹ costs nothing at run time where the layer before is linear in its own weights: they are divided
instead. Operators that share their input share s, so max|W_j| is taken over all of them.

=====================  ======================  ===============================================================
group                  columns times s         divided by s
=====================  ======================  ===============================================================
``blk.N.attn_norm``    attn_q, attn_k, attn_v  the weight of the RMSNorm
``blk.N.ffn_norm``     ffn_gate, ffn_up        the weight of the RMSNorm
``blk.N.ffn_down``     ffn_down                the rows of ffn_up; `fold_down` only. SwiGLU, silu(gate)·up, is
                                               linear in up, so s passes through it
=====================  ======================  ===============================================================

The input of attn_output has no factor: every query head of a group shares the value channels before it, and
the authors leave it alone too.

Source: G. Xiao, J. Lin et al., "SmoothQuant", arXiv:2211.10438, equations 3 and 4; the clamps are those of
mit-han-lab/smoothquant, smoothquant/smooth.py, `smooth_ln_fcs`: max|W_j| and s_j are at least 10⁻⁵.

Channels that are dead. One that no token of the calibration text used, max|X_j| = 0, has s_j = 1 here; the
authors' clamp would give 10⁻⁵, shrink its weights to nothing beside their neighbours in a block, and enlarge
its activations 10⁵ times when another text does use it. One whose weights are all zero keeps the clamp on
max|W_j|: its large s_j takes a channel that does not matter out of the way of those in its block that do.

Order. The factors of ``ffn_down`` come first, and max|W_j| of ``ffn_norm`` is taken from the rows of ffn_up
already divided: these are the weights that get quantized.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from q8a8.arithmetic import power
from q8a8.errors import ArgumentError, ShapeError, UnknownNameError
from q8a8.methods.finite import require_finite, require_matrix
from q8a8.methods.smooth_search import GRID, Candidate, search
from q8a8.methods.smoothing import FoldGroup, SmoothedGroup, Smoothing, SmoothingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from q8a8.methods.calibration import Calibration

    F32 = NDArray[np.float32]

__all__ = [
    "FLOOR",
    "FoldGroup",
    "Rounding",
    "SmoothedGroup",
    "Smoothing",
    "SmoothingError",
    "column_maxima",
    "fold_groups",
    "make_smoothing",
    "smoothing_factors",
]

ATTENTION, FORWARD = ("attn_q", "attn_k", "attn_v", "attn_qkv"), ("ffn_gate", "ffn_up")

SPLIT = (*ATTENTION[:3], *FORWARD)
"""The operators behind the norms of Llama's layers."""

FLOOR = 1e-5
"""The least max|W_j|, and the least s_j."""

Rounding = Literal["nearest", "power-of-two"]
"""Rounding of s_j: the nearest float32, or the nearest power of two, with which folding is exact."""


class _Shape(Protocol):
    """The part of `q8a8.llama.config.Config` that is used here."""

    @property
    def n_layers(self) -> int: ...

    @property
    def linears(self) -> tuple[str, ...]: ...


def fold_groups(
    n_layers: int, *, fold_down: bool = False, linears: tuple[str, ...] = SPLIT
) -> tuple[FoldGroup, ...]:
    """Return the groups of a model that share factors, each after those that its weights depend on.

    Parameters
    ----------
    n_layers, linears
        Layers, and the operators of one: where q, k and v, or gate and up, are one matrix, that is the group.
    fold_down
        Smooth ffn_down too.

    Raises
    ------
    SmoothingError
        for `fold_down` where the rows of ffn_up are the gate's as well.
    """
    if fold_down and "ffn_gate" not in linears:
        raise SmoothingError("fold_down: gate and up are one matrix, and the gate is not linear")
    groups = []
    for layer in range(n_layers):
        down, up, norm = f"blk.{layer}.ffn_down", f"blk.{layer}.ffn_up", f"blk.{layer}.ffn_norm"
        if fold_down:
            groups.append(FoldGroup(down, (f"{down}.weight",), (f"{up}.weight", f"{up}.bias")))
        attention = tuple(f"blk.{layer}.{name}.weight" for name in linears if name in ATTENTION)
        before = f"blk.{layer}.attn_norm"
        groups.append(FoldGroup(before, attention, (f"{before}.weight", f"{before}.bias")))
        forward = tuple(f"blk.{layer}.{name}.weight" for name in linears if name in FORWARD)
        groups.append(FoldGroup(norm, forward, (f"{norm}.weight", f"{norm}.bias")))
    return tuple(groups)


def column_maxima(weights: Iterable[F32]) -> F32:
    """Return the largest |w| of each column, over all rows of all weights.

    Parameters
    ----------
    weights
        float32 `[out, in]`, one at least, with any number of rows and one number of columns.

    Returns
    -------
    float32 `[in]`.

    Raises
    ------
    ShapeError, DtypeError, DomainError
        No weights, or not of one width; other numbers than float32; NaN or infinities.
    """
    joint: F32 | None = None
    for weight in weights:
        require_matrix(weight, "weight", None if joint is None else len(joint))
        # The two ends instead of |weight|, which would be a copy of it.
        largest: F32 = np.maximum(weight.max(axis=0, initial=0), -weight.min(axis=0, initial=0))
        joint = largest if joint is None else np.maximum(joint, largest)
    if joint is None:
        raise ShapeError("weights: expected at least one matrix, got none")
    return joint


def smoothing_factors(x_max: F32, w_max: F32, alpha: float, *, rounding: Rounding = "nearest") -> F32:
    """Compute s_j = max|X_j|^α / max|W_j|^(1−α), with the clamps and exceptions above.

    Parameters
    ----------
    x_max, w_max
        float32 `[in]`: the largest magnitudes of activations and weights, channel by channel.
    alpha
        How much of the difficulty moves to the weights: 0 none of the activations' outliers, 1 all.
    rounding
        "nearest" float32, or nearest "power-of-two" (by ratio; with it, folding rounds nothing).

    Returns
    -------
    float32 `[in]`, positive; computed in float64 and rounded once.

    Raises
    ------
    ArgumentError, UnknownNameError
        α outside [0, 1]; another rounding.
    ShapeError, DtypeError, DomainError
        No two vectors of one length; not float32; NaN, infinities or negative numbers.
    """
    if not 0 <= alpha <= 1:
        raise ArgumentError(f"alpha: expected 0 to 1, got {alpha!r}")
    if x_max.ndim != 1 or x_max.shape != w_max.shape:
        raise ShapeError(
            f"x_max, w_max: expected vectors of one length, got shapes {x_max.shape}, {w_max.shape}"
        )
    for name, vector in (("x_max", x_max), ("w_max", w_max)):
        require_finite(vector, name)
        if (vector < 0).any():
            j = int(np.argmax(vector < 0))
            raise ArgumentError(f"{name}: channel {j}: expected 0 or more, got {vector[j]}")
    x, w = x_max.astype(np.float64), np.maximum(w_max.astype(np.float64), FLOOR)
    s = np.maximum(power(x, alpha) / power(w, 1 - alpha), FLOOR)
    s[x_max == 0] = 1
    return _round(s, rounding)


def _round(s: NDArray[np.float64], rounding: Rounding) -> F32:
    """Round factors as they are stored."""
    if rounding == "power-of-two":
        mantissa, exponent = np.frexp(s)  # s = mantissa · 2^exponent, 1/2 <= mantissa < 1
        # By ratio, the middle between 2^(e-1) and 2^e is 2^(e-1/2).
        s = np.ldexp(1.0, exponent - (mantissa < np.sqrt(0.5)))
    elif rounding != "nearest":
        raise UnknownNameError("rounding", rounding, ("nearest", "power-of-two"))
    return s.astype(np.float32)


def make_smoothing(
    weights: Mapping[str, F32],
    config: _Shape,
    calibration: Calibration,
    *,
    alpha: float | Literal["search"] = 0.5,
    fold_down: bool = False,
    rounding: Rounding = "nearest",
    grid: Sequence[float] = GRID,
    progress: Callable[[SmoothedGroup], None] | None = None,
) -> Smoothing:
    """Compute the factors of a whole model.

    Parameters
    ----------
    weights
        float32 `[out, in]` by GGUF name. Each is looked up once, so that it may be read lazily.
    config
        The model's shape.
    calibration
        Of this model.
    alpha
        One number for all groups; or "search", for each group the one of the grid whose quantized operators
        come closest to the float ones (`q8a8.methods.smooth_search`), none if that is better still.
    fold_down
        Smooth ffn_down too.
    rounding
        As `smoothing_factors`.
    grid
        The α that "search" tries.
    progress
        Called with each group when it is done.

    Raises
    ------
    ArgumentError, CalibrationError
        α or a number of the grid outside [0, 1]; an operator without statistics in the calibration, or
        without rows for a search.
    ShapeError, DtypeError, DomainError
        as `column_maxima` and `smoothing_factors`.
    """
    searched = grid if alpha == "search" else None
    provenance = _provenance(calibration, alpha, searched, fold_down=fold_down, rounding=rounding)
    smoothing = Smoothing((), provenance)
    for group in fold_groups(config.n_layers, fold_down=fold_down, linears=config.linears):
        # ffn_up as the factors of ffn_down have left it.
        parts = [smoothing.fold_tensor(name, weights[name]) for name in group.multiplied]
        smoothed = _smooth_group(group, parts, calibration, alpha, grid, rounding)
        smoothing = Smoothing((*smoothing.groups, smoothed), provenance)
        if progress:
            progress(smoothed)
    return smoothing


def _provenance(
    calibration: Calibration,
    alpha: float | Literal["search"],
    grid: Sequence[float] | None,
    *,
    fold_down: bool,
    rounding: Rounding,
) -> dict[str, Any]:
    """Describe the factors' model, data and options for JSON; `grid` where α is searched."""
    provenance: dict[str, Any] = {
        "model_sha256": calibration.model_sha256,
        "alpha": alpha,
        "fold_down": fold_down,
        "rounding": rounding,
        "texts": [source.text_sha256 for source in calibration.sources],
        "tokens": calibration.tokens,
    }
    if grid is not None:
        provenance |= {"grid": list(grid), "rows": len(calibration.numbers)}
    return provenance


def _smooth_group(
    group: FoldGroup,
    weights: Sequence[F32],
    calibration: Calibration,
    alpha: float | Literal["search"],
    grid: Sequence[float],
    rounding: Rounding,
) -> SmoothedGroup:
    """Compute one group's factors for its weights, with α as given or as the search finds it."""
    operator = group.multiplied[0]
    x_max, w_max = calibration[operator].maximum, column_maxima(weights)
    if alpha == "search":
        candidates = _candidates(x_max, w_max, grid, rounding)
        chosen = search(weights, calibration.rows(operator), candidates)
        return SmoothedGroup(group, chosen.factors, chosen.alpha)
    return SmoothedGroup(group, smoothing_factors(x_max, w_max, alpha, rounding=rounding), alpha)


def _candidates(x_max: F32, w_max: F32, grid: Sequence[float], rounding: Rounding) -> Iterator[Candidate]:
    """Yield the factors to try: none first, then by ascending α, so that ties go to the least smoothing."""
    yield Candidate(None, np.ones_like(x_max))
    for alpha in sorted(grid):
        yield Candidate(alpha, smoothing_factors(x_max, w_max, alpha, rounding=rounding))
