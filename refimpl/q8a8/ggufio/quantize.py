"""A model to Q8_A8, and back to floats: one GGUF file to another, tensor by tensor (Q8A8-TRT-2).

::

    factors of products  any type -> float32 -> (folded) -> recipe -> type 8 (Q8_0)
    folded, but kept     any type -> float32 -> folded             -> F32
    everything else      the bytes that it has; type 39 of the design's fork becomes 8, whose bytes it has

A tensor that is Q8_0 already goes the same way: where h > 0 and a block's largest |q| is 127, as every
quantizer leaves it, amax = 127·h, d = h exactly, and f32(h·q_j·f32(1/h)) lies within 127·2^-22 of q_j, so
that the block comes back as it was.

Nothing is held whole: tensors go through in parts of `model.PART` elements.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from q8a8.errors import DomainError, UnknownNameError
from q8a8.ggufio.errors import GgufError
from q8a8.ggufio.floats import is_q8_a8, stored_blocks
from q8a8.ggufio.fold import require_made_for, smoothing_fields
from q8a8.ggufio.model import domain_error, open_model
from q8a8.ggufio.plan import Plan, Summary, write_plans
from q8a8.ggufio.select import select
from q8a8.ggufio.tensor_types import DESIGN_Q8_A8, F16, F32, Q8_0
from q8a8.ggufio.writer import field, require_distinct
from q8a8.layout import QK8_A8
from q8a8.quantize import quantize_row
from q8a8.recipe import get_recipe
from q8a8.rounding import f32_to_f16
from q8a8.traits import GGUF

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from q8a8.ggufio.header import Field, TensorInfo
    from q8a8.ggufio.model import GgufModel
    from q8a8.ggufio.plan import Progress
    from q8a8.ggufio.select import Selection
    from q8a8.ggufio.tensor_types import TensorType
    from q8a8.methods.smoothing import Smoothing
    from q8a8.recipe import Recipe

__all__ = ["Summary", "dequantize_model", "quantize_model"]

QUANTIZATION_VERSION = 2
"""GGML_QNT_VERSION: the meaning of the quantized types since 2023."""

FILE_TYPE = "general.file_type"
VERSION_KEY = "general.quantization_version"
FILE_TYPES: Mapping[str, int] = {"F32": 0, "F16": 1, "BF16": 32}
"""LLAMA_FTYPE_ALL_F32, LLAMA_FTYPE_MOSTLY_F16 and LLAMA_FTYPE_MOSTLY_BF16."""

KINDS = {"f32": F32, "f16": F16}


def quantize_model(  # noqa: PLR0913 - options of a command, each by its name
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    smooth: Smoothing | None = None,
    only: Sequence[str] = (),
    keep: Sequence[str] = (),
    embedding: bool = False,
    output: bool = False,
    recipe: str = "design",
    split: int | None = None,
    allow_id_39: bool = False,
    progress: Progress | None = None,
) -> Summary:
    """Quantize the linear weights of a model.

    Parameters
    ----------
    source, target
        Two GGUF files. The source is never changed; the target appears when it is complete.
    smooth
        Factors to fold into the weights first (SmoothQuant), made for this very source.
    only, keep
        Globs of tensor names: quantize only these; keep these (`select.select`).
    embedding, output
        Quantize the tables that are looked up as well; and the output layer's matrix, shared or not.
    recipe
        The arithmetic.
    split
        Bytes of tensors in a file, at most: the target becomes the parts of a split model, as
        `q8a8.ggufio.split` names them. By default it is one file.
    allow_id_39
        The source is of the design's own fork, where tensor type 39 is Q8_A8.
    progress
        Called with a tensor's name, how many elements of the file are done, and how many there are: before
        each part, and when the tensor is done.

    Raises
    ------
    GgufError
        where a file cannot be read, used or written, naming the tensor or key.
    SmoothingError
        where factors do not fit a tensor.
    DomainError
        for a value that the recipe does not take, naming file, tensor, row, block and element.
    MissingExtraError
        where a tensor's type needs the package gguf, which is missing.
    UnknownNameError
        for an unknown recipe.
    """
    source, target, arithmetic = Path(source), Path(target), get_recipe(recipe)
    with open_model(source, allow_id_39=allow_id_39) as model:
        require_distinct(model.paths, target)
        _require_usable(model)
        if smooth is not None:
            require_made_for(model, smooth)
        selection = select(model, only, keep, embedding=embedding, output=output)
        if not selection.quantized:
            raise GgufError(source, "; ".join(("nothing to quantize", *selection.notes)))
        plans, notes = _quantized_plans(model, selection, smooth)
        fields = _quantized_fields(model, plans, arithmetic, smooth)
        convert = partial(_quantized_part, model, arithmetic)
        summary = write_plans(model, target, fields, plans, convert, notes, progress, split)
    sizes = {plan.info.name: plan.n_bytes for plan in plans}
    reasons = {name: (reason, sizes[name]) for name, reason in selection.kept.items()}
    return replace(
        summary, reasons=reasons, notes=(*notes, *_without_tokenizer(source), *_growth(plans, summary))
    )


def _without_tokenizer(source: Path) -> tuple[str, ...]:
    """Note a folder without a tokenizer that is read: no program can give its file a text."""
    if not source.is_dir() or (source / "tokenizer.json").exists():
        return ()
    return (f"{source} has no tokenizer.json: the file has no tokenizer",)


def dequantize_model(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    kind: Literal["f32", "f16"] = "f32",
    allow_id_39: bool = False,
    progress: Progress | None = None,
) -> Summary:
    """Turn every tensor of a quantized type into floats; the others keep their bytes.

    Parameters
    ----------
    source, target, allow_id_39, progress
        As for `quantize_model`.
    kind
        The floats to write. float16 rounds to nearest, ties to even.

    Raises
    ------
    GgufError, MissingExtraError
        as `quantize_model`.
    DomainError
        for a scale that is not finite, or a value that float16 does not reach.
    UnknownNameError
        for another kind.
    """
    source, target = Path(source), Path(target)
    if kind not in KINDS:
        raise UnknownNameError("type of floats", kind, KINDS)
    floats = KINDS[kind]
    with open_model(source, allow_id_39=allow_id_39) as model:
        require_distinct(model.paths, target)
        _require_usable(model)
        plans = [
            Plan(info, floats if info.type.is_block else info.type, convert=info.type.is_block)
            for info in model.tensors.values()
        ]
        if not any(plan.convert for plan in plans):
            raise GgufError(source, "nothing to dequantize: no tensor is of a quantized type")
        fields = _float_fields(model, plans, floats)
        return write_plans(model, target, fields, plans, partial(_float_part, model, floats), (), progress)


def _growth(plans: Sequence[Plan], summary: Summary) -> tuple[str, ...]:
    """Return a note where the file grew because its weights had fewer bits already."""
    types = Counter(
        plan.info.type_name
        for plan in plans
        if plan.info.type.is_block and plan.convert and plan.n_bytes > plan.info.n_bytes
    )
    if summary.target_bytes <= summary.source_bytes or not types:
        return ()
    most, count = types.most_common(1)[0]
    already = f"the source is quantized already ({count} tensors are {most})"
    return (f"{already}: the file grows, and what was lost before does not come back",)


def _require_usable(model: GgufModel) -> None:
    """Refuse a file whose quantized types are of another time.

    The version is of any integer type, as llama.cpp takes it; a file of plain floats has no blocks that
    another version could mean otherwise.
    """
    entry = model.fields.get(VERSION_KEY)
    if entry is None or not any(info.type.is_block for info in model.tensors.values()):
        return
    if type(entry.value) is not int or entry.value != QUANTIZATION_VERSION:
        raise GgufError(
            model.path,
            f"key {VERSION_KEY!r}: only version {QUANTIZATION_VERSION} of the quantized types is read",
        )


def _quantized_plans(
    model: GgufModel, selection: Selection, smooth: Smoothing | None
) -> tuple[list[Plan], tuple[str, ...]]:
    """Decide what each tensor becomes when the selected ones are quantized; with notes for the caller."""
    plans, notes = [], list(selection.notes)
    for info in model.tensors.values():
        fold = smooth if smooth is not None and smooth.folds(info.name) else None
        if info.name in selection.quantized:
            plans.append(Plan(info, Q8_0, convert=True, fold=fold))
        elif fold is not None:
            plans.append(Plan(info, F32, convert=True, fold=fold))
            if info.type != F32:
                notes.append(f"{info.name} is folded but not quantized: F32 instead of {info.type_name}")
        else:
            plans.append(Plan(info, Q8_0 if is_q8_a8(info.type) else info.type, convert=False))
    return plans, tuple(notes)


def _quantized_fields(
    model: GgufModel, plans: Sequence[Plan], recipe: Recipe, smooth: Smoothing | None
) -> dict[str, Field]:
    """Build the metadata of a quantized target: all of the source's, and how its tensors were made."""
    order = model.header.order
    fields = dict(model.fields)
    fields[VERSION_KEY] = field(QUANTIZATION_VERSION, order)
    # The file type is that of most elements, as llama.cpp counts them: without vectors.
    weights = [plan for plan in plans if len(plan.info.shape) > 1]
    blocks = sum(plan.info.elements for plan in weights if plan.kind == Q8_0)
    if 2 * blocks > sum(plan.info.elements for plan in weights):
        fields[FILE_TYPE] = field(GGUF.file_type, order)
    elif any(plan.info.type == DESIGN_Q8_A8 for plan in plans):
        # The fork's file type is 38, which would be read as MXFP4_MOE.
        fields.pop(FILE_TYPE, None)
    fields["q8_a8.version"] = field(1, order)
    fields["q8_a8.recipe"] = field(recipe.name, order)
    fields["q8_a8.source_sha256"] = field(model.sha256(), order)
    if smooth is not None:
        fields |= smoothing_fields(smooth, order)
    return fields


def _float_fields(model: GgufModel, plans: Sequence[Plan], floats: TensorType) -> dict[str, Field]:
    """Build the metadata of a target whose blocks became floats."""
    # How the values were smoothed stays on record; that they are blocks does not.
    gone = ("q8_a8.version", "q8_a8.recipe")
    fields = {key: value for key, value in model.fields.items() if key not in gone}
    # The type of most elements: tensors that were floats before may outweigh the others.
    elements = Counter[str]()
    for plan in plans:
        elements[plan.kind.name] += plan.info.elements
    most = elements.most_common(1)[0][0]
    fields[FILE_TYPE] = field(FILE_TYPES.get(most, FILE_TYPES[floats.name]), model.header.order)
    return fields


def _quantized_part(
    model: GgufModel, recipe: Recipe, plan: Plan, first: int, part: NDArray[np.float32]
) -> NDArray[np.generic]:
    """Convert a part of a tensor to blocks, or to float32 where it is only folded."""
    if plan.kind != Q8_0:
        return part.astype(f"{model.header.order}f4", copy=False)
    try:
        return stored_blocks(quantize_row(part, recipe), model.header.order)
    except DomainError as error:
        raise domain_error(error, model.path, plan.info, first) from None


def _float_part(
    model: GgufModel, floats: TensorType, plan: Plan, first: int, part: NDArray[np.float32]
) -> NDArray[np.generic]:
    """Convert a part of a tensor to the floats of the target."""
    if floats == F32:
        return part.astype(f"{model.header.order}f4", copy=False)
    _require_half(model, plan.info, first, part)
    return f32_to_f16(part).astype(f"{model.header.order}f2", copy=False)


def _require_half(model: GgufModel, info: TensorInfo, first: int, part: NDArray[np.float32]) -> None:
    """Refuse a value that float16 would turn into an infinity."""
    beyond = ~(np.abs(part) < 65520)
    if beyond.any():
        at = int(beyond.argmax())
        error = DomainError(
            "float16 ends below 65520",
            array="",
            row=(),
            block=at // QK8_A8,
            element=at % QK8_A8,
            value=float(part[at]),
        )
        raise domain_error(error, model.path, info, first)
