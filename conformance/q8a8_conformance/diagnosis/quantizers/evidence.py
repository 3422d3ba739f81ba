"""Calls that may show in what a measured quantizer is wrong, and their results in a line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.diagnosis.facts import Evidence
from q8a8_conformance.reveal.quantizers.calls import BLOCK, build_call, elements_of, written
from q8a8_conformance.reveal.quantizers.probes import keen_values
from q8a8_conformance.reveal.quantizers.row_lengths import keen_row
from q8a8_conformance.reveal.quantizers.structure import even_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.results.observations import CallResult, Failure
    from q8a8_conformance.reveal.quantizers.model import QuantizerModel

F32 = np.float32


def candidates(model: QuantizerModel, function: str) -> Iterator[Call]:
    """Yield calls that may show something, the short ones first."""
    yield from (build_call(function, np.asarray(x, F32).reshape(-1)) for x in _elements(model))


def _elements(model: QuantizerModel) -> Iterator[Array]:
    unit = BLOCK if model.is_row else 1
    even = even_row(BLOCK)
    yield even * 0
    yield -even * 0
    for place in range(BLOCK):
        for sign in (1, -1):
            x = even / 127
            x[place] = 100 * sign
            yield x
    for exponent in (0, -20, -24, -26, -31, -40, 9):
        yield np.ldexp(np.arange(BLOCK) + 0.5, exponent) * np.where(np.arange(BLOCK) == 31, 127 / 31.5, 1)
    yield from keen_row(16)
    yield from (even * F32(scale / 127) for scale in (amax for amax, _ in keen_values()))
    yield from (even * F32(scale) for scale in (65504, 65510, 60000, 57400, 2.0**-15 * 1.0004, 2.0**-24 * 3))
    seen = {n for part in model.parts for n in part.rule.shortest()}
    seen |= {part.offset + 7 for part in model.parts if part.effect == "wraps"}
    for blocks in (2, 3, 8, *sorted(seen)):
        if unit == BLOCK:
            yield keen_row(blocks).reshape(-1)
        else:
            x = np.resize(keen_values()[0][1], blocks)
            x[[0, -1]] = keen_values()[0][0], 2 * keen_values()[0][0]
            yield x
            yield x[::-1].copy()


def shortest(explains: Callable[[CallResult], bool], failed: Sequence[Failure]) -> tuple[Evidence, ...]:
    """Return the shortest of the failed calls that a fact explains; none where there are none."""
    some = sorted((one for one in failed if explains(one)), key=lambda one: one.call.n)[:1]
    return tuple(
        Evidence(*of, show(of[0].function, *of)) for of in ((s.call, s.expected, s.outputs) for s in some)
    )


def show(function: str, call: Call, expected: tuple[bytes, ...], actual: tuple[bytes, ...]) -> str:
    """Describe the first difference in one line."""
    want, got = (written(function, call.n, outputs) for outputs in (expected, actual))
    x = elements_of(call)[: call.n]
    scales = np.flatnonzero(want.scales != got.scales)
    if scales.size:
        b = int(scales[0])
        return f"scale {b}: expected 0x{want.scales[b]:04x}, got 0x{got.scales[b]:04x}"
    codes = np.flatnonzero((want.codes != got.codes).reshape(-1))
    j = int(codes[0])
    code, wrong = int(want.codes.reshape(-1)[j]), int(got.codes.reshape(-1)[j])
    return f"element {j}, {x[j]}: expected {code}, got {wrong}"
