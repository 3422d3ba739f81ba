"""The accumulation orders as data: the table, its helpers, and what an entry must be."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, asdict, replace
from importlib.util import module_from_spec
from typing import Any

import numpy as np
import pytest

from q8a8 import order as module
from q8a8.bound import roundings
from q8a8.dot import vec_dot
from q8a8.errors import ShapeError, UnknownNameError
from q8a8.layout import BLOCK_Q8_A8
from q8a8.order import (
    ORDERS,
    WHOLE,
    Order,
    Program,
    Tail,
    TreeOrder,
    fold_leaves,
    get_order,
    halves,
    pairwise,
    sequential,
)
from q8a8_conformance.inputs.dot_rows import exact_pair, random_pair

pytestmark = pytest.mark.rule("Q8A8-ORD-1")


def test_the_orders_of_the_design_are_there() -> None:
    """The names that the specification's table of orders has, each fused and not."""
    assert {
        "scalar", "scalar-fma", "neon", "neon-fma", "neon-dotprod", "neon-dotprod-fma", "neon-dotprod-gcc",
        "i8mm", "i8mm-fma", "sve-128", "sve-256", "sve-512", "avx2",
    } <= set(ORDERS)  # fmt: skip
    assert all(order.name == name for name, order in ORDERS.items())


def test_orders_are_frozen() -> None:
    """Neither an order nor the table can be changed by accident."""
    with pytest.raises(FrozenInstanceError):
        ORDERS["scalar"].fused = True  # type: ignore[misc]  # that it may not is the test
    with pytest.raises(TypeError):
        ORDERS["mine"] = ORDERS["scalar"]  # type: ignore[index]  # that it may not is the test


def test_folds_of_eight() -> None:
    """The three folds, written out."""
    assert pairwise(0, 8) == (((0, 1), (2, 3)), ((4, 5), (6, 7)))
    assert halves(0, 8) == (((0, 4), (2, 6)), ((1, 5), (3, 7)))
    assert sequential(0, 8) == (((((((0, 1), 2), 3), 4), 5), 6), 7)


def test_folds_may_start_anywhere() -> None:
    """The second accumulator's registers follow the first one's."""
    assert pairwise(4, 4) == ((4, 5), (6, 7))
    assert halves(4, 4) == ((4, 6), (5, 7))
    assert sequential(4, 3) == ((4, 5), 6)
    assert pairwise(3, 1) == halves(3, 1) == sequential(3, 1) == 3


def test_fold_leaves_count_additions() -> None:
    """Each register comes with the additions that it passes."""
    assert list(fold_leaves(((0, 1), 2))) == [(0, 2), (1, 2), (2, 1)]
    assert list(fold_leaves(5)) == [(5, 0)]


def test_lanes_of_the_arm_kernels() -> None:
    """The lane maps as the specification words them."""
    assert ORDERS["neon-dotprod"].lanes[1] == (4, 5, 6, 7, 20, 21, 22, 23)
    assert ORDERS["neon"].lanes[1] == (2, 3, 10, 11, 18, 19, 26, 27)
    assert ORDERS["sve-256"].lanes[1] == (4, 5, 6, 7)
    assert ORDERS["i8mm"].lanes == (tuple(range(32)),)


def test_counts() -> None:
    """Accumulators and registers follow from the data."""
    avx2, sve = ORDERS["avx2"], ORDERS["sve-512"]
    assert (avx2.accumulators, avx2.registers) == (1, 8)
    assert (sve.accumulators, sve.registers) == (2, 16)
    assert {order.name for order in ORDERS.values() if order.nrc == 2} == {"i8mm", "i8mm-fma"}


def test_get_order() -> None:
    """A name gives its order, an order itself, anything else an error that lists the names."""
    assert get_order("avx2") is ORDERS["avx2"]
    mine = replace(ORDERS["avx2"], name="mine")
    assert get_order(mine) is mine
    with pytest.raises(UnknownNameError, match=r"no order is called 'avx3'; there are scalar, scalar-fma"):
        get_order("avx3")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lanes": (tuple(range(31)),)}, "the lanes do not own each of 32 bytes once"),
        ({"lanes": (tuple(range(32)), (0,))}, "the lanes do not own each of 32 bytes once"),
        ({"body": ()}, "the body skips an accumulator"),
        ({"body": (0, 2)}, "the body skips an accumulator"),
        ({"fold": (0, 0)}, "the fold does not use each of 1 registers once"),
        ({"body": (0, 1)}, "the fold does not use each of 2 registers once"),
        ({"tail": "head"}, "no tail is called 'head'"),
    ],
)
def test_an_order_that_forgets_something_is_refused(change: dict[str, object], message: str) -> None:
    """A byte, an accumulator or a register forgotten or used twice is an error in the table."""
    with pytest.raises(ValueError, match=message):
        replace(ORDERS["scalar"], **change)  # type: ignore[arg-type]  # the wrong types are the test


def test_sve_1024_is_one_entry() -> None:
    """An order that nobody has written yet: four blocks in the 32 lanes of a vector, the tail masked."""
    lanes = tuple(tuple(range(4 * k, 4 * k + 4)) for k in range(8))
    sve_1024 = Order("sve-1024", lanes, (0, 1, 2, 3), pairwise(0, 32), True, "body", True, 1, "a test")
    # One element a block counts: block 0 gives 2^24, blocks 1, 4 and 5 give 1, the others nothing.
    x = np.zeros(7, BLOCK_Q8_A8)
    x["weight_qs"][:, 0] = 1
    x["weight_scale"] = [4096, 1, 0, 0, 1, 1, 0]
    # Blocks 0 and 4 meet in accumulator 0: 2^24 + 1 is a tie, and rounds to 2^24. Blocks 1 and 5, the latter
    # in the tail, meet in accumulator 1: 2. The fold adds the two. In scalar order each 1 is lost in turn.
    assert float(vec_dot(x, x, sve_1024)) == 2**24 + 2
    assert float(vec_dot(x, x, "scalar")) == 2**24


def test_the_module_builds_its_table() -> None:
    """Loading the module anew builds the same table."""
    assert module.__spec__ is not None
    assert module.__spec__.loader is not None
    fresh = module_from_spec(module.__spec__)
    module.__spec__.loader.exec_module(fresh)
    assert {name: asdict(entry) for name, entry in fresh.ORDERS.items()} == {
        name: asdict(entry) for name, entry in ORDERS.items()
    }


OCTET = ORDERS["avx2"].lanes
JOINED = tuple((lane, lane + 8) for lane in range(8))
TAILS = {
    "first": Tail(OCTET, tuple(range(16)), (0,)),
    "vector": Tail(OCTET, JOINED, (0,)),
    "apart": Tail(WHOLE, (pairwise(0, 16), None), (1,)),
}


def _with_tail(name: str) -> Order:
    """Return an order of eight lanes and two accumulators with a tail of its own."""
    fold = {"first": pairwise(0, 16), "vector": halves(0, 8), "apart": (0, 1)}[name]
    return Order(name, OCTET, (0, 0, 1), fold, True, TAILS[name], False, 1, "a test")


@pytest.mark.parametrize("name", TAILS)
def test_tails(name: str) -> None:
    """The tail's blocks go where it says; rows of whole steps have none, and exact rows one result."""
    order = _with_tail(name)
    for nb in (0, 1, 2, 3, 5, 8):
        x, y = exact_pair(nb, seed=nb)
        assert vec_dot(x, y, order) == vec_dot(x, y)
    x, y = random_pair(5, seed=3)
    terms = [vec_dot(x[b : b + 1], y[b : b + 1]) for b in range(5)]
    body = vec_dot(x[:3], y[:3], order)
    if name == "apart":
        assert vec_dot(x, y, order) == body + (terms[3] + terms[4])
    else:
        assert vec_dot(x, y, order).tobytes() != (body + terms[3] + terms[4]).tobytes()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tail": Tail(OCTET[1:], tuple(range(16)), (0,))}, "bytes once"),
        ({"tail": Tail(OCTET, tuple(range(15)), (0,))}, "no register for each lane"),
        ({"tail": Tail(OCTET, tuple(range(16)), ())}, "no register for each lane"),
        ({"tail": Tail(OCTET, tuple(range(8)) * 2, (0,))}, "the fold does not use each of 16"),
        ({"fold": halves(0, 8)}, "the tail's registers"),
    ],
)
def test_wrong_tails(changes: dict[str, Any], words: str) -> None:
    """A tail that forgets a byte, a register or a lane is refused."""
    with pytest.raises(ValueError, match=words):
        replace(_with_tail("first"), **changes)


def test_scales_one_by_one() -> None:
    """The integer sum times one scale is rounded before it is multiplied by the other."""
    x, y = random_pair(1, seed=1)
    s = np.float32((x["weight_qs"].astype(np.int32) * y["weight_qs"]).sum())
    dx, dy = (np.float32(row["weight_scale"][0]) for row in (x, y))
    scalar = ORDERS["scalar"]
    assert vec_dot(x, y, replace(scalar, scales="x")) == s * dx * dy
    assert vec_dot(x, y, replace(scalar, scales="y")) == s * dy * dx
    rows = [random_pair(7, seed=seed) for seed in range(9)]
    orders = [replace(ORDERS["neon"], scales=scales) for scales in ("product", "x", "y")]
    assert len({b"".join(vec_dot(*pair, order).tobytes() for pair in rows) for order in orders}) == 3


@pytest.mark.parametrize("fused", [False, True])
def test_tree_order(*, fused: bool) -> None:
    """A tree of additions gives the bits of the order that adds the same; other lengths have no result."""
    scalar = ORDERS["scalar-fma" if fused else "scalar"]
    trees = {nb: tuple((nb + k - 1 if k else 0, k + 1) for k in range(nb - 1)) for nb in (0, 1, 2, 5, 9)}
    programs = {nb: Program.of_blocks(nb, WHOLE, tree, fused=fused) for nb, tree in trees.items()}
    order = TreeOrder("chain", programs, "a test")
    assert get_order(order) is order
    for nb in trees:
        x, y = random_pair(nb, seed=nb)
        assert vec_dot(x, y, order).tobytes() == vec_dot(x, y, scalar).tobytes()
        assert roundings(order, nb) == nb
    with pytest.raises(ShapeError, match="no tree for rows of 3 blocks"):
        vec_dot(*random_pair(3), order)


def test_scales_one_after_the_other_along_a_tree() -> None:
    """(b0 + b1) + (b2 + b3), each s * dx, rounded, * dy, or with the scales exchanged."""
    program = Program.of_blocks(4, WHOLE, ((0, 1), (2, 3), (4, 5)))
    x, y = (np.stack(rows) for rows in zip(*(random_pair(4, seed=seed) for seed in range(99)), strict=True))
    s = (x["weight_qs"].astype(np.int32) * y["weight_qs"]).sum(axis=-1).astype(np.float32)
    dx, dy = (row["weight_scale"].astype(np.float32) for row in (x, y))
    products = {"product": s * (dx * dy), "x": s * dx * dy, "y": s * dy * dx}
    assert len({terms.tobytes() for terms in products.values()}) == 3
    for scales, t in products.items():
        order = TreeOrder("tree", {4: program}, "a test", scales=scales)  # type: ignore[arg-type]  # one of three
        expected = (t[:, 0] + t[:, 1]) + (t[:, 2] + t[:, 3])
        assert vec_dot(x, y, order).tobytes() == expected.tobytes()


@pytest.mark.parametrize("tree", [((0, 1),), ((0, 1), (0, 2)), ((0, 4), (1, 2)), ((0, 1), (2, 3), (4, 5))])
def test_wrong_trees(tree: tuple[tuple[int, int], ...]) -> None:
    """A tree of three blocks that forgets a term, uses one twice, or a sum before it is there."""
    with pytest.raises(ValueError, match="the additions of 3 blocks are no tree"):
        Program.of_blocks(3, WHOLE, tree)
    with pytest.raises(ValueError, match="a sum is no product"):
        Program((WHOLE,) * 4, ((0, 1), (2, 3), (4, 5)), (False, False, True))


def test_roundings_of_tails() -> None:
    """The longest way through an order with a tail of its own."""
    # Three blocks: two to accumulator 0, a fold of 16 registers.
    assert roundings(_with_tail("first"), 3) == 2 + 4
    # Two blocks left over go to accumulator 0.
    assert roundings(_with_tail("first"), 5) == 2 + 2 + 4
    # To the joined vector, after one addition, and before a fold of 8 lanes.
    assert roundings(_with_tail("vector"), 5) == 2 + 1 + 2 + 3
    assert roundings(_with_tail("apart"), 5) == max(2 + 4, 2) + 1
    assert roundings(_with_tail("apart"), 0) == 0
