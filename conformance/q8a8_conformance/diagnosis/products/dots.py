"""One output of a product as a dot product, for the experiments on rows of these.

The row of w is the first one, activations that are quantized to given codes and scales are the second. So
what one output adds up is measured as a dot product's rows are: which terms, sums of chunks, what a block
does to others by what it holds, and the steps of one block, without what activations cannot be. Where the
same rows come out wrong shows in which outputs that is so.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from q8a8 import layout
from q8a8.matmul import mul_mat
from q8a8_conformance.diagnosis.dots import arithmetic, block_values, row_facts
from q8a8_conformance.diagnosis.dots.bench import Bench, model_of
from q8a8_conformance.diagnosis.dots.model import Model, matches
from q8a8_conformance.diagnosis.facts import Evidence, Fact, remembered
from q8a8_conformance.diagnosis.products.judged import of_product, quantized, wrong_outputs
from q8a8_conformance.diagnosis.products.rules import EVERYWHERE, OutputRule
from q8a8_conformance.inputs import calls, dot_rows
from q8a8_conformance.protocol.deadline import Deadline
from q8a8_conformance.protocol.session import SessionError
from q8a8_conformance.results.expected_product import matrices_of, outputs_of
from q8a8_conformance.results.observations import CallResult, Failure
from q8a8_conformance.reveal.asking import NoAnswerError, NoSuchCallError
from q8a8_conformance.reveal.places import Seen, find_rule

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from q8a8_conformance.diagnosis.dots.bench import Measured
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.reveal.places import Rule
    from q8a8_conformance.reveal.quantizers.calls import AnySession

SECONDS = 4.0
"""Time limit for one output."""

SIZES = (*range(1, 11), 12, 15, 16, 17, 31, 32, 33)
"""Rows of w, or of x, in which the same rows are multiplied."""

LONGEST, LARGEST = 70, 1 << 14
"""The most rows that are asked for, and outputs of a failed call's shape that is looked at."""

SAMPLED = 24
"""Wrong outputs of a failed call, and right ones, that must be what the experiments show."""

RULE = "Q8A8-MUL-5"


class Output:
    """An output of products of one shape, as a dot product.

    Parameters
    ----------
    session
        With the kernel.
    m, n
        Rows of w and of x, all alike.
    i, j
        The output: row i of x by row j of w.
    """

    def __init__(self, session: AnySession, m: int, n: int, i: int, j: int) -> None:
        self._session, self.m, self.n, self.i, self.j = session, m, n, i, j

    def probe(self, call: Call) -> tuple[bytes, ...]:
        """Make a dot product's call, and return its output.

        Raises
        ------
        NoSuchCallError
            The second row holds what no activations become.
        """
        product = self.product(call, self.m, self.n)
        if product is None:
            raise NoSuchCallError
        return (self.all(product)[self.i, self.j].astype("<f4").tobytes(),)

    def all(self, call: Call) -> Array:
        """Return all outputs of a product: float32 [n, m]."""
        return outputs_of(call, bytes(self._session.call(call).outputs[0]))

    @staticmethod
    def product(call: Call, m: int, n: int) -> Call | None:
        """Return a dot product's call as a product of so many rows that are alike."""
        w, x = (layout.as_blocks(data, layout.BLOCK_Q8_A8) for data in calls.inputs_of(call).values())
        codes, scales = x["weight_qs"].astype(np.float32), x["weight_scale"].astype(np.float32)
        for block in np.flatnonzero(codes.any(axis=1) & (np.abs(codes).max(axis=1, initial=0) < 127)):
            # (What meets a zero sets the amax.)
            free = np.flatnonzero(w["weight_qs"][block] == 0)
            if not free.size:
                return None
            codes[block, free[-1]] = 127
        if (scales < 0).any() or (codes < -127).any() or not np.isfinite(scales).all():
            return None
        elements = (codes * scales[:, np.newaxis]).reshape(1, -1)
        return calls.mul_mat(np.repeat(w[np.newaxis], m, axis=0), np.repeat(elements, n, axis=0))


def dot_facts_of_products(session: AnySession, failures: Sequence[Failure]) -> list[Fact]:
    """Find what single outputs add up wrongly, as dot products."""
    for output, some in _outputs(session, failures):
        bench = Bench(calls.DOT, 1, output.probe, Deadline(SECONDS))
        found: list[Measured] = []
        try:
            if not bench.prepare():
                continue
            found += row_facts.miscounted(bench, some)
            found += block_values.of_values(bench, found)
            found += arithmetic.arithmetic(bench, found, [])
        except (NoAnswerError, SessionError, ArithmeticError):
            pass
        facts = [fact for one in found if (fact := _as_fact(output, one, found))]
        if any(fact.explained(failures) for fact in facts):
            return [fact for fact in facts if fact.explained(failures)]
    return []


def _outputs(session: AnySession, failures: Sequence[Failure]) -> Iterator[tuple[Output, list[CallResult]]]:
    """Yield outputs that are looked at, with dot products of the lengths of failed calls."""
    lengths = sorted({one.call.n // 32 for one in failures} - {0})
    some = [CallResult(calls.dot(*[dot_rows.filled(nb, 0, 1.0)] * 2), ()) for nb in lengths]
    if not some:
        return
    yield Output(session, 1, 1, 0, 0), some
    of_size = sorted((one for one in failures if one.call.n), key=lambda one: one.call.bs * one.call.bx)
    for one in of_size[:1]:
        wrong = np.argwhere(wrong_outputs(one))
        if 1 < one.call.bs * one.call.bx <= LARGEST and len(wrong):
            yield Output(session, one.call.bs, one.call.bx, *wrong[-1].tolist()), some


def _as_fact(output: Output, one: Measured, found: Sequence[Measured]) -> Fact | None:
    """Return a dot product's fact as one of the product, with the outputs in which it is so."""
    call = output.product(one.evidence[0].call, output.m, output.n) if one.evidence else None
    where = _where(output, one.evidence[0].call) if call else None
    if call is None or where is None:
        return None
    data, text = of_product(one.where, one.sentence)
    if where.text != "All outputs":
        text = f"In {where.text[0].lower()}{where.text[1:]}: {text[0].lower()}{text[1:]}"
    shown = mul_mat(*matrices_of(call)).astype("<f4")
    got = output.all(call).astype("<f4")
    i, j = output.i, output.j
    words = f"out[{i} * m + {j}] is {got[i, j]:.9g}, expected {shown[i, j]:.9g}"
    return Fact(
        *(one.fact, {**data, "outputs": where.to_json()}, RULE, text, one.fix, ""),
        function=calls.MUL_MAT,
        evidence=(Evidence(call, (shown.tobytes(),), (got.tobytes(),), words),),
        explains=remembered(partial(_explains, where, model_of(found))),
    )


def _where(output: Output, call: Call) -> OutputRule | None:
    """Return in which outputs of products of rows that are alike a dot product's call is wrong."""

    def wrong(m: int, n: int) -> Array:
        product = output.product(call, m, n)
        if product is None:
            return np.zeros((n, m), np.bool_)
        return np.asarray(output.all(product) != mul_mat(*matrices_of(product)).astype("<f4"))

    def along(axis: int) -> Rule | None:
        def ask(length: int) -> Array:
            of = wrong(length, output.n) if axis == 0 else wrong(output.m, length).T
            return np.asarray(of.any(axis=0))

        seen = Seen({length: ask(length) for length in {*SIZES, (output.m, output.n)[axis]}})
        return find_rule(seen, ask, LONGEST)

    columns, rows = along(0), along(1)
    return None if columns is None or rows is None else OutputRule(columns, rows, EVERYWHERE)


def _explains(where: OutputRule, model: Model, result: CallResult) -> bool:
    """Return whether some outputs of a failed call, wrong and right ones, are what a model gives."""
    if not isinstance(result, Failure) or not result.call.n or (operands := quantized(result)) is None:
        return False
    w, x = operands
    wrong, here = wrong_outputs(result), where.holds((len(w), len(x), w.shape[1]))
    if not wrong.any() or (wrong & ~here).any():
        return False
    got = outputs_of(result.call, bytes(result.outputs[0])).astype("<f4")
    rng = dot_rows.generator("sampled outputs")
    for some in (wrong, here & ~wrong):
        for i, j in rng.permutation(np.argwhere(some))[:SAMPLED].tolist():
            if not matches(model, CallResult(calls.dot(w[j], x[i]), (got[i, j].tobytes(),))):
                return False
    return True
