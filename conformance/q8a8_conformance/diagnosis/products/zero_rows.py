"""Rows of a product that are zero throughout: whether their outputs are written at all."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from q8a8_conformance.diagnosis.facts import Evidence, Fact, remembered
from q8a8_conformance.diagnosis.products.words import KINDS
from q8a8_conformance.inputs import calls, mul_mat_rows
from q8a8_conformance.results.expected_product import matrices_of, outputs_of
from q8a8_conformance.results.observations import Failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from q8a8_conformance.results.observations import CallResult
    from q8a8_conformance.reveal.quantizers.calls import AnySession

Array = NDArray[Any]

SHAPES = ((1, 1, 1), (3, 4, 2), (9, 17, 5))
"""m, n and blocks of a row of the products that are made."""

HELD = 3.0
"""What outputs hold before."""


def zero_row_facts(session: AnySession, failures: Sequence[Failure]) -> list[Fact]:
    """Find outputs of zero rows of x, or of w, that are not written."""
    facts = []
    for side in "xw":
        made = [_made(session, shape, side) for shape in SHAPES]
        if not all((_kept(one) == _of_zero(one, side)).all() for one in made):
            continue
        rule, _ = KINDS["outputs-not-written"]
        text = f"outputs of a row of {side} that is all zero hold {HELD:g} as before"
        facts.append(
            Fact(
                *("outputs-not-written", {"side": side, "rows": "zero"}, rule),
                f"Outputs of rows of {side} that are all zero are not written.",
                "Write +0 for a row that is all zero.",
                "",
                function=calls.MUL_MAT,
                evidence=(Evidence(made[0].call, made[0].expected, made[0].outputs, text),),
                explains=remembered(partial(_explains, side)),
            )
        )
    return [fact for fact in facts if fact.explained(failures)]


def _made(session: AnySession, shape: tuple[int, int, int], side: str) -> Failure:
    """Make a product of which every second row of a side is zero."""
    w, x = (rows.copy() for rows in mul_mat_rows.exact(*shape))
    zeros = w["weight_qs"] if side == "w" else x
    zeros[::2] = 0
    held = calls.float_bytes(HELD) * (len(w) * len(x))
    call = calls.mul_mat(w, x, out=held)
    expected = (np.zeros(len(w) * len(x), "<f4").tobytes(),)
    return Failure(call, tuple(bytes(out) for out in session.call(call).outputs), expected)


def _kept(result: CallResult) -> Array:
    """Return which outputs are what they were before: bool [n, m]."""
    before, after = bytes(result.call.buffers[2].data), bytes(result.outputs[0])
    of = (outputs_of(result.call, side).view(np.uint32) for side in (before, after))
    return np.asarray(next(of) == next(of))


def _of_zero(result: CallResult, side: str) -> Array:
    """Return which outputs are of a row of a side that is zero: bool [n, m]."""
    w, x = matrices_of(result.call)
    if side == "x":
        return np.broadcast_to(np.asarray(~x.any(axis=1))[:, np.newaxis], (len(x), len(w)))
    return np.broadcast_to(~w["weight_qs"].any(axis=(1, 2)), (len(x), len(w)))


def _explains(side: str, result: CallResult) -> bool:
    """Return whether the wrong outputs of a failed call are those of zero rows, and as before."""
    if not isinstance(result, Failure) or not result.call.n:
        return False
    got, want = (
        outputs_of(result.call, bytes(of[0])).view(np.uint32) for of in (result.outputs, result.expected)
    )
    return bool((got != want).any() and (_kept(result) & _of_zero(result, side))[got != want].all())
