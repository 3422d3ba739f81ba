"""The four results of two rows at a time: whose codes and scales each is made of, and what one does alone.

Each row's code and scale in one block are primes, so that a result names the rows whose code and scale it
has. What is left is looked for in each result as in a function of its own, asked with the same row twice, or
with other codes in the other rows where these have an influence.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.diagnosis.dots.bench import Bench, OneResult, mixed, with_s
from q8a8_conformance.diagnosis.dots.model import RESULTS, matches, merged
from q8a8_conformance.diagnosis.dots.other_rows import is_of_others, loud, named
from q8a8_conformance.inputs import calls
from q8a8_conformance.inputs.dot_rows import random_pair
from q8a8_conformance.results.observations import CallResult
from q8a8_conformance.reveal.places import find_rule, seen_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from q8a8_conformance.diagnosis.dots.bench import Measured
    from q8a8_conformance.diagnosis.dots.model import Model
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.reveal.places import Rule

    Probe = Callable[[Call], tuple[bytes, ...] | None]

CODES, SCALES = (3, 5, 7, 11), (13.0, 17.0, 19.0, 23.0)
"""Of x0, x1, y0 and y1: primes."""

LENGTHS = (*range(1, 11), 16, 17, 18, 33)
"""Blocks of the rows of which each block is looked at."""

LONGEST = 130
"""Blocks of the longest row that is looked at."""

MOST = 63
"""Blocks of a row up to which all blocks of two rows have codes of their own."""

EFFECTS = 6
"""Different things that may happen to blocks of a result: more are in no order."""

SEEN = (1, 2, 3, 5, 8, 9, 17)
"""Blocks of rows in which a fact about one result must show, to be one about another, too."""

FRUITLESS = 2
"""Results of which experiments show nothing, after which the others are not looked at."""

AGAIN = 12
"""Failed calls that are made again beside other rows."""


@dataclass(frozen=True)
class Met:
    """What a block of a row of y adds to a result.

    Attributes
    ----------
    x, y
        The rows of x and of y whose codes are multiplied.
    of_x, of_y
        Those whose scales are.
    times
        How often.
    shift
        How many blocks further on the block of x is.
    """

    x: int
    y: int
    of_x: int
    of_y: int
    times: int = 1
    shift: int = 0

    @property
    def key(self) -> tuple[Any, ...]:
        """Its values: the effect that `seen_of` looks for."""
        return self.x, self.y, self.of_x, self.of_y, self.times, self.shift

    def words(self, number: int, *, single: bool) -> str:
        """Say what a block, or some, of a result add."""
        x, y = number % 2, number // 2
        verb, take = ("is", "takes") if single else ("are", "take")
        if not self.times:
            return f"{verb} not counted"
        parts = []
        codes = [f"x{self.x}"] * (self.x != x) + [f"y{self.y}"] * (self.y != y)
        scales = [f"x{self.of_x}"] * (self.of_x != x) + [f"y{self.of_y}"] * (self.of_y != y)
        if self.shift:
            other = f"b {'-' if self.shift < 0 else '+'} {abs(self.shift)}"
            parts.append(f"{'meets' if single else 'meet'} block {other} of x{self.x}")
        elif codes:
            both = " and scale" * (codes == scales)
            parts.append(f"{take} the codes{both} of {' and '.join(codes)}")
        if scales and (self.shift or codes != scales):
            parts.append(f"{take} the scale{'s' * (len(scales) > 1)} of {' and '.join(scales)}")
        if self.times > 1:
            parts.append(f"{verb} counted {'twice' if self.times == 2 else f'{self.times} times'}")
        return " and ".join(parts)


def own(number: int) -> Met:
    """Return what is right for a result."""
    return Met(number % 2, number // 2, number % 2, number // 2)


def rows_met(bench: Bench, failed: Sequence[CallResult]) -> Iterator[Measured]:
    """Find blocks of the four results that are made of other rows' codes or scales, or of other blocks."""
    lengths = {*LENGTHS, *sorted(nb for nb in {one.call.n // 32 for one in failed} if 0 < nb <= LONGEST)[:3]}
    looked: dict[int, list[dict[tuple[Any, ...], Array]]] = {
        nb: _effects(bench, nb) for nb in sorted(lengths)
    }

    def asked(number: int, nb: int) -> dict[tuple[Any, ...], Array]:
        if nb not in looked:
            looked[nb] = _effects(bench, nb)
        return looked[nb][number]

    rules: dict[int, list[tuple[Met, Rule]]] = {}
    for number in range(4):
        kinds = list(dict.fromkeys(kind for of in looked.values() for kind in of[number]))
        if len(kinds) > EFFECTS or ("other",) in kinds:
            return
        for kind in kinds:
            of_number = {nb: of[number] for nb, of in looked.items()}
            seen, more = seen_of(kind, of_number, partial(asked, number))
            rule = find_rule(seen, more, LONGEST)
            if rule is None:
                return
            rules.setdefault(number, []).append((Met(*kind), rule))
    if not rules:
        return
    changes = {"blocks": lambda nb, row, column: _meeting(nb, row + 2 * column, rules)}
    mets = [met for of in rules.values() for met, _ in of]
    codes = any(met.shift or (met.x, met.y) != (n % 2, n // 2) for n, of in rules.items() for met, _ in of)
    fact = "block-meets-another" if codes else "scale-of-another-block"
    if all(met.times != 1 for met in mets):
        fact = "block-counted-twice" if any(met.times for met in mets) else "block-not-counted"
    nb = min(nb for nb, of in looked.items() if any(of))
    block = min(int(np.argmax(where)) for of in looked[nb] for where in of.values())
    yield bench.measured(
        fact,
        {
            "rows": [
                {"result": RESULTS[number], **vars(met), "blocks": rule.to_json()}
                for number, of in rules.items()
                for met, rule in of
            ]
        },
        f"With nrc = 2 {'; '.join(_words(rules))}.".replace("2 where", "2, where"),
        rule="Q8A8-DOT-6",
        fix="Make each of the four results of the codes and scales of its own two rows, every block once.",
        evidence=[
            bench.evidence(_primes(bench, nb, block), f"nb = {nb}: primes in block {block} of each row")
        ],
        changes=changes,
    )


def _words(rules: Mapping[int, Sequence[tuple[Met, Rule]]]) -> Iterator[str]:
    """Say what the blocks of results are made of: results that have the same words together."""
    said: dict[str, list[str]] = {}
    for number, of in rules.items():
        for met, rule in of:
            every = rule.position.kind == "any" and not rule.length
            text = met.words(number, single=every or not rule.is_plural)
            place = "{} " if every else rule.said("block", "nb", "of {} ")
            said.setdefault(place + text, []).append(RESULTS[number])
    together: dict[str, list[str]] = {}
    for words, names in said.items():
        where, _, what = words.partition("{}")
        if where and len(names) == len(RESULTS):
            together.setdefault(where.removesuffix(" of "), []).append(what)
            continue
        many = _plural(what) if len(names) > 1 and not where else what
        together.setdefault(where, []).append(f"{' and '.join(names)}{many}")
    yield from (f"{where}{', '.join(what)}" for where, what in together.items())


def _plural(words: str) -> str:
    for one, many in ((" is ", " are "), (" takes ", " take "), (" meets ", " meet ")):
        words = words.replace(one, many)
    return words


def _meeting(nb: int, number: int, rules: Mapping[int, Sequence[tuple[Met, Rule]]]) -> tuple[Array, ...]:
    """Return the blocks that meet in a result, and those whose scales they take: a step of a model."""
    blocks = np.arange(nb)
    left = np.ones(nb, np.bool_)
    parts = []
    for met, rule in rules.get(number, ()):
        here = np.flatnonzero(rule.holds(nb) & left)
        left[here] = False
        parts += [(met, here)] * met.times
    parts.append((own(number), blocks[left]))
    sides = []
    for met, of in parts:
        x = of + met.shift
        sides.append((x + nb * met.x, of + nb * met.y, x + nb * met.of_x, of + nb * met.of_y))
    ix, iy, sx, sy = (np.concatenate(side) for side in zip(*sides, strict=True))
    return ix, iy, sx, sy


def _primes(bench: Bench, nb: int, block: int) -> Call:
    """Return the call in which one block of each row has a prime as its code and as its scale."""
    here = np.arange(nb) == block
    rows = [bench.row(c * here, np.where(here, d, 1.0)) for c, d in zip(CODES, SCALES, strict=True)]
    return with_s(bench.call_of_two(rows[:2], rows[2:]), bytes(16))


def _four(bench: Bench, call: Call) -> list[float]:
    s = np.frombuffer(bench.outputs(call)[0], "<f4")
    return [float(s[place]) for place in bench.places(2)]


NAMES = {
    times * CODES[x] * CODES[2 + y] * SCALES[of_x] * SCALES[2 + of_y]: Met(x, y, of_x, of_y, times)
    for x, y, of_x, of_y in itertools.product(range(2), repeat=4)
    for times in (1, 2)
}
"""What a result shows, by its value."""


def _effects(bench: Bench, nb: int) -> list[dict[tuple[Any, ...], Array]]:
    """Return what happens to blocks, by result: bool [nb] by effect."""
    found: list[dict[tuple[Any, ...], Array]] = [{} for _ in range(4)]
    for block in range(nb):
        for number, value in enumerate(_four(bench, _primes(bench, nb, block))):
            met = NAMES.get(value) or (_elsewhere(bench, nb, block, number) if not value else None)
            if met != own(number):
                where = found[number].setdefault(met.key if met else ("other",), np.zeros(nb, np.bool_))
                where[block] = True
    return found


def _elsewhere(bench: Bench, nb: int, block: int, number: int) -> Met | None:
    """Return which block of x a block of y meets in a result; one that is not counted where it meets none."""
    if nb > MOST:
        return replace(own(number), times=0)
    alone = np.arange(nb) == block
    every = np.arange(1, 2 * nb + 1)
    for turn in (every, every[::-1]):
        x = [bench.row(codes) for codes in np.split(turn, 2)]
        y = [bench.row(alone * (row == number // 2)) for row in range(2)]
        value = _four(bench, with_s(bench.call_of_two(x, y), bytes(16)))[number]
        if not value:
            return replace(own(number), times=0)
        if value not in every:
            return None
        at = int(np.flatnonzero(turn == value)[0])
        met = replace(own(number), x=at // nb, of_x=at // nb, shift=at % nb - block)
    return met


def each_alone(
    bench: Bench,
    known: Model,
    failed: Sequence[CallResult],
    look: Callable[[Any, Sequence[CallResult]], Sequence[Measured]],
) -> Iterator[Measured]:
    """Find what is wrong in some of the four results, each as a function of one row at a time.

    Parameters
    ----------
    bench
        Makes calls of two rows at a time.
    known
        What is known of both numbers of rows.
    failed
        Failed calls of two rows at a time.
    look
        Makes the experiments on one row at a time.
    """
    found: dict[str, tuple[Measured, list[int]]] = {}
    fruitless = 0
    for number in range(len(RESULTS)):
        wrong = [one for one in failed if number in _wrong(bench, known, one)]
        for fact, numbers in found.values():
            # (What another result has shown may be all of it.)
            model = merged(known, [_only([number], fact)])
            if fact.changes and any(number not in _wrong(bench, model, one) for one in wrong):
                numbers.append(number)
        here = merged(known, (_only([number], fact) for fact, of in found.values() if number in of))
        left = (one for one in wrong if number in _wrong(bench, here, one))
        single = list(filter(None, (_single(bench, one, number) for one in left)))
        one = OneResult(bench, number)
        if is_of_others(one, single):
            one.others = mixed
            made = (*(each.call for each in single[:AGAIN]), *loud(bench.alone(one)))
            single = [CallResult(call, one(call)) for call in made]
            single = [each for each in single if not matches(replace(known, others=mixed), each)]
        facts = list(look(one, single)) if single and fruitless < FRUITLESS else []
        fruitless += bool(single) and not facts
        for fact in facts:
            numbers = found.setdefault(fact.sentence, (fact, []))[1]
            numbers += [number] * (number not in numbers)
    for fact, shown in found.values():
        # (Some of which no failed call shows it may have it, too.)
        others = (number for number in range(len(RESULTS)) if fact.changes and number not in shown)
        numbers = sorted({*shown, *(number for number in others if _is_so(bench, known, fact, number))})
        which = (
            ""
            if len(numbers) == len(RESULTS)
            else f", in {' and '.join(RESULTS[number] for number in numbers)}"
        )
        yield replace(
            fact,
            sentence=named(f"With nrc = 2{which}{_after(fact.sentence)}", numbers),
            where={**fact.where, "results": [RESULTS[number] for number in numbers]},
            nrc=2,
            rule="Q8A8-DOT-6" if which or fact.rule == "Q8A8-DOT-10" else fact.rule,
            cause="" if which else fact.cause,
            changes=_only(numbers, fact),
            when=fact.when and _of_two(bench, fact.when, numbers),
        )


def _is_so(bench: Bench, known: Model, fact: Measured, number: int) -> bool:
    """Return whether a fact about other results holds for one of which no failed call shows it."""
    one = OneResult(bench, number, mixed)
    without = replace(known, others=mixed)
    model = merged(without, [fact.changes])
    made = [*loud(bench.alone(one)), *(bench.alone(one).call(*random_pair(nb, seed=nb)) for nb in SEEN)]
    results = [CallResult(call, one(call)) for call in made]
    return all(matches(model, each) for each in results) and not all(
        matches(without, each) for each in results
    )


def _after(sentence: str) -> str:
    """Return a sentence behind the results that it is about."""
    if sentence.startswith(("In ", "Where ")):
        return f", {sentence[0].lower()}{sentence[1:]}"
    return f": {sentence}"


def _only(numbers: Sequence[int], fact: Measured) -> dict[str, Any]:
    """Return what a fact about one row at a time changes in some of the four results."""
    return {"only": ((frozenset(numbers), fact.changes),)} if fact.changes else {}


def _wrong(bench: Bench, model: Model, result: CallResult) -> set[int]:
    """Return which of the four results are not a model's."""
    got = np.frombuffer(result.outputs[0], "<u4")
    places = list(bench.places(result.call.bs))
    given = (one for one in model.predict(result.call) if one.place in places and one.place < got.size)
    return {places.index(one.place) for one in given if not one.holds(got[one.place])}


def _of_two(
    bench: Bench, when: Callable[[CallResult], bool], numbers: Sequence[int]
) -> Callable[[CallResult], bool]:
    """Return whether a condition of one row at a time holds in some of the results of two."""

    def of(result: CallResult) -> bool:
        singles = (_single(bench, result, number) for number in numbers) if result.call.nrc == 2 else ()
        return any(one is not None and when(one) for one in singles)

    return of


def _single(bench: Bench, result: CallResult, number: int) -> CallResult | None:
    """Return one of the four results as a call of one row at a time; None where it is outside of s."""
    call, place = result.call, bench.places(result.call.bs)[number]
    inputs, held = calls.inputs_of(call), bytes(call.buffers[call.spec.outputs[0]].data)
    if not 0 <= 4 * place < len(held):
        return None
    size = call.n // 32 * 34
    rows = {
        name: inputs[name][row * step :][:size]
        for name, row, step in (("vx", number % 2, call.bx), ("vy", number // 2, call.by))
    }
    s, got = (bytes(data)[4 * place : 4 * place + 4] for data in (held, result.outputs[0]))
    return CallResult(calls.build(calls.DOT, call.n, rows, {"s": s}, nrc=1), (got,))
