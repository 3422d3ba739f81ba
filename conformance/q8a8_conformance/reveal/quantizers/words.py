"""A revealed quantizer in words: its recipe, whose amax its blocks have, what is otherwise at some places."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from q8a8.recipe import RECIPES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from q8a8.recipe import Recipe
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.reveal.quantizers.model import Part

LISTED = 5
"""Numbers of one step that are all named."""

SHARED = {
    "own": "the block",
    "row": "the whole row",
    "running": "this block and those before it",
    "block-before": "the block before",
    "next-block": "the block after",
    "pair": "a pair of blocks",
    "first-block": "the first block",
    "kept-for-zero": "the block, or the last one that was not zero",
    "other": "blocks in no regular way",
}
"""Whose amax a block has, by its name."""


def recipe_text(recipe: Recipe) -> str:
    """Describe the arithmetic in one line."""
    name = recipe.name if RECIPES.get(recipe.name) == recipe else "a recipe of its own"
    inverse = recipe.inverse.replace("127/amax", f"{recipe.multiplier:g}/amax")
    steps = [
        f"scale {recipe.scale} with n = {recipe.divisor:g}, stored {recipe.half}",
        f"inverse {inverse}, 0 where {recipe.zero_test} is 0",
        f"rounding {recipe.rounding}",
    ]
    return f"{name} ({'; '.join(steps)})"


def either(words: Sequence[object]) -> str:
    """List what one of is meant: "1, 2 or 3"."""
    return " or ".join(filter(None, (", ".join(map(str, words[:-1])), str(words[-1]))))


def uncounted_text(counted: Array) -> str:
    """Name the elements that do not count in amax: bool [2, 32], by sign."""
    both = np.flatnonzero(~counted.any(axis=0)).tolist()
    signs = [
        f"{name} {np.flatnonzero(~counted[s] & counted[1 - s]).tolist()}"
        for s, name in enumerate(("positive", "negative"))
        if (~counted[s] & counted[1 - s]).any()
    ]
    return "; ".join(([str(both)] if both else []) + signs)


def part_text(part: Part, *, is_row: bool) -> str:
    """Describe a part in one line."""
    where = place_text(part, is_row=is_row)
    what = {
        "unwritten": "is not written",
        "zero": "is zero",
        "recipe": f"is quantized by another recipe: {part.recipe.name if part.recipe else ''}",
        "block-of": f"holds the block {part.offset:+d} from it",
        "codes-of": f"has the codes of the block {part.offset:+d} from it",
        "scale-of": f"has the scale of the block {part.offset:+d} from it",
        "amax-of": f"is scaled by the block {part.offset:+d} from it",
        "code-of": f"has the code of the element {part.offset:+d} from it",
        "wraps": f"{'holds the block' if is_row else 'has the code of the element'} whose number is its own "
        f"modulo {part.offset}",
        "codes": "has " + ", ".join(f"{b} for the code {a}" for a, b in part.codes),
        "not-counted": "does not count in amax",
        "unwritten-bytes": f"has bytes that are not written: {ranges(part.bytes)}",
        "other": "has other values",
    }[part.effect]
    if (not part.lanes and part.rule.is_plural) or len(part.lanes) > 1:
        verb, rest = what.split(" ", 1)
        what = f"{_PLURAL[verb]} {rest}"
    return f"{where} {what}"


def place_text(part: Part, *, is_row: bool) -> str:
    """Describe the places of a part."""
    where = part.rule.text(*(("block", "nb") if is_row else ("element", "size")))
    if not part.lanes:
        return where
    return f"{'element' if len(part.lanes) == 1 else 'the elements'} {listed(part.lanes)} of {where}"


_PLURAL = {"is": "are", "has": "have", "holds": "hold", "does": "do"}


def runs(numbers: Sequence[int]) -> list[Sequence[int]]:
    """Return ascending numbers as runs of those that follow each other."""
    starts = [i for i, number in enumerate(numbers) if not i or number != numbers[i - 1] + 1]
    return [numbers[i:end] for i, end in itertools.pairwise((*starts, len(numbers)))]


def listed(numbers: Sequence[int]) -> str:
    """Return ascending numbers in words, those of one step by the first and the last: ``1, 3, 5 … 31``."""
    steps = {b - a for a, b in itertools.pairwise(numbers)}
    if len(steps) == 1 and max(steps) > 1 and len(numbers) > LISTED:
        return f"{', '.join(map(str, numbers[:3]))} … {numbers[-1]}"
    return ranges(numbers)


def ranges(numbers: Sequence[int], to: str = " to ") -> str:
    """Return ascending numbers in words: ``2, 18 to 33``."""
    return ", ".join(f"{run[0]}{to}{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs(numbers))
