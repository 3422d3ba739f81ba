"""What products keep of the call before: measured by pairs of calls."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from q8a8 import dequantize_row, layout
from q8a8.abi import Reference
from q8a8.matmul import mul_mat
from q8a8.quantize import quantize_row
from q8a8_conformance.diagnosis.products.state import state_of_products
from q8a8_conformance.faults.in_process import InProcessSession
from q8a8_conformance.inputs import mul_mat_rows
from q8a8_conformance.inputs.calls import MUL_MAT
from q8a8_conformance.inputs.calls import mul_mat as product_call
from q8a8_conformance.results.observations import Failure

Array = NDArray[Any]
PADDING = (
    "All outputs where nb is odd also contain the products of block nb of the last row of x and of the last "
    "row of w of a call before of longer rows."
)
COLUMN = (
    "Outputs in the last column where m is odd also contain the products of all blocks of row i of x and of "
    "row j of w of a call before of other matrices."
)
BEFORE = "are those of the call before"


class KeepsX(Reference):
    """A kernel that keeps x for the next call of as many rows and elements."""

    held: tuple[tuple[int, int], Array] | None = None

    def mul_mat_q8_a8(self, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
        """Multiply by what is kept."""
        if self.held is None or self.held[0] != (n, k):
            self.held = (n, k), x.copy()
        super().mul_mat_q8_a8(m, n, k, w, self.held[1], out)


class KeepsLastRow(Reference):
    """A kernel that keeps the last row of w for the next call of the same shape."""

    held: tuple[tuple[int, int, int], Array] | None = None

    def mul_mat_q8_a8(self, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
        """Multiply by what is kept."""
        size, given = k // 32 * 34, w.copy()
        if m and self.held is not None and self.held[0] == (m, n, k):
            given[(m - 1) * size : m * size] = self.held[1]
        self.held = (m, n, k), w[(m - 1) * size : m * size].copy()
        super().mul_mat_q8_a8(m, n, k, given, x, out)


ADDED = "added to those of a call before of other matrices"
LEFT = "the last block of the row from block i * nb on of all blocks of x of a call before of longer rows"


class AddsUp(Reference):
    """A kernel that does not reset its sums where a call has as many outputs as the one before."""

    held = np.zeros(0, np.float32)

    def mul_mat_q8_a8(self, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
        """Multiply, and add what is kept."""
        super().mul_mat_q8_a8(m, n, k, w, x, out)
        right = out[: m * n].copy()
        if right.size == self.held.size:
            out[: m * n] += self.held
        self.held = right


class Compares(Reference):
    """A kernel that keeps x for the next call of an x with the same first block."""

    held: tuple[tuple[int, int, bytes], Array] | None = None
    compared = 32

    def mul_mat_q8_a8(self, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
        """Multiply by what is kept."""
        key = n, k, x[: self.compared].tobytes()
        if self.held is None or self.held[0] != key:
            self.held = key, x.copy()
        super().mul_mat_q8_a8(m, n, k, w, self.held[1], out)


class ComparesOne(Compares):
    """The same, of an x with the same first element."""

    compared = 1


class Pads(Reference):
    """A kernel that pads rows to an even number of blocks, in a buffer that it does not clear."""

    held = np.zeros((2, 400, 34), np.uint8)

    def mul_mat_q8_a8(self, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
        """Multiply, and add the product of the padding."""
        super().mul_mat_q8_a8(m, n, k, w, x, out)
        nb = k // 32
        if nb % 2 and out.size:
            of_x, of_w = (layout.as_blocks(each[nb]) for each in self.held)
            scale = float(of_x["weight_scale"].item()) * float(of_w["weight_scale"].item())
            out[: m * n] += scale * (of_x["weight_qs"].astype(int) * of_w["weight_qs"]).sum()
        for held, rows in zip(self.held, (quantize_row(x[: n * k]).view(np.uint8), w), strict=True):
            held[:nb] = rows.reshape(-1, 34)[: m * nb if rows is w else n * nb][-nb:]


class NotReset(Reference):
    """A kernel that adds the last column, where their number is odd, to what a call before left there."""

    held = np.zeros(1 << 10, np.float32)

    def mul_mat_q8_a8(self, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
        """Multiply, and add what is kept."""
        super().mul_mat_q8_a8(m, n, k, w, x, out)
        sums = out[: m * n].reshape(n, m)
        if m % 2:
            right = sums[:, -1].copy()
            sums[:, -1] += self.held[:n]
            self.held[:n] = right


class Accumulates(Reference):
    """A kernel whose accumulators for what is left of a row's columns are never reset."""

    held = np.zeros(8, np.float32)

    def mul_mat_q8_a8(self, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
        """Multiply, and go on with the sums of the call before."""
        super().mul_mat_q8_a8(m, n, k, w, x, out)
        if n == 1 and m % 8:
            left = out[m - m % 8 : m]
            left += self.held[: m % 8]
            self.held[: m % 8] = left


class Unwritten(Reference):
    """A kernel that leaves the last block of a row of x unwritten in its buffer, where one is left over."""

    held = np.zeros((1 << 15, 34), np.uint8)

    def mul_mat_q8_a8(self, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
        """Multiply by what the buffer holds."""
        nb = k // 32
        rows = self.held[: n * nb].reshape(n, nb, 34)
        given = quantize_row(x[: n * k]).view(np.uint8).reshape(n, nb, 34)
        rows[:, : nb - (nb % 4 == 1)] = given[:, : nb - (nb % 4 == 1)]
        floats = dequantize_row(layout.as_blocks(np.ascontiguousarray(rows).reshape(-1)))
        super().mul_mat_q8_a8(m, n, k, w, np.ascontiguousarray(floats.reshape(-1)), out)


class Forgets(Reference):
    """A kernel that keeps nothing."""


@pytest.mark.parametrize(
    ("kernel", "sentences"),
    [
        (KeepsX, [f"The quantized values of x {BEFORE} where n and k are the same."]),
        (
            KeepsLastRow,
            [f"The blocks of w in the last row of w {BEFORE} where m, n and k are the same."],
        ),
        (AddsUp, ["The sums begin with the outputs of the call before where m and n are the same."]),
        (
            Compares,
            [f"The quantized values of x {BEFORE} where n, k and the first block of x are the same."],
        ),
        (
            ComparesOne,
            [f"The quantized values of x {BEFORE} where n, k and the first element of x are the same."],
        ),
        (Pads, [PADDING]),
        (NotReset, [COLUMN]),
        (Accumulates, [f"Outputs in the columns beyond a multiple of 8 where n = 1 are {ADDED}."]),
        (
            Unwritten,
            [f"All outputs where nb % 4 = 1 have, in the place of their own, {LEFT}."],
        ),
        (Forgets, []),
    ],
)
def test_what_is_kept(kernel: type[Reference], sentences: list[str]) -> None:
    """What explains two pairs of calls is said, and what must be the same in both."""
    session = InProcessSession(kernel, [MUL_MAT])
    w, x = mul_mat_rows.exact(4, 2, 3)
    call, right = product_call(w, x), (mul_mat(w, x).astype("<f4").tobytes(),)
    failure = Failure(call, (bytes(len(right[0])),), right)
    facts = state_of_products(session, [failure])
    assert [fact.sentence for fact in facts] == sentences
    assert all(fact.explains(failure) and fact.evidence for fact in facts)
