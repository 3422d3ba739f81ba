"""What is kept of an input is used again though the input has changed: which bytes are not looked at."""

from __future__ import annotations

from typing import Any

import pytest
from numpy.typing import NDArray

from q8a8.abi import Reference
from q8a8_conformance.diagnosis.dots.history import of_history
from q8a8_conformance.diagnosis.dots.narrow_keys import NarrowKey, narrow_key
from q8a8_conformance.diagnosis.products.state import state_of_products
from q8a8_conformance.diagnosis.replay import replay
from q8a8_conformance.faults.catalogue import make
from q8a8_conformance.faults.in_process import InProcessSession
from q8a8_conformance.faults.kernel import DOT
from q8a8_conformance.inputs import calls, dot_rows, mul_mat_rows
from q8a8_conformance.inputs.calls import MUL_MAT
from q8a8_conformance.results.observations import Failure

Array = NDArray[Any]


class KeepsY(Reference):
    """A kernel that keeps codes of y while the first 8 bytes of the row, and its length, are the same."""

    def __init__(self) -> None:
        super().__init__()
        self._held: dict[bytes, Array] = {}

    def ggml_vec_dot_q8_a8_q8_a8(
        self, n: int, s: Array, bs: int, vx: Array, bx: int, vy: Array, by: int, nrc: int
    ) -> None:
        """Multiply by the codes that are kept, under the scales of this call."""
        key = n.to_bytes(8, "little") + vy[:8].tobytes()
        held = self._held.setdefault(key, vy.copy())
        given = vy.copy()
        for b in range(n // 32):
            given[34 * b + 2 : 34 * b + 34] = held[34 * b + 2 : 34 * b + 34]
        super().ggml_vec_dot_q8_a8_q8_a8(n, s, bs, vx, bx, given, by, nrc)


class KeepsW(Reference):
    """A kernel that keeps w while its first and last 16 bytes are the same."""

    def __init__(self) -> None:
        super().__init__()
        self._held: dict[bytes, Array] = {}

    def mul_mat_q8_a8(self, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
        """Multiply by what is kept."""
        key = bytes([m % 256, n % 256]) + k.to_bytes(4, "little") + w[:16].tobytes() + w[-16:].tobytes()
        super().mul_mat_q8_a8(m, n, k, self._held.setdefault(key, w.copy()), x, out)


def _session(kernel: object) -> InProcessSession:
    return InProcessSession(lambda: kernel, [DOT, MUL_MAT])


@pytest.mark.parametrize(
    ("kernel", "function", "key"),
    [
        (KeepsY, DOT, NarrowKey(DOT, "vy", 8, 101, 102)),
        (KeepsW, MUL_MAT, NarrowKey(MUL_MAT, "w", 16, 5 * 2 * 34 - 17, 5 * 2 * 34)),
        (Reference, DOT, None),
        (Reference, MUL_MAT, None),
    ],
)
def test_the_bytes_whose_change_is_not_noticed(
    kernel: type[Reference], function: str, key: NarrowKey | None
) -> None:
    """They are those behind the key, of what is kept; a kernel that keeps nothing has none."""
    session = _session(kernel())
    assert narrow_key(function, lambda call: session.call(call).outputs) == key


def test_the_condition_of_a_dot_product() -> None:
    """A call that was wrong after another one with the same beginning is right by itself."""
    session = _session(KeepsY())
    x, y = dot_rows.exact_pair(3, positive=True, seed=1)
    other = y.copy()
    other["weight_qs"][1] = 1
    for row in (other, y):
        call = calls.dot(x, row)
        outputs = session.call(call).outputs
    failure = Failure(call, outputs, replay(make(), call))
    assert failure.outputs != failure.expected
    fresh = _session(KeepsY())
    condition = of_history([failure], lambda one: fresh.call(one).outputs, None)
    assert condition is not None
    assert condition.where == {"keeps": "vy", "unnoticed": [8, 101], "of": 102}
    assert "bytes 8 to 101, of 102" in condition.words


def test_the_fact_of_a_product() -> None:
    """The same of a matrix product."""
    session = _session(KeepsW())
    w, x = mul_mat_rows.exact(5, 3, 4)
    other = w.copy()
    other["weight_qs"][2] = 1
    for matrix in (other, w):
        call = calls.mul_mat(matrix, x)
        outputs = session.call(call).outputs
    failure = Failure(call, outputs, replay(make(), call))
    assert failure.outputs != failure.expected
    (fact,) = state_of_products(_session(KeepsW()), [failure, failure])
    assert (fact.rule, fact.where["keeps"]) == ("Q8A8-ENV-2", "w")
    assert fact.explains(failure)
