"""A dot product whose steps are data: what a faulty function gives, but for roundings.

An experiment measures one step: which blocks are counted, which scale is read, what two codes give.
A `Model` with that step in the place of the specification's predicts each float of a call. Since the order of
additions is not known, the prediction is the sum without rounding, and what rounding may make of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from q8a8.bound import LANE_FOLD_ROUNDINGS
from q8a8_conformance.diagnosis.dots.addresses import LINE, address_of
from q8a8_conformance.diagnosis.dots.right_steps import (
    SIZES,
    block_sum,
    blocks,
    correction,
    pick,
    places,
    products,
    scale_product,
    store,
    strides,
    term,
    total,
    unpack,
    unpack_at,
    widen,
)
from q8a8_conformance.diagnosis.dots.row_effects import meeting
from q8a8_conformance.inputs.calls import DOT, inputs_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from q8a8_conformance.diagnosis.dots.row_effects import Effect, Partial
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.results.observations import CallResult

    Step = Callable[..., Any]

SHARE = 8
"""The bound of Q8A8-ORD-2 is for the worst data and order; kernels use one part in this many, or less."""

LISTS = ("placed", "local", "only")
"""Fields of a model that hold several things."""

RESULTS = ("x0·y0", "x1·y0", "x0·y1", "x1·y1")
"""The four results of two rows at a time, as `places` has them."""

FLOAT_BITS = 24
"""Significant bits of a float32. Sums in fewer may use all of the bound for so many."""


class Places(Protocol):
    """Places of a row, by what it holds: scales of x and y [nb], codes of x and y [nb, 32]."""

    def holds(self, values: tuple[Array, ...]) -> Array:
        """Return the places: bool [nb]."""


@dataclass(frozen=True)
class Signs:
    """Blocks whose scales have some signs.

    Attributes
    ----------
    of
        Whether the scales of x and of y are negative: pairs.
    """

    of: frozenset[tuple[bool, bool]]

    def holds(self, dx: Array, dy: Array) -> Array:
        """Return which blocks have them: bool [n]."""
        every = [(np.signbit(dx) == x) & (np.signbit(dy) == y) for x, y in self.of]
        return np.asarray(np.any(every, axis=0))


@dataclass(frozen=True)
class Prediction:
    """One float.

    Attributes
    ----------
    place
        Where it goes, in floats.
    value, tolerance
        Without rounding, and how far roundings may take it.
    rounds
        Whether sums of the single products may round, in any order.
    overflows
        Whether a sum of some terms may be infinite.
    unknown
        Whether it depends on bytes behind an input: it may be anything.
    """

    place: int
    value: float
    tolerance: float
    rounds: bool = False
    overflows: bool = False
    unknown: bool = False

    def holds(self, bits: Any, slack: float = 1.0) -> bool:  # noqa: ANN401 - a NumPy scalar
        """Return whether a float, by its bits, is the predicted one; what is not finite equals any such."""
        got = float(np.uint32(bits).view(np.float32))
        if self.unknown:
            return True
        if not math.isfinite(self.value):
            return not math.isfinite(got)
        if self.overflows and not math.isfinite(got):
            return True
        if not self.tolerance:
            return got == np.float32(self.value)
        return math.isfinite(got) and abs(got - self.value) <= slack * self.tolerance


@dataclass(frozen=True)
class Model:
    """The steps of a dot product: the specification's, unless replaced by measured ones.

    Attributes
    ----------
    read_at
        ("x" or "y", nb, the row's address in a cache line) -> how many bytes behind their own places scales
        and codes are read: int [nb] each; None where all are read there.
    pick
        (x's weight and activation scales, y's, of the blocks of a result) -> halves of x and of y.
    blocks
        (nb, row of x, row of y) -> numbers of the blocks of x and of y that meet, rows one after the other;
        and, where they are others, of the blocks whose scales they take.
    placed
        What happens to terms at some places of a row.
    strides, places
        (nb, bx, by) -> bytes; (bs) -> floats.
    half_x, half_y
        (halves as they are stored) -> halves as they are read; None where these are the same.
    widen_x, widen_y
        (halves) -> float64.
    products, block_sum
        (codes of x, of y [n, 32]) -> int64 [n, 32]; those -> [n].
    correction
        (codes of x, of y [n, 32]) -> int64 [n], which is added to the sum.
    scale_product, term, total
        (dx, dy) -> float64 [n]; (terms) -> float64 [n]; (terms) -> their sum.
    scaled_sum
        (sums, dx, dy) -> terms [n], where they are no product of the two.
    store, added
        (float before, result, nb) -> float after, or None where nothing is written; and which of four results
        are added to what was there.
    sums
        Of which of the four products each of the four results is the sum.
    beside
        (codes of x, of y, of the other row of x, of the other one of y) -> int64 [n], which is added to the
        sum; None for nothing.
    others
        (codes) -> those of the other row, where there is one row at a time.
    lanes
        Elements of a block that are read elsewhere: ("x" or "y", elements, how many bytes behind their own).
    given
        What another block's sum is given: how many blocks further on it is, and a function of sums [n].
    scaled
        Elements whose products take other blocks' scales: how many blocks further on x's is, and y's.
    taken
        What is added to a block's sum: of "x" or "y", so many times the sum of the codes so many blocks
        further on.
    rest
        (codes of x, of y [n, 32], dx, dy, other scales of both) -> what is added to the terms, and its size.
    local
        What is otherwise at some blocks of a row: pairs of a function (nb) -> bool [nb], or the signs of
        scales, and fields of a model.
    only
        What is otherwise in some of four results: pairs of their numbers and fields of a model.
    partial
        Sums of chunks or lanes that are rounded; None for none.
    bits, limit, least
        Significant bits to which sums are rounded, the greatest of them that is finite, and the smallest one.
    """

    read_at: Step | None = None
    pick: Step = pick
    blocks: Step = blocks
    placed: tuple[tuple[Places, Effect], ...] = ()
    strides: Step = strides
    places: Step = places
    half_x: Step | None = None
    half_y: Step | None = None
    widen_x: Step = widen
    widen_y: Step = widen
    products: Step = products
    block_sum: Step = block_sum
    correction: Step = correction
    scale_product: Step = scale_product
    scaled_sum: Step | None = None
    term: Step = term
    total: Step = total
    store: Step = store
    added: frozenset[int] = frozenset()
    sums: tuple[tuple[int, ...], ...] = ((0,), (1,), (2,), (3,))
    beside: Step | None = None
    others: Step = np.zeros_like
    lanes: tuple[tuple[str, Sequence[int], Sequence[int]], ...] = ()
    given: tuple[int, Step] | None = None
    scaled: tuple[tuple[Sequence[int], int, int], ...] = ()
    taken: tuple[tuple[str, int, int], ...] = ()
    rest: Step | None = None
    local: tuple[tuple[Callable[[int], Array] | Signs, Mapping[str, Any]], ...] = ()
    only: tuple[tuple[frozenset[int], Mapping[str, Any]], ...] = ()
    partial: Partial | None = None
    bits: int = FLOAT_BITS
    limit: float = math.inf
    least: float = 0.0

    def predict(self, call: Call) -> list[Prediction]:
        """Return what a call gives: one float, or four."""
        with np.errstate(all="ignore"):
            # (Of two results for one place the later one stays.)
            return list({one.place: one for one in self._predict(call)}.values())

    def _predict(self, call: Call) -> Iterator[Prediction]:
        nb, version = call.n // 32, 1 if call.function == DOT else 2
        inputs = inputs_of(call)
        bx, by = self.strides(nb, call.bx, call.by) if call.nrc == 2 else (0, 0)
        steps = {"vx": bx, "vy": by}
        rows: dict[Step | None, list[list[Array]]] = {}
        beyond = [
            self.strides is not strides and len(inputs[name]) < step + nb * SIZES[version]
            for name, step in (("vx", bx), ("vy", by))
        ]
        held = np.frombuffer(call.buffers[call.spec.outputs[0]].data, "<f4")
        targets = self.places(call.bs) if call.nrc == 2 else (0,)
        for number, place in enumerate(targets):
            model = self._of_result(number) if call.nrc == 2 and self.only else self
            key = model.read_at
            if key not in rows:
                rows[key] = [model._rows(call, name, step, version) for name, step in steps.items()]  # noqa: SLF001 - another model, of this class
            x, y = rows[key]
            parts = [
                model._dot(x, y, model._meeting(nb, x, y, of % call.nrc, of // call.nrc), nb)  # noqa: SLF001 - another model, of this class
                for of in self.sums[number]
            ]
            value, tolerance, rounds, overflows = parts[0] if len(parts) == 1 else _added(parts)
            before = float(held[place]) if 0 <= place < held.size else 0.0
            stored = before + value if number in self.added else model.store(before, value, nb)
            if stored is not None:
                unknown = any(
                    (beyond[0] and of % call.nrc) or (beyond[1] and of // call.nrc)
                    for of in self.sums[number]
                )
                yield Prediction(place, stored, tolerance, rounds, overflows, unknown)

    def _meeting(self, nb: int, x: list[Array], y: list[Array], row: int, column: int) -> tuple[Array, ...]:
        """Return the blocks that meet in a result, and those whose scales they take."""
        if not self.placed:
            own: tuple[Array, ...] = self.blocks(nb, row, column)
            return own
        of_x, of_y = slice(row * nb, row * nb + nb), slice(column * nb, column * nb + nb)
        scales = (np.asarray(each, np.float64) for each in (x[0][of_x], y[1][of_y]))
        values = (*scales, x[2][of_x], y[2][of_y])
        return meeting(nb, row, column, [(places.holds(values), effect) for places, effect in self.placed])

    def _of_result(self, number: int) -> Model:
        """Return the model of one of four results."""
        return merged(self, (changes for numbers, changes in self.only if number in numbers))

    def _rows(self, call: Call, name: str, step: int, version: int) -> list[Array]:
        """Return scales [blocks] of both roles and codes [blocks, 32] of all rows, one after the other.

        Where elements are read elsewhere, their bytes follow.
        """
        data, nb, begins = inputs_of(call)[name], call.n // 32, [row * step for row in range(call.nrc)]
        if self.read_at is None:
            parts = [unpack(data[begin:], nb, version) for begin in begins]
        else:
            at = address_of(call, name)
            far = [self.read_at(name[1], nb, (at + begin) % LINE) for begin in begins]
            parts = [unpack_at(data, begin, nb, version, one) for begin, one in zip(begins, far, strict=True)]
        scales_a, scales_b, codes = (np.concatenate(part) for part in zip(*parts, strict=True))
        if not self.lanes and not any("lanes" in one for _, one in (*self.local, *self.only)):
            return [scales_a, scales_b, codes]
        scales = [scales_a] if version == 1 else [scales_a, scales_b]
        raw = np.column_stack([*(s.view(np.uint8).reshape(-1, 2) for s in scales), codes.view(np.uint8)])
        return [scales_a, scales_b, codes, raw]

    def _terms(
        self, x: list[Array], y: list[Array], meeting: tuple[Array, ...], nb: int
    ) -> tuple[Array, Array, Array]:
        """Return scale products, sums of magnitudes of products, and terms of the blocks that meet: [n]."""
        qx, qy, (ix, iy), (of_x, of_y) = x[2], y[2], meeting[:2], meeting[-2:]
        dx, dy = self._widened(x, y, of_x, of_y)
        d = np.asarray(self.scale_product(dx, dy))
        codes = {"x": qx[ix], "y": qy[iy]}
        for side, elements, far in self.lanes:
            data, numbers = (x[3], ix) if side == "x" else (y[3], iy)
            size = data.shape[1]
            own = (numbers * size + size - 32)[:, np.newaxis] + np.asarray(elements)
            places = own + np.asarray(far)
            places = np.where((places >= 0) & (places < data.size), places, own)
            codes[side][:, elements] = data.view(np.int8).reshape(-1)[places]
        of = np.asarray(self.products(codes["x"], codes["y"]))
        beside = np.asarray(self.correction(codes["x"], codes["y"]))
        if self.beside is not None:
            other_x, other_y = (
                self.others(q[at]) if len(q) == nb else q[(at + nb) % len(q)]
                for q, at in ((qx, ix), (qy, iy))
            )
            beside = beside + self.beside(codes["x"], codes["y"], other_x, other_y)
        for side, times, shift in self.taken:
            q, numbers = (qx, ix) if side == "x" else (qy, iy)
            is_inside = (numbers % nb + shift >= 0) & (numbers % nb + shift < nb)
            others = q[np.where(is_inside, numbers + shift, numbers)].astype(np.int64)
            beside = beside + times * others.sum(axis=1) * is_inside
        sums = self.block_sum(of) + beside
        largest, scaled = d, sums * d if self.scaled_sum is None else self.scaled_sum(sums, dx, dy)
        for elements, *shifts in self.scaled:
            at = [own % nb + shift for own, shift in zip((of_x, of_y), shifts, strict=True)]
            is_inside = np.all([(each >= 0) & (each < nb) for each in at], axis=0)
            taken = (np.where(is_inside, own + s, own) for own, s in zip((of_x, of_y), shifts, strict=True))
            other = np.where(is_inside, self.scale_product(*self._widened(x, y, *taken)), 0.0)
            largest = np.maximum(np.abs(largest), np.abs(other))
            scaled = scaled + of[:, elements].sum(axis=1) * (other - d)
        terms = np.asarray(self.term(scaled))
        if self.given is not None:
            shift, part = self.given
            target = ix % nb + shift
            scales = np.zeros(nb)
            scales[ix % nb] = d
            is_inside = (target >= 0) & (target < nb)
            terms = terms + np.where(is_inside, part(sums) * scales[target % nb], 0)
        sizes = np.abs(largest) * (np.abs(of).sum(axis=-1) + np.abs(beside))
        if self.rest is not None:
            more, parts = self.rest(codes["x"], codes["y"], dx, dy, (x[1][of_x], y[0][of_y]))
            terms, sizes = terms + more, sizes + parts
        return largest, sizes, terms

    def _widened(self, x: list[Array], y: list[Array], of_x: Array, of_y: Array) -> tuple[Array, Array]:
        """Return the scales of some blocks of x and of y: float64 [n] each."""
        halves_x, halves_y = self.pick(x[0][of_x], x[1][of_x], y[0][of_y], y[1][of_y])
        halves_x = halves_x if self.half_x is None else self.half_x(halves_x)
        halves_y = halves_y if self.half_y is None else self.half_y(halves_y)
        return self.widen_x(halves_x), self.widen_y(halves_y)

    def _dot(
        self, x: list[Array], y: list[Array], meeting: tuple[Array, ...], nb: int
    ) -> tuple[float, float, bool, bool]:
        """Return the sum without rounding, what roundings may add, whether sums may round, and overflow."""
        d, sizes, terms = self._terms(x, y, meeting, nb)
        every = [
            where.holds(*self._widened(x, y, *meeting[-2:]))
            if isinstance(where, Signs)
            else where(nb)[meeting[0] % max(nb, 1)]
            for where, _ in self.local
        ]
        for held in {some for some in zip(*every, strict=True) if any(some)}:
            here = np.all([of == is_so for of, is_so in zip(every, held, strict=True)], axis=0)
            changes = joined(one for (_, one), is_so in zip(self.local, held, strict=True) if is_so)
            other = replace(self, local=(), **changes)._terms(x, y, meeting, nb)  # noqa: SLF001 - another model, of this class
            d, sizes, terms = (np.where(here, *pair) for pair in zip(other, (d, sizes, terms), strict=True))
        if self.partial is not None:
            terms = self.partial.of(terms, meeting[0] % max(nb, 1), nb)
        if not np.isfinite(terms).all():
            return float(terms.sum()), 0.0, False, False
        value = self.total(terms)
        if abs(value) > self.limit:
            return math.inf, 0.0, False, True
        size, unit = float(sizes.sum()), _unit(terms)
        rounds = bool(size >= _unit(d[sizes != 0]) * 2.0**self.bits)
        lost = len(terms) * self.least if unit < self.least else 0.0
        overflows = bool(np.abs(terms).sum() > self.limit)
        if size < unit * 2.0**self.bits:
            return value, lost, rounds, overflows
        growth = math.expm1((len(terms) + LANE_FOLD_ROUNDINGS) * math.log1p(2.0**-self.bits))
        share = SHARE if self.bits == FLOAT_BITS else 1
        return value, growth * size / share + lost, rounds, overflows


def joined(every: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return fields of a model in one; what holds at some blocks, or in some results, is added."""
    changes: dict[str, Any] = {}
    for one in every:
        more = {name: (*changes.get(name, ()), *one[name]) for name in LISTS if name in one}
        changes |= {**one, **more}
    return changes


def merged(model: Model, every: Iterable[Mapping[str, Any]]) -> Model:
    """Return a model with changes of its fields."""
    return replace(model, **joined([{name: getattr(model, name) for name in LISTS}, *every]))


def _added(parts: list[tuple[float, float, bool, bool]]) -> tuple[float, float, bool, bool]:
    """Return the sum of several results as `Model._dot` does one: it is rounded after each."""
    values, tolerances, rounds, overflows = zip(*parts, strict=True)
    value = float(sum(values))
    exact = not any(tolerances) and all(
        float(np.float32(part)) == part for part in np.add.accumulate(values).tolist()
    )
    rest = 0.0 if exact else sum(map(abs, values)) * 2.0**-FLOAT_BITS * len(parts)
    return value, sum(tolerances) + rest, any(rounds), any(overflows)


def _unit(terms: Array) -> float:
    """Return a power of two of which all terms are multiples; infinite for none."""
    fractions, exponents = np.frexp(terms[terms != 0])
    integers = np.ldexp(np.abs(fractions), 53).astype(np.int64)
    return float(np.ldexp((integers & -integers).astype(np.float64), exponents - 53).min(initial=np.inf))


class Predictions:
    """What a model gives for calls, which are predicted once."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._made: dict[int, tuple[CallResult, list[Prediction]]] = {}

    def match(self, result: CallResult, slack: float = 1.0) -> bool:
        """Return what `matches` does."""
        if id(result) not in self._made:
            self._made[id(result)] = result, self._model.predict(result.call)
        return matches(self._model, result, slack, self._made[id(result)][1])


def matches(
    model: Model, result: CallResult, slack: float = 1.0, predicted: Sequence[Prediction] | None = None
) -> bool:
    """Return whether a call's outputs are what a model gives, and every other float is as it was.

    `slack` multiplies the tolerance for roundings; what is `predicted` is not predicted again.
    """
    call = result.call
    got = np.frombuffer(result.outputs[0], "<u4")
    left = np.ones(got.size, bool)
    for prediction in model.predict(call) if predicted is None else predicted:
        if not 0 <= prediction.place < got.size:
            return False
        if not prediction.holds(got[prediction.place], slack):
            return False
        if not call.n and prediction.value == 0 and got[prediction.place]:
            return False
        left[prediction.place] = False
    held = np.frombuffer(call.buffers[call.spec.outputs[0]].data, "<u4")
    return bool((got == held)[left].all())
