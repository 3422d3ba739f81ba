"""A Python object under test: its methods get NumPy arrays over guarded memory, as a library does.

The arrays are one-dimensional: float32 for ``float *``, int8 for ``int8_t *``, uint16 for the bits of a half
and uint8 for blocks. Inputs are not writable. Arguments come in the order of the C function, integers as
`int`; a method writes its outputs in place and its return value is ignored.
"""

from __future__ import annotations

import ctypes
import importlib
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.spec.abi import NAMES, BufferSpec, get_function
from q8a8_conformance.worker.library import TargetError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.worker.memory import PlacedBuffer

_DTYPES: dict[str, type[np.generic]] = {"f32": np.float32, "i8": np.int8, "f16": np.uint16}


class ObjectTarget:
    """The ABI functions of a Python object.

    Parameters
    ----------
    kernel : object
        An object with methods named as in the ABI; missing ones are not offered. A class is instantiated
        without arguments.
    """

    def __init__(self, kernel: object) -> None:
        self.kernel = kernel() if isinstance(kernel, type) else kernel
        self.functions = tuple(name for name in NAMES if callable(getattr(self.kernel, name, None)))

    is_native = False

    def native(self, call: Call, buffers: Sequence[PlacedBuffer]) -> None:
        """Return None: the methods need the interpreter."""

    def bind(self, call: Call, buffers: Sequence[PlacedBuffer]) -> Callable[[], object]:
        """Return a function without parameters that makes the call."""
        function = get_function(call.function)
        arrays = iter([_view(spec, buffer) for spec, buffer in zip(function.buffers, buffers, strict=True)])
        arguments = [
            getattr(call, parameter.field) if parameter.element is None else next(arrays)
            for parameter in function.parameters
        ]
        return partial(getattr(self.kernel, call.function), *arguments)


def _view(spec: BufferSpec, buffer: PlacedBuffer) -> NDArray[Any]:
    """Return an array over a buffer's memory."""
    dtype = np.dtype(_DTYPES.get(spec.element, np.uint8))
    memory = memoryview((ctypes.c_ubyte * buffer.length).from_address(buffer.address)).cast("B")
    array: NDArray[Any] = np.ndarray(buffer.length // dtype.itemsize, dtype, memory)
    array.flags.writeable = spec.role == "output"
    return array


def resolve(name: str) -> object:
    """Import ``MODULE:OBJECT``; OBJECT may have dots.

    Raises
    ------
    TargetError
        The module cannot be imported, or has no such object.
    """
    module_name, colon, path = name.partition(":")
    if not colon or not path:
        raise TargetError(f"{name}: write MODULE:OBJECT")
    sys.dont_write_bytecode = True  # the folder is the user's
    try:
        found: object = importlib.import_module(module_name)
    except Exception as error:  # an imported module may raise anything
        raise TargetError(f"cannot import {module_name}: {type(error).__name__}: {error}") from error
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise TargetError(f"{name}: there is no {part} in {found!r:.80}") from None
    return found
