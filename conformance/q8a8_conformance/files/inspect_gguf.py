"""Contents of a GGUF file, and the deviation of its tensors from those of the file that it was made from.

Names and strings of a file are printed as Python writes them where anything in them is not plain text: what
is in a file does not reach the terminal as a command.
"""

from __future__ import annotations

import math
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from q8a8.ggufio import open_model
from q8a8.ggufio.fold import SMOOTHING_KEY, folded_parts, part_size, require_made_for
from q8a8.ggufio.model import PART
from q8a8.ggufio.tensor_types import ARRAY, FLOAT32, STRING, VALUE_NAMES
from q8a8_conformance.files.inspect_blocks import Deviation

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from q8a8.ggufio import Field, GgufModel, TensorInfo
    from q8a8.methods.smoothing import Smoothing

__all__ = ["GgufReport", "TensorReport", "inspect_gguf", "plain"]

FORMAT = 1
"""Of the JSON document: keys may come, none goes."""

SHORT = 60
"""Characters of a metadata value on the terminal, and entries of an array in JSON."""

ORDERS = {"<": "little-endian", ">": "big-endian"}
SOURCE = "q8_a8.source_sha256"


def plain(text: str) -> str:
    """Return text unchanged if it can be printed, and otherwise its Python representation."""
    return text if text.isprintable() else repr(text)


@dataclass(frozen=True)
class TensorReport:
    """A tensor, and its error where it could be compared.

    Parameters
    ----------
    info
        Name, shape, type, place and size.
    deviation
        Its error, None where it could not be compared.
    remark
        Why not, "" where nobody asked.
    """

    info: TensorInfo
    deviation: Deviation | None = None
    remark: str = ""

    @property
    def bits(self) -> float:
        """Bits an element, 0 for a tensor without elements."""
        return 8 * self.info.n_bytes / self.info.elements if self.info.elements else 0.0

    def as_json(self) -> dict[str, object]:
        """Return the facts for a JSON document."""
        facts: dict[str, object] = {
            "name": self.info.name,
            "type": self.info.type_name,
            "type_id": self.info.type_id,
            "shape": list(self.info.shape),
            "offset": self.info.offset,
            "bytes": self.info.n_bytes,
            "bits_a_weight": self.bits,
        }
        if self.deviation is not None:
            facts["error"] = self.deviation.as_json()
        if self.remark:
            facts["remark"] = self.remark
        return facts


@dataclass(frozen=True)
class GgufReport:
    """The report of `inspect` on a GGUF file; `lines` prints it, `as_json` is for programs.

    Parameters
    ----------
    path, size
        The file and its bytes.
    version, order, alignment
        Of the file format, as its header says.
    fields
        The metadata.
    tensors
        The tensors, in the file's order.
    against
        The file that they were compared with.
    warnings
        What makes the comparison doubtful.
    """

    path: Path
    size: int
    version: int
    order: str
    alignment: int
    fields: dict[str, Field]
    tensors: list[TensorReport] = field(default_factory=list)
    against: Path | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def types(self) -> dict[str, tuple[int, int, int]]:
        """By type, the number of tensors, elements and bytes; those with the most bytes first."""
        count, elements, stored = Counter[str](), Counter[str](), Counter[str]()
        for tensor in self.tensors:
            name = tensor.info.type_name
            count[name] += 1
            elements[name] += tensor.info.elements
            stored[name] += tensor.info.n_bytes
        return {name: (count[name], elements[name], stored[name]) for name, _ in stored.most_common()}

    def lines(self) -> Iterator[str]:
        """Yield what to print."""
        yield f"file            {self.path}"
        yield f"bytes           {self.size}"
        yield f"format          GGUF version {self.version}, {ORDERS[self.order]}, alignment {self.alignment}"
        yield f"metadata        {len(self.fields)} fields"
        width = max((len(plain(key)) for key in self.fields), default=0)
        for key, entry in self.fields.items():
            yield f"  {plain(key):<{width}}  {_type_name(entry):<16}  {_value_text(entry)}"
        yield f"tensors         {len(self.tensors)}"
        yield from self._table()
        yield "types"
        elements = sum(tensor.info.elements for tensor in self.tensors)
        stored = sum(tensor.info.n_bytes for tensor in self.tensors)
        rows = [*self.types.items(), ("all", (len(self.tensors), elements, stored))]
        for name, (count, weights, size) in rows:
            noun = "tensor" if count == 1 else "tensors"
            bits = f"{8 * size / weights:g} bits a weight" if weights else ""
            yield f"  {name:<8} {count:>5} {noun:<7} {weights:>14} weights {size:>14} bytes  {bits}".rstrip()
        if stored:
            yield f"against float16 {2 * elements / stored:.3f} times smaller"
        yield from (f"warning         {warning}" for warning in self.warnings)

    def _table(self) -> Iterator[str]:
        """Yield a line a tensor."""
        names = [plain(tensor.info.name) for tensor in self.tensors]
        shapes = [" x ".join(str(n) for n in tensor.info.shape) for tensor in self.tensors]
        name_width = max((len(name) for name in names), default=0)
        shape_width = max((len(shape) for shape in shapes), default=0)
        for name, shape, tensor in zip(names, shapes, self.tensors, strict=True):
            line = (
                f"  {name:<{name_width}}  {tensor.info.type_name:<7}  {shape:>{shape_width}}"
                f"  {tensor.info.n_bytes:>12} bytes  {tensor.bits:>8.4g} bits"
            )
            if tensor.deviation is not None:
                line += f"  {_deviation_text(tensor.deviation)}"
            yield f"{line}  ({tensor.remark})" if tensor.remark else line

    def as_json(self) -> dict[str, object]:
        """Return the JSON document."""
        return {
            "format": FORMAT,
            "file": str(self.path),
            "bytes": self.size,
            "gguf_version": self.version,
            "byte_order": ORDERS[self.order],
            "alignment": self.alignment,
            "metadata": {key: _value_json(entry) for key, entry in self.fields.items()},
            "tensors": [tensor.as_json() for tensor in self.tensors],
            "types": {
                name: {"tensors": count, "elements": elements, "bytes": size}
                for name, (count, elements, size) in self.types.items()
            },
            "against": None if self.against is None else str(self.against),
            "warnings": self.warnings,
        }


def _deviation_text(deviation: Deviation) -> str:
    """Return a tensor's error for the terminal."""
    text = "no error"
    if deviation.largest_error:
        text = (
            f"largest {deviation.largest_error:<10.4g} RMS {deviation.rms:<10.4g} SNR {deviation.snr:.2f} dB"
        )
    left_out = deviation.elements - deviation.compared
    return f"{text}, {left_out} elements whose error is not finite" if left_out else text


def _array(entry: Field) -> list[Any] | NDArray[Any]:
    """Return the value of a field that is an array."""
    return cast("list[Any] | NDArray[Any]", entry.value)


def _first(array: list[Any] | NDArray[Any], count: int) -> list[Any]:
    """Return the first entries of an array, as Python objects."""
    return array[:count].tolist() if isinstance(array, np.ndarray) else array[:count]


def _type_name(entry: Field) -> str:
    """Name the type of a metadata value."""
    if entry.type_id != ARRAY:
        return VALUE_NAMES[entry.type_id]
    # The elements' type is a uint32 below 13: in either byte order one of its bytes is the number.
    return f"{VALUE_NAMES[max(entry.raw[:4])]}[{len(_array(entry))}]"


def _value_text(entry: Field) -> str:
    """Return a metadata value for the terminal, cut where it is long."""
    if entry.type_id == ARRAY:
        text = ", ".join(repr(each) for each in _first(_array(entry), SHORT))
    elif entry.type_id == STRING:
        text = plain(str(entry.value)[: SHORT + 1])
    else:
        # As many digits as a float32 has, not as many as a Python float.
        text = str(np.float32(cast("float", entry.value)) if entry.type_id == FLOAT32 else entry.value)
    return text if len(text) <= SHORT else f"{text[: SHORT - 3]}..."


def _value_json(entry: Field) -> dict[str, object]:
    """Return a metadata value for JSON; of a long array its first entries and its length."""
    if entry.type_id != ARRAY:
        return {"type": _type_name(entry), "value": _for_json(entry.value)}
    array = _array(entry)
    facts = {"type": _type_name(entry), "length": len(array)}
    return facts | {"value" if len(array) <= SHORT else "first": _for_json(array)}


def _for_json(value: object) -> object:
    """Return a value as JSON data: NaN and infinities as text, the first entries of arrays as lists."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, list | np.ndarray):
        return [_for_json(each) for each in _first(value, SHORT)]
    return value


def inspect_gguf(
    path: Path,
    *,
    against: Path | None = None,
    smooth: Smoothing | None = None,
    allow_id_39: bool = False,
) -> GgufReport:
    """Look through a GGUF file, and compare its tensors with those of the file that it was made from.

    Parameters
    ----------
    path
        The file.
    against
        The file that it was made from.
    smooth
        The factors that were folded in on the way, so that the error is that of the quantization alone.
    allow_id_39
        Either file may be of the design's own fork.

    Raises
    ------
    GgufError
        where a file cannot be read, naming the key or tensor.
    MissingExtraError
        where a tensor's type needs the package gguf, which is missing.
    DomainError
        for a block whose scale is not finite, where tensors are compared.
    """
    with ExitStack() as stack:
        model = stack.enter_context(open_model(path, allow_id_39=allow_id_39))
        header = model.header
        report = GgufReport(
            path,
            model.size,
            header.version,
            header.order,
            header.alignment,
            dict(header.fields),
            against=against,
        )
        if against is None:
            report.tensors.extend(TensorReport(info) for info in model.tensors.values())
            return report
        source = stack.enter_context(open_model(against, allow_id_39=allow_id_39))
        if smooth is not None:
            require_made_for(source, smooth)
        report.warnings.extend(_warnings(model, source, smooth))
        report.tensors.extend(_compared(model, info, source, smooth) for info in model.tensors.values())
        report.warnings.extend(
            f"tensor {plain(name)} of {against} is not in this file"
            for name in source.tensors
            if name not in model.tensors
        )
    return report


def _warnings(model: GgufModel, source: GgufModel, smooth: Smoothing | None) -> Iterator[str]:
    """Return what makes a comparison doubtful, a line each."""
    made_from = str(model.metadata.get(SOURCE, source.sha256()))
    if made_from != source.sha256():
        yield f"made from another file than {source.path}: SHA-256 {plain(made_from[:80])} ({SOURCE})"
    if SMOOTHING_KEY in model.fields and SMOOTHING_KEY not in source.fields and smooth is None:
        yield "smoothed, and the source is not: the errors are mostly those of the factors (--smooth FILE)"


def _compared(
    model: GgufModel, info: TensorInfo, source: GgufModel, smooth: Smoothing | None
) -> TensorReport:
    """Compare a tensor with that of the same name in the source."""
    name = info.name
    origin = source.tensors.get(name)
    if origin is None:
        return TensorReport(info, remark="not in the source")
    if origin.shape != info.shape:
        return TensorReport(info, remark=f"shape {list(origin.shape)} in the source")
    for each, kind in ((model, info.type_name), (source, origin.type_name)):
        if not each.readable(name):
            return TensorReport(info, remark=f"{kind} cannot be read as numbers")
    deviation = Deviation(shape=info.shape)
    if smooth is not None and smooth.folds(name):
        size, floats = part_size(info.shape), folded_parts(source, name, smooth)
    else:
        size, floats = PART, source.parts(name, PART)
    for (first, part), (_, origin_part) in zip(model.parts(name, size), floats, strict=True):
        deviation.compare(part, origin_part, first)
    return TensorReport(info, deviation)
