"""The tokenizer on a vocabulary small enough to merge by hand."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from q8a8.llama import MissingPackageError, ModelError, Tokenizer

# Printable bytes stand for themselves; a space is Ġ, a line feed Ċ (GPT-2's table).
LETTERS = [*"abcdehlo12é", "Ġ", "Ċ", "Ã", "©", "ð", "Ł", "ĺ", "Ģ", "<", "|", ">", "'", "s"]
MERGED = ["he", "ll", "llo", "hello", "Ġhello", "12", "ĠĠ", "Ã©", "'s", "<|"]
MERGES = ["h e", "l l", "ll o", "he llo", "Ġ hello", "1 2", "Ġ Ġ", "Ã ©", "' s", "< |"]
CONTROL = ["<|a|>", "<|a|>b", "<|bos|>"]
USER = ["[sep]"]
TOKENS = [*CONTROL, *LETTERS, *MERGED, *USER]
TYPES = np.array([3] * len(CONTROL) + [1] * (len(LETTERS) + len(MERGED)) + [4] * len(USER), np.int32)


def metadata(**changes: object) -> dict[str, Any]:
    """Return the metadata with changes; None takes a key away."""
    given: dict[str, Any] = {
        "model": "gpt2",
        "pre": "smollm",
        "tokens": TOKENS,
        "token_type": TYPES,
        "merges": MERGES,
        "bos_token_id": 2,
        "eos_token_id": 0,
        **changes,
    }
    return {f"tokenizer.ggml.{key}": value for key, value in given.items() if value is not None}


def texts(tokens: list[int]) -> list[str]:
    """Name the tokens."""
    return [TOKENS[token] for token in tokens]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """Return the small tokenizer."""
    return Tokenizer(metadata())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("hello", ["hello"]),
        ("hello hello", ["hello", "Ġhello"]),
        ("hello  hello", ["hello", "Ġ", "Ġhello"]),
        ("hell", ["he", "ll"]),
        ("   ", ["ĠĠ", "Ġ"]),
        ("a12", ["a", "1", "2"]),
        ("a 1", ["a", "Ġ", "1"]),
        ("é", ["Ã©"]),
        ("a's", ["a", "'s"]),
        ("a\nb", ["a", "Ċ", "b"]),
        ("😀", ["ð", "Ł", "ĺ", "Ģ"]),
    ],
)
def test_text_is_split_and_merged(tokenizer: Tokenizer, text: str, expected: list[str]) -> None:
    """Digits alone, a space before a word, merges in the list's order, bytes beyond ASCII; and back."""
    tokens = tokenizer.encode(text)
    assert texts(tokens) == expected
    assert tokenizer.decode(tokens) == text


def test_gpt_2_keeps_digits_together() -> None:
    """Its split has no rule for single digits: the merge of 1 and 2 is used."""
    assert texts(Tokenizer(metadata(pre="gpt-2")).encode("a12")) == ["a", "12"]


def test_control_tokens_only_when_asked(tokenizer: Tokenizer) -> None:
    """In a user's text their names are text; what the file calls user defined always is a token."""
    text = "a<|a|>hello[sep]1"
    assert texts(tokenizer.encode(text)) == ["a", "<|", "a", "|", ">", "hello", "[sep]", "1"]
    tokens = tokenizer.encode(text, special=True)
    assert texts(tokens) == ["a", "<|a|>", "hello", "[sep]", "1"]
    assert tokenizer.decode(tokens) == text


def test_longest_name_first(tokenizer: Tokenizer) -> None:
    """A name that begins with another one is not cut by it; names side by side leave nothing between."""
    tokens = tokenizer.encode("<|a|>b<|a|><|a|>a[sep][sep]", special=True)
    assert texts(tokens) == ["<|a|>b", "<|a|>", "<|a|>", "a", "[sep]", "[sep]"]


def test_text_does_not_merge_across_a_token(tokenizer: Tokenizer) -> None:
    """The text behind a control token begins anew."""
    assert texts(tokenizer.encode("he<|a|>llo", special=True)) == ["he", "<|a|>", "llo"]


def test_beginning(tokenizer: Tokenizer) -> None:
    """Put in front when asked for, which a file without one refuses."""
    assert texts(tokenizer.encode("a", bos=True)) == ["<|bos|>", "a"]
    assert (tokenizer.bos, tokenizer.eos, tokenizer.add_bos, len(tokenizer)) == (2, 0, False, len(TOKENS))
    without = Tokenizer(metadata(bos_token_id=None, eos_token_id=None, add_bos_token=True))
    assert (without.bos, without.eos, without.add_bos) == (None, None, True)
    with pytest.raises(ModelError, match=r"bos_token_id: the file names no token"):
        without.encode("a", bos=True)


def test_parts_of_characters(tokenizer: Tokenizer) -> None:
    """A token may hold part of a character: its bytes are there, as text it is U+FFFD."""
    first = TOKENS.index("ð")
    assert tokenizer.decode_bytes([first]) == b"\xf0"
    assert tokenizer.decode([first]) == "�"


def test_bytes_without_a_token_are_left_out(tokenizer: Tokenizer) -> None:
    """And yet keep apart what stands on both sides of them; a text of nothing else has no tokens."""
    assert texts(tokenizer.encode("<|")) == ["<|"]
    assert texts(tokenizer.encode("<!|")) == ["<", "|"]
    assert texts(tokenizer.encode("a\x04!z")) == ["a"]
    assert tokenizer.encode("!\x04") == []


def test_half_a_surrogate_pair_is_refused(tokenizer: Tokenizer) -> None:
    """With its place: it has no bytes."""
    with pytest.raises(ModelError, match=r"text: '\\ud83d' at 2 is half"):
        tokenizer.encode("he\ud83d")


def test_types_may_be_missing() -> None:
    """All tokens are normal then."""
    tokens = Tokenizer(metadata(token_type=None)).encode("<|a|>", special=True)
    assert texts(tokens) == ["<|", "a", "|", ">"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "t5"}, "expected gpt2 (byte-level BPE) or llama (SentencePiece), got 't5'"),
        ({"model": None}, "or llama (SentencePiece), got none"),
        ({"pre": "bloom"}, "tokenizer.ggml.pre: expected one of smollm, gpt-2, llama-bpe, "),
        ({"pre": ["smollm"]}, "deepseek-r1-qwen, got ['smollm']"),
        ({"tokens": None}, "tokenizer.ggml.tokens: expected a list of strings"),
        ({"tokens": "abc"}, "tokenizer.ggml.tokens: expected a list of strings"),
        ({"merges": [1, 2]}, "tokenizer.ggml.merges: expected a list of strings"),
        ({"token_type": TYPES[:-1]}, f"{len(TOKENS) - 1} types for {len(TOKENS)} tokens"),
        ({"token_type": "abc"}, "tokenizer.ggml.token_type: expected a list of integers"),
        ({"merges": ["he"]}, "'he' is not a pair of tokens"),
        ({"merges": ["h e", " x"]}, "' x' is not a pair of tokens"),
        ({"merges": ["h zz"]}, "'h' 'zz': 'zz' is not a token"),
        ({"merges": ["h h"]}, "'h' 'h': 'hh' is not a token"),
        ({"bos_token_id": len(TOKENS)}, f"bos_token_id: expected 0 to {len(TOKENS) - 1}, got {len(TOKENS)}"),
        ({"eos_token_id": "x"}, "eos_token_id: expected 0 to 37, got 'x'"),
    ],
)
def test_what_is_refused(changes: dict[str, object], message: str) -> None:
    """Each with the key's name."""
    with pytest.raises(ModelError) as caught:
        Tokenizer(metadata(**changes))
    assert message in str(caught.value)


def test_tokens_that_are_none(tokenizer: Tokenizer) -> None:
    """Tokens outside the vocabulary, and text that is not bytes, are refused."""
    for token in (-1, len(TOKENS)):
        with pytest.raises(ModelError, match=f"token: expected 0 to .*, got {token}"):
            tokenizer.decode([token])
    raw = Tokenizer(metadata(tokens=[*TOKENS[:-1], "a b"], token_type=None))
    with pytest.raises(ModelError, match=r"is 'a b', where ' ' is not a byte"):
        raw.decode([len(TOKENS) - 1])


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the command that installs it."""
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingPackageError, match=r"pip install -e '\.\[model\]'"):
        Tokenizer(metadata())
