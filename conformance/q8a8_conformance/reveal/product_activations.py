"""What a matrix product makes of its activations before it multiplies: floats of some precision, or codes.

A row of weights with a single 1 gives back what became of one element: under a recipe `h * q`, exactly, and
else the element as it was rounded. The elements lie next to ties between codes, where recipes differ; the
second block of each row has other magnitudes, so that one scale for a row shows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from q8a8 import layout
from q8a8.recipe import RECIPES, quantize_blocks
from q8a8_conformance.inputs import blocks as block_sets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from q8a8.recipe import Recipe
    from q8a8_conformance.reveal.product_calls import Place

Array = NDArray[Any]

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
        A name of `FLOATS`, "int8" or "unknown".
    recipe
        Of codes: the recipe, or None.
    sharing
        Of codes: "block" or "row", the elements that share a scale.
    half
        Of codes: whether the scale is stored as a half.
    of, unexplained
        Elements that were read, and those that are otherwise.
    """

    kind: str
    recipe: Recipe | None = None
    sharing: str = "block"
    half: bool = True
    of: int = 0
    unexplained: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """Its slugs: ``activations:float32``, ``recipe:ggml-avx2``."""
        if self.recipe is None:
            return (f"activations:{self.kind}",)
        names = [f"recipe:{self.recipe.name}" if self.recipe.name in RECIPES else self.recipe.name]
        if self.sharing == "row":
            names.insert(0, "activations:int8-per-row")
        if not self.half:
            names.append("activation-scale:float32")
        return tuple(names)

    @property
    def words(self) -> str:
        """What it is, in words."""
        if self.kind == "unknown":
            return "activations become something that is not known"
        if self.recipe is None:
            return f"activations are kept in {self.kind}, and not quantized"
        shared = "32 elements" if self.sharing == "block" else "a whole row"
        return (
            f"activations are quantized to int8, with a scale for {shared}"
            f"{'' if self.half else ' that is not rounded to a half'}, by the recipe {self.recipe.name}"
        )

    def codes(self, x: Array) -> tuple[Array, Array]:
        """Quantize rows, float32 [n, k]: scales float32 [n, nb] and codes int8 [n, nb, 32]."""
        n, nb = len(x), x.shape[1] // BLOCK
        shaped = x.reshape(n, nb, BLOCK) if self.sharing == "block" else x.reshape(n, 1, -1)
        h, q = quantize_blocks(np.ascontiguousarray(shaped), self.recipe or "design")
        scale = h.astype(F32)
        if not self.half:
            recipe = self.recipe or RECIPES["design"]
            quotient = np.abs(shaped).max(axis=2) / F32(recipe.divisor)
            scale = np.maximum(quotient, recipe.floor).astype(F32)
        return np.ascontiguousarray(np.broadcast_to(scale, (n, nb))), q.reshape(n, nb, BLOCK)

    def floats(self, x: Array) -> Array:
        """Return rows, float32 [n, k], as they are multiplied: float32."""
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

    def times(code: int) -> float:
        codes = np.zeros((1, BLOCK), np.int8)
        codes[0, 0] = code
        return float(place.by_rows(layout.pack(np.ones(1, F16), codes), x)[0])

    if times(127) != NARROW:
        return "float32"
    return "bfloat16" if times(9) == float(bfloat16(np.array([9 * 127.0]))[0]) else "float16"


def read_activations(place: Place, calls: int, outputs: str) -> Activations:
    """Find out what activations become at a place.

    Parameters
    ----------
    place
        Where.
    calls
        How many it takes at most, about.
    outputs
        What outputs are kept in (`output_format`): what activations become is seen in no more bits.
    """
    per_call = -(-BLOCK // len(place.columns))
    x = _rows(max(calls // per_call, 1) * len(place.rows))
    actual = place.elements(x)
    hypotheses = list(_hypotheses())
    if outputs != "float32" and not _keeps_more(place):
        # What is seen in eleven bits, or in eight, was kept in no more.
        more = {"float32"} if outputs == "float16" else set(FLOATS) - {outputs}
        hypotheses = [each for each in hypotheses if each.kind not in more]
    best = Activations("unknown", of=actual.size, unexplained=actual.size)
    for hypothesis in hypotheses:
        values = hypothesis.floats(x)[:, :BLOCK]
        values = FLOATS[outputs](values)
        wrong = int((values.view(np.uint32) != actual.view(np.uint32))[(values != 0) | (actual != 0)].sum())
        if not wrong:
            return replace(hypothesis, of=actual.size)
    return best


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
