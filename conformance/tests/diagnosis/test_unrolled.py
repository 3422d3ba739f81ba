"""Slips in unrolled loops: the block, or the scale, of another one of its group, in every group."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8_conformance.diagnosis.dots import dot_facts
from q8a8_conformance.diagnosis.replay import replay
from q8a8_conformance.faults.in_process import InProcessSession
from q8a8_conformance.faults.kernel import DOT, Kernel
from q8a8_conformance.inputs import calls, dot_rows
from q8a8_conformance.mutants import make
from q8a8_conformance.results.observations import Failure
from q8a8_conformance.reveal.places import Condition

if TYPE_CHECKING:
    from q8a8_conformance.diagnosis.facts import Fact
    from q8a8_conformance.inputs.arrays import Array

LAST_OF_4 = {"kind": "last-of-tile", "tile": 4}

LENGTHS = (0, 1, 2, 3, 4, 5, 7, 8, 9, 11, 17, 33, 64, 65, 257)


class _Confused(Kernel):
    """Takes, of every whole group of blocks, some bytes of one block of a row from another block.

    Parameters
    ----------
    side
        0 for x, 1 for y.
    group, place, other
        The blocks of a group, the number of the one that is wrong, and of the one that it takes.
    part
        The bytes of a block that are another one's.
    """

    def __init__(self, side: int, group: int, place: int, other: int, part: slice) -> None:
        super().__init__()
        self._side, self._part = side, part
        self._group, self._place, self._other = group, place, other

    def ggml_vec_dot_q8_a8_q8_a8(
        self, n: int, s: Array, bs: int, vx: Array, bx: int, vy: Array, by: int, nrc: int
    ) -> None:
        """Copy the bytes, and multiply."""
        rows = [vx.copy(), vy.copy()]
        most = n // 32 // self._group * self._group
        for row in range(nrc):
            start = row * (bx, by)[self._side]
            blocks = rows[self._side][start : start + 34 * most].reshape(-1, self._group, 34)
            blocks[:, self._place, self._part] = blocks[:, self._other, self._part]
        super().ggml_vec_dot_q8_a8_q8_a8(n, s, bs, rows[0], bx, rows[1], by, nrc)


def facts_about(kernel: Kernel) -> tuple[list[Fact], list[Failure]]:
    """Return the facts about a dot product, and its failed calls."""
    session = InProcessSession(lambda: kernel, (DOT,))
    failed = []
    for number, nb in enumerate(LENGTHS):
        call = calls.dot(*dot_rows.random_pair(nb, seed=number))
        outputs, right = session.call(call).outputs, replay(make(), call)
        if outputs != right:
            failed.append(Failure(call, outputs, right))
    return dot_facts(DOT, {1: failed}, lambda call: session.call(call).outputs, 120.0), failed


@pytest.mark.parametrize(
    ("side", "group", "place", "other"), [(1, 2, 1, 0), (0, 4, 2, 1), (1, 4, 3, 0), (0, 8, 0, 5)]
)
def test_codes_of_another_block(side: int, group: int, place: int, other: int) -> None:
    """The codes of one row are another block's, under the right scale: the place in every group is found."""
    facts, failed = facts_about(_Confused(side, group, place, other, slice(2, 34)))
    assert (facts[0].fact, facts[0].rule) == ("block-meets-another", "Q8A8-DOT-10")
    (blocks,) = facts[0].where["blocks"]
    kind, *numbers = blocks["position"].values()
    where = Condition(kind, *numbers).holds(np.arange(50), 50)
    assert np.flatnonzero(where).tolist() == [*range(place, 50 // group * group, group)]
    assert blocks["xy"[side] + "_codes"] == f"b {'+' if other > place else '-'} {abs(other - place)}"
    assert len(facts[0].explained(failed)) == len(failed)


def test_a_whole_block_of_another_place() -> None:
    """A block that is another one with its scale."""
    facts, failed = facts_about(_Confused(1, 4, 3, 2, slice(0, 34)))
    (blocks,) = facts[0].where["blocks"]
    assert (blocks["position"], blocks["y_codes"], blocks["y_scale"]) == (LAST_OF_4, "b - 1", "b - 1")
    assert len(facts[0].explained(failed)) == len(failed)


@pytest.mark.parametrize(("side", "group", "place", "other"), [(0, 4, 3, 1), (1, 8, 5, 6)])
def test_the_scale_of_another_block(side: int, group: int, place: int, other: int) -> None:
    """One block of every group has another one's scale: no zero scale has an influence on others."""
    facts, failed = facts_about(_Confused(side, group, place, other, slice(0, 2)))
    assert (facts[0].fact, facts[0].rule) == ("scale-of-another-block", "Q8A8-DOT-3")
    words = facts[0].where["blocks"][0]["xy"[side] + "_scale"]
    assert words == f"b {'+' if other > place else '-'} {abs(other - place)}"
    assert len(facts[0].explained(failed)) == len(failed)
    assert np.all([fact.fact != "zero-scale-affects-others" for fact in facts])


class _Hoisted(_Confused):
    """Reads a scale once for all blocks that are left over after whole groups."""

    def ggml_vec_dot_q8_a8_q8_a8(
        self, n: int, s: Array, bs: int, vx: Array, bx: int, vy: Array, by: int, nrc: int
    ) -> None:
        """Copy the scale, and multiply."""
        rows = [vx.copy(), vy.copy()]
        rest = rows[self._side][n // 32 // self._group * self._group * 34 :].reshape(-1, 34)
        rest[:, self._part] = rest[:1, self._part]
        Kernel.ggml_vec_dot_q8_a8_q8_a8(self, n, s, bs, rows[0], bx, rows[1], by, nrc)


@pytest.mark.parametrize(("side", "group"), [(0, 4), (1, 3)])
def test_one_scale_for_the_blocks_left_over(side: int, group: int) -> None:
    """The scale of the first block left over is not that of the first block of the row."""
    facts, failed = facts_about(_Hoisted(side, group, 0, 0, slice(0, 2)))
    (blocks,) = facts[0].where["blocks"]
    assert blocks["xy"[side] + "_scale"] == {4: "b - b % 4", 3: "b - 1"}[group]
    short = [one for one in failed if one.call.n <= 65 * 32]  # (In a long row one scale is within the bound.)
    assert len(facts[0].explained(short)) == len(short)
