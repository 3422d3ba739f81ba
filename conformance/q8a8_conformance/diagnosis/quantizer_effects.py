"""What may happen to a quantizer's blocks, each as the bytes that a call gives where it happens everywhere.

written
    The codes, the scale, or both keep what was there, or become zeros.
shared
    A block is scaled by an amax in which other blocks have a part: running maxima, groups, neighbours, tails.
changed
    There is a least amax, or something is added to it (`changed_effects`: the number is measured).
chunks
    Parts of a vector have an amax each.
recipes
    Another way to compute: one step, or several that come together.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from q8a8.recipe import RECIPES, apply_recipe, scale_of
from q8a8.recipe_steps import HALVES, INVERSES, ROUNDINGS
from q8a8_conformance.diagnosis.quantizer_sharing import sharings
from q8a8_conformance.diagnosis.quantizer_steps import STEP_FIXES, STEP_RULES, named_step
from q8a8_conformance.reveal.quantizer_arithmetic import differences, named
from q8a8_conformance.reveal.quantizer_calls import blocks_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from q8a8.recipe import Recipe
    from q8a8_conformance.diagnosis.quantizer_cases import Case

Array = NDArray[Any]
Given = tuple[Array, Array]

F32, F64 = np.float32, np.float64
DESIGN = RECIPES["design"]

CHUNKS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)

LARGEST_CODE, MANY = 127, 3

OWN = "Take each block's amax over its own 32 elements."
WRITTEN = "Write the scale and the 32 codes of every block, zeros too."
VECTOR = "Take one amax over all elements of the vector, and store its scale."


@dataclass(frozen=True)
class Effect:
    """What may happen.

    Attributes
    ----------
    fact, data
        The kind of fact, and its parameters.
    what
        A sentence without its end, to which a condition may be added.
    rule, fix, cause
        As a fact has them.
    gives
        Returns the bytes of a call's blocks, uint8 [n, 2 + s], and which of them are known.
    is_limit
        Whether it is about small blocks alone, so that no values may be its condition.
    """

    fact: str
    data: dict[str, Any]
    what: str
    rule: str
    fix: str
    gives: Callable[[Case], Given]
    cause: str = ""
    is_limit: bool = False


def quantized(case: Case, amax: Array, recipe: Recipe = DESIGN, h: Array | None = None) -> Given:
    """Return the blocks of a call under other amax, float32 [n], and maybe other scales.

    Codes of elements that are greater than the amax are not known: they depend on the conversion.
    """
    own, q, inside = apply_recipe(case.x, recipe, amax)
    data = blocks_of(own if h is None else h, q).data
    known = np.ones(data.shape, np.bool_)
    known[:, 2:] = inside[:, np.newaxis] & (np.abs(case.x) <= amax[:, np.newaxis]) & (q >= -LARGEST_CODE)
    return data, known


def effects(*, is_row: bool) -> Iterator[Effect]:
    """Yield what needs no measurement, the simplest first."""
    yield from _written(is_row=is_row)
    yield from _shared() if is_row else _chunks()
    yield from _signs()
    yield from recipe_effects(recipes())
    yield from _forms()
    yield from _halves()


# What is written.


def _written(*, is_row: bool) -> Iterator[Effect]:
    whose = "A block's" if is_row else "The"
    for part, (codes, scale) in {
        "codes": (True, False), "scale": (False, True), "": (True, True),
    }.items():  # fmt: skip
        noun = f"{whose} {part}" if part else ("A block" if is_row else "The vector")
        verb = "are" if part == "codes" else "is"
        rule = "Q8A8-QNT-6"
        for how, text in (("unwritten", "not written"), ("zero", "zero")):
            gives = partial(_kept, codes=codes, scale=scale, zero=how == "zero")
            what = f"{noun} {verb} {text}"
            yield Effect(f"value-{how}", {"what": part or "block"}, what, rule, WRITTEN, gives)


def _kept(case: Case, *, codes: bool, scale: bool, zero: bool) -> Given:
    data = case.right.copy()
    other = np.zeros_like(data) if zero else case.before
    if codes:
        data[:, 2:] = other[:, 2:]
    if scale:
        data[:, :2] = other[:, :2]
    return data, np.ones(data.shape, np.bool_)


def _signs() -> Iterator[Effect]:
    """Yield codes that lose or change their sign."""
    fix = STEP_FIXES["Q8A8-QNT-5"]
    for name, text, change in (
        ("magnitude", "Codes are stored without their sign", np.abs),
        ("negated", "Codes are stored with the other sign", np.negative),
        ("lowest", "The code -127 is stored as -128", lambda q: np.where(q == -127, -128, q)),
        ("higher", "Codes are stored one greater", lambda q: q + 1),
        ("lower", "Codes are stored one smaller", lambda q: q - 1),
        ("even", "The lowest bit of codes is lost", lambda q: q & ~1),
    ):
        gives = partial(_changed_codes, change=change)
        yield Effect("value-codes", {"codes": name}, text, "Q8A8-QNT-5", fix, gives)


def _changed_codes(case: Case, change: Callable[[Array], Array]) -> Given:
    data = case.right.copy()
    data[:, 2:] = change(data[:, 2:].view(np.int8).astype(np.int16)).astype(np.int8).view(np.uint8)
    return data, np.ones(data.shape, np.bool_)


# Whose amax.


def _shared() -> Iterator[Effect]:
    """Yield ways in which the blocks of a row share an amax."""
    for name, data, text, of in sharings():
        gives = partial(_with_shared, of=of)
        where = {"blocks": name, **data}
        yield Effect("amax-of", where, f"A block is scaled by {text}", "Q8A8-QNT-7", OWN, gives)


def _with_shared(case: Case, of: Callable[[Array], Array]) -> Given:
    return quantized(case, np.asarray(of(case.amax), F32))


def _chunks() -> Iterator[Effect]:
    """Yield vectors of which parts have an amax each."""
    for t in CHUNKS:
        for name, index in (("last", -1), ("first", 0), ("largest", None)):
            text = f"Every {t} elements have an amax of their own, and the scale is that of the {name} part"
            gives = partial(_in_chunks, t=t, index=index)
            where = {"blocks": "chunk", "elements": t, "scale": name}
            yield Effect("amax-of", where, text, "Q8A8-QNT-9", VECTOR, gives)


def _in_chunks(case: Case, t: int, index: int | None) -> Given:
    x = case.x[0]
    parts = [x[np.newaxis, i : i + t] for i in range(0, x.size, t)] or [x[np.newaxis]]
    made = [apply_recipe(part, DESIGN) for part in parts]
    halves = np.concatenate([h for h, _, _ in made])
    scale = halves.max(keepdims=True) if index is None else halves[[index]]
    data = blocks_of(scale, np.concatenate([q for _, q, _ in made], axis=1)).data
    return data, np.ones(data.shape, np.bool_)


# Other numbers.


SMALL = (*(float(f"1e-{digits}") for digits in range(4, 13)), 2.0**-23, 2.0**-126)
"""Numbers that are often added to an amax, or are its least value, though no scale of zeros shows them."""


def changed_effects(low: float, high: float) -> Iterator[Effect]:
    """Yield a least amax, or what is added to it.

    Where d of a block of zeros lies between two numbers above 0, the number is among those.
    """
    numbers = [("amax", number) for number in plain_numbers(low * 127, high * 127)]
    numbers += [("d", number) for number in plain_numbers(low, high)]
    numbers = sorted(numbers, key=lambda one: len(f"{one[1]:g}")) or [
        (of, number) for number in SMALL for of in ("amax", "d")
    ]
    for (of, number), how, (scope, inverse) in itertools.product(
        numbers, ("least", "added"), (("both", "127/amax"), ("both", "1/d"), ("scale", "127/amax"))
    ):
        yield _changed(of, number, how, scope, inverse)


def _changed(of: str, number: float, how: str, scope: str, inverse: str) -> Effect:
    noun = "amax" if of == "amax" else "the scale"
    what = f"{noun} is never less than {number:.8g}"
    if how == "added":
        what = f"{number:.8g} is added to {noun}"
    where = ", in the scale that is stored alone" if scope == "scale" else ", in the scale and in the inverse"
    where += ", which is 1/d" if inverse == "1/d" else ""
    data = {"of": of, how: number, "in": scope, "inverse": inverse}
    fix = "Add nothing to amax and give it no least value: small blocks have small scales, zeros have 0."
    gives = partial(_of_changed, of=of, number=number, how=how, scope=scope, inverse=inverse)
    return Effect(
        "amax-changed", data, f"{what[0].upper()}{what[1:]}{where}", "Q8A8-QNT-6", fix, gives, is_limit=True
    )


def _of_changed(case: Case, of: str, number: float, how: str, scope: str, inverse: str) -> Given:
    def change(v: Array) -> Array:
        return np.asarray(np.maximum(v, F32(number)) if how == "least" else v + F32(number), F32)

    with np.errstate(all="ignore"):
        amax = change(case.amax) if of == "amax" else case.amax
        d = amax / F32(127) if of == "amax" else change(case.amax / F32(127))
        h = d.astype(np.float16)
        amax = case.amax if scope == "scale" else amax
        amax = d * F32(127) if of == "d" and scope == "both" else amax
        inv = np.where(h == 0, F32(0), F32(1) / d if inverse == "1/d" else F32(127) / amax)
        v = case.x * inv[:, np.newaxis]
        q = ROUNDINGS["half-away"](v)
    known = np.ones((len(v), 2 + v.shape[1]), np.bool_)
    known[:, 2:] = np.abs(q) <= LARGEST_CODE
    return blocks_of(h, np.where(known[:, 2:], q, 0).astype(np.int8)).data, known


@cache
def plain_numbers(low: float, high: float) -> tuple[float, ...]:
    """Return the numbers that a programmer would write between two numbers, the plainest first."""
    middle = (low + high) / 2
    if not 0 < low <= high:
        return ()
    found: dict[float, None] = {}
    if 2.0 ** np.ceil(np.log2(low)) <= high:
        found[float(2.0 ** np.ceil(np.log2(low)))] = None
    exponent = int(np.floor(np.log10(middle)))
    for digits in range(8):
        unit = 10.0 ** (exponent - digits)
        first = int(np.ceil(low / unit * (1 - 1e-7)))
        some = (float(f"{n}e{exponent - digits}") for n in range(first, min(int(high / unit), first + 9) + 1))
        # (A float32 that was written in decimals.)
        found |= {number: None for number in some if low <= F32(number) <= high}
        if len(found) > MANY:
            break
    return tuple(found)


# Ways to compute.


def _forms() -> Iterator[Effect]:
    """Yield products that are formed in another order."""
    for name, text, form in (
        ("x*127/amax", "f32(x · 127) / amax", lambda x, a: x * F32(127) / a),
        ("x/amax*127", "f32(x / amax) · 127", lambda x, a: x / a * F32(127)),
        ("x*127/amax-in-double", "x · 127 / amax in double", lambda x, a: x.astype(F64) * 127 / a),
        ("x/amax*127-in-double", "x / amax · 127 in double", lambda x, a: x.astype(F64) / a * 127),
    ):
        for zero in ("half", "amax"):
            gives = partial(_by_form, form=form, zero=zero)
            fix = STEP_FIXES["Q8A8-QNT-3"]
            what = f"Codes are rounded from {text}, not from f32(x · f32(127 / amax))"
            yield Effect("value-recipe", {"steps": {"product": name}}, what, "Q8A8-QNT-3", fix, gives)


def _by_form(case: Case, form: Callable[[Array, Array], Array], zero: str) -> Given:
    with np.errstate(all="ignore"):
        vanishes = (case.scales if zero == "half" else case.amax) == 0
        v = form(case.x, np.where(vanishes, F32(np.inf), case.amax)[:, np.newaxis])
        q = ROUNDINGS["half-away"](v).astype(np.int8)
    data = blocks_of(case.scales, q).data
    return data, np.ones(data.shape, np.bool_)


def _halves() -> Iterator[Effect]:
    """Yield scales that are other halves than the nearest."""
    for name, text, of in (
        ("ties-down", "A scale half-way between two halves becomes the smaller one", _ties_down),
        (
            "carry-kept", "A scale that is rounded up to a power of two becomes the half below it",
            lambda _d, h: np.where((h & 0x3FF == 0) & (h > 0) & (_d < _float(h)), h - 1, h),
        ),
        ("doubled", "The bits of the scale are shifted by one", lambda _d, h: h * 2),
        ("halved", "The bits of the scale are shifted back by one", lambda _d, h: h // 2),
        ("next", "The scale is the half above the nearest", lambda _d, h: h + 1),
        ("previous", "The scale is the half below the nearest", lambda _d, h: np.where(h > 0, h - 1, h)),
        ("infinite", "The scale is infinite", lambda _d, h: np.full_like(h, 0x7C00)),
        ("largest", "The scale is 65504", lambda _d, h: np.full_like(h, 0x7BFF)),
        ("least", "The scale is the smallest half", lambda _d, h: np.full_like(h, 1)),
        ("one", "The scale is 1", lambda _d, h: np.full_like(h, 0x3C00)),
    ):  # fmt: skip
        for zero in ("half", "stored"):
            gives = partial(_by_half, of=of, zero=zero)
            fix = STEP_FIXES["Q8A8-HLF-1"]
            yield Effect("value-half", {"half": name}, text, "Q8A8-HLF-1", fix, gives)


def _float(bits: Array) -> Array:
    return np.asarray(bits, np.uint16).view(np.float16).astype(F32)


def _ties_down(d: Array, h: Array) -> Array:
    """Return the bits of halves, where ties go to the smaller one."""
    low = np.where(_float(h) > d, h - 1, h)
    middle = (_float(low).astype(F64) + _float(low + 1)) / 2
    return np.where(d == middle, low, h)


def _by_half(case: Case, of: Callable[[Array, Array], Array], zero: str) -> Given:
    bits = of(case.amax / F32(127), case.scales.astype(np.int64)).astype(np.uint16)
    data, known = quantized(case, case.amax, replace(DESIGN, zero_test="amax"), bits)
    vanishes = (bits if zero == "stored" else case.scales) == 0
    data[vanishes, 2:] = 0
    return data, known | vanishes[:, np.newaxis]


@cache
def recipes() -> tuple[Recipe, ...]:
    """Return other ways to compute, those that differ in the fewest steps first."""
    every: list[Recipe] = [replace(DESIGN, rounding=rounding) for rounding in ROUNDINGS]
    every += [replace(DESIGN, half=half) for half in HALVES]
    every += [replace(DESIGN, scale=scale) for scale in ("amax*(1/n)", "upper-sixteen-bits")]
    every += [
        replace(DESIGN, inverse=inverse, product=product, rounding=rounding, zero_test=zero)
        for inverse, product, rounding, zero in itertools.product(
            INVERSES, ("float32", "float64"), ("half-away", "half-even", "truncate"), ("half", "d", "amax")
        )
    ]
    every += RECIPES.values()
    return tuple(sorted(dict.fromkeys(every), key=lambda one: len(differences(one))))[1:]


def recipe_effects(some: Sequence[Recipe]) -> Iterator[Effect]:
    """Yield other ways to compute, in words."""
    for recipe in some:
        steps = differences(recipe)
        conversions = ("conversion",) if len(steps) > 1 else ()
        named_steps = [
            named_step(name, str(value), str(getattr(DESIGN, name)))
            for name, value in steps.items()
            if name not in conversions
        ]
        if not named_steps:
            continue
        rule, _, fix, cause = named_steps[0]
        what = "; ".join(sentence.rstrip(".") for _, sentence, _, _ in named_steps)
        rule = rule or STEP_RULES[next(iter(steps))]
        data = {"steps": {name: str(value) for name, value in steps.items()}}
        gives = partial(_by_recipe, recipe=named(recipe))
        single = cause if len(named_steps) == 1 else ""
        yield Effect("value-recipe", data, what, rule, fix, gives, single)


def _by_recipe(case: Case, recipe: Recipe) -> Given:
    data, known = quantized(case, case.amax, recipe)
    # (Whether a recipe is defined where its inverse is infinite is another matter.)
    _, h = scale_of(case.amax, recipe)
    return data, known | (h == 0)[:, np.newaxis] if recipe.zero_test == "half" else known
