"""What laws of a product's terms may have instead: other activations or sums of blocks, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from q8a8_conformance.inputs.arrays import Array

if TYPE_CHECKING:
    from collections.abc import Callable

Side = tuple[Array, Array]


class Kept(Protocol):
    """What activations become, in words, and as codes and scales of rows of elements."""

    @property
    def words(self) -> str:
        """What they become, as a clause."""

    def codes(self, x: Array) -> Side:
        """Return codes, [n, nb, 32], and scales, [n, nb], of rows, float32 [n, 32·nb]."""


class Sums(Protocol):
    """How the sum of a block is made, in words, and of codes."""

    @property
    def words(self) -> str:
        """How, as a clause."""

    @property
    def function(self) -> Callable[[Array, Array], Array]:
        """Return the sums [n, m] of a block of codes of w, [m, 32], and of x, [n, 32]."""

    def of(self, w: Array, x: Array) -> Array:
        """Return the sums of codes, [m, nb, 32] and [n, nb, 32]: float64 [n, m, nb]."""
