"""One thing that may happen to a quantizer's blocks: its words, and the bytes that a call then gives."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8.recipe import RECIPES, Recipe, apply_recipe
from q8a8_conformance.inputs.arrays import Array
from q8a8_conformance.reveal.quantizers.calls import blocks_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8_conformance.diagnosis.quantizers.cases import Case

Given = tuple[Array, Array]

DESIGN = RECIPES["design"]

LARGEST_CODE = 127


@dataclass(frozen=True)
class Effect:
    """What may happen.

    Attributes
    ----------
    fact, data
        The kind of fact, and its parameters.
    what
        A sentence without its end, to which a condition may be added.
    rule, fix, cause
        As a fact has them.
    gives
        Returns the bytes of a call's blocks, uint8 [n, 2 + s], and which of them are known.
    is_limit
        Whether it is about small blocks alone, so that no values may be its condition.
    steps
        The steps of a recipe that it changes, if it does no more: other effects may come on top of it.
    """

    fact: str
    data: dict[str, Any]
    what: str
    rule: str
    fix: str
    gives: Callable[[Case], Given]
    cause: str = ""
    is_limit: bool = False
    steps: dict[str, Any] = field(default_factory=dict)


def together(one: Effect, other: Effect, case: Case) -> Given | None:
    """Return the bytes of a call where two effects happen; None where that is not known of them."""
    for steps, effect in ((one.steps, other), (other.steps, one)):
        if steps:
            return effect.gives(case.with_base(replace(case.base, **steps)))
    return None


def quantized(
    case: Case, amax: Array, recipe: Recipe | None = None, h: Array | None = None, x: Array | None = None
) -> Given:
    """Return the blocks of a call, or of some x of them, under other amax, float32 [n], maybe other scales.

    Codes of elements that are greater than the amax are not known: they depend on the conversion.
    """
    x = case.x if x is None else x
    own, q, inside = apply_recipe(x, recipe or case.base, amax)
    data = blocks_of(own if h is None else h, q).data
    known = np.ones(data.shape, np.bool_)
    known[:, 2:] = inside[:, np.newaxis] & (np.abs(x) <= amax[:, np.newaxis]) & (q >= -LARGEST_CODE)
    return data, known


def with_bytes(case: Case, data: Array | int, columns: slice = slice(2, None)) -> Given:
    """Return the right bytes with others, [n, columns], in some columns: those of the codes, unless given."""
    found = case.right.copy()
    found[:, columns] = data
    return found, np.ones(found.shape, np.bool_)


def with_codes(case: Case, q: Array) -> Given:
    """Return the right scales with other codes, numbers [n, s]; those that are no int8 are not known."""
    data = case.right.copy()
    held = np.nan_to_num(np.asarray(q, np.float64), nan=1e9, posinf=1e9, neginf=-1e9)
    known = np.ones(data.shape, np.bool_)
    known[:, 2:] = np.abs(held + 0.5) < LARGEST_CODE + 1
    data[:, 2:] = np.where(known[:, 2:], held, 0).astype(np.int8).view(np.uint8)
    return data, known


def with_scales(case: Case, bits: Array) -> Given:
    """Return the right codes with other scales, uint16 [n]."""
    return with_bytes(case, np.ascontiguousarray(bits, "<u2").view(np.uint8).reshape(-1, 2), slice(2))
