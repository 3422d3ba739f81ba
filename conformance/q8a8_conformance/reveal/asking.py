"""A dot product under experiment: rows in, one float out, with a count of the calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.inputs import dot_rows
from q8a8_conformance.inputs.arrays import Array
from q8a8_conformance.inputs.calls import DOT_REAL

if TYPE_CHECKING:
    from q8a8.order import Program

AskDot = Callable[[str, int, Array, Array], "bytes | None"]
"""Makes a dot product: function, nrc, blocks x and y ([nb], or [2, nb] for nrc = 2); ``s``, or None."""


class NoTreeError(Exception):
    """Raised where the answers to the experiments fit no binary tree of additions; the message says how."""


class NoAnswerError(Exception):
    """Raised where the kernel does not return from a call."""


class NoSuchCallError(NoAnswerError):
    """Raised where there is no such call: activations of a product do not become every code."""


class Dot:
    """A dot product under experiment.

    Parameters
    ----------
    ask
        Makes a dot product.
    function
        Its ABI name.
    nrc
        Rows at a time, 1 or 2.

    Attributes
    ----------
    calls
        Calls made so far.
    programs
        What was found of rows of so many blocks.
    """

    def __init__(self, ask: AskDot, function: str, nrc: int = 1) -> None:
        self._ask = ask
        self.function = function
        self.nrc = nrc
        self.calls = 0
        self.programs: dict[int, Program] = {}

    def value(self, x: Array, y: Array) -> float:
        """Return the product of two rows [nb] of version 1 blocks.

        With nrc = 2 both rows are given twice, and all four products must be the same.

        Raises
        ------
        NoAnswerError
            The kernel did not return.
        NoTreeError
            The four products of the same two rows differ.
        """
        if self.nrc == 1:
            return float(self.results(x[np.newaxis], y[np.newaxis])[0])
        results = self.results(np.stack([x, x]), np.stack([y, y]))
        if np.unique(results.view(np.uint32)).size > 1:
            raise NoTreeError("the four products of nrc = 2 differ where their rows are equal")
        return float(results[0])

    def results(self, x: Array, y: Array) -> Array:
        """Return the nrc² products of rows [nrc, nb] of version 1 blocks, x's row after x's row: float32.

        Raises
        ------
        NoAnswerError
            The kernel did not return.
        """
        self.calls += 1
        if self.nrc == 1:
            x, y = x[0], y[0]
        if self.function == DOT_REAL:
            x, y = dot_rows.to_v2(x, y)
        s = self._ask(self.function, self.nrc, x, y)
        if s is None:
            raise NoAnswerError(f"{self.function} did not return from a row of {x.shape[-1]} blocks")
        return np.frombuffer(s[: 4 * self.nrc**2], "<f4")
