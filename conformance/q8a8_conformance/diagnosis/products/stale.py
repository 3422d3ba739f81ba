"""What outputs of a product contain of a call before, of larger matrices: in which outputs, and which terms.

Before each call one of zeros of still larger matrices is made, so that nothing else is left of others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from q8a8.matmul import mul_mat
from q8a8_conformance.diagnosis.products.rules import output_rule
from q8a8_conformance.diagnosis.products.terms import sides_of, terms_of
from q8a8_conformance.inputs import calls, mul_mat_rows
from q8a8_conformance.inputs.arrays import Array
from q8a8_conformance.results.expected_product import outputs_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from q8a8_conformance.diagnosis.products.rules import OutputRule, Shape
    from q8a8_conformance.diagnosis.products.terms import Side
    from q8a8_conformance.reveal.quantizers.calls import AnySession

Matrices = tuple[Array, Array]

MORE = 9
"""Rows, or blocks, that the call before has more."""

LARGEST = 1 << 21
"""Products of blocks of a call of zeros, at most: where it would have more, calls before are no larger."""

GROWN = {
    "": (0, 0, 0),
    " of longer rows": (0, 0, MORE),
    " of more rows of x": (0, MORE, 0),
    " of more rows of w": (MORE, 0, 0),
    (LARGER := " of larger matrices"): (MORE, MORE, MORE),
}
"""How the call before differs: rows of w, of x, and blocks of a row that it has more."""

ROUNDING = 2.0**-21
"""What roundings leave of two outputs, relative to these."""

ROWS = {"row {i} of {side}": "own", "the last row of {side}": "last", "the first row of {side}": "first"}


FLAT = "the row from block {i} * nb on of all blocks of {side}"
"""The same of blocks that are counted from the first of a matrix on."""

ADDED: dict[str, Callable[..., slice]] = {
    "block nb": lambda nb, _all: slice(nb, nb + 1),
    **{
        f"the blocks from block nb up to a multiple of {t}": lambda nb, _all, t=t: slice(nb, -(-nb // t) * t)
        for t in (4, 8, 16, 32)
    },
    "the blocks from block nb on": slice,
    "all blocks": lambda _nb, every: slice(every),
    "the first nb blocks": lambda nb, _all: slice(nb),
}
"""Blocks of the call before that may be added to a call of nb: words, and which of how many these are."""

REPLACED: dict[str, Callable[[int, int], slice]] = {
    "": lambda nb, _all: slice(nb),
    "the last block of ": lambda nb, _all: slice(nb - 1, nb),
    "the first block of ": lambda _nb, _all: slice(1),
    "the blocks from block 1 on of ": lambda nb, _all: slice(1, nb),
}
"""The same of blocks that may stand in the place of a row's own."""


@dataclass(frozen=True)
class Stale:
    """Outputs that contain something of a call before.

    Attributes
    ----------
    outputs
        Which.
    words
        What, as a clause without its subject.
    """

    outputs: OutputRule
    words: str


def grows(shape: Shape) -> bool:
    """Return whether calls before one of a shape may be larger: that takes too long where it is large."""
    return math.prod(size + 2 * MORE for size in shape) <= LARGEST


def forget(session: AnySession, shape: Shape) -> None:
    """Multiply zeros, of no fewer rows and no shorter ones than any other call that is made for a shape."""
    more = 2 * MORE if grows(shape) else 0
    w, x = (np.zeros_like(each) for each in mul_mat_rows.exact(*(size + more for size in shape)))
    session.call(calls.mul_mat(w, x))


def pair_of(shape: Shape, grown: str) -> tuple[Matrices, Matrices]:
    """Return the matrices of a call before, and of a call of a shape."""
    more = (size + by * grows(shape) for size, by in zip(shape, GROWN[grown], strict=True))
    return mul_mat_rows.exact(*more, 1), mul_mat_rows.exact(*shape, 2)


def find_stale(session: AnySession, shapes: list[Shape]) -> Stale | None:
    """Find what outputs contain of a call before; None for nothing."""
    for grown, shape in product(GROWN, shapes):
        if (grown and not grows(shape)) or not _wrong(session, shape, grown).any():
            continue

        def look(shape: Shape, grown: str = grown) -> Array:
            return _wrong(session, shape, grown)

        outputs = output_rule(shape, [], look, lambda shape: np.ones((shape[1], shape[0]), bool))
        if outputs is not None:
            some = [shape, *(other for other in shapes if outputs.holds(other).any())]
            what = next(_what(session, some, grown), "are wrong after a call") + (
                grown or " of other matrices"
            )
            return Stale(outputs, what)
    return None


def _after(session: AnySession, shape: Shape, grown: str) -> tuple[Matrices, Matrices, Array, Array]:
    """Return the matrices of two calls, and outputs of the second one after zeros and after the first."""
    before, mine = pair_of(shape, grown)
    call = calls.mul_mat(*mine)
    forget(session, shape)
    clean = outputs_of(call, bytes(session.call(call).outputs[0]))
    forget(session, shape)
    session.call(calls.mul_mat(*before))
    return before, mine, clean, outputs_of(call, bytes(session.call(call).outputs[0]))


def _wrong(session: AnySession, shape: Shape, grown: str) -> Array:
    """Return which outputs a call before has changed: bool [n, m]."""
    _, _, clean, got = _after(session, shape, grown)
    return np.asarray(got != clean)


def _what(session: AnySession, shapes: list[Shape], grown: str) -> Iterator[str]:
    """Yield what explains the outputs of calls of some shapes, in words that end with the call before."""
    made = [_after(session, shape, grown) for shape in shapes]
    every = [(sides_of(before), sides_of(mine)) for before, mine, _, _ in made]

    def gives(of: Callable[[dict[str, Side], dict[str, Side]], Array], *, is_more: bool) -> bool:
        for (_, mine, clean, got), sides in zip(made, every, strict=True):
            left = (clean if is_more else mul_mat(*mine)).astype(np.float64)
            # (Products of two calls are not exact in floats.)
            near = ROUNDING * (np.abs(got) + np.abs(left))
            if not (np.abs(of(*sides) - (got - left)) <= near)[got != clean].all():
                return False
        return True

    if not grown and gives(_both, is_more=True):
        # (The clean outputs are those of the call before with zeros, and what was there.)
        yield "are added to those of a call before"
    for (words, blocks), of_w, of_x in product(ADDED.items(), ROWS, ROWS):
        if gives(partial(_added, blocks, ROWS[of_w], ROWS[of_x]), is_more=True):
            x, w = of_x.format(i="i", side="x"), of_w.format(i="j", side="w")
            yield f"also contain the products of {words} of {x} and of {w} of a call before"
    for (words, blocks), side, of in product(REPLACED.items(), "xw", (*ROWS, FLAT)):
        if gives(partial(_replaced, blocks, side, ROWS.get(of, FLAT)), is_more=False):
            row = of.format(i="i" if side == "x" else "j", side=side)
            yield f"have, in the place of their own, {words}{row} of a call before"


def _both(before: dict[str, Side], mine: dict[str, Side]) -> Array:
    """Return the outputs of two calls, together: float64 [n, m]."""
    return np.asarray(sum(terms_of(call["w"], call["x"]).sum(axis=2) for call in (before, mine)))


def _added(
    blocks: Callable[[int, int], slice], w: str, x: str, before: dict[str, Side], mine: dict[str, Side]
) -> Array:
    """Return the terms of a call before of some blocks, for the outputs of a call: float64 [n, m]."""
    sides = (_rows(before[side], which, len(mine[side][1])) for side, which in (("w", w), ("x", x)))
    nb = mine["w"][1].shape[1], before["w"][1].shape[1]
    return np.asarray(terms_of(*sides)[..., blocks(*nb)].sum(axis=2))


def _replaced(
    blocks: Callable[[int, int], slice], side: str, which: str, before: dict[str, Side], mine: dict[str, Side]
) -> Array:
    """Return what outputs have more where some blocks of a side are those of a call before."""
    nb = mine["w"][1].shape[1]
    rows = len(mine[side][1])
    taken = _flat(before[side], rows, nb) if which == FLAT else _rows(before[side], which, rows)
    codes, scales = (each[:, :nb] for each in taken)
    other = {**mine, side: (codes, scales)}
    some = blocks(nb, nb)
    change = terms_of(other["w"], other["x"])[..., some] - terms_of(mine["w"], mine["x"])[..., some]
    return np.asarray(change.sum(axis=2))


def _flat(side: Side, count: int, nb: int) -> Side:
    """Return so many rows of nb blocks that follow each other, where rows had another number of them."""
    at = (np.arange(count)[:, np.newaxis] * nb + np.arange(nb)) % side[1].size
    return side[0].reshape(-1, 32)[at], side[1].reshape(-1)[at]


def _rows(side: Side, which: str, count: int) -> Side:
    """Return so many rows: their own, or one of all."""
    codes, scales = side
    at = {"own": np.arange(count), "last": np.full(count, len(codes) - 1), "first": np.zeros(count, int)}[
        which
    ]
    return codes[at], scales[at]
