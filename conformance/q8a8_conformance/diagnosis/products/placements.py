"""Where a product stores its outputs: one formula for all shapes, with the outputs in which it holds.

One product shows of every place of out which output it holds: each is a number of its own, and so is what
each place held before. A formula is measured, not looked up: the place of output (i, j) as a sum of i and j,
or of their whole tiles and what is left of them, each times what m and n give; or, the other way round, the
output that a place takes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from q8a8.matmul import mul_mat
from q8a8_conformance.diagnosis.facts import Fact, remembered
from q8a8_conformance.diagnosis.products.held_outputs import held_outputs
from q8a8_conformance.diagnosis.products.judged import (
    ROUNDING,
    Given,
    accounts_for_all,
    agreeing,
    named,
    quantized,
    shown,
    spread,
    wrong_outputs,
)
from q8a8_conformance.diagnosis.products.pairs import pairs
from q8a8_conformance.diagnosis.products.rules import TILES, joint_rule, output_rule
from q8a8_conformance.diagnosis.products.sources import sums
from q8a8_conformance.diagnosis.products.words import KINDS
from q8a8_conformance.faults.catalogue import MUTANTS
from q8a8_conformance.inputs import calls
from q8a8_conformance.protocol.session import SessionError
from q8a8_conformance.results.expected_product import matrices_of, outputs_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from q8a8_conformance.diagnosis.products.held_outputs import Seen
    from q8a8_conformance.diagnosis.products.rules import OutputRule, Shape
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.results.observations import Failure
    from q8a8_conformance.reveal.quantizers.calls import AnySession

Coefficient = tuple[str, "Callable[[int, int], int]"]

LARGEST = 1 << 14
"""Outputs of a shape that is looked at, at most."""

SHAPES = 10
"""Shapes of failed calls that are looked at, at most."""

AROUND = ((37, 45), (39, 50), (48, 39), (64, 33), (42, 64), (26, 9), (11, 24), (70, 5), (5, 70), (16, 16))
"""m and n of other shapes from which a formula is found."""

FURTHEST = 64
"""The most that is added to a number of rows in a formula."""

SQUARES = (8, 4, 16, 2, 32, 64)
OBLONGS = tuple((a, b) for a in (2, 4, 8, 16) for b in (2, 4, 8, 16, 32) if a != b)
"""Rows and columns of tiles of outputs that may be transposed, or stored column by column."""

KIND, UNWRITTEN = "outputs-of-other-rows", "outputs-not-written"
_SIZES: tuple[tuple[str, Callable[[int, int, int], int], tuple[int, ...]], ...] = (
    ("m", lambda m, _n, _t: m, (0,)),
    ("n", lambda _m, n, _t: n, (0,)),
    ("m rounded up to a multiple of {t}", lambda m, _n, t: -(-m // t) * t, TILES),
    ("m - m % {t}", lambda m, _n, t: m - m % t, TILES),
    ("n rounded up to a multiple of {t}", lambda _m, n, t: -(-n // t) * t, TILES),
    ("n - n % {t}", lambda _m, n, t: n - n % t, TILES),
    ("max(m, n)", lambda m, n, _t: max(m, n), (0,)),
    ("min(m, n)", lambda m, n, _t: min(m, n), (0,)),
    ("m * n", lambda m, n, _t: m * n, (0,)),
    ("m % {t}", lambda m, _n, t: m % t, TILES),
    ("n % {t}", lambda _m, n, t: n % t, TILES),
)
"""What a number of a formula may be, of m, n and a number t, besides a constant and what is added."""


@dataclass(frozen=True)
class Formula:
    """A place, or an output, of output (i, j), or place, as i · m + j is its own.

    Attributes
    ----------
    words
        In words.
    of
        Returns it for i, j, m and n.
    rows
        The rows of x and w of the output, in words, if it is one by these.
    """

    words: str
    of: Callable[[Array, Array, int, int], Array]
    rows: str = ""

    def numbers(self, shape: Shape) -> Array:
        """Return it for every output of a shape: int [n·m]; -1 outside of out."""
        m, n, _ = shape
        i, j = (index.reshape(-1) for index in np.indices((n, m)))
        found = np.asarray(self.of(i, j, m, n))
        return np.where((found >= 0) & (found < m * n), found, -1)


@dataclass(frozen=True)
class Placement:
    """Where outputs are stored, or taken from.

    Attributes
    ----------
    formula
        The place, or the output that is taken.
    is_taken
        Whether it is the output that a place takes; else the place at which an output is stored.
    outputs
        For which outputs, or places.
    none
        What is at a place that takes an output that there is not, in words; empty where none does.
    """

    formula: Formula
    is_taken: bool
    outputs: OutputRule
    none: str = ""

    def pairs(self, shape: Shape) -> tuple[Array, Array]:
        """Return outputs and the places at which they are stored, of those that there are: int [k] each."""
        m, n, _ = shape
        own = np.arange(n * m)
        other = np.where(self.outputs.holds(shape).reshape(-1), self.formula.numbers(shape), own)
        inside = other >= 0
        return (other[inside], own[inside]) if self.is_taken else (own[inside], other[inside])

    def gives(self, shape: Shape, is_of: Callable[[Array, Array], Array], empty: Array) -> Array:
        """Return which places hold what they should by it: bool [n·m].

        `is_of` returns whether places, int [k], hold outputs, int [k]; `empty`, bool [n·m], which hold none.
        Of several outputs at one place any may be it.
        """
        outputs, places = self.pairs(shape)
        found, written = np.zeros(empty.size, bool), np.zeros(empty.size, bool)
        written[places] = True
        found[places[is_of(places, outputs)]] = True
        return np.where(written, found, empty)

    @property
    def sentence(self) -> str:
        """What it is, as a sentence."""
        what = self.outputs.text
        if self.formula.rows:
            return f"{what} are those of {self.formula.rows}{self.none}."
        where = "" if what == "All outputs" else what.removeprefix("All outputs where ")
        if where.startswith("Outputs in "):
            lead = f"In {where.removeprefix('Outputs in ')} output (i, j)"
        else:
            lead = f"Where {where}, output (i, j)" if where else "Output (i, j)"
        if self.is_taken:
            return f"{lead} is the one whose number is {self.formula.words}, not i * m + j."
        return f"{lead} is stored at out[{self.formula.words}], not at out[i * m + j]."


def placement_facts(session: AnySession, failures: Sequence[Failure]) -> list[Fact]:
    """Find one formula for where outputs are stored, if that is no matter of rows, or of columns, alone."""
    known: dict[Shape, Seen] = {}

    def measure(shape: Shape) -> Seen:
        if shape not in known:
            known[shape] = held_outputs(session, shape)
        return known[shape]

    shapes = dict.fromkeys((one.call.bs, one.call.bx, one.call.n // 32) for one in failures)
    small = sorted((s for s in shapes if s[2] and 0 < s[0] * s[1] <= LARGEST), key=np.prod)
    try:
        some = [measure(shape) for shape in spread(small, SHAPES)]
        first = next((one for one in some if one.moved.any() or one.kept.any()), None)
        if first is None or not all(one.is_known for one in some):
            return []
        _, _, nb = first.shape
        for m, n in AROUND:
            measure((m, n, nb))
        if not any(one.moved.any() for one in known.values()):
            return _unwritten(first, list(known), measure)
        placement = _find(next(one.shape for one in some if one.moved.any()), known, measure)
    except SessionError:
        return []
    if placement is None:
        return []
    rule, alike = KINDS[KIND]
    slug = named([one.made for one in known.values()], rule, alike)
    where = {
        "taken_from" if placement.is_taken else "stored_at": placement.formula.words,
        "outputs": placement.outputs.to_json(),
    }
    return [
        Fact(
            *(KIND, where, rule, placement.sentence, MUTANTS[slug or alike].fix, slug),
            function=calls.MUL_MAT,
            evidence=shown([first.made]),
            explains=remembered(partial(accounts_for_all, partial(_accounts, placement))),
            outputs=partial(_accounts, placement),
        )
    ]


def _unwritten(first: Seen, known: Sequence[Shape], measure: Callable[[Shape], Seen]) -> list[Fact]:
    """Return that outputs are not written, if row and column together say which."""

    def look(shape: Shape) -> Array:
        return measure(shape).kept.reshape(shape[1], shape[0])

    def shows(shape: Shape) -> Array:
        return np.ones((shape[1], shape[0]), bool)

    outputs, _ = joint_rule(first.shape, known, look, shows)
    if outputs is None:
        return []
    rule, alike = KINDS[UNWRITTEN]
    accounts = partial(_keeps, outputs)
    return [
        Fact(
            *(UNWRITTEN, {"outputs": outputs.to_json()}, rule, f"{outputs.text} are not written."),
            *(MUTANTS[alike].fix, ""),
            function=calls.MUL_MAT,
            evidence=shown([first.made]),
            explains=remembered(partial(accounts_for_all, accounts)),
            outputs=accounts,
        )
    ]


def _keeps(outputs: OutputRule, result: Failure) -> Array:
    """Return which wrong outputs of a failed call a rule says are not written: bool [n, m]."""
    shape = (result.call.bs, result.call.bx, result.call.n // 32)
    if (operands := quantized(result)) is None:
        return wrong_outputs(result) & False
    return agreeing(result, Given(*sums(*operands), kept=outputs.holds(shape)))


def _find(first: Shape, known: dict[Shape, Seen], measure: Callable[[Shape], Seen]) -> Placement | None:
    """Return the placement that gives all that is measured; None for none."""
    for is_taken in (False, True):
        for formula in _formulas(list(known.values()), is_taken=is_taken):
            if not all(_is_all(formula, one, is_taken=is_taken) for one in known.values()):
                continue

            def look(shape: Shape, formula: Formula = formula, taken: bool = is_taken) -> Array:
                return _looks(formula, measure(shape), is_taken=taken)[0]

            def shows(shape: Shape, formula: Formula = formula, taken: bool = is_taken) -> Array:
                return _looks(formula, measure(shape), is_taken=taken)[1]

            outputs = output_rule(first, list(known), look, shows)
            if outputs is not None:
                placement = Placement(formula, is_taken, outputs)
                if all(_is_given(placement, one) for one in known.values()):
                    return replace(placement, none=_none(placement, list(known.values())))
    return None


def _none(placement: Placement, some: Sequence[Seen]) -> str:
    """Return what is at places that take an output that there is not, in words; empty for no one thing."""
    held = []
    for seen in some:
        outside = placement.outputs.holds(seen.shape).reshape(-1) & (
            placement.formula.numbers(seen.shape) < 0
        )
        held.append((seen.zero[outside], seen.kept[outside]))
    zero, kept = (np.concatenate(of) for of in zip(*held, strict=True))
    if not zero.size:
        return ""
    return ", and +0 where there is none" if zero.all() else ", or not written" if kept.all() else ""


def _looks(formula: Formula, seen: Seen, *, is_taken: bool) -> tuple[Array, Array]:
    """Return which outputs, or places, are as a formula says, and where that would show: bool [n, m]."""
    m, n, _ = seen.shape
    numbers, own = formula.numbers(seen.shape), np.arange(m * n)
    differs = (numbers >= 0) & (numbers != own)
    if is_taken:
        shown = differs & (seen.source >= 0)
        here = shown & (seen.source == numbers)
    else:
        shown = differs & np.isin(own, seen.source)
        here = shown & (seen.source[numbers] == own)
    return here.reshape(n, m), shown.reshape(n, m)


def _is_all(formula: Formula, seen: Seen, *, is_taken: bool) -> bool:
    """Return whether all that is not at its own place is as a formula says."""
    numbers, places = formula.numbers(seen.shape), np.flatnonzero(seen.moved)
    own = seen.source[places]
    return bool(np.array_equal(numbers[places], own) if is_taken else np.array_equal(numbers[own], places))


def _is_given(placement: Placement, seen: Seen) -> bool:
    """Return whether all places of a shape hold what a placement gives."""
    # (What nothing is stored at may be right for another reason.)
    empty = seen.kept | seen.zero | (seen.source == np.arange(seen.source.size))
    return bool(placement.gives(seen.shape, lambda at, of: seen.source[at] == of, empty).all())


def _formulas(some: Sequence[Seen], *, is_taken: bool) -> Iterator[Formula]:
    """Yield formulas that give all places, or outputs, that are not their own, the simplest first."""
    for pair in pairs(some) if is_taken else ():
        yield Formula(pair.words, pair.of, pair.words)
    if not any(seen.is_joint for seen in some):
        # (Whole rows, or columns, are others: where they are stored says less.)
        return
    for a, b in ((1, 1), *((t, 1) for t in SQUARES), *((1, t) for t in SQUARES)):
        yield from _fitted(some, a, b, is_taken=is_taken)
    for t in SQUARES:
        yield from _fitted(some, t, t, is_taken=is_taken)
    for a, b in OBLONGS:
        yield from _fitted(some, a, b, is_taken=is_taken)
        words = f"(i - i % {a} + e / {b}) * m + j - j % {b} + e % {b}, e = j % {b} * {a} + i % {a}"
        yield Formula(words, partial(_by_columns, a=a, b=b))


def _by_columns(i: Array, j: Array, m: int, n: int, a: int, b: int) -> Array:
    """Return places of tiles of a rows and b columns that are stored column by column."""
    del n
    number = j % b * a + i % a
    return np.asarray((i - i % a + number // b) * m + j - j % b + number % b)


def _features(i: Array, j: Array, a: int, b: int) -> dict[str, Array]:
    """Return what a formula is a sum of, in words: whole tiles of a rows and b columns, and the rest."""
    of = {"1": np.ones_like(i)}
    for name, index, size in (("i", i, a), ("j", j, b)):
        if size == 1:
            of[name] = index
        else:
            of |= {f"{name} - {name} % {size}": index - index % size, f"{name} % {size}": index % size}
    return of


def _fitted(some: Sequence[Seen], a: int, b: int, *, is_taken: bool) -> Iterator[Formula]:
    """Yield the formula of tiles that gives what is not at its own place, if one does."""
    values: list[tuple[int, int, Array]] = []
    for one in some:
        m, n, _ = one.shape
        places = np.flatnonzero(one.moved)
        from_, to = (places, one.source[places]) if is_taken else (one.source[places], places)
        matrix = np.stack(list(_features(from_ // m, from_ % m, a, b).values()), axis=1).astype(float)
        if len(places) < matrix.shape[1] or np.linalg.matrix_rank(matrix) < matrix.shape[1]:
            continue
        found = np.rint(np.linalg.lstsq(matrix, to.astype(float), rcond=None)[0])
        if not np.array_equal(matrix @ found, to):
            return
        values.append((m, n, found.astype(int)))
    if len(values) < 2:
        return
    names = list(_features(np.zeros(1, int), np.zeros(1, int), a, b))
    of = [_coefficient([(m, n, int(v[at])) for m, n, v in values]) for at in range(len(names))]
    if all(of):
        found_of = [one for one in of if one is not None]
        yield Formula(_sum_words(names, [words for words, _ in found_of]), partial(_sum, found_of, a, b))


def _sum(of: Sequence[Coefficient], a: int, b: int, i: Array, j: Array, m: int, n: int) -> Array:
    parts = _features(i, j, a, b).values()
    return np.asarray(sum(part * function(m, n) for part, (_, function) in zip(parts, of, strict=True)))


def _coefficient(values: Sequence[tuple[int, int, int]]) -> Coefficient | None:
    """Return what gives a number of a formula by m and n, in words; None for nothing."""
    if len({v for _, _, v in values}) == 1:
        constant = values[0][2]
        return str(constant), lambda _m, _n: constant
    every = ((words, of, t, sign) for words, of, numbers in _SIZES for t in numbers for sign in (1, -1))
    found = []
    for words, of, t, sign in every:
        more = {v - sign * of(m, n, t) for m, n, v in values}
        if len(more) == 1 and abs(by := more.pop()) <= FURTHEST:
            found.append((by != 0, (_sized(words.format(t=t), sign, by), partial(_size, of, t, sign, by))))
    # (What nothing is added to is simpler.)
    return min(found, key=lambda one: one[0])[1] if found else None


def _sized(size: str, sign: int, by: int) -> str:
    """Return a size, or what is left of a number, and what is added to it, in words."""
    if sign < 0:
        size = f"({size})" if " " in size else size
        return f"{by} - {size}" if by else f"-{size}"
    return f"{size} {'-' if by < 0 else '+'} {abs(by)}" if by else size


def _size(of: Callable[[int, int, int], int], t: int, sign: int, by: int, m: int, n: int) -> int:
    return sign * of(m, n, t) + by


def _sum_words(names: Sequence[str], coefficients: Sequence[str]) -> str:
    """Return a sum of features times coefficients in words, the constant last."""
    text = ""
    pairs = list(zip(names, coefficients, strict=True))
    for name, of in sorted(pairs, key=lambda pair: (pair[0] == "1", pair[1] == "1")):
        if of == "0":
            continue
        is_less, size = of.startswith("-"), of.removeprefix("-")
        if name == "1":
            part = size
        else:
            factor = f"({name})" if " - " in name and (size != "1" or is_less) else name
            part = factor if size == "1" else f"{factor} * {f'({size})' if ' ' in size else size}"
        text += (" - " if is_less else " + ") + part
    return text.removeprefix(" + ") if not text.startswith(" - ") else f"-{text[3:]}"


def _accounts(placement: Placement, result: Failure) -> Array:
    """Return which wrong outputs of a failed call hold what a placement gives: bool [n, m]."""
    wrong = wrong_outputs(result)
    shape = (result.call.bs, result.call.bx, result.call.n // 32)
    total, magnitude = np.zeros(wrong.shape), np.zeros(wrong.shape)
    if shape[2]:
        if (operands := quantized(result)) is None:
            return wrong & False
        total, magnitude = sums(*operands)
    got, held = (
        outputs_of(result.call, bytes(of)).reshape(-1)
        for of in (result.outputs[0], result.call.buffers[2].data)
    )
    exact = mul_mat(*matrices_of(result.call)).reshape(-1)
    near = (ROUNDING * (magnitude + np.abs(total))).reshape(-1)

    def is_of(places: Array, outputs: Array) -> Array:
        with np.errstate(invalid="ignore"):
            is_near = np.abs(got[places] - total.reshape(-1)[outputs]) <= near[outputs]
        return np.asarray(is_near | (got[places] == exact[outputs]))

    empty = (got.view(np.uint32) == held.view(np.uint32)) | (got == 0)
    return np.asarray(wrong & placement.gives(shape, is_of, empty).reshape(wrong.shape))
