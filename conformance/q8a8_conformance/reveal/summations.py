"""Ways to add up a dot product that no accumulation order describes: other roundings, or fewer of them.

An order of `q8a8.order` defines what is added to what, each sum rounded to nearest float32. A kernel may keep
the order and round otherwise: toward zero (a processor left in that mode, or hardware that truncates), in
double with one rounding at the end, compensated, or not at all before the end. Such results stay within the
bound of Q8A8-ORD-2, or close to it, and are named here.

There is no entry for flush-to-zero: nothing in a dot product is subnormal, so no result shows it (the page
"Proofs": flush modes do not matter).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from q8a8.dot import lane_sums
from q8a8.order import ORDERS, TreeOrder
from q8a8_conformance.faults.legal import compensated

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8.order import AnyOrder, Fold, Lanes
    from q8a8_conformance.inputs.arrays import Array

Direction: TypeAlias = Literal["zero", "up", "down"]

SCALAR = ORDERS["scalar"]


@dataclass(frozen=True)
class Summation:
    """A way to add.

    Attributes
    ----------
    cause
        Its slug.
    symptom
        What it does, in one sentence.
    advice
        What to do about it, if anything: it conforms where the bound holds.
    total
        (order, qx, qy int8 [rows, nb, 32], d float32 [rows, nb]) -> float32 [rows].
    any_order
        Whether it goes with every accumulation order, or with `scalar` alone.
    """

    cause: str
    symptom: str
    advice: str
    total: Callable[[AnyOrder, Array, Array, Array], Array]
    any_order: bool = False


def _sum_to_odd(a: Array, b: Array) -> Array:
    """Add float64 numbers, rounded to odd: a second rounding to fewer digits is then right in any direction.

    TwoSum (Knuth, TAOCP 2, section 4.2.2, theorem B) gives the error of the nearest sum exactly; where it is
    not zero, of the two neighbours around the sum the one with an odd last bit is taken (Boldo and Melquiond,
    "Emulation of FMA and correctly rounded sums", 2008).
    """
    s = a + b
    part = s - a
    error = (a - (s - part)) + (b - part)
    even = (s.view(np.uint64) & np.uint64(1)) == 0
    return np.where((error != 0) & even, np.nextafter(s, np.copysign(np.inf, error)), s)


def _directed(v: Array, direction: Direction) -> Array:
    """Round float64 to float32 in a direction, kept as float64."""
    near = v.astype(np.float32)
    held = near.astype(np.float64)
    if direction == "zero":
        return np.where(np.abs(held) > np.abs(v), np.nextafter(near, np.float32(0)), near).astype(np.float64)
    beyond, end = (held < v, np.inf) if direction == "up" else (held > v, -np.inf)
    return np.where(beyond, np.nextafter(near, np.float32(end)), near).astype(np.float64)


def _add_directed(direction: Direction, a: Array, b: Array) -> Array:
    """Return f32(a + b) in a direction; a sum that cancels is +0, downwards -0 (IEEE 754, 6.3)."""
    result = _directed(_sum_to_odd(a, b), direction)
    if direction == "down":
        positive = (a == 0) & (b == 0) & ~np.signbit(a) & ~np.signbit(b)
        return np.where((result == 0) & ~positive, -0.0, result)
    return result


def _rounded(direction: Direction, order: AnyOrder, qx: Array, qy: Array, d: Array) -> Array:
    """Follow an order with every product and sum rounded in a direction."""

    def add(total: Array, s: Array, scale: Array, *, fused: bool) -> Array:
        product = s.astype(np.float64) * scale  # exact: 20 and 22 bits
        return _add_directed(direction, total, product if fused else _directed(product, direction))

    return _in_order(order, qx, qy, d, add, partial(_add_directed, direction))


def _in_double(order: AnyOrder, qx: Array, qy: Array, d: Array) -> Array:
    """Follow an order in float64, and round once."""

    def add(total: Array, s: Array, scale: Array, *, fused: bool) -> Array:
        del fused  # the product is exact
        return np.asarray(total + s.astype(np.float64) * scale)

    return _in_order(order, qx, qy, d, add, np.add)


def in_narrow(
    sums: Callable[[Array], Array],
    products: Callable[[Array], Array],
    order: AnyOrder,
    qx: Array,
    qy: Array,
    d: Array,
) -> Array:
    """Follow an order with products and sums rounded to float32, and by two functions to what is narrower."""

    def narrow(v: Array) -> Array:
        return sums(v.astype(np.float32)).astype(np.float64)

    def add(total: Array, s: Array, scale: Array, *, fused: bool) -> Array:
        product = s.astype(np.float64) * scale
        return narrow(total + (product if fused else products(product.astype(np.float32))))

    return _in_order(order, qx, qy, d, add, lambda a, b: narrow(a + b))


def _in_order(
    order: AnyOrder,
    qx: Array,
    qy: Array,
    d: Array,
    add: Callable[..., Array],
    fold_two: Callable[[Array, Array], Array],
) -> Array:
    """Interpret an order as `q8a8.dot` does, with another addition; registers are float64 [rows, lanes]."""
    rows, nb = d.shape
    wide = d.astype(np.float64)

    def fold_all(tree: Fold, leaves: list[Array]) -> Array:
        if isinstance(tree, int):
            return leaves[tree]
        return fold_two(fold_all(tree[0], leaves), fold_all(tree[1], leaves))

    def take(
        registers: list[Array], lanes: Lanes, body: tuple[int, ...], blocks: range, *, fused: bool
    ) -> None:
        sums = lane_sums(qx, qy, lanes)
        for k, b in enumerate(blocks):
            for lane in range(len(lanes)):
                r = body[k % len(body)] * len(lanes) + lane
                registers[r] = add(registers[r], sums[b, :, lane], wide[:, b], fused=fused)

    if isinstance(order, TreeOrder):
        along = order.programs[nb]
        terms = [
            (lane, wide[:, b])
            for b, lanes in enumerate(along.lanes)
            for lane in lane_sums(qx[:, b : b + 1], qy[:, b : b + 1], lanes)[0].T
        ]
        values = [add(np.zeros(rows), *term, fused=False) for term in terms]
        for (left, right), fused in zip(along.additions, along.fused, strict=True):
            total = values[left]
            values.append(add(total, *terms[right], fused=True) if fused else fold_two(total, values[right]))
        return np.asarray(values[-1] if values else np.zeros(rows)).astype(np.float32)
    left = nb if order.tail == "body" else nb - nb % len(order.body)
    registers = [np.zeros(rows) for _ in range(order.registers)]
    take(registers, order.lanes, order.body, range(left), fused=order.fused)
    if order.tail == "body":
        return fold_all(order.fold, registers).astype(np.float32)
    tail, fold = order.remainder
    registers = [np.zeros(rows) if start is None else fold_all(start, registers) for start in tail.start]
    take(registers, tail.lanes, tail.body, range(left, nb), fused=order.tail_fused)
    return fold_all(fold, registers).astype(np.float32)


def _once(order: AnyOrder, qx: Array, qy: Array, d: Array) -> Array:
    """Round the exact sum once: `math.fsum` rounds it to float64, and its error decides the last bit."""
    del order
    rows = []
    for terms in _terms(qx, qy, d).tolist():
        near = math.fsum(terms)
        left = math.fsum([*terms, -near])
        rows.append(float(_sum_to_odd(np.array([near]), np.array([left]))[0]))
    return np.array(rows).astype(np.float32)


def _compensated(order: AnyOrder, qx: Array, qy: Array, d: Array) -> Array:
    """Add as Kahan does."""
    del order
    return np.asarray(compensated(_terms(qx, qy, d).astype(np.float32).T))


def _compensated_at_the_end(order: AnyOrder, qx: Array, qy: Array, d: Array) -> Array:
    """Add as Neumaier does (ZAMM 54, 1974): what was lost is summed apart, and added at the end."""
    del order
    total = c = np.zeros(len(d), np.float32)
    for term in _terms(qx, qy, d).astype(np.float32).T:
        t = total + term
        c = c + np.where(np.abs(total) >= np.abs(term), (total - t) + term, (term - t) + total)
        total = t
    return np.asarray(total + c)


def _terms(qx: Array, qy: Array, d: Array) -> Array:
    """Return each block's term, sumi · dx · dy, exactly: float64 [rows, nb]."""
    return np.asarray(lane_sums(qx, qy, SCALAR.lanes)[:, :, 0].T.astype(np.float64) * d)


_NEAREST = "to nearest: set no rounding mode, and put back any that is set"

SUMMATIONS: tuple[Summation, ...] = (
    Summation(
        "sums-toward-zero",
        "Products and sums are cut off to float32, not rounded to nearest: results drift toward zero.",
        f"round products and sums {_NEAREST}",
        partial(_rounded, "zero"),
        any_order=True,
    ),
    Summation(
        "sums-upward",
        "Products and sums are rounded toward plus infinity: results drift upwards.",
        f"round products and sums {_NEAREST}",
        partial(_rounded, "up"),
        any_order=True,
    ),
    Summation(
        "sums-downward",
        "Products and sums are rounded toward minus infinity: results drift downwards.",
        f"round products and sums {_NEAREST}",
        partial(_rounded, "down"),
        any_order=True,
    ),
    Summation(
        "sums-in-double",
        "Products and sums are formed in double, and the result is rounded once at the end.",
        "",
        _in_double,
        any_order=True,
    ),
    Summation(
        "exact-sum",
        "The sum is exact, and rounded once at the end: in fixed point, or with enough floats.",
        "",
        _once,
    ),
    Summation(
        "compensated-sum", "The sum is compensated: Kahan's summation over the blocks.", "", _compensated
    ),
    Summation(
        "compensated-at-the-end",
        "The sum is compensated: Neumaier's summation over the blocks.",
        "",
        _compensated_at_the_end,
    ),
)
"""Tried in this order, where no accumulation order explains all results."""
