"""Calls whose results the specification fixes bit for bit, judged by it whatever the case is about."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from q8a8 import dequantize_row, layout
from q8a8_conformance.inputs import calls, dot_rows, samples
from q8a8_conformance.results.expected_dot import expected_dot, scalar_bits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.suite.judge import Judge

REPEATED, BOUND = "Q8A8-ENV-2", "Q8A8-ORD-2"

VALUES: Mapping[str, tuple[str, ...]] = {
    calls.QUANTIZERS[0]: ("Q8A8-QNT-2", "Q8A8-QNT-4"),
    calls.QUANTIZERS[1]: ("Q8A8-QNT-2", "Q8A8-QNT-4"),
    calls.DEQUANTIZE: ("Q8A8-DEQ-1",),
    calls.ACTIVATION: ("Q8A8-QNT-9",),
    calls.DOT: ("Q8A8-DOT-1", "Q8A8-DOT-2", "Q8A8-DOT-4"),
    calls.DOT_REAL: ("Q8A8-DOT-9",),
}
"""The rules about the values of each function, as far as an ordinary call shows them."""


def specimen(function: str, count: int) -> Call:
    """Return an ordinary call of so many blocks (or elements); a dot product whose sum no order rounds."""
    if function == calls.DOT:
        return calls.dot(*dot_rows.exact_pair(count))
    if function == calls.DOT_REAL:
        return calls.dot_real(*dot_rows.to_v2(*dot_rows.exact_pair(count)))
    if function == calls.ACTIVATION:
        return calls.activation(tied(count, blocks=False))
    if function in calls.QUANTIZERS:
        return calls.quantize(function, tied(32 * count, blocks=True))
    return samples.sample(function, count)


def tied(size: int, *, blocks: bool) -> Array:
    """Return elements of which every second is a tie between two codes, amax being 127 times a power of two.

    Neighbouring blocks have other powers: a scale that another block, or another call, has left behind shows.
    """
    rng = dot_rows.generator("tied", size)
    halves = rng.integers(-126, 126, size) + 0.5
    others = np.clip(40 * rng.standard_normal(size), -126, 126)
    x = np.where(np.arange(size) % 2, halves, others)
    x[:: 32 if blocks else size + 1] = 127
    exponents = 5 * (np.arange(size) // 32 if blocks else np.full(size, size)) % 7 - 3
    return np.asarray(np.ldexp(x, exponents), np.float32)


def judge_plainly(judge: Judge, call: Call) -> dict[str, bytes]:
    """Make an ordinary call, compare it with the specification, and return its output buffers.

    Where it differs, the call is made once more as the first one of a process: if it is right there, the
    difference breaks Q8A8-ENV-2, else the rules about the function's values.

    Parameters
    ----------
    judge
        Of the case.
    call
        With one row at a time, and elements in the domain.
    """
    actual = judge.run(call)
    expected = _expected(judge, call, actual)
    exact = call.function not in (calls.DOT, calls.DOT_REAL) or is_exact(call)
    values = VALUES[call.function] if exact else (BOUND,)
    if actual != expected:
        rules = (REPEATED,) if _depends_on_calls(judge, call, values) else values
        message = "the result differs" if rules == values else "depends on the calls before"
        judge.compare(call, actual, expected, rules, message, in_bound=not exact)
    return actual


def _depends_on_calls(judge: Judge, call: Call, values: tuple[str, ...]) -> bool:
    """Return whether the first call of a process gives what is specified; a case asks it once."""
    if judge.has_failed(REPEATED) or any(judge.has_failed(rule) for rule in values):
        return judge.has_failed(REPEATED)
    if judge.target.is_known_wrong(call.function):
        return False
    judge.target.restart()
    actual = judge.run(call)
    is_right = actual == _expected(judge, call, actual)
    judge.target.wrong_anew[call.function] += not is_right
    return is_right


def _expected(judge: Judge, call: Call, actual: dict[str, bytes]) -> dict[str, bytes]:
    """Return the output buffers as specified; the kernel's own float where it is within the bound."""
    data = call.buffers[call.spec.inputs[0]].data
    if call.function in (calls.DOT, calls.DOT_REAL):
        return {"s": _expected_dot(judge, call, actual["s"])}
    if call.function == calls.DEQUANTIZE:
        y = dequantize_row(np.frombuffer(data, layout.BLOCK_Q8_A8))
        return {"y": y.astype("<f4").tobytes()}
    x = np.frombuffer(data, "<f4")
    if call.function == calls.ACTIVATION:
        return judge.recipes.activation(x, actual)
    return {"y": judge.recipes.rows(call.function, x, actual["y"])}


def _expected_dot(judge: Judge, call: Call, s: bytes) -> bytes:
    x, y = _rows(call)
    bits = scalar_bits(x, y)
    if s == bits or judge.target.profile == "exact" or is_exact(call):
        return bits
    return s if expected_dot(x, y).holds(s) else bits


def is_exact(call: Call) -> bool:
    """Return whether no order of addition can round in a dot product."""
    x, y = _rows(call)
    second = "weight_scale" if call.function == calls.DOT else "activation_scale"
    return dot_rows.is_exact(x, dot_rows.blocks(y[second], y["weight_qs"]))


def _rows(call: Call) -> tuple[Array, Array]:
    dtype = layout.BLOCK_Q8_A8 if call.function == calls.DOT else layout.BLOCK_Q8_A8_V2
    x, y = (np.frombuffer(call.buffers[index].data, dtype) for index in call.spec.inputs)
    return x, y
