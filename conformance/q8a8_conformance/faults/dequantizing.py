"""Mutants of dequantization."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.faults import steps
from q8a8_conformance.faults.kernel import DEQUANTIZE
from q8a8_conformance.faults.mutant import Mutant

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Array = NDArray[Any]

F32 = np.float32
VALUE, ANY, EMPTY = (f"Q8A8-DEQ-{number}" for number in (1, 2, 3))


def _product_in_half(d: Array, q: Array) -> Array:
    return (d.astype(np.float16)[:, np.newaxis] * q.astype(np.float16)).astype(F32)


def _zero_without_sign(d: Array, q: Array) -> Array:
    v = steps.value(d, q)
    return np.where(v == 0, F32(0), v)


def _at_least_one(call: Callable[[], None], function: str, arguments: Sequence[Any]) -> None:
    """Make the loop a do-while: a row of no blocks is taken for one of one."""
    del function
    _, y, k = arguments
    if k == 0:
        # Writes behind a buffer that may be empty, as C would.
        ctypes.memset(y.ctypes.data, 0, 128)
    call()


MUTANTS = (
    Mutant(
        "dequantize-in-half",
        "Scale and code are multiplied in half precision.",
        {"value": _product_in_half},
        rule=VALUE,
        fix="Convert to float32 before multiplying.",
    ),
    Mutant(
        "dequantize-zero-unsigned",
        "Zeros come out as +0, whatever the signs of scale and code.",
        {"value": _zero_without_sign},
        rule=VALUE,
        fix="Multiply; do not branch on a zero.",
    ),
    Mutant(
        "dequantize-minus-128",
        "-128 is taken for -127.",
        {"value": lambda d, q: steps.value(d, np.maximum(q, -127))},
        rule=ANY,
        fix="Take every int8 as it is.",
    ),
    Mutant(
        "dequantize-unsigned",
        "Codes are read as unsigned.",
        {"value": lambda d, q: steps.value(d, q.view(np.uint8))},
        rule=ANY,
        fix="Codes are int8; a plain char is unsigned on Arm.",
        seen="C's char: signed on x86, unsigned on Arm",
    ),
    Mutant(
        "dequantize-scale-magnitude",
        "The sign of the scale is lost.",
        {"value": lambda d, q: steps.value(np.abs(d), q)},
        rule=ANY,
        fix="Keep the scale's sign.",
    ),
    Mutant(
        "dequantize-negative-clamped",
        "Negative scales are read as zero.",
        {"value": lambda d, q: steps.value(np.maximum(d, F32(0)), q)},
        rule=ANY,
        fix="Keep the scale's sign.",
    ),
    Mutant(
        "dequantize-zero-scale",
        "A zero scale is taken for 1, against divisions by zero elsewhere.",
        {"value": lambda d, q: steps.value(np.where(d == 0, F32(1), d), q)},
        rule=ANY,
        fix="Take every scale as it is.",
    ),
    Mutant(
        "dequantize-one-at-least",
        "With k = 0 one block is written: the loop tests at its end.",
        {},
        (DEQUANTIZE,),
        lambda: _at_least_one,
        rule=EMPTY,
        fix="Test before the first block.",
        separate_process=True,
    ),
)  # fmt: skip
