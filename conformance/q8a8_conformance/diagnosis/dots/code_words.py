"""What codes are taken for, in words: which codes, by a condition that has a name, and as which numbers."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.reveal.grids import significant
from q8a8_conformance.reveal.quantizers.words import ranges

if TYPE_CHECKING:
    from collections.abc import Iterator

    from q8a8_conformance.inputs.arrays import Array

CODES = np.arange(-128, 128)

UNSIGNED = "codes are read as unsigned"

FEW = 3
"""Codes that are named one by one at most."""


def taken_words(taken: Array) -> str:
    """Say what codes [256], from -128 on, are taken for; nothing where they are right."""
    wrong = taken != CODES
    if not wrong.any():
        return ""
    if wrong.sum() == 1 or (wrong.sum() <= FEW and len(set(taken[wrong])) > 1):
        return " and ".join(f"code {c} is taken for {taken[c + 128]:g}" for c in CODES[wrong])
    for as_words, of in _effects(taken, wrong):
        for words, some in (*_sets(), *_limits(wrong)):
            if (some | ~wrong).all() and np.array_equal(np.where(some, of, CODES), taken):
                return f"{words} are {as_words}"
    first = int(CODES[wrong][0])
    more = f", and {int(wrong.sum()) - 1} more codes for others" if wrong.sum() > 1 else ""
    return f"code {first} is taken for {taken[first + 128]:g}{more}"


def _effects(taken: Array, wrong: Array) -> Iterator[tuple[str, Array]]:
    """Yield what codes may be taken for, with a verb's participle."""
    given = taken[wrong]
    yield "read as unsigned", CODES % 256
    yield "read without their sign", np.abs(CODES)
    yield "read with the other sign", -CODES
    if (given == given[0]).all():
        yield f"read as {given[0]:g}", np.full(256, given[0])
    by = given - CODES[wrong]
    if (by == by[0]).all():
        number = {1: "one", -1: "one"}.get(int(by[0]), f"{abs(by[0]):g}")
        yield f"read as {number} {'more' if by[0] > 0 else 'less'}", CODES + by[0]
    yield "read as their one's complement", ~CODES
    yield "read as sign and magnitude", np.where(CODES < 0, -(CODES & 127), CODES)
    yield "read with their sign bit lost", CODES & 127
    yield "read as bytes less 128", CODES % 256 - 128
    yield "read with their halves exchanged", ((CODES >> 4 & 15) | CODES << 4).astype(np.int8).astype(int)
    for bits in range(1, 8):
        low = (1 << bits) - 1
        yield f"read without their low {_bits(bits)}", CODES & ~low
        yield f"cut off to multiples of {low + 1}", np.trunc(CODES / (low + 1)) * (low + 1)
        yield f"rounded to multiples of {low + 1}", np.rint(CODES / (low + 1)) * (low + 1)
        yield f"rounded up to multiples of {low + 1}", np.ceil(CODES / (low + 1)) * (low + 1)
        yield f"read as their low {_bits(bits)}", CODES & low
        yield f"read as their low {bits} bits, signed", (CODES & low) - ((CODES & (low + 1) // 2) << 1)
        yield f"read with bit {bits - 1} set", CODES | (low + 1) // 2
        yield f"read with bit {bits - 1} lost", CODES & ~((low + 1) // 2)
        yield f"shifted right by {bits}", CODES >> bits
    for times in (0.5, 2, 3, 4, 1.5):
        yield f"read as {times:g} times as large", CODES * times
    for bits in range(3, 8):
        yield f"rounded to {bits} significant bits", significant(CODES, bits, np.rint)


def _bits(count: int) -> str:
    return "bit" if count == 1 else f"{count} bits"


@cache
def _sets() -> tuple[tuple[str, Array], ...]:
    """Return sets of codes with their words, the plainest first."""
    odd = CODES % 2 == 1
    found = [("codes", CODES > -256)]
    found += [("negative codes", CODES < 0), ("positive codes", CODES > 0), ("odd codes", odd)]
    found += [("even codes", ~odd), ("negative odd codes", odd & (CODES < 0))]
    found += [("positive odd codes", odd & (CODES > 0)), ("negative even codes", ~odd & (CODES < 0))]
    for bits in range(2, 8):
        unit = 1 << bits
        rest = CODES % unit != 0
        for words, some, signs in (
            (f"codes that are no multiple of {unit}", rest, 3),
            (f"multiples of {unit}", ~rest, 2),
            (f"codes whose bit {bits - 1} is set", CODES & unit // 2 != 0, 3),
            (f"codes whose bit {bits - 1} is not set", CODES & unit // 2 == 0, 2),
        ):
            negative, positive = (f"{sign} {words}" for sign in ("negative", "positive"))
            both = (words, some), (negative, some & (CODES < 0)), (positive, some & (CODES > 0))
            found += both[:signs]
    return tuple(found)


def _limits(wrong: Array) -> Iterator[tuple[str, Array]]:
    """Yield sets that begin or end with wrong codes, and the list of these."""
    some = CODES[wrong]
    low, high = int(some[0]), int(some[-1])
    least, most = int(np.abs(some).min()), int(np.abs(some).max())
    if some.size <= FEW:
        yield f"codes {' and '.join(map(str, some))}", wrong
    yield f"codes from {low} on", low <= CODES
    yield f"codes up to {high}", high >= CODES
    yield f"codes of magnitude {least} and more", np.abs(CODES) >= least
    yield f"codes of magnitude {most} and less", np.abs(CODES) <= most
    yield f"codes from {low} to {high}", (low <= CODES) & (high >= CODES)
    yield f"codes {ranges(some.tolist())}", wrong
