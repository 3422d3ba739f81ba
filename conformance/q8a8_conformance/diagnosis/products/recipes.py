"""What activations become in some blocks or outputs of a product: other recipes, and other amaxes.

The same laws as of other terms (`laws`), of rows of which recipes make different codes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8.recipe import RECIPES, apply_recipe
from q8a8.rounding import round_half_away
from q8a8_conformance.diagnosis.causes import DIFFERENCES
from q8a8_conformance.diagnosis.products.effects import Effect
from q8a8_conformance.diagnosis.products.rules import RowFormula
from q8a8_conformance.diagnosis.products.terms import Measuring
from q8a8_conformance.inputs import calls, dot_rows
from q8a8_conformance.reveal.products.activations import DIVISION, EVEN, FLOATS, TORCHAO, Activations
from q8a8_conformance.reveal.products.shapes import telling_blocks
from q8a8_conformance.reveal.quantizers.words import ranges

if TYPE_CHECKING:
    from collections.abc import Iterator

    from q8a8.recipe import Recipe as Steps
    from q8a8_conformance.diagnosis.products.rules import Shape
    from q8a8_conformance.diagnosis.products.terms import Side
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.reveal.quantizers.calls import AnySession

F32 = np.float32

DESIGN = RECIPES["design"]
OTHER = "another"
"""The name of a recipe with another step."""
SLACK = 2.0**-24
"""What roundings leave of a term, beside a magnitude that few have."""

TOLD = 100
"""Blocks of which rows are made: those that tell most recipes apart."""

_STEPS = {
    "rounding": (
        *("truncate", "floor", "ceil", "half-up", "half-down", "half-toward-zero", "add-half"),
        *("floor-add-half", "truncate-add-half", "offset-add-half"),
    ),
    "inverse": ("1/half", "x/half", "127*(1/amax)", "127/amax-estimated", "127/amax-in-half"),
    "half": ("truncated", "up", "bfloat16", "integer"),
    "divisor": (128.0, 127.5, 126.0),
    "amax": ("largest", "minus-smallest", "upper-sixteen-bits"),
    "scale": ("upper-sixteen-bits",),
    "code_limits": ((-128, 126), (-127, 126), (-126, 126)),
}
"""Steps of the specification's recipe that may be others; several of 128 set both of its numbers."""

_SUMS = {
    "floor-add-half": "floor(x * inv + 0.5), with the sum in float32: halves go up",
    "truncate-add-half": "trunc(x * inv + 0.5): negative products are not rounded to the nearest",
    "offset-add-half": "trunc(x * inv + 128.5) - 128, with the sum in float32: halves go up",
}
"""Roundings by which codes are sums without their fractions, as formulas."""

_COUNTED = {
    "the first 16 elements": slice(16),
    "the last 16 elements": slice(16, 32),
    "the first 8 elements": slice(8),
    "the first 31 elements": slice(31),
    "the last 31 elements": slice(1, 32),
    "every other element": slice(0, 32, 2),
    "the first 24 elements": slice(24),
    "the first 4 elements": slice(4),
}
"""Elements of a block of which alone the amax may be."""


_SIGNED = {
    "the largest element of a block": np.float32(1),
    "the smallest element of a block, negated": np.float32(-1),
}
"""Elements of a block that may be taken for its amax, with the sign that they get; 0 at least."""


@dataclass(frozen=True)
class OtherAmax:
    """Codes under another amax than a block's own.

    Attributes
    ----------
    of
        Which, in words.
    formula
        The block of which it is, or None for some elements of the same.
    is_larger
        Whether it is the larger one of it and its own.
    is_wrapped
        Whether codes beyond int8 wrap; else they are clipped.
    elements
        The elements of a block of which it is, where these were asked for one by one; else `of` names them.
    limits
        The least and the greatest code of those that are clipped.
    """

    of: str
    formula: RowFormula | None = None
    is_larger: bool = False
    is_wrapped: bool = False
    elements: tuple[int, ...] = ()
    limits: tuple[int, int] = (-127, 127)

    @property
    def words(self) -> str:
        """What activations become, as a clause."""
        if self.of in _SIGNED:
            return f"activations are quantized under {self.of}, not under the largest magnitude"
        if self.formula is None:
            return f"activations are quantized under the amax of {self.of} of a block alone"
        larger = f"the larger amax of block b and block {self.of}"
        return (
            f"activations are quantized under {larger if self.is_larger else f'the amax of block {self.of}'}"
        )

    def codes(self, x: Array) -> Side:
        """Quantize rows, float32 [n, k]: codes [n, nb, 32] and scales float64 [n, nb]."""
        shaped = x.reshape(len(x), -1, 32)
        blocks = np.abs(shaped)
        own = blocks.max(axis=2)
        if self.of in _SIGNED:
            amax = np.maximum((_SIGNED[self.of] * shaped).max(axis=2), 0)
        elif self.formula is None:
            amax = blocks[..., self.elements or _COUNTED[self.of]].max(axis=2)
        else:
            at = self.formula.of(np.arange(own.shape[1]), own.shape[1])
            amax = own[:, np.clip(at, 0, own.shape[1] - 1)]
        amax = np.maximum(amax, own) if self.is_larger else amax
        with np.errstate(all="ignore"):
            scaled = shaped * (F32(127) / amax)[..., np.newaxis]
            q = round_half_away(np.nan_to_num(scaled))
        q = (q + 128) % 256 - 128 if self.is_wrapped else np.clip(q, *self.limits)
        return q, (amax / F32(127)).astype(np.float16).astype(np.float64)


PERIOD = 8
"""Rows of which each has one element asked for: some may be quantized otherwise than the rest."""


def measured_amaxes(session: AnySession) -> Iterator[OtherAmax]:
    """Yield the elements of which rows take their amax, one by one asked for, where not all of them count.

    A row holds 127 and, at another place, twice as much, or as much below zero: where that does not count,
    127 keeps its code, and the other's is out of range.
    """
    seen = set()
    for nb, block in ((1, 0), (8, 0), (8, 7)):
        up, down = (_codes_beside(session, nb, block, sign) for sign in (1.0, -1.0))
        for own, twice, below in zip(up[..., 0].T, up[..., 1].T, down[..., 1].T, strict=True):
            elements = tuple(np.flatnonzero(own != 127).tolist())
            others = [j for j in range(32) if j not in elements]
            limits = {*zip(below[others].tolist(), twice[others].tolist(), strict=True)}
            if not elements or len(limits) != 1 or (elements, *limits) in seen:
                continue
            seen.add((elements, *limits))
            (least, greatest) = limits.pop()
            wraps = (least, greatest) == (2, -2)
            range_ = (-127, 127) if wraps else (int(least), int(greatest))
            words = f"elements {ranges(elements)}" if len(elements) > 1 else f"element {elements[0]}"
            yield OtherAmax(words, None, False, wraps, elements, range_)


def _codes_beside(session: AnySession, nb: int, block: int, sign: float) -> Array:
    """Return the codes of 127 and of twice as much, by the latter's element and by row: [32, PERIOD, 2]."""
    element, row = np.arange(32).repeat(PERIOD), np.arange(32 * PERIOD)
    x, w = np.zeros((32 * PERIOD, nb, 32), F32), np.zeros((32, nb, 32), np.int64)
    beside = (element + 16) % 32
    x[row, :, beside], x[row, :, element] = F32(127), F32(254 * sign)
    w[:, block] = np.eye(32)
    call = calls.mul_mat(dot_rows.blocks(np.ones((32, nb)), w), x.reshape(len(x), -1))
    out = np.frombuffer(session.call(call).outputs[0], "<f4").reshape(len(x), 32)
    return np.stack([out[row, beside], out[row, element]], axis=1).reshape(32, PERIOD, 2)


@dataclass(frozen=True)
class Recipe:
    """Activations as `Activations` has them, with their codes and scales as terms have them."""

    of: Activations

    def codes(self, x: Array) -> Side:
        """Quantize rows, float32 [n, k], or keep them: codes [n, nb, 32] and scales float64 [n, nb]."""
        if self.of.recipe is None:
            shaped = self.of.floats(x).reshape(len(x), -1, 32).astype(np.float64)
            return shaped, np.ones(shaped.shape[:2])
        if self.of.half and self.of.sharing == "block":
            with np.errstate(all="ignore"):
                h, q, _ = apply_recipe(np.ascontiguousarray(x.reshape(len(x), -1, 32)), self.of.recipe)
            return q, h.astype(np.float64)
        scale, q = self.of.codes(x)
        return q, scale.astype(np.float64)

    @property
    def words(self) -> str:
        """What activations become, as a clause."""
        kept, recipe = self.of, self.of.recipe
        if recipe is None:
            return f"activations stay {kept.kind}, and are not quantized"
        if recipe.name in DIFFERENCES:
            return f"activations are quantized by another recipe, {DIFFERENCES[recipe.name]}"
        if f"recipe:{recipe.name}" in DIFFERENCES:
            words = DIFFERENCES[f"recipe:{recipe.name}"]
            return f"activations are quantized by the recipe {recipe.name}, {words}"
        if not kept.half:
            return "the scale of activations is not rounded to a half"
        if kept.sharing != "block":
            shared = "a whole row" if kept.sharing == "row" else f"{kept.sharing} elements"
            return f"activations have one scale for {shared}"
        return _step_words(recipe)


def _step_words(recipe: Steps) -> str:
    """Return what activations become by another step, or some, as a clause."""
    if recipe == replace(DESIGN, name=OTHER, rounding=recipe.rounding) and recipe.rounding in _SUMS:
        return f"codes of activations are {_SUMS[recipe.rounding]}"
    own = [f"{each.name} = {getattr(recipe, each.name)}" for each in fields(recipe)[1:]]
    other = [f"{each.name} = {getattr(DESIGN, each.name)}" for each in fields(recipe)[1:]]
    changed = [pair for pair in zip(own, other, strict=True) if len({*pair}) > 1 and "source" not in pair[0]]
    with_, not_ = (", ".join(side) for side in zip(*changed, strict=True))
    return f"activations are quantized with {with_}, not {not_}"


def is_unnamed(effect: Effect) -> bool:
    """Return whether activations become what has no name of its own: a step of the recipe is another."""
    kept = effect.kept
    if isinstance(kept, OtherAmax):
        return True
    recipe = kept.of.recipe if isinstance(kept, Recipe) else None
    return recipe is not None and recipe.name == OTHER


def recipe_effects() -> Iterator[Effect]:
    """Yield what activations may become, the most usual first."""
    every = [Activations("int8", DESIGN, half=False), Activations("int8", EVEN)]
    every += [Activations("int8", each) for each in (*list(RECIPES.values())[1:], DIVISION, TORCHAO)]
    for step, values in _STEPS.items():
        others: Iterator[dict[str, Any]] = ({step: value} for value in values)
        every += [Activations("int8", replace(DESIGN, name=OTHER, **other)) for other in others]
    every.append(Activations("int8", replace(DESIGN, name=OTHER, divisor=128.0, multiplier=128.0)))
    every += [Activations("int8", DESIGN, sharing) for sharing in ("64", "128", "256", "row")]
    every += [Activations(kind) for kind in FLOATS]
    yield from (Effect("recipe", kept=Recipe(each)) for each in every)
    for wraps in (False, True):
        yield from (
            Effect("recipe", kept=OtherAmax(words, None, False, wraps)) for words in (*_COUNTED, *_SIGNED)
        )
        for words, function, t in _BLOCKS:
            formula = RowFormula(words, function, t)
            for larger in (False, True):
                yield Effect("recipe", kept=OtherAmax(formula.text("b", "nb"), formula, larger, wraps))


_BLOCKS = (
    ("{i} - 1", lambda i, _n, _t: i - 1, 1),
    ("{i} + 1", lambda i, _n, _t: i + 1, 1),
    ("0", lambda i, _n, _t: 0 * i, 0),
    ("{n} - 1", lambda i, n, _t: 0 * i + n - 1, 0),
    *(("{i} - {i} % {t}", lambda i, _n, t: i - i % t, t) for t in (2, 4, 8, 16)),
)
"""Blocks whose amax may be taken: words, a function and its number."""


class TellingMeasuring(Measuring):
    """Measures terms of rows of which recipes make different codes."""

    slack = SLACK
    sides = "w"
    _measured: list[Effect] | None = None

    def effects(self) -> list[Effect]:
        """Return what activations may become; what has no usual name last, as it was asked for."""
        if self._measured is None:
            self._measured = [Effect("recipe", kept=one) for one in measured_amaxes(self._session)]
        return [*recipe_effects(), *self._measured]

    def operands(self, shape: Shape) -> tuple[Side, Array]:
        """Return codes and scales of w, and the elements of x, float32 [n, 32·nb]."""
        m, n, nb = shape
        rng = dot_rows.generator("telling", m, nb)
        w = rng.integers(-40, 41, (m, nb, 32)).astype(np.int8), np.ones((m, nb))
        blocks = telling_blocks()[:TOLD]
        # (What shows in a row of one shape does so in any.)
        rows = [dot_rows.generator("telling", i).permutation(blocks[i % len(blocks)]) for i in range(n)]
        chosen = np.array(rows)[:, np.newaxis] * np.exp2(rng.integers(0, 3, (n, nb, 1)))
        # (What is made of the largest element must not hide that it takes no magnitudes.)
        chosen *= rng.choice([-1, 1], (n, nb, 1))
        return w, chosen.astype(F32).reshape(n, -1)
