"""GPTQ: weights rounded one column at a time, each error compensated in the columns that follow.

Frantar, Ashkboos, Hoefler, Alistarh: "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers" (2023), algorithm 1, and the authors' code (IST-DASLab/gptq, `gptq.py`: fasterquant). It
seeks the codes Q that minimize, for a layer's inputs X and weights W `[m, k]`,

    ‖W X − Q X‖² = tr((W − Q) X Xᵀ (W − Q)ᵀ)

With H = 2/n · X Xᵀ + λ I and U the upper Cholesky factor of its inverse, H⁻¹ = Uᵀ U, column j is rounded to
its grid, and the columns i > j take its error over (the update of optimal brain surgeon, in the closed form
of the paper)::

    q_j  = round-to-grid(w_j)
    e_j  = (w_j − q_j) / U_jj
    w_i −= e_j · U_ji               all i > j

Within a block of columns this is done at once; the columns after the block get the sum of its updates when
the block is done, which changes only the order of additions.

What an implementation must choose (docs/methods/gptq.md, GPT-1 to GPT-7): the arithmetic is float64 where the
authors' is float32; the order of equal diagonal entries; the treatment of dead columns; the weights that a
group's scale is taken from.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from q8a8.arithmetic import matmul
from q8a8.errors import ArgumentError, ShapeError, UnknownNameError
from q8a8.methods.finite import require_matrix
from q8a8.methods.gptq_grid import GptqWeight, Grid, dequantize, fit_groups, round_to_nearest, store

if TYPE_CHECKING:
    from typing import Unpack

    from numpy.typing import NDArray

    F32 = NDArray[np.float32]
    F64 = NDArray[np.float64]
    Places = NDArray[np.intp]

__all__ = ["GptqLinear", "GptqOptions", "Hessian", "gptq", "layer_error"]

PARAMETERS = ("stale", "fresh", "static")


class GptqOptions(TypedDict, total=False):
    """The choices of `gptq`, by name."""

    damping: float
    block: int
    act_order: bool
    parameters: str
    guard: bool


class Hessian:
    """H = 2/n · Σ x xᵀ over the rows x that a layer's input had, in float64.

    The authors count calibration sequences for n, here it is rows: H is scaled, the result is not (GPT-2).
    Hessians can be merged, in any order, up to float64's rounding.

    Parameters
    ----------
    k
        Elements of a row.
    """

    def __init__(self, k: int) -> None:
        self.rows = 0
        self._sum = np.zeros((k, k))

    def update(self, x: F32) -> None:
        """Add rows, float32 `[t, k]`.

        Raises
        ------
        ShapeError, DtypeError, DomainError
            Rows of another length, another dtype, NaN or infinity.
        """
        require_matrix(x, "x", len(self._sum))
        self._sum += matmul(x.T, x, wide=True)
        self.rows += len(x)

    def merge(self, other: Hessian) -> None:
        """Add the rows of another one.

        Raises
        ------
        ShapeError
            It has rows of another length.
        """
        if other._sum.shape != self._sum.shape:
            raise ShapeError(f"other: expected rows of {len(self._sum)} elements, got {len(other._sum)}")
        self._sum += other._sum
        self.rows += other.rows

    def matrix(self) -> F64:
        """Return H, float64 `[k, k]`; zero before the first row."""
        return self._sum * (2 / max(self.rows, 1))


def layer_error(weight: F32, other: F32, hessian: F64) -> F64:
    """Compute tr of (W − Q) H (W − Q)ᵀ row by row, float64 `[m]`: proportional to each row's ‖W X − Q X‖²."""
    difference = weight.astype(np.float64) - other
    return np.asarray(((difference @ hessian) * difference).sum(axis=1))


def gptq(
    weight: F32,
    hessian: F64,
    grid: Grid,
    *,
    damping: float = 0.01,
    block: int = 128,
    act_order: bool = False,
    parameters: str = "stale",
    guard: bool = False,
) -> GptqWeight:
    """Quantize a matrix so that the layer's output changes least.

    Parameters
    ----------
    weight
        float32 `[m, k]`.
    hessian
        float64 `[k, k]`: `Hessian.matrix`.
    grid
        The grid of the codes.
    damping
        λ as a fraction of the mean diagonal of H.
    block
        Columns whose updates are made at once. It decides which weights "stale" means.
    act_order
        Whether columns are taken by falling diagonal of H, equal ones in their order (GPT-4).
    parameters
        Where a group's scale and zero come from when its first column is reached (GPT-5). "stale": the
        authors', from the weights as the last finished block left them; "fresh": with the updates of the
        block at hand too; "static": from the weights as they are given, before anything is rounded.
    guard
        Whether a row for which rounding to the nearest, on the same grid, gives a smaller `layer_error` is
        rounded so (GPT-7). The authors do not; with it no row is ever worse than rounded to the nearest.

    Raises
    ------
    ShapeError, DtypeError, DomainError
        Arrays of other shapes or types, NaN or infinity, a scale beyond float16.
    ArgumentError, UnknownNameError
        A damping below 0, a block below 1, an unknown kind of parameters, or an H that is not positive
        definite even with the damping.
    """
    _require_arguments(weight, hessian, damping, block, parameters)
    w, h = _without_dead_columns(weight, hessian)
    order = _column_order(h, act_order=act_order)
    groups = _groups(w, grid, order, parameters)
    u = _inverse_factor(h[np.ix_(order, order)], damping)
    codes = _round_columns(w[:, order], u, grid, groups, block)
    back = np.argsort(order)
    stored = store(grid, codes[:, back], groups.scale, groups.zero, groups.of[back])
    return _guarded(weight, hessian, stored) if guard else stored


def _without_dead_columns(weight: F32, hessian: F64) -> tuple[F64, F64]:
    """Return copies of W and H in which a dead column, whose input was always 0, is 0 (GPT-3)."""
    w, h = weight.astype(np.float64), np.array(hessian, np.float64)
    dead = np.diag(h) == 0
    h[dead, dead] = 1
    w[:, dead] = 0
    return w, h


def _column_order(h: F64, *, act_order: bool) -> Places:
    """Return the columns in the order of rounding: as they lie, or by falling diagonal, stably (GPT-4)."""
    return np.argsort(-np.diag(h), kind="stable") if act_order else np.arange(len(h))


@dataclasses.dataclass(frozen=True)
class _Groups:
    """The groups of columns that share a scale, while columns are rounded.

    Attributes
    ----------
    parameters
        Where scale and zero come from, as `gptq` takes it.
    width
        Columns of a group.
    of
        int32 `[k]`: the group of each column, in the order of rounding.
    scale, zero
        float64 `[m, groups]`; unless `parameters` is "static" filled when a group's first column is reached.
    """

    parameters: str
    width: int
    of: NDArray[np.int32]
    scale: F64
    zero: F64


def _groups(w: F64, grid: Grid, order: Places, parameters: str) -> _Groups:
    """Assign columns to groups, and fit the groups that are static (GPT-5)."""
    m, k = w.shape
    width = grid.width(k)
    static = parameters == "static"
    scale, zero = fit_groups(w, grid) if static else np.ones((2, m, -(-k // width)))
    # Static groups are those of the columns as they lie in the weight, others those in the order of rounding.
    place = order if static else np.arange(k)
    return _Groups(parameters, width, (place // width).astype(np.int32), scale, zero)


def _round_columns(w: F64, u: F64, grid: Grid, groups: _Groups, block: int) -> F64:
    """Round the columns of W one after the other, each error corrected by those after it.

    Parameters
    ----------
    w
        float64 `[m, k]` in the order of rounding; overwritten.
    u
        float64 `[k, k]`, the upper Cholesky factor of H⁻¹ in the same order.
    grid, groups
        The grid of the codes, and the groups' scales and zeros on it.
    block
        Columns whose updates are made at once.

    Returns
    -------
    Codes as whole numbers, float64 `[m, k]`.
    """
    m, k = w.shape
    codes = np.zeros((m, k))
    for start in range(0, k, block):
        stop = min(start + block, k)
        part, errors = w[:, start:stop].copy(), np.zeros((m, stop - start))
        for j in range(start, stop):
            here, g = j - start, groups.of[j]
            if groups.parameters != "static" and j % groups.width == 0:
                source = w[:, j : j + groups.width]
                if groups.parameters == "fresh":
                    source = _updated(source, part[:, here:], errors, u[start:stop, stop : j + groups.width])
                groups.scale[:, g], groups.zero[:, g] = grid.fit(source)
            scale, zero = groups.scale[:, g], groups.zero[:, g]
            # q_j = round-to-grid(w_j)
            codes[:, j] = grid.codes(part[:, here], scale, zero)
            rounded = scale * (codes[:, j] - zero)
            # e_j = (w_j - q_j) / U_jj
            errors[:, here] = (part[:, here] - rounded) / u[j, j]
            # w_i -= e_j · U_ji for the columns of this block, and below for those after it
            part[:, here:] -= np.outer(errors[:, here], u[j, j:stop])
        w[:, stop:] -= errors @ u[start:stop, stop:]
    return codes


def _updated(source: F64, part: F64, errors: F64, u: F64) -> F64:
    """Return a group's weights with the updates of the block at hand ("fresh", GPT-5).

    Parameters
    ----------
    source
        float64 `[m, width]`: the group's columns, as the last finished block left them.
    part
        float64 `[m, c]`: the block's columns from the group's first one on, as they are now.
    errors, u
        float64 `[m, block]` and `[block, after]`: the block's errors so far, and the rows of U that carry
        them to the group's columns after the block.
    """
    here = min(source.shape[1], part.shape[1])
    return np.concatenate([part[:, :here], source[:, here:] - errors @ u], axis=1)


def _guarded(weight: F32, hessian: F64, stored: GptqWeight) -> GptqWeight:
    """Choose for each row GPTQ or rounding to nearest, whichever changes its output less (GPT-7)."""
    scale, zero = (array.astype(np.float64)[:, stored.group_of] for array in (stored.scale, stored.zero))
    codes = stored.grid.codes(weight.astype(np.float64), scale, zero).astype(np.uint8)
    nearest = dataclasses.replace(stored, codes=codes)
    ours, theirs = (layer_error(weight, dequantize(each), hessian) for each in (stored, nearest))
    return dataclasses.replace(stored, codes=np.where((theirs < ours)[:, None], codes, stored.codes))


def _require_arguments(weight: F32, hessian: F64, damping: float, block: int, parameters: str) -> None:
    require_matrix(weight, "weight")
    k = weight.shape[1]
    if hessian.shape != (k, k):
        raise ShapeError(f"hessian: expected shape {(k, k)}, got {hessian.shape}")
    if not np.isfinite(hessian).all():
        raise ArgumentError("hessian: an element is NaN or infinite")
    if not damping >= 0:
        raise ArgumentError(f"damping: expected at least 0, got {damping}")
    if block < 1:
        raise ArgumentError(f"block: expected at least 1, got {block}")
    if parameters not in PARAMETERS:
        raise UnknownNameError("parameters", parameters, PARAMETERS)


def _inverse_factor(h: F64, damping: float) -> F64:
    """Compute the upper factor U with (H + λ I)⁻¹ = Uᵀ U."""
    k = len(h)
    h = h + np.eye(k) * (damping * np.diag(h).mean() if k else 0)
    try:
        # H⁻¹ from H's own factor, as it is symmetric then: L Lᵀ = H, H⁻¹ = L⁻ᵀ L⁻¹.
        inverse = np.linalg.inv(np.linalg.cholesky(h))
        return np.linalg.cholesky(inverse.T @ inverse).T
    except np.linalg.LinAlgError as error:
        raise ArgumentError(
            f"hessian: not positive definite with a damping of {damping}; raise it, or use more rows of input"
        ) from error


class GptqLinear:
    """A linear layer whose weights GPTQ has rounded; activations stay float.

    Parameters
    ----------
    weight
        float32 `[out, in]`.
    hessian
        float64 `[in, in]` of the layer's inputs; None rounds to nearest, for comparison.
    grid
        The grid of the codes.
    options
        `damping`, `block`, `act_order`, `parameters`, `guard`, as `gptq` has them.

    Attributes
    ----------
    weight
        The stored weight.
    weight_bytes
        Its bytes: packed codes, scales, zeros, and the columns' groups where they are out of order.
    activation_bits
        32.

    Raises
    ------
    ShapeError, DtypeError, DomainError, ArgumentError, UnknownNameError
        as `gptq`.
    """

    activation_bits = 32.0

    def __init__(
        self,
        weight: F32,
        hessian: F64 | None,
        grid: Grid,
        **options: Unpack[GptqOptions],
    ) -> None:
        self.weight = (
            round_to_nearest(weight, grid) if hessian is None else gptq(weight, hessian, grid, **options)
        )
        self.weight_bytes: int = self.weight.nbytes
        self._dense = dequantize(self.weight)

    def __call__(self, x: F32) -> F32:
        """Multiply: float32 `[t, in]` to float32 `[t, out]`.

        Raises
        ------
        ShapeError, DtypeError, DomainError
            Rows of another length, another dtype, NaN or infinity.
        """
        require_matrix(x, "x", self._dense.shape[1])
        return matmul(x, self._dense.T)
