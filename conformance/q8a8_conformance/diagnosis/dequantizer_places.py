"""What dequantization does otherwise in some rows, at some places of them, or in some elements of blocks.

Rows of many lengths are made of blocks no two of which are alike. A block that is not what the model gives is
compared with what it may be instead: what the output held before (two fills show it), zeros, another block,
its codes under another block's scale, or its bytes as a known mistake reads them. The places of each such
effect make a rule (`q8a8_conformance.reveal.places`).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from q8a8_conformance.diagnosis.dequantizer_effects import PRODUCTS, lanes_of, sources
from q8a8_conformance.diagnosis.dequantizer_model import (
    BLOCK,
    CODES,
    F32,
    FINITE,
    HALVES,
    SIZE,
    read_right,
    single_mistakes,
)
from q8a8_conformance.diagnosis.facts import Difference, without_part, words
from q8a8_conformance.faults.catalogue import MUTANTS
from q8a8_conformance.reveal.places import Rule, Seen, explained, find_rule, seen_of
from q8a8_conformance.reveal.quantizer_calls import FILLS
from q8a8_conformance.reveal.quantizer_words import ranges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from q8a8_conformance.diagnosis.dequantizer_model import Dequantizer, DequantizerCalls
    from q8a8_conformance.results.observations import Failure
    from q8a8_conformance.reveal.places import Asked

Array = NDArray[Any]

LENGTHS = (
    *range(1, 36), 40, 48, 63, 64, 65, 96, 100, 127, 128, 129, 130, 255, 256, 257, 300, 384, 385, 387, 511,
    512, 513, 640, 1000, 1023, 1024, 1025, 1536, 2047, 2048, 2049, 2050,
)  # fmt: skip
"""Blocks of the rows that are looked at."""

LONGEST = 5000
"""Blocks of the longest row that is made."""

EXPLAINED = 20
"""Rows with wrong blocks that are looked into."""

PERIOD = 64
"""Blocks after which a counter wraps at least."""

WITH_TAILS = (143, 160, 5, 6, 7, 66)
"""Blocks of rows in which most kinds of wrong blocks come."""

PARTLY = ("as", "product", "elements", "in", "scale-of", "codes-of", "scale-is")
"""Effects that do not show in every block."""

SHOWN = 3
"""Elements in others' places that are named."""

GROUPS = (2, 3, 4, 8, 16, 32)
"""Blocks of a step of a loop that may leave some over."""

OFFSETS = (-1, 1, -2, 2, -3, 3, -4, 4)
VALUE, PLACES = "Q8A8-DEQ-1", "Q8A8-LAY-2"
CAUSES = {
    ("unwritten", "the blocks beyond a multiple of 4 where nb >= 5"): "dequantize-tail-lost",
    ("unwritten", "every block beyond their count modulo 2048"): "dequantize-count-of-sixteen-bits",
}
"""The catalogue's names of what happens at some places: the effect, and the rule in words."""


def various(nb: int) -> Array:
    """Return a row of blocks of all kinds, no two alike: scales of both signs, and all codes."""
    rng = np.random.default_rng(2)
    halves = rng.permutation(HALVES[FINITE & ((HALVES & 0x7FFF) > 0x2000)])[:nb]
    codes = rng.integers(0, 256, (LONGEST, BLOCK))[:nb]
    return np.concatenate(
        [halves.astype("<u2").view(np.uint8).reshape(-1, 2), codes.astype(np.uint8)], axis=1
    )


def places(
    calls: DequantizerCalls, model: Dequantizer, failures: Sequence[Failure]
) -> tuple[list[Difference], Dequantizer]:
    """Find blocks that are otherwise in rows of some lengths."""
    lengths = {*LENGTHS, *(f.call.n // BLOCK for f in failures if f.call.n <= BLOCK * LONGEST)} - {0}
    effects: dict[int, dict[Any, Array]] = {}
    first = _preferred(calls, model)

    def ask(n: int) -> dict[Any, Array]:
        if n not in effects:
            effects[n] = _effects(calls, model, n, first)
        return effects[n]

    for n in sorted(lengths):
        if sum(bool(of) for of in effects.values()) < EXPLAINED:
            ask(n)
    found: list[Difference] = []
    parts = []
    for effect in dict.fromkeys(effect for of in effects.values() for effect in of):
        seen, more = seen_of(effect, effects, ask)
        rule = find_rule(*_showing(model, effect, seen, more), LONGEST)
        if rule is not None:
            part = rule, _effect(model, effect)
            parts.append(part)
            found.append(_of_place(effect, rule, part))
    return found, replace(model, parts=tuple(parts))


def _showing(model: Dequantizer, effect: Any, seen: Seen, ask: Asked) -> tuple[Seen, Asked]:  # noqa: ANN401 - a tuple
    """Return what is known of an effect: it shows in blocks of which it makes something else."""

    def shows(n: int) -> Array:
        row, fill = various(n), np.full((n, BLOCK), FILLS[0] * 0x01010101, np.uint32)
        want = model.predict(row, fill)
        return np.asarray((_effect(model, effect)(want, row, fill) != want).any(axis=1))

    if effect[0] not in PARTLY:
        return seen, ask
    return Seen(seen.rows, {n: shows(n) for n in seen.rows}), lambda n: (ask(n)[0], shows(n))


def _preferred(calls: DequantizerCalls, model: Dequantizer) -> tuple[Any, ...]:
    """Return the effect that gives all blocks that are wrong in rows with many tails, if one does."""
    rows = []
    for n in WITH_TAILS:
        row, fill = various(n), np.full((n, BLOCK), FILLS[0] * 0x01010101, np.uint32)
        got, want = calls(row), model.predict(row, fill)
        left = (got != want).any(axis=1) & (model.places(n) >= 0).all(axis=1)
        if left.any():
            rows.append((left, want, row, got))
    for left, want, row, got in sorted(rows, key=lambda one: -one[0].sum())[:1]:
        for effect, gives in _others(model, got, want, row):
            if gives()[left].all() and all(_gives(model, effect, *of)[at].all() for at, *of in rows):
                return (effect,)
    return ()


def _effects(calls: DequantizerCalls, model: Dequantizer, n: int, first: tuple[Any, ...]) -> dict[Any, Array]:
    """Return what the blocks of a row of n are that the model does not give, and which: bool [n]."""
    row, fills = various(n), [np.full((n, BLOCK), fill * 0x01010101, np.uint32) for fill in FILLS]
    got = calls(row)
    want = model.predict(row, fills[0])
    # (What is read from behind the row is not known.)
    left = (got != want).any(axis=1) & (model.places(n) >= 0).all(axis=1)
    if not left.any():
        return {}
    kept = (got == fills[0]) & (calls(row, FILLS[1]) == fills[1])
    preferred = [(effect, partial(_gives, model, effect, want, row, got)) for effect in first]
    others = _others(model, got, want, row)
    return explained(left, (*_unwritten(kept), *preferred, *_moved(got, want, left), *others))


def _unwritten(kept: Array) -> Iterator[tuple[Any, Callable[[], Array]]]:
    """Yield patterns of elements that keep what they held, and functions that return where: bool [n]."""
    yield ("unwritten",), lambda: np.asarray(kept.all(axis=1))
    for lanes in np.unique(kept[kept.any(axis=1)], axis=0)[:4]:
        numbers = tuple(np.flatnonzero(lanes).tolist())
        yield ("unwritten-elements", numbers), partial(_are_all, kept, lanes)


def _are_all(one: Array, other: Array) -> Array:
    """Return which blocks are equal."""
    return np.asarray((one == other).all(axis=1))


def _moved(got: Array, want: Array, left: Array) -> Iterator[tuple[Any, Callable[[], Array]]]:
    """Yield from where the blocks that are wrong may come, as `_unwritten`."""
    yield ("zero",), lambda: np.asarray((got == 0).all(axis=1))
    numbers = np.arange(len(got))
    source = {block.tobytes(): b for b, block in enumerate(want)}
    of = np.array([source.get(block.tobytes(), -1) for block in got])
    first = int(np.argmax(left))
    period = first - int(of[first])
    if of[first] >= 0 and period >= PERIOD and (of == numbers % period)[left].all():
        yield ("wraps", period), lambda: of >= 0
    if (of[left] == 0).sum() > 1:
        yield ("block-is", 0), lambda: of == 0
    for offset in dict.fromkeys((of - numbers)[left & (of >= 0)].tolist()):
        yield ("block-of", offset), partial(np.equal, of, numbers + offset)


def _others(
    model: Dequantizer, got: Array, want: Array, row: Array
) -> Iterator[tuple[Any, Callable[[], Array]]]:
    """Yield other scales or codes, and known mistakes, as `_unwritten`."""
    moved = [(name, offset) for name in ("scale-of", "codes-of") for offset in OFFSETS]
    tails = [("scale-before", t) for t in GROUPS]
    mistakes = [("as", slug) for slug in single_mistakes()]
    products: list[Any] = [("product", name) for name in PRODUCTS]
    for effect in (*moved, ("scale-is", 0), *tails, *mistakes, *products):
        yield effect, partial(_gives, model, effect, want, row, got)
    wrong = (got != want).any(axis=1)
    if (source := sources(got, want, wrong)) is not None:
        yield ("elements", source), partial(_gives, model, ("elements", source), want, row, got)
    if lanes := lanes_of(got, want, wrong):
        for inner in (("zero",), *mistakes, *products):
            yield ("in", lanes, *inner), partial(_gives, model, ("in", lanes, *inner), want, row, got)


def _gives(model: Dequantizer, effect: Any, want: Array, row: Array, got: Array) -> Array:  # noqa: ANN401 - a tuple
    """Return which blocks are what an effect makes of them: bool [n]."""
    return _are_all(_effect(model, effect)(want, row, got), got)


def _effect(model: Dequantizer, effect: Any) -> Callable[[Array, Array, Array], Array]:  # noqa: ANN401 - a tuple
    """Return what a place's effect makes of the bits of a row."""
    name, *values = effect
    bare = replace(model, parts=())

    def scaled(row: Array, of: Array) -> Array:
        """Return the bits of a row whose blocks have the scales of others."""
        # (A block that has none there has its own.)
        of = np.where((of >= 0) & (of < len(row)), of, np.arange(len(row)))
        return bare.predict(np.concatenate([row[of, :2], row[:, 2:]], axis=1), row)

    def of_codes(row: Array) -> Array:
        """Return the bits of a row whose blocks have the codes of others."""
        return bare.predict(
            np.concatenate([row[:, :2], np.roll(row[:, 2:], -values[0], axis=0)], axis=1), row
        )

    if name == "unwritten-elements":
        lanes = np.isin(np.arange(BLOCK), values[0])
        return lambda bits, _row, before: np.where(lanes, before, bits)
    if name in ("as", "product"):
        changes = single_mistakes()[values[0]] if name == "as" else {"product": PRODUCTS[values[0]][1]}
        read = replace(bare, **changes)
        return lambda _bits, row, before: read.predict(row, before)
    if name == "in":
        inner, some = _effect(model, tuple(values[1:])), np.isin(np.arange(BLOCK), values[0])
        return lambda bits, row, before: np.where(some, inner(bits, row, before), bits)
    return {
        "unwritten": lambda _bits, _row, before: before,
        "zero": lambda bits, _row, _before: np.zeros_like(bits),
        "block-of": lambda bits, _row, _before: np.roll(bits, -values[0], axis=0),
        "wraps": lambda bits, _row, _before: bits[np.arange(len(bits)) % values[0]],
        "block-is": lambda bits, _row, _before: np.broadcast_to(bits[values[0]], bits.shape),
        "scale-of": lambda _bits, row, _before: scaled(row, np.arange(len(row)) + values[0]),
        "codes-of": lambda _bits, row, _before: of_codes(row),
        "scale-before": lambda _bits, row, _before: scaled(row, _before_tail(len(row), values[0])),
        "elements": lambda bits, _row, _before: bits[:, list(values[0])],
        "scale-is": lambda _bits, row, _before: scaled(row, np.zeros(len(row), np.int64)),
        "other": lambda bits, _row, _before: bits,
    }[name]


def _before_tail(n: int, t: int) -> Array:
    """Return the number of each block, and of those beyond a multiple of t that of the last one before."""
    whole = n // t * t
    numbers = np.arange(n)
    return np.where((numbers >= whole) & (whole > 0), whole - 1, numbers)


_EFFECTS = {
    "unwritten": "is not written",
    "unwritten-elements": "has elements that are not written: {}",
    "zero": "is zero",
    "block-of": "is that of the block {:+d} from it",
    "wraps": "is that whose number is its own modulo {}",
    "block-is": "is the first block",
    "scale-of": "has the scale of the block {:+d} from it",
    "codes-of": "has the codes of the block {:+d} from it",
    "scale-is": "has the scale of the first block",
    "scale-before": "has the scale of the last one of the whole groups of {}",
    "other": "has other values",
}


def _of_place(effect: Any, rule: Rule, part: Any) -> Difference:  # noqa: ANN401 - tuples
    """Return the difference that an effect at some places is."""
    name, *values = effect
    where = rule.text("block", "nb")
    cause = CAUSES.get((name, where), "")
    fix = "Treat every block alike: the path that is taken there is wrong."
    noun = where
    if name == "in":
        noun = (
            f"of {where} {'element' if len(values[0]) == 1 else 'each of the elements'} {ranges(values[0])}"
        )
        name, *values = values[1:]
    if name == "as":
        cause, broken = values[0], ""
        what = f"is read otherwise than the rest: {MUTANTS[cause].sentence}"
    elif name == "product":
        broken, what = VALUE, PRODUCTS[values[0]][0]
    elif name == "elements":
        moved = [f"{j} is that of element {s}" for j, s in enumerate(values[0]) if j != s]
        more = f" and {len(moved) - SHOWN} others" if len(moved) > SHOWN else ""
        broken, what = PLACES, f"has elements in others' places: element {', '.join(moved[:SHOWN])}{more}"
    else:
        broken = VALUE if name == "other" else PLACES
        what = _EFFECTS[name].format(*values)
    sentence = f"{noun[0].upper()}{noun[1:]} {what}".rstrip(".") + "."
    lanes = {"elements": list(effect[1])} if effect[0] == "in" else {}
    data = {"effect": name, **lanes, **rule.to_json(), **({"value": values[0]} if values else {})}
    named = words(sentence, cause=cause, rule=broken, fix=fix)
    return Difference(f"place-{name}", data, *named, partial(without_part, part))


# Some elements of every block.

ONE = (0x00, 0x3C)
"""The bytes of the half 1.0."""

LANE_BLOCKS = 8
"""Blocks of a row, as short as other experiments have it."""


def lanes(calls: DequantizerCalls, model: Dequantizer) -> tuple[list[Difference], Dequantizer]:
    """Read every code at every element, under the scale 1; those that are not read as most are, are a fact.

    Only where some elements are read rightly, the others all alike, and every byte is at its place.
    """
    rows = np.empty((CODES.size, SIZE), np.uint8)
    rows[:, :2], rows[:, 2:] = ONE, np.arange(CODES.size)[:, np.newaxis]
    numbers = np.arange(SIZE * LANE_BLOCKS).reshape(LANE_BLOCKS, SIZE)
    if not np.array_equal(model.places(LANE_BLOCKS), numbers):
        return [], model
    # (Once more, each code in another block: what is so in some blocks alone is not said of every one.)
    got, again = (
        np.roll(
            np.concatenate([calls(row).view(F32) for row in np.split(of, CODES.size // LANE_BLOCKS)]),
            -shift,
            0,
        )
        for shift, of in ((0, rows), (1, np.roll(rows, 1, axis=0)))
    )
    right = read_right()[1]
    wrong = np.flatnonzero((got != right[:, np.newaxis]).any(axis=0))
    if (
        not (np.array_equal(got, again) and 0 < wrong.size < BLOCK)
        or (got[:, wrong] != got[:, wrong[:1]]).any()
    ):
        return [], model
    table = got[:, wrong[0]].copy()
    found = tuple(wrong.tolist())
    first = CODES[np.argmax(table != right)]
    how = _values_words(table, right) or f"{first} as {table[np.uint8(first)]:g}"
    where = {"elements": list(found), "codes": CODES[table != right].tolist()}
    noun = "Element" if len(found) == 1 else "Elements"
    sentence = f"{noun} {ranges(found)} of every block: codes are read {how}."
    fix = "Widen and multiply every element alike."
    named = words(sentence, rule="Q8A8-DEQ-1", fix=fix)
    difference = Difference("code-read", where, *named, partial(replace, lanes=None))
    return [difference], replace(model, lanes=(found, table))


def _values_words(table: Array, right: Array) -> str:
    """Describe values of codes that have a simple rule; empty for others."""
    rules = {
        "with the other sign": -right,
        "without a sign": np.abs(right),
        "as unsigned bytes": right % 256,
        "as zeros": right * 0,
    }
    return next((words for words, values in rules.items() if (values == table).all()), "")
