"""Steps that a kernel may take in the place of the specification's, each as a change of a `Model`.

Some come from the catalogue of mistakes, with its names; others are families with a measured parameter: the
bits of an integer, those of a product. A candidate is the measured step where a model with it gives every
experiment's value.
"""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass, field
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.diagnosis.facts import Statement
from q8a8_conformance.faults.catalogue import MUTANTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from q8a8_conformance.inputs.arrays import Array

    Step = Callable[..., Any]

SCALE_BITS = range(8, 33)
"""Bits behind the point of integers that scales, or products of them, are converted to."""

SIGNIFICANT = range(12, 22)
"""Significant bits of a product of two scales, which has 22, as a fixed-point multiplier keeps them."""

LIMITS = (65504.0, 57344.0, 65535.0, 32767.0, 448.0)
"""The largest halves and integers, and the largest float8 of four exponent bits."""


@dataclass(frozen=True)
class Candidate(Statement):
    """A step that takes another one's place.

    Attributes
    ----------
    changes
        Fields of a `Model`.
    """

    changes: Mapping[str, Any] = field(compare=False)


def _from_catalogue(
    fact: str, slug: str, operand: str = "", sentence: str = "{}", **changes: Step
) -> Candidate:
    """Return a mistake of the catalogue, of one operand alone where it is given; {} is its own sentence."""
    mutant = MUTANTS[slug]
    where = {"as": slug, "operand": operand} if operand else {"as": slug}
    return Candidate(fact, where, mutant.rule, sentence.format(mutant.sentence), mutant.fix, slug, changes)


def _cut(v: Array, bits: int, to: Step = np.trunc) -> Array:
    """Cut float64 values, or take them otherwise, to multiples of 2^-bits."""
    return np.asarray(to(v * 2.0**bits) / 2.0**bits)


# Scales.


@cache
def readings() -> tuple[Candidate, ...]:
    """Return wrong ways to read a scale."""
    found = []
    for slug in (
        "half-flushed-on-read", "half-subnormals-misread", "half-bit-lost", "half-read-as-bfloat16",
        "half-infinite-on-read", "half-table-entry", "negative-scales-clamped",
    ):  # fmt: skip
        read = _reads(slug)
        found += [
            _from_catalogue("scale-read", slug, widen_x=read, widen_y=read),
            _from_catalogue("scale-read", slug, "x", "Of x alone: {}", widen_x=read),
            _from_catalogue("scale-read", slug, "y", "Of y alone: {}", widen_y=read),
        ]
    for bits in range(8, 24):
        sentence = f"Each scale is cut to a multiple of 2^-{bits}."
        fix = "Widen the half to float32: it reaches from 2^-24 to 65504."
        changes = dict.fromkeys(("widen_x", "widen_y"), partial(_widened, of=partial(_cut, bits=bits)))
        where = {"as": f"fixed-point-{bits}"}
        found.append(Candidate("scale-read", where, "Q8A8-HLF-3", sentence, fix, "", changes))
    for operand, whose in (("xy", "Scales"), ("x", "Scales of x"), ("y", "Scales of y")):
        sentence = f"{whose} that are subnormal or zero are read as if they were normal: 2^-15 and more."
        fix = "Widen a half whose exponent field is 0 without the hidden bit."
        normal = {f"widen_{side}": _as_normal for side in operand}
        where = {"as": "normal", "operand": operand}
        found.append(Candidate("scale-read", where, "Q8A8-HLF-3", sentence, fix, "", normal))
    for side in "xy":
        sentence = f"The sign of {side}'s scale is lost."
        fix = "Widen the half with its sign: a scale may be negative."
        changes = {f"widen_{side}": partial(_widened, of=np.abs)}
        where = {"as": "magnitude", "operand": side}
        found.append(Candidate("scale-read", where, "Q8A8-HLF-3", sentence, fix, "", changes))
    return tuple(found)


def _reads(slug: str) -> Step:
    widen = MUTANTS[slug].changes["widen"]
    return lambda h: np.asarray(widen(np.asarray(h, np.float16)), np.float64)


def _as_normal(h: Array) -> Array:
    """Take halves whose exponent field is 0 with the hidden bit: float64."""
    bits = np.asarray(h, np.float16).view(np.uint16)
    normal = np.copysign(np.ldexp(1024.0 + (bits & 0x3FF), -25), np.asarray(h, np.float64))
    return np.where(bits & 0x7C00 == 0, normal, np.asarray(h, np.float64))


def _widened(h: Array, of: Step) -> Any:  # noqa: ANN401 - what the step gives
    """Apply a step to the values of halves."""
    return of(np.asarray(h, np.float64))


@cache
def scale_products() -> tuple[Candidate, ...]:
    """Return wrong products of two scales."""
    named = (
        "fp16-scale-product", "bf16-scale-product", "scale-product-underflows", "scale-product-capped",
        "negative-scales-lost", "x-scale-twice", "y-scale-unused", "zero-scale-ends-row",
    )  # fmt: skip
    more: list[tuple[str, str, str, Step]] = [
        ("y-scale-twice", "Q8A8-DOT-3", "y's scale is used for x too.", lambda _dx, dy: dy * dy),
        ("x-scale-unused", "Q8A8-DOT-3", "x's scale is not used.", lambda _dx, dy: dy),
        ("scales-added", "Q8A8-DOT-2", "The scales are added, not multiplied.", lambda dx, dy: dx + dy),
        ("zero-for-equal", "Q8A8-DOT-2", "Where both scales are equal, their product is taken for 0.",
         lambda dx, dy: np.where(dx == dy, 0.0, dx * dy)),
        ("scales-unused", "Q8A8-DOT-3", "No scale is used.", lambda dx, _dy: np.ones_like(dx)),
        ("scales-truncated", "Q8A8-DOT-2", "Scales are truncated to integers.",
         lambda dx, dy: np.trunc(dx) * np.trunc(dy)),
    ]  # fmt: skip
    for bits in SCALE_BITS:
        sentence = f"The product of the scales is cut to a multiple of 2^-{bits}."
        more.append(
            (f"fixed-point-{bits}", "Q8A8-DOT-2", sentence, lambda dx, dy, bits=bits: _cut(dx * dy, bits))
        )
    for bits, (word, to) in itertools.product(SIGNIFICANT, WAYS):
        sentence = f"The product of the scales is {word} to {bits} significant bits."
        step = partial(_shortened, bits=bits, to=to)
        more.append((f"{bits}-bits-{word}", "Q8A8-DOT-2", sentence, step))
    fix = "Multiply x's scale by y's, in float32."
    return (
        *(_from_catalogue("scale-product", slug, scale_product=_wide(slug)) for slug in named),
        *(Candidate("scale-product", {"as": n}, r, s, fix, "", {"scale_product": f}) for n, r, s, f in more),
    )


def _shortened(dx: Array, dy: Array, bits: int, to: Step) -> Array:
    """Return products of scales with so many significant bits."""
    fraction, exponent = np.frexp(np.asarray(dx * dy, np.float64))
    return np.asarray(np.ldexp(to(np.ldexp(fraction, bits)), exponent - bits))


def factors(one: float) -> Iterator[Candidate]:
    """Yield what multiplies all terms where 1 by 1 gives `one`."""
    if not math.isfinite(one) or one in (0, 1):
        return
    power = math.log2(abs(one))
    words = f"{'-' * (one < 0)}2^{power:g}" if power == int(power) and abs(power) > 1 else f"{one:.9g}"
    yield Candidate(
        "scale-product",
        {"times": one},
        "Q8A8-DOT-2",
        f"Each term is {words} times as large as it should be.",
        "Multiply a block's sum by both scales, each widened once, and by nothing else.",
        "",
        {"scale_product": lambda dx, dy: dx * dy * one},
    )


def _wide(slug: str) -> Step:
    """Return a scale product of the catalogue, which takes and gives float32, as one of float64."""
    step = MUTANTS[slug].changes["scale_product"]
    return lambda *arrays: np.asarray(step(*(a.astype(np.float32) for a in arrays)), np.float64)


# Codes and their sums.


@cache
def integers() -> tuple[Candidate, ...]:
    """Return wrong products of codes, and wrong sums of them."""
    found = []
    for mutant in MUTANTS.values():
        slug = mutant.slug
        if "products" in mutant.changes and mutant.rule == "Q8A8-DOT-1":
            for form, changes in {"": mutant.changes, **(mutant.forms or {})}.items():
                said = mutant.sentence[:-1]
                if form == "a code of x":  # (What the sentence names is the other operand.)
                    said = re.sub(r"\b[xy]\b", lambda name: "yx"["xy".index(name[0])], said)
                sentence = f"{said} ({form})." if form else "{}"
                step = changes["products"]
                found.append(_from_catalogue("products", slug, form[-1:], sentence, products=step))
        elif "block_sum" in mutant.changes:
            found.append(_from_catalogue("block-sum", slug, block_sum=_sums(mutant.changes["block_sum"])))
    offset = MUTANTS["maddubs-offset"].changes["products"]
    for operand, step in (("x", offset), ("y", lambda qx, qy: offset(qy, qx))):
        sentence = f"{operand} + 128 is multiplied unsigned, and the pair sums saturate."
        found.append(_from_catalogue("products", "maddubs-offset", operand, sentence, products=step))
    return tuple(found)


def _sums(step: Step) -> Step:
    return lambda of: np.asarray(step(of), np.float64)


def linear(matrix: Array, offset: Array) -> Step:
    """Return the products of a block sum that is Σ_jk matrix[j, k] · x_j · y_k + Σ_k offset[k] · y_k."""

    def of(qx: Array, qy: Array) -> Array:
        wide = qx.astype(np.int64), qy.astype(np.int64)
        return np.asarray((wide[0] @ matrix) * wide[1] + offset * wide[1])

    return of


# Terms and results.


@cache
def terms() -> tuple[Candidate, ...]:
    """Return wrong roundings of a block's term."""
    found = []
    for kind, slug, bits in (("half", "fp16-terms", 11), ("tf32", "tf32-terms", 11), ("bfloat16", "", 8)):
        sentence = MUTANTS[slug].sentence if slug else f"Each block's term is cut to a {kind}."
        where = {"format": kind, "bits": bits}
        step = {"term": partial(rounded, kind=kind)}
        found.append(Candidate("term-rounded", where, "Q8A8-ORD-2", sentence, FIX, slug, step))
    for (kind, words), side in itertools.product(SHORT.items(), "xy"):
        other = "y" if side == "x" else "x"
        sentence = f"A block's sum times {side}'s scale is {words}, and then multiplied by {other}'s scale."
        part = {"scaled_sum": partial(_scaled_in_two, kind=kind, side=side)}
        found.append(
            Candidate("term-rounded", {"format": kind, "of": side}, "Q8A8-DOT-3", sentence, FIX, "", part)
        )
    return tuple(found)


FIX = "Multiply and add in float32."

WAYS: tuple[tuple[str, Step], ...] = (
    ("cut", np.trunc),
    ("rounded", np.rint),
    ("rounded down", np.floor),
    ("rounded, halves away from zero", lambda v: np.trunc(v + np.copysign(0.5, v))),
)
"""How a number becomes an integer."""

SHORT = {"half": "rounded to a half", "bfloat16": "cut to a bfloat16", "tf32": "cut to 11 significant bits"}
"""Formats in which a sum may be, and how it gets there."""


def _scaled_in_two(sums: Array, dx: Array, dy: Array, kind: str, side: str) -> Array:
    one, other = (dx, dy) if side == "x" else (dy, dx)
    return rounded(np.asarray(sums * one, np.float64), kind) * other


def rounded(v: Array, kind: str) -> Array:
    """Round float64 values to a shorter format."""
    if kind == "half":
        return v.astype(np.float16).astype(np.float64)
    bits = v.astype(np.float32).view(np.uint32)
    mask = {"bfloat16": 0xFFFF0000, "tf32": 0xFFFFE000}[kind]
    return np.asarray((bits & np.uint32(mask)).view(np.float32), np.float64)


@cache
def results() -> tuple[Candidate, ...]:
    """Return wrong last steps."""
    one_up = MUTANTS["result-one-up"]
    fix = "Store the sum as the float32 that it is."
    known: list[tuple[dict[str, Any], str, str, str, str, Callable[[float], float]]] = [
        *(
            (
                {"limit": limit}, "Q8A8-ORD-2", f"Results are clamped to {limit:g}.", fix, "",
                lambda result, limit=limit: min(max(result, -limit), limit),
            )
            for limit in LIMITS
        ),
        ({"as": "zero-for-negative"}, "Q8A8-DOT-3", "A negative result is stored as 0.", fix, "",
         lambda result: max(result, 0.0)),
        ({"as": "magnitude"}, "Q8A8-DOT-3", "Results are stored without their sign.", fix, "", abs),
        ({"as": "negated"}, "Q8A8-DOT-3", "Results have the other sign.", fix, "", lambda result: -result),
        ({"as": "truncated"}, "Q8A8-DOT-3", "Results are truncated to integers.", fix, "", np.trunc),
        ({"as": one_up.slug}, one_up.rule, one_up.sentence, one_up.fix, one_up.slug, _result_one_up),
    ]  # fmt: skip
    return tuple(
        Candidate(
            "result-changed", where, rule, sentence, fix, cause,
            {"store": lambda _held, result, _nb, of=of: of(result)},
        )
        for where, rule, sentence, fix, cause, of in known
    )  # fmt: skip


def _result_one_up(result: float) -> float:
    value = np.float32(result)
    return float(np.nextafter(value, np.float32(np.inf) * np.sign(value)) if value else value)
