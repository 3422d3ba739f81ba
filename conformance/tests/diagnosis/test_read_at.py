"""Blocks of which some bytes are read a little before or behind their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.faults.kernel import DOT, DOT_REAL, Kernel

from .dot_calls import facts_about

if TYPE_CHECKING:
    from q8a8_conformance.inputs.arrays import Array


class _TailApart(Kernel):
    """Reads the blocks of x that are left over after groups of 4 at steps of 36 bytes, not of 34."""

    def ggml_vec_dot_q8_a8_q8_a8(
        self, n: int, s: Array, bs: int, vx: Array, bx: int, vy: Array, by: int, nrc: int
    ) -> None:
        """Copy the bytes that are read to where they belong, and multiply."""
        x, nb = vx.copy(), n // 32
        held = np.append(vx, np.zeros(64, vx.dtype))
        for start in (0, bx)[:nrc]:
            for block in range(nb // 4 * 4, nb):
                own, far = start + 34 * block, 2 * (block % 4)
                x[own : own + 34] = held[own + far : own + far + 34]
        super().ggml_vec_dot_q8_a8_q8_a8(n, s, bs, x, bx, vy, by, nrc)


class _CodesEarly(Kernel):
    """Reads y's codes of version 2 blocks 2 bytes too early from block 8 on."""

    def ggml_vec_dot_q8_a8_q8_a8_real(self, n: int, s: Array, vx: Array, vy: Array) -> None:
        """Copy the bytes that are read to where they belong, and multiply."""
        y = vy.copy()
        for own in range(36 * 8, n // 32 * 36, 36):
            y[own + 4 : own + 36] = vy[own + 2 : own + 34]
        super().ggml_vec_dot_q8_a8_q8_a8_real(n, s, vx, y)


def test_another_stride_of_a_tail() -> None:
    """The blocks are counted, and read elsewhere: the fact has the distance of them."""
    facts, failures = facts_about(DOT, _TailApart())
    (fact,) = facts
    assert fact.fact == "block-read-elsewhere"
    assert fact.sentence == (
        "The blocks of x that are left over after groups of 4 are read 36 bytes apart, not 34."
    )
    assert fact.explained(failures) == failures


def test_codes_of_some_blocks() -> None:
    """Codes that are read elsewhere than the scale, at some places of a row."""
    facts, failures = facts_about(DOT_REAL, _CodesEarly())
    assert facts[0].sentence == "In every block from block 8 on: the codes of y are read 2 bytes too early."
    assert facts[0].explained(failures) == failures


class _UpperHalfLate(Kernel):
    """Reads the upper half of y's codes a byte too late in block 2 of every four, a scale's byte too."""

    def ggml_vec_dot_q8_a8_q8_a8(
        self, n: int, s: Array, bs: int, vx: Array, bx: int, vy: Array, by: int, nrc: int
    ) -> None:
        """Copy the bytes that are read to where they belong, and multiply."""
        y = vy.copy()
        for start in (0, by)[:nrc]:
            for block in range(2, n // 32 // 4 * 4, 4):
                half = start + 34 * block + 18
                y[half : half + 16] = vy[half + 1 : half + 17]
        super().ggml_vec_dot_q8_a8_q8_a8(n, s, bs, vx, bx, y, by, nrc)


def test_some_elements_of_some_blocks() -> None:
    """Elements that are read elsewhere than the others, in part from another block."""
    facts, failures = facts_about(DOT, _UpperHalfLate())
    late = "elements 16 to 31 of y are read 1 byte too late, from byte 19 of the block on."
    assert [fact.sentence for fact in facts] == [f"In block 2 of every whole group of 4: {late}"]
    assert facts[0].explained(failures) == failures


class _LoadsRounded(Kernel):
    """Loads x's codes at their address rounded down to a multiple of 8."""

    def ggml_vec_dot_q8_a8_q8_a8(
        self, n: int, s: Array, bs: int, vx: Array, bx: int, vy: Array, by: int, nrc: int
    ) -> None:
        """Copy the bytes that are read to where they belong, and multiply."""
        x = vx.copy()
        for start in (0, bx)[:nrc]:
            for own in range(start + 2, start + n // 32 * 34, 34):
                early = (vx.ctypes.data + own) % 8
                x[own : own + 32] = np.append(np.zeros(8, vx.dtype), vx)[own + 8 - early :][:32]
        super().ggml_vec_dot_q8_a8_q8_a8(n, s, bs, x, bx, vy, by, nrc)


def test_addresses_of_blocks() -> None:
    """Where a block is read is a matter of its address, not of its number."""
    facts, failures = facts_about(DOT, _LoadsRounded(), is_placed=True)
    sentences = [fact.sentence for fact in facts]
    assert sentences == ["The codes of x are read from their address rounded down to a multiple of 8."]
    assert facts[0].explained(failures) == failures


class _AlignedAsX(Kernel):
    """Shifts y's codes into place by what is left over of the address of x's."""

    def ggml_vec_dot_q8_a8_q8_a8(
        self, n: int, s: Array, bs: int, vx: Array, bx: int, vy: Array, by: int, nrc: int
    ) -> None:
        """Copy the bytes that are read to where they belong, and multiply."""
        held = np.concatenate([np.zeros(32, vy.dtype), vy, np.zeros(32, vy.dtype)])
        for number, place in enumerate((0, 1, bs, bs + 1)[: nrc**2]):
            of_x, of_y = number % nrc * bx, number // nrc * by
            x, y = vx[of_x:][: n // 32 * 34], vy[of_y:][: n // 32 * 34].copy()
            for own in range(2, n // 32 * 34, 34):
                far = (vx.ctypes.data + of_x + own) % 16 - (vy.ctypes.data + of_y + own) % 16
                y[own : own + 32] = held[32 + of_y + own + far :][:32]
            super().ggml_vec_dot_q8_a8_q8_a8(n, s[place:], 0, x, 0, y, 0, 1)


def test_addresses_of_the_other_row() -> None:
    """Where the rows lie alike all is right; else it is said whose address is taken."""
    facts, failures = facts_about(DOT, _AlignedAsX(), is_placed=True)
    (fact,) = facts
    assert fact.sentence == (
        "The codes of y are read from their address rounded down to a multiple of 16, plus the remainder of "
        "the codes of x, not of their own."
    )
    assert fact.explained(failures) == failures
