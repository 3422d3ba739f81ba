"""The matrix product gives the scalar order's bits, whatever the shapes, tiles and threads."""

from __future__ import annotations

import threading
import tracemalloc
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from q8a8 import _fast_matmul
from q8a8.dot import vec_dot
from q8a8.errors import DomainError, DtypeError, ShapeError, UnknownNameError
from q8a8.layout import BLOCK_Q8_A8, BLOCK_Q8_A8_V2
from q8a8.matmul import mul_mat, mul_mat_quantized
from q8a8.quantize import quantize_row

if TYPE_CHECKING:
    from collections.abc import Callable


def random_blocks(rows: int, nb: int, seed: int) -> np.ndarray:
    """Make blocks with any int8, and scales of every kind: gaussian, subnormal, negative, zero."""
    rng = np.random.default_rng([rows, nb, seed])
    blocks = np.zeros((rows, nb), BLOCK_Q8_A8)
    blocks["weight_qs"] = rng.integers(-128, 128, (rows, nb, 32))
    scales = rng.normal(size=(rows, nb))
    scales *= rng.choice([1, 1, 1, 0.0, 2.0**-16], scales.shape)
    blocks["weight_scale"] = scales.astype(np.float16)
    return blocks


def f32(value: int) -> int:
    """Round to 24 significant bits, ties to even."""
    shift = max(0, abs(value).bit_length() - 24)
    return round(Fraction(value, 1 << shift)) << shift


def scalar_dot(x: np.ndarray, y: np.ndarray) -> float:
    """Follow the specification's loop over integers, in units of 2^-48."""
    total = 0
    for bx, by in zip(x, y, strict=True):
        sumi = sum(a * b for a, b in zip(bx["weight_qs"].tolist(), by["weight_qs"].tolist(), strict=True))
        dx, dy = (int(Fraction(float(b["weight_scale"])) * (1 << 24)) for b in (bx, by))
        total = f32(total + f32(sumi * dx * dy))
    return float(Fraction(total, 1 << 48))


def bits(values: np.ndarray) -> list[int]:
    """Return the bit patterns of float32 values: +0 is not -0."""
    return np.ascontiguousarray(values).view(np.uint32).ravel().tolist()


@pytest.mark.rule("Q8A8-MUL-2")
@settings(max_examples=30, deadline=None)
@given(m=st.integers(0, 5), n=st.integers(0, 5), nb=st.integers(0, 6), seed=st.integers(0, 2**32 - 1))
def test_small_products_follow_the_specification(m: int, n: int, nb: int, seed: int) -> None:
    """Every result has the bits of the specification's loop, done in integers."""
    w, xq = random_blocks(m, nb, seed), random_blocks(n, nb, seed + 1)
    out = mul_mat_quantized(w, xq)
    assert out.shape == (n, m)
    assert out.dtype == np.float32
    expected = np.array([[scalar_dot(x, row) for row in w] for x in xq], np.float32).reshape(n, m)
    assert bits(out) == bits(expected)


@pytest.mark.rule("Q8A8-MUL-2", "Q8A8-MUL-3")
@pytest.mark.parametrize(
    ("m", "nb", "n"),
    [
        (1, 1, 1), (257, 3, 31), (31, 5, 257), (300, 129, 33), (256, 2, 513), (2, 257, 600),
        (1, 256, 1), (0, 3, 4), (4, 3, 0), (3, 0, 5),
    ],
)  # fmt: skip
def test_tiles_slices_and_panels_meet_without_a_seam(m: int, nb: int, n: int) -> None:
    """Shapes around the borders of slices (32 rows), tiles (256), bands (512) and panels (128 blocks)."""
    w, xq = random_blocks(m, nb, 1), random_blocks(n, nb, 2)
    expected = bits(vec_dot(w[np.newaxis], xq[:, np.newaxis]))
    for threads in (1, 2, 5):
        assert bits(mul_mat_quantized(w, xq, threads=threads)) == expected


@pytest.mark.rule("Q8A8-MUL-1")
@pytest.mark.parametrize("recipe", ["design", "ggml-ref", "ggml-neon", "ggml-avx2", "division"])
def test_activations_are_quantized_block_by_block(recipe: str) -> None:
    """The result is the product with X quantized by the recipe."""
    rng = np.random.default_rng(3)
    w, x = random_blocks(40, 4, 3), rng.normal(size=(70, 128)).astype(np.float32)
    expected = bits(vec_dot(w[np.newaxis], quantize_row(x, recipe)[:, np.newaxis]))
    for threads in (1, 3):
        assert bits(mul_mat(w, x, recipe=recipe, threads=threads)) == expected


@pytest.mark.rule("Q8A8-MUL-1")
def test_one_scale_a_block_by_hand() -> None:
    """Two blocks of one row: each has its own scale, 127 the largest element."""
    x = np.zeros((1, 64), np.float32)
    x[0, 0], x[0, 32], x[0, 33] = 127, 254, -1
    w = np.zeros((1, 2), BLOCK_Q8_A8)
    w["weight_scale"], w["weight_qs"] = [[1, 0.5]], 1
    # Block 0: d = 1, q = 127. Block 1: d = 2, q = 127 and -1 * 0.5, which rounds away to -1.
    assert mul_mat(w, x).tolist() == [[127 * 1 * 1 + (127 - 1) * 2 * 0.5]]


@pytest.mark.rule("Q8A8-MUL-3")
def test_strided_operands() -> None:
    """Rows and blocks picked out of larger arrays, and any memory order of X, give the same bits."""
    w, x = random_blocks(80, 12, 4), np.random.default_rng(4).normal(size=(60, 192)).astype(np.float32)
    expected = bits(mul_mat(w[::2, ::2].copy(), x[::3].copy()))
    assert bits(mul_mat(w[::2, ::2], x[::3])) == expected
    assert bits(mul_mat(w[::2, ::2], np.asfortranarray(x)[::3])) == expected


@pytest.mark.rule("Q8A8-MUL-3")
def test_few_columns_are_shared_among_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """256 columns are one tile for one thread and eight for four."""
    seen: list[int] = []
    columns = _fast_matmul._columns

    def spy(w: np.ndarray, band: object, out: np.ndarray, part: slice, buffers: object) -> None:
        seen.append(part.stop - part.start)
        columns(w, band, out, part, buffers)  # type: ignore[arg-type]  # handed on as it came

    monkeypatch.setattr(_fast_matmul, "_columns", spy)
    w, xq = random_blocks(256, 1, 5), random_blocks(3, 1, 6)
    one = bits(mul_mat_quantized(w, xq))
    assert seen == [256]
    seen.clear()
    assert bits(mul_mat_quantized(w, xq, threads=4)) == one
    assert seen == [32] * 8


@pytest.mark.rule("Q8A8-MUL-3")
def test_threads_really_work_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tiles wait for each other: with two threads they meet."""
    barrier = threading.Barrier(2, timeout=20)
    columns = _fast_matmul._columns

    def meet(*args: object) -> None:
        barrier.wait()
        columns(*args)  # type: ignore[arg-type]  # handed on as they came

    monkeypatch.setattr(_fast_matmul, "_columns", meet)
    w, xq = random_blocks(64, 1, 7), random_blocks(3, 1, 8)
    assert bits(mul_mat_quantized(w, xq, threads=2)) == bits(vec_dot(w[np.newaxis], xq[:, np.newaxis]))


def test_no_call_of_the_blas_is_large_enough_for_threads_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows, columns and 32 elements of each matrix product multiply to at most 2^18."""
    sizes: list[int] = []
    product = np.matmul

    def spy(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> np.ndarray:
        sizes.append(a.shape[-2] * a.shape[-1] * b.shape[-1])
        return product(a, b, out=out)

    monkeypatch.setattr("q8a8._fast_matmul.np.matmul", spy)
    mul_mat_quantized(random_blocks(600, 1, 9), random_blocks(600, 1, 10))
    assert max(sizes) == 1 << 18


def test_working_memory_is_bounded() -> None:
    """32 MiB of X and as much of W take less than 24 MiB beside the result."""
    n = m = 2048
    w, x = np.zeros((m, 128), BLOCK_Q8_A8), np.ones((n, 4096), np.float32)
    tracemalloc.start()
    try:
        out = mul_mat(w, x[:, :])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - out.nbytes < 24 << 20


@pytest.mark.rule("Q8A8-QNT-12")
@pytest.mark.parametrize("threads", [1, 2])
def test_a_bad_activation_is_named_by_its_row_in_x(threads: int) -> None:
    """The first bad value in order of rows, wherever slices and bands begin."""
    x = np.ones((700, 64), np.float32)
    x[650, 40] = np.nan
    x[699, 0] = np.inf
    with pytest.raises(DomainError, match="x: row 650, block 1, element 8: value nan"):
        mul_mat(random_blocks(3, 2, 11), x, threads=threads)


def test_bad_scales_are_refused() -> None:
    """NaN or infinite scales of W and of a quantized X, by name."""
    w, xq = random_blocks(3, 2, 12), random_blocks(4, 2, 13)
    w["weight_scale"][2, 1] = np.inf
    with pytest.raises(DomainError, match="w: row 2, block 1: value inf"):
        mul_mat_quantized(w, xq)
    xq["weight_scale"][3, 0] = np.nan
    with pytest.raises(DomainError, match="xq: row 3, block 0: value nan"):
        mul_mat_quantized(random_blocks(3, 2, 12), xq)


X = np.zeros((4, 64), np.float32)
W = np.zeros((3, 2), BLOCK_Q8_A8)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: mul_mat(W, X.astype(np.float64)), DtypeError, "x: expected float32, got float64"),
        (lambda: mul_mat(X, X), DtypeError, "w: expected blocks of 34 bytes, got float32"),
        (lambda: mul_mat(np.zeros((3, 2), BLOCK_Q8_A8_V2), X), DtypeError, "w: expected blocks of 34 bytes"),
        (lambda: mul_mat_quantized(W, X), DtypeError, "xq: expected blocks of 34 bytes, got float32"),
        (lambda: mul_mat(W, X[0]), ShapeError, r"w, x: expected matrices, got shapes \(3, 2\) and \(64,\)"),
        (lambda: mul_mat(W[0], X), ShapeError, r"w, x: expected matrices, got shapes \(2,\) and \(4, 64\)"),
        (lambda: mul_mat(W, X[:, :40]), ShapeError, "not a multiple of 32"),
        (lambda: mul_mat(W, X[:, :32]), ShapeError, "w, x: rows of 2 and 1 blocks"),
        (lambda: mul_mat_quantized(W, W[:, :1]), ShapeError, "w, xq: rows of 2 and 1 blocks"),
        (lambda: mul_mat(W, X, recipe="best"), UnknownNameError, "best"),
        (lambda: mul_mat(W, X, threads=0), ValueError, "threads: expected at least 1, got 0"),
    ],
)
def test_arguments_are_checked(call: Callable[[], object], error: type[Exception], message: str) -> None:
    """Wrong types, shapes, recipes and thread counts are named."""
    with pytest.raises(error, match=message):
        call()
