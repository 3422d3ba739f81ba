"""Sums of several blocks that a product rounds before it adds them up: of which blocks, and in which outputs.

A value with many bits in one block shows whether the sum in which it is gets rounded, and how (`values`). Two
such values in blocks beside each other show whether one sum has both.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.diagnosis.facts import Fact, remembered
from q8a8_conformance.diagnosis.products.judged import (
    ROUNDING,
    accounts_for_all,
    quantized,
    shown,
    wrong_outputs,
)
from q8a8_conformance.diagnosis.products.rules import EVERYWHERE, OutputRule, rule_along
from q8a8_conformance.diagnosis.products.samples import STEPS, of_output
from q8a8_conformance.diagnosis.products.steps import Made
from q8a8_conformance.diagnosis.products.values import rounding_of
from q8a8_conformance.inputs import calls
from q8a8_conformance.protocol.session import SessionError
from q8a8_conformance.results.expected_product import outputs_of
from q8a8_conformance.reveal.places import Seen, find_rule

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from q8a8_conformance.diagnosis.products.rules import Shape
    from q8a8_conformance.diagnosis.products.values import Rounding
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.results.observations import Failure
    from q8a8_conformance.reveal.places import Rule
    from q8a8_conformance.reveal.quantizers.calls import AnySession

RULE = "Q8A8-MUL-5"
FIX = "Keep sums of several blocks in float32 until all are added up."

LENGTHS, LONGEST = (*range(2, 11), 12, 15, 16, 17, 20, 24, 33), 48
"""Blocks of rows that are looked at, and the most of a row by which rules are told apart."""

PARTS = (2, 4, 3, 8, 16)
"""Parts into which blocks may be divided."""

TRIED = 400
"""Pairs of values of which some two tell a sum of both from two sums."""


@dataclass(frozen=True)
class Segments:
    """Sums of several blocks that are rounded.

    Attributes
    ----------
    rounding
        How.
    outputs
        In which outputs.
    blocks
        Which blocks are in such sums.
    begins, words
        Returns which blocks of a row begin another sum, bool [nb]; and in words, empty for none.
    is_running
        Whether what is rounded where a sum ends is that of all blocks so far.
    """

    rounding: Rounding
    outputs: OutputRule
    blocks: Rule
    begins: Callable[[int], Array]
    words: str
    is_running: bool = False

    @property
    def sentence(self) -> str:
        """What it is, as a sentence."""
        outputs, blocks = self.outputs.text, self.blocks
        where = [] if outputs == "All outputs" else [f"In {outputs[0].lower()}{outputs[1:]}"]
        lengths = " and ".join(one.text("nb", of_length=True) for one in blocks.length)
        where += [f"{'where' if where else 'Where'} {lengths}"] if lengths else []
        which = "blocks" if blocks.is_any else blocks.position.text("block", "nb")
        if self.is_running:
            what = (
                f"the running sum is {self.rounding.words} after {'every block' if blocks.is_any else which}"
            )
            if self.words:
                what = (
                    f"the running sum of {which} is {self.rounding.words} before {self.words}, and at its end"
                )
            text = ", ".join([*where, what])
            return f"{text[0].upper()}{text[1:]}."
        what = f"the sum of {which} is {self.rounding.words} before the rest is"
        if self.words:
            which = f"{which}, a new one from {self.words} on,"
            what = f"the sums of {which} are {self.rounding.words} before all are"
        text = ", ".join([*where, f"{what} added"])
        return f"{text[0].upper()}{text[1:]}."

    def accounts(self, result: Failure) -> Array:
        """Return which wrong outputs are such sums, bool [n, m]."""
        wrong = wrong_outputs(result)
        if not result.call.n or (operands := quantized(result)) is None:
            return wrong & False
        (w, x), got = operands, outputs_of(result.call, bytes(result.outputs[0])).astype(np.float64)
        nb = w.shape[1]
        held, begins = self.blocks.holds(nb), self.begins(nb)
        sums = _Sums(self.rounding, wrong.shape, is_running=self.is_running)
        part, size = np.zeros(wrong.shape), np.zeros(wrong.shape)
        is_open = False
        for b in range(nb):
            if is_open and (begins[b] or not held[b]):
                sums.close(part, size)
                part, size, is_open = np.zeros(wrong.shape), np.zeros(wrong.shape), False
            term, magnitude = _terms(w[:, b], x[:, b]), _terms(w[:, b], x[:, b], np.abs)
            if held[b]:
                part, size, is_open = part + term, size + magnitude, True
            else:
                sums.add(term, magnitude)
        if is_open:
            sums.close(part, size)
        return np.asarray(wrong & self.outputs.holds((len(w), len(x), nb)) & sums.may_be(got))


class _Sums:
    """What outputs [n, m] may be to which parts are added, some of them rounded."""

    def __init__(self, rounding: Rounding, shape: tuple[int, ...], *, is_running: bool) -> None:
        self._rounding, self._is_running = rounding, is_running
        self._least, self._most, self._size = (np.zeros(shape) for _ in range(3))
        # (By sign: whether any part may be infinite, and whether one is.)
        self._may, self._is = ({sign: np.zeros(shape, bool) for sign in (-1, 1)} for _ in range(2))
        self._closed = 0

    def add(self, term: Array, size: Array) -> None:
        """Add a term as it is, whose products have magnitudes of some sum."""
        self._least += term
        self._most += term
        self._size += size

    def close(self, part: Array, size: Array) -> None:
        """Add a sum that ends, and round it, or all so far."""
        self._closed += 1
        self._size += size
        if self._is_running:
            for total in (self._least, self._most):
                total[...] = self._rounding(np.asarray((total + part).astype(np.float32), np.float64))
            return
        # (Other roundings of the sum may lead from one number to the next.)
        given = np.array([self._rounding(part + side * ROUNDING * size) for side in (-1, 0, 1)])
        for sign in (-1, 1):
            infinite = given == sign * np.inf
            self._may[sign] |= infinite.any(axis=0)
            self._is[sign] |= infinite.all(axis=0)
        finite = np.where(np.isfinite(given), given, part)
        self._least += finite.min(axis=0)
        self._most += finite.max(axis=0)

    def may_be(self, got: Array) -> Array:
        """Return which outputs may be those that came, float64: bool [n, m]."""
        near = ROUNDING * self._size
        if self._is_running:
            # (Of two numbers between which a sum lies either may be taken, and all that follows.)
            size = np.where(np.isfinite(self._least), np.abs(self._least), 0.0)
            near = near + size * (self._closed * 2.0 ** (2 - (self._rounding.bits or 0)))
        with np.errstate(invalid="ignore"):
            inside = (got >= self._least - near) & (got <= self._most + near)
            fits = np.where(self._is[-1] | self._is[1], got == self._least, inside | (got == self._least))
            fits |= np.isnan(got) & (np.isnan(self._least) | (self._may[-1] & self._may[1]))
            for sign in (-1, 1):
                fits |= (got == sign * np.inf) & self._may[sign] & ~self._is[-sign]
        return np.asarray(fits)


def _terms(w: Array, x: Array, of: Callable[[Array], Array] = np.asarray) -> Array:
    """Return the terms, float64 [n, m], of a block of each row of w, [m], and x, [n]; or of magnitudes."""
    # (The sum of a block is below 2^24: exact in float32.)
    sums = of(x["weight_qs"].astype(np.float32)) @ of(w["weight_qs"].astype(np.float32)).T
    dw, dx = (of(side["weight_scale"].astype(np.float64)) for side in (w, x))
    return np.asarray(sums * (dx[:, np.newaxis] * dw))


class _Looking:
    """Finds out which sums have blocks of rows of many lengths."""

    def __init__(self, made: Made, shape: Shape, place: tuple[int, int], rounding: Rounding) -> None:
        self._made, self._shape, self._place = made, shape, place
        self.rounding = rounding
        self._pair = _telling_pair(rounding)
        self._known: dict[int, tuple[Array, Array] | None] = {}
        self.running = self.ends = 0

    def __call__(self, nb: int) -> tuple[Array, Array] | None:
        """Return which blocks are in rounded sums, and which begin another than the first: bool [nb] each."""
        if nb not in self._known:
            self._known[nb] = self._look(nb)
        return self._known[nb]

    def _value(self, nb: int, values: dict[int, float]) -> float:
        samples = {block: of_output(v) for block, v in values.items()}
        return float(self._made.placed((*self._shape[:2], nb), samples)[self._place])

    def _round(self, v: float) -> float:
        return float(self.rounding(np.array([v]))[0])

    def _look(self, nb: int) -> tuple[Array, Array] | None:
        one, other = self._pair
        held, begins = np.zeros(nb, bool), np.zeros(nb, bool)
        for b in range(nb):
            came = self._value(nb, {b: one})
            if came not in (one, self._round(one)):
                return None
            held[b] = came != one
        for b in (np.flatnonzero(held[1:] & held[:-1]) + 1).tolist():
            came = self._value(nb, {b - 1: one, b: other})
            both, apart = self._round(one + other), np.float32(self._round(one) + self._round(other))
            after = self._round(self._round(one) + other)
            if came not in (both, apart, after):
                return None
            begins[b] = came != both
            self.running, self.ends = self.running + (came == after), self.ends + int(begins[b])
        return held, begins


def _telling_pair(rounding: Rounding) -> tuple[float, float]:
    """Return two values whose sum is rounded otherwise than the sum of both, rounded."""
    rng = np.random.default_rng(1)
    for numbers in rng.integers(1 << 16, 1 << 17, (TRIED, 2)) * 2.0 + 1:
        one, other = (float(v) / 1024 for v in numbers)
        a, b, c = (float(rounding(np.array([v]))[0]) for v in (one, other, one + other))
        after = float(rounding(np.array([a + other]))[0])
        if len({c, a + b, one + other, a + other, one + b, after}) == 6 and a != one:
            return one, other
    return 0.0, 0.0


def segment_facts(session: AnySession, failures: Sequence[Failure]) -> list[Fact]:
    """Find sums of several blocks that are rounded before they are added up."""
    made = Made(session)
    some = [one for one in failures if one.call.n >= 64]
    if not some:
        return []
    first = min(some, key=lambda one: one.call.bs * one.call.bx * one.call.n)
    shape = first.call.bs, first.call.bx, first.call.n // 32
    i, j = np.argwhere(wrong_outputs(first))[-1].tolist()
    try:
        found = _find(made, shape, (i, j))
    except SessionError:
        return []
    return [] if found is None else [_fact(made, found, shape)]


def _find(made: Made, shape: Shape, place: tuple[int, int]) -> Segments | None:
    """Return the segments that are seen in an output of a shape; None for none."""
    nb = shape[2]
    samples = STEPS[0].samples
    values = np.array([sample.value for sample in samples])
    for block in dict.fromkeys((0, nb // 2, nb - 1)):
        if made(shape, samples[0], block)[place] == samples[0].value:
            continue
        came = np.array([made(shape, sample, block)[place] for sample in samples], np.float32)
        rounding = rounding_of(values, came)
        if rounding is None:
            return None
        looking = _Looking(made, shape, place, rounding)
        seen = {length: looking(length) for length in sorted({*LENGTHS, min(nb, LONGEST)})}
        known = {length: one for length, one in seen.items() if one is not None}
        if len(known) < len(seen):
            return None
        blocks = _rule(known, looking, 0)
        begins = _begins(known, looking)
        if blocks is None or begins is None:
            return None
        outputs = _outputs(made, shape, block, samples[0].value)
        is_running = 0 < looking.running == looking.ends
        if is_running and all(each[1:].sum() == held[1:].sum() for held, each in known.values()):
            begins = begins[0], ""
        return Segments(rounding, outputs, blocks, *begins, is_running) if outputs else None
    return None


def _begins(
    known: dict[int, tuple[Array, Array]], looking: _Looking
) -> tuple[Callable[[int], Array], str] | None:
    """Return which blocks begin another sum, and in words."""
    starts = {nb: (held, begins) for nb, (held, begins) in known.items() if held.any()}
    if not any(begins.any() for _, begins in starts.values()):
        return (lambda nb: np.zeros(nb, bool)), ""
    for part in PARTS:
        for is_up, words in ((False, "rounded down"), (True, "rounded up")):
            of = partial(_at_parts, part, is_up)
            if all(np.array_equal(of(nb), begins) for nb, (_, begins) in starts.items()):
                times = f", each multiple of it up to {part - 1} * it" if part > 2 else ""
                return of, f"block nb / {part} ({words}){times}"
    rule = _rule(starts, looking, 1)
    return None if rule is None else (rule.holds, rule.position.text("block", "nb"))


def _rule(known: dict[int, tuple[Array, Array]], looking: _Looking, part: int) -> Rule | None:
    """Return the rule for blocks of rows that were looked at: those in sums, or those that begin another.

    Of blocks in no sum it is not known whether they would begin one.
    """

    def shown(nb: int, found: tuple[Array, Array]) -> tuple[Array, Array]:
        return found[part], found[0] if part else np.ones(nb, bool)

    def ask(nb: int) -> tuple[Array, Array]:
        found, nothing = looking(nb), np.zeros(nb, bool)
        return (nothing, nothing) if found is None else shown(nb, found)

    each = {nb: shown(nb, found) for nb, found in known.items()}
    return find_rule(Seen(*({nb: of[k] for nb, of in each.items()} for k in (0, 1))), ask, LONGEST)


def _at_parts(part: int, is_up: bool, nb: int) -> Array:
    step = -(-nb // part) if is_up else nb // part
    b = np.arange(nb)
    return np.asarray((b > 0) & (b % max(step, 1) == 0) & (b < part * step)) if step else b < 0


def _outputs(made: Made, shape: Shape, block: int, value: float) -> OutputRule | None:
    """Return the columns and rows in which a value in one block is rounded."""

    def look(other: Shape) -> Array:
        return np.asarray(made(other, of_output(value), block) != np.float32(value))

    def shows(other: Shape) -> Array:
        return np.ones((other[1], other[0]), bool)

    columns, rows = (rule_along(axis, shape, look, shows, either=False) for axis in range(2))
    if columns is None or rows is None:
        return None
    rule = OutputRule(columns, rows, EVERYWHERE)
    return rule if np.array_equal(rule.holds(shape), look(shape)) else None


def _fact(made: Made, found: Segments, shape: Shape) -> Fact:
    """Return the fact that sums of several blocks are rounded."""
    value = STEPS[0].samples[0]
    block = int(np.flatnonzero(found.blocks.holds(shape[2]))[0])
    call, outputs = made.call(shape, {block: value})
    where = {
        "rounding": found.rounding.words,
        "outputs": found.outputs.to_json(),
        "blocks": found.blocks.to_json(),
        "begin_at": found.words,
    }
    return Fact(
        *("chunk-sums", where, RULE, found.sentence, FIX, ""),
        function=calls.MUL_MAT,
        evidence=shown([(call, (outputs,))]),
        explains=remembered(partial(accounts_for_all, found.accounts)),
        outputs=found.accounts,
    )
