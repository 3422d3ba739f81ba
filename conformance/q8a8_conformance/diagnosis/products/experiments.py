"""The experiments on a wrong matrix product, in their order: each looks at what those before it left."""

from __future__ import annotations

import itertools
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.diagnosis.facts import left_of
from q8a8_conformance.diagnosis.products.dots import dot_facts_of_products
from q8a8_conformance.diagnosis.products.facts import OF_ACTIVATIONS, product_facts
from q8a8_conformance.diagnosis.products.interleaved import interleaved_facts
from q8a8_conformance.diagnosis.products.judged import jointly
from q8a8_conformance.diagnosis.products.laws import law_facts
from q8a8_conformance.diagnosis.products.multiples import multiple_facts, zero_facts
from q8a8_conformance.diagnosis.products.offsets import offset_facts
from q8a8_conformance.diagnosis.products.packed_scales import packed_scale_facts
from q8a8_conformance.diagnosis.products.panel_strides import panel_stride_facts
from q8a8_conformance.diagnosis.products.placements import placement_facts
from q8a8_conformance.diagnosis.products.places import is_of_any_shape, place_facts
from q8a8_conformance.diagnosis.products.requantized import requantized_facts
from q8a8_conformance.diagnosis.products.segments import segment_facts
from q8a8_conformance.diagnosis.products.shared import amax_facts
from q8a8_conformance.diagnosis.products.steps import step_facts
from q8a8_conformance.diagnosis.products.wrapped import wrapped_facts
from q8a8_conformance.diagnosis.products.zero_rows import zero_row_facts
from q8a8_conformance.diagnosis.quantizers.values import AGAIN, state_facts
from q8a8_conformance.inputs import calls, mul_mat_rows
from q8a8_conformance.protocol.session import SessionError
from q8a8_conformance.results.expected_product import outputs_of
from q8a8_conformance.reveal.products.revealed import BRIEF, reveal_product

if TYPE_CHECKING:
    from collections.abc import Sequence

    from q8a8_conformance.diagnosis.facts import Explains, Fact
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.results.observations import CallResult, Failure
    from q8a8_conformance.reveal.products.regimes import RevealedProduct
    from q8a8_conformance.reveal.quantizers.calls import AnySession

PACKING = (interleaved_facts, packed_scale_facts, panel_stride_facts)
"""Experiments on panels of rows."""

BLOCK, LONGEST = 32, 64
"""Elements of a row of one block, and blocks of the longest row that may be a single panel."""

MANY = 20
"""One of so many failed calls, at least, panels must explain."""

FEW_LEFT = 0.02
"""The part of failed calls that other activations may leave unexplained."""

NEARLY_ALL = 10
"""One of so many calls may be left unexplained, where two mistakes meet in an output."""


def facts_of_products(session: AnySession, failures: Sequence[Failure]) -> list[Fact]:
    """Return where a matrix product's outputs come from, or else what they are the sums of."""
    made = [session.call(one.call).outputs for one in failures[:AGAIN]]
    if all(outputs == one.expected for outputs, one in zip(made, failures, strict=False)):
        return state_facts(lambda call: session.call(call).outputs, failures)
    if zero := zero_facts(session, failures):
        return zero
    return requantized_facts(session, failures, _facts_of_values) or _facts_of_values(session, failures)


def _facts_of_values(session: AnySession, failures: Sequence[Failure]) -> list[Fact]:
    """Return the same of outputs that are the same each time."""
    # (What a single block is right of, sums of several may be wrong of; else they take longer to see.)
    is_of_several = all(one.call.n > 32 for one in failures)
    first = (segment_facts, step_facts) if is_of_several else (step_facts, segment_facts)
    facts: list[Fact] = []
    with suppress(SessionError):
        # (What was found when the time is up is kept.)
        for look in (wrapped_facts, offset_facts, *PACKING, amax_facts, *first):
            if left := left_of(failures, facts):
                # (What gives the codes of small matrices may give few failed calls by chance.)
                least = len(left) // MANY if look in PACKING else 0
                facts += [fact for fact in look(session, left) if len(fact.explained(left)) > least]
        if left := left_of(failures, facts):
            facts += _sources_of_products(session, left)
    return [fact for fact in jointly(facts, failures) if fact.explained(failures)]


def _sources_of_products(session: AnySession, failures: Sequence[Failure]) -> list[Fact]:
    """Return the same of outputs that do not depend on their values."""
    stored = multiple_facts(session, failures) or placement_facts(session, failures)
    if not left_of(failures, stored):
        return stored
    others = _terms_of_products(session, failures)
    # (Of single rows that are others' a few shapes may say where they are stored.)
    return others if not left_of(failures, others) else [*stored, *others]


def _terms_of_products(session: AnySession, failures: Sequence[Failure]) -> list[Fact]:
    """Return what outputs that are at their places are made of."""
    # (Of a product that quantizes otherwise no term is right: laws would look for long, and find nothing.)
    revealed = reveal_product(session, BRIEF)
    with suppress(SessionError):
        kept = [fact for fact in product_facts(session, failures, revealed) if fact.rule == OF_ACTIVATIONS]
        if len(left_of(failures, kept)) <= FEW_LEFT * len(failures):
            return kept
    short = _first_row_alone(session, failures)
    # (In rows of one panel another row's last panel is its first one, too.)
    longer = [one for one in failures if one.call.n > BLOCK * short]
    facts = law_facts(session, longer, short + 1) if longer else []
    zero: list[Fact] = []
    joint = _with_recipes(session, facts, failures, revealed)
    if len(joint) > len(facts):
        return joint
    if left := left_of(failures, facts):
        with suppress(SessionError):
            zero = zero_row_facts(session, left)
        joint = jointly([*facts, *zero], failures)
        if zero and not left_of(failures, joint):
            return joint
        facts = _with_places(session, facts, failures)
    if left := left_of(failures, facts):
        facts += zero or dot_facts_of_products(session, left)
    if left := left_of(failures, facts):
        with suppress(SessionError):
            facts += product_facts(session, left, revealed)
    return facts


def _first_row_alone(session: AnySession, failures: Sequence[Failure]) -> int:
    """Return the most blocks of a row up to which all rows of x come out as the first one; 0 for none."""
    alike: dict[int, bool] = {}
    for one in failures:
        if one.call.n and one.call.bx > 1:
            nb = one.call.n // BLOCK
            alike[nb] = alike.get(nb, True) and _is_alike(one.call, one.outputs)
    short = max(itertools.takewhile(lambda nb: alike[nb], sorted(alike)), default=0)
    while 0 < short < LONGEST:
        call = calls.mul_mat(*mul_mat_rows.exact(2, 3, short + 1))
        if not _is_alike(call, session.call(call).outputs):
            break
        short += 1
    return short


def _is_alike(call: Call, outputs: Sequence[bytes | bytearray]) -> bool:
    """Return whether all rows of outputs are the first one."""
    out = outputs_of(call, bytes(outputs[0])).view(np.uint32)
    return bool((out == out[:1]).all())


def _with_places(session: AnySession, laws: Sequence[Fact], failures: Sequence[Failure]) -> list[Fact]:
    """Return laws, and facts of whole outputs: those that explain more, and what others explain besides."""
    places = place_facts(session, failures)
    left = left_of(failures, laws)
    of_any = [fact for fact in places if is_of_any_shape(fact)]
    # (Laws together explain what a fact by itself does not.)
    first, then = (of_any, laws) if len(left_of(failures, of_any)) <= len(left) else (laws, of_any)
    facts: list[Fact] = []
    for fact in (*first, *then, *(fact for fact in places if fact not in of_any)):
        same = next((one for one in facts if one.sentence == fact.sentence), None)
        if same:
            explains = partial(_explained_by, (same.explains, fact.explains))
            facts[facts.index(same)] = replace(same, explains=explains)
        elif fact in places and fact not in of_any and 4 * len(fact.explained(failures)) < len(failures):
            # (What a single shape shows explains few by chance.)
            continue
        elif fact.explained(left_of(failures, facts)) or (fact in first and fact.explained(failures)):
            facts.append(fact)
    return facts


def _with_recipes(
    session: AnySession, facts: Sequence[Fact], failures: Sequence[Failure], revealed: RevealedProduct
) -> list[Fact]:
    """Return laws, with what the rest of the outputs are made by if that explains nearly all that is left."""
    left = left_of(failures, facts)
    if not facts or not left:
        return [*facts]
    joint = jointly([*facts, *product_facts(session, left, revealed, facts)], failures)
    return joint if NEARLY_ALL * len(left_of(failures, joint)) <= len(left) else [*facts]


def _explained_by(every: Sequence[Explains], result: CallResult) -> bool:
    return any(explains(result) for explains in every)
