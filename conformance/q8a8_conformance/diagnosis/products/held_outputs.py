"""Which output each place of out holds after a product: each is a number of its own.

What a place held before is such a number, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from q8a8 import layout
from q8a8_conformance.inputs import calls
from q8a8_conformance.results.expected_product import outputs_of

if TYPE_CHECKING:
    from q8a8_conformance.diagnosis.products.rules import Shape
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.reveal.quantizers.calls import AnySession

HELD = 2.0**22
"""What outputs hold before, and their place more; less than 2^24, so that each is a number of its own."""

DIGITS = 126
"""Numbers of rows that one product tells apart."""


@dataclass(frozen=True)
class Seen:
    """What the places of out hold after a product of one shape.

    Attributes
    ----------
    shape
        m, n and blocks of a row.
    source
        int [n·m]: the number i · m + j of the output that a place holds; -1 for none.
    kept, zero
        bool [n·m]: a place is as it was, or is 0.
    made
        The call, and its outputs.
    """

    shape: Shape
    source: Array
    kept: Array
    zero: Array
    made: tuple[Call, tuple[bytes, ...]]

    @property
    def is_known(self) -> bool:
        """Whether every place holds an output, nothing, or what it did before."""
        return bool(((self.source >= 0) | self.kept | self.zero).all())

    @property
    def moved(self) -> Array:
        """Which places hold another output than their own: bool [n·m]."""
        return np.asarray((self.source >= 0) & (self.source != np.arange(self.source.size)))

    @property
    def is_joint(self) -> bool:
        """Whether the row, or the column, of what a place holds depends on both of its own."""
        m, n, _ = self.shape
        rows, columns = (of.reshape(n, m) for of in np.divmod(self.source, m))
        seen = (self.source >= 0).reshape(n, m)
        return _differ(rows, seen) or _differ(columns.T, seen.T)


def _differ(of: Array, seen: Array) -> bool:
    """Return whether some row of numbers [a, b] has several where these are seen."""
    large = np.iinfo(of.dtype).max
    least, most = np.where(seen, of, large).min(axis=1), np.where(seen, of, -1).max(axis=1)
    return bool(((least < most) & seen.any(axis=1)).any())


def held_outputs(session: AnySession, shape: Shape) -> Seen:
    """Find which output each place of out holds after a product of a shape."""
    m, n, nb = shape
    places = np.arange(m * n)
    rows, columns, unit = 0 * places, 0 * places, 1
    valid = np.ones(m * n, bool)
    kept = zero = ~valid
    while True:
        w, x = np.zeros((m, nb, 32), np.int8), np.zeros((n, nb, 32), np.float32)
        w[:, 0, 0], w[:, 0, 1] = np.arange(m) // unit % DIGITS + 1, 1
        x[:, 0, 0], x[:, 0, 1] = DIGITS + 1, np.arange(n) // unit % DIGITS + 1
        held = (HELD + places).astype("<f4").tobytes()
        call = calls.mul_mat(layout.pack(np.ones((m, nb), np.float16), w), x.reshape(n, -1), out=held)
        outputs = tuple(bytes(out) for out in session.call(call).outputs)
        got = outputs_of(call, outputs[0]).reshape(-1)
        kept, zero = got == HELD + places, got == 0
        with np.errstate(invalid="ignore"):
            number = np.where(np.abs(got) < HELD, got, 0.0).astype(int)
        digit, other = number // (DIGITS + 1) - 1, number % (DIGITS + 1) - 1
        valid &= (number == got) & (digit >= 0) & (other >= 0) & (digit < DIGITS)
        columns, rows, unit = columns + digit * unit, rows + other * unit, unit * DIGITS
        if max(m, n) <= unit:
            break
    valid &= (columns < m) & (rows < n)
    return Seen(shape, np.where(valid, rows * m + columns, -1), kept, zero, (call, outputs))
