"""A failure's bytes, cut down to what a person needs: the first place that differs, with what belongs to it.

in   x[37] = 0x3f020000 (0.5078125)      the input element
want weight_qs[5] of block 1 = 1         what the rule requires
got  weight_qs[5] of block 1 = 0         what the kernel wrote
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from q8a8_conformance.results.record import count
from q8a8_conformance.spec.abi import FUNCTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from q8a8_conformance.results.record import CallData

FLOATS = 16
"""Numbers of an array of floats that a line shows at most."""
BLOCKS = 2
"""Blocks of a row that a line shows at most."""

_KINDS = {"f32": "float", "f16": "half", "i8": "int8", "block_q8_a8": "block", "block_q8_a8_v2": "block2"}
_BUFFERS = {(one.name, buffer.name): _KINDS[buffer.element] for one in FUNCTIONS for buffer in one.buffers}


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
        sides = (("in", call.inputs), ("want", call.expected), ("got", call.actual))
        lines += [Line(label, text) for label, side in sides for text in whole(call, side)]
        return lines
    name, offset = place
    kind = _kind(call.function, name)
    lines += [Line("in", text) for text in _inputs(call, name, offset)]
    for label, side in (("want", call.expected), ("got", call.actual)):
        lines.append(Line(label, _VIEWS[kind](name, side[name], offset)))
    return lines


def whole(call: CallData, buffers: Mapping[str, bytes]) -> list[str]:
    """Return what buffers of a call hold, as numbers, in a line each; of long ones, how they begin."""
    blocks = call.args.get("k", call.args.get("n", 0)) // 32
    return [
        f"{name}: {_WHOLE[_kind(call.function, name)](data, blocks)}" if data else f"{name}: empty"
        for name, data in buffers.items()
    ]


def _whole_floats(data: bytes, _blocks: int = 0) -> str:
    shown = data[: 4 * min(FLOATS, len(data) // 4)]
    words = " ".join(f"{value:.9g}" for (value,) in struct.iter_unpack("<f", shown))
    return f"{words}{' …' if len(data) > len(shown) else ''} ({count(len(data) // 4, 'float')})"


def _whole_blocks(data: bytes, blocks: int, scales: int = 1) -> str:
    """Return scales and codes of a row's first blocks; what follows the row may be a gap."""
    size = 2 * scales + 32
    shown = [data[at : at + size] for at in range(0, size * min(blocks, BLOCKS), size)]
    noun = "scale" if scales == 1 else "scales"
    words = [
        f"{noun} {', '.join(float16(row[at : at + 2]) for at in range(0, 2 * scales, 2))}, "
        f"codes {_codes(row[2 * scales :])}"
        for row in shown
    ]
    more = ["…"] if len(data) > size * len(shown) else []
    return f"{'; '.join(words + more)} ({count(len(data), 'byte')})"


def _codes(data: bytes) -> str:
    return " ".join(str(_int8(byte)) for byte in data)


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
    return _BUFFERS[function, name]


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
    return f"{name} block {block}: {field} = {value}; scale {float16(raw[:2])}, codes {_codes(raw[2:])}"


_WHOLE: Mapping[str, Callable[[bytes, int], str]] = {
    "float": _whole_floats,
    "half": lambda data, _blocks: float16(data),
    "int8": lambda data, _blocks: _codes(data),
    "block": _whole_blocks,
    "block2": partial(_whole_blocks, scales=2),
}
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
        return [f"row {place} of {text}" for place, text in zip((j, i), whole(call, rows), strict=True)]
    return whole(call, call.inputs)


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
        f"{name}[{first}..{first + len(values) - 1}]: {_whole_floats(x)}",
    ]
