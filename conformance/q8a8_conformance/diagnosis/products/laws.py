"""What becomes of a product's terms, and of which: one law over columns, rows and blocks of any shape.

`terms` shows what a term of a shape comes to. Of the effects that give what was seen the one that
gives most is taken, and a rule is looked for along each of m, n and the blocks of a row (`reveal.places`). A
law is kept where it gives every term that was measured; all laws together predict a failed call's outputs.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.diagnosis.facts import Fact, remembered
from q8a8_conformance.diagnosis.products.codes import ExtremeMeasuring, PlainMeasuring
from q8a8_conformance.diagnosis.products.joint import is_joint
from q8a8_conformance.diagnosis.products.judged import (
    named,
    shown,
    spread,
)
from q8a8_conformance.diagnosis.products.law_words import law_json, law_kind, law_words
from q8a8_conformance.diagnosis.products.predicted import is_known, laws_account, laws_explain
from q8a8_conformance.diagnosis.products.recipes import TellingMeasuring, is_unnamed
from q8a8_conformance.diagnosis.products.rules import EVERYWHERE as ANY
from q8a8_conformance.diagnosis.products.rules import rule_along
from q8a8_conformance.diagnosis.products.terms import SHORT, Law
from q8a8_conformance.inputs import calls, dot_rows
from q8a8_conformance.protocol.session import SessionError
from q8a8_conformance.reveal.places import Seen, find_rule

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from q8a8_conformance.diagnosis.products.effects import Effect
    from q8a8_conformance.diagnosis.products.rules import Shape
    from q8a8_conformance.diagnosis.products.terms import Measuring, Terms
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.results.observations import Failure
    from q8a8_conformance.reveal.places import Rule
    from q8a8_conformance.reveal.quantizers.calls import AnySession


BLOCKS = (*range(1, 13), 15, 16, 17, 18, 24, 31, 32, 33, 64)
"""Blocks of a row of the shapes that are looked at."""

LONGEST = 140
"""The most that a rule may ask for."""

LARGEST = 1 << 13
"""Terms of a shape that is looked at, at most."""

ROWS = (*range(1, 10), 12, 13, 15, 16, 17, 18, 24, 31, 32, 33, 64, 65)
"""Rows of the shapes that are looked at."""

LONGER = (11, 24)
"""Blocks of a row of the smallest shapes with a law in which it must hold, too."""

SHAPES, FEW, RANKED, WRONG = 12, 3, 6, 150
"""Shapes of failed calls that are measured, of rows that are long; those in which effects are counted, of so
many terms each."""

EDGED = (15, 15)
"""m and n of a shape in which most tiles are not whole, by as much as they can be."""

CALLS, FEWER_CALLS = 3000, 1500
"""Calls, at most, with which laws are found, of terms and of other codes."""

BASE = 512
"""Terms of the larger shape around which others are looked at."""

ALONE = 4
"""The greatest length that may be the only one: in a longer one it may be by chance."""

CHANCE = 0.03
"""The part of the wrong terms that an effect must give, of which a rule is looked for."""

ALIKE, OWN, HIDDEN = 0.002, 0.03, 0.05
"""The part of all terms, and of a law's own, that may be alike by chance, and that roundings may hide."""

MOSTLY = 0.9
"""The part of what the best effect gives that others give which are as good."""

MOST = 4
"""Laws at most."""

MORE = 1.1
"""How many times as much a law must give that is seen beside other mistakes, to be taken before another."""

OTHERS = 4
"""Rows of x of longer rows in which what is taken from any block must hold, too."""


def law_facts(session: AnySession, failures: Sequence[Failure], least: int = 1) -> list[Fact]:
    """Find the laws of a product's terms: each a fact with the failed calls that it has a part in.

    Rows of fewer blocks than `least` are not looked at.
    """
    measure = PlainMeasuring(session, CALLS)
    measure.least = least
    laws: list[Law] = []
    with suppress(SessionError):
        # (What was found when the time is up is kept.)
        shapes = shapes_of(failures)
        least_nb = max(min((nb for _, _, nb in shapes), default=1), least)
        for shape in (*shapes, (*EDGED, least_nb)):
            measure(shape)
        find_laws(measure, laws)
    left = list(failures)
    measures: dict[str, Measuring] = {}
    for kind in (ExtremeMeasuring, TellingMeasuring):
        left = [one for one in left if not any(laws_explain(laws, law, one) for law in laws)]
        if not left:
            break
        if kind is not TellingMeasuring and _left(measure, laws):
            continue
        other, others = kind(session, FEWER_CALLS), [*laws]
        with suppress(SessionError):
            for shape in shapes_of(left):
                other(shape)
            find_laws(other, others)
        more = [law for law in others if law not in laws]
        if any(
            law.effect.sums
            or law.blocks.length
            or not (law.columns.is_any and law.blocks.is_any)
            or law.columns.length
            or is_unnamed(law.effect)
            for law in more
        ):
            laws = others
            measures |= {law.effect.kind: other for law in more}
    facts = []
    # (What is known of no failed call's wrong outputs may be anything.)
    for law in (law for law in laws if any(is_known(laws, law, one) for one in failures)):
        rule, sentence, fix, first = law_words(law)
        here = measures.get(law.effect.kind, measure)
        made = [(terms.call, terms.outputs) for terms in here.known.values()]
        small = sorted(here.known.values(), key=lambda one: one.right.size)
        facts.append(
            Fact(
                *(law_kind(law), law_json(law), rule, sentence, fix),
                named(made, rule, first) if len(laws) == 1 else "",
                function=calls.MUL_MAT,
                evidence=shown([(one.call, one.outputs) for one in small], partial(_outputs, law)),
                explains=remembered(partial(laws_explain, laws, law)),
                outputs=partial(laws_account, laws),
            )
        )
    return facts


def shapes_of(failures: Sequence[Failure]) -> list[Shape]:
    """Return shapes of failed calls, from the smallest on; of long rows few."""
    every = dict.fromkeys((one.call.bs, one.call.bx, one.call.n // 32) for one in failures)
    small = sorted((s for s in every if 0 < np.prod(s) <= LARGEST), key=np.prod)
    few = [shape for shape in small if shape[2] <= SHORT] or small[:FEW]
    if len(few) < FEW:
        # (What is wrong in large products may be so in smaller ones of the same remainders.)
        few += dict.fromkeys(
            (32 + m % 32, 32 + n % 32, min(nb, 2 + nb % 2)) for m, n, nb in every if min(m, n) > 32
        )
    return spread(few, SHAPES)


def find_laws(measure: Measuring, found: list[Law]) -> None:
    """Find laws that give all that is measured, as far as there are any, the one that comes first first."""
    loose: list[Law] = []
    while len(found) < MOST and (left := _left(measure, found)):
        more, is_loose = _next(_ranked(left, found, measure), left, found, measure)
        if not more:
            break
        for law in more:
            found.insert(_place(law, found, measure), law)
        loose += more if is_loose else []
    if loose and _left(measure, found):
        # (What is wrong beside a law is not known to be another's.)
        found[:] = [law for law in found if law not in loose]


def _left(measure: Measuring, laws: Sequence[Law]) -> list[Terms]:
    """Return the shapes with wrong terms that laws do not give, the smallest first."""
    left = [one for one in measure.known.values() if (one.wrong & ~_given(laws, one)).any()]
    return sorted(left, key=lambda one: one.right.size)


def _given(laws: Sequence[Law], terms: Terms) -> Array:
    """Return which terms are what a law says: bool [n, m, nb]."""
    found = np.zeros(terms.right.shape, bool)
    for law in laws:
        found |= law.holds(terms.shape) & terms.is_given(law.effect)
    return found


def _ranked(left: Sequence[Terms], found: Sequence[Law], measure: Measuring) -> list[tuple[Effect, bool]]:
    """Return the effects that give most of what laws do not, the most first, and whether to look loosely.

    Those that give the most are looked at first, as if nothing else were wrong.
    """
    rng = dot_rows.generator("wrong-terms")
    some = []
    for terms in spread(left, RANKED):
        wrong = np.argwhere(terms.wrong & ~_given(found, terms))
        some.append((terms, rng.permutation(wrong)[:WRONG].T))
    counts = dict.fromkeys(measure.effects(), 0)
    for terms, at in some:
        for effect, count in terms.count(list(counts), at):
            counts[effect] += count
    least = CHANCE * sum(at.shape[1] for _, at in some)
    some_of = (effect for effect in counts if counts[effect] > least)
    ranked = sorted(some_of, key=lambda effect: -counts[effect])[: measure.tried]
    strict = [(effect, False) for effect in ranked if counts[effect] > MOSTLY * counts[ranked[0]]]
    return [*strict, *((effect, True) for effect in ranked)]


def _next(
    ranked: Sequence[tuple[Effect, bool]], left: Sequence[Terms], found: Sequence[Law], measure: Measuring
) -> tuple[list[Law], bool]:
    """Return one more law, or two of columns and rows, of one of some effects, and whether found loosely."""
    failed: list[Effect] = []
    for effect, is_loose in ranked:
        laws = _laws_of(effect, left, found, measure, is_loose=is_loose)
        for before in failed if laws and not is_loose else ():
            # (What gives more where nothing else is wrong is no chance fit of a part of it.)
            others = _laws_of(before, left, found, measure, is_loose=True)
            if _size(others, measure) > MORE * _size(laws, measure):
                return others, True
        if laws:
            return laws, is_loose
        failed.append(effect)
    return [], False


def _size(laws: Sequence[Law], measure: Measuring) -> int:
    """Return how many terms laws give that are wrong, of those that were measured."""
    return sum(
        int((law.holds(terms.shape) & terms.looks(law.effect)[0] & terms.wrong).sum())
        for terms in measure.known.values()
        for law in laws
    )


def _laws_of(
    effect: Effect, left: Sequence[Terms], found: Sequence[Law], measure: Measuring, *, is_loose: bool
) -> list[Law]:
    """Return a law of an effect, or two of columns and rows; none where no rule gives it."""
    measure.expected = (effect, *(law.effect for law in found))
    see = partial(_seen, effect, found, is_loose=is_loose)
    bases = [one.shape for one in left if see(one)[0].any()]
    if not is_loose and (base := _of_either(left, see)) is not None:
        return _either(effect, base, see, measure)
    # (What roundings hide shows in some of many outputs.)
    larger = [base for base in bases if np.prod(base) <= BASE][-1:]
    for base in dict.fromkeys(larger + bases[:1] if measure.slack else bases[:1] + larger):
        law = _law(effect, base, see, measure)
        if law is not None:
            return [law]
    return []


def _of_either(left: Sequence[Terms], see: Callable[[Terms], tuple[Array, Array]]) -> Shape | None:
    """Return a shape in which terms of some columns, and of some rows, are seen, not only of both."""
    for terms in left:
        seen, shows = (np.asarray(of.any(axis=2)) for of in see(terms))
        both = np.logical_and.outer(seen.any(axis=1), seen.any(axis=0))
        if seen.any() and not is_joint(seen, shows) and not np.array_equal(both & shows, seen):
            return terms.shape
    return None


def _either(
    effect: Effect, base: Shape, see: Callable[[Terms], tuple[Array, Array]], measure: Measuring
) -> list[Law]:
    """Return two laws of an effect, of columns and of rows, if they give all that is measured."""

    def part(number: int, shape: Shape) -> Array:
        if shape[2] < measure.least:
            return np.zeros((shape[1], shape[0]), bool)
        return np.asarray(see(measure(shape))[number].any(axis=2))

    look, shows = partial(part, 0), partial(part, 1)
    columns, rows = (rule_along(axis, base, look, shows, either=True) for axis in (0, 1))

    def blocks(nb: int) -> tuple[Array, Array]:
        if nb < measure.least:
            return np.zeros(nb, bool), np.zeros(nb, bool)
        seen, shown = see(measure((*base[:2], nb)))
        return np.asarray(seen.any(axis=(0, 1))), np.asarray(shown.any(axis=(0, 1)))

    answers = {nb: blocks(nb) for nb in sorted({*BLOCKS, base[2]})}
    seen = Seen(*({nb: answer[number] for nb, answer in answers.items()} for number in (0, 1)))
    of = find_rule(seen, blocks, LONGEST)
    if columns is None or rows is None or of is None:
        return []
    laws = [Law(effect, columns, ANY, of), Law(effect, ANY, rows, of)]
    for terms in measure.known.values():
        found, shown = see(terms)
        held = (laws[0].holds(terms.shape) | laws[1].holds(terms.shape)) & shown
        if (held != found).sum() > ALIKE * shown.sum():
            return []
    return laws


def _seen(effect: Effect, found: Sequence[Law], terms: Terms, *, is_loose: bool) -> tuple[Array, Array]:
    """Return where an effect is seen besides what laws give, and where it would be.

    Loosely, that is not known where something else is wrong.
    """
    seen, shows = terms.looks(effect)
    free = ~_given(found, terms)
    if is_loose:
        shows &= seen | ~terms.wrong
    return seen & free, shows & free


def _place(law: Law, found: Sequence[Law], measure: Measuring) -> int:
    """Return the place of a law among others: before those instead of which it is seen."""
    for at, other in enumerate(found):
        for terms in measure.known.values():
            both = law.holds(terms.shape) & other.holds(terms.shape)
            if (both & terms.looks(law.effect)[0] & ~terms.looks(other.effect)[0]).any():
                return at
    return len(found)


def _law(
    effect: Effect, base: Shape, see: Callable[[Terms], tuple[Array, Array]], measure: Measuring
) -> Law | None:
    """Return the law of an effect, from a shape in which it is seen, if it gives all that is measured."""

    def along(axis: int) -> Rule | None:
        own = (1, 0, 2)[axis]
        others = tuple(other for other in range(3) if other != own)
        # (What is wrong in some rows shows in these alone, whatever is changed.)
        here = see(measure(base))[0].any(axis=own, keepdims=True)

        def ask(length: int) -> tuple[Array, Array]:
            sizes = [length if axis == side else size for side, size in enumerate(base)]
            if sizes[2] < measure.least or (length != base[axis] and np.prod(sizes) > LARGEST):
                return np.zeros(length, bool), np.zeros(length, bool)
            seen, shows = (of & here for of in see(measure((sizes[0], sizes[1], sizes[2]))))
            return np.asarray(seen.any(axis=others)), np.asarray(shows.any(axis=others))

        lengths = BLOCKS if axis == 2 else ROWS
        answers = {length: ask(length) for length in sorted({*lengths, base[axis]})}
        seen = Seen(*({length: answer[part] for length, answer in answers.items()} for part in (0, 1)))
        return find_rule(seen, ask, LONGEST)

    rules = []
    for axis in range(3):
        rule = along(axis)
        if rule is None or any(condition.kind == "is" and condition.a > ALONE for condition in rule.length):
            return None
        rules.append(rule)
    law = Law(effect, *rules)
    # (In longer rows of few outputs what is alike in short ones may differ.)
    least = [next((size for size in ROWS if rule.holds(size).any()), 1) for rule in rules[:2]]
    for nb in LONGER if np.prod(least) * LONGER[0] <= LARGEST else ():
        measure((least[0], least[1], nb))
        if effect.kind == "source" and effect.side == "x":
            # (What is of the row before is of the first one in two rows.)
            measure((least[0], max(least[1], OTHERS), nb))
    for terms in measure.known.values():
        seen, shows = see(terms)
        # (Roundings may hide single terms.)
        most = max(HIDDEN * shows.sum(), 2) if measure.slack else ALIKE * shows.sum()
        most = most if measure.slack else min(most, OWN * (law.holds(terms.shape) & shows).sum())
        if ((law.holds(terms.shape) & shows) != seen).sum() > most:
            return None
    return law


def _outputs(law: Law, call: Call) -> Array:
    """Return which outputs of a call a law has a part in: bool [n, m]."""
    rows, columns, _ = law.axes((call.bs, call.bx, call.n // 32))
    return np.outer(rows, columns)
