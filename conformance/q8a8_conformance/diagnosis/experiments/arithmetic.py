"""What a kernel does with one block: its codes, its scales, their product, and what is made of the two.

Some two hundred calls of one block (beside blocks of zeros) at chosen values: every pair of places, the edges
of int8, sums that need 16 bits and more, halves of every kind, products that a half cannot hold. The step
that gives each of the values is the measured one.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.diagnosis.experiments import candidates
from q8a8_conformance.diagnosis.experiments.bench import changes_of
from q8a8_conformance.diagnosis.experiments.maps import map_of
from q8a8_conformance.diagnosis.experiments.model import Model, matches
from q8a8_conformance.diagnosis.experiments.stages import staged
from q8a8_conformance.inputs import dot_rows
from q8a8_conformance.results.observations import CallResult
from q8a8_conformance.results.record import count

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from q8a8_conformance.diagnosis.experiments.bench import Bench, Measured
    from q8a8_conformance.diagnosis.experiments.candidates import Candidate

    Array = NDArray[Any]

EDGES = (-128, -127, -100, -1, 1, 77, 127)
"""Codes of single products."""

FIX = "Pair element j of x with element j of y, and add all 32 products."

SOME = 40
"""Wrong calls, of which one of two mistakes must give some."""

FILLED = ((127, 127), (-128, -128), (127, -128), (-128, 127), (-127, 127))
"""Codes of blocks that are filled up from the first element."""

HALVES = (
    0x0001, 0x0002, 0x0003, 0x01FF, 0x0200, 0x03FF, 0x0400, 0x0401, 0x1400, 0x2E66, 0x3BFF, 0x3C00, 0x3C01,
    0x3FFF, 0x4000, 0x5555, 0x77FF, 0x7800, 0x7801, 0x7BFF,
    0x8001, 0x83FF, 0x8400, 0xB800, 0xBC00, 0xC001, 0xFBFF,
)  # fmt: skip
"""Bits of scales: least and greatest, subnormal and normal, of both signs, odd and even."""

SCALES = (
    (2047, 2047), (2047, 2045), (1025, 1025), (-2047, 2047), (-1.5, -2.5),
    (3, 5), (5, 3), (2.0**-24, 2.0**-24),
    (2.0**-24, 3.0), (2.0**-14, 2.0**-10), (3 * 2.0**-24, 2.0**-12), (2.0**-8, 2.0**-7), (2.0**-7, 2.0**-7),
    (2.0**-7, 2.0**-6), (65504, 65504), (32768, 4), (65504, 1),
    (65504, -2), (-65504, 2), (257, 1.0), (0.75, 0.375),
    *((2.0 ** -(p // 2), 2.0 ** -(p - p // 2)) for p in range(9, 49)),
)  # fmt: skip
"""Pairs of scales; each product has 22 significant bits at most."""


class Experiments:
    """Calls of one block that were made, with their outputs.

    Parameters
    ----------
    bench
        Makes the calls.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.made: list[CallResult] = []
        self.given: dict[int, tuple[Array, Array, float, float]] = {}

    def block(self, qx: Array, qy: Array, dx: float = 1.0, dy: float = 1.0) -> float:
        """Return the result of one block."""
        x, y = (
            self.bench.padded(dot_rows.blocks(d, np.asarray(q)[np.newaxis])) for d, q in ((dx, qx), (dy, qy))
        )
        call = self.bench.call(x, y)
        outputs = self.bench.outputs(call)
        self.made.append(CallResult(call, outputs))
        self.given[id(self.made[-1])] = qx, qy, dx, dy
        return float(np.frombuffer(outputs[0], "<f4")[0])

    def wrong(self, model: Model) -> list[CallResult]:
        """Return the calls that a model does not give."""
        return [one for one in self.made if not matches(model, one)]

    def make(self) -> None:
        """Make all calls."""
        rng = dot_rows.generator("arithmetic")
        none, every = np.zeros(32, np.int64), np.arange(1, 33)
        shuffled = rng.permutation(every)
        some = rng.integers(-60, 61, 32)
        self.block(none, some)
        self.block(some, none)
        self.block(none, every)
        for j in range(32):
            self.block(_unit(j), every)
            self.block(_unit(j), shuffled)
            self.block(every, _unit(j))
        element = self.bench.element
        for j, code in itertools.product(range(32), (-128, 127)):
            self.block(_unit(j, code), _unit(j, 3))
            self.block(_unit(j, 3), _unit(j, code))
        for a, b in itertools.product(EDGES, EDGES):
            self.block(_unit(element, a), _unit(element, b))
        for j in range(32):
            pair = _unit(element, -128) + _unit(j, -128) * (j != element)
            self.block(pair, pair)
        for (a, b), n in itertools.product(FILLED, (2, 3, 4, 5, 8, 9, 16, 17, 31, 32)):
            filled = np.arange(32) < n
            self.block(a * filled, b * filled)
        for total in (2049, 4097, 32769, 65537, 262145):
            self.block(*_with_sum(total))
        for total, d in ((2049, 2.0**-10), (4097, 2.0**-4), (262145, 2.0**-12), (-2049, 2.0**8)):
            self.block(*_with_sum(total), d)
        for h in HALVES:
            value = float(np.uint16(h).view(np.float16))
            self.block(_unit(element), _unit(element), value)
            self.block(_unit(element), _unit(element), 1.0, value)
        for dx, dy in SCALES:
            self.block(_unit(element), _unit(element), dx, dy)


def _unit(place: int, code: int = 1) -> Array:
    codes = np.zeros(32, np.int64)
    codes[place] = code
    return codes


def _with_sum(total: int) -> tuple[Array, Array]:
    """Return codes whose products add up to a number: 127 · 127 as often as it goes, and a rest."""
    x, y = np.zeros(32, np.int64), np.zeros(32, np.int64)
    rest = abs(total)
    for place in range(32):
        x[place] = min(127, rest)
        y[place] = min(127, rest // max(x[place], 1))
        rest -= int(x[place] * y[place])
    return (x if total > 0 else -x), y


def arithmetic(bench: Bench, found: Sequence[Measured], placed: list[Measured]) -> Iterator[Measured]:
    """Find the steps of one block that differ from the specification's, on top of what was found.

    Those that do not in other blocks are added to `placed`: they are a matter of places.
    """
    base = changes_of(found)
    done, wrong, parts = block_steps(bench, base)
    for part in parts:
        if _is_placed(done, base, parts, part):
            placed.append(_as_fact(bench, part, wrong, base, only=True))
        else:
            yield _as_fact(bench, part, wrong, base, only=False)


def block_steps(
    bench: Bench, base: dict[str, Any]
) -> tuple[Experiments, list[CallResult], tuple[Candidate, ...]]:
    """Find the steps of the block at the bench's place that differ from a model's.

    Returns
    -------
    The experiments that were made, those that are wrong, and the steps that explain them, or some of them.
    """
    done = Experiments(bench)
    done.make()
    wrong = done.wrong(Model(**base))
    if not wrong:
        return done, wrong, ()
    steps = (
        *candidates.scale_products(),
        *candidates.readings(),
        *candidates.integers(),
        *candidates.terms(),
        *candidates.results(),
    )
    order = [*wrong, *(one for one in done.made if one not in wrong)]
    single = (one for one in steps if _gives_all(Model(**{**base, **one.changes}), order))
    parts = tuple(itertools.islice(single, 1)) or staged(done, base)
    if not parts or not _gives_all(_with(base, parts), order):
        parts = _two_of(bench, base, order, steps, len(wrong)) or parts
    return done, wrong, parts


def _with(base: dict[str, Any], parts: Iterable[Candidate]) -> Model:
    """Return a model with some steps."""
    return Model(**{**base, **{key: step for one in parts for key, step in one.changes.items()}})


OTHER_PLACES = ((1, 0), (2, 0), (2, 1), (3, 0), (3, 2), (4, 0), (4, 3), (5, 4), (8, 0), (8, 5))
"""Blocks of a row, and one of them, at which a wrong call is made again."""


def _is_placed(done: Experiments, base: dict[str, Any], parts: Sequence[Candidate], part: Candidate) -> bool:
    """Return whether some blocks are not as a model with all steps has them, and are without one of them."""
    bench, rest = done.bench, [one for one in parts if one is not part]
    every, without = _with(base, parts), _with(base, rest)
    needed = (one for one in list(done.made) if matches(every, one) and not matches(without, one))
    given = [done.given[id(one)] for one in itertools.islice(needed, 2)]
    here = bench.length, bench.place
    try:
        for bench.length, bench.place in OTHER_PLACES:
            for args in given:
                done.block(*args)
                if not matches(every, done.made[-1]) and matches(without, done.made[-1]):
                    return True
    finally:
        bench.length, bench.place = here
    return False


def _two_of(
    bench: Bench, base: dict[str, Any], made: Sequence[CallResult], steps: Sequence[Candidate], wrong: int
) -> tuple[Candidate, ...]:
    """Return the two steps with which a model gives all values, of which the first ones are wrong."""
    # Of two mistakes each gives some value that is wrong without it.
    some = made[: wrong : 1 + wrong // SOME]
    steps = [one for one in steps if any(matches(Model(**{**base, **one.changes}), call) for call in some)]
    for one, other in itertools.combinations(steps, 2):
        bench.check_time()
        if not one.changes.keys() & other.changes.keys() and _gives_all(
            Model(**{**base, **one.changes, **other.changes}), made
        ):
            return one, other
    return ()


def _gives_all(model: Model, made: Sequence[CallResult]) -> bool:
    return all(matches(model, one) for one in made)


def _as_fact(
    bench: Bench, part: Candidate, wrong: Sequence[CallResult], base: dict[str, Any], only: bool
) -> Measured:
    """Return a candidate as a fact, with the first calls whose values need it."""
    where = {**part.where, **map_of(part)}
    sentence = part.sentence
    if only:
        where |= {"in_rows_of": bench.length, "block": bench.place}
        sentence = f"In block {bench.place} of {count(bench.length, 'block')}, not everywhere: {sentence}"
    own = [one for one in wrong if matches(Model(**{**base, **part.changes}), one)] or list(wrong)
    evidence = [bench.evidence(one.call, "one block") for one in own[:2]]
    return bench.measured(
        part.fact, where, sentence, cause=part.cause, rule=part.rule, fix=part.fix,
        evidence=evidence, changes=part.changes,
    )  # fmt: skip
