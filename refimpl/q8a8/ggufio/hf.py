"""A folder in Hugging Face's layout as a GGUF file.

::

    config.json                        the shape                 `hf_config`
    model.safetensors, or an index     the weights               `safetensors`
    tokenizer.json                     the tokenizer, if any     `hf_tokenizer`

Names and numbers are those of llama.cpp's converter (convert_hf_to_gguf.py): matrices keep their type and
bytes, vectors become F32; Gemma's norms get the 1 that its formula adds; and the rows of q and k of the
architecture llama are put so that channels that are rotated together are neighbours (`LlamaModel.permute`),
where Hugging Face has them half a head apart::

    row  h·d + 2i + j   of the file  =  row  h·d + j·d/2 + i   of the folder      j = 0, 1; i < d/2
"""

from __future__ import annotations

import re
import struct
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from q8a8.ggufio.errors import GgufError, shown
from q8a8.ggufio.floats import to_floats
from q8a8.ggufio.header import ALIGNMENT, Header
from q8a8.ggufio.hf_config import HfError, config_fields, rope_tensors
from q8a8.ggufio.hf_tokenizer import tokenizer_fields
from q8a8.ggufio.safetensors import StoredTensor, read_folder, read_json
from q8a8.ggufio.tensor_types import F32
from q8a8.ggufio.writer import field, writing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from numpy.typing import NDArray

    from q8a8.ggufio.header import Field

__all__ = ["convert_folder", "temporary_gguf"]

_OUTSIDE = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_LAYER = re.compile(r"model\.layers\.(\d{1,6})\.(.+)\.(weight|bias)")
_INSIDE = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_TIED = ("gemma", "gemma2", "gemma3")
_POST_NORMS = ("gemma2", "gemma3")


def convert_folder(folder: Path, target: Path) -> None:
    """Write a folder's model as a GGUF file.

    Raises
    ------
    GgufError
        naming the file and the key or tensor: what is missing, broken, or has no counterpart in GGUF.
    """
    config = read_json(folder / "config.json")
    stored = read_folder(folder)
    try:
        metadata = config_fields(config)
        factors = rope_tensors(config)
        if (folder / "tokenizer.json").exists():
            settings = _settings(folder)
            metadata |= tokenizer_fields(read_json(folder / "tokenizer.json"), settings, config)
    except HfError as error:
        raise GgufError(folder, str(error)) from error
    arch = metadata["general.architecture"]
    metadata["general.name"] = folder.resolve().name
    names = _names(folder, stored, arch, config)
    tensors = {
        new: (stored[old].shape, F32 if len(stored[old].shape) == 1 else stored[old].kind)
        for new, old in names.items()
    }
    tensors |= {name: (array.shape, F32) for name, array in factors.items()}
    like = Header(3, "<", ALIGNMENT, {}, {})
    fields = {key: _field(folder, key, value) for key, value in metadata.items()}
    with writing(target, like, fields, tensors) as writer:
        for new in tensors:
            writer.write(
                factors[new] if new in factors else _bytes(stored[names[new]], new, metadata, folder)
            )
            writer.end()


def _field(folder: Path, key: str, value: object) -> Field:
    """Make a field; refuse a number that its type in GGUF does not hold, and a text that is no UTF-8."""
    try:
        return field(value, "<")
    except (struct.error, OverflowError, UnicodeEncodeError) as error:
        raise GgufError(folder, f"{key}: {shown(str(value))} has no place in GGUF: {error}") from error


def temporary_gguf(folder: Path) -> Path:
    """Convert a folder into a temporary file, which the caller removes; errors as `convert_folder`."""
    with tempfile.NamedTemporaryFile(suffix=".gguf", delete=False) as file:
        target = Path(file.name)
    try:
        convert_folder(folder, target)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return target


def _settings(folder: Path) -> dict[str, Any]:
    """Read what is beside the tokenizer: its settings, and a chat template of its own."""
    path, template = folder / "tokenizer_config.json", folder / "chat_template.jinja"
    settings = read_json(path) if path.exists() else {}
    if template.exists():
        try:
            settings["chat_template"] = template.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise GgufError(template, f"byte {error.start}: not UTF-8: {error.reason}") from error
    return settings


def _names(
    folder: Path, stored: Mapping[str, StoredTensor], arch: str, config: Mapping[str, Any]
) -> dict[str, str]:
    """Return the folder's names of tensors by those in GGUF.

    Raises
    ------
    GgufError
        for a tensor that has no name there, or the same as another.
    """
    names: dict[str, str] = {}
    tied = config.get("tie_word_embeddings", arch in _TIED)
    for old in stored:
        new = _OUTSIDE.get(old)
        match = _LAYER.fullmatch(old)
        if match and match[2] in _INSIDE:
            part = _INSIDE[match[2]]
            if match[2] == "post_attention_layernorm" and arch in _POST_NORMS:
                part = "post_attention_norm"
            new = f"blk.{match[1]}.{part}.{match[3]}"
        if old.endswith("rotary_emb.inv_freq") or (new == "output.weight" and tied):
            continue
        if new is None:
            raise GgufError(folder, f"tensor {shown(old)} is none of a model of {arch}")
        if new in names:
            raise GgufError(folder, f"tensors {shown(names[new])} and {shown(old)} are both {new}")
        names[new] = old
    if config.get("tie_word_embeddings") is False and "output.weight" not in names:
        raise GgufError(folder, "there is no lm_head.weight, and tie_word_embeddings is false")
    # The embedding first, then layer by layer: the order of llama.cpp's files.
    return dict(sorted(names.items(), key=lambda pair: _place(pair[0])))


def _place(name: str) -> tuple[int, int]:
    """Return where a tensor comes in a file."""
    parts = name.split(".")
    return (1, int(parts[1])) if parts[0] == "blk" else (0 if parts[0] == "token_embd" else 2, 0)


def _bytes(tensor: StoredTensor, name: str, metadata: Mapping[str, Any], folder: Path) -> NDArray[np.generic]:
    """Return the bytes of a tensor in the file."""
    arch = metadata["general.architecture"]
    if arch == "llama" and re.search(r"\.attn_[qk]\.", name):
        key = "attention.head_count" if ".attn_q." in name else "attention.head_count_kv"
        heads, rows = metadata[f"llama.{key}"], tensor.shape[0]
        if rows % (2 * heads):
            raise GgufError(folder, f"tensor {name}: {rows} rows are no pairs of channels of {heads} heads")
        whole = tensor.raw.reshape(heads, 2, rows // heads // 2, -1).swapaxes(1, 2)
        tensor = StoredTensor(tensor.shape, tensor.kind, np.ascontiguousarray(whole).reshape(-1))
    if len(tensor.shape) > 1:
        return tensor.raw
    values = to_floats(np.ascontiguousarray(tensor.raw), tensor.kind, "<")
    return values + np.float32(1) if arch in _TIED and name.endswith("norm.weight") else values
