"""Where the outputs of a matrix product come from: rows, scales, blocks, and what was there before.

Rows are numbered: of the products that are multiplied here every output shows a digit of the number of its
row of x, of its row of w, or the scale of its row of x. One block at a time counts, in rows that are all
alike. All of this is exact, whatever the recipe and the order. What is measured at the shapes of failed calls
predicts the outputs of these calls; a fact is attached to those that it predicts.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from q8a8.errors import Q8A8Error
from q8a8.matmul import mul_mat
from q8a8.quantize import quantize_row
from q8a8_conformance.diagnosis.facts import Evidence, Fact
from q8a8_conformance.diagnosis.product_numbers import read_numbers, wraps
from q8a8_conformance.diagnosis.product_rules import block_rule, output_rule, placement, row_formula
from q8a8_conformance.diagnosis.replay import replay
from q8a8_conformance.faults.catalogue import MUTANTS, make
from q8a8_conformance.inputs import calls, dot_rows
from q8a8_conformance.results.expected_product import matrices_of, outputs_of
from q8a8_conformance.results.observations import Failure
from q8a8_conformance.results.record import count as counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from q8a8_conformance.diagnosis.product_rules import RowFormula, Shape
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.results.observations import CallResult
    from q8a8_conformance.reveal.quantizer_calls import AnySession

Array = NDArray[Any]

HELD = 2.0**14
"""What outputs hold before: more than any of them is, and far less than 2^24."""

EXPONENTS = 7
"""Scales that are a digit of a row's number: 2^0 to 2^6."""

SHAPES, OUTPUTS, LENGTHS = 200, 1 << 17, 96
"""Shapes, outputs of a shape, and numbers of blocks that are looked at."""

REPEATED = 100
"""Calls with which a mistake of the catalogue must agree to give its name, spread over all that were made."""

TERMS = 1 << 16
"""Sums of blocks that are predicted at once: they stay in the cache."""

EVERY, ENDS = 24, 8
"""Blocks of a row that are all counted; at the ends of longer ones so many are."""

KINDS = {
    "outputs-not-written": ("Q8A8-MUL-6", "matrix-columns-lost"),
    "outputs-added": ("Q8A8-MUL-7", "matrix-added"),
    "outputs-of-other-rows": ("Q8A8-MUL-6", "matrix-transposed"),
    "scales-of-other-rows": ("Q8A8-MUL-6", "matrix-scales-of-first-row"),
    "blocks-miscounted": ("Q8A8-MUL-5", "matrix-k-tail-lost"),
    "block-meets-another": ("Q8A8-MUL-5", "matrix-k-in-sixteen-bits"),
    "empty-not-written": ("Q8A8-MUL-7", "matrix-empty-unwritten"),
}
"""The rule that each kind of fact breaks, and a mistake of the catalogue with the same fix."""

LETTERS = {"w": ("j", "m"), "x": ("i", "n")}
"""What a row's number, and the number of rows, are called on each side."""

SIZES = (2, 3, 5, 6, 7, 9, 11, 13, 15, 18, 23, 31, 36, 47, 66)
"""Rows of w or x of the shapes from which a formula for the row that is taken is found."""

RULED = (
    "blocks-miscounted",
    "outputs-not-written",
    "outputs-added",
    "outputs-of-other-rows",
    "scales-of-other-rows",
)
"""Kinds of which a rule is looked for that holds in all shapes."""

ROUNDING = 2.0**-20
"""What roundings leave of an output's terms, relative to their magnitude, where a prediction holds."""


@dataclass
class Sources:
    """Where the outputs of products of one shape come from.

    Attributes
    ----------
    shape
        m, n and blocks of a row.
    kept, added
        bool [n, m]: the output is what it was before, or is added to it.
    rows, columns, scales
        int [n, m]: the row of x, the row of w, and the row of x whose scale it is; the output's own where
        nothing else is seen.
    made
        The calls that were made, with their outputs.
    counts
        How often the blocks that were looked at are counted, by number; empty where all are counted once.
    periods
        The number of blocks after which those of w, and of x, come again; 0 where they do not.
    """

    shape: tuple[int, int, int]
    kept: Array
    added: Array
    rows: Array
    columns: Array
    scales: Array
    made: list[tuple[Call, tuple[bytes, ...]]] = field(default_factory=list)
    counts: dict[int, float] = field(default_factory=dict)
    periods: tuple[int, int] = (0, 0)

    def kinds(self) -> Iterator[tuple[str, Array]]:
        """Yield the kinds of facts about this shape, with the outputs bool [n, m] that they are about."""
        n, m = self.kept.shape
        own_rows, own_columns = np.arange(n)[:, np.newaxis], np.arange(m)
        found = {
            "empty-not-written" if not self.shape[2] else "outputs-not-written": self.kept,
            "outputs-added": self.added,
            "outputs-of-other-rows": (self.rows != own_rows) | (self.columns != own_columns),
            "scales-of-other-rows": (self.scales != self.rows),
            "blocks-miscounted": np.full((n, m), bool(self.counts) and not any(self.periods)),
            "block-meets-another": np.full((n, m), any(self.periods)),
        }
        yield from ((kind, wrong) for kind, wrong in found.items() if wrong.any())

    def predicts(self, failure: Failure) -> bool:
        """Return whether the outputs of a call of this shape come from where these do."""
        call = failure.call
        actual, held = (outputs_of(call, bytes(side)) for side in (failure.outputs[0], call.buffers[2].data))
        expected = outputs_of(call, failure.expected[0])
        w, x = matrices_of(call)
        try:
            xq = quantize_row(x).reshape(len(x), -1)
        except Q8A8Error:
            return False
        total, magnitude = np.zeros(actual.shape), np.zeros(actual.shape)
        counts, step = self.every_count(), max(1, TERMS // max(1, actual.size))
        # (The sum of a block is below 2^24: exact in float32.)
        codes, rows_of_x = (np.moveaxis(side["weight_qs"], 0, 1).astype(np.float32) for side in (w, xq))
        for b in range(0, self.shape[2], step):
            blocks = np.arange(b, min(b + step, self.shape[2]))
            of_w, of_x = (blocks % period if period else blocks for period in self.periods)
            sums = rows_of_x[of_x] @ codes[of_w].transpose(0, 2, 1)
            d = xq["weight_scale"].T[of_x][:, self.scales].astype(np.float64)
            d *= w["weight_scale"].T[of_w][:, self.columns]
            total += np.einsum("b,b...,b...", counts[blocks], sums[:, self.rows, self.columns], d)
            magnitude += np.abs(d).sum(axis=0) * 32 * 127 * 127
        with np.errstate(invalid="ignore"):
            total = np.where(self.added, total + held, total)
            near = np.abs(actual - total) <= ROUNDING * (magnitude + np.abs(total))
        near |= (actual == total) | (np.isnan(actual) & np.isnan(total))
        near[self.kept] = (actual.view(np.uint32) == held.view(np.uint32))[self.kept]
        wrong = actual.view(np.uint32) != expected.view(np.uint32)
        return bool(wrong.any() and near[wrong].all())

    def every_count(self) -> Array:
        """Return how often each block is counted: as the last one before it that was looked at."""
        counts = np.ones(self.shape[2])
        if any(self.periods):
            return counts
        for b, times in sorted(self.counts.items()):
            counts[b:] = times
        return counts


def place_facts(session: AnySession, failures: Sequence[Failure]) -> list[Fact]:
    """Find out which rows, blocks and earlier contents the outputs of failed calls are made of.

    The facts are those that explain a failed call.
    """
    shapes = dict.fromkeys((one.call.bs, one.call.bx, one.call.n // 32) for one in failures)
    small = sorted((shape for shape in shapes if 0 < shape[0] * shape[1] <= OUTPUTS), key=_size)
    counts: dict[int, dict[int, float]] = {}
    measure = cache(lambda shape: _measure(session, shape, counts))
    measured = [measure(shape) for shape in _some(small, SHAPES)]
    of_kind: dict[str, list[tuple[Sources, Array]]] = {}
    for sources in measured:
        for kind, wrong in sources.kinds():
            of_kind.setdefault(kind, []).append((sources, wrong))
    if "outputs-not-written" in of_kind and "empty-not-written" in of_kind:
        of_kind["outputs-not-written"] += of_kind.pop("empty-not-written")
    if "outputs-added" in of_kind:
        # (Nothing added looks like nothing written.)
        of_kind["outputs-added"] += of_kind.pop("empty-not-written", [])
    if (elsewhere := _stored_elsewhere(measured, of_kind)) and elsewhere.explained(failures):
        return [elsewhere]
    facts = [_fact(kind, held, measure) for kind, held in of_kind.items()]
    return [fact for fact in facts if fact.explained(failures)]


def _stored_elsewhere(
    measured: Sequence[Sources], of_kind: Mapping[str, list[tuple[Sources, Array]]]
) -> Fact | None:
    """Return that outputs are stored elsewhere, if that explains all that was measured."""
    seen = of_kind.get("outputs-of-other-rows", [])
    where = placement([(one.rows, one.columns, one.kept) for one in measured if one.shape[2]]) if seen else ""
    if not where:
        return None
    fact = _fact("outputs-of-other-rows", [(one, one.kept) for one in measured])
    sentence = f"Output (i, j) is stored at out[{where}], not at out[i * m + j]."
    return replace(fact, sentence=sentence, where={**fact.where, "stored_at": where})


def _size(shape: tuple[int, int, int]) -> tuple[int, int]:
    m, n, nb = shape
    return m * n + nb, nb


def _some(items: Sequence[Any], most: int) -> list[Any]:
    """Return so many items at most, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[place] for place in np.linspace(0, len(items) - 1, most).astype(int)]


def _measure(
    session: AnySession, shape: tuple[int, int, int], counts: dict[int, dict[int, float]]
) -> Sources:
    """Find out where the outputs of a shape come from; blocks of a row are counted once for each length."""
    m, n, nb = shape
    own_rows, own_columns = (
        np.broadcast_to(own, (n, m)) for own in (np.arange(n)[:, np.newaxis], np.arange(m))
    )
    none = np.zeros((n, m), bool)
    sources = Sources(shape, none, none, own_rows, own_columns, own_rows)
    outputs = _product(session, sources, np.ones(n), np.ones(m))
    sources.kept, sources.added = outputs == HELD, outputs > HELD
    if not nb:
        return sources
    if nb not in counts and len(counts) < LENGTHS:
        counts[nb] = _counts(session, sources)
    if any(times != 1 for times in counts.get(nb, {}).values()):
        sources.counts = counts[nb]
    sources.periods = wraps(partial(_numbered, session, sources), nb) if nb > 1 else (0, 0)
    if sources.counts or any(sources.periods):
        return sources
    x, w = np.ones(n), np.ones(m)
    rows = read_numbers(n, lambda digits: _product(session, sources, digits + 1, w) - 1)
    columns = read_numbers(m, lambda digits: _product(session, sources, x, digits + 1) - 1)
    scales = read_numbers(n, lambda digits: _log2(_product(session, sources, x, w, digits)), EXPONENTS)
    is_plain = ~sources.kept & ~sources.added
    sources.rows = np.where(rows[1] & is_plain, rows[0], own_rows)
    sources.columns = np.where(columns[1] & is_plain, columns[0], own_columns)
    sources.scales = np.where(scales[1] & is_plain, scales[0], sources.rows)
    return sources


def _log2(outputs: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.log2(outputs))


def _product(
    session: AnySession, sources: Sources, x: Array, w: Array, exponents: Array | None = None
) -> Array:
    """Multiply rows of one number each, in their last blocks, as `_multiply` does."""
    nb = sources.shape[2]
    x, w = (side[:, np.newaxis] * (np.arange(nb) == nb - 1) for side in (x, w))
    return _multiply(session, sources, x, w, exponents)


def _multiply(
    session: AnySession, sources: Sources, x: Array, w: Array, exponents: Array | None = None
) -> Array:
    """Multiply rows with numbers in their blocks into outputs that hold `HELD`: float32 [n, m].

    x is [n, nb] and w [m, nb], or [nb] for rows that are all alike. The numbers stand beside 127 in each
    block of x, whose rows are multiplied by 2^exponents [n].
    """
    m, n, nb = sources.shape
    elements, codes = np.zeros((n, nb, 32), np.float32), np.zeros((m, nb, 32), np.int8)
    elements[:, :, 0] = 127
    elements[:, :, 1], codes[:, :, 1] = x, w
    if exponents is not None:
        elements *= np.float32(2) ** exponents[:, np.newaxis, np.newaxis]
    out = calls.float_bytes(HELD) * (m * n)
    call = calls.mul_mat(dot_rows.blocks(1.0, codes), elements.reshape(n, 32 * nb), out=out)
    outputs = tuple(bytes(out) for out in session.call(call).outputs)
    sources.made.append((call, outputs))
    return outputs_of(call, outputs[0])


def _counts(session: AnySession, sources: Sources) -> dict[int, float]:
    """Return how often blocks are counted: some of them, and where that changes between two."""
    nb = sources.shape[2]
    ends = nb if nb <= EVERY else ENDS
    places = sorted({*range(ends), *(2**e for e in range(3, 16) if 2**e < nb), *range(nb - ends, nb)})
    found = {b: _count(session, sources, b) for b in places}
    for pair in pairwise(places):
        low, high = pair
        while found[low] != found[high] and high - low > 1:
            middle = (low + high) // 2
            found[middle] = _count(session, sources, middle)
            low, high = (middle, high) if found[middle] == found[low] else (low, middle)
    return found


def _count(session: AnySession, sources: Sources, block: int) -> float:
    """Return how often a block is counted, as most outputs have it."""
    nb = sources.shape[2]
    outputs = _multiply(session, sources, np.ones(nb), np.arange(nb) == block)[~sources.kept]
    values, times = np.unique(outputs[outputs < HELD], return_counts=True)
    return float(values[times.argmax()]) if values.size else 1.0


def _numbered(session: AnySession, sources: Sources, w: Array, x: Array) -> float:
    """Return the output that is written first of rows with these numbers, [blocks] each, in their blocks."""
    written = _multiply(session, sources, x, w)[~sources.kept]
    return float(written[0]) if written.size and np.isfinite(written[0]) else -1.0


def _fact(
    kind: str, held: Sequence[tuple[Sources, Array]], measure: Callable[[Shape], Sources] | None = None
) -> Fact:
    """Return the fact that some shapes have in common; `measure` looks at others, to find a rule for all."""
    rule, alike = KINDS[kind]
    slug = _named([sources for sources, _ in held], rule, alike)
    first, wrong = held[0]
    m, n, nb = first.shape
    sentence = f"With m = {m}, n = {n} and {counted(nb, 'block')} in a row {_words(kind, first, wrong)}."
    by_shape = {sources.shape: sources for sources, _ in held}

    def explains(result: CallResult) -> bool:
        sources = by_shape.get((result.call.bs, result.call.bx, result.call.n // 32))
        return isinstance(result, Failure) and sources is not None and sources.predicts(result)

    shapes = [dict(zip(("m", "n", "blocks"), each.shape, strict=True)) for each, _ in held]
    where: dict[str, Any] = {
        "shapes": [{**shape, "outputs": int(of.sum())} for shape, (_, of) in zip(shapes, held, strict=True)]
    }
    if any(first.periods):
        where["periods"] = dict(zip("wx", first.periods, strict=True))
    elif first.counts:
        where["counts"] = [{"block": b, "times": n} for b, n in first.counts.items() if n != 1]
    if kind == "outputs-of-other-rows" and _wrap(first)[1]:
        alike, where["period"] = "matrix-k-in-sixteen-bits", _wrap(first)[1]
    elif measure is not None and kind in RULED:
        sentence, of_all = _ruled(kind, [sources for sources, _ in held], measure) or (sentence, {})
        where |= of_all
    return Fact(
        *(kind, where, rule, sentence, MUTANTS[slug or alike].fix, slug),
        function=calls.MUL_MAT,
        evidence=_evidence(first),
        explains=explains,
    )


def _ruled(
    kind: str, held: Sequence[Sources], measure: Callable[[Shape], Sources]
) -> tuple[str, dict[str, Any]] | None:
    """Return a sentence about products of any shape, and the rule in it, if there is one that holds."""

    def look(shape: Shape) -> Array:
        return dict(measure(shape).kinds()).get(kind, np.zeros((shape[1], shape[0]), bool))

    if kind == "blocks-miscounted":
        return _miscounted(held, measure)
    # (The shapes of failed calls may be few of one kind.)
    m, n, nb = held[0].shape
    around = [measure(shape) for size in SIZES for shape in ((size, n, nb), (m, size, nb))]
    side, formula = _formula(kind, [*held, *around])

    def shows(shape: Shape) -> Array:
        (m, n, _), every = shape, np.ones((shape[1], shape[0]), bool)
        if kind.endswith("of-other-rows"):
            every = ~measure(shape).kept
        if formula is None:
            return every
        count, own = (m, np.arange(m)) if side == "w" else (n, np.arange(n)[:, np.newaxis])
        return np.asarray(every & (formula.of(own, count) != own))

    rule = output_rule(held[0].shape, [sources.shape for sources in held if sources.shape[2]], look, shows)
    if rule is None:
        return None
    text = formula.text(*LETTERS[side]) if formula else ""
    taken = f"row {text}" if text else "another row"
    what = {
        "outputs-not-written": "are not written",
        "outputs-added": "are added to what was there",
        "outputs-of-other-rows": f"are those of {taken} of {side}",
        "scales-of-other-rows": f"have the scale of {taken} of {side}",
    }[kind]
    return f"{rule.text} {what}.", {"outputs": rule.to_json(), **({"row": text} if text else {})}


def _miscounted(
    held: Sequence[Sources], measure: Callable[[Shape], Sources]
) -> tuple[str, dict[str, Any]] | None:
    """Return the same of blocks that are not counted once."""
    (m, n, first), times = (
        held[0].shape,
        {of for sources in held for of in sources.counts.values() if of != 1},
    )

    def look(blocks: int) -> Array:
        return np.asarray(measure((m, n, blocks)).every_count() != 1)

    rule = block_rule(first, look) if len(times) == 1 else None
    if rule is None:
        return None
    text = rule.text("block", "nb")
    how = f"is counted {times.pop():g} times"
    return f"{text[0].upper()}{text[1:]} {how}.", {"blocks": rule.to_json()}


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
            some = (own != taken) & ~sources.kept
            seen.append((m if side == "w" else n, own[some], taken[some]))
        if any(i.size for _, i, _ in seen):
            return side, row_formula(seen)
    return "x", None


def _wrap(sources: Sources) -> tuple[str, int]:
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


def _words(kind: str, sources: Sources, wrong: Array) -> str:
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
        return f"block {b} is counted {times:g} times{more}"
    side, period = _wrap(sources) if kind == "outputs-of-other-rows" else ("", 0)
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
    }[kind]


def _named(measured: Sequence[Sources], rule: str, first: str) -> str:
    """Return the catalogue's mistake that gives the same outputs in the calls that were made."""
    made = _some([each for sources in measured for each in sources.made], REPEATED)
    for mutant in (MUTANTS[first], *MUTANTS.values()):
        if mutant.rule == rule and mutant.functions == (calls.MUL_MAT,) and not mutant.separate_process:
            kernel = make(mutant.slug)
            if all(replay(kernel, call) == outputs for call, outputs in made):
                return mutant.slug
    return ""


def _evidence(sources: Sources) -> tuple[Evidence, ...]:
    """Return the first call that shows it."""
    for call, outputs in sources.made:
        w, x = matrices_of(call)
        expected = mul_mat(w, x).astype("<f4")
        actual = outputs_of(call, outputs[0])
        wrong = np.argwhere(actual != expected)
        if len(wrong):
            i, j = wrong[0].tolist()
            text = f"out[{i} * m + {j}] is {actual[i, j]:.9g}, expected {expected[i, j]:.9g}"
            return (Evidence(call, (expected.tobytes(),), outputs, text),)
    return ()
