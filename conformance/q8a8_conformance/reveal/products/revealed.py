"""Reveal a matrix product: what it computes, and where that changes with its shape.

`shapes` finds the shapes and rows in which the bits of the same two rows are the same. In each such
regime: what activations become (`activations`); of codes, the order of additions over blocks, as of
a dot product (`dots`); of floats, the tree of single elements and its roundings (`elements`).
Everything is confirmed on random rows, by the reference that computes the named arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from q8a8 import layout
from q8a8.dot import dot_rows
from q8a8.matmul import mul_mat
from q8a8.order import ORDERS
from q8a8_conformance.inputs import calls
from q8a8_conformance.inputs.calls import MUL_MAT
from q8a8_conformance.reveal import dots
from q8a8_conformance.reveal.asking import NoAnswerError
from q8a8_conformance.reveal.held import HeldRows
from q8a8_conformance.reveal.products.activations import (
    FLOATS,
    output_format,
    read_activations,
    read_longer,
)
from q8a8_conformance.reveal.products.calls import Place, Products, dot_of
from q8a8_conformance.reveal.products.elements import reveal_elements
from q8a8_conformance.reveal.products.grids import LARGE, find_weights, find_zero
from q8a8_conformance.reveal.products.regimes import BFLOAT, FLOAT, HALF, Regime, RevealedProduct
from q8a8_conformance.reveal.products.shapes import Shapes, activations, weights
from q8a8_conformance.reveal.summations import in_narrow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from q8a8.order import AnyOrder
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.reveal.products.activations import Activations
    from q8a8_conformance.reveal.quantizers.calls import AnySession

F32, F64 = np.float32, np.float64
BLOCK = 32

ACROSS = 32
"""Rows of w while the number of rows of x changes."""

REGIMES = 6
"""Regimes that are looked into at most."""

ROWS, COLUMNS = 4, 32
"""Rows of x and of w of the random products that an order is tried on."""

RESULTS = 16
"""Results of each length at least."""

LARGEST = 1 << 20
"""Elements of the matrices that an order is tried on at most."""

ROUNDOFFS = {"float32": FLOAT, "float16": HALF, "bfloat16": BFLOAT}
"""Unit roundoffs of sums, by what outputs are kept in."""

ERROR_ELEMENTS = 1024
"""Elements of the rows of which the error is taken."""


@dataclass(frozen=True)
class Extent:
    """How much is looked at.

    Attributes
    ----------
    sizes
        Rows of x, or of w, at first.
    k
        Elements of the rows of these shapes.
    calls
        Calls that reading activations takes at most, about.
    blocks
        Lengths of random rows of blocks, at most.
    elements
        Lengths of rows of which the tree of elements is found.
    """

    sizes: tuple[int, ...]
    k: int
    calls: int
    blocks: tuple[int, ...]
    elements: tuple[int, ...]


FULL = Extent(
    (*range(1, 21), 31, 32, 33, 48, 63, 64, 65, 100, 127, 128, 129, 200, 256, 257, 384, 512),
    1024,
    160,
    (*dots.SHORT, *dots.LONG),
    (32, 64, 96, 256, 288),
)
BRIEF = Extent((*range(1, 18), 33, 64, 65, 128), 256, 60, (1, 2, 3, 4, 5, 8, 13, 16, 33), (32, 64))
"""What `q8a8 reveal` looks at, and what a diagnosis has time for."""


def reveal_product(session: AnySession, extent: Extent = FULL) -> RevealedProduct:
    """Measure what a matrix product computes: `extent` says how much is looked at."""
    products = Products(session)
    result = RevealedProduct()
    try:
        _find_regimes(products, result, extent)
        for regime in result.regimes:
            _measure(regime, extent)
    except NoAnswerError as error:
        result.died = str(error)
        result.notes.append(result.died)
    result.calls = products.count
    return result


def reveal_shape(session: AnySession, n: int, extent: Extent) -> Regime:
    """Measure what a product of n rows of x computes for the first of them, and for those like it.

    No other shape is looked at.

    Raises
    ------
    NoAnswerError
        The kernel did not return.
    """
    products = Products(session)
    row, w = activations(1, extent.k), weights(ACROSS, extent.k)
    out = products(w, np.repeat(row, n, axis=0)).view(np.uint32)
    alike = (out == out[0]).all(axis=1)
    place = Place(products, ACROSS, n, tuple(np.flatnonzero(alike).tolist()), tuple(range(ACROSS)))
    regime = Regime("n", ACROSS, None, place, {n: alike})
    _measure(regime, extent)
    return regime


def _find_regimes(products: Products, result: RevealedProduct, extent: Extent) -> None:
    """Find the shapes in which the bits are the same."""
    along_n = Shapes(products, "n", ACROSS, extent.sizes, extent.k)
    if along_n.varies():
        result.notes.append("the same call gives other bits each time")
        place = Place(products, ACROSS, 1, (0,), tuple(range(ACROSS)))
        result.regimes.append(Regime("n", ACROSS, None, place))
        return
    along_n.look()
    minds_others = along_n.minds_others()
    for number in range(min(along_n.count, REGIMES)):
        rule = along_n.rule(number)
        # What rows share is seen beside others.
        n, rows = along_n.place(number, least=2 if minds_others else 1)
        place = Place(products, ACROSS, n, rows, tuple(range(ACROSS)))
        result.regimes.append(Regime("n", ACROSS, rule, place, along_n.seen(number)))
    if minds_others:
        result.notes.append("the bits of an output depend on the other rows of x")
    if along_n.count > REGIMES:
        result.notes.append(
            f"the rows of x have {along_n.count} different kinds of bits, of which six are shown"
        )
    for n in dict.fromkeys((1, result.regimes[-1].place.n)):
        along_m = Shapes(products, "m", n, extent.sizes, extent.k)
        along_m.look()
        _find_across(result.regimes, n, along_m)
        known = set(along_m.classes_of(ACROSS).tolist())
        for number in range(min(along_m.count, REGIMES)):
            if number not in known:
                rule = along_m.rule(number)
                m, columns = along_m.place(number)
                place = Place(products, m, n, tuple(range(n)), columns)
                result.regimes.append(Regime("m", n, rule, place, along_m.seen(number)))


def _find_across(regimes: Sequence[Regime], n: int, along_m: Shapes) -> None:
    """Find for which rows of w regimes of n rows of x hold, where the bits change along m."""
    if along_m.count == 1:
        return
    (number, *others) = set(along_m.classes_of(ACROSS).tolist())
    for regime in regimes:
        if regime.side == "n" and regime.place.n == n and not others:
            regime.across = along_m.rule(number)


def _measure(regime: Regime, extent: Extent) -> None:
    """Measure what is computed in a regime."""
    place = regime.place
    if _is_unwritten(place):
        regime.why = "the outputs are not written"
        return
    regime.place = place = replace(place, zero=find_zero(place))
    outputs = output_format(place)
    regime.past_half = _past_half(place) if outputs == "float16" else ""
    regime.activations = read_activations(place, extent.calls, outputs)
    longest = max(_lengths(place, extent), default=0)
    regime.longer = read_longer(place, regime.activations, outputs, longest)
    regime.error, regime.quantization_error = _errors(place)
    _measure_weights(regime, outputs)
    if regime.is_of_grids:
        _count_near(regime, outputs, extent)
        return
    if regime.activations.recipe is None:
        if regime.activations.kind != "unknown":
            regime.elements = reveal_elements(place, regime.activations, extent.elements)
            regime.of, regime.unexplained = regime.elements.of, regime.elements.unexplained
        return
    held = [_held(place, regime.activations, nb) for nb in _lengths(place, extent)]
    regime.of = regime.unexplained = sum(rows.count for rows in held)
    if regime.activations.sharing == "block" and regime.activations.half and outputs == "float32":
        dot = dots.reveal_dot(dot_of(place), MUL_MAT, tried=held)
        if dot.unexplained < dot.of:
            regime.dot, regime.unexplained = dot, dot.unexplained
            return
    regime.sums = outputs
    of_row = regime.activations.sharing == "row"
    for flaw, wrong in _arithmetics(outputs, of_row=of_row):
        counted = {name: sum(wrong(rows, order) for rows in held) for name, order in ORDERS.items()}
        if not min(counted.values()):
            regime.flaw, regime.unexplained = flaw, 0
            regime.order = tuple(name for name, count in counted.items() if not count)
            return


def _measure_weights(regime: Regime, outputs: str) -> None:
    """Find what weights become, unless that is a rounding which the tree of elements shows to the bit."""
    kept = regime.activations
    if kept is None:
        return
    alone = np.zeros((1, BLOCK), F32)
    alone[0, 0] = LARGE
    grid = find_weights(regime.place, float(kept.floats(alone)[0, 0]), outputs)
    is_in_tree = kept.kind in FLOATS and grid is not None and grid.form in FLOATS
    regime.weights = None if is_in_tree else grid


def _count_near(regime: Regime, outputs: str, extent: Extent) -> None:
    """Count the random results that are not the sums of what elements become, but for roundings."""
    place = regime.place
    rows, columns = min(ROWS, len(place.rows)), min(COLUMNS, len(place.columns))
    for nb in _lengths(place, extent):
        w, x = weights(columns, BLOCK * nb, "grid"), activations(rows, BLOCK * nb, "grid")
        near = regime.near(w, x, place.outer(w, x), ROUNDOFFS[outputs])
        regime.of += near.size
        regime.unexplained += int((~near).sum())


def _arithmetics(outputs: str, *, of_row: bool) -> Iterator[tuple[str, Callable[[HeldRows, AnyOrder], int]]]:
    """Yield arithmetics of blocks, by slug: what counts the results that an order does not give."""
    if outputs != "float32":
        for products in ("float32", outputs):
            sums = partial(in_narrow, FLOATS[outputs], FLOATS[products])
            yield "", lambda rows, order, sums=sums: rows.wrong_by(order, sums)  # type: ignore[misc]  # bound here
    else:
        yield "", lambda rows, order: rows.wrong(order)
        yield "activation-scale-first", lambda rows, order: rows.wrong(replace(order, scales="y"))
        yield "weight-scale-first", lambda rows, order: rows.wrong(replace(order, scales="x"))
        yield "fp16-scale-product", lambda rows, order: rows.wrong_by(order, _with_half_scale)
        if of_row:
            yield "activation-scale-last", _wrong_by_last_scale


def _wrong_by_last_scale(rows: HeldRows, order: AnyOrder) -> int:
    """Count the results that are not sums under the weights' scales, times the scale of a whole row."""
    sums = np.asarray(dot_rows(order, rows.qx, rows.qy, rows.dx, None))
    return int((((sums * rows.dy[:, 0]).astype(F32)).view(np.uint32) != rows.bits).sum())


def _with_half_scale(order: AnyOrder, qx: Array, qy: Array, d: Array) -> Array:
    """Add in an order, under the product of the scales rounded to a half."""
    return np.asarray(dot_rows(order, qx, qy, d.astype(np.float16).astype(F32), None))


def _is_unwritten(place: Place) -> bool:
    """Return whether outputs hold what they held before the call."""
    out = place.outer(weights(1, BLOCK), activations(1, BLOCK)).astype("<f4").tobytes()
    before = calls.poison(4 * place.m * place.n)
    return out == before[:4] and before.startswith(out)


def _past_half(place: Place) -> str:
    """Return what 127 · 1016 is where outputs are halves."""
    codes = np.zeros((1, BLOCK), np.int8)
    codes[0, 0] = 127
    x = np.full((1, BLOCK), 8 * 127, F32)
    out = float(place.by_rows(layout.pack(np.ones(1, np.float16), codes), x)[0])
    return {np.inf: "infinite", 65504.0: "65504"}.get(out, "")


def _lengths(place: Place, extent: Extent) -> list[int]:
    """Return the numbers of blocks on which an order is tried, which a product of this shape has time for."""
    return [nb for nb in extent.blocks if nb * BLOCK * max(place.n, place.m // 4) <= LARGEST]


def _held(place: Place, activations_: Activations, nb: int) -> HeldRows:
    """Multiply random rows, and return every pair of them as quantized rows with their result."""
    rows, columns = min(ROWS, len(place.rows)), min(COLUMNS, len(place.columns))
    parts = []
    for seed in range(-(-RESULTS // (rows * columns))):
        w, x = weights(columns, BLOCK * nb, seed), activations(rows, BLOCK * nb, seed)
        bits = np.ascontiguousarray(place.outer(w, x).reshape(-1), "<f4").view(np.uint32)
        dx, qx = activations_.codes(x)
        dw, qw = w["weight_scale"].astype(F32), w["weight_qs"]
        i, j = (each.reshape(-1) for each in np.meshgrid(range(rows), range(columns), indexing="ij"))
        parts.append((dw[j], dx[i], qw[j], qx[i], bits))
    return HeldRows(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _errors(place: Place) -> tuple[float, float]:
    """Return the mean error over the mean output, of the kernel and of the specification."""
    rows, columns = min(16, len(place.rows)), min(16, len(place.columns))
    w, x = weights(columns, ERROR_ELEMENTS, "error"), activations(rows, ERROR_ELEMENTS, "error")
    floats = w["weight_scale"].astype(F64)[..., np.newaxis] * w["weight_qs"]
    exact = x.astype(F64) @ floats.reshape(columns, -1).T
    mean = np.abs(exact).mean()
    return (
        float(np.abs(place.outer(w, x) - exact).mean() / mean),
        float(np.abs(mul_mat(w, x) - exact).mean() / mean),
    )
