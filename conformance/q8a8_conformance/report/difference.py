"""A failure's bytes, cut down to what a person needs: the first place that differs, with what belongs to it.

in   x[37] = 0x3f020000 (0.5078125)      the input element
want weight_qs[5] of block 1 = 1         what the rule requires
got  weight_qs[5] of block 1 = 0         what the kernel wrote
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from q8a8_conformance.results.record import CallData

LIMIT = 96
"""Bytes of a buffer that a line shows at most."""

_FLOATS = {"s", "out", "y:dequantize_row_q8_a8", "x:quantize_row_q8_a8", "x:quantize_row_q8_a8_ref", "input"}


@dataclass(frozen=True)
class Line:
    """One labelled line of a shown failure."""

    label: str
    text: str


@dataclass(frozen=True)
class Number:
    """The first number that differs.

    Attributes
    ----------
    kind
        ``float`` (binary32), ``half`` (binary16) or ``int8``.
    words
        Which number it is: ``weight_qs[5] of block 1``.
    want, got
        Its little-endian bytes.
    """

    kind: str
    words: str
    want: bytes
    got: bytes


def first(call: CallData) -> Number | None:
    """Return the first number that differs; None where there is nothing to compare."""
    place = _first_difference(call)
    if place is None:
        return None
    name, offset = place
    kind = _kind(call.function, name)
    if kind == "block":
        block, inside = divmod(offset, 34)
        kind = "half" if inside < 2 else "int8"
        start = 34 * block if inside < 2 else offset
        words = f"{'weight_scale' if inside < 2 else f'weight_qs[{inside - 2}]'} of block {block}"
    else:
        start = offset - offset % {"float": 4, "half": 2, "int8": 1}[kind]
        words = f"{name}[{start // 4 if kind == 'float' else start}]" if kind != "half" else name
    size = {"float": 4, "half": 2, "int8": 1}[kind]
    want, got = (side[name][start : start + size] for side in (call.expected, call.actual))
    # A buffer that was cut short has no whole number there.
    return Number(kind, words, want, got) if len(want) == len(got) == size else None


def show(call: CallData) -> list[Line]:
    """Return the lines that show a failure: arguments, the inputs concerned, what was expected, what came.

    Parameters
    ----------
    call
        Of a failed or crashed record.

    Returns
    -------
    list of Line
        Labels ``call``, ``in``, ``want`` and ``got``; at most a dozen lines, each of bounded length.
    """
    arguments = ", ".join(f"{name}={value}" for name, value in call.args.items())
    lines = [Line("call", f"{call.function}({arguments})")]
    place = _first_difference(call)
    if place is None:
        lines += [Line("in", f"{name}: {whole(data)}") for name, data in call.inputs.items()]
        lines += [Line("want", f"{name}: {whole(data)}") for name, data in call.expected.items()]
        lines += [Line("got", f"{name}: {whole(data)}") for name, data in call.actual.items()]
        return lines
    name, offset = place
    kind = _kind(call.function, name)
    lines += [Line("in", text) for text in _inputs(call, name, offset)]
    for label, side in (("want", call.expected), ("got", call.actual)):
        lines.append(Line(label, _VIEWS[kind](name, side[name], offset)))
    return lines


def whole(data: bytes) -> str:
    """Return a buffer in hex, cut after :data:`LIMIT` bytes, with its length."""
    cut = "" if len(data) <= LIMIT else " …"
    return f"{data[:LIMIT].hex()}{cut} ({len(data)} bytes)"


def float32(data: bytes) -> str:
    """Return a little-endian binary32 as bits and value; shorter data as hex."""
    if len(data) != 4:
        return data.hex()
    (bits,) = struct.unpack("<I", data)
    (value,) = struct.unpack("<f", data)
    return f"0x{bits:08x} ({value:.9g})"


def float16(data: bytes) -> str:
    """Return a little-endian binary16 as bits and value; shorter data as hex."""
    if len(data) != 2:
        return data.hex()
    (bits,) = struct.unpack("<H", data)
    (value,) = struct.unpack("<e", data)
    return f"0x{bits:04x} ({value:.9g})"


def _first_difference(call: CallData) -> tuple[str, int] | None:
    """Find the first buffer and byte where expected and actual differ; None if nothing can be compared."""
    for name, expected in call.expected.items():
        actual = call.actual.get(name)
        if actual is None or len(actual) != len(expected):
            return None
        for offset, (want, got) in enumerate(zip(expected, actual, strict=True)):
            if want != got:
                return name, offset
    return None


def _kind(function: str, name: str) -> str:
    if name in _FLOATS or f"{name}:{function}" in _FLOATS:
        return "float"
    if name == "scale":
        return "half"
    if name == "output":
        return "int8"
    return "block"


def _view_float(name: str, data: bytes, offset: int) -> str:
    element = offset // 4
    return f"{name}[{element}] = {float32(data[4 * element : 4 * element + 4])}"


def _view_half(name: str, data: bytes, _offset: int) -> str:
    return f"{name} = {float16(data)}"


def _view_int8(name: str, data: bytes, offset: int) -> str:
    return f"{name}[{offset}] = {_int8(data[offset])}"


def _view_block(name: str, data: bytes, offset: int) -> str:
    block, inside = divmod(offset, 34)
    raw = data[34 * block : 34 * block + 34]
    field = "weight_scale" if inside < 2 else f"weight_qs[{inside - 2}]"
    value = float16(raw[:2]) if inside < 2 else str(_int8(data[offset]))
    return f"{name} block {block}: {field} = {value}; block {raw[:2].hex()} {raw[2:].hex()}"


_VIEWS: Mapping[str, Callable[[str, bytes, int], str]] = {
    "float": _view_float,
    "half": _view_half,
    "int8": _view_int8,
    "block": _view_block,
}


def _int8(byte: int) -> int:
    return byte - 256 if byte > 127 else byte


def _inputs(call: CallData, name: str, offset: int) -> list[str]:
    """Show the inputs that the first differing output depends on."""
    kind = _kind(call.function, name)
    if kind == "block":
        block, inside = divmod(offset, 34)
        x = call.inputs["x"][128 * block : 128 * block + 128]
        element = max(inside - 2, 0)
        return [*_float_input("x", x, element, first=32 * block)]
    if kind in {"int8", "half"}:
        return _float_input("input", call.inputs["input"], offset if kind == "int8" else 0, first=0)
    if name == "y":
        block, inside = divmod(offset // 4, 32)
        raw = call.inputs["x"][34 * block : 34 * block + 34]
        if not raw:
            return ["behind the last block of x"]
        return [f"x block {block}: scale {float16(raw[:2])}, weight_qs[{inside}] = {_int8(raw[2 + inside])}"]
    if name == "out":
        i, j = divmod(offset // 4, max(call.args["m"], 1))
        sizes = {"w": 34 * call.args["k"] // 32, "x": 4 * call.args["k"]}
        rows = {key: call.inputs[key][at * sizes[key] :][: sizes[key]] for key, at in (("w", j), ("x", i))}
        return [f"row {j} of w: {whole(rows['w'])}", f"row {i} of x: {whole(rows['x'])}"]
    return [f"{key}: {whole(data)}" for key, data in call.inputs.items()]


def _float_input(name: str, x: bytes, element: int, *, first: int) -> list[str]:
    """Show one element of a block of floats, and the block's largest magnitude."""
    values = struct.unpack(f"<{len(x) // 4}f", x)
    if not values:
        return [f"{name}: empty"]
    finite = [abs(v) for v in values if v == v]  # noqa: PLR0124 (a NaN differs from itself)
    amax = struct.pack("<f", max(finite, default=0.0))
    own = x[4 * element : 4 * element + 4]
    return [
        f"{name}[{first + element}] = {float32(own)}, largest magnitude {float32(amax)}",
        f"{name}[{first}..{first + len(values) - 1}]: {whole(x)}",
    ]
