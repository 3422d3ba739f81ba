"""Tokens of SentencePiece's type: neighbours are merged by the score of what they make.

Kudo and Richardson, "SentencePiece" (2018), section 3.2, in its BPE mode; Sennrich et al., "Neural Machine
Translation of Rare Words with Subword Units" (2016). As llama.cpp computes it (src/llama-vocab.cpp,
`llm_tokenizer_spm_session`)::

    symbols = the characters of the text
    repeat: of all neighbours whose concatenation is a token, merge those of the largest score,
            of equal ones the leftmost
    a symbol that is no token becomes a token a byte of UTF-8

A space is written as U+2581.

The package `tokenizers` has no such model: its merges are pairs in one order, so that two ways to make a
token, which have one score, are never equal, and both parts must be tokens themselves. Long runs of one
character show the difference.

Where no token has two characters beside each other, nothing is ever merged across them: text is cut there,
and what each piece becomes is remembered.
"""

from __future__ import annotations

from functools import lru_cache
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["SPACE", "Merger"]

SPACE = "\u2581"
"""A space in the vocabulary."""

_REMEMBERED = 1 << 16
"""Pieces that are remembered."""


class Merger:
    """What merges the characters of a text.

    Parameters
    ----------
    tokens
        Token by text; spaces are `SPACE`.
    scores
        Of each token.
    byte_tokens
        The token of each byte, or None.
    """

    def __init__(
        self, tokens: Mapping[str, int], scores: Sequence[float], byte_tokens: Sequence[int | None]
    ) -> None:
        self._tokens, self._scores, self._bytes = tokens, scores, byte_tokens
        self._neighbours = {text[i : i + 2] for text in tokens for i in range(len(text) - 1)}
        self._piece = lru_cache(_REMEMBERED)(self._merged)

    def encode(self, text: str) -> list[int]:
        """Turn text, its spaces written as `SPACE`, into tokens.

        Raises
        ------
        KeyError
            for a byte that has no token.
        """
        return [token for piece in self._pieces(text) for token in self._piece(piece)]

    def _pieces(self, text: str) -> Iterator[str]:
        """Cut a text wherever no token has both neighbours."""
        start = 0
        for i in range(1, len(text)):
            if text[i - 1 : i + 1] not in self._neighbours:
                yield text[start:i]
                start = i
        yield text[start:]

    def _merged(self, piece: str) -> tuple[int, ...]:
        """Merge the characters of a piece."""
        # symbols[i] begins at character i; what was merged into another one is empty.
        symbols = list(piece)
        following = [*range(1, len(piece)), -1]
        previous = list(range(-1, len(piece) - 1))
        queue: list[tuple[float, int, int, int]] = []

        def candidate(left: int, right: int) -> tuple[float, int, int, int] | None:
            """Describe a merge, the best first; its length tells later whether it is still the same two."""
            text = symbols[left] + symbols[right]
            token = self._tokens.get(text)
            return None if token is None else (-self._scores[token], left, right, len(text))

        queue = [found for i in range(len(piece) - 1) if (found := candidate(i, i + 1)) is not None]
        heapify(queue)
        while queue:
            _, left, right, length = heappop(queue)
            both = symbols[left] and symbols[right]
            if not both or len(symbols[left]) + len(symbols[right]) != length:
                continue
            symbols[left] += symbols[right]
            symbols[right] = ""
            after = following[left] = following[right]
            if after >= 0:
                previous[after] = left
            for pair in ((previous[left], left), (left, after)):
                if min(pair) >= 0 and (found := candidate(*pair)) is not None:
                    heappush(queue, found)
        return tuple(token for symbol in symbols if symbol for token in self._fallback(symbol))

    def _fallback(self, symbol: str) -> Iterator[int]:
        """Return a symbol's token, or those of its bytes."""
        if symbol in self._tokens:
            yield self._tokens[symbol]
            return
        for byte in symbol.encode():
            token = self._bytes[byte]
            if token is None:
                raise KeyError(f"<0x{byte:02X}>")
            yield token
