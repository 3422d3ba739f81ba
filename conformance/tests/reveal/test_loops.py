"""Loops of any kind: tails with lanes of their own, sums of a step added at once, blocks from the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from q8a8.order import WHOLE, Order
from q8a8_conformance.reveal.loops import Blocks, Loop, divisions, read_loop
from q8a8_conformance.reveal.programs import meaning, program

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8_conformance.reveal.dots import Revealed

    Reveal = Callable[..., Revealed]

Array = NDArray[Any]

pytestmark = pytest.mark.rule("Q8A8-ORD-1")

LENGTHS = (*range(1, 12), 14, 19, 23)


def _chain(terms: Array) -> Array:
    """Add rows of terms [n, ...] one after the other."""
    start = np.zeros((1, *terms.shape[1:]), np.float32)
    return np.asarray(np.add.accumulate(np.concatenate([start, terms]))[-1])


def _fold(lanes: Array) -> Any:  # noqa: ANN401 (a NumPy scalar, Any to NumPy's types)
    """Add neighbouring lanes, then their sums."""
    while lanes.size > 1:
        lanes = lanes[0::2] + lanes[1::2]
    return lanes[0]


def tail_with_lanes(four: Array, one: Array) -> Any:  # noqa: ANN401 (a NumPy scalar, Any to NumPy's types)
    """Add pairs of blocks in whole, the one left over in lanes."""
    left = len(one) - len(one) % 2
    return _chain(one[:left, 0]) + _fold(_chain(four[left:]))


def pairs_in_lanes(four: Array, one: Array) -> Any:  # noqa: ANN401 (a NumPy scalar, Any to NumPy's types)
    """Add the lanes of two blocks, then their sum to the accumulator; the block left over in whole."""
    left = len(four) - len(four) % 2
    total = _fold(_chain(four[0:left:2] + four[1:left:2]))
    return total + one[left, 0] if len(one) > left else total


def tail_first(four: Array, one: Array) -> Any:  # noqa: ANN401 (a NumPy scalar, Any to NumPy's types)
    """Begin with the blocks that fill no step of three."""
    left = len(one) - len(one) % 3
    del four
    return _chain(np.concatenate([one[left:, 0], one[:left, 0]]))


def backwards(four: Array, one: Array) -> Any:  # noqa: ANN401 (a NumPy scalar, Any to NumPy's types)
    """Add the lanes of the last block first."""
    del one
    return _fold(_chain(four[::-1]))


def halves(four: Array, one: Array) -> Any:  # noqa: ANN401 (a NumPy scalar, Any to NumPy's types)
    """Add each half of the row by itself, in lanes."""
    del one
    half = len(four) // 2
    return _fold(_chain(four[:half])) + _fold(_chain(four[half:]))


@pytest.mark.parametrize(
    ("total", "words"),
    [
        (
            tail_with_lanes,
            "steps of 2 blocks, 1 sum, whole blocks summed in integers, not fused, b",
        ),
        (pairs_in_lanes, "blocks left over: whole blocks summed in integers"),
        (tail_first, "steps of 3 blocks, 1 sum, whole blocks summed in integers, not fused"),
        (
            backwards,
            "steps of 1 block, from the last to the first, 4 sums, 4 lanes, each 8",
        ),
        (halves, "steps of 2 blocks, one of each of 2 equal parts of the row, 8 sums"),
    ],
)
def test_loop(reveal: Reveal, total: Callable[[Array, Array], Any], words: str) -> None:
    """A loop explains all results, and is described."""

    def multiply(x: Array, y: Array) -> Array:
        d = x["weight_scale"].astype(np.float32) * y["weight_scale"].astype(np.float32)
        products = x["weight_qs"].astype(np.int32) * y["weight_qs"]
        four, one = (
            products.reshape(-1, lanes, 32 // lanes).sum(axis=-1).astype(np.float32) * d[:, np.newaxis]
            for lanes in (4, 1)
        )
        return np.asarray(total(four, one), np.float32)

    found = reveal(multiply, LENGTHS)
    assert found.is_tree, found.text()
    assert len(found.pieces) == 1
    assert words in found.text()


def test_short_rows_of_their_own(reveal: Reveal) -> None:
    """Rows too short for an order of their own have the trees that they have."""

    def multiply(x: Array, y: Array) -> Array:
        d = x["weight_scale"].astype(np.float32) * y["weight_scale"].astype(np.float32)
        products = (x["weight_qs"].astype(np.int32) * y["weight_qs"]).sum(axis=-1).astype(np.float32) * d
        return np.asarray(_chain(products if len(d) < 4 else products[::-1]), np.float32)

    found = reveal(multiply, LENGTHS)
    assert found.is_tree, found.text()
    assert "rows of 3 blocks otherwise" in found.text() or len(found.pieces) > 1


def test_no_loop() -> None:
    """Blocks of a step that are in no chain make no loop; a loop that is read is written as it was."""
    for division in divisions(2, 8):
        loop = read_loop(program_of(8), division)
        if loop:
            assert meaning(loop.program(8)) == meaning(program_of(8))
    assert read_loop(program_of(8), Blocks(3, 1, 1)) is None
    assert list(Loop(Blocks(1, 0, 0), None).without_last()) == []


def program_of(nb: int) -> Any:  # noqa: ANN401 (a program)
    """Return the program of two accumulators."""
    return program(Order("two", WHOLE, (0, 1), (0, 1), False, "body", False, 1, ""), nb)
