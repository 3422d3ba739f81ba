"""The blocks in memory, against `struct` and bytes written by hand."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from q8a8 import BLOCK_Q8_A8, BLOCK_Q8_A8_V2, as_blocks, as_bytes, errors, pack, pack_v2, unpack
from q8a8.layout import require_blocks, require_field

if TYPE_CHECKING:
    from numpy.typing import NDArray

HALF_BITS = st.integers(0, 0xFFFF)
QS = st.lists(st.integers(-128, 127), min_size=32, max_size=32)


def half(bits: int) -> NDArray[np.float16]:
    """Make a float16 array without axes that has these bits."""
    return np.array(bits, np.uint16).view(np.float16)


@pytest.mark.rule("Q8A8-LAY-1")
def test_block_fields() -> None:
    """A block is 34 bytes: a half at 0, 32 int8 at 2, and nothing else."""
    assert BLOCK_Q8_A8.itemsize == struct.calcsize("<e32b") == 34
    assert BLOCK_Q8_A8.fields is not None
    assert {name: (field[0].base.str, field[1]) for name, field in BLOCK_Q8_A8.fields.items()} == {
        "weight_scale": ("<f2", 0),
        "weight_qs": ("|i1", 2),
    }
    assert BLOCK_Q8_A8["weight_qs"].shape == (32,)


@pytest.mark.rule("Q8A8-LAY-3")
def test_v2_block_fields() -> None:
    """A version 2 block is 36 bytes: two halves at 0 and 2, 32 int8 at 4."""
    assert BLOCK_Q8_A8_V2.itemsize == struct.calcsize("<2e32b") == 36
    assert BLOCK_Q8_A8_V2.fields is not None
    assert {name: (field[0].base.str, field[1]) for name, field in BLOCK_Q8_A8_V2.fields.items()} == {
        "weight_scale": ("<f2", 0),
        "activation_scale": ("<f2", 2),
        "weight_qs": ("|i1", 4),
    }


@pytest.mark.rule("Q8A8-LAY-1")
@given(bits=HALF_BITS, qs=QS)
def test_pack_is_struct_pack(bits: int, qs: list[int]) -> None:
    """Packed blocks have the bytes that `struct` gives, for every half, NaNs too."""
    block = pack(half(bits), np.array(qs, np.int8))
    assert block.tobytes() == struct.pack("<H32b", bits, *qs)


@pytest.mark.rule("Q8A8-LAY-3", "Q8A8-LAY-4")
@given(bits=HALF_BITS, qs=QS)
def test_pack_v2_zeroes_the_other_field(bits: int, qs: list[int]) -> None:
    """A version 2 writer sets the scale that it does not carry to +0: two zero bytes."""
    quants = np.array(qs, np.int8)
    assert pack_v2(quants, weight_scale=half(bits)).tobytes() == struct.pack("<HH32b", bits, 0, *qs)
    assert pack_v2(quants, activation_scale=half(bits)).tobytes() == struct.pack("<HH32b", 0, bits, *qs)


@pytest.mark.rule("Q8A8-LAY-2")
@given(shape=st.lists(st.integers(0, 3), max_size=3).map(tuple))
def test_rows_are_blocks_in_a_row(shape: tuple[int, ...]) -> None:
    """Block b of a row is bytes 34·b and on of that row, for any leading shape."""
    rng = np.random.default_rng(5)
    raw = rng.integers(0, 256, (*shape, 3 * 34), np.uint8)
    blocks = as_blocks(raw)
    assert blocks.shape == (*shape, 3)
    for index in np.ndindex(shape):
        for b in range(3):
            assert blocks[(*index, b)].tobytes() == raw[index][34 * b : 34 * (b + 1)].tobytes()


def test_views_share_memory() -> None:
    """Bytes to blocks, blocks to bytes, blocks to parts: all of them look at the same memory."""
    raw = np.zeros((2, 3 * 34), np.uint8)
    blocks = as_blocks(raw)
    scale, qs = unpack(blocks)
    scale[1, 2] = 1.0
    qs[0, 1, 31] = -128
    assert raw[1, 68:70].tolist() == [0x00, 0x3C]
    assert raw[0, 34 + 33] == 0x80
    assert np.shares_memory(as_bytes(blocks), raw)
    assert as_bytes(blocks).shape == raw.shape


def test_unpack_v2_takes_either_scale() -> None:
    """Of a version 2 block either scale can be looked at."""
    blocks = as_blocks(struct.pack("<2e32b", 2.0, 3.0, *range(32)), BLOCK_Q8_A8_V2)
    assert unpack(blocks)[0] == [2.0]
    assert unpack(blocks, "activation_scale")[0] == [3.0]
    assert unpack(blocks)[1].tolist() == [list(range(32))]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_like(kind: type) -> None:
    """Every bytes-like object will do; what is read-only stays so."""
    blocks = as_blocks(kind(bytes(range(68))))
    assert blocks.shape == (2,)
    assert as_bytes(blocks).tolist() == list(range(68))
    assert blocks.flags.writeable == (kind is bytearray)


def test_any_alignment() -> None:
    """Blocks may start at an odd address."""
    raw = np.zeros(69, np.uint8)
    blocks = as_blocks(raw[1:])
    blocks["weight_scale"] = 1.0
    assert raw[[1, 2, 35, 36]].tolist() == [0x00, 0x3C, 0x00, 0x3C]


@pytest.mark.parametrize("shape", [(0,), (0, 34), (3, 0), (2, 0, 34)])
def test_no_blocks(shape: tuple[int, ...]) -> None:
    """Arrays without bytes are arrays without blocks, in the same leading shape."""
    blocks = as_blocks(np.zeros(shape, np.uint8))
    assert blocks.shape == (*shape[:-1], shape[-1] // 34)
    assert as_bytes(blocks).shape == shape
    assert as_blocks(b"").shape == (0,)


def test_as_blocks_refuses() -> None:
    """Truncated, scattered and foreign bytes are refused, each by its name."""
    with pytest.raises(
        errors.BufferSizeError, match="a row of 67 bytes ends inside block 1: 33 of its 34 bytes"
    ):
        as_blocks(bytes(67))
    with pytest.raises(errors.ShapeError, match="data: the bytes of a row are 2 bytes apart, not contiguous"):
        as_blocks(np.zeros(68, np.uint8)[::2])
    with pytest.raises(errors.ShapeError, match="data: a row of bytes has at least one axis"):
        as_blocks(np.zeros((), np.uint8))
    with pytest.raises(errors.DtypeError, match="data: expected uint8, got int8"):
        as_blocks(np.zeros(34, np.int8))
    with pytest.raises(errors.DtypeError, match="dtype: expected blocks of 34 or 36 bytes, got float32"):
        as_blocks(bytes(36), np.dtype(np.float32))


def test_as_bytes_refuses() -> None:
    """Blocks that are scattered, or no blocks, or no row, have no view as bytes."""
    with pytest.raises(errors.ShapeError, match="blocks: the blocks of a row are 68 bytes apart"):
        as_bytes(np.zeros(4, BLOCK_Q8_A8)[::2])
    with pytest.raises(errors.ShapeError, match="blocks: a row of blocks has at least one axis"):
        as_bytes(np.zeros((), BLOCK_Q8_A8))
    with pytest.raises(errors.DtypeError, match="blocks: expected blocks of 34 or 36 bytes, got int8"):
        as_bytes(np.zeros(34, np.int8))


def test_one_scattered_block_is_contiguous() -> None:
    """A row of a single block has a view, whatever its stride says."""
    assert as_bytes(np.zeros((2, 2), BLOCK_Q8_A8)[:, ::2]).shape == (2, 34)


def test_pack_refuses() -> None:
    """Parts of other types and shapes make no blocks."""
    scale, qs = np.zeros(2, np.float16), np.zeros((2, 32), np.int8)
    with pytest.raises(errors.DtypeError, match="scale: expected float16, got float32"):
        pack(scale.astype(np.float32), qs)
    with pytest.raises(errors.DtypeError, match="qs: expected int8, got uint8"):
        pack(scale, qs.view(np.uint8))
    for bad in (qs[:1], qs[:, :31], np.zeros((), np.int8)):
        with pytest.raises(
            errors.ShapeError, match=r"qs: expected shape \(2, 32\) for scale of shape \(2,\), got "
        ):
            pack(scale, bad)


def test_pack_v2_wants_one_scale() -> None:
    """None or both of the scales are no version 2 block."""
    qs = np.zeros(32, np.int8)
    with pytest.raises(errors.UnknownNameError, match="weight_scale, activation_scale"):
        pack_v2(qs)
    with pytest.raises(errors.UnknownNameError, match="weight_scale, activation_scale"):
        pack_v2(qs, weight_scale=half(0), activation_scale=half(0))


def test_unpack_refuses() -> None:
    """Quants are no scale, and a version 1 block has one scale; the error names those that there are."""
    blocks = np.zeros(1, BLOCK_Q8_A8)
    with pytest.raises(errors.UnknownNameError, match="no scale field is called 'activation_scale'"):
        unpack(blocks, "activation_scale")
    with pytest.raises(errors.UnknownNameError, match="'weight_qs'"):
        unpack(blocks, "weight_qs")
    with pytest.raises(errors.UnknownNameError, match="weight_scale, activation_scale"):
        unpack(np.zeros(1, BLOCK_Q8_A8_V2), "weight_qs")
    with pytest.raises(errors.DtypeError):
        unpack(np.zeros(34, np.uint8))


def test_requirements() -> None:
    """The shared checks take what is right and name what is not."""
    require_blocks(np.zeros(1, BLOCK_Q8_A8_V2), "x")
    with pytest.raises(errors.DtypeError, match=r"x: expected blocks of 34 bytes, got "):
        require_blocks(np.zeros(1, BLOCK_Q8_A8_V2), "x", BLOCK_Q8_A8)
    require_field("activation_scale")
    with pytest.raises(errors.UnknownNameError):
        require_field("scale")
