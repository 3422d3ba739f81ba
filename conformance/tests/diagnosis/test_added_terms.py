"""Terms that are added to a block's own: other scales, times a sum of codes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8 import layout
from q8a8_conformance.faults.kernel import DOT_REAL, Kernel

from .dot_calls import facts_about

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8_conformance.inputs.arrays import Array

    # Of the scales of x and of y, its own and its other one, and the sums of codes.
    More = Callable[[Array, Array, Array, Array, Array, Array], Array]

ADDED: dict[str, More] = {
    "To each block's term x's activation_scale times y's activation_scale times the sum of "
    "y's codes is added.": (lambda _xw, xa, ya, _yw, _sx, sy: xa * ya * sy),
    "To each block's term x's activation_scale times y's weight_scale is added.": (
        lambda _xw, xa, _ya, yw, _sx, _sy: xa * yw
    ),
    "128 is added to x's codes, and what is taken off for it is 128 times x's weight_scale times "
    "the sum of y's codes, not both scales times that.": (
        lambda xw, _xa, ya, _yw, _sx, sy: 128 * xw * ya * sy - 128 * xw * sy
    ),
}
"""What is added, by what is said."""


class _Adds(Kernel):
    def __init__(self, more: More) -> None:
        super().__init__()
        self._more = more

    def ggml_vec_dot_q8_a8_q8_a8_real(self, n: int, s: Array, vx: Array, vy: Array) -> None:
        """Add it to each block's term."""
        x, y = (layout.as_blocks(v[: n // 32 * 36].tobytes(), layout.BLOCK_Q8_A8_V2) for v in (vx, vy))
        qx, qy = (rows["weight_qs"].astype(np.int64) for rows in (x, y))
        scales = [
            rows[name].astype(np.float64)
            for rows, name in zip((x, x, y, y), ("weight_scale", "activation_scale") * 2, strict=True)
        ]
        xw, xa, yw, ya = scales
        own = xw * ya * (qx * qy).sum(axis=1)
        s[0] = (own + self._more(xw, xa, ya, yw, qx.sum(axis=1), qy.sum(axis=1))).sum()


@pytest.mark.parametrize("sentence", ADDED)
def test_what_is_added(sentence: str) -> None:
    """It is named, and nothing is said of scales that are used in another's place."""
    facts, failures = facts_about(DOT_REAL, _Adds(ADDED[sentence]))
    assert [(fact.fact, fact.sentence) for fact in facts] == [("term-added", sentence)]
    assert 2 * len(facts[0].explained(failures)) > len(failures)


def test_a_sum_of_scales_is_no_term_that_is_added() -> None:
    """Where the other scale counts as well, codes beside zeros add nothing."""

    class Sums(_Adds):
        def __init__(self) -> None:
            super().__init__(lambda *_: np.zeros(1))

        def ggml_vec_dot_q8_a8_q8_a8_real(self, n: int, s: Array, vx: Array, vy: Array) -> None:
            x = layout.as_blocks(vx.tobytes(), layout.BLOCK_Q8_A8_V2).copy()
            x["weight_scale"] = x["weight_scale"] + x["activation_scale"]
            super().ggml_vec_dot_q8_a8_q8_a8_real(n, s, np.frombuffer(x.tobytes(), np.uint8), vy)

    facts, _ = facts_about(DOT_REAL, Sums())
    assert [fact.fact for fact in facts] == ["version-2-field"]
