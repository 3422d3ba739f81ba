"""What a kernel does with one block: its codes, its scales, their product, and what is made of the two.

Some two hundred calls of one block (beside blocks of zeros) at chosen values: every pair of places, the edges
of int8, sums that need 16 bits and more, halves of every kind, products that a half cannot hold. The step
that gives each of the values is the measured one.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from q8a8_conformance.diagnosis.dots import candidates
from q8a8_conformance.diagnosis.dots.bench import changes_of
from q8a8_conformance.diagnosis.dots.block_calls import Experiments
from q8a8_conformance.diagnosis.dots.maps import map_of
from q8a8_conformance.diagnosis.dots.model import Model, Signs, matches
from q8a8_conformance.diagnosis.dots.other_rows import other_rows
from q8a8_conformance.diagnosis.dots.stages import beginning_with, over, staged
from q8a8_conformance.results.record import count

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from q8a8_conformance.diagnosis.dots.bench import Bench, Measured
    from q8a8_conformance.diagnosis.dots.candidates import Candidate
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.results.observations import CallResult

FIX = "Pair element j of x with element j of y, and add all 32 products."

SOME = 40
"""Wrong calls, of which one of two mistakes must give some."""


def arithmetic(bench: Bench, found: Sequence[Measured], placed: list[Measured]) -> Iterator[Measured]:
    """Find the steps of one block that differ from the specification's, on top of what was found.

    Those that do not in other blocks are added to `placed`: they are a matter of places.
    """
    base = changes_of(found)
    done, wrong, parts = block_steps(bench, base)
    for part in parts:
        if _is_placed(done, base, parts, part):
            placed.append(_as_fact(bench, part, wrong, base, only=True))
        else:
            yield _as_fact(bench, part, wrong, base, only=False)


def block_steps(
    bench: Bench, base: dict[str, Any]
) -> tuple[Experiments, list[CallResult], tuple[Candidate, ...]]:
    """Find the steps of the block at the bench's place that differ from a model's.

    Returns
    -------
    The experiments that were made, those that are wrong, and the steps that explain them, or some of them.
    """
    done = Experiments(bench)
    done.make()
    wrong = done.wrong(Model(**base))
    if not wrong:
        return done, wrong, ()
    if bench.of_result is not None and (crossed := other_rows(bench.of_result)):
        return done, wrong, (crossed,)
    steps = (
        *candidates.scale_products(),
        *candidates.readings(),
        *candidates.integers(),
        *candidates.terms(),
        *candidates.results(),
        *candidates.factors(bench.factor * bench.value(bench.one(), bench.one())),
    )
    steps = tuple(over(base, one) for one in steps)
    order = beginning_with(wrong, done.made)
    single = (one for one in steps if _gives_all(Model(**{**base, **one.changes}), order))
    parts = tuple(itertools.islice(single, 1)) or staged(done, base)
    if bench.factor != 1 and not _gives_all(_with(base, parts), order):
        # (Not all products need be so many times as large: some may be counted so often, and others not.)
        factor, bench.factor = bench.factor, 1.0
        whole = staged(done, base)
        bench.factor = factor
        parts = whole if _gives_all(_with(base, whole), order) else parts
    if not parts or not _gives_all(_with(base, parts), order):
        parts = _two_of(bench, base, order, steps, len(wrong)) or parts
    return done, wrong, parts


SIGNS = {
    frozenset({(False, True), (True, True)}): "y's scale is negative",
    frozenset({(True, False), (True, True)}): "x's scale is negative",
    frozenset({(False, True), (True, False)}): "one of both scales is negative",
    frozenset({(True, True)}): "both scales are negative",
    frozenset({(False, True)}): "y's scale alone is negative",
    frozenset({(True, False)}): "x's scale alone is negative",
    frozenset({(False, True), (True, False), (True, True)}): "a scale is negative",
}
"""Which scales are negative, of x and of y, in words."""

OF_CODES = {"products", "block_sum", "correction"}
"""Steps that scales should have no influence on."""


def of_signs(bench: Bench, found: Sequence[Measured]) -> Iterator[Measured]:
    """Find steps of codes that are otherwise under negative scales: all experiments are made under these."""
    base, before = changes_of(found), (bench.encoders, bench.factor)
    seen: dict[str, tuple[list[tuple[bool, bool]], list[CallResult], list[Candidate]]] = {}
    for signs in sorted({pair for of in SIGNS for pair in of}):
        negative = [side for side, is_so in zip("xy", signs, strict=True) if is_so]
        bench.encoders = {**before[0], **dict.fromkeys(negative, _negated)}
        bench.factor = before[1] * (-1) ** len(negative)
        try:
            _, wrong, parts = block_steps(bench, base)
            own = [part for part in parts if part.changes.keys() <= OF_CODES]
            if own and _gives_all(_with(base, own), wrong):
                words = "; ".join(part.sentence for part in own)
                seen.setdefault(words, ([], wrong, own))[0].append(signs)
        finally:
            bench.encoders, bench.factor = before
    for every, wrong, own in seen.values():
        where = Signs(frozenset(every))
        for part in own:
            one = _as_fact(bench, part, wrong, base, only=False)
            yield replace(
                one,
                where={**one.where, "signs": SIGNS[where.of]},
                sentence=f"Where {SIGNS[where.of]}: {part.sentence[0].lower()}{part.sentence[1:]}",
                cause="",
                changes={"local": ((where, part.changes),)},
            )


def _negated(rows: Array) -> Array:
    made = rows.copy()
    made["weight_scale"] = -rows["weight_scale"]
    return made


def _with(base: dict[str, Any], parts: Iterable[Candidate]) -> Model:
    """Return a model with some steps."""
    return Model(**{**base, **{key: step for one in parts for key, step in one.changes.items()}})


OTHER_PLACES = ((1, 0), (2, 0), (2, 1), (3, 0), (3, 2), (4, 0), (4, 3), (5, 4), (8, 0), (8, 5))
"""Blocks of a row, and one of them, at which a wrong call is made again."""


def _is_placed(done: Experiments, base: dict[str, Any], parts: Sequence[Candidate], part: Candidate) -> bool:
    """Return whether some blocks are not as a model with all steps has them, and are without one of them."""
    bench, rest = done.bench, [one for one in parts if one is not part]
    every, without = _with(base, parts), _with(base, rest)
    needed = (one for one in list(done.made) if matches(every, one) and not matches(without, one))
    given = [done.given[id(one)] for one in itertools.islice(needed, 2)]
    here = bench.length, bench.place
    try:
        n = bench.length
        short = n <= OTHER_PLACES[-1][0]
        for bench.length, bench.place in OTHER_PLACES if short else [(n, i) for i in (0, 1, n // 2, n - 1)]:
            for args in given:
                done.block(*args)
                if not matches(every, done.made[-1]) and matches(without, done.made[-1]):
                    return True
    finally:
        bench.length, bench.place = here
    return False


def _two_of(
    bench: Bench, base: dict[str, Any], made: Sequence[CallResult], steps: Sequence[Candidate], wrong: int
) -> tuple[Candidate, ...]:
    """Return the two steps with which a model gives all values, of which the first ones are wrong."""
    # Of two mistakes each gives some value that is wrong without it.
    some = made[: wrong : 1 + wrong // SOME]
    steps = [one for one in steps if any(matches(Model(**{**base, **one.changes}), call) for call in some)]
    for one, other in itertools.combinations(steps, 2):
        bench.check_time()
        if not one.changes.keys() & other.changes.keys() and _gives_all(
            Model(**{**base, **one.changes, **other.changes}), made
        ):
            return one, other
    return ()


def _gives_all(model: Model, made: Sequence[CallResult]) -> bool:
    return all(matches(model, one) for one in made)


def _as_fact(
    bench: Bench, part: Candidate, wrong: Sequence[CallResult], base: dict[str, Any], only: bool
) -> Measured:
    """Return a candidate as a fact, with the first calls whose values need it."""
    where = {**part.where, **map_of(part)}
    sentence = part.sentence
    if only:
        where |= {"in_rows_of": bench.length, "block": bench.place}
        sentence = f"In block {bench.place} of {count(bench.length, 'block')}, not everywhere: {sentence}"
    own = [one for one in wrong if matches(Model(**{**base, **part.changes}), one)] or list(wrong)
    text = "one block" if bench.length == 1 else f"nb = {bench.length}"
    evidence = [bench.evidence(one.call, text) for one in own[:2]]
    return bench.measured(
        part.fact, where, sentence, cause=part.cause, rule=part.rule, fix=part.fix,
        evidence=evidence, changes=part.changes,
    )  # fmt: skip
