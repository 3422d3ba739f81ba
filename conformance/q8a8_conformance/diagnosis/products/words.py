"""What is said of the outputs of wrong matrix products: of the first wrong shape, or of all shapes.

A rule for all shapes is looked for in shapes around the first wrong one (`rules`).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.diagnosis.products.rules import (
    EVERYWHERE,
    LARGEST,
    block_rule,
    output_rule,
    row_formula,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from q8a8_conformance.diagnosis.products.measuring import Measuring
    from q8a8_conformance.diagnosis.products.rules import RowFormula, Shape
    from q8a8_conformance.diagnosis.products.sources import Sources
    from q8a8_conformance.inputs.arrays import Array

KINDS = {
    "outputs-not-written": ("Q8A8-MUL-6", "matrix-columns-lost"),
    "outputs-added": ("Q8A8-MUL-7", "matrix-added"),
    "outputs-of-other-rows": ("Q8A8-MUL-6", "matrix-transposed"),
    "scales-of-other-rows": ("Q8A8-MUL-6", "matrix-scales-of-first-row"),
    "weight-scales-of-other-rows": ("Q8A8-MUL-5", "matrix-scales-of-first-row"),
    "blocks-miscounted": ("Q8A8-MUL-5", "matrix-k-tail-lost"),
    "outputs-miscounted": ("Q8A8-MUL-6", "matrix-neighbour"),
    "activations-in-part": ("Q8A8-MUL-4", "matrix-float-activations"),
    "sums-of-codes": ("Q8A8-MUL-5", "matrix-k-tail-lost"),
    "correction-wrong": ("Q8A8-MUL-5", "matrix-k-tail-lost"),
    "terms-of-others": ("Q8A8-MUL-5", "matrix-k-tail-lost"),
    "rows-begin-elsewhere": ("Q8A8-MUL-6", "matrix-k-tail-lost"),
    "block-meets-another": ("Q8A8-MUL-5", "matrix-k-in-sixteen-bits"),
    "empty-not-written": ("Q8A8-MUL-7", "matrix-empty-unwritten"),
}
"""The rule that each kind of fact breaks, and a mistake of the catalogue with the same fix."""

FORMULAS = {
    "sums-of-other-rows": ("Q8A8-MUL-6", "Set the sums to 0 before each output."),
    "amax-of-other-rows": ("Q8A8-MUL-4", "Quantize each row of x under the amax of its own blocks."),
}
"""The rule that a kind of fact with a formula breaks, and its fix."""

LETTERS = {"w": ("j", "m"), "x": ("i", "n")}
"""What a row's number, and the number of rows, are called on each side."""

SIZES = (2, 3, 5, 6, 7, 9, 11, 13, 15, 18, 23, 31, 36, 47, 66)
"""Rows of w or x of the shapes from which a formula for the row that is taken is found."""

TRIED = 40
"""Shapes, at most, of which one is taken in which not all outputs are wrong."""

COUNTED = {0: "not counted", 2: "counted twice", -1: "subtracted", 0.5: "counted half"}
WHOLE = {0: "+0", 2: "doubled", 3: "tripled", -1: "negated", 0.5: "halved"}
"""What blocks, or outputs as a whole, are that are counted so often."""

EMPTY = ((1, 1, 0), (2, 3, 0), (17, 1, 0), (5, 18, 0), (33, 40, 0))
"""Shapes of products of rows of no blocks."""

RULED = (
    "blocks-miscounted",
    "empty-not-written",
    "outputs-not-written",
    "outputs-added",
    "outputs-of-other-rows",
    "scales-of-other-rows",
    "weight-scales-of-other-rows",
)
"""Kinds of which a rule is looked for that holds in all shapes."""


def counted_words(times: float, *, plural: bool = False) -> str:
    """Return how often blocks are counted, as a clause without its subject."""
    return f"{'are' if plural else 'is'} {COUNTED.get(times) or f'counted {times:g} times'}"


def ruled(kind: str, held: Sequence[Sources], measure: Measuring) -> tuple[str, dict[str, Any]] | None:
    """Return a sentence about products of any shape, and the rule in it, if there is one that holds."""

    def look(shape: Shape) -> Array:
        return dict(measure(shape).kinds()).get(kind, np.zeros((shape[1], shape[0]), bool))

    if kind == "blocks-miscounted":
        return _miscounted(held, measure)
    if kind == "empty-not-written":
        is_all = all(measure(shape).kept.all() for shape in EMPTY)
        return ("Where k = 0, outputs are not written.", {"outputs": {"k": 0}}) if is_all else None
    # (The shapes of failed calls may be few of one kind.)
    m, n, nb = held[0].shape
    shapes = (shape for size in SIZES for shape in ((size, n, nb), (m, size, nb)))
    around = [measure(shape) for shape in shapes if math.prod(shape) <= LARGEST]
    side, formula = _formula(kind, [*held, *around])

    def shows(shape: Shape) -> Array:
        (m, n, _), every = shape, np.ones((shape[1], shape[0]), bool)
        if kind.endswith("of-other-rows"):
            every = ~measure(shape).kept
        if formula is None:
            return every
        count, own = (m, np.arange(m)) if side == "w" else (n, np.arange(n)[:, np.newaxis])
        return np.asarray(every & (formula.of(own, count) != own))

    rule = output_rule(held[0].shape, measure.shapes(), look, shows)
    if rule is None:
        return None
    text = formula.text(*LETTERS[side]) if formula else ""
    taken = f"row {text}" if text else "another row"
    what = {
        "outputs-not-written": "are not written",
        "outputs-added": "are added to what was there",
        "outputs-of-other-rows": f"are those of {taken} of {side}",
        "scales-of-other-rows": f"have the scale of {taken} of {side}",
        "weight-scales-of-other-rows": f"have the scales of {taken} of {side}",
    }[kind]
    return f"{rule.text} {what}.", {"outputs": rule.to_json(), **({"row": text} if text else {})}


def _miscounted(held: Sequence[Sources], measure: Measuring) -> tuple[str, dict[str, Any]] | None:
    """Return the same of blocks that are not counted once."""
    times = {of for sources in held for of in sources.counts.values() if of != 1}
    first = max(held[:TRIED], key=lambda one: (~one.counted).any())
    m, n, nb = first.shape

    def look(blocks: int) -> Array:
        return np.asarray(measure((m, n, blocks)).every_count() != 1)

    def outputs(shape: Shape) -> Array:
        return measure(shape).counted

    rule = block_rule(nb, look) if len(times) == 1 else None
    if rule is None:
        return None

    def shows(shape: Shape) -> Array:
        return np.full((shape[1], shape[0]), bool(rule.holds(shape[2]).any()))

    where = output_rule(first.shape, measure.shapes(), outputs, shows)
    if where is None:
        return None
    where = replace(where, blocks=EVERYWHERE)
    count = times.pop()
    if rule.position.kind == "any":
        text = replace(where, blocks=rule).text
        return f"{text} are {WHOLE.get(count) or f'counted {count:g} times'}.", {"outputs": where.to_json()}
    text, how = rule.text("block", "nb"), counted_words(count, plural=rule.is_plural)
    if where.text == "All outputs":
        return f"{text[0].upper()}{text[1:]} {how}.", {"blocks": rule.to_json()}
    outputs_text = f"{where.text[0].lower()}{where.text[1:]}"
    return f"In {outputs_text} {text} {how}.", {"blocks": rule.to_json(), "outputs": where.to_json()}


def _formula(kind: str, held: Sequence[Sources]) -> tuple[str, RowFormula | None]:
    """Return the side whose rows are others, and the formula for the row that is taken, where one fits."""
    for side in LETTERS:
        seen = []
        for sources in held:
            n, m = sources.kept.shape
            i, j = np.indices((n, m))
            own, taken = (j, sources.columns) if side == "w" else (i, sources.rows)
            if kind == "scales-of-other-rows":
                own, taken = sources.rows, sources.scales if side == "x" else sources.rows
            elif kind == "weight-scales-of-other-rows":
                own, taken = sources.columns, sources.weight_scales if side == "w" else sources.columns
            some = (own != taken) & ~sources.kept
            seen.append((m if side == "w" else n, own[some], taken[some]))
        if any(i.size for _, i, _ in seen):
            return side, row_formula(seen)
    return "x", None


def wrap(sources: Sources) -> tuple[str, int]:
    """Return the side, w or x, whose rows come again after so many; 0 where none do."""
    n, m = sources.kept.shape
    for side, of, own in (
        ("w", sources.columns, np.arange(m)),
        ("x", sources.rows, np.arange(n)[:, np.newaxis]),
    ):
        wrong = np.argwhere(of != own)
        if len(wrong):
            period = int(own.reshape(-1)[wrong[0, 0 if side == "x" else 1]])
            return side, period if period > 1 and (of == own % period).all() else 0
    return "", 0


def words(kind: str, sources: Sources, wrong: Array) -> str:
    """Describe what the first wrong output, or block, is."""
    i, j = np.argwhere(wrong)[0].tolist()
    output = f"{wrong.sum()} of {wrong.size} outputs, out[{i} * m + {j}] first,"
    if kind == "block-meets-another":
        side, period = next(of for of in zip("wx", sources.periods, strict=True) if of[1])
        return f"the blocks of {side} are those whose number is their own modulo {period}"
    if kind == "blocks-miscounted":
        others = [(b, times) for b, times in sources.counts.items() if times != 1]
        b, times = others[0]
        more = f", and so are others of {len(others)}" if len(others) > 1 else ""
        return f"block {b} {counted_words(times)}{more}"
    side, period = wrap(sources) if kind == "outputs-of-other-rows" else ("", 0)
    if period:
        return f"the rows of {side} are those whose number is their own modulo {period}"
    return {
        "outputs-not-written": f"{output} are not written",
        "empty-not-written": f"{output} are not written",
        "outputs-added": f"{output} are added to what was there",
        "outputs-of-other-rows": (
            f"{output} are of other rows: {sources.rows[i, j]} of x and {sources.columns[i, j]} of w"
        ),
        "scales-of-other-rows": f"{output} have the scale of another row of x: of row {sources.scales[i, j]}",
        "weight-scales-of-other-rows": (
            f"{output} have the scales of another row of w: of row {sources.weight_scales[i, j]}"
        ),
    }[kind]
