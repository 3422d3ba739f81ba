"""Facts about a wrong matrix product: what a device computes in the place of the specification's arithmetic.

`reveal.products.revealed` measures it; each step that is not the specification's is a fact, with the
shapes in which it is so. A failed call has a fact as its cause where its wrong outputs, all in these shapes,
are those of the arithmetic but for the roundings of its sums.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from q8a8 import layout
from q8a8.errors import Q8A8Error
from q8a8.matmul import mul_mat
from q8a8_conformance.diagnosis.causes import FIXES, order_cause
from q8a8_conformance.diagnosis.dots.orders import REVEALED
from q8a8_conformance.diagnosis.facts import Evidence, Fact, remembered
from q8a8_conformance.diagnosis.products.judged import accounts_for_all, jointly
from q8a8_conformance.faults.catalogue import MUTANTS
from q8a8_conformance.inputs import calls
from q8a8_conformance.results.expected_product import matrices_of, outputs_of
from q8a8_conformance.reveal.products.regimes import BFLOAT, FLOAT, HALF
from q8a8_conformance.reveal.products.revealed import BRIEF, reveal_product

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.results.observations import CallResult, Failure
    from q8a8_conformance.reveal.products.regimes import Regime, RevealedProduct
    from q8a8_conformance.reveal.quantizers.calls import AnySession

F16, F32 = np.float16, np.float32

OF_ACTIVATIONS = "Q8A8-MUL-4"

RULES = {
    **dict.fromkeys(("activations", "recipe", "round-half-even", "activation-scale"), OF_ACTIVATIONS),
    "accumulator": "Q8A8-MUL-5",
    "weights": "Q8A8-MUL-5",
    "fp16-scale-product": "Q8A8-MUL-5",
    "not-written": "Q8A8-MUL-6",
}
"""The rule that each kind of name breaks."""

RIGHT = {"accumulator:float32", "accumulator:float64", "recipe:design"}
"""Names that break none."""

QUANTIZE = MUTANTS["matrix-float-activations"].fix
PRODUCT_FIXES = {
    "activations": QUANTIZE,
    "activation-scale": QUANTIZE,
    "accumulator": MUTANTS["matrix-half-sum"].fix,
    "weights": "Multiply integer codes, and the exact product of the two scales, not rounded weights.",
    "not-written": MUTANTS["matrix-columns-lost"].fix,
}

MEASURED = "order:measured"
"""The name of an order that the catalogue does not have."""

CHANCE = 0.1
"""The part of some failed calls that a fact explains at least."""

FAR = 17
"""An element that shares no scale of half a block with the first."""

PRECISIONS = {"float16": "half precision"}


def product_facts(
    session: AnySession,
    failures: Sequence[Failure],
    revealed: RevealedProduct | None = None,
    known: Sequence[Fact] = (),
) -> list[Fact]:
    """Find out what a matrix product computes in the place of what it should; `revealed` where it is known.

    `known` are facts about some outputs: what is found is then looked for in all others, for the shapes in
    which it is seen may be those without wrong outputs of that kind.

    Returns
    -------
    list of Fact
        Those that explain a failed call; the activations first.
    """
    revealed = revealed or reveal_product(session, BRIEF)
    facts: dict[str, Fact] = {}
    for regime in revealed.regimes:
        for name in regime.names:
            kind = name.partition(":")[0]
            if name in RIGHT or kind not in RULES or name == "activations:unknown":
                continue
            fact = _fact(session, regime, name, kind, is_alone=not known)
            if name in facts:
                # The same elsewhere: one fact, of several shapes.
                held = facts[name]
                shapes = [*held.where["shapes"], *fact.where["shapes"]]
                fact = replace(
                    held,
                    where={**held.where, "shapes": shapes},
                    explains=partial(_any_explains, (held, fact)),
                    outputs=partial(_any_accounts, (held, fact)),
                )
            facts[name] = fact
    # (What explains few of them fits by chance.)
    least = max(CHANCE * len(failures), 1)
    together = jointly([*known, *facts.values()], failures)[len(known) :]
    return [fact for fact in together if len(fact.explained(failures)) >= least]


def product_orders(session: AnySession) -> list[tuple[str, str, int]]:
    """Return the orders of a right product that no order of the catalogue explains, shape by shape.

    Each with its slug, where it is so with the order in words, and the random results that it explains; empty
    where some result is left unexplained.
    """
    revealed = reveal_product(session, BRIEF)
    orders = [(regime, regime.names[-1]) for regime in revealed.regimes if regime.dot is not None]
    if len(orders) < len(revealed.regimes) or any(regime.unexplained for regime, _ in orders):
        return []
    return [
        (
            _cause(name),
            f"{regime.where}: {regime.dot.words if regime.dot else ''}",
            regime.of,
        )
        for regime, name in orders
    ]


def _cause(name: str) -> str:
    """Return the slug of an order, or of another way to add, by its name in a regime."""
    kind, _, order = name.rpartition(":")
    return REVEALED if name == MEASURED else order_cause(order) if kind else name


def _any_explains(facts: Sequence[Fact], result: CallResult) -> bool:
    return any(fact.explains(result) for fact in facts)


def _any_accounts(facts: Sequence[Fact], result: Failure) -> Array:
    return np.asarray(np.any([fact.outputs(result) for fact in facts if fact.outputs is not None], axis=0))


def _fact(session: AnySession, regime: Regime, name: str, kind: str, *, is_alone: bool) -> Fact:
    """Return the fact that a name is in a regime; beside other facts, wherever it is not their matter."""
    accounts = _accounts(regime, is_everywhere=not is_alone)
    where = f": {regime.where}" if is_alone else ""
    evidence = tuple(_evidence(session, regime, kind))
    return Fact(
        name,
        {
            "shapes": [regime.to_json()["where"]],
            "error": regime.error if np.isfinite(regime.error) else None,
            "quantization_error": regime.quantization_error,
        },
        RULES[kind],
        f"{_sentence(regime, name, kind)}{where}{_cost(regime)}.",
        PRODUCT_FIXES.get(kind) or FIXES.get(name, QUANTIZE),
        "",
        function=calls.MUL_MAT,
        evidence=evidence,
        explains=remembered(partial(accounts_for_all, accounts)),
        outputs=accounts,
    )


def _sentence(regime: Regime, name: str, kind: str) -> str:
    """Describe what is computed."""
    kept, form = regime.activations, name.partition(":")[2]
    if regime.longer and name in regime.longer[1].names:
        kept = regime.longer[1]
    if RULES[kind] == OF_ACTIVATIONS and kept is not None:
        return kept.words[0].upper() + kept.words[1:]
    if kind == "weights" and regime.weights is not None:
        return f"Weights {regime.weights.words}"
    return {
        "accumulator": f"Sums are kept in {PRECISIONS.get(form, form)}"
        + (f", and past 65504 they are {regime.past_half}" if regime.past_half else ""),
        "weights": f"Weights are made {'halves' if form == 'float16' else form} before they are multiplied",
        "fp16-scale-product": "The two scales are multiplied in half precision",
    }.get(kind, f"The outputs are not those of the specification ({name})")


def _cost(regime: Regime) -> str:
    """Describe the error beside that of quantization itself."""
    if not regime.quantization_error or not np.isfinite(regime.error):
        return ""
    return (
        f"; the error is {regime.error:.1e} of the mean output, "
        f"that of quantization itself {regime.quantization_error:.1e}"
    )


def _evidence(session: AnySession, regime: Regime, kind: str) -> Iterator[Evidence]:
    """Yield the smallest call of a regime's shape that shows a name, if it does."""
    x, codes = np.zeros((1, 32), F32), np.zeros((1, 1, 32), np.int8)
    x[0, 0] = 127
    if kind == "weights":
        # Where they stay floats, their rounding is not seen apart from that of the sums.
        if regime.weights is not None:
            codes[0, 0, :2] = 37, 40
            yield from _shown(session, regime, codes, x, "127 * 37, beside a weight of 40,")
        return
    code, element = (1, 37.3) if RULES[kind] == OF_ACTIVATIONS else (127, 127)
    x[0, FAR] = 40.5 if kind in {"recipe", "round-half-even"} else element
    codes[..., FAR] = code
    yield from _shown(session, regime, codes, x, f"{code} * {x[0, FAR]:g}, beside an element of 127,")


def _shown(session: AnySession, regime: Regime, codes: Array, x: Array, what: str) -> Iterator[Evidence]:
    """Yield a product of a block of codes and a row of x, repeated to a regime's shape, if it is wrong."""
    place = regime.place
    w = np.repeat(layout.pack(np.ones((1, 1), F16), codes), place.m, axis=0)
    call = calls.mul_mat(w, np.repeat(x, place.n, axis=0))
    actual = tuple(bytes(out) for out in session.call(call).outputs)
    expected = mul_mat(w, np.repeat(x, place.n, axis=0)).astype("<f4")
    at = place.rows[0] * place.m + place.columns[0]
    got, want = np.frombuffer(actual[0], "<f4")[at], expected.reshape(-1)[at]
    if got != want:
        text = f"{what} is {got:.9g}, expected {want:.9g}"
        yield Evidence(call, (expected.tobytes(),), actual, text)


def _accounts(regime: Regime, *, is_everywhere: bool) -> Callable[[Failure], Array]:
    """Return a function that says which wrong outputs of a failed call are those of a regime's arithmetic."""
    kinds = ("accumulator",) if regime.is_of_grids else ("accumulator", "weights")
    formats = {name.partition(":")[2] for name in regime.names if name.startswith(kinds)}
    u = HALF if "float16" in formats or "fp16-scale-product" in regime.names else FLOAT
    if "bfloat16" in formats:
        u = BFLOAT
    kept = regime.activations

    def accounts(result: Failure) -> Array:
        call = result.call
        (w, x), held = matrices_of(call), bytes(call.buffers[2].data)
        actual, expected, before = (
            outputs_of(call, bytes(side)) for side in (result.outputs[0], result.expected[0], held)
        )
        wrong = np.asarray(actual.view(np.uint32) != expected.view(np.uint32))
        wrong &= is_everywhere or _inside(regime, wrong)
        if not wrong.any():
            return wrong
        if kept is None:
            return np.asarray(wrong & (actual.view(np.uint32) == before.view(np.uint32)))
        try:
            return np.asarray(wrong & regime.near(w, x, actual, u))
        except Q8A8Error:
            return np.zeros_like(wrong)

    return accounts


def _inside(regime: Regime, wrong: Array) -> Array:
    """Return which outputs, bool [n, m], belong to a regime."""
    held = regime.rows(wrong.shape[0] if regime.side == "n" else wrong.shape[1])
    if regime.across is not None:
        return np.logical_and.outer(held, regime.across.holds(wrong.shape[1]))
    return np.broadcast_to(held[:, np.newaxis] if regime.side == "n" else held, wrong.shape)
