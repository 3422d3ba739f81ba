"""Halves that are read as others: the fact names all of them by a condition, and what they are taken for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from q8a8_conformance.diagnosis.dots import dot_facts
from q8a8_conformance.diagnosis.dots.layouts import encoders_of
from q8a8_conformance.faults.kernel import DOT
from q8a8_conformance.inputs import calls, dot_rows

from .dot_calls import SECONDS, FourResults, failed, own, probe_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8_conformance.inputs.arrays import Array

    Read = Callable[[Array], Array]


def _few_shifts(bits: Array) -> Array:
    magnitude = bits & 0x7FFF
    return np.where((magnitude > 0) & (magnitude < 4), bits | 4, bits)


def _carried(bits: Array) -> Array:
    exponent = bits >> 10 & 31
    return np.where((bits & 1023 == 1023) & (exponent > 0) & (exponent < 30), bits + 1, bits)


def _one(bits: Array) -> Array:
    return np.where(bits == 0x3555, 0x3455, bits)


KERNELS: dict[str, tuple[Read, str, str]] = {
    "few-shifts": (
        _few_shifts,
        "xy",
        "Scales that are subnormal whose mantissa is 0x3 at most are read as if bit 2 were set.",
    ),
    "carried": (
        _carried,
        "x",
        "Scales of x from 2^-14 on below 2^15 whose mantissa is 0x3ff are rounded to 10 bits.",
    ),
    "one": (_one, "y", "The scale 0x3555 of y is read as 0.270751953125, not 0.333251953125."),
}
"""What the bits of scales are taken for, of which rows, and the fact."""


BITS = (0x0001, 0x0002, 0x0005, 0x07FF, 0x2E66, 0x3555, 0x77FF, 0x8003)
"""Scales of the calls."""


@pytest.mark.parametrize("name", KERNELS)
def test_class(name: str) -> None:
    """One fact has all of them, of both rows."""
    read, operands, sentence = KERNELS[name]

    def result(_nrc: int, number: int, rows: list[Array]) -> float:
        x, y = own(number, rows)
        taken = [_values(row, read if side in operands else _as_it_is) for side, row in (("x", x), ("y", y))]
        return float(((x["weight_qs"].astype(int) * y["weight_qs"]).sum(axis=1) * taken[0] * taken[1]).sum())

    probe = probe_of(FourResults(result))
    ones = np.eye(1, 32, dtype=int)
    scaled = [dot_rows.blocks(float(np.uint16(bits).view(np.float16)), ones) for bits in BITS]
    one = dot_rows.blocks(1.0, ones)
    made = (calls.dot(*pair) for of in scaled for pair in ((of, one), (one, of)))
    failures = failed(made, probe)
    (fact,) = dot_facts(DOT, {1: failures}, probe, SECONDS)
    assert fact.sentence == sentence
    assert fact.explained(failures) == failures


def test_a_fact_about_several_readings_names_no_layout() -> None:
    """Beside misread signs the last block may be lost: what is read so, as a list, is no layout of blocks."""
    one: Any = SimpleNamespace(where={"as": ["unsigned"], "operand": "y"})
    assert encoders_of(1, [one]) == {}


def _as_it_is(bits: Array) -> Array:
    return bits


def _values(row: Array, read: Read) -> Array:
    taken = read(row["weight_scale"].view(np.uint16).astype(np.int64))
    return np.asarray(taken.astype(np.uint16).view(np.float16), np.float64)
