"""A tokenizer in Hugging Face's layout: what each key becomes, and what is refused with its name."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest

from q8a8.ggufio.hf_config import HfError
from q8a8.ggufio.hf_tokenizer import tokenizer_fields

from .hf_samples import BYTE_LEVEL, byte_level, configuration

if TYPE_CHECKING:
    from collections.abc import Mapping

SPLIT = r"\p{L}+|\p{N}|[^\s\p{L}\p{N}]+[\r\n]*"
NO_REGEX = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}


def sequence(*steps: Mapping[str, Any]) -> dict[str, Any]:
    """Return a pre-tokenizer of several steps."""
    return {"type": "Sequence", "pretokenizers": list(steps)}


def pieces(**more: object) -> dict[str, Any]:
    """Return a `tokenizer.json` of SentencePiece's type."""
    vocabulary = {"<unk>": 0, "<0x0A>": 1, "▁": 2, "a": 3, "▁a": 4}
    model = {"vocab": vocabulary, "merges": [["▁", "a"]], "byte_fallback": True, "unk_token": "<unk>"}
    return {"model": model, **more}


@pytest.mark.parametrize(
    ("step", "name"),
    [
        (BYTE_LEVEL, "gpt-2"),
        (sequence({"type": "Digits", "individual_digits": True}, BYTE_LEVEL), "smollm"),
        (sequence({"type": "Split", "pattern": {"Regex": SPLIT}}, NO_REGEX), "qwen2"),
        (
            sequence({"type": "Split", "pattern": {"Regex": SPLIT.replace("N}|", "N}{1,3}|", 1)}}, NO_REGEX),
            "llama-bpe",
        ),
    ],
)
def test_splits(step: Mapping[str, Any], name: str) -> None:
    """Every split that has a name gets it."""
    fields = tokenizer_fields(byte_level(pre_tokenizer=step), {}, configuration())
    assert fields["tokenizer.ggml.pre"] == name


@pytest.mark.parametrize(
    "step",
    [
        None,
        BYTE_LEVEL | {"add_prefix_space": True},
        sequence({"type": "Digits", "individual_digits": False}, BYTE_LEVEL),
        sequence({"type": "Split", "pattern": {"Regex": r"\p{L}+"}}, NO_REGEX),
        # Numbers one by one, and other words than Qwen's.
        sequence({"type": "Split", "pattern": {"Regex": r"\p{L}+|\p{N}|\s+"}}, NO_REGEX),
        sequence({"type": "Split", "pattern": {"String": " "}}, NO_REGEX),
    ],
)
def test_splits_without_a_name(step: Mapping[str, Any] | None) -> None:
    """Any other is refused, and shown."""
    with pytest.raises(HfError) as caught:
        tokenizer_fields(byte_level(pre_tokenizer=step), {}, configuration())
    assert str(caught.value) == (
        f"tokenizer: llama.cpp has no name for this split into words: {json.dumps(step)}"
    )


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, False),
        ({"normalizer": None, "pre_tokenizer": None}, False),
        ({"normalizer": {"type": "Prepend", "prepend": "▁"}}, True),
        ({"normalizer": {"type": "Replace"}}, False),
        ({"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Prepend"}]}}, True),
        ({"pre_tokenizer": {"type": "Metaspace", "prepend_scheme": "first"}}, True),
        ({"pre_tokenizer": {"type": "Metaspace", "prepend_scheme": "never"}}, False),
        ({"pre_tokenizer": {"type": "Metaspace", "add_prefix_space": True}}, True),
        ({"pre_tokenizer": {"type": "Metaspace", "add_prefix_space": False}}, False),
        ({"pre_tokenizer": sequence({"type": "Digits"}, {"type": "Metaspace", "add_prefix_space": 1})}, True),
    ],
)
def test_a_space_in_front(more: Mapping[str, Any], expected: bool) -> None:
    """By the normalizer, or by the Metaspace of either age."""
    fields = tokenizer_fields(pieces(**more), {}, configuration())
    assert fields["tokenizer.ggml.add_space_prefix"] is expected
    assert fields["tokenizer.ggml.token_type"].tolist() == [2, 6, 1, 1, 1]
    assert fields["tokenizer.ggml.scores"].tolist() == [-1, -1, -1, -1, 0]


BEGIN = {"single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}]}


@pytest.mark.parametrize(
    ("processor", "settings", "expected"),
    [
        (BEGIN, {"add_bos_token": False}, False),
        (None, {"add_bos_token": True}, True),
        (None, {}, False),
        (BEGIN, {}, True),
        ({"type": "Sequence", "processors": [{"type": "ByteLevel"}, BEGIN]}, {}, True),
        ({"single": [{"SpecialToken": {"id": "a"}}]}, {}, False),
        ({"single": ["<s>"]}, {}, False),
        (BEGIN, {"bos_token": None}, False),
    ],
)
def test_whether_a_text_begins_with_a_token(
    processor: Mapping[str, Any] | None,
    settings: Mapping[str, Any],
    expected: bool,
) -> None:
    """The settings say it, else the processor that puts that token first."""
    settings = {"bos_token": "<s>", **settings}
    fields = tokenizer_fields(byte_level(post_processor=processor), settings, configuration())
    assert fields["tokenizer.ggml.add_bos_token"] is expected


@pytest.mark.parametrize(
    ("tokenizer", "config", "message"),
    [
        ({}, configuration(), "tokenizer: a key is missing or wrong: KeyError: 'model'"),
        ({"model": []}, configuration(), "tokenizer: a key is missing or wrong: AttributeError"),
        (byte_level(), configuration(vocab_size=9999), "vocab_size: 9999 tokens, and the tokenizer has 4"),
        (
            byte_level() | {"added_tokens": [{"id": 900, "content": 7}]},
            configuration(),
            "tokenizer: token 900: expected a text and a number from 0, got 7",
        ),
        (
            byte_level() | {"added_tokens": [{"id": -1, "content": "<x>"}]},
            configuration(),
            "tokenizer: token -1: expected a text",
        ),
        (
            byte_level() | {"added_tokens": [{"id": math.inf, "content": "<x>"}]},
            configuration(),
            "tokenizer: a key is missing or wrong: OverflowError",
        ),
    ],
)
def test_tokenizers_that_are_refused(
    tokenizer: Mapping[str, Any], config: Mapping[str, Any], message: str
) -> None:
    """Keys that are missing, and far more rows of the embedding than tokens."""
    with pytest.raises(HfError) as caught:
        tokenizer_fields(tokenizer, {}, config)
    assert str(caught.value).startswith(message)
