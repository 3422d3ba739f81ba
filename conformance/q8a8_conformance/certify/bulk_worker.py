"""A worker that evaluates whole pieces of a domain, for a library, a Python object or the reference.

::

    python -m q8a8_conformance.certify.bulk_worker lib PATH [--symbol ABI=EXPORTED]... [--init SYMBOL]
    python -m q8a8_conformance.certify.bulk_worker py MODULE:OBJECT
    python -m q8a8_conformance.certify.bulk_worker ref

The command line, the frames and the hello are those of `q8a8_conformance.worker`. A request names a piece of
a domain, whose inputs are built in this process, so that millions of calls of a kernel take one exchange.
There are no guard pages or canaries: `q8a8 test` checks memory::

    payload  'A', JSON {"domain", "start", "stop"}  →  'R', the results' bytes   or   'E', text
"""

from __future__ import annotations

import ctypes
import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from q8a8 import rounding
from q8a8.dot import vec_dot, vec_dot_real
from q8a8.layout import BLOCK_Q8_A8, BLOCK_Q8_A8_V2, as_blocks
from q8a8_conformance.certify.catalogue import get_domain
from q8a8_conformance.certify.functions import DOT, NARROW, POISON, WIDEN
from q8a8_conformance.protocol.hello import encode_hello
from q8a8_conformance.protocol.messages import EXIT_USAGE
from q8a8_conformance.worker.library import LibraryTarget, TargetError
from q8a8_conformance.worker.pyobject import ObjectTarget
from q8a8_conformance.worker.serve import Channel, load, parse

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from q8a8_conformance.certify.domains import Domain
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.worker.invoke import Target

_PROTOTYPES = {
    "quantize_row_q8_a8": "ppq",
    "quantize_row_q8_a8_ref": "ppq",
    "dequantize_row_q8_a8": "ppq",
    "ggml_vec_dot_q8_a8_q8_a8": "ipnpnpni",
    "ggml_vec_dot_q8_a8_q8_a8_real": "ippp",
    NARROW: "ppq",
    WIDEN: "ppq",
}
_CTYPES = {"p": ctypes.c_void_p, "q": ctypes.c_int64, "i": ctypes.c_int, "n": ctypes.c_size_t}


def _poisoned(count: int, dtype: type[np.generic]) -> Array:
    array = np.empty(count, dtype)
    array.view(np.uint8)[...] = POISON
    return array


class LibraryFunctions:
    """The functions of a library, called by address; implements `Functions`."""

    def __init__(self, addresses: dict[str, int]) -> None:
        self.names = tuple(addresses)
        self._functions: dict[str, Callable[..., None]] = {
            name: ctypes.CFUNCTYPE(None, *(_CTYPES[letter] for letter in _PROTOTYPES[name]))(address)
            for name, address in addresses.items()
        }

    def quantize(self, function: str, x: Array) -> Array:
        """See `Functions`."""
        y = _poisoned(x.size // 32 * 34, np.uint8)
        self._functions[function](x.ctypes.data, y.ctypes.data, x.size)
        return y

    def dequantize(self, blocks: Array) -> Array:
        """See `Functions`."""
        y = _poisoned(blocks.size // 34 * 32, np.uint32)
        self._functions["dequantize_row_q8_a8"](blocks.ctypes.data, y.ctypes.data, y.size)
        return y

    def dots(self, function: str, x: Array, y: Array, nrc: int) -> Array:
        """See `Functions`."""
        call, width = self._functions[function], x.shape[1]
        x, y = np.ascontiguousarray(x), np.ascontiguousarray(y)
        s = _poisoned(len(x) * nrc * nrc, np.uint32)
        at_s, at_x, at_y, size = s.ctypes.data, x.ctypes.data, y.ctypes.data, width // nrc
        step = 4 * nrc * nrc
        if function == DOT:
            for row in range(len(x)):
                call(32, at_s + step * row, nrc, at_x + width * row, size, at_y + width * row, size, nrc)
        else:
            for row in range(len(x)):
                call(32, at_s + step * row, at_x + width * row, at_y + width * row)
        return s.reshape(len(x), nrc * nrc)

    def convert(self, function: str, values: Array) -> Array:
        """See `Functions`."""
        out = _poisoned(values.size, np.uint16 if function == NARROW else np.uint32)
        self._functions[function](values.ctypes.data, out.ctypes.data, values.size)
        return out


class ObjectFunctions:
    """The methods of a Python object; implements `Functions`."""

    def __init__(self, kernel: object, names: Sequence[str]) -> None:
        self._kernel = kernel
        self.names = tuple(names)

    def quantize(self, function: str, x: Array) -> Array:
        """See `Functions`."""
        y = _poisoned(x.size // 32 * 34, np.uint8)
        getattr(self._kernel, function)(x.view(np.float32), y, x.size)
        return y

    def dequantize(self, blocks: Array) -> Array:
        """See `Functions`."""
        y = _poisoned(blocks.size // 34 * 32, np.uint32)
        getattr(self._kernel, "dequantize_row_q8_a8")(blocks, y.view(np.float32), y.size)  # noqa: B009 -- Any
        return y

    def dots(self, function: str, x: Array, y: Array, nrc: int) -> Array:
        """See `Functions`."""
        call, size = getattr(self._kernel, function), x.shape[1] // nrc
        s = _poisoned(len(x) * nrc * nrc, np.uint32).reshape(len(x), nrc * nrc)
        results = s.view(np.float32)
        for result, row_x, row_y in zip(results, x, y, strict=True):
            if function == DOT:
                call(32, result, nrc, row_x, size, row_y, size, nrc)
            else:
                call(32, result, row_x, row_y)
        return s

    def convert(self, function: str, values: Array) -> Array:
        """See `Functions`."""
        if function == NARROW:
            halves = _poisoned(values.size, np.uint16)
            getattr(self._kernel, function)(values.view(np.float32), halves, values.size)
            return halves
        floats = _poisoned(values.size, np.uint32)
        getattr(self._kernel, function)(values, floats.view(np.float32), values.size)
        return floats


class ReferenceFunctions(ObjectFunctions):
    """The reference's functions: dot products of many rows, and conversions, in one call each."""

    def __init__(self, kernel: object, names: Sequence[str]) -> None:
        super().__init__(kernel, [*names, NARROW, WIDEN])

    def dots(self, function: str, x: Array, y: Array, nrc: int) -> Array:
        """See `Functions`."""
        one, dot = (BLOCK_Q8_A8, vec_dot) if function == DOT else (BLOCK_Q8_A8_V2, vec_dot_real)
        rows_x = as_blocks(x, one).reshape(len(x), 1, nrc, 1)
        rows_y = as_blocks(y, one).reshape(len(x), nrc, 1, 1)
        return dot(rows_x, rows_y).view(np.uint32).reshape(len(x), nrc * nrc)

    def convert(self, function: str, values: Array) -> Array:
        """See `Functions`."""
        if function == NARROW:
            return rounding.f32_to_f16(values.view(np.float32)).view(np.uint16)
        return rounding.f16_to_f32(values.view(np.float16)).view(np.uint32)


def functions_of(options: argparse.Namespace, target: Target) -> LibraryFunctions | ObjectFunctions:
    """Return the functions of the target on a worker's command line."""
    if isinstance(target, ObjectTarget):
        if options.form == "ref":
            return ReferenceFunctions(target.kernel, target.functions)
        conversions = [name for name in (NARROW, WIDEN) if callable(getattr(target.kernel, name, None))]
        return ObjectFunctions(target.kernel, [*target.functions, *conversions])
    if not isinstance(target, LibraryTarget):
        raise TargetError(f"{options.form}: neither a library nor an object")
    addresses = {name: address for name in _PROTOTYPES if (address := target.address(name))}
    return LibraryFunctions(addresses)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the process and return its exit status."""
    channel = Channel()
    options = parse(arguments)
    try:
        target, hello = load(options)
        functions = functions_of(options, target)
    except TargetError as error:
        sys.stderr.write(f"{options.form}: {error}\n")
        return EXIT_USAGE
    known = tuple(name for name in functions.names if name in target.functions)
    conversions = [name for name in functions.names if name not in known]
    extra = {**hello.extra, "conversions": conversions}
    channel.send(encode_hello(replace(hello, functions=known, extra=extra)))
    domains: dict[str, Domain] = {}
    while (payload := channel.receive()) is not None and payload[:1] != b"Q":
        request = json.loads(payload[1:].decode())
        name = request["domain"]
        domain = domains.setdefault(name, get_domain(name))
        try:
            answer = domain.evaluate(functions, request["start"], request["stop"])
        except Exception as error:  # noqa: BLE001 -- a kernel in Python may raise anything
            channel.send(b"E" + f"the kernel raised {type(error).__name__}: {error}".encode()[:2000])
        else:
            channel.send(b"R" + np.ascontiguousarray(answer).tobytes())
    return 0


if __name__ == "__main__":
    sys.exit(main())
