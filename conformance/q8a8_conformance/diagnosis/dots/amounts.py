"""How much calls take or keep, by their sizes: from which one on their stack is too large, what each leaves.

The least size of each kind at which it happens is narrowed down, the others being those of a call that was
seen. Sizes that matter are multiplied: the amount of one unit of that product is what a kernel takes for it.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from q8a8_conformance.protocol.messages import STACK_BUDGET

if TYPE_CHECKING:
    from collections.abc import Callable

    Sizes = dict[str, int]
    Told = Callable[[Sizes], str | None]
    Found = tuple[dict[str, Any], str]

NARROW = 1 << 11
"""The least size is told to one part in so many."""

NEAR = 0.08
"""How far the amounts of two calls may be from one law."""

PARTS = (0.2, 0.31)
"""One size is made four times as large, and the largest these parts: one too small, one large enough."""

GROWN = 1.2
"""How much larger one of two sizes is at least that tell a law."""

TRIED = 9
"""Larger sizes of which one keeps something, too, if any does."""

MANY = 1000
"""A number from which on three digits are told."""

UNITS = {"size": "element", "nb": "block"}
"""What sizes count."""

STACK = re.compile(r"used ([0-9.]+) MiB of stack")
KEPT = re.compile(r"grows by ([0-9]+) bytes a call")
"""What workers say of the amounts."""


def stack_law(sizes: Sizes, told: Told) -> Found | None:
    """Return from which sizes on calls take too much stack, and how much each unit takes.

    `sizes` are those of a call that does; `told` says what was said of one of other sizes, None for nothing.
    """
    said = told(sizes)
    if said is None:
        return None
    point = dict(sizes)
    for name in sizes:
        point[name] = _least(point, name, told)
    first = max(point, key=lambda name: point[name])
    if point[first] == 1:
        return {"length": []}, ""
    matter = []
    for name in sizes:
        below, above = (
            told({**point, name: 4 * point[name], first: round(part * point[first])}) is not None
            for part in PARTS
        )
        if below and name != first:
            return None
        matter += [name] * (above or name == first)
    count, most = (math.prod(of[name] for name in matter) for of in (point, sizes))
    product = " · ".join(matter)
    least = {product: count, **{name: n for name, n in point.items() if n > 1 and name not in matter}}
    where: dict[str, Any] = {"length": least, "of": product}
    text = f" where {' and '.join(f'{name} >= {n}' for name, n in least.items())} or so"
    amount = STACK.search(said)
    used = float(amount[1]) * 2**20 if amount else 0.0
    each = STACK_BUDGET / count
    if used and (most < GROWN * count or abs(used / (each * most) - 1) < NEAR):
        where["bytes"] = _plain(each)
        text = f"{text}: about {_plain(each):g} bytes of it for each {UNITS.get(product, product)}"
    return where, text


def kept_law(sizes: Sizes, told: Told) -> Found | None:
    """Return how much each call keeps: a number of bytes, or so many for each unit of sizes that matter."""
    amount = _kept(told(sizes))
    if amount is None:
        return None
    matter = []
    for name, size in sizes.items():
        tried = ((n, _kept(told({**sizes, name: n}))) for n in range(2 * size + 8, 2 * size + 8 + TRIED))
        larger, more = next((one for one in tried if one[1] is not None), (size, amount))
        if more is not None and more > amount * GROWN:
            each = (more - amount) / (larger - size)
            if abs(each * size - amount) > NEAR * amount + 32:  # (An allocation takes a few bytes more.)
                return None
            matter.append((name, each))
    if not matter:
        return {"bytes": amount}, f": {amount} bytes a call"
    product = " · ".join(name for name, _ in matter)
    each = matter[0][1] / math.prod(sizes[name] for name, _ in matter[1:])
    unit = UNITS.get(product, product)
    return {"bytes": _plain(each), "of": product}, f": about {_plain(each):g} bytes for each {unit}"


def _kept(said: str | None) -> int | None:
    found = KEPT.search(said or "")
    return int(found[1]) if found else None


def _least(sizes: Sizes, name: str, told: Told) -> int:
    """Return the least of one kind of sizes at which it happens, nearly; 1 where it does at any."""
    low, high = 0, sizes[name]
    if told({**sizes, name: 1}) is not None:
        return 1
    while high - low > max(high // NARROW, 1):
        middle = (low + high) // 2
        low, high = (low, middle) if told({**sizes, name: middle}) is not None else (middle, high)
    return high


def _plain(number: float) -> float:
    """Return a whole number that is near, or one of three digits."""
    near = round(number)
    return near if near and near < MANY and abs(number / near - 1) < 1 / 50 else float(f"{number:.3g}")
