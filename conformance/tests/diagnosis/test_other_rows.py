"""Dot products of other rows or blocks than their own, with another scale, or into other results."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8_conformance.diagnosis.dots import dot_facts
from q8a8_conformance.faults.kernel import DOT, Kernel
from q8a8_conformance.inputs import long_rows

from .dot_calls import SECONDS, FourResults, facts_about, failed, own, probe_of, scale

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call

    Probe = Callable[[Call], tuple[bytes, ...] | None]


class _TailOfTheFirstRow(Kernel):
    """Takes, with two rows at a time, the blocks of the second row from `least` on from the first row."""

    def __init__(self, side: int, least: int) -> None:
        super().__init__()
        self._side, self._least = side, least

    def ggml_vec_dot_q8_a8_q8_a8(
        self, n: int, s: Array, bs: int, vx: Array, bx: int, vy: Array, by: int, nrc: int
    ) -> None:
        """Copy a row's tail over the other's, and multiply."""
        rows, stride = [vx.copy(), vy.copy()], (bx, by)[self._side]
        if nrc == 2:
            first, stop = 34 * self._least, n // 32 * 34
            rows[self._side][stride + first : stride + stop] = rows[self._side][first:stop]
        super().ggml_vec_dot_q8_a8_q8_a8(n, s, bs, rows[0], bx, rows[1], by, nrc)


@pytest.mark.parametrize("side", [0, 1])
def test_a_tail_of_the_other_row(side: int) -> None:
    """Blocks of the second row that are taken from the first one are found for both sides."""
    facts, failures = facts_about(DOT, _TailOfTheFirstRow(side, 8))
    assert (facts[0].fact, facts[0].rule, facts[0].nrc) == ("block-meets-another", "Q8A8-DOT-6", 2)
    other, words = ("y0", "x0·y1 and x1·y1") if side else ("x0", "x1·y0 and x1·y1")
    taken = f"takes the codes and scale of {other}"
    assert facts[0].sentence == f"With nrc = 2 every block from block 8 on of {words} {taken}."
    assert facts[0].explained(failures) == failures


class _ScaleOfThePair(Kernel):
    """Scales each block by x's scale of the first block of its pair."""

    def ggml_vec_dot_q8_a8_q8_a8(
        self, n: int, s: Array, bs: int, vx: Array, bx: int, vy: Array, by: int, nrc: int
    ) -> None:
        """Copy the scale over that of the second block, and multiply."""
        x = vx.copy()
        for start in (0, bx)[:nrc]:
            row = x[start : start + n // 32 * 34].reshape(-1, 34)
            row[1::2, :2] = row[: n // 32 // 2 * 2 : 2, :2]
        super().ggml_vec_dot_q8_a8_q8_a8(n, s, bs, x, bx, vy, by, nrc)


def test_the_scale_of_a_pair() -> None:
    """Blocks that take x's scale from the block before, every second one, are found in any order."""
    facts, failures = facts_about(DOT, _ScaleOfThePair())
    assert facts[0].sentence == "Every odd block takes x's scale from block b - 1."
    assert len(facts[0].explained(failures)) >= 0.9 * len(failures)


@pytest.mark.parametrize("sums", [((0,), (0, 1), (2,), (2, 3)), ((0,), (1,), (2,), (2,))])
def test_results_of_others(sums: tuple[tuple[int, ...], ...]) -> None:
    """With two rows, an accumulator that is not cleared, and a result that is another one's."""

    class Mixed(Kernel):
        def ggml_vec_dot_q8_a8_q8_a8(
            self, n: int, s: Array, bs: int, vx: Array, bx: int, vy: Array, by: int, nrc: int
        ) -> None:
            super().ggml_vec_dot_q8_a8_q8_a8(n, s, bs, vx, bx, vy, by, nrc)
            if nrc == 2:
                places = [0, 1, bs, bs + 1]
                s[places] = [sum(s[places[k]] for k in of) for of in sums]

    facts, failures = facts_about(DOT, Mixed())
    assert facts[0].fact == "results-of-others"
    assert facts[0].nrc == 2
    assert len(facts[0].explained(failures)) == len(failures)


class _OtherBlocks(Kernel):
    """Multiplies the blocks of x with others of y."""

    def __init__(self, blocks: Callable[[Array], Array]) -> None:
        super().__init__()
        self._blocks = blocks

    def ggml_vec_dot_q8_a8_q8_a8(
        self, n: int, s: Array, bs: int, vx: Array, bx: int, vy: Array, by: int, nrc: int
    ) -> None:
        """Move the blocks of y, and multiply."""
        y, every = vy.copy(), np.arange(n // 32)
        for start in (0, by)[:nrc]:
            row = y[start : start + n // 32 * 34].reshape(-1, 34)
            row[:] = row[self._blocks(every)]
        super().ggml_vec_dot_q8_a8_q8_a8(n, s, bs, vx, bx, y, by, nrc)


@pytest.mark.parametrize(
    ("blocks", "sentence"),
    [
        (
            lambda every: np.where(every ^ 1 < every.size, every ^ 1, every),
            "The blocks up to the last multiple of 2 take y's codes and scale from block b xor 1.",
        ),
        (
            lambda every: np.minimum(every, 63),
            "Every block from block 64 on takes y's codes and scale from block 63.",
        ),
    ],
)
def test_blocks_that_meet_others(blocks: Callable[[Array], Array], sentence: str) -> None:
    """Blocks that meet others of y by one rule at every length."""
    facts, failures = facts_about(DOT, _OtherBlocks(blocks))
    assert (facts[0].fact, facts[0].sentence) == ("block-meets-another", sentence)
    assert facts[0].explained(failures) == failures


class _Offsets(Kernel):
    """Keeps the offset of a block in so many bits."""

    def __init__(self, bits: int, *, of_bytes: bool) -> None:
        super().__init__()
        self._bits, self._of_bytes = bits, of_bytes

    def ggml_vec_dot_q8_a8_q8_a8(
        self, n: int, s: Array, bs: int, vx: Array, bx: int, vy: Array, by: int, nrc: int
    ) -> None:
        """Read blocks at the offsets that are left, of both rows, or of y alone."""
        numbers = np.arange(n // 32)
        own = 34 * numbers
        kept = own % 2**self._bits if self._of_bytes else 34 * (numbers % 2**self._bits)
        of_x, of_y = (
            rows[starts[:, np.newaxis] + np.arange(34)].reshape(-1)
            for rows, starts in ((vx, kept if self._of_bytes else own), (vy, kept))
        )
        super().ggml_vec_dot_q8_a8_q8_a8(n, s, bs, of_x, bx, of_y, by, nrc)


@pytest.mark.parametrize(
    ("bits", "of_bytes", "rows", "first"), [(16, True, "xy", 1928), (11, False, "y", 2048)]
)
def test_an_offset_that_wraps(bits: int, of_bytes: bool, rows: str, first: int) -> None:
    """An offset in too few bits is found by the bytes that it reads."""
    probe = probe_of(_Offsets(bits, of_bytes=of_bytes))
    failures = failed((long_rows.dots().call(nb) for nb in (1800, 2049, 4100)), probe)
    (fact,) = dot_facts(DOT, {1: failures}, probe, SECONDS)
    unit = "bytes" if of_bytes else "blocks"
    assert (fact.fact, fact.where) == (
        "offset-wraps",
        {"unit": unit, "bits": bits, "rows": rows, "from": first},
    )
    assert fact.explained(failures) == failures


class _ScalesOfTheFirstRow(Kernel):
    """Scales, with two rows at a time, the blocks of x1 as those of x0."""

    def ggml_vec_dot_q8_a8_q8_a8(
        self, n: int, s: Array, bs: int, vx: Array, bx: int, vy: Array, by: int, nrc: int
    ) -> None:
        """Copy the scales, and multiply."""
        x, size = vx.copy(), n // 32 * 34
        if nrc == 2:
            x[bx : bx + size].reshape(-1, 34)[:, :2] = x[:size].reshape(-1, 34)[:, :2]
        super().ggml_vec_dot_q8_a8_q8_a8(n, s, bs, x, bx, vy, by, nrc)


def test_scales_of_the_other_row() -> None:
    """Of two rows at a time each has scales of its own."""
    facts, failures = facts_about(DOT, _ScalesOfTheFirstRow())
    assert (facts[0].fact, facts[0].rule, facts[0].nrc) == ("scale-of-another-block", "Q8A8-DOT-6", 2)
    assert facts[0].sentence == "With nrc = 2 x1·y0 and x1·y1 take the scale of x0."
    assert len(facts[0].explained(failures)) == len(failures)


class _InBytes(Kernel):
    """Takes bs for a number of bytes."""

    def ggml_vec_dot_q8_a8_q8_a8(
        self, n: int, s: Array, bs: int, vx: Array, bx: int, vy: Array, by: int, nrc: int
    ) -> None:
        """Multiply, and store by bytes."""
        if nrc == 1:
            super().ggml_vec_dot_q8_a8_q8_a8(n, s, bs, vx, bx, vy, by, nrc)
            return
        four = np.zeros(4, np.float32)
        super().ggml_vec_dot_q8_a8_q8_a8(n, four, 2, vx, bx, vy, by, nrc)
        data = s.view(np.uint8)
        data[:8] = four[:2].view(np.uint8)
        data[bs : bs + 8] = four[2:].view(np.uint8)


def test_results_so_many_bytes_apart() -> None:
    """A number of bytes that is no multiple of four is found, too: results overlap there."""
    facts, failures = facts_about(DOT, _InBytes())
    assert [(fact.cause, fact.where) for fact in facts] == [("bs-in-bytes", {"y1": "bs bytes"})]
    assert len(facts[0].explained(failures)) == len(failures)


def _codes(rows: list[Array]) -> list[Array]:
    return [row["weight_qs"].astype(np.int64) for row in rows]


def _octet_of_x0(nrc: int, number: int, rows: list[Array]) -> float:
    x, y = own(number, rows)
    q = _codes([x])[0]
    if nrc == 2:
        q[3 : len(q) // 4 * 4 : 4, 8:16] = rows[0]["weight_qs"][3 : len(q) // 4 * 4 : 4, 8:16]
    return float(((q * y["weight_qs"]).sum(axis=1) * (scale(x) * scale(y))).sum())


def _corrected_by_y0(nrc: int, number: int, rows: list[Array]) -> float:
    x, y = own(number, rows)
    (qx, qy, first), off = _codes([x, y, rows[2]]), 128
    taken = (first if nrc == 2 else qy).sum(axis=1) * off
    return float(((((qx + off) * qy).sum(axis=1) - taken) * (scale(x) * scale(y))).sum())


def _lanes_exchanged(nrc: int, number: int, rows: list[Array]) -> float:
    x, y = own(number, rows)
    products = np.prod(_codes([x, y]), axis=0)
    if nrc == 2 and number in (1, 2):
        products[:, 24:] = np.prod(_codes(list(own(3 - number, rows))), axis=0)[:, 24:]
    return float((products.sum(axis=1) * (scale(x) * scale(y))).sum())


_OF_Y1 = "With nrc = 2, in x0·y1 and x1·y1: 128 is added to the codes of x, and what is taken off for it is"

OF_OTHERS = {
    "octet": (
        _octet_of_x0,
        (
            "With nrc = 2, in x1·y0 and x1·y1, in the last block of every 4: "
            "elements 8 to 15 of x are those of x0."
        ),
    ),
    "correction": (
        _corrected_by_y0,
        f"{_OF_Y1} 128 times the sum of the codes of y0, not of its own.",
    ),
    "lanes": (
        _lanes_exchanged,
        "With nrc = 2, in x1·y0 and x0·y1: Elements 24 to 31 of x and y are those of the other rows.",
    ),
}


@pytest.mark.parametrize("name", OF_OTHERS)
def test_codes_of_the_other_row(name: str) -> None:
    """What one block of a result takes of other rows is a fact, with its elements, blocks and results."""
    result, sentence = OF_OTHERS[name]
    facts, failures = facts_about(DOT, FourResults(result))
    assert [fact.sentence for fact in facts] == [sentence]
    assert {fact.rule for fact in facts} == {"Q8A8-DOT-6"}
    assert all(any(fact.explains(failure) for fact in facts) for failure in failures)
