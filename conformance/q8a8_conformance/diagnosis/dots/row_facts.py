"""Which terms of rows are wrong, and in which rows: one rule for each thing that happens to them.

Rows of every length are asked for; of those whose sums are wrong the terms are measured (`row_terms`), and
what happens to them is put in few effects (`row_effects`), each with a rule for its places (`reveal.places`).
Without a rule it is what was seen. What is said gives every row that was asked for.

Terms are assigned to places: the one that lacks its own term has the term with most of its parts. Which other
block a part is taken from is a formula of the place, the one that most places have.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.diagnosis.dots.model import Model, matches
from q8a8_conformance.diagnosis.dots.row_effects import Effect, Kind, meeting, shifted
from q8a8_conformance.diagnosis.dots.row_terms import Row, UnknownError, greatest_code, terms_of
from q8a8_conformance.diagnosis.products.rules import ROW_FORMULAS, RowFormula
from q8a8_conformance.faults.catalogue import MUTANTS
from q8a8_conformance.inputs import calls
from q8a8_conformance.reveal.places import Rule, Seen, find_rule

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from q8a8_conformance.diagnosis.dots.bench import Bench, Measured
    from q8a8_conformance.diagnosis.dots.row_terms import Shape, Term
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.results.observations import CallResult


EVERY, SOME, DENSE = 300, 40, 100
"""Lengths up to which many are tried, the same where no short row has failed, and those of which all are."""

BEYOND = (*range(DENSE, EVERY, 7), 127, 128, 129, 130, 191, 192, 193, 255, 256, 257, 258)
"""Those beyond."""

POWERS = tuple(2**k + d for k in range(9, 17) for d in (0, 1))
"""Longer ones, tried up to the longest that failed."""

LONG, ENOUGH = 8, 40
"""Failed lengths that are tried where only long rows fail; wrong lengths after which no long ones are."""

MEASURED, LOOSE = 10, 6
"""Wrong lengths of which the terms are measured, and further ones that rules do not give."""

NEAR = (1, 2, 3, 5)
"""How much longer than the shortest and the longest wrong row others are that rules must give."""

CALLS = 4000
"""Calls after which no more rows are looked at to choose between rules."""

EFFECTS = 8
"""Different things that may happen to terms: more are in no order."""

OTHERS = (16, 8, 4, 1)
"""How far away elements are that must be counted alike."""

SHOWN = 3
"""Lengths whose blocks are named where no rule is found."""

NAMED = (
    *(*range(300), 511, 513, 767, 1000, 1024, 1025, 1027, 2048, 2049, 2051, 4097, 5000),
    *(32767, 32768, 32769),
)
"""Lengths at which a mistake of the catalogue must count the same blocks to be named."""

FIXES = {
    "block-counted-twice": MUTANTS["odd-block-lost"].fix,
    "block-not-counted": MUTANTS["odd-block-lost"].fix,
    "block-meets-another": "Give every block of the unrolled loop its own number in both rows.",
    "scale-of-another-block": MUTANTS["first-scale-for-all"].fix,
    "sum-added-again": "Set what a block's products are added to to zero before each block.",
}

SCALES_OF = {("0", (0, 1)): "first-scale-for-all", ("(b + 1) % nb", (0,)): "scale-of-next-block"}
"""Mistakes of the catalogue, by the block whose scales are taken."""


@dataclass(frozen=True)
class AsSeen:
    """The places of an effect in rows of the lengths that were looked at, where no rule gives them."""

    rows: Mapping[int, Array]

    def holds(self, nb: int) -> Array:
        """Return whether it was seen at the places of a row: bool [nb]."""
        return self.rows.get(nb, np.zeros(nb, np.bool_))

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {"seen": {str(nb): np.flatnonzero(of).tolist() for nb, of in sorted(self.rows.items())}}


@dataclass(frozen=True)
class At:
    """The places of a rule."""

    rule: Rule | AsSeen

    def holds(self, values: tuple[Array, ...]) -> Array:
        """Return the places of a row: bool [nb]."""
        return self.rule.holds(len(values[0]))


class _Rows:
    """What happens in rows, as far as it was looked at."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self._before = bench, bench.made
        self._known: dict[Shape, None] = {}
        self.right: dict[int, bool] = {}
        self.seen: dict[int, Observed] = {}

    def is_right(self, nb: int) -> bool:
        """Return whether the sums of a row are right."""
        if nb not in self.right:
            self.right[nb] = Row(self.bench, nb, self._known).is_right
        return self.right[nb]

    def of(self, nb: int) -> Observed:
        """Return what happens in a row of one length."""
        if nb not in self.seen:
            is_right = self.is_right(nb)
            self.seen[nb] = {} if is_right else observed(Row(self.bench, nb, self._known).shapes(), nb)
        return self.seen[nb]

    def at(self, effect: Effect, nb: int) -> tuple[Array, Array]:
        """Return where an effect is seen in a row, and where it would be; nothing after many calls."""
        found = np.zeros(nb, np.bool_)
        if nb not in self.seen and self.bench.made - self._before > CALLS:
            return found, found
        for place, sources in self.of(nb).get(effect.kind, ()):
            taken = effect.taken(np.array([place]), nb)[:, 0]
            found[place] = all(
                taken[part] == source
                for parts, source in zip(effect.kind.parts or (), sources, strict=True)
                for part in parts
            )
        lost = np.zeros(nb, np.bool_)
        lost[[place for place, _ in self.of(nb).get(Kind(0), ())]] = True
        # (What is read beyond a row may be zero.)
        return found, effect.is_known(nb) & ~(lost & ~found & ~effect.shows(nb))


def miscounted(bench: Bench, failed: Sequence[CallResult]) -> Iterator[Measured]:
    """Find which terms of rows of which lengths are not each block's own, counted once."""
    rows = _Rows(bench)
    failing = sorted({one.call.n // 32 for one in failed} - {0})
    try:
        found = _found(rows, failing) if failing else []
    except UnknownError:
        return
    if found and _is_of_elements(rows, found):
        return
    facts: dict[str, list[tuple[Rule | AsSeen, Effect]]] = {}
    for rule, effect in found:
        facts.setdefault(effect.fact, []).append((rule, effect))
    if {"block-not-counted", "block-counted-twice"} <= facts.keys():
        # (A block that is read in the place of another is one mistake.)
        facts["block-counted-twice"] += facts.pop("block-not-counted")
    for fact, placed in facts.items():
        yield _fact(bench, fact, placed)


def _found(rows: _Rows, failing: Sequence[int]) -> list[tuple[Rule | AsSeen, Effect]]:
    """Return what happens in rows, and at which places."""
    for nb in _lengths(rows.bench, failing):
        if nb > EVERY and list(rows.right.values()).count(False) > ENOUGH:
            break
        rows.is_right(nb)
    wrong = [nb for nb, is_right in rows.right.items() if not is_right]
    short = [nb for nb in wrong if nb <= DENSE] or wrong
    for nb in _some(short, MEASURED) if short else ():
        rows.of(nb)
    found = list(_ruled(rows))
    # (What is so in short rows need not be in long ones.)
    near = [nb + more for nb in {wrong[0], wrong[-1]} for more in NEAR] if wrong else []
    some = (*(nb for nb in failing if nb in wrong), *wrong, *near)
    further = [nb for nb in dict.fromkeys(some) if nb not in rows.seen and greatest_code(rows.bench, nb) > 1]
    loose = [nb for nb in further if not _gives(found, rows, nb)][:LOOSE]
    for nb in loose:
        rows.of(nb)
    return list(_ruled(rows)) if loose else found


def _lengths(bench: Bench, failing: Sequence[int]) -> list[int]:
    """Return the lengths of rows that are asked for."""
    first, longest = failing[0], failing[-1]
    most = min(EVERY, 2 * longest + 40) if first <= EVERY else SOME
    every = [nb for nb in sorted({*range(1, DENSE), *BEYOND, *failing}) if nb < most]
    long = [nb for nb in failing if nb > EVERY]
    if first > EVERY:
        long = [*long[:LONG], longest, *(nb for nb in POWERS if nb <= longest)]
    else:
        long = [*long[:2], *long[-1:]]
    return [nb for nb in (*every, *sorted({*long})) if greatest_code(bench, nb) > 1]


def _some(lengths: Sequence[int], most: int) -> list[int]:
    """Return so many of some lengths at most: short ones, and others up to the last."""
    spread = np.linspace(0, len(lengths) - 1, most // 2).astype(int).tolist()
    return sorted({*lengths[: most // 2], *(lengths[at] for at in spread)})


def _ruled(rows: _Rows) -> Iterator[tuple[Rule | AsSeen, Effect]]:
    """Yield the effects of all rows that were looked at, with rules for their places."""
    some = {nb: of for nb, of in rows.seen.items() if of}
    effects = effects_of(some)
    if len(effects) > EFFECTS:
        raise UnknownError
    # (What is wrong in long rows alone shows there alone.)
    is_long = min((nb for nb, is_right in rows.right.items() if not is_right), default=0) > DENSE
    longest = 2 * max(rows.right, default=0) if is_long else 0
    for effect in effects:
        right = {
            nb: (np.zeros(nb, np.bool_), effect.is_known(nb))
            for nb, is_right in rows.right.items()
            if is_right
        }
        here = right | {nb: rows.at(effect, nb) for nb in rows.seen}
        seen = Seen(*({nb: of[part] for nb, of in here.items()} for part in (0, 1)))
        rule = find_rule(seen, partial(rows.at, effect), max(longest, EVERY))
        yield rule or AsSeen({nb: where for nb, where in seen.rows.items() if where.any()}), effect


def _gives(found: Sequence[tuple[Rule | AsSeen, Effect]], rows: _Rows, nb: int) -> bool:
    """Return whether effects and their places give the sums of a row."""
    model = Model(placed=tuple((At(rule), effect) for rule, effect in found))
    made = (rows.bench.answer(call) for call in Row(rows.bench, nb).calls())
    return rows.bench.factor != 1 or all(matches(model, one) for one in made)


def _is_of_elements(rows: _Rows, found: Sequence[tuple[Rule | AsSeen, Effect]]) -> bool:
    """Return whether another element, right in right rows, is counted otherwise in the wrong ones."""
    bench, here = rows.bench, rows.bench.element
    wrong, right = ([nb for nb, of in rows.right.items() if of is is_so][:1] for is_so in (False, True))
    try:
        for bench.element in ((here + more) % 32 for more in OTHERS):
            is_given = all(_gives(found, rows, nb) for nb in wrong)
            if not is_given and all(Row(bench, nb).is_right for nb in right):
                return True
    finally:
        bench.element = here
    return False


def _fact(bench: Bench, fact: str, placed: Sequence[tuple[Rule | AsSeen, Effect]]) -> Measured:
    """Return the fact that some effects are, at their places."""
    lengths = [
        nb
        for nb in range(1, EVERY)
        if any((rule.holds(nb) & effect.shows(nb)).any() for rule, effect in placed)
    ]
    lengths += [nb for rule, _ in placed if isinstance(rule, AsSeen) for nb in rule.rows]
    nb = min(lengths, default=1)
    made = [bench.answer(call) for call in Row(bench, nb).calls()]
    shown = next((one for one in made if not matches(Model(), one)), made[0])
    text = "; ".join(dict.fromkeys(_words(rule, effect) for rule, effect in placed))
    return bench.measured(
        fact,
        {"at": nb, "blocks": [{**rule.to_json(), **effect.to_json()} for rule, effect in placed]},
        f"{text[0].upper()}{text[1:]}.",
        rule="Q8A8-DOT-3" if fact == "scale-of-another-block" else "Q8A8-DOT-10",
        fix=FIXES[fact],
        evidence=[bench.evidence(shown.call, f"nb = {nb}")],
        cause=_cause(placed),
        changes={"placed": tuple((At(rule), effect) for rule, effect in placed)},
    )


def _words(rule: Rule | AsSeen, effect: Effect) -> str:
    """Say what happens where."""
    if isinstance(rule, Rule):
        return rule.said("block", "nb", effect.words(plural=rule.is_plural))
    parts = []
    for nb, where in sorted(rule.rows.items())[:SHOWN]:
        blocks = np.flatnonzero(where).tolist()
        some = ", ".join(map(str, blocks[:SHOWN])) + ", …" * (len(blocks) > SHOWN)
        plural = len(blocks) > 1
        parts.append(f"with nb = {nb} block{'s' * plural} {some} {effect.words(plural=plural)}")
    return "; ".join(parts) + "; blocks of other rows, too" * (len(rule.rows) > SHOWN)


def _cause(placed: Sequence[tuple[Rule | AsSeen, Effect]]) -> str:
    """Return the catalogue's mistake that counts the same blocks, or takes the same scales."""
    if len(placed) == 1 and placed[0][1].sources:
        ((rule, effect),) = placed
        is_any = isinstance(rule, Rule) and rule.is_any and not rule.length
        key = effect.sources[0].text("b", "nb"), (effect.kind.parts or ((),))[0]
        return SCALES_OF.get(key, "") if is_any else ""
    lengths = [nb for rule, _ in placed if isinstance(rule, AsSeen) for nb in rule.rows]

    def step(nb: int) -> tuple[Array, ...]:
        return meeting(nb, 0, 0, [(rule.holds(nb), effect) for rule, effect in placed])

    for mutant in MUTANTS.values():
        if "visited" in mutant.changes and calls.DOT in mutant.functions:
            visited = mutant.changes["visited"]
            if all(_same(step(nb), visited(nb)) for nb in (*NAMED, *lengths)):
                return mutant.slug
    return ""


def _same(met: Iterable[Array], visited: Array) -> bool:
    """Return whether the same blocks are counted as often."""
    return all(np.array_equal(np.sort(side), np.sort(visited)) for side in met)


SHORT = 3
"""Blocks of rows by which no formula is chosen where there are longer ones."""

Observed = dict[Kind, list[tuple[int, tuple[int, ...]]]]
"""Places, and the blocks that parts are taken from there, by what happens."""


def observed(shapes: Mapping[Shape, Array], nb: int) -> Observed:
    """Return what happens at the places of a row, by the terms of its blocks."""
    own, others = terms_of(dict(shapes), nb)
    left = Counter(_assigned(own, others))
    at: dict[int, list[Term]] = {}
    for (place, term), times in left.items():
        at.setdefault(place, []).extend([term] * times)
    found: Observed = {}
    for place in sorted({*at, *np.flatnonzero(own != 1).tolist()}):
        times = int(own[place])
        if place not in at:
            found.setdefault(Kind(times), []).append((place, ()))
            continue
        if times > 1:
            found.setdefault(Kind(times), []).append((place, ()))
        for number, term in enumerate(at[place]):
            sources = dict.fromkeys(each for each in term if each != place)
            parts = tuple(tuple(k for k in range(4) if term[k] == each) for each in sources)
            kind = Kind(None if times or number else 0, parts)
            found.setdefault(kind, []).append((place, tuple(sources)))
    return found


def _assigned(own: Array, others: Sequence[Term]) -> Iterator[tuple[int, Term]]:
    """Yield terms with the places that they are of: of those that lack their own the one with most parts."""
    free = own == 0
    for term in others:
        # (Of as many parts the scale's block is the place; where codes are exchanged as well, scales are.)
        blocks = (*term[2:], *term[:2]) if free[term.x] else term
        place = max(blocks, key=lambda block: (bool(free[block]), term.count(block)))
        free[place] = False
        yield place, term


def effects_of(rows: Mapping[int, Observed]) -> list[Effect]:
    """Return the effects of which some give all that was observed in rows of many lengths."""
    found: list[Effect] = []
    for kind in dict.fromkeys(kind for of in rows.values() for kind in of):
        left = [(nb, *one) for nb, of in rows.items() for one in of.get(kind, ())]
        while left:
            # (In the shortest rows blocks have several names.)
            some = [one for one in left if one[0] > SHORT] or left
            best = max(_effects(kind, some), key=lambda effect: _count(effect, some), default=None)
            if best is None or not _count(best, left):
                break
            found.append(best)
            left = [one for one in left if not _is_given(best, *one)]
    return found


def _count(effect: Effect, seen: Iterable[tuple[int, int, tuple[int, ...]]]) -> int:
    return sum(_is_given(effect, *one) for one in seen)


def _is_given(effect: Effect, nb: int, place: int, sources: tuple[int, ...]) -> bool:
    return all(
        int(formula.of(np.array(place), nb)) == source
        for formula, source in zip(effect.sources, sources, strict=True)
    )


def _effects(kind: Kind, seen: Sequence[tuple[int, int, tuple[int, ...]]]) -> Iterator[Effect]:
    """Yield the effects of a kind that may give some places, the simplest first."""
    if not kind.parts:
        yield Effect(kind)
        return
    if len(kind.parts) > 1:
        _, place, sources = seen[len(seen) // 2]
        yield Effect(kind, tuple(shifted(source - place) for source in sources))
        return
    for words, function, numbers in FORMULAS:
        yield from (Effect(kind, (RowFormula(words, function, t),)) for t in numbers)
    yield from (Effect(kind, (shifted(step),)) for step in {source[0] - at for _, at, source in seen})
    yield from (Effect(kind, (_block(block),)) for block in {source[0] for *_, source in seen})


FORMULAS = (
    *ROW_FORMULAS[:3],
    ("{i} xor {t}", lambda i, _n, t: i ^ t, (1, 2, 3)),
    *ROW_FORMULAS[3:],
    ("{i} - {n} / 2 (rounded down)", lambda i, n, _t: i - n // 2, (0,)),
    ("{i} + {n} / 2 (rounded down)", lambda i, n, _t: i + n // 2, (0,)),
    ("{n} - 1 - {t}", lambda i, n, t: 0 * i + n - 1 - t, (1, 2, 3)),
    (
        "2 {n} - 1 - {n} % {t} - {i}",
        lambda i, n, t: n - 1 - (i - n + n % t),
        (3, 4, 5, 6, 7, 8, 16),
    ),
)
"""Which block may be taken in the place of block i of n: as rows of products are."""


def _block(block: int) -> RowFormula:
    return RowFormula("{t}", lambda i, _n, t: 0 * i + t, block)
