"""Conditions of a quantizer's laws that are put together of statements, and numbers that are measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8_conformance.faults import steps as plain
from q8a8_conformance.inputs.calls import ACTIVATION

from .test_quantizer_facts import ROW, facts_about
from .test_quantizer_pairs import requantized, row_of, vector_of

if TYPE_CHECKING:
    from q8a8_conformance.faults.kernel import Kernel
    from q8a8_conformance.inputs.arrays import Array

F32 = np.float32


def _products(x: Array) -> tuple[Array, Array]:
    """Return products x · inv, float32 [nb, 32], and the scales, float16 [nb]."""
    amax = plain.amax(x)
    with np.errstate(all="ignore"):
        h = (amax / F32(127)).astype(np.float16)
        return x * np.where(h == 0, F32(0), F32(127) / amax)[:, np.newaxis], h


def _sign_extended(_x: Array, y: Array) -> None:
    q = y[:, 2:].view(np.int8)
    q[:, 1::2][q[:, ::2] < 0] = -1


def _exchanged_and_truncated(x: Array, y: Array) -> None:
    v, h = _products(x)
    small = (h > 0) & (h < np.float16(2.0**-14))
    y[small, 2:] = np.trunc(v[small]).astype(np.int8).view(np.uint8)
    y[1::2, 2:4] = y[1::2, 3:1:-1].copy()


def _scale_by_product(x: Array, y: Array) -> None:
    h = (plain.amax(x) * F32(0.007874)).astype(np.float16)
    y[:, :2] = h[:, np.newaxis].view(np.uint8)


def _nibbles(x: Array, y: Array) -> None:
    v = np.abs(_products(x)[0])
    q = y[:, 2:].view(np.int8)
    lost = (np.abs(q) % 16 == 0) & (np.abs(q) > v)
    q[lost] -= 16 * np.sign(q[lost])


def _borrows(_x: Array, y: Array) -> None:
    q = y[:, 2:].view(np.int8)
    borrow = np.zeros(q.shape, np.bool_)
    borrow[:, 1:] = q[:, :-1] < 0
    borrow[:, ::4] = False
    q -= borrow


def _scales_of_the_middle_and_128_in_tails(x: Array, y: Array) -> None:
    whole = len(y) // 4 * 4
    middle = y[:whole].reshape(-1, 4, 34)
    middle[:, 1:3, :2] = middle[:, 2:0:-1, :2].copy()
    amax = plain.amax(x[whole:])
    with np.errstate(all="ignore"):
        inverse = np.where((amax / F32(127)).astype(np.float16) == 0, F32(0), F32(128) / amax)
    codes = np.clip(plain.to_integer(x[whole:] * inverse[:, np.newaxis]), -127, 127)
    y[whole:, 2:] = codes.astype(np.int8).view(np.uint8)


def _first_signed_and_clipped(x: Array, q: Array, scale: Array) -> None:
    if x.size > 1:
        seen = np.abs(x)
        seen[0] = max(x[0], F32(0))
        held = np.zeros(2 + x.size, np.uint8)
        requantized(x, seen.max(), held)
        q[:], scale[:] = held[2:].view(np.int8), held[:2].view(scale.dtype)
    whole = q[: x.size // 16 * 16]
    whole[:] = np.clip(whole, -126, 126)


def _inverse_of_half_in_whole_blocks(x: Array, q: Array, scale: Array) -> None:
    h = scale.view(np.float16)[0]
    if x.size % 32 == 0 and h:
        q[:] = np.clip(plain.to_integer(x * (F32(1) / h.astype(F32))), -127, 127).astype(np.int8)


def _even_in_some_lanes_and_inverse_of_d(x: Array, y: Array) -> None:
    v, h = _products(x)
    if len(x) % 2:
        with np.errstate(all="ignore"):
            v[-1] = x[-1] * np.where(h[-1] == 0, F32(0), F32(1) / (plain.amax(x[-1:]) / F32(127)))
    v[:, 8:] = plain.to_integer(v[:, 8:])
    y[:, 2:] = np.rint(v).astype(np.int8).view(np.uint8)


def _truncated_lanes_and_inverse_of_d(x: Array, y: Array) -> None:
    v, h = _products(x)
    with np.errstate(all="ignore"):
        inverse = np.where(h == 0, F32(0), F32(1) / (plain.amax(x) / F32(127)))
    v[7::8] = (x * inverse[:, np.newaxis])[7::8]
    v[:, 4:] = plain.to_integer(v[:, 4:])
    y[:, 2:] = np.trunc(v).astype(np.int8).view(np.uint8)


def _narrowed(x: Array, y: Array) -> None:
    seen = np.clip(x, F32(-65504), F32(65504)).astype(np.float16).astype(F32)
    for block, amax, into in zip(seen, plain.amax(seen), y, strict=True):
        requantized(block, amax, into)


def _unsigned_bits(x: Array, y: Array) -> None:
    amax = x.view(np.uint32).max(axis=1) & 0x7FFFFFFF
    for block, of, into in zip(x, amax.astype(np.uint32).view(F32), y, strict=True):
        requantized(block, of, into)


def _stale_inverse(x: Array, y: Array) -> None:
    inverse = F32(0)
    for block, amax, into in zip(x, plain.amax(x), y, strict=True):
        if not into[:2].any():
            into[2:] = np.clip(plain.to_integer(block * inverse), -127, 127).astype(np.int8).view(np.uint8)
        else:
            inverse = F32(127) / amax


def _estimated_in_sixteens(x: Array, q: Array, scale: Array) -> None:
    amax = np.abs(x).max(initial=F32(0))
    if scale.view(np.uint16)[0]:
        fraction, exponent = np.frexp(F32(1) / amax)
        inverse = F32(127) * np.ldexp(np.rint(fraction * 2**20) / 2**20, exponent).astype(F32)
        some = slice(0, x.size // 16 * 16)
        q[some] = np.clip(plain.to_integer(x[some] * inverse), -127, 127).astype(np.int8)


LAWS: dict[str, tuple[str, type[Kernel], list[str]]] = {
    "sign-extended": (ROW, row_of(_sign_extended), [
        ("Codes are -1, in elements 1, 3, 5 … 31 of a block, where the code of the element before is "
         "negative."),
    ]),
    "borrows": (ROW, row_of(_borrows), [
        ("Codes are stored one smaller, in elements whose number modulo 4 is not 0, where the code of the "
         "element before is negative."),
    ]),
    "two-that-meet": (ROW, row_of(_exchanged_and_truncated), [
        ("At code 0 of a block stands code 1; At code 1 of a block stands code 0, in blocks whose number "
         "modulo 2 is 1."),
        "Elements are truncated, not rounded: a C cast, where the scale is subnormal or 0.",
    ]),
    "factor-of-the-scale": (ROW, row_of(_scale_by_product), [
        "The scale is amax · 0.007874, not amax / 127.",
    ]),
    "nibbles": (ROW, row_of(_nibbles), [
        ("Codes are stored 16 nearer to zero, where the code's magnitude modulo 16 is 0 and the product is "
         "rounded up in magnitude."),
    ]),
    "middle-and-tail": (ROW, row_of(_scales_of_the_middle_and_128_in_tails), [
        "In whole groups of 4 blocks their scales stand in the order 0, 2, 1, 3.",
        "Elements are multiplied by 128 / amax, not by 127 / amax, in the blocks beyond a multiple of 4.",
    ]),
    "first-and-clipped": (ACTIVATION, vector_of(_first_signed_and_clipped), [
        "Codes are clipped to -126 to 126, in the elements up to the last multiple of 16.",
        "The first element, where size >= 2, does not count in amax where it is negative.",
    ]),
    "two-recipes": (ROW, row_of(_even_in_some_lanes_and_inverse_of_d), [
        "Halves are rounded to the even integer, in elements 0 to 7 of a block.",
        "Elements are multiplied by f32(1/d), in the last block where nb is odd.",
    ]),
    "hidden-by-another": (ROW, row_of(_truncated_lanes_and_inverse_of_d), [
        "Elements are truncated, not rounded: a C cast, in elements 0 to 3 of a block.",
        "Elements are multiplied by f32(1/d), in the last block of every 8.",
    ]),
    "narrowed": (ROW, row_of(_narrowed), [
        "Elements are rounded to a half, up to 65504 in magnitude.",
    ]),
    "unsigned-bits": (ROW, row_of(_unsigned_bits), [
        ("A block's amax is that of the negative elements where there are any, as of bits that are compared "
         "as unsigned."),
    ]),
    "stale-inverse": (ROW, row_of(_stale_inverse), [
        ("A block's codes, and not its scale, are computed with the amax of the last block up to it whose "
         "scale is not 0."),
    ]),
    "estimated-in-sixteens": (ACTIVATION, vector_of(_estimated_in_sixteens), [
        ("The inverse is not f32(127 / amax): of 128 values of amax 121 have another one, -16 to +8 units "
         "in the last place off, as an estimate gives, in the elements up to the last multiple of 16."),
    ]),
    "some-sizes": (ACTIVATION, vector_of(_inverse_of_half_in_whole_blocks), [
        "Elements are multiplied by the inverse of the stored half, where size % 32 = 0.",
    ]),
}  # fmt: skip
"""What a quantizer does: the sentences of its facts."""


@pytest.mark.parametrize("name", LAWS)
def test_what_happens_and_when(name: str) -> None:
    """Each law says its condition, and together they explain every failed call."""
    function, make, expected = LAWS[name]
    facts, failed = facts_about(function, make)
    assert sorted(fact.sentence for fact in facts) == sorted(expected)
    explained = {id(one) for fact in facts for one in fact.explained(failed)}
    assert len(explained) == len(failed) > 0
