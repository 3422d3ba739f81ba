"""Outputs of a product that are not the same each time, or what other calls left: rows that come too late.

Where threads within a call do not wait for each other, some outputs are made of what memory held before. A
failed call is made several times, each after another one of the same shape. The outputs that are wrong in any
of them are told by halves of the rows, and the least product of m, n and k at which any is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from q8a8.matmul import mul_mat
from q8a8_conformance.diagnosis.facts import Evidence, Fact, remembered
from q8a8_conformance.diagnosis.products.judged import accounts_for_all, wrong_outputs
from q8a8_conformance.inputs import calls, mul_mat_rows
from q8a8_conformance.results.expected_product import outputs_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.results.observations import Failure
    from q8a8_conformance.reveal.quantizers.calls import AnySession

    Shape = tuple[int, int, int]

TRIED = 4
"""Failed calls whose shapes are looked at, about."""

TIMES = 8
"""Pairs of calls of a shape."""

LARGEST = 1 << 20
"""Multiplications of the largest failed call that is looked at."""

VARIES, RULE = "depends-on-more-than-inputs", "Q8A8-ENV-2"
FIX = "Let every thread wait, at a barrier, until all have quantized their rows, before any multiplies."


@dataclass(frozen=True)
class Varying:
    """Which outputs are not the same each time.

    Attributes
    ----------
    rows, columns
        Halves of the rows of x, and of those of w: "first", "second", or empty for both.
    least
        The least product of m, n and k at which any is.
    """

    rows: str
    columns: str
    least: int

    @property
    def words(self) -> str:
        """Which outputs, in words."""
        parts = [
            f"the {half} half of the rows of {side}"
            for side, half in (("x", self.rows), ("w", self.columns))
            if half
        ]
        which = f"of {' by '.join(parts)} " if parts else ""
        return f"Where m * n * k >= {self.least}, outputs {which}are made of what memory held before"

    def holds(self, failure: Failure) -> Array:
        """Return which wrong outputs of a failed call may be such ones: bool [n, m]."""
        call = failure.call
        wrong = wrong_outputs(failure)
        inside = np.logical_and.outer(_half(self.rows, call.bx), _half(self.columns, call.bs))
        return np.asarray(wrong & inside & (call.bs * call.bx * call.n >= self.least))


def _half(name: str, rows: int) -> Array:
    """Return the rows of a half, bool [rows]; the one in the middle is of both."""
    at = np.arange(rows)
    whole = np.ones(rows, np.bool_)
    return {"": whole, "first": at < (rows + 1) // 2, "second": at >= rows // 2}[name]


def varying_facts(session: AnySession, failures: Sequence[Failure]) -> list[Fact]:
    """Find outputs that are not the same each time a call is made, after others of its shape."""
    some = sorted(failures, key=lambda one: one.call.bs * one.call.bx * one.call.n)
    some = [one for one in some if one.call.n and one.call.bs * one.call.bx * one.call.n <= LARGEST]
    for one in some[:: max(len(some) // TRIED, 1)]:
        shape = (one.call.bs, one.call.bx, one.call.n // 32)
        wrong, is_varying, is_right_again = _wrong(session, shape)
        rows, columns = (_named(np.asarray(wrong.any(axis=axis))) for axis in (1, 0))
        # (What is right the second time, in any rows, may be kept on purpose.)
        if is_varying or (is_right_again and rows and columns):
            fact = _fact(one, Varying(rows, columns, _least(session, shape)))
            return [fact] if fact.explained(failures) else []
    return []


def _fact(one: Failure, found: Varying) -> Fact:
    text = "made again, other outputs are wrong, or none"
    return Fact(
        *(VARIES, vars(found), RULE),
        f"{found.words}: as where threads do not wait for each other.",
        *(FIX, ""),
        function=calls.MUL_MAT,
        evidence=(Evidence(one.call, one.expected, one.outputs, text),),
        explains=remembered(partial(accounts_for_all, found.holds)),
        outputs=found.holds,
    )


def _wrong(session: AnySession, shape: Shape) -> tuple[Array, bool, bool]:
    """Return which outputs of a shape are ever wrong after another call's, bool [n, m].

    And whether the same calls give others then; and whether each is wrong, and right when it comes again.
    """
    first, mine = (mul_mat_rows.exact(*shape, seed) for seed in (1, 2))
    before, call = calls.mul_mat(*first), calls.mul_mat(*mine)
    right = mul_mat(*mine).astype("<f4")
    wrong, seen, is_right_again = np.zeros(right.shape, np.bool_), set(), True
    for _ in range(TIMES):
        session.call(before)
        outputs = outputs_of(call, bytes(session.call(call).outputs[0]))
        seen.add(outputs.tobytes())
        here = outputs.view(np.uint32) != right.view(np.uint32)
        wrong |= here
        again = outputs_of(call, bytes(session.call(call).outputs[0]))
        is_right_again &= bool(here.any() and np.array_equal(again, right))
    return wrong, bool(wrong.any()) and len(seen) > 1, is_right_again


def _named(some: Array) -> str:
    """Return the half in which rows are, or no name where they are in both."""
    for half in ("first", "second"):
        if not (some & ~_half(half, some.size)).any():
            return half
    return ""


def _least(session: AnySession, shape: Shape) -> int:
    """Return the least product of m, n and k, of as long rows, at which outputs vary."""
    m, n, nb = shape
    sizes = sorted({(m * part // 8, n * other // 8) for part in range(1, 9) for other in range(1, 9)})
    every = sorted((a * b * nb * 32, a, b) for a, b in sizes if min(a, b) > 1)
    low, high = 0, len(every) - 1
    while low < high:
        middle = (low + high) // 2
        if _wrong(session, (every[middle][1], every[middle][2], nb))[0].any():
            high = middle
        else:
            low = middle + 1
    return every[high][0] if every else m * n * nb * 32
