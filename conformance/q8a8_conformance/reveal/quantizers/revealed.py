"""What a quantizer computes, as a `Recipe` of the reference: measured, and confirmed on other blocks.

`reveal_quantizer` measures, in this order, so that no step hides another: where the bytes are, whose amax a
block has and which elements count (`structure`), the arithmetic (`arithmetic`), and what
is otherwise in some rows or at some places (`row_lengths`, `activation_lengths`). What was found, a
`QuantizerModel`, must then give the kernel's bytes on thousands of other blocks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8.recipe import RECIPES
from q8a8_conformance.inputs import blocks as block_sets
from q8a8_conformance.results.record import count
from q8a8_conformance.reveal.asking import NoAnswerError
from q8a8_conformance.reveal.places import Condition, Rule
from q8a8_conformance.reveal.quantizers import activation_lengths, probes, row_lengths, structure
from q8a8_conformance.reveal.quantizers.arithmetic import Fit, Observed, differences, fit, named
from q8a8_conformance.reveal.quantizers.calls import BLOCK, FILLS, QuantizerCalls
from q8a8_conformance.reveal.quantizers.model import EVERY, Part, QuantizerModel
from q8a8_conformance.reveal.quantizers.row_lengths import by_lanes
from q8a8_conformance.reveal.quantizers.words import SHARED, part_text, recipe_text, uncounted_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from q8a8.recipe import Recipe
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.reveal.quantizers.calls import AnySession

F32 = np.float32
VECTOR = structure.ROW * BLOCK
"""Elements of the rows and vectors on which the arithmetic is measured."""

VECTORS = 100
"""Blocks on which an activation quantizer is confirmed: one call each."""


@dataclass(frozen=True)
class RevealedQuantizer:
    """What was found about one quantizer.

    Attributes
    ----------
    function
        The ABI function.
    model
        What it computes.
    unplaced
        Places (n, block or element) that are otherwise in no regular way.
    confirmed, of
        Other blocks that the model gives, of all that were tried.
    calls
        Calls made.
    died
        Why the experiments ended early: a call did not return.
    """

    function: str
    model: QuantizerModel
    unplaced: tuple[tuple[int, int], ...] = ()
    confirmed: int = 0
    of: int = 0
    calls: int = 0
    died: str = ""

    @property
    def recipe(self) -> Recipe:
        """The arithmetic, as a value that the reference takes."""
        return self.model.recipe

    def svg(self, blocks: int | None = None, *, alone: bool = False) -> str:
        """Return no drawing: a recipe has no tree."""
        del blocks, alone
        return ""

    def to_json(self, blocks: int | None = None) -> dict[str, Any]:
        """Return it as JSON data; a recipe is the same for every number of blocks."""
        del blocks
        recipe = self.recipe
        return {
            "function": self.function,
            "recipe": recipe.name,
            "name": recipe.name if RECIPES.get(recipe.name) == recipe else None,
            "steps": {name: _number(getattr(recipe, name)) for name in STEPS},
            "differs": {name: str(value) for name, value in differences(recipe).items()},
            "layout": self.model.layout.name,
            "amax_of": self.model.sharing,
            "places": [
                {
                    "effect": part.effect,
                    "where": part.rule.to_json(),
                    **({"recipe": part.recipe.name} if part.recipe else {}),
                    **({"offset": part.offset} if part.offset else {}),
                    **({"elements": list(part.lanes)} if part.lanes else {}),
                }
                for part in self.model.parts
            ],
            "irregular": [list(place) for place in self.unplaced],
            "confirmed": {"blocks": self.of, "differ": self.of - self.confirmed},
            "calls": self.calls,
            "died": self.died or None,
        }

    def text(self) -> str:
        """Describe it in a few lines."""
        lines = [f"{self.function}: {recipe_text(self.recipe)}"]
        if self.died:
            return "\n".join([*lines, f"  not measured to the end: {self.died}", ""])
        if self.model.is_row:
            lines.append(f"  layout {self.model.layout.name}; amax of {SHARED[self.model.sharing]}")
            if not self.model.counted.all():
                lines.append(f"  elements that do not count in amax: {uncounted_text(self.model.counted)}")
        lines += [f"  {part_text(part, is_row=self.model.is_row)}" for part in self.model.parts]
        if self.unplaced:
            places = ", ".join(f"{i} of {n}" for n, i in self.unplaced[:4])
            lines.append(f"  otherwise, in no regular way, at {places}")
        lines.append(
            f"  {self.of - self.confirmed} of {count(self.of, 'block')} differ; {count(self.calls, 'call')}"
        )
        return "\n".join([*lines, ""])


STEPS = ("amax", "scale", "divisor", "half", "inverse", "multiplier", "zero_test", "product", "rounding",
         "conversion", "zero_scale", "floor", "ceiling", "infinite_from", "inverse_limit",
         "code_limits")  # fmt: skip


def _number(step: Any) -> Any:  # noqa: ANN401 - text, a number or a pair
    """Return a step as JSON has it: None for a limit that is infinite, which is none."""
    return None if isinstance(step, float) and np.isinf(step) else step


def reveal_quantizer(session: AnySession, function: str, lengths: Iterable[int] = ()) -> RevealedQuantizer:
    """Measure what a quantizer computes.

    `lengths` are further ones (blocks of a row, elements of an activation vector) to look at.
    """
    calls = QuantizerCalls(session, function)
    revealed = RevealedQuantizer(function, QuantizerModel(is_row=calls.is_row))
    try:
        for known in _measure(calls, revealed, tuple(lengths)):
            revealed = known
    except NoAnswerError as error:
        revealed = replace(revealed, died=str(error))
    return replace(revealed, calls=calls.count)


def _measure(
    calls: QuantizerCalls, revealed: RevealedQuantizer, lengths: tuple[int, ...]
) -> Iterator[RevealedQuantizer]:
    """Yield what is known after each step."""
    revealed = (_with_structure if calls.is_row else _with_signs)(calls, revealed)
    yield revealed
    # (A kernel whose amax no element decides is measured as it is.)
    counted = revealed.model.counted if revealed.model.counted.any() else EVERY
    observed = _observe(calls, revealed, list(_probe_vectors(counted)))
    fitted, parts = _by_places(observed)
    # Its steps show best on elements beside its own ties.
    own = probes.keen_values_of(fitted.recipe) if differences(fitted.recipe) else []
    if own:
        more = [(amax, _vector(amax, x, counted)) for amax, x in own]
        observed = observed.with_more(_observe(calls, revealed, more))
        fitted, parts = _by_places(observed)
    within: tuple[Part, ...] = ()
    if fitted.missed and not parts and calls.is_row:
        fitted, within = by_lanes(observed, fitted)
    recipe = fitted.recipe
    if revealed.model.recipe.amax != "magnitude":
        recipe = named(replace(recipe, amax=revealed.model.recipe.amax))
    model = replace(revealed.model, recipe=recipe, parts=(*within, *parts))
    revealed = replace(revealed, model=model)
    yield revealed
    if revealed.model.sharing != "other" and revealed.model.layout.name != "other":
        module = row_lengths if calls.is_row else activation_lengths
        # What is at places of the rows measured so far is among what is at places of all rows.
        bare = replace(model, parts=within)
        found = module.look(calls, bare, lengths)
        model = replace(model, parts=(*within, *found.parts), recipe=found.recipe or model.recipe)
        revealed = replace(revealed, model=model, unplaced=found.unplaced)
        yield revealed
    yield _confirm(calls, revealed)


def _with_structure(calls: QuantizerCalls, revealed: RevealedQuantizer) -> RevealedQuantizer:
    """Find where bytes are and whose amax blocks have."""
    layout = structure.find_layout(calls)
    sharing = structure.sharing_name(structure.whose_amax(calls, layout))
    if sharing == "own" and structure.keeps_for_zero(calls, layout):
        sharing = "kept-for-zero"
    counted = structure.counted_elements(calls, layout, "own" if sharing == "kept-for-zero" else sharing)
    alike = counted[:, 0] if (counted == counted[:, :1]).all() else EVERY
    model = replace(revealed.model, layout=layout, sharing=sharing, **_by_sign(revealed.model.recipe, alike))
    return replace(revealed, model=model)


def _by_sign(recipe: Recipe, counted: Array) -> dict[str, Any]:
    """Return the recipe and the counted elements of a model; elements of one sign alone make a recipe."""
    for amax, sign in (("largest", 0), ("minus-smallest", 1)):
        if counted[sign].all() and not counted[1 - sign].any():
            return {"recipe": replace(recipe, amax=amax), "counted": EVERY}
    return {"recipe": recipe, "counted": counted}


def _with_signs(calls: QuantizerCalls, revealed: RevealedQuantizer) -> RevealedQuantizer:
    """Find whether positive and negative elements count in a vector's amax."""
    even = structure.even_row(VECTOR)
    small = calls(even).scales
    counted = np.zeros((2, BLOCK), np.bool_)
    for sign in (0, 1):
        x = even.copy()
        x[[5, 100]] = structure.LARGE * 127 * (1 - 2 * sign)
        counted[sign] = calls(x).scales != small
    recipe = _by_sign(revealed.model.recipe, counted)["recipe"]
    return replace(revealed, model=replace(revealed.model, recipe=recipe))


def _probe_vectors(counted: Array) -> Iterator[tuple[float, Array]]:
    """Yield pairs of an amax and a vector [256] that has it; every value of amax is one vector."""
    for amax, values in (*probes.tie_values(), *probes.keen_values()):
        yield amax, _vector(amax, values, counted)
    rng = np.random.default_rng(5)
    for amax in (*probes.scale_amaxes().tolist(), *probes.tiny_amaxes().tolist()):
        values = (rng.uniform(-1, 1, VECTOR) * amax).astype(F32)
        yield amax, _vector(amax, values, counted)
    for sign in (1, -1):
        yield 0.0, np.copysign(np.zeros(VECTOR, F32), F32(sign))


def _vector(amax: float, values: Array, counted: Array) -> Array:
    """Return elements [8, 32] of which each block has the amax, positive and negative, where it counts."""
    x = np.resize(values, (structure.ROW, BLOCK)).astype(F32)
    for sign in (0, 1):
        places = np.flatnonzero(counted[sign])
        if places.size:
            x[:, places[5 * (sign + 1) % places.size]] = amax * (1 - 2 * sign)
    return x.reshape(-1)


def _observe(
    calls: QuantizerCalls, revealed: RevealedQuantizer, vectors: list[tuple[float, Array]]
) -> Observed:
    """Return what vectors of eight blocks gave, in which blocks stand as in a row."""
    model = revealed.model
    packed = list(_packed(vectors)) if calls.is_row and model.sharing == "own" else [x for _, x in vectors]
    if not model.counted.all() or model.recipe.amax != "magnitude" or model.sharing != "own":
        packed += _beyond(model, np.random.default_rng(3))
    xs, scales, codes = [], [], []
    for x in packed:
        blocks = model.layout.read(calls(x, FILLS[0])) if calls.is_row else calls(x, FILLS[0])
        xs.append(x.reshape(-1, BLOCK))
        scales.append(np.broadcast_to(blocks.scales, structure.ROW))
        codes.append(blocks.codes.reshape(-1, BLOCK))
    every = np.concatenate(xs)
    own = replace(model, is_row=calls.is_row)
    amax = [own.amax(x.reshape(-1, BLOCK) if calls.is_row else x[np.newaxis]) for x in packed]
    blocks_amax = np.concatenate([np.broadcast_to(of, structure.ROW) for of in amax])
    # Codes that no block's are written tell nothing of the arithmetic.
    some = model.layout.written_codes() if calls.is_row else EVERY[0]
    return Observed(every[:, some], blocks_amax, np.concatenate(scales), np.concatenate(codes)[:, some])


def _beyond(model: QuantizerModel, rng: np.random.Generator) -> Iterator[Array]:
    """Yield rows with elements that are larger than the amax they are quantized with, if there are any."""
    for _ in range(8):
        x = structure.even_row().reshape(structure.ROW, BLOCK).copy()
        if model.sharing not in ("own", "other"):
            x *= np.exp2(rng.integers(0, 5, (structure.ROW, 1))).astype(F32)
        for sign in (0, 1):
            unseen = model.counted[sign] if model.recipe.amax == "magnitude" else np.ones(BLOCK, np.bool_)
            if model.recipe.amax == ("largest", "minus-smallest")[1 - sign]:
                unseen = ~unseen
            places = np.flatnonzero(~unseen)
            if places.size:
                large = rng.uniform(100, 500, (structure.ROW, places.size)) * (1 - 2 * sign)
                x[:, places] = np.where(rng.random(large.shape) < 0.5, large, x[:, places])
        yield x.reshape(-1).astype(F32)


def _packed(vectors: list[tuple[float, Array]]) -> Iterator[Array]:
    """Yield rows: those of many elements as they are, of the others one block each."""
    many = len(list(probes.tie_values())) + probes.KEEN
    yield from (x for _, x in vectors[:many])
    firsts = [x[:BLOCK] for _, x in vectors[many:]]
    firsts += firsts[-1:] * (-len(firsts) % structure.ROW)
    yield from np.array(firsts, F32).reshape(-1, VECTOR)


def _by_places(observed: Observed) -> tuple[Fit, tuple[Part, ...]]:
    """Fit a recipe; where it fails at some blocks of a row alone, fit another one there."""
    whole = fit(observed)
    if not whole.missed:
        return whole, ()
    places = np.arange(len(observed)) % structure.ROW
    bad = np.unique(places[whole.wrong_scales | whole.wrong_codes.any(axis=1)])
    if bad.size == structure.ROW:
        return whole, ()
    here = np.isin(places, bad)
    rest, other = fit(observed[~here]), fit(observed[here])
    if rest.missed or (other.missed and bad.size > structure.ROW // 2):
        return whole, ()
    wrong = np.zeros(len(observed), np.bool_)
    parts = tuple(
        Part(Rule(Condition("is", int(b)), (Condition("is", structure.ROW),)), "recipe", other.recipe)
        for b in (() if other.missed else bad)
    )
    return Fit(rest.recipe, wrong, wrong[:, np.newaxis] & np.zeros(observed.x.shape[1], np.bool_)), parts


def _confirm(calls: QuantizerCalls, revealed: RevealedQuantizer) -> RevealedQuantizer:
    """Compare a model with other blocks: random ones, and those on which the recipes differ."""
    every = np.concatenate([block_sets.survey(), block_sets.gaussian(1000), block_sets.every_tie()])
    rows = list(np.array_split(every, 40)) if calls.is_row else list(every[:: len(every) // VECTORS])
    right = of = 0
    for row in rows:
        x = row if calls.is_row else row[np.newaxis]
        got = calls(x, FILLS[0])
        want = revealed.model.predict(x, np.full(got.data.shape, FILLS[0], np.uint8))
        same = (got.data == want.data).all(axis=1)
        right, of = right + int(same.sum()), of + same.size
    return replace(revealed, confirmed=right, of=of)
