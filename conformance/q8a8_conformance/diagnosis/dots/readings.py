"""How scales, their product, and a block's sum are taken: for zeros, and for each sign and exponent.

A block of one product of 1 has its scale as the result, exactly, and one under a scale of 1 its sum. A few
mantissas of each sign and exponent show what becomes of all of them: as it is, cut or rounded to fewer bits,
another power of two, zero, another sign, one constant. Others must then come out so, or nothing is said.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.diagnosis.dots.candidates import Candidate
from q8a8_conformance.inputs import dot_rows
from q8a8_conformance.reveal.grids import significant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from q8a8_conformance.diagnosis.dots.bench import Bench
    from q8a8_conformance.inputs.arrays import Array

MANTISSAS = (0x000, 0x001, 0x07F, 0x0F3, 0x155, 0x201, 0x2AA, 0x3FF)
"""Of each sign and exponent."""

EXPONENTS = range(-16, 16)
"""Of finite halves; the first one is that of zeros, the second one that of subnormal ones."""

OF_PRODUCTS = range(-37, 30)
"""Exponents of products of two scales, of which one is a power of two; the first one is that of zeros."""

OF_SUMS = range(-1, 19)
"""Those of the sum of a block."""

FEW = (0x000, 0x155, 0x3FF)
"""Mantissas of these."""

CONTROLS = 60
"""Other halves that must come out as the rule says."""

BITS = range(1, 11)
"""Significant bits that may be left."""

POWERS = (*range(-30, 31), -112, 112)
UNITS = range(-30, 12)

SIGNS, SUM_SIGNS = (
    ((((0, 1), "", noun),), (((0,), "+", f"positive {noun}"), ((1,), "-", f"negative {noun}")))
    for noun in ("scales", "sums of a block")
)
"""Ways to take signs together, the coarsest first: signs, a name for programs, and one for people."""

OF_EXPONENT = ((8, 0), (8, 1), (11, 0), (13, 1), (16, -1))
"""Sums of an exponent: eighths of its power of two, and what is added."""

MOST = 32 * 127 * 127

PRODUCT_SIGNS = (
    (((0, 1, 2, 3), "", "products of two scales"),),
    (((0, 3), "+", "positive products of two scales"), ((1, 2), "-", "negative products of two scales")),
    (
        ((0,), "++", "products of two positive scales"),
        ((1,), "-+", "products of a negative scale of x and a positive one of y"),
        ((2,), "+-", "products of a positive scale of x and a negative one of y"),
        ((3,), "--", "products of two negative scales"),
    ),
)
"""The same of two scales: 1 is the sign of x's, 2 that of y's."""


@dataclass(frozen=True)
class Reading:
    """What halves of one sign and exponent are taken for.

    Attributes
    ----------
    kind
        "right", "zero", "magnitude", "negated", "cut" or "rounded" (to so many bits), "cut to" or
        "rounded to" (multiples of a power of two), "scaled" (by a power of two), "constant", "least" (0 below
        it).
    value
        Its number.
    """

    kind: str
    value: float = 0

    def of(self, h: Array) -> Array:
        """Return what values are taken for."""
        way = np.trunc if self.kind.startswith("cut") else np.rint
        taken: dict[str, Callable[[], Array]] = {
            "right": lambda: h,
            "zero": lambda: 0 * h,
            "magnitude": lambda: np.abs(h),
            "negated": lambda: -h,
            "cut": lambda: significant(h, int(self.value), way),
            "rounded": lambda: significant(h, int(self.value), way),
            "cut to": lambda: way(h / 2.0**self.value) * 2.0**self.value,
            "rounded to": lambda: way(h / 2.0**self.value) * 2.0**self.value,
            "scaled": lambda: h * 2.0**self.value,
            "constant": lambda: np.full_like(h, self.value),
            "least": lambda: np.where(np.abs(h) < self.value, 0, h),
        }
        return taken[self.kind]()

    @property
    def words(self) -> str:
        """What it does."""
        if self.kind == "scaled" and abs(self.value) == 1:
            return f"are read as {'twice' if self.value > 0 else 'half'} as large"
        return {
            "zero": "are read as 0",
            "magnitude": "are read without their sign",
            "negated": "are read with the other sign",
            "cut": f"are cut to {self.value:g} bits",
            "rounded": f"are rounded to {self.value:g} bits",
            "cut to": f"are cut to a multiple of 2^{self.value:g}",
            "rounded to": f"are rounded to a multiple of 2^{self.value:g}",
            "scaled": f"are read as 2^{self.value:g} times as large",
            "constant": f"are read as {self.value:g}",
            "least": f"are read as 0 below {self.value:.3g}",
        }.get(self.kind, "are read right")


def readings_of(right: Array, values: Array) -> Iterator[Reading]:
    """Yield what halves may be taken for, of which some are taken for some values."""
    yield from (Reading(kind) for kind in ("right", "zero", "magnitude", "negated"))
    yield from (Reading(kind, bits) for bits in reversed(BITS) for kind in ("cut", "rounded"))
    yield from (Reading("scaled", power) for power in POWERS)
    yield from (Reading(kind, power) for power in UNITS for kind in ("cut to", "rounded to"))
    yield Reading("constant", float(values[-1]))
    yield Reading("least", float(np.abs(right[values != 0]).min(initial=np.inf)))


def readings(bench: Bench) -> list[Candidate]:
    """Find how the scales of x and of y are read; none where they are read right, or in no such way."""
    found = [one for side in "xy" if (one := _of_side(bench, side))]
    if len(found) == 2 and found[0].where["as"] == found[1].where["as"]:
        one, other = found
        sentence = one.sentence.replace("X's ", "").replace("; x's ", "; ")
        where = {**one.where, "operand": "both"}
        changes = {**one.changes, **other.changes}
        return [replace(one, where=where, sentence=sentence[0].upper() + sentence[1:], changes=changes)]
    return found


def _of_side(bench: Bench, side: str) -> Candidate | None:
    """Find how the scales of one row are read."""
    found = _by_exponent(
        EXPONENTS,
        lambda sign, exponent: [sign << 15 | bits for bits in _halves(exponent)],
        lambda bits: (values_of(bits), measured_halves(bench, side, bits)),
    )
    if found is None:
        return None
    table = np.arange(1 << 16).astype(np.uint16).view(np.float16).astype(np.float64)
    for (sign, exponent), reading in found.items():
        first, end = max((exponent + 15) << 10, 0), (exponent + 16) << 10
        place = slice(sign << 15 | first + (exponent == -15), sign << 15 | max(end, 1))
        table[place] = reading.of(table[place])
    others = dot_rows.generator("readings").choice(np.concatenate(list(_finite())), CONTROLS)
    if not np.array_equal(measured_halves(bench, side, others), table[others]):
        return None
    spans = list(_spans(found, SIGNS))
    sentence = "; ".join(f"{side}'s {words}" for words in dict.fromkeys(text for text, _ in spans)) + "."
    of_zero = all(where["exponents"] == [EXPONENTS[0]] * 2 for _, where in spans)
    return Candidate(
        "scale-read",
        {"operand": side, "as": [where for _, where in spans]},
        "Q8A8-DOT-8" if of_zero else "Q8A8-HLF-3",
        sentence[0].upper() + sentence[1:],
        "Multiply by the scale, whatever it is: a zero is a scale like any other."
        if of_zero
        else "Widen the half to float32, which holds every half exactly.",
        "",
        {f"widen_{side}": lambda h: table[np.asarray(h, np.float16).view(np.uint16)]},
    )


def _halves(exponent: int) -> list[int]:
    """Return bits of some positive halves of an exponent."""
    if exponent == EXPONENTS[0]:
        return [0]
    return [(exponent + 15) << 10 | m for m in MANTISSAS if m or exponent > -15]


def sum_reading(block: Callable[[Array, Array], float]) -> Candidate | None:
    """Find what a block's sum is taken for; None where that is right, or in no such way.

    `block` returns the result of a block of codes of x and y, under scales of 1.
    """

    def chosen(sign: int, exponent: int) -> list[int]:
        sums = [0] if exponent < 0 else [(1 << exponent) * k // 8 + more for k, more in OF_EXPONENT]
        return [(-1) ** sign * min(total, MOST) for total in sums]

    def measured(sums: list[int]) -> tuple[Array, Array]:
        return np.array(sums, np.float64), np.array([block(*codes_of_sum(total)) for total in sums])

    found = _by_exponent(OF_SUMS, chosen, measured)
    if found is None:
        return None

    taken = _reader(found, OF_SUMS, signs=2)

    def block_sum(of: Array) -> Array:
        sums = np.asarray(of.sum(axis=-1), np.float64)
        exponents = np.where(sums == 0, -1, np.minimum(np.frexp(sums)[1] - 1, OF_SUMS[-1]))
        return taken(sums, (sums < 0).astype(int), exponents)

    spans = list(_spans(found, SUM_SIGNS))
    words = "; ".join(dict.fromkeys(text for text, _ in spans)).replace("are read", "are taken")
    return Candidate(
        "block-sum",
        {"as": [where for _, where in spans]},
        "Q8A8-DOT-1",
        f"{words[0].upper()}{words[1:]}.",
        "Take each block's sum as the integer that it is, and convert it to float32.",
        "",
        {"block_sum": block_sum},
    )


def _reader(
    found: Mapping[tuple[int, int], Reading], exponents: range, *, signs: int
) -> Callable[[Array, Array, Array], Array]:
    """Return what takes values, with their signs and exponents, for what readings of these say."""
    readings = list(dict.fromkeys(found.values()))
    table = np.array([[readings.index(found[sign, e]) for e in exponents] for sign in range(signs)])

    def taken(of: Array, sign: Array, exponent: Array) -> Array:
        numbers = table[sign, exponent - exponents[0]]
        read = np.array(of, np.float64)
        for number in np.unique(numbers).tolist():
            here = numbers == number
            read[here] = readings[number].of(read[here])
        return read

    return taken


def codes_of_sum(total: int) -> tuple[Array, Array]:
    """Return codes whose products add up to a number: 127 · 127 as often as it goes, and a rest."""
    x, y = np.zeros(32, np.int64), np.zeros(32, np.int64)
    rest = abs(total)
    for place in range(32):
        x[place] = min(127, rest)
        y[place] = min(127, rest // max(x[place], 1))
        rest -= int(x[place] * y[place])
    if not total:
        x[:2], y[:2] = 1, (1, -1)
    return (x if total > 0 else -x), y


def product_reading(bench: Bench) -> Candidate | None:
    """Find what products of two scales are taken for; None where they are right, or in no such way."""

    def pairs(sign: int, exponent: int) -> list[tuple[float, float]]:
        power = max(exponent // 2, -14)
        halves = (1 + m / 1024 for m in FEW)
        x, y = (-1) ** (sign & 1), (-1) ** (sign >> 1)
        if exponent == OF_PRODUCTS[0]:
            return [(0.0 * x, 1.0 * y), (1.0 * x, 0.0 * y)]
        return [(x * m * 2.0**power, y * 2.0 ** (exponent - power)) for m in halves]

    def measured(given: list[tuple[float, float]]) -> tuple[Array, Array]:
        values = [bench.value(*(scaled(bench, d) for d in pair)) for pair in given]
        return np.array([dx * dy for dx, dy in given]), np.array(values)

    found = _by_exponent(OF_PRODUCTS, pairs, measured, signs=4)
    if found is None:
        return None
    ends = OF_PRODUCTS[0], OF_PRODUCTS[-1]
    taken = _reader(found, OF_PRODUCTS, signs=4)

    def scale_product(dx: Array, dy: Array) -> Array:
        of = np.asarray((dx * dy).astype(np.float32), np.float64)
        exponents = np.where(of == 0, ends[0], np.clip(np.frexp(of)[1] - 1, ends[0] + 1, ends[1]))
        return taken(of, 1 * np.signbit(dx) + 2 * np.signbit(dy), exponents)

    spans = list(_spans(found, PRODUCT_SIGNS))
    words = "; ".join(dict.fromkeys(text for text, _ in spans))
    return Candidate(
        "scale-product",
        {"as": [where for _, where in spans]},
        "Q8A8-DOT-2",
        f"{words[0].upper()}{words[1:]}.",
        "Multiply x's scale by y's, in float32.",
        "",
        {"scale_product": scale_product},
    )


def _by_exponent(
    exponents: range,
    chosen: Any,  # noqa: ANN401 - a function
    measured: Any,  # noqa: ANN401 - a function
    signs: int = 2,
) -> dict[tuple[int, int], Reading] | None:
    """Return what values of each sign and exponent are taken for; None where all are right, or unknown.

    Where several readings fit, the one that fits most of the exponents is taken.
    """
    fitting: dict[tuple[int, int], list[Reading]] = {}
    for key in itertools.product(range(signs), exponents):
        right, values = measured(chosen(*key))
        every = readings_of(right, values)
        # (All are right, as a rule: no other reading is asked for then.)
        first = next((one for one in every if np.array_equal(one.of(right), values)), None)
        others = every if first and first.kind != "right" else ()
        fitting[key] = [first] if first else []
        fitting[key] += [one for one in others if np.array_equal(one.of(right), values)]
        if not fitting[key]:
            return None
    wrong = [readings for readings in fitting.values() if readings[0].kind != "right"]
    often = Counter(reading for readings in wrong for reading in readings)
    found = {
        key: readings[0] if readings[0].kind == "right" else max(readings, key=lambda one: often[one])
        for key, readings in fitting.items()
    }
    return found if wrong else None


def _finite() -> Iterator[Array]:
    for sign in (0, 1):
        yield np.arange(sign << 15, (sign << 15) + 0x7C00).astype(np.uint16)


def values_of(bits: Array) -> Array:
    """Return the values of halves, float64, by their bits."""
    return np.asarray(bits).astype(np.uint16).view(np.float16).astype(np.float64)


def measured_halves(bench: Bench, side: str, bits: Array) -> Array:
    """Return what halves are taken for, by a product of 1 under a scale of 1."""
    one, rows = bench.one(), [scaled(bench, float(h)) for h in values_of(bits)]
    return np.array([bench.value(*((row, one) if side == "x" else (one, row))) for row in rows])


def scaled(bench: Bench, scale: float) -> Array:
    """Return a row of one code under a scale."""
    row = bench.one()
    row["weight_scale"][bench.place] = scale
    return row


def _spans(
    found: dict[tuple[int, int], Reading], ways: Sequence[Sequence[tuple[tuple[int, ...], str, str]]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield in words, and as data, what is read wrongly: signs and exponents that are neighbours together."""
    exponents = sorted({exponent for _, exponent in found})
    together = next(
        way
        for way in ways
        if all(len({found[sign, e] for sign in signs}) == 1 for signs, *_ in way for e in exponents)
    )
    for signs, sign, name in together:
        for reading, group in groupby(exponents, lambda e, of=signs[0]: found[of, e]):  # type: ignore[misc]  # bound at once
            span = list(group)
            if reading.kind == "right":
                continue
            low = f"from 2^{span[0]} on" if span[0] > exponents[1] else ""
            high = f"below 2^{span[-1] + 1}" if span[-1] < exponents[-1] else ""
            low, high = ("of zero", "") if span == exponents[:1] else (low, high)
            words = " ".join(filter(None, (name, low, high, reading.words)))
            yield (
                words,
                {
                    "sign": sign or None,
                    "exponents": [-24 if span[0] == -15 and exponents == [*EXPONENTS] else span[0], span[-1]],
                    "read": reading.kind,
                    "value": reading.value,
                },
            )
