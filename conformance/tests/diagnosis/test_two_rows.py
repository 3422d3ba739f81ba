"""Mistakes with two rows at a time: those of one row, too, and those of some of the four results alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8_conformance.diagnosis.dots import dot_facts
from q8a8_conformance.diagnosis.dots.arithmetic import of_signs
from q8a8_conformance.diagnosis.dots.bench import Bench, Measured, model_of
from q8a8_conformance.diagnosis.dots.row_values import of_other_rows
from q8a8_conformance.diagnosis.dots.together import needed
from q8a8_conformance.faults.kernel import DOT
from q8a8_conformance.inputs import calls, dot_rows
from q8a8_conformance.protocol.deadline import Deadline
from q8a8_conformance.results.observations import CallResult

from .dot_calls import FourResults, facts_about, failed, own, probe_of, sample, scale, term

if TYPE_CHECKING:
    from q8a8_conformance.inputs.arrays import Array


def stale_codes(_nrc: int, number: int, rows: list[Array]) -> float:
    """Take x's codes of the blocks left over after groups of 8 from the group before."""
    x, y = own(number, rows)
    x, nb = x.copy(), len(x)
    if nb > 8 and nb % 8:
        x["weight_qs"][nb // 8 * 8 :] = x["weight_qs"][nb // 8 * 8 - 8 : nb - 8]
    return float(term(x, y).sum())


def kept_scale(_nrc: int, number: int, rows: list[Array]) -> float:
    """Keep y's scale while x's is the same."""
    x, y = own(number, rows)
    y = y.copy()
    for b in range(1, len(x)):
        if x["weight_scale"][b] == x["weight_scale"][b - 1]:
            y["weight_scale"][b] = y["weight_scale"][b - 1]
    return float(term(x, y).sum())


def last_chunk_alone(nrc: int, number: int, rows: list[Array]) -> float:
    """Store the last chunk of 16 blocks where the sum of all belongs."""
    terms = term(*own(number, rows))
    return float(terms[(len(terms) - 1) // 16 * 16 :].sum() if nrc == 2 and number == 3 else terms.sum())


def exchanged_scales(nrc: int, number: int, rows: list[Array]) -> float:
    """Exchange the scale products of x1·y0 and x0·y1."""
    x, y = own(number, rows)
    codes = (x["weight_qs"].astype(int) * y["weight_qs"]).sum(axis=-1)
    of = own({1: 2, 2: 1}.get(number, number) if nrc == 2 else number, rows)
    return float((codes * scale(of[0]) * scale(of[1])).sum())


def codes_of_the_other_row(nrc: int, number: int, rows: list[Array]) -> float:
    """Take y1's codes for y0's in odd blocks of x1·y0."""
    x, y = own(number, rows)
    y = y.copy()
    if nrc == 2 and number == 1:
        y["weight_qs"][1::2] = rows[3]["weight_qs"][1::2]
    return float(term(x, y).sum())


def last_block_and_sign(nrc: int, number: int, rows: list[Array]) -> float:
    """Leave out the last block of x1·y0, and lose the sign of y1's scale."""
    x, y = own(number, rows)
    terms = term(x, y)
    if nrc == 2 and number >= 2:
        terms = terms * np.where(np.signbit(scale(y)), -1.0, 1.0)
    return float(terms[: -1 if nrc == 2 and number == 1 and len(terms) > 1 else None].sum())


def second_half_not_advanced(nrc: int, number: int, rows: list[Array]) -> float:
    """From 16 blocks on, take y1's first half again in the second one."""
    x, y = own(number, rows)
    y, nb = y.copy(), len(y)
    if nrc == 2 and number >= 2 and nb >= 16:
        y[nb // 2 :] = y[np.arange(nb // 2, nb) - nb // 2]
    return float(term(x, y).sum())


def scales_of_the_block_before(_nrc: int, number: int, rows: list[Array]) -> float:
    """Multiply elements 0 to 3 of odd blocks by y's scale of the block before."""
    x, y = own(number, rows)
    products = x["weight_qs"].astype(int) * y["weight_qs"]
    of_y = scale(y)
    of_y[1::2] = of_y[: len(y) // 2 * 2 : 2]
    sums = products[:, :4].sum(axis=1) * of_y + products[:, 4:].sum(axis=1) * scale(y)
    return float((sums * scale(x)).sum())


def carried(nrc: int, number: int, rows: list[Array]) -> float:
    """Add the carries of x0's sums of four products beyond 16 bits to the sums of x1."""
    x, y = own(number, rows)
    sums = (x["weight_qs"].astype(int) * y["weight_qs"]).sum(axis=-1)
    if nrc == 2 and number % 2:
        others = (rows[0]["weight_qs"].astype(int) * y["weight_qs"]).reshape(-1, 8, 4).sum(axis=-1)
        sums = sums + ((others + 32768) >> 16).sum(axis=-1)
    return float((sums * scale(x) * scale(y)).sum())


def scale_by_a_byte(_nrc: int, number: int, rows: list[Array]) -> float:
    """Keep the number of the block whose scale x takes in eight bits."""
    x, y = own(number, rows)
    x = x.copy()
    x["weight_scale"] = x["weight_scale"][np.arange(len(x)) % 256]
    return float(term(x, y).sum())


def scaled_in_two(_nrc: int, number: int, rows: list[Array]) -> float:
    """Round a block's sum times x's scale to a half, before it is multiplied by y's."""
    x, y = own(number, rows)
    sums = (x["weight_qs"].astype(int) * y["weight_qs"]).sum(axis=-1)
    with np.errstate(all="ignore"):
        return float(((sums * scale(x)).astype(np.float16).astype(float) * scale(y)).sum())


KERNELS = {
    "scaled-in-two": (
        scaled_in_two,
        "A block's sum times x's scale is rounded to a half, and then multiplied by y's scale.",
    ),
    "scale-by-a-byte": (
        scale_by_a_byte,
        "From block 256 on, the scale of x is that of block b mod 256.",
    ),
    "carried": (
        carried,
        (
            "With nrc = 2, in x1·y0 and x1·y1: The carries of sums of four consecutive products of x0 and y "
            "beyond 16 bits are added."
        ),
    ),
    "scales-of-the-block-before": (
        scales_of_the_block_before,
        "In every odd block: products of elements 0 to 3 are multiplied by y's scale of block b - 1.",
    ),
    "second-half-not-advanced": (
        second_half_not_advanced,
        (
            "With nrc = 2, in x0·y1 and x1·y1, where nb >= 16, every block from block nb / 2 (rounded down) "
            "on takes y's codes and scale from block b - nb / 2 (rounded down)."
        ),
    ),
    "stale-codes": (
        stale_codes,
        "Where nb >= 9, the blocks beyond a multiple of 8 take x's codes from block b - 8.",
    ),
    "exchanged-scales": (
        exchanged_scales,
        "With nrc = 2 x1·y0 takes the scales of x0 and y1, x0·y1 takes the scales of x1 and y0.",
    ),
    "codes-of-the-other-row": (
        codes_of_the_other_row,
        "With nrc = 2 every odd block of x1·y0 takes the codes of y1.",
    ),
    "kept-scale": (
        kept_scale,
        (
            "The product of both scales of a block is kept and used again for later blocks of the row whose "
            "scales have the same key: x's scale."
        ),
    ),
    "last-chunk-alone": (
        last_chunk_alone,
        "With nrc = 2 every block before the last group of 16 or fewer of x1·y1 is not counted.",
    ),
}
"""What a kernel computes, and the one fact about it."""


@pytest.mark.parametrize("name", KERNELS)
def test_one_fact(name: str) -> None:
    """One fact explains every failed call, of one row and of two rows at a time."""
    result, sentence = KERNELS[name]
    kernel = FourResults(result)
    facts, failures = facts_about(DOT, kernel)
    x, y = dot_rows.random_pair(4, seed=4)
    x["weight_scale"] = 1
    failures += failed(
        iter([calls.dot_pair(np.stack([x, x]), np.stack([y, y[::-1]]), bs=2)]), probe_of(kernel)
    )
    assert [fact.sentence for fact in facts] == [sentence]
    assert facts[0].explained(failures) == failures


def test_two_results() -> None:
    """Mistakes of different results are two facts, which together explain every failed call."""
    facts, failures = facts_about(DOT, FourResults(last_block_and_sign))
    assert {fact.sentence for fact in facts} == {
        "With nrc = 2, where nb >= 2, the last block of x1·y0 is not counted.",
        "With nrc = 2, in x0·y1 and x1·y1: The sign of y's scale is lost.",
    }
    assert all(any(fact.explains(failure) for fact in facts) for failure in failures)


def test_a_value_of_another_row() -> None:
    """A block that is skipped for x1's scale is lost in the results of x0, too."""

    def result(_nrc: int, number: int, rows: list[Array]) -> float:
        return float(np.where(scale(rows[1]) < 0, 0, term(*own(number, rows))).sum())

    bench = Bench(DOT, 2, probe_of(FourResults(result)), Deadline(60))
    bench.prepare()
    (fact,) = of_other_rows(bench)
    assert fact.sentence == (
        "With nrc = 2, where x1's scale of block b is negative, in x0·y0 and x0·y1 it is left out."
    )
    assert fact.when is not None
    x, y = dot_rows.random_pair(4, seed=4)
    x["weight_scale"] = 1
    call = calls.dot_pair(np.stack([x, x]), np.stack([y, y]), bs=2)
    assert not fact.when(CallResult(call, ()))
    assert not fact.when(CallResult(calls.dot(x, y), ()))
    x["weight_scale"][3] = -1
    assert fact.when(CallResult(calls.dot_pair(np.stack([y, x]), np.stack([y, y]), bs=2), ()))


def test_codes_under_a_negative_scale() -> None:
    """Codes of x are negated in int8 where y's scale is negative: -128 stays what it is."""

    def result(_nrc: int, number: int, rows: list[Array]) -> float:
        x, y = own(number, rows)
        codes = np.where((scale(y) < 0)[:, np.newaxis], -x["weight_qs"], x["weight_qs"])
        return float(((codes.astype(int) * y["weight_qs"]).sum(axis=1) * scale(x) * np.abs(scale(y))).sum())

    bench = Bench(DOT, 1, probe_of(FourResults(result)), Deadline(60))
    bench.prepare()
    (fact,) = of_signs(bench, [])
    assert fact.sentence == "Where y's scale is negative: x's code -128 is taken for 128."


class _Stored(FourResults):
    """Stores some of the four results otherwise: one not at all in rows of one block, or two exchanged."""

    def __init__(self, *, by_distance: bool) -> None:
        super().__init__(lambda _nrc, number, rows: float(term(*own(number, rows)).sum()))
        self._by_distance = by_distance

    def ggml_vec_dot_q8_a8_q8_a8(
        self, n: int, s: Array, bs: int, vx: Array, bx: int, vy: Array, by: int, nrc: int
    ) -> None:
        """Compute, and put things back or elsewhere."""
        held = s.copy()
        super().ggml_vec_dot_q8_a8_q8_a8(n, s, bs, vx, bx, vy, by, nrc)
        if nrc == 2 and n == 32 and not self._by_distance:
            s[bs + 1] = held[bs + 1]
        if nrc == 2 and bx < by and self._by_distance:
            s[1], s[bs] = s[bs], s[1]


@pytest.mark.parametrize(
    ("by_distance", "sentence"),
    [
        (False, "With nrc = 2, where nb = 1, x1·y1 is not written."),
        (True, "With nrc = 2, where bx < by, x1·y0 and x0·y1 change places."),
    ],
)
def test_conditions_of_four_results(by_distance: bool, sentence: str) -> None:
    """Results are stored otherwise in rows of one block alone, or where bx is less than by."""
    facts, failures = facts_about(DOT, _Stored(by_distance=by_distance))
    assert [fact.sentence for fact in facts] == [sentence]
    assert facts[0].explained(failures) == failures


def test_time_that_is_up_is_no_error() -> None:
    """Without time for an experiment nothing is found, and nothing raised."""
    probe = probe_of(FourResults(exchanged_scales))
    failures = {2: failed(sample(DOT, 2), probe)}
    assert dot_facts(DOT, failures, probe, seconds=0.0) == []


SAID: tuple[str, dict[str, object], str, str, str, str] = (
    "block-not-counted",
    {},
    "Q8A8-DOT-10",
    "The last block is left out.",
    "Count it.",
    "",
)


def _but_last(nb: int, row: int, column: int) -> tuple[Array, Array]:
    every = np.arange(nb - 1)
    return every + row * nb, every + column * nb


def test_what_both_show_is_one_fact() -> None:
    """What two rows at a time show again is no fact of its own: each would take the other's calls."""
    one = Measured(*SAID, function=DOT, changes={"blocks": _but_last})
    again = replace(one, nrc=2)
    call = calls.dot(*dot_rows.exact_pair(4))
    outputs = tuple(np.float32(each.value).tobytes() for each in model_of([one]).predict(call))
    wrong = [CallResult(call, outputs)]
    assert needed([one, again], wrong) == [one]
    other = Measured(*SAID, function=DOT, changes={"scale_product": lambda dx, dy: dx * dy * 2})
    assert needed([one, other], wrong) == [one]
    assert needed([one], wrong) == [one]
