"""Every type of vocabulary against llama.cpp: real ones, or their first tokens, on texts of all kinds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from q8a8.llama.errors import ModelError
from q8a8.llama.tokenizer import Tokenizer
from q8a8_evaluation.llamacpp import LlamaCpp
from q8a8_lab.evaluation import assets
from q8a8_lab.evaluation.assets import AssetUnavailableError
from q8a8_lab.evaluation.tokenizer_agreement import (
    documents,
    first_difference,
    llama_3,
    qwen_2,
    sentencepiece,
    write_vocabulary,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Need = Callable[[object, str], None]


def mistral(**changes: object) -> dict[str, Any]:
    """Return the SentencePiece vocabulary of Mistral 7B with some other keys."""
    found = sentencepiece(assets.mistral_pieces()) | changes
    # Two that are tokens in any text, and two of control.
    found["tokens"][20000:20004] = ["[sep]", "\n\n\n", "<|end|>", "<|endoftext|>"]
    found["token_type"][20000:20004] = [4, 4, 3, 3]
    return found


# llama.cpp knows Phi-3, whose control tokens swallow white space, by the model's name.
VOCABULARIES: dict[str, Callable[[], tuple[str, dict[str, Any]]]] = {
    "llama-bpe": lambda: ("", llama_3(6000)),
    "qwen2": lambda: ("", qwen_2(6000)),
    "llama": lambda: ("", mistral()),
    "gemma": lambda: ("", mistral(add_space_prefix=False)),
    "phi-3": lambda: ("Phi-3 Mini", mistral()),
}


@pytest.mark.parametrize("name", VOCABULARIES)
def test_tokens_are_llama_cpps(name: str, need: Need, tmp_path: Path) -> None:
    """Prose, control tokens, white space, emoji, combining marks, all scripts, bytes and runs."""
    try:
        model, vocabulary = VOCABULARIES[name]()
    except AssetUnavailableError as error:
        need(False, str(error))
    path = tmp_path / "vocabulary.gguf"
    tokenizer = Tokenizer(write_vocabulary(path, vocabulary, name=model))
    with LlamaCpp(path, n_ctx=256) as llama:
        characters, _, text = first_difference(tokenizer, llama, documents(20_000, seed=8))
        assert text == ""
        assert characters >= 20_000
        # And back: every kind of token, as its bytes.
        for token in (*range(300), *range(300, len(tokenizer), 997)):
            assert tokenizer.decode_bytes([token]) == llama.piece(token)
        assert tokenizer.encode("", bos=True) == [tokenizer.bos]
        beginning = tokenizer.encode("a b", bos=tokenizer.add_bos)
        assert beginning == llama.tokenize("a b", bos=True)


PIECES = ["<unk>", "<s>", "</s>", "▁", "a", "aa", "aaa", "b", "xy", "<0x21>", "!", "▁a"]


def pieces(**changes: object) -> dict[str, object]:
    """Return a small vocabulary of SentencePiece's type."""
    found: dict[str, object] = {
        "model": "llama",
        "tokens": PIECES,
        "scores": [0.0, 0, 0, -1, -1, -2, -3, -1, -4, 0, -1, -9],
        "token_type": [2, 3, 3, 1, 1, 1, 1, 1, 1, 6, 1, 1],
        "add_space_prefix": False,
    } | changes
    return {f"tokenizer.ggml.{key}": value for key, value in found.items() if value is not None}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # aa first, leftmost; then a+aa and aa+a score alike, and the leftmost wins.
        ("aaa", ["aaa"]),
        ("aaaaa", ["aa", "aaa"]),
        # Neither x nor y is a token, and both together are one.
        ("xyb", ["xy", "b"]),
        ("a a", ["a", "▁a"]),
        ("▁", ["▁"]),
        ("!", ["!"]),
    ],
)
def test_pieces_merge_by_score(text: str, expected: list[str]) -> None:
    """The best first, of equals the leftmost, of characters that need not be tokens."""
    assert [PIECES[token] for token in Tokenizer(pieces()).encode(text)] == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": [0.0]}, "expected 12 numbers, one a token, got float64 of shape (1,)"),
        ({"scores": ["x"] * 12}, "expected 12 numbers"),
        ({"scores": [float("nan")] * 12}, "that of token 0 is NaN"),
        ({"bos_token_id": 12}, "expected 0 to 11, got 12"),
    ],
)
def test_what_is_refused(changes: dict[str, object], message: str) -> None:
    """With the key's name."""
    with pytest.raises(ModelError) as caught:
        Tokenizer(pieces(**changes))
    assert message in str(caught.value)
    assert "tokenizer.ggml." in str(caught.value)


def test_byte_without_a_token_is_named() -> None:
    """A character that is no token, of a byte that has none."""
    with pytest.raises(ModelError, match="there is no token of the byte '<0x7A>'"):
        Tokenizer(pieces()).encode("z")
    wrong = Tokenizer(pieces(tokens=[*PIECES[:9], "<0xZZ>", *PIECES[10:]]))
    with pytest.raises(ModelError, match="9 is '<0xZZ>', which is no byte"):
        wrong.decode([9])
