"""The reference's errors: one family, and messages that name the place."""

from __future__ import annotations

import numpy as np
import pytest

from q8a8 import errors


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (errors.ArgumentError, ValueError),
        (errors.BufferSizeError, ValueError),
        (errors.DomainError, ValueError),
        (errors.DtypeError, TypeError),
        (errors.ShapeError, ValueError),
        (errors.UnknownNameError, ValueError),
        (errors.UnsupportedOperationError, ValueError),
    ],
)
def test_one_family(error: type[Exception], builtin: type[Exception]) -> None:
    """Every error is a Q8A8Error, and the built-in error that a caller without this package would catch."""
    assert issubclass(error, errors.Q8A8Error)
    assert issubclass(error, builtin)


@pytest.mark.parametrize(
    ("row", "element", "text"),
    [
        ((), 3, "x: row 0, block 2, element 3: value 1.5: too large"),
        ((7,), 3, "x: row 7, block 2, element 3: value 1.5: too large"),
        ((7, 1), 3, "x: row (7, 1), block 2, element 3: value 1.5: too large"),
        ((7,), None, "x: row 7, block 2: value 1.5: too large"),
    ],
)
def test_domain_error_says_where(row: tuple[int, ...], element: int | None, text: str) -> None:
    """The message names array, row, block, element and value, and the attributes hold them."""
    error = errors.DomainError("too large", array="x", row=row, block=2, element=element, value=1.5)
    assert str(error) == text
    assert (error.array, error.row, error.block, error.element, error.value, error.reason) == (
        "x",
        row,
        2,
        element,
        1.5,
        "too large",
    )


def test_unknown_name_lists_the_known() -> None:
    """Who mistypes a name is shown those that there are."""
    assert str(errors.UnknownNameError("recipe", "desing", ["design", "division"])) == (
        "no recipe is called 'desing'; there are design, division; did you mean design?"
    )


def test_require_dtype() -> None:
    """A wrong dtype is named with the array and the dtype that was wanted."""
    errors.require_dtype(np.zeros(2, np.float32), np.float32, "x")
    with pytest.raises(errors.DtypeError, match=r"^x: expected float32, got float64$"):
        errors.require_dtype(np.zeros(2), np.float32, "x")


def test_require_row_length() -> None:
    """Rows that are no whole number of blocks, and arrays without rows, are refused by shape."""
    errors.require_row_length(np.zeros((3, 64)), 32, "x")
    with pytest.raises(
        errors.ShapeError, match=r"^x: rows of 33 elements \(shape \(2, 33\)\) are not a multiple of 32$"
    ):
        errors.require_row_length(np.zeros((2, 33)), 32, "x")
    with pytest.raises(errors.ShapeError, match="x: a row has at least one axis"):
        errors.require_row_length(np.zeros(()), 32, "x")
