"""Files in GGUF's layout, put together byte by byte with `struct` from the format's description.

So every length in them is known, and can be replaced by another.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

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
