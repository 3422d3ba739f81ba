"""Single terms of products, block by block: what becomes of them, and what of two codes, or scales, is taken.

In a view of a shape all blocks but one of each row of one side have no codes: each output is what the terms
of that block come to. The numbers are small integers and powers of two, so that sums are exact in any order;
a term that is counted otherwise, or has the codes or the scale of another row or block, shows as what that
would give (`Effect`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from q8a8 import layout
from q8a8.quantize import quantize_row
from q8a8.recipe import quantize_blocks
from q8a8_conformance.diagnosis.products.effects import OFFSET, TIMES, Effect, effects
from q8a8_conformance.diagnosis.products.rules import FlatFormula
from q8a8_conformance.inputs import calls, dot_rows
from q8a8_conformance.inputs.arrays import Array
from q8a8_conformance.protocol.session import CallRefused
from q8a8_conformance.results.expected_product import outputs_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from q8a8_conformance.diagnosis.products.rules import Shape
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.reveal.places import Rule
    from q8a8_conformance.reveal.quantizers.calls import AnySession

Side = tuple[Array, Array]
Region = tuple[Array, Array, Array]

HELD = 2.0**22
"""What outputs hold before: more than any sum, and sums with it are exact."""

SHORT = 16
"""Blocks of a row, at most, whose codes and scales are large; else sums would not be exact."""

SCALES = (5, 7, 8, 9, 11, 13)
"""Scales of which none is as often as another as terms may be counted."""

STOPPED = "no more calls are made"

AT_ONCE = 64
"""Effects whose terms are computed together."""

CLEAR = 3
"""Roundings of which a difference that shows is more."""

FEW = 0.03
"""The part of the outputs of a product that may be a multiple of their own by chance."""


def sides_of(matrices: tuple[Array, Array]) -> dict[str, Side]:
    """Return codes and scales of w, blocks [m, nb], and of the quantized x, float32 [n, 32·nb]."""
    w, x = matrices
    blocks = {"w": w, "x": quantize_row(x).reshape(len(x), -1)}
    return {
        name: (side["weight_qs"], side["weight_scale"].astype(np.float64)) for name, side in blocks.items()
    }


def terms_of(w: Side, x: Side) -> Array:
    """Return the products of blocks of codes int [rows, nb, 32] and scales [rows, nb]: float64 [n, m, nb]."""
    sums = np.einsum("nbe,mbe->nmb", x[0].astype(np.float32), w[0].astype(np.float32), optimize=True)
    return np.asarray(sums * (x[1][:, np.newaxis] * w[1]).astype(np.float64))


@dataclass(frozen=True)
class Law:
    """What becomes of which terms.

    Attributes
    ----------
    effect
        What.
    columns, rows, blocks
        Of which: a rule for each side of the tensor of terms.
    """

    effect: Effect
    columns: Rule
    rows: Rule
    blocks: Rule

    def axes(self, shape: Shape) -> Region:
        """Return the rows, columns and blocks of a shape, bool each; none where a length has none."""
        found = self.rows.holds(shape[1]), self.columns.holds(shape[0]), self.blocks.holds(shape[2])
        is_any = all(axis.any() for axis in found)
        return found if is_any else (found[0] & False, found[1] & False, found[2] & False)

    def holds(self, shape: Shape) -> Array:
        """Return of which terms of a shape: bool [n, m, nb]."""
        rows, columns, blocks = self.axes(shape)
        return np.asarray(rows[:, np.newaxis, np.newaxis] & columns[:, np.newaxis] & blocks)


@dataclass
class Terms:
    """The terms of a shape.

    Attributes
    ----------
    shape
        m, n and blocks of a row.
    w, x
        Codes and scales of each side.
    call, outputs
        The whole product's.
    whole
        float64 [n, m]: its outputs.
    views
        By side: what comes where that side has codes in one block alone, float64 [n, m, nb]; empty where the
        whole product is right.
    is_of_scales
        Whether blocks of w without codes count something; in views such blocks have scales of 0.
    """

    shape: Shape
    w: Side
    x: Side
    call: Call
    outputs: tuple[bytes, ...]
    whole: Array
    elements: Array
    slack: float
    views: dict[str, Array] = field(default_factory=dict)
    is_of_scales: bool = False

    @cached_property
    def sizes(self) -> Array:
        """Magnitudes that few terms have."""
        return np.asarray(32 * 40 * 64 * self.x[1][:, np.newaxis] * self.w[1])

    def alike(self, one: Array, other: Array, blocks: slice = slice(None)) -> Array:
        """Return which terms of some blocks, or their sums [n, m], are the same but for roundings."""
        sizes = self.sizes[..., blocks]
        with np.errstate(invalid="ignore"):
            return np.asarray(
                np.abs(one - other) <= self.slack * (sizes.sum(axis=2) if one.ndim < 3 else sizes)
            )

    @cached_property
    def right(self) -> Array:
        """The right terms."""
        return terms_of(self.w, self.x)

    @property
    def is_right(self) -> bool:
        """Whether the whole product is right."""
        return bool(self.alike(self.whole, self.right.sum(axis=2)).all())

    @cached_property
    def wrong(self) -> Array:
        """Which terms are not right in any view: bool [n, m, nb]."""
        found = np.zeros(self.right.shape, bool)
        for view in self.views.values():
            found |= ~self.alike(view, self.right)
        return found

    def given(self, effect: Effect) -> Array:
        """Return the terms by an effect, NaN where that is not known: float64 [n, m, nb]."""
        if effect.kind == "kept":
            return np.full(self.right.shape, HELD)
        if effect.kind == "added":
            return self.right + HELD
        if effect.kind == "times":
            return self.right * effect.times
        if effect.sums is not None or effect.kind == "correction":
            return self._of_sums(effect)
        if effect.kept is not None:
            return terms_of(self.w, effect.kept.codes(self.elements))
        *w, w_known = effect.taken(self.w, "w")
        *x, x_known = effect.taken(self.x, "x")
        known = x_known[:, np.newaxis] & w_known
        return np.where(known, terms_of((w[0], w[1]), (x[0], x[1])), np.nan)

    def _of_sums(self, effect: Effect) -> Array:
        """Return the terms of blocks whose sums are made otherwise, or corrected: float64 [n, m, nb]."""
        own = self.x[1][:, np.newaxis] * self.w[1]
        if effect.sums is not None:
            return np.asarray(effect.sums.of(self.w[0], self.x[0]) * own)
        others = effect.others(self.x[1])[:, np.newaxis] * effect.others(self.w[1])
        offset = OFFSET * self.w[0].sum(axis=2, dtype=np.int64)
        return np.asarray(self.right + offset * (own - others))

    def _of_sums_at(self, effect: Effect, at: Array) -> Array:
        """Return the same of some terms, int [3, t]: float64 [t]."""
        i, j, b = at
        w, own = self.w[0][j, b], self.x[1][i, b] * self.w[1][j, b]
        if effect.sums is not None:
            x = self.x[0][i, b].astype(np.float64)
            return np.asarray(np.diagonal(effect.sums.function(w.astype(np.float64), x)) * own)
        others = effect.others(self.x[1])[i, b] * effect.others(self.w[1])[j, b]
        return np.asarray(self.right[i, j, b] + OFFSET * w.sum(axis=1, dtype=np.int64) * (own - others))

    def is_given(self, effect: Effect) -> Array:
        """Return which terms are what an effect gives: bool [n, m, nb]."""
        given = self.given(effect)
        seen = np.full(given.shape, bool(self.views))
        for view in self._of(effect):
            seen &= self.alike(view, given)
        return seen

    def count(self, some: Iterable[Effect], at: Array) -> Iterator[tuple[Effect, int]]:
        """Yield of how many terms, of those at int [3, t], each of some effects gives what is seen."""
        i, j, b = at
        slack, right = self.slack * self.sizes[i, j, b], self.right[i, j, b]
        groups: dict[tuple[str, ...], list[Effect]] = {}
        for effect in some:
            groups.setdefault((effect.kind, effect.side, effect.part, effect.axis), []).append(effect)
        for group in groups.values():
            views = [view[i, j, b] for view in self._of(group[0])]
            for first in range(0, len(group), AT_ONCE):
                part = group[first : first + AT_ONCE]
                given = self._given_of(part, at)
                with np.errstate(invalid="ignore"):
                    found = np.abs(given - right) > slack
                    for view in views:
                        found &= np.abs(view - given) <= slack
                yield from zip(part, found.sum(axis=1).tolist(), strict=True)

    def _given_of(self, some: Sequence[Effect], at: Array) -> Array:
        """Return the terms that effects of a kind give, NaN where not known: float64 [effects, t]."""
        i, j, b = at
        if some[0].sums is not None or some[0].kind == "correction":
            return np.array([self._of_sums_at(effect, at) for effect in some])
        if some[0].kind != "source":
            return np.array([self.given(effect)[i, j, b] for effect in some])
        (w, of_w, w_known), (x, of_x, x_known) = (
            _taken_at(some, name, side, np.array((row, b)))
            for name, side, row in (("w", self.w, j), ("x", self.x, i))
        )
        sums = np.einsum("etk,etk->et", w, x)
        return np.where(w_known & x_known, sums * of_w * of_x, np.nan)

    def _of(self, effect: Effect) -> Iterator[Array]:
        """Yield the views in which an effect shows."""
        is_moved = effect.kind == "source" and effect.axis != "row"
        if effect.side == "wx" or effect.kind == "correction":
            # (Blocks of x that are 0 have no scales.)
            yield from (self.views[side] for side in "w" if side in self.views)
            return
        for side, view in self.views.items():
            # (Another block shows beside one block of the other side alone; blocks of x have no other scale.)
            if not is_moved or side != effect.side or (side == "w" and effect.part == "scale"):
                yield view

    def looks(self, effect: Effect) -> tuple[Array, Array]:
        """Return where an effect is seen, and where it would be: bool [n, m, nb] each."""
        given = self.given(effect)
        # (Where both are alike nothing is seen.)
        shows = (np.abs(given - self.right) > CLEAR * self.slack * self.sizes) & ~np.isnan(given)
        if effect.kind == "source":
            # (What is a multiple by chance tells nothing.)
            shows &= ~np.logical_or.reduce([given == self.right * times for times in TIMES])
        return (self.is_given(effect) & shows) if self.views else np.zeros(shows.shape, bool), shows


def _taken_at(some: Sequence[Effect], name: str, side: Side, at: Array) -> tuple[Array, Array, Array]:
    """Return codes and scales that effects take of a side for some of its blocks, and whether it is known.

    Of blocks int [2, t]: float64 [effects, t, 32], float64 [effects, t] and bool [effects, t]; with
    one row for all effects where none of them takes anything else.
    """
    codes, scales = side[0].reshape(-1, side[0].shape[2]), side[1].reshape(-1)
    own = at[0] * side[1].shape[1] + at[1]
    if name not in some[0].side:
        return codes[own][np.newaxis].astype(np.float64), scales[own][np.newaxis], np.ones((1, 1), bool)
    places, inside = (
        np.array(each) for each in zip(*(one.places(side[1].shape, at) for one in some), strict=True)
    )
    of_codes, of_scale = some[0].parts
    taken = codes[places if of_codes else own[np.newaxis]].astype(np.float64)
    of = scales[places if of_scale else own[np.newaxis]]
    is_zero = np.array([[isinstance(one.formula, FlatFormula) and one.formula.is_zero] for one in some])
    return taken, np.where(is_zero & ~inside, 0.0, of), inside | is_zero


class Measuring:
    """Measures terms shape by shape; the next time they are known.

    Parameters
    ----------
    session
        With the kernel.
    most
        Calls at most.

    Attributes
    ----------
    known
        What was measured.
    tried
        Effects of which rules are looked for, at most.
    expected
        Effects of which many terms may have one: they are measured together.
    least
        Blocks of the shortest rows that rules are looked for in.
    """

    slack = 0.0
    sides = "wx"
    tried = 6
    least = 1

    def effects(self) -> list[Effect]:
        """Return what may become of terms."""
        return list(effects())

    def operands(self, shape: Shape) -> tuple[Side, Array]:
        """Return codes and scales of w, and the elements of x, float32 [n, 32·nb], of a shape."""
        m, n, nb = shape
        codes, scales = _side(n, nb, "x")
        elements = (codes * scales[..., np.newaxis]).astype(np.float32)
        return _side(m, nb, "w"), elements.reshape(n, -1)

    def __init__(self, session: AnySession, most: int) -> None:
        self._session, self._left = session, most
        self.known: dict[Shape, Terms] = {}
        self.expected: tuple[Effect, ...] = ()

    def __call__(self, shape: Shape) -> Terms:
        """Measure a shape."""
        if shape not in self.known:
            self.known[shape] = self._measure(shape)
        return self.known[shape]

    def _measure(self, shape: Shape) -> Terms:
        m, n, nb = shape
        w, elements = self.operands(shape)
        scales, codes = quantize_blocks(elements.reshape(n, nb, 32))
        made = self._multiply(w, elements)
        terms = Terms(shape, w, (codes, scales.astype(np.float64)), *made, elements, self.slack)
        if terms.is_right:
            return terms
        empty = self._multiply((0 * w[0], w[1]), elements)[2]
        terms.is_of_scales = bool(((empty != 0) & (empty != HELD)).any())
        for side in self.sides:
            terms.views[side] = np.empty((n, m, nb))
            self._view(terms, side, 0, nb)
        return terms

    def _view(self, terms: Terms, side: str, first: int, end: int) -> None:
        """Measure the terms of some blocks; together where they are what the whole product's outputs are."""
        (codes, scales), elements = terms.w, terms.elements
        b, some = np.arange(terms.shape[2]), slice(first, end)
        only = ((first <= b) & (b < end))[:, np.newaxis]
        if side == "w":
            codes = np.where(only, codes, 0).astype(np.int8)
            scales = np.where(only[:, 0], scales, 0.0) if terms.is_of_scales else scales
        else:
            elements = np.where(np.repeat(only[:, 0], 32), elements, np.float32(0))
        outputs, view = self._multiply((codes, scales), elements)[2], terms.views[side][..., some]
        if end - first == 1:
            view[..., 0] = outputs
            return
        right = terms.right[..., some]
        every = terms.right.sum(axis=2)
        left = np.ones(outputs.shape, bool)
        expected = [terms.given(effect)[..., some] for effect in self.expected]
        sure = (right, 0 * right, *expected)
        # (What may be either is looked at block by block.)
        either = np.zeros(outputs.shape, bool)
        for given in () if self.slack else expected:
            either |= (given.sum(axis=2) == right.sum(axis=2)) & (given != right).any(axis=2)
        is_sure = not self.slack or self._is_told(terms, outputs, (right, *expected), some)
        for number, given in enumerate((*sure, *(right * times for times in TIMES[1:]))):
            here = left & ~either & terms.alike(outputs, given.sum(axis=2), some)
            # (Few may be multiples by chance, and one may be 0.)
            is_known = is_sure and number < len(sure) and not (number == 1 and here.sum() == 1 < here.size)
            is_multiple = here.sum() > 1 and here.mean() > FEW and (here.all() or not self.slack)
            if is_known or is_multiple:
                view[here] = given[here]
                left &= ~here
        for given, whole in ((0 * right, 0 * every), (right, every)):
            here = left & (outputs == given.sum(axis=2) + HELD) & (terms.whole == whole + HELD)
            view[here] = given[here] + HELD
            left &= ~here
        if left.any():
            middle = (first + end) // 2
            self._view(terms, side, first, middle)
            self._view(terms, side, middle, end)

    def _is_told(self, terms: Terms, outputs: Array, given: Sequence[Array], blocks: slice) -> bool:
        """Return whether some terms give all outputs, and no two of them that differ give one."""
        hits = [terms.alike(outputs, of.sum(axis=2), blocks) for of in given]
        both = [hits[0] & hit & (of != given[0]).any(axis=2) for hit, of in zip(hits, given, strict=True)]
        return bool(np.any(hits, axis=0).all() and not np.any(both))

    def _multiply(self, w: Side, elements: Array) -> tuple[Call, tuple[bytes, ...], Array]:
        """Return a product's call and outputs, as they are and as float64 [n, m]."""
        self._left -= 1
        if self._left < 0:
            raise CallRefused(STOPPED)
        blocks = layout.pack(w[1].astype(np.float16), w[0])
        call = calls.mul_mat(blocks, elements, out=calls.float_bytes(HELD) * (len(w[0]) * len(elements)))
        outputs = tuple(bytes(out) for out in self._session.call(call).outputs)
        return call, outputs, outputs_of(call, outputs[0]).astype(np.float64)


def _side(rows: int, nb: int, side: str) -> Side:
    """Return codes, int8 [rows, nb, 32], and scales, float64 [rows, nb]; of x one code of a block is 127."""
    rng = dot_rows.generator("terms", rows, nb, side)
    most = 40 if nb <= SHORT else 15
    codes = rng.integers(1, most + 1, (rows, nb, 32)) * rng.choice([-1, 1], (rows, nb, 32))
    if side == "x":
        np.put_along_axis(codes, rng.integers(0, 32, (rows, nb, 1)), 127, axis=2)
    return codes.astype(np.int8), rng.choice(SCALES, (rows, nb)).astype(np.float64)
