"""Models that are split over several files, as llama.cpp's gguf-split writes them.

::

    NAME-00001-of-00003.gguf     split.no = 0    split.count = 3    all metadata, the first tensors
    NAME-00002-of-00003.gguf     split.no = 1    split.count = 3    more tensors
    NAME-00003-of-00003.gguf     split.no = 2    split.count = 3    the last ones

`split.tensors.count` is the number of tensors of them all. llama.cpp (llama-model-loader.cpp) wants the first
part's name; here any part's will do. One part alone is not a model: most of its weights would be missing.

Parts are written the same way (`grouped`, `part_fields`, `part_targets`): a tensor is never cut, and a part
is closed before the tensor that would make it larger than asked for.
"""

from __future__ import annotations

import re
import struct
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from q8a8.ggufio.errors import GgufError, shown
from q8a8.ggufio.header import Field
from q8a8.ggufio.tensor_types import INT32, UINT16

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from q8a8.ggufio.header import Header, TensorInfo

__all__ = ["grouped", "join_headers", "part_fields", "part_paths", "part_targets"]

T = TypeVar("T")

NUMBER, COUNT, TENSORS = "split.no", "split.count", "split.tensors.count"
NAME = re.compile(r"(.*-)(\d{5})-of-(\d{5})\.gguf", re.IGNORECASE | re.DOTALL)
SHOWN = 8
"""Parts that a message names."""


def part_paths(path: Path, fields: Mapping[str, Field]) -> list[Path]:
    """Return the files of the model that a file belongs to: the file alone where the model is whole.

    Parameters
    ----------
    path
        The file.
    fields
        Its metadata.

    Raises
    ------
    GgufError
        for a part whose name does not say which one it is, and parts that are missing, naming them.
    """
    match = NAME.fullmatch(path.name)
    count = _integer(fields, COUNT)
    if count is None:
        # llama.cpp goes by the key alone; a name that says so may not be read as a whole model either.
        count = int(match[3]) if match else 1
    if count <= 1:
        return [path]
    if match is None or int(match[3]) != count:
        raise GgufError(
            path,
            f"is one of {count} parts of a split model, and its name does not end in -NNNNN-of-{count:05}"
            ".gguf: the others cannot be found",
        )
    # Nothing grows with a count that is only claimed.
    shown_names = [_name(match[1], part, count) for part in range(1, min(count, SHOWN) + 1)]
    missing = []
    for part in range(1, count + 1):
        if not path.with_name(_name(match[1], part, count)).exists():
            missing.append(_name(match[1], part, count))
        if len(missing) == SHOWN:
            break
    if missing:
        more = ", ..." if count > SHOWN else ""
        raise GgufError(
            path,
            f"is one of {count} parts of a split model ({', '.join(shown_names)}{more}); "
            f"missing beside it: {', '.join(missing)}{', ...' if len(missing) == SHOWN else ''}",
        )
    return [path.with_name(_name(match[1], part, count)) for part in range(1, count + 1)]


def _name(prefix: str, part: int, count: int) -> str:
    """Return the name of a part, counted from 1."""
    return f"{prefix}{part:05}-of-{count:05}.gguf"


def _integer(fields: Mapping[str, Field], key: str) -> int | None:
    """Return an integer of the metadata, None where there is none."""
    value = fields[key].value if key in fields else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def join_headers(parts: Sequence[tuple[Path, Header]]) -> Header:
    """Join the headers of all parts: the first one's metadata without the keys of the split, all tensors.

    Parameters
    ----------
    parts
        Path and header of each part, in their order. Offsets stay those in each file.

    Raises
    ------
    GgufError
        for a part of another model: another number or count, another byte order, a tensor that is in two
        parts, or another number of tensors than the first part says.
    """
    first_path, first = parts[0]
    tensors: dict[str, TensorInfo] = {}
    for number, (path, header) in enumerate(parts):
        no, count = _integer(header.fields, NUMBER), _integer(header.fields, COUNT)
        if (no, count) != (number, len(parts)):
            raise GgufError(
                path,
                f"expected {NUMBER} {number} and {COUNT} {len(parts)} by its name, got {no} and {count}",
            )
        if header.order != first.order:
            raise GgufError(path, f"has another byte order than {first_path.name}")
        for name, info in header.tensors.items():
            if name in tensors:
                raise GgufError(path, f"tensor {shown(name)} is in two parts of the model")
            tensors[name] = info
    wanted = _integer(first.fields, TENSORS)
    if wanted is not None and wanted != len(tensors):
        raise GgufError(first_path, f"{TENSORS} is {wanted}, and the parts have {len(tensors)} tensors")
    fields = {key: value for key, value in first.fields.items() if key not in (NUMBER, COUNT, TENSORS)}
    return replace(first, fields=fields, tensors=tensors)


def grouped(items: Sequence[T], sizes: Sequence[int], most: int) -> list[list[T]]:
    """Divide items, in their order, into groups of at most so many bytes; a larger one is a group alone.

    Parameters
    ----------
    items, sizes
        The items, and the bytes of each.
    most
        Bytes of a group.
    """
    groups: list[list[T]] = []
    room = 0
    for item, size in zip(items, sizes, strict=True):
        if not groups or size > room:
            groups.append([])
            room = most
        groups[-1].append(item)
        room -= size
    return groups


def part_targets(target: Path, count: int) -> list[Path]:
    """Return the names of the parts of a model that would have this name as one file.

    Raises
    ------
    GgufError
        for more parts than a name counts.
    """
    if count > 0xFFFF:
        raise GgufError(target, f"{count} parts are more than {0xFFFF}")
    match = NAME.fullmatch(target.name)
    prefix = match[1] if match else f"{target.name.removesuffix('.gguf')}-"
    return [target.with_name(_name(prefix, part, count)) for part in range(1, count + 1)]


def part_fields(
    fields: Mapping[str, Field], number: int, count: int, tensors: int, order: str
) -> dict[str, Field]:
    """Return the metadata of a part: all of the model's in the first one; the keys of the split in each.

    Parameters
    ----------
    fields
        The model's.
    number, count, tensors
        Which part, from 0; how many there are; the tensors of all of them.
    order
        The byte order.
    """
    keys = {
        NUMBER: Field(UINT16, number, struct.pack(f"{order}H", number)),
        COUNT: Field(UINT16, count, struct.pack(f"{order}H", count)),
        TENSORS: Field(INT32, tensors, struct.pack(f"{order}i", tensors)),
    }
    return keys if number else {**fields, **keys}
