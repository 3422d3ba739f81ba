"""Elements of a block whose codes dequantization reads otherwise than the rest: a lane, or a half."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from q8a8_conformance.diagnosis.dequantizer_model import BLOCK, CODES, F32, SIZE, read_right
from q8a8_conformance.diagnosis.facts import Difference, words
from q8a8_conformance.reveal.quantizer_words import ranges

if TYPE_CHECKING:
    from q8a8_conformance.diagnosis.dequantizer_model import Dequantizer, DequantizerCalls

Array = NDArray[Any]

ONE = (0x00, 0x3C)
"""The bytes of the half 1.0."""

BLOCKS = 8
"""Blocks of a row, as short as other experiments have it."""


def lanes(calls: DequantizerCalls, model: Dequantizer) -> tuple[list[Difference], Dequantizer]:
    """Read every code at every element, under the scale 1; those that are not read as most are, are a fact.

    Only where some elements are read rightly, the others all alike, and every byte is at its place.
    """
    rows = np.empty((CODES.size, SIZE), np.uint8)
    rows[:, :2], rows[:, 2:] = ONE, np.arange(CODES.size)[:, np.newaxis]
    numbers = np.arange(SIZE * BLOCKS).reshape(BLOCKS, SIZE)
    if not np.array_equal(model.places(BLOCKS), numbers):
        return [], model
    # (Once more, each code in another block: what is so in some blocks alone is not said of every one.)
    got, again = (
        np.roll(
            np.concatenate([calls(row).view(F32) for row in np.split(of, CODES.size // BLOCKS)]), -shift, 0
        )
        for shift, of in ((0, rows), (1, np.roll(rows, 1, axis=0)))
    )
    right = read_right()[1]
    wrong = np.flatnonzero((got != right[:, np.newaxis]).any(axis=0))
    if (
        not (np.array_equal(got, again) and 0 < wrong.size < BLOCK)
        or (got[:, wrong] != got[:, wrong[:1]]).any()
    ):
        return [], model
    table = got[:, wrong[0]].copy()
    found = tuple(wrong.tolist())
    first = CODES[np.argmax(table != right)]
    how = _words(table, right) or f"{first} as {table[np.uint8(first)]:g}"
    where = {"elements": list(found), "codes": CODES[table != right].tolist()}
    noun = "Element" if len(found) == 1 else "Elements"
    sentence = f"{noun} {ranges(found)} of every block: codes are read {how}."
    fix = "Widen and multiply every element alike."
    named = words(sentence, rule="Q8A8-DEQ-1", fix=fix)
    difference = Difference("code-read", where, *named, partial(replace, lanes=None))
    return [difference], replace(model, lanes=(found, table))


def _words(table: Array, right: Array) -> str:
    """Describe values of codes that have a simple rule; empty for others."""
    rules = {
        "with the other sign": -right,
        "without a sign": np.abs(right),
        "as unsigned bytes": right % 256,
        "as zeros": right * 0,
    }
    return next((words for words, values in rules.items() if (values == table).all()), "")
