"""The outputs of a product that laws of its terms predict, and the failed calls that have them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.diagnosis.products.judged import (
    Given,
    accounts_for_all,
    agreeing,
    quantized,
    wrong_outputs,
)
from q8a8_conformance.results.expected_product import matrices_of
from q8a8_conformance.results.observations import Failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from q8a8_conformance.diagnosis.products.changes import Sums
    from q8a8_conformance.diagnosis.products.terms import Law, Region, Side
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.results.observations import CallResult


def laws_explain(laws: Sequence[Law], law: Law, result: CallResult) -> bool:
    """Return whether laws give a failed call's outputs, and one of them has a part in what is wrong."""
    if not isinstance(result, Failure) or not result.call.n:
        return False
    rows, columns, _ = law.axes((result.call.bs, result.call.bx, result.call.n // 32))
    wrong = wrong_outputs(result)
    is_part = wrong[np.ix_(rows, columns)].any()
    return bool(is_part) and accounts_for_all(partial(laws_account, laws), result)


def is_known(laws: Sequence[Law], law: Law, failure: Failure) -> bool:
    """Return whether laws say what some wrong output of a failed call is that one of them has a part in."""
    if not failure.call.n or (operands := quantized(failure)) is None:
        return False
    rows, columns, _ = law.axes((failure.call.bs, failure.call.bx, failure.call.n // 32))
    w, x = ((side["weight_qs"], side["weight_scale"].astype(np.float64)) for side in operands)
    free = predicted(laws, w, x, matrices_of(failure.call)[1]).free
    return bool((wrong_outputs(failure) & ~np.asarray(free))[np.ix_(rows, columns)].any())


def laws_account(laws: Sequence[Law], result: Failure) -> Array:
    """Return which wrong outputs of a failed call laws give: bool [n, m]."""
    if not result.call.n or (operands := quantized(result)) is None:
        return wrong_outputs(result) & False
    w, x = ((side["weight_qs"], side["weight_scale"].astype(np.float64)) for side in operands)
    return agreeing(result, predicted(laws, w, x, matrices_of(result.call)[1]))


def predicted(laws: Sequence[Law], w: Side, x: Side, elements: Array) -> Given:
    """Return the outputs that laws give, of codes and scales of both sides, and of the elements of x."""
    shape = (len(w[1]), len(x[1]), w[1].shape[1])
    total, magnitude = _sums(
        w, x, (np.ones(shape[1], bool), np.ones(shape[0], bool), np.ones(shape[2], bool))
    )
    kept, added, free = (np.zeros(total.shape, bool) for _ in range(3))
    regions = [law.axes(shape) for law in laws]
    for number, (law, own) in enumerate(zip(laws, regions, strict=True)):
        if not own[0].any():
            continue
        here = np.ix_(*own[:2])
        if law.effect.kind in ("kept", "added"):
            (kept if law.effect.kind == "kept" else added)[here] = True
            continue
        of_w, of_x = law.effect.taken(w, "w"), law.effect.taken(x, "x")
        if law.effect.kept is not None:
            of_x = (*law.effect.kept.codes(elements), of_x[2])
        is_known = [side[2][at][:, own[2]].all(axis=1) for side, at in zip((of_x, of_w), own, strict=False)]
        free[here] |= ~np.logical_and.outer(*is_known)
        # (Where a law before it holds, too, it does not.)
        for region, sign in ((own, 1), *((_both(own, other), -1) for other in regions[:number])):
            at = np.ix_(*region[:2])
            taken, more = _sums(of_w, of_x, region, law.effect.sums)
            total[at] += sign * (taken * law.effect.times - _sums(w, x, region)[0])
            magnitude[at] += more * (sign > 0)
    return Given(total, magnitude, kept, added, free)


def _both(one: Region, other: Region) -> Region:
    """Return what two regions share."""
    return one[0] & other[0], one[1] & other[1], one[2] & other[2]


def _sums(
    w: tuple[Array, ...], x: tuple[Array, ...], region: Region, sums: Sums | None = None
) -> tuple[Array, Array]:
    """Return the sums of some terms, and of the magnitudes that they may have, for some outputs."""
    rows, columns, blocks = region
    (qx, dx), (qw, dw) = (
        [part[some][:, blocks] for part in side[:2]] for side, some in ((x, rows), (w, columns))
    )
    magnitude = np.abs(dx) @ np.abs(dw).T * (32 * 127 * 127)
    if sums is None:
        of_x, of_w = (
            (q * d[..., np.newaxis]).reshape(len(q), q.shape[1] * q.shape[2]) for q, d in ((qx, dx), (qw, dw))
        )
        return of_x @ of_w.T, magnitude
    total = np.zeros_like(magnitude)
    for b in range(dx.shape[1]):
        of = sums.function(qw[:, b].astype(np.float64), qx[:, b].astype(np.float64))
        total += of * np.outer(dx[:, b], dw[:, b])
    return total, magnitude
