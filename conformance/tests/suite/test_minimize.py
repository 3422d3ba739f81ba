"""The search for the simplest failing example, and the time that it may take."""

from __future__ import annotations

import pytest

from q8a8_conformance.suite import minimize


class WrongError(Exception):
    """An example failed."""


def fail_above(limit: int, tried: list[int]) -> None:
    """Search integers up to a million for one above a limit."""

    def body(example: int) -> None:
        tried.append(example)
        if example > limit:
            raise WrongError(str(example))

    minimize.search(lambda source: source.integer(0, 1_000_000), body)


def test_the_simplest_example_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest integer above the limit is the one that comes out, where there is time enough."""
    monkeypatch.setattr(minimize, "SECONDS", 600.0)
    with pytest.raises(WrongError) as raised:
        fail_above(4096, [])
    assert str(raised.value) == "4097"  # (Hypothesis may add a note.)


def test_no_example_fails() -> None:
    """Where nothing fails the search ends after so many examples."""
    tried: list[int] = []
    fail_above(1_000_000, tried)
    assert len(tried) <= minimize.COUNT


def test_time_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the time is up, the simplest example so far comes out: with no time at all, the first one."""
    monkeypatch.setattr(minimize, "SECONDS", -1.0)
    tried: list[int] = []
    with pytest.raises(WrongError) as raised:
        fail_above(4096, tried)
    assert str(raised.value) == str(tried[-1])
    assert sum(each > 4096 for each in tried) == 1


def test_an_example_that_fails_once_is_flaky() -> None:
    """What fails and then passes is no example."""
    failed: list[int] = []

    def body(example: int) -> None:
        if not failed:
            failed.append(example)
            raise WrongError(str(example))

    with pytest.raises(minimize.FlakyError):
        minimize.search(lambda source: source.integer(0, 9), body)
