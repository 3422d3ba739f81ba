"""Halves that are read as others: which of all of them, in words, and what they are taken for.

Of every exponent some mantissas are tried, and all halves in a row; of the exponents of wrong ones every
half, where they are few. The simplest condition on sign, exponent and mantissa that holds for the wrong
ones alone is the class, and other halves must come out as it says.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8 import layout
from q8a8_conformance.diagnosis.dots.readings import measured_halves, readings_of, scaled, values_of
from q8a8_conformance.inputs import calls, dot_rows, every_value
from q8a8_conformance.inputs.known_calls import exact_sum

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from q8a8_conformance.diagnosis.dots.bench import Bench, Measured
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.results.observations import CallResult

FEW = 4
"""Exponents of which every half is tried."""

FIRST = (0, 1, 2, 0x155, 0x1FF, 0x200, 0x3FE, 0x3FF)
"""Mantissas that are tried of every exponent."""

SOME = sorted(
    {*range(9), *range(1016, 1024), *(1 << k for k in range(10)), *(1023 ^ 1 << k for k in range(10)), 619}
)
"""Those that are tried where more exponents have wrong ones."""

CONTROLS = 120
"""Halves that must come out as the class says."""

SHORTEST, TRIED = 8, 200
"""Failed calls whose scales are tried one by one, and how many of them."""

NAMED = 4
"""Halves whose values are named where they have no rule."""

FINITE = every_value.INFINITE


@dataclass(frozen=True)
class Class:
    """Halves that are read as others.

    Attributes
    ----------
    words
        Which ones, behind "scales".
    first
        The first of them, by its bits.
    effect
        What they are taken for, behind that.
    table
        What every half is taken for: float64 [65536].
    held
        Which halves are read otherwise: bool [65536].
    """

    words: str
    first: int
    effect: str
    table: Array
    held: Array

    def widen(self, h: Array) -> Array:
        """Read halves so: a step of a model."""
        return np.asarray(self.table[np.asarray(h, np.float16).view(np.uint16)])


def halves(bench: Bench, failed: Sequence[CallResult]) -> Iterator[Measured]:
    """Find halves of x or of y that are not taken for what they are."""
    found = {side: one for side in "xy" if (one := _class_of(bench, side, failed))}
    alike = len(found) == 2 and _alike(found["x"], found["y"])
    for side, one in list(found.items())[: 1 if alike else None]:
        operand = "xy" if alike else side
        few = np.flatnonzero(one.held)
        value, right = one.table[one.first], float(values_of(np.array([one.first]))[0])
        x, y = (scaled(bench, right if s == side else 1.0) for s in "xy")
        owner = "" if alike else f" of {side}"
        sentence = f"Scales{owner} {one.words} {one.effect}."
        if few.size == 1:
            sentence = f"The scale 0x{one.first:04x}{owner} is read as {float(value)!r}, not {right!r}."
        yield bench.measured(
            "half-read",
            {
                "operand": operand,
                "halves": f"{one.words}".strip(),
                "count": int(few.size),
                "values": {f"0x{h:04x}": float(one.table[h]) for h in few[:NAMED].tolist()},
            },
            sentence,
            cause="half-table-entry" if few.tolist() == [0x2E66] else "",
            like="half-table-entry",
            evidence=[bench.shown(x, y, f"1 · 1 under {side}'s scale 0x{one.first:04x}")],
            changes={f"widen_{s}": one.widen for s in operand},
        )


def _alike(one: Class, other: Class) -> bool:
    return np.array_equal(one.held, other.held) and np.array_equal(one.table, other.table, equal_nan=True)


def _class_of(bench: Bench, side: str, failed: Sequence[CallResult]) -> Class | None:
    """Return the class of the halves of one row that are wrong; None where there are none, or no class."""
    every_exponent = range(every_value.BINADES)
    tried = {h for e in every_exponent for m in FIRST for h in _both(e << 10 | m)}
    tried |= set(_scales_of(failed, side).tolist())
    some = np.array(sorted(tried - {0, 0x8000}))
    misread = some[measured_halves(bench, side, some) != values_of(some)]
    # (Errors of halves of both signs may cancel each other in a row of all of an exponent.)
    rows = (e for e in every_exponent if not _is_right(bench, side, e))
    wrong = {*rows, *((misread & 0x7FFF) >> 10).tolist()}
    more = range(1024) if len(wrong) <= FEW else SOME
    tried |= {h for e in wrong for m in more for h in _both(e << 10 | m)}
    bits = np.array(sorted(tried - {0, 0x8000}))
    values = measured_halves(bench, side, bits)
    is_wrong = values != values_of(bits)
    if not is_wrong.any():
        return None
    every = np.arange(1 << 16)
    every_finite = (every & 0x7FFF) < FINITE
    for words, holds in _conditions(bits[is_wrong]):
        held = holds(every) & every_finite & ((every & 0x7FFF) > 0)
        if np.array_equal(held[bits], is_wrong):
            one = _with_effect(words, bits[is_wrong], values[is_wrong], held)
            if one is not None and _confirmed(bench, side, one):
                return one
    return None


def _both(bits: int) -> tuple[int, int]:
    return bits, bits | 0x8000


def _is_right(bench: Bench, side: str, binade: int) -> bool:
    """Return whether the row of all halves of an exponent is right."""
    x, y = every_value.halves_of_binade(binade)["xy".index(side)]
    return bench.value(x, y) == exact_sum(x, y)


def _confirmed(bench: Bench, side: str, one: Class) -> bool:
    """Return whether halves at random, of the class and others, come out as it says."""
    rng = dot_rows.generator("halves")
    of_class = np.flatnonzero(one.held)
    others = np.concatenate([np.arange(1, FINITE), np.arange(0x8001, 0x8000 + FINITE)])
    for chosen in (others, of_class):
        bits = rng.choice(chosen, min(CONTROLS, chosen.size), replace=False)
        if not np.array_equal(measured_halves(bench, side, bits), one.table[bits]):
            return False
    return True


def _scales_of(failed: Sequence[CallResult], side: str) -> Array:
    """Return the bits of scales of x, or of y, in the shortest failed calls: finite, and not zero."""
    scales = []
    for one in sorted(failed, key=lambda f: f.call.n)[:SHORTEST]:
        dtype = layout.BLOCK_Q8_A8 if one.call.function == calls.DOT else layout.BLOCK_Q8_A8_V2
        data = calls.inputs_of(one.call)[f"v{side}"]
        field = "activation_scale" if side == "y" and dtype is layout.BLOCK_Q8_A8_V2 else "weight_scale"
        scales.append(layout.as_blocks(data[: one.call.n // 32 * dtype.itemsize], dtype)[field])
    every = np.unique(np.concatenate(scales).view(np.uint16)).astype(np.int64)
    return every[((every & 0x7FFF) > 0) & ((every & 0x7FFF) < FINITE)][:TRIED]


Holds = Any  # (bits [n]) -> bool [n]


def _conditions(wrong: Array) -> Iterator[tuple[str, Holds]]:
    """Yield conditions that hold for wrong halves, the simplest first: words behind "scales", a function."""
    sign, exponents, mantissas = wrong >> 15, (wrong & 0x7FFF) >> 10, wrong & 1023
    signs: list[tuple[str, Holds]] = [("", lambda _b: True)]
    if (sign == sign[0]).all():
        signs.append(
            ("that are negative" if sign[0] else "that are positive", lambda b, of=sign[0]: b >> 15 == of)
        )
    low, high = int(exponents.min()), int(exponents.max())
    spans: list[tuple[str, Holds]] = [("", lambda _b: True)]
    spans.append(
        (_span_words(low, high), lambda b: ((b & 0x7FFF) >> 10 >= low) & ((b & 0x7FFF) >> 10 <= high))
    )
    for (mantissa, of_m), (span, of_e), (of_sign, of_s) in itertools.product(
        _mantissas(mantissas), spans, signs
    ):
        words = " ".join(filter(None, (span, of_sign, mantissa)))
        yield words, partial(_all_of, of=(of_m, of_e, of_s))


def _all_of(bits: Array, of: Sequence[Holds]) -> Array:
    return np.asarray(np.ones(len(bits), np.bool_) & of[0](bits) & of[1](bits) & of[2](bits))


def _span_words(low: int, high: int) -> str:
    if high == 0:
        return "that are subnormal"
    last = every_value.BINADES - 1
    if (low, high) == (1, last):
        return "that are normal"
    below = f"below 2^{high - 14}" if high < last else ""
    return " ".join(filter(None, (f"from 2^{low - 15} on" if low else "", below)))


def _mantissas(wrong: Array) -> Iterator[tuple[str, Holds]]:
    """Yield conditions on mantissas."""
    low, high = int(wrong.min()), int(wrong.max())
    yield "", lambda _b: True
    if low == high:
        yield f"whose mantissa is {low:#x}", lambda b: b & 1023 == low
        return
    for k in range(10):
        yield f"in whose mantissa bit {k} is set", lambda b, k=k: b >> k & 1 == 1
        yield f"in whose mantissa bit {k} is not set", lambda b, k=k: b >> k & 1 == 0
    yield "whose mantissa is not 0", lambda b: b & 1023 > 0
    yield f"whose mantissa is {high:#x} at most", lambda b: b & 1023 <= high
    yield f"whose mantissa is {low:#x} or more", lambda b: b & 1023 >= low
    yield f"whose mantissa is {low:#x} to {high:#x}", lambda b: (b & 1023 >= low) & (b & 1023 <= high)
    bits = int(np.bitwise_and.reduce(wrong))
    yield f"in whose mantissa the bits {bits:#x} are all set", lambda b: b & bits == bits
    bits = 1023 & ~int(np.bitwise_or.reduce(wrong))
    yield f"in whose mantissa none of the bits {bits:#x} is set", lambda b: b & bits == 0
    some = np.unique(wrong)
    if some.size <= NAMED:
        names = f"{', '.join(f'{m:#x}' for m in some[:-1].tolist())} or {some[-1]:#x}"
        yield f"whose mantissa is {names}", lambda b: np.isin(b & 1023, some)


def _with_effect(words: str, bits: Array, values: Array, held: Array) -> Class | None:
    """Return a class with what its halves are taken for: by a rule, or as all of them were measured."""
    table = values_of(np.arange(1 << 16))
    members = np.flatnonzero(held)
    one = Class(words, int(bits[0]), "", table, held)
    right = values_of(bits)
    for reading in readings_of(right, values):
        if np.array_equal(reading.of(right), values):
            table[members] = reading.of(table[members])
            return replace(one, effect=reading.words)
    for effect, of in _other_halves():
        taken = of(bits)
        if ((taken & 0x7FFF) <= FINITE).all() and np.array_equal(values_of(taken), values):
            table[members] = values_of(of(members))
            return replace(one, effect=f"are read as {effect}")
    if members.size > bits.size:
        return None
    table[bits] = values
    named = ", ".join(
        f"0x{h:04x} as {float(v)!r}" for h, v in zip(bits[:NAMED].tolist(), values, strict=False)
    )
    return replace(one, effect=f"are read as other numbers: {'for example ' * (bits.size > NAMED)}{named}")


def _other_halves() -> Iterator[tuple[str, Callable[[Array], Array]]]:
    """Yield halves that another one may be taken for: words, and its bits by those of the other."""
    yield "the half above", partial(np.add, 1)
    yield "the half below", partial(np.add, -1)
    for k in range(16):
        yield f"if bit {k} were set", partial(np.bitwise_or, 1 << k)
        yield f"if bit {k} were not set", partial(np.bitwise_and, ~(1 << k))
        yield f"if bit {k} were the other one", partial(np.bitwise_xor, 1 << k)
    yield "if the mantissa were 0", partial(np.bitwise_and, 0xFC00)
