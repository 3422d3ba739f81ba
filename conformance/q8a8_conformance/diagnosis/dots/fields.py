"""Which of the two scales of version 2's blocks are used, and whether the others have an influence."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8 import layout
from q8a8_conformance.diagnosis.dots.model import Model, matches
from q8a8_conformance.faults.catalogue import MUTANTS
from q8a8_conformance.inputs import calls
from q8a8_conformance.reveal.places import Rule, find_rule, seen_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from q8a8_conformance.diagnosis.dots.bench import Bench, Measured
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.results.observations import CallResult

    # Of a block's own scale and the other one.
    Choice = Callable[[Array, Array], Array]

PRIMES = (3, 5, 7, 11)
"""x's weight_scale and activation_scale, and y's: the product of two names them."""

OTHERS = (13, 17, 19, 23)
"""The scales of other blocks."""

TRIED = (
    *(PRIMES, (3, 0, 0, 11), (0, 5, 7, 11), (3, 5, 0, 11), (3, 0, 7, 11), (3, 5, 7, 0)),
    *((2048, 1, 0, 1), (-3, 5, 7, 11), (3, 5, 7, -11), (3, -5, 7, 11), (3, 5, -7, 11)),
)
"""Scales under which a block shows its choice."""

LONG_ROWS, LONGEST = (2, 3, 4, 5, 7, 8, 16, 19), 80
"""Blocks of rows of which each block is tried, and of the longest that is."""

PICKS: dict[str, tuple[str, str, Callable[..., Any]]] = {
    slug: (MUTANTS[slug].rule, slug, MUTANTS[slug].changes["pick"])
    for slug in (
        "v2-weight-scale-of-both",
        "v2-activation-scale-of-both",
        "v2-whichever-is-set",
        "v2-scales-added",
    )
} | {
    "v2-scales-added-as-floats": (
        "Q8A8-LAY-5",
        "v2-scales-added",
        lambda xw, xa, yw, ya: (xw.astype(np.float64) + xa, yw.astype(np.float64) + ya),
    ),
    "v2-fields-exchanged": ("Q8A8-LAY-3", "v2-fields-exchanged", lambda _xw, xa, yw, _ya: (xa, yw)),
    "v2-y-unscaled": ("Q8A8-DOT-3", "y-scale-unused", lambda xw, _xa, _yw, ya: (xw, np.ones_like(ya))),
}
"""Wrong choices of the two scales: rule, cause and step."""


def _bits(h: Array) -> Array:
    return np.asarray(h, np.float16).view(np.uint16)


TAKEN: dict[str, tuple[str, Choice]] = {
    "own": ("", lambda own, _other: own),
    "other": ("the scale of the other role", lambda _own, other: other),
    "own-unless-zero": (
        "the scale of the other role where its own is zero",
        lambda own, other: np.where(own == 0, other, own),
    ),
    "own-unless-negative": (
        "the scale of the other role where its own is negative",
        lambda own, other: np.where(own < 0, other, own),
    ),
    "other-unless-zero": (
        "the scale of the other role where that is not zero",
        lambda own, other: np.where(other == 0, own, other),
    ),
    "own-with-the-other-sign": (
        "its own scale with the sign of that of the other role",
        np.copysign,
    ),
    "larger": ("the larger one of both scales", np.maximum),
    "smaller": ("the smaller one of both scales", np.minimum),
    "sum": ("the sum of both scales", np.add),
    "sum-of-floats": ("the sum of both scales", lambda own, other: own.astype(np.float64) + other),
    "own-or-other-bits": (
        "each bit that is set in one of both scales",
        lambda own, other: (_bits(own) | _bits(other)).view(np.float16),
    ),
}
"""Which of the two scales of a block is used, in words and as a step."""

OF_BOTH = ("zero", "sign", "larger", "smaller", "sum", "bits")
"""Parts of the names of those to which the scale that must be ignored matters beside the right one."""


def _picks() -> Iterator[tuple[str, str, Callable[..., Any]]]:
    """Yield choices of scales, by row: a name, a sentence and the step."""
    for (x, (words_x, of_x)), (y, (words_y, of_y)) in itertools.product(TAKEN.items(), repeat=2):
        texts = [f"of {side} {words} is used" for side, words in (("x", words_x), ("y", words_y)) if words]

        def pick(xw: Array, xa: Array, yw: Array, ya: Array, x: Choice = of_x, y: Choice = of_y) -> Any:  # noqa: ANN401 - two arrays
            return x(xw, xa), y(ya, yw)

        sentence = "; ".join(texts)
        yield f"{x} of x, {y} of y", f"{sentence[:1].upper()}{sentence[1:]}.", pick


def fields(bench: Bench) -> Iterator[Measured]:
    """Find which scales of version 2 blocks are used, and whether the others have an influence."""
    if bench.function != calls.DOT_REAL:
        return
    tried, choice = _chosen(bench)
    if choice:
        yield _as_fact(bench, next(one for one in tried if not matches(Model(), one)), choice)
    if not all(matches(Model(), one) for one in tried):
        return
    yield from _at_places(bench)


def _at_places(bench: Bench) -> Iterator[Measured]:
    """Find blocks at some places of rows that take other scales."""
    looked: dict[int, dict[tuple[Any, ...], Array]] = {}
    choices: dict[str, tuple[Any, ...]] = {}

    def ask(nb: int) -> dict[tuple[Any, ...], Array]:
        if nb not in looked:
            looked[nb] = {}
            for block in range(nb):
                if choice := _chosen(bench, nb, block)[1]:
                    choices.setdefault(choice[0], choice)
                    looked[nb].setdefault((choice[0],), np.zeros(nb, np.bool_))[block] = True
        return looked[nb]

    for nb in LONG_ROWS:
        ask(nb)
    for name, choice in [*choices.items()]:
        if where := find_rule(*seen_of((name,), dict(looked), ask), LONGEST):
            nb = next(nb for nb in sorted(looked) if where.holds(nb).any())
            yield _as_fact(bench, _real(bench, PRIMES, nb, int(np.argmax(where.holds(nb)))), choice, where)
    if not choices:
        yield from _unused(bench)


def _chosen(bench: Bench, nb: int = 1, block: int = 0) -> tuple[list[CallResult], tuple[Any, ...] | None]:
    """Return the calls that show which scales a block takes, and the choice; None where it is right."""
    tried = []
    for scales in TRIED:
        tried.append(_real(bench, scales, nb, block))
        if nb > 1 and matches(Model(), tried[0]):
            return tried, None
    if all(matches(Model(), one) for one in tried):
        return tried, None
    choices = [(fact, rule, slug, MUTANTS[slug].sentence, pick) for fact, (rule, slug, pick) in PICKS.items()]
    for fact, sentence, pick in _picks():
        rule = "Q8A8-LAY-5" if any(part in fact for part in OF_BOTH) else "Q8A8-DOT-9"
        choices.append((fact, rule, "", sentence, pick))
    given = (one for one in choices if all(matches(Model(pick=one[-1]), call) for call in tried))
    return tried, next(given, None)


def _as_fact(bench: Bench, shown: CallResult, choice: tuple[Any, ...], where: Rule | None = None) -> Measured:
    """Return the fact that other scales are used, in all blocks or in those of some places."""
    fact, rule, slug, sentence, pick = choice
    bench.unused = 0 if rule == "Q8A8-LAY-5" else None
    if where:
        text = where.text("block", "nb")
        sentence, slug = f"In {text}: {sentence[0].lower()}{sentence[1:]}", ""
    return bench.measured(
        "version-2-field",
        {"as": fact, **({"blocks": where.to_json()} if where else {})},
        sentence,
        cause=slug,
        like="v2-whichever-is-set",
        rule=rule,
        evidence=[bench.evidence(shown.call, "scales 3 and 5 of x, 7 and 11 of y: 3 · 11 is right")],
        changes={"pick": _at(pick, where) if where else pick},
    )


def _at(pick: Callable[..., Any], where: Rule) -> Callable[..., Any]:
    """Return a choice of scales that is made at some places of a row alone."""

    def of(xw: Array, xa: Array, yw: Array, ya: Array) -> tuple[Array, Array]:
        is_there = where.holds(len(xw))
        x, y = pick(xw, xa, yw, ya)
        return np.where(is_there, x, xw), np.where(is_there, y, ya)

    return of


def _real(bench: Bench, scales: Sequence[float], nb: int = 1, block: int = 0) -> CallResult:
    """Make a call for 1 by 1 in one block of `nb`, under four scales."""
    x, y = (np.zeros(nb, layout.BLOCK_Q8_A8_V2) for _ in "xy")
    for number, value in enumerate(scales):
        side = (x, x, y, y)[number]
        side[("weight_scale", "activation_scale")[number % 2]] = OTHERS[number]
        side[("weight_scale", "activation_scale")[number % 2]][block] = value
    x["weight_qs"][block, bench.element] = y["weight_qs"][block, bench.element] = 1
    return bench.answer(calls.dot_real(x, y, s=bytes(4)))


def _unused(bench: Bench) -> Iterator[Measured]:
    """Find blocks in which what the unused scale holds has an influence: it is multiplied by 0, say."""
    nb = 16
    blocks = [
        block
        for block in range(nb)
        if not matches(Model(), _real(bench, (1, float("inf"), float("nan"), 1), nb, block))
    ]
    if blocks:
        shown = _real(bench, (1, float("inf"), float("nan"), 1), nb, blocks[0]).call
        yield bench.measured(
            "unused-scale-has-influence",
            {"blocks": blocks, "of": nb},
            f"In blocks {', '.join(map(str, blocks))} of {nb} an unused scale has an influence: "
            "an infinity or a NaN in it comes back.",
            rule="Q8A8-LAY-5",
            like="v2-scales-added",
            evidence=[
                bench.evidence(
                    shown, f"1 · 1 in block {blocks[0]} of {nb}, whose unused scales are not finite"
                )
            ],
            when=_has_unused,
        )


def _has_unused(result: CallResult) -> bool:
    """Return whether a call has unused scales that are not finite."""
    x, y = (
        layout.as_blocks(result.call.buffers[i].data, layout.BLOCK_Q8_A8_V2) for i in result.call.spec.inputs
    )
    unused = np.concatenate([x["activation_scale"], y["weight_scale"]])
    return not bool(np.isfinite(unused).all())
