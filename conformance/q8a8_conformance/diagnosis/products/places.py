"""Where the outputs of a matrix product come from: rows, scales, blocks, and what was there before.

What is measured at the shapes of failed calls (`measuring`) predicts the outputs of these calls; a
fact is attached to those that it predicts. Rows that do not keep apart are tried first (`shared`), then rules
for which outputs are of other rows, of miscounted blocks, or not written (`words`).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from q8a8_conformance.diagnosis.facts import Fact, remembered
from q8a8_conformance.diagnosis.products.judged import accounts_for_all, named, shown, spread
from q8a8_conformance.diagnosis.products.measuring import Measuring
from q8a8_conformance.diagnosis.products.rules import EVERYWHERE
from q8a8_conformance.diagnosis.products.shared import mixed_rows
from q8a8_conformance.diagnosis.products.sources import right
from q8a8_conformance.diagnosis.products.words import FORMULAS, KINDS, RULED, ruled, words, wrap
from q8a8_conformance.faults.catalogue import MUTANTS
from q8a8_conformance.inputs import calls
from q8a8_conformance.protocol.session import SessionError
from q8a8_conformance.results.observations import Failure
from q8a8_conformance.results.record import count as counted
from q8a8_conformance.reveal.places import find_lengths

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from q8a8_conformance.diagnosis.facts import Explains
    from q8a8_conformance.diagnosis.products.sources import Sources
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.results.observations import CallResult
    from q8a8_conformance.reveal.places import Condition
    from q8a8_conformance.reveal.quantizers.calls import AnySession


PERIODIC = (1, 2, 3, 4, 5, 7, 8, 9, 16)
"""Rows of w, or of x, in which it is seen whether blocks come again."""

SHAPES, OUTPUTS = 200, 1 << 18
"""Shapes, and outputs of a shape, that are looked at."""


def place_facts(session: AnySession, failures: Sequence[Failure]) -> list[Fact]:
    """Find out which rows, blocks and earlier contents the outputs of failed calls are made of.

    Each fact explains a failed call that none before it does.
    """
    shapes = dict.fromkeys((one.call.bs, one.call.bx, one.call.n // 32) for one in failures)
    small = sorted((shape for shape in shapes if 0 < shape[0] * shape[1] <= OUTPUTS), key=_size)
    measure = Measuring(session)
    measured: list[Sources] = []
    with suppress(SessionError):
        # (What was measured when the time is up is kept.)
        measured += (measure(shape) for shape in spread(small, SHAPES))
    left, facts = list(failures), list[Fact]()
    for fact in _facts(measured, measure):
        if explained := {id(one) for one in fact.explained(left)}:
            facts.append(fact)
            left = [one for one in left if id(one) not in explained]
        if not left:
            break
    return facts


def is_of_any_shape(fact: Fact) -> bool:
    """Return whether a fact's sentence is about products of any shape, not of one."""
    return "shapes" not in fact.where or bool({"outputs", "blocks", "period", "sizes"} & {*fact.where})


def _facts(measured: Sequence[Sources], measure: Measuring) -> Iterator[Fact]:
    """Yield facts, the most far-reaching first."""
    of_kind: dict[str, list[tuple[Sources, Array]]] = {}
    for sources in measured:
        for kind, wrong in sources.kinds():
            of_kind.setdefault(kind, []).append((sources, wrong))
    if "outputs-not-written" in of_kind and "empty-not-written" in of_kind:
        of_kind["outputs-not-written"] += of_kind.pop("empty-not-written")
    if "outputs-added" in of_kind:
        # (Nothing added looks like nothing written.)
        of_kind["outputs-added"] += of_kind.pop("empty-not-written", [])
    yield from _of_mixed(measured, measure)
    for kind, held in of_kind.items():
        yield _fact(kind, held, measure)


def _of_mixed(measured: Sequence[Sources], measure: Measuring) -> Iterator[Fact]:
    """Yield that outputs contain products of other rows, too."""
    if found := mixed_rows(measured, measure):
        mixed, outputs, blocks, accounts = found
        of = ""
        if blocks.position.kind != "any":
            outputs, of = replace(outputs, blocks=EVERYWHERE), f", in {blocks.text('block', 'nb')}"
        else:
            outputs = replace(outputs, blocks=blocks)
        sentence = f"{outputs.text} also contain the products of {mixed.words} of {mixed.side}{of}."
        data = {
            "side": mixed.side,
            "rows": mixed.words,
            "outputs": outputs.to_json(),
            "blocks": blocks.to_json(),
        }
        first = next(one for one in measured if one.mixed.any())
        explains = remembered(partial(accounts_for_all, accounts))
        fact = _of_formula("sums-of-other-rows", data, sentence, first, explains)
        yield replace(fact, outputs=accounts)


def _of_formula(kind: str, where: dict[str, Any], sentence: str, first: Sources, explains: Explains) -> Fact:
    """Return the fact that a formula is."""
    rule, fix = FORMULAS[kind]
    return Fact(
        *(kind, where, rule, sentence, fix, ""),
        function=calls.MUL_MAT,
        evidence=shown(first.made),
        explains=explains,
    )


def _size(shape: tuple[int, int, int]) -> tuple[int, int]:
    m, n, nb = shape
    return m * n + nb, nb


def _fact(kind: str, held: Sequence[tuple[Sources, Array]], measure: Measuring | None = None) -> Fact:
    """Return the fact that some shapes have in common; `measure` looks at others, to find a rule for all."""
    rule, alike = KINDS[kind]
    slug = named([each for sources, _ in held for each in sources.made], rule, alike)
    first, wrong = held[0]
    m, n, nb = first.shape
    sentence = f"With m = {m}, n = {n} and {counted(nb, 'block')} in a row {words(kind, first, wrong)}."
    by_shape = {sources.shape: sources for sources, _ in held}

    def explains(result: CallResult) -> bool:
        sources = by_shape.get((result.call.bs, result.call.bx, result.call.n // 32))
        return isinstance(result, Failure) and sources is not None and sources.predicts(result)

    shapes = [dict(zip(("m", "n", "blocks"), each.shape, strict=True)) for each, _ in held]
    where: dict[str, Any] = {
        "shapes": [{**shape, "outputs": int(of.sum())} for shape, (_, of) in zip(shapes, held, strict=True)]
    }
    if any(first.periods):
        where["periods"] = dict(zip("wx", first.periods, strict=True))
        if measure is not None and (sizes := _sizes_of_periods(first, measure)) is not None:
            texts = [one.text(side, of_length=True) for side, some in sizes.items() for one in some]
            lead = f"Where {' and '.join(texts)}, " if texts else ""
            sentence = f"{lead}{words(kind, first, wrong)}."
            sentence = f"{sentence[0].upper()}{sentence[1:]}"
            where["sizes"] = {side: [one.to_json() for one in some] for side, some in sizes.items()}
    elif first.counts:
        where["counts"] = [{"block": b, "times": n} for b, n in first.counts.items() if n != 1]
    side, period = wrap(first) if kind == "outputs-of-other-rows" else ("", 0)
    if (
        period
        and all(wrap(sources) == (side, period) for sources, _ in held)
        and not _is_part(side, period, held)
    ):
        alike, where["period"] = "matrix-k-in-sixteen-bits", period
        sentence = f"The rows of {side} are those whose number is their own modulo {period}."
        explains = partial(_comes_again, side, period)
    elif measure is not None and kind in RULED:
        with suppress(SessionError):
            sentence, of_all = ruled(kind, [sources for sources, _ in held], measure) or (sentence, {})
            where |= of_all
    return Fact(
        *(kind, where, rule, sentence, MUTANTS[slug or alike].fix, slug),
        function=calls.MUL_MAT,
        evidence=shown(first.made),
        explains=explains,
    )


def _sizes_of_periods(first: Sources, measure: Measuring) -> dict[str, tuple[Condition, ...]] | None:
    """Return for which m and n blocks come again, as conditions by "m" and "n"; None where none says it."""
    m, n, nb = first.shape
    found = {}
    with suppress(SessionError):
        for side, own in (("m", m), ("n", n)):
            shapes = {size: (size, n, nb) if side == "m" else (m, size, nb) for size in {*PERIODIC, own}}
            is_so = {size: measure(shape).periods == first.periods for size, shape in shapes.items()}
            hit, missed = ([size for size, so in is_so.items() if so is value] for value in (True, False))
            found[side] = find_lengths(hit, missed)
            if missed and not found[side]:
                return None
        return found
    return None


def _is_part(side: str, period: int, held: Sequence[tuple[Sources, Array]]) -> bool:
    """Return whether a number of rows is half of those of the only shape: it may depend on them."""
    counts = {sources.shape[0 if side == "w" else 1] for sources, _ in held}
    return len(counts) == 1 and 2 * period in counts


def _comes_again(side: str, period: int, result: CallResult) -> bool:
    """Return whether a failed call's outputs are of rows that come again after so many."""
    if not isinstance(result, Failure) or not result.call.n:
        return False
    sources = right((result.call.bs, result.call.bx, result.call.n // 32))
    if side == "x":
        sources.rows = sources.scales = sources.rows % period
    else:
        sources.columns = sources.weight_scales = sources.columns % period
    return sources.predicts(result)
