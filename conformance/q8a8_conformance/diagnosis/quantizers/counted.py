"""Which elements of a vector, or of a block, count in its amax, by their sign and place, measured.

In a vector of one sign whose magnitudes fall in steps, the scale tells the largest element that counts: those
before it do not. Every element of short vectors, and some of longer ones, are the largest once. The places
that do not count are a rule (`q8a8_conformance.reveal.places`), of each sign its own.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.diagnosis.quantizers.counted_trees import Lost, tree_of
from q8a8_conformance.diagnosis.quantizers.effect import LARGEST_CODE, Effect, Given, quantized
from q8a8_conformance.reveal.places import Seen, find_rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from q8a8_conformance.diagnosis.quantizers.cases import Case
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.reveal.places import Rule
    from q8a8_conformance.reveal.quantizers.calls import QuantizerCalls

F32 = np.float32

SIZES = (*range(1, 13), 15, 16, 17, 20, 24, 31, 32, 33, 40, 64, 65, 100, 129, 257, 300, 600, 1031)
"""Elements of the vectors that are looked at."""

DENSE = 40
"""Elements of a vector of which every one is the largest once."""

ENDS = (0, 1, 2, 3, 4, 7, 8, 15, 16, 31, 32)
"""Places of longer ones, from their beginning, from their end, and about their last multiples."""

STEP, STEPS = 1.04, 120
"""By how much a magnitude is less than the one before, and how many steps there are."""

LONGEST = 2000

FIX = "Take one amax over the magnitudes of all elements, however many they are."


def counted_effects(calls: QuantizerCalls) -> Iterator[Effect]:
    """Yield that elements do not count in amax, by the rules that were measured."""
    rules: list[Rule | None] = []
    trees = []
    for sign in (1, -1):
        found = {n: _uncounted(calls, n, sign) for n in SIZES}
        trees.append(tree_of(found))
        seen = Seen({n: of for n, (of, _) in found.items()}, {n: known for n, (_, known) in found.items()})
        rules.append(find_rule(seen, partial(_uncounted, calls, sign=sign), LONGEST))
    positive, negative = rules
    if positive is None and negative is None:
        one, other = trees
        if one and other and one[:2] == other[:2]:
            gives = partial(_by_tree, lost=one)
            yield Effect("place-not-counted", one.where, one.text, "Q8A8-QNT-1", FIX, gives)
        return
    if positive is not None and negative is not None and positive == negative:
        text = f"{_begun(positive)} not count in amax"
        yield _effect(text, positive, negative, {})
        yield _effect(f"{text}, for the scale alone", positive, negative, {"part": "scale"})
        return
    texts = [
        f"{_begun(rule)} not count in amax where {'they are' if rule.is_plural else 'it is'} {name}"
        for rule, name in ((positive, "positive"), (negative, "negative"))
        if rule is not None
    ]
    text = "; ".join(texts)
    yield _effect(text, positive, negative, {})
    if positive is None and negative is not None:
        text = f"{_begun(negative, 'is', 'are')} compared without the absolute value in amax"
        yield _effect(text, positive, negative, {"signed": True})


def _begun(rule: Rule, one: str = "does", many: str = "do") -> str:
    text = rule.text("element", "size")
    where = text.partition(" where ")
    verb = many if rule.is_plural else one
    return f"{where[0][0].upper()}{where[0][1:]}{f', where {where[2]},' if where[2] else ''} {verb}"


def _effect(text: str, positive: Rule | None, negative: Rule | None, data: dict[str, Any]) -> Effect:
    where = {name: rule.to_json() for name, rule in (("positive", positive), ("negative", negative)) if rule}
    gives = partial(_without, positive=positive, negative=negative, **data)
    return Effect("place-not-counted", where | data, text, "Q8A8-QNT-1", FIX, gives)


def _by_tree(case: Case, lost: Lost) -> Given:
    if lost.counted is not None:
        seen = np.abs(case.x[:, lost.counted(case.size)])
        return quantized(case, np.asarray(seen.max(axis=1, initial=F32(0)), F32))
    if lost.sizes is None or not lost.sizes(np.array(case.size)):
        return case.right.copy(), np.ones(case.right.shape, np.bool_)
    # (Which count is not known: it must be the amax of some that do.)
    h = np.ascontiguousarray(case.got[:, :2]).view(np.float16)
    sizes = np.abs(case.x)
    fits = (sizes / F32(LARGEST_CODE)).astype(np.float16) == h
    return quantized(case, np.where(fits, sizes, 0).max(axis=1, initial=F32(0)).astype(F32))


def _without(
    case: Case, positive: Rule | None, negative: Rule | None, *, signed: bool = False, part: str = ""
) -> Given:
    nothing = np.zeros(case.size, np.bool_)
    held = [nothing if rule is None else rule.holds(case.size) for rule in (positive, negative)]
    hidden = np.where(case.x < 0, held[1], held[0])
    least = case.x if signed else F32(0)
    amax = np.asarray(np.where(hidden, least, np.abs(case.x)).max(axis=1), F32)
    h = (amax / F32(LARGEST_CODE)).astype(np.float16) if signed else None
    data, known = quantized(case, amax, h=h)
    if part == "scale":
        data[:, 2:], known[:, 2:] = case.right[:, 2:], True
    # (The sign of a zero depends on the order of comparisons.)
    return data, known & ~(signed & (amax == 0))[:, np.newaxis]


def _uncounted(calls: QuantizerCalls, n: int, sign: int) -> tuple[Array, Array]:
    """Return bool [n] twice: which elements of a sign do not count, and of which that is known."""
    out, known = np.zeros((2, n), np.bool_)
    if n <= DENSE:
        some = list(range(n))
    else:
        ends = {*ENDS, *(n - 1 - e for e in ENDS)}
        ends |= {n // m * m + e for m in (8, 16, 32, 64, 128, 256) for e in (-1, 0)}
        some = sorted(e for e in ends if 0 <= e < n)
    left = [*some[::-1]]
    while left:
        first = left.pop()
        # (Those behind it follow in turns, so that what does not count is passed over.)
        order = [first, *[e for e in some if e != first and not known[e]], *np.flatnonzero(known & ~out)]
        sizes = np.full(n, 127 * STEP**-STEPS)
        steps = np.minimum(np.arange(len(order)), STEPS - 2)
        sizes[order] = 127 * STEP ** -steps.astype(float)
        h = calls((sign * sizes).astype(F32)).scales.view(np.float16)[0]
        with np.errstate(all="ignore"):
            # (A negative scale is that of a signed element: no magnitude counts.)
            at = int(np.rint(np.log(1 / np.float64(h)) / np.log(STEP))) if 0 < h < np.inf else n
        passed = order[: min(at, len(order))]
        known[passed], out[passed] = True, True
        if at < min(len(order), STEPS - 2):
            known[order[at]] = True
        left = [e for e in left if not known[e]]
    return out, known
