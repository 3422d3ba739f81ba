"""In which order the bytes of several blocks stand, as measured, and of blocks that share a loop.

Each byte that groups of blocks hold is compared with every byte that they should hold: the one that it always
equals is where it comes from. Orders have names where programmers have: the scales first, codes in turns.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.diagnosis.quantizers.effect import Effect, Given
from q8a8_conformance.inputs.arrays import Array
from q8a8_conformance.reveal.quantizers.calls import BLOCK
from q8a8_conformance.reveal.quantizers.words import ranges

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from q8a8_conformance.diagnosis.quantizers.cases import Case

Ordered = Callable[[int], Array]

SIZE = 34
GROUPS = (2, 3, 4, 5, 6, 8, 16)
TURNS = (BLOCK, 1, 2, 4, 8, 16)
"""Codes of a block after which those of the next one follow."""

LEAST, MOST, SURE = 8, 96, 0.3
"""Groups that tell where a byte comes from, that are looked at, and the part of them that must agree."""

RUNS = 5
"""Runs of bytes that are named at most."""

SCALE, CODES = slice(0, 2), slice(2, SIZE)

FIXES = {
    "Q8A8-LAY-2": "Store block b at byte 34·b: its scale, then its 32 codes.",
    "Q8A8-QNT-7": "Let every block have its own scale.",
}


def arranged(n: int, scales: str, turns: int) -> Array:
    """Return which byte of n blocks stands at each place: the scales first, last or own, codes in turns."""
    numbers = SIZE * np.arange(n)[:, np.newaxis]
    halves = (numbers + np.arange(2)).reshape(-1)
    codes = (numbers + np.arange(2, SIZE)).reshape(n, BLOCK // turns, turns).transpose(1, 0, 2).reshape(-1)
    if scales == "own":
        return np.concatenate([numbers + np.arange(2), codes.reshape(n, BLOCK)], axis=1).reshape(-1)
    return np.concatenate([halves, codes] if scales == "first" else [codes, halves])


def layout_effects(made: Sequence[Case]) -> Iterator[Effect]:
    """Yield orders of the bytes of groups of blocks, of what is left over, and of whole rows."""
    (case,) = made
    wrong = np.asarray(case.wrong.any(axis=1))
    for t in GROUPS:
        order = _measured(case, wrong, t)
        if order is not None:
            text = _named(order, t) or f"In whole groups of {t} blocks: {_runs_text(order)}"
            where = {"group": t, "order": order.tolist()}
            # (What has its own codes and another block's scale is quantized wrongly, and in its place.)
            is_of_scales = _blocks(order, SCALE).size and np.array_equal(_blocks(order, CODES), np.arange(t))
            rule = "Q8A8-QNT-7" if is_of_scales else "Q8A8-LAY-2"
            yield _effect(text, where, partial(_in_groups, t=t, order=order), rule)
    for scales in ("first", "last"):
        for turns in TURNS:
            what = f"stored as {_arranged_text(scales, turns)}"
            where = {"scales": scales, "turns": turns}
            of = partial(arranged, scales=scales, turns=turns)
            yield _effect(f"All blocks of a row are {what}", where, of)
            for t in (2, 4, 8, 16) if turns == BLOCK else ():
                text = f"The blocks beyond a multiple of {t} are {what}"
                yield _effect(text, {**where, "beyond": t}, partial(_left_over, t=t, of=of))


def _measured(case: Case, wrong: Array, t: int) -> Array | None:
    """Return which byte of a whole group of t blocks stands at each place, where that is another one."""
    starts = [
        at
        for where, n in case.rows
        for at in range(where.start, where.start + n // t * t, t)
        if wrong[at : at + t].any() and (case.scales[at : at + t] > 0).all()
    ]
    if len(starts) < LEAST:
        return None
    starts = starts[:: max(len(starts) // MOST, 1)]
    groups = np.array(starts)[:, np.newaxis] + np.arange(t)
    right, got = (data[groups].reshape(len(starts), -1) for data in (case.right, case.got))
    places = np.arange(t * SIZE)
    order = places.copy()
    for place in places:
        counts = (got[:, place, np.newaxis] == right).sum(axis=0)
        # (Of bytes that are alike the own one, or else the nearest.)
        best = np.lexsort((-np.abs(places - place), counts))[-1]
        if counts[best] >= max(LEAST, SURE * len(starts)) and counts[best] > counts[place]:
            order[place] = best
    is_own = (order // SIZE == places // SIZE).all()
    parts = [order.reshape(d, -1) - np.arange(0, t * SIZE, t // d * SIZE)[:, np.newaxis]
             for d in range(2, t) if t % d == 0]  # fmt: skip
    return None if is_own or any((part == part[0]).all() for part in parts) else order


def _effect(text: str, where: dict[str, Any], of: Ordered, rule: str = "Q8A8-LAY-2") -> Effect:
    return Effect("layout", where, text, rule, FIXES[rule], partial(_in_order, of=of))


def _in_order(case: Case, of: Ordered) -> Given:
    data = case.right.copy()
    for where, n in case.rows:
        data[where] = case.right[where].reshape(-1)[of(n)].reshape(n, SIZE)
    return data, np.ones(data.shape, np.bool_)


def _in_groups(n: int, t: int, order: Array) -> Array:
    whole = np.concatenate([at * SIZE + order for at in range(0, n - n % t, t)] or [order[:0]])
    return np.concatenate([whole, np.arange(whole.size, n * SIZE)])


def _left_over(n: int, t: int, of: Ordered) -> Array:
    start = (n - n % t) * SIZE
    return np.concatenate([np.arange(start), start + of(n % t)])


# Words.


def _arranged_text(scales: str, turns: int) -> str:
    codes = "their codes" if turns == BLOCK else f"their codes, {turns} of each block in turn"
    if scales == "own":
        return f"{codes}, with each block's scale in its place"
    return f"their scales, then {codes}" if scales == "first" else f"{codes}, then their scales"


def _named(order: Array, t: int) -> str:
    """Return the words of an order of a group that has a name."""
    for scales in ("first", "last", "own"):
        for turns in TURNS:
            if np.array_equal(order, arranged(t, scales, turns)):
                return f"Whole groups of {t} blocks are stored as {_arranged_text(scales, turns)}"
    halves, codes = _blocks(order, SCALE), _blocks(order, CODES)
    if not halves.size or not codes.size:
        return ""
    for noun, of, is_it in (
        ("these", codes, np.array_equal(halves, codes)),
        ("their scales", halves, np.array_equal(codes, np.arange(t))),
        ("their codes", codes, np.array_equal(halves, np.arange(t))),
    ):
        if is_it:
            return f"In whole groups of {t} blocks {noun} stand in the order {', '.join(map(str, of))}"
    return ""


def _blocks(order: Array, columns: slice) -> Array:
    """Return whose scale, or codes, each block of a group holds: int [t], or [0] if no single one's."""
    part = order.reshape(-1, SIZE)[:, columns]
    numbers = part // SIZE
    is_whole = (part % SIZE == np.arange(SIZE)[columns]).all() and (numbers == numbers[:, :1]).all()
    return np.asarray(numbers[:, 0] if is_whole else numbers[:0, 0])


def _runs_text(order: Array) -> str:
    """Say what stands at places that hold another byte than their own, by runs of bytes of one block."""
    moved = [place for place in range(order.size) if order[place] != place]
    runs: list[list[int]] = []
    for place in moved:
        last = runs[-1][-1] if runs else -2
        follows = place == last + 1 and order[place] == order[last] + 1
        if follows and _field(place) == _field(last) and _field(order[place]) == _field(order[last]):
            runs[-1].append(place)
        else:
            runs.append([place])
    texts = [
        f"at {_bytes_text(run)} {_verb(run)} {_bytes_text([int(order[p]) for p in run])}"
        for run in runs[:RUNS]
    ]
    more = f"; and {len(runs) - RUNS} more" if len(runs) > RUNS else ""
    return f"{'; '.join(texts)}{more}"


def _verb(run: list[int]) -> str:
    is_of_codes, many = _field(run[0])[1], len(run) > 1
    return "stand" if is_of_codes and many else "stands"


def _field(place: int) -> tuple[int, bool]:
    return int(place) // SIZE, int(place) % SIZE >= 2


def _bytes_text(run: list[int]) -> str:
    block, first = divmod(run[0], SIZE)
    codes = [place % SIZE - 2 for place in run]
    noun = f"code{'s' if len(codes) > 1 else ''} {ranges(codes)}" if first > 1 else "the scale"
    if first <= 1 and len(run) == 1:
        noun = f"byte {first} of the scale"
    return f"{noun} of block {block}"
