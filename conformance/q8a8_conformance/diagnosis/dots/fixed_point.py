"""Numbers that are kept in fixed point: scales, their product, terms or their sums as integers of one unit.

A dot product of floats is homogeneous: under scales twice as large its result is twice as large. One of
integers is not: what is below its unit is lost, and what is too large wraps or saturates, whatever the scales
are that it comes from. So a product of one step is made smaller until it is lost, and larger until it is
wrong, while all other steps hold numbers of ordinary size. A model with the units and limits that show so
must give further calls: of random scales and codes, and of terms that are large in one or in several blocks.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.diagnosis.dots.candidates import WAYS
from q8a8_conformance.diagnosis.dots.integer_steps import (
    FACTS,
    NAMES,
    RULES,
    Integer,
    changes_of,
    data_of,
    words_of,
)
from q8a8_conformance.diagnosis.dots.model import SHARE, Model, matches
from q8a8_conformance.diagnosis.dots.readings import MOST, codes_of_sum
from q8a8_conformance.inputs import dot_rows
from q8a8_conformance.reveal.asking import NoAnswerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from q8a8_conformance.diagnosis.dots.bench import Bench, Measured
    from q8a8_conformance.results.observations import CallResult

    # The sum of a block's products, and the scales of x and of y.
    Block = tuple[int, float, float]
    Made = Callable[[int], Block | None]

SMALL, LARGE = 24, 14
"""The least scale is 2^-24; 1.5 times 2^14 is near the greatest one."""

MOST_SUM = 16
"""A block's sum reaches 3 times 2^16."""

QUARTERS = (1, 2, 3, 5, 6, 7, 10)
"""Quarters of a unit that show how numbers become integers."""

PROBES: tuple[Block, ...] = (
    (1, 2.0**-24, 2.0**-24), (1, 2.0**-24, 2.0**15), (1, 2.0**15, 2.0**-24), (1, 49152.0, 32768.0),
    (3 << MOST_SUM, 32768.0, 32768.0), (3 << MOST_SUM, 2.0**-24, 1.0), (3 << MOST_SUM, 1.0, 2.0**-24),
)  # fmt: skip
"""Blocks that are right where numbers are floats."""

BASES = (1.0, 0.25)
"""Scales of which the first is taken at which a block is right."""

LIMITED: tuple[tuple[str, str], ...] = (
    ("", "wraps"), ("", "saturates"), ("", "saturates at the end"), ("", "least at the end"),
    ("least", "wraps"), ("saturates", "wraps"), ("least", "saturates"),
    ("wraps", ""), ("saturates", ""), ("least", ""), ("wraps", "saturates"),
)  # fmt: skip
"""What becomes of terms, and of their sums, that are too large: the simplest first."""

TERMS = (
    (0.75, 0.75), (-0.75, -0.75), (1.5, -1.5), (-1.5, 1.5), (0.75, 1.5), (0.75, 0.75, -0.75),
    (0.75, 0.75, 0.75, -0.75, -0.75), (-0.75, -0.75, 0.75), (2.5,), (-1.5,), (1.0,), (-1.0,), (2.5, -0.75),
)  # fmt: skip
"""Terms of rows, in units of the limit."""

FAR = 2.0**46
"""From here on a term may be too large for what it is converted to before it is limited."""

FIX = "Widen the halves to float32, and multiply and add in float32."


class _Search:
    """Calls on blocks of chosen sums and scales, and what they show."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.made: dict[tuple[Block, ...], CallResult] = {}
        self.units = {"x": SMALL, "y": SMALL}
        self.ends = {"x": LARGE + 1, "y": LARGE + 1, "product": 2 * LARGE + 2}
        self.base = 1.0
        self.least = 1

    def answer(self, *blocks: Block) -> CallResult:
        """Make the call on a row of some blocks."""
        if blocks not in self.made:
            codes = np.array([codes_of_sum(total) for total, _, _ in blocks])
            x, y = (
                dot_rows.blocks(np.array([one[1 + side] for one in blocks]), codes[:, side])
                for side in (0, 1)
            )
            if len(blocks) == 1:
                x, y = self._bench.padded(x), self._bench.padded(y)
            self.made[blocks] = self._bench.answer(self._bench.call(x, y))
        return self.made[blocks]

    def value(self, *blocks: Block) -> float:
        """Return the result of a row of some blocks."""
        return float(np.frombuffer(self.answer(*blocks).outputs[0], "<f4")[0])

    def is_right(self, block: Block) -> bool:
        """Return whether a block's result is right."""
        return self.value(block) == math.prod(block)

    def first_wrong(self, made: Made, powers: Sequence[int]) -> int | None:
        """Return the first power whose block is wrong; None where there is none."""
        blocks = ((power, made(power)) for power in powers)
        return next((power for power, one in blocks if one is not None and not self.is_right(one)), None)

    def scales(self, power: int) -> tuple[float, float] | None:
        """Return scales whose product is a power of two, and that are right by themselves."""
        ends = {side: (-self.units[side], self.ends[side] - 1) for side in "xy"}
        a = min(max(power // 2, ends["x"][0], power - ends["y"][1]), ends["x"][1], power - ends["y"][0])
        b = power - a
        fits = ends["x"][0] <= a <= ends["x"][1] and ends["y"][0] <= b <= ends["y"][1]
        return (2.0**a, 2.0**b) if fits else None

    def small(self, power: int, *, most: int) -> Block | None:
        """Return a block with a product of scales of 2^-power, and a sum of 2^most or less."""
        found = self.scales(-power)
        return found and (1 << min(power, most), *found)

    def of_side(self, side: str, scale: float, total: float = 1, other: float = 0.0) -> Block:
        """Return a block in which one side has a scale, and the other one the base's, or another."""
        total, other = min(int(total), 1 << MOST_SUM), other or self.base
        return (total, scale, other) if side == "x" else (total, other, scale)

    def kept(self, bits: int, made: Callable[[float], Block | None]) -> Integer:
        """Return how numbers become multiples of 2^-bits.

        `made` returns the block in which a number of such units is made.

        Raises
        ------
        NoAnswerError
            They become none, or there is no such block.
        """
        blocks = ((n / 4, made(n / 4)) for n in (sign * n for n in QUARTERS for sign in (1, -1)))
        seen = [(n, self.value(one) / math.prod(one) * n) for n, one in blocks if one is not None]
        given, got = np.array(seen).reshape(-1, 2).T
        for number, (_, to) in enumerate(WAYS):
            if seen and np.array_equal(to(given), got):
                return Integer(bits, number)
        raise NoAnswerError

    def confirms(self, model: Model, extra: Sequence[CallResult]) -> bool:
        """Return whether a model gives all calls that were made, and others but for roundings."""
        held = (one for blocks, one in self.made.items() if max(map(_size, blocks)) < FAR)
        return all(matches(model, one) for one in held) and all(matches(model, one, SHARE) for one in extra)


def _size(block: Block) -> float:
    return abs(math.prod(block))


def fixed_points(bench: Bench) -> Iterator[Measured]:
    """Find steps whose numbers are kept in fixed point."""
    search = _Search(bench)
    for search.base in BASES:
        if all(search.is_right((round(n / search.base**2), search.base, search.base)) for n in (1, -1, 9)):
            break
    else:
        return
    if all(search.is_right(one) for one in PROBES):
        return
    steps = _units(search)
    limits = _limits(search, steps)
    if not (steps or limits):
        return
    _make_more(search, steps, limits)
    others = [bench.answer(bench.call(*dot_rows.random_pair(nb, seed=nb))) for nb in (1, 2, 5)]
    term = limits.get("term")
    large = None if term is None else _large_term(search, steps, term)
    for found in _with_limits(steps, limits, abs(search.value(large)) if large else 0.0):
        if search.confirms(Model(**changes_of(found)), others):
            yield _fact(bench, search, found)
            return


def _units(search: _Search) -> dict[str, Integer]:
    """Return the steps that lose what is below a unit."""
    first = 1 + round(-2 * math.log2(search.base))
    powers = range(first, 2 * SMALL + 1)
    steps = _of_sides(search, first, powers)
    product = search.first_wrong(partial(search.small, most=MOST_SUM), powers)
    term = search.first_wrong(partial(search.small, most=0), powers)
    bits = 3 * SMALL
    if product is not None and term is not None and product < term + MOST_SUM:
        bits = product - 1
        steps["product"] = search.kept(bits, partial(_of_product, search, bits))
    for side, other in ("xy", "yx"):
        most = min(search.ends[other] - 1 + first, search.units[side], 15)
        lost = search.first_wrong(partial(_under_large, search, side), range(first, most + 1))
        if lost is not None and lost - 1 < bits:
            return steps | {f"of_{side}": search.kept(lost - 1, partial(_of_one, search, side, lost - 1))}
    return steps | (_of_term(search, term - 1, bits) if term is not None and term - 1 < bits else {})


def _of_sides(search: _Search, first: int, powers: range) -> dict[str, Integer]:
    """Return the sides whose scales lose what is below a unit."""
    steps: dict[str, Integer] = {}
    alone = {
        side: search.first_wrong(partial(_small_scale, search, side), range(first, SMALL + 1))
        for side in "xy"
    }
    product = search.first_wrong(partial(search.small, most=MOST_SUM), powers)
    for side, lost in alone.items():
        if lost is not None and (product is None or lost + first // 2 < product):
            search.units[side] = lost - 1
            steps[side] = search.kept(lost - 1, partial(_quarters_of, search, side, lost - 1))
    for side, other in ("xy", "yx"):
        end = search.first_wrong(partial(_large_scale, search, side, other), range(-4, LARGE + 1))
        search.ends[side] = LARGE + 1 if end is None else end
    return steps


def _small_scale(search: _Search, side: str, power: int) -> Block:
    """Return a block in which one scale is 2^-power, and the term 1 where it can be."""
    return search.of_side(side, 2.0**-power, 2**power / search.base)


def _quarters_of(search: _Search, side: str, bits: int, quarters: float) -> Block:
    """Return a block in which one scale is so many times 2^-bits."""
    return search.of_side(side, quarters * 2.0**-bits, 2 ** (bits + 2) / search.base)


def _of_product(search: _Search, bits: int, quarters: float) -> Block | None:
    """Return a block with so many units of 2^-bits as the product of scales, exact each."""
    found = search.scales(-bits - 2)
    return found and (1 << min(bits + 2, MOST_SUM), found[0] * quarters * 4, found[1])


def _under_large(search: _Search, side: str, power: int) -> Block:
    """Return a block whose sum times one scale is 2^-power, and the other scale large."""
    return search.of_side(side, 2.0**-power, 1, 2.0**power * search.base**2)


def _of_one(search: _Search, side: str, bits: int, quarters: float) -> Block:
    """Return a block whose sum times one scale is so many times 2^-bits."""
    return search.of_side(side, 2.0 ** -(bits + 2), quarters * 4, 2.0 ** min(bits + 2, LARGE))


def _of_term(search: _Search, bits: int, finer: int) -> dict[str, Integer]:
    """Return the step of terms, or of their sum, that loses what is below 2^-bits."""
    parts = min(2, finer - bits)
    scales, half = search.scales(-bits - parts), search.scales(-bits - 1)
    if scales is None or half is None:
        raise NoAnswerError
    dx, dy = scales

    def made(quarter: float) -> Block | None:
        total = quarter * 2**parts
        return (int(total), dx, dy) if total == int(total) else None

    kept = search.kept(bits, made)
    is_sum = search.value((1, *half), (1, *half)) == 2.0**-bits
    return {"sum" if is_sum else "term": kept}


def _limits(search: _Search, steps: Mapping[str, Integer]) -> dict[str, int]:
    """Return from which powers of two on numbers of steps are wrong: 1.5 times the power is the first one."""
    found: dict[str, int] = {}
    search.least = 1 if all((one.bits or SMALL) > 1 for one in steps.values()) else 4
    found |= {side: search.ends[side] for side in "xy" if search.ends[side] <= LARGE}
    product = search.first_wrong(partial(_large_product, search), range(-4, 2 * LARGE + 2))
    if product is not None:
        search.ends["product"] = product
    term = search.first_wrong(partial(_large_term, search, steps), range(2, 47))
    if product is not None and (term is None or product <= term):
        found["product"] = product
    if term is not None:
        found["term"] = term
    return found


def _large_scale(search: _Search, side: str, other: str, power: int) -> Block:
    """Return a block in which one scale is 1.5 times a power of two, and the term 6 or not much more."""
    beside = min(search.base, 2.0 ** -min(max(power, 0), search.units[other]))
    return search.of_side(side, 1.5 * 2.0**power, max(4 * 2.0**-power / beside, 1), beside)


def _large_product(search: _Search, power: int) -> Block | None:
    """Return a block whose product of scales is 1.5 times a power of two."""
    scales = search.scales(power)
    return scales and (search.least << max(-power, 0), 1.5 * scales[0], scales[1])


def _large_term(
    search: _Search, steps: Mapping[str, Integer], power: int, times: float = 1.5
) -> Block | None:
    """Return a block whose term is so many times a power of two, under scales that are small."""
    bits = steps["product"].bits if "product" in steps else SMALL
    shift = min(MOST_SUM - 1, power - 2 + min(bits or 0, SMALL) // 2)
    small = power - 2 - shift
    scales = search.scales(small) if shift >= 0 and small < search.ends["product"] else None
    total = int(times * 4) * 2 ** max(shift, 0)
    return scales and (total, *scales) if abs(total) <= MOST else None


def _make_more(search: _Search, steps: Mapping[str, Integer], limits: Mapping[str, int]) -> None:
    """Make calls that tell what becomes of large numbers, and of many digits."""
    if (power := limits.get("term")) is not None:
        for terms in TERMS:
            blocks = [_large_term(search, steps, power, of) for of in terms]
            if all(one is not None for one in blocks):
                search.answer(*filter(None, blocks))
    for side in "xy":
        for scale in (-1.5, 2.5, 1.0, -1.0):
            if side in limits:
                search.answer(search.of_side(side, scale * 2.0 ** limits[side], 16))
    rng = dot_rows.generator("fixed point")
    # (No term has more digits than a float.)
    for total, digits in ((1, 11), (-3, 11), (100, 8), (-2049, 6), (32769, 4), (-65537, 3), (262145, 2)):
        for scale in 2.0 ** np.arange(-20, 13, 4):
            most = 2 ** (digits - 1)
            d = rng.integers(most, 2 * most, 2) / most * 2.0 ** rng.integers(-3, 4) * rng.choice([1, -1], 2)
            search.answer((total, float(np.float16(d[0] * scale)), float(d[1])))


def _with_limits(
    steps: Mapping[str, Integer], limits: Mapping[str, int], largest: float
) -> Iterator[dict[str, Integer]]:
    """Yield the steps with what may become of numbers that are too large."""
    single = [name for name in limits if name != "term"]
    for overflows in itertools.product(("", "wraps", "saturates", "least"), repeat=len(single)):
        found = dict(steps)
        for name, overflow in zip(single, overflows, strict=True):
            if overflow:
                found[name] = replace(found.get(name, Integer()), power=limits[name], overflow=overflow)
        if "term" not in limits:
            yield found
            continue
        for of_term, of_sum in LIMITED:
            more = dict(found)
            for name, overflow in (("term", of_term), ("sum", of_sum)):
                if overflow:
                    kept = more.get(name, Integer())
                    most = 0.0 if kept.bits is not None or overflow.split(" ")[0] != "saturates" else largest
                    more[name] = replace(kept, power=limits["term"], overflow=overflow, most=most)
            yield more


def _fact(bench: Bench, search: _Search, steps: Mapping[str, Integer]) -> Measured:
    """Return the fact that some steps are in fixed point."""
    wrong = next(blocks for blocks, one in search.made.items() if not matches(Model(), one))
    text = " and ".join(f"{total} · {dx:g} · {dy:g}" for total, dx, dy in wrong)
    ordered = {name: steps[name] for name in NAMES if name in steps}
    sentence = "; ".join(words_of(ordered)) + "."
    (name, first), *others = ordered.items()
    return bench.measured(
        "fixed-point" if others else FACTS.get(name, "term-rounded"),
        {
            "format": "fixed-point",
            **(
                {name: data_of(of) for name, of in ordered.items()}
                if others
                else {"of": name, **data_of(first)}
            ),
        },
        sentence[0].upper() + sentence[1:],
        rule=RULES.get(name, "Q8A8-ORD-2"),
        fix=FIX,
        evidence=[bench.evidence(search.made[wrong].call, text)],
        changes=changes_of(ordered),
    )
