"""Reveal a matrix product: what it computes, and where that changes with its shape.

`product_shapes` finds the shapes and rows in which the bits of the same two rows are the same. In each such
regime: what activations become (`product_activations`); of codes, the order of additions over blocks, as of
a dot product (`dots`); of floats, the tree of single elements and its roundings (`product_elements`).
Everything is confirmed on random rows, by the reference that computes the named arithmetic.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from q8a8 import layout
from q8a8.dot import dot_rows
from q8a8.matmul import mul_mat
from q8a8.order import ORDERS
from q8a8_conformance.inputs import calls
from q8a8_conformance.inputs.calls import MUL_MAT
from q8a8_conformance.reveal.asking import NoAnswerError
from q8a8_conformance.reveal.dots import LONG, SHORT, reveal_dot
from q8a8_conformance.reveal.held import HeldRows
from q8a8_conformance.reveal.product_activations import keeps_half, read_activations
from q8a8_conformance.reveal.product_calls import Place, Products, dot_of
from q8a8_conformance.reveal.product_elements import reveal_elements
from q8a8_conformance.reveal.product_shapes import Shapes, activations, weights
from q8a8_conformance.reveal.summations import in_half

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from q8a8.order import AnyOrder
    from q8a8_conformance.reveal.dots import Revealed
    from q8a8_conformance.reveal.places import Rule
    from q8a8_conformance.reveal.product_activations import Activations
    from q8a8_conformance.reveal.product_elements import ElementSum
    from q8a8_conformance.reveal.quantizer_calls import AnySession

Array = NDArray[Any]

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

ERROR_ELEMENTS = 1024
"""Elements of the rows of which the error is taken."""


@dataclass
class Regime:
    """What a product computes in some shapes.

    Attributes
    ----------
    side, other
        "n" or "m", the size that was changed, and the other one.
    rule
        The rows and sizes, where a rule is known.
    place
        Where it was measured.
    activations
        What activations become; None where the kernel did not return.
    dot
        Of quantized activations, the order; None for a scale of the whole row.
    order, flaw, is_half
        Of codes that `dot` has no order for: names of the catalogue's orders that explain every result; the
        slug of a mistake in their terms; whether sums are kept in half precision.
    elements
        Of floats, their arithmetic.
    of, unexplained
        Random results, and those that are otherwise.
    error, quantization_error
        Mean error over the mean output, of the kernel and of the specification's quantization.
    is_infinite
        Whether sums past 65504 are infinite.
    why
        Why it could not be measured.
    """

    side: str
    other: int
    rule: Rule | None
    place: Place
    activations: Activations | None = None
    dot: Revealed | None = None
    order: tuple[str, ...] = ()
    flaw: str = ""
    is_half: bool = False
    elements: ElementSum | None = None
    of: int = 0
    unexplained: int = 0
    error: float = 0.0
    quantization_error: float = 0.0
    is_infinite: bool = False
    why: str = ""

    @property
    def where(self) -> str:
        """The shapes and rows in words."""
        if self.rule is None:
            return f"{self.side} = {self._size}"
        matrix, other = ("x", "m") if self.side == "n" else ("w", "n")
        text = re.sub("rows?", rf"\g<0> of {matrix}", self.rule.text("row", self.side), count=1)
        return f"{text}, {other} = {self.other}" if self.side == "m" else text

    @property
    def _size(self) -> int:
        return self.place.n if self.side == "n" else self.place.m

    @property
    def names(self) -> tuple[str, ...]:
        """Its slugs: ``activations:float32``, ``accumulator:float16``, ``order:avx2``."""
        names = list(self.activations.names) if self.activations else ["not-written"]
        if self.elements is not None:
            return (*names, *self.elements.names)
        if self.dot is not None:
            found = [piece.found for piece in self.dot.pieces]
            names += [f"order:{each.names[0] if each.names else 'measured'}" for each in found if each]
        if self.is_half:
            names.append("accumulator:float16")
        names += [self.flaw] if self.flaw else []
        names += [f"order:{name}" for name in self.order[:1]]
        return tuple(dict.fromkeys(names))

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON data."""
        kept = self.activations
        return {
            "where": {
                "side": self.side,
                "size": self._size,
                "m" if self.side == "n" else "n": self.other,
                "rule": self.rule.to_json() if self.rule else None,
                "text": self.where,
            },
            "names": list(self.names),
            "activations": None
            if kept is None
            else {
                "kind": kept.kind,
                "recipe": kept.recipe.name if kept.recipe else None,
                "scale_of": kept.sharing if kept.recipe else None,
                "half_scale": kept.half if kept.recipe else None,
                "elements": kept.of,
                "unexplained": kept.unexplained,
            },
            "order": self.dot.to_json() if self.dot else None,
            "elements": None
            if self.elements is None
            else {
                "bits": self.elements.bits,
                "description": self.elements.words,
                "tree": self.elements.tree(),
            },
            "results": self.of,
            "unexplained": self.unexplained,
            "error": self.error if np.isfinite(self.error) else None,
            "quantization_error": self.quantization_error,
            "infinite_past_65504": self.is_infinite,
            "why": self.why or None,
        }

    def lines(self) -> Iterator[str]:
        """Yield it as lines of text."""
        yield f"{self.where}: {', '.join(self.names) or 'not known'}"
        if self.why:
            yield f"  not measured to the end: {self.why}"
        if self.activations is None:
            return
        yield f"  {self.activations.words} ({self.activations.unexplained} of {self.activations.of} differ)"
        if self.dot is not None:
            yield from (f"  {line.strip()}" for line in self.dot.text().splitlines()[1:-2])
        if self.elements is not None:
            yield f"  {self.elements.words}"
        if self.is_infinite:
            yield "  sums past 65504 are infinite"
        yield f"  {self.of - self.unexplained} of {self.of} results of random rows have these bits"
        if self.quantization_error:
            yield (
                f"  error {self.error:.2g} of the mean output, that of quantization itself "
                f"{self.quantization_error:.2g}: {self.error / self.quantization_error:.3g} times"
            )


@dataclass
class RevealedProduct:
    """What was found about the matrix product.

    Attributes
    ----------
    regimes
        What it computes where; the first is that of a row alone.
    notes
        What else bits depend on.
    calls
        Calls made.
    """

    regimes: list[Regime] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    calls: int = 0

    @property
    def is_invariant(self) -> bool:
        """Whether the bits of an output depended on its two rows alone (Q8A8-MUL-9)."""
        return len(self.regimes) == 1 and not self.notes

    def to_json(self, blocks: int | None = None) -> dict[str, Any]:
        """Return it as JSON data; the shapes are the same for every number of blocks."""
        del blocks
        return {
            "function": MUL_MAT,
            "kind": "product",
            "names": list(dict.fromkeys(name for regime in self.regimes for name in regime.names)),
            "batch_invariant": self.is_invariant,
            "regimes": [regime.to_json() for regime in self.regimes],
            "notes": self.notes,
            "unexplained": sum(regime.unexplained for regime in self.regimes),
            "calls": self.calls,
        }

    def text(self) -> str:
        """Return it as lines of text."""
        lines = [MUL_MAT]
        lines += [f"  {line}" for regime in self.regimes for line in regime.lines()]
        lines += [f"  {note}" for note in self.notes]
        invariant = "the bits of an output depend on its two rows alone, as far as was seen"
        lines.append(f"  {invariant if self.is_invariant else 'the bits of an output depend on the shape'}")
        return "\n".join([*lines, f"  {self.calls} calls", ""])

    def svg(self, blocks: int | None = None, *, alone: bool = False) -> str:
        """Draw the first order over blocks; empty where there is none."""
        drawings = (regime.dot.svg(blocks, alone=alone) for regime in self.regimes if regime.dot)
        return next(filter(None, drawings), "")


def reveal_product(session: AnySession) -> RevealedProduct:
    """Measure what a matrix product computes.

    Parameters
    ----------
    session
        With the kernel.
    """
    products = Products(session)
    result = RevealedProduct()
    try:
        _find_regimes(products, result)
        for regime in result.regimes:
            _measure(regime)
    except NoAnswerError as error:
        result.notes.append(str(error))
    result.calls = products.count
    return result


def _find_regimes(products: Products, result: RevealedProduct) -> None:
    """Find the shapes in which the bits are the same."""
    along_n = Shapes(products, "n", ACROSS)
    if along_n.varies():
        result.notes.append("the same call gives other bits each time")
        place = Place(products, ACROSS, 1, (0,), tuple(range(ACROSS)))
        result.regimes.append(Regime("n", ACROSS, None, place))
        return
    along_n.look()
    for number in range(min(along_n.count, REGIMES)):
        rule = along_n.rule(number)
        n, rows = along_n.place(number)
        place = Place(products, ACROSS, n, rows, tuple(range(ACROSS)))
        result.regimes.append(Regime("n", ACROSS, rule, place))
    if along_n.count > REGIMES:
        result.notes.append(
            f"the rows of x have {along_n.count} different kinds of bits, of which six are shown"
        )
    for n in dict.fromkeys((1, result.regimes[-1].place.n)):
        along_m = Shapes(products, "m", n)
        along_m.look()
        known = set(along_m.classes_of(ACROSS).tolist())
        for number in range(min(along_m.count, REGIMES)):
            if number not in known:
                rule = along_m.rule(number)
                m, columns = along_m.place(number)
                place = Place(products, m, n, tuple(range(n)), columns)
                result.regimes.append(Regime("m", n, rule, place))


def _measure(regime: Regime) -> None:
    """Measure what is computed in a regime."""
    place = regime.place
    if _is_unwritten(place):
        regime.why = "the outputs are not written"
        return
    is_half = keeps_half(place)
    regime.is_infinite = is_half and _overflows(place)
    regime.activations = read_activations(place, is_half=is_half)
    regime.error, regime.quantization_error = _errors(place)
    if regime.activations.recipe is None:
        if regime.activations.kind != "unknown":
            regime.elements = reveal_elements(place, regime.activations)
            regime.of, regime.unexplained = regime.elements.of, regime.elements.unexplained
        return
    held = [_held(place, regime.activations, nb) for nb in _lengths(place)]
    regime.of = regime.unexplained = sum(rows.count for rows in held)
    if regime.activations.sharing == "block" and regime.activations.half and not is_half:
        dot = reveal_dot(dot_of(place), MUL_MAT, tried=held)
        if dot.unexplained < dot.of:
            regime.dot, regime.unexplained = dot, dot.unexplained
            return
    regime.is_half = is_half
    for regime.flaw, wrong in _arithmetics(is_half=is_half):
        counted = {name: sum(wrong(rows, order) for rows in held) for name, order in ORDERS.items()}
        if not min(counted.values()):
            regime.unexplained = 0
            regime.order = tuple(name for name, count in counted.items() if not count)
            return
    regime.flaw = ""


def _arithmetics(*, is_half: bool) -> Iterator[tuple[str, Callable[[HeldRows, AnyOrder], int]]]:
    """Yield arithmetics of blocks, by slug: what counts the results that an order does not give."""
    if is_half:
        yield "", lambda rows, order: rows.wrong_by(order, in_half)
        return
    yield "", lambda rows, order: rows.wrong(order)
    yield "fp16-scale-product", lambda rows, order: rows.wrong_by(order, _with_half_scale)


def _with_half_scale(order: AnyOrder, qx: Array, qy: Array, d: Array) -> Array:
    """Add in an order, under the product of the scales rounded to a half."""
    return np.asarray(dot_rows(order, qx, qy, d.astype(np.float16).astype(F32), None))


def _is_unwritten(place: Place) -> bool:
    """Return whether outputs hold what they held before the call."""
    out = place.outer(weights(1, BLOCK), activations(1, BLOCK)).astype("<f4").tobytes()
    before = calls.poison(4 * place.m * place.n)
    return out == before[:4] and before.startswith(out)


def _overflows(place: Place) -> bool:
    """Return whether 127 · 1016 is infinite."""
    codes = np.zeros((1, BLOCK), np.int8)
    codes[0, 0] = 127
    x = np.full((1, BLOCK), 8 * 127, F32)
    return bool(np.isinf(place.by_rows(layout.pack(np.ones(1, np.float16), codes), x)[0]))


def _lengths(place: Place) -> list[int]:
    """Return the numbers of blocks on which an order is tried, which a product of this shape has time for."""
    return [nb for nb in (*SHORT, *LONG) if nb * BLOCK * max(place.n, place.m // 4) <= LARGEST]


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
