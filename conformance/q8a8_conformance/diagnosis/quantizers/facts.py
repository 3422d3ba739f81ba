"""What a quantizer does wrong, as facts: each thing in which what it was measured to compute is not the rule.

`reveal.quantizers.revealed` finds what a failed quantizer computes. Every difference from the
specification is a fact here: a step of the arithmetic, the layout, whose amax a block has, elements that do
not count, and what is otherwise at some places. A fact explains a failed call if the measured quantizer gives
the call's bytes, and would not without that difference.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8.recipe import RECIPES, Recipe, defined
from q8a8_conformance.diagnosis.causes import FIXES
from q8a8_conformance.diagnosis.facts import (
    Difference,
    Evidence,
    Fact,
    left_of,
    remembered,
    without_part,
    words,
)
from q8a8_conformance.diagnosis.limits import seconds_left
from q8a8_conformance.diagnosis.measured_function import MeasuredFunction
from q8a8_conformance.diagnosis.quantizers.counted_blocks import uncounted_sentence
from q8a8_conformance.diagnosis.quantizers.evidence import candidates, shortest, show
from q8a8_conformance.diagnosis.quantizers.steps import FUSED, STEP_FIXES, STEP_RULES, named_step
from q8a8_conformance.diagnosis.quantizers.values import value_facts
from q8a8_conformance.inputs.calls import ACTIVATION, QUANTIZERS
from q8a8_conformance.results.observations import CallResult
from q8a8_conformance.reveal.quantizers.arithmetic import differences, named
from q8a8_conformance.reveal.quantizers.calls import (
    BLOCK,
    QuantizerCalls,
    as_outputs,
    elements_of,
    written,
)
from q8a8_conformance.reveal.quantizers.model import EVERY, Part, QuantizerModel
from q8a8_conformance.reveal.quantizers.revealed import reveal_quantizer
from q8a8_conformance.reveal.quantizers.structure import AS_SPECIFIED
from q8a8_conformance.reveal.quantizers.words import SHARED, part_text, place_text, ranges

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.results.observations import Failure
    from q8a8_conformance.reveal.quantizers.calls import AnySession
    from q8a8_conformance.reveal.quantizers.revealed import RevealedQuantizer

DESIGN = RECIPES["design"]

SURE = 0.9
"""The part of other blocks that a model must give, where it gives no failed call."""

TOGETHER = {
    ("floor", "1.1920928955078125e-07"): {"inverse": "1/d"},
    ("zero_test", "rounded-d"): {"half": "subnormals-flushed"},
    ("divisor", "127.5"): {"multiplier": "127.5"},
    ("divisor", "128.0"): {"multiplier": "128.0"},
    ("product", "float64"): {"rounding": "half-even"},
}
"""Steps that are one mistake with another step."""

HARMLESS = ("undefined", "saturate", "wrap", "clip-127", "clip-128")
"""Conversions that differ from each other for what no right quantizer computes."""

LAYOUTS = {
    "scale-big-endian": ("scale-big-endian", "Q8A8-LAY-1"),
    "scale-last": ("scale-last", "Q8A8-LAY-1"),
    "interleaved": ("elements-interleaved", "Q8A8-LAY-2"),
    "reversed": ("elements-reversed", "Q8A8-LAY-2"),
    "scales-first": ("scales-first", "Q8A8-LAY-2"),
    "pairs-exchanged": ("blocks-exchanged", "Q8A8-LAY-2"),
    "other": ("", "Q8A8-LAY-2"),
}

SHARING_CAUSES = {
    "row": "amax-whole-row",
    "running": "amax-carried",
    "block-before": "amax-one-late",
    "kept-for-zero": "amax-kept-for-zero",
}

PART_RULES = {
    "unwritten": "Q8A8-LAY-2",
    "unwritten-bytes": "Q8A8-LAY-2",
    "zero": "Q8A8-LAY-2",
    "block-of": "Q8A8-LAY-2",
    "codes-of": "Q8A8-LAY-2",
    "scale-of": "Q8A8-QNT-7",
    "amax-of": "Q8A8-QNT-7",
    "code-of": "Q8A8-QNT-4",
    "wraps": "Q8A8-QNT-9",
    "not-counted": "Q8A8-QNT-9",
    "other": "Q8A8-QNT-7",
}

PLACE_CAUSES = {
    "the last block where nb is odd is not written": "quantize-odd-block-lost",
    "the last block where nb >= 129 and nb % 128 = 1 is not written": "quantize-tile-tail-lost",
    "the first element does not count in amax": "amax-first-skipped",
    "the last element of every 4 does not count in amax": "amax-lane-skipped",
    "the elements beyond a multiple of 8 where size >= 9 do not count in amax": "activation-tail-unseen",
    "the elements beyond a multiple of 8 are not written": "activation-tail-unwritten",
    "every element before the last group of 32 or fewer does not count in amax": "activation-last-chunk",
    "every element from element 32 on does not count in amax": "activation-first-chunk",
    "every element from element 8192 on does not count in amax": "activation-first-8192",
    "every element where size = 32 is quantized by another recipe: design with rounding = half-even": (
        "activation-block-path"
    ),
}
"""The catalogue's names of what happens at some places, by its text."""

PART_FIXES = {
    "unwritten": "Write every block and every code: handle what the vector loop leaves over.",
    "unwritten-bytes": "Write all 34 bytes of every block: its scale and 32 codes.",
    "not-counted": "Take one amax over all elements, however many they are.",
    "recipe": "Let every path share one arithmetic.",
}
OTHER_PLACES = "Treat every place alike: the path that is taken there is wrong."


def quantizer_facts(
    session: AnySession, function: str, failures: Sequence[Failure], accepted: Iterable[str] = ()
) -> list[Fact]:
    """Find what a quantizer that has failed does wrong: the facts that explain most failed calls first.

    Recipes of the names `accepted` are right besides the specification's.
    """
    empty = _of_no_elements(failures) if function == ACTIVATION else []
    failures = [one for one in failures if one.call.n]
    if empty:
        return [*(quantizer_facts(session, function, failures, accepted) if failures else ()), *empty]
    unit = 1 if function == ACTIVATION else BLOCK
    revealed = reveal_quantizer(session, function, sorted({f.call.n // unit for f in failures})[:40])
    base = min(
        (DESIGN, *(RECIPES[name] for name in accepted)), key=lambda of: len(differences(revealed.recipe, of))
    )
    every = list(_differences(revealed, base))
    calls = QuantizerCalls(session, function)
    right = QuantizerModel(calls.is_row, base)
    shown = partial(show, function)
    measured = MeasuredFunction(function, revealed.model, right, _outputs, calls.make, shown, _alike)
    telling = partial(candidates, revealed.model, function)
    is_sure = revealed.confirmed > SURE * revealed.of
    steps = partial(_differing_steps, revealed.model, base)
    others = partial(value_facts, calls, failures, revealed.model, steps, partial(seconds_left, session))
    # (What is right at some places after all is wrong at others alone.)
    is_right = any(part.recipe == base for part in revealed.model.parts)
    is_whole = not revealed.unplaced and not is_right
    found = measured.facts(every, telling, failures, others, is_sure=is_sure, is_whole=is_whole)
    return [] if is_right and any(fact.fact == "step" for fact in found) else found


def facts_of_other(function: str, failures: Sequence[Failure], known: Sequence[Fact]) -> list[Fact]:
    """Return what is known of the other quantizer of rows, where it explains all failed calls of this one.

    They often share their code.
    """
    others = [one for one in known if {one.function, function} == {*QUANTIZERS}]
    moved = []
    for fact in others:
        explains = remembered(partial(_explains_of, fact))
        moved.append(
            replace(fact, function=function, evidence=shortest(explains, failures), explains=explains)
        )
    moved = [fact for fact in moved if fact.evidence]
    return [] if left_of(failures, moved) else moved


def _explains_of(fact: Fact, one: CallResult) -> bool:
    return fact.explains(CallResult(replace(one.call, function=fact.function), one.outputs))


def _of_no_elements(failures: Sequence[Failure]) -> list[Fact]:
    """Return what becomes of the scale of no elements, where calls with size = 0 failed."""
    empty = [one for one in failures if not one.call.n]
    if not empty:
        return []
    shown = empty[0]
    index = shown.call.spec.outputs[-1]
    got = shown.outputs[-1]
    bits = int.from_bytes(got[:2], "little")
    is_kept = got == bytes(shown.call.buffers[index].data)
    what = "is not written" if is_kept else f"is 0x{bits:04x}, not +0"
    where = {"size": 0, "written": not is_kept}
    fix = "Store the scale +0 before anything returns."
    text = f"scale 0: expected 0x0000, got 0x{bits:04x}"
    return [
        Fact(
            *("empty-scale", where, "Q8A8-QNT-9", f"With size = 0 the scale {what}.", fix, ""),
            function=ACTIVATION,
            evidence=(Evidence(shown.call, shown.expected, shown.outputs, text),),
            explains=lambda one: one.call.function == ACTIVATION and not one.call.n,
        )
    ]


def _differing_steps(model: QuantizerModel, base: Recipe, recipe: Recipe) -> Iterator[Difference]:
    """Yield in what a recipe differs, in words."""
    return _steps(replace(model, recipe=recipe), base)


def _differences(revealed: RevealedQuantizer, base: Recipe) -> Iterator[Difference]:
    model = revealed.model
    if model.layout.name != "as-specified":
        cause, rule = LAYOUTS[model.layout.name]
        fix = "Store block b at byte 34·b: its scale, then its codes in order."
        sentence = f"The bytes of a row are in another order than specified: {model.layout.name}."
        where: dict[str, Any] = {"layout": model.layout.name}
        if (order := model.layout.block_order) is not None:
            codes = [int(byte) - 2 for byte in order if byte >= 2]
            sentence = f"The codes of a block are stored in the order {ranges(codes, '-')}."
            fix, where["codes"] = "Store element j at byte 2 + j: packs work within 128-bit lanes.", codes
        named = words(sentence, cause=cause, rule=rule, fix=fix)
        yield Difference("layout", where, *named, partial(replace, layout=AS_SPECIFIED))
    if model.sharing != "own":
        named = words(
            f"A block is scaled by the amax of {SHARED[model.sharing]}.",
            cause=SHARING_CAUSES.get(model.sharing, ""),
            rule="Q8A8-QNT-7",
            fix="Take each block's amax over its own 32 elements.",
        )
        yield Difference("amax-of", {"blocks": model.sharing}, *named, partial(replace, sharing="own"))
    if not model.counted.all():
        yield _uncounted(model)
    yield from _steps(model, base)
    for part in model.parts:
        yield _of_part(model, part)


def _uncounted(model: QuantizerModel) -> Difference:
    signs = [np.flatnonzero(~of).tolist() for of in model.counted]
    where = {"positive": signs[0], "negative": signs[1]}
    both = sorted(set(signs[0]) | set(signs[1]))
    causes = {
        (31,): "amax-last-skipped",
        (0,): "amax-first-skipped",
        tuple(range(16, 32)): "amax-half-skipped",
        tuple(range(3, 32, 4)): "amax-lane-skipped",
    }
    named = words(
        uncounted_sentence(model.counted),
        cause=causes.get(tuple(both), "") if signs[0] == signs[1] else "",
        rule="Q8A8-QNT-1",
        fix="Take max |x_j| over all 32 elements of the block.",
    )
    return Difference("element-not-counted", where, *named, partial(replace, counted=EVERY))


def _steps(model: QuantizerModel, base: Recipe) -> Iterator[Difference]:
    """Yield the steps of the arithmetic that differ: one fact for a recipe that has a name."""
    recipe = model.recipe
    steps = differences(recipe, base)
    if steps and RECIPES.get(recipe.name) == recipe:
        where = {"recipe": recipe.name, "steps": {name: str(value) for name, value in steps.items()}}
        rule = "Q8A8-QNT-4" if "rounding" in steps else "Q8A8-QNT-3"
        cause = f"recipe:{recipe.name}"
        fixes = dict.fromkeys(STEP_FIXES[STEP_RULES[name]] for name in steps if name != "conversion")
        fix = FIXES.get(cause) or " ".join(fixes)
        sentence = f"It computes the recipe {recipe.name} ({recipe.source})."
        yield Difference("recipe", where, rule, sentence, fix, cause, partial(replace, recipe=base))
        return
    if steps.get("conversion") in HARMLESS:
        del steps["conversion"]
    # What brings another step with it comes first.
    steps = dict(sorted(steps.items(), key=lambda one: (one[0], str(one[1])) not in TOGETHER))
    for step, value in tuple((step, str(value)) for step, value in steps.items()):
        if step not in steps:
            continue
        right = {step: getattr(base, step)}
        where = {"step": step, "value": value}
        for other, of_other in TOGETHER.get((step, value), {}).items():
            if other in steps and str(getattr(recipe, other)) == of_other:
                right[other] = getattr(base, other)
                where[other] = of_other
                steps.pop(other, None)
        bare = named(replace(recipe, **right))
        of_step = FUSED if "rounding" in where else named_step(step, value, str(right[step]))
        yield Difference("step", where, *of_step, partial(replace, recipe=bare))


def _of_part(model: QuantizerModel, part: Part) -> Difference:
    where: dict[str, Any] = {"effect": part.effect, **part.rule.to_json()}
    rule = PART_RULES.get(part.effect, "Q8A8-QNT-4")
    if part.effect in ("unwritten", "other", "zero", "code-of") and not model.is_row:
        rule = "Q8A8-QNT-9"
    if part.lanes or model.is_row:
        of_row = {"wraps": "Q8A8-LAY-2", "not-counted": "Q8A8-QNT-1"}
        rule = "Q8A8-QNT-4" if part.effect == "zero" and part.lanes else of_row.get(part.effect, rule)
    text = part_text(part, is_row=model.is_row)
    sentence, fix = f"{text[0].upper()}{text[1:]}.", PART_FIXES.get(part.effect, OTHER_PLACES)
    cause, of_step = PLACE_CAUSES.get(text, ""), ""
    if part.recipe is not None:
        steps = differences(part.recipe, model.recipe)
        where["steps"] = {name: str(value) for name, value in steps.items()}
        if len(steps) == 1 and not cause:
            ((step, value),) = steps.items()
            rule, what, fix, of_step = named_step(step, str(value), str(getattr(model.recipe, step)))
            sentence = f"{what.rstrip('.')}, in {place_text(part, is_row=model.is_row)}."
        else:
            rule = next((STEP_RULES[name] for name in steps), rule)
    codes = [list(pair) for pair in part.codes]
    more = {"offset": part.offset, "elements": list(part.lanes), "codes": codes, "bytes": list(part.bytes)}
    where |= {name: value for name, value in more.items() if value}
    named = words(cause=cause) if cause else (rule, sentence, fix, of_step)
    return Difference(f"place-{part.effect}", where, *named, partial(without_part, part))


# Evidence, and what is explained.


def _outputs(model: QuantizerModel, call: Call) -> tuple[bytes, ...]:
    """Return the output buffers that a model gives for a call."""
    x = elements_of(call)[: call.n]
    shaped = x.reshape(-1, BLOCK) if model.is_row else x[np.newaxis]
    held = tuple(bytes(call.buffers[i].data) for i in call.spec.outputs)
    before = written(call.function, call.n, held)
    blocks = as_outputs(call.function, model.predict(shaped, before.data))
    return tuple(part + buffer[len(part) :] for part, buffer in zip(blocks, held, strict=True))


def _alike(model: QuantizerModel, result: CallResult, given: tuple[bytes, ...]) -> bool:
    """Return whether blocks differ only where the recipe leaves codes undefined."""
    if not model.is_row:
        return False
    known = defined(elements_of(result.call)[: result.call.n].reshape(-1, BLOCK), model.recipe)
    sides = [np.frombuffer(side[0], np.uint8) for side in (given, result.outputs)]
    size = 34 * len(known)
    one, other = (side[:size].reshape(-1, 34)[known] for side in sides)
    return np.array_equal(one, other) and np.array_equal(sides[0][size:], sides[1][size:])
