"""What happens at the places of a row: a term is not counted, counted again, or has parts of another block.

An effect says which; `row_facts` finds the effects that give the terms that were measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.diagnosis.products.rules import RowFormula
from q8a8_conformance.reveal.grids import significant

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.reveal.place_rules import Rule

PARTS = ("x's scale", "y's scale", "x's codes", "y's codes")
"""The parts of a term, as `Term` has them."""

TIMES = {0: "left out", 2: "counted twice"}


@dataclass(frozen=True)
class Kind:
    """What happens at a place, but for the blocks that parts are taken from.

    Attributes
    ----------
    times
        How often the place's own term is counted; None for no change.
    parts
        Numbers of the parts of a further term that are another block's: those of one block together. None
        where there is no further term.
    """

    times: int | None
    parts: tuple[tuple[int, ...], ...] | None = None


@dataclass(frozen=True)
class Effect:
    """What happens at a place.

    Attributes
    ----------
    kind
        But for the blocks that parts are taken from.
    sources
        Of each of these which one it is.
    is_kept
        Whether a block that takes a part from one that does so itself has what that takes.
    """

    kind: Kind
    sources: tuple[RowFormula, ...] = ()
    is_kept: bool = False

    def taken(self, places: Array, nb: int) -> Array:
        """Return the blocks of a further term's parts at some places: int [4, k]."""
        of = np.array([places] * 4)
        for parts, formula in zip(self.kind.parts or (), self.sources, strict=True):
            of[list(parts)] = formula.of(places, nb)
        return of

    def kept(self, here: Array) -> Array:
        """Return the blocks of a further term's parts at some places, bool [nb]: int [4, k]."""
        places, nb = np.flatnonzero(here), len(here)
        if not self.is_kept:
            return self.taken(places, nb)
        own = np.arange(nb)
        of = np.where(here, self.taken(own, nb), own)
        for _ in range(nb.bit_length()):
            of = np.take_along_axis(of, of, axis=1)  # (So many steps at once as before, twice.)
        return of[:, places]

    def shows(self, nb: int) -> Array:
        """Return at which places of a row it would be seen: bool [nb]."""
        if self.kind.parts is None:
            return np.ones(nb, np.bool_)
        places = np.arange(nb)
        of = self.taken(places, nb)
        return np.asarray(((of >= 0) & (of < nb)).all(axis=0) & (of != places).any(axis=0))

    def is_known(self, nb: int) -> Array:
        """Return at which places of a row its own term is not what it would be: bool [nb]."""
        places = np.arange(nb)
        return np.asarray((self.taken(places, nb) != places).any(axis=0) | (self.kind.parts is None))

    @property
    def fact(self) -> str:
        """The fact that it is."""
        if self.kind.parts is None:
            return "block-counted-twice" if self.kind.times else "block-not-counted"
        if self.kind.times is None:
            return "sum-added-again"
        is_of_scales = all(part < 2 for parts in self.kind.parts for part in parts)
        return "scale-of-another-block" if is_of_scales else "block-meets-another"

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON data."""
        found: dict[str, Any] = {} if self.kind.times is None else {"times": self.kind.times}
        for parts, formula in zip(self.kind.parts or (), self.sources, strict=True):
            found |= {PARTS[part].replace("'s ", "_"): formula.text("b", "nb") for part in parts}
        return found

    def words(self, *, plural: bool) -> str:
        """Say what happens, as a clause without its subject."""
        be, take = ("are", "take") if plural else ("is", "takes")
        if self.kind.parts is None:
            return f"{be} {TIMES.get(self.kind.times or 0) or f'counted {self.kind.times} times'}"
        if self.is_kept:
            take = "keep" if plural else "keeps"
            return f"{take} {_parts(self.kind.parts[0])} from the last block before of which that is not so"
        texts = [
            f"{_parts(parts)} from block {formula.text('b', 'nb')}"
            for parts, formula in zip(self.kind.parts, self.sources, strict=True)
        ]
        if self.kind.times is not None:
            return f"{take} {' and '.join(texts)}"
        if self.kind.parts == ((2, 3),):
            add = "add" if plural else "adds"
            their = "their" if plural else "its"
            return (
                f"{add} the sum of block {self.sources[0].text('b', 'nb')} as well, under {their} own scales"
            )
        return f"{be} counted a second time, with {' and '.join(texts)}"


def _parts(parts: Sequence[int]) -> str:
    """Return parts in words: "y's codes and scale"."""
    if tuple(parts) in {(0, 1), (2, 3)}:
        return "the scales" if parts[0] == 0 else "the codes"
    by_side = [[PARTS[part] for part in sorted(parts, reverse=True) if part % 2 == side] for side in (0, 1)]
    return " and ".join(f"{of[0]}{' and scale' * (len(of) > 1)}" for of in by_side if of)


def shifted(step: int) -> RowFormula:
    """Return the block so far away."""
    words = "{i} - {t}" if step < 0 else "{i} + {t}"
    return RowFormula(words, lambda i, _n, t: i + (t if step > 0 else -t), abs(step))


def meeting(
    nb: int, row: int, column: int, placed: Iterable[tuple[Array, Effect]]
) -> tuple[Array, Array, Array, Array]:
    """Return the blocks of rows of x and of y that meet, and those whose scales they take.

    `placed` has places of the row, bool [nb], and what happens there.
    """
    every = np.ones(nb, np.int64)
    parts = []
    for holds, effect in placed:
        here = holds & effect.shows(nb)
        if effect.kind.times is not None:
            every[here] = effect.kind.times
        if effect.kind.parts is not None:
            a, b, c, d = effect.kept(here)
            parts.append((c, d, a, b))
    own = np.repeat(np.arange(nb), every)
    x, y, of_x, of_y = (np.concatenate(side) for side in zip((own,) * 4, *parts, strict=True))
    return x + row * nb, y + column * nb, of_x + row * nb, of_y + column * nb


@dataclass(frozen=True)
class Partial:
    """Sums of some blocks that are rounded before they are added up.

    Attributes
    ----------
    size
        Blocks of a chunk, or the number of lanes.
    is_lane
        Whether blocks of the same remainder are added, not those of a chunk.
    bits
        Significant bits.
    where
        In rows of which lengths.
    """

    size: int
    is_lane: bool
    bits: int
    where: Rule

    def of(self, terms: Array, blocks: Array, nb: int) -> Array:
        """Return the rounded sums of the terms [n] of some blocks, or the terms where that is not so."""
        if not self.where.takes(nb):
            return terms
        groups = blocks % self.size if self.is_lane else blocks // self.size
        sums = np.bincount(groups, terms)
        if self.bits == 11:
            return sums.astype(np.float16).astype(np.float64)
        return significant(sums, self.bits, np.rint)
