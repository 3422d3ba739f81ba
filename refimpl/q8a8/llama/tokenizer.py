"""Text to tokens and back by a GGUF file's metadata.

Byte-level BPE (`tokenizer.ggml.model` gpt2), through the package `tokenizers`: text is split into words, the
bytes of each word are written as printable characters, and neighbours are merged in the order of the file's
list. Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units" (2016), section 3.2;
bytes: Radford et al., "Language Models are Unsupervised Multitask Learners" (2019), section 2.2, and OpenAI's
gpt-2, src/encoder.py, `bytes_to_unicode`. How text is split into words is the file's `tokenizer.ggml.pre`;
the supported ones are `PRE_TOKENIZERS` (llama.cpp, src/llama-vocab.cpp, `llm_tokenizer_bpe`). Any other is
refused: a wrong split would silently yield wrong tokens.

SentencePiece's type (llama: Llama 2, Mistral, Phi-3, Gemma), by `q8a8.llama.spm`.

Text is taken as it is. Neither llama.cpp nor this module normalizes it, where Hugging Face's tokenizer of
Qwen composes characters first (NFC).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Protocol

import numpy as np

from q8a8.llama.errors import ModelError, import_tokenizers, shortened
from q8a8.llama.spm import SPACE, Merger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

__all__ = ["PRE_TOKENIZERS", "Tokenizer", "byte_characters"]

PRE_TOKENIZERS = {
    "smollm": ("digits", "gpt-2"),
    "gpt-2": ("gpt-2",),
    "llama-bpe": ("llama-3", "bytes"),
    "llama3": ("llama-3", "bytes"),
    "llama-v3": ("llama-3", "bytes"),
    "qwen2": ("qwen-2", "bytes"),
    "deepseek-r1-qwen": ("qwen-2", "bytes"),
}
"""Steps by which text is split into words, by the name in the file.

digits
    Every numeric character (Unicode N) is a word of its own.
gpt-2
    Contractions, letters, numbers, other signs, each with one space before it; runs of white space.
llama-3, qwen-2
    The same with contractions in any case, any sign before letters, signs with the ends of lines after them,
    and numbers in threes, or one by one.
"""

_SPLITS = {
    name: r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|"
    + numbers
    + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    for name, numbers in (("llama-3", r"\p{N}{1,3}"), ("qwen-2", r"\p{N}"))
}
"""llama.cpp, src/llama-vocab.cpp, `LLAMA_VOCAB_PRE_TYPE_LLAMA3` and `LLAMA_VOCAB_PRE_TYPE_QWEN2`."""

_WHOLE_WORDS = ("llama-bpe", "llama3", "llama-v3")
"""Where a word that is a token is one, whatever its merges would make of it (`ignore_merges`)."""

# ggml's llama_token_type.
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _BYTE = 1, 2, 3, 4, 6

_PHI_3 = ("phi-3", "phi3")
"""In the name of a model whose control tokens swallow the white space that follows them, but for `_KEEPING`.

GGUF has no key for it; llama.cpp goes by the name as well (`llama_vocab::impl::load`).
"""

CONTROL_NAMES = frozenset(
    (
        *("<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "</s>"),
        *("<end_of_turn>", "<|endoftext|>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<eos>"),
        *("<|end_of_text|>", "<end_of_utterance>", "<turn|>", "<|tool_response>"),
        *("<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<PRE>", "<|code_prefix|>", "<|prefix|>"),
        *("<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<SUF>", "<|code_suffix|>", "<|suffix|>"),
        *("<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<MID>", "<|code_middle|>", "<|middle|>"),
        *("<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]", "<|fim_repo|>", "<|repo_name|>"),
        *("<fim-repo>", "<REPO>", "<reponame>", "<|file_sep|>"),
    )
)
"""Tokens that are control tokens whatever a file calls them: llama.cpp, src/llama-vocab.cpp, `load`."""

_KEEPING = ("<unk>", "<s>", "<|endoftext|>")


class Tokenizer:
    """A model's tokenizer.

    Parameters
    ----------
    metadata
        A file's metadata, values by key: `tokenizer.ggml.model`, `pre`, `tokens`, `token_type`, `merges`,
        `scores`.

    Attributes
    ----------
    bos, eos
        The tokens that begin and end a text, or None.
    add_bos
        Whether every text of the model begins with `bos`; the caller adds it.

    Raises
    ------
    ModelError
        for another kind of tokenizer than gpt2 and llama, another split than `PRE_TOKENIZERS`, or a key that
        is missing or wrong.
    MissingPackageError
        without the package `tokenizers`.
    """

    def __init__(self, metadata: Mapping[str, object]) -> None:
        kind = metadata.get("tokenizer.ggml.model")
        if not isinstance(kind, str) or kind not in {"gpt2", "llama"}:
            raise ModelError(
                "tokenizer.ggml.model: expected gpt2 (byte-level BPE) or llama (SentencePiece), "
                f"got {'none' if kind is None else shortened(kind)}"
            )
        self._pieces = kind == "llama"
        self._texts = _strings(metadata, "tokenizer.ggml.tokens")
        types = _types(metadata, len(self._texts))
        self._types = [
            _CONTROL if text in CONTROL_NAMES else kind for text, kind in zip(self._texts, types, strict=True)
        ]
        # llama.cpp: SentencePiece's vocabularies begin with unknown, beginning and end.
        self.bos = self._token(metadata, "tokenizer.ggml.bos_token_id", 1)
        self.eos = self._token(metadata, "tokenizer.ggml.eos_token_id", 2)
        pre = metadata.get("tokenizer.ggml.pre")
        default = self._pieces or (isinstance(pre, str) and pre in _WHOLE_WORDS)
        self.add_bos = _flag(metadata, "tokenizer.ggml.add_bos_token", default=default)
        self._specials = {
            kind: {self._texts[i]: i for i, of in enumerate(self._types) if of == kind}
            for kind in (_UNKNOWN, _CONTROL, _USER_DEFINED)
        }
        self._literal = frozenset(chain.from_iterable(each.values() for each in self._specials.values()))
        self._swallowing = self._find_swallowing(metadata)
        if self._pieces:
            self._space_first = _flag(metadata, "tokenizer.ggml.add_space_prefix", default=True)
            self._merger = self._piece_merger(metadata)
        else:
            self._bpe = self._byte_level(metadata)

    def _byte_level(self, metadata: Mapping[str, object]) -> _Encoder:
        """Build the package's tokenizer."""
        pre = metadata.get("tokenizer.ggml.pre")
        if not isinstance(pre, str) or pre not in PRE_TOKENIZERS:
            known = ", ".join(PRE_TOKENIZERS)
            raise ModelError(f"tokenizer.ggml.pre: expected one of {known}, got {shortened(pre)}")
        merges = [_pair(merge) for merge in _strings(metadata, "tokenizer.ggml.merges")]
        vocabulary = {text: i for i, text in enumerate(self._texts)}
        missing = [character for character in _BYTES if character not in vocabulary]
        # A byte that the vocabulary lacks must still keep its neighbours from being merged, as in llama.cpp;
        # the package would drop it first. Its stand-in is dropped from the result.
        stand_ins = {character: len(self._texts) + i for i, character in enumerate(missing)}
        return _byte_level_bpe(vocabulary | stand_ins, merges, pre)

    def _piece_merger(self, metadata: Mapping[str, object]) -> Merger:
        """Build what merges by scores."""
        scores = np.asarray(metadata.get("tokenizer.ggml.scores", [0.0] * len(self._texts)))
        if scores.shape != (len(self._texts),) or not np.issubdtype(scores.dtype, np.floating):
            raise ModelError(
                f"tokenizer.ggml.scores: expected {len(self._texts)} numbers, one a token, "
                f"got {scores.dtype} of shape {scores.shape}"
            )
        if np.isnan(scores).any():
            raise ModelError(
                f"tokenizer.ggml.scores: that of token {int(np.argmax(np.isnan(scores)))} is NaN"
            )
        tokens = {text: i for i, text in enumerate(self._texts)}
        # llama.cpp, `byte_to_token`: <0x0A>, or the character itself.
        byte_tokens = [
            tokens.get(f"<0x{byte:02X}>", tokens.get(chr(byte)) if byte < 128 else None)
            for byte in range(256)
        ]
        return Merger(tokens, scores.tolist(), byte_tokens)

    def _find_swallowing(self, metadata: Mapping[str, object]) -> frozenset[int]:
        """Return the tokens that swallow the white space after them."""
        name = str(metadata.get("general.name", "")).lower()
        if not any(part in name for part in _PHI_3):
            return frozenset()
        found = chain.from_iterable(each.values() for each in self._specials.values())
        ends = [i for i, text in enumerate(self._texts) if text == "</s>"]
        return frozenset(token for token in (*found, *ends) if self._texts[token] not in _KEEPING)

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
        pieces: list[str | int] = [text] if text else []
        # The longest first, each cut out of the pieces that are left.
        for name in sorted(names, key=lambda name: -len(name.encode())):
            if name in text:
                swallows = names[name] in self._swallowing
                pieces = [part for piece in pieces for part in _cut(piece, name, names[name], swallows)]
        ids = [] if not bos or self.bos is None else [self.bos]
        if self._pieces:
            return ids + self._merge(pieces)
        for piece in pieces:
            ids += [piece] if isinstance(piece, int) else self._bpe.encode(piece).ids
        return [token for token in ids if token < len(self._texts)]

    def _merge(self, pieces: Iterable[str | int]) -> list[int]:
        """Turn pieces of text between tokens into tokens, a space before each if the file asks so."""
        ids: list[int] = []
        for piece in pieces:
            if isinstance(piece, int):
                ids.append(piece)
                continue
            # A beginning and other tokens count as what a new text follows: so does every piece.
            try:
                ids += self._merger.encode((" " * self._space_first + piece).replace(" ", SPACE))
            except KeyError as error:
                raise ModelError(f"tokenizer.ggml.tokens: there is no token of the byte {error}") from None
        return ids

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
        if self._pieces:
            return self._piece_bytes(token)
        try:
            return bytes(_BYTES[character] for character in text)
        except KeyError as error:
            raise ModelError(
                f"tokenizer.ggml.tokens: {token} is {text!r}, where {error} is not a byte"
            ) from None

    def _piece_bytes(self, token: int) -> bytes:
        """Return the bytes of a token of SentencePiece's type."""
        text = self._texts[token]
        if self._types[token] == _BYTE:
            try:
                return bytes((int(text.removeprefix("<0x").removesuffix(">"), 16),))
            except ValueError:
                raise ModelError(f"tokenizer.ggml.tokens: {token} is {text!r}, which is no byte") from None
        return text.replace(SPACE, " ").encode() if self._types[token] == _NORMAL else b""

    def _token(self, metadata: Mapping[str, object], key: str, default: int) -> int | None:
        token = metadata.get(key, default if self._pieces else None)
        if token is None:
            return None
        if not isinstance(token, int) or isinstance(token, bool) or not 0 <= token < len(self._texts):
            raise ModelError(f"{key}: expected 0 to {len(self._texts) - 1}, got {shortened(token)}")
        return token


def _flag(metadata: Mapping[str, object], key: str, *, default: bool) -> bool:
    flag = metadata.get(key, default)
    if not isinstance(flag, bool):
        raise ModelError(f"{key}: expected true or false, got {shortened(flag)}")
    return flag


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
        raise ModelError(f"tokenizer.ggml.merges: {shortened(merge)} is not a pair of tokens")
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

    def split(regex: str) -> object:
        return package.pre_tokenizers.Split(package.Regex(regex), "isolated")

    steps: dict[str, Callable[[], object]] = {
        "digits": lambda: package.pre_tokenizers.Digits(individual_digits=True),
        "gpt-2": lambda: package.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        "bytes": lambda: package.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        **{name: partial(split, regex) for name, regex in _SPLITS.items()},
    }
    tokenizer = package.Tokenizer(package.models.BPE(vocabulary, merges, ignore_merges=pre in _WHOLE_WORDS))
    tokenizer.pre_tokenizer = package.pre_tokenizers.Sequence([steps[step]() for step in PRE_TOKENIZERS[pre]])
    built: _Encoder = tokenizer
    return built


def _cut(piece: str | int, name: str, token: int, swallows: bool) -> Iterator[str | int]:
    """Put a token where its name is in a piece of text; it may swallow the white space after it."""
    if isinstance(piece, int):
        yield piece
        return
    before, found, rest = piece.partition(name)
    while found:
        if before:
            yield before
        yield token
        before, found, rest = (rest.lstrip(" \t\n\v\f\r") if swallows else rest).partition(name)
    if before:
        yield before


def byte_characters() -> dict[int, str]:
    """Return the character of each byte (gpt-2, src/encoder.py, `bytes_to_unicode`).

    The printable characters of Latin-1 are their own bytes'; the other bytes, in order, are U+0100 and up.
    """
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


_BYTES = {character: byte for byte, character in byte_characters().items()}
