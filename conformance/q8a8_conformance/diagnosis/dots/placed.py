"""What is wrong under a condition alone: in a mode, at some addresses, on shared inputs, after some calls.

What a function computes is measured under the condition as it is elsewhere: every call of the experiments is
put under it. Facts that are found have it in `where` as ``under``; without any, the condition is the fact.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from q8a8_conformance.diagnosis.dots import conditions
from q8a8_conformance.diagnosis.facts import Evidence, Fact, only
from q8a8_conformance.faults.kernel import DOTS
from q8a8_conformance.inputs.calls import ACTIVATION, DOT_REAL, MUL_MAT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from q8a8_conformance.diagnosis.dots.bench import Probe
    from q8a8_conformance.diagnosis.dots.conditions import Condition
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.results.observations import Failure

    Look = Callable[[Probe, Sequence[Failure]], Sequence[Fact]]

ENVIRONMENT, ALIGNMENT = "Q8A8-ENV-2", "Q8A8-MEM-4"
"""The rules that conditions break by themselves; shared inputs break that of the product."""

KEPT = "depends-on-calls-before"

WORDS = {
    "flush": "wrong-under-flush",
    "address": "wrong-at-addresses",
    "inputs-shared": "wrong-on-shared-inputs",
    "history": KEPT,
    "bits": "bits-vary",
}
"""The facts that conditions are where nothing more is known."""

FIXES = {
    "flush": "Widen halves without subnormal floats: by integers, or by the processor's conversion.",
    "address": "Take the same way at every address that is legal.",
    "inputs-shared": "Compute the product of two rows wherever they lie.",
    "history": "Keep nothing between calls, or compare all bytes before it is used.",
    "bits": "Add in one order, whatever the address, the process or the calls before.",
}

QUANTIZED = "Let no result follow from a subnormal float: where the stored half is 0 all codes are, too."
"""The fix of a quantizer, or a product, that is wrong in a flush mode."""

WHY = "A subnormal float on the way is taken for 0 there."
"""Why flush modes make a difference."""

UNDER = {("flush", "half-flushed-on-read"): "half-through-subnormal-float"}
"""What the catalogue calls a mistake under a condition."""

PAGE = 4096 - 256
"""Bytes from a buffer's usual start to the end of the page."""


def placed_facts(
    function: str,
    failed: Sequence[Failure],
    probe: Probe,
    restart: Callable[[], object] | None,
    look: Look,
    wrong: Sequence[Failure] = (),
) -> Iterator[Fact]:
    """Yield what is wrong in calls that are right elsewhere.

    Parameters
    ----------
    function, failed
        A function, and such calls of it.
    probe, restart
        Makes a call; and begins a new process.
    look
        Makes the function's experiments with a probe, and returns what they find; given are failed calls.
    wrong
        Calls that are wrong anywhere. Rows of more than a page cannot but meet the condition that a page ends
        inside.
    """
    for found_at in conditions.of_places(failed, probe, restart):
        condition = found_at
        if "straddles" in condition.where:
            long = (one for one in wrong if max(len(each.data) for each in one.call.buffers) > PAGE)
            condition = replace(condition, members=(*condition.members, *long))
        facts = [fact for fact in _look(look, probe, condition) if any(map(fact.explains, condition.members))]
        found = [_under(fact, condition) for fact in facts]
        if condition.example and not all(
            any(fact.explains(one) for fact in found) for one in condition.members
        ):
            # (What is wrong differs by the address: it is measured at one of them.)
            seen = (
                " ".join((f"With {condition.example}:", *(fact.sentence for fact in facts))) if facts else ""
            )
            alone = of_condition(function, condition)
            found = [replace(alone, sentence=f"{alone.sentence} {seen}".rstrip())]
        yield from found or [of_condition(function, condition)]


def _look(look: Look, probe: Probe, condition: Condition) -> Sequence[Fact]:
    under = condition.under
    if under is None:
        return ()
    # (At another address than the one that is looked at something else may be wrong.)
    same = [one for one in condition.members if probe(under(conditions.plain(one.call))) == one.outputs]
    return look(lambda call: probe(under(call)), same) if same else ()


def _under(fact: Fact, condition: Condition) -> Fact:
    """Return a fact that holds under a condition alone."""
    explains, is_member, put = fact.explains, only(condition.members), condition.under
    is_any = "straddles" in condition.where
    sentence, rule, fix = f"Where {condition.words}: {fact.sentence}", fact.rule, fact.fix
    if fact.function not in DOTS:
        rule = ENVIRONMENT if condition.kind == "flush" else ALIGNMENT
    if condition.kind == "flush":
        sentence = f"{sentence} {WHY}"
        fix = fix if fact.function in DOTS else _fix(fact.function, condition)
    evidence = (replace(one, call=put(one.call)) if put else one for one in fact.evidence)
    return replace(
        fact,
        where={**fact.where, "under": condition.where},
        sentence=sentence,
        rule=rule,
        fix=fix,
        cause=UNDER.get((condition.kind, fact.cause), fact.cause if fact.function in DOTS else ""),
        evidence=tuple(evidence),
        explains=lambda result: is_member(result) and (is_any or explains(result)),
    )


def _fix(function: str, condition: Condition) -> str:
    is_other = condition.kind == "flush" and (function.startswith("quantize") or function == MUL_MAT)
    return QUANTIZED if is_other else FIXES[condition.kind]


def of_condition(function: str, condition: Condition) -> Fact:
    """Return the fact that results depend on a condition."""
    first = min(condition.members, key=lambda one: (one.call.nrc, one.call.n))
    product = "Q8A8-DOT-9" if function == DOT_REAL else "Q8A8-DOT-6" if first.call.nrc == 2 else "Q8A8-DOT-4"
    rule = product if condition.kind == "inputs-shared" else ENVIRONMENT
    if condition.kind == "address" and function not in DOTS:
        rule = ALIGNMENT
    sentence = {
        "history": f"What comes of a call depends on those before it: {condition.words}.",
        "bits": f"The bits of a right result depend on {condition.words}.",
    }.get(condition.kind, f"The result is wrong where {condition.words}, and right elsewhere.")
    return Fact(
        WORDS[condition.kind],
        condition.where,
        rule,
        condition.says or (f"{sentence} {WHY}" if condition.kind == "flush" else sentence),
        _fix(function, condition),
        condition.cause,
        function=function,
        evidence=(Evidence(first.call, first.expected, first.outputs, _length(first.call)),),
        nrc=first.call.nrc,
        explains=only(condition.members),
    )


def _length(call: Call) -> str:
    return f"size = {call.n}" if call.function == ACTIVATION else f"nb = {call.n // 32}"
