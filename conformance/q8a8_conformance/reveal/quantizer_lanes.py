"""What a row quantizer does otherwise with some elements of every block: a lane, a half, a tail."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from q8a8.recipe import apply_recipe
from q8a8_conformance.reveal.places import Condition, Rule
from q8a8_conformance.reveal.quantizer_arithmetic import Fit, Observed, differences, fit
from q8a8_conformance.reveal.quantizer_calls import BLOCK
from q8a8_conformance.reveal.quantizer_model import Part

if TYPE_CHECKING:
    from collections.abc import Iterator

Array = NDArray[Any]

EVERYWHERE = Rule(Condition("any"))


def by_lanes(observed: Observed, whole: Fit) -> tuple[Fit, tuple[Part, ...]]:
    """Fit a recipe to some elements of blocks of 32, and say what the others are.

    `whole` is the recipe that explains most of them, and not all: it is returned without any part where no
    fit explains all together with one.
    """
    if observed.x.shape[1] != BLOCK or whole.wrong_scales.any():
        return whole, ()
    for tried in sorted(_tried(observed, whole), key=lambda one: len(differences(one.recipe))):
        wrong = observed.wrong_codes(tried.recipe).any(axis=0)
        if tried.missed or wrong.all() or not wrong.any():
            continue
        lanes = np.flatnonzero(wrong)
        part = _part(observed, tried, lanes)
        if part is not None:
            right = np.zeros((len(observed), BLOCK), np.bool_)
            return Fit(tried.recipe, right[:, 0], right), (part,)
    return whole, ()


def _tried(observed: Observed, whole: Fit) -> Iterator[Fit]:
    """Yield fits to some of the elements: those that the whole's recipe gives, and single ones."""
    right = ~whole.wrong_codes.any(axis=0)
    if right.any():
        yield fit(_some(observed, np.flatnonzero(right)))
    for lane in (0, BLOCK - 1):
        yield fit(_some(observed, np.array([lane])))


def _some(observed: Observed, lanes: Array) -> Observed:
    return replace(observed, x=observed.x[:, lanes], codes=observed.codes[:, lanes])


def _part(observed: Observed, rest: Fit, lanes: Array) -> Part | None:
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
    return None if other.missed else Part(EVERYWHERE, "recipe", recipe=other.recipe, lanes=numbers)
