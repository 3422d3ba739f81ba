"""Judging quantized rows and activations: bytes, as the specification or an accepted recipe has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.inputs import calls
from q8a8_conformance.inputs.calls import QUANTIZERS
from q8a8_conformance.suite.accepted_recipes import DESIGN
from q8a8_conformance.suite.case_records import VARIES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.suite.judge import Judge


SHOWN = 64
"""Wrong vectors of a call of many that are judged one by one at most."""


def judge_row(judge: Judge, call: Call, expected: Mapping[str, bytes] | None = None) -> bytes:
    """Judge one row of a row quantizer; return the blocks that the kernel wrote.

    Parameters
    ----------
    judge
        Of the case.
    call
        Of one of `calls.QUANTIZERS`, with elements in the domain.
    expected
        The specification's buffers, where they are known from elsewhere than the reference.
    """
    x = np.frombuffer(call.buffers[0].data, "<f4")
    size = x.size // 32 * 34
    actual = judge.run(call)
    y = actual["y"][:size]
    judge.target.observations.add_row(call.function, x, y)
    if expected is None or judge.recipes.of(call.function) != DESIGN:
        # Whatever of the buffer no block fills keeps its poison.
        expected = {"y": judge.recipes.rows(call.function, x, y) + bytes(call.buffers[1].data)[size:]}
    judge.compare(call, actual, expected)
    return y


def judge_activation(judge: Judge, call: Call, expected: Mapping[str, bytes] | None = None) -> None:
    """Judge one activation vector with elements in the domain; parameters as :func:`judge_row`."""
    x = np.frombuffer(call.buffers[0].data, "<f4")
    actual = judge.run(call)
    judge.target.observations.add_activation(call.function, x, actual["output"][: x.size], actual["scale"])
    if expected is None or (x.size and judge.recipes.of(call.function) != DESIGN):
        expected = judge.recipes.activation(x, actual)
    judge.compare(call, actual, expected)


def judge_activations(judge: Judge, x: Array, scale: Array, codes: Array) -> bool:
    """Judge activation vectors [n, size], made by one call of the worker; return whether all are right.

    Parameters
    ----------
    judge
        Of the case.
    x, scale, codes
        The vectors in the domain; by the specification, their scales f16 [n] and codes int8 [n, size].
    """
    call = calls.activations(x)
    actual = judge.run(call)
    got = np.frombuffer(actual["scale"], np.uint16), np.frombuffer(actual["output"], np.int8).reshape(x.shape)
    wrong = np.flatnonzero((got[0] != scale.view(np.uint16)) | (got[1] != codes).any(axis=1))
    if judge.recipes.of(calls.ACTIVATION) != DESIGN:
        # (A recipe may leave some undefined, so one by one.)
        wrong = np.arange(0, len(x), 64)
    for place in wrong[:: max(1, wrong.size // SHOWN)][:SHOWN]:
        judge_activation(judge, calls.activation(x[place]))
    if wrong.size and judge.recipes.of(calls.ACTIVATION) == DESIGN and not judge.records.failed:
        expected = {"scale": scale.tobytes(), "output": codes.tobytes()}
        message = "a vector is wrong after others, and right alone"
        judge.fail((VARIES,), message, call, expected=expected, actual=actual)
    return not judge.records.failed


def judge_alike(judge: Judge, results: Sequence[tuple[Call, bytes]], right: bytes, message: str) -> bool:
    """Judge results that the specification makes the same bytes; return whether they are.

    Where they differ, the first that is not the specification's is recorded. What is alike and wrong is not
    judged here.

    Parameters
    ----------
    judge
        Of the case; it fails all of its rules.
    results
        Calls and what they gave, in the layout of `right`.
    right
        The specification's bytes.
    message
        What it means if they differ.
    """
    if len({actual for _, actual in results}) == 1:
        return True
    call, actual = next((call, actual) for call, actual in results if actual != right)
    expected = {"y": right} if call.function in QUANTIZERS else {"output": right[2:], "scale": right[:2]}
    got = {"y": actual} if call.function in QUANTIZERS else {"output": actual[2:], "scale": actual[:2]}
    if len(right) == call.n // 32 * 34:
        judge.target.observations.add_failure(call, got, expected)
    judge.fail(judge.rules, message, call, expected=expected, actual=got)
    return False
