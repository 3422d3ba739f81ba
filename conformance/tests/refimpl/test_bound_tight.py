"""Each order's count of roundings is the right one: on some row, every rounding counted goes wrong.

The row of `worst_row` makes each rounding on the longest way lose half a unit in the last place in the same
direction. Its largest product is just below 2^k (1 + u), and is rounded down to 2^k; whatever is added to 2^k
after that, in the body, in the fold or in the tail, is the tie 2^k u, which rounding to even drops.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from q8a8.bound import UNIT_ROUNDOFF, exact_dot, magnitude, roundings
from q8a8.dot import vec_dot
from q8a8.layout import BLOCK_Q8_A8
from q8a8.order import ORDERS, Fold, Order, fold_leaves, sequential

pytestmark = pytest.mark.rule("Q8A8-ORD-2")

POWER = 16
"""The largest product is just above 2^16, and a tie is 2^(16 - 24)."""


def big_product() -> tuple[int, int, int]:
    """Find (s, x, y): s a sum of four products of codes, x and y significands of halves.

    s x y 2^-20 lies below 2^16 (1 + u) by less than a hundredth of 2^16 u, so rounding it loses nearly u.
    """
    x, y = np.meshgrid(np.arange(1024, 2048), np.arange(1024, 2048))
    d = (x * y).astype(np.int64)
    target = (1 << (POWER + 20)) + (1 << (POWER - 4))
    s, left = np.divmod(target, d)
    good = (left < (1 << (POWER - 4)) // 100) & (s <= 127 * 381)
    i, j = np.argwhere(good)[0]
    return int(s[i, j]), int(x[i, j]), int(y[i, j])


BIG = big_product()


def leaf(fold: Fold) -> int:
    """Return some register in a fold."""
    return fold if isinstance(fold, int) else leaf(fold[0])


def partners(fold: Fold, register: int) -> list[int]:
    """Return one register out of each fold that is added on the way of a register to the result."""
    if isinstance(fold, int):
        return []
    mine, other = fold
    if register not in dict(fold_leaves(mine)):
        mine, other = other, mine
    return [*partners(mine, register), leaf(other)]


def worst_row(order: Order, nb: int) -> tuple[np.ndarray, np.ndarray]:
    """Return two rows [nb] whose error in an order is nearly m u times the magnitude, m its count."""
    x, y = np.zeros(nb, BLOCK_Q8_A8), np.zeros(nb, BLOCK_Q8_A8)
    # Ties: a single product of codes, 1, and a product of scales of 2^(16 - 24).
    x["weight_scale"], y["weight_scale"] = 2.0 ** (POWER - 24), 1
    step, lanes = len(order.body), len(order.lanes)
    body = nb if order.tail == "body" else nb - nb % step
    blocks = {a: [b for b in range(body) if order.body[b % step] == a] for a in range(order.accumulators)}
    depth = dict(fold_leaves(order.fold))
    way = max(depth, key=lambda r: len(blocks[r // lanes]) + depth[r])
    first, *later = blocks[way // lanes]
    s, x_significand, y_significand = BIG
    x["weight_scale"][first], y["weight_scale"][first] = x_significand / 1024, y_significand / 1024
    sevens, ones = divmod(s, 127)
    own = list(order.lanes[way % lanes])
    x["weight_qs"][first, own[:4]] = [127, 127, 127, ones]
    y["weight_qs"][first, own[:4]] = [*(min(127, max(0, sevens - 127 * i)) for i in range(3)), 1]
    ties = [(b, own[0]) for b in later]
    for register in partners(order.fold, way):
        place = later if register // lanes == way // lanes else blocks[register // lanes]
        ties.append((place[0], order.lanes[register % lanes][0]))
    ties += [(b, 0) for b in range(body, nb)]
    for block, byte in ties:
        x["weight_qs"][block, byte] = y["weight_qs"][block, byte] = 1
    return x, y


def reached(order: Order, nb: int) -> Fraction:
    """Return the error on the worst row, in units of u times the magnitude."""
    x, y = worst_row(order, nb)
    error = abs(Fraction(float(vec_dot(x, y, order))) - exact_dot(x, y))
    return error / (UNIT_ROUNDOFF * magnitude(x, y))


@pytest.mark.parametrize("name", sorted(ORDERS))
def test_every_count_is_reached(name: str) -> None:
    """In every order, for even, odd and long rows: the error is more than 99 % of what the count allows."""
    order = ORDERS[name]
    for nb in (4, 5, 7, 8, 16, 17, 33, 64, 255, 256):
        m = roundings(order, nb)
        assert Fraction(99, 100) * m < reached(order, nb) <= ((1 + UNIT_ROUNDOFF) ** m - 1) / UNIT_ROUNDOFF


def test_some_kernel_needs_nearly_all_of_the_general_constant() -> None:
    """64 partial sums in 32 lanes, folded from left to right: nb + 62 roundings, and no 64 can need more."""
    lanes = tuple((byte,) for byte in range(32))
    order = Order("worst", lanes, (0,) * 63 + (1,), sequential(0, 64), False, "body", False, 1, "a test")
    assert roundings(order, 64) == 63 + 63 == 64 + 62
