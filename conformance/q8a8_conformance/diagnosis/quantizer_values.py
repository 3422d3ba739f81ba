"""Failed calls of a quantizer that its measured arithmetic does not explain: single values, and state.

A failed call is made again first. If its result is another one now, it depended on more than its inputs. Else
the blocks that are wrong are compared: where all of them have one amax and a wrong scale, or all wrong codes
are those of one scaled value, that value is the fact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from q8a8.recipe import quantize_blocks
from q8a8_conformance.diagnosis.facts import Evidence, Fact
from q8a8_conformance.reveal.asking import NoAnswerError
from q8a8_conformance.reveal.quantizer_calls import BLOCK, QuantizerCalls, elements_of, written

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.results.observations import CallResult, Failure

Array = NDArray[Any]

F32 = np.float32
FEW = 4
"""Values that a fact names at most; each is shown to be wrong by itself."""

AGAIN = 12
"""Failed calls that are made again."""


def value_facts(calls: QuantizerCalls, failed: Sequence[Failure]) -> list[Fact]:
    """Return what failed calls that nothing else explains have in common: one fact, or none."""
    if state := state_facts(calls.make, failed):
        return state
    # Outside the domain no value is wrong.
    wrong = [_wrong_blocks(f) for f in failed if np.isfinite(elements_of(f.call)).all()]
    if not wrong:
        return []
    scales, codes = (np.concatenate(part) for part in zip(*wrong, strict=True))
    if scales.all() and scales.size:
        return _of_amax(calls, failed, np.unique(_amaxes(failed)))
    if not scales.any() and codes.any():
        return _of_value(calls, failed, np.unique(np.concatenate([_scaled(f) for f in failed])))
    return []


def state_facts(make: Callable[[Call], tuple[bytes, ...]], failed: Sequence[Failure]) -> list[Fact]:
    """Return that failed calls depend on more than their inputs, where one is otherwise when made again."""
    try:
        again = [(failure, make(failure.call)) for failure in failed[:AGAIN]]
    except NoAnswerError:
        return []
    other = [(failure, actual) for failure, actual in again if actual != failure.outputs]
    return [_state(*other[0], [failure.call for failure, _ in other])] if other else []


def _wrong_blocks(failure: Failure) -> tuple[Array, Array]:
    """Return of the wrong blocks whether the scale is wrong, and whether a code is."""
    _, want, got = _blocks(failure)
    scales = want.scales != got.scales
    codes = (want.codes != got.codes).any(axis=1)
    return scales[scales | codes], codes[scales | codes]


def _blocks(result: CallResult) -> tuple[Array, Any, Any]:
    call = result.call
    x = elements_of(call)[: call.n]
    expected = getattr(result, "expected", result.outputs)
    want, got = (written(call.function, call.n, side) for side in (expected, result.outputs))
    return x.reshape(len(want.data), -1), want, got


def _amaxes(failed: Sequence[CallResult]) -> Array:
    """Return the amax of the blocks whose scale is wrong."""
    found = []
    for failure in failed:
        x, want, got = _blocks(failure)
        found.append(np.abs(x[want.scales != got.scales]).max(axis=1, initial=F32(0)))
    return np.concatenate(found)


def _scaled(failure: CallResult) -> Array:
    """Return |f32(x · inv)| of the elements whose code is wrong."""
    x, want, got = _blocks(failure)
    with np.errstate(all="ignore"):
        scaled = np.abs(x * (F32(127) / np.abs(x).max(axis=1, keepdims=True)))
    return np.asarray(scaled[want.codes != got.codes])


def _of_amax(calls: QuantizerCalls, failed: Sequence[Failure], amax: Array) -> list[Fact]:
    if not 0 < amax.size <= FEW or not all(
        _is_wrong(calls, np.full(BLOCK, a, F32), scale=True) for a in amax
    ):
        return []
    want, got = next((w, g) for f in failed for _, w, g in [_blocks(f)] if (w.scales != g.scales).any())
    b = int(np.argmax(want.scales != got.scales))
    text = f"expected the scale 0x{want.scales[b]:04x}, got 0x{got.scales[b]:04x}"
    values = ", ".join(f"{a!r}" for a in amax.tolist())
    where = {"amax": amax.tolist(), "expected": int(want.scales[b]), "actual": int(got.scales[b])}
    evidence = Evidence(failed[0].call, failed[0].expected, failed[0].outputs, text)
    return [
        Fact(
            calls.function,
            "scale-of-one-amax",
            where,
            "Q8A8-QNT-2",
            f"The scale of amax = {values} is another half than the nearest to amax / 127: {text}.",
            "Convert every scale alike.",
            evidence=(evidence,),
            explains=lambda r: (
                r.call.function == calls.function
                and hasattr(r, "expected")
                and bool(np.isin(_amaxes([r]), amax).all())
            ),
        )
    ]


def _is_wrong(calls: QuantizerCalls, x: Array, *, scale: bool) -> bool:
    """Return whether a short vector's scale is wrong, or its codes are under a right scale."""
    got = calls(x)
    h, q = quantize_blocks(calls.shape(x))
    wrong = got.scales != h.view(np.uint16)
    return bool(wrong.any()) if scale else bool((got.codes != q)[~wrong].any())


def _of_value(calls: QuantizerCalls, failed: Sequence[Failure], values: Array) -> list[Fact]:
    # Under an amax of 127 elements are the products themselves.
    alone = [np.resize(np.array([127, v, -v], F32), BLOCK) for v in values.tolist()]
    if not 0 < values.size <= FEW or not all(_is_wrong(calls, x, scale=False) for x in alone):
        return []
    function = calls.function
    numbers = ", ".join(f"{v:g}" for v in values.tolist())
    x, want, got = _blocks(failed[0])
    b, j = (int(i[0]) for i in np.nonzero(want.codes != got.codes))
    text = f"element {x[b, j]} of block {b}: expected {want.codes[b, j]}, got {got.codes[b, j]}"
    return [
        Fact(
            function,
            "code-of-one-value",
            {"scaled": values.tolist(), "expected": int(want.codes[b, j]), "actual": int(got.codes[b, j])},
            "Q8A8-QNT-4",
            f"Of all products x * inv only those of magnitude {numbers} are rounded otherwise.",
            "Round every product alike, halves away from zero.",
            evidence=(Evidence(failed[0].call, failed[0].expected, failed[0].outputs, text),),
            explains=lambda r: (
                r.call.function == function
                and hasattr(r, "expected")
                and bool(np.isin(_scaled(r), values).all())
            ),
        )
    ]


def _state(failure: Failure, actual: tuple[bytes, ...], explained: Sequence[Call]) -> Fact:
    now = "right" if actual == failure.expected else "another wrong result"
    return Fact(
        failure.call.function,
        "depends-on-more-than-inputs",
        {"again": "right" if actual == failure.expected else "other"},
        "Q8A8-ENV-2",
        f"The same call gave one result in its place among other calls, and {now} when it was made again.",
        "Keep no state between calls, and let no address, count, mode or thread decide anything.",
        evidence=(Evidence(failure.call, failure.expected, failure.outputs, f"made again: {now}"),),
        explains=lambda r: any(r.call is call for call in explained),
    )
