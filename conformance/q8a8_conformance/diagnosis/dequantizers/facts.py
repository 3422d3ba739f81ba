"""What dequantization does wrong, as facts: laws that give every call that was made.

layout
    Of a short row it is seen at which bytes blocks are read.
laws
    What the calls (`cases`) gave is compared with every form (`forms`); a form, and a
    condition of it (`conditions`), are a law. Those that give everything are looked for
    (`search`), and those that a call contradicts are none.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.diagnosis.dequantizers.cases import Cases
from q8a8_conformance.diagnosis.dequantizers.model import (
    BLOCK,
    CODES,
    SIZE,
    Condition,
    Dequantizer,
    build_row,
    is_alike,
    outputs,
    places_of,
)
from q8a8_conformance.diagnosis.dequantizers.other import by_values, explains_other, other_law
from q8a8_conformance.diagnosis.dequantizers.search import Search
from q8a8_conformance.diagnosis.dequantizers.state import (
    COMPARE_ALL,
    depends_on_calls,
    goes_on,
    neutral,
    over_calls,
)
from q8a8_conformance.diagnosis.facts import Difference, Evidence, Fact, words
from q8a8_conformance.diagnosis.limits import seconds_left
from q8a8_conformance.diagnosis.measured_function import MeasuredFunction
from q8a8_conformance.diagnosis.quantizers.values import state_facts
from q8a8_conformance.inputs.calls import DEQUANTIZE
from q8a8_conformance.protocol.deadline import Deadline
from q8a8_conformance.reveal.asking import NoAnswerError
from q8a8_conformance.reveal.quantizers.words import ranges

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from q8a8_conformance.diagnosis.dequantizers.model import Law
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.results.observations import Failure
    from q8a8_conformance.reveal.quantizers.calls import AnySession

FIXES = {
    "row": ("Q8A8-DEQ-1", "Write the scale of block b, times its code j, to y[32·b + j]."),
    "scale": ("Q8A8-HLF-3", "Convert every half alike: take its exact value."),
    "code": ("Q8A8-DEQ-2", "Take every int8 as it is."),
    "product": (
        "Q8A8-DEQ-1",
        "Multiply in float32: the product is exact, and a zero has the sign of its factors.",
    ),
    "store": ("Q8A8-DEQ-1", "Write d · q of each element, whatever was there."),
}
"""The rule that is broken at each stage, and what to do."""

SEARCHED, LEFT = 0.6, 1.0
"""The part of the time in which laws are searched for, and the seconds that a search for where elements are
others takes."""

READ_AT = "Read the scale of block b at byte 34·b, and its element j at byte 34·b + 2 + j."

CAUSES = {
    ("place-unwritten", "the blocks beyond a multiple of 4 where nb >= 5"): "dequantize-tail-lost",
    ("place-unwritten", "every block beyond their count modulo 2048"): "dequantize-count-of-sixteen-bits",
}
"""The catalogue's names of what happens at some places: the fact, and the rule in words."""


def dequantizer_facts(session: AnySession, failures: Sequence[Failure]) -> list[Fact]:
    """Find what a dequantizer that has failed does wrong: the facts that explain most failed calls first."""
    cases = Cases(session)
    try:
        is_kept = depends_on_calls(cases.make, failures)
        cases.before = neutral if is_kept else None
        found = _layout(cases)
        cases.collect(() if is_kept else failures)
        model = Search(cases, Deadline(SEARCHED * seconds_left(session))).model
        goes = [law for law in model.laws if is_kept and goes_on(law, model, cases)]
        is_late = seconds_left(session) < LEFT
        other = None if is_kept or is_late else other_law(cases, model)
    except NoAnswerError:
        return []  # How it dies is another finding.
    laws = [_of_law(law) for law in model.laws]
    found += laws
    made = MeasuredFunction(DEQUANTIZE, model, Dequantizer(), outputs, cases.make, _shown, is_alike)
    candidates, others = partial(_candidates, cases), partial(state_facts, cases.make, failures)
    facts = [] if goes else made.facts(found, candidates, failures, others)
    for law in goes:
        named = laws[model.laws.index(law)].sentence
        # (What the calls before have left is in no model of one call.)
        facts = facts or made.facts(found, candidates, (), list, is_sure=True)
        facts = [over_calls(fact, law, model) if fact.sentence == named else fact for fact in facts]
    if goes:
        facts = [fact for fact in facts if fact.explained(failures)] or others()
    left = [one for one in failures if not any(fact.explains(one) for fact in facts)]
    if left and other:
        facts += [one for one in [_as_fact(other, model, left)] if one.explained(left)]
    elif left and not facts and not is_kept and (fact := by_values(cases, failures)):
        facts = [fact]
    return facts


def _as_fact(law: Law, model: Dequantizer, failures: Sequence[Failure]) -> Fact:
    """Return the fact that elements are others where a law says, whatever they are."""
    named, first = _of_law(law), min(failures, key=lambda one: one.call.n)
    shown = first.call, first.expected, first.outputs
    return Fact(
        *(named.fact, named.where, named.rule, named.sentence, named.fix, ""),
        function=DEQUANTIZE,
        evidence=(Evidence(*shown, _shown(*shown)),),
        explains=partial(explains_other, law, model),
    )


def _layout(cases: Cases) -> list[Difference]:
    """Find other places of the scale and the codes in a block, and blocks that are not 34 bytes apart."""
    # (Bytes that are a scale and codes of ordinary size wherever they are read.)
    row = np.random.default_rng(8).integers(0x18, 0x20, (8, SIZE)).astype(np.uint8) * 2
    got = cases.bits(row)
    for stride, scale, codes in itertools.product(
        (34, *range(32, 41)), (0, 32, *range(1, 5)), (2, *range(5))
    ):
        model = Dequantizer(partial(places_of, stride=stride, scale=scale, codes=codes))
        blocks = model.blocks(row, got, got)
        if (model.bits(blocks, np.arange(8)) == got)[blocks.usable].all():
            break
    else:
        return []
    if (stride, scale, codes) == (34, 0, 2):
        return []
    cases.model = model
    slug = {(34, 32, 0): "scale-read-last", (36, 0, 2): "block-padded"}.get((stride, scale, codes), "")
    what = f"Blocks are read {stride} bytes apart, scale at byte {scale}, codes from byte {codes} on."
    named = words("" if slug else what, cause=slug, rule="" if slug else "Q8A8-LAY-1", fix=READ_AT)
    where = {"stride": stride, "scale": scale, "codes": codes}
    return [Difference("layout", where, *named, partial(replace, places=places_of))]


def _of_law(law: Law) -> Difference:
    """Return the difference that a law is."""
    form, where = law.form, law.where
    place = where.places.text("block", "nb") if where.places else ""
    cause = form.cause if not where.cost else ""
    cause = CAUSES.get((form.fact, place), "") if where.places and where == Condition(where.places) else cause
    data: dict[str, Any] = {"what": form.what, **form.data}
    data |= where.places.to_json() if where.places else {}
    data |= {"elements": list(where.lanes)} if where.lanes else {}
    data |= {"values": where.values.text} if where.values else {}
    rule, fix = FIXES[form.stage]
    if form.fact == "layout":
        rule, fix = "Q8A8-LAY-1", READ_AT
    elif {"adjacent", "like"} & form.data.keys():
        fix = COMPARE_ALL
    if where.values and "subnormal" in where.values.text and form.stage == "scale":
        rule = "Q8A8-HLF-2"
    # (What is not in the row is taken from the block itself.)
    ends = {"next block": "; the last one has its own", "block before it": "; the first one has its own"}
    own = "" if where.places else next((text for name, text in ends.items() if form.what.endswith(name)), "")
    sentence = f"{_condition(where, place)}{form.what}{own}."
    named = words(
        "" if cause else f"{sentence[0].upper()}{sentence[1:]}",
        cause=cause, like=form.cause, rule="" if form.cause or cause else rule, fix=fix,
    )  # fmt: skip
    return Difference(form.fact, data, *named, lambda model: model.without(law))


def _condition(where: Condition, place: str) -> str:
    """Return where a law holds, as the start of a sentence."""
    parts = []
    if where.lanes:
        noun = "element" if len(where.lanes) == 1 else "elements"
        parts.append(f"in {noun} {ranges(list(where.lanes))} of {place or 'every block'}")
    elif place:
        parts.append(f"in {place}")
    if where.values:
        parts.append(f"where {where.values.text}")
    return f"{', '.join(parts)}: " if parts else ""


def _candidates(cases: Cases) -> Iterator[Call]:
    """Yield calls that may show a difference, the short ones first."""
    blocks = cases.blocks()
    wrong = np.flatnonzero(
        (cases.model.bits(blocks, np.arange(len(blocks.n))) != blocks.got).any(axis=1) & blocks.usable
    )
    data = np.concatenate([blocks.h.astype("<u2").view(np.uint8).reshape(-1, 2), blocks.q], axis=1)
    for b in wrong[:: max(len(wrong) // 8, 1)]:
        yield build_row(data[[b]])
    for b in wrong[np.argsort(blocks.n[wrong], kind="stable")][:: max(len(wrong) // 32, 1)]:
        yield build_row(data[blocks.first[b] : blocks.first[b] + blocks.n[b]])


def _shown(call: Call, expected: tuple[bytes, ...], actual: tuple[bytes, ...]) -> str:
    """Describe the first difference in one line."""
    want, got = (np.frombuffer(outputs[0], "<f4") for outputs in (expected, actual))
    i = int(np.flatnonzero(want.view(np.uint32) != got.view(np.uint32))[0])
    row = np.frombuffer(bytes(call.buffers[0].data), np.uint8).reshape(-1, SIZE)
    b, j = divmod(i, BLOCK)
    half = int(row[b, 0]) | int(row[b, 1]) << 8
    read = f"scale 0x{half:04x}, code {CODES[row[b, 2 + j]]}"
    return f"element {j} of block {b}, {read}: expected {want[i]!s}, got {got[i]!s}"
