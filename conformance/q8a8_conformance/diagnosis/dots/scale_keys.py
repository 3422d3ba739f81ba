"""Products of scales that are kept under a key which other scales have, too, and used again for these.

A block of products of 1 comes after another one, in its row or in the call before. Where its scales are
others and its result is the product of those before, these have one key. Scales that differ in one bit, in
one of each, by a sum, show of what the key is made; it must tell other pairs of scales as well.
"""

from __future__ import annotations

import itertools
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.diagnosis.dots.bench import result
from q8a8_conformance.diagnosis.dots.model import Model, matches
from q8a8_conformance.diagnosis.dots.right_steps import SIZES
from q8a8_conformance.diagnosis.facts import remembered
from q8a8_conformance.inputs import calls, dot_rows
from q8a8_conformance.reveal.asking import NoAnswerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from q8a8_conformance.diagnosis.dots.bench import Bench, Measured
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.results.observations import CallResult

    Pair = tuple[int, int]  # the bits of x's scale, and of y's
    Change = Callable[[int, int], Pair]
    Of = Callable[[int, int], int]

ALL, SIGN = 0xFFFF, 0x8000
RANDOM, SOME, CONTROLS = 240, 4, 60
"""Pairs of any scales, pairs that must show a change, and pairs of each kind that must be as a key says."""

MOST = 32 * 32
"""Elements of a row whose blocks are tried one by one."""

NONE = ((0, 0), (0, 0))
MULTIPLIERS = (*range(1, 260), 509, 521, 0x1F1F, 40503, 0x9E37, 0x79B1, 0x9E3779B1 & ALL)
"""Factors of x's bits in a sum."""

FIX = "Compare all bits of both scales before a product that was kept is used again, or keep none."

NAMED: dict[str, Of] = {
    "the bits that are set in one of both": lambda x, y: x | y,
    "the bits that are set in both": lambda x, y: x & y,
    "the larger one's bits": max,
    "the smaller one's bits": min,
    "the sum of both as floats": lambda x, y: hash(_value(x) + _value(y)),
}
"""Keys that no change of single bits shows."""

TAKEN = {
    "product": "The product of both scales of a block",
    "x": "x's scale of a block",
    "y": "y's scale of a block",
}
"""What is used again."""


@dataclass(frozen=True)
class Key:
    """What scales have in common for which one product is kept: in words, and of their bits."""

    words: str
    of: Of


def _value(bits: int) -> float:
    return float(np.uint16(bits & ALL).view(np.float16))


def scales_kept(bench: Bench, failed: Sequence[CallResult]) -> Measured | None:
    """Find that the product of scales is kept under a key that is too narrow."""
    is_of_others = _is_of_others(bench, failed)
    for in_calls in (False, True):
        pairs = _Pairs(bench, in_calls=in_calls, is_thorough=is_of_others)
        if found := pairs.find():
            later = _Pairs(bench, in_calls=True, taken=pairs.taken)
            return _fact(bench, pairs, found, in_calls=in_calls or (bool(found.words) and later.shows(found)))
    return None


def _fact(bench: Bench, pairs: _Pairs, found: Key, *, in_calls: bool) -> Measured:
    later = "blocks, of later calls too," if in_calls else "blocks of the row" if found.words else "blocks"
    what = TAKEN[pairs.taken or "product"]
    whose = f"whose scales have the same key: {found.words}"
    if not found.words:
        whose = "with other scales: of some pairs, by no key that was found"
    is_table = bool(found.words) and pairs.are_several_kept(found)
    simulated = Model(scale_product=pairs.kept(found, is_table=is_table))

    def explains(one: CallResult) -> bool:
        with suppress(NoAnswerError):
            if not found.words:
                return _is_right_alone(bench, one)
            if one.call.nrc == 2:
                return _may_differ(one, found)
            # (What was kept before the call is another product.)
            bench.outputs(bench.call(*pairs.rows([pairs.any_pair()])))
            again = bench.answer(one.call)
            return matches(simulated, again) or again.outputs != one.outputs
        return False

    before, mine = pairs.shown
    text = " and then ".join(f"scales of bits {x:#06x} and {y:#06x}" for x, y in pairs.shown)
    made = bench.call(*pairs.rows([mine] if pairs.in_calls else [before, mine]))
    fact = bench.measured(
        "scale-product",
        {"kept": pairs.taken or "product", "kept_under": found.words, "across_calls": in_calls},
        f"{what} is kept and used again for later {later} {whose}.",
        rule="Q8A8-ENV-2" if in_calls else "Q8A8-DOT-2",
        fix=FIX,
        evidence=[bench.evidence(made, text)],
    )
    return replace(fact, explains=remembered(explains))


def _may_differ(one: CallResult, found: Key) -> bool:
    """Return whether two blocks of four results have one key, and other products."""
    nb, size, halves, products = one.call.n // 32, SIZES[1], {}, dict[int, set[float]]()
    for name, step in (("vx", one.call.bx), ("vy", one.call.by)):
        data = calls.inputs_of(one.call)[name]
        places = [row * step + size * b for row in (0, 1) for b in range(nb)]
        halves[name] = [int.from_bytes(data[at : at + 2], "little") for at in places]
    for row, other, b in itertools.product((0, nb), (0, nb), range(nb)):
        x, y = halves["vx"][row + b], halves["vy"][other + b]
        products.setdefault(found.of(x, y), set()).add(_value(x) * _value(y))
    return any(len(of) > 1 for of in products.values())


def _is_of_others(bench: Bench, failed: Sequence[CallResult]) -> bool:
    """Return whether other blocks, or other calls, may be to blame for most of some short failed rows."""
    short = (one for one in failed if one.call.nrc == 1 and 0 < one.call.n <= MOST)
    some = sorted(short, key=lambda one: one.call.n)[: 2 * SOME]
    between = bench.call(*_Pairs(bench, in_calls=True).rows([(0x3C01, 0x3E57)]))
    right = sum(_is_right_alone(bench, one, between) for one in some)
    return 2 * right >= len(some)


def _is_right_alone(bench: Bench, one: CallResult, between: Call | None = None) -> bool:
    """Return whether each block of two rows is right by itself, where they are not too many.

    A call `between` is made before each of them, so that what is kept of the one before is another's.
    """
    rows, size = calls.inputs_of(one.call), bench.size
    nb = one.call.n // 32 if one.call.nrc == 1 and one.call.n <= MOST else 0
    parts = ({name: data[size * b : size * (b + 1)] for name, data in rows.items()} for b in range(nb))
    for part in parts:
        if between:
            bench.outputs(between)
        alone = bench.answer(calls.build(bench.function, 32, part, {"s": bytes(4)}))
        if not matches(Model(), alone):
            return False
    return nb > (0 if between else 1)


class _Pairs:
    """Pairs of scales that come one after the other.

    Parameters
    ----------
    bench
        Makes the calls.
    in_calls
        Whether the later pair is that of the next call, or of the next block.
    taken
        What is known of `taken`.
    is_thorough
        Whether keys are tried that no change of a single bit shows.

    Attributes
    ----------
    taken, shown
        What of the earlier one was seen to be used: "product", "x" or "y"; and two pairs that show it.
    """

    def __init__(self, bench: Bench, *, in_calls: bool, taken: str = "", is_thorough: bool = True) -> None:
        self._bench = bench
        self.in_calls = in_calls
        self._is_thorough = is_thorough
        self._rng = dot_rows.generator("scale keys", in_calls)
        self.taken = taken
        self.shown = NONE

    def any_pair(self) -> Pair:
        """Return bits of two scales, of any exponents in the middle."""
        x, y = (self._rng.integers(0x3000, 0x4C00, 2) | SIGN * self._rng.integers(0, 2, 2)).tolist()
        return x, y

    def rows(self, pairs: list[Pair]) -> tuple[Array, Array]:
        """Return rows of blocks with such scales; the last one has codes of 1."""
        codes = np.zeros((len(pairs), 32), np.int64)
        codes[-1] = 1
        of = np.array(pairs, np.uint16).view(np.float16).astype(np.float64)
        return dot_rows.blocks(of[:, 0], codes), dot_rows.blocks(of[:, 1], codes)

    def is_kept(self, before: Pair, mine: Pair) -> bool | None:
        """Return whether a block takes something of the one before; None where that is not told."""
        bench = self._bench
        own, other = [[_value(bits) for bits in pair] for pair in (mine, before)]
        gives = {"product": other[0] * other[1], "x": other[0] * own[1], "y": own[0] * other[1]}
        right = own[0] * own[1]
        if self.in_calls:
            bench.outputs(bench.call(*self.rows([before])))
        made = bench.call(*self.rows([mine] if self.in_calls else [before, mine]))
        value = result(bench.outputs(made)) / 32
        if value == right:
            return None if gives.get(self.taken) == right else False
        names = [name for name in ((self.taken,) if self.taken else gives) if value == gives[name]]
        if not names:
            return None
        if len(names) == 1:
            self.taken = names[0]
        self.shown = before, mine
        return True

    def shows(self, found: Key) -> bool:
        """Return whether some pairs of one key are kept so, too."""
        equal = [pair for pair in self._controls(found) if pair[2]][:SOME]
        return bool(equal) and all(self.is_kept(*pair[:2]) is not False for pair in equal)

    def _holds(self, change: Change, times: int = SOME) -> bool | None:
        """Return whether each of some pairs of scales is kept for one that is changed; None for unknown."""
        told = []
        for _ in range(2 * times):
            before = self.any_pair()
            x, y = change(*before)
            mine = x & ALL, y & ALL
            if any(not 0x400 <= bits & ~SIGN < 0x7C00 for bits in mine):
                continue
            if (kept := self.is_kept(before, mine)) is False:
                return False
            told += [kept] * (kept is True)
            if len(told) == times:
                return True
        return bool(told) or None

    def find(self) -> Key | None:
        """Return the key; without words where it is not known, and None where there is none."""
        # (What is wrong for any scales is no matter of those before; few of any share a key.)
        if sum(self.is_kept(self.any_pair(), self.any_pair()) is not False for _ in range(2 * SOME)) > 1:
            return None
        found = next(filter(self._tells, self._keys()), Key("", lambda _x, _y: 0))
        return None if self.shown == NONE else found

    def _are_any_kept(self) -> bool:
        """Return whether any pair is kept for one that has something in common with it, or nothing."""
        for number in range(RANDOM):
            before = self.any_pair()
            mine = self._near(before) if number % 3 else self.any_pair()
            if all(0x400 <= bits & ~SIGN < 0x7C00 for bits in mine) and self.is_kept(before, mine):
                return True
        return False

    def _keys(self) -> Iterator[Key]:
        """Yield keys that may be, by changes that they do not notice."""
        free = [[b for b in range(16) if self._holds(_flipping(side, b))] for side in (0, 1)]
        masks = [ALL & ~sum(1 << b for b in bits) for bits in free]
        if any(free):
            for side in (0, 1):
                # (Of one scale alone something is kept: what the other one is makes no difference.)
                if free[side] and self._holds(self._with_any(side, free[side][0])):
                    masks[1 - side] = 0
            yield Key(_mask_words(masks), lambda x, y: (x & masks[0]) << 16 | y & masks[1])
        bits = [b for b in range(16) if masks[0] >> b & 1], [b for b in range(16) if masks[1] >> b & 1]
        for shift in (0, 8, 4, -8, 1, -1, 2, 3, 5, 6, 7):
            of = [b for b in bits[0] if b + shift in bits[1]]
            if of and all(self._holds(_flipping_both(b, b + shift), 2) is not False for b in of):
                left = masks[0] & ~sum(1 << b for b in of)
                yield Key(_xor_words(shift, masks, left), partial(_xor, shift, masks, left))
        if not self._is_thorough and self.shown == NONE:
            return
        for times in (sign * m for m in MULTIPLIERS for sign in (1, -1)):
            if self._holds(partial(_balanced, times)):
                low = min(free[1], default=16)
                yield Key(_sum_words(times, low), partial(_sum, times, low))
        yield from self._named()

    def _named(self) -> Iterator[Key]:
        """Yield keys that no change shows, where any pair is kept for another one."""
        for words, of_both in NAMED.items() if self.shown != NONE or self._are_any_kept() else ():
            key = Key(words, of_both)
            if any(pair[2] for pair in self._controls(key)) and self._tells(key):
                yield key

    def _with_any(self, side: int, bit: int) -> Change:
        """Return what changes a bit of one scale, and the other one to any."""

        def change(x: int, y: int) -> Pair:
            other = self.any_pair()[1 - side]
            return (x ^ 1 << bit, other) if side == 0 else (other, y ^ 1 << bit)

        return change

    def _controls(self, key: Key) -> list[tuple[Pair, Pair, bool]]:
        """Return pairs of scales, of which some have one key though their products differ."""
        found: dict[bool, list[tuple[Pair, Pair, bool]]] = {True: [], False: []}
        for _ in range(200 * CONTROLS):
            before = self.any_pair()
            mine = self._near(before)
            if any(not 0x400 <= bits & ~SIGN < 0x7C00 for bits in mine):
                continue
            if _value(mine[0]) * _value(mine[1]) == _value(before[0]) * _value(before[1]):
                continue
            is_equal = key.of(*before) == key.of(*mine)
            found[is_equal].append((before, mine, is_equal))
            if min(map(len, found.values())) >= CONTROLS:
                break
        return found[True][:CONTROLS] + found[False][: 2 * CONTROLS]

    def _near(self, pair: Pair) -> Pair:
        """Return a pair that has something in common with another: bits, their sum, or exclusive or."""
        rng = self._rng
        x, y = pair
        kind, by, bits = rng.integers(0, 10), int(rng.integers(1, 9)), int(rng.integers(1, 0x1000))
        times = MULTIPLIERS[int(rng.integers(len(MULTIPLIERS)))]
        ways = (
            (x ^ bits, y ^ bits),
            (x + bits, y - bits),
            (x ^ bits, y),
            (x, y ^ bits),
            (x ^ 1 << int(rng.integers(16)), y ^ 1 << int(rng.integers(16))),
            (x + by, y - times * by),
            (x ^ 1 << int(rng.integers(16)), y),
            (x, y ^ 1 << int(rng.integers(16))),
            (x ^ bits % 2**by, y),
            (x, y ^ bits % 2**by),
        )
        near = ways[kind]
        return near[0] & ALL, near[1] & ALL

    def _tells(self, key: Key) -> bool:
        """Return whether a key tells which pairs are kept, of some that have it and some that have not."""
        controls = self._controls(key)
        return any(pair[2] for pair in controls) and all(
            self.is_kept(before, mine) in {is_equal, None} for before, mine, is_equal in controls
        )

    def are_several_kept(self, key: Key) -> bool:
        """Return whether a product is still kept after another one was."""
        for before, mine, is_equal in self._controls(key)[: 2 * SOME]:
            values = [_value(bits) for bits in before]
            made = self._bench.call(*self.rows([before, self.any_pair(), mine]))
            got = result(self._bench.outputs(made)) / 32
            if is_equal and got in {values[0] * values[1], values[0] * _value(mine[1])}:
                return True
        return False

    def kept(self, key: Key, *, is_table: bool) -> Callable[[Array, Array], Array]:
        """Return the products of scales of a row, the last or each of which is kept: a step of a model."""

        def products(dx: Array, dy: Array) -> Array:
            right, held = np.asarray(dx * dy), dict[int, tuple[float, float]]()
            for b, (x, y) in enumerate(zip(dx.tolist(), dy.tolist(), strict=True)):
                now = key.of(*np.array([x, y], np.float16).view(np.uint16).tolist())
                if now in held:
                    of_x, of_y = held[now]
                    right[b] = {"x": of_x * y, "y": x * of_y}.get(self.taken, of_x * of_y)
                    continue
                held = {**held, now: (x, y)} if is_table else {now: (x, y)}
            return right

        return products


def _shifted(bits: int, by: int) -> int:
    return bits << by if by >= 0 else bits >> -by


def _xor(shift: int, masks: list[int], left: int, x: int, y: int) -> int:
    return (x & left) << 48 | _shifted(x & masks[0], shift) ^ (y & masks[1])


def _balanced(times: int, x: int, y: int) -> Pair:
    return x + 1, y - times


def _sum(times: int, low: int, x: int, y: int) -> int:
    return (times * x + y) & ((1 << low) - 1)


def _flipping(side: int, bit: int) -> Change:
    return lambda x, y: (x ^ (1 << bit), y) if side == 0 else (x, y ^ (1 << bit))


def _flipping_both(of_x: int, of_y: int) -> Change:
    return lambda x, y: (x ^ 1 << of_x, y ^ 1 << of_y)


def _mask_words(masks: list[int]) -> str:
    """Say which bits of the scales are looked at."""
    texts = []
    for side, mask in zip("xy", masks, strict=True):
        low, high = (mask & -mask).bit_length() - 1, mask.bit_length()
        if mask == ALL:
            texts.append(f"{side}'s scale")
        elif mask == ALL & ~SIGN:
            texts.append(f"{side}'s scale without its sign")
        elif mask and mask == (1 << high) - 1:
            texts.append(f"the low {high} bits of {side}'s scale")
        elif mask and high == 16 and mask == ALL >> low << low:
            texts.append(f"the high {16 - low} bits of {side}'s scale")
        elif mask:
            texts.append(f"the bits {mask:#06x} of {side}'s scale")
    return " and ".join(texts)


def _xor_words(shift: int, masks: list[int], left: int) -> str:
    x = "x's bits" if not shift else f"x's bits, shifted {'left' if shift > 0 else 'right'} by {abs(shift)},"
    low = masks[1].bit_length()
    part = f"the low {low} bits of " * (low < 16)
    rest = f" (of which bits {left:#06x} stand alone)" if left else ""
    return f"{part}the exclusive or of {x} and y's{rest}"


def _sum_words(times: int, low: int) -> str:
    part = f"the low {low} bits of " * (low < 16)
    if abs(times) == 1:
        return f"{part}the {'sum' if times > 0 else 'difference'} of their bits"
    return f"{part}the sum of {times} times x's bits and y's"
