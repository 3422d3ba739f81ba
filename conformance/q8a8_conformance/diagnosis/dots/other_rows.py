"""Codes of other rows in one of four results: which of them are taken, counted too, or added up.

A result's sum of a block is measured as a function of the codes of all four rows: of its own two, and of the
other row of x and of y. It is a sum of products of pairs of codes, and of multiples of single ones.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.diagnosis.dots.bench import ROWS, OneResult, mixed
from q8a8_conformance.diagnosis.dots.candidates import Candidate, linear
from q8a8_conformance.diagnosis.dots.elements import elements_words
from q8a8_conformance.diagnosis.dots.partial_sums import splits
from q8a8_conformance.inputs import dot_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from q8a8_conformance.diagnosis.dots.bench import Bench
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.results.observations import CallResult

    Block = Callable[..., float]

CONTROLS = 20
"""Blocks of random codes of all rows that must come out so."""

FIX = "Take all codes of a result, and what is taken off for an offset, from its own two rows."

OFFSET = 128


def other_rows(one: OneResult) -> Candidate | None:
    """Measure what codes of other rows do in the block at the bench's place; None where they do nothing."""
    measured = _Measured(one.block)
    more = {key: of for key, of in (*measured.maps.items(), *measured.sums.items()) if "other" in key}
    if not any(of.any() for of in more.values()) or not measured.is_confirmed():
        return _carried(one.block)
    own, single = measured.maps["x y"], measured.sums
    changes: dict[str, Any] = {"beside": partial(_beside, maps=measured.maps, sums=single)}
    if not np.array_equal(own, np.eye(32)):
        changes["products"] = linear(own, np.zeros(32, np.int64))
    words = "; ".join(_words(measured))
    where = {"elements": {key: np.flatnonzero(of.reshape(32, -1).any(axis=1)).tolist()
                          for key, of in more.items() if of.any()}}  # fmt: skip
    fact = "correction-wrong" if any(of.any() for of in single.values()) else "block-map"
    return Candidate(
        fact, where, "Q8A8-DOT-6", f"{words[0].upper()}{words[1:]}.", FIX, "", changes
    )  # fmt: skip


CARRIES = (*range(8, 25), 32)
"""Bits of a half of a register, whose other half has another sum."""

LOUD = 24
"""Blocks of large codes, in which sums leave such a half."""


def _carried(block: Block) -> Candidate | None:
    """Find what a result gets of sums of other rows' products where its own are 0: their carries, say."""
    rng = dot_rows.generator("carried from other rows")
    for pair in PAIRS[1:]:
        codes = rng.integers(-128, 128, (2, LOUD, 32))
        codes[1, ::2] = np.abs(codes[1, ::2]) * np.sign(codes[0, ::2]) * rng.choice([-1, 1], (LOUD // 2, 1))
        codes = np.clip(codes, -128, 127)
        rows = [dict(zip(pair.split(), of, strict=True)) for of in codes.swapaxes(0, 1)]
        left = np.array([block(**of) for of in rows])
        if not left.any():
            continue
        products = codes[0] * codes[1]
        for split, bits, is_rounded in itertools.product(splits(), CARRIES, (True, False)):
            carry = partial(_carry, parts=split.matrix(), bits=bits, is_rounded=is_rounded)
            if np.array_equal(carry(products), left):
                return _as_carried(pair, split.words, bits, carry, is_rounded=is_rounded)
    return None


def _carry(products: Array, parts: Array, bits: int, *, is_rounded: bool) -> Array:
    """Return what sums of parts of products [n, 32] give to the next `bits` bits."""
    return np.asarray((products @ parts + (1 << (bits - 1)) * is_rounded >> bits).sum(axis=1))


def _as_carried(
    pair: str, words: str, bits: int, carry: Callable[[Array], Array], *, is_rounded: bool
) -> Candidate:
    """Return that a result gets carries of products of a pair of rows."""
    one, other = pair.split()

    def beside(**rows: Array) -> Array:
        return carry(rows[one].astype(np.int64) * rows[other])

    of = f"sums of {words} of {NAMES[one]} and {NAMES[other]}"
    what = f"the carries of {of} beyond {bits} bits are" if is_rounded else f"{of} >> {bits} are"
    return Candidate(
        "block-sum",
        {"of": pair, "bits": bits, "rounded": is_rounded},
        "Q8A8-DOT-6",
        f"{what[0].upper()}{what[1:]} added.",
        FIX,
        "",
        {"beside": lambda x, y, a, b: beside(x=x, y=y, other_x=a, other_y=b)},
    )


PAIRS = ("x y", "other_x y", "x other_y", "other_x other_y")


class _Measured:
    """The maps [32, 32] of pairs of rows, and the multiples [32] of single rows.

    Parameters
    ----------
    block
        Codes by row -> the sum of a block.
    """

    def __init__(self, block: Block) -> None:
        self._block = block
        units = np.eye(32, dtype=np.int64)
        self.sums = {name: np.array([block(**{name: unit}) for unit in units]) for name in ROWS}
        self.maps = {pair: self._map(*pair.split()) for pair in PAIRS}

    def _pair(self, one: str, other: str, a: Array, b: Array) -> float:
        return self._block(**{one: a, other: b}) - float(a @ self.sums[one] + b @ self.sums[other])

    def _map(self, one: str, other: str) -> Array:
        """Return how often each pair of codes of two rows is counted."""
        rng = dot_rows.generator(f"other rows {one} {other}")
        found = np.zeros((32, 32))
        if not any(self._pair(one, other, *rng.integers(-60, 60, (2, 32))) for _ in range(3)):
            return found
        every, units = np.arange(1, 33), np.eye(32, dtype=np.int64)
        for j, unit in enumerate(units):
            up, down = (self._pair(one, other, unit, codes) for codes in (every, every[::-1]))
            if up + down == 33 and up in every:
                found[j, int(up) - 1] = 1
            elif up or down:
                found[j] = [self._pair(one, other, unit, k) for k in units]
        return found

    def is_confirmed(self) -> bool:
        """Return whether random codes of all rows give the sum that was measured."""
        rng = dot_rows.generator("controls of other rows")
        for _ in range(CONTROLS):
            rows = dict(zip(ROWS, rng.integers(-100, 101, (4, 1, 32)), strict=True))
            given = float(_beside(**rows, maps=self.maps, sums=self.sums)[0])
            given += float((rows["x"] @ self.maps["x y"] @ rows["y"].T)[0, 0])
            if self._block(**{name: of[0] for name, of in rows.items()}) != given:
                return False
        return True


def _beside(
    x: Array,
    y: Array,
    other_x: Array,
    other_y: Array,
    *,
    maps: Mapping[str, Array],
    sums: Mapping[str, Array],
) -> Array:
    """Return what is added to the sums of blocks of codes [n, 32] beside the products of their own rows."""
    rows = {"x": x, "y": y, "other_x": other_x, "other_y": other_y}
    rows = {name: of.astype(np.float64) for name, of in rows.items()}
    total = sum(rows[name] @ of for name, of in sums.items())
    for pair in PAIRS[1:]:
        one, other = pair.split()
        total = total + ((rows[one] @ maps[pair]) * rows[other]).sum(axis=1)
    return np.asarray(total)


NAMES = {"x": "x", "y": "y", "other_x": "the other row of x", "other_y": "the other row of y"}


def named(sentence: str, numbers: Sequence[int]) -> str:
    """Give the other row of x, and of y, its number where it is the same one in all of some results."""
    for side, rows in (("x", {n % 2 for n in numbers}), ("y", {n // 2 for n in numbers})):
        if len(rows) == 1:
            sentence = sentence.replace(NAMES[f"other_{side}"], f"{side}{1 - rows.pop()}")
    return sentence


def _words(measured: _Measured) -> Iterator[str]:
    """Say what becomes of codes, and of sums of codes."""
    lost = set(np.flatnonzero(~measured.maps["x y"].any(axis=1)).tolist())
    for pair in PAIRS[1:]:
        matrix = measured.maps[pair]
        if not matrix.any():
            continue
        one, other = pair.split()
        used = np.flatnonzero(matrix.any(axis=1)).tolist()
        is_straight = np.array_equal(matrix, np.diag(np.diag(matrix))) and set(np.diag(matrix)) <= {0, 1}
        elements, are = elements_words(used), "are" if len(used) > 1 else "is"
        if is_straight and set(used) <= lost:
            lost -= set(used)
            taken = [name for name in (one, other) if name.startswith("other_")]
            own = " and ".join(name[-1] for name in taken)
            those = "those" if len(used) > 1 else "that"
            others = NAMES[taken[0]] if len(taken) == 1 else "the other rows"
            yield f"{elements} of {own} {are} {those} of {others}"
        else:
            yield f"{elements} of {NAMES[one]} {are} multiplied with codes of {NAMES[other]}, too"
    if lost:
        yield f"{elements_words(sorted(lost))} {'are' if len(lost) > 1 else 'is'} not counted"
    yield from _sum_words(measured.sums)


def _sum_words(sums: Mapping[str, Array]) -> Iterator[str]:
    """Say what single rows add: an offset's correction that is another row's, or multiples of sums."""
    same = {name: of[0] for name, of in sums.items() if of.any() and (of == of[0]).all()}
    for side, other in (("x", "y"), ("y", "x")):
        if same in ({side: OFFSET, f"other_{side}": -OFFSET}, {side: -OFFSET, f"other_{side}": OFFSET}):
            taken = f"{OFFSET} times the sum of the codes of {NAMES[f'other_{side}']}, not of its own"
            yield f"{OFFSET} is added to the codes of {other}, and what is taken off for it is {taken}"
            return
    for name, of in sums.items():
        for times in dict.fromkeys(of[of != 0].tolist()):
            places = np.flatnonzero(of == times).tolist()
            which = "" if len(places) == 32 else f" in {elements_words(places)}"
            yield f"{times:g} times the sum of the codes of {NAMES[name]}{which} is added"


def is_of_others(one: OneResult, made: Iterable[CallResult]) -> bool:
    """Return whether calls of one row at a time have other results beside other rows."""
    other = OneResult(one.bench, one.number, mixed)
    some = itertools.islice(made, 6)
    return any(len({each.outputs, one(each.call), other(each.call)}) > 1 for each in some)


def loud(bench: Bench) -> Iterator[Call]:
    """Yield calls on one block of the greatest codes."""
    for a, b in itertools.product((127, -128), repeat=2):
        yield bench.call(*(dot_rows.blocks(1.0, np.full((1, 32), code)) for code in (a, b)))
