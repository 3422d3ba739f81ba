"""Checks of the methods' inputs: arrays of finite float32 numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from q8a8.errors import DomainError, ShapeError, require_dtype

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["require_finite", "require_matrix"]


def require_finite(array: NDArray[np.float32], name: str) -> None:
    """Refuse everything but arrays of finite float32 numbers.

    Parameters
    ----------
    array
        float32 `[...]`.
    name
        The name of the caller's parameter.

    Raises
    ------
    DtypeError
        naming the array and its dtype.
    DomainError
        naming the first NaN or infinity and its place; a row counts as one block.
    """
    require_dtype(array, np.float32, name)
    finite = np.isfinite(array)
    if not finite.all():
        place = [int(i) for i in np.unravel_index(int(np.argmin(finite)), array.shape)]
        raise DomainError(
            "only finite numbers can be quantized",
            array=name,
            row=tuple(place[:-1]),
            block=0,
            element=place[-1] if place else None,
            value=float(array[tuple(place)]),
        )


def require_matrix(array: NDArray[np.float32], name: str, columns: int | None = None) -> None:
    """Refuse everything but finite float32 matrices, of this many columns where that is given.

    Raises
    ------
    ShapeError, DtypeError, DomainError
        naming the array.
    """
    if array.ndim != 2 or (columns is not None and array.shape[1] != columns):
        wanted = "[n, k]" if columns is None else f"[n, {columns}]"
        raise ShapeError(f"{name}: expected shape {wanted}, got {array.shape}")
    require_finite(array, name)
