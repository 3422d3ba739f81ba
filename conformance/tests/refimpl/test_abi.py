"""The C interface over NumPy buffers: counts, strides, what is written, and what is refused."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from q8a8 import BLOCK_Q8_A8_V2, Reference, as_blocks, as_bytes, errors, vec_dot
from q8a8_golden import oracle

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

POISON = 0xA5
X = np.linspace(-2, 3, 96, dtype=np.float32)


def oracle_blocks(x: NDArray[np.float32], recipe: str = "design") -> bytes:
    """Quantize with the exact oracle."""
    row = oracle.quantize_row(x.view(np.uint32).tolist(), recipe)
    assert row is not None
    return row


def poison(count: int) -> NDArray[np.uint8]:
    """Make bytes that hold a pattern."""
    return np.full(count, POISON, np.uint8)


def row(seed: int, blocks: int) -> NDArray[np.uint8]:
    """Make the bytes of random blocks with scales of moderate size."""
    rng = np.random.default_rng(seed)
    return np.frombuffer(
        b"".join(struct.pack("<e32b", rng.normal(), *rng.integers(-128, 128, 32)) for _ in range(blocks)),
        np.uint8,
    ).copy()


def dot(x: NDArray[np.uint8], y: NDArray[np.uint8]) -> int:
    """Return the bits of the scalar dot product by the exact oracle."""
    return oracle.dot(x.tobytes(), y.tobytes())


@pytest.mark.rule("Q8A8-QNT-8", "Q8A8-MEM-2")
@pytest.mark.parametrize("name", ["quantize_row_q8_a8", "quantize_row_q8_a8_ref"])
def test_quantize(name: str) -> None:
    """Both quantizers write k/32 blocks, and not a byte more, at any alignment."""
    y = poison(1 + 3 * 34 + 7)
    getattr(Reference(), name)(X, y[1:], 64)
    assert y[1:69].tobytes() == oracle_blocks(X[:64])
    assert set(y[69:].tolist()) == {POISON}
    assert y[0] == POISON


def test_quantize_with_a_recipe() -> None:
    """The reference can stand for a kernel that follows another recipe."""
    x = np.array([127, 0.5, 2.5, *[0] * 29], np.float32)
    y = poison(34)
    Reference("ggml-neon").quantize_row_q8_a8(x, y, 32)
    assert y.tobytes() == oracle_blocks(x, "ggml-neon")
    assert y.tobytes() != oracle_blocks(x)


@pytest.mark.rule("Q8A8-DEQ-1", "Q8A8-MEM-2")
def test_dequantize() -> None:
    """It writes k floats and leaves the rest."""
    blocks = row(1, 3)
    y = np.full(70, 9, np.float32)
    Reference().dequantize_row_q8_a8(blocks, y, 64)
    assert y[:64].view(np.uint32).tolist() == oracle.dequantize(blocks[:68].tobytes())
    assert y[64:].tolist() == [9] * 6


@pytest.mark.rule("Q8A8-QNT-9")
@pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 96])
def test_activation(size: int) -> None:
    """Any size has one scale; no element beyond is read or written."""
    x = X.copy()
    x[size:] = np.nan
    output, scale = np.full(97, 99, np.int8), np.full(2, 7, np.uint16)
    Reference().quantize_activation_q8_a8(x, output, scale, size)
    wanted = oracle.quantize(X[:size].view(np.uint32).tolist())
    assert wanted is not None
    assert output[:size].tolist() == list(wanted.codes)
    assert set(output[size:].tolist()) == {99}
    assert scale.tolist() == [wanted.scale, 7]


@pytest.mark.rule("Q8A8-DOT-5", "Q8A8-DOT-7", "Q8A8-DOT-12")
@pytest.mark.parametrize("blocks", [0, 1, 2, 3])
def test_dot(blocks: int) -> None:
    """One row: s[0] is overwritten, and bs, bx and by are not looked at."""
    x, y = row(2, 3), row(3, 3)
    s = np.full(3, np.nan, np.float32)
    Reference().ggml_vec_dot_q8_a8_q8_a8(32 * blocks, s, -5, x, -1, y, 10**9, 1)
    assert int(s.view(np.uint32)[0]) == dot(x[: 34 * blocks], y[: 34 * blocks])
    assert np.isnan(s[1:]).all()


@pytest.mark.rule("Q8A8-DOT-6")
@pytest.mark.parametrize(("bs", "bx", "by"), [(2, 68, 68), (5, 70, 81), (2, 0, 0)])
def test_dot_of_two_rows(bs: int, bx: int, by: int) -> None:
    """Two rows each: strides in floats and in bytes, and nothing else is written."""
    x, y = row(4, 5), row(5, 5)
    s = np.full(bs + 4, 9, np.float32)
    Reference().ggml_vec_dot_q8_a8_q8_a8(64, s, bs, x, bx, y, by, 2)
    bits = s.view(np.uint32)
    # Rows at odd distances start inside a block; their scales may be any finite half.
    for place, i, j in ((0, 0, 0), (1, 1, 0), (bs, 0, 1), (bs + 1, 1, 1)):
        assert int(bits[place]) == dot(x[i * bx : i * bx + 68], y[j * by : j * by + 68])
    written = {0, 1, bs, bs + 1}
    assert all(s[place] == 9 for place in range(bs + 4) if place not in written)


@pytest.mark.rule("Q8A8-DOT-9")
def test_dot_v2() -> None:
    """Version 2 blocks: x's weight scale and y's activation scale, NaNs in the other fields ignored."""
    x = struct.pack("<eH32b", 1.5, 0x7E00, *range(32)) + struct.pack("<eH32b", -2.0, 0xFFFF, *range(32))
    y = struct.pack("<He32b", 0x7E00, 0.25, *range(-16, 16)) + struct.pack(
        "<He32b", 0xFFFF, 4.0, *[-128] * 32
    )
    s = np.full(2, 9, np.float32)
    Reference().ggml_vec_dot_q8_a8_q8_a8_real(64, s, np.frombuffer(x, np.uint8), np.frombuffer(y, np.uint8))
    first = sum(j * (j - 16) for j in range(32))
    assert s.tolist() == [first * 0.375 + sum(range(32)) * -128 * -8.0, 9]


def test_dot_in_another_order() -> None:
    """The reference can stand for a kernel that adds in another order, in both versions."""
    x, y = row(6, 64), row(7, 64)
    s = np.zeros(1, np.float32)
    blocks = as_blocks(x), as_blocks(y)
    Reference(order="neon-dotprod").ggml_vec_dot_q8_a8_q8_a8(2048, s, 0, x, 0, y, 0, 1)
    assert s[0] == vec_dot(*blocks, "neon-dotprod") != vec_dot(*blocks)
    v2 = [np.zeros(64, BLOCK_Q8_A8_V2) for _ in blocks]
    for target, source in zip(v2, blocks, strict=True):
        target["weight_qs"] = source["weight_qs"]
        target["weight_scale"] = target["activation_scale"] = source["weight_scale"]
    Reference(order="neon-dotprod").ggml_vec_dot_q8_a8_q8_a8_real(2048, s, *map(as_bytes, v2))
    assert s[0] == vec_dot(*blocks, "neon-dotprod")


def test_activation_with_a_recipe() -> None:
    """The recipe of the reference is that of its activations too."""
    x = np.array([127, 0.5, 2.5], np.float32)
    q, scale = np.zeros(3, np.int8), np.zeros(1, np.uint16)
    Reference("ggml-neon").quantize_activation_q8_a8(x, q, scale, 3)
    assert q.tolist() == [127, 0, 2]
    Reference().quantize_activation_q8_a8(x, q, scale, 3)
    assert q.tolist() == [127, 1, 3]


R = Reference()
F, B = np.zeros(64, np.float32), np.zeros(72, np.uint8)
F64: NDArray[Any] = np.zeros(64)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: R.quantize_row_q8_a8(F, B, 33),
            errors.ArgumentError,
            "k: expected a multiple of 32, 0 or more, got 33",
        ),
        (
            lambda: R.quantize_row_q8_a8(F, B, -32),
            errors.ArgumentError,
            "k: expected a multiple of 32, 0 or more, got -32",
        ),
        (
            lambda: R.quantize_row_q8_a8(F, B, 96),
            errors.BufferSizeError,
            "y: expected 102 elements or more, got 72",
        ),
        (
            lambda: R.quantize_row_q8_a8(F[:40], B, 64),
            errors.BufferSizeError,
            "x: expected 64 elements or more, got 40",
        ),
        (
            lambda: R.quantize_row_q8_a8(F64, B, 64),
            errors.DtypeError,
            "x: expected float32, got float64",
        ),
        (
            lambda: R.quantize_row_q8_a8(F, B.reshape(2, 36), 0),
            errors.ShapeError,
            r"y: expected one axis, got shape \(2, 36\)",
        ),
        (lambda: R.quantize_row_q8_a8(F, B[::2], 32), errors.ShapeError, "y: the elements are 2 bytes apart"),
        (
            lambda: R.dequantize_row_q8_a8(B, F[:1], 32),
            errors.BufferSizeError,
            "y: expected 32 elements or more, got 1",
        ),
        (
            lambda: R.quantize_activation_q8_a8(F, B.view(np.int8), B.view(np.uint16), -1),
            errors.ArgumentError,
            "size: expected 0 or more, got -1",
        ),
        (
            lambda: R.quantize_activation_q8_a8(F, B.view(np.int8), np.zeros(0, np.uint16), 1),
            errors.BufferSizeError,
            "scale: expected 1 elements or more, got 0",
        ),
        (
            lambda: R.ggml_vec_dot_q8_a8_q8_a8(96, F, 0, B, 0, B, 0, 1),
            errors.BufferSizeError,
            "vx: expected 102 elements or more, got 72",
        ),
        (
            lambda: R.ggml_vec_dot_q8_a8_q8_a8(64, F, 2, B, 0, B, 34, 2),
            errors.BufferSizeError,
            "vy: expected 102 elements or more, got 72",
        ),
        (
            lambda: R.ggml_vec_dot_q8_a8_q8_a8(32, F[:3], 2, B, 0, B, 0, 2),
            errors.BufferSizeError,
            "s: expected 4 elements or more, got 3",
        ),
        (
            lambda: R.ggml_vec_dot_q8_a8_q8_a8(32, F, 2, B, -34, B, 0, 2),
            errors.ArgumentError,
            "bx: expected a stride of 0 or more, got -34",
        ),
        (
            lambda: R.ggml_vec_dot_q8_a8_q8_a8(32, F, 2, B, 0, B, 0, 3),
            errors.ArgumentError,
            "nrc: expected 1 or 2 rows at a time, got 3",
        ),
        (
            lambda: R.ggml_vec_dot_q8_a8_q8_a8_real(96, F, B, B),
            errors.BufferSizeError,
            "vx: expected 108 elements or more, got 72",
        ),
        (lambda: Reference("q8_0"), errors.UnknownNameError, "recipe"),
        (lambda: Reference(order="fastest"), errors.UnknownNameError, "order"),
    ],
)
def test_refuses(call: Callable[[], object], error: type[Exception], message: str) -> None:
    """Counts, strides and buffers that do not fit are refused by name."""
    with pytest.raises(error, match=message):
        call()


@pytest.mark.rule("Q8A8-QNT-12")
def test_refuses_values() -> None:
    """Values outside the domain are refused; an activation then writes nothing."""
    x = X.copy()
    x[50] = np.nan
    with pytest.raises(errors.DomainError, match="x: row 0, block 1, element 18: value nan"):
        R.quantize_row_q8_a8(x, poison(102), 96)
    output, scale = np.full(96, 99, np.int8), np.full(1, 7, np.uint16)
    with pytest.raises(errors.DomainError, match="element 50: value nan"):
        R.quantize_activation_q8_a8(x, output, scale, 96)
    assert set(output.tolist()) == {99}
    assert scale[0] == 7


@pytest.mark.rule("Q8A8-MUL-4", "Q8A8-MUL-5", "Q8A8-MUL-6", "Q8A8-MUL-7")
@pytest.mark.parametrize(("m", "n", "blocks"), [(1, 1, 1), (3, 2, 3), (2, 3, 0), (0, 2, 1), (2, 0, 1)])
def test_matrix_product(m: int, n: int, blocks: int) -> None:
    """Each output is the dot product of its rows by the oracle, at its place; nothing else is written."""
    w = row(1, m * blocks)
    x = np.random.default_rng(2).standard_normal(n * 32 * blocks).astype(np.float32)
    out = np.full(n * m + 3, 7.5, np.float32)
    Reference().mul_mat_q8_a8(m, n, 32 * blocks, w, x, out)
    for i in range(n):
        xq = np.frombuffer(oracle_blocks(x[i * 32 * blocks : (i + 1) * 32 * blocks]), np.uint8)
        for j in range(m):
            assert int(out[i * m + j].view(np.uint32)) == dot(w[34 * blocks * j : 34 * blocks * (j + 1)], xq)
    assert out[n * m :].tolist() == [7.5] * 3


def test_matrix_product_in_another_order() -> None:
    """The order of the reference is that of the products; the recipe that of the activations."""
    w, x = row(3, 10), np.random.default_rng(4).standard_normal(10 * 32).astype(np.float32)
    found = {}
    for recipe, order in (("design", "scalar"), ("design", "avx2"), ("ggml-ref", "avx2")):
        out = np.zeros(4, np.float32)
        Reference(recipe, order).mul_mat_q8_a8(2, 2, 160, w, x, out)
        y = np.zeros(340, np.uint8)
        Reference(recipe).quantize_row_q8_a8(x, y, 320)
        for i in range(2):
            for j in range(2):
                expected = vec_dot(as_blocks(w).reshape(2, 5)[j], as_blocks(y).reshape(2, 5)[i], order)
                assert out[2 * i + j] == expected
        found[recipe, order] = out.tobytes()
    assert len(set(found.values())) > 1


@pytest.mark.parametrize(
    ("counts", "error"),
    [
        ((-1, 1, 32), errors.ArgumentError),
        ((1, -1, 32), errors.ArgumentError),
        ((1, 1, 31), errors.ArgumentError),
        ((2, 1, 32), errors.BufferSizeError),
        ((1, 2, 32), errors.BufferSizeError),
        ((1, 1, 64), errors.BufferSizeError),
    ],
)
def test_matrix_product_refuses(counts: tuple[int, int, int], error: type[Exception]) -> None:
    """Counts that are negative, no multiples of 32, or too large for a buffer are refused."""
    with pytest.raises(error):
        Reference().mul_mat_q8_a8(*counts, row(1, 1), np.ones(32, np.float32), np.zeros(1, np.float32))
