"""Arrays in files: mapped for reading, streamed out for writing.

What a file holds follows from its suffix::

    .npy   NumPy's format: an array of floats, or of blocks (their structured dtype)
    .bin   blocks, one behind the other, and nothing else: shape and version come from the command line
    .f32   little-endian float32, one behind the other, and nothing else

Reading maps the file and lets go of pages that have been read (`Mapped.release`), so that the resident memory
of a command does not grow with the file. Writing goes to a temporary file in the folder of the target, which
takes the target's name when it is complete: what has that name is never half of a file.
"""

from __future__ import annotations

import json
import math
import mmap
import secrets
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np

from q8a8 import BLOCK_Q8_A8, BLOCK_Q8_A8_V2, QK8_A8

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = [
    "FLOATS",
    "FileError",
    "Mapped",
    "Shape",
    "Writer",
    "block_parts",
    "float_parts",
    "float_shape",
    "open_array",
    "open_blocks",
    "require_distinct",
    "used_scale",
    "write_json",
    "writing",
]

FLOATS = np.dtype("<f4")
PART = 1 << 22
"""Elements in a part: 16 MiB of float32."""

Shape: TypeAlias = tuple[int, ...]
SUFFIXES = (".npy", ".bin", ".f32")


class FileError(Exception):
    """A file that a command cannot use; the message starts with its name."""

    def __init__(self, path: Path, what: object) -> None:
        super().__init__(f"{path}: {what}")


@dataclass(frozen=True)
class Mapped:
    """An array whose memory is a file, read-only.

    Parameters
    ----------
    path
        The file.
    array
        Its content, in the shape that it has.
    memory
        The mapping, None for an array without elements.
    """

    path: Path
    array: NDArray[Any]
    memory: mmap.mmap | None

    def release(self) -> None:
        """Let go of the pages that were read; the next look at one of them reads it again."""
        if self.memory is not None:
            # The mapping is read-only: there is nothing in it to lose.
            self.memory.madvise(mmap.MADV_DONTNEED)


def _kind(path: Path) -> str:
    """Give a file's suffix, one that there is a format for."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise FileError(path, f"what this file holds is told by its suffix: one of {', '.join(SUFFIXES)}")
    return suffix


def open_array(path: Path, *, blocks: np.dtype[Any], shape: Shape | None = None) -> Mapped:
    """Map a file's array.

    Parameters
    ----------
    path
        A file with one of the suffixes above.
    blocks
        The type of the blocks in a `.bin` file.
    shape
        Elements `[..., k]` in a `.bin` or `.f32` file; by default one row. An `.npy` file knows its shape.

    Raises
    ------
    FileError
        where the file cannot be read, or does not hold what its suffix says, or not that many elements.
    """
    suffix = _kind(path)
    try:
        if suffix == ".npy":
            if shape is not None:
                raise FileError(path, "an .npy file knows its shape; none can be given")
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            memory = array.base if isinstance(array.base, mmap.mmap) else None
            return Mapped(path, np.asarray(array), memory)
        size = path.stat().st_size
        dtype, each = (FLOATS, 1) if suffix == ".f32" else (blocks, QK8_A8)
        if size % dtype.itemsize:
            raise FileError(
                path, f"{size} bytes end inside item {size // dtype.itemsize} of {dtype.itemsize} bytes"
            )
        units = _units(path, size // dtype.itemsize, each, shape)
        if not size:
            return Mapped(path, np.empty(units, dtype), None)
        with path.open("rb") as file:
            memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return Mapped(path, np.frombuffer(memory, dtype).reshape(units), memory)
    except (OSError, ValueError) as error:
        raise FileError(path, error.strerror if isinstance(error, OSError) else error) from error


def _units(path: Path, count: int, each: int, shape: Shape | None) -> Shape:
    """Turn a shape in elements into one in items of `each` elements, of which the file holds `count`."""
    if shape is None:
        return (count,)
    if shape[-1] % each:
        raise FileError(path, f"rows of {shape[-1]} elements are no multiple of {each}")
    units = (*shape[:-1], shape[-1] // each)
    if math.prod(units) != count:
        raise FileError(path, f"shape {shape} has {math.prod(shape)} elements, the file {count * each}")
    return units


def float_shape(mapped: Mapped) -> Shape:
    """Check an array of floats, and give its shape.

    Raises
    ------
    FileError
        where it is not float32 or float16 `[..., k]`, k a multiple of 32.
    """
    array = mapped.array
    if array.dtype.kind != "f" or array.dtype.itemsize not in (2, 4):
        raise FileError(mapped.path, f"dtype {array.dtype}, float32 or float16 wanted")
    if array.ndim == 0 or array.shape[-1] % QK8_A8:
        raise FileError(mapped.path, f"shape {array.shape}: rows are no multiple of {QK8_A8} elements")
    return array.shape


def open_blocks(path: Path, version: int, shape: Shape | None) -> Mapped:
    """Map an array of blocks; version and shape (in elements) are those of a `.bin` file.

    Raises
    ------
    FileError
        as `open_array`, and where the file holds something else.
    """
    mapped = open_array(path, blocks=BLOCK_Q8_A8_V2 if version == 2 else BLOCK_Q8_A8, shape=shape)
    if mapped.array.dtype not in (BLOCK_Q8_A8, BLOCK_Q8_A8_V2) or mapped.array.ndim == 0:
        raise FileError(
            path, f"dtype {mapped.array.dtype}, shape {mapped.array.shape}: rows of Q8_A8 blocks wanted"
        )
    return mapped


def _parts(mapped: Mapped, size: int) -> Iterator[tuple[int, NDArray[Any]]]:
    """Cut an array, read in C order, into parts of `size` items, each with its position."""
    array = mapped.array
    # An array in another order is read through its flat iterator, which copies one part at a time.
    flat = array.reshape(-1) if array.flags.c_contiguous else array.flat
    for first in range(0, array.size, size):
        yield first, flat[first : first + size]
        mapped.release()


def float_parts(mapped: Mapped) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield float32 `[n, 32]`, with the block that it starts at."""
    for first, part in _parts(mapped, PART):
        yield first // QK8_A8, part.astype(np.float32, copy=False).reshape(-1, QK8_A8)


def block_parts(mapped: Mapped) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield blocks `[n, 1]`, with the block that it starts at."""
    for first, part in _parts(mapped, PART // QK8_A8):
        yield first, part[:, None]


def used_scale(mapped: Mapped) -> str:
    """Name the scale field that blocks carry: `activation_scale` where all weight scales are zero."""
    if mapped.array.dtype == BLOCK_Q8_A8 or any(p["weight_scale"].any() for _, p in block_parts(mapped)):
        return "weight_scale"
    return "activation_scale"


class Writer:
    """A file that is being written: an array's header, then its items as they come."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, part: NDArray[Any]) -> None:
        """Append items, in C order."""
        self._file.write(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)


@contextmanager
def writing(path: Path, dtype: np.dtype[Any], shape: Shape) -> Iterator[Writer]:
    """Write an array to a file that appears, complete, when the context is left without an error.

    Parameters
    ----------
    path
        The target; a file that has this name is replaced at the end.
    dtype, shape
        What will be written.

    Raises
    ------
    FileError
        where the suffix does not suit the type, or the file cannot be written.
    """
    suffix = _kind(path)
    wanted = {".bin": dtype.names is not None, ".f32": dtype == FLOATS, ".npy": True}[suffix]
    if not wanted:
        raise FileError(path, f"a {suffix} file does not hold {'blocks' if dtype.names else dtype}")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        try:
            with temporary.open("xb") as file:
                if suffix == ".npy":
                    header = {
                        "descr": np.lib.format.dtype_to_descr(dtype),
                        "fortran_order": False,
                        "shape": shape,
                    }
                    np.lib.format.write_array_header_1_0(file, header)
                yield Writer(file)
            temporary.replace(path)
        except OSError as error:
            raise FileError(path, error.strerror) from error
    finally:
        temporary.unlink(missing_ok=True)


def require_distinct(source: Path, target: Path) -> None:
    """Refuse to write over what is being read.

    Raises
    ------
    FileError
        where both names are of one file.
    """
    if target.exists() and source.exists() and target.samefile(source):
        raise FileError(target, "is the input: it stays as it is")


def write_json(path: Path, document: Mapping[str, object]) -> None:
    """Write a JSON document; numbers that JSON does not have are a mistake of the caller.

    Raises
    ------
    FileError
        where the file cannot be written.
    """
    text = json.dumps(document, indent=1, allow_nan=False)
    try:
        path.write_text(f"{text}\n", encoding="utf-8")
    except OSError as error:
        raise FileError(path, error.strerror) from error
