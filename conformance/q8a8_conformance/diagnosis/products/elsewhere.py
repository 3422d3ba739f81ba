"""Products that read rows, or store outputs, elsewhere: a formula for the place, and where it is so.

`measuring` reads with which block of its matrix each row begins that is multiplied, and of which rows
each output is. A formula for the distance of rows must give all that was seen; a rule says in which shapes it
holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from q8a8_conformance.diagnosis.products.rules import output_rule
from q8a8_conformance.diagnosis.products.sources import agrees, quantized, sums
from q8a8_conformance.results.observations import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from q8a8_conformance.diagnosis.products.measuring import Measuring
    from q8a8_conformance.diagnosis.products.rules import OutputRule, Shape
    from q8a8_conformance.diagnosis.products.sources import Sources
    from q8a8_conformance.results.observations import CallResult

Array = NDArray[Any]

MULTIPLES = (2, 4, 8, 16, 32, 3, 5, 6, 12)
STEPS = (1, 2, 3, 4)
FIXED = (1, 2, 4, 8, 16, 32, 64)

_STARTS: tuple[tuple[str, Callable[[Array, Shape, int], Array], tuple[int, ...]], ...] = (
    ("{i} * (nb - nb % {t})", lambda i, s, t: i * (s[2] - s[2] % t), MULTIPLES),
    ("{i} * (nb rounded up to a multiple of {t})", lambda i, s, t: i * (-(-s[2] // t) * t), MULTIPLES),
    ("{i} * (nb - {t})", lambda i, s, t: i * (s[2] - t), STEPS),
    ("{i} * (nb + {t})", lambda i, s, t: i * (s[2] + t), STEPS),
    ("{i} * (nb + nb % {t})", lambda i, s, t: i * (s[2] + s[2] % t), MULTIPLES),
    ("{i} * m", lambda i, s, _t: i * s[0], (0,)),
    ("{i} * n", lambda i, s, _t: i * s[1], (0,)),
    ("{i} * (nb / {t})", lambda i, s, t: i * (s[2] // t), STEPS),
    ("{i} * max(nb - {t}, 1)", lambda i, s, t: i * max(s[2] - t, 1), STEPS),
    ("{i} * {t}", lambda i, _s, t: i * t, FIXED),
    ("{i} * nb + {t}", lambda i, s, t: i * s[2] + t, STEPS),
    ("{i} * nb - {t}", lambda i, s, t: i * s[2] - t, STEPS),
)
"""With which block row i may begin, in a shape of m, n and nb, with a number t."""


@dataclass(frozen=True)
class Distance:
    """Rows of a side that begin with other blocks than their own.

    Attributes
    ----------
    side
        "x" or "w".
    words
        The block with which row i, or j, begins, in m, n and nb.
    of
        Returns it for rows of a shape.
    """

    side: str
    words: str
    of: Callable[[Array, Shape], Array]

    def starts(self, shape: Shape) -> Array:
        """Return the blocks with which the rows of outputs begin: int [n, m]."""
        i, j = np.indices((shape[1], shape[0]))
        return self.of(i if self.side == "x" else j, shape)

    def differs(self, shape: Shape) -> Array:
        """Return for which outputs that is not where the row begins: bool [n, m]."""
        i, j = np.indices((shape[1], shape[0]))
        return np.asarray(self.starts(shape) != (i if self.side == "x" else j) * shape[2])

    def is_inside(self, shape: Shape) -> Array:
        """Return for which outputs all blocks lie within the matrix: bool [n, m]."""
        starts, rows = self.starts(shape), shape[1] if self.side == "x" else shape[0]
        return np.asarray((starts >= 0) & (starts + shape[2] <= rows * shape[2]))

    def fits(self, sources: Sources) -> bool:
        """Return whether it gives what was seen in a shape, where that is not right."""
        wrong, shape = elsewhere(sources, self.side), sources.shape
        seen, inside = sources.starts[self.side], self.is_inside(shape)
        same = np.where(inside, seen == self.starts(shape), seen < 0)
        return bool((same & self.differs(shape))[wrong].all())

    def predicts(self, rule: OutputRule, failure: Failure) -> bool:
        """Return whether a failed call's outputs are those of rows that begin there."""
        if (operands := quantized(failure)) is None:
            return False
        w, xq = operands
        shape = (len(w), len(xq), w.shape[1])
        total, magnitude = sums(w, xq)
        here, (n, m) = rule.holds(shape), total.shape
        starts = self.of(np.arange(n if self.side == "x" else m), shape)
        flat = (xq if self.side == "x" else w).reshape(-1)
        taken = flat[np.clip(starts[:, np.newaxis] + np.arange(shape[2]), 0, len(flat) - 1)]
        moved, of_moved = sums(w, taken) if self.side == "x" else sums(taken, xq)
        free = here & ~self.is_inside(shape)
        return agrees(failure, np.where(here, moved, total), magnitude + of_moved, free=free)


def elsewhere(sources: Sources, side: str) -> Array:
    """Return which outputs are of rows that do not begin where they should, or of none that is seen."""
    i, j = np.indices(sources.kept.shape)
    return np.asarray(sources.starts[side] != (i if side == "x" else j) * sources.shape[2])


def distances(
    measured: Sequence[Sources], measure: Measuring
) -> Iterator[tuple[Distance, OutputRule, Callable[[CallResult], bool]]]:
    """Yield distances of rows that give all that was seen, with the outputs in which they hold."""
    for side in "xw":
        wrong = [one for one in measured if one.shape[2] and elsewhere(one, side).any()]
        if not any(((one.starts[side] > 0) & (one.starts[side] % one.shape[2] > 0)).any() for one in wrong):
            continue
        for words, of, numbers in _STARTS:
            for t in numbers:
                text = words.format(i="i" if side == "x" else "j", t=t)
                distance = Distance(side, text, partial(_with, of, t))
                if not all(distance.fits(one) for one in wrong):
                    continue

                def look(shape: Shape, side: str = side) -> Array:
                    return elsewhere(measure(shape), side)

                rule = output_rule(wrong[0].shape, [one.shape for one in measured], look, distance.differs)
                if rule is not None:
                    yield distance, rule, partial(_explains, distance, rule)
                    break


def _with(of: Callable[[Array, Shape, int], Array], t: int, rows: Array, shape: Shape) -> Array:
    return of(rows, shape, t)


def _explains(distance: Distance, rule: OutputRule, result: CallResult) -> bool:
    shape = (result.call.bs, result.call.bx, result.call.n // 32)
    return isinstance(result, Failure) and shape[2] > 0 and distance.predicts(rule, result)
