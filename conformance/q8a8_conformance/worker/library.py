"""A shared library under test, bound by ctypes. NumPy is not imported, so that a worker starts fast."""

from __future__ import annotations

import ctypes
import os
from functools import cache, partial
from itertools import repeat
from typing import TYPE_CHECKING

from q8a8_conformance.protocol.messages import LOAD_FLUSHING, NO_FAULTS, Fault, LoadChange, Option
from q8a8_conformance.spec.abi import NAMES, get_function
from q8a8_conformance.worker.convention import ARGUMENTS, UNDEFINED, trampoline
from q8a8_conformance.worker.fenv import floating_point
from q8a8_conformance.worker.native_calls import NativeCall
from q8a8_conformance.worker.process_state import LoadWatch
from q8a8_conformance.worker.watchpoints import available as can_watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.worker.memory import PlacedBuffer

_INTEGERS = {"int": ctypes.c_int, "int64_t": ctypes.c_int64, "size_t": ctypes.c_size_t}


class TargetError(Exception):
    """The target cannot be loaded; the message is the reason."""


def parse_symbols(symbols: Iterable[str]) -> dict[str, str]:
    """Parse ``ABI=EXPORTED`` arguments into a map from ABI names to exported names.

    Raises
    ------
    TargetError
        An argument has another form, an unknown ABI name, or an ABI name that occurred before.
    """
    names: dict[str, str] = {}
    for word in symbols:
        abi_name, equals, exported = word.partition("=")
        if not equals or not exported:
            raise TargetError(f"--symbol {word}: write ABI_NAME=EXPORTED_NAME")
        if abi_name not in NAMES:
            raise TargetError(
                f"--symbol {word}: {abi_name} is not an ABI function; they are {', '.join(NAMES)}"
            )
        if abi_name in names:
            raise TargetError(f"--symbol {word}: {abi_name} is given twice")
        names[abi_name] = exported
    return names


@cache
def _fields(function: str) -> tuple[str, ...]:
    """Return the fields of a call that its function takes as arguments; empty for its buffers."""
    return tuple(each.field if each.element is None else "" for each in get_function(function).parameters)


def _undefined_above(function: str, arguments: Iterable[int]) -> list[int]:
    """Return a call's arguments with bits that are not zero where a register, or half of it, is undefined."""
    upper = int.from_bytes(4 * bytes([UNDEFINED])) << 32
    both = zip(get_function(function).parameters, arguments, strict=True)
    words = [value % 2**32 | upper if each.ctype == "int" else value for each, value in both]
    return words + [int.from_bytes(8 * bytes([UNDEFINED]))] * (ARGUMENTS - len(words))


def _parts(buffer: PlacedBuffer, count: int) -> range:
    """Return the addresses of so many equal parts of a buffer."""
    step = buffer.length // count
    return range(buffer.address, buffer.address + count * step, step) if step else range(0)


class LibraryTarget:
    """The ABI functions of a shared library.

    Parameters
    ----------
    path : Path
        The library.
    symbols : iterable of str
        ``ABI_NAME=EXPORTED_NAME``, for functions exported under other names.
    init : str or None
        A ``void f(void)`` of the library, called once after loading.

    Attributes
    ----------
    loading : tuple of LoadChange
        What loading and the initializer left changed; the floating-point environment was set back.
    capabilities : tuple of str
        The capabilities that checked calls bring.

    Raises
    ------
    TargetError
        The library cannot be loaded, or does not export a requested symbol.
    """

    def __init__(self, path: Path, symbols: Iterable[str] = (), init: str | None = None) -> None:
        names = parse_symbols(symbols)
        if not path.is_file():
            raise TargetError(f"there is no file {path}")
        watch = LoadWatch(floating_point(), flush=bool(os.environ.get(LOAD_FLUSHING)))
        try:
            self._library = ctypes.CDLL(str(path.absolute()))
        except OSError as error:
            raise TargetError(f"cannot load {path}: {error}") from None
        watch.compare("load")
        self._names = names
        self._functions: dict[str, ctypes._NamedFuncPointer] = {}
        for name in NAMES:
            function = self._find(names.get(name, name))
            if function:
                self._functions[name] = function
            elif name in names:
                raise TargetError(f"--symbol {name}={names[name]}: {path.name} exports no {names[name]}")
        if init:
            initialize = self._find(init)
            if not initialize:
                raise TargetError(f"--init {init}: {path.name} exports no {init}")
            initialize()
            watch.compare("init")
        watch.end()
        self._addresses = {
            name: ctypes.cast(function, ctypes.c_void_p).value or 0
            for name, function in self._functions.items()
        }
        self.loading: tuple[LoadChange, ...] = watch.found
        self._trampoline = trampoline()
        self.capabilities = (
            "rows",
            "own-thread",
            *(("registers", "stack") if self._trampoline else ()),
            *(("watch",) if can_watch() else ()),
        )

    @property
    def functions(self) -> tuple[str, ...]:
        """The ABI names that the library offers, in protocol order."""
        return tuple(self._functions)

    is_native = True

    def address(self, name: str) -> int | None:
        """Return the address of a function, by its ABI name or any other name that the library exports."""
        function = self._find(self._names.get(name, name))
        return ctypes.cast(function, ctypes.c_void_p).value if function else None

    def native(self, call: Call, buffers: Sequence[PlacedBuffer]) -> NativeCall:
        """Return the call as the function's address and its arguments."""
        addresses = iter(buffers)
        arguments = [
            getattr(call, field) if field else next(addresses).address for field in _fields(call.function)
        ]
        return NativeCall(self._addresses[call.function], tuple(arguments))

    def bind(self, call: Call, buffers: Sequence[PlacedBuffer]) -> Callable[[], object]:
        """Return a function without parameters that makes the call; it releases the interpreter lock.

        A call of one thread goes through the trampoline, where there is one: see `take_faults`.
        """
        if self._trampoline and call.threads == 1:
            native = self.native(call, buffers)
            measured = Option.STATE in call.options
            words = _undefined_above(call.function, native.arguments) if measured else native.arguments
            return self._trampoline.bind(native.function, words, measured=measured)
        addresses = iter(buffers)
        arguments = [
            _INTEGERS[parameter.ctype](getattr(call, parameter.field))
            if parameter.element is None
            else ctypes.c_void_p(next(addresses).address)
            for parameter in get_function(call.function).parameters
        ]
        return partial(self._functions[call.function], *arguments)

    def bind_rows(self, call: Call, buffers: Sequence[PlacedBuffer]) -> Callable[[], object]:
        """Return a function without parameters that makes `repeat` calls, each on the buffers' next parts.

        Nothing is checked around each: what the trampoline takes would be most of the time.
        """
        address = self.native(call, buffers).function
        types = [
            ctypes.c_void_p if each.element is not None else _INTEGERS[each.ctype]
            for each in get_function(call.function).parameters
        ]
        function = ctypes.CFUNCTYPE(None, *types)(address)
        parts = iter([_parts(each, call.repeat) for each in buffers])
        arguments = [
            repeat(getattr(call, field), call.repeat) if field else next(parts)
            for field in _fields(call.function)
        ]

        def run() -> None:
            for each in zip(*arguments, strict=True):
                function(*each)

        return run

    def take_faults(self) -> tuple[Fault, list[str]]:
        """Return what the last call of one thread broke of the calling convention, and forget it."""
        return self._trampoline.take_faults() if self._trampoline else (NO_FAULTS, [])

    def _find(self, symbol: str) -> ctypes._NamedFuncPointer | None:
        try:
            function = self._library[symbol]
        except AttributeError:
            return None
        function.restype = None
        return function
