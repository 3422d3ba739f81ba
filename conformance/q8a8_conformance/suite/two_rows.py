"""Whether a kernel takes two rows at a time.

A kernel that computes one row at a time shows it in one of three ways: it refuses nrc = 2 (an ``assert``
that ends the process counts as refusal), it writes nothing, or it ignores nrc and writes ``s[0]`` = x0·y0, as
with nrc = 1. Everything else is a result for two rows and judged as one, also a wrong ``s[0]`` alone, a hang,
and a violation of the protocol.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.inputs import calls, dot_rows
from q8a8_conformance.protocol.session import ProtocolViolation, WorkerHung
from q8a8_conformance.suite.target import KernelDiedError, NotOfferedError, RefusedError, Target

if TYPE_CHECKING:
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.suite.judge import Judge

ONE_ROW = "the kernel computes one row at a time (nrc = 2 is refused, or gives what nrc = 1 does)"


def require_two_rows(judge: Judge) -> None:
    """Leave the case as not run where the kernel computes one row at a time."""
    judge.require(calls.DOT)
    if not takes_two_rows(judge):
        raise NotOfferedError(ONE_ROW)


def takes_two_rows(judge: Judge) -> bool:
    """Return whether the kernel takes two rows at a time; found out once a run."""
    if judge.target.two_rows is None:
        judge.target.two_rows = judge.target.offers(calls.DOT) and _takes_two_rows(judge.target)
    return judge.target.two_rows


def _takes_two_rows(target: Target) -> bool:
    """Call once with two rows; where only ``s[0]`` is written, compute the first two of them alone.

    A worker that hangs, or sends what is no answer, did not refuse: an ``assert`` ends the process at once.
    """
    x, y = dot_rows.exact_pair(2)
    call = calls.dot_pair(np.stack([x, y]), np.stack([y, x]), bs=4)
    try:
        result = target.call(call)
    except RefusedError:
        return False
    except KernelDiedError as error:
        return isinstance(error.__cause__, WorkerHung | ProtocolViolation)
    held = calls.poison(len(call.buffers[call.spec.outputs[0]].data))
    s = result.outputs[0] if len(result.outputs) == 1 else b""
    if len(s) != len(held) or s[4:] != held[4:]:
        return True
    return s[:4] != held[:4] and s[:4] != _single(target, x, y)


def _single(target: Target, x: Array, y: Array) -> bytes:
    """Return the kernel's result for x0·y0 with nrc = 1; empty where it does not return."""
    try:
        return target.call(calls.dot(x, y)).outputs[0]
    except (KernelDiedError, RefusedError):
        return b""
