"""What a quantizer was found to compute, as a value that gives its bytes for any input."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from q8a8.recipe import RECIPES, Recipe, apply_recipe
from q8a8.recipe_steps import LARGEST
from q8a8_conformance.reveal.quantizers.arithmetic import differences
from q8a8_conformance.reveal.quantizers.calls import BLOCK, Blocks, blocks_of
from q8a8_conformance.reveal.quantizers.structure import AS_SPECIFIED, Layout, shared_amax

if TYPE_CHECKING:
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.reveal.places import Rule

F32 = np.float32
EVERY = np.ones((2, BLOCK), np.bool_)


@dataclass(frozen=True)
class Part:
    """What happens at some places of a row (blocks), or of an activation vector (elements).

    Attributes
    ----------
    rule
        The places.
    effect
        "unwritten"; "zero"; "recipe" (another one, in `recipe`); "block-of", "codes-of", "scale-of",
        "amax-of" (the block, its codes, its stored scale, or the amax that it is computed with are
        those of the block `offset` further on); "code-of" (the code of the element `offset` further on);
        "wraps" (the block, or the code of the element, whose number is its own modulo `offset`); "codes"
        (others for some codes, in `codes`);
        "not-counted" (elements; of rows, those in `lanes`); "unwritten-bytes" (in `bytes`); "other".
    recipe, offset, bytes, codes
        What the effect needs.
    lanes
        Of rows: the elements of a block whose codes it is about; none for whole blocks.
    """

    rule: Rule
    effect: str
    recipe: Recipe | None = None
    offset: int = 0
    bytes: tuple[int, ...] = ()
    lanes: tuple[int, ...] = ()
    codes: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class QuantizerModel:
    """What a quantizer computes.

    Attributes
    ----------
    is_row
        Whether it takes blocks of 32.
    recipe
        Its arithmetic.
    layout, sharing
        Of rows: where the bytes are, and whose amax a block has (`structure`).
    counted
        Of rows: bool [2, 32], which elements count in amax, positive and negative ones.
    parts
        What is otherwise at some places.
    """

    is_row: bool
    recipe: Recipe = RECIPES["design"]
    layout: Layout = AS_SPECIFIED
    sharing: str = "own"
    counted: Array = field(default_factory=lambda: EVERY)
    parts: tuple[Part, ...] = ()

    @property
    def is_right(self) -> bool:
        """Whether it is the specification."""
        return (
            not differences(self.recipe)
            and self.layout.name == "as-specified"
            and self.sharing == "own"
            and bool(np.all(self.counted))
            and not self.parts
        )

    def predict(self, x: Array, before: Array) -> Blocks:
        """Return the blocks that it writes.

        Parameters
        ----------
        x
            Elements, float32 [n, s], that share a scale each.
        before
            What the blocks' bytes held before: uint8 [n, 2 + s].
        """
        if not len(x):
            return Blocks(before)
        amax = self.amax(x)
        h, q, _ = apply_recipe(x, self.recipe, amax)
        blocks = blocks_of(h, _converted(x, self.recipe, amax, q))
        for part in self.parts:
            blocks = self._otherwise(part, x, amax, blocks)
        data = self.layout.write(blocks).data.copy() if self.is_row else blocks.data
        for part in self.parts:
            if part.effect.startswith("unwritten"):
                self._keep(part, data, before)
        return Blocks(data)

    def _keep(self, part: Part, data: Array, before: Array) -> None:
        """Put back what was there before where a part does not write."""
        if self.is_row:
            columns = np.array(part.bytes or range(data.shape[1]))
            places = np.ix_(np.flatnonzero(part.rule.holds(len(data))), columns)
            data[places] = before[places]
        else:
            chosen = 2 + np.flatnonzero(part.rule.holds(data.shape[1] - 2))
            data[:, chosen] = before[:, chosen]

    def amax(self, x: Array) -> Array:
        """Return the amax that blocks [n, s] are quantized with: float32 [n]."""
        with np.errstate(invalid="ignore"):
            if not self.is_row:
                counted = np.ones(x.shape[1], np.bool_)
                for part in self.parts:
                    if part.effect == "not-counted":
                        counted &= ~part.rule.holds(x.shape[1])
                seen = x[:, counted]
            else:
                seen = x
                if not self.counted.all():
                    seen = np.where(np.where(x < 0, self.counted[1], self.counted[0]), x, F32(0))
                for part in self.parts:
                    if part.effect == "not-counted":
                        seen = seen.copy()
                        seen[np.ix_(np.flatnonzero(part.rule.holds(len(x))), np.array(part.lanes))] = 0
            return shared_amax(self.sharing, np.asarray(LARGEST[self.recipe.amax](seen), F32))

    def _otherwise(self, part: Part, x: Array, amax: Array, blocks: Blocks) -> Blocks:
        """Return blocks with what a part does."""
        data = blocks.data.copy()
        n = len(x) if self.is_row else x.shape[1]
        chosen = np.flatnonzero(part.rule.holds(n))
        if part.effect == "recipe" and part.recipe is not None:
            own = LARGEST[part.recipe.amax](x) if self.sharing == "own" and self.counted.all() else amax
            h, q, _ = apply_recipe(x, part.recipe, amax if not self.is_row else own)
            other = blocks_of(h, q).data
        elif part.effect == "amax-of":
            moved = np.roll(amax, -part.offset)
            h, q, _ = apply_recipe(x, self.recipe, moved)
            other = blocks_of(h, _converted(x, self.recipe, moved, q)).data
        else:
            other = _moved(part, data) if self.is_row else _moved_elements(part, data)
        if part.lanes:
            some = np.ix_(chosen, 2 + np.array(part.lanes))
            data[some] = other[some]
        elif self.is_row:
            data[chosen] = other[chosen]
        else:
            data[:, 2 + chosen] = other[:, 2 + chosen]
        return Blocks(data)


def _moved(part: Part, data: Array) -> Array:
    """Return a row's bytes where they are another block's, or others for some codes."""
    away = np.roll(data, -part.offset, axis=0)
    if part.effect == "zero":
        return np.zeros_like(data)
    if part.effect == "codes":
        table = np.arange(256, dtype=np.uint8)
        for code, stored in part.codes:
            table[code % 256] = stored % 256
        return np.concatenate([data[:, :2], table[data[:, 2:]]], axis=1)
    if part.effect == "wraps":
        return np.asarray(data[np.arange(len(data)) % max(part.offset, 1)])
    if part.effect == "code-of":
        return _moved_elements(part, data)
    scale = away if part.effect in ("block-of", "scale-of") else data
    codes = away if part.effect in ("block-of", "codes-of") else data
    return np.concatenate([scale[:, :2], codes[:, 2:]], axis=1)


def _moved_elements(part: Part, data: Array) -> Array:
    """Return bytes where codes are those of other elements."""
    if part.effect == "zero":
        return np.zeros_like(data)
    size = data.shape[1] - 2
    numbers = np.arange(size)
    if part.effect in ("code-of", "wraps"):
        numbers = (numbers + part.offset) % size if part.effect == "code-of" else numbers % part.offset
    return np.concatenate([data[:, :2], data[:, 2 + numbers]], axis=1)


def _converted(x: Array, recipe: Recipe, amax: Array, q: Array) -> Array:
    """Return codes; those outside a recipe's domain as C's conversion mostly gives them."""
    if recipe.conversion != "undefined" and not recipe.finite_scale:
        return q
    conversion = "wrap" if recipe.conversion == "undefined" else recipe.conversion
    return apply_recipe(x, replace(recipe, conversion=conversion, finite_scale=False), amax)[1]
