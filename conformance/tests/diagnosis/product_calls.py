"""The calls of a product that tests of its diagnosis make, and those that fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

from q8a8.matmul import mul_mat
from q8a8_conformance.inputs import calls, mul_mat_rows
from q8a8_conformance.results.observations import Failure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from q8a8_conformance.faults.in_process import InProcessSession


def failed_products(session: InProcessSession, shapes: Iterable[tuple[int, int, int]]) -> list[Failure]:
    """Return the calls on exact matrices of some shapes that come out wrong."""
    found = []
    for seed, shape in enumerate(shapes):
        w, x = mul_mat_rows.exact(*shape, seed)
        call = calls.mul_mat(w, x)
        expected, outputs = (mul_mat(w, x).astype("<f4").tobytes(),), session.call(call).outputs
        if outputs != expected:
            found.append(Failure(call, outputs, expected))
    return found
