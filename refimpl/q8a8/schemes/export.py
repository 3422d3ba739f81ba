"""Weights of AWQ, GPTQ and int4 written as a GGUF file, which a stock llama.cpp runs.

The codes, scales and zero points that a scheme computes become blocks of ggml's types that hold each number
exactly (`q8a8.ggufio.integer_weights`). AWQ's scales of channels are folded into the tensors before
(`q8a8.methods.awq_fold`). Every other scheme is refused, with the reason::

    int4-g32 ...       weights only, int4 in groups       Q4_0, Q4_1, Q5_0
    gptq-*, rtn-*      GPTQ's grid, without or with GPTQ  the same
    awq-*              folded                             the same
    q8_a8, w8a16 ...   blocks of Q8_A8                    q8a8 quantize writes these
    others             a product of their own             nothing in ggml computes it
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8.errors import ArgumentError, ShapeError
from q8a8.ggufio.integer_weights import IntegerWeight, replace_weights
from q8a8.layout import QK8_A8
from q8a8.llama.config import linear_names
from q8a8.llama.linear import Int8WeightLinear, Q8A8Linear
from q8a8.methods.awq import AwqLinear, AwqWeight
from q8a8.methods.awq_fold import fold_awq
from q8a8.methods.gptq import GptqLinear
from q8a8.methods.gptq_grid import Grid
from q8a8.methods.nibbles import unpack_nibbles
from q8a8.methods.weight_only import Int4GroupLinear
from q8a8.rounding import HALF_BITS

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from q8a8.ggufio.tensor_types import TensorType
    from q8a8.llama.load import LoadedModel
    from q8a8.schemes.scheme import Scheme
    from q8a8.schemes.statistics import InputStatistics

    F32 = NDArray[np.float32]

__all__ = ["EXPORTED", "Exported", "export_model", "require_exportable"]

EXPORTED = (Int4GroupLinear, GptqLinear, AwqLinear)
"""The operators whose weights are integer codes with a scale of float16's for some columns of a row."""

SHORT_BITS = HALF_BITS - 4
"""Significant bits of a scale whose products with integers of 4 bits are float16 numbers."""


@dataclass(frozen=True)
class Exported:
    """The result of an export.

    Attributes
    ----------
    types
        The types of the replaced weights, by name.
    folded
        The tensors that scales were folded into and that stay in float.
    unscaled
        Weights whose channels AWQ could not scale, with the reason.
    """

    types: Mapping[str, TensorType]
    folded: tuple[str, ...]
    unscaled: Mapping[str, str]


def require_exportable(scheme: Scheme) -> None:
    """Refuse a scheme that no type of ggml holds.

    Raises
    ------
    ArgumentError
        with the reason.
    """
    if scheme.linear in EXPORTED:
        return
    reason = "its products are not those of integer weights with float activations, and ggml has no such type"
    if scheme.linear in (Q8A8Linear, Int8WeightLinear):
        reason = "its weights are blocks of Q8_A8, which `q8a8 quantize` writes"
    raise ArgumentError(f"{scheme.name}: cannot be written as integer weights: {reason}")


def export_model(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    loaded: LoadedModel,
    scheme: Scheme,
    statistics: InputStatistics,
    *,
    short_scales: bool = False,
) -> Exported:
    """Quantize a model's linear operators by a scheme, and write them.

    Parameters
    ----------
    source, target
        GGUF files. The target appears when it is complete.
    loaded
        The source, loaded.
    scheme
        One of those that can be written.
    statistics
        What it needs of the operators' inputs.
    short_scales
        Whether scales are rounded to 7 significant bits before codes are made: their products with zero
        points of 4 bits are then float16 numbers, which is what Q4_1 needs.

    Raises
    ------
    ArgumentError
        for a scheme that cannot be written, and statistics that are missing.
    ShapeError, DomainError
        for groups that are not multiples of 32 columns, and numbers that no type holds, naming the tensor.
    GgufError
        as `replace_weights`.
    """
    require_exportable(scheme)
    bits = SHORT_BITS if short_scales else HALF_BITS
    options = _with_scale_bits(scheme.options, bits)
    config, weights = loaded.config, loaded.weights
    floats: Mapping[str, F32] = {}
    unscaled: Mapping[str, str] = {}
    if scheme.linear is AwqLinear:

        def inputs(name: str) -> tuple[NDArray[np.float64], F32]:
            mean, rows = (statistics.get(each, name, scheme.name) for each in ("mean", "rows"))
            return np.asarray(mean, np.float64), np.asarray(rows, np.float32)

        shared = config.n_heads != config.n_kv_heads
        folded = fold_awq(
            weights, config.n_layers, inputs, scheme.options["grid"], shared_values=shared, scale_bits=bits
        )
        stored = {name: _awq(weight) for name, weight in folded.weights.items()}
        floats, unscaled = folded.floats, folded.unscaled
    else:
        stored = {}
        for name in linear_names(config):
            found = {
                parameter: statistics.get(statistic, name, scheme.name)
                for parameter, statistic in scheme.statistics.items()
            }
            try:
                linear = scheme.linear(weights[name], **{**options, **found})
            except ShapeError as error:
                raise ShapeError(f"tensor {name}: {error}") from None
            stored[name] = _of_linear(linear, name)
    types = replace_weights(source, target, stored, method=scheme.name, floats=floats)
    return Exported(types, tuple(floats), unscaled)


def _with_scale_bits(options: Mapping[str, Any], bits: int) -> dict[str, Any]:
    """Return the options of int4 weights, or of GPTQ with its grid, for scales of so many bits."""
    grid = options.get("grid")
    if grid is None:
        return {**options, "scale_bits": bits}
    return {**options, "grid": replace(grid, scale_bits=bits)} if isinstance(grid, Grid) else dict(options)


def _of_linear(linear: object, name: str) -> IntegerWeight:
    """Return the codes of an operator of int4 weights or of GPTQ."""
    if isinstance(linear, Int4GroupLinear):
        int4 = linear.weight
        k = int4.shape[1]
        columns = np.arange(k) // int4.group
        zero = None if int4.zero is None else unpack_nibbles(int4.zero, -(-k // int4.group))
        return _by_blocks(unpack_nibbles(int4.packed, k), int4.scale, zero, columns, name)
    assert isinstance(linear, GptqLinear)  # noqa: S101 - `require_exportable` has looked
    gptq = linear.weight
    return _by_blocks(gptq.codes, gptq.scale, gptq.zero, gptq.group_of, name)


def _awq(weight: AwqWeight) -> IntegerWeight:
    """Return the codes of a weight of AWQ."""
    return IntegerWeight(weight.codes, weight.scale, weight.zero if weight.grid.zero_point else None)


def _by_blocks(
    codes: NDArray[np.integer],
    scale: NDArray[np.floating],
    zero: NDArray[np.integer] | None,
    group_of: NDArray[np.integer],
    name: str,
) -> IntegerWeight:
    """Give each block of 32 columns the scale of its group: the last group of a row may be shorter.

    Raises
    ------
    ArgumentError
        where the columns of a block are of several groups.
    """
    k = codes.shape[1]
    whole = group_of.reshape(-1, QK8_A8) if k % QK8_A8 == 0 else group_of[:, None]
    if k % QK8_A8 or (whole != whole[:, :1]).any():
        raise ArgumentError(
            f"tensor {name}: its groups of columns are not whole blocks of {QK8_A8}, as in ggml's types"
        )
    of = whole[:, 0]
    return IntegerWeight(codes, scale[:, of], None if zero is None else zero[:, of])
