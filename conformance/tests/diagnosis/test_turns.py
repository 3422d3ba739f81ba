"""Calls that are wrong by turns: how many others lie between, and what is wrong in those."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from q8a8_conformance import diagnosis
from q8a8_conformance.diagnosis.dots.turns import every_nth, ordinal
from q8a8_conformance.diagnosis.replay import replay
from q8a8_conformance.faults.catalogue import make
from q8a8_conformance.inputs.calls import DEQUANTIZE, DOT
from q8a8_conformance.inputs.samples import call_of
from q8a8_conformance.results.observations import Failure, Observations

if TYPE_CHECKING:
    from q8a8_conformance.protocol.messages import Call


class _ByTurns:
    """A kernel of which every nth call is a mutant's."""

    def __init__(self, every: int, slug: str) -> None:
        self._every, self._wrong = every, make(slug)
        self.calls = 0

    def __call__(self, call: Call) -> tuple[bytes, ...]:
        """Make it as often as it says; return what comes last."""
        self.calls += call.repeat
        return replay(make() if self.calls % self._every else self._wrong, call)


def _failure(call: Call, slug: str) -> Failure:
    return Failure(call, replay(make(slug), call), replay(make(), call))


@pytest.mark.parametrize("every", [2, 7, 100])
def test_period(every: int) -> None:
    """The number is found, and calls are made when it is their turn, whatever was made before."""
    kernel = _ByTurns(every, "odd-block-lost")
    call = call_of(DOT, 3)
    turn = every_nth([_failure(call, "odd-block-lost")], kernel)
    assert turn is not None
    assert turn.every == every
    for nb in (1, 5, 4):
        assert turn.make(call_of(DOT, nb)) == replay(make("odd-block-lost"), call_of(DOT, nb))


def test_what_has_no_turns() -> None:
    """Neither what is always wrong, never, or at times without a rule, nor a call that does not return."""
    call = call_of(DOT, 3)
    failure = _failure(call, "odd-block-lost")
    assert every_nth([failure], lambda _: failure.outputs) is None
    assert every_nth([failure], lambda _: failure.expected) is None
    assert every_nth([failure], lambda _: None) is None
    numbers = iter(range(10_000))
    odd = (failure.outputs, failure.expected)
    assert every_nth([failure], lambda _: odd[next(numbers) not in {3, 8, 30}]) is None


@pytest.mark.parametrize(
    ("function", "slug", "sentence"),
    [
        (
            DOT,
            "odd-block-lost",
            "Where nb is odd, the last block is left out",
        ),
        (DEQUANTIZE, "dequantize-minus-128", "-128 is taken for -127"),
    ],
)
def test_what_is_wrong_in_them(function: str, slug: str, sentence: str) -> None:
    """Experiments go on in the calls whose turn it is."""
    observations = Observations()
    for nb in (1, 3, 5, 2, 4):
        failure = _failure(call_of(function, nb), slug)
        if failure.outputs != failure.expected:
            got, want = ({"out": side[0]} for side in (failure.outputs, failure.expected))
            observations.add_failure(failure.call, got, want)
    kernel = _ByTurns(3, slug)
    found = diagnosis.diagnose(observations, _no_dot, probe=kernel)
    assert found[0].sentence.startswith(f"In every 3rd call of a process: {sentence}")
    assert found[0].rule == "Q8A8-ENV-2"


def _no_dot(*_: object) -> None:
    """Make no dot product."""


def test_words() -> None:
    """Ordinals as English has them."""
    assert [ordinal(n) for n in (2, 3, 4, 11, 12, 21, 22, 113)] == [
        "2nd", "3rd", "4th", "11th", "12th", "21st", "22nd", "113th",
    ]  # fmt: skip
