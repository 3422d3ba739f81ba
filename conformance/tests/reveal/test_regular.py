"""Regular orders: those of the catalogue, and random ones, are revealed as they are."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8.order import ORDERS, WHOLE, Order, Tail
from q8a8_conformance.inputs.calls import DOT_REAL
from q8a8_conformance.reveal.programs import meaning, program

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8.order import Fold, Lanes
    from q8a8_conformance.reveal.dots import Revealed

    Reveal = Callable[..., Revealed]
    InOrder = Callable[..., object]

pytestmark = pytest.mark.rule("Q8A8-ORD-1")


@pytest.mark.parametrize("name", ORDERS)
def test_catalogue(reveal: Reveal, in_order: InOrder, name: str) -> None:
    """Each order of the catalogue is revealed under its name, and explains all results."""
    found = reveal(in_order(ORDERS[name]))
    assert found.is_tree
    (piece,) = found.pieces
    assert piece.found is not None
    assert name in piece.found.names
    assert found.of
    assert (found.bits, found.rounding) == (24, "to nearest, ties to even")
    assert found.calls < 250


def test_two_rows_and_version_2(reveal: Reveal, in_order: InOrder) -> None:
    """Two rows at a time, and the version 2 product, are revealed by the same experiments."""
    for function, nrc in ((DOT_REAL, 1), ("ggml_vec_dot_q8_a8_q8_a8", 2)):
        found = reveal(in_order(ORDERS["neon-dotprod-gcc"]), (1, 2, 3, 7, 8), function, nrc)
        assert found.is_tree
        assert found.pieces[0].found is not None
        assert found.pieces[0].found.names == ("neon-dotprod-gcc",)


def _random_fold(rng: np.random.Generator, count: int) -> Fold:
    """Return a random tree of all registers."""
    parts: list[Fold] = [int(r) for r in rng.permutation(count)]
    while len(parts) > 1:
        one, other = (parts.pop(int(rng.integers(len(parts)))) for _ in range(2))
        parts.append((one, other))
    return parts[0]


def _random_lanes(rng: np.random.Generator) -> Lanes:
    """Return lanes: the whole block, equal parts of it in any order of the codes, or parts of any size."""
    count = int(rng.choice([1, 2, 4, 8, 16]))
    codes = [int(code) for code in rng.permutation(32)] if rng.integers(2) else list(range(32))
    ends = range(0, 33, 32 // count)
    if count > 1 and rng.integers(3) == 0:
        ends = [0, *sorted(int(e) for e in rng.choice(np.arange(1, 32), count - 1, replace=False)), 32]  # type: ignore[assignment]
    return tuple(tuple(sorted(codes[a:b])) for a, b in pairwise(ends))


def random_order(seed: int) -> Order:
    """Return a random order: lanes, accumulators, fold, tail, fused products."""
    rng = np.random.default_rng(seed)
    lanes = _random_lanes(rng)
    accumulators = int(rng.choice([1, 2, 3, 4, 5]))
    body = tuple(int(a) for a in rng.permutation(accumulators))
    body = tuple(sorted(body)) if rng.integers(2) else tuple(body.index(a) for a in body)
    fused, tail_fused = (bool(f) for f in rng.integers(2, size=2))
    registers = accumulators * len(lanes)
    fold = _random_fold(rng, registers)
    tail = ("scalar", "body", "first", "apart", "vector")[seed % 5]
    if tail == "first":
        where = Tail(lanes, tuple(range(registers)), (0,))
        return Order("random", lanes, body, fold, fused, where, tail_fused, 1, "")
    if tail == "apart":
        where = Tail(WHOLE, (fold, None), (1,))
        return Order("random", lanes, body, (0, 1), fused, where, tail_fused, 1, "")
    if tail == "vector" and len(lanes) > 1:
        join = _random_fold(rng, accumulators)
        start = tuple(_lane_of(join, len(lanes), lane) for lane in range(len(lanes)))
        where = Tail(lanes, start, (0,))
        return Order("random", lanes, body, _random_fold(rng, len(lanes)), fused, where, tail_fused, 1, "")
    return Order(
        "random", lanes, body, fold, fused, "body" if tail == "body" else "scalar", tail_fused, 1, ""
    )


def _lane_of(fold: Fold, lanes: int, lane: int) -> Fold:
    """Return a fold of accumulators as one of their registers of a lane."""
    if isinstance(fold, int):
        return fold * lanes + lane
    return _lane_of(fold[0], lanes, lane), _lane_of(fold[1], lanes, lane)


def check_revealed(reveal: Reveal, in_order: InOrder, order: Order) -> None:
    """Check that an order is revealed with its own additions, at lengths that were asked for and others."""
    found = reveal(in_order(order), (1, 2, 3, 5, 7, 9, 14))
    assert found.is_tree, found.text()
    (piece,) = found.pieces
    assert piece.found is not None
    for nb in (1, 2, 3, 5, 8, 9, 14):
        assert meaning(program(piece.found.order, nb)) == meaning(program(order, nb))


@pytest.mark.parametrize("seed", [*range(34), 37])
def test_random_order(reveal: Reveal, in_order: InOrder, seed: int) -> None:
    """A random order is revealed, addition by addition, fused where it is."""
    order = random_order(seed)
    check_revealed(reveal, in_order, order)


@pytest.mark.parametrize(("step", "tail_fused"), [(2, True), (4, False)])
def test_one_accumulator_and_a_step(reveal: Reveal, in_order: InOrder, step: int, tail_fused: bool) -> None:
    """Whole blocks after the fold of one accumulator's lanes are told from blocks in its lanes."""
    halves = (tuple(range(16)), tuple(range(16, 32)))
    order = Order("made", halves, (0,) * step, (0, 1), False, "scalar", tail_fused, 1, "")
    check_revealed(reveal, in_order, order)
