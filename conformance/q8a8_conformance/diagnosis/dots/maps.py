"""Which codes of x meet which of y in a block, and how often each pair is counted."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.diagnosis.dots import candidates
from q8a8_conformance.diagnosis.dots.elements import elements_words
from q8a8_conformance.reveal.quantizers.words import ranges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from q8a8_conformance.diagnosis.dots.candidates import Candidate
    from q8a8_conformance.inputs.arrays import Array

    Block = Callable[[Array, Array], float]

FIX = "Pair element j of x with element j of y, and add all 32 products."

SPANS = 4
"""Spans of elements that are named one by one at most, where they meet others by no rule."""


def measured_map(block: Block) -> Iterator[Sequence[Candidate]]:
    """Measure how often each product of a block is counted, and what codes of y count alone: one candidate.

    Parameters
    ----------
    block
        Codes of x and of y [32] -> the result of one block, under scales of 1.
    """
    units = np.eye(32, dtype=np.int64)
    none = np.zeros(32, np.int64)
    offset = np.array([block(none, units[k]) for k in range(32)])
    matrix = np.zeros((32, 32))
    for j in range(32):
        values = [block(units[j], np.arange(1, 33)), block(units[j], np.arange(32, 0, -1))]
        if sum(values) in (0.0, 33.0) and not offset.any():
            place = int(values[0]) - 1
            if sum(values) and 0 <= place < 32:
                matrix[j, place] = 1
                continue
            if not any(values):
                continue
        matrix[j] = [block(units[j], units[k]) - offset[k] for k in range(32)]
    if np.isfinite(matrix).all() and np.array_equal(np.rint(matrix), matrix):
        yield [_as_candidate(matrix.astype(np.int64), offset.astype(np.int64))]


def _as_candidate(matrix: Array, offset: Array) -> Candidate:
    """Return a block sum as a candidate."""
    lost = [j for j in range(32) if not matrix[j].any()]
    twice = [j for j in range(32) if matrix[j, j] > 1]
    met = {j: np.flatnonzero(matrix[j]).tolist() for j in range(32)}
    moved = {j: ks for j, ks in met.items() if ks and j not in ks}
    more = {j: [k for k in ks if k != j] for j, ks in met.items() if j in ks and len(ks) > 1}
    parts = []
    if lost:
        parts.append(f"{_elements(lost)} of a block {'are' if len(lost) > 1 else 'is'} not counted")
    if twice:
        often = "twice" if all(matrix[j, j] == 2 for j in twice) else "more than once"
        parts.append(f"{_elements(twice)} {'are' if len(twice) > 1 else 'is'} counted {often}")
    parts += [f"x's {words}" for words in _moves({j: ks[0] for j, ks in moved.items()})]
    parts += [f"x's {words}, too" for words in _moves({j: ks[0] for j, ks in more.items()})]
    if offset.any():
        parts.append(f"y's codes count {int(offset[np.argmax(np.abs(offset))])} times by themselves")
    sentence = "; ".join(parts) or "codes meet others than their own"
    where = {
        "lost": lost,
        "twice": twice,
        "moved": {str(j): ks for j, ks in moved.items()},
        "map": matrix.tolist(),
    }
    return candidates.Candidate(
        "block-map", where, "Q8A8-DOT-1", f"{sentence[0].upper()}{sentence[1:]}.", FIX,
        "", {"products": candidates.linear(matrix, offset)},
    )  # fmt: skip


def _elements(places: Sequence[int]) -> str:
    return f"element{'s' * (len(places) > 1)} {ranges(list(places))}"


def _moves(moved: Mapping[int, int]) -> Iterator[str]:
    """Say which elements of y those of x meet: a rule for all of them, or one span after the other."""
    if not moved:
        return
    of, met = np.array(list(moved)), np.array(list(moved.values()))
    rules = (("j xor {}", of ^ met), ("{} - j", of + met))
    rule = next((words.format(by[0]) for words, by in rules if len(of) > 1 and (by == by[0]).all()), "")
    spans = [list(span) for _, span in itertools.groupby(moved, lambda j: moved[j] - j)]
    if rule and len(spans) > 1:
        which = f", for j = {ranges(list(moved))}" if len(moved) < 32 else ""
        yield f"element j meets y's element {rule}{which}"
        return
    for span in spans[: SPANS if len(spans) > 2 * SPANS else None]:
        if span[-1] - span[0] >= len(span):
            by = moved[span[0]] - span[0]
            yield f"{elements_words(span)} meet y's element j {'-' if by < 0 else '+'} {abs(by)}"
            continue
        meet = "meet" if len(span) > 1 else "meets"
        yield f"{_elements(span)} {meet} y's {_elements([moved[j] for j in span])}"
    if len(spans) > 2 * SPANS:
        yield f"elements in {len(spans) - SPANS} more spans meet others, too"


def map_of(part: Candidate) -> dict[str, Any]:
    """Return the 32 x 32 map of a step that multiplies codes, where it is not the identity."""
    step = part.changes.get("products")
    if step is None or "map" in part.where:
        return {}
    x, y = (np.repeat(np.eye(32, dtype=np.int8), 32, axis=0), np.tile(np.eye(32, dtype=np.int8), (32, 1)))
    counted = np.asarray(step(x, y)).sum(axis=1).reshape(32, 32)
    plain = np.array_equal(counted, np.eye(32)) or not np.isin(counted, range(10)).all()
    return {} if plain else {"map": counted.astype(int).tolist()}
