"""Ways in which the blocks of a row share an amax: running maxima, groups, neighbours, tails."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from q8a8_conformance.inputs.arrays import Array

GROUPS = (2, 3, 4, 5, 6, 8, 16, 32, 64)
OFFSETS = (-1, 1, -2, 2, -3, 3, -4, 4)


def sharings() -> Iterator[tuple[str, dict[str, int], str, Callable[..., Array]]]:
    """Yield names, numbers, words and what blocks have instead of their own amax [n]."""
    yield "running", {}, "the largest amax of the row so far", np.maximum.accumulate
    yield "row", {}, "the amax of the whole row", _largest
    yield "kept", {}, "the amax of the last block up to it whose scale is not 0", _kept
    for o in OFFSETS:
        name = {-1: "the block before", 1: "the block after"}.get(o, f"the block {o:+d} from it")
        yield "block-of", {"offset": o}, f"the amax of {name}", partial(_moved, offset=o)
        text = f"the larger amax of its own and that of {name}"
        yield "larger-of", {"offset": o}, text, lambda own, o=o: np.maximum(own, _moved(own, o))
    for t in GROUPS:
        yield (
            "running", {"group": t}, f"the largest amax so far, which is reset every {t} blocks alone",
            partial(_by_group, t=t, of=np.maximum.accumulate),
        )  # fmt: skip
        yield (
            "group", {"group": t}, f"the largest amax of its group of {t} blocks",
            partial(_by_group, t=t, of=_largest),
        )  # fmt: skip
        yield (
            "whole-group", {"group": t}, f"the largest amax of its group, in whole groups of {t} blocks",
            partial(_by_group, t=t, of=_largest, whole=True),
        )  # fmt: skip
        for name, index in (("first", 0), ("last", -1)):
            yield (
                f"{name}-of-group", {"group": t}, f"the amax of the {name} block of its group of {t}",
                partial(_by_group, t=t, of=lambda own, index=index: np.full_like(own, own[index])),
            )  # fmt: skip
        for name, text, of in _TAILS:
            words = f"{text}, in the blocks beyond a multiple of {t}"
            yield name, {"beyond": t}, words, partial(_in_tail, t=t, of=of)


def _kept(own: Array) -> Array:
    """Return the amax of the last block that has a scale; the own one where none has."""
    has = (own / np.float32(127)).astype(np.float16) > 0
    last = np.maximum.accumulate(np.where(has, np.arange(own.size), -1)) if own.size else np.zeros(0, int)
    return np.where(last < 0, own, own[last])


def _moved(own: Array, offset: int) -> Array:
    """Return the amax of the block further on; a block that has none there has its own."""
    at = np.arange(len(own)) + offset
    inside = (at >= 0) & (at < len(own))
    return np.where(inside, own[np.clip(at, 0, max(len(own) - 1, 0))], own)


def _largest(own: Array) -> Array:
    return np.full_like(own, own.max(initial=0))


def _by_group(own: Array, t: int, of: Callable[..., Array], *, whole: bool = False) -> Array:
    parts = [own[i : i + t] for i in range(0, len(own), t)]
    return np.concatenate([part if whole and len(part) < t else of(part) for part in parts] or [own])


_TAILS: tuple[tuple[str, str, Callable[[Array, Array], Array]], ...] = (
    ("tail", "the largest amax of what is left over", lambda _group, tail: _largest(tail)),
    (
        "tail-with-group", "the largest amax of the group before and its own",
        lambda group, tail: np.maximum(tail, group.max()),
    ),
    (
        "tail-running", "the largest amax of the group before and of what is left over so far",
        lambda group, tail: np.maximum(np.maximum.accumulate(tail), group.max()),
    ),
    (
        "tail-with-all", "the largest amax of the group before and of what is left over",
        lambda group, tail: np.full_like(tail, max(group.max(), tail.max())),
    ),
    (
        "tail-of-group", "the largest amax of the group before",
        lambda group, tail: np.full_like(tail, group.max()),
    ),
    (
        "tail-of-last", "the amax of the last block of the group before",
        lambda group, tail: np.full_like(tail, group[-1]),
    ),
)  # fmt: skip
"""What the blocks of a tail have, from the amax of the group before it and their own ones."""


def _in_tail(own: Array, t: int, of: Callable[[Array, Array], Array]) -> Array:
    start = len(own) // t * t
    if start in (0, len(own)):
        return own
    return np.concatenate([own[:start], of(own[start - t : start], own[start:])])
