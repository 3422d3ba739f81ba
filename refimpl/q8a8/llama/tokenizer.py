"""Text to tokens and back by a GGUF file's metadata, through the package `tokenizers`.

Byte-level BPE: text is split into words, the bytes of each word are written as printable characters, and
neighbours are merged in the order of the file's list. Sennrich et al., "Neural Machine Translation of Rare
Words with Subword Units" (2016), section 3.2; bytes: Radford et al., "Language Models are Unsupervised
Multitask Learners" (2019), section 2.2, and OpenAI's gpt-2, src/encoder.py, `bytes_to_unicode`.

How text is split into words is the file's `tokenizer.ggml.pre`; the supported ones are `PRE_TOKENIZERS`
(llama.cpp, src/llama-vocab.cpp, `llm_tokenizer_bpe`). Any other is refused: a wrong split would
silently yield wrong tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Protocol

import numpy as np

from q8a8.llama.errors import ModelError, import_tokenizers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["PRE_TOKENIZERS", "Tokenizer"]

PRE_TOKENIZERS = {
    "smollm": ("digits", "gpt-2"),
    "gpt-2": ("gpt-2",),
}
"""Steps by which text is split into words, by the name in the file.

digits
    Every numeric character (Unicode N) is a word of its own.
gpt-2
    Contractions, letters, numbers, other signs, each with one space before it; runs of white space.
"""

# ggml's llama_token_type.
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED = 1, 2, 3, 4


class Tokenizer:
    """A model's tokenizer.

    Parameters
    ----------
    metadata
        A file's metadata, values by key: `tokenizer.ggml.model`, `pre`, `tokens`, `token_type`, `merges`.

    Attributes
    ----------
    bos, eos
        The tokens that begin and end a text, or None.
    add_bos
        Whether every text of the model begins with `bos`; the caller adds it.

    Raises
    ------
    ModelError
        for another kind of tokenizer than gpt2, another split than `PRE_TOKENIZERS`, or a key that is missing
        or wrong.
    MissingPackageError
        without the package `tokenizers`.
    """

    def __init__(self, metadata: Mapping[str, object]) -> None:
        kind = metadata.get("tokenizer.ggml.model")
        if kind != "gpt2":
            raise ModelError(f"tokenizer.ggml.model: expected gpt2 (byte-level BPE), got {kind!r}")
        pre = metadata.get("tokenizer.ggml.pre")
        if not isinstance(pre, str) or pre not in PRE_TOKENIZERS:
            known = ", ".join(PRE_TOKENIZERS)
            raise ModelError(f"tokenizer.ggml.pre: expected one of {known}, got {pre!r}")
        self._texts = _strings(metadata, "tokenizer.ggml.tokens")
        types = _types(metadata, len(self._texts))
        merges = [_pair(merge) for merge in _strings(metadata, "tokenizer.ggml.merges")]
        self.bos = self._token(metadata, "tokenizer.ggml.bos_token_id")
        self.eos = self._token(metadata, "tokenizer.ggml.eos_token_id")
        self.add_bos = bool(metadata.get("tokenizer.ggml.add_bos_token", False))
        self._specials = {
            kind: {self._texts[i]: i for i, of in enumerate(types) if of == kind}
            for kind in (_UNKNOWN, _CONTROL, _USER_DEFINED)
        }
        self._literal = frozenset(chain.from_iterable(each.values() for each in self._specials.values()))
        vocabulary = {text: i for i, text in enumerate(self._texts)}
        missing = [character for character in _BYTES if character not in vocabulary]
        # A byte that the vocabulary lacks must still keep its neighbours from being merged, as in llama.cpp;
        # the package would drop it first. Its stand-in is dropped from the result.
        stand_ins = {character: len(self._texts) + i for i, character in enumerate(missing)}
        self._bpe = _byte_level_bpe(vocabulary | stand_ins, merges, pre)

    def __len__(self) -> int:
        """Count the tokens of the vocabulary."""
        return len(self._texts)

    def encode(self, text: str, *, bos: bool = False, special: bool = False) -> list[int]:
        """Turn text into tokens.

        Bytes that are in no token of the vocabulary are left out, as llama.cpp leaves them out (of SmolLM2's
        vocabulary 21 are missing: six control characters, and bytes that UTF-8 never or hardly has).

        Parameters
        ----------
        text
            Any text.
        bos
            Put the token that begins a text in front.
        special
            Read the names of control tokens in the text, ``<|im_start|>`` say, as those tokens. Without it
            they are text like any other, as they must be in a user's text. Tokens that a file marks as user
            defined are read as tokens either way (llama.cpp, `llama_vocab::impl::tokenizer_st_partition`).

        Raises
        ------
        ModelError
            for `bos` where the file names none, and for a text with half a surrogate pair, which UTF-8 cannot
            encode.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ModelError(
                f"text: {text[error.start]!r} at {error.start} is half a surrogate pair"
            ) from None
        if bos and self.bos is None:
            raise ModelError("tokenizer.ggml.bos_token_id: the file names no token that begins a text")
        kinds = (_UNKNOWN, _CONTROL, _USER_DEFINED) if special else (_USER_DEFINED,)
        names = dict(chain.from_iterable(self._specials[kind].items() for kind in kinds))
        pieces: list[str | int] = [text]
        # The longest first, each cut out of the pieces that are left.
        for name in sorted(names, key=lambda name: -len(name.encode())):
            pieces = [part for piece in pieces for part in _cut(piece, name, names[name])]
        ids = [] if not bos or self.bos is None else [self.bos]
        for piece in pieces:
            ids += [piece] if isinstance(piece, int) else self._bpe.encode(piece).ids
        return [token for token in ids if token < len(self._texts)]

    def decode(self, ids: Iterable[int]) -> str:
        """Turn tokens into text; bytes that are not UTF-8 become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Turn tokens into the bytes of a text; one token may hold a part of a character.

        Raises
        ------
        ModelError
            for a token that is not in the vocabulary.
        """
        return b"".join(self._bytes(token) for token in ids)

    def _bytes(self, token: int) -> bytes:
        if not 0 <= token < len(self._texts):
            raise ModelError(f"token: expected 0 to {len(self._texts) - 1}, got {token}")
        text = self._texts[token]
        if token in self._literal:
            return text.encode()
        try:
            return bytes(_BYTES[character] for character in text)
        except KeyError as error:
            raise ModelError(
                f"tokenizer.ggml.tokens: {token} is {text!r}, where {error} is not a byte"
            ) from None

    def _token(self, metadata: Mapping[str, object], key: str) -> int | None:
        token = metadata.get(key)
        if token is None:
            return None
        if not isinstance(token, int) or not 0 <= token < len(self._texts):
            raise ModelError(f"{key}: expected 0 to {len(self._texts) - 1}, got {token!r}")
        return token


def _strings(metadata: Mapping[str, object], key: str) -> list[str]:
    values = metadata.get(key)
    if (
        isinstance(values, str)
        or not isinstance(values, Sequence)
        or not all(isinstance(value, str) for value in values)
    ):
        raise ModelError(f"{key}: expected a list of strings")
    return list(values)


def _types(metadata: Mapping[str, object], count: int) -> list[int]:
    types = np.asarray(metadata.get("tokenizer.ggml.token_type", [_NORMAL] * count))
    if types.ndim != 1 or not np.issubdtype(types.dtype, np.integer):
        raise ModelError("tokenizer.ggml.token_type: expected a list of integers")
    if len(types) != count:
        raise ModelError(f"tokenizer.ggml.token_type: {len(types)} types for {count} tokens")
    return [int(kind) for kind in types]


def _pair(merge: str) -> tuple[str, str]:
    """Read a merge, "left right": no token of a byte-level vocabulary has a space in it."""
    left, space, right = merge.partition(" ")
    if not (left and space and right):
        raise ModelError(f"tokenizer.ggml.merges: {merge!r} is not a pair of tokens")
    return left, right


class _Encoder(Protocol):
    """The part of the package's tokenizer that is used."""

    def encode(self, sequence: str, /) -> _Encoding:
        """Turn text into tokens."""


class _Encoding(Protocol):
    """The part of an encoding that is used."""

    @property
    def ids(self) -> list[int]:
        """The tokens."""


def _byte_level_bpe(vocabulary: dict[str, int], merges: list[tuple[str, str]], pre: str) -> _Encoder:
    """Build the package's tokenizer, without control tokens."""
    package = import_tokenizers()
    for left, right in merges:
        for text in (left, right, left + right):
            if text not in vocabulary:
                raise ModelError(f"tokenizer.ggml.merges: {left!r} {right!r}: {text!r} is not a token")
    steps = {
        "digits": lambda: package.pre_tokenizers.Digits(individual_digits=True),
        "gpt-2": lambda: package.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
    }
    tokenizer = package.Tokenizer(package.models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = package.pre_tokenizers.Sequence([steps[step]() for step in PRE_TOKENIZERS[pre]])
    built: _Encoder = tokenizer
    return built


def _cut(piece: str | int, name: str, token: int) -> Iterator[str | int]:
    """Put a token where its name is in a piece of text."""
    if isinstance(piece, int):
        yield piece
        return
    for i, part in enumerate(piece.split(name)):
        if i:
            yield token
        if part:
            yield part


def _byte_characters() -> dict[str, int]:
    """Return each byte by its character (gpt-2, src/encoder.py, `bytes_to_unicode`).

    The printable characters of Latin-1 are their own bytes'; the other bytes, in order, are U+0100 and up.
    """
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


_BYTES = _byte_characters()
