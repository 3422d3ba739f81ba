"""Steps that a kernel may take in the place of the specification's, each as a change of a `Model`.

Some come from the catalogue of mistakes, with its names; others are families with a measured parameter: the
bits of an integer, those of a product. A candidate is the measured step where a model with it gives every
experiment's value.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.diagnosis.experiments.model import block_sum
from q8a8_conformance.diagnosis.facts import Statement
from q8a8_conformance.faults import steps
from q8a8_conformance.faults.catalogue import MUTANTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    Array = NDArray[Any]
    Step = Callable[..., Any]


@dataclass(frozen=True)
class Candidate(Statement):
    """A step that takes another one's place.

    Attributes
    ----------
    changes
        Fields of a `Model`.
    """

    changes: Mapping[str, Any] = field(compare=False)


def _from_catalogue(slug: str, fact: str, **changes: Step) -> Candidate:
    mutant = MUTANTS[slug]
    rule = mutant.rule
    return Candidate(fact, {"as": slug}, rule, mutant.sentence, mutant.fix, slug, changes)


def _wide(step: Step) -> Step:
    """Return a step of the catalogue that takes and gives float32 as one of float64."""
    return lambda *arrays: np.asarray(step(*(a.astype(np.float32) for a in arrays)), np.float64)


def _reads(slug: str) -> Step:
    widen = MUTANTS[slug].changes["widen"]
    return lambda h: np.asarray(widen(np.asarray(h, np.float16)), np.float64)


@cache
def readings() -> tuple[Candidate, ...]:
    """Return wrong ways to read a scale."""
    found = []
    for slug in (
        "half-flushed-on-read", "half-subnormals-misread", "half-bit-lost", "half-read-as-bfloat16",
        "half-infinite-on-read", "half-table-entry", "negative-scales-clamped",
    ):  # fmt: skip
        if "widen" not in MUTANTS[slug].changes:
            continue
        read = _reads(slug)
        both = _from_catalogue(slug, "scale-read", widen_x=read, widen_y=read)
        found.append(both)
        for side in "xy":
            found.append(  # noqa: PERF401 - beside both
                Candidate(
                    both.fact,
                    {"as": slug, "operand": side},
                    both.rule,
                    f"Of {side} alone: {both.sentence}",
                    both.fix,
                    slug,
                    {f"widen_{side}": read},
                )
            )
    found += [
        Candidate(
            "scale-read",
            {"as": f"fixed-point-{bits}"},
            "Q8A8-HLF-3",
            f"Each scale is cut to a multiple of 2^-{bits}.",
            "Widen the half to float32: it reaches from 2^-24 to 65504.",
            "",
            dict.fromkeys(("widen_x", "widen_y"), _cut(bits)),
        )
        for bits in range(8, 24)
    ]
    found += [
        Candidate(
            "scale-read",
            {"as": "magnitude", "operand": side},
            "Q8A8-HLF-3",
            f"The sign of {side}'s scale is lost.",
            "Widen the half with its sign: a scale may be negative.",
            "",
            {f"widen_{side}": lambda h: np.abs(np.asarray(h, np.float64))},
        )
        for side in "xy"
    ]
    return tuple(found)


def _cut(bits: int) -> Step:
    return lambda h: np.trunc(np.asarray(h, np.float64) * 2.0**bits) / 2.0**bits


_PRODUCTS = (
    "fp16-scale-product",
    "bf16-scale-product",
    "scale-product-underflows",
    "scale-product-capped",
    "negative-scales-lost",
    "x-scale-twice",
    "y-scale-unused",
    "zero-scale-ends-row",
)


SCALE_BITS = range(8, 33)
"""Bits behind the point of integers that scales, or products of them, are converted to."""


def _cut_product(bits: int) -> Step:
    return lambda dx, dy: np.trunc(dx * dy * 2.0**bits) / 2.0**bits


@cache
def scale_products() -> tuple[Candidate, ...]:
    """Return wrong products of two scales."""
    named = [
        _from_catalogue(slug, "scale-product", scale_product=_wide(MUTANTS[slug].changes["scale_product"]))
        for slug in _PRODUCTS
    ]
    more = [
        ("y-scale-twice", "Q8A8-DOT-3", "y's scale is used for x too.", lambda _dx, dy: dy * dy),
        ("x-scale-unused", "Q8A8-DOT-3", "x's scale is not used.", lambda _dx, dy: dy),
        ("scales-added", "Q8A8-DOT-2", "The scales are added, not multiplied.", lambda dx, dy: dx + dy),
        ("scales-unused", "Q8A8-DOT-3", "No scale is used.", lambda dx, _dy: np.ones_like(dx)),
        (
            "scales-truncated",
            "Q8A8-DOT-2",
            "Scales are truncated to integers.",
            lambda dx, dy: np.trunc(dx) * np.trunc(dy),
        ),
    ]
    more += [
        (
            f"fixed-point-{bits}",
            "Q8A8-DOT-2",
            f"The product of the scales is cut to a multiple of 2^-{bits}.",
            step,
        )
        for bits, step in ((bits, _cut_product(bits)) for bits in SCALE_BITS)
    ]
    fix = "Multiply x's scale by y's, in float32."
    return (
        *named,
        *(Candidate("scale-product", {"as": n}, r, s, fix, "", {"scale_product": f}) for n, r, s, f in more),
    )


@cache
def integers() -> tuple[Candidate, ...]:
    """Return wrong products of codes, and wrong sums of them."""
    found = []
    for mutant in MUTANTS.values():
        if "products" in mutant.changes and mutant.rule == "Q8A8-DOT-1":
            forms = mutant.forms or {"": mutant.changes}
            for form, changes in {"": mutant.changes, **forms}.items():
                one = _from_catalogue(mutant.slug, "products", products=changes["products"])
                where = {"operand": form[-1]} if form else {}
                of = f" ({form})" if form else ""
                found.append(
                    Candidate(
                        one.fact,
                        {**one.where, **where},
                        one.rule,
                        one.sentence[:-1] + of + ".",
                        one.fix,
                        one.cause,
                        one.changes,
                    )
                )
        elif "block_sum" in mutant.changes:
            step = mutant.changes["block_sum"]
            found.append(
                _from_catalogue(
                    mutant.slug, "block-sum", block_sum=lambda of, step=step: np.asarray(step(of), np.float64)
                )
            )
    offset = MUTANTS["maddubs-offset"].changes["products"]
    for operand in "xy":
        found.append(  # noqa: PERF401 - two
            Candidate(
                "products",
                {"as": "maddubs-offset", "operand": operand},
                "Q8A8-DOT-1",
                f"{operand} + 128 is multiplied unsigned, and the pair sums saturate.",
                MUTANTS["maddubs-offset"].fix,
                "maddubs-offset",
                {"products": offset if operand == "x" else lambda qx, qy: offset(qy, qx)},
            )
        )
    found += [*_widths(), *_in_lanes()]
    return tuple(found)


def _widths() -> Iterator[Candidate]:
    """Yield block sums in integers of other widths."""
    for bits in range(8, 21):
        for ends in ("wraps", "saturates"):
            half = 2 ** (bits - 1)

            def narrow(of: Array, half: int = half, ends: str = ends) -> Array:
                sums = block_sum(of)
                return (
                    (sums + half) % (2 * half) - half if ends == "wraps" else np.clip(sums, -half, half - 1)
                )

            cause = {(16, "wraps"): "block-in-int16", (16, "saturates"): "block-saturates"}.get(
                (bits, ends), ""
            )
            yield Candidate(
                "block-sum",
                {"bits": bits, "ends": ends},
                "Q8A8-DOT-1",
                f"A block's sum is kept in {bits} bits and {ends}.",
                "Add in int32: a block's sum reaches 2^19.",
                cause,
                {"block_sum": narrow},
            )


LANES = (1, 2, 4, 8, 16)


def _in_lanes() -> Iterator[Candidate]:
    """Yield block sums of lanes of 16 bits, to which one product after the other is added."""
    for lanes, ends, of in itertools.product(LANES, ("saturate", "wrap"), (32, 1, 16, 8, 4)):
        if lanes == 1 and (ends, of) != ("saturate", 32):
            continue  # One lane that wraps is a sum of 16 bits that does.
        if of != 1 and lanes * of <= 32 and of != 32:
            continue  # Of one product in each part, or of none.
        kind = {32: "modulo", 1: "consecutive"}.get(of, f"modulo-in-parts-of-{of}")
        place = {32: f"j mod {lanes}", 1: f"j / {32 // lanes}"}.get(
            of, f"j mod {lanes * of // 32} of those of its {of}"
        )
        yield Candidate(
            "block-sum",
            {"bits": 16, "ends": f"{ends}s", "lanes": lanes, "elements": kind},
            "Q8A8-DOT-1",
            f"Products are added in int16 and {ends}: element j in lane {place} of {lanes}.",
            "Widen each product, or each pair of products, to int32 before adding.",
            "",
            {"block_sum": _lane_sum(lanes, ends, of)},
        )


def _lane_sum(lanes: int, ends: str, part: int) -> Step:
    def narrow(of: Array) -> Array:
        if part == 1:
            steps = of.reshape(*of.shape[:-1], lanes, 32 // lanes).swapaxes(-1, -2)
        else:
            # Lanes of each part of so many elements: all 32 are one part.
            steps = of.reshape(*of.shape[:-1], 32 // part, 32 // lanes, lanes * part // 32)
            steps = steps.swapaxes(-2, -3).reshape(*of.shape[:-1], 32 // lanes, lanes)
        sums = np.zeros(steps[..., 0, :].shape, np.int64)
        for k in range(32 // lanes):
            sums = sums + steps[..., k, :]
            sums = np.clip(sums, -32768, 32767) if ends == "saturate" else (sums + 32768) % 65536 - 32768
        return np.asarray(sums.sum(axis=-1))

    return narrow


def _rounded(v: Array, kind: str) -> Array:
    """Round float64 values to a shorter format."""
    if kind == "half":
        return v.astype(np.float16).astype(np.float64)
    bits = v.astype(np.float32).view(np.uint32)
    mask = {"bfloat16": 0xFFFF0000, "tf32": 0xFFFFE000}[kind]
    return np.asarray((bits & np.uint32(mask)).view(np.float32), np.float64)


LIMITS = (65504.0, 57344.0, 65535.0, 32767.0, 448.0)
"""The largest halves and integers, and the largest float8 of four exponent bits."""


def _result_one_up(result: float) -> float:
    value = np.float32(result)
    return float(np.nextafter(value, np.float32(np.inf) * np.sign(value)) if value else value)


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


FIXED_POINTS = range(8, 48)
"""Bits behind the point of integers that terms are converted to."""


@cache
def terms() -> tuple[Candidate, ...]:
    """Return wrong roundings of a block's term."""
    fix = "Multiply and add in float32."
    named = (("half", "fp16-terms", 11), ("tf32", "tf32-terms", 11), ("bfloat16", "", 8))
    fixed = (
        Candidate(
            "term-rounded",
            {"format": "fixed-point", "unit": -bits, "by": word},
            "Q8A8-ORD-2",
            f"Each block's term is {word} to a multiple of 2^-{bits}.",
            fix,
            "",
            {"term": lambda v, bits=bits, to=to: to(v * 2.0**bits) / 2.0**bits},
        )
        for bits in FIXED_POINTS
        for word, to in (("cut", np.trunc), ("rounded", np.rint), ("rounded down", np.floor))
    )
    return *fixed, *(
        Candidate(
            "term-rounded",
            {"format": kind, "bits": bits},
            "Q8A8-ORD-2",
            MUTANTS[slug].sentence if slug else f"Each block's term is cut to a {kind}.",
            fix,
            slug,
            {"term": lambda v, kind=kind: _rounded(v, kind)},
        )
        for kind, slug, bits in named
    )


def linear(matrix: Array, offset: Array) -> Step:
    """Return the products of a block sum that is Σ_jk matrix[j, k] · x_j · y_k + Σ_k offset[k] · y_k."""

    def of(qx: Array, qy: Array) -> Array:
        wide = qx.astype(np.int64), qy.astype(np.int64)
        return np.asarray((wide[0] @ matrix) * wide[1] + offset * wide[1])

    return of


def widened(h: Array) -> Array:
    """Take a half's value as the catalogue's steps do."""
    return np.asarray(steps.widen(h), np.float64)
