"""Sums of some products of a block that come out as other numbers: of which products, and as which numbers.

The 32 products are split into parts: pairs, quads, lanes of vectors. The sum of each part becomes something
else: it has fewer bits, is rounded, loses its sign. Either it is formed and then changed, or it is changed
after every addition. All splits and all changes are tried on every call at once; where only some parts are
changed, a system of linear equations shows which.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.diagnosis.dots.candidates import Candidate
from q8a8_conformance.diagnosis.dots.elements import elements_words
from q8a8_conformance.reveal.grids import away, significant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from q8a8_conformance.inputs.arrays import Array

WIDTHS = range(8, 21)
"""Bits of integers in which sums are kept."""

SHORT = (8, 10, 11, 12)
"""Significant bits of formats in which sums may run."""

FEW = 12
"""Wrong calls that are looked at first."""

ONE_BY_ONE, IN_PAIRS = CHANGED_BEFORE = -1, -2
"""Ways to add products that are changed themselves: one after the other, or neighbours, and their sums."""

HALF_OVERFLOWS = 65520.0
"""From here on an integer is an infinite half."""

CAUSES = {"wraps": "block-in-int16", "saturates": "block-saturates"}
"""What the catalogue calls a block's sum of 16 bits."""

FIX = "Add in int32, exactly: a block's sum reaches 2^19."


@dataclass(frozen=True)
class Split:
    """Which products are added up before anything is done to the sum.

    Attributes
    ----------
    words
        What is added, in the plural, behind "sums of".
    part
        int [32]: the number of each product's part.
    where
        As JSON data.
    """

    words: str
    part: tuple[int, ...]
    where: Mapping[str, Any]

    @property
    def parts(self) -> int:
        """How many there are."""
        return max(self.part) + 1

    def matrix(self) -> Array:
        """Return which product is of which part: int [32, parts]."""
        return np.eye(self.parts, dtype=np.int64)[list(self.part)]

    def steps(self, together: int) -> Array:
        """Return the products that are added one after the other: int [steps, parts, `together`]."""
        order = np.argsort(self.part, kind="stable").reshape(self.parts, -1, together)
        return order.swapaxes(0, 1)

    @property
    def size(self) -> int:
        """How many products each part has."""
        return 32 // self.parts


@dataclass(frozen=True)
class Change:
    """What becomes of a sum.

    Attributes
    ----------
    words
        With a verb for {is}, and {has} for one or many.
    where
        As JSON data.
    of
        Integers as float64 or int64, of any shape -> what they become.
    runs
        Whether it may also be done after each addition, with another result than at the end.
    converted
        Whether sums are converted to int32: infinite ones to the least of it.
    """

    words: str
    where: Mapping[str, Any]
    of: Callable[..., Array]
    runs: bool = False
    converted: bool = False


@cache
def splits() -> tuple[Split, ...]:
    """Return ways to split 32 products, those with the fewest parts first."""
    found: dict[tuple[int, ...], Split] = {}
    every = np.arange(32)
    for within in (32, 16, 8):
        for together in (1, 2, 4, 8, 16):
            lanes = 1
            while lanes * together <= within:
                part = every // within * lanes + every // together % lanes
                split = Split(
                    _split_words(within, together, lanes),
                    tuple(part.tolist()),
                    {"within": within, "together": together, "lanes": lanes},
                )
                # (What is simplest to say of parts that are the same ones.)
                key = split.part
                if key not in found or len(split.words) < len(found[key].words):
                    found[key] = split
                lanes *= 2
    return tuple(sorted(found.values(), key=lambda one: one.parts))


COUNTS = {1: "single products", 2: "pairs of products", 32: "a block"}
WHOLE = {4: "four", 8: "eight", 16: "16"}


def _split_words(within: int, together: int, lanes: int) -> str:
    if lanes == 1 or lanes * together == within:
        size = within if lanes == 1 else together
        return COUNTS.get(size, f"{WHOLE.get(size, size)} consecutive products")
    group = f"j mod {lanes}" if together == 1 else f"j / {together} mod {lanes}"
    of = "" if within == 32 else f" in each {WHOLE[within]} elements"
    return f"products of elements with the same {group}{of}"


def in_bits(v: Array, bits: int, ends: str) -> Array:
    """Return integers that are kept in so many bits."""
    half = 1 << (bits - 1)
    if ends == "wraps":
        return np.asarray((v + half) % (2 * half) - half)
    if ends == "wraps unsigned":
        return np.asarray(v % (2 * half))
    least = {"saturates": -half, "saturates alike": 1 - half, "saturates unsigned": 0}[ends]
    return np.asarray(np.clip(v, least, 2 * half - 1 if least == 0 else half - 1))


def _as_half(v: Array) -> Array:
    of = significant(v, 11, np.rint)
    return np.asarray(np.where(np.abs(v) >= HALF_OVERFLOWS, np.copysign(np.inf, v), of))


@cache
def changes() -> tuple[Change, ...]:
    """Return what may become of a sum, the simplest first."""
    return tuple(_changes())


def _changes() -> Iterator[Change]:
    simple: tuple[tuple[str, Callable[[Array], Array]], ...] = (
        ("{is} counted as 0 where {it} {is} negative", lambda v: np.maximum(v, 0)),
        ("{is} counted as 0 where {it} {is} positive", lambda v: np.minimum(v, 0)),
        ("{loses} {its} sign", np.abs),
        ("{is} taken with the other sign", np.negative),
        ("{is} one less where {it} {is} negative", lambda v: v - (v < 0)),
        ("{is} one more where {it} {is} negative", lambda v: v + (v < 0)),
        ("{is} one less where {it} {is} positive", lambda v: v - (v > 0)),
        ("{is} one more where {it} {is} positive", lambda v: v + (v > 0)),
        ("{is} counted half where {it} {is} negative", lambda v: np.where(v < 0, v / 2, v)),
        ("{is} taken off once more where {it} {is} negative", lambda v: v + np.minimum(v, 0)),
    )  # fmt: skip
    for words, of in simple:
        yield Change(words, {"as": words.format(**_verbs(many=False))}, of)
    for bits in WIDTHS:
        for ends in ("wraps", "saturates", "saturates alike", "wraps unsigned", "saturates unsigned"):
            kind, *how = ends.split()
            words = f"{{is}} kept in {bits} {'unsigned ' * ('unsigned' in how)}bits and {{{kind}}}"
            if "alike" in how:
                words += f" from {1 - (1 << (bits - 1))} on"
            of = partial(in_bits, bits=bits, ends=ends)
            yield Change(words, {"bits": bits, "ends": ends}, of, runs=ends == "saturates")
    words = "{is} rounded to a half"
    yield Change(words, {"format": "half"}, _as_half, runs=True)
    yield Change(words, {"format": "half", "converted": "int32"}, _as_half, runs=True, converted=True)
    for bits in range(23, 2, -1):
        name = {8: " (bfloat16)"}.get(bits, "")
        for word, to in (("rounded", np.rint), ("cut off", np.trunc), ("rounded away", away)):
            words = f"{{is}} {word} to {bits} significant bits{name}"
            runs = bits in SHORT and word != "rounded away"
            yield Change(words, {"bits": bits, "by": word}, partial(significant, bits=bits, to=to), runs)
    for power in range(1, 16):
        others: tuple[tuple[str, Callable[[Array], Array]], ...] = (
            ("rounded down", np.floor), ("cut off", np.trunc), ("rounded", np.rint), ("rounded away", away),
            ("rounded up, where it is half,", lambda v: np.floor(v + 0.5)),
        )  # fmt: skip
        for word, way in others:
            words = f"{{is}} {word} to {'even numbers' if power == 1 else f'multiples of {2**power}'}"
            yield Change(words, {"unit": 2**power, "by": word}, lambda v, u=2**power, to=way: to(v / u) * u)
    for power in (8, 15, 16, 17, 18, 31, 32):
        words = f"{{is}} 2^{power} more where {{it}} {{is}} negative"
        yield Change(words, {"negative": 2**power}, lambda v, by=2.0**power: v + by * (v < 0))


def _verbs(*, many: bool) -> dict[str, str]:
    plurals = {"is": "are", "wraps": "wrap", "saturates": "saturate", "loses": "lose"}
    plurals |= {"its": "their", "it": "they"}
    return {one: several if many else one for one, several in plurals.items()}


def changed_sum(
    of: Array, split: Split, change: Change, together: int = 0, some: tuple[int, ...] | None = None
) -> Array:
    """Return the sums of blocks of products [..., 32] whose partial sums are changed: float64 [...].

    `together` products are added at a time and the sum changed after each addition; 0 is for all at once. In
    `ONE_BY_ONE` and `IN_PAIRS` the products are changed, too. `some` are the parts that are changed, None for
    all.
    """
    with np.errstate(all="ignore"):
        sums = _parts(of, split, change, together)
        if some is not None:
            chosen = np.isin(np.arange(split.parts), some)
            sums = np.where(chosen, sums, of @ split.matrix())
        if change.converted:
            sums = np.where(np.isfinite(sums), sums, -(2.0**31))
            return in_bits(sums.sum(axis=-1), 32, "wraps")
        return np.asarray(sums.sum(axis=-1), np.float64)


def _parts(of: Array, split: Split, change: Change, together: int) -> Array:
    """Return partial sums that are changed [..., parts]."""
    if not together:
        return change.of(of @ split.matrix())
    if together in CHANGED_BEFORE:
        of, together = change.of(of), int(together == ONE_BY_ONE)
    if not together:
        sums = of[..., np.argsort(split.part, kind="stable").reshape(split.parts, -1)]
        while sums.shape[-1] > 1:
            sums = change.of(sums[..., ::2] + sums[..., 1::2])
        return np.asarray(sums[..., 0])
    total = np.zeros((*of.shape[:-1], split.parts))
    for some in split.steps(together):
        total = change.of(total + of[..., some].sum(axis=-1))
    return total


def partial_sums(of: Array, values: Array) -> Candidate | None:
    """Find the change of partial sums that gives the sums of blocks.

    Parameters
    ----------
    of
        Products of blocks, [calls, 32].
    values
        Measured sums, [calls].
    """
    plain = of.sum(axis=1)
    wrong = np.flatnonzero(plain != values)
    if not wrong.size:
        return None
    # (Few products tell most.)
    few = wrong[np.argsort(np.count_nonzero(of[wrong], axis=1), kind="stable")][:FEW]
    every = np.arange(len(of))
    whole, partly = _fitting(of[few], values[few])
    running = (
        (split, change, together)
        for split in splits()
        for change in changes()
        for together in (1, 2, 4, *(CHANGED_BEFORE if change.where.get("ends") != "saturates" else ()))
        if change.runs and split.size > max(together, 1)
    )
    for split, change, together in (*((*way, 0) for way in whole), *running):
        if all(
            np.array_equal(changed_sum(of[some], split, change, together), values[some], equal_nan=True)
            for some in (few, every)
        ):
            return _candidate(split, change, together, None)
    for split, change in partly:
        if some := _some_parts(of, values - plain, split, change):
            return _candidate(split, change, 0, some)
    return None


def _fitting(of: Array, values: Array) -> tuple[list[tuple[Split, Change]], list[tuple[Split, Change]]]:
    """Return changes of partial sums that give a few sums: of all parts, and maybe of some."""
    starts = np.cumsum([0, *(split.parts for split in splits())])[:-1]
    sums = of @ np.column_stack([split.matrix() for split in splits()])
    left = (values - of.sum(axis=1))[:, np.newaxis]
    whole: list[tuple[int, int]] = []
    partly: list[tuple[int, int]] = []
    with np.errstate(all="ignore"):
        for number, change in enumerate(changes()):
            more = np.asarray(change.of(sums) - sums, np.float64)
            total = np.add.reduceat(more, starts, axis=1)
            changed = np.add.reduceat((more != 0).astype(np.int64), starts, axis=1)
            maybe = np.where(changed == 0, left == 0, (changed > 1) | (left == total) | (left == 0))
            of_all = (total == left) | ~np.isfinite(left)
            for found, fits in ((whole, of_all), (partly, maybe & np.isfinite(total))):
                found += [(int(k), number) for k in np.flatnonzero(fits.all(axis=0))]
    every, some = (
        [(splits()[k], changes()[number]) for k, number in sorted(found)] for found in (whole, partly)
    )
    return every, some


def _some_parts(of: Array, left: Array, split: Split, change: Change) -> tuple[int, ...]:
    """Return the parts whose changes give what is `left` of the sums; none where there are no such."""
    sums = of @ split.matrix()
    with np.errstate(all="ignore"):
        more = np.asarray(change.of(sums) - sums, np.float64)
    return () if split.parts == 1 or not np.isfinite(more).all() else columns_giving(more, left)


def columns_giving(more: Array, left: Array) -> tuple[int, ...]:
    """Return the columns of numbers [n, k] whose sums are what is left [n]; none where there are no such."""
    if left[~more.any(axis=1)].any():
        return ()
    weights = np.rint(np.linalg.lstsq(more.astype(np.float64), left, rcond=None)[0])
    is_given = np.array_equal(more @ weights, left) and np.isin(weights, (0, 1)).all()
    return tuple(np.flatnonzero(weights).tolist()) if is_given else ()


def _candidate(split: Split, change: Change, together: int, some: tuple[int, ...] | None) -> Candidate:
    is_block = split.parts == 1
    is_one = is_block or (some is not None and len(some) == 1 < split.size)
    what = change.words.format(**_verbs(many=not is_one))
    of = "A block's sum" if is_block else f"Sums of {split.words}" if split.size > 1 else "Single products"
    step: Callable[[Array], Array] = partial(
        changed_sum, split=split, change=change, together=together, some=some
    )
    where = {**change.where, **({} if is_block else {"parts": dict(split.where)})}
    after = ""
    if together in CHANGED_BEFORE:
        each = "two" if together == IN_PAIRS else "product"
        where |= {"products": True, "after-each": each}
        added = "each two that are added" if together == IN_PAIRS else "each product that is added"
        sums = "a block's sum" if is_block else f"sums of {split.words}"
        of = f"Products, and {sums} after {added},"
        what = change.words.format(**_verbs(many=True))
    elif together:
        where["after-each"] = together
        added = "each product" if together == 1 else f"each {WHOLE.get(together, 'two')} products"
        after = f" after {added} that {'is' if together == 1 else 'are'} added"
    if some is not None:
        elements = np.flatnonzero(np.isin(split.part, some)).tolist()
        where["elements"] = elements
        of = (
            f"The sum of products of {elements_words(elements)}"
            if is_one
            else f"{of}, of {elements_words(elements)},"
        )
    if change.converted:
        after += ", and the whole sum is converted to int32" if is_block else ", and then converted to int32"
    cause = ""
    if is_block and not together and change.where.get("bits") == 16:
        cause = CAUSES.get(change.where.get("ends", ""), "")
    return Candidate(
        "block-sum", where, "Q8A8-DOT-1", f"{of} {what}{after}.", FIX, cause, {"block_sum": step}
    )  # fmt: skip
