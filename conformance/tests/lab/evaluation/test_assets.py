"""The fetched model and texts are the files that the documentation speaks of."""

from __future__ import annotations

import bz2
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def test_the_model_is_a_gguf_file(real_model: Path) -> None:
    """The model starts with GGUF's magic and has the known size."""
    with real_model.open("rb") as stream:
        assert stream.read(4) == b"GGUF"
    assert real_model.stat().st_size == 98_362_432


def test_the_dump_is_wikipedia(wikipedia: Path) -> None:
    """The dump decompresses to MediaWiki's XML."""
    with bz2.open(wikipedia) as stream:
        assert b"<mediawiki" in stream.read(100)


def test_the_news_are_one_article_a_line(news: Path) -> None:
    """The corpus has its 300 articles."""
    assert len(news.read_text(encoding="utf-8").splitlines()) == 300


def test_the_korean_text_is_a_constitution(korean: Path) -> None:
    """Hangul, with the articles of one."""
    text = korean.read_text(encoding="utf-8")
    assert text.startswith("대한민국헌법")
    assert "제130조" in text
