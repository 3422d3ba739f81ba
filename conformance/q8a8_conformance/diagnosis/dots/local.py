"""Blocks at some places of a row that are treated otherwise than the rest: which ones, and how.

One block after the other of rows of many lengths is tried by itself: at random codes, at the edges of int8
and of halves, beside blocks of zeros. Where some are wrong, their places make a rule (`reveal.places`), and
the steps of the first of them are measured as those of any block are (`arithmetic`). Of elements that are
lost there it is asked whether they meet those of another block. What was found must also hold beside blocks
whose codes meet zeros.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.diagnosis.dots.arithmetic import block_steps
from q8a8_conformance.diagnosis.dots.bench import changes_of
from q8a8_conformance.diagnosis.dots.beyond_block import (
    codes_elsewhere,
    correction_of_others,
    given_to_others,
    scales_of_others,
)
from q8a8_conformance.diagnosis.dots.model import Model, joined, matches, merged
from q8a8_conformance.diagnosis.dots.right_steps import SIZES
from q8a8_conformance.inputs import dot_rows
from q8a8_conformance.reveal.asking import NoAnswerError
from q8a8_conformance.reveal.places import Seen, find_rule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from q8a8_conformance.diagnosis.dots.bench import Bench, Measured
    from q8a8_conformance.diagnosis.dots.candidates import Candidate
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.results.observations import CallResult

LENGTHS = (*range(1, 11), 16, 17, 18, 33)
"""Blocks of the rows whose blocks are tried."""

SHORT = (1, 2, 3, 4, 8)
"""Where every block of these is wrong, nothing is a matter of places."""

LONGEST = 130
"""Blocks of the longest row that is asked for."""

BESIDE = 10
"""Blocks of the rows in which other blocks have codes, too."""

MOST_CALLS = 6000
"""Calls after which no further rows are asked for."""

KINDS = 4
"""Blocks of which the steps are measured."""

SCALES = ((1.0, 1.0), (2047.0, 2047.0), (3 * 2.0**-24, 2.0**-8), (-1.5, -2.5), (-1.5, 2.5))
"""Scales of a block with one product."""


def local(bench: Bench, found: Sequence[Measured], lengths: Sequence[int]) -> Iterator[Measured]:
    """Find blocks at some places that are treated otherwise, on top of what was found.

    `lengths` are further numbers of blocks to look at, of failed calls.
    """
    base = changes_of(found)
    survey = _Survey(bench, Model(**base))
    least = min(lengths, default=0)
    of_length = (least,) if LENGTHS[-1] < least <= LONGEST else ()
    if any(of and all(survey.wrong(nb).all() for nb in of) for of in (SHORT, of_length)):
        return
    tried = sorted({*LENGTHS, *(n for n in lengths if n <= LONGEST)} - {0})
    places = [(nb, int(block)) for nb in tried for block in np.flatnonzero(survey.wrong(nb))]
    measured: dict[str, tuple[Candidate, ...]] = {}
    for nb, block in _first_of_each(places):
        if any(survey.given(nb, _steps_of(parts))[block] for parts in measured.values()):
            continue
        parts = _measured_at(bench, base, nb, block)
        measured.setdefault("; ".join(part.sentence for part in parts), parts)
    measured.pop("", None)
    for parts in measured.values():
        steps = _steps_of(parts)
        # Where there is one kind of places, all that is wrong is of it; else what these steps give.
        alone = len(measured) == 1

        shift = steps["given"][0] if "given" in steps else 0
        places_of = survey.wrong if alone else partial(survey.given, steps=steps)
        places_of = partial(_moved, places_of, shift)
        # (What is taken from a block beyond the row may be anything: a rule that holds there, too, is next.)
        for known in (_every, partial(_known, steps, SIZES[bench.version])):
            seen = Seen({nb: places_of(nb) & known(nb) for nb in tried}, {nb: known(nb) for nb in tried})
            rule = find_rule(seen, partial(_asked, places_of, known), LONGEST)
            if rule is None or all(where.all() for where in seen.rows.values()):
                continue
            holds = partial(_moved, partial(_both, rule.holds, known), -shift)
            model = Model(**joined([base, {"local": ((holds, steps),)}]))
            if survey.confirms(model, holds, tried, known, beside=alone):
                break
        else:
            continue
        first = next(nb for nb in tried if seen.rows[nb].any())
        text = rule.text("block", "nb")
        if beyond := [int(np.argmax(held)) for nb in tried if (held := rule.holds(nb) & ~known(nb)).any()]:
            text = f"{text} that is not at the {'end' if max(beyond) else 'start'}"
        for part in parts:
            yield bench.measured(
                part.fact,
                {**part.where, "blocks": rule.to_json()},
                f"In {text}: {part.sentence[0].lower()}{part.sentence[1:]}",
                cause=part.cause,
                rule=part.rule,
                fix=part.fix,
                evidence=[bench.evidence(survey.first_wrong(first), f"nb = {first}")],
                changes={"local": ((holds, part.changes),)},
            )
        return


def _steps_of(parts: Sequence[Candidate]) -> dict[str, Any]:
    return {key: step for part in parts for key, step in part.changes.items()}


def _moved(places_of: Callable[[int], Array], shift: int, nb: int) -> Array:
    """Return places so many blocks further on: those that are given something by others."""
    places = np.asarray(places_of(nb))
    moved = np.zeros_like(places)
    moved[max(shift, 0) : nb + min(shift, 0)] = places[max(-shift, 0) : nb - max(shift, 0)]
    return moved


def _asked(places_of: Callable[[int], Array], known: Callable[[int], Array], nb: int) -> tuple[Array, Array]:
    return places_of(nb) & known(nb), known(nb)


def _every(nb: int) -> Array:
    return np.ones(nb, np.bool_)


def _both(one: Callable[[int], Array], other: Callable[[int], Array], nb: int) -> Array:
    return one(nb) & other(nb)


def _known(steps: Mapping[str, Any], size: int, nb: int) -> Array:
    """Return for which blocks of a row all blocks of which something is taken are in it: bool [nb]."""
    shifts = {shift for _, *of in steps.get("scaled", ()) for shift in of}
    shifts |= {shift for _, _, shift in steps.get("taken", ())}
    for _, elements, far in steps.get("lanes", ()):
        shifts |= {(size - 32 + j + by) // size for j, by in zip(elements, far, strict=True)}
    blocks = np.arange(nb)
    inside = [(blocks + shift >= 0) & (blocks + shift < nb) for shift in (0, *shifts)]
    return np.asarray(np.all(inside, axis=0))


def _first_of_each(places: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Choose blocks of rows that may be wrong for other reasons: the first, the last, odd ones."""
    kinds: dict[object, tuple[int, int]] = {}
    for nb, block in places:
        kinds.setdefault((block == 0, block == nb - 1, block % 2), (nb, block))
    return list(kinds.values())[:KINDS]


class _Survey:
    """Calls in which one block has codes that count.

    Parameters
    ----------
    bench
        Makes the calls.
    model
        What is known of the function so far.
    """

    def __init__(self, bench: Bench, model: Model) -> None:
        self._bench = bench
        self._model = model
        self._before = bench.made
        self._made: dict[int, list[tuple[int, CallResult]]] = {}

    def wrong(self, nb: int) -> Array:
        """Return which blocks of a row of nb are not what the model gives: bool [nb]."""
        found = np.zeros(nb, np.bool_)
        for block, one in self._calls(nb):
            found[block] |= not matches(self._model, one)
        return found

    def given(self, nb: int, steps: dict[str, Any]) -> Array:
        """Return which wrong blocks of a row are what the model gives with some steps: bool [nb]."""
        model, found = merged(self._model, [steps]), self.wrong(nb)
        for block, one in self._calls(nb):
            found[block] = found[block] and matches(model, one)
        return found

    def first_wrong(self, nb: int) -> Call:
        """Return the first call of a row of nb that is wrong."""
        return next(one.call for _, one in self._calls(nb) if not matches(self._model, one))

    def confirms(
        self,
        model: Model,
        holds: Callable[[int], Array],
        lengths: Sequence[int],
        known: Callable[[int], Array],
        *,
        beside: bool,
    ) -> bool:
        """Return whether a model gives every call on blocks of a rule, and calls beside other codes."""
        others = (
            self._bench.answer(self._bench.call(*rows))
            for nb in lengths
            if nb < BESIDE and beside
            for block in np.flatnonzero(known(nb)).tolist()
            for rows in _rows_beside(nb, block)
        )
        own = (
            one
            for nb in lengths
            for block, one in self._calls(nb)
            if known(nb)[block] and (beside or holds(nb)[block])
        )
        return all(matches(model, one) for calls in (own, others) for one in calls)

    def _calls(self, nb: int) -> list[tuple[int, CallResult]]:
        if nb not in self._made:
            if self._bench.made - self._before > MOST_CALLS:
                raise NoAnswerError
            self._made[nb] = [
                (block, self._bench.answer(self._bench.call(*rows)))
                for block in range(nb)
                for rows in _rows(nb, block)
            ]
        return self._made[nb]


def _rows_beside(nb: int, block: int) -> Iterator[tuple[Array, Array]]:
    """Yield rows of which one block counts; beside it codes of one row meet zeros of the other."""
    rng = dot_rows.generator(f"beside {nb} {block}")
    for side in (0, 1):
        codes = np.zeros((2, nb, 32), np.int64)
        codes[side] = rng.integers(-128, 128, (nb, 32))
        codes[:, block] = rng.integers(-128, 128, (2, 32))
        of_x, of_y = rng.choice([1.0, 2.0], (2, nb))
        yield dot_rows.blocks(of_x, codes[0]), dot_rows.blocks(of_y, codes[1])


def _rows(nb: int, block: int) -> Iterator[tuple[Array, Array]]:
    """Yield rows of which one block counts, beside blocks of zeros."""
    rng = dot_rows.generator(f"local {nb} {block}")
    here = np.arange(nb) == block
    # (Of one, a code may be right by chance, or for its sign; some of its sums may take another's scale.)
    for sign, dx, dy in ((1, 2.0, 1.0), (-1, 1.0, 4.0)):
        codes = np.zeros((2, nb, 32), np.int64)
        codes[:, block] = rng.integers(-127, 128, (2, 32))
        codes[0] *= sign * (-1 if (codes[0] * codes[1]).sum() < 0 else 1)
        of_x, of_y = (np.where(here, d, 1.0) for d in (dx, dy))
        yield dot_rows.blocks(of_x, codes[0]), dot_rows.blocks(of_y, codes[1])
    edge = np.zeros((nb, 32), np.int64)
    edge[block] = -128
    yield dot_rows.blocks(1.0, edge), dot_rows.blocks(1.0, edge)
    one = np.zeros((nb, 32), np.int64)
    one[block, rng.integers(32)] = 1
    for dx, dy in SCALES[1:]:
        of_x, of_y = (np.where(here, d, 1.0) for d in (dx, dy))
        yield dot_rows.blocks(of_x, one), dot_rows.blocks(of_y, one)


def _measured_at(bench: Bench, base: dict[str, Any], nb: int, block: int) -> tuple[Candidate, ...]:
    """Return the steps of one block of a row that differ from a model's."""
    before = bench.length, bench.place, bench.element, bench.factor
    bench.length, bench.place, bench.factor = nb, block, 1.0
    try:
        for bench.element in (*range(32), before[2]):
            if bench.value(bench.one(3), bench.one(3)) == 9:
                break
        for of_others in (scales_of_others, correction_of_others, given_to_others):
            if others := of_others(bench):
                return (others,)
        _, _, parts = block_steps(bench, base)
        # (What is read beyond a block may look lost, or like a constant.)
        is_beyond = bench.of_result is None and any(_is_beyond(part) for part in parts)
        elsewhere = codes_elsewhere(bench) if is_beyond else None
        return (elsewhere,) if elsewhere else parts
    finally:
        bench.length, bench.place, bench.element, bench.factor = before


def _is_beyond(part: Candidate) -> bool:
    """Return whether bytes of other blocks may be the cause of a step."""
    if part.fact in ("block-map", "correction-wrong"):
        return not part.where.get("twice")
    ones, step = np.ones((1, 32), np.int8), part.changes.get("products")
    return step is not None and not np.array_equal(np.asarray(step(ones, ones)), ones)
