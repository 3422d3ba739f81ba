"""Dot products that are wrong in some blocks of a row, or at some addresses: the fact says which, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8 import layout
from q8a8_conformance.diagnosis.dots import conditions
from q8a8_conformance.diagnosis.replay import replay
from q8a8_conformance.faults.kernel import DOT, DOT_REAL, Kernel, Steps
from q8a8_conformance.faults.layout import swapped_bytes
from q8a8_conformance.inputs import calls, dot_rows
from q8a8_conformance.mutants import make
from q8a8_conformance.results.observations import Failure

from .dot_calls import facts_about

if TYPE_CHECKING:
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call


def _octets_exchanged_in_odd_blocks(qx: Array, qy: Array) -> Array:
    met = qy.copy()
    met[1::2, 16:] = met[1::2][:, [*range(24, 32), *range(16, 24)]]
    return np.asarray(qx.astype(int) * met)


def _stale_in_the_last_of_odd(qx: Array, qy: Array) -> Array:
    met, nb = qy.copy(), len(qy)
    if nb >= 3 and nb % 2:
        met[-1, 16:] = qy[-2, 16:]
    return np.asarray(qx.astype(int) * met)


def _next_block_in_the_last_of_eight(qx: Array, qy: Array) -> Array:
    met, at = qy.copy(), np.arange(7, len(qy) - 1, 8)
    met[at, 16:] = qy[at + 1, 16:]
    return np.asarray(qx.astype(int) * met)


def _corrected_by_the_block_before(qx: Array, qy: Array) -> Array:
    of = qx.astype(int) * qy
    if len(qx) > 1:
        of[-1] += 128 * (qx[-1].astype(int) - qx[-2])
    return of


def _half_product_in_tail(dx: Array, dy: Array) -> Array:
    of, nb = dx * dy, dx.size
    tail = np.arange(nb) >= nb // 4 * 4
    with np.errstate(over="ignore"):
        return np.where(tail, of.astype(np.float16).astype(np.float32), of)


def _negative_unless_both_positive(dx: Array, dy: Array) -> Array:
    return np.where(np.signbit(dx) | np.signbit(dy), -np.abs(dx * dy), dx * dy)


def _complement_in_the_last_octet(qx: Array, qy: Array) -> Array:
    taken = qx.astype(int)
    taken[:, 24:] += taken[:, 24:] < 0
    return taken * qy


def _y_at_the_end(data: Array, nb: int) -> tuple[Array, Array, Array]:
    """Take the activation scale, which is y's alone, from the last two codes."""
    blocks = layout.as_blocks(data[: 36 * nb].tobytes(), layout.BLOCK_Q8_A8_V2)
    codes = np.ascontiguousarray(blocks["weight_qs"])
    return blocks["weight_scale"], codes[:, 30:].copy().view(np.float16)[:, 0], codes


def _first_of_tiles_twice(nb: int) -> Array:
    return np.sort(np.concatenate([np.arange(nb), np.arange(64, nb, 64)]))


_EXCHANGED = "x's element j meets y's element j xor 8, for j = 16 to 31"
_ODD = "where nb >= 3 and nb is odd"


def _as_normal(halves: Array) -> Array:
    """Take halves whose exponent field is 0, zeros too, with a hidden bit."""
    bits = halves.view(np.uint16)
    normal = np.copysign(np.ldexp(1024 + (bits & 0x3FF).astype(np.float32), -25), halves)
    return np.where(bits & 0x7C00, halves, normal).astype(np.float32)


def _borrowed(halves: Array) -> Array:
    """Take 0x100 off the bits where the low byte is negative as an int8."""
    bits = halves.view(np.uint16)
    return np.asarray((bits - (bits & 0x80) * 2).view(np.float16))


KERNELS = {
    "octets-exchanged": (
        DOT,
        Steps(products=_octets_exchanged_in_odd_blocks),
        "block-map",
        f"In every odd block: {_EXCHANGED}.",
    ),
    "stale-register": (
        DOT,
        Steps(products=_stale_in_the_last_of_odd),
        "block-map",
        f"In the last block {_ODD}: elements 16 to 31 of y are those of block b - 1.",
    ),
    "next-block-in-the-last-of-eight": (
        DOT,
        Steps(products=_next_block_in_the_last_of_eight),
        "block-map",
        (
            "In the last block of every 8 that is not at the end: elements 16 to 31 of y are those of "
            "block b + 1."
        ),
    ),
    "corrected-by-the-block-before": (
        DOT,
        Steps(products=_corrected_by_the_block_before),
        "correction-wrong",
        (
            "In the last block where nb >= 2: 128 is added to the codes of y, and what is taken off for it "
            "is 128 times the sum of x's codes of block b - 1, not of its own."
        ),
    ),
    "half-product-in-tail": (
        DOT,
        Steps(scale_product=_half_product_in_tail),
        "scale-product",
        "In the blocks beyond a multiple of 4: the product of the scales is rounded to a half.",
    ),
    "signs-joined-by-or": (
        DOT,
        Steps(scale_product=_negative_unless_both_positive),
        "scale-product",
        "Products of two negative scales are read with the other sign.",
    ),
    "fixed-point-y": (
        DOT_REAL,
        Steps(scale_product=lambda dx, dy: dx * np.trunc(dy * np.float32(65536)) / np.float32(65536)),
        "scale-read",
        "Y's scale is cut to a multiple of 2^-16.",
    ),
    "complement-in-the-last-octet": (
        DOT,
        Steps(products=_complement_in_the_last_octet),
        "products",
        "x's negative codes are read as one more in elements 24 to 31 of a block.",
    ),
    "y-big-endian": (
        DOT_REAL,
        Steps(pick=lambda xw, _xa, _yw, ya: (xw, swapped_bytes(ya))),
        "block-layout",
        "Y's scale is read with its high byte first.",
    ),
    "read-as-normal": (
        DOT,
        Steps(widen=_as_normal),
        "scale-read",
        "Scales that are subnormal or zero are read as if they were normal: 2^-15 and more.",
    ),
    "x-low-byte-signed": (
        DOT_REAL,
        Steps(pick=lambda xw, _xa, _yw, ya: (_borrowed(xw), ya)),
        "block-layout",
        "X's scale is read with its low byte added to the high one as a signed number.",
    ),
    "y-at-the-end": (
        DOT_REAL,
        Steps(unpack_v2=_y_at_the_end),
        "block-layout",
        "The scale of y is read 32 bytes too late.",
    ),
    "first-of-tiles-twice": (
        DOT,
        Steps(visited=_first_of_tiles_twice),
        "block-counted-twice",
        "The first block of every 64 but the first is counted twice.",
    ),
}
"""A function, what is wrong with it, and the fact about it."""


@pytest.mark.parametrize("name", KERNELS)
def test_where_and_how(name: str) -> None:
    """The first fact has the blocks, or the values, and what happens there; it explains every failed call."""
    function, steps, fact, sentence = KERNELS[name]
    facts, failures = facts_about(function, Kernel({function: steps}))
    assert (facts[0].fact, facts[0].sentence) == (fact, sentence)
    single = [failure for failure in failures if failure.call.nrc == 1]
    assert facts[0].explained(single) == single
    assert facts[0].evidence[0].actual != facts[0].evidence[0].expected


def test_elements_exchanged_in_some_blocks_of_codes_misread_in_all() -> None:
    """What happens in some blocks is measured on the codes as they are read in all."""
    kernel = Steps(products=lambda qx, qy: _octets_exchanged_in_odd_blocks(qx, np.maximum(qy, -127)))
    facts, failures = facts_about(DOT, Kernel({DOT: kernel}))
    exchanged, clamped = facts
    assert exchanged.sentence == f"In every odd block: {_EXCHANGED}."
    assert clamped.cause == "minus-128-clamped"
    for failure in failures:
        assert failure.call.nrc == 2 or exchanged.explains(failure) or clamped.explains(failure)


def test_wrong_at_aligned_addresses() -> None:
    """A call that is wrong at every 16th byte, and right between, is wrong for its address."""
    x, y = dot_rows.random_pair(3, seed=3)
    call = calls.dot(x, y)
    right = replay(make(), call)
    index = call.spec.inputs[0]

    def probe(made: Call) -> tuple[bytes, ...]:
        return (b"\0" * 4,) if made.buffers[index].offset % 16 == 0 else right

    wrong = [Failure(call, (b"\0" * 4,), right)]
    condition = conditions.of_alignment(wrong, probe)
    assert condition is not None
    assert condition.words == "vx lies at 0 mod 16"
    assert conditions.of_alignment(wrong, lambda _call: (b"\0" * 4,)) is None


class _LastOfOddExchanged(Kernel):
    """With two rows at a time, exchanges the last block's terms of x1·y0 and x0·y1 where nb is odd."""

    def ggml_vec_dot_q8_a8_q8_a8(
        self, n: int, s: Array, bs: int, vx: Array, bx: int, vy: Array, by: int, nrc: int
    ) -> None:
        """Multiply, and move the last terms."""
        super().ggml_vec_dot_q8_a8_q8_a8(n, s, bs, vx, bx, vy, by, nrc)
        if nrc == 2 and n // 32 % 2:
            at, terms = (n // 32 - 1) * 34, np.zeros(bs + 2, np.float32)
            super().ggml_vec_dot_q8_a8_q8_a8(32, terms, bs, vx[at:], bx, vy[at:], by, nrc)
            s[1] += terms[bs] - terms[1]
            s[bs] += terms[1] - terms[bs]


def test_results_exchanged_in_some_blocks() -> None:
    """Results that are exchanged in some blocks alone are said to be, and no name claims more."""
    facts, failures = facts_about(DOT, _LastOfOddExchanged())
    assert facts[0].sentence == (
        "With nrc = 2, of the last block where nb is odd, x1·y0 and x0·y1 change places."
    )
    assert facts[0].cause == ""
    assert facts[0].explained(failures) == failures
