"""Terms that are added to a block's own: scales of some kind, times the sum of a row's codes, or alone.

Where the codes of one row, or of both, are zero, a block adds nothing. What it adds there, under each scale
that it holds of 1, 2 and 4, is a polynomial of the scales: its coefficients name the terms. They must give
the results of blocks of any codes, under any scales.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from q8a8 import layout
from q8a8_conformance.diagnosis.dots.bench import result
from q8a8_conformance.diagnosis.dots.model import Model, matches
from q8a8_conformance.inputs import calls, dot_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from q8a8_conformance.diagnosis.dots.bench import Bench, Measured
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call

    # Exponents of x's own scale, its other one, y's own, its other one; and of which sum of codes.
    Term = tuple[tuple[int, ...], str]

NODES = (1.0, 2.0, 4.0)
"""Scales of which each term is a polynomial of degree two or less."""

SUMS = {"x": " times the sum of x's codes", "y": " times the sum of y's codes", "": ""}
"""What scales are multiplied by."""

NAMES = (
    ("x's scale", "", "y's scale", ""),
    ("x's weight_scale", "x's activation_scale", "y's activation_scale", "y's weight_scale"),
)
"""The scales of blocks of each version: x's own and its other one, y's."""

OWN = (1, 0, 1, 0)
NOTHING = 1e-6
"""A coefficient that is none but for roundings."""

MOST, RANDOM, LENGTHS = 4, 12, (1, 2, 5)
"""Terms that are named, and random rows that they must give, of some lengths."""

FIX = "Add to a row's sum each block's integer sum times x's scale and y's, and nothing else."


def added_terms(bench: Bench) -> Iterator[Measured]:
    """Find terms that are added to those of blocks, and of which scales they are made."""
    shown = [(side, _call(bench, [3.0, 5.0, 7.0, 11.0], *_codes(side))) for side in SUMS]
    wrong = next((call for _, call in shown if result(bench.outputs(call))), None)
    if wrong is None:
        return
    terms = _terms(bench)
    if not 0 < len(terms) <= MOST or all(powers == OWN for powers, _ in terms):
        return
    rest = partial(_rest, terms=terms)
    model = Model(rest=rest)
    if not all(matches(model, bench.answer(call)) for call in _random(bench)):
        return
    is_other = any(powers[1] or powers[3] for powers, _ in terms)
    yield bench.measured(
        "term-added",
        {
            "terms": [
                {"scales": [*powers], "sum": side, "times": times} for (powers, side), times in terms.items()
            ]
        },
        _words(bench.version, terms),
        rule="Q8A8-LAY-5" if is_other else "Q8A8-DOT-3",
        fix=FIX,
        evidence=[bench.evidence(wrong, "a block of which the codes of one row, or of both, are zero")],
        changes={"rest": rest},
    )


def _terms(bench: Bench) -> dict[Term, int]:
    """Return how often each term is added."""
    seen = {side: _added(bench, side) for side in SUMS}
    constant = seen.pop("")
    found = {(powers, ""): round(times) for powers, times in constant.items()}
    for side, of in seen.items():
        for powers in {*of, *constant}:
            found[powers, side] = round((of.get(powers, 0.0) - constant.get(powers, 0.0)) / 32)
    return {term: times for term, times in found.items() if times}


def _codes(side: str) -> tuple[Array, Array]:
    """Return codes of x and y [1, 32] of which those of a side, or none, are 1."""
    one, none = np.ones((1, 32), np.int64), np.zeros((1, 32), np.int64)
    return (one if side == "x" else none), (one if side == "y" else none)


def _call(bench: Bench, scales: Sequence[float] | Array, qx: Array, qy: Array) -> Call:
    """Return the call on blocks [nb] under the scales [4] or [4, nb] of x, its other ones, those of y."""
    if bench.version == 1:
        return bench.call(dot_rows.blocks(scales[0], qx), dot_rows.blocks(scales[2], qy))
    x, y = (np.zeros(len(qx), layout.BLOCK_Q8_A8_V2) for _ in "xy")
    x["weight_scale"], x["activation_scale"], y["activation_scale"], y["weight_scale"] = scales
    x["weight_qs"], y["weight_qs"] = qx, qy
    return calls.dot_real(x, y, s=bytes(4))


def _added(bench: Bench, side: str) -> Mapping[tuple[int, ...], float]:
    """Return what a block adds, by the exponents of its scales."""
    used = 4 if bench.version == 2 else 2
    values = np.empty((3,) * used)
    for places in itertools.product(range(3), repeat=used):
        of = [NODES[place] for place in places]
        scales = of if used == 4 else [of[0], 1.0, of[1], 1.0]
        values[places] = result(bench.outputs(_call(bench, scales, *_codes(side))))
    inverse = np.linalg.inv(np.vander(NODES, increasing=True))
    for axis in range(used):
        values = np.moveaxis(np.tensordot(inverse, values, (1, axis)), 0, axis)
    return {
        tuple(powers) if used == 4 else (powers[0], 0, powers[1], 0): float(values[tuple(powers)])
        for powers in np.argwhere(np.abs(values) > NOTHING).tolist()
    }


def _random(bench: Bench) -> Iterator[Call]:
    """Yield calls on rows of any codes, under any scales."""
    rng = dot_rows.generator("added terms")
    for number in range(RANDOM):
        nb = LENGTHS[number % len(LENGTHS)]
        qx, qy = rng.integers(-127, 128, (2, nb, 32))
        scales = (
            rng.choice([-1, 1], (4, nb))
            * rng.integers(1, 2048, (4, nb))
            * 2.0 ** rng.integers(-6, 3, (4, nb))
        )
        yield _call(bench, scales, qx, qy)


def _rest(
    qx: Array, qy: Array, dx: Array, dy: Array, others: tuple[Array, Array], terms: Mapping[Term, int]
) -> tuple[Array, Array]:
    """Return what is added to the terms of blocks [n], and the sizes of it."""
    sums = {"x": qx.astype(np.int64), "y": qy.astype(np.int64), "": np.full(qx.shape, 1 / 32)}
    more, sizes = np.zeros((2, len(dx)))
    for (powers, side), times in terms.items():
        of = times * np.ones(len(dx))
        for scale, power in zip((dx, others[0], dy, others[1]), powers, strict=True):
            of = of * scale.astype(np.float64) ** power
        more = more + of * sums[side].sum(axis=1)
        sizes = sizes + np.abs(of) * np.abs(sums[side]).sum(axis=1)
    return more, sizes


def _words(version: int, terms: Mapping[Term, int]) -> str:
    """Say what is added; or what is taken off for an offset of codes, and should be something else."""
    if len(terms) == 2:
        for side, other in ("xy", "yx"):
            offset = terms.get((OWN, side), 0)
            wrong = next((powers for powers, _ in terms if powers != OWN), OWN)
            if offset and terms.get((wrong, side)) == -offset:
                taken = f"{abs(offset)} times {_scales(version, wrong)}{SUMS[side]}"
                return (
                    f"{offset} is added to {other}'s codes, and what is taken off for it is {taken}, "
                    "not both scales times that."
                )
    parts = [
        f"{f'{times} times ' if times != 1 else ''}{_scales(version, powers)}{SUMS[side]}"
        for (powers, side), times in terms.items()
    ]
    return f"To each block's term {' and '.join(parts)} {'is' if len(parts) == 1 else 'are'} added."


def _scales(version: int, powers: Sequence[int]) -> str:
    """Name a product of scales."""
    named = [name + (" squared" if power == 2 else "")
             for name, power in zip(NAMES[version - 1], powers, strict=True) if power]  # fmt: skip
    return " times ".join(named) or "1"
