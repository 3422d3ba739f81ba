"""Where a form holds: for some values of scales and codes, in some elements of blocks, at some places.

Elements that a form makes right are its hits, and those that it makes wrong are missed by it. A condition
takes in the hits and none of the missed ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.diagnosis.dequantizers.model import BLOCK, Condition
from q8a8_conformance.diagnosis.dequantizers.values import exact, named, of_context
from q8a8_conformance.reveal.places import Seen, find_rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8_conformance.diagnosis.dequantizers.model import Values
    from q8a8_conformance.diagnosis.dequantizers.values import State
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.reveal.places import Rule

LONGEST = 5000
"""Blocks of the longest row that is asked for."""

RARE = 8
"""How many times as many elements of a block are missed as are hit by chance."""


def find_condition(state: State, ask: Callable[[int], State]) -> Condition | None:
    """Return the simplest condition that takes in the hits, and nothing missed; None where none does."""
    for some, of_places in ((named(state), True), (of_context(state), False), (exact(state), True)):
        tried = [(one, state.among(one)) for one in some]
        tried = [(one, among) for one, among in tried if among.hit.any()]
        for one, among in tried:
            if not among.missed.any():
                return Condition(values=one)
        for one, among in tried:
            lanes = _lanes(among)
            if lanes is not None and not among.missed[:, lanes].any():
                return Condition(lanes=lanes, values=one)
        for one, among in tried if of_places else ():
            lanes = _lanes(among)
            for of in dict.fromkeys((None, lanes)):
                if (rule := _rule(among, of, one, ask)) is not None:
                    return Condition(rule, of, one)
    return None


def _lanes(state: State) -> tuple[int, ...] | None:
    """Return the elements of blocks at which there are hits; None for all."""
    hit = state.hit.sum(axis=0)
    lanes = np.flatnonzero((hit > 0) & (hit >= state.bad.sum(axis=0)))
    return tuple(lanes.tolist()) if 0 < lanes.size < BLOCK else None


def _rule(
    state: State, lanes: tuple[int, ...] | None, values: Values | None, ask: Callable[[int], State]
) -> Rule | None:
    """Return the rule of the blocks that have hits, or None."""
    is_one_of_several = state.bad.any()

    def at(of: State) -> tuple[Array, Array]:
        """Return which blocks have hits, and in which there is something missed: bool [k]."""
        inside = of if lanes is None else of.cut(np.isin(np.arange(BLOCK), lanes))
        hit, missed, bad = (of.sum(axis=1) for of in (inside.hit, inside.missed, inside.bad))
        # (A few hits among many that are missed are those of another mistake; so are a few of these.)
        is_hit = np.asarray((hit > 0) & (hit >= bad) & (hit * RARE > missed))
        return is_hit, np.asarray((missed > 0) & ~(is_hit & (missed * RARE < hit) & is_one_of_several))

    def row(n: int, numbers: Array, kinds: tuple[Array, Array]) -> Array:
        """Return for a length at which places there are hits, and something missed: bool [2, n]."""
        which = np.zeros((2, n), np.bool_)
        for kind, of in enumerate(kinds):
            which[kind, numbers[of]] = True
        return which

    def more(n: int) -> tuple[Array, Array]:
        new = ask(n)
        which = row(n, new.read.own[:, 0], at(new.among(values)))
        if n in seen.rows:
            which |= seen.rows[n], seen.known[n] & ~seen.rows[n]
        return which[0], np.asarray(which.any(axis=0))

    kinds = at(state)
    seen = Seen({}, {})
    lengths, numbers = state.read.n[:, 0], state.read.own[:, 0]
    for n in np.unique(lengths).tolist():
        here = lengths == n
        which = row(n, numbers[here], (kinds[0][here], kinds[1][here]))
        if which.all(axis=0).any():
            return None
        seen.rows[n], seen.known[n] = which[0], np.asarray(which.any(axis=0))
    return find_rule(seen, more, LONGEST) if kinds[0].any() and kinds[1].any() else None
