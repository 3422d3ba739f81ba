"""What becomes of the terms of wrong products, and of which: one law for products of any shape."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from q8a8 import dequantize_row, layout
from q8a8.abi import Reference
from q8a8.quantize import quantize_row
from q8a8.rounding import round_half_away
from q8a8_conformance.diagnosis.products.laws import law_facts
from q8a8_conformance.diagnosis.products.terms import terms_of
from q8a8_conformance.faults.in_process import InProcessSession
from q8a8_conformance.inputs import mul_mat_rows
from q8a8_conformance.inputs.calls import MUL_MAT, float_bytes
from q8a8_conformance.inputs.calls import mul_mat as product_call
from q8a8_conformance.results.observations import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8_conformance.diagnosis.facts import Fact

Array = NDArray[Any]
Side = tuple[Array, Array]

TRUNCATED = "activations are quantized with rounding = truncate, not rounding = half-away"
LARGEST = "the largest element of a block, not under the largest magnitude"
OF_SOME = "activations are quantized under the amax of elements 0 to 4, 6 to 28, 31 of a block alone"
OF_HALF = "activations are quantized under the amax of the first 16 elements of a block alone"
SATURATING = ((3, 1, 4), (2, 5, 3))
ZERO = ", and 0 beyond the last"
APART = "i * (nb rounded up to a multiple of 4) + b"
BEYOND = "beyond a multiple of"

SHAPES = ((1, 3, 2), (3, 1, 4), (5, 7, 1), (9, 17, 3), (17, 9, 5), (2, 4, 7), (12, 3, 6), (3, 2, 19))
"""m, n and blocks of a row of the calls that are made."""


def facts_of(
    change: Callable[[Array, Side, Side], Array],
    quantize: Callable[[Array, Array, Array], Side] | None = None,
) -> tuple[list[Fact], list[Failure]]:
    """Return the laws of a kernel that adds other terms, and its failed calls.

    `change` gets the right terms, float64 [n, m, nb], and codes and scales of w and x, and returns others;
    `quantize` gets elements, and codes and scales of x, and returns others.
    """

    class Changed(Reference):
        """A kernel that adds other terms."""

        def mul_mat_q8_a8(self, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
            """Multiply, and add up what became of the terms."""
            elements = x[: n * k].reshape(n, k).copy()
            blocks, rows = layout.as_blocks(w[: m * k // 32 * 34]).reshape(m, -1), quantize_row(elements)
            of_w, of_x = (
                (side["weight_qs"], side["weight_scale"].astype(np.float64))
                for side in (blocks, rows.reshape(n, -1))
            )
            if quantize:
                of_x = quantize(elements.reshape(n, -1, 32), *of_x)
            out[: m * n] = change(terms_of(of_w, of_x), of_w, of_x).sum(axis=2).reshape(-1)

    return facts_of_kernel(Changed, is_exact=quantize is None)


def facts_of_kernel(kernel: type[Reference], *, is_exact: bool) -> tuple[list[Fact], list[Failure]]:
    """Return the laws of a kernel, and its failed calls, of matrices that no recipe rounds or of others."""
    session, failures = InProcessSession(kernel, [MUL_MAT]), []
    saturating = [mul_mat_rows.saturating(*shape) for shape in SATURATING]
    for w, exact in (*(mul_mat_rows.exact(*shape) for shape in SHAPES), *saturating):
        m, n = len(w), len(exact)
        x = exact * np.float32(1 if is_exact else 1.3)
        call = product_call(w, x, out=float_bytes(3.0) * (m * n))
        rows = quantize_row(x).reshape(n, -1)
        of_w, of_x = ((side["weight_qs"], side["weight_scale"].astype(np.float64)) for side in (w, rows))
        expected = (terms_of(of_w, of_x).sum(axis=2).astype("<f4").tobytes(),)
        outputs = tuple(bytes(out) for out in session.call(call).outputs)
        if outputs != expected:
            failures.append(Failure(call, outputs, expected))
    return law_facts(session, failures), failures


def _overlapping(right: Array, _w: Side, _x: Side) -> Array:
    m = right.shape[1]
    if m > 8 and m % 8:
        right[:, m - 8 : m - m % 8] *= 2
    return right


def _block_before(right: Array, w: Side, x: Side) -> Array:
    m, nb = right.shape[1:]
    before = np.maximum(np.arange(nb) - 1, 0)
    other = terms_of(w, (x[0][:, before], x[1][:, before]))
    start = max(nb - nb % 4, 1)
    right[:, m - m % 4 :, start:] = other[:, m - m % 4 :, start:]
    return right


def _codes_before(right: Array, w: Side, x: Side) -> Array:
    before = np.maximum(np.arange(right.shape[2]) - 1, 0)
    return np.where(np.arange(right.shape[2]) % 2, terms_of((w[0][:, before], w[1]), x), right)


def _even_rows(right: Array, w: Side, x: Side) -> Array:
    del right
    n, nb = x[1].shape
    at = np.arange(n)[:, np.newaxis] * (nb - nb % 2) + np.arange(nb)
    return terms_of(w, (x[0].reshape(-1, 32)[at], x[1].reshape(-1)[at]))


def _scales_apart(right: Array, w: Side, x: Side) -> Array:
    del right
    n, nb = x[1].shape
    at = np.arange(n)[:, np.newaxis] * (-(-nb // 4) * 4) + np.arange(nb)
    scales = np.append(x[1].reshape(-1), np.zeros(4 * n))[at]
    return terms_of(w, (x[0], scales))


def _scaled_once(at: Callable[[Array, int], Array], right: Array, w: Side, x: Side) -> Array:
    del right
    nb = x[1].shape[1]
    of = at(np.arange(nb), nb)
    return terms_of((w[0], w[1][:, of]), (x[0], x[1][:, of]))


def _corrected_once(at: Callable[[Array, int], Array], right: Array, w: Side, x: Side) -> Array:
    nb = x[1].shape[1]
    of = at(np.arange(nb), nb)
    own, others = x[1][:, np.newaxis] * w[1], x[1][:, np.newaxis, of] * w[1][:, of]
    return np.asarray(right + 128 * w[0].sum(axis=2, dtype=np.int64) * (own - others))


def _last_of_pair(b: Array, nb: int) -> Array:
    return np.asarray(np.minimum(b | 1, nb - 1))


def _last_of_four(b: Array, nb: int) -> Array:
    return np.asarray(np.minimum(b | 3, nb - 1))


def _first_of_third(b: Array, nb: int) -> Array:
    return np.asarray(b - b % -(-nb // 3)) if nb > 6 else b


SCALED = "take the scales of block"
CORRECTED = (
    "have 128 added to the codes of x, and 128 times the sum of w's codes taken off under the scales of block"
)


def _two_mistakes(right: Array, w: Side, x: Side) -> Array:
    m, nb = right.shape[1:]
    start = max(m - m % 8, 1)
    right[:, start:] = terms_of((w[0][start - 1 : -1], w[1][start - 1 : -1]), x)
    right[3::4, :, nb - 1 if nb > 2 else nb :] = 0
    return right


def _overwritten(right: Array, w: Side, x: Side) -> Array:
    rows, nb = np.maximum(np.arange(len(right)) - 1, 0), right.shape[2]
    found = terms_of(w, (x[0], x[1][rows]))
    found[..., : 8 if nb > 8 else 0] = 0
    return found


@pytest.mark.parametrize(
    ("change", "sentences"),
    [
        (
            _overwritten,
            [
                "Every block up to block 7 where nb >= 9 is not counted.",
                "All outputs take the scales of row i - 1 of x.",
            ],
        ),
        (
            partial(_scaled_once, _last_of_four),
            [f"All outputs {SCALED} min(b - b % 4 + 3, nb - 1) of w and x."],
        ),
        (
            partial(_scaled_once, _first_of_third),
            [f"All outputs where nb >= 7 {SCALED} b - b % s, with s = nb / 3 rounded up, of w and x."],
        ),
        (
            partial(_corrected_once, _last_of_pair),
            [f"All outputs {CORRECTED} min(b - b % 2 + 1, nb - 1), not of their own."],
        ),
        (
            _overlapping,
            ["Outputs in the columns from m - 8 to the last multiple of 8, exclusive are doubled."],
        ),
        (
            _block_before,
            [f"In outputs in the columns {BEYOND} 4, the blocks {BEYOND} 4 take block b - 1 of x."],
        ),
        (_codes_before, ["Every odd block takes the codes of block b - 1 of w."]),
        (
            _even_rows,
            ["All outputs take block i * (nb - nb % 2) + b of all blocks of x, not i * nb + b."],
        ),
        (
            _scales_apart,
            [f"All outputs take the scale of block {APART} of all blocks of x, not i * nb + b{ZERO}."],
        ),
        (
            _two_mistakes,
            [
                "In outputs in the last row of every 4, the last block where nb >= 3 is not counted.",
                f"Outputs in the columns {BEYOND} 8 take row j - 1 of w.",
            ],
        ),
    ],
)
def test_one_law_for_all_shapes(change: Callable[[Array, Side, Side], Array], sentences: list[str]) -> None:
    """What becomes of terms is said of products of any shape, and predicts the failed calls."""
    facts, failures = facts_of(change)
    assert [fact.sentence for fact in facts] == sentences
    assert all(any(fact.explains(failure) for fact in facts) for failure in failures)
    assert all(fact.evidence and fact.explained(failures) for fact in facts)


def test_no_law() -> None:
    """What no effect gives has none."""
    facts, failures = facts_of(lambda right, _w, _x: right * (1 + np.arange(right.shape[2]) % 5 / 7))
    assert failures
    assert facts == []


def _scale_of_tail(x: Array, codes: Array, scales: Array) -> Side:
    start = scales.shape[1] // 4 * 4
    scales[:, start:] = np.abs(x[:, start:]).max(axis=2) / np.float32(127)
    return codes, scales


def _truncated(x: Array, codes: Array, scales: Array) -> Side:
    n = len(x)
    here = np.zeros(scales.shape, bool)
    here[n - n % 4 :, 2:] = True
    scaled = x * (np.float32(127) / np.abs(x).max(axis=2))[..., np.newaxis]
    return np.where(here[..., np.newaxis], np.trunc(scaled), codes), scales


def _truncated_rows(x: Array, codes: Array, scales: Array) -> Side:
    left = np.arange(len(x)) >= len(x) - len(x) % 4
    scaled = x * (np.float32(127) / np.abs(x).max(axis=2))[..., np.newaxis]
    return np.where(left[:, np.newaxis, np.newaxis], np.trunc(scaled), codes), scales


def _largest(x: Array, codes: Array, scales: Array) -> Side:
    amax = np.maximum(x.max(axis=2), 0)
    with np.errstate(all="ignore"):
        scaled = np.nan_to_num(x * (np.float32(127) / amax)[..., np.newaxis])
    last = np.arange(len(x)) == len(x) - 1
    other = np.clip(round_half_away(scaled), -127, 127)
    codes = np.where(last[:, np.newaxis, np.newaxis], other, codes)
    return codes, np.where(last[:, np.newaxis], (amax / np.float32(127)).astype(np.float16), scales)


def _amax_of_half(x: Array, codes: Array, scales: Array) -> Side:
    amax = np.maximum(np.abs(x[:, -1, :16]).max(axis=1), np.float32(1e-30))
    scaled = x[:, -1] * (np.float32(127) / amax)[:, np.newaxis]
    codes, scales = codes.copy(), scales.copy()
    codes[:, -1] = np.clip(round_half_away(scaled), -127, 127)
    scales[:, -1] = (amax / np.float32(127)).astype(np.float16)
    return codes, scales


def _amax_without_some(x: Array, codes: Array, scales: Array) -> Side:
    whole = len(x) - len(x) % 4
    some = np.delete(x[:whole], [5, 29, 30], axis=2)
    amax = np.maximum(np.abs(some).max(axis=2), np.float32(1e-30))
    codes, scales = codes.copy(), scales.copy()
    scaled = x[:whole] * (np.float32(127) / amax)[..., np.newaxis]
    codes[:whole] = np.clip(round_half_away(scaled), -128, 127)
    scales[:whole] = (amax / np.float32(127)).astype(np.float16)
    return codes, scales


@pytest.mark.parametrize(
    ("quantize", "sentence"),
    [
        (_amax_without_some, f"In outputs in the rows up to the last multiple of 4, {OF_SOME}."),
        (_scale_of_tail, f"In the blocks {BEYOND} 4, the scale of activations is not rounded to a half."),
        (_truncated, f"In outputs in the rows {BEYOND} 4, in every block from block 2 on, {TRUNCATED}."),
        (_truncated_rows, f"In outputs in the rows {BEYOND} 4, {TRUNCATED}."),
        (_largest, f"In outputs in the last row, activations are quantized under {LARGEST}."),
        (_amax_of_half, f"In the last block, {OF_HALF}."),
    ],
)
def test_activations_of_some_blocks(quantize: Callable[[Array, Array, Array], Side], sentence: str) -> None:
    """What activations become in some blocks is said of these alone."""
    (fact,), failures = facts_of(lambda right, _w, _x: right, quantize)
    assert fact.sentence == sentence
    assert fact.rule == "Q8A8-MUL-4"
    assert fact.explained(failures) == failures


class LargeFloats(Reference):
    """A kernel that does not quantize activations where both matrices have five rows or more."""

    def mul_mat_q8_a8(self, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
        """Multiply floats."""
        super().mul_mat_q8_a8(m, n, k, w, x, out)
        if min(m, n) >= 5:
            floats = dequantize_row(layout.as_blocks(w[: m * k // 32 * 34])).reshape(m, k)
            out[: m * n] = (x[: n * k].reshape(n, k) @ floats.T).reshape(-1)


def test_activations_of_two_sizes() -> None:
    """A condition on both sizes is found."""
    (fact,), failures = facts_of_kernel(LargeFloats, is_exact=False)
    where = "where m >= 5 and n >= 5"
    assert fact.sentence == f"In all outputs {where}, activations stay float32, and are not quantized."
    large = [one for one in failures if min(one.call.bs, one.call.bx) >= 5]
    assert fact.explained(failures) == large


def _in_int16(right: Array, w: Side, x: Side) -> Array:
    pairs = np.zeros(right.shape)
    scales = x[1][:, np.newaxis] * w[1]
    for at in range(0, 32, 4):
        part = np.einsum("nbe,mbe->nmb", *(s[0][..., at : at + 4].astype(np.float64) for s in (x, w)))
        pairs += np.clip(part, -32768, 32767)
    return pairs * scales if len(x[1]) == 1 else right


def _pairs_exchanged(right: Array, w: Side, x: Side) -> Array:
    m = right.shape[1]
    right[:, m - m % 4 :] = terms_of((w[0][..., np.arange(32) ^ 1], w[1]), x)[:, m - m % 4 :]
    return right


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (_pairs_exchanged, f"In outputs in the columns {BEYOND} 4, element e of x meets element e ^ 1 of w."),
        (_in_int16, "In all outputs where n = 1, sums of four products saturate in int16."),
    ],
)
def test_sums_of_codes(change: Callable[[Array, Side, Side], Array], sentence: str) -> None:
    """Codes and scales that count as others, and sums of too few bits, are said with their shapes."""
    (fact,), failures = facts_of(change)
    assert fact.sentence == sentence
    assert fact.explained(failures) == failures
