"""What a matrix product makes of its activations before it multiplies: floats of some precision, or codes.

A row of weights with a single 1 gives back what became of one element: under a recipe `h * q`, exactly, and
else the element as it was rounded. The elements lie next to ties between codes, where recipes differ; the
second block of each row has other magnitudes, so that one scale for a row shows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from q8a8 import layout
from q8a8.recipe import RECIPES, quantize_blocks
from q8a8_conformance.inputs import blocks as block_sets
from q8a8_conformance.reveal.products.grids import MISSED, NEAR, Side, find_grid, find_group

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from q8a8.recipe import Recipe
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.reveal.grids import Grid
    from q8a8_conformance.reveal.products.calls import Place

F32, F16 = np.float32, np.float16
BLOCK = 32

EVEN = replace(RECIPES["design"], name="round-half-even", rounding="half-even")
"""The specification's recipe but for halves to even, a mistake that is common enough to have a name."""

DIVISION = replace(
    RECIPES["division"], name="division-half-even", rounding="half-even", conversion="saturate"
)
"""Division by d, rounded to even and kept in range: QuantizeLinear of ONNX, and what is written like it."""

TORCHAO = replace(
    RECIPES["ggml-neon"],
    name="torchao",
    zero_test="none",
    conversion="saturate",
    divisor=127.5,
    floor=2.0**-23,
)
"""torchao's `choose_qparams_affine` and `quantize_affine`: scales of amax/127.5, no smaller than 2^-23."""

FEW = 4
"""Rows of which it is seen whether activations of longer rows become something else."""

ORDINARY = 2.0**-10, 2.0**13
"""The values of amax that are looked at: nothing is subnormal in half precision, nothing infinite."""


def bfloat16(x: Array) -> Array:
    """Round float32 to the upper sixteen bits, ties to even."""
    bits = np.ascontiguousarray(x, F32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)).view(F32)


NARROW = float(F16(127 * 127))

FLOATS: Mapping[str, Callable[[Array], Array]] = {
    "float32": lambda x: x,
    "float16": lambda x: x.astype(F16).astype(F32),
    "bfloat16": bfloat16,
    "tensor-float32": lambda x: (
        np.ascontiguousarray(x, F32).view(np.uint32) + 0xFFF + 1 & np.uint32(0xFFFFE000)
    ).view(F32),
}
"""Formats that elements may be kept in, as roundings of float32."""


@dataclass(frozen=True)
class Activations:
    """What activations become.

    Attributes
    ----------
    kind
        A name of `FLOATS`, "int8", the name of a grid or "unknown".
    recipe
        Of codes: the recipe, or None.
    sharing
        Of codes: "block" or "row", the elements that share a scale, or their number.
    half
        Of codes: whether the scale is stored as a half.
    grid
        The numbers that elements are rounded to, where it is neither a recipe nor a name of `FLOATS`.
    factor
        What a weight of one becomes, with which elements are read.
    of, unexplained
        Elements that were read, and those that are otherwise.
    """

    kind: str
    recipe: Recipe | None = None
    sharing: str = "block"
    half: bool = True
    grid: Grid | None = None
    factor: float = 1.0
    of: int = 0
    unexplained: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """Its slugs: ``activations:float32``, ``recipe:ggml-avx2``."""
        if self.recipe is None:
            return (f"activations:{self.kind}",)
        names = [f"recipe:{self.recipe.name}" if self.recipe.name in RECIPES else self.recipe.name]
        if self.sharing != "block":
            names.insert(0, f"activations:int8-per-{self.sharing}")
        if not self.half:
            names.append("activation-scale:float32")
        return tuple(names)

    @property
    def words(self) -> str:
        """What it is, in words."""
        if self.kind == "unknown":
            return "activations become something that is not known"
        if self.grid is not None:
            return f"activations {self.grid.words}"
        if self.recipe is None:
            return f"activations are kept in {self.kind}, and not quantized"
        shared = {"block": "32 elements", "row": "a whole row"}.get(self.sharing, f"{self.sharing} elements")
        return (
            f"activations are quantized to int8, with a scale for {shared}"
            f"{'' if self.half else ' that is not rounded to a half'}, by the recipe {self.recipe.name}"
        )

    def codes(self, x: Array) -> tuple[Array, Array]:
        """Quantize rows, float32 [n, k]: scales float32 [n, nb] and codes int8 [n, nb, 32]."""
        n, k = x.shape
        size = {"block": BLOCK, "row": k}.get(self.sharing) or int(self.sharing)
        shaped = np.pad(x, ((0, 0), (0, -k % size))).reshape(n, -1, size)
        h, q = quantize_blocks(np.ascontiguousarray(shaped), self.recipe or "design")
        scale = h.astype(F32)
        if not self.half:
            recipe = self.recipe or RECIPES["design"]
            quotient = np.abs(shaped).max(axis=2) / F32(recipe.divisor)
            scale = np.maximum(quotient, recipe.floor).astype(F32)
        of_element = np.repeat(scale, size, axis=1)[:, :k]
        return np.ascontiguousarray(of_element[:, ::BLOCK]), q.reshape(n, -1)[:, :k].reshape(n, -1, BLOCK)

    def floats(self, x: Array) -> Array:
        """Return rows, float32 [n, k], as they are multiplied: float32."""
        if self.grid is not None:
            return self.grid.floats(x)
        if self.recipe is None:
            return np.asarray(FLOATS.get(self.kind, FLOATS["float32"])(x))
        scale, q = self.codes(x)
        return np.asarray((scale[:, :, np.newaxis] * q.astype(F32)).reshape(x.shape))


def _hypotheses() -> Iterator[Activations]:
    """Yield what activations may become, the most usual first."""
    for sharing in ("block", "row"):
        for half in (True, False):
            yield from (
                Activations("int8", recipe, sharing, half)
                for recipe in (*RECIPES.values(), EVEN, DIVISION, TORCHAO)
            )
    yield from (Activations(name) for name in FLOATS)


def output_format(place: Place) -> str:
    """Return what outputs are kept in: "float32", "float16" or "bfloat16".

    127 · 127, exact by any recipe, is 16128 in eleven bits, and in eight; and 9 · 127 is 1144 in eight.
    """
    x = np.full((1, BLOCK), 127, F32)
    made = (float(place.by_rows(_weights(code), x)[0]) for code in (127, 9))
    if next(made) != NARROW:
        return "float32"
    return "bfloat16" if next(made) == float(bfloat16(np.array([9 * 127.0]))[0]) else "float16"


def read_activations(place: Place, calls: int, outputs: str) -> Activations:
    """Find out what activations become at a place, by about so many calls at most.

    It is seen in no more bits than outputs are kept in (`output_format`).
    """
    per_call = -(-BLOCK // len(place.columns))
    x = _rows(max(calls // per_call, 1) * len(place.rows))
    actual = place.elements(x)
    hypotheses = list(_hypotheses())
    if outputs != "float32" and not _keeps_more(place):
        # What is seen in eleven bits, or in eight, was kept in no more.
        more = {"float32"} if outputs == "float16" else set(FLOATS) - {outputs}
        hypotheses = [each for each in hypotheses if each.kind not in more]
    factor = _factor(place)
    found = _first(hypotheses, x, actual, outputs)
    if found.kind == "unknown" and factor != 1:
        hypotheses = [replace(each, factor=factor) for each in hypotheses]
        found = _first(hypotheses, x, actual, outputs)
    if (found.kind == "unknown" and factor) or found.sharing == "row":
        return _of_group(place, found, factor, outputs)
    return found


def _factor(place: Place) -> float:
    """Return what a weight of one becomes: 1 in most products, and 0 where that is not known.

    127 alone is kept by every recipe, and 96 by narrow floats.
    """
    alone = np.zeros((2, BLOCK), F32)
    alone[:, 0] = 127, 96
    factors = (place.by_rows(_weights(1), alone).astype(np.float64) / alone[:, 0]).tolist()
    return 1.0 if 1 in factors else factors[0] if np.isfinite(factors[0]) else 0.0


def _weights(code: int) -> Array:
    """Return a block of weights with a single code."""
    codes = np.zeros((1, BLOCK), np.int8)
    codes[0, 0] = code
    return layout.pack(np.ones(1, F16), codes)


def _of_group(place: Place, found: Activations, factor: float, outputs: str) -> Activations:
    """Return what activations become whose scale is that of another number of elements, if that is known."""
    side = Side(place, factor)
    group = find_group(side)
    if found.kind != "unknown":
        is_blocks = group is not None and group > BLOCK and group % BLOCK == 0
        return replace(found, sharing=str(group)) if is_blocks else found
    grid = None if group is None else find_grid(side, group, outputs)
    if grid is None:
        return found
    return Activations(grid.name, grid=grid, factor=factor, of=grid.of, unexplained=grid.unexplained)


def read_longer(
    place: Place, kept: Activations, outputs: str, longest: int
) -> tuple[int, Activations] | None:
    """Find from which number of blocks on, up to `longest`, activations become something else, and what.

    None where it is what they become in short rows, `kept`, or nothing that is known.
    """
    few = _rows(FEW)

    def at(nb: int) -> Array:
        return np.ascontiguousarray(np.tile(few, (1, -(-nb // 2)))[:, : BLOCK * nb])

    def differs(nb: int) -> bool:
        return not _agrees(kept, at(nb), place.elements(at(nb)), outputs)

    least, most = 2, longest
    if kept.kind == "unknown" or most <= least or not differs(most):
        return None
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (least, middle) if differs(middle) else (middle, most)
    found = _first(list(_hypotheses()), at(most), place.elements(at(most)), outputs)
    return None if found.kind == "unknown" else (most, found)


def _first(hypotheses: list[Activations], x: Array, actual: Array, outputs: str) -> Activations:
    """Return the first hypothesis by which rows x become the elements read, [r, 32]; unknown if none."""
    for hypothesis in hypotheses:
        if _agrees(hypothesis, x, actual, outputs):
            return replace(hypothesis, of=actual.size)
    return Activations("unknown", of=actual.size, unexplained=actual.size)


def _agrees(hypothesis: Activations, x: Array, actual: Array, outputs: str) -> bool:
    """Return whether rows x become what was read, elements [r, 32]."""
    values = hypothesis.floats(x)[:, :BLOCK]
    if hypothesis.factor != 1 or hypothesis.grid is not None:
        values = values.astype(np.float64) * hypothesis.factor
        near = NEAR[outputs] * np.abs(values).max(axis=1, keepdims=True)
        return bool((np.abs(values - actual) <= near).mean() > 1 - MISSED)
    values = FLOATS[outputs](values)
    return not (values.view(np.uint32) != actual.view(np.uint32))[(values != 0) | (actual != 0)].any()


def _rows(most: int) -> Array:
    """Return rows [r, 64]: the first block tells recipes apart, the second has other magnitudes."""
    every = np.concatenate([block_sets.near_ties(600), block_sets.every_tie(), block_sets.bf16(200)])
    amax = np.abs(every).max(axis=1)
    every = every[(amax > ORDINARY[0]) & (amax < ORDINARY[1])]
    chosen = every[np.unique(np.linspace(0, len(every) - 1, min(most, len(every))).astype(int))]
    larger = np.roll(chosen, 1, axis=0)
    larger = larger * (2 * np.abs(chosen).max(axis=1) / np.abs(larger).max(axis=1))[:, np.newaxis]
    return np.ascontiguousarray(np.concatenate([chosen, larger], axis=1), F32)


def _keeps_more(place: Place) -> bool:
    """Return whether more than a half's bits of an element reach a sum: 1 + 2^-12 and -1, in either order."""
    x = np.zeros((2, BLOCK), F32)
    x[0, :2] = 1 + 2.0**-12, -1
    x[1, :2] = -1, 1 + 2.0**-12
    w = layout.pack(np.ones(1, F16), np.ones((1, BLOCK), np.int8))
    return bool(place.by_rows(w, x).any())
