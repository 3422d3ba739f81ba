"""The pseudocode on the pages, run over exact numbers, equals the oracle and the reference."""

from __future__ import annotations

import random
import struct
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import q8a8
from q8a8_golden import oracle

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    # The fixture's class is in conftest.py, which importlib mode cannot import.
    Pseudocode = Any

Block = tuple[int, list[int]]
RANDOM = random.Random(8)  # noqa: S311 -- test data


def bits_of(x: float) -> int:
    """Return a float's bits."""
    bits: int = struct.unpack("<I", struct.pack("<f", x))[0]
    return bits


def around(x: float, reach: int = 2) -> list[int]:
    """Return the bits of the floats around a positive one, and of their negatives."""
    middle = bits_of(x)
    return [sign | bits for sign in (0, 1 << 31) for bits in range(middle - reach, middle + reach + 1)]


def spread(bits: Sequence[int], size: int = 32) -> list[list[int]]:
    """Split into blocks of one size; the last is padded with zeros."""
    padded = [*bits, *[0] * (-len(bits) % size)]
    return [padded[i : i + size] for i in range(0, len(padded), size)]


def boundary_blocks() -> list[list[int]]:
    """Return blocks of floats, as bits, at every boundary of the quantizer."""
    blocks = []
    # The scale: f16 ties, the zero edge, the smallest halves, the end of the domain; with their neighbours.
    ties = [2.0**-25, 3 * 2.0**-25, 2047 * 2.0**-25, 2049 * 2.0**-25, 4095 * 2.0**-12, 65520.0]
    for tie in ties:
        rest = [*around(127 * tie / 3)[:5], *around(63.5 * tie), *[0] * 16]
        blocks += [[amax, *rest] for amax in around(127 * tie)[:5] if oracle.in_domain([amax])]
    # The integers: every half j + 1/2 under inv = 1, with both neighbours and both signs; and their zeros.
    halves = [bits for j in range(0, 127, 5) for bits in around(j + 0.5, 1)]
    blocks += [[bits_of(127.0), *part] for part in spread(halves, 31)]
    blocks += [[0] * 32, [1 << 31] * 32, [1, (1 << 31) | 1] * 16, [bits_of(1e-40)] * 32]
    for scale in (2.0**-20, 1.0, 2.0**10):
        blocks.append([bits_of(RANDOM.gauss(0, scale)) for _ in range(32)])
    return blocks


def random_row(blocks: int) -> list[Block]:
    """Return a row of random blocks, with subnormal, negative and zero scales among others."""
    scales = [
        RANDOM.choice((RANDOM.randrange(0x7C00), RANDOM.randrange(0x8000, 0xFC00))) for _ in range(blocks)
    ]
    return [(h, [RANDOM.randint(-128, 127) for _ in range(32)]) for h in scales]


def as_row(pseudocode: Pseudocode, row: Sequence[Block]) -> bytes:
    """Return a row's bytes, packed by the page's pseudocode."""
    packed: bytes = pseudocode.pack_row([h for h, _ in row], [q for _, q in row])
    return packed


def test_every_block_is_run(docs: Path, pseudocode: Pseudocode) -> None:
    """All pages with pseudocode are in the fixture."""
    pages = {path.stem for path in docs.rglob("*.md") if 'title="pseudocode"' in path.read_text("utf-8")}
    known = {"half-precision", "layout", "quantization", "dequantization", "dot-product", "orders"}
    assert pages == known | {"matrix-product", "operations"}
    assert callable(pseudocode.quantize_row)


@pytest.mark.rule("Q8A8-HLF-1", "Q8A8-HLF-2", "Q8A8-HLF-4")
def test_f16(pseudocode: Pseudocode) -> None:
    """`f16` equals `struct` on every seventh half, the tie above it and the neighbours of the tie."""
    for h in range(0, 0x7C00, 7):
        below = pseudocode.half_value(h)
        above = pseudocode.half_value(h + 1) if h < 0x7BFF else pseudocode.real(65536)
        tie = (below + above) * Fraction(1, 2)
        for x in (below, tie, tie + pseudocode.power_of_two(-34), tie - pseudocode.power_of_two(-34)):
            try:
                want = struct.unpack("<H", struct.pack("<e", float(x.value)))[0]
            except OverflowError:
                want = 0x7C00
            assert pseudocode.f16(x) == want
            assert pseudocode.f16(-x) == want | 0x8000


@pytest.mark.rule("Q8A8-HLF-3")
def test_half_value(pseudocode: Pseudocode) -> None:
    """`half_value` equals `struct` for every finite half."""
    for h in range(0x10000):
        if h & 0x7C00 != 0x7C00:
            value = pseudocode.half_value(h)
            assert value.value == Fraction(struct.unpack("<e", struct.pack("<H", h))[0])
            assert value.negative == (h >= 0x8000)


@pytest.mark.rule("Q8A8-LAY-1", "Q8A8-LAY-2")
def test_pack_row(pseudocode: Pseudocode) -> None:
    """`pack_row` equals `struct` and the reference."""
    row = random_row(3)
    want = b"".join(struct.pack("<H32b", h, *q) for h, q in row)
    assert as_row(pseudocode, row) == want
    scales = np.array([h for h, _ in row], np.uint16).view(np.float16)
    assert q8a8.pack(scales, np.array([q for _, q in row], np.int8)).tobytes() == want


def test_quantize_block(pseudocode: Pseudocode) -> None:
    """`quantize_block` equals the oracle and the reference on every boundary."""
    blocks = boundary_blocks()
    for bits in blocks:
        h, q = pseudocode.quantize_block([pseudocode.float_to_real(b) for b in bits])
        want = oracle.quantize(bits)
        assert want is not None
        assert (h, tuple(q)) == (want.scale, want.codes)
        floats = np.array(bits, np.uint32).view(np.float32)
        assert q8a8.quantize_row(floats).tobytes() == as_row(pseudocode, [(h, q)])


@pytest.mark.parametrize("size", [0, 1, 31, 33, 100])
def test_quantize_block_of_any_size(pseudocode: Pseudocode, size: int) -> None:
    """`quantize_block` of any number of elements equals the reference's quantize_activation."""
    bits = [bits_of(RANDOM.gauss(0, 3)) for _ in range(size)]
    h, q = pseudocode.quantize_block([pseudocode.float_to_real(b) for b in bits])
    codes, scale = q8a8.quantize_activation(np.array(bits, np.uint32).view(np.float32))
    assert (h, q) == (int(scale.view(np.uint16)), codes.tolist())


@pytest.mark.rule("Q8A8-DEQ-1", "Q8A8-DEQ-2")
@pytest.mark.parametrize("h", [0x0000, 0x8000, 0x0001, 0x83FF, 0x0400, 0x3C00, 0xBC01, 0x7BFF, 0xFBFF])
def test_dequantize_block(pseudocode: Pseudocode, h: int) -> None:
    """`dequantize_block` equals the oracle and the reference, signs of zeros included."""
    for first in range(-128, 128, 32):
        q = list(range(first, first + 32))
        got = [pseudocode.real_to_float(y) for y in pseudocode.dequantize_block(h, q)]
        data = as_row(pseudocode, [(h, q)])
        assert got == oracle.dequantize(data)
        assert got == q8a8.dequantize_row(q8a8.as_blocks(data)).view(np.uint32).tolist()


@pytest.mark.parametrize("nb", [0, 1, 2, 3, 7])
def test_vec_dot(pseudocode: Pseudocode, nb: int) -> None:
    """`vec_dot` equals the oracle and the reference in the scalar order."""
    for _ in range(4):
        x, y = random_row(nb), random_row(nb)
        got = pseudocode.real_to_float(pseudocode.vec_dot(x, y))
        vx, vy = as_row(pseudocode, x), as_row(pseudocode, y)
        assert got == oracle.dot(vx, vy)
        assert got == int(q8a8.vec_dot(q8a8.as_blocks(vx), q8a8.as_blocks(vy)).view(np.uint32))


@pytest.mark.rule("Q8A8-DOT-9", "Q8A8-LAY-5")
def test_vec_dot_real(pseudocode: Pseudocode) -> None:
    """`vec_dot_real` uses x's weight scale and y's activation scale, whatever the other field holds."""
    nan = 0x7E00
    x = [(h, nan, q) for h, q in random_row(5)]
    y = [(nan, h, q) for h, q in random_row(5)]
    vx = b"".join(struct.pack("<HH32b", w, a, *q) for w, a, q in x)
    vy = b"".join(struct.pack("<HH32b", w, a, *q) for w, a, q in y)
    got = pseudocode.real_to_float(pseudocode.vec_dot_real(x, y))
    assert got == oracle.dot(vx, vy, v2=True)


@pytest.mark.parametrize("name", sorted(q8a8.ORDERS))
def test_vec_dot_in(pseudocode: Pseudocode, name: str) -> None:
    """`vec_dot_in` equals the reference in every order, with and without remaining blocks."""
    order = q8a8.ORDERS[name]
    for nb in (0, 1, 2, 5, 6):
        x, y = random_row(nb), random_row(nb)
        got = pseudocode.real_to_float(pseudocode.vec_dot_in(order, x, y))
        vx, vy = (q8a8.as_blocks(as_row(pseudocode, row)) for row in (x, y))
        assert got == int(q8a8.vec_dot(vx, vy, name).view(np.uint32))


@pytest.mark.rule("Q8A8-ORD-2")
def test_within_bound(pseudocode: Pseudocode) -> None:
    """`exact_dot`, `magnitude` and `within_bound` agree with oracle and reference, inside and outside."""
    x, y = random_row(4), random_row(4)
    vx, vy = as_row(pseudocode, x), as_row(pseudocode, y)
    exact, size = pseudocode.exact_dot(x, y), pseudocode.magnitude(x, y)
    assert exact.value == oracle.exact_dot(vx, vy) * oracle.PRODUCT_UNIT
    assert size.value == oracle.magnitude(vx, vy) * oracle.PRODUCT_UNIT
    limit = q8a8.dot_bound(q8a8.as_blocks(vx), q8a8.as_blocks(vy))
    for sign in (-1, 1):
        assert pseudocode.within_bound(exact + sign * limit, x, y)
        assert not pseudocode.within_bound(exact + sign * limit * (1 + Fraction(1, 2**40)), x, y)


@pytest.mark.rule("Q8A8-MUL-1", "Q8A8-MUL-2")
def test_mul_mat(pseudocode: Pseudocode) -> None:
    """`mul_mat` equals the reference."""
    w = [random_row(2) for _ in range(3)]
    x = [[bits_of(RANDOM.gauss(0, 2)) for _ in range(64)] for _ in range(2)]
    got = pseudocode.mul_mat(w, [[pseudocode.float_to_real(b) for b in row] for row in x])
    blocks = q8a8.as_blocks(np.array([np.frombuffer(as_row(pseudocode, row), np.uint8) for row in w]))
    want = q8a8.mul_mat(blocks, np.array(x, np.uint32).view(np.float32))
    assert [[pseudocode.real_to_float(v) for v in row] for row in got] == want.view(np.uint32).tolist()


@pytest.mark.rule("Q8A8-OPS-1", "Q8A8-OPS-2")
def test_operations(pseudocode: Pseudocode) -> None:
    """`clamp` and `get_rows` equal the reference."""
    bits = [[bits_of(RANDOM.gauss(0, 2)) for _ in range(64)] for _ in range(3)]
    rows = [pseudocode.quantize_row([pseudocode.float_to_real(b) for b in row]) for row in bits]
    blocks = q8a8.as_blocks(np.array([np.frombuffer(as_row(pseudocode, row), np.uint8) for row in rows]))
    clamped = pseudocode.clamp(rows[0], pseudocode.real(-1), pseudocode.real(Fraction(3, 2)))
    assert q8a8.clamp(blocks[0], -1.0, 1.5).tobytes() == as_row(pseudocode, clamped)
    got = [[pseudocode.real_to_float(v) for v in row] for row in pseudocode.get_rows(rows, [2, 0, 2])]
    assert q8a8.get_rows(blocks, np.array([2, 0, 2])).view(np.uint32).tolist() == got
