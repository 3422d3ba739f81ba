"""What each tensor of a model becomes in another file, and the writing of that file, whole or in parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from q8a8.ggufio.errors import GgufError
from q8a8.ggufio.fold import folded_parts
from q8a8.ggufio.split import grouped, part_fields, part_targets
from q8a8.ggufio.tensor_types import Q8_0
from q8a8.ggufio.writer import require_distinct, writing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from q8a8.ggufio.header import Field, TensorInfo
    from q8a8.ggufio.model import GgufModel
    from q8a8.ggufio.tensor_types import TensorType
    from q8a8.methods.smoothing import Smoothing

    Progress: TypeAlias = Callable[[str, int, int], None]
    Convert: TypeAlias = Callable[["Plan", int, NDArray[np.float32]], NDArray[np.generic]]

__all__ = ["Plan", "Summary", "write_plans"]


@dataclass(frozen=True)
class Summary:
    """The result of a conversion.

    Parameters
    ----------
    target
        The file that was written; of several, the first part.
    converted, folded, kept
        Names of the tensors that were converted, of those that only had smoothing factors folded into them,
        and of those that kept their bytes.
    source_bytes, target_bytes
        Sizes of the two models, all parts together.
    notes
        Tensors that could not be quantized, or changed for another reason; a file that grew.
    reasons
        The matrices that were kept, by name: the reason, and their bytes in the target.
    bits
        Bits a weight in the source and in the target, over the data of all tensors.
    """

    target: Path
    converted: tuple[str, ...]
    folded: tuple[str, ...]
    kept: tuple[str, ...]
    source_bytes: int
    target_bytes: int
    notes: tuple[str, ...]
    reasons: Mapping[str, tuple[str, int]]
    bits: tuple[float, float]


@dataclass(frozen=True)
class Plan:
    """A tensor's conversion: its type in the target, whether values are converted, and what is folded."""

    info: TensorInfo
    kind: TensorType
    convert: bool
    fold: Smoothing | None = None

    @property
    def n_bytes(self) -> int:
        """The tensor's bytes in the target."""
        return self.info.elements // self.kind.block * self.kind.size


def write_plans(
    model: GgufModel,
    target: Path,
    fields: Mapping[str, Field],
    plans: Sequence[Plan],
    convert: Convert,
    notes: tuple[str, ...],
    progress: Progress | None,
    split: int | None = None,
) -> Summary:
    """Write the target, and return its summary.

    Parameters
    ----------
    model
        The source.
    target, fields, plans
        The file, its metadata, and its tensors in their order.
    convert
        Makes the bytes of a part of a tensor, given its plan and the number of elements before the part.
    notes
        For the summary.
    progress
        As `q8a8.ggufio.quantize_model`.
    split
        Bytes of tensors in a part, at most; None for one file. Where a part cannot be written, those before
        it are removed.

    Raises
    ------
    GgufError
        where a file cannot be written, or is the source.
    """
    if split is not None and split < 1:
        raise GgufError(target, f"expected parts of at least one byte, got {split}")
    groups = [list(plans)] if split is None else grouped(plans, [plan.n_bytes for plan in plans], split)
    targets = [target] if split is None else part_targets(target, len(groups))
    for path in targets:
        require_distinct(model.paths, path)
    report = _Report(progress, sum(plan.info.elements for plan in plans))
    written: list[Path] = []
    try:
        for number, (path, group) in enumerate(zip(targets, groups, strict=True)):
            own = dict(fields)
            if split is not None:
                own = part_fields(fields, number, len(groups), len(plans), model.header.order)
            _write_file(model, path, own, group, convert, report)
            written.append(path)
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise
    only_folded = {plan.info.name for plan in plans if plan.fold is not None and plan.kind != Q8_0}
    return Summary(
        target=targets[0],
        converted=tuple(p.info.name for p in plans if p.convert and p.info.name not in only_folded),
        folded=tuple(p.info.name for p in plans if p.info.name in only_folded),
        kept=tuple(p.info.name for p in plans if not p.convert),
        source_bytes=model.size,
        target_bytes=sum(path.stat().st_size for path in targets),
        notes=notes,
        reasons={},
        bits=(
            8 * sum(plan.info.n_bytes for plan in plans) / max(report.total, 1),
            8 * sum(plan.n_bytes for plan in plans) / max(report.total, 1),
        ),
    )


@dataclass
class _Report:
    """How many elements are done."""

    progress: Progress | None
    total: int
    done: int = 0

    def say(self, name: str, more: int) -> None:
        """Say that so many elements of a tensor are done."""
        if self.progress is not None:
            self.progress(name, self.done + more, self.total)


def _write_file(
    model: GgufModel,
    path: Path,
    fields: Mapping[str, Field],
    plans: Sequence[Plan],
    convert: Convert,
    report: _Report,
) -> None:
    """Write one file with these tensors."""
    tensors = {plan.info.name: (plan.info.shape, plan.kind) for plan in plans}
    with writing(path, model.header, fields, tensors) as writer:
        for plan in plans:
            for first, part in _parts(model, plan, convert):
                report.say(plan.info.name, first)
                writer.write(part)
            writer.end()
            report.done += plan.info.elements
            report.say(plan.info.name, 0)


def _parts(model: GgufModel, plan: Plan, convert: Convert) -> Iterator[tuple[int, NDArray[np.generic]]]:
    """Yield the bytes of a tensor in the target, in parts, each with the number of elements before it."""
    name = plan.info.name
    if not plan.convert:
        yield from model.raw_parts(name)
    else:
        floats = model.parts(name) if plan.fold is None else folded_parts(model, name, plan.fold)
        yield from ((first, convert(plan, first, part)) for first, part in floats)
