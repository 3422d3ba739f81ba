"""Calls before one that make it wrong, or change its bits: which ones, and what is left of them.

A failed call is repeated in a new process, after zeros, after a long row. What it takes over is measured
where it can be (`carried`).
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.diagnosis.dots.carried import of_call_before, terms_of_call_before
from q8a8_conformance.diagnosis.dots.conditions import TRIED, Condition, is_right, plain
from q8a8_conformance.diagnosis.dots.model import Model, matches
from q8a8_conformance.diagnosis.dots.narrow_keys import forget, narrow_key
from q8a8_conformance.faults.kernel import DOTS
from q8a8_conformance.inputs import calls, dot_rows
from q8a8_conformance.results.observations import CallResult
from q8a8_conformance.reveal.places import length_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from q8a8_conformance.diagnosis.dots.bench import Probe
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.results.observations import Failure

MANY, PROCESSES = 60_000, 3
"""Calls in a row, and processes, that may change the bits of a right result."""

FEW, FAST = 300, 0.02
"""Calls in a row, and the seconds that they take at most if many more are to be made."""

NAN = "a result that is no number"

ONE = b"\0<\0<" + b"\1" * 32
"""A block of either version that adds something."""


def of_bits(
    failed: Sequence[Failure], probe: Probe, restart: Callable[[], object] | None
) -> Condition | None:
    """Find why right results of one call are not always the same bits: the process, or calls before."""
    for one in sorted(failed, key=lambda each: each.call.n)[:TRIED]:
        quiet = plain(one.call)
        first = probe(quiet)
        started = time.monotonic()
        probe(replace(quiet, repeat=FEW))
        if time.monotonic() - started < FAST:
            probe(replace(quiet, repeat=MANY))
        if probe(quiet) != first:
            where, words = {"by": "count", "calls": MANY}, "how often the function was called before"
            return Condition("bits", where, words, None, tuple(failed))
        if restart is None:
            continue
        for _ in range(PROCESSES):
            restart()
            if probe(quiet) != first:
                return Condition("bits", {"by": "process"}, "the process", None, tuple(failed))
    return None


def of_history(
    failed: Sequence[Failure], probe: Probe, restart: Callable[[], object] | None
) -> Condition | None:
    """Find what calls before one make it wrong, where it is right after others.

    Each failed call is made after several others: in a new process, after one of zeros at the same
    addresses, after a long one, after one of another length. Where that makes a difference each is made
    twice.
    """
    some = sorted(failed, key=lambda each: each.call.n)
    for one in some[:TRIED]:
        verdicts = {name: _after(before, one, probe) for name, before in _before(one.call, restart)}
        if {*verdicts.values()} == {"wrong"}:
            continue
        again = {name: _after(before, one, probe) for name, before in _before(one.call, restart)}
        if restart is not None:
            restart()
        if again != verdicts or {*verdicts.values()} != {"right", "wrong"}:
            continue
        wrong = [name for name, verdict in verdicts.items() if verdict == "wrong"]
        right = [name for name, verdict in verdicts.items() if verdict == "right" and name != NAN]
        if not right:
            continue
        # (To begin a process takes long.)
        members = (
            one,
            *(each for each in some if each is not one and _is_right_after(each, right[-1], probe, restart)),
        )
        where: Mapping[str, Any] = {"wrong_after": wrong, "right_after": right}
        words = f"it is wrong where it comes after {' or '.join(wrong)}, and right after {' or '.join(right)}"
        if carried := of_call_before(one.call.function, probe) or _terms_before(one.call, probe):
            where, words = carried
        elif lengths := _lengths_wrong(one.call, wrong[0], probe):
            words = f"where {lengths}, {words}"
        return Condition("history", where, words, None, members)
    return _of_narrow_key(some, probe) if some else None


def _of_narrow_key(failed: Sequence[Failure], probe: Probe) -> Condition | None:
    """Find that something is kept of an input which is used again though the input has changed."""
    key = narrow_key(failed[0].call.function, probe)
    members = tuple(one for one in failed if _is_right_anew(one, probe)) if key else ()
    return Condition("history", key.where, key.words, None, members) if key and members else None


def _is_right_anew(one: Failure, probe: Probe) -> bool:
    forget(one.call.function, probe)
    outputs = probe(plain(one.call))
    return outputs is not None and is_right(one, outputs)


def _terms_before(call: Call, probe: Probe) -> tuple[Mapping[str, Any], str] | None:
    return terms_of_call_before(call.function, call.nrc, probe) if call.function in DOTS else None


def _lengths_wrong(call: Call, name: str, probe: Probe) -> str:
    """Return, in words, in rows of which lengths a result is wrong after something; empty for all."""
    if call.function not in DOTS:
        return ""
    verdicts = {}
    for nb in (*range(10), 16, 17, 33):
        x, y = dot_rows.exact_pair(nb, positive=True, seed=nb)
        made = calls.dot(x, y) if call.function == calls.DOT else calls.dot_real(*dot_rows.to_v2(x, y))
        before = dict(_before(made, None)).get(name)
        if before is None:
            return ""
        before(probe)
        outputs = probe(made)
        verdicts[nb] = outputs is not None and matches(Model(), CallResult(made, outputs))
    hit, missed = ([nb for nb, is_right in verdicts.items() if is_right is of] for of in (False, True))
    return length_words(hit, missed)


def _before(
    call: Call, restart: Callable[[], object] | None
) -> Iterator[tuple[str, Callable[[Probe], object]]]:
    """Yield what may come before a call, by name."""
    quiet = plain(call)
    zeros = calls.with_zeros(quiet)
    if call.function not in DOTS:
        if restart is not None:
            yield "no other call of the process", lambda _probe: restart()
        longer = _filled(quiet, quiet.n + 64, 0.0)
        yield "other bytes at the same addresses", lambda probe: (probe(longer), probe(zeros))
        yield "larger values", lambda probe: probe(_filled(quiet, quiet.n, 2.0**20))
        return
    nb = call.n // 32
    other = calls.with_zeros(_of_length(quiet, nb + 1))
    if restart is not None:
        yield "no other call of the process", lambda _probe: restart()
    # (What is kept of an earlier call is forgotten over another length first.)
    yield "zeros at the same addresses", lambda probe: (probe(other), probe(zeros))
    yield "a long row", lambda probe: (probe(other), probe(_of_length(quiet, 300)))
    yield "zeros of another length", lambda probe: probe(other)
    if restart is not None:
        yield NAN, lambda probe: probe(_with_nan(other))


def _filled(call: Call, n: int, value: float) -> Call:
    """Return a call of a quantizer or of dequantization on n elements of one value; others' as they are."""
    if call.function == calls.MUL_MAT:
        return call
    if call.function == calls.DEQUANTIZE:
        return calls.dequantize(dot_rows.filled(n // 32, 64, value / 64))
    x = np.full(n, value, np.float32)
    return calls.activation(x) if call.function == calls.ACTIVATION else calls.quantize(call.function, x)


def _with_nan(call: Call) -> Call:
    """Return a call with scales that are no numbers: outside the domain, and over when it returns."""
    inputs = {name: b"\xff\x7f" * (len(data) // 2) for name, data in calls.inputs_of(call).items()}
    return calls.build(call.function, call.n, inputs)


def _of_length(call: Call, nb: int) -> Call:
    """Return a call with one row at a time of so many blocks: those of a call, over and over."""
    size = 34 if call.function == calls.DOT else 36
    data = {
        name: ((part[: call.n // 32 * size] or ONE[:size]) * (32 * nb // max(call.n, 32) + 1))[
            : nb * size
        ].ljust(nb * size, b"\0")
        for name, part in calls.inputs_of(call).items()
    }
    return calls.build(call.function, 32 * nb, data)


def _after(before: Callable[[Probe], object], one: Failure, probe: Probe) -> str:
    """Return whether a call is right after another; ``none`` where it does not return."""
    before(probe)
    outputs = probe(plain(one.call))
    return "none" if outputs is None else "right" if is_right(one, outputs) else "wrong"


def _is_right_after(one: Failure, name: str, probe: Probe, restart: Callable[[], object] | None) -> bool:
    dict(_before(one.call, restart))[name](probe)
    outputs = probe(plain(one.call))
    return outputs is not None and is_right(one, outputs)
