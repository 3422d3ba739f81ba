"""In which outputs of products of any shape something happens, and which row is taken: one rule for all.

`places` finds out where the outputs of one shape come from. Here shapes around the first one that is
wrong are looked at, along each of m, n and the blocks of a row, and a rule is found for the columns of out,
one for its rows, and conditions on the blocks (`reveal.places`). A rule is kept if it holds in every shape
that was looked at.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.diagnosis.products.joint import Joint, find_joint, is_joint, is_of_other_side
from q8a8_conformance.protocol.session import SessionError
from q8a8_conformance.reveal.places import Condition, Rule, Seen, find_rule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from q8a8_conformance.inputs.arrays import Array

Shape = tuple[int, int, int]

LENGTHS = (*range(1, 19), 20, 23, 24, 31, 32, 33, 36, 47, 48, 63, 64, 65, 66, 127, 128, 129)
"""Columns, rows or blocks of the shapes that are looked at, the other two as in the first one."""

LONGEST = 300
"""The most that a rule may ask for."""

LARGEST = 1 << 17
"""Products of blocks of a shape, at most, that is looked at besides those of failed calls."""

TILES = (2, 4, 8, 16, 32, 64, 3, 5, 6, 12, 24, 48)
DISTANCES = (1, 2, 3, 4, 8, 16)

EVERYWHERE = Rule(Condition("any"))


@dataclass(frozen=True)
class OutputRule:
    """In which outputs something happens.

    Attributes
    ----------
    columns, rows
        A rule for the columns of out, with conditions on m, and one for its rows, with conditions on n.
    blocks
        Conditions on the number of blocks of a row.
    either
        Whether a column or a row is enough; else both must hold.
    joint
        A condition on both together, besides.
    """

    columns: Rule
    rows: Rule
    blocks: Rule
    either: bool = False
    joint: Joint | None = None

    def holds(self, shape: Shape) -> Array:
        """Return bool [n, m]."""
        m, n, nb = shape
        rows, columns = self.rows.holds(n)[:, np.newaxis], self.columns.holds(m)
        both = rows | columns if self.either else rows & columns
        both &= self.blocks.takes(nb)
        return np.asarray(both if self.joint is None else both & self.joint.holds(shape))

    @property
    def text(self) -> str:
        """The outputs, in words."""
        sides = [
            rule.text(noun, length)
            for rule, noun, length in ((self.columns, "column", "m"), (self.rows, "row", "n"))
            if rule.position.kind != "any"
        ]
        where = (
            f"Outputs in {(' or in ' if self.either else ' and in ').join(sides)}" if sides else "All outputs"
        )
        if self.joint is not None:
            where = "Outputs"
        lengths = [
            condition.text(length, of_length=True)
            for rule, length in ((self.columns, "m"), (self.rows, "n"), (self.blocks, "nb"))
            if rule is self.blocks or rule.position.kind == "any"
            for condition in rule.length
        ]
        joined = " and ".join([*([self.joint.text] if self.joint else []), *lengths])
        return f"{where} {'and' if ' where ' in where else 'where'} {joined}" if joined else where

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON data."""
        data = {
            "columns": self.columns.to_json(),
            "rows": self.rows.to_json(),
            "blocks": [condition.to_json() for condition in self.blocks.length],
            "either": self.either,
        }
        return data if self.joint is None else {**data, "where": self.joint.text}


def output_rule(
    first: Shape, known: Sequence[Shape], look: Callable[[Shape], Array], shows: Callable[[Shape], Array]
) -> OutputRule | None:
    """Find the outputs in which something happens, from a shape in which it does.

    Parameters
    ----------
    first
        m, n and blocks of a row: something happens there.
    known
        Other shapes in which the rule must hold.
    look
        Returns where it happens in a shape: bool [n, m].
    shows
        Returns where it would show: bool [n, m].

    Returns
    -------
    OutputRule or None
        None where no rule holds in every shape.
    """
    rule, is_sure = joint_rule(first, known, look, shows)
    if is_sure or rule is not None:
        return rule
    for either in (False, True):
        try:
            base = next(_in_part(first, known, look, shows), first) if either else first
            columns, rows, blocks = (rule_along(axis, base, look, shows, either=either) for axis in range(3))
        except SessionError:
            # The time is up: no rule is better than one of a few shapes.
            return None
        if columns is None or rows is None or blocks is None:
            continue
        rule = OutputRule(columns, rows, blocks, either)
        if all(np.array_equal(rule.holds(shape) & shows(shape), look(shape)) for shape in (first, *known)):
            return rule
    return None


def _in_part(
    first: Shape, known: Sequence[Shape], look: Callable[[Shape], Array], shows: Callable[[Shape], Array]
) -> Iterator[Shape]:
    """Yield shapes in whose outputs something happens in part."""
    for shape in sorted((first, *known), key=lambda shape: (shape[2] != first[2], np.prod(shape))):
        mask = look(shape)
        if mask.any() and (shows(shape) & ~mask).any():
            yield shape


def joint_rule(
    first: Shape, known: Sequence[Shape], look: Callable[[Shape], Array], shows: Callable[[Shape], Array]
) -> tuple[OutputRule | None, bool]:
    """Return the same of a condition on row and column together, and whether nothing else says it."""
    is_sure = any(is_joint(look(shape), shows(shape)) for shape in (first, *known))
    with suppress(SessionError):
        if not is_sure and not is_of_other_side(first[2], look, shows):
            return None, False
        joint = find_joint(first[2], look, shows, LARGEST)
        blocks = rule_along(2, first, look, shows, either=False) if joint is not None else None
        if joint is not None and blocks is not None:
            rule = OutputRule(EVERYWHERE, EVERYWHERE, blocks, joint=joint)
            if all(np.array_equal(rule.holds(shape) & shows(shape), look(shape)) for shape in known):
                return rule, is_sure
    return None, is_sure


def block_rule(first: int, look: Callable[[int], Array]) -> Rule | None:
    """Find the blocks at which something happens, from a number of blocks in which it does.

    `look` returns the blocks of a row of so many at which it happens: bool [blocks].
    """
    with suppress(SessionError):
        seen = Seen({blocks: look(blocks) for blocks in sorted({*LENGTHS, first})})
        return find_rule(seen, look, LONGEST)
    return None


def rule_along(
    axis: int, first: Shape, look: Callable[[Shape], Array], shows: Callable[[Shape], Array], *, either: bool
) -> Rule | None:
    """Find the rule along m, n or the blocks; of the blocks, conditions on their number."""
    # (What shows in rows, or columns, without any of it says nothing of the others.)
    is_across = axis < 2 and not either
    here = look(first).any(axis=1 - axis, keepdims=True) if is_across else np.ones((1, 1), bool)

    def ask(length: int) -> tuple[Array, Array]:
        m, n, nb = (length if axis == side else size for side, size in enumerate(first))
        shape = (m, n, nb)
        if length != first[axis] and m * n * nb > LARGEST:
            # (Nothing is known of what would take too long.)
            return np.zeros(length, bool), np.zeros(length, bool)
        mask, shown = look(shape), shows(shape)
        if axis == 2:
            return np.full(length, mask.any()), np.full(length, shown.any())
        if is_across:
            mask, shown = mask & here, shown & here
        if axis == 1:
            mask, shown = mask.T, shown.T
        # Where a column or a row is enough, those that are wrong as a whole tell.
        wrong = (mask | ~shown).all(axis=0) & shown.any(axis=0) if either else mask.any(axis=0)
        return np.asarray(wrong), np.asarray(shown.any(axis=0))

    answers = {length: ask(length) for length in sorted({*LENGTHS, first[axis]})}
    seen = Seen(*({length: answer[part] for length, answer in answers.items()} for part in (0, 1)))
    return find_rule(seen, ask, LONGEST)


def _last_held(i: Array, n: Array | int, t: int) -> Array:
    """Return what a buffer of t rows has at the end: the last tile, and of the one before the rest."""
    row = np.asarray((n - 1) // t * t + i % t)
    return np.where(row < n, row, row - t)


ROW_FORMULAS: tuple[tuple[str, Callable[[Array, Any, int], Array], tuple[int, ...]], ...] = (
    ("0", lambda i, _n, _t: 0 * i, (0,)),
    ("{i} - {t}", lambda i, _n, t: i - t, DISTANCES),
    ("{i} + {t}", lambda i, _n, t: i + t, DISTANCES),
    ("({i} - {t}) % {n}", lambda i, n, t: (i - t) % n, DISTANCES),
    ("({i} + {t}) % {n}", lambda i, n, t: (i + t) % n, DISTANCES),
    ("{n} - 1", lambda i, n, _t: 0 * i + n - 1, (0,)),
    ("{n} - 1 - {i}", lambda i, n, _t: n - 1 - i, (0,)),
    ("{i} - {i} % {t}", lambda i, _n, t: i - i % t, TILES),
    ("{i} % {t}", lambda i, _n, t: i % t, TILES),
    ("{n} - {n} % {t}", lambda i, n, t: 0 * i + n - n % t, TILES),
    ("{i} + {n} % {t} - {t}", lambda i, n, t: i + n % t - t, TILES),
    ("{n} - {n} % {t} - 1", lambda i, n, t: 0 * i + n - n % t - 1, TILES),
    ("{i} ^ {u}", lambda i, _n, t: i ^ (t - 1), (2, 4, 8, 16, 32, 64)),
    ("{i} - {i} % {t} + {u} - {i} % {t}", lambda i, _n, t: i - i % t + t - 1 - i % t, (3, 5, 6, 12, 24, 48)),
    ("{i} - {i} % {t} + {u}", lambda i, _n, t: i - i % t + t - 1, TILES),
    (
        "{i} - {i} % {t} + {i} % {t} / 2 + {i} % 2 * {h}",
        lambda i, _n, t: i - i % t + i % t // 2 + i % 2 * (t // 2),
        (4, 8, 16, 32),
    ),
    (
        "{i} - {i} % {t} + {i} % {h} * 2 + {i} % {t} / {h}",
        lambda i, _n, t: i - i % t + i % (t // 2) * 2 + i % t // (t // 2),
        (4, 8, 16, 32),
    ),
    (
        "({n} - 1) / {t} * {t} + {i} % {t} ({t} less where that is beyond {n} - 1)",
        _last_held,
        TILES,
    ),
    ("{i} / {t}", lambda i, _n, t: i // t, TILES),
    ("{t} {i}", lambda i, _n, t: i * t, TILES),
)
"""What may be taken for row i of n: words, a function of i, n and a number t, the numbers that are tried."""


@dataclass(frozen=True)
class RowFormula:
    """Which row is taken for row i of n: `words` in {i} and {n}, and what computes it, with a number t."""

    words: str
    function: Callable[[Array, Any, int], Array]
    t: int

    def of(self, i: Array, n: int) -> Array:
        """Return the rows that are taken for rows i."""
        return self.function(i, n, self.t)

    def text(self, i: str, n: str) -> str:
        """Describe it, with letters for the row and the number of rows."""
        return self.words.format(i=i, n=n, t=self.t, u=self.t - 1, h=self.t // 2)


_SLICES = (4, 2, 8, 3, 16)


def _in_slices(i: Array, n: int, t: int, *, is_up: bool, is_last: bool) -> Array:
    """Return the first, or the last, of the slice of each of n, of t slices, the last one with the rest."""
    size = max(-(-n // t) if is_up else n // t, 1)
    first = np.minimum(i // size, t - 1) * size
    end = np.where(first == (t - 1) * size, n, np.minimum(first + size, n))
    return np.asarray(end - 1 if is_last else first)


def _last_of(i: Array, n: int, t: int) -> Array:
    return np.asarray(np.minimum(i - i % t + t - 1, n - 1))


GROUP_FORMULAS: tuple[tuple[str, Callable[[Array, int, int], Array], tuple[int, ...]], ...] = (
    ("{i} - {i} % {t}", lambda i, _n, t: i - i % t, (2, 4, 8, 16, 3, 6, 32)),
    ("min({i} - {i} % {t} + {u}, {n} - 1)", _last_of, (2, 4, 8, 16, 3, 6, 32)),
    ("0", lambda i, _n, _t: 0 * i, (0,)),
    ("{n} - 1", lambda i, n, _t: 0 * i + n - 1, (0,)),
    *(
        (words, partial(_in_slices, is_up=is_up, is_last=is_last), _SLICES)
        for words, is_up, is_last in (
            ("{i} - {i} % s, with s = {n} / {t} rounded up", True, False),
            ("min({i} / s, {u}) * s, with s = {n} / {t}", False, False),
            ("min({i} - {i} % s + s, {n}) - 1, with s = {n} / {t} rounded up", True, True),
            ("{i} / s * s + s - 1, and {n} - 1 from {u} * s on, with s = {n} / {t}", False, True),
        )
    ),
)
"""Which block may be taken for all of a group that are summed together, as `ROW_FORMULAS`."""

MULTIPLES = (4, 2, 8, 16, 32, 3, 5, 6, 12)
STEPS = (1, 2, 3, 4)
FIXED = (1, 2, 4, 8, 16, 32, 64)


def _last_panel(i: Array, b: Array, nb: int, t: int) -> Array:
    """Return what a buffer of t blocks has of the row before: its last panel, and of the one two before."""
    start = (nb - 1) // t * t
    return np.asarray((i - 1) * nb + np.where(start + b < nb, start + b, start - 2 * t + b))


_FLAT: tuple[tuple[str, Callable[[Array, Array, int, int, int], Array], tuple[int, ...]], ...] = (
    (
        "{i} * (nb rounded up to a multiple of {t}) + b",
        lambda i, b, _r, nb, t: i * (-(-nb // t) * t) + b,
        MULTIPLES,
    ),
    ("{i} * (nb - nb % {t}) + b", lambda i, b, _r, nb, t: i * (nb - nb % t) + b, MULTIPLES),
    ("{i} * (nb + nb % {t}) + b", lambda i, b, _r, nb, t: i * (nb + nb % t) + b, MULTIPLES),
    ("{i} * (nb - {t}) + b", lambda i, b, _r, nb, t: i * (nb - t) + b, STEPS),
    ("{i} * (nb + {t}) + b", lambda i, b, _r, nb, t: i * (nb + t) + b, STEPS),
    ("{i} * (nb / {t}) + b", lambda i, b, _r, nb, t: i * (nb // t) + b, STEPS[1:]),
    ("{i} * nb + b + {t}", lambda i, b, _r, nb, t: i * nb + b + t, STEPS),
    ("{i} * nb + b - {t}", lambda i, b, _r, nb, t: i * nb + b - t, STEPS),
    ("b * {n} + {i}", lambda i, b, r, _nb, _t: b * r + i, (0,)),
    ("{i} * {t} + b", lambda i, b, _r, _nb, t: i * t + b, FIXED),
    ("({i} * nb + b) / {t}", lambda i, b, _r, nb, t: (i * nb + b) // t, MULTIPLES),
    ("({i} * nb + b) % {t}", lambda i, b, _r, nb, t: (i * nb + b) % t, (*MULTIPLES, 64)),
)
"""Which block of a matrix may be taken for block b of row i, of r rows of nb, with a number t."""

_FLAT_OF_X: tuple[tuple[str, Callable[[Array, Array, int, int, int], Array], tuple[int, ...]], ...] = (
    (
        "({i} - 1) * nb + b + (nb - 1) / {t} * {t}",
        lambda i, b, _r, nb, t: np.where(b < t, _last_panel(i, b, nb, t), i * nb + b),
        (4, 8, 2, 16),
    ),
)
"""The same of x alone, whose rows are quantized one after the other."""


@dataclass(frozen=True)
class FlatFormula(RowFormula):
    """Which block of the matrix, counted from its first one, is taken for block b of row i.

    Attributes
    ----------
    place
        Returns it for rows, blocks, the number of rows, nb and t.
    is_zero
        Whether 0 is read beyond the matrix; else that is not known.
    """

    place: Callable[[Array, Array, int, int, int], Array] = field(kw_only=True)
    is_zero: bool = False


def flat_formulas(side: str) -> Iterator[FlatFormula]:
    """Yield the formulas for a block of a side, those of which nothing is known beyond it first."""
    for is_zero in (False, True):
        for words, of, numbers in (*_FLAT, *(_FLAT_OF_X if side == "x" else ())):
            for t in numbers:
                yield FlatFormula(words, lambda i, _n, _t: i, t, is_zero, place=of)


def row_formula(seen: Sequence[tuple[int, Array, Array]]) -> RowFormula | None:
    """Find the formula for the rows that are taken.

    Parameters
    ----------
    seen
        Of several shapes: the number of rows, rows int [k], and what is taken for each, int [k].
    """
    every = (RowFormula(words, function, t) for words, function, numbers in ROW_FORMULAS for t in numbers)
    return next((one for one in every if all(np.array_equal(one.of(i, n), of) for n, i, of in seen)), None)
