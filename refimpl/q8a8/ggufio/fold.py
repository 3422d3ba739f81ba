"""Smoothing factors that go into a model's tensors as these stream by (`q8a8.methods.smoothing`).

Factors multiply the columns of some tensors and divide the rows, or entries, of others. Columns are the same
for every row, so a tensor can be folded some whole rows at a time, with the rows' own share of the factors::

    rows r .. r+n of W:    f32(W_ij · s_j)         all of s
                           f32(W_ij / t_i)         t_r .. t_(r+n)
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from q8a8.ggufio.errors import GgufError, shown
from q8a8.ggufio.model import PART
from q8a8.ggufio.writer import field
from q8a8.methods.smoothing import SmoothedGroup, Smoothing, SmoothingError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from q8a8.ggufio.header import Field
    from q8a8.ggufio.model import GgufModel

__all__ = ["SMOOTHING_KEY", "folded_parts", "part_size", "require_made_for", "smoothing_fields"]

SMOOTHING_KEY = "q8_a8.smoothing"
"""How a file's weights are smoothed: a file without this key has weights that are not (Q8A8-TRT-2)."""


def require_made_for(model: GgufModel, smooth: Smoothing) -> None:
    """Refuse factors of another model, factors without their tensor, and to fold a second time.

    Folded in part, or into something else, they would change what the model computes.

    Raises
    ------
    GgufError
        with both hashes, or naming the tensor.
    """
    if SMOOTHING_KEY in model.fields:
        raise GgufError(model.path, f"is smoothed already (key {SMOOTHING_KEY!r})")
    if smooth.model_sha256 != model.sha256():
        raise GgufError(
            model.path,
            f"the smoothing was made for another model: for the file of SHA-256 {smooth.model_sha256}, "
            f"and this one has {model.sha256()}",
        )
    for smoothed in smooth.groups:
        group = smoothed.group
        for axis, names in ((-1, group.multiplied), (0, group.divided)):
            for name in names:
                shape = model.tensors[name].shape if name in model.tensors else ()
                # The first of the divided tensors is the weight; the others are biases, which may be missing.
                if not shape and (axis or name == group.divided[0]):
                    raise GgufError(
                        model.path, f"there is no tensor {shown(name)}, but the smoothing has factors for it"
                    )
                if shape and (len(shape) > 2 or shape[axis] != len(smoothed.factors)):
                    raise GgufError(
                        model.path,
                        f"tensor {shown(name)}: shape {list(shape)} does not fit the {len(smoothed.factors)} "
                        f"factors of {group.name}",
                    )


def smoothing_fields(smooth: Smoothing, order: str) -> dict[str, Field]:
    """Build the metadata that describe the smoothing, with the hashes of factors and texts."""
    fields = {key: field(value, order) for key, value in smooth.metadata().items()}
    texts = [str(text) for text in smooth.provenance.get("texts", ())]
    return fields | ({f"{SMOOTHING_KEY}.texts_sha256": field(texts, order)} if texts else {})


def part_size(shape: tuple[int, ...]) -> int:
    """Return the elements of a part of whole rows, or of all of a tensor that has no rows."""
    return max(PART // shape[1], 1) * shape[1] if len(shape) == 2 and shape[1] else max(math.prod(shape), 1)


def folded_parts(model: GgufModel, name: str, smooth: Smoothing) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Read a tensor with the factors in it, in parts of `part_size`.

    Yields
    ------
    first, part
        How many elements came before, and float32 `[n]`.

    Raises
    ------
    SmoothingError
        for a result that is not finite, naming the place; rows count from that of the part.
    GgufError, MissingExtraError, DomainError
        as `GgufModel.read`.
    """
    shape = model.tensor(name).shape
    inner = shape[1:]
    for first, part in model.parts(name, part_size(shape)):
        start = first // math.prod(inner)
        rows = part.reshape(-1, *inner)
        share = [
            SmoothedGroup(each.group, each.factors[start : start + len(rows)], each.alpha)
            if name in each.group.divided
            else each
            for each in smooth.groups
        ]
        try:
            folded = Smoothing(tuple(share), smooth.provenance).fold_tensor(name, rows)
        except SmoothingError as error:
            raise SmoothingError(f"{model.path}: from row {start} on: {error}") from None
        yield first, folded.reshape(-1)
