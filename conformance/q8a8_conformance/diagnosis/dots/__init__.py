"""Experiments on a wrong dot product: exact calls that show where it departs, whatever order it adds in.

Most rows here are exact by construction: every order gives the same bits, so that none need be known.
Each experiment changes one thing: the place of a code, the value of a scale, the number of blocks, what ``s``
held. What it finds is a `Fact`, and a step of a `Model`; a model with the steps that were found predicts the
failed calls, and so decides which of them a fact explains.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from q8a8_conformance.diagnosis import shrink
from q8a8_conformance.diagnosis.dots import (
    added_terms,
    arithmetic,
    block_values,
    conditions,
    entries,
    fields,
    fixed_point,
    four_results,
    halves,
    history,
    layouts,
    local,
    outputs,
    packed,
    precision,
    read_at,
    relative_reads,
    row_facts,
    row_values,
    scale_keys,
    skips,
    two_rows,
    wraps,
)
from q8a8_conformance.diagnosis.dots.bench import Bench, Measured, model_of, twin
from q8a8_conformance.diagnosis.dots.model import Model, Predictions, matches
from q8a8_conformance.diagnosis.dots.placed import ENVIRONMENT, of_condition, placed_facts
from q8a8_conformance.diagnosis.dots.together import Together, all_explained, needed
from q8a8_conformance.protocol.deadline import Deadline
from q8a8_conformance.results.record import count
from q8a8_conformance.reveal.asking import NoAnswerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from q8a8_conformance.diagnosis.dots.bench import Apart, OneResult, Probe
    from q8a8_conformance.diagnosis.dots.conditions import Condition
    from q8a8_conformance.diagnosis.facts import Fact
    from q8a8_conformance.results.observations import CallResult, Failure

    Experiment = Callable[[], Iterable[Measured]]

Said = TypeVar("Said", bound="Fact")

SECONDS, LONGEST = 10.0, 256
"""Time limit of all experiments on one function, and blocks of the longest row of those about one block."""


def dot_facts(
    function: str,
    failures: Mapping[int, Sequence[Failure]],
    probe: Probe,
    seconds: float = SECONDS,
    *,
    placed: Mapping[int, Sequence[Failure]] = MappingProxyType({}),
    restart: Callable[[], object] | None = None,
    right: Predictions | None = None,
) -> list[Fact]:
    """Find what a dot product does wrong.

    Parameters
    ----------
    function, failures
        One of the dot products, and its failed calls by rows at a time.
    probe
        Makes a call: its output buffers, or None where it did not return.
    seconds
        Time limit, on an idle machine.
    placed
        Calls that failed for where or how they were made: right elsewhere.
    restart
        Ends the kernel's process: the next call is the first one of a new one.
    right
        What a right kernel gives, where some of it is worked out already.
    """
    deadline = Deadline(seconds)
    right = right or Predictions(Model())
    facts: list[Fact] = []
    found: list[Measured] = []
    every = [one for _, failed in sorted(failures.items()) for one in failed]
    wrong = [one for one in every if not right.match(one)]
    elsewhere = [one for failed in placed.values() for one in failed]
    kept: Measured | None = None
    if wrong or elsewhere:
        with suppress(NoAnswerError):
            bench = Bench(function, 1, probe, deadline)
            kept = scale_keys.scales_kept(bench, wrong) or relative_reads.relative_reads(bench)
            # (What has no key may have another reason that is found.)
            has_key = kept is not None and kept.where.get("kept_under") != ""
            if kept and has_key and 2 * len(kept.explained([*wrong, *elsewhere])) > len([*wrong, *elsewhere]):
                return [kept]
    if before := history.of_history(wrong, probe, restart):
        facts.append(of_condition(function, before))
        wrong = [one for one in wrong if not facts[0].explains(one)]
    for nrc in (1, 2):
        failed = [one for one in wrong if one.call.nrc == nrc]
        if failed and not all_explained(found, failed):
            bench = Bench(function, nrc, probe, deadline)
            # (What one row at a time has not shown four results will not show.)
            bench.looks_alone = bool(found) or len(failed) == len(wrong)
            found = [*found, *_look_at_lengths(bench, found, failed)]
    if kept and not facts and not found:
        return [kept]
    found = found if _hides(found) else needed(found, wrong)
    together = Together(found, right)
    left = [one for one in wrong if not together.is_explained(one)]
    if not before and found and left and (before := history.of_history(left, probe, restart)):
        # (The shortest failed calls were wrong for another reason.)
        facts.append(of_condition(function, before))
    by_address = any("address" in one.where for one in found)
    aligned = conditions.of_alignment(wrong, probe) if found and not by_address else None
    facts += [
        replace(where_aligned(one, aligned) if aligned else one, explains=together.explains(one))
        for one in found
    ]
    look = partial(_look_under, function, deadline)
    facts += placed_facts(function, elsewhere, probe, restart, look, wrong)
    every += elsewhere
    counted = [(len(fact.explained(every)), fact) for fact in facts]
    hides = _hides(found)
    # (Beside much that stays unexplained, what explains next to nothing fits by chance.)
    unknown = sum(not any(fact.explains(one) for fact in facts) for one in every)
    least = CHANCE / 5 * len(every) if 2 * unknown > len(every) else 0
    facts = [f for number, f in sorted(counted, key=lambda pair: -pair[0]) if number > least or hides]
    if len(facts) == 1:
        # (Of several mistakes, what one leaves unexplained may be another's.)
        facts = [_in_lengths(fact, every) for fact in facts]
    legal = [one for failed in failures.values() for one in failed if right.match(one)]
    if not facts and (varying := history.of_bits(legal, probe, restart)):
        facts = [of_condition(function, varying)]
    return facts


def kept_facts(
    function: str, failed: Sequence[Failure], probe: Probe, restart: Callable[[], object] | None
) -> list[Fact]:
    """Find results of another function that depend on calls before: a fact where most failed calls do."""
    before = history.of_history(failed, probe, restart)
    return [of_condition(function, before)] if before and 2 * len(before.members) > len(failed) else []


SINGLE = ("half-read", "product-wrong")
"""Facts about single values."""

SCALED = {"widen_x", "widen_y", "scale_product"}
"""Steps of scales."""

MISTAKES, FEW = 2, 3
"""Kinds of places that are looked for, and failed lengths whose blocks are tried besides the usual ones."""

CHANCE = 0.05
"""The part of the failed calls that single values must explain to be what is wrong."""


def where_aligned(one: Said, condition: Condition) -> Said:
    """Return what holds at some addresses alone."""
    where = {**one.where, "under": condition.where}
    return replace(one, where=where, sentence=f"Where {condition.words}: {one.sentence}", rule=ENVIRONMENT)


def _in_lengths(fact: Fact, every: Sequence[Failure]) -> Fact:
    """Return a fact with the lengths that it is seen in, where longer rows are wrong otherwise."""
    mine = [one for one in every if one.call.nrc == fact.nrc]
    explained = fact.explained(mine)
    own = {one.call.n // 32 for one in explained}
    others = {one.call.n // 32 for one in mine} - own
    # (A few calls that are long and otherwise wrong may be so for their values.)
    is_few = len(mine) - len(explained) < CHANCE * len(mine)
    if is_few or not own or not others or max(own) >= min(others) or "in_rows_of" in fact.where:
        return fact
    words = f"In rows of {count(max(own), 'block')}{' or less' * (max(own) > 1)}"
    where = {**fact.where, "in_rows_up_to": max(own)}
    return replace(fact, where=where, sentence=f"{words}: {fact.sentence}")


def _look_under(
    function: str, deadline: Deadline, probe: Probe, members: Sequence[Failure]
) -> Sequence[Measured]:
    """Make the experiments with a probe that puts calls under a condition which some failed calls meet."""
    first = min(members, key=lambda one: (one.call.nrc, one.call.n)).call
    found = _look_at_lengths(Bench(function, first.nrc, probe, deadline), [], members)
    together = Together(found)
    return [replace(one, explains=together.explains(one)) for one in found]


def _look_at_lengths(bench: Bench, base: Sequence[Measured], failed: Sequence[CallResult]) -> list[Measured]:
    """Make the experiments on short rows; where these are right, on rows of the shortest failed length."""
    shortest = _shortest(failed)
    if bench.nrc == 2:
        with suppress(NoAnswerError):  # (Time may be up: what one row at a time has shown stays known.)
            bench.apart = two_rows.rows_apart(bench, min(failed, key=lambda one: one.call.n))
    found = _look(bench, base, failed)
    if bench.apart is not None and not found:
        return list(_look_apart(bench, bench.apart, base, failed))
    if found or not bench.lengths[-1] < shortest <= LONGEST:
        return found
    with suppress(NoAnswerError):
        shortest, is_least = _shorter(bench, failed)
        bench.lengths, bench.surveys = (shortest,), False
        return _of_long_rows(bench, base, failed, is_least)
    return found


def _shorter(bench: Bench, failed: Sequence[CallResult]) -> tuple[int, bool]:
    """Return how many first blocks of the shortest failed row still fail, and whether some more do, too."""
    call = min((one.call for one in failed), key=lambda call: call.n)
    inputs, nb = shrink.Inputs.of(call), call.n // 32

    def fails(length: int) -> bool:
        other = inputs.keep([min(block, nb - 1) for block in range(length)]).call()
        return shrink.wrong(other, bench.outputs(other))

    least = shrink.shortest(nb, fails)
    return least, all(fails(least + more) for more in range(4)) and not any(
        map(fails, range(least - 3, least))
    )


def _of_long_rows(
    bench: Bench, base: Sequence[Measured], failed: Sequence[CallResult], is_least: bool
) -> list[Measured]:
    """Make the experiments on rows of the one length that the bench has, where shorter ones are right."""
    shortest = bench.lengths[-1]
    words = f"In rows of {count(shortest, 'block')}{' or more' * is_least}"
    where = {"in_rows_from" if is_least else "in_rows_of": shortest}
    return [
        replace(one, where={**one.where, **where}, sentence=f"{words}: {one.sentence}")
        for one in _look(bench, base, failed)
    ]


def _look_apart(
    bench: Bench, apart: Apart, base: Sequence[Measured], failed: Sequence[CallResult]
) -> Iterator[Measured]:
    """Make the experiments on rows so far apart that calls are wrong, which are right elsewhere."""
    bench.gaps, bench.apart = apart.gaps, None
    found = _look(bench, base, [one for one in failed if apart.has(one.call)])
    model = model_of([*base, *found])
    for one in found:
        rest = one.sentence.removeprefix("With nrc = 2")
        yield replace(
            one,
            where={**one.where, "rows": apart.words},
            sentence=f"With nrc = 2, where {apart.words}{',' * rest.startswith(' ')}{rest}",
            cause="",
            changes={},
            when=lambda result: apart.has(result.call) and matches(model, result),
        )


def _shortest(failed: Sequence[CallResult]) -> int:
    return min(one.call.n for one in failed) // 32


def _look(bench: Bench, base: Sequence[Measured], failed: Sequence[CallResult]) -> list[Measured]:
    """Make the experiments, the simplest first, until the failed calls are explained."""
    found: list[Measured] = []
    steps = {step for one in base for step in one.changes}
    judged = -1
    for experiment in _experiments(bench, base, found, failed):
        try:
            # (A step that one row at a time has shown to be wrong is not looked into again.)
            found += [one for one in experiment() if not steps & one.changes.keys()]
        except (NoAnswerError, ArithmeticError, ValueError):
            # No answer, or values that are in no order: nothing is known from this experiment.
            continue
        if len(found) == judged:
            continue
        judged = len(found)
        if not _hides([*base, *found]) and all_explained([*base, *found], failed):
            break
    if found and all(one.fact in SINGLE for one in found):
        # Single values that explain few of the calls are wrong for another reason, which is not known.
        explained = sum(map(Together([*base, *found]).is_explained, failed))
        return found if explained > CHANCE * len(failed) else []
    return found


def _hides(found: Sequence[Measured]) -> bool:
    """Return whether results hide what else is wrong: what is added to what s held may be no number."""
    return any({"store", "added"} & one.changes.keys() for one in found)


def _experiments(
    bench: Bench, base: Sequence[Measured], found: list[Measured], failed: Sequence[CallResult]
) -> Iterator[Experiment]:
    """Yield the experiments in their order; each sees what the ones before it have found."""
    prepared = _prepare(bench)
    if bench.nrc == 1:
        yield lambda: outputs.single(bench)
        yield lambda: outputs.ignored(bench)
        yield lambda: added_terms.added_terms(bench)
    if not any("rest" in one.changes for one in found):
        yield lambda: fields.fields(bench)
    yield lambda: layouts.layouts(bench)
    bench.encoders = layouts.encoders_of(bench.version, [*base, *found])
    if bench.nrc == 1 and not bench.encoders:
        yield lambda: skips.skipped(bench)
        if any(one.where.get("by") == "codes" for one in found):
            return  # (What blocks show depends on what else they hold.)
    # (What 1 by 1 gives is another number where scales are written otherwise.)
    prepared = (not (found or bench.encoders) and prepared) or _prepare(bench)
    if bench.nrc == 2:
        yield from _of_two(bench, base, found, failed, is_prepared=prepared)
        return
    if prepared:
        yield lambda: fixed_point.fixed_points(bench)
        if not any(one.where.get("format") == "fixed-point" for one in found):
            yield lambda: precision.offset(bench)
        if not any("format" in one.where or one.fact == "codes-offset" for one in found):
            yield lambda: precision.accumulator(bench)
            if not any("bits" in one.changes for one in found):
                yield lambda: precision.chunk_sums(bench, failed)
        yield lambda: read_at.read_elsewhere(bench)
        yield lambda: wraps.wraps(bench, failed)
        yield lambda: row_facts.miscounted(bench, failed)
        yield lambda: block_values.of_values(bench, [*base, *found])
    yield from _of_blocks(bench, base, found, failed, is_prepared=prepared)


def _of_two(
    bench: Bench,
    base: Sequence[Measured],
    found: list[Measured],
    failed: Sequence[CallResult],
    *,
    is_prepared: bool,
) -> Iterator[Experiment]:
    """Yield the experiments on four results, with two rows at a time."""
    yield lambda: outputs.pairs(bench)
    bench.places = model_of(found).places
    if not any("sums" in one.changes for one in found):
        yield lambda: two_rows.strides(bench)
    is_elsewhere = any(one.fact == "results-at" and "bs" in one.where for one in found)
    if (bench.apart is not None and not found) or is_elsewhere:
        return
    if not any("sums" in one.changes for one in found):
        yield lambda: four_results.rows_met(bench, failed)
    if not found and is_prepared:
        yield lambda: packed.packed_sums(bench, model_of(base), failed)
        yield lambda: row_values.of_other_rows(bench)
    if not bench.looks_alone:
        return
    look = partial(_look_alone, bench, base)
    yield lambda: four_results.each_alone(bench, model_of([*base, *found]), failed, look)


def _of_blocks(
    bench: Bench,
    base: Sequence[Measured],
    found: list[Measured],
    failed: Sequence[CallResult],
    *,
    is_prepared: bool,
) -> Iterator[Experiment]:
    """Yield the experiments on the steps of blocks, and on single values."""
    lengths = sorted({one.call.n // 32 for one in failed})[:FEW]
    placed: list[Measured] = []
    yield lambda: arithmetic.arithmetic(bench, [*base, *found], placed)
    # (Steps of one block that are not those of every block are a matter of places.)
    for _ in range(MISTAKES if is_prepared and bench.surveys else 0):
        known = len(found)
        yield lambda: local.local(bench, [*base, *found], lengths)
        if len(found) == known:
            break
    if not any("local" in one.changes for one in [*base, *found]):
        yield lambda: placed
    if is_prepared and bench.of_result is None and bench.lengths[-1] >= _shortest(failed):
        yield lambda: arithmetic.of_signs(bench, [*base, *found])
    if is_prepared and not any({"products", "bits"} & one.changes.keys() for one in [*base, *found]):
        yield lambda: precision.roundings(bench)
        # (Thousands of calls: once, in rows of one block or as short as the failed ones are.)
        shortest = _shortest(failed)
        is_last = bench.lengths[-1] >= shortest if shortest <= entries.LONGEST_ROW else 1 in bench.lengths
        if not found and is_last:
            yield lambda: entries.entries(bench, failed)
        elif found and not any(SCALED & one.changes.keys() for one in [*base, *found]):
            # (Beside what is wrong in rows, halves of a few exponents may be misread.)
            together = Together([*base, *found])
            yield lambda: halves.halves(bench, [one for one in failed if not together.is_explained(one)])


def _look_alone(
    bench: Bench, known: Sequence[Measured], one: OneResult, failed: Sequence[CallResult]
) -> list[Measured]:
    """Make the experiments on one of the four results."""
    alone = bench.alone(one)
    others = alone.measured("results-of-others", {}, rule="", changes={"others": one.others})
    return _look_at_lengths(alone, known if one.others is twin else [*known, others], failed)


def _prepare(bench: Bench) -> bool:
    """Return whether a place was found at which a block counts."""
    try:
        return bench.prepare()
    except NoAnswerError:
        return False
