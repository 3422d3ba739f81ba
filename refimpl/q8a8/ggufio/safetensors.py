"""Tensors in safetensors files: the header checked before anything is taken from it.

::

    length u64 | header: JSON of so many bytes | data
    header     {"name": {"dtype": "BF16", "shape": [out, in], "data_offsets": [begin, end]}, ...}

(huggingface/safetensors, README, "Format".) The package safetensors reads BF16 into no NumPy type, so the
bytes are mapped here. A folder has one file, or several with an index of which tensor is in which.
"""

from __future__ import annotations

import json
import math
import mmap
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8.ggufio.errors import GgufError, shown
from q8a8.ggufio.tensor_types import BF16, F16, F32

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from q8a8.ggufio.tensor_types import TensorType

__all__ = ["StoredTensor", "read_folder", "read_json"]

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
DTYPES: Mapping[str, TensorType] = {"F32": F32, "F16": F16, "BF16": BF16}
LARGEST_HEADER = 100_000_000
"""The format's own limit."""


class StoredTensor:
    """A tensor in a mapped file.

    Parameters
    ----------
    shape
        Outermost axis first.
    kind
        F32, F16 or BF16.
    raw
        Its bytes, uint8, a view of the file.
    """

    def __init__(self, shape: tuple[int, ...], kind: TensorType, raw: NDArray[np.uint8]) -> None:
        self.shape, self.kind, self.raw = shape, kind, raw


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    GgufError
        where there is none.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise GgufError(path, error.strerror) from error
    except (ValueError, RecursionError) as error:
        raise GgufError(path, f"is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise GgufError(path, "expected a JSON object")
    return found


def read_folder(folder: Path) -> dict[str, StoredTensor]:
    """Map all tensors of a folder, by name.

    Raises
    ------
    GgufError
        naming the file: none is there, one is missing or broken, a tensor is in another file than the index
        says or of a type that is not read.
    """
    index = folder / INDEX
    if not index.exists():
        if not (folder / SINGLE).exists():
            raise GgufError(folder, f"has neither {SINGLE} nor {INDEX}: no other weights are read")
        return _read_file(folder / SINGLE)
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(place, str) for place in places.values()):
        raise GgufError(index, "weight_map: expected the names of files by those of tensors")
    tensors: dict[str, StoredTensor] = {}
    for name in sorted(set(places.values())):
        if "/" in name or "\\" in name:
            raise GgufError(index, f"weight_map: {shown(name)} is no file of this folder")
        there = _read_file(folder / name)
        wanted = [tensor for tensor, place in places.items() if place == name]
        for tensor in wanted:
            if tensor not in there:
                raise GgufError(folder / name, f"there is no tensor {shown(tensor)}, which {INDEX} puts here")
            tensors[tensor] = there[tensor]
    return tensors


def _read_file(path: Path) -> dict[str, StoredTensor]:
    """Map one file."""
    try:
        with path.open("rb") as file:
            data = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
    except OSError as error:
        raise GgufError(path, error.strerror) from error
    except ValueError as error:
        raise GgufError(path, "is empty") from error
    length = int.from_bytes(data[:8].tobytes(), "little")
    if len(data) < 8 or length > min(len(data) - 8, LARGEST_HEADER):
        raise GgufError(path, f"a header of {length} bytes does not lie in {len(data)} bytes")
    try:
        header = json.loads(data[8 : 8 + length].tobytes().decode("utf-8"))
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
    except (ValueError, RecursionError, AttributeError) as error:
        raise GgufError(path, f"its header is no JSON object: {error}") from error
    content = data[8 + length :]
    return {name: _tensor(path, name, entry, content) for name, entry in entries.items()}


def _tensor(path: Path, name: str, entry: object, content: NDArray[np.uint8]) -> StoredTensor:
    """Check one entry of a header."""
    what = f"tensor {shown(name)}"
    try:
        dtype, shape, (begin, end) = str(entry["dtype"]), entry["shape"], entry["data_offsets"]  # type: ignore[index]  # a wrong type is caught
        lengths = tuple(int(each) for each in shape)
        begin, end = int(begin), int(end)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise GgufError(path, f"{what}: its entry is not one of a tensor: {error}") from error
    if dtype not in DTYPES:
        raise GgufError(path, f"{what}: type {shown(dtype)} is not read; {', '.join(DTYPES)} are")
    if not lengths or min(lengths) < 1 or len(lengths) > 4:
        raise GgufError(path, f"{what}: shape {list(lengths)} is not read")
    if not 0 <= begin <= end <= len(content) or end - begin != math.prod(lengths) * DTYPES[dtype].size:
        raise GgufError(path, f"{what}: bytes {begin} to {end} are not those of shape {list(lengths)}")
    return StoredTensor(lengths, DTYPES[dtype], content[begin:end])
