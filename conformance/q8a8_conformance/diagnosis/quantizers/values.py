"""Failed calls of a quantizer that its measured arithmetic does not explain: single values, and state.

A failed call is made again first. If its result is another one now, it depended on more than its inputs. Else
the blocks that are wrong are compared: where all of them have one amax and a wrong scale, or all wrong codes
are those of one scaled value, that value is the fact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8.recipe import RECIPES, apply_recipe
from q8a8_conformance.diagnosis.facts import Evidence, Fact
from q8a8_conformance.diagnosis.quantizers.inverse import inverse_facts
from q8a8_conformance.diagnosis.quantizers.inverse_ulps import ulp_facts
from q8a8_conformance.diagnosis.quantizers.laws import SECONDS, SHORT, law_facts
from q8a8_conformance.reveal.asking import NoAnswerError
from q8a8_conformance.reveal.quantizers.calls import BLOCK, QuantizerCalls, elements_of, written

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from q8a8_conformance.diagnosis.quantizers.laws import Steps
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.results.observations import CallResult, Failure
    from q8a8_conformance.reveal.quantizers.model import QuantizerModel

F32 = np.float32
DESIGN = RECIPES["design"]
FEW = 4
"""Values that a fact names at most; each is shown to be wrong by itself."""

SEARCHED = 0.8
"""The part of the time in which laws are searched for; the rest is for what follows from them."""

AGAIN = 12
"""Failed calls that are made again."""


def value_facts(
    calls: QuantizerCalls,
    failed: Sequence[Failure],
    model: QuantizerModel,
    steps: Steps,
    seconds_left: Callable[[], float],
) -> list[Fact]:
    """Return what failed calls that nothing else explains have in common.

    `model` and `steps` are those of `law_facts`; `seconds_left` returns how much time there is.
    """
    if state := state_facts(calls.make, failed):
        return state
    # Outside the domain no value is wrong.
    wrong = [_wrong_blocks(f) for f in failed if np.isfinite(elements_of(f.call)).all()]
    if not wrong:
        return []
    near = ulp_facts(calls, failed)
    # (What explains all calls is only said in other words by a law.)
    seconds = min(SECONDS if _unexplained(near, failed) else SHORT, SEARCHED * seconds_left())
    measured = law_facts(calls, failed, model, steps, seconds)
    if _unexplained(near, failed) < _unexplained(measured, failed):
        measured = near
    if (left := _unexplained(measured, failed)) and _unexplained(
        other := inverse_facts(calls, failed), failed
    ) < left:
        measured = other
    if measured:
        return measured
    scales, codes = (np.concatenate(part) for part in zip(*wrong, strict=True))
    if scales.all() and scales.size:
        return _of_values(calls, failed, of_scales=True)
    if not scales.any() and codes.any():
        return _of_values(calls, failed, of_scales=False)
    return []


def _unexplained(facts: Sequence[Fact], failed: Sequence[Failure]) -> int:
    """Count the failed calls that facts do not explain."""
    return sum(not any(fact.explains(one) for fact in facts) for one in failed)


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


def _amaxes(failure: CallResult) -> Array:
    """Return the amax of the blocks whose scale is wrong."""
    x, want, got = _blocks(failure)
    return np.asarray(np.abs(x[want.scales != got.scales]).max(axis=1, initial=F32(0)))


def _scaled(failure: CallResult) -> Array:
    """Return |f32(x · inv)| of the elements whose code is wrong."""
    x, want, got = _blocks(failure)
    with np.errstate(all="ignore"):
        scaled = np.abs(x * (F32(127) / np.abs(x).max(axis=1, keepdims=True)))
    return np.asarray(scaled[want.codes != got.codes])


def _of_values(calls: QuantizerCalls, failed: Sequence[Failure], *, of_scales: bool) -> list[Fact]:
    """Return the fact that few values of amax have a wrong scale, or few of x · inv a wrong code; or none."""
    wrong_values = _amaxes if of_scales else _scaled
    values = np.unique(np.concatenate([wrong_values(failure) for failure in failed]))
    if not 0 < values.size <= FEW or not all(_is_wrong(calls, v, of_scales=of_scales) for v in values):
        return []
    shown = next(failure for failure in failed if wrong_values(failure).size)
    x, want, got = _blocks(shown)
    if of_scales:
        fact, name, rule = "scale-of-one-amax", "amax", "Q8A8-QNT-2"
        b = int(np.argmax(want.scales != got.scales))
        expected, actual = int(want.scales[b]), int(got.scales[b])
        text = f"expected the scale 0x{expected:04x}, got 0x{actual:04x}"
        numbers = ", ".join(map(repr, values.tolist()))
        sentence = f"The scale of amax = {numbers} is another half than the nearest to amax / 127: {text}."
        fix = "Convert every scale alike."
    else:
        fact, name, rule = "code-of-one-value", "scaled", "Q8A8-QNT-4"
        b, j = np.argwhere(want.codes != got.codes)[0].tolist()
        expected, actual = int(want.codes[b, j]), int(got.codes[b, j])
        text = f"element {x[b, j]} of block {b}: expected {expected}, got {actual}"
        numbers = ", ".join(f"{v:g}" for v in values.tolist())
        sentence = f"Of all products x * inv only those of magnitude {numbers} are rounded otherwise."
        fix = "Round every product alike, halves away from zero."
    where = {name: values.tolist(), "expected": expected, "actual": actual}
    evidence = (Evidence(shown.call, shown.expected, shown.outputs, text),)

    def explains(result: CallResult) -> bool:
        is_judged = result.call.function == calls.function and hasattr(result, "expected")
        return is_judged and bool(np.isin(wrong_values(result), values).all())

    named = (fact, where, rule, sentence, fix, "")
    return [Fact(*named, function=calls.function, evidence=evidence, explains=explains)]


def _is_wrong(calls: QuantizerCalls, value: Array, *, of_scales: bool) -> bool:
    """Return whether one value of amax has a wrong scale, or one of x · inv a wrong code, by itself."""
    # Under an amax of 127 elements are the products themselves.
    x = np.resize(np.array([value] if of_scales else [127, value, -value], F32), BLOCK)
    got = calls(x)
    h, q, _ = apply_recipe(calls.shape(x), DESIGN)
    wrong = got.scales != h.view(np.uint16)
    return bool(wrong.any()) if of_scales else bool((got.codes != q)[~wrong].any())


_ELSEWHERE = "other bytes in "
"""How a message begins that names another process in which a call was made."""


def _state(failure: Failure, actual: tuple[bytes, ...], explained: Sequence[Call]) -> Fact:
    again, now = ("right",) * 2 if actual == failure.expected else ("other", "another wrong result")
    said = f"The same call gave one result in its place among other calls, and {now} when it was made again."
    place = failure.message.removeprefix(_ELSEWHERE)
    if again == "right" and place != failure.message:
        said = f"The same call gave a wrong result in {place}, and the right one in another process."
    return Fact(
        "depends-on-more-than-inputs",
        {"again": again},
        "Q8A8-ENV-2",
        said,
        "Keep no state between calls, and let no address, count, mode or thread decide anything.",
        "",
        function=failure.call.function,
        evidence=(Evidence(failure.call, failure.expected, failure.outputs, f"made again: {now}"),),
        explains=lambda r: any(r.call is call for call in explained),
    )
