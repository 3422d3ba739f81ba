"""The header of a GGUF file: what is read of a right one, and that a wrong one is refused by name.

The files are put together here, byte by byte with `struct` from the format's description, so that every
length in them is known and can be replaced by another.
"""

from __future__ import annotations

import struct
import time
import tracemalloc
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from q8a8.errors import Q8A8Error
from q8a8.ggufio import GgufError
from q8a8.ggufio.header import Header, read_header

FILE = Path("some.gguf")

SCALARS = {
    "u8": (0, "B", 200),
    "i8": (1, "b", -100),
    "u16": (2, "H", 65535),
    "i16": (3, "h", -32768),
    "u32": (4, "I", 1 << 31),
    "i32": (5, "i", -(1 << 31)),
    "f32": (6, "f", 0.5),
    "bool": (7, "B", 1),
    "u64": (10, "Q", (1 << 64) - 1),
    "i64": (11, "q", -(1 << 63)),
    "f64": (12, "d", 0.1),
}
STRING, ARRAY = 8, 9


@dataclass
class Bytes:
    """Bytes in one order, and where in them a length, a count, a type or an offset stands."""

    order: str = "<"
    data: bytearray = field(default_factory=bytearray)
    marks: list[tuple[int, str, str]] = field(default_factory=list)

    def number(self, code: str, value: float, mark: str = "") -> Self:
        """Append a number; one with a mark is to be remembered."""
        if mark:
            self.marks.append((len(self.data), code, mark))
        self.data += struct.pack(self.order + code, value)
        return self

    def string(self, text: str | bytes, mark: str) -> Self:
        """Append a string."""
        content = text.encode() if isinstance(text, str) else text
        self.number("Q", len(content), f"{mark}: length")
        self.data += content
        return self

    def array(self, element: int, count: int, mark: str) -> Self:
        """Append the start of an array."""
        return self.number("I", element, f"{mark}: element type").number("Q", count, f"{mark}: count")

    def key(self, key: str | bytes, type_id: int) -> Self:
        """Append the key of a field, and its type."""
        return self.string(key, f"key {key!r}").number("I", type_id, f"{key!r}: type")

    def tensor(
        self, name: str | bytes, lengths: tuple[int, ...], type_id: int, offset: int, axes: int | None = None
    ) -> Self:
        """Append an entry of the list of tensors; lengths are innermost first."""
        self.string(name, f"tensor {name!r}")
        self.number("I", len(lengths) if axes is None else axes, f"{name!r}: axes")
        for length in lengths:
            self.number("Q", length, f"{name!r}: axis")
        return self.number("I", type_id, f"{name!r}: type").number("Q", offset, f"{name!r}: offset")


def assemble(
    fields: Bytes | None = None,
    n_fields: int = 0,
    tensors: Bytes | None = None,
    n_tensors: int = 0,
    *,
    data: int = 0,
    order: str = "<",
    version: int = 3,
    alignment: int = 32,
) -> Bytes:
    """Put a file together."""
    whole = Bytes(order)
    whole.data += b"GGUF"
    whole.number("I", version, "version")
    whole.number("Q", n_tensors, "number of tensors").number("Q", n_fields, "number of fields")
    for part in (fields, tensors):
        if part is not None:
            whole.marks += [(len(whole.data) + at, code, mark) for at, code, mark in part.marks]
            whole.data += part.data
    whole.data += bytes(-len(whole.data) % alignment + data)
    return whole


def small_file(order: str = "<") -> Bytes:
    """Make a file with a field of every type, and a few tensors."""
    fields = Bytes(order).key("general.alignment", 4).number("I", 64, "alignment")
    for name, (type_id, code, value) in SCALARS.items():
        fields.key(name, type_id).number(code, value)
    fields.key("text", STRING).string("a\0b é", "text")
    for name, (type_id, code, value) in SCALARS.items():
        fields.key(f"{name}s", ARRAY).array(type_id, 2, name).number(code, value).number(code, 1)
    fields.key("texts", ARRAY).array(STRING, 3, "texts").string("x", "0").string("", "1").string("yz", "2")
    fields.key("empty", ARRAY).array(STRING, 0, "empty")
    fields.key("nested", ARRAY).array(ARRAY, 2, "nested").array(1, 1, "inner 0").number("b", -5)
    fields.array(ARRAY, 1, "inner 1").array(6, 0, "innermost")
    tensors = Bytes(order).tensor("a", (3, 2), 0, 0).tensor("b.weight", (32, 2), 8, 64)
    tensors.tensor("c", (), 1, 192).tensor("d", (0, 5), 0, 192).tensor("e", (2, 2, 2, 2), 30, 256)
    n_fields = 1 + 2 * len(SCALARS) + 4
    return assemble(fields, n_fields, tensors, 5, data=256 + 32, order=order, alignment=64)


def read(data: bytes | bytearray) -> Header:
    """Read a header."""
    return read_header(FILE, memoryview(bytes(data)))


@pytest.mark.parametrize("order", ["<", ">"])
def test_everything_is_read(order: str) -> None:
    """Every type of metadata and every kind of shape is read, in both byte orders."""
    made = small_file(order)
    header = read(made.data)
    assert (header.version, header.order, header.alignment) == (3, order, 64)
    values = {key: entry.value for key, entry in header.fields.items()}
    for name, (_, _, value) in SCALARS.items():
        assert values[name] == value
        assert type(values[name]) is (bool if name == "bool" else type(value))
        several = values[f"{name}s"]
        assert isinstance(several, np.ndarray)
        assert several.dtype.isnative
        assert not several.flags.writeable
        assert several.tolist() == [value, 1]
    assert values["text"] == "a\0b é"
    assert values["texts"] == ["x", "", "yz"]
    assert values["empty"] == []
    nested = values["nested"]
    assert isinstance(nested, list)
    assert nested[0].tolist() == [-5]
    assert [inner.tolist() for inner in nested[1]] == [[]]
    start = len(made.data) - 256 - 32
    assert [
        (t.name, t.shape, t.type_name, t.type_id, t.offset - start, t.n_bytes, t.elements)
        for t in header.tensors.values()
    ] == [
        ("a", (2, 3), "F32", 0, 0, 24, 6),
        ("b.weight", (2, 32), "Q8_0", 8, 64, 68, 64),
        ("c", (), "F16", 1, 192, 2, 1),
        ("d", (5, 0), "F32", 0, 192, 0, 0),
        ("e", (2, 2, 2, 2), "BF16", 30, 256, 32, 16),
    ]
    # What a copy of a field is made of: the bytes between its type and the next key.
    assert header.fields["u16"].raw == struct.pack(f"{order}H", 65535)
    assert header.fields["texts"].raw.endswith(struct.pack(f"{order}Q", 2) + b"yz")


def test_gguf_reads_the_same(tmp_path: Path) -> None:
    """gguf-py's reader finds the same fields and tensors, where it can read them."""
    (tmp_path / "a.gguf").write_bytes(small_file().data)
    reader = gguf.GGUFReader(tmp_path / "a.gguf")
    header = read(small_file().data)
    for name, entry in header.fields.items():
        if name not in ("nested", "empty"):
            value = entry.value.tolist() if isinstance(entry.value, np.ndarray) else entry.value
            assert reader.fields[name].contents() == value, name
    assert [(t.name, tuple(t.shape[::-1].tolist()), t.n_bytes, t.data_offset) for t in reader.tensors] == [
        (t.name, t.shape, t.n_bytes, t.offset) for t in header.tensors.values()
    ]


@pytest.mark.parametrize("version", [0, 1, 4, 0xFFFF, 1 << 31])
def test_other_versions(version: int) -> None:
    """Versions of the format that are not known are refused; 2 is read as 3 is."""
    with pytest.raises(GgufError, match=r"^some\.gguf: GGUF version \d+ is not read"):
        read(assemble(version=version).data)
    assert read(assemble(version=2).data).version == 2


def test_an_empty_model() -> None:
    """A file without fields and tensors is one; bytes behind the tensors are nobody's."""
    header = read(assemble().data[:24])
    assert (header.fields, header.tensors, header.alignment) == ({}, {}, 32)
    assert read(assemble(tensors=Bytes().tensor("t", (1,), 24, 0), n_tensors=1, data=999).data).tensors


def one_field(fields: Bytes, count: int = 1) -> Bytes:
    """Make a file of some fields."""
    return assemble(fields, count)


def some_tensors(*entries: Bytes, data: int = 0) -> Bytes:
    """Make a file of some tensors."""
    tensors = Bytes()
    for entry in entries:
        tensors.data += entry.data
    return assemble(tensors=tensors, n_tensors=len(entries), data=data)


def deep(depth: int) -> Bytes:
    """Make a file with arrays in arrays."""
    fields = Bytes().key("k", ARRAY)
    for _ in range(depth - 1):
        fields.array(ARRAY, 1, "")
    return one_field(fields.array(0, 0, ""))


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


def test_just_right() -> None:
    """What lies at a limit is read: the deepest array, the largest shape that is empty, the last byte."""
    assert read(deep(4).data).fields
    empty = some_tensors(Bytes().tensor("t", ((1 << 62), 0), 0, 0))
    assert read(empty.data).tensors["t"].n_bytes == 0
    assert read(some_tensors(Bytes().tensor("t", (9,), 0, 0), data=36).data).tensors["t"].n_bytes == 36
    touching = some_tensors(Bytes().tensor("t", (8,), 0, 0), Bytes().tensor("u", (8,), 0, 32), data=64)
    assert len(read(touching.data).tensors) == 2


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
