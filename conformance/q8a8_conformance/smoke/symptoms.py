"""What a strange first result most likely means: each symptom is a test of the bytes and a sentence."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from q8a8_conformance.protocol.messages import Fault
from q8a8_conformance.smoke import probes
from q8a8_conformance.smoke.probes import ACTIVATION, DEQUANTIZE, DOT, DOT_REAL, QUANTIZERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from q8a8_conformance.smoke.probes import Probe

NEAR = 0.02
"""Relative distance within which a result is about right: smoke is about the way there, not about bits."""


@dataclass(frozen=True)
class Symptom:
    """What was seen, and what to look at first."""

    message: str
    hint: str = ""


def look(probe: Probe, outputs: Mapping[str, bytes], faults: Fault, init_hint: str) -> Symptom | None:
    """Say what is wrong with the answer to a probe; None where it is about right.

    Parameters
    ----------
    probe
        What was asked.
    outputs
        The output buffers, by ABI name.
    faults
        What the worker saw.
    init_hint
        What to say where everything is zero.
    """
    function = probe.call.function
    about_right = all(
        _CLOSE[function](name, outputs[name], expected) for name, expected in probe.expected.items()
    )
    behind = _behind(probe, outputs)
    if about_right and not behind and Fault.INPUT_WRITTEN not in faults:
        return None
    if Fault.INPUT_WRITTEN in faults:
        hint = "are the output and the input in the order of the ABI? Inputs must not be written to"
        return Symptom("wrote into its input", hint)
    untouched = [name for name in probe.expected if outputs[name] == probe.before(name)]
    if untouched:
        return Symptom(f"wrote nothing into {' and '.join(untouched)}", _NOTHING_HINT)
    if all(not any(outputs[name][: len(data)]) for name, data in probe.expected.items()):
        return Symptom("gave all zeros", init_hint)
    if about_right:
        return Symptom(behind, _COUNT_HINT)
    guesses = (hint for seen, hint in _GUESSES[function](probe, outputs) if seen)
    return Symptom(_shown(probe, outputs), next(guesses, _OTHER_HINT))


_COUNT_HINT = "does it take n, k or size for a number of blocks? They count elements"
_NOTHING_HINT = (
    "is the symbol bound to another function, is the order of the arguments another, or does it return early?"
)
_OTHER_HINT = "nothing that is known: compare the prototype with the ABI (q8a8 explain LAY-1 has the block)"
_BLOCK_36 = "its blocks are 36 bytes, not 34: a scale of four bytes, the version 2 block, or a padded struct?"


def _behind(probe: Probe, outputs: Mapping[str, bytes]) -> str:
    """Say what was written behind an output's end, inside the spare bytes."""
    for name, expected in probe.expected.items():
        size, before = len(expected), probe.before(name)
        if outputs[name][size:] != before[size:]:
            last = max(i for i, (a, b) in enumerate(zip(outputs[name], before, strict=True)) if a != b)
            return f"wrote {last + 1} bytes or more into {name}, it has {size}"
    return ""


def _shown(probe: Probe, outputs: Mapping[str, bytes]) -> str:
    """Say what came and what was to come, in one line."""
    if probe.call.function in (DOT, DOT_REAL):
        return f"gave {_float(outputs['s']):.6g}, about {probes.DOT_VALUE:.6g} was to come"
    name, expected = next(
        ((n, e) for n, e in probe.expected.items() if not _CLOSE[probe.call.function](n, outputs[n], e)),
        next(iter(probe.expected.items())),
    )
    return f"{name} begins {outputs[name][:8].hex()}, about {expected[:8].hex()} was to come"


def _float(data: bytes) -> float:
    return float(struct.unpack_from("<f", data)[0])


# About right, by function.


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
}

# Guesses: whether a mistake shows, and what it is.


def _scale_guesses(raw: bytes, where: str) -> Iterator[tuple[bool, str]]:
    """Try the ways to store the scale 1 that are not a little-endian half."""
    yield raw[:2] == b"\x3c\x00", f"{where} is stored with its high byte first: little-endian is asked for"
    yield (
        raw[:2] == b"\x01\x00",
        f"{where} is stored as the integer 1: convert the float to an IEEE half first",
    )
    yield raw[:2] == b"\x80\x3f", f"{where} is stored as bfloat16: an IEEE half is asked for"
    yield raw[:4] == struct.pack("<f", 1.0), f"{where} is stored as a float of four bytes: {_BLOCK_36}"


def _row_guesses(_probe: Probe, outputs: Mapping[str, bytes]) -> Iterator[tuple[bool, str]]:
    y = outputs["y"]
    codes = struct.pack("32b", *probes.FIRST)
    poison = probes.poison(36)[34:]
    yield from _scale_guesses(y, "the scale")
    yield y[:32] == codes, "the codes come before the scale: the scale is at byte 0, the codes at byte 2"
    yield y[4:36] == codes, _BLOCK_36
    yield (
        y[2:34] == bytes((q + 128) & 255 for q in probes.FIRST),
        "codes are offset by 128: they are signed int8",
    )
    first = _close_blocks("y", y[:34], probes.ROW[:34])
    yield (
        first and y[34:36] == poison,
        "the second block was not written: does it take k for a number of blocks? k counts elements",
    )
    whole = struct.unpack_from("<e", y)[0]
    yield (
        _near(whole, probes.SCALES[1]),
        "the first block has the second one's scale: a block is 32 elements, each with a scale of its own",
    )
    yield first, "the first block is right, the second is not: consecutive blocks are 34 bytes apart"


def _dequantize_guesses(_probe: Probe, outputs: Mapping[str, bytes]) -> Iterator[tuple[bool, str]]:
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
        ("the second block was not written: does it take k for a number of blocks? k counts elements"),
    )
    yield first, "the first block is right, the second is not: consecutive blocks are 34 bytes apart"
    if all(math.isfinite(v) for (v,) in struct.iter_unpack("<f", y[:128])):
        ratio = _float(y) / probes.FLOATS[0]
        scaled = struct.pack("<32f", *(ratio * v for v in probes.FLOATS[:32])) if abs(ratio) < 1e30 else b""
        yield (
            bool(scaled) and _close_floats("y", y[:128], scaled),
            ("the scale is read as something else than a little-endian half (its bits as an integer?)"),
        )


def _tail(data: bytes, offset: int) -> bytes:
    return probes.poison(len(data))[offset : offset + 128]


def _activation_guesses(_probe: Probe, outputs: Mapping[str, bytes]) -> Iterator[tuple[bool, str]]:
    yield from _scale_guesses(outputs["scale"], "the scale")
    output = outputs["output"]
    yield (
        output[32:] == _tail(output, 32),
        ("only the first 32 codes were written: size is a number of elements, any number"),
    )


def _dot_guesses(probe: Probe, outputs: Mapping[str, bytes]) -> Iterator[tuple[bool, str]]:
    got = _float(outputs["s"])
    first, second = (
        d * e * s for d, e, s in zip(probes.SCALES, probes.OTHER_SCALES, probes.SUMS, strict=True)
    )
    if not math.isfinite(got):
        yield probe.call.function == DOT_REAL, "is it the function of version 2 blocks (36 bytes)?"
        yield True, "a scale was read from the wrong place: blocks are 34 bytes, the scale first"
    yield _near(got, first), "the first block alone counts: n is a number of elements, not of blocks of 64"
    yield _near(got, second), "the last block alone counts: is the sum overwritten in each round?"
    yield _near(got, sum(probes.SUMS)), "the codes alone are multiplied: the scales are missing"
    for scales, which in ((probes.SCALES, "the first row's"), (probes.OTHER_SCALES, "the second row's")):
        value = sum(d * s for d, s in zip(scales, probes.SUMS, strict=True))
        yield _near(got, value), f"of the two scales, {which} alone is multiplied"
    if probe.call.function == DOT_REAL:
        unused = probes.UNUSED**2 * sum(probes.SUMS)
        yield _near(got, unused), "the two scale fields are exchanged: x has weight_scale, y activation_scale"
    own = sum(d * d * sum(q * q for q in codes) for d, codes in zip(probes.SCALES, probes.CODES, strict=True))
    yield _near(got, own), "x is multiplied by itself: are vx and vy in their places (bs and bx lie between)?"
    unsigned = sum(
        d * e * sum((a & 255) * b for a, b in zip(x, y, strict=True))
        for d, e, x, y in zip(probes.SCALES, probes.OTHER_SCALES, probes.CODES, probes.OTHERS, strict=True)
    )
    yield _near(got, unsigned), "x's codes are read as unsigned: they are int8"
    yield _near(got, -probes.DOT_VALUE), "the sign is wrong"


_GUESSES: Mapping[str, Callable[[Probe, Mapping[str, bytes]], Iterator[tuple[bool, str]]]] = {
    **dict.fromkeys(QUANTIZERS, _row_guesses),
    DEQUANTIZE: _dequantize_guesses,
    ACTIVATION: _activation_guesses,
    DOT: _dot_guesses,
    DOT_REAL: _dot_guesses,
}
