"""Calls for checks of threads and processes, and the comparison of their results.

Two results of a kernel are compared here. Which of them is right is decided by the specification, so that the
other one is reported; where neither is, checks of values find it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from q8a8 import dequantize_row, layout
from q8a8_conformance.inputs import calls as requests
from q8a8_conformance.inputs.samples import functions, sample
from q8a8_conformance.protocol.deadline import clock
from q8a8_conformance.protocol.messages import Option
from q8a8_conformance.results.expected_dot import expected_dot
from q8a8_conformance.results.expected_product import is_right as is_right_product
from q8a8_conformance.suite.load_effects import MODES, describe
from q8a8_conformance.suite.target import KernelDiedError, NotRunError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.suite.judge import Judge
    from q8a8_conformance.suite.target import Target

ELSEWHERE = (1, 3, 16)
"""Numbers of threads that the environment of other processes asks for; with 1 there is one processor.

Some kernels take another path from 4 or from 8 threads on. (More than 16 would be slow where threads spin.)
"""
EMPTY = 0
"""The same of a process whose variables are set, and empty: as in ``OMP_NUM_THREADS= program``.

It loads the library with flush modes set, as a host built with ``-ffast-math`` does, and calls without them:
threads that are started meanwhile inherit them, and tables that are made then may lack subnormal numbers.
What `malloc` gives is full of other bytes than zeros: without that large pieces hold zeros, mostly.
"""
COPIES = 6
"""Processes whose first call is made from several threads, stopped at different moments."""
PROBE_CALLS, PROBES = 100, 6
"""Calls in a row that show how long one takes, and how often that is measured at most."""
SLOW_CALL_SECONDS = 50e-6
"""Seconds for one call of a slow kernel, the round trip of `PROBE_CALLS` on a busy machine included."""
SLOW_SECONDS = 0.3
"""Time of a process's first call above which fewer processes are started."""


def is_slow(judge: Judge, call: Call, limit: float = SLOW_CALL_SECONDS, calls: int = PROBE_CALLS) -> bool:
    """Return whether a call takes long, by the fastest measurement; what may be Python must be faster."""
    if "registers" not in judge.target.hello.capabilities:
        limit /= 4
    for _ in range(PROBES):
        started = clock()  # (What the machine is busy with is no slowness of the kernel's.)
        judge.run(replace(call, repeat=calls))
        seconds = (clock() - started) / calls
        if seconds < limit or seconds > 10 * limit:
            return seconds > limit
    return True


def later(judge: Judge, call: Call) -> dict[str, bytes]:
    """Return what a call gives late in a process; made once in a run, for all functions at the same time."""
    target = judge.target
    if not target.later:
        for function in filter(target.offers, functions()):
            ordinary = sample(function, 33)
            target.later[ordinary] = target.probe(ordinary) if target.makes(ordinary) else None
    found = target.later.get(call)
    return judge.run(call) if found is None else dict(zip(_outputs_of(call), found, strict=True))


def run_elsewhere(judge: Judge, threads: int, call: Call) -> dict[str, bytes] | None:
    """Return what a call gives in a process that is asked to use so many threads; None where it dies.

    With one thread, the process has one processor, and what the call does besides its results is recorded: it
    may put back what is usual, and not what there was. With `EMPTY`, the variables are empty.
    """
    target = judge.target.elsewhere(threads)
    if target is None:
        raise NotRunError("the worker cannot be started again under other circumstances")
    if threads == ELSEWHERE[0] and "state" in target.hello.capabilities:
        call = requests.with_options(call, Option.STATE)
    try:
        result = target.call(call)
        judge.record_faults(call, result)
        return target.outputs(call, result)
    except (KernelDiedError, NotRunError, RefusedError) as error:
        judge.fail(judge.rules, f"does not return where the environment {asks_for(threads)}: {error}", call)
        return None


def asks_for(threads: int) -> str:
    """Say what the environment of another process asks for."""
    if threads:
        return f"asks for {threads} threads"
    loaded = "where flush modes were set while the library was loaded"
    return f"leaves the number of threads empty, {loaded}, and where malloc gives bytes that are not zero"


def judge_modes_of_loading(judge: Judge) -> None:
    """Record modes that loading changes where flush modes are set before, and not where they are clear."""
    if judge.target.is_slow_to_start:
        return
    target, here = judge.target.elsewhere(EMPTY), judge.target.hello.loading or ()
    for change in (target and target.hello.loading) or ():
        rule, message = describe(change, flushing=True)
        if rule == MODES and change.what not in {each.what for each in here}:
            judge.records.add_without_call((rule,), message)


def copies(target: Target) -> int:
    """Return how many processes' first calls are made: few where they are slow."""
    return 1 if target.call_seconds_of_last > SLOW_SECONDS else COPIES


def compare(
    judge: Judge,
    call: Call,
    actual: Mapping[str, bytes],
    other: Mapping[str, bytes],
    message: str,
    together: Call | None = None,
) -> None:
    """Record a failure where two results of a call differ; the right one is what is expected.

    `together` is the call of several threads that gave the first result, where one did.
    """
    if not actual or actual == other:  # (A worker without "overlap" has not made the other call.)
        return
    expected = other
    if is_right(judge, call, actual) and not is_right(judge, call, other):
        actual, expected = other, actual
    if together is not None:
        judge.target.observations.add_threads(together)
        judge.fail(judge.rules, message, call, expected=expected, actual=actual)
        return
    judge.compare(call, actual, expected, message=message)


def is_right(judge: Judge, call: Call, outputs: Mapping[str, bytes]) -> bool:
    """Return whether an ordinary call's outputs are what the specification, or an accepted recipe, says."""
    data = call.buffers[0].data
    if call.function == requests.MUL_MAT:
        return is_right_product(call, outputs["out"], "design", in_bound=False)
    if call.function == requests.DEQUANTIZE:
        y = dequantize_row(np.frombuffer(data, layout.BLOCK_Q8_A8))
        return outputs["y"] == y.astype("<f4").tobytes()
    if call.function in (requests.DOT, requests.DOT_REAL):
        return _is_right_dot(call, outputs["s"])
    x = np.frombuffer(data, "<f4")
    if call.function == requests.ACTIVATION:
        return dict(outputs) == judge.recipes.activation(x, dict(outputs))
    return outputs["y"] == judge.recipes.rows(call.function, x, outputs["y"])


def _is_right_dot(call: Call, s: bytes) -> bool:
    dtype = layout.BLOCK_Q8_A8 if call.function == requests.DOT else layout.BLOCK_Q8_A8_V2
    size = call.n // 32 * dtype.itemsize

    def row(buffer: int, start: int) -> Array:
        return np.frombuffer(bytes(call.buffers[buffer].data)[start : start + size], dtype)

    return all(
        expected_dot(row(1, i * call.bx), row(2, j * call.by)).holds(s[4 * (j * call.bs + i) :][:4])
        for i in range(call.nrc)
        for j in range(call.nrc)
    )


def _outputs_of(call: Call) -> list[str]:
    return [call.spec.buffers[place].name for place in call.spec.outputs]
