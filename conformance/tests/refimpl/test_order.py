"""The accumulation orders as data: the table, its helpers, and what an entry must be."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, asdict, replace
from importlib.util import module_from_spec

import numpy as np
import pytest

from q8a8 import order as module
from q8a8.dot import vec_dot
from q8a8.errors import UnknownNameError
from q8a8.layout import BLOCK_Q8_A8
from q8a8.order import ORDERS, Order, fold_leaves, get_order, halves, pairwise, sequential

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
