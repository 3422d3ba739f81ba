"""What a row quantizer does otherwise in some rows, or at some places of them.

Rows of many lengths are made of `quantizer_probes.keen_blocks`, on which every other way to compute shows. A
block that is not what the model gives is compared with what it may be instead: what the output held before,
another block, its scale, its amax, zeros, or the same elements by another recipe. The places of each such
effect make a rule (`places`); where several rules fit, rows in which they differ decide.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from q8a8_conformance.reveal.places import Condition, Rule, Seen, find_rule
from q8a8_conformance.reveal.quantizer_arithmetic import Observed, fit
from q8a8_conformance.reveal.quantizer_calls import FILLS, Blocks
from q8a8_conformance.reveal.quantizer_model import Part
from q8a8_conformance.reveal.quantizer_probes import keen_blocks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from q8a8.recipe import Recipe
    from q8a8_conformance.reveal.quantizer_calls import QuantizerCalls
    from q8a8_conformance.reveal.quantizer_model import QuantizerModel

Array = NDArray[Any]
Effect = tuple[Any, ...]

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


def keen_row(n: int) -> Array:
    """Return a row of blocks [n, 32] on which every way to quantize shows."""
    pool = keen_blocks()
    return pool[np.arange(n) % len(pool)]


def look(calls: QuantizerCalls, model: QuantizerModel, more: Iterable[int] = ()) -> Found:
    """Compare rows of many lengths with a model.

    Parameters
    ----------
    calls
        Of a row quantizer.
    model
        What it computes in rows of eight blocks.
    more
        Further lengths to look at.
    """
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
        seen = Seen({n: found.get(effect, np.zeros(n, np.bool_)) for n, found in effects.items()})
        if part.recipe is not None:
            seen.known = {n: survey.shows(part, n) for n in seen.rows}
        rule = find_rule(seen, survey.asking(effect, part), LONGEST)
        if rule is None:
            hit = [(n, where) for n, where in seen.rows.items() if where.any()]
            unplaced += [(n, int(b)) for n, where in hit for b in np.flatnonzero(where)[:3]]
        else:
            parts.append(replace(part, rule=rule))
    return Found(tuple(parts), tuple(unplaced))


class _Survey:
    """Rows of keen blocks, and what is otherwise in them."""

    def __init__(self, calls: QuantizerCalls, model: QuantizerModel) -> None:
        self._calls = calls
        self._model = model
        self._got: dict[int, Blocks] = {}
        self.found: dict[int, dict[Effect, Array]] = {}

    def wrong(self, n: int) -> Array:
        """Return bool [n]: the blocks of a row that are not what the model gives."""
        x = keen_row(n)
        if n not in self._got:
            self._got[n] = self._calls(x, FILLS[0])
        return np.asarray((self._got[n].data != self._model.predict(x, _before(n)).data).any(axis=1))

    def effects(self, n: int) -> dict[Effect, Array]:
        """Return what wrong blocks of a row are, and which: bool [n]; each block once."""
        if n not in self.found:
            left = self.wrong(n)
            found: dict[Effect, Array] = {}
            for effect, same in self._tried(n) if left.any() else ():
                here = left & same()
                if here.any():
                    found[effect] = here
                    left = left & ~here
                if not left.any():
                    break
            if left.any():
                found[("other",)] = left
            self.found[n] = found
        return self.found[n]

    def _tried(self, n: int) -> Iterator[tuple[Effect, Any]]:
        """Yield effects, and functions that return where a row is what each gives: bool [n]."""
        x, got = keen_row(n), self._got[n]
        kept = (got.data == FILLS[0]) & (self._calls(x, FILLS[1]).data == FILLS[1])
        yield ("unwritten",), lambda: kept.all(axis=1)
        for pattern in np.unique(kept[kept.any(axis=1)], axis=0)[:4]:
            numbers = np.flatnonzero(pattern).tolist()
            yield ("unwritten-bytes", *numbers), lambda p=pattern: (kept == p).all(axis=1)
        candidates: list[Effect] = [("zero", 0)]
        candidates += [(name, o) for name in ("block-of", "codes-of", "scale-of", "amax-of") for o in OFFSETS]
        for effect in candidates:
            part = Part(EVERYWHERE, effect[0], offset=effect[1])
            yield effect, lambda part=part: (self._otherwise(part, n) == got.data).all(axis=1)

    def _otherwise(self, part: Part, n: int) -> Array:
        model = replace(self._model, parts=(*self._model.parts, part))
        return model.predict(keen_row(n), _before(n)).data

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
        fitted = fit(Observed(x, amax, Blocks(data).scales, Blocks(data).codes))
        if fitted.missed:
            return Part(EVERYWHERE, "other")
        return Part(EVERYWHERE, "recipe", recipe=fitted.recipe)

    def shows(self, part: Part, n: int) -> Array:
        """Return bool [n]: the blocks of a row on which a part gives other bytes than the model."""
        base = self._model.predict(keen_row(n), _before(n)).data
        return np.asarray((self._otherwise(part, n) != base).any(axis=1))

    def asking(self, effect: Effect, part: Part) -> Any:  # noqa: ANN401 - a function for `find_rule`
        """Return the function that looks for an effect in one more row."""

        def ask(n: int) -> tuple[Array, Array | None]:
            where = self.effects(n).get(effect, np.zeros(n, np.bool_))
            return where, self.shows(part, n) if part.recipe is not None else None

        return ask


def _before(n: int) -> Array:
    """Return what a row's bytes held before."""
    return np.full((n, 34), FILLS[0], np.uint8)
