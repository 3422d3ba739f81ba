"""Where a matrix product changes with its shape: outputs of the same two rows whose bits differ.

One row is repeated, so that the same pairs of rows are multiplied at every place of every shape. Outputs
with the same bits belong to one class; class 0 is that of a row alone. Which rows of which sizes are in a
class is a rule of `places`: "every row of x where n >= 9", "the rows beyond a multiple of 4".
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Literal

import numpy as np

from q8a8 import layout
from q8a8.recipe import RECIPES, quantize_blocks
from q8a8_conformance.inputs import blocks as block_sets
from q8a8_conformance.inputs import dot_rows
from q8a8_conformance.reveal.places import Rule, Seen, find_rule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.reveal.products.calls import Products

LONGEST = 512
"""Rows of x, or of w, of the largest shape."""

NEIGHBOURS = 6
"""Sizes for which the rows beside a row are changed, one row alone among them."""

TELLING = 16
"""Outputs of a row at least, by calls enough: two ways to add give the same bits often enough."""


def weights(m: int, k: int, *key: object) -> Array:
    """Generate m rows of weights, like quantized ones: blocks [m, k / 32]."""
    rng = dot_rows.generator("weights", m, k, *key)
    codes = rng.integers(-127, 128, (m, k // 32, 32), dtype=np.int8)
    return layout.pack(rng.uniform(0.01, 0.02, (m, k // 32)).astype(np.float16), codes)


def activations(n: int, k: int, *key: object) -> Array:
    """Generate n rows of activations: float32 [n, k]."""
    return dot_rows.generator("activations", n, k, *key).standard_normal((n, k)).astype(np.float32)


@functools.cache
def telling_blocks() -> Array:
    """Return blocks, float32 [r, 32], of which the recipes make different codes: those with the most first.

    Ordinary activations have the same codes by all of them, so that a recipe that changes with the shape
    does not show. A power of two makes the blocks alike in magnitude, and leaves their codes as they are.
    """
    x = block_sets.near_ties(300)
    x = np.ldexp(x, -np.frexp(np.abs(x).max(axis=1, keepdims=True))[1]).astype(np.float32)
    codes = np.stack([quantize_blocks(x, recipe)[1] for recipe in RECIPES.values()])
    kinds = [len({each.tobytes() for each in codes[:, block]}) for block in range(len(x))]
    return np.asarray(x[np.argsort(kinds, kind="stable")[::-1]])


def telling_row(k: int) -> Array:
    """Return a row of activations, float32 [1, k], that tells both recipes and orders apart.

    Every other block is an ordinary one, and the others lie next to ties between codes.
    """
    row = activations(1, k)
    shaped = row.reshape(-1, layout.QK8_A8)
    shaped[1::2] = telling_blocks()[: len(shaped[1::2])]
    return row


class Shapes:
    """The classes of outputs along one side of a product.

    Parameters
    ----------
    products, k
        Makes the products, of rows of k elements.
    side, other
        "n", for rows of x, or "m", for rows of w; and the rows of the other matrix.
    sizes
        Rows of x, or of w, at first.
    """

    def __init__(
        self, products: Products, side: Literal["n", "m"], other: int, sizes: Sequence[int], k: int
    ) -> None:
        self._products, self.side, self._sizes = products, side, sizes
        calls = -(-TELLING // other)
        self._row = telling_row(k) if side == "n" else weights(1, k)
        fixed = weights(calls * other, k) if side == "n" else activations(calls * other, k)
        self._fixed = np.split(fixed, calls)
        self._known: dict[bytes, int] = {}
        self.classes: dict[int, Array] = {}
        self.classes_of(1)

    def _keys(self, size: int) -> list[bytes]:
        """Return the bits of the outputs of each of so many rows, which are alike."""
        rows = np.repeat(self._row, size, axis=0)
        if self.side == "n":
            out = [self._products(w, rows) for w in self._fixed]
        else:
            out = [self._products(rows, x).T for x in self._fixed]
        return [outputs.tobytes() for outputs in np.concatenate(out, axis=1)]

    def classes_of(self, size: int) -> Array:
        """Return the class of each row of a product of so many: int [size]."""
        if size not in self.classes:
            found = [self._known.setdefault(key, len(self._known)) for key in self._keys(size)]
            self.classes[size] = np.array(found)
        return self.classes[size]

    def look(self) -> None:
        """Look at the first sizes."""
        for size in self._sizes:
            self.classes_of(size)

    def varies(self) -> bool:
        """Return whether the same product has other bits when it is made again."""
        return len({tuple(self._keys(max(self._sizes))) for _ in range(3)}) > 1

    def minds_others(self) -> bool:
        """Return whether a row of x gives other bits when the rows beside it are far larger.

        Not by a power of two: narrow floats under a scale of all rows would stay the same.
        """
        for size in sorted(self.classes)[1:NEIGHBOURS]:
            for place in {0, size // 2, size - 1}:
                alike = np.repeat(self._row, size, axis=0)
                others = alike * np.float32(9.7)
                others[place] = alike[place]
                one, other = (self._products(self._fixed[0], rows)[place] for rows in (alike, others))
                if one.tobytes() != other.tobytes():
                    return True
        return False

    @property
    def count(self) -> int:
        """How many classes there are."""
        return len(self._known)

    def rule(self, number: int) -> Rule | None:
        """Return where outputs are of a class; None where no rule is known."""
        return find_rule(
            Seen(self.seen(number)), lambda size: np.asarray(self.classes_of(size) == number), LONGEST
        )

    def seen(self, number: int) -> dict[int, Array]:
        """Return where outputs of the shapes looked at are of a class: bool [size] by size."""
        return {size: found == number for size, found in sorted(self.classes.items())}

    def place(self, number: int, least: int = 1) -> tuple[int, tuple[int, ...]]:
        """Return the smallest size with so many outputs of a class or the most there are, and their rows."""
        counts = {size: int((found == number).sum()) for size, found in self.classes.items()}
        least = min(least, max(counts.values()))
        size = min(size for size, count in counts.items() if count >= least)
        return size, tuple(np.flatnonzero(self.classes[size] == number).tolist())
