"""Texts to calibrate and to measure on: read from a file, and cut into windows of tokens.

==========  ===============================================  ==========================================
file        what it is                                       becomes
==========  ===============================================  ==========================================
``.cor``    gensim's news corpus: UTF-8, one article a line  articles, a blank line between them
``.bz2``    a MediaWiki dump (XML), bzip2-compressed         its articles without markup, in its order
any other   plain UTF-8 text, a byte order mark allowed      itself, with Unix line ends
==========  ===============================================  ==========================================

Of a dump only pages of namespace 0 (articles) count, no redirects, and none of fewer than 50 words: these are
the rules of gensim's own `WikiCorpus`, whose `extract_pages` and `filter_wiki` do the reading. What
`filter_wiki` leaves of the markup goes too: quotes for bold and italic, the signs around headings, empty list
items, runs of blank lines. Any change here changes every measured perplexity.

A dump is read as a stream, article by article, and no further than it is needed.
"""

from __future__ import annotations

import bz2
import hashlib
import itertools
import re
from typing import TYPE_CHECKING
from xml.etree.ElementTree import ParseError

import numpy as np

from q8a8.errors import ArgumentError
from q8a8.install import how_to_install
from q8a8_conformance.files.arrays import FileError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["articles", "read_text", "sha256", "windows"]

SEPARATOR = "\n\n"
"""Between two articles."""

_BOLD_OR_ITALIC = re.compile(r"'{2,}")
_HEADING = re.compile(r"^=+[ \t]*(.*?)[ \t]*=+[ \t]*$", re.MULTILINE)
_EMPTY_ITEM = re.compile(r"^[*#:; \t]+$", re.MULTILINE)
_BLANK_LINES = re.compile(r"[ \t]*\n\s*\n")
_HASHED_AT_A_TIME = 1 << 20


def read_text(path: Path, *, at_least: int | None = None) -> str:
    """Read a text.

    Parameters
    ----------
    path
        A file of one of the kinds above.
    at_least
        Stop after the article with which the text has this many characters; by default all is read. A plain
        text is one article.

    Raises
    ------
    FileError
        naming the file: it cannot be read, is not UTF-8 (with the byte), not such a dump, or has no text.
    """
    parts, length = [], 0
    for article in articles(path):
        parts.append(article)
        length += len(article) + len(SEPARATOR)
        if at_least is not None and length >= at_least:
            break
    if not parts:
        raise FileError(path, "there is no text in it")
    return SEPARATOR.join(parts)


def articles(path: Path) -> Iterator[str]:
    """Read a file's articles, one after the other; errors as `read_text`, but no text is no error."""
    try:
        if path.suffix == ".bz2":
            yield from _wikipedia(path)
        else:
            text = path.read_bytes().decode("utf-8").removeprefix("\ufeff")
            text = text.replace("\r\n", "\n")
            parts = text.split("\n") if path.suffix == ".cor" else [text]
            yield from (part for part in parts if part.strip())
    except UnicodeDecodeError as error:
        raise FileError(path, f"byte {error.start}: not UTF-8: {error.reason}") from error
    except OSError as error:
        raise FileError(path, error.strerror or error) from error


def sha256(path: Path) -> str:
    """Return the hash of a file's bytes, in hexadecimal, which identifies the text or model of a result.

    Raises
    ------
    FileError
        The file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while part := file.read(_HASHED_AT_A_TIME):
                digest.update(part)
    except OSError as error:
        raise FileError(path, error.strerror or error) from error
    return digest.hexdigest()


def windows(
    tokens: Sequence[int] | NDArray[np.integer],
    size: int,
    count: int | None = None,
    bos: int | None = None,
) -> list[NDArray[np.int64]]:
    """Cut tokens into windows that do not overlap, from the first token on.

    ::

        bos=None   | t0 ... t(size-1)      | t(size) ...          |      size tokens of the text each
        bos=B      | B t0 ... t(size-2)    | B t(size-1) ...      |      size-1 tokens of the text each

    No token of the text is in two windows, and none is skipped; those after the last whole window are left
    out.

    Parameters
    ----------
    tokens
        Token ids of the text, without one for its beginning.
    size
        Tokens of a window, `bos` included.
    count
        How many windows; by default all that there are.
    bos
        A token to begin every window with.

    Returns
    -------
    list of int64 `[size]`.

    Raises
    ------
    ArgumentError
        A window without a token of the text, fewer than one window asked for, or more than there are.
    """
    step = size - (bos is not None)
    if step < 1:
        raise ArgumentError(f"size: a window of {size} tokens has none of the text")
    text = np.asarray(tokens, dtype=np.int64)
    there = len(text) // step
    if count is None:
        count = there
    elif not 1 <= count <= there:
        raise ArgumentError(
            f"count: expected {count} windows of {step} tokens, the text's {len(text)} tokens have {there}"
        )
    begin = [] if bos is None else [bos]
    return [np.array([*begin, *text[i * step : (i + 1) * step]], np.int64) for i in range(count)]


def _wikipedia(path: Path) -> Iterator[str]:
    """Read the articles of a compressed dump."""
    try:
        # Heavy (SciPy comes with it), and of no use to the other kinds of file.
        from gensim.corpora import wikicorpus  # noqa: PLC0415 (as above)
    except ImportError as error:
        raise FileError(
            path, f"reading a MediaWiki dump needs gensim: {how_to_install('evaluate')}"
        ) from error
    with bz2.open(path) as file:
        try:
            if b"<mediawiki" not in file.peek(64)[:1024]:
                raise FileError(path, "not a MediaWiki dump: no <mediawiki> at its beginning")
            for _title, markup, _page in wikicorpus.extract_pages(file, ("0",)):
                if markup.lstrip()[:9].upper() == "#REDIRECT":
                    continue
                text = _without_markup(wikicorpus.filter_wiki(markup))
                if _has_words(text, wikicorpus.ARTICLE_MIN_WORDS):
                    yield text
        except (EOFError, ParseError) as error:
            raise FileError(path, f"the dump breaks off or is broken: {error}") from error


def _without_markup(text: str) -> str:
    """Remove what gensim's `filter_wiki` leaves."""
    text = _BOLD_OR_ITALIC.sub("", text)
    text = _HEADING.sub(r"\1", text)
    text = _EMPTY_ITEM.sub("", text)
    return _BLANK_LINES.sub("\n\n", text).strip()


def _has_words(text: str, count: int) -> bool:
    """Return whether a text has so many words, without counting all."""
    return next(itertools.islice(re.finditer(r"\S+", text), count - 1, None), None) is not None
