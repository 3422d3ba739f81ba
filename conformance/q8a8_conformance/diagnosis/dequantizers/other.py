"""What no form of a dequantizer gives: where elements are others, or that scale and code alone decide.

A condition of the wrong elements is looked for as that of a law. Where there is none, blocks and elements of
failed calls change places: results that do so, too, follow from an element's scale and code alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.diagnosis.dequantizers.conditions import find_condition
from q8a8_conformance.diagnosis.dequantizers.model import (
    BLOCK,
    CODES,
    SIZE,
    Condition,
    Dequantizer,
    Form,
    Law,
    blocks_of,
    build_row,
)
from q8a8_conformance.diagnosis.dequantizers.values import State
from q8a8_conformance.diagnosis.facts import Evidence, Fact, only
from q8a8_conformance.diagnosis.replay import replay
from q8a8_conformance.faults.catalogue import make
from q8a8_conformance.inputs.calls import DEQUANTIZE
from q8a8_conformance.reveal.asking import NoAnswerError
from q8a8_conformance.reveal.quantizers.calls import FILLS, filled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from q8a8_conformance.diagnosis.dequantizers.cases import Cases
    from q8a8_conformance.diagnosis.dequantizers.model import Blocks
    from q8a8_conformance.results.observations import CallResult, Failure

MOST, MOVED = 400, 12
"""Blocks of the longest failed call whose blocks change places, and how many such calls are made."""

MOST_SAID, LISTS = 4, ("0x", "one of")
"""What conditions on values may cost, and what lists have in their words."""

OTHER = Form(
    "store",
    "place-other",
    "something else comes out, of no form that was found",
    lambda _read, bits, _b: bits,
)


def other_law(cases: Cases, model: Dequantizer) -> Law | None:
    """Return where elements are wrong that a model does not give; None where no condition tells."""
    blocks = cases.blocks()
    state = _state(model, blocks)
    if not state.hit.any():
        return None

    condition = find_condition(state, lambda n: _state(model, cases.ask(n)))
    held = (condition or Condition()).holds(state.read) & ~state.missed
    # (A list of values that went wrong is no rule for those that did not come up.)
    values = condition.values if condition else None
    is_list = values is not None and (values.cost > MOST_SAID or any(word in values.text for word in LISTS))
    if condition is None or is_list or (state.hit & ~held).any():
        return None
    return Law(OTHER, condition)


def _state(model: Dequantizer, blocks: Blocks) -> State:
    at = np.arange(len(blocks.n))
    read = model.read(blocks, at)
    wrong = (model.bits(blocks, at, read) != blocks.got) & blocks.usable[:, np.newaxis]
    # (What is multiplied by 0 is right by chance, and so is a zero scale, unless most wrong ones are.)
    says = np.broadcast_to(blocks.usable[:, np.newaxis], wrong.shape)
    for is_zero in (read.q == 0, np.broadcast_to(read.h & 0x7FFF == 0, wrong.shape)):
        if 2 * (wrong & is_zero).sum() < wrong.sum():
            says = says & ~is_zero
    return State(read, wrong, ~wrong & says, np.zeros_like(wrong))


def explains_other(law: Law, model: Dequantizer, result: CallResult) -> bool:
    """Return whether a call's wrong elements, of those that a model does not give, are where a law says."""
    if result.call.function != DEQUANTIZE or not result.call.n:
        return False
    blocks, _ = blocks_of(model, result.call, result.outputs[0])
    state = _state(model, blocks)
    return bool(state.hit.any() and not (state.hit & ~law.where.holds(state.read)).any())


def by_values(cases: Cases, failures: Sequence[Failure]) -> Fact | None:
    """Return that elements follow from their scales and codes alone, and are not their products."""
    some = [one for one in failures if 0 < one.call.n // BLOCK <= MOST]
    some = some[:: max(len(some) // MOVED, 1)]
    try:
        if not some or not all(_moves(cases, one) for one in some):
            return None
    except NoAnswerError:
        return None
    first = min(some, key=lambda one: one.call.n)
    right = replay(make(), first.call)
    want, got = (np.frombuffer(side[0], "<f4")[: first.call.n] for side in (right, first.outputs))
    wrong = np.flatnonzero(want.view(np.uint32) != got.view(np.uint32))
    row = np.frombuffer(bytes(first.call.buffers[0].data), np.uint8)[: first.call.n // BLOCK * SIZE]
    blocks = row.reshape(-1, SIZE)
    halves = np.ascontiguousarray(blocks[:, :2]).view("<u2")[:, 0]
    codes = CODES[blocks[:, 2:]].reshape(-1)
    shown = ", ".join(
        f"scale 0x{halves[i // BLOCK]:04x} and code {codes[i]} give {got[i]:g}" for i in wrong[:3]
    )
    return Fact(
        "product",
        {"of": "scale and code"},
        "Q8A8-DEQ-1",
        "Wherever they stand, some scales and codes do not give their product: an element follows from its "
        f"own scale and code alone ({shown}).",
        "Multiply in float32: the product is exact.",
        "",
        function=DEQUANTIZE,
        evidence=(Evidence(first.call, right, first.outputs, shown),),
        explains=only(failures),
    )


def _moves(cases: Cases, one: Failure) -> bool:
    """Return whether a failed call's results change places with its blocks and elements."""
    nb = one.call.n // BLOCK
    rng = np.random.default_rng(nb)
    order, lanes = rng.permutation(nb), rng.permutation(BLOCK)
    row = np.frombuffer(bytes(one.call.buffers[0].data)[: SIZE * nb], np.uint8).reshape(nb, SIZE)[order]
    call = build_row(np.concatenate([row[:, :2], row[:, 2:][:, lanes]], axis=1))
    got = np.frombuffer(one.outputs[0][: 128 * nb], "<u4").reshape(nb, BLOCK)[order][:, lanes]
    # (What the output held must have no part in it.)
    made = np.frombuffer(cases.make(filled(call, FILLS[1]))[0][: 128 * nb], "<u4").reshape(nb, BLOCK)
    return np.array_equal(made, got)
