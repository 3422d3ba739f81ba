"""Rows to blocks and back: chunks, shapes, outputs, version 2, and what is refused."""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest
from gguf.quants import Q8_0
from hypothesis import given
from hypothesis import strategies as st

from q8a8 import (
    BLOCK_Q8_A8,
    BLOCK_Q8_A8_V2,
    as_blocks,
    as_bytes,
    dequantize_row,
    errors,
    pack,
    quantize_activation,
    quantize_row,
    quantize_row_v2,
)
from q8a8 import _fast_quantize as module
from q8a8_golden import oracle

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEADING = st.lists(st.integers(0, 3), max_size=3).map(tuple)
FINITE_HALVES = [*range(0x7C00), *range(0x8000, 0xFC00)]


def oracle_row(x: NDArray[np.float32], recipe: str = "design") -> bytes:
    """Quantize with the exact oracle; the data is in every recipe's domain."""
    row = oracle.quantize_row(x.reshape(-1).view(np.uint32).tolist(), recipe)
    assert row is not None
    return row


@pytest.mark.rule("Q8A8-LAY-2", "Q8A8-QNT-1", "Q8A8-QNT-2", "Q8A8-QNT-3", "Q8A8-QNT-4", "Q8A8-QNT-7")
@given(leading=LEADING, nb=st.integers(0, 5), seed=st.integers(0, 2**32 - 1))
def test_any_leading_shape(leading: tuple[int, ...], nb: int, seed: int) -> None:
    """Rows of any leading shape and any block count, none and odd ones too, are the oracle's blocks."""
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((*leading, 32 * nb)) * 2.0 ** rng.integers(-20, 20)).astype(np.float32)
    blocks = quantize_row(x)
    assert blocks.dtype == BLOCK_Q8_A8
    assert blocks.shape == (*leading, nb)
    assert blocks.tobytes() == oracle_row(x)


@pytest.mark.rule("Q8A8-QNT-5")
@given(
    mantissas=st.lists(st.integers(-(2**24), 2**24), min_size=32, max_size=32), exponent=st.integers(-150, -2)
)
def test_never_minus_128(mantissas: list[int], exponent: int) -> None:
    """No element becomes -128, whatever the block."""
    blocks = quantize_row(np.array([m * 2.0**exponent for m in mantissas], np.float32))
    assert abs(blocks["weight_qs"].astype(int)).max() <= 127


@pytest.mark.rule("Q8A8-QNT-7")
def test_chunks_do_not_show() -> None:
    """Rows over several chunks, with an odd rest, have the bytes that gguf-py gives."""
    x = np.random.default_rng(8).standard_normal((5, 3 * 32 * 1111)).astype(np.float32)
    assert x.size > 4 * module.CHUNK
    assert x.size % module.CHUNK
    assert quantize_row(x, "ggml-ref").tobytes() == Q8_0.quantize_rows(x).tobytes()
    assert np.array_equal(
        dequantize_row(quantize_row(x, "ggml-ref")), Q8_0.dequantize_rows(Q8_0.quantize_rows(x))
    )


@pytest.mark.parametrize("chunk", [32, 64, 96, 256, 1 << 16])
def test_strides_do_not_show(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    """Transposed, sliced and reversed arrays give what their copies give, in any size of chunk."""
    monkeypatch.setattr(module, "CHUNK", chunk)
    x = np.random.default_rng(9).standard_normal((64, 6, 96)).astype(np.float32)
    for view in (x.transpose(2, 1, 0), x[:, ::2], x[::-1, :, :64], x[:, :, ::3], x[0, 0, ::3], x[:, 1]):
        copied = np.ascontiguousarray(view)
        wanted = Q8_0.quantize_rows(copied)
        blocks = quantize_row(view, "ggml-ref")
        assert blocks.tobytes() == wanted.tobytes()
        doubled = np.repeat(blocks, 2, axis=-1)[..., ::2]
        assert np.array_equal(dequantize_row(doubled), Q8_0.dequantize_rows(wanted))


def test_inputs_are_not_written() -> None:
    """Read-only inputs work, and what is given stays as it was."""
    x = np.linspace(-3, 5, 128, dtype=np.float32)
    x.flags.writeable = False
    blocks = quantize_row(x)
    blocks.flags.writeable = False
    dequantize_row(blocks)
    assert x.tolist() == np.linspace(-3, 5, 128, dtype=np.float32).tolist()


def test_out() -> None:
    """Results go into the array that is given, at any alignment, and it is returned."""
    x = np.linspace(-3, 5, 128, dtype=np.float32).reshape(2, 64)
    raw = np.full(2 * 2 * 34 + 1, 0xA5, np.uint8)
    out = as_blocks(raw[1:].reshape(2, 68))
    assert quantize_row(x, out=out) is out
    assert raw[0] == 0xA5
    assert raw[1:].tobytes() == oracle_row(x)
    floats = np.empty((2, 64), np.float32)
    assert dequantize_row(out, out=floats) is floats
    assert np.array_equal(floats, dequantize_row(out))
    blocks = np.frombuffer(bytearray(b"\xa5" * 144), BLOCK_Q8_A8_V2).reshape(2, 2)
    assert quantize_row_v2(x, out=blocks) is blocks
    assert not blocks["weight_scale"].view(np.uint16).any()


def test_out_refuses() -> None:
    """An output of another dtype, shape or order in memory is refused before anything is written."""
    x = np.ones((2, 64), np.float32)
    with pytest.raises(errors.DtypeError, match="out: expected"):
        quantize_row(x, out=np.zeros((2, 2), BLOCK_Q8_A8_V2))
    with pytest.raises(errors.ShapeError, match=r"out: expected shape \(2, 2\), got \(4,\)"):
        quantize_row(x, out=np.zeros(4, BLOCK_Q8_A8))
    with pytest.raises(errors.ShapeError, match="out: expected a C-contiguous array"):
        quantize_row(x, out=np.zeros((2, 4), BLOCK_Q8_A8)[:, ::2])
    with pytest.raises(errors.DtypeError, match="out: expected float32, got float64"):
        dequantize_row(np.zeros(1, BLOCK_Q8_A8), out=np.zeros(32))  # type: ignore[arg-type]  # the mistake under test


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.zeros(32), errors.DtypeError, "x: expected float32, got float64"),
        (np.zeros(32, np.float16), errors.DtypeError, "x: expected float32, got float16"),
        (np.zeros((2, 31), np.float32), errors.ShapeError, "x: rows of 31 elements"),
        (np.zeros((), np.float32), errors.ShapeError, "x: a row has at least one axis"),
    ],
)
def test_quantize_refuses_arrays(x: NDArray[np.float32], error: type[Exception], message: str) -> None:
    """Other dtypes and shapes are refused by name."""
    for function in (quantize_row, quantize_row_v2):
        with pytest.raises(error, match=message):
            function(x)


def test_quantize_refuses_names() -> None:
    """An unknown recipe or field is refused with the list of the known."""
    x = np.zeros(32, np.float32)
    with pytest.raises(errors.UnknownNameError, match="recipe"):
        quantize_row(x, "q8_0")
    with pytest.raises(errors.UnknownNameError, match="scale field"):
        quantize_row_v2(x, "scale")


@pytest.mark.rule("Q8A8-QNT-12")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 65520.0 * 127, -1e38])
@pytest.mark.parametrize("where", [(0, 0), (0, 95), (3, 64), (4, 31)])
@pytest.mark.parametrize("chunk", [32, 64, 1 << 16])
def test_refusal_names_the_place(
    monkeypatch: pytest.MonkeyPatch, value: float, where: tuple[int, int], chunk: int
) -> None:
    """Row, block, element and value are those of the whole array, whatever the chunks."""
    monkeypatch.setattr(module, "CHUNK", chunk)
    x = np.ones((5, 96), np.float32)
    x[where] = value
    row, column = where
    for function in (quantize_row, quantize_row_v2):
        for array in (x, np.asfortranarray(x)):
            with pytest.raises(errors.DomainError) as caught:
                function(array)
            error = caught.value
            assert (error.array, error.row, error.block, error.element) == (
                "x",
                (row,),
                column // 32,
                column % 32,
            )
            assert np.array_equal(np.float32(error.value), np.float32(value), equal_nan=True)
            assert f"x: row {row}, block {column // 32}, element {column % 32}: value" in str(error)


@pytest.mark.rule("Q8A8-QNT-12")
def test_refusal_without_leading_axes() -> None:
    """One row counts as row 0."""
    x = np.ones(64, np.float32)
    x[40] = np.nan
    with pytest.raises(errors.DomainError, match=r"x: row 0, block 1, element 8: value nan"):
        quantize_row(x)
    with pytest.raises(errors.DomainError, match=r"x: row 0, block 0, element 40: value nan"):
        quantize_activation(x)


def test_other_recipes_refuse_at_their_own_limits() -> None:
    """A zero block is 0/0 for `division`, a tiny one 1/0 for `ggml-ref`; both are named."""
    x = np.ones((2, 64), np.float32)
    x[1, 32:] = 0
    with pytest.raises(errors.DomainError, match=r"row 1, block 1, element 0: value 0: recipe division"):
        quantize_row(x, "division")
    x[1, 33] = 1e-39
    with pytest.raises(
        errors.DomainError, match=r"row 1, block 1, element 1: value 1.00000022e-39: recipe ggml-ref"
    ):
        quantize_row(x, "ggml-ref")


@pytest.mark.rule("Q8A8-LAY-4")
@pytest.mark.parametrize(("field", "at"), [("weight_scale", 0), ("activation_scale", 2)])
def test_v2_is_v1_with_one_scale(field: str, at: int) -> None:
    """The version 2 writer puts scale and quants where they belong, and +0 into the other field."""
    x = np.random.default_rng(2).standard_normal((3, 96)).astype(np.float32)
    got = quantize_row_v2(x, field)
    assert got.dtype == BLOCK_Q8_A8_V2
    one = oracle_row(x)
    for i, block in enumerate(got.reshape(-1)):
        scale, quants = one[34 * i : 34 * i + 2], one[34 * i + 2 : 34 * i + 34]
        assert block.tobytes() == (scale + b"\0\0" if at == 0 else b"\0\0" + scale) + quants
    x[0, :2] = [127, 0.5]
    recipes = {
        name: quantize_row_v2(x, recipe=name)["weight_qs"][0, 0, 1] for name in ("design", "ggml-avx2")
    }
    assert recipes == {"design": 1, "ggml-avx2": 0}


@pytest.mark.rule("Q8A8-QNT-9", "Q8A8-QNT-10")
@given(
    mantissas=st.lists(st.integers(-(2**24), 2**24), max_size=70),
    exponent=st.integers(-60, -2),
    recipe=st.sampled_from(["design", "ggml-avx2"]),
)
def test_activation(mantissas: list[int], exponent: int, recipe: str) -> None:
    """One scale for any number of elements, none too."""
    x = np.array([m * 2.0**exponent for m in mantissas], np.float32)
    wanted = oracle.quantize(x.view(np.uint32).tolist(), recipe)
    assert wanted is not None
    q, h = quantize_activation(x, recipe)
    assert q.dtype == np.int8
    assert q.tolist() == list(wanted.codes)
    assert isinstance(h, np.float16)
    assert int(h.view(np.uint16)) == wanted.scale


def test_activation_refuses() -> None:
    """A vector has one axis."""
    with pytest.raises(errors.ShapeError, match=r"x: expected one axis, got shape \(2, 32\)"):
        quantize_activation(np.zeros((2, 32), np.float32))


@pytest.mark.rule("Q8A8-DEQ-1", "Q8A8-DEQ-2")
@given(scales=st.lists(st.sampled_from(FINITE_HALVES), min_size=1, max_size=8), seed=st.integers(0, 999))
def test_dequantize_any_finite_scale(scales: list[int], seed: int) -> None:
    """Any finite scale times any int8 is exact, with the sign of zeros, -128 included."""
    qs = np.random.default_rng(seed).integers(-128, 128, (len(scales), 32), np.int8)
    qs[:, :3] = [-128, 0, 127]
    h = np.array(scales, np.uint16).view(np.float16)
    raw = pack(h, qs).tobytes()
    assert dequantize_row(as_blocks(raw)).view(np.uint32).tolist() == oracle.dequantize(raw)


@pytest.mark.rule("Q8A8-DEQ-1", "Q8A8-HLF-2")
def test_dequantize_by_hand() -> None:
    """The smallest half times 127 and -128, and a negative scale times zero, are exact."""
    raw = struct.pack("<H32b", 0x0001, 127, -128, *[0] * 30) + struct.pack("<H32b", 0xC000, 0, 5, *[1] * 30)
    y = dequantize_row(as_blocks(raw))
    assert Fraction(float(y[0])) == Fraction(127, 2**24)
    assert Fraction(float(y[1])) == Fraction(-128, 2**24)
    assert y[32].tobytes() == struct.pack("<f", -0.0)
    assert y[33] == -10


@pytest.mark.rule("Q8A8-LAY-5", "Q8A8-DEQ-1")
def test_dequantize_v2_ignores_the_other_field() -> None:
    """A version 2 reader uses the field that it is asked for, and does not mind a NaN in the other."""
    raw = struct.pack("<eH32b", 2.0, 0x7E00, *range(32)) + struct.pack("<eH32b", 0.5, 0xFFFF, *range(32))
    blocks = as_blocks(raw, BLOCK_Q8_A8_V2)
    assert dequantize_row(blocks).tolist() == [2.0 * j for j in range(32)] + [0.5 * j for j in range(32)]
    with pytest.raises(errors.DomainError, match=r"blocks\['activation_scale'\]: row 0, block 0: value nan"):
        dequantize_row(blocks, field="activation_scale")


@pytest.mark.rule("Q8A8-DEQ-3", "Q8A8-QNT-7")
def test_nothing_in_nothing_out() -> None:
    """No elements, no blocks: in any leading shape."""
    assert quantize_row(np.zeros((3, 0), np.float32)).shape == (3, 0)
    assert quantize_row_v2(np.zeros((0, 64), np.float32)).shape == (0, 2)
    assert dequantize_row(np.zeros((2, 0), BLOCK_Q8_A8)).shape == (2, 0)


@pytest.mark.parametrize("bits", [0x7C00, 0xFC00, 0x7E00])
def test_dequantize_refuses_scales(monkeypatch: pytest.MonkeyPatch, bits: int) -> None:
    """A scale that is no number is refused with its place in the whole array."""
    monkeypatch.setattr(module, "CHUNK", 64)
    blocks = np.zeros((3, 2, 5), BLOCK_Q8_A8)
    blocks["weight_scale"].view(np.uint16)[2, 1, 3] = bits
    with pytest.raises(
        errors.DomainError, match=r"blocks\['weight_scale'\]: row \(2, 1\), block 3: value"
    ) as caught:
        dequantize_row(blocks)
    assert caught.value.element is None


def test_dequantize_refuses_arrays() -> None:
    """Only rows of blocks are taken."""
    with pytest.raises(errors.DtypeError, match="blocks: expected blocks of 34 or 36 bytes, got uint8"):
        dequantize_row(np.zeros(34, np.uint8))
    with pytest.raises(errors.ShapeError, match="blocks: a row of blocks has at least one axis"):
        dequantize_row(np.zeros((), BLOCK_Q8_A8))
    with pytest.raises(errors.UnknownNameError, match="activation_scale"):
        dequantize_row(np.zeros(1, BLOCK_Q8_A8), field="activation_scale")


def test_blocks_view_as_bytes() -> None:
    """What the quantizer returns can be written to a file as it is."""
    assert as_bytes(quantize_row(np.ones((2, 96), np.float32))).shape == (2, 3 * 34)
