"""The header of a GGUF file, read as if somebody meant harm with it.

::

    "GGUF"  version u32  tensors u64  fields u64                     24 bytes
    field   key: length u64, bytes;  type u32;  value               their number is in the header
    tensor  name: length u64, bytes; axes u32; lengths u64 each     their number is in the header,
            (innermost first); type u32; offset u64                 offsets count from the data section
    padding to the alignment, then the data section

(GGUF specification, github.com/ggml-org/ggml, docs/gguf.md.) Every number in it is a claim. A count or length
is compared with the bytes that are left in the file before anything is allocated or repeated for it, so that
neither time nor memory grows beyond the file's size, whatever a few bytes of it claim; gguf-py's own reader
trusts them. What else is refused here, ggml's reader (`gguf_init_from_file_impl`) refuses as well,
but for offsets that leave gaps between tensors, which are taken.

Both byte orders are read: the version number shows which one a file has.
"""

from __future__ import annotations

import itertools
import math
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from q8a8.ggufio.design_id import settle
from q8a8.ggufio.errors import GgufError, shown
from q8a8.ggufio.tensor_types import ARRAY, BOOL, SCALARS, STRING, TENSOR_TYPES, UINT32, VALUE_NAMES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from q8a8.ggufio.tensor_types import TensorType

__all__ = ["Field", "Header", "TensorInfo", "padded", "read_header"]

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT = 32
"""The data's alignment where `general.alignment` does not give another (GGUF_DEFAULT_ALIGNMENT)."""

MAX_AXES = 4
"""GGML_MAX_DIMS."""

MAX_NESTING = 4
"""Arrays in arrays: the specification sets no limit, ggml refuses the second, nobody writes the third."""

SMALLEST_FIELD = 8 + 4 + 1
SMALLEST_TENSOR = 8 + 4 + 4 + 8
SMALLEST_ARRAY = 4 + 8


@dataclass(frozen=True)
class Field:
    """One entry of the metadata.

    Parameters
    ----------
    type_id
        The type, by the file's number (`VALUE_NAMES`).
    value
        A number, a bool, a string; of an array, a read-only NumPy array of numbers in the machine's byte
        order, or a list.
    raw
        The value's bytes in the file, after the type, for a copy of the field.
    """

    type_id: int
    # Two fields are the same where their bytes are; NaNs and arrays do not compare.
    value: object = field(compare=False)
    raw: bytes


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies in a file, and how it is stored.

    Parameters
    ----------
    name
        Its name.
    shape
        Elements, outermost axis first: `[out, in]` for a weight matrix. (The file has them the other way.)
    type
        How its elements are stored.
    offset
        Where it starts, in bytes from the start of the file.
    n_bytes
        How many bytes it has.
    """

    name: str
    shape: tuple[int, ...]
    type: TensorType
    offset: int
    n_bytes: int

    @property
    def type_id(self) -> int:
        """The type's number in the file."""
        return self.type.id

    @property
    def type_name(self) -> str:
        """The type's name."""
        return self.type.name

    @property
    def elements(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Header:
    """The part of a file before its data.

    Parameters
    ----------
    version
        Of the file format: 2 or 3.
    order
        The byte order of everything in the file, as `struct` and NumPy write it: "<" or ">".
    alignment
        In bytes, of the data section and of every tensor in it.
    fields, tensors
        By key and by name, in the file's order.
    """

    version: int
    order: str
    alignment: int
    fields: Mapping[str, Field]
    tensors: Mapping[str, TensorInfo]


def padded(size: int, alignment: int) -> int:
    """Round a size up to the alignment."""
    return -(-size // alignment) * alignment


class _Cursor:
    """A place in a file's bytes that moves on, and never beyond their end."""

    def __init__(self, path: Path, data: memoryview) -> None:
        self.path, self.data = path, data
        self.at = 0
        self.order: Literal["<", ">"] = "<"

    @property
    def left(self) -> int:
        """The bytes that are left."""
        return len(self.data) - self.at

    def error(self, what: str) -> GgufError:
        """Make the error that names the file."""
        return GgufError(self.path, what)

    def skip(self, size: int, what: str) -> int:
        """Move on over so many bytes, and give the place before them."""
        if size > self.left:
            raise self.error(
                f"{what}: expected {size} bytes at byte {self.at}, but only {self.left} are left in the file"
            )
        start = self.at
        self.at += size
        return start

    def number(self, code: str, what: str) -> int:
        """Read an integer: a `struct` code."""
        layout = self.order + code
        (value,) = struct.unpack_from(layout, self.data, self.skip(struct.calcsize(layout), what))
        return int(value)

    def count(self, smallest: int, of: str, what: str) -> int:
        """Read how many things follow, each of `smallest` bytes or more."""
        count = self.number("Q", what)
        if count > self.left // smallest:
            raise self.error(f"{what}: {count} {of} cannot lie in the {self.left} bytes that are left")
        return count

    def string(self, what: str) -> str:
        """Read a string: its length, then its bytes."""
        length = self.count(1, "bytes", f"{what}: length")
        start = self.skip(length, what)
        try:
            return str(self.data[start : start + length], "utf-8")
        except UnicodeDecodeError as error:
            raise self.error(f"{what}: is not UTF-8: {error.reason} at byte {start + error.start}") from error

    def numbers(self, type_id: int, count: int, what: str) -> np.ndarray[Any, Any]:
        """Read numbers of one of the fixed sizes, as an array in the machine's byte order."""
        dtype = np.dtype(SCALARS[type_id])
        start = self.skip(count * dtype.itemsize, what)
        stored = np.frombuffer(self.data, dtype.newbyteorder(self.order), count, start)
        if type_id == BOOL and (stored.view(np.uint8) > 1).any():
            raise self.error(f"{what}: a bool is neither 0 nor 1")
        # A copy: nothing of the metadata holds on to the mapping.
        values = stored.astype(dtype)
        values.setflags(write=False)
        return values

    def value(self, type_id: int, what: str, nesting: int = 0) -> object:
        """Read a metadata value of this type."""
        if type_id in SCALARS:
            return self.numbers(type_id, 1, what)[0].item()
        if type_id == STRING:
            return self.string(what)
        if type_id != ARRAY:
            raise self.error(f"{what}: there is no metadata type {type_id}")
        if nesting == MAX_NESTING:
            raise self.error(f"{what}: arrays lie more than {MAX_NESTING} deep in each other")
        element = self.number("I", f"{what}: type of the elements")
        if element in SCALARS:
            count = self.count(np.dtype(SCALARS[element]).itemsize, VALUE_NAMES[element], what)
            return self.numbers(element, count, what)
        count = self.count(8 if element == STRING else SMALLEST_ARRAY, "elements", what)
        return [self.value(element, f"{what}: element {index}", nesting + 1) for index in range(count)]


def read_header(path: Path, data: memoryview, *, allow_id_39: bool = False) -> Header:
    """Read and check the header of a GGUF file.

    Parameters
    ----------
    path
        The file's name, for messages.
    data
        All bytes of the file.
    allow_id_39
        Whether the file is known to be of the design's own fork, where tensor type 39 is Q8_A8.

    Raises
    ------
    GgufError
        naming the file, and the key or tensor, for whatever is not as it should be.
    """
    cursor = _Cursor(path, data)
    start = cursor.skip(4, "magic number")
    if data[start : start + 4] != MAGIC:
        raise cursor.error(f"is not a GGUF file: it starts with {bytes(data[:4])!r}, not {MAGIC!r}")
    version = cursor.number("I", "version")
    if version & 0xFFFF == 0:
        # No version is that large: the bytes are in the other order.
        cursor.order = ">"
        version = int.from_bytes(version.to_bytes(4, "little"), "big")
    if version not in VERSIONS:
        raise cursor.error(
            f"GGUF version {version} is not read; versions {VERSIONS[0]} and {VERSIONS[1]} are"
        )
    # Tensors and fields are counted before either; the fields come first.
    n_tensors = cursor.count(SMALLEST_TENSOR, "tensors", "number of tensors")
    n_fields = cursor.count(SMALLEST_FIELD, "fields", "number of metadata fields")
    fields: dict[str, Field] = {}
    for index in range(n_fields):
        key = cursor.string(f"metadata field {index}: key")
        what = f"key {shown(key)}"
        if not key:
            raise cursor.error(f"metadata field {index}: its key is empty")
        if key in fields:
            raise cursor.error(f"{what} is there twice")
        type_id = cursor.number("I", f"{what}: type")
        start = cursor.at
        value = cursor.value(type_id, what)
        fields[key] = Field(type_id, value, bytes(data[start : cursor.at]))
    alignment = _alignment(cursor, fields)
    return Header(
        version, cursor.order, alignment, fields, _tensors(cursor, n_tensors, alignment, allow_id_39)
    )


def _alignment(cursor: _Cursor, fields: Mapping[str, Field]) -> int:
    """Return the alignment of the data, checked."""
    entry = fields.get("general.alignment")
    if entry is None:
        return ALIGNMENT
    value = entry.value
    if entry.type_id != UINT32 or not isinstance(value, int) or value.bit_count() != 1:
        raise cursor.error("key 'general.alignment': must be a uint32 and a power of two")
    return value


def _tensors(cursor: _Cursor, count: int, alignment: int, allow_id_39: bool) -> dict[str, TensorInfo]:
    """Read the list of tensors, and check it against the data section after it."""
    claims = _claims(cursor, count)
    start = padded(cursor.at, alignment)
    size = len(cursor.data) - start
    if claims and size < 0:
        raise cursor.error(f"ends inside its header: the data would start at byte {start}")
    type_39 = settle(cursor.path, claims, size, alignment, allow_id_39=allow_id_39)
    tensors = {}
    for name, (shape, type_id, offset) in claims.items():
        what = f"tensor {shown(name)}"
        kind = type_39 if type_id == type_39.id else TENSOR_TYPES[type_id]
        inner = shape[-1] if shape else 1
        if inner % kind.block:
            raise cursor.error(
                f"{what}: rows of {inner} elements are not whole {kind.name} blocks of {kind.block}"
            )
        n_bytes = math.prod(shape) // kind.block * kind.size
        if offset % alignment:
            raise cursor.error(f"{what}: offset {offset} is not a multiple of the alignment {alignment}")
        if offset + n_bytes > size:
            raise cursor.error(
                f"{what}: its {n_bytes} bytes at offset {offset} do not lie in the {size} bytes of the data"
            )
        tensors[name] = TensorInfo(name, shape, kind, start + offset, n_bytes)
    _require_apart(cursor, tensors)
    return tensors


def _claims(cursor: _Cursor, count: int) -> dict[str, tuple[tuple[int, ...], int, int]]:
    """Read the list of tensors: shape, type id and offset in the data section, by name."""
    claims: dict[str, tuple[tuple[int, ...], int, int]] = {}
    for index in range(count):
        name = cursor.string(f"tensor {index}: name")
        what = f"tensor {shown(name)}"
        if name in claims:
            raise cursor.error(f"{what} is there twice")
        axes = cursor.number("I", f"{what}: number of axes")
        if axes > MAX_AXES:
            raise cursor.error(f"{what}: {axes} axes; there can be {MAX_AXES}")
        lengths = [cursor.number("Q", f"{what}: axis {axis}") for axis in range(axes)]
        shape = tuple(reversed(lengths))
        # The product of the others must not overflow either where one length is zero.
        if math.prod(max(length, 1) for length in shape) >= 1 << 63:
            raise cursor.error(f"{what}: shape {shape} has 2^63 elements or more")
        type_id = cursor.number("I", f"{what}: type")
        if type_id not in TENSOR_TYPES:
            raise cursor.error(f"{what}: tensor type {type_id} is not known")
        claims[name] = (shape, type_id, cursor.number("Q", f"{what}: offset"))
    return claims


def _require_apart(cursor: _Cursor, tensors: Mapping[str, TensorInfo]) -> None:
    """Refuse tensors that share bytes."""
    in_order = sorted((info for info in tensors.values() if info.n_bytes), key=lambda info: info.offset)
    for info, following in itertools.pairwise(in_order):
        if info.offset + info.n_bytes > following.offset:
            raise cursor.error(f"tensor {shown(info.name)} overlaps tensor {shown(following.name)}")
