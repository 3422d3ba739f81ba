"""Rows of a product that are zero throughout: whether their outputs are written, and what they are."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.diagnosis.facts import Evidence, Fact, remembered
from q8a8_conformance.diagnosis.products.judged import accounts_for_all, quantized, wrong_outputs
from q8a8_conformance.inputs import calls, mul_mat_rows
from q8a8_conformance.results.expected_product import matrices_of, outputs_of
from q8a8_conformance.results.observations import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.reveal.quantizers.calls import AnySession


SHAPES = ((4, 4, 2), (3, 5, 1), (9, 17, 5))
"""m, n and blocks of a row of the products that are made."""

RULES = {"outputs-not-written": "Q8A8-MUL-7", "zero-rows": "Q8A8-MUL-6"}
"""The rule that each fact breaks."""

HELD = 3.0
"""What outputs hold before."""

FORMS: dict[str, Callable[[Array, Array, int], Array]] = {
    "are not written": lambda _got, held, _axis: held,
    "are those of the row before": lambda got, held, axis: _shifted(got, held, 1, axis),
    "are those of the row after": lambda got, held, axis: _shifted(got, held, -1, axis),
    "are those of the first row": lambda got, _held, axis: np.take(got, [0], axis) + 0 * got,
    "are NaN": lambda got, _held, _axis: np.full(got.shape, np.nan, np.float32),
    "are -0": lambda got, _held, _axis: np.full(got.shape, -0.0, np.float32),
    "are infinite": lambda got, _held, _axis: np.full(got.shape, np.inf, np.float32),
}
"""What outputs of zero rows may be: of what out holds after a call and held before, by the rows' axis."""


def _shifted(got: Array, held: Array, by: int, axis: int) -> Array:
    """Return the outputs of other rows; what was held where there are none."""
    moved = np.roll(got, by, axis)
    first = [slice(None), slice(None)]
    first[axis] = slice(by) if by > 0 else slice(by, None)
    moved[tuple(first)] = held[tuple(first)]
    return moved


def zero_row_facts(session: AnySession, failures: Sequence[Failure]) -> list[Fact]:
    """Find what outputs of zero rows of x, or of w, are, where these are wrong."""
    facts = []
    for side in "xw":
        made = [_made(session, shape, side) for shape in SHAPES]
        telling = [one for one in made if (wrong_outputs(one) & _of_zero(one, side)).any()]
        # (What is wrong besides does not matter.)
        form = next((name for name in FORMS if all(_is(name, side, one) for one in telling)), "")
        if not telling or not form:
            continue
        first = telling[0]
        kept = "outputs-not-written" if "written" in form else "zero-rows"
        got, (i, j) = outputs_of(first.call, bytes(first.outputs[0])), _first(first, side)
        text = (
            f"out[{i} * m + {j}], of a row of {side} that is all zero, is {got[i, j]:.9g}; it held {HELD:g}"
        )
        fact = Fact(
            *(kept, {"side": side, "rows": "zero", "are": form}, RULES[kept]),
            f"Outputs of rows of {side} that are all zero {form}.",
            "Write +0 for a row that is all zero.",
            "",
            function=calls.MUL_MAT,
            evidence=(Evidence(first.call, first.expected, first.outputs, text),),
            explains=remembered(partial(accounts_for_all, partial(_accounts, side, form))),
            outputs=partial(_accounts, side, form),
        )
        if any(_accounts(side, form, one).any() for one in failures):
            facts.append(fact)
    return facts


def _first(result: Failure, side: str) -> tuple[int, int]:
    i, j = np.argwhere(wrong_outputs(result) & _of_zero(result, side))[0].tolist()
    return i, j


def _made(session: AnySession, shape: tuple[int, int, int], side: str) -> Failure:
    """Make a product of which every second row of a side is zero."""
    w, x = (rows.copy() for rows in mul_mat_rows.exact(*shape))
    zeros = w["weight_qs"] if side == "w" else x
    zeros[1::2] = 0
    call = calls.mul_mat(w, x, out=calls.float_bytes(HELD) * (len(w) * len(x)))
    outputs = tuple(bytes(out) for out in session.call(call).outputs)
    right = outputs_of(call, outputs[0]).copy()
    right[(slice(1, None, 2),) if side == "x" else (slice(None), slice(1, None, 2))] = 0
    return Failure(call, outputs, (right.astype("<f4").tobytes(),))


def _is(form: str, side: str, result: Failure) -> bool:
    """Return whether the outputs of zero rows that are wrong have a form."""
    return not (wrong_outputs(result) & _of_zero(result, side) & ~_accounts(side, form, result)).any()


def _of_zero(result: Failure, side: str) -> Array:
    """Return which outputs are of a row of a side that is zero, or becomes so: bool [n, m]."""
    w, x = matrices_of(result.call)
    if side == "x":
        blocks = quantized(result)
        zero = ~x.any(axis=1) if blocks is None else ~blocks[1]["weight_scale"].any(axis=1)
        return np.broadcast_to(np.asarray(zero)[:, np.newaxis], (len(x), len(w)))
    return np.broadcast_to(~w["weight_qs"].any(axis=(1, 2)), (len(x), len(w)))


def _accounts(side: str, form: str, result: Failure) -> Array:
    """Return which wrong outputs are of zero rows, and have a form: bool [n, m]."""
    wrong = wrong_outputs(result)
    if not result.call.n or not wrong.any():
        return wrong & False
    got, held = (
        outputs_of(result.call, bytes(of)) for of in (result.outputs[0], result.call.buffers[2].data)
    )
    given = FORMS[form](got, held, 0 if side == "x" else 1)
    same = (got.view(np.uint32) == np.asarray(given, np.float32).view(np.uint32)) | (
        np.isnan(got) & np.isnan(given)
    )
    return np.asarray(wrong & same & _of_zero(result, side))
