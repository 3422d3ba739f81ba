"""A kernel as a WebAssembly module, in wasmtime: ``py:q8a8_lab.wasm:simd128``, ``py:q8a8_lab.wasm:scalar``.

The module (``native_check/kernels/wasm-simd128.c``) exports the C functions, and ``malloc`` and ``free`` for
their buffers. The host copies each buffer into the module's memory and the outputs back.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import wasmtime

from q8a8.install import VERSION
from q8a8_conformance.spec.abi import NAMES, get_function
from q8a8_lab import native_build

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray


class Module:
    """The functions of a module, as methods of the ABI's names that take arrays for pointers.

    Parameters
    ----------
    path
        The module; it imports nothing.
    """

    version = VERSION

    def __init__(self, path: Path) -> None:
        engine = wasmtime.Engine()
        self._store = wasmtime.Store(engine)
        instance = wasmtime.Instance(self._store, wasmtime.Module.from_file(engine, str(path)), [])
        self._exports = instance.exports(self._store)
        self._lock = threading.Lock()
        memory = self._exports["memory"]
        if not isinstance(memory, wasmtime.Memory):
            raise TypeError(f"{path} exports no memory")
        self._memory = memory
        self._function("_initialize")(self._store)
        for name in NAMES:
            setattr(self, name, partial(self._call, name))

    def _function(self, name: str) -> Callable[..., Any]:
        """Return an exported function."""
        found = self._exports[name]
        if not isinstance(found, wasmtime.Func):
            raise TypeError(f"{name} is no function")
        return found

    def _call(self, name: str, *arguments: int | NDArray[Any]) -> None:
        """Call a function with copies of its buffers, and copy the outputs back; one call at a time."""
        parameters = get_function(name).parameters
        specs = iter(get_function(name).buffers)
        outputs: list[tuple[NDArray[Any], int]] = []
        with self._lock:
            pointers: list[int] = []
            words: list[int] = []
            for parameter, argument in zip(parameters, arguments, strict=True):
                if parameter.element is None or isinstance(argument, int):
                    words.append(int(argument))
                    continue
                words.append(self._function("malloc")(self._store, max(argument.nbytes, 1)))
                pointers.append(words[-1])
                self._memory.write(self._store, argument.tobytes(), words[-1])
                if next(specs).role == "output":
                    outputs.append((argument, words[-1]))
            self._function(name)(self._store, *words)
            for array, at in outputs:
                data = self._memory.read(self._store, at, at + array.nbytes)
                array.view("u1")[:] = memoryview(data)
            for pointer in pointers:
                self._function("free")(self._store, pointer)


def __getattr__(name: str) -> Module:
    """Build and load the module of a kernel: ``scalar`` or ``simd128``."""
    if name not in {"scalar", "simd128"}:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    file = {"scalar": "q8a8-scalar.wasm", "simd128": "q8a8-wasm-simd128.wasm"}[name]
    return Module(native_build.build("zig-wasm") / "bin" / file)
