"""What a product keeps of the call before: two calls that differ, whose inputs explain the second's outputs.

The matrices are exact by construction. Which inputs of the first call the second one may have, in which
outputs or blocks, is tried in turn. Then the first call is made with another size, or address, or with some
of the same elements: where the second one is right then, these decide.
"""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from q8a8.matmul import mul_mat
from q8a8_conformance.diagnosis.dots.narrow_keys import narrow_key
from q8a8_conformance.diagnosis.facts import Evidence, Fact, only, remembered
from q8a8_conformance.diagnosis.products.judged import accounts_for_all, wrong_outputs
from q8a8_conformance.diagnosis.products.stale import LARGER, find_stale, forget, pair_of
from q8a8_conformance.diagnosis.products.terms import sides_of, terms_of
from q8a8_conformance.inputs import calls, mul_mat_rows
from q8a8_conformance.inputs.arrays import Array
from q8a8_conformance.results.expected_product import outputs_of
from q8a8_conformance.results.observations import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from q8a8_conformance.diagnosis.dots.narrow_keys import NarrowKey
    from q8a8_conformance.diagnosis.facts import Explains
    from q8a8_conformance.diagnosis.products.rules import OutputRule
    from q8a8_conformance.diagnosis.products.stale import Stale
    from q8a8_conformance.results.observations import CallResult
    from q8a8_conformance.reveal.quantizers.calls import AnySession

FACT, RULE = "depends-on-calls-before", "Q8A8-ENV-2"
FIX = "Keep nothing between calls: quantize x, and read w, in every call."

SHAPES = ((5, 3, 4), (9, 1, 6), (1, 4, 2), (17, 9, 5))
"""m, n and blocks of a row of the two calls; what is kept may depend on the shape."""

TRIED = 10
"""Shapes of calls that are made after others."""

MEMBERS = 40
"""Failed calls, at most, that are made again."""

HELD = {
    "the quantized values of x": ("x", (True, True)),
    "the codes of x": ("x", (True, False)),
    "the scales of x": ("x", (False, True)),
    "the blocks of w": ("w", (True, True)),
    "the codes of w": ("w", (True, False)),
    "the scales of w": ("w", (False, True)),
}
"""What may be kept: a side, and whether it is its codes and its scales."""

_PLACES = {
    "": (slice(None), slice(None), slice(None)),
    " in the first row of x": (slice(1), slice(None), slice(None)),
    " in the last row of x": (slice(-1, None), slice(None), slice(None)),
    " in all rows of x but the first": (slice(1, None), slice(None), slice(None)),
    " in the first row of w": (slice(None), slice(1), slice(None)),
    " in the last row of w": (slice(None), slice(-1, None), slice(None)),
    " in all rows of w but the first": (slice(None), slice(1, None), slice(None)),
    " in the first block of each row": (slice(None), slice(None), slice(1)),
    " in the last block of each row": (slice(None), slice(None), slice(-1, None)),
    " in all blocks but the first": (slice(None), slice(None), slice(1, None)),
}
"""In which terms, [n, m, nb], it may be."""

_SAME = {
    "": ("", slice(0)),
    "the matrix w": ("w", slice(None)),
    "the matrix x": ("x", slice(None)),
    "the first element of x": ("x", slice(1)),
    "the last element of x": ("x", slice(-1, None)),
    "the first block of x": ("x", slice(1)),
    "the last block of x": ("x", slice(-1, None)),
    "the first block of w": ("w", slice(1)),
    "the last block of w": ("w", slice(-1, None)),
}
"""What the two calls may have in common: which side, and which of its blocks, or of x's elements."""

Matrices = tuple[Array, Array]


def state_of_products(session: AnySession, failures: Sequence[Failure]) -> list[Fact]:
    """Return what products keep of the call before, as a fact; none where nothing is found."""
    some = sorted(failures, key=lambda one: np.prod(_shape(one)))[:MEMBERS]
    members = [one for one in some if _is_of_calls_before(session, one)]
    if not members:
        return []
    if kept := _kept_of_same_shape(session, members):
        return [kept]
    if key := narrow_key(calls.MUL_MAT, lambda call: session.call(call).outputs):
        return [_of_key(key, members)]
    shapes = [*SHAPES, *(_shape(one) for one in members)]
    stale = find_stale(session, list(dict.fromkeys(shapes))[:TRIED])
    return [_of_stale(stale, members)] if stale else []


def _kept_of_same_shape(session: AnySession, members: Sequence[Failure]) -> Fact | None:
    """Return what is kept of a call before of the same shape, as a fact; None where it has no words."""
    for shape, same in product(SHAPES, _SAME):
        before, mine = _pair(shape, same, 1)
        got = _after(session, before, mine)
        if np.array_equal(got, mul_mat(*mine)):
            continue
        other = _pair(shape, same, 3)
        both = [set(_kept(*pair, _after(session, *pair))) for pair in ((before, mine), other)]
        words = next((name for name in _names() if all(name in names for names in both)), "")
        decide = [*_deciding(session, before, mine, same), *([same] if same else [])]
        if not words or any(_is_right(session, *_pair(each, same, 1)) for each in SHAPES):
            # (What is so in some shapes, or outputs, needs a rule.)
            return None
        where = f" where {_listed(decide)} the same" if decide else ""
        sentence = f"{words[0].upper()}{words[1:]} of the call before{where}."
        call, expected = calls.mul_mat(*mine), (mul_mat(*mine).astype("<f4").tobytes(),)
        text = (
            f"after a call of other matrices, of m = {shape[0]}, n = {shape[1]} and k = {32 * shape[2]}, too"
        )
        evidence = Evidence(call, expected, (got.astype("<f4").tobytes(),), text)
        where_data = {"carries": words, "same": decide}
        return Fact(
            *(FACT, where_data, RULE, sentence, FIX, ""),
            function=calls.MUL_MAT,
            evidence=(evidence,),
            explains=only(members),
        )
    return None


def _shape(failure: CallResult) -> tuple[int, int, int]:
    return failure.call.bs, failure.call.bx, failure.call.n // 32


def _of_key(key: NarrowKey, members: Sequence[Failure]) -> Fact:
    """Return the fact that something is kept of an input under a key that is too narrow."""
    first = members[0]
    evidence = Evidence(first.call, first.expected, first.outputs, "after others; by itself it is right")
    return Fact(
        *(FACT, key.where, RULE, f"What comes of a call depends on those before it: {key.words}.", FIX, ""),
        function=calls.MUL_MAT,
        evidence=(evidence,),
        explains=only(members),
    )


def _of_stale(stale: Stale, members: Sequence[Failure]) -> Fact:
    """Return the fact that outputs contain something of a call before."""
    first = members[0]
    got, want = (outputs_of(first.call, bytes(of[0])) for of in (first.outputs, first.expected))
    i, j = np.argwhere(wrong_outputs(first))[0].tolist()
    text = f"out[{i} * m + {j}] is {got[i, j]:.9g} after other calls, {want[i, j]:.9g} after one of zeros"
    return Fact(
        *(FACT, {"outputs": stale.outputs.to_json(), "contain": stale.words}, RULE),
        f"{stale.outputs.text} {stale.words}.",
        *("Clear what a buffer holds beyond what a call writes to it, or do not read it.", ""),
        function=calls.MUL_MAT,
        evidence=(Evidence(first.call, first.expected, first.outputs, text),),
        explains=remembered(partial(_is_stale, stale.outputs, only(members))),
    )


def _is_stale(outputs: OutputRule, is_member: Explains, result: CallResult) -> bool:
    """Return whether a failed call is one of some, or all its wrong outputs are where a rule has them."""
    if not isinstance(result, Failure):
        return False
    return is_member(result) or accounts_for_all(lambda one: outputs.holds(_shape(one)), result)


def _is_right(session: AnySession, before: Matrices, mine: Matrices) -> bool:
    return np.array_equal(_after(session, before, mine), mul_mat(*mine))


def _pair(shape: tuple[int, int, int], same: str, seed: int) -> tuple[Matrices, Matrices]:
    """Return two calls' matrices, of which some part is the same."""
    before, mine = (mul_mat_rows.exact(*shape, each) for each in (seed, seed + 1))
    return _with_same(before, mine, same), mine


def _with_same(before: Matrices, mine: Matrices, same: str) -> Matrices:
    """Return matrices with a part of others, as far as there is room."""
    w, x = (each.copy() for each in before)
    side, at = _SAME[same]
    unit = 1 if "element" in same else 32
    mine_of: Array = mine[1].reshape(-1, unit) if side == "x" else mine[0].reshape(-1)
    flat: Array = x.reshape(-1, unit) if side == "x" else w.reshape(-1)
    size = min(len(mine_of[at]), len(flat[at])) if side else 0
    flat[at][:size] = mine_of[at][:size]
    return w, x


def _listed(names: Sequence[str]) -> str:
    """Return names as a list, with the verb that goes with them."""
    return f"{', '.join(names[:-1])} and {names[-1]} are" if len(names) > 1 else f"{names[0]} is"


def _is_of_calls_before(session: AnySession, failure: Failure) -> bool:
    """Return whether a failed call is right after one of zeros, or another one than after others."""
    if not _shape(failure)[2]:
        return False
    forget(session, _shape(failure))
    clean = tuple(bytes(out) for out in session.call(failure.call).outputs)
    if clean == failure.expected:
        return True
    session.call(calls.mul_mat(*pair_of(_shape(failure), LARGER)[0]))
    return tuple(bytes(out) for out in session.call(failure.call).outputs) != clean


def _after(
    session: AnySession, before: Matrices, mine: Matrices, moved: dict[str, int] | None = None
) -> Array:
    """Return the outputs of a call after another one, float32 [n, m]; `moved` are offsets of the first."""
    forget(session, (len(mine[0]), len(mine[1]), mine[0].shape[1]))
    first = calls.mul_mat(*before)
    session.call(calls.misaligned(first, moved) if moved else first)
    call = calls.mul_mat(*mine)
    return outputs_of(call, bytes(session.call(call).outputs[0]))


def _names() -> Iterator[str]:
    """Yield what may be kept, in words, the most far-reaching first."""
    yield "the outputs are those"
    yield "the sums begin with the outputs"
    yield from (f"{held}{place} are those" for held, place in product(HELD, _PLACES))


def _kept(before: Matrices, mine: Matrices, got: Array) -> Iterator[str]:
    """Yield what explains the outputs of a call, of the names."""
    old, right = mul_mat(*before), mul_mat(*mine)
    of_old, of_mine = sides_of(before), sides_of(mine)
    terms = terms_of(of_mine["w"], of_mine["x"])
    for name, (held, place) in zip(_names(), [("", "")] * 2 + list(product(HELD, _PLACES)), strict=True):
        if not held:
            gives = old if name.startswith("the outputs") else old + right
        else:
            side, (codes, scales) = HELD[held]
            sides = dict(of_mine)
            sides[side] = (of_old if codes else of_mine)[side][0], (of_old if scales else of_mine)[side][1]
            mixed = terms.copy()
            mixed[_PLACES[place]] = terms_of(sides["w"], sides["x"])[_PLACES[place]]
            gives = mixed.sum(axis=2)
        if np.array_equal(got, gives):
            yield name


def _deciding(session: AnySession, before: Matrices, mine: Matrices, same: str) -> Iterator[str]:
    """Yield what must be the same in the call before, in words."""
    w, x = before
    m, n, nb = len(w), len(x), w.shape[1]
    right = mul_mat(*mine)
    for name, offset in (("w", 34), ("x", 36), ("out", 44)):
        if np.array_equal(_after(session, before, mine, {name: offset}), right):
            yield f"the address of {name}"
    for name, shape in (("m", (m + 1, n, nb)), ("n", (m, n + 1, nb)), ("k", (m, n, nb + 1))):
        if np.array_equal(
            _after(session, _with_same(mul_mat_rows.exact(*shape, 1), mine, same), mine), right
        ):
            yield name
