"""AWQ for a whole model, with the scales of the channels folded into what computes the channels.

`q8a8.methods.awq` keeps s beside a weight and divides x by it. In a file for other programs there is no such
place: as the authors do (mit-han-lab/llm-awq, auto_scale.py), 1/s goes into the rows, or entries, of the
tensor before. In real arithmetic that is exact wherever the channels come out of it one by one::

    weights                     share an input that comes from            folded into
    attn_q, attn_k, attn_v      RMSNorm: weight times normed x            attn_norm (entry j)
    ffn_gate, ffn_up            RMSNorm                                   ffn_norm (entry j)
    ffn_down                    gate(g_j) · u_j, linear in u_j            ffn_up (row j, and its bias)
    attn_output                 the values' channels, weighted sums       attn_v (row j, and its bias)

The last one needs a head of values for each head of queries. Where heads share values, several channels of
attn_output come from one row: it keeps scales of 1, as in the authors' code, and the result says so.

Weights that share an input share their scales, which are searched on all of them together; the fold of a
group that reaches into another weight comes before that weight is searched. Scales of the groups are rounded
to float16 when everything is decided (AWQ-6).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from q8a8.errors import ShapeError
from q8a8.methods.awq import AwqWeight, clip_limits, quantize, search_scales
from q8a8.rounding import HALF_BITS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from q8a8.methods.awq import AwqGrid

    F32 = NDArray[np.float32]
    F64 = NDArray[np.float64]
    Inputs = Callable[[str], tuple[F64, F32]]

__all__ = ["Folded", "fold_awq"]


@dataclass(frozen=True)
class Folded:
    """A model's weights by AWQ.

    Attributes
    ----------
    weights
        By name; their scales are float16's numbers.
    floats
        The tensors that scales were folded into and that stay in float, by name.
    unscaled
        The weights whose channels keep scales of 1, with the reason.
    """

    weights: Mapping[str, AwqWeight]
    floats: Mapping[str, F32]
    unscaled: Mapping[str, str]


@dataclass(frozen=True)
class _Group:
    """Weights that share an input, and where their scales go: a tensor, from this row or entry on."""

    names: tuple[str, ...]
    into: str | None
    first: int = 0


def fold_awq(
    weights: Mapping[str, F32],
    n_layers: int,
    inputs: Inputs,
    grid: AwqGrid,
    *,
    shared_values: bool,
    scale_bits: int = HALF_BITS,
) -> Folded:
    """Quantize the linear operators of all layers.

    Parameters
    ----------
    weights
        float32 by GGUF name; left as they are.
    n_layers
        Layers.
    inputs
        Called with a weight's name, returns the mean of |x_j| `[k]` and a sample of its inputs `[t, k]`.
    grid
        The grid of the codes.
    shared_values
        Whether several heads of queries share one of values.
    scale_bits
        Of the float16 scales of groups, the significant bits that are used.

    Raises
    ------
    ShapeError, DtypeError, DomainError, ArgumentError
        as `search_scales` and `clip_limits`; a scale that float16 does not hold.
    """
    names = [name for layer in range(n_layers) for name in _linears(weights, layer)]
    for name in names:
        if (columns := weights[name].shape[1]) % grid.group:
            raise ShapeError(
                f"tensor {name}: rows of {columns} elements are not a multiple of the group of {grid.group}"
            )
    folded = dict(weights)
    stored: dict[str, AwqWeight] = {}
    unscaled: dict[str, str] = {}
    for layer in range(n_layers):
        for group in _groups(folded, layer, shared_values=shared_values):
            mean, rows = inputs(group.names[0])
            scales = np.ones(len(mean), np.float32)
            if group.into is None:
                reason = "heads of queries share the values that it reads"
                unscaled |= dict.fromkeys(group.names, reason)
            else:
                scales = search_scales([folded[name] for name in group.names], mean, rows, grid).scales
                _divide(folded, group, scales)
            for name in group.names:
                folded[name] = _clipped(name, folded[name] * scales, rows / scales, grid)
    for name in names:
        stored[name] = _quantized(folded[name], grid, scale_bits)
    floats = {
        name: array for name, array in folded.items() if name not in stored and array is not weights[name]
    }
    return Folded(stored, floats, unscaled)


def _linears(weights: Mapping[str, F32], layer: int) -> Iterator[str]:
    """Yield the linear operators of a layer that the model has, fused or not."""
    for operator in (
        "attn_q",
        "attn_k",
        "attn_v",
        "attn_qkv",
        "attn_output",
        "ffn_gate",
        "ffn_up",
        "ffn_down",
    ):
        if f"blk.{layer}.{operator}.weight" in weights:
            yield f"blk.{layer}.{operator}.weight"


def _groups(weights: Mapping[str, F32], layer: int, *, shared_values: bool) -> Iterator[_Group]:
    """Yield the groups of a layer, those that reach into other weights first."""
    there = tuple(_linears(weights, layer))
    block = f"blk.{layer}."
    up, down, output = (f"{block}{name}.weight" for name in ("ffn_up", "ffn_down", "attn_output"))
    # Of a fused matrix the rows of up come after those of gate, those of the values at the end.
    yield _Group((down,), up, len(weights[up]) - weights[down].shape[1])
    values = next(name for name in there if name in (f"{block}attn_v.weight", f"{block}attn_qkv.weight"))
    first = len(weights[values]) - weights[output].shape[1]
    yield _Group((output,), None if shared_values else values, first)
    attention = tuple(name for name in there if "attn_" in name and name != output)
    yield _Group(attention, f"{block}attn_norm.weight")
    yield _Group(tuple(n for n in there if "ffn_" in n and n != down), f"{block}ffn_norm.weight")


def _divide(folded: dict[str, F32], group: _Group, scales: F32) -> None:
    """Divide the rows or entries that the input comes from, and their bias."""
    assert group.into is not None  # noqa: S101 - the caller has looked
    for name in (group.into, group.into.removesuffix("weight") + "bias"):
        if name in folded:
            divided = folded[name].copy()
            part = divided[group.first : group.first + len(scales)]
            part /= scales if part.ndim == 1 else scales[:, None]
            folded[name] = divided


def _clipped(name: str, weight: F32, rows: F32, grid: AwqGrid) -> F32:
    """Clip the groups of a scaled weight where that is less wrong on the sample, but those of q and k."""
    if name.endswith((".attn_q.weight", ".attn_k.weight", ".attn_qkv.weight")) or not len(rows):
        return weight
    limits = np.repeat(clip_limits(weight, rows, grid), grid.group, axis=1)
    clipped: F32 = np.clip(weight, -limits, limits)
    return clipped


def _quantized(weight: F32, grid: AwqGrid, scale_bits: int) -> AwqWeight:
    """Quantize a folded weight, and round the scales of its groups to float16, as they are stored."""
    if scale_bits < HALF_BITS:
        # Fewer bits move a scale by more: codes are made with the scale that is stored.
        return quantize(weight, grid, scale_bits)
    stored = quantize(weight, grid)
    half = stored.scale.astype(np.float16).astype(np.float32)
    return AwqWeight(grid, stored.codes, half, stored.zero)
