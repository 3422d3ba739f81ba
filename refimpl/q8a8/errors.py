"""The exceptions of the reference, as one family, and the checks of dtype and row length.

Every message names the array, and where it can, the row, block, element and value. An error about a place in
an array (`DomainError`) also carries that place as attributes, so that a caller who passed a part of
something larger can name the place in the whole.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import DTypeLike, NDArray

__all__ = [
    "ArgumentError",
    "BufferSizeError",
    "DomainError",
    "DtypeError",
    "Q8A8Error",
    "ShapeError",
    "UnknownNameError",
    "UnsupportedOperationError",
    "require_dtype",
    "require_row_length",
]


class Q8A8Error(Exception):
    """Base of the exceptions that this package defines."""


class DtypeError(Q8A8Error, TypeError):
    """An array has another dtype than the function takes."""


class ShapeError(Q8A8Error, ValueError):
    """An array's shape, or the order of its bytes in memory, does not fit."""


class ArgumentError(Q8A8Error, ValueError):
    """A number among the arguments is out of range: a count, a stride, a limit, an index."""


class BufferSizeError(Q8A8Error, ValueError):
    """A buffer is shorter than the block or element count requires, or ends inside a block."""


class UnknownNameError(Q8A8Error, ValueError):
    """No recipe, order, field or type has this name; the message lists those that there are."""

    def __init__(self, kind: str, name: object, known: Iterable[str]) -> None:
        names = list(known)
        close = difflib.get_close_matches(str(name), names, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        super().__init__(f"no {kind} is called {name!r}; there are {', '.join(names)}{hint}")


class UnsupportedOperationError(Q8A8Error, ValueError):
    """An operation that the format does not define (Q8A8-OPS-4)."""


class DomainError(Q8A8Error, ValueError):
    """A value outside the domain of the arithmetic (Q8A8-QNT-12).

    Parameters
    ----------
    reason
        Why the value is outside.
    array
        The name of the array, as the function's parameter list has it.
    row
        Index over the leading axes: `()` for an array of one axis.
    block
        Block in the row.
    element
        Element in the block, or None where the block's scale itself is the value.
    value
        The offending value.
    """

    def __init__(
        self,
        reason: str,
        *,
        array: str,
        row: tuple[int, ...],
        block: int,
        element: int | None,
        value: float,
    ) -> None:
        self.reason = reason
        self.array = array
        self.row = row
        self.block = block
        self.element = element
        self.value = value
        # One axis of rows is by far the usual case and reads best as a plain number.
        where = row[0] if len(row) == 1 else (row or 0)
        place = f"row {where}, block {block}" + ("" if element is None else f", element {element}")
        # Nine significant digits tell any two float32 numbers apart.
        super().__init__(f"{array}: {place}: value {value:.9g}: {reason}")

    def named(self, array: str) -> DomainError:
        """Return the same error of an array with another name."""
        return DomainError(
            self.reason, array=array, row=self.row, block=self.block, element=self.element, value=self.value
        )


def require_dtype(array: NDArray[np.generic], dtype: DTypeLike, name: str) -> None:
    """Refuse any other dtype than this one: nothing is converted silently.

    Raises
    ------
    DtypeError
        naming the array, the expected dtype and its own.
    """
    if array.dtype != dtype:
        raise DtypeError(f"{name}: expected {np.dtype(dtype)}, got {array.dtype}")


def require_row_length(array: NDArray[np.generic], multiple: int, name: str) -> None:
    """Refuse an array without axes, or whose rows are not a whole number of blocks.

    Raises
    ------
    ShapeError
        naming the array, its shape and the block length.
    """
    if array.ndim == 0:
        raise ShapeError(f"{name}: a row has at least one axis; this array has none")
    length = array.shape[-1]
    if length % multiple:
        raise ShapeError(
            f"{name}: rows of {length} elements (shape {array.shape}) are not a multiple of {multiple}"
        )
