"""Codes of a product with an offset, as unsigned bytes have one: what is taken off for it wrongly.

Where all codes of one side are zero a right output is 0, whatever the other side holds: one product shows for
many rows of it what is left, and so by which function of its codes what is taken off is made
(`dots.stages.corrections`).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from q8a8 import layout
from q8a8_conformance.diagnosis.dots.stages import corrections
from q8a8_conformance.diagnosis.facts import Fact, remembered
from q8a8_conformance.diagnosis.products.judged import (
    Given,
    accounts_for_all,
    agreeing,
    of_product,
    quantized,
    shown,
    spread,
    wrong_outputs,
)
from q8a8_conformance.diagnosis.products.rules import EVERYWHERE
from q8a8_conformance.diagnosis.products.steps import magnitudes
from q8a8_conformance.diagnosis.products.terms import terms_of
from q8a8_conformance.inputs import calls, dot_rows
from q8a8_conformance.results.expected_product import outputs_of
from q8a8_conformance.reveal.places import Condition, Rule

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from q8a8_conformance.diagnosis.products.judged import Made
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.results.observations import Failure
    from q8a8_conformance.reveal.quantizers.calls import AnySession

RULE = "Q8A8-MUL-5"

BLOCKS = (
    EVERYWHERE,
    *(Rule(Condition(kind, m)) for m in (2, 4, 8) for kind in ("left-over", "whole")),
    Rule(Condition("last")),
)
"""In which blocks of a row it may be."""

COMPARED = 40
"""Failed calls by which they are told, at most."""


def offset_facts(session: AnySession, failures: Sequence[Failure]) -> list[Fact]:
    """Find what is added to the sum of a block by codes of one side beside zeros of the other."""
    made: list[Made] = []
    for (found,) in corrections(partial(_alone, session, made)):
        steps = [partial(_accounts, found.changes["correction"], blocks) for blocks in BLOCKS]
        some = spread(sorted(failures, key=lambda one: one.call.bs * one.call.bx * one.call.n), COMPARED)
        counts = [sum(accounts_for_all(accounts, one) for one in some) for accounts in steps]
        accounts, blocks = steps[int(np.argmax(counts))], BLOCKS[int(np.argmax(counts))]
        if not any(accounts(one).any() for one in failures):
            continue
        where, sentence = of_product(found.where, found.sentence)
        if not blocks.is_any:
            where = {**where, "blocks": blocks.to_json()}
            sentence = f"In {blocks.text('block', 'nb')}, {sentence[0].lower()}{sentence[1:]}"
        return [
            Fact(
                *(found.fact, where, RULE, sentence, found.fix, ""),
                function=calls.MUL_MAT,
                evidence=shown(made),
                explains=remembered(partial(accounts_for_all, accounts)),
                outputs=accounts,
            )
        ]
    return []


def _alone(session: AnySession, made: list[Made], side: str, codes: Array) -> Array:
    """Return the outputs of rows of w ("x") or of x ("y") of one block of codes [k, 32], beside zeros."""
    if side == "y":
        w, x = dot_rows.filled(1, 0)[np.newaxis], codes.astype(np.float32)
    else:
        rows = np.concatenate([np.zeros((1, 32)), codes])[:, np.newaxis].astype(np.int8)
        w, x = layout.pack(np.ones((len(rows), 1), np.float16), rows), np.zeros((2, 32), np.float32)
        x[0, -1] = x[1, 0] = 127
    call = calls.mul_mat(w, x)
    made.append((call, tuple(bytes(out) for out in session.call(call).outputs)))
    out = outputs_of(call, made[-1][1][0])
    if side == "y":
        return np.asarray(out[:, 0])
    # (What the 127 adds by itself is taken off.)
    left = out[:, 1:] - out[:, :1]
    return np.asarray(np.where(codes[:, -1] == 0, *left))


def _accounts(step: Callable[[Array, Array], Array], blocks: Rule, result: Failure) -> Array:
    """Return which wrong outputs have what is left of an offset: bool [n, m]."""
    if not result.call.n or (operands := quantized(result)) is None:
        return wrong_outputs(result) & False
    codes, scales = zip(
        *((of["weight_qs"], of["weight_scale"].astype(np.float64)) for of in operands), strict=True
    )
    added = np.zeros((len(codes[1]), len(codes[0])))
    for block in np.flatnonzero(blocks.holds(codes[0].shape[1])).tolist():
        w, x = (of[:, block].astype(np.int64) for of in codes)
        dw, dx = (of[:, block] for of in scales)
        left = step(w, np.zeros_like(w)) + step(np.zeros_like(x), x)[:, np.newaxis]
        added += left * (dx[:, np.newaxis] * dw)
    total = terms_of(*zip(codes, scales, strict=True)).sum(axis=2) + added
    return agreeing(result, Given(total, magnitudes(*operands) + np.abs(added)))
