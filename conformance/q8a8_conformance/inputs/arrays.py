"""The type of arrays of any shape and any dtype: what each one holds, its docstrings say."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]
