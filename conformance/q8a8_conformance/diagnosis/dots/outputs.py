"""What a dot product writes: never, added to what was there, in wrong places, more than its results.

Each call is made with two fills of ``s``: a float that keeps both was never written, one that differs by the
difference of the fills was added to.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.diagnosis.dots.bench import Bench, Measured, with_s
from q8a8_conformance.diagnosis.dots.model import RESULTS
from q8a8_conformance.inputs import calls, dot_rows
from q8a8_conformance.reveal.places import Condition, Rule, Seen, find_lengths, find_rule, length_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from q8a8_conformance.diagnosis.facts import Evidence
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.results.observations import CallResult

FILLS = (1.5, 200.25)
"""Numbers in ``s`` before a call; exact beside small results."""

LARGE = 2.125
"""The half 0x4040."""

SHOWN = 2
"""Values of bs for which it is said where results are, where no formula has them."""

ENDS = ("0", "1", "bs", "bs + 1")
"""Where the four results go."""

FACTORS = ((3, 5), (7, 11))
"""Codes of x0 and x1, y0 and y1: primes, so that a product, or a sum of some, names its rows."""

PRODUCTS = (21.0, 35.0, 33.0, 55.0)
"""What they give, by result."""

SUMS = {sum(PRODUCTS[k] for k in of): of for count in (1, 2, 3, 4) for of in combinations(range(4), count)}
"""The results that a number is the sum of."""

STRIDES_OF_S = (2, 3, 4, 5, 8, 12, 40, 130, 255, 256, 300, 1000, 65536, 65543)
"""Values of bs; from 256 on more than eight bits, from 65536 on more than sixteen."""

PLACES: tuple[tuple[str, str, Callable[[int], int]], ...] = (
    ("bs", "", lambda bs: bs),
    ("2", "bs-ignored", lambda _bs: 2),
    ("bs / 4", "bs-in-bytes", lambda bs: bs // 4),
    ("bs mod 256", "bs-in-eight-bits", lambda bs: bs % 256),
    ("bs mod 65536", "", lambda bs: bs % 65536),
    ("bs rounded down to even", "", lambda bs: bs // 2 * 2),
    ("bs as int8_t", "", lambda bs: (bs + 128) % 256 - 128),
    ("bs as int16_t", "", lambda bs: (bs + 32768) % 65536 - 32768),
)
"""Where the results for y1 may begin."""


def single(bench: Bench) -> Iterator[Measured]:
    """Find what is written with one row at a time, for one block and for none."""
    one, none = bench.one(), bench.row([])
    call, empty = bench.call(one, one), bench.call(none, none)

    def stored(of: Call) -> list[np.float32]:
        return [np.frombuffer(bench.outputs(with_s(of, _fill(fill, 1)))[0], "<f4")[0] for fill in FILLS]

    def shown(of: Call, text: str, fills: Sequence[float] = FILLS) -> list[Evidence]:
        return [bench.evidence(with_s(of, _fill(fill, 1)), text.format(fill)) for fill in fills]

    after = stored(call)
    if [float(v) for v in after] == list(FILLS) and not _is_written(bench):
        yield bench.measured(
            "result-not-written",
            {"n": "any"},
            "s keeps the bytes that it held: no result is written.",
            rule="Q8A8-DOT-7",
            fix="Write the result to s[0].",
            evidence=shown(call, "s held {}, and does after the call"),
            changes={"store": lambda _h, _r, _n: None},
        )
        return
    if float(after[0] - after[1]) == FILLS[0] - FILLS[1]:
        nan = bench.outputs(with_s(call, calls.poison(4)))[0]
        finite = bool(np.isfinite(np.frombuffer(nan, "<f4")[0]))

        def added(held: float, value: float, _nb: int) -> float:
            return value if finite and not np.isfinite(held) else held + value

        yield bench.measured(
            "result-added",
            {"if_finite": finite},
            cause="s-added-if-finite" if finite else "s-added",
            evidence=shown(call, "1 · 1 where s held {}"),
            changes={"store": added},
        )
        return
    before = stored(empty)
    if [float(v) for v in before] == list(FILLS):
        yield bench.measured(
            "empty-row-not-written",
            {"n": 0},
            cause="empty-unwritten",
            evidence=shown(empty, "n = 0 where s held {}"),
            changes={"store": lambda _h, value, nb: value if nb else None},
        )
    elif any(v != 0 or np.signbit(v) for v in before):
        yield bench.measured(
            "empty-row-value",
            {"n": 0, "value": float(before[0])},
            f"With n = 0 the result is {float(before[0])!r}, not +0.",
            cause="empty-minus-zero" if before[0] == 0 else "",
            like="empty-minus-zero",
            evidence=shown(empty, "n = 0", FILLS[:1]),
            when=lambda result: result.call.n == 0,
        )


def _is_written(bench: Bench) -> bool:
    """Return whether a large result is written, under a scale whose two bytes are equal."""
    large = bench.padded(dot_rows.blocks(LARGE, np.full((1, 32), 100)))
    call = bench.call(large, large)
    return any(bench.outputs(with_s(call, _fill(f, 1)))[0] != _fill(f, 1) for f in FILLS)


def ignored(bench: Bench) -> Iterator[Measured]:
    """Find arguments that have an influence with one row at a time, though they have none (Q8A8-DOT-12)."""
    if bench.function != calls.DOT or bench.nrc == 2:
        return
    if bench.factor * bench.value(bench.one(3), bench.one(3)) != 9:
        return
    x, y = (bench.encode(bench.one(3), side).tobytes() for side in "xy")
    for name, value in (("bs", 5), ("bs", 16), ("bx", 34), ("bx", 4096), ("by", 34), ("by", 4096)):
        held = {"s": bytes(256)}
        call = calls.build(calls.DOT, 32 * bench.length, {"vx": x, "vy": y}, held, **{name: value})
        outputs = bench.outputs(call)
        if np.frombuffer(outputs[0], "<f4")[0] == 9.0:
            continue
        yield bench.measured(
            "argument-not-ignored",
            {"argument": name, "value": value},
            f"With nrc = 1 the result depends on {name}, which counts with nrc = 2 alone.",
            cause="single-stored-far" if name == "bs" else "",
            like="single-stored-far",
            evidence=[bench.evidence(call, f"nrc = 1, {name} = {value}: 3 · 3 = 9 is not in s[0]")],
            when=_takes(name),
        )
        return


class Written:
    """What one call with ``nrc = 2`` left in ``s``, by two fills.

    Attributes
    ----------
    values
        Float by place, for places that were written.
    """

    def __init__(self, bench: Bench, bs: int) -> None:
        self.bench, self.bs = bench, bs
        x, y = ([bench.one(code) for code in codes] for codes in FACTORS)
        self.call = bench.call_of_two(x, y, bs)
        self.size = bs + 2
        found = []
        for fill in FILLS:
            s = np.frombuffer(bench.outputs(with_s(self.call, _fill(fill, self.size)))[0], "<f4")
            found.append(s)
        self.bytes = found[0].tobytes()
        changed = (found[0] != FILLS[0]) | (found[1] != FILLS[1])
        self.values = {int(p): (float(found[0][p]), float(found[1][p])) for p in np.flatnonzero(changed)}
        self.right = dict(zip((0, 1, bs, bs + 1), PRODUCTS, strict=True))

    @property
    def is_right(self) -> bool:
        """Whether each result is in its place, and nothing else is written."""
        return self.values == {place: (value, value) for place, value in self.right.items()}

    @property
    def is_in_bytes(self) -> bool:
        """Whether the results for y1 begin so many bytes, not floats, from the start, stored in any order."""
        size, orders = self.bs, ((0, 1, 2, 3), (0, 2, 1, 3))
        for order in orders:
            expected = bytearray(_fill(FILLS[0], self.size))
            for number in order:
                at = (0, 4, size, size + 4)[number]
                expected[at : at + 4] = np.float32(PRODUCTS[number]).tobytes()
            if self.bytes == bytes(expected):
                return True
        return False

    @property
    def sums(self) -> tuple[tuple[int, ...], ...]:
        """Of which products each result is the sum; empty where one is of none, or more is written."""
        held = [self.values.get(place, (0.0, 0.0)) for place in self.right]
        if set(self.values) != set(self.right) or any(v[0] != v[1] or v[0] not in SUMS for v in held):
            return ()
        return tuple(SUMS[v[0]] for v in held)

    def evidence(self, text: str = "") -> Evidence:
        """Return the call as evidence."""
        call = with_s(self.call, _fill(FILLS[0], self.size))
        return self.bench.evidence(call, f"bs = {self.bs}{text and ': '}{text}")


IN_LENGTHS = (1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 33)
"""Blocks of the rows in which the first one is not zero."""

EXCHANGED = (1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 17)
"""Blocks of the rows of which each block is looked at."""


def pairs(bench: Bench) -> Iterator[Measured]:
    """Find where the four results go, and in rows of which lengths."""
    here = bench.length, bench.place
    try:
        for bench.length, bench.place in (here, *((nb, 0) for nb in IN_LENGTHS)):
            if found := list(_pairs(bench)):
                yield from (_in_lengths(bench, one) for one in found)
                return
    finally:
        bench.length, bench.place = here


def _in_lengths(bench: Bench, fact: Measured) -> Measured:
    """Return a fact about four results with the lengths of the rows in which some are wrong."""
    if "blocks" in fact.where:  # (Its blocks have a rule for all lengths.)
        return fact
    wrong, right = list[int](), list[int]()
    bs = next((bs for bs in STRIDES_OF_S if not Written(bench, bs).is_right), STRIDES_OF_S[0])
    for bench.length, bench.place in ((nb, 0) for nb in IN_LENGTHS):
        (right if Written(bench, bs).is_right else wrong).append(bench.length)
    conditions = find_lengths(wrong, right)
    if not conditions:
        return fact
    rule, words = Rule(Condition("any"), conditions), length_words(wrong, right)
    return replace(
        fact,
        sentence=fact.sentence.replace("With nrc = 2 ", f"With nrc = 2, where {words}, ", 1),
        where={**fact.where, "lengths": [one.to_json() for one in conditions]},
        cause="",
        changes={},
        when=lambda result: result.call.nrc == 2 and rule.takes(result.call.n // 32),
    )


def _pairs(bench: Bench) -> Iterator[Measured]:
    """Find where the four results go, for many values of bs."""
    tried = [Written(bench, bs) for bs in STRIDES_OF_S[:8]]
    if all(one.is_right for one in tried):
        tried = [Written(bench, bs) for bs in STRIDES_OF_S[8:]]
    wrong = [one for one in tried if not one.is_right]
    if not wrong:
        return
    products = dict(zip(PRODUCTS, RESULTS, strict=True))
    # A second fill of other places shows which floats hold a product, whatever lies between.
    first = wrong[0]
    at = {products[v[0]]: place for place, v in first.values.items() if v[0] == v[1] and v[0] in products}
    added = {
        products[v[0] - FILLS[0]]: place
        for place, v in first.values.items()
        if v[0] - v[1] == FILLS[0] - FILLS[1] and v[0] - FILLS[0] in products
    }
    missing = [name for name in RESULTS if name not in at and name not in added]
    others = [place for place in first.values if place not in (*at.values(), *added.values())]
    if added:
        yield bench.measured(
            "result-added",
            {"results": sorted(added)},
            f"With nrc = 2 {', '.join(sorted(added))} is added to what s held.",
            cause="s-added",
            evidence=[first.evidence(f"s full of {FILLS[0]}")],
            changes={"added": frozenset(RESULTS.index(name) for name in added)},
        )
    elif not missing and sorted(at.values()) == sorted(first.right) and others == []:
        ends = list(first.right)
        order = [ends.index(at[name]) for name in RESULTS]
        exchanged = [name for number, name in enumerate(RESULTS) if order[number] != number]
        slugs: dict[tuple[str, ...], str] = {
            RESULTS[1:3]: "results-exchanged",
            RESULTS[2:]: "results-transposed-second",
        }
        blocks = _exchanged_blocks(bench, order)
        places = {name: ENDS[order[k]] for k, name in enumerate(RESULTS)}
        of = f", of {blocks.text('block', 'nb')}," if blocks else ""
        yield bench.measured(
            "results-exchanged",
            {"places": places, **({"blocks": blocks.to_json()} if blocks else {})},
            f"With nrc = 2{of} {_exchanged_words(order)} change places.",
            cause="" if blocks else slugs.get(tuple(exchanged), ""),
            like="results-exchanged",
            evidence=[first.evidence(", ".join(f"{name} is at s[{place}]" for name, place in at.items()))],
            changes={} if blocks else {"places": lambda bs: tuple((0, 1, bs, bs + 1)[k] for k in order)},
            when=partial(_has_blocks, blocks) if blocks else None,
        )
    elif others and not missing:
        yield bench.measured(
            "floats-between-written",
            {"bs": first.bs, "places": others},
            "With nrc = 2 floats between the results are written.",
            cause="between-cleared",
            evidence=[first.evidence(f"s[{others[0]}] is written")],
            when=lambda result: result.call.nrc == 2 and result.call.bs > 2,
        )
    else:
        yield from _moved(bench, tried, first, missing)


def _exchanged_words(order: Sequence[int]) -> str:
    """Name the results that change places: two of them, two pairs, or more in a circle."""
    pairs = [(k, at) for k, at in enumerate(order) if k < at and order[at] == k]
    if len(pairs) == 2:
        return ", and ".join(f"{RESULTS[one]} and {RESULTS[other]}" for one, other in pairs)
    return " and ".join(name for k, name in enumerate(RESULTS) if order[k] != k)


def _exchanged_blocks(bench: Bench, order: Sequence[int]) -> Rule | None:
    """Return the rule for the blocks whose products are exchanged; None where those of all are."""

    def ask(nb: int) -> Array:
        return np.array([_is_exchanged(bench, order, nb, block) for block in range(nb)])

    seen = Seen({nb: ask(nb) for nb in EXCHANGED})
    if all(where.all() for where in seen.rows.values()):
        return None
    return find_rule(seen, ask, max(EXCHANGED))


def _is_exchanged(bench: Bench, order: Sequence[int], nb: int, block: int) -> bool:
    """Return whether the products of one block, beside blocks of zeros, are stored in another order."""
    codes = np.zeros((4, nb), np.int64)
    codes[:, block] = np.concatenate(FACTORS)
    x, y = ([bench.row(row) for row in rows] for rows in (codes[:2], codes[2:]))
    got = np.frombuffer(bench.outputs(with_s(bench.call_of_two(x, y), bytes(16)))[0], "<f4")
    return [float(got[place]) for place in order] == list(PRODUCTS)


def _has_blocks(rule: Rule, result: CallResult) -> bool:
    """Return whether a call with two rows at a time has blocks of a rule."""
    return result.call.nrc == 2 and bool(rule.holds(result.call.n // 32).any())


def _moved(bench: Bench, tried: list[Written], first: Written, missing: list[str]) -> Iterator[Measured]:
    """Find by which formula of bs the results for y1 are placed, or that they are others, or not written."""
    sums = tried[0].sums
    if sums and all(one.sums == sums for one in (*tried, *_beside_others(bench))):
        own = {
            RESULTS[k]: " + ".join(RESULTS[part] for part in of) for k, of in enumerate(sums) if of != (k,)
        }
        yield bench.measured(
            "results-of-others",
            {"results": own},
            f"With nrc = 2 {', and '.join(f'the result for {name} is {of}' for name, of in own.items())}.",
            rule="Q8A8-DOT-6",
            fix="Give each of the four results its own two rows, and a sum of its own that starts from 0.",
            evidence=[first.evidence(f"{own}")],
            changes={"sums": sums},
        )
        return
    if all(one.is_in_bytes for one in tried):
        yield bench.measured(
            "results-at",
            {"y1": "bs bytes"},
            "With nrc = 2 the results for y1 begin bs bytes, not floats, behind s.",
            cause="bs-in-bytes",
            evidence=[first.evidence()],
            when=lambda result: result.call.nrc == 2,
        )
        return
    for name, slug, place in PLACES[1:]:
        if all(_expected_at(one, place(one.bs)) for one in tried):
            yield bench.measured(
                "results-at",
                {"y1": name},
                f"With nrc = 2 the results for y1 begin at s[{name}].",
                cause=slug,
                like="bs-in-eight-bits",
                evidence=[first.evidence()],
                changes={"places": lambda bs, place=place: (0, 1, place(bs), place(bs) + 1)},
            )
            return
    lost = [number for number, name in enumerate(RESULTS) if name in missing]
    if lost and all(
        set(one.values) == {p for k, p in enumerate(one.right) if k not in lost} for one in tried
    ):
        yield bench.measured(
            "result-not-written",
            {"results": missing},
            f"With nrc = 2 {', '.join(missing)} is not written.",
            cause="second-row-lost" if lost == [2, 3] else "",
            like="second-row-lost",
            evidence=[first.evidence()],
            when=lambda result: result.call.nrc == 2,
        )
        return
    yield from _not_at_their_places([one for one in tried if not one.is_right])


def _not_at_their_places(wrong: Sequence[Written]) -> Iterator[Measured]:
    """Yield which results are not where they belong, and where they are, for some values of bs."""
    values, first = {one.bs for one in wrong}, wrong[0]
    parts = []
    for one in wrong[:SHOWN]:
        held = {value[0]: place for place, value in one.values.items() if value[0] == value[1]}
        for name, product, right in zip(RESULTS, PRODUCTS, one.right, strict=True):
            # (A place that is written, and not with another's product, has a wrong result.)
            is_kept = right not in one.values or one.values[right][0] in PRODUCTS
            if (place := held.get(product)) != right and is_kept:
                where = "nowhere in s" if place is None else f"at s[{place}]"
                parts.append(f"with bs = {one.bs} {name} is {where}, not at s[{right}]")
    if parts:
        yield first.bench.measured(
            "results-at",
            {"bs": sorted(values)},
            f"With nrc = 2 results are not where they belong: {'; '.join(parts)}.",
            like="bs-in-bytes",
            evidence=[first.evidence()],
            when=lambda result: result.call.nrc == 2 and result.call.bs in values,
        )


def _beside_others(bench: Bench) -> Iterator[Written]:
    """Yield what is written for the second blocks of short rows."""
    here = bench.length, bench.place
    for bench.length, bench.place in ((2, 1), (3, 1)) if here == (1, 0) else ():
        yield Written(bench, STRIDES_OF_S[0])
    bench.length, bench.place = here


def _expected_at(one: Written, start: int) -> bool:
    """Return whether the results for y1 begin at a place: later results overwrite earlier ones."""
    expected = {0: 21.0, 1: 35.0}
    expected |= {start: 33.0, start + 1: 55.0}
    return one.values == {place: (value, value) for place, value in expected.items() if 0 <= place < one.size}


def _takes(name: str) -> Callable[[CallResult], bool]:
    """Return whether a call with one row at a time has an argument that is not 0."""
    return lambda result: result.call.nrc == 1 and bool(getattr(result.call, name))


def _fill(value: float, count: int) -> bytes:
    return np.full(count, value, "<f4").tobytes()
