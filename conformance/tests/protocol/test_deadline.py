"""Time limits do not run while a worker waits for a processor."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.protocol import deadline as module
from q8a8_conformance.protocol.deadline import (
    Deadline,
    begin,
    clock,
    end,
    in_limits,
    seconds_waiting,
    time_used,
)

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(eq=False)
class Waiting:
    """A worker that has waited so long."""

    seconds_waiting: float


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Replace the clock: the time is the list's only item, this process has never waited, and is not slow."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(module, "seconds_waiting", lambda _: 0.0)
    monkeypatch.setattr(module, "_pace", 1.0)
    return now


def test_what_a_worker_waits_does_not_count(at: list[float]) -> None:
    """The time is up after the limit and what the worker has waited meanwhile, not before."""
    worker = Waiting(7.0)
    begin(worker)
    limit, begun = Deadline(2.0), clock()
    worker.seconds_waiting += 3.0
    at[0] += 4.5
    assert not limit.has_passed
    assert clock() - begun == pytest.approx(1.5)
    at[0] += 1.0
    assert limit.has_passed
    end(worker)


def test_a_slow_machine_has_longer(at: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit of two seconds is one of five where all takes 2.5 times as long, on the clock of limits two."""
    monkeypatch.setattr(module, "slowness", 2.5)
    limit, begun, begun_limits = Deadline(2.0), clock(), time_used()
    at[0] += 4.9
    assert not limit.has_passed
    at[0] += 0.1
    assert limit.has_passed
    assert (clock() - begun, time_used() - begun_limits) == pytest.approx((5.0, 2.0))


def test_limits_are_as_long_as_the_machine_needs(at: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a piece of work takes twice as long, so may all; never less, and not beyond a bound."""
    for takes, more in ((2.0, 2.0), (0.5, 1.0), (100.0, module.SLOWEST)):
        monkeypatch.setattr(module, "_piece", lambda takes=takes: takes * module.PIECE)
        monkeypatch.setattr(module, "_pace", 1.0)
        module.measure()
        limit = Deadline(2.0)
        at[0] += 2.0 * more - 0.1
        assert not limit.has_passed
        at[0] += 0.1
        assert limit.has_passed
        assert in_limits(6.0 * more) == pytest.approx(6.0)


def test_a_worker_that_ends_takes_nothing_away(at: list[float]) -> None:
    """What an ended worker has waited does not count either, and the next one begins at 0."""
    worker = Waiting(7.0)
    begin(worker)
    limit = Deadline(2.0)
    worker.seconds_waiting += 1.0
    end(worker)
    begin(Waiting(0.0))
    at[0] += 2.9
    assert not limit.has_passed
    at[0] += 0.2
    assert limit.has_passed


def test_the_system_tells_how_long_a_task_waited(tmp_path: Path) -> None:
    """Of several tasks the one that waited most counts; what is no number of nanoseconds does not."""
    for name, text in (("1", "5 250000000 9"), ("2", "5 1500000000 9"), ("3", "nothing")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "schedstat").write_text(text)
    assert seconds_waiting(tmp_path.iterdir()) == 1.5
    assert seconds_waiting([tmp_path / "none"]) == 0.0
