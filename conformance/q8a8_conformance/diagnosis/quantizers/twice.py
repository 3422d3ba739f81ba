"""Products that a quantizer rounds twice: to fixed point, or to a narrow float, and then to an integer.

What the first rounding brings to a half the second one carries on. Which of the many ways there are gives the
codes, some wrong elements and right ones near a half tell.
"""

from __future__ import annotations

import itertools
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from q8a8.recipe_steps import ROUNDINGS
from q8a8_conformance.diagnosis.quantizers.effect import Effect, Given, with_codes
from q8a8_conformance.diagnosis.quantizers.steps import STEP_FIXES
from q8a8_conformance.reveal.grids import away, significant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from q8a8_conformance.diagnosis.quantizers.cases import Case
    from q8a8_conformance.inputs.arrays import Array

    Change = Callable[[Array], Array]

F32, F64 = np.float32, np.float64
RULE = "Q8A8-QNT-4"

MOST = 400
"""Elements of either kind, wrong and right, on which the ways are tried."""

GIVEN, BEST, ALIKE = 0.5, 6, 3
"""The part of the wrong ones that a way gives; the ways that are compared with all calls, and those that are
alike."""

NEAR = 1 / 8
"""How near to a half a product lies that tells something where it is right."""


def _half(v: Array) -> Array:
    return np.asarray(v.astype(np.float16), F32)


def _bfloat16(v: Array) -> Array:
    return np.asarray(significant(v, 8, np.rint), F32)


def _inverse(amax: Array) -> Array:
    return np.asarray(F32(127) / amax)


PRODUCTS: tuple[tuple[str, Callable[[Array, Array], Array]], ...] = (
    ("The product x · inv", lambda x, amax: x * _inverse(amax)),
    ("The quotient x / d", lambda x, amax: x / (amax / F32(127))),
    ("The quotient x · 127 / amax", lambda x, amax: x * F32(127) / amax),
    ("The product x · (1 / d)", lambda x, amax: x * (F32(1) / (amax / F32(127)))),
    ("The quotient x / h", lambda x, amax: x / _half(amax / F32(127))),
    ("The product x · inv, in double,", lambda x, amax: x.astype(F64) * (127 / amax.astype(F64))),
    ("The product of x and inv as halves", lambda x, amax: _half(x) * _half(_inverse(amax))),
    ("The product of x and inv in bfloat16", lambda x, amax: _bfloat16(x) * _bfloat16(_inverse(amax))),
)
"""What is rounded, of elements and the amax of each; h is the stored half, d what it was made of."""

TO_INTEGERS: tuple[tuple[str, str, Change], ...] = (
    ("rounded", "nearest", np.rint),
    ("cut off", "cut", np.trunc),
    ("rounded down", "down", np.floor),
    ("rounded, halves away from zero,", "away", away),
)

SECOND: tuple[tuple[str, Change], ...] = (
    ("halves away from zero", ROUNDINGS["half-away"]),
    ("halves up", ROUNDINGS["half-up"]),
    ("halves to even", ROUNDINGS["half-even"]),
)
"""How an integer is made of that."""


def _firsts() -> Iterator[tuple[str, str, Change]]:
    """Yield the first roundings: their words, their names, and float64 numbers."""
    for bits, (how, name, change) in itertools.product(range(1, 17), TO_INTEGERS):
        text = f"{how} to a multiple of 1/{1 << bits}"
        yield text, f"fixed-{bits}-{name}", partial(_multiple, one=float(1 << bits), to=change)
    yield "rounded to a half", "half", _half
    for bits, (how, name, change) in itertools.product((8, *range(10, 24)), TO_INTEGERS[:2]):
        text = "bfloat16" if bits == 8 else f"{bits} significant bits"
        rounded = partial(significant, bits=bits, to=change)
        yield f"{how} to {text}", f"significant-{bits}-{name}", rounded


def _multiple(v: Array, one: float, to: Change) -> Array:
    return np.asarray(to(v * one) / one)


def twice_effects(made: Sequence[Case]) -> Iterator[Effect]:
    """Yield the ways that give most of what is wrong in some calls, the best ones first."""
    x, amax, got, is_wrong = _some(made)
    if not is_wrong.any():
        return
    found: list[tuple[int, Effect]] = []
    alike: Counter[bytes] = Counter()
    with np.errstate(all="ignore"):
        for noun, product in PRODUCTS:
            v = product(x, amax)
            for text, name, first in _firsts():
                rounded = np.asarray(first(v), F64)
                for end, second in SECOND:
                    # (What is no number may become any code.)
                    same = np.asarray((second(rounded) == got) | ~np.isfinite(rounded))
                    alike[same.tobytes()] += same[is_wrong].mean() >= GIVEN
                    if not 0 < alike[same.tobytes()] <= ALIKE:
                        continue
                    what = f"{noun} is {text} first, and then to an integer, {end}"
                    gives = partial(_twice, product=product, first=first, second=second)
                    where = {"of": noun, "first": name, "second": end}
                    effect = Effect("value-rounding", where, what, RULE, STEP_FIXES[RULE], gives)
                    found.append((-int(same.sum()), effect))
    yield from (effect for _, effect in sorted(found, key=lambda one: one[0])[:BEST])


def _some(made: Sequence[Case]) -> tuple[Array, Array, Array, Array]:
    """Return elements of blocks whose scales are right, their amax and their codes; and which are wrong."""
    parts = []
    for case in made:
        usable = ~case.wrong[:, 0] & (case.scales & 0x7FFF != 0)
        wrong = case.wrong[:, 1:] & usable[:, np.newaxis]
        with np.errstate(invalid="ignore"):  # (An inverse may be infinite.)
            near = np.abs(np.abs(case.scaled) % 1 - F32(0.5)) < NEAR
        for of in (wrong, near & ~wrong & usable[:, np.newaxis]):
            block, element = np.nonzero(of)
            codes = case.got[:, 2:].view(np.int8)
            parts.append((case.x[of], case.amax[block], codes[block, element], wrong[of]))
    x, amax, got, is_wrong = (np.concatenate(part) for part in zip(*parts, strict=True))
    rng = np.random.default_rng(5)
    some = np.concatenate(
        [rng.permutation(np.flatnonzero(is_wrong == kind))[:MOST] for kind in (True, False)]
    )
    return x[some], amax[some], got[some], is_wrong[some]


def _twice(case: Case, product: Callable[[Array, Array], Array], first: Change, second: Change) -> Given:
    with np.errstate(all="ignore"):
        v = product(case.x, case.amax[:, np.newaxis])
        q = np.where(case.scales[:, np.newaxis] == 0, 0, second(np.asarray(first(v), F64)))
    return with_codes(case, q)
