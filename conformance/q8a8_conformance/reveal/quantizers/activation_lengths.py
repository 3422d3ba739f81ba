"""What the activation quantizer does otherwise at some sizes, or with some elements of a vector.

For each of many sizes: which elements count in amax (one of them is large, and the scale grows or not; where
the first or the last does not count, further calls find the boundary), which codes are written (two fills),
and whether the codes are what the recipe gives (`probes.keen_values`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.reveal.places import Seen, find_rule
from q8a8_conformance.reveal.quantizers.arithmetic import Observed, fit, fit_conversion, named
from q8a8_conformance.reveal.quantizers.calls import FILLS
from q8a8_conformance.reveal.quantizers.model import Part
from q8a8_conformance.reveal.quantizers.probes import KEEN, keen_values
from q8a8_conformance.reveal.quantizers.row_lengths import EVERYWHERE, Found
from q8a8_conformance.reveal.quantizers.structure import LARGE, even_row

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.reveal.places import Asked
    from q8a8_conformance.reveal.quantizers.calls import QuantizerCalls
    from q8a8_conformance.reveal.quantizers.model import QuantizerModel

F32 = np.float32
SIZES = (
    *range(1, 42), 47, 48, 49, 63, 64, 65, 72, 95, 96, 97, 100, 127, 128, 129, 160, 192, 250, 255, 256, 257,
    264, 300, 511, 512, 513, 520, 1000, 1023, 1024, 1025, 1032, 2047, 2048, 2049, 4095, 4096, 4097, 4100,
    5000, 5001, 8191, 8192, 8193, 8200, 10_000,
)  # fmt: skip
"""Elements of the vectors that are looked at."""

EACH, WHOLE = (7, 16, 32, 40), 100
"""Sizes at which every element is made large; the longest one where some are found not to count."""

MORE = 1 << 17
"""Elements of the longest vector of those that have failed that is looked at."""

BESIDE = (1, 2, 3, 6, 7, 14, 15, 30, 31, 62, 63, 126, 127)
"""How much longer are the vectors that are looked at beside long ones: tails of many kinds."""

CERTAIN = 4
"""Wrong codes that tell whose they are."""

LONGEST = 20_000
"""Elements of the longest vector that is made."""


def look(calls: QuantizerCalls, model: QuantizerModel, more: Iterable[int] = ()) -> Found:
    """Compare vectors of many sizes with a model: `row_lengths.look` for the activation quantizer."""
    longer = sorted({n for n in more if n <= MORE} - {0})
    beside = {n + step for n in longer if n > SIZES[-1] for step in BESIDE}
    sizes = sorted({*SIZES, *longer, *sorted(beside)[: 2 * len(BESIDE)]})
    sign = -1 if model.recipe.amax == "minus-smallest" else 1
    looked = {n: uncounted(calls, n, sign) for n in sizes}
    seen = Seen(
        {n: where for n, (where, _) in looked.items()}, {n: known for n, (_, known) in looked.items()}
    )
    parts: list[Part] = []
    unplaced = _place(parts, Part(EVERYWHERE, "not-counted"), seen, lambda n: uncounted(calls, n, sign))
    if unplaced:
        # What is computed with an amax that is not known tells nothing more.
        return Found((), unplaced)
    if parts:
        model = _with_conversion(calls, replace(model, parts=tuple(parts)))
    survey = _Survey(calls, model)
    kept = Seen({n: survey.kept(n) for n in sizes})
    unplaced += _place(parts, Part(EVERYWHERE, "unwritten"), kept, survey.kept)
    rest = Seen({n: survey.wrong(n) for n in sizes})
    if wrong := {n: where for n, where in rest.rows.items() if where.any()}:
        part = survey.part(wrong)
        if part.effect != "other":
            rest.known = {n: survey.shows(part, n) for n in sizes}
        unplaced += _place(parts, part, rest, survey.asking(part))
    unplaced += tuple((n, -1) for n in sizes if survey.wrong_scale(n))
    return Found(tuple(parts), unplaced, model.recipe)


def _place(parts: list[Part], part: Part, seen: Seen, ask: Asked) -> tuple[tuple[int, int], ...]:
    """Add a part with the rule of its places, if it has any; without a rule, return the first of each row."""
    rule = find_rule(seen, ask, LONGEST)
    if rule is None:
        return tuple((n, int(np.argmax(where))) for n, where in seen.rows.items() if where.any())
    parts.append(replace(part, rule=rule))
    return ()


class _Survey:
    """Vectors of keen elements, and what is otherwise in them."""

    def __init__(self, calls: QuantizerCalls, model: QuantizerModel) -> None:
        self._calls = calls
        self._model = model
        self._made: dict[int, tuple[Array, Array, bool, int, Array]] = {}

    def _make(self, n: int) -> tuple[Array, Array, bool, int, Array]:
        """Return, of a vector: wrong codes, kept bytes, whether the scale is wrong, scale and codes."""
        if n not in self._made:
            x, _ = keen_vector(self._model, n)
            got = self._calls(x, FILLS[0])
            want = self._model.predict(x[np.newaxis], np.full((1, 2 + n), FILLS[0], np.uint8))
            wrong = (got.codes != want.codes)[0]
            kept = np.zeros(n, np.bool_)
            if wrong.any():
                again = self._calls(x, FILLS[1])
                kept = (got.data[0, 2:] == FILLS[0]) & (again.data[0, 2:] == FILLS[1])
            scale = int(got.scales[0])
            self._made[n] = wrong & ~kept, kept, scale != int(want.scales[0]), scale, got.codes[0]
        return self._made[n]

    def wrong(self, n: int) -> Array:
        """Return bool [n]: codes that are written and wrong."""
        return self._make(n)[0]

    def kept(self, n: int) -> Array:
        """Return bool [n]: codes that are not written."""
        return self._make(n)[1]

    def wrong_scale(self, n: int) -> bool:
        """Return whether the scale is wrong."""
        return self._make(n)[2]

    def part(self, rows: Mapping[int, Array]) -> Part:
        """Return what wrong codes are: zeros, or those of another recipe."""
        if all((self._make(n)[4][where] == 0).all() for n, where in rows.items()):
            return Part(EVERYWHERE, "zero")
        if moved := self._moved(max(rows)):
            return moved
        vectors = {n: keen_vector(self._model, n) for n in rows}
        counts = [int(where.sum()) for where in rows.values()]
        observed = Observed(
            np.concatenate([vectors[n][0][where] for n, where in rows.items()])[:, np.newaxis],
            np.repeat(np.array([vectors[n][1] for n in rows], F32), counts),
            np.repeat(np.array([self._make(n)[3] for n in rows], np.uint16), counts),
            np.concatenate([self._make(n)[4][where] for n, where in rows.items()])[:, np.newaxis],
        )
        fitted = fit(observed)
        return Part(EVERYWHERE, "other") if fitted.missed else Part(EVERYWHERE, "recipe", fitted.recipe)

    def _moved(self, n: int) -> Part | None:
        """Return whose codes wrong codes are, where they are those of other elements, by whole numbers."""
        codes = np.random.default_rng(n).integers(-126, 127, n)
        codes[[0, -1]] = 127
        # (Under an amax of 127 elements are their codes.)
        got = self._calls(codes.astype(F32), FILLS[0]).codes[0]
        wrong = np.flatnonzero(got != codes)
        if wrong.size < CERTAIN:
            return None
        first = int(wrong[0])
        # (The first code that is another element's may be the same number.)
        for period in range(first, max(first - CERTAIN, 0), -1):
            if (got == codes[np.arange(n) % period]).all():
                return Part(EVERYWHERE, "wraps", offset=period)
        for offset in (*(sign * step for step in range(1, 65) for sign in (-1, 1)), -first):
            source = wrong + offset
            if source.min() >= 0 and source.max() < n and (got[wrong] == codes[source]).all():
                return Part(EVERYWHERE, "code-of", offset=offset)
        return None

    def shows(self, part: Part, n: int) -> Array:
        """Return the elements of a vector to which a part gives another code."""
        x, _ = keen_vector(self._model, n)
        before = np.full((1, 2 + n), FILLS[0], np.uint8)
        models = (self._model, replace(self._model, parts=(*self._model.parts, part)))
        one, other = (model.predict(x[np.newaxis], before).codes for model in models)
        return np.asarray((one != other)[0])

    def asking(self, part: Part) -> Asked:
        """Return what looks for wrong codes in one more vector."""
        return self.wrong if part.effect == "other" else lambda n: (self.wrong(n), self.shows(part, n))


def keen_vector(model: QuantizerModel, n: int) -> tuple[Array, float]:
    """Return elements [n] on which every way to quantize shows, and their amax, which counts."""
    amax, values = keen_values()[n % KEEN]
    x = np.resize(values, n).astype(F32)
    first = np.zeros((1, n), F32)
    first[0, 0] = 1
    # The first element is the largest, where it counts; otherwise the last one.
    x[0 if model.amax(first)[0] else n - 1] = amax
    return x, float(model.amax(x[np.newaxis])[0])


class _Counting(dict[int, bool]):
    """Which elements of vectors of one size count in amax, of those that were asked for."""

    def __init__(self, calls: QuantizerCalls, n: int, sign: int) -> None:
        self._calls, self._even, self._sign = calls, even_row(n), sign
        self._small = int(calls(self._even).scales[0])

    def __missing__(self, element: int) -> bool:
        """Return whether an element shows in the scale where it is large."""
        x = self._even.copy()
        x[element] = F32(self._sign * 127 * LARGE)
        self[element] = int(self._calls(x).scales[0]) != self._small
        return self[element]


def uncounted(calls: QuantizerCalls, n: int, sign: int) -> tuple[Array, Array]:
    """Return bool [n] twice: which elements of a sign do not count in amax, and of which that is known."""
    nothing, every = np.zeros(n, np.bool_), np.ones(n, np.bool_)
    counts = _Counting(calls, n, sign)
    if n not in EACH and counts[0] and counts[n - 1]:
        known = nothing.copy()
        known[[0, -1]] = True
        return nothing, known
    if n <= WHOLE:
        return np.array([not counts[i] for i in range(n)]), every
    some = next((i for i in (0, n - 1, n // 2) if counts[i]), None)
    if some is None:
        return every, every
    places = np.arange(n)
    first, last = (_boundary(counts, some, end) for end in (0, n - 1))
    beyond = [i for i in (first - 2, first // 2, 1, last + 2, (last + n) // 2, n - 2) if 0 <= i < n]
    if any(counts[i] for i in beyond if not first <= i <= last):
        # No interval: what was looked at is known, and nothing else.
        known = np.isin(places, list(counts))
        return np.isin(places, [i for i, counted in counts.items() if not counted]), known
    # Of those between the boundaries a few were looked at.
    return np.asarray((places < first) | (places > last)), np.asarray((places <= first) | (places >= last))


def _with_conversion(calls: QuantizerCalls, model: QuantizerModel) -> QuantizerModel:
    """Return a model with the conversion of elements that are larger than the amax of their vector."""
    rule = model.parts[0].rule
    n = next((n for n in (256, 41, 9000, *rule.shortest()) if rule.holds(n).any()), 0)
    if not n:
        return model
    hidden = rule.holds(n)
    xs = [np.where(hidden, even_row(n) * F32(factor), even_row(n)) for factor in (1.3, 2.9, 7.7, -1.3, -7.7)]
    made = [calls(x) for x in xs]
    x = np.concatenate(xs)[:, np.newaxis]
    amax = np.concatenate([np.broadcast_to(model.amax(x[np.newaxis]), n) for x in xs])
    scales = np.concatenate([np.broadcast_to(blocks.scales, n) for blocks in made])
    codes = np.concatenate([blocks.codes[0] for blocks in made])[:, np.newaxis]
    recipe = fit_conversion(model.recipe, Observed(x, amax, scales, codes))
    return replace(model, recipe=named(recipe))


def _boundary(counts: _Counting, inside: int, end: int) -> int:
    """Return the element farthest from one that counts, towards an end, that counts too."""
    if counts[end]:
        return end
    outside = end
    while abs(outside - inside) > 1:
        middle = (inside + outside) // 2
        inside, outside = (middle, outside) if counts[middle] else (inside, middle)
    return inside
