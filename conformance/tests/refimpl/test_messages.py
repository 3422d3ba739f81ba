"""The exact text of errors that name an argument or a place, as one table, function by function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from q8a8 import BLOCK_Q8_A8, BLOCK_Q8_A8_V2, Reference, as_blocks, as_bytes, dequantize_row, errors
from q8a8.layout import pack_v2, require_field, unpack
from q8a8.matmul import mul_mat, mul_mat_quantized
from q8a8.ops import clamp
from q8a8.quantize import plain_dequantize_row, plain_quantize_row, quantize_row
from q8a8.recipe import quantize_blocks
from q8a8.traits import require_gguf_type

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

R = Reference()
F: NDArray[np.float32] = np.zeros(64, np.float32)
B: NDArray[np.uint8] = np.zeros(72, np.uint8)
W: NDArray[Any] = np.zeros((2, 3), BLOCK_Q8_A8)
NO_ROW: NDArray[Any] = np.zeros((), BLOCK_Q8_A8)
COUNT = "expected a multiple of 32, 0 or more, got 33"


def _rows(one: int, nan: int | None = None) -> NDArray[np.float32]:
    """Return zeros [2, 64] with a 1 in element `one` of the second row, and a NaN where one is asked for."""
    x = np.zeros((2, 64), np.float32)
    x[1, one] = 1
    if nan is not None:
        x[1, nan] = np.nan
    return x


ROWS = "a row of blocks has at least one axis; this array has none"

MESSAGES: dict[str, Callable[[], object]] = {
    f"k: {COUNT}": lambda: R.dequantize_row_q8_a8(B, F, 33),
    "x: expected 102 elements or more, got 72": lambda: R.dequantize_row_q8_a8(B, F, 96),
    "output: expected 9 elements or more, got 8": lambda: R.quantize_activation_q8_a8(
        F, np.zeros(8, np.int8), np.zeros(1, np.uint16), 9
    ),
    "input: expected 65 elements or more, got 64": lambda: R.quantize_activation_q8_a8(
        F, np.zeros(65, np.int8), np.zeros(1, np.uint16), 65
    ),
    "bs: expected a stride of 0 or more, got -1": lambda: R.ggml_vec_dot_q8_a8_q8_a8(
        32, F, -1, B, 0, B, 0, 2
    ),
    "by: expected a stride of 0 or more, got -1": lambda: R.ggml_vec_dot_q8_a8_q8_a8(
        32, F, 2, B, 0, B, -1, 2
    ),
    f"n: {COUNT}": lambda: R.ggml_vec_dot_q8_a8_q8_a8(33, F, 0, B, 0, B, 0, 1),
    "n: expected a multiple of 32, 0 or more, got 34": lambda: R.ggml_vec_dot_q8_a8_q8_a8_real(34, F, B, B),
    "s: expected 1 elements or more, got 0": lambda: R.ggml_vec_dot_q8_a8_q8_a8_real(32, F[:0], B, B),
    "vy: expected 72 elements or more, got 71": lambda: R.ggml_vec_dot_q8_a8_q8_a8_real(64, F, B, B[:71]),
    "data: a row of bytes has at least one axis; this array has none": lambda: as_blocks(
        np.zeros((), np.uint8)
    ),
    "no single scale is called []; there are weight_scale, activation_scale": lambda: pack_v2(
        np.zeros((1, 32), np.int8)
    ),
    f"blocks: {ROWS}": lambda: as_bytes(NO_ROW),
    f"blocks: {ROWS}.": lambda: dequantize_row(NO_ROW),
    f"blocks: {ROWS}..": lambda: plain_dequantize_row(NO_ROW),
    "x: rows of 33 elements (shape (1, 33)) are not a multiple of 32": lambda: mul_mat(
        W, np.zeros((1, 33), np.float32)
    ),
    "w, xq: expected matrices, got shapes (2, 3) and (3,)": lambda: mul_mat_quantized(W, W[0]),
    "blocks: expected blocks of 34 bytes, got " + str(BLOCK_Q8_A8_V2): lambda: clamp(
        np.zeros(1, BLOCK_Q8_A8_V2), -1, 1
    ),
    "x: row 1, block 1, element 8: value nan: only finite values can be quantized": lambda: quantize_row(
        _rows(nan=40, one=35)
    ),
    "x: row 1, block 1, element 8: value nan: only finite values can be quantized.": lambda: (
        plain_quantize_row(_rows(nan=40, one=35))
    ),
    "x: row 1, block 0, element 3: value 1.17549435e-38: recipe ggml-ref is not defined for a block whose "
    "largest magnitude is that small": lambda: quantize_row(np.float32(2.0**-126) * _rows(one=3), "ggml-ref"),
    "x: row 1, block 0, element 3: value 8321040: its block's scale would be infinite: magnitudes stay below "
    "8321040 (= 65520 * 127)": lambda: quantize_row(np.float32(65520 * 127) * _rows(one=3)),
    "x: row 0, block 0, element 3: value inf: only finite values can be quantized": lambda: quantize_row(
        np.array([0, 0, 0, np.inf, 0, np.nan, *[0] * 26], np.float32)[np.newaxis]
    ),
    "x: a block has at least one axis; this array has none": lambda: quantize_blocks(np.ones((), np.float32)),
    "out: expected a C-contiguous array": lambda: quantize_row(
        np.zeros((2, 64), np.float32), out=np.zeros((2, 4), BLOCK_Q8_A8)[:, ::2]
    ),
    "no scale field is called 'scale'; there are weight_scale": lambda: unpack(W, "scale"),
    "blocks: expected blocks of 34 or 36 bytes, got float32": lambda: unpack(F),
    "no scale field is called 'scale'; there are weight_scale, activation_scale": lambda: require_field(
        "scale"
    ),
    "weight_scale: expected float16, got float32": lambda: pack_v2(
        np.zeros((1, 32), np.int8), weight_scale=np.zeros(1, np.float32)
    ),
    "qs: expected shape (2, 32) for weight_scale of shape (2,), got (1, 32)": lambda: pack_v2(
        np.zeros((1, 32), np.int8), weight_scale=np.zeros(2, np.float16)
    ),
    "GGUF tensor type 40 is not read as q8_a8, which is type 8": lambda: require_gguf_type(40),
}
"""Calls by the text of their error; full stops at the end keep equal texts apart."""


@pytest.mark.parametrize("message", MESSAGES)
def test_exact_text(message: str) -> None:
    """An error names the argument as the function's signature has it, and no word is lost."""
    with pytest.raises(errors.Q8A8Error) as raised:
        MESSAGES[message]()
    assert str(raised.value) == message.rstrip(".")


@pytest.mark.parametrize("block", [0, 4095, 4096, 4097, 9999])
def test_a_bad_scale_is_found_in_any_chunk(block: int) -> None:
    """The place of a scale that is not finite counts from the row's start, not from the chunk's."""
    blocks = np.zeros((2, 10_000), BLOCK_Q8_A8)
    blocks["weight_scale"][1, block] = np.inf
    with pytest.raises(errors.DomainError) as raised:
        dequantize_row(blocks)
    assert str(raised.value) == (
        f"blocks['weight_scale']: row 1, block {block}: value inf: "
        "only blocks with a finite scale can be dequantized"
    )
