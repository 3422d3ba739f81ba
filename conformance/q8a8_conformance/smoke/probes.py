"""The calls of ``q8a8 smoke``: one for each function, so simple that any kernel is about right.

The numbers are small integers with scales of 1 and 2, computed here with Python integers, and the results
hardly depend on recipe, order or rounding. A result that is far off is caused by the setup or by a wrong
function; :mod:`~q8a8_conformance.smoke.symptoms` finds out which.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from q8a8_conformance.protocol.messages import Buffer, Call
from q8a8_conformance.spec.abi import get_function
from q8a8_golden.cases import POISON

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

QUANTIZERS = ("quantize_row_q8_a8_ref", "quantize_row_q8_a8")
DEQUANTIZE = "dequantize_row_q8_a8"
ACTIVATION = "quantize_activation_q8_a8"
DOT = "ggml_vec_dot_q8_a8_q8_a8"
DOT_REAL = "ggml_vec_dot_q8_a8_q8_a8_real"
MUL_MAT = "mul_mat_q8_a8"

SPARE = 64
"""Trailing bytes of poison after the output of a quantizer or the dequantizer, to detect larger blocks."""

FIRST = (127, *((7 * j) % 101 - 50 for j in range(1, 32)))
"""Codes of the first block, with scale 1: all different, the largest first."""
SECOND = (*((11 * j) % 97 - 48 for j in range(5)), -127, *((11 * j) % 97 - 48 for j in range(6, 32)))
"""Codes of the second block, with scale 2: the largest is negative, in the middle."""
CODES = (FIRST, SECOND)
SCALES = (1.0, 2.0)
OTHERS = ((40, *(1 + j % 3 for j in range(1, 32))), tuple(j % 5 - 2 for j in range(32)))
"""Codes of the dot products' other row, with scales 0.5 and 4."""
OTHER_SCALES = (0.5, 4.0)
UNUSED = 8.0
"""The unused scale of version 2 blocks."""

FLOATS = tuple(d * q for d, codes in zip(SCALES, CODES, strict=True) for q in codes)
"""The 64 elements of the two blocks."""
SUMS = tuple(sum(a * b for a, b in zip(x, y, strict=True)) for x, y in zip(CODES, OTHERS, strict=True))
"""The integer sum of each block of the dot product."""
DOT_VALUE = sum(d * e * s for d, e, s in zip(SCALES, OTHER_SCALES, SUMS, strict=True))
"""The exact dot product of the two rows."""
SECOND_VALUE = sum(d * e * s for d, e, s in zip(SCALES, reversed(OTHER_SCALES), SUMS, strict=True))
"""The same where the other row's scales change places: the second row of the matrix product's w."""
PRODUCTS = (DOT_VALUE, SECOND_VALUE, -DOT_VALUE, -SECOND_VALUE)
"""The matrix product's outputs; the second row of its x is the first one, negated."""


@dataclass(frozen=True)
class Probe:
    """One call and its expected outputs.

    Attributes
    ----------
    call
        The call, with poison in the outputs, and :data:`SPARE` trailing bytes where rows are written.
    expected
        The outputs by ABI name, without the trailing bytes.
    """

    call: Call
    expected: Mapping[str, bytes]

    def before(self, name: str) -> bytes:
        """Return an output's contents before the call."""
        buffers = {
            spec.name: b.data for spec, b in zip(self.call.spec.buffers, self.call.buffers, strict=True)
        }
        return bytes(buffers[name])

    def outputs(self, data: Sequence[bytes]) -> dict[str, bytes]:
        """Return the output buffers of an answer by name."""
        spec = self.call.spec
        return {spec.buffers[i].name: d for i, d in zip(spec.outputs, data, strict=True)}


def block(scale: float, codes: Sequence[int]) -> bytes:
    """Return a block of 34 bytes."""
    return struct.pack("<e32b", scale, *codes)


def block_v2(weight_scale: float, activation_scale: float, codes: Sequence[int]) -> bytes:
    """Return a version 2 block of 36 bytes."""
    return struct.pack("<ee32b", weight_scale, activation_scale, *codes)


ROW = b"".join(map(block, SCALES, CODES))
OTHER_ROW = b"".join(map(block, OTHER_SCALES, OTHERS))
THIRD_ROW = b"".join(map(block, reversed(OTHER_SCALES), OTHERS))


def probes(functions: Sequence[str]) -> list[Probe]:
    """Return the probe of each function offered, in the ABI's order."""
    made = {name: _row(name) for name in QUANTIZERS}
    made[DEQUANTIZE] = _probe(DEQUANTIZE, 64, {"x": ROW}, {"y": struct.pack("<64f", *FLOATS)}, SPARE)
    made[ACTIVATION] = _activation()
    result = {"s": struct.pack("<f", DOT_VALUE)}
    made[DOT] = _probe(DOT, 64, {"vx": ROW, "vy": OTHER_ROW}, result, 0)
    x = b"".join(block_v2(d, UNUSED, q) for d, q in zip(SCALES, CODES, strict=True))
    y = b"".join(block_v2(UNUSED, d, q) for d, q in zip(OTHER_SCALES, OTHERS, strict=True))
    made[DOT_REAL] = _probe(DOT_REAL, 64, {"vx": x, "vy": y}, result, 0)
    made[MUL_MAT] = _matrix()
    return [probe for name, probe in made.items() if name in functions]


def _matrix() -> Probe:
    held = {
        "w": OTHER_ROW + THIRD_ROW,
        "x": struct.pack("<128f", *FLOATS, *(-value for value in FLOATS)),
        "out": poison(16),
    }
    buffers = tuple(Buffer(held[spec.name]) for spec in get_function(MUL_MAT).buffers)
    return Probe(Call(MUL_MAT, 64, buffers, bs=2, bx=2), {"out": struct.pack("<4f", *PRODUCTS)})


def _row(function: str) -> Probe:
    return _probe(function, 64, {"x": struct.pack("<64f", *FLOATS)}, {"y": ROW}, SPARE)


def _activation() -> Probe:
    # Forty elements, no multiple of 32: one scale for all of them.
    codes = FIRST + SECOND[6:14]
    return _probe(
        ACTIVATION,
        len(codes),
        {"input": struct.pack(f"<{len(codes)}f", *codes)},
        {"output": struct.pack(f"{len(codes)}b", *codes), "scale": struct.pack("<e", 1.0)},
        0,
    )


def _probe(
    function: str, n: int, inputs: Mapping[str, bytes], expected: Mapping[str, bytes], spare: int
) -> Probe:
    poisoned = {name: poison(len(data) + spare) for name, data in expected.items()}
    held = {**inputs, **poisoned}
    buffers = tuple(Buffer(held[spec.name]) for spec in get_function(function).buffers)
    return Probe(Call(function, n, buffers), expected)


def poison(length: int) -> bytes:
    """Return `length` bytes of poison."""
    return (POISON * (length // len(POISON) + 1))[:length]
