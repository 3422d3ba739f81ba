"""Mutants of the walk over blocks and rows: counters, tails, strides, places, what is done with s."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.faults.kernel import DEQUANTIZE, DOT, DOTS, ROWS
from q8a8_conformance.faults.mutant import Mutant

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Array = NDArray[Any]

F32 = np.float32
TWO_ROWS, OVERWRITE, COUNT, STRIDES = (f"Q8A8-DOT-{number}" for number in (6, 7, 10, 12))
PLACE = "Q8A8-LAY-2"


def _first(count: Callable[[int], int]) -> Callable[[int], Array]:
    """Treat so many blocks from the start."""
    return lambda nb: np.arange(count(nb))


def _last_twice(nb: int) -> Array:
    """Let the tail's last vector overlap: the last of an odd number of blocks is added twice."""
    return np.r_[np.arange(nb), nb - 1] if nb % 2 and nb > 1 else np.arange(nb)


def _tail_rereads(nb: int) -> Array:
    """Read the block before the last one in its place, in odd rows."""
    order = np.arange(nb)
    if nb % 2 and nb > 1:
        order[-1] = nb - 2
    return order


def _remainder_of_three(nb: int) -> Array:
    """Drop the tail of a loop unrolled eight times, where three blocks are left over."""
    return np.arange(nb - 3 if nb > 8 and nb % 8 == 3 else nb)


def _added(s: Array, place: int, result: Any, nb: int) -> None:  # noqa: ANN401 - a NumPy scalar
    del nb
    s[place] += result


def _added_if_finite(s: Array, place: int, result: Any, nb: int) -> None:  # noqa: ANN401 - a NumPy scalar
    del nb
    s[place] = result + (s[place] if math.isfinite(s[place]) else F32(0))


def _nothing_for_nothing(s: Array, place: int, result: Any, nb: int) -> None:  # noqa: ANN401 - a NumPy scalar
    if nb:
        s[place] = result


def _needs_bs_zero(call: Callable[[], None], function: str, arguments: Sequence[Any]) -> None:
    """Store the one result bs floats further on, where it is lost; kept inside the buffer here."""
    del function
    s, bs, nrc = arguments[1], arguments[2], arguments[7]
    held = s[:1].copy()
    call()
    if nrc == 1 and bs > 1:
        s[:1] = held


def _clears_between(call: Callable[[], None], function: str, arguments: Sequence[Any]) -> None:
    """Clear the floats between the results, as a store of whole vectors does."""
    del function
    s, bs, nrc = arguments[1], arguments[2], arguments[7]
    if nrc == 2:
        s[: bs + 2] = 0
    call()


def _one_row(call: Callable[[], None], function: str, arguments: Sequence[Any]) -> None:
    """Leave out the results for y1."""
    del function
    s, bs, nrc = arguments[1], arguments[2], arguments[7]
    held = s[bs : bs + 2].copy() if nrc == 2 else None
    call()
    if held is not None:
        s[bs : bs + 2] = held


ALL_BLOCKS = "Treat every block once: handle what the unrolled loop leaves over."
PLACES = "Write x0·y0, x1·y0, x0·y1, x1·y1 to s[0], s[1], s[bs], s[bs + 1]."
DISTANCES = "Rows x0 and x1 are bx bytes apart, y0 and y1 by bytes."

MUTANTS = (
    Mutant(
        "odd-block-lost",
        "The last of an odd number of blocks is left out.",
        {"visited": _first(lambda nb: nb - nb % 2)},
        DOTS,
        rule=COUNT,
        fix=ALL_BLOCKS,
        seen="ggml of 2023, ggml_vec_dot_q8_0_q8_0: `assert(nb % 2 == 0); // TODO: handle odd nb`",
    ),
    Mutant(
        "tail-of-four-lost",
        "Blocks beyond a multiple of four are left out.",
        {"visited": _first(lambda nb: nb - nb % 4 if nb > 4 else nb)},
        DOTS,
        rule=COUNT,
        fix=ALL_BLOCKS,
    ),
    Mutant(
        "remainder-of-three-lost",
        "A loop unrolled eight times drops a remainder of exactly three blocks.",
        {"visited": _remainder_of_three},
        DOTS,
        rule=COUNT,
        fix=ALL_BLOCKS,
    ),
    Mutant(
        "counter-of-eight-bits",
        "The block counter has eight bits.",
        {"visited": _first(lambda nb: nb % 256)},
        DOTS,
        rule=COUNT,
        fix="Count blocks in an int: 256 of them are 8192 elements.",
    ),
    Mutant(
        "last-block-lost",
        "The last block is left out.",
        {"visited": _first(lambda nb: max(nb - 1, 0))},
        DOTS,
        rule=COUNT,
        fix="Loop while b < nb, not b < nb - 1.",
    ),
    Mutant(
        "first-block-lost",
        "The first block is left out of rows of several.",
        {"visited": lambda nb: np.arange(1 if nb > 1 else 0, nb)},
        DOTS,
        rule=COUNT,
        fix="Start at block 0.",
    ),
    Mutant(
        "last-block-twice",
        "The last of an odd number of blocks is added twice.",
        {"visited": _last_twice},
        DOTS,
        rule=COUNT,
        fix="Mask the overlap of the last vector.",
    ),
    Mutant(
        "tail-reads-before",
        "In odd rows the block before the last is read in its place.",
        {"visited": _tail_rereads},
        DOTS,
        rule=COUNT,
        fix="Let the tail start where the loop stopped.",
    ),
    Mutant(
        "quantize-odd-block-lost",
        "The quantizers leave the last of an odd number of blocks unwritten.",
        {"visited": _first(lambda nb: nb - nb % 2)},
        ROWS,
        rule=PLACE,
        fix=ALL_BLOCKS,
    ),
    Mutant(
        "dequantize-tail-lost",
        "Dequantization leaves blocks beyond a multiple of four unwritten.",
        {"visited": _first(lambda nb: nb - nb % 4 if nb > 4 else nb)},
        (DEQUANTIZE,),
        rule=PLACE,
        fix=ALL_BLOCKS,
    ),
    Mutant(
        "count-of-sixteen-bits",
        "The block count is kept in an int16_t: rows of 32768 blocks have none.",
        {"visited": _first(lambda nb: nb if nb < 2**15 else 0)},
        DOTS,
        rule=COUNT,
        fix="Count blocks in an int: n is one.",
    ),
    Mutant(
        "short-tail-after-tile-lost",
        "After a whole tile of 1024 blocks a tail of one to three blocks is left out.",
        {"visited": _first(lambda nb: nb - nb % 1024 if nb > 1024 and nb % 1024 < 4 else nb)},
        DOTS,
        rule=COUNT,
        fix=ALL_BLOCKS,
    ),
    Mutant(
        "tail-after-odd-tile-lost",
        "After whole tiles of 960 blocks a tail of one to three blocks is not written.",
        {"visited": _first(lambda nb: nb - nb % 960 if nb > 960 and nb % 960 < 4 else nb)},
        (DEQUANTIZE,),
        rule=PLACE,
        fix=ALL_BLOCKS,
    ),
    Mutant(
        "quantize-tile-tail-lost",
        "After a whole tile of 128 blocks a tail of one block is not written.",
        {"visited": _first(lambda nb: nb - 1 if nb > 128 and nb % 128 == 1 else nb)},
        ROWS,
        rule=PLACE,
        fix=ALL_BLOCKS,
    ),
    Mutant(
        "dequantize-count-of-sixteen-bits",
        "The element count is kept in a uint16_t: of 2048 blocks none is written.",
        {"visited": _first(lambda nb: nb % 2048)},
        (DEQUANTIZE,),
        rule=PLACE,
        fix="Count elements in an int64_t, as k is.",
    ),
    Mutant(
        "s-added",
        "The result is added to what s held.",
        {"store": _added},
        rule=OVERWRITE,
        fix="Overwrite s.",
    ),
    Mutant(
        "s-added-if-finite",
        "The result is added to what s held, if that is a finite number.",
        {"store": _added_if_finite},
        (DOT,),
        rule=OVERWRITE,
        fix="Overwrite s.",
    ),
    Mutant(
        "empty-unwritten",
        "With n = 0 nothing is written.",
        {"store": _nothing_for_nothing},
        rule="Q8A8-DOT-5",
        fix="Write +0: do not return early.",
    ),
    Mutant(
        "results-exchanged",
        "x1·y0 and x0·y1 change places.",
        {"places": lambda bs: (0, bs, 1, bs + 1)},
        rule=TWO_ROWS,
        fix=PLACES + " vmmlaq_s32 gives them in the order x0·y0, x0·y1, x1·y0, x1·y1.",
    ),
    Mutant(
        "results-transposed-second",
        "The results for y1 change places.",
        {"places": lambda bs: (0, 1, bs + 1, bs)},
        rule=TWO_ROWS,
        fix=PLACES,
    ),
    Mutant(
        "bs-ignored",
        "The results for y1 go to s[2] and s[3].",
        {"places": lambda _bs: (0, 1, 2, 3)},
        rule=TWO_ROWS,
        fix=PLACES,
    ),
    Mutant(
        "bs-in-bytes",
        "bs is taken for a number of bytes.",
        {"places": lambda bs: (0, 1, bs // 4, bs // 4 + 1)},
        rule=TWO_ROWS,
        fix="bs counts floats, unlike bx and by.",
    ),
    Mutant(
        "bx-ignored",
        "x1 is read right behind x0.",
        {"strides": lambda n, _bx, by: (n // 32 * 34, by)},
        rule=TWO_ROWS,
        fix=DISTANCES,
    ),
    Mutant(
        "by-ignored",
        "y1 is read right behind y0.",
        {"strides": lambda n, bx, _by: (bx, n // 32 * 34)},
        rule=TWO_ROWS,
        fix=DISTANCES,
    ),
    Mutant(
        "one-stride",
        "The smaller of bx and by is used for both.",
        {"strides": lambda _n, bx, by: (min(bx, by), min(bx, by))},
        rule=TWO_ROWS,
        fix=DISTANCES,
    ),
    Mutant(
        "equal-strides-packed",
        "Where bx and by are equal, rows are read right behind each other.",
        {"strides": lambda n, bx, by: (n // 32 * 34,) * 2 if bx == by else (bx, by)},
        rule=TWO_ROWS,
        fix=DISTANCES,
    ),
    Mutant(
        "strides-in-sixteen-bits",
        "bx and by are kept in sixteen bits.",
        {"strides": lambda _n, bx, by: (bx % 2**16, by % 2**16)},
        rule=TWO_ROWS,
        fix="Keep strides in a size_t.",
    ),
    Mutant(
        "bs-in-eight-bits",
        "bs is kept in eight bits.",
        {"places": lambda bs: (0, 1, bs % 256, bs % 256 + 1)},
        rule=TWO_ROWS,
        fix="Keep bs in a size_t.",
    ),
    Mutant(
        "second-row-lost",
        "The results for y1 are not written.",
        {},
        (DOT,),
        lambda: _one_row,
        rule=TWO_ROWS,
        fix="Write all four results.",
    ),
    Mutant(
        "between-cleared",
        "With nrc = 2 the floats between the results are cleared.",
        {},
        (DOT,),
        lambda: _clears_between,
        rule=TWO_ROWS,
        fix="Write the four results and nothing else.",
    ),
    Mutant(
        "single-stored-far",
        "With nrc = 1 the result is stored bs floats further on.",
        {},
        (DOT,),
        lambda: _needs_bs_zero,
        rule=STRIDES,
        fix="With nrc = 1 write s[0], whatever bs is.",
    ),
)  # fmt: skip
