"""What outputs of a product become by their value: clamped, of another sign, a constant."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from q8a8.abi import Reference
from q8a8.matmul import mul_mat
from q8a8_conformance.diagnosis.products.mapped import mapped_facts
from q8a8_conformance.faults.in_process import InProcessSession
from q8a8_conformance.inputs import mul_mat_rows
from q8a8_conformance.inputs.calls import MUL_MAT
from q8a8_conformance.inputs.calls import mul_mat as product_call
from q8a8_conformance.results.observations import Failure

Array = NDArray[Any]

SHAPES = ((1, 3, 2), (5, 7, 1), (9, 4, 3), (4, 9, 5), (8, 2, 7))
"""m, n and blocks of a row of the calls that are made."""


class Changed(Reference):
    """A kernel that changes its outputs before it stores them."""

    def change(self, out: Array) -> None:
        """Change outputs, float32 [n, m]."""

    def mul_mat_q8_a8(self, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
        """Multiply, and change."""
        super().mul_mat_q8_a8(m, n, k, w, x, out)
        self.change(out[: m * n].reshape(n, m))


class Clamps(Changed):
    """A kernel that clamps whole groups of four columns."""

    def change(self, out: Array) -> None:
        """Clamp from 0 to 6."""
        whole = out[:, : out.shape[1] // 4 * 4]
        np.clip(whole, 0, 6, out=whole)


class NotBelow(Changed):
    """A kernel that makes the least positive float of what is none."""

    def change(self, out: Array) -> None:
        """Take the larger one."""
        out[:, 1:] = np.maximum(out[:, 1:], np.finfo(np.float32).tiny)


class Saturates(Changed):
    """A kernel whose outputs saturate where there are four rows and more."""

    def change(self, out: Array) -> None:
        """Saturate."""
        np.clip(out, -65504 if len(out) > 3 else -np.inf, 65504 if len(out) > 3 else np.inf, out=out)


class Doubles(Changed):
    """A kernel whose outputs are wrong whatever their values."""

    def change(self, out: Array) -> None:
        """Double them."""
        out *= 2


CLAMPS = (
    "Outputs in the columns up to the last multiple of 4 that should be negative are 0, and those that "
    "should be more than 6 are 6."
)
TINY = "Outputs in every column from column 1 on that should be zero or negative are 1.17549435e-38."
LARGE = "All outputs where n >= 4 that should be of magnitude more than 65504 are 65504 with their sign."


@pytest.mark.parametrize(
    ("kernel", "sentences"), [(Clamps, [CLAMPS]), (NotBelow, [TINY]), (Saturates, [LARGE]), (Doubles, [])]
)
def test_outputs_that_are_changed(kernel: type[Reference], sentences: list[str]) -> None:
    """A condition on the value is found, what such outputs become, and in which places."""
    session, failures = InProcessSession(kernel, [MUL_MAT]), []
    for shape in SHAPES:
        w, x = mul_mat_rows.exact(*shape)
        call, expected = product_call(w, x), (mul_mat(w, x).astype("<f4").tobytes(),)
        outputs = tuple(bytes(out) for out in session.call(call).outputs)
        if outputs != expected:
            failures.append(Failure(call, outputs, expected))
    facts = mapped_facts(session, failures)
    assert [fact.sentence for fact in facts] == sentences
    assert all(fact.explained(failures) == failures and fact.evidence for fact in facts)
