"""How scales are read: for each sign and exponent of a half, what the function takes it for.

A block of one product of 1 has its scale as the result, exactly. A few mantissas of each sign and exponent
show what becomes of all of them: as it is, cut or rounded to fewer bits, another power of two, zero, another
sign, one constant. Other halves must then come out so, or nothing is said.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from q8a8_conformance.diagnosis.experiments.candidates import Candidate
from q8a8_conformance.inputs import dot_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from q8a8_conformance.diagnosis.experiments.bench import Bench

Array = NDArray[Any]

MANTISSAS = (0x000, 0x001, 0x07F, 0x0F3, 0x155, 0x201, 0x2AA, 0x3FF)
"""Of each sign and exponent."""

EXPONENTS = 31
"""Of finite halves; 0 is that of subnormal ones."""

CONTROLS = 60
"""Other halves that must come out as the rule says."""

BITS = range(1, 11)
"""Significant bits that may be left."""

POWERS = range(-30, 31)


@dataclass(frozen=True)
class Reading:
    """What halves of one sign and exponent are taken for.

    Attributes
    ----------
    kind
        "right", "zero", "magnitude", "negated", "cut" or "rounded" (to so many bits), "scaled" (by a power of
        two), "constant".
    value
        Its number.
    """

    kind: str
    value: float = 0

    def of(self, h: Array) -> Array:
        """Return what values are taken for."""
        if self.kind in ("cut", "rounded"):
            fractions, exponents = np.frexp(h)
            bits = int(self.value)
            digits = np.ldexp(fractions, bits)
            kept = np.trunc(digits) if self.kind == "cut" else np.rint(digits)
            return np.asarray(np.ldexp(kept, exponents - bits))
        taken: dict[str, Array] = {
            "right": h, "zero": 0 * h, "magnitude": np.abs(h), "negated": -h,
            "scaled": h * 2.0**self.value, "constant": np.full_like(h, self.value),
        }  # fmt: skip
        return taken[self.kind]

    @property
    def words(self) -> str:
        """What it does."""
        return {
            "zero": "are read as 0",
            "magnitude": "are read without their sign",
            "negated": "are read with the other sign",
            "cut": f"are cut to {self.value:g} bits",
            "rounded": f"are rounded to {self.value:g} bits",
            "scaled": f"are read as 2^{self.value:g} times as large",
            "constant": f"are read as {self.value:g}",
        }.get(self.kind, "are read right")


def _tried(value: float) -> Iterator[Reading]:
    yield from (Reading(kind) for kind in ("right", "zero", "magnitude", "negated"))
    yield from (Reading(kind, bits) for bits in reversed(BITS) for kind in ("cut", "rounded"))
    yield from (Reading("scaled", power) for power in POWERS)
    yield Reading("constant", value)


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
    classes = {
        (sign, exponent): np.array([sign << 15 | exponent << 10 | m for m in MANTISSAS], np.uint16)
        for sign in (0, 1)
        for exponent in range(EXPONENTS)
    }
    found: dict[tuple[int, int], Reading] = {}
    for key, bits in classes.items():
        values = _measured(bench, side, bits)
        fits = (one for one in _tried(float(values[-1])) if np.array_equal(one.of(_values(bits)), values))
        reading = next(fits, None)
        if reading is None:
            return None
        found[key] = reading
    if all(reading.kind == "right" for reading in found.values()):
        return None
    table = np.arange(1 << 16).astype(np.uint16).view(np.float16).astype(np.float64)
    for (sign, exponent), reading in found.items():
        place = slice(sign << 15 | exponent << 10, sign << 15 | (exponent + 1) << 10)
        table[place] = reading.of(table[place])
    others = dot_rows.generator("readings").choice(np.concatenate(list(_finite())), CONTROLS)
    if not np.array_equal(_measured(bench, side, others), table[others]):
        return None
    spans = list(_spans(found))
    sentence = "; ".join(f"{side}'s {words}" for words in dict.fromkeys(text for text, _ in spans)) + "."
    return Candidate(
        "scale-read",
        {"operand": side, "as": [where for _, where in spans]},
        "Q8A8-HLF-3",
        sentence[0].upper() + sentence[1:],
        "Widen the half to float32, which holds every half exactly.",
        "",
        {f"widen_{side}": lambda h: table[np.asarray(h, np.float16).view(np.uint16)]},
    )


def _finite() -> Iterator[Array]:
    for sign in (0, 1):
        yield np.arange(sign << 15, (sign << 15) + 0x7C00).astype(np.uint16)


def _values(bits: Array) -> Array:
    return bits.view(np.float16).astype(np.float64)


def _measured(bench: Bench, side: str, bits: Array) -> Array:
    """Return what halves are taken for, by a product of 1 under a scale of 1."""
    one, read = bench.one(), []
    for h in bits.view(np.float16):
        scaled = one.copy()
        scaled["weight_scale"][bench.place] = h
        read.append(bench.value(*((scaled, one) if side == "x" else (one, scaled))))
    return np.array(read)


def _spans(found: dict[tuple[int, int], Reading]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield in words, and as data, what is read wrongly: signs and exponents that are neighbours together."""
    both = all(found[0, e] == found[1, e] for e in range(EXPONENTS))
    for sign in (0,) if both else (0, 1):
        name = "" if both else ("positive " if sign == 0 else "negative ")
        readings = [found[sign, e] for e in range(EXPONENTS)]
        for reading, group in groupby(range(EXPONENTS), readings.__getitem__):
            span = list(group)
            if reading.kind == "right":
                continue
            low = f"from 2^{span[0] - 15} on" if span[0] else ""
            high = f"below 2^{span[-1] - 14}" if span[-1] < EXPONENTS - 1 else ""
            words = " ".join(filter(None, (f"{name}scales", low, high, reading.words)))
            yield (
                words,
                {
                    "sign": None if both else "-+"[sign == 0],
                    "exponents": [span[0] - 15 if span[0] else -24, span[-1] - 15],
                    "read": reading.kind,
                    "value": reading.value,
                },
            )
