"""Which blocks are lost, repeated or exchanged at which lengths: a condition, and formulas of the length.

What a row of one length counts is measured (`segments`). Here lengths are chosen, the condition under which
they are wrong is fitted, and the ends of the segments become formulas of the number of blocks.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.diagnosis.experiments.bench import UNUSED, Bench, Measured, model_of
from q8a8_conformance.diagnosis.experiments.lengths import Lengths, fit, formula
from q8a8_conformance.diagnosis.experiments.model import blocks as own_blocks
from q8a8_conformance.diagnosis.experiments.model import matches
from q8a8_conformance.diagnosis.experiments.repeated import find_repeated
from q8a8_conformance.diagnosis.experiments.segments import (
    OTHER_FIELD,
    Counted,
    Segment,
    greatest_code,
    meeting,
)
from q8a8_conformance.faults.catalogue import MUTANTS
from q8a8_conformance.inputs import calls
from q8a8_conformance.results.observations import CallResult
from q8a8_conformance.reveal.places import Seen, find_rule

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from q8a8_conformance.reveal.places import Rule

    Array = NDArray[Any]

EVERY = 300
"""Lengths up to which each one is tried."""

SOME = 40
"""The same, where no row of up to `EVERY` blocks has failed."""

POWERS = tuple(2**k + d for k in range(9, 17) for d in (0, 1))
"""Longer ones, tried up to the longest that failed."""

SCALES = ((2.0, 0.5), (1.0, 0.25))
"""Scales of x and of y under which the same blocks must be counted."""

REFITS, CHECKED = 5, 12
"""How often a condition is fitted again, and lengths that are tried to check it."""

LONG = 8
"""Failed lengths that are tried, where only long rows fail."""


IRREGULAR = 3
"""Lengths that may be wrong without a rule that they have in common."""

EXPLICIT = 6
"""Failed lengths that are looked into where the formulas of the others do not give them."""

RULED, KINDS = 16, 8
"""Wrong lengths from which rules for the blocks are found, and of how many kinds they may be."""

REPRESENTATIVES = 2
"""Lengths that are looked into."""

ROUND = (32, 192)
"""Lengths that leave nothing over, at which formulas are checked as well."""

NAMED = (
    *(*range(300), 511, 513, 767, 1000, 1024, 1025, 1027, 2048, 2049, 2051, 4097, 5000),
    *(32767, 32768, 32769),
)
"""Lengths at which a mistake of the catalogue must count the same blocks to be named."""


def counted(bench: Bench, failed: Sequence[CallResult]) -> Iterator[Measured]:
    """Find at which lengths which blocks are not counted once, with their own block of the other row."""
    failing = sorted({f.call.n // 32 for f in failed})
    longest = failing[-1]
    every = range(1, min(EVERY, 2 * longest + 40) if failing[0] <= EVERY else SOME)
    long = {nb for nb in failing if nb > EVERY}
    if min(failing) > EVERY:
        long = {*sorted(long)[:LONG], longest, *(nb for nb in POWERS if nb <= longest)}
    else:
        long = {*sorted(long)[:2], *sorted(long)[-1:]}
    tried = [nb for nb in (*every, *sorted(long)) if greatest_code(bench, nb) > 1]
    verdicts: dict[int, bool] = {}
    for nb in tried:
        verdicts[nb] = _is_right(bench, nb)
        if sum(not right for right in verdicts.values()) > 40 and nb > EVERY:
            break
    wrong = [nb for nb, right in verdicts.items() if not right]
    if not wrong:
        return
    where = _condition(bench, verdicts)
    if where is None and len(wrong) > IRREGULAR:
        return  # Loops lose blocks at lengths that have a rule; sums that round go wrong anywhere.
    wrong = sorted({*(nb for nb, right in verdicts.items() if not right), *([where.least] if where else [])})
    if found := _repeated(bench, verdicts):
        yield found
        return
    segments = {nb: Counted(bench, nb).segments() for nb in _representatives(wrong)}
    known = {nb: found for nb, found in segments.items() if found}
    if not known or not all(map(Counted(bench, min(known)).is_alike, SCALES)):
        return
    found = _fact(bench, where, known, wrong)
    checked = [*failing, *(nb for nb in (_further(where) if where else ()) if greatest_code(bench, nb) > 1)]
    others = {
        nb: parts
        for nb in [nb for nb in checked if nb not in known and not _agrees(bench, found, nb)][:EXPLICIT]
        if (parts := Counted(bench, nb).segments())
    }
    if others:
        # Formulas of short rows need not be those of long ones: fit them to both.
        found = _fact(bench, where, known | others, wrong)
        if not found.changes or not all(_agrees(bench, found, nb) for nb in others):
            found = _fact(bench, where, known, wrong, others)
    general = found.changes and (not others or all(_agrees(bench, found, nb) for nb in others))
    ruled = None if general and not others else _ruled(bench, verdicts)
    yield ruled or found


def _repeated(bench: Bench, verdicts: Mapping[int, bool]) -> Measured | None:
    """Return the fact about blocks at the same places of every group, where it gives all short rows."""
    wrong, right = (sorted(nb for nb, of in verdicts.items() if of == kind) for kind in (False, True))
    repeated = find_repeated(bench, wrong, right)
    if repeated is None:
        return None
    one, nb = repeated.segment, wrong[0]
    kind, _ = _kind(bench, [one], [True], None)
    rule, _ = _broken(bench, kind)
    what = one.words(bench.nrc, single=True, ends=(repeated.words, ""))
    call = Counted(bench, nb)
    found = bench.measured(
        kind,
        {"at": nb, "blocks": [{**repeated.to_json(), **one.to_json()}]},
        f"{what[0].upper()}{what[1:]}.",
        rule=rule,
        fix="Give every block of the unrolled loop its own number in both rows.",
        evidence=[bench.evidence(call.call(call.x, call.y), f"nb = {nb}")],
        cause=_cause(repeated.meeting, [nb]),
        changes={"blocks": repeated.meeting},
    )
    short = [nb for nb in wrong if nb <= EVERY]
    return found if all(_agrees(bench, found, nb) for nb in short[:: len(short) // CHECKED + 1]) else None


def _ruled(bench: Bench, verdicts: Mapping[int, bool]) -> Measured | None:
    """Return the fact about blocks whose places have rules, one for each result and what happens to them."""
    wrong, right = (sorted(nb for nb, of in verdicts.items() if of == kind) for kind in (False, True))
    treated: dict[int, dict[Segment, Array]] = {nb: {} for nb in right}

    def ask(nb: int) -> dict[Segment, Array]:
        if nb not in treated:
            treated[nb] = {}
            for one in Counted(bench, nb).segments() or ():
                where = treated[nb].setdefault(replace(one, start=0, stop=0), np.zeros(nb, np.bool_))
                where[one.start : one.stop] = True
        return treated[nb]

    def treated_so(one: Segment, nb: int) -> tuple[Array, None]:
        return ask(nb).get(one, np.zeros(nb, np.bool_)), None

    some = [wrong[place] for place in np.unique(np.linspace(0, len(wrong) - 1, RULED).astype(int))]
    kinds = {kind for nb in some for kind in ask(nb)}
    rules: dict[Segment, Rule] = {}
    for one in sorted(kinds, key=lambda one: (one.column, one.row, str(one))) if len(kinds) <= KINDS else ():
        seen = Seen({nb: of.get(one, np.zeros(nb, np.bool_)) for nb, of in treated.items()})
        rule = find_rule(seen, partial(treated_so, one), EVERY)
        if rule is None or rule.position.kind == "any":
            return None
        rules[one] = rule
    if not rules:
        return None

    def blocks(nb: int, row: int, column: int) -> tuple[Array, ...]:
        own = (one for one in rules if bench.nrc == 1 or (one.row, one.column) == (row, column))
        return meeting(nb, row, column, [(np.flatnonzero(rules[one].holds(nb)), one) for one in own])

    kind, _ = _kind(bench, list(rules)[:1], [True], None)
    broken, fix = _broken(bench, kind)
    first = Counted(bench, wrong[0])
    found = bench.measured(
        kind,
        {"at": wrong[0], "blocks": [{**of.to_json(), **one.to_json()} for one, of in rules.items()]},
        f"{'; '.join(_ruled_words(rules, bench.nrc))}.",
        rule=broken,
        fix=fix,
        evidence=[bench.evidence(first.call(first.x, first.y), f"nb = {wrong[0]}")],
        changes={"blocks": blocks},
    )
    return found if all(_agrees(bench, found, nb) for nb in wrong[:: len(wrong) // CHECKED + 1]) else None


def _ruled_words(rules: Mapping[Segment, Rule], nrc: int) -> Iterator[str]:
    """Say what happens to blocks, and in which results: those that are treated alike together."""
    alike: dict[tuple[Segment, Rule], list[str]] = {}
    for one, rule in rules.items():
        same = alike.setdefault((replace(one, row=0, column=0), rule), [])
        same.append(f"x{one.row}·y{one.column}")
    for (one, rule), names in alike.items():
        of = f" of {' and '.join(names)}" if nrc == 2 and len(names) < nrc * nrc else ""
        length = " and ".join(c.text("nb", of_length=True) for c in rule.length)
        text = f"{rule.position.text('block', 'nb')}{one.of(of)} {one.predicate(single=not rule.is_plural)}"
        yield f"Where {length}, {text}" if length else f"{text[0].upper()}{text[1:]}"


def _further(where: Lengths) -> list[int]:
    """Return more lengths of a condition, of many remainders, to check formulas on."""
    numbers = (503, 2741, 6837) if where.modulus == 1 else (7, 43)
    steps = (where.modulus * k for k in numbers if k < 2 * where.least)
    further = [*ROUND, *(where.least + step for step in steps)]
    return [nb for nb in further if where.holds(nb)]


def _agrees(bench: Bench, found: Measured, nb: int) -> bool:
    """Return whether a row of a length is counted as a fact has it."""
    if not found.changes:
        return True
    counted = Counted(bench, nb)
    call = counted.call(counted.x, counted.y)
    return matches(model_of([found]), CallResult(call, bench.outputs(call))) or bench.factor != 1


def _condition(bench: Bench, verdicts: dict[int, bool]) -> Lengths | None:
    """Fit a condition to lengths that are right and wrong; try others that it is about, until they agree."""
    for _ in range(REFITS):
        wrong = [nb for nb, right in verdicts.items() if not right]
        where = fit(wrong, [nb for nb, right in verdicts.items() if right])
        if where is None or where.most == where.least:
            return where
        where = _least(bench, where, verdicts)
        last = where.most or max(*wrong, where.least + 40)
        others = [nb for nb in _others(where) if nb <= last and nb not in verdicts]
        for nb in others[:CHECKED]:
            verdicts[nb] = _is_right(bench, nb)
        if not any(verdicts[nb] == where.holds(nb) for nb in others[:CHECKED]):
            return where
    return None


def _is_right(bench: Bench, nb: int) -> bool:
    """Return whether blocks are counted rightly (one that meets another may be right by chance)."""
    return all(Counted(bench, nb, codes).is_right() for codes in ("counted", "again", "once more"))


def _others(where: Lengths) -> list[int]:
    """Return lengths near the first one of a condition, and some of its remainders a few moduli on."""
    near = [where.least + k for k in range(1, 5)]
    far = [where.least + where.modulus * k for k in (1, 2, 3, 5)]
    start = where.least // where.modulus * where.modulus
    multiples = [start + where.modulus * 2**k for k in range(8)] if where.modulus > 1 else []
    return [*multiples, *far, *near, 2 * where.least + 1, where.least + where.least // 2]


def _representatives(wrong: Sequence[int]) -> list[int]:
    """Choose lengths to look into: the shortest ones, and the longest."""
    short = [nb for nb in wrong if nb < EVERY]
    chosen = {*wrong[:REPRESENTATIVES], wrong[len(wrong) // 2], *short[-1:]}
    return sorted(nb for nb in chosen if nb <= max(2 * wrong[0], EVERY))


def _least(bench: Bench, where: Lengths, verdicts: dict[int, bool]) -> Lengths:
    """Find the first length of a condition by bisection: between the last right one before it and its own."""
    if where.most == where.least:
        return where
    step = where.modulus
    met = [
        nb
        for nb, right in verdicts.items()
        if right and nb < where.least and where.low <= nb % step <= where.high
    ]
    low, high = max(met, default=0), where.least
    if high - low <= step or high <= EVERY:
        return where
    while high - low > step:
        middle = (low + high) // 2
        middle -= (middle - high) % step  # of the same remainder as the wrong one
        if middle <= low:
            break
        if _is_right(bench, middle):
            low = middle
        else:
            high = middle
    return Lengths(high, step, where.low, where.high, where.most)


def _fact(
    bench: Bench,
    where: Lengths | None,
    known: dict[int, list[Segment]],
    wrong: Sequence[int],
    others: Mapping[int, list[Segment]] = MappingProxyType({}),
) -> Measured:
    """Return the fact about the segments of some lengths; at the others they are no formulas' values."""
    nb = min(known, default=wrong[0])
    first = known.get(nb, [])
    seen = {length: found for length, found in known.items() if found and len(found) == len(first)}
    general = _general(seen) if first else None
    lengths = where or Lengths(wrong[0], most=wrong[-1])
    singles = [all(found[k].stop - found[k].start == 1 for found in seen.values()) for k in range(len(first))]
    kind, what = _kind(bench, first, singles, general[0] if general and not others else None)
    ends: Sequence[tuple[Any, ...]] = general[0] if general else [(one.start, one.stop, "") for one in first]
    blocks = [
        {"from": start, "to": stop, **one.to_json(), **({"meets": met} if met else {})}
        for (start, stop, met), one in zip(ends, first, strict=True)
    ]
    rule, fix = _broken(bench, kind)
    call = Counted(bench, nb)
    text = ": ".join(filter(None, (f"nb = {nb}", "; ".join(one.words(bench.nrc) for one in first[:3]))))
    evidence = [bench.evidence(call.call(call.x, call.y), text)]
    found = {"lengths": lengths.to_json() if where else sorted(wrong)[:16], "at": nb, "blocks": blocks}
    condition = (
        str(lengths) if where else f"nb = {', '.join(map(str, sorted(wrong)[:6]))}{', …' * (len(wrong) > 6)}"
    )
    shown = f"blocks are miscounted: at nb = {nb}, " if others or general is None else ""
    sentence = f"Where {condition}, {shown}{what}."
    if general is not None and where is not None and kind != "version-2-field":
        step = _blocks(general[1], first, lengths, bench.nrc, others)
        cause = _cause(step, sorted(known)) if bench.nrc == 1 else ""
        changes = {"blocks": step}
        return bench.measured(
            kind, found, sentence, cause=cause, rule=rule, fix=fix, evidence=evidence, changes=changes
        )
    measured = set(wrong)

    def when(result: CallResult) -> bool:
        length = result.call.n // 32
        return length in measured or bool(where and where.holds(length))

    return bench.measured(kind, found, sentence, rule=rule, fix=fix, evidence=evidence, when=when)


def _general(seen: dict[int, list[Segment]]) -> tuple[list[tuple[str, ...]], list[tuple[Any, ...]]] | None:
    """Return the ends of the segments, and blocks that they meet, as formulas of the length; None without.

    Names and functions of each; where they meet blocks as far away at every length, "" and None.
    """
    names: list[tuple[str, ...]] = []
    functions: list[tuple[Any, ...]] = []
    for number in range(len(next(iter(seen.values())))):
        ones = {nb: found[number] for nb, found in seen.items()}
        moved = len({one.shift for one in ones.values()}) > 1
        if len({replace(one, shift=0).treatment if moved else one.treatment for one in ones.values()}) > 1:
            return None
        # (Not so far away, but at a place of its own.)
        met = formula({nb: one.start + (one.shift or 0) for nb, one in ones.items()}) if moved else ("", None)
        start = formula({nb: one.start for nb, one in ones.items()})
        stop = formula({nb: one.stop for nb, one in ones.items()})
        sizes = {one.stop - one.start for one in ones.values()}
        if start and stop is None and len(sizes) == 1:
            size = sizes.pop()
            stop = f"{start[0]} + {size}", lambda nb, of=start[1], size=size: of(nb) + size
        if start is None or stop is None or met is None:
            return None
        names.append((start[0], stop[0], met[0]))
        functions.append((start[1], stop[1], met[1]))
    return names, functions


def _blocks(
    functions: list[tuple[Any, ...]],
    first: Sequence[Segment],
    lengths: Lengths,
    nrc: int,
    others: Mapping[int, list[Segment]],
) -> Any:  # noqa: ANN401 - a step
    """Return the step of a model that counts blocks so."""

    def blocks(nb: int, row: int, column: int) -> tuple[Array, ...]:
        if nb not in others and not lengths.holds(nb):
            return own_blocks(nb, row, column)
        segments = list(others.get(nb, first))
        ends = [(one.start, one.stop) for one in segments]
        if nb not in others:
            ends = [(max(start(nb), 0), stop(nb)) for start, stop, _ in functions]
            segments = [
                replace(one, shift=met(nb) - start(nb)) if met else one
                for one, (start, _, met) in zip(segments, functions, strict=True)
            ]
        placed = [
            (np.arange(begin, min(end, nb)), one)
            for (begin, end), one in zip(ends, segments, strict=True)
            if nrc == 1 or (one.row, one.column) == (row, column)
        ]
        return meeting(nb, row, column, placed)

    return blocks


def _kind(
    bench: Bench,
    segments: Sequence[Segment],
    singles: Sequence[bool],
    names: Sequence[tuple[str, ...]] | None,
) -> tuple[str, str]:
    """Return the fact, and what happens to the blocks."""
    ends = names or [(str(one.start), str(one.stop)) for one in segments]
    words = "; ".join(
        dict.fromkeys(
            one.words(bench.nrc, end, single=single)
            for one, single, end in zip(segments[:3], singles, ends, strict=False)
        )
    )
    if not segments:
        return "blocks-miscounted", "blocks are miscounted"
    one = segments[0]
    if one.shift is not None or one.x_row is not None:
        return "block-meets-another", words
    if one.times == OTHER_FIELD and bench.function == calls.DOT_REAL and bench.unused == UNUSED:
        return "version-2-field", words.replace(" 3 times", " with the scale of the other role")
    if one.times:
        return "block-counted-twice", words
    return "block-not-counted", words


def _cause(step: Any, lengths: Sequence[int]) -> str:  # noqa: ANN401 - a step
    """Return the catalogue's mistake that counts the same blocks, at these lengths and all short ones."""
    for mutant in MUTANTS.values():
        if "visited" in mutant.changes and calls.DOT in mutant.functions:
            visited = mutant.changes["visited"]
            if all(_same(step(nb, 0, 0), visited(nb)) for nb in (*NAMED, *lengths)):
                return mutant.slug
    return ""


def _same(met: tuple[Array, ...], visited: Array) -> bool:
    """Return whether the same blocks are counted as often."""
    return all(np.array_equal(np.sort(side), np.sort(visited)) for side in met)


def _broken(bench: Bench, kind: str) -> tuple[str, str]:
    """Return the rule that a fact breaks, and the fix."""
    if kind == "version-2-field":
        return "Q8A8-DOT-9", MUTANTS["v2-weight-scale-of-both"].fix
    if bench.nrc == 2:
        return "Q8A8-DOT-6", "Treat the rows of both x and y alike, every block once."
    return "Q8A8-DOT-10", MUTANTS["odd-block-lost"].fix
