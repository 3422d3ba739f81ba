"""What a row quantizer does otherwise in some rows, at some places of them, or in some elements of blocks.

Rows of many lengths are made of `probes.keen_blocks`, on which every other way to compute shows. A
block that is not what the model gives is compared with what it may be instead: what the output held before,
another block, its scale, its amax, zeros, or the same elements by another recipe. The places of each such
effect make a rule (`places`); where several rules fit, rows in which they differ decide.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8.recipe import apply_recipe, scale_of
from q8a8_conformance.reveal.places import Condition, Rule, Seen, explained, find_rule, seen_of
from q8a8_conformance.reveal.quantizers.arithmetic import Fit, Observed, differences, fit
from q8a8_conformance.reveal.quantizers.calls import BLOCK, FILLS, Blocks
from q8a8_conformance.reveal.quantizers.model import Part
from q8a8_conformance.reveal.quantizers.probes import keen_blocks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from q8a8.recipe import Recipe
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.reveal.places import Asked, Effect
    from q8a8_conformance.reveal.quantizers.calls import QuantizerCalls
    from q8a8_conformance.reveal.quantizers.model import QuantizerModel

LENGTHS = (
    *range(1, 36), 40, 47, 48, 49, 50, 63, 64, 65, 66, 96, 97, 100, 127, 128, 129, 130, 191, 255, 256, 257,
    258, 300, 385, 511, 512, 513, 640, 1000, 1023, 1024, 1025, 1026, 1153, 1500, 2047, 2048, 2049, 2050,
)  # fmt: skip
"""Blocks of the rows that are looked at."""

LONGEST = 5000
"""Blocks of the longest row that is made."""

EXPLAINED, EXPLAINED_BLOCKS = 30, 20_000
"""Rows that deviate whose effects are looked for, and their blocks."""

EVERYWHERE = Rule(Condition("any"))
PREDICTED = ("recipe", "not-counted", "codes", "wraps")
"""Effects that do not show in every block."""

SHOWING = 520
"""Blocks of the longest row that is looked at for an effect of known blocks, unless rules differ beyond."""

MAPPED = 8
"""Codes that may be others, whatever the block."""

OFFSETS = (-1, 1, -2, 2, -3, 3, -4, 4)


@dataclass(frozen=True)
class Found:
    """What was seen in rows of many lengths.

    Attributes
    ----------
    parts
        What is otherwise, with the rule of its places.
    unplaced
        Blocks [(n, b)] that are otherwise, and have no rule.
    recipe
        The arithmetic, where more is known of it now.
    """

    parts: tuple[Part, ...] = ()
    unplaced: tuple[tuple[int, int], ...] = ()
    recipe: Recipe | None = None


CONTROLS = (37, 43, 77, 133, 161, 209, 333, 518, 777, 1290)
"""Blocks of rows on which the rules that were found are tried."""


EVERY_BLOCK = tuple(range(48))
"""Numbers of `keen_blocks`."""


def keen_row(n: int) -> Array:
    """Return a row of blocks [n, 32] on which every way to quantize shows."""
    return _rows_of(EVERY_BLOCK)[:n]


@lru_cache(maxsize=8)
def _rows_of(chosen: tuple[int, ...]) -> Array:
    """Return the longest row, of some of the keen blocks [n, 32].

    Other blocks follow each other in every turn, so that no stretch comes again.
    """
    pool = keen_blocks()[np.array(chosen, np.int64)]
    rng = np.random.default_rng(48)
    turns = [np.arange(len(pool)), *(rng.permutation(len(pool)) for _ in range(LONGEST // len(pool)))]
    rows = pool[np.concatenate(turns)]
    rows.setflags(write=False)
    return np.asarray(rows)


def look(calls: QuantizerCalls, model: QuantizerModel, more: Iterable[int] = ()) -> Found:
    """Compare rows of many lengths, and of `more`, with a model of what is computed in eight blocks."""
    survey = _Survey(calls, model)
    lengths = sorted({*LENGTHS, *(n for n in more if n <= LONGEST)} - {0})
    effects: dict[int, dict[Effect, Array]] = {}
    blocks = 0
    for n in lengths:
        if not survey.wrong(n).any():
            effects[n] = {}
        elif len(survey.found) < EXPLAINED and blocks <= EXPLAINED_BLOCKS:
            effects[n] = survey.effects(n)
            blocks += n
    parts: list[Part] = []
    unplaced: list[tuple[int, int]] = []
    for effect in dict.fromkeys(effect for found in effects.values() for effect in found):
        part = survey.part(effect)
        if part.effect in PREDICTED or part.lanes:
            # It does not show in every block: rows of those in which it does.
            seen, ask = survey.of_showing(part, [n for n in lengths if n <= SHOWING])
        else:
            seen, ask = seen_of(effect, effects, survey.effects)
        rule = find_rule(seen, ask, LONGEST)
        if rule is None:
            hit = [(n, where) for n, where in seen.rows.items() if where.any()]
            unplaced += [(n, int(b)) for n, where in hit for b in np.flatnonzero(where)[:3]]
        else:
            parts.append(replace(part, rule=rule))
    wrong = survey.contradicted(parts)
    unplaced += wrong.values()
    return Found(tuple(part for number, part in enumerate(parts) if number not in wrong), tuple(unplaced))


class _Survey:
    """Rows of keen blocks, and what is otherwise in them."""

    def __init__(
        self, calls: QuantizerCalls, model: QuantizerModel, blocks: tuple[int, ...] = EVERY_BLOCK
    ) -> None:
        self._calls = calls
        self._blocks = blocks
        self._model = model
        self._got: dict[int, Blocks] = {}
        self.found: dict[int, dict[Effect, Array]] = {}

    def row(self, n: int) -> Array:
        """Return the row of n."""
        return _rows_of(self._blocks)[:n]

    def got(self, n: int) -> Blocks:
        """Return what the kernel gives for the row of n."""
        if n not in self._got:
            self._got[n] = self._calls(self.row(n), FILLS[0])
        return self._got[n]

    def wrong(self, n: int) -> Array:
        """Return bool [n]: the blocks of a row that are not what the model gives."""
        right = self._model.predict(self.row(n), _before(n)).data
        return np.asarray((self.got(n).data != right).any(axis=1))

    def effects(self, n: int) -> dict[Effect, Array]:
        """Return what wrong blocks of a row are, and which: bool [n]; each block once."""
        if n not in self.found:
            left = self.wrong(n)
            self.found[n] = explained(left, self._tried(n)) if left.any() else {}
        return self.found[n]

    def _tried(self, n: int) -> Iterator[tuple[Effect, Any]]:
        """Yield effects, and functions that return where a row is what each gives: bool [n]."""
        x, got = keen_row(n), self._got[n]
        kept = (got.data == FILLS[0]) & (self._calls(x, FILLS[1]).data == FILLS[1])
        yield ("unwritten",), lambda: kept.all(axis=1)
        for pattern in np.unique(kept[kept.any(axis=1)], axis=0)[:4]:
            numbers = np.flatnonzero(pattern).tolist()
            yield ("unwritten-bytes", *numbers), lambda p=pattern: (kept == p).all(axis=1)
        # A block that comes again first comes where a counter wraps.
        candidates: list[Effect] = [("zero", 0), ("wraps", int(np.argmax(self.wrong(n))))]
        candidates += [(name, o) for name in ("block-of", "codes-of", "scale-of", "amax-of") for o in OFFSETS]
        for effect in candidates:
            part = Part(EVERYWHERE, effect[0], offset=effect[1])
            yield effect, lambda part=part: (self.otherwise(part, n) == got.data).all(axis=1)

    def otherwise(self, part: Part, n: int) -> Array:
        """Return a row's bytes where a part holds at every place."""
        model = replace(self._model, parts=(*self._model.parts, part))
        return model.predict(self.row(n), _before(n)).data

    def part(self, effect: Effect) -> Part:
        """Return the part of an effect; other values are those of another recipe, where one gives them."""
        if effect[0] == "unwritten-bytes":
            return Part(EVERYWHERE, effect[0], bytes=effect[1:])
        if effect[0] != "other":
            return Part(EVERYWHERE, effect[0], offset=effect[1] if len(effect) > 1 else 0)
        rows = [(n, found[effect]) for n, found in self.found.items() if effect in found]
        data = np.concatenate([self._model.layout.read(self._got[n]).data[where] for n, where in rows])
        x = np.concatenate([keen_row(n)[where] for n, where in rows])
        amax = np.concatenate([self._model.amax(keen_row(n))[where] for n, where in rows])
        seen = Observed(x, amax, Blocks(data).scales, Blocks(data).codes)
        fitted = fit(seen)
        return self._of_elements(seen) if fitted.missed else Part(EVERYWHERE, "recipe", fitted.recipe)

    def _of_elements(self, seen: Observed) -> Part:
        """Return what some elements of blocks, or some codes, are; "other" for what is not known."""
        recipe = self._model.recipe
        _, sizes = scale_of(np.abs(seen.x).reshape(-1), recipe)
        uncounted = sizes.view(np.uint16).reshape(seen.x.shape) > seen.scales[:, np.newaxis]
        lanes = np.flatnonzero(uncounted.any(axis=0))
        if lanes.size and self._model.sharing == "own" and lanes.size < BLOCK:
            part = Part(EVERYWHERE, "not-counted", lanes=tuple(lanes.tolist()))
            model = replace(self._model, parts=(*self._model.parts, part))
            cut = replace(seen, amax=model.amax(seen.x))
            if not (cut.wrong_scales(recipe).any() or cut.wrong_codes(recipe).any()):
                return part
        whole = Fit(recipe, seen.wrong_scales(recipe), seen.wrong_codes(recipe))
        if whole.wrong_scales.any():
            return Part(EVERYWHERE, "other")
        _, want, inside = apply_recipe(seen.x, recipe, seen.amax)
        pairs = np.unique(np.stack([want[inside], seen.codes[inside]]).reshape(2, -1), axis=1).T.tolist()
        changed = tuple((a, b) for a, b in pairs if a != b)
        if len(dict(pairs)) == len(pairs) and len(changed) <= MAPPED:
            return Part(EVERYWHERE, "codes", codes=changed)
        _, parts = by_lanes(seen, whole)
        return parts[0] if parts else Part(EVERYWHERE, "other")

    def contradicted(self, parts: Sequence[Part]) -> dict[int, tuple[int, int]]:
        """Return the parts that do not hold in other rows, by number, each with a place where it does not."""
        wrong: dict[int, tuple[int, int]] = {}
        model = replace(self._model, parts=(*self._model.parts, *parts))
        for n in CONTROLS if any(part.effect != "other" for part in parts) else ():
            x = keen_row(n)
            differs = (self._calls(x, FILLS[0]).data != model.predict(x, _before(n)).data).any(axis=1)
            for number, part in enumerate(parts):
                bad = np.flatnonzero(differs & part.rule.holds(n))
                if bad.size and part.effect != "other":
                    wrong.setdefault(number, (n, int(bad[0])))
        return wrong

    def of_showing(self, part: Part, lengths: Iterable[int]) -> tuple[Seen, Asked]:
        """Return where rows have what a part gives, of blocks that it changes; and what asks for more."""
        pool = keen_blocks()
        base = self._model.predict(pool, _before(len(pool))).data
        model = replace(self._model, parts=(*self._model.parts, part))
        changed = np.flatnonzero((model.predict(pool, _before(len(pool))).data != base).any(axis=1))
        wraps = part.effect == "wraps" or not changed.size
        rows = _Survey(self._calls, self._model, EVERY_BLOCK if wraps else tuple(changed.tolist()))

        def hit(n: int) -> Array:
            return np.asarray(rows.wrong(n) & (rows.otherwise(part, n) == rows.got(n).data).all(axis=1))

        known = {n: rows.shows(part, n) for n in lengths} if wraps else {}
        ask = (lambda n: (hit(n), rows.shows(part, n))) if wraps else hit
        return Seen({n: hit(n) for n in lengths}, known), ask

    def shows(self, part: Part, n: int) -> Array:
        """Return bool [n]: the blocks of a row on which a part gives other bytes than the model."""
        base = self._model.predict(self.row(n), _before(n)).data
        return np.asarray((self.otherwise(part, n) != base).any(axis=1))


def _before(n: int) -> Array:
    """Return what a row's bytes held before."""
    return np.full((n, 34), FILLS[0], np.uint8)


# Some elements of every block.


def by_lanes(observed: Observed, whole: Fit) -> tuple[Fit, tuple[Part, ...]]:
    """Fit a recipe to some elements of blocks of 32, and say what the others are.

    `whole` is the recipe that explains most of them, and not all: it is returned without any part where no
    fit explains all together with one.
    """
    if observed.x.shape[1] != BLOCK or whole.wrong_scales.any():
        return whole, ()
    for tried in sorted(_fits_of_some(observed, whole), key=lambda one: len(differences(one.recipe))):
        wrong = observed.wrong_codes(tried.recipe).any(axis=0)
        if tried.missed or wrong.all() or not wrong.any():
            continue
        lanes = np.flatnonzero(wrong)
        part = _part_of(observed, tried, lanes)
        if part is not None:
            right = np.zeros((len(observed), BLOCK), np.bool_)
            return Fit(tried.recipe, right[:, 0], right), (part,)
    return whole, ()


def _fits_of_some(observed: Observed, whole: Fit) -> Iterator[Fit]:
    """Yield fits to some of the elements: those that the whole's recipe gives, and single ones."""
    right = ~whole.wrong_codes.any(axis=0)
    if right.any():
        yield fit(_some(observed, np.flatnonzero(right)))
    for lane in (0, BLOCK - 1):
        yield fit(_some(observed, np.array([lane])))


def _some(observed: Observed, lanes: Array) -> Observed:
    return replace(observed, x=observed.x[:, lanes], codes=observed.codes[:, lanes])


def _part_of(observed: Observed, rest: Fit, lanes: Array) -> Part | None:
    """Return what some elements are: zeros, the codes of others, or those of another recipe."""
    numbers = tuple(lanes.tolist())
    got = observed.codes[:, lanes]
    if not got.any():
        return Part(EVERYWHERE, "zero", lanes=numbers)
    _, want, inside = apply_recipe(observed.x, rest.recipe, observed.amax)
    for offset in sorted(range(1 - BLOCK, BLOCK), key=abs):
        source = lanes + offset
        if source.min() >= 0 and source.max() < BLOCK and (got == want[:, source])[inside].all():
            return Part(EVERYWHERE, "code-of", offset=offset, lanes=numbers)
    other = fit(_some(observed, lanes))
    if other.missed:
        return None
    # (An element that no block tells from the others of the part is taken for one of them, between them.)
    untold = np.flatnonzero(~observed.wrong_codes(other.recipe).any(axis=0))
    step = int(np.gcd.reduce(np.diff(lanes))) if lanes.size > 1 else 1
    whole = np.arange(lanes[0], lanes[-1] + 1, step)
    numbers = tuple(whole.tolist()) if np.isin(whole, untold).all() else numbers
    return Part(EVERYWHERE, "recipe", recipe=other.recipe, lanes=numbers)
