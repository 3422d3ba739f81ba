"""Limits of amax under which, or from which on, something happens to blocks, narrowed down by calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.diagnosis.quantizers import cases as cases_of
from q8a8_conformance.diagnosis.quantizers.cases import Case, make_case
from q8a8_conformance.diagnosis.quantizers.effects import plain_numbers
from q8a8_conformance.diagnosis.quantizers.states import Condition
from q8a8_conformance.reveal.quantizers.calls import BLOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from q8a8_conformance.diagnosis.quantizers.states import Question, State
    from q8a8_conformance.inputs.arrays import Array

F32 = np.float32

ENOUGH = 4
"""Blocks on either side of a limit that show that it is one."""

NARROWED, TRIED = 10, 48
"""Times that the interval of a limit is narrowed down, and blocks that are looked at for it."""

PLAIN = 5
"""Characters of a number that needs no other form."""


def limit_of(question: Question, states: Sequence[State]) -> Condition | None:
    """Return the limit of amax below which, or from which on, an effect is seen; or both limits."""
    hit, missed = _amaxes(states)
    if min(np.unique(hit).size, np.unique(missed).size) < ENOUGH:
        return None
    inside = (missed >= hit.min()) & (missed <= hit.max())
    if inside.any():
        return None
    found = []
    above, below = missed[missed > hit.max()], missed[missed < hit.min()]
    for is_below, side in ((False, below), (True, above)):
        if not side.size:
            continue
        limit = _narrowed(question, hit, side, is_below=is_below)
        if limit is None:
            return None
        found.append(limit)
    text = "where " + " and ".join(words for words, _, _ in found)
    data: dict[str, Any] = {}
    for _, one, _ in found:
        data |= {f"and-{name}" if name in data else name: value for name, value in one.items()}

    def holds(case: Case) -> Array:
        held = np.all([of(case) for _, _, of in found], axis=0)
        return np.broadcast_to(held[:, np.newaxis], case.x.shape)

    return Condition(text, data, holds)


def _amaxes(states: Sequence[State]) -> tuple[Array, Array]:
    hit = [s.case.amax[s.hit_blocks] for s in states]
    missed = [s.case.amax[s.missed_blocks | s.bad.any(axis=1)] for s in states]
    return np.concatenate(hit).astype(np.float64), np.concatenate(missed).astype(np.float64)


def _narrowed(
    question: Question, hit: Array, missed: Array, *, is_below: bool
) -> tuple[str, dict[str, Any], Callable[[Case], Array]] | None:
    """Return one limit: its words, its parameters, and where it holds, bool [n]."""
    low, high = (hit.max(), missed.min()) if is_below else (missed.max(), hit.min())
    for _ in range(NARROWED):
        seen = _seen_between(question, low, high)
        below, above = seen if is_below else seen[::-1]
        low, high = max([low, *below]), min([high, *above])
        if low >= high:
            return None
        if not below and not above:
            break
    unit, number, words = _plainest(low, high)

    def holds(case: Case) -> Array:
        numbers = _UNITS[unit](case)
        return np.asarray(numbers < F32(number) if is_below else numbers >= F32(number))

    data = {"values": f"{unit}-{'below' if is_below else 'from'}", "limit": number}
    return f"{unit} {'<' if is_below else '>='} {words}", data, holds


_UNITS: dict[str, Callable[[Case], Array]] = {
    "amax": lambda case: case.amax,
    "amax / 127": lambda case: case.amax / F32(127),
    "the scale": lambda case: case.scales.view(np.float16).astype(F32),
}
"""Numbers of blocks that a limit may be about: float32 [n]."""


def _plainest(low: float, high: float) -> tuple[str, float, str]:
    """Return the plainest limit above an amax and up to another: of what it is, the number, and its words."""
    least, most = F32(low), F32(high)
    found = []
    for unit, (a, b) in {
        "amax": (least, most),
        "amax / 127": (least / F32(127), most / F32(127)),
        "the scale": tuple(np.array([least, most], F32).__truediv__(F32(127)).astype(np.float16).astype(F32)),
    }.items():
        if a < b:
            numbers = plain_numbers(float(np.nextafter(a, F32(np.inf))), float(b))
            found += [(len(_number(number)), unit, number) for number in numbers]
    order = list(_UNITS)
    _, unit, number = min(found, key=lambda one: (one[0], order.index(one[1])), default=(0, "amax", high))
    return unit, number, _number(number)


def plainest(low: float, high: float) -> tuple[float, str]:
    """Return the plainest number above one and up to another, and its words."""
    numbers = plain_numbers(float(np.nextafter(F32(low), F32(np.inf))), float(F32(high)))
    number = min(numbers, key=lambda one: len(_number(one)), default=high)
    return number, _number(number)


def _number(number: float) -> str:
    """Return a number as a programmer writes it: a power of two, or as few digits as it has."""
    fraction, exponent = np.frexp(number)
    short = f"{number:.9g}"
    return f"2^{exponent - 1}" if fraction == 1 / 2 and len(short) > PLAIN else short


def _seen_between(question: Question, low: float, high: float) -> tuple[list[float], list[float]]:
    """Return values of amax between two: at which an effect is seen, and at which it would be and is not."""
    calls = question.calls
    rng = np.random.default_rng(3)
    s = BLOCK if calls.is_row else cases_of.VECTOR
    amax = np.geomspace(max(low, high * 2.0**-40), high, TRIED + 2)[1:-1].astype(F32)
    amax = amax[(amax > low) & (amax < high)]
    if not amax.size:
        return [], []
    blocks = (rng.integers(-126, 127, (amax.size, s)) + 0.5) * amax[:, np.newaxis] / 127
    x = blocks.astype(F32)
    x = (x.view(np.int32) + rng.integers(-2, 3, x.shape, dtype=np.int32)).view(F32)
    x[np.arange(amax.size), rng.integers(0, s, amax.size)] = amax * rng.choice([-1, 1], amax.size)
    made = [make_case(calls, x)] if calls.is_row else [make_case(calls, block[np.newaxis]) for block in x]
    hit, missed = _amaxes([question.state(question.based(case)) for case in cases_of.merged(made)])
    return hit.tolist(), missed.tolist()
