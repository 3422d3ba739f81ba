"""The arithmetic of a product whose activations stay floats: a tree of single elements, and how it rounds.

Activations that are powers of two are the terms of a sum, under weights of 1: one is a mask +M, one is -M,
all others are a unit that vanishes beside M, and what is left counts the units outside the smallest sum that
holds both (`masks`). From O(k) products follows the tree of all k elements. What remains is tried on random
rows: whether products are rounded before they are added, the precision of sums, weights that are rounded to
halves, and the elements after whose sum the weights' scale is multiplied.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8 import layout
from q8a8_conformance.inputs import dot_rows
from q8a8_conformance.reveal.asking import NoTreeError
from q8a8_conformance.reveal.products.activations import bfloat16
from q8a8_conformance.reveal.trees import accumulators, members, nested, periods, reveal_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from q8a8.order import Additions
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.reveal.products.activations import Activations
    from q8a8_conformance.reveal.products.calls import Place

F32, F16, F64 = np.float32, np.float16, np.float64
BLOCK = 32

BFLOAT_BITS, HALF_BITS, FLOAT_BITS = 8, 11, 24

SHOWN = 32
"""Elements of the tree that is shown."""

TRIED = 64
"""Random results of each length, and at most so many rows of each matrix."""


@dataclass(frozen=True)
class Rounding:
    """How the terms of a tree are multiplied and added.

    Attributes
    ----------
    precision
        What sums and products are rounded to: "float64", "float32", "float16", "float16 by way of float32",
        or "bfloat16".
    is_fused
        Whether the product of an element is added without being rounded before.
    first
        Of two elements that are added, which product is rounded: "lower" or "higher" number.
    weights
        Of `WEIGHTS`: what a weight, scale times code, is rounded to, where `group` is 1.
    group
        Elements after whose sum the weights' scale is multiplied: 1 for every single one.
    is_group_fused
        Whether that product is added without being rounded before.
    """

    precision: str = "float32"
    is_fused: bool = False
    first: str = "lower"
    weights: str = "float32"
    group: int = 1
    is_group_fused: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Its slugs."""
        names = [f"accumulator:{self.precision.split()[0]}"]
        if self.group == 1 and self.weights != "float32":
            names.append(f"weights:{self.weights}")
        return tuple(names)

    @property
    def words(self) -> str:
        """What it is, in words."""
        weights = f"weights are made {self.weights}"
        if self.group > 1:
            fused = "fused with the sum" if self.is_group_fused else "then added"
            weights = f"the weights' scale is multiplied with the sum of {self.group} elements, {fused}"
        product = "fused" if self.is_fused else "each product rounded first"
        return f"{weights}; sums are kept in {self.precision}; {product}"


WEIGHTS = ("float32", "float16", "bfloat16")
"""What weights may be rounded to."""

ROUNDS: dict[str, Callable[[Array], Array]] = {
    "float64": lambda v: v,
    "float32": lambda v: v.astype(F32).astype(F64),
    "float16": lambda v: v.astype(F16).astype(F64),
    "float16 by way of float32": lambda v: v.astype(F32).astype(F16).astype(F64),
    "bfloat16": lambda v: bfloat16(v.astype(F32)).astype(F64),
}
"""Roundings of binary64, in which products of floats are exact, and sums of a product nearly."""


def add_up(tree: Additions, rounding: Rounding, w: Array, x: Array) -> Array:
    """Add up dot products: w, blocks [r, nb], by floats x, float32 [r, 32·nb]; returns float32 [r]."""
    r, k = x.shape
    scale = np.repeat(w["weight_scale"].astype(F64), BLOCK, axis=1)
    weight = w["weight_qs"].reshape(r, k).astype(F64)
    if rounding.group == 1:
        weight = weight * scale
        if rounding.weights != "float32":
            weight = ROUNDS[rounding.weights](weight)
    nearest = ROUNDS[rounding.precision]
    # Numbers of the tree, and what a product still waits for: to be rounded where it is not fused.
    numbers: list[Array] = list((weight * x.astype(F64)).T)
    waiting: list[bool] = [True] * k
    fused = [rounding.is_fused] * k
    held = members(k, tree)
    for number, (left, right) in enumerate(tree, start=k):
        first, last = left, right
        if (left < k and right < k and rounding.first == "higher") or (waiting[left] and not waiting[right]):
            first, last = right, left
        a = nearest(numbers[first]) if waiting[first] else numbers[first]
        b = nearest(numbers[last]) if waiting[last] and not fused[last] else numbers[last]
        total = nearest(a + b)
        is_group = rounding.group > 1 and _is_group(held[number], rounding.group)
        if is_group:
            total = total * scale[:, (held[number] & -held[number]).bit_length() - 1]
        numbers.append(total)
        waiting.append(is_group)
        fused.append(rounding.is_group_fused)
    last_one = nearest(numbers[-1]) if waiting[-1] else numbers[-1]
    return np.asarray(last_one.astype(F32))


def _is_group(mask: int, size: int) -> bool:
    """Return whether elements, as bits, are all of a group of so many consecutive ones."""
    start = (mask & -mask).bit_length() - 1
    return start % size == 0 and mask == ((1 << size) - 1) << start


@dataclass(frozen=True)
class ElementSum:
    """What was found of a product of floats.

    Attributes
    ----------
    bits
        What sums keep.
    trees
        The tree of each number of elements.
    rounding
        How it rounds; None where nothing that was tried explains the results.
    of, unexplained
        Random results that were tried, and those that are otherwise.
    why
        Why there is no tree.
    """

    bits: int
    trees: dict[int, Additions]
    rounding: Rounding | None
    of: int = 0
    unexplained: int = 0
    why: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Its slugs."""
        if self.rounding is not None:
            return self.rounding.names
        names = {BFLOAT_BITS: "bfloat16", HALF_BITS: "float16", FLOAT_BITS: "float32", 53: "float64"}
        known = names.get(self.bits, f"{self.bits}-bits")
        return (f"accumulator:{known}",)

    @property
    def words(self) -> str:
        """What it is, in words."""
        if not self.trees:
            return f"no tree of additions: {self.why}"
        order = tree_words(max(self.trees), self.trees[max(self.trees)])
        how = (
            self.rounding.words if self.rounding else f"sums keep {self.bits} bits; products in no known way"
        )
        return f"{how}; {order}"

    def tree(self) -> Any:  # noqa: ANN401 (arrays in arrays)
        """Return the tree of a block's elements as nested arrays; None where there is none."""
        return nested(SHOWN, self.trees[SHOWN]) if SHOWN in self.trees else None


def tree_words(k: int, tree: Additions) -> str:
    """Describe a tree of elements, by the largest groups of consecutive ones that it adds up first."""
    for size in (64, 32, 16, 8, 4, 2, 1):
        count, groups = k // size, _of_groups(k, tree, size)
        if groups is None or count < 4 or (size > 1 and _chain(k, tree)):
            continue
        what = f"groups of {size} consecutive elements, their sums" if size > 1 else "elements"
        order = _chain(count, groups)
        if order == list(range(count)):
            return f"{what} from left to right"
        found = accumulators(count, groups)
        if not order and found and len(found.chains) > 1:
            each = "by turns" if next(periods(count, found), ()) else "each a part of them"
            return f"{what} in {len(found.chains)} accumulators, {each}"
        if order:
            return (
                f"{what} one after the other: {', '.join(map(str, order[:8]))}{', ...' if count > 8 else ''}"
            )
    return f"{k} elements in a tree"


def _of_groups(k: int, tree: Additions, size: int) -> Additions | None:
    """Return the tree of the sums of groups of consecutive elements; None where it has no such sums."""
    held = members(k, tree)
    kept = {each: number for number, each in enumerate(held) if _is_group(each, size)}
    numbers = {number: ((mask & -mask).bit_length() - 1) // size for mask, number in kept.items()}
    count = k // size
    if k % size or len(numbers) != count:
        return None
    sums: list[tuple[int, int]] = []
    for number, (left, right) in enumerate(tree, start=k):
        if left in numbers and right in numbers:
            sums.append((numbers[left], numbers[right]))
            numbers[number] = count + len(sums) - 1
    return tuple(sums)


def _chain(count: int, tree: Additions) -> list[int]:
    """Return the order in which terms are added to one sum; empty where a tree is no chain."""
    order = sorted(tree[0]) if tree else []
    for number, pair in enumerate(tree[1:], start=count):
        if number not in pair or max(pair) != number:
            return []
        order.append(min(pair))
    return order


class _Elements:
    """Makes the experiments at a place."""

    def __init__(self, place: Place, activations: Activations) -> None:
        self._place = place
        self._small = activations.kind == "float16"

    def _ones(self, x: Array) -> Array:
        """Return the sums of rows [r, k]."""
        nb = x.shape[1] // BLOCK
        w = layout.pack(np.ones(nb, F16), np.ones((nb, BLOCK), np.int8))
        return self._place.by_rows(w, x)

    def bits(self) -> int:
        """Return the bits that sums keep: of three terms 2^15, -2^15 and 2^(15-p), a unit is lost or not."""
        ps = np.arange(2, 40 if self._small else 80)
        lost = np.zeros(len(ps), int)
        for place in range(3):
            x = np.zeros((len(ps), BLOCK), F32)
            others = [(place + 1) % 3, (place + 2) % 3]
            x[:, others] = 2.0**15, -(2.0**15)
            x[:, place] = np.exp2(15.0 - ps)
            lost += self._ones(x) == 0
        seen = np.flatnonzero(lost)
        return int(ps[seen[0]]) if seen.size else int(ps[-1])

    def tree(self, k: int, bits: int) -> Additions:
        """Find the tree of k elements.

        Raises
        ------
        NoTreeError
            There is none.
        """
        if bits <= HALF_BITS:
            mask, unit = 2.0**15, 2.0**-14
        elif self._small:
            mask, unit = 2.0**15, 2.0**-20
        else:
            mask, unit = (2.0**30, 2.0**-24) if bits <= FLOAT_BITS else (2.0**60, 2.0**-60)
        sizes: dict[tuple[int, int], int] = {}

        def size(pivot: int, other: int) -> int:
            if (pivot, other) not in sizes:
                # As many at once as there are rows: the next ones are mostly asked for, too.
                others = [each for each in range(other, k) if each != pivot][: len(self._place.rows)]
                x = np.full((len(others), k), unit, F32)
                x[:, pivot] = mask
                x[np.arange(len(others)), others] = -mask
                left = self._ones(x) / F32(unit)
                if not np.isin(left, np.arange(k - 1)).all():
                    raise NoTreeError(f"of {k - 2} units beside two masks, {left.max():g} are left")
                sizes.update(((pivot, each), k - int(n)) for each, n in zip(others, left, strict=True))
            return sizes[pivot, other]

        return reveal_tree(k, size)


def reveal_elements(place: Place, activations: Activations, lengths: Sequence[int]) -> ElementSum:
    """Find the tree and the roundings of a product of floats, in rows of so many elements."""
    experiments = _Elements(place, activations)
    bits = experiments.bits()
    trees: dict[int, Additions] = {}
    why = ""
    lengths = [k for k in lengths if k <= 1 << bits]  # units are counted in so many bits
    for k in lengths:
        try:
            trees[k] = experiments.tree(k, bits)
        except NoTreeError as error:
            why = str(error)
            break
    known = [_random(place, k) for k in lengths]
    of = sum(out.size for _, _, out in known)
    if why:
        return ElementSum(bits, {}, None, of, of, why)
    best: tuple[int, Rounding | None] = (of, None)
    for rounding in _roundings(bits):
        wrong = 0
        for w, x, out in known:
            given = add_up(trees[x.shape[1]], rounding, w, activations.floats(x))
            wrong += int((given.view(np.uint32) != out.view(np.uint32)).sum())
            if wrong >= best[0]:
                break
        if wrong < best[0]:
            best = wrong, rounding
        if not wrong:
            break
    return ElementSum(bits, trees, None if best[0] else best[1], of, best[0])


def _roundings(bits: int) -> Iterator[Rounding]:
    """Yield the ways to round that are tried, the most usual first."""
    precisions: tuple[str, ...] = ("float16", "float16 by way of float32")
    if bits <= BFLOAT_BITS:
        precisions = ("bfloat16",)
    if bits > HALF_BITS:
        precisions = ("float32",) if bits <= FLOAT_BITS else ("float64",)
    for precision, fused, first in itertools.product(precisions, (False, True), ("lower", "higher")):
        yield from (Rounding(precision, fused, first, weights) for weights in WEIGHTS)
    for precision, fused, first in itertools.product(precisions, (False, True), ("lower", "higher")):
        for group, group_fused in itertools.product((2, 4, 8, 16, 32), (False, True)):
            yield Rounding(precision, fused, first, "float32", group, group_fused)


def _random(place: Place, k: int) -> tuple[Array, Array, Array]:
    """Return random rows of blocks [r, nb] and floats [r, k] with what the kernel makes of each pair: [r]."""
    rng = dot_rows.generator("elements", k)
    rows, columns = (min(8, len(each)) for each in (place.rows, place.columns))
    found = []
    for _ in range(-(-TRIED // (rows * columns))):
        w = layout.pack(
            rng.uniform(0.01, 0.1, (columns, k // BLOCK)).astype(F16),
            rng.integers(-127, 128, (columns, k // BLOCK, BLOCK), dtype=np.int8),
        )
        x = rng.standard_normal((rows, k)).astype(F32)
        out = place.outer(w, x)
        found.append((np.tile(w, (rows, 1)), np.repeat(x, columns, axis=0), out.reshape(-1)))
    w, x, out = (np.concatenate([each[part] for each in found]) for part in range(3))
    return w, x, out.astype(F32)
