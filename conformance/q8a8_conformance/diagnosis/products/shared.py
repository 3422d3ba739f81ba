"""Rows of a product that do not keep apart: sums that go on in the next output, and an amax of several rows.

`measuring` finds how many blocks an output counts, and with which weights of the rows; and the amax
of which rows decide the codes of a row. A formula for the other rows must give all that was seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from q8a8 import layout
from q8a8.errors import Q8A8Error
from q8a8.recipe import quantize_blocks
from q8a8_conformance.diagnosis.facts import Fact, remembered
from q8a8_conformance.diagnosis.products.judged import (
    Given,
    accounts_for_all,
    agreeing,
    quantized,
    shown,
    wrong_outputs,
)
from q8a8_conformance.diagnosis.products.laws import shapes_of
from q8a8_conformance.diagnosis.products.measuring import FEW, Measuring
from q8a8_conformance.diagnosis.products.rules import block_rule, output_rule
from q8a8_conformance.diagnosis.products.sources import sums, weights
from q8a8_conformance.diagnosis.products.words import FORMULAS
from q8a8_conformance.inputs import calls
from q8a8_conformance.results.expected_product import matrices_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from q8a8_conformance.diagnosis.products.rules import OutputRule, Shape
    from q8a8_conformance.diagnosis.products.sources import Sources
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.results.observations import Failure
    from q8a8_conformance.reveal.places import Rule
    from q8a8_conformance.reveal.quantizers.calls import AnySession

COLUMNS, SHAPES = 8, 6
"""Rows of w of the shapes in which it is seen whose amax decides, and shapes of failed calls, at most."""

LARGEST = 2048
"""Rows of the shapes in which other rows are looked for: which there are is a matrix of rows by rows."""

MOST = 512
"""Rows of a failed call whose outputs are predicted: each of them may depend on all others."""

GROUPS = (2, 4, 8, 16, 32, 3, 5, 6)

_OTHERS: tuple[tuple[str, Callable[[Array, Array, int], Array], tuple[int, ...]], ...] = (
    ("row {i} - 1", lambda i, r, _t: r == i - 1, (0,)),
    ("row {i} + 1", lambda i, r, _t: r == i + 1, (0,)),
    ("rows 0 to {i} - 1", lambda i, r, _t: r < i, (0,)),
    ("all rows after row {i}", lambda i, r, _t: r > i, (0,)),
    (
        "rows {i} - {i} % {t} to {i} - 1",
        lambda i, r, t: (r < i) & (r // t == i // t),
        GROUPS,
    ),
    ("row {i} - {t}", lambda i, r, t: r == i - t, GROUPS),
    ("rows {i} - {t}, {i} - 2 * {t}, .. {i} % {t}", lambda i, r, t: (r < i) & (r % t == i % t), GROUPS),
    ("row 0", lambda i, r, _t: (r == 0) & (i > 0), (0,)),
    ("all other rows", lambda i, r, _t: r != i, (0,)),
    ("the other rows of its {t}", lambda i, r, t: (r != i) & (r // t == i // t), GROUPS),
)
"""Rows r that may be added to row i, with a number t."""


@dataclass(frozen=True)
class Mixed:
    """Outputs that contain products of other rows, too.

    Attributes
    ----------
    side
        The side of which the rows are: "x" or "w".
    words
        Which rows, in words.
    others, t
        Which rows are added: a function of `_OTHERS`, and its number.
    """

    side: str
    words: str
    others: Callable[[Array, Array, int], Array]
    t: int

    def of(self, shape: Shape, first: int | None = None) -> Array:
        """Return which rows are added to the first rows, or to all: bool [first, rows]."""
        rows = shape[1] if self.side == "x" else shape[0]
        i, r = np.arange(rows if first is None else first)[:, np.newaxis], np.arange(rows)
        return np.asarray(self.others(i, r, self.t) & np.ones((len(i), rows), bool))

    def shows(self, shape: Shape) -> Array:
        """Return the outputs to which any row is added: bool [n, m]."""
        added = np.asarray(self.of(shape).any(axis=1))
        return np.broadcast_to(added[:, np.newaxis] if self.side == "x" else added, (shape[1], shape[0]))

    def blocks(self, sources: Sources) -> int | None:
        """Return how many blocks of the other rows are counted, the same in all outputs; None for no such."""
        others, nb, mixed = self.of(sources.shape), sources.shape[2], sources.mixed
        plain = sources.totals == nb
        count = np.broadcast_to(
            others.sum(axis=1)[:, np.newaxis] if self.side == "x" else others.sum(axis=1), mixed.shape
        )
        if not mixed.any() or (count[mixed] == 0).any() or not (mixed | plain).all():
            return None
        times = np.unique((sources.totals - nb)[mixed] / count[mixed])
        if len(times) != 1 or times[0] != int(times[0]) or not 0 < times[0] <= nb:
            return None
        x, w = weights(sources.shape[1])[:, np.newaxis], weights(sources.shape[0])
        if self.side == "x":
            of_x, of_w = nb * x + times * (others @ x), sources.totals * w
        else:
            of_x, of_w = sources.totals * x, nb * w + times * (others @ w)
        same = (sources.weighted["x"] == of_x) & (sources.weighted["w"] == of_w)
        return int(times[0]) if same[mixed].all() else None

    def accounts(self, outputs: OutputRule, blocks: Rule, failure: Failure) -> Array:
        """Return which wrong outputs of a failed call, of its first `MOST` rows, contain these products."""
        if (operands := quantized(failure)) is None:
            return wrong_outputs(failure) & False
        w, xq = operands
        shape = (len(w), len(xq), w.shape[1])
        total, magnitude = sums(w, xq)
        some, rows = blocks.holds(shape[2]), len(xq) if self.side == "x" else len(w)
        known, others = slice(min(rows, MOST)), self.of(shape, min(rows, MOST)).astype(np.float64)
        parts = sums(np.ascontiguousarray(w[:, some]), np.ascontiguousarray(xq[:, some]))
        free = np.ones(total.shape, bool)
        for whole, part in zip((total, magnitude), parts, strict=True):
            more = np.zeros(total.shape)
            if self.side == "x":
                more[known], free[known] = others @ part, False
            else:
                more[:, known], free[:, known] = part @ others.T, False
            np.add(whole, more, out=whole, where=outputs.holds(shape))
        return agreeing(failure, Given(total, magnitude, free=free))


def mixed_rows(
    measured: Sequence[Sources], measure: Measuring
) -> tuple[Mixed, OutputRule, Rule, Callable[[Failure], Array]] | None:
    """Return which other rows outputs contain, where, in which blocks, and what accounts for outputs."""
    measured = [one for one in measured if max(one.shape[:2]) <= LARGEST]
    seen = [one for one in measured if one.mixed.any()]
    if not seen:
        return None
    for side in "xw":
        for words, of, numbers in _OTHERS:
            for t in numbers:
                text = words.format(i="i" if side == "x" else "j", t=t)
                found = Mixed(side, text, of, t)
                if all(found.blocks(one) for one in seen) and (
                    rules := _where(found, seen, measured, measure)
                ):
                    return found, *rules, partial(found.accounts, *rules)
    return None


def _where(
    mixed: Mixed, seen: Sequence[Sources], measured: Sequence[Sources], measure: Measuring
) -> tuple[OutputRule, Rule] | None:
    """Return the rules for the outputs and the blocks that are mixed, if they hold."""
    first = seen[-1].shape if seen[-1].kept.size < seen[0].kept.size else seen[0].shape

    def look_at_blocks(nb: int) -> Array:
        sources = measure((*first[:2], nb))
        return _blocks(mixed.blocks(sources) or 0, sources, measure)

    blocks = block_rule(first[2], look_at_blocks)
    if blocks is None:
        return None

    def look(shape: Shape) -> Array:
        return measure(shape).mixed

    def shows(shape: Shape) -> Array:
        return mixed.shows(shape) & bool(blocks.holds(shape[2]).any())

    # (Of many rows each pair is looked at.)
    known = [one.shape for one in measured if one.shape[2] and max(one.shape[:2]) <= MOST]
    outputs = output_rule(first, known, look, shows)
    every = [measure(shape) for shape in measure.shapes() if max(shape[:2]) <= LARGEST]
    if outputs is None or not all(mixed.blocks(one) for one in every if one.mixed.any()):
        return None
    return outputs, blocks


def _blocks(count: int, sources: Sources, measure: Measuring) -> Array:
    """Return which blocks of a row are mixed, of so many: the last ones, or the first; bool [nb]."""
    nb = sources.shape[2]
    last, ones = np.arange(nb) >= nb - count, np.ones(nb)
    if not 0 < count < nb:
        return last
    outputs = measure.multiply(sources, ones, last)[sources.mixed]
    is_last = (outputs == (sources.totals - nb + count)[sources.mixed]).all()
    return last if is_last else np.arange(nb) < count


_AMAX: tuple[tuple[str, Callable[[Array, Array, int, int], Array], tuple[int, ...]], ...] = (
    ("All rows of x share the largest amax of each block", lambda i, r, _n, _t: (r >= 0) & (i >= 0), (0,)),
    (
        "Row i of x is quantized under the amax of row i - 1, block by block",
        lambda i, r, _n, _t: r == np.maximum(i - 1, 0),
        (0,),
    ),
    (
        "Row i of x is quantized under the amax of row 0, block by block",
        lambda i, r, _n, _t: (r == 0) & (i >= 0),
        (0,),
    ),
    (
        "Row i of x is quantized under the largest amax of rows 0 to i, block by block",
        lambda i, r, _n, _t: r <= i,
        (0,),
    ),
    (
        "Row i of x is quantized under the largest amax of rows i to n - 1, block by block",
        lambda i, r, _n, _t: r >= i,
        (0,),
    ),
    (
        "Row i of x is quantized under the larger amax of rows i - 1 and i, block by block",
        lambda i, r, _n, _t: (r == i) | (r == i - 1),
        (0,),
    ),
    (
        "Every {t} rows of x, from a multiple of {t} on, share the largest amax of each block",
        lambda i, r, _n, t: i // t == r // t,
        GROUPS,
    ),
    (
        "Every whole group of {t} rows of x shares the largest amax of each block",
        lambda i, r, n, t: np.where(i < n - n % t, i // t == r // t, i == r),
        GROUPS,
    ),
    (
        "Row i of x is quantized under the amax of row i - i % {t}, block by block",
        lambda i, r, _n, t: r == i - i % t,
        GROUPS,
    ),
    (
        "Row i of x is quantized under the largest amax of rows i - i % {t} to i, block by block",
        lambda i, r, _n, t: (i // t == r // t) & (r <= i),
        GROUPS,
    ),
)
"""Whose amax, of rows r of n, may decide the codes of row i, with a number t; the sentence."""


@dataclass(frozen=True)
class SharedAmax:
    """Rows of x that are quantized under the amax of others.

    Attributes
    ----------
    words
        Which rows, as a sentence.
    of, t
        Whose amax decides: a function of `_AMAX`, and its number.
    """

    words: str
    of: Callable[[Array, Array, int, int], Array]
    t: int

    def rows(self, n: int, first: int | None = None) -> Array:
        """Return whose amax decides the codes of the first of n rows, or of all: bool [first, n]."""
        i, r = np.arange(n if first is None else first)[:, np.newaxis], np.arange(n)
        return np.asarray(self.of(i, r, n, self.t) & np.ones((len(i), n), bool))

    def shows(self, shape: Shape) -> Array:
        """Return the outputs of rows whose codes another row's amax decides: bool [n, m]."""
        n = shape[1]
        other = (self.rows(n) != np.eye(n, dtype=bool)).any(axis=1) & (n <= FEW)
        return np.broadcast_to(other[:, np.newaxis], (n, shape[0]))

    def accounts(self, rule: OutputRule, failure: Failure) -> Array:
        """Return which wrong outputs of a failed call, of its first `MOST` rows, are of rows quantized so."""
        w, x = matrices_of(failure.call)
        n, nb = len(x), w.shape[1]
        nothing = wrong_outputs(failure) & False
        blocks = np.abs(x.reshape(n, nb, 32))
        if not np.isfinite(blocks).all() or not rule.holds((len(w), n, nb)).any():
            return nothing
        own = blocks.max(axis=2)
        amax = own.copy()
        amax[:MOST] = [own[each].max(axis=0) for each in self.rows(n, min(n, MOST))]
        shaped = np.concatenate([x.reshape(n, nb, 32), amax[..., np.newaxis]], axis=2)
        # (Under an amax that is smaller than their own, elements are what the conversion makes of them.)
        free = (own > amax).any(axis=1)
        free[MOST:] = True
        shaped[free] = 0
        try:
            scales, codes = quantize_blocks(np.ascontiguousarray(shaped, np.float32))
        except Q8A8Error:
            return nothing
        total, magnitude = sums(w, layout.pack(scales, np.ascontiguousarray(codes[..., :32])))
        everything = np.broadcast_to(free[:, np.newaxis], total.shape)
        return agreeing(failure, Given(total, magnitude, free=everything))


class _Amaxes:
    """Whose amax decides the codes of rows of x, shape by shape.

    Parameters
    ----------
    session
        With the kernel.
    """

    def __init__(self, session: AnySession) -> None:
        self._measure = Measuring(session)
        self.known: dict[Shape, Sources] = {}

    def __call__(self, shape: Shape) -> tuple[Array, Array]:
        """Return whose amax decides, bool [n, n], and of which rows that is known, bool [n, 1]."""
        if shape not in self.known:
            self.known[shape] = self._measure.amax(shape)
        found = np.asarray(self.known[shape].amax)
        return found, np.asarray(found.any(axis=1, keepdims=True))

    def look(self, shape: Shape) -> Array:
        """Return the outputs of rows whose codes another row's amax decides: bool [n, m]."""
        if not self.sees(shape):
            return np.zeros((shape[1], shape[0]), bool)
        found, is_known = self(shape)
        other = (found != np.eye(shape[1], dtype=bool)).any(axis=1, keepdims=True)
        return np.broadcast_to(other & is_known, (shape[1], shape[0]))

    def shows(self, shared: SharedAmax, shape: Shape) -> Array:
        """Return the same by a formula, of those of which it is known."""
        return np.asarray(shared.shows(shape) & (self(shape)[1] if self.sees(shape) else False))

    def are(self, shared: SharedAmax, shape: Shape) -> bool:
        """Return whether a formula gives what is known."""
        found, is_known = self(shape)
        return bool((shared.rows(shape[1]) == found)[is_known[:, 0]].all())

    @staticmethod
    def sees(shape: Shape) -> bool:
        """Return whether a shape is looked at."""
        return 1 < shape[1] <= FEW and shape[2] > 0


def amax_facts(session: AnySession, failures: Sequence[Failure]) -> list[Fact]:
    """Find that rows of x are quantized under the amax of others, if that is not always their own."""
    amaxes = _Amaxes(session)
    shapes = [(COLUMNS, n, 1) for n in range(2, FEW + 1)]
    shapes += [shape for shape in shapes_of(failures) if amaxes.sees(shape)][:SHAPES]
    wrong = [shape for shape in shapes if amaxes.look(shape).any()]
    for words, of, numbers in _AMAX if wrong else ():
        for t in numbers:
            shared = SharedAmax(words.format(t=t), of, t)
            if all(amaxes.are(shared, shape) for shape in wrong):
                rule = output_rule(wrong[0], shapes, amaxes.look, partial(amaxes.shows, shared))
                if rule is not None and rule.text.startswith("All outputs"):
                    return [_amax_fact(shared, rule, amaxes.known[wrong[0]])]
    return []


def _amax_fact(shared: SharedAmax, rule: OutputRule, first: Sources) -> Fact:
    broken, fix = FORMULAS["amax-of-other-rows"]
    accounts = partial(shared.accounts, rule)
    sentence = f"{shared.words}{rule.text.removeprefix('All outputs')}."
    where = {"rows": shared.words, "outputs": rule.to_json()}
    return Fact(
        *("amax-of-other-rows", where, broken, sentence, fix, ""),
        function=calls.MUL_MAT,
        evidence=shown(first.made),
        explains=remembered(partial(accounts_for_all, accounts)),
        outputs=accounts,
    )
