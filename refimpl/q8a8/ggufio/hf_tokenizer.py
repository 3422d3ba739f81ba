"""A tokenizer in Hugging Face's `tokenizer.json`, as the metadata of a GGUF file.

Two kinds are written: BPE of bytes (`tokenizer.ggml.model` gpt2) with a split that llama.cpp has a name for,
and SentencePiece's BPE with tokens for bytes (llama), whose scores are the ranks of the merges that make the
tokens, as SentencePiece orders them. Any other is refused: it would yield other tokens in silence.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8.ggufio.hf_config import MOST, HfError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["tokenizer_fields"]

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = range(1, 7)

SPLITS = {r"\p{N}{1,3}": "llama-bpe", r"|\p{N}|": "qwen2"}
"""What tells apart the regular expressions of llama-bpe and qwen2: numbers in threes, or one by one."""


def tokenizer_fields(
    tokenizer: Mapping[str, Any], settings: Mapping[str, Any], config: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the metadata of a tokenizer, by GGUF key.

    Parameters
    ----------
    tokenizer, settings, config
        `tokenizer.json`; `tokenizer_config.json`, empty where there is none; `config.json`.

    Raises
    ------
    HfError
        for a kind of tokenizer that is not written, or a key that is missing or wrong.
    """
    try:
        return _fields(tokenizer, settings, config)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError) as error:
        if isinstance(error, HfError):
            raise
        raise HfError(f"tokenizer: a key is missing or wrong: {type(error).__name__}: {error}") from error


def _fields(
    tokenizer: Mapping[str, Any], settings: Mapping[str, Any], config: Mapping[str, Any]
) -> dict[str, Any]:
    model = tokenizer["model"]
    if model.get("type", "BPE") != "BPE":
        raise HfError(f"tokenizer: a model of type {model['type']!r} is not written, only BPE is")
    pieces = bool(model.get("byte_fallback"))
    vocabulary, types = _vocabulary(tokenizer, pieces=pieces)
    unknown = model.get("unk_token")
    types |= {i: _UNKNOWN for i, text in vocabulary.items() if pieces and text == unknown}
    size = max(int(config["vocab_size"]), max(vocabulary) + 1)
    if size > 2 * len(vocabulary) + 4096:
        raise HfError(f"vocab_size: {size} tokens, and the tokenizer has {len(vocabulary)}")
    tokens = [vocabulary.get(i, f"[PAD{i}]") for i in range(size)]
    merges = [_pair(merge) for merge in model["merges"]]
    fields: dict[str, Any] = {
        "model": "llama" if pieces else "gpt2",
        "pre": "default" if pieces else _split(tokenizer),
        "tokens": tokens,
        "token_type": np.array([types.get(i, _UNUSED) for i in range(size)], np.int32),
    }
    if pieces:
        fields["scores"] = _scores(tokens, merges)
        fields["add_space_prefix"] = _space_first(tokenizer)
    else:
        fields["merges"] = [f"{_written(left)} {_written(right)}" for left, right in merges]
    index_of = {text: i for i, text in enumerate(tokens)}
    for name in ("bos", "eos", "unk", "pad"):
        token = _special(name, index_of, settings, config)
        if token is not None:
            fields[{"unk": "unknown", "pad": "padding"}.get(name, name) + "_token_id"] = token
    fields["add_bos_token"] = _adds_bos(tokenizer, settings, tokens, fields.get("bos_token_id"))
    if isinstance(settings.get("chat_template"), str):
        fields["chat_template"] = settings["chat_template"]
    return {f"tokenizer.{'' if k == 'chat_template' else 'ggml.'}{k}": v for k, v in fields.items()}


def _vocabulary(tokenizer: Mapping[str, Any], *, pieces: bool) -> tuple[dict[int, str], dict[int, int]]:
    """Return the texts of all tokens and their types, by number."""
    vocabulary = {int(index): text for text, index in tokenizer["model"]["vocab"].items()}
    types = dict.fromkeys(vocabulary, _NORMAL)
    if pieces:
        types |= {i: _BYTE for i, text in vocabulary.items() if _is_byte(text)}
    for added in tokenizer.get("added_tokens") or ():
        index = int(added["id"])
        vocabulary[index] = added["content"]
        types[index] = _CONTROL if added.get("special") else _USER_DEFINED
    for index, text in vocabulary.items():
        if not isinstance(text, str) or not 0 <= index <= MOST:
            raise HfError(f"tokenizer: token {index}: expected a text and a number from 0, got {text!r}")
    return vocabulary, types


def _is_byte(text: str) -> bool:
    """Return whether a token is one of a byte: <0x0A>."""
    return len(text) == 6 and text.startswith("<0x") and text.endswith(">")


def _pair(merge: str | list[str]) -> tuple[str, str]:
    """Read a merge: "left right", or both in a list."""
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _written(part: str) -> str:
    """Write a part of a merge as llama.cpp's converter does: no space within."""
    return part.replace(" ", chr(ord(" ") + 256))


def _scores(tokens: list[str], merges: list[tuple[str, str]]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return a score for each token: minus the rank of the first merge that makes it."""
    rank: dict[str, int] = {}
    for left, right in merges:
        rank.setdefault(left + right, len(rank))
    lowest = len(rank)
    # float32 has every integer up to 2^24: no vocabulary has as many.
    return np.array([-rank.get(token, lowest) for token in tokens], np.float32)


def _steps(tokenizer: Mapping[str, Any], key: str) -> Iterator[Mapping[str, Any]]:
    """Yield the steps of a normalizer or a pre-tokenizer, those of sequences one by one."""
    found = tokenizer.get(key)
    if found is None:
        return
    if found.get("type") == "Sequence":
        yield from found.get("normalizers") or found.get("pretokenizers") or ()
    else:
        yield found


def _split(tokenizer: Mapping[str, Any]) -> str:
    """Return llama.cpp's name of the split into words."""
    steps = list(_steps(tokenizer, "pre_tokenizer"))
    kinds = [step["type"] for step in steps]
    if kinds == ["ByteLevel"] and steps[0].get("use_regex", True) and not steps[0].get("add_prefix_space"):
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and steps[0].get("individual_digits"):
        return "smollm"
    if kinds == ["Split", "ByteLevel"] and not steps[1].get("use_regex", True):
        pattern = str(steps[0].get("pattern", {}).get("Regex", ""))
        for mark, name in SPLITS.items():
            if mark in pattern and r"[^\s\p{L}\p{N}]+[\r\n]*" in pattern:
                return name
    shown = json.dumps(tokenizer.get("pre_tokenizer"))[:200]
    raise HfError(f"tokenizer: llama.cpp has no name for this split into words: {shown}")


def _space_first(tokenizer: Mapping[str, Any]) -> bool:
    """Return whether a text gets a space in front."""
    for step in _steps(tokenizer, "normalizer"):
        if step["type"] == "Prepend":
            return True
    for step in _steps(tokenizer, "pre_tokenizer"):
        if step["type"] == "Metaspace":
            scheme = "always" if step.get("add_prefix_space") else "never"
            return bool(step.get("prepend_scheme", scheme) != "never")
    return False


def _special(
    name: str, index_of: Mapping[str, int], settings: Mapping[str, Any], config: Mapping[str, Any]
) -> int | None:
    """Return the token of a purpose: by its text in the settings, by its number in the configuration."""
    text = settings.get(f"{name}_token")
    if isinstance(text, dict):
        text = text.get("content")
    if isinstance(text, str) and text in index_of:
        return index_of[text]
    index = config.get(f"{name}_token_id")
    if isinstance(index, list):
        index = index[0] if index else None
    return index if type(index) is int and 0 <= index < len(index_of) else None


def _adds_bos(
    tokenizer: Mapping[str, Any], settings: Mapping[str, Any], tokens: list[str], bos: int | None
) -> bool:
    """Return whether every text gets the token of its beginning."""
    if isinstance(settings.get("add_bos_token"), bool):
        return bool(settings["add_bos_token"])
    processor = tokenizer.get("post_processor") or {}
    for step in [processor, *(processor.get("processors") or ())]:
        first = (step.get("single") or [{}])[0]
        if isinstance(first, dict) and bos is not None:
            token = (first.get("SpecialToken") or {}).get("id")
            if token == tokens[bos]:
                return True
    return False
