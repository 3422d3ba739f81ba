"""A GGUF file that is open for reading: its metadata, its tensors, and their bytes as numbers.

The file is mapped, and its header checked, before anything is taken from it (`header`). Numbers come either
as a whole tensor (`GgufModel.read`) or in parts of bounded size (`GgufModel.parts`): a part is some whole
blocks of the tensor's type, and pages that have been read are given back, so that the resident memory of a
walk through a file is that of a part.

A model that is split over several files is opened by the name of any of them, and is then one model.
"""

from __future__ import annotations

import hashlib
import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from q8a8.errors import DomainError
from q8a8.ggufio.errors import GgufError, shown
from q8a8.ggufio.floats import readable, to_floats
from q8a8.ggufio.header import read_header
from q8a8.ggufio.hf import temporary_gguf
from q8a8.ggufio.split import join_headers, part_paths
from q8a8.layout import QK8_A8

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

    from numpy.typing import NDArray

    from q8a8.ggufio.header import Field, Header, TensorInfo

__all__ = ["PART", "GgufModel", "domain_error", "open_model"]

PART = 1 << 20
"""Elements of a part, a multiple of every type's block: 4 MiB of float32."""

HASHED = 1 << 22
"""Bytes that are hashed before their pages are given back."""


@dataclass(frozen=True)
class Mapped:
    """A mapped file.

    Parameters
    ----------
    path
        Its name.
    memory
        Its bytes, mapped read-only.
    header
        Its checked header.
    """

    path: Path
    memory: mmap.mmap
    header: Header


class GgufModel:
    """A mapped GGUF file; a context manager, which unmaps it. `open_model` makes one.

    Parameters
    ----------
    path
        The file; of a model that is split the one that it was opened by.
    files
        All files of the model, one unless it is split.
    header
        The header of the model: that of its file, or those of its files together.
    """

    def __init__(self, path: Path, files: Sequence[Mapped], header: Header) -> None:
        self.path = path
        self.header = header
        self.metadata: Mapping[str, object] = {key: field.value for key, field in header.fields.items()}
        """Values by key; arrays of numbers are NumPy arrays."""
        self.size = sum(len(file.memory) for file in files)
        """The bytes of all files."""
        self.paths = tuple(file.path for file in files)
        """All files, in their order."""
        self._memories = [file.memory for file in files]
        self._mapped: list[NDArray[np.uint8]] = [np.frombuffer(each, np.uint8) for each in self._memories]
        self._file_of = {name: index for index, file in enumerate(files) for name in file.header.tensors}
        self._sha256: str | None = None

    @property
    def fields(self) -> Mapping[str, Field]:
        """The metadata with its types, by key."""
        return self.header.fields

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """The tensors by name, in the file's order."""
        return self.header.tensors

    def __enter__(self) -> Self:
        """Return the model itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Unmap the files, as soon as no array that `raw` gave looks at them any more."""
        self._memories = []
        self._mapped = []

    @property
    def _bytes(self) -> list[NDArray[np.uint8]]:
        """The bytes of each file while it is open."""
        if not self._mapped:
            raise GgufError(self.path, "is closed")
        return self._mapped

    def tensor(self, name: str) -> TensorInfo:
        """Look a tensor up.

        Raises
        ------
        GgufError
            where there is none of this name.
        """
        if name not in self.tensors:
            raise GgufError(self.path, f"there is no tensor {shown(name)}")
        return self.tensors[name]

    def raw(self, name: str) -> NDArray[np.uint8]:
        """Return a tensor's bytes as they are in the file: uint8 `[n_bytes]`, mapped and read-only."""
        info = self.tensor(name)
        return self._bytes[self._file_of[name]][info.offset : info.offset + info.n_bytes]

    def readable(self, name: str) -> bool:
        """Return whether a tensor can be read as numbers."""
        return readable(self.tensor(name).type, self.header.order)

    def read(self, name: str) -> NDArray[np.float32]:
        """Read a tensor as float32 of its shape, `[out, in]` for a matrix.

        Raises
        ------
        GgufError
            where there is no such tensor, or its type cannot be read.
        MissingExtraError
            where its type needs the package gguf, which is missing.
        DomainError
            for a Q8_0 scale that is not finite, naming file, tensor, row and block.
        """
        info = self.tensor(name)
        values = np.empty(info.elements, np.float32)
        for first, part in self.parts(name):
            values[first : first + part.size] = part
        return values.reshape(info.shape)

    def parts(self, name: str, size: int = PART) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Read a tensor's elements in order, in parts.

        Parameters
        ----------
        name
            The tensor.
        size
            Elements of a part: a multiple of the type's block.

        Yields
        ------
        first, part
            How many elements came before, and float32 `[n]`, n <= size. What is yielded may be a view of the
            file, and is gone after the next step.

        Raises
        ------
        GgufError, MissingExtraError, DomainError
            as `read`.
        """
        info = self.tensor(name)
        if not self.readable(name):
            raise GgufError(
                self.path,
                f"tensor {shown(name)}: there is no way to read {info.type_name} of this file as numbers",
            )
        for first, raw in self.raw_parts(name, size):
            try:
                part = to_floats(raw, info.type, self.header.order)
            except DomainError as error:
                raise domain_error(error, self.path, info, first) from None
            yield first, part

    def raw_parts(self, name: str, size: int = PART) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield a tensor's bytes in parts of whole blocks, `size` elements each.

        Yields
        ------
        first, raw
            How many elements came before, and their bytes, a view of the file.
        """
        info, raw = self.tensor(name), self.raw(name)
        for first in range(0, info.elements, size):
            start = first // info.type.block * info.type.size
            stop = (first + size) // info.type.block * info.type.size
            yield first, raw[start:stop]
            self._release()

    def _release(self) -> None:
        """Return the pages that were read to the system; the next access to one of them reads it again."""
        for memory in self._memories:
            # The mapping is read-only: there is nothing in it to lose.
            memory.madvise(mmap.MADV_DONTNEED)

    def sha256(self) -> str:
        """Return the SHA-256 of the file, as hex digits; of several files, one after the other."""
        if self._sha256 is None:
            digest = hashlib.sha256()
            for mapped in self._bytes:
                for start in range(0, len(mapped), HASHED):
                    digest.update(mapped[start : start + HASHED].data)
                    self._release()
            self._sha256 = digest.hexdigest()
        return self._sha256


def domain_error(error: DomainError, path: Path, info: TensorInfo, first: int) -> DomainError:
    """Restate an error about a block in a part of a tensor with its place in the file.

    Parameters
    ----------
    error
        About the part, taken as one row of blocks.
    path, info
        The file and the tensor.
    first
        How many elements of the tensor came before the part.
    """
    blocks = (*info.shape[:-1], info.shape[-1] // QK8_A8)
    *row, block = np.unravel_index(first // QK8_A8 + error.block, blocks)
    return DomainError(
        error.reason,
        array=f"{path}: tensor {shown(info.name)}",
        row=tuple(int(i) for i in row),
        block=int(block),
        element=error.element,
        value=error.value,
    )


def open_model(path: str | os.PathLike[str], *, allow_id_39: bool = False) -> GgufModel:
    """Open a GGUF file, and check its header; of a model that is split, all of its files.

    Parameters
    ----------
    path
        The file; any part of a split model, beside which the others lie; or a folder in Hugging Face's
        layout, which is converted first (`q8a8.ggufio.hf`).
    allow_id_39
        Read tensor type 39 as Q8_A8: the file is of the design's own fork (Q8A8-TRT-2).

    Raises
    ------
    GgufError
        where a file cannot be opened, or its header is not right, naming the key or tensor; for parts that
        are missing or do not belong together.
    """
    path = Path(path)
    if path.is_dir():
        converted = temporary_gguf(path)
        try:
            mapped = _open_file(converted, allow_id_39=False)
        finally:
            # What is mapped stays until it is unmapped.
            converted.unlink()
        return GgufModel(path, [Mapped(path, mapped.memory, mapped.header)], mapped.header)
    first = _open_file(path, allow_id_39=allow_id_39)
    paths = part_paths(path, first.header.fields)
    if len(paths) == 1:
        return GgufModel(path, [first], first.header)
    files = [first if name.name == path.name else _open_file(name, allow_id_39=allow_id_39) for name in paths]
    return GgufModel(path, files, join_headers([(file.path, file.header) for file in files]))


def _open_file(path: Path, *, allow_id_39: bool) -> Mapped:
    """Map one file, and check its header."""
    try:
        with path.open("rb") as file:
            memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise GgufError(path, error.strerror) from error
    except ValueError as error:
        raise GgufError(path, "is empty") from error
    # The view is released on errors too, so that nothing keeps the mapping open.
    with memoryview(memory) as data:
        header = read_header(path, data, allow_id_39=allow_id_39)
    return Mapped(path, memory, header)
