"""Several mistakes in what is made of one block, each measured on calls that show it alone.

Codes under scales of 1 say nothing of scales, a product of 1 · 1 nothing of codes, and blocks of which one
row is zero show what is added beside the products. So the stages are: what is added beside zeros, single
products, sums of many, scales, and what is made of the two. Each stage finds the step that gives its own
calls, on top of the steps before it.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.diagnosis.dots import candidates
from q8a8_conformance.diagnosis.dots.block_calls import unit_codes
from q8a8_conformance.diagnosis.dots.candidates import Candidate
from q8a8_conformance.diagnosis.dots.codes import read_codes
from q8a8_conformance.diagnosis.dots.contexts import in_context
from q8a8_conformance.diagnosis.dots.maps import measured_map
from q8a8_conformance.diagnosis.dots.model import Model, matches
from q8a8_conformance.diagnosis.dots.partial_sums import in_bits, partial_sums
from q8a8_conformance.diagnosis.dots.readings import product_reading, readings, sum_reading
from q8a8_conformance.diagnosis.dots.right_steps import products as plain_products
from q8a8_conformance.inputs import dot_rows
from q8a8_conformance.reveal.grids import significant
from q8a8_conformance.reveal.quantizers.words import ranges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from q8a8_conformance.diagnosis.dots.block_calls import Experiments
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.results.observations import CallResult

    Alone = Callable[[str, Array], Array]
    Block = Callable[[Array, Array], float]
    Taken = Callable[..., Array]
    Ways = Callable[[], Iterable[Sequence[Candidate]]]

OFFSET = 128
"""What makes a code of int8 unsigned."""

SUMS = (
    *(1, 2, 3, 5, 10, 64, 100, 127, 128, 129, 200, 255, 256, 257, 300, 400, 511, 512, 513, 700),
    *(1000, 1023, 1024, 1025, 1500, 2000, 2047, 2048, 3000, 3683),
)
"""Sums of a block's codes, of both signs, at which what is added beside zeros is measured."""

CONTROLS = 40
"""Blocks of random codes of which a step must give what is added, or whether they count."""

STAGES = ("zeros", "single", "filled", "scaled", "rest")
"""What the calls of a stage show: see above."""

OF_CODES = STAGES[:3]
"""Those in which all scales are 1."""


def stage_of(qx: Array, qy: Array, dx: float, dy: float) -> str:
    """Return the stage that a call of one block belongs to."""
    if (dx, dy) != (1.0, 1.0):
        return "scaled" if np.abs(qx).sum() == 1 and np.abs(qy).sum() == 1 else "rest"
    if not qx.any() or not qy.any():
        return "zeros"
    return "single" if min(np.count_nonzero(qx), np.count_nonzero(qy)) == 1 else "filled"


def staged(done: Experiments, base: dict[str, Any]) -> tuple[Candidate, ...]:
    """Return the steps that differ from a model's, by the stages in which they show.

    Where the calls of a stage have no step, those of later stages are still looked at: their steps are parts
    of what is wrong.

    Parameters
    ----------
    done
        Calls of one block.
    base
        What is known.
    """
    ways = _ways(done)
    by_stage: dict[str, list[CallResult]] = {stage: [] for stage in STAGES}
    for one in done.made:
        by_stage[stage_of(*done.given[id(one)])].append(one)
    of_codes = [one for stage in OF_CODES for one in by_stage[stage]]
    changes = dict(base)
    parts: list[Candidate] = []
    for stage, own in by_stage.items():
        wrong = [one for one in own if not matches(Model(**changes), one)]
        if not wrong:
            continue
        known, measured = ways[stage]
        steps: list[Iterable[Sequence[Candidate]]] = [([one] for one in known), measured()]
        if stage in OF_CODES:
            # (Codes that are read as others show in single products.)
            summed = _summed(done, of_codes, Model(**changes))
            steps.insert(2 if stage == "single" else 1, summed)
            steps.append(_sums(done))
        every = _Once([over(base, one) for one in found] for found in itertools.chain.from_iterable(steps))
        # (A step that gives the later calls of codes, too, is better than one that leaves them wrong.)
        shown = (of_codes, [one for s in OF_CODES[: STAGES.index(stage) + 1] for one in by_stage[s]])
        for others in shown if stage in OF_CODES else (own,):
            order = beginning_with(wrong, others)
            if found := _giving(changes, changes.keys() - base.keys(), every, order):
                changes |= {key: step for one in found for key, step in one.changes.items()}
                parts += found
                break
    if all(matches(Model(**changes), one) for one in of_codes):
        return tuple(parts)
    return tuple(one for one in parts if not one.changes.keys() & {"products", "block_sum", "correction"})


def beginning_with(some: Sequence[CallResult], every: Iterable[CallResult]) -> list[CallResult]:
    """Return all calls, some of them first."""
    # (By identity: to compare the bytes of thousands with each other takes seconds.)
    first = {id(one) for one in some}
    return [*some, *(one for one in every if id(one) not in first)]


def over(base: dict[str, Any], step: Candidate) -> Candidate:
    """Return a step of products on codes as a known step reads them, where it reads each as another int8."""
    known, own = base.get("products"), step.changes.get("products")
    if known is None or own is None:
        return step

    def read(qx: Array, qy: Array) -> tuple[Array, Array]:
        one = np.ones_like(qx)
        return np.asarray(known(qx, one), np.int64), np.asarray(known(one, qy), np.int64)

    codes = np.arange(-128, 128).astype(np.int8).reshape(8, 32)
    x, y = read(codes, codes[::-1])
    fits = np.array_equal(x, x.astype(np.int8)) and np.array_equal(y, y.astype(np.int8))
    if not fits or not np.array_equal(known(codes, codes[::-1]), x * y):
        return step

    def products(qx: Array, qy: Array) -> Array:
        return np.asarray(own(*(side.astype(np.int8) for side in read(qx, qy))))

    return replace(step, changes={**step.changes, "products": products})


class _Once:
    """Steps that are measured when they are asked for, and once."""

    def __init__(self, steps: Iterable[Sequence[Candidate]]) -> None:
        self._left = iter(steps)
        self._seen: list[Sequence[Candidate]] = []

    def __iter__(self) -> Iterator[Sequence[Candidate]]:
        yield from self._seen
        for one in self._left:
            self._seen.append(one)
            yield one


def _ways(done: Experiments) -> dict[str, tuple[Sequence[Candidate], Ways]]:
    """Return the known steps of each stage, and how others are measured."""

    def tabled() -> Iterator[Sequence[Candidate]]:
        yield list(read_codes(lambda place, a, b: done.block(unit_codes(place, a), unit_codes(place, b))))

    def scales() -> Iterator[Sequence[Candidate]]:
        if done.bench.factor == 1:
            # (What scales are taken for is measured where a product of 1 is right.)
            yield readings(done.bench)
            yield list(filter(None, [product_reading(done.bench)]))

    def codes() -> Iterator[Sequence[Candidate]]:
        return itertools.chain(vanishing(done.block), measured_map(done.block), tabled())

    return {
        "zeros": (
            (),
            lambda: corrections(partial(_alone, done.block), done.block(*np.zeros((2, 32), np.int64))),
        ),
        "single": (candidates.integers(), codes),
        "filled": (candidates.integers(), codes),
        "scaled": ((*candidates.scale_products(), *candidates.readings()), scales),
        "rest": ((*candidates.terms(), *candidates.results()), lambda: ()),
    }


def _sums(done: Experiments) -> Iterator[Sequence[Candidate]]:
    if found := sum_reading(done.block):
        yield [found]


def _summed(done: Experiments, calls: Sequence[CallResult], model: Model) -> Iterator[list[Candidate]]:
    """Yield what gives all calls of codes, on top of what is known: changes of partial sums, or of products.

    Partial sums may be those of codes with an offset, which is taken off rightly.
    """
    x, y = (np.array([done.given[id(one)][side] for one in calls], np.int64) for side in (0, 1))
    values = np.array([np.frombuffer(one.outputs[0], "<f4")[0] for one in calls], np.float64)
    left = values / done.bench.factor - np.asarray(model.correction(x, y))
    products = np.asarray(model.products(x, y))
    if found := partial_sums(products, left):
        yield [found]
    elif model.products is not plain_products:
        return
    elif found := in_context(x, y, left - products.sum(axis=1)):
        yield [found]
    else:
        for side, codes in (("x", y), ("y", x)):
            off = OFFSET * codes
            if found := partial_sums(products + off, left + off.sum(axis=1)):
                yield [_of_offset(found, side)]


def _of_offset(found: Candidate, side: str) -> Candidate:
    """Return a change of partial sums of codes with an offset, which is taken off afterwards."""
    step = found.changes["block_sum"]

    def products(qx: Array, qy: Array) -> Array:
        return np.asarray((qx.astype(np.int64) + OFFSET * (side == "x")) * (qy + OFFSET * (side == "y")))

    def correction(qx: Array, qy: Array) -> Array:
        return np.asarray(-OFFSET * (qy if side == "x" else qx).astype(np.int64).sum(axis=1))

    return replace(
        found,
        where={**found.where, "offset": side},
        sentence=f"{OFFSET} is added to the codes of {side}: {found.sentence[0].lower()}{found.sentence[1:]}",
        cause="",
        changes={"products": products, "block_sum": step, "correction": correction},
    )


def _giving(
    changes: dict[str, Any],
    taken: set[str],
    every: Iterable[Sequence[Candidate]],
    calls: Sequence[CallResult],
) -> Sequence[Candidate]:
    """Return the first of some steps that gives all calls, on top of others."""
    for found in every:
        more = {key: step for one in found for key, step in one.changes.items()}
        if more and not more.keys() & taken and all(matches(Model(**{**changes, **more}), c) for c in calls):
            return found
    return ()


def _with_code_sum(total: int, *, spread: bool) -> Array:
    """Return codes of a sum: as few as it takes, or nearly all alike; behind 127 and -127, and before a 0."""
    codes = np.zeros(32, np.int64)
    codes[:2], free = (127, -127), 29
    if spread:
        codes[2:-1] = total // free + (np.arange(free) < total % free)
        return codes
    for place in reversed(range(2, 2 + free)):
        codes[place] = np.clip(total, -127, 127)
        total -= int(codes[place])
    return codes


def _taken_off() -> Iterator[tuple[dict[str, Any], str, Taken]]:
    """Yield what may be taken off for a number, 128 times a sum of codes: data, words, a function."""
    for bits, ends in itertools.product(range(8, 20), ("wraps", "saturates")):
        words = f"is kept in {bits} bits and {ends}"
        yield {"bits": bits, "ends": ends}, words, partial(in_bits, bits=bits, ends=ends)
    for bits in range(4, 12):
        words = f"is rounded to {bits} bits"
        yield {"rounded": bits}, words, lambda of, bits=bits: significant(of, bits, np.rint).astype(np.int64)
    for power in range(8, 20):
        words = f"is cut to a multiple of 2^{power}"
        yield {"unit": power}, words, lambda of, power=power: of >> power << power
    yield {"as": "magnitude"}, "loses its sign", np.abs
    yield {"as": "positive"}, "is left out where it is negative", partial(np.maximum, 0)
    yield {"as": "negative"}, "is left out where it is positive", partial(np.minimum, 0)


def corrections(alone: Alone, constant: float = 0.0) -> Iterator[Sequence[Candidate]]:
    """Measure what a block adds where one row's codes are all zero, as a function of the other row's.

    Unsigned codes of x are those of int8 with 128 added, so that 128 times the sum of y's codes is taken off.

    Parameters
    ----------
    alone
        Returns the results of blocks of which the row x, or y, has codes [k, 32], and the other one zeros. Of
        the codes some are 127 or -127, none is -128, and the first one or the last is 0.
    constant
        The result of two rows of zeros.
    """
    rng = dot_rows.generator("corrections")
    sums = np.array([sign * total for total in SUMS for sign in (1, -1)])
    added = {}
    for side in "xy":
        few, spread = (
            alone(side, np.array([_with_code_sum(s, spread=alike) for s in sums.tolist()]))
            for alike in (False, True)
        )
        weights = (alone(side, 127 * np.eye(32, dtype=np.int64)) - constant) / 127
        added[side] = few, weights, np.array_equal(few, spread)
    for side, other in ("yx", "xy"):
        few, weights, is_of_sum = added[side]
        if constant or added[other][0].any() or not is_of_sum or not few.any():
            continue
        for where, words, taken in _taken_off():
            if np.array_equal(few, OFFSET * sums - taken(OFFSET * sums)):
                step = partial(_left, side=side, taken=taken)
                off = f"what is taken off for it, {OFFSET} times the sum of {side}'s codes, {words}"
                sentence = f"{OFFSET} is added to the codes of {other}, and {off}."
                yield [_correction({"of": side, **where}, sentence, step)]
    linear = {side: np.rint(weights) for side, (_, weights, _) in added.items()}
    random = rng.integers(-127, 128, (CONTROLS, 32))
    random[:, 0], random[:, -1] = 127, 0
    for side in "xy":
        if not np.array_equal(random @ linear[side] + constant, alone(side, random)):
            return
    if any(of.any() for of in linear.values()) or constant:
        wy, wx = linear["y"], linear["x"]
        step = partial(_weighed, wx=wx, wy=wy, constant=constant)
        where = {"x": wx.astype(int).tolist(), "y": wy.astype(int).tolist(), "constant": constant}
        yield [_correction(where, _linear_words(wx, wy, constant), step)]


def _alone(block: Block, side: str, codes: Array) -> Array:
    """Return the results of blocks of which one row has codes [k, 32], the other one zeros."""
    none = np.zeros(32, np.int64)
    return np.array([block(own, none) if side == "x" else block(none, own) for own in codes])


def _weighed(qx: Array, qy: Array, wx: Array, wy: Array, constant: float) -> Array:
    """Return what codes add by themselves."""
    return np.asarray(qx.astype(np.int64) @ wx + qy.astype(np.int64) @ wy + constant)


def _left(qx: Array, qy: Array, side: str, taken: Taken) -> Array:
    """Return what is left of the offset's part where something else than that is taken off."""
    part = OFFSET * (qx if side == "x" else qy).astype(np.int64).sum(axis=-1)
    return np.asarray(part - taken(part))


def _linear_words(wx: Array, wy: Array, constant: float) -> str:
    """Say what is added to a block's sum."""
    same = {side: of[0] for side, of in (("x", wx), ("y", wy)) if (of == of[0]).all() and of[0]}
    if same in ({"y": OFFSET, "x": -OFFSET}, {"x": OFFSET, "y": -OFFSET}):
        side, other = ("x", "y") if same["y"] > 0 else ("y", "x")
        own = f"{OFFSET} times the sum of {side}'s codes is taken off, not of {other}'s"
        return f"{OFFSET} is added to the codes of {side}, and {own}."
    if len(same) == 1 and not constant and (wx.any() != wy.any()):
        ((side, times),) = same.items()
        other = "y" if side == "x" else "x"
        taken = f"{abs(times):g} {'more' if times > 0 else 'less'}"
        return f"{other}'s codes are taken for {taken}: {times:g} times the sum of {side}'s codes is added."
    parts = []
    for side, weights in (("x", wx), ("y", wy)):
        for weight in dict.fromkeys(weights[weights != 0].tolist()):
            places = np.flatnonzero(weights == weight).tolist()
            some = f" {ranges(places)} of {side}" if len(places) < len(weights) else f" of {side}"
            noun = "code" if len(places) == 1 else "codes"
            parts.append(f"{weight:g} times the sum of {noun}{some}")
    parts += [f"{constant:g}"] if constant else []
    return f"{' and '.join(parts)} {'is' if len(parts) == 1 else 'are'} added to a block's sum."


def _correction(where: dict[str, Any], sentence: str, step: Callable[..., Any]) -> Candidate:
    """Return a candidate for what is added to a block's sum."""
    fix = "Take off, in 32 bits, what the offset of one row's codes adds: it times the sum of the other's."
    return Candidate(
        "correction-wrong", where, "Q8A8-DOT-1", f"{sentence[0].upper()}{sentence[1:]}", fix, "",
        {"correction": step},
    )  # fmt: skip


def vanishing(block: Block) -> Iterator[Sequence[Candidate]]:
    """Find blocks that are not counted where some of their codes are zero: which ones, of x or of y."""
    rng = dot_rows.generator("vanishing")
    full = rng.integers(1, 100, 32)
    for side in "xy":

        def value(own: Array, side: str = side) -> float:
            return block(own, full) if side == "x" else block(full, own)

        lost = [j for j in range(32) if value(unit_codes(j, 3)) == 0]
        if not 0 < len(lost) < 32:
            continue
        needed = [e for e in range(32) if e not in lost]
        if all(
            value(unit_codes(e, -3) + unit_codes(lost[0], 3)) == -3 * full[e] + 3 * full[lost[0]]
            for e in needed
        ):
            yield [_skipped(side, needed)]
    needed = [j for j in range(32) if block(unit_codes(j, 3), unit_codes(j, 3)) != 0]
    if 0 < len(needed) < 32:
        yield [_skipped("xy", needed)]


def _skipped(operand: str, needed: Sequence[int]) -> Candidate:
    """Return that a block is skipped where some elements of x, of y, or of both ("xy") are zero."""

    def step(qx: Array, qy: Array) -> Array:
        rows = [q for side, q in (("x", qx), ("y", qy)) if side in operand]
        counted = np.logical_or.reduce([q[:, needed].any(axis=1, keepdims=True) for q in rows])
        return np.asarray(np.where(counted, qx.astype(np.int64) * qy, 0))

    whose = " and ".join(f"{side}'s" for side in operand)
    are = "are all" if len(needed) > 1 else "is" if len(operand) == 1 else "are"
    return Candidate(
        "block-skipped",
        {"operand": operand, "elements": needed},
        "Q8A8-DOT-1",
        f"A block is not counted where {whose} element{'s' * (len(needed) > 1)} {ranges(needed)} {are} zero.",
        "Count every block; one whose codes are all zero adds nothing.",
        "",
        {"products": step},
    )
