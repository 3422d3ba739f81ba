"""One large fixed matrix product with every edge value, and the SHA-256 of its outputs.

The inputs come from a counter-based generator of 64-bit words (SplitMix64's output function over a counter),
and are put together from bits, so that any language makes the same ones; ``docs/one-result.md`` defines them
in words. No number generator of a library is used: those may change.

Weights [m, k] and activations [n, k] have odd numbers of rows and of blocks. Rows are of eight kinds each, by
their number, so that every kind of weights meets every kind of activations.
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from q8a8 import BLOCK_Q8_A8, QK8_A8, dequantize_row, mul_mat, quantize_row, vec_dot
from q8a8_conformance.inputs import calls

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from q8a8_conformance.protocol.messages import Call

    U64 = NDArray[np.uint64]
    U32 = NDArray[np.uint32]
    F32 = NDArray[np.float32]
    Blocks = NDArray[np.void]

M: Final = 257
N: Final = 61
NB: Final = 101
K: Final = QK8_A8 * NB

KINDS: Final = 8
"""Kinds of rows, of weights and of activations: that of a row is its number modulo this."""

CODES, SCALES, FLOATS, STEPS = range(4)
"""The streams of words: for codes, eight a word; scales; single activations; blocks of activations."""

DIGESTS: Final[Mapping[str, str]] = {
    "mul_mat_q8_a8": "692fce24c98549d3d37b6628df7f8c5be8805830afab110a7e95f7641087579e",
    "ggml_vec_dot_q8_a8_q8_a8": "dcf2eeef042889d42ba32efd84c27c83aea1d97908de867913ec760cfdab9657",
    "quantize_row_q8_a8": "b2172fe8aa787cf06b69115a9cf5b5c59d4a441cc9f28a690f2ec2d6b948c2c1",
    "dequantize_row_q8_a8": "da47cf04ff89855cf6d7ffd1115ff5977704e944215153ff4133887a9020d4ea",
}
"""SHA-256 of the outputs of `calls_of` each function, in order, little-endian.

Computed by NumPy; the tests compare outputs of every kind with the exact oracle's.
"""


def words(stream: int, count: int) -> U64:
    """Return the first `count` words of a stream: SplitMix64 with the seed stream · 2^32.

    Source: Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators, OOPSLA 2014.
    """
    z = np.arange(1, count + 1, dtype=np.uint64) + np.uint64(stream << 32)
    z *= np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@cache
def weights() -> Blocks:
    """Return the weights, `BLOCK_Q8_A8` [M, NB]."""
    blocks = np.zeros((M, NB), BLOCK_Q8_A8)
    codes = words(CODES, M * NB * 4).astype("<u8").view(np.int8).reshape(M, NB, QK8_A8).copy()
    word = words(SCALES, M * NB).reshape(M, NB).astype(np.uint32)
    sign = word & 0x8000
    plain = sign | 0x2000 | word & 0x1FFF
    scales = plain.copy()
    finite = word & 0xFFFF
    finite[finite & 0x7C00 == 0x7C00] ^= 0x4000
    scales[1::KINDS] = finite[1::KINDS]
    scales[2::KINDS] = (sign | (word & 0x3FF) + 1)[2::KINDS]
    scales[3::KINDS] = (sign | 0x7BFF)[3::KINDS]
    codes[4::KINDS, 0::3] = -128
    codes[4::KINDS, 1::3] = 127
    scales[5::KINDS, 0::3] = sign[5::KINDS, 0::3]
    codes[6::KINDS, 0::3] = 0
    scales[7::KINDS] = (0x2000 | word & 0x1C00)[7::KINDS]
    blocks["weight_scale"] = scales.astype(np.uint16).view(np.float16)
    blocks["weight_qs"] = codes
    return blocks


@cache
def activations() -> F32:
    """Return the activations, float32 [N, K]."""
    word = words(FLOATS, N * K).reshape(N, NB, QK8_A8)
    step = words(STEPS, N * NB).reshape(N, NB, 1)
    low = (word & np.uint64(0xFFFFFFFF)).astype(np.uint32)
    high = (word >> np.uint64(32)).astype(np.uint32)
    sign = low & np.uint32(0x80000000)
    fraction = low & 0x7FFFFF
    bits = sign | (120 + high % 16) << 23 | fraction
    ties = _ties(sign, high % 127, (step % np.uint64(20)).astype(np.int64) - 10)
    near = ties + (high >> 31) * 2 - 1
    near[..., 0] = ties[..., 0] + np.arange(NB, dtype=np.uint32) % 2
    bits[1::KINDS] = ties[1::KINDS]
    bits[2::KINDS] = near[2::KINDS]
    bits[3::KINDS, 0::2] = (sign | (107 + high % 6) << 23 | fraction)[3::KINDS, 0::2]
    bits[3::KINDS, 1::2] = (sign | fraction)[3::KINDS, 1::2]
    bits[4::KINDS] = (sign | (140 + high % 10) << 23 | fraction & 0x3FFFFF)[4::KINDS]
    bits[4::KINDS, :, 0] = 0x4AFDF01F
    zero = high % 2 == 0
    zero[:, 0::3] = True
    bits[5::KINDS] = np.where(zero, sign, bits)[5::KINDS]
    bits[6::KINDS] = (sign | (100 + high % 50) << 23 | fraction & 0x3FFFFF)[6::KINDS]
    bits[7::KINDS] &= 0xFFFF0000
    return bits.astype(np.uint32).view(np.float32).reshape(N, K)


def _ties(sign: U32, code: U32, power: NDArray[np.int64]) -> U32:
    """Return the bits of ±(code + 1/2)·2^power, and first in each block of 127·2^power."""
    value = np.ldexp(code.astype(np.float32) + np.float32(0.5), power.astype(np.int32))
    value[..., :1] = np.ldexp(np.float32(127), power.astype(np.int32))
    bits: U32 = value.view(np.uint32) | sign
    return bits


def _pairs() -> tuple[tuple[Blocks, Blocks], ...]:
    """Return rows to multiply: each of W by one of quantized X, and by the next one of W of its kind."""
    w, rows = weights(), np.arange(M)
    return (w, quantize_row(activations())[rows % N]), (w, w[(rows + KINDS) % M])


def outputs(function: str) -> bytes:
    """Compute what `calls_of` a function give, by the NumPy reference."""
    if function == calls.MUL_MAT:
        array: NDArray[Any] = mul_mat(weights(), activations())
    elif function == calls.DOT:
        left, right = (np.concatenate(side) for side in zip(*_pairs(), strict=True))
        array = vec_dot(left, right)
    elif function == calls.DEQUANTIZE:
        array = dequantize_row(weights())
    else:
        array = quantize_row(activations())
    return array.tobytes()


def calls_of(function: str) -> Iterator[Call]:
    """Yield the calls whose outputs, one after another, are hashed: of the product there is one."""
    if function == calls.MUL_MAT:
        yield calls.mul_mat(weights(), activations())
    elif function == calls.DOT:
        for left, right in _pairs():
            for x, y in zip(left, right, strict=True):
                yield calls.dot(x, y)
    elif function == calls.DEQUANTIZE:
        yield calls.dequantize(weights().reshape(-1))
    else:
        yield calls.quantize(function, activations().reshape(-1))


def digest(data: bytes) -> str:
    """Return the SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
