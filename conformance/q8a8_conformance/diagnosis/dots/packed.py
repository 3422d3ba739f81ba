"""Two sums in one integer, with two rows at a time: how one runs into the other.

A code of two rows, one of them shifted, is multiplied by a code that both meet, and the sums are taken apart
at the end. Where the lower one does not fit its bits, or its sign is not taken off the higher one again, two
of the four results are wrong by numbers that follow from each other.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.diagnosis.dots.model import RESULTS, Model, matches, merged
from q8a8_conformance.inputs import dot_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from q8a8_conformance.diagnosis.dots.bench import Bench, Measured
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.results.observations import CallResult

PAIRS = {
    "x": (((0, 1), (2, 3)), ((1, 0), (3, 2))),
    "y": (((0, 2), (1, 3)), ((2, 0), (3, 1))),
}
"""Results that share an integer, by the side whose rows are packed: the lower and the higher one of each."""

WIDTHS = range(12, 25)
"""Bits of the lower sum."""

CHUNKS = (32, 16, 8, 4, 2, 1)
"""Elements whose products are added up before the sums are taken apart."""

TRIED = 4
"""Failed calls that every way is tried on; what gives these is tried on all."""

ROWS = 24
"""Rows of one block, of codes with large sums, that a way must give, too."""

FIX = (
    "Give the lower sum as many bits as 32 products take, its sign included (21), and add the borrow of a "
    "negative one to the higher sum."
)


def packed_sums(bench: Bench, known: Model, failed: Sequence[CallResult]) -> Iterator[Measured]:
    """Find in which way two of the four results share an integer."""
    some = sorted((one for one in failed if one.call.n), key=lambda one: one.call.n)[:TRIED]
    if not some:
        return
    for changes, where, words in _ways():
        model = merged(known, [changes])
        if not all(matches(model, one) for one in some):
            continue
        made = [bench.answer(bench.call_of_two(*rows)) for rows in _loud(bench.length)]
        if not all(matches(model, one) for one in made):
            continue
        shown = next((one for one in made if not matches(known, one)), some[0])
        yield bench.measured(
            "sums-packed",
            where,
            f"With nrc = 2, {words}.",
            rule="Q8A8-DOT-6",
            fix=FIX,
            evidence=[bench.evidence(shown.call, "two rows of large sums")],
            changes=changes,
        )
        return


def _loud(nb: int) -> Iterator[tuple[list[Array], list[Array]]]:
    """Yield two rows of x and of y with sums of many sizes and both signs, in one block and in more."""
    rng = dot_rows.generator("packed-sums")
    for number in range(ROWS):
        size = (3, 30, 80, 128)[number % 4]
        count = nb if number % 2 else 1
        codes = rng.integers(-size, size, (4, count, 32))
        if number % 3:
            codes[:2] = np.abs(codes[:2]) * rng.choice([-1, 1], (2, 1, 1))
            codes[2:] = np.abs(codes[2:]) * rng.choice([-1, 1], (2, 1, 1))
        rows = [dot_rows.blocks(1.0, np.clip(of, -128, 127)) for of in codes]
        yield rows[:2], rows[2:]


def _ways() -> Iterator[tuple[dict[str, Any], dict[str, Any], str]]:
    """Yield what may become of two sums in one integer: changes of a model, as data, and in words."""
    for (side, turns), chunk in itertools.product(PAIRS.items(), CHUNKS):
        for pairs in turns:
            low, high = ([RESULTS[of[place]] for of in pairs] for place in (0, 1))
            packed = ", and ".join(f"{a} and {b}" for a, b in zip(low, high, strict=True))
            often = "" if chunk == CHUNKS[0] else f", {chunk} products at a time"
            shared = f"the sums of {packed} share an integer{often}"
            data: dict[str, Any] = {"packed": side, "low": low, "high": high, "chunk": chunk}
            yield (
                _changes(pairs, _borrowed, side, chunk),
                {**data, "as": "borrow"},
                f"{shared}: where the first is negative, the second is 1 too low",
            )
            for width, is_signed in itertools.product(WIDTHS, (True, False)):
                kind = "signed" if is_signed else "unsigned"
                yield (
                    _changes(pairs, partial(_field, width=width, is_signed=is_signed), side, chunk),
                    {**data, "as": kind, "bits": width},
                    f"{shared}, the first in {width} bits, {kind}: what does not fit goes to the second",
                )


def _changes(
    pairs: Sequence[tuple[int, int]],
    carry: Callable[[Array], tuple[Array, Array]],
    side: str,
    chunk: int,
) -> dict[str, Any]:
    """Return the fields of a model in which the higher of two sums has what the lower one lost.

    `carry` returns of lower sums [n, chunks] what goes to the higher ones, and what they lose.
    """

    def lost(qx: Array, qy: Array, _other_x: Array, _other_y: Array) -> Array:
        return np.asarray(-carry(_sums(qx, qy, chunk))[1].sum(axis=1))

    def gained(qx: Array, qy: Array, other_x: Array, other_y: Array) -> Array:
        partner = _sums(other_x, qy, chunk) if side == "x" else _sums(qx, other_y, chunk)
        return np.asarray(carry(partner)[0].sum(axis=1))

    low, high = (frozenset(of[place] for of in pairs) for place in (0, 1))
    return {"only": ((low, {"beside": lost}), (high, {"beside": gained}))}


def _sums(qx: Array, qy: Array, chunk: int) -> Array:
    products = qx.astype(np.int64) * qy
    return np.asarray(products.reshape(len(products), -1, chunk).sum(axis=2))


def _borrowed(sums: Array) -> tuple[Array, Array]:
    return -(sums < 0).astype(np.int64), np.zeros_like(sums)


def _field(sums: Array, width: int, *, is_signed: bool) -> tuple[Array, Array]:
    carry = (sums + ((1 << width - 1) if is_signed else 0)) >> width
    return carry, carry << width
