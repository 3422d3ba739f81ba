"""The type of arrays of any shape and any dtype: what each one holds, its docstrings say."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Callable

Array = NDArray[Any]

Taken = ParamSpec("Taken")
Returned = TypeVar("Returned", bound=NDArray[Any] | tuple[NDArray[Any], ...])


def read_only(function: Callable[Taken, Returned]) -> Callable[Taken, Returned]:
    """Return a function whose arrays cannot be written to: results that are cached have many readers."""

    @wraps(function)
    def fixed(*args: Taken.args, **kwargs: Taken.kwargs) -> Returned:
        result = function(*args, **kwargs)
        for array in result if isinstance(result, tuple) else (result,):
            array.setflags(write=False)
        return result

    return fixed
