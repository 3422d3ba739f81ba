"""Calls of the kernel, built from arrays: the one place where the checks meet the protocol's buffers.

Every output buffer goes out full of the golden cases' poison (as floats, quiet NaNs), so what a kernel
forgets to write, or adds to, shows.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.protocol.messages import Buffer, Call, Option
from q8a8_conformance.spec.abi import MATRIX_PRODUCT, buffer_sizes, get_function
from q8a8_golden.cases import POISON

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from q8a8_conformance.inputs.arrays import Array

QUANTIZERS = ("quantize_row_q8_a8_ref", "quantize_row_q8_a8")
ACTIVATION = "quantize_activation_q8_a8"
DEQUANTIZE = "dequantize_row_q8_a8"
DOT = "ggml_vec_dot_q8_a8_q8_a8"
DOT_REAL = "ggml_vec_dot_q8_a8_q8_a8_real"
MUL_MAT = MATRIX_PRODUCT

FLUSH_TURNS = 3
"""Calls in a row with flush modes: with both, with flush-to-zero alone, with denormals-are-zero alone."""


def poison(length: int) -> bytes:
    """Return so many bytes of poison."""
    return (POISON * (length // len(POISON) + 1))[:length]


def build(
    function: str,
    n: int,
    inputs: Mapping[str, bytes],
    outputs: Mapping[str, bytes] | None = None,
    bs: int = 0,
    bx: int = 0,
    by: int = 0,
    nrc: int = 1,
) -> Call:
    """Build a call: inputs by ABI name, outputs poisoned unless given.

    Parameters
    ----------
    function
        ABI name.
    n
        ``k``, ``size`` or ``n``.
    inputs
        Bytes by ABI parameter name, every input of the function.
    outputs
        What outputs hold before the call, for those that are not to be poisoned or have another length.
    bs, bx, by, nrc
        The other integers of the dot product; of the matrix product `bs` is m and `bx` is n.
    """
    spec = get_function(function)
    sizes = buffer_sizes(function, n, bs=bs, bx=bx, by=by, nrc=nrc)
    given = {**inputs, **(outputs or {})}
    buffers = tuple(
        Buffer(given[buffer.name] if buffer.name in given else poison(size))
        for buffer, size in zip(spec.buffers, sizes, strict=True)
    )
    return Call(function, n, buffers, bs, bx, by, nrc)


def quantize(function: str, x: Array) -> Call:
    """Quantize a row: `x` float32 [k]; `function` one of :data:`QUANTIZERS`."""
    return build(function, x.size, {"x": x.tobytes()})


def activation(x: Array) -> Call:
    """Quantize an activation vector: `x` float32 [size]."""
    return build(ACTIVATION, x.size, {"input": x.tobytes()})


def activations(x: Array) -> Call:
    """Quantize activation vectors [n, size], each by a call of its own (`Option.ROWS`)."""
    number, size = x.shape
    outputs = {"output": poison(number * size), "scale": poison(2 * number)}
    call = build(ACTIVATION, size, {"input": x.tobytes()}, outputs)
    return replace(call, options=Option.ROWS, repeat=number)


def in_rows(made: Sequence[Call]) -> Call:
    """Join calls that differ in nothing but their buffers' bytes into one message (`Option.ROWS`)."""
    together = zip(*(call.buffers for call in made), strict=True)
    buffers = tuple(Buffer(b"".join(each.data for each in same)) for same in together)
    return replace(made[0], buffers=buffers, options=Option.ROWS, repeat=len(made))


def dequantize(blocks: Array) -> Call:
    """Dequantize a row of structured blocks [nb]."""
    return build(DEQUANTIZE, 32 * blocks.size, {"x": blocks.tobytes()})


def dot(x: Array, y: Array, *, s: bytes | None = None) -> Call:
    """Compute one dot product of two rows of blocks [nb]; `s` is what the result holds before."""
    outputs = None if s is None else {"s": s}
    return build(DOT, 32 * x.size, {"vx": x.tobytes(), "vy": y.tobytes()}, outputs, nrc=1)


def dot_pair(x: Array, y: Array, *, bs: int = 2, x_gap: int = 0, y_gap: int = 0) -> Call:
    """Compute the four dot products of two rows each, ``nrc = 2``.

    Parameters
    ----------
    x, y
        Blocks [2, nb].
    bs
        Floats between results of one y row and the next, at least 2.
    x_gap, y_gap
        Bytes between the rows, an even number; as scales they are NaN, so a kernel that reads them shows.
    """
    rows = [(side[0].tobytes(), side[1].tobytes()) for side in (x, y)]
    return pair_of_bytes(x.shape[1], *rows, bs=bs, x_gap=x_gap, y_gap=y_gap)


def pair_of_bytes(
    nb: int,
    x: tuple[bytes, bytes],
    y: tuple[bytes, bytes],
    *,
    bs: int = 2,
    x_gap: int = 0,
    y_gap: int = 0,
) -> Call:
    """Compute the four dot products of two rows each of `nb` blocks, as bytes; gaps as :func:`dot_pair`."""
    vx, vy = x[0] + _gap(x_gap) + x[1], y[0] + _gap(y_gap) + y[1]
    bx, by = len(x[0]) + x_gap, len(y[0]) + y_gap
    return build(DOT, 32 * nb, {"vx": vx, "vy": vy}, nrc=2, bs=bs, bx=bx, by=by)


def dot_real(x: Array, y: Array, *, s: bytes | None = None) -> Call:
    """Compute one dot product of two rows of v2 blocks [nb]."""
    outputs = None if s is None else {"s": s}
    return build(DOT_REAL, 32 * x.size, {"vx": x.tobytes(), "vy": y.tobytes()}, outputs)


def mul_mat(w: Array, x: Array, *, out: bytes | None = None) -> Call:
    """Multiply matrices: `w` blocks [m, nb], `x` float32 [n, 32·nb]; `out` is what it holds before."""
    outputs = None if out is None else {"out": out}
    inputs = {"w": w.tobytes(), "x": x.tobytes()}
    return build(MUL_MAT, x.shape[1], inputs, outputs, bs=len(w), bx=len(x))


def _gap(length: int) -> bytes:
    return (bytes.fromhex("ff7f") * length)[:length]


def with_options(call: Call, options: Option) -> Call:
    """Return the call with other memory options."""
    return replace(call, options=options)


def flushing(call: Call) -> Call:
    """Return the call with flush modes set: it is made with both, then with each alone."""
    return replace(call, options=Option.FLUSH, repeat=FLUSH_TURNS)


def with_zeros(call: Call) -> Call:
    """Return the call with zeros in the place of every input: legal for every function."""
    buffers = tuple(
        buffer if spec.role == "output" else Buffer(bytes(len(buffer.data)), buffer.offset)
        for spec, buffer in zip(call.spec.buffers, call.buffers, strict=True)
    )
    return replace(call, buffers=buffers)


def misaligned(call: Call, offsets: Mapping[str, int]) -> Call:
    """Return the call with buffers that start so many bytes after a 64-byte boundary, by ABI name."""
    buffers = tuple(
        Buffer(buffer.data, offsets.get(spec.name, 0))
        for spec, buffer in zip(call.spec.buffers, call.buffers, strict=True)
    )
    return replace(call, buffers=buffers)


def shared_rows(
    function: str, rows: bytes, n: int, x_at: int, y_at: int, *, bs: int = 2, bx: int = 0, by: int = 0
) -> tuple[Call, Call]:
    """Return a dot product of rows of one matrix, as copies and as the parts of one block of memory.

    Parameters
    ----------
    function
        One of the dot products.
    rows
        Bytes of the matrix.
    n
        Elements of each row.
    x_at, y_at
        Where ``vx`` and ``vy`` point, in bytes.
    bs, bx, by
        The strides of a call with ``nrc = 2``; 0 for a single row.
    """
    nrc = 2 if bx else 1
    _, x_size, y_size = buffer_sizes(function, n, bs=bs, bx=bx, by=by, nrc=nrc)
    inputs = {"vx": rows[x_at : x_at + x_size], "vy": rows[y_at : y_at + y_size]}
    apart = build(function, n, inputs, bs=bs if bx else 0, bx=bx, by=by, nrc=nrc)
    together = misaligned(apart, {"vx": x_at, "vy": y_at})
    return apart, replace(together, options=Option.SHARED_INPUTS)


def weight(call: Call) -> int:
    """Return the number of bytes in a call's buffers."""
    return sum(len(buffer.data) for buffer in call.buffers)


def inputs_of(call: Call) -> dict[str, bytes]:
    """Return a call's input buffers by ABI name."""
    return {call.spec.buffers[i].name: bytes(call.buffers[i].data) for i in call.spec.inputs}


def arguments_of(call: Call) -> dict[str, int]:
    """Return a call's integers by ABI name, those that its function takes."""
    integers = [p for p in call.spec.parameters if p.element is None]
    return {p.name: int(getattr(call, p.field)) for p in integers}


def float_bytes(value: float) -> bytes:
    """Return a number's float32 bytes, little-endian."""
    with np.errstate(over="ignore"):
        return bytes(np.float32(value).astype("<f4").tobytes())
