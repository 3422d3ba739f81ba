"""Property tests: random examples are judged; where one fails, the simplest that does is recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from q8a8_conformance.inputs.random_inputs import Random
from q8a8_conformance.suite.case_records import ExampleFailedError
from q8a8_conformance.suite.kernel_calls import CaseOver
from q8a8_conformance.suite.target import NotRunError

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8_conformance.inputs.random_inputs import Source
    from q8a8_conformance.suite.judge import Judge

Example = TypeVar("Example")


def judge_examples(
    judge: Judge, make: Callable[[Source], Example], check: Callable[[Example], object], count: int = 100
) -> None:
    """Search for an example that fails a check, and record the simplest one found.

    Parameters
    ----------
    judge
        Of the case.
    make
        Makes an example of numbers from a source (`q8a8_conformance.inputs.random_inputs`).
    check
        Judges an example.
    count
        Examples to try, the same in every run. Where one fails, Hypothesis looks for the simplest. A death
        ends the search: shrinking a crash would cost a restart for each example.
    """
    over: list[BaseException] = []

    def judge_one(example: Example) -> None:
        if over:
            return
        try:
            with judge.records.raising_failures():
                check(example)
        except (CaseOver, NotRunError) as error:
            over.append(error)

    try:
        for number in range(count):
            judge_one(make(Random(judge.case, number)))
    except ExampleFailedError as error:
        _record_simplest(judge, make, judge_one, error)
    if over:
        raise over[0]


def _record_simplest(
    judge: Judge,
    make: Callable[[Source], Example],
    judge_one: Callable[[Example], None],
    failed: ExampleFailedError,
) -> None:
    """Record the simplest example that fails; the one that did where the search finds none."""
    from q8a8_conformance.suite.minimize import FlakyError, search  # noqa: PLC0415 (Hypothesis is slow to import)

    try:
        search(make, judge_one)
    except ExampleFailedError as error:
        failed = error
    except FlakyError:
        judge.records.add_varying()
        return
    for record in failed.records:
        judge.records.keep(record)
