"""A GGUF file, written tensor by tensor, that has its name only when it is complete.

The start of the file locates all that follows, so the whole list of tensors, types and
shapes, is given at the start; their bytes follow in any number of pieces. Fields that a caller took from
another file are written with the bytes that they had there: no type is guessed, and what gguf-py's writer
cannot express (empty arrays, arrays in arrays) comes through.
"""

from __future__ import annotations

import math
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from q8a8 import atomic
from q8a8.ggufio.errors import GgufError
from q8a8.ggufio.header import MAGIC, Field, padded
from q8a8.ggufio.tensor_types import ARRAY, BOOL, FLOAT32, INT32, STRING, UINT32

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from q8a8.ggufio.header import Header
    from q8a8.ggufio.tensor_types import TensorType

__all__ = ["Writer", "field", "require_distinct", "writing"]

VERSION = 3


def field(value: object, order: str) -> Field:
    """Make a field by the value's type.

    A string, a bool, a uint32, a float32; an array of strings or bools (a list), of int32 or float32 (a NumPy
    array).

    Raises
    ------
    TypeError
        for another type.
    """
    if isinstance(value, str):
        return Field(STRING, value, _string(value, order))
    if isinstance(value, bool):
        return Field(BOOL, value, bytes([value]))
    if isinstance(value, int):
        return Field(UINT32, value, struct.pack(f"{order}I", value))
    if isinstance(value, float):
        return Field(FLOAT32, value, struct.pack(f"{order}f", value))
    if isinstance(value, np.ndarray):
        kind = {"i": INT32, "f": FLOAT32}[value.dtype.kind]
        content = value.astype(f"{order}{value.dtype.kind}4").tobytes()
    elif not isinstance(value, list):
        raise TypeError(f"no metadata type holds {type(value).__name__}")
    elif value and isinstance(value[0], bool):
        kind, content = BOOL, bytes(value)
    else:
        kind, content = STRING, b"".join(_string(each, order) for each in value)
    return Field(ARRAY, value, struct.pack(f"{order}IQ", kind, len(value)) + content)


def _string(text: str, order: str) -> bytes:
    """Return the bytes of a string: its length, then UTF-8."""
    content = text.encode()
    return struct.pack(f"{order}Q", len(content)) + content


class Writer:
    """A file whose header is written, and whose tensors follow.

    Parameters
    ----------
    file
        Where to.
    alignment
        Of the tensors.
    """

    def __init__(self, file: BinaryIO, alignment: int) -> None:
        self._file, self._alignment, self._at = file, alignment, 0

    def write(self, part: NDArray[np.generic]) -> None:
        """Append bytes of the tensor, as they are in memory."""
        self.append(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)

    def end(self) -> None:
        """Fill up to where the next tensor starts."""
        self.append(bytes(padded(self._at, self._alignment) - self._at))

    def append(self, data: bytes | memoryview) -> None:
        """Append bytes, and count them: a pipe has no position to ask for."""
        self._file.write(data)
        self._at += len(data)


@contextmanager
def writing(
    path: Path,
    like: Header,
    fields: Mapping[str, Field],
    tensors: Mapping[str, tuple[tuple[int, ...], TensorType]],
) -> Iterator[Writer]:
    """Write a GGUF file, which appears when the context is left without an error.

    Parameters
    ----------
    path
        The target; a file that has this name is replaced at the end.
    like
        Whose byte order and alignment it gets.
    fields
        The metadata, in that byte order.
    tensors
        Shape, outermost axis first, and type by name. The caller writes their bytes in this order, and calls
        `Writer.end` after each.

    Raises
    ------
    GgufError
        where the file cannot be written.
    """
    try:
        with atomic.writing(path) as file:
            writer = Writer(file, like.alignment)
            writer.append(_header(like.order, like.alignment, fields, tensors))
            writer.end()
            yield writer
    except OSError as error:
        raise GgufError(path, error.strerror) from error


def _header(
    order: str,
    alignment: int,
    fields: Mapping[str, Field],
    tensors: Mapping[str, tuple[tuple[int, ...], TensorType]],
) -> bytes:
    """Return the bytes before the data section and its padding (the drawing in `header`)."""
    pieces = [MAGIC, struct.pack(f"{order}IQQ", VERSION, len(tensors), len(fields))]
    for key, value in fields.items():
        pieces += [_string(key, order), struct.pack(f"{order}I", value.type_id), value.raw]
    offset = 0
    for name, (shape, kind) in tensors.items():
        pieces += [
            _string(name, order),
            struct.pack(f"{order}I{len(shape)}Q", len(shape), *reversed(shape)),
            struct.pack(f"{order}IQ", kind.id, offset),
        ]
        offset += padded(math.prod(shape) // kind.block * kind.size, alignment)
    return b"".join(pieces)


def require_distinct(sources: Iterable[Path], target: Path) -> None:
    """Refuse to write over a file that is being read.

    Raises
    ------
    GgufError
        where the target is one of the sources, by whatever name.
    """
    if target.exists() and any(target.samefile(source) for source in sources):
        raise GgufError(target, "is the input: it stays as it is")
