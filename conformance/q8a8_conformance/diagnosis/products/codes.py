"""Sums of blocks that a product makes otherwise: of other elements, or of too few bits.

The same laws as of other terms (`laws`), of codes of the largest magnitudes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.diagnosis.dots.partial_sums import in_bits
from q8a8_conformance.diagnosis.products.effects import Effect
from q8a8_conformance.diagnosis.products.terms import Measuring
from q8a8_conformance.inputs import dot_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8_conformance.diagnosis.products.rules import Shape
    from q8a8_conformance.diagnosis.products.terms import Side
    from q8a8_conformance.inputs.arrays import Array


@dataclass(frozen=True)
class BlockSum:
    """How the sum of a block is made.

    Attributes
    ----------
    words
        In words.
    function
        Returns the sums [n, m] of a block of codes of w, float64 [m, 32], and of x, [n, 32].
    """

    words: str
    function: Callable[[Array, Array], Array]

    def of(self, w: Array, x: Array) -> Array:
        """Return the sums of blocks of codes [m, nb, 32] and [n, nb, 32]: float64 [n, m, nb]."""
        w, x = w.astype(np.float64), x.astype(np.float64)
        blocks = [self.function(w[:, b], x[:, b]) for b in range(w.shape[1])]
        return np.stack(blocks, axis=2) if blocks else np.zeros((len(x), len(w), 0))


def _in_parts(size: int, offset: int, ends: str, w: Array, x: Array) -> Array:
    """Return sums of which those of so many products are limited, of w that is offset."""
    parts = (slice(at, at + size) for at in range(0, 32, size))
    total = sum(in_bits(x[:, part] @ (w[:, part] + offset).T, 16, ends) for part in parts)
    return np.asarray(total - offset * x.sum(axis=1)[:, np.newaxis])


PARTS = ((2, "two products"), (4, "four products"), (8, "8 products"), (16, "16 products"), (32, "a block"))
"""Products of a block that may be summed by themselves."""


def block_sums() -> list[BlockSum]:
    """Return how sums of blocks may be made, the simplest first."""
    limited = (
        (f"sums of {of}{more} {verb} in int16", partial(_in_parts, size, offset, f"{verb}s"))
        for size, of in (
            (2, "two products"),
            (4, "four products"),
            (8, "8 products"),
            (16, "16 products"),
            (32, "a block"),
        )
        for verb in ("saturate", "wrap")
        for offset, more in ((0, ""), (128, ", of codes of w plus 128,"))
    )
    return [BlockSum(*each) for each in limited]


def _counted(elements: slice, times: float, w: Array, x: Array) -> Array:
    return np.asarray(x @ w.T + (times - 1) * (x[:, elements] @ w[:, elements].T))


def _met(at: Callable[[Array], Array], w: Array, x: Array) -> Array:
    return np.asarray(x @ w[:, at(np.arange(32))].T)


_ELEMENTS = {
    **{
        f"elements {a} to {b - 1}": slice(a, b)
        for a, b in ((16, 32), (0, 16), (24, 32), (0, 8), (28, 32), (0, 4))
    },
    "element 31": slice(31, 32),
    "element 0": slice(1),
    "elements 1, 3, .. 31": slice(1, 32, 2),
    "elements 0, 2, .. 30": slice(0, 32, 2),
}
"""Elements of a block that may count otherwise than the rest."""

_MET: dict[str, Callable[[Array], Array]] = {
    **{f"e ^ {t}": partial(np.bitwise_xor, t) for t in (1, 2, 3, 4, 7, 8, 16, 31)},
    **{f"(e + {t}) % 32": partial(lambda t, e: (e + t) % 32, t) for t in (1, 2, 4, 8, 24, 28, 30, 31)},
    "e - e % 2": lambda e: e - e % 2,
    "e - e % 4": lambda e: e - e % 4,
    "e % 16": lambda e: e % 16,
    "e % 16 + 16": lambda e: e % 16 + 16,
    "e / 2 + e % 2 * 16": lambda e: e // 2 + e % 2 * 16,
    "e % 16 * 2 + e / 16": lambda e: e % 16 * 2 + e // 16,
}
"""Elements of w that may meet element e of x."""


def element_sums() -> list[BlockSum]:
    """Return how sums of blocks may be made of other elements."""
    counted = (
        (f"{words} {'is' if words.startswith('element ') else 'are'} {how}", partial(_counted, of, times))
        for times, how in ((0, "not counted"), (2, "counted twice"), (-1, "subtracted"))
        for words, of in _ELEMENTS.items()
    )
    met = ((f"element e of x meets element {words} of w", partial(_met, at)) for words, at in _MET.items())
    return [BlockSum(*each) for each in (*counted, *met)]


class PlainMeasuring(Measuring):
    """Measures terms of blocks whose sums may be made of other elements."""

    def effects(self) -> list[Effect]:
        """Return what may become of terms, with sums of other elements."""
        return [*super().effects(), *(Effect("sum", sums=each) for each in element_sums())]


class ExtremeMeasuring(Measuring):
    """Measures terms of codes of the largest magnitudes, of which sums of many round."""

    slack = 2.0**-19
    sides = "w"

    def effects(self) -> list[Effect]:
        """Return how sums of blocks may be made."""
        return [Effect("sum", sums=each) for each in block_sums()]

    def operands(self, shape: Shape) -> tuple[Side, Array]:
        """Return codes and scales of w, and the elements of x, float32 [n, 32·nb]."""
        m, n, nb = shape
        rng = dot_rows.generator("extreme", m, nb)
        w = rng.choice([-128, 127, -127, 5, -90], (m, nb, 32), p=[0.4, 0.3, 0.1, 0.1, 0.1]).astype(np.int8)
        # (Products of one sign add up.)
        signs = np.sign(w[0].astype(np.float32)) if m else np.ones((nb, 32), np.float32)
        x = [dot_rows.generator("extreme", i).choice([127, 127, -127, 60], (nb, 32)) for i in range(n)]
        return (w, np.ones((m, nb))), (np.array(x).reshape(n, nb, 32) * signs).astype(np.float32).reshape(
            n, -1
        )
