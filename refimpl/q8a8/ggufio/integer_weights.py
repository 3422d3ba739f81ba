"""Weights of integer codes (AWQ, GPTQ, int4 in groups) in ggml's types: exactly, or not at all.

A weight is f32(s · (q - z)), with a scale and a zero point for so many columns of a row. ggml has one scale,
float16, for 32 columns, so the group must be a multiple of 32 and the scale one of float16's. The narrowest
of these types that holds every number of the matrix is taken::

    type   bits   block                        number             holds n = q - z
    Q4_0   4.5    d f16, 32 nibbles            d · (c - 8)        -8 .. 7
    Q4_1   5      d f16, m f16, 32 nibbles     d · c + m          min n + 0 .. 15, where d · min n is float16
    Q5_0   5.5    d f16, high bits, nibbles    d · (c - 16)       -16 .. 15
    Q8_0   8.5    d f16, 32 int8               d · c              -128 .. 127

Products and the sum of Q4_1 are exact in float32: 11 bits of d times 13 bits of n fit in 24.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from q8a8.errors import DomainError, ShapeError
from q8a8.ggufio.errors import GgufError, shown
from q8a8.ggufio.floats import is_q8_a8
from q8a8.ggufio.model import open_model
from q8a8.ggufio.tensor_types import F32, Q4_0, Q4_1, Q5_0, Q8_0
from q8a8.ggufio.writer import field, require_distinct, writing
from q8a8.layout import QK8_A8

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from q8a8.ggufio.tensor_types import TensorType

__all__ = ["IntegerWeight", "exact_blocks", "replace_weights"]

FILE_TYPES = {Q4_0: 2, Q4_1: 3, Q5_0: 8, Q8_0: 7}
"""LLAMA_FTYPE_MOSTLY_Q4_0 and so on."""


@dataclass(frozen=True)
class IntegerWeight:
    """A matrix of integer codes: f32(scale · (codes - zero)).

    Parameters
    ----------
    codes
        Integers `[m, k]`.
    scale
        float16 or float32 `[m, groups]`, finite; `groups` divides k.
    zero
        Integers `[m, groups]`, None where all are 0.
    """

    codes: NDArray[np.integer]
    scale: NDArray[np.floating]
    zero: NDArray[np.integer] | None = None


def exact_blocks(weight: IntegerWeight, name: str) -> tuple[TensorType, NDArray[np.uint8]]:
    """Return the narrowest type that holds a weight exactly, and its bytes, uint8 `[m, bytes of a row]`.

    Parameters
    ----------
    weight
        The matrix.
    name
        Its name, for errors.

    Raises
    ------
    ShapeError
        where groups are not whole blocks of 32 columns.
    DomainError
        for a scale that is not one of float16's, or a number that no type holds, naming the place.
    """
    (m, k), (rows, groups) = weight.codes.shape, weight.scale.shape
    if rows != m or not groups or k % groups or (k // groups) % QK8_A8:
        raise ShapeError(
            f"{name}: codes {[m, k]} with scales {[rows, groups]}: a group must be a multiple of {QK8_A8} "
            "columns"
        )
    repeats = k // groups // QK8_A8
    with np.errstate(over="ignore"):
        half = weight.scale.astype("<f2")
    wrong = ~np.isfinite(half) | (half.astype(np.float64) != weight.scale)
    if wrong.any():
        row, group = (int(i) for i in np.unravel_index(int(wrong.argmax()), wrong.shape))
        value = float(weight.scale[row, group])
        raise _refusal("the scale is not one of float16's", name, (row, group * repeats, 0), value)
    d = np.repeat(half, repeats, axis=1)
    numbers = weight.codes.astype(np.int64).reshape(m, -1, QK8_A8)
    if weight.zero is not None:
        numbers = numbers - np.repeat(weight.zero.astype(np.int64), repeats, axis=1)[..., None]
    return _narrowest(d, numbers, name)


def _narrowest(
    d: NDArray[np.float16], numbers: NDArray[np.int64], name: str
) -> tuple[TensorType, NDArray[np.uint8]]:
    """Choose a type for the scales `[m, blocks]` and the integers `[m, blocks, 32]`, and make the bytes."""
    low, high = int(numbers.min(initial=0)), int(numbers.max(initial=0))
    if low >= -8 and high <= 7:
        return Q4_0, _joined(_bytes(d), _nibbles(numbers + 8))
    least = numbers.min(axis=-1)
    # Beyond +-2^12 the sum of Q4_1 would not be exact in float32.
    if low >= -4096 and high < 4096 and (numbers.max(axis=-1) - least <= 15).all():
        offset = d.astype(np.float64) * least
        with np.errstate(over="ignore"):
            minimum = offset.astype("<f2")
        if (minimum == offset).all():
            return Q4_1, _joined(_bytes(d), _bytes(minimum), _nibbles(numbers - least[..., None]))
    if low >= -16 and high <= 15:
        codes = numbers + 16
        high_bits = ((codes >> 4) << np.arange(QK8_A8)).sum(axis=-1).astype("<u4")
        return Q5_0, _joined(_bytes(d), _bytes(high_bits), _nibbles(codes & 15))
    beyond = (numbers < -128) | (numbers > 127)
    if beyond.any():
        place = tuple(int(i) for i in np.unravel_index(int(beyond.argmax()), beyond.shape))
        reason = "no type holds an integer outside -128 to 127"
        raise _refusal(reason, name, place, float(numbers[place]))
    return Q8_0, _joined(_bytes(d), numbers.astype(np.int8).view(np.uint8))


def _refusal(reason: str, name: str, place: tuple[int, ...], value: float) -> DomainError:
    """Make the error about a place: row, block, element."""
    row, block, element = place
    return DomainError(reason, array=name, row=(row,), block=block, element=element, value=value)


def _bytes(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """See one number a block as its bytes: `[m, blocks, size]`."""
    return np.ascontiguousarray(values)[..., None].view(np.uint8)


def _nibbles(codes: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Pack codes of 0 to 15: elements 0 to 15 of a block are the low halves, 16 to 31 the high ones."""
    half = QK8_A8 // 2
    return (codes[..., :half] | codes[..., half:] << 4).astype(np.uint8)


def _joined(*pieces: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Put the pieces of each block together, and the blocks of each row."""
    blocks = np.concatenate(pieces, axis=-1)
    return blocks.reshape(len(blocks), -1)


def replace_weights(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    weights: Mapping[str, IntegerWeight],
    *,
    method: str,
    floats: Mapping[str, NDArray[np.float32]] | None = None,
) -> dict[str, TensorType]:
    """Write a model whose weights are replaced by quantized ones; everything else keeps its bytes.

    Parameters
    ----------
    source, target
        Two GGUF files, little-endian. The target appears when it is complete.
    weights
        By tensor name.
    method
        What made them, for the key `q8_a8.method`.
    floats
        Other tensors that change, by name: written as F32.

    Returns
    -------
    dict
        The types that they got, by name.

    Raises
    ------
    GgufError
        for a tensor that is not there or has another shape, and a file that cannot be read or written.
    ShapeError, DomainError
        as `exact_blocks`.
    """
    source, target, floats = Path(source), Path(target), floats or {}
    with open_model(source) as model:
        require_distinct(model.paths, target)
        order = model.header.order
        if order != "<":
            raise GgufError(source, "is big-endian: blocks of nibbles are written in little-endian files")
        shapes = {name: weight.codes.shape for name, weight in weights.items()}
        for name, shape in (shapes | {name: array.shape for name, array in floats.items()}).items():
            if model.tensor(name).shape != shape:
                expected = list(model.tensor(name).shape)
                raise GgufError(source, f"tensor {shown(name)}: expected codes {expected}, got {list(shape)}")
        stored = {name: exact_blocks(weight, f"tensor {shown(name)}") for name, weight in weights.items()}
        types = {name: kind for name, (kind, _) in stored.items()}
        kept = {name: Q8_0 if is_q8_a8(info.type) else info.type for name, info in model.tensors.items()}
        kinds = kept | dict.fromkeys(floats, F32) | types
        tensors = {info.name: (info.shape, kinds[info.name]) for info in model.tensors.values()}
        fields = dict(model.fields)
        fields["general.quantization_version"] = field(2, order)
        elements = {
            kind: sum(weights[n].codes.size for n in types if types[n] == kind) for kind in FILE_TYPES
        }
        most = max(elements, key=lambda kind: elements[kind])
        if 2 * elements[most] > sum(info.elements for info in model.tensors.values() if len(info.shape) > 1):
            fields["general.file_type"] = field(FILE_TYPES[most], order)
        fields["q8_a8.method"] = field(method, order)
        fields["q8_a8.source_sha256"] = field(model.sha256(), order)
        with writing(target, model.header, fields, tensors) as writer:
            for name in tensors:
                if name in stored:
                    writer.write(stored[name][1])
                elif name in floats:
                    writer.write(floats[name].astype("<f4", copy=False))
                else:
                    for _, raw in model.raw_parts(name):
                        writer.write(raw)
                writer.end()
    return types
