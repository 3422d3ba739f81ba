"""What an experiment found a function to do wrong: a fact, the calls that show it, the failures it explains.

A fact is measured, not looked up: `fact` and `where` are for programs (a slug, and its parameters: positions,
remainders, thresholds), `sentence` and `fix` for the author of the kernel. `explains` decides which failed
calls have this cause: it computes what the faulty function would give for a call's inputs, and compares. A
cause is attached to the failures that it explains, and to no other.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from q8a8_conformance.faults.catalogue import MUTANTS
from q8a8_conformance.inputs.calls import arguments_of, inputs_of
from q8a8_conformance.results.side_effects import SIDE_EFFECTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.results.observations import CallResult, Failure

    Explains: TypeAlias = Callable[[CallResult], bool]

Seen = TypeVar("Seen", bound="CallResult")
Told = TypeVar("Told")

FACTS: Mapping[str, str] = MappingProxyType(
    {
        "accumulator-bits": "The running sum has fewer significant bits than a float32.",
        "argument-not-ignored": "With nrc = 1 an argument has an influence that counts with nrc = 2 alone.",
        "bits-vary": "Results are right, and not the same bits: by address, process, or number of calls.",
        "block-affects-others": "What a block holds changes how it, or another block, is counted.",
        "block-added-in-parts": "A block's products are added to the running sum in several parts.",
        "block-counted-twice": "Some blocks of rows of some lengths are counted more than once.",
        "block-layout": "Scale and codes are read from other bytes of a block, or the scale in another form.",
        "block-map": "Codes of x meet other codes of y than those at their place, or are not counted.",
        "block-meets-another": "Blocks of x are multiplied with others than their own of y.",
        "block-not-counted": "Some blocks of rows of some lengths are not counted.",
        "block-sum": "Sums of products of a block have too few bits, or lose or get something.",
        "block-read-elsewhere": "Some blocks are read some bytes before or behind their own.",
        "block-skipped": "A block is not counted for what its codes are: some are zero, none is negative.",
        "chunk-sums": "Sums of some blocks are rounded to fewer bits before they are added up.",
        "codes-offset": "Codes are offset, and the correction is rounded in a sum of its own.",
        "correction-wrong": "What an offset of the codes adds to a block's sum is not taken off rightly.",
        "depends-on-calls-before": "A result is wrong after some calls, and right after others.",
        "empty-row-not-written": "With n = 0 no result is written.",
        "empty-row-value": "With n = 0 the result is not +0.",
        "fixed-point": "Scales, terms or sums are integers of one unit, and wrap or saturate.",
        "floats-between-written": "With nrc = 2 floats of s between the results are written.",
        "half-read": "A few values of scales are read as others.",
        "offset-wraps": "The offset of a block, or the length of a row, is kept in too few bits.",
        "product-wrong": "A few products of two codes are wrong: entries of a table.",
        "products": "Products of codes are formed with wrong signs, widths, or saturation.",
        "prepared-in-one-thread": "What the first call prepares is memory of its thread alone.",
        "race-between-threads": "From several threads a result is not the one of a single thread.",
        "race-of-first-calls": "A process's first call, from several threads, is wrong, and right later.",
        "result-added": "The result is added to what s held.",
        "result-changed": "The sum is changed once more before it is stored.",
        "result-not-written": "A result is not written: s keeps its bytes.",
        "results-at": "With nrc = 2 results for y1 are stored elsewhere than from s[bs] on.",
        "results-exchanged": "With nrc = 2 results are stored in each other's places.",
        "results-of-others": "With nrc = 2 a result is another one, or the sum of several.",
        "rounded-off-part-wrong": "What an addition rounds off is lost, or comes back wrong.",
        "scale-of-another-block": "A block takes the scale of another block.",
        "scale-product": "The product of the two scales is wrong.",
        "scale-read": "Scales are read wrongly: subnormals, signs, bits.",
        "second-row-read-at": "With nrc = 2 the second row is read from another place than bx, or by.",
        "shared-by-threads": "Beside another call of another thread a result is wrong: they share memory.",
        "sum-added-again": "The sum of another block is added to a block's as well.",
        "sums-packed": "With nrc = 2 two sums share an integer, and one runs into the other.",
        "sums-rounded": "Sums are rounded in another direction than to nearest.",
        "term-added": "Scales times a sum of codes are added to a block's term.",
        "term-rounded": "A block's term is rounded to fewer bits before it is added.",
        "unused-scale-has-influence": "The scale of version 2 blocks that must not count has an influence.",
        "version-2-field": "Of the two scales of version 2 blocks the wrong one is used.",
        "wrong-at-addresses": "A result is wrong where a buffer lies at some addresses.",
        "wrong-on-shared-inputs": "A result is wrong where x and y are in one block of memory.",
        "wrong-under-flush": "A result is wrong where the caller has set flush-to-zero.",
        "zero-scale-affects-others": "A zero scale has an influence on other blocks.",
    }
)
"""What experiments on a dot product, and on threads, can find: every fact, in a sentence."""

OTHER_FACTS: Mapping[str, str] = MappingProxyType(
    {
        **{effect.fact: f"{effect.happens}." for effect in SIDE_EFFECTS.values() if effect.fact},
        "dies": "A call does not return: it crashes, or ends the process.",
        "read-outside": "Bytes outside the buffers are read.",
        "activations": "A product keeps its activations so: as floats, or as codes under a scale of the row.",
        "activation-scale": "A product keeps the scales of its activations so, not as halves.",
        "activations-in-part": "In some blocks or outputs of a product activations become something else.",
        "accumulator": "A product keeps its running sums in this format, with more rounding than allowed.",
        "amax-changed": "There is a least amax, or scale, or a number is added to it.",
        "amax-of-other-rows": "A product quantizes rows of x under the amax of other rows.",
        "amax-of": "A block is scaled by the amax of other elements than its own 32.",
        "blocks-miscounted": "Some blocks of rows are not counted once.",
        "codes-interleaved": "Codes are packed in chunks of one size, and read in chunks of another.",
        "code-of-one-value": "Products x * inv of a few magnitudes are rounded otherwise than the rest.",
        "code-read": "Dequantization reads codes as other numbers.",
        "output-added": "Dequantization adds to what the output held, or computes with it.",
        "output-constant": "Dequantization gives one value, whatever the row holds.",
        "wrong-by-turns": "Every nth call of a process is wrong.",
        "depends-on-more-than-inputs": "The same call gave another result when it was made again.",
        "element-not-counted": "Some elements of a block do not count in its amax.",
        "factor": "A quantizer's elements are multiplied by another factor than 127 / amax.",
        "empty-scale": "With size = 0 the scale is not written, or is not +0.",
        "empty-not-written": "A product of rows of no blocks is not written.",
        "layout": "Scales and codes are read, or written, at other bytes of a row.",
        "not-written": "In some shapes a product is not written.",
        "outputs-changed": "Outputs of a product of some values become others: clamped, negated, rounded.",
        "values-changed": "Codes, scales or sums within a product become others: clamped, rounded, offset.",
        "outputs-added": "Outputs of a product are added to what was there.",
        "outputs-miscounted": "Outputs of a product are multiples of what they should be: doubled, +0.",
        "outputs-not-written": "Outputs of a product are not written.",
        "outputs-of-other-rows": "Outputs of a product are those of other rows.",
        "panel-strides": "Blocks of a panel are written by one stride, and read by another.",
        "place-amax-of": "At some places a block is scaled by another block's amax.",
        "place-code-of": "At some places an element has the code of another element.",
        "place-block-of": "At some places another block comes out in the place of a block.",
        "place-codes": "Some codes are stored as others.",
        "place-elements": "At some places elements of a block come out in others' places.",
        "place-factor": "At some places elements are multiplied by another factor than 127 / amax.",
        "place-half": "At some places the scale is another half than the nearest.",
        "place-not-counted": "At some places elements do not count in amax.",
        "place-other": "At some places values are others, by no rule that was found.",
        "place-recipe": "At some places elements are quantized by another recipe.",
        "place-scale-of": "At some places a block has the scale of another block.",
        "place-unwritten": "At some places nothing is written.",
        "place-unwritten-bytes": "Some bytes of a block are not written.",
        "place-wraps": "Blocks, or elements, are counted in too few bits: the first come out again.",
        "place-zero": "At some places zeros are written.",
        "product": "Dequantization does not give the product of scale and code, but something else.",
        "recipe": "A quantizer computes another recipe that has a name.",
        "rows-begin-elsewhere": "A product reads rows of x, or of w, or their scales, from other blocks on.",
        "scale-of-one-amax": "The scale of one or a few values of amax is another half.",
        "scales-interleaved": "Scales of a panel are written in one order, and read in another.",
        "scales-of-other-rows": "Outputs of a product have the scale of another row of x.",
        "spoiled-by-other-rows": "A value outside the domain spoils outputs of a product of other rows.",
        "step": "One step of a quantizer's arithmetic is another: `where` has the step and its value.",
        "terms-of-others": "Products of blocks have the codes, or the scale, of another row or block.",
        "sums-of-codes": "A product sums blocks otherwise: codes are read as others, sums are in int16.",
        "sums-of-other-rows": "Outputs of a product contain the products of other rows, too.",
        "value-codes": "Codes are stored as others, where values are of some kind.",
        "place-of-block": "At some places a block's codes, scale or both are those of another block.",
        "place-order": "At some places the bytes of a block stand in another order.",
        "place-precision": "At some places a number on the way to scale and codes has fewer bits.",
        "place-rounding": "At some places products are rounded by another method.",
        "value-code-of": "Elements have the codes of other elements.",
        "value-of-block": "A block's codes, scale or both are those of another block.",
        "value-order": "The bytes of a block stand in another order, maybe where values are of some kind.",
        "value-precision": "A number on the way to scale and codes has fewer bits.",
        "value-rounding": "Products are rounded by another method: a bias, a magic number, fixed point.",
        "value-half": "The scale is another half than the nearest, maybe where it is of some kind.",
        "value-recipe": "Where values are of some kind elements are quantized by other steps.",
        "value-unwritten": "Where values are of some kind, as in blocks of zeros, nothing is written.",
        "value-zero": "Where values are of some kind zeros are written.",
        "weight-scales-of-other-rows": "Outputs of a product have the scales of another row of w.",
        "zero-rows": "Outputs of zero rows of a product are not +0, but something else.",
        "weights": "A product rounds its weights to this format before it multiplies.",
    }
)
"""What is found about quantizers, dequantization, products (with a format behind a colon), side effects."""

HEX_LIMIT = 1 << 12
"""Bytes of a buffer that are written out in JSON; a longer one is shown by its length and its start."""


def explains_nothing(result: CallResult) -> bool:
    """Explain no call: of a fact whose effect on other calls is not known."""
    del result
    return False


def only(some: Iterable[CallResult]) -> Explains:
    """Explain some calls, and no other."""
    kept = {id(one): one for one in some}
    return lambda result: id(result) in kept


def remembered(explains: Callable[[CallResult], Told]) -> Callable[[CallResult], Told]:
    """Return the same decision, made once for each result: reports and rules ask for it again."""
    seen: dict[int, tuple[CallResult, Told]] = {}

    def once(result: CallResult) -> Told:
        if id(result) not in seen:
            seen[id(result)] = result, explains(result)  # (The result is kept, so that its id stays its own.)
        return seen[id(result)][1]

    return once


@dataclass(frozen=True)
class Evidence:
    """A call that shows a fact.

    Attributes
    ----------
    call
        The call, as short as the fact allows.
    expected, actual
        Output buffers in the ABI's order: the right ones, and those that the kernel gave; `actual` is None
        where it did not return. Both are empty where the results of other calls at the same time are wrong.
    text
        What the call asks and what comes, in one line.
    """

    call: Call
    expected: tuple[bytes, ...]
    actual: tuple[bytes, ...] | None
    text: str

    def to_json(self) -> dict[str, Any]:
        """Return the call as JSON data: integers by name, buffers as length and hex."""
        names = [self.call.spec.buffers[i].name for i in self.call.spec.outputs]
        return {
            "function": self.call.function,
            "args": arguments_of(self.call),
            "inputs": _buffers(inputs_of(self.call)),
            "expected": _buffers(dict(zip(names, self.expected, strict=False))),
            "actual": _buffers(dict(zip(names, self.actual or (), strict=False))),
            "text": self.text,
        }


@dataclass(frozen=True)
class Statement:
    """What a fact says.

    Attributes
    ----------
    fact
        What kind of thing: a slug, ``block-not-counted``.
    where
        Its parameters, for programs: JSON data by name.
    rule
        The full id of the rule that is broken.
    sentence
        What the kernel does, in its author's terms.
    fix
        What to change, in one sentence.
    cause
        The slug that the catalogue of causes has for it; empty where it has none.
    """

    fact: str
    where: Mapping[str, Any]
    rule: str
    sentence: str
    fix: str
    cause: str


@dataclass(frozen=True, kw_only=True)
class Fact(Statement):
    """One thing that a function does wrong.

    Attributes
    ----------
    function
        The ABI function.
    evidence
        One to three calls that show it, the smallest first.
    nrc
        Rows at a time of the dot products that it is about; 1 for what one and two rows share.
    explains
        Decides whether a failed call's outputs are what this fault gives.
    outputs
        Returns which wrong outputs of a failed product it accounts for, bool [n, m], beside other facts that
        account for the rest; None where that is not known.
    """

    function: str
    evidence: tuple[Evidence, ...] = ()
    nrc: int = 1
    explains: Explains = field(default=explains_nothing, repr=False, compare=False)
    outputs: Callable[[Any], Any] | None = field(default=None, repr=False, compare=False)

    @property
    def slug(self) -> str:
        """The name that the diagnosis lists it under."""
        return self.cause or self.fact

    def explained(self, failures: Sequence[Seen]) -> list[Seen]:
        """Return the failed calls that this fact explains."""
        return [failure for failure in failures if self.explains(failure)]

    def to_json(self) -> dict[str, Any]:
        """Return the fact as JSON data."""
        return {
            "function": self.function,
            "nrc": self.nrc,
            "fact": self.fact,
            "where": dict(self.where),
            "rule": self.rule,
            "cause": self.slug,
            "sentence": self.sentence,
            "fix": self.fix,
            "evidence": [evidence.to_json() for evidence in self.evidence],
        }


@dataclass(frozen=True)
class Difference(Statement):
    """In what a measured function differs from the right one.

    Attributes
    ----------
    undo
        Returns a model without it.
    """

    undo: Callable[[Any], Any] = field(compare=False)


def left_of(failures: Sequence[Failure], facts: Sequence[Fact]) -> list[Failure]:
    """Return the failed calls that no fact explains."""
    return [one for one in failures if not any(fact.explains(one) for fact in facts)]


def words(
    sentence: str = "", *, cause: str = "", like: str = "", rule: str = "", fix: str = ""
) -> tuple[str, str, str, str]:
    """Return the rule, the sentence, the fix and the cause of a fact.

    Where the catalogue has its `cause`, the fix, and what else is not given, are those of the catalogue; else
    rule and fix may be those of a mistake that it is like.
    """
    if mutant := MUTANTS.get(cause or like):
        sentence, rule = sentence or mutant.sentence, rule or mutant.rule
        fix = mutant.fix if cause else fix or mutant.fix
    return rule, sentence, fix, cause


def without_part(part: object, model: Any) -> Any:  # noqa: ANN401 - models
    """Return a model without one of its parts."""
    return replace(model, parts=tuple(one for one in model.parts if one is not part))


def _buffers(buffers: Mapping[str, bytes]) -> dict[str, Any]:
    return {name: {"length": len(data), "hex": data[:HEX_LIMIT].hex()} for name, data in buffers.items()}
