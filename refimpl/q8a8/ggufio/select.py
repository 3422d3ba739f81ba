"""The tensors of a model that become Q8_A8: every factor of a matrix product, unless options say otherwise.

llama.cpp decides by exclusion (`tensor_allows_quantization` in llama-quant.cpp): every matrix whose name ends
in `weight` but for a list of exceptions. So does this rule, and new architectures need no change::

    not NAME.weight, or a vector       kept
    an exception of the table below    kept, with its reason
    a table that is looked up          kept, unless the caller asks for it
    the rest                           linear: quantized

It keeps more than llama.cpp in two points: tables that are looked up and never multiplied are not quantized
unasked, and convolutions, routers and learned inputs are kept whatever their name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from q8a8.ggufio.errors import GgufError, shown
from q8a8.layout import QK8_A8

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from q8a8.ggufio.header import TensorInfo
    from q8a8.ggufio.model import GgufModel

__all__ = ["Selection", "is_linear", "reason_to_keep", "select"]

SUFFIX = ".weight"
EMBEDDING, OUTPUT = "token_embd.weight", "output.weight"

TABLES = re.compile(r"(per_layer_)?token_embd|(.*\.)?nextn\.embed_tokens|mm\.(a\.)?embedding")
"""Tables of vectors, one of which is looked up for a token."""

LOOKED_UP = "looked up, not multiplied (--embedding quantizes it)"
LOOKED_UP_AND_OUTPUT = "looked up, and the output layer too (--embedding or --output quantizes it)"

_NORMS = r"norm\w*$|(^|[._])ln(\d|_\w+)?$|\.bn$"
_ROUTERS = r"(ffn_gate_inp\w*|ffn_gate_tid2eid|altup_router)$"
_POSITIONS = (
    r"(position_embd|token_types|attn_rel_b|pos_embd\w*|\.rel_pos\w*|attn_rel_pos_emb|\.pos_[hw]"
    r"|attn_rot_embd|rope_\w+)$"
)
_CONVOLUTIONS = (
    r"(^|[._])(ssm_conv1d\w*|conv\d?d?|conv_dw|dw|patch_embd)$|conv[12]d\.\d+$"
    r"|\.(peg|neck)\.\d+$|\.net_\d$"
)
_SMALL = (
    r"altup|laurel|per_layer_model_proj|patch_merger"
    r"|time_mix_(first|[wva][012]|g[12]|decay_w[12]|lerp_\w+)$"
)
_INPUTS = (
    r"(class_embd|image_newline|view_seperator|query|image_(begin|end)|[be]oi|img_break"
    r"|codebook|code_embd)$"
)
EXCEPTIONS = tuple(
    (re.compile(pattern), reason)
    for pattern, reason in (
        (_NORMS, "a normalization"),
        (_ROUTERS, "a router"),
        (_POSITIONS, "a table of positions or token types"),
        (_CONVOLUTIONS, "a convolution"),
        (_SMALL, "small: llama.cpp keeps it as well"),
        (_INPUTS, "a learned input"),
    )
)
"""Names, without the suffix, of matrices that are no factors of a product, or too small to matter."""


def reason_to_keep(name: str, axes: int = 2) -> str | None:
    """Return why a tensor is not the weight of a linear layer, None where it is one.

    Parameters
    ----------
    name
        The tensor's name in GGUF.
    axes
        How many axes it has, without outermost axes of length 1, as ggml counts them.
    """
    if not name.endswith(SUFFIX):
        return f"its name does not end in {SUFFIX}"
    if axes not in (2, 3):
        return f"a tensor of {axes} axes"
    stem = name.removesuffix(SUFFIX)
    if TABLES.fullmatch(stem):
        return LOOKED_UP
    return next((reason for pattern, reason in EXCEPTIONS if pattern.search(stem)), None)


def is_linear(name: str, axes: int = 2) -> bool:
    """Return whether a tensor is the weight of a linear layer, by its name in GGUF and its axes.

    An embedding is looked up, not multiplied, even where the output layer shares it.
    """
    return reason_to_keep(name, axes) is None


@dataclass(frozen=True)
class Selection:
    """The selection of a model's tensors.

    Parameters
    ----------
    quantized
        The names of those to quantize.
    kept
        The matrices that are kept, by name, each with the reason.
    notes
        Why a linear weight is kept although `keep` does not name it.
    """

    quantized: frozenset[str]
    kept: Mapping[str, str]
    notes: tuple[str, ...]


def select(
    model: GgufModel,
    only: Sequence[str] = (),
    keep: Sequence[str] = (),
    *,
    embedding: bool = False,
    output: bool = False,
) -> Selection:
    """Choose the tensors to quantize.

    Parameters
    ----------
    model
        The file.
    only
        Globs: of the linear weights only these, all where there is no glob. A glob without `*`, `?` and `[`
        is a name, and an order: it reaches a table that is looked up as well, and it is an error if that
        tensor cannot be quantized.
    keep
        Globs: not these.
    embedding
        Quantize the tables that are looked up as well.
    output
        Quantize the matrix of the output layer, whatever `only` says: the embedding where there is no other.

    Raises
    ------
    GgufError
        for a glob that matches no weight, a name in `only` that cannot be quantized, and a table that is
        asked for and not there.
    """
    reasons = {info.name: reason_to_keep(info.name, _axes(info)) for info in model.tensors.values()}
    head = OUTPUT if OUTPUT in model.tensors else EMBEDDING
    if reasons.get(head) == LOOKED_UP:
        reasons[head] = LOOKED_UP_AND_OUTPUT
    tables = {name for name, reason in reasons.items() if reason in (LOOKED_UP, LOOKED_UP_AND_OUTPUT)}
    weights = {name for name, reason in reasons.items() if reason is None}
    asked = tables.intersection(only)
    if embedding:
        asked |= _existing(model, "embedding", tables, tables)
    if output:
        asked |= _existing(model, "output", {head}, tables | weights)
    _require_matches(model, only, keep, weights | asked, tables, reasons)
    kept: dict[str, str] = {}
    notes = []
    for name, reason in reasons.items():
        if reason is not None and name not in asked:
            kept[name] = reason
        elif _matches(name, keep):
            kept[name] = "--keep"
        elif only and name not in asked and not _matches(name, only):
            kept[name] = "not in --only"
        elif obstacle := _obstacle(model, name):
            if name in only:
                raise GgufError(model.path, f"tensor {shown(name)} cannot be quantized: {obstacle}")
            kept[name] = obstacle
            notes.append(f"{name} is kept: {obstacle}")
    return Selection(
        frozenset(name for name in reasons if name not in kept),
        {name: reason for name, reason in kept.items() if _axes(model.tensors[name]) > 1},
        tuple(notes),
    )


def _axes(info: TensorInfo) -> int:
    """Count a tensor's axes without outermost ones of length 1 (`ggml_n_dims`)."""
    lengths = list(info.shape)
    while lengths and lengths[0] == 1:
        del lengths[0]
    return max(len(lengths), 1)


def _existing(model: GgufModel, option: str, wanted: set[str], there: set[str]) -> set[str]:
    """Return the matrices that an option asks for; refuse the option where there is none."""
    if not wanted & there:
        raise GgufError(model.path, f"--{option}: there is no such matrix in this file")
    return wanted


def _matches(name: str, globs: Sequence[str]) -> bool:
    """Return whether one of the globs matches a name."""
    return any(fnmatchcase(name, glob) for glob in globs)


def _require_matches(
    model: GgufModel,
    only: Sequence[str],
    keep: Sequence[str],
    weights: Collection[str],
    tables: Collection[str],
    reasons: Mapping[str, str | None],
) -> None:
    """Refuse a glob that matches nothing that could be quantized."""
    for option, globs in (("only", only), ("keep", keep)):
        for glob in globs:
            if glob in tables or any(fnmatchcase(name, glob) for name in weights):
                continue
            kind = f"is no linear weight of this file: {reasons[glob]}" if glob in reasons else ""
            raise GgufError(
                model.path, f"--{option} {shown(glob)} {kind or 'matches no linear weight of this file'}"
            )


def _obstacle(model: GgufModel, name: str) -> str | None:
    """Return the reason that a tensor cannot be quantized, None where it can."""
    info = model.tensors[name]
    inner = info.shape[-1]
    if inner % QK8_A8:
        return f"its rows of {inner} elements are not a multiple of {QK8_A8}"
    if not model.readable(name):
        return f"its type {info.type_name} cannot be read as numbers"
    return None
