"""Which step of a product makes other values of some: of codes, scales, weights, sums or outputs; and where.

Products in which a step has a chosen value (`samples`) show what became of it (`values`). Values of other
steps may come out otherwise, too; the failed calls, of all values at once, decide which step it is.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8 import layout
from q8a8.matmul import mul_mat
from q8a8_conformance.diagnosis.facts import Evidence, Fact, remembered
from q8a8_conformance.diagnosis.products.judged import (
    ROUNDING,
    accounts_for_all,
    confirmed,
    quantized,
    spread,
    wrong_outputs,
)
from q8a8_conformance.diagnosis.products.laws import shapes_of
from q8a8_conformance.diagnosis.products.rules import EVERYWHERE, output_rule
from q8a8_conformance.diagnosis.products.samples import STEPS, of_code, same
from q8a8_conformance.diagnosis.products.values import applied, find_pieces
from q8a8_conformance.inputs import calls
from q8a8_conformance.protocol.session import SessionError
from q8a8_conformance.results.expected_product import matrices_of, outputs_of
from q8a8_conformance.reveal.places import Seen, find_rule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from q8a8_conformance.diagnosis.products.rules import OutputRule, Shape
    from q8a8_conformance.diagnosis.products.samples import Sample, Step
    from q8a8_conformance.diagnosis.products.values import Piece
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.results.observations import CallResult, Failure
    from q8a8_conformance.reveal.places import Rule
    from q8a8_conformance.reveal.quantizers.calls import AnySession

HELD = 2.75
"""What outputs hold before: no value of a step."""

TRIED, SCREENED = 3, 5
"""Shapes in which it is looked for, and values of a step that show whether it is worth it."""

FACTS, LEAST = 2, 1 / 8
"""Steps that are found, at most, and the part of failed calls that each explains at least."""

BLOCKS = 3
"""Blocks of a row, at least, that are looked at together."""

COMPARED, LARGEST = 24, 1 << 16
"""Failed calls by which steps are compared, and products of blocks of each, at most."""

LENGTHS, LONGEST, ENDS = (*range(1, 10), 12, 16, 17, 33), 70, 5
"""Blocks of rows in which it is seen which blocks have other values, the most, and how many at each end."""

RULES = {"w": "Q8A8-MUL-5", "x": "Q8A8-MUL-4"}
"""The rule that a step breaks, by its side."""


class Made:
    """Products all of whose outputs are of samples, in some blocks of each row."""

    def __init__(self, session: AnySession) -> None:
        self._session = session

    def __call__(self, shape: Shape, sample: Sample, block: int) -> Array:
        """Return what came of the value of a sample in one block: float32 [n, m]."""
        return self.placed(shape, {block: sample})

    def placed(self, shape: Shape, samples: dict[int, Sample]) -> Array:
        """Return what came of the values of samples of one unit, by their blocks: float32 [n, m]."""
        (unit,) = {sample.unit for sample in samples.values()}
        return (outputs_of(*self.call(shape, samples)) / np.float32(unit)).astype(np.float32)

    def call(self, shape: Shape, samples: dict[int, Sample]) -> tuple[Call, bytes]:
        """Return the call, and its outputs as they are."""
        m, n, nb = shape
        codes, x = np.zeros((m, nb, 32), np.int8), np.zeros((n, nb, 32), np.float32)
        scales, unit = np.ones((m, nb), np.float16), 1.0
        for block, sample in samples.items():
            codes[:, block], scales[:, block] = sample.codes_of_w, sample.scale_of_w
            x[:, block], unit = sample.codes_of_x * sample.scale_of_x, sample.unit
        held = calls.float_bytes(HELD * unit) * (m * n)
        call = calls.mul_mat(layout.pack(scales, codes), x.reshape(n, -1), out=held)
        return call, bytes(self._session.call(call).outputs[0])


@dataclass(frozen=True)
class Changed:
    """A step that makes other values of some.

    Attributes
    ----------
    step, pieces
        Which, and of which values what.
    outputs, blocks, elements
        In which outputs, blocks of a row, and elements of a block: bool [32].
    first
        Of outputs: another step that is wrong, too.
    """

    step: Step
    pieces: tuple[Piece, ...]
    outputs: OutputRule
    blocks: Rule
    elements: Array
    first: Changed | None = None

    def accounts(self, result: Failure) -> Array:
        """Return which wrong outputs are what it gives, bool [n, m]; none where others should be wrong."""
        wrong = wrong_outputs(result)
        if (operands := quantized(result)) is None:
            return wrong & False
        (w, x), got = operands, outputs_of(result.call, bytes(result.outputs[0])).astype(np.float64)
        shape = (len(w), len(x), w.shape[1])
        if self.step.name == "output":
            return self._of_outputs(wrong, self.outputs.holds(shape), got, w, x)
        total = self.total(w, x)
        near = ROUNDING * (magnitudes(w, x) + np.where(np.isfinite(total), np.abs(total), 0))
        with np.errstate(invalid="ignore"):
            fits = (np.abs(got - total) <= near) | (got == total) | (np.isnan(got) & np.isnan(total))
        return confirmed(wrong, fits)

    def total(self, w: Array, x: Array) -> Array:
        """Return the sums, float64 [n, m], of blocks w [m, nb] and x [n, nb]."""
        here = self.outputs.holds((len(w), len(x), w.shape[1]))
        blocks = self.blocks.holds(w.shape[1])
        total = self.step.sums(partial(applied, self.pieces), w, x, blocks, self.elements)
        return (
            total if here.all() else np.where(here, total, self.step.sums(same, w, x, blocks, self.elements))
        )

    def _of_outputs(self, wrong: Array, here: Array, got: Array, w: Array, x: Array) -> Array:
        """Return the same of outputs, whose sums are rounded before."""
        every = np.ones(w.shape[1], bool)
        total = self.first.total(w, x) if self.first else self.step.sums(same, w, x, every, self.elements)
        near = ROUNDING * (magnitudes(w, x) + np.abs(total))
        # (Roundings may lead across a threshold, and from one number to the next.)
        given = np.array([applied(self.pieces, total + side * near) for side in (-1, 0, 1)])
        with np.errstate(invalid="ignore"):
            between = (got >= given.min(axis=0)) & (got <= given.max(axis=0)) & self._is_image(got)
            fits = (np.abs(got - given) <= near).any(axis=0) | between
            fits |= (got == given.astype(np.float32)).any(axis=0)
            held = np.array([self._holds(total + side * near) for side in (-1, 0, 1)])
        if self.first is not None:
            return confirmed(wrong, np.where(here, fits, np.abs(got - total) <= near))
        if (here & held.all(axis=0) & ~wrong & ~fits).any():
            return wrong & False
        return np.asarray(wrong & here & held.any(axis=0) & fits)

    def _holds(self, v: Array) -> Array:
        return np.asarray(np.logical_or.reduce([piece.holds(v) for piece in self.pieces]))

    def _is_image(self, v: Array) -> Array:
        """Return which numbers are those that a rounding leaves as they are."""
        return np.asarray((applied(self.pieces, v) == v) & (not self.pieces[0].of))


def magnitudes(w: Array, x: Array) -> Array:
    """Return the sums of the magnitudes that terms may have: float64 [n, m]."""
    dw, dx = (np.abs(side["weight_scale"].astype(np.float64)) for side in (w, x))
    return np.asarray(dx @ dw.T * (32 * 127 * 127))


def step_facts(session: AnySession, failures: Sequence[Failure]) -> list[Fact]:
    """Find which steps make other values of some; none where no condition gives it."""
    made, left = Made(session), list(failures)
    found: list[tuple[Fact, Changed]] = []
    with suppress(SessionError):
        while left and len(found) < FACTS and (more := _next(made, left)):
            said = [fact.sentence for fact, _ in found]
            found += [one for one in more if one[0].sentence not in said]
            both = [partial(accounts_for_all, one.accounts) for one in _together([of for _, of in found])]
            left = [one for one in left if not any(explains(one) for explains in both)]
    together = [
        remembered(partial(accounts_for_all, one.accounts)) for one in _together([of for _, of in found])
    ]
    return [replace(fact, explains=partial(_is_any, (fact.explains, *together))) for fact, _ in found]


def _together(found: Sequence[Changed]) -> list[Changed]:
    """Return steps, and outputs that are wrong beside another step."""
    last = [one for one in found if one.step.name == "output"]
    return [*found, *(replace(one, first=of) for one in last for of in found if of not in last)]


def _next(made: Made, failures: Sequence[Failure]) -> list[tuple[Fact, Changed]]:
    """Return what explains most of some failed calls, if that is enough of them: a step, or two together."""
    small = [one for one in failures if np.prod(_shape(one)) <= LARGEST]
    few = spread(sorted(small or failures, key=lambda one: np.prod(_shape(one))), COMPARED if small else 1)

    def count(changed: Changed) -> int:
        return sum(accounts_for_all(changed.accounts, one) for one in few)

    for shape in shapes_of(failures)[:TRIED]:
        rules: dict[bytes, tuple[OutputRule, Rule] | None] = {}
        found: list[tuple[int, Changed, tuple[Shape, Sample, int]]] = []
        for changed, shown in _candidates(made, shape, rules):
            found.append((count(changed), changed, shown))
            if found[-1][0] == len(few):
                break
        if not found:
            continue
        best = max(found, key=lambda one: one[0])
        # (Outputs of wrong sums may be wrong for both reasons.)
        pairs = _together([changed for _, changed, _ in found])[len(found) :] if best[0] < len(few) else []
        counts = [count(both) for both in pairs]
        if counts and max(counts) > max(best[0], LEAST * len(few)):
            both = pairs[int(np.argmax(counts))]
            of = [one for one in found if one[1] is both.first or one[1].step is both.step]
            return [(_fact(made, changed, shown), changed) for _, changed, shown in reversed(of)]
        # (Roundings of other sums may look like it in rows of one block.)
        least = LEAST if best[1].pieces[0].of else 4 * LEAST
        if best[0] >= max(least * len(few), 1):
            return [(_fact(made, *best[1:]), best[1])]
    return []


def _is_any(every: Sequence[Callable[[CallResult], bool]], result: CallResult) -> bool:
    return any(explains(result) for explains in every)


def _shape(one: Failure) -> Shape:
    return one.call.bs, one.call.bx, one.call.n // 32


def _candidates(
    made: Made, shape: Shape, rules: dict[bytes, tuple[OutputRule, Rule] | None]
) -> Iterator[tuple[Changed, tuple[Shape, Sample, int]]]:
    """Yield steps that may make other values of some, and a sample of a shape that shows it."""
    done: set[str] = set()
    for step in STEPS:
        for block in dict.fromkeys((0, shape[2] - 1)):
            some = [] if step.name in done else step.samples[:SCREENED]
            if not any(_is_wrong(made, shape, sample, block).any() for sample in some):
                continue
            came = [made(shape, sample, block) for sample in step.samples]
            values = np.array([sample.value for sample in step.samples])
            wrong = np.array([of.view(np.uint32) != _bits(v) for of, v in zip(came, values, strict=True)])
            i, j = (int(at) for at in np.unravel_index(wrong.sum(axis=0).argmax(), wrong[0].shape))
            of = np.array([each[i, j] for each in came], np.float32)
            ask = partial(_ask, made, shape, step, block, (i, j)) if step.is_single else None
            if _is_plain(values, of):
                return
            pieces = find_pieces(ask, values, of, wrong[:, i, j], HELD)
            if not pieces:
                continue
            done.add(step.name)
            telling = [sample for sample, one in zip(step.samples, wrong[:, i, j], strict=True) if one]
            if not telling:  # (It was wrong when it was asked for again.)
                continue
            telling = [telling[at] for at in dict.fromkeys((0, len(telling) // 2, len(telling) - 1))]
            is_last = step.name == "output"
            key = wrong.any(axis=0).tobytes() + bytes([block > 0, is_last])
            if key not in rules:
                rules[key] = _where(made, shape, telling, block, is_last=is_last)
            if rule := rules[key]:
                elements = _elements(made, shape, step, telling, block, (i, j))
                yield (
                    Changed(step, tuple(pieces), *rule, elements),
                    (shape, telling[len(telling) // 2], block),
                )


def _bits(value: float) -> np.uint32:
    """Return the bits of a value as an output: zeros are +0."""
    return np.uint32(np.float32(value + 0.0).view(np.uint32))


def _is_wrong(made: Made, shape: Shape, sample: Sample, block: int) -> Array:
    """Return which outputs of a sample are wrong: bool [n, m]."""
    return np.asarray(made(shape, sample, block).view(np.uint32) != _bits(sample.value))


def _ask(
    made: Made, shape: Shape, step: Step, block: int, place: tuple[int, int], value: float
) -> tuple[float, bool]:
    """Return the value nearest to one that a step may have, and whether an output of it is wrong."""
    sample = step.make(value)
    return sample.value, bool(_is_wrong(made, shape, sample, block)[place])


def _is_plain(values: Array, came: Array) -> bool:
    """Return whether all become a multiple of their own, or the same: that is no matter of the value."""
    some = values != 0
    with np.errstate(all="ignore"):
        times = came[some] / values[some]
    is_one = (times == times[0]).all() and times[0] != 1
    return bool(is_one or (came == came[0]).all() or np.isnan(came).all())


def _where(
    made: Made, first: Shape, telling: Sequence[Sample], block: int, *, is_last: bool
) -> tuple[OutputRule, Rule] | None:
    """Return in which outputs, and blocks of a row, values become others; None where no rule says it."""

    def seen(shape: Shape, at: int) -> Array:
        return np.asarray(np.any([_is_wrong(made, shape, sample, at) for sample in telling], axis=0))

    def look(shape: Shape) -> Array:
        return seen(shape, block and shape[2] - 1)

    outputs = output_rule(first, [], look, lambda shape: np.ones((shape[1], shape[0]), bool))
    if outputs is None or is_last:
        return None if outputs is None else (outputs, EVERYWHERE)
    blocks, more = EVERYWHERE, range(max(first[2], BLOCKS), max(first[2], BLOCKS) + LONGEST)
    own = _is_wrong(made, first, telling[-1], block)

    def is_wrong(shape: Shape, at: int) -> bool:
        # (Other outputs may be wrong for another reason.)
        return np.array_equal(_is_wrong(made, shape, telling[-1], at), own)

    nb = next((nb for nb in more if outputs.blocks.takes(nb)), first[2])
    if not all(is_wrong((*first[:2], nb), b) for b in range(min(nb, ENDS))):
        rule = _block_rule(first, is_wrong)
        if rule is None:
            return None
        outputs, blocks = replace(outputs, blocks=EVERYWHERE), rule
    return outputs, blocks


def _block_rule(first: Shape, is_wrong: Callable[[Shape, int], bool]) -> Rule | None:
    """Return in which blocks of a row values become others; of long rows some are looked at."""

    def ask(nb: int) -> tuple[Array, Array]:
        some = {*range(min(nb, ENDS)), *range(max(nb - ENDS, 0), nb), nb // 2, nb // 2 - 1, nb // 4, nb // 3}
        known = np.isin(np.arange(nb), [*some])
        wrong = np.array([known[b] and is_wrong((*first[:2], nb), b) for b in range(nb)], bool)
        return wrong, known

    answers = {nb: ask(nb) for nb in sorted({*LENGTHS, first[2]})}
    seen = Seen(*({nb: answer[part] for nb, answer in answers.items()} for part in (0, 1)))
    return find_rule(seen, ask, LONGEST)


def _elements(
    made: Made, shape: Shape, step: Step, telling: Sequence[Sample], block: int, place: tuple[int, int]
) -> Array:
    """Return in which elements codes become others: bool [32]."""
    if step.element is None:
        return np.ones(32, bool)
    sides = [(step.name[-1], sample.value) for sample in telling]
    every = [[of_code(side, e, v) for side, v in sides] for e in range(32)]
    return np.array([any(_is_wrong(made, shape, one, block)[place] for one in some) for some in every])


def _element_words(elements: Array) -> str:
    """Return elements in words; empty for all."""
    if elements.all():
        return ""
    rule = find_rule(Seen({32: elements}), lambda n: elements if n == 32 else np.zeros(n, bool), 32)
    if rule is not None and rule.position.kind in ("modulo", "until", "from", "is", "first", "last"):
        return rule.position.text("element")
    return f"elements {', '.join(map(str, np.flatnonzero(elements)))}"


def _fact(made: Made, changed: Changed, shown: tuple[Shape, Sample, int]) -> Fact:
    """Return the fact that a step makes other values."""
    step, outputs = changed.step, changed.outputs
    shape, sample, block = shown
    call, got = made.call(shape, {block: sample})
    right, actual = mul_mat(*matrices_of(call)).astype("<f4"), outputs_of(call, got)
    i, j = np.argwhere(actual.view(np.uint32) != right.view(np.uint32))[0].tolist()
    text = f"out[{i} * m + {j}] is {actual[i, j]:.9g}, expected {right[i, j]:.9g}"
    data = [{"values": piece.of, "become": piece.become} for piece in changed.pieces]
    where: dict[str, Any] = {"pieces": data, "outputs": outputs.to_json()}
    if step.name == "output":
        kind, sentence = "outputs-changed", _output_words(changed)
    else:
        kind, sentence = "values-changed", _step_words(changed)
        where |= {"step": step.name, "blocks": changed.blocks.to_json()}
        if not changed.elements.all():
            where["elements"] = np.flatnonzero(changed.elements).tolist()
    return Fact(
        *(kind, where, RULES[step.side], sentence),
        *("Store each sum as it is, whatever its value." if step.name == "output" else
          "Compute with codes, scales and sums as they are, in float32, whatever their values.", ""),
        function=calls.MUL_MAT,
        evidence=(Evidence(call, (right.tobytes(),), (got,), text),),
        explains=remembered(partial(accounts_for_all, changed.accounts)),
        outputs=changed.accounts,
    )  # fmt: skip


def _output_words(changed: Changed) -> str:
    if not changed.pieces[0].of:
        return f"{changed.outputs.text} are {changed.pieces[0].become} before they are stored."
    said = ", and those that should be ".join(f"{piece.of} are {piece.become}" for piece in changed.pieces)
    return f"{changed.outputs.text} that should be {said}."


def _step_words(changed: Changed) -> str:
    """Return a sentence about another step than the last."""
    sides = []
    if changed.outputs.text != "All outputs":
        sides.append(f"in {changed.outputs.text[0].lower()}{changed.outputs.text[1:]}")
    if not changed.blocks.is_any or changed.blocks.length:
        sides.append(f"in {changed.blocks.text('block', 'nb')}")
    subject = changed.step.subject
    if elements := _element_words(changed.elements):
        subject = f"{subject} in {elements} of a block"
    pieces = changed.pieces
    said = pieces[0].become
    if pieces[0].of:
        said = ", and those that are ".join(f"{piece.of} are {piece.become}" for piece in pieces)
    text = f"{subject} {f'that are {said}' if pieces[0].of else f'are {said}'}"
    text = ", ".join([*sides, text])
    return f"{text[0].upper()}{text[1:]}."
