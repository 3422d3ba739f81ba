"""Which calls do not return: by address, by length and shape, by what inputs hold."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8_conformance import diagnosis
from q8a8_conformance.diagnosis.deaths import of_deaths
from q8a8_conformance.inputs import calls, dot_rows
from q8a8_conformance.inputs.calls import ACTIVATION, DEQUANTIZE, DOT
from q8a8_conformance.inputs.samples import call_of
from q8a8_conformance.protocol.messages import NO_FAULTS, Buffer, Result
from q8a8_conformance.results.observations import Death, Observations

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8_conformance.diagnosis.facts import Fact
    from q8a8_conformance.protocol.messages import Call

SECONDS = 30.0


def _asking(dies: Callable[[Call], bool]) -> Callable[[Call], Result | None]:
    def ask(call: Call) -> Result | None:
        return None if dies(call) else Result(NO_FAULTS, "", ())

    return ask


def _fact(dies: Callable[[Call], bool], *died: Call) -> Fact | None:
    assert all(map(dies, died))
    return of_deaths([Death(call, 0.0) for call in died], _asking(dies), SECONDS)


def _moved(call: Call, *offsets: int) -> Call:
    buffers = tuple(Buffer(one.data, offset) for one, offset in zip(call.buffers, offsets, strict=True))
    return replace(call, buffers=buffers)


def _nb(call: Call) -> int:
    return call.n // 32


@pytest.mark.parametrize(
    ("died", "dies", "sentence"),
    [
        (call_of(DOT, 7), lambda _: True, "in every call."),
        (call_of(DOT, 7), lambda call: _nb(call) % 4 == 3, "where nb % 4 = 3."),
        (call_of(DEQUANTIZE, 0), lambda call: call.n == 0, "where there are no elements."),
        (call_of(DEQUANTIZE, 64), lambda call: _nb(call) >= 33, "where nb >= 33."),
        (call_of(DEQUANTIZE, 2000), lambda call: _nb(call) > 1024, "where nb >= 1025."),
        (call_of(ACTIVATION, 9000), lambda call: call.n >= 8192, "where size >= 8192."),
        (call_of(ACTIVATION, 5), lambda call: 0 < call.n < 8, "where size <= 7."),
        (call_of(DOT, 9, 2), lambda call: call.nrc == 2 and _nb(call) % 2 > 0, "where nb is odd."),
        (
            calls.mul_mat(dot_rows.random_pair(6)[0].reshape(3, 2), np.ones((1, 64), np.float32)),
            lambda call: call.bs % 4 == 3,
            "where m % 4 = 3.",
        ),
        (
            _moved(call_of(DEQUANTIZE, 70), 40, 16),
            lambda call: _nb(call) >= 64 and call.buffers[1].offset % 32 > 0,
            "where y is not at a multiple of 32 bytes and nb >= 64.",
        ),
        (
            _moved(call_of(DOT, 3), 0, 2, 30),
            lambda call: call.buffers[2].offset % 16 > 0,
            "where vy is not at a multiple of 16 bytes.",
        ),
    ],
)
def test_which_calls(died: Call, dies: Callable[[Call], bool], sentence: str) -> None:
    """The condition is found from one call that died; the smallest such call is shown."""
    fact = _fact(dies, died)
    assert fact is not None
    said = "With nrc = 2: the call" if died.nrc == 2 else "The call"
    assert fact.sentence == f"{said} does not return {sentence}"
    assert fact.rule == ("Q8A8-MEM-4" if "buffer" in fact.where else "")
    assert dies(fact.evidence[0].call)
    assert fact.evidence[0].call.n <= died.n


def test_no_rule() -> None:
    """Where no ordinary call dies, or not again, nothing is said; nor where the time is up."""
    died = call_of(DOT, 40)
    assert _fact(lambda call: call is died, died) is None
    never = _asking(lambda _: False)
    assert of_deaths([Death(died, 0.0)], never, SECONDS) is None
    assert of_deaths([Death(died, 0.0)], _asking(lambda _: True), -1.0) is None


def test_long_rows_of_some_lengths() -> None:
    """Long rows of which only some die are said to die in no more than is known."""
    assert _fact(lambda call: _nb(call) > 1024 and _nb(call) % 2 > 0, call_of(DEQUANTIZE, 2001)) is None


def test_in_a_diagnosis() -> None:
    """It is a finding under the name of calls that do not return; where there is none, the call is shown."""
    observations = Observations()
    for nb in (3, 7, 11):
        observations.add_death(call_of(DOT, nb), 0.0)
    found = diagnosis.diagnose(
        observations, lambda *_: None, ask_threads=_asking(lambda call: _nb(call) % 4 == 3)
    )
    assert [(one.cause, one.fact, one.explained, one.of) for one in found] == [
        ("does-not-return", "dies", 3, 3)
    ]
    found = diagnosis.diagnose(observations, lambda *_: None, ask_threads=_asking(lambda _: False))
    assert [(one.cause, one.fact) for one in found] == [("does-not-return", "")]
