"""Recorded calls, repeated with a kernel in NumPy and compared byte by byte."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.faults.kernel import DEQUANTIZE, DOTS, ROWS
from q8a8_conformance.inputs.calls import MUL_MAT, poison

if TYPE_CHECKING:
    from collections.abc import Sequence

    from q8a8_conformance.protocol.messages import Call

_DTYPES = {"f32": "<f4", "i8": "i1", "f16": "<u2"}

POISON = int.from_bytes(poison(4), "little")


def replay(kernel: object, call: Call) -> tuple[bytes, ...]:
    """Make a call, on copies, with a kernel's method; return the output buffers in the ABI's order.

    Raises
    ------
    Exception
        Whatever the kernel raises: it may be wrong in any way.
    """
    spec = call.spec
    arrays: list[Any] = []
    for buffer, kind in zip(call.buffers, spec.buffers, strict=True):
        dtype = np.dtype(_DTYPES.get(kind.element, "u1"))
        data = bytearray(buffer.data)
        arrays.append(np.frombuffer(data, dtype, len(data) // dtype.itemsize))
    given = iter(arrays)
    arguments = [
        getattr(call, parameter.field) if parameter.element is None else next(given)
        for parameter in spec.parameters
    ]
    getattr(kernel, call.function)(*arguments)
    return tuple(arrays[i].tobytes() for i in spec.outputs)


def same(function: str, one: Sequence[bytes], other: Sequence[bytes]) -> bool:
    """Return whether two calls of a function have the same outputs; NaNs, whose bits are free, are equal.

    (The poison, a NaN that was there before the call, is not a result and equals itself alone.)
    """
    if tuple(one) == tuple(other):
        return True
    if function not in DOTS or [len(data) for data in one] != [len(data) for data in other]:
        return False
    a, b = (np.frombuffer(b"".join(side), "<u4") for side in (one, other))
    numbers = [(bits & 0x7FFFFFFF <= 0x7F800000) | (bits == POISON) for bits in (a, b)]
    return bool(((a == b) | ~(numbers[0] | numbers[1])).all())


def differing(function: str, one: Sequence[bytes], other: Sequence[bytes]) -> set[int]:
    """Return the numbers of the results that differ between two calls' outputs.

    A result is a block of a row, 32 floats of a dequantized one, a float of a product, or a whole activation
    vector.
    """
    sizes = {**dict.fromkeys(ROWS, 34), DEQUANTIZE: 128, **dict.fromkeys((*DOTS, MUL_MAT), 4)}
    size = sizes.get(function, 0)
    a, b = b"".join(one), b"".join(other)
    step = size or max(len(a), 1)
    length = -(-len(a) // step) * step
    both = (np.frombuffer(side[: len(a)].ljust(length, b"\0"), np.uint8).reshape(-1, step) for side in (a, b))
    return set(np.flatnonzero(np.not_equal(*both).any(axis=1)).tolist())
