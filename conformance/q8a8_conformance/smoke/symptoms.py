"""The most likely causes of wrong first results: each symptom is a check of the bytes and a hint."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.protocol.messages import Fault
from q8a8_conformance.smoke import probes
from q8a8_conformance.smoke.probes import ACTIVATION, DEQUANTIZE, DOT, DOT_REAL, MUL_MAT, QUANTIZERS
from q8a8_conformance.spec.abi import ELEMENT_SIZE, Element

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from q8a8_conformance.smoke.probes import Probe

NEAR = 0.02
"""Relative error within which a result is about right: a smoke test does not compare bits."""


@dataclass(frozen=True)
class Symptom:
    """What was found, and what to check first."""

    message: str
    hint: str = ""


def look(probe: Probe, outputs: Mapping[str, bytes], faults: Fault, init_hint: str) -> Symptom | None:
    """Return what is wrong with the result of a probe; None if it is about right.

    Parameters
    ----------
    probe
        The call and its expected outputs.
    outputs
        The output buffers, by ABI name.
    faults
        The worker's faults.
    init_hint
        The hint for outputs of all zeros.
    """
    function = probe.call.function
    about_right = all(
        _CLOSE[function](name, outputs[name], expected) for name, expected in probe.expected.items()
    )
    trailing = _trailing_write(probe, outputs)
    if about_right and not trailing and Fault.INPUT_WRITTEN not in faults:
        return None
    if Fault.INPUT_WRITTEN in faults:
        hint = "are output and input in the ABI's order? Inputs must not be written"
        return Symptom("wrote into its input", hint)
    untouched = [name for name in probe.expected if outputs[name] == probe.before(name)]
    if untouched:
        # (The poison is a NaN: what is added to it leaves it as it is.)
        added = ", or added to what it held" if probe.call.function in (DOT, DOT_REAL, MUL_MAT) else ""
        return Symptom(f"wrote nothing into {' and '.join(untouched)}{added}", _NOTHING_HINT)
    if all(not any(outputs[name][: len(data)]) for name, data in probe.expected.items()):
        return Symptom("returned all zeros", init_hint)
    if about_right:
        return Symptom(trailing, _COUNT_HINT)
    hints = (hint for seen, hint in _HINTS[function](probe, outputs) if seen)
    return Symptom(_shown(probe, outputs), next(hints, UNKNOWN))


_COUNT_HINT = "does it treat n, k or size as a number of blocks? They count elements"
_NOTHING_HINT = (
    "is the symbol bound to another function, are the arguments in another order, or does it return early?"
)
SEEN = ("wrote", "returned all zeros")
"""How messages begin whose hint does not depend on the values of one result."""

UNKNOWN = "cause unknown: compare the prototype with the ABI (q8a8 explain LAY-1 has the block)"
_BLOCK_36 = "its blocks are 36 bytes, not 34: a scale of four bytes, the version 2 block, or a padded struct?"


def _trailing_write(probe: Probe, outputs: Mapping[str, bytes]) -> str:
    """Describe a write to the trailing bytes after an output; empty if there is none."""
    for name, expected in probe.expected.items():
        size, before = len(expected), probe.before(name)
        if outputs[name][size:] != before[size:]:
            last = max(i for i, (a, b) in enumerate(zip(outputs[name], before, strict=True)) if a != b)
            return f"wrote {last + 1} bytes or more into {name}, which has {size}"
    return ""


def _shown(probe: Probe, outputs: Mapping[str, bytes]) -> str:
    """Describe the actual and the expected result in one line."""
    if probe.call.function in (DOT, DOT_REAL):
        return f"returned {_float(outputs['s']):.6g}, expected about {probes.DOT_VALUE:.6g}"
    if probe.call.function == MUL_MAT:
        got = struct.unpack_from("<4f", outputs["out"])
        both = (", ".join(f"{value:.6g}" for value in side) for side in (got, probes.PRODUCTS))
        return "returned {}, expected about {}".format(*both)
    name, expected = next(
        ((n, e) for n, e in probe.expected.items() if not _CLOSE[probe.call.function](n, outputs[n], e)),
        next(iter(probe.expected.items())),
    )
    element = next(one.element for one in probe.call.spec.buffers if one.name == name)
    return _from_first_difference(name, element, outputs[name], expected)


def _from_first_difference(name: str, element: Element, data: bytes, expected: bytes) -> str:
    """Show the numbers of both from the first one on that differs: the scale alone, or six others."""
    size = ELEMENT_SIZE[element]
    first = next((i for i, both in enumerate(zip(data, expected, strict=False)) if both[0] != both[1]), 0)
    if element == "block_q8_a8":
        block, inside = divmod(first, size)
        if inside < 2:
            halves = (float(np.frombuffer(side, "<f2", 1, size * block)[0]) for side in (data, expected))
            return "{}: the scale of block {} is {:.6g}, expected about {:.6g}".format(name, block, *halves)
        where, dtype, start = f" block {block}, from code {inside - 2} on", "i1", first
        end = size * (block + 1)
    else:
        dtype = {"f32": "<f4", "f16": "<f2", "i8": "i1"}[element]
        start = first - first % size
        where, end = f", from element {start // size} on", len(expected)
    texts = (
        " ".join(f"{n:.6g}" for n in np.frombuffer(side[start:end], dtype)[:6]) for side in (data, expected)
    )
    return "{}{}: {}, expected about {}".format(name, where, *texts)


def _float(data: bytes) -> float:
    return float(struct.unpack_from("<f", data)[0])


# Whether an output is about right, by function.


def _near(a: float, b: float) -> bool:
    return math.isfinite(a) and abs(a - b) <= NEAR * abs(b) + 1e-6


def _close_blocks(_name: str, actual: bytes, expected: bytes) -> bool:
    pairs = zip(
        struct.iter_unpack("<e32b", actual[: len(expected)]),
        struct.iter_unpack("<e32b", expected),
        strict=True,
    )
    return all(
        _near(a[0], e[0]) and all(abs(p - q) <= 1 for p, q in zip(a[1:], e[1:], strict=True))
        for a, e in pairs
    )


def _close_floats(_name: str, actual: bytes, expected: bytes) -> bool:
    pairs = zip(
        struct.iter_unpack("<f", actual[: len(expected)]), struct.iter_unpack("<f", expected), strict=True
    )
    return all(_near(a, e) for (a,), (e,) in pairs)


def _close_activation(name: str, actual: bytes, expected: bytes) -> bool:
    if name == "scale":
        return _near(struct.unpack("<e", actual)[0], struct.unpack("<e", expected)[0])
    pairs = zip(struct.iter_unpack("b", actual), struct.iter_unpack("b", expected), strict=True)
    return all(abs(a - e) <= 1 for (a,), (e,) in pairs)


_CLOSE: Mapping[str, Callable[[str, bytes, bytes], bool]] = {
    **dict.fromkeys(QUANTIZERS, _close_blocks),
    DEQUANTIZE: _close_floats,
    ACTIVATION: _close_activation,
    DOT: _close_floats,
    DOT_REAL: _close_floats,
    MUL_MAT: _close_floats,
}

# Hints by function: a condition on the outputs, and the likely cause.


def _scale_hints(raw: bytes, where: str) -> Iterator[tuple[bool, str]]:
    """Yield the wrong ways to store the scale 1."""
    yield raw[:2] == b"\x3c\x00", f"{where} is stored with its high byte first: it must be little-endian"
    yield (
        raw[:2] == b"\x01\x00",
        f"{where} is stored as the integer 1: convert the float to an IEEE half first",
    )
    yield raw[:2] == b"\x80\x3f", f"{where} is stored as bfloat16: it must be an IEEE half"
    yield raw[:4] == struct.pack("<f", 1.0), f"{where} is stored as a float of four bytes: {_BLOCK_36}"


def _row_hints(_probe: Probe, outputs: Mapping[str, bytes]) -> Iterator[tuple[bool, str]]:
    y = outputs["y"]
    codes = struct.pack("32b", *probes.FIRST)
    poison = probes.poison(36)[34:]
    yield from _scale_hints(y, "the scale")
    yield y[:32] == codes, "the codes come before the scale: the scale is at byte 0, the codes at byte 2"
    yield y[4:36] == codes, _BLOCK_36
    yield (
        y[2:34] == bytes((q + 128) & 255 for q in probes.FIRST),
        "codes are offset by 128: they are signed int8",
    )
    first = _close_blocks("y", y[:34], probes.ROW[:34])
    yield (
        first and y[34:36] == poison,
        "the second block was not written: does it treat k as a number of blocks? k counts elements",
    )
    whole = struct.unpack_from("<e", y)[0]
    yield (
        _near(whole, probes.SCALES[1]),
        "the first block has the second one's scale: each block of 32 elements has its own scale",
    )
    yield first, "the first block is right, the second is not: consecutive blocks are 34 bytes apart"


def _dequantize_hints(_probe: Probe, outputs: Mapping[str, bytes]) -> Iterator[tuple[bool, str]]:
    y = outputs["y"]
    bare = struct.pack("<32f", *probes.FIRST)
    yield (
        _close_floats("y", y[128:256], struct.pack("<32f", *probes.SECOND)) and y[:128] == bare,
        ("the codes are not multiplied by the scale"),
    )
    floats = struct.pack("<64f", *probes.FLOATS)
    first = _close_floats("y", y[:128], floats[:128])
    yield (
        first and y[128:256] == _tail(y, 128),
        ("the second block was not written: does it treat k as a number of blocks? k counts elements"),
    )
    yield first, "the first block is right, the second is not: consecutive blocks are 34 bytes apart"
    if all(math.isfinite(v) for (v,) in struct.iter_unpack("<f", y[:128])):
        ratio = _float(y) / probes.FLOATS[0]
        scaled = struct.pack("<32f", *(ratio * v for v in probes.FLOATS[:32])) if abs(ratio) < 1e30 else b""
        yield (
            bool(scaled) and _close_floats("y", y[:128], scaled),
            ("the scale is not read as a little-endian half (are its bits read as an integer?)"),
        )


def _tail(data: bytes, offset: int) -> bytes:
    return probes.poison(len(data))[offset : offset + 128]


def _activation_hints(_probe: Probe, outputs: Mapping[str, bytes]) -> Iterator[tuple[bool, str]]:
    yield from _scale_hints(outputs["scale"], "the scale")
    output = outputs["output"]
    yield (
        output[32:] == _tail(output, 32),
        ("only the first 32 codes were written: size is a number of elements, any number"),
    )


def _dot_hints(probe: Probe, outputs: Mapping[str, bytes]) -> Iterator[tuple[bool, str]]:
    got = _float(outputs["s"])
    first, second = (
        d * e * s for d, e, s in zip(probes.SCALES, probes.OTHER_SCALES, probes.SUMS, strict=True)
    )
    if not math.isfinite(got):
        yield probe.call.function == DOT_REAL, "is it the function of version 2 blocks (36 bytes)?"
        yield True, "a scale was read from the wrong place: blocks are 34 bytes, the scale first"
    yield _near(got, first), "only the first block counts: n is a number of elements, not of blocks of 64"
    yield _near(got, second), "only the last block counts: is the sum overwritten in each iteration?"
    yield _near(got, sum(probes.SUMS)), "only the codes are multiplied: the scales are missing"
    for scales, which in ((probes.SCALES, "the first row's"), (probes.OTHER_SCALES, "the second row's")):
        value = sum(d * s for d, s in zip(scales, probes.SUMS, strict=True))
        yield _near(got, value), f"of the two scales, only {which} is multiplied"
    if probe.call.function == DOT_REAL:
        unused = probes.UNUSED**2 * sum(probes.SUMS)
        yield _near(got, unused), "the two scale fields are exchanged: x has weight_scale, y activation_scale"
    own = sum(d * d * sum(q * q for q in codes) for d, codes in zip(probes.SCALES, probes.CODES, strict=True))
    yield (
        _near(got, own),
        "x is multiplied by itself: are vx and vy at the right positions (bs and bx are between them)?",
    )
    unsigned = sum(
        d * e * sum((a & 255) * b for a, b in zip(x, y, strict=True))
        for d, e, x, y in zip(probes.SCALES, probes.OTHER_SCALES, probes.CODES, probes.OTHERS, strict=True)
    )
    yield _near(got, unsigned), "x's codes are read as unsigned: they are int8"
    yield _near(got, -probes.DOT_VALUE), "the sign is wrong"


def _matrix_hints(_probe: Probe, outputs: Mapping[str, bytes]) -> Iterator[tuple[bool, str]]:
    a, b, *_ = probes.PRODUCTS
    transposed = struct.pack("<4f", a, -a, b, -b)
    out = outputs["out"]
    yield _close_floats("out", out, transposed), "the result is transposed: out[i * m + j] is w_j times x_i"
    yield (
        _near(_float(out), a),
        "some outputs are not written, or in other places: out has n rows of m floats",
    )


_HINTS: Mapping[str, Callable[[Probe, Mapping[str, bytes]], Iterator[tuple[bool, str]]]] = {
    **dict.fromkeys(QUANTIZERS, _row_hints),
    DEQUANTIZE: _dequantize_hints,
    ACTIVATION: _activation_hints,
    DOT: _dot_hints,
    DOT_REAL: _dot_hints,
    MUL_MAT: _matrix_hints,
}
