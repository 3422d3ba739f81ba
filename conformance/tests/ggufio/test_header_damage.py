"""The header of a GGUF file: a wrong or damaged one is refused by name, in no time."""

from __future__ import annotations

import struct
import time
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from q8a8.errors import Q8A8Error
from q8a8.ggufio import GgufError

from .header_bytes import (
    ARRAY,
    FILE,
    STRING,
    Bytes,
    assemble,
    deep,
    one_field,
    read,
    small_file,
    some_tensors,
)

if TYPE_CHECKING:
    from q8a8.ggufio.header import Header

LONG = "n" * 1000
SHOWN = f"'{'n' * 77}...'"

WRONG: dict[str, tuple[Bytes, str]] = {
    "magic": (Bytes(data=bytearray(b"GGML" + bytes(20))), "is not a GGUF file: it starts with b'GGML'"),
    "more tensors than bytes": (
        assemble(n_tensors=1),
        "number of tensors: 1 tensors cannot lie in the 16 bytes",
    ),
    "more fields than bytes": (
        assemble(n_fields=1),
        "number of metadata fields: 1 fields cannot lie in the 8",
    ),
    "no metadata type": (one_field(Bytes().key("k", 13)), "key 'k': there is no metadata type 13"),
    "no element type": (
        one_field(Bytes().key("k", ARRAY).array(99, 1, "").number("Q", 1).number("Q", 1)),
        "key 'k': element 0: there is no metadata type 99",
    ),
    "long array": (
        one_field(Bytes().key("k", ARRAY).array(4, 1 << 62, "")),
        f"key 'k': {1 << 62} uint32 cannot lie in the ",
    ),
    "long array of strings": (
        one_field(Bytes().key("k", ARRAY).array(STRING, 5, "").number("Q", 0)),
        "key 'k': 5 elements cannot lie in the ",
    ),
    "long string": (one_field(Bytes().key("k", STRING).number("Q", 1 << 63)), "key 'k': length: "),
    "string in an array": (
        one_field(Bytes().key("k", ARRAY).array(STRING, 2, "").string("", "").number("Q", 1 << 40)),
        "key 'k': element 1: length: ",
    ),
    "no UTF-8": (
        one_field(Bytes().key("k", STRING).string(b"a\xff", "")),
        "key 'k': is not UTF-8: invalid start",
    ),
    "key of no UTF-8": (
        one_field(Bytes().key(b"\xc3", 0).number("B", 1)),
        "metadata field 0: key: is not UTF-8",
    ),
    "bool of 2": (one_field(Bytes().key("k", 7).number("B", 2)), "key 'k': a bool is neither 0 nor 1"),
    "empty key": (one_field(Bytes().key("", 7).number("B", 1)), "metadata field 0: its key is empty"),
    "key twice": (
        one_field(Bytes().key("k", 0).number("B", 1).key("k", 1).number("b", 1), 2),
        "key 'k' is there twice",
    ),
    "too deep": (deep(5), "element 0: arrays lie more than 4 deep in each other"),
    "alignment 0": (
        one_field(Bytes().key("general.alignment", 4).number("I", 0)),
        "'general.alignment': must be",
    ),
    "alignment 48": (
        one_field(Bytes().key("general.alignment", 4).number("I", 48)),
        "'general.alignment': must be",
    ),
    "alignment of u64": (
        one_field(Bytes().key("general.alignment", 10).number("Q", 32)),
        "'general.alignment': must be a uint32 and a power of two",
    ),
    "alignment of a bool": (
        one_field(Bytes().key("general.alignment", 7).number("B", 1)),
        "'general.alignment': must be a uint32 and a power of two",
    ),
    "alignment beyond the file": (
        assemble(
            Bytes().key("general.alignment", 4).number("I", 1 << 31),
            1,
            Bytes().tensor("t", (0,), 0, 0),
            1,
        ),
        f"ends inside its header: the data would start at byte {1 << 31}",
    ),
    "name twice": (
        some_tensors(Bytes().tensor("t", (1,), 0, 0), Bytes().tensor("t", (1,), 0, 32), data=64),
        "tensor 't' is there twice",
    ),
    "name of no UTF-8": (
        some_tensors(Bytes().tensor(b"\xff", (1,), 0, 0), data=32),
        "tensor 0: name: is not",
    ),
    "five axes": (
        some_tensors(Bytes().tensor("t", (1,) * 5, 0, 0), data=32),
        "tensor 't': 5 axes; there can be 4",
    ),
    "more axes than bytes": (
        some_tensors(Bytes().tensor("t", (), 0, 0, axes=4)),
        "tensor 't': axis 3: expected 8 bytes at byte ",
    ),
    "too many elements": (
        some_tensors(Bytes().tensor("t", (1 << 32, 1 << 31), 0, 0), data=32),
        "has 2^63 elements or more",
    ),
    "too many elements beside none": (
        some_tensors(Bytes().tensor("t", (1 << 32, 1 << 31, 0), 0, 0), data=32),
        "has 2^63 elements or more",
    ),
    "one length is too long": (
        some_tensors(Bytes().tensor("t", ((1 << 64) - 1,), 0, 0), data=32),
        "has 2^63 elements or more",
    ),
    "unknown type": (
        some_tensors(Bytes().tensor("t", (32,), 42, 0), data=64),
        "tensor 't': tensor type 42 is not",
    ),
    "type that was removed": (
        some_tensors(Bytes().tensor("t", (32,), 4, 0), data=64),
        "tensor type 4 is not known",
    ),
    "half a block": (
        some_tensors(Bytes().tensor("t", (48, 2), 8, 0), data=128),
        "tensor 't': rows of 48 elements are not whole Q8_0 blocks of 32",
    ),
    "no row of a block": (
        some_tensors(Bytes().tensor("t", (), 8, 0), data=64),
        "tensor 't': rows of 1 elements",
    ),
    "offset beside the alignment": (
        some_tensors(Bytes().tensor("t", (1,), 0, 4), data=64),
        "tensor 't': offset 4 is not a multiple of the alignment 32",
    ),
    "beyond the end": (
        some_tensors(Bytes().tensor("t", (9,), 0, 0), data=35),
        "tensor 't': its 36 bytes at offset 0 do not lie in the 35 bytes of the data",
    ),
    "offset beyond the end": (
        some_tensors(Bytes().tensor("t", (1,), 0, (1 << 64) - 32), data=32),
        f"tensor 't': its 4 bytes at offset {(1 << 64) - 32} do not lie in the 32 bytes",
    ),
    "overlap": (
        some_tensors(Bytes().tensor("t", (1,), 0, 32), Bytes().tensor("u", (9,), 0, 0), data=64),
        "tensor 'u' overlaps tensor 't'",
    ),
    "overlap by a byte": (
        some_tensors(Bytes().tensor("t", (33,), 24, 0), Bytes().tensor("u", (1,), 24, 32), data=64),
        "tensor 't' overlaps tensor 'u'",
    ),
    "same place": (
        some_tensors(Bytes().tensor("t", (1,), 0, 0), Bytes().tensor("u", (1,), 0, 0), data=64),
        "tensor 't' overlaps tensor 'u'",
    ),
    "a name without end": (
        some_tensors(Bytes().tensor(LONG, (1,), 42, 0), data=32),
        f"tensor {SHOWN}: tensor type",
    ),
    "a key that moves the cursor": (
        one_field(Bytes().key("\x1b[2J", 13)),
        r"key '\x1b[2J': there is no metadata type 13",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_files(case: str) -> None:
    """What is wrong is refused, with the file's name and the key or tensor."""
    made, message = WRONG[case]
    with pytest.raises(GgufError) as caught:
        read(made.data)
    assert str(caught.value).startswith(f"{FILE}: ")
    assert message in str(caught.value)
    assert isinstance(caught.value, Q8A8Error)
    assert len(str(caught.value)) < 300


def consistent(header: Header, size: int) -> None:
    """Check what every header that is accepted must be, whatever the file said."""
    end = 0
    for tensor in sorted(header.tensors.values(), key=lambda info: (info.offset, info.n_bytes)):
        if tensor.n_bytes:
            assert end <= tensor.offset
            end = tensor.offset + tensor.n_bytes
        assert tensor.offset % header.alignment == 0
        assert len(tensor.shape) <= 4
    assert end <= size


VALUES = (0, 1, 2, 1 << 31, (1 << 32) - 1, 1 << 63, (1 << 63) - 1, (1 << 64) - 1, (1 << 64) - 64)


@pytest.mark.parametrize("order", ["<", ">"])
def test_every_length_lies(order: str) -> None:
    """Every length, count, type and offset of a file, replaced: our error or a sound header, in no time."""
    made = small_file(order)
    assert len(made.marks) > 120
    refused = 0
    start = time.monotonic()
    tracemalloc.start()
    for at, code, mark in made.marks:
        size = struct.calcsize(order + code)
        (now,) = struct.unpack_from(order + code, made.data, at)
        for value in {*VALUES, now - 1, now + 1} - {now}:
            data = bytearray(made.data)
            data[at : at + size] = (value % (1 << 8 * size)).to_bytes(
                size, "little" if order == "<" else "big"
            )
            try:
                consistent(read(data), len(data))
            except GgufError as error:
                assert str(error).startswith(f"{FILE}: "), mark  # noqa: PT017 (other errors must come through)
                refused += 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Most lies are found out at once. A smaller count only moves what is read next.
    assert refused > 9 * len(made.marks)
    # Nothing is allocated for what a length claims: a few times the file, of under 3 KiB.
    assert peak < 200_000
    assert time.monotonic() - start < 60


def test_cut_anywhere() -> None:
    """A file that ends too early is refused, wherever it ends."""
    data = bytes(small_file().data)
    for length in range(len(data)):
        with pytest.raises(GgufError, match=r"^some\.gguf: "):
            read(data[:length])
    assert read(data).tensors


WHOLE = bytes(small_file().data)
HEADER = len(WHOLE) - 288


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, HEADER - 1), st.integers(0, 255)), min_size=1, max_size=4),
    st.integers(0, len(WHOLE)),
    st.binary(max_size=9),
)
def test_any_bytes_changed(changes: list[tuple[int, int]], at: int, inserted: bytes) -> None:
    """A few bytes changed, and some put in between: our error, or a sound header."""
    data = bytearray(WHOLE)
    for place, value in changes:
        data[place] = value
    data[at:at] = inserted
    try:
        consistent(read(data), len(data))
    except GgufError as error:
        assert str(error).startswith(f"{FILE}: ")  # noqa: PT017 (other errors must come through)


def test_a_file_of_lengths_takes_no_longer_than_its_bytes() -> None:
    """A megabyte of the smallest entries that there can be is read in time and memory of its size."""
    count = 120_000
    fields = Bytes().key("k", ARRAY).array(STRING, count, "")
    fields.data += bytes(8 * count)
    start = time.monotonic()
    header = read(one_field(fields).data)
    assert header.fields["k"].value == [""] * count
    assert time.monotonic() - start < 10
