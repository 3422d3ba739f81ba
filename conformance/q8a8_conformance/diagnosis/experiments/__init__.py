"""Experiments on a wrong dot product: exact calls that show where it departs, whatever order it adds in.

Most rows here are exact by construction: every order gives the same bits, so that none need be known.
Each experiment changes one thing: the place of a code, the value of a scale, the number of blocks, what ``s``
held. What it finds is a `Fact`, and a step of a `Model`; a model with the steps that were found predicts the
failed calls, and so decides which of them a fact explains.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from q8a8_conformance.diagnosis.experiments import (
    arithmetic,
    counting,
    entries,
    fields,
    outputs,
    precision,
    two_rows,
    wraps,
)
from q8a8_conformance.diagnosis.experiments.bench import Bench, Measured, NoAnswerError, model_of
from q8a8_conformance.diagnosis.experiments.model import matches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from q8a8_conformance.diagnosis.experiments.bench import Probe
    from q8a8_conformance.diagnosis.facts import Fact
    from q8a8_conformance.results.observations import CallResult

    Experiment = Callable[[], Iterable[Measured]]

SECONDS = 3.0
"""Time limit of all experiments on one function."""


def dot_facts(
    function: str, failures: Mapping[int, Sequence[CallResult]], probe: Probe, seconds: float = SECONDS
) -> list[Fact]:
    """Find what a dot product does wrong.

    Parameters
    ----------
    function
        One of the dot products.
    failures
        Its failed calls, by rows at a time.
    probe
        Makes a call: its output buffers, or None where it did not return.
    seconds
        Time limit.

    Returns
    -------
    list of Fact
        The facts, each with the failures that it explains (`Fact.explains`); empty where none was found.
    """
    found: list[Measured] = []
    for nrc, failed in sorted(failures.items()):
        if failed and not _all_explained(found, failed):
            bench = Bench(function, nrc, probe, seconds)
            found = [*found, *_look(bench, found, failed)]
    every = [one for failed in failures.values() for one in failed]
    facts = [replace(one.fact, explains=_explains(one, found)) for one in found]
    counted = [(len(fact.explained(every)), fact) for fact in facts]
    return [fact for number, fact in sorted(counted, key=lambda pair: -pair[0]) if number]


def _look(bench: Bench, base: Sequence[Measured], failed: Sequence[CallResult]) -> list[Measured]:
    """Make the experiments, the simplest first, until the failed calls are explained."""
    found: list[Measured] = []
    steps = {step for one in base for step in one.changes}
    for experiment in _experiments(bench, base, found, failed):
        try:
            # (A step that one row at a time has shown to be wrong is not looked into again.)
            found += [one for one in experiment() if not steps & one.changes.keys()]
        except (NoAnswerError, ArithmeticError, ValueError):
            # No answer, or values that are in no order: nothing is known from this experiment.
            continue
        if _all_explained([*base, *found], failed):
            break
    return found


def _experiments(
    bench: Bench, base: Sequence[Measured], found: list[Measured], failed: Sequence[CallResult]
) -> Iterator[Experiment]:
    """Yield the experiments in their order; each sees what the ones before it have found."""
    prepared = _prepare(bench)
    if bench.nrc == 1:
        yield lambda: outputs.single(bench)
        yield lambda: outputs.ignored(bench)
    yield lambda: fields.fields(bench)
    yield lambda: fields.layouts(bench)
    prepared = prepared or _prepare(bench)
    if bench.nrc == 2:
        yield lambda: outputs.pairs(bench)
        if min(one.call.n for one in failed) <= 32 * counting.EVERY:
            yield lambda: two_rows.strides(bench)
    if prepared:
        yield lambda: precision.accumulator(bench)
        yield lambda: wraps.wraps(bench, failed)
        yield lambda: counting.counted(bench, failed)
        yield lambda: fields.block_scales(bench)
        if not any("scale_of_x" in one.changes for one in [*base, *found]):
            yield lambda: fields.zero_scales(bench)
    yield lambda: arithmetic.arithmetic(bench, [*base, *found])
    if prepared and not any({"products", "bits"} & one.changes.keys() for one in [*base, *found]):
        yield lambda: precision.roundings(bench)
        if not found:
            yield lambda: entries.entries(bench, failed)


def _prepare(bench: Bench) -> bool:
    """Return whether a place was found at which a block counts."""
    try:
        return bench.prepare()
    except NoAnswerError:
        return False


def _all_explained(found: Sequence[Measured], failed: Sequence[CallResult]) -> bool:
    return bool(found) and all(_is_explained(found, one) for one in failed)


def _is_explained(found: Sequence[Measured], result: CallResult) -> bool:
    """Return whether a failed call's outputs are what the facts together give."""
    if any(one.when is not None and one.when(result) for one in found):
        return True
    return matches(model_of(found), result)


def _explains(one: Measured, found: Sequence[Measured]) -> Callable[[CallResult], bool]:
    """Return whether a failed call needs a fact: with it its outputs are right, not without."""

    def explains(result: CallResult) -> bool:
        if one.when is not None:
            return one.when(result) and not matches(model_of(found), result)
        return matches(model_of(found), result) and not matches(
            model_of([other for other in found if other is not one]), result
        )

    return explains
