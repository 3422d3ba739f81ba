"""Outputs of a product that are stored elsewhere, or taken from elsewhere: one formula for all shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from q8a8.abi import Reference
from q8a8.matmul import mul_mat
from q8a8_conformance.diagnosis.products.placements import placement_facts
from q8a8_conformance.faults.catalogue import make
from q8a8_conformance.faults.in_process import InProcessSession
from q8a8_conformance.inputs import mul_mat_rows
from q8a8_conformance.inputs.calls import MUL_MAT, float_bytes
from q8a8_conformance.inputs.calls import mul_mat as product_call
from q8a8_conformance.results.observations import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8_conformance.diagnosis.facts import Fact

Array = NDArray[Any]

SHAPES = ((1, 3, 2), (3, 1, 4), (5, 7, 1), (9, 17, 3), (17, 9, 5), (12, 10, 2), (3, 300, 1), (37, 21, 2))
"""m, n and blocks of a row."""


def measured(kernel: Callable[[], object]) -> tuple[list[Fact], list[Failure]]:
    """Return the facts about a kernel, and its failed calls on exact matrices of some shapes."""
    session, failures = InProcessSession(kernel, [MUL_MAT]), []
    for m, n, nb in SHAPES:
        w, x = mul_mat_rows.exact(m, n, nb)
        call = product_call(w, x, out=float_bytes(3.0) * (m * n))
        expected = (mul_mat(w, x).astype("<f4").tobytes(),)
        outputs = tuple(bytes(out) for out in session.call(call).outputs)
        if outputs != expected:
            failures.append(Failure(call, outputs, expected))
    return placement_facts(session, failures), failures


def _of(change: Callable[[Array, Array, int], None]) -> type[Reference]:
    """Return a kernel that changes its outputs: `change` gets out [n·m], the right ones [n, m], and nb."""

    class Changed(Reference):
        """A kernel that stores its outputs elsewhere."""

        def mul_mat_q8_a8(self, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
            """Multiply, and store."""
            held = out[: m * n].copy()
            super().mul_mat_q8_a8(m, n, k, w, x, out)
            right, out[: m * n] = out[: m * n].reshape(n, m).copy(), held
            change(out[: m * n], right, k // 32)

    return Changed


def _store(out: Array, right: Array, places: Array) -> None:
    inside = places < out.size
    out[places[inside]] = right[inside]


def _by_n(out: Array, right: Array, _nb: int) -> None:
    i, j = (np.asarray(index) for index in np.indices(right.shape))
    _store(out, right, i * len(right) + j)


def _staged(out: Array, right: Array, _nb: int) -> None:
    n, m = right.shape
    padded = np.zeros((n, -(-m // 4) * 4), np.float32)
    padded[:, :m] = right
    out[:] = padded.reshape(-1)[: out.size]


def _tiles_transposed(out: Array, right: Array, nb: int) -> None:
    n, m = right.shape
    out[:] = right.reshape(-1)
    for i, j in np.ndindex(n // 4, m // 4) if nb > 1 else ():
        tile = np.s_[4 * i : 4 * i + 4, 4 * j : 4 * j + 4]
        out.reshape(n, m)[tile] = right[tile].T


def _panels(out: Array, right: Array, _nb: int) -> None:
    n, m = right.shape
    out[:] = right.reshape(-1)
    if m % 8 == 0 or m < 8:
        return
    i, j = np.indices((n, m - m % 8))
    _store(out, right[:, : m - m % 8], (j - j % 8) * n + i * 8 + j % 8)


def _read_by_stride(out: Array, right: Array, _nb: int) -> None:
    n, m = right.shape
    i, j = np.indices((n, m))
    out[:] = right.reshape(-1)[np.minimum(i * (m - 1) + j, n * m - 1)].reshape(-1)


def _edges(n: int, m: int, t: int, u: int) -> Array:
    i, j = np.indices((n, m))
    return np.asarray((i >= n - n % t) | (j >= m - m % u))


def _stride_of_edges(out: Array, right: Array, _nb: int) -> None:
    n, m = right.shape
    i, j = (np.asarray(index) for index in np.indices((n, m)))
    edge = _edges(n, m, 4, 4)
    out[:] = np.where(edge.reshape(-1), out, right.reshape(-1))
    _store(out, right[edge], ((i - i % 4) * m + i % 4 * n + j)[edge])


def _edges_transposed(out: Array, right: Array, _nb: int) -> None:
    n, m = right.shape
    i, j = np.indices((n, m))
    of = right[np.minimum(i - i % 4 + j % 4, n - 1), np.minimum(j - j % 4 + i % 4, m - 1)]
    out[:] = np.where(_edges(n, m, 4, 4), of, right).reshape(-1)


def _columns_transposed(out: Array, right: Array, _nb: int) -> None:
    n, m = right.shape
    padded = np.zeros((n + 8, m + 8), np.float32)
    padded[:n, :m] = right
    i, j = np.indices((n, m))
    of = padded[i - i % 4 + j % 4, j - j % 4 + i % 4]
    out[:] = np.where(j >= m - m % 4, of, right).reshape(-1)


def _panel_kept(out: Array, right: Array, _nb: int) -> None:
    n, m = right.shape
    i, j = np.indices((n, m))
    row = (n - 1) // 8 * 8 + i % 8
    row[row >= n] -= 8
    out[:] = right[np.where((j >= 16) & (n > 8), row, i), j].reshape(-1)


def _last_row_in_corner(out: Array, right: Array, _nb: int) -> None:
    n, m = right.shape
    i, j = np.indices((n, m))
    out[:] = right[np.where(j >= m - m % 4, np.minimum(i - i % 6 + 5, n - 1), i), j].reshape(-1)


EDGES = "the columns beyond a multiple of 4 or in the rows beyond a multiple of 4"
WHOLE = "up to the last multiple of 4"
STORED = (
    (_by_n, "Output (i, j) is stored at out[i * n + j], not at out[i * m + j]."),
    (
        _staged,
        "Output (i, j) is stored at out[i * (m rounded up to a multiple of 4) + j], not at out[i * m + j].",
    ),
    (
        _tiles_transposed,
        (
            f"In the columns {WHOLE} and in the rows {WHOLE} where nb >= 2 output (i, j) is stored at "
            "out[(i - i % 4) * m + j % 4 * m + i % 4 + j - j % 4], not at out[i * m + j]."
        ),
    ),
    (
        _panels,
        (
            "In every column before the last group of 8 or fewer where m % 8 >= 1 output (i, j) is stored at "
            "out[i * 8 + (j - j % 8) * n + j % 8], not at out[i * m + j]."
        ),
    ),
    (
        _stride_of_edges,
        (
            f"In {EDGES} output (i, j) is stored at out[(i - i % 4) * m + i % 4 * n + j], not at "
            "out[i * m + j]."
        ),
    ),
    (
        _edges_transposed,
        (
            f"Outputs in {EDGES} are those of row "
            "min(i - i % 4 + j % 4, n - 1) of x and row min(j - j % 4 + i % 4, m - 1) of w."
        ),
    ),
    (
        _columns_transposed,
        (
            "Outputs in the columns beyond a multiple of 4 are those of row i - i % 4 + j % 4 of x and row "
            "j - j % 4 + i % 4 of w, and +0 where there is none."
        ),
    ),
    (
        _panel_kept,
        (
            "Outputs in every column from column 16 on are those of row (n - 1) / 8 * 8 + i % 8 (8 less "
            "where that is beyond n - 1) of x."
        ),
    ),
    (
        _last_row_in_corner,
        "Outputs in the columns beyond a multiple of 4 are those of row min(i - i % 6 + 5, n - 1) of x.",
    ),
    (_read_by_stride, "Output (i, j) is the one whose number is i * (m - 1) + j, not i * m + j."),
)


@pytest.mark.parametrize(("change", "sentence"), STORED, ids=lambda of: getattr(of, "__name__", ""))
def test_one_formula_for_all_shapes(change: Callable[[Array, Array, int], None], sentence: str) -> None:
    """The place, or the output, is a formula of i, j, m and n, with the outputs for which it holds."""
    (fact,), failures = measured(_of(change))
    assert fact.sentence == sentence
    assert fact.explained(failures) == failures
    assert fact.evidence


def test_the_catalogue_names_it() -> None:
    """A formula that a mistake of the catalogue has gets its name."""
    (fact,), failures = measured(lambda: make("matrix-transposed"))
    assert (fact.slug, fact.where["stored_at"]) == ("matrix-transposed", "j * n + i")
    assert fact.explained(failures) == failures


def test_rows_alone_are_no_placement() -> None:
    """Whole rows that change places are said as such, by others."""

    def mirrored(out: Array, right: Array, _nb: int) -> None:
        out[:] = right[::-1].reshape(-1)

    assert measured(_of(mirrored))[0] == []


def _in_four_shares(i: Array, j: Array, _m: int, n: int) -> Array:
    return np.asarray((j < -(-n // 4) * 4) & (i >= 0))


def _triangular(i: Array, j: Array, _m: int, _n: int) -> Array:
    return np.asarray(i // 8 <= j // 8)


def _tiles_of_four(i: Array, j: Array, m: int, n: int) -> Array:
    down, across = -(-n // 4), -(-m // 4)
    tiles = np.zeros((down, max(across, down)), bool)
    for number in range(down * across):
        tiles[number // across, number % down] = True
    return np.asarray(tiles[i // 4, j // 4])


def _whole_tiles(i: Array, j: Array, m: int, n: int) -> Array:
    return np.asarray((i < n - n % 4) | (j < m - m % 4))


TILE = "tile (i / 4, j / 4) is (T / (m / 4 rounded up), T % (n / 4 rounded up)) for no number T of a tile"
WRITTEN: tuple[tuple[Callable[[Array, Array, int, int], Array], str], ...] = (
    (_in_four_shares, "Outputs where j >= n rounded up to a multiple of 4 are not written."),
    (_triangular, "Outputs where i / 8 > j / 8 are not written."),
    (_tiles_of_four, f"Outputs where {TILE} are not written."),
    (_whole_tiles, ""),
)
"""Which outputs are written, and what is said; nothing, here, where columns and rows by themselves say it."""


@pytest.mark.parametrize(("written", "sentence"), WRITTEN, ids=lambda of: getattr(of, "__name__", ""))
def test_rows_and_columns_together(written: Callable[[Array, Array, int, int], Array], sentence: str) -> None:
    """Which outputs are not written depends on row and column, or on the other side's length."""

    def change(out: Array, right: Array, _nb: int) -> None:
        n, m = right.shape
        i, j = (np.asarray(index) for index in np.indices((n, m)))
        here = written(i, j, m, n)
        out.reshape(n, m)[here] = right[here]

    facts, failures = measured(_of(change))
    assert [fact.sentence for fact in facts] == ([sentence] if sentence else [])
    assert all(fact.explained(failures) == failures and fact.evidence for fact in facts)
