"""The header of a GGUF file: what is read of a right one."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import gguf
import numpy as np
import pytest

from q8a8.ggufio import GgufError

from .header_bytes import SCALARS, Bytes, assemble, deep, read, small_file, some_tensors

if TYPE_CHECKING:
    from pathlib import Path


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


def test_just_right() -> None:
    """What lies at a limit is read: the deepest array, the largest shape that is empty, the last byte."""
    assert read(deep(4).data).fields
    empty = some_tensors(Bytes().tensor("t", ((1 << 62), 0), 0, 0))
    assert read(empty.data).tensors["t"].n_bytes == 0
    assert read(some_tensors(Bytes().tensor("t", (9,), 0, 0), data=36).data).tensors["t"].n_bytes == 36
    touching = some_tensors(Bytes().tensor("t", (8,), 0, 0), Bytes().tensor("u", (8,), 0, 32), data=64)
    assert len(read(touching.data).tensors) == 2
