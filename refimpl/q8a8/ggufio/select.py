"""The tensors of a model that become Q8_A8: the weights of its linear layers, unless globs say otherwise."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from q8a8.ggufio.errors import GgufError, shown
from q8a8.layout import QK8_A8

if TYPE_CHECKING:
    from collections.abc import Sequence

    from q8a8.ggufio.model import GgufModel

__all__ = ["Selection", "is_linear", "select"]

LINEAR = re.compile(r"blk\.\d+\.(attn_(q|k|v|output)|ffn_(gate|up|down))\.weight|output\.weight")


def is_linear(name: str) -> bool:
    """Return whether a tensor is the weight of a linear layer, by its name in GGUF.

    These are `blk.N.attn_{q,k,v,output}.weight`, `blk.N.ffn_{gate,up,down}.weight` and `output.weight`. An
    embedding is looked up, not multiplied, even where the output layer shares it.
    """
    return LINEAR.fullmatch(name) is not None


@dataclass(frozen=True)
class Selection:
    """The selection of a model's tensors.

    Parameters
    ----------
    quantized
        The names of those to quantize.
    notes
        Why a linear weight is kept although `keep` does not name it.
    """

    quantized: frozenset[str]
    notes: tuple[str, ...]


def select(model: GgufModel, only: Sequence[str], keep: Sequence[str]) -> Selection:
    """Choose the tensors to quantize.

    Parameters
    ----------
    model
        The file.
    only
        Globs: of the linear weights only these, all where there is no glob. A glob without `*`, `?` and `[`
        is a name, and an order: it is an error if that tensor cannot be quantized.
    keep
        Globs: not these.

    Raises
    ------
    GgufError
        for a glob that no linear weight matches, and a name in `only` that cannot be quantized.
    """
    linear = [name for name in model.tensors if is_linear(name)]
    for option, globs in (("only", only), ("keep", keep)):
        for glob in globs:
            if not any(fnmatchcase(name, glob) for name in linear):
                kind = "is no linear weight" if glob in model.tensors else "matches no linear weight"
                raise GgufError(model.path, f"--{option} {shown(glob)} {kind} of this file")
    quantized, notes = [], []
    for name in linear:
        if (only and not any(fnmatchcase(name, glob) for glob in only)) or any(
            fnmatchcase(name, glob) for glob in keep
        ):
            continue
        obstacle = _obstacle(model, name)
        if obstacle is None:
            quantized.append(name)
        elif name in only:
            raise GgufError(model.path, f"tensor {shown(name)} cannot be quantized: {obstacle}")
        else:
            notes.append(f"{name} is kept: {obstacle}")
    return Selection(frozenset(quantized), tuple(notes))


def _obstacle(model: GgufModel, name: str) -> str | None:
    """Return the reason that a tensor cannot be quantized, None where it can."""
    info = model.tensors[name]
    inner = info.shape[-1] if info.shape else 1
    if inner % QK8_A8:
        return f"its rows of {inner} elements are not a multiple of {QK8_A8}"
    if not model.readable(name):
        return f"its type {info.type_name} cannot be read as numbers"
    return None
