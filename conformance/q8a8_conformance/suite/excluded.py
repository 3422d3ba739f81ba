"""Which rules a wrong result cannot break: what it is about did not occur in the call, or came out right.

A row of one block says nothing of how rows are laid out, a scale that is right nothing of amax. So a case
about several rules, which one mistake fails, does not stand against all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.inputs import calls
from q8a8_conformance.inputs.calls import ACTIVATION, DEQUANTIZE, DOT, DOT_REAL, MUL_MAT, QUANTIZERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from q8a8_conformance.results.observations import Failure

OF_SCALES = ("HLF-1", "HLF-2", "HLF-4", "QNT-1", "QNT-2")
OF_CODES = ("QNT-3", "QNT-4")
OF_ROWS = ("LAY-2", "QNT-7", "DOT-10")
"""Rules of the quantizers about scales and about codes, and rules about several blocks."""


def excluded(failure: Failure) -> frozenset[str]:
    """Return the rules that a failed call's outputs cannot break, by full id."""
    call = failure.call
    rules = set(OF_ROWS) if call.n <= 32 and call.nrc == 1 and call.function != MUL_MAT else set()
    if call.function in (*QUANTIZERS, ACTIVATION):
        rules |= {*_of_quantizer(failure)}
    elif call.function == DEQUANTIZE:
        rules |= {*_of_dequantizer(failure)}
    elif call.function in (DOT, DOT_REAL):
        rules |= {*_of_dot(failure)}
    elif call.function == MUL_MAT and min(call.bs, call.bx) == max(call.bs, call.bx) == 1:
        rules |= {"MUL-3", "MUL-6"}
    return frozenset(f"Q8A8-{rule}" for rule in rules)


def _of_quantizer(failure: Failure) -> Iterator[str]:
    """Yield rules about scales where all are right, about codes where none under a right scale is wrong."""
    want, got = failure.expected, failure.outputs
    if failure.call.function == ACTIVATION:
        codes = [np.frombuffer(side[0], np.uint8)[np.newaxis] for side in (want, got)]
        scales = [np.frombuffer(side[1], "<u2")[:1] for side in (want, got)]
    else:
        size = failure.call.n // 32 * 34
        rows = [np.frombuffer(side[0][:size], np.uint8).reshape(-1, 34) for side in (want, got)]
        codes = [row[:, 2:] for row in rows]
        scales = [np.ascontiguousarray(row[:, :2]).view("<u2")[:, 0] for row in rows]
    wrong = (codes[0] != codes[1]).any(axis=1)
    is_other = scales[0] != scales[1]
    if not is_other.any():
        yield from OF_SCALES
    elif not (is_other & ((scales[0] & 0x7C00 == 0) | (scales[1] & 0x7C00 == 0))).any():
        yield "HLF-2"
    if not (wrong & ~is_other).any():
        yield from OF_CODES
    if not ((wrong | is_other) & (scales[0] & 0x7FFF == 0)).any():
        yield "QNT-6"


def _of_dequantizer(failure: Failure) -> Iterator[str]:
    """Yield rules about scales where elements under them are right, and about special values without any."""
    nb = failure.call.n // 32
    rows = np.frombuffer(bytes(failure.call.buffers[0].data)[: nb * 34], np.uint8).reshape(-1, 34)
    h = np.ascontiguousarray(rows[:, :2]).view("<u2")[:, 0]
    q = rows[:, 2:].view(np.int8)
    want, got = (
        np.frombuffer(side[0][: nb * 128], "<u4").reshape(-1, 32)
        for side in (failure.expected, failure.outputs)
    )
    wrong = want != got
    # A scale that was read wrongly spoils every product but those of 0.
    by_scale = wrong.any(axis=1) & (wrong | (q == 0)).all(axis=1) & (q != 0).any(axis=1)
    if not by_scale.any():
        yield from ("HLF-2", "HLF-3")
    elif not (by_scale & (h & 0x7C00 == 0)).any():
        yield "HLF-2"
    ordinary = (h < 0x8000) & (h & 0x7C00 != 0) & (h < 0x7800)
    if not (wrong & (~ordinary[:, np.newaxis] | (np.abs(q.astype(np.int16)) >= 127))).any():
        yield "DEQ-2"


def _of_dot(failure: Failure) -> Iterator[str]:
    """Yield rules about scales where all are ordinary, and about what the call has not."""
    call = failure.call
    inputs = list(calls.inputs_of(call).values())
    size, nb = (34, call.n // 32) if call.function == DOT else (36, call.n // 32)
    if call.nrc == 1:
        yield "DOT-6"
        rows = [np.frombuffer(bytes(side)[: nb * size], np.uint8).reshape(-1, size) for side in inputs]
        at = (0, 0) if call.function == DOT else (0, 2)
        h = [
            np.ascontiguousarray(side[:, first : first + 2]).view("<u2")
            for side, first in zip(rows, at, strict=True)
        ]
        scales = np.concatenate(h).ravel()
        if (scales == 0x3C00).all():
            yield from ("DOT-2", "HLF-3")
        if not (scales & 0x7C00 == 0).any():
            yield "HLF-2"
        if ((scales < 0x7800) & (scales & 0x7C00 != 0)).all():
            yield "DOT-8"
    if call.n:
        yield "DOT-5"
