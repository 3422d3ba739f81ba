"""The grids of GPTQ: the numbers of a grid, how weights are stored, and rounding to nearest.

The grid is that of the authors' `Quantizer` (IST-DASLab/gptq, `quant.py`) with `perchannel=True, mse=False`::

    lo, hi = min(0, min w), max(0, max w)          0, 0 becomes −1, 1
    symmetric:   hi = max(−lo, hi), lo = −hi where lo < 0
    scale  = (hi − lo) / (2^bits − 1)
    zero   = 2^(bits − 1) if symmetric, else round(−lo / scale)
    code   = clamp(round(w / scale) + zero, 0, 2^bits − 1)        halves to even
    number = scale · (code − zero)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from q8a8.errors import ArgumentError, DomainError
from q8a8.methods.finite import require_matrix
from q8a8.rounding import HALF_BITS, round_to_half_bits

if TYPE_CHECKING:
    from numpy.typing import NDArray

    F32 = NDArray[np.float32]
    F64 = NDArray[np.float64]

__all__ = ["GptqWeight", "Grid", "dequantize", "fit_groups", "round_to_nearest", "store"]


@dataclass(frozen=True)
class Grid:
    """The numbers that a group of weights may become: scale · (code − zero), code 0 to 2^bits − 1.

    Parameters
    ----------
    bits
        2 to 8.
    group
        Columns with one scale; None for whole rows. The last group of a row may be shorter.
    symmetric
        Whether zero is the middle code.
    half_scale
        Whether the scale is rounded to float16, as it is stored, before codes are made (GPT-6).
    scale_bits
        Of a float16 scale, the significant bits that are used.
    """

    bits: int = 4
    group: int | None = 128
    symmetric: bool = False
    half_scale: bool = True
    scale_bits: int = HALF_BITS

    def __post_init__(self) -> None:
        """Check the bits and the group."""
        if not 2 <= self.bits <= 8:
            raise ArgumentError(f"bits: expected 2 to 8, got {self.bits}")
        if self.group is not None and self.group < 1:
            raise ArgumentError(f"group: expected at least 1 or None, got {self.group}")

    @property
    def levels(self) -> int:
        """The largest code."""
        return (1 << self.bits) - 1

    def width(self, k: int) -> int:
        """Return the columns of a group in rows of k."""
        return max(k, 1) if self.group is None else self.group

    def fit(self, w: F64) -> tuple[F64, F64]:
        """Fit scale and zero `[m]` to weights `[m, c]`.

        Raises
        ------
        DomainError
            A scale does not fit float16.
        """
        lo = np.minimum(w.min(axis=1, initial=0), 0)
        hi = np.maximum(w.max(axis=1, initial=0), 0)
        if self.symmetric:
            hi = np.maximum(-lo, hi)
            lo = np.where(lo < 0, -hi, lo)
        empty = (lo == 0) & (hi == 0)
        lo, hi = np.where(empty, -1.0, lo), np.where(empty, 1.0, hi)
        scale = (hi - lo) / self.levels
        zero = np.full_like(scale, 1 << (self.bits - 1)) if self.symmetric else np.rint(-lo / scale)
        return (_to_half(scale, w, self.scale_bits) if self.half_scale else _to_single(scale)), zero

    def codes(self, w: F64, scale: F64, zero: F64) -> F64:
        """Return the codes `[...]` of weights `[...]`, as whole numbers."""
        return np.clip(np.rint(w / scale) + zero, 0, self.levels)


def _to_single(scale: F64) -> F64:
    """Round scales to float32, as they are kept; one that would vanish becomes the smallest (GPT-6)."""
    return np.maximum(scale.astype(np.float32), np.float32(2.0**-149)).astype(np.float64)


def _to_half(scale: F64, w: F64, bits: int) -> F64:
    """Round scales to float16; one that would vanish becomes the smallest float16 that is not 0 (GPT-6)."""
    with np.errstate(over="ignore"):
        # All bits: from float64 at once.
        half = (scale if bits == HALF_BITS else round_to_half_bits(scale, bits)).astype(np.float16)
    if np.isinf(half).any():
        row = int(np.argmax(np.isinf(half)))
        element = int(np.argmax(np.abs(w[row])))
        raise DomainError(
            "the scale of its group does not fit float16",
            array="weight",
            row=(row,),
            block=0,
            element=element,
            value=float(w[row, element]),
        )
    return np.maximum(half, np.float16(2.0**-24)).astype(np.float64)


@dataclass(frozen=True)
class GptqWeight:
    """A matrix as it is stored.

    Parameters
    ----------
    grid
        The grid that the codes are on.
    codes
        uint8 `[m, k]`, in the order of the weight's columns.
    scale
        float32 `[m, groups]` (a float16's value with `half_scale`).
    zero
        uint8 `[m, groups]`.
    group_of
        int32 `[k]`: each column's group. Stored only where it is not column / group (activation order).
    """

    grid: Grid
    codes: NDArray[np.uint8]
    scale: F32
    zero: NDArray[np.uint8]
    group_of: NDArray[np.int32]

    def packed(self) -> tuple[NDArray[np.uint8], ...]:
        """Return the arrays as they are stored: codes and zeros packed by bits, scales, the columns' groups.

        A code's bits follow each other from the lowest, codes in the order of rows, without padding.
        """
        bits = self.grid.bits
        arrays = [_pack(self.codes, bits), _bytes(self.scale.astype(_scale_type(self.grid)))]
        if not self.grid.symmetric:
            arrays.append(_pack(self.zero, bits))
        if not self._in_order():
            arrays.append(_bytes(self.group_of))
        return tuple(arrays)

    @property
    def nbytes(self) -> int:
        """Bytes that are stored."""
        return sum(array.nbytes for array in self.packed())

    def _in_order(self) -> bool:
        k = self.codes.shape[1]
        return bool(np.array_equal(self.group_of, np.arange(k) // self.grid.width(k)))


def _scale_type(grid: Grid) -> type[np.float16 | np.float32]:
    return np.float16 if grid.half_scale else np.float32


def _bytes(array: NDArray[np.generic]) -> NDArray[np.uint8]:
    return np.frombuffer(array.tobytes(), np.uint8)


def _pack(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Pack codes of so many bits, lowest bit first."""
    spread = np.unpackbits(codes.ravel()[:, None], axis=1, count=bits, bitorder="little")
    return np.packbits(spread, bitorder="little")


def dequantize(stored: GptqWeight) -> F32:
    """Turn codes into numbers: f32(scale · (code − zero)), `[m, k]`; exact with float16 scales."""
    difference = stored.codes.astype(np.float32) - stored.zero.astype(np.float32)[:, stored.group_of]
    return stored.scale[:, stored.group_of] * difference


def round_to_nearest(weight: F32, grid: Grid) -> GptqWeight:
    """Round every weight to its grid by itself: the baseline of GPTQ.

    Parameters
    ----------
    weight
        float32 `[m, k]`.
    grid
        The grid; its parameters are those of the weights as they are.

    Raises
    ------
    ShapeError, DtypeError, DomainError
        No matrix, another dtype, NaN or infinity, a scale beyond float16.
    """
    require_matrix(weight, "weight")
    w = weight.astype(np.float64)
    k = w.shape[1]
    group_of = (np.arange(k) // grid.width(k)).astype(np.int32)
    scale, zero = fit_groups(w, grid)
    codes = grid.codes(w, scale[:, group_of], zero[:, group_of])
    return store(grid, codes, scale, zero, group_of)


def fit_groups(w: F64, grid: Grid) -> tuple[F64, F64]:
    """Fit a grid to each group of columns of weights `[m, k]`: scale and zero, `[m, groups]` each."""
    m, k = w.shape
    width = grid.width(k)
    fitted = [grid.fit(w[:, first : first + width]) for first in range(0, k, width)]
    scale, zero = (np.reshape([pair[i] for pair in fitted], (len(fitted), m)).T for i in (0, 1))
    return np.array(scale), np.array(zero)


def store(grid: Grid, codes: F64, scale: F64, zero: F64, group_of: NDArray[np.int32]) -> GptqWeight:
    """Keep whole numbers as bytes, and scales as float32."""
    return GptqWeight(grid, codes.astype(np.uint8), scale.astype(np.float32), zero.astype(np.uint8), group_of)
