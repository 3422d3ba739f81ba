"""Whether a kernel's errors centre on zero: a bias that the bound of Q8A8-ORD-2 leaves room for.

A sum that is truncated at each step, or multiplied by a scale that is slightly off, can stay within the bound
for any row and still move all results the same way. Legal errors are rounding errors to nearest, and do not
agree on a direction.

The statistic, of errors e_i = computed - exact, divided by magnitudes M_i, with given signs w_i = -1 or 1::

    t = sum_i w_i e_i / M_i  /  sqrt(sum_i (e_i / M_i)^2)

If the signs of the e_i are fair and independent coins, whatever their sizes, Hoeffding's inequality gives
P(|t| >= T) <= 2 exp(-T^2 / 2) for every number of results: no normal approximation is in it. With T = 6 that
is 3.1e-8, and one run makes twelve such tests. Why the signs are coins is the matter of the rows that are
asked for (`q8a8_conformance.suite.bias_rows`); docs/proofs.md, "Errors without a direction", has the proof.

Two directions are looked at: w_i = 1 finds results that are moved up or down, w_i = the sign of the exact
result finds those that are drawn toward zero or pushed away from it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

THRESHOLD = 6.0
"""T: a legal kernel's |t| is at least this with a probability of at most 2 exp(-18) = 3.1e-8."""

UNIT = Fraction(1, 1 << 24)
"""u: half an ULP of 1."""


@dataclass(frozen=True)
class Deviation:
    """One result: its error computed - exact, magnitude and bound (Q8A8-ORD-2), and the exact one's sign."""

    error: Fraction
    magnitude: Fraction
    bound: Fraction
    sign: int


@dataclass(frozen=True)
class Bias:
    """A warning: the errors of a function agree on a direction.

    Attributes
    ----------
    slug
        ``bias:up``, ``bias:down``, ``bias:toward-zero`` or ``bias:away-from-zero``.
    function, case
        The ABI function, and the case whose rows showed it.
    size
        The mean error in this direction, in units of u = 2^-24 of the magnitude.
    of_bound
        The mean error as a fraction of the bound.
    results, statistic
        How many results it rests on, and |t|.
    message
        All of it in one sentence.
    """

    slug: str
    function: str
    case: str
    size: float
    of_bound: float
    results: int
    statistic: float
    message: str


_DIRECTIONS = (
    (("bias:up", "are moved up"), ("bias:down", "are moved down")),
    (("bias:away-from-zero", "are pushed away from zero"), ("bias:toward-zero", "are drawn toward zero")),
)


def find_biases(function: str, case: str, deviations: Sequence[Deviation]) -> tuple[Bias, ...]:
    """Test for a bias in either direction.

    Parameters
    ----------
    function, case
        What gave the results, and where.
    deviations
        Of independent results.

    Returns
    -------
    tuple of Bias
        At most one for each of the two directions; none for a kernel whose errors centre on zero.
    """
    found = []
    deviations = [d for d in deviations if d.magnitude]
    unsigned = [float(d.error / (UNIT * d.magnitude)) for d in deviations]
    for by_sign, names in enumerate(_DIRECTIONS):
        signs = [d.sign if by_sign else 1 for d in deviations]
        shares = [w * share for w, share in zip(signs, unsigned, strict=True)]
        size = statistic(shares)
        if abs(size) < THRESHOLD:
            continue
        slug, verb = names[size < 0]
        mean = math.fsum(shares) / len(shares)
        of_bound = math.fsum(
            w * float(d.error / d.bound) for w, d in zip(signs, deviations, strict=True) if d.bound
        ) / len(shares)
        found.append(
            Bias(
                slug, function, case, mean, of_bound, len(shares), abs(size),
                f"{len(shares)} results {verb}, by {abs(mean):.2g} u of their magnitude on average "
                f"(u = 2^-24; {abs(of_bound):.2%} of the bound): t = {abs(size):.1f}; rounding to nearest "
                f"stays below {THRESHOLD:g}",
            )
        )  # fmt: skip
    return tuple(found)


def statistic(shares: Sequence[float]) -> float:
    """Return t: the sum of the errors over the root of the sum of their squares; 0 where all are 0."""
    squares = math.fsum(share * share for share in shares)
    return math.fsum(shares) / math.sqrt(squares) if squares else 0.0
