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

Other codes and scales for the same elements are in `codes`; what stands elsewhere, and what is read
off the calls first, in `sources`.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8.recipe import RECIPES, apply_recipe, scale_of
from q8a8.recipe_steps import HALVES, INVERSES, LARGEST, ROUNDINGS, SCALES
from q8a8_conformance.diagnosis.quantizers.codes import (
    code_effects,
    half_effects,
    precision_effects,
    rounding_effects,
)
from q8a8_conformance.diagnosis.quantizers.effect import (
    DESIGN,
    LARGEST_CODE,
    Effect,
    Given,
    quantized,
    with_bytes,
)
from q8a8_conformance.diagnosis.quantizers.sharing import sharings
from q8a8_conformance.diagnosis.quantizers.sources import paired_effects
from q8a8_conformance.diagnosis.quantizers.steps import STEP_FIXES, STEP_RULES, named_step
from q8a8_conformance.reveal.quantizers.arithmetic import differences
from q8a8_conformance.reveal.quantizers.calls import BLOCK, blocks_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from q8a8.recipe import Recipe
    from q8a8_conformance.diagnosis.quantizers.cases import Case
    from q8a8_conformance.inputs.arrays import Array

F32, F64 = np.float32, np.float64
PARTS = (4, 8, 16)
SPLIT = (2, 4, 8, 3, 16)
WHOSE: dict[str, int | None] = {"largest": None, "last": -1, "first": 0}
EDGES: dict[str, Callable[[int, int], Array]] = {
    "the last one with the rest": lambda count, n: np.arange(1, count) * (n // count),
    "the last one shorter": lambda count, n: np.minimum(np.arange(1, count) * -(-n // count), n),
}
"""Where the parts of a vector begin but for the first, by what becomes of the rest."""

CHUNKS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)

MANY = 3

OWN = "Take each block's amax over its own 32 elements."
WRITTEN = "Write the scale and the 32 codes of every block, zeros too."
ZEROED = (
    "Quantize every element of every block: codes are 0 for a whole block where the stored half is 0, alone."
)
VECTOR = "Take one amax over all elements of the vector, and store its scale."


def effects(*, is_row: bool, base: Recipe = DESIGN) -> Iterator[Effect]:
    """Yield what needs no measurement, the simplest first."""
    yield from _written(is_row=is_row)
    if is_row:
        yield from _shared()
    yield from _chunks(is_row=is_row)
    if is_row:
        yield from _classes()
    yield from _signed(is_row=is_row)
    yield from code_effects()
    yield from paired_effects()
    yield from recipe_effects(recipes(base), base)
    yield from _forms()
    yield from rounding_effects()
    yield from half_effects()
    yield from precision_effects()


# What is written.


def _written(*, is_row: bool) -> Iterator[Effect]:
    whose = "A block's" if is_row else "The"
    for part, columns in {
        "": slice(0, None), "codes": slice(2, None), "scale": slice(0, 2), "scale's lower byte": slice(0, 1),
        "scale's upper byte": slice(1, 2),
    }.items():  # fmt: skip
        noun = f"{whose} {part}" if part else ("A block" if is_row else "The vector")
        verb = "are" if part == "codes" else "is"
        for how, text in (("unwritten", "not written"), ("zero", "zero")):
            gives = partial(_kept, columns=columns, zero=how == "zero")
            what = f"{noun} {verb} {text}"
            rule, fix = "Q8A8-QNT-6", WRITTEN if how == "unwritten" else ZEROED
            if part == "codes" and how == "zero":
                rule = "Q8A8-QNT-3"
            yield Effect(f"value-{how}", {"what": part or "block"}, what, rule, fix, gives)


def _kept(case: Case, *, columns: slice, zero: bool) -> Given:
    return with_bytes(case, 0 if zero else case.before[:, columns], columns)


# Whose amax.


def _shared() -> Iterator[Effect]:
    """Yield ways in which the blocks of a row share an amax, or a part of what follows from it."""
    for name, data, text, of in sharings():
        gives = partial(_with_shared, of=of)
        where = {"blocks": name, **data}
        yield Effect("amax-of", where, f"A block is scaled by {text}", "Q8A8-QNT-7", OWN, gives)
    for name, data, text, of in sharings():
        for part, what, rule in (
            ("inverse", "A block's codes, and not its scale, are computed with", "Q8A8-QNT-3"),
            ("scale", "A block's scale, and not its codes, is that of", "Q8A8-QNT-2"),
        ):
            gives = partial(_with_shared, of=of, part=part)
            where = {"blocks": name, "part": part, **data}
            yield Effect("amax-of", where, f"{what} {text}", rule, OWN, gives)


def _with_shared(case: Case, of: Callable[[Array], Array], part: str = "") -> Given:
    data, known = quantized(case, np.asarray(case.by_row(of, case.amax), F32))
    if part == "inverse":
        data[:, :2] = case.right[:, :2]
    elif part == "scale":
        data[:, 2:], known[:, 2:] = case.right[:, 2:], True
    return data, known


def _chunks(*, is_row: bool) -> Iterator[Effect]:
    """Yield blocks, or vectors, of which parts have an amax each, or the largest one so far."""
    rule, fix = ("Q8A8-QNT-1", OWN) if is_row else ("Q8A8-QNT-9", VECTOR)
    for count, ((name, index), (how, of)) in itertools.product(
        () if is_row else SPLIT, itertools.product(WHOSE.items(), EDGES.items())
    ):
        text = (
            f"A vector is quantized in {count} parts of as many elements, {how}, each with an amax of its own"
        )
        where = {"blocks": "part", "count": count, "scale": name, "rest": how}
        gives = partial(_in_parts, edges=partial(of, count), index=index)
        yield Effect("amax-of", where, f"{text}, and the scale of the {name}", rule, fix, gives)
    for t in PARTS if is_row else CHUNKS:
        for running, noun in (
            (False, "have an amax of their own"),
            (True, "are coded with the largest amax so far"),
        ):
            for name, index in WHOSE.items():
                whose = f"the {name} part" if index is not None else "all"
                text = f"Every {t} elements {noun}, and the scale is that of {whose}"
                gives = partial(_in_chunks, t=t, index=index, running=running)
                where = {"blocks": "running" if running else "chunk", "elements": t, "scale": name}
                yield Effect("amax-of", where, text, rule, fix, gives)


def _classes() -> Iterator[Effect]:
    """Yield blocks of which elements with something in common have an amax of their own, as lanes do."""
    lanes = np.arange(BLOCK)
    classes = {
        **{f"bit-{b}": (lanes >> b & 1, f"Elements whose numbers have the same bit {b}") for b in range(4)},
        **{f"modulo-{t}": (lanes % t, f"Elements with the same j mod {t}") for t in (4, 8, 16)},
    }
    classes["bit-0"] = classes["bit-0"][0], "Even elements, and odd ones,"
    for (name, (of, words)), (whose, index) in itertools.product(classes.items(), WHOSE.items()):
        text = f"{words} have an amax of their own, and the scale is that of the {whose}"
        gives = partial(_in_classes, of=of, index=index)
        yield Effect(
            "amax-of", {"blocks": "elements", "alike": name, "scale": whose}, text, "Q8A8-QNT-1", OWN, gives
        )


def _in_classes(case: Case, of: Array, index: int | None) -> Given:
    data, known = np.zeros(case.right.shape, np.uint8), np.ones(case.right.shape, np.bool_)
    scales = []
    for number in range(of.max() + 1):
        x, columns = case.x[:, of == number], np.append([False, False], of == number)
        part, is_known = quantized(case, np.abs(x).max(axis=1), x=x)
        data[:, columns], known[:, columns] = part[:, 2:], is_known[:, 2:]
        scales.append(np.ascontiguousarray(part[:, :2]).view("<u2")[:, 0])
    h = np.stack(scales)
    scale = h.max(axis=0) if index is None else h[index]
    data[:, :2] = np.ascontiguousarray(scale, "<u2").view(np.uint8).reshape(-1, 2)
    # (Which scale is tested for zero is another matter.)
    known[:, 2:] &= ((h[of] != 0) | (scale == 0)).T
    return data, known


def _in_parts(case: Case, edges: Callable[[int], Array], index: int | None) -> Given:
    at = edges(case.x.shape[1])
    parts = [
        quantized(case, np.abs(x).max(axis=1, initial=F32(0)), x=x) for x in np.split(case.x, at, axis=1)
    ]
    data = np.concatenate([parts[0][0][:, :2], *(part[:, 2:] for part, _ in parts)], axis=1)
    scales = np.stack([np.ascontiguousarray(part[:, :2]).view("<u2")[:, 0] for part, _ in parts])
    scale = scales.max(axis=0) if index is None else scales[index]
    data[:, :2] = np.ascontiguousarray(scale, "<u2").view(np.uint8).reshape(-1, 2)
    return data, np.ones(data.shape, np.bool_)


def _in_chunks(case: Case, t: int, index: int | None, *, running: bool) -> Given:
    n, size = case.x.shape
    parts = np.pad(case.x, ((0, 0), (0, -size % t))).reshape(n, -1, t)
    amax = np.abs(parts).max(axis=2)
    amax = np.maximum.accumulate(amax, axis=1) if running else amax
    h, q, _ = apply_recipe(parts, case.base, amax)
    scale = h.max(axis=1) if index is None else h[:, index]
    data = blocks_of(scale, q.reshape(n, -1)[:, :size]).data
    # (Which scale is tested for zero is another matter.)
    known = np.ones(data.shape, np.bool_)
    known[:, 2:] = np.repeat((h != 0) | (scale == 0)[:, np.newaxis], t, axis=1)[:, :size]
    return data, known


def _either(some: Array, one: Array, other: Array) -> Array:
    return np.asarray(np.where(some, one, other))


_SIGNED: dict[str, tuple[str, Callable[..., Array]]] = {
    "unsigned-bits": (
        "is that of the negative elements where there are any, as of bits that are compared as unsigned",
        lambda low, high, _least, signs: _either(signs.any(axis=1), low, high),
    ),
    "signed-bits": (
        "is that of the positive elements where there are any, as of bits that are compared as signed",
        lambda low, high, _least, signs: _either(signs.all(axis=1), low, high),
    ),
    "of-largest": (
        "is the magnitude of the largest element, whatever its sign",
        lambda _low, high, least, signs: _either(signs.all(axis=1), least, high),
    ),
    "of-smallest": (
        "is the magnitude of the smallest element, whatever its sign",
        lambda low, _high, least, signs: _either(signs.any(axis=1), low, least),
    ),
    "smallest": ("is the smallest magnitude", lambda _low, _high, least, _signs: least),
    "range": ("is half the range of the elements", lambda low, high, *_: (high + low) / F32(2)),
}
"""What amax is instead, of the greatest magnitudes by sign, the smallest one, and the signs."""


def _signed(*, is_row: bool) -> Iterator[Effect]:
    """Yield numbers that are taken for amax by the elements' signs."""
    noun = "A block's amax" if is_row else "Amax"
    for name, (text, of) in _SIGNED.items():
        gives = partial(_of_signs, of=of)
        fix = STEP_FIXES["Q8A8-QNT-1"]
        yield Effect("amax-of", {"elements": name}, f"{noun} {text}", "Q8A8-QNT-1", fix, gives)


def _of_signs(case: Case, of: Callable[..., Array]) -> Given:
    low, high = (np.maximum(side, F32(0)).max(axis=1, initial=F32(0)) for side in (-case.x, case.x))
    amax = of(low, high, np.abs(case.x).min(axis=1), np.signbit(case.x))
    return quantized(case, np.asarray(amax, F32))


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
        numbers,
        ("least", "added"),
        (("both", "127/amax"), ("both", "1/d"), ("scale", "127/amax"), ("inverse", "127/amax")),
    ):
        yield _changed(of, number, how, scope, inverse)


def _changed(of: str, number: float, how: str, scope: str, inverse: str) -> Effect:
    noun = "amax" if of == "amax" else "the scale"
    what = f"{noun} is never less than {number:.8g}"
    if how == "added":
        what = f"{number:.8g} is added to {noun}"
    where = {
        "scale": ", in the scale that is stored alone",
        "inverse": ", in the inverse alone",
        "both": ", in the scale and in the inverse",
    }[scope]
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
        h = (case.amax / F32(127) if scope == "inverse" else d).astype(np.float16)
        amax = case.amax if scope == "scale" else amax
        amax = d * F32(127) if of == "d" and scope != "scale" else amax
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
        some = (
            float(f"{n}e{exponent - digits}")
            for n in range(first, min(int(high / unit * (1 + 1e-7)), first + 9) + 1)
        )
        # (A float32 that was written in decimals.)
        held = {F32(number) for number in found}
        found |= {number: None for number in some if low <= F32(number) <= high and F32(number) not in held}
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


@cache
def recipes(base: Recipe = DESIGN) -> tuple[Recipe, ...]:
    """Return other ways to compute than a recipe, those that differ in the fewest steps first."""
    every: list[Recipe] = [replace(base, rounding=rounding) for rounding in ROUNDINGS]
    every += [replace(base, half=half, inverse=inv) for half in HALVES for inv in (base.inverse, "1/half")]
    every += [replace(base, scale=scale) for scale in SCALES]
    every += [replace(base, amax=amax) for amax in LARGEST]
    every += [
        replace(base, inverse=inverse, product=product, rounding=rounding, zero_test=zero)
        for inverse, product, rounding, zero in itertools.product(
            INVERSES, ("float32", "float64"), ("half-away", "half-even", "truncate"), ("half", "d", "amax")
        )
    ]
    every += RECIPES.values()
    others = dict.fromkeys(one for one in every if differences(one, base))
    return tuple(sorted(others, key=lambda one: len(differences(one, base))))


def recipe_effects(some: Sequence[Recipe], base: Recipe = DESIGN) -> Iterator[Effect]:
    """Yield other ways to compute, in words."""
    for recipe in some:
        steps = differences(recipe, base)
        conversions = ("conversion",) if len(steps) > 1 else ()
        named_steps = [
            named_step(name, str(value), str(getattr(base, name)))
            for name, value in steps.items()
            if name not in conversions
        ]
        if not named_steps:
            continue
        rule, _, fix, cause = named_steps[0]
        what = "; ".join(sentence.rstrip(".") for _, sentence, _, _ in named_steps)
        rule = rule or STEP_RULES[next(iter(steps))]
        data = {"steps": {name: str(value) for name, value in steps.items()}}
        gives = partial(_by_steps, steps=steps)
        single = cause if len(named_steps) == 1 else ""
        yield Effect("value-recipe", data, what, rule, fix, gives, single, steps=steps)


def _by_steps(case: Case, steps: dict[str, Any]) -> Given:
    recipe = replace(case.base, **steps)
    amax = case.amax if recipe.amax == case.base.amax else np.asarray(LARGEST[recipe.amax](case.x), F32)
    data, known = quantized(case, amax, recipe)
    # (Whether a recipe is defined where its inverse is infinite is another matter.)
    _, h = scale_of(amax, recipe)
    return data, known | (h == 0)[:, np.newaxis] if recipe.zero_test == "half" else known
