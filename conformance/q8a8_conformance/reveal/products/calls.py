"""A matrix product under experiment: pairs of rows in, an output each, at a shape and at chosen places of it.

Of a product by one row each, or at one place of a larger one, whatever reveals a dot product reveals this
one, too (`dot_of`): a row of activations that its quantizer leaves as it is stands for a row of blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from q8a8 import dequantize_row, layout
from q8a8_conformance.inputs import calls
from q8a8_conformance.protocol.session import SessionError
from q8a8_conformance.reveal.asking import NoAnswerError

if TYPE_CHECKING:
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.reveal.asking import AskDot
    from q8a8_conformance.reveal.quantizers.calls import AnySession

LARGEST = 127


class Products:
    """Makes matrix products.

    Parameters
    ----------
    session
        With the kernel.

    Attributes
    ----------
    count
        Calls made so far.
    """

    def __init__(self, session: AnySession) -> None:
        self._session = session
        self.count = 0

    def __call__(self, w: Array, x: Array) -> Array:
        """Multiply w, blocks [m, nb], by x, float32 [n, 32·nb]: float32 [n, m].

        Raises
        ------
        NoAnswerError
            The kernel did not return.
        """
        self.count += 1
        call = calls.mul_mat(w, np.ascontiguousarray(x, "<f4"))
        try:
            out = self._session.call(call).outputs[0]
        except SessionError as error:
            raise NoAnswerError(
                f"a product of m = {len(w)}, n = {len(x)}, k = {x.shape[1]}: {error}"
            ) from None
        return np.frombuffer(bytes(out)[: 4 * len(w) * len(x)], "<f4").reshape(len(x), len(w))


@dataclass(frozen=True)
class Place:
    """Some outputs of a shape, in which the kernel computes alike.

    Attributes
    ----------
    products
        Makes the products.
    m, n
        The shape.
    rows, columns
        Rows of x and of w whose outputs they are, one each at least.
    zero
        The code of a weight that adds nothing.
    """

    products: Products
    m: int
    n: int
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    zero: int = 0

    def by_rows(self, w: Array, x: Array) -> Array:
        """Multiply a row w, blocks [nb], by rows of x, float32 [r, 32·nb]: float32 [r]."""
        every = np.repeat(w[np.newaxis], self.m, axis=0)
        found = []
        for start in range(0, len(x), len(self.rows)):
            part = x[start : start + len(self.rows)]
            given = np.repeat(part[:1], self.n, axis=0)
            given[list(self.rows[: len(part)])] = part
            found.append(self.products(every, given)[list(self.rows[: len(part)]), self.columns[0]])
        return np.concatenate(found)

    def outer(self, w: Array, x: Array) -> Array:
        """Multiply rows w, blocks [c, nb], by rows of x, float32 [r, 32·nb], no more than there is room for.

        Returns
        -------
        numpy.ndarray
            float32 [r, c].
        """
        weights, given = np.repeat(w[:1], self.m, axis=0), np.repeat(x[:1], self.n, axis=0)
        rows, columns = list(self.rows[: len(x)]), list(self.columns[: len(w)])
        weights[columns], given[rows] = w, x
        return np.asarray(self.products(weights, given)[np.ix_(rows, columns)])

    def elements(self, x: Array) -> Array:
        """Return what the first 32 elements of rows [r, k] become: a product by weights of a single one."""
        found = np.empty((len(x), 32), np.float32)
        for first in range(0, 32, len(self.columns)):
            part = np.arange(first, min(first + len(self.columns), 32))
            codes = np.full((len(part), x.shape[1] // 32, 32), self.zero, np.int8)
            codes[np.arange(len(part)), 0, part] = self.zero + 1
            w = layout.pack(np.ones(codes.shape[:2], np.float16), codes)
            for start in range(0, len(x), len(self.rows)):
                rows = slice(start, start + len(self.rows))
                found[rows, part] = self.outer(w, x[rows])
        return found


def dot_of(place: Place) -> AskDot:
    """Return what makes dot products at a place, of rows of blocks of which y is given as floats."""

    def ask(function: str, nrc: int, x: Array, y: Array) -> bytes | None:
        del function, nrc
        weights, activations, factor = as_quantized(x, y)
        value = place.by_rows(weights, dequantize_row(activations)[np.newaxis]) / np.float32(factor)
        return value.astype("<f4").tobytes()

    return ask


def as_quantized(x: Array, y: Array) -> tuple[Array, Array, int]:
    """Return rows of blocks of which y's is what a quantizer makes of its floats, and the product's factor.

    A block whose largest code is 127 is left as it is by every recipe: amax/127 is its scale, exactly. So a
    block gets the code 127 in y where it has an element without a product, and 0 in x. Where there is none,
    and y's codes are 0, 1 and -1, all products are made 127 times as large.
    """
    x, y = x.copy(), y.copy()
    qx, qy = x["weight_qs"], y["weight_qs"]
    largest = np.abs(qy.astype(np.int16)).max(axis=1, initial=0)
    small = (largest < LARGEST) & (largest > 0)
    free = (qx == 0) | (qy == 0)
    if not free.any(axis=1)[small].all() and largest.max(initial=0) == 1:
        qy *= LARGEST
        return x, y, LARGEST
    for block in np.flatnonzero(small & free.any(axis=1)).tolist():
        element = int(np.argmax(free[block]))
        qx[block, element], qy[block, element] = 0, LARGEST
    return x, y, 1
