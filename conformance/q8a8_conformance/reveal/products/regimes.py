"""What was revealed of a matrix product: its regimes, as names, text and JSON data."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.inputs.calls import MUL_MAT
from q8a8_conformance.results.record import count
from q8a8_conformance.reveal.quantizers.words import runs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.reveal.dots import Revealed
    from q8a8_conformance.reveal.grids import Grid
    from q8a8_conformance.reveal.places import Rule
    from q8a8_conformance.reveal.products.activations import Activations
    from q8a8_conformance.reveal.products.calls import Place
    from q8a8_conformance.reveal.products.elements import ElementSum

BLOCK = 32

BFLOAT, HALF, FLOAT = 2.0**-8, 2.0**-11, 2.0**-24
"""Unit roundoffs."""

LARGEST_HALF = 65504.0

TWO = 2
"""Sizes that follow each other and are written one by one."""


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
    seen
        Which rows of the sizes looked at are in it: bool [size] by size.
    across
        For rows of x: the rows of w with which it is so; None for all.
    activations
        What activations become; None where the kernel did not return.
    longer
        The number of blocks from which on activations become something else, and what; None for none.
    weights
        What weights become, where they are not multiplied as they are.
    dot
        Of quantized activations, the order; None for a scale of the whole row.
    order, flaw, sums
        Of codes that `dot` has no order for: names of the catalogue's orders that explain every result; the
        slug of a mistake in their terms; what sums are kept in.
    elements
        Of floats, their arithmetic.
    of, unexplained
        Random results, and those that are otherwise.
    error, quantization_error
        Mean error over the mean output, of the kernel and of the specification's quantization.
    past_half
        What sums past 65504 are: "infinite", "65504", or empty where they are themselves.
    why
        Why it could not be measured.
    """

    side: str
    other: int
    rule: Rule | None
    place: Place
    seen: Mapping[int, Array] = field(default_factory=dict)
    across: Rule | None = None
    activations: Activations | None = None
    longer: tuple[int, Activations] | None = None
    weights: Grid | None = None
    dot: Revealed | None = None
    order: tuple[str, ...] = ()
    flaw: str = ""
    sums: str = "float32"
    elements: ElementSum | None = None
    of: int = 0
    unexplained: int = 0
    error: float = 0.0
    quantization_error: float = 0.0
    past_half: str = ""
    why: str = ""

    @property
    def where(self) -> str:
        """The shapes and rows in words."""
        matrix, other = ("x", "m") if self.side == "n" else ("w", "n")
        if self.rule is None:
            text = _sizes_text(self.side, matrix, self.seen) or f"{self.side} = {self._size}"
            return f"{text}, {other} = {self.other}" if self.side == "m" else text
        text = re.sub("rows?", rf"\g<0> of {matrix}", self.rule.text("row", self.side), count=1)
        if self.across is not None:
            of_w = re.sub("rows?", r"\g<0> of w", self.across.text("row", "m"), count=1)
            text = f"{text}, by {of_w}"
        return f"{text}, {other} = {self.other}" if self.side == "m" else text

    def rows(self, size: int) -> Array:
        """Return which rows of a size are in it, by the rule, or else as it was seen: bool [size]."""
        if self.rule is not None:
            return self.rule.holds(size)
        return self.seen[size] if size in self.seen else np.zeros(size, np.bool_)

    @property
    def is_of_grids(self) -> bool:
        """Whether elements become other numbers (`grids`); no order is looked for then."""
        return self.weights is not None or (
            self.activations is not None and self.activations.grid is not None
        )

    def near(self, w: Array, x: Array, out: Array, u: float) -> Array:
        """Return which outputs [n, m] are those of the elements that are multiplied, but for roundings.

        Parameters
        ----------
        w, x, out
            Blocks [m, nb], float32 [n, 32·nb] and the outputs.
        u
            The unit roundoff of the sums.
        """
        kept = self.longer[1] if self.longer and w.shape[1] >= self.longer[0] else self.activations
        scales = np.repeat(w["weight_scale"].astype(np.float64), BLOCK, axis=1)
        weights = scales * w["weight_qs"].reshape(len(w), -1)
        with np.errstate(all="ignore"):
            if self.weights is not None:
                weights = self.weights.floats(weights.astype(np.float32), scales)
            floats = (x if kept is None else kept.floats(x)).astype(np.float64)
            exact, magnitude = floats @ weights.T, np.abs(floats) @ np.abs(weights).T
            near = np.abs(out - exact) <= (x.shape[1] + 8) * u * magnitude
            # Beyond the range of halves, of single products, too.
            return np.asarray(near | (~(magnitude < LARGEST_HALF) if u == HALF else False))

    @property
    def _size(self) -> int:
        return self.place.n if self.side == "n" else self.place.m

    @property
    def names(self) -> tuple[str, ...]:
        """Its slugs: ``activations:float32``, ``accumulator:float16``, ``order:avx2``."""
        names = list(self.activations.names) if self.activations else ["not-written"]
        names += self.longer[1].names if self.longer else ()
        names += [f"weights:{self.weights.name}"] if self.weights else []
        if self.elements is not None:
            return (*names, *self.elements.names)
        if self.dot is not None:
            found = [piece.found for piece in self.dot.pieces]
            if self.dot.summation:
                names.append(self.dot.summation.cause)
            else:
                names += [f"order:{each.names[0] if each.names else 'measured'}" for each in found if each]
        if self.sums != "float32":
            names.append(f"accumulator:{self.sums}")
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
            "longer": {"blocks": self.longer[0], "names": list(self.longer[1].names)}
            if self.longer
            else None,
            "weights": None
            if self.weights is None
            else {
                "kind": self.weights.name,
                "elements": self.weights.of,
                "unexplained": self.weights.unexplained,
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
            "past_65504": self.past_half or None,
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
        if self.longer is not None:
            yield f"  from {self.longer[0]} blocks on: {self.longer[1].words}"
        if self.weights is not None:
            yield f"  weights {self.weights.words} ({self.weights.unexplained} of {self.weights.of} differ)"
        if self.dot is not None:
            yield from (f"  {line.strip()}" for line in self.dot.text().splitlines()[1:-2])
        if self.elements is not None:
            yield f"  {self.elements.words}"
        if self.past_half:
            yield f"  sums past 65504 are {self.past_half}"
        what = "are these sums, but for their roundings" if self.is_of_grids else "have these bits"
        yield f"  {self.of - self.unexplained} of {self.of} results of random rows {what}"
        if self.quantization_error:
            yield (
                f"  error {self.error:.2g} of the mean output, that of quantization itself "
                f"{self.quantization_error:.2g}: {self.error / self.quantization_error:.3g} times"
            )


def _sizes_text(side: str, matrix: str, seen: Mapping[int, Array]) -> str:
    """Return the sizes seen in words, where no rule says which they are."""
    whole = [size for size, rows in seen.items() if rows.all()]
    some = [size for size, rows in seen.items() if rows.any() and not rows.all()]
    texts = [f"every row of {matrix} where {side} = {_ranges(whole, seen)}"] if whole else []
    texts += [f"some rows of {matrix} where {side} = {_ranges(some, seen)}"] if some else []
    return f"{' and '.join(texts)}, of the sizes looked at" if texts else ""


def _ranges(sizes: Sequence[int], seen: Mapping[int, Array]) -> str:
    """Return sizes, three and more that follow each other among those looked at as "9 to 12"."""
    order = list(seen)
    found = [[order[place] for place in run] for run in runs([order.index(size) for size in sizes])]
    return ", ".join(
        f"{run[0]} to {run[-1]}" if len(run) > TWO else ", ".join(map(str, run)) for run in found
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
    died
        Why the experiments ended early: a call did not return. It is a note, too.
    calls
        Calls made.
    """

    regimes: list[Regime] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    died: str = ""
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
            "died": self.died or None,
        }

    def text(self) -> str:
        """Return it as lines of text."""
        lines = [MUL_MAT]
        lines += [f"  {line}" for regime in self.regimes for line in regime.lines()]
        lines += [f"  {note}" for note in self.notes]
        if sum(regime.side == "n" for regime in self.regimes) > 1:
            lines.append("  a prompt of many rows and a token of one row are not computed alike")
        if self.is_invariant:
            lines.append("  the bits of an output depend on its two rows alone, as far as was seen")
        elif len(self.regimes) > 1:
            lines.append("  the bits of an output depend on the shape")
        return "\n".join([*lines, f"  {count(self.calls, 'call')}", ""])

    def svg(self, blocks: int | None = None, *, alone: bool = False) -> str:
        """Draw the first order over blocks; empty where there is none."""
        drawings = (regime.dot.svg(blocks, alone=alone) for regime in self.regimes if regime.dot)
        return next(filter(None, drawings), "")
