"""What is wrong with a kernel's setup, once its calls are judged: guesses from one result that these refute.

A wrong prototype, a padded block or a count of blocks spoils nearly every call. So a hint that was read off
the values of the first result alone is none where a fact is known, where most cases pass, or where results
behind the first one of failed calls are right.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from q8a8_conformance.diagnosis.replay import differing
from q8a8_conformance.inputs.calls import DEQUANTIZE, MUL_MAT, QUANTIZERS
from q8a8_conformance.results.record import Status
from q8a8_conformance.smoke.symptoms import SEEN
from q8a8_conformance.suite.localization import is_about_values

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from q8a8_conformance.results.observations import Failure, Observations
    from q8a8_conformance.results.record import Record
    from q8a8_conformance.results.setup import Stage

RIGHT = 1 / 8
"""The part of the results behind the first ones that is right by chance, under a wrong setup."""

SIZES = {**dict.fromkeys(QUANTIZERS, 34), DEQUANTIZE: 128, MUL_MAT: 4}
"""Bytes of a result, of functions whose calls have several."""


def wrong_setup(
    stages: Iterable[Stage],
    known: Collection[str],
    records: Sequence[Record],
    observations: Observations | None,
) -> Iterator[Stage]:
    """Yield the stages that failed, without the hints that a run has refuted.

    Parameters
    ----------
    stages
        What was found before the first case.
    known
        Functions of which a fact is known.
    records, observations
        Of the run; None where the kernel was not judged.
    """
    for stage in stages:
        if stage.status is Status.PASS:
            continue
        if stage.status is not Status.FAIL or stage.message.startswith(SEEN):
            yield stage
        elif stage.name in known or observations is None:
            yield replace(stage, hint="") if stage.name in known else stage
        elif not _is_refuted(stage.name, records, observations.failures.get((stage.name, 1), ())):
            yield stage


def _is_refuted(function: str, records: Sequence[Record], failures: Sequence[Failure]) -> bool:
    """Return whether so much of a function is right that its setup is."""
    bad = {one.case for one in records if one.function == function and one.status is Status.FAIL}
    own = (one for one in records if one.function == function and is_about_values([one.rule]))
    passed = {one.case for one in own if one.status is Status.PASS} - bad
    if len(passed) > len(bad):
        return True
    right = every = 0
    for failure in failures if function in SIZES else ():
        wrong = differing(function, failure.outputs, failure.expected)
        count = sum(len(data) for data in failure.expected) // SIZES[function]
        right += sum(number not in wrong for number in range(1, count))
        every += max(count - 1, 0)
    return right > RIGHT * every
