"""The fixed product: its inputs as the page defines them, its outputs as the exact oracle computes them."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from q8a8_conformance.inputs import calls, fixed_product
from q8a8_golden import oracle

X_ROWS = range(fixed_product.N - 8, fixed_product.N)
W_ROWS = range(fixed_product.M - 8, fixed_product.M)
NB = 101


def word(stream: int, index: int) -> int:
    """Return one word of a stream."""
    mask = 2**64 - 1
    z = ((stream << 32) + index + 1) * 0x9E3779B97F4A7C15 & mask
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
    z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
    return z ^ z >> 31


def weight_block(j: int, b: int) -> bytes:
    """Return block b of row j of W, as the page defines it."""
    at = j * NB + b
    codes = b"".join(word(0, 4 * at + quarter).to_bytes(8, "little") for quarter in range(4))
    bits = word(1, at) & 0xFFFF
    sign, plain = bits & 0x8000, bits & 0x9FFF | 0x2000
    finite = bits ^ 0x4000 if bits & 0x7C00 == 0x7C00 else bits
    zero = sign if b % 3 == 0 else plain
    power = bits & 0x1C00 | 0x2000
    scale = (plain, finite, sign | (bits & 0x3FF) + 1, sign | 0x7BFF, plain, zero, plain, power)[j % 8]
    if j % 8 == 4 and b % 3 < 2:
        codes = bytes([(0x80, 0x7F)[b % 3]] * 32)
    if j % 8 == 6 and b % 3 == 0:
        codes = bytes(32)
    return scale.to_bytes(2, "little") + codes


def plain_float(w: int) -> int:
    """Return the bits of a float of ordinary size."""
    return w & 0x807FFFFF | (120 + (w >> 32) % 16) << 23


def activation(i: int, b: int, e: int) -> int:
    """Return the bits of element e of block b of row i of X, as the page defines it."""
    w = word(2, (i * NB + b) * 32 + e)
    high, sign, fraction = w >> 32, w & 0x80000000, w & 0x7FFFFF
    power = word(3, i * NB + b) % 20 - 10
    tie = float(127) if e == 0 else high % 127 + 0.5
    tie_bits = int.from_bytes(struct.pack("<f", tie * 2.0**power), "little") | sign
    return (
        plain_float(w),
        tie_bits,
        tie_bits + (b % 2 if e == 0 else 2 * (high >> 31) - 1),
        sign | fraction | (0 if b % 2 else (107 + high % 6) << 23),
        0x4AFDF01F if e == 0 else sign | fraction & 0x3FFFFF | (140 + high % 10) << 23,
        sign if b % 3 == 0 or high % 2 == 0 else plain_float(w),
        sign | fraction & 0x3FFFFF | (100 + high % 50) << 23,
        plain_float(w) & 0xFFFF0000,
    )[i % 8]


@pytest.fixture(scope="module")
def rows() -> tuple[list[bytes], list[list[int]]]:
    """Return eight rows of W as bytes, and eight of X as bits."""
    w = [b"".join(weight_block(j, b) for b in range(NB)) for j in W_ROWS]
    x = [[activation(i, b, e) for b in range(NB) for e in range(32)] for i in X_ROWS]
    return w, x


def test_the_inputs(rows: tuple[list[bytes], list[list[int]]]) -> None:
    """The arrays have the words of the definition, and only finite values."""
    assert [fixed_product.weights()[j].tobytes() for j in W_ROWS] == rows[0]
    assert fixed_product.activations()[X_ROWS.start :].view(np.uint32).tolist() == rows[1]
    assert np.isfinite(fixed_product.weights()["weight_scale"]).all()
    assert np.abs(fixed_product.activations()).max() == np.float32(65520 * 127 - 0.5)


@pytest.mark.rule("Q8A8-MUL-1", "Q8A8-MUL-2")
def test_the_exact_oracle(rows: tuple[list[bytes], list[list[int]]]) -> None:
    """Outputs of every kind of weights and activations are those of the exact oracle."""
    quantized = [oracle.quantize_row(row) or b"" for row in rows[1]]
    expected = [[oracle.dot(x, w) for w in rows[0]] for x in quantized]
    product = np.frombuffer(fixed_product.outputs(calls.MUL_MAT), np.uint32)
    shape = fixed_product.N, fixed_product.M
    assert product.reshape(shape)[X_ROWS.start :, W_ROWS.start :].tolist() == expected
    blocks = fixed_product.outputs(calls.QUANTIZERS[1])
    assert blocks[-8 * 34 * NB :] == b"".join(quantized)
    floats = np.frombuffer(fixed_product.outputs(calls.DEQUANTIZE), np.uint32)
    assert floats[-32 * NB :].tolist() == oracle.dequantize(rows[0][-1])
    dots = np.frombuffer(fixed_product.outputs(calls.DOT), np.uint32)
    last = fixed_product.weights()[(fixed_product.M - 1 + 8) % fixed_product.M].tobytes()
    assert dots[-1] == oracle.dot(rows[0][-1], last)


@pytest.mark.parametrize("function", fixed_product.DIGESTS)
def test_the_digests(function: str) -> None:
    """The constants are the hashes of what NumPy computes."""
    assert fixed_product.digest(fixed_product.outputs(function)) == fixed_product.DIGESTS[function]


def test_the_calls() -> None:
    """The product is one call of odd numbers of rows and blocks, the dot products are two a row of W."""
    calls_made = list(fixed_product.calls_of(calls.MUL_MAT))
    assert (calls_made[0].bs, calls_made[0].bx, calls_made[0].n) == (257, 61, 32 * NB)
    assert len(list(fixed_product.calls_of(calls.DOT))) == 2 * fixed_product.M
