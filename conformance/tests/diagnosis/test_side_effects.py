"""What calls do besides their results: in which of them, by length and by what their inputs hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8_conformance import diagnosis
from q8a8_conformance.diagnosis.dots import side_effects
from q8a8_conformance.diagnosis.dots.side_effects import of_reach, of_side_effect
from q8a8_conformance.inputs import calls, dot_rows
from q8a8_conformance.inputs.calls import ACTIVATION, DEQUANTIZE, DOT, MUL_MAT, QUANTIZERS
from q8a8_conformance.inputs.samples import call_of
from q8a8_conformance.protocol.messages import NO_FAULTS, Fault, Option, Result
from q8a8_conformance.results.observations import Observations
from q8a8_conformance.reveal.quantizers.calls import elements_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8_conformance.protocol.messages import Call

SOME = (
    "The flush-to-zero or denormals-are-zero bits are left changed in some calls, by no rule that was found."
)
FLUSH = Fault.FLUSH_MODE_CHANGED


def _kernel(has: Callable[[Call], bool], fault: Fault = FLUSH) -> Callable[[Call], Result]:
    def ask(call: Call) -> Result:
        return Result(fault if has(call) else NO_FAULTS, "it was 0, is 1" if has(call) else "", ())

    return ask


def _row_scales(call: Call) -> list[int]:
    return [int.from_bytes(call.buffers[0].data[34 * b : 34 * b + 2], "little") for b in range(call.n // 32)]


@pytest.mark.parametrize(
    ("function", "has", "sentence"),
    [
        (DOT, lambda _: True, "are left changed in every call."),
        (DOT, lambda call: call.n % 64 == 32, "are left changed where nb is odd."),
        (QUANTIZERS[0], lambda call: call.n >= 32 * 17, "are left changed where nb >= 17."),
        (ACTIVATION, lambda call: call.n % 8 > 0, "are left changed where size % 8 >= 1."),
        (ACTIVATION, lambda call: not elements_of(call).any(), "are left changed where every element is 0."),
        (DEQUANTIZE, lambda call: call.n == 0, "are left changed where there are no elements."),
        (
            QUANTIZERS[1],
            lambda call: call.n > 0 and bool((np.abs(elements_of(call)[-32:]) < 1e-7).all()),
            "are left changed where the last block is so small that its scale is 0.",
        ),
        (
            DEQUANTIZE,
            lambda call: call.n > 64 and 0 < _row_scales(call)[0] < 0x400,
            "are left changed where the first block has a subnormal scale and nb >= 3.",
        ),
        (
            DOT,
            lambda call: bool(call.n) and set(call.buffers[2].data[2:34]) == {0x80},
            "are left changed where the first block of y has codes of -128 alone.",
        ),
        (
            DEQUANTIZE,
            lambda call: any(0 < scale < 0x400 for scale in _row_scales(call)),
            "are left changed where a block has a subnormal scale.",
        ),
        (
            DEQUANTIZE,
            lambda call: any(
                0x80 in call.buffers[0].data[34 * b + 2 : 34 * b + 34] for b in range(call.n // 32)
            ),
            "are left changed where a block has a code of -128.",
        ),
        (
            MUL_MAT,
            lambda call: call.bs % 4 == 3 and call.bx >= 5,
            "are left changed where m % 4 = 3 and n >= 5.",
        ),
        (MUL_MAT, lambda _: True, "are left changed in every call."),
    ],
)
def test_where(function: str, has: Callable[[Call], bool], sentence: str) -> None:
    """The condition is one of the length, of what a block holds, or of both."""
    empty = function == DEQUANTIZE and "no elements" in sentence
    seen = [call for call in _some(function) if has(call) and (call.n == 0) == empty]
    fact = of_side_effect(FLUSH, seen, _kernel(has))
    assert fact is not None
    assert fact.sentence.endswith(sentence)
    assert (fact.fact, fact.rule, fact.function) == ("flush-mode-changed", "Q8A8-ENV-1", function)
    assert "it was 0, is 1" in fact.evidence[0].text


def _some(function: str) -> list[Call]:
    """Return calls of several lengths and contents, of which some have each side effect."""
    if function == MUL_MAT:
        shapes = ((3, 5, 2), (4, 5, 1), (7, 9, 3))
        return [
            calls.mul_mat(dot_rows.random_pair(m * nb)[0].reshape(m, nb), np.ones((n, 32 * nb), np.float32))
            for m, n, nb in shapes
        ]
    plain = [call_of(function, n) for n in (0, 1, 2, 3, 5, 17, 33)]
    zeros = [calls.with_zeros(call) for call in plain[1:]]
    if function == DEQUANTIZE:
        small = bytearray(call_of(function, 3).buffers[0].data)
        small[:2] = b"\x55\x01"
        return [*plain, calls.build(function, 96, {"x": bytes(small)})]
    if function == DOT:
        inputs = calls.inputs_of(call_of(function, 1))
        low = inputs["vy"][:2] + b"\x80" * 32
        return [*plain, calls.build(function, 32, {**inputs, "vy": low}, nrc=1)]
    return [*plain, *zeros]


def _said(fault: Fault, seen: list[Call], ask: Callable[[Call], Result | None]) -> str:
    """Return what is said of a side effect."""
    fact = of_side_effect(fault, seen, ask)
    assert fact is not None
    return fact.sentence


def test_what_has_no_condition() -> None:
    """Of what is not seen again, or where no rule fits, that is said."""
    one = call_of(DOT, 3)
    assert _said(FLUSH, [one], _kernel(lambda _: False)) == SOME
    assert _said(FLUSH, [one], lambda _: None) == SOME
    assert _said(FLUSH, [one], _kernel(lambda call: call is one)) == SOME
    odd = {3, 4, 9, 14, 33}
    assert _said(FLUSH, [one], _kernel(lambda call: call.n // 32 in odd)) == SOME
    product = calls.build(MUL_MAT, 32, {"w": bytes(34), "x": bytes(128)}, bs=1, bx=1)
    assert _said(FLUSH, [product], _kernel(lambda call: call.bs * call.bx in odd | {1})) == SOME


@pytest.mark.parametrize(
    ("function", "bytes_of", "sentence"),
    [
        (DEQUANTIZE, lambda call: 128 * call.n, "nb >= 1537 or so: about 4090 bytes of it for each block."),
        (
            ACTIVATION,
            lambda call: call.n << 11,
            "size >= 3073 or so: about 2050 bytes of it for each element.",
        ),
        (ACTIVATION, lambda call: (call.n >= 700) << 23, "size >= 700 or so."),
        (DOT, lambda _: 1 << 23, "than a call may use in every call."),
        (
            MUL_MAT,
            lambda call: call.bs * call.n << 8,
            "m · nb >= 780 or so: about 8070 bytes of it for each m · nb.",
        ),
        (
            MUL_MAT,
            lambda call: (call.bs * 32 + call.n) << 12,
            "in some calls, by no rule that was found.",
        ),
    ],
)
def test_stack(function: str, bytes_of: Callable[[Call], int], sentence: str) -> None:
    """The sizes from which on too much stack is taken, and what each unit takes."""

    def ask(call: Call) -> Result:
        text = f"the call used {bytes_of(call) / 2**20:.1f} MiB of stack, at most 6 may be"
        return (
            Result(Fault.STACK_EXCEEDED, text, ()) if bytes_of(call) > 6 << 20 else Result(NO_FAULTS, "", ())
        )

    size = {ACTIVATION: 5000}.get(function, 2100)
    w = dot_rows.random_pair(1200)[0].reshape(40, 30)
    product = calls.mul_mat(w, np.ones((1, 960), np.float32))
    seen = [product if function == MUL_MAT else call_of(function, size)]
    assert _said(Fault.STACK_EXCEEDED, seen, ask).endswith(sentence)


@pytest.mark.parametrize(
    ("function", "bytes_of", "sentence"),
    [
        (QUANTIZERS[0], lambda call: call.n % 64 // 32 * 48, "are kept where nb is odd: 48 bytes a call."),
        (
            DEQUANTIZE,
            lambda call: call.n // 32 * 34 + 16,
            "Resources are kept: about 34 bytes for each block.",
        ),
        (
            MUL_MAT,
            lambda call: call.bs * call.n * 4 * (call.bx == 1),
            "are kept where n = 1: about 128 bytes for each m · nb.",
        ),
    ],
)
def test_kept(function: str, bytes_of: Callable[[Call], int], sentence: str) -> None:
    """What each call keeps is a number of bytes, or so many for a unit of sizes."""

    def ask(call: Call) -> Result:
        text = f"allocated memory grows by {bytes_of(call)} bytes a call, in 1000 calls"
        return Result(Fault.RESOURCES_KEPT, text, ()) if bytes_of(call) else Result(NO_FAULTS, "", ())

    w = dot_rows.random_pair(6)[0].reshape(3, 2)
    seen = calls.mul_mat(w, np.ones((1, 64), np.float32)) if function == MUL_MAT else call_of(function, 5)
    assert _said(Fault.RESOURCES_KEPT, [seen], ask).endswith(sentence)


def test_options_are_kept() -> None:
    """What only guarded calls show is asked in such."""
    guarded = calls.with_options(call_of(DOT, 3), Option.GUARD_AFTER | Option.SHARED_INPUTS)
    ask = _kernel(lambda call: Option.GUARD_AFTER in call.options, Fault.WROTE_OUTSIDE)
    fact = of_side_effect(Fault.WROTE_OUTSIDE, [guarded], ask)
    assert fact is not None
    assert fact.sentence == "Bytes outside the buffers are written in every call."


def test_in_a_diagnosis() -> None:
    """They are findings beside those about results."""
    observations = Observations()
    for n in (1, 2):
        observations.add_side_effect(FLUSH, call_of(DOT, n))
    found = diagnosis.diagnose(observations, _no_dot, ask_threads=_kernel(lambda _: True))
    assert [(one.cause, one.explained, one.of) for one in found] == [("flush-mode-changed", 2, 2)]


def _no_dot(*_: object) -> None:
    """Make no dot product."""


def test_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the time is up before all calls were made, no rule is said."""
    monkeypatch.setattr(side_effects, "SECONDS", -1.0)
    assert _said(FLUSH, [call_of(DOT, 1)], _kernel(lambda _: True)) == SOME


def _dies(call: Call) -> bool:
    return Option.GUARD_AFTER in call.options and call.n // 32 % 4 == 3


def test_reads_outside() -> None:
    """A call that dies beside an inaccessible page reads, or writes, outside: in rows of some lengths."""
    guarded = calls.with_options(call_of(DEQUANTIZE, 3), Option.GUARD_AFTER)
    text = "stderr: SIGSEGV ({}): in dequantize_row_q8_a8, {} (102 bytes): 1 byte {}"

    def ask(call: Call) -> Result | None:
        return None if _dies(call) else Result(NO_FAULTS, "", ())

    read = of_reach([(guarded, text.format("read", "x", "after its end"))], ask)
    assert read is not None
    assert (read.fact, read.rule) == ("read-outside", "Q8A8-MEM-1")
    assert read.sentence == "Bytes after the end of x are read where nb % 4 = 3."
    assert read.evidence[0].text == "nb = 3: x, 1 byte after its end"
    written = of_reach([(guarded, text.format("write", "y", "before its start"))], ask)
    assert written is not None
    assert (written.fact, written.rule) == ("written-outside", "Q8A8-MEM-2")
    assert written.sentence == "Bytes before the start of y are written where nb % 4 = 3."
    two_rows = calls.with_options(call_of(DOT, 3, 2), Option.GUARD_AFTER)
    of_two = of_reach(
        [(two_rows, text.format("read", "vy", "after its end"))],
        lambda call: None if call.nrc == 2 else Result(NO_FAULTS, "", ()),
    )
    assert of_two is not None
    assert of_two.sentence == "With nrc = 2: bytes after the end of vy are read."
    assert of_reach([(guarded, "no answer")], ask) is None
    assert of_reach([(calls.with_options(call_of(DEQUANTIZE, 2), Option.GUARD_AFTER), text)], ask) is None


def test_reach_in_a_diagnosis() -> None:
    """What a call reads outside is a finding; where the time is up there is none."""
    observations = Observations()
    guarded = calls.with_options(call_of(DEQUANTIZE, 3), Option.GUARD_AFTER)
    observations.add_reach(
        guarded, "SIGSEGV (read): in dequantize_row_q8_a8, x (102 bytes): 5 bytes after its end"
    )
    found = diagnosis.diagnose(observations, _no_dot, ask_threads=lambda _: None)
    assert [one.sentence for one in found] == ["Bytes after the end of x are read in every call."]


def test_time_of_reaches(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same limit."""
    monkeypatch.setattr(side_effects, "SECONDS", -1.0)
    assert of_reach([(call_of(DEQUANTIZE, 3), "")], lambda _: None) is None
