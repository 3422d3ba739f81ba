"""Texts: what each kind of file becomes, what is refused, and how tokens are cut into windows."""

from __future__ import annotations

import bz2
import hashlib
from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8.errors import ArgumentError
from q8a8_conformance.files.arrays import FileError
from q8a8_evaluation.text import articles, read_text, sha256, windows

if TYPE_CHECKING:
    from pathlib import Path

LONG = "word " * 50

PAGE = """<page><title>{title}</title><ns>{ns}</ns><id>{id}</id>
<revision><text>{text}</text></revision></page>"""


def _dump(path: Path, *pages: tuple[str, int, str]) -> Path:
    body = "".join(
        PAGE.format(title=title, ns=ns, id=i, text=text) for i, (title, ns, text) in enumerate(pages)
    )
    xml = f'<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.8/"><siteinfo/>{body}</mediawiki>'
    path.write_bytes(bz2.compress(xml.encode()))
    return path


def test_plain(tmp_path: Path) -> None:
    """A plain text is itself: byte order mark and carriage returns go, nothing else."""
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbf a\r\n\r\n\r\nb \xc3\xa9\n")
    assert read_text(path) == " a\n\n\nb é\n"


def test_news_articles(tmp_path: Path) -> None:
    """A line of a .cor file is an article; empty lines are none; a blank line goes between two."""
    path = tmp_path / "a.cor"
    path.write_bytes(b"one\n\ntwo\r\nthree")
    assert read_text(path) == "one\n\ntwo\n\nthree"


def test_at_least(tmp_path: Path) -> None:
    """Reading stops after the article that makes the text long enough: its separator counts."""
    path = tmp_path / "a.cor"
    path.write_bytes(b"one\ntwo\nthree\n")
    assert read_text(path, at_least=1) == "one"
    assert read_text(path, at_least=5) == "one"
    assert read_text(path, at_least=6) == "one\n\ntwo"
    assert read_text(path, at_least=1000) == "one\n\ntwo\n\nthree"


def test_dump(tmp_path: Path) -> None:
    """Of a dump the articles of 50 words and more remain, without redirects, talk and markup."""
    pytest.importorskip("gensim")
    path = _dump(
        tmp_path / "wiki.bz2",
        ("Short", 0, "word " * 49),
        ("Redirect", 0, "#REDIRECT [[Anarchism]] " + LONG),
        ("Talk", 1, LONG),
        ("Empty", 0, ""),
        ("Article", 0, f"'''Bold''' and ''it'' {{{{box}}}} {LONG}\n\n\n\n== Head ==\n* \n\nlast [[a|b]]"),
    )
    assert list(articles(path)) == [f"Bold and it  {LONG.rstrip()}\n\nHead\n\nlast b"]


def test_dump_that_breaks_off(tmp_path: Path) -> None:
    """A dump that ends too early, in its compression or its XML, is refused by name."""
    pytest.importorskip("gensim")
    path = _dump(tmp_path / "wiki.bz2", ("Article", 0, LONG))
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with pytest.raises(FileError, match=r"wiki\.bz2: the dump breaks off"):
        read_text(path)
    path.write_bytes(bz2.compress(bz2.decompress(whole)[: -len("</page></mediawiki>")]))
    with pytest.raises(FileError, match=r"wiki\.bz2: the dump breaks off or is broken: no element found"):
        read_text(path)


@pytest.mark.parametrize("content", [bz2.compress(b"words, words"), b"no bzip2 at all", b""])
def test_no_dump(tmp_path: Path, content: bytes) -> None:
    """A .bz2 file that is no dump is refused by name."""
    pytest.importorskip("gensim")
    path = tmp_path / "a.bz2"
    path.write_bytes(content)
    with pytest.raises(FileError, match=r"a\.bz2: "):
        read_text(path)


@pytest.mark.parametrize("suffix", [".txt", ".cor"])
def test_not_utf_8(tmp_path: Path, suffix: str) -> None:
    """Bytes that are no UTF-8 are refused, naming the first."""
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"ab\xffcd")
    with pytest.raises(FileError, match=rf"a\{suffix}: byte 2: not UTF-8"):
        read_text(path)


@pytest.mark.parametrize(("name", "content"), [("a.txt", b" \n\n"), ("a.cor", b"\n\n"), ("a.txt", b"")])
def test_nothing_to_read(tmp_path: Path, name: str, content: bytes) -> None:
    """A file without text is refused."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(FileError, match="no text"):
        read_text(path)


def test_missing(tmp_path: Path) -> None:
    """A file that is not there is named, by reading and by hashing."""
    for function in (read_text, sha256):
        with pytest.raises(FileError, match=r"nowhere\.txt: No such file"):
            function(tmp_path / "nowhere.txt")


def test_real_texts(wikipedia: Path, news: Path) -> None:
    """The two real texts begin as they do, and hold what they hold."""
    assert read_text(wikipedia, at_least=1).startswith("Anarchism is a political philosophy that advocates")
    text = read_text(news)
    assert text.startswith("Hundreds of people have been forced to vacate their homes")
    assert text.count("\n\n") == 299


def test_hash(tmp_path: Path) -> None:
    """The hash is that of all bytes, over more than one read as well."""
    path = tmp_path / "a"
    path.write_bytes(bytes(range(256)) * 5000)
    assert sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_windows() -> None:
    """Windows follow each other; a beginning takes the place of a token; what fills no window is left out."""
    assert [w.tolist() for w in windows(range(8), 3)] == [[0, 1, 2], [3, 4, 5]]
    assert [w.tolist() for w in windows(range(8), 3, bos=99)] == [
        [99, 0, 1],
        [99, 2, 3],
        [99, 4, 5],
        [99, 6, 7],
    ]
    assert [w.tolist() for w in windows(np.arange(8, dtype=np.int32), 3, 1, 7)] == [[7, 0, 1]]
    assert windows(range(2), 3) == []
    assert windows(range(8), 3)[0].dtype == np.int64


@pytest.mark.parametrize(
    ("size", "count", "bos", "message"),
    [
        (0, None, None, "size: a window of 0 tokens"),
        (1, None, 5, "size: a window of 1 tokens"),
        (3, 0, None, "count: 0 windows"),
        (3, 3, None, "count: 3 windows of 3 tokens of the text wanted; its 8 tokens give 2"),
    ],
)
def test_windows_refused(size: int, count: int | None, bos: int | None, message: str) -> None:
    """Windows without text, no windows, and more windows than there are: refused."""
    with pytest.raises(ArgumentError, match=message):
        windows(range(8), size, count, bos)
