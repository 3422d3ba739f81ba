"""Operations: clamp, get_rows, cpy, and the refusal of everything else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from q8a8 import BLOCK_Q8_A8, as_blocks, clamp, cpy, errors, forward, get_rows
from q8a8.ops import OPERATIONS
from q8a8_golden import oracle

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

GRID = np.arange(-64, 64, dtype=np.float32).reshape(2, 64)


def oracle_blocks(x: NDArray[Any]) -> bytes:
    """Quantize with the exact oracle."""
    row = oracle.quantize_row(np.asarray(x, np.float32).reshape(-1).view(np.uint32).tolist())
    assert row is not None
    return row


def oracle_floats(blocks: bytes) -> NDArray[np.float32]:
    """Dequantize with the exact oracle."""
    return np.array(oracle.dequantize(blocks), np.uint32).view(np.float32)


BLOCKS = as_blocks(oracle_blocks(GRID)).reshape(2, 2)


@pytest.mark.rule("Q8A8-OPS-1")
@pytest.mark.parametrize(
    ("lo", "hi"), [(-10, 20), (-np.inf, 3.25), (5, np.inf), (0, 0), (-np.inf, np.inf), (200, 300)]
)
def test_clamp(lo: float, hi: float) -> None:
    """Clamping is dequantizing, limiting each element, and quantizing anew."""
    limited = [min(max(v, lo), hi) for v in oracle_floats(BLOCKS.tobytes()).tolist()]
    got = clamp(BLOCKS, lo, hi)
    assert got.shape == BLOCKS.shape
    assert got.tobytes() == oracle_blocks(np.array(limited))
    assert BLOCKS.tobytes() == oracle_blocks(GRID)


@pytest.mark.rule("Q8A8-OPS-1")
@pytest.mark.parametrize(("lo", "hi"), [(1, 0), (np.nan, 1), (0, np.nan)])
def test_clamp_refuses_limits(lo: float, hi: float) -> None:
    """Limits the wrong way round, or NaNs, are refused."""
    with pytest.raises(errors.ArgumentError, match=r"lo, hi: expected lo <= hi, got "):
        clamp(BLOCKS, lo, hi)


@pytest.mark.rule("Q8A8-OPS-2")
@pytest.mark.parametrize("indices", [[1], [0, 1, 0], [[1, 0], [0, 0]], 1, [], np.array([1], np.uint8)])
def test_get_rows(indices: ArrayLike) -> None:
    """Each index gives its row dequantized, in the shape of the indices."""
    index = np.array(indices, np.intp)
    rows = oracle_floats(BLOCKS.tobytes()).reshape(2, 64)
    got = get_rows(BLOCKS, indices)
    assert got.dtype == np.float32
    assert np.array_equal(got, rows[index])


@pytest.mark.rule("Q8A8-OPS-2")
def test_get_rows_refuses() -> None:
    """Indices outside the rows, fractions of rows, and arrays that have no rows."""
    for index in (2, -1):
        with pytest.raises(errors.ArgumentError, match=f"indices: {index} is out of range for 2 rows"):
            get_rows(BLOCKS, [0, index])
    with pytest.raises(errors.DtypeError, match="indices: expected integers, got float64"):
        get_rows(BLOCKS, [0.0])
    with pytest.raises(errors.ShapeError, match=r"blocks: expected two axes, got shape \(2,\)"):
        get_rows(BLOCKS[0], [0])
    with pytest.raises(errors.DtypeError, match="blocks: expected blocks of 34 bytes, got float32"):
        get_rows(GRID, [0])


@pytest.mark.rule("Q8A8-OPS-3")
def test_cpy_both_ways() -> None:
    """To blocks it quantizes, to float32 it dequantizes."""
    assert cpy(GRID, "q8_a8").tobytes() == oracle_blocks(GRID)
    assert cpy(BLOCKS, "f32").tobytes() == oracle_floats(BLOCKS.tobytes()).tobytes()


@pytest.mark.rule("Q8A8-OPS-3")
@pytest.mark.parametrize(("src", "name"), [(GRID, "f32"), (BLOCKS, "q8_a8")])
def test_cpy_to_the_same_type(src: NDArray[Any], name: str) -> None:
    """A type to itself is a copy, bit for bit, in new memory."""
    got = cpy(src, name)
    assert got.tobytes() == src.tobytes()
    assert not np.shares_memory(got, src)


@pytest.mark.rule("Q8A8-OPS-4")
@pytest.mark.parametrize(
    ("src", "name", "message"),
    [
        (GRID, "f16", "cpy: f32 to f16 is not defined; the types are f32, q8_a8"),
        (BLOCKS, "q4_0", "cpy: q8_a8 to q4_0 is not defined"),
        (GRID.astype(np.float64), "q8_a8", "cpy: float64 to q8_a8 is not defined"),
    ],
)
def test_cpy_refuses_other_types(src: NDArray[Any], name: str, message: str) -> None:
    """Any other pair of types is refused, and both are named."""
    with pytest.raises(errors.UnsupportedOperationError, match=message):
        cpy(src, name)


@pytest.mark.rule("Q8A8-OPS-4")
@pytest.mark.parametrize("op", ["add", "SOFT_MAX", "rope", "", "clamp_"])
def test_other_operations_are_refused_by_name(op: str) -> None:
    """What the format does not define is refused; the message names it and what there is."""
    with pytest.raises(
        errors.UnsupportedOperationError,
        match=f"operation {op} is not defined on q8_a8; there are clamp, get_rows, cpy, mul_mat",
    ):
        forward(op, BLOCKS)


@pytest.mark.rule("Q8A8-OPS-1", "Q8A8-OPS-2", "Q8A8-OPS-3")
def test_forward_calls_by_name() -> None:
    """Operations are found by name, in ggml's capitals too."""
    assert forward("CLAMP", BLOCKS, -1, 1).tobytes() == clamp(BLOCKS, -1, 1).tobytes()
    assert forward("get_rows", BLOCKS, [1]).tobytes() == get_rows(BLOCKS, [1]).tobytes()
    assert forward("cpy", GRID, "q8_a8").dtype == BLOCK_Q8_A8
    assert forward("MUL_MAT", BLOCKS, GRID[:1]).shape == (1, 2)
    assert set(OPERATIONS) == {"clamp", "get_rows", "cpy", "mul_mat"}
