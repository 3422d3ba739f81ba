"""Products that go wrong in large calls alone: offsets in sixteen bits, and threads that do not wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from q8a8 import layout
from q8a8.abi import Reference
from q8a8.matmul import mul_mat
from q8a8_conformance.diagnosis.products.experiments import facts_of_products
from q8a8_conformance.diagnosis.products.varying import varying_facts
from q8a8_conformance.diagnosis.products.wrapped import wrapped_facts
from q8a8_conformance.faults.in_process import InProcessSession
from q8a8_conformance.inputs.calls import MUL_MAT

from .product_calls import failed_products

if TYPE_CHECKING:
    from collections.abc import Callable

Array = NDArray[Any]


def _wraps(side: str, size_of: Callable[[int], int], per_unit: float) -> type[Reference]:
    class Wraps(Reference):
        """A kernel that keeps the offset of a row in sixteen bits."""

        def mul_mat_q8_a8(self, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
            """Multiply what is read there."""
            rows, size = (n, 4 * k) if side == "x" else (m, k // 32 * 34)
            held = np.ascontiguousarray(x if side == "x" else w).view(np.uint8)
            begins = (np.arange(rows) * size_of(k) % 65536 * per_unit).astype(int)
            taken = np.concatenate([np.resize(held[at : at + size], size) for at in begins])
            of_x = taken.view("<f4") if side == "x" else x[: n * k]
            of_w = taken if side == "w" else w[: m * k // 32 * 34]
            matrix = layout.as_blocks(of_w.tobytes()).reshape(m, k // 32)
            out[: m * n] = mul_mat(matrix, of_x.reshape(n, k)).reshape(-1)

    return Wraps


@pytest.mark.parametrize(
    ("side", "unit", "size_of", "per_unit"),
    [
        ("x", "floats", lambda k: k, 4),
        ("x", "bytes", lambda k: 4 * k, 1),
        ("w", "elements", lambda k: k, 34 / 32),
    ],
)
def test_an_offset_in_sixteen_bits(
    side: str, unit: str, size_of: Callable[[int], int], per_unit: float
) -> None:
    """Side and unit are found from the failed calls, and explain them."""
    session = InProcessSession(_wraps(side, size_of, per_unit), [MUL_MAT])
    large = ((3, 700, 4), (2, 150, 17)) if side == "x" else ((700, 3, 4), (150, 2, 17))
    failures = failed_products(session, [(3, 5, 2), *large])
    assert len(failures) == 2
    (fact,) = wrapped_facts(session, failures)
    assert (fact.fact, fact.rule) == ("rows-begin-elsewhere", "Q8A8-MUL-6")
    assert fact.where == {"side": side, "unit": unit, "bits": 16}
    assert fact.explained(failures) == failures


def _wraps_in_tiles(tile: int) -> type[Reference]:
    class Wraps(Reference):
        """A kernel that keeps the distance of two rows of w, in elements, in sixteen bits."""

        def mul_mat_q8_a8(self, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
            """Multiply what is read there."""
            size = k // 32 * 34
            within = np.arange(m) % (tile or m)
            begins = ((np.arange(m) - within) * k + within * (k % 65536)) // 32 * 34
            taken = np.concatenate([w[at : at + size] for at in begins]) if m else w[:0]
            matrix = layout.as_blocks(taken.tobytes()).reshape(m, k // 32)
            out[: m * n] = mul_mat(matrix, x[: n * k].reshape(n, k)).reshape(-1)

    return Wraps


@pytest.mark.parametrize(("tile", "of"), [(0, ""), (4, " in a tile of 4")])
def test_a_distance_in_sixteen_bits(tile: int, of: str) -> None:
    """The distance of two rows is told from a row's offset, which may be as large where rows are shorter."""
    session = InProcessSession(_wraps_in_tiles(tile), [MUL_MAT])
    failures = failed_products(session, [(40, 1, 61), (3, 2, 2050), (6, 1, 2050)])
    assert len(failures) == 2
    (fact,) = wrapped_facts(session, failures)
    assert fact.sentence.startswith(f"The distance of two rows of w{of}, k elements, is kept in 16 bits")
    assert fact.where["tile"] == tile
    assert fact.explained(failures) == failures


class DoesNotWait(Reference):
    """A kernel whose first thread reads rows of x before the second one has written them."""

    def __init__(self) -> None:
        super().__init__()
        self._memory = np.zeros(1 << 20, np.float32)

    def mul_mat_q8_a8(self, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
        """Multiply, in the first half of the columns by what memory held."""
        given, late = x[: n * k].reshape(n, k), n // 2
        stale = np.concatenate([given[:late], self._memory[late * k : n * k].reshape(n - late, k)])
        self._memory[: n * k] = x[: n * k]
        matrix = layout.as_blocks(w[: m * k // 32 * 34].tobytes()).reshape(m, k // 32)
        product = mul_mat(matrix, given)
        if m * n * k >= 65536 and min(m, n) > 1:
            product[:, : m // 2] = mul_mat(matrix[: m // 2], stale)
        out[: m * n] = product.reshape(-1)


def test_threads_that_do_not_wait() -> None:
    """Halves of both sides, and the size from which on it is so, are measured."""
    session = InProcessSession(DoesNotWait, [MUL_MAT])
    failures = failed_products(session, [(8, 8, 3), (64, 32, 1), (40, 40, 2), (65, 33, 3), (128, 64, 1)])
    assert len(failures) == 4
    (fact,) = varying_facts(session, failures)
    assert (fact.fact, fact.rule) == ("depends-on-more-than-inputs", "Q8A8-ENV-2")
    assert fact.where == {"rows": "second", "columns": "first", "least": 65536}
    assert fact.explained(failures) == failures


class Zero(Reference):
    """A kernel all of whose outputs are zeros, of either sign."""

    def mul_mat_q8_a8(self, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
        """Multiply, and by 0."""
        super().mul_mat_q8_a8(m, n, k, w, x, out)
        out[: m * n] *= 0


def test_zeros() -> None:
    """That every output is a zero is said as such, and not as what makes activations zeros."""
    session = InProcessSession(Zero, [MUL_MAT])
    failures = failed_products(session, [(5, 3, 2), (8, 1, 3)])
    (fact,) = facts_of_products(session, failures)
    assert fact.sentence == "Every output is a zero, whatever the rows hold."
    assert fact.explained(failures) == failures


class Corner(Reference):
    """A kernel whose outputs are wrong in a quarter of the matrix, each time alike."""

    def mul_mat_q8_a8(self, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
        """Multiply, and double a quarter."""
        super().mul_mat_q8_a8(m, n, k, w, x, out)
        out[: m * n].reshape(n, m)[n // 2 :, : m // 2] *= 2


def test_what_is_wrong_each_time_does_not_vary() -> None:
    """Outputs of halves of the rows that are wrong when a call comes again, too, are another matter."""
    session = InProcessSession(Corner, [MUL_MAT])
    failures = failed_products(session, [(8, 8, 3), (64, 32, 1)])
    assert len(failures) == 2
    assert varying_facts(session, failures) == []


def test_a_right_product_varies_in_nothing() -> None:
    """Calls of a product that failed for another reason, and are right again, are not taken for such ones."""
    session = InProcessSession(Reference, [MUL_MAT])
    (failure,) = failed_products(InProcessSession(DoesNotWait, [MUL_MAT]), [(64, 32, 1)])
    assert varying_facts(session, [failure]) == []
    assert wrapped_facts(session, [failure]) == []
